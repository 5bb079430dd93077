//! Holds a packed graph against the graph that it was made of, record by record.

use super::bytes::Bytes;
use super::error::UnpackError;
use super::format::{DECLARED_DATASET, FREE_SLOT, IMPLIED_DATASET, JOB};
use super::texts::{FrontCoding, JsonReader};
use super::unpack::Header;
use crate::graph::graph::Graph;
use crate::graph::neighbours::Neighbours;
use crate::graph::slots::Slot;

/// Takes the parts of a packed graph in their order, and makes sure that a reader gets `graph` from
/// them: each record is read as [`GraphUnpacker`](super::GraphUnpacker) reads it, and compared.
/// Beside the graph, which it shares, it has no more in memory than
/// [`GraphPacker`](super::GraphPacker).
pub struct GraphComparer {
    graph: Graph,
    has_begun: bool,
    /// The slots whose records are next.
    dataset: Slot,
    job: Slot,
    /// The job whose place in the order is next, and the slot after that of the job before it.
    in_order: Option<Slot>,
    expected: u64,
    names: FrontCoding,
    json: JsonReader,
    /// The version of the job before.
    version: u64,
    /// The dataset that was written last.
    written: u64,
}

impl GraphComparer {
    /// Nothing was taken yet. O(1).
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        Self {
            graph: graph.clone(),
            has_begun: false,
            dataset: 0,
            job: 0,
            in_order: graph.order.first(),
            expected: 0,
            names: FrontCoding::default(),
            json: JsonReader::default(),
            version: 0,
            written: 0,
        }
    }

    /// Takes the next part. O(n) for n bytes of its records as they are in memory.
    ///
    /// # Errors
    /// [`UnpackError::Different`] if it tells of something else than the graph, and every other one
    /// as [`GraphUnpacker::add`](super::GraphUnpacker::add).
    pub fn add(&mut self, part: &[u8]) -> Result<(), UnpackError> {
        let bytes = &mut Bytes::of(part);
        while !bytes.is_empty() {
            if !self.has_begun {
                self.take_header(bytes)?;
            } else if (self.dataset as usize) < self.graph.datasets.slots() {
                self.take_dataset(bytes)?;
            } else if (self.job as usize) < self.graph.jobs.slots() {
                self.take_job(bytes)?;
            } else if let Some(job) = self.in_order {
                self.take_place(job, bytes)?;
            } else {
                return Err(UnpackError::Surplus);
            }
        }
        Ok(())
    }

    /// Makes sure that nothing is missing.
    ///
    /// # Errors
    /// [`UnpackError::Truncated`] if something is.
    pub fn finish(self) -> Result<(), UnpackError> {
        let is_whole = self.has_begun
            && self.dataset as usize == self.graph.datasets.slots()
            && self.job as usize == self.graph.jobs.slots()
            && self.in_order.is_none();
        if is_whole { Ok(()) } else { Err(UnpackError::Truncated) }
    }

    fn take_header(&mut self, bytes: &mut Bytes<'_>) -> Result<(), UnpackError> {
        let expected = Header {
            version: self.graph.version(),
            datasets: self.graph.datasets.slots(),
            jobs: self.graph.jobs.slots(),
        };
        self.has_begun = true;
        expect("graph", 0, Header::read(bytes)? == expected)
    }

    fn take_dataset(&mut self, bytes: &mut Bytes<'_>) -> Result<(), UnpackError> {
        let (what, id) = ("dataset", self.dataset);
        self.dataset += 1;
        let code = bytes.number()?;
        let Some(node) = self.graph.datasets.find(id) else {
            return expect(what, id, code == FREE_SLOT);
        };
        let metadata = match code {
            FREE_SLOT => return Err(UnpackError::Different { what, id }),
            IMPLIED_DATASET => None,
            code => Some(self.json.read(what, id, code - DECLARED_DATASET, bytes)?),
        };
        let is_same = metadata == node.metadata && self.names.read(bytes)? == node.name.as_str();
        expect(what, id, is_same)
    }

    fn take_job(&mut self, bytes: &mut Bytes<'_>) -> Result<(), UnpackError> {
        let (what, id) = ("job", self.job);
        self.job += 1;
        let code = bytes.number()?;
        let Some(node) = self.graph.jobs.find(id) else {
            return expect(what, id, code == FREE_SLOT);
        };
        if code == FREE_SLOT {
            return Err(UnpackError::Different { what, id });
        }
        let is_same = self.json.read(what, id, code - JOB, bytes)? == node.spec
            && self.names.read(bytes)? == node.name.as_str()
            && bytes.difference(self.version)? == node.version
            && is_list(&node.outputs, self.written, bytes)?;
        self.version = node.version;
        self.written = node.outputs.iter().last().map_or(self.written, u64::from);
        expect(what, id, is_same && is_list(&node.inputs, self.written, bytes)?)
    }

    fn take_place(&mut self, job: Slot, bytes: &mut Bytes<'_>) -> Result<(), UnpackError> {
        let is_same = bytes.difference(self.expected)? == u64::from(job);
        self.expected = u64::from(job) + 1;
        self.in_order = self.graph.order.after(job);
        expect("order of job", job, is_same)
    }
}

fn expect(what: &'static str, id: Slot, is_same: bool) -> Result<(), UnpackError> {
    if is_same { Ok(()) } else { Err(UnpackError::Different { what, id }) }
}

/// Reads a list, and says whether it has these datasets.
fn is_list(datasets: &Neighbours, near: u64, bytes: &mut Bytes<'_>) -> Result<bool, UnpackError> {
    if bytes.count()? != datasets.len() {
        return Ok(false);
    }
    let mut free = None;
    for dataset in datasets.iter().map(u64::from) {
        let read = match free {
            None => bytes.difference(near)?,
            Some(free) => bytes.number()?.saturating_add(free),
        };
        if read != dataset {
            return Ok(false);
        }
        free = Some(dataset + 1);
    }
    Ok(true)
}
