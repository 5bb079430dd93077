//! Idempotency keys of requests that race each other: whoever finds, when it writes, that its key
//! was used meanwhile judges again, and answers what is kept.

use std::sync::{Arc, mpsc};

use fencepost::design::TurnLimits;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::{self, Design};
use fencepost::event::{Event, Stream};
use fencepost::import::events;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Accepted, IdempotencyKey, Limits, Refusal, Service, Verdict, Write};
use fencepost::store::StorageKind;

use super::node_held_up;
use crate::support::ask::{
    accepted, changeset, delete_dataset, delete_graph, in_line, keyed, put_dataset, verdicts,
};
use crate::support::cluster::start_optimistic;
use crate::support::cluster::{Client, GRAPH, Kind, LIMIT, Site, name, wait_until};
use crate::support::stages::{Interrupted, is_over, set};
use crate::support::storm::audit;

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// A node of a design, held up where a test wants it, and the graph, at version 1.
fn raced(site: &Site, design: &'static Design) -> (Interrupted, Service) {
    let (store, node) = node_held_up(design, site);
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("first")]);
    (store, node)
}

fn optimistic(site: &Site) -> Service {
    start_optimistic(Arc::new(site.store()), Limits::default(), TurnLimits::default())
}

fn ask(node: &Service, write: Write) -> Verdict {
    node.write_and_wait(&name(GRAPH), write)
}

/// `PUT /graphs/g` with the key.
fn create(node: &Service, key: &str) -> Verdict {
    let key = IdempotencyKey { key: key.to_owned(), fingerprint: "create".to_owned() };
    let (sender, receiver) = mpsc::channel();
    node.create_graph(&name(GRAPH), None, Some(key), move |verdict| drop(sender.send(verdict)));
    receiver.recv_timeout(LIMIT).unwrap()
}

/// It changes nothing: the dataset is there.
fn nothing() -> Write {
    changeset([put_dataset("first")])
}

/// Turns that were judged again because of a key, and graphs that were loaded whole.
fn told(node: &Service) -> (u64, u64) {
    let metrics = node.metrics();
    (metrics.lost_writes.with_label_values(&["key"]).get(), metrics.image_loads.get())
}

const UNCHANGED: Verdict =
    Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) });

/// Neither moves the version, so that both conditional writes hold.
#[test]
fn one_key_on_two_nodes_that_changes_nothing_is_answered_the_same_by_both() {
    for kind in KINDS {
        let site = Site::on(kind);
        let (store, slow) = raced(&site, &CRUD_OPTIMISTIC);
        let quick = optimistic(&site);
        let loads = told(&slow).1;
        set(&store.before_commit, move || {
            assert_eq!(ask(&quick, keyed(nothing(), "k", "f")), UNCHANGED);
        });
        assert_eq!(ask(&slow, keyed(nothing(), "k", "f")), UNCHANGED);
        assert_eq!(told(&slow), (1, loads), "judged again, on the image that it had");
        assert!(is_over(&store.before_commit));
        assert_eq!(audit(&site).version, 1);
    }
}

#[test]
fn a_key_that_another_node_used_meanwhile_for_another_request_is_refused() {
    // What the slow one asks for, and what the quick one does.
    let cases = [
        (nothing(), nothing()),
        (changeset([put_dataset("slow")]), nothing()),
        (nothing(), changeset([put_dataset("quick")])),
        (changeset([put_dataset("slow")]), changeset([put_dataset("quick")])),
        (delete_graph(), nothing()),
        (nothing(), delete_graph()),
    ];
    for kind in KINDS {
        for (mine, theirs) in cases.clone() {
            let site = Site::on(kind);
            let (store, slow) = raced(&site, &CRUD_OPTIMISTIC);
            let quick = optimistic(&site);
            let them = keyed(theirs.clone(), "k", "theirs");
            set(&store.before_commit, move || {
                ask(&quick, them).unwrap();
            });
            let verdict = ask(&slow, keyed(mine.clone(), "k", "mine"));
            assert_eq!(verdict, Err(Refusal::KeyReused), "{mine:?} and {theirs:?}");
            let changed = audit(&site).log.iter().any(|logged| logged.text.contains("slow"));
            assert!(!changed, "what was refused is in the log");
        }
    }
}

/// Creating a graph takes no turn, whatever the design.
#[test]
fn a_graph_that_is_created_with_a_key_beside_a_turn_with_the_same_key_keeps_it() {
    for kind in KINDS {
        for &design in design::ALL {
            for write in [nothing(), changeset([put_dataset("second")]), delete_graph()] {
                let site = Site::on(kind);
                let (store, node) = raced(&site, design);
                let creator = node::open(&NodeOptions { design, ..site.options() }).unwrap();
                let loads = told(&node).1;
                set(&store.before_commit, move || assert_eq!(create(&creator, "k"), UNCHANGED));
                let verdict = ask(&node, keyed(write.clone(), "k", "f"));
                assert_eq!(verdict, Err(Refusal::KeyReused), "{design} on {kind:?}: {write:?}");
                let kept =
                    told(&node).1 - loads <= if design.refresh.keeps_images() { 0 } else { 2 };
                assert!(kept, "{design}: an image was thrown away");
                assert_eq!((told(&node).0, audit(&site).version), (1, 1), "{design}");
                // And the other way round: the turn was first.
                assert!(ask(&node, keyed(nothing(), "l", "f")).is_ok());
                assert_eq!(create(&node, "l"), Err(Refusal::KeyReused));
                assert_eq!(create(&node, "k"), UNCHANGED);
            }
        }
    }
}

/// Of a batch, all are judged again, and each has its own verdict.
#[test]
fn neighbours_of_a_request_whose_key_was_used_meanwhile_do_not_suffer() {
    for kind in KINDS {
        let site = Site::on(kind);
        let (store, slow) = raced(&site, &CRUD_OPTIMISTIC);
        let quick = optimistic(&site);
        let ((reached, is_reached), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
        set(&store.before_commit, move || {
            reached.send(()).unwrap();
            may_go_on.recv_timeout(LIMIT).unwrap();
        });
        let opener = in_line(&slow, GRAPH, [changeset([put_dataset("opener")])]);
        is_reached.recv_timeout(LIMIT).unwrap();
        let waiting = in_line(
            &slow,
            GRAPH,
            [
                keyed(changeset([put_dataset("second")]), "own", "f"),
                keyed(changeset([put_dataset("third")]), "k", "f"),
                keyed(nothing(), "own", "g"),
                changeset([put_dataset("fourth")]),
            ],
        );
        wait_until("all wait", || slow.waiting().0 == 4);
        set(&store.before_commit, move || {
            ask(&quick, keyed(nothing(), "k", "theirs")).unwrap();
        });
        go_on.send(()).unwrap();
        verdicts(opener).remove(0).unwrap();
        let told = verdicts(waiting);
        let version = |at: usize| told[at].as_ref().map(|accepted| accepted.version);
        assert_eq!((version(0), version(3)), (Ok(3), Ok(4)));
        assert_eq!((&told[1], &told[2]), (&Err(Refusal::KeyReused), &Err(Refusal::KeyReused)));
        assert_eq!(audit(&site).version, 4);
    }
}

/// Two that keep only answers under keys of their own are in nobody's way.
#[test]
fn different_keys_on_two_nodes_are_both_kept() {
    for kind in KINDS {
        let site = Site::on(kind);
        let (store, slow) = raced(&site, &CRUD_OPTIMISTIC);
        let quick = optimistic(&site);
        set(&store.before_commit, move || {
            ask(&quick, keyed(nothing(), "theirs", "f")).unwrap();
        });
        assert_eq!(ask(&slow, keyed(nothing(), "mine", "f")), UNCHANGED);
        assert_eq!(told(&slow).0, 0);
        for key in ["mine", "theirs"] {
            assert_eq!(ask(&slow, keyed(nothing(), key, "g")), Err(Refusal::KeyReused));
        }
    }
}

/// Judged on the empty graph, whose version a log then replaces.
#[test]
fn a_keyed_request_that_a_restored_log_overtakes_is_judged_on_what_was_restored() {
    for kind in KINDS {
        let source = Site::on(kind);
        let node = source.node();
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        accepted(&node, [put_dataset("first")]);
        accepted(&node, [put_dataset("second")]);
        let feed = source.store().feed(&name(GRAPH), 0, 10).unwrap().unwrap();
        let stream = Stream::new(feed.head.name.clone(), feed.head.uuid);
        let lines = feed.changes.iter().map(|logged| stream.line(&Event::changed(logged)));
        let site = Site::on(kind);
        let file = site.path("log");
        std::fs::write(&file, lines.collect::<Vec<_>>().concat()).unwrap();

        let store = Interrupted::new(site.open_database());
        let (limits, turn_limits) = (Limits::default(), TurnLimits::default());
        let slow = start_optimistic(Arc::clone(&store.store), limits, turn_limits);
        slow.create_graph_and_wait(&name(GRAPH)).unwrap();
        let into = site.store();
        set(&store.before_commit, move || {
            let log = events::LogFile::open(&file).unwrap();
            events::restore(&into, &name(GRAPH), StorageKind::Rows, log).unwrap();
        });
        let verdict = ask(&slow, keyed(changeset([]), "k", "f"));
        assert_eq!(
            verdict,
            Ok(Accepted { version: 2, changed: false, created: false, subject_version: Some(2) })
        );
        assert_eq!(ask(&slow, keyed(changeset([]), "k", "f")), verdict);
    }
}

/// Two processes, as two clients find them.
#[test]
fn a_key_that_is_used_twice_at_once_is_refused_once_and_no_bug() {
    let site = Site::with_graph();
    let file = site.path("reached");
    let one = site.serve_armed(&format!("after-check=pause:{}", file.display()), &[]);
    let two = site.serve();
    let send = |base: &str, path: &str, body| {
        Client::new().send(base, "PUT", path, Some("k"), Some(&body)).unwrap()
    };
    let empty = || serde_json::json!({});
    std::thread::scope(|scope| {
        let turn = scope.spawn(|| send(&one.base, "/v1/graphs/g/datasets/d", empty()));
        wait_until("the turn is about to write", || file.exists());
        let created = send(&two.base, "/v1/graphs/g", empty());
        std::fs::remove_file(&file).unwrap();
        let turn = turn.join().unwrap();
        assert_eq!((created.status, turn.status), (200, 422), "{turn:?}");
        assert_eq!(turn.body["type"], "urn:fencepost:problem:idempotency_key_reused");
    });
    assert_eq!(audit(&site).version, 1);
}

/// What it said would not be so any more: the batch has nothing to write but the answer, and is
/// conditional all the same.
#[test]
fn a_keyed_request_that_changed_nothing_is_judged_again_when_another_write_came_first() {
    for kind in KINDS {
        let site = Site::on(kind);
        let (store, slow) = raced(&site, &CRUD_OPTIMISTIC);
        let quick = optimistic(&site);
        set(&store.before_commit, move || {
            ask(&quick, changeset([delete_dataset("first")])).unwrap();
        });
        let verdict = ask(&slow, keyed(nothing(), "k", "f"));
        assert_eq!(
            verdict,
            Ok(Accepted { version: 3, changed: true, created: true, subject_version: Some(3) })
        );
        assert_eq!(ask(&slow, keyed(nothing(), "k", "f")), verdict);
        assert_eq!(audit(&site).version, 3);
    }
}
