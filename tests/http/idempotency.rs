//! `Idempotency-Key`.

use serde_json::json;

use crate::support::server::{Request, Server};

/// What the first sending answered, and that the second answers the same.
fn sent_twice(request: &Request, key: &str) -> (u16, serde_json::Value) {
    let request = request.clone().header("Idempotency-Key", key);
    let (first, second) = (request.clone().send(), request.send());
    assert_eq!((first.status, first.json()), (second.status, second.json()));
    assert_eq!(first.header("fencepost-version"), second.header("fencepost-version"));
    assert_eq!(first.header("location"), second.header("location"));
    (first.status, first.json())
}

#[test]
fn the_same_key_gives_the_same_answer_and_writes_once() {
    let server = Server::with_graph();
    let job = json!({"name": "a", "inputs": ["x"], "outputs": []});
    let writes = [
        server.post("/v1/graphs/g/jobs").json(&job),
        server.put("/v1/graphs/g/jobs/b").json(&json!({"inputs": [], "outputs": []})),
        server.patch("/v1/graphs/g/jobs/b").json(&json!({"spec": {"k": 1}})),
        server.put("/v1/graphs/g/jobs/b/inputs/x"),
        server.delete("/v1/graphs/g/jobs/b/inputs/x"),
        server.put("/v1/graphs/g/jobs/b/outputs/x"),
        server.delete("/v1/graphs/g/jobs/b/outputs/x"),
        server.put("/v1/graphs/g/datasets/d").json(&json!({"metadata": {"k": 1}})),
        server.delete("/v1/graphs/g/datasets/d"),
        server.delete("/v1/graphs/g/jobs/b"),
        server
            .post("/v1/graphs/g/changesets")
            .json(&json!({"operations": [{"op": "put_dataset", "name": "e"}]})),
    ];
    for (i, request) in writes.iter().enumerate() {
        let (_, answer) = sent_twice(request, &format!("key {i}"));
        assert_eq!(
            (&answer["version"], &answer["changed"]),
            (&json!(i + 1), &json!(true)),
            "write {i}"
        );
    }
    assert_eq!(server.state()["version"], writes.len());
    // Long after, all the same.
    let again = writes[0].clone().header("Idempotency-Key", "key 0").send().expect(201);
    assert_eq!(again.json()["version"], 1);
}

#[test]
fn a_key_on_creating_and_deleting_a_graph_survives_both() {
    let server = Server::start();
    let create = server.put("/v1/graphs/g");
    let delete = server.delete("/v1/graphs/g").header("If-Match", "*");
    assert_eq!(
        sent_twice(&create, "create"),
        (201, json!({"graph": "g", "version": 0, "changed": true, "etag": "\"0\""}))
    );
    server.put_job("a", &[], &[]);
    // It was there: that is what is kept, not that it was created.
    assert_eq!(
        sent_twice(&create, "create again"),
        (200, json!({"graph": "g", "version": 1, "changed": false, "etag": "\"1\""}))
    );
    assert_eq!(
        sent_twice(&delete, "delete"),
        (200, json!({"graph": "g", "version": 2, "changed": true, "etag": null}))
    );
    server.get("/v1/graphs/g").send().problem(404, "graph_not_found");
    // Answered from what is kept, and not created anew.
    create.clone().header("Idempotency-Key", "create").send().expect(201);
    server.get("/v1/graphs/g").send().problem(404, "graph_not_found");
    assert_eq!(
        sent_twice(&create, "re-create"),
        (201, json!({"graph": "g", "version": 2, "changed": true, "etag": "\"2\""}))
    );
    // The deletion's answer too, and the graph that came after stays.
    assert_eq!(sent_twice(&delete, "delete").1["version"], 2);
    server.get("/v1/graphs/g").send().expect(200);
    create.header("Idempotency-Key", "delete").send().problem(422, "idempotency_key_reused");
}

#[test]
fn creating_a_graph_that_may_not_be_there_keeps_no_rejection() {
    let server = Server::with_graph();
    let create =
        server.put("/v1/graphs/g").header("If-None-Match", "*").header("Idempotency-Key", "k");
    create.clone().send().problem(412, "precondition_failed");
    create.clone().send().problem(412, "precondition_failed");
    server.delete("/v1/graphs/g").send().expect(200);
    create.clone().send().expect(201);
    create.send().expect(201);
}

#[test]
fn the_same_key_with_another_method_path_or_body_is_refused() {
    let server = Server::with_graph();
    let key = |request: Request| request.header("Idempotency-Key", "k");
    let job = json!({"inputs": ["x"], "outputs": []});
    key(server.put("/v1/graphs/g/jobs/a").json(&job)).send().expect(201);
    let before = server.state();
    let others = [
        server.put("/v1/graphs/g/jobs/a").json(&json!({"inputs": ["y"], "outputs": []})),
        // The same value in other bytes is another body.
        server.put("/v1/graphs/g/jobs/a").body("application/json", format!(" {job}")),
        server.put("/v1/graphs/g/jobs/b").json(&job),
        server.patch("/v1/graphs/g/jobs/a").json(&job),
        server.delete("/v1/graphs/g/jobs/a"),
        server.delete("/v1/graphs/g"),
        server.put("/v1/graphs/g"),
    ];
    for request in others {
        key(request).send().problem(422, "idempotency_key_reused");
        assert_eq!(server.state(), before);
    }
    // In another graph it is another key.
    server.put("/v1/graphs/h").send().expect(201);
    key(server.put("/v1/graphs/h/jobs/a").json(&job)).send().expect(201);
    // A path is the same however it is encoded.
    key(server.put("/v1/graphs/g/jobs/%61").json(&job)).send().expect(201);
}

#[test]
fn a_rejection_is_not_kept() {
    let server = Server::with_graph();
    server.put_job("a", &[], &["x"]);
    let second = server.put("/v1/graphs/g/jobs/b").json(&json!({"inputs": [], "outputs": ["x"]}));
    let second = second.header("Idempotency-Key", "k");
    second.clone().send().problem(409, "second_producer");
    server.delete("/v1/graphs/g/jobs/a").send().expect(200);
    second.send().expect(201);
    // Nor does a rejected request take the key for itself.
    let cycle = server.put("/v1/graphs/g/jobs/c").json(&json!({"inputs": ["y"], "outputs": ["y"]}));
    cycle.header("Idempotency-Key", "l").send().problem(409, "cycle");
    let other = server.put("/v1/graphs/g/jobs/c").json(&json!({"inputs": [], "outputs": []}));
    other.header("Idempotency-Key", "l").send().expect(201);
}

#[test]
fn a_write_that_changes_nothing_keeps_its_answer_too() {
    let server = Server::with_graph();
    let empty = server.post("/v1/graphs/g/changesets").json(&json!({"operations": []}));
    let empty = empty.header("Idempotency-Key", "k");
    let nothing = json!({"graph": "g", "version": 0, "changed": false, "etag": "\"0\""});
    assert_eq!(empty.clone().send().expect(200).json(), nothing);
    server.put_job("a", &[], &[]);
    assert_eq!(empty.send().expect(200).json(), nothing);
}

#[test]
fn a_dry_run_neither_uses_nor_takes_a_key() {
    let server = Server::with_graph();
    let changeset = |path: &str, name: &str| {
        let body = json!({"operations": [{"op": "put_dataset", "name": name}]});
        server.post(path).json(&body).header("Idempotency-Key", "k").send()
    };
    let (dry, real) = ("/v1/graphs/g/changesets?dry_run=true", "/v1/graphs/g/changesets");
    assert_eq!(changeset(dry, "a").expect(200).json()["changed"], true);
    changeset(real, "b").expect(201);
    assert_eq!(changeset(dry, "a").expect(200).json()["changed"], true);
    assert_eq!(changeset(dry, "b").expect(200).json()["changed"], false);
    assert_eq!(changeset(real, "b").expect(201).json()["version"], 1);
}

#[test]
fn a_key_is_1_to_255_visible_characters() {
    let server = Server::with_graph();
    let with =
        |key: &str| server.put("/v1/graphs/g/datasets/d").header("Idempotency-Key", key).send();
    for key in ["", &"k".repeat(256), "ü", "a\tb"] {
        assert_eq!(with(key).problem(400, "malformed")["at"], "idempotency-key", "{key:?}");
    }
    with(&"k".repeat(255)).expect(201);
    let twice = server
        .put("/v1/graphs/g/datasets/e")
        .header("Idempotency-Key", "a")
        .header("Idempotency-Key", "b");
    twice.send().problem(400, "malformed");
}

#[test]
fn answers_are_kept_across_a_restart() {
    let server = Server::with_graph();
    let job = json!({"inputs": [], "outputs": []});
    server.put("/v1/graphs/g/jobs/a").json(&job).header("Idempotency-Key", "k").send().expect(201);
    server.signal("TERM");
    let (_, directory) = server.wait(std::time::Duration::from_secs(30));
    let server = Server::start_in(directory, &[], &[]);
    let again = server
        .put("/v1/graphs/g/jobs/a")
        .json(&job)
        .header("Idempotency-Key", "k")
        .send()
        .expect(201);
    assert_eq!(again.json(), json!({"graph": "g", "version": 1, "changed": true, "etag": "\"1\""}));
}
