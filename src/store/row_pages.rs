//! The rows of a graph as they are stored, some at a time, to compare them with the log while
//! others write. Rows that would stop a load are returned too.

use std::collections::HashMap;

use diesel::prelude::*;

use super::Store;
use super::error::StoreError;
use super::head::{Head, read_head};
use crate::db::schema::{datasets, jobs};
use crate::db::{AnyConnection, DatasetRow, JobRow, RowRange};
use crate::graph::Name;

/// Ids or names that one query looks up: SQLite takes 32,766 values.
const KEYS_AT_ONCE: usize = 10_000;

/// Which rows are read from one snapshot.
#[derive(Debug, Clone, Copy)]
pub enum RowSelection<'s> {
    /// By rising ids, after this one, at most so many.
    IdsAfter(i64, usize),
    /// Those with one of these names, found by reading all rows of the graph.
    Named(&'s [Name]),
}

/// A graph's row, and some rows of the graph at its version.
pub struct RowPage<T> {
    /// The graph's row, read in the same snapshot.
    pub head: Head,
    /// In the order of their ids.
    pub rows: Vec<T>,
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
}

/// Names of rows of the table by their ids, some thousand at a time.
macro_rules! names {
    ($connection:expr, $table:ident, $graph_id:expr, $ids:expr) => {{
        let mut names = HashMap::new();
        for some in distinct($ids).chunks(KEYS_AT_ONCE) {
            let found = $table::table
                .filter($table::graph_id.eq($graph_id))
                .filter($table::id.eq_any(some))
                .select(($table::id, $table::name));
            names.extend(found.load::<(i64, String)>($connection)?);
        }
        Names(names)
    }};
}

/// Ranges of rows that make up the selection.
macro_rules! ranges {
    ($connection:expr, $table:ident, $graph_id:expr, $selection:expr) => {
        match $selection {
            RowSelection::IdsAfter(after, most) => vec![RowRange::IdsAfter(after, most as i64)],
            RowSelection::Named(names) => {
                let mut ids: Vec<i64> = Vec::new();
                for some in names.chunks(KEYS_AT_ONCE) {
                    let found = $table::table
                        .filter($table::graph_id.eq($graph_id))
                        .filter($table::name.eq_any(some.iter().map(Name::as_str)))
                        .select($table::id);
                    ids.extend(found.load::<i64>($connection)?);
                }
                distinct(ids.into_iter())
                    .into_iter()
                    .map(|id| RowRange::IdsAfter(id - 1, 1))
                    .collect()
            }
        }
    };
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
        self.row_page(graph, |connection, head| {
            let mut rows: Vec<JobRow> = Vec::new();
            for range in ranges!(connection, jobs, head.id, selection) {
                connection.each_job(head.id, range, &mut |row| {
                    rows.push(row);
                    Ok::<_, StoreError>(())
                })?;
            }
            let inputs = rows.iter().flat_map(|row| row.inputs.iter().flatten());
            let names = names!(connection, datasets, head.id, inputs.map(|&id| i64::from(id)));
            let stored = |row: JobRow| StoredJob {
                id: row.id,
                name: row.name.to_string(),
                spec: row.spec.to_string(),
                version: row.version,
                inputs: row
                    .inputs
                    .filter(|ids| ids.is_sorted_by(|a, b| a < b))
                    .map(|ids| ids.into_iter().map(|id| names.of(id.into())).collect()),
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
        self.row_page(graph, |connection, head| {
            let mut rows: Vec<DatasetRow> = Vec::new();
            for range in ranges!(connection, datasets, head.id, selection) {
                connection.each_dataset(head.id, range, &mut |row| {
                    rows.push(row);
                    Ok::<_, StoreError>(())
                })?;
            }
            let producers = rows.iter().filter_map(|row| row.producer);
            let names = names!(connection, jobs, head.id, producers);
            let stored = |row: DatasetRow| StoredDataset {
                id: row.id,
                name: row.name.to_string(),
                metadata: row.metadata.as_deref().map(str::to_owned),
                producer: row.producer.map(|id| names.of(id)),
            };
            Ok(rows.into_iter().map(stored).collect())
        })
    }

    fn row_page<T>(
        &self,
        graph: &Name,
        rows: impl FnOnce(&mut AnyConnection, &Head) -> Result<Vec<T>, StoreError>,
    ) -> Result<Option<RowPage<T>>, StoreError> {
        self.database.read(|connection| {
            let Some(head) = read_head(connection, graph)? else { return Ok(None) };
            let rows = rows(connection, &head)?;
            Ok(Some(RowPage { head, rows }))
        })
    }
}

/// Names by id.
struct Names(HashMap<i64, String>);

impl Names {
    fn of(&self, id: i64) -> StoredReference {
        let name = self.0.get(&id).cloned();
        name.map_or(StoredReference::Nothing(id), StoredReference::Name)
    }
}

fn distinct(ids: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
