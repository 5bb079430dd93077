//! Storage as rows: one for each job, with the list of its inputs, and one for each dataset, with
//! its producer.

use std::ops::Bound;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use diesel::prelude::*;

use super::commit::Commit;
use super::error::StoreError;
use super::head::Head;
use super::row_delta::{JobChange, RowDelta};
use super::storage::{History, Loaded, LoadedFrom, SnapshotUse, Storage};
use crate::db::schema::{datasets, jobs};
use crate::db::{
    AnyConnection, DatasetRow, DatasetUpdate, JobRow, JobUpdate, NewDataset, NewJob, RowRange,
    RowsWrite,
};
use crate::failpoint;
use crate::graph::{CanonicalJson, DamagedRows, Dataset, Graph, GraphBuilder, Job, Touched};

/// Rows, and bytes of them, that one statement writes.
const CHUNK_ROWS: usize = 5_000;
const CHUNK_BYTES: usize = 8 << 20;
/// Bytes of one id in a list of inputs, about.
const INPUT_BYTES: usize = 8;

/// A row for each job and each dataset. A load reads all rows, a write changes those that differ.
pub struct Rows;

impl Storage for Rows {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        load(connection, head, self.history())
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

    fn snapshots(&self) -> SnapshotUse {
        SnapshotUse::Quicker
    }
}

/// Reads all rows of a graph whose log is `history` to it.
pub(super) fn load(
    connection: &mut AnyConnection,
    head: &Head,
    history: History,
) -> Result<Loaded, StoreError> {
    let graph = head.name.clone();
    let damaged = move |reason| StoreError::DamagedRows { graph, history, reason };
    match read_rows(connection, head)? {
        Ok(rows) => Ok(Loaded {
            graph: Box::new(move || rows.graph().map_err(damaged)),
            from: LoadedFrom::Rows,
        }),
        Err(reason) => Err(damaged(reason)),
    }
}

/// All rows of a graph, in the order of their ids; of a deleted one there are none.
fn read_rows(
    connection: &mut AnyConnection,
    head: &Head,
) -> QueryResult<Result<RowsRead, DamagedRows>> {
    thread::scope(|scope| {
        let mut reader = RowReader::new(scope, head.version);
        let mut read = || {
            connection
                .each_dataset(head.id, RowRange::All, &mut |row| reader.take(Row::Dataset(row)))?;
            failpoint::pass("while-loading");
            connection.each_job(head.id, RowRange::All, &mut |row| reader.take(Row::Job(row)))
        };
        match read() {
            Err(ReadStopped::ByDatabase(error)) => Err(error),
            Ok(()) | Err(ReadStopped::ByDamage) => Ok(reader.finish()),
        }
    })
}

enum Row {
    Dataset(DatasetRow),
    Job(JobRow),
}

/// What was read, all that can be checked row by row checked.
#[derive(Default)]
struct RowsRead {
    builder: GraphBuilder,
    /// The graph's version.
    version: u64,
    /// Pairs of a job and a dataset that it writes. A producer is known once the jobs are.
    outputs: Vec<(i64, i64)>,
}

impl RowsRead {
    fn add(&mut self, rows: Vec<Row>) -> Result<(), DamagedRows> {
        rows.into_iter().try_for_each(|row| match row {
            Row::Dataset(DatasetRow { id, name, damaged: Some(field), .. }) => {
                Err(DamagedRows::Field { what: "dataset", id, name: name.to_string(), field })
            }
            Row::Job(JobRow { id, name, damaged: Some(field), .. }) => {
                Err(DamagedRows::Field { what: "job", id, name: name.to_string(), field })
            }
            Row::Dataset(row) => {
                self.outputs.extend(row.producer.map(|producer| (producer, row.id)));
                self.builder.dataset(row.id, row.name, row.metadata)
            }
            Row::Job(row) => {
                let version = u64::try_from(row.version).ok();
                let Some(version) = version.filter(|v| (1..=self.version).contains(v)) else {
                    let (name, version) = (row.name.to_string(), row.version);
                    return Err(DamagedRows::Version { name, version, of_graph: self.version });
                };
                self.builder.job(row.id, row.name, row.spec, version)?;
                self.builder.inputs(row.id, row.inputs.as_deref())
            }
        })
    }

    fn graph(mut self) -> Result<Graph, DamagedRows> {
        for (job, dataset) in self.outputs {
            self.builder.output(job, dataset)?;
        }
        self.builder.finish(self.version)
    }
}

/// Rows that a thread gets at once, and how many times as many may wait for it.
const BATCH_ROWS: usize = 2_000;
const BATCHES_WAITING: usize = 4;

/// Takes rows as they are read. A thread puts a large graph together while more rows are read.
struct RowReader<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    batch: Vec<Row>,
    /// Of a small graph.
    read: RowsRead,
    thread: Option<RowThread<'scope>>,
}

struct RowThread<'scope> {
    batches: SyncSender<Vec<Row>>,
    /// Ends when no more batches come, or with the first damage.
    read: ScopedJoinHandle<'scope, Result<RowsRead, DamagedRows>>,
}

/// Why not all rows were read.
enum ReadStopped {
    ByDatabase(diesel::result::Error),
    /// [`RowReader::finish`] says by which.
    ByDamage,
}

impl From<diesel::result::Error> for ReadStopped {
    fn from(error: diesel::result::Error) -> Self {
        Self::ByDatabase(error)
    }
}

impl<'scope, 'env> RowReader<'scope, 'env> {
    fn new(scope: &'scope Scope<'scope, 'env>, version: u64) -> Self {
        let read = RowsRead { version, ..RowsRead::default() };
        Self { scope, batch: Vec::new(), read, thread: None }
    }

    fn take(&mut self, row: Row) -> Result<(), ReadStopped> {
        self.batch.push(row);
        if self.batch.len() < BATCH_ROWS {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_ROWS));
        let thread = self.thread.get_or_insert_with(|| {
            let (batches, received) = sync_channel::<Vec<Row>>(BATCHES_WAITING);
            let mut read = std::mem::take(&mut self.read);
            let add_all = move || {
                received.into_iter().try_for_each(|batch| read.add(batch))?;
                Ok(read)
            };
            RowThread { batches, read: self.scope.spawn(add_all) }
        });
        thread.batches.send(batch).map_err(|_| ReadStopped::ByDamage)
    }

    fn finish(mut self) -> Result<RowsRead, DamagedRows> {
        let Some(RowThread { batches, read }) = self.thread else {
            self.read.add(self.batch)?;
            return Ok(self.read);
        };
        // Nobody takes it if there was damage before, which is then the answer.
        let _ = batches.send(self.batch);
        drop(batches);
        read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
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
