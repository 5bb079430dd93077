//! What a turn does to rows: what tells the graph that it read from the graph that it leads to,
//! looked for only where its changes touched something. However many changes a turn holds, each
//! table is written at most once a kind of statement.

use std::collections::HashSet;

use crate::graph::{CanonicalJson, Dataset, Graph, Job, Side, Touched};

/// Rows by table and by what becomes of them. Ids are those of the graphs on either side. What goes
/// must go first: ids, names and the place of a producer are used again.
#[derive(Default)]
pub(super) struct RowDelta<'g> {
    pub(super) inputs_gone: Vec<Edge>,
    pub(super) outputs_gone: Vec<Edge>,
    pub(super) jobs_gone: Vec<u32>,
    pub(super) datasets_gone: Vec<u32>,
    pub(super) datasets_new: Vec<Dataset<'g>>,
    pub(super) datasets_changed: Vec<Dataset<'g>>,
    pub(super) jobs_new: Vec<Job<'g>>,
    /// With the specification, if it is another.
    pub(super) jobs_changed: Vec<(Job<'g>, Option<&'g CanonicalJson>)>,
    pub(super) inputs_new: Vec<Edge>,
    pub(super) outputs_new: Vec<Edge>,
}

/// A job's id and a dataset's.
pub(super) type Edge = (u32, u32);

impl<'g> RowDelta<'g> {
    /// The rows that tell `before` from `after`, which the changes that touched `touched` have led
    /// to. O(log n) for each id touched.
    pub(super) fn between(before: &Graph, after: &'g Graph, touched: &[&Touched]) -> Self {
        let mut delta = Self::default();
        let (mut replaced_jobs, mut replaced_datasets) = (HashSet::new(), HashSet::new());

        let jobs = touched.iter().flat_map(|touched| {
            [&touched.jobs_deleted, &touched.jobs_changed, &touched.jobs_created]
        });
        for id in sorted(jobs) {
            match (before.job_of_id(id), after.job_of_id(id)) {
                (None, None) => {}
                (Some(_), None) => delta.jobs_gone.push(id),
                (None, Some(new)) => delta.jobs_new.push(new),
                (Some(old), Some(new)) if old.name() != new.name() => {
                    replaced_jobs.insert(id);
                    delta.jobs_gone.push(id);
                    delta.jobs_new.push(new);
                }
                (Some(old), Some(new)) => {
                    delta
                        .jobs_changed
                        .push((new, Some(new.spec()).filter(|&spec| spec != old.spec())));
                }
            }
        }

        let datasets = touched.iter().flat_map(|touched| {
            [&touched.datasets_deleted, &touched.datasets_changed, &touched.datasets_created]
        });
        for id in sorted(datasets) {
            match (before.dataset_of_id(id), after.dataset_of_id(id)) {
                (None, None) => {}
                (Some(_), None) => delta.datasets_gone.push(id),
                (None, Some(new)) => delta.datasets_new.push(new),
                (Some(old), Some(new)) if old.name() != new.name() => {
                    replaced_datasets.insert(id);
                    delta.datasets_gone.push(id);
                    delta.datasets_new.push(new);
                }
                (Some(old), Some(new)) if old.metadata() != new.metadata() => {
                    delta.datasets_changed.push(new)
                }
                (Some(_), Some(_)) => {}
            }
        }

        let edges = |side, touched: Vec<Edge>, gone: &mut Vec<Edge>, new: &mut Vec<Edge>| {
            for (job, dataset) in touched {
                let has = |graph: &Graph| {
                    graph.job_of_id(job).is_some_and(|job| job.has_edge(side, dataset))
                };
                // The row of an end that is replaced goes, and every edge's row with it.
                let replaced = replaced_jobs.contains(&job) || replaced_datasets.contains(&dataset);
                match (has(before), has(after)) {
                    (true, true) if !replaced => {}
                    (was_there, is_there) => {
                        gone.extend(was_there.then_some((job, dataset)));
                        new.extend(is_there.then_some((job, dataset)));
                    }
                }
            }
        };
        let inputs =
            touched.iter().flat_map(|touched| [&touched.inputs_removed, &touched.inputs_added]);
        edges(Side::Input, sorted(inputs), &mut delta.inputs_gone, &mut delta.inputs_new);
        let outputs =
            touched.iter().flat_map(|touched| [&touched.outputs_removed, &touched.outputs_added]);
        edges(Side::Output, sorted(outputs), &mut delta.outputs_gone, &mut delta.outputs_new);
        delta
    }
}

/// What is in any of the lists, once.
fn sorted<'t, T: Ord + Copy + 't>(lists: impl Iterator<Item = &'t Vec<T>>) -> Vec<T> {
    let mut all: Vec<T> = lists.flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}
