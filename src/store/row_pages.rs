//! The rows of a graph as they are stored, some at a time, to compare them with the log while
//! others write. Rows that would stop a load are returned too.

use std::collections::HashMap;

use diesel::dsl::{max, min};
use diesel::prelude::*;

use super::Store;
use super::error::StoreError;
use super::head::{Head, read_head};
use crate::db::schema::{changes, snapshots};
use crate::db::{AnyConnection, DatasetRow, JobRow, OrphanedRows, RowRange, RowTable};
use crate::graph::Name;

/// Ids that one query looks up.
const IDS_AT_ONCE: usize = 10_000;

/// Which rows are read from one snapshot.
#[derive(Debug, Clone, Copy)]
pub enum RowSelection<'s> {
    /// By rising ids, from this one on, at most so many.
    IdsFrom(i64, usize),
    /// Those with one of these names, found by reading all rows of the graph.
    Named(&'s [Name]),
}

/// A graph's row, and some rows of the graph at its version.
pub struct RowPage<T> {
    /// The graph's row, read in the same snapshot.
    pub head: Head,
    /// The version of the newest change in the log, in the same snapshot.
    pub newest_logged: Option<u64>,
    /// In the order of their ids.
    pub rows: Vec<T>,
}

/// A graph's row, and from where to where its log goes, from one snapshot.
#[derive(Debug, Clone)]
pub struct LogEnds {
    /// The graph's row.
    pub head: Head,
    /// The version of the first change that the log has.
    pub oldest_logged: Option<u64>,
    /// The version of its last change.
    pub newest_logged: Option<u64>,
    /// The version of the snapshot that stands in for what was pruned.
    pub snapshot: Option<u64>,
    /// The first column of the row that holds a value of another type.
    pub damaged: Option<String>,
}

/// A reference from one row to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredReference {
    /// To the row that has this name.
    Name(String),
    /// To an id that no row has.
    Nothing(i64),
}

/// A job's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJob {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its specification, as text.
    pub spec: String,
    /// The graph's version of its last change.
    pub version: i64,
    /// The datasets that it reads, in the order of their ids; `None` if the column holds something
    /// other than rising ids.
    pub inputs: Option<Vec<StoredReference>>,
    /// The first column that holds a value of another type.
    pub damaged: Option<&'static str>,
}

/// A dataset's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDataset {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its metadata, as text; `None` if it is not declared.
    pub metadata: Option<String>,
    /// The job that writes it.
    pub producer: Option<StoredReference>,
    /// The first column that holds a value of another type.
    pub damaged: Option<&'static str>,
}

impl Store {
    /// Jobs of a graph, from one snapshot; `None` if there is no such graph.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn job_rows(
        &self,
        graph: &Name,
        selection: RowSelection<'_>,
    ) -> Result<Option<RowPage<StoredJob>>, StoreError> {
        self.row_page(graph, selection, |connection, graph_id, range| {
            let mut rows: Vec<JobRow> = Vec::new();
            connection.each_job(graph_id, range, &mut |row| {
                rows.push(row);
                Ok::<_, StoreError>(())
            })?;
            let inputs = rows.iter().flat_map(|row| row.inputs.iter().flatten());
            let names =
                Names::read(connection, RowTable::Datasets, graph_id, inputs.map(|&id| id.into()))?;
            let stored = |row: JobRow| StoredJob {
                id: row.id,
                name: row.name.to_string(),
                spec: row.spec.to_string(),
                version: row.version,
                inputs: row
                    .inputs
                    .filter(|ids| ids.is_sorted_by(|a, b| a < b))
                    .map(|ids| ids.into_iter().map(|id| names.of(id.into())).collect()),
                damaged: row.damaged,
            };
            Ok(rows.into_iter().map(stored).collect())
        })
    }

    /// Datasets of a graph, from one snapshot; `None` if there is no such graph.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn dataset_rows(
        &self,
        graph: &Name,
        selection: RowSelection<'_>,
    ) -> Result<Option<RowPage<StoredDataset>>, StoreError> {
        self.row_page(graph, selection, |connection, graph_id, range| {
            let mut rows: Vec<DatasetRow> = Vec::new();
            connection.each_dataset(graph_id, range, &mut |row| {
                rows.push(row);
                Ok::<_, StoreError>(())
            })?;
            let producers = rows.iter().filter_map(|row| row.producer);
            let names = Names::read(connection, RowTable::Jobs, graph_id, producers)?;
            let stored = |row: DatasetRow| StoredDataset {
                id: row.id,
                name: row.name.to_string(),
                metadata: row.metadata.as_deref().map(str::to_owned),
                producer: row.producer.map(|id| names.of(id)),
                damaged: row.damaged,
            };
            Ok(rows.into_iter().map(stored).collect())
        })
    }

    /// The graph's row, deleted graphs included, and where its log begins and ends.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn log_ends(&self, graph: &Name) -> Result<Option<LogEnds>, StoreError> {
        self.database.read(|connection| {
            let Some(head) = read_head(connection, graph)? else { return Ok(None) };
            let of_graph = changes::table.filter(changes::graph_id.eq(head.id));
            let oldest: Option<i64> =
                of_graph.select(min(changes::version)).get_result(connection)?;
            let newest_logged = newest_logged(connection, head.id)?;
            let current = snapshots::table.find(head.id).select(snapshots::version);
            let snapshot: Option<i64> = current.first(connection).optional()?;
            let version = |version: i64| version as u64;
            let (oldest_logged, snapshot) = (oldest.map(version), snapshot.map(version));
            let damaged = connection.damaged_graph_column(head.id)?;
            Ok(Some(LogEnds { head, oldest_logged, newest_logged, snapshot, damaged }))
        })
    }

    /// Rows that belong to no graph of the database.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn orphaned_rows(&self) -> Result<Vec<OrphanedRows>, StoreError> {
        self.database.read(|connection| Ok(connection.orphaned_rows()?))
    }

    fn row_page<T>(
        &self,
        graph: &Name,
        selection: RowSelection<'_>,
        rows: impl FnOnce(&mut AnyConnection, i64, RowRange<'_>) -> Result<Vec<T>, StoreError>,
    ) -> Result<Option<RowPage<T>>, StoreError> {
        let names = match selection {
            RowSelection::IdsFrom(..) => String::new(),
            RowSelection::Named(names) => {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                serde_json::to_string(&names).expect("texts are JSON")
            }
        };
        let range = match selection {
            RowSelection::IdsFrom(from, most) => RowRange::IdsFrom(from, most as i64),
            RowSelection::Named(_) => RowRange::Named(&names),
        };
        self.database.read(|connection| {
            let Some(head) = read_head(connection, graph)? else { return Ok(None) };
            let newest_logged = newest_logged(connection, head.id)?;
            let rows = rows(connection, head.id, range)?;
            Ok(Some(RowPage { head, newest_logged, rows }))
        })
    }
}

fn newest_logged(connection: &mut AnyConnection, graph_id: i64) -> QueryResult<Option<u64>> {
    let of_graph = changes::table.filter(changes::graph_id.eq(graph_id));
    let newest: Option<i64> = of_graph.select(max(changes::version)).get_result(connection)?;
    Ok(newest.map(|version| version as u64))
}

/// Names by id.
struct Names(HashMap<i64, String>);

impl Names {
    /// Of the rows of the table that have these ids.
    fn read(
        connection: &mut AnyConnection,
        table: RowTable,
        graph_id: i64,
        ids: impl Iterator<Item = i64>,
    ) -> QueryResult<Self> {
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        let mut names = HashMap::new();
        for some in ids.chunks(IDS_AT_ONCE) {
            names.extend(connection.names_of_rows(table, graph_id, some)?);
        }
        Ok(Self(names))
    }

    fn of(&self, id: i64) -> StoredReference {
        let name = self.0.get(&id).cloned();
        name.map_or(StoredReference::Nothing(id), StoredReference::Name)
    }
}
