//! `flock` on one named file, with a time limit, by one contender at a time.
//!
//! `flock` can try, or wait for ever. So it is tried first; only when that fails does a helper
//! thread wait in the kernel and report back. A contender whose time is up leaves its helper
//! behind, since nothing can call it back. Such an orphan gives the lock back the moment that it
//! gets it, and so is in nobody's way; until then the next contender that has to wait adopts it
//! rather than starting another. So there is at most one helper for each file, however many waits
//! run out.
//!
//! Knows files and descriptors; knows nothing of keys, tokens or records.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::UNIX_EPOCH;

use crate::failpoint;
use crate::lock::gate::{Deadline, lock};
use crate::lock::{LockError, Mode};

/// Open descriptors that are kept for the next grant, for each file.
const IDLE_MAX: usize = 4;

/// How often one wait puts up with finding the file replaced. Once is an operator who tidied up;
/// more is a mistake.
const REPLACED_MAX: usize = 8;

/// A helper does nothing but call the kernel; hundreds of graphs may each have one.
const HELPER_STACK_BYTES: usize = 64 * 1024;

/// Which file a descriptor is open on. Numbers of inodes are used again, at once on some file
/// systems, but not with the same time of birth, which no copying tool can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Nanoseconds since 1970; 0 where the file system does not know.
    pub(super) born_ns: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.map_or(0, |since| since.as_nanos() as u64);
        Self { device: metadata.dev(), inode: metadata.ino(), born_ns }
    }
}

/// A descriptor of its own: `flock` excludes between descriptions of open files, also within one
/// process.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) id: FileId,
}

/// A file to `flock`. It is created when it is missing and never unlinked.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    idle: Mutex<Vec<OpenFile>>,
    /// The helper that last waited here, if it has not reported yet.
    attempt: Mutex<Option<Arc<Attempt>>>,
}

impl LockFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), attempt: Mutex::default() }
    }

    /// Whether a helper still waits here, with or without a contender.
    pub(super) fn has_helper(&self) -> bool {
        let attempt = lock(&self.attempt).clone();
        attempt.is_some_and(|attempt| matches!(*lock(&attempt.state), AttemptState::Waiting { .. }))
    }

    /// Takes the lock on the file that is at the path now; `None` when the deadline comes first.
    /// The caller sees to it that no other thread of this object is in here at the same time.
    pub(super) fn lock(
        &self,
        mode: Mode,
        deadline: &Deadline,
    ) -> Result<Option<OpenFile>, LockError> {
        self.lock_current(mode, deadline).map_err(|source| self.unavailable("cannot lock", source))
    }

    /// Gives the lock back, and keeps the descriptor for another time.
    pub(super) fn unlock(&self, open: OpenFile) {
        // Not left to closing: a child that is just being started may still have a copy of the
        // descriptor.
        match open.file.unlock() {
            Ok(()) => self.keep(open),
            Err(error) => {
                log::warn!("cannot unlock {}, closing it instead: {error}", self.path.display())
            }
        }
    }

    pub(super) fn unavailable(&self, what: &str, source: io::Error) -> LockError {
        LockError::Unavailable { what: format!("{what} {}", self.path.display()), source }
    }

    fn lock_current(&self, mode: Mode, deadline: &Deadline) -> io::Result<Option<OpenFile>> {
        for _ in 0..REPLACED_MAX {
            let open = self.take_idle_or_open()?;
            let granted = if try_flock(&open.file, mode)? {
                open
            } else if !self.is_current(&open)? {
                // Whoever holds this one holds a file that is gone. It is not the one to wait for.
                self.forget_idle();
                continue;
            } else if deadline.remaining().is_zero() {
                self.keep(open);
                return Ok(None);
            } else {
                match self.wait_for(open, mode, deadline)? {
                    Some(granted) => granted,
                    None => return Ok(None),
                }
            };
            // Only now is it certain, for the file could be replaced until the lock was held. Two
            // processes that locked different files of one name would both be let in.
            if self.is_current(&granted)? || failpoint::is_off("lock.file.replaced") {
                return Ok(Some(granted));
            }
            granted.file.unlock()?;
            self.forget_idle();
        }
        Err(io::Error::other("the file is replaced by another one again and again"))
    }

    /// Waits for a helper: the orphan of an earlier wait, if there is one on the same file, or a
    /// new one.
    fn wait_for(
        &self,
        open: OpenFile,
        mode: Mode,
        deadline: &Deadline,
    ) -> io::Result<Option<OpenFile>> {
        let orphan = lock(&self.attempt)
            .clone()
            .filter(|attempt| attempt.id == open.id && attempt.adopt(mode));
        let attempt = match orphan {
            Some(orphan) => {
                self.keep(open);
                orphan
            }
            None => {
                let started = Attempt::start(open, mode)?;
                *lock(&self.attempt) = Some(Arc::clone(&started));
                started
            }
        };
        let report = attempt.wait(deadline);
        if report.is_some() {
            *lock(&self.attempt) = None;
        }
        report.transpose()
    }

    fn take_idle_or_open(&self) -> io::Result<OpenFile> {
        let idle = lock(&self.idle).pop();
        match idle {
            Some(open) => Ok(open),
            None => {
                let file = open_or_create(&self.path)?;
                let id = FileId::from(&file.metadata()?);
                Ok(OpenFile { file, id })
            }
        }
    }

    fn keep(&self, open: OpenFile) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_MAX {
            idle.push(open);
        }
    }

    /// Closes the descriptors that are kept.
    pub(super) fn forget_idle(&self) {
        let forgotten = std::mem::take(&mut *lock(&self.idle));
        drop(forgotten);
    }

    fn is_current(&self, open: &OpenFile) -> io::Result<bool> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(FileId::from(&metadata) == open.id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Opens a file for reading and writing, and creates it where it is missing.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path)
}

/// Creates a directory that only its owner can enter: who can open a lock file can hold everyone
/// up.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// One helper thread and the contender that waits for it, if any.
#[derive(Debug)]
struct Attempt {
    id: FileId,
    state: Mutex<AttemptState>,
    reported: Condvar,
}

#[derive(Debug)]
enum AttemptState {
    /// The helper waits in the kernel; `wanted` is what the contender wants of it, `None` if it has
    /// left.
    Waiting { wanted: Option<Mode> },
    /// The helper has ended and the contender has yet to look.
    Reported(io::Result<OpenFile>),
    /// The helper has ended and nobody will hear of it.
    Over,
}

impl Attempt {
    fn start(open: OpenFile, mode: Mode) -> io::Result<Arc<Self>> {
        let state = Mutex::new(AttemptState::Waiting { wanted: Some(mode) });
        let attempt = Arc::new(Self { id: open.id, state, reported: Condvar::new() });
        let helper = Arc::clone(&attempt);
        std::thread::Builder::new()
            .name("flock".to_owned())
            .stack_size(HELPER_STACK_BYTES)
            .spawn(move || helper.run(open, mode))?;
        Ok(attempt)
    }

    /// Asks an orphan for the lock in `mode`; false if it comes too late. Any mode will do: `mode`
    /// was tried just now and would block, so the orphan does not wait for more than the contender
    /// would.
    fn adopt(&self, mode: Mode) -> bool {
        match &mut *lock(&self.state) {
            AttemptState::Waiting { wanted } => {
                *wanted = Some(mode);
                true
            }
            AttemptState::Reported(_) | AttemptState::Over => false,
        }
    }

    /// The contender's side: what the helper reports, or `None` when the deadline comes first.
    fn wait(&self, deadline: &Deadline) -> Option<io::Result<OpenFile>> {
        let (mut state, report) = deadline.wait_for(&self.reported, lock(&self.state), |state| {
            match std::mem::replace(state, AttemptState::Over) {
                AttemptState::Reported(report) => Some(report),
                waiting => {
                    *state = waiting;
                    None
                }
            }
        });
        if report.is_none() {
            *state = AttemptState::Waiting { wanted: None };
        }
        report
    }

    /// The helper's side.
    fn run(&self, open: OpenFile, mut mode: Mode) {
        loop {
            let locked = flock(&open.file, mode);
            let mut state = lock(&self.state);
            let wanted = match &*state {
                AttemptState::Waiting { wanted } => *wanted,
                AttemptState::Reported(_) | AttemptState::Over => None,
            };
            match (wanted, locked) {
                (None, _) if !failpoint::is_off("lock.file.orphan") => {
                    *state = AttemptState::Over;
                    drop(state);
                    // Closing gives it back too, if this fails.
                    let _ = open.file.unlock();
                    return;
                }
                // Adopted for the other mode meanwhile. The kernel gives up the one before it waits
                // for the other.
                (Some(wanted), Ok(())) if wanted != mode => mode = wanted,
                (_, locked) => {
                    *state = AttemptState::Reported(locked.map(|()| open));
                    self.reported.notify_one();
                    return;
                }
            }
        }
    }
}

fn try_flock(file: &File, mode: Mode) -> io::Result<bool> {
    loop {
        let tried = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Exclusive => file.try_lock(),
        };
        match tried {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Waits as long as it takes. The standard library does not go on after a signal; a lock has to.
fn flock(file: &File, mode: Mode) -> io::Result<()> {
    loop {
        let locked = match mode {
            Mode::Shared => file.lock_shared(),
            Mode::Exclusive => file.lock(),
        };
        match locked {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
