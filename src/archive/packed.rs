//! Packed snapshots by hand: listed, taken, dropped, and read back to be proven.

use super::past::{PastError, replayed_at};
use crate::graph::{Graph, Name};
use crate::store::{
    CommitError, Dropped, Head, PackedSnapshot, SnapshotUse, StorageKind, Store, StoreError,
    TakeLimits, Taken,
};
use crate::terminal::shell_word;

/// Why a snapshot was not listed, taken or dropped.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such graph, or it cannot be read.
    #[error(transparent)]
    Past(#[from] PastError),
    /// Graphs that are kept so are not loaded from snapshots.
    #[error("graph `{graph}` is kept as {storage}, and such graphs are not loaded from snapshots")]
    NotUsed {
        /// The graph.
        graph: Name,
        /// How it is kept.
        storage: StorageKind,
    },
    /// It has no change yet.
    #[error("graph `{0}` has no change yet, so there is nothing to take a snapshot of")]
    Empty(Name),
    /// Another process is at it.
    #[error(
        "another process takes a snapshot of graph `{0}`: wait until it is listed, or for a minute, \
         if that process was killed"
    )]
    ClaimedElsewhere(Name),
    /// The log was written or pruned in a way that the graph that was read does not follow.
    #[error("the log of graph `{0}` changed while a snapshot was taken: take it again")]
    OtherHistory(Name),
    /// What was written does not give the graph back.
    #[error("the snapshot of graph `{graph}` was thrown away: {why}")]
    NotProven {
        /// The graph.
        graph: Name,
        /// What differs.
        why: String,
    },
    /// There is none of that version.
    #[error(
        "graph `{graph}` has no snapshot of version {version}: fencepost snapshot list --graph {} \
         shows which there are",
        shell_word(.graph.as_str())
    )]
    NotThere {
        /// The graph.
        graph: Name,
        /// The version that was asked for.
        version: u64,
    },
    /// The log was pruned up to it.
    #[error(
        "the snapshot of graph `{graph}` at version {version} stays: its log was pruned, and the \
         graph could be loaded from no other; take a newer one first: fencepost snapshot take"
    )]
    Needed {
        /// The graph.
        graph: Name,
        /// The version of the snapshot.
        version: u64,
    },
    /// The database did not do it.
    #[error(transparent)]
    Write(#[from] CommitError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn head_of(store: &Store, name: &Name) -> Result<Head, SnapshotError> {
    let head = store.head(name)?.ok_or_else(|| PastError::GraphNotFound(name.clone()))?;
    if store.snapshot_use(head.storage) != SnapshotUse::None {
        return Ok(head);
    }
    Err(SnapshotError::NotUsed { graph: name.clone(), storage: head.storage })
}

/// The packed snapshots of a graph, the newest first.
///
/// # Errors
/// [`SnapshotError`] says what to do.
pub fn list_snapshots(store: &Store, name: &Name) -> Result<Vec<PackedSnapshot>, SnapshotError> {
    let head = head_of(store, name)?;
    Ok(store.packed_snapshots(head.id)?)
}

/// Takes a packed snapshot of the graph as it is now. O(size of the graph); of a graph that is kept
/// by its log alone, O(its history): it is replayed from the first change, or from what a prune has
/// kept.
///
/// # Errors
/// [`SnapshotError`] says what to do.
pub fn take_snapshot(store: &Store, name: &Name) -> Result<PackedSnapshot, SnapshotError> {
    let head = head_of(store, name)?;
    let not_found = || PastError::GraphNotFound(name.clone());
    // From what stands beside snapshots, so that what is wrong with one does not live on in the
    // next. Of a graph of rows that is its rows, which also have its ids.
    let (head, graph): (Head, Graph) = match store.snapshot_use(head.storage) {
        SnapshotUse::Beginning => {
            let version = head.version;
            let past = replayed_at(store, head, version)?;
            (past.head, past.graph)
        }
        SnapshotUse::Quicker | SnapshotUse::None => store.load(name)?.ok_or_else(not_found)?,
    };
    if head.version == 0 {
        return Err(SnapshotError::Empty(name.clone()));
    }
    let limits = TakeLimits::default();
    match store.take_packed(name, head.key(), &graph, limits, &mut || true)? {
        Taken::Yes(taken) => Ok(taken),
        Taken::ClaimedElsewhere | Taken::ClaimLost | Taken::Stopped => {
            Err(SnapshotError::ClaimedElsewhere(name.clone()))
        }
        Taken::OtherHistory => Err(SnapshotError::OtherHistory(name.clone())),
        Taken::NotProven(why) => Err(SnapshotError::NotProven { graph: name.clone(), why }),
    }
}

/// Drops the packed snapshot of `version`, or all; how many. Where the log was pruned and is all
/// there is of the graph, one that stays is read back first.
///
/// # Errors
/// [`SnapshotError`] says what to do.
pub fn drop_snapshots(
    store: &Store,
    name: &Name,
    version: Option<u64>,
) -> Result<usize, SnapshotError> {
    let head = head_of(store, name)?;
    let proven = match store.snapshot_use(head.storage) {
        SnapshotUse::Beginning => still_loaded_from(store, head, version)?,
        SnapshotUse::Quicker | SnapshotUse::None => None,
    };
    match store.drop_packed(name, version, proven.as_ref())? {
        Dropped::Count(0) => match version {
            Some(version) => Err(SnapshotError::NotThere { graph: name.clone(), version }),
            None => Ok(0),
        },
        Dropped::Count(count) => Ok(count),
        Dropped::Needed(version) => Err(SnapshotError::Needed { graph: name.clone(), version }),
    }
}

/// A snapshot from which the graph can be loaded when that of `dropped`, or all, are gone; of a
/// whole log none, if the log itself can be replayed.
fn still_loaded_from(
    store: &Store,
    head: Head,
    dropped: Option<u64>,
) -> Result<Option<PackedSnapshot>, SnapshotError> {
    if head.oldest <= 1 {
        let version = head.version;
        replayed_at(store, head, version)?;
        return Ok(None);
    }
    let stays = |snapshot: &PackedSnapshot| dropped.is_some_and(|gone| gone != snapshot.version);
    for snapshot in store.usable_snapshots(&head.name)?.into_iter().filter(stays) {
        if store.unpack_snapshot(&head, &snapshot)?.is_ok() {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}
