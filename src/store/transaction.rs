//! The one transaction by which a graph moves on: its first statement is conditional, and all else
//! that the transaction does depends on it.

use diesel::prelude::*;

use super::Store;
use super::answers::{keep_answers, read_answers};
use super::commit::{Commit, Entry, Fence};
use super::error::{CommitError, StoreError};
use super::head::{GraphState, column, read_head_by_id};
use super::storage::Storage;
use crate::chain::Chain;
use crate::db::schema::{ChangeRow, changes};
use crate::db::{AnyConnection, DbError, RowsWrite, Size, Value, WriteError};
use crate::failpoint;

impl Store {
    /// Writes, if the version that was read still stands and no larger token was seen. The whole or
    /// nothing. Returns the new chain.
    ///
    /// # Errors
    /// [`CommitError`]; all but [`CommitError::Unknown`] mean that nothing was written.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<Chain, CommitError> {
        // All is written out before the transaction begins, to hold the row no longer than need be.
        let log = log_rows(commit);
        let rows = self.storage.writes(commit);
        let large = commit.deletes_graph
            || rows.iter().any(|write| write.size() == Size::Large)
            || log.iter().map(|row| row.change.len()).sum::<usize>() > LARGE_CHANGES;
        let size = if large { Size::Large } else { Size::Usual };
        let written = self
            .database
            .write_sized(size, |connection| write(connection, &*self.storage, commit, &log, &rows));
        match written {
            Ok(()) => {}
            Err(WriteError::RolledBack(error)) => return Err(error),
            Err(WriteError::CommitUnknown(error)) => self.resolve(commit, error)?,
        }
        Ok(log.last().map_or(commit.read.chain, |row| row.chain))
    }

    /// Looks for the attempt's row, since the answer to its COMMIT was lost.
    fn resolve(&self, commit: &Commit<'_>, lost: DbError) -> Result<(), CommitError> {
        let unknown = |reason: String| CommitError::Unknown {
            attempt: format!("attempt {}", commit.attempt),
            reason,
        };
        if commit.entries.is_empty() {
            return match self.finds_answers_of(commit) {
                Ok(true) => Ok(()),
                Ok(false) => Err(CommitError::Unavailable(lost.into())),
                Err(error) => Err(unknown(format!("{lost}; then {error}"))),
            };
        }
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
                if oldest > commit.read.version + 1 && !failpoint::is_off("pruned-attempt") =>
            {
                Err(unknown(format!(
                    "{lost}; the change log was pruned since, up to version {oldest}"
                )))
            }
            Ok((None, _)) => Err(CommitError::Unavailable(lost.into())),
            Err(error) => Err(unknown(format!("{lost}; then {error}"))),
        }
    }

    /// Whether the answers of a write that changed nothing else are kept. One transaction kept all
    /// of them or none. Where another node kept the same answer to the same request, that is what
    /// is answered to it, whichever of the two was first.
    fn finds_answers_of(&self, commit: &Commit<'_>) -> Result<bool, StoreError> {
        let keys: Vec<&str> = commit.answers.iter().map(|answer| answer.key.as_str()).collect();
        // The server may still be at it: whoever has the row then is waited for.
        let kept = self.database.read_held(commit.read.name.as_str(), |connection| {
            Ok::<_, StoreError>(read_answers(connection, commit.read.id, &keys)?)
        })?;
        Ok(commit.answers.iter().all(|answer| kept.contains(answer)))
    }
}

/// Bytes of changes beyond which a commit is as much as a whole graph.
const LARGE_CHANGES: usize = 4 << 20;

/// A change as the log tells it.
struct LogRow {
    change: String,
    chain: Chain,
}

fn log_rows(commit: &Commit<'_>) -> Vec<LogRow> {
    let mut chain = commit.read.chain;
    let row = |entry: &Entry<'_>| {
        let change = entry.change.canonical_json(entry.version);
        chain = chain.next(&change);
        LogRow { change, chain }
    };
    commit.entries.iter().map(row).collect()
}

fn write(
    connection: &mut AnyConnection,
    storage: &dyn Storage,
    commit: &Commit<'_>,
    log: &[LogRow],
    rows: &[RowsWrite<'_>],
) -> Result<(), CommitError> {
    let graph_id = commit.read.id;
    failpoint::pass("before-conditional-update");
    conditional_update(connection, commit, log.last().map_or(commit.read.chain, |row| row.chain))?;
    failpoint::pass("after-conditional-update");

    if commit.deletes_graph {
        storage.clear(connection, graph_id)?;
    }
    for write in rows {
        connection.write_rows(graph_id, write)?;
    }
    let token = match commit.fence {
        Fence::Token(token) => token,
        Fence::Unfenced => commit.read.fence,
    };
    let rows = commit.entries.iter().zip(log).map(|(entry, row)| ChangeRow {
        graph_id,
        version: column(entry.version),
        change: &row.change,
        chain: &row.chain.0,
        attempt: commit.attempt,
        token,
        committed_at_ms: None,
        actor: entry.actor,
    });
    connection.insert_changes(&rows.collect::<Vec<_>>())?;
    keep_answers(connection, graph_id, commit.answers)
}

/// The first statement of the transaction: it holds the row, or the write does not happen. The
/// version comparison keeps the rules; the fence makes a stale holder known as such.
fn conditional_update(
    connection: &mut AnyConnection,
    commit: &Commit<'_>,
    chain: Chain,
) -> Result<(), CommitError> {
    let read = commit.read;
    let version = read.version + commit.entries.len() as u64;
    let state = if commit.deletes_graph { GraphState::Deleted } else { GraphState::Open };
    let values = [
        Value::Integer(column(version)),
        Value::Bytes(&chain.0),
        Value::Text(state.column()),
        Value::Integer(read.id),
        Value::Integer(column(read.version)),
    ];
    let changed = match commit.fence {
        Fence::Unfenced => connection.run(unfenced_update(), &values),
        Fence::Token(token) => {
            let [version, chain, state, id, read] = values;
            let (set, compared) = (Value::Integer(token), Value::Integer(token));
            connection.run(fenced_update(), &[version, chain, state, set, id, read, compared])
        }
    }?;
    if changed == 1 {
        return Ok(());
    }
    let now = read_head_by_id(connection, read.id)?;
    Err(match (now.state, commit.fence) {
        (GraphState::Frozen, _) => CommitError::Frozen { moved_to: now.moved_to },
        (GraphState::Deleted, _) => CommitError::Deleted,
        (GraphState::Open, Fence::Token(token)) if now.fence > token => {
            CommitError::Fenced { token, fence: now.fence }
        }
        (GraphState::Open, _) if now.version == read.version => CommitError::Thawed,
        (GraphState::Open, _) => {
            CommitError::Conflict { expected: read.version, actual: now.version }
        }
    })
}

/// The conditional update that sets and compares this as well. The conditions take the version that
/// was read and, in a fenced write, the token.
macro_rules! update {
    ($set:literal, $conditions:literal) => {
        concat!(
            "UPDATE graphs SET version = ?, chain = ?, state = ?",
            $set,
            " WHERE id = ? AND state = 'open' AND ",
            $conditions
        )
    };
}

const FENCED_UPDATE: &str = update!(", fence = ?", "version = ? AND fence <= ?");
const UNFENCED_UPDATE: &str = update!("", "version = ?");

#[cfg(not(feature = "failpoints"))]
fn fenced_update() -> &'static str {
    FENCED_UPDATE
}

#[cfg(not(feature = "failpoints"))]
fn unfenced_update() -> &'static str {
    UNFENCED_UPDATE
}

/// In builds for tests each comparison can be switched off, to show that its test then fails. A
/// condition that is off holds for every value.
#[cfg(feature = "failpoints")]
fn fenced_update() -> &'static str {
    match (failpoint::is_off("version-comparison"), failpoint::is_off("fence-comparison")) {
        (false, false) => FENCED_UPDATE,
        (true, false) => update!(", fence = ?", "? >= 0 AND fence <= ?"),
        (false, true) => update!(", fence = ?", "version = ? AND ? >= 0"),
        (true, true) => update!(", fence = ?", "? >= 0 AND ? >= 0"),
    }
}

#[cfg(feature = "failpoints")]
fn unfenced_update() -> &'static str {
    if failpoint::is_off("version-comparison") { update!("", "? >= 0") } else { UNFENCED_UPDATE }
}
