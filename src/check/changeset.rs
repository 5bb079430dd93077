//! The rules, written a second time: what a changeset does to a graph, or why it is rejected.
//!
//! Preconditions come first, all of them; then existence, operation by operation; then, on the
//! graph that would result, datasets that are deleted but in use, second producers, and cycles.
//! Judges on a naive model; must never know how the service judges.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::cycle::{self, View};
use super::facts::{Fact, JobChange};
use super::json::merge_patch;
use super::model::{Job, State};
use super::recorded_request::{Edge, Operation, Precondition, Side, Step, Text};

/// How many jobs a `dataset_in_use` names.
const JOBS_NAMED: usize = 10;

/// What an accepted changeset does.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Sorted; none if nothing changes.
    pub facts: Vec<Fact>,
    /// Whether something that was asked for by name came to be.
    pub created: bool,
}

/// A problem as it must be told: its name, its status, and what it adds.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The members of the problem, but for those that are prose.
    pub members: Map<String, Value>,
}

impl Rejection {
    /// The problem `name` with what it adds, an object.
    pub fn new(status: u16, name: &str, adds: Value) -> Box<Self> {
        let Value::Object(mut members) = adds else { unreachable!("problems add members") };
        members.insert("type".to_owned(), json!(format!("urn:fencepost:problem:{name}")));
        members.insert("status".to_owned(), json!(status));
        Box::new(Self { members })
    }

    /// Whether `problem` says all of this. What else it says is prose.
    pub fn is_told_by(&self, problem: &Value) -> bool {
        self.members.iter().all(|(member, value)| problem.get(member) == Some(value))
    }
}

/// Judges a changeset on `state`. O(log n) for each name in it, for each edge of a job that it
/// names, and for each edge above or below these jobs, whichever are fewer. A cycle costs that once
/// more for each bisection of the operations.
///
/// # Errors
/// The rejection that comes first.
pub fn decide(state: &State, steps: &[Step]) -> Result<Accepted, Box<Rejection>> {
    for (number, step) in steps.iter().enumerate() {
        check_precondition(state, step, number)?;
    }
    let mut attempt = Attempt::new(state);
    for (number, step) in steps.iter().enumerate() {
        attempt.take(&step.operation, number)?;
    }
    attempt.check_in_use()?;
    attempt.check_producers()?;
    attempt.check_cycles()?;
    let facts = attempt.facts();
    Ok(Accepted { created: !facts.is_empty() && attempt.created(), facts })
}

/// Judges the creation of one job on `state`: it must not be there.
///
/// # Errors
/// The rejection that comes first.
pub fn create(state: &State, steps: &[Step]) -> Result<Accepted, Box<Rejection>> {
    let name = steps[0].operation.target();
    if state.jobs.contains_key(name) {
        return Err(Rejection::new(409, "already_exists", json!({"name": name})));
    }
    decide(state, steps)
}

fn check_precondition(state: &State, step: &Step, number: usize) -> Result<(), Box<Rejection>> {
    let Some(precondition) = step.precondition else { return Ok(()) };
    let target = step.operation.target();
    let actual = match &step.operation {
        Operation::PutDataset { .. } | Operation::DeleteDataset { .. } => {
            state.datasets.contains_key(target).then_some(state.version)
        }
        _ => state.jobs.get(target).map(|job| job.version),
    };
    let holds = match (precondition, &step.operation) {
        (Precondition::Version(expected), _) => actual == Some(expected),
        (Precondition::Absent, Operation::AddEdge(edge) | Operation::RemoveEdge(edge)) => {
            !state.has_edge(edge)
        }
        (Precondition::Absent, _) => actual.is_none(),
    };
    if holds {
        return Ok(());
    }
    let expected = match precondition {
        Precondition::Version(version) => json!(version),
        Precondition::Absent => Value::Null,
    };
    let adds = json!({"expected": expected, "actual": actual, "operation": number});
    Err(Rejection::new(412, "precondition_failed", adds))
}

/// A changeset on its way: what it has made of the jobs and datasets that it names.
struct Attempt<'s> {
    state: &'s State,
    /// `None`: gone.
    jobs: BTreeMap<Text, Option<Job>>,
    /// `None`: not declared.
    metadata: BTreeMap<Text, Option<Text>>,
    /// How many edges more than before.
    mentions: BTreeMap<Text, isize>,
    /// Edges that belong to an operation of this changeset: the last that added them.
    added_by: BTreeMap<Edge, usize>,
    /// Edges that were asked for one by one.
    asked: BTreeSet<Edge>,
    /// The first operation that deleted a dataset since it was last put.
    deleted_by: BTreeMap<Text, usize>,
}

impl<'s> Attempt<'s> {
    fn new(state: &'s State) -> Self {
        Self {
            state,
            jobs: BTreeMap::new(),
            metadata: BTreeMap::new(),
            mentions: BTreeMap::new(),
            added_by: BTreeMap::new(),
            asked: BTreeSet::new(),
            deleted_by: BTreeMap::new(),
        }
    }

    fn take(&mut self, operation: &Operation, number: usize) -> Result<(), Box<Rejection>> {
        match operation {
            Operation::PutJob { name, inputs, outputs, spec } => {
                let job = self.job(name).get_or_insert_with(|| Job::new(spec.clone()));
                job.spec = spec.clone();
                self.set_edges(name, Side::Input, inputs, number);
                self.set_edges(name, Side::Output, outputs, number);
            }
            Operation::PatchJob { name, inputs, outputs, spec } => {
                let job = self.existing_job(name, number)?;
                match spec {
                    None => {}
                    Some(None) => job.spec = "{}".into(),
                    Some(Some(patch)) => job.spec = merge_patch(&job.spec, patch).into(),
                }
                for (side, names) in [(Side::Input, inputs), (Side::Output, outputs)] {
                    if let Some(names) = names {
                        self.set_edges(name, side, names, number);
                    }
                }
            }
            Operation::DeleteJob { name } => {
                self.existing_job(name, number)?;
                self.set_edges(name, Side::Input, &[], number);
                self.set_edges(name, Side::Output, &[], number);
                *self.job(name) = None;
            }
            Operation::AddEdge(edge) => {
                self.existing_ends(edge, number)?;
                if !self.add(edge, number) {
                    let adds =
                        json!({"name": edge.dataset, "jobs": [edge.job], "operation": number});
                    return Err(Rejection::new(409, "already_exists", adds));
                }
                self.asked.insert(edge.clone());
            }
            Operation::RemoveEdge(edge) => {
                self.existing_ends(edge, number)?;
                if !self.remove(edge) {
                    let adds = json!({"name": edge.dataset, "job": edge.job, "operation": number});
                    return Err(Rejection::new(404, "edge_not_found", adds));
                }
            }
            Operation::PutDataset { name, metadata } => {
                self.metadata.insert(name.clone(), Some(metadata.clone()));
                self.deleted_by.remove(name);
            }
            Operation::DeleteDataset { name } => {
                self.existing_dataset(name, number)?;
                self.metadata.insert(name.clone(), None);
                self.deleted_by.entry(name.clone()).or_insert(number);
            }
        }
        Ok(())
    }

    /// The job as it is by now.
    fn job(&mut self, name: &Text) -> &mut Option<Job> {
        self.jobs.entry(name.clone()).or_insert_with(|| self.state.jobs.get(name).cloned())
    }

    fn existing_job(&mut self, name: &Text, number: usize) -> Result<&mut Job, Box<Rejection>> {
        let absent =
            || Rejection::new(404, "job_not_found", json!({"name": name, "operation": number}));
        self.job(name).as_mut().ok_or_else(absent)
    }

    fn existing_dataset(&self, name: &Text, number: usize) -> Result<(), Box<Rejection>> {
        if self.metadata_of(name).is_some() || self.mentions_of(name) > 0 {
            return Ok(());
        }
        Err(Rejection::new(404, "dataset_not_found", json!({"name": name, "operation": number})))
    }

    fn existing_ends(&mut self, edge: &Edge, number: usize) -> Result<(), Box<Rejection>> {
        self.existing_job(&edge.job, number)?;
        self.existing_dataset(&edge.dataset, number)
    }

    fn metadata_of(&self, name: &Text) -> Option<&Text> {
        match self.metadata.get(name) {
            Some(metadata) => metadata.as_ref(),
            None => self.state.datasets.get(name).and_then(|dataset| dataset.metadata.as_ref()),
        }
    }

    fn mentions_of(&self, name: &Text) -> isize {
        let before = self.state.datasets.get(name).map_or(0, |dataset| dataset.mentions() as isize);
        before + self.mentions.get(name).copied().unwrap_or(0)
    }

    /// Makes `names` all that the job has on that side.
    fn set_edges(&mut self, job: &Text, side: Side, names: &[Text], number: usize) {
        let wanted: BTreeSet<Text> = names.iter().cloned().collect();
        let present =
            self.job(job).as_ref().map_or_else(BTreeSet::new, |job| job.side(side).clone());
        let edge = |dataset: &Text| Edge { job: job.clone(), side, dataset: dataset.clone() };
        for gone in present.difference(&wanted) {
            self.remove(&edge(gone));
        }
        for new in wanted.difference(&present) {
            self.add(&edge(new), number);
        }
    }

    /// `false` if it is there already.
    fn add(&mut self, edge: &Edge, number: usize) -> bool {
        let Some(job) = self.job(&edge.job) else { return false };
        if !job.side_mut(edge.side).insert(edge.dataset.clone()) {
            return false;
        }
        self.added_by.insert(edge.clone(), number);
        *self.mentions.entry(edge.dataset.clone()).or_default() += 1;
        true
    }

    /// `false` if it is not there.
    fn remove(&mut self, edge: &Edge) -> bool {
        let Some(job) = self.job(&edge.job) else { return false };
        if !job.side_mut(edge.side).remove(&edge.dataset) {
            return false;
        }
        self.added_by.remove(edge);
        *self.mentions.entry(edge.dataset.clone()).or_default() -= 1;
        true
    }

    fn has(&self, edge: &Edge) -> bool {
        match self.jobs.get(&edge.job) {
            Some(job) => {
                job.as_ref().is_some_and(|job| job.side(edge.side).contains(&edge.dataset))
            }
            None => self.state.has_edge(edge),
        }
    }

    /// A deleted dataset is not mentioned in the end. Of several that are, the one of the smallest
    /// operation, then the byte-smallest.
    fn check_in_use(&self) -> Result<(), Box<Rejection>> {
        let in_use = |(name, _): &(&Text, &usize)| {
            self.metadata_of(name).is_none() && self.mentions_of(name) > 0
        };
        let Some((name, number)) =
            self.deleted_by.iter().filter(in_use).min_by_key(|&(name, number)| (number, name))
        else {
            return Ok(());
        };
        let view = View::new(self.state, &self.jobs);
        let users: BTreeSet<&Text> = view.producers(name).chain(view.consumers(name)).collect();
        let users: Vec<&Text> = users.into_iter().take(JOBS_NAMED).collect();
        Err(Rejection::new(
            409,
            "dataset_in_use",
            json!({"name": name, "jobs": users, "operation": number}),
        ))
    }

    /// Every dataset has one producer at most. Of several that have more, the one of the smallest
    /// operation, then the byte-smallest. Its producer is the job that writes it before and after,
    /// else the first that added it.
    fn check_producers(&self) -> Result<(), Box<Rejection>> {
        let mut adders: BTreeMap<&Text, Vec<(usize, &Text)>> = BTreeMap::new();
        for (edge, &number) in &self.added_by {
            // One that was taken away and put back is the dataset's producer as before.
            if edge.side == Side::Output && !self.state.has_edge(edge) {
                adders.entry(&edge.dataset).or_default().push((number, &edge.job));
            }
        }
        let mut first = None;
        for (dataset, mut adders) in adders {
            adders.sort_unstable();
            let before =
                self.state.datasets.get(dataset).into_iter().flat_map(|dataset| &dataset.producers);
            let still = |job: &&Text| {
                self.has(&Edge {
                    job: (*job).clone(),
                    side: Side::Output,
                    dataset: dataset.clone(),
                })
            };
            let mut producers =
                before.filter(still).map(|job| (0, job)).chain(adders.iter().copied());
            if let Some(((_, producer), (number, job))) = producers.next().zip(producers.next()) {
                let violation = (number, dataset, producer, job);
                first = Some(first.map_or(violation, |first| violation.min(first)));
            }
        }
        let Some((number, dataset, producer, job)) = first else { return Ok(()) };
        let adds =
            json!({"dataset": dataset, "producer": producer, "job": job, "operation": number});
        Err(Rejection::new(409, "second_producer", adds))
    }

    fn check_cycles(&self) -> Result<(), Box<Rejection>> {
        let view = View::new(self.state, &self.jobs);
        match cycle::first(view, &self.added_by) {
            None => Ok(()),
            Some((cycle, operation)) => {
                let adds = json!({"cycle": cycle, "operation": operation});
                Err(Rejection::new(409, "cycle", adds))
            }
        }
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (name, after) in &self.jobs {
            match (self.state.jobs.get(name), after) {
                (None, None) => {}
                (Some(_), None) => facts.push(Fact::JobDeleted(name.clone())),
                (None, Some(job)) => facts.push(Fact::JobCreated {
                    name: name.clone(),
                    inputs: job.inputs.iter().cloned().collect(),
                    outputs: job.outputs.iter().cloned().collect(),
                    spec: job.spec.clone(),
                }),
                (Some(old), Some(new))
                    if (&old.spec, &old.inputs, &old.outputs)
                        == (&new.spec, &new.inputs, &new.outputs) => {}
                (Some(old), Some(new)) => {
                    let minus =
                        |a: &BTreeSet<Text>, b: &BTreeSet<Text>| a.difference(b).cloned().collect();
                    facts.push(Fact::JobChanged(JobChange {
                        name: name.clone(),
                        inputs_added: minus(&new.inputs, &old.inputs),
                        inputs_removed: minus(&old.inputs, &new.inputs),
                        outputs_added: minus(&new.outputs, &old.outputs),
                        outputs_removed: minus(&old.outputs, &new.outputs),
                        spec: (old.spec != new.spec).then(|| new.spec.clone()),
                    }));
                }
            }
        }
        for (name, after) in &self.metadata {
            let (before, name) = (
                self.state.datasets.get(name).and_then(|dataset| dataset.metadata.as_ref()),
                name.clone(),
            );
            match (before, after) {
                (Some(_), None) => facts.push(Fact::DatasetUndeclared(name)),
                (None, Some(new)) => {
                    facts.push(Fact::DatasetDeclared { name, metadata: new.clone() })
                }
                (Some(old), Some(new)) if old != new => {
                    facts.push(Fact::DatasetChanged { name, metadata: new.clone() });
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        facts.sort_unstable();
        facts
    }

    fn created(&self) -> bool {
        self.jobs.iter().any(|(name, job)| job.is_some() && !self.state.jobs.contains_key(name))
            || self
                .metadata
                .iter()
                .any(|(name, new)| new.is_some() && !self.state.datasets.contains_key(name))
            || self.asked.iter().any(|edge| self.has(edge) && !self.state.has_edge(edge))
    }
}
