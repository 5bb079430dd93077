//! The lock in a directory: the suite of all locks, and what can befall files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fencepost::lock::file::FileLock;
use fencepost::lock::{DistributedLock, FencingToken, LockError, Mode};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::child::{Journal, Role, Running, open};
use super::conformance::{LockFixture, assert_held_back, key, take};
use super::row::Row;
use crate::support::{limit, wait_until};

use Mode::{Exclusive, Shared};

struct FileFixture {
    locks: TempDir,
    scratch: TempDir,
}

impl FileFixture {
    fn new() -> Self {
        let directory = || TempDir::new().expect("a temporary directory");
        Self { locks: directory(), scratch: directory() }
    }

    fn lock_file(&self) -> PathBuf {
        self.locks.path().join(format!("{}.lock", key()))
    }

    fn record(&self) -> Vec<u8> {
        fs::read(self.lock_file()).expect("the lock file is there")
    }

    /// A lock that has been seeded, and its row.
    fn seeded(&self) -> Row {
        let mut row = Row::default();
        row.token_for(&mut take(&*self.node(), Exclusive));
        row
    }

    fn next_token(&self) -> Option<FencingToken> {
        take(&*self.node(), Exclusive).token()
    }
}

impl LockFixture for FileFixture {
    fn node(&self) -> Arc<dyn DistributedLock> {
        open(&self.address())
    }

    fn address(&self) -> String {
        format!("file:{}", self.locks.path().display())
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

lock_conformance!(FileFixture::new());

/// A record with one field changed and the checksum made right again: not damaged, but another.
fn with_field(record: &[u8], name: &str, change: impl Fn(&str) -> String) -> Vec<u8> {
    let text = std::str::from_utf8(record).expect("records are text");
    let (body, _) = text.split_once("sha256 ").expect("records end with a checksum");
    let mut changed = String::new();
    for line in body.lines() {
        match line.split_once(' ') {
            Some((field, value)) if field == name => {
                changed.push_str(&format!("{name} {}\n", change(value)))
            }
            _ => changed.push_str(&format!("{line}\n")),
        }
    }
    assert_ne!(changed, body, "there is a field {name}, and it changed");
    let checksum: String =
        Sha256::digest(changed.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{changed}sha256 {checksum}\n").into_bytes()
}

fn next_boot(boot: &str) -> String {
    let first = if boot.starts_with('0') { '1' } else { '0' };
    format!("{first}{}", &boot[1..])
}

#[test]
fn a_damaged_record_wants_seeding_whichever_bit_it_is() {
    let fixture = FileFixture::new();
    fixture.seeded();
    let whole = fixture.record();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(fixture.lock_file(), &damaged).expect("writable");
        assert_eq!(fixture.next_token(), None, "byte {at} was damaged");
    }
    fs::write(fixture.lock_file(), &whole).expect("writable");
    assert!(fixture.next_token().is_some(), "and whole again it is trusted");
}

#[test]
fn a_truncated_or_lengthened_record_wants_seeding() {
    let fixture = FileFixture::new();
    let mut row = fixture.seeded();
    let whole = fixture.record();
    let longer = |more: usize| [&whole[..], &vec![b'\n'; more]].concat();
    let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
    for content in cut.chain([longer(1), longer(10_000), b"\xff\xfe".to_vec()]) {
        fs::write(fixture.lock_file(), &content).expect("writable");
        assert_eq!(
            fixture.next_token(),
            None,
            "{} bytes instead of {}",
            content.len(),
            whole.len()
        );
    }
    let lengthened = longer(10_000);
    fs::write(fixture.lock_file(), lengthened).expect("writable");
    row.token_for(&mut take(&*fixture.node(), Exclusive));
    assert_eq!(fixture.record().len(), whole.len(), "seeding leaves nothing else in the file");
    assert!(fixture.next_token().is_some());
}

#[test]
fn a_record_of_another_boot_wants_seeding() {
    let fixture = FileFixture::new();
    let mut row = fixture.seeded();
    fs::write(fixture.lock_file(), with_field(&fixture.record(), "boot", next_boot))
        .expect("writable");
    assert_eq!(fixture.next_token(), None);
    row.token_for(&mut take(&*fixture.node(), Exclusive));
    assert_eq!(row.seedings, 2);
    assert!(fixture.next_token().is_some());
}

#[test]
fn a_record_of_another_format_wants_seeding() {
    let fixture = FileFixture::new();
    fixture.seeded();
    fs::write(
        fixture.lock_file(),
        with_field(&fixture.record(), "fencepost-lock", |_| "2".to_owned()),
    )
    .expect("writable");
    assert_eq!(fixture.next_token(), None);
}

#[test]
fn a_used_up_epoch_wants_seeding() {
    let fixture = FileFixture::new();
    let mut row = fixture.seeded();
    let last_but_one = |_: &str| format!("{:013}", FencingToken::MAX_COUNTER - 1);
    fs::write(fixture.lock_file(), with_field(&fixture.record(), "counter", last_but_one))
        .expect("writable");
    let last = row.token_for(&mut take(&*fixture.node(), Exclusive));
    assert_eq!((last.counter(), row.seedings), (FencingToken::MAX_COUNTER, 1));
    assert_eq!(fixture.next_token(), None);
    row.token_for(&mut take(&*fixture.node(), Exclusive));
    assert_eq!(row.seedings, 2);
}

#[test]
fn a_copy_that_is_put_in_place_wants_seeding() {
    let fixture = FileFixture::new();
    let mut row = fixture.seeded();
    let node = fixture.node();
    let copy = fixture.scratch().join("copy");
    fs::copy(fixture.lock_file(), &copy).expect("it can be copied");
    for _ in 0..3 {
        row.token_for(&mut take(&*node, Exclusive));
    }
    // The scratch directory is on the same file system: this is what `mv` does.
    fs::rename(&copy, fixture.lock_file()).expect("it can be moved");
    let mut guard = take(&*node, Exclusive);
    assert_eq!(guard.token(), None);
    row.token_for(&mut guard);
    assert_eq!(row.seedings, 2);
}

#[test]
fn a_copy_that_gets_the_number_of_the_file_it_replaces_wants_seeding() {
    let fixture = FileFixture::new();
    fixture.seeded();
    // Some file systems give the number of a removed file to the next one; hence more than one
    // attempt, and no assertion that it happens.
    for _ in 0..20 {
        let old = fixture.record();
        take(&*fixture.node(), Exclusive).release();
        fs::remove_file(fixture.lock_file()).expect("it can be removed");
        fs::write(fixture.lock_file(), old).expect("it can be restored");
        assert_eq!(fixture.next_token(), None);
    }
}

#[test]
fn a_wiped_directory_is_noticed_while_running() {
    let fixture = FileFixture::new();
    let mut row = fixture.seeded();
    let (old, waiting) = (fixture.node(), fixture.node());
    // Both have descriptors at hand, of files that then go.
    for node in [&old, &waiting] {
        row.token_for(&mut take(&**node, Exclusive));
    }
    let reader = take(&*old, Shared);
    for entry in fs::read_dir(fixture.locks.path()).expect("it can be listed") {
        fs::remove_file(entry.expect("an entry").path()).expect("it can be removed");
    }
    let mut guard = take(&*fixture.node(), Exclusive);
    assert_eq!(guard.token(), None);
    row.token_for(&mut guard);
    for node in [&old, &waiting] {
        assert_held_back(&**node, Exclusive);
        assert_held_back(&**node, Shared);
    }
    guard.release();
    // Nor does who still holds the former file hold anybody up.
    for node in [&old, &waiting] {
        row.token_for(&mut take(&**node, Exclusive));
    }
    drop(reader);
    row.token_for(&mut take(&*old, Exclusive));
    assert_eq!(row.seedings, 2, "the wiped lock was seeded once more");
}

fn assert_another_directory(node: &dyn DistributedLock) {
    for mode in [Shared, Exclusive] {
        let refused = node.acquire(&key(), mode, limit());
        let Err(error @ LockError::Unavailable { .. }) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains("not the one that was opened"), "{error}");
    }
    assert!(matches!(node.ping(), Err(LockError::Unavailable { .. })));
}

/// Two processes that lock files in different directories of one name would both be let in.
#[test]
fn a_directory_that_is_gone_or_another_grants_nothing_until_it_is_back() {
    let fixture = FileFixture::new();
    let mut row = fixture.seeded();
    let (node, away) = (fixture.node(), fixture.scratch().join("away"));
    row.token_for(&mut take(&*node, Exclusive));
    fs::rename(fixture.locks.path(), &away).expect("it can be moved");
    assert_another_directory(&*node);
    assert!(!fixture.locks.path().exists(), "none is made in its place");
    fs::create_dir(fixture.locks.path()).expect("it can be made");
    assert_another_directory(&*node);
    let made = fs::read_dir(fixture.locks.path()).expect("it can be listed").count();
    assert_eq!(made, 0, "nothing is made in it");
    fs::remove_dir(fixture.locks.path()).expect("it can be removed");
    fs::rename(&away, fixture.locks.path()).expect("it can be moved");
    row.token_for(&mut take(&*node, Exclusive));
    assert_eq!(row.seedings, 1, "it is the same lock");
}

/// Who waited meanwhile is not let in by what it waited for.
#[test]
fn a_directory_that_is_replaced_while_somebody_waits_grants_nothing() {
    let fixture = FileFixture::new();
    let (node, away) = (fixture.node(), fixture.scratch().join("away"));
    let former = take(&*fixture.node(), Exclusive);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| node.acquire(&key(), Exclusive, limit()));
        wait_until(limit(), "the waiter waits", || waiters_for(&fixture.lock_file()) == 1);
        fs::rename(fixture.locks.path(), &away).expect("it can be moved");
        fs::create_dir(fixture.locks.path()).expect("it can be made");
        former.release();
        let refused = waiter.join().expect("it is answered");
        assert!(matches!(refused, Err(LockError::Unavailable { .. })), "{refused:?}");
    });
}

#[test]
fn who_only_looks_makes_nothing() {
    let fixture = FileFixture::new();
    let directory = fixture.scratch().join("not there");
    let lock = FileLock::look_at(&directory, "x".to_owned()).expect("it can be looked at");
    let seen = lock.inspect(&key()).expect("there is nothing to see");
    assert_eq!(seen.notes, ["it was never taken"]);
    assert!(!directory.exists());
}

#[test]
fn who_waits_for_a_file_that_is_replaced_gets_the_new_one() {
    let fixture = FileFixture::new();
    let mut row = fixture.seeded();
    let former = take(&*fixture.node(), Exclusive);
    let (node, other) = (fixture.node(), fixture.node());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| take(&*node, Exclusive));
        wait_until(limit(), "the waiter waits", || waiters_for(&fixture.lock_file()) == 1);
        fs::remove_file(fixture.lock_file()).expect("it can be removed");
        former.release();
        let mut guard = waiter.join().expect("it is let in");
        assert_eq!(guard.token(), None);
        row.token_for(&mut guard);
        assert_held_back(&*other, Shared);
    });
    assert!(fixture.next_token().is_some());
}

#[test]
fn a_descriptor_of_a_file_that_is_gone_is_not_waited_for() {
    let fixture = FileFixture::new();
    let node = fixture.node();
    take(&*node, Exclusive).release();
    let former = take(&*fixture.node(), Exclusive);
    fs::remove_file(fixture.lock_file()).expect("it can be removed");
    take(&*node, Exclusive).release();
    former.release();
}

#[test]
fn an_orphan_on_a_file_that_is_gone_is_not_waited_for() {
    let fixture = FileFixture::new();
    let node = fixture.node();
    let former = take(&*fixture.node(), Exclusive);
    assert_held_back(&*node, Exclusive);
    fs::remove_file(fixture.lock_file()).expect("it can be removed");
    let current = take(&*fixture.node(), Exclusive);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| take(&*node, Exclusive));
        wait_until(limit(), "it waits for the file that is there", || {
            waiters_for(&fixture.lock_file()) == 1
        });
        current.release();
        waiter
            .join()
            .expect("it is let in, though the holder of the former file is still there")
            .release();
    });
    former.release();
    take(&*node, Exclusive).release();
}

#[test]
fn who_adopts_an_orphan_gets_what_it_asked_for() {
    let fixture = FileFixture::new();
    let nodes = [fixture.node(), fixture.node(), fixture.node()];
    let turnstile = fixture.lock_file().with_extension("turnstile");
    // The adoption itself cannot be seen from here, only that it is about to happen; hence the
    // rounds.
    for _ in 0..20 {
        for (given_up, wanted) in [(Shared, Exclusive), (Exclusive, Shared)] {
            let holder = take(&*nodes[0], Exclusive);
            assert!(nodes[1].acquire(&key(), given_up, Duration::from_millis(1)).is_err());
            thread::scope(|scope| {
                let waiter = scope.spawn(|| take(&*nodes[1], wanted));
                let probe = fs::File::open(&turnstile).expect("it is there");
                wait_until(limit(), "the waiter is past the turnstile", || {
                    probe.try_lock().map(|()| probe.unlock().expect("unlocked")).is_err()
                });
                holder.release();
                let guard = waiter.join().expect("it is let in");
                match wanted {
                    Exclusive => assert_held_back(&*nodes[2], Shared),
                    Shared => take(&*nodes[2], Shared).release(),
                }
                guard.release();
            });
        }
    }
}

/// How many wait in the kernel for a lock on this file.
fn waiters_for(path: &Path) -> usize {
    let inode = format!(":{} ", fs::metadata(path).expect("the file is there").ino());
    let locks = fs::read_to_string("/proc/locks").expect("the kernel lists its locks");
    locks.lines().filter(|line| line.contains("-> FLOCK") && line.contains(&inode)).count()
}

#[test]
fn waits_that_run_out_leave_one_helper_for_each_file_and_that_lets_go() {
    let fixture = FileFixture::new();
    let nodes = [fixture.node(), fixture.node(), fixture.node()];
    let journal = Journal::new(fixture.scratch());
    let mut child = Running::start(&fixture, Role::GivesUp);
    let mut helpers_after = |told: &str, steps: usize| {
        child.tell(told);
        wait_until(limit(), "the child has given up", || journal.lines().len() == steps);
        journal
            .lines()
            .pop()
            .and_then(|line| line.strip_prefix("helpers ")?.parse::<usize>().ok())
            .expect("a number")
    };

    let reader = take(&*nodes[0], Shared);
    assert!(helpers_after("wait for the file", 1) <= 1);
    thread::scope(|scope| {
        let writer = scope.spawn(|| take(&*nodes[1], Exclusive));
        wait_until(limit(), "the writer waits", || {
            nodes[2].acquire(&key(), Shared, Duration::ZERO).is_err()
        });
        assert!(helpers_after("wait for the turnstile", 2) <= 2);
        reader.release();
        writer.join().expect("the writer is let in").release();
    });
    assert_eq!(helpers_after("idle", 3), 0);
    take(&*nodes[0], Exclusive).release();
    child.finish();
}

#[test]
fn lock_files_stay_and_their_descriptors_are_few() {
    let fixture = FileFixture::new();
    fixture.seeded();
    let before = fixture.record();
    for node in [fixture.node(), fixture.node()] {
        let readers: Vec<_> = (0..50).map(|_| take(&*node, Shared)).collect();
        assert!(descriptors_on(&fixture.lock_file()) >= 50, "each grant has its own");
        drop(readers);
        let idle = descriptors_on(&fixture.lock_file());
        assert!((1..10).contains(&idle), "{idle} descriptors are kept");
    }
    assert_eq!(descriptors_on(&fixture.lock_file()), 0, "none once the handles are gone");
    assert_eq!(fixture.record(), before, "readers leave the record alone");
}

fn descriptors_on(path: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("a process can see its descriptors");
    open.filter(|entry| {
        entry.as_ref().is_ok_and(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == path))
    })
    .count()
}

#[test]
fn a_directory_that_cannot_be_written_is_a_clear_error() {
    let scratch = TempDir::new().expect("a temporary directory");
    let file = scratch.path().join("file");
    fs::write(&file, "").expect("writable");
    // Even root can create nothing in /proc.
    for directory in [
        file.clone(),
        file.join("below"),
        PathBuf::from("/proc"),
        PathBuf::from("/proc/self/locks"),
    ] {
        let error =
            FileLock::open(&directory, "x".to_owned()).expect_err("nothing can be created there");
        assert!(matches!(error, LockError::Unavailable { .. }));
        let said = error.to_string();
        assert!(said.contains("cannot create files in the lock directory"), "{said}");
        assert!(said.contains(&*directory.to_string_lossy()), "{said}");
    }
}

#[test]
fn a_directory_that_goes_bad_is_unavailable_until_it_is_opened_again() {
    let fixture = FileFixture::new();
    let node = fixture.node();
    fs::remove_dir_all(fixture.locks.path()).expect("it can be removed");
    fs::write(fixture.locks.path(), "in the way").expect("writable");
    assert!(matches!(node.ping(), Err(LockError::Unavailable { .. })));
    let refused = node.acquire(&key(), Shared, limit());
    assert!(matches!(refused, Err(LockError::Unavailable { .. })), "{refused:?}");
    fs::remove_file(fixture.locks.path()).expect("it can be removed");
    assert!(matches!(node.ping(), Err(LockError::Unavailable { .. })));
    let again = fixture.node();
    again.ping().expect("it can be made again");
    take(&*again, Exclusive).release();
}

#[test]
fn the_identity_is_the_one_given() {
    let fixture = FileFixture::new();
    let lock =
        FileLock::open(fixture.locks.path(), "my-locks".to_owned()).expect("it can be opened");
    assert_eq!(lock.identity().to_string(), "file:my-locks");
    assert_eq!(lock.path(&key()), fixture.lock_file());
}
