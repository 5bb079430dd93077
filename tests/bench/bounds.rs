//! When requests are sent, and from when their latency counts.

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
    let all = report.json()["requests"].clone();
    let accepted = all.as_array().unwrap().iter().find(|row| row["verdict"] == "accepted").unwrap();
    assert_eq!(accepted["count"], 300);
    let reported_ns = accepted["latency"]["max_us"].as_f64().unwrap() * 1e3;
    assert!(
        (reported_ns / longest as f64 - 1.0).abs() < 0.01,
        "{reported_ns} ns reported, {longest} ns recorded"
    );
}

#[test]
fn what_was_due_and_not_sent_before_the_end_is_told() {
    let place = Place::new();
    let line = "--workload register --seconds 0.05 --rate 1000000 --clients 1";
    let (report, history) = place.record(&place.in_process(), line);
    let (sent, unsent) = (calls(&history).len() as u64, report.json()["unsent"].as_u64().unwrap());
    assert_eq!(sent + unsent, 50_000);
    assert!(report.render().contains("not sent"));
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
