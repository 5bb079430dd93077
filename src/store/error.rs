//! Why state could not be read or prepared.

use super::history::History;
use super::storage_kind::StorageKind;
use crate::db::{DbError, WriteError};
use crate::graph::{DamagedFact, DamagedRows, Name};

/// Why state could not be read or prepared.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Passed on unchanged.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The rows are no legal graph. Restore them from a backup.
    #[error("graph `{graph}` cannot be loaded: {reason}; {}", .history.advice())]
    DamagedRows {
        /// The graph.
        graph: Name,
        /// What its change log is to it.
        history: History,
        /// What is wrong.
        reason: DamagedRows,
    },
    /// The change log cannot be read. Restore it from a backup.
    #[error(transparent)]
    DamagedLog(#[from] DamagedFact),
    /// The graph is stored as its change log, which is not whole or not what was written. Restore
    /// the database from a backup.
    #[error("graph `{graph}` cannot be loaded from its log: version {version}: {what}")]
    DamagedHistory {
        /// The graph.
        graph: Name,
        /// The version at which it is wrong.
        version: u64,
        /// What is wrong.
        what: String,
    },
    /// The log of a graph whose writers compare no version has a change that breaks the rules.
    /// Nothing mends it: such graphs show what the comparison is for.
    #[error(
        "graph `{graph}` breaks a rule from version {version} on: {what}; it is kept as {storage}, \
         by writers that compare no version"
    )]
    IllegalHistory {
        /// The graph.
        graph: Name,
        /// How it is kept.
        storage: StorageKind,
        /// The first version that breaks a rule.
        version: u64,
        /// Which rule.
        what: String,
    },
    /// A graph whose log may break the rules stays where it is: it is neither exported nor frozen,
    /// and no log is restored as one.
    #[error(
        "graph `{graph}` is kept as {storage}, by writers that compare no version, so its log may \
         break the rules: such a graph is neither exported nor frozen, and no log is restored as \
         one"
    )]
    KeptApart {
        /// The graph.
        graph: Name,
        /// How it is kept, or would be.
        storage: StorageKind,
    },
    /// Only a newer program knows how the graph is stored. Use that.
    #[error("graph `{0}` is kept in a way that only a newer fencepost knows")]
    UnknownStorage(Name),
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

/// For writes that may safely be taken to have failed.
pub(super) fn known(error: WriteError<StoreError>) -> StoreError {
    match error {
        WriteError::RolledBack(error) => error,
        WriteError::CommitUnknown(error) => error.into(),
    }
}
