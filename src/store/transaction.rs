//! The conditional write: one transaction, whose first statement is conditional. Everything else
//! that the transaction does depends on that statement. On a server a commit of usual size is one
//! [call](super::call), which does the same there.

use diesel::prelude::*;

use super::Store;
use super::answers::{keep_answers, read_answers};
use super::commit::{Commit, Entry, Fence};
use super::commit_error::CommitError;
use super::error::StoreError;
use super::head::{GraphState, column, head_of, read_head_by_id};
use super::storage::{History, Storage};
use crate::chain::Chain;
use crate::db::schema::{ChangeRow, GraphRow, changes, graphs, idempotency_keys};
use crate::db::{AnyConnection, DbError, RowsWrite, Size, Value, WriteError};
use crate::failpoint;

impl Store {
    /// Writes, if the version that was read still stands and no larger token was seen. The whole or
    /// nothing. Returns the new chain.
    ///
    /// # Errors
    /// [`CommitError`]; all but [`CommitError::Unknown`] mean that nothing was written.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<Chain, CommitError> {
        // Everything is prepared before the graph's row is locked, so that it is not locked longer
        // than necessary.
        let storage = self.storages.of(commit.read)?;
        let entries = match storage.history() {
            History::None => attempt_entries(commit),
            History::Beside | History::Whole => log_entries(commit),
        };
        let log = log_rows(commit, &entries);
        let rows = storage.writes(commit);
        let large = commit.deletes_graph
            || rows.iter().any(|write| write.size() == Size::Large)
            || log.iter().map(|row| row.change.len()).sum::<usize>() > LARGE_CHANGES;
        if self.database.is_server() && !large && !must_be_statements() {
            self.commit_by_call(commit, &log, &rows)?;
        } else {
            let size = if large { Size::Large } else { Size::Usual };
            let written = self
                .database
                .write_sized(size, |connection| write(connection, storage, commit, &log, &rows));
            match written {
                Ok(()) => {}
                Err(WriteError::RolledBack(error)) => return Err(error),
                Err(WriteError::CommitUnknown(error)) => self.resolve(commit, error)?,
            }
        }
        Ok(entries.last().map_or(commit.read.chain, |entry| entry.chain))
    }

    /// Looks for the attempt's row, since the answer to its COMMIT was lost.
    pub(super) fn resolve(&self, commit: &Commit<'_>, lost: DbError) -> Result<(), CommitError> {
        let unknown = |reason: String| CommitError::outcome_unknown(commit, reason);
        if commit.entries.is_empty() {
            return match self.finds_answers_of(commit) {
                Ok(true) => Ok(()),
                Ok(false) => Err(CommitError::Unavailable(lost.into())),
                Err(error) => Err(unknown(format!("{lost}; then {error}"))),
            };
        }
        // Attempts that stand in a log of their own are not pruned.
        let log_is_pruned = self.history(commit.read.storage) != History::None;
        // The server may still be at it: whoever has the row then is waited for.
        let found = self.database.read_held(commit.read.name.as_str(), |connection| {
            let attempts = changes::table
                .filter(changes::graph_id.eq(commit.read.id))
                .filter(changes::version.gt(column(commit.read.version)))
                .filter(changes::attempt.eq(commit.attempt));
            let found: Option<i64> =
                attempts.select(changes::version).first(connection).optional()?;
            Ok::<_, StoreError>((found, read_head_by_id(connection, commit.read.id)?.oldest))
        });
        match found {
            Ok((Some(_), _)) => Ok(()),
            // The log rows in which the attempt would be found were pruned.
            Ok((None, oldest))
                if oldest > commit.read.version + 1
                    && log_is_pruned
                    && !failpoint::is_off("pruned-attempt") =>
            {
                Err(unknown(format!(
                    "{lost}; the change log was pruned since, up to version {oldest}"
                )))
            }
            Ok((None, _)) => Err(CommitError::Unavailable(lost.into())),
            Err(error) => Err(unknown(format!("{lost}; then {error}"))),
        }
    }

    /// Whether this attempt kept the answers of a write that changed nothing else. One transaction
    /// kept all of them or none.
    fn finds_answers_of(&self, commit: &Commit<'_>) -> Result<bool, StoreError> {
        // The server may still be at it: whoever has the row then is waited for.
        let kept: i64 = self.database.read_held(commit.read.name.as_str(), |connection| {
            let of_attempt = idempotency_keys::table
                .filter(idempotency_keys::graph_id.eq(commit.read.id))
                .filter(idempotency_keys::key.eq_any(commit.keys))
                .filter(idempotency_keys::attempt.eq(commit.attempt));
            Ok::<_, StoreError>(of_attempt.count().get_result(connection)?)
        })?;
        Ok(kept as usize == commit.answers.len())
    }
}

/// Tests hold a commit still between its statements, or take a guard out of one.
fn must_be_statements() -> bool {
    failpoint::is_armed("after-conditional-update")
        || [
            "one-call",
            "version-comparison",
            "fence-comparison",
            "leader-comparison",
            "storage-comparison",
        ]
        .into_iter()
        .any(failpoint::is_off)
}

/// Bytes of changes beyond which a commit is as much as a whole graph.
pub(super) const LARGE_CHANGES: usize = 4 << 20;

/// A change as the log tells it.
pub(super) struct LogEntry {
    change: String,
    pub(super) chain: Chain,
}

pub(super) fn log_entries(commit: &Commit<'_>) -> Vec<LogEntry> {
    let mut chain = commit.read.chain;
    let entry = |entry: &Entry<'_>| {
        let change = entry.change.canonical_json(entry.version);
        chain = chain.next(&change);
        LogEntry { change, chain }
    };
    commit.entries.iter().map(entry).collect()
}

/// What a log without changes has for each version: that this attempt made it.
fn attempt_entries(commit: &Commit<'_>) -> Vec<LogEntry> {
    // A number that no other attempt has: what tells two histories apart.
    let chain = Chain::START.next(commit.attempt);
    commit.entries.iter().map(|_| LogEntry { change: String::new(), chain }).collect()
}

pub(super) fn log_rows<'c>(commit: &Commit<'c>, entries: &'c [LogEntry]) -> Vec<ChangeRow<'c>> {
    let token = commit.fence.token().unwrap_or(commit.read.fence);
    let row = |(entry, logged): (&Entry<'c>, &'c LogEntry)| ChangeRow {
        graph_id: commit.read.id,
        version: column(entry.version),
        change: &logged.change,
        chain: &logged.chain.0,
        attempt: commit.attempt,
        token,
        committed_at_ms: None,
        actor: entry.actor,
        request: entry.request,
    };
    commit.entries.iter().zip(entries).map(row).collect()
}

pub(super) fn write(
    connection: &mut AnyConnection,
    storage: &dyn Storage,
    commit: &Commit<'_>,
    log: &[ChangeRow<'_>],
    rows: &[RowsWrite<'_>],
) -> Result<(), CommitError> {
    let graph_id = commit.read.id;
    failpoint::pass("before-conditional-update");
    conditional_update(
        connection,
        commit,
        log.last().map_or(&commit.read.chain.0, |row| row.chain),
    )?;
    failpoint::pass("after-conditional-update");

    if !commit.keys.is_empty() && !failpoint::is_off("kept-keys") {
        let kept = read_answers(connection, graph_id, commit.keys)?;
        if !kept.is_empty() {
            return Err(CommitError::KeyTaken { kept });
        }
    }
    if commit.deletes_graph {
        storage.clear(connection, graph_id)?;
    }
    for write in rows {
        connection.write_rows(graph_id, write)?;
    }
    connection.insert_changes(log)?;
    keep_answers(connection, graph_id, commit.answers, Some(commit.attempt))
}

/// The first statement of the transaction: it holds the row, or the write does not happen. The
/// version comparison keeps the rules; the fence makes a stale holder known as such.
fn conditional_update(
    connection: &mut AnyConnection,
    commit: &Commit<'_>,
    chain: &[u8],
) -> Result<(), CommitError> {
    let read = commit.read;
    let version = read.version + commit.entries.len() as u64;
    let state = if commit.deletes_graph { GraphState::Deleted } else { GraphState::Open };
    let uuid = read.uuid.to_string();
    let storage = match failpoint::is_off("storage-comparison") {
        true => read_head_by_id(connection, read.id)?.storage,
        false => read.storage,
    };
    let values = [
        Value::Integer(column(version)),
        // Whoever knows no storage but rows does not set it, and is refused.
        Value::Integer(column(version)),
        Value::Bytes(chain),
        Value::Text(state.column()),
        // There is nothing to read of a log that holds attempts only.
        Value::Integer(column(version + 1)),
        Value::Integer(read.id),
        Value::Text(&uuid),
        Value::Text(storage.word()),
        Value::Integer(column(read.version)),
        Value::Bytes(&read.chain.0),
    ];
    let changed = match commit.fence {
        Fence::Unfenced => connection.run(unfenced_update(), &values),
        Fence::Leader(token) => {
            connection.run(leader_update(), &[&values[..], &[Value::Integer(token)]].concat())
        }
        Fence::Token(token) => {
            let [version, known, chain, state, oldest, id, uuid, storage, of_version, of_chain] =
                values;
            let token = Value::Integer(token);
            let values = [
                version, known, chain, state, oldest, token, id, uuid, storage, of_version,
                of_chain, token,
            ];
            connection.run(fenced_update(), &values)
        }
    }?;
    if changed == 1 {
        return Ok(());
    }
    let now =
        graphs::table.find(read.id).select(GraphRow::as_select()).first(connection).optional()?;
    let Some(now) = now else { return Err(CommitError::Gone { id: read.id }) };
    Err(CommitError::refused(commit, head_of(now)?, None))
}

/// The conditional update that sets and compares this as well. The conditions take the version and
/// the chain that were read and, in a fenced write, the token.
macro_rules! update {
    ($set:literal, $conditions:literal) => {
        concat!(
            "UPDATE graphs SET version = ?, known_version = ?, chain = ?, state = ?, \
             oldest = CASE storage WHEN 'rows_plain' THEN ? ELSE oldest END",
            $set,
            " WHERE id = ? AND uuid = ? AND storage = ? AND state = 'open' AND ",
            $conditions
        )
    };
}

const FENCED_UPDATE: &str = update!(", fence = ?", "version = ? AND chain = ? AND fence <= ?");
const UNFENCED_UPDATE: &str = update!("", "version = ? AND chain = ?");
const LEADER_UPDATE: &str = update!("", "version = ? AND chain = ? AND leader_token = ?");

#[cfg(not(feature = "failpoints"))]
fn fenced_update() -> &'static str {
    FENCED_UPDATE
}

#[cfg(not(feature = "failpoints"))]
fn unfenced_update() -> &'static str {
    UNFENCED_UPDATE
}

#[cfg(not(feature = "failpoints"))]
fn leader_update() -> &'static str {
    LEADER_UPDATE
}

/// In builds for tests each comparison can be switched off, to show that its test then fails. A
/// condition that is off holds for every value.
#[cfg(feature = "failpoints")]
fn fenced_update() -> &'static str {
    match (failpoint::is_off("version-comparison"), failpoint::is_off("fence-comparison")) {
        (false, false) => FENCED_UPDATE,
        (true, false) => update!(", fence = ?", "? >= 0 AND length(?) > 0 AND fence <= ?"),
        (false, true) => update!(", fence = ?", "version = ? AND chain = ? AND ? >= 0"),
        (true, true) => update!(", fence = ?", "? >= 0 AND length(?) > 0 AND ? >= 0"),
    }
}

#[cfg(feature = "failpoints")]
fn unfenced_update() -> &'static str {
    if failpoint::is_off("version-comparison") {
        update!("", "? >= 0 AND length(?) > 0")
    } else {
        UNFENCED_UPDATE
    }
}

#[cfg(feature = "failpoints")]
fn leader_update() -> &'static str {
    match (failpoint::is_off("version-comparison"), failpoint::is_off("leader-comparison")) {
        (false, false) => LEADER_UPDATE,
        (true, false) => update!("", "? >= 0 AND length(?) > 0 AND leader_token = ?"),
        (false, true) => update!("", "version = ? AND chain = ? AND ? >= 0"),
        (true, true) => update!("", "? >= 0 AND length(?) > 0 AND ? >= 0"),
    }
}
