//! The graph in memory: jobs and datasets in slots, edges as sets of slots, names in byte order.
//!
//! Every part is a persistent structure. A clone is O(1) and shares all; a change copies the O(log
//! n) nodes of the trees that lead to it. So a reader keeps the graph that it was given for as long
//! as it likes, a writer works on a clone that nobody sees until it is committed, and an attempt
//! that fails is dropped. petgraph's algorithms see the jobs through its visitor traits: an edge x
//! → y where y reads something that x writes.

use std::ops::Bound;

use fixedbitset::FixedBitSet;
use imbl::{OrdSet, Vector};
use petgraph::Direction;
use petgraph::visit::{
    GraphBase, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, Visitable,
};

use super::index::NameIndex;
use super::json::CanonicalJson;
use super::name::Name;
use super::neighbours::{self, Neighbours};
use super::operation::Side;
use super::order::{Order, Slot};

/// A job graph at one version. Always legal: acyclic, at most one producer for a dataset.
#[derive(Clone, Default)]
pub struct Graph {
    pub(super) version: u64,
    pub(super) jobs: Slots<JobNode>,
    pub(super) datasets: Slots<DatasetNode>,
    /// By the slots of `datasets`.
    dataset_edges: Vector<DatasetEdges>,
    pub(super) job_index: NameIndex,
    pub(super) dataset_index: NameIndex,
    pub(super) order: Order,
    pub(super) edges: usize,
}

#[derive(Clone)]
pub(super) struct JobNode {
    pub(super) name: Name,
    pub(super) version: u64,
    pub(super) spec: CanonicalJson,
    pub(super) inputs: Neighbours,
    pub(super) outputs: Neighbours,
}

#[derive(Clone)]
pub(super) struct DatasetNode {
    pub(super) name: Name,
    /// `None`: implied.
    pub(super) metadata: Option<CanonicalJson>,
}

impl JobNode {
    pub(super) fn side(&self, side: Side) -> &Neighbours {
        match side {
            Side::Input => &self.inputs,
            Side::Output => &self.outputs,
        }
    }
}

/// Apart from the names: a change copies a chunk of neighbours with every edge, and counting up the
/// references of 64 names, each somewhere else in memory, costs more than all the rest of it.
#[derive(Clone, Default)]
pub(super) struct DatasetEdges {
    pub(super) producer: Option<Slot>,
    pub(super) consumers: Neighbours,
}

impl DatasetEdges {
    pub(super) fn mentions(&self) -> usize {
        usize::from(self.producer.is_some()) + self.consumers.len()
    }
}

/// Nodes by slot. A new node gets the smallest slot that is not taken: which one depends on nothing
/// but which are taken, so that every process gives the same id, whether it loaded the graph or has
/// followed its changes.
#[derive(Clone)]
pub(super) struct Slots<T> {
    nodes: Vector<Option<T>>,
    /// Below the length of `nodes`.
    free: OrdSet<Slot>,
    /// Of all nodes.
    text_bytes: usize,
}

/// What has texts of its own.
pub(super) trait Texts {
    /// Their length, in bytes.
    fn text_bytes(&self) -> usize;
}

impl Texts for JobNode {
    fn text_bytes(&self) -> usize {
        self.name.as_str().len() + self.spec.as_str().len()
    }
}

impl Texts for DatasetNode {
    fn text_bytes(&self) -> usize {
        self.name.as_str().len()
            + self.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len())
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { nodes: Vector::new(), free: OrdSet::new(), text_bytes: 0 }
    }
}

impl<T: Clone + Texts> Slots<T> {
    pub(super) fn from_nodes(nodes: impl Iterator<Item = Option<T>>) -> Self {
        let mut free = Vec::new();
        let mut text_bytes = 0;
        let note = |(slot, node): (usize, Option<T>)| {
            match &node {
                Some(node) => text_bytes += node.text_bytes(),
                None => free.push(slot as Slot),
            }
            node
        };
        let nodes = nodes.enumerate().map(note).collect();
        Self { nodes, free: free.into(), text_bytes }
    }

    pub(super) fn insert(&mut self, node: T) -> Slot {
        self.text_bytes += node.text_bytes();
        if let Some(slot) = self.free.get_min().copied() {
            self.free.remove(&slot);
            self.nodes[slot as usize] = Some(node);
            return slot;
        }
        let slot = Slot::try_from(self.nodes.len()).expect("fewer than 2^32 jobs and datasets");
        self.nodes.push_back(Some(node));
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let gone = self.nodes[slot as usize].take();
        self.text_bytes -= gone.map_or(0, |node| node.text_bytes());
        self.free.insert(slot);
    }

    pub(super) fn is_taken(&self, slot: Slot) -> bool {
        self.nodes.get(slot as usize).is_some_and(Option::is_some)
    }

    /// The node of a slot that is taken.
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> &T {
        self.nodes[slot as usize].as_ref().expect("the slot is taken")
    }

    /// The node of a slot that is taken, to change anything but its texts.
    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut T {
        self.nodes[slot as usize].as_mut().expect("the slot is taken")
    }

    /// Changes the texts of the node of a slot that is taken.
    pub(super) fn change_texts(&mut self, slot: Slot, change: impl FnOnce(&mut T)) {
        let node = self.get_mut(slot);
        let before = node.text_bytes();
        change(node);
        let after = node.text_bytes();
        self.text_bytes = self.text_bytes - before + after;
    }

    pub(super) fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// Of all nodes.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }
}

/// What a graph takes in memory beside its texts, in bytes.
const GRAPH_BYTES: usize = 8 << 10;
const JOB_BYTES: usize = 200;
const DATASET_BYTES: usize = 150;
const EDGE_BYTES: usize = 60;

/// A job of a graph. Reading any part costs O(1), a list of n names O(n).
#[derive(Clone, Copy)]
pub struct Job<'g> {
    pub(super) graph: &'g Graph,
    pub(super) slot: Slot,
}

/// A dataset of a graph. Reading any part costs O(1), a list of n names O(n).
#[derive(Clone, Copy)]
pub struct Dataset<'g> {
    pub(super) graph: &'g Graph,
    pub(super) slot: Slot,
}

impl Graph {
    /// How many accepted changesets have made the graph what it is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An empty graph at `version`, as after deletion.
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

    /// How many pairs of a job and a dataset that it reads, and of a job and a dataset that it
    /// writes.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.edges
    }

    /// About how many bytes of memory it takes, if it shares none with another: its texts, and for
    /// everything else what a load of many graphs, small and large, was measured to take
    /// (`benches/README.md`). O(1).
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let texts = self.jobs.text_bytes + self.datasets.text_bytes;
        GRAPH_BYTES
            + texts
            + self.job_count() * JOB_BYTES
            + self.dataset_count() * DATASET_BYTES
            + self.edges * EDGE_BYTES
    }

    /// The job of that name. O(log n).
    #[must_use]
    pub fn job(&self, name: &str) -> Option<Job<'_>> {
        self.job_index.get(name).map(|slot| Job { graph: self, slot })
    }

    /// The dataset of that name. O(log n).
    #[must_use]
    pub fn dataset(&self, name: &str) -> Option<Dataset<'_>> {
        self.dataset_index.get(name).map(|slot| Dataset { graph: self, slot })
    }

    /// The job of that id. O(log n).
    #[must_use]
    pub fn job_of_id(&self, id: u32) -> Option<Job<'_>> {
        self.jobs.is_taken(id).then_some(Job { graph: self, slot: id })
    }

    /// The dataset of that id. O(log n).
    #[must_use]
    pub fn dataset_of_id(&self, id: u32) -> Option<Dataset<'_>> {
        self.datasets.is_taken(id).then_some(Dataset { graph: self, slot: id })
    }

    /// The jobs from a name on, in byte order. O(log n) and O(1) for each.
    pub fn jobs_from(&self, from: Bound<&str>) -> impl Iterator<Item = Job<'_>> {
        self.job_index.slots_from(from).map(|slot| Job { graph: self, slot })
    }

    /// The datasets from a name on, in byte order. O(log n) and O(1) for each.
    pub fn datasets_from(&self, from: Bound<&str>) -> impl Iterator<Item = Dataset<'_>> {
        self.dataset_index.slots_from(from).map(|slot| Dataset { graph: self, slot })
    }

    /// Whether `job` reads or writes `dataset`. O(log n).
    #[must_use]
    pub fn has_edge(&self, job: &Name, side: Side, dataset: &Name) -> bool {
        let (Some(job), Some(dataset)) =
            (self.job_index.get(job.as_str()), self.dataset_index.get(dataset.as_str()))
        else {
            return false;
        };
        self.jobs.get(job).side(side).contains(dataset)
    }

    /// The graph of parts that fit each other.
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

    /// A dataset that no job mentions yet.
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

    /// The jobs that read something that `job` writes; a job may come more than once.
    #[inline]
    pub(super) fn successors(&self, job: Slot) -> Successors<'_> {
        Successors {
            graph: self,
            outputs: self.jobs.get(job).outputs.iter(),
            consumers: neighbours::Iter::Slice([].iter()),
        }
    }

    /// The jobs that write something that `job` reads; a job may come more than once.
    #[inline]
    pub(super) fn predecessors(&self, job: Slot) -> Predecessors<'_> {
        Predecessors { graph: self, inputs: self.jobs.get(job).inputs.iter() }
    }

    /// Sorted names of dataset slots.
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

    /// A number that is its own among the graph's jobs for as long as it exists, and small: the
    /// slot that it is kept in.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.slot
    }

    /// The graph's version at its last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.graph.jobs.get(self.slot).version
    }

    /// Its specification.
    #[must_use]
    pub fn spec(&self) -> &'g CanonicalJson {
        &self.graph.jobs.get(self.slot).spec
    }

    /// Whether it has an edge on that side to the dataset of that id.
    #[must_use]
    pub fn has_edge(&self, side: Side, dataset: u32) -> bool {
        self.graph.jobs.get(self.slot).side(side).contains(dataset)
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

    /// A number that is its own among the graph's datasets for as long as it exists, and small.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.slot
    }

    /// Its metadata if a client declared it; `None` if only jobs mention it.
    #[must_use]
    pub fn metadata(&self) -> Option<&'g CanonicalJson> {
        self.graph.datasets.get(self.slot).metadata.as_ref()
    }

    /// The job that writes it.
    #[must_use]
    pub fn producer(&self) -> Option<Job<'g>> {
        self.graph.dataset_edges(self.slot).producer.map(|slot| Job { graph: self.graph, slot })
    }

    /// How often jobs mention it: once for each that reads it, once for the one that writes it.
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

pub(super) struct Successors<'g> {
    graph: &'g Graph,
    outputs: neighbours::Iter<'g>,
    consumers: neighbours::Iter<'g>,
}

impl Iterator for Successors<'_> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        loop {
            if let Some(job) = self.consumers.next() {
                return Some(job);
            }
            self.consumers = self.graph.dataset_edges(self.outputs.next()?).consumers.iter();
        }
    }
}

pub(super) struct Predecessors<'g> {
    graph: &'g Graph,
    inputs: neighbours::Iter<'g>,
}

impl Iterator for Predecessors<'_> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        let graph = self.graph;
        self.inputs.by_ref().find_map(|dataset| graph.dataset_edges(dataset).producer)
    }
}

/// What petgraph walks along.
pub enum JobNeighbours<'g> {
    #[doc(hidden)]
    #[expect(
        private_interfaces,
        reason = "only petgraph's traits name this type; its parts stay inside"
    )]
    Successors(Successors<'g>),
    #[doc(hidden)]
    #[expect(
        private_interfaces,
        reason = "only petgraph's traits name this type; its parts stay inside"
    )]
    Predecessors(Predecessors<'g>),
}

impl Iterator for JobNeighbours<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        match self {
            Self::Successors(jobs) => jobs.next(),
            Self::Predecessors(jobs) => jobs.next(),
        }
    }
}

impl GraphBase for Graph {
    type NodeId = Slot;
    type EdgeId = (Slot, Slot);
}

impl<'g> IntoNeighbors for &'g Graph {
    type Neighbors = JobNeighbours<'g>;

    fn neighbors(self, job: Slot) -> JobNeighbours<'g> {
        JobNeighbours::Successors(self.successors(job))
    }
}

impl<'g> IntoNeighborsDirected for &'g Graph {
    type NeighborsDirected = JobNeighbours<'g>;

    fn neighbors_directed(self, job: Slot, direction: Direction) -> JobNeighbours<'g> {
        match direction {
            Direction::Outgoing => JobNeighbours::Successors(self.successors(job)),
            Direction::Incoming => JobNeighbours::Predecessors(self.predecessors(job)),
        }
    }
}

impl IntoNodeIdentifiers for &Graph {
    type NodeIdentifiers = std::vec::IntoIter<Slot>;

    fn node_identifiers(self) -> Self::NodeIdentifiers {
        self.job_index.slots_from(Bound::Unbounded).collect::<Vec<_>>().into_iter()
    }
}

impl Visitable for Graph {
    type Map = FixedBitSet;

    fn visit_map(&self) -> FixedBitSet {
        FixedBitSet::with_capacity(self.jobs.slots())
    }

    fn reset_map(&self, map: &mut FixedBitSet) {
        map.clear();
        map.grow(self.jobs.slots());
    }
}
