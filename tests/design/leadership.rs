//! What is left of a leadership that is over, or that moves: whoever has it is silent, its graph is
//! another one now, a successor does not come, or has no room for it.

use std::mem::ManuallyDrop;
use std::time::Duration;

use fencepost::design::TurnLimits;
use fencepost::design::es_single_writer::ES_SINGLE_WRITER;
use fencepost::design::turns::single_writer::SingleWriterLimits;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Refusal, Service, Verdict};
use fencepost::store::Successor;

use crate::support::ask::{accepted, changeset, in_line, put_dataset, put_job_with};
use crate::support::cluster::{
    GRAPH, Kind, LIMIT, SERVE, Server, Site, back_up, finish, name, restore, wait_until,
};
use crate::support::guards::passes;
use crate::support::limit;
use crate::support::storm::{audit_graph, audit_without_tokens};

/// So long that no leadership ends by it.
const LEASE: Duration = Duration::from_secs(600);
const OFTEN: Duration = Duration::from_millis(20);

fn node_with(site: &Site, single_writer: SingleWriterLimits, limits: Limits) -> Service {
    let turn_limits = TurnLimits { single_writer, ..TurnLimits::default() };
    let design = &ES_SINGLE_WRITER;
    node::open(&NodeOptions { design, turn_limits, limits, lease: LEASE, ..site.options() })
        .unwrap()
}

fn node_of(site: &Site, single_writer: SingleWriterLimits) -> Service {
    node_with(site, single_writer, Limits::default())
}

fn looks_often() -> SingleWriterLimits {
    SingleWriterLimits { look_every: OFTEN, ..SingleWriterLimits::default() }
}

/// A count of a node in this process.
fn count(node: &Service, metric: &str) -> u64 {
    let text = node.metrics().text();
    let lines = text.lines().filter(|line| line.starts_with(metric));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

fn led(node: &Service) -> u64 {
    count(node, "fencepost_leader_graphs")
}

fn is_led_elsewhere(verdict: &Verdict) -> bool {
    matches!(verdict, Err(Refusal::LedElsewhere { .. }))
}

/// A leader that is not heard of, and keeps its lock: as one that is stopped does where locks have
/// no leases. The node that is asked for its graphs has one thread for turns.
fn beside_a_silent_leader(wait: Duration, then: impl FnOnce(&Site, &Service)) {
    let site = Site::on(Kind::Sqlite);
    // It is no server, so it says nothing of itself but when it takes over.
    let silent = node_of(&site, SingleWriterLimits::default());
    let limits = Limits { turn_threads: 1, ..Limits::default() };
    let node = node_with(&site, SingleWriterLimits { wait, ..looks_often() }, limits);
    // A turn that waits would be waited for, also by a test that has failed.
    let node = ManuallyDrop::new(node);
    for graph in ["a", "b", "own"] {
        silent.create_graph_and_wait(&name(graph)).unwrap();
    }
    for graph in ["a", "b"] {
        let written = silent.write_and_wait(&name(graph), changeset([put_dataset("first")]));
        assert!(written.is_ok(), "{written:?}");
    }
    then(&site, &node);
    assert_eq!(led(&silent), 2, "it holds the locks");
    drop(ManuallyDrop::into_inner(node));
}

#[test]
fn writes_to_graphs_of_a_forgotten_leader_hold_up_no_others() {
    beside_a_silent_leader(10 * LIMIT, |site, node| {
        site.store().forget_nodes(Duration::ZERO).unwrap();
        assert!(site.store().leaders().unwrap().is_empty(), "it takes no part any more");
        let ask = |graph: &str| in_line(node, graph, [changeset([put_dataset("second")])]);
        let asked = ["a", "b", "own"].map(ask).map(|mut asked| asked.pop().unwrap());
        let told = asked.map(|asked| asked.recv_timeout(limit()).expect("nobody waits"));
        assert!(is_led_elsewhere(&told[0]) && is_led_elsewhere(&told[1]), "{told:?}");
        assert!(told[2].is_ok(), "{told:?}");
    });
}

/// What it led is noted still, and nobody looks at it any more.
#[test]
fn a_leader_that_is_forgotten_is_not_waited_for_to_hand_its_graph_over() {
    let site = Site::with_graph_of(Kind::Sqlite, &ES_SINGLE_WRITER);
    let (store, head) = (site.store(), site.head());
    store.take_over(&head, "leader", None).unwrap();
    wait_until("it is forgotten", || {
        store.forget_nodes(Duration::ZERO).unwrap();
        store.leader(head.id).unwrap().unwrap().silent_ms.is_none()
    });
    let server = {
        let mut command = site.fencepost(&SERVE);
        command.args(["--design", "es-single-writer"]);
        Server::start(command)
    };
    for to in [&[][..], &["--to", &server.base]] {
        let command = [&["lock", "hand-over", "--graph", GRAPH], to].concat();
        let (code, said) = finish(site.fencepost(&command));
        assert!(code == Some(1) && said.contains("nobody leads"), "{code:?} {said}");
    }
}

#[test]
fn if_it_were_not_noted_what_a_forgotten_node_leads_its_graphs_would_hold_up_others() {
    let test = "design::leadership::writes_to_graphs_of_a_forgotten_leader_hold_up_no_others";
    assert!(!passes(test, Some("forgotten-leaders")));
}

#[test]
fn without_a_note_of_the_leader_writes_of_a_graph_wait_once() {
    const WRITES: usize = 300;
    beside_a_silent_leader(Duration::from_millis(500), |site, node| {
        site.run_sql("DELETE FROM leaders");
        let mut writes = 0;
        wait_until("all are answered", || {
            let told = node.write_and_wait(&name("a"), changeset([put_dataset("second")]));
            assert!(is_led_elsewhere(&told), "{told:?}");
            writes += 1;
            writes == WRITES
        });
    });
}

#[test]
fn a_leader_that_is_not_noted_any_more_notes_itself_again() {
    let site = Site::on(Kind::Sqlite);
    let node = node_of(&site, looks_often());
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("first")]);
    node.serves_at(Some("http://127.0.0.1:1"));
    site.run_sql("DELETE FROM leaders");
    let noted = || site.store().leader(site.head().id).unwrap();
    wait_until("it is noted", || noted().is_some());
    assert_eq!(noted().unwrap().node, node.node().unwrap());
}

/// A backup is put back in which the name is not there, and comes to be another graph's.
#[test]
fn a_node_that_only_writes_finds_a_graph_that_has_another_row_now() {
    let site = Site::with_graph_of(Kind::Sqlite, &ES_SINGLE_WRITER);
    let idle = Duration::from_millis(50);
    let nodes = [0; 2].map(|_| node_of(&site, SingleWriterLimits { idle, ..looks_often() }));
    back_up(&site, &site.path("copy.db"));
    nodes[0].create_graph_and_wait(&name("moved")).unwrap();
    let put = |node: &Service, dataset: &str| {
        let write = changeset([put_dataset(dataset)]);
        node.write_and_wait(&name("moved"), write).map(|accepted| accepted.version)
    };
    for (node, version) in nodes.iter().zip(1..) {
        assert_eq!(put(node, &format!("lost {version}")), Ok(version));
        wait_until("it is given up", || led(node) == 0);
    }
    restore(&site, &site.path("copy.db"));
    // While there is none of that name, that is told.
    let told = put(&nodes[0], "none");
    assert!(matches!(told, Err(Refusal::GraphNotFound { .. })), "{told:?}");
    let fresh = node_of(&site, SingleWriterLimits::default());
    fresh.create_graph_and_wait(&name("another")).unwrap();
    fresh.create_graph_and_wait(&name("moved")).unwrap();
    for (node, version) in nodes.iter().zip(1..) {
        assert_eq!(put(node, &format!("kept {version}")), Ok(version));
        wait_until("it is given up", || led(node) == 0);
    }
    audit_graph(&mut site.sql(), "moved");
}

/// It was named by a command that was interrupted, or serves no graphs of that storage.
#[test]
fn a_successor_that_does_not_come_is_not_waited_for_for_ever() {
    let soon = SingleWriterLimits { promised_for: Duration::from_millis(100), ..looks_often() };
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        let node = node_of(&site, soon);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        accepted(&node, [put_dataset("first")]);
        node.serves_at(Some("http://127.0.0.1:1"));
        let (store, graph_id) = (site.store(), site.head().id);
        for successor in [None, Some("nobody")] {
            assert!(store.name_successor(graph_id, 1, successor).unwrap());
            wait_until("it is withdrawn", || {
                store.leader(graph_id).unwrap().unwrap().successor.is_none()
            });
        }
        assert_eq!((led(&node), site.head().leader_token), (1, 1));
    }
}

#[test]
fn a_node_that_ends_succeeds_nobody() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_of(kind, &ES_SINGLE_WRITER);
        let (store, head) = (site.store(), site.head());
        let token = store.take_over(&head, "leader", None).unwrap();
        for (successor, ends) in [("other", "another"), ("other", "other")] {
            assert!(store.name_successor(head.id, token, Some(successor)).unwrap());
            store.announce_leaving(ends).unwrap();
            let leader = store.leader(head.id).unwrap().unwrap();
            let stays = Successor { node: Some(successor.to_owned()), waits: false };
            assert_eq!(leader.successor, (successor != ends).then_some(stays));
            assert!(!leader.is_leaving);
        }
        assert!(store.name_successor(head.id, token, Some("forgotten")).unwrap());
        store.forget_node("forgotten").unwrap();
        assert_eq!(store.leader(head.id).unwrap().unwrap().successor, None);
    }
}

/// Each says that it does not take back what was meant for another.
#[test]
fn a_successor_is_withdrawn_by_whoever_was_named() {
    let site = Site::with_graph_of(Kind::Sqlite, &ES_SINGLE_WRITER);
    let (store, head) = (site.store(), site.head());
    let token = store.take_over(&head, "leader", None).unwrap();
    for (named, withdrawn, stays) in [
        (Some("a"), Some("a"), false),
        (Some("a"), Some("b"), true),
        (None, Some("b"), false),
        (None, None, false),
        (Some("a"), None, true),
    ] {
        assert!(store.name_successor(head.id, token, named).unwrap());
        store.withdraw_successor(head.id, token, withdrawn).unwrap();
        let leader = store.leader(head.id).unwrap().unwrap();
        assert_eq!(leader.successor.is_some(), stays, "{named:?}, {withdrawn:?}");
    }
}

#[test]
fn a_hand_over_to_an_address_goes_to_the_node_that_was_heard_of_last() {
    let site = Site::with_graph_of(Kind::Sqlite, &ES_SINGLE_WRITER);
    let serve = || {
        let mut command = site.fencepost(&SERVE);
        command.args(["--design", "es-single-writer"]);
        Server::start(command)
    };
    let (leader, other) = (serve(), serve());
    assert_eq!(leader.put_job("a", &["x"], &["y"]).unwrap().status, 201);
    // A node that has died, and had the same address.
    site.run_sql(&format!(
        "INSERT INTO leader_nodes (node, address, seen_at_ms) \
         SELECT 'zzz', address, max(seen_at_ms) - 3500 FROM leader_nodes WHERE address = '{}'",
        other.base
    ));
    let (code, said) =
        finish(site.fencepost(&["lock", "hand-over", "--graph", GRAPH, "--to", &other.base]));
    assert!(code == Some(0) && said.contains(&format!("at {} now", other.base)), "{said}");
}

#[test]
fn a_hand_over_to_a_node_that_has_died_says_so_and_is_taken_back() {
    let site = Site::with_graph_of(Kind::Sqlite, &ES_SINGLE_WRITER);
    let leader = {
        let mut command = site.fencepost(&SERVE);
        command.args(["--design", "es-single-writer"]);
        Server::start(command)
    };
    assert_eq!(leader.put_job("a", &["x"], &["y"]).unwrap().status, 201);
    for to in [&["--to", "http://127.0.0.1:1"][..], &[]] {
        // So lately that it is still taken to live.
        site.run_sql(
            "INSERT INTO leader_nodes (node, address, seen_at_ms) \
             SELECT 'dead', 'http://127.0.0.1:1', max(seen_at_ms) - 4000 FROM leader_nodes",
        );
        let command = [&["lock", "hand-over", "--graph", GRAPH], to].concat();
        let (code, said) = finish(site.fencepost(&command));
        assert!(code == Some(1) && said.contains("was not heard of lately"), "{code:?} {said}");
        let left = site.store().leader(site.head().id).unwrap().unwrap();
        assert_eq!(left.successor, None);
        site.run_sql("DELETE FROM leader_nodes WHERE node = 'dead'");
    }
}

/// Some small graphs and one that is as large as many of them; how many bytes a small one takes.
fn filled(site: &Site) -> usize {
    let node = node_of(site, SingleWriterLimits::default());
    for (graph, jobs) in [("own", 20), ("small", 20), ("third", 20), ("large", 1_000)] {
        node.create_graph_and_wait(&name(graph)).unwrap();
        let jobs = (0..jobs).map(|n| put_job_with(&format!("job-{n:03}"), &["in"], &[], "{}"));
        node.write_and_wait(&name(graph), changeset(jobs)).unwrap();
    }
    drop(node);
    let node = node_of(site, SingleWriterLimits::default());
    node.read_and_wait(&name("own")).unwrap();
    node.metrics().graph_bytes.get() as usize
}

/// A leader of some of them, and another node that keeps their images warm beside its own, in so
/// many bytes.
fn leader_and_other(site: &Site, led: &[&str], graph_bytes: usize) -> [Service; 2] {
    let leader = node_of(site, looks_often());
    let limits = Limits { graph_bytes, turn_threads: 1, ..Limits::default() };
    let other = node_with(site, looks_often(), limits);
    other.read_and_wait(&name("own")).unwrap();
    for graph in led {
        leader.write_and_wait(&name(graph), changeset([put_dataset("led")])).unwrap();
    }
    assert_eq!(other.metrics().image_loads.get(), 1);
    leader.serves_at(Some("https://leader.example"));
    // It asks for no share of what is led elsewhere.
    other.serves_at(Some("http://127.0.0.1:1"));
    [leader, other]
}

/// Has the leader write, until the other node has brought its image up to date.
fn write_and_wait_until_warm(leader: &Service, other: &Service, n: usize) {
    let catch_ups = || other.metrics().image_catch_ups.get();
    let before = catch_ups();
    let write = changeset([put_dataset(&format!("d{n}"))]);
    leader.write_and_wait(&name("small"), write).unwrap();
    wait_until("it is warm", || catch_ups() > before);
}

#[test]
fn a_graph_for_which_there_is_no_room_is_not_kept_warm_and_drives_none_out() {
    let site = Site::on(Kind::Sqlite);
    let bytes = 8 * filled(&site);
    let [leader, other] = leader_and_other(&site, &["small", "large"], bytes);
    let loads = || other.metrics().image_loads.get();
    wait_until("both were loaded", || loads() == 3);
    // Each takes a look at all of them.
    for n in 0..20 {
        write_and_wait_until_warm(&leader, &other, n);
    }
    assert_eq!((loads(), other.metrics().graphs_held.get()), (3, 2));
    for graph in ["own", "small"] {
        other.read_and_wait(&name(graph)).unwrap();
    }
    assert_eq!(loads(), 3, "both are there");
    audit_without_tokens(&mut site.sql(), "small");
}

#[test]
fn to_keep_an_image_warm_is_no_use_of_it() {
    let site = Site::on(Kind::Sqlite);
    let each = filled(&site);
    let [leader, other] = leader_and_other(&site, &["small"], 2 * each + each / 2);
    let loads = || other.metrics().image_loads.get();
    wait_until("it was loaded", || loads() == 2);
    write_and_wait_until_warm(&leader, &other, 0);
    // There is room for two.
    for graph in ["third", "own"] {
        other.read_and_wait(&name(graph)).unwrap();
    }
    assert_eq!(loads(), 3, "the one that was used is there, though longest ago");
}
