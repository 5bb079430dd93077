//! How writers take turns, as the service sees it: the trait that each way implements.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;

use super::decisions::{Held, Served};
use super::refusal::{LeaderAt, Refusal};
use super::turn::Turn;
use super::turn_error::TurnError;
use crate::graph::Name;

/// A way for writers to take turns on a graph. The service batches requests, keeps images and
/// answers; the order of the steps in between belongs to the implementation.
pub trait Turns: Send + Sync {
    /// Serves a batch of writes, by the steps that `turn` offers.
    ///
    /// # Errors
    /// [`TurnError`] if the batch was not served as a whole. Nothing of it may have been answered.
    fn serve(&self, turn: &Turn<'_>) -> Result<Served, TurnError>;

    /// What to do after `error`, which ended attempt number `attempt` (from 0) at a batch, and
    /// after which another attempt may succeed.
    fn retry(&self, graph: &Name, error: &TurnError, attempt: usize) -> Retry;

    /// How many turns of writes a graph has at once in this process.
    fn at_once(&self) -> usize {
        1
    }

    /// What reads hold while they read the version of the graph with this row id, such as a shared
    /// lock. `None`: nothing; then they read one snapshot of the database while others write.
    ///
    /// # Errors
    /// [`Refusal`] if it cannot be acquired.
    fn read_guard(&self, graph_id: i64) -> Result<Option<Held>, Refusal>;

    /// Whether a turn could be taken now, as far as can be told cheaply.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    fn ready(&self) -> Result<(), Refusal>;

    /// How often what turns rest on is [tended](Self::tend), [looked at](Self::look) and
    /// [prepared](Self::prepare) for, each beside the others; `None`: never.
    fn tended_every(&self) -> Option<Duration> {
        None
    }

    /// Looks after what turns rest on. It is to wait for neither store nor lock.
    fn tend(&self) {}

    /// Looks how it stands with other processes. It may wait for store and lock, and is
    /// [given up](crate::db::watch) if the store does not answer.
    fn look(&self) {}

    /// Makes ready for turns of graphs that others write. It may load graphs; as
    /// [`look`](Self::look).
    fn prepare(&self, _images: &dyn Images) {}

    /// Clients reach this process from now on, at `address` if they can be told.
    fn serves_at(&self, _address: Option<&str>) {}

    /// The process is about to end: it goes on to serve what it has accepted. Whether others are
    /// waiting for it to [end](Self::end).
    fn announce_end(&self) -> bool {
        false
    }

    /// No request is served any more: gives up what turns rest on, for good.
    fn end(&self) {}

    /// The name of this process, if writes may be passed on to it.
    fn node(&self) -> Option<&str> {
        None
    }

    /// The token under which this process leads the graph, if it does.
    fn led_under(&self, _graph: &Name) -> Option<i64> {
        None
    }

    /// Who else leads the graph, as far as that is known without asking.
    fn leader(&self, _graph: &Name) -> Option<Arc<LeaderAt>> {
        None
    }

    /// The process that was told as the [leader](Self::leader) by that token cannot be asked.
    fn forget_leader(&self, _graph: &Name, _token: i64) {}

    /// What only this way of taking turns measures.
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        Vec::new()
    }
}

/// The images of a service, for who works beside its turns.
pub trait Images {
    /// The version of the graph's image; `None` if it is not in memory.
    fn version(&self, graph: &Name) -> Option<u64>;

    /// Whether the images take less than half of what they may.
    fn have_room(&self) -> bool;

    /// Brings the graph's image to the store's version, and loads it if it is not in memory.
    ///
    /// # Errors
    /// [`Refusal`] says why that cannot be done.
    fn bring_up(&self, graph: &Name) -> Result<(), Refusal>;

    /// The same, and no use of the graph: those that are used stay in memory rather than it.
    /// Whether there is room for it.
    ///
    /// # Errors
    /// As [`bring_up`](Self::bring_up).
    fn warm(&self, graph: &Name) -> Result<bool, Refusal>;
}

/// Whether a batch is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// No: its requests are refused.
    GiveUp,
    /// At once.
    Now,
    /// After so long.
    After(Duration),
}
