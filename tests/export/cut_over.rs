//! Freezing a graph under load, with its log following.

use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use fencepost::design;
use fencepost::node::{self, NodeOptions};
use serde_json::Value;

use super::Place;
use crate::support::ask::{accepted, put_dataset};
use crate::support::cluster::{Client, GRAPH, Kind, SERVE, Server, Site, finish, name, wait_until};
use crate::support::storm::{Field, Told, audit, check_public_text, client};

const MOVED_TO: &str = "https://new.example/graphs/g";

fn serve(site: &Site, design: &str) -> Server {
    let mut command = site.fencepost(&SERVE);
    command.args(["--design", design]);
    Server::start(command)
}

/// A storm on three nodes of these designs, a follower, and a freeze in the middle: nothing is
/// written after the sealed version, and the log has all that was.
fn frozen_in_a_storm(designs: [&str; 3]) {
    const CLIENTS: usize = 6;
    const WRITES: usize = 400;
    let (site, place) = (Site::on(Kind::Postgres), Place::file());
    let maker = NodeOptions { design: design::named(designs[0]).unwrap(), ..site.options() };
    node::open(&maker).unwrap().create_graph_and_wait(&name(GRAPH)).unwrap();
    let servers: Vec<Server> = designs.iter().map(|design| serve(&site, design)).collect();
    let bases = servers.iter().map(|server| server.base.clone()).collect();
    let field = Field { servers: RwLock::new(bases), answered: AtomicUsize::new(0) };
    let mut follower = site
        .fencepost(&["export", "--graph", GRAPH, "--to", &place.url, "--follow"])
        .spawn()
        .unwrap();
    let (sealed, told) = std::thread::scope(|scope| {
        let field = &field;
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| scope.spawn(move || client(field, n, n, WRITES))).collect();
        wait_until("the storm is on", || field.answered.load(Ordering::SeqCst) > 100);
        let freeze = ["freeze", "--graph", GRAPH, "--moved-to", MOVED_TO, "--sink", &place.url];
        let (code, said) = finish(site.fencepost(&freeze));
        assert_eq!(code, Some(0), "{said}");
        let sealed: u64 = said
            .split("frozen at version ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(said.contains(&format!(" to {sealed}, digest ")), "{said}");
        let told = Told::merge(clients.into_iter().map(|client| client.join().unwrap()));
        (sealed, told)
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
    let audit = audit(&site);
    assert_eq!(audit.version, sealed, "a write came after the sealed version");
    check_public_text(&told, &audit);
    assert!(told.accepted.iter().all(|(version, _)| *version <= sealed));
    assert!(sealed < (CLIENTS * WRITES) as u64 && told.rejected.len() > CLIENTS * 10, "{sealed}");

    for server in &servers {
        let refused = server.put_job("late", &[], &[]).unwrap();
        assert_eq!(
            (refused.status, refused.body["moved_to"].as_str()),
            (409, Some(MOVED_TO)),
            "{refused:?}"
        );
        assert_eq!(refused.body["type"], "urn:fencepost:problem:frozen");
        let body = server.get(&format!("/v1/graphs/{GRAPH}")).unwrap().body;
        assert_eq!(
            (body["state"].as_str(), body["moved_to"].as_str()),
            (Some("frozen"), Some(MOVED_TO))
        );
        // What was answered before is answered again.
        let (version, mark) = told.accepted.last().unwrap();
        let again = replay(server, mark);
        assert!(again.is_none_or(|again| again == *version), "{again:?} and {version}");
    }
    let (code, said) = finish(site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]));
    assert!(code == Some(0) && said.contains(&audit.digest), "{said}");
    let (code, said) = finish(site.fencepost(&["thaw", "--graph", GRAPH]));
    assert!(
        code == Some(0) && said.contains(&format!("takes writes again, at version {sealed}")),
        "{said}"
    );
    let told = servers[0].get(&format!("/v1/graphs/{GRAPH}")).unwrap().body;
    assert_eq!((told["state"].as_str(), &told["moved_to"]), (Some("open"), &Value::Null));
    assert_eq!(servers[0].put_job("late", &[], &[]).unwrap().version(), sealed + 1);
}

/// The version that a write with that key is answered with, if it was the same write: which job it
/// was of is not known here, so that all are tried.
fn replay(server: &Server, mark: &str) -> Option<u64> {
    let client = Client::new();
    let body = serde_json::json!({"inputs": [], "outputs": [], "spec": {"mark": mark}});
    let answer = client.send(
        &server.base,
        "PUT",
        &format!("/v1/graphs/{GRAPH}/jobs/job-0"),
        Some(mark),
        Some(&body),
    );
    let answer = answer.unwrap();
    // Of another request, since the body is another: but looked up, and not called frozen.
    assert_ne!(answer.status, 409, "{answer:?}");
    (answer.status < 300).then(|| answer.version())
}

#[test]
fn a_freeze_in_a_storm_on_three_nodes_seals_a_version() {
    frozen_in_a_storm(["crud", "crud", "crud"]);
}

#[test]
fn a_freeze_seals_a_version_whatever_the_designs_keep_in_memory() {
    frozen_in_a_storm(["crud-delta", "crud", "crud-naive"]);
}

#[test]
fn a_freeze_seals_a_version_where_no_lock_is_taken() {
    frozen_in_a_storm(["crud-optimistic"; 3]);
}

#[test]
fn a_freeze_under_load_seals_a_graph_that_is_kept_by_its_log() {
    frozen_in_a_storm(["es-locked"; 3]);
}

#[test]
fn a_frozen_graph_whose_log_does_not_come_stays_frozen_and_says_so() {
    let (site, place) = (Site::with_graph(), Place::file());
    let freeze =
        |more: &[&str]| finish(site.fencepost(&[&["freeze", "--graph", GRAPH], more].concat()));
    let waited = ["--sink", &place.url, "--wait-seconds", "0"];
    let export = || finish(site.fencepost(&["export", "--graph", GRAPH, "--to", &place.url]));
    // A sink that was mistyped stops nobody.
    let (code, said) = freeze(&waited);
    assert!(code == Some(1) && said.contains("is not there"), "{said}");
    assert_eq!(freeze(&["--sink", "-"]).0, Some(2));
    let another = Place::file();
    finish(Site::with_graph().fencepost(&["export", "--graph", GRAPH, "--to", &another.url]));
    let (code, said) = freeze(&["--sink", &another.url]);
    assert!(code == Some(1) && said.contains("holds the log of graph `g` ("), "{said}");
    assert_eq!(export().0, Some(0));
    accepted(&site.node(), [put_dataset("late")]);
    let (code, said) = freeze(&waited);
    assert!(code == Some(1) && said.contains("is frozen at version 2, and after 0ns"), "{said}");
    assert!(said.contains("has version 1: is an exporter following?"), "{said}");
    let (code, said) = export();
    assert_eq!(code, Some(0), "a frozen graph is exported: {said}");
    // Again, and to somewhere else.
    let (code, said) = freeze(&[&waited[..], &["--moved-to", "elsewhere"]].concat());
    assert!(code == Some(0) && said.contains("valid: 4 events of graph `g`"), "{said}");
    assert_eq!(site.head().moved_to.as_deref(), Some("elsewhere"));
    let (code, said) = freeze(&[]);
    assert!(code == Some(0) && said.contains("digest "), "{said}");
    assert_eq!(finish(site.fencepost(&["freeze", "--graph", "nowhere"])).0, Some(1));
    assert_eq!(finish(site.fencepost(&["thaw", "--graph", "nowhere"])).0, Some(1));
}

#[test]
fn a_graph_is_not_frozen_for_a_log_that_was_altered() {
    let (site, place) = (Site::with_graph(), Place::file());
    assert_eq!(
        finish(site.fencepost(&["export", "--graph", GRAPH, "--to", &place.url])).0,
        Some(0)
    );
    let path = place.url.strip_prefix("file:").unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, log.replacen("dataset_declared", "dataset_declareb", 1)).unwrap();
    let (code, said) = finish(site.fencepost(&["freeze", "--graph", GRAPH, "--sink", &place.url]));
    assert!(code == Some(1) && said.contains("event 2 (after version 1)"), "{said}");
    accepted(&site.node(), [put_dataset("still open")]);
}
