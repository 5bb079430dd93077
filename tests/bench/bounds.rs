//! When requests are sent, and from when their latency counts.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use fencepost::bench::{Class, Completion, Connection, Outcome, Request, Target, Verbatim};
use fencepost::graph::JobSpecification;
use fencepost::service::Service;
use serde_json::json;

use super::place::Place;
use super::replay::{calls, number};

#[test]
fn latency_counts_from_when_a_request_was_due_even_if_it_could_not_be_sent_then() {
    let place = Place::new();
    // All are due within the first millisecond: no server is that fast.
    let line = "--workload register --requests 300 --rate 1000000 --clients 2";
    let (report, history) = place.record(&place.in_process(), line);
    let calls = calls(&history);
    let waits = |call: &&super::replay::Call<'_>| {
        number(call.invoke, "due_ns") < number(call.invoke, "time_ns")
    };
    assert!(calls.iter().filter(waits).count() > 250, "most requests were late");
    let longest = calls
        .iter()
        .map(|call| number(call.end, "time_ns") - number(call.invoke, "due_ns"))
        .max()
        .unwrap();
    let summary = report.summary();
    let accepted = summary.rows.iter().find(|row| row.verdict == "accepted").unwrap();
    assert_eq!((accepted.count, accepted.latency.count(), summary.backlog.count()), (300, 300, 0));
    let reported_ns = accepted.latency.percentiles().unwrap().max_us * 1e3;
    assert!(
        (reported_ns / longest as f64 - 1.0).abs() < 0.01,
        "{reported_ns} ns reported, {longest} ns recorded"
    );
}

#[test]
fn what_was_due_and_not_sent_counts_from_when_it_was_due() {
    let place = Place::new();
    let line = "--workload register --seconds 0.05 --rate 1000000 --clients 1";
    let (report, history) = place.record(&place.in_process(), line);
    let sent = calls(&history).len() as u64;
    let summary = report.summary();
    assert_eq!((summary.due, sent + summary.backlog.count()), (Some(50_000), 50_000));
    assert_eq!(summary.latency().count(), 50_000, "none of those due is left out");
    // They became due one after another, until the end.
    let waited = summary.backlog.percentiles().unwrap();
    let oldest_us = 50_000.0 - sent as f64;
    assert!((waited.max_us / oldest_us - 1.0).abs() < 0.01, "{waited:?}, {sent} sent");
    assert!((waited.p50_us / oldest_us - 0.5).abs() < 0.01, "{waited:?}, {sent} sent");
}

#[test]
fn latencies_of_a_rate_that_was_not_achieved_are_not_told() {
    let place = Place::new();
    let line = "--workload register --seconds 0.05 --rate 1000000 --clients 1";
    let (report, _) = place.record(&place.in_process(), line);
    let (summary, json) = (report.summary(), report.json());
    assert!(summary.saturated && summary.achieved.unwrap() < 0.99);
    assert_eq!(json["saturated"], true);
    assert!(json["latency"].is_null() && json["requests"][0]["latency"].is_null(), "{json}");
    assert!(json["service"]["p50_us"].is_f64(), "what a request takes from sending is known");
    assert!(json["notes"][0].as_str().unwrap().starts_with("saturated"), "{json}");
    let text = report.render();
    let row = text.lines().find(|line| line.contains("served and rejected")).unwrap();
    assert!(row.ends_with(" -") && text.contains("saturated: only"), "{text}");

    // All are sent in the end, and none when it was due.
    let line = "--workload register --requests 200 --rate 1000000 --clients 1";
    let (report, _) = place.record(&place.in_process(), line);
    let summary = report.summary();
    assert!(summary.saturated && summary.count(Class::Served) == 200);
}

#[test]
fn a_rate_so_low_that_a_second_request_is_never_due_sends_one() {
    let place = Place::new();
    for rate in ["1e-20", "1e-300", "0.0001"] {
        let line = format!("--workload register --rate {rate} --seconds 0.1 --clients 2");
        let (report, history) = place.record(&place.in_process(), &line);
        let summary = report.summary();
        assert_eq!((calls(&history).len(), summary.due), (1, Some(1)), "{rate}");
        assert_eq!((summary.window, summary.saturated), (Duration::from_millis(100), false));
        assert_eq!(summary.completed_per_second, 10.0);
    }
}

#[test]
fn what_belongs_to_the_warm_up_is_not_measured() {
    let place = Place::new();
    let line = "--workload register --requests 60 --rate 200 --warmup-seconds 0.2 --clients 2";
    let (report, history) = place.record(&place.in_process(), line);
    let summary = report.summary();
    assert_eq!((calls(&history).len(), summary.due), (60, Some(20)));
    assert_eq!((summary.latency().count(), summary.lateness.count()), (20, 20));
    assert!(summary.count(Class::Served) >= 20, "what was answered late counts for the rate");
}

/// Notes when the servers are looked at.
struct Looked<'t> {
    target: &'t dyn Target,
    at: Mutex<Vec<Instant>>,
}

impl Target for Looked<'_> {
    fn describe(&self) -> String {
        self.target.describe()
    }

    fn connect(&self) -> Box<dyn Connection> {
        self.target.connect()
    }

    fn nodes(&self) -> usize {
        self.target.nodes()
    }

    fn metrics(&self) -> Vec<Option<String>> {
        self.at.lock().unwrap().push(Instant::now());
        self.target.metrics()
    }

    fn service(&self) -> Option<&Service> {
        self.target.service()
    }
}

#[test]
fn servers_are_looked_at_when_the_window_begins_and_when_it_has_ended() {
    let place = Place::new();
    let looked = Looked { target: &place.in_process(), at: Mutex::default() };
    let began = Instant::now();
    place.record(&looked, "--workload register --warmup-seconds 0.3 --seconds 0.2 --clients 2");
    let looks: Vec<_> = looked.at.into_inner().unwrap();
    let [first, last] = looks[..] else { panic!("{looks:?}") };
    let after = |at: Instant| at.duration_since(began);
    let [warm_up, end] = [300, 500].map(Duration::from_millis);
    assert!(after(first) >= warm_up && after(last) >= end, "{:?} {:?}", after(first), after(last));
}

/// Refuses every other write. What passes is the service's.
struct Refuses<'t>(&'t dyn Target);

struct Refusing<'t> {
    connection: Box<dyn Connection + 't>,
    refuses: bool,
}

impl Target for Refuses<'_> {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn connect(&self) -> Box<dyn Connection> {
        Box::new(Refusing { connection: self.0.connect(), refuses: false })
    }

    fn nodes(&self) -> usize {
        self.0.nodes()
    }

    fn metrics(&self) -> Vec<Option<String>> {
        self.0.metrics()
    }

    fn service(&self) -> Option<&Service> {
        self.0.service()
    }
}

impl Connection for Refusing<'_> {
    fn perform(&mut self, request: &Request) -> Completion {
        self.refuses ^= matches!(request, Request::Write(_));
        if !self.refuses || !matches!(request, Request::Write(_)) {
            return self.connection.perform(request);
        }
        let problem = br#"{"type":"urn:fencepost:problem:contended","status":503,
            "title":"Too many wait","outcome":"not_applied"}"#;
        let problem = Verbatim::parse(problem).unwrap();
        let outcome = Outcome::of_problem(503, problem);
        Completion { at: Instant::now(), outcome, headers: None, written: None }
    }

    fn move_on(&mut self) {
        self.connection.move_on();
    }

    fn first_jobs(&mut self, limit: usize) -> Result<Vec<JobSpecification>, String> {
        self.connection.first_jobs(limit)
    }
}

#[test]
fn refusals_are_in_no_rate_and_in_no_percentile_but_their_own() {
    let place = Place::new();
    let target = place.in_process();
    let line = "--workload register --requests 100 --clients 1";
    let (report, _) = place.record(&Refuses(&target), line);
    let summary = report.summary();
    let counts = Class::ALL.map(|class| summary.count(class));
    assert_eq!(counts, [50, 0, 50, 0]);
    assert_eq!((summary.latency().count(), summary.service().count()), (50, 50));
    let per_second = 50.0 / summary.window.as_secs_f64();
    assert!((summary.completed_per_second / per_second - 1.0).abs() < 1e-9);
    let refused = summary.rows.iter().find(|row| row.class == Class::Refused).unwrap();
    assert_eq!((refused.verdict.as_str(), refused.latency.count()), ("refused:contended", 50));
    assert!(refused.first_error.as_ref().unwrap().contains("Too many wait"));
    let (json, text) = (report.json(), report.render());
    assert_eq!((&json["counts"]["served"], &json["counts"]["refused"]), (&json!(50), &json!(50)));
    assert_eq!(json["latency"]["count"], 50);
    assert!(text.contains("first refused:contended of putJob: {\"type\""), "{text}");
}

#[test]
fn how_late_the_driver_itself_was_is_told_of_every_request() {
    let place = Place::new();
    for line in
        ["--workload register --requests 40", "--workload register --requests 40 --rate 400"]
    {
        let (report, _) = place.record(&place.in_process(), line);
        let (summary, json) = (report.summary(), report.json());
        assert_eq!((summary.lateness.count(), &json["driver_lateness"]["count"]), (40, &json!(40)));
        assert!(report.render().contains("late in sending"));
    }
}

#[test]
fn one_client_in_process_is_told_what_its_writes_cost_beyond_the_commit() {
    let place = Place::new();
    let (report, _) =
        place.record(&place.in_process(), "--workload register --requests 20 --clients 1");
    assert!(report.json()["beyond_commit"]["p99_us"].as_f64().unwrap() > 0.0);
    let (report, _) =
        place.record(&place.in_process(), "--workload register --requests 20 --clients 2");
    assert!(report.json()["beyond_commit"].is_null(), "with two clients a commit is nobody's own");
}
