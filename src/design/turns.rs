//! The ways of taking turns: one file each, and what bounds them.

use std::time::Duration;

use crate::lock::LockError;
use crate::service::{Refusal, TurnError};

pub mod expected_version;
pub mod locked;

/// What bounds the turns, by the way in which they are taken.
#[derive(Debug, Clone, Copy)]
pub struct TurnLimits {
    /// How long a turn waits for the lock.
    pub lock_wait: Duration,
    /// How often a turn under the lock is taken again after its write was refused: its token was
    /// old, or another write came first.
    pub lock_retries: usize,
    /// How often a turn without a lock is taken again after another write came first.
    pub optimistic_retries: usize,
}

impl Default for TurnLimits {
    fn default() -> Self {
        // The wait is a second more than the lease of a lock that has one.
        let lock_wait = Duration::from_secs(6);
        Self { lock_wait, lock_retries: 3, optimistic_retries: 32 }
    }
}

/// How reads are kept from seeing less than was answered before they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Reads {
    /// Share the lock
    Lock,
    /// Take no lock
    Snapshot,
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

/// A lock that was lost may be taken again; one that cannot be reached is told.
impl From<LockError> for TurnError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Lost { what } => Self::LockLost(what),
            other => Self::Refused(other.into()),
        }
    }
}
