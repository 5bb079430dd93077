//! `apply`: what a change makes of a graph. Total, and holds no rule: it does as the facts say.

use super::acyclic::{self, Cyclic};
use super::adjacency::{Graph, JobNode};
use super::change::{Change, Fact};
use super::name::Name;
use super::neighbours::Neighbours;
use super::operation::Side;
use super::order::Slot;

/// The graph after `change`, one version on. O(log n) for each name that the change holds, beyond what the topological order
/// costs (see [`decide`](super::decide())).
///
/// Total: a fact about something that is not there is passed over. Facts that break a rule, which `decide` never gives, leave a graph
/// that breaks it.
#[must_use]
pub fn apply(graph: &Graph, change: &Change) -> Graph {
    link(graph, change).unwrap_or_else(|cyclic| cyclic.graph)
}

/// As [`apply`], and tells whether the jobs would form a cycle.
pub(super) fn link(graph: &Graph, change: &Change) -> Result<Graph, Box<Cyclic>> {
    let mut next = graph.clone();
    next.version += 1;
    let mut edges = Applied::default();
    // What goes, goes first: a dataset may change hands within one change.
    for fact in &change.facts {
        next.take_out(fact, &mut edges);
    }
    for fact in &change.facts {
        next.put_in(fact, &mut edges);
    }
    next.drop_orphans(&edges.maybe_orphans);
    acyclic::restore_order(next, &edges.created, &edges.added)
}

/// What a change has touched, by slot.
#[derive(Default)]
struct Applied {
    /// Datasets that lost a mention or their declaration.
    maybe_orphans: Vec<Name>,
    created: Vec<Slot>,
    /// Job, side, dataset.
    added: Vec<(Slot, Side, Slot)>,
}

impl Graph {
    fn take_out(&mut self, fact: &Fact, edges: &mut Applied) {
        match fact {
            Fact::GraphDeleted {} => *self = Self::empty_at(self.version),
            Fact::JobDeleted { name } => {
                let Some(slot) = self.job_index.remove(name.as_str()) else { return };
                let JobNode { inputs, outputs, .. } = self.jobs.get(slot).clone();
                for dataset in inputs.iter() {
                    self.unlink(slot, Side::Input, dataset, edges);
                }
                for dataset in outputs.iter() {
                    self.unlink(slot, Side::Output, dataset, edges);
                }
                self.jobs.remove(slot);
                self.order.remove(slot);
            }
            Fact::JobChanged { name, inputs_removed, outputs_removed, .. } => {
                let Some(slot) = self.job_index.get(name.as_str()) else { return };
                for (side, names) in [(Side::Input, inputs_removed), (Side::Output, outputs_removed)] {
                    for name in names {
                        if let Some(dataset) = self.dataset_index.get(name.as_str()) {
                            self.unlink(slot, side, dataset, edges);
                        }
                    }
                }
            }
            Fact::DatasetUndeclared { name } => {
                if let Some(slot) = self.dataset_index.get(name.as_str()) {
                    self.datasets.get_mut(slot).metadata = None;
                    edges.maybe_orphans.push(name.clone());
                }
            }
            Fact::JobCreated { .. } | Fact::DatasetChanged { .. } | Fact::DatasetDeclared { .. } => {}
        }
    }

    fn put_in(&mut self, fact: &Fact, edges: &mut Applied) {
        match fact {
            Fact::JobCreated { name, inputs, outputs, spec } => {
                if self.job_index.get(name.as_str()).is_some() {
                    return;
                }
                let slot = self.jobs.insert(JobNode {
                    name: name.clone(),
                    version: self.version,
                    spec: spec.clone(),
                    inputs: Neighbours::default(),
                    outputs: Neighbours::default(),
                });
                self.job_index.insert(name, slot);
                edges.created.push(slot);
                self.link_all(slot, Side::Input, inputs, edges);
                self.link_all(slot, Side::Output, outputs, edges);
            }
            Fact::JobChanged { name, inputs_added, outputs_added, spec, .. } => {
                let Some(slot) = self.job_index.get(name.as_str()) else { return };
                self.link_all(slot, Side::Input, inputs_added, edges);
                self.link_all(slot, Side::Output, outputs_added, edges);
                let job = self.jobs.get_mut(slot);
                job.version = self.version;
                if let Some(spec) = spec {
                    job.spec = spec.clone();
                }
            }
            Fact::DatasetDeclared { name, metadata } | Fact::DatasetChanged { name, metadata } => {
                let slot = self.dataset_slot(name);
                self.datasets.get_mut(slot).metadata = Some(metadata.clone());
            }
            Fact::GraphDeleted {} | Fact::JobDeleted { .. } | Fact::DatasetUndeclared { .. } => {}
        }
    }

    fn link_all(&mut self, job: Slot, side: Side, names: &[Name], edges: &mut Applied) {
        let mut linked: Vec<Slot> = names.iter().map(|name| self.dataset_slot(name)).collect();
        linked.sort_unstable();
        linked.dedup();
        for &dataset in &linked {
            let node = self.dataset_edges_mut(dataset);
            match side {
                Side::Input => {
                    node.consumers.insert(job);
                }
                Side::Output => node.producer = Some(job),
            }
            edges.added.push((job, side, dataset));
        }
        let node = self.jobs.get_mut(job);
        let list = match side {
            Side::Input => &mut node.inputs,
            Side::Output => &mut node.outputs,
        };
        let before = list.len();
        if before == 0 {
            *list = Neighbours::from_sorted(&linked);
        } else {
            for &dataset in &linked {
                list.insert(dataset);
            }
        }
        self.edges += list.len() - before;
    }

    fn unlink(&mut self, job: Slot, side: Side, dataset: Slot, edges: &mut Applied) {
        let node = self.jobs.get_mut(job);
        let was_there = match side {
            Side::Input => node.inputs.remove(dataset),
            Side::Output => node.outputs.remove(dataset),
        };
        if !was_there {
            return;
        }
        self.edges -= 1;
        let node = self.dataset_edges_mut(dataset);
        match side {
            Side::Input => {
                node.consumers.remove(job);
            }
            Side::Output if node.producer == Some(job) => node.producer = None,
            Side::Output => {}
        }
        if node.mentions() == 0 {
            edges.maybe_orphans.push(self.datasets.get(dataset).name.clone());
        }
    }

    /// The dataset's slot, a new one if it is mentioned for the first time.
    fn dataset_slot(&mut self, name: &Name) -> Slot {
        match self.dataset_index.get(name.as_str()) {
            Some(slot) => slot,
            None => self.add_dataset(name),
        }
    }

    fn drop_orphans(&mut self, names: &[Name]) {
        for name in names {
            let Some(slot) = self.dataset_index.get(name.as_str()) else { continue };
            if self.datasets.get(slot).metadata.is_none() && self.dataset_edges(slot).mentions() == 0 {
                self.datasets.remove(slot);
                self.dataset_index.remove(name.as_str());
            }
        }
    }
}
