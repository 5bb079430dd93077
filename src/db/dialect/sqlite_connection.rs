//! How an SQLite file is opened, and what every connection to it is set to.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::Access;

use super::server_state::define_for_sqlite;
use super::statement::TextRow;
use super::url::{DatabaseUrl, OpenMode};
use crate::db::error::DbError;
use crate::{address, failpoint};

/// How long a writer waits for another process's transaction on the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of every SQLite connection: name, value to set, value to find afterwards. A library
/// that was built differently, or a file system without shared memory, ignores a setting silently.
pub(crate) const SQLITE_SETTINGS: [(&str, &str, &str); 4] = [
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("foreign_keys", "ON", "1"),
    ("temp_store", "MEMORY", "2"),
];

fn unavailable(path: &Path, reason: &str) -> DbError {
    let shown = address::redacted_path(&path.display().to_string());
    DbError::Unavailable { what: format!("opening {shown}: {reason}") }
}

/// Opens a file and changes nothing in it. Creates it only if `mode` says so.
pub(crate) fn establish_sqlite(path: &Path, mode: OpenMode) -> Result<SqliteConnection, DbError> {
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
        // SQLite reports the error itself.
        Ok(_) | Err(_) => {}
    }
    let parameters = if mode.creates() { "mode=rwc" } else { "mode=rw" };
    let mut connection = establish_by_uri(path, parameters)?;
    let busy = format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis());
    connection.batch_execute(&busy).map_err(|error| unavailable(path, &error.to_string()))?;
    Ok(connection)
}

/// Opens the file without its log (`-wal`). Takes no lock: while the log is copied into the file,
/// what is read may be half of one state and half of another.
///
/// # Errors
/// [`DbError::Unavailable`] if the file cannot be opened.
pub(crate) fn connect_sqlite_without_log(path: &Path) -> Result<SqliteConnection, DbError> {
    establish_by_uri(path, "mode=ro&immutable=1")
}

/// Opens a file by a URI with these parameters, such as `mode=rw`. The path is percent-encoded, so
/// that nothing in it is read as a parameter.
fn establish_by_uri(path: &Path, parameters: &str) -> Result<SqliteConnection, DbError> {
    const NOT_ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
    let failed = |reason: &str| unavailable(path, reason);
    let text = path.to_str().ok_or_else(|| failed("the path is not UTF-8"))?;
    // The host, between `file://` and an absolute path, is empty.
    let before = if path.is_absolute() { "file://" } else { "file:" };
    let uri = format!("{before}{}?{parameters}", utf8_percent_encode(text, NOT_ENCODED));
    SqliteConnection::establish(&uri).map_err(|error| failed(&error.to_string()))
}

/// Opens a connection, set up and checked.
///
/// # Errors
/// [`DbError`] if the file cannot be opened, or a setting cannot be set.
pub(crate) fn connect_sqlite(path: &Path, mode: OpenMode) -> Result<SqliteConnection, DbError> {
    let mut connection = establish_sqlite(path, mode)?;
    configure_sqlite(&mut connection, mode).map_err(|error| unavailable(path, &error.reason()))?;
    Ok(connection)
}

/// Adds what this user may not do to an error that may come of that: SQLite tells only what it
/// tried.
pub(crate) fn with_lacking_permission(path: &Path, error: DbError) -> DbError {
    let DbError::Unavailable { what } = &error else { return error };
    let may = |path: &Path, access| rustix::fs::access(path, access).is_ok();
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let shown = address::redacted_path(&folder.display().to_string());
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
            "this user may not write to its folder {shown}, where SQLite keeps a log (-wal) and \
             its index (-shm) while a database is used, also by whoever only reads"
        ),
        Ok(_) if !may(path, Access::WRITE_OK) => "this user may not write to the file".to_owned(),
        Ok(_) | Err(_) => return error,
    };
    DbError::Unavailable { what: format!("{what}; {lacking}") }
}

/// Sets a connection up, and checks each setting.
///
/// # Errors
/// [`DbError::Unavailable`] if a setting cannot be set.
pub(crate) fn configure_sqlite(
    connection: &mut SqliteConnection,
    mode: OpenMode,
) -> Result<(), DbError> {
    for (name, value, expected) in SQLITE_SETTINGS {
        // The journal mode is a property of the file, and a reader changes nothing in it.
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
    define_for_sqlite(connection)?;
    set_sqlite_cache(connection, 32)?;
    // 256 MiB of log: a page that many transactions change is copied into the file only once.
    connection.batch_execute("PRAGMA wal_autocheckpoint = 65536")?;
    Ok(())
}

/// Sets the size of a connection's page cache, in MiB. 32 hold the upper pages of every index of a
/// million jobs; 256 hold what a change to all of them touches, which would otherwise be written
/// and read again before the commit. Matters for speed only.
pub(super) fn set_sqlite_cache(connection: &mut SqliteConnection, mib: u32) -> QueryResult<()> {
    connection.batch_execute(&format!("PRAGMA cache_size = -{}", mib << 10))
}

/// Sets a pragma. Changing the journal mode does not honour the busy timeout, so it is tried again
/// for that long: several processes may open a new file at once.
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

/// The value of a pragma, as text.
pub(crate) fn pragma(connection: &mut SqliteConnection, name: &str) -> Result<String, DbError> {
    let query = format!("SELECT CAST({name} AS TEXT) AS value FROM pragma_{name}");
    Ok(diesel::sql_query(query).get_result::<TextRow>(connection)?.value)
}

/// Fails if the file cannot be written to. SQLite opens such a file and begins transactions on it,
/// and reports the error at the first write only. So this makes a write that changes nothing, and
/// rolls it back. It does not wait for another writer: where there is one, the file is writable.
pub(crate) fn refuse_read_only(connection: &mut SqliteConnection) -> Result<(), DbError> {
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

/// The name of a file that SQLite keeps beside the database.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The log of the file at `path`, whether it is there or not.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    beside(&path.canonicalize().unwrap_or_else(|_| path.to_owned()), "-wal")
}
