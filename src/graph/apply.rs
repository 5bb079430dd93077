//! `apply`: what a change makes of a graph. Total, and holds no rule: it does as the facts say.

use super::acyclic::{self, Cyclic};
use super::adjacency::{Graph, JobNode};
use super::change::{Change, Fact};
use super::name::Name;
use super::neighbours::Neighbours;
use super::operation::Side;
use super::order::Slot;
use super::replay::{Breach, Wrong};
use super::touched::Touched;

/// The graph after `change`, one version on. O(log n) for each name that the change holds, beyond
/// what the topological order costs (see [`decide`](super::decide())).
///
/// Total: a fact about something that is not there is passed over. Facts that break a rule, which
/// `decide` never gives, leave a graph that breaks it.
#[must_use]
pub fn apply(graph: &Graph, change: &Change) -> Graph {
    apply_all(graph, [change])
}

/// The graph after all of `changes`, one version on for each. As [`apply()`] of one after another,
/// but what one has copied the next changes in place.
#[must_use]
pub fn apply_all<'c>(graph: &Graph, changes: impl IntoIterator<Item = &'c Change>) -> Graph {
    changes.into_iter().fold(graph.clone(), |graph, change| {
        link(graph, change, &mut NotLookedUp).map_or_else(|cyclic| cyclic.graph, |(graph, _)| graph)
    })
}

/// Where datasets are, of which whoever made the change has looked some up already.
pub(super) trait DatasetSlots {
    /// The place of a dataset that was looked up; it holds nothing if the dataset is not there, and
    /// is filled when the dataset comes to be. `None`: it was not looked up.
    fn slot(&mut self, dataset: &Name) -> Option<&mut Option<Slot>>;
}

/// No dataset was looked up.
pub(super) struct NotLookedUp;

impl DatasetSlots for NotLookedUp {
    fn slot(&mut self, _: &Name) -> Option<&mut Option<Slot>> {
        None
    }
}

/// As [`apply()`], and tells what was touched, or that the jobs would form a cycle.
pub(super) fn link(
    graph: Graph,
    change: &Change,
    slots: &mut dyn DatasetSlots,
) -> Result<(Graph, Touched), Box<Cyclic>> {
    let mut breach = None;
    link_and_note(graph, change, slots, &mut breach)
}

/// As [`link`], and notes the first fact that `decide` would never have given.
pub(super) fn link_and_note(
    graph: Graph,
    change: &Change,
    slots: &mut dyn DatasetSlots,
    breach: &mut Option<Breach>,
) -> Result<(Graph, Touched), Box<Cyclic>> {
    let mut next = graph;
    next.version += 1;
    let mut work = Work { touched: Touched::default(), maybe_orphans: Vec::new(), slots, breach };
    // What goes, goes first: a dataset may change hands within one change.
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
    /// Datasets that lost a mention or their declaration; a dataset may come more than once.
    maybe_orphans: Vec<Slot>,
    slots: &'k mut dyn DatasetSlots,
    breach: &'k mut Option<Breach>,
}

impl Work<'_> {
    /// Notes a fact that does not fit the graph, unless another was noted before.
    fn note(&mut self, name: &Name, wrong: Wrong) {
        self.breach.get_or_insert_with(|| Breach { name: name.clone(), wrong });
    }
}

impl Graph {
    fn take_out(&mut self, fact: &Fact, work: &mut Work<'_>) {
        match fact {
            Fact::GraphDeleted {} => *self = Self::empty_at(self.version),
            Fact::JobDeleted { name } => {
                let Some(slot) = self.job_index.remove(name.as_str()) else {
                    return work.note(name, Wrong::JobAbsent);
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
                let Some(slot) = self.job_index.get(name.as_str()) else {
                    return work.note(name, Wrong::JobAbsent);
                };
                for (side, names) in
                    [(Side::Input, inputs_removed), (Side::Output, outputs_removed)]
                {
                    for name in names {
                        let dataset = self.dataset_index.get(name.as_str());
                        if !dataset.is_some_and(|dataset| self.unlink(slot, side, dataset, work)) {
                            work.note(name, Wrong::EdgeAbsent);
                        }
                    }
                }
            }
            Fact::DatasetUndeclared { name } => {
                if let Some(slot) = self.dataset_index.get(name.as_str()) {
                    if self.datasets.get(slot).metadata.is_none() {
                        work.note(name, Wrong::Undeclared);
                    }
                    self.datasets.change_texts(slot, |dataset| dataset.metadata = None);
                    work.touched.datasets_changed.push(slot);
                    work.maybe_orphans.push(slot);
                } else {
                    work.note(name, Wrong::Undeclared);
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
                if self.job_index.get(name.as_str()).is_some() {
                    return work.note(name, Wrong::JobThere);
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
                let Some(slot) = self.job_index.get(name.as_str()) else {
                    return work.note(name, Wrong::JobAbsent);
                };
                self.link_all(slot, Side::Input, inputs_added, work);
                self.link_all(slot, Side::Output, outputs_added, work);
                work.touched.jobs_changed.push(slot);
                self.jobs.get_mut(slot).version = self.version;
                if let Some(spec) = spec {
                    if self.jobs.get(slot).spec == *spec {
                        work.note(name, Wrong::Unchanged);
                    }
                    self.jobs.change_texts(slot, |job| job.spec = spec.clone());
                }
            }
            Fact::DatasetDeclared { name, metadata } | Fact::DatasetChanged { name, metadata } => {
                let slot = self.dataset_slot(name, work);
                match (fact, &self.datasets.get(slot).metadata) {
                    (Fact::DatasetDeclared { .. }, Some(_)) => work.note(name, Wrong::Declared),
                    (Fact::DatasetChanged { .. }, None) => work.note(name, Wrong::Undeclared),
                    (Fact::DatasetChanged { .. }, Some(before)) if before == metadata => {
                        work.note(name, Wrong::Unchanged);
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
            names.iter().map(|name| self.dataset_slot(name, work)).collect();
        linked.sort_unstable();
        linked.dedup();
        if linked.len() < names.len() {
            work.note(&names[0], Wrong::EdgeThere);
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
                work.note(&names[0], Wrong::EdgeThere);
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
                    let second = node.producer.is_some();
                    node.producer = Some(job);
                    if second {
                        let name = self.datasets.get(dataset).name.clone();
                        work.note(&name, Wrong::SecondProducer);
                    }
                    work.touched.outputs_added.push((job, dataset));
                }
            }
        }
    }

    /// Whether there was such an edge.
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
                // Facts that break the rules may have given it another producer since.
                node.producer = node.producer.filter(|&producer| producer != job);
                work.touched.outputs_removed.push((job, dataset));
            }
        }
        if node.mentions() == 0 {
            work.maybe_orphans.push(dataset);
        }
        true
    }

    /// The dataset's slot, a new one if it is mentioned for the first time.
    fn dataset_slot(&mut self, name: &Name, work: &mut Work<'_>) -> Slot {
        let looked_up = work.slots.slot(name);
        let known = match &looked_up {
            Some(slot) => **slot,
            None => self.dataset_index.get(name.as_str()),
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
                self.dataset_index.remove(node.name.as_str());
                self.datasets.remove(dataset);
                work.touched.datasets_deleted.push(dataset);
            }
        }
    }
}
