//! The whole contract once more, through a node that leads no graph and passes all writes on.

use std::process::Command;

use crate::support::cluster::finish;
use crate::support::server::{Server, THROUGH_A_FOLLOWER};

#[test]
fn every_test_of_the_contract_passes_through_a_node_that_does_not_lead() {
    if std::env::var_os(THROUGH_A_FOLLOWER).is_some() {
        return expect_that_writes_are_passed_on();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("http::").env(THROUGH_A_FOLLOWER, "1");
    for about_one_node in ABOUT_ONE_NODE {
        command.args(["--skip", about_one_node]);
    }
    let (code, output) = finish(command);
    let passed = output.split("test result: ok. ").nth(1);
    let passed = passed.and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert_eq!(code, Some(0), "{output}");
    assert!(passed.is_some_and(|passed: usize| passed >= 90), "too few: {output}");
}

/// What holds a turn of the asked node up, counts its turns, or names its design.
const ABOUT_ONE_NODE: [&str; 4] = [
    "http::limits::one_write_more_than_may_wait_is_refused_as_contended_and_not_applied",
    "http::shutdown::writes_in_flight_are_answered_and_durable_when_the_server_is_told_to_end",
    "http::shutdown::a_write_in_flight_is_answered_however_many_connections_come_as_the_server_is_told_to_end",
    "http::document",
];

fn expect_that_writes_are_passed_on() {
    let server = Server::with_graph();
    server.put_job("a", &[], &["x"]);
    let metrics = server.get("/metrics").send().text();
    let passed_on = "fencepost_forwarded_writes_total{outcome=\"answered\"} 1";
    assert!(metrics.contains(passed_on), "{metrics}");
}
