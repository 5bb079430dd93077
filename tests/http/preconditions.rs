//! `ETag`, `If-Match` and `If-None-Match`.

use serde_json::json;

use crate::support::server::{Request, Server};

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
    assert_eq!(put.json(), json!({"graph": "g", "version": 6, "changed": false, "etag": "\"6\""}));
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

/// A job that is at version 2 of its graph, which is at 3; a request to change it.
fn with_a_job_at_2() -> (Server, Request) {
    let server = Server::with_graph();
    server.put("/v1/graphs/g/datasets/d").send().expect(201);
    server.put_job("a", &["x"], &[]);
    server.put_job("b", &["x"], &[]);
    let patch = server.patch("/v1/graphs/g/jobs/a").json(&json!({"spec": {"k": 1}}));
    (server, patch)
}

#[test]
fn if_match_holds_if_one_of_a_list_does() {
    for list in [
        "\"2\", \"9\"",
        "\"9\",\"2\"",
        "\"a,b\", W/\"1\" , \"2\"",
        ", \"2\",,",
        "\"1\",\"2\",\"3\"",
    ] {
        let (server, patch) = with_a_job_at_2();
        let patched = patch.header("If-Match", list).send().expect(200);
        assert_eq!(patched.json()["etag"], "\"4\"", "{list}");
        // Of the graph, one that is on the way to be deleted too.
        let delete = |list| server.delete("/v1/graphs/g").header("If-Match", list).send();
        delete("\"2\", \"3\"").problem(412, "precondition_failed");
        delete("\"3\", \"4\"").expect(200);
    }
    // Several lines are one list.
    let (server, patch) = with_a_job_at_2();
    let lines = |first, second| patch.clone().header("If-Match", first).header("If-Match", second);
    lines("\"1\"", "\"3\"").send().problem(412, "precondition_failed");
    lines("\"1\"", "*").send().problem(400, "malformed");
    lines("\"1\"", "\"2\"").send().expect(200);
    let changeset = server.post("/v1/graphs/g/changesets").json(&json!({"operations": []}));
    changeset.header("If-Match", "\"3\", \"4\"").send().expect(200);
}

#[test]
fn an_if_match_that_no_tag_fits_answers_412_and_changes_nothing() {
    let (server, patch) = with_a_job_at_2();
    let before = server.state();
    for (tags, expected) in [
        ("W/\"2\"", json!([])),
        ("\"02\"", json!([])),
        ("\"+2\"", json!([])),
        ("\"2 \"", json!([])),
        ("\"\"", json!([])),
        ("\"abc\"", json!([])),
        ("\"18446744073709551616\"", json!([])),
        ("\"2,\"", json!([])),
        ("\"1\", \"3\"", json!([1, 3])),
        ("W/\"2\", \"7\"", json!([7])),
        ("\"9\"", json!(9)),
    ] {
        for request in [
            patch.clone(),
            server.put("/v1/graphs/g/jobs/a").json(&json!({"inputs": [], "outputs": []})),
            server.delete("/v1/graphs/g/jobs/a"),
            server.put("/v1/graphs/g/jobs/a/inputs/d"),
        ] {
            let problem = request.header("If-Match", tags).send();
            let problem = problem.problem(412, "precondition_failed");
            assert_eq!(
                (&problem["expected"], &problem["actual"]),
                (&expected, &json!(2)),
                "{tags}"
            );
            assert_eq!((&problem["graph"], &problem["version"]), (&json!("g"), &json!(3)));
        }
        let put = server.put("/v1/graphs/g/datasets/none").header("If-Match", tags).send();
        assert_eq!(put.problem(412, "precondition_failed")["actual"], json!(null));
        let post = server.post("/v1/graphs/g/changesets").json(&json!({"operations": []}));
        if !tags.contains('3') {
            let problem = post.header("If-Match", tags).send().problem(412, "precondition_failed");
            assert_eq!(
                (&problem["expected"], &problem["actual"]),
                (&expected, &json!(3)),
                "{tags}"
            );
        }
        let put = server.put("/v1/graphs/none").header("If-Match", tags).send();
        assert_eq!(put.problem(412, "precondition_failed")["actual"], json!(null));
        assert_eq!(server.state(), before, "{tags}");
    }
}

#[test]
fn a_graph_that_is_not_empty_is_not_deleted_without_if_match() {
    let server = Server::with_graph();
    let delete = || server.delete("/v1/graphs/g");
    let required = |version: u64| {
        let answer = delete().header("Idempotency-Key", "k").send();
        assert_eq!(answer.header("fencepost-version"), Some(version.to_string().as_str()));
        let problem = answer.problem(428, "precondition_required");
        assert_eq!((&problem["actual"], &problem["version"]), (&json!(version), &json!(version)));
        assert_eq!(problem["graph"], "g");
    };
    server.put_job("a", &["x"], &[]);
    required(1);
    // A declared dataset counts as a job does.
    server.put("/v1/graphs/g/datasets/d").send().expect(201);
    server.delete("/v1/graphs/g/jobs/a").send().expect(200);
    required(3);
    assert_eq!(server.state()["version"], 3);
    delete().header("If-Match", "\"2\"").send().problem(412, "precondition_failed");
    delete().header("If-Match", "W/\"3\"").send().problem(412, "precondition_failed");
    delete().header("If-None-Match", "*").send().problem(400, "malformed");
    let tag = server.get("/v1/graphs/g").send().header("etag").unwrap().to_owned();
    // The key was not used up by what was refused.
    let matching = delete().header("If-Match", &tag).header("Idempotency-Key", "k");
    let deleted = matching.clone().send().expect(200).json();
    // Sent again, without the precondition too: the answer is the one that was given.
    assert_eq!(matching.send().expect(200).json(), deleted);
    assert_eq!(delete().header("Idempotency-Key", "k").send().expect(200).json(), deleted);
    delete().send().problem(404, "graph_not_found");
    delete().header("If-Match", "*").send().problem(404, "graph_not_found");
    // A deleted graph keeps its version: no answer is older than one that was given.
    let changed = server.put("/v1/graphs/g").header("If-Match", "*").send();
    let problem = changed.problem(412, "precondition_failed");
    assert_eq!((&problem["version"], &problem["actual"]), (&deleted["version"], &json!(null)));

    server.put("/v1/graphs/g").send().expect(201);
    delete().send().expect(200);
    server.put("/v1/graphs/g").send().expect(201);
    server.put_job("a", &[], &[]);
    delete().header("If-Match", "*").send().expect(200);
}

#[test]
fn an_answer_to_a_write_tells_the_etag_that_if_match_needs_next() {
    let server = Server::with_graph();
    let (job, dataset) = ("/v1/graphs/g/jobs/a", "/v1/graphs/g/datasets/d");
    let (graph, changesets) = ("/v1/graphs/g", "/v1/graphs/g/changesets");
    let body = json!({"inputs": ["x"], "outputs": []});
    let one = json!({"operations": [{"op": "put_dataset", "name": "e"}]});
    let new_job = json!({"name": "b/c", "inputs": [], "outputs": []});
    // The request, what its tag is of, and whether its method has the tag as a header too.
    let writes = [
        (server.put(dataset), dataset, false),
        (server.put(job).json(&body), job, false),
        // These change nothing.
        (server.put(dataset), dataset, false),
        (server.put(job).json(&body), job, false),
        (server.put(graph), graph, false),
        (server.patch(job).json(&json!({})), job, true),
        (server.post(changesets).json(&one), graph, true),
        (server.put(job).json(&body), job, false),
        (server.post(&format!("{changesets}?dry_run=true")).json(&one), graph, true),
        (server.patch(job).json(&json!({"spec": {"k": 1}})), job, true),
        (server.post("/v1/graphs/g/jobs").json(&new_job), "/v1/graphs/g/jobs/b%2Fc", true),
        (server.put(&format!("{job}/inputs/d")), job, false),
        (server.delete(&format!("{job}/inputs/x")), job, false),
        (server.put(&format!("{job}/outputs/e")), job, false),
        (server.delete(&format!("{job}/outputs/e")), job, false),
    ];
    for (i, (request, resource, has_header)) in writes.into_iter().enumerate() {
        let request = request.header("Idempotency-Key", &format!("key {i}"));
        let answer = request.clone().send();
        assert!(answer.status < 300, "{answer:?}");
        let tag = server.get(resource).send().header("etag").unwrap().to_owned();
        assert_eq!(answer.json()["etag"], tag.as_str(), "{i}");
        assert_eq!(answer.header("etag"), has_header.then_some(tag.as_str()), "{i}");
        // What is kept for the key has it too.
        let again = request.send();
        assert_eq!((again.header("etag"), &again.body), (answer.header("etag"), &answer.body));
    }
    // What is gone has none.
    for path in [job, dataset] {
        let tag = server.get(path).send().header("etag").unwrap().to_owned();
        let deleted = server.delete(path).header("If-Match", &tag).send().expect(200);
        assert_eq!((&deleted.json()["etag"], deleted.header("etag")), (&json!(null), None));
    }
    let deleted = server.delete(graph).header("If-Match", "*").send().expect(200);
    assert_eq!(deleted.json()["etag"], json!(null));
}

#[test]
fn writes_can_be_chained_by_the_etags_of_their_answers() {
    let server = Server::with_graph();
    let job = "/v1/graphs/g/jobs/a";
    let body = json!({"inputs": ["x"], "outputs": []});
    let mut tag = server.put(job).json(&body).send().expect(201).json()["etag"].clone();
    for n in 0..3 {
        server.put(&format!("/v1/graphs/g/datasets/x{n}")).send().expect(201);
        let patch = server.patch(job).json(&json!({"spec": {"n": n}}));
        let edge = format!("{job}/outputs/x{n}");
        // The second changes nothing.
        let writes = [patch.clone(), patch, server.put(&edge), server.delete(&edge)];
        for (i, request) in writes.into_iter().enumerate() {
            // Others write in between.
            server.put_job(&format!("other {n} {i}"), &[], &[]);
            let answer = request.header("If-Match", tag.as_str().unwrap()).send();
            assert!(answer.status < 300, "{answer:?}");
            tag = answer.json()["etag"].clone();
        }
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
        ("If-Match", "\"1\" \"2\""),
        ("If-Match", "w/\"1\""),
        ("If-Match", "*, \"1\""),
        ("If-Match", "\"1\", *"),
        ("If-Match", ","),
        ("If-Match", ""),
        ("If-None-Match", "\"1\""),
        ("If-None-Match", "W/\"2\""),
        ("If-None-Match", "*, *"),
        ("If-None-Match", ""),
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
    server.delete("/v1/graphs/g").header("If-None-Match", "*").send().problem(400, "malformed");
    assert_eq!(server.state(), before);
}
