//! What a change does to rows: the facts with ids for names, and the datasets that come and go with their mentions.

use std::collections::BTreeSet;

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
        let mut delta = Self::default();
        let mut mentioned = BTreeSet::new();
        for fact in &change.facts {
            delta.add(fact, before, after, &mut mentioned);
        }
        for name in mentioned {
            match (before.dataset(name.as_str()), after.dataset(name.as_str())) {
                (Some(gone), None) => delta.datasets_gone.push(gone.id()),
                (None, Some(new)) => delta.datasets_new.push((new.id(), new.name(), new.metadata())),
                (Some(old), Some(new)) if old.id() != new.id() => {
                    delta.datasets_gone.push(old.id());
                    delta.datasets_new.push((new.id(), new.name(), new.metadata()));
                }
                (Some(old), Some(new)) if old.metadata() != new.metadata() => {
                    delta.datasets_changed.push((new.id(), new.metadata()));
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        delta
    }

    fn add(&mut self, fact: &'d Fact, before: &'d Graph, after: &'d Graph, mentioned: &mut BTreeSet<&'d Name>) {
        match fact {
            Fact::GraphDeleted {} => self.deletes_all = true,
            Fact::JobDeleted { name } => {
                let job = before.job(name.as_str()).expect("a job that goes was there");
                let (inputs, outputs) = (job.inputs(), job.outputs());
                self.inputs_gone.extend(edges(before, job.id(), inputs.iter().copied()));
                self.outputs_gone.extend(edges(before, job.id(), outputs.iter().copied()));
                self.jobs_gone.push(job.id());
                mentioned.extend(inputs);
                mentioned.extend(outputs);
            }
            Fact::JobChanged { inputs_added, inputs_removed, name, outputs_added, outputs_removed, spec } => {
                let job = after.job(name.as_str()).expect("a job that changed is there").id();
                self.inputs_gone.extend(edges(before, job, inputs_removed));
                self.outputs_gone.extend(edges(before, job, outputs_removed));
                self.inputs_new.extend(edges(after, job, inputs_added));
                self.outputs_new.extend(edges(after, job, outputs_added));
                self.jobs_changed.push((job, spec.as_ref()));
                mentioned.extend([inputs_added, inputs_removed, outputs_added, outputs_removed].into_iter().flatten());
            }
            Fact::JobCreated { inputs, name, outputs, spec } => {
                let job = after.job(name.as_str()).expect("a job that came is there").id();
                self.inputs_new.extend(edges(after, job, inputs));
                self.outputs_new.extend(edges(after, job, outputs));
                self.jobs_new.push((job, name, spec));
                mentioned.extend(inputs);
                mentioned.extend(outputs);
            }
            Fact::DatasetUndeclared { name }
            | Fact::DatasetChanged { name, .. }
            | Fact::DatasetDeclared { name, .. } => {
                mentioned.insert(name);
            }
        }
    }
}

fn edges<'n>(graph: &Graph, job: u32, datasets: impl IntoIterator<Item = &'n Name>) -> Vec<Edge> {
    let id = |name: &Name| graph.dataset(name.as_str()).expect("an edge's dataset is there").id();
    datasets.into_iter().map(|name| (job, id(name))).collect()
}
