//! Builds a graph from the rows of a database in one pass. Judges no operations: what is stored was
//! legal when it was accepted.

use arcstr::ArcStr;
use fixedbitset::FixedBitSet;

use super::adjacency_lists::AdjacencyLists;
use super::graph::Graph;
use super::index::NameIndexBuilder;
use super::json::CanonicalJson;
use super::name::{InvalidName, Name};
use super::neighbours::Neighbours;
use super::nodes::{DatasetEdges, DatasetNode, JobNode};
use super::order::Order;
use super::slots::{Slot, Slots};
use super::sorted::LARGE_JOBS;
use super::two_threads::in_two_threads;

/// Takes the rows of a graph: jobs and datasets first, then edges, each kind in any order.
#[derive(Default)]
pub struct GraphBuilder {
    jobs: Vec<Option<JobNode>>,
    datasets: Vec<Option<DatasetNode>>,
    /// The slots that are taken. Every edge looks up both its ends, and these sets fit in the
    /// processor's cache.
    jobs_there: FixedBitSet,
    datasets_there: FixedBitSet,
    job_names: NameIndexBuilder,
    dataset_names: NameIndexBuilder,
    /// The producer of each dataset, by slot; only as long as the last output needs.
    producers: Vec<Option<Slot>>,
    /// Pairs of a dataset and a job.
    inputs: Vec<(Slot, Slot)>,
    outputs: Vec<(Slot, Slot)>,
}

/// The rows are no legal graph: something else has written to the database. Restore it from a
/// backup.
#[derive(Debug, thiserror::Error)]
pub enum DamagedRows {
    /// A name breaks the rules for names.
    #[error("the stored name of the {what} with id {id} is damaged: {reason}")]
    Name {
        /// Job or dataset.
        what: &'static str,
        /// The row's id.
        id: i64,
        /// Which rule.
        reason: InvalidName,
    },
    /// Two rows have the same id, or the same name.
    #[error("the {what} `{name}` is stored twice")]
    Twice {
        /// Job or dataset.
        what: &'static str,
        /// Its name.
        name: Name,
    },
    /// An id is not one that Fencepost gives.
    #[error("{id} is no id, and the {what} `{name}` has it")]
    Id {
        /// Job or dataset.
        what: &'static str,
        /// Its name.
        name: Name,
        /// Its id.
        id: i64,
    },
    /// A field holds a value of another type than its column has, or text that is no UTF-8. SQLite
    /// stores any value in any column.
    #[error(
        "the field '{field}' of the {what} `{name}` with id {id} holds a value of another type"
    )]
    Field {
        /// Job or dataset.
        what: &'static str,
        /// The row's id, as far as it can be read.
        id: i64,
        /// The row's name, as far as it can be read.
        name: String,
        /// The column.
        field: &'static str,
    },
    /// A job was last changed at no version that the graph has had.
    #[error("the job `{name}` is stored with version {version}, and its graph with {of_graph}")]
    Version {
        /// The job's name.
        name: String,
        /// Its version.
        version: i64,
        /// The graph's version.
        of_graph: u64,
    },
    /// An end of an edge does not exist.
    #[error("an edge between job {job} and dataset {dataset} leads nowhere")]
    DanglingEdge {
        /// The job's id.
        job: i64,
        /// The dataset's id.
        dataset: i64,
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
pub(super) const MAX_ID: i64 = 1 << 28;

/// Whether a job or a dataset of a stored graph can have this id.
#[must_use]
pub fn is_id(id: i64) -> bool {
    (0..MAX_ID).contains(&id)
}

fn slot(id: i64) -> Option<Slot> {
    is_id(id).then_some(id as Slot)
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
    /// [`DamagedRows`] if its id or name is damaged, or the id is there twice.
    pub fn job(
        &mut self,
        id: i64,
        name: impl Into<ArcStr>,
        spec: impl AsRef<str> + Into<ArcStr>,
        version: u64,
    ) -> Result<(), DamagedRows> {
        let damaged = |reason| DamagedRows::Name { what: "job", id, reason };
        let name = Name::try_from(name.into()).map_err(damaged)?;
        self.named_job(id, name, CanonicalJson::from_canonical(spec), version)
    }

    /// The same from parts that were checked before.
    pub(super) fn named_job(
        &mut self,
        id: i64,
        name: Name,
        spec: CanonicalJson,
        version: u64,
    ) -> Result<(), DamagedRows> {
        let node = JobNode {
            name: name.clone(),
            version,
            spec,
            inputs: Neighbours::default(),
            outputs: Neighbours::default(),
        };
        let what = "job";
        let slot = slot(id).ok_or_else(|| DamagedRows::Id { what, name: name.clone(), id })?;
        if !put(&mut self.jobs, slot, node) {
            return Err(DamagedRows::Twice { what, name });
        }
        self.jobs_there.grow_and_insert(slot as usize);
        self.job_names.push(&name, slot);
        Ok(())
    }

    /// Adds a dataset that no job mentions yet.
    ///
    /// # Errors
    /// [`DamagedRows`] if its id or name is damaged, or the id is there twice.
    pub fn dataset(
        &mut self,
        id: i64,
        name: impl Into<ArcStr>,
        metadata: Option<impl AsRef<str> + Into<ArcStr>>,
    ) -> Result<(), DamagedRows> {
        let damaged = |reason| DamagedRows::Name { what: "dataset", id, reason };
        let name = Name::try_from(name.into()).map_err(damaged)?;
        self.named_dataset(id, name, metadata.map(CanonicalJson::from_canonical))
    }

    /// The same from parts that were checked before.
    pub(super) fn named_dataset(
        &mut self,
        id: i64,
        name: Name,
        metadata: Option<CanonicalJson>,
    ) -> Result<(), DamagedRows> {
        let node = DatasetNode { name: name.clone(), metadata };
        let what = "dataset";
        let slot = slot(id).ok_or_else(|| DamagedRows::Id { what, name: name.clone(), id })?;
        if !put(&mut self.datasets, slot, node) {
            return Err(DamagedRows::Twice { what, name });
        }
        self.datasets_there.grow_and_insert(slot as usize);
        self.dataset_names.push(&name, slot);
        Ok(())
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
        let is_there =
            |there: &FixedBitSet, id| slot(id).filter(|&slot| there.contains(slot as usize));
        let ends = is_there(&self.datasets_there, dataset).zip(is_there(&self.jobs_there, job));
        ends.ok_or(DamagedRows::DanglingEdge { job, dataset })
    }

    /// The graph at `version`. O(n log n) for n jobs, datasets and edges; for a large graph, in two
    /// threads.
    ///
    /// # Errors
    /// [`DamagedRows::Cyclic`], or [`DamagedRows::Twice`] for a name that two rows have.
    pub fn finish(mut self, version: u64) -> Result<Graph, DamagedRows> {
        let (jobs, datasets) = (self.jobs.len(), self.datasets.len());
        let large = jobs > LARGE_JOBS;
        let twice = |what| move |name| DamagedRows::Twice { what, name };
        let job_of = |slot: Slot| Some(&self.jobs[slot as usize].as_ref()?.name);
        let dataset_of = |slot: Slot| Some(&self.datasets[slot as usize].as_ref()?.name);
        let (job_index, dataset_index) = in_two_threads(
            large,
            || self.job_names.finish(job_of).map_err(twice("job")),
            || self.dataset_names.finish(dataset_of).map_err(twice("dataset")),
        );
        let (job_index, dataset_index) = (job_index?, dataset_index?);
        self.producers.resize(datasets, None);

        let reversed = |&(dataset, job): &(Slot, Slot)| (job, dataset);
        let (consumers_of, (inputs_of, outputs_of)) = in_two_threads(
            large,
            || AdjacencyLists::new(self.inputs.iter().copied(), datasets),
            || {
                let inputs_of = AdjacencyLists::new(self.inputs.iter().map(reversed), jobs);
                (inputs_of, AdjacencyLists::new(self.outputs.iter().map(reversed), jobs))
            },
        );
        drop((self.inputs, self.outputs));
        let edges = inputs_of.len() + outputs_of.len();

        let edges_of = |(slot, &producer): (usize, &Option<Slot>)| DatasetEdges {
            producer,
            consumers: Neighbours::from_sorted(consumers_of.get(slot as Slot)),
        };
        let with_edges = |(slot, job): (usize, Option<JobNode>)| {
            job.map(|job| JobNode {
                inputs: Neighbours::from_sorted(inputs_of.get(slot as Slot)),
                outputs: Neighbours::from_sorted(outputs_of.get(slot as Slot)),
                ..job
            })
        };
        let (order, (jobs, datasets)) = in_two_threads(
            large,
            || {
                let edges = JobEdges {
                    there: &self.jobs_there,
                    producers: &self.producers,
                    inputs_of: &inputs_of,
                    outputs_of: &outputs_of,
                    consumers_of: &consumers_of,
                };
                edges.sorted().map(|sorted| Order::of(&sorted, jobs))
            },
            || {
                let jobs = Slots::from_nodes(self.jobs.into_iter().enumerate().map(with_edges));
                let edges = self.producers.iter().enumerate().map(edges_of).collect();
                (jobs, (Slots::from_nodes(self.datasets.into_iter()), edges))
            },
        );
        let order = order.ok_or(DamagedRows::Cyclic)?;
        Ok(Graph::from_parts(version, jobs, datasets, (job_index, dataset_index), order, edges))
    }
}

/// What leads from job to job.
struct JobEdges<'b> {
    there: &'b FixedBitSet,
    producers: &'b [Option<Slot>],
    inputs_of: &'b AdjacencyLists,
    outputs_of: &'b AdjacencyLists,
    consumers_of: &'b AdjacencyLists,
}

impl JobEdges<'_> {
    /// A topological order of the jobs, by A. Kahn's algorithm (1962) on flat arrays; `None` if
    /// there is a cycle.
    fn sorted(&self) -> Option<Vec<Slot>> {
        let produced = |&&dataset: &&Slot| self.producers[dataset as usize].is_some();
        let mut waiting_for: Vec<u32> = (0..self.inputs_of.lists())
            .map(|job| self.inputs_of.get(job as Slot).iter().filter(produced).count() as u32)
            .collect();
        let mut sorted = Vec::with_capacity(waiting_for.len());
        sorted
            .extend(self.there.ones().filter(|&job| waiting_for[job] == 0).map(|job| job as Slot));
        let mut done = 0;
        while let Some(&job) = sorted.get(done) {
            done += 1;
            for &dataset in self.outputs_of.get(job) {
                for &next in self.consumers_of.get(dataset) {
                    waiting_for[next as usize] -= 1;
                    if waiting_for[next as usize] == 0 {
                        sorted.push(next);
                    }
                }
            }
        }
        (done == self.there.count_ones(..)).then_some(sorted)
    }
}
