//! A small checker: replays the accepted writes of a history of a graph that was new, and compares every verdict and every answer with
//! the state at its version.

use std::collections::{BTreeMap, HashMap, HashSet};

use fencepost::design::Refusal;
use fencepost::graph::{ChangesetWire, Command, Graph, Name, PlanRequest, Rejection, decide};
use fencepost::http::Problem;
use serde_json::{Value, json};

use super::place::graph;

/// An invocation and its completion.
pub struct Call<'h> {
    pub invoke: &'h Value,
    pub end: &'h Value,
}

/// Pairs every invocation with its one completion, and checks what holds of every history.
pub fn calls(history: &[Value]) -> Vec<Call<'_>> {
    let (start, end) = (history.first().expect("a first line"), history.last().expect("a last line"));
    assert_eq!((start["event"].as_str(), end["event"].as_str()), (Some("start"), Some("end")));
    assert_eq!(start["format"], fencepost::bench::FORMAT_VERSION);
    let mut open: HashMap<u64, &Value> = HashMap::new();
    let mut busy = HashSet::new();
    let mut gone = HashSet::new();
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let mut calls = Vec::new();
    for line in &history[1..history.len() - 1] {
        let event = line["event"].as_str().expect("an event");
        let (id, process) = (number(line, "id"), number(line, "process"));
        *counts.entry(event).or_default() += 1;
        if event == "invoke" {
            assert!(!gone.contains(&process), "process {process} goes on after an unknown outcome");
            assert!(busy.insert(process), "process {process} has two requests under way");
            assert!(open.insert(id, line).is_none(), "id {id} comes twice");
            continue;
        }
        assert!(["ok", "fail", "info"].contains(&event), "{event} is no event");
        let invoke = open.remove(&id).expect("a completion belongs to an invocation");
        assert_eq!(number(invoke, "process"), process);
        assert!(number(invoke, "time_ns") <= number(line, "time_ns"));
        busy.remove(&process);
        if event == "info" {
            gone.insert(process);
        }
        calls.push(Call { invoke, end: line });
    }
    assert!(open.is_empty(), "{} requests have no completion", open.len());
    for event in ["invoke", "ok", "fail", "info"] {
        assert_eq!(number(end, event), counts.get(event).copied().unwrap_or_default(), "count of {event}");
    }
    calls
}

pub fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap_or_else(|| panic!("{field} in {line}"))
}

/// Checks a history that begins with a new graph and in which no outcome is unknown.
pub fn check(history: &[Value]) {
    let calls = calls(history);
    assert_eq!(number(&history[0], "initial_version"), 0);
    let mut writes = BTreeMap::new();
    for call in calls.iter().filter(|call| call.end["changed"] == true) {
        assert!(writes.insert(number(call.end, "version"), call).is_none(), "a version comes twice");
    }
    let mut states = vec![Graph::default()];
    for (version, call) in writes {
        let state = states.last().expect("there is one");
        let decision = decide(state, &command(call)).unwrap_or_else(|rejection| panic!("{version}: {rejection}"));
        assert_eq!((decision.next.version(), decision.change.is_empty()), (version, false), "versions are dense");
        assert_eq!(call.end["created"], decision.created);
        states.push(decision.next);
    }
    let last = history.last().expect("a last line");
    assert_eq!(number(last, "final_version"), states.len() as u64 - 1);
    assert_eq!(last["final_digest"], states.last().expect("there is one").digest());
    for call in &calls {
        let version = number(call.end, "version");
        let state = &states[version as usize];
        match call.end["verdict"].as_str().expect("a verdict") {
            "accepted" if call.end["changed"] == false => {
                assert!(decide(state, &command(call)).expect("legal").change.is_empty());
            }
            "accepted" => {}
            "answered" => assert_eq!(call.end["answer"], answer(state, &call.invoke["request"])),
            "not_modified" => {
                let job = state.job(text(&call.invoke["request"]["job"])).expect("the job is there");
                assert_eq!(call.invoke["request"]["if_none_match"], job.version());
            }
            "rejected" => assert_eq!(call.end["problem"], problem(state, call)),
            other => panic!("{other} in a run without faults"),
        }
    }
}

fn command(call: &Call<'_>) -> Command {
    let operations = json!({"operations": call.invoke["request"]["operations"]}).to_string();
    let wire: ChangesetWire = serde_json::from_str(&operations).expect("operations as a client sends them");
    Command::Changeset(wire.into_changeset().expect("operations that are well formed"))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn plan_request(request: &Value) -> PlanRequest {
    let names = |field: &str| {
        request[field].as_array().expect("a list").iter().map(|name| Name::new(text(name)).expect("a name")).collect()
    };
    PlanRequest { datasets: names("datasets"), jobs: names("jobs"), stop_at: names("stop_at") }
}

fn answer(state: &Graph, request: &Value) -> Value {
    match text(&request["call"]) {
        "readJob" => {
            let job = state.job(text(&request["job"])).expect("the job is there");
            let (inputs, outputs) = (job.inputs(), job.outputs());
            json!({"name": job.name(), "inputs": inputs, "outputs": outputs, "spec": job.spec(), "version": job.version()})
        }
        "readDataset" => {
            let dataset = state.dataset(text(&request["dataset"])).expect("the dataset is there");
            json!({
                "name": dataset.name(),
                "declared": dataset.metadata().is_some(),
                "producer": dataset.producer().map(|job| job.name()),
                "consumers": dataset.consumers(),
                "metadata": dataset.metadata().cloned().unwrap_or_default(),
            })
        }
        "planMany" => {
            let plan = state.plan(&plan_request(request), usize::MAX).expect("the targets are there");
            json!({"digest": plan.digest, "jobs": plan.stages.iter().map(Vec::len).sum::<usize>()})
        }
        "readDigest" => json!({"digest": state.digest()}),
        other => panic!("{other} is not asked here"),
    }
}

fn problem(state: &Graph, call: &Call<'_>) -> Value {
    let (graph, request, version) = (graph(), &call.invoke["request"], state.version());
    let problem = match text(&request["call"]) {
        "readJob" | "readDataset" => {
            let found = text(&call.end["problem"]["name"]);
            assert!(
                request["job"] == found && state.job(found).is_none()
                    || request["dataset"] == found && state.dataset(found).is_none()
            );
            return call.end["problem"].clone();
        }
        "planMany" => {
            let error = state.plan(&plan_request(request), usize::MAX).expect_err("no plan");
            Problem::unanswered(&graph, version, error)
        }
        _ => {
            let rejection: Rejection = decide(state, &command(call)).err().expect("illegal");
            Problem::refused(&graph, Refusal::Rejected { rejection, version })
        }
    };
    serde_json::from_slice(&problem.body()).expect("a problem is JSON")
}
