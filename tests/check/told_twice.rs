//! What an answer tells beside its verdict: headers, and what a body repeats.

use fencepost::check::Kind;
use serde_json::{Value, json};

use super::script::*;

/// The end with these headers.
fn with(end: Value, headers: Value) -> Value {
    let mut end = end;
    end["headers"] = headers;
    end
}

fn tagged(end: Value, version: u64, tag: u64) -> Value {
    with(end, json!({"version": version.to_string(), "etag": format!("\"{tag}\"")}))
}

fn plain(end: Value, version: u64) -> Value {
    with(end, json!({"version": version.to_string()}))
}

fn job(version: u64) -> Value {
    json!({"name": "a", "inputs": [], "outputs": [], "spec": {}, "version": version})
}

fn changeset(operations: Value) -> Value {
    json!({"call": "applyChangeset", "operations": operations})
}

/// Two jobs, `a` of version 1 and `b` of version 2, then this call.
fn then(request: Value, end: Value) -> Script {
    Script::new()
        .call(0, [1, 2], put_job("a", &[], &[]), plain(created(1), 1))
        .call(0, [3, 4], put_job("b", &[], &["y"]), plain(created(2), 2))
        .call(0, [5, 6], request, end)
}

#[track_caller]
fn is(kind: Kind, expected: &str, script: &Script) {
    let finding = script.found();
    assert_eq!((finding.kind, &*finding.expected), (kind, expected), "{finding}");
    assert_eq!(finding.operations.last().map(|call| call.id), Some(2), "{finding}");
}

#[test]
fn the_tag_of_a_read_is_the_version_of_what_was_read() {
    let unmodified = json!({"event": "ok", "verdict": "not_modified", "version": 2});
    let if_none_match = json!({"call": "readJob", "job": "a", "if_none_match": 1});
    let dataset = json!({
        "name": "y", "declared": false, "producer": "b", "consumers": [], "metadata": {},
    });
    let reads = [
        (read_job("a"), answered(2, job(1)), 1),
        (if_none_match, unmodified, 1),
        (read_graph(), counts(2, 2, 1, 1), 2),
        (json!({"call": "readDataset", "dataset": "y"}), answered(2, dataset), 2),
    ];
    for (request, end, tag) in reads {
        then(request.clone(), tagged(end.clone(), 2, tag)).valid();
        let expected = format!("ETag: \"{tag}\"");
        let others = [json!(format!("W/\"{tag}\"")), json!("\"9\""), json!(tag.to_string())];
        for other in others {
            let headers = json!({"version": "2", "etag": other});
            is(Kind::WrongHeader, &expected, &then(request.clone(), with(end.clone(), headers)));
        }
        is(Kind::WrongHeader, &expected, &then(request, plain(end, 2)));
    }
}

#[test]
fn the_version_in_the_header_is_the_one_in_the_body() {
    let expected = "Fencepost-Version: 2";
    let absent = rejected(2, 404, "job_not_found", json!({"name": "c"}));
    let again = put_job("a", &[], &[]);
    then(read_job("c"), plain(absent.clone(), 2)).valid();
    is(Kind::WrongHeader, expected, &then(read_job("c"), plain(absent.clone(), 1)));
    is(Kind::WrongHeader, expected, &then(read_job("c"), with(absent, json!({}))));
    then(again.clone(), plain(unchanged(2), 2)).valid();
    is(Kind::WrongHeader, expected, &then(again, plain(unchanged(2), 3)));
    is(Kind::WrongHeader, expected, &then(read_job("a"), tagged(answered(2, job(1)), 3, 1)));
    let more = put_job("c", &[], &[]);
    is(Kind::WrongHeader, "Fencepost-Version: 3", &then(more, plain(created(3), 2)));
    // What was not decided has no version.
    let too_large = json!({
        "event": "fail", "verdict": "rejected", "headers": {"version": "2"},
        "problem": {"type": "urn:fencepost:problem:too_large", "status": 413, "limit": 1},
    });
    let finding = then(put_job("c", &[], &[]), too_large).found();
    assert_eq!((finding.kind, &*finding.expected), (Kind::WrongHeader, "no Fencepost-Version"));
}

#[test]
fn a_write_is_tagged_with_the_version_of_what_it_was_about_but_not_a_put() {
    let set = changeset(json!([{"op": "put_job", "name": "a", "inputs": ["x"], "outputs": []}]));
    then(set.clone(), tagged(changed(3), 3, 3)).valid();
    is(Kind::WrongHeader, "ETag: \"3\"", &then(set.clone(), tagged(changed(3), 3, 2)));
    is(Kind::WrongHeader, "ETag: \"3\"", &then(set, plain(changed(3), 3)));
    // Of all that it names, the graph.
    let same = changeset(json!([{"op": "put_job", "name": "a", "inputs": [], "outputs": []}]));
    then(same.clone(), tagged(unchanged(2), 2, 2)).valid();
    is(Kind::WrongHeader, "ETag: \"2\"", &then(same, tagged(unchanged(2), 2, 1)));
    let patch =
        json!({"call": "patchJob", "operations": [{"op": "patch_job", "name": "a", "patch": {}}]});
    then(patch.clone(), tagged(unchanged(2), 2, 1)).valid();
    is(Kind::WrongHeader, "ETag: \"1\"", &then(patch, tagged(unchanged(2), 2, 2)));
    is(Kind::WrongHeader, "no ETag", &then(put_job("a", &["x"], &[]), tagged(changed(3), 3, 3)));
}

#[test]
fn the_body_of_an_accepted_write_says_what_its_verdict_says() {
    let put = || put_job("a", &["x"], &[]);
    let told = |request: Value, body: Value| {
        let mut end = changed(3);
        end["answer"] = body;
        then(request, plain(end, 3))
    };
    let right = json!({"graph": "g", "version": 3, "changed": true, "etag": "\"3\""});
    told(put(), right.clone()).valid();
    told(put(), json!({})).valid();
    let expected = right.to_string();
    let others = [
        ("graph", json!("h")),
        ("version", json!(2)),
        ("changed", json!(false)),
        ("etag", json!("\"2\"")),
    ];
    for (member, value) in others {
        let mut body = right.clone();
        body[member] = value;
        is(Kind::WrongAnswer, &expected, &told(put(), body));
    }
    is(Kind::WrongAnswer, &expected, &told(put(), json!([])));
    // What is gone has no version.
    let mut gone = right.clone();
    is(
        Kind::WrongAnswer,
        &expected.replace(r#""\"3\"""#, "null"),
        &told(delete_job("a"), gone.clone()),
    );
    gone["etag"] = Value::Null;
    told(delete_job("a"), gone.clone()).valid();
    is(Kind::WrongAnswer, &expected, &told(put(), gone));
}

#[test]
fn a_dataset_has_a_tag_where_it_is_declared_and_none_where_it_is_gone() {
    let told = |mut end: Value, version: u64, tag: Value| {
        end["answer"] = json!({"graph": "g", "version": version, "changed": true, "etag": tag});
        end
    };
    let put = |tag: Value| then(put_dataset("d", json!({})), told(created(3), 3, tag));
    put(json!("\"3\"")).valid();
    assert_eq!(put(Value::Null).found().kind, Kind::WrongAnswer);
    let delete = json!({
        "call": "deleteDataset", "operations": [{"op": "delete_dataset", "name": "d"}],
    });
    let gone = |tag: Value| {
        Script::new().call(0, [1, 2], put_dataset("d", json!({})), created(1)).call(
            0,
            [3, 4],
            delete.clone(),
            told(changed(2), 2, tag),
        )
    };
    gone(Value::Null).valid();
    assert_eq!(gone(json!("\"2\"")).found().kind, Kind::WrongAnswer);
}

#[test]
fn a_graph_has_a_tag_where_it_is_created_and_none_where_it_is_deleted() {
    let told = |call: &str, end: Value, version: u64, tag: Value| {
        let mut end = plain(end, version);
        end["answer"] = json!({"graph": "g", "version": version, "changed": true, "etag": tag});
        if call == "createGraph" {
            end["answer"]["changed"] = json!(false);
        }
        then(json!({"call": call}), end)
    };
    let expected = |version: u64, changed: bool, tag: Value| {
        json!({"graph": "g", "version": version, "changed": changed, "etag": tag}).to_string()
    };
    told("deleteGraph", changed(3), 3, Value::Null).valid();
    let none = expected(3, true, Value::Null);
    is(Kind::WrongAnswer, &none, &told("deleteGraph", changed(3), 3, json!("\"3\"")));
    told("createGraph", unchanged(2), 2, json!("\"2\"")).valid();
    let tag = expected(2, false, json!("\"2\""));
    is(Kind::WrongAnswer, &tag, &told("createGraph", unchanged(2), 2, Value::Null));
}

#[test]
fn a_read_of_the_whole_graph_names_the_graph_and_its_version() {
    let read = |version: u64, graph: &str| {
        let answer =
            json!({"jobs": 2, "datasets": 1, "edges": 1, "graph": graph, "version": version});
        then(read_graph(), answered(2, answer))
    };
    read(2, "g").valid();
    let expected = r#"{"datasets":1,"edges":1,"jobs":2}"#;
    is(Kind::WrongAnswer, expected, &read(1, "g"));
    is(Kind::WrongAnswer, expected, &read(2, "h"));
    let digest = Script::new().ending_with(0, "").found().expected;
    let told = |version: u64| {
        let answer = json!({"digest": digest, "graph": "g", "version": version});
        Script::new().call(0, [1, 2], json!({"call": "readDigest"}), answered(0, answer))
    };
    told(0).valid();
    assert_eq!(told(1).found().kind, Kind::WrongAnswer);
}

#[test]
fn a_plan_holds_what_its_digest_is_of() {
    let plan = |of_body: &str| {
        // SHA-256 of "job\t0\tb\n".
        let digest = "d2f0ba7c4c0c0fd8ea1e4b9c8d2a4e4ce0d7d1f2ec4a3d0f5ee3d8b1d7a7f0b1";
        let request = json!({"call": "planMany", "datasets": ["y"], "jobs": [], "stop_at": []});
        let probe = answered(2, json!({"digest": digest, "jobs": 1}));
        let right = then(request.clone(), probe).found().expected;
        let right: Value = serde_json::from_str(&right).unwrap();
        let of_body = if of_body.is_empty() { right["digest"].clone() } else { json!(of_body) };
        let answer = json!({
            "digest": right["digest"], "jobs": 1, "graph": "g", "version": 2,
            "digest_of_body": of_body,
        });
        then(request, answered(2, answer))
    };
    plan("").valid();
    assert_eq!(plan("another").found().kind, Kind::WrongAnswer);
}

#[test]
fn a_job_that_was_created_is_where_it_is_said_to_be() {
    let create = |name: &str| {
        let put =
            json!({"op": "put_job", "name": name, "inputs": [], "outputs": [], "if_absent": true});
        json!({"call": "createJob", "operations": [put]})
    };
    let at = |location: &str| {
        let headers = json!({"version": "3", "etag": "\"3\"", "location": location});
        then(create("c/é"), with(created(3), headers))
    };
    at("/v1/graphs/g/jobs/c%2F%C3%A9").valid();
    at("http://127.0.0.1:8000/v1/graphs/g/jobs/c%2f%c3%A9").valid();
    let expected = "Location: the path of job `c/é` in graph `g`";
    for other in ["/v1/graphs/g/jobs/a", "/v1/graphs/h/jobs/c%2F%C3%A9", "/v1/graphs/g/jobs/c/é"] {
        is(Kind::WrongHeader, expected, &at(other));
    }
    is(Kind::WrongHeader, expected, &then(create("c/é"), tagged(created(3), 3, 3)));
    let stray = json!({"version": "3", "location": "/v1/graphs/g/jobs/a"});
    let put = then(put_job("a", &["x"], &[]), with(changed(3), stray));
    is(Kind::WrongHeader, "no Location", &put);

    let there = |name: &str, problem: &str, status: u16| {
        then(create("a"), rejected(2, status, problem, json!({"name": name})))
    };
    there("a", "already_exists", 409).valid();
    let expected =
        r#"rejected: {"name":"a","status":409,"type":"urn:fencepost:problem:already_exists"}"#;
    is(Kind::WrongRejection, expected, &there("b", "already_exists", 409));
    is(Kind::WrongRejection, expected, &there("a", "precondition_failed", 412));
    is(Kind::IllegalAccept, expected, &then(create("a"), changed(3)));
}
