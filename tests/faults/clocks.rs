//! Nodes whose clocks differ, and writes that are on their way for long: those that a leader is to
//! judge no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use fencepost::bench::Outcome;
use fencepost::design::es_single_writer::ES_SINGLE_WRITER;

use super::field::Field;
use super::forwarding::{Pair, WRITE, file, forwarded, put_sooner_or_later};
use super::holders::version;
use crate::support::cluster::Server;
use crate::support::wire::Fate;

/// The clock of a node that is `ahead_s` ahead of this machine's, and what arms it.
fn clock(ahead_s: i64) -> (PathBuf, String) {
    let clock = file("clock");
    set(&clock, ahead_s);
    let armed = format!("forward-clock=number:{}", clock.display());
    (clock, armed)
}

/// At once: the node reads it at any time.
fn set(clock: &Path, ahead_s: i64) {
    let written = clock.with_extension("new");
    fs::write(&written, (1_000 * ahead_s).to_string()).unwrap();
    fs::rename(written, clock).unwrap();
}

#[track_caller]
fn expect_refused_for_the_clock(told: Outcome, leader: &str) {
    let Outcome::Refused { name, problem } = told else { panic!("{told:?}") };
    let detail: String = problem.member("detail").unwrap();
    assert!(name == "contended" && detail.contains("their clocks differ"), "{detail}");
    assert_eq!(problem.member::<String>("leader").unwrap(), leader);
}

/// By the leader's clock, a write is on its way for eleven seconds. What its client is told.
fn arrives_late(of_leader: &str) -> (Pair, PathBuf, Outcome) {
    let (clock, armed) = clock(0);
    let pair = Pair::new(&ES_SINGLE_WRITER, &format!("{armed},{of_leader}"), "");
    pair.wire.strike(WRITE, Fate::Delayed);
    let told = thread::scope(|scope| {
        let put = scope.spawn(|| pair.put("late"));
        pair.wire.wait_until_struck();
        set(&clock, 11);
        pair.wire.deliver();
        put.join().unwrap()
    });
    (pair, clock, told)
}

#[test]
fn a_write_that_arrives_after_its_time_is_not_judged_and_not_applied() {
    let (pair, clock, told) = arrives_late("");
    expect_refused_for_the_clock(told, &pair.wire.http_url());
    assert_eq!(pair.field.site.head().version, 2);
    // It was sent again, to the same clock.
    assert_eq!(pair.leader.count("fencepost_received_writes_total", "refused"), 2);
    assert_eq!(forwarded(&pair.follower, "not applied"), 2);
    set(&clock, 0);
    assert_eq!(version(&pair.put("in time")), 3);
    pair.expect_valid();
}

#[test]
fn without_its_time_a_write_that_arrives_late_is_applied() {
    let (pair, _, told) = arrives_late("forwarded-time=off");
    assert_eq!((version(&told), pair.field.site.head().version), (3, 3));
}

#[test]
fn nodes_whose_clocks_differ_by_more_than_ten_seconds_pass_nothing_on_and_say_why() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let leader = field.node("");
    version(&field.put(&leader, "first", "a", "b"));
    let follower = |ahead_s: i64| {
        let (clock, armed) = clock(ahead_s);
        (clock, field.node(&armed))
    };
    let put = |node: &Server, job: &str| field.put(node, job, "in", &format!("out of {job}"));
    for (near_s, far_s) in [(8, 60), (-8, -15)] {
        // Whose clock is wrong when it starts, and is set right.
        let (clock, node) = follower(if near_s > 0 { 12 } else { -12 });
        let before = field.site.head().version;
        expect_refused_for_the_clock(put(&node, "refused"), &leader.base);
        assert_eq!(forwarded(&node, "unreachable"), 1);
        assert_eq!(field.site.head().version, before);
        set(&clock, near_s);
        let right = format!("at {near_s}");
        put_sooner_or_later(&field, &node, &right, "in", &format!("out of {right}"));
        // And is set wrong while writes are passed on.
        set(&clock, far_s);
        let before = field.site.head().version;
        expect_refused_for_the_clock(put(&node, "refused"), &leader.base);
        assert_eq!(field.site.head().version, before);
        assert_eq!((forwarded(&node, "not applied"), forwarded(&node, "unknown")), (2, 0));
        set(&clock, 0);
        version(&put(&node, &format!("after {far_s}")));
    }
    field.expect_valid(&leader);
}
