//! A graph at one version, as events.

use std::io::Read;

use fencepost::event::Replay;
use serde_json::{Value, json};

use crate::support::cluster::Site;
use crate::support::server::{Answer, Request, Server};

const SNAPSHOT: &str = "/v1/graphs/g/snapshot";

fn state_of(snapshot: &Answer) -> Value {
    let mut replay = Replay::default();
    snapshot.text().lines().for_each(|line| drop(replay.take(line).unwrap()));
    let replayed = replay.finish().unwrap();
    let version = replayed.graph.version();
    assert_eq!(snapshot.header("fencepost-version"), Some(version.to_string().as_str()));
    json!({"graph": replayed.stream.graph, "version": version, "digest": replayed.graph.digest()})
}

#[test]
fn a_snapshot_replays_to_the_graph_that_the_service_has() {
    let server = Server::with_graph();
    let empty = server.get(SNAPSHOT).send().expect(200);
    assert_eq!(empty.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(state_of(&empty), server.state());
    for name in ["a/b", "\"quoted\"", "日本語"] {
        server.put_job(name, &["x", "y z"], &[&format!("of {name}")]);
    }
    server
        .put("/v1/graphs/g/datasets/d")
        .json(&json!({"metadata": {"k": 1.50}}))
        .send()
        .expect(201);
    let snapshot = server.get(SNAPSHOT).send().expect(200);
    assert_eq!(state_of(&snapshot), server.state());
    assert_eq!(server.get(SNAPSHOT).send().body, snapshot.body);
    server.delete("/v1/graphs/g").header("If-Match", "*").send().expect(200);
    server.get(SNAPSHOT).send().problem(404, "graph_not_found");
}

#[test]
fn the_changes_after_a_snapshot_continue_it() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    server.put_job("b", &["y"], &["z"]);
    let snapshot = server.get(SNAPSHOT).send().expect(200).text();
    server.delete("/v1/graphs/g/jobs/b").send().expect(200);
    server.put_job("c", &["y"], &[]);
    let tail = server
        .get("/v1/graphs/g/changes?after=2")
        .header("Accept", "application/x-ndjson")
        .send()
        .expect(200);
    let mut replay = Replay::default();
    for line in snapshot.lines().chain(tail.text().lines()) {
        replay.take(line).unwrap();
    }
    let replayed = replay.finish().unwrap();
    let state = json!({"graph": "g", "version": replayed.graph.version(), "digest": replayed.graph.digest()});
    assert_eq!(state, server.state());
}

#[test]
fn no_two_events_of_feed_and_snapshots_share_an_id() {
    let server = Server::with_graph();
    let mut types_by_id = std::collections::HashMap::new();
    for version in 0..4 {
        let snapshot = server.get(SNAPSHOT).send().expect(200).text();
        let changes = server
            .get("/v1/graphs/g/changes")
            .header("Accept", "application/x-ndjson")
            .send()
            .expect(200)
            .text();
        for line in snapshot.lines().chain(changes.lines()) {
            let event: Value = serde_json::from_str(line).unwrap();
            let known = types_by_id.insert(event["id"].to_string(), line.to_owned());
            assert!(known.is_none_or(|known| known == line), "another event of that id: {line}");
        }
        server.put_job(&format!("j{version}"), &["x"], &[]);
    }
}

#[test]
fn snapshots_of_one_version_are_the_same_bytes_on_every_node() {
    let site = Site::new();
    let nodes = [site.serve(), site.serve()];
    let call = |node: usize, method: &str, path: &str| {
        Request::new(
            nodes[node].base.strip_prefix("http://").unwrap().parse().unwrap(),
            method,
            path,
        )
    };
    call(0, "PUT", "/v1/graphs/g").send().expect(201);
    for i in 0..20 {
        let job = format!("j{}", 19 - i);
        nodes[i % 2].put_job(&job, &["x"], &[&format!("of {job}")]).unwrap();
        let [first, second] = [0, 1].map(|node| call(node, "GET", SNAPSHOT).send().expect(200));
        assert_eq!(first.text(), second.text());
    }
    let restarted = site.serve();
    let address = restarted.base.strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(
        Request::new(address, "GET", SNAPSHOT).send().body,
        call(0, "GET", SNAPSHOT).send().body
    );
}

#[test]
fn a_client_that_stops_reading_a_large_snapshot_keeps_no_computation_waiting() {
    let server = Server::start_with(&["--computations", "1"], &[]);
    server.put("/v1/graphs/g").send().expect(201);
    for part in 0..20 {
        let operations: Vec<Value> = (0..1000)
            .map(|i| {
                let name = format!("{part}-{i}");
                json!({"op": "put_job", "name": name, "inputs": ["x"], "outputs": [format!("of {name}")],
                    "spec": {"text": "x".repeat(1000)}})
            })
            .collect();
        server.change(&Value::from(operations)).expect(201);
    }
    // More than sockets take: they wait to be read, and so does the snapshot.
    let requests: Vec<Request> = (0..3).map(|_| server.get(SNAPSHOT)).collect();
    let mut stalled: Vec<_> = requests.iter().map(|request| (request, request.open())).collect();
    for (_, stream) in &mut stalled {
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    let before = server.state();
    server.get("/v1/graphs/g/datasets/of%200-0/plan").send().expect(200);
    assert_eq!(state_of(&server.get(SNAPSHOT).send().expect(200)), before);
    server.put_job("meanwhile", &[], &[]);
    assert_ne!(server.state(), before);
    // They are of the version at which they began.
    let (_, mut stream) = stalled.pop().unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("dev.fencepost.import.ended.v1") && rest.ends_with("\r\n0\r\n\r\n"));
    assert!(rest.contains(before["digest"].as_str().unwrap()));
}

#[test]
fn a_snapshot_takes_no_query_but_at_least_and_waits_for_it() {
    let server = Server::with_graph();
    server.put_job("a", &[], &[]);
    assert_eq!(
        server.get(&format!("{SNAPSHOT}?at_least=1")).send().expect(200).header("etag"),
        Some("\"1\"")
    );
    server.get(&format!("{SNAPSHOT}?after=1")).send().problem(400, "malformed");
    server.get(SNAPSHOT).header("Accept", "application/json").send().problem(406, "not_acceptable");
}
