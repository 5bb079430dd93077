//! Three nodes of every design, with both ways to read, while nothing happens and while much does:
//! what clients were told, the change log and the rows are one history.

use std::fs;
use std::thread;

use fencepost::archive::take_snapshot;
use fencepost::bench::Outcome;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::{self, Design, Reads};
use fencepost::node;
use fencepost::service::Refresh;
use fencepost::store::{History, SnapshotUse};

use super::field::Field;
use crate::support::cluster::{GRAPH, Server, name, wait_until};

/// The writes that a node has served, or passed on.
fn served(node: &Server) -> u64 {
    node.count("fencepost_write_batch_requests_sum", "")
        + node.count("fencepost_forwarded_writes_total", "answered")
}

/// Every design with reads as it does them and, if that is something else, with snapshots.
fn designs_and_reads() -> impl Iterator<Item = (&'static Design, Option<Reads>)> {
    let both = |design: &'static Design| {
        let snapshots = design.takes_lock().then_some((design, Some(Reads::Snapshot)));
        [(design, None)].into_iter().chain(snapshots)
    };
    design::sound().flat_map(both).inspect(|(design, reads)| {
        // Shown if the test fails.
        println!("with {design}, reads {reads:?}");
    })
}

#[test]
fn what_three_nodes_answer_is_one_history() {
    designs_and_reads().for_each(|(design, reads)| without_faults(design, reads));
}

#[test]
fn what_three_nodes_answer_is_one_history_whatever_befalls_them() {
    designs_and_reads().for_each(|(design, reads)| with_faults(design, reads));
}

fn without_faults(design: &'static Design, reads: Option<Reads>) {
    let field = Field::of(design, reads);
    let nodes = [field.node(""), field.node(""), field.node("")];
    field.load("--clients 9 --requests 600 --write-percent 40", &nodes.each_ref()).unwrap();
    for node in &nodes {
        assert!(served(node) > 0, "a node had no part in it");
        // It was this design, and these reads.
        let caught_up = node.count("fencepost_image_catch_ups_total", "") > 0;
        // Who leads from the beginning on has nothing to catch up with.
        let leads = node.count("fencepost_leader_graphs", "") > 0;
        assert!(leads || caught_up == (design.refresh == Refresh::Delta));
        let granted = |mode| node.count("fencepost_lock_wait_seconds_count", mode) > 0;
        assert_eq!(granted("exclusive"), design.takes_lock());
        assert_eq!(granted("shared"), design.reads(reads) == Ok(Reads::Lock));
        // Unless it was held up for longer than its lease.
        let retried = node.count("fencepost_lost_writes_total", "") > 0;
        let expired = nodes.iter().any(|node| {
            let lost = node.count("fencepost_lock_leases_lost_total", "");
            lost + node.count("fencepost_tokens_sealed_total", "") > 0
        });
        assert!(!retried || !design.takes_lock() || expired, "the lock's holder was outrun");
    }
    if field.site.store().history(design.storage) == History::None {
        return field.expect_valid_without_log(&nodes[0]);
    }
    let summary = field.expect_valid(&nodes[0]);
    assert!(summary.operations >= 600 && summary.last_version > 40, "{summary:?}");
}

/// A node is killed and started again, Redis forgets everything, and whoever is about to write is
/// stopped for longer than its lease.
fn with_faults(design: &'static Design, reads: Option<Reads>) {
    let field = Field::of(design, reads);
    let [first, second, third] = [field.node(""), field.node(""), field.node("")];
    let others = |metric| first.count(metric, "") + second.count(metric, "");
    let stopped = field.under_load(&[&first, &second, &third], || {
        wait_until("the node has its share of the load", || served(&third) > 0);
        third.signal("KILL");
        field.wait_for_writes(5);

        if design.takes_lock() {
            let before = others("fencepost_epochs_raised_total");
            field.redis.command(&["FLUSHALL"]);
            wait_until("an epoch is raised", || others("fencepost_epochs_raised_total") > before);
        }

        // What starts now begins with a snapshot, where that is the beginning.
        let use_of = field.site.store().snapshot_use(design.storage);
        if use_of != SnapshotUse::None {
            take_snapshot(&field.site.store(), &name(GRAPH)).unwrap();
        }
        let (reached, armed) = field.pause_at("after-check");
        let again = field.node(&armed);
        thread::scope(|scope| {
            if design.has_leader() {
                // It is to lead.
                let to = Some(again.base.as_str());
                node::hand_over(&field.site.options(), &name(GRAPH), to).unwrap();
            }
            let put = scope.spawn(|| field.put(&again, "stopped", "x", "y"));
            wait_until("it is about to write", || reached.exists());
            let before = others("fencepost_tokens_sealed_total");
            again.signal("STOP");
            fs::remove_file(&reached).unwrap();
            field.wait_for_writes(5);
            let lease_ran_out = others("fencepost_tokens_sealed_total") > before;
            again.signal("CONT");
            let told = put.join().unwrap();
            let from_snapshot = again.count("fencepost_image_loads_from_total", "snapshot") > 0;
            assert!(from_snapshot || use_of != SnapshotUse::Beginning);
            assert_eq!(lease_ran_out, design.takes_lock());
            // Where another leads by then, it was passed on to that one.
            assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
        });
        again
    });
    let lost = [
        "fencepost_lost_writes_total",
        "fencepost_lock_leases_lost_total",
        "fencepost_leader_ended_total",
    ];
    assert!(
        lost.iter().any(|metric| stopped.count(metric, "") > 0),
        "it was not stopped for long enough"
    );
    if field.site.store().history(design.storage) == History::None {
        return field.expect_valid_without_log(&stopped);
    }
    field.expect_valid(&stopped);
}

/// Without a lock: a node has judged a write when another is answered that closes a cycle with it.
fn outrun(more: &str) -> (Field, Outcome, Server, Server) {
    let field = Field::of(&CRUD_OPTIMISTIC, None);
    if !more.is_empty() {
        // The log's key is another guard, which would hide that the first is missing.
        field.site.run_sql("ALTER TABLE changes DROP CONSTRAINT changes_pkey");
    }
    let (reached, armed) = field.pause_at("after-check");
    let (slower, faster) = (field.node(&format!("{armed},{more}")), field.node(more));
    // Rows that are there already: new ones would have ids that exclude each other.
    for (job, input, output) in [("slower", "a", "y"), ("faster", "b", "x")] {
        let told = field.put(&faster, job, input, output);
        assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
    }
    let told = thread::scope(|scope| {
        let put = scope.spawn(|| field.put(&slower, "slower", "x", "y"));
        wait_until("it is about to write", || reached.exists());
        let told = field.put(&faster, "faster", "y", "x");
        assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
        fs::remove_file(&reached).unwrap();
        put.join().unwrap()
    });
    (field, told, slower, faster)
}

#[test]
fn without_a_lock_whoever_was_outrun_judges_again() {
    let (field, told, slower, faster) = outrun("");
    assert!(matches!(&told, Outcome::Rejected { name, .. } if name == "cycle"), "{told:?}");
    assert_eq!(slower.count("fencepost_lost_writes_total", "conflict"), 1);
    assert_eq!(slower.count("fencepost_wasted_decisions_total", ""), 1);
    field.expect_valid(&faster);
}

/// The negative control.
#[test]
fn without_lock_and_version_comparison_the_checker_finds_two_writes_of_one_version() {
    let (field, told, _slower, faster) = outrun("version-comparison=off");
    assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
    let finding = field.expect_anomaly(&faster).to_string();
    assert!(finding.contains("duplicate-version"), "{finding}");
}
