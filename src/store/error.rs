//! What can go wrong between the service and the database.

use crate::db::{DbError, WriteError};
use crate::graph::{DamagedFact, DamagedRows, Name};

/// Why state could not be read or prepared.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Passed on unchanged.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The rows are no legal graph. Restore them from a backup.
    #[error("graph `{graph}` cannot be loaded: {reason}")]
    DamagedRows {
        /// The graph.
        graph: Name,
        /// What is wrong.
        reason: DamagedRows,
    },
    /// The change log cannot be read. Restore it from a backup.
    #[error(transparent)]
    DamagedLog(#[from] DamagedFact),
    /// A column holds what Fencepost never writes.
    #[error("the database holds a damaged value: {0}")]
    DamagedValue(String),
    /// The row of a graph that was just made, or found to be there, could not be read in the same
    /// transaction. Something else changes the rows: look for triggers and rules on `graphs`.
    #[error(
        "the row of graph `{0}` disappeared while it was being created: look for triggers or rules \
         on the table graphs"
    )]
    RowDisappeared(Name),
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Why a write did not happen, or may not have. Only [`CommitError::Unknown`] leaves that open.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The graph has moved. Write there.
    #[error("the graph is frozen")]
    Frozen {
        /// Where it went.
        moved_to: Option<String>,
    },
    /// The graph was deleted since it was read.
    #[error("the graph was deleted")]
    Deleted,
    /// Another holder has a larger token: this one lost its lock without noticing. Acquire it
    /// again.
    #[error("fenced: token {token} is older than {fence}")]
    Fenced {
        /// This write's token.
        token: i64,
        /// The largest that was seen.
        fence: i64,
    },
    /// Another write came first. Read again and decide anew.
    #[error("conflict: expected version {expected}, found {actual}")]
    Conflict {
        /// The version that was read.
        expected: u64,
        /// The version that is there.
        actual: u64,
    },
    /// The graph was frozen when the write was tried, and opened again before its row was read to
    /// learn why. Nothing was written. Read again and decide anew.
    #[error("the graph was frozen, and was opened again at the same time")]
    Thawed,
    /// Another process has raised the graph's epoch of tokens. Nothing was written. Acquire the
    /// lock again.
    #[error("the epoch of tokens moved from {expected} to {actual}")]
    EpochMoved {
        /// The epoch that was read.
        expected: u32,
        /// The epoch that is there.
        actual: u32,
    },
    /// Another request has used an idempotency key of this write since the keys were looked up.
    /// Nothing was written. Look the keys up again and decide anew.
    #[error("an idempotency key was used by another request at the same time")]
    KeyTaken,
    /// The database ended the transaction in favour of another. Nothing was written. Read again and
    /// decide anew.
    #[error(transparent)]
    Yielded(DbError),
    /// The database refused the rows: a bug of ours. The image that led to them must be thrown
    /// away.
    #[error("the database refused the rows: {0}")]
    Refused(DbError),
    /// Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
    /// COMMIT was sent, its answer was lost, and what became of it cannot be learnt.
    #[error("the outcome of {attempt} is unknown: {reason}")]
    Unknown {
        /// What was attempted, for people.
        attempt: String,
        /// Why it could not be learnt.
        reason: String,
    },
}

impl From<DbError> for CommitError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Refused(_) => Self::Refused(error),
            DbError::Yielded { .. } => Self::Yielded(error),
            other => Self::Unavailable(other.into()),
        }
    }
}

impl From<diesel::result::Error> for CommitError {
    fn from(error: diesel::result::Error) -> Self {
        DbError::from(error).into()
    }
}

/// For writes that may safely be taken to have failed.
pub(super) fn known(error: WriteError<StoreError>) -> StoreError {
    match error {
        WriteError::RolledBack(error) => error,
        WriteError::CommitUnknown(error) => error.into(),
    }
}

/// For writes that can be repeated but leave no trace of whether a lost COMMIT took effect.
pub(super) fn repeatable(error: WriteError<CommitError>) -> CommitError {
    match error {
        WriteError::RolledBack(error) => error,
        WriteError::CommitUnknown(error) => CommitError::Unknown {
            attempt: "a write that may be repeated".to_owned(),
            reason: error.to_string(),
        },
    }
}
