//! What tells `crud-plain` from `crud`: rows and nothing else. No change can be read, and yet the
//! outcome of a commit whose answer was lost is learnt.

use diesel::prelude::*;
use fencepost::archive::{PastError, PruneError, graph_at, prune};
use fencepost::db::schema::{changes, snapshot_parts};
use fencepost::design::crud::CRUD;
use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::node::{self, NodeOptions};
use fencepost::store::StorageKind;

use crate::support::ask::{accepted, changeset, delete_graph, put_dataset, put_job};
use crate::support::cluster::{GRAPH, Kind, SERVE, Server, Site, finish, name};
use crate::support::storm::audit;

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

#[test]
fn the_log_holds_attempts_only_and_the_rows_are_those_of_crud() {
    for kind in KINDS {
        let sites = [&CRUD, &CRUD_PLAIN].map(|design| {
            let site = Site::on(kind);
            let node = node::open(&NodeOptions { design, ..site.options() }).unwrap();
            node.create_graph_and_wait(&name(GRAPH)).unwrap();
            for n in 0..5 {
                accepted(&node, [put_job(&format!("j{n}"), &["x"], &[&format!("y{n}")])]);
            }
            // More in one commit than a call takes.
            let many = changeset((0..6_000).map(|n| put_dataset(&format!("d{n}"))));
            node.write_and_wait(&name(GRAPH), many).unwrap();
            site
        });
        assert_eq!(audit(&sites[0]).digest, audit(&sites[1]).digest);
        let plain = &sites[1];
        let texts: Vec<String> =
            changes::table.select(changes::change).load(&mut plain.sql()).unwrap();
        assert_eq!(texts, [""; 6]);
        let head = plain.head();
        assert_eq!((head.version, head.oldest, head.storage), (6, 7, StorageKind::RowsPlain));
    }
}

#[test]
fn what_needs_a_history_is_told_that_there_is_none() {
    for kind in KINDS {
        let site = Site::with_graph_of(kind, &CRUD_PLAIN);
        let mut command = site.fencepost(&SERVE);
        command.args(["--design", "crud-plain"]);
        let server = Server::start(command);
        for (job, version) in [("a", 2), ("b", 3)] {
            let answer = server.put_job(job, &["first"], &[job]).unwrap();
            assert_eq!((answer.status, answer.version()), (201, version));
        }
        let path = format!("/v1/graphs/{GRAPH}");
        assert_eq!(server.get(&path).unwrap().body["storage"], "rows_plain");
        for after in [0, 1, 2] {
            let feed = server.get(&format!("{path}/changes?after={after}")).unwrap();
            assert_eq!((feed.status, &feed.body["oldest"]), (410, &4.into()), "{}", feed.body);
        }
        let store = site.store();
        assert_eq!(graph_at(&store, &name(GRAPH), 3).unwrap().graph.job_count(), 2);
        let past = graph_at(&store, &name(GRAPH), 2).map(|past| past.graph.version());
        assert!(matches!(past, Err(PastError::Pruned { oldest: 3, asked: 2, .. })), "{past:?}");
        // The attempts stay.
        let pruned = prune(&store, &name(GRAPH), 3);
        assert!(matches!(pruned, Err(PruneError::NotPrunable { .. })), "{pruned:?}");
        assert_eq!(audit(&site).version, 3);
    }
}

/// The graph and its version are taken over; of its changes nothing is.
#[test]
fn a_log_is_restored_as_a_graph_without_a_history() {
    for kind in KINDS {
        let from = Site::with_graph_on(kind);
        let node = from.node();
        accepted(&node, [put_job("j", &["first"], &["y"])]);
        let file = from.path("log.ndjson");
        let sink = format!("file:{}", file.display());
        let (code, said) = finish(from.fencepost(&["export", "--graph", GRAPH, "--to", &sink]));
        assert_eq!(code, Some(0), "{said}");
        let into = Site::on(kind);
        let file = file.to_str().unwrap();
        let import =
            ["import", "--graph", GRAPH, "--format", "events", "--design", "crud-plain", file];
        let (code, said) = finish(into.fencepost(&import));
        assert_eq!(code, Some(0), "{said}");
        let head = into.head();
        assert_eq!((head.version, head.oldest, head.storage), (2, 3, StorageKind::RowsPlain));
        let (_, graph) = into.store().load(&name(GRAPH)).unwrap().unwrap();
        assert_eq!(graph.digest(), audit(&from).digest);
        let written: i64 = changes::table.count().get_result(&mut into.sql()).unwrap();
        assert_eq!(written, 0);
        let node = node::open(&NodeOptions { design: &CRUD_PLAIN, ..into.options() }).unwrap();
        assert_eq!(accepted(&node, [put_dataset("d")]), 3);
    }
}

/// It was kept as rows, with a log whose beginning was pruned: none of that is its history.
#[test]
fn a_graph_that_is_created_again_without_a_history_has_nothing_of_the_former_one() {
    for kind in KINDS {
        let site = Site::with_graph_of(kind, &CRUD);
        let old = site.node();
        for n in 2..=4 {
            assert_eq!(accepted(&old, [put_job(&format!("j{n}"), &["x"], &[])]), n);
        }
        prune(&site.store(), &name(GRAPH), 3).unwrap();
        let parts =
            || -> i64 { snapshot_parts::table.count().get_result(&mut site.sql()).unwrap() };
        assert!(parts() > 0);
        old.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        let node = node::open(&NodeOptions { design: &CRUD_PLAIN, ..site.options() }).unwrap();
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        let store = site.store();
        for version in 5..=6 {
            let head = site.head();
            assert_eq!((head.version, head.oldest, parts()), (version, version + 1, 0));
            for asked in 1..version {
                let past = graph_at(&store, &name(GRAPH), asked).map(|past| past.graph.version());
                assert!(
                    matches!(past, Err(PastError::Pruned { oldest, .. }) if oldest == version),
                    "{asked}: {past:?}"
                );
            }
            let now = graph_at(&store, &name(GRAPH), version).unwrap();
            assert_eq!(now.graph.job_count() as u64, version - 5);
            for after in 0..version {
                let feed = store.feed(&name(GRAPH), after, 10).unwrap().unwrap();
                assert_eq!(feed.changes, []);
            }
            if version == 5 {
                assert_eq!(accepted(&node, [put_job("new", &["x"], &["y"])]), 6);
            }
        }
    }
}
