//! `Fencepost-Version` and `at_least`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::server::Server;

#[test]
fn a_version_that_is_there_is_not_waited_for() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    for route in fencepost::http::ROUTES.iter().filter(|route| route.query.contains(&"at_least")) {
        let path = route
            .path
            .replace("{graph}", "g")
            .replace("{job}", "a")
            .replace("{dataset}", "y")
            .replace("{consumer}", "c");
        for version in [0, 1] {
            let request = server.call(route.method, &format!("{path}?at_least={version}"));
            let request = if route.method == "POST" {
                request.json(&json!({"jobs": ["a"]}))
            } else {
                request
            };
            assert_eq!(
                request.send().expect(200).header("fencepost-version"),
                Some("1"),
                "{}",
                route.id
            );
        }
    }
    let reads =
        fencepost::http::ROUTES.iter().filter(|route| route.class == fencepost::http::Class::Read);
    assert!(
        reads.clone().count() > 0 && reads.clone().all(|route| route.query.contains(&"at_least"))
    );
}

#[test]
fn a_version_that_comes_in_time_is_waited_for() {
    let server = Server::with_graph();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.get("/v1/graphs/g/jobs/a?at_least=1").send());
        std::thread::sleep(Duration::from_millis(300));
        server.put_job("a", &[], &[]);
        let answer = waiting.join().unwrap().expect(200);
        assert_eq!(answer.header("fencepost-version"), Some("1"));
    });
}

#[test]
fn a_version_that_does_not_come_answers_503_version_not_reached() {
    let server = Server::with_graph();
    let began = Instant::now();
    let answer = server.get("/v1/graphs/g?at_least=9223372036854775807").send();
    assert!(began.elapsed() >= Duration::from_secs(4));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("fencepost-version"), Some("0"));
    let problem = answer.problem(503, "version_not_reached");
    assert_eq!(
        (&problem["version"], &problem["graph"], &problem["outcome"]),
        (&json!(0), &json!("g"), &json!("not_applied"))
    );
    for version in ["-1", "x", "", "9223372036854775808"] {
        let problem = server
            .get(&format!("/v1/graphs/g?at_least={version}"))
            .send()
            .problem(400, "malformed");
        assert_eq!(problem["at"], "at_least");
    }
}

#[test]
fn every_write_tells_its_version_without_gap_or_repeat() {
    let server = Server::with_graph();
    let versions: Vec<u64> = std::thread::scope(|scope| {
        let write = |writer: usize| {
            let server = &server;
            move || {
                (0..10)
                    .map(|i| server.put_job(&format!("{writer}-{i}"), &[], &[]))
                    .collect::<Vec<_>>()
            }
        };
        let writers: Vec<_> = (0..8).map(|writer| scope.spawn(write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let mut sorted = versions.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=80).collect::<Vec<_>>());
}
