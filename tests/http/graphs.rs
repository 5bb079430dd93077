//! Graphs as a whole.

use serde_json::json;

use crate::support::server::Server;

#[test]
fn creating_a_graph_answers_201_and_then_200() {
    let server = Server::start();
    let first = server.put("/v1/graphs/g").send().expect(201);
    assert_eq!(first.header("fencepost-version"), Some("0"));
    assert_eq!(first.json(), json!({"graph": "g", "version": 0, "changed": true, "etag": "\"0\""}));
    let second = server.put("/v1/graphs/g").json(&json!({})).send().expect(200);
    assert_eq!(
        second.json(),
        json!({"graph": "g", "version": 0, "changed": false, "etag": "\"0\""})
    );
}

#[test]
fn a_graph_tells_its_version_and_counts() {
    let server = Server::with_graph();
    server.put_job("a", &["x", "y"], &["z"]);
    let answer = server.get("/v1/graphs/g").send().expect(200);
    assert_eq!(
        answer.json(),
        json!({"graph": "g", "version": 1, "jobs": 1, "datasets": 3, "edges": 3,
            "state": "open", "moved_to": null, "storage": "rows"})
    );
    assert_eq!(answer.header("etag"), Some("\"1\""));
    assert_eq!(answer.header("fencepost-version"), Some("1"));
}

#[test]
fn what_is_not_there_answers_404_graph_not_found_on_every_route() {
    let server = Server::start();
    for route in
        fencepost::http::ROUTES.iter().filter(|route| route.path.starts_with("/v1/graphs/{graph}"))
    {
        if route.id == "createGraph" {
            continue;
        }
        let path = route
            .path
            .replace("{graph}", "none")
            .replace("{job}", "a")
            .replace("{dataset}", "d")
            .replace("{consumer}", "c");
        let body = match route.id {
            "applyChangeset" => json!({"operations": []}),
            "planMany" => json!({"datasets": ["d"]}),
            "createJob" => json!({"name": "a", "inputs": [], "outputs": []}),
            "putJob" => json!({"inputs": [], "outputs": []}),
            "acknowledge" => json!({"acknowledged": 0}),
            _ => json!({}),
        };
        let request = server.call(route.method, &path);
        let request = if route.body_types().is_empty() { request } else { request.json(&body) };
        let problem = request.send().problem(404, "graph_not_found");
        assert_eq!(problem["name"], "none", "{}", route.id);
    }
}

#[test]
fn a_deleted_graph_is_gone_and_created_again_continues_its_versions() {
    let server = Server::with_graph();
    server.put_job("a", &[], &["x"]);
    let deleted = server.delete("/v1/graphs/g").header("If-Match", "\"1\"").send().expect(200);
    let written = json!({"graph": "g", "version": 2, "changed": true, "etag": null});
    assert_eq!(deleted.json(), written);
    server.get("/v1/graphs/g").send().problem(404, "graph_not_found");
    server.delete("/v1/graphs/g").send().problem(404, "graph_not_found");
    server
        .put("/v1/graphs/g/jobs/a")
        .json(&json!({"inputs": [], "outputs": []}))
        .send()
        .problem(404, "graph_not_found");
    assert_eq!(server.get("/v1/graphs").send().expect(200).json()["items"], json!([]));

    let again = server.put("/v1/graphs/g").send().expect(201);
    assert_eq!(again.json()["version"], 2);
    let empty = json!({
        "graph": "g", "version": 2, "jobs": 0, "datasets": 0, "edges": 0,
        "state": "open", "moved_to": null, "storage": "rows"
    });
    assert_eq!(server.get("/v1/graphs/g").send().expect(200).json(), empty);
    assert_eq!(server.put_job("a", &[], &["x"]), 3);
}

#[test]
fn graphs_are_independent_of_each_other() {
    let server = Server::with_graph();
    server.put("/v1/graphs/h").send().expect(201);
    server.put_job("a", &["x"], &["y"]);
    // What would be a cycle and a second producer in one graph.
    let job = json!({"inputs": ["y"], "outputs": ["x", "z"]});
    server.put("/v1/graphs/h/jobs/b").json(&job).send().expect(201);
    server.delete("/v1/graphs/h").header("If-Match", "*").send().expect(200);
    assert_eq!(server.get("/v1/graphs/g").send().json()["jobs"], 1);
}

#[test]
fn the_digest_is_equal_for_equal_graphs_whatever_their_history() {
    let server = Server::with_graph();
    let empty = server.state()["digest"].clone();
    server.put_job("a", &["x"], &["y"]);
    let first = server.state();
    assert_eq!(first["version"], 1);
    server.put_job("b", &["y"], &[]);
    assert_ne!(server.state()["digest"], first["digest"]);
    server.delete("/v1/graphs/g/jobs/b").send().expect(200);
    assert_eq!(server.state()["digest"], first["digest"]);
    assert_eq!(server.state()["version"], 3);
    server.delete("/v1/graphs/g/jobs/a").send().expect(200);
    assert_eq!(server.state()["digest"], empty);
    // The hash of nothing.
    assert_eq!(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
