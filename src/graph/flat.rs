//! A graph laid out flat, in byte order of names: what is written or hashed whole is taken from
//! here. A walk over the graph itself looks somewhere else in memory for every edge and every name,
//! and sorts names anew at every job; here that is done once, and sorts numbers.

use std::ops::Bound;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sha2::{Digest, Sha256};

use super::digest::hex;
use super::graph::Graph;
use super::json::CanonicalJson;
use super::name::Name;
use super::slots::Slot;

/// All of a graph at one version. Takes the names, 40 bytes for each job, 8 for each dataset and 4
/// for each edge.
pub struct FlatGraph {
    version: u64,
    /// In byte order. A dataset's or job's place in its list is its number here.
    datasets: Names,
    declared: Vec<(u32, CanonicalJson)>,
    jobs: Vec<ListedJob>,
    job_names: Names,
    inputs: Lists,
    outputs: Lists,
}

struct ListedJob {
    spec: CanonicalJson,
    version: u64,
    /// Of two jobs of which one reads what the other writes, the reader's is larger.
    label: u64,
}

/// Names one after another, in one piece of memory.
struct Names {
    text: String,
    ends: Vec<usize>,
    /// Whether one of them is not spelled in JSON as it is.
    escaped: bool,
}

impl Names {
    /// With room for as many, of as many bytes. Room that is not used takes no memory.
    fn with_room(count: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(count), escaped: false }
    }

    fn push(&mut self, name: &Name) {
        let name = name.as_str();
        self.text.push_str(name);
        self.ends.push(self.text.len());
        // Control characters are in no name.
        self.escaped |= name.bytes().any(|byte| matches!(byte, b'"' | b'\\'));
    }

    fn append(&mut self, more: Self) {
        let before = self.text.len();
        self.text.push_str(&more.text);
        self.ends.extend(more.ends.into_iter().map(|end| before + end));
        self.escaped |= more.escaped;
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, number: u32) -> &str {
        let begin = if number == 0 { 0 } else { self.ends[number as usize - 1] };
        &self.text[begin..self.ends[number as usize]]
    }

    /// Writes one as a JSON string.
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if self.escaped {
            return serde_json::to_writer(out, self.get(number)).expect("a vector takes all");
        }
        out.push(b'"');
        out.extend_from_slice(self.get(number).as_bytes());
        out.push(b'"');
    }
}

/// A sorted list of datasets for each job.
struct Lists {
    ends: Vec<u32>,
    values: Vec<u32>,
}

impl Lists {
    fn push(&mut self, list: impl Iterator<Item = u32>) {
        let begin = self.values.len();
        self.values.extend(list);
        self.values[begin..].sort_unstable();
        self.ends.push(self.values.len() as u32);
    }

    fn append(&mut self, more: Self) {
        let before = self.values.len() as u32;
        self.values.extend(more.values);
        self.ends.extend(more.ends.into_iter().map(|end| before + end));
    }

    fn get(&self, job: u32) -> &[u32] {
        let begin = if job == 0 { 0 } else { self.ends[job as usize - 1] };
        &self.values[begin as usize..self.ends[job as usize] as usize]
    }
}

/// Of some jobs.
struct Jobs {
    jobs: Vec<ListedJob>,
    names: Names,
    inputs: Lists,
    outputs: Lists,
}

impl Jobs {
    /// With room for so many jobs.
    fn of(graph: &Graph, slots: &[Slot], numbers: &[u32], room: usize) -> Self {
        let lists = || Lists {
            ends: Vec::with_capacity(room),
            values: Vec::with_capacity(graph.edge_count()),
        };
        let names = Names::with_room(room, graph.jobs.text_bytes());
        let mut all =
            Self { jobs: Vec::with_capacity(room), names, inputs: lists(), outputs: lists() };
        for &slot in slots {
            let node = graph.jobs.get(slot);
            all.inputs.push(node.inputs.iter().map(|dataset| numbers[dataset as usize]));
            all.outputs.push(node.outputs.iter().map(|dataset| numbers[dataset as usize]));
            all.names.push(&node.name);
            let (spec, label) = (node.spec.clone(), graph.order.label(slot));
            all.jobs.push(ListedJob { spec, version: node.version, label });
        }
        all
    }

    fn with(mut self, more: Self) -> Self {
        self.jobs.extend(more.jobs);
        self.names.append(more.names);
        self.inputs.append(more.inputs);
        self.outputs.append(more.outputs);
        self
    }
}

/// A graph of more jobs is laid out in two threads.
const LARGE_JOBS: usize = 10_000;

impl FlatGraph {
    /// O(n log d) for n jobs, datasets and edges, and at most d edges at one job; of a large graph,
    /// in two threads.
    #[must_use]
    pub fn of(graph: &Graph) -> Self {
        let mut numbers = vec![0; graph.datasets.slots()];
        let mut datasets = Names::with_room(graph.dataset_count(), graph.datasets.text_bytes());
        let mut declared = Vec::new();
        for slot in graph.dataset_index.slots_from(Bound::Unbounded) {
            let (number, node) = (datasets.len() as u32, graph.datasets.get(slot));
            numbers[slot as usize] = number;
            datasets.push(&node.name);
            declared.extend(node.metadata.clone().map(|metadata| (number, metadata)));
        }
        let slots: Vec<Slot> = graph.job_index.slots_from(Bound::Unbounded).collect();
        let half = if slots.len() > LARGE_JOBS { slots.len() / 2 } else { 0 };
        let (first, second) = slots.split_at(half);
        let Jobs { jobs, names: job_names, inputs, outputs } = thread::scope(|scope| {
            let first =
                (half > 0).then(|| scope.spawn(|| Jobs::of(graph, first, &numbers, slots.len())));
            let second = Jobs::of(graph, second, &numbers, second.len());
            match first {
                Some(first) => first
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    .with(second),
                None => second,
            }
        });
        Self { version: graph.version(), datasets, declared, jobs, job_names, inputs, outputs }
    }

    /// The graph's version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many jobs there are.
    #[must_use]
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// How many datasets there are, declared and implied.
    #[must_use]
    pub fn dataset_count(&self) -> usize {
        self.datasets.len()
    }

    /// How many datasets are declared.
    #[must_use]
    pub fn declared_count(&self) -> usize {
        self.declared.len()
    }

    /// How many edges there are.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.inputs.values.len() + self.outputs.values.len()
    }

    /// See [`Graph::digest`]. O(bytes of all names and edges).
    #[must_use]
    pub fn digest(&self) -> String {
        let (full, to_hash) = sync_channel::<Vec<u8>>(LINES_AHEAD);
        thread::scope(|scope| {
            // Hashing takes as long as finding the names.
            let hashed =
                (self.jobs.len() > LARGE_JOBS).then(|| scope.spawn(move || hash_all(to_hash)));
            let lines = Lines {
                waiting: Vec::new(),
                hash: Sha256::new(),
                full: hashed.is_some().then_some(full),
            };
            let hash = self.hash_lines(lines);
            match hashed {
                Some(hashed) => {
                    hashed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                None => hash,
            }
        })
    }

    fn hash_lines(&self, mut lines: Lines) -> String {
        for (dataset, metadata) in &self.declared {
            lines.add(&["dataset\t", self.datasets.get(*dataset), "\t", &of_json(metadata), "\n"]);
        }
        self.add_edges(&mut lines, "in\t", &self.inputs);
        let empty = of_json(&CanonicalJson::default());
        for (number, job) in (0..).zip(&self.jobs) {
            let spec =
                if job.spec == CanonicalJson::default() { &empty } else { &of_json(&job.spec) };
            lines.add(&["job\t", self.job_names.get(number), "\t", spec, "\n"]);
        }
        self.add_edges(&mut lines, "out\t", &self.outputs);
        lines.finish()
    }

    fn add_edges(&self, lines: &mut Lines, word: &str, lists: &Lists) {
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

    /// The numbers of all jobs by topological generation: the length of the longest chain of
    /// producing jobs before each, and within one generation in byte order. Depends on nothing but
    /// the graph. O(n log n) for n jobs, and O(edges).
    #[must_use]
    pub fn jobs_by_generation(&self) -> Vec<u32> {
        const NONE: u32 = u32::MAX;
        let mut producers = vec![NONE; self.datasets.len()];
        for job in 0..self.jobs.len() as u32 {
            for dataset in self.outputs.get(job) {
                producers[*dataset as usize] = job;
            }
        }
        let mut sorted: Vec<(u64, u32)> = self.jobs.iter().map(|job| job.label).zip(0..).collect();
        sorted.sort_unstable();
        let mut generations = vec![0_u32; self.jobs.len()];
        let mut sizes: Vec<usize> = Vec::new();
        for (_, job) in sorted {
            let before = self.inputs.get(job).iter().map(|dataset| producers[*dataset as usize]);
            let before = before
                .filter(|producer| *producer != NONE)
                .map(|producer| generations[producer as usize] + 1);
            let generation = before.max().unwrap_or(0);
            generations[job as usize] = generation;
            if sizes.len() <= generation as usize {
                sizes.push(0);
            }
            sizes[generation as usize] += 1;
        }
        let mut next: Vec<usize> =
            sizes.iter().scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size))).collect();
        let mut placed = vec![0; self.jobs.len()];
        for (job, generation) in (0..).zip(generations) {
            let place = &mut next[generation as usize];
            placed[*place] = job;
            *place += 1;
        }
        placed
    }

    /// Writes the declaration with that number among the declared datasets, as canonical JSON:
    /// `{"facts":[…],"version":N}`.
    pub fn write_declaration(&self, index: usize, out: &mut Vec<u8>) {
        let (dataset, metadata) = &self.declared[index];
        out.extend_from_slice(br#"{"facts":[{"fact":"dataset_declared","metadata":"#);
        out.extend_from_slice(metadata.as_str().as_bytes());
        out.extend_from_slice(br#","name":"#);
        self.datasets.write(*dataset, out);
        out.extend_from_slice(br"}]");
        self.write_version(out);
    }

    /// Writes the job of that number as canonical JSON:
    /// `{"facts":[…],"job_version":N,"version":N}`.
    pub fn write_job(&self, number: u32, out: &mut Vec<u8>) {
        let job = &self.jobs[number as usize];
        out.extend_from_slice(br#"{"facts":[{"fact":"job_created","inputs":"#);
        self.write_names(self.inputs.get(number), out);
        out.extend_from_slice(br#","name":"#);
        self.job_names.write(number, out);
        out.extend_from_slice(br#","outputs":"#);
        self.write_names(self.outputs.get(number), out);
        out.extend_from_slice(br#","spec":"#);
        out.extend_from_slice(job.spec.as_str().as_bytes());
        out.extend_from_slice(br#"}],"job_version":"#);
        out.extend_from_slice(job.version.to_string().as_bytes());
        self.write_version(out);
    }

    fn write_names(&self, datasets: &[u32], out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, dataset) in datasets.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.datasets.write(*dataset, out);
        }
        out.push(b']');
    }

    fn write_version(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#","version":"#);
        out.extend_from_slice(self.version.to_string().as_bytes());
        out.push(b'}');
    }
}

fn of_json(json: &CanonicalJson) -> String {
    hex(&Sha256::digest(json.as_str()))
}

/// Buffers of lines that wait to be hashed.
const LINES_AHEAD: usize = 4;

fn hash_all(buffers: Receiver<Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    buffers.into_iter().for_each(|buffer| hash.update(&buffer));
    hex(&hash.finalize())
}

/// Hashes lines, many at once: each line has several short parts.
struct Lines {
    waiting: Vec<u8>,
    hash: Sha256,
    /// Another thread that hashes instead.
    full: Option<SyncSender<Vec<u8>>>,
}

impl Lines {
    const WAITING_BYTES: usize = 64 << 10;

    fn add(&mut self, parts: &[&str]) {
        for part in parts {
            self.waiting.extend_from_slice(part.as_bytes());
        }
        if self.waiting.len() >= Self::WAITING_BYTES {
            self.hash_waiting();
        }
    }

    fn hash_waiting(&mut self) {
        match &self.full {
            Some(full) => {
                let next = Vec::with_capacity(Self::WAITING_BYTES + 2048);
                full.send(std::mem::replace(&mut self.waiting, next))
                    .expect("the other thread hashes until the end");
            }
            None => {
                self.hash.update(&self.waiting);
                self.waiting.clear();
            }
        }
    }

    fn finish(mut self) -> String {
        self.hash_waiting();
        hex(&self.hash.finalize())
    }
}
