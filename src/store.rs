//! Where a graph's state is kept: loaded in one snapshot, changed by one conditional write.
//!
//! [`Store`] is the same for all storages; what differs between them is [`storage`]'s trait.
//! Knows `graph` and `db`; knows no lock (a token is a number here), no HTTP, and takes no turns.

use crate::db::schema::service;
use crate::db::{Database, DbError, Told, WriteError, telling};
use crate::graph::{DamagedFact, DamagedRows, Name};
use diesel::prelude::*;

mod answers;
mod catch_up;
mod changes;
mod commit;
mod consumers;
mod creation;
mod fencing;
mod freeze;
mod heads;
mod lock_record;
mod refresh;
mod restore;
mod row_delta;
pub mod rows;
mod snapshots;
pub mod storage;

pub use answers::{ANSWER_KEPT, Purged, StoredAnswer};
pub use changes::{Feed, Logged};
pub use commit::{Commit, CommitError, Entry, Fence};
pub(crate) use consumers::behind;
pub use consumers::{Acknowledgement, Consumer, ConsumerSink, ExportReport, Lifetime};
pub use creation::{Creation, Keep};
pub use heads::{GraphState, Head, ImageKey};
pub use lock_record::LockRecord;
pub use refresh::{CatchUp, Refresh};
pub use restore::{Restoration, Restored, Target};
pub use snapshots::Kept;

pub use crate::chain::Chain;

use rows::Rows;
use storage::Storage;

/// The graphs of one database.
pub struct Store {
    database: Database,
    database_id: String,
    storage: Box<dyn Storage>,
}

impl Store {
    /// Takes a database whose schema is up to date.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn new(database: Database) -> Result<Self, StoreError> {
        Self::with_storage(database, Box::new(Rows))
    }

    /// As [`new`](Self::new), with graphs kept in `storage`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn with_storage(database: Database, storage: Box<dyn Storage>) -> Result<Self, StoreError> {
        let database_id = database
            .ask(|connection| service::table.select(service::database_id).first(connection))?;
        Ok(Self { database, database_id, storage })
    }

    /// Where it is.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Tells this database from every other: locks are named by it.
    #[must_use]
    pub fn database_id(&self) -> &str {
        &self.database_id
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`] if not.
    pub fn ping(&self) -> Result<(), StoreError> {
        self.database.learn(|connection| {
            let row = service::table.select((telling(), service::id));
            let (told, _) = row.first::<(Told, i64)>(connection)?;
            Ok((Some(told), ()))
        })?;
        Ok(())
    }
}

/// Why state could not be read or prepared.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// See there.
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
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

/// For writes that may safely be taken to have failed.
fn known(error: WriteError<StoreError>) -> StoreError {
    match error {
        WriteError::RolledBack(error) => error,
        WriteError::CommitUnknown(error) => error.into(),
    }
}

/// Of writes that may be sent again: whether or not the lost one held, the next will make it so.
pub(super) fn repeatable(error: WriteError<CommitError>) -> CommitError {
    match error {
        WriteError::RolledBack(error) => error,
        WriteError::CommitUnknown(error) => CommitError::from(error),
    }
}
