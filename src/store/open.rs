//! A store with the storages that this program has.

use super::Store;
use super::error::StoreError;
use super::log::Log;
use super::log_unchecked::UncheckedLog;
use super::plain::Plain;
use super::rows::Rows;
use super::storages::Storages;
use crate::db::Database;

impl Store {
    /// Takes a database whose schema is up to date.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn new(database: Database) -> Result<Self, StoreError> {
        let storages = Storages {
            rows: Box::new(Rows),
            plain: Box::new(Plain),
            log: Box::new(Log),
            unchecked: Box::new(UncheckedLog),
        };
        Self::with_storages(database, storages)
    }
}
