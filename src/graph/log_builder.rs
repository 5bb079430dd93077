//! Builds a graph from the changes of its own log, from the first on.
//!
//! [`apply()`](super::apply()) makes a version that shares what it can with the version before, and
//! keeps the topological order up at each step. Nobody reads the versions on the way to the one
//! that is loaded, so here jobs and datasets are changed in place, in plain arrays, and the order
//! is made once, at the end. The graph is the one that `apply` comes to, ids included.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::change::{Change, Fact};
use super::graph::Graph;
use super::illegal::{FactViolation, IllegalChange, IllegalFact};
use super::index::NameIndex;
use super::name::Name;
use super::neighbours::Neighbours;
use super::nodes::{DatasetEdges, DatasetNode, JobNode};
use super::operation::Side;
use super::order::Order;
use super::slots::{Slot, Slots, Texts};
use super::sorted::LARGE_JOBS;
use super::two_threads::in_two_threads;

/// A graph that changes are added to. Memory: about what the graph takes.
#[derive(Default)]
pub struct LogBuilder {
    version: u64,
    jobs: Nodes<JobNode>,
    datasets: Nodes<DatasetNode>,
    /// By the slots of datasets.
    dataset_edges: Vec<DatasetEdges>,
    job_slots: HashMap<Name, Slot>,
    dataset_slots: HashMap<Name, Slot>,
    edges: usize,
    /// Datasets that lost a mention or their declaration in the change that is being added.
    maybe_orphans: Vec<Slot>,
}

/// Nodes by slot, as [`Slots`]: a new one gets the smallest free slot.
struct Nodes<T> {
    nodes: Vec<Option<T>>,
    free: BinaryHeap<Reverse<Slot>>,
}

impl<T> Default for Nodes<T> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: BinaryHeap::new() }
    }
}

impl<T: Clone + Texts> Nodes<T> {
    /// The same nodes, and the same free slots.
    fn of(slots: Slots<T>) -> Self {
        let nodes: Vec<Option<T>> = slots.into_nodes().collect();
        let free = (0..).zip(&nodes).filter(|(_, node)| node.is_none());
        let free = free.map(|(slot, _)| Reverse(slot)).collect();
        Self { nodes, free }
    }

    /// The slots by the names of their nodes. The error is a name that two of them have.
    fn slots_by_name(&self, name_of: impl Fn(&T) -> &Name) -> Result<HashMap<Name, Slot>, Name> {
        let mut slots = HashMap::with_capacity(self.nodes.len() - self.free.len());
        for (slot, node) in (0..).zip(&self.nodes) {
            if let Some(name) = node.as_ref().map(&name_of)
                && slots.insert(name.clone(), slot).is_some()
            {
                return Err(name.clone());
            }
        }
        Ok(slots)
    }
}

impl<T> Nodes<T> {
    fn insert(&mut self, node: T) -> Slot {
        if let Some(Reverse(slot)) = self.free.pop() {
            self.nodes[slot as usize] = Some(node);
            return slot;
        }
        let slot = Slot::try_from(self.nodes.len()).expect("fewer than 2^32 jobs and datasets");
        self.nodes.push(Some(node));
        slot
    }

    fn remove(&mut self, slot: Slot) -> Option<T> {
        let gone = self.nodes[slot as usize].take();
        if gone.is_some() {
            self.free.push(Reverse(slot));
        }
        gone
    }

    fn find(&self, slot: Slot) -> Option<&T> {
        self.nodes.get(slot as usize)?.as_ref()
    }

    fn get_mut(&mut self, slot: Slot) -> &mut T {
        self.nodes[slot as usize].as_mut().expect("the slot is taken")
    }
}

fn illegal(name: &Name, violation: FactViolation) -> IllegalChange {
    IllegalChange::Fact(IllegalFact { name: name.clone(), violation })
}

impl LogBuilder {
    /// A builder that goes on from a graph of these parts. The caller makes sure that they fit each
    /// other. The error is a name that two jobs, or two datasets, have, and which of the two.
    pub(super) fn from_parts(
        version: u64,
        jobs: Slots<JobNode>,
        (datasets, dataset_edges): (Slots<DatasetNode>, Vec<DatasetEdges>),
        edges: usize,
    ) -> Result<Self, (&'static str, Name)> {
        let (jobs, datasets) = (Nodes::of(jobs), Nodes::of(datasets));
        let (job_slots, dataset_slots) = in_two_threads(
            jobs.nodes.len() > LARGE_JOBS,
            || jobs.slots_by_name(|job| &job.name),
            || datasets.slots_by_name(|dataset| &dataset.name),
        );
        let job_slots = job_slots.map_err(|name| ("job", name))?;
        let dataset_slots = dataset_slots.map_err(|name| ("dataset", name))?;
        let maybe_orphans = Vec::new();
        Ok(Self {
            version,
            jobs,
            datasets,
            dataset_edges,
            job_slots,
            dataset_slots,
            edges,
            maybe_orphans,
        })
    }

    /// The version that the changes so far lead to.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Adds the change that makes the next version. O(log n) for each name in it.
    ///
    /// # Errors
    /// [`IllegalChange`] if it contradicts what came before; the builder is then of no more use.
    /// That the jobs form no cycle is seen in [`finish`](Self::finish).
    pub fn add(&mut self, change: &Change) -> Result<(), IllegalChange> {
        if change.is_empty() {
            return Err(IllegalChange::Empty);
        }
        if change.facts.len() > 1 && change.facts.contains(&Fact::GraphDeleted {}) {
            return Err(IllegalChange::DeletedAmongOthers);
        }
        self.version += 1;
        // Removals come first: a dataset may get another producer within one change.
        change.facts.iter().try_for_each(|fact| self.take_out(fact))?;
        change.facts.iter().try_for_each(|fact| self.put_in(fact))?;
        self.drop_orphans();
        change.facts.iter().try_for_each(|fact| match fact {
            Fact::DatasetUndeclared { name } if self.is_implied(name) => {
                Err(illegal(name, FactViolation::InUse))
            }
            _ => Ok(()),
        })
    }

    fn take_out(&mut self, fact: &Fact) -> Result<(), IllegalChange> {
        match fact {
            Fact::GraphDeleted {} => *self = Self { version: self.version, ..Self::default() },
            Fact::JobDeleted { name } => {
                let slot = self.job_slots.remove(name);
                let gone = slot.and_then(|slot| Some((slot, self.jobs.remove(slot)?)));
                let (slot, job) = gone.ok_or_else(|| illegal(name, FactViolation::JobAbsent))?;
                self.edges -= job.inputs.len() + job.outputs.len();
                for dataset in job.inputs.iter() {
                    self.forget_mention(slot, Side::Input, dataset);
                }
                for dataset in job.outputs.iter() {
                    self.forget_mention(slot, Side::Output, dataset);
                }
            }
            Fact::JobChanged { name, inputs_removed, outputs_removed, .. } => {
                let slot = self.job_slot(name)?;
                for (side, names) in
                    [(Side::Input, inputs_removed), (Side::Output, outputs_removed)]
                {
                    for name in names {
                        let absent = || illegal(name, FactViolation::EdgeAbsent);
                        let dataset = *self.dataset_slots.get(name).ok_or_else(absent)?;
                        if !side_of(self.jobs.get_mut(slot), side).remove(dataset) {
                            return Err(absent());
                        }
                        self.edges -= 1;
                        self.forget_mention(slot, side, dataset);
                    }
                }
            }
            Fact::DatasetUndeclared { name } => {
                let slot = self.dataset_slots.get(name).copied();
                let slot = slot.ok_or_else(|| illegal(name, FactViolation::Undeclared))?;
                if self.datasets.get_mut(slot).metadata.take().is_none() {
                    return Err(illegal(name, FactViolation::Undeclared));
                }
                self.maybe_orphans.push(slot);
            }
            Fact::JobCreated { .. }
            | Fact::DatasetChanged { .. }
            | Fact::DatasetDeclared { .. } => {}
        }
        Ok(())
    }

    fn put_in(&mut self, fact: &Fact) -> Result<(), IllegalChange> {
        match fact {
            Fact::JobCreated { name, inputs, outputs, spec } => {
                if self.job_slots.contains_key(name) {
                    return Err(illegal(name, FactViolation::JobExists));
                }
                let slot = self.jobs.insert(JobNode {
                    name: name.clone(),
                    version: self.version,
                    spec: spec.clone(),
                    inputs: Neighbours::default(),
                    outputs: Neighbours::default(),
                });
                self.job_slots.insert(name.clone(), slot);
                self.link_all(slot, Side::Input, inputs)?;
                self.link_all(slot, Side::Output, outputs)
            }
            Fact::JobChanged { name, inputs_added, outputs_added, spec, .. } => {
                let slot = self.job_slot(name)?;
                self.link_all(slot, Side::Input, inputs_added)?;
                self.link_all(slot, Side::Output, outputs_added)?;
                let job = self.jobs.get_mut(slot);
                job.version = self.version;
                if let Some(spec) = spec {
                    job.spec = spec.clone();
                }
                Ok(())
            }
            Fact::DatasetDeclared { name, metadata } | Fact::DatasetChanged { name, metadata } => {
                let slot = self.linked_dataset(name);
                let before = self.datasets.get_mut(slot).metadata.replace(metadata.clone());
                match (fact, before) {
                    (Fact::DatasetDeclared { .. }, Some(_)) => {
                        Err(illegal(name, FactViolation::Declared))
                    }
                    (Fact::DatasetChanged { .. }, None) => {
                        Err(illegal(name, FactViolation::Undeclared))
                    }
                    _ => Ok(()),
                }
            }
            Fact::GraphDeleted {} | Fact::JobDeleted { .. } | Fact::DatasetUndeclared { .. } => {
                Ok(())
            }
        }
    }

    /// Whether jobs mention the dataset and nothing declares it.
    fn is_implied(&self, dataset: &Name) -> bool {
        let node = self.dataset_slots.get(dataset).and_then(|&slot| self.datasets.find(slot));
        node.is_some_and(|node| node.metadata.is_none())
    }

    fn job_slot(&self, name: &Name) -> Result<Slot, IllegalChange> {
        let slot = self.job_slots.get(name).copied();
        slot.ok_or_else(|| illegal(name, FactViolation::JobAbsent))
    }

    fn link_all(&mut self, job: Slot, side: Side, names: &[Name]) -> Result<(), IllegalChange> {
        if names.is_empty() {
            return Ok(());
        }
        let mut linked: Vec<Slot> = names.iter().map(|name| self.linked_dataset(name)).collect();
        linked.sort_unstable();
        let twice = linked.windows(2).any(|pair| pair[0] == pair[1]);
        let list = side_of(self.jobs.get_mut(job), side);
        if !twice && list.len() == 0 {
            *list = Neighbours::from_sorted(&linked);
        } else if twice || !linked.iter().all(|&dataset| list.insert(dataset)) {
            return Err(illegal(&names[0], FactViolation::EdgeExists));
        }
        self.edges += linked.len();
        for dataset in linked {
            let edges = &mut self.dataset_edges[dataset as usize];
            match side {
                Side::Input => drop(edges.consumers.insert(job)),
                Side::Output if edges.producer.is_none() => edges.producer = Some(job),
                Side::Output => {
                    let name = &self.datasets.get_mut(dataset).name;
                    return Err(illegal(name, FactViolation::SecondProducer));
                }
            }
        }
        Ok(())
    }

    /// The dataset's slot. The dataset is created if nothing mentions it yet.
    fn linked_dataset(&mut self, name: &Name) -> Slot {
        if let Some(slot) = self.dataset_slots.get(name) {
            return *slot;
        }
        let slot = self.datasets.insert(DatasetNode { name: name.clone(), metadata: None });
        if self.dataset_edges.len() == slot as usize {
            self.dataset_edges.push(DatasetEdges::default());
        }
        self.dataset_slots.insert(name.clone(), slot);
        slot
    }

    /// Takes the edge out of the dataset, after it was taken out of the job.
    fn forget_mention(&mut self, job: Slot, side: Side, dataset: Slot) {
        let edges = &mut self.dataset_edges[dataset as usize];
        match side {
            Side::Input => drop(edges.consumers.remove(job)),
            Side::Output => edges.producer = None,
        }
        if edges.mentions() == 0 {
            self.maybe_orphans.push(dataset);
        }
    }

    fn drop_orphans(&mut self) {
        while let Some(dataset) = self.maybe_orphans.pop() {
            if self.dataset_edges[dataset as usize].mentions() > 0 {
                continue;
            }
            let implied = self.datasets.find(dataset).filter(|node| node.metadata.is_none());
            if let Some(name) = implied.map(|node| node.name.clone()) {
                self.dataset_slots.remove(&name);
                self.datasets.remove(dataset);
            }
        }
    }

    /// The graph. O(n log n) for n jobs, datasets and edges; for a large graph, in two threads.
    ///
    /// # Errors
    /// [`LogIsCyclic`] if its jobs form a cycle.
    pub fn finish(self) -> Result<Graph, LogIsCyclic> {
        let Self {
            version, jobs, datasets, dataset_edges, job_slots, dataset_slots, edges, ..
        } = self;
        let (job_count, dataset_count) = (job_slots.len(), dataset_slots.len());
        drop((job_slots, dataset_slots));
        let (order, (job_index, dataset_index)) = in_two_threads(
            job_count > LARGE_JOBS,
            || {
                let sorted = sorted(&jobs.nodes, &dataset_edges)?;
                Some(Order::of(&sorted, jobs.nodes.len()))
            },
            || {
                let jobs = index(&jobs.nodes, job_count, |job| &job.name);
                (jobs, index(&datasets.nodes, dataset_count, |dataset| &dataset.name))
            },
        );
        let order = order.ok_or(LogIsCyclic { version })?;
        let jobs = Slots::from_nodes(jobs.nodes.into_iter());
        let datasets = Slots::from_nodes(datasets.nodes.into_iter());
        let dataset_edges = dataset_edges.into_iter().collect();
        let indexes = (job_index, dataset_index);
        Ok(Graph::from_parts(version, jobs, (datasets, dataset_edges), indexes, order, edges))
    }
}

/// The jobs that a log leads to form a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the jobs form a cycle at version {version}")]
pub struct LogIsCyclic {
    /// The last version of the log.
    pub version: u64,
}

fn side_of(job: &mut JobNode, side: Side) -> &mut Neighbours {
    match side {
        Side::Input => &mut job.inputs,
        Side::Output => &mut job.outputs,
    }
}

fn index<T>(nodes: &[Option<T>], count: usize, name_of: impl Fn(&T) -> &Name) -> NameIndex {
    let name_in = |slot: Slot| nodes[slot as usize].as_ref().map(&name_of);
    let names = (0..nodes.len() as Slot).filter_map(|slot| Some((name_in(slot)?, slot)));
    NameIndex::of(names, count, name_in).expect("a map had each name once")
}

/// A topological order of the jobs, by A. Kahn's algorithm (1962); `None` if there is a cycle.
fn sorted(jobs: &[Option<JobNode>], dataset_edges: &[DatasetEdges]) -> Option<Vec<Slot>> {
    let edges_of = |dataset: Slot| &dataset_edges[dataset as usize];
    let waits_for = |job: &Option<JobNode>| {
        let inputs = job.iter().flat_map(|job| job.inputs.iter());
        inputs.filter(|&dataset| edges_of(dataset).producer.is_some()).count() as u32
    };
    let mut waiting_for: Vec<u32> = jobs.iter().map(waits_for).collect();
    let there = (0..).zip(jobs).filter_map(|(slot, job)| Some((slot, job.as_ref()?)));
    let mut sorted: Vec<Slot> = Vec::with_capacity(jobs.len());
    let mut count = 0;
    for (slot, _) in there {
        count += 1;
        if waiting_for[slot as usize] == 0 {
            sorted.push(slot);
        }
    }
    let mut done = 0;
    while let Some(&slot) = sorted.get(done) {
        done += 1;
        let outputs = jobs[slot as usize].iter().flat_map(|job| job.outputs.iter());
        for next in outputs.flat_map(|dataset| edges_of(dataset).consumers.iter()) {
            waiting_for[next as usize] -= 1;
            if waiting_for[next as usize] == 0 {
                sorted.push(next);
            }
        }
    }
    (done == count).then_some(sorted)
}
