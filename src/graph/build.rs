//! Builds a graph from the rows of a database in one pass. Judges no operations: what is stored was
//! legal when it was accepted.

use std::thread::{self, JoinHandle};

use fixedbitset::FixedBitSet;

use super::adjacency_lists::AdjacencyLists;
use super::graph::Graph;
use super::index::NameIndex;
use super::json::CanonicalJson;
use super::name::{InvalidName, Name};
use super::neighbours::Neighbours;
use super::nodes::{DatasetEdges, DatasetNode, JobNode};
use super::order::Order;
use super::slots::{Slot, Slots};

/// Takes the rows of a graph: jobs and datasets first, then edges, each kind in any order.
#[derive(Default)]
pub struct GraphBuilder {
    jobs: Vec<Option<JobNode>>,
    datasets: Vec<Option<DatasetNode>>,
    /// The slots that are taken. Every edge looks up both its ends, and these sets fit in the
    /// processor's cache.
    jobs_there: FixedBitSet,
    datasets_there: FixedBitSet,
    job_names: Names,
    dataset_names: Names,
    /// The producer of each dataset, by slot; only as long as the last output needs.
    producers: Vec<Option<Slot>>,
    /// Pairs of a dataset and a job.
    inputs: Vec<(Slot, Slot)>,
    outputs: Vec<(Slot, Slot)>,
}

/// The names of all jobs, or of all datasets, each with its slot.
enum Names {
    Gathered(Vec<(Name, Slot)>),
    /// A thread indexes them while edges are added. If the rows turn out to be damaged, nobody
    /// waits for it.
    Indexing(JoinHandle<Result<NameIndex, Name>>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Gathered(Vec::new())
    }
}

impl Names {
    fn push(&mut self, name: Name, slot: Slot) {
        match self {
            Self::Gathered(names) => names.push((name, slot)),
            Self::Indexing(_) => panic!("the caller said that no more would come"),
        }
    }

    fn begin_indexing(&mut self) {
        if let Self::Gathered(names) = self {
            let names = std::mem::take(names);
            *self = Self::Indexing(thread::spawn(move || NameIndex::new(&names)));
        }
    }

    fn index(self, what: &'static str) -> Result<NameIndex, DamagedRows> {
        let index = match self {
            Self::Gathered(names) => NameIndex::new(&names),
            Self::Indexing(thread) => {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        index.map_err(|name| DamagedRows::Twice { what, name })
    }
}

/// The rows are no legal graph: something else has written to the database. Restore it from a
/// backup.
#[derive(Debug, thiserror::Error)]
pub enum DamagedRows {
    /// A name breaks the rules for names.
    #[error("a stored name is damaged: {0}")]
    Name(#[from] InvalidName),
    /// Two rows have the same id, or the same name.
    #[error("the {what} `{name}` is stored twice")]
    Twice {
        /// Job or dataset.
        what: &'static str,
        /// Its name.
        name: Name,
    },
    /// An id is not one that Fencepost gives.
    #[error("{0} is no id")]
    Id(i64),
    /// An end of an edge does not exist.
    #[error("an edge between job {job} and dataset {dataset} leads nowhere")]
    DanglingEdge {
        /// The job's id.
        job: u32,
        /// The dataset's id.
        dataset: u32,
    },
    /// The inputs of a job are not the ids of datasets, each once and rising.
    #[error("the inputs of the job with id {job} are stored as no list of rising ids")]
    Inputs {
        /// The job's id.
        job: i64,
    },
    /// The jobs form a cycle.
    #[error("the stored jobs form a cycle")]
    Cyclic,
}

/// Ids are slots, and slots become lengths of arrays. No graph that fits in memory has an id as
/// large as this; a damaged one is refused here.
const MAX_ID: i64 = 1 << 28;

fn slot(id: i64) -> Result<Slot, DamagedRows> {
    if (0..MAX_ID).contains(&id) { Ok(id as Slot) } else { Err(DamagedRows::Id(id)) }
}

fn put<T>(nodes: &mut Vec<Option<T>>, slot: Slot, node: T) -> bool {
    let slot = slot as usize;
    // Rows come by rising id, so most are appended. This writes the new memory without reading it
    // first, which would cost a page fault of its own.
    if nodes.len() <= slot {
        nodes.resize_with(slot, || None);
        nodes.push(Some(node));
        return true;
    }
    nodes[slot].replace(node).is_none()
}

impl GraphBuilder {
    /// Adds a job without edges.
    ///
    /// # Errors
    /// [`DamagedRows`] if its id or name is damaged or there twice.
    pub fn job(
        &mut self,
        id: i64,
        name: &str,
        spec: &str,
        version: u64,
    ) -> Result<(), DamagedRows> {
        self.named_job(id, &Name::new(name)?, CanonicalJson::from_canonical(spec), version)
    }

    /// The same from parts that were checked before.
    pub(super) fn named_job(
        &mut self,
        id: i64,
        name: &Name,
        spec: CanonicalJson,
        version: u64,
    ) -> Result<(), DamagedRows> {
        let name = name.clone();
        let node = JobNode {
            name: name.clone(),
            version,
            spec,
            inputs: Neighbours::default(),
            outputs: Neighbours::default(),
        };
        let slot = slot(id)?;
        let new = put(&mut self.jobs, slot, node);
        self.jobs_there.grow_and_insert(slot as usize);
        self.job_names.push(name.clone(), slot);
        if new { Ok(()) } else { Err(DamagedRows::Twice { what: "job", name }) }
    }

    /// Adds a dataset that no job mentions yet.
    ///
    /// # Errors
    /// [`DamagedRows`] if its id or name is damaged or there twice.
    pub fn dataset(
        &mut self,
        id: i64,
        name: &str,
        metadata: Option<&str>,
    ) -> Result<(), DamagedRows> {
        self.named_dataset(id, &Name::new(name)?, metadata.map(CanonicalJson::from_canonical))
    }

    /// The same from parts that were checked before.
    pub(super) fn named_dataset(
        &mut self,
        id: i64,
        name: &Name,
        metadata: Option<CanonicalJson>,
    ) -> Result<(), DamagedRows> {
        let name = name.clone();
        let node = DatasetNode { name: name.clone(), metadata };
        let slot = slot(id)?;
        let new = put(&mut self.datasets, slot, node);
        self.datasets_there.grow_and_insert(slot as usize);
        self.dataset_names.push(name.clone(), slot);
        if new { Ok(()) } else { Err(DamagedRows::Twice { what: "dataset", name }) }
    }

    /// Says that all jobs were added: their names are then indexed while edges are added. Optional,
    /// and faster.
    ///
    /// # Panics
    /// [`job`](Self::job) panics if it is called after this.
    pub fn no_more_jobs(&mut self) {
        self.job_names.begin_indexing();
    }

    /// As [`no_more_jobs`](Self::no_more_jobs), for datasets.
    ///
    /// # Panics
    /// [`dataset`](Self::dataset) panics if it is called after this.
    pub fn no_more_datasets(&mut self) {
        self.dataset_names.begin_indexing();
    }

    /// Adds the edges by which `job` reads `datasets`; `None` if what is stored is no list of ids.
    ///
    /// # Errors
    /// [`DamagedRows`] if the ids do not rise, or one is of no dataset.
    pub fn inputs(&mut self, job: i64, datasets: Option<&[u32]>) -> Result<(), DamagedRows> {
        let datasets = datasets.filter(|ids| ids.is_sorted_by(|a, b| a < b));
        let Some(datasets) = datasets else { return Err(DamagedRows::Inputs { job }) };
        datasets.iter().try_for_each(|&dataset| self.input(job, dataset.into()))
    }

    /// Adds an edge by which `job` reads `dataset`.
    ///
    /// # Errors
    /// [`DamagedRows`] if an end does not exist.
    pub fn input(&mut self, job: i64, dataset: i64) -> Result<(), DamagedRows> {
        let edge = self.edge(job, dataset)?;
        self.inputs.push(edge);
        Ok(())
    }

    /// Adds an edge by which `job` writes `dataset`.
    ///
    /// # Errors
    /// [`DamagedRows`] if an end is not there, or the dataset has a producer.
    pub fn output(&mut self, job: i64, dataset: i64) -> Result<(), DamagedRows> {
        let (dataset, job) = self.edge(job, dataset)?;
        if !put(&mut self.producers, dataset, job) {
            let node = self.datasets[dataset as usize].as_ref().expect("checked by edge()");
            return Err(DamagedRows::Twice { what: "producer of", name: node.name.clone() });
        }
        self.outputs.push((dataset, job));
        Ok(())
    }

    fn edge(&self, job: i64, dataset: i64) -> Result<(Slot, Slot), DamagedRows> {
        let (job, dataset) = (slot(job)?, slot(dataset)?);
        let there = self.jobs_there.contains(job as usize)
            && self.datasets_there.contains(dataset as usize);
        if there { Ok((dataset, job)) } else { Err(DamagedRows::DanglingEdge { job, dataset }) }
    }

    /// The graph at `version`. O(n log n) for n jobs, datasets and edges.
    ///
    /// # Errors
    /// [`DamagedRows::Cyclic`], or [`DamagedRows::Twice`] for a name that two rows have.
    pub fn finish(mut self, version: u64) -> Result<Graph, DamagedRows> {
        self.no_more_datasets();
        self.no_more_jobs();
        self.producers.resize(self.datasets.len(), None);
        let reversed = |&(dataset, job): &(Slot, Slot)| (job, dataset);
        let inputs_of = AdjacencyLists::new(self.inputs.iter().map(reversed), self.jobs.len());
        let outputs_of = AdjacencyLists::new(self.outputs.iter().map(reversed), self.jobs.len());
        let consumers_of = AdjacencyLists::new(self.inputs.iter().copied(), self.datasets.len());
        (self.inputs, self.outputs) = (Vec::new(), Vec::new());
        let edges = inputs_of.len() + outputs_of.len();

        let sorted =
            self.sorted(&inputs_of, &outputs_of, &consumers_of).ok_or(DamagedRows::Cyclic)?;
        let order = Order::of(&sorted, self.jobs.len());
        let with_edges = |(slot, job): (usize, Option<JobNode>)| {
            job.map(|job| JobNode {
                inputs: Neighbours::from_sorted(inputs_of.get(slot as Slot)),
                outputs: Neighbours::from_sorted(outputs_of.get(slot as Slot)),
                ..job
            })
        };
        let jobs = Slots::from_nodes(self.jobs.into_iter().enumerate().map(with_edges));
        let edges_of = |(slot, producer)| DatasetEdges {
            producer,
            consumers: Neighbours::from_sorted(consumers_of.get(slot as Slot)),
        };
        let dataset_edges = self.producers.into_iter().enumerate().map(edges_of).collect();
        let datasets = Slots::from_nodes(self.datasets.into_iter());
        let indexes = (self.job_names.index("job")?, self.dataset_names.index("dataset")?);
        Ok(Graph::from_parts(version, jobs, (datasets, dataset_edges), indexes, order, edges))
    }

    /// A topological order of the jobs, by A. Kahn's algorithm (1962) on flat arrays; `None` if
    /// there is a cycle.
    fn sorted(
        &self,
        inputs_of: &AdjacencyLists,
        outputs_of: &AdjacencyLists,
        consumers_of: &AdjacencyLists,
    ) -> Option<Vec<Slot>> {
        let produced = |&&dataset: &&Slot| self.producers[dataset as usize].is_some();
        let mut waiting_for: Vec<u32> = (0..self.jobs.len())
            .map(|job| inputs_of.get(job as Slot).iter().filter(produced).count() as u32)
            .collect();
        let mut sorted = Vec::with_capacity(self.jobs.len());
        sorted.extend(
            self.jobs_there.ones().filter(|&job| waiting_for[job] == 0).map(|job| job as Slot),
        );
        let mut done = 0;
        while let Some(&job) = sorted.get(done) {
            done += 1;
            for &dataset in outputs_of.get(job) {
                for &next in consumers_of.get(dataset) {
                    waiting_for[next as usize] -= 1;
                    if waiting_for[next as usize] == 0 {
                        sorted.push(next);
                    }
                }
            }
        }
        (done == self.jobs_there.count_ones(..)).then_some(sorted)
    }
}
