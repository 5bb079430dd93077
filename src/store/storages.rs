//! The storages of a store: each graph is in the one that its row names.

use super::error::StoreError;
use super::head::Head;
use super::storage::Storage;
use super::storage_kind::StorageKind;

/// One storage of each kind.
pub struct Storages {
    /// For [`StorageKind::Rows`].
    pub rows: Box<dyn Storage>,
    /// For [`StorageKind::RowsPlain`].
    pub plain: Box<dyn Storage>,
    /// For [`StorageKind::Log`].
    pub log: Box<dyn Storage>,
    /// For [`StorageKind::LogUnchecked`].
    pub unchecked: Box<dyn Storage>,
}

impl Storages {
    /// The storage of the graph of this row.
    ///
    /// # Errors
    /// [`StoreError::UnknownStorage`] if only a newer program has it.
    pub(super) fn of(&self, head: &Head) -> Result<&dyn Storage, StoreError> {
        self.of_kind(head.storage).ok_or_else(|| StoreError::UnknownStorage(head.name.clone()))
    }

    /// The storage of that kind, if this program has it.
    pub(super) fn of_kind(&self, kind: StorageKind) -> Option<&dyn Storage> {
        match kind {
            StorageKind::Rows => Some(&*self.rows),
            StorageKind::RowsPlain => Some(&*self.plain),
            StorageKind::Log => Some(&*self.log),
            StorageKind::LogUnchecked => Some(&*self.unchecked),
            StorageKind::Unknown => None,
        }
    }
}
