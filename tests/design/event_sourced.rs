//! What tells the designs that keep a graph by its log from those that keep rows: nothing but the
//! log is written, a load replays it and refuses one that is not what was written, and no program
//! takes a graph for one that is kept in another way.

use std::ops::Bound;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use fencepost::archive::{PastError, PruneError, check_rows, graph_at, prune, take_snapshot};
use fencepost::chain::Chain;
use fencepost::db::schema::{changes, graphs};
use fencepost::design::crud::CRUD;
use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::design::crud_naive::CRUD_NAIVE;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::design::es_locked::ES_LOCKED;
use fencepost::design::es_optimistic::ES_OPTIMISTIC;
use fencepost::design::{self, Design, Designs};
use fencepost::graph::{Operation, Side, hex};
use fencepost::node::{self, NodeError, NodeOptions};
use fencepost::service::{Image, Refusal, Service};
use fencepost::store::StorageKind;
use proptest::prelude::*;

use crate::support::ask::{
    accepted, add, changeset, delete_dataset, delete_graph, delete_job, in_line, put_dataset,
    put_job, rejected, remove, verdicts, write,
};
use crate::support::cluster::{GRAPH, Kind, SERVE, Server, Site, Sql, finish, in_child, name};
use crate::support::guards::passes;
use crate::support::storm::{Audit, Choices, audit, audit_without_tokens};

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// Those that keep a graph by its log alone.
const BY_LOG: [&Design; 2] = [&ES_OPTIMISTIC, &ES_LOCKED];

pub(super) fn node_of(site: &Site, design: &'static Design) -> Service {
    node::open(&NodeOptions { design, ..site.options() }).unwrap()
}

/// A node that serves graphs of several storages; new ones are of the first's.
fn node_of_all(site: &Site, designs: &[&'static Design]) -> Service {
    let (design, other_designs) = (designs[0], designs[1..].to_vec());
    node::open(&NodeOptions { design, other_designs, ..site.options() }).unwrap()
}

/// As `audit`, where some have written without a lock.
fn audit_mixed(site: &Site) -> Audit {
    audit_without_tokens(&mut site.sql(), GRAPH)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn count(site: &Site, table: &str) -> i64 {
    let query = format!("SELECT count(*) AS count FROM {table}");
    diesel::sql_query(query).get_result::<Count>(&mut site.sql()).unwrap().count
}

/// One write of a history in which everything happens: jobs and datasets come, change and go.
fn step(choices: &mut Choices) -> Vec<Operation> {
    let job = format!("job-{}", choices.below(12));
    let datasets = [(); 3].map(|()| format!("dataset-{}", choices.below(20)));
    let [input, output, other] = datasets.each_ref().map(String::as_str);
    let inputs = if input == other { &[input][..] } else { &[input, other] };
    match choices.below(9) {
        0 => vec![put_job(&job, &[input], &[]), put_dataset(other)],
        1 | 2 => vec![put_job(&job, inputs, &[output])],
        3 => vec![delete_job(&job), put_job(&format!("{job}-again"), &[other], &[])],
        4 => vec![delete_job(&format!("{job}-again"))],
        5 => vec![delete_dataset(other)],
        6 => vec![remove(Side::Input, &job, other)],
        7 => vec![put_dataset(other)],
        _ => vec![add(Side::Input, &job, other)],
    }
}

pub(super) fn history(node: &Service, seed: u64, length: usize) {
    let mut choices = Choices(seed);
    for _ in 0..length {
        match write(node, step(&mut choices)) {
            Ok(_) | Err(Refusal::Rejected { .. }) => {}
            Err(other) => panic!("neither accepted nor rejected: {other:?}"),
        }
    }
}

#[test]
fn a_graph_that_is_kept_by_its_log_has_no_rows_and_is_there_after_a_restart() {
    for kind in KINDS {
        for design in BY_LOG {
            let site = Site::on(kind);
            let node = node_of(&site, design);
            node.create_graph_and_wait(&name(GRAPH)).unwrap();
            history(&node, 1, 200);
            let image = node.read_and_wait(&name(GRAPH)).unwrap();
            assert!(image.graph.job_count() > 0 && image.key.version > 50);
            assert_eq!((count(&site, "jobs"), count(&site, "datasets")), (0, 0), "{design}");
            assert_eq!(count(&site, "changes"), image.key.version as i64);
            assert_eq!(audit(&site).digest, image.graph.digest());
            drop(node);
            let again = node_of(&site, design);
            let loaded = again.read_and_wait(&name(GRAPH)).unwrap();
            assert_eq!((loaded.key, loaded.graph.digest()), (image.key, image.graph.digest()));
            assert_eq!(again.metrics().changes_replayed.get(), image.key.version);
            // It goes on from there.
            let version = accepted(&again, [put_dataset("one more")]);
            assert_eq!(version, image.key.version + 1);
        }
    }
}

/// A graph of five changes that is kept by its log, and no node that has it in memory.
fn site_with_log(kind: Kind) -> Site {
    let site = Site::on(kind);
    let node = node_of(&site, &ES_OPTIMISTIC);
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    for n in 1..=5 {
        accepted(
            &node,
            [put_job(&format!("job-{n}"), &[&format!("in-{n}")], &[&format!("out-{n}")])],
        );
    }
    site
}

/// What a load of the graph is refused with.
fn refusal_of_load(site: &Site) -> String {
    let node = node_of(site, &ES_OPTIMISTIC);
    match node.read_and_wait(&name(GRAPH)).map(|image| image.key.version) {
        Err(Refusal::Internal { what }) => what,
        other => panic!("it was loaded: {other:?}"),
    }
}

fn text_of(site: &Site, version: i64) -> String {
    let row = changes::table.filter(changes::version.eq(version)).select(changes::change);
    row.first(&mut site.sql()).unwrap()
}

/// Puts these texts in the log from `version` on, with the chain that they have, up to the graph's
/// row: as somebody would who can compute it.
fn forge(site: &Site, version: i64, texts: &[String]) {
    let before = changes::table.filter(changes::version.eq(version - 1)).select(changes::chain);
    let before: Vec<u8> = before.first(&mut site.sql()).unwrap();
    let mut chain = Chain(before.try_into().unwrap());
    for (version, text) in (version..).zip(texts) {
        chain = chain.next(text);
        diesel::update(changes::table.filter(changes::version.eq(version)))
            .set((changes::change.eq(text), changes::chain.eq(&chain.0[..])))
            .execute(&mut site.sql())
            .unwrap();
    }
    diesel::update(graphs::table)
        .set(graphs::chain.eq(&chain.0[..]))
        .execute(&mut site.sql())
        .unwrap();
}

#[test]
fn a_log_with_a_gap_is_refused_and_the_version_named() {
    const TEST: &str = "design::event_sourced::a_log_with_a_gap_is_refused_and_the_version_named";
    for kind in KINDS {
        for (gone, version, told) in [
            ("version = 1", 1, "it is missing; the log goes on at version 2"),
            ("version = 3", 3, "it is missing; the log goes on at version 4"),
            ("version >= 4", 4, "the log ends at version 3, the graph is at 5"),
        ] {
            let site = site_with_log(kind);
            site.run_sql(&format!("DELETE FROM changes WHERE {gone}"));
            let what = refusal_of_load(&site);
            assert!(what.contains(&format!("version {version}: {told}")), "{gone}: {what}");
        }
        let site = site_with_log(kind);
        site.run_sql("UPDATE graphs SET oldest = 3; DELETE FROM changes WHERE version < 3");
        let what = refusal_of_load(&site);
        assert!(what.contains("version 1: the log begins at version 3"), "{what}");
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        assert!(!passes(TEST, Some("gaps-of-log")), "without the comparison it is not told");
    }
}

/// With their chain, so that it alone does not give them away.
#[test]
fn a_damaged_change_is_refused_and_the_version_named() {
    const TEST: &str = "design::event_sourced::a_damaged_change_is_refused_and_the_version_named";
    for kind in KINDS {
        let forgeries = [
            ("job-3", "job-2", "job `job-2` is there already"),
            ("out-3", "out-2", "dataset `out-2` has a producer already"),
            ("job_created", "job_deleted", "cannot be read"),
            ("\"version\":3", "\"version\":9", "it tells of version 9"),
            ("{", "", "cannot be read"),
        ];
        for (part, otherwise, told) in forgeries {
            let site = site_with_log(kind);
            let texts: Vec<String> = (3..=5)
                .map(|version| text_of(&site, version))
                .enumerate()
                .map(|(at, text)| if at == 0 { text.replacen(part, otherwise, 1) } else { text })
                .collect();
            forge(&site, 3, &texts);
            let what = refusal_of_load(&site);
            assert!(what.contains("version 3: ") && what.contains(told), "{what}");
        }
        // Each change for itself follows those before; only the whole shows the cycle.
        let site = site_with_log(kind);
        let cyclic = text_of(&site, 5).replace("in-5", "out-5");
        forge(&site, 5, &[cyclic]);
        let what = refusal_of_load(&site);
        assert!(what.contains("version 5: the jobs form a cycle"), "{what}");
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        for guard in ["facts-of-log", "versions-of-log"] {
            assert!(!passes(TEST, Some(guard)), "without {guard} it is not told");
        }
    }
}

/// Every change can be read and follows those before: only the chain tells.
#[test]
fn a_log_of_another_history_or_graph_is_refused_and_the_version_named() {
    const TEST: &str =
        "design::event_sourced::a_log_of_another_history_or_graph_is_refused_and_the_version_named";
    for kind in KINDS {
        let site = site_with_log(kind);
        site.run_sql(
            "UPDATE changes SET change = replace(change, 'out-4', 'other-4') WHERE version = 4",
        );
        let what = refusal_of_load(&site);
        assert!(what.contains("version 4: the chain of hashes breaks"), "{what}");

        let site = site_with_log(kind);
        let node = node_of(&site, &ES_OPTIMISTIC);
        node.create_graph_and_wait(&name("other")).unwrap();
        for n in 1..=5 {
            let put = changeset([put_dataset(&format!("d{n}"))]);
            node.write_and_wait(&name("other"), put).unwrap();
        }
        drop(node);
        let id = |graph: &str| format!("(SELECT id FROM graphs WHERE name = '{graph}')");
        site.run_sql(&format!(
            "DELETE FROM changes WHERE graph_id = {0}; \
             UPDATE changes SET graph_id = {0} WHERE graph_id = {1}",
            id(GRAPH),
            id("other")
        ));
        let what = refusal_of_load(&site);
        assert!(what.contains("version 5: the chain of hashes is not that of the graph"), "{what}");
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        assert!(!passes(TEST, Some("chain-of-log")), "without the comparison nothing is found");
    }
}

/// The refusal names what the node serves and how the graph is kept.
#[track_caller]
fn assert_mismatch<T: std::fmt::Debug>(
    outcome: Result<T, Refusal>,
    kept: StorageKind,
    served: &str,
) {
    match outcome {
        Err(Refusal::StorageMismatch { graph, storage, served_by }) => {
            assert_eq!((graph.as_str(), storage, &*served_by), (GRAPH, kept, served));
        }
        other => panic!("{served} on a graph kept as {kept}: {other:?}"),
    }
}

fn key_of(image: Result<Arc<Image>, Refusal>) -> Result<u64, Refusal> {
    image.map(|image| image.key.version)
}

#[test]
fn a_node_refuses_graphs_that_are_kept_as_no_design_of_its_own_has_them() {
    for kind in KINDS {
        for makes in design::ALL {
            let site = Site::on(kind);
            let maker = node_of(&site, makes);
            maker.create_graph_and_wait(&name(GRAPH)).unwrap();
            accepted(&maker, [put_job("j", &["x"], &["y"])]);
            assert_eq!(site.head().storage, makes.storage);
            for design in design::ALL.iter().filter(|design| design.storage != makes.storage) {
                let node = node_of(&site, design);
                assert_mismatch(
                    key_of(node.read_and_wait(&name(GRAPH))),
                    makes.storage,
                    design.name,
                );
                assert_mismatch(write(&node, [put_dataset("d")]), makes.storage, design.name);
                let created = node.create_graph_and_wait(&name(GRAPH));
                assert_mismatch(created, makes.storage, design.name);
            }
            // One of that storage works on it beside the maker.
            for design in design::ALL.iter().filter(|design| design.storage == makes.storage) {
                let node = node_of(&site, design);
                if design.has_leader() && makes.has_leader() {
                    let refused = write(&node, [put_dataset(design.name)]).unwrap_err();
                    assert!(matches!(refused, Refusal::LedElsewhere { .. }), "{refused:?}");
                    continue;
                }
                accepted(&node, [put_dataset(design.name)]);
                accepted(&maker, [delete_dataset(design.name)]);
            }
            audit_mixed(&site);
        }
    }
}

#[test]
fn a_node_of_several_designs_serves_each_graph_by_the_one_of_its_storage() {
    for kind in KINDS {
        let site = Site::on(kind);
        node_of(&site, &ES_LOCKED).create_graph_and_wait(&name("log")).unwrap();
        node_of(&site, &CRUD_OPTIMISTIC).create_graph_and_wait(&name("rows")).unwrap();
        for designs in [[&CRUD, &ES_OPTIMISTIC], [&ES_LOCKED, &CRUD_DELTA]] {
            let node = node_of_all(&site, &designs.map(|design| design as &'static Design));
            for (graph, storage) in [("log", StorageKind::Log), ("rows", StorageKind::Rows)] {
                node.create_graph_and_wait(&name(graph)).unwrap();
                let put = changeset([put_dataset(designs[0].name)]);
                node.write_and_wait(&name(graph), put).unwrap();
                assert_eq!(node.read_and_wait(&name(graph)).unwrap().storage, storage);
            }
            let new = name(&format!("new by {}", designs[0]));
            node.create_graph_and_wait(&new).unwrap();
            assert_eq!(node.read_and_wait(&new).unwrap().storage, designs[0].storage);
        }
        let two = NodeOptions { design: &CRUD, other_designs: vec![&CRUD_DELTA], ..site.options() };
        assert!(matches!(node::open(&two).err(), Some(NodeError::OneStorageTwice(_))));
    }
}

/// All take turns by one lock, and the costs of `crud-naive` are those of a lock for each request.
#[test]
fn the_lock_is_kept_unless_one_of_the_designs_takes_it_for_each_request() {
    for (designs, is_kept) in [
        ([&CRUD, &ES_LOCKED], true),
        ([&CRUD_DELTA, &CRUD_PLAIN], true),
        ([&ES_LOCKED, &CRUD_OPTIMISTIC], true),
        ([&ES_LOCKED, &CRUD_NAIVE], false),
        ([&CRUD_NAIVE, &ES_OPTIMISTIC], false),
    ] {
        let designs = Designs::new(designs[0], [designs[1]]).unwrap();
        assert_eq!((designs.take_lock(), designs.keep_lock()), (true, is_kept), "{designs}");
    }
}

/// The graph is deleted and created again in another storage by other nodes, behind the back of a
/// node that has its image.
#[test]
fn a_graph_that_is_created_again_in_another_storage_is_followed_or_refused() {
    for kind in KINDS {
        for [before, after] in [
            [&CRUD, &ES_OPTIMISTIC],
            [&CRUD_OPTIMISTIC, &ES_LOCKED],
            [&ES_OPTIMISTIC, &CRUD],
            [&ES_LOCKED, &CRUD_DELTA],
        ] {
            let site = Site::on(kind);
            let (old, new) = (node_of(&site, before), node_of(&site, after));
            let both = node_of_all(&site, &[before, after]);
            old.create_graph_and_wait(&name(GRAPH)).unwrap();
            accepted(&old, [put_job("old", &["x"], &["y"])]);
            accepted(&both, [put_dataset("d")]);
            both.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
            // What is deleted is not there, whoever could have served it.
            let not_found = Err(Refusal::GraphNotFound { graph: name(GRAPH) });
            assert_eq!(key_of(new.read_and_wait(&name(GRAPH))), not_found);
            new.create_graph_and_wait(&name(GRAPH)).unwrap();
            // At the version at which it was deleted, of which a node may have an image.
            let image = both.read_and_wait(&name(GRAPH)).unwrap();
            assert_eq!((image.key.version, image.storage), (3, after.storage));
            accepted(&new, [put_job("new", &["y"], &["x"])]);
            assert_mismatch(write(&old, [put_dataset("stale")]), after.storage, before.name);
            assert_mismatch(key_of(old.read_and_wait(&name(GRAPH))), after.storage, before.name);
            // The rules hold against the graph as it is now.
            accepted(&both, [put_job("old", &[], &["y"])]);
            let image = both.read_and_wait(&name(GRAPH)).unwrap();
            assert_eq!((image.key.version, image.storage), (5, after.storage));
            assert_eq!(rejected(&new, [delete_job("absent")]).1, 5);
            assert_eq!(image.graph.digest(), audit_mixed(&site).digest);
            assert_eq!(site.head().storage, after.storage);
        }
    }
}

/// A log in which no change ever was cannot be all that there is of a graph, and no history beside
/// rows either.
#[test]
fn a_graph_is_created_again_only_in_a_storage_in_which_its_log_can_go_on() {
    for kind in KINDS {
        for (before, after) in [(&CRUD_PLAIN, &ES_LOCKED), (&CRUD_PLAIN, &CRUD)] {
            let site = Site::on(kind);
            let (old, new) = (node_of(&site, before), node_of(&site, after));
            old.create_graph_and_wait(&name(GRAPH)).unwrap();
            accepted(&old, [put_job("old", &["x"], &["y"])]);
            accepted(&old, [put_dataset("d")]);
            old.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
            let created = new.create_graph_and_wait(&name(GRAPH)).map(|accepted| accepted.version);
            assert_mismatch(created, before.storage, after.name);
            // What the mismatch says to do.
            let both = node_of_all(&site, &[after, before]);
            both.create_graph_and_wait(&name(GRAPH)).unwrap();
            assert_eq!(site.head().storage, before.storage, "{after} after {before}");
            assert_eq!(accepted(&both, [put_job("new", &["x"], &["y"])]), 4);
            assert_eq!(site.store().load(&name(GRAPH)).unwrap().unwrap().1.job_count(), 1);
        }
    }
}

/// What the comparison of the storage is for: a node that takes a graph for one of rows, as if it
/// did not know that there is anything else, would load rows that are not the graph's, and write
/// what it decided on them.
#[test]
fn whoever_takes_a_graph_for_one_of_another_storage_writes_nothing() {
    const TEST: &str =
        "design::event_sourced::whoever_takes_a_graph_for_one_of_another_storage_writes_nothing";
    for kind in KINDS {
        for [kept, taken_for] in [[&ES_LOCKED, &CRUD_OPTIMISTIC], [&CRUD, &ES_OPTIMISTIC]] {
            let site = Site::on(kind);
            let node = node_of(&site, kept);
            node.create_graph_and_wait(&name(GRAPH)).unwrap();
            accepted(&node, [put_job("j", &["x"], &["y"])]);
            let before = audit(&site).digest;
            let mistaken = Server::start({
                let mut command = site.fencepost(&SERVE);
                let off = std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default();
                let off = [&*off, "storage-of-graph=off"].join(",");
                command.args(["--design", taken_for.name]).env("FENCEPOST_FAILPOINTS", off);
                command
            });
            // Legal only on a graph without the job.
            let answer = mistaken.put_job("other", &["y"], &["x"]).unwrap();
            assert_ne!(answer.status, 201, "{kept} taken for {taken_for}: {}", answer.body);
            assert_eq!(audit(&site).digest, before);
        }
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        assert!(!passes(TEST, Some("storage-comparison")), "without it the write goes through");
    }
}

/// There are rows, of an earlier version: a graph of rows that somebody has made one of its log,
/// and that was moved on there. Whoever knows only rows would load them, and stamp them with the
/// version that the graph has.
#[test]
fn rows_that_a_log_has_left_behind_are_never_loaded() {
    const TEST: &str = "design::event_sourced::rows_that_a_log_has_left_behind_are_never_loaded";
    for kind in KINDS {
        for reader in [&CRUD, &CRUD_DELTA, &CRUD_OPTIMISTIC, &CRUD_NAIVE] {
            let site = Site::on(kind);
            let before = node_of(&site, reader);
            before.create_graph_and_wait(&name(GRAPH)).unwrap();
            accepted(&before, [put_job("first", &["x"], &["y"])]);
            site.run_sql("UPDATE graphs SET storage = 'log', known_version = version");
            let by_log = node_of(&site, &ES_LOCKED);
            assert_eq!(accepted(&by_log, [put_job("second", &["y"], &["z"])]), 2);
            assert_eq!(count(&site, "jobs"), 1, "the rows are those of version 1");
            // One that has an image of version 1, and one that has none.
            for node in [&before, &node_of(&site, reader)] {
                assert_mismatch(
                    key_of(node.read_and_wait(&name(GRAPH))),
                    StorageKind::Log,
                    reader.name,
                );
                let stale = write(node, [put_job("third", &["z"], &["x"])]);
                assert_mismatch(stale, StorageKind::Log, reader.name);
            }
            let head = site.head();
            assert_eq!(
                (head.version, head.storage, count(&site, "jobs")),
                (2, StorageKind::Log, 1)
            );
            let image = by_log.read_and_wait(&name(GRAPH)).unwrap();
            assert_eq!((image.key, image.graph.job_count()), (head.key(), 2));
        }
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        assert!(!passes(TEST, Some("storage-of-graph")), "without it the rows are loaded");
    }
}

#[test]
fn twins_of_rows_and_log_are_equal_at_every_version() {
    for (kind, seeds) in [(Kind::Sqlite, 0..6), (Kind::Postgres, 6..8)] {
        for seed in seeds {
            let twins = [&CRUD_DELTA, &ES_OPTIMISTIC].map(|design: &'static Design| {
                let site = Site::on(kind);
                let node = node_of(&site, design);
                node.create_graph_and_wait(&name(GRAPH)).unwrap();
                history(&node, seed, 120);
                if seed % 2 == 0 {
                    node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
                    node.create_graph_and_wait(&name(GRAPH)).unwrap();
                    history(&node, seed + 100, 60);
                }
                site
            });
            let stores = twins.each_ref().map(Site::store);
            let heads = twins.each_ref().map(Site::head);
            assert_eq!(heads[0].chain, heads[1].chain);
            for version in 0..=heads[0].version {
                let [rows, log] = stores.each_ref().map(|store| {
                    let past = graph_at(store, &name(GRAPH), version).unwrap();
                    (past.graph.digest(), past.chain)
                });
                assert_eq!(rows, log, "seed {seed}, version {version}");
            }
            let [rows, log] =
                stores.each_ref().map(|store| store.load(&name(GRAPH)).unwrap().unwrap());
            assert_eq!(rows.1.digest(), log.1.digest());
            assert_eq!(rows.1.memory_bytes(), log.1.memory_bytes());
        }
    }
}

/// What each has stored after each write: rows on the one side, nothing but the log on the other.
fn twins_agree_after_every_write(kind: Kind, seed: u64) {
    let twins = [&CRUD_DELTA, &ES_LOCKED].map(|design: &'static Design| {
        let site = Site::on(kind);
        let node = node_of(&site, design);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        let store = site.store();
        (site, node, store)
    });
    let mut choices = Choices(seed);
    for number in 0..40 {
        let asked = match number {
            25 => delete_graph(),
            _ => changeset(step(&mut choices)),
        };
        let told = twins.each_ref().map(|(_, node, _)| {
            let told = node.write_and_wait(&name(GRAPH), asked.clone());
            if number == 25 {
                node.create_graph_and_wait(&name(GRAPH)).unwrap();
            }
            told
        });
        assert_eq!(told[0], told[1], "seed {seed}, write {number}");
        let [rows, log] = twins.each_ref().map(|(_, node, store)| {
            let (head, graph) = store.load(&name(GRAPH)).unwrap().unwrap();
            let image = node.read_and_wait(&name(GRAPH)).unwrap();
            let ids: Vec<_> = graph
                .jobs_from(Bound::Unbounded)
                .map(|job| (job.id(), job.name().clone(), job.version()))
                .collect();
            assert_eq!((image.key, image.graph.digest()), (head.key(), graph.digest()));
            (head.version, head.chain, graph.digest(), ids, graph.memory_bytes())
        });
        assert_eq!(rows, log, "seed {seed}, after write {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn twins_of_rows_and_log_have_stored_the_same_graph_after_every_write(seed in any::<u64>()) {
        twins_agree_after_every_write(Kind::Sqlite, seed);
    }
}

#[test]
fn twins_of_rows_and_log_have_stored_the_same_graph_after_every_write_on_postgres() {
    (0..2).for_each(|seed| twins_agree_after_every_write(Kind::Postgres, seed));
}

/// Writes the log of [`GRAPH`] on to that version, as its nodes would.
fn lengthen(site: &Site, to: u64) {
    let head = site.head();
    let mut chain = head.chain;
    let bytes = |chain: &Chain| match site.sql() {
        Sql::Sqlite(_) => format!("X'{}'", hex(&chain.0)),
        Sql::Postgres(_) => format!("'\\x{}'::bytea", hex(&chain.0)),
    };
    let versions: Vec<u64> = (head.version + 1..=to).collect();
    for some in versions.chunks(1_000) {
        let row = |version: &u64| {
            let fact =
                format!(r#"{{"fact":"dataset_declared","metadata":{{}},"name":"d{version}"}}"#);
            let change = format!(r#"{{"facts":[{fact}],"version":{version}}}"#);
            chain = chain.next(&change);
            format!("({}, {version}, '{change}', {}, 'a', 0, 0)", head.id, bytes(&chain))
        };
        let rows: Vec<String> = some.iter().map(row).collect();
        site.run_sql(&format!(
            "INSERT INTO changes \
             (graph_id, version, change, chain, attempt, token, committed_at_ms) VALUES {}",
            rows.join(", ")
        ));
    }
    site.run_sql(&format!(
        "UPDATE graphs SET version = {to}, known_version = {to}, chain = {} WHERE id = {}",
        bytes(&chain),
        head.id
    ));
}

/// Where a load is a replay, an image is followed for as long as that is less work: beyond the
/// 16,384 versions after which a graph of rows is loaded again, but not over half of its log, or of
/// what came after its newest snapshot.
#[test]
fn an_image_that_is_far_behind_follows_a_log_for_as_long_as_a_replay_would_cost_more() {
    let site = Site::new();
    let [near, far] = [(); 2].map(|()| node_of(&site, &ES_OPTIMISTIC));
    near.create_graph_and_wait(&name(GRAPH)).unwrap();
    let read = |node: &Service| {
        let image = node.read_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(image.graph.dataset_count() as u64, image.key.version);
        let metrics = node.metrics();
        (image.key.version, metrics.image_loads.get(), metrics.image_catch_ups.get())
    };
    lengthen(&site, 10);
    assert_eq!(read(&far), (10, 1, 0));
    lengthen(&site, 16_400);
    assert_eq!(read(&near), (16_400, 1, 0));
    assert_eq!(read(&far), (16_400, 2, 0), "most of the log is new");
    lengthen(&site, 32_800);
    assert_eq!(read(&near), (32_800, 1, 1), "no more than half of the log is new");
    assert_eq!(near.metrics().changes_applied.get(), 16_400);
    assert_eq!(accepted(&near, [put_dataset("one more")]), 32_801);
    assert_eq!(read(&near).0, 32_801);
    lengthen(&site, 49_300);
    take_snapshot(&site.store(), &name(GRAPH)).unwrap();
    assert_eq!(read(&near), (49_300, 2, 1), "a snapshot is nearer than the image");
}

/// The log is longer than what a reader hands over at once, and than a page.
#[test]
fn a_long_log_is_replayed() {
    for kind in KINDS {
        let site = Site::on(kind);
        let node = node_of(&site, &ES_OPTIMISTIC);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        let writes = (0..2_500).map(|n| {
            let job = format!("job-{}", n % 700);
            changeset([put_job(&job, &[&format!("in-{n}")], &[&format!("out-{job}")])])
        });
        for some in writes.collect::<Vec<_>>().chunks(500) {
            assert!(verdicts(in_line(&node, GRAPH, some.to_vec())).iter().all(Result::is_ok));
        }
        let image = node.read_and_wait(&name(GRAPH)).unwrap();
        let (head, loaded) = site.store().load(&name(GRAPH)).unwrap().unwrap();
        assert_eq!((head.key(), loaded.digest()), (image.key, image.graph.digest()));
        // The thread that replays finds the damage, and no other does.
        site.run_sql("UPDATE changes SET change = '{}' WHERE version = 1500");
        let what = refusal_of_load(&site);
        assert!(what.contains("version 1500: "), "{what}");
    }
}

/// It is all that there is, as long as no snapshot stands in for its beginning.
#[test]
fn without_a_snapshot_nothing_is_pruned_of_a_log_that_is_the_graph_and_it_has_no_rows_to_check() {
    for kind in KINDS {
        let site = site_with_log(kind);
        let store = site.store();
        let pruned = prune(&store, &name(GRAPH), 3);
        assert!(matches!(pruned, Err(PruneError::NoSnapshot { .. })), "{pruned:?}");
        let checked = check_rows(&store, &name(GRAPH), &mut |_| {});
        assert!(matches!(checked, Err(PastError::NotRows { .. })), "{checked:?}");
        assert_eq!((site.head().oldest, count(&site, "changes")), (1, 5));
    }
}

/// The graph may be created again, in another storage, after the look with which pruning begins.
#[test]
fn a_log_that_may_break_the_rules_is_not_pruned_without_the_first_look_either() {
    in_child(
        concat!(
            module_path!(),
            "::a_log_that_may_break_the_rules_is_not_pruned_without_the_first_look_either"
        ),
        "prune-looks-first=off",
        || {
            for kind in KINDS {
                let site = site_with_log(kind);
                site.run_sql("UPDATE graphs SET storage = 'log_unchecked'");
                let pruned = prune(&site.store(), &name(GRAPH), 3);
                assert!(matches!(pruned, Err(PruneError::NotPrunable { .. })), "{pruned:?}");
                assert_eq!((site.head().oldest, count(&site, "changes")), (1, 5));
            }
        },
    );
}

/// An older program would take the graph for an empty one.
#[test]
fn the_migration_is_not_reverted_while_a_graph_is_kept_by_its_log() {
    for kind in KINDS {
        let site = site_with_log(kind);
        let (code, said) = finish(site.fencepost(&["migrate", "--revert", "4"]));
        assert!(code == Some(1) && said.contains("is not kept as rows"), "{code:?} {said}");
        let node = node_of(&site, &ES_OPTIMISTIC);
        accepted(&node, [put_dataset("d")]);
        node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        drop(node);
        // Its versions go on, as rows.
        for arguments in [&["migrate", "--revert", "4"][..], &["migrate"]] {
            let (code, said) = finish(site.fencepost(arguments));
            assert_eq!(code, Some(0), "{said}");
        }
        let node = node_of(&site, &CRUD);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(accepted(&node, [put_dataset("d")]), 8);
        audit_mixed(&site);
    }
}

#[test]
fn over_http_a_graph_tells_its_storage_and_a_mismatch_what_to_do() {
    let site = site_with_log(Kind::of_this_run());
    let path = format!("/v1/graphs/{GRAPH}");
    let crud = site.serve();
    for path in [path.clone(), format!("{path}/jobs"), format!("{path}/digest")] {
        let refused = crud.get(&path).unwrap();
        assert_eq!(refused.status, 409, "{}", refused.body);
        assert_eq!(refused.body["type"], "urn:fencepost:problem:storage_mismatch");
        assert_eq!(
            (&refused.body["storage"], &refused.body["design"]),
            (&"log".into(), &"crud".into())
        );
        assert!(refused.body["detail"].as_str().unwrap().contains("--design"), "{}", refused.body);
    }
    let refused = crud.put_job("j", &[], &[]).unwrap();
    assert_eq!(refused.body["type"], "urn:fencepost:problem:storage_mismatch");
    // The log is the same for all: whoever follows it needs no graph.
    assert_eq!(crud.get(&format!("{path}/changes")).unwrap().status, 200);
    drop(crud);
    let mut command = site.fencepost(&SERVE);
    command.args(["--design", "crud,es-locked"]);
    let both = Server::start(command);
    assert_eq!(both.get(&path).unwrap().body["storage"], "log");
    assert_eq!(both.put_job("j", &[], &[]).unwrap().status, 201);
    for arguments in
        [&["--design", "crud,crud-delta"][..], &["--design", "es-locked,es-optimistic"]]
    {
        let (code, said) = finish(site.fencepost(&[&SERVE[..], arguments].concat()));
        assert!(code == Some(2) && said.contains("one design for each storage"), "{code:?} {said}");
    }
}

/// Whatever `--design` says or does not say.
#[test]
fn commands_follow_the_graph() {
    let site = site_with_log(Kind::of_this_run());
    let jobs = site.path("jobs.ndjson");
    std::fs::write(
        &jobs,
        "{\"name\":\"k\",\"inputs\":[\"out-1\"],\"outputs\":[\"z\"],\"spec\":{}}\n",
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let (code, said) = finish(site.fencepost(arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    };
    let file = jobs.to_str().unwrap();
    run(&["import", "--graph", GRAPH, file]);
    run(&["import", "--graph", GRAPH, "--dry-run", file]);
    run(&["plan", "--graph", GRAPH, "z"]);
    let sink = site.path("log.ndjson");
    let sink = format!("file:{}", sink.display());
    run(&["export", "--graph", GRAPH, "--to", &sink]);
    run(&["verify", "--graph", GRAPH, "--from", &sink]);
    let changes_alone = site.path("changes.ndjson");
    let changes_alone = changes_alone.to_str().unwrap();
    let sink = format!("file:{changes_alone}");
    run(&["export", "--graph", GRAPH, "--to", &sink, "--after", "0"]);
    run(&["log", "--graph", GRAPH]);
    assert_eq!((site.head().storage, site.head().version), (StorageKind::Log, 6));
    // A graph that is not there becomes what the first design has.
    let log = site.path("log.ndjson");
    let log = log.to_str().unwrap();
    run(&["import", "--graph", "as rows", "--format", "events", log]);
    let as_log = |log| {
        site.fencepost(&[
            "import",
            "--graph",
            "as log",
            "--format",
            "events",
            "--design",
            "es-optimistic",
            log,
        ])
    };
    let (code, said) = finish(as_log(log));
    assert!(code == Some(1) && said.contains("begins with a snapshot"), "{code:?} {said}");
    let (code, said) = finish(as_log(changes_alone));
    assert_eq!(code, Some(0), "{said}");
    run(&["import", "--graph", "new log", "--design", "es-locked,crud", file]);
    let store = site.store();
    for (graph, storage) in [
        ("as rows", StorageKind::Rows),
        ("as log", StorageKind::Log),
        ("new log", StorageKind::Log),
    ] {
        assert_eq!(store.head(&name(graph)).unwrap().unwrap().storage, storage);
    }
    let digest = |graph: &str| store.load(&name(graph)).unwrap().unwrap().1.digest();
    assert_eq!(digest("as rows"), digest(GRAPH));
    assert_eq!(digest("as log"), digest(GRAPH));
    for (command, told) in [
        (&["check-rows", "--graph", GRAPH][..], "only one that is kept as rows"),
        (&["prune", "--graph", GRAPH, "--before", "3"], "fencepost snapshot take --graph g"),
    ] {
        let (code, said) = finish(site.fencepost(command));
        assert!(code == Some(1) && said.contains(told), "{code:?} {said}");
    }
}

/// Whatever `--design` names, by accident or not: a graph is taken as it is kept, or refused, and
/// is kept so afterwards.
#[test]
fn commands_with_a_design_of_another_storage_take_the_graph_as_it_is_kept() {
    for (kept, named) in [
        (&CRUD, "es-optimistic"),
        (&CRUD, "crud-plain"),
        (&CRUD_PLAIN, "es-locked"),
        (&CRUD_PLAIN, "crud"),
        (&ES_LOCKED, "crud"),
        (&ES_OPTIMISTIC, "crud-plain"),
        (&ES_OPTIMISTIC, "es-unchecked"),
    ] {
        let site = Site::with_graph_of(Kind::of_this_run(), kept);
        let run = |arguments: &[&str]| {
            let (code, said) = finish(site.fencepost(&[&["--design", named], arguments].concat()));
            assert_eq!(site.head().storage, kept.storage, "{named} on {kept}: {arguments:?}");
            (code, said)
        };
        let done = |arguments: &[&str]| {
            let (code, said) = run(arguments);
            assert_eq!(code, Some(0), "{named} on {kept}: {arguments:?}: {said}");
            said
        };
        let refused = |arguments: &[&str], why: &str| {
            let (code, said) = run(arguments);
            assert!(
                code == Some(1) && said.contains(why),
                "{named} on {kept}: {arguments:?}: {code:?} {said}"
            );
        };
        let (is_rows, has_log) =
            (kept.storage == StorageKind::Rows, kept.storage != StorageKind::RowsPlain);

        let jobs = site.path("jobs.ndjson");
        std::fs::write(&jobs, "{\"name\":\"p/j\",\"inputs\":[\"first\"],\"outputs\":[\"z\"]}\n")
            .unwrap();
        let jobs = jobs.to_str().unwrap();
        done(&["import", "--graph", GRAPH, "--dry-run", jobs]);
        assert!(done(&["import", "--graph", GRAPH, jobs]).contains("now version 2"));
        done(&["import", "--graph", GRAPH, "--sync", "p/", jobs]);
        assert!(done(&["plan", "--graph", GRAPH, "z"]).contains("p/j"));

        // A node with the design that was named serves nothing of it, and the driver stops.
        let history = site.path("history");
        let drive = ["bench", "drive", "--graph", GRAPH, "--workload", "conflict"];
        let few = ["--requests", "20", "--history", history.to_str().unwrap()];
        let (code, said) = run(&[&drive[..], &few].concat());
        assert!(code == Some(1) && said.contains("storage_mismatch"), "{code:?} {said}");
        let mut command = site.fencepost(&SERVE);
        command.args(["--design", kept.name]);
        let server = Server::start(command);
        // A driver of servers takes no design: they have one.
        let served = [&drive[..], &few, &["--url", &server.base]].concat();
        let (code, said) = finish(site.fencepost(&served));
        assert_eq!(code, Some(0), "{named} on {kept}: {said}");
        match has_log {
            true => drop(done(&["check", "--stored", history.to_str().unwrap()])),
            false => refused(&["check", "--stored", history.to_str().unwrap()], "has no log"),
        }
        drop(server);

        let sink = site.path("log.ndjson");
        let sink = format!("file:{}", sink.display());
        let version = site.head().version.to_string();
        done(&["consumer", "ack", "--graph", GRAPH, "--name", "c", "--version", &version]);
        done(&["export", "--graph", GRAPH, "--to", &sink]);
        done(&["verify", "--graph", GRAPH, "--from", &sink, "--complete"]);
        match is_rows {
            true => drop(done(&["check-rows", "--graph", GRAPH])),
            false => refused(&["check-rows", "--graph", GRAPH], "only one that is kept as rows"),
        }
        let before = audit_mixed(&site);
        assert!(done(&["freeze", "--graph", GRAPH, "--sink", &sink]).contains(&before.digest));
        done(&["thaw", "--graph", GRAPH]);
        done(&["lock", "inspect", "--graph", GRAPH]);
        assert_eq!(audit_mixed(&site).version, before.version);
        // The log begins later from here on, if something stands in for its beginning.
        let prune = ["prune", "--graph", GRAPH, "--before", "2"];
        match kept.storage {
            StorageKind::Rows => drop(done(&prune)),
            StorageKind::Log => {
                refused(&prune, "fencepost snapshot take --graph g");
                let taken = done(&["snapshot", "take", "--graph", GRAPH]);
                assert!(taken.contains(&format!("at version {version}, of ")), "{taken}");
                let listed = done(&["snapshot", "list", "--graph", GRAPH]);
                assert!(listed.starts_with(&format!("{version}\t")), "{listed}");
                assert!(listed.contains(&before.digest), "{listed}");
                done(&["snapshot", "drop", "--graph", GRAPH]);
                assert_eq!(done(&["snapshot", "list", "--graph", GRAPH]), "");
            }
            _ => {
                refused(&prune, "can be pruned");
                refused(&["snapshot", "take", "--graph", GRAPH], "not loaded from snapshots");
            }
        }
        if !is_rows {
            refused(&["migrate", "--revert", "4"], "is not kept as rows");
        }
    }
}
