//! A whole graph in arrays, in byte order of names: exports and digests read it from here.
//!
//! A walk over [`Graph`] itself jumps through memory for every edge and name, and sorts names again
//! at every job. Here names are sorted once, and edges are sorted as numbers.

use std::ops::Bound;
use std::thread;

use super::graph::Graph;
use super::json::CanonicalJson;
use super::name::Name;
use super::slots::Slot;

/// A graph at one version. Its memory: the names, 40 bytes for each job, 8 for each dataset and 4
/// for each edge.
///
/// Datasets and jobs have numbers here: their places in byte order.
pub struct SortedGraph {
    version: u64,
    pub(super) datasets: Names,
    /// The declared datasets, by number.
    pub(super) declared: Vec<(u32, CanonicalJson)>,
    pub(super) jobs: Vec<SortedJob>,
    pub(super) job_names: Names,
    pub(super) inputs: Lists,
    pub(super) outputs: Lists,
}

pub(super) struct SortedJob {
    pub(super) spec: CanonicalJson,
    version: u64,
    /// The job's place in the graph's topological order: rises along every edge.
    label: u64,
}

/// Names one after another, in one piece of memory.
pub(super) struct Names {
    text: String,
    ends: Vec<usize>,
    /// Whether a name holds a character that JSON writes as an escape.
    escaped: bool,
}

impl Names {
    /// Reserves room for `count` names of `bytes` bytes together.
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

    pub(super) fn get(&self, number: u32) -> &str {
        let begin = if number == 0 { 0 } else { self.ends[number as usize - 1] };
        &self.text[begin..self.ends[number as usize]]
    }

    /// Writes the name with that number as a JSON string.
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if self.escaped {
            return serde_json::to_writer(out, self.get(number)).expect("a vector takes all");
        }
        out.push(b'"');
        out.extend_from_slice(self.get(number).as_bytes());
        out.push(b'"');
    }
}

/// For each job, by number, a sorted list of the numbers of datasets.
pub(super) struct Lists {
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

    pub(super) fn get(&self, job: u32) -> &[u32] {
        let begin = if job == 0 { 0 } else { self.ends[job as usize - 1] };
        &self.values[begin as usize..self.ends[job as usize] as usize]
    }
}

/// A range of the jobs.
struct Jobs {
    jobs: Vec<SortedJob>,
    names: Names,
    inputs: Lists,
    outputs: Lists,
}

impl Jobs {
    /// The jobs in `slots`, which are in byte order of names; `numbers` has the number of each
    /// dataset by its slot. Reserves room for `room` jobs.
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
            all.jobs.push(SortedJob { spec, version: node.version, label });
        }
        all
    }

    /// These jobs and then those of `more`.
    fn with(mut self, more: Self) -> Self {
        self.jobs.extend(more.jobs);
        self.names.append(more.names);
        self.inputs.append(more.inputs);
        self.outputs.append(more.outputs);
        self
    }
}

/// A graph of more jobs than this is sorted and hashed by two threads.
pub(super) const LARGE_JOBS: usize = 10_000;

impl SortedGraph {
    /// The graph in byte order. O(n log d) for n jobs, datasets and edges, and at most d edges at
    /// one job; for a large graph, in two threads.
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

    /// The numbers of all jobs, sorted by topological generation (the length of the longest chain
    /// of producing jobs before a job), then in byte order. The same for equal graphs. O(n log n)
    /// for n jobs, and O(edges).
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

    /// Writes the declared dataset at `index` of all declared datasets as canonical JSON:
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

    /// Writes the job with that number as canonical JSON:
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
