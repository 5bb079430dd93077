//! A holder that is stopped holds everyone up: on one machine with SQLite that is a documented
//! limit. Nobody is told anything wrong.

use serde_json::json;

use crate::support::cluster::{Client, GRAPH, Server, Site, wait_until};
use crate::support::storm::audit;

#[test]
fn a_stopped_holder_holds_writers_up_and_misleads_nobody() {
    let site = Site::with_graph();
    let held = site.path("held");
    let holder =
        site.serve_armed(&format!("after-conditional-update=pause:{}", held.display()), &[]);
    let other = site.serve_armed("", &["--lock-wait-ms", "100"]);
    let snapshots = site.serve_armed("", &["--lock-wait-ms", "100", "--reads", "snapshot"]);
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| holder.put_job("stopped", &["x"], &["y"]));
        wait_until("the holder is in its transaction", || held.exists());
        holder.signal("STOP");
        std::fs::remove_file(&held).unwrap();
        for _ in 0..3 {
            for server in [&other, &snapshots] {
                let answer = server.put_job("other", &["y"], &["x"]).unwrap();
                assert_eq!(
                    (answer.status, answer.body["outcome"].as_str()),
                    (503, Some("not_applied")),
                    "{answer:?}"
                );
                assert_eq!(answer.body["type"], "urn:fencepost:problem:contended");
            }
            // Who reads under the lock waits for the holder as well; who reads a snapshot sees what
            // was committed.
            let read = |server: &Server| server.get(&format!("/v1/graphs/{GRAPH}")).unwrap();
            assert_eq!(read(&other).body["type"], "urn:fencepost:problem:contended");
            let seen = read(&snapshots);
            assert_eq!((seen.status, seen.version()), (200, 1), "{seen:?}");
        }
        // The file's own lock is held too, under another graph.
        let create = Client::new()
            .send(&other.base, "PUT", "/v1/graphs/another", None, Some(&json!({})))
            .unwrap();
        assert_eq!(
            (create.status, create.body["outcome"].as_str()),
            (503, Some("not_applied")),
            "{create:?}"
        );
        assert!(!stopped.is_finished());
        holder.signal("CONT");
        let answer = stopped.join().unwrap().unwrap();
        assert_eq!((answer.status, answer.version()), (201, 2), "{answer:?}");
    });
    let refused = other.put_job("other", &["y"], &["x"]).unwrap();
    assert_eq!((refused.status, refused.version()), (409, 2), "{refused:?}");
    assert_eq!(other.put_job("other", &["y"], &["z"]).unwrap().version(), 3);
    assert_eq!(snapshots.get(&format!("/v1/graphs/{GRAPH}")).unwrap().version(), 3);
    assert_eq!(audit(&site).version, 3);
}

/// Stopped while it holds the lock and no transaction yet, and killed instead of going on: the next
/// is served at once.
#[test]
fn a_stopped_holder_that_is_killed_frees_the_lock() {
    let site = Site::with_graph();
    let held = site.path("held");
    let mut holder = site.serve_armed(&format!("after-acquire=pause:{}", held.display()), &[]);
    let other = site.serve_armed("", &["--lock-wait-ms", "50"]);
    std::thread::scope(|scope| {
        let lost = scope.spawn(|| holder.put_job("lost", &[], &[]));
        wait_until("the holder has the lock", || held.exists());
        holder.signal("STOP");
        assert_eq!(other.put_job("other", &[], &[]).unwrap().status, 503);
        holder.signal("KILL");
        assert!(lost.join().unwrap().is_err());
    });
    holder.kill();
    assert_eq!(other.put_job("other", &[], &[]).unwrap().version(), 2);
    audit(&site);
}
