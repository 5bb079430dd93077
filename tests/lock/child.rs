//! Real processes that take the lock. A child is this test binary again, told to run the one "test"
//! below, which does nothing in the parent.

use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fencepost::lock::file::FileLock;
use fencepost::lock::postgres::PostgresLock;
use fencepost::lock::redis::Terms;
use fencepost::lock::{DistributedLock, LEASE, LockError, Mode};

use super::conformance::{LockFixture, key, take};
use super::row::RowFile;
use crate::support::stopped::wait_until_stopped;
use crate::support::{limit, wait_until};

const ROLE: &str = "FENCEPOST_TEST_LOCK_ROLE";
const ADDRESS: &str = "FENCEPOST_TEST_LOCK_ADDRESS";
const SCRATCH: &str = "FENCEPOST_TEST_LOCK_SCRATCH";

/// What a child does.
#[derive(Clone, Copy)]
pub enum Role {
    /// Takes the exclusive lock once and keeps it until its input ends.
    Holder,
    /// Takes the exclusive lock again and again, this often at most, until its input ends.
    Writer(u32),
    /// For each line of input, waits in vain for the lock, many times; for the line `idle`, waits
    /// until nothing is left over of that. Then says how many helper threads it has.
    GivesUp,
}

impl Role {
    fn to_text(self) -> String {
        match self {
            Self::Holder => "holder".to_owned(),
            Self::Writer(turns) => format!("writer {turns}"),
            Self::GivesUp => "gives-up".to_owned(),
        }
    }
}

/// The lock at an address: `file:DIR`, or the `postgres://…` of a database.
pub fn open(address: &str) -> Arc<dyn DistributedLock> {
    match address.split_once(':') {
        Some(("file", directory)) => Arc::new(
            FileLock::open(Path::new(directory), directory.to_owned())
                .expect("the lock can be opened"),
        ),
        Some(("postgres", _)) => {
            Arc::new(PostgresLock::open(address, LEASE).expect("the lock can be opened"))
        }
        Some(("redis", _)) => Arc::new(super::redis::open(address, Terms::default())),
        _ => panic!("no lock is known at {address}"),
    }
}

/// A running child; killed when dropped.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
}

impl Running {
    pub fn start(fixture: &impl LockFixture, role: Role) -> Self {
        let binary = std::env::current_exe().expect("the test binary has a path");
        let mut child = Command::new(binary)
            .args(["--exact", "lock::child::child", "--nocapture"])
            .env(ROLE, role.to_text())
            .env(ADDRESS, fixture.address())
            .env(SCRATCH, fixture.scratch())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the test binary can be run again");
        let input = child.stdin.take();
        Self { child, input }
    }

    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{line}").expect("the child listens");
    }

    /// Stops it where it is.
    pub fn stop(&self) {
        let status = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "it can be stopped");
        wait_until_stopped(self.child.id());
    }

    /// SIGKILL, at once.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Ends its input and waits until it has ended well.
    pub fn finish(mut self) {
        self.input = None;
        self.join();
    }

    /// Waits until it has ended well by itself.
    pub fn join(&mut self) {
        let mut status = None;
        wait_until(limit(), "the child ends", || {
            status = self.child.try_wait().expect("its status can be read");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "the child failed: {status:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the children of one test write down, line by line, in the order in which it happened.
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    pub fn new(scratch: &Path) -> Self {
        Self { path: scratch.join("journal") }
    }

    pub fn write(&self, line: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .expect("the journal can be opened");
        // One write, so that lines of different processes never mix.
        file.write_all(format!("{line}\n").as_bytes()).expect("the journal can be written");
    }

    pub fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.path).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let lock = open(&std::env::var(ADDRESS).expect("the parent says which lock"));
    let scratch = PathBuf::from(std::env::var_os(SCRATCH).expect("the parent says where"));
    let (journal, row) = (Journal::new(&scratch), RowFile::new(&scratch));
    match role.split_once(' ') {
        None if role == "holder" => hold(&*lock, &journal, &row),
        None if role == "gives-up" => give_up(&*lock, &journal),
        Some(("writer", turns)) => {
            write(&*lock, &journal, &row, turns.parse().expect("a number of turns"))
        }
        _ => panic!("no child can be a {role}"),
    }
}

fn hold(lock: &dyn DistributedLock, journal: &Journal, row: &RowFile) {
    let mut guard = take(lock, Mode::Exclusive);
    let token = row.token_for(&mut guard);
    journal.write(&format!("begin {} {}", std::process::id(), token.as_i64()));
    for line in std::io::stdin().lock().lines() {
        line.expect("input can be read");
    }
    journal.write(&format!("end {} {}", std::process::id(), token.as_i64()));
}

fn write(lock: &dyn DistributedLock, journal: &Journal, row: &RowFile, turns: u32) {
    let over = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let over = Arc::clone(&over);
        move || {
            for line in std::io::stdin().lock().lines() {
                line.expect("input can be read");
            }
            over.store(true, Ordering::SeqCst);
        }
    });
    for _ in 0..turns {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let mut guard = take(lock, Mode::Exclusive);
        let token = row.token_for(&mut guard);
        journal.write(&format!("begin {} {}", std::process::id(), token.as_i64()));
        thread::yield_now();
        journal.write(&format!("end {} {}", std::process::id(), token.as_i64()));
        guard.release();
    }
}

fn give_up(lock: &dyn DistributedLock, journal: &Journal) {
    for line in std::io::stdin().lock().lines() {
        if line.expect("input can be read") == "idle" {
            wait_until(limit(), "the helpers end", || helper_threads() == 0);
        } else {
            for _ in 0..20 {
                let refused = lock.acquire(&key(), Mode::Exclusive, Duration::from_millis(2));
                assert!(matches!(refused, Err(LockError::Timeout { .. })), "{refused:?}");
            }
        }
        journal.write(&format!("helpers {}", helper_threads()));
    }
}

/// Threads of this process that wait in `flock`.
fn helper_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a process can see its threads");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "flock").count()
}
