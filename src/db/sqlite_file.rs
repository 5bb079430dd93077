//! Which file an embedded database is, and whether its path still leads there.
//!
//! SQLite opens a file once. If somebody removes it, moves it away or puts another in its place,
//! SQLite goes on with the former one and reports nothing: what is written then is gone when the
//! last process closes it. So the path is checked around everything that a
//! [`Database`](super::Database) does. That costs a few system calls, no statement.
//!
//! The same holds for the log (`-wal`) and its index (`-shm`). One connection, the *anchor*, stays
//! open as long as the database does. So SQLite removes neither of the two meanwhile, and no inode
//! number is used again.
//!
//! Knows files; knows tables only through `sqlite_evidence`.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;

use super::dialect::{OpenMode, beside, connect_sqlite, log_of};
use super::error::DbError;
use super::sqlite_evidence::{Known, View, mixture};
use crate::{address, failpoint};

/// The file behind an open database.
pub(super) struct SqliteFile {
    /// The file itself first, by the path that was given; then its log and the log's index.
    parts: Vec<(PathBuf, FileId)>,
    /// How the file was when it was last found to belong to its log.
    seen: Mutex<Seen>,
    anchor: Mutex<Option<SqliteConnection>>,
    /// Whether the last look found that the file belongs to its log.
    is_whole: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What every change of the file's content changes too. SQLite writes to the file itself only when
/// it copies the log there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: SystemTime,
}

impl Stamp {
    fn of(metadata: &Metadata) -> io::Result<Self> {
        Ok(Self { bytes: metadata.len(), modified: metadata.modified()? })
    }
}

struct Seen {
    stamp: Stamp,
    view: Option<View>,
}

impl SqliteFile {
    /// Remembers which file is at `path`, where a connection is open already, that
    /// [`check_first`] found to belong to its log.
    ///
    /// # Errors
    /// [`DbError::Mixed`] if they do not; [`DbError::Unavailable`] if they cannot be read.
    pub(super) fn open(path: &Path) -> Result<Self, DbError> {
        let unreadable = |error: io::Error| unavailable(path, &error.to_string());
        let mut anchor = connect_sqlite(path, OpenMode::Read)?;
        // It opens the log when it first reads.
        anchor.batch_execute("SELECT count(*) FROM sqlite_schema")?;
        let file = path.canonicalize().map_err(unreadable)?;
        let found = path.metadata().map_err(unreadable)?;
        let mut parts = vec![(path.to_owned(), FileId::from(&found))];
        for suffix in ["-wal", "-shm"] {
            let part = beside(&file, suffix);
            match part.metadata() {
                Ok(metadata) => parts.push((part, FileId::from(&metadata))),
                // A database that is only read need not have them.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        let stamp = Stamp::of(&found).map_err(unreadable)?;
        let seen = Mutex::new(Seen { stamp, view: None });
        let anchor = Mutex::new(Some(anchor));
        let this = Self { parts, seen, anchor, is_whole: AtomicBool::new(false) };
        this.look_closer()?;
        Ok(this)
    }

    /// Whether the path still leads to the file that was opened, and its content is still its own.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if not, until the file is put back; [`DbError::Mixed`] if the file
    /// was overwritten.
    pub(super) fn check(&self) -> Result<(), DbError> {
        // Taken out only in builds for tests, to show what SQLite does by itself.
        if failpoint::is_off("sqlite-file") {
            return Ok(());
        }
        let stamp = self.check_places()?;
        if stamp == lock(&self.seen).stamp { Ok(()) } else { self.look_closer() }
    }

    /// What `connect` opens, if the path leads to the file that was opened, before and after.
    ///
    /// # Errors
    /// As [`check`](Self::check), and what `connect` gives.
    pub(super) fn check_around<C>(
        &self,
        connect: impl FnOnce() -> Result<C, DbError>,
    ) -> Result<C, DbError> {
        self.check()?;
        let connection = connect()?;
        if let Err(error) = self.check() {
            // It may be the only one to another file, beside the log of this one: see
            // `leave_open`.
            std::mem::forget(connection);
            return Err(error);
        }
        Ok(connection)
    }

    /// Whether each path still leads to the file that was opened.
    fn check_places(&self) -> Result<Stamp, DbError> {
        let mut stamp = None;
        for (path, opened) in &self.parts {
            let what = match path.metadata() {
                Ok(found) if FileId::from(&found) == *opened => {
                    stamp = stamp.or(Stamp::of(&found).ok());
                    continue;
                }
                Ok(_) => "another file is in its place".to_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => "it is gone".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(unavailable(path, &moved(&what)));
        }
        stamp.ok_or_else(|| unavailable(&self.parts[0].0, "its time cannot be told"))
    }

    /// Whether the file, which was written to, still belongs to its log. O(graphs), bounded.
    fn look_closer(&self) -> Result<(), DbError> {
        let before = lock(&self.seen).view.clone();
        // Missing while another thread looks closer: that one compares with it.
        let mut anchor = lock(&self.anchor).take();
        let looked = look(&self.parts[0].0, before.as_ref(), anchor.as_mut());
        if anchor.is_some() {
            *lock(&self.anchor) = anchor;
        }
        self.is_whole.store(looked.is_ok(), Ordering::SeqCst);
        // It may have read of both. What could not be read may be read in a moment.
        if matches!(looked, Err(DbError::Mixed { .. })) {
            self.leave_open();
        }
        if let Some(seen) = looked? {
            *lock(&self.seen) = seen;
        }
        Ok(())
    }

    /// Never closes the anchor. Whoever closes the last connection copies the log into the file and
    /// removes it: here that would mix the two for good. (SQLite itself does not if the file is
    /// another.)
    fn leave_open(&self) {
        std::mem::forget(lock(&self.anchor).take());
    }
}

impl Drop for SqliteFile {
    fn drop(&mut self) {
        if !self.is_whole.load(Ordering::SeqCst) {
            self.leave_open();
        }
    }
}

/// Whether SQLite found pages that are not what others say they are.
pub(super) fn is_malformed(error: &DbError) -> bool {
    let text = error.to_string();
    text.contains("database disk image is malformed") || text.contains("malformed database schema")
}

/// The error as what it is where there is a log beside the file.
pub(super) fn mixed_if_malformed(path: &Path, error: DbError) -> DbError {
    if is_malformed(&error) && has_log(path) {
        return DbError::Mixed { path: path.to_owned(), what: error.reason() };
    }
    error
}

fn has_log(path: &Path) -> bool {
    log_of(path).metadata().is_ok_and(|log| log.len() > 0)
}

/// How often a file that seems not to belong to its log is looked at: while another process copies
/// the log into it, no two looks see the same.
const LOOKS_MAX: usize = 5;

/// Between two looks: longer than a file system takes to tell two times apart.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How the file at `path` is now, if it belongs to the log beside it. `None` if it was being
/// written to all the time. `before`, `anchor`: see [`Known`].
///
/// # Errors
/// [`DbError::Mixed`] if the two do not belong together; [`DbError`] if they cannot be read. A
/// connection must be open on both and stay so: whoever closes the last one copies the log into
/// the file.
fn look(
    path: &Path,
    before: Option<&View>,
    anchor: Option<&mut SqliteConnection>,
) -> Result<Option<Seen>, DbError> {
    let stamp_now = || {
        let stamp = path.metadata().and_then(|found| Stamp::of(&found));
        stamp.map_err(|error| unavailable(path, &error.to_string()))
    };
    if failpoint::is_off("sqlite-evidence") {
        return Ok(None);
    }
    let mut known = Known { before, anchor, has_log: has_log(path) };
    let mut wrong = None;
    for number in 0..LOOKS_MAX {
        if number > 0 {
            thread::sleep(LOOK_AGAIN);
        }
        let stamp = stamp_now()?;
        let looked = mixture(path, &mut known);
        let mixed = |what| Some(DbError::Mixed { path: path.to_owned(), what });
        wrong = match looked {
            // What was read while the file was being written to means nothing.
            _ if stamp_now()? != stamp => None,
            Ok(Ok(view)) => {
                let view = view.or_else(|| before.cloned());
                return Ok(Some(Seen { stamp, view }));
            }
            Ok(Err(what)) => mixed(what),
            Err(error) if is_malformed(&error) && (known.has_log || before.is_some()) => {
                mixed(error.reason())
            }
            Err(error) => Some(error),
        };
    }
    wrong.map_or(Ok(None), Err)
}

/// Makes sure that the file at `path`, which `connection` has open and has not set up yet, belongs
/// to its log. If it does not, or cannot be read for that, the connection is never closed, and both
/// stay as they are.
///
/// # Errors
/// See [`look`].
pub(super) fn check_first(
    path: &Path,
    connection: SqliteConnection,
) -> Result<SqliteConnection, DbError> {
    match look(path, None, None) {
        Ok(_) => Ok(connection),
        Err(error) => {
            std::mem::forget(connection);
            Err(error)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(path: &Path, what: &str) -> DbError {
    let shown = address::redacted_path(&path.display().to_string());
    DbError::Unavailable { what: format!("{shown}: {what}") }
}

fn moved(what: &str) -> String {
    format!(
        "{what}. This process reads and writes nothing until the file that it opened is back, or \
         it is started again"
    )
}

#[cfg(test)]
mod tests {
    use super::super::DatabaseUrl;
    use super::*;

    #[test]
    fn a_file_that_could_not_be_looked_at_for_a_moment_is_compared_with_what_was_known() {
        let directory = tempfile::tempdir().unwrap();
        let [place, away] = ["place", "away"].map(|name| directory.path().join(name));
        std::fs::create_dir(&place).unwrap();
        let path = place.join("x.db");
        DatabaseUrl::Sqlite(path.clone()).connect(OpenMode::Create).unwrap().migrate().unwrap();
        let file = SqliteFile::open(&path).unwrap();
        std::fs::rename(&place, &away).unwrap();
        let failed = file.look_closer();
        assert!(matches!(failed, Err(DbError::Unavailable { .. })), "{failed:?}");
        std::fs::rename(&away, &place).unwrap();
        assert!(lock(&file.anchor).is_some());
        file.look_closer().unwrap();
    }
}
