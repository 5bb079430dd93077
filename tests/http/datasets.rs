//! Datasets, declared and implied.

use serde_json::json;

use crate::support::server::Server;

#[test]
fn a_dataset_is_implied_by_jobs_and_declared_by_clients() {
    let server = Server::with_graph();
    server.put_job("a", &[], &["d"]);
    server.put_job("c", &["d"], &[]);
    server.put_job("b", &["d"], &[]);
    let implied = json!({"name": "d", "declared": false, "producer": "a", "consumers": ["b", "c"], "metadata": {}});
    let read = server.get("/v1/graphs/g/datasets/d").send().expect(200);
    assert_eq!(read.json(), implied);
    assert_eq!(read.header("etag"), Some("\"3\""));

    let body = json!({"metadata": {"owner": "finance"}});
    // It was there already, so nothing is created.
    let put = server.put("/v1/graphs/g/datasets/d").json(&body).send().expect(200);
    assert_eq!(put.json(), json!({"graph": "g", "version": 4, "changed": true, "etag": "\"4\""}));
    let read = server.get("/v1/graphs/g/datasets/d").send().expect(200);
    assert_eq!(read.json()["metadata"], body["metadata"]);
    assert_eq!(read.json()["declared"], true);
    let back = server
        .put("/v1/graphs/g/datasets/d")
        .body("application/json", read.body)
        .send()
        .expect(200);
    assert_eq!(back.json()["changed"], false);
}

#[test]
fn a_declared_dataset_stays_when_no_job_mentions_it() {
    let server = Server::with_graph();
    server.put("/v1/graphs/g/datasets/d").send().expect(201);
    let read = server.get("/v1/graphs/g/datasets/d").send().expect(200).json();
    assert_eq!(
        read,
        json!({"name": "d", "declared": true, "producer": null, "consumers": [], "metadata": {}})
    );
    server.put_job("a", &["d"], &[]);
    server.delete("/v1/graphs/g/jobs/a").send().expect(200);
    server.get("/v1/graphs/g/datasets/d").send().expect(200);
    server.delete("/v1/graphs/g/datasets/d").send().expect(200);
    server.get("/v1/graphs/g/datasets/d").send().problem(404, "dataset_not_found");
    assert_eq!(
        server.delete("/v1/graphs/g/datasets/d").send().problem(404, "dataset_not_found")["name"],
        "d"
    );
}

#[test]
fn a_dataset_in_use_cannot_be_deleted() {
    let server = Server::with_graph();
    server.put("/v1/graphs/g/datasets/d").send().expect(201);
    for i in 0..12 {
        server.put_job(&format!("job-{i:02}"), &["d"], &[]);
    }
    let before = server.state();
    let problem = server.delete("/v1/graphs/g/datasets/d").send().problem(409, "dataset_in_use");
    assert_eq!(problem["name"], "d");
    let jobs: Vec<String> = (0..10).map(|i| format!("job-{i:02}")).collect();
    assert_eq!(problem["jobs"], json!(jobs));
    assert_eq!(problem["version"], 13);
    assert_eq!(server.state(), before);
}
