//! Request number n of each workload.

use std::collections::HashMap;

use uuid::Uuid;

use super::random::Random;
use super::request::{Outcome, Request};
use super::seen::Seen;
use super::target::Connection;
use super::topology::{Topology, TopologyError};
use super::{BenchError, DriveArgs, Order, WorkloadName};
use crate::graph::{
    CanonicalJson, Changeset, JobSpecification, Name, Operation, PlanRequest, Precondition, Side,
    Step,
};

/// Everything that request n depends on.
pub struct Workload {
    args: DriveArgs,
    topology: Topology,
    /// Load: how many datasets are declared before the first job.
    sources: u64,
    first_job: u64,
    /// Pairs: the number of the first.
    first_pair: u64,
    /// Jobs that existed at the start.
    known: Vec<JobSpecification>,
    /// What they write.
    written: Vec<Name>,
    /// How much weight they have up to each, where some are chosen more often than others.
    weights: Vec<f64>,
    /// Puts that break a rule, whatever else is put.
    illegal: Vec<JobSpecification>,
    plans: Vec<PlanRequest>,
    /// What idempotency keys begin with: of this run alone, for a service keeps them for a day.
    keys: String,
}

const BLOCK: u64 = 4_096;
/// How many plans are tried at most, until so many are within a tenth of the size; the nearest in
/// size are asked for.
const PLANS: usize = 64;
const PLANS_KEPT: usize = 8;
const LOAD_JOBS: u64 = 500_000;
const CONFLICT_JOBS: u64 = 8;
/// Datasets that every job of a pair reads.
const PAIR_SOURCES: u64 = 100;
const MIXED_WRITE_PERCENT: u8 = 20;
const CONFLICT_WRITE_PERCENT: u8 = 70;

impl From<TopologyError> for BenchError {
    fn from(error: TopologyError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl Workload {
    /// Looks at the graph, of so many jobs, for what the workload is to work on.
    ///
    /// # Errors
    /// [`BenchError`] if the arguments cannot be met, or the graph cannot be read.
    pub fn prepare(
        args: &DriveArgs,
        jobs_there: u64,
        connection: &mut dyn Connection,
    ) -> Result<Self, BenchError> {
        let (mut topology, mut sources) = (Topology::endless(args)?, 0);
        if args.workload == WorkloadName::Load {
            let jobs = args.jobs.unwrap_or(LOAD_JOBS);
            let datasets = args.datasets.unwrap_or(jobs);
            topology = Topology::sized(
                args,
                jobs,
                datasets,
                args.edges.unwrap_or(jobs.saturating_mul(4)),
            )?;
            sources = datasets.saturating_sub(jobs);
        }
        let mut workload = Self {
            args: args.clone(),
            topology,
            sources,
            first_job: args.first_job.unwrap_or(0),
            // Of each pair of an earlier run at least one job is there.
            first_pair: jobs_there,
            known: Vec::new(),
            written: Vec::new(),
            weights: Vec::new(),
            illegal: Vec::new(),
            plans: Vec::new(),
            keys: Uuid::new_v4().to_string(),
        };
        let breaks_rules = args.workload == WorkloadName::Register && args.reject_percent > 0;
        if breaks_rules
            || matches!(
                args.workload,
                WorkloadName::Reregister
                    | WorkloadName::Churn
                    | WorkloadName::Plans
                    | WorkloadName::Mixed
            )
        {
            workload.known = connection.first_jobs(args.sample).map_err(BenchError::Refused)?;
            workload.written = workload.known.iter().flat_map(|job| job.outputs.clone()).collect();
            workload.weights = weights(workload.known.len(), args.skew);
        }
        if breaks_rules {
            workload.illegal = illegal(&workload.known);
        }
        if matches!(args.workload, WorkloadName::Register | WorkloadName::Mixed)
            && args.first_job.is_none()
        {
            workload.first_job = workload.free_block(jobs_there, connection)?;
        }
        match args.workload {
            WorkloadName::Reregister | WorkloadName::Churn if workload.known.is_empty() => {
                Err(nothing_there(args, "no job"))
            }
            WorkloadName::Register if breaks_rules && workload.illegal.is_empty() => {
                Err(nothing_there(args, "no job with an output"))
            }
            WorkloadName::Plans if workload.written.is_empty() => {
                Err(nothing_there(args, "no dataset that a job writes"))
            }
            WorkloadName::Plans => {
                workload.plans = workload.choose_plans(connection)?;
                Ok(workload)
            }
            _ => Ok(workload),
        }
    }

    /// What must be there before the first request.
    #[must_use]
    pub fn setup(&self) -> Vec<Request> {
        if self.args.workload != WorkloadName::Conflict {
            return Vec::new();
        }
        let dataset = |k| Operation::PutDataset {
            name: fought_over('d', k),
            metadata: CanonicalJson::default(),
        };
        let job = |k| Operation::PutJob(bare_job(fought_over('j', k)));
        let operations = (0..self.fought_over()).flat_map(|k| [dataset(k), job(k)]);
        vec![Request::Write(operations.map(Step::from).collect())]
    }

    /// After how many requests the workload is done; `None` for those that never are.
    #[must_use]
    pub fn requests(&self) -> Option<u64> {
        (self.args.workload == WorkloadName::Load)
            .then(|| self.load_operations().div_ceil(self.args.batch.max(1)))
    }

    /// Request `number`. O(its size).
    #[must_use]
    pub fn request(&self, number: u64, seen: &Seen) -> Request {
        let mut random = Random::of(&[self.args.seed, 2, number]);
        match self.args.workload {
            WorkloadName::Register if random.percent(self.args.reject_percent) => {
                put(pick(&self.illegal, &mut random)
                    .cloned()
                    .unwrap_or_else(|| self.new_job(number)))
            }
            WorkloadName::Register => self.register(number),
            WorkloadName::Churn => self.churn(number),
            WorkloadName::Reregister => self.reregister(number, &mut random),
            WorkloadName::Plans => {
                Request::Plan(pick(&self.plans, &mut random).cloned().unwrap_or_default())
            }
            WorkloadName::Mixed => self.mixed(number, &mut random, seen),
            WorkloadName::Conflict => self.conflict(number, &mut random, seen),
            WorkloadName::Pairs => self.one_of_pair(number),
            WorkloadName::Load => self.load(number),
            WorkloadName::Fetch => Request::Fetch(self.args.path.clone().unwrap_or_default()),
        }
    }

    fn register(&self, number: u64) -> Request {
        let request = put(self.new_job(number));
        match self.graph_of(number) {
            Some(graph) => Request::OfGraph { graph, request: Box::new(request) },
            None => request,
        }
    }

    /// Of a run on many graphs: the one that request `number` is about.
    pub fn graph_of(&self, number: u64) -> Option<Name> {
        let graph = Random::of(&[self.args.seed, 12, number]).below(self.args.graphs?);
        let name = self.args.graph_of_many(graph);
        Some(name.expect("no longer than that of the last graph, which is one"))
    }

    fn new_job(&self, number: u64) -> JobSpecification {
        let mut job = self.topology.job(self.first_job + self.arranged(number, self.args.order));
        if self.args.spec_bytes > 0 {
            job.spec = padded(self.args.spec_bytes);
        }
        job
    }

    /// One of the known jobs, all evenly or the first ones more often.
    fn known_job(&self, random: &mut Random) -> Option<(u64, &JobSpecification)> {
        let index = match self.weights.last() {
            None => return None,
            Some(_) if self.args.skew == 0.0 => random.below(self.known.len() as u64) as usize,
            Some(all) => {
                let drawn = random.unit() * all;
                self.weights.partition_point(|weight| *weight <= drawn).min(self.known.len() - 1)
            }
        };
        Some((index as u64, &self.known[index]))
    }

    /// All known jobs in turn: first without their first input, then as they were.
    fn churn(&self, number: u64) -> Request {
        let (count, steps) = (self.known.len() as u64, self.args.churn_steps);
        let job_of = |n: u64| {
            let (round, index) = (n / count, n % count);
            let mut job = self.known[index as usize].clone();
            if round.is_multiple_of(2) && !job.inputs.is_empty() {
                job.inputs.remove(0);
            }
            job.spec = revision(round);
            Operation::PutJob(job)
        };
        let jobs = (number * steps..(number + 1) * steps).map(job_of);
        Request::Write(jobs.collect::<Changeset>().steps)
    }

    /// The place of request `number` in the order of jobs.
    fn arranged(&self, number: u64, order: Order) -> u64 {
        let (block, place) = (number / BLOCK * BLOCK, number % BLOCK);
        let place = match order {
            Order::Topological => place,
            Order::Reverse => BLOCK - 1 - place,
            // An odd factor: every place of the block comes once.
            Order::Random => {
                let mut random = Random::of(&[self.args.seed, 3, block]);
                (place.wrapping_mul(random.next() | 1).wrapping_add(random.next())) % BLOCK
            }
        };
        block + place
    }

    /// The first block, from as many jobs on as there are, that no earlier run has begun.
    fn free_block(
        &self,
        jobs_there: u64,
        connection: &mut dyn Connection,
    ) -> Result<u64, BenchError> {
        let mut block = jobs_there.next_multiple_of(BLOCK);
        loop {
            let orders = [Order::Topological, Order::Reverse, Order::Random];
            let first = orders.map(|order| self.topology.job_name(block + self.arranged(0, order)));
            let mut begun = false;
            for name in first {
                let request = Request::Job { name, if_none_match: None };
                begun |= match connection.perform(&request).outcome {
                    Outcome::Answered { .. } => true,
                    Outcome::Rejected { name, .. } if name == "job_not_found" => false,
                    other => {
                        return Err(BenchError::Refused(format!(
                            "a job could not be read: {other:?}"
                        )));
                    }
                };
            }
            if !begun {
                return Ok(block);
            }
            block += BLOCK;
        }
    }

    fn reregister(&self, number: u64, random: &mut Random) -> Request {
        let Some((index, job)) = self.known_job(random) else { return self.register(number) };
        let mut job = job.clone();
        // Always the same jobs, so that the others stay as they were.
        if Random::of(&[self.args.seed, 4, index]).percent(self.args.changed_percent) {
            job.spec = revision(number);
        }
        put(job)
    }

    fn mixed(&self, number: u64, random: &mut Random, seen: &Seen) -> Request {
        if random.percent(self.args.write_percent.unwrap_or(MIXED_WRITE_PERCENT)) {
            return match self.known_job(random) {
                Some((_, job)) if random.percent(50) => {
                    put(JobSpecification { spec: revision(number), ..job.clone() })
                }
                _ => self.register(number),
            };
        }
        // In a graph that was empty: jobs that may have been put by now.
        let recent = self.first_job + random.below(number + 1);
        if random.percent(self.args.plan_percent) {
            let dataset = pick(&self.written, random).cloned();
            let datasets = vec![dataset.unwrap_or_else(|| self.topology.output_name(recent))];
            return Request::Plan(PlanRequest { datasets, ..PlanRequest::default() });
        }
        if random.below(9) == 0 {
            let dataset = pick(&self.written, random).cloned();
            return Request::Dataset(dataset.unwrap_or_else(|| self.topology.output_name(recent)));
        }
        let name = self
            .known_job(random)
            .map_or_else(|| self.topology.job_name(recent), |(_, job)| job.name.clone());
        let if_none_match = random
            .percent(self.args.revalidate_percent)
            .then(|| seen.versions.get(&name).copied())
            .flatten();
        Request::Job { name, if_none_match }
    }

    fn fought_over(&self) -> u64 {
        self.args.jobs.unwrap_or(CONFLICT_JOBS).max(1)
    }

    fn conflict(&self, number: u64, random: &mut Random, seen: &Seen) -> Request {
        if seen.is_gone {
            return Request::CreateGraph;
        }
        if random.percent(self.args.write_percent.unwrap_or(CONFLICT_WRITE_PERCENT)) {
            return self.conflict_write(number, random, seen);
        }
        if random.percent(self.args.next_page_percent)
            && let Some(page) = &seen.next_page
        {
            return page.clone();
        }
        let number = random.below(self.fought_over());
        match random.below(8) {
            0..=2 => Request::Job { name: fought_over('j', number), if_none_match: None },
            3 | 4 => Request::Dataset(fought_over('d', number)),
            5 | 6 => {
                let datasets = vec![fought_over('d', number)];
                Request::Plan(PlanRequest { datasets, ..PlanRequest::default() })
            }
            _ => Request::of_whole_graph(random.below(4), 1 + number as usize),
        }
    }

    fn conflict_write(&self, number: u64, random: &mut Random, seen: &Seen) -> Request {
        let write = if random.percent(self.args.delete_percent) {
            Request::DeleteGraph
        } else {
            Request::of_steps(self.conflict_steps(random), random.percent(50))
        };
        if self.args.replay_percent == 0 {
            return write;
        }
        match &seen.keyed {
            Some((key, last)) if random.percent(self.args.replay_percent) => {
                // One in eight asks for something else with the key, which is refused.
                let again = if random.below(8) == 0 { write } else { last.clone() };
                Request::Keyed { key: key.clone(), write: Box::new(again) }
            }
            _ => {
                let key = format!("{}-{number}", self.keys);
                Request::Keyed { key, write: Box::new(write) }
            }
        }
    }

    fn conflict_steps(&self, random: &mut Random) -> Vec<Step> {
        let count = self.fought_over();
        let mut job = || fought_over('j', random.below(count));
        let (first, second) = (job(), job());
        let mut dataset = || fought_over('d', random.below(count));
        let (one, other) = (dataset(), dataset());
        let side = if random.percent(60) { Side::Input } else { Side::Output };
        let step = |operation: Operation| Step::from(operation);
        match random.below(40) {
            0..=15 => vec![step(Operation::AddEdge { side, job: first, dataset: one })],
            16..=25 => vec![step(Operation::RemoveEdge { side, job: first, dataset: one })],
            26..=30 => {
                let spec = revision(random.below(4));
                vec![step(Operation::PutJob(JobSpecification {
                    name: first,
                    inputs: vec![one],
                    outputs: vec![other],
                    spec,
                }))]
            }
            // An output moves from one job to another: legal only as a whole.
            31..=34 => vec![
                step(Operation::RemoveEdge {
                    side: Side::Output,
                    job: first,
                    dataset: one.clone(),
                }),
                step(Operation::AddEdge { side: Side::Output, job: second, dataset: one }),
            ],
            35 => vec![step(Operation::DeleteJob { name: first })],
            36 | 37 => {
                vec![Step {
                    operation: Operation::PutJob(bare_job(first)),
                    precondition: Some(Precondition::Absent),
                }]
            }
            _ => vec![
                step(Operation::DeleteDataset { name: one.clone() }),
                step(Operation::PutDataset { name: one, metadata: revision(random.below(4)) }),
            ],
        }
    }

    /// Both jobs of a pair are legal alone. Pairs that close a cycle and pairs that write one
    /// dataset take turns. What all of them read besides makes a write take longer, so that the two
    /// of a pair meet.
    fn one_of_pair(&self, number: u64) -> Request {
        let pair = self.first_pair + number / 2;
        let name = |part: &str| {
            Name::new(&format!("pair/{pair}/{part}")).expect("letters, digits and slashes")
        };
        let (one, other) = (name("one"), name("other"));
        let (job, input, output) = match (pair.is_multiple_of(2), number.is_multiple_of(2)) {
            (true, true) => ("left", one, other),
            (true, false) => ("right", other, one),
            (false, true) => ("left", one, name("both")),
            (false, false) => ("right", other, name("both")),
        };
        let source =
            |n: u64| Name::new(&format!("pair/source/{n}")).expect("letters, digits and slashes");
        let mut inputs: Vec<Name> = (0..PAIR_SOURCES).map(source).chain([input]).collect();
        inputs.sort_unstable();
        let outputs = vec![output];
        put(JobSpecification { inputs, outputs, ..bare_job(name(job)) })
    }

    fn load_operations(&self) -> u64 {
        self.sources + self.args.jobs.unwrap_or(LOAD_JOBS)
    }

    fn load(&self, number: u64) -> Request {
        let from = number * self.args.batch.max(1);
        let to = (from + self.args.batch.max(1)).min(self.load_operations());
        let operation = |n: u64| match n.checked_sub(self.sources) {
            Some(job) => Operation::PutJob(self.topology.job(job)),
            None => Operation::PutDataset {
                name: self.topology.source_name(n),
                metadata: CanonicalJson::default(),
            },
        };
        Request::Write((from..to).map(operation).collect::<Changeset>().steps)
    }

    /// Targets whose plans have about the size that was asked for. A plan grows with its targets,
    /// so their number is searched for by halves.
    fn choose_plans(
        &self,
        connection: &mut dyn Connection,
    ) -> Result<Vec<PlanRequest>, BenchError> {
        let count = self.written.len();
        let start = |random: &mut Random| random.below(count as u64) as usize;
        let plan = |start: usize, targets: usize| {
            let datasets =
                (0..targets).map(|i| self.written[(start + i) % count].clone()).collect();
            PlanRequest { datasets, ..PlanRequest::default() }
        };
        let mut random = Random::of(&[self.args.seed, 5]);
        let Some(wanted) = self.args.plan_jobs else {
            return Ok((0..self.args.sample).map(|_| plan(start(&mut random), 1)).collect());
        };
        let mut sized = Vec::new();
        for _ in 0..PLANS {
            let start = start(&mut random);
            let mut size_of = |targets: usize| plan_size(connection, plan(start, targets));
            let mut best = (1, size_of(1)?);
            let (mut low, mut high) = (1, 1);
            // Doubled first: the plan of all targets may be the whole graph.
            while best.1 < wanted && high < count {
                (low, high) = (high, (high * 2).min(count));
                best = (high, size_of(high)?);
            }
            while high - low > 1 && best.1.abs_diff(wanted) > wanted / 100 {
                let targets = low.midpoint(high);
                let size = size_of(targets)?;
                if size.abs_diff(wanted) < best.1.abs_diff(wanted) {
                    best = (targets, size);
                }
                if size < wanted { low = targets } else { high = targets }
            }
            sized.push((plan(start, best.0), best.1));
            let near =
                sized.iter().filter(|(_, size)| size.abs_diff(wanted) <= wanted / 10).count();
            if near >= PLANS_KEPT {
                break;
            }
        }
        // Where single datasets differ much in their plans, the others tell nothing about the size
        // that was asked for.
        sized.sort_by_key(|(_, size)| size.abs_diff(wanted));
        sized.truncate(PLANS_KEPT);
        let sizes: Vec<usize> = sized.iter().map(|(_, size)| *size).collect();
        log::info!("plans of {sizes:?} jobs");
        Ok(sized.into_iter().map(|(request, _)| request).collect())
    }
}

fn nothing_there(args: &DriveArgs, what: &str) -> BenchError {
    BenchError::Refused(format!(
        "graph `{}` has {what}; fill it first, with --workload load or register",
        args.graph
    ))
}

fn plan_size(connection: &mut dyn Connection, request: PlanRequest) -> Result<usize, BenchError> {
    match connection.perform(&Request::Plan(request)).outcome {
        Outcome::Answered { answer, .. } => Ok(answer.member("jobs").unwrap_or_default()),
        // Too large for the server: larger than anything that was asked for.
        Outcome::Rejected { name, .. } if name == "too_large" => Ok(usize::MAX),
        other => Err(BenchError::Refused(format!("a plan could not be read: {other:?}"))),
    }
}

fn pick<'a, T>(from: &'a [T], random: &mut Random) -> Option<&'a T> {
    if from.is_empty() { None } else { Some(&from[random.below(from.len() as u64) as usize]) }
}

fn put(job: JobSpecification) -> Request {
    Request::Write(vec![Operation::PutJob(job).into()])
}

fn revision(number: u64) -> CanonicalJson {
    CanonicalJson::from_canonical(format!("{{\"revision\":{number}}}"))
}

/// A spec of so many bytes.
fn padded(bytes: usize) -> CanonicalJson {
    let around = "{\"pad\":\"\"}".len();
    let padding = ".".repeat(bytes.saturating_sub(around));
    CanonicalJson::from_canonical(format!("{{\"pad\":\"{padding}\"}}"))
}

/// The weight of the first k of so many, for each k.
fn weights(count: usize, skew: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let add = |k: usize| {
        sum += (k as f64).powf(-skew);
        sum
    };
    (1..=count).map(add).collect()
}

/// Puts that break a rule as long as nobody changes what these jobs read and write: of a job that
/// then reads what a consumer of it writes, and of a further job that writes what one of them does.
fn illegal(known: &[JobSpecification]) -> Vec<JobSpecification> {
    let producers: HashMap<&Name, &JobSpecification> =
        known.iter().flat_map(|job| job.outputs.iter().map(move |output| (output, job))).collect();
    let closes = known.iter().filter_map(|consumer| {
        let producer = consumer.inputs.iter().find_map(|input| producers.get(input))?;
        let mut inputs = producer.inputs.clone();
        inputs.push(consumer.outputs.first()?.clone());
        inputs.sort_unstable();
        inputs.dedup();
        Some(JobSpecification { inputs, ..(*producer).clone() })
    });
    let second = known.iter().enumerate().filter_map(|(number, job)| {
        let name = Name::new(&format!("second/{number}")).expect("letters, digits and a slash");
        Some(JobSpecification { outputs: vec![job.outputs.first()?.clone()], ..bare_job(name) })
    });
    closes.chain(second).collect()
}

fn fought_over(kind: char, number: u64) -> Name {
    Name::new(&format!("conflict/{kind}{number}")).expect("letters, digits and a slash")
}

fn bare_job(name: Name) -> JobSpecification {
    JobSpecification {
        name,
        inputs: Vec::new(),
        outputs: Vec::new(),
        spec: CanonicalJson::default(),
    }
}
