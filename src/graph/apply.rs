//! `apply`: makes the changes that facts describe. It is total and holds no rule.

use super::acyclic::{self, Cyclic};
use super::change::{Change, Fact};
use super::graph::Graph;
use super::illegal::{FactViolation, IllegalFact};
use super::name::Name;
use super::neighbours::Neighbours;
use super::nodes::JobNode;
use super::operation::Side;
use super::slots::Slot;
use super::touched::Touched;

/// The graph after `change`, at the next version. O(log n) for each name in the change, plus what
/// keeping up the topological order costs (see [`decide`](super::decide())).
///
/// Total: a fact about something that does not exist is skipped. Facts that break a rule, which
/// `decide` never makes, do no harm to later ones: a dataset that gets a second producer loses its
/// first, since the graph has a place for one; edges that close a cycle leave a graph that has it.
/// [`apply_and_judge`](super::apply_and_judge) tells of them.
#[must_use]
pub fn apply(graph: &Graph, change: &Change) -> Graph {
    apply_all(graph, [change])
}

/// The graph after all of `changes`, one version on for each. As calling [`apply()`] for each, but
/// the parts that one change has copied are changed in place by the next.
#[must_use]
pub fn apply_all<'c>(graph: &Graph, changes: impl IntoIterator<Item = &'c Change>) -> Graph {
    changes.into_iter().fold(graph.clone(), |graph, change| {
        try_apply(graph, change, &mut NotLookedUp)
            .map_or_else(|cyclic| cyclic.graph, |(graph, _)| graph)
    })
}

/// The slots of datasets that the maker of the change has already looked up.
pub(super) trait DatasetSlots {
    /// `None` if the dataset was not looked up. Otherwise its slot, or a place for the slot that it
    /// gets when it is created.
    fn slot(&mut self, dataset: &Name) -> Option<&mut Option<Slot>>;
}

/// No dataset was looked up.
pub(super) struct NotLookedUp;

impl DatasetSlots for NotLookedUp {
    fn slot(&mut self, _: &Name) -> Option<&mut Option<Slot>> {
        None
    }
}

/// As [`apply()`]. Also returns what was touched, or that the jobs now form a cycle.
pub(super) fn try_apply(
    graph: Graph,
    change: &Change,
    slots: &mut dyn DatasetSlots,
) -> Result<(Graph, Touched), Box<Cyclic>> {
    try_apply_and_check(graph, change, slots, &mut None)
}

/// As [`try_apply`]. Also sets `illegal` to the first fact that `decide` would never have made, if
/// there is one.
pub(super) fn try_apply_and_check(
    graph: Graph,
    change: &Change,
    slots: &mut dyn DatasetSlots,
    illegal: &mut Option<IllegalFact>,
) -> Result<(Graph, Touched), Box<Cyclic>> {
    let mut next = graph;
    next.version += 1;
    let mut work = Work { touched: Touched::default(), maybe_orphans: Vec::new(), slots, illegal };
    // Removals come first: a dataset may get another producer within one change.
    for fact in &change.facts {
        next.take_out(fact, &mut work);
    }
    for fact in &change.facts {
        next.put_in(fact, &mut work);
    }
    next.drop_orphans(&mut work);
    acyclic::restore_order(next, work.touched)
}

struct Work<'k> {
    touched: Touched,
    /// Datasets that lost a mention or their declaration. A dataset may come more than once.
    maybe_orphans: Vec<Slot>,
    slots: &'k mut dyn DatasetSlots,
    illegal: &'k mut Option<IllegalFact>,
}

impl Work<'_> {
    /// Notes a fact that contradicts the graph, unless another was noted before.
    fn note(&mut self, name: &Name, violation: FactViolation) {
        self.illegal.get_or_insert_with(|| IllegalFact { name: name.clone(), violation });
    }
}

impl Graph {
    fn take_out(&mut self, fact: &Fact, work: &mut Work<'_>) {
        match fact {
            Fact::GraphDeleted {} => {
                *self = Self::empty_at(self.version);
                // What other facts of the change have touched is gone.
                work.touched = Touched::default();
                work.maybe_orphans.clear();
            }
            Fact::JobDeleted { name } => {
                let Some(slot) =
                    self.job_index.remove(name, |slot| self.jobs.find(slot).map(|job| &job.name))
                else {
                    return work.note(name, FactViolation::JobAbsent);
                };
                let JobNode { inputs, outputs, .. } = self.jobs.get(slot).clone();
                for dataset in inputs.iter() {
                    self.unlink(slot, Side::Input, dataset, work);
                }
                for dataset in outputs.iter() {
                    self.unlink(slot, Side::Output, dataset, work);
                }
                self.jobs.remove(slot);
                self.order.remove(slot);
                work.touched.jobs_deleted.push(slot);
            }
            // Whether there is such a job is seen when it is put in again.
            Fact::JobChanged { inputs_removed, outputs_removed, .. }
                if inputs_removed.is_empty() && outputs_removed.is_empty() => {}
            Fact::JobChanged { name, inputs_removed, outputs_removed, .. } => {
                let Some(slot) = self.job_slot(name.as_str()) else {
                    return work.note(name, FactViolation::JobAbsent);
                };
                for (side, names) in
                    [(Side::Input, inputs_removed), (Side::Output, outputs_removed)]
                {
                    for name in names {
                        let dataset = self.dataset_slot(name.as_str());
                        if !dataset.is_some_and(|dataset| self.unlink(slot, side, dataset, work)) {
                            work.note(name, FactViolation::EdgeAbsent);
                        }
                    }
                }
            }
            Fact::DatasetUndeclared { name } => {
                if let Some(slot) = self.dataset_slot(name.as_str()) {
                    if self.datasets.get(slot).metadata.is_none() {
                        work.note(name, FactViolation::Undeclared);
                    }
                    self.datasets.change_texts(slot, |dataset| dataset.metadata = None);
                    work.touched.datasets_changed.push(slot);
                    work.maybe_orphans.push(slot);
                } else {
                    work.note(name, FactViolation::Undeclared);
                }
            }
            Fact::JobCreated { .. }
            | Fact::DatasetChanged { .. }
            | Fact::DatasetDeclared { .. } => {}
        }
    }

    fn put_in(&mut self, fact: &Fact, work: &mut Work<'_>) {
        match fact {
            Fact::JobCreated { name, inputs, outputs, spec } => {
                if self.job_slot(name.as_str()).is_some() {
                    return work.note(name, FactViolation::JobExists);
                }
                let slot = self.jobs.insert(JobNode {
                    name: name.clone(),
                    version: self.version,
                    spec: spec.clone(),
                    inputs: Neighbours::default(),
                    outputs: Neighbours::default(),
                });
                self.job_index.insert(name, slot);
                work.touched.jobs_created.push(slot);
                self.link_all(slot, Side::Input, inputs, work);
                self.link_all(slot, Side::Output, outputs, work);
            }
            Fact::JobChanged { name, inputs_added, outputs_added, spec, .. } => {
                let Some(slot) = self.job_slot(name.as_str()) else {
                    return work.note(name, FactViolation::JobAbsent);
                };
                self.link_all(slot, Side::Input, inputs_added, work);
                self.link_all(slot, Side::Output, outputs_added, work);
                work.touched.jobs_changed.push(slot);
                self.jobs.get_mut(slot).version = self.version;
                if let Some(spec) = spec {
                    if self.jobs.get(slot).spec == *spec {
                        work.note(name, FactViolation::Unchanged);
                    }
                    self.jobs.change_texts(slot, |job| job.spec = spec.clone());
                }
            }
            Fact::DatasetDeclared { name, metadata } | Fact::DatasetChanged { name, metadata } => {
                let slot = self.linked_dataset(name, work);
                match (fact, &self.datasets.get(slot).metadata) {
                    (Fact::DatasetDeclared { .. }, Some(_)) => {
                        work.note(name, FactViolation::Declared)
                    }
                    (Fact::DatasetChanged { .. }, None) => {
                        work.note(name, FactViolation::Undeclared)
                    }
                    (Fact::DatasetChanged { .. }, Some(before)) if before == metadata => {
                        work.note(name, FactViolation::Unchanged);
                    }
                    _ => {}
                }
                self.datasets
                    .change_texts(slot, |dataset| dataset.metadata = Some(metadata.clone()));
                work.touched.datasets_changed.push(slot);
            }
            Fact::GraphDeleted {} | Fact::JobDeleted { .. } | Fact::DatasetUndeclared { .. } => {}
        }
    }

    fn link_all(&mut self, job: Slot, side: Side, names: &[Name], work: &mut Work<'_>) {
        if names.is_empty() {
            return;
        }
        let mut linked: Vec<Slot> =
            names.iter().map(|name| self.linked_dataset(name, work)).collect();
        linked.sort_unstable();
        linked.dedup();
        if linked.len() < names.len() {
            work.note(&names[0], FactViolation::EdgeExists);
        }
        let list = match side {
            Side::Input => &mut self.jobs.get_mut(job).inputs,
            Side::Output => &mut self.jobs.get_mut(job).outputs,
        };
        if list.len() == 0 {
            *list = Neighbours::from_sorted(&linked);
        } else {
            let asked = linked.len();
            linked.retain(|&dataset| list.insert(dataset));
            if linked.len() < asked {
                work.note(&names[0], FactViolation::EdgeExists);
            }
        }
        self.edges += linked.len();
        for dataset in linked {
            let node = self.dataset_edges_mut(dataset);
            match side {
                Side::Input => {
                    node.consumers.insert(job);
                    work.touched.inputs_added.push((job, dataset));
                }
                Side::Output => {
                    let first = node.producer.replace(job);
                    work.touched.outputs_added.push((job, dataset));
                    if let Some(first) = first {
                        self.forget_output(first, dataset, work);
                    }
                }
            }
        }
    }

    /// Takes a dataset from its first producer, after it got a second.
    fn forget_output(&mut self, first: Slot, dataset: Slot, work: &mut Work<'_>) {
        let name = self.datasets.get(dataset).name.clone();
        work.note(&name, FactViolation::SecondProducer);
        if self.jobs.get_mut(first).outputs.remove(dataset) {
            self.edges -= 1;
            work.touched.outputs_removed.push((first, dataset));
        }
    }

    /// Removes the edge. Returns whether it existed.
    fn unlink(&mut self, job: Slot, side: Side, dataset: Slot, work: &mut Work<'_>) -> bool {
        let node = self.jobs.get_mut(job);
        let was_there = match side {
            Side::Input => node.inputs.remove(dataset),
            Side::Output => node.outputs.remove(dataset),
        };
        if !was_there {
            return false;
        }
        self.edges -= 1;
        let node = self.dataset_edges_mut(dataset);
        match side {
            Side::Input => {
                node.consumers.remove(job);
                work.touched.inputs_removed.push((job, dataset));
            }
            Side::Output => {
                node.producer = None;
                work.touched.outputs_removed.push((job, dataset));
            }
        }
        if node.mentions() == 0 {
            work.maybe_orphans.push(dataset);
        }
        true
    }

    /// The dataset's slot. The dataset is created if nothing mentions it yet.
    fn linked_dataset(&mut self, name: &Name, work: &mut Work<'_>) -> Slot {
        let looked_up = work.slots.slot(name);
        let known = match &looked_up {
            Some(slot) => **slot,
            None => self.dataset_slot(name.as_str()),
        };
        let slot = known.unwrap_or_else(|| {
            let slot = self.add_dataset(name);
            work.touched.datasets_created.push(slot);
            slot
        });
        if let Some(looked_up) = looked_up {
            *looked_up = Some(slot);
        }
        slot
    }

    fn drop_orphans(&mut self, work: &mut Work<'_>) {
        for &dataset in &work.maybe_orphans {
            if self.dataset_edges(dataset).mentions() > 0 || !self.datasets.is_taken(dataset) {
                continue;
            }
            let node = self.datasets.get(dataset);
            if node.metadata.is_none() {
                let name_of = |slot| self.datasets.find(slot).map(|dataset| &dataset.name);
                self.dataset_index.remove(&node.name, name_of);
                self.datasets.remove(dataset);
                work.touched.datasets_deleted.push(dataset);
            }
        }
    }
}
