//! Graphs that come back from logs and snapshots.

use std::collections::BTreeSet;

use diesel::prelude::*;
use fencepost::archive::{PastError, RestoredGraph, graph_at, prune};
use fencepost::chain::{Chain, LoggedChange};
use fencepost::db::schema::{changes, graphs, jobs, snapshot_parts};
use fencepost::design::crud::CRUD;
use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::event::{Event, Stream};
use fencepost::graph::{CanonicalJson, Change, Fact};
use fencepost::import::events::{self, LogFile};
use fencepost::node::{self, NodeOptions};
use fencepost::store::{ConsumerSink, ExportReport, GraphState, Lifetime, StorageKind};

use super::{KINDS, Known, grown, logged, plain, snapshot, tail};
use crate::support::ask::{accepted, delete_graph, put_dataset, put_job};
use crate::support::cluster::{GRAPH, Kind, Site, name, wait_until};
use crate::support::guards::passes;
use crate::support::storm::audit;

fn restored(site: &Site, graph: &str, text: &str) -> Result<RestoredGraph, String> {
    let file = site.path("log");
    std::fs::write(&file, text).unwrap();
    let log = LogFile::open(&file).map_err(|error| error.to_string())?;
    events::restore(&site.store(), &name(graph), StorageKind::Rows, log)
        .map_err(|error| error.to_string())
}

/// Rows of any kind that are of a graph.
fn rows(site: &Site) -> i64 {
    let sql = &mut site.sql();
    let counts: [i64; 4] = [
        graphs::table.count().get_result(sql).unwrap(),
        changes::table.count().get_result(sql).unwrap(),
        jobs::table.count().get_result(sql).unwrap(),
        snapshot_parts::table.count().get_result(sql).unwrap(),
    ];
    counts.iter().sum()
}

#[test]
fn a_snapshot_that_was_restored_gives_the_same_snapshot_from_any_database_to_any() {
    for from in KINDS {
        let site = Site::on(from);
        let known = grown(&site, 11, 40);
        let text = snapshot(&site.store(), 40).concat();
        for to in KINDS {
            let other = Site::on(to);
            let done = restored(&other, GRAPH, &text).unwrap();
            assert!(
                done.same_uuid && done.version == 40 && done.jobs == known[40].job_versions.len()
            );
            let store = other.store();
            assert_eq!(snapshot(&store, 40).concat(), text, "from {from:?} to {to:?}");
            assert_eq!(Known::now(&store), known[40]);
            assert_eq!(store.head(&name(GRAPH)).unwrap().unwrap().oldest, 41);
            assert!(matches!(
                graph_at(&store, &name(GRAPH), 39),
                Err(PastError::Pruned { oldest: 40, .. })
            ));
            assert_eq!(accepted(&other.node(), [put_job("new", &[], &["new"])]), 41);
            assert_eq!(snapshot(&store, 40).concat(), text, "also when the graph has gone on");
        }
    }
}

#[test]
fn a_log_that_was_restored_is_the_same_log_and_is_served_by_nodes_that_knew_the_empty_graph() {
    for (from, to) in [(Kind::Sqlite, Kind::Postgres), (Kind::Postgres, Kind::Sqlite)] {
        let site = Site::on(from);
        let known = grown(&site, 12, 60);
        let source = site.store();
        let text = tail(&source, 0).concat();
        let other = Site::on(to);
        let open = |design| node::open(&NodeOptions { design, ..other.options() }).unwrap();
        let nodes = [open(&CRUD), open(&CRUD_DELTA)];
        nodes[0].create_graph_and_wait(&name(GRAPH)).unwrap();
        for node in &nodes {
            assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().key.version, 0);
        }
        assert!(restored(&other, GRAPH, &text).unwrap().same_uuid);
        let store = other.store();
        assert_eq!(logged(&store, GRAPH, 0), logged(&source, GRAPH, 0), "times and actors too");
        let (head, was) = (other.head(), site.head());
        assert_eq!(
            (head.version, head.chain, head.uuid, head.oldest),
            (60, was.chain, was.uuid, 1)
        );
        for node in &nodes {
            let image = node.read_and_wait(&name(GRAPH)).unwrap();
            assert_eq!(Known::of(&image.graph, image.key.chain), known[60], "on {to:?}");
        }
        for known in &known {
            assert_eq!(Known::at(&store, known.version), *known);
        }
        for (n, node) in (61..).zip(nodes.iter().chain(&nodes)) {
            assert_eq!(
                accepted(node, [put_job(&format!("job-{}", n % 6), &["x"], &[&format!("y{n}")])]),
                n
            );
        }
        audit(&other);
    }
}

#[test]
fn a_log_that_begins_with_an_import_is_restored_with_it_and_what_was_abandoned_is_not() {
    for kind in KINDS {
        let site = Site::on(kind);
        let known = grown(&site, 13, 40);
        let store = site.store();
        prune(&store, &name(GRAPH), 10).unwrap();
        let begun = &snapshot(&store, 10)[..2];
        let mut anew = graph_at(&store, &name(GRAPH), 25)
            .unwrap()
            .importing()
            .abandoning(fencepost::event::EventIndex { version: 10, ordinal: 1 });
        let mut import = Vec::new();
        while anew.write_some(usize::MAX, &mut import).is_some() {}
        let text = [begun.concat(), String::from_utf8(import).unwrap(), tail(&store, 25).concat()]
            .concat();
        let other = Site::on(kind);
        restored(&other, GRAPH, &text).unwrap();
        let there = other.store();
        for version in 25..=40 {
            assert_eq!(Known::at(&there, version), known[version as usize], "on {kind:?}");
        }
        assert_eq!(snapshot(&there, 25), snapshot(&store, 25));
        assert_eq!(logged(&there, GRAPH, 25), logged(&store, GRAPH, 25));
        assert!(matches!(
            graph_at(&there, &name(GRAPH), 24),
            Err(PastError::Pruned { oldest: 25, .. })
        ));
        assert_eq!(prune(&there, &name(GRAPH), 30).unwrap().changes, 4);
        assert_eq!(Known::at(&there, 33), known[33]);
    }
}

#[test]
fn a_log_restored_beside_its_origin_has_a_uuid_of_its_own() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 4);
        let text = [snapshot(&site.store(), 2), tail(&site.store(), 2)].concat().concat();
        let done = restored(&site, "copy", &text).unwrap();
        let store = site.store();
        let (origin, copy) = (site.head(), store.head(&name("copy")).unwrap().unwrap());
        assert!(!done.same_uuid && copy.uuid == done.uuid && copy.uuid != origin.uuid);
        assert_eq!((copy.version, copy.chain), (4, origin.chain));
        let past = graph_at(&store, &name("copy"), 3).unwrap();
        assert_eq!(past.graph.digest(), graph_at(&store, &name(GRAPH), 3).unwrap().graph.digest());
        assert_eq!(past.importing().stream(), &Stream::new(copy.name.clone(), copy.uuid));
    }
}

#[test]
fn logs_restored_at_the_same_moment_share_no_uuid() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 30);
        let text = tail(&site.store(), 0).concat();
        let other = Site::on(kind);
        let file = other.path("log");
        std::fs::write(&file, text).unwrap();
        drop(other.store());
        let uuids: BTreeSet<_> = std::thread::scope(|scope| {
            let restore = |n| {
                let (other, file) = (&other, &file);
                scope.spawn(move || {
                    let log = LogFile::open(file).unwrap();
                    events::restore(
                        &other.store(),
                        &name(&format!("copy-{n}")),
                        StorageKind::Rows,
                        log,
                    )
                    .unwrap()
                    .uuid
                })
            };
            let restoring: Vec<_> = (0..4).map(restore).collect();
            restoring.into_iter().map(|restoring| restoring.join().unwrap()).collect()
        });
        assert_eq!(uuids.len(), 4, "on {kind:?}");
        assert!(uuids.contains(&site.head().uuid));
    }
}

#[test]
fn a_graph_that_was_written_is_in_the_way() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 3);
        let text = tail(&site.store(), 0).concat();
        let before = rows(&site);
        let refused = |graph: &str| restored(&site, graph, &text).unwrap_err();
        assert!(refused(GRAPH).contains("graph `g` is at version 3"), "{}", refused(GRAPH));
        assert!(refused(GRAPH).contains("give another --graph"));
        assert_eq!(rows(&site), before);
        site.node().write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        assert!(refused(GRAPH).contains("was deleted at version 4"), "{}", refused(GRAPH));
        site.node().create_graph_and_wait(&name("ice")).unwrap();
        site.run_sql("UPDATE graphs SET state = 'frozen' WHERE name = 'ice'");
        assert!(refused("ice").contains("is frozen"), "{}", refused("ice"));
        assert_eq!(audit(&site).version, 4);
    }
}

/// The conditional update is what counts, not what was seen before.
#[test]
fn a_graph_that_is_written_while_its_log_is_read_is_in_the_way() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 3);
        let other = Site::on(kind);
        let store = other.store();
        let mut restorer =
            fencepost::archive::Restorer::new(&store, &name(GRAPH), StorageKind::Rows).unwrap();
        for line in tail(&site.store(), 0) {
            restorer.take(line.trim_end()).unwrap();
        }
        plain(&other, 1);
        let refused = restorer.finish(&store, &name(GRAPH)).unwrap_err().to_string();
        assert!(refused.contains("graph `g` is at version 1"), "{refused}");
        assert_eq!(audit(&other).version, 1);
    }
}

#[test]
fn without_the_condition_a_graph_that_was_written_is_restored_over() {
    let test = "archive::restore::a_graph_that_is_written_while_its_log_is_read_is_in_the_way";
    assert!(passes(test, None));
    assert!(!passes(test, Some("restore-empty")));
}

#[test]
fn a_log_that_ends_with_a_deletion_is_that_of_a_deleted_graph() {
    let site = Site::new();
    plain(&site, 3);
    site.node().write_and_wait(&name(GRAPH), delete_graph()).unwrap();
    let text = tail(&site.store(), 0).concat();
    let other = Site::new();
    assert!(restored(&other, GRAPH, &text).unwrap().deleted);
    assert_eq!((other.head().state, other.head().version), (GraphState::Deleted, 4));
    other.node().create_graph_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(accepted(&other.node(), [put_dataset("d")]), 5);
    audit(&other);
}

/// A log of facts that no service would have accepted, with the right hashes.
fn forged(stream: &Stream, facts: Vec<Fact>, after: &[LoggedChange]) -> String {
    let last = after.last().map_or((0, Chain::START), |last| (last.version, last.chain));
    let change = Change { facts }.canonical_json(last.0 + 1);
    let chain = last.1.next(&change);
    let forged =
        LoggedChange { version: last.0 + 1, change, chain, committed_at_ms: 1, actor: None };
    String::from_utf8(stream.line(&Event::changed(&forged))).unwrap()
}

#[test]
fn a_damaged_log_is_refused_with_the_line_and_nothing_is_written() {
    let site = Site::new();
    plain(&site, 5);
    let store = site.store();
    let log = tail(&store, 0);
    let part = snapshot(&store, 5);
    let stream = site.stream();
    let without = |lines: &[String], at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
    let twice = |at: usize| [&log[..=at], &log[at..]].concat().concat();
    let swapped = [&log[..1], &log[2..3], &log[1..2], &log[3..]].concat().concat();
    let altered = |from: &str, to: &str| {
        let text = log.concat();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    let mixed = {
        let another = Site::new();
        plain(&another, 5);
        [log[..3].concat(), tail(&another.store(), 3).concat()].concat()
    };
    let job = |job: &str, inputs: &[&str], outputs: &[&str]| Fact::JobCreated {
        inputs: inputs.iter().map(|dataset| name(dataset)).collect(),
        name: name(job),
        outputs: outputs.iter().map(|dataset| name(dataset)).collect(),
        spec: CanonicalJson::default(),
    };
    let forged = |facts| [log.concat(), forged(&stream, facts, &logged(&store, GRAPH, 0))].concat();
    let time = &log[1].split("\"time\":\"").nth(1).unwrap()[..24];
    // Of several changes in one millisecond only this one.
    let retimed =
        [&log[0], &log[1].replacen(time, "2020-01-01T00:00:00.000Z", 1), &log[2..].concat()]
            .map(String::as_str)
            .concat();
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("empty", String::new(), &["the log is empty"]),
        (
            "beginning dropped",
            without(&log, 0),
            &[":1: ", "what the graph was before is not in it"],
        ),
        ("dropped", without(&log, 2), &[":3: ", "1 event is missing"]),
        ("doubled", twice(2), &[":4: ", "events come twice or in another order"]),
        ("swapped", swapped, &[":2: ", "missing"]),
        ("mixed", mixed, &[":4: ", "logs of several graphs are mixed"]),
        ("time", retimed, &[":2: ", "it was altered"]),
        ("data", altered("\"j3\"", "\"k3\""), &[":3: ", "the chain of hashes breaks"]),
        ("torn", log.concat().trim_end().to_owned(), &[":5: ", "torn"]),
        ("torn within", log.concat()[..log.concat().len() - 40].to_owned(), &[":5: ", "torn"]),
        (
            "unfinished",
            without(&part, part.len() - 1),
            &["ends within an import, after 5 of 5 parts"],
        ),
        ("part dropped", without(&part, 2), &[":3: ", "1 event is missing"]),
        (
            "no event",
            "{\"name\":\"a\",\"inputs\":[],\"outputs\":[]}\n".to_owned(),
            &[":1: ", "no event of Fencepost's"],
        ),
        ("cycle", forged(vec![job("c", &["d1"], &["first"])]), &[":6: ", "the jobs form a cycle"]),
        ("producer", forged(vec![job("c", &[], &["d1"])]), &[":6: ", "has a producer already"]),
        ("there already", forged(vec![job("j1", &[], &[])]), &[":6: ", "is there already"]),
        ("nothing", forged(vec![]), &[":6: ", "it changes nothing"]),
    ];
    for kind in KINDS {
        let other = Site::on(kind);
        drop(other.store());
        for (what, text, expected) in &cases {
            let refused = restored(&other, GRAPH, text).expect_err(what);
            assert!(expected.iter().all(|part| refused.contains(part)), "{what}: {refused}");
            assert!(
                refused.contains("log:") && refused.contains("nothing was restored"),
                "{what}: {refused}"
            );
            assert_eq!(rows(&other), 0, "{what}");
        }
        // Nothing of them is in the way of the right one.
        assert_eq!(restored(&other, GRAPH, &log.concat()).unwrap().version, 5);
    }
}

#[test]
fn no_byte_of_a_log_or_a_snapshot_can_be_another() {
    let site = Site::new();
    let node = site.node();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    let mut write =
        crate::support::ask::changeset([put_job("a", &["x"], &["y"]), put_dataset("x")]);
    write.actor = Some("who \"é\"".to_owned());
    node.write_and_wait(&name(GRAPH), write).unwrap();
    accepted(&node, [put_job("b", &["y"], &["z"])]);
    let store = site.store();
    let other = Site::new();
    let there = other.store();
    let file = other.path("log");
    for text in [tail(&store, 0).concat(), snapshot(&store, 2).concat()] {
        for at in 0..text.len() {
            for flip in [1_u8, 0x20] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= flip;
                std::fs::write(&file, &bytes).unwrap();
                let log = LogFile::open(&file).unwrap();
                let outcome = events::restore(&there, &name(GRAPH), StorageKind::Rows, log);
                let shown = String::from_utf8_lossy(
                    &bytes[at.saturating_sub(30)..(at + 30).min(bytes.len())],
                )
                .into_owned();
                assert!(
                    outcome.is_err(),
                    "byte {at} was flipped by {flip}, and nobody noticed: …{shown}…"
                );
            }
        }
    }
    assert_eq!(rows(&other), 0);
}

#[test]
fn a_restore_that_is_killed_before_its_commit_has_written_nothing() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 5);
        let other = Site::on(kind);
        drop(other.store());
        let (log, held) = (other.path("log"), other.path("held"));
        std::fs::write(&log, tail(&site.store(), 0).concat()).unwrap();
        let mut command = other.fencepost(&["import", "--graph", GRAPH, log.to_str().unwrap()]);
        command.env("FENCEPOST_FAILPOINTS", format!("before-commit=pause:{}", held.display()));
        let mut child = command.spawn().unwrap();
        wait_until("all is written but COMMIT", || held.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("the database has rolled back", || {
            restored(&other, GRAPH, &tail(&site.store(), 0).concat()).is_ok()
        });
        assert_eq!(audit(&other).version, 5);
    }
}

#[test]
fn a_consumer_of_the_empty_graph_is_not_overtaken() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 5);
        let (snapshot, log) =
            (snapshot(&site.store(), 5).concat(), tail(&site.store(), 0).concat());
        let other = Site::on(kind);
        other.node().create_graph_and_wait(&name(GRAPH)).unwrap();
        let store = other.store();
        store.acknowledge(&name(GRAPH), &name("early"), 0).unwrap();
        let refused = restored(&other, GRAPH, &snapshot).unwrap_err();
        assert!(
            refused.contains(
                "consumer `early` of graph `g` waits for changes that the log does not have"
            ),
            "{refused}"
        );
        assert_eq!(other.head().version, 0);
        // A log that has them all is welcome.
        assert_eq!(restored(&other, GRAPH, &log).unwrap().version, 5);
    }
}

#[test]
fn an_export_of_the_empty_graph_that_ended_long_ago_is_forgotten_when_a_log_is_restored() {
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 5);
        let snapshot = snapshot(&site.store(), 5).concat();
        let other = Site::on(kind);
        other.node().create_graph_and_wait(&name(GRAPH)).unwrap();
        let sink = ConsumerSink { url: "file:/log".to_owned(), identity: "here".to_owned() };
        let report = ExportReport {
            consumer: &name("dated"),
            sink: &sink,
            version: 0,
            lifetime: Lifetime::LimitedIfNew(86_400_000),
            take_back: false,
        };
        other.store().report_export(&name(GRAPH), &report).unwrap();
        let refused = restored(&other, GRAPH, &snapshot).unwrap_err();
        assert!(refused.contains("consumer remove --graph g --name dated"), "{refused}");
        other.run_sql("UPDATE consumers SET seen_at_ms = seen_at_ms - 86400001");
        assert_eq!(restored(&other, GRAPH, &snapshot).unwrap().version, 5);
        assert_eq!(other.store_consumers(), []);
    }
}
