//! The one file that knows which database it is talking to: how a URL names one, how a connection is set up and checked, and how
//! transactions begin.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::DbError;
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
    // Room for the upper pages of every index of a million jobs; of no concern for correctness.
    connection.batch_execute("PRAGMA cache_size = -32768")?;
    // 64 MiB: a page that a load touches in many transactions is copied from the log into the file once for all of them.
    connection.batch_execute("PRAGMA wal_autocheckpoint = 16384")?;
    Ok(())
}

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
        connection.immediate_transaction(|connection| {
            refuse_newer_schema(connection)?;
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

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn refuse_newer_schema(connection: &mut SqliteConnection) -> Result<(), DbError> {
    let tables = "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'";
    if diesel::sql_query(tables).get_result::<Count>(connection)?.count == 0 {
        return Ok(());
    }
    let applied = connection.applied_migrations().map_err(|error| DbError::Migration { reason: error.to_string() })?;
    let known: Vec<_> = diesel::migration::MigrationSource::<diesel::sqlite::Sqlite>::migrations(&SQLITE_MIGRATIONS)
        .map_err(|error| DbError::Migration { reason: error.to_string() })?
        .iter()
        .map(|migration| migration.name().version().as_owned())
        .collect();
    match applied.into_iter().find(|version| !known.contains(version)) {
        None => Ok(()),
        Some(version) => Err(DbError::NewerSchema { version: version.to_string() }),
    }
}
