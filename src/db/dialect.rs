//! The one file that knows which database it is talking to: how a URL names one, how a connection is set up and checked, how
//! transactions begin, and how many rows are written by one statement.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::DbError;
use super::schema::{ChangeRow, changes};
use crate::failpoint;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// How long a writer waits for another process's transaction on the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to whichever database the URL named.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// A file, through the library that is compiled in.
    Sqlite(diesel::SqliteConnection),
}

/// Which database to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
}

impl DatabaseUrl {
    /// Reads `sqlite:PATH`.
    ///
    /// # Errors
    /// [`DbError::Url`] says which forms there are.
    pub fn parse(text: &str) -> Result<Self, DbError> {
        let path = text.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
        match path {
            Some("") => Err(DbError::Url { url: text.to_owned(), reason: "it names no file" }),
            Some(":memory:") => Err(DbError::Url {
                url: text.to_owned(),
                reason: "a database in memory would be another one on every connection",
            }),
            Some(path) => Ok(Self::Sqlite(path.into())),
            None => Err(DbError::Url { url: text.to_owned(), reason: "the scheme is not `sqlite:`" }),
        }
    }

    /// The file of an embedded database, with links resolved once it exists: what a lock beside it is named after.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        let Self::Sqlite(path) = self;
        path.canonicalize().unwrap_or_else(|_| path.clone())
    }

    /// Opens a connection, set up and checked.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if that cannot be done.
    pub(super) fn connect(&self) -> Result<AnyConnection, DbError> {
        let Self::Sqlite(path) = self;
        let failed = |reason: String| DbError::Unavailable { what: format!("opening {}: {reason}", path.display()) };
        let text = path.to_str().ok_or_else(|| failed("the path is not UTF-8".to_owned()))?;
        // Diesel would take `file:` for a URI with parameters of its own.
        let text = if Path::new(text).is_relative() { format!("./{text}") } else { text.to_owned() };
        let mut connection = SqliteConnection::establish(&text).map_err(|error| failed(error.to_string()))?;
        configure_sqlite(&mut connection).map_err(|error| failed(error.to_string()))?;
        Ok(AnyConnection::Sqlite(connection))
    }
}

/// What every SQLite connection is set to, and must then be found at: a library built otherwise, or a file system without
/// shared memory, would take a setting silently back.
const SQLITE_SETTINGS: [(&str, &str, &str); 4] = [
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("foreign_keys", "ON", "1"),
    ("temp_store", "MEMORY", "2"),
];

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

fn configure_sqlite(connection: &mut SqliteConnection) -> Result<(), DbError> {
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis()))?;
    for (name, value, expected) in SQLITE_SETTINGS {
        // Taken out only in builds for tests, to show that counting syncs tells the difference.
        let unsafe_commits = name == "synchronous" && failpoint::is_off("synchronous");
        let (value, expected) = if unsafe_commits { ("OFF", "0") } else { (value, expected) };
        set_pragma(connection, name, value)?;
        let found = pragma(connection, name)?;
        if found != expected {
            let what = format!("PRAGMA {name} is {found} and cannot be set to {value}");
            return Err(DbError::Unavailable { what });
        }
    }
    set_sqlite_cache(connection, 32)?;
    // 256 MiB: a page that a load touches in many transactions is copied from the log into the file once for all of them.
    connection.batch_execute("PRAGMA wal_autocheckpoint = 65536")?;
    Ok(())
}

/// Sets how many MiB of pages a connection keeps: room for the upper pages of every index of a million jobs, or, for a change that touches all of
/// them, for all that it touches, which would otherwise be written and read again before it is committed. Of no concern for correctness.
fn set_sqlite_cache(connection: &mut SqliteConnection, mib: u32) -> QueryResult<()> {
    connection.batch_execute(&format!("PRAGMA cache_size = -{}", mib << 10))
}

/// A statement over so many rows is that of a load, not of a client's daily work.
const MANY_ROWS: usize = 5_000;

/// Changing the journal mode does not wait for the busy timeout: when several processes open a new file at once, it is tried again.
fn set_pragma(connection: &mut SqliteConnection, name: &str, value: &str) -> Result<(), DbError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.batch_execute(&format!("PRAGMA {name} = {value}")) {
            Err(error) if error.to_string().contains("locked") && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return Ok(outcome?),
        }
    }
}

fn pragma(connection: &mut SqliteConnection, name: &str) -> Result<String, DbError> {
    let query = format!("SELECT CAST({name} AS TEXT) AS value FROM pragma_{name}");
    Ok(diesel::sql_query(query).get_result::<Setting>(connection)?.value)
}

impl AnyConnection {
    /// What the connection's settings are, by name, as the database tells them now.
    ///
    /// # Errors
    /// [`DbError`] if it does not answer.
    pub fn settings(&mut self) -> Result<Vec<(&'static str, String)>, DbError> {
        let Self::Sqlite(connection) = self;
        let names = SQLITE_SETTINGS.iter().map(|(name, ..)| *name);
        names.map(|name| Ok((name, pragma(connection, name)?))).collect()
    }

    /// Begins a transaction that sees one snapshot and writes nothing.
    pub(super) fn begin_read(&mut self) -> QueryResult<()> {
        self.batch_execute("BEGIN DEFERRED")
    }

    /// Begins a transaction that writes. On SQLite it has the file's write lock from the start: a transaction that began as a reader may
    /// find that it cannot become a writer.
    pub(super) fn begin_write(&mut self) -> QueryResult<()> {
        self.batch_execute("BEGIN IMMEDIATE")
    }

    /// Brings the schema up to date, safe when several processes start at once: one of them does it, the others wait.
    pub(super) fn migrate(&mut self) -> Result<Vec<String>, DbError> {
        let Self::Sqlite(connection) = self;
        // Looked at first without the file's write lock: a reader must not wait for a writer in order to begin.
        if is_up_to_date(connection)? {
            return Ok(Vec::new());
        }
        connection.immediate_transaction(|connection| {
            is_up_to_date(connection)?;
            let run = connection.run_pending_migrations(SQLITE_MIGRATIONS);
            let run = run.map_err(|error| DbError::Migration { reason: error.to_string() })?;
            Ok(run.iter().map(ToString::to_string).collect())
        })
    }

    /// Takes the newest `count` migrations back.
    pub(super) fn revert(&mut self, count: usize) -> Result<(), DbError> {
        let Self::Sqlite(connection) = self;
        connection.immediate_transaction(|connection| {
            for _ in 0..count {
                let reverted = connection.revert_last_migration(SQLITE_MIGRATIONS);
                reverted.map_err(|error| DbError::Migration { reason: error.to_string() })?;
            }
            Ok(())
        })
    }
}

/// A statement over many rows of one graph. The first `?` is the graph's id, the second the rows as a JSON array.
pub struct RowsStatement {
    sqlite: &'static str,
}

impl RowsStatement {
    /// Rows: `job << 32 | dataset`.
    pub const INSERT_INPUTS: Self = Self {
        sqlite: "INSERT INTO job_inputs (graph_id, job_id, dataset_id) SELECT ?, value >> 32, value & 4294967295 FROM json_each(?)",
    };
    /// Rows: `job << 32 | dataset`.
    pub const INSERT_OUTPUTS: Self = Self {
        sqlite: "INSERT INTO job_outputs (graph_id, job_id, dataset_id) SELECT ?, value >> 32, value & 4294967295 FROM json_each(?)",
    };
    /// Rows: `job << 32 | dataset`.
    pub const DELETE_INPUTS: Self = Self {
        sqlite: "DELETE FROM job_inputs WHERE graph_id = ? AND (job_id, dataset_id) IN \
                 (SELECT value >> 32, value & 4294967295 FROM json_each(?))",
    };
    /// Rows: `job << 32 | dataset`.
    pub const DELETE_OUTPUTS: Self = Self {
        sqlite: "DELETE FROM job_outputs WHERE graph_id = ? AND dataset_id IN (SELECT value & 4294967295 FROM json_each(?))",
    };
    /// Rows: ids.
    pub const DELETE_JOBS: Self =
        Self { sqlite: "DELETE FROM jobs WHERE graph_id = ? AND id IN (SELECT value FROM json_each(?))" };
    /// Rows: ids.
    pub const DELETE_DATASETS: Self =
        Self { sqlite: "DELETE FROM datasets WHERE graph_id = ? AND id IN (SELECT value FROM json_each(?))" };
    /// Rows: `[id, name, spec, version]`.
    pub const INSERT_JOBS: Self = Self {
        sqlite: "INSERT INTO jobs (graph_id, id, name, spec, version) \
                 SELECT ?, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)",
    };
    /// Rows: `[id, spec, version]`; a specification that is null stays. As an upsert of rows that are there, since `UPDATE … FROM` has SQLite look
    /// through all jobs of the graph for each.
    pub const UPDATE_JOBS: Self = Self {
        sqlite: "INSERT INTO jobs (graph_id, id, name, spec, version) \
                 SELECT old.graph_id, old.id, old.name, coalesce(new.value ->> 1, old.spec), new.value ->> 2 \
                 FROM (SELECT ? AS id) AS graph CROSS JOIN json_each(?) AS new \
                 CROSS JOIN jobs AS old ON old.graph_id = graph.id AND old.id = new.value ->> 0 WHERE true \
                 ON CONFLICT (graph_id, id) DO UPDATE SET spec = excluded.spec, version = excluded.version",
    };
    /// Rows: `[id, name, metadata]`.
    pub const INSERT_DATASETS: Self = Self {
        sqlite: "INSERT INTO datasets (graph_id, id, name, metadata) \
                 SELECT ?, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)",
    };
    /// Rows: `[id, metadata]`.
    pub const UPDATE_DATASETS: Self = Self {
        sqlite: "INSERT INTO datasets (graph_id, id, name, metadata) \
                 SELECT old.graph_id, old.id, old.name, new.value ->> 1 \
                 FROM (SELECT ? AS id) AS graph CROSS JOIN json_each(?) AS new \
                 CROSS JOIN datasets AS old ON old.graph_id = graph.id AND old.id = new.value ->> 0 WHERE true \
                 ON CONFLICT (graph_id, id) DO UPDATE SET metadata = excluded.metadata",
    };
}

/// A statement in a database's own words with values between them. Prepared once on a connection, unlike [`diesel::sql_query`]'s.
struct Words<'w> {
    text: &'static str,
    graph_id: i64,
    rows: &'w str,
}

impl QueryId for Words<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<diesel::sqlite::Sqlite> for Words<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, diesel::sqlite::Sqlite>) -> QueryResult<()> {
        let (before, rest) = self.text.split_once('?').expect("a place for the graph's id");
        let (between, after) = rest.split_once('?').expect("a place for the rows");
        out.push_sql(before);
        out.push_bind_param::<BigInt, _>(&self.graph_id)?;
        out.push_sql(between);
        out.push_bind_param::<Text, _>(self.rows)?;
        out.push_sql(after);
        Ok(())
    }
}

impl RunQueryDsl<SqliteConnection> for Words<'_> {}

impl AnyConnection {
    /// Runs `statement` over `rows` of a graph, in one round trip; does nothing if there are none. O(bytes of the rows) beyond what the database does.
    ///
    /// # Errors
    /// What the database says.
    pub fn execute_rows<R: serde::Serialize>(
        &mut self,
        statement: &RowsStatement,
        graph_id: i64,
        rows: impl ExactSizeIterator<Item = R>,
    ) -> QueryResult<()> {
        if rows.len() == 0 {
            return Ok(());
        }
        let many = rows.len() >= MANY_ROWS;
        let rows: Vec<R> = rows.collect();
        let rows =
            serde_json::to_string(&rows).map_err(|error| diesel::result::Error::SerializationError(error.into()))?;
        match self {
            Self::Sqlite(connection) => {
                if many {
                    set_sqlite_cache(connection, 256)?;
                }
                Words { text: statement.sqlite, graph_id, rows: &rows }.execute(connection)?
            }
        };
        Ok(())
    }

    /// Writes rows of the change log.
    ///
    /// # Errors
    /// What the database says.
    pub fn insert_changes(&mut self, rows: &[ChangeRow<'_>]) -> QueryResult<()> {
        match self {
            Self::Sqlite(connection) => {
                for row in rows {
                    diesel::insert_into(changes::table).values(row).execute(connection)?;
                }
            }
        }
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Whether every migration was run.
///
/// # Errors
/// [`DbError::NewerSchema`] if one was run that is not known here.
fn is_up_to_date(connection: &mut SqliteConnection) -> Result<bool, DbError> {
    let tables = "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'";
    if diesel::sql_query(tables).get_result::<Count>(connection)?.count == 0 {
        return Ok(false);
    }
    let applied = diesel::sql_query("SELECT version AS value FROM __diesel_schema_migrations");
    let applied: Vec<String> = applied.load::<Setting>(connection)?.into_iter().map(|row| row.value).collect();
    let known: Vec<String> =
        diesel::migration::MigrationSource::<diesel::sqlite::Sqlite>::migrations(&SQLITE_MIGRATIONS)
            .map_err(|error| DbError::Migration { reason: error.to_string() })?
            .iter()
            .map(|migration| migration.name().version().to_string())
            .collect();
    match applied.iter().find(|version| !known.contains(version)) {
        None => Ok(known.iter().all(|version| applied.contains(version))),
        Some(version) => Err(DbError::NewerSchema { version: version.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = Text)]
        detail: String,
    }

    /// A statement over one row must not look at all others.
    #[test]
    fn rows_are_found_by_their_keys() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = DatabaseUrl::Sqlite(directory.path().join("plans.db")).connect().unwrap();
        connection.migrate().unwrap();
        let AnyConnection::Sqlite(connection) = &mut connection;
        use RowsStatement as S;
        let all = [
            S::INSERT_INPUTS,
            S::INSERT_OUTPUTS,
            S::DELETE_INPUTS,
            S::DELETE_OUTPUTS,
            S::DELETE_JOBS,
            S::DELETE_DATASETS,
            S::INSERT_JOBS,
            S::UPDATE_JOBS,
            S::INSERT_DATASETS,
            S::UPDATE_DATASETS,
        ];
        for RowsStatement { sqlite } in all {
            let plan = format!("EXPLAIN QUERY PLAN {}", sqlite.replacen('?', "1", 1).replacen('?', "'[]'", 1));
            let steps: Vec<Step> = diesel::sql_query(&plan).load(connection).unwrap();
            assert!(!steps.is_empty());
            for Step { detail } in steps {
                let by_key = detail.starts_with("SEARCH") && detail.contains("id=? AND");
                let of_a_table =
                    ["SEARCH", "SCAN job", "SCAN dataset", "SCAN old"].iter().any(|step| detail.starts_with(step));
                assert!(by_key || !of_a_table, "{sqlite}: {detail}");
            }
        }
    }
}
