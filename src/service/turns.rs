//! How writers take turns, as the service sees it: the trait that each way implements, and what can
//! come of a turn.

use std::time::Duration;

use prometheus::core::Collector;

use super::decisions::Served;
use super::metrics::Metrics;
use super::refusal::Refusal;
use super::turn::Turn;
use crate::graph::Name;
use crate::store::{CommitError, StoreError};

/// A way for writers to take turns on a graph. The service batches requests, keeps images and
/// answers; the order of the steps in between belongs to the implementation.
pub trait Turns: Send + Sync {
    /// Serves a batch of writes, by the steps that `turn` offers.
    ///
    /// # Errors
    /// [`TurnError`] if the batch was not served as a whole. Nothing of it may have been answered.
    fn serve(&self, turn: &Turn<'_>) -> Result<Served, TurnError>;

    /// What to do after `error`, which ended attempt number `attempt` (from 0) at a batch, and after
    /// which another attempt may succeed.
    fn retry(&self, graph: &Name, error: &TurnError, attempt: usize) -> Retry;

    /// What is held while reads learn the version of the graph with this row id. `None`: nothing;
    /// then they read one snapshot of the database beside the writers.
    ///
    /// # Errors
    /// [`Refusal`] if it cannot be had.
    fn read_guard(&self, graph_id: i64, metrics: &Metrics) -> Result<Option<Held>, Refusal>;

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

/// Something that is given back when it is dropped, such as a lock.
pub type Held = Box<dyn Send>;

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

/// How a turn can fail as a whole.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// There is no use in another attempt.
    #[error("{0}")]
    Refused(Refusal),
    /// The write did not hold.
    #[error("{0}")]
    Commit(CommitError),
    /// The lock was lost, and nothing was written.
    #[error("{0}")]
    LockLost(&'static str),
    /// The name is another graph's now: a database was put in the place of the one whose graph was
    /// to be written. Nothing was written.
    #[error("graph {expected} of the database is graph {actual} now")]
    GraphReplaced {
        /// The row id that was known.
        expected: i64,
        /// The row id that the name has now.
        actual: i64,
    },
}

impl TurnError {
    /// Why the attempt was in vain, as a label of metrics; `None` if another would be too.
    pub(super) fn lost_because(&self) -> Option<&'static str> {
        match self {
            Self::LockLost(_) => Some("lease"),
            Self::GraphReplaced { .. } => Some("replaced"),
            Self::Commit(CommitError::Fenced { .. }) => Some("fenced"),
            Self::Commit(CommitError::EpochMoved { .. }) => Some("epoch"),
            Self::Commit(CommitError::Conflict { .. }) => Some("conflict"),
            Self::Commit(CommitError::Deleted) => Some("deleted"),
            // What was accepted before is answered again all the same.
            Self::Commit(CommitError::Frozen { .. }) => Some("frozen"),
            Self::Commit(CommitError::Yielded(_)) => Some("yielded"),
            Self::Commit(CommitError::KeyTaken) => Some("key"),
            Self::Commit(
                CommitError::Refused(_) | CommitError::Unavailable(_) | CommitError::Unknown { .. },
            )
            | Self::Refused(_) => None,
        }
    }

    /// What it means to those who asked for writes to `graph`.
    pub(super) fn into_refusal(self, graph: &Name) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Commit(error) => Refusal::of_commit(graph, error),
            Self::LockLost(what) => {
                Refusal::Contended { what: format!("the turn was lost: {what}") }
            }
            Self::GraphReplaced { .. } => {
                Refusal::Contended { what: format!("the turn was lost: {self}") }
            }
        }
    }
}

impl From<Refusal> for TurnError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for TurnError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<CommitError> for TurnError {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}
