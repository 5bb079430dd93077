//! What tells `crud-delta` from `crud`: its image follows what others wrote by the change log, and
//! is loaded whole where the log does not lead from it to the rows.

use diesel::prelude::*;
use fencepost::chain::Chain;
use fencepost::db::schema::{changes, graphs};
use fencepost::design::Design;
use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::graph::Side;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Refusal, Service};
use fencepost::store::Store;

use crate::support::ask::{
    accepted, add, changeset, delete_dataset, delete_graph, delete_job, in_line, put_dataset,
    put_job, rejected, verdicts, write,
};
use crate::support::cluster::{GRAPH, Kind, Site, back_up, name, restore};
use crate::support::storm::{Choices, audit};

/// Without a lock it follows in the same way.
const FOLLOWERS: [&Design; 2] = [&CRUD_DELTA, &CRUD_OPTIMISTIC];

fn node_of(site: &Site, design: &'static Design) -> Service {
    node::open(&NodeOptions { design, ..site.options() }).unwrap()
}

/// Images loaded, images that followed, changes that they followed by.
fn refreshes(node: &Service) -> (u64, u64, u64) {
    let metrics = node.metrics();
    (metrics.image_loads.get(), metrics.image_catch_ups.get(), metrics.changes_applied.get())
}

/// Reads: the image must be what a load of the rows gives. Says its version.
#[track_caller]
fn read_right(node: &Service, site: &Site) -> u64 {
    read_as(node, &site.store())
}

/// The same, by a store that was opened before.
#[track_caller]
fn read_as(node: &Service, store: &Store) -> u64 {
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    let (head, graph) = store.load(&name(GRAPH)).unwrap().unwrap();
    assert_eq!((image.key, image.graph.version()), (head.key(), graph.version()));
    assert_eq!(image.graph.digest(), graph.digest(), "the image is not what the rows are");
    image.key.version
}

#[test]
fn what_another_node_has_written_is_followed_and_nothing_loaded_for_it() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let (node, other) = (node_of(&site, &CRUD_DELTA), site.node());
        read_right(&node, &site);
        let mut foreign = 0;
        for n in 0..5_u64 {
            for k in 0..=n {
                accepted(
                    &other,
                    [put_job(
                        &format!("job-{n}-{k}"),
                        &[&format!("in-{n}")],
                        &[&format!("out-{n}-{k}")],
                    )],
                );
                foreign += 1;
            }
            // A write follows as a read does, and what it writes itself it knows.
            if n % 2 == 0 {
                rejected(&node, [delete_job("absent")]);
                accepted(&node, [put_dataset(&format!("own-{n}"))]);
            }
            read_right(&node, &site);
            assert_eq!(refreshes(&node), (1, n + 1, foreign), "on {kind:?}");
        }
        audit(&site);
    }
}

#[test]
fn changes_of_more_than_one_page_are_followed_too() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let (node, other) = (node_of(&site, &CRUD_DELTA), site.node());
        read_right(&node, &site);
        let mut foreign = 0;
        // A page holds 256.
        for (followed, count) in (1..).zip([255, 256, 257, 600]) {
            let writes = (foreign..foreign + count).map(|n| {
                let job = format!("job-{}", n % 50);
                changeset([put_job(&job, &[&format!("in-{n}")], &[&format!("out-{n}")])])
            });
            assert!(verdicts(in_line(&other, GRAPH, writes)).iter().all(Result::is_ok));
            foreign += count;
            assert_eq!(read_right(&node, &site), 1 + foreign);
            assert_eq!(refreshes(&node), (1, followed, foreign), "on {kind:?}");
        }
        assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().graph.digest(), audit(&site).digest);
    }
}

/// Versions 2, 3, 4, 5 come while a node has the image of version 1, and then `damage` is done.
fn is_read_anew_after(kind: Kind, what: &str, damage: impl Fn(&Site)) {
    let site = Site::with_graph_on(kind);
    let (node, other) = (node_of(&site, &CRUD_DELTA), site.node());
    // A file without some of its changes is not opened anew beside its log.
    let store = site.store();
    read_as(&node, &store);
    for n in 2..=5 {
        accepted(&other, [put_job(&format!("job-{n}"), &[], &[&format!("out-{n}")])]);
    }
    damage(&site);
    assert_eq!(read_as(&node, &store), 5, "{what}");
    assert_eq!(refreshes(&node), (2, 0, 0), "{what}");
    // From there on it follows again.
    accepted(&other, [put_dataset("later")]);
    assert_eq!(read_as(&node, &store), 6, "{what}");
    assert_eq!(refreshes(&node), (2, 1, 1), "{what}");
}

#[test]
fn a_log_without_some_of_the_changes_is_not_followed() {
    let some = ["version = 2", "version = 3", "version = 5", "version < 5", "version <= 5"];
    for (kind, some) in [(Kind::Sqlite, &some[..]), (Kind::Postgres, &some[1..2])] {
        for gone in some {
            is_read_anew_after(kind, gone, |site| {
                site.run_sql(&format!("DELETE FROM changes WHERE {gone}"))
            });
        }
    }
}

fn logged(site: &Site, version: i64) -> (String, Chain) {
    let row = changes::table
        .filter(changes::version.eq(version))
        .select((changes::change, changes::chain));
    let (text, chain): (String, Vec<u8>) = row.first(&mut site.sql()).unwrap();
    (text, Chain(chain.try_into().unwrap()))
}

/// Puts other texts in the log from `version` on, with the chain that they have.
fn write_another_history(site: &Site, version: i64, texts: &[String]) -> Chain {
    let (_, mut chain) = logged(site, version - 1);
    for (version, text) in (version..).zip(texts) {
        chain = chain.next(text);
        diesel::update(changes::table.filter(changes::version.eq(version)))
            .set((changes::change.eq(text), changes::chain.eq(&chain.0[..])))
            .execute(&mut site.sql())
            .unwrap();
    }
    chain
}

/// In each case the log is whole, and its changes can be applied: only the chain tells that they do
/// not lead to the rows.
#[test]
fn a_log_of_another_history_is_not_followed() {
    let another = |site: &Site, version| logged(site, version).0.replace("out-", "other-");
    for (kind, versions) in [(Kind::Sqlite, &[2, 4, 5][..]), (Kind::Postgres, &[4])] {
        for &version in versions {
            is_read_anew_after(kind, "the chain of one change is another", |site| {
                let zeros = "00".repeat(32);
                let zeros = if kind == Kind::Sqlite {
                    format!("x'{zeros}'")
                } else {
                    format!("'\\x{zeros}'")
                };
                site.run_sql(&format!(
                    "UPDATE changes SET chain = {zeros} WHERE version = {version}"
                ));
            });
            is_read_anew_after(kind, "one change is another", |site| {
                site.run_sql(&format!(
                    "UPDATE changes SET change = replace(change, 'out-', 'other-') WHERE version = {version}"
                ));
            });
            is_read_anew_after(
                kind,
                "all changes from one on are others, with their chain",
                |site| {
                    let texts: Vec<_> =
                        (version..=5).map(|version| another(site, version)).collect();
                    write_another_history(site, version, &texts);
                },
            );
        }
    }
}

/// Even one whose chain is right to the end.
#[test]
fn a_change_that_cannot_be_read_is_not_followed() {
    for damaged in ["", "{\"facts\":[{\"fact\":\"unheard_of\"}],\"version\":5}"] {
        is_read_anew_after(Kind::Sqlite, damaged, |site| {
            let chain = write_another_history(site, 5, &[damaged.to_owned()]);
            let row = diesel::update(graphs::table).set(graphs::chain.eq(&chain.0[..]));
            assert_eq!(row.execute(&mut site.sql()).unwrap(), 1);
        });
    }
}

/// Has the graph go through so many changes more, as if by another process.
fn go_on(site: &Site, count: u64) {
    let head = site.head();
    let (id, mut chain, last) = (head.id, head.chain, head.version + count);
    let mut script = "BEGIN;".to_owned();
    for version in head.version + 1..=last {
        let fact = format!(
            "{{\"fact\":\"dataset_changed\",\"metadata\":{{\"n\":{version}}},\"name\":\"first\"}}"
        );
        let change = format!("{{\"facts\":[{fact}],\"version\":{version}}}");
        chain = chain.next(&change);
        script += &format!(
            "INSERT INTO changes (graph_id, version, change, chain, attempt, token, committed_at_ms) \
             VALUES ({id}, {version}, '{change}', x'{chain:?}', '', 0, 0);"
        );
    }
    script += &format!(
        "UPDATE graphs SET version = {last}, chain = x'{chain:?}'; UPDATE datasets SET metadata = '{{\"n\":{last}}}';"
    );
    site.run_sql(&(script + "COMMIT"));
}

/// The log grows for ever, the graph does not.
#[test]
fn from_too_far_behind_the_graph_is_loaded() {
    const FURTHEST: u64 = 16_384;
    let site = Site::with_graph_on(Kind::Sqlite);
    let node = node_of(&site, &CRUD_DELTA);
    read_right(&node, &site);
    go_on(&site, FURTHEST);
    assert_eq!(read_right(&node, &site), 1 + FURTHEST);
    assert_eq!(refreshes(&node), (1, 1, FURTHEST));
    go_on(&site, FURTHEST + 1);
    assert_eq!(read_right(&node, &site), 2 + 2 * FURTHEST);
    assert_eq!(refreshes(&node), (2, 1, FURTHEST));
}

/// Back behind the image; at its version by another history; beyond it by another history.
#[test]
fn a_database_put_back_to_an_older_copy_is_read_anew() {
    for design in FOLLOWERS {
        for writes_since in 0..4 {
            let site = Site::on(Kind::Sqlite);
            let nodes = [node_of(&site, design), node_of(&site, design)];
            nodes[0].create_graph_and_wait(&name(GRAPH)).unwrap();
            accepted(&nodes[0], [put_job("kept", &["x"], &["y"])]);
            back_up(&site, &site.path("copy.db"));
            for n in 0..2 {
                accepted(&nodes[0], [put_job(&format!("lost-{n}"), &["y"], &[&format!("z-{n}")])]);
            }
            for node in &nodes {
                read_right(node, &site);
            }
            let before = nodes.each_ref().map(refreshes);
            restore(&site, &site.path("copy.db"));
            let fresh = node_of(&site, design);
            for n in 0..writes_since {
                accepted(
                    &fresh,
                    [put_job(&format!("new-{n}"), &[&format!("z-{n}")], &[&format!("w-{n}")])],
                );
            }
            // What is judged rests on what is there.
            rejected(&nodes[0], [delete_job("lost-0")]);
            for (node, before) in nodes.iter().zip(before) {
                assert_eq!(read_right(node, &site), 1 + writes_since);
                assert_eq!(
                    refreshes(node),
                    (before.0 + 1, before.1, before.2),
                    "{design}, {writes_since} writes since"
                );
                let is_told = u64::from(writes_since <= 2);
                assert_eq!(node.metrics().images_ahead_of_store.get(), is_told);
            }
            audit(&site);
        }
    }
}

#[test]
fn a_graph_that_another_node_deletes_and_creates_again_is_followed() {
    for design in FOLLOWERS {
        let site = Site::on(Kind::of_this_run());
        let (node, other) = (node_of(&site, design), node_of(&site, design));
        let put = |version| {
            assert_eq!(accepted(&other, [put_job("j", &["x"], &["y"]), put_dataset("d")]), version)
        };
        other.create_graph_and_wait(&name(GRAPH)).unwrap();
        put(1);
        read_right(&node, &site);
        other.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        let not_found = Refusal::GraphNotFound { graph: name(GRAPH) };
        assert_eq!(node.read_and_wait(&name(GRAPH)).err(), Some(not_found.clone()));
        assert_eq!(write(&node, [put_dataset("d")]), Err(not_found));
        other.create_graph_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(read_right(&node, &site), 2);
        assert_eq!(rejected(&node, [delete_job("j")]).1, 2);
        put(3);
        assert_eq!(read_right(&node, &site), 3);
        // And all of it between two looks.
        other.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        other.create_graph_and_wait(&name(GRAPH)).unwrap();
        put(5);
        assert_eq!(read_right(&node, &site), 5);
        assert_eq!(refreshes(&node), (1, 3, 4), "{design}");
        audit(&site);
    }
}

/// The ids of what is gone are given again. Which ones must not depend on whether a node has loaded
/// the graph or followed it.
#[test]
fn nodes_that_have_followed_and_nodes_that_have_loaded_give_the_same_ids() {
    let site = Site::with_graph();
    let mut nodes = [node_of(&site, &CRUD_DELTA), node_of(&site, &CRUD_DELTA)];
    let mut choices = Choices(1);
    for n in 0..150 {
        // One that has the rows as they are now, beside one that knows them from long ago.
        if n % 30 == 29 {
            nodes[n / 30 % 2] = node_of(&site, &CRUD_DELTA);
        }
        let node = &nodes[n % 2];
        let job = format!("job-{}", choices.below(12));
        let datasets = [(); 3].map(|()| format!("dataset-{}", choices.below(20)));
        let [input, output, other] = datasets.each_ref().map(String::as_str);
        let asked = match choices.below(6) {
            0 => vec![put_job(&job, &[input], &[]), put_dataset(other)],
            1 => vec![put_job(&job, &[input], &[output])],
            2 => vec![delete_job(&job), put_job(&format!("{job}-again"), &[other], &[])],
            3 => vec![delete_job(&format!("{job}-again"))],
            4 => vec![delete_dataset(other)],
            _ => vec![add(Side::Input, &job, other)],
        };
        match write(node, asked) {
            Ok(_) | Err(Refusal::Rejected { .. }) => {}
            Err(other) => panic!("neither accepted nor rejected: {other:?}"),
        }
    }
    assert!(audit(&site).version > 50);
    for node in &nodes {
        read_right(node, &site);
        assert_eq!(refreshes(node).0, 1, "it has only followed since");
    }
}
