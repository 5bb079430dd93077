//! The rows that a turn writes: those that differ between the graph that it read and the graph that
//! it leads to. Only what its changes touched is compared. However many changes a turn has, each
//! table is written at most once for each kind of statement.

use std::collections::HashSet;

use crate::graph::{Dataset, Graph, Job, Touched};

/// Rows by table and by what is done to them. Ids of deleted rows are those of the graph before,
/// all others those of the graph after. Deletions must come first: ids and names are used again.
#[derive(Default)]
pub(super) struct RowDelta<'g> {
    pub(super) jobs_gone: Vec<u32>,
    pub(super) datasets_gone: Vec<u32>,
    pub(super) datasets_new: Vec<Dataset<'g>>,
    pub(super) datasets_changed: Vec<Dataset<'g>>,
    pub(super) jobs_new: Vec<Job<'g>>,
    pub(super) jobs_changed: Vec<JobChange<'g>>,
}

/// A job that keeps its row, and which of the row's larger columns differ beside its version.
pub(super) struct JobChange<'g> {
    pub(super) job: Job<'g>,
    pub(super) spec: bool,
    pub(super) inputs: bool,
}

impl<'g> RowDelta<'g> {
    /// The rows that tell `before` from `after`, which the changes that touched `touched` have led
    /// to. O(log n) for each id touched, plus the inputs of jobs of which some were touched.
    pub(super) fn between(before: &Graph, after: &'g Graph, touched: &[&Touched]) -> Self {
        let mut delta = Self::default();
        let inputs =
            touched.iter().flat_map(|touched| [&touched.inputs_removed, &touched.inputs_added]);
        let inputs_touched: HashSet<u32> = inputs.flatten().map(|(job, _)| *job).collect();
        let jobs = touched.iter().flat_map(|touched| {
            [&touched.jobs_deleted, &touched.jobs_changed, &touched.jobs_created]
        });
        for id in sorted(jobs.flatten().copied()) {
            match (before.job_of_id(id), after.job_of_id(id)) {
                (None, None) => {}
                (Some(_), None) => delta.jobs_gone.push(id),
                (None, Some(new)) => delta.jobs_new.push(new),
                (Some(old), Some(new)) if old.name() != new.name() => {
                    delta.jobs_gone.push(id);
                    delta.jobs_new.push(new);
                }
                (Some(old), Some(new)) => delta.jobs_changed.push(JobChange {
                    job: new,
                    spec: new.spec() != old.spec(),
                    inputs: inputs_touched.contains(&id) && !new.input_ids().eq(old.input_ids()),
                }),
            }
        }

        let datasets = touched.iter().flat_map(|touched| {
            [&touched.datasets_deleted, &touched.datasets_changed, &touched.datasets_created]
        });
        let produced =
            touched.iter().flat_map(|touched| [&touched.outputs_removed, &touched.outputs_added]);
        let produced = produced.flatten().map(|(_, dataset)| *dataset);
        for id in sorted(datasets.flatten().copied().chain(produced)) {
            match (before.dataset_of_id(id), after.dataset_of_id(id)) {
                (None, None) => {}
                (Some(_), None) => delta.datasets_gone.push(id),
                (None, Some(new)) => delta.datasets_new.push(new),
                (Some(old), Some(new)) if old.name() != new.name() => {
                    delta.datasets_gone.push(id);
                    delta.datasets_new.push(new);
                }
                (Some(old), Some(new))
                    if old.metadata() != new.metadata()
                        || old.producer_id() != new.producer_id() =>
                {
                    delta.datasets_changed.push(new);
                }
                (Some(_), Some(_)) => {}
            }
        }
        delta
    }
}

/// The ids, each once.
fn sorted(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
