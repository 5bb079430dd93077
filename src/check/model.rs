//! The naive graph that answers are held against: a map of jobs, a map of datasets, and each
//! mentions the other by name.
//!
//! Shares nothing with the service's own graph. Holds no rules: `changeset` judges, this does as
//! facts say.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::facts::{Fact, JobChange, hex};
use super::maps::Map;
use super::recorded_request::{Edge, Side, Text};

/// A graph at a version.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// How many changes there were.
    pub version: u64,
    /// By name.
    pub jobs: Map<Text, Job>,
    /// By name; declared, or mentioned by a job.
    pub datasets: Map<Text, Dataset>,
    /// How many.
    pub edges: usize,
    /// Whether the last change deleted the graph.
    pub is_deleted: bool,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The version that last changed it.
    pub version: u64,
    /// Canonical JSON.
    pub spec: Text,
    /// What it reads.
    pub inputs: BTreeSet<Text>,
    /// What it writes.
    pub outputs: BTreeSet<Text>,
}

/// A dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    /// Canonical JSON, if it is declared.
    pub metadata: Option<Text>,
    /// Who writes it; one at most in a graph that keeps the rules.
    pub producers: BTreeSet<Text>,
    /// Who reads it.
    pub consumers: BTreeSet<Text>,
}

impl Job {
    /// Without edges.
    pub fn new(spec: Text) -> Self {
        Self { version: 0, spec, inputs: BTreeSet::new(), outputs: BTreeSet::new() }
    }

    /// What it reads or writes.
    pub fn side(&self, side: Side) -> &BTreeSet<Text> {
        match side {
            Side::Input => &self.inputs,
            Side::Output => &self.outputs,
        }
    }

    /// What it reads or writes.
    pub fn side_mut(&mut self, side: Side) -> &mut BTreeSet<Text> {
        match side {
            Side::Input => &mut self.inputs,
            Side::Output => &mut self.outputs,
        }
    }
}

impl Dataset {
    /// By how many edges.
    pub fn mentions(&self) -> usize {
        self.producers.len() + self.consumers.len()
    }
}

impl State {
    /// Does what the facts say, and goes one version on. O(log n) for each edge.
    ///
    /// # Errors
    /// Says which fact cannot be: the state is then of no use any more.
    pub fn apply(&mut self, facts: &[Fact]) -> Result<(), String> {
        self.version += 1;
        self.is_deleted = false;
        for fact in facts {
            let there = match fact {
                Fact::GraphDeleted => {
                    *self = Self { version: self.version, is_deleted: true, ..Self::default() };
                    true
                }
                Fact::JobDeleted(name) => self.delete_job(name),
                Fact::JobChanged(change) => self.change_job(change),
                Fact::JobCreated { name, inputs, outputs, spec } => {
                    let job = Job { version: self.version, ..Job::new(spec.clone()) };
                    let edges = [(Side::Input, inputs), (Side::Output, outputs)];
                    self.jobs.insert(name.clone(), job).is_none()
                        && edges.into_iter().all(|(side, names)| {
                            names.iter().all(|dataset| self.link(name, side, dataset))
                        })
                }
                Fact::DatasetUndeclared(name) => {
                    let was = self
                        .datasets
                        .get_mut(name)
                        .and_then(|dataset| dataset.metadata.take())
                        .is_some();
                    self.drop_unless_mentioned(name);
                    was
                }
                Fact::DatasetChanged { name, metadata } => {
                    let old = self
                        .datasets
                        .get_mut(name)
                        .and_then(|dataset| dataset.metadata.replace(metadata.clone()));
                    old.is_some_and(|old| old != *metadata)
                }
                Fact::DatasetDeclared { name, metadata } => {
                    let dataset = self.datasets.entry(name.clone()).or_default();
                    dataset.metadata.replace(metadata.clone()).is_none()
                }
            };
            if !there {
                return Err(format!("{fact:?} cannot follow what was there"));
            }
        }
        Ok(())
    }

    fn delete_job(&mut self, name: &Text) -> bool {
        let Some(job) = self.jobs.get(name).cloned() else { return false };
        for side in [Side::Input, Side::Output] {
            for dataset in job.side(side) {
                self.unlink(name, side, dataset);
            }
        }
        self.jobs.remove(name).is_some()
    }

    fn change_job(&mut self, change: &JobChange) -> bool {
        let JobChange { name, inputs_added, inputs_removed, outputs_added, outputs_removed, spec } =
            change;
        let Some(job) = self.jobs.get_mut(name) else { return false };
        job.version = self.version;
        if let Some(spec) = spec {
            job.spec = spec.clone();
        }
        let (removed, added) = ([inputs_removed, outputs_removed], [inputs_added, outputs_added]);
        let sides = [Side::Input, Side::Output];
        sides
            .into_iter()
            .zip(removed)
            .all(|(side, names)| names.iter().all(|dataset| self.unlink(name, side, dataset)))
            && sides
                .into_iter()
                .zip(added)
                .all(|(side, names)| names.iter().all(|dataset| self.link(name, side, dataset)))
    }

    fn link(&mut self, job: &Text, side: Side, dataset: &Text) -> bool {
        self.edges += 1;
        let of_dataset = self.datasets.entry(dataset.clone()).or_default();
        let list =
            if side == Side::Input { &mut of_dataset.consumers } else { &mut of_dataset.producers };
        list.insert(job.clone())
            && self
                .jobs
                .get_mut(job)
                .is_some_and(|of_job| of_job.side_mut(side).insert(dataset.clone()))
    }

    fn unlink(&mut self, job: &Text, side: Side, dataset: &Text) -> bool {
        let Some(of_dataset) = self.datasets.get_mut(dataset) else { return false };
        let list =
            if side == Side::Input { &mut of_dataset.consumers } else { &mut of_dataset.producers };
        let there = list.remove(job);
        self.edges -= usize::from(there);
        self.drop_unless_mentioned(dataset);
        there && self.jobs.get_mut(job).is_some_and(|of_job| of_job.side_mut(side).remove(dataset))
    }

    /// An implied dataset goes with its last mention.
    fn drop_unless_mentioned(&mut self, name: &Text) {
        if self
            .datasets
            .get(name)
            .is_some_and(|dataset| dataset.metadata.is_none() && dataset.mentions() == 0)
        {
            self.datasets.remove(name);
        }
    }

    /// Whether the edge is there.
    pub fn has_edge(&self, edge: &Edge) -> bool {
        self.jobs.get(&edge.job).is_some_and(|job| job.side(edge.side).contains(&edge.dataset))
    }

    /// The digest of the graph: SHA-256 of its lines, sorted as bytes. O(n log n).
    ///
    /// Names hold no control characters, so that lines of one kind are in the order of the names
    /// in them.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut datasets: Vec<_> = self.datasets.iter().collect();
        datasets.sort_unstable_by_key(|(name, _)| *name);
        for (name, dataset) in datasets {
            if let Some(metadata) = &dataset.metadata {
                hash.update(format!("dataset\t{name}\t{}\n", sha256(metadata.as_bytes())));
            }
        }
        let mut jobs: Vec<_> = self.jobs.iter().collect();
        jobs.sort_unstable_by_key(|(name, _)| *name);
        // Nearly all specs are empty.
        let empty = sha256(b"{}");
        let digest_of = |spec: &Text| match &**spec {
            "{}" => empty.clone(),
            spec => sha256(spec.as_bytes()),
        };
        let edges = |hash: &mut Sha256, kind: &str, side: Side| {
            for (name, job) in &jobs {
                for dataset in job.side(side) {
                    [kind, "\t", name, "\t", dataset, "\n"].iter().for_each(|s| hash.update(s));
                }
            }
        };
        edges(&mut hash, "in", Side::Input);
        for (name, job) in &jobs {
            hash.update(format!("job\t{name}\t{}\n", digest_of(&job.spec)));
        }
        edges(&mut hash, "out", Side::Output);
        hex(&hash.finalize())
    }
}

/// Lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
