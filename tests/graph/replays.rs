//! Replay accepts just what `decide` can produce.

use std::collections::BTreeSet;

use fencepost::graph::{
    CanonicalJson, Change, Changeset, Command, DecidedBatch, Fact, FactViolation, Graph,
    IllegalChange, JobSpecification, Name, Operation, Precondition, Rejection, Side, apply,
    apply_all, apply_all_and_judge, decide, replay,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::support::{ask_everything, built_from, name};

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

/// Edges between few jobs, and jobs that come and go: what closes cycles.
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = || select(NAMES.to_vec()).prop_map(name);
    let side = || prop_oneof![Just(Side::Input), Just(Side::Output)];
    let sorted = || {
        subsequence(NAMES.to_vec(), 0..=2).prop_map(|texts| texts.into_iter().map(name).collect())
    };
    let operation = prop_oneof![
        4 => (one(), sorted(), sorted()).prop_map(|(name, inputs, outputs)| {
            let spec = CanonicalJson::default();
            Operation::PutJob(JobSpecification { name, inputs, outputs, spec })
        }),
        4 => (side(), one(), one())
            .prop_map(|(side, job, dataset)| Operation::AddEdge { side, job, dataset }),
        2 => (side(), one(), one())
            .prop_map(|(side, job, dataset)| Operation::RemoveEdge { side, job, dataset }),
        1 => one().prop_map(|name| Operation::DeleteJob { name }),
    ];
    proptest::collection::vec(operation, 1..=4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Such logs are written where nobody compares versions.
    #[test]
    fn apply_is_total_and_every_search_ends_whatever_the_log_says(
        changes in proptest::collection::vec(proptest::collection::vec(fact(), 1..=3), 1..=25)
    ) {
        let changes: Vec<Change> = changes.into_iter().map(|facts| Change { facts }).collect();
        let (mut graph, mut legal) = (Graph::default(), Some(Graph::default()));
        let mut first_illegal = None;
        for change in &changes {
            graph = apply(&graph, change);
            ask_everything(&graph);
            match legal.take().map(|legal| replay(legal, change)) {
                Some(Ok(next)) => {
                    prop_assert_eq!(next.digest(), graph.digest());
                    legal = Some(next);
                }
                Some(Err(illegal)) => first_illegal = Some((graph.version(), illegal)),
                None => {}
            }
        }
        prop_assert_eq!(apply_all(&Graph::default(), &changes).digest(), graph.digest());
        let (judged, illegal) = apply_all_and_judge(&Graph::default(), &changes);
        prop_assert_eq!((judged.version(), judged.digest()), (graph.version(), graph.digest()));
        prop_assert_eq!(illegal, first_illegal);
    }

    /// Two writers that decide on one graph, each beside the other, and apply both.
    #[test]
    fn decide_is_total_on_a_graph_that_breaks_the_rules(
        rounds in proptest::collection::vec((operations(), operations()), 1..=20)
    ) {
        let mut graph = Graph::default();
        for (one, other) in rounds {
            let commands = [one, other].map(|operations| {
                Command::Changeset(operations.into_iter().collect())
            });
            let mut batch = DecidedBatch::on(&graph);
            for command in &commands {
                let _ = batch.decide(command);
            }
            ask_everything(batch.graph());
            let decided = commands.each_ref().map(|command| decide(&graph, command));
            for decision in decided {
                match decision {
                    Ok(decision) if !decision.change.is_empty() => {
                        graph = apply(&graph, &decision.change);
                    }
                    Ok(_) => {}
                    Err(Rejection::Cycle { cycle, .. }) => {
                        prop_assert!(cycle.len() >= 3 && cycle.first() == cycle.last());
                    }
                    Err(_) => {}
                }
                ask_everything(&graph);
            }
        }
    }
}

/// The second producer takes the dataset over, so that nothing is left that leads nowhere.
#[test]
fn a_second_producer_takes_the_dataset_from_the_first() {
    let created = |job: &str| Change {
        facts: vec![Fact::JobCreated {
            inputs: Vec::new(),
            name: name(job),
            outputs: vec![name("d")],
            spec: CanonicalJson::default(),
        }],
    };
    let both = apply_all(&Graph::default(), &[created("first"), created("second")]);
    assert_eq!(both.dataset("d").unwrap().producer().unwrap().name().as_str(), "second");
    assert_eq!(both.edge_count(), 1);
    let deleted = Change { facts: vec![Fact::JobDeleted { name: name("second") }] };
    let left = apply(&both, &deleted);
    assert!(left.dataset("d").is_none());
    assert_eq!(left.job("first").unwrap().outputs(), Vec::<&Name>::new());
    ask_everything(&left);
}

fn put(job: &str, inputs: &[&str], outputs: &[&str]) -> Operation {
    let names = |texts: &[&str]| texts.iter().copied().map(name).collect();
    Operation::PutJob(JobSpecification {
        name: name(job),
        inputs: names(inputs),
        outputs: names(outputs),
        spec: CanonicalJson::default(),
    })
}

/// The graph with these jobs, and one of them reading one more dataset, whatever that closes.
fn with_cycle(jobs: impl IntoIterator<Item = Operation>, job: &str, input: &str) -> Graph {
    let command = Command::Changeset(jobs.into_iter().collect());
    let graph = decide(&Graph::default(), &command).map_err(|_| ()).unwrap().next;
    let closing = Fact::JobChanged {
        inputs_added: vec![name(input)],
        inputs_removed: Vec::new(),
        name: name(job),
        outputs_added: Vec::new(),
        outputs_removed: Vec::new(),
        spec: None,
    };
    let graph = apply(&graph, &Change { facts: vec![closing] });
    assert!(!graph.is_acyclic());
    graph
}

/// From the byte-smallest job of the new cycle there is a shorter way back, by the old one.
#[test]
fn a_cycle_is_shown_that_shares_its_way_with_one_that_was_there_before() {
    let graph = with_cycle([put("a", &["q"], &["x"]), put("b", &["x"], &["p", "y"])], "a", "y");
    let closing = Command::Changeset([put("j", &["p"], &["q"])].into_iter().collect());
    let told = decide(&graph, &closing).map(|_| ()).unwrap_err();
    let cycle = ["j", "q", "a", "x", "b", "p", "j"].map(name).to_vec();
    assert_eq!(told, Rejection::Cycle { cycle, operation: 0 });
}

/// What is asked for closes no cycle, though one that was there before is in its way.
#[test]
fn a_change_that_closes_no_cycle_is_accepted_beside_one_that_was_there_before() {
    let jobs = [put("c", &["z"], &[]), put("a", &["q"], &["x"]), put("b", &["x"], &["p", "y"])];
    let graph = with_cycle(jobs, "a", "y");
    for (inputs, outputs) in [(&["p"], &["z"]), (&["w"], &["q"]), (&["y"], &["z"])] {
        let asked = Command::Changeset([put("j", inputs, outputs)].into_iter().collect());
        assert!(decide(&graph, &asked).is_ok(), "{inputs:?} {outputs:?}");
    }
    let two = [put("j", &["p"], &["z"]), put("k", &["w"], &["q"])];
    assert!(decide(&graph, &Command::Changeset(two.into_iter().collect())).is_ok());
}

/// Jobs `a` to `f`, each with what it reads and writes among six datasets; as created one after
/// another, whatever that closes. A dataset goes to the last that writes it.
fn any_jobs() -> impl Strategy<Value = Change> {
    let some = || subsequence(DATASETS.to_vec(), 0..=3);
    let edges = proptest::collection::vec((some(), some()), JOBS.len());
    edges.prop_map(|edges| {
        let names = |texts: Vec<&str>| texts.into_iter().map(name).collect();
        let facts = JOBS.iter().zip(edges).map(|(job, (inputs, outputs))| Fact::JobCreated {
            inputs: names(inputs),
            name: name(job),
            outputs: names(outputs),
            spec: CanonicalJson::default(),
        });
        Change { facts: facts.collect() }
    })
}

const JOBS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const DATASETS: [&str; 6] = ["p", "q", "r", "x", "y", "z"];

/// From a job to what it writes, and from a dataset to a job that reads it.
fn edges_of(graph: &Graph) -> BTreeSet<(String, String)> {
    let jobs = JOBS.iter().filter_map(|job| graph.job(job));
    let edges = jobs.flat_map(|job| {
        let own = job.name().to_string();
        let inputs = job.inputs().into_iter().map(|input| (input.to_string(), own.clone()));
        let outputs = job.outputs().into_iter().map(|output| (own.clone(), output.to_string()));
        inputs.chain(outputs).collect::<Vec<_>>()
    });
    edges.collect()
}

fn leads_to(edges: &BTreeSet<(String, String)>, from: &str, to: &str) -> bool {
    let (mut seen, mut rest) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(node) = rest.pop() {
        if node == to {
            return true;
        }
        if seen.insert(node.clone()) {
            rest.extend(
                edges.iter().filter(|(start, _)| *start == node).map(|(_, end)| end.clone()),
            );
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Where the graph has cycles, whether another is closed is not always seen; but a change that
    /// closes none is not refused, and what is shown is a cycle.
    #[test]
    fn of_changes_to_a_graph_with_cycles_none_is_refused_that_closes_none(
        jobs in any_jobs(),
        added in proptest::collection::vec(
            (select(vec![Side::Input, Side::Output]), select(JOBS.to_vec()), select(DATASETS.to_vec())),
            1..4,
        ),
    ) {
        let graph = apply(&Graph::default(), &jobs);
        let before = edges_of(&graph);
        let operation = |(side, job, dataset): &(Side, &str, &str)| Operation::AddEdge {
            side: *side,
            job: name(job),
            dataset: name(dataset),
        };
        let edge = |(side, job, dataset): &(Side, &str, &str)| match side {
            Side::Input => ((*dataset).to_owned(), (*job).to_owned()),
            Side::Output => ((*job).to_owned(), (*dataset).to_owned()),
        };
        let after: BTreeSet<_> = before.iter().cloned().chain(added.iter().map(edge)).collect();
        let closes = after.difference(&before).any(|(from, to)| leads_to(&after, to, from));
        let command = Command::Changeset(added.iter().map(operation).collect());
        match decide(&graph, &command) {
            Ok(decision) => {
                prop_assert!(!closes || !graph.is_acyclic(), "a cycle is closed");
                prop_assert_eq!(edges_of(&decision.next), after);
            }
            Err(Rejection::Cycle { cycle, .. }) => {
                prop_assert!(closes, "no cycle is closed");
                let edge = |names: &[Name]| (names[0].to_string(), names[1].to_string());
                prop_assert!(cycle.windows(2).map(edge).all(|edge| after.contains(&edge)));
                prop_assert!(cycle.len() > 2 && cycle.first() == cycle.last());
            }
            Err(Rejection::SecondProducer { .. } | Rejection::EdgeExists { .. }) => {}
            // Nothing has mentioned it yet.
            Err(Rejection::DatasetNotFound { .. }) => {}
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
