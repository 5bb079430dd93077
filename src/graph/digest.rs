//! The digest of a graph: equal for equal graphs, whatever their history.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sha2::{Digest, Sha256};

use super::graph::Graph;
use super::hex::hex;
use super::json::CanonicalJson;
use super::sorted::{LARGE_JOBS, Lists, SortedGraph};

impl Graph {
    /// Lower-case hex SHA-256 over one line for each declared dataset, job and edge, sorted as
    /// bytes, each ended by LF: `dataset TAB name TAB sha256(metadata)`, `in TAB job TAB dataset`,
    /// `job TAB name TAB sha256(spec)`, `out TAB job TAB dataset`.
    ///
    /// O(n log n) for n jobs, datasets and edges. No name holds a byte as small as TAB, so lines
    /// that are in the order of their names are sorted.
    #[must_use]
    pub fn digest(&self) -> String {
        SortedGraph::of(self).digest()
    }
}

impl SortedGraph {
    /// See [`Graph::digest`]. O(n) for n bytes of lines; for a large graph, in two threads.
    #[must_use]
    pub fn digest(&self) -> String {
        let (sender, buffers) = sync_channel::<Vec<u8>>(BUFFERS_AHEAD);
        thread::scope(|scope| {
            // Hashing takes as long as collecting the lines.
            let hashing =
                (self.jobs.len() > LARGE_JOBS).then(|| scope.spawn(move || hash_all(buffers)));
            let lines = LineHasher {
                buffer: Vec::new(),
                hash: Sha256::new(),
                hashing_thread: hashing.is_some().then_some(sender),
            };
            let digest = self.hash_lines(lines);
            match hashing {
                Some(thread) => {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                None => digest,
            }
        })
    }

    fn hash_lines(&self, mut lines: LineHasher) -> String {
        for (dataset, metadata) in &self.declared {
            lines.add(&[
                "dataset\t",
                self.datasets.get(*dataset),
                "\t",
                &digest_of_json(metadata),
                "\n",
            ]);
        }
        self.add_edges(&mut lines, "in\t", &self.inputs);
        let empty = digest_of_json(&CanonicalJson::default());
        for (number, job) in (0..).zip(&self.jobs) {
            let spec = if job.spec == CanonicalJson::default() {
                &empty
            } else {
                &digest_of_json(&job.spec)
            };
            lines.add(&["job\t", self.job_names.get(number), "\t", spec, "\n"]);
        }
        self.add_edges(&mut lines, "out\t", &self.outputs);
        lines.finish()
    }

    fn add_edges(&self, lines: &mut LineHasher, word: &str, lists: &Lists) {
        for number in 0..self.jobs.len() as u32 {
            for dataset in lists.get(number) {
                lines.add(&[
                    word,
                    self.job_names.get(number),
                    "\t",
                    self.datasets.get(*dataset),
                    "\n",
                ]);
            }
        }
    }
}

fn digest_of_json(json: &CanonicalJson) -> String {
    hex(&Sha256::digest(json.as_str()))
}

/// How many full buffers may wait for the hashing thread.
const BUFFERS_AHEAD: usize = 4;

fn hash_all(buffers: Receiver<Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    buffers.into_iter().for_each(|buffer| hash.update(&buffer));
    hex(&hash.finalize())
}

/// Hashes lines, or sends them to a thread that does. Gathers many in a buffer first, since each
/// line has several short parts.
struct LineHasher {
    buffer: Vec<u8>,
    hash: Sha256,
    /// The thread that hashes, if there is one; `hash` is then not used.
    hashing_thread: Option<SyncSender<Vec<u8>>>,
}

impl LineHasher {
    const BUFFER_BYTES: usize = 64 << 10;

    fn add(&mut self, parts: &[&str]) {
        for part in parts {
            self.buffer.extend_from_slice(part.as_bytes());
        }
        if self.buffer.len() >= Self::BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        match &self.hashing_thread {
            Some(thread) => {
                let next = Vec::with_capacity(Self::BUFFER_BYTES + 2048);
                thread
                    .send(std::mem::replace(&mut self.buffer, next))
                    .expect("the hashing thread runs until the sender is dropped");
            }
            None => {
                self.hash.update(&self.buffer);
                self.buffer.clear();
            }
        }
    }

    fn finish(mut self) -> String {
        self.flush();
        hex(&self.hash.finalize())
    }
}
