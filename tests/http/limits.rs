//! What happens at each limit.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::server::Server;

#[test]
fn a_body_has_as_many_bytes_as_the_limit_says() {
    let server = Server::start_with(&["--body-limit-bytes", "100"], &[]);
    server.put("/v1/graphs/g").send().expect(201);
    let job = json!({"inputs": [], "outputs": []}).to_string();
    let padded = |bytes: usize| job.clone() + &" ".repeat(bytes - job.len());
    let put = |bytes| server.put("/v1/graphs/g/jobs/a").body("application/json", padded(bytes));
    assert_eq!(put(101).send().problem(413, "too_large")["limit"], 100);
    assert_eq!(put(101).send_chunked().problem(413, "too_large")["limit"], 100);
    put(100).send().expect(201);
}

fn chain(server: &Server, length: usize) {
    server.put("/v1/graphs/g").send().expect(201);
    let link = |i: usize| json!({"op": "put_job", "name": format!("j{i}"), "inputs": [format!("d{i}")], "outputs": [format!("d{}", i + 1)]});
    server.change(&(0..length).map(link).collect::<Value>()).expect(201);
}

#[test]
fn a_plan_over_the_limit_is_refused_not_cut() {
    let server = Server::start_with(&["--plan-limit-jobs", "3"], &[]);
    chain(&server, 4);
    for request in [
        server.get("/v1/graphs/g/datasets/d4/plan"),
        server.get("/v1/graphs/g/jobs/j3/plan"),
        server.post("/v1/graphs/g/plans").json(&json!({"datasets": ["d4"]})),
    ] {
        let problem = request.send().problem(413, "too_large");
        assert_eq!(
            (&problem["limit"], &problem["graph"], &problem["version"]),
            (&json!(3), &json!("g"), &json!(1))
        );
    }
    let plan = server.get("/v1/graphs/g/datasets/d3/plan").send().expect(200).json();
    assert_eq!(plan["jobs"].as_array().unwrap().len(), 3);
}

#[test]
fn a_reachable_set_over_the_limit_is_refused_not_cut() {
    let server = Server::start_with(&["--reachable-limit-names", "4"], &[]);
    chain(&server, 4);
    for path in
        ["datasets/d4/upstream", "datasets/d0/downstream", "jobs/j3/upstream", "jobs/j0/downstream"]
    {
        let problem = server.get(&format!("/v1/graphs/g/{path}")).send().problem(413, "too_large");
        assert_eq!((&problem["limit"], &problem["version"]), (&json!(4), &json!(1)), "{path}");
    }
    let reached = server.get("/v1/graphs/g/datasets/d4/upstream?depth=2").send().expect(200).json();
    assert_eq!(reached, json!({"jobs": ["j2", "j3"], "datasets": ["d2", "d3"]}));
}

/// Waits for what must come true.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "it never came true that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn one_write_more_than_may_wait_is_refused_as_contended_and_not_applied() {
    let pause = tempfile::tempdir().unwrap();
    let file = pause.path().join("held");
    let failpoint = format!("after-acquire=pause:{}", file.display());
    let server =
        Server::start_with(&["--waiting-writes", "2"], &[("FENCEPOST_FAILPOINTS", &failpoint)]);
    server.put("/v1/graphs/g").send().expect(201);
    let put = |name: &str| server.put(&format!("/v1/graphs/g/datasets/{name}"));
    let waiting = |count: usize| {
        let line = format!("fencepost_waiting_requests{{mode=\"write\"}} {count}");
        server.get("/metrics").send().text().lines().any(|given| given == line)
    };
    std::thread::scope(|scope| {
        let held = scope.spawn(|| put("held").send());
        wait_until("the first write holds its turn", || file.exists());
        let waiters = [put("first"), put("second")].map(|request| scope.spawn(|| request.send()));
        wait_until("two writes wait", || waiting(2));

        // It is refused at once: it does not wait for the writes before it.
        let over = scope.spawn(|| put("over").send());
        let began = Instant::now();
        while !over.is_finished() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let refused_at_once = over.is_finished();
        std::fs::remove_file(&file).unwrap();
        assert!(refused_at_once);
        let answer = over.join().unwrap();
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.problem(503, "contended")["outcome"], "not_applied");
        held.join().unwrap().expect(201);
        for waiter in waiters {
            waiter.join().unwrap().expect(201);
        }
    });
    server.get("/v1/graphs/g/datasets/over").send().problem(404, "dataset_not_found");
    put("over").send().expect(201);
    let overflows = "fencepost_queue_overflows_total 1";
    assert!(server.get("/metrics").send().text().lines().any(|line| line == overflows));
}
