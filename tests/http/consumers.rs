//! Who reads the log from outside.

use serde_json::{Value, json};

use crate::support::cluster::Site;
use crate::support::server::{Answer, Request, Server, encoded};

const CONSUMERS: &str = "/v1/graphs/g/consumers";

fn acknowledge(server: &Server, consumer: &str, version: impl Into<Value>) -> Answer {
    let path = format!("{CONSUMERS}/{}", encoded(consumer));
    server.put(&path).json(&json!({"acknowledged": version.into()})).send()
}

fn with_jobs(jobs: usize) -> Server {
    let server = Server::with_graph();
    for i in 0..jobs {
        server.put_job(&format!("j{i}"), &[], &[]);
    }
    server
}

/// Names and how far they are.
fn listed(server: &Server) -> Vec<(String, u64)> {
    let list = server.get(CONSUMERS).send().expect(200).json();
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|one| {
            (one["name"].as_str().unwrap().to_owned(), one["acknowledged"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn a_consumer_is_registered_acknowledges_and_is_forgotten() {
    let server = with_jobs(3);
    assert_eq!(
        server.get(CONSUMERS).send().expect(200).json(),
        json!({"graph": "g", "version": 3, "items": []})
    );
    let first = acknowledge(&server, "b", 1).expect(201);
    assert_eq!(
        first.json(),
        json!({"graph": "g", "version": 3, "consumer": "b", "acknowledged": 1})
    );
    assert_eq!(first.header("fencepost-version"), Some("3"));
    acknowledge(&server, "a/日本 \"x\"", 0).expect(201);
    assert_eq!(acknowledge(&server, "b", 3).expect(200).json()["acknowledged"], 3);
    // What was acknowledged once stays so.
    assert_eq!(acknowledge(&server, "b", 2).expect(200).json()["acknowledged"], 3);
    assert_eq!(listed(&server), [("a/日本 \"x\"".to_owned(), 0), ("b".to_owned(), 3)]);
    let at = server.get(CONSUMERS).send().json()["items"][0]["acknowledged_at"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(at.ends_with('Z') && at.len() == "2026-11-22T09:30:00.000Z".len(), "{at}");
    let list = server.get(CONSUMERS).send().json();
    let seen = |at: usize| {
        let consumer = &list["items"][at];
        let text = |field: &str| consumer[field].as_str().unwrap().to_owned();
        assert_eq!(consumer["expires_at"], Value::Null);
        (text("acknowledged_at"), text("last_seen_at"))
    };
    let (since, last) = seen(0);
    assert_eq!(since, last, "it was heard of once");
    let (since, last) = seen(1);
    assert!(since <= last, "{since} and {last}");
    let forgotten = server.delete(&format!("{CONSUMERS}/b")).send().expect(200);
    assert_eq!(forgotten.json(), json!({"graph": "g", "version": 3, "consumer": "b"}));
    let problem =
        server.delete(&format!("{CONSUMERS}/b")).send().problem(404, "consumer_not_found");
    assert_eq!((&problem["name"], &problem["version"]), (&json!("b"), &json!(3)));
    assert_eq!(listed(&server).len(), 1);
    // They are beside the graph, not of it.
    assert_eq!(server.state()["version"], 3);
}

#[test]
fn nobody_has_read_what_is_not_there() {
    let server = with_jobs(2);
    let problem = acknowledge(&server, "a", 3).problem(412, "precondition_failed");
    assert_eq!((&problem["expected"], &problem["actual"]), (&json!(3), &json!(2)));
    acknowledge(&server, "a", u64::MAX).problem(412, "precondition_failed");
    assert_eq!(listed(&server), []);
    for bad in [json!(-1), json!(1.5), json!("1"), json!(null)] {
        acknowledge(&server, "a", bad).problem(400, "malformed");
    }
    let put = |body: Value| server.put(&format!("{CONSUMERS}/a")).json(&body).send();
    put(json!({})).problem(400, "malformed");
    put(json!({"acknowledged": 1, "more": 1})).problem(400, "malformed");
    assert_eq!(acknowledge(&server, "..", 1).problem(422, "invalid_name")["at"], "consumer");
    assert_eq!(listed(&server), []);
}

#[test]
fn a_precondition_on_a_consumer_is_refused_and_not_passed_over() {
    let server = with_jobs(1);
    acknowledge(&server, "a", 1).expect(201);
    let one = format!("{CONSUMERS}/a");
    for (header, value) in [("If-Match", "\"1\""), ("If-Match", "*"), ("If-None-Match", "*")] {
        let put = server.put(&one).json(&json!({"acknowledged": 0})).header(header, value);
        let problem = put.send().problem(400, "malformed");
        assert_eq!(problem["at"], header.to_lowercase());
        let problem = server.delete(&one).header(header, value).send().problem(400, "malformed");
        assert_eq!(problem["at"], header.to_lowercase());
    }
    assert_eq!(listed(&server)[0].1, 1);
}

#[test]
fn a_graph_that_is_not_there_has_no_consumers() {
    let server = with_jobs(1);
    acknowledge(&server, "a", 1).expect(201);
    server.delete("/v1/graphs/g").header("If-Match", "*").send().expect(200);
    for graph in ["g", "none"] {
        let path = format!("/v1/graphs/{graph}/consumers");
        server.get(&path).send().problem(404, "graph_not_found");
        let one = format!("{path}/a");
        server.put(&one).json(&json!({"acknowledged": 0})).send().problem(404, "graph_not_found");
        server.delete(&one).send().problem(404, "graph_not_found");
    }
}

#[test]
fn nobody_registers_for_what_was_pruned_and_who_was_there_may_still_acknowledge() {
    let site = Site::new();
    let server = site.serve();
    let call = |method: &str, path: &str| {
        Request::new(server.base.strip_prefix("http://").unwrap().parse().unwrap(), method, path)
    };
    call("PUT", "/v1/graphs/g").send().expect(201);
    (0..6).for_each(|i| drop(server.put_job(&format!("j{i}"), &[], &[]).unwrap()));
    let put = |consumer: &str, version: u64| {
        call("PUT", &format!("{CONSUMERS}/{consumer}"))
            .json(&json!({"acknowledged": version}))
            .send()
    };
    put("old", 1).expect(201);
    site.run_sql("DELETE FROM changes WHERE version < 5; UPDATE graphs SET oldest = 5");
    assert_eq!(put("new", 3).problem(410, "pruned")["oldest"], 5);
    put("new", 4).expect(201);
    assert_eq!(put("old", 2).expect(200).json()["acknowledged"], 2);
}
