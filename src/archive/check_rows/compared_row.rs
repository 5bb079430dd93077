//! The rows of the two tables, each compared with what the log has under its name.

use std::ops::Bound;

use super::difference::{RowFault, RowOf};
use crate::graph::{CanonicalJson, Graph, Name, is_id};
use crate::store::{
    RowPage, RowSelection, Store, StoreError, StoredDataset, StoredJob, StoredReference,
};

/// A row of one of the two tables, and what the log has for it.
pub(super) trait ComparedRow: Sized {
    const OF: RowOf;

    fn read(
        store: &Store,
        graph: &Name,
        selection: RowSelection<'_>,
    ) -> Result<Option<RowPage<Self>>, StoreError>;

    fn id(&self) -> i64;

    fn name(&self) -> &str;

    /// The first column that holds a value of another type.
    fn damaged(&self) -> Option<&'static str>;

    /// The name as the replayed graph has it; `None` if it has no such job or dataset.
    fn logged_name<'g>(graph: &'g Graph, name: &str) -> Option<&'g Name>;

    /// All names of the replayed graph.
    fn logged_names(graph: &Graph) -> impl Iterator<Item = &Name>;

    /// How the row differs from what the log has under its name; empty if that has none.
    fn faults(&self, graph: &Graph) -> Vec<RowFault>;

    /// Why no node can load the row, whatever the log has; empty if one can.
    fn unloadable(&self) -> Vec<RowFault> {
        let id = self.id();
        match self.damaged() {
            Some(field) => vec![RowFault::Field { field, id }],
            None if !is_id(id) => vec![RowFault::Id(id)],
            None => Vec::new(),
        }
    }
}

impl ComparedRow for StoredDataset {
    const OF: RowOf = RowOf::Dataset;

    fn read(
        store: &Store,
        graph: &Name,
        selection: RowSelection<'_>,
    ) -> Result<Option<RowPage<Self>>, StoreError> {
        store.dataset_rows(graph, selection)
    }

    fn id(&self) -> i64 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn damaged(&self) -> Option<&'static str> {
        self.damaged
    }

    fn logged_name<'g>(graph: &'g Graph, name: &str) -> Option<&'g Name> {
        graph.dataset(name).map(|dataset| dataset.name())
    }

    fn logged_names(graph: &Graph) -> impl Iterator<Item = &Name> {
        graph.datasets_from(Bound::Unbounded).map(|dataset| dataset.name())
    }

    fn faults(&self, graph: &Graph) -> Vec<RowFault> {
        let Some(expected) = graph.dataset(&self.name) else { return Vec::new() };
        let mut faults = Vec::new();
        if expected.metadata().map(CanonicalJson::as_str) != self.metadata.as_deref() {
            faults.push(RowFault::Metadata);
        }
        let producer = expected.producer().map(|job| job.name().to_string());
        if producer.clone().map(StoredReference::Name) != self.producer {
            faults.push(RowFault::Producer { expected: producer, actual: self.producer.clone() });
        }
        faults
    }
}

impl ComparedRow for StoredJob {
    const OF: RowOf = RowOf::Job;

    fn read(
        store: &Store,
        graph: &Name,
        selection: RowSelection<'_>,
    ) -> Result<Option<RowPage<Self>>, StoreError> {
        store.job_rows(graph, selection)
    }

    fn id(&self) -> i64 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn damaged(&self) -> Option<&'static str> {
        self.damaged
    }

    fn logged_name<'g>(graph: &'g Graph, name: &str) -> Option<&'g Name> {
        graph.job(name).map(|job| job.name())
    }

    fn logged_names(graph: &Graph) -> impl Iterator<Item = &Name> {
        graph.jobs_from(Bound::Unbounded).map(|job| job.name())
    }

    fn faults(&self, graph: &Graph) -> Vec<RowFault> {
        let Some(expected) = graph.job(&self.name) else { return Vec::new() };
        let mut faults = Vec::new();
        if expected.spec().as_str() != self.spec {
            faults.push(RowFault::Spec);
        }
        if i64::try_from(expected.version()) != Ok(self.version) {
            let (expected, actual) = (expected.version(), self.version);
            faults.push(RowFault::Version { expected, actual });
        }
        faults.extend(match &self.inputs {
            None => Some(RowFault::NoList),
            Some(inputs) => differing_inputs(&expected.inputs(), inputs),
        });
        faults
    }
}

/// The fault, if a row's inputs are not those of the log, which are sorted.
fn differing_inputs(expected: &[&Name], stored: &[StoredReference]) -> Option<RowFault> {
    let mut stored = stored.to_vec();
    stored.sort_unstable();
    let expected: Vec<StoredReference> =
        expected.iter().map(|dataset| StoredReference::Name(dataset.to_string())).collect();
    if stored == expected {
        return None;
    }
    let missing = expected.iter().find_map(|input| match input {
        StoredReference::Name(name) if stored.binary_search(input).is_err() => Some(name.clone()),
        _ => None,
    });
    let unknown = stored.iter().find(|input| expected.binary_search(input).is_err()).cloned();
    Some(RowFault::Inputs { missing, unknown })
}
