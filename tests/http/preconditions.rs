//! `ETag`, `If-Match` and `If-None-Match`.

use serde_json::json;

use crate::support::server::Server;

#[test]
fn a_read_of_what_the_client_has_answers_304_without_a_body() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    server.put_job("b", &["y"], &[]);
    for route in
        fencepost::http::ROUTES.iter().filter(|route| route.class == fencepost::http::Class::Read)
    {
        let path = route
            .path
            .replace("{graph}", "g")
            .replace("{job}", "a")
            .replace("{dataset}", "y")
            .replace("{consumer}", "c");
        let request = server.call(route.method, &path);
        let request = if route.method == "POST" {
            request.json(&json!({"datasets": ["y"]}))
        } else {
            request
        };
        let fresh = request.clone().send().expect(200);
        let tag = fresh.header("etag").unwrap().to_owned();
        assert_eq!(tag, if route.id == "readJob" { "\"1\"" } else { "\"2\"" }, "{}", route.id);
        for known in [tag.clone(), format!("W/{tag}"), format!("\"99\", {tag}"), "*".to_owned()] {
            let answer = request.clone().header("If-None-Match", &known).send().expect(304);
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
        }
        for other in ["\"99\"", "2", "\"02\"", "\"x\""] {
            request.clone().header("If-None-Match", other).send().expect(200);
        }
    }
}

#[test]
fn a_write_with_a_stale_if_match_answers_412_and_changes_nothing() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    server.put("/v1/graphs/g/datasets/d").send().expect(201);
    let before = server.state();
    let job = json!({"inputs": [], "outputs": []});
    // The job is at version 1, the graph at version 2.
    let writes = [
        (server.put("/v1/graphs/g/jobs/a").json(&job), "\"2\"", 1),
        (server.patch("/v1/graphs/g/jobs/a").json(&json!({"spec": {"k": 1}})), "\"2\"", 1),
        (server.delete("/v1/graphs/g/jobs/a"), "\"2\"", 1),
        (server.put("/v1/graphs/g/jobs/a/inputs/d"), "\"2\"", 1),
        (server.delete("/v1/graphs/g/jobs/a/inputs/x"), "\"2\"", 1),
        (server.put("/v1/graphs/g/jobs/a/outputs/d"), "\"2\"", 1),
        (server.delete("/v1/graphs/g/jobs/a/outputs/y"), "\"2\"", 1),
        (server.put("/v1/graphs/g/datasets/d").json(&json!({"metadata": {"k": 1}})), "\"1\"", 2),
        (server.delete("/v1/graphs/g/datasets/d"), "\"1\"", 2),
        (server.put("/v1/graphs/g"), "\"1\"", 2),
        (server.delete("/v1/graphs/g"), "\"1\"", 2),
        (server.post("/v1/graphs/g/changesets").json(&json!({"operations": []})), "\"1\"", 2),
    ];
    for (request, tag, actual) in writes {
        let problem = request.header("If-Match", tag).send().problem(412, "precondition_failed");
        assert_eq!(problem["expected"], tag.trim_matches('"').parse::<u64>().unwrap());
        assert_eq!((&problem["actual"], &problem["version"]), (&json!(actual), &json!(2)));
        assert_eq!(server.state(), before);
    }
}

#[test]
fn a_write_with_a_current_if_match_is_done() {
    let server = Server::with_graph();
    server.put_job("a", &[], &["y"]);
    let tag = |path: &str| server.get(path).send().header("etag").unwrap().to_owned();
    let job = "/v1/graphs/g/jobs/a";
    server
        .put(job)
        .json(&json!({"inputs": ["x"], "outputs": []}))
        .header("If-Match", &tag(job))
        .send()
        .expect(200);
    server.patch(job).json(&json!({"outputs": ["z"]})).header("If-Match", "*").send().expect(200);
    server.put("/v1/graphs/g/datasets/d").header("If-None-Match", "*").send().expect(201);
    let dataset = "/v1/graphs/g/datasets/d";
    let metadata = json!({"metadata": {"k": 1}});
    server.put(dataset).json(&metadata).header("If-Match", &tag(dataset)).send().expect(200);
    server.put("/v1/graphs/g/jobs/a/inputs/d").header("If-Match", &tag(job)).send().expect(201);
    let put =
        server.put("/v1/graphs/g").header("If-Match", &tag("/v1/graphs/g")).send().expect(200);
    assert_eq!(put.json(), json!({"graph": "g", "version": 6, "changed": false}));
    let changeset = json!({"operations": [{"op": "delete_job", "name": "a"}]});
    let request = server.post("/v1/graphs/g/changesets").json(&changeset);
    request.header("If-Match", &tag("/v1/graphs/g")).send().expect(200);
    server.delete("/v1/graphs/g").header("If-Match", &tag("/v1/graphs/g")).send().expect(200);
}

#[test]
fn if_match_on_what_is_absent_fails() {
    let server = Server::with_graph();
    let job = json!({"inputs": [], "outputs": []});
    for tag in ["*", "\"0\""] {
        let put = server.put("/v1/graphs/g/jobs/a").json(&job).header("If-Match", tag).send();
        assert_eq!(put.problem(412, "precondition_failed")["actual"], json!(null));
        let put = server.put("/v1/graphs/g/datasets/d").header("If-Match", tag).send();
        assert_eq!(put.problem(412, "precondition_failed")["actual"], json!(null));
        let put = server.put("/v1/graphs/h").header("If-Match", tag).send();
        assert_eq!(put.problem(412, "precondition_failed")["actual"], json!(null));
        server.get("/v1/graphs/h").send().problem(404, "graph_not_found");
    }
}

#[test]
fn if_none_match_lets_a_write_only_create() {
    let server = Server::with_graph();
    let job = server.put("/v1/graphs/g/jobs/a").json(&json!({"inputs": ["x"], "outputs": []}));
    let writes = [
        job,
        server.put("/v1/graphs/g/datasets/d"),
        server.put("/v1/graphs/g/jobs/a/outputs/d"),
        server.put("/v1/graphs/h"),
    ];
    for request in writes {
        let request = request.header("If-None-Match", "*");
        request.clone().send().expect(201);
        let before = server.state();
        let problem = request.send().problem(412, "precondition_failed");
        assert_eq!(problem["expected"], json!(null));
        assert!(problem["actual"].is_u64(), "{problem}");
        assert_eq!(server.state(), before);
    }
}

#[test]
fn preconditions_that_are_not_understood_are_refused() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &[]);
    let before = server.state();
    for (name, value) in [
        ("If-Match", "1"),
        ("If-Match", "\"1"),
        ("If-Match", "\"01\""),
        ("If-Match", "\"+1\""),
        ("If-Match", "W/\"1\""),
        ("If-Match", "\"1\", \"2\""),
        ("If-Match", "\"18446744073709551616\""),
        ("If-Match", ""),
        ("If-None-Match", "\"1\""),
    ] {
        let problem = server
            .delete("/v1/graphs/g/jobs/a")
            .header(name, value)
            .send()
            .problem(400, "malformed");
        assert_eq!(problem["at"], name.to_ascii_lowercase(), "{value}");
    }
    let both = server
        .delete("/v1/graphs/g/jobs/a")
        .header("If-Match", "*")
        .header("If-None-Match", "*")
        .send();
    both.problem(400, "malformed");
    let twice = server
        .delete("/v1/graphs/g/jobs/a")
        .header("If-Match", "\"1\"")
        .header("If-Match", "\"2\"")
        .send();
    twice.problem(400, "malformed");
    server.delete("/v1/graphs/g").header("If-None-Match", "*").send().problem(400, "malformed");
    assert_eq!(server.state(), before);
}
