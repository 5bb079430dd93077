//! What the sessions of a node on a Postgres server are set to, and how many they are.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use fencepost::db::{Database, DbError, PoolLimits};

use crate::support::cluster::{GRAPH, Kind, Site, wait_until};
use crate::support::guards::passes;

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
    let test = "store::sessions::a_graph_is_loaded_under_a_lease_that_is_shorter_than_loading_takes";
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
