//! Builds a graph from the events of an import: first the declared datasets, then the jobs, each
//! after the producers of what it reads.
//!
//! That order makes checking cheap. A cycle would need a job that comes before a producer of what
//! it reads, so one look at each name proves that every prefix of an import is a legal graph.

use std::collections::{HashMap, HashSet};

use super::build::{DamagedRows, GraphBuilder};
use super::change::Fact;
use super::graph::Graph;
use super::illegal::{FactViolation, IllegalChange, IllegalFact};
use super::json::CanonicalJson;
use super::name::Name;

/// The part of an import that was read so far.
#[derive(Default)]
pub struct ImportBuilder {
    builder: GraphBuilder,
    jobs: HashSet<Name>,
    datasets: HashMap<Name, KnownDataset>,
}

/// What the import has said of a dataset so far.
#[derive(Clone, Copy)]
struct KnownDataset {
    id: i64,
    read: bool,
    produced: bool,
}

impl ImportBuilder {
    /// Adds a declared dataset, which must come before all jobs, or a job and its `job_version`.
    /// O(1) for each name.
    ///
    /// # Errors
    /// [`IllegalChange`] if it contradicts what came before.
    pub fn add(&mut self, fact: &Fact, job_version: Option<u64>) -> Result<(), IllegalChange> {
        match (fact, job_version) {
            (Fact::DatasetDeclared { metadata, name }, None) => self.declare(name, metadata),
            (Fact::JobCreated { inputs, name, outputs, spec }, Some(version)) => {
                self.job(name, inputs, outputs, spec, version)
            }
            _ => Err(IllegalChange::NoPart),
        }
    }

    fn declare(&mut self, name: &Name, metadata: &CanonicalJson) -> Result<(), IllegalChange> {
        if !self.jobs.is_empty() {
            return Err(IllegalChange::NoPart);
        }
        if self.datasets.contains_key(name) {
            return Err(illegal(name, FactViolation::Declared));
        }
        let known = self.dataset(name, Some(metadata))?;
        self.datasets.insert(name.clone(), known);
        Ok(())
    }

    /// Adds a dataset that is new to the import. The caller puts it into `self.datasets`.
    fn dataset(
        &mut self,
        name: &Name,
        metadata: Option<&CanonicalJson>,
    ) -> Result<KnownDataset, IllegalChange> {
        let known = KnownDataset { id: self.datasets.len() as i64, read: false, produced: false };
        self.builder.named_dataset(known.id, name.clone(), metadata.cloned()).map_err(damaged)?;
        Ok(known)
    }

    fn job(
        &mut self,
        name: &Name,
        inputs: &[Name],
        outputs: &[Name],
        spec: &CanonicalJson,
        version: u64,
    ) -> Result<(), IllegalChange> {
        let id = self.jobs.len() as i64;
        if !self.jobs.insert(name.clone()) {
            return Err(illegal(name, FactViolation::JobExists));
        }
        self.builder.named_job(id, name.clone(), spec.clone(), version).map_err(damaged)?;
        for list in [inputs, outputs] {
            if let Some(twice) = list.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(illegal(&twice[1], FactViolation::EdgeExists));
            }
        }
        for name in inputs {
            let before = self.mark(name, |known| known.read = true)?;
            self.builder.input(id, before.id).map_err(damaged)?;
        }
        for dataset in outputs {
            let before = self.mark(dataset, |known| known.produced = true)?;
            if before.produced {
                return Err(illegal(dataset, FactViolation::SecondProducer));
            }
            if before.read {
                return Err(IllegalChange::OutOfOrder {
                    job: name.clone(),
                    dataset: dataset.clone(),
                });
            }
            self.builder.output(id, before.id).map_err(damaged)?;
        }
        Ok(())
    }

    /// Applies `mark` to the dataset, which is added if it is new. Returns what was known before.
    fn mark(
        &mut self,
        name: &Name,
        mark: impl Fn(&mut KnownDataset),
    ) -> Result<KnownDataset, IllegalChange> {
        if let Some(known) = self.datasets.get_mut(name) {
            let before = *known;
            mark(known);
            return Ok(before);
        }
        let mut new = self.dataset(name, None)?;
        let before = new;
        mark(&mut new);
        self.datasets.insert(name.clone(), new);
        Ok(before)
    }

    /// The graph at `version`. O(n log n).
    ///
    /// # Errors
    /// [`IllegalChange`] if there are more jobs or datasets than a graph has ids for.
    pub fn finish(self, version: u64) -> Result<Graph, IllegalChange> {
        drop((self.jobs, self.datasets));
        self.builder.finish(version).map_err(damaged)
    }
}

/// The rows were checked above, so the one error that is left is an id beyond the limit.
fn damaged(reason: DamagedRows) -> IllegalChange {
    IllegalChange::Damaged(reason.to_string())
}

fn illegal(name: &Name, violation: FactViolation) -> IllegalChange {
    IllegalChange::Fact(IllegalFact { name: name.clone(), violation })
}
