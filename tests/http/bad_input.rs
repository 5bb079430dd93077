//! Input that is refused: with the documented problem, and nothing changed.

use serde_json::{Value, json};

use crate::support::server::{Answer, Request, Server};

/// A graph with `a: x -> y` and the declared dataset `d`, and its version and digest.
struct Refusing {
    server: Server,
    before: Value,
}

impl Refusing {
    fn new() -> Self {
        let server = Server::with_graph();
        server.put_job("a", &["x"], &["y"]);
        server
            .put("/v1/graphs/g/datasets/d")
            .json(&json!({"metadata": {"k": 1}}))
            .send()
            .expect(201);
        let before = server.state();
        Self { server, before }
    }

    #[track_caller]
    fn refuses(&self, answer: Answer, status: u16, name: &str) -> Value {
        let problem = answer.problem(status, name);
        assert_eq!(self.server.state(), self.before, "after {problem}");
        problem
    }

    /// Puts this text as a job's body.
    fn put(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.server.put("/v1/graphs/g/jobs/b").body("application/json", body).send()
    }

    fn send(&self, request: Request) -> Answer {
        request.send()
    }
}

#[test]
fn malformed_json_is_told_with_line_and_column() {
    let graph = Refusing::new();
    for (body, line, column) in [
        ("{\n  \"inputs\": [],\n  \"outputs\": [}\n", 3, 15),
        ("{\"inputs\": [], \"outputs\": []", 1, 28),
        ("{\"inputs\": [], \"outputs\": []} x", 1, 31),
        ("", 1, 0),
        ("nonsense", 1, 2),
        ("{'inputs': []}", 1, 2),
        ("{\"inputs\": [], \"outputs\": [], \"spec\": {\"a\": 01}}", 1, 45),
        ("{\"inputs\": [], \"outputs\": [], \"spec\": {\"a\": NaN}}", 1, 45),
    ] {
        let answer = if body.is_empty() {
            graph.server.put("/v1/graphs/g/jobs/b").send()
        } else {
            graph.put(body)
        };
        let problem = graph.refuses(answer, 400, "malformed");
        assert_eq!((&problem["at"], &problem["line"]), (&json!("body"), &json!(line)), "{body}");
        let told = problem["column"].as_u64().unwrap();
        assert!(told.abs_diff(column) <= 1, "{body}: {told}");
    }
}

#[test]
fn a_problem_repeats_no_more_of_a_request_than_a_person_reads() {
    let graph = Refusing::new();
    let body = format!("{{\"{}\": 1}}", "x".repeat(1 << 20));
    let problem = graph.refuses(graph.put(body), 400, "malformed");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("unknown field `xxx") && detail.contains("left out"), "{detail}");
    assert!(detail.len() < 10_000, "{}", detail.len());
}

#[test]
fn wrong_types_and_missing_and_unknown_fields_are_named() {
    let graph = Refusing::new();
    let put = |body: Value| graph.put(body.to_string());
    for body in [
        json!([]),
        json!(null),
        json!("text"),
        json!(1),
        // Serde takes a list for an object where it is not watched.
        json!(["b", [], [], {}, 1]),
        json!({"inputs": "x", "outputs": []}),
        json!({"inputs": [1], "outputs": []}),
        json!({"inputs": [["x"]], "outputs": []}),
        json!({"inputs": {"x": 1}, "outputs": []}),
        json!({"inputs": [null], "outputs": []}),
        json!({"inputs": null, "outputs": []}),
        json!({"name": null, "inputs": [], "outputs": []}),
        json!({"name": 1, "inputs": [], "outputs": []}),
        json!({"inputs": [], "outputs": [], "input": []}),
    ] {
        let problem = graph.refuses(put(body.clone()), 400, "malformed");
        assert_eq!(problem["at"], "body", "{body}");
    }
    for (body, at) in [
        (json!({"outputs": []}), "inputs"),
        (json!({"inputs": []}), "outputs"),
        (json!({"inputs": [], "outputs": [], "spec": []}), "spec"),
        (json!({"inputs": [], "outputs": [], "spec": "x"}), "spec"),
        (json!({"inputs": [], "outputs": [], "spec": null}), "spec"),
        (json!({"name": "c", "inputs": [], "outputs": []}), "name"),
    ] {
        assert_eq!(graph.refuses(put(body), 400, "malformed")["at"], at);
    }
}

#[test]
fn a_list_is_no_object_wherever_one_is_expected() {
    let graph = Refusing::new();
    let send = |method: &str, path: &str, body: &Value| {
        graph.server.call(method, &format!("/v1/graphs/g{path}")).json(body).send()
    };
    // The fields of each, in the order in which a program may have them.
    let job = json!(["b", ["in"], ["out"], {}, null]);
    let patch = json!([null, ["z"], ["w"], {}, null]);
    let operation =
        json!(["put_dataset", "e", null, null, null, null, null, null, null, {}, null, null]);
    let dataset = json!(["d", {}, true, null, []]);
    let plan = json!([["y"], [], []]);
    for (method, path, body) in [
        ("POST", "/jobs", &job),
        ("PUT", "/jobs/b", &job),
        ("PATCH", "/jobs/a", &patch),
        ("PUT", "/datasets/d", &dataset),
        ("POST", "/changesets", &json!([[]])),
        ("POST", "/changesets", &json!([[operation]])),
        ("POST", "/changesets", &json!({"operations": [operation]})),
        ("POST", "/changesets", &json!({"operations": [["put_dataset", "e"]]})),
        ("POST", "/changesets", &json!({"operations": [["delete_job", "a"]]})),
        (
            "POST",
            "/changesets",
            &json!({"operations": [{"op": "patch_job", "name": "a", "patch": patch}]}),
        ),
        (
            "POST",
            "/changesets",
            &json!({"operations": [{"op": "patch_job", "name": "a", "patch": []}]}),
        ),
        ("POST", "/plans", &plan),
        ("POST", "/plans", &json!([])),
        ("PUT", "/consumers/c", &json!([1])),
        ("PUT", "", &json!([])),
        // And what serde takes for a struct without fields.
        ("PUT", "", &json!(null)),
        ("PUT", "/consumers/c", &json!({"acknowledged": "1"})),
        ("PUT", "/consumers/c", &json!({"acknowledged": 1.0})),
        ("POST", "/plans", &json!({"datasets": null, "jobs": ["a"]})),
        (
            "POST",
            "/changesets",
            &json!({"operations": [{"op": {"delete_job": null}, "name": "a"}]}),
        ),
        (
            "POST",
            "/changesets",
            &json!({"operations": [{"op": "delete_job", "name": "a", "if_version": "2"}]}),
        ),
    ] {
        let problem = graph.refuses(send(method, path, body), 400, "malformed");
        assert_eq!(problem["at"], "body", "{method} {path} {body}");
        assert!(problem["line"] == 1 && problem["column"].is_u64(), "{problem}");
    }
    // What is opaque is still an object.
    for (method, path, body) in [
        ("PUT", "/jobs/b", json!({"inputs": [], "outputs": [], "spec": [["k", 1]]})),
        ("PATCH", "/jobs/a", json!({"spec": []})),
        ("PUT", "/datasets/d", json!({"metadata": []})),
    ] {
        graph.refuses(send(method, path, &body), 400, "malformed");
    }
}

#[test]
fn a_changeset_names_the_operation_that_is_wrong() {
    let graph = Refusing::new();
    let change = |operation: Value| {
        let fine = json!({"op": "put_dataset", "name": "fine"});
        graph.server.change(&json!([fine, operation]))
    };
    for (operation, at) in [
        (json!({"op": "drop_table"}), "operations[1].op"),
        (json!({"op": "put_job", "name": "b", "inputs": []}), "operations[1].outputs"),
        (json!({"op": "delete_job"}), "operations[1].name"),
        (json!({"op": "delete_job", "name": "a", "spec": {}}), "operations[1].spec"),
        (json!({"op": "add_input", "job": "a"}), "operations[1].dataset"),
        (json!({"op": "patch_job", "name": "a"}), "operations[1].patch"),
        (
            json!({"op": "patch_job", "name": "a", "patch": {"inputs": null}}),
            "operations[1].patch.inputs",
        ),
        (json!({"op": "put_dataset", "name": "e", "metadata": []}), "operations[1].metadata"),
        (json!({"op": "put_dataset", "name": "e", "metadata": null}), "operations[1].metadata"),
    ] {
        assert_eq!(graph.refuses(change(operation), 400, "malformed")["at"], at);
    }
    for operation in [
        json!({"name": "a"}),
        json!("put_job"),
        json!({"op": "delete_job", "name": "a", "x": 1}),
        json!({"op": "delete_job", "name": "a", "if_version": -1}),
        // Who sends no version for one means to be careful, and must not be taken to say that any
        // will do.
        json!({"op": "delete_job", "name": "a", "if_version": null}),
        json!({"op": "put_job", "name": "a", "inputs": [], "outputs": [], "if_absent": null}),
    ] {
        graph.refuses(change(operation), 400, "malformed");
    }
    let problem =
        graph.refuses(change(json!({"op": "delete_job", "name": ""})), 422, "invalid_name");
    assert_eq!(problem["at"], "operations[1].name");
    let bodies = [
        json!({}),
        json!({"operations": {}}),
        json!({"operations": [], "dry_run": true}),
        json!([[]]),
    ];
    for body in bodies {
        let answer = graph.server.post("/v1/graphs/g/changesets").json(&body).send();
        graph.refuses(answer, 400, "malformed");
    }
}

#[test]
fn duplicate_keys_are_refused_wherever_they_are() {
    let graph = Refusing::new();
    let rest = r#""outputs":[]"#;
    for (body, at) in [
        (format!(r#"{{"inputs":[],"inputs":["z"],{rest}}}"#), "body"),
        (format!(r#"{{"inputs":[],"spec":{{}},"spec":{{}},{rest}}}"#), "body"),
        (format!(r#"{{"inputs":[],"spec":{{"k":1,"k":1}},{rest}}}"#), "spec"),
        (format!(r#"{{"inputs":[],"spec":{{"l":[{{"k":1,"\u006b":2}}]}},{rest}}}"#), "spec"),
    ] {
        assert_eq!(graph.refuses(graph.put(body.clone()), 400, "malformed")["at"], at, "{body}");
    }
    let metadata = r#"{"metadata":{"a":{"k":1,"k":2}}}"#;
    let put = graph.server.put("/v1/graphs/g/datasets/d").body("application/json", metadata).send();
    assert_eq!(graph.refuses(put, 400, "malformed")["at"], "metadata");
    let changeset = r#"{"operations":[],"operations":[]}"#;
    let post =
        graph.server.post("/v1/graphs/g/changesets").body("application/json", changeset).send();
    graph.refuses(post, 400, "malformed");
}

#[test]
fn json_is_64_levels_deep_at_most() {
    let graph = Refusing::new();
    let nested = |levels: usize| {
        // The object of the specification is the first level.
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"inputs":[],"outputs":[],"spec":{{"k":{open}{close}}}}}"#)
    };
    for levels in [65, 100_000] {
        let problem = graph.refuses(graph.put(nested(levels)), 400, "malformed");
        assert_eq!(problem["at"], "spec");
    }
    for field in ["version", "inputs", "name"] {
        let deep = format!(r#"{{"inputs":[],"outputs":[],"{field}":{}"#, "[".repeat(100_000));
        graph.refuses(graph.put(deep), 400, "malformed");
    }
    let objects = format!(
        r#"{{"inputs":[],"outputs":[],"spec":{}1{}}}"#,
        r#"{"k":"#.repeat(100_000),
        "}".repeat(100_000)
    );
    graph.refuses(graph.put(objects), 400, "malformed");
    graph.put(nested(64)).expect(201);
}

#[test]
fn a_body_that_is_not_utf_8_is_refused() {
    let graph = Refusing::new();
    let mut body = br#"{"inputs":[],"outputs":[],"spec":{"k":""#.to_vec();
    let at = body.len();
    body.extend(b"\xff\"}}");
    let problem = graph.refuses(graph.put(body), 400, "malformed");
    assert!(problem["detail"].as_str().unwrap().contains(&format!("byte {at}")), "{problem}");
    graph.refuses(graph.put(r#"{"inputs":["\ud800"],"outputs":[]}"#), 400, "malformed");
    graph.refuses(
        graph.put(r#"{"inputs":[],"outputs":[],"spec":{"k":"\ud800"}}"#),
        400,
        "malformed",
    );
}

#[test]
fn a_job_that_reads_what_it_writes_is_refused() {
    let graph = Refusing::new();
    let put = graph.put(json!({"inputs": ["s"], "outputs": ["s"]}).to_string());
    let problem = graph.refuses(put, 409, "cycle");
    assert_eq!((&problem["cycle"], &problem["operation"]), (&json!(["b", "s", "b"]), &json!(0)));
    assert_eq!((&problem["graph"], &problem["version"]), (&json!("g"), &json!(2)));
    let edge = graph.send(graph.server.put("/v1/graphs/g/jobs/a/inputs/y"));
    assert_eq!(graph.refuses(edge, 409, "cycle")["cycle"], json!(["a", "y", "a"]));
    let edge = graph.send(graph.server.put("/v1/graphs/g/jobs/a/outputs/x"));
    assert_eq!(graph.refuses(edge, 409, "cycle")["cycle"], json!(["a", "x", "a"]));
    let patch =
        graph.send(graph.server.patch("/v1/graphs/g/jobs/a").json(&json!({"inputs": ["y"]})));
    assert_eq!(graph.refuses(patch, 409, "cycle")["cycle"], json!(["a", "y", "a"]));
}

#[test]
fn a_cycle_that_only_the_whole_changeset_closes_is_refused() {
    let graph = Refusing::new();
    let problem = graph.server.change(&json!([
        {"op": "put_job", "name": "b", "inputs": ["y"], "outputs": ["z"]},
        {"op": "put_dataset", "name": "w"},
        {"op": "put_job", "name": "c", "inputs": ["z"], "outputs": ["x"]},
        {"op": "put_dataset", "name": "v"},
    ]));
    let problem = graph.refuses(problem, 409, "cycle");
    assert_eq!(problem["cycle"], json!(["a", "y", "b", "z", "c", "x", "a"]));
    assert_eq!(problem["operation"], 2);
}

#[test]
fn a_cycle_through_5000_jobs_is_refused_and_told_whole() {
    let server = Server::with_graph();
    let link = |i: u32| json!({"op": "put_job", "name": format!("{i:04}"), "inputs": [format!("d{i:04}")], "outputs": [format!("d{:04}", i + 1)]});
    server.change(&(0..4999).map(link).collect::<Value>()).expect(201);
    let before = server.state();
    let last = json!({"inputs": ["d4999"], "outputs": ["d0000"]});
    let problem = server.put("/v1/graphs/g/jobs/4999").json(&last).send().problem(409, "cycle");
    let cycle = problem["cycle"].as_array().unwrap();
    assert_eq!(cycle.len(), 10_001);
    assert_eq!(
        (&cycle[0], &cycle[1], &cycle[10_000]),
        (&json!("0000"), &json!("d0001"), &json!("0000"))
    );
    assert!(problem["detail"].as_str().unwrap().len() < 1000);
    assert_eq!(server.state(), before);
}

#[test]
fn a_second_producer_is_refused() {
    let graph = Refusing::new();
    let problem = graph.refuses(
        graph.put(json!({"inputs": [], "outputs": ["y", "z"]}).to_string()),
        409,
        "second_producer",
    );
    let told = (&problem["dataset"], &problem["producer"], &problem["job"], &problem["operation"]);
    assert_eq!(told, (&json!("y"), &json!("a"), &json!("b"), &json!(0)));
    assert_eq!(problem["version"], 2);
}

#[test]
fn names_that_are_none_are_refused_in_bodies() {
    let graph = Refusing::new();
    let long = "ä".repeat(256) + "x";
    assert_eq!(long.len(), 513);
    for name in ["", ".", "..", "a\nb", "\u{0}", "\u{7f}", "\u{85}", long.as_str()] {
        for (body, at) in [
            (json!({"inputs": ["fine", name], "outputs": []}), "inputs[1]"),
            (json!({"inputs": [], "outputs": [name]}), "outputs[0]"),
            (json!({"name": name, "inputs": [], "outputs": []}), "name"),
        ] {
            assert_eq!(
                graph.refuses(graph.put(body.to_string()), 422, "invalid_name")["at"],
                at,
                "{name:?}"
            );
        }
    }
}

#[test]
fn names_that_are_none_are_refused_in_paths() {
    let graph = Refusing::new();
    let long = "x".repeat(513);
    for segment in
        [".", "..", "%2e", "%2E%2e", ".%2e", "%00", "a%0Ab", "%7F", "%C2%85", long.as_str()]
    {
        for (method, path, at) in [
            ("DELETE", format!("/v1/graphs/{segment}"), "graph"),
            ("PUT", format!("/v1/graphs/{segment}"), "graph"),
            ("DELETE", format!("/v1/graphs/g/jobs/{segment}"), "job"),
            ("GET", format!("/v1/graphs/g/jobs/{segment}"), "job"),
            ("PUT", format!("/v1/graphs/g/jobs/a/inputs/{segment}"), "dataset"),
            ("PUT", format!("/v1/graphs/g/jobs/{segment}/inputs/x"), "job"),
            ("PUT", format!("/v1/graphs/g/datasets/{segment}"), "dataset"),
            ("DELETE", format!("/v1/graphs/g/datasets/{segment}"), "dataset"),
            ("GET", format!("/v1/graphs/g/datasets/{segment}/plan"), "dataset"),
            ("GET", format!("/v1/graphs/g/jobs/{segment}/downstream"), "job"),
        ] {
            let problem = graph.server.call(method, &path).send().problem(422, "invalid_name");
            assert_eq!(problem["at"], at, "{method} {path}");
        }
        assert_eq!(graph.server.state(), graph.before, "{segment}");
    }
}

#[test]
fn paths_are_refused_not_repaired() {
    let graph = Refusing::new();
    for path in [
        "//v1/graphs/g",
        "/v1//graphs/g",
        "/v1/graphs//g",
        "/v1/graphs/g/",
        "/v1/graphs/g//",
        "/v1/graphs/g/jobs/",
        "/v1/graphs/g/jobs//a",
        "/v1/graphs/g/jobs/%FF",
        "/v1/graphs/g/jobs/%C3",
        "/v1/graphs/g/jobs/%ED%A0%80",
        "/v1/graphs/g/jobs/a%",
        "/v1/graphs/g/jobs/a%2",
        "/v1/graphs/g/jobs/a%zz",
        "/livez/",
    ] {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            let answer = graph.server.call(method, path).send();
            assert_eq!(graph.refuses(answer, 400, "malformed")["at"], "path", "{method} {path}");
        }
    }
    // A dot segment is a name that is refused, never a step up: this is no deletion of the graph.
    graph.refuses(graph.server.delete("/v1/graphs/g/jobs/..").send(), 422, "invalid_name");
    graph.refuses(graph.server.delete("/v1/graphs/g/jobs/a/..").send(), 404, "route_not_found");
    graph.refuses(graph.server.delete("/v1/graphs/g/jobs/a/%2e%2e").send(), 404, "route_not_found");
    graph.refuses(graph.server.delete("/v1/x/../graphs/g").send(), 404, "route_not_found");
    graph.refuses(graph.server.delete("/V1/graphs/g").send(), 404, "route_not_found");
}

#[test]
fn unknown_and_repeated_query_parameters_are_refused() {
    let graph = Refusing::new();
    let known = |route: &fencepost::http::Route| !route.query.is_empty();
    for route in fencepost::http::ROUTES {
        let path = route
            .path
            .replace("{graph}", "g")
            .replace("{job}", "a")
            .replace("{dataset}", "y")
            .replace("{consumer}", "c");
        let send = |query: &str| {
            let request = graph.server.call(route.method, &format!("{path}?{query}"));
            let request =
                if route.body_types().is_empty() { request } else { request.json(&json!({})) };
            request.send().problem(400, "malformed")
        };
        assert_eq!(send("nonsense=1")["at"], "nonsense", "{}", route.id);
        assert_eq!(send("nonsense")["at"], "nonsense", "{}", route.id);
        send("%FF=1");
        if known(route) {
            let parameter = route.query[0];
            assert_eq!(
                send(&format!("{parameter}=1&{parameter}=1"))["at"],
                parameter,
                "{}",
                route.id
            );
        }
    }
    assert_eq!(graph.server.state(), graph.before);
}

#[test]
fn edges_and_patches_of_what_is_not_there_are_refused() {
    let graph = Refusing::new();
    graph.refuses(graph.server.put("/v1/graphs/g/jobs/none/inputs/x").send(), 404, "job_not_found");
    graph.refuses(
        graph.server.put("/v1/graphs/g/jobs/a/inputs/none").send(),
        404,
        "dataset_not_found",
    );
    graph.refuses(
        graph.server.delete("/v1/graphs/g/jobs/a/outputs/x").send(),
        404,
        "edge_not_found",
    );
    graph.refuses(
        graph.server.patch("/v1/graphs/g/jobs/none").json(&json!({})).send(),
        404,
        "job_not_found",
    );
    graph.refuses(graph.server.delete("/v1/graphs/g/datasets/x").send(), 409, "dataset_in_use");
    let change = graph.server.change(&json!([{"op": "add_input", "job": "a", "dataset": "none"}]));
    graph.refuses(change, 404, "dataset_not_found");
}

#[test]
fn an_actor_of_no_or_too_many_bytes_is_refused() {
    let graph = Refusing::new();
    for actor in ["", &"a".repeat(256)] {
        let put =
            graph.server.delete("/v1/graphs/g/jobs/a").header("Fencepost-Actor", actor).send();
        assert_eq!(graph.refuses(put, 400, "malformed")["at"], "fencepost-actor");
    }
    graph
        .server
        .delete("/v1/graphs/g/jobs/a")
        .header("Fencepost-Actor", "jürgen")
        .send()
        .expect(200);
}
