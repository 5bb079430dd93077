//! The session that holds a graph's lock on Postgres ends between the grant and the commit: nothing
//! is written by who holds nothing.

use crate::support::cluster::{Answer, Kind, Site, wait_until};
use crate::support::storm::audit;

const END_THE_HOLDER: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Writes a job while the lock's session is ended under it.
fn write_without_the_lock(site: &Site, failpoints: &str) -> Answer {
    let held = site.path("held");
    let server =
        site.serve_armed(&format!("after-acquire=pause:{},{failpoints}", held.display()), &[]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| server.put_job("lost", &[], &[]).unwrap());
        wait_until("the writer has the lock", || held.exists());
        site.run_sql(END_THE_HOLDER);
        std::fs::remove_file(&held).unwrap();
        let answer = writer.join().unwrap();
        // The node goes on with another session.
        let next = server.put_job("next", &[], &[]).unwrap();
        assert_eq!(next.status, 201, "{next:?}");
        answer
    })
}

#[test]
fn a_writer_whose_lock_was_lost_writes_nothing() {
    let site = Site::with_graph_on(Kind::Postgres);
    let refused = write_without_the_lock(&site, "");
    assert_eq!(
        (refused.status, refused.body["outcome"].as_str()),
        (503, Some("not_applied")),
        "{refused:?}"
    );
    assert_eq!(audit(&site).version, 2);
}

/// Shows that it is the check which refuses: nobody else wrote, and so the database has nothing
/// against it.
#[test]
fn without_the_check_a_writer_whose_lock_was_lost_writes() {
    let site = Site::with_graph_on(Kind::Postgres);
    let written = write_without_the_lock(&site, "lock-check=off");
    assert_eq!((written.status, written.version()), (201, 2), "{written:?}");
    assert_eq!(audit(&site).version, 3);
}

/// A process that is stopped neither ends its transaction nor gives the lock back. The server ends
/// both after a lease, and others go on.
#[test]
fn a_writer_stopped_inside_its_transaction_loses_lock_and_row() {
    let site = Site::with_graph_on(Kind::Postgres);
    let held = site.path("held");
    let holder =
        site.serve_armed(&format!("after-conditional-update=pause:{}", held.display()), &[]);
    let other = site.serve_armed("", &["--lock-wait-ms", "20000"]);
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| holder.put_job("stopped", &["x"], &["y"]).unwrap());
        wait_until("the holder is in its transaction", || held.exists());
        holder.signal("STOP");
        std::fs::remove_file(&held).unwrap();
        let answer = other.put_job("other", &["y"], &["x"]).unwrap();
        assert_eq!((answer.status, answer.version()), (201, 2), "{answer:?}");
        holder.signal("CONT");
        let answer = stopped.join().unwrap();
        assert_eq!(
            (answer.status, answer.body["outcome"].as_str()),
            (503, Some("not_applied")),
            "{answer:?}"
        );
    });
    let refused = holder.put_job("stopped", &["x"], &["y"]).unwrap();
    assert_eq!((refused.status, refused.version()), (409, 2), "{refused:?}");
    assert_eq!(holder.put_job("another", &["x"], &["z"]).unwrap().version(), 3);
    assert_eq!(audit(&site).version, 3);
}

/// Stopped with the lock until others have written; `more` failpoints are armed in it. What it was
/// answered, and by how much the epoch rose.
fn stopped_with_the_lock(more: &str) -> (Answer, u32) {
    let site = Site::with_graph_on(Kind::Postgres);
    let epoch = site.head().epoch;
    let held = site.path("held");
    let holder = site.serve_armed(&format!("after-acquire=pause:{},{more}", held.display()), &[]);
    let other = site.serve();
    let answer = std::thread::scope(|scope| {
        let stopped = scope.spawn(|| holder.put_job("stopped", &[], &[]).unwrap());
        wait_until("the holder has the lock", || held.exists());
        holder.signal("STOP");
        std::fs::remove_file(&held).unwrap();
        for version in 2..5 {
            assert_eq!(other.put_job(&format!("j{version}"), &[], &[]).unwrap().version(), version);
        }
        holder.signal("CONT");
        stopped.join().unwrap()
    });
    assert_eq!(holder.put_job("next", &[], &[]).unwrap().status, 201);
    audit(&site);
    (answer, site.head().epoch - epoch)
}

/// Its token has fallen behind what others wrote, as a lock's memory that went back would have it:
/// but it is the holder that is behind, and the rightful one must not be fenced for that.
#[test]
fn a_writer_that_was_stopped_with_the_lock_raises_no_epoch() {
    let (answer, raised) = stopped_with_the_lock("");
    assert_eq!(
        (answer.status, answer.body["outcome"].as_str()),
        (503, Some("not_applied")),
        "{answer:?}"
    );
    assert_eq!(raised, 0);
}

/// The negative control.
#[test]
fn without_a_look_at_the_lock_a_writer_that_was_stopped_raises_the_epoch() {
    let (_, raised) = stopped_with_the_lock("lock-check=off");
    assert!(raised > 0, "the look was not needed");
}
