//! What the sessions of a node on a Postgres server are set to, and how many they are.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use fencepost::db::{Database, DatabaseUrl, DbError, PoolLimits};
use fencepost::node::{self, LockUrl, NodeOptions};

use crate::support::ask::{changeset, put_dataset};
use crate::support::bursts::serves_bursts;
use crate::support::cluster::{GRAPH, Kind, Site, name, wait_until};
use crate::support::guards::passes;
use crate::support::postgres::Postgres;

/// As short as a lease may be.
const LEASE_MS: &str = "200";

/// Whether the server's last word on sessions of this database is as `condition` says.
fn a_session_is(site: &Site, condition: &str) -> bool {
    let found = format!(
        "DO $$ BEGIN ASSERT EXISTS (SELECT FROM pg_stat_activity \
         WHERE datname = current_database() AND {condition}); END $$"
    );
    site.sql().batch_execute(&found).is_ok()
}

#[test]
fn a_graph_is_loaded_under_a_lease_that_is_shorter_than_loading_takes() {
    let site = Site::with_graph_on(Kind::Postgres);
    let reached = site.path("reached");
    let armed = std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default();
    let armed = format!("{armed},while-loading=pause:{}", reached.display());
    let node = site.serve_armed(&armed, &["--lock-lease-ms", LEASE_MS]);
    std::thread::scope(|scope| {
        let read = scope.spawn(|| node.get(&format!("/v1/graphs/{GRAPH}")).unwrap());
        wait_until("some rows are read", || reached.exists());
        wait_until("the transaction stands still for ten leases, or was ended", || {
            let idle = "application_name = 'fencepost' AND state = 'idle in transaction'";
            let long = "state_change < clock_timestamp() - interval '2 seconds'";
            a_session_is(&site, &format!("{idle} AND {long}")) || !a_session_is(&site, idle)
        });
        std::fs::remove_file(&reached).unwrap();
        let answer = read.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    });
}

#[test]
fn without_the_exemption_loading_is_cut_off_by_a_short_lease() {
    let test =
        "store::sessions::a_graph_is_loaded_under_a_lease_that_is_shorter_than_loading_takes";
    assert!(!passes(test, Some("loading-stall")));
}

/// Whoever holds a row is not exempt.
#[test]
fn a_write_that_stands_still_for_longer_than_a_lease_is_ended() {
    let site = Site::with_graph_on(Kind::Postgres);
    let limits = PoolLimits { stall: Duration::from_millis(200), ..PoolLimits::default() };
    let database = Database::open(&site.options().database, limits).unwrap();
    let written = database.write(|connection| {
        connection.hold_graph(GRAPH)?;
        wait_until("the server has ended it", || {
            !a_session_is(&site, "state = 'idle in transaction'")
        });
        connection.hold_graph(GRAPH)?;
        Ok::<_, DbError>(())
    });
    assert!(written.is_err(), "{written:?}");
}

#[test]
fn twelve_graphs_are_served_by_a_role_with_five_sessions() {
    let server = Postgres::start(&[]);
    let url = server.limited_database(5);
    let options = NodeOptions::new(DatabaseUrl::parse(&url).unwrap());
    let node = node::open(&options).unwrap();
    serves_bursts(&node, || server.end_sessions_of("small"));
}

/// Shows that it is the budget which has everybody served. Who gets a session first is chance.
#[test]
fn without_a_budget_lock_and_statements_starve_each_other() {
    let tests = [
        "store::sessions::twelve_graphs_are_served_by_a_budget_of_two_sessions",
        "store::sessions::twelve_graphs_are_served_by_a_role_with_five_sessions",
    ];
    let mut tries = tests.iter().cycle().take(6);
    assert!(tries.any(|test| !passes(test, Some("session-budget"))));
}

/// The least that there can be: one session for statements, one for the lock.
#[test]
fn twelve_graphs_are_served_by_a_budget_of_two_sessions() {
    let server = Postgres::start(&[]);
    let url = server.limited_database(2);
    let mut options = NodeOptions::new(DatabaseUrl::parse(&url).unwrap());
    options.pool.sessions = 2;
    let node = node::open(&options).unwrap();
    serves_bursts(&node, || server.end_sessions_of("small"));
}

#[test]
fn a_lock_that_is_not_of_the_database_leaves_all_sessions_to_statements() {
    let server = Postgres::start(&[]);
    let mut site = Site::at(server.limited_database(2));
    site.lock_url = Some(LockUrl::File(Some(site.path("locks"))));
    let node = site.node();
    serves_bursts(&node, || server.end_sessions_of("small"));
}

/// Neither knows of the other.
#[test]
fn two_nodes_share_a_role_with_five_sessions() {
    let server = Postgres::start(&[]);
    let url = server.limited_database(5);
    let options = NodeOptions::new(DatabaseUrl::parse(&url).unwrap());
    let nodes = [(); 2].map(|()| {
        let mut opened = None;
        wait_until("a session is free for another node", || {
            opened = node::open(&options).ok();
            opened.is_some()
        });
        opened.unwrap()
    });
    wait_until("the graph is created", || nodes[0].create_graph_and_wait(&name(GRAPH)).is_ok());
    for node in nodes.iter().cycle().take(6) {
        let write = || changeset([put_dataset(&uuid::Uuid::new_v4().to_string())]);
        wait_until("it is served", || node.write_and_wait(&name(GRAPH), write()).is_ok());
    }
}
