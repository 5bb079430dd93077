//! `check-rows`: rows that were altered by hand are told of, each kind, and rows that are right are
//! not, whatever is written meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use fencepost::archive::{RowDifference, check_rows, prune};
use fencepost::graph::Side;

use super::KINDS;
use crate::support::ask::{accepted, add, put_dataset, put_job, remove};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name};

fn differences(site: &Site) -> Vec<String> {
    let mut told = Vec::new();
    let each = &mut |difference: &RowDifference| told.push(difference.to_string());
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
            _ => vec![("UPDATE jobs SET inputs = '{{2},{3}}'".to_owned(), "no list of rising ids")],
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
    assert!(said.contains("2 differences"), "{said}");
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
    let (code, said) = finish(site.fencepost(&["check-rows", "--graph", "nowhere"]));
    assert_eq!(code, Some(1), "{said}");
}
