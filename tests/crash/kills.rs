//! `kill -9` at each point of a write that has a name.

use std::path::Path;

use fencepost::design::Design;
use fencepost::design::crud::CRUD;
use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::design::es_locked::ES_LOCKED;
use serde_json::json;

use crate::support::cluster::{Answer, Client, GRAPH, Kind, Server, Site, Sql, wait_until};
use crate::support::storm::audit;

/// One write of several rows: two jobs, one of them with a dataset of its own.
fn put_pair(server: &Server, n: u64) -> Result<Answer, String> {
    let job = |side: &str| json!({"op": "put_job", "name": format!("{side}-{n}"), "inputs": ["first"], "outputs": [format!("{side}-out-{n}")]});
    let body = json!({"operations": [job("left"), job("right")]});
    Client::new().send(
        &server.base,
        "POST",
        &format!("/v1/graphs/{GRAPH}/changesets"),
        None,
        Some(&body),
    )
}

/// Kills a server as it passes `point` for the third time, in its third write; `outlives` says
/// whether that write is to be found. Of each way to keep a graph one design.
fn killed_at(point: &str, outlives: bool) {
    for design in [&CRUD, &CRUD_PLAIN, &ES_LOCKED] {
        design_killed_at(design, point, outlives);
    }
}

fn design_killed_at(design: &'static Design, point: &str, outlives: bool) {
    let site = Site::with_graph_of(Kind::of_this_run(), design);
    let reached = site.path("reached");
    let armed = format!("{point}=pause:{}@3", reached.display());
    let serve = |failpoints: &str| site.serve_armed(failpoints, &["--design", design.name]);
    let mut server = serve(&armed);
    let epoch = site.head().epoch;
    assert_eq!(put_pair(&server, 2).unwrap().version(), 2);
    assert_eq!(put_pair(&server, 3).unwrap().version(), 3);
    std::thread::scope(|scope| {
        let lost = scope.spawn(|| put_pair(&server, 4));
        wait_until(&format!("{point} is reached"), || is_at(&reached, point));
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &server.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let answer = lost.join().unwrap();
        assert!(answer.is_err(), "answered before it was done: {answer:?}");
    });
    server.kill();

    // Whatever is there is whole, before anybody has tidied up.
    let found = audit(&site).version;
    assert_eq!(found, if outlives { 4 } else { 3 });
    let next = serve("");
    let answer = put_pair(&next, 5).unwrap();
    assert_eq!((answer.status, answer.version()), (201, found + 1), "{answer:?}");
    for n in 2..=5 {
        for side in ["left", "right"] {
            let read = next.get(&format!("/v1/graphs/{GRAPH}/jobs/{side}-{n}")).unwrap();
            let expected = if n == 4 && !outlives { 404 } else { 200 };
            assert_eq!(read.status, expected, "{side}-{n}: {read:?}");
        }
    }
    let audit = audit(&site);
    let read = next.get(&format!("/v1/graphs/{GRAPH}/digest")).unwrap();
    assert_eq!(read.body["digest"].as_str(), Some(audit.digest.as_str()));
    assert_eq!(site.head().epoch, epoch, "the lock's memory outlives a process");
}

pub(super) fn is_at(file: &Path, point: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text == point)
}

#[test]
fn after_acquire() {
    killed_at("after-acquire", false);
}

#[test]
fn before_conditional_update() {
    killed_at("before-conditional-update", false);
}

#[test]
fn after_conditional_update() {
    killed_at("after-conditional-update", false);
}

#[test]
fn before_commit() {
    killed_at("before-commit", false);
}

#[test]
fn after_commit() {
    killed_at("after-commit", true);
}

/// The very first turn: between the raising of the epoch and the seeding of the lock, and before
/// either.
#[test]
fn while_the_lock_is_seeded() {
    for (point, epoch) in [("before-commit", 0), ("after-commit", 1)] {
        let site = Site::with_graph();
        std::fs::remove_dir_all(site.lock_directory()).unwrap();
        let nothing = match site.sql() {
            Sql::Sqlite(_) => "zeroblob(32)",
            Sql::Postgres(_) => "decode(repeat('00', 32), 'hex')",
        };
        site.run_sql(&format!(
            "DELETE FROM changes; DELETE FROM datasets; UPDATE graphs SET version = 0, epoch = 0, fence = 0, chain = {nothing}"
        ));
        let reached = site.path("reached");
        let mut server = site.serve_armed(&format!("{point}=pause:{}@1", reached.display()), &[]);
        std::thread::scope(|scope| {
            let lost = scope.spawn(|| put_pair(&server, 1));
            wait_until("the point is reached", || is_at(&reached, point));
            server.signal("KILL");
            assert!(lost.join().unwrap().is_err());
        });
        server.kill();
        assert_eq!(site.head().epoch, epoch);
        assert_eq!(put_pair(&site.serve(), 2).unwrap().version(), 1);
        assert_eq!(site.head().epoch, epoch + 1);
        audit(&site);
    }
}
