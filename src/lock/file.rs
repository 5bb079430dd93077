//! `file:DIR`: many processes on one machine take turns with `flock`.
//!
//! **How it takes turns.** Each key has a lock file, and beside it a turnstile file. Whoever wants
//! the lock
//!
//! 1. waits in this process's queue for the key ([`Gate`]);
//! 2. at the front of it, takes the turnstile, exclusively;
//! 3. holding the turnstile, takes the lock file, shared or exclusive;
//! 4. gives the turnstile back, and then its place to the next in the queue.
//!
//! Plain `flock` lets readers in as long as any reader holds it, and so starves writers. Here a
//! writer that waits holds the turnstile, and the readers that come after it wait behind that; its
//! release lets them in, one quickly after another. Within a process the order is that of arrival.
//! Between processes it is the kernel's, which wakes all that wait for the turnstile and lets the
//! quickest have it: chance, not order, but nobody stands apart and starves. Neither file is ever
//! unlinked. If something else replaces one, that is noticed before a grant.
//!
//! **What it costs.** Uncontended, two tries of `flock`, four `stat`s and two unlocks; a writer
//! also reads and writes one record in the page cache. Nothing is synced. Contended, a helper
//! thread for each wait that the kernel has to do, at most one for each file.
//!
//! **Tokens.** The lock file holds a record of the last token given. It is written before a grant
//! returns. A killed process takes nothing of it along, for the page cache is the kernel's. A crash
//! of the machine may, and the record names the boot it was written in; a copy that is put back may
//! be old, and the record names the file it was written in. A record that is missing, damaged or
//! from elsewhere is not trusted: the grant has no token and wants seeding.
//!
//! **What it does not do.**
//! - It does not time out a holder. One that dies is freed by the kernel; one that is stopped
//!   (SIGSTOP, a debugger) holds everyone on the machine until it goes on or is killed.
//! - It does not reach beyond one machine. On a network file system `flock` may be local, or
//!   missing: do not use it there.
//! - The directory must stay: if it is gone, or another is in its place, nothing is granted until
//!   the one that was opened is back, or the process is started again.
//! - Whoever removes or replaces a lock file lets a second holder in beside one that has the old
//!   file. A new file wants seeding, so the epoch rises and the database refuses the former holder.
//!   Who overwrites a lock file in place with an older record of the same boot and file is not
//!   noticed; the comparison of versions still holds.
//!
//! Linux only: it wants a boot id. May use the file system and threads. Must never know a graph,
//! SQL or HTTP.

mod flock;
mod record;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::flock::{FileId, LockFile, OpenFile};
use self::record::Record;
use super::by_key::ByKey;
use super::gate::{Deadline, Gate};
use super::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
    Participant, Purpose,
};
use crate::failpoint;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Written at start and opened by each [`FileLock::ping`]: whether files can be made here.
const PROBE: &str = "probe";

/// The lock in a directory. See the module.
#[derive(Debug)]
pub struct FileLock {
    directory: PathBuf,
    /// Which one it was when it was opened; `None` when it was not there to be looked at.
    opened: Option<FileId>,
    identity: String,
    boot: Arc<str>,
    /// Each keeps its files open.
    queues: ByKey<Queue>,
}

impl FileLock {
    /// Opens the lock in `directory`, creating it if need be. `identity` is what the database will
    /// remember it by.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] when files cannot be created there, or when the machine does not
    /// say which boot this is.
    pub fn open(directory: &Path, identity: String) -> Result<Self, LockError> {
        let unavailable = |what: String| |source| LockError::Unavailable { what, source };
        let create = format!("cannot create files in the lock directory {}", directory.display());
        flock::create_directory(directory).map_err(unavailable(create))?;
        let mut lock = Self::look_at(directory, identity)?;
        let found = std::fs::metadata(directory);
        let look = format!("cannot look at the lock directory {}", directory.display());
        lock.opened = Some(FileId::from(&found.map_err(unavailable(look))?));
        lock.ping()?;
        Ok(lock)
    }

    /// Opens the lock in `directory` to look at it, and creates nothing.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] when the machine does not say which boot this is.
    pub fn look_at(directory: &Path, identity: String) -> Result<Self, LockError> {
        let boot = std::fs::read_to_string(BOOT_ID).map_err(|source| LockError::Unavailable {
            what: format!("cannot read {BOOT_ID}"),
            source,
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            opened: None,
            identity,
            boot: boot.trim_end().into(),
            queues: ByKey::default(),
        })
    }

    /// Whether the directory is the one that was opened. Whoever holds a lock in one that was
    /// removed or replaced, and whoever takes one in what is there now, know nothing of each other.
    fn check_directory(&self) -> Result<(), LockError> {
        if failpoint::is_off("lock.file.directory") {
            return Ok(());
        }
        let found = std::fs::metadata(&self.directory);
        let wrong = match (found, self.opened) {
            (Ok(found), Some(opened)) if FileId::from(&found) == opened => return Ok(()),
            (Ok(_), _) => io::Error::other("another directory is in its place"),
            (Err(error), _) => error,
        };
        let what = format!(
            "the lock directory {} is not the one that was opened; put that back, or start this \
             process again",
            self.directory.display()
        );
        Err(LockError::Unavailable { what, source: wrong })
    }

    /// The lock file of a key, for messages and for `lock inspect`.
    #[must_use]
    pub fn path(&self, key: &LockKey) -> PathBuf {
        self.directory.join(format!("{key}.lock"))
    }

    fn queue(&self, key: &LockKey) -> Arc<Queue> {
        self.queues.get(key, Queue::has_no_helper, || Queue::new(self.path(key)))
    }
}

/// Who has an exclusive or shared lock on the file, as the kernel lists it: `1: FLOCK ADVISORY
/// WRITE 4711 fd:01:1835022 0 EOF`.
fn holders_of(id: FileId) -> io::Result<Vec<Participant>> {
    let listed = std::fs::read_to_string("/proc/locks")?;
    let inode = format!(":{}", id.inode);
    let holder = |line: &str| {
        let [_, "FLOCK", _, kind, process, file, ..] =
            line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let mode = if kind == "WRITE" { Mode::Exclusive } else { Mode::Shared };
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        let who = format!("process {process} {}", name.trim_end());
        file.ends_with(&inode).then_some(Participant { mode, who, ends_in: None })
    };
    Ok(listed.lines().filter_map(holder).collect())
}

impl DistributedLock for FileLock {
    fn identity(&self) -> LockIdentity {
        LockIdentity { kind: "file", identity: self.identity.clone() }
    }

    fn acquire(&self, key: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError> {
        key.check()?;
        self.check_directory()?;
        let deadline = Deadline::after(wait);
        let queue = self.queue(key);
        let Some(open) = queue.take_turn(mode, &deadline)? else {
            return Err(LockError::Timeout { waited: deadline.waited() });
        };
        if key.purpose == Purpose::Leadership {
            // It is held for long, and a process may lead as many graphs as it may open files.
            queue.turnstile.forget_idle();
        }
        let grant = Grant { queue, open: Some(open), boot: Arc::clone(&self.boot) };
        // It may have been replaced while others were waited for.
        self.check_directory()?;
        match mode {
            Mode::Shared => Ok(Guard::shared(Box::new(grant))),
            Mode::Exclusive => {
                let (incarnation, token) = grant.count_up()?;
                Ok(Guard::exclusive(Box::new(grant), incarnation, token))
            }
        }
    }

    fn inspect(&self, key: &LockKey) -> Result<Inspection, LockError> {
        key.check()?;
        let path = self.path(key);
        let looked = (|| {
            let file = match std::fs::File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Inspection {
                        notes: vec!["it was never taken".to_owned()],
                        ..Inspection::default()
                    });
                }
                file => file?,
            };
            let id = FileId::from(&file.metadata()?);
            let record = Record::read_trusted(&file, id, &self.boot)?;
            let mut notes = vec![format!("the lock file is {}", path.display())];
            if record.is_none() {
                notes.push(
                    "the next writer will seed it: its record is missing, damaged or from elsewhere"
                        .to_owned(),
                );
            }
            notes.push("who waits cannot be seen from outside".to_owned());
            let (token, incarnation) =
                record.map(|record| (record.token, record.incarnation)).unzip();
            Ok(Inspection {
                holders: holders_of(id)?,
                waiting: Vec::new(),
                token,
                incarnation,
                notes,
            })
        })();
        looked.map_err(|source| LockError::Unavailable {
            what: format!("cannot inspect {}", path.display()),
            source,
        })
    }

    fn ping(&self) -> Result<(), LockError> {
        self.check_directory()?;
        let probe = self.directory.join(PROBE);
        match flock::open_or_create(&probe) {
            Ok(_) => Ok(()),
            Err(source) => {
                let what = format!(
                    "cannot create files in the lock directory {}",
                    self.directory.display()
                );
                Err(LockError::Unavailable { what, source })
            }
        }
    }
}

/// What this process shares of one key.
#[derive(Debug)]
struct Queue {
    gate: Gate,
    turnstile: LockFile,
    main: LockFile,
}

impl Queue {
    fn new(path: PathBuf) -> Self {
        let turnstile = path.with_extension("turnstile");
        Self {
            gate: Gate::default(),
            turnstile: LockFile::new(turnstile),
            main: LockFile::new(path),
        }
    }

    /// Whether nothing is left of waits that ran out.
    fn has_no_helper(&self) -> bool {
        !self.turnstile.has_helper() && !self.main.has_helper()
    }

    /// The four steps of the module; `None` when the deadline comes first.
    fn take_turn(&self, mode: Mode, deadline: &Deadline) -> Result<Option<OpenFile>, LockError> {
        let Some(_place) = self.gate.enter(deadline) else {
            return Ok(None);
        };
        if failpoint::is_off("lock.file.turnstile") {
            return self.main.lock(mode, deadline);
        }
        let Some(turnstile) = self.turnstile.lock(Mode::Exclusive, deadline)? else {
            return Ok(None);
        };
        let main = self.main.lock(mode, deadline);
        self.turnstile.unlock(turnstile);
        main
    }
}

/// One grant: the descriptor that holds the lock file.
#[derive(Debug)]
struct Grant {
    queue: Arc<Queue>,
    /// `None` only while it is being dropped.
    open: Option<OpenFile>,
    boot: Arc<str>,
}

impl Grant {
    fn open(&self) -> &OpenFile {
        self.open.as_ref().expect("a grant has its descriptor until it is dropped")
    }

    /// The incarnation of this exclusive grant and its token, which is on file before it is given.
    fn count_up(&self) -> Result<(String, Option<FencingToken>), LockError> {
        let counted = self.try_count_up();
        counted.map_err(|source| self.queue.main.unavailable("cannot count a grant in", source))
    }

    fn try_count_up(&self) -> io::Result<(String, Option<FencingToken>)> {
        let OpenFile { file, id } = self.open();
        let trusted = Record::read_trusted(file, *id, &self.boot)?;
        match trusted.and_then(|record| Some(Record { token: record.token.next()?, ..record })) {
            Some(record) => {
                if !failpoint::is_off("lock.file.counter") {
                    record.write(file)?;
                }
                Ok((record.incarnation, Some(record.token)))
            }
            None => Ok((record::fresh_incarnation()?, None)),
        }
    }
}

impl Held for Grant {
    fn store(&mut self, incarnation: &str, first: FencingToken) -> Result<(), LockError> {
        let OpenFile { file, id } = self.open();
        let record = Record {
            incarnation: incarnation.to_owned(),
            boot: self.boot.to_string(),
            file: *id,
            token: first,
        };
        record
            .write_afresh(file)
            .map_err(|source| self.queue.main.unavailable("cannot seed", source))
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            self.queue.main.unlock(open);
        }
    }
}
