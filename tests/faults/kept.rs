//! A node that keeps the lock between its turns, and is killed or stopped meanwhile, or too busy for
//! a pause.

use std::fs;
use std::thread;

use fencepost::node;

use super::field::Field;
use super::holders::{rejected_for, version};
use crate::support::cluster::{GRAPH, Server, name, wait_until};

/// Idle grants are not given back, so that one is there for as long as a test takes.
const KEEPS: &str = "lock.kept.idle=off";

fn is_held(field: &Field) -> bool {
    let report = node::inspect_lock(&field.site.options(), &name(GRAPH)).unwrap();
    !report.inspection.holders.is_empty()
}

/// A node that has written and keeps the lock.
fn keeper(field: &Field, failpoints: &str) -> Server {
    let keeper = field.node(&format!("{KEEPS},{failpoints}"));
    assert_eq!(version(&field.put(&keeper, "first", "a", "b")), 1);
    assert!(is_held(field), "the lock is not kept");
    keeper
}

#[test]
fn a_node_that_is_killed_while_it_keeps_the_lock_delays_the_others_by_its_lease() {
    let field = Field::new();
    let (mut keeper, other) = (keeper(&field, ""), field.node(""));
    keeper.kill();
    assert_eq!(version(&field.put(&other, "other", "x", "y")), 2);
    assert_eq!(other.count("fencepost_tokens_sealed_total", ""), 1);
    field.expect_valid(&other);
}

/// What it has at hand when it wakes is outdated, and so is its grant.
#[test]
fn a_node_that_is_stopped_while_it_keeps_the_lock_decides_on_what_others_wrote() {
    let field = Field::new();
    let (keeper, other) = (keeper(&field, ""), field.node(""));
    keeper.signal("STOP");
    assert_eq!(version(&field.put(&other, "other", "x", "y")), 2);
    assert_eq!(other.count("fencepost_tokens_sealed_total", ""), 1);
    keeper.signal("CONT");
    assert_eq!(rejected_for(&field.put(&keeper, "late", "y", "x")), "cycle");
    assert_eq!(version(&field.put(&keeper, "next", "c", "d")), 3);
    field.expect_valid(&other);
}

/// Its turn is past all its checks when it is stopped, and its token was used before.
#[test]
fn a_node_that_is_stopped_in_a_later_turn_of_a_kept_grant_is_told_the_truth() {
    let field = Field::new();
    let reached = field.site.path("reached");
    let other = field.node("");
    let keeper = keeper(&field, &format!("after-check=pause:{}@2", reached.display()));
    thread::scope(|scope| {
        let stopped = scope.spawn(|| field.put(&keeper, "stopped", "x", "y"));
        wait_until("the holder is at the point", || reached.exists());
        keeper.signal("STOP");
        fs::remove_file(&reached).unwrap();
        assert_eq!(version(&field.put(&other, "other", "y", "x")), 2);
        keeper.signal("CONT");
        assert_eq!(rejected_for(&stopped.join().unwrap()), "cycle");
    });
    assert!(keeper.count("fencepost_lock_grants_kept_total", "") > 0, "the grant was a new one");
    assert!(keeper.count("fencepost_lost_writes_total", "") > 0, "it lost nothing");
    field.expect_valid(&other);
}

#[test]
fn a_node_that_writes_without_a_pause_lets_another_in() {
    let field = Field::new();
    let (busy, other) = (keeper(&field, ""), field.node(""));
    field.under_load(&[&busy], || {
        for n in 0..5 {
            version(&field.put(&other, &format!("other-{n}"), "x", &format!("y-{n}")));
        }
    });
    assert!(busy.count("fencepost_lock_grants_kept_total", "") > 0, "nothing was kept");
    assert!(busy.count("fencepost_lock_grants_ended_total", "wanted") > 0, "nobody was let in");
    field.expect_valid(&other);
}

#[test]
fn a_lock_that_is_kept_is_given_back_when_its_node_is_idle_or_ends() {
    let field = Field::new();
    let idle = field.node("");
    assert_eq!(version(&field.put(&idle, "first", "a", "b")), 1);
    wait_until("the lock is given back", || !is_held(&field));
    assert_eq!(idle.count("fencepost_lock_grants_ended_total", "idle"), 1);
    let ends = field.node(KEEPS);
    assert_eq!(version(&field.put(&ends, "second", "c", "d")), 2);
    assert!(is_held(&field));
    ends.signal("TERM");
    assert_eq!(version(&field.put(&idle, "third", "e", "f")), 3);
    assert_eq!(idle.count("fencepost_tokens_sealed_total", ""), 0, "its lease ran out");
    field.expect_valid(&idle);
}
