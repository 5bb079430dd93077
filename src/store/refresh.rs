//! Bringing an image to the graph's version, and loading a graph whole.

use super::Store;
use super::catch_up::{CaughtUp, catch_up};
use super::error::StoreError;
use super::from_snapshot::load_from_snapshot;
use super::head::{GraphState, Head, ImageKey, Stored, column, head_of, read_head_row_and_stored};
use super::storage::{History, Loaded, LoadedFrom, SnapshotUse, Storage};
use super::storage_kind::StorageKind;
use crate::db::AnyConnection;
use crate::failpoint;
use crate::graph::{Change, Graph, Name};

/// How an image that is behind is to be brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// By the whole graph as it is stored, though nothing may have changed.
    Anew,
    /// By the whole graph.
    Reload,
    /// By the changes since, as long as the log has them, they are of the image's history, and they
    /// are not too many.
    Changes,
}

/// What brings an image to the version of a [`Head`].
pub enum ImageUpdate {
    /// Nothing: it is there.
    Current,
    /// These, one after another, with [`apply_all`](crate::graph::apply_all). At least one; they
    /// lead from the image's chain to the head's.
    Changes(Vec<Change>),
    /// This instead.
    Whole(Box<Graph>, LoadedFrom),
    /// Nothing was read but the row: the graph is not in the storage that was expected.
    OtherStorage,
}

impl Store {
    /// The graph's row and, unless its key is `known`, what brings the known graph to that version:
    /// both from one snapshot. [`CatchUp::Changes`] costs what was changed since,
    /// [`CatchUp::Reload`] the whole graph. A graph of another storage than `storage` is not read:
    /// what is stored for it would be taken for something else.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn refresh(
        &self,
        name: &Name,
        known: Option<ImageKey>,
        by: CatchUp,
        storage: StorageKind,
    ) -> Result<Option<(Head, ImageUpdate)>, StoreError> {
        let replays = self.history(storage) == History::Whole;
        // What the image is of decides what a write will expect, and not the row.
        let read = |head: Head, update| Ok(Some((Head { storage, ..head }, update)));
        match (known, by) {
            (None, _) | (_, CatchUp::Anew) => {}
            (Some(known), CatchUp::Reload) => {
                let Some(head) = self.head(name)? else { return Ok(None) };
                if is_other(&head, storage) {
                    return Ok(Some((head, ImageUpdate::OtherStorage)));
                }
                if known == head.key() {
                    return read(head, ImageUpdate::Current);
                }
            }
            (Some(known), CatchUp::Changes) => {
                match catch_up(&self.database, name, known, replays)? {
                    None => return Ok(None),
                    Some((head, _)) if is_other(&head, storage) => {
                        return Ok(Some((head, ImageUpdate::OtherStorage)));
                    }
                    Some((head, CaughtUp::Changes(changes))) if changes.is_empty() => {
                        return read(head, ImageUpdate::Current);
                    }
                    Some((head, CaughtUp::Changes(changes))) => {
                        return read(head, ImageUpdate::Changes(changes));
                    }
                    Some((_, CaughtUp::Whole(why))) => {
                        log::info!("graph `{name}` is read anew: {why}")
                    }
                }
            }
        }
        let choose = |head: &Head| match is_other(head, storage) {
            true => Ok(None),
            false => {
                let unknown = || StoreError::UnknownStorage(head.name.clone());
                self.storages.of_kind(storage).ok_or_else(unknown).map(Some)
            }
        };
        let least = match by {
            CatchUp::Anew => SnapshotUse::Beginning,
            CatchUp::Reload | CatchUp::Changes => SnapshotUse::Quicker,
        };
        let whole = self.read_whole(name, choose, least)?;
        match whole {
            None => Ok(None),
            // When the transaction is over: others may need the connection.
            Some((head, Some(Loaded { graph, from }))) => {
                read(head, ImageUpdate::Whole(Box::new(graph()?), from))
            }
            Some((head, None)) => Ok(Some((head, ImageUpdate::OtherStorage))),
        }
    }

    /// The graph's row and the whole graph at its version, from one snapshot, as it is stored: of
    /// rows from all rows, whatever packed snapshots there are. O(size of the graph); of a graph
    /// that is stored as its log, and also O(its history since its newest packed snapshot).
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn load(&self, name: &Name) -> Result<Option<(Head, Graph)>, StoreError> {
        let choose = |head: &Head| self.storages.of(head).map(Some);
        let read = self.read_whole(name, choose, SnapshotUse::Beginning)?;
        let Some((head, Some(loaded))) = read else { return Ok(None) };
        Ok(Some((head, (loaded.graph)()?)))
    }

    /// The graph's row, and the graph as the storage that `choose` names for it has it. From a
    /// packed snapshot only where such are that much to the storage, or more.
    fn read_whole<'s>(
        &'s self,
        name: &Name,
        choose: impl Fn(&Head) -> Result<Option<&'s dyn Storage>, StoreError>,
        least: SnapshotUse,
    ) -> Result<Option<(Head, Option<Loaded>)>, StoreError> {
        let head = |connection: &mut AnyConnection| read_head_row_and_stored(connection, name);
        self.database.learn_and_read(head, |connection, row| {
            let Some((row, stored)) = row else { return Ok::<_, StoreError>(None) };
            let head = head_of(row)?;
            let Some(storage) = choose(&head)? else { return Ok(Some((head, None))) };
            check_log(&head, storage.history(), &stored)?;
            let used = storage.snapshots();
            // It has nothing, whatever its log still tells of before.
            if head.state == GraphState::Deleted && used == SnapshotUse::Beginning {
                let empty = Graph::empty_at(head.version);
                let from = LoadedFrom::Log { changes: 0 };
                let loaded = Loaded { graph: Box::new(|| Ok(empty)), from };
                return Ok(Some((head, Some(loaded))));
            }
            let begun = match stored.newest_snapshot {
                Some(_) if used >= least => load_from_snapshot(connection, &head, used)?,
                _ => None,
            };
            let loaded = begun.map_or_else(|| storage.load(connection, &head), Ok)?;
            Ok(Some((head, Some(loaded))))
        })
    }
}

/// Refuses a graph whose log continues beyond the version of its row, or whose `oldest` is
/// impossible: its rows may then be of any version. A log that ends before the row's version does
/// not stop a load of rows, which are whole without it; `check-rows` reports it.
fn check_log(head: &Head, history: History, stored: &Stored) -> Result<(), StoreError> {
    let Head { name, version, oldest, .. } = head;
    let damaged = |what: String| {
        Err(StoreError::DamagedValue(format!(
            "graph `{name}` is at version {version}, and {what}; {}",
            history.advice()
        )))
    };
    match stored.newest_change {
        Some(newest) if newest > column(*version) => {
            damaged(format!("its log goes on to version {newest}"))
        }
        _ if !(1..=version + 1).contains(oldest) => {
            damaged(format!("its log is said to begin at version {oldest}"))
        }
        _ => Ok(()),
    }
}

/// Whether the graph is in another storage than expected. Tests switch this off, to show what
/// then stops a write.
fn is_other(head: &Head, expected: StorageKind) -> bool {
    head.storage != expected && !failpoint::is_off("storage-of-graph")
}
