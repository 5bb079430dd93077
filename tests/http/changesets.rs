//! Several operations at once.

use serde_json::json;

use crate::support::server::Server;

#[test]
fn every_operation_can_be_sent_in_one_changeset() {
    let server = Server::with_graph();
    let changed = server.change(&json!([
        {"op": "put_job", "name": "a", "inputs": ["x"], "outputs": ["y"], "spec": {"k": 1}},
        {"op": "put_job", "name": "b", "inputs": [], "outputs": []},
        {"op": "put_job", "name": "c", "inputs": [], "outputs": []},
        {"op": "patch_job", "name": "a", "patch": {"spec": {"l": 2}}},
        {"op": "put_dataset", "name": "d", "metadata": {"m": 3}},
        {"op": "put_dataset", "name": "e"},
        {"op": "add_input", "job": "b", "dataset": "y"},
        {"op": "add_output", "job": "b", "dataset": "d"},
        {"op": "remove_input", "job": "a", "dataset": "x"},
        {"op": "remove_output", "job": "a", "dataset": "y"},
        {"op": "delete_job", "name": "c"},
        {"op": "delete_dataset", "name": "e"},
    ]));
    assert_eq!(
        changed.expect(201).json(),
        json!({"graph": "g", "version": 1, "changed": true, "etag": "\"1\""})
    );
    let jobs = server.get("/v1/graphs/g/jobs").send().expect(200).json();
    let a =
        json!({"name": "a", "inputs": [], "outputs": [], "spec": {"k": 1, "l": 2}, "version": 1});
    let b = json!({"name": "b", "inputs": ["y"], "outputs": ["d"], "spec": {}, "version": 1});
    assert_eq!(jobs["items"], json!([a, b]));
    let names = server.get("/v1/graphs/g/datasets").send().expect(200).json();
    let names: Vec<_> =
        names["items"].as_array().unwrap().iter().map(|dataset| dataset["name"].clone()).collect();
    assert_eq!(names, ["d", "y"]);
}

#[test]
fn one_refused_operation_refuses_the_whole() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    let before = server.state();
    let problem = server.change(&json!([
        {"op": "put_job", "name": "b", "inputs": ["y"], "outputs": []},
        {"op": "delete_job", "name": "none"},
    ]));
    let problem = problem.problem(404, "job_not_found");
    assert_eq!(
        (&problem["operation"], &problem["name"], &problem["version"]),
        (&json!(1), &json!("none"), &json!(1))
    );
    assert_eq!(server.state(), before);
}

#[test]
fn two_jobs_swap_their_outputs_in_one_changeset() {
    let server = Server::with_graph();
    server.put_job("a", &["in"], &["x"]);
    server.put_job("b", &["in"], &["y"]);
    let swap = json!([
        {"op": "put_job", "name": "a", "inputs": ["in"], "outputs": ["y"]},
        {"op": "put_job", "name": "b", "inputs": ["in"], "outputs": ["x"]},
    ]);
    // One of them alone is a second producer.
    server.change(&json!([swap[0]])).problem(409, "second_producer");
    server.change(&swap).expect(200);
    assert_eq!(server.get("/v1/graphs/g/datasets/x").send().json()["producer"], "b");
    assert_eq!(server.get("/v1/graphs/g/datasets/y").send().json()["producer"], "a");
}

#[test]
fn an_empty_changeset_changes_nothing() {
    let server = Server::with_graph();
    assert_eq!(
        server.change(&json!([])).expect(200).json(),
        json!({"graph": "g", "version": 0, "changed": false, "etag": "\"0\""})
    );
}

#[test]
fn a_dry_run_says_what_would_be_and_writes_nothing() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    let before = server.state();
    let dry = |operations: serde_json::Value, query: &str| {
        let path = format!("/v1/graphs/g/changesets?{query}");
        server.post(&path).json(&json!({"operations": operations})).send()
    };
    let put = json!([{"op": "put_job", "name": "b", "inputs": ["y"], "outputs": []}]);
    let would =
        json!({"graph": "g", "version": 1, "changed": true, "etag": "\"1\"", "dry_run": true});
    for query in ["dry_run=true", "dry_run"] {
        assert_eq!(dry(put.clone(), query).expect(200).json(), would);
    }
    let same = json!([{"op": "put_job", "name": "a", "inputs": ["x"], "outputs": ["y"]}]);
    let would =
        json!({"graph": "g", "version": 1, "changed": false, "etag": "\"1\"", "dry_run": true});
    assert_eq!(dry(same, "dry_run=true").expect(200).json(), would);
    let cycle = json!([{"op": "put_job", "name": "b", "inputs": ["y"], "outputs": ["x"]}]);
    assert_eq!(dry(cycle, "dry_run=true").problem(409, "cycle")["version"], 1);
    assert_eq!(server.state(), before);
    let problem = dry(put.clone(), "dry_run=maybe").problem(400, "malformed");
    assert_eq!(problem["at"], "dry_run");
    assert_eq!(server.state(), before);
    dry(put, "dry_run=false").expect(201);
}

#[test]
fn operations_carry_preconditions_of_their_own() {
    let server = Server::with_graph();
    server.put_job("a", &[], &["x"]);
    server.put_job("b", &[], &["y"]);
    let before = server.state();
    let put = |extra: serde_json::Value| {
        let mut operation = json!({"op": "put_job", "name": "a", "inputs": [], "outputs": ["z"]});
        operation.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([{"op": "put_dataset", "name": "d"}, operation])
    };
    let problem = server.change(&put(json!({"if_version": 2}))).problem(412, "precondition_failed");
    let told =
        (&problem["expected"], &problem["actual"], &problem["operation"], &problem["version"]);
    assert_eq!(told, (&json!(2), &json!(1), &json!(1), &json!(2)));
    let problem =
        server.change(&put(json!({"if_absent": true}))).problem(412, "precondition_failed");
    assert_eq!((&problem["expected"], &problem["actual"]), (&json!(null), &json!(1)));
    let both =
        server.change(&put(json!({"if_absent": true, "if_version": 1}))).problem(400, "malformed");
    assert_eq!(both["at"], "operations[1].if_absent");
    assert_eq!(server.state(), before);
    server.change(&put(json!({"if_version": 1, "if_absent": false}))).expect(201);
}
