//! Rows, read in the order of their ids. A value that Fencepost never writes is reported in its
//! row, which is read all the same.

use arcstr::ArcStr;
use diesel::QueryResult;
use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};

use super::columns::{InputIds, ReadInteger, ReadText};
use crate::db::dialect::AnyConnection;
use crate::db::dialect::statement::{TypedSql, Value};

/// A job's row as it was read.
#[derive(Debug)]
pub struct JobRow {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: ArcStr,
    /// Its specification.
    pub spec: ArcStr,
    /// The graph's version of its last change.
    pub version: i64,
    /// Ids of the datasets that it reads; `None` if the column does not hold a list of ids.
    pub inputs: Option<Vec<u32>>,
    /// The first column that holds a value of another type, or text that is no UTF-8; what is here
    /// of that column means nothing. SQLite stores any value in any column.
    pub damaged: Option<&'static str>,
}

/// A dataset's row as it was read.
#[derive(Debug)]
pub struct DatasetRow {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: ArcStr,
    /// Its metadata; `None` if only jobs mention it.
    pub metadata: Option<ArcStr>,
    /// Id of the job that writes it.
    pub producer: Option<i64>,
    /// As of a [`JobRow`].
    pub damaged: Option<&'static str>,
}

/// Which rows of a graph are read.
#[derive(Clone, Copy)]
pub enum RowRange<'r> {
    /// All, by rising ids.
    All,
    /// By rising ids, from this one on, at most so many.
    IdsFrom(i64, i64),
    /// Those whose names are in this JSON array, found by reading all rows of the graph.
    Named(&'r str),
}

/// One of the two tables of rows.
#[derive(Clone, Copy)]
pub enum RowTable {
    /// Jobs.
    Jobs,
    /// Datasets.
    Datasets,
}

/// A query for each [`RowRange`]; for the last, one for each database.
macro_rules! ranges {
    ($select:literal) => {
        [
            concat!($select, " WHERE graph_id = ? ORDER BY id"),
            concat!($select, " WHERE graph_id = ? AND id >= ? ORDER BY id LIMIT ?"),
            concat!(
                $select,
                " WHERE graph_id = ? AND name IN (SELECT value FROM json_each(?)) ORDER BY id"
            ),
            concat!(
                $select,
                " WHERE graph_id = ? AND name IN (SELECT jsonb_array_elements_text(?::jsonb)) \
                 ORDER BY id"
            ),
        ]
    };
}

macro_rules! names_query {
    ($table:literal, $ids:literal) => {
        concat!("SELECT id, name FROM ", $table, " WHERE graph_id = ? AND id IN ", $ids)
    };
}

impl<'r> RowRange<'r> {
    fn query(
        self,
        graph_id: i64,
        queries: [&'static str; 4],
        is_sqlite: bool,
    ) -> (&'static str, Vec<Value<'r>>) {
        let [all, from, named_in_sqlite, named_in_postgres] = queries;
        let graph = Value::Integer(graph_id);
        match self {
            Self::All => (all, vec![graph]),
            Self::IdsFrom(id, most) => {
                (from, vec![graph, Value::Integer(id), Value::Integer(most)])
            }
            Self::Named(names) => {
                let named = if is_sqlite { named_in_sqlite } else { named_in_postgres };
                (named, vec![graph, Value::Text(names)])
            }
        }
    }
}

impl AnyConnection {
    /// Calls `each` with datasets of a graph, in the order of `range`.
    ///
    /// # Errors
    /// What the database reports, or `each` returns.
    pub fn each_dataset<E: From<diesel::result::Error>>(
        &mut self,
        graph_id: i64,
        range: RowRange<'_>,
        each: &mut dyn FnMut(DatasetRow) -> Result<(), E>,
    ) -> Result<(), E> {
        type Columns = (BigInt, Text, Nullable<Text>, Nullable<BigInt>);
        type Row = (ReadInteger, ReadText, Option<ReadText>, Option<ReadInteger>);
        let queries = ranges!("SELECT id, name, metadata, producer FROM datasets");
        let (text, values) = range.query(graph_id, queries, matches!(self, Self::Sqlite(_)));
        let query = TypedSql::<Columns, _>::new(text, &values);
        let mut take = |row: QueryResult<Row>| {
            let (id, name, metadata, producer) = row?;
            let damaged = first_damaged([
                ("id", id.fits),
                ("name", name.fits),
                ("metadata", metadata.as_ref().is_none_or(|metadata| metadata.fits)),
                ("producer", producer.as_ref().is_none_or(|producer| producer.fits)),
            ]);
            let metadata = metadata.map(|metadata| metadata.text);
            let producer = producer.map(|producer| producer.value);
            each(DatasetRow { id: id.value, name: name.text, metadata, producer, damaged })
        };
        match self {
            Self::Sqlite(connection) => {
                query.load_iter::<Row, DefaultLoadingMode>(connection)?.try_for_each(&mut take)
            }
            Self::Postgres(connection) => {
                query.load_iter::<Row, DefaultLoadingMode>(connection)?.try_for_each(&mut take)
            }
        }
    }

    /// Calls `each` with jobs of a graph, in the order of `range`.
    ///
    /// # Errors
    /// What the database reports, or `each` returns.
    pub fn each_job<E: From<diesel::result::Error>>(
        &mut self,
        graph_id: i64,
        range: RowRange<'_>,
        each: &mut dyn FnMut(JobRow) -> Result<(), E>,
    ) -> Result<(), E> {
        type Row = (ReadInteger, ReadText, ReadText, ReadInteger, InputIds);
        let queries = ranges!("SELECT id, name, spec, version, inputs FROM jobs");
        let (text, values) = range.query(graph_id, queries, matches!(self, Self::Sqlite(_)));
        let mut take = |row: QueryResult<Row>| {
            let (id, name, spec, version, InputIds(inputs)) = row?;
            let damaged = first_damaged([
                ("id", id.fits),
                ("name", name.fits),
                ("spec", spec.fits),
                ("version", version.fits),
            ]);
            let (id, version) = (id.value, version.value);
            each(JobRow { id, name: name.text, spec: spec.text, version, inputs, damaged })
        };
        match self {
            Self::Sqlite(connection) => {
                let query = TypedSql::<(BigInt, Text, Text, BigInt, Text), _>::new(text, &values);
                query.load_iter::<Row, DefaultLoadingMode>(connection)?.try_for_each(&mut take)
            }
            Self::Postgres(connection) => {
                let query =
                    TypedSql::<(BigInt, Text, Text, BigInt, Array<Integer>), _>::new(text, &values);
                query.load_iter::<Row, DefaultLoadingMode>(connection)?.try_for_each(&mut take)
            }
        }
    }

    /// Names of those rows of a graph that have these ids, as far as they can be read.
    ///
    /// # Errors
    /// What the database reports.
    pub fn names_of_rows(
        &mut self,
        table: RowTable,
        graph_id: i64,
        ids: &[i64],
    ) -> QueryResult<Vec<(i64, String)>> {
        type Columns = (BigInt, Text);
        let list = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let (list, text) = match (&self, table) {
            (Self::Sqlite(_), RowTable::Jobs) => {
                (format!("[{list}]"), names_query!("jobs", "(SELECT value FROM json_each(?))"))
            }
            (Self::Sqlite(_), RowTable::Datasets) => {
                (format!("[{list}]"), names_query!("datasets", "(SELECT value FROM json_each(?))"))
            }
            (Self::Postgres(_), RowTable::Jobs) => {
                (format!("{{{list}}}"), names_query!("jobs", "(SELECT unnest(?::bigint[]))"))
            }
            (Self::Postgres(_), RowTable::Datasets) => {
                (format!("{{{list}}}"), names_query!("datasets", "(SELECT unnest(?::bigint[]))"))
            }
        };
        let values = [Value::Integer(graph_id), Value::Text(&list)];
        let query = TypedSql::<Columns, _>::new(text, &values);
        let rows: Vec<(ReadInteger, ReadText)> = match self {
            Self::Sqlite(connection) => query.load(connection),
            Self::Postgres(connection) => query.load(connection),
        }?;
        Ok(rows.into_iter().map(|(id, name)| (id.value, name.text.to_string())).collect())
    }
}

fn first_damaged<const N: usize>(columns: [(&'static str, bool); N]) -> Option<&'static str> {
    columns.into_iter().find(|(_, fits)| !fits).map(|(column, _)| column)
}
