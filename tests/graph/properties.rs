//! What must hold for every sequence of commands.

use std::collections::BTreeMap;

use fencepost::graph::{
    CanonicalJson, Change, DecidedBatch, Effect, Graph, apply, apply_all, decide,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use super::model::{Model, Verdict};
use super::random::{CommandDraw, PlanDraw, Universe, commands, plan_request};
use super::support::{
    assert_same, built_from, command, decided, ids, packed, plan, reachable, rebuilt, unpacked,
    verdict,
};

/// Carries the commands out on graph and model, comparing all that can be compared after each.
fn run(
    universe: &Universe,
    draws: &[CommandDraw],
    mut each: impl FnMut(&Verdict),
) -> (Graph, Model) {
    let (mut graph, mut model) = (Graph::default(), Model::default());
    let mut followers = vec![(Graph::default(), "followed from the start")];
    let mut kept: Vec<(Graph, Model)> = Vec::new();
    let mut changes = Vec::new();
    let mut batch = DecidedBatch::on(&graph);
    for (number, draw) in draws.iter().enumerate() {
        let json = draw.on(universe, &model);
        let command = command(&json);
        let before = (graph.clone(), model.clone());
        let expected = model.decide(&json);
        assert_eq!(verdict(&graph, &command), expected, "on {json}");
        let alone = decide(&graph, &command);
        let told = alone.as_ref().map(|decision| (!decision.change.is_empty(), decision.created));
        let effect = |effect: Effect| (effect.changed, effect.created);
        assert_eq!(
            batch.try_out(&command).map(effect).as_ref(),
            told.as_ref().map_err(|rejection| *rejection),
            "on {json}"
        );
        assert_eq!(
            batch.decide(&command).map(effect).as_ref(),
            told.as_ref().map_err(|rejection| *rejection),
            "on {json}"
        );
        if let Ok(decision) = alone {
            let text = decision.change.canonical_json(model.version);
            assert_eq!(
                CanonicalJson::parse(&text).unwrap().as_str(),
                text,
                "facts are canonical JSON"
            );
            let (change, version) = Change::from_canonical_json(&text).unwrap();
            assert_eq!((&change, version), (&decision.change, model.version));
            if !change.is_empty() {
                for (follower, _) in &mut followers {
                    *follower = apply(follower, &change);
                }
                changes.push(change);
            }
            graph = decision.next;
        }
        assert_eq!(
            (batch.graph().digest(), ids(batch.graph())),
            (graph.digest(), ids(&graph)),
            "in a batch, on {json}"
        );
        // Long and short ones: what one has copied the next changes in place.
        if number % 13 == 12 {
            batch = DecidedBatch::on(&graph);
        }
        assert_same(&before.0, &before.1);
        assert_same(&graph, &model);
        for (follower, how) in &followers {
            assert_eq!(follower.digest(), graph.digest(), "{how}");
            assert_same(follower, &model);
            assert_eq!(
                ids(follower),
                ids(&graph),
                "{how}: rows are found by the ids that another process gave"
            );
            assert_eq!(follower.memory_bytes(), graph.memory_bytes(), "{how}");
            assert_eq!(verdict(follower, &command), verdict(&graph, &command), "{how}");
        }
        kept.push(before);
        if number == draws.len() / 2 {
            followers.push((rebuilt(&graph), "built from rows half-way"));
            followers.push((unpacked(&packed(&graph, 100)).unwrap(), "unpacked half-way"));
        }
        each(&expected);
    }
    for (graph, model) in &kept {
        assert_same(graph, model);
    }
    followers.push((apply_all(&Graph::default(), &changes), "followed all at once"));
    let from_log = built_from(&changes).unwrap();
    assert_eq!(from_log.memory_bytes(), graph.memory_bytes());
    assert_eq!(from_log.edge_count(), graph.edge_count());
    followers.push((from_log, "built from its log"));
    for (follower, how) in followers {
        assert_eq!((follower.digest(), ids(&follower)), (graph.digest(), ids(&graph)), "{how}");
        assert_answers(&follower, &model);
    }
    assert_answers(&rebuilt(&graph), &model);
    (graph, model)
}

/// Plans and reachability are the naive ones, for every origin and a few sets of targets.
fn assert_answers(graph: &Graph, model: &Model) {
    let datasets: Vec<String> = model.datasets().into_iter().collect();
    let jobs: Vec<String> = model.jobs.keys().cloned().collect();
    for (i, dataset) in datasets.iter().enumerate() {
        let stop_at: Vec<String> = datasets.iter().skip(i % 3).step_by(3).cloned().collect();
        let some_jobs: Vec<String> = jobs.iter().skip(i).step_by(4).cloned().collect();
        let alone = std::slice::from_ref(dataset);
        let requests: [(&[String], &[String], &[String]); 4] = [
            (alone, &[], &[]),
            (alone, &some_jobs, &[]),
            (&datasets, &some_jobs, &stop_at),
            (alone, &jobs, alone),
        ];
        for (datasets, jobs, stop_at) in requests {
            assert_eq!(plan(graph, datasets, jobs, stop_at), model.plan(datasets, jobs, stop_at));
        }
    }
    for (origin, is_job) in
        jobs.iter().map(|job| (job, true)).chain(datasets.iter().map(|dataset| (dataset, false)))
    {
        for (upstream, depth) in
            [(true, None), (false, None), (true, Some(0)), (false, Some(1)), (true, Some(2))]
        {
            assert_eq!(
                reachable(graph, origin, is_job, upstream, depth),
                model.reachable(origin, is_job, upstream, depth.unwrap_or(usize::MAX))
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_graph_answers_as_the_naive_model_does(draws in commands(1..40)) {
        run(&Universe::small(), &draws, |_| {});
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_larger_graph_answers_as_the_naive_model_does(draws in commands(100..140)) {
        run(&Universe::of(40), &draws, |_| {});
    }
}

/// The graph and the model after the commands, compared by nothing.
fn carried_out(universe: &Universe, draws: &[CommandDraw]) -> (Graph, Model) {
    let (mut graph, mut model) = (Graph::default(), Model::default());
    for draw in draws {
        let json = draw.on(universe, &model);
        model.decide(&json);
        graph = decided(&graph, &command(&json));
    }
    (graph, model)
}

/// Compares one plan with the naive one, and returns it with what was asked.
fn compare_plan(graph: &Graph, model: &Model, draw: &PlanDraw) -> ([Vec<String>; 3], Value) {
    let asked = draw.on(model);
    let [datasets, jobs, stop_at] = &asked;
    let found = plan(graph, datasets, jobs, stop_at);
    assert_eq!(found, model.plan(datasets, jobs, stop_at), "of {asked:?}");
    (asked, found)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_of_any_targets_that_stops_anywhere_is_the_naive_one(
        draws in commands(10..40),
        asked in prop::collection::vec(plan_request(), 1..20),
    ) {
        let (graph, model) = carried_out(&Universe::small(), &draws);
        for draw in &asked {
            compare_plan(&graph, &model, draw);
        }
    }

    #[test]
    fn a_plan_of_a_larger_graph_that_stops_anywhere_is_the_naive_one(
        draws in commands(60..100),
        asked in prop::collection::vec(plan_request(), 1..10),
    ) {
        let (graph, model) = carried_out(&Universe::of(20), &draws);
        for draw in &asked {
            compare_plan(&graph, &model, draw);
        }
    }
}

/// As below: the properties of plans are worth what their requests reach.
#[test]
fn random_plans_meet_every_case_of_stop_at() {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..400 {
        let draws = commands(20..40).new_tree(&mut runner).unwrap().current();
        let (graph, model) = carried_out(&Universe::small(), &draws);
        let asked = plan_request().new_tree(&mut runner).unwrap().current();
        let ([datasets, jobs, stop_at], found) = compare_plan(&graph, &model, &asked);
        let names = |field: &str| found[field].as_array().unwrap().clone();
        let read_by = |pair: &Value, dataset: &String| {
            let job = |place: usize| &model.jobs[pair[place].as_str().unwrap()];
            job(0).outputs.contains(dataset) && job(1).inputs.contains(dataset)
        };
        let pairs = names("dependencies");
        let cases = [
            (
                "a dependency through stop_at alone",
                pairs.iter().any(|pair| {
                    let through = model.datasets().into_iter().filter(|d| read_by(pair, d));
                    through.into_iter().all(|dataset| stop_at.contains(&dataset))
                }),
            ),
            (
                "a source that a job outside of the plan writes",
                names("sources")
                    .iter()
                    .any(|name| !model.producers(name.as_str().unwrap()).is_empty()),
            ),
            ("a target that the search stops at", datasets.iter().any(|d| stop_at.contains(d))),
            ("a job and a dataset of one name", datasets.iter().any(|name| jobs.contains(name))),
            ("a plan of three stages", names("stages").len() >= 3),
        ];
        for (case, is_met) in cases {
            *met.entry(case).or_default() += usize::from(is_met);
        }
    }
    println!("{met:#?}");
    for (case, times) in met {
        assert!(times >= 10, "{case}: {times}");
    }
}

/// A generator that no longer reaches a case would make the properties above pass for nothing.
#[test]
fn random_commands_meet_every_verdict() {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let draws = commands(30..40).new_tree(&mut runner).unwrap().current();
        let count = |verdict: &Verdict| {
            let mut met = |what: &str| *met.entry(what.to_owned()).or_default() += 1;
            match verdict {
                Verdict::Rejected(reason) => {
                    let kind = reason["rejected"].as_str().unwrap();
                    met(kind);
                    match kind {
                        "precondition_failed" if reason["operation"].is_null() => {
                            met("precondition of the whole")
                        }
                        "precondition_failed" if reason["expected"].is_null() => {
                            met("precondition: absent")
                        }
                        "precondition_failed" if reason["actual"].is_null() => {
                            met("precondition: of what is absent")
                        }
                        "cycle" => met(&format!(
                            "cycle of {}",
                            reason["cycle"].as_array().unwrap().len() / 2
                        )),
                        _ => {}
                    }
                }
                Verdict::Accepted { facts, .. } if facts.is_empty() => {
                    met("accepted without a change")
                }
                Verdict::Accepted { facts, created } => {
                    met(if *created { "accepted, created" } else { "accepted, nothing created" });
                    facts.iter().for_each(|fact| met(fact["fact"].as_str().unwrap()));
                }
            }
        };
        run(&Universe::small(), &draws, count);
    }
    println!("{met:#?}");
    let expected = [
        "accepted without a change",
        "accepted, created",
        "accepted, nothing created",
        "cycle",
        "cycle of 1",
        "cycle of 2",
        "cycle of 3",
        "dataset_changed",
        "dataset_declared",
        "dataset_in_use",
        "dataset_not_found",
        "dataset_undeclared",
        "edge_exists",
        "edge_not_found",
        "graph_deleted",
        "job_changed",
        "job_created",
        "job_deleted",
        "job_not_found",
        "precondition of the whole",
        "precondition: absent",
        "precondition: of what is absent",
        "precondition_failed",
        "second_producer",
    ];
    for what in expected {
        assert!(met.get(what).is_some_and(|&times| times >= 5), "{what}: {:?}", met.get(what));
    }
}
