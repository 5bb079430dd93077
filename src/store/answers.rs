//! Answers stored under idempotency keys: looked up, stored in the transaction of what they answer,
//! and deleted when they are old, a few of one graph at a time. How old they are, the database
//! says.

use std::time::Duration;

use super::Store;
use super::commit::StoredAnswer;
use super::commit_error::{CommitError, repeatable};
use super::error::StoreError;
use crate::db::{AnswerRow, AnyConnection, ServerState};
use diesel::QueryResult;

/// How long an answer is given again.
pub const ANSWER_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) const ANSWER_RETENTION_MS: i64 = ANSWER_RETENTION.as_millis() as i64;

/// Old keys of a graph that were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// The graph's row id.
    pub graph_id: i64,
    /// How many keys; fewer than asked for when the graph has no more, or somebody else is at them.
    pub keys: usize,
}

pub(super) fn read_answers(
    connection: &mut AnyConnection,
    graph_id: i64,
    keys: &[&str],
) -> QueryResult<Vec<StoredAnswer>> {
    find_answers(connection, graph_id, keys).map(|(_, answers)| answers)
}

/// As [`read_answers`], with what the server tells of itself.
pub(super) fn find_answers(
    connection: &mut AnyConnection,
    graph_id: i64,
    keys: &[&str],
) -> QueryResult<(Option<ServerState>, Vec<StoredAnswer>)> {
    let (told, rows) = connection.stored_answers(graph_id, keys, ANSWER_RETENTION_MS)?;
    Ok((told, rows.into_iter().map(StoredAnswer::from).collect()))
}

impl From<AnswerRow> for StoredAnswer {
    fn from(AnswerRow { key, fingerprint, answer }: AnswerRow) -> Self {
        Self { key, fingerprint, answer }
    }
}

impl StoredAnswer {
    pub(super) fn columns(&self) -> [&str; 3] {
        [&self.key, &self.fingerprint, &self.answer]
    }
}

/// Stores all of them for `attempt`, in place of any that are too old to be given again.
///
/// # Errors
/// [`CommitError::KeyTaken`] if another answer is stored under one of the keys.
pub(super) fn keep_answers(
    connection: &mut AnyConnection,
    graph_id: i64,
    answers: &[StoredAnswer],
    attempt: Option<&str>,
) -> Result<(), CommitError> {
    if answers.is_empty() {
        return Ok(());
    }
    let rows: Vec<[&str; 3]> = answers.iter().map(StoredAnswer::columns).collect();
    let stored = connection.store_answers(graph_id, &rows, attempt, ANSWER_RETENTION_MS)?;
    if stored == answers.len() { Ok(()) } else { Err(CommitError::KeyTaken { kept: Vec::new() }) }
}

impl Store {
    /// The answers stored under `keys` for no longer than [`ANSWER_RETENTION`].
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn stored_answers(
        &self,
        graph_id: i64,
        keys: &[&str],
    ) -> Result<Vec<StoredAnswer>, StoreError> {
        Ok(self.database.learn(|connection| find_answers(connection, graph_id, keys))?)
    }

    /// Deletes at most `most` of the keys that are older than [`ANSWER_RETENTION`], all of one
    /// graph: the first after the row id `after` that has any. `None` if no graph after it has.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done; it may be tried again.
    pub fn purge_answers(&self, after: i64, most: usize) -> Result<Option<Purged>, CommitError> {
        let next = self
            .database
            .ask(|connection| connection.next_graph_with_old_keys(after, ANSWER_RETENTION_MS))?;
        let Some(graph_id) = next else { return Ok(None) };
        let deleted = self.database.write(|connection| {
            Ok::<_, CommitError>(connection.delete_old_keys(graph_id, ANSWER_RETENTION_MS, most)?)
        });
        Ok(Some(Purged { graph_id, keys: deleted.map_err(repeatable)? }))
    }
}
