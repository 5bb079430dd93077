//! A Postgres that takes connections and requests and answers nothing: all its processes are
//! stopped, and its kernel acknowledges what they are sent.

use std::thread;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use fencepost::bench::Outcome;
use fencepost::design::Reads;
use fencepost::design::crud::CRUD;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;

use super::field::Field;
use crate::support::cluster::{Answer, GRAPH, Server, Site, wait_until};
use crate::support::guards::passes;
use crate::support::postgres::{Pair, Postgres};

/// How long the server may take to answer, in milliseconds.
const ANSWER: [&str; 2] = ["--database-answer-ms", "1500"];

/// Asks while the server is frozen; the answer comes all the same, as long as the client waits.
#[track_caller]
fn refused(ask: impl FnOnce() -> Result<Answer, String>, outcome: &str) {
    let answer = ask().unwrap();
    assert_eq!(
        (answer.status, answer.body["outcome"].as_str()),
        (503, Some(outcome)),
        "{answer:?}"
    );
}

fn create(node: &Server, graph: &str) -> Result<Answer, String> {
    let client = crate::support::cluster::Client::new();
    let body = serde_json::json!({});
    client.send(&node.base, "PUT", &format!("/v1/graphs/{graph}"), None, Some(&body))
}

/// Every kind of request, twice: with sessions that the server has stopped answering, and without
/// any. Then the server goes on, and so does everything else.
#[test]
fn every_request_is_answered_while_the_server_is_silent_and_all_goes_on_after_it() {
    let server = Postgres::start(&[]);
    let site = Site::at(server.new_database());
    let armed = std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default();
    let node = site.serve_armed(&armed, &ANSWER);
    assert!(create(&node, GRAPH).unwrap().status < 300);
    assert_eq!(node.put_job("j", &["x"], &["y"]).unwrap().status, 201);
    let jobs = format!("/v1/graphs/{GRAPH}/jobs");
    assert_eq!(node.get(&jobs).unwrap().status, 200);
    let changes = format!("/v1/graphs/{GRAPH}/changes?after=0");
    assert_eq!(node.get(&changes).unwrap().status, 200);
    let frozen = server.freeze();
    for _ in 0..2 {
        thread::scope(|scope| {
            scope.spawn(|| refused(|| node.put_job("k", &[], &[]), "not_applied"));
            scope.spawn(|| refused(|| node.get(&jobs), "not_applied"));
            scope.spawn(|| refused(|| node.get(&changes), "not_applied"));
            scope.spawn(|| refused(|| node.get("/v1/graphs"), "not_applied"));
            scope.spawn(|| refused(|| node.get("/readyz"), "not_applied"));
            scope.spawn(|| refused(|| create(&node, "other"), "not_applied"));
        });
    }
    assert_eq!(node.get("/livez").unwrap().status, 200);
    drop(frozen);
    wait_until("readiness says so", || node.get("/readyz").unwrap().status == 200);
    wait_until("writes go on", || node.put_job("l", &[], &[]).unwrap().status < 300);
    let read = node.get(&jobs).unwrap();
    assert_eq!(read.status, 200, "{read:?}");
    let told = read.body.to_string();
    assert!(told.contains("\"l\"") && !told.contains("\"k\""), "k was not to be applied: {told}");
}

/// Shows that it is the watchdog which answers.
#[test]
fn without_the_watchdog_requests_wait_for_a_silent_server() {
    let test = "faults::silence::every_request_is_answered_while_the_server_is_silent_and_all_goes_on_after_it";
    assert!(!passes(test, Some("watchdog")));
}

/// COMMIT has been sent when the server falls silent: nobody can know.
#[test]
fn a_write_whose_commit_is_not_answered_is_told_as_unknown() {
    let server = Postgres::start(&[]);
    let site = Site::with_graph_at(server.new_database());
    let reached = site.path("reached");
    let armed = format!("before-commit=pause:{}", reached.display());
    let node = site.serve_armed(&armed, &ANSWER);
    thread::scope(|scope| {
        let put = scope.spawn(|| refused(|| node.put_job("j", &[], &[]), "unknown"));
        wait_until("the rows are written", || reached.exists());
        let frozen = server.freeze();
        std::fs::remove_file(&reached).unwrap();
        put.join().unwrap();
        drop(frozen);
    });
    // It is there from now on, or it will never be.
    wait_until("writes go on", || node.put_job("k", &[], &[]).unwrap().status < 300);
    let there = || node.get(&format!("/v1/graphs/{GRAPH}/jobs/j")).unwrap().status;
    assert_eq!(there(), there());
}

/// The server falls silent in a transaction, or before a turn looks at the row, after which the
/// write would be one call. Whoever asked is told that nothing is written: when the server goes on,
/// so it is.
fn write_in_silence(in_a_transaction: bool, failpoints: &str) -> (Answer, bool) {
    let server = Postgres::start(&[]);
    let site = Site::with_graph_at(server.new_database());
    let reached = site.path("reached");
    let pause = format!("after-conditional-update=pause:{}", reached.display());
    let node = if in_a_transaction {
        site.serve_armed(&format!("{pause}{failpoints}"), &ANSWER)
    } else {
        let arguments = [&ANSWER[..], &["--design", "crud-optimistic"]].concat();
        site.serve_armed(failpoints, &arguments)
    };
    let told = thread::scope(|scope| {
        let put = || node.put_job("j", &[], &[]).unwrap();
        if !in_a_transaction {
            let frozen = server.freeze();
            let told = put();
            drop(frozen);
            return told;
        }
        let put = scope.spawn(put);
        wait_until("the transaction is under way", || reached.exists());
        let frozen = server.freeze();
        std::fs::remove_file(&reached).unwrap();
        let told = put.join().unwrap();
        drop(frozen);
        told
    });
    wait_until("writes go on", || node.put_job("k", &[], &[]).unwrap().status < 300);
    // What was given up goes on beside them: it has the time of some more.
    let there = (0..50).any(|number| {
        assert!(node.put_job(&format!("k{number}"), &[], &[]).unwrap().status < 300);
        node.get(&format!("/v1/graphs/{GRAPH}/jobs/j")).unwrap().status == 200
    });
    (told, there)
}

#[test]
fn a_write_that_was_given_up_is_not_committed_later() {
    for in_a_transaction in [true, false] {
        let (told, there) = write_in_silence(in_a_transaction, "");
        assert_eq!((told.status, told.body["outcome"].as_str()), (503, Some("not_applied")));
        assert!(!there, "in a transaction: {in_a_transaction}");
    }
}

/// Shows that it is the look before a commit which keeps the word.
#[test]
fn without_the_look_before_commit_a_write_that_was_given_up_is_committed() {
    for in_a_transaction in [true, false] {
        let (told, there) =
            write_in_silence(in_a_transaction, ",given-up=off,given-up-attempts=off");
        assert_eq!((told.status, told.body["outcome"].as_str()), (503, Some("not_applied")));
        assert!(there, "in a transaction: {in_a_transaction}");
    }
}

/// A standby takes its place meanwhile: what is stuck on the former is in nobody's way.
#[test]
fn a_standby_is_used_while_the_former_primary_is_silent() {
    for lock_in_files in [false, true] {
        let pair = Pair::new();
        let site = Site::at(pair.url());
        let mut arguments = ANSWER.map(str::to_owned).to_vec();
        if lock_in_files {
            arguments.push(format!("--lock-url=file:{}", site.path("locks").display()));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let node = site.serve_armed("", &arguments);
        assert!(create(&node, GRAPH).unwrap().status < 300);
        assert_eq!(node.put_job("j", &[], &[]).unwrap().status, 201);
        pair.wait_until_standby_has(1, GRAPH);
        let frozen = pair.primary.freeze();
        pair.standby.promote();
        wait_until("writes go on", || node.put_job("k", &[], &[]).unwrap().status < 300);
        wait_until("readiness says so", || node.get("/readyz").unwrap().status == 200);
        let read = node.get(&format!("/v1/graphs/{GRAPH}/jobs")).unwrap();
        assert!(read.status == 200 && read.body.to_string().contains("\"k\""), "{read:?}");
        drop(frozen);
    }
}

/// As many sessions are stuck on the former primary as may run statements.
#[test]
fn sessions_that_are_stuck_leave_their_places_to_others() {
    let pair = Pair::new();
    let Pair { primary, standby, database } = &pair;
    let site = Site::at(pair.url());
    let armed = std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default();
    let node = site.serve_armed(&armed, &[&ANSWER[..], &["--reads=snapshot"]].concat());
    let graphs: Vec<String> = (0..12).map(|number| format!("g{number}")).collect();
    for graph in graphs.iter().map(String::as_str).chain([GRAPH]) {
        assert!(create(&node, graph).unwrap().status < 300);
    }
    assert_eq!(node.put_job("j", &[], &[]).unwrap().status, 201);
    pair.wait_until_standby_has(1, GRAPH);
    let read_all = || {
        thread::scope(|scope| {
            let read = |graph| node.get(&format!("/v1/graphs/{graph}/jobs")).unwrap().status;
            let all: Vec<_> = graphs.iter().map(|graph| scope.spawn(move || read(graph))).collect();
            all.into_iter().map(|read| read.join().unwrap()).collect::<Vec<_>>()
        })
    };
    let is_used = format!(
        "DO $$ BEGIN ASSERT (SELECT count(*) >= 8 FROM pg_stat_activity \
         WHERE datname = '{database}' AND application_name = 'fencepost'); END $$"
    );
    let mut holder = PgConnection::establish(&primary.url(database)).unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE graphs").unwrap();
    thread::scope(|scope| {
        scope.spawn(read_all);
        wait_until("all sessions for statements are open", || {
            primary.sql().batch_execute(&is_used).is_ok()
        });
        holder.batch_execute("ROLLBACK").unwrap();
    });
    let frozen = primary.freeze();
    assert_eq!(read_all(), [503; 12]);
    standby.promote();
    wait_until("all graphs are read again", || read_all() == [200; 12]);
    assert!(node.put_job("k", &[], &[]).unwrap().status < 300);
    drop(frozen);
}

#[test]
fn while_stuck_sessions_keep_their_places_nobody_else_is_served() {
    let test = "faults::silence::sessions_that_are_stuck_leave_their_places_to_others";
    assert!(!passes(test, Some("abandoned")));
}

#[test]
fn postgres_falls_silent_under_load_and_goes_on() {
    for (design, reads) in [(&CRUD, Some(Reads::Lock)), (&CRUD_OPTIMISTIC, None)] {
        let postgres = Postgres::start(&[]);
        let field = Field::on(Site::at(postgres.new_database()), design, reads);
        let nodes = [(); 2].map(|()| field.node_with("", &ANSWER));
        field.under_load(&nodes.each_ref(), || {
            for _ in 0..2 {
                let frozen = postgres.freeze();
                wait_until("every node says so", || {
                    nodes.iter().all(|node| {
                        let told = field.put(node, "meanwhile", "x", "y");
                        matches!(told, Outcome::Refused { .. } | Outcome::Unknown { .. })
                    })
                });
                drop(frozen);
                field.wait_for_writes(20);
            }
        });
        field.expect_valid(&nodes[0]);
    }
}
