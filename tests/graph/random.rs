//! Random commands over a universe of few names, so that collisions, swaps and cycles are common.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::model::Model;

/// The names that commands are made of.
pub struct Universe {
    pub jobs: Vec<String>,
    pub datasets: Vec<String>,
}

impl Universe {
    /// Names of every kind, some of them both a job's and a dataset's.
    pub fn small() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            jobs: owned(&["a", "a b", "a/b", "Z", "é", "~\""]),
            datasets: owned(&["a", "ab", "a\u{a0}", "B", "d/%2F", "日本", "z"]),
        }
    }

    pub fn of(jobs: usize) -> Self {
        Self {
            jobs: (0..jobs).map(|i| format!("job {i}")).collect(),
            datasets: (0..jobs + jobs / 4).map(|i| format!("dataset {i}")).collect(),
        }
    }

    fn job(&self, number: u16) -> &String {
        &self.jobs[usize::from(number) % self.jobs.len()]
    }

    fn dataset(&self, number: u16) -> &String {
        &self.datasets[usize::from(number) % self.datasets.len()]
    }
}

/// What chance gives for one operation. Which versions are current is seen only when it is carried
/// out.
#[derive(Debug, Clone)]
pub struct OperationDraw {
    kind: u8,
    job: u16,
    dataset: u16,
    inputs: Vec<u16>,
    outputs: Vec<u16>,
    json: u8,
    precondition: u8,
}

#[derive(Debug, Clone)]
pub struct CommandDraw {
    kind: u8,
    operations: Vec<OperationDraw>,
}

prop_compose! {
    fn operation()(
        kind in 0..100_u8,
        job: u16,
        dataset: u16,
        inputs in prop::collection::vec(any::<u16>(), 0..4),
        outputs in prop::collection::vec(any::<u16>(), 0..4),
        json in 0..8_u8,
        precondition in 0..50_u8,
    ) -> OperationDraw {
        OperationDraw { kind, job, dataset, inputs, outputs, json, precondition }
    }
}

prop_compose! {
    fn command()(
        kind in 0..120_u8,
        operations in prop_oneof![
            5 => prop::collection::vec(operation(), 1..2),
            4 => prop::collection::vec(operation(), 0..6),
            1 => prop::collection::vec(operation(), 6..12),
        ],
    ) -> CommandDraw {
        CommandDraw { kind, operations }
    }
}

/// Names to plan for and names to stop at; the same name may come twice.
#[derive(Debug, Clone)]
pub struct PlanDraw {
    datasets: Vec<u16>,
    jobs: Vec<u16>,
    stop_at: Vec<u16>,
}

prop_compose! {
    pub fn plan_request()(
        datasets in prop::collection::vec(any::<u16>(), 0..4),
        jobs in prop::collection::vec(any::<u16>(), 0..4),
        stop_at in prop::collection::vec(any::<u16>(), 0..5),
    ) -> PlanDraw {
        PlanDraw { datasets, jobs, stop_at }
    }
}

impl PlanDraw {
    /// Datasets, jobs and `stop_at`, all of which are there.
    pub fn on(&self, model: &Model) -> [Vec<String>; 3] {
        let chosen = |names: Vec<String>, numbers: &[u16]| {
            let count = names.len().max(1);
            let name = |&number: &u16| names.get(usize::from(number) % count).cloned();
            numbers.iter().filter_map(name).collect()
        };
        let datasets = || model.datasets().into_iter().collect();
        [
            chosen(datasets(), &self.datasets),
            chosen(model.jobs.keys().cloned().collect(), &self.jobs),
            chosen(datasets(), &self.stop_at),
        ]
    }
}

pub fn commands(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<CommandDraw>> {
    prop::collection::vec(command(), count)
}

impl CommandDraw {
    /// The command as JSON, as [`Model::decide`] takes it.
    pub fn on(&self, universe: &Universe, model: &Model) -> Value {
        let operations: Vec<Value> =
            self.operations.iter().map(|draw| draw.on(universe, model)).collect();
        let mut command = json!({"operations": operations});
        match self.kind {
            0 => command = json!({"delete_graph": true, "if_exists": true}),
            1 => command = json!({"delete_graph": true, "if_version": model.version + 1}),
            8 => command = json!({"delete_graph": true}),
            9 => command["if_version"] = json!([model.version + 1, model.version]),
            10 => command["if_version"] = json!([model.version + 1]),
            11 => command["if_version"] = json!([]),
            2..5 => command["if_version"] = json!(model.version),
            5..8 => command["if_version"] = json!(model.version.wrapping_sub(1) % 1000),
            _ => {}
        }
        command
    }
}

impl OperationDraw {
    fn on(&self, universe: &Universe, model: &Model) -> Value {
        let (job, dataset) = (universe.job(self.job), universe.dataset(self.dataset));
        // Seldom what the job writes itself: the shortest cycle would hide the longer ones.
        let own = self.job_index(universe);
        let foreign =
            |&&number: &&u16| self.json == 0 || universe.dataset(number) != universe.dataset(own);
        let inputs: Vec<&String> =
            self.inputs.iter().filter(foreign).map(|&number| universe.dataset(number)).collect();
        // Mostly a dataset that is the job's own, so that few puts end at a second producer and
        // many at a cycle.
        let output =
            |&number: &u16| universe.dataset(if number % 16 == 0 { number / 16 } else { own });
        let outputs: Vec<&String> = self.outputs.iter().map(output).collect();
        let spec = [
            json!({}),
            json!({"a": 1}),
            json!({"a": {"b": null, "é": [1, "x"]}}),
            json!({"z": "\"\n", "a": 2}),
        ];
        let spec = &spec[usize::from(self.json) % spec.len()];
        let mut operation = match self.kind {
            0..50 => {
                json!({"op": "put_job", "name": job, "inputs": inputs, "outputs": outputs, "spec": spec})
            }
            50..59 => {
                let mut patch = json!({});
                if self.json & 1 == 1 {
                    patch["inputs"] = json!(inputs);
                }
                if self.json & 2 == 2 {
                    patch["outputs"] = json!(outputs);
                }
                let specs = [
                    json!({"a": {"b": 1, "c": null}}),
                    Value::Null,
                    json!({"a": null}),
                    json!({"a": {"é": 7}}),
                ];
                if self.json & 4 == 4 {
                    patch["spec"] = specs[usize::from(self.precondition) % specs.len()].clone();
                }
                json!({"op": "patch_job", "name": job, "patch": patch})
            }
            59..64 => json!({"op": "delete_job", "name": job}),
            64..76 => json!({"op": "add_input", "job": job, "dataset": dataset}),
            76..80 => json!({"op": "add_output", "job": job, "dataset": dataset}),
            80..86 => {
                let (op, dataset) = self.removal(model, job, dataset);
                json!({"op": op, "job": job, "dataset": dataset})
            }
            86..95 => json!({"op": "put_dataset", "name": dataset, "metadata": spec}),
            _ => json!({"op": "delete_dataset", "name": dataset}),
        };
        let of_dataset = operation["op"].as_str().is_some_and(|op| op.ends_with("_dataset"));
        let version = if of_dataset {
            Some(model.version)
        } else {
            model.jobs.get(job).map(|job| job.version)
        };
        match self.precondition {
            0..3 if version.is_some() => operation["if_version"] = json!(version),
            3 => operation["if_version"] = json!(version.unwrap_or(0) + 1),
            4..6 => operation["if_absent"] = json!(true),
            6 => operation["if_exists"] = json!(true),
            _ => {}
        }
        operation
    }

    fn job_index(&self, universe: &Universe) -> u16 {
        self.job % universe.jobs.len() as u16
    }

    /// Mostly an edge that is there.
    fn removal(&self, model: &Model, job: &str, dataset: &str) -> (&'static str, String) {
        let there = model.edges().into_iter().filter(|(name, _, _)| name == job);
        let there: Vec<_> = there.map(|(_, side, dataset)| (side, dataset)).collect();
        let (side, dataset) = match there.len() {
            0 => ("input", dataset.to_owned()),
            _ if self.json == 0 => ("output", dataset.to_owned()),
            count => there[usize::from(self.dataset) % count].clone(),
        };
        (if side == "input" { "remove_input" } else { "remove_output" }, dataset)
    }
}
