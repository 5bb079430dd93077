//! Jobs and their edges.

use serde_json::json;

use crate::support::server::Server;

#[test]
fn a_job_is_created_with_201_and_replaced_with_200() {
    let server = Server::with_graph();
    let job = json!({"inputs": ["y", "x", "y"], "outputs": ["z"], "spec": {"b": 1, "a": [true]}});
    let put = server.put("/v1/graphs/g/jobs/a").json(&job).send().expect(201);
    assert_eq!(put.json(), json!({"graph": "g", "version": 1, "changed": true, "etag": "\"1\""}));
    let read = server.get("/v1/graphs/g/jobs/a").send().expect(200);
    let expected =
        r#"{"name":"a","inputs":["x","y"],"outputs":["z"],"spec":{"a":[true],"b":1},"version":1}"#;
    assert_eq!(read.text(), expected);
    assert_eq!(read.header("etag"), Some("\"1\""));

    let job = json!({"inputs": [], "outputs": ["z"]});
    let put = server.put("/v1/graphs/g/jobs/a").json(&job).send().expect(200);
    assert_eq!(put.json()["version"], 2);
    let read = server.get("/v1/graphs/g/jobs/a").send().expect(200).json();
    assert_eq!(
        read,
        json!({"name": "a", "inputs": [], "outputs": ["z"], "spec": {}, "version": 2})
    );
}

#[test]
fn a_job_that_was_read_can_be_put_back_and_changes_nothing() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    let read = server.get("/v1/graphs/g/jobs/a").send().expect(200);
    let put =
        server.put("/v1/graphs/g/jobs/a").body("application/json", read.body).send().expect(200);
    assert_eq!(put.json(), json!({"graph": "g", "version": 1, "changed": false, "etag": "\"1\""}));
}

#[test]
fn a_jobs_version_is_that_of_its_own_last_change() {
    let server = Server::with_graph();
    server.put_job("a", &[], &["x"]);
    server.put_job("b", &["x"], &[]);
    let read = server.get("/v1/graphs/g/jobs/a").send().expect(200);
    assert_eq!(read.json()["version"], 1);
    assert_eq!(read.header("etag"), Some("\"1\""));
    assert_eq!(read.header("fencepost-version"), Some("2"));
}

#[test]
fn post_creates_only_and_says_where() {
    let server = Server::with_graph();
    let job = json!({"name": "a/b", "inputs": [], "outputs": []});
    let created = server.post("/v1/graphs/g/jobs").json(&job).send().expect(201);
    let location = created.header("location").unwrap().to_owned();
    assert_eq!(location, "/v1/graphs/g/jobs/a%2Fb");
    assert_eq!(server.get(&location).send().expect(200).json()["name"], "a/b");
    let problem = server.post("/v1/graphs/g/jobs").json(&job).send().problem(409, "already_exists");
    assert_eq!(
        (&problem["name"], &problem["graph"], &problem["version"]),
        (&json!("a/b"), &json!("g"), &json!(1))
    );
    let nameless = json!({"inputs": [], "outputs": []});
    assert_eq!(
        server.post("/v1/graphs/g/jobs").json(&nameless).send().problem(400, "malformed")["at"],
        "name"
    );
    let conditional =
        server.post("/v1/graphs/g/jobs").json(&job).header("If-Match", "\"1\"").send();
    assert_eq!(conditional.problem(400, "malformed")["at"], "if-match");
}

#[test]
fn a_merge_patch_changes_what_it_names() {
    let server = Server::with_graph();
    let job = json!({"inputs": ["x"], "outputs": ["y"], "spec": {"keep": 1, "drop": 2, "deep": {"a": 1, "b": 2}}});
    server.put("/v1/graphs/g/jobs/a").json(&job).send().expect(201);
    let patch = json!({"inputs": ["w"], "spec": {"drop": null, "deep": {"b": 3}, "new": []}});
    for media_type in ["application/merge-patch+json", "application/json; charset=utf-8"] {
        server.patch("/v1/graphs/g/jobs/a").body(media_type, patch.to_string()).send().expect(200);
    }
    let spec = json!({"keep": 1, "deep": {"a": 1, "b": 3}, "new": []});
    let read = server.get("/v1/graphs/g/jobs/a").send().expect(200).json();
    assert_eq!(
        read,
        json!({"name": "a", "inputs": ["w"], "outputs": ["y"], "spec": spec, "version": 2})
    );
    // Nothing mentions it any more.
    server.get("/v1/graphs/g/datasets/x").send().problem(404, "dataset_not_found");

    let unchanged = server.patch("/v1/graphs/g/jobs/a").json(&json!({})).send().expect(200).json();
    assert_eq!(unchanged, json!({"graph": "g", "version": 2, "changed": false, "etag": "\"2\""}));
    let problem =
        server.patch("/v1/graphs/g/jobs/b").json(&json!({})).send().problem(404, "job_not_found");
    assert_eq!(problem["name"], "b");
    let renamed = server.patch("/v1/graphs/g/jobs/a").json(&json!({"name": "b"})).send();
    assert_eq!(renamed.problem(400, "malformed")["at"], "name");
}

#[test]
fn deleting_a_job_takes_its_edges_and_implied_datasets_with_it() {
    let server = Server::with_graph();
    server.put("/v1/graphs/g/datasets/declared").send().expect(201);
    server.put_job("a", &["declared", "x"], &["y"]);
    let deleted = server.delete("/v1/graphs/g/jobs/a").send().expect(200);
    let written = json!({"graph": "g", "version": 3, "changed": true, "etag": null});
    assert_eq!(deleted.json(), written);
    let counts = json!({
        "graph": "g", "version": 3, "jobs": 0, "datasets": 1, "edges": 0,
        "state": "open", "moved_to": null, "storage": "rows"
    });
    assert_eq!(server.get("/v1/graphs/g").send().json(), counts);
    let problem = server.delete("/v1/graphs/g/jobs/a").send().problem(404, "job_not_found");
    assert_eq!((&problem["name"], &problem["version"]), (&json!("a"), &json!(3)));
}

#[test]
fn an_edge_needs_both_ends_and_must_not_be_there() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &[]);
    server.put("/v1/graphs/g/datasets/d").send().expect(201);
    for side in ["inputs", "outputs"] {
        let edge = format!("/v1/graphs/g/jobs/a/{side}/d");
        server.delete(&edge).send().problem(404, "edge_not_found");
        server.put(&edge).send().expect(201);
        let problem = server.put(&edge).send().problem(409, "already_exists");
        assert_eq!((&problem["name"], &problem["jobs"]), (&json!("d"), &json!(["a"])));
        assert!(
            server.get("/v1/graphs/g/jobs/a").send().json()[side]
                .as_array()
                .unwrap()
                .contains(&json!("d"))
        );
        server.delete(&edge).send().expect(200);

        let other = |job: &str, dataset: &str| format!("/v1/graphs/g/jobs/{job}/{side}/{dataset}");
        for method in ["PUT", "DELETE"] {
            let problem =
                server.call(method, &other("none", "d")).send().problem(404, "job_not_found");
            assert_eq!(problem["name"], "none");
            let problem =
                server.call(method, &other("a", "none")).send().problem(404, "dataset_not_found");
            assert_eq!(problem["name"], "none");
        }
    }
}
