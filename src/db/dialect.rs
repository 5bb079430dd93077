//! The one file that knows which database it is talking to: how a URL names one, how a connection
//! is set up and checked, how transactions begin, and how many rows are written by one statement.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::backend::Backend;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, BigInt, Binary, HasSqlType, Nullable, Text, Untyped};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::Access;

use super::schema::{ChangeRow, changes, graphs};
use super::sqlite_file::{check_first, is_malformed, mixed_if_malformed};
use super::{DbError, LOADING_STALL, Signals, Size, on_one_line, server, url, watch};
use crate::address::{self, Address};
use crate::failpoint;

/// Milliseconds since 1970. In SQLite the clock is that of the machine, which all processes on a
/// file share.
macro_rules! sqlite_now_ms {
    () => {
        "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)"
    };
}
/// Milliseconds since 1970, when the statement began.
macro_rules! postgres_now_ms {
    () => {
        "(extract(epoch FROM statement_timestamp()) * 1000)::bigint"
    };
}
pub(super) use {postgres_now_ms, sqlite_now_ms};

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// How long a writer waits for another process's transaction on the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to whichever database the URL named.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// A file, through the library that is compiled in.
    Sqlite(diesel::SqliteConnection),
    /// A server, through the libpq that is compiled in.
    Postgres(diesel::PgConnection),
}

/// Which database to use. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `postgres://…` or `postgresql://…`, as libpq takes it.
    Postgres(String),
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => {
                write!(f, "sqlite:{}", address::shown_path(&path.display().to_string()))
            }
            Self::Postgres(url) => f.write_str(&address::shown(url)),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl DatabaseUrl {
    /// Reads `sqlite:PATH`, `postgres://…` or `postgresql://…`.
    ///
    /// # Errors
    /// [`DbError::Url`] says which forms there are.
    pub fn parse(text: &str) -> Result<Self, DbError> {
        let refused = |reason: &str| {
            Err(DbError::Url { url: address::shown(text), reason: reason.to_owned() })
        };
        if text != text.trim() || text.contains(char::is_control) {
            return refused("it begins or ends with a space, or has a control character");
        }
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            scheme @ ("postgres" | "postgresql") if rest.starts_with("//") => {
                let text = format!("{scheme}:{rest}");
                let checked = Address::parse(&text).and_then(|address| address.check_for_libpq());
                checked.map_or_else(refused, |()| Ok(Self::Postgres(text)))
            }
            "sqlite" => {
                let path = address::check_path(rest).and_then(|()| url::sqlite_path(rest));
                path.map_or_else(refused, |path| Ok(Self::Sqlite(path.into())))
            }
            _ => refused("the scheme is neither `sqlite:` nor `postgres:`"),
        }
    }

    /// The file of an embedded database, with links resolved once it exists: what a lock beside it
    /// is named after.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(path) => Some(path.canonicalize().unwrap_or_else(|_| path.clone())),
            Self::Postgres(_) => None,
        }
    }

    /// Opens a connection, set up and checked.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if that cannot be done.
    pub(super) fn connect(&self, mode: OpenMode) -> Result<AnyConnection, DbError> {
        match self {
            Self::Sqlite(path) => connect_sqlite(path, mode).map(AnyConnection::Sqlite),
            Self::Postgres(url) => connect_postgres(url).map(AnyConnection::Postgres),
        }
    }

    /// Opens the first connection, and makes sure that the database is one for Fencepost: nothing
    /// of another application's is changed to find that out.
    ///
    /// # Errors
    /// [`DbError`] says what to do.
    pub(super) fn connect_first(&self, mode: OpenMode) -> Result<AnyConnection, DbError> {
        let explained = |error: DbError| match self {
            Self::Sqlite(path) => with_lacking_permission(path, error),
            Self::Postgres(_) => error,
        };
        let named = |error: DbError| match explained(error) {
            DbError::Unavailable { what } if !what.contains(&self.to_string()) => {
                DbError::Unavailable { what: format!("{self}: {what}") }
            }
            other => other,
        };
        let mut connection = match self {
            Self::Sqlite(path) => {
                AnyConnection::Sqlite(establish_sqlite(path, mode).map_err(explained)?)
            }
            Self::Postgres(url) => AnyConnection::Postgres(connect_postgres(url)?),
        };
        if let Err(error) = self.check_kind(&mut connection, mode) {
            // Whoever closes the last connection copies the log into the file: as long as it is
            // open, the two can still be told apart.
            if is_malformed(&error) {
                std::mem::forget(connection);
            }
            return Err(named(match self {
                Self::Sqlite(path) => mixed_if_malformed(path, error),
                Self::Postgres(_) => error,
            }));
        }
        match (self, connection) {
            (Self::Sqlite(path), AnyConnection::Sqlite(connection)) => {
                let mut connection = check_first(path, connection)?;
                configure_sqlite(&mut connection, mode).map_err(named)?;
                if mode != OpenMode::Read {
                    refuse_read_only(&mut connection).map_err(named)?;
                }
                Ok(AnyConnection::Sqlite(connection))
            }
            (_, connection) => Ok(connection),
        }
    }

    /// Whether the database is of our encoding, and its tables are those that `mode` wants.
    fn check_kind(&self, connection: &mut AnyConnection, mode: OpenMode) -> Result<(), DbError> {
        let database = || self.to_string();
        if let AnyConnection::Sqlite(connection) = connection {
            let encoding = pragma(connection, "encoding")?;
            if encoding != "UTF-8" {
                return Err(DbError::Encoding { database: database(), encoding });
            }
        }
        match (mode, connection.schema()?) {
            (OpenMode::Change | OpenMode::Read, Schema::Missing) => {
                Err(DbError::NoTables { database: database() })
            }
            (OpenMode::Read, Schema::Older) => Err(DbError::OlderSchema { database: database() }),
            (OpenMode::Create, Schema::Missing) => match connection.foreign_table()? {
                // Unless another process of ours has made them meanwhile.
                Some(table) if connection.schema()? == Schema::Missing => {
                    Err(DbError::OthersTables { database: database(), table })
                }
                Some(_) | None => Ok(()),
            },
            (OpenMode::CreateBesideOthers, Schema::Missing)
            | (_, Schema::Older | Schema::Current) => Ok(()),
        }
    }
}

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// As `Create`, and tables of another application may be there already.
    CreateBesideOthers,
    /// To be used, and made if it is not there: its schema is brought up to date.
    Create,
    /// To be changed: it must be there, and its schema is brought up to date.
    Change,
    /// To be read: it must be there, with a schema that is up to date, and nothing is changed.
    Read,
}

impl OpenMode {
    fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreateBesideOthers)
    }
}

/// What is known of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// None of ours are there.
    Missing,
    /// An older program made them.
    Older,
    /// They are those of this program.
    Current,
}

fn unavailable(path: &Path, reason: &str) -> DbError {
    let shown = address::shown_path(&path.display().to_string());
    DbError::Unavailable { what: format!("opening {shown}: {reason}") }
}

/// Opens a file, which is made only if `mode` says so, and changes nothing in it.
fn establish_sqlite(path: &Path, mode: OpenMode) -> Result<SqliteConnection, DbError> {
    let named = || DatabaseUrl::Sqlite(path.to_owned()).to_string();
    match path.metadata() {
        Ok(found) if found.is_dir() => {
            let reason = "it is a directory, not a file".to_owned();
            return Err(DbError::Url { url: named(), reason });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !mode.creates() {
                return Err(DbError::NotThere { database: named() });
            }
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if let Some(directory) = directory.filter(|directory| !directory.exists()) {
                let reason = format!("there is no directory {}", directory.display());
                return Err(unavailable(path, &reason));
            }
        }
        // SQLite finds its own words.
        Ok(_) | Err(_) => {}
    }
    let parameters = if mode.creates() { "mode=rwc" } else { "mode=rw" };
    let mut connection = establish_by_uri(path, parameters)?;
    let busy = format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis());
    connection.batch_execute(&busy).map_err(|error| unavailable(path, &error.to_string()))?;
    Ok(connection)
}

/// Opens what the file itself holds, whatever its log has to add. Nothing waits for it, and it
/// waits for nothing: while the log is copied into the file, what is read may be half of one state
/// and half of another.
///
/// # Errors
/// [`DbError::Unavailable`] if that cannot be done.
pub(super) fn connect_sqlite_without_log(path: &Path) -> Result<SqliteConnection, DbError> {
    establish_by_uri(path, "mode=ro&immutable=1")
}

/// As a URI, whose parameters say whether a file may be made: every other byte of the path is
/// encoded, so that nothing in it is taken for one.
fn establish_by_uri(path: &Path, parameters: &str) -> Result<SqliteConnection, DbError> {
    const AS_IT_IS: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
    let failed = |reason: &str| unavailable(path, reason);
    let text = path.to_str().ok_or_else(|| failed("the path is not UTF-8"))?;
    // Between `file://` and an absolute path is the name of a machine, which is empty.
    let before = if path.is_absolute() { "file://" } else { "file:" };
    let uri = format!("{before}{}?{parameters}", utf8_percent_encode(text, AS_IT_IS));
    SqliteConnection::establish(&uri).map_err(|error| failed(&error.to_string()))
}

pub(super) fn connect_sqlite(path: &Path, mode: OpenMode) -> Result<SqliteConnection, DbError> {
    let mut connection = establish_sqlite(path, mode)?;
    configure_sqlite(&mut connection, mode).map_err(|error| unavailable(path, &error.reason()))?;
    Ok(connection)
}

/// Adds what this user may not do to an error that may come of that: SQLite tells only what it
/// tried.
fn with_lacking_permission(path: &Path, error: DbError) -> DbError {
    let DbError::Unavailable { what } = &error else { return error };
    let may = |path: &Path, access| rustix::fs::access(path, access).is_ok();
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let shown = address::shown_path(&folder.display().to_string());
    let lacking = match path.metadata() {
        _ if !["readonly", "unable to open"].iter().any(|words| what.contains(words)) => {
            return error;
        }
        Err(found) if found.kind() == std::io::ErrorKind::PermissionDenied => {
            "permission denied: this user may not look into its folder".to_owned()
        }
        Ok(_) if !may(path, Access::READ_OK) => {
            "permission denied: this user may not read the file".to_owned()
        }
        Ok(_) | Err(_) if !may(folder, Access::WRITE_OK | Access::EXEC_OK) => format!(
            "this user may not write to its folder {shown}, where SQLite keeps a log (-wal) and its \
             index (-shm) while a database is used, also by whoever only reads"
        ),
        Ok(_) if !may(path, Access::WRITE_OK) => "this user may not write to the file".to_owned(),
        Ok(_) | Err(_) => return error,
    };
    DbError::Unavailable { what: format!("{what}; {lacking}") }
}

/// SQLite opens a file that it may not write to, begins transactions on it, and fails at the first
/// write only. So one is made that changes nothing, and rolled back. Does not wait for a writer: if
/// there is one, the file can be written to.
fn refuse_read_only(connection: &mut SqliteConnection) -> Result<(), DbError> {
    let user_version = pragma(connection, "user_version")?;
    connection.batch_execute("PRAGMA busy_timeout = 0")?;
    let written = connection.batch_execute("BEGIN IMMEDIATE").and_then(|()| {
        let written = connection.batch_execute(&format!("PRAGMA user_version = {user_version}"));
        connection.batch_execute("ROLLBACK").and(written)
    });
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis()))?;
    match written {
        Err(error) if error.to_string().contains("readonly") => Err(error.into()),
        _ => Ok(()),
    }
}

/// How libpq is to find a dead or deposed server, unless the URL says otherwise.
const POSTGRES_PARAMETERS: [(&str, &str); 7] = [
    ("application_name", "fencepost"),
    ("connect_timeout", "5"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
    ("target_session_attrs", "read-write"),
];

/// What every Postgres session is set to, and must then be found at. A transaction whose client
/// stalls is ended by the server, so that it does not hold the graph's row for longer than a lease
/// of the usual length; who waits for the row waits a second longer than that.
const POSTGRES_SETTINGS: [(&str, &str, &str); 7] = [
    ("synchronous_commit", "on", "on"),
    ("idle_in_transaction_session_timeout", "5s", "5s"),
    ("lock_timeout", "6s", "6s"),
    ("tcp_keepalives_idle", "5", ""),
    ("tcp_keepalives_interval", "2", ""),
    ("tcp_keepalives_count", "3", ""),
    // Of the database, and never changed: one of another encoding cannot store every name.
    ("server_encoding", "", "UTF8"),
];

/// Opens a session on a Postgres server, set up and checked.
///
/// # Errors
/// [`DbError::Unavailable`] if that cannot be done.
pub(crate) fn connect_postgres(url: &str) -> Result<PgConnection, DbError> {
    let failed = |reason: String| DbError::Unavailable {
        what: format!("connecting to {}: {}", address::shown(url), on_one_line(reason)),
    };
    let wrong = |reason: String| DbError::Url { url: address::shown(url), reason };
    let address = Address::parse(url).map_err(|reason| wrong(reason.to_owned()))?;
    let full = address.with_parameters(&POSTGRES_PARAMETERS);
    let mut connection = PgConnection::establish(&full).map_err(|error| match error {
        ConnectionError::BadConnection(reason) => match url::refused_by_libpq(&reason) {
            Some(reason) => wrong(reason),
            None => failed(reason),
        },
        error => failed(error.to_string()),
    })?;
    let set = POSTGRES_SETTINGS.iter().filter(|(_, value, _)| !value.is_empty());
    let set: Vec<String> = set.map(|(name, value, _)| format!("SET {name} = '{value}';")).collect();
    connection.batch_execute(&set.concat()).map_err(|error| failed(error.to_string()))?;
    let found = postgres_settings(&mut connection).map_err(|error| failed(error.to_string()))?;
    for ((name, found), (_, _, expected)) in found.into_iter().zip(POSTGRES_SETTINGS) {
        if name == "server_encoding" && found != expected {
            return Err(DbError::Encoding { database: address::shown(url), encoding: found });
        }
        if !expected.is_empty() && found != expected {
            return Err(failed(format!("{name} is {found} and cannot be set to {expected}")));
        }
    }
    Ok(connection)
}

fn postgres_settings(connection: &mut PgConnection) -> QueryResult<Vec<(&'static str, String)>> {
    let each =
        POSTGRES_SETTINGS.map(|(name, ..)| format!("SELECT current_setting('{name}') AS value"));
    let values = diesel::sql_query(each.join(" UNION ALL ")).load::<Setting>(connection)?;
    Ok(POSTGRES_SETTINGS
        .iter()
        .map(|(name, ..)| *name)
        .zip(values.into_iter().map(|row| row.value))
        .collect())
}

/// The server gives a statement up before the watchdog gives the server up.
fn statement_timeout(answer: Duration) -> Duration {
    answer * 4 / 5
}

fn large_statements() -> String {
    let timeout_ms = statement_timeout(watch::LARGE_ANSWER).as_millis();
    format!("SET LOCAL statement_timeout = '{timeout_ms}ms'")
}

/// What every SQLite connection is set to, and must then be found at: a library built otherwise, or
/// a file system without shared memory, would take a setting silently back.
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

fn configure_sqlite(connection: &mut SqliteConnection, mode: OpenMode) -> Result<(), DbError> {
    for (name, value, expected) in SQLITE_SETTINGS {
        // It is a property of the file, which whoever only reads leaves as it is.
        if name == "journal_mode" && mode == OpenMode::Read {
            continue;
        }
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
    server::tell_of_sqlite(connection)?;
    set_sqlite_cache(connection, 32)?;
    // 256 MiB: a page that a load touches in many transactions is copied from the log into the file
    // once for all of them.
    connection.batch_execute("PRAGMA wal_autocheckpoint = 65536")?;
    Ok(())
}

/// Sets how many MiB of pages a connection keeps: room for the upper pages of every index of a
/// million jobs, or, for a change that touches all of them, for all that it touches, which would
/// otherwise be written and read again before it is committed. Of no concern for correctness.
fn set_sqlite_cache(connection: &mut SqliteConnection, mib: u32) -> QueryResult<()> {
    connection.batch_execute(&format!("PRAGMA cache_size = -{}", mib << 10))
}

/// A statement over so many rows is that of a load, not of a client's daily work.
const MANY_ROWS: usize = 5_000;

/// Changing the journal mode does not wait for the busy timeout: when several processes open a new
/// file at once, it is tried again.
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
    /// Has the server end a transaction whose client stalls for longer than `stall`, its waits for
    /// rows a second later, and a statement somewhat before `answer` is over. Nothing in an
    /// embedded database.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if that cannot be set.
    pub(super) fn limit(&mut self, stall: Duration, answer: Duration) -> Result<(), DbError> {
        let Self::Postgres(connection) = self else { return Ok(()) };
        let (stall_ms, wait_ms) = (stall.as_millis(), (stall + Duration::from_secs(1)).as_millis());
        let statement_ms = statement_timeout(answer).as_millis();
        connection.batch_execute(&format!(
            "SET idle_in_transaction_session_timeout = '{stall_ms}ms'; \
             SET lock_timeout = '{wait_ms}ms'; SET statement_timeout = '{statement_ms}ms'"
        ))?;
        Ok(())
    }

    /// Notes what becomes of its statements, and has the watchdog know of them. Nothing in an
    /// embedded database, which can write and is in this process.
    pub(super) fn listen(&mut self, answer: Duration, signals: &Signals) {
        if let Self::Postgres(connection) = self {
            connection.set_instrumentation(signals.listener(answer));
        }
    }

    /// What the connection's settings are, by name, as the database tells them now.
    ///
    /// # Errors
    /// [`DbError`] if it does not answer.
    pub fn settings(&mut self) -> Result<Vec<(&'static str, String)>, DbError> {
        match self {
            Self::Sqlite(connection) => {
                let names = SQLITE_SETTINGS.iter().map(|(name, ..)| *name);
                names.map(|name| Ok((name, pragma(connection, name)?))).collect()
            }
            Self::Postgres(connection) => Ok(postgres_settings(connection)?),
        }
    }

    /// Begins a transaction that sees one snapshot and writes nothing. It holds no row, so that the
    /// server lets it stand still for [`LOADING_STALL`]: a graph is built from rows inside it.
    pub(super) fn begin_read(&mut self) -> QueryResult<()> {
        match self {
            Self::Sqlite(connection) => connection.batch_execute("BEGIN DEFERRED"),
            Self::Postgres(connection) => {
                const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                if failpoint::is_off("loading-stall") {
                    return connection.batch_execute(BEGIN);
                }
                let stall_ms = LOADING_STALL.as_millis();
                connection.batch_execute(&format!(
                    "{BEGIN}; SET LOCAL idle_in_transaction_session_timeout = '{stall_ms}ms'; {}",
                    large_statements()
                ))
            }
        }
    }

    /// Begins a transaction that writes. On SQLite it has the file's write lock from the start: a
    /// transaction that began as a reader may find that it cannot become a writer. On Postgres each
    /// statement sees what was committed before it began, so that the conditional update, which may
    /// have waited for the row, compares with what is there then.
    pub(super) fn begin_write(&mut self, size: Size) -> QueryResult<()> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
        match (self, size) {
            (Self::Sqlite(connection), _) => connection.batch_execute("BEGIN IMMEDIATE"),
            (Self::Postgres(connection), Size::Usual) => connection.batch_execute(BEGIN),
            (Self::Postgres(connection), Size::Large) => {
                connection.batch_execute(&format!("{BEGIN}; {}", large_statements()))
            }
        }
    }

    /// Waits until nobody else is writing the graph's row, and keeps them from it until the
    /// transaction ends. On SQLite the transaction that writes does that by itself.
    ///
    /// # Errors
    /// What the database says, such as that it took too long.
    pub fn hold_graph(&mut self, name: &str) -> QueryResult<()> {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(connection) => {
                let row =
                    graphs::table.filter(graphs::name.eq(name)).select(graphs::id).for_update();
                row.first::<i64>(connection).optional()?;
            }
        }
        Ok(())
    }

    /// Waits until no other transaction holds the same text, and holds it until the transaction
    /// ends. On SQLite the transaction that writes is alone by itself.
    ///
    /// # Errors
    /// What the database says, such as that it took too long.
    pub fn hold_text(&mut self, text: &str) -> QueryResult<()> {
        if let Self::Postgres(connection) = self {
            let hold = diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))");
            hold.bind::<Text, _>(text).execute(connection)?;
        }
        Ok(())
    }

    /// Runs `body` in a transaction that no other process's migration runs beside.
    fn alone<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        match self {
            Self::Sqlite(connection) => {
                AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")?;
            }
            Self::Postgres(connection) => {
                AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN")?;
                connection
                    .batch_execute(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))?;
            }
        }
        let outcome = body(self);
        match (&outcome, self) {
            (Ok(_), Self::Sqlite(connection)) => {
                AnsiTransactionManager::commit_transaction(connection)?
            }
            (Ok(_), Self::Postgres(connection)) => {
                AnsiTransactionManager::commit_transaction(connection)?
            }
            (Err(_), Self::Sqlite(connection)) => {
                AnsiTransactionManager::rollback_transaction(connection)?
            }
            (Err(_), Self::Postgres(connection)) => {
                AnsiTransactionManager::rollback_transaction(connection)?
            }
        }
        outcome
    }

    /// Whether the table of migrations that is found is the one that migrations would use. On
    /// Postgres another application may have its own in another schema of the search path.
    fn migrates_here(&mut self) -> Result<bool, DbError> {
        let Self::Postgres(connection) = self else { return Ok(true) };
        let here = diesel::sql_query(
            "SELECT count(*) AS count FROM pg_class \
             WHERE oid = to_regclass('__diesel_schema_migrations') \
             AND relnamespace = current_schema()::regnamespace",
        );
        Ok(here.get_result::<Count>(connection)?.count > 0)
    }

    /// A table of another application, where there are none of ours.
    fn foreign_table(&mut self) -> Result<Option<String>, DbError> {
        // Not what an extension has made, such as PostGIS.
        let query = match self {
            Self::Sqlite(_) => {
                "SELECT name AS value FROM sqlite_schema WHERE type IN ('table', 'view') \
                 AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name <> '__diesel_schema_migrations' \
                 ORDER BY name LIMIT 1"
            }
            Self::Postgres(_) => {
                "SELECT relname::text AS value FROM pg_class \
                 WHERE relnamespace = current_schema()::regnamespace \
                 AND relkind IN ('r', 'p', 'v', 'm', 'f') \
                 AND relname <> '__diesel_schema_migrations' AND NOT EXISTS \
                 (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass \
                  AND objid = pg_class.oid AND deptype = 'e') \
                 ORDER BY relname LIMIT 1"
            }
        };
        Ok(diesel::sql_query(query).get_result::<Setting>(self).optional()?.map(|row| row.value))
    }

    /// Whose tables there are, and of which program.
    ///
    /// # Errors
    /// [`DbError::NewerSchema`] if a migration was run that is not known here,
    /// [`DbError::Foreign`] if none was that is.
    pub(super) fn schema(&mut self) -> Result<Schema, DbError> {
        let table = match self {
            Self::Sqlite(_) => {
                "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'"
            }
            Self::Postgres(_) => "SELECT count(to_regclass('__diesel_schema_migrations')) AS count",
        };
        if diesel::sql_query(table).get_result::<Count>(self)?.count == 0 {
            return Ok(Schema::Missing);
        }
        let applied = diesel::sql_query("SELECT version AS value FROM __diesel_schema_migrations");
        let applied: Vec<String> =
            applied.load::<Setting>(self)?.into_iter().map(|row| row.value).collect();
        let known = match self {
            Self::Sqlite(_) => versions::<diesel::sqlite::Sqlite>(&SQLITE_MIGRATIONS),
            Self::Postgres(_) => versions::<diesel::pg::Pg>(&POSTGRES_MIGRATIONS),
        }?;
        let unknown = applied.iter().find(|version| !known.contains(version));
        // Every program of ours has run the first.
        let is_ours = known.iter().min().is_some_and(|first| applied.contains(first));
        match unknown {
            Some(version) if !is_ours => match self.migrates_here()? {
                true => Err(DbError::Foreign { version: version.clone() }),
                false => Ok(Schema::Missing),
            },
            Some(version) => Err(DbError::NewerSchema { version: version.clone() }),
            None if applied.is_empty() => Ok(Schema::Missing),
            None if known.iter().all(|version| applied.contains(version)) => Ok(Schema::Current),
            None => Ok(Schema::Older),
        }
    }

    /// Brings the schema up to date, safe when several processes start at once: one of them does
    /// it, the others wait.
    pub(super) fn migrate(&mut self) -> Result<Vec<String>, DbError> {
        // Looked at first without any lock: a reader must not wait for a writer in order to begin.
        if self.schema()? == Schema::Current {
            return Ok(Vec::new());
        }
        self.alone(|this| {
            this.schema()?;
            let run = match this {
                Self::Sqlite(connection) => {
                    connection.run_pending_migrations(SQLITE_MIGRATIONS).map(names_of)
                }
                Self::Postgres(connection) => {
                    connection.run_pending_migrations(POSTGRES_MIGRATIONS).map(names_of)
                }
            };
            run.map_err(|error| DbError::Migration { reason: error.to_string() })
        })
    }

    /// Takes the newest `count` migrations back.
    pub(super) fn revert(&mut self, count: usize) -> Result<(), DbError> {
        self.alone(|this| {
            for _ in 0..count {
                let reverted = match this {
                    Self::Sqlite(connection) => {
                        connection.revert_last_migration(SQLITE_MIGRATIONS).map(drop)
                    }
                    Self::Postgres(connection) => {
                        connection.revert_last_migration(POSTGRES_MIGRATIONS).map(drop)
                    }
                };
                reverted.map_err(|error| DbError::Migration { reason: error.to_string() })?;
            }
            Ok(())
        })
    }
}

/// A statement over many rows of one graph. The first `?` is the graph's id, the second the rows as
/// a JSON array.
pub struct RowsStatement {
    sqlite: &'static str,
    postgres: &'static str,
}

impl RowsStatement {
    /// Rows: `job << 32 | dataset`.
    pub const INSERT_INPUTS: Self = Self {
        sqlite: "INSERT INTO job_inputs (graph_id, job_id, dataset_id) \
                 SELECT ?, value >> 32, value & 4294967295 FROM json_each(?)",
        postgres: "INSERT INTO job_inputs (graph_id, job_id, dataset_id) \
                   SELECT ?, edge.packed::bigint >> 32, edge.packed::bigint & 4294967295 FROM json_array_elements_text(?::json) AS edge (packed)",
    };
    /// Rows: `job << 32 | dataset`.
    pub const INSERT_OUTPUTS: Self = Self {
        sqlite: "INSERT INTO job_outputs (graph_id, job_id, dataset_id) \
                 SELECT ?, value >> 32, value & 4294967295 FROM json_each(?)",
        postgres: "INSERT INTO job_outputs (graph_id, job_id, dataset_id) \
                   SELECT ?, edge.packed::bigint >> 32, edge.packed::bigint & 4294967295 FROM json_array_elements_text(?::json) AS edge (packed)",
    };
    /// Rows: `job << 32 | dataset`.
    pub const DELETE_INPUTS: Self = Self {
        sqlite: "DELETE FROM job_inputs WHERE graph_id = ? AND (job_id, dataset_id) IN \
                 (SELECT value >> 32, value & 4294967295 FROM json_each(?))",
        postgres: "DELETE FROM job_inputs WHERE graph_id = ? AND (job_id, dataset_id) IN \
                   (SELECT edge.packed::bigint >> 32, edge.packed::bigint & 4294967295 FROM json_array_elements_text(?::json) AS edge (packed))",
    };
    /// Rows: `job << 32 | dataset`.
    pub const DELETE_OUTPUTS: Self = Self {
        sqlite: "DELETE FROM job_outputs WHERE graph_id = ? AND dataset_id IN \
                 (SELECT value & 4294967295 FROM json_each(?))",
        postgres: "DELETE FROM job_outputs WHERE graph_id = ? AND dataset_id IN \
                   (SELECT edge.packed::bigint & 4294967295 FROM json_array_elements_text(?::json) AS edge (packed))",
    };
    /// Rows: ids.
    pub const DELETE_JOBS: Self = Self {
        sqlite: "DELETE FROM jobs WHERE graph_id = ? AND id IN (SELECT value FROM json_each(?))",
        postgres: "DELETE FROM jobs WHERE graph_id = ? AND id IN \
                   (SELECT gone.id::bigint FROM json_array_elements_text(?::json) AS gone (id))",
    };
    /// Rows: ids.
    pub const DELETE_DATASETS: Self = Self {
        sqlite: "DELETE FROM datasets WHERE graph_id = ? AND id IN (SELECT value FROM json_each(?))",
        postgres: "DELETE FROM datasets WHERE graph_id = ? AND id IN \
                   (SELECT gone.id::bigint FROM json_array_elements_text(?::json) AS gone (id))",
    };
    /// Rows: `[id, name, spec, version]`.
    pub const INSERT_JOBS: Self = Self {
        sqlite: "INSERT INTO jobs (graph_id, id, name, spec, version) \
                 SELECT ?, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)",
        postgres: "INSERT INTO jobs (graph_id, id, name, spec, version) \
                   SELECT ?, (new.value ->> 0)::bigint, new.value ->> 1, new.value ->> 2, (new.value ->> 3)::bigint \
                   FROM json_array_elements(?::json) AS new (value)",
    };
    /// Rows: `[id, spec, version]`; a specification that is null stays. As an upsert of rows that
    /// are there, since `UPDATE … FROM` has SQLite look through all jobs of the graph for each.
    pub const UPDATE_JOBS: Self = Self {
        sqlite: "INSERT INTO jobs (graph_id, id, name, spec, version) \
                 SELECT old.graph_id, old.id, old.name, coalesce(new.value ->> 1, old.spec), new.value ->> 2 \
                 FROM (SELECT ? AS id) AS graph CROSS JOIN json_each(?) AS new \
                 CROSS JOIN jobs AS old ON old.graph_id = graph.id AND old.id = new.value ->> 0 WHERE true \
                 ON CONFLICT (graph_id, id) DO UPDATE SET spec = excluded.spec, version = excluded.version",
        postgres: "WITH graph (id) AS (VALUES (?)) \
                   UPDATE jobs SET spec = coalesce(new.value ->> 1, spec), version = (new.value ->> 2)::bigint \
                   FROM json_array_elements(?::json) AS new (value), graph \
                   WHERE graph_id = graph.id AND jobs.id = (new.value ->> 0)::bigint",
    };
    /// Rows: `[id, name, metadata]`.
    pub const INSERT_DATASETS: Self = Self {
        sqlite: "INSERT INTO datasets (graph_id, id, name, metadata) \
                 SELECT ?, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)",
        postgres: "INSERT INTO datasets (graph_id, id, name, metadata) \
                   SELECT ?, (new.value ->> 0)::bigint, new.value ->> 1, new.value ->> 2 FROM json_array_elements(?::json) AS new (value)",
    };
    /// Rows: `[id, metadata]`.
    pub const UPDATE_DATASETS: Self = Self {
        sqlite: "INSERT INTO datasets (graph_id, id, name, metadata) \
                 SELECT old.graph_id, old.id, old.name, new.value ->> 1 \
                 FROM (SELECT ? AS id) AS graph CROSS JOIN json_each(?) AS new \
                 CROSS JOIN datasets AS old ON old.graph_id = graph.id AND old.id = new.value ->> 0 WHERE true \
                 ON CONFLICT (graph_id, id) DO UPDATE SET metadata = excluded.metadata",
        postgres: "WITH graph (id) AS (VALUES (?)) UPDATE datasets SET metadata = new.value ->> 1 \
                   FROM json_array_elements(?::json) AS new (value), graph \
                   WHERE graph_id = graph.id AND datasets.id = (new.value ->> 0)::bigint",
    };
}

/// A statement over rows that are written out, ready to be sent.
pub struct RowsWrite {
    statement: RowsStatement,
    rows: String,
    many: bool,
}

impl RowsWrite {
    /// How much there is to write.
    #[must_use]
    pub fn size(&self) -> Size {
        if self.many { Size::Large } else { Size::Usual }
    }
}

impl RowsStatement {
    /// The statement over `rows`; `None` if there are none. O(bytes of the rows).
    ///
    /// # Panics
    /// If a row cannot be JSON.
    pub fn over<R: serde::Serialize>(
        self,
        rows: impl ExactSizeIterator<Item = R>,
    ) -> Option<RowsWrite> {
        let many = rows.len() >= MANY_ROWS;
        let rows: Vec<R> = rows.collect();
        let written = || serde_json::to_string(&rows).expect("rows are numbers and texts");
        (!rows.is_empty()).then(|| RowsWrite { statement: self, rows: written(), many })
    }
}

/// What a statement in our own words is given.
pub enum Value<'v> {
    /// For a `BIGINT`.
    Integer(i64),
    /// For a `TEXT`.
    Text(&'v str),
    /// For a `BLOB` or `BYTEA`.
    Bytes(&'v [u8]),
}

/// What a statement for Postgres in our own words is given.
pub(super) enum PostgresValue<'v> {
    Integer(i64),
    Text(&'v str),
    Integers(Vec<i64>),
    OptionalIntegers(Vec<Option<i64>>),
    Texts(Vec<&'v str>),
    OptionalTexts(Vec<Option<&'v str>>),
    BytesEach(Vec<&'v [u8]>),
}

/// A value that a statement can be given.
trait Bind<DB: Backend> {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>;
}

impl<DB> Bind<DB> for Value<'_>
where
    DB: Backend + HasSqlType<BigInt> + HasSqlType<Text> + HasSqlType<Binary>,
    i64: ToSql<BigInt, DB>,
    str: ToSql<Text, DB>,
    [u8]: ToSql<Binary, DB>,
{
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()> {
        match self {
            Value::Integer(value) => out.push_bind_param::<BigInt, _>(value),
            Value::Text(value) => out.push_bind_param::<Text, _>(*value),
            Value::Bytes(value) => out.push_bind_param::<Binary, _>(*value),
        }
    }
}

impl Bind<Pg> for PostgresValue<'_> {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match self {
            PostgresValue::Integer(value) => out.push_bind_param::<BigInt, _>(value),
            PostgresValue::Text(value) => out.push_bind_param::<Text, _>(*value),
            PostgresValue::Integers(values) => out.push_bind_param::<Array<BigInt>, _>(values),
            PostgresValue::OptionalIntegers(values) => {
                out.push_bind_param::<Array<Nullable<BigInt>>, _>(values)
            }
            PostgresValue::Texts(values) => out.push_bind_param::<Array<Text>, _>(values),
            PostgresValue::OptionalTexts(values) => {
                out.push_bind_param::<Array<Nullable<Text>>, _>(values)
            }
            PostgresValue::BytesEach(values) => out.push_bind_param::<Array<Binary>, _>(values),
        }
    }
}

/// A statement in our own words with a `?` for each value. Prepared once on a connection, unlike
/// [`diesel::sql_query`]'s and unlike Diesel's own updates and inserts of several rows.
pub(super) struct Words<'w, V> {
    pub(super) text: &'static str,
    pub(super) values: &'w [V],
}

impl<V> QueryId for Words<'_, V> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<V: Bind<DB>, DB: Backend> QueryFragment<DB> for Words<'_, V> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut parts = self.text.split('?');
        out.push_sql(parts.next().unwrap_or_default());
        for (value, part) in self.values.iter().zip(parts) {
            value.push(&mut out)?;
            out.push_sql(part);
        }
        Ok(())
    }
}

/// Its rows are read by the names of their columns.
impl<V> Query for Words<'_, V> {
    type SqlType = Untyped;
}

impl<C, V> RunQueryDsl<C> for Words<'_, V> {}

impl AnyConnection {
    /// Runs a statement that both databases understand, with a `?` for each value; how many rows it
    /// touched.
    ///
    /// # Errors
    /// What the database says.
    pub fn run(&mut self, text: &'static str, values: &[Value<'_>]) -> QueryResult<usize> {
        self.run_either(text, text, values)
    }

    /// Runs the statement of this database, with a `?` for each value; how many rows it touched.
    pub(super) fn run_either(
        &mut self,
        sqlite: &'static str,
        postgres: &'static str,
        values: &[Value<'_>],
    ) -> QueryResult<usize> {
        debug_assert_eq!(sqlite.matches('?').count(), values.len());
        debug_assert_eq!(postgres.matches('?').count(), values.len());
        match self {
            Self::Sqlite(connection) => Words { text: sqlite, values }.execute(connection),
            Self::Postgres(connection) => Words { text: postgres, values }.execute(connection),
        }
    }

    /// Writes rows of a graph, in one round trip.
    ///
    /// # Errors
    /// What the database says.
    pub fn write_rows(&mut self, graph_id: i64, write: &RowsWrite) -> QueryResult<()> {
        let RowsWrite { statement, rows, many } = write;
        if let (true, Self::Sqlite(connection)) = (many, &mut *self) {
            set_sqlite_cache(connection, 256)?;
        }
        let text = match self {
            Self::Sqlite(_) => statement.sqlite,
            Self::Postgres(_) => statement.postgres,
        };
        self.run(text, &[Value::Integer(graph_id), Value::Text(rows)])?;
        Ok(())
    }

    /// Writes rows of the change log, all of one graph, attempt and token. A row without a time
    /// gets the database's.
    ///
    /// # Errors
    /// What the database says.
    pub fn insert_changes(&mut self, rows: &[ChangeRow<'_>]) -> QueryResult<()> {
        match self {
            Self::Sqlite(connection) => {
                let now_ms = read_now_ms(connection)?;
                for row in rows {
                    let row = (
                        changes::graph_id.eq(row.graph_id),
                        changes::version.eq(row.version),
                        changes::change.eq(row.change),
                        changes::chain.eq(row.chain),
                        changes::attempt.eq(row.attempt),
                        changes::token.eq(row.token),
                        changes::committed_at_ms.eq(row.committed_at_ms.unwrap_or(now_ms)),
                        changes::actor.eq(row.actor),
                    );
                    diesel::insert_into(changes::table).values(row).execute(connection)?;
                }
            }
            Self::Postgres(connection) => insert_changes_at_once(connection, rows)?,
        }
        Ok(())
    }
}

impl AnyConnection {
    /// The database's clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// What the database says.
    pub fn now_ms(&mut self) -> QueryResult<i64> {
        match self {
            Self::Sqlite(connection) => read_now_ms(connection),
            Self::Postgres(connection) => {
                let text = concat!("SELECT ", postgres_now_ms!(), " AS now_ms");
                let now: Now = Words::<Value<'_>> { text, values: &[] }.get_result(connection)?;
                Ok(now.now_ms)
            }
        }
    }
}

fn read_now_ms(connection: &mut SqliteConnection) -> QueryResult<i64> {
    let text = concat!("SELECT ", sqlite_now_ms!(), " AS now_ms");
    let now: Now = Words::<Value<'_>> { text, values: &[] }.get_result(connection)?;
    Ok(now.now_ms)
}

/// One statement, prepared once however many rows there are.
fn insert_changes_at_once(
    connection: &mut PgConnection,
    rows: &[ChangeRow<'_>],
) -> QueryResult<()> {
    use PostgresValue as V;
    let Some(of_all) = rows.first() else { return Ok(()) };
    let statement = Words {
        text: concat!(
            "INSERT INTO changes \
             (graph_id, version, change, chain, attempt, token, committed_at_ms, actor) \
             SELECT ?, new.version, new.change, new.chain, ?, ?, coalesce(new.committed_at_ms, ",
            postgres_now_ms!(),
            "), new.actor \
             FROM unnest(?::bigint[], ?::text[], ?::bytea[], ?::bigint[], ?::text[]) \
             AS new (version, change, chain, committed_at_ms, actor)"
        ),
        values: &[
            V::Integer(of_all.graph_id),
            V::Text(of_all.attempt),
            V::Integer(of_all.token),
            V::Integers(rows.iter().map(|row| row.version).collect()),
            V::Texts(rows.iter().map(|row| row.change).collect()),
            V::BytesEach(rows.iter().map(|row| row.chain).collect()),
            V::OptionalIntegers(rows.iter().map(|row| row.committed_at_ms).collect()),
            V::OptionalTexts(rows.iter().map(|row| row.actor).collect()),
        ],
    };
    statement.execute(connection)?;
    Ok(())
}

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = BigInt)]
    now_ms: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// What a migration of any Postgres database holds; any number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x66656e63_65706f73;

fn names_of<V: ToString>(versions: Vec<V>) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

fn versions<DB: Backend>(migrations: &EmbeddedMigrations) -> Result<Vec<String>, DbError> {
    let migrations = MigrationSource::<DB>::migrations(migrations);
    let migrations =
        migrations.map_err(|error| DbError::Migration { reason: error.to_string() })?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
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
        let mut connection = DatabaseUrl::Sqlite(directory.path().join("plans.db"))
            .connect(OpenMode::Create)
            .unwrap();
        connection.migrate().unwrap();
        let AnyConnection::Sqlite(connection) = &mut connection else {
            unreachable!("the URL was SQLite's")
        };
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
        for RowsStatement { sqlite, .. } in all {
            let plan = format!(
                "EXPLAIN QUERY PLAN {}",
                sqlite.replacen('?', "1", 1).replacen('?', "'[]'", 1)
            );
            let steps: Vec<Step> = diesel::sql_query(&plan).load(connection).unwrap();
            assert!(!steps.is_empty());
            for Step { detail } in steps {
                let by_key = detail.starts_with("SEARCH") && detail.contains("id=? AND");
                let of_a_table = ["SEARCH", "SCAN job", "SCAN dataset", "SCAN old"]
                    .iter()
                    .any(|step| detail.starts_with(step));
                assert!(by_key || !of_a_table, "{sqlite}: {detail}");
            }
        }
    }
}
