//! Tokens only ever rise, whatever becomes of the lock and of the database. `audit` compares them
//! in the change log.

use std::path::Path;
use std::sync::{Arc, Barrier};

use fencepost::design::crud::CRUD;
use fencepost::graph::Rejection;
use fencepost::lock::FencingToken;
use fencepost::lock::file::FileLock;
use fencepost::service::{Limits, Service};
use fencepost::store::{CommitError, Fence};

use super::writes::{read, write_with};
use crate::support::ask::{accepted, put_dataset, put_job, rejected};
use crate::support::cluster::start;
use crate::support::cluster::{GRAPH, Kind, Site, back_up, name, restore};
use crate::support::stages::{Forgetful, Interrupted, is_over, set};
use crate::support::storm::audit;

/// Removes every lock file, as somebody who tidies up would. Who holds one holds nothing then.
fn wipe(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

#[test]
fn of_two_that_raise_one_epoch_only_one_wins() {
    let site = Site::with_graph();
    let stores = [site.store(), site.store()];
    for _ in 0..50 {
        let head = site.head();
        let together = Barrier::new(2);
        let raised = std::thread::scope(|scope| {
            let racers = stores.each_ref().map(|store| {
                scope.spawn(|| {
                    let fence = FencingToken::new(head.epoch + 1, 0).unwrap().as_i64();
                    together.wait();
                    store.raise_epoch(&head, head.epoch + 1, fence, "run")
                })
            });
            racers.map(|racer| racer.join().unwrap())
        });
        let lost: Vec<_> = raised.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        let expected = head.epoch;
        assert!(
            matches!(lost[..], [CommitError::EpochMoved { expected: e, actual }] if *e == expected && *actual == expected + 1),
            "{raised:?}"
        );
        assert_eq!(site.head().epoch, head.epoch + 1);
    }
}

fn epochs_raised(node: &Service) -> u64 {
    let text = node.metrics().text();
    let count =
        text.lines().find_map(|line| line.strip_prefix("fencepost_epochs_raised_total ")).unwrap();
    count.parse().unwrap()
}

#[test]
fn a_first_turn_seeds_the_lock_and_later_ones_count_on() {
    let site = Site::with_graph();
    let nodes = [site.node(), site.node()];
    let epoch = site.head().epoch;
    assert_eq!(epoch, 1);
    for n in 0..10 {
        accepted(&nodes[n % 2], [put_dataset(&format!("d{n}"))]);
    }
    assert_eq!(site.head().epoch, epoch, "nothing was forgotten, so no epoch is raised");
    assert!(nodes.iter().all(|node| epochs_raised(node) == 0));
    audit(&site);
}

#[test]
fn a_lock_directory_that_was_wiped_opens_a_new_epoch() {
    let site = Site::with_graph();
    let nodes = [site.node(), site.node()];
    accepted(&nodes[0], [put_dataset("before")]);
    accepted(&nodes[1], [put_dataset("before too")]);
    for round in 2..5 {
        wipe(&site.lock_directory());
        accepted(&nodes[0], [put_dataset(&format!("d{round}"))]);
        accepted(&nodes[1], [put_dataset(&format!("e{round}"))]);
        assert_eq!(site.head().epoch, round);
    }
    assert_eq!(nodes.iter().map(epochs_raised).sum::<u64>(), 3);
    audit(&site);
}

/// In place, and of the same boot: the lock cannot notice. Its tokens are not above the fence, and
/// so not trusted.
#[test]
fn an_older_lock_file_copied_back_in_place_gives_no_token_twice() {
    let site = Site::with_graph();
    let node = site.node();
    accepted(&node, [put_dataset("a")]);
    let older = std::fs::read(site.lock_file()).unwrap();
    // The next token that the older file gives is just the one that was used last.
    accepted(&node, [put_dataset("b")]);
    std::fs::write(site.lock_file(), &older).unwrap();
    let epoch = site.head().epoch;
    accepted(&node, [put_dataset("c")]);
    assert_eq!(site.head().epoch, epoch + 1);
    for n in 0..5 {
        accepted(&node, [put_dataset(&format!("d{n}"))]);
    }
    std::fs::write(site.lock_file(), &older).unwrap();
    accepted(&site.node(), [put_dataset("e")]);
    assert_eq!(audit(&site).version, 10);
}

#[test]
fn another_file_in_the_place_of_the_lock_file_gives_no_token_twice() {
    let site = Site::with_graph();
    let node = site.node();
    let older = site.path("older");
    std::fs::copy(site.lock_file(), &older).unwrap();
    accepted(&node, [put_dataset("a")]);
    std::fs::rename(&older, site.lock_file()).unwrap();
    accepted(&node, [put_dataset("b")]);
    std::fs::write(site.lock_file(), "garbage").unwrap();
    accepted(&node, [put_dataset("c")]);
    assert_eq!(site.head().epoch, 3);
    audit(&site);
}

#[test]
fn a_database_restored_under_running_nodes_is_served_anew() {
    let site = Site::with_graph();
    let nodes = [site.node(), site.node()];
    accepted(&nodes[0], [put_job("kept", &["x"], &["y"])]);
    back_up(&site, &site.path("copy.db"));
    let epoch = site.head().epoch;
    accepted(&nodes[0], [put_job("lost", &["y"], &["z"])]);
    wipe(&site.lock_directory());
    accepted(&nodes[0], [put_dataset("lost too")]);
    for node in &nodes {
        assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().key.version, 4);
    }
    restore(&site, &site.path("copy.db"));
    assert_eq!(site.head().epoch, epoch);

    // What comes after would close a cycle with what was lost, and does not with what is there.
    assert_eq!(accepted(&nodes[0], [put_job("new", &["z"], &["x"])]), 3);
    assert_eq!(site.head().epoch, epoch + 2, "above the lock's epoch and the database's");
    for node in &nodes {
        let image = node.read_and_wait(&name(GRAPH)).unwrap();
        assert_eq!((image.key.version, image.graph.job("lost").is_none()), (3, true));
        assert_eq!(node.metrics().images_ahead_of_store.get(), 1, "it is noticed and told");
    }
    audit(&site);
}

/// The same version and another history: only the chain tells them apart.
#[test]
fn an_image_of_another_history_at_the_same_version_is_thrown_away() {
    let site = Site::with_graph();
    let (node, other) = (site.node(), site.node());
    back_up(&site, &site.path("copy.db"));
    accepted(&node, [put_job("lost", &["y"], &["z"])]);
    assert!(other.read_and_wait(&name(GRAPH)).unwrap().graph.job("lost").is_some());
    restore(&site, &site.path("copy.db"));
    assert_eq!(accepted(&node, [put_job("new", &["z"], &["y"])]), 2);
    let image = other.read_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(image.key.version, 2);
    assert!(image.graph.job("lost").is_none() && image.graph.job("new").is_some());
    // And a verdict rests on the history that is there.
    let (rejection, _) = rejected(&other, [put_job("third", &["y"], &["z"])]);
    assert!(matches!(rejection, Rejection::Cycle { .. }), "{rejection:?}");
    audit(&site);
}

/// Under another id, as the one that comes to have it next.
#[test]
fn a_graph_that_a_restored_database_keeps_under_another_id_is_found() {
    let site = Site::with_graph();
    let nodes = [site.node(), site.node()];
    back_up(&site, &site.path("copy.db"));
    nodes[0].create_graph_and_wait(&name("moved")).unwrap();
    let put = |node: &Service, dataset: &str| {
        let write = crate::support::ask::changeset([put_dataset(dataset)]);
        node.write_and_wait(&name("moved"), write).map(|accepted| accepted.version)
    };
    assert_eq!(put(&nodes[0], "lost"), Ok(1));
    assert_eq!(put(&nodes[1], "lost too"), Ok(2));
    restore(&site, &site.path("copy.db"));
    let fresh = site.node();
    fresh.create_graph_and_wait(&name("another")).unwrap();
    fresh.create_graph_and_wait(&name("moved")).unwrap();
    assert_eq!(put(&fresh, "a"), Ok(1));
    assert_eq!(nodes[0].read_and_wait(&name("moved")).unwrap().key.version, 1);
    // All exclude each other under one key.
    let lock = site.hold_lock("moved", fencepost::lock::Mode::Exclusive);
    let waiting: Vec<_> = nodes
        .iter()
        .enumerate()
        .flat_map(|(n, node)| {
            crate::support::ask::in_line(
                node,
                "moved",
                [crate::support::ask::changeset([put_dataset(&format!("b{n}"))])],
            )
        })
        .collect();
    crate::support::cluster::wait_until("both turns have begun", || {
        nodes.iter().all(|node| node.waiting().0 == 0)
    });
    assert!(
        waiting.iter().all(|verdict| verdict.try_recv().is_err()),
        "a write passed by the lock"
    );
    lock.release();
    assert!(crate::support::ask::verdicts(waiting).iter().all(Result::is_ok));
    for node in &nodes {
        assert_eq!(node.read_and_wait(&name("moved")).unwrap().key.version, 3);
    }
    // The first has learnt the new id by its read. The other decided on the graph that it knew, and
    // found when it wrote that this was another one, and then that it had the other one's lock.
    let lost = nodes.each_ref().map(|node| {
        let metrics = node.metrics();
        let replaced = metrics.lost_writes.with_label_values(&["replaced"]).get();
        (replaced, metrics.wasted_decisions.get())
    });
    assert_eq!(lost, [(0, 0), (2, 1)]);
    assert_eq!(
        site.store().head(&name("moved")).unwrap().unwrap().epoch,
        1,
        "nobody counts elsewhere"
    );
    crate::support::storm::audit_graph(&mut site.sql(), "moved");
}

#[test]
fn a_database_restored_while_nobody_runs_is_served() {
    let site = Site::with_graph();
    accepted(&site.node(), [put_dataset("kept")]);
    back_up(&site, &site.path("copy.db"));
    std::fs::remove_dir_all(site.lock_directory()).unwrap();
    accepted(&site.node(), [put_dataset("lost")]);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(site.path(&format!("fencepost.db{suffix}")));
    }
    std::fs::copy(site.path("copy.db"), site.database()).unwrap();
    assert_eq!(accepted(&site.node(), [put_dataset("new")]), 3);
    assert_eq!(site.head().epoch, 3);
    audit(&site);
}

/// A holder that has lost the lock without noticing, and writes before its successor does, and
/// after.
#[test]
fn a_writer_that_lost_its_lock_is_stopped_and_takes_another_turn() {
    let site = Site::with_graph();
    let store = Interrupted::new(site.open_database());
    let lock =
        Arc::new(FileLock::open(&site.lock_directory(), "beside-database".to_owned()).unwrap());
    let stalled = start(&CRUD, Arc::clone(&store.store), lock, Limits::default());
    let (successor, directory) = (site.node(), site.lock_directory());
    set(&store.before_commit, move || {
        wipe(&directory);
        accepted(&successor, [put_job("a", &["x"], &["y"])]);
    });
    // Decided on the version before; it would close a cycle.
    let (rejection, version) = rejected(&stalled, [put_job("b", &["y"], &["x"])]);
    assert!(
        matches!(rejection, Rejection::Cycle { .. }) && version == 2,
        "{rejection:?} at {version}"
    );
    assert!(is_over(&store.before_commit));
    let fenced = stalled.metrics().lost_writes.with_label_values(&["fenced"]).get();
    assert_eq!(fenced, 1, "it is known as a stale holder");
    accepted(&stalled, [put_dataset("d")]);
    audit(&site);
}

/// Two hold the lock of a directory that was wiped; one writes between the other's look at the
/// graph and its raising of the epoch.
#[test]
fn a_write_that_comes_before_an_epoch_is_raised_is_not_overlooked() {
    let site = Site::with_graph();
    let lock = Forgetful::default();
    let late = start(&CRUD, Arc::new(site.store()), Arc::new(lock.clone()), Limits::default());
    let quick = site.node();
    set(lock.before_check(), move || {
        accepted(&quick, [put_job("a", &["x"], &["y"])]);
    });
    let (rejection, version) = rejected(&late, [put_job("b", &["y"], &["x"])]);
    assert!(
        matches!(rejection, Rejection::Cycle { .. }) && version == 2,
        "{rejection:?} at {version}"
    );
    assert!(is_over(lock.before_check()));
    accepted(&late, [put_dataset("d")]);
    audit(&site);
}

/// Whatever a lock server remembers after it was started anew, no token comes twice.
#[test]
fn a_lock_that_forgets_or_remembers_wrongly_gives_no_token_twice() {
    let site = Site::new();
    let lock = Forgetful::default();
    let store = Arc::new(site.store());
    let node = start(&CRUD, store, Arc::new(lock.clone()), Limits::default());
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    let mut written = 0;
    let mut write = |times: usize| {
        for _ in 0..times {
            written += 1;
            accepted(&node, [put_dataset(&format!("d{written}"))]);
        }
    };
    lock.remember(("run 1".to_owned(), None));
    write(3);
    let first = lock.memory();
    assert_eq!(site.head().epoch, 1);

    let expect_new_epoch = |memory, why: &str, write: &mut dyn FnMut(usize)| {
        let epoch = site.head().epoch;
        lock.remember(memory);
        write(2);
        assert_eq!(site.head().epoch, lock.memory().1.unwrap().epoch());
        assert!(site.head().epoch > epoch, "{why}");
        audit(&site);
    };
    expect_new_epoch(("run 1".to_owned(), None), "all was forgotten", &mut write);
    let token = |epoch, counter| FencingToken::new(epoch, counter);
    // It may have given more tokens than it wrote down before it went.
    expect_new_epoch(
        ("run 2".to_owned(), lock.memory().1),
        "another run that loaded a dump",
        &mut write,
    );
    expect_new_epoch(("run 3".to_owned(), token(9, 1_000)), "another run, far ahead", &mut write);
    expect_new_epoch(first, "the first run's memory", &mut write);
    let (run, now) = lock.memory();
    let (epoch, counter) = (now.unwrap().epoch(), now.unwrap().counter());
    expect_new_epoch(
        (run.clone(), token(epoch, counter - 1)),
        "one token back in the same run",
        &mut write,
    );
    expect_new_epoch(
        (run.clone(), token(epoch + 1, 0)),
        "all tokens of the epoch forgotten",
        &mut write,
    );
    // The database went back: the lock's epoch is above the row's, in the same run.
    back_up(&site, &site.path("copy.db"));
    let before = site.head().epoch;
    expect_new_epoch((run, None), "forgotten in the same run", &mut write);
    restore(&site, &site.path("copy.db"));
    write(1);
    assert_eq!(site.head().epoch, before + 2, "the lock's epoch was not the row's");
    audit(&site);
}

#[test]
fn when_epochs_are_used_up_a_write_says_so() {
    let site = Site::with_graph();
    let node = site.node();
    let last = i64::from(FencingToken::MAX_EPOCH);
    site.run_sql(&format!("UPDATE graphs SET epoch = {last}, fence = {}", last << 40));
    let verdict = crate::support::ask::write(&node, [put_dataset("d")]);
    let Err(fencepost::service::Refusal::Internal { what }) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(what.contains("epochs are used up"), "{what}");
    assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().key.version, 1, "it can still be read");
}

/// The token alone: version and chain are as they were read.
#[test]
fn the_token_of_a_former_leader_is_refused_though_nothing_was_written() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let (store, seen) = (site.store(), read(&site.store()));
        let token = store.take_over(&seen.head, "former", None).unwrap();
        assert_eq!(store.take_over(&site.head(), "leader", None).unwrap(), token + 1);
        let write = |token| write_with(&store, &seen, Fence::Leader(token), put_dataset("late"));
        match write(token) {
            Err(CommitError::Fenced { token: 1, fence: 2 }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(site.head().version, seen.head.version);
        write(token + 1).unwrap();
        let head = site.head();
        assert_eq!((head.leader_token, head.fence), (2, seen.head.fence));
    }
}
