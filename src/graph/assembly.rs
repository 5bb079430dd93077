//! A graph put together job by job, as an import tells it: each job after those that produce what
//! it reads. Every prefix is then a legal graph, and that it is costs one look at each name: a
//! cycle would need a job that comes before what it reads.

use std::collections::{HashMap, HashSet};

use super::build::{DamagedRows, GraphBuilder};
use super::change::Fact;
use super::graph::Graph;
use super::json::CanonicalJson;
use super::name::Name;
use super::replay::{Breach, Illegal, Wrong};

/// What was told so far.
#[derive(Default)]
pub struct Assembly {
    builder: GraphBuilder,
    jobs: HashSet<Name>,
    datasets: HashMap<Name, Told>,
}

/// What is known of a dataset.
#[derive(Clone, Copy)]
struct Told {
    id: i64,
    read: bool,
    produced: bool,
}

impl Assembly {
    /// Adds a declared dataset, before all jobs, or a job, which is of `job_version`. O(1) for each
    /// name.
    ///
    /// # Errors
    /// [`Illegal`] if it does not fit what was told before.
    pub fn add(&mut self, fact: &Fact, job_version: Option<u64>) -> Result<(), Illegal> {
        match (fact, job_version) {
            (Fact::DatasetDeclared { metadata, name }, None) => self.declare(name, metadata),
            (Fact::JobCreated { inputs, name, outputs, spec }, Some(version)) => {
                self.job(name, inputs, outputs, spec, version)
            }
            _ => Err(Illegal::NoPart),
        }
    }

    fn declare(&mut self, name: &Name, metadata: &CanonicalJson) -> Result<(), Illegal> {
        if !self.jobs.is_empty() {
            return Err(Illegal::NoPart);
        }
        if self.datasets.contains_key(name) {
            return Err(Illegal::Fact(Breach { name: name.clone(), wrong: Wrong::Declared }));
        }
        let told = self.dataset(name, Some(metadata))?;
        self.datasets.insert(name.clone(), told);
        Ok(())
    }

    /// A dataset that was not told before, and that the caller remembers.
    fn dataset(&mut self, name: &Name, metadata: Option<&CanonicalJson>) -> Result<Told, Illegal> {
        let told = Told { id: self.datasets.len() as i64, read: false, produced: false };
        self.builder.named_dataset(told.id, name, metadata.cloned()).map_err(damaged)?;
        Ok(told)
    }

    fn job(
        &mut self,
        name: &Name,
        inputs: &[Name],
        outputs: &[Name],
        spec: &CanonicalJson,
        version: u64,
    ) -> Result<(), Illegal> {
        let wrong = |name: &Name, wrong| Illegal::Fact(Breach { name: name.clone(), wrong });
        let id = self.jobs.len() as i64;
        if !self.jobs.insert(name.clone()) {
            return Err(wrong(name, Wrong::JobThere));
        }
        self.builder.named_job(id, name, spec.clone(), version).map_err(damaged)?;
        for list in [inputs, outputs] {
            if let Some(twice) = list.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(wrong(&twice[1], Wrong::EdgeThere));
            }
        }
        for name in inputs {
            let before = self.mark(name, |told| told.read = true)?;
            self.builder.input(id, before.id).map_err(damaged)?;
        }
        for dataset in outputs {
            let before = self.mark(dataset, |told| told.produced = true)?;
            if before.produced {
                return Err(wrong(dataset, Wrong::SecondProducer));
            }
            if before.read {
                return Err(Illegal::OutOfOrder { job: name.clone(), dataset: dataset.clone() });
            }
            self.builder.output(id, before.id).map_err(damaged)?;
        }
        Ok(())
    }

    /// What was known of the dataset, which is made if it was not told before; then marks it.
    fn mark(&mut self, name: &Name, mark: impl Fn(&mut Told)) -> Result<Told, Illegal> {
        if let Some(told) = self.datasets.get_mut(name) {
            let before = *told;
            mark(told);
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
    /// [`Illegal`] if there is more than fits a graph.
    pub fn finish(self, version: u64) -> Result<Graph, Illegal> {
        drop((self.jobs, self.datasets));
        self.builder.finish(version).map_err(damaged)
    }
}

/// What was judged above cannot be damaged, but for more ids than there are.
fn damaged(reason: DamagedRows) -> Illegal {
    Illegal::Damaged(reason.to_string())
}
