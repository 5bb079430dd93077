//! Nodes that decide the next writes while a commit is under way, and are killed or outrun then.

use std::fs;
use std::thread;

use fencepost::bench::{Outcome, Request};
use fencepost::design::Design;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::es_locked::ES_LOCKED;
use fencepost::design::es_optimistic::ES_OPTIMISTIC;
use fencepost::graph::{CanonicalJson, JobSpecification, Operation, Precondition, Step};

use super::field::Field;
use crate::support::cluster::{Server, name, wait_until};

fn decided_ahead(node: &Server) -> u64 {
    node.count("fencepost_decided_ahead_total", "")
}

#[test]
fn of_a_node_that_is_killed_in_a_commit_nothing_stays_that_was_decided_on_it() {
    for design in [<&Design>::default(), &CRUD_OPTIMISTIC, &ES_LOCKED, &ES_OPTIMISTIC] {
        let field = Field::of(design, None);
        let other = field.node("");
        // In its first transaction, which has the graph's row then: the others wait for that.
        let (reached, armed) = field.pause_at("after-conditional-update");
        let killed = field.node(&armed);
        field.under_load(&[&other], || {
            thread::scope(|scope| {
                let (field, killed) = (&field, &killed);
                let put = |n| scope.spawn(move || field.put(killed, &format!("on-{n}"), "x", "y"));
                put(0);
                wait_until("its commit is under way", || reached.exists());
                // Not sooner: while it waits for its turn, whoever comes is taken into that turn.
                (1..24).for_each(|n| drop(put(n)));
                wait_until("others are decided on that", || decided_ahead(killed) > 0);
                killed.signal("KILL");
            });
        });
        field.expect_valid(&other);
    }
}

/// One node's commit is outrun by another's, and what it was to write is rejected then: the graph
/// is at the version on which the next write was decided, by another history.
fn outrun_with_one_decided_ahead(more: &str) -> (Field, Outcome, Server) {
    let field = Field::of(&CRUD_OPTIMISTIC, None);
    let (reached, armed) = field.pause_at("commit-begun");
    let (slower, faster) = (field.node(&format!("{armed},{more}")), field.node(""));
    for (job, input, output) in [("slower", "a", "y"), ("faster", "b", "x")] {
        let told = field.put(&faster, job, input, output);
        assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
    }
    let specification = JobSpecification {
        name: name("faster"),
        inputs: [name("a")].into(),
        outputs: [name("x")].into(),
        spec: CanonicalJson::default(),
    };
    let operation = Operation::PutJob(specification);
    let under = Step { operation, precondition: Some(Precondition::Version(2)) };
    let told = thread::scope(|scope| {
        let under = scope.spawn(|| field.ask(&slower, Request::Write(vec![under])));
        wait_until("its commit is under way", || reached.exists());
        let ahead = scope.spawn(|| field.put(&slower, "slower", "x", "y"));
        // For fewer no worker is woken.
        let field = &field;
        let others = ["1", "2", "3", "4", "5", "6", "7"]
            .map(|job| scope.spawn(|| field.put(&slower, job, "a", job)));
        wait_until("they are decided", || decided_ahead(&slower) >= 8);
        let told = field.put(&faster, "faster", "y", "x");
        assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
        fs::remove_file(&reached).unwrap();
        let told = under.join().unwrap();
        assert!(matches!(told, Outcome::Rejected { .. }), "{told:?}");
        others.into_iter().for_each(|other| drop(other.join().unwrap()));
        ahead.join().unwrap()
    });
    (field, told, faster)
}

#[test]
fn what_was_decided_on_a_commit_that_was_outrun_is_decided_again() {
    let (field, told, faster) = outrun_with_one_decided_ahead("");
    assert!(matches!(&told, Outcome::Rejected { name, .. } if name == "cycle"), "{told:?}");
    field.expect_valid(&faster);
}

/// The negative control: the version alone is compared.
#[test]
fn without_the_comparison_of_states_the_checker_finds_a_cycle() {
    let (field, told, faster) = outrun_with_one_decided_ahead("ahead-comparison=off");
    assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
    let finding = field.expect_anomaly(&faster).to_string();
    assert!(finding.contains("cycle"), "{finding}");
}
