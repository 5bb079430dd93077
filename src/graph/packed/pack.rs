//! Writes a graph in packed form.

use super::bytes::{push_difference, push_number};
use super::format::{DECLARED_DATASET, FORMAT, FREE_SLOT, IMPLIED_DATASET, JOB, MAGIC};
use super::texts::{FrontCoding, JsonWriter};
use crate::graph::graph::Graph;
use crate::graph::neighbours::Neighbours;
use crate::graph::slots::Slot;

/// The parts of a packed graph, in their order. [`GraphUnpacker`](super::GraphUnpacker) reads them.
///
/// Each part is made when it is asked for, in O(n) for n bytes. Besides the part, it takes memory
/// for at most 16,384 references to texts, and none for the graph, which it shares. What is changed
/// in other clones of the graph meanwhile does not change the parts. Of equal graphs with another
/// history, the parts may differ.
pub struct GraphPacker {
    graph: Graph,
    part_bytes: usize,
    has_begun: bool,
    /// The slots whose records are next.
    dataset: Slot,
    job: Slot,
    /// The job whose place in the order is next, and the slot after that of the job before it.
    in_order: Option<Slot>,
    expected: u64,
    names: FrontCoding,
    json: JsonWriter,
    /// The version of the job before.
    version: u64,
    /// The dataset that was written last.
    written: u64,
}

impl GraphPacker {
    /// Packs `graph` in parts of `part_bytes` bytes. A part ends with the record that fills it, so
    /// it is longer by up to a record: a job with its lists, or a dataset. The last part may be
    /// shorter. O(1).
    #[must_use]
    pub fn new(graph: &Graph, part_bytes: usize) -> Self {
        Self {
            graph: graph.clone(),
            part_bytes,
            has_begun: false,
            dataset: 0,
            job: 0,
            in_order: graph.order.first(),
            expected: 0,
            names: FrontCoding::default(),
            json: JsonWriter::default(),
            version: 0,
            written: 0,
        }
    }

    /// Appends the next record. Returns whether there was one.
    fn write_next(&mut self, part: &mut Vec<u8>) -> bool {
        if !self.has_begun {
            self.write_header(part);
        } else if (self.dataset as usize) < self.graph.datasets.slots() {
            self.write_dataset(part);
        } else if (self.job as usize) < self.graph.jobs.slots() {
            self.write_job(part);
        } else if let Some(job) = self.in_order {
            push_difference(part, self.expected, job.into());
            self.expected = u64::from(job) + 1;
            self.in_order = self.graph.order.after(job);
        } else {
            return false;
        }
        true
    }

    fn write_header(&mut self, part: &mut Vec<u8>) {
        part.extend_from_slice(MAGIC);
        push_number(part, FORMAT);
        push_number(part, self.graph.version());
        push_number(part, self.graph.datasets.slots() as u64);
        push_number(part, self.graph.jobs.slots() as u64);
        self.has_begun = true;
    }

    fn write_dataset(&mut self, part: &mut Vec<u8>) {
        let node = self.graph.datasets.find(self.dataset);
        self.dataset += 1;
        let Some(node) = node else { return push_number(part, FREE_SLOT) };
        match &node.metadata {
            None => push_number(part, IMPLIED_DATASET),
            Some(metadata) => self.json.write(metadata, DECLARED_DATASET, part),
        }
        self.names.write(node.name.as_str(), part);
    }

    fn write_job(&mut self, part: &mut Vec<u8>) {
        let node = self.graph.jobs.find(self.job);
        self.job += 1;
        let Some(node) = node else { return push_number(part, FREE_SLOT) };
        self.json.write(&node.spec, JOB, part);
        self.names.write(node.name.as_str(), part);
        push_difference(part, self.version, node.version);
        self.version = node.version;
        write_list(&node.outputs, self.written, part);
        if let Some(last) = node.outputs.iter().last() {
            self.written = last.into();
        }
        write_list(&node.inputs, self.written, part);
    }
}

impl Iterator for GraphPacker {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut part = Vec::new();
        while self.write_next(&mut part) && part.len() < self.part_bytes {}
        (!part.is_empty()).then_some(part)
    }
}

/// Appends a list of datasets, the first of which is told by its difference to `near`.
fn write_list(datasets: &Neighbours, near: u64, part: &mut Vec<u8>) {
    push_number(part, datasets.len() as u64);
    let mut free = None;
    for dataset in datasets.iter().map(u64::from) {
        match free {
            None => push_difference(part, near, dataset),
            Some(free) => push_number(part, dataset - free),
        }
        free = Some(dataset + 1);
    }
}
