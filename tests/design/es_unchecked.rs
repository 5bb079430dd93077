//! `es-unchecked`, broken on purpose: two requests that were decided on one version are both
//! appended. What they were told is true but for the rules, and whoever reads further is told at
//! which version they were broken.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use fencepost::archive::{PastError, PruneError, check_rows, graph_at, prune};
use fencepost::design::crud::CRUD;
use fencepost::design::es_locked::ES_LOCKED;
use fencepost::design::es_optimistic::ES_OPTIMISTIC;
use fencepost::design::es_unchecked::ES_UNCHECKED;
use fencepost::design::{Design, TurnLimits};
use fencepost::graph::{Rejection, Side};
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Refusal, Service, Verdict, Write};
use fencepost::store::StorageKind;

use crate::support::ask::{
    accepted, add, changeset, delete_graph, delete_job, in_line, keyed, put_dataset, put_job,
    rejected, verdicts, write,
};
use crate::support::cluster::{
    GRAPH, Kind, LIMIT, SERVE, Server, Site, finish, name, start_without_lock,
};
use crate::support::stages::{self, Interrupted};
use crate::support::storm::audit;

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

fn node_of(site: &Site, design: &'static Design) -> Service {
    node::open(&NodeOptions { design, ..site.options() }).unwrap()
}

/// A node that can be held up, and the graph.
fn held_up_node(site: &Site) -> (Interrupted, Service) {
    let store = Interrupted::new(site.open_database());
    let (limits, turn_limits) = (Limits::default(), TurnLimits::default());
    let node = start_without_lock(&ES_UNCHECKED, Arc::clone(&store.store), limits, turn_limits);
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    (store, node)
}

/// Asks for `slow`, and while it is decided and not yet appended, does all of `meanwhile`.
fn beside(store: &Interrupted, node: &Service, slow: Write, meanwhile: impl FnOnce()) -> Verdict {
    let (reached, is_reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    stages::set(&store.before_commit, move || {
        reached.send(()).unwrap();
        may_go_on.recv_timeout(LIMIT).unwrap();
    });
    let waiting: Vec<Receiver<Verdict>> = in_line(node, GRAPH, [slow]);
    is_reached.recv_timeout(LIMIT).unwrap();
    meanwhile();
    go_on.send(()).unwrap();
    verdicts(waiting).remove(0)
}

/// Versions 1 to 4, of which the third is the first to break a rule: it closes a cycle.
fn cyclic(site: &Site) -> (Interrupted, Service) {
    let (store, node) = held_up_node(site);
    accepted(&node, [put_dataset("d")]);
    let slow = changeset([put_job("slow", &["x"], &["y"])]);
    let told = beside(&store, &node, slow, || {
        assert_eq!(accepted(&node, [put_job("quick", &["y"], &["x"])]), 2);
    });
    let told = told.unwrap();
    assert_eq!((told.version, told.subject_version), (3, Some(3)));
    assert_eq!(accepted(&node, [put_job("after", &["y"], &["z"])]), 4);
    (store, node)
}

#[track_caller]
fn assert_illegal<T: std::fmt::Debug>(outcome: Result<T, Refusal>, version: u64) -> String {
    match outcome {
        Err(Refusal::Internal { what }) => {
            let told = format!("breaks a rule from version {version} on");
            assert!(what.contains(&told), "{what}");
            what
        }
        other => panic!("it was served: {other:?}"),
    }
}

fn version_read(node: &Service) -> Result<u64, Refusal> {
    node.read_and_wait(&name(GRAPH)).map(|image| image.key.version)
}

#[test]
fn two_writers_of_one_version_close_a_cycle_and_reads_name_its_version() {
    for kind in KINDS {
        let site = Site::on(kind);
        let (_store, node) = cyclic(&site);
        let what = assert_illegal(version_read(&node), 3);
        assert!(what.contains("quick -> x -> slow -> y -> quick"), "{what}");
        // It goes on taking writes, of which some are rejected.
        assert_eq!(accepted(&node, [put_dataset("e")]), 5);
        assert_eq!(rejected(&node, [delete_job("absent")]).1, 5);
        let (rejection, _) = rejected(&node, [put_job("own", &["w"], &["w"])]);
        assert!(matches!(rejection, Rejection::Cycle { .. }), "{rejection:?}");
        assert_eq!(accepted(&node, [add(Side::Input, "after", "d")]), 6);
        // Whoever has to load the graph refuses writes too.
        let other = node_of(&site, &ES_UNCHECKED);
        assert_illegal(version_read(&other), 3);
        assert_illegal(write(&other, [put_dataset("f")]), 3);
        // The cycle goes, and what is read was decided on it all the same.
        assert_eq!(accepted(&node, [delete_job("slow")]), 7);
        assert_illegal(version_read(&node), 3);
        assert_illegal(version_read(&node_of(&site, &ES_UNCHECKED)), 3);
    }
}

#[test]
fn two_writers_of_one_version_give_a_dataset_two_producers() {
    for kind in KINDS {
        let site = Site::on(kind);
        let (store, node) = held_up_node(&site);
        // A node that only follows.
        let other = node_of(&site, &ES_UNCHECKED);
        assert_eq!(version_read(&other), Ok(0));
        let slow = changeset([put_job("slow", &["x"], &["z"])]);
        let told = beside(&store, &node, slow, || {
            assert_eq!(accepted(&node, [put_job("quick", &["y"], &["z"])]), 1);
        });
        assert_eq!(told.map(|told| told.version), Ok(2));
        for node in [&node, &other, &node_of(&site, &ES_UNCHECKED)] {
            let what = assert_illegal(version_read(node), 2);
            assert!(what.contains("dataset `z` has a producer already"), "{what}");
        }
        // Nobody falls over what is left of them.
        for job in ["quick", "slow"] {
            accepted(&node, [delete_job(job)]);
        }
        assert_eq!(rejected(&node, [delete_job("slow")]).1, 4);
    }
}

/// The versions are those that the log has, whatever it was decided on; what is kept under a key
/// tells the same. The log is dense, and its chain of hashes right.
#[test]
fn what_comes_later_than_it_was_decided_is_told_at_which_version() {
    for kind in KINDS {
        let site = Site::on(kind);
        let (store, node) = held_up_node(&site);
        let slow = keyed(changeset([put_job("slow", &["x"], &[])]), "key", "f");
        let told = beside(&store, &node, slow.clone(), || {
            for n in 1..=5 {
                assert_eq!(accepted(&node, [put_dataset(&format!("d{n}"))]), n);
            }
        });
        assert_eq!(told.as_ref().map(|told| told.version), Ok(6));
        for node in [&node, &node_of(&site, &ES_UNCHECKED)] {
            assert_eq!(node.write_and_wait(&name(GRAPH), slow.clone()), told);
            let image = node.read_and_wait(&name(GRAPH)).unwrap();
            assert_eq!(image.graph.job("slow").unwrap().version(), 6);
        }
        assert_eq!(audit(&site).version, 6);
        // A key that another used meanwhile: nothing is written twice.
        let twice = keyed(changeset([put_dataset("twice")]), "other key", "f");
        let told = beside(&store, &node, twice.clone(), || {
            let first = node.write_and_wait(&name(GRAPH), twice.clone());
            assert_eq!(first.map(|told| told.version), Ok(7));
        });
        assert_eq!(told.map(|told| told.version), Ok(7));
        assert_eq!(audit(&site).version, 7);
    }
}

/// What an append compares of the graph: all but its version.
#[test]
fn an_append_to_a_graph_that_is_gone_or_frozen_is_refused() {
    for kind in KINDS {
        let slow = || changeset([put_job("slow", &["x"], &[])]);
        let site = Site::on(kind);
        let (store, node) = held_up_node(&site);
        let told = beside(&store, &node, slow(), || {
            site.store().freeze(&name(GRAPH), None).unwrap();
        });
        assert_eq!(told, Err(Refusal::Frozen { graph: name(GRAPH), moved_to: None }));
        site.store().thaw(&name(GRAPH)).unwrap();
        let told = beside(&store, &node, slow(), || {
            node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        });
        assert_eq!(told, Err(Refusal::GraphNotFound { graph: name(GRAPH) }));
        // Deleted and created again meanwhile, it is the same graph.
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        let told = beside(&store, &node, slow(), || {
            node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
            node.create_graph_and_wait(&name(GRAPH)).unwrap();
        });
        assert_eq!(told.map(|told| told.version), Ok(3));
        assert_eq!(audit(&site).version, 3);
    }
}

/// Whatever reads a log names the version, and does not fall over it.
#[test]
fn whatever_reads_a_log_that_breaks_the_rules_names_the_version() {
    for kind in KINDS {
        let site = Site::on(kind);
        let (_held, _node) = cyclic(&site);
        let store = site.store();
        let loaded = store.load(&name(GRAPH)).map(|_| ()).unwrap_err().to_string();
        assert!(loaded.contains("breaks a rule from version 3 on"), "{loaded}");
        for version in [0, 1, 2] {
            assert_eq!(graph_at(&store, &name(GRAPH), version).unwrap().graph.version(), version);
        }
        for version in [3, 4] {
            let past = graph_at(&store, &name(GRAPH), version).map(|_| ()).unwrap_err();
            let named = past.to_string().replace("change 3: ", "version 3 on: ");
            assert!(named.contains("version 3 on: "), "{past}");
        }
        let checked = check_rows(&store, &name(GRAPH), &mut |_| {});
        assert!(matches!(checked, Err(PastError::NotRows { .. })), "{checked:?}");
        let pruned = prune(&store, &name(GRAPH), 2);
        assert!(matches!(pruned, Err(PruneError::NotPrunable { .. })), "{pruned:?}");
        // Its changes can be read.
        let (code, said) = finish(site.fencepost(&["log", "--graph", GRAPH]));
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = finish(site.fencepost(&["plan", "--graph", GRAPH, "z"]));
        assert!(code == Some(1) && said.contains("from version 3 on"), "{code:?} {said}");
    }
}

/// It converts to nothing, and nothing converts to it.
#[test]
fn its_graphs_are_neither_exported_nor_frozen_nor_restored() {
    for kind in KINDS {
        let site = Site::with_graph_of(kind, &ES_UNCHECKED);
        let file = site.path("log.ndjson");
        let sink = format!("file:{}", file.display());
        for command in [
            &["export", "--graph", GRAPH, "--to", &sink][..],
            &["export", "--graph", GRAPH, "--to", &sink, "--after", "0"],
            &["export", "--graph", GRAPH, "--to", &sink, "--follow"],
            &["freeze", "--graph", GRAPH],
            &["freeze", "--graph", GRAPH, "--sink", &sink],
        ] {
            let (code, said) = finish(site.fencepost(command));
            assert!(code == Some(1) && said.contains("neither exported nor frozen"), "{said}");
        }
        assert!(!file.exists());
        accepted(&node_of(&site, &ES_UNCHECKED), [put_dataset("it is open")]);

        let from = Site::with_graph_of(kind, &ES_OPTIMISTIC);
        let (code, said) =
            finish(from.fencepost(&["export", "--graph", GRAPH, "--to", &sink, "--after", "0"]));
        assert_eq!(code, Some(0), "{said}");
        let file = file.to_str().unwrap();
        let events = ["import", "--graph", "new", "--format", "events", file];
        let (code, said) =
            finish(site.fencepost(&[&events[..], &["--design", "es-unchecked"]].concat()));
        assert!(code == Some(1) && said.contains("no log is restored"), "{code:?} {said}");
        assert_eq!(site.store().head(&name("new")).unwrap(), None);
    }
}

/// Nor by deleting it and creating it again.
#[test]
fn a_graph_is_not_created_again_across_the_border_between_checked_and_unchecked() {
    for kind in KINDS {
        for (before, after) in [(&ES_UNCHECKED, &CRUD), (&ES_LOCKED, &ES_UNCHECKED)] {
            let site = Site::with_graph_of(kind, before);
            let old = node_of(&site, before);
            old.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
            let created = node_of(&site, after).create_graph_and_wait(&name(GRAPH));
            assert!(
                matches!(created, Err(Refusal::StorageMismatch { storage, .. })
                    if storage == before.storage),
                "{after} after {before}: {created:?}"
            );
            old.create_graph_and_wait(&name(GRAPH)).unwrap();
            assert_eq!(accepted(&old, [put_dataset("again")]), 3);
        }
    }
}

#[test]
fn over_http_every_read_of_such_a_graph_answers_500_with_the_version() {
    let site = Site::new();
    let (_held, _node) = cyclic(&site);
    let mut command = site.fencepost(&SERVE);
    command.args(["--design", "es-unchecked"]);
    let server = Server::start(command);
    let warned = server.wait_for_log(|log| log.contains("broken on purpose"));
    assert!(warned.contains("WARN"), "{warned}");
    let graph = format!("/v1/graphs/{GRAPH}");
    for path in [
        "",
        "/digest",
        "/jobs",
        "/jobs/quick",
        "/jobs/quick/plan",
        "/jobs/quick/upstream",
        "/datasets",
        "/datasets/x",
        "/datasets/x/plan",
        "/datasets/x/downstream",
        "/snapshot",
    ] {
        let answer = server.get(&format!("{graph}{path}")).unwrap();
        assert_eq!(answer.status, 500, "{path}: {}", answer.body);
        assert_eq!(answer.body["type"], "urn:fencepost:problem:internal");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains("breaks a rule from version 3 on"), "{path}: {detail}");
    }
    // The log is what it is, and the evidence.
    let changes = server.get(&format!("{graph}/changes")).unwrap();
    assert_eq!((changes.status, changes.body["items"].as_array().unwrap().len()), (200, 4));
    let other = name("other");
    assert_eq!(server.get("/v1/graphs").unwrap().body["items"][0]["graph"], GRAPH);
    // Another graph is none the worse for it.
    let node = node_of(&site, &ES_UNCHECKED);
    node.create_graph_and_wait(&other).unwrap();
    assert_eq!(server.get("/v1/graphs/other").unwrap().body["storage"], "log_unchecked");
}

/// Where the version is compared, an append that compares none is a fault in the program.
#[test]
#[should_panic(expected = "the version is compared in every other storage")]
fn nothing_is_appended_unchecked_where_the_log_must_keep_the_rules() {
    use fencepost::graph::Graph;
    use fencepost::store::{Commit, Fence};
    let site = Site::with_graph_of(Kind::Sqlite, &ES_OPTIMISTIC);
    let (store, head) = (site.store(), site.head());
    assert_eq!(head.storage, StorageKind::Log);
    let graph = Graph::default();
    let commit = Commit {
        read: &head,
        fence: Fence::Unfenced,
        attempt: "attempt",
        before: &graph,
        after: &graph,
        entries: &[],
        keys: &[],
        answers: &[],
        deletes_graph: false,
    };
    drop(store.append(&commit, &|_| Vec::new()));
}
