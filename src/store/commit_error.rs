//! Why a write did not happen, or may not have.

use super::catch_up::ChangesSince;
use super::commit::{Commit, Fence, StoredAnswer};
use super::error::StoreError;
use super::head::{GraphState, Head};
use super::storage_kind::StorageKind;
use crate::db::{DbError, WriteError};

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
    /// Another holder, or another leader, has a larger token: this one lost its lock or its
    /// leadership without noticing. Acquire it again.
    #[error("fenced: token {token} is not the newest, which is {fence}")]
    Fenced {
        /// This write's token.
        token: i64,
        /// The newest one.
        fence: i64,
    },
    /// Another write came first. Read again and decide anew.
    #[error("conflict: expected version {expected}, found {actual}")]
    Conflict {
        /// The version that was read.
        expected: u64,
        /// The version that is there.
        actual: u64,
        /// What was written since, if that was learnt on the way.
        since: Option<Box<ChangesSince>>,
    },
    /// The graph was deleted since it was read, and created again in another storage. Nothing was
    /// written. Read it as it is stored now, and decide anew.
    #[error("the graph is kept as {actual}, no longer as {expected}")]
    StorageChanged {
        /// How it was stored when it was read.
        expected: StorageKind,
        /// How it is stored now.
        actual: StorageKind,
    },
    /// The graph's row is not there any more, or is another graph's: a database was put in the
    /// place of the one that had it. Nothing was written. Look for the graph by its name, and
    /// decide anew.
    #[error(
        "the row of the graph, with id {id}, is not in the database any more, or is another graph's"
    )]
    Gone {
        /// The id of the row.
        id: i64,
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
    /// An answer is stored under an idempotency key of this write. Nothing was written. Decide
    /// anew, with the answer.
    #[error("an idempotency key was used by another request before")]
    KeyTaken {
        /// The answers that are stored under keys of this write.
        kept: Vec<StoredAnswer>,
    },
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
            DbError::Refused(_) | DbError::RowsDiffer { .. } => Self::Refused(error),
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

impl CommitError {
    /// Why a conditional write to a graph whose row is `now` did not hold.
    pub(super) fn refused(
        commit: &Commit<'_>,
        now: Head,
        since: Option<Box<ChangesSince>>,
    ) -> Self {
        let read = commit.read;
        if now.uuid != read.uuid {
            return Self::Gone { id: read.id };
        }
        match (now.state, commit.fence) {
            (GraphState::Frozen, _) => CommitError::Frozen { moved_to: now.moved_to },
            (GraphState::Deleted, _) => CommitError::Deleted,
            (GraphState::Open, _) if now.storage != read.storage => {
                CommitError::StorageChanged { expected: read.storage, actual: now.storage }
            }
            (GraphState::Open, Fence::Token(token)) if now.fence > token => {
                CommitError::Fenced { token, fence: now.fence }
            }
            (GraphState::Open, Fence::Leader(token)) if now.leader_token != token => {
                CommitError::Fenced { token, fence: now.leader_token }
            }
            (GraphState::Open, _) if now.key() == read.key() => CommitError::Thawed,
            (GraphState::Open, _) => {
                CommitError::Conflict { expected: read.version, actual: now.version, since }
            }
        }
    }

    /// That it is not known what became of `commit`.
    pub(super) fn outcome_unknown(commit: &Commit<'_>, reason: String) -> Self {
        Self::Unknown { attempt: format!("attempt {}", commit.attempt), reason }
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
