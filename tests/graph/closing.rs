//! Which cycle is shown, and of which operation: held to the rule as it is written down, read word
//! by word by the naive model.

use std::collections::BTreeMap;

use fencepost::graph::{DecidedBatch, Graph, decide};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::model::{Model, Verdict};
use super::support::{accepted, command, verdict};
use crate::support::closing::{Draw, Jobs, changesets, declarations};

/// Judges the changesets one after another, each on what the accepted ones before it left; `each`
/// gets what was asked, on which graph, and the verdict.
fn run(draws: &[Vec<Draw>], mut each: impl FnMut(&Value, &Model, &Verdict)) {
    let (mut model, mut jobs) = (Model::default(), Jobs::default());
    let declared = json!({"operations": declarations()});
    model.decide(&declared);
    let mut graph = accepted(&Graph::default(), &command(&declared));
    let mut batch = DecidedBatch::on(&graph);
    for draws in draws {
        let (operations, after) = jobs.changeset(draws);
        let json = json!({"operations": operations});
        let (before, command) = (model.clone(), command(&json));
        let expected = model.decide(&json);
        assert_eq!(verdict(&graph, &command), expected, "on {json}");
        each(&json, &before, &expected);
        let in_batch = batch.decide(&command).err();
        match decide(&graph, &command) {
            Ok(decision) => {
                assert_eq!(in_batch, None, "on {json}");
                (graph, jobs) = (decision.next, after);
            }
            Err(rejection) => assert_eq!(in_batch, Some(rejection), "on {json}"),
        }
        assert_eq!(batch.graph().digest(), graph.digest());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cycle_shown_is_the_one_that_the_rule_names(draws in changesets(1..12)) {
        run(&draws, |_, _, _| {});
    }
}

/// A generator that no longer reaches a case would make the property above pass for nothing.
#[test]
fn random_changesets_close_cycles_of_every_kind() {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..120 {
        let draws = changesets(8..12).new_tree(&mut runner).unwrap().current();
        run(&draws, |asked, before, verdict| {
            let mut met = |what| *met.entry(what).or_default() += 1;
            let Verdict::Rejected(reason) = verdict else { return met("accepted") };
            assert_eq!(reason["rejected"], "cycle", "on {asked}");
            let operations = asked["operations"].as_array().unwrap();
            let number = reason["operation"].as_u64().unwrap() as usize;
            let job =
                |operation: &Value| operation.get("job").or_else(|| operation.get("name")).cloned();
            let same_job = |other: &&Value| job(other) == job(&operations[number]);
            let deleted = |operation: &Value| operation["op"] == "delete_job";
            met(match reason["cycle"].as_array().unwrap().len() / 2 {
                1 => "a self-loop",
                2 => "a cycle of two jobs",
                _ => "a longer cycle",
            });
            if number + 1 < operations.len() {
                met("operations come after the one that is told");
            }
            if operations[..number].iter().any(|other| same_job(&other)) {
                met("the job was changed before");
            }
            if operations[..number].iter().any(|other| same_job(&other) && deleted(other)) {
                met("the job was deleted before");
            }
            if operations[number + 1..].iter().any(|other| same_job(&other)) {
                met("the job is changed again after");
            }
            let shortest = before.shortest_in_the_end(asked);
            if shortest != reason["cycle"] {
                met("another cycle of the final graph is shorter or smaller");
            }
            if shortest.as_array().unwrap().len() < reason["cycle"].as_array().unwrap().len() {
                met("another cycle of the final graph is shorter");
            }
            let edges = before.put_again(asked);
            let told = reason["cycle"].as_array().unwrap();
            if told.windows(2).any(|pair| edges.contains(&json!(pair))) {
                met("the cycle has an edge that was there before, went and came back");
            }
        });
    }
    println!("{met:#?}");
    assert!(met.len() == 11 && met.values().all(|&times| times >= 20), "{met:#?}");
}
