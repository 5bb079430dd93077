//! What a change does to rows: the facts with ids for names, and the datasets that come and go with their mentions.

use std::collections::HashSet;

use crate::graph::{CanonicalJson, Change, Fact, Graph, Name};

/// Rows by table and by what becomes of them. Ids are the slots of the graphs on either side of the change.
#[derive(Default)]
pub(super) struct RowDelta<'d> {
    pub(super) deletes_all: bool,
    pub(super) inputs_gone: Vec<Edge>,
    pub(super) outputs_gone: Vec<Edge>,
    pub(super) jobs_gone: Vec<u32>,
    pub(super) datasets_gone: Vec<u32>,
    pub(super) datasets_new: Vec<(u32, &'d Name, Option<&'d CanonicalJson>)>,
    pub(super) datasets_changed: Vec<(u32, Option<&'d CanonicalJson>)>,
    pub(super) jobs_new: Vec<(u32, &'d Name, &'d CanonicalJson)>,
    pub(super) jobs_changed: Vec<(u32, Option<&'d CanonicalJson>)>,
    pub(super) inputs_new: Vec<Edge>,
    pub(super) outputs_new: Vec<Edge>,
}

/// A job's id and a dataset's.
pub(super) type Edge = (u32, u32);

impl<'d> RowDelta<'d> {
    /// The rows that tell `before` from `after`. O(log n) for each name in the change.
    pub(super) fn of(change: &'d Change, before: &'d Graph, after: &'d Graph) -> Self {
        let (delta, kept, gone) = (Self::default(), HashSet::new(), HashSet::new());
        let mut comparison = Comparison { before, after, delta, kept, gone };
        for fact in &change.facts {
            comparison.add(fact);
        }
        comparison.delta
    }
}

/// A delta in the making. Looking a name up is most of its cost, so that a dataset is known by its id once it was found.
struct Comparison<'d> {
    before: &'d Graph,
    after: &'d Graph,
    delta: RowDelta<'d>,
    /// Ids, in the graph after, of datasets that were compared.
    kept: HashSet<u32>,
    /// Ids, in the graph before, of those that are in the graph after no more.
    gone: HashSet<u32>,
}

impl<'d> Comparison<'d> {
    fn add(&mut self, fact: &'d Fact) {
        match fact {
            Fact::GraphDeleted {} => self.delta.deletes_all = true,
            Fact::JobDeleted { name } => {
                let job = self.before.job(name.as_str()).expect("a job that goes was there");
                let (inputs, outputs) =
                    (self.edges_gone(job.id(), job.inputs()), self.edges_gone(job.id(), job.outputs()));
                self.delta.inputs_gone.extend(inputs);
                self.delta.outputs_gone.extend(outputs);
                self.delta.jobs_gone.push(job.id());
            }
            Fact::JobChanged { inputs_added, inputs_removed, name, outputs_added, outputs_removed, spec } => {
                let job = self.after.job(name.as_str()).expect("a job that changed is there").id();
                let (inputs, outputs) = (self.edges_gone(job, inputs_removed), self.edges_gone(job, outputs_removed));
                self.delta.inputs_gone.extend(inputs);
                self.delta.outputs_gone.extend(outputs);
                let (inputs, outputs) = (self.edges_new(job, inputs_added), self.edges_new(job, outputs_added));
                self.delta.inputs_new.extend(inputs);
                self.delta.outputs_new.extend(outputs);
                self.delta.jobs_changed.push((job, spec.as_ref()));
            }
            Fact::JobCreated { inputs, name, outputs, spec } => {
                let job = self.after.job(name.as_str()).expect("a job that came is there").id();
                let (inputs, outputs) = (self.edges_new(job, inputs), self.edges_new(job, outputs));
                self.delta.inputs_new.extend(inputs);
                self.delta.outputs_new.extend(outputs);
                self.delta.jobs_new.push((job, name, spec));
            }
            Fact::DatasetUndeclared { name }
            | Fact::DatasetChanged { name, .. }
            | Fact::DatasetDeclared { name, .. } => {
                self.compare(name);
            }
        }
    }

    fn edges_new(&mut self, job: u32, datasets: impl IntoIterator<Item = &'d Name>) -> Vec<Edge> {
        let id = |name| self.compare(name).expect("a new edge's dataset is there");
        datasets.into_iter().map(id).map(|dataset| (job, dataset)).collect()
    }

    fn edges_gone(&mut self, job: u32, datasets: impl IntoIterator<Item = &'d Name>) -> Vec<Edge> {
        let mut edges = Vec::new();
        for name in datasets {
            self.compare(name);
            edges.push((job, self.before.dataset(name.as_str()).expect("a former edge's dataset was there").id()));
        }
        edges
    }

    /// Compares the dataset's rows, once. Its id in the graph after.
    fn compare(&mut self, name: &'d Name) -> Option<u32> {
        let before = || self.before.dataset(name.as_str());
        let Some(new) = self.after.dataset(name.as_str()) else {
            if let Some(old) = before()
                && self.gone.insert(old.id())
            {
                self.delta.datasets_gone.push(old.id());
            }
            return None;
        };
        if !self.kept.insert(new.id()) {
            return Some(new.id());
        }
        match before() {
            None => self.delta.datasets_new.push((new.id(), new.name(), new.metadata())),
            Some(old) if old.id() != new.id() => {
                self.delta.datasets_gone.push(old.id());
                self.delta.datasets_new.push((new.id(), new.name(), new.metadata()));
            }
            Some(old) if old.metadata() != new.metadata() => {
                self.delta.datasets_changed.push((new.id(), new.metadata()));
            }
            Some(_) => {}
        }
        Some(new.id())
    }
}
