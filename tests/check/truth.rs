//! What the service's own graph answers, in the words of a history.

use fencepost::graph::{Command, Decision, Graph, Name, PlanRequest, Rejection, decide};
use fencepost::http::Problem;
use fencepost::service::Refusal;
use fencepost::wire::ChangesetWire;
use serde_json::{Value, json};

pub fn graph_name() -> Name {
    Name::new("g").unwrap()
}

pub fn writes(request: &Value) -> bool {
    request["operations"].is_array()
}

/// Judges a write.
pub fn judge(graph: &Graph, request: &Value) -> Result<Decision, Rejection> {
    let operations = json!({"operations": request["operations"]}).to_string();
    let wire: ChangesetWire = serde_json::from_str(&operations).unwrap();
    decide(graph, &Command::Changeset(wire.into_changeset().unwrap()))
}

/// The end of a write that was rejected at `version`.
pub fn rejected(rejection: Rejection, version: u64) -> Value {
    problem(Problem::refused(&graph_name(), Refusal::Rejected { rejection, version }), version)
}

fn problem(problem: Problem, version: u64) -> Value {
    let problem: Value = serde_json::from_slice(&problem.body()).unwrap();
    json!({"event": "fail", "verdict": "rejected", "version": version, "problem": problem})
}

/// The end of a read of `graph`, which is said to be of `version`.
pub fn read(graph: &Graph, version: u64, request: &Value) -> Value {
    let text = |field: &str| request[field].as_str().unwrap();
    let absent = |kind, name: &str| {
        let found = Problem::new(kind, "there is none").with("name", json!(name));
        problem(found.decided_at(&graph_name(), version), version)
    };
    let answer = match text("call") {
        "readJob" => {
            let Some(job) = graph.job(text("job")) else {
                return absent(fencepost::http::Kind::JobNotFound, text("job"));
            };
            if request["if_none_match"] == json!(job.version()) {
                return json!({"event": "ok", "verdict": "not_modified", "version": version});
            }
            let (inputs, outputs) = (job.inputs(), job.outputs());
            json!({"name": job.name(), "inputs": inputs, "outputs": outputs, "spec": job.spec(), "version": job.version()})
        }
        "readDataset" => {
            let Some(dataset) = graph.dataset(text("dataset")) else {
                return absent(fencepost::http::Kind::DatasetNotFound, text("dataset"));
            };
            json!({
                "name": dataset.name(),
                "declared": dataset.metadata().is_some(),
                "producer": dataset.producer().map(|job| job.name()),
                "consumers": dataset.consumers(),
                "metadata": dataset.metadata().cloned().unwrap_or_default(),
            })
        }
        "planMany" => {
            let names = |field: &str| {
                let names = request[field].as_array().unwrap().iter();
                names.map(|name| Name::new(name.as_str().unwrap()).unwrap()).collect()
            };
            let request = PlanRequest {
                datasets: names("datasets"),
                jobs: names("jobs"),
                stop_at: names("stop_at"),
            };
            match graph.plan(&request, usize::MAX) {
                Ok(plan) => {
                    json!({"digest": plan.digest, "jobs": plan.stages.iter().map(Vec::len).sum::<usize>()})
                }
                Err(error) => {
                    return problem(Problem::unanswered(&graph_name(), version, error), version);
                }
            }
        }
        "readDigest" => json!({"digest": graph.digest()}),
        "readGraph" => {
            json!({"jobs": graph.job_count(), "datasets": graph.dataset_count(), "edges": graph.edge_count()})
        }
        other => panic!("{other} is not asked here"),
    };
    json!({"event": "ok", "verdict": "answered", "version": version, "answer": answer})
}
