//! The graph in memory, and how to read it: jobs and datasets in slots (`slots.rs`, `nodes.rs`),
//! edges as sets of slots (`neighbours.rs`), names in byte order (`index.rs`).
//!
//! Every part is a persistent structure. A clone costs O(1) and shares everything; a change copies
//! only the O(log n) tree nodes on the way to what it changes. So a reader can keep its graph as
//! long as it likes, a writer works on a clone that nobody else sees before the commit, and a
//! failed attempt is simply dropped.
//!
//! `traversal.rs` walks along the edges; `apply.rs` and `build.rs` make graphs.

use std::ops::Bound;

use imbl::Vector;

use super::index::NameIndex;
use super::json::CanonicalJson;
use super::name::Name;
use super::neighbours::Neighbours;
use super::nodes::{DatasetEdges, DatasetNode, JobNode};
use super::operation::Side;
use super::order::Order;
use super::slots::{Slot, Slots};

/// A job graph at one version. At most one producer for each dataset; acyclic, unless it was made
/// of a log that breaks the rules.
#[derive(Clone, Default)]
pub struct Graph {
    pub(super) version: u64,
    pub(super) jobs: Slots<JobNode>,
    pub(super) datasets: Slots<DatasetNode>,
    /// Indexed by the slots of `datasets`. Kept apart from the names: a change of an edge copies a
    /// chunk of 64 neighbours, and raising the reference counts of 64 names, which are scattered in
    /// memory, would cost more than everything else.
    dataset_edges: Vector<DatasetEdges>,
    pub(super) job_index: NameIndex,
    pub(super) dataset_index: NameIndex,
    /// A topological order of the jobs.
    pub(super) order: Order,
    /// How many edges there are.
    pub(super) edges: usize,
}

/// The memory of a graph besides its texts, in bytes: fixed, and for each job, dataset and edge.
const GRAPH_BYTES: usize = 8 << 10;
const JOB_BYTES: usize = 190;
const DATASET_BYTES: usize = 140;
const EDGE_BYTES: usize = 40;

/// A job of a graph. Reading one field costs O(1), a list of n names O(n log n).
#[derive(Clone, Copy)]
pub struct Job<'g> {
    pub(super) graph: &'g Graph,
    pub(super) slot: Slot,
}

/// A dataset of a graph. Reading one field costs O(1), a list of n names O(n log n).
#[derive(Clone, Copy)]
pub struct Dataset<'g> {
    pub(super) graph: &'g Graph,
    pub(super) slot: Slot,
}

impl Graph {
    /// How many accepted changesets have changed the graph.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An empty graph at `version`, as it is after the graph was deleted.
    #[must_use]
    pub fn empty_at(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    /// How many jobs there are.
    #[must_use]
    pub fn job_count(&self) -> usize {
        self.job_index.len()
    }

    /// How many datasets there are, declared and implied.
    #[must_use]
    pub fn dataset_count(&self) -> usize {
        self.dataset_index.len()
    }

    /// How many edges there are: one for each job and dataset that it reads, one for each job and
    /// dataset that it writes.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.edges
    }

    /// An estimate of the memory that the graph takes, in bytes, if it shares none with another
    /// graph: the length of its texts, and constants that were measured by loading many graphs of
    /// all sizes (`benches/README.md`). O(1).
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let texts = self.jobs.text_bytes() + self.datasets.text_bytes();
        GRAPH_BYTES
            + texts
            + self.job_count() * JOB_BYTES
            + self.dataset_count() * DATASET_BYTES
            + self.edges * EDGE_BYTES
    }

    /// The job named `name`. O(log n).
    #[must_use]
    pub fn job(&self, name: &str) -> Option<Job<'_>> {
        self.job_slot(name).map(|slot| Job { graph: self, slot })
    }

    /// The dataset named `name`. O(log n).
    #[must_use]
    pub fn dataset(&self, name: &str) -> Option<Dataset<'_>> {
        self.dataset_slot(name).map(|slot| Dataset { graph: self, slot })
    }

    /// The job with that id. O(log n).
    #[must_use]
    pub fn job_of_id(&self, id: u32) -> Option<Job<'_>> {
        self.jobs.is_taken(id).then_some(Job { graph: self, slot: id })
    }

    /// The dataset with that id. O(log n).
    #[must_use]
    pub fn dataset_of_id(&self, id: u32) -> Option<Dataset<'_>> {
        self.datasets.is_taken(id).then_some(Dataset { graph: self, slot: id })
    }

    /// The jobs whose names come from `from` on, in byte order. O(log n), then O(1) for each job;
    /// the first such question after a graph was loaded sorts its n jobs by name.
    pub fn jobs_from(&self, from: Bound<&str>) -> impl Iterator<Item = Job<'_>> {
        self.job_index.slots_from(from).map(|slot| Job { graph: self, slot })
    }

    /// The datasets whose names come from `from` on, in byte order. O(log n), then O(1) for each
    /// dataset; the first such question after a graph was loaded sorts its n datasets by name.
    pub fn datasets_from(&self, from: Bound<&str>) -> impl Iterator<Item = Dataset<'_>> {
        self.dataset_index.slots_from(from).map(|slot| Dataset { graph: self, slot })
    }

    /// Whether `job` reads (`Side::Input`) or writes (`Side::Output`) `dataset`. O(log n).
    #[must_use]
    pub fn has_edge(&self, job: &Name, side: Side, dataset: &Name) -> bool {
        let (Some(job), Some(dataset)) =
            (self.job_slot(job.as_str()), self.dataset_slot(dataset.as_str()))
        else {
            return false;
        };
        self.jobs.get(job).side(side).contains(dataset)
    }

    /// The graph of these parts. The caller makes sure that they fit each other.
    pub(super) fn from_parts(
        version: u64,
        jobs: Slots<JobNode>,
        (datasets, dataset_edges): (Slots<DatasetNode>, Vector<DatasetEdges>),
        (job_index, dataset_index): (NameIndex, NameIndex),
        order: Order,
        edges: usize,
    ) -> Self {
        Self { version, jobs, datasets, dataset_edges, job_index, dataset_index, order, edges }
    }

    #[inline]
    pub(super) fn job_slot(&self, name: &str) -> Option<Slot> {
        self.job_index.get(name, |slot| self.jobs.find(slot).map(|job| &job.name))
    }

    #[inline]
    pub(super) fn dataset_slot(&self, name: &str) -> Option<Slot> {
        self.dataset_index.get(name, |slot| self.datasets.find(slot).map(|dataset| &dataset.name))
    }

    /// Adds an implied dataset that no job mentions yet.
    pub(super) fn add_dataset(&mut self, name: &Name) -> Slot {
        let slot = self.datasets.insert(DatasetNode { name: name.clone(), metadata: None });
        if self.dataset_edges.len() == slot as usize {
            self.dataset_edges.push_back(DatasetEdges::default());
        }
        self.dataset_index.insert(name, slot);
        slot
    }

    #[inline]
    pub(super) fn dataset_edges(&self, dataset: Slot) -> &DatasetEdges {
        &self.dataset_edges[dataset as usize]
    }

    pub(super) fn dataset_edges_mut(&mut self, dataset: Slot) -> &mut DatasetEdges {
        &mut self.dataset_edges[dataset as usize]
    }

    /// The sorted names of the datasets in `slots`.
    fn dataset_names<'g>(&'g self, slots: &'g Neighbours) -> Vec<&'g Name> {
        let mut names: Vec<_> = slots.iter().map(|slot| &self.datasets.get(slot).name).collect();
        names.sort_unstable();
        names
    }
}

impl<'g> Job<'g> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'g Name {
        &self.graph.jobs.get(self.slot).name
    }

    /// Its slot: a small number that no other job of the graph has while this one exists.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.slot
    }

    /// The graph's version at which the job was last changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.graph.jobs.get(self.slot).version
    }

    /// Its specification.
    #[must_use]
    pub fn spec(&self) -> &'g CanonicalJson {
        &self.graph.jobs.get(self.slot).spec
    }

    /// Whether it has an edge on that side to the dataset with that id.
    #[must_use]
    pub fn has_edge(&self, side: Side, dataset: u32) -> bool {
        self.graph.jobs.get(self.slot).side(side).contains(dataset)
    }

    /// The ids of the datasets that it reads, rising.
    pub fn input_ids(&self) -> impl Iterator<Item = u32> + use<'g> {
        self.graph.jobs.get(self.slot).inputs.iter()
    }

    /// The datasets that it reads, sorted.
    #[must_use]
    pub fn inputs(&self) -> Vec<&'g Name> {
        self.graph.dataset_names(&self.graph.jobs.get(self.slot).inputs)
    }

    /// The datasets that it writes, sorted.
    #[must_use]
    pub fn outputs(&self) -> Vec<&'g Name> {
        self.graph.dataset_names(&self.graph.jobs.get(self.slot).outputs)
    }
}

impl<'g> Dataset<'g> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'g Name {
        &self.graph.datasets.get(self.slot).name
    }

    /// Its slot: a small number that no other dataset of the graph has while this one exists.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.slot
    }

    /// Its metadata if it is declared; `None` if it is implied, because only jobs mention it.
    #[must_use]
    pub fn metadata(&self) -> Option<&'g CanonicalJson> {
        self.graph.datasets.get(self.slot).metadata.as_ref()
    }

    /// The id of the job that writes it.
    #[must_use]
    pub fn producer_id(&self) -> Option<u32> {
        self.graph.dataset_edges(self.slot).producer
    }

    /// The job that writes it.
    #[must_use]
    pub fn producer(&self) -> Option<Job<'g>> {
        self.graph.dataset_edges(self.slot).producer.map(|slot| Job { graph: self.graph, slot })
    }

    /// How many jobs read it, plus one if a job writes it.
    #[must_use]
    pub fn mentions(&self) -> usize {
        self.graph.dataset_edges(self.slot).mentions()
    }

    /// The jobs that read it, sorted.
    #[must_use]
    pub fn consumers(&self) -> Vec<&'g Name> {
        let consumers = self.graph.dataset_edges(self.slot).consumers.iter();
        let mut names: Vec<_> = consumers.map(|slot| &self.graph.jobs.get(slot).name).collect();
        names.sort_unstable();
        names
    }
}
