//! The session that holds a graph's lock on Postgres ends between the grant and the commit: nothing is written by who holds nothing.

use crate::support::cluster::{Answer, Kind, Site, wait_until};
use crate::support::storm::audit;

const END_THE_HOLDER: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Writes a job while the lock's session is ended under it.
fn write_without_the_lock(site: &Site, failpoints: &str) -> Answer {
    let held = site.path("held");
    let server = site.serve_armed(&format!("after-acquire=pause:{},{failpoints}", held.display()), &[]);
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
    assert_eq!((refused.status, refused.body["outcome"].as_str()), (503, Some("not_applied")), "{refused:?}");
    assert_eq!(audit(&site).version, 2);
}

/// Shows that it is the check which refuses: nobody else wrote, and so the database has nothing against it.
#[test]
fn without_the_check_a_writer_whose_lock_was_lost_writes() {
    let site = Site::with_graph_on(Kind::Postgres);
    let written = write_without_the_lock(&site, "lock-check=off");
    assert_eq!((written.status, written.version()), (201, 2), "{written:?}");
    assert_eq!(audit(&site).version, 3);
}
