//! Which lock guards the database: named once, and changed only by whoever knows which one did.

use std::fmt;

use diesel::prelude::*;

use super::Store;
use super::error::{StoreError, known};
use crate::db::schema::service;
use crate::db::{AnyConnection, Value};

/// Which lock guards a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRecord {
    /// Such as `file`.
    pub kind: String,
    /// Which of that kind.
    pub identity: String,
}

impl fmt::Display for LockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.identity)
    }
}

impl Store {
    /// Which lock guards the database; `None` if none was ever named.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    pub fn lock_record(&self) -> Result<Option<LockRecord>, StoreError> {
        Ok(self.database.ask(read_lock_record)?)
    }

    /// Names the lock that guards the database, if it still is `expected`; says which one does
    /// then.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be written.
    pub fn set_lock_record(
        &self,
        expected: Option<&LockRecord>,
        new: &LockRecord,
    ) -> Result<LockRecord, StoreError> {
        let written = self.database.write(|connection| {
            if replace_lock_record(connection, expected, new)? {
                return Ok(new.clone());
            }
            // Another process wrote it since it was read.
            read_lock_record(connection)?
                .ok_or_else(|| StoreError::DamagedValue("the record of the lock".to_owned()))
        });
        written.map_err(known)
    }
}

fn read_lock_record(connection: &mut AnyConnection) -> QueryResult<Option<LockRecord>> {
    let (kind, identity): (Option<String>, Option<String>) =
        service::table.select((service::lock_kind, service::lock_identity)).first(connection)?;
    Ok(kind.zip(identity).map(|(kind, identity)| LockRecord { kind, identity }))
}

/// Writes the record of the lock if it still is `expected`; whether it did. One statement compares
/// and sets: on Postgres, of two processes that name a lock at the same time the second waits for
/// the first here, and then finds what that one wrote.
fn replace_lock_record(
    connection: &mut AnyConnection,
    expected: Option<&LockRecord>,
    new: &LockRecord,
) -> QueryResult<bool> {
    let (kind, identity) = (Value::Text(&new.kind), Value::Text(&new.identity));
    let replaced = match expected {
        None => connection.run(
            "UPDATE service SET lock_kind = ?, lock_identity = ? \
             WHERE lock_kind IS NULL OR lock_identity IS NULL",
            &[kind, identity],
        ),
        Some(expected) => connection.run(
            "UPDATE service SET lock_kind = ?, lock_identity = ? \
             WHERE lock_kind = ? AND lock_identity = ?",
            &[kind, identity, Value::Text(&expected.kind), Value::Text(&expected.identity)],
        ),
    }?;
    Ok(replaced == 1)
}
