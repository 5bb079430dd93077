//! Where a graph's state is kept: loaded in one snapshot, changed by one conditional write.
//!
//! [`Store`] is the same for all storages; what differs between them is [`storage`]'s trait. In
//! which storage a graph is kept, its row says.
//! Knows `graph` and `db`; knows no lock (a token is a number here), no HTTP, and takes no turns.

use std::time::Duration;

use crate::db::schema::service;
use crate::db::{Database, ServerState, server_state};
use crate::graph::Name;
use diesel::prelude::*;

mod answers;
mod append;
mod call;
mod catch_up;
mod changes;
mod commit;
mod commit_error;
mod consumers;
mod creation;
mod error;
mod fencing;
mod freeze;
mod from_snapshot;
mod graphs;
mod head;
mod history;
mod leaders;
mod lock_record;
pub mod log;
mod log_replay;
pub mod log_unchecked;
mod open;
mod packed;
pub mod plain;
mod refresh;
mod requests;
mod restore;
mod row_delta;
mod row_pages;
pub mod rows;
mod snapshots;
pub mod storage;
mod storage_kind;
mod storages;
mod take_packed;
mod transaction;

pub use answers::{ANSWER_RETENTION, Purged};
pub use append::Appended;
pub use catch_up::ChangesSince;
pub use changes::Feed;
pub use commit::{Commit, Entry, Fence, StoredAnswer};
pub use commit_error::CommitError;
pub(crate) use consumers::behind;
pub use consumers::{Acknowledgement, Consumer, ConsumerSink, ExportReport, Lifetime};
pub use creation::{AnswerToStore, Creation};
pub use error::StoreError;
pub use from_snapshot::Unusable;
pub use head::{GraphState, Head, ImageKey};
pub use history::History;
pub use leaders::{Leader, Node, Successor, is_on_loopback};
pub use lock_record::LockRecord;
pub use packed::{DamagedParts, Dropped, PackedSnapshot};
pub use refresh::{CatchUp, ImageUpdate};
pub use requests::{AppliedRequest, RequestId, RequestLook};
pub use restore::{Restoration, Restored, Target};
pub use row_pages::{LogEnds, RowPage, RowSelection, StoredDataset, StoredJob, StoredReference};
pub use snapshots::SnapshotOutcome;
pub use storage::{LoadedFrom, SnapshotUse};
pub use storage_kind::StorageKind;
pub use storages::Storages;
pub use take_packed::{TakeLimits, Taken};

/// The graphs of one database.
pub struct Store {
    database: Database,
    database_id: String,
    storages: Storages,
}

impl Store {
    /// Takes a database whose schema is up to date. Each of its graphs is kept in the one of
    /// `storages` that its row names.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn with_storages(database: Database, storages: Storages) -> Result<Self, StoreError> {
        let database_id = database
            .ask(|connection| service::table.select(service::database_id).first(connection))?;
        Ok(Self { database, database_id, storages })
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

    /// What the change log is to graphs that are stored so. Of graphs that only a newer program
    /// knows how to read, all of it is needed.
    #[must_use]
    pub fn history(&self, storage: StorageKind) -> History {
        self.storages.of_kind(storage).map_or(History::Whole, storage::Storage::history)
    }

    /// Whether changes may come into the logs of graphs that are kept so that break the rules.
    #[must_use]
    pub fn may_break_rules(&self, storage: StorageKind) -> bool {
        self.storages.of_kind(storage).is_some_and(storage::Storage::may_break_rules)
    }

    /// What packed snapshots are to loads of graphs that are kept so.
    #[must_use]
    pub fn snapshot_use(&self, storage: StorageKind) -> SnapshotUse {
        self.storages.of_kind(storage).map_or(SnapshotUse::None, storage::Storage::snapshots)
    }

    /// Makes sure that the log of a graph that is kept so, or would be, keeps the rules, and so may
    /// come from elsewhere and go elsewhere.
    ///
    /// # Errors
    /// [`StoreError::KeptApart`] if it may not.
    pub fn check_may_move(&self, graph: &Name, storage: StorageKind) -> Result<(), StoreError> {
        match self.may_break_rules(storage) {
            true => Err(StoreError::KeptApart { graph: graph.clone(), storage }),
            false => Ok(()),
        }
    }

    /// How long the database may take to answer a statement.
    #[must_use]
    pub fn answer(&self) -> Duration {
        self.database.answer()
    }

    /// For how long the database has answered nothing.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.database.silent_for()
    }

    /// Asks the database for an answer: one round trip.
    ///
    /// # Errors
    /// [`StoreError`] if there is none.
    pub fn ask_for_life(&self) -> Result<(), StoreError> {
        Ok(self.database.check_alive()?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`] if not.
    pub fn ping(&self) -> Result<(), StoreError> {
        self.database.ready(|connection| {
            let row = service::table.select((server_state(), service::id));
            let (told, _) = row.first::<(ServerState, i64)>(connection)?;
            Ok((Some(told), ()))
        })?;
        Ok(())
    }
}
