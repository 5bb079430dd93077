//! Storage as rows: one for each job, with the list of its inputs, and one for each dataset, with
//! its producer.

use std::ops::Bound;

use diesel::prelude::*;

use super::Store;
use super::commit::Commit;
use super::error::StoreError;
use super::head::Head;
use super::row_delta::{JobChange, RowDelta};
use super::storage::{Loaded, Storage};
use crate::db::schema::{datasets, jobs};
use crate::db::{
    AnyConnection, Database, DatasetUpdate, JobUpdate, NewDataset, NewJob, RowRange, RowsWrite,
};
use crate::failpoint;
use crate::graph::{CanonicalJson, DamagedRows, Dataset, Graph, GraphBuilder, Job, Touched};

impl Store {
    /// Takes a database whose schema is up to date; its graphs are kept as rows.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn new(database: Database) -> Result<Self, StoreError> {
        Self::with_storage(database, Box::new(Rows))
    }
}

/// Rows, and bytes of them, that one statement writes.
const CHUNK_ROWS: usize = 5_000;
const CHUNK_BYTES: usize = 8 << 20;
/// Bytes of one id in a list of inputs, about.
const INPUT_BYTES: usize = 8;

/// A row for each job and each dataset. A load reads all rows, a write changes those that differ.
pub struct Rows;

impl Storage for Rows {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        let rows = read_rows(connection, head)?;
        let head = head.clone();
        Ok(Box::new(move || rows.finish(head.version).map_err(|reason| damaged(&head, reason))))
    }

    fn writes<'c>(&self, commit: &Commit<'c>) -> Vec<RowsWrite<'c>> {
        row_writes(commit)
    }

    fn clear(&self, connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()> {
        delete_all(connection, graph_id)
    }

    /// In the order of their keys, some thousands at once.
    fn fill(
        &self,
        connection: &mut AnyConnection,
        graph_id: i64,
        graph: &Graph,
    ) -> QueryResult<()> {
        let mut datasets: Vec<Dataset<'_>> = graph.datasets_from(Bound::Unbounded).collect();
        datasets.sort_unstable_by_key(Dataset::id);
        let bytes = |dataset: &Dataset<'_>| {
            dataset.metadata().map_or(0, |metadata| metadata.as_str().len())
        };
        for some in chunks(&datasets, bytes) {
            let rows = RowsWrite::InsertDatasets(some.iter().map(new_dataset).collect());
            connection.write_rows(graph_id, &rows)?;
        }
        let mut jobs: Vec<Job<'_>> = graph.jobs_from(Bound::Unbounded).collect();
        jobs.sort_unstable_by_key(Job::id);
        let bytes =
            |job: &Job<'_>| job.spec().as_str().len() + INPUT_BYTES * job.input_ids().count();
        for some in chunks(&jobs, bytes) {
            let rows = RowsWrite::InsertJobs(some.iter().map(new_job).collect());
            connection.write_rows(graph_id, &rows)?;
        }
        Ok(())
    }
}

fn damaged(head: &Head, reason: DamagedRows) -> StoreError {
    StoreError::DamagedRows { graph: head.name.clone(), reason }
}

/// All rows of a graph, in the order of their ids; of a deleted one there are none.
fn read_rows(connection: &mut AnyConnection, head: &Head) -> Result<GraphBuilder, StoreError> {
    let damaged = |reason| damaged(head, reason);
    let mut builder = GraphBuilder::default();
    // A producer is known once the jobs are.
    let mut outputs: Vec<(i64, i64)> = Vec::new();
    connection.each_dataset(head.id, RowRange::All, &mut |row| {
        builder.dataset(row.id, &row.name, row.metadata.as_deref()).map_err(damaged)?;
        outputs.extend(row.producer.map(|producer| (producer, row.id)));
        Ok::<_, StoreError>(())
    })?;
    builder.no_more_datasets();
    failpoint::pass("while-loading");
    connection.each_job(head.id, RowRange::All, &mut |row| {
        let version = row.version as u64;
        builder.job(row.id, &row.name, &row.spec, version).map_err(damaged)?;
        builder.inputs(row.id, row.inputs.as_deref()).map_err(damaged)
    })?;
    builder.no_more_jobs();
    for (job, dataset) in outputs {
        builder.output(job, dataset).map_err(damaged)?;
    }
    Ok(builder)
}

/// The rows of all entries together. What goes, goes first: ids and names are used again within one
/// turn.
fn row_writes<'c>(commit: &Commit<'c>) -> Vec<RowsWrite<'c>> {
    if commit.deletes_graph {
        return Vec::new();
    }
    let touched: Vec<&Touched> = commit.entries.iter().map(|entry| entry.touched).collect();
    let delta = RowDelta::between(commit.before, commit.after, &touched);
    let dataset_update = |dataset: &Dataset<'c>| DatasetUpdate {
        id: dataset.id(),
        metadata: dataset.metadata().map(CanonicalJson::as_str),
        producer: dataset.producer_id(),
    };
    let job_update = |change: &JobChange<'c>| JobUpdate {
        id: change.job.id(),
        spec: change.spec.then(|| change.job.spec().as_str()),
        version: change.job.version(),
        inputs: change.inputs.then(|| change.job.input_ids().collect()),
    };
    let writes = [
        RowsWrite::DeleteJobs(delta.jobs_gone),
        RowsWrite::DeleteDatasets(delta.datasets_gone),
        RowsWrite::UpdateDatasets(delta.datasets_changed.iter().map(dataset_update).collect()),
        RowsWrite::UpdateJobs(delta.jobs_changed.iter().map(job_update).collect()),
        RowsWrite::InsertDatasets(delta.datasets_new.iter().map(new_dataset).collect()),
        RowsWrite::InsertJobs(delta.jobs_new.iter().map(new_job).collect()),
    ];
    // Those without rows send nothing.
    writes.into()
}

fn new_dataset<'g>(dataset: &Dataset<'g>) -> NewDataset<'g> {
    NewDataset {
        id: dataset.id(),
        name: dataset.name().as_str(),
        metadata: dataset.metadata().map(CanonicalJson::as_str),
        producer: dataset.producer_id(),
    }
}

fn new_job<'g>(job: &Job<'g>) -> NewJob<'g> {
    NewJob {
        id: job.id(),
        name: job.name().as_str(),
        spec: job.spec().as_str(),
        version: job.version(),
        inputs: job.input_ids().collect(),
    }
}

fn delete_all(connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()> {
    diesel::delete(jobs::table.filter(jobs::graph_id.eq(graph_id))).execute(connection)?;
    diesel::delete(datasets::table.filter(datasets::graph_id.eq(graph_id))).execute(connection)?;
    Ok(())
}

/// Cut where there are enough rows or bytes, but never empty.
fn chunks<T>(mut rows: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = rows.iter().take(CHUNK_ROWS).take_while(|row| {
            let fits = sum < CHUNK_BYTES;
            sum += bytes(row);
            fits
        });
        let (some, rest) = rows.split_at(fits.count());
        rows = rest;
        (!some.is_empty()).then_some(some)
    })
}
