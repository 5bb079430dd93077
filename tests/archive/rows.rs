//! `check-rows`: rows that were altered by hand are told of, each kind, and rows that are right are
//! not, whatever is written meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use fencepost::archive::{Difference, check_rows, prune};
use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::design::es_locked::ES_LOCKED;
use fencepost::graph::Side;
use fencepost::node::{self, NodeOptions};

use super::KINDS;
use crate::support::ask::{accepted, add, put_dataset, put_job, remove};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name};

fn differences(site: &Site) -> Vec<String> {
    let mut told = Vec::new();
    let each = &mut |difference: &Difference| told.push(difference.to_string());
    let checked = check_rows(&site.store(), &name(GRAPH), each).unwrap();
    assert_eq!(checked.differences, told.len() as u64);
    told
}

fn written(kind: Kind) -> Site {
    let site = Site::with_graph_on(kind);
    let node = site.node();
    accepted(&node, [put_job("a", &["x", "y"], &["z"]), put_job("b", &["z"], &["end"])]);
    accepted(&node, [put_dataset("declared")]);
    accepted(&node, [add(Side::Input, "a", "declared")]);
    site
}

/// A list of one id, that of a dataset, as the database has lists.
fn list(kind: Kind, ids: &str) -> String {
    match kind {
        Kind::Sqlite => format!("'[{ids}]'"),
        _ => format!("'{{{ids}}}'"),
    }
}

#[test]
fn every_kind_of_damage_is_told_of_with_its_name() {
    for kind in KINDS {
        // Ids follow the order in which names came: first 0, x 1, y 2, z 3, end 4; a 0, b 1.
        for (damage, told) in [
            (
                "DELETE FROM jobs WHERE name = 'b'".to_owned(),
                "job `b` at version 4: there is no row",
            ),
            (
                "UPDATE jobs SET name = 'other' WHERE name = 'b'".to_owned(),
                "job `other` at version 4: there is a row, but the log does not have it",
            ),
            (
                "UPDATE jobs SET spec = '{\"x\":1}' WHERE name = 'b'".to_owned(),
                "job `b` at version 4: the spec is not the log's",
            ),
            (
                "UPDATE jobs SET version = 7 WHERE name = 'b'".to_owned(),
                "job `b` at version 4: its version is 7, not 2",
            ),
            (
                format!("UPDATE jobs SET inputs = {} WHERE name = 'a'", list(kind, "1,2")),
                "job `a` at version 4: its inputs are not the log's: it lacks `declared`",
            ),
            (
                format!("UPDATE jobs SET inputs = {} WHERE name = 'b'", list(kind, "3,77")),
                "job `b` at version 4: its inputs are not the log's: it has id 77, which no row has",
            ),
            (
                format!("UPDATE jobs SET inputs = {} WHERE name = 'b'", list(kind, "3,3")),
                "job `b` at version 4: its inputs are stored as no list of rising ids",
            ),
            (
                "UPDATE datasets SET producer = NULL WHERE name = 'end'".to_owned(),
                "dataset `end` at version 4: its producer is none, not `b`",
            ),
            (
                "UPDATE datasets SET producer = 99 WHERE name = 'end'".to_owned(),
                "dataset `end` at version 4: its producer is id 99, which no row has, not `b`",
            ),
            (
                "UPDATE datasets SET producer = 0 WHERE name = 'end'".to_owned(),
                "dataset `end` at version 4: its producer is `a`, not `b`",
            ),
            (
                "UPDATE datasets SET metadata = '{}' WHERE name = 'x'".to_owned(),
                "dataset `x` at version 4: the metadata is not the log's",
            ),
            (
                "INSERT INTO datasets (graph_id, id, name, metadata, producer) \
                 SELECT id, 50, 'orphan', NULL, NULL FROM graphs"
                    .to_owned(),
                "dataset `orphan` at version 4: there is a row, but the log does not have it",
            ),
            (
                "UPDATE jobs SET name = 'a' WHERE name = 'b'".to_owned(),
                "job `a` at version 4: there are several rows",
            ),
            (
                "UPDATE datasets SET name = 'x' WHERE name = 'end'".to_owned(),
                "dataset `x` at version 4: there are several rows",
            ),
            (
                "DELETE FROM datasets WHERE name = 'declared'".to_owned(),
                "dataset `declared` at version 4: there is no row",
            ),
        ] {
            let site = written(kind);
            assert_eq!(differences(&site), Vec::<String>::new(), "{kind:?}");
            site.run_sql(&damage);
            let found = differences(&site);
            assert!(found.iter().any(|one| one == told), "{kind:?}: {damage}: {found:?}");
        }
    }
}

/// Also where nothing refers to the row.
#[test]
fn every_row_that_no_node_can_load_is_told_of_with_its_name() {
    for kind in KINDS {
        let ids = [
            i64::MIN,
            -6,
            1 << 28,
            i64::from(i32::MAX),
            i64::from(i32::MAX) + 1,
            4_294_967_300,
            i64::MAX,
        ];
        for id in ids {
            let site = written(kind);
            let told = |what| {
                format!("{what} at version 4: the row has {id} as its id, which no node can load")
            };
            site.run_sql(&format!(
                "INSERT INTO datasets (graph_id, id, name, metadata, producer) \
                 SELECT id, {id}, 'far', NULL, NULL FROM graphs"
            ));
            let found = differences(&site);
            assert!(found.contains(&told("dataset `far`")), "{kind:?}: {found:?}");
            let error = site.store().load(&name(GRAPH)).err().expect("it is refused").to_string();
            assert!(error.contains("is no id, and the dataset `far` has it"), "{kind:?}: {error}");
            site.run_sql("DELETE FROM datasets WHERE name = 'far'");
            site.run_sql(&format!("UPDATE jobs SET id = {id} WHERE name = 'b'"));
            let found = differences(&site);
            assert!(found.contains(&told("job `b`")), "{kind:?}: {found:?}");
            // Whoever refers to the row is told of beside it.
            assert!(
                found.contains(
                    &"dataset `end` at version 4: its producer is id 1, which no row has, not `b`"
                        .to_owned()
                ),
                "{kind:?}: {found:?}"
            );
        }
    }
}

/// SQLite stores any value in any column, and would read text as the number 0.
#[test]
fn a_value_of_another_type_is_told_of_and_refused() {
    for (damage, of, field, id) in [
        ("UPDATE jobs SET version = 'abc' WHERE name = 'b'", "job `b`", "version", 1),
        ("UPDATE jobs SET version = 2.5 WHERE name = 'b'", "job `b`", "version", 1),
        ("UPDATE jobs SET version = x'02' WHERE name = 'b'", "job `b`", "version", 1),
        ("UPDATE jobs SET name = CAST('b' AS BLOB) WHERE name = 'b'", "job `b`", "name", 1),
        ("UPDATE jobs SET name = x'61ff' WHERE name = 'b'", "job `a\u{fffd}`", "name", 1),
        ("UPDATE jobs SET spec = x'7b7d' WHERE name = 'b'", "job `b`", "spec", 1),
        ("UPDATE jobs SET spec = CAST(x'7bff' AS TEXT) WHERE name = 'b'", "job `b`", "spec", 1),
        ("UPDATE jobs SET id = 'one' WHERE name = 'b'", "job `b`", "id", 0),
        ("UPDATE jobs SET id = 1.5 WHERE name = 'b'", "job `b`", "id", 1),
        ("UPDATE datasets SET producer = 'a' WHERE name = 'z'", "dataset `z`", "producer", 3),
        ("UPDATE datasets SET producer = 0.5 WHERE name = 'z'", "dataset `z`", "producer", 3),
        ("UPDATE datasets SET metadata = x'7b7d' WHERE name = 'x'", "dataset `x`", "metadata", 1),
        ("UPDATE datasets SET name = x'78' WHERE name = 'x'", "dataset `x`", "name", 1),
        ("UPDATE datasets SET id = 'x' WHERE name = 'x'", "dataset `x`", "id", 0),
    ] {
        let site = written(Kind::Sqlite);
        site.run_sql(damage);
        let what = "holds a value of another type";
        let told = format!("{of} at version 4: the field '{field}' of the row with id {id} {what}");
        let found = differences(&site);
        assert_eq!(found.iter().filter(|one| **one == told).count(), 1, "{damage}: {found:?}");
        let error = site.store().load(&name(GRAPH)).err().expect("it is refused").to_string();
        let told = format!("the field '{field}' of the {of} with id {id} {what}");
        assert!(error.contains(&told), "{damage}: {error}");
    }
    let site = written(Kind::Sqlite);
    site.run_sql("UPDATE graphs SET version = 4.5, fence = 'abc'");
    let told = "graph `g`: the field 'version' of its row holds a value of another type";
    assert_eq!(differences(&site), [told]);
    for (damage, field) in [
        ("UPDATE graphs SET known_version = 'abc'", "known_version"),
        ("UPDATE graphs SET storage = x'00', known_version = version", "storage"),
    ] {
        let site = written(Kind::Sqlite);
        site.run_sql(damage);
        let mut told = Vec::new();
        let each = &mut |difference: &Difference| told.push(difference.to_string());
        // A graph that is not known to be kept as rows is not compared.
        drop(check_rows(&site.store(), &name(GRAPH), each));
        let expected =
            format!("graph `g`: the field '{field}' of its row holds a value of another type");
        assert_eq!(told, [expected], "{damage}");
    }
    let site = written(Kind::Sqlite);
    site.run_sql("UPDATE jobs SET inputs = CAST(inputs AS BLOB) WHERE name = 'b'");
    let told = "job `b` at version 4: its inputs are stored as no list of rising ids";
    assert_eq!(differences(&site), [told]);
}

#[test]
fn what_the_graphs_own_row_says_is_compared_with_the_log() {
    for kind in KINDS {
        let chain = match kind {
            Kind::Sqlite => "randomblob(32)",
            Kind::Postgres => "decode(repeat('ab', 32), 'hex')",
        };
        for (damage, told) in [
            (
                format!("UPDATE graphs SET chain = {chain}"),
                "graph `g`: the chain of its row is not that of its log",
            ),
            (
                "UPDATE graphs SET version = 3".to_owned(),
                "graph `g`: its row has version 3, but its log goes on to version 4",
            ),
            (
                "UPDATE graphs SET version = 6".to_owned(),
                "graph `g`: its row has version 6, but its log ends at version 4",
            ),
            (
                "DELETE FROM changes WHERE version = 4".to_owned(),
                "graph `g`: its row has version 4, but its log ends at version 3",
            ),
            (
                "DELETE FROM changes".to_owned(),
                "graph `g`: its row has version 4, but its log is empty",
            ),
            (
                "UPDATE graphs SET oldest = 0".to_owned(),
                "graph `g`: its row says that the log begins at version 0, which cannot be at \
                 version 4",
            ),
            (
                "UPDATE graphs SET oldest = 6".to_owned(),
                "graph `g`: its row says that the log begins at version 6, but it begins at 1",
            ),
            (
                "UPDATE graphs SET state = 'deleted'".to_owned(),
                "graph `g`: its row says that it is deleted, but the log has more",
            ),
        ] {
            let site = written(kind);
            // A file that was altered by hand is not opened anew beside its log.
            let store = site.store();
            site.run_sql(&damage);
            let mut found = Vec::new();
            let each = &mut |difference: &Difference| found.push(difference.to_string());
            // Where the log cannot be replayed at all, the reason is told after what was found.
            drop(check_rows(&store, &name(GRAPH), each));
            assert!(found.iter().any(|one| one == told), "{kind:?}: {damage}: {found:?}");
        }
    }
}

#[test]
fn rows_of_no_graph_are_told_of() {
    for kind in KINDS {
        let site = written(kind);
        site.run_sql(
            "INSERT INTO jobs (graph_id, id, name, spec, version, inputs) \
             SELECT 77, id, name, spec, version, inputs FROM jobs; \
             INSERT INTO datasets (graph_id, id, name) VALUES (-5, 0, 'd'), (78, 0, 'd')",
        );
        let told = |table, id: i64| {
            format!(
                "table {table}: rows with graph_id {id}, which no graph has; restore the graph from \
                 a backup or, if nobody needs them, DELETE FROM {table} WHERE graph_id = {id}"
            )
        };
        let expected = [told("jobs", 77), told("datasets", -5), told("datasets", 78)];
        assert_eq!(differences(&site), expected, "{kind:?}");
        for line in expected {
            site.run_sql(line.split(", ").last().unwrap());
        }
        assert_eq!(differences(&site), Vec::<String>::new(), "{kind:?}");
    }
}

/// What such rows were written for cannot be told.
#[test]
fn a_load_refuses_a_graph_whose_log_goes_on_after_it() {
    for kind in KINDS {
        for (damage, told) in [
            ("UPDATE graphs SET version = 3", "is at version 3, and its log goes on to version 4"),
            ("UPDATE graphs SET oldest = 6", "its log is said to begin at version 6"),
            ("UPDATE graphs SET oldest = 0", "its log is said to begin at version 0"),
        ] {
            let site = written(kind);
            let store = site.store();
            site.run_sql(damage);
            let error = store.load(&name(GRAPH)).err().expect("it is refused").to_string();
            assert!(error.contains(told) && error.contains("check-rows"), "{kind:?}: {error}");
        }
    }
}

/// Without rows and a log beside each other there is nothing to compare: another advice is given.
#[test]
fn so_it_does_however_the_graph_is_kept() {
    for kind in KINDS {
        for design in [&ES_LOCKED, &CRUD_PLAIN] {
            let site = Site::with_graph_of(kind, design);
            let node = node::open(&NodeOptions { design, ..site.options() }).unwrap();
            accepted(&node, [put_dataset("declared")]);
            let store = site.store();
            site.run_sql("UPDATE graphs SET version = 1, known_version = 1, oldest = 1");
            let error = store.load(&name(GRAPH)).err().expect("it is refused").to_string();
            let told = "graph `g` is at version 1, and its log goes on to version 2; restore";
            assert!(error.contains(told), "{design} on {kind:?}: {error}");
        }
    }
}

/// What would make a graph illegal is refused when it is loaded.
#[test]
fn a_load_refuses_rows_that_refer_to_nothing_or_are_no_list() {
    for kind in KINDS {
        let first = |ids| format!("UPDATE jobs SET inputs = {} WHERE name = 'b'", list(kind, ids));
        let mut damages = vec![
            (first("3,77"), "leads nowhere"),
            (first("3,3"), "no list of rising ids"),
            (first("3,2"), "no list of rising ids"),
            (first("-1"), "no list of rising ids"),
            (first("4"), "cycle"),
            ("UPDATE datasets SET producer = 99 WHERE name = 'end'".to_owned(), "leads nowhere"),
            ("DELETE FROM datasets WHERE name = 'z'".to_owned(), "leads nowhere"),
            ("DELETE FROM jobs WHERE name = 'b'".to_owned(), "leads nowhere"),
            ("UPDATE jobs SET name = 'a'".to_owned(), "the job `a` is stored twice"),
            (
                "UPDATE datasets SET name = 'x' WHERE name = 'end'".to_owned(),
                "the dataset `x` is stored twice",
            ),
            ("UPDATE jobs SET name = '.' WHERE name = 'b'".to_owned(), "is not a name"),
            ("UPDATE jobs SET id = -5 WHERE name = 'b'".to_owned(), "is no id"),
            ("UPDATE jobs SET version = -1".to_owned(), "is stored with version -1"),
            ("UPDATE jobs SET version = 0".to_owned(), "is stored with version 0"),
            (
                "UPDATE jobs SET version = 5 WHERE name = 'b'".to_owned(),
                "the job `b` is stored with version 5, and its graph with 4",
            ),
        ];
        damages.extend(match kind {
            Kind::Sqlite => vec![
                ("UPDATE jobs SET inputs = '2'".to_owned(), "no list of rising ids"),
                ("UPDATE jobs SET name = CAST(x'61ff' AS TEXT)".to_owned(), "field 'name'"),
                ("UPDATE jobs SET spec = CAST(x'7b7dff' AS TEXT)".to_owned(), "field 'spec'"),
                (
                    "UPDATE datasets SET metadata = CAST(x'ff' AS TEXT)".to_owned(),
                    "field 'metadata'",
                ),
            ],
            _ => vec![
                ("UPDATE jobs SET inputs = '{{2},{3}}'".to_owned(), "no list of rising ids"),
                ("UPDATE jobs SET inputs = '[0:1]={2,3}'".to_owned(), "no list of rising ids"),
            ],
        });
        for (damage, told) in damages {
            let site = written(kind);
            site.run_sql(&damage);
            let error = site.store().load(&name(GRAPH)).err().expect("it is refused").to_string();
            assert!(error.contains(told), "{kind:?}: {damage}: {error}");
        }
    }
}

/// A large graph is put together by one thread while another reads its rows.
#[test]
fn a_large_graph_is_loaded_as_it_was_written_and_refused_wherever_it_is_damaged() {
    const JOBS: usize = 12_000;
    let dataset = |number: usize| format!("d {number}");
    for kind in KINDS {
        let site = Site::with_graph_on(kind);
        let node = site.node();
        accepted(
            &node,
            (0..JOBS).map(|at| put_job(&format!("job {at}"), &[&dataset(at)], &[&dataset(at + 1)])),
        );
        let written = node.read_and_wait(&name(GRAPH)).unwrap();
        let load = || site.store().load(&name(GRAPH)).map(|loaded| loaded.expect("is there").1);
        let loaded = load().unwrap();
        assert_eq!(loaded.digest(), written.graph.digest());
        assert_eq!(loaded.edge_count(), 2 * JOBS);
        let end = loaded.dataset(&dataset(JOBS)).unwrap().id();
        let inputs_of = |job: usize, ids: u32| {
            let list = list(kind, &ids.to_string());
            format!("UPDATE jobs SET inputs = {list} WHERE name = 'job {job}'")
        };
        let rename = |table: &str, from: &str, to: &str| {
            format!("UPDATE {table} SET name = '{to}' WHERE name = '{from}'")
        };
        let last = format!("job {}", JOBS - 1);
        let first_input = loaded.dataset(&dataset(0)).unwrap().id();
        for (damage, told, mended) in [
            (rename("datasets", "d 0", "."), "is not a name", rename("datasets", ".", "d 0")),
            (rename("jobs", &last, ".."), "is not a name", rename("jobs", "..", &last)),
            (
                format!("{} AND id > 0", rename("jobs", &last, "job 0")),
                "the job `job 0` is stored twice",
                format!("{} AND id > 0", rename("jobs", "job 0", &last)),
            ),
            (inputs_of(0, 77_777), "leads nowhere", inputs_of(0, first_input)),
            (inputs_of(0, end), "cycle", inputs_of(0, first_input)),
        ] {
            site.run_sql(&damage);
            let error = load().err().expect("it is refused").to_string();
            assert!(error.contains(told), "{kind:?}: {damage}: {error}");
            site.run_sql(&mended);
        }
        assert_eq!(load().unwrap().digest(), written.graph.digest(), "it is as it was");
    }
}

#[test]
fn rows_are_what_the_log_says_while_others_write_and_after_a_prune() {
    for kind in KINDS {
        let site = written(kind);
        let node = site.node();
        for number in 0..1_100 {
            accepted(&node, [put_job(&format!("job{number:04}"), &["end"], &[])]);
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut round = 0;
                while !done.load(Ordering::Relaxed) {
                    round += 1;
                    accepted(&node, [put_job(&format!("new{round}"), &["x"], &[])]);
                    accepted(&node, [add(Side::Input, "b", "y")]);
                    accepted(&node, [remove(Side::Input, "b", "y")]);
                    accepted(&node, [put_job("moving", &["end"], &[&format!("out{}", round % 7)])]);
                }
            });
            for _ in 0..5 {
                assert_eq!(differences(&site), Vec::<String>::new(), "{kind:?}");
            }
            done.store(true, Ordering::Relaxed);
        });
        prune(&site.store(), &name(GRAPH), 900).unwrap();
        assert_eq!(differences(&site), Vec::<String>::new(), "pruned, {kind:?}");
        // Of the log only the newest change is left.
        let version = site.head().version;
        prune(&site.store(), &name(GRAPH), version).unwrap();
        assert_eq!(differences(&site), Vec::<String>::new(), "pruned to the end, {kind:?}");
    }
}

#[test]
fn the_command_counts_what_differs_and_fails() {
    let site = written(Kind::Sqlite);
    let check = |more: &[&str]| {
        finish(site.fencepost(&[&["check-rows", "--graph", GRAPH][..], more].concat()))
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 rows of jobs and 6 rows of datasets are what the log says"), "{said}");
    site.run_sql("UPDATE jobs SET spec = '{\"other\":1}'");
    let (code, said) = check(&["--show", "1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("job `a` at version 4: the spec is not the log's\nand 1 more"), "{said}");
    assert!(said.contains(" compared, 2 differences. "), "{said}");
    // What it says to do.
    let log = site.path("log");
    let (code, said) = finish(site.fencepost(&[
        "export",
        "--graph",
        GRAPH,
        "--after",
        "0",
        "--to",
        &format!("file:{}", log.display()),
    ]));
    assert_eq!(code, Some(0), "{said}");
    let import = ["import", "--graph", "mended", "--format", "events", log.to_str().unwrap()];
    let (code, said) = finish(site.fencepost(&import));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = finish(site.fencepost(&["check-rows", "--graph", "mended"]));
    assert_eq!(code, Some(0), "{said}");
    site.run_sql("UPDATE jobs SET spec = '{}' WHERE name = 'a'");
    prune(&site.store(), &name(GRAPH), 4).unwrap();
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(" compared, 1 difference. The log was pruned"), "{said}");
    site.run_sql("INSERT INTO datasets (graph_id, id, name) VALUES (77, 0, 'd')");
    let (_, said) = finish(site.fencepost(&["check-rows", "--graph", "mended"]));
    assert!(said.contains(" compared, 1 difference. The graph itself is what its log"), "{said}");
    site.run_sql("UPDATE graphs SET chain = zeroblob(32) WHERE name = 'mended'");
    let (_, said) = finish(site.fencepost(&["check-rows", "--graph", "mended"]));
    assert!(said.contains("its log contradict each other: restore a backup"), "{said}");
    let (code, said) = finish(site.fencepost(&["check-rows", "--graph", "nowhere"]));
    assert_eq!(code, Some(1), "{said}");
}
