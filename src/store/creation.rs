//! Creating a graph, or creating it again.

use diesel::prelude::*;
use uuid::Uuid;

use super::Store;
use super::answers::{keep_answers, read_answers};
use super::commit::StoredAnswer;
use super::commit_error::{CommitError, repeatable};
use super::error::StoreError;
use super::head::{GraphState, Head, read_head};
use super::packed::insert_empty;
use super::snapshots::forget_history;
use super::storage::{History, SnapshotUse};
use super::storage_kind::StorageKind;
use crate::chain::Chain;
use crate::db::schema::graphs;
use crate::db::{AnyConnection, DbError, Value, WriteError};
use crate::graph::{Name, Precondition};

/// A key, and what makes the answer to store under it from the graph's row and whether the graph
/// was not there.
pub type AnswerToStore<'k> = (&'k str, &'k dyn Fn(&Head, bool) -> StoredAnswer);

/// The outcome of creating a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is there.
    There {
        /// Its row.
        head: Head,
        /// Whether it was not there before.
        created: bool,
    },
    /// The precondition does not hold.
    NotAsExpected {
        /// What was asked for.
        expected: Precondition,
        /// The version that it has; `None`: it is not there.
        actual: Option<u64>,
        /// The version that its row has, which a deleted graph keeps; 0 if there never was one.
        version: u64,
    },
    /// It is there, and in none of the storages that were asked for; or it was deleted, and its
    /// log can go on in none of them. Nothing was written.
    OtherStorage {
        /// Its row.
        head: Head,
    },
    /// The key has been used: this is what was answered, if for the same request.
    Answered(StoredAnswer),
}

impl Store {
    /// Creates the graph, also one that was deleted, unless `precondition` forbids it. A new graph
    /// gets the first of `storages`, one that was deleted the first in which its log can continue;
    /// one that exists must have one of them. With `to_store`, returns the answer that is stored
    /// under that key, if there is one, and otherwise stores what `to_store` makes of the outcome.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub fn create_graph(
        &self,
        name: &Name,
        storages: &[StorageKind],
        precondition: Option<Precondition>,
        to_store: Option<AnswerToStore<'_>>,
    ) -> Result<Creation, CommitError> {
        let first = *storages.first().expect("there is a storage for a new graph");
        let mut made = None;
        let written = self.database.write(|connection| {
            // Again if another process makes the same graph at the same time.
            loop {
                connection.hold_graph(name.as_str())?;
                let found = read_head(connection, name)?;
                if let (Some(head), Some((key, _))) = (&found, to_store)
                    && let Some(stored) = read_answers(connection, head.id, &[key])?.pop()
                {
                    return Ok(Creation::Answered(stored));
                }
                let there = found.as_ref().filter(|head| head.state != GraphState::Deleted);
                if let Some(head) = there.filter(|head| !storages.contains(&head.storage)) {
                    return Ok(Creation::OtherStorage { head: head.clone() });
                }
                let storage = match &found {
                    Some(head) if head.state == GraphState::Deleted => {
                        let mut fitting =
                            storages.iter().filter(|one| self.goes_on_in(head, **one));
                        let Some(storage) = fitting.next() else {
                            return Ok(Creation::OtherStorage { head: head.clone() });
                        };
                        *storage
                    }
                    _ => first,
                };
                let actual = there.map(|head| head.version);
                if let Some(expected) = &precondition
                    && !expected.holds(actual)
                {
                    let version = found.as_ref().map_or(0, |head| head.version);
                    let expected = expected.clone();
                    return Ok(Creation::NotAsExpected { expected, actual, version });
                }
                let created = match &found {
                    Some(head) if head.state != GraphState::Deleted => false,
                    Some(head) => {
                        diesel::update(graphs::table.find(head.id))
                            .set((
                                graphs::state.eq(GraphState::Open.column()),
                                graphs::storage.eq(storage.word()),
                                graphs::known_version.eq(graphs::version.nullable()),
                            ))
                            .execute(connection)?;
                        if self.history(storage) == History::None {
                            forget_history(connection, head)?;
                        }
                        let begins_with_one = self.snapshot_use(storage) == SnapshotUse::Beginning;
                        if begins_with_one && head.oldest > 1 {
                            insert_empty(connection, head)?;
                        }
                        true
                    }
                    None if insert_graph(connection, name, storage)? => true,
                    None => continue,
                };
                let head = read_head(connection, name)?
                    .ok_or_else(|| StoreError::RowDisappeared(name.clone()))?;
                let answer = to_store.map(|(_, answer)| answer(&head, created));
                keep_answers(connection, head.id, answer.as_slice(), None)?;
                let is_again = created && found.is_some();
                made = Some(Made { head: head.clone(), created, is_again, answer });
                return Ok::<_, CommitError>(Creation::There { head, created });
            }
        });
        let made = match (written, made) {
            (Err(WriteError::CommitUnknown(lost)), Some(made)) => {
                self.find_made(&made, lost)?;
                made
            }
            (Ok(Creation::There { .. }), Some(made)) => made,
            (written, _) => return written.map_err(repeatable),
        };
        if made.is_again
            && self.history(made.head.storage) == History::None
            && let Err(error) = self.delete_parts(name)
        {
            log::warn!("graph `{name}`: parts of its former snapshot are left: {error}");
        }
        Ok(Creation::There { head: made.head, created: made.created })
    }

    /// Whether the log of a deleted graph can continue in that storage. A graph without a history
    /// cannot get one, since the beginning of its log would be missing.
    fn goes_on_in(&self, head: &Head, storage: StorageKind) -> bool {
        // What may break the rules and what may not are kept apart.
        if self.may_break_rules(head.storage) != self.may_break_rules(storage) {
            return false;
        }
        match (self.history(head.storage), self.history(storage)) {
            (_, History::None) => true,
            (History::None, _) => false,
            // Of what was pruned, a snapshot of the empty graph takes the place where it is needed.
            (History::Whole | History::Beside, History::Whole | History::Beside) => true,
        }
    }

    /// Checks whether the graph was created, after the answer to COMMIT was lost.
    fn find_made(&self, made: &Made, lost: DbError) -> Result<(), CommitError> {
        let name = &made.head.name;
        // The server may still be working on it. So this waits for whoever holds the row or, if it
        // is new, inserts it. What is inserted here is rolled back.
        let found = self.database.read_held(name.as_str(), |connection| {
            if insert_graph(connection, name, made.head.storage)? {
                return Ok(None);
            }
            let Some(head) = read_head(connection, name)? else { return Ok(None) };
            let keys: Vec<&str> = made.answer.iter().map(|answer| answer.key.as_str()).collect();
            let answers = read_answers(connection, head.id, &keys)?;
            Ok::<_, StoreError>(Some((head, answers)))
        });
        let unknown = |reason: String| CommitError::Unknown {
            attempt: format!("creating graph `{name}`"),
            reason,
        };
        let not_made = match found {
            Ok(None) => true,
            Ok(Some((now, answers))) => match &made.answer {
                Some(answer) => !answers.contains(answer),
                None if !made.is_again => now.uuid != made.head.uuid,
                // Its row and its UUID are as old as the graph.
                None if now.state == GraphState::Deleted && now.version == made.head.version => {
                    true
                }
                None => {
                    return Err(unknown(format!("{lost}; it may be another request that made it")));
                }
            },
            Err(error) => return Err(unknown(format!("{lost}; then {error}"))),
        };
        if not_made { Err(CommitError::Unavailable(lost.into())) } else { Ok(()) }
    }
}

/// A graph that is to be there when its transaction is committed.
struct Made {
    head: Head,
    /// Whether it was not there before.
    created: bool,
    /// Whether it had been deleted before.
    is_again: bool,
    /// What is stored for whoever asks again.
    answer: Option<StoredAnswer>,
}

/// Makes the graph's row, open and empty, to be stored in `storage`, unless there is one of that
/// name; whether it did. On Postgres another process may be doing the same: then this waits for
/// what becomes of that.
pub(super) fn insert_graph(
    connection: &mut AnyConnection,
    name: &Name,
    storage: StorageKind,
) -> QueryResult<bool> {
    let inserted = connection.run(
        "INSERT INTO graphs (name, state, version, fence, epoch, lock_incarnation, chain, uuid, \
         storage, known_version) VALUES (?, ?, 0, 0, 0, '', ?, ?, ?, 0) \
         ON CONFLICT (name) DO NOTHING",
        &[
            Value::Text(name.as_str()),
            Value::Text(GraphState::Open.column()),
            Value::Bytes(&Chain::START.0),
            Value::Text(&Uuid::new_v4().to_string()),
            Value::Text(storage.word()),
        ],
    )?;
    Ok(inserted == 1)
}
