//! How turns are given out: each graph's beside the others', in the order in which requests came,
//! and one for each request if none are shared.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use fencepost::design::crud::CRUD;
use fencepost::design::turns::locked::LockedLimits;
use fencepost::lock::{LockKey, Mode};
use fencepost::node::{self, LockUrl, NodeOptions};
use fencepost::service::{Limits, Refusal, Service, Write};

use crate::support::ask::{accepted, changeset, in_line, keyed, put_dataset, verdicts};
use crate::support::cluster::start;
use crate::support::cluster::{GRAPH, LIMIT, Site, name, wait_until, waiting_for_lock};
use crate::support::limit;
use crate::support::requests::Requests;
use crate::support::stages::{self, Interrupted};
use crate::support::storm::{audit, audit_graph};

fn node_with(site: &Site, limits: Limits, lock_wait: Duration) -> Service {
    let turn_limits = waiting_for_lock(lock_wait);
    node::open(&NodeOptions { limits, turn_limits, ..site.options() }).unwrap()
}

#[test]
fn graphs_whose_lock_is_held_elsewhere_do_not_keep_a_free_one_waiting() {
    const HELD: usize = 40;
    let site = Site::with_graph();
    let node = node_with(&site, Limits::default(), 2 * limit());
    let (options, store) = (site.options(), site.store());
    let url = LockUrl::default_for(&options.database);
    let lock = node::open_lock(&url, &options.database, options.lease).unwrap();
    let held: Vec<_> = (0..HELD).map(|n| format!("held-{n}")).collect();
    let guards: Vec<_> = held
        .iter()
        .map(|graph| {
            node.create_graph_and_wait(&name(graph)).unwrap();
            let id = store.head(&name(graph)).unwrap().unwrap().id;
            let key = LockKey::new(store.database_id(), id).unwrap();
            lock.acquire(&key, Mode::Exclusive, LIMIT).unwrap()
        })
        .collect();
    let one = || [changeset([put_dataset("d")])];
    let waiting: Vec<_> = held.iter().flat_map(|graph| in_line(&node, graph, one())).collect();
    let free = in_line(&node, GRAPH, one()).pop().unwrap();
    let verdict = free.recv_timeout(limit()).expect("it waits for nobody");
    assert_eq!(verdict.map(|accepted| accepted.version), Ok(2));
    assert!(waiting.iter().all(|verdict| verdict.try_recv().is_err()), "a lock was not held");
    guards.into_iter().for_each(fencepost::lock::Guard::release);
    assert!(verdicts(waiting).iter().all(Result::is_ok));
}

#[test]
fn who_was_not_come_to_in_a_turn_is_the_first_in_the_next() {
    let turns = come_to_in_order(0);
    // Each takes five, has time for one, and puts four back before those that wait.
    assert_eq!(turns, (1 + LINE as u64, 1.0 + LINE as f64));
}

/// Also if the worker had no time to decide a whole batch.
#[test]
fn what_is_decided_ahead_leaves_the_order_as_it_was() {
    for ahead in [1, 2] {
        let (_, served) = come_to_in_order(ahead);
        assert_eq!(served, 1.0 + LINE as f64);
    }
}

/// Writes that wait behind one.
const LINE: usize = 20;

/// Turns of five writes, with time for one; how many there were, and what they served.
fn come_to_in_order(ahead: usize) -> (u64, f64) {
    let site = Site::with_graph();
    let limits = Limits {
        batch_time: Duration::ZERO,
        batch_writes: 5,
        ahead,
        worth_a_worker: 1,
        ..Limits::default()
    };
    let node = node_with(&site, limits, 2 * LIMIT);
    let lock = site.hold_lock(GRAPH, Mode::Exclusive);
    let first = in_line(&node, GRAPH, [changeset([put_dataset("d")])]);
    wait_until("the first turn has begun", || node.waiting().0 == 0);
    let (sender, answers) = mpsc::channel();
    for n in 0..LINE {
        let sender = sender.clone();
        let write = changeset([put_dataset(&format!("d-{n}"))]);
        node.write(&name(GRAPH), write, move |verdict| {
            let _ = sender.send((n, verdict.unwrap().version));
        });
    }
    lock.release();
    assert!(verdicts(first)[0].is_ok());
    let answered: Vec<_> = (0..LINE).map(|_| answers.recv_timeout(LIMIT).unwrap()).collect();
    assert_eq!(answered, (0..LINE).map(|n| (n, n as u64 + 3)).collect::<Vec<_>>());
    audit(&site);
    let batches = &node.metrics().write_batch;
    (batches.get_sample_count(), batches.get_sample_sum())
}

#[test]
fn each_write_and_each_read_has_its_own_turn_if_none_are_shared_and_the_verdicts_are_the_same() {
    const READS: u64 = 50;
    let site = Site::with_graph();
    let unshared = node_with(
        &site,
        Limits { share_turns: false, ..Limits::default() },
        LockedLimits::default().wait,
    );
    let shared = site.node();
    shared.create_graph_and_wait(&name("shared")).unwrap();
    shared.write_and_wait(&name("shared"), changeset([put_dataset("first")])).unwrap();
    let mut requests = Requests::new(3);
    let writes: Vec<Write> = (0..100).map(|_| requests.next()).collect();
    let answers = verdicts(in_line(&unshared, GRAPH, writes.clone()));
    assert_eq!(answers, verdicts(in_line(&shared, "shared", writes)));
    let batches = &unshared.metrics().write_batch;
    assert_eq!((batches.get_sample_count(), batches.get_sample_sum()), (100, 100.0));
    assert!(shared.metrics().write_batch.get_sample_count() < 50, "the other shares them");
    let logs = [GRAPH, "shared"].map(|graph| audit_graph(&mut site.sql(), graph));
    let [one, other] = logs.each_ref().map(|audit| audit.log.iter().map(|logged| &logged.text));
    assert!(one.eq(other), "the change logs differ");

    let (sender, images) = mpsc::channel();
    for _ in 0..READS {
        let sender = sender.clone();
        unshared.read(&name(GRAPH), move |image| {
            let _ = sender.send(image.unwrap().key.version);
        });
    }
    for _ in 0..READS {
        assert_eq!(images.recv_timeout(LIMIT).unwrap(), logs[0].version);
    }
    let batches = &unshared.metrics().read_batch;
    assert_eq!((batches.get_sample_count(), batches.get_sample_sum()), (READS, READS as f64));
}

/// As many as the limit says wait for the lock, the others in line; a write still has one turn at a
/// time.
#[test]
fn so_many_reads_have_a_turn_at_once_if_none_are_shared() {
    let site = Site::with_graph();
    let limits = Limits { share_turns: false, unshared_reads: 3, ..Limits::default() };
    let node = node_with(&site, limits, 2 * limit());
    node.create_graph_and_wait(&name("beside")).unwrap();
    accepted(&node, [put_dataset("d")]);
    let lock = site.hold_lock(GRAPH, Mode::Exclusive);
    let (sender, images) = mpsc::channel();
    for _ in 0..20 {
        let sender = sender.clone();
        node.read(&name(GRAPH), move |image| {
            let _ = sender.send(image.unwrap().key.version);
        });
    }
    let writes = in_line(&node, GRAPH, (0..5).map(|n| changeset([put_dataset(&format!("e-{n}"))])));
    wait_until("turns have begun", || node.waiting() == (4, 17));
    // Whatever turns there are have begun before this one.
    assert_eq!(node.read_and_wait(&name("beside")).unwrap().key.version, 0);
    assert_eq!(node.waiting(), (4, 17));
    lock.release();
    for _ in 0..20 {
        assert!((2..=7).contains(&images.recv_timeout(LIMIT).unwrap()));
    }
    assert!(verdicts(writes).iter().all(Result::is_ok));
}

/// Judged on an open graph, and frozen before the commit.
#[test]
fn a_batch_that_is_overtaken_by_a_freeze_answers_again_what_was_accepted_before() {
    let site = Site::with_graph();
    let store = Interrupted::new(site.open_database());
    let lock =
        node::open_lock(&LockUrl::File(None), &site.options().database, site.options().lease)
            .unwrap();
    let node = start(&CRUD, Arc::clone(&store.store), lock, Limits::default());
    let first = keyed(changeset([put_dataset("d")]), "key", "f");
    let told = node.write_and_wait(&name(GRAPH), first.clone());
    assert!(told.is_ok(), "{told:?}");
    let held = site.hold_lock(GRAPH, Mode::Exclusive);
    let opener = in_line(&node, GRAPH, [changeset([put_dataset("d")])]);
    wait_until("the first turn has begun", || node.waiting().0 == 0);
    let waiting = in_line(
        &node,
        GRAPH,
        [changeset([put_dataset("e")]), first, changeset([put_dataset("d")])],
    );
    let freezing = site.store();
    stages::set(&store.before_commit, move || {
        freezing.freeze(&name(GRAPH), Some("https://new.example")).unwrap().unwrap();
    });
    held.release();
    verdicts(opener).remove(0).unwrap();
    let frozen = Err(Refusal::Frozen {
        graph: name(GRAPH),
        moved_to: Some("https://new.example".to_owned()),
    });
    assert_eq!(verdicts(waiting), [frozen.clone(), told, frozen]);
    assert!(stages::is_over(&store.before_commit));
}
