//! Jobs by number: what job n is called, reads and writes, without looking at any other job.

use super::random::Random;
use super::{DriveArgs, Shape};
use crate::graph::{CanonicalJson, JobSpecification, Name};

/// Which jobs there are.
#[derive(Debug, Clone)]
pub struct Topology {
    shape: Shape,
    name_bytes: usize,
    seed: u64,
    /// Jobs below this number write one dataset each; the others none.
    producers: u64,
    /// How many datasets no job writes; `None`: any number.
    sources: Option<u64>,
    quota: Quota,
}

/// How many datasets a job reads.
#[derive(Debug, Clone, Copy)]
enum Quota {
    /// So many, and one collector of a [`FAN_IN`] block all of its block.
    Each(u64),
    /// Together exactly `inputs` over `jobs`. The first jobs find too few datasets; those from
    /// `made_good_from` on read one more, `owed` times.
    Total { inputs: u64, jobs: u64, made_good_from: u64, owed: u64 },
}

/// Why no graph can have the numbers that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// The outputs alone are more.
    #[error("{jobs} jobs that write {outputs} datasets have more than {edges} edges")]
    TooFewEdges {
        /// Jobs.
        jobs: u64,
        /// What they write.
        outputs: u64,
        /// What was asked for.
        edges: u64,
    },
    /// Earlier jobs do not write enough for later ones to read.
    #[error("so many edges do not fit between {jobs} jobs and {datasets} datasets without a cycle")]
    TooManyEdges {
        /// Jobs.
        jobs: u64,
        /// Datasets.
        datasets: u64,
    },
    /// Names must tell jobs apart.
    #[error("names have 24 to 512 bytes here, not {0}")]
    NameBytes(usize),
}

const INPUTS: u64 = 3;
const LAYER: u64 = 1_024;
const FAN_OUT: u64 = 10_000;
const FAN_IN: u64 = 100;
/// How often a dataset that is read already may be drawn before another way is taken.
const DRAWS: usize = 64;

/// A dataset by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dataset {
    OutputOf(u64),
    Source(u64),
}

impl Topology {
    /// Jobs without end, three inputs and one output each.
    ///
    /// # Errors
    /// [`TopologyError::NameBytes`].
    pub fn endless(args: &DriveArgs) -> Result<Self, TopologyError> {
        Self::checked(args, u64::MAX, None, Quota::Each(INPUTS))
    }

    /// Exactly so many jobs, datasets and edges.
    ///
    /// # Errors
    /// [`TopologyError`] says which number cannot be.
    pub fn sized(
        args: &DriveArgs,
        jobs: u64,
        datasets: u64,
        edges: u64,
    ) -> Result<Self, TopologyError> {
        let outputs = jobs.min(datasets);
        let Some(inputs) = edges.checked_sub(outputs) else {
            return Err(TopologyError::TooFewEdges { jobs, outputs, edges });
        };
        let too_many = TopologyError::TooManyEdges { jobs, datasets };
        let quota = Quota::Total { inputs, jobs, made_good_from: 0, owed: 0 };
        let mut topology = Self::checked(args, outputs, Some(datasets - outputs), quota)?;
        let collected = if args.shape == Shape::FanIn { FAN_IN } else { 1 };
        let largest = inputs.div_ceil(jobs.max(1)).saturating_mul(collected);
        let (mut owed, mut job) = (0, 0);
        while job < jobs && topology.readable(job) <= largest {
            owed += topology.quota(job).saturating_sub(topology.readable(job));
            job += 1;
        }
        if job.saturating_add(owed) > jobs {
            return Err(too_many);
        }
        topology.quota = Quota::Total { inputs, jobs, made_good_from: job, owed };
        Ok(topology)
    }

    fn checked(
        args: &DriveArgs,
        producers: u64,
        sources: Option<u64>,
        quota: Quota,
    ) -> Result<Self, TopologyError> {
        if !(24..=Name::MAX_BYTES).contains(&args.name_bytes) {
            return Err(TopologyError::NameBytes(args.name_bytes));
        }
        Ok(Self {
            shape: args.shape,
            name_bytes: args.name_bytes,
            seed: args.seed,
            producers,
            sources,
            quota,
        })
    }

    /// Job `number`, which reads only what jobs of lower numbers write.
    #[must_use]
    pub fn job(&self, number: u64) -> JobSpecification {
        let mut inputs: Vec<Name> =
            self.inputs(number).into_iter().map(|dataset| self.dataset_name(dataset)).collect();
        inputs.sort_unstable();
        let outputs =
            (number < self.producers).then(|| self.dataset_name(Dataset::OutputOf(number)));
        JobSpecification {
            name: self.job_name(number),
            inputs,
            outputs: outputs.into_iter().collect(),
            spec: CanonicalJson::default(),
        }
    }

    /// The name of job `number`.
    #[must_use]
    pub fn job_name(&self, number: u64) -> Name {
        self.name('j', number)
    }

    /// The name of what job `number` writes.
    #[must_use]
    pub fn output_name(&self, number: u64) -> Name {
        self.dataset_name(Dataset::OutputOf(number))
    }

    /// The name of dataset `number` of those that no job writes.
    #[must_use]
    pub fn source_name(&self, number: u64) -> Name {
        self.dataset_name(Dataset::Source(number))
    }

    fn dataset_name(&self, dataset: Dataset) -> Name {
        match dataset {
            Dataset::OutputOf(number) => self.name('d', number),
            Dataset::Source(number) => self.name('s', number),
        }
    }

    /// Begins with a hash, so that neighbours by number are none by name, as with the names that
    /// people and programs give.
    fn name(&self, kind: char, number: u64) -> Name {
        let hash = Random::of(&[self.seed, u64::from(kind), number]).next() as u32;
        let text = format!("{kind}/{hash:08x}/{number}");
        Name::new(&format!("{text:.<width$}", width = self.name_bytes))
            .expect("letters, digits, slashes and dots")
    }

    /// How many datasets job `number` could read.
    fn readable(&self, number: u64) -> u64 {
        number.min(self.producers).saturating_add(self.sources.unwrap_or(u64::MAX))
    }

    /// How many it reads if it finds them, before what is owed is made good.
    fn quota(&self, number: u64) -> u64 {
        match self.quota {
            Quota::Each(inputs) => inputs,
            Quota::Total { inputs, jobs, .. } => self.share(inputs, jobs, number),
        }
    }

    fn share(&self, inputs: u64, jobs: u64, number: u64) -> u64 {
        let before = |number: u64| {
            (u128::from(number) * u128::from(inputs) / u128::from(jobs.max(1))) as u64
        };
        if self.shape != Shape::FanIn {
            return before(number + 1) - before(number);
        }
        let collector = number % FAN_IN == FAN_IN - 1 || number + 1 == jobs;
        if collector { before(number + 1) - before(number / FAN_IN * FAN_IN) } else { 0 }
    }

    fn inputs(&self, number: u64) -> Vec<Dataset> {
        let count = match self.quota {
            Quota::Each(_) if self.shape == Shape::FanIn && number % FAN_IN == FAN_IN - 1 => {
                FAN_IN - 1
            }
            Quota::Total { made_good_from, owed, .. }
                if (made_good_from..made_good_from + owed).contains(&number) =>
            {
                self.quota(number) + 1
            }
            Quota::Each(_) | Quota::Total { .. } => self.quota(number),
        };
        let count = count.min(self.readable(number)) as usize;
        let mut random = Random::of(&[self.seed, 1, number]);
        let mut chosen: Vec<Dataset> = Vec::with_capacity(count);
        let mut draws = 0;
        while chosen.len() < count && draws < count + DRAWS {
            if let Some(drawn) = self.draw(number, chosen.len() as u64, &mut random)
                && !chosen.contains(&drawn)
            {
                chosen.push(drawn);
            }
            draws += 1;
        }
        // The shape's own are used up: any other ones, the nearest first.
        let outputs = (0..number.min(self.producers)).rev().map(Dataset::OutputOf);
        let sources = (0..self.sources.unwrap_or(u64::MAX)).map(Dataset::Source);
        let mut others = outputs.chain(sources);
        while chosen.len() < count {
            let Some(other) = others.next() else { break };
            if !chosen.contains(&other) {
                chosen.push(other);
            }
        }
        chosen
    }

    /// A candidate for input `place` of job `number`, as the shape has it.
    fn draw(&self, number: u64, place: u64, random: &mut Random) -> Option<Dataset> {
        let earlier = number.min(self.producers);
        let output = |number: u64| (number < earlier).then_some(Dataset::OutputOf(number));
        let source = |random: &mut Random| {
            let sources =
                self.sources.map_or(number / 4 + 8, |sources| sources.min(number / 4 + 8));
            if sources > 0 {
                Some(Dataset::Source(random.below(sources)))
            } else {
                (earlier > 0).then(|| Dataset::OutputOf(random.below(earlier)))
            }
        };
        match self.shape {
            Shape::Chain if place == 0 && number > 0 => output(number - 1),
            Shape::Layered if number >= LAYER => {
                output((number / LAYER - 1) * LAYER + random.below(LAYER))
            }
            Shape::FanOut if place == 0 && number > 0 => output((number - 1) / FAN_OUT * FAN_OUT),
            Shape::FanIn if number % FAN_IN == FAN_IN - 1 => {
                output(number - 1 - place % (FAN_IN - 1))
            }
            Shape::Random if earlier >= INPUTS => output(random.below(earlier)),
            Shape::ScaleFree if earlier >= INPUTS => {
                output((earlier as f64 * random.unit().powi(3)) as u64)
            }
            _ => source(random),
        }
    }
}
