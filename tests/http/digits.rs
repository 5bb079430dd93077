//! Numbers keep their digits on every way through the service and its commands, also numbers that
//! no binary number holds.

use std::process::Command;

use crate::support::server::{Answer, Server, send_raw};

const NUMBERS: &str = "[1.10,1e400,-0,0.1e1,12345678901234567890123,1E5,-1.50e-07]";

/// Asks with this body, if it is not empty. The answer is not held against the document: that would
/// read its numbers.
fn ask(server: &Server, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} /v1/graphs/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let answer: Answer = send_raw(server.address, request.as_bytes());
    assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
    answer.text()
}

/// Runs a command on the server's database, in its directory.
fn run(server: &Server, arguments: &[&str]) -> String {
    let directory = server.directory.path();
    let url = std::fs::read_to_string(directory.join("database-url")).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_fencepost"))
        .args(arguments)
        .env("FENCEPOST_DATABASE_URL", url)
        .current_dir(directory)
        .output()
        .unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&ran.stderr));
    text
}

#[track_caller]
fn holds(text: &str, part: &str) {
    assert!(text.contains(part), "{part} is not in {text}");
}

/// A server with numbers in jobs and datasets, put in every way that there is.
fn server_with_numbers() -> Server {
    let server = Server::with_graph();
    let job = format!(
        r#"{{"inputs":["x"],"outputs":["y"],"spec":{{"n" : {NUMBERS}, "keep": 1.50,"gone":1e1}}}}"#
    );
    ask(&server, "PUT", "g/jobs/a", &job);
    let patch = r#"{"spec":{"gone":null,"keep":-0,"more":{"e":1E5,"absent":null}}}"#;
    ask(&server, "PATCH", "g/jobs/a", patch);
    ask(&server, "PUT", "g/datasets/x", &format!(r#"{{"metadata":{{"m":{NUMBERS}}}}}"#));
    let operations = format!(
        r#"[{{"op":"put_job","name":"b","inputs":["y"],"outputs":[],"spec":{{"n":{NUMBERS}}}}},
            {{"op":"patch_job","name":"b","patch":{{"spec":{{"n":{{"deep":0.10}}}}}}}},
            {{"op":"put_dataset","name":"d","metadata":{{"m":{NUMBERS}}}}}]"#
    );
    ask(&server, "POST", "g/changesets", &format!(r#"{{"operations":{operations}}}"#));
    let created = format!(r#"{{"name":"c","inputs":[],"outputs":[],"spec":{{"n":{NUMBERS}}}}}"#);
    ask(&server, "POST", "g/jobs", &created);
    server
}

/// What a graph is to hold of them.
fn expected() -> [String; 5] {
    [
        format!(r#""spec":{{"keep":-0,"more":{{"e":1E5}},"n":{NUMBERS}}}"#),
        r#""spec":{"n":{"deep":0.10}}"#.to_owned(),
        format!(r#""spec":{{"n":{NUMBERS}}}"#),
        format!(r#""metadata":{{"m":{NUMBERS}}}"#),
        format!(r#""metadata":{{"m":{NUMBERS}}}"#),
    ]
}

#[track_caller]
fn expect_all(server: &Server, graph: &str) {
    let paths = ["jobs/a", "jobs/b", "jobs/c", "datasets/x", "datasets/d"];
    for (path, expected) in paths.iter().zip(expected()) {
        holds(&ask(server, "GET", &format!("{graph}/{path}"), ""), &expected);
    }
}

#[test]
fn what_was_written_is_read_to_the_digit() {
    let server = server_with_numbers();
    expect_all(&server, "g");
    let (jobs, datasets) =
        (ask(&server, "GET", "g/jobs", ""), ask(&server, "GET", "g/datasets", ""));
    let [a, b, c, x, d] = expected();
    [a, b, c].iter().for_each(|job| holds(&jobs, job));
    [x, d].iter().for_each(|dataset| holds(&datasets, dataset));
}

#[test]
fn what_was_read_is_put_back_and_changes_nothing() {
    let server = server_with_numbers();
    let before = ask(&server, "GET", "g/digest", "");
    for path in ["g/jobs/a", "g/jobs/b", "g/jobs/c", "g/datasets/x", "g/datasets/d"] {
        let read = ask(&server, "GET", path, "");
        holds(&ask(&server, "PUT", path, &read), "\"changed\":false");
    }
    assert_eq!(ask(&server, "GET", "g/digest", ""), before);
    // Another spelling of the same number is another specification.
    let respelled = ask(&server, "GET", "g/jobs/c", "").replace("1.10", "1.1");
    holds(&ask(&server, "PUT", "g/jobs/c", &respelled), "\"changed\":true");
}

#[test]
fn the_log_and_what_is_made_of_it_hold_every_digit() {
    let server = server_with_numbers();
    let [a, b, c, x, d] = expected();
    let put = format!(r#""spec":{{"gone":1e1,"keep":1.50,"n":{NUMBERS}}}"#);
    let changes = ask(&server, "GET", "g/changes", "");
    let log = run(&server, &["log", "--graph", "g", "--format", "json"]);
    run(&server, &["export", "--graph", "g", "--after", "0", "--to", "file:events"]);
    run(&server, &["verify", "--graph", "g", "--from", "file:events"]);
    let events = std::fs::read_to_string(server.directory.path().join("events")).unwrap();
    for text in [&changes, &log, &events] {
        [&put, &a, &b, &c, &x, &d].iter().for_each(|part| holds(text, part));
    }
    let snapshot = ask(&server, "GET", "g/snapshot", "");
    [&a, &b, &c, &x, &d].iter().for_each(|part| holds(&snapshot, part));

    // A log of events, and a snapshot: each is imported as the same graph.
    std::fs::write(server.directory.path().join("snapshot"), snapshot).unwrap();
    let digest = |graph: &str| {
        let answer = ask(&server, "GET", &format!("{graph}/digest"), "");
        answer.split("\"digest\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    for file in ["events", "snapshot"] {
        let graph = format!("from-{file}");
        run(&server, &["import", "--graph", &graph, "--format", "events", file]);
        expect_all(&server, &graph);
        assert_eq!(digest(&graph), digest("g"));
    }
}

#[test]
fn files_of_jobs_are_imported_to_the_digit() {
    let server = Server::with_graph();
    let write = |file: &str, text: &str| {
        std::fs::write(server.directory.path().join(file), text).unwrap();
    };
    let job = format!(r#"{{"name":"a","inputs":[],"outputs":[],"spec":{{"n":{NUMBERS}}}}}"#);
    write("jobs.ndjson", &(job + "\n"));
    write(
        "flow.json",
        &format!(
            r#"{{"schemaVersion":"1.5","workflow":{{"specification":{{"tasks":[
                {{"id":"t","inputFiles":[],"outputFiles":[],"parents":[],"n":{NUMBERS}}}]}}}}}}"#
        ),
    );
    run(&server, &["import", "--graph", "g", "jobs.ndjson"]);
    run(&server, &["import", "--graph", "g", "--format", "wfformat", "flow.json"]);
    let spec = format!(r#""spec":{{"n":{NUMBERS}}}"#);
    for job in ["a", "flow%2Ft"] {
        holds(&ask(&server, "GET", &format!("g/jobs/{job}"), ""), &spec);
    }
}
