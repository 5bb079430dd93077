//! A server that was the primary turns read-only, and another one takes its place: nobody is
//! answered by the former any more, and all goes on by itself.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use fencepost::db::{Database, DatabaseUrl, DbError, PoolLimits};
use fencepost::design::crud::CRUD;
use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::design::es_single_writer::ES_SINGLE_WRITER;
use fencepost::design::{self, Design, Reads};
use fencepost::node::{self, LockUrl, NodeOptions};
use fencepost::service::{Forwarded, Refusal, Service, Write};
use fencepost::store::{RequestId, Store};

use crate::support::ask::{accepted, changeset, put_dataset};
use crate::support::cluster::{GRAPH, Site, name, wait_until};
use crate::support::guards::passes;
use crate::support::postgres::{Pair, Postgres};

fn put(node: &Service, dataset: &str) -> Result<u64, Refusal> {
    node.write_and_wait(&name(GRAPH), changeset([put_dataset(dataset)]))
        .map(|accepted| accepted.version)
}

fn read(node: &Service) -> Result<u64, Refusal> {
    node.read_and_wait(&name(GRAPH)).map(|image| image.key.version)
}

fn ready(node: &Service) -> Result<(), Refusal> {
    let (sender, receiver) = std::sync::mpsc::channel();
    node.ready(move |answer| drop(sender.send(answer)));
    receiver.recv().unwrap()
}

fn options(pair: &Pair, design: &'static Design, reads: Option<Reads>) -> NodeOptions {
    let database = DatabaseUrl::parse(&pair.url()).unwrap();
    NodeOptions { design, reads, ..NodeOptions::new(database) }
}

/// The primary takes no writes any more, and says so; the standby does.
fn fail_over(pair: &Pair) {
    pair.primary.set("default_transaction_read_only = on");
    pair.standby.promote();
}

#[test]
fn nobody_is_answered_by_a_primary_that_was_demoted() {
    let as_designed = design::ALL.iter().map(|&design| (design, None));
    for (design, reads) in as_designed.chain([(&CRUD_DELTA, Some(Reads::Snapshot))]) {
        let pair = Pair::new();
        let options = options(&pair, design, reads);
        let node = node::open(&options).unwrap();
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(accepted(&node, [put_dataset("before")]), 1);
        assert_eq!(read(&node).unwrap(), 1);
        pair.wait_until_standby_has(1, GRAPH);
        fail_over(&pair);
        // A node that has no session on the former primary.
        let other = node::open(&options).unwrap();
        wait_until("the other node writes", || put(&other, "after").is_ok());
        let newest = read(&other).unwrap();
        for _ in 0..8 {
            if let Ok(version) = read(&node) {
                assert_eq!(version, newest, "{design} {reads:?}: an older version is answered");
            }
        }
        wait_until("reads go on", || read(&node).is_ok());
        wait_until("writes go on, where they may", || match put(&node, "again") {
            Err(Refusal::LedElsewhere { .. }) => design.has_leader(),
            answer => answer.is_ok(),
        });
        wait_until("readiness says so", || ready(&node).is_ok());
        assert_eq!(read(&other).unwrap(), read(&node).unwrap());
    }
}

/// The lock's sessions are on the former primary, and the statements' on the new one.
#[test]
fn a_lock_on_a_demoted_primary_is_taken_on_the_new_one() {
    let pair = Pair::new();
    let options = options(&pair, &CRUD, Some(Reads::Lock));
    let node = node::open(&options).unwrap();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(put(&node, "before").unwrap(), 1);
    pair.wait_until_standby_has(1, GRAPH);
    fail_over(&pair);
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'fencepost'";
    pair.primary.sql().batch_execute(end).unwrap();
    wait_until("writes go on", || put(&node, "after").is_ok());
    let lock_sessions = "DO $$ BEGIN ASSERT EXISTS (SELECT FROM pg_stat_activity \
        WHERE application_name = 'fencepost lock'); END $$";
    pair.standby.sql().batch_execute(lock_sessions).expect("the lock is taken on the new primary");
    assert!(read(&node).is_ok() && ready(&node).is_ok());
}

/// The former primary has a write that never came to the new one. What it says of that is no more
/// true than what else it says.
#[test]
fn a_primary_that_was_demoted_is_not_asked_what_became_of_a_write() {
    let pair = Pair::new();
    let options = options(&pair, &ES_SINGLE_WRITER, None);
    let node = node::open(&options).unwrap();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(accepted(&node, [put_dataset("before")]), 1);
    pair.wait_until_standby_has(1, GRAPH);
    let database = Database::open(&options.database, PoolLimits::default()).unwrap();
    let store = Store::new(database).unwrap();
    let since = store.head(&name(GRAPH)).unwrap().unwrap().key();

    let disconnect = "ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()";
    for statement in disconnect.split("; ") {
        pair.standby.sql().batch_execute(statement).unwrap();
    }
    let is_alone = "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_stat_replication); END $$";
    wait_until("nothing comes to the standby", || {
        pair.primary.sql().batch_execute(is_alone).is_ok()
    });
    let (request, token) = (RequestId::random(), node.led_under(&name(GRAPH)).unwrap());
    let forwarded = Forwarded { request: request.clone(), from: "another".to_owned(), token };
    let write = Write { forwarded: Some(forwarded), ..changeset([put_dataset("lost")]) };
    assert_eq!(node.write_and_wait(&name(GRAPH), write).unwrap().version, 2);

    let look = || store.request_look(&name(GRAPH), &request, &since).unwrap().unwrap();
    assert_eq!(look().applied.map(|applied| applied.version), Some(2));
    fail_over(&pair);
    let there = look();
    assert_eq!((there.applied, there.log_is_whole), (None, true));
}

/// Shows that it is the question which keeps older versions from being answered.
#[test]
fn without_asking_whether_the_server_writes_a_demoted_one_is_believed() {
    for test in [
        "store::failover::nobody_is_answered_by_a_primary_that_was_demoted",
        "store::failover::a_server_that_turns_read_only_is_refused_until_it_is_writable_again",
        "store::failover::a_primary_that_was_demoted_is_not_asked_what_became_of_a_write",
    ] {
        assert!(!passes(test, Some("writable")), "{test}");
    }
}

/// One host: nothing is answered while it takes no writes, and all goes on when it does again.
#[test]
fn a_server_that_turns_read_only_is_refused_until_it_is_writable_again() {
    let server = Postgres::start(&[]);
    for lock_in_files in [false, true] {
        let mut site = Site::at(server.new_database());
        site.lock_url = lock_in_files.then(|| LockUrl::File(Some(site.path("locks"))));
        // Whoever finds no host that can write looks for one for as long.
        let checkout_timeout = Duration::from_millis(500);
        let pool = PoolLimits { checkout_timeout, ..PoolLimits::default() };
        let node = node::open(&NodeOptions { pool, ..site.options() }).unwrap();
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(put(&node, "before").unwrap(), 1);
        server.set("default_transaction_read_only = on");
        let answers = [
            // While there is an idle session: a write that is refused closes all of them.
            read(&node).map(drop),
            put(&node, "meanwhile").map(drop),
            ready(&node),
            node.read_and_wait(&name("none")).map(drop),
            node.create_graph_and_wait(&name("new")).map(drop),
            put(&node, "meanwhile").map(drop),
        ];
        for answer in answers {
            let refused = answer.expect_err("the server takes no writes");
            let unavailable = matches!(
                refused,
                Refusal::DatabaseUnavailable { .. } | Refusal::LockUnavailable { .. }
            );
            assert!(unavailable && refused.to_string().contains("read-only"), "{refused:?}");
        }
        server.set("default_transaction_read_only = off");
        wait_until("writes go on", || put(&node, "after").is_ok());
        assert_eq!((read(&node).unwrap(), ready(&node)), (2, Ok(())));
    }
}

/// The write finds out, where the server turned read-only since the version was read.
#[test]
fn a_write_that_finds_the_server_read_only_leaves_all_its_sessions() {
    let server = Postgres::start(&[]);
    let mut site = Site::at(server.new_database());
    site.lock_url = Some(LockUrl::File(Some(site.path("locks"))));
    site.node().create_graph_and_wait(&name(GRAPH)).unwrap();
    let reached = site.path("reached");
    let lock = format!("file:{}", site.path("locks").display());
    let armed = format!("after-check=pause:{}", reached.display());
    let process = site.serve_armed(&armed, &["--lock-url", &lock]);
    std::thread::scope(|scope| {
        let put = scope.spawn(|| process.put_job("j", &[], &[]).unwrap());
        wait_until("the version is read", || reached.exists());
        server.set("default_transaction_read_only = on");
        std::fs::remove_file(&reached).unwrap();
        let refused = put.join().unwrap();
        let told = (refused.status, refused.body["outcome"].as_str());
        assert_eq!(told, (503, Some("not_applied")), "{refused:?}");
        assert!(refused.body["detail"].as_str().unwrap().contains("read-only"), "{refused:?}");
    });
    assert_eq!(process.get("/readyz").unwrap().status, 503);
    server.set("default_transaction_read_only = off");
    wait_until("writes go on", || process.put_job("k", &[], &[]).unwrap().status < 300);
    assert_eq!(process.get("/readyz").unwrap().status, 200);
}

/// A session that is in use keeps the pool alive that it is of, when the others have been left.
#[test]
fn a_pool_that_was_left_opens_no_session_in_the_place_of_another() {
    let server = Postgres::start(&[]);
    let url = DatabaseUrl::parse(&server.new_database()).unwrap();
    let checkout_timeout = Duration::from_millis(500);
    // One in use, and one for all others.
    let limits = PoolLimits { sessions: 2, checkout_timeout, ..PoolLimits::default() };
    let database = Database::open(&url, limits).unwrap();
    let ask = || database.learn(|_| Ok((None, ())));
    let asked = database.read(|_| {
        // Who opens a session first when the server can write again is chance.
        for _ in 0..8 {
            wait_until("the server is asked", || ask().is_ok());
            server.set("default_transaction_read_only = on");
            wait_until("the server takes no writes", || ask().is_err());
            server.set("default_transaction_read_only = off");
        }
        wait_until("the server is asked again", || ask().is_ok());
        Ok::<_, DbError>(())
    });
    asked.unwrap();
}
