//! The ways of taking turns: one file each, with its limits.

use crate::lock::LockError;
use crate::service::{Refusal, TurnError};

pub mod expected_version;
pub mod locked;
pub mod single_writer;
pub mod unchecked;

/// How a read makes sure that it sees every write that was answered before it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Reads {
    /// Share the lock
    Lock,
    /// Take no lock
    Snapshot,
}

impl Reads {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Lock, Self::Snapshot];

    /// As the command line has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Snapshot => "snapshot",
        }
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Timeout { waited } => Self::Contended {
                what: format!("the graph's lock did not come free within {waited:.1?}"),
            },
            LockError::Unavailable { what, source } => {
                Self::LockUnavailable { what: format!("{what}: {source}") }
            }
            other => Self::LockUnavailable { what: other.to_string() },
        }
    }
}

/// After a lost lock the turn is tried again; an unreachable lock is reported to the client.
impl From<LockError> for TurnError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Lost { what } => Self::LockLost(what),
            other => Self::Refused(other.into()),
        }
    }
}
