//! `migrate --revert`: what was taken back is named, and rows that an earlier schema does not take
//! are named too, with their graph.

use fencepost::archive::{prune, take_snapshot};
use fencepost::design::es_optimistic::ES_OPTIMISTIC;
use fencepost::node::{self, NodeOptions};

use crate::support::ask::{accepted, put_job};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name};

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

fn revert(site: &Site, count: &str) -> (Option<i32>, String) {
    finish(site.fencepost(&["migrate", "--revert", count]))
}

#[test]
fn the_migrations_that_were_taken_back_are_named() {
    let site = Site::with_graph();
    let (code, said) = revert(&site, "6");
    let named = "took back 6: 2026-11-28-000020_forwarded_writes, \
                 2026-11-28-000010_leaders, 2026-11-27-000040_packed_snapshots, \
                 2026-11-27-000030_storage_of_a_graph, \
                 2026-11-27-000020_commit_in_one_call, 2026-11-27-000010_adjacency_lists\n";
    assert_eq!((code, said.as_str()), (Some(0), named));
    let (_, said) = finish(site.fencepost(&["migrate"]));
    let named = "ran 2026-11-27-000010_adjacency_lists, 2026-11-27-000020_commit_in_one_call, \
                 2026-11-27-000030_storage_of_a_graph, 2026-11-27-000040_packed_snapshots, \
                 2026-11-28-000010_leaders, 2026-11-28-000020_forwarded_writes\n";
    assert_eq!(said, named);
}

#[test]
fn more_than_there_are_and_none_at_all_are_refused() {
    let site = Site::with_graph();
    let (code, said) = revert(&site, "99");
    let told = "fencepost: the database has 13 migrations: 99 cannot be taken back\n";
    assert_eq!((code, said.as_str()), (Some(1), told));
    let (code, said) = revert(&site, "0");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("0 is not in 1.."), "{said}");
}

#[test]
fn rows_that_an_earlier_schema_does_not_take_are_named() {
    for kind in KINDS {
        let list = |ids: &str| match kind {
            Kind::Sqlite => format!("'[{ids}]'"),
            Kind::Postgres => format!("'{{{ids}}}'"),
        };
        let inputs = |ids| format!("UPDATE jobs SET inputs = {} WHERE name = 'b'", list(ids));
        let damages = [
            (
                "UPDATE jobs SET name = 'a'".to_owned(),
                "graph `g`: the job `a` is stored twice",
                "Key (graph_id, name)=(1, a) is duplicated.",
            ),
            (
                "UPDATE datasets SET name = 'x' WHERE name = 'end'".to_owned(),
                "graph `g`: the dataset `x` is stored twice",
                "Key (graph_id, name)=(1, x) is duplicated.",
            ),
            (
                "UPDATE datasets SET producer = 99 WHERE name = 'end'".to_owned(),
                "graph `g`: the producer of the dataset `end` is the job with id 99, which is not \
                 stored",
                "Key (graph_id, job_id)=(1, 99) is not present in table \"jobs\".",
            ),
            (
                inputs("3,77"),
                "graph `g`: the job `b` reads the dataset with id 77, which is not stored",
                "Key (graph_id, dataset_id)=(1, 77) is not present in table \"datasets\".",
            ),
            (
                inputs("3,3"),
                "graph `g`: the inputs of the job `b` are no list of ids, each once",
                "Key (graph_id, job_id, dataset_id)=(1, 1, 3) is duplicated.",
            ),
            (
                "INSERT INTO datasets (graph_id, id, name) VALUES (77, 0, 'd')".to_owned(),
                "table datasets: rows with graph_id 77, which no graph has; restore the graph from a \
                 backup or, if nobody needs them, DELETE FROM datasets WHERE graph_id = 77",
                "Key (graph_id)=(77) is not present in table \"graphs\".",
            ),
        ];
        for (damage, told, detail) in damages {
            let site = Site::with_graph_on(kind);
            let jobs = [put_job("a", &["x", "y"], &["z"]), put_job("b", &["z"], &["end"])];
            accepted(&site.node(), jobs);
            site.run_sql(&damage);
            let (code, said) = revert(&site, "6");
            assert_eq!(code, Some(1), "{kind:?}: {damage}: {said}");
            let what = "taking back 2026-11-27-000010_adjacency_lists: ";
            assert!(said.contains(what) && said.contains(told), "{kind:?}: {damage}: {said}");
            assert!(kind == Kind::Sqlite || said.contains(detail), "{damage}: {said}");
            let is_of_graph = told.starts_with("graph");
            assert_eq!(said.contains("`fencepost check-rows`"), is_of_graph, "{kind:?}: {said}");
            // All or nothing: the rows are still those of the newest schema.
            let (code, said) = finish(site.fencepost(&["check-rows", "--graph", GRAPH]));
            assert_eq!(code, Some(1), "{kind:?}: {damage}: {said}");
        }
    }
}

#[test]
fn a_graph_that_needs_its_snapshot_stops_taking_back_the_tables_of_snapshots() {
    for kind in KINDS {
        let site = Site::with_graph_of(kind, &ES_OPTIMISTIC);
        let node = node::open(&NodeOptions { design: &ES_OPTIMISTIC, ..site.options() }).unwrap();
        for n in 0..3 {
            accepted(&node, [put_job(&format!("job-{n}"), &[], &[])]);
        }
        drop(node);
        take_snapshot(&site.store(), &name(GRAPH)).unwrap();
        let (code, said) = revert(&site, "3");
        assert_eq!(code, Some(0), "its log is whole: {said}");
        let (code, said) = finish(site.fencepost(&["migrate"]));
        assert_eq!(code, Some(0), "{said}");
        take_snapshot(&site.store(), &name(GRAPH)).unwrap();
        prune(&site.store(), &name(GRAPH), 2).unwrap();
        let (code, said) = revert(&site, "3");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("a log was pruned behind a snapshot"), "{said}");
        assert!(site.store().load(&name(GRAPH)).unwrap().is_some());
    }
}
