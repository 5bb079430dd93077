//! Limits of turns by leadership.

use std::time::Duration;

/// Limits of turns by leadership.
#[derive(Debug, Clone, Copy)]
pub struct SingleWriterLimits {
    /// How many graphs this process leads at most.
    pub graphs: usize,
    /// After how long without a write a graph is given up.
    pub idle: Duration,
    /// How long a write waits for a leader that is about to give the graph up.
    pub wait: Duration,
    /// How often this process looks who leads what, and whether it is to lead or to give up.
    pub look_every: Duration,
    /// How often a turn is taken again after another write came first.
    pub retries: usize,
}

impl Default for SingleWriterLimits {
    fn default() -> Self {
        Self {
            graphs: 1_024,
            idle: Duration::from_secs(30),
            wait: Duration::from_secs(4),
            look_every: Duration::from_millis(500),
            retries: 64,
        }
    }
}
