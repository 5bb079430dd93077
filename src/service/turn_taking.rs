//! How writers take turns, as the service sees it: the trait that each way implements.

use std::time::Duration;

use prometheus::core::Collector;

use super::decisions::{Held, Served};
use super::refusal::Refusal;
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

    /// What only this way of taking turns measures.
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        Vec::new()
    }
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
