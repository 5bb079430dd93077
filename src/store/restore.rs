//! A graph that comes from elsewhere: all its rows, its log and its snapshot, in one transaction,
//! into a graph that was never written.

use diesel::prelude::*;
use uuid::Uuid;

use super::Store;
use super::commit_error::CommitError;
use super::consumers::{Consumer, forget_consumers, read_behind};
use super::creation::insert_graph;
use super::error::StoreError;
use super::head::{GraphState, Head, column, read_head};
use super::snapshots;
use super::storage::{History, Storage};
use super::storage_kind::StorageKind;
use crate::chain::{Chain, LoggedChange};
use crate::db::schema::{ChangeRow, graphs};
use crate::db::{AnyConnection, DbError, Size, Value, WriteError};
use crate::graph::{Graph, Name};

/// What a graph's row becomes.
#[derive(Debug, Clone)]
pub struct Target<'t> {
    /// Which graph; made if it is not there.
    pub name: &'t Name,
    /// What its history is called where it comes from. Taken over, unless another graph of this
    /// database has it.
    pub uuid: Uuid,
    /// Its version.
    pub version: u64,
    /// The chain at that version.
    pub chain: Chain,
    /// The oldest change that the log will have, or the next one.
    pub oldest: u64,
    /// Whether its last change deleted it.
    pub deleted: bool,
    /// How it will be stored.
    pub storage: StorageKind,
}

/// The outcome of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// It is there, and has this UUID.
    As(Uuid),
    /// Nothing was written: the graph was written before, deleted or frozen. This is its row.
    InTheWay(Box<Head>),
    /// Nothing was written: this consumer of the empty graph, the furthest behind, waits for its
    /// first changes, which the log does not have.
    NeededBy(Box<Consumer>),
}

/// A graph that is being written.
pub struct Restoration<'c> {
    connection: &'c mut AnyConnection,
    storage: &'c dyn Storage,
    graph_id: i64,
    uuid: Uuid,
}

impl Store {
    /// Makes an empty graph what `target` says, and has `fill` write all else. One transaction: the
    /// whole or nothing, and on SQLite no other write meanwhile. `fill` must not pause for longer
    /// than a server lets a transaction stand still.
    ///
    /// # Errors
    /// What `fill` gives, or [`CommitError`]; all but [`CommitError::Unknown`] mean that nothing
    /// was written.
    pub fn restore<E: From<DbError> + From<CommitError>>(
        &self,
        target: &Target<'_>,
        fill: impl FnOnce(&mut Restoration<'_>) -> Result<(), E>,
    ) -> Result<Restored, E> {
        let mut uuid = target.uuid;
        let storage = self.storages.of_kind(target.storage);
        let unknown = || CommitError::from(StoreError::UnknownStorage(target.name.clone()));
        let storage = storage.ok_or_else(unknown)?;
        let written = self.database.write_sized(Size::Large, |connection| {
            let begun = begin(connection, target).map_err(E::from)?;
            let mut restoration = match begun {
                Ok((graph_id, chosen)) => {
                    Restoration { connection, storage, graph_id, uuid: chosen }
                }
                Err(refused) => return Ok(refused),
            };
            uuid = restoration.uuid;
            fill(&mut restoration)?;
            Ok(Restored::As(uuid))
        });
        written.or_else(|error| match error {
            WriteError::RolledBack(error) => Err(error),
            WriteError::CommitUnknown(lost) => {
                self.find_restored(target, uuid, lost).map_err(E::from)
            }
        })
    }

    /// Looks whether the graph is there, since the answer to COMMIT was lost.
    fn find_restored(
        &self,
        target: &Target<'_>,
        uuid: Uuid,
        lost: DbError,
    ) -> Result<Restored, CommitError> {
        let found = self
            .database
            .read_held(target.name.as_str(), |connection| read_head(connection, target.name));
        let unknown = |reason: String| CommitError::Unknown {
            attempt: format!("restoring `{}`", target.name),
            reason,
        };
        match found {
            Ok(Some(head)) if head.chain == target.chain && head.uuid == uuid => {
                Ok(Restored::As(uuid))
            }
            Ok(None) => Err(CommitError::Unavailable(lost.into())),
            Ok(Some(head)) if head.version == 0 => Err(CommitError::Unavailable(lost.into())),
            Ok(Some(_)) => Err(unknown(lost.to_string())),
            Err(error) => Err(unknown(format!("{lost}; then {error}"))),
        }
    }

    /// The graph's row if it prevents a restore: it was written, deleted or frozen. `None` if the
    /// name is free.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn head_unless_free(&self, name: &Name) -> Result<Option<Head>, StoreError> {
        Ok(self.head(name)?.filter(|head| head.version > 0 || head.state != GraphState::Open))
    }
}

/// The graph's id and UUID, or what is in the way. Nothing is written before the conditional update
/// but an empty graph.
fn begin(
    connection: &mut AnyConnection,
    target: &Target<'_>,
) -> Result<Result<(i64, Uuid), Restored>, CommitError> {
    let wanted = target.uuid.to_string();
    // Whoever restores the same log under another name at the same time waits here.
    connection.hold_text(&wanted)?;
    insert_graph(connection, target.name, target.storage)?;
    connection.hold_graph(target.name.as_str())?;
    let disappeared = || StoreError::RowDisappeared(target.name.clone());
    let head = read_head(connection, target.name)?.ok_or_else(disappeared)?;
    let others = graphs::table.filter(graphs::uuid.eq(&wanted)).filter(graphs::id.ne(head.id));
    let taken: i64 = others.count().get_result(connection)?;
    let uuid = if taken == 0 { target.uuid } else { head.uuid };
    let state = if target.deleted { GraphState::Deleted } else { GraphState::Open };
    let (waiting, expired) = read_behind(connection, head.id, target.oldest)?;
    if let Some(consumer) = waiting.into_iter().next() {
        return Ok(Err(Restored::NeededBy(Box::new(consumer))));
    }
    let changed = connection.run(
        update(),
        &[
            Value::Integer(column(target.version)),
            Value::Integer(column(target.version)),
            Value::Bytes(&target.chain.0),
            Value::Text(&uuid.to_string()),
            Value::Integer(column(target.oldest)),
            Value::Text(state.column()),
            Value::Text(target.storage.word()),
            Value::Integer(head.id),
        ],
    )?;
    if changed != 1 {
        return Ok(Err(Restored::InTheWay(Box::new(head))));
    }
    forget_consumers(connection, head.id, &expired)?;
    Ok(Ok((head.id, uuid)))
}

const UPDATE: &str = "UPDATE graphs SET version = ?, known_version = ?, chain = ?, uuid = ?, \
                      oldest = ?, state = ?, storage = ? \
                      WHERE id = ? AND state = 'open' AND version = 0";

#[cfg(not(feature = "failpoints"))]
fn update() -> &'static str {
    UPDATE
}

/// In builds for tests the condition can be switched off, to show that its test then fails.
#[cfg(feature = "failpoints")]
fn update() -> &'static str {
    if crate::failpoint::is_off("restore-empty") {
        "UPDATE graphs SET version = ?, known_version = ?, chain = ?, uuid = ?, oldest = ?, \
         state = ?, storage = ? \
         WHERE id = ?"
    } else {
        UPDATE
    }
}

impl Restoration<'_> {
    /// What the graph's history is called here.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Writes a part of the snapshot that is to become the current one, if the graph has a history.
    ///
    /// # Errors
    /// What the database says.
    pub fn snapshot_part(
        &mut self,
        version: u64,
        part: u64,
        lines: &str,
    ) -> Result<(), CommitError> {
        if self.has_history() {
            snapshots::insert_part(self.connection, self.graph_id, version, part, lines)?;
        }
        Ok(())
    }

    /// Makes the snapshot whose parts were written the current one.
    ///
    /// # Errors
    /// What the database says.
    pub fn install_snapshot(
        &mut self,
        version: u64,
        committed_at_ms: Option<i64>,
    ) -> Result<(), CommitError> {
        if self.has_history() {
            snapshots::install(self.connection, self.graph_id, version, committed_at_ms)?;
        }
        Ok(())
    }

    /// Writes changes into the log, if the graph has a history, as those of one attempt with the
    /// smallest of tokens.
    ///
    /// # Errors
    /// What the database says.
    pub fn changes(&mut self, logged: &[LoggedChange]) -> Result<(), CommitError> {
        if !self.has_history() {
            return Ok(());
        }
        let attempt = format!("restored {}", self.uuid);
        let rows = logged.iter().map(|logged| ChangeRow {
            graph_id: self.graph_id,
            version: column(logged.version),
            change: &logged.change,
            chain: &logged.chain.0,
            attempt: &attempt,
            token: 0,
            committed_at_ms: Some(logged.committed_at_ms),
            actor: logged.actor.as_deref(),
            request: None,
        });
        Ok(self.connection.insert_changes(&rows.collect::<Vec<_>>())?)
    }

    fn has_history(&self) -> bool {
        self.storage.history() != History::None
    }

    /// Writes the graph as it is now, as its storage has it. O(size of the graph).
    ///
    /// # Errors
    /// What the database says.
    pub fn graph(&mut self, graph: &Graph) -> Result<(), CommitError> {
        Ok(self.storage.fill(self.connection, self.graph_id, graph)?)
    }
}
