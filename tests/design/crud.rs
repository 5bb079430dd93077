//! What tells `crud` from other designs: its image is reloaded when the version has moved, and only
//! then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fencepost::db::{Database, DbError, PoolLimits};
use fencepost::design::Reads;
use fencepost::design::crud::CRUD;
use fencepost::lock::file::FileLock;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Refusal};
use fencepost::store::Store;

use crate::support::ask::{accepted, put_dataset};
use crate::support::cluster::start;
use crate::support::cluster::{GRAPH, LIMIT, Site, name};

#[test]
fn an_image_is_loaded_only_when_another_node_has_written() {
    let site = Site::with_graph();
    let (node, other) = (site.node(), site.node());
    let loads = || node.metrics().image_loads.get();
    for n in 0..5 {
        accepted(&node, [put_dataset(&format!("own-{n}"))]);
        node.read_and_wait(&name(GRAPH)).unwrap();
    }
    assert_eq!(loads(), 1, "what a node has written itself it knows");
    for n in 0..5 {
        accepted(&other, [put_dataset(&format!("other-{n}"))]);
        for _ in 0..3 {
            node.read_and_wait(&name(GRAPH)).unwrap();
        }
        assert_eq!(loads(), n + 2);
    }
}

#[test]
fn a_read_without_the_lock_loads_nothing_for_what_its_own_node_writes_meanwhile() {
    let site = Site::with_graph();
    let node = node::open(&NodeOptions { reads: Some(Reads::Snapshot), ..site.options() }).unwrap();
    node.read_and_wait(&name(GRAPH)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                node.read_and_wait(&name(GRAPH)).unwrap();
            }
        });
        for n in 0..300 {
            accepted(&node, [put_dataset(&format!("own-{n}"))]);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(node.metrics().image_loads.get(), 1);
}

/// The database is away: requests are refused, and names of which nobody knows whether they are
/// graphs are not kept.
#[test]
fn a_name_that_cannot_be_looked_up_is_not_remembered() {
    let site = Site::with_graph();
    let limits = PoolLimits {
        connections: 1,
        checkout_timeout: Duration::from_millis(250),
        ..PoolLimits::default()
    };
    let database = Database::open(&site.options().database, limits).unwrap();
    let store = Arc::new(Store::new(database.clone()).unwrap());
    let lock =
        Arc::new(FileLock::open(&site.lock_directory(), "beside-database".to_owned()).unwrap());
    let node = start(&CRUD, store, lock, Limits::default());
    let ((busy, is_busy), (free, is_free)) = (mpsc::channel(), mpsc::channel());
    std::thread::scope(|scope| {
        let database = database.clone();
        scope.spawn(move || {
            let held = database.read(|_| {
                busy.send(()).unwrap();
                is_free.recv_timeout(LIMIT).unwrap();
                Ok::<_, DbError>(())
            });
            held.unwrap();
        });
        is_busy.recv_timeout(LIMIT).unwrap();
        for n in 0..5 {
            let unknown = name(&format!("unknown-{n}"));
            let write = crate::support::ask::changeset([put_dataset("d")]);
            let verdict = node.write_and_wait(&unknown, write);
            assert!(matches!(verdict, Err(Refusal::DatabaseUnavailable { .. })), "{verdict:?}");
            let image = node.read_and_wait(&unknown).err();
            assert!(matches!(image, Some(Refusal::DatabaseUnavailable { .. })), "{image:?}");
        }
        assert_eq!(node.metrics().graphs_held.get(), 0);
        free.send(()).unwrap();
    });
    accepted(&node, [put_dataset("d")]);
}
