//! On small histories the checker and stateright's linearizability tester, which searches all
//! orders and is told no version to order by, say the same.
//!
//! Ours is stricter in two ways: versions are dense, and each answer names its own. So what the
//! sequential specification returns holds the version, and last of all the whole change log.

use fencepost::check::Verdict;
use fencepost::graph::{Decision, Graph};
use serde_json::{Value, json};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::script::{judge, lines};
use super::simulator::{Mutant, Run, Size, simulate};
use super::truth;
use crate::support::storm::Choices;

const SIZE: Size = Size { nodes: 2, clients: 3, requests: 9 };

/// One graph, changed one step after another.
#[derive(Clone, Default)]
struct OneGraph {
    graph: Graph,
    log: Vec<Value>,
}

impl SequentialSpec for OneGraph {
    type Op = Value;
    type Ret = Value;

    fn invoke(&mut self, request: &Value) -> Value {
        let version = self.graph.version();
        let end = if *request == json!("log") {
            json!(self.log)
        } else if truth::writes(request) {
            match truth::judge(&self.graph, request) {
                Err(rejection) => truth::rejected(rejection, version),
                Ok(Decision { change, next, created, .. }) => {
                    let changed = !change.is_empty();
                    let version = next.version();
                    if changed {
                        self.log
                            .push(serde_json::from_str(&change.canonical_json(version)).unwrap());
                    }
                    self.graph = next;
                    json!({"event": "ok", "verdict": "accepted", "version": version, "changed": changed, "created": created})
                }
            }
        } else {
            truth::read(&self.graph, version, request)
        };
        without_prose(end)
    }
}

fn without_prose(mut end: Value) -> Value {
    if let Some(problem) = end.get_mut("problem").and_then(Value::as_object_mut) {
        problem.remove("title");
        problem.remove("detail");
    }
    end
}

/// Whether the run is linearizable, by search.
fn by_search(run: &Run) -> bool {
    let mut tester = LinearizabilityTester::new(OneGraph::default());
    let mut events: Vec<&Value> = run.history[1..run.history.len() - 1].iter().collect();
    events.sort_by_key(|line| line["time_ns"].as_u64());
    let not_served = |id: &Value| {
        run.history.iter().any(|line| {
            line["id"] == *id
                && ["refused", "unreachable"]
                    .contains(&line["verdict"].as_str().unwrap_or_default())
        })
    };
    for line in events {
        let process = line["process"].as_u64().unwrap();
        match line["event"].as_str().unwrap() {
            _ if not_served(&line["id"]) => {}
            "invoke" => drop(tester.on_invoke(process, line["request"].clone()).unwrap()),
            "info" => {}
            _ => {
                let mut end = line.clone();
                for field in ["process", "id", "time_ns"] {
                    end.as_object_mut().unwrap().remove(field);
                }
                tester.on_return(process, without_prose(end)).unwrap();
            }
        }
    }
    let last = run.history.last().unwrap();
    let digest = json!({"digest": last["final_digest"]});
    let end = json!({"event": "ok", "verdict": "answered", "version": last["final_version"], "answer": digest});
    tester.on_invoke(1_000, json!({"call": "readDigest"})).unwrap().on_return(1_000, end).unwrap();
    tester.on_invoke(1_001, json!("log")).unwrap().on_return(1_001, json!(run.log)).unwrap();
    tester.is_consistent()
}

fn by_us(run: &Run) -> Result<bool, String> {
    match judge(&[&lines(&run.history)], Some(&lines(&run.log))) {
        Ok(Verdict::Valid(_)) => Ok(true),
        Ok(Verdict::Found(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Changes something that a service might get wrong.
fn corrupt(run: &mut Run, choices: &mut Choices) {
    let ends: Vec<usize> =
        (0..run.history.len()).filter(|&at| run.history[at]["version"].is_u64()).collect();
    if ends.is_empty() {
        return;
    }
    let mut some = || ends[choices.below(ends.len())];
    let (one, other) = (some(), some());
    match choices.below(7) {
        0 => run.history[one]["version"] = json!(run.history[one]["version"].as_u64().unwrap() + 1),
        1 => {
            run.history[one]["version"] =
                json!(run.history[one]["version"].as_u64().unwrap().saturating_sub(1))
        }
        2 if run.history[one]["verdict"] == run.history[other]["verdict"] => {
            for field in ["version", "answer", "changed", "created", "problem"] {
                let kept = run.history[one][field].clone();
                run.history[one][field] = run.history[other][field].clone();
                run.history[other][field] = kept;
            }
            for at in [one, other] {
                run.history[at].as_object_mut().unwrap().retain(|_, value| !value.is_null());
            }
        }
        3 if run.history[one]["created"].is_boolean() => {
            run.history[one]["created"] = json!(run.history[one]["created"] == json!(false));
        }
        4 => drop(run.log.pop()),
        // Answered sooner, so that what overlapped follows.
        _ => {
            let id = &run.history[one]["id"];
            let invoke = run.history.iter().find(|line| line["id"] == *id).unwrap();
            run.history[one]["time_ns"] = json!(invoke["time_ns"].as_u64().unwrap() + 1);
        }
    }
}

#[test]
fn on_small_histories_the_checker_says_what_a_search_of_all_orders_says() {
    let mutants = [
        None,
        Some(Mutant::ImageBeforeVersion),
        Some(Mutant::VersionBeforeRows),
        Some(Mutant::NoFenceNoComparison),
        Some(Mutant::LostRaceAsRejection),
        Some(Mutant::SwallowedAppend),
        Some(Mutant::CacheGoesBack),
        Some(Mutant::StaleNode),
        Some(Mutant::VerdictsMixedUp),
    ];
    let (mut valid, mut invalid) = (0, 0);
    for seed in 0..600_u64 {
        let mut run = simulate(seed, &SIZE, mutants[seed as usize % mutants.len()]);
        if seed % 2 == 1 {
            corrupt(&mut run, &mut Choices(seed));
        }
        // A history that is not well formed has no verdict.
        let Ok(ours) = by_us(&run) else { continue };
        assert_eq!(
            ours,
            by_search(&run),
            "seed {seed}\n{}\n{}",
            lines(&run.history),
            lines(&run.log)
        );
        if ours { valid += 1 } else { invalid += 1 }
    }
    assert!(valid > 100 && invalid > 100, "{valid} valid, {invalid} invalid");
}
