//! An append that compares no version, for the one storage whose log [may break the
//! rules](super::storage::Storage::may_break_rules).
//!
//! What was decided on the version that the graph still has is committed as in every storage, in
//! one call. Otherwise it is given the versions after the one that the graph has by now, while its
//! row is held: so the log is dense and its chain of hashes right, whoever writes at the same time.
//! All else that a write depends on is compared as in every storage: that the graph is open and is
//! the one that was read, how it is kept, and that no key of a request was used.

use diesel::prelude::*;

use super::Store;
use super::commit::{Commit, Entry, StoredAnswer};
use super::commit_error::CommitError;
use super::head::{GraphState, Head, head_of};
use super::storage::Storage;
use super::transaction::{LARGE_CHANGES, log_entries, log_rows, write};
use crate::chain::Chain;
use crate::db::schema::{GraphRow, graphs};
use crate::db::{AnyConnection, RowsWrite, Size, WriteError};

/// Where an append came.
pub struct Appended {
    /// The graph's row before it.
    pub onto: Head,
    /// The chain after it.
    pub chain: Chain,
}

impl Store {
    /// Writes the entries of `commit` after whatever version the graph has, though they were
    /// decided on another. `answers` gives the answers to keep, if the entries come that much later
    /// than they are numbered.
    ///
    /// # Errors
    /// [`CommitError`]; all but [`CommitError::Unknown`] mean that nothing was written.
    ///
    /// # Panics
    /// If the graph is kept in a storage whose log must keep the rules.
    pub fn append(
        &self,
        commit: &Commit<'_>,
        answers: &dyn Fn(u64) -> Vec<StoredAnswer>,
    ) -> Result<Appended, CommitError> {
        let storage = self.storages.of(commit.read)?;
        assert!(storage.may_break_rules(), "the version is compared in every other storage");
        match self.commit(commit) {
            Ok(chain) => return Ok(Appended { onto: commit.read.clone(), chain }),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        let rows = storage.writes(commit);
        let is_large = |entry: &Entry<'_>| entry.change.bytes_above(LARGE_CHANGES).is_some();
        let size = match commit.entries.iter().any(is_large) {
            true => Size::Large,
            false => Size::Usual,
        };
        let mut appended = None;
        let written = self.database.write_sized(size, |connection| {
            let done = append(connection, storage, commit, answers, &rows)?;
            appended = Some(done);
            Ok(())
        });
        match (written, appended) {
            (Ok(()), Some(appended)) => Ok(appended),
            (Err(WriteError::CommitUnknown(lost)), Some(appended)) => {
                self.resolve(&Commit { read: &appended.onto, ..*commit }, lost)?;
                Ok(appended)
            }
            (Err(WriteError::RolledBack(error)), _) => Err(error),
            (Ok(()) | Err(WriteError::CommitUnknown(_)), None) => {
                unreachable!("what is committed was done before")
            }
        }
    }
}

fn append(
    connection: &mut AnyConnection,
    storage: &dyn Storage,
    commit: &Commit<'_>,
    answers: &dyn Fn(u64) -> Vec<StoredAnswer>,
    rows: &[RowsWrite<'_>],
) -> Result<Appended, CommitError> {
    let read = commit.read;
    connection.hold_graph(read.name.as_str())?;
    let now = graphs::table.find(read.id).select(GraphRow::as_select()).first(connection);
    let Some(now) = now.optional()? else { return Err(CommitError::Gone { id: read.id }) };
    let now = head_of(now)?;
    let is_it = (now.uuid, now.state, now.storage) == (read.uuid, GraphState::Open, read.storage);
    // A version that is behind is that of a backup.
    if !is_it || now.version < read.version {
        return Err(CommitError::refused(commit, now, None));
    }
    let later = now.version - read.version;
    let mut entries = commit.entries.to_vec();
    entries.iter_mut().for_each(|entry| entry.version += later);
    let answers = answers(later);
    let commit = Commit { read: &now, entries: &entries, answers: &answers, ..*commit };
    let logged = log_entries(&commit);
    write(connection, storage, &commit, &log_rows(&commit, &logged), rows)?;
    let chain = logged.last().map_or(now.chain, |entry| entry.chain);
    Ok(Appended { onto: now, chain })
}
