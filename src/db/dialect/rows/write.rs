//! Rows, written many at once: in one statement on Postgres, in one for each on SQLite.

use diesel::QueryResult;
use diesel::prelude::*;

use super::columns::list_of_ids;
use crate::db::causes;
use crate::db::dialect::AnyConnection;
use crate::db::dialect::sqlite_connection::set_sqlite_cache;
use crate::db::dialect::statement::{PostgresValue, RawSql, Value};
use crate::db::limits::Size;
use crate::failpoint;

/// A statement over this many rows belongs to a load, not to an ordinary request.
const MANY_ROWS: usize = 5_000;

/// Rows of one graph that one kind of statement writes.
pub enum RowsWrite<'w> {
    /// Deletes the jobs with these ids.
    DeleteJobs(Vec<u32>),
    /// Deletes the datasets with these ids.
    DeleteDatasets(Vec<u32>),
    /// Changes datasets that exist.
    UpdateDatasets(Vec<DatasetUpdate<'w>>),
    /// Changes jobs that exist.
    UpdateJobs(Vec<JobUpdate<'w>>),
    /// Adds datasets.
    InsertDatasets(Vec<NewDataset<'w>>),
    /// Adds jobs.
    InsertJobs(Vec<NewJob<'w>>),
}

/// A job's new row.
#[derive(Debug, Clone)]
pub struct NewJob<'w> {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: &'w str,
    /// Its specification, canonical JSON.
    pub spec: &'w str,
    /// The graph's version of its last change.
    pub version: u64,
    /// Ids of the datasets that it reads, rising.
    pub inputs: Vec<u32>,
}

/// What changes in a job's row.
#[derive(Debug, Clone)]
pub struct JobUpdate<'w> {
    /// Its id.
    pub id: u32,
    /// Its specification; `None`: as it was.
    pub spec: Option<&'w str>,
    /// The graph's version of its last change.
    pub version: u64,
    /// Ids of the datasets that it reads, rising; `None`: as they were.
    pub inputs: Option<Vec<u32>>,
}

/// A dataset's new row.
#[derive(Debug, Clone)]
pub struct NewDataset<'w> {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: &'w str,
    /// Canonical JSON; `None` if only jobs mention it.
    pub metadata: Option<&'w str>,
    /// Id of the job that writes it.
    pub producer: Option<u32>,
}

/// What changes in a dataset's row.
#[derive(Debug, Clone)]
pub struct DatasetUpdate<'w> {
    /// Its id.
    pub id: u32,
    /// Canonical JSON; `None` if only jobs mention it.
    pub metadata: Option<&'w str>,
    /// Id of the job that writes it.
    pub producer: Option<u32>,
}

impl RowsWrite<'_> {
    /// How many rows it writes.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::DeleteJobs(ids) | Self::DeleteDatasets(ids) => ids.len(),
            Self::UpdateDatasets(rows) => rows.len(),
            Self::UpdateJobs(rows) => rows.len(),
            Self::InsertDatasets(rows) => rows.len(),
            Self::InsertJobs(rows) => rows.len(),
        }
    }

    /// What it does, for people.
    fn what(&self) -> &'static str {
        match self {
            Self::DeleteJobs(_) => "jobs to be deleted",
            Self::DeleteDatasets(_) => "datasets to be deleted",
            Self::UpdateDatasets(_) => "datasets to be changed",
            Self::UpdateJobs(_) => "jobs to be changed",
            Self::InsertDatasets(_) => "datasets to be added",
            Self::InsertJobs(_) => "jobs to be added",
        }
    }

    /// How much work the statement is.
    #[must_use]
    pub fn size(&self) -> Size {
        if self.rows() >= MANY_ROWS { Size::Large } else { Size::Usual }
    }
}

impl AnyConnection {
    /// Writes rows of a graph. In Postgres one statement, in one round trip; in SQLite one for each
    /// row.
    ///
    /// # Errors
    /// What the database reports, and [`RowsDiffer`](crate::db::DbError::RowsDiffer) as an error of
    /// Diesel if it did not write each row once.
    pub fn write_rows(&mut self, graph_id: i64, write: &RowsWrite<'_>) -> QueryResult<()> {
        if write.rows() == 0 {
            return Ok(());
        }
        match self {
            Self::Sqlite(connection) => {
                if write.size() == Size::Large {
                    set_sqlite_cache(connection, 256)?;
                }
                write_each(connection, graph_id, write)
            }
            Self::Postgres(connection) => write_all(connection, graph_id, write),
        }
    }
}

/// A row that the statement did not find, or found twice, is not the one that was read.
fn check_written(written: usize, expected: usize, write: &RowsWrite<'_>) -> QueryResult<()> {
    if written == expected || failpoint::is_off("row-counts") {
        return Ok(());
    }
    Err(causes::rows_differ(written, expected, write.what()))
}

/// SQLite prepares each statement once, and binds and runs it for each row: no text of many rows is
/// made and parsed.
fn write_each(
    connection: &mut SqliteConnection,
    graph_id: i64,
    write: &RowsWrite<'_>,
) -> QueryResult<()> {
    use Value as V;
    let graph = V::Integer(graph_id);
    let id = |id: u32| V::Integer(id.into());
    let mut run = |text: &'static str, values: &[Value<'_>]| {
        check_written(RawSql { text, values }.execute(connection)?, 1, write)
    };
    match write {
        RowsWrite::DeleteJobs(ids) => ids.iter().try_for_each(|&job| {
            run("DELETE FROM jobs WHERE graph_id = ? AND id = ?", &[graph, id(job)])
        }),
        RowsWrite::DeleteDatasets(ids) => ids.iter().try_for_each(|&dataset| {
            run("DELETE FROM datasets WHERE graph_id = ? AND id = ?", &[graph, id(dataset)])
        }),
        RowsWrite::UpdateDatasets(rows) => rows.iter().try_for_each(|row| {
            let producer = V::OptionalInteger(row.producer.map(i64::from));
            run(
                "UPDATE datasets SET metadata = ?, producer = ? WHERE graph_id = ? AND id = ?",
                &[V::OptionalText(row.metadata), producer, graph, id(row.id)],
            )
        }),
        RowsWrite::UpdateJobs(rows) => rows.iter().try_for_each(|row| {
            let inputs = row.inputs.as_deref().map(|ids| list_of_ids(ids, '[', ']'));
            run(
                "UPDATE jobs SET spec = coalesce(?, spec), version = ?, \
                 inputs = coalesce(?, inputs) WHERE graph_id = ? AND id = ?",
                &[
                    V::OptionalText(row.spec),
                    V::Integer(row.version as i64),
                    V::OptionalText(inputs.as_deref()),
                    graph,
                    id(row.id),
                ],
            )
        }),
        RowsWrite::InsertDatasets(rows) => rows.iter().try_for_each(|row| {
            let producer = V::OptionalInteger(row.producer.map(i64::from));
            run(
                "INSERT INTO datasets (graph_id, id, name, metadata, producer) \
                 VALUES (?, ?, ?, ?, ?)",
                &[graph, id(row.id), V::Text(row.name), V::OptionalText(row.metadata), producer],
            )
        }),
        RowsWrite::InsertJobs(rows) => rows.iter().try_for_each(|row| {
            run(
                "INSERT INTO jobs (graph_id, id, name, spec, version, inputs) \
                 VALUES (?, ?, ?, ?, ?, ?)",
                &[
                    graph,
                    id(row.id),
                    V::Text(row.name),
                    V::Text(row.spec),
                    V::Integer(row.version as i64),
                    V::Text(&list_of_ids(&row.inputs, '[', ']')),
                ],
            )
        }),
    }
}

/// Postgres takes the columns as arrays.
fn write_all(
    connection: &mut PgConnection,
    graph_id: i64,
    write: &RowsWrite<'_>,
) -> QueryResult<()> {
    use PostgresValue as V;
    let graph = V::Integer(graph_id);
    let ids = |ids: &mut dyn Iterator<Item = u32>| V::Integers(ids.map(i64::from).collect());
    let mut run = |text: &'static str, values: &[PostgresValue<'_>]| {
        check_written(RawSql { text, values }.execute(connection)?, write.rows(), write)
    };
    match write {
        RowsWrite::DeleteJobs(jobs) => run(
            "DELETE FROM jobs WHERE graph_id = ? AND id = ANY (?::bigint[])",
            &[graph, ids(&mut jobs.iter().copied())],
        ),
        RowsWrite::DeleteDatasets(datasets) => run(
            "DELETE FROM datasets WHERE graph_id = ? AND id = ANY (?::bigint[])",
            &[graph, ids(&mut datasets.iter().copied())],
        ),
        RowsWrite::UpdateDatasets(rows) => run(
            "UPDATE datasets SET metadata = new.metadata, producer = new.producer \
             FROM unnest(?::bigint[], ?::text[], ?::bigint[]) AS new (id, metadata, producer) \
             WHERE datasets.graph_id = ? AND datasets.id = new.id",
            &[
                ids(&mut rows.iter().map(|row| row.id)),
                V::OptionalTexts(rows.iter().map(|row| row.metadata).collect()),
                V::OptionalIntegers(rows.iter().map(|row| row.producer.map(i64::from)).collect()),
                graph,
            ],
        ),
        RowsWrite::UpdateJobs(rows) => {
            let inputs: Vec<Option<String>> = rows
                .iter()
                .map(|row| row.inputs.as_deref().map(|ids| list_of_ids(ids, '{', '}')))
                .collect();
            run(
                "UPDATE jobs SET spec = coalesce(new.spec, jobs.spec), version = new.version, \
                 inputs = coalesce(new.inputs::integer[], jobs.inputs) \
                 FROM unnest(?::bigint[], ?::text[], ?::bigint[], ?::text[]) \
                 AS new (id, spec, version, inputs) \
                 WHERE jobs.graph_id = ? AND jobs.id = new.id",
                &[
                    ids(&mut rows.iter().map(|row| row.id)),
                    V::OptionalTexts(rows.iter().map(|row| row.spec).collect()),
                    V::Integers(rows.iter().map(|row| row.version as i64).collect()),
                    V::OptionalTexts(inputs.iter().map(Option::as_deref).collect()),
                    graph,
                ],
            )
        }
        RowsWrite::InsertDatasets(rows) => run(
            "INSERT INTO datasets (graph_id, id, name, metadata, producer) \
             SELECT ?, new.* FROM unnest(?::bigint[], ?::text[], ?::text[], ?::bigint[]) AS new",
            &[
                graph,
                ids(&mut rows.iter().map(|row| row.id)),
                V::Texts(rows.iter().map(|row| row.name).collect()),
                V::OptionalTexts(rows.iter().map(|row| row.metadata).collect()),
                V::OptionalIntegers(rows.iter().map(|row| row.producer.map(i64::from)).collect()),
            ],
        ),
        RowsWrite::InsertJobs(rows) => {
            let inputs: Vec<String> =
                rows.iter().map(|row| list_of_ids(&row.inputs, '{', '}')).collect();
            run(
                "INSERT INTO jobs (graph_id, id, name, spec, version, inputs) \
                 SELECT ?, new.id, new.name, new.spec, new.version, new.inputs::integer[] \
                 FROM unnest(?::bigint[], ?::text[], ?::text[], ?::bigint[], ?::text[]) \
                 AS new (id, name, spec, version, inputs)",
                &[
                    graph,
                    ids(&mut rows.iter().map(|row| row.id)),
                    V::Texts(rows.iter().map(|row| row.name).collect()),
                    V::Texts(rows.iter().map(|row| row.spec).collect()),
                    V::Integers(rows.iter().map(|row| row.version as i64).collect()),
                    V::Texts(inputs.iter().map(String::as_str).collect()),
                ],
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::db::dialect::query_plan::query_plan;

    /// A statement over one row must not look at all others.
    #[test]
    fn rows_are_found_by_their_keys() {
        for statement in [
            "DELETE FROM jobs WHERE graph_id = 1 AND id = 2",
            "DELETE FROM datasets WHERE graph_id = 1 AND id = 2",
            "UPDATE datasets SET metadata = '', producer = 1 WHERE graph_id = 1 AND id = 2",
            "UPDATE jobs SET spec = coalesce('', spec), version = 1, inputs = coalesce('', inputs) \
             WHERE graph_id = 1 AND id = 2",
        ] {
            let steps = query_plan(statement);
            assert!(!steps.is_empty());
            for step in steps {
                assert!(step.starts_with("SEARCH") && step.contains("id=? AND id=?"), "{step}");
            }
        }
    }
}
