//! Reads a graph in packed form.

use imbl::Vector;

use super::bytes::Bytes;
use super::edges::{FREE, NONE, dataset_edges};
use super::error::UnpackError;
use super::format::{DECLARED_DATASET, FORMAT, FREE_SLOT, IMPLIED_DATASET, JOB, MAGIC};
use super::texts::{FrontCoding, JsonReader};
use crate::graph::build::MAX_ID;
use crate::graph::graph::Graph;
use crate::graph::index::{NameIndex, NameIndexBuilder};
use crate::graph::log_builder::LogBuilder;
use crate::graph::name::Name;
use crate::graph::neighbours::Neighbours;
use crate::graph::nodes::{DatasetEdges, DatasetNode, JobNode};
use crate::graph::order::Order;
use crate::graph::slots::{Slot, Slots};
use crate::graph::sorted::LARGE_JOBS;
use crate::graph::two_threads::in_two_threads;

/// Takes the parts of a packed graph in their order.
///
/// It checks all that makes a graph legal. So bytes that somebody has changed are refused, or are
/// those of another legal graph; a checksum tells the two apart. Beside the graph it has up to 40
/// bytes for each job and dataset and 16 for each input.
#[derive(Default)]
pub struct GraphUnpacker {
    header: Option<Header>,
    datasets: Slots<DatasetNode>,
    jobs: Slots<JobNode>,
    job_names: NameIndexBuilder,
    dataset_names: NameIndexBuilder,
    /// The slot of the job that writes each dataset, or [`NONE`]; [`FREE`] where there is no
    /// dataset.
    producers: Vec<Slot>,
    /// Pairs of a dataset and a job that reads it.
    inputs: Vec<(Slot, Slot)>,
    /// The place of each job in the order, by slot; [`NONE`] until it is known, [`FREE`] where
    /// there is no job.
    places: Vec<u32>,
    /// The jobs in topological order, as far as it was read.
    order: Vec<Slot>,
    edges: usize,
    names: FrontCoding,
    json: JsonReader,
    /// The version of the job before.
    version: u64,
    /// The dataset that was written last.
    written: u64,
    /// The list that is being read.
    list: Vec<Slot>,
}

/// What the graph has, of which the rest of the parts tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u64,
    /// How many slots there are.
    pub(super) datasets: usize,
    pub(super) jobs: usize,
}

/// A [`LogBuilder`] pays for maps of all names, and for sorting all jobs; a change is added to it a
/// little more quickly than applied to a graph. So it is worth it from about one change for each so
/// many jobs and datasets on.
/// `cargo bench --bench packed` shows both ways side by side.
const NODES_PER_CHANGE: u64 = 2;

impl GraphUnpacker {
    /// Takes the next part. O(n) for n bytes of its records as they are in memory.
    ///
    /// # Errors
    /// [`UnpackError`] if it is not what follows; the unpacker is then of no more use.
    pub fn add(&mut self, part: &[u8]) -> Result<(), UnpackError> {
        let bytes = &mut Bytes::of(part);
        let Header { version, datasets, jobs } = match self.header {
            Some(header) => header,
            None => *self.header.insert(Header::read(bytes)?),
        };
        while self.datasets.slots() < datasets && !bytes.is_empty() {
            self.read_dataset(bytes)?;
        }
        while self.jobs.slots() < jobs && !bytes.is_empty() {
            self.read_job(version, bytes)?;
        }
        while self.order.len() < self.jobs.count() && !bytes.is_empty() {
            self.read_place(bytes)?;
        }
        if bytes.is_empty() { Ok(()) } else { Err(UnpackError::Surplus) }
    }

    /// The graph's version, once the first part was taken.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.header.map(|header| header.version)
    }

    /// Whether so many further changes of the graph's log are added more quickly to the builder
    /// that [`into_log_builder`](Self::into_log_builder) gives than applied to the graph that
    /// [`finish`](Self::finish) gives. To be asked when all parts were taken.
    #[must_use]
    pub fn is_long_tail(&self, changes: u64) -> bool {
        let nodes = self.jobs.count() + self.datasets.count();
        changes > nodes as u64 / NODES_PER_CHANGE
    }

    /// The graph that was packed. O(n) for n jobs, datasets and edges; for a large graph, in two
    /// threads.
    ///
    /// # Errors
    /// [`UnpackError`] if parts are missing, or are those of no legal graph.
    pub fn finish(self) -> Result<Graph, UnpackError> {
        let Header { version, .. } = self.whole()?;
        let Self { jobs, datasets, edges, .. } = self;
        let (producers, inputs, places) = (self.producers, self.inputs, self.places);
        let (with_edges, indexes) = in_two_threads(
            jobs.count() > LARGE_JOBS,
            || -> Result<(Vector<DatasetEdges>, Order), UnpackError> {
                let edges = dataset_edges(&datasets, &producers, inputs, &places)?;
                Ok((edges, Order::of(&self.order, jobs.slots())))
            },
            || -> Result<(NameIndex, NameIndex), UnpackError> {
                let job_of = |slot| jobs.find(slot).map(|job| &job.name);
                let dataset_of = |slot| datasets.find(slot).map(|dataset| &dataset.name);
                let jobs = self.job_names.finish(job_of).map_err(twice("job"))?;
                Ok((jobs, self.dataset_names.finish(dataset_of).map_err(twice("dataset"))?))
            },
        );
        let ((dataset_edges, order), indexes) = (with_edges?, indexes?);
        let datasets = (datasets, dataset_edges);
        Ok(Graph::from_parts(version, jobs, datasets, indexes, order, edges))
    }

    /// A builder that goes on from the graph that was packed. O(n) for n jobs, datasets and edges;
    /// for a large graph, in two threads.
    ///
    /// # Errors
    /// [`UnpackError`] if parts are missing, or are those of no legal graph.
    pub fn into_log_builder(self) -> Result<LogBuilder, UnpackError> {
        let Header { version, .. } = self.whole()?;
        let edges: Vec<DatasetEdges> =
            dataset_edges(&self.datasets, &self.producers, self.inputs, &self.places)?;
        LogBuilder::from_parts(version, self.jobs, (self.datasets, edges), self.edges)
            .map_err(|(what, name)| UnpackError::Twice { what, name })
    }

    /// The header, if all that it tells of was read.
    fn whole(&self) -> Result<Header, UnpackError> {
        let is_whole = |header: &Header| {
            self.datasets.slots() == header.datasets
                && self.jobs.slots() == header.jobs
                && self.order.len() == self.jobs.count()
        };
        self.header.filter(is_whole).ok_or(UnpackError::Truncated)
    }

    fn read_dataset(&mut self, bytes: &mut Bytes<'_>) -> Result<(), UnpackError> {
        let (what, id) = ("dataset", self.datasets.slots() as Slot);
        let metadata = match bytes.number()? {
            FREE_SLOT => {
                self.datasets.append(None);
                self.producers.push(FREE);
                return Ok(());
            }
            IMPLIED_DATASET => None,
            code => Some(self.json.read(what, id, code - DECLARED_DATASET, bytes)?),
        };
        let name = self.read_name(what, id, bytes)?;
        self.dataset_names.push(&name, id);
        self.datasets.append(Some(DatasetNode { name, metadata }));
        self.producers.push(NONE);
        Ok(())
    }

    fn read_job(&mut self, of_graph: u64, bytes: &mut Bytes<'_>) -> Result<(), UnpackError> {
        let (what, id) = ("job", self.jobs.slots() as Slot);
        let spec = match bytes.number()? {
            FREE_SLOT => {
                self.jobs.append(None);
                self.places.push(FREE);
                return Ok(());
            }
            code => self.json.read(what, id, code - JOB, bytes)?,
        };
        let name = self.read_name(what, id, bytes)?;
        let version = bytes.difference(self.version)?;
        if !(1..=of_graph).contains(&version) {
            return Err(UnpackError::Version { name, version, of_graph });
        }
        self.version = version;
        self.job_names.push(&name, id);
        let outputs = self.read_outputs(id, bytes)?;
        let inputs = self.read_inputs(id, bytes)?;
        self.jobs.append(Some(JobNode { name, version, spec, inputs, outputs }));
        self.places.push(NONE);
        Ok(())
    }

    fn read_name(
        &mut self,
        what: &'static str,
        id: Slot,
        bytes: &mut Bytes<'_>,
    ) -> Result<Name, UnpackError> {
        let text = self.names.read(bytes)?;
        Name::new(text).map_err(|reason| UnpackError::Name { what, id, reason })
    }

    fn read_outputs(
        &mut self,
        job: Slot,
        bytes: &mut Bytes<'_>,
    ) -> Result<Neighbours, UnpackError> {
        self.read_list(job, bytes)?;
        for &dataset in &self.list {
            match &mut self.producers[dataset as usize] {
                producer if *producer == NONE => *producer = job,
                &mut FREE => {
                    return Err(UnpackError::DanglingEdge { job, dataset: dataset.into() });
                }
                _ => return Err(UnpackError::SecondProducer { job, dataset }),
            }
        }
        self.written = self.list.last().map_or(self.written, |&last| last.into());
        Ok(Neighbours::from_sorted(&self.list))
    }

    /// Whether the datasets are there is seen when all inputs are known.
    fn read_inputs(&mut self, job: Slot, bytes: &mut Bytes<'_>) -> Result<Neighbours, UnpackError> {
        self.read_list(job, bytes)?;
        self.inputs.extend(self.list.iter().map(|&dataset| (dataset, job)));
        Ok(Neighbours::from_sorted(&self.list))
    }

    /// Reads a list of slots of datasets, each once and rising.
    fn read_list(&mut self, job: Slot, bytes: &mut Bytes<'_>) -> Result<(), UnpackError> {
        self.list.clear();
        let slots = self.producers.len() as u64;
        let mut next = None;
        for _ in 0..bytes.count()? {
            let dataset = match next {
                None => bytes.difference(self.written)?,
                Some(next) => bytes.number()?.saturating_add(next),
            };
            if dataset >= slots {
                return Err(UnpackError::DanglingEdge { job, dataset });
            }
            self.list.push(dataset as Slot);
            next = Some(dataset + 1);
        }
        self.edges += self.list.len();
        Ok(())
    }

    fn read_place(&mut self, bytes: &mut Bytes<'_>) -> Result<(), UnpackError> {
        let expected = self.order.last().map_or(0, |&job| u64::from(job) + 1);
        let job = bytes.difference(expected)?;
        let place = usize::try_from(job).ok().and_then(|at| self.places.get_mut(at));
        match place {
            Some(place) if *place == NONE => *place = self.order.len() as u32,
            _ => return Err(UnpackError::Order { job }),
        }
        self.order.push(job as Slot);
        Ok(())
    }
}

impl Header {
    pub(super) fn read(bytes: &mut Bytes<'_>) -> Result<Self, UnpackError> {
        if bytes.take(MAGIC.len()) != Ok(MAGIC) {
            return Err(UnpackError::NotPacked);
        }
        match bytes.number()? {
            FORMAT => {}
            format => return Err(UnpackError::OtherFormat { format }),
        }
        let version = bytes.number()?;
        let mut slots = || {
            let slots = usize::try_from(bytes.number()?).ok();
            slots.filter(|&slots| slots <= MAX_ID as usize).ok_or(UnpackError::Number)
        };
        Ok(Self { version, datasets: slots()?, jobs: slots()? })
    }
}

fn twice(what: &'static str) -> impl Fn(Name) -> UnpackError {
    move |name| UnpackError::Twice { what, name }
}
