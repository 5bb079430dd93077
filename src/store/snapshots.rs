//! What stands in for the beginning of a pruned log: the current snapshot, in parts, and how
//! changes leave. What a part says is not known here.

use diesel::dsl::min;
use diesel::prelude::*;

use super::Store;
use super::commit_error::{CommitError, repeatable};
use super::consumers::{Consumer, forget_consumers, read_behind};
use super::error::StoreError;
use super::head::{Head, column, read_head, split_server_state};
use super::packed::{PackedSnapshot, forget_packed, forget_packed_before, read_snapshots};
use super::storage::{History, SnapshotUse};
use super::storage_kind::StorageKind;
use crate::db::schema::{changes, octet_length, snapshot_parts, snapshots};
use crate::db::{AnyConnection, Value, server_state};
use crate::failpoint;
use crate::graph::Name;

/// Changes that one transaction deletes.
const DELETED_CHANGES: i64 = 1_000;
/// Parts that one transaction deletes.
const DELETED_PARTS: i64 = 16;
/// Parts that are read at once.
const READ_PARTS: i64 = 4;

/// The outcome of making a snapshot the beginning of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// It is: from here on the log begins at its version.
    Installed,
    /// Another one of that version or a later one was there before.
    AlreadyLater,
    /// These have not acknowledged the change before, the furthest behind first.
    NeededBy(Vec<Consumer>),
    /// The graph has this storage, of whose log nothing can be pruned.
    NotPrunable(StorageKind),
    /// The packed snapshot that was to stand in for the changes is gone.
    NotProven,
    /// Its parts are not those that were written: somebody else is pruning.
    ConcurrentPrune,
    /// There is no such graph, or it has not come to that version.
    NotThere,
}

impl Store {
    /// The version of the graph's current snapshot, if it has one. Two round trips.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn snapshot_version(&self, graph_id: i64) -> Result<Option<u64>, StoreError> {
        let current = self
            .database
            .learn(|connection| Ok((None, read_snapshot_version(connection, graph_id)?)))?;
        Ok(current.map(|version| version as u64))
    }

    /// The next few parts of a snapshot from part `from` on, each whole lines. Empty after the
    /// last, and where there is no such snapshot.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn snapshot_parts(
        &self,
        graph_id: i64,
        version: u64,
        from: u64,
    ) -> Result<Vec<String>, StoreError> {
        let rows: Vec<(i64, String)> = self.database.learn(|connection| {
            let parts = snapshot_parts::table
                .filter(snapshot_parts::graph_id.eq(graph_id))
                .filter(snapshot_parts::version.eq(column(version)))
                .filter(snapshot_parts::part.ge(column(from)))
                .order(snapshot_parts::part)
                .limit(READ_PARTS)
                .select((server_state(), (snapshot_parts::part, snapshot_parts::lines)));
            Ok(split_server_state(parts.load(connection)?))
        })?;
        let dense = rows
            .into_iter()
            .zip(from..)
            .take_while(|((part, _), expected)| *part as u64 == *expected);
        Ok(dense.map(|((_, lines), _)| lines).collect())
    }

    /// Writes a part of a snapshot that nobody reads yet. Written again, it is the same. One
    /// transaction.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub fn write_snapshot_part(
        &self,
        graph_id: i64,
        version: u64,
        part: u64,
        lines: &str,
    ) -> Result<(), CommitError> {
        let written = self.database.write(|connection| {
            insert_part(connection, graph_id, version, part, lines)?;
            Ok::<_, CommitError>(())
        });
        written.map_err(repeatable)
    }

    /// Makes the snapshot of `version` the beginning of the log, unless a consumer still needs
    /// earlier changes. `committed_at_ms` is when that version was committed, `sizes` the bytes of
    /// each part. Consumers that need earlier changes, and that pruning no longer waits for, are
    /// forgotten. A graph that is kept by its log is loaded from `packed`, which must still be
    /// there. One short transaction, which holds the graph's row, as registering does.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub fn install_snapshot(
        &self,
        name: &Name,
        version: u64,
        committed_at_ms: Option<i64>,
        sizes: &[usize],
        packed: Option<&PackedSnapshot>,
    ) -> Result<SnapshotOutcome, CommitError> {
        let written = self.database.write(|connection| {
            connection.hold_graph(name.as_str())?;
            let found = read_head(connection, name)?.filter(|head| version <= head.version);
            let Some(head) = found else { return Ok(SnapshotOutcome::NotThere) };
            match self.history(head.storage) {
                History::Beside => {}
                History::Whole if self.snapshot_use(head.storage) == SnapshotUse::Beginning => {
                    if !stands_in(connection, &head, version, packed)? {
                        return Ok(SnapshotOutcome::NotProven);
                    }
                }
                History::Whole | History::None => {
                    return Ok(SnapshotOutcome::NotPrunable(head.storage));
                }
            }
            let current = read_snapshot_version(connection, head.id)?;
            if current.is_some_and(|current| current >= column(version)) {
                return Ok(SnapshotOutcome::AlreadyLater);
            }
            let (waiting, expired) = read_behind(connection, head.id, version)?;
            if !waiting.is_empty() && !failpoint::is_off("prune-consumers") {
                return Ok(SnapshotOutcome::NeededBy(waiting));
            }
            if !parts_are(connection, &head, version, sizes)? {
                return Ok(SnapshotOutcome::ConcurrentPrune);
            }
            install(connection, head.id, version, committed_at_ms)?;
            forget_consumers(connection, head.id, &expired)?;
            forget_packed_before(connection, head.id, version)?;
            connection.run(
                "UPDATE graphs SET oldest = ? WHERE id = ?",
                &[Value::Integer(column(version.max(head.oldest))), Value::Integer(head.id)],
            )?;
            Ok::<_, CommitError>(SnapshotOutcome::Installed)
        });
        written.map_err(repeatable)
    }

    /// Deletes the changes that the current snapshot replaces, and the parts of unfinished and
    /// former snapshots, some rows in each transaction. Returns how many changes were deleted.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done; what was deleted until then stays so.
    pub fn delete_pruned(&self, name: &Name) -> Result<u64, CommitError> {
        let mut deleted = 0;
        while let Some(some) = self
            .database
            .write(|connection| delete_some_changes(connection, name))
            .map_err(repeatable)?
        {
            deleted += some as u64;
        }
        self.delete_parts(name)?;
        Ok(deleted)
    }

    /// Deletes the parts of snapshots other than the kept one, and of packed snapshots that are no
    /// longer there, some in each transaction.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done; what was deleted until then stays so.
    pub(super) fn delete_parts(&self, name: &Name) -> Result<(), CommitError> {
        let history = |head: &Head| self.history(head.storage);
        while self
            .database
            .write(|connection| delete_some_parts(connection, name, &history))
            .map_err(repeatable)?
        {}
        match self.head(name)? {
            Some(head) => self.delete_packed_parts(name, head.id, &mut || true),
            None => Ok(()),
        }
    }
}

/// Has nothing be read of the history of a graph that is to go on without one: neither its changes
/// nor its snapshots.
pub(super) fn forget_history(connection: &mut AnyConnection, head: &Head) -> QueryResult<()> {
    diesel::delete(snapshots::table.find(head.id)).execute(connection)?;
    forget_packed(connection, head.id)?;
    connection.run(
        "UPDATE graphs SET oldest = ? WHERE id = ?",
        &[Value::Integer(column(head.version + 1)), Value::Integer(head.id)],
    )?;
    Ok(())
}

fn read_snapshot_version(
    connection: &mut AnyConnection,
    graph_id: i64,
) -> QueryResult<Option<i64>> {
    snapshots::table.find(graph_id).select(snapshots::version).first(connection).optional()
}

pub(super) fn insert_part(
    connection: &mut AnyConnection,
    graph_id: i64,
    version: u64,
    part: u64,
    lines: &str,
) -> QueryResult<()> {
    connection.run(
        "INSERT INTO snapshot_parts (graph_id, version, part, lines) VALUES (?, ?, ?, ?) \
         ON CONFLICT (graph_id, version, part) DO UPDATE SET lines = excluded.lines",
        &[
            Value::Integer(graph_id),
            Value::Integer(column(version)),
            Value::Integer(column(part)),
            Value::Text(lines),
        ],
    )?;
    Ok(())
}

pub(super) fn install(
    connection: &mut AnyConnection,
    graph_id: i64,
    version: u64,
    committed_at_ms: Option<i64>,
) -> QueryResult<()> {
    let row =
        (snapshots::version.eq(column(version)), snapshots::committed_at_ms.eq(committed_at_ms));
    diesel::delete(snapshots::table.find(graph_id)).execute(connection)?;
    diesel::insert_into(snapshots::table)
        .values((snapshots::graph_id.eq(graph_id), row))
        .execute(connection)?;
    Ok(())
}

/// Whether the graph can be loaded from `packed` once the changes before `version` are gone.
fn stands_in(
    connection: &mut AnyConnection,
    head: &Head,
    version: u64,
    packed: Option<&PackedSnapshot>,
) -> QueryResult<bool> {
    if failpoint::is_off("prune-packed") {
        return Ok(true);
    }
    let there = read_snapshots(connection, head.id, head.version)?;
    let is_there = |packed: &PackedSnapshot| packed.version >= version && there.contains(packed);
    Ok(packed.is_some_and(is_there))
}

/// Whether the parts are those of these sizes. What an earlier attempt left beyond them goes.
fn parts_are(
    connection: &mut AnyConnection,
    head: &Head,
    version: u64,
    sizes: &[usize],
) -> Result<bool, CommitError> {
    let of_version =
        snapshot_parts::graph_id.eq(head.id).and(snapshot_parts::version.eq(column(version)));
    let beyond = snapshot_parts::part.ge(column(sizes.len() as u64));
    diesel::delete(snapshot_parts::table.filter(of_version.and(beyond))).execute(connection)?;
    let found: Vec<(i64, i32)> = snapshot_parts::table
        .filter(of_version)
        .order(snapshot_parts::part)
        .select((snapshot_parts::part, octet_length(snapshot_parts::lines)))
        .load(connection)?;
    let expected = (0..).zip(sizes.iter().map(|size| i32::try_from(*size).unwrap_or(i32::MAX)));
    Ok(found.into_iter().eq(expected))
}

/// Some of the oldest changes that were pruned; how many, and `None` if there were none.
fn delete_some_changes(
    connection: &mut AnyConnection,
    name: &Name,
) -> Result<Option<usize>, CommitError> {
    let Some(head) = read_head(connection, name)? else { return Ok(None) };
    let oldest = column(head.oldest);
    let pruned = changes::graph_id.eq(head.id).and(changes::version.lt(oldest));
    let first: Option<i64> =
        changes::table.filter(pruned).select(min(changes::version)).first(connection)?;
    let Some(first) = first else { return Ok(None) };
    let some = changes::version.lt(oldest.min(first + DELETED_CHANGES));
    let gone = changes::table.filter(changes::graph_id.eq(head.id).and(some));
    Ok(Some(diesel::delete(gone).execute(connection)?))
}

/// Some parts of snapshots other than the current one; whether there were any. None of a graph that
/// has a history and no snapshot yet: they may be those of its first.
fn delete_some_parts(
    connection: &mut AnyConnection,
    name: &Name,
    history: &dyn Fn(&Head) -> History,
) -> Result<bool, CommitError> {
    // Or else another snapshot might become the current one meanwhile.
    connection.hold_graph(name.as_str())?;
    let Some(head) = read_head(connection, name)? else { return Ok(false) };
    let current = match read_snapshot_version(connection, head.id)? {
        Some(current) => current,
        None if history(&head) == History::None => -1,
        None => return Ok(false),
    };
    let others = snapshot_parts::graph_id.eq(head.id).and(snapshot_parts::version.ne(current));
    let first: Option<(i64, i64)> = snapshot_parts::table
        .filter(others)
        .order((snapshot_parts::version, snapshot_parts::part))
        .select((snapshot_parts::version, snapshot_parts::part))
        .first(connection)
        .optional()?;
    let Some((version, part)) = first else { return Ok(false) };
    let some = snapshot_parts::graph_id
        .eq(head.id)
        .and(snapshot_parts::version.eq(version))
        .and(snapshot_parts::part.lt(part + DELETED_PARTS));
    diesel::delete(snapshot_parts::table.filter(some)).execute(connection)?;
    Ok(true)
}
