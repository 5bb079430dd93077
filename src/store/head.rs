//! The graph's row: what it says, and how it is read.

use std::fmt;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};
use uuid::Uuid;

use super::error::StoreError;
use super::storage_kind::StorageKind;
use crate::chain::Chain;
use crate::db::schema::{GraphRow, graphs};
use crate::db::{AnyConnection, ServerState, server_state};
use crate::graph::Name;

/// Whether a graph takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphState {
    /// It does.
    Open,
    /// Its name answers that there is no such graph; its versions go on if it is created again.
    Deleted,
    /// It has moved elsewhere.
    Frozen,
}

/// The graph's row: all that must be known of a graph to know whether an image of it is current,
/// and to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The row's id; a name has one for ever.
    pub id: i64,
    /// The graph's name.
    pub name: Name,
    /// Whether it takes writes.
    pub state: GraphState,
    /// Where it went, if it is frozen.
    pub moved_to: Option<String>,
    /// How many changes there were.
    pub version: u64,
    /// The largest fencing token that a write has carried.
    pub fence: i64,
    /// The epoch of trusted tokens.
    pub epoch: u32,
    /// The run of the lock that was seeded with the epoch.
    pub lock_incarnation: String,
    /// The hash over all changes.
    pub chain: Chain,
    /// What the graph's history is called everywhere: events are named after it.
    pub uuid: Uuid,
    /// The oldest change that the log still has; where it has none, the next one.
    pub oldest: u64,
    /// How the graph is stored.
    pub storage: StorageKind,
    /// What the last take-over of its leadership has counted up to; 0 if nobody ever led it.
    pub leader_token: i64,
}

/// What an image is known by: the same key, the same graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageKey {
    /// The graph's row id.
    pub graph_id: i64,
    /// The version.
    pub version: u64,
    /// The chain at that version.
    pub chain: Chain,
}

#[cfg(test)]
impl ImageKey {
    pub(crate) fn of_an_empty_graph() -> Self {
        Self { graph_id: 1, version: 0, chain: Chain::START }
    }
}

impl Head {
    /// The key of an image of this very state.
    #[must_use]
    pub fn key(&self) -> ImageKey {
        ImageKey { graph_id: self.id, version: self.version, chain: self.chain }
    }
}

/// The row as what it says.
pub(super) fn head_of(row: GraphRow) -> Result<Head, StoreError> {
    let damaged = |what: &str| StoreError::DamagedValue(format!("{what} of graph `{}`", row.name));
    Ok(Head {
        id: row.id,
        name: Name::new(&row.name).map_err(|error| StoreError::DamagedValue(error.to_string()))?,
        state: GraphState::from_column(&row.state).ok_or_else(|| damaged("state"))?,
        version: u64::try_from(row.version).map_err(|_| damaged("version"))?,
        epoch: u32::try_from(row.epoch).map_err(|_| damaged("epoch"))?,
        chain: Chain(row.chain.as_slice().try_into().map_err(|_| damaged("chain"))?),
        uuid: Uuid::parse_str(&row.uuid).map_err(|_| damaged("uuid"))?,
        oldest: u64::try_from(row.oldest).map_err(|_| damaged("oldest"))?,
        storage: StorageKind::of_word(&row.storage),
        moved_to: row.moved_to,
        fence: row.fence,
        leader_token: row.leader_token,
        lock_incarnation: row.lock_incarnation,
    })
}

impl fmt::Display for GraphState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.column())
    }
}

impl GraphState {
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Deleted => "deleted",
            Self::Frozen => "frozen",
        }
    }

    fn from_column(text: &str) -> Option<Self> {
        [Self::Open, Self::Deleted, Self::Frozen].into_iter().find(|state| state.column() == text)
    }
}

pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).expect("versions fit 63 bits")
}

/// The graph's row, if there is one, and beside it what the server tells of itself.
pub(super) fn read_head_row(
    connection: &mut AnyConnection,
    name: &Name,
) -> QueryResult<(Option<ServerState>, Option<GraphRow>)> {
    let found: Option<(ServerState, GraphRow)> = graphs::table
        .filter(graphs::name.eq(name.as_str()))
        .select((server_state(), GraphRow::as_select()))
        .first(connection)
        .optional()?;
    Ok(found.unzip())
}

/// What else there is of a graph: what a load has to know beside the row.
#[derive(Queryable)]
pub(super) struct Stored {
    /// The version of the newest change in its log.
    pub(super) newest_change: Option<i64>,
    /// The version of its newest packed snapshot.
    pub(super) newest_snapshot: Option<i64>,
}

/// The same, and what else there is of the graph.
#[expect(clippy::type_complexity, reason = "each part is optional by itself")]
pub(super) fn read_head_row_and_stored(
    connection: &mut AnyConnection,
    name: &Name,
) -> QueryResult<(Option<ServerState>, Option<(GraphRow, Stored)>)> {
    let newest_change = diesel::dsl::sql::<Nullable<BigInt>>(
        "(SELECT max(version) FROM changes WHERE changes.graph_id = graphs.id)",
    );
    let newest_snapshot = diesel::dsl::sql::<Nullable<BigInt>>(
        "(SELECT max(version) FROM packed_snapshots WHERE packed_snapshots.graph_id = graphs.id)",
    );
    let found: Option<(ServerState, (GraphRow, Stored))> = graphs::table
        .filter(graphs::name.eq(name.as_str()))
        .select((server_state(), (GraphRow::as_select(), (newest_change, newest_snapshot))))
        .first(connection)
        .optional()?;
    Ok(found.unzip())
}

/// Rows that each come with what the server told, which is the same in all of one statement.
pub(super) fn split_server_state<T>(rows: Vec<(ServerState, T)>) -> (Option<ServerState>, Vec<T>) {
    let told = rows.first().map(|(told, _)| told.clone());
    (told, rows.into_iter().map(|(_, row)| row).collect())
}

/// The graph's row, in a transaction that is to write.
pub(super) fn read_head(
    connection: &mut AnyConnection,
    name: &Name,
) -> Result<Option<Head>, StoreError> {
    let (told, row) = read_head_row(connection, name)?;
    told.map_or_else(|| connection.tell(), Ok)?.check_writable()?;
    row.map(head_of).transpose()
}

pub(super) fn read_head_by_id(connection: &mut AnyConnection, id: i64) -> Result<Head, StoreError> {
    head_of(graphs::table.find(id).select(GraphRow::as_select()).first(connection)?)
}
