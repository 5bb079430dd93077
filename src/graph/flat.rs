//! A graph laid out flat, in byte order of names: what is written or hashed whole is taken from here. A walk over the graph itself looks somewhere else in memory for
//! every edge and every name, and sorts names anew at every job; here that is done once, and sorts numbers.

use std::ops::Bound;

use sha2::{Digest, Sha256};

use super::adjacency::Graph;
use super::digest::hex;
use super::json::CanonicalJson;
use super::name::Name;

/// All of a graph at one version. Takes about 30 bytes for each job and each dataset, and 4 for each edge; the texts are shared with the graph.
pub struct FlatGraph {
    version: u64,
    /// In byte order. A dataset's or job's place in its list is its number here.
    datasets: Vec<Name>,
    declared: Vec<(u32, CanonicalJson)>,
    jobs: Vec<ListedJob>,
    inputs: Lists,
    outputs: Lists,
}

struct ListedJob {
    name: Name,
    spec: CanonicalJson,
    version: u64,
    /// Of two jobs of which one reads what the other writes, the reader's is larger.
    label: u64,
}

/// A sorted list of datasets for each job.
#[derive(Default)]
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

    fn get(&self, job: u32) -> &[u32] {
        let begin = if job == 0 { 0 } else { self.ends[job as usize - 1] };
        &self.values[begin as usize..self.ends[job as usize] as usize]
    }
}

impl FlatGraph {
    /// O(n log d) for n jobs, datasets and edges, and at most d edges at one job.
    #[must_use]
    pub fn of(graph: &Graph) -> Self {
        let mut numbers = vec![0; graph.datasets.slots()];
        let mut datasets = Vec::with_capacity(graph.dataset_count());
        let mut declared = Vec::new();
        for slot in graph.dataset_index.slots_from(Bound::Unbounded) {
            let (number, node) = (datasets.len() as u32, graph.datasets.get(slot));
            numbers[slot as usize] = number;
            datasets.push(node.name.clone());
            declared.extend(node.metadata.clone().map(|metadata| (number, metadata)));
        }
        let mut flat = Self {
            version: graph.version(),
            datasets,
            declared,
            jobs: Vec::with_capacity(graph.job_count()),
            inputs: Lists::default(),
            outputs: Lists::default(),
        };
        for slot in graph.job_index.slots_from(Bound::Unbounded) {
            let node = graph.jobs.get(slot);
            flat.inputs.push(node.inputs.iter().map(|dataset| numbers[dataset as usize]));
            flat.outputs.push(node.outputs.iter().map(|dataset| numbers[dataset as usize]));
            let (name, spec, label) = (node.name.clone(), node.spec.clone(), graph.order.label(slot));
            flat.jobs.push(ListedJob { name, spec, version: node.version, label });
        }
        flat
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
        let mut lines = Lines::default();
        for (dataset, metadata) in &self.declared {
            lines.add(&["dataset\t", self.datasets[*dataset as usize].as_str(), "\t", &of_json(metadata), "\n"]);
        }
        self.add_edges(&mut lines, "in\t", &self.inputs);
        let empty = of_json(&CanonicalJson::default());
        for job in &self.jobs {
            let spec = if job.spec == CanonicalJson::default() { &empty } else { &of_json(&job.spec) };
            lines.add(&["job\t", job.name.as_str(), "\t", spec, "\n"]);
        }
        self.add_edges(&mut lines, "out\t", &self.outputs);
        lines.finish()
    }

    fn add_edges(&self, lines: &mut Lines, word: &str, lists: &Lists) {
        for (number, job) in self.jobs.iter().enumerate() {
            for dataset in lists.get(number as u32) {
                lines.add(&[word, job.name.as_str(), "\t", self.datasets[*dataset as usize].as_str(), "\n"]);
            }
        }
    }

    /// The numbers of all jobs by topological generation: the length of the longest chain of producing jobs before each, and within one generation in byte order.
    /// Depends on nothing but the graph. O(n log n) for n jobs, and O(edges).
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
            let before = before.filter(|producer| *producer != NONE).map(|producer| generations[producer as usize] + 1);
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

    /// Writes the declaration with that number among the declared datasets, as canonical JSON: `{"facts":[…],"version":N}`.
    pub fn write_declaration(&self, index: usize, out: &mut Vec<u8>) {
        let (dataset, metadata) = &self.declared[index];
        out.extend_from_slice(br#"{"facts":[{"fact":"dataset_declared","metadata":"#);
        out.extend_from_slice(metadata.as_str().as_bytes());
        out.extend_from_slice(br#","name":"#);
        write_string(self.datasets[*dataset as usize].as_str(), out);
        out.extend_from_slice(br"}]");
        self.write_version(out);
    }

    /// Writes the job of that number as canonical JSON: `{"facts":[…],"job_version":N,"version":N}`.
    pub fn write_job(&self, number: u32, out: &mut Vec<u8>) {
        let job = &self.jobs[number as usize];
        out.extend_from_slice(br#"{"facts":[{"fact":"job_created","inputs":"#);
        self.write_names(self.inputs.get(number), out);
        out.extend_from_slice(br#","name":"#);
        write_string(job.name.as_str(), out);
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
            write_string(self.datasets[*dataset as usize].as_str(), out);
        }
        out.push(b']');
    }

    fn write_version(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#","version":"#);
        out.extend_from_slice(self.version.to_string().as_bytes());
        out.push(b'}');
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes all");
}

fn of_json(json: &CanonicalJson) -> String {
    hex(&Sha256::digest(json.as_str()))
}

/// Hashes lines, many at once: each line has several short parts.
#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    hash: Sha256,
}

impl Lines {
    const WAITING_BYTES: usize = 16 << 10;

    fn add(&mut self, parts: &[&str]) {
        for part in parts {
            self.waiting.extend_from_slice(part.as_bytes());
        }
        if self.waiting.len() >= Self::WAITING_BYTES {
            self.hash.update(&self.waiting);
            self.waiting.clear();
        }
    }

    fn finish(mut self) -> String {
        self.hash.update(&self.waiting);
        hex(&self.hash.finalize())
    }
}
