//! The rows of a graph: jobs with the ids of their inputs, datasets with the id of their producer.
//! Written many at once, and read in the order of their ids.

use arcstr::ArcStr;
use diesel::QueryResult;
use diesel::connection::DefaultLoadingMode;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteType, SqliteValue};

use super::AnyConnection;
use super::sqlite_connection::set_sqlite_cache;
use super::statement::{PostgresValue, RawSql, TypedSql, Value};
use crate::db::causes;
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
}

impl AnyConnection {
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

/// Ids as SQLite's JSON or Postgres' text has a list.
pub(super) fn list_of_ids(ids: &[u32], open: char, close: char) -> String {
    let mut text = String::with_capacity(2 + 8 * ids.len());
    let mut digits = itoa::Buffer::new();
    text.push(open);
    for (at, id) in ids.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(digits.format(*id));
    }
    text.push(close);
    text
}

/// The ids of a list as [`list_of_ids`] writes it for SQLite.
fn ids_of_json(text: &str) -> Option<Vec<u32>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?.as_bytes();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let mut ids = Vec::with_capacity(inner.iter().filter(|&&byte| byte == b',').count() + 1);
    for digits in inner.split(|&byte| byte == b',') {
        if digits.is_empty() {
            return None;
        }
        let id = digits.iter().try_fold(0_u32, |id, byte| {
            let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
            id.checked_mul(10)?.checked_add(digit)
        });
        ids.push(id?);
    }
    Some(ids)
}

/// A text that is made shareable as it is read: the graph keeps it as it is.
#[derive(Debug, FromSqlRow)]
#[diesel(sql_type = Text)]
struct ReadText {
    text: ArcStr,
    /// Whether it is a text, of UTF-8. If not, `text` only shows people what is there.
    fits: bool,
}

impl ReadText {
    fn of(text: &str, fits: bool) -> Self {
        // What most jobs have as their specification takes no memory of its own.
        let text = if text == "{}" { arcstr::literal!("{}") } else { text.into() };
        Self { text, fits }
    }
}

impl FromSql<Text, Sqlite> for ReadText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let is_text = value.value_type() == Some(SqliteType::Text);
        let text = value.read_text();
        // This may stand for bytes that are no UTF-8. To read the bytes of every text would cost a
        // copy by SQLite.
        if text.contains(char::REPLACEMENT_CHARACTER) {
            let text = Self::of(text, is_text);
            let fits = is_text && str::from_utf8(value.read_blob()).is_ok();
            return Ok(Self { fits, ..text });
        }
        Ok(Self::of(text, is_text))
    }
}

impl FromSql<Text, Pg> for ReadText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::of(str::from_utf8(value.as_bytes())?, true))
    }
}

/// An integer. SQLite would read as one whatever a column holds: text as 0, a fraction without its
/// digits after the point.
#[derive(Debug, FromSqlRow)]
#[diesel(sql_type = BigInt)]
struct ReadInteger {
    value: i64,
    fits: bool,
}

impl FromSql<BigInt, Sqlite> for ReadInteger {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let fits = value.value_type() == Some(SqliteType::Long);
        Ok(Self { value: value.read_long(), fits })
    }
}

impl FromSql<BigInt, Pg> for ReadInteger {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self { value: FromSql::<BigInt, Pg>::from_sql(value)?, fits: true })
    }
}

/// A list of ids as SQLite has it, or as Postgres sends it.
#[derive(Debug, FromSqlRow)]
#[diesel(sql_type = Text)]
#[diesel(sql_type = Array<Integer>)]
struct InputIds(Option<Vec<u32>>);

impl FromSql<Text, Sqlite> for InputIds {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        // What are bytes to SQLite is no JSON to its functions.
        let is_text = value.value_type() == Some(SqliteType::Text);
        Ok(Self(if is_text { ids_of_json(value.read_text()) } else { None }))
    }
}

impl FromSql<Array<Integer>, Pg> for InputIds {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(ids_of_array(value.as_bytes())))
    }
}

/// Reads an array's binary form: the number of dimensions, a flag, the elements' type, length and
/// lower bound of the one dimension, then each element after its length in bytes.
fn ids_of_array(bytes: &[u8]) -> Option<Vec<u32>> {
    fn take(rest: &mut &[u8]) -> Option<i32> {
        let (first, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(i32::from_be_bytes(*first))
    }
    let mut rest = bytes;
    let dimensions = take(&mut rest)?;
    let (_has_null, _type) = (take(&mut rest)?, take(&mut rest)?);
    if dimensions == 0 {
        return Some(Vec::new());
    }
    if dimensions != 1 {
        return None;
    }
    let (length, lower_bound) = (take(&mut rest)?, take(&mut rest)?);
    if lower_bound != 1 {
        return None;
    }
    let mut ids = Vec::with_capacity(usize::try_from(length).ok()?.min(rest.len() / 8));
    for _ in 0..length {
        if take(&mut rest)? != 4 {
            return None;
        }
        ids.push(u32::try_from(take(&mut rest)?).ok()?);
    }
    rest.is_empty().then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::super::query_plan::query_plan;
    use super::*;

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

    #[test]
    fn lists_of_ids_are_read_as_they_are_written() {
        for ids in [vec![], vec![0], vec![7, 4_294_967_295], vec![3, 1, 2]] {
            assert_eq!(ids_of_json(&list_of_ids(&ids, '[', ']')), Some(ids));
        }
        for text in
            ["", "[", "[1", "1]", "[1,]", "[,1]", "[-1]", "[+1]", "[1.0]", "[4294967296]", "{1}"]
        {
            assert_eq!(ids_of_json(text), None, "{text}");
        }
    }

    #[test]
    fn an_array_that_is_no_list_of_ids_is_told_from_one() {
        let array = |words: &[i32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        assert_eq!(ids_of_array(&array(&[0, 0, 23])), Some(vec![]));
        assert_eq!(ids_of_array(&array(&[1, 0, 23, 2, 1, 4, 5, 4, 6])), Some(vec![5, 6]));
        for damaged in [
            &[][..],
            &[2, 0, 23, 1, 1, 1, 1, 4, 5],
            &[1, 0, 23, 2, 0, 4, 5, 4, 6],
            &[1, 1, 23, 1, 1, -1],
            &[1, 0, 23, 1, 1, 4, -5],
            &[1, 0, 23, 2, 1, 4, 5],
            &[1, 0, 23, 1, 1, 4, 5, 6],
            &[1, 0, 23, -1, 1],
        ] {
            assert_eq!(ids_of_array(&array(damaged)), None, "{damaged:?}");
        }
    }
}
