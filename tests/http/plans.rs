//! Plans, and what lies upstream and downstream.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::server::{Answer, Server};

/// `raw -> load -> clean -> {report, "score \"1\""} -> final`, and a job apart.
fn diamond() -> Server {
    let server = Server::with_graph();
    let changed = server.change(&json!([
        {"op": "put_job", "name": "load", "inputs": ["raw"], "outputs": ["clean"]},
        {"op": "put_job", "name": "report", "inputs": ["clean", "extra"], "outputs": ["r"]},
        {"op": "put_job", "name": "score \"1\"", "inputs": ["clean"], "outputs": ["s"]},
        {"op": "put_job", "name": "final", "inputs": ["r", "s"], "outputs": ["end"]},
        {"op": "put_job", "name": "apart", "inputs": ["raw"], "outputs": ["other"]},
    ]));
    changed.expect(201);
    server
}

fn plan_of(server: &Server, body: &Value) -> Answer {
    server.post("/v1/graphs/g/plans").json(body).send()
}

#[test]
fn the_plan_of_a_dataset_has_stages_dependencies_sources_and_a_digest() {
    let server = diamond();
    let answer = server.get("/v1/graphs/g/datasets/end/plan").send().expect(200);
    let lines = "job\t0\tload\njob\t1\treport\njob\t1\tscore \"1\"\njob\t2\tfinal\n\
                 dep\tload\treport\ndep\tload\tscore \"1\"\ndep\treport\tfinal\ndep\tscore \"1\"\tfinal\n";
    let digest: String = Sha256::digest(lines).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = json!({
        "graph": "g", "version": 1, "targets": ["end"],
        "jobs": ["load", "report", "score \"1\"", "final"],
        "stages": [["load"], ["report", "score \"1\""], ["final"]],
        "dependencies": [["load", "report"], ["load", "score \"1\""], ["report", "final"], ["score \"1\"", "final"]],
        "sources": ["extra", "raw"],
        "digest": digest,
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("fencepost-version"), Some("1"));
    assert_eq!(answer.header("vary"), Some("Accept"));
}

#[test]
fn the_plan_of_a_job_ends_with_the_job() {
    let server = diamond();
    let plan = server.get("/v1/graphs/g/jobs/report/plan").send().expect(200).json();
    assert_eq!(plan["stages"], json!([["load"], ["report"]]));
    assert_eq!(plan["targets"], json!(["report"]));
}

#[test]
fn a_source_needs_no_job() {
    let server = diamond();
    let plan = server.get("/v1/graphs/g/datasets/raw/plan").send().expect(200).json();
    assert_eq!(
        (&plan["jobs"], &plan["stages"], &plan["sources"]),
        (&json!([]), &json!([]), &json!([]))
    );
}

#[test]
fn a_plan_for_many_targets_can_stop_at_datasets() {
    let server = diamond();
    let request = json!({"datasets": ["r", "other"], "jobs": ["final"], "stop_at": ["clean", "s"]});
    let plan = plan_of(&server, &request).expect(200).json();
    assert_eq!(plan["stages"], json!([["apart", "report"], ["final"]]));
    assert_eq!(plan["sources"], json!(["clean", "extra", "raw", "s"]));
    assert_eq!(plan["targets"], json!(["final", "other", "r"]));
    assert_eq!(plan["dependencies"], json!([["report", "final"]]));
}

#[test]
fn jobs_that_a_plan_holds_for_another_reason_keep_their_order_through_stop_at() {
    let server = diamond();
    let plan = plan_of(&server, &json!({"jobs": ["load", "report"], "stop_at": ["clean"]}));
    let plan = plan.expect(200).json();
    assert_eq!(plan["stages"], json!([["load"], ["report"]]));
    assert_eq!(plan["dependencies"], json!([["load", "report"]]));
    assert_eq!(plan["sources"], json!(["extra", "raw"]));
    // The order is drawn, too.
    let request = json!({"jobs": ["load", "report"], "stop_at": ["clean"]});
    let drawn = server.post("/v1/graphs/g/plans").header("Accept", "text/vnd.graphviz");
    let drawn = drawn.json(&request).send().expect(200).text();
    assert!(drawn.contains("\"load\" -> \"report\";"), "{drawn}");
}

#[test]
fn a_target_that_the_search_stops_at_is_not_produced() {
    let server = diamond();
    let request = json!({"datasets": ["r"], "stop_at": ["r"]});
    let plan = plan_of(&server, &request).expect(200).json();
    assert_eq!((&plan["jobs"], &plan["sources"]), (&json!([]), &json!([])));
    assert_eq!(plan["targets"], json!(["r"]));
}

#[test]
fn a_job_and_a_dataset_of_one_name_are_two_targets() {
    let server = Server::with_graph();
    let job = json!({"op": "put_job", "name": "x", "inputs": [], "outputs": ["x"]});
    server.change(&json!([job])).expect(201);
    let targets = |request: &Value| plan_of(&server, request).expect(200).json()["targets"].clone();
    assert_eq!(targets(&json!({"datasets": ["x"], "jobs": ["x"]})), json!(["x", "x"]));
    assert_eq!(targets(&json!({"datasets": ["x", "x"]})), json!(["x"]));
    assert_eq!(targets(&json!({"jobs": ["x", "x"]})), json!(["x"]));
}

#[test]
fn a_plan_for_what_is_not_there_is_refused() {
    let server = diamond();
    let missing =
        server.get("/v1/graphs/g/datasets/none/plan").send().problem(404, "dataset_not_found");
    assert_eq!((&missing["name"], &missing["version"]), (&json!("none"), &json!(1)));
    server.get("/v1/graphs/g/jobs/none/plan").send().problem(404, "job_not_found");
    plan_of(&server, &json!({"datasets": ["end"], "stop_at": ["none"]}))
        .problem(404, "dataset_not_found");
    plan_of(&server, &json!({"jobs": ["end"]})).problem(404, "job_not_found");
    assert_eq!(
        plan_of(&server, &json!({"stop_at": ["end"]})).problem(400, "malformed")["at"],
        "datasets"
    );
    assert_eq!(
        plan_of(&server, &json!({"jobs": [".."]})).problem(422, "invalid_name")["at"],
        "jobs[0]"
    );
}

#[test]
fn a_plan_is_drawn_in_the_language_that_accept_asks_for() {
    let server = diamond();
    let drawn = |accept: &str| {
        let answer = server
            .get("/v1/graphs/g/datasets/end/plan")
            .header("Accept", accept)
            .send()
            .expect(200);
        assert_eq!(answer.header("fencepost-version"), Some("1"));
        let media_type = answer.header("content-type").unwrap().to_owned();
        (media_type, answer.text())
    };
    let (media_type, dot) = drawn("text/vnd.graphviz");
    assert_eq!(media_type, "text/vnd.graphviz");
    assert!(
        dot.starts_with("digraph plan {\n") && dot.contains("\"load\" -> \"score \\\"1\\\"\";\n"),
        "{dot}"
    );
    let (media_type, mermaid) = drawn("text/vnd.mermaid");
    assert_eq!(media_type, "text/vnd.mermaid");
    assert!(
        mermaid.starts_with("flowchart LR\n") && mermaid.contains("[\"score #34;1#34;\"]"),
        "{mermaid}"
    );
    for (accept, expected) in [
        ("text/vnd.graphviz;q=0.4, text/vnd.mermaid;q=0.5", "text/vnd.mermaid"),
        ("text/*;q=0.9, application/json;q=0.1", "text/vnd.graphviz"),
        ("text/vnd.graphviz;q=0, text/*", "text/vnd.mermaid"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0.1, text/vnd.graphviz;q=0.2, */*;q=0", "text/vnd.graphviz"),
        ("TEXT/VND.MERMAID", "text/vnd.mermaid"),
    ] {
        assert_eq!(drawn(accept).0, expected, "{accept}");
    }
}

#[test]
fn upstream_and_downstream_go_as_many_jobs_far_as_depth_says() {
    let server = diamond();
    let reached =
        |path: &str| server.get(&format!("/v1/graphs/g/{path}")).send().expect(200).json();
    let both = |jobs: Value, datasets: Value| json!({"jobs": jobs, "datasets": datasets});
    let all = both(
        json!(["final", "load", "report", "score \"1\""]),
        json!(["clean", "extra", "r", "raw", "s"]),
    );
    assert_eq!(reached("datasets/end/upstream"), all);
    assert_eq!(reached("datasets/end/upstream?depth=0"), both(json!([]), json!([])));
    assert_eq!(reached("datasets/end/upstream?depth=1"), both(json!(["final"]), json!(["r", "s"])));
    let far = both(
        json!(["apart", "final", "load", "report", "score \"1\""]),
        json!(["clean", "end", "other", "r", "s"]),
    );
    assert_eq!(reached("datasets/raw/downstream"), far);
    assert_eq!(reached("jobs/load/downstream?depth=0"), both(json!([]), json!(["clean"])));
    let near = both(json!(["report", "score \"1\""]), json!(["clean", "r", "s"]));
    assert_eq!(reached("jobs/load/downstream?depth=1"), near);
    assert_eq!(
        reached("jobs/report/upstream"),
        both(json!(["load"]), json!(["clean", "extra", "raw"]))
    );
    assert_eq!(reached("jobs/final/downstream"), both(json!([]), json!(["end"])));

    server.get("/v1/graphs/g/jobs/none/upstream").send().problem(404, "job_not_found");
    server.get("/v1/graphs/g/datasets/none/downstream").send().problem(404, "dataset_not_found");
    for depth in ["-1", "x", "", "%2B1", "9223372036854775808"] {
        let problem = server.get(&format!("/v1/graphs/g/jobs/load/upstream?depth={depth}")).send();
        assert_eq!(problem.problem(400, "malformed")["at"], "depth");
    }
}
