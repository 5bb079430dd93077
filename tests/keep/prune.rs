//! Pruning: who is waited for, what a kill leaves, and what others see of it.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use diesel::prelude::*;
use fencepost::db::schema::{changes, snapshot_parts};
use fencepost::design::Design;
use fencepost::keep::{PruneError, prune};
use fencepost::node::{self, NodeOptions};
use fencepost::store::{Acknowledgement, GraphStore};

use super::{KINDS, Known, grown, logged, plain};
use crate::support::ask::{accepted, delete_graph, put_dataset, put_job};
use crate::support::cluster::{GRAPH, Site, name, wait_until};

/// Lowest and highest version in the log, and the versions of which there are parts of snapshots.
fn kept(site: &Site) -> (Option<i64>, Option<i64>, Vec<i64>) {
    let sql = &mut site.sql();
    let (low, high) = changes::table
        .select((diesel::dsl::min(changes::version), diesel::dsl::max(changes::version)))
        .first(sql)
        .unwrap();
    let parts = snapshot_parts::table.select(snapshot_parts::version).distinct().load(sql).unwrap();
    (low, high, parts)
}

#[test]
fn a_log_is_not_pruned_past_a_consumer_and_is_when_it_has_read_on_or_was_removed() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 9);
        let (store, reader) = (site.store(), name("read er"));
        store.acknowledge(&name(GRAPH), &reader, 3, 0).unwrap();
        store.acknowledge(&name(GRAPH), &name("ahead"), 9, 0).unwrap();
        let refused = prune(&store, &name(GRAPH), 5).unwrap_err().to_string();
        assert!(refused.contains("`read er` of graph `g` has acknowledged version 3"), "{refused}");
        assert!(refused.contains("fencepost consumer remove --graph g --name 'read er'"), "{refused}");
        assert_eq!(kept(&site), (Some(1), Some(9), vec![]));
        // Change 4 is the next that it needs.
        assert_eq!(prune(&store, &name(GRAPH), 4).unwrap().changes, 3);
        assert_eq!(kept(&site), (Some(4), Some(9), vec![4]));
        store.acknowledge(&name(GRAPH), &reader, 6, 0).unwrap();
        assert!(matches!(prune(&store, &name(GRAPH), 8), Err(PruneError::NeededBy { acknowledged: 6, .. })));
        assert_eq!(prune(&store, &name(GRAPH), 7).unwrap().changes, 3);
        assert_eq!(store.forget_consumer(&name(GRAPH), &reader).unwrap(), Some(true));
        assert_eq!(prune(&store, &name(GRAPH), 9).unwrap().changes, 2);
        let again = prune(&store, &name(GRAPH), 5).unwrap();
        assert!(again.already && again.changes == 0, "{again:?}");
        assert_eq!(kept(&site), (Some(9), Some(9), vec![9]));
        assert!(prune(&store, &name(GRAPH), 10).unwrap_err().to_string().contains("is at version 9"));
        // Whoever comes too late is told.
        let late = store.acknowledge(&name(GRAPH), &name("late"), 7, 0).unwrap();
        assert_eq!(late, Acknowledgement::Pruned { oldest: 9 });
    }
}

#[test]
fn the_log_of_a_deleted_graph_is_pruned_too_and_its_versions_go_on() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 3);
        let (node, store) = (site.node(), site.store());
        store.acknowledge(&name(GRAPH), &name("c"), 1, 0).unwrap();
        node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        assert!(matches!(prune(&store, &name(GRAPH), 4), Err(PruneError::NeededBy { .. })));
        assert_eq!(store.forget_consumer(&name(GRAPH), &name("c")).unwrap(), Some(true));
        assert_eq!(prune(&store, &name(GRAPH), 4).unwrap().changes, 3);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(accepted(&node, [put_dataset("d")]), 5);
        assert_eq!(Known::at(&store, 4).job_versions, []);
    }
}

/// `fencepost prune`, held at a failpoint.
fn held_at(site: &Site, point: &str, before: &str) -> Child {
    let file = site.path(point);
    let mut command: Command = site.fencepost(&["prune", "--graph", GRAPH, "--before", before]);
    command.env("FENCEPOST_FAILPOINTS", format!("{point}=pause:{}", file.display()));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(&format!("{point} is reached"), || {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {point}");
        std::fs::read_to_string(&file).is_ok_and(|text| text == point)
    });
    child
}

#[test]
fn what_a_killed_prune_leaves_is_whole_and_the_next_one_tidies_up() {
    for kind in KINDS {
        for (point, flipped) in [("prune-snapshot-written", false), ("prune-flipped", true)] {
            for next in ["40", "45"] {
                let site = Site::on(kind);
                let known = grown(&site, 7, 50);
                let store = site.store();
                prune(&store, &name(GRAPH), 10).unwrap();
                let mut child = held_at(&site, point, "40");
                child.kill().unwrap();
                child.wait().unwrap();
                let oldest = store.head(&name(GRAPH)).unwrap().unwrap().oldest;
                assert_eq!(oldest, if flipped { 40 } else { 10 });
                assert_eq!(kept(&site).0, Some(10), "nothing is deleted yet");
                for version in oldest..=50 {
                    assert_eq!(Known::at(&store, version), known[version as usize], "killed at {point} on {kind:?}");
                }
                accepted(&site.node(), [put_job("one more", &[], &["one more"])]);
                let run = site.fencepost(&["prune", "--graph", GRAPH, "--before", next]).output().unwrap();
                let said = String::from_utf8(run.stdout).unwrap();
                let gone = next.parse::<usize>().unwrap() - 10;
                let expected = format!("changes before {next} are gone, {gone} of them; a snapshot at {next} is kept");
                assert!(run.status.success() && said.contains(&expected), "{said}");
                let at: i64 = next.parse().unwrap();
                assert_eq!(kept(&site), (Some(at), Some(51), vec![at]));
                assert_eq!(Known::at(&store, at as u64), known[at as usize]);
            }
        }
    }
}

#[test]
fn a_consumer_that_registers_while_a_snapshot_is_written_is_waited_for() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 9);
        let store = site.store();
        let child = held_at(&site, "prune-snapshot-written", "8");
        store.acknowledge(&name(GRAPH), &name("just in time"), 2, 0).unwrap();
        std::fs::remove_file(site.path("prune-snapshot-written")).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(1) && said.contains("`just in time`"), "{said}");
        assert_eq!(logged(&store, GRAPH, 2)[0].version, 3);
        // What it left is in nobody's way.
        store.acknowledge(&name(GRAPH), &name("just in time"), 9, 0).unwrap();
        assert_eq!(prune(&store, &name(GRAPH), 6).unwrap().changes, 5);
        assert_eq!(kept(&site), (Some(6), Some(9), vec![6]));
    }
}

#[test]
fn a_storm_of_writers_consumers_and_prunes_loses_nothing() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 5);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let pruners: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let (store, mut pruned) = (site.store(), 0);
                        while !over.load(Ordering::SeqCst) {
                            let version = store.head(&name(GRAPH)).unwrap().unwrap().version;
                            match prune(&store, &name(GRAPH), version - 1) {
                                Ok(done) => pruned += done.changes,
                                Err(PruneError::NeededBy { .. } | PruneError::Outrun(_) | PruneError::History(_)) => {}
                                Err(other) => panic!("{other}"),
                            }
                        }
                        pruned
                    })
                })
                .collect();
            let consumers: Vec<_> = (0..2)
                .map(|number| {
                    let (site, over) = (&site, &over);
                    scope.spawn(move || {
                        let (store, mut rounds) = (site.store(), 0);
                        while !over.load(Ordering::SeqCst) {
                            let consumer = name(&format!("consumer-{number}-{rounds}"));
                            let at = store.head(&name(GRAPH)).unwrap().unwrap().version - 2;
                            let noted = store.acknowledge(&name(GRAPH), &consumer, at, 0).unwrap();
                            if matches!(noted, Acknowledgement::Noted { .. }) {
                                rounds += 1;
                                let next = store.feed(&name(GRAPH), at, 10).unwrap().unwrap().changes;
                                assert_eq!(
                                    next.first().map(|change| change.version),
                                    Some(at + 1),
                                    "its next change is gone"
                                );
                                store.forget_consumer(&name(GRAPH), &consumer).unwrap();
                            }
                        }
                        rounds
                    })
                })
                .collect();
            let node = site.node();
            for n in 0..150 {
                accepted(&node, [put_job(&format!("w{}", n % 20), &[&format!("in{n}")], &[])]);
            }
            over.store(true, Ordering::SeqCst);
            let pruned: u64 = pruners.into_iter().map(|pruner| pruner.join().unwrap()).sum();
            let rounds: usize = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
            assert!(pruned > 10 && rounds > 10, "{pruned} changes pruned, {rounds} consumers, on {kind:?}");
        });
        let store = site.store();
        let head = store.head(&name(GRAPH)).unwrap().unwrap();
        assert_eq!(head.version, 155);
        let from = store.snapshot_version(head.id).unwrap().unwrap();
        for version in from..=155 {
            assert_eq!(Known::at(&store, version).version, version);
        }
        assert_eq!(Known::at(&store, 155), Known::now(&store));
        prune(&store, &name(GRAPH), 155).unwrap();
        assert_eq!(kept(&site), (Some(155), Some(155), vec![155]), "on {kind:?}");
    }
}

#[test]
fn an_image_whose_next_change_was_pruned_is_loaded_anew() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 3);
        let node = node::open(&NodeOptions { design: Design::CrudDelta, ..site.options() }).unwrap();
        node.read_and_wait(&name(GRAPH)).unwrap();
        let other = site.node();
        for n in 0..6 {
            accepted(&other, [put_dataset(&format!("more-{n}"))]);
        }
        prune(&site.store(), &name(GRAPH), 8).unwrap();
        let image = node.read_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(Known::of(&image.graph, image.key.chain), Known::now(&site.store()));
        assert_eq!(node.metrics().image_loads.get(), 2, "on {kind:?}");
        assert_eq!(accepted(&node, [put_dataset("and on")]), 10);
    }
}

/// Not there is not the same as never written, where nothing is any more.
#[test]
fn a_commit_whose_answer_is_lost_and_whose_change_was_pruned_is_unknown() {
    let site = Site::with_graph();
    let held = site.path("held");
    let armed = format!("after-commit=pause:{},commit-answer=off", held.display());
    let server = site.serve_armed(&armed, &[]);
    let answer = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.put_job("lost", &[], &[]));
        wait_until("it is committed", || held.exists());
        let node = node::open(&NodeOptions { design: Design::CrudOptimistic, ..site.options() }).unwrap();
        assert_eq!(accepted(&node, [put_dataset("d")]), 3);
        assert_eq!(prune(&site.store(), &name(GRAPH), 3).unwrap().changes, 2);
        std::fs::remove_file(&held).unwrap();
        waiting.join().unwrap().unwrap()
    });
    assert_eq!((answer.status, answer.body["outcome"].as_str()), (503, Some("unknown")), "{answer:?}");
}
