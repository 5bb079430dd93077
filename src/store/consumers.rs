//! Who reads a graph's change log from outside, and how far: what pruning waits for.

use diesel::prelude::*;

use super::rows::{RowStore, column, read_head, read_head_row};
use super::{CommitError, GraphState, Head, StoreError};
use crate::db::schema::consumers;
use crate::db::{AnyConnection, WriteError};
use crate::graph::Name;

/// Somebody who reads the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// What it calls itself.
    pub name: Name,
    /// It needs no change up to this version.
    pub acknowledged: u64,
    /// When it said so last, in milliseconds since 1970, by the database's clock.
    pub acknowledged_at_ms: i64,
}

/// What became of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledgement {
    /// It is noted, or something later was noted before.
    Noted {
        /// The graph's row.
        head: Head,
        /// What the consumer has acknowledged now.
        acknowledged: u64,
        /// Whether it was not registered before.
        registered: bool,
    },
    /// There is no such graph.
    GraphNotFound,
    /// The graph has not come to that version.
    Ahead {
        /// The version that it has.
        version: u64,
    },
    /// It would register for changes that are gone.
    Pruned {
        /// The oldest change that is there.
        oldest: u64,
    },
}

impl RowStore {
    pub(super) fn read_consumers(
        &self,
        name: &Name,
    ) -> Result<Option<(Head, Vec<Consumer>)>, StoreError> {
        let head = |connection: &mut AnyConnection| read_head_row(connection, name);
        self.database.learn_and_read(head, |connection, row| {
            let Some(row) = row else { return Ok(None) };
            let head = row.into_head()?;
            let rows: Vec<(String, i64, i64)> = consumers::table
                .filter(consumers::graph_id.eq(head.id))
                .order(consumers::name)
                .select((consumers::name, consumers::acknowledged, consumers::acknowledged_at_ms))
                .load(connection)?;
            let consumer = |(name, acknowledged, acknowledged_at_ms): (String, i64, i64)| {
                let name = Name::new(&name)
                    .map_err(|error| StoreError::DamagedValue(error.to_string()))?;
                Ok(Consumer { name, acknowledged: acknowledged as u64, acknowledged_at_ms })
            };
            let found = rows.into_iter().map(consumer).collect::<Result<_, StoreError>>()?;
            Ok(Some((head, found)))
        })
    }

    pub(super) fn write_acknowledgement(
        &self,
        name: &Name,
        consumer: &Name,
        version: u64,
    ) -> Result<Acknowledgement, CommitError> {
        let written = self.database.write(|connection| {
            // Whoever prunes holds the row too: either it sees this consumer, or this sees what it
            // left.
            connection.hold_graph(name.as_str())?;
            let found =
                read_head(connection, name)?.filter(|head| head.state != GraphState::Deleted);
            let Some(head) = found else { return Ok(Acknowledgement::GraphNotFound) };
            if version > head.version {
                return Ok(Acknowledgement::Ahead { version: head.version });
            }
            let row = consumers::table.find((head.id, consumer.as_str()));
            let before: Option<i64> =
                row.select(consumers::acknowledged).first(connection).optional()?;
            if before.is_none() && version + 1 < head.oldest {
                return Ok(Acknowledgement::Pruned { oldest: head.oldest });
            }
            let acknowledged = before.map_or(version, |before| version.max(before as u64));
            connection.note_acknowledgement(head.id, consumer.as_str(), column(acknowledged))?;
            Ok::<_, CommitError>(Acknowledgement::Noted {
                head,
                acknowledged,
                registered: before.is_none(),
            })
        });
        written.map_err(repeatable)
    }

    pub(super) fn delete_consumer(
        &self,
        name: &Name,
        consumer: &Name,
    ) -> Result<Option<bool>, CommitError> {
        let written = self.database.write(|connection| {
            // Of a deleted graph too: its log can be pruned, unless somebody is in the way.
            let Some(head) = read_head(connection, name)? else { return Ok(None) };
            let row = consumers::table.find((head.id, consumer.as_str()));
            Ok::<_, CommitError>(Some(diesel::delete(row).execute(connection)? == 1))
        });
        written.map_err(repeatable)
    }
}

/// Of writes that may be sent again: whether or not the lost one held, the next will make it so.
pub(super) fn repeatable(error: WriteError<CommitError>) -> CommitError {
    match error {
        WriteError::RolledBack(error) => error,
        WriteError::CommitUnknown(error) => CommitError::from(error),
    }
}
