//! Which lock guards a database is written in it: a process with another lock is refused.

use crate::lock::LockIdentity;
use crate::store::{LockRecord, Store, StoreError};

/// The database is guarded by another lock than the one that was given.
#[derive(Debug, thiserror::Error)]
pub enum LockBindingError {
    /// Two locks guard nothing.
    #[error(
        "the database is guarded by the lock {stored}, not by {given}: two locks guard nothing. \
         Use the stored one (omit --lock-url), or stop every process that uses it and run \
         `fencepost lock set --lock-url URL`"
    )]
    Another {
        /// The stored one.
        stored: String,
        /// The one that was given.
        given: String,
    },
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes `lock` the one that guards the database, if none does yet.
///
/// # Errors
/// [`LockBindingError::Another`] if another one does.
pub fn bind_lock(store: &Store, lock: &LockIdentity) -> Result<(), LockBindingError> {
    let given = LockRecord::from(lock);
    let stored = match store.lock_record()? {
        Some(stored) => stored,
        // What another process has written meanwhile, if one was faster.
        None => store.set_lock_record(None, &given)?,
    };
    expect_lock(&stored, &given)
}

/// Makes sure that `lock` is the one that guards the database, if any does; changes nothing.
///
/// # Errors
/// [`LockBindingError::Another`] if another one does.
pub fn check_lock(store: &Store, lock: &LockIdentity) -> Result<(), LockBindingError> {
    store.lock_record()?.map_or(Ok(()), |stored| expect_lock(&stored, &LockRecord::from(lock)))
}

fn expect_lock(stored: &LockRecord, given: &LockRecord) -> Result<(), LockBindingError> {
    if stored == given {
        return Ok(());
    }
    Err(LockBindingError::Another { stored: stored.to_string(), given: given.to_string() })
}

impl From<&LockIdentity> for LockRecord {
    fn from(lock: &LockIdentity) -> Self {
        Self { kind: lock.kind.to_owned(), identity: lock.identity.clone() }
    }
}
