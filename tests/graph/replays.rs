//! Replay accepts just what `decide` can produce.

use std::collections::BTreeSet;

use fencepost::graph::{
    CanonicalJson, Change, Changeset, Command, Fact, FactViolation, Graph, IllegalChange,
    JobSpecification, Name, Operation, Precondition, decide, replay,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::support::{built_from, name};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const TEXTS: [&str; 2] = ["{}", "{\"x\":1}"];

fn names() -> impl Strategy<Value = Vec<Name>> {
    // Seldom out of order, or with one twice.
    let sorted = subsequence(NAMES.to_vec(), 0..=2);
    prop_oneof![
        9 => sorted,
        1 => proptest::collection::vec(select(NAMES.to_vec()), 0..=2),
    ]
    .prop_map(|texts| texts.into_iter().map(name).collect())
}

fn fact() -> impl Strategy<Value = Fact> {
    let one = || select(NAMES.to_vec()).prop_map(name);
    let json = || select(TEXTS.to_vec()).prop_map(|text| CanonicalJson::parse(text).unwrap());
    let changed = (names(), names(), one(), names(), names(), proptest::option::of(json()));
    prop_oneof![
        1 => Just(Fact::GraphDeleted {}),
        4 => one().prop_map(|name| Fact::JobDeleted { name }),
        8 => changed.prop_map(
            |(inputs_added, inputs_removed, name, outputs_added, outputs_removed, spec)| {
                Fact::JobChanged {
                    inputs_added,
                    inputs_removed,
                    name,
                    outputs_added,
                    outputs_removed,
                    spec,
                }
            }
        ),
        8 => (names(), one(), names(), json()).prop_map(|(inputs, name, outputs, spec)| {
            Fact::JobCreated { inputs, name, outputs, spec }
        }),
        3 => one().prop_map(|name| Fact::DatasetUndeclared { name }),
        3 => (json(), one()).prop_map(|(metadata, name)| Fact::DatasetChanged { metadata, name }),
        4 => (json(), one()).prop_map(|(metadata, name)| Fact::DatasetDeclared { metadata, name }),
    ]
}

/// A command that leads to the change, if any does: each job and dataset as the facts leave it.
fn command_for(graph: &Graph, change: &Change) -> Command {
    let operation = |fact: &Fact| match fact {
        Fact::GraphDeleted {} => unreachable!("it stands alone"),
        Fact::JobDeleted { name } => Operation::DeleteJob { name: name.clone() },
        Fact::JobCreated { inputs, name, outputs, spec } => Operation::PutJob(JobSpecification {
            name: name.clone(),
            inputs: inputs.clone(),
            outputs: outputs.clone(),
            spec: spec.clone(),
        }),
        Fact::JobChanged {
            inputs_added,
            inputs_removed,
            name,
            outputs_added,
            outputs_removed,
            spec,
        } => {
            let job = graph.job(name.as_str()).expect("what was replayed is there");
            let edges = |had: Vec<&Name>, added: &[Name], removed: &[Name]| -> Vec<Name> {
                let kept = had.into_iter().filter(|name| !removed.contains(name));
                let edges: BTreeSet<Name> = kept.chain(added).cloned().collect();
                edges.into_iter().collect()
            };
            Operation::PutJob(JobSpecification {
                name: name.clone(),
                inputs: edges(job.inputs(), inputs_added, inputs_removed),
                outputs: edges(job.outputs(), outputs_added, outputs_removed),
                spec: spec.clone().unwrap_or_else(|| job.spec().clone()),
            })
        }
        Fact::DatasetUndeclared { name } => Operation::DeleteDataset { name: name.clone() },
        Fact::DatasetChanged { metadata, name } | Fact::DatasetDeclared { metadata, name } => {
            Operation::PutDataset { name: name.clone(), metadata: metadata.clone() }
        }
    };
    if matches!(change.facts[..], [Fact::GraphDeleted {}]) {
        return Command::DeleteGraph { precondition: Some(Precondition::Exists) };
    }
    let changeset: Changeset = change.facts.iter().map(operation).collect();
    Command::Changeset(changeset)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_log_that_is_accepted_is_one_that_some_changesets_write(
        changes in proptest::collection::vec(proptest::collection::vec(fact(), 1..=3), 1..=25)
    ) {
        let (mut graph, mut log) = (Graph::default(), Vec::new());
        for facts in changes {
            let change = Change { facts };
            log.push(change.clone());
            let built = built_from(&log);
            let next = match replay(graph.clone(), &change) {
                Ok(next) => next,
                Err(error) => {
                    // Whoever builds a graph from its own log knows by the chain that its changes
                    // are as they were written: these do no harm to a graph.
                    let harmless = matches!(error, IllegalChange::Order(_))
                        || matches!(&error, IllegalChange::Fact(fact)
                            if fact.violation == FactViolation::Unchanged);
                    prop_assert!(built.is_err() || harmless, "{change:?}: {error}");
                    log.pop();
                    continue;
                }
            };
            let built = built.map_err(TestCaseError::fail)?;
            prop_assert_eq!(built.digest(), next.digest());
            let decision = decide(&graph, &command_for(&graph, &change))
                .map_err(|rejection| TestCaseError::fail(format!("{change:?}: {rejection}")))?;
            prop_assert_eq!(&decision.change, &change);
            prop_assert_eq!(decision.next.digest(), next.digest());
            graph = next;
        }
    }
}
