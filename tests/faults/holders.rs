//! A holder of the lock that is stopped for longer than its lease, killed, or cut off from Redis,
//! at every point of its turn.

use std::fs;
use std::thread;

use fencepost::bench::Outcome;

use super::field::Field;
use crate::support::cluster::{Server, wait_until};

#[track_caller]
pub(super) fn version(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Accepted(accepted) => accepted.version,
        other => panic!("not accepted: {other:?}"),
    }
}

#[track_caller]
pub(super) fn rejected_for(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Rejected { name, .. } => name,
        other => panic!("not rejected: {other:?}"),
    }
}

/// The holder is stopped at `point`, past its lease; goes on when another has written; and is told
/// the truth. The two writes together would close a cycle.
fn stopped_until_another_wrote(point: &str) {
    let field = Field::new();
    let (reached, armed) = field.pause_at(point);
    let (holder, other) = (field.node(&armed), field.node(""));
    let was_written = point == "after-commit";
    thread::scope(|scope| {
        let stopped = scope.spawn(|| field.put(&holder, "stopped", "x", "y"));
        wait_until("the holder is at the point", || reached.exists());
        holder.signal("STOP");
        fs::remove_file(&reached).unwrap();
        let told = field.put(&other, "other", "y", "x");
        if was_written {
            assert_eq!(rejected_for(&told), "cycle");
        } else {
            assert_eq!(version(&told), 1);
        }
        assert_eq!(
            other.count("fencepost_tokens_sealed_total", ""),
            1,
            "the lease of the holder did not run out"
        );
        holder.signal("CONT");
        let told = stopped.join().unwrap();
        match was_written {
            true => assert_eq!(version(&told), 1),
            // In the turn that it took again, or in the connection that Postgres ended meanwhile.
            false if matches!(told, Outcome::Refused { .. }) => {}
            false => assert_eq!(rejected_for(&told), "cycle"),
        }
    });
    let lost = holder.count("fencepost_lost_writes_total", "")
        + holder.count("fencepost_lock_leases_lost_total", "");
    let before_transaction = ["after-acquire", "after-check"].contains(&point);
    assert!(lost > 0 || !before_transaction, "the holder lost nothing");
    let next = version(&field.put(&holder, "next", "a", "b"));
    assert_eq!(next, 2);
    field.expect_valid(&other);
}

#[test]
fn a_holder_stopped_with_the_lock_is_told_the_truth() {
    stopped_until_another_wrote("after-acquire");
}

#[test]
fn a_holder_stopped_after_its_last_look_at_the_lock_is_told_the_truth() {
    stopped_until_another_wrote("after-check");
}

#[test]
fn a_holder_stopped_before_its_write_is_told_the_truth() {
    stopped_until_another_wrote("before-conditional-update");
}

#[test]
fn a_holder_stopped_in_its_transaction_is_told_the_truth() {
    stopped_until_another_wrote("after-conditional-update");
}

#[test]
fn a_holder_stopped_before_its_commit_is_told_the_truth() {
    stopped_until_another_wrote("before-commit");
}

#[test]
fn a_holder_stopped_after_its_commit_is_told_the_truth() {
    stopped_until_another_wrote("after-commit");
}

/// The holder is past all its own checks and wakes after its successor has sealed, and before it
/// writes. Returns both nodes, the holder's more armed.
fn wakes_before_its_successor_writes(more: &str) -> (Field, Server, Server) {
    let field = Field::new();
    let (reached, armed) = field.pause_at("after-check");
    let (sealed, successor_armed) = field.pause_at("after-seal");
    let holder = field.node(&format!("{armed},{more}"));
    let other = field.node(&format!("{successor_armed},{more}"));
    thread::scope(|scope| {
        let stopped = scope.spawn(|| field.put(&holder, "stopped", "x", "y"));
        wait_until("the holder is at the point", || reached.exists());
        holder.signal("STOP");
        let successor = scope.spawn(|| field.put(&other, "other", "y", "x"));
        wait_until("its successor has the lock", || sealed.exists());
        fs::remove_file(&reached).unwrap();
        holder.signal("CONT");
        // The holder has been refused or has written.
        wait_until("the holder is through with its write", || {
            holder.count("fencepost_lost_writes_total", "") > 0 || field.site.head().version > 0
        });
        fs::remove_file(&sealed).unwrap();
        successor.join().unwrap();
        stopped.join().unwrap();
    });
    (field, holder, other)
}

#[test]
fn a_holder_that_wakes_before_its_successor_writes_is_fenced() {
    let (field, holder, other) = wakes_before_its_successor_writes("");
    assert_eq!(holder.count("fencepost_lost_writes_total", "fenced"), 1);
    assert_eq!(other.count("fencepost_lost_writes_total", ""), 0, "its successor had to try again");
    field.expect_valid(&other);
}

/// The negative control: the rules hold without the seal, for the versions are compared; but the
/// former holder is not fenced.
#[test]
fn without_the_seal_a_former_holder_writes_before_its_successor() {
    let (field, holder, other) = wakes_before_its_successor_writes("seal-on-expiry=off");
    assert_eq!(holder.count("fencepost_lost_writes_total", "fenced"), 0);
    assert_eq!(other.count("fencepost_tokens_sealed_total", ""), 0);
    field.expect_valid(&other);
}

/// The holder is past all its own checks and wakes after its successor has written.
fn wakes_after_its_successor_wrote(more: &str) -> (Field, Server, Server) {
    let field = Field::new();
    if more.contains("version-comparison") {
        // The log's key is a third guard, which would hide that the first is missing.
        field.site.run_sql("ALTER TABLE changes DROP CONSTRAINT changes_pkey");
    }
    let (reached, armed) = field.pause_at("after-check");
    let (holder, other) = (field.node(&format!("{armed},{more}")), field.node(""));
    // Rows that are there already: new ones would have ids that exclude each other.
    for (job, input, output) in [("stopped", "a", "y"), ("other", "b", "x")] {
        version(&field.put(&other, job, input, output));
    }
    thread::scope(|scope| {
        let stopped = scope.spawn(|| field.put(&holder, "stopped", "x", "y"));
        wait_until("the holder is at the point", || reached.exists());
        holder.signal("STOP");
        fs::remove_file(&reached).unwrap();
        assert_eq!(version(&field.put(&other, "other", "y", "x")), 3);
        holder.signal("CONT");
        stopped.join().unwrap();
    });
    (field, holder, other)
}

#[test]
fn without_the_version_comparison_the_fence_refuses_a_former_holder() {
    let (field, holder, other) = wakes_after_its_successor_wrote("version-comparison=off");
    assert_eq!(holder.count("fencepost_lost_writes_total", "fenced"), 1);
    field.expect_valid(&other);
}

#[test]
fn without_the_fence_the_version_comparison_refuses_a_former_holder() {
    let (field, holder, other) = wakes_after_its_successor_wrote("fence-comparison=off");
    assert_eq!(holder.count("fencepost_lost_writes_total", ""), 1);
    field.expect_valid(&other);
}

#[test]
fn without_fence_and_version_comparison_the_checker_finds_two_writes_of_one_version() {
    let (field, _holder, other) =
        wakes_after_its_successor_wrote("version-comparison=off,fence-comparison=off");
    let finding = field.expect_anomaly(&other).to_string();
    assert!(finding.contains("duplicate-version"), "{finding}");
}

#[test]
fn a_holder_that_is_killed_delays_the_others_by_no_more_than_its_lease_and_a_second() {
    for point in [
        "after-acquire",
        "after-check",
        "before-conditional-update",
        "after-conditional-update",
        "after-commit",
    ] {
        let field = Field::new();
        let (reached, armed) = field.pause_at(point);
        let (mut holder, other) = (field.node(&armed), field.node(""));
        thread::scope(|scope| {
            let killed = scope.spawn(|| field.put(&holder, "killed", "x", "y"));
            wait_until("the holder is at the point", || reached.exists());
            holder.signal("KILL");
            let outcome = killed.join().unwrap();
            assert_eq!(outcome.event(), "info", "{outcome:?}");
        });
        holder.kill();
        match point {
            "after-commit" => {
                assert_eq!(rejected_for(&field.put(&other, "other", "y", "x")), "cycle")
            }
            _ => assert_eq!(version(&field.put(&other, "other", "y", "x")), 1),
        }
        assert_eq!(other.count("fencepost_tokens_sealed_total", ""), 1);
        let summary = field.expect_valid(&other);
        assert_eq!(
            (summary.unknown, summary.unknown_applied),
            (1, usize::from(point == "after-commit"))
        );
    }
}
