//! A store with the storages that this program has.

use super::Store;
use super::error::StoreError;
use super::log::Log;
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
        let rows = Box::new(Rows);
        let storages = Storages { rows, plain: Box::new(Plain), log: Box::new(Log) };
        Self::with_storages(database, storages)
    }
}
