//! Requests of every kind, at random from a seed: what they ask for is done, refused by each of the
//! rules, or changes nothing.

use fencepost::graph::{
    Changeset, Command, Graph, JobPatch, Operation, Precondition, Side, SpecPatch, Step, apply,
    decide,
};
use fencepost::service::Write;

use super::ask::{
    add, delete_dataset, delete_job, json, keyed, patch_inputs, patch_job, put_job_with, remove,
};
use super::cluster::name;
use super::storm::Choices;

const JOBS: usize = 6;
const DATASETS: usize = 7;

pub struct Requests {
    pub choices: Choices,
    /// What the graph is about like after the requests so far, for preconditions that hold.
    graph: Graph,
    /// Those with a key.
    keyed: Vec<Write>,
}

impl Requests {
    pub fn new(seed: u64) -> Self {
        Self { choices: Choices(seed), graph: Graph::default(), keyed: Vec::new() }
    }

    /// Some have an idempotency key: a new one, that of an earlier request, or one that belongs to
    /// another request.
    pub fn next(&mut self) -> Write {
        let known_keys = self.keyed.len();
        if known_keys > 0 && self.choices.below(8) == 0 {
            let back = 1 + self.choices.below(known_keys.min(4));
            let former = self.keyed[known_keys - back].clone();
            if self.choices.below(3) > 0 {
                return former;
            }
            let key = former.idempotency.unwrap().key;
            return keyed(Write::from(self.changeset()), &key, "another request");
        }
        let mut write = Write::from(self.changeset());
        write.dry_run = self.choices.below(6) == 0;
        if self.choices.below(4) == 0 {
            write = keyed(write, &format!("key-{known_keys}"), &format!("request-{known_keys}"));
            self.keyed.push(write.clone());
        }
        self.expect(&write);
        write
    }

    /// The graph itself is to be deleted: whatever it holds, at its version, or without the
    /// precondition that this takes.
    pub fn deletion(&mut self) -> Write {
        let precondition = match self.choices.below(3) {
            0 => Some(Precondition::Exists),
            1 => Some(Precondition::Version(self.graph.version())),
            _ => None,
        };
        let write = Write::from(Command::DeleteGraph { precondition });
        self.expect(&write);
        write
    }

    fn expect(&mut self, write: &Write) {
        if !write.dry_run
            && let Ok(decision) = decide(&self.graph, &write.command)
            && !decision.change.is_empty()
        {
            self.graph = apply(&self.graph, &decision.change);
        }
    }

    fn version(&mut self) -> u64 {
        self.graph.version() + u64::from(self.choices.below(4) == 0)
    }

    fn changeset(&mut self) -> Command {
        let precondition = match self.choices.below(20) {
            0 => Some(Precondition::Version(self.version())),
            1 => Some(Precondition::OneOf(vec![self.version(), self.version()])),
            _ => None,
        };
        let steps = (0..=self.choices.below(2)).map(|_| self.step()).collect();
        Command::Changeset(Changeset { precondition, unchanged: None, steps })
    }

    fn step(&mut self) -> Step {
        let operation = self.operation();
        let precondition = match self.choices.below(16) {
            0 => Some(Precondition::Absent),
            1 => Some(Precondition::Exists),
            2 | 3 => Some(Precondition::Version(self.version_of(&operation))),
            _ => None,
        };
        Step { operation, precondition }
    }

    /// Of the job that it is about, or else of the graph; now and then another.
    fn version_of(&mut self, operation: &Operation) -> u64 {
        let job = match operation {
            Operation::PutJob(job) => Some(&job.name),
            Operation::PatchJob { name, .. } | Operation::DeleteJob { name } => Some(name),
            Operation::AddEdge { job, .. } | Operation::RemoveEdge { job, .. } => Some(job),
            Operation::PutDataset { .. } | Operation::DeleteDataset { .. } => None,
        };
        let found = job.and_then(|job| self.graph.job(job.as_str())).map(|job| job.version());
        found.unwrap_or_else(|| self.version())
    }

    /// One that it has an edge to already, or, as often, any.
    fn dataset_of(&mut self, job: &str, side: Side) -> Option<String> {
        let job = self.graph.job(job).filter(|_| self.choices.below(2) == 0)?;
        let datasets = match side {
            Side::Input => job.inputs(),
            Side::Output => job.outputs(),
        };
        datasets.first().map(|dataset| dataset.as_str().to_owned())
    }

    fn operation(&mut self) -> Operation {
        let job = format!("job-{}", self.choices.below(JOBS));
        let dataset = format!("dataset-{}", self.choices.below(DATASETS));
        let side = [Side::Input, Side::Output][self.choices.below(2)];
        let other = format!("dataset-{}", self.choices.below(DATASETS));
        let spec = format!("{{\"n\":{}}}", self.choices.below(2));
        let inputs: &[&str] = if dataset == other { &[&other] } else { &[&dataset, &other] };
        match self.choices.below(14) {
            0..5 => put_job_with(&job, &[&dataset], &[&other], &spec),
            5 => put_job_with(&job, inputs, &[], &spec),
            6 => patch_inputs(&job, inputs),
            7 => patch_job(
                &job,
                JobPatch { outputs: Some(vec![name(&other)]), ..JobPatch::default() },
            ),
            8 => patch_job(
                &job,
                JobPatch { spec: Some(SpecPatch::Merge(json(&spec))), ..JobPatch::default() },
            ),
            9 => delete_job(&job),
            10 => add(side, &job, self.dataset_of(&job, side).as_ref().unwrap_or(&dataset)),
            11 => remove(side, &job, &dataset),
            12 => Operation::PutDataset { name: name(&dataset), metadata: json(&spec) },
            _ => delete_dataset(&dataset),
        }
    }
}
