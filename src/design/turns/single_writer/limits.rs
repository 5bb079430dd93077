//! Limits of turns by leadership.

use std::time::Duration;

use crate::lock::LEASE;

/// Limits of turns by leadership.
#[derive(Debug, Clone, Copy)]
pub struct SingleWriterLimits {
    /// How many graphs this process leads at most.
    pub graphs: usize,
    /// After how long without a write a graph is given up.
    pub idle: Duration,
    /// How long a write waits for a leader that is about to give the graph up.
    pub wait: Duration,
    /// Lock lease. A process that the database has not answered for so long, and for no less than a
    /// few looks, leads nothing any more: it can write nothing, and another may.
    pub lease: Duration,
    /// For how long a graph is to be handed over to a node that does not come for it.
    pub promised_for: Duration,
    /// How often this process looks who leads what, and whether it is to lead or to give up.
    pub look_every: Duration,
    /// For how long the writes of a graph are counted, by the nodes through which they come.
    pub counted_for: Duration,
    /// A node through which so many come each time, and two thirds of all, is to lead the graph
    /// after so many times in a row.
    pub most_writes: u64,
    /// How many times that is.
    pub most_times: u32,
    /// For how long a node leads before it hands a graph over for that.
    pub led_for: Duration,
    /// How often a turn is taken again after another write came first.
    pub retries: usize,
}

/// In so many looks a database that answers is heard of, however short the lease is.
const LOOKS: u32 = 4;

impl SingleWriterLimits {
    /// How long the database may be silent.
    pub(super) fn silence(&self) -> Duration {
        self.lease.max(self.look_every * LOOKS)
    }
}

impl Default for SingleWriterLimits {
    fn default() -> Self {
        Self {
            graphs: 1_024,
            idle: Duration::from_secs(30),
            wait: Duration::from_secs(4),
            lease: LEASE,
            promised_for: Duration::from_secs(60),
            look_every: Duration::from_millis(500),
            counted_for: Duration::from_secs(5),
            most_writes: 50,
            most_times: 3,
            led_for: Duration::from_secs(60),
            retries: 64,
        }
    }
}
