//! Storage as rows: jobs, datasets and adjacency lists as they are now.

use diesel::prelude::*;

use super::Store;
use super::commit::Commit;
use super::error::StoreError;
use super::head::Head;
use super::row_delta::{Edge, RowDelta};
use super::storage::{Loaded, Storage};
use crate::db::schema::{datasets, job_inputs, job_outputs, jobs};
use crate::db::{AnyConnection, Database, RowsStatement, RowsWrite};
use crate::failpoint;
use crate::graph::{CanonicalJson, DamagedRows, Dataset, GraphBuilder, Touched};

impl Store {
    /// Takes a database whose schema is up to date; its graphs are kept as rows.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn new(database: Database) -> Result<Self, StoreError> {
        Self::with_storage(database, Box::new(Rows))
    }
}

/// Jobs, datasets and edges, a row each. A load reads all of them, a write those that it changes.
pub struct Rows;

impl Storage for Rows {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        let rows = read_rows(connection, head)?;
        let head = head.clone();
        Ok(Box::new(move || rows.finish(head.version).map_err(|reason| damaged(&head, reason))))
    }

    fn writes(&self, commit: &Commit<'_>) -> Vec<RowsWrite> {
        row_writes(commit)
    }

    fn clear(&self, connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()> {
        delete_all(connection, graph_id)
    }
}

fn damaged(head: &Head, reason: DamagedRows) -> StoreError {
    StoreError::DamagedRows { graph: head.name.clone(), reason }
}

/// All rows of a graph, in the order of their primary keys; of a deleted one there are none.
fn read_rows(connection: &mut AnyConnection, head: &Head) -> Result<GraphBuilder, StoreError> {
    let damaged = |reason| damaged(head, reason);
    let mut builder = GraphBuilder::default();
    let rows = datasets::table
        .filter(datasets::graph_id.eq(head.id))
        .order(datasets::id)
        .select((datasets::id, datasets::name, datasets::metadata))
        .load_iter::<(i64, String, Option<String>), _>(connection)?;
    for row in rows {
        let (id, name, metadata) = row?;
        builder.dataset(id, &name, metadata.as_deref()).map_err(damaged)?;
    }
    builder.no_more_datasets();
    failpoint::pass("while-loading");
    let rows = jobs::table
        .filter(jobs::graph_id.eq(head.id))
        .order(jobs::id)
        .select((jobs::id, jobs::name, jobs::spec, jobs::version))
        .load_iter::<(i64, String, String, i64), _>(connection)?;
    for row in rows {
        let (id, name, spec, version) = row?;
        builder.job(id, &name, &spec, version as u64).map_err(damaged)?;
    }
    builder.no_more_jobs();
    let rows = job_inputs::table
        .filter(job_inputs::graph_id.eq(head.id))
        .order((job_inputs::job_id, job_inputs::dataset_id))
        .select((job_inputs::job_id, job_inputs::dataset_id))
        .load_iter::<(i64, i64), _>(connection)?;
    for row in rows {
        let (job, dataset) = row?;
        builder.input(job, dataset).map_err(damaged)?;
    }
    let rows = job_outputs::table
        .filter(job_outputs::graph_id.eq(head.id))
        .order(job_outputs::dataset_id)
        .select((job_outputs::job_id, job_outputs::dataset_id))
        .load_iter::<(i64, i64), _>(connection)?;
    for row in rows {
        let (job, dataset) = row?;
        builder.output(job, dataset).map_err(damaged)?;
    }
    Ok(builder)
}

/// The rows of all entries together. What goes, goes first: ids, names and the place of a producer
/// are used again within one turn.
fn row_writes(commit: &Commit<'_>) -> Vec<RowsWrite> {
    if commit.deletes_graph {
        return Vec::new();
    }
    let touched: Vec<&Touched> = commit.entries.iter().map(|entry| entry.touched).collect();
    let delta = RowDelta::between(commit.before, commit.after, &touched);
    let edges = |statement: RowsStatement, mut edges: Vec<Edge>| {
        // In the order of datasets, which are all over the table; the jobs of one turn are close to
        // each other.
        edges.sort_unstable_by_key(|&(job, dataset)| (dataset, job));
        statement
            .over(edges.into_iter().map(|(job, dataset)| u64::from(job) << 32 | u64::from(dataset)))
    };
    fn metadata<'g>(dataset: &Dataset<'g>) -> Option<&'g str> {
        dataset.metadata().map(CanonicalJson::as_str)
    }
    let datasets_changed =
        delta.datasets_changed.iter().map(|dataset| (dataset.id(), metadata(dataset)));
    let jobs_changed = delta
        .jobs_changed
        .iter()
        .map(|(job, spec)| (job.id(), spec.map(CanonicalJson::as_str), job.version()));
    let datasets_new = delta
        .datasets_new
        .iter()
        .map(|dataset| (dataset.id(), dataset.name().as_str(), metadata(dataset)));
    let jobs_new = delta
        .jobs_new
        .iter()
        .map(|job| (job.id(), job.name().as_str(), job.spec().as_str(), job.version()));
    let writes = [
        edges(RowsStatement::DELETE_INPUTS, delta.inputs_gone),
        edges(RowsStatement::DELETE_OUTPUTS, delta.outputs_gone),
        RowsStatement::DELETE_JOBS.over(delta.jobs_gone.into_iter()),
        RowsStatement::DELETE_DATASETS.over(delta.datasets_gone.into_iter()),
        RowsStatement::UPDATE_DATASETS.over(datasets_changed),
        RowsStatement::UPDATE_JOBS.over(jobs_changed),
        RowsStatement::INSERT_DATASETS.over(datasets_new),
        RowsStatement::INSERT_JOBS.over(jobs_new),
        edges(RowsStatement::INSERT_INPUTS, delta.inputs_new),
        edges(RowsStatement::INSERT_OUTPUTS, delta.outputs_new),
    ];
    writes.into_iter().flatten().collect()
}

fn delete_all(connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()> {
    diesel::delete(job_inputs::table.filter(job_inputs::graph_id.eq(graph_id)))
        .execute(connection)?;
    diesel::delete(job_outputs::table.filter(job_outputs::graph_id.eq(graph_id)))
        .execute(connection)?;
    diesel::delete(jobs::table.filter(jobs::graph_id.eq(graph_id))).execute(connection)?;
    diesel::delete(datasets::table.filter(datasets::graph_id.eq(graph_id))).execute(connection)?;
    Ok(())
}
