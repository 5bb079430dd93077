//! Builds a graph from rows, in one pass and without judging operations: what was stored was legal when it was accepted.

use super::adjacency::{DatasetEdges, DatasetNode, Graph, JobNode, Slots};
use super::index::NameIndex;
use super::json::CanonicalJson;
use super::name::{InvalidName, Name};
use super::neighbours::Neighbours;
use super::order::{Order, Slot};

/// Takes the rows of a graph, in any order within each kind, datasets and jobs before edges.
#[derive(Default)]
pub struct GraphBuilder {
    jobs: Vec<Option<JobNode>>,
    datasets: Vec<Option<DatasetNode>>,
    /// As long as `datasets`.
    dataset_edges: Vec<DatasetEdges>,
    /// Dataset, job.
    inputs: Vec<(Slot, Slot)>,
    outputs: Vec<(Slot, Slot)>,
}

/// Rows that are no legal graph: somebody else wrote them. Restore the database from a backup.
#[derive(Debug, thiserror::Error)]
pub enum DamagedRows {
    /// A name breaks the rules for names.
    #[error("a stored name is damaged: {0}")]
    Name(#[from] InvalidName),
    /// Two rows have one id, or one name.
    #[error("the {what} `{name}` is stored twice")]
    Twice {
        /// Job or dataset.
        what: &'static str,
        /// Its name.
        name: Name,
    },
    /// An id is not one that Fencepost gives.
    #[error("{0} is no id")]
    Id(i64),
    /// An edge has an end that is not there.
    #[error("an edge between job {job} and dataset {dataset} leads nowhere")]
    DanglingEdge {
        /// The job's id.
        job: u32,
        /// The dataset's id.
        dataset: u32,
    },
    /// The jobs form a cycle.
    #[error("the stored jobs form a cycle")]
    Cyclic,
}

/// Ids are slots; far beyond any graph that fits in memory, a wild id is refused before it is used as a length.
const MAX_ID: i64 = 1 << 28;

fn slot(id: i64) -> Result<Slot, DamagedRows> {
    if (0..MAX_ID).contains(&id) { Ok(id as Slot) } else { Err(DamagedRows::Id(id)) }
}

fn put<T>(nodes: &mut Vec<Option<T>>, slot: Slot, node: T) -> bool {
    if nodes.len() <= slot as usize {
        nodes.resize_with(slot as usize + 1, || None);
    }
    nodes[slot as usize].replace(node).is_none()
}

impl GraphBuilder {
    /// Adds a job without edges.
    ///
    /// # Errors
    /// [`DamagedRows`] if it cannot be one.
    pub fn job(&mut self, id: i64, name: &str, spec: &str, version: u64) -> Result<(), DamagedRows> {
        let name = Name::new(name)?;
        let node = JobNode {
            name: name.clone(),
            version,
            spec: CanonicalJson::from_canonical(spec),
            inputs: Neighbours::default(),
            outputs: Neighbours::default(),
        };
        let new = put(&mut self.jobs, slot(id)?, node);
        if new { Ok(()) } else { Err(DamagedRows::Twice { what: "job", name }) }
    }

    /// Adds a dataset that no job mentions yet.
    ///
    /// # Errors
    /// [`DamagedRows`] if it cannot be one.
    pub fn dataset(&mut self, id: i64, name: &str, metadata: Option<&str>) -> Result<(), DamagedRows> {
        let name = Name::new(name)?;
        let node = DatasetNode { name: name.clone(), metadata: metadata.map(CanonicalJson::from_canonical) };
        let new = put(&mut self.datasets, slot(id)?, node);
        self.dataset_edges.resize_with(self.datasets.len(), DatasetEdges::default);
        if new { Ok(()) } else { Err(DamagedRows::Twice { what: "dataset", name }) }
    }

    /// Adds an edge by which `job` reads `dataset`.
    ///
    /// # Errors
    /// [`DamagedRows`] if an end is not there.
    pub fn input(&mut self, job: i64, dataset: i64) -> Result<(), DamagedRows> {
        let edge = self.edge(job, dataset)?;
        self.inputs.push(edge);
        Ok(())
    }

    /// Adds an edge by which `job` writes `dataset`.
    ///
    /// # Errors
    /// [`DamagedRows`] if an end is not there, or the dataset has a producer.
    pub fn output(&mut self, job: i64, dataset: i64) -> Result<(), DamagedRows> {
        let (dataset, job) = self.edge(job, dataset)?;
        if self.dataset_edges[dataset as usize].producer.replace(job).is_some() {
            let node = self.datasets[dataset as usize].as_ref().expect("checked by edge()");
            return Err(DamagedRows::Twice { what: "producer of", name: node.name.clone() });
        }
        self.outputs.push((dataset, job));
        Ok(())
    }

    fn edge(&self, job: i64, dataset: i64) -> Result<(Slot, Slot), DamagedRows> {
        let (job, dataset) = (slot(job)?, slot(dataset)?);
        let there = matches!(self.jobs.get(job as usize), Some(Some(_)))
            && matches!(self.datasets.get(dataset as usize), Some(Some(_)));
        if there { Ok((dataset, job)) } else { Err(DamagedRows::DanglingEdge { job, dataset }) }
    }

    /// The graph at `version`. O(n log n) for n jobs, datasets and edges.
    ///
    /// # Errors
    /// [`DamagedRows::Cyclic`], or [`DamagedRows::Twice`] for a name that two rows have.
    pub fn finish(mut self, version: u64) -> Result<Graph, DamagedRows> {
        let reversed = |edges: &[(Slot, Slot)]| edges.iter().map(|&(dataset, job)| (job, dataset)).collect::<Vec<_>>();
        let inputs_of = Grouped::new(reversed(&self.inputs), self.jobs.len());
        let outputs_of = Grouped::new(reversed(&self.outputs), self.jobs.len());
        let consumers_of = Grouped::new(std::mem::take(&mut self.inputs), self.datasets.len());
        drop(std::mem::take(&mut self.outputs));
        let edges = inputs_of.values.len() + outputs_of.values.len();

        // Three things that need nothing of each other, and take most of the time.
        let (sorted, job_index, dataset_index) = std::thread::scope(|scope| {
            let job_index = scope.spawn(|| index("job", self.jobs.iter().map(|job| job.as_ref().map(|job| &job.name))));
            let dataset_index =
                scope.spawn(|| index("dataset", self.datasets.iter().map(|node| node.as_ref().map(|node| &node.name))));
            let sorted = self.sorted(&inputs_of, &outputs_of, &consumers_of);
            (sorted, joined(job_index), joined(dataset_index))
        });
        let (job_index, dataset_index) = (job_index?, dataset_index?);
        let order = Order::of(&sorted.ok_or(DamagedRows::Cyclic)?, self.jobs.len());
        for (slot, job) in self.jobs.iter_mut().enumerate() {
            if let Some(job) = job {
                job.inputs = Neighbours::from_sorted(inputs_of.get(slot as Slot));
                job.outputs = Neighbours::from_sorted(outputs_of.get(slot as Slot));
            }
        }
        for (slot, dataset) in self.dataset_edges.iter_mut().enumerate() {
            dataset.consumers = Neighbours::from_sorted(consumers_of.get(slot as Slot));
        }
        let (jobs, datasets) = (Slots::from_nodes(self.jobs), (Slots::from_nodes(self.datasets), self.dataset_edges));
        Ok(Graph::from_parts(version, jobs, datasets, (job_index, dataset_index), order, edges))
    }

    /// A topological order of the jobs, by A. Kahn's algorithm (1962) on flat arrays; `None` if there is a cycle.
    fn sorted(&self, inputs_of: &Grouped, outputs_of: &Grouped, consumers_of: &Grouped) -> Option<Vec<Slot>> {
        let produced = |&&dataset: &&Slot| self.dataset_edges[dataset as usize].producer.is_some();
        let jobs = || self.jobs.iter().enumerate().filter(|(_, job)| job.is_some()).map(|(slot, _)| slot as Slot);
        let mut waiting_for: Vec<u32> =
            (0..self.jobs.len()).map(|job| inputs_of.get(job as Slot).iter().filter(produced).count() as u32).collect();
        let mut sorted: Vec<Slot> = jobs().filter(|&job| waiting_for[job as usize] == 0).collect();
        let mut done = 0;
        while let Some(&job) = sorted.get(done) {
            done += 1;
            for &dataset in outputs_of.get(job) {
                for &next in consumers_of.get(dataset) {
                    waiting_for[next as usize] -= 1;
                    if waiting_for[next as usize] == 0 {
                        sorted.push(next);
                    }
                }
            }
        }
        (done == jobs().count()).then_some(sorted)
    }
}

/// What a thread computed; its panic is ours.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn index<'n>(what: &'static str, names: impl Iterator<Item = Option<&'n Name>>) -> Result<NameIndex, DamagedRows> {
    let mut index: Vec<(Name, Slot)> =
        names.enumerate().filter_map(|(slot, name)| Some((name?.clone(), slot as Slot))).collect();
    index.sort_unstable();
    match index.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(DamagedRows::Twice { what, name: pair[0].0.clone() }),
        None => Ok(NameIndex::from_sorted(&index)),
    }
}

/// Lists by slot in two flat arrays, each list sorted.
struct Grouped {
    starts: Vec<u32>,
    values: Vec<Slot>,
}

impl Grouped {
    fn new(mut pairs: Vec<(Slot, Slot)>, slots: usize) -> Self {
        if !pairs.is_sorted() {
            pairs.sort_unstable();
        }
        pairs.dedup();
        let mut starts = vec![0; slots + 1];
        for &(slot, _) in &pairs {
            starts[slot as usize + 1] += 1;
        }
        for slot in 0..slots {
            starts[slot + 1] += starts[slot];
        }
        Self { starts, values: pairs.into_iter().map(|(_, value)| value).collect() }
    }

    fn get(&self, slot: Slot) -> &[Slot] {
        &self.values[self.starts[slot as usize] as usize..self.starts[slot as usize + 1] as usize]
    }
}
