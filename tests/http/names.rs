//! Names and values that are taken as they are.

use serde_json::json;

use crate::support::server::{Server, encoded};

const NAMES: [&str; 14] = [
    "a/b",
    "a%2Fb",
    "日本",
    "jobs",
    "s3://b/k?x=1#y",
    " ",
    "\"",
    "plan",
    "a+b",
    "...",
    "\\",
    "{job}",
    "é",
    "e\u{301}",
];

#[test]
fn any_name_that_is_one_comes_back_byte_for_byte() {
    let server = Server::start();
    let longest = "ß".repeat(256);
    for name in NAMES.into_iter().chain([longest.as_str()]) {
        let segment = encoded(name);
        let graph = format!("/v1/graphs/{segment}");
        server.put(&graph).send().expect(201);
        assert_eq!(server.get(&graph).send().expect(200).json()["graph"], name);

        // One name for the job and, prefixed, for what it reads and writes: separate spaces, so the
        // same would do.
        let job = json!({"name": name, "inputs": [name], "outputs": ["out"]});
        let created = server.post(&format!("{graph}/jobs")).json(&job).send().expect(201);
        let read = server.get(created.header("location").unwrap()).send().expect(200).json();
        assert_eq!((&read["name"], &read["inputs"]), (&json!(name), &json!([name])));
        assert_eq!(server.get(&format!("{graph}/jobs/{segment}")).send().expect(200).json(), read);
        let dataset = server.get(&format!("{graph}/datasets/{segment}")).send().expect(200).json();
        assert_eq!((&dataset["name"], &dataset["consumers"]), (&json!(name), &json!([name])));
        let plan = server.get(&format!("{graph}/jobs/{segment}/plan")).send().expect(200).json();
        assert_eq!((&plan["jobs"], &plan["sources"]), (&json!([name]), &json!([name])));
        let downstream =
            server.get(&format!("{graph}/datasets/{segment}/downstream")).send().expect(200).json();
        assert_eq!(downstream["jobs"], json!([name]));
        let page = server.get(&format!("{graph}/jobs?prefix={segment}")).send().expect(200).json();
        assert_eq!(page["items"], json!([read]));

        server.delete(&format!("{graph}/jobs/{segment}/inputs/{segment}")).send().expect(200);
        server.delete(&format!("{graph}/jobs/{segment}")).send().expect(200);
        server.delete(&graph).send().expect(200);
    }
}

#[test]
fn an_escape_that_was_not_needed_is_the_same_name() {
    let server = Server::with_graph();
    server.put_job("job", &[], &[]);
    assert_eq!(
        server.get("/v1/graphs/%67/%6Aobs/%6a%6F%62").send().expect(200).json()["name"],
        "job"
    );
    // In a path a plus is a plus; in a query it is a space.
    server.put_job("a+b", &[], &[]);
    server.put_job("a b", &[], &[]);
    assert_eq!(server.get("/v1/graphs/g/jobs/a+b").send().expect(200).json()["name"], "a+b");
    let page = server.get("/v1/graphs/g/jobs?prefix=a+b").send().expect(200).json();
    assert_eq!(page["items"][0]["name"], "a b");
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}

#[test]
fn equal_looking_names_are_different() {
    let server = Server::with_graph();
    for name in ["é", "e\u{301}", "É", "a", "A", "a ", "a/b", "a%2Fb"] {
        server.put_job(name, &[], &[]);
    }
    assert_eq!(server.get("/v1/graphs/g").send().json()["jobs"], 8);
}

#[test]
fn numbers_in_a_specification_keep_their_digits() {
    let server = Server::with_graph();
    let spec = r#"{"a":1.0,"b":1E5,"c":12345678901234567890123,"d":-0,"e":0.1e-7,"f":"\u001f/é"}"#;
    let body = format!(r#"{{"inputs":[],"outputs":[],"spec":{spec}}}"#);
    server.put("/v1/graphs/g/jobs/a").body("application/json", body).send().expect(201);
    let expected = format!(r#"{{"name":"a","inputs":[],"outputs":[],"spec":{spec},"version":1}}"#);
    assert_eq!(server.get("/v1/graphs/g/jobs/a").send().expect(200).text(), expected);
    let page = server.get("/v1/graphs/g/jobs").send().expect(200).text();
    assert!(page.contains(spec), "{page}");
    let metadata = format!(r#"{{"metadata":{spec}}}"#);
    server.put("/v1/graphs/g/datasets/d").body("application/json", metadata).send().expect(201);
    assert!(server.get("/v1/graphs/g/datasets/d").send().expect(200).text().contains(spec));
    // A restart reads them from the database.
    server.signal("TERM");
    let (_, directory) = server.wait(std::time::Duration::from_secs(30));
    let server = Server::start_in(directory, &[], &[]);
    assert_eq!(server.get("/v1/graphs/g/jobs/a").send().expect(200).text(), expected);
}
