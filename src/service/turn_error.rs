//! How a turn of writes can fail as a whole, and what that means to its requests.

use super::refusal::Refusal;
use crate::graph::Name;
use crate::store::{CommitError, StorageKind, StoreError};

/// How a turn can fail as a whole.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// There is no use in another attempt.
    #[error("{0}")]
    Refused(Refusal),
    /// The write did not hold.
    #[error("{0}")]
    Commit(CommitError),
    /// The image that was decided on is not the store's state. Nothing was written.
    #[error("the graph was changed meanwhile")]
    Outdated,
    /// The graph was deleted, and created again in another storage. Nothing was written.
    #[error("the graph is kept as {actual}, no longer as {expected}")]
    StorageChanged {
        /// How it was kept when it was last seen.
        expected: StorageKind,
        /// How it is kept now.
        actual: StorageKind,
    },
    /// The lock was lost, and nothing was written.
    #[error("{0}")]
    LockLost(&'static str),
    /// The name is another graph's now: a database was put in the place of the one whose graph was
    /// to be written. Nothing was written.
    #[error("the row of the graph, with id {expected} before, has id {actual} now")]
    GraphReplaced {
        /// The row id that was known.
        expected: i64,
        /// The row id that the name has now.
        actual: i64,
    },
}

impl TurnError {
    /// Why the attempt failed, as a label of metrics; `None` if another attempt would fail too.
    pub(super) fn lost_because(&self) -> Option<&'static str> {
        match self {
            Self::LockLost(_) => Some("lease"),
            Self::Outdated => Some("outdated"),
            Self::GraphReplaced { .. } | Self::Commit(CommitError::Gone { .. }) => Some("replaced"),
            Self::StorageChanged { .. } | Self::Commit(CommitError::StorageChanged { .. }) => {
                Some("storage")
            }
            Self::Commit(CommitError::Fenced { .. }) => Some("fenced"),
            Self::Commit(CommitError::EpochMoved { .. }) => Some("epoch"),
            Self::Commit(CommitError::Conflict { .. }) => Some("conflict"),
            Self::Commit(CommitError::Deleted) => Some("deleted"),
            // Tried again: a kept answer may still be returned under an idempotency key.
            Self::Commit(CommitError::Frozen { .. } | CommitError::Thawed) => Some("frozen"),
            Self::Commit(CommitError::Yielded(_)) => Some("yielded"),
            Self::Commit(CommitError::KeyTaken { .. }) => Some("key"),
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
            Self::GraphReplaced { .. } | Self::Outdated | Self::StorageChanged { .. } => {
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
