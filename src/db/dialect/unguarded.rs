//! Damage of rows that no key of the database stops: rows of no graph, where the schema has no key
//! or a program does not have SQLite look at it, and values of another type in a graph's row.

use std::fmt;

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::AnyConnection;
use super::statement::TextRow;

/// Rows of a table whose `graph_id` no graph has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanedRows {
    /// The table.
    pub table: &'static str,
    /// The value of `graph_id`; quoted if it is no integer, which SQLite would store.
    pub graph_id: String,
}

impl fmt::Display for OrphanedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, graph_id } = self;
        write!(
            f,
            "table {table}: rows with graph_id {graph_id}, which no graph has; restore the graph \
             from a backup or, if nobody needs them, DELETE FROM {table} \
             WHERE graph_id = {graph_id}"
        )
    }
}

/// A query for each table whose rows belong to graphs. It goes from one `graph_id` to the next by
/// the primary key, so its cost is that of the number of graphs, not of the rows.
macro_rules! queries {
    ($($table:literal),*) => {
        [$(($table, concat!(
            "WITH RECURSIVE owners (graph_id) AS (SELECT min(graph_id) FROM ", $table,
            " UNION ALL SELECT (SELECT min(graph_id) FROM ", $table,
            " AS next WHERE next.graph_id > owners.graph_id) FROM owners ",
            "WHERE owners.graph_id IS NOT NULL) ",
            "SELECT CAST(graph_id AS TEXT) AS value FROM owners ",
            "WHERE graph_id IS NOT NULL AND graph_id NOT IN (SELECT id FROM graphs) ",
            "ORDER BY graph_id"
        ))),*]
    };
}

const QUERIES: [(&str, &str); 8] = queries!(
    "jobs",
    "datasets",
    "changes",
    "idempotency_keys",
    "consumers",
    "snapshots",
    "snapshot_parts",
    "leaders"
);

impl AnyConnection {
    /// All tables and values of `graph_id` for which there is no graph.
    ///
    /// # Errors
    /// What the database reports.
    pub fn orphaned_rows(&mut self) -> QueryResult<Vec<OrphanedRows>> {
        let mut found = Vec::new();
        for (table, query) in QUERIES {
            let rows: Vec<TextRow> = diesel::sql_query(query).load(self)?;
            let orphaned = |row: TextRow| {
                let is_integer = row.value.parse::<i64>().is_ok();
                let graph_id = if is_integer { row.value } else { format!("'{}'", row.value) };
                OrphanedRows { table, graph_id }
            };
            found.extend(rows.into_iter().map(orphaned));
        }
        Ok(found)
    }
}

/// The columns of a graph's row, and SQLite's name for the type that each must have.
const GRAPH_COLUMNS: &str = "SELECT CASE WHEN typeof(version) <> 'integer' THEN 'version' \
     WHEN typeof(fence) <> 'integer' THEN 'fence' WHEN typeof(epoch) <> 'integer' THEN 'epoch' \
     WHEN typeof(oldest) <> 'integer' THEN 'oldest' WHEN typeof(chain) <> 'blob' THEN 'chain' \
     WHEN typeof(state) <> 'text' THEN 'state' WHEN typeof(uuid) <> 'text' THEN 'uuid' \
     WHEN typeof(lock_incarnation) <> 'text' THEN 'lock_incarnation' \
     WHEN typeof(storage) <> 'text' THEN 'storage' \
     WHEN typeof(known_version) NOT IN ('integer', 'null') THEN 'known_version' \
     WHEN typeof(moved_to) NOT IN ('text', 'null') THEN 'moved_to' ELSE '' END AS value \
     FROM graphs WHERE id = ?";

impl AnyConnection {
    /// The first column of a graph's row that holds a value of another type, which SQLite stores in
    /// any column; `None` if there is none.
    ///
    /// # Errors
    /// What the database reports.
    pub fn damaged_graph_column(&mut self, graph_id: i64) -> QueryResult<Option<String>> {
        let Self::Sqlite(connection) = self else { return Ok(None) };
        let query = diesel::sql_query(GRAPH_COLUMNS).bind::<BigInt, _>(graph_id);
        let row = query.get_result::<TextRow>(connection).optional()?;
        Ok(row.map(|row| row.value).filter(|column| !column.is_empty()))
    }
}
