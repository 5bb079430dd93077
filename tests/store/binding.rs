//! Which lock guards a database: written once, by whoever is first, however many come at once.

use std::sync::Barrier;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use fencepost::lock::LockIdentity;
use fencepost::node::{self, LockUrl, NodeError};
use fencepost::node::{LockBindingError, bind_lock};
use fencepost::store::LockRecord;

use crate::support::cluster::{Kind, SERVE, Server, Site, wait_until};

fn identity(name: &str) -> LockIdentity {
    LockIdentity { kind: "file", identity: name.to_owned() }
}

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    count: i64,
}

/// Whether a statement on a Postgres database waits for a row that another transaction holds.
fn one_waits(site: &Site) -> bool {
    let waiting = "SELECT count(*) AS count FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    diesel::sql_query(waiting).get_result::<Waiting>(&mut site.sql()).unwrap().count == 1
}

/// Another process names its lock while `body` does, and is first: its transaction is open when
/// `body` looks, and is committed once `body` waits for it.
fn while_another_names_its_lock<T: Send>(site: &Site, body: impl FnOnce() -> T + Send) -> T {
    let mut other = site.sql();
    other
        .batch_execute("BEGIN; UPDATE service SET lock_kind = 'file', lock_identity = '/other'")
        .unwrap();
    std::thread::scope(|scope| {
        let outcome = scope.spawn(body);
        wait_until("it waits for the other", || one_waits(site));
        other.batch_execute("COMMIT").unwrap();
        outcome.join().unwrap()
    })
}

fn other() -> LockRecord {
    LockRecord { kind: "file".to_owned(), identity: "/other".to_owned() }
}

#[test]
fn a_node_that_names_its_lock_a_moment_later_than_another_is_refused() {
    let site = Site::on(Kind::Postgres);
    drop(site.store());
    let options = site.options();
    let opened = while_another_names_its_lock(&site, || node::open(&options).map(drop));
    let Err(NodeError::Binding(LockBindingError::Another { stored, .. })) = opened else {
        panic!("{opened:?}")
    };
    assert_eq!(stored, "file:/other");
    assert_eq!(site.store().lock_record().unwrap(), Some(other()));
}

#[test]
fn a_lock_is_not_set_over_one_that_another_process_sets_at_the_same_time() {
    let site = Site::on(Kind::Postgres);
    drop(site.node());
    let (options, new) = (site.options(), LockUrl::File(Some(site.path("locks"))));
    let set = while_another_names_its_lock(&site, || node::set_lock(&options, &new));
    let Err(NodeError::LockSetMeanwhile { stored }) = set else { panic!("{set:?}") };
    assert_eq!(stored, other());
    assert_eq!(site.store().lock_record().unwrap(), Some(other()));
}

#[test]
fn of_many_that_name_different_locks_at_once_one_wins_and_the_others_are_told() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        let stores: Vec<_> = (0..4).map(|_| site.store()).collect();
        for round in 0..50 {
            site.run_sql("UPDATE service SET lock_kind = NULL, lock_identity = NULL");
            let together = Barrier::new(stores.len());
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let mut binding = Vec::new();
                for (n, store) in stores.iter().enumerate() {
                    let together = &together;
                    binding.push(scope.spawn(move || {
                        together.wait();
                        bind_lock(store, &identity(&format!("lock-{n}")))
                    }));
                }
                binding.into_iter().map(|bound| bound.join().unwrap()).collect()
            });
            let winners: Vec<usize> =
                (0..outcomes.len()).filter(|n| outcomes[*n].is_ok()).collect();
            let [winner] = winners.as_slice() else {
                panic!("round {round} on {kind:?}: {outcomes:?}")
            };
            let record = site.store().lock_record().unwrap().unwrap();
            assert_eq!(record.identity, format!("lock-{winner}"));
            for outcome in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
                assert!(outcome.to_string().contains(&record.to_string()), "{outcome}");
            }
        }
    }
}

#[test]
fn of_two_servers_started_at_once_with_different_locks_one_comes_up() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        drop(site.store());
        for round in 0..8 {
            site.run_sql("UPDATE service SET lock_kind = NULL, lock_identity = NULL");
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let start = |n: usize| {
                    let lock = format!("file:{}", site.path(&format!("lock-{n}")).display());
                    let mut command = site.fencepost(&SERVE);
                    command.args(["--lock-url", &lock]);
                    scope.spawn(|| Server::try_start(command))
                };
                let starting: Vec<_> = (0..2).map(start).collect();
                starting.into_iter().map(|server| server.join().unwrap()).collect()
            });
            let refused: Vec<_> =
                outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
            let [(code, said)] = refused.as_slice() else {
                panic!("round {round} on {kind:?}: {} were refused", refused.len())
            };
            assert!(*code == Some(1) && said.contains("two locks guard nothing"), "{said}");
        }
    }
}
