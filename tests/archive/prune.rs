//! Pruning: who is waited for, what a kill leaves, and what others see of it.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use diesel::prelude::*;
use fencepost::archive::{PruneError, prune};
use fencepost::db::schema::{changes, snapshot_parts};
use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::graph::Name;
use fencepost::node::{self, NodeOptions};
use fencepost::service::Refusal;
use fencepost::store::{Acknowledgement, CommitError, ConsumerSink, ExportReport, Lifetime};

use super::{KINDS, Known, grown, logged, plain};
use crate::support::ask::{accepted, delete_graph, put_dataset, put_job, write};
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
        store.acknowledge(&name(GRAPH), &reader, 3).unwrap();
        store.acknowledge(&name(GRAPH), &name("ahead"), 9).unwrap();
        let refused = prune(&store, &name(GRAPH), 5).unwrap_err().to_string();
        assert!(refused.contains("`read er` of graph `g` has acknowledged version 3"), "{refused}");
        assert!(
            refused.contains("fencepost consumer remove --graph g --name 'read er'"),
            "{refused}"
        );
        assert_eq!(kept(&site), (Some(1), Some(9), vec![]));
        // Change 4 is the next that it needs.
        assert_eq!(prune(&store, &name(GRAPH), 4).unwrap().changes, 3);
        assert_eq!(kept(&site), (Some(4), Some(9), vec![4]));
        store.acknowledge(&name(GRAPH), &reader, 6).unwrap();
        assert!(matches!(
            prune(&store, &name(GRAPH), 8),
            Err(PruneError::NeededBy { consumer, .. }) if consumer.acknowledged == 6
        ));
        assert_eq!(prune(&store, &name(GRAPH), 7).unwrap().changes, 3);
        assert_eq!(store.forget_consumer(&name(GRAPH), &reader).unwrap(), Some(true));
        assert_eq!(prune(&store, &name(GRAPH), 9).unwrap().changes, 2);
        let again = prune(&store, &name(GRAPH), 5).unwrap();
        assert!(again.already && again.changes == 0, "{again:?}");
        assert_eq!(kept(&site), (Some(9), Some(9), vec![9]));
        assert!(
            prune(&store, &name(GRAPH), 10).unwrap_err().to_string().contains("is at version 9")
        );
        // Whoever comes too late is told.
        let late = store.acknowledge(&name(GRAPH), &name("late"), 7).unwrap();
        assert_eq!(late, Acknowledgement::Pruned { oldest: 9 });
    }
}

#[test]
fn the_log_of_a_deleted_graph_is_pruned_too_and_its_versions_go_on() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 3);
        let (node, store) = (site.node(), site.store());
        store.acknowledge(&name(GRAPH), &name("c"), 1).unwrap();
        node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        assert!(matches!(prune(&store, &name(GRAPH), 4), Err(PruneError::NeededBy { .. })));
        assert_eq!(store.forget_consumer(&name(GRAPH), &name("c")).unwrap(), Some(true));
        assert_eq!(prune(&store, &name(GRAPH), 4).unwrap().changes, 3);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(accepted(&node, [put_dataset("d")]), 5);
        assert_eq!(Known::at(&store, 4).job_versions, []);
    }
}

#[test]
fn a_refused_prune_names_all_who_are_in_the_way_and_since_when() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 9);
        let store = site.store();
        for (consumer, version, since_ms, seen_ms) in
            [("near", 6, 86_400_000, 86_400_000), ("far", 2, 1_000, 61_000)]
        {
            store.acknowledge(&name(GRAPH), &name(consumer), version).unwrap();
            site.run_sql(&format!(
                "UPDATE consumers SET acknowledged_at_ms = {since_ms}, seen_at_ms = {seen_ms} \
                 WHERE name = '{consumer}'"
            ));
        }
        let refused = prune(&store, &name(GRAPH), 9).unwrap_err().to_string();
        for told in [
            "consumer `far` of graph `g` has acknowledged version 2 (since 1970-01-01T00:00:01.000Z, \
             last seen 1970-01-01T00:01:01.000Z)",
            "consumer remove --graph g --name far",
            "Also in the way: `near` (version 6, last seen 1970-01-02T00:00:00.000Z)",
        ] {
            assert!(refused.contains(told), "`{refused}` does not say `{told}`");
        }
    }
}

/// How an export's consumer is noted.
fn report<'r>(
    consumer: &'r Name,
    sink: &'r ConsumerSink,
    version: u64,
    lifetime: Lifetime,
) -> ExportReport<'r> {
    ExportReport { consumer, sink, version, lifetime, take_back: false }
}

#[test]
fn an_export_that_ended_is_waited_for_until_its_time_is_over_and_then_forgotten() {
    const DAY_MS: i64 = 86_400_000;
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 9);
        let (store, graph) = (site.store(), name(GRAPH));
        let sink = ConsumerSink { url: "file:/log".to_owned(), identity: "here".to_owned() };
        let (dated, nightly, lasting) = (name("dated"), name("nightly"), name("lasting"));
        let limited = Lifetime::LimitedIfNew(DAY_MS);
        let two_days_pass = || {
            site.run_sql(&format!("UPDATE consumers SET seen_at_ms = seen_at_ms - {}", 2 * DAY_MS))
        };
        store.report_export(&graph, &report(&dated, &sink, 2, limited)).unwrap();
        store.report_export(&graph, &report(&nightly, &sink, 3, limited)).unwrap();
        two_days_pass();
        store.report_export(&graph, &report(&nightly, &sink, 3, limited)).unwrap();
        let refused = prune(&store, &graph, 6).unwrap_err().to_string();
        assert!(refused.contains("consumer `nightly`") && !refused.contains("dated"), "{refused}");
        assert_eq!(prune(&store, &graph, 4).unwrap().changes, 3);
        let (_, consumers) = store.consumers(&graph).unwrap().unwrap();
        assert_eq!(consumers.len(), 1, "the dated one is forgotten: {consumers:?}");
        // An export that follows is waited for, however long it is silent, also when one that ends
        // has spoken for it.
        let for_ever = report(&lasting, &sink, 4, Lifetime::Unlimited);
        store.report_export(&graph, &for_ever).unwrap();
        store.report_export(&graph, &report(&lasting, &sink, 4, limited)).unwrap();
        two_days_pass();
        store.forget_consumer(&graph, &nightly).unwrap();
        let refused = prune(&store, &graph, 6).unwrap_err().to_string();
        assert!(refused.contains("consumer `lasting`"), "{refused}");
        let failed = report(&lasting, &sink, 4, Lifetime::Limited(DAY_MS));
        store.report_export(&graph, &failed).unwrap();
        two_days_pass();
        assert_eq!(prune(&store, &graph, 6).unwrap().changes, 2);
    }
}

#[test]
fn an_acknowledgement_is_taken_back_only_by_an_export_and_never_below_what_was_pruned() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 9);
        let (store, graph, consumer) = (site.store(), name(GRAPH), name("export"));
        let sink = ConsumerSink { url: "file:/log".to_owned(), identity: "here".to_owned() };
        let acknowledged = || store.consumers(&graph).unwrap().unwrap().1[0].acknowledged;
        let report = |version: u64, take_back: bool| {
            let lifetime = Lifetime::Unlimited;
            let report =
                ExportReport { consumer: &consumer, sink: &sink, version, lifetime, take_back };
            store.report_export(&graph, &report).unwrap()
        };
        report(8, true);
        store.acknowledge(&graph, &consumer, 3).unwrap();
        report(3, false);
        assert_eq!(acknowledged(), 8);
        report(6, true);
        assert_eq!(acknowledged(), 6);
        assert!(matches!(prune(&store, &graph, 8), Err(PruneError::NeededBy { .. })));
        assert_eq!(prune(&store, &graph, 5).unwrap().changes, 4);
        report(1, true);
        assert_eq!(acknowledged(), 4, "what was pruned is not wanted back");
        report(7, true);
        assert_eq!(acknowledged(), 7);
        assert!(matches!(report(10, true), Acknowledgement::Ahead { version: 9 }));
    }
}

#[test]
fn a_consumer_that_gets_another_name_keeps_its_place() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 9);
        let (store, graph) = (site.store(), name(GRAPH));
        let (former, new) = (name("former"), name("new"));
        assert!(!store.rename_consumer(&graph, &former, &new).unwrap());
        store.acknowledge(&graph, &former, 3).unwrap();
        assert!(store.rename_consumer(&graph, &former, &new).unwrap());
        assert_eq!(site.store_consumers(), [(new.clone(), 3)]);
        store.acknowledge(&graph, &former, 2).unwrap();
        assert!(store.rename_consumer(&graph, &former, &new).unwrap());
        assert_eq!(site.store_consumers(), [(new, 3)], "the new one tells how far it is");
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
                    assert_eq!(
                        Known::at(&store, version),
                        known[version as usize],
                        "killed at {point} on {kind:?}"
                    );
                }
                accepted(&site.node(), [put_job("one more", &[], &["one more"])]);
                let run = site
                    .fencepost(&["prune", "--graph", GRAPH, "--before", next])
                    .output()
                    .unwrap();
                let said = String::from_utf8(run.stdout).unwrap();
                let gone = next.parse::<usize>().unwrap() - 10;
                let expected = format!(
                    "changes before {next} are gone, {gone} of them; a snapshot at {next} is kept"
                );
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
        store.acknowledge(&name(GRAPH), &name("just in time"), 2).unwrap();
        std::fs::remove_file(site.path("prune-snapshot-written")).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(1) && said.contains("`just in time`"), "{said}");
        assert_eq!(logged(&store, GRAPH, 2)[0].version, 3);
        // What it left is in nobody's way.
        store.acknowledge(&name(GRAPH), &name("just in time"), 9).unwrap();
        assert_eq!(prune(&store, &name(GRAPH), 6).unwrap().changes, 5);
        assert_eq!(kept(&site), (Some(6), Some(9), vec![6]));
    }
}

/// Ends the storm when dropped, also by a test that fails.
struct Ends<'o>(&'o AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_storm_of_writers_consumers_and_prunes_loses_nothing() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 5);
        let over = AtomicBool::new(false);
        let (pruned, rounds) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut writes = 0;
        std::thread::scope(|scope| {
            let ends = Ends(&over);
            let pruners: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let store = site.store();
                        while !over.load(Ordering::SeqCst) {
                            let version = store.head(&name(GRAPH)).unwrap().unwrap().version;
                            match prune(&store, &name(GRAPH), version - 1) {
                                Ok(done) => drop(pruned.fetch_add(done.changes, Ordering::SeqCst)),
                                Err(
                                    PruneError::NeededBy { .. }
                                    | PruneError::ConcurrentPrune(_)
                                    | PruneError::Past(_),
                                ) => {}
                                // Whoever waits for the file for longer than it may is told so.
                                Err(PruneError::Write(CommitError::Unavailable(_))) => {}
                                Err(other) => panic!("{other}"),
                            }
                        }
                    })
                })
                .collect();
            let consumers: Vec<_> = (0..2)
                .map(|number| {
                    let (site, over, rounds) = (&site, &over, &rounds);
                    scope.spawn(move || {
                        let store = site.store();
                        for round in 0.. {
                            if over.load(Ordering::SeqCst) {
                                return;
                            }
                            let consumer = name(&format!("consumer-{number}-{round}"));
                            let at = store.head(&name(GRAPH)).unwrap().unwrap().version - 2;
                            let noted = store.acknowledge(&name(GRAPH), &consumer, at);
                            if matches!(noted, Ok(Acknowledgement::Noted { .. })) {
                                rounds.fetch_add(1, Ordering::SeqCst);
                                let next =
                                    store.feed(&name(GRAPH), at, 10).unwrap().unwrap().changes;
                                assert_eq!(
                                    next.first().map(|change| change.version),
                                    Some(at + 1),
                                    "its next change is gone"
                                );
                                wait_until("the consumer is forgotten", || {
                                    store.forget_consumer(&name(GRAPH), &consumer).is_ok()
                                });
                            }
                        }
                    })
                })
                .collect();
            let node = site.node();
            wait_until("it has stormed enough", || {
                let job = put_job(&format!("w{}", writes % 20), &[&format!("in{writes}")], &[]);
                match write(&node, [job]) {
                    Ok(_) => writes += 1,
                    Err(Refusal::DatabaseUnavailable { .. } | Refusal::Contended { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
                writes >= 150
                    && pruned.load(Ordering::SeqCst) > 10
                    && rounds.load(Ordering::SeqCst) > 10
            });
            drop(ends);
            pruners.into_iter().for_each(|pruner| pruner.join().unwrap());
            consumers.into_iter().for_each(|consumer| consumer.join().unwrap());
        });
        let store = site.store();
        let head = store.head(&name(GRAPH)).unwrap().unwrap();
        let last = 5 + writes;
        assert_eq!(head.version, last);
        let from = store.snapshot_version(head.id).unwrap().unwrap();
        for version in from..=last {
            assert_eq!(Known::at(&store, version).version, version);
        }
        assert_eq!(Known::at(&store, last), Known::now(&store));
        prune(&store, &name(GRAPH), last).unwrap();
        let last = last as i64;
        assert_eq!(kept(&site), (Some(last), Some(last), vec![last]), "on {kind:?}");
    }
}

#[test]
fn an_image_whose_next_change_was_pruned_is_loaded_anew() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 3);
        let node = node::open(&NodeOptions { design: &CRUD_DELTA, ..site.options() }).unwrap();
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
        let node = node::open(&NodeOptions { design: &CRUD_OPTIMISTIC, ..site.options() }).unwrap();
        assert_eq!(accepted(&node, [put_dataset("d")]), 3);
        assert_eq!(prune(&site.store(), &name(GRAPH), 3).unwrap().changes, 2);
        std::fs::remove_file(&held).unwrap();
        waiting.join().unwrap().unwrap()
    });
    assert_eq!(
        (answer.status, answer.body["outcome"].as_str()),
        (503, Some("unknown")),
        "{answer:?}"
    );
}
