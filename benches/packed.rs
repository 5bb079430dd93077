//! What a start costs from a graph in packed form, against its rows and its log: `cargo bench
//! --bench packed`.
//!
//! Two graphs of 1,000,000 jobs, 1,000,000 datasets and 4,000,000 edges: names that rise with the
//! ids, and names of 40 bytes that are scattered. Each way to get the image is taken once in each
//! round, so that a busy machine slows all. Prints the size, medians of time and of processor time,
//! and the ratio to loading the rows from the database, reading included. What was made is dropped
//! when the clock has stopped.
//!
//! Then, for tails of the log of several lengths that are newer than the packed graph, both ways to
//! go on: apply them to the graph, or add them to a builder.
//!
//! `cargo bench --bench packed -- 100000` takes another number of jobs. `FENCEPOST_BENCH_DATABASE`
//! and `FENCEPOST_BENCH_GRAPH` name a graph that is there already instead.

#[path = "shared/inputs.rs"]
mod inputs;

use std::ops::Bound;
use std::time::{Duration, Instant};

use fencepost::bench::Random;
use fencepost::db::{Database, DatabaseUrl, PoolLimits};
use fencepost::graph::{
    CanonicalJson, Change, Changeset, Command, Fact, Graph, GraphBuilder, GraphPacker,
    GraphUnpacker, JobSpecification, LogBuilder, Name, Operation, apply_all,
};
use fencepost::node::{self, NodeOptions};
use fencepost::store::Store;
use rustix::time::{ClockId, clock_gettime};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The name of a job or a dataset by its number.
type Naming = fn(&str, usize) -> Name;

const JOBS: usize = 1_000_000;
const JOBS_PER_CHANGESET: usize = 10_000;
const PART_BYTES: usize = 512 << 10;
const ROUNDS: usize = 5;
const TAILS: [usize; 7] = [0, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000];
const TAIL_ROUNDS: usize = 3;

fn rising(kind: &str, number: usize) -> Name {
    Name::new(&format!("{kind}-{number:08}")).expect("a name")
}

fn scattered(kind: &str, number: usize) -> Name {
    let scattered = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Name::new(&format!("{kind:-<8}{scattered:016x}{number:016x}")).expect("a name of 40 bytes")
}

fn job(name: impl Fn(&str, usize) -> Name, number: usize) -> JobSpecification {
    let before = inputs::before(number).into_iter();
    let mut inputs: Vec<Name> = before.map(|before| name("dataset", before)).collect();
    inputs.sort_unstable();
    let outputs = vec![name("dataset", number)];
    JobSpecification { name: name("job", number), inputs, outputs, spec: CanonicalJson::default() }
}

/// How long something took, and what it used of all processors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    time: Duration,
    processor: Duration,
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What `work` gives, and what it costs.
fn cost_of<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let (began, processor) = (Instant::now(), processor_time());
    let done = work();
    (done, Cost { time: began.elapsed(), processor: processor_time() - processor })
}

fn medians(costs: &[Cost]) -> (f64, f64) {
    let median = |field: fn(&Cost) -> Duration| {
        let mut times: Vec<Duration> = costs.iter().map(field).collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    (median(|cost| cost.time), median(|cost| cost.processor))
}

/// The graph as its rows, which GraphBuilder takes.
struct Rows<'g> {
    jobs: Vec<(i64, &'g str, &'g str, u64, Vec<u32>)>,
    datasets: Vec<(i64, &'g str, Option<&'g str>, Option<i64>)>,
    version: u64,
}

impl<'g> Rows<'g> {
    fn of(graph: &'g Graph) -> Self {
        let mut jobs: Vec<_> = graph
            .jobs_from(Bound::Unbounded)
            .map(|job| {
                let (name, spec) = (job.name().as_str(), job.spec().as_str());
                (job.id().into(), name, spec, job.version(), job.input_ids().collect())
            })
            .collect();
        let mut datasets: Vec<_> = graph
            .datasets_from(Bound::Unbounded)
            .map(|dataset| {
                let metadata = dataset.metadata().map(CanonicalJson::as_str);
                let producer = dataset.producer_id().map(i64::from);
                (dataset.id().into(), dataset.name().as_str(), metadata, producer)
            })
            .collect();
        jobs.sort_unstable();
        datasets.sort_unstable();
        Self { jobs, datasets, version: graph.version() }
    }

    fn build(&self) -> Graph {
        let mut builder = GraphBuilder::default();
        for &(id, name, metadata, _) in &self.datasets {
            builder.dataset(id, name, metadata).expect("a legal row");
        }
        for (id, name, spec, version, inputs) in &self.jobs {
            builder.job(*id, *name, *spec, *version).expect("a legal row");
            builder.inputs(*id, Some(inputs)).expect("a legal row");
        }
        for &(dataset, .., producer) in &self.datasets {
            producer.map(|job| builder.output(job, dataset)).transpose().expect("a legal row");
        }
        builder.finish(self.version).expect("a legal graph")
    }
}

/// A log that leads to the graph: one change for each declared dataset and each job.
fn log_of(graph: &Graph) -> Vec<String> {
    let owned = |names: Vec<&Name>| names.into_iter().cloned().collect();
    let declared = graph.datasets_from(Bound::Unbounded).filter_map(|dataset| {
        let (name, metadata) = (dataset.name().clone(), dataset.metadata()?.clone());
        Some(Fact::DatasetDeclared { metadata, name })
    });
    let mut jobs: Vec<_> = graph.jobs_from(Bound::Unbounded).collect();
    jobs.sort_unstable_by_key(|job| job.id());
    let created = jobs.into_iter().map(|job| Fact::JobCreated {
        inputs: owned(job.inputs()),
        name: job.name().clone(),
        outputs: owned(job.outputs()),
        spec: job.spec().clone(),
    });
    let changes = declared.chain(created).map(|fact| Change { facts: vec![fact] });
    changes.zip(1..).map(|(change, version)| change.canonical_json(version)).collect()
}

fn replay(log: &[String]) -> Graph {
    let mut builder = LogBuilder::default();
    for text in log {
        let (change, _) = Change::from_canonical_json(text).expect("it was written so");
        builder.add(&change).expect("it is legal");
    }
    builder.finish().expect("there is no cycle")
}

fn taken(parts: &[Vec<u8>]) -> GraphUnpacker {
    let mut unpacker = GraphUnpacker::default();
    parts.iter().for_each(|part| unpacker.add(part).expect("it was packed so"));
    unpacker
}

/// Further changes: a job is created, and then gets or loses an input, in turn.
fn tail(graph: &Graph, length: usize) -> Vec<Change> {
    let datasets: Vec<Name> =
        graph.datasets_from(Bound::Unbounded).map(|dataset| dataset.name().clone()).collect();
    let mut random = Random::of(&[1]);
    let mut draw = || datasets[random.below(datasets.len() as u64) as usize].clone();
    let mut change = |number: usize| {
        let (pair, name) = (number / 2, |pair| rising("tail-job", pair));
        if number.is_multiple_of(2) {
            let mut inputs = vec![draw(), draw(), draw()];
            inputs.sort_unstable();
            inputs.dedup();
            let outputs = vec![rising("tail-dataset", pair)];
            let spec = CanonicalJson::default();
            return Fact::JobCreated { inputs, name: name(pair), outputs, spec };
        }
        Fact::JobChanged {
            inputs_added: vec![rising("tail-source", pair % 1_000)],
            inputs_removed: Vec::new(),
            name: name(pair),
            outputs_added: Vec::new(),
            outputs_removed: Vec::new(),
            spec: None,
        }
    };
    (0..length).map(|number| Change { facts: vec![change(number)] }).collect()
}

fn measure(what: &str, load: impl Fn() -> Graph) {
    let graph = load();
    let (jobs, datasets, edges) = (graph.job_count(), graph.dataset_count(), graph.edge_count());
    println!("{what}: {jobs} jobs, {datasets} datasets, {edges} edges");
    let rows = Rows::of(&graph);
    let log = log_of(&graph);
    let parts: Vec<Vec<u8>> = GraphPacker::new(&graph, PART_BYTES).collect();
    let bytes: usize = parts.iter().map(Vec::len).sum();
    let digest = graph.digest();
    println!("packed: {bytes} bytes in {} parts, of up to {PART_BYTES}", parts.len());

    let pack = || GraphPacker::new(&graph, PART_BYTES).map(|part| part.len()).sum::<usize>();
    let ways: [(&str, &dyn Fn() -> Option<Graph>); 6] = [
        ("rows, read from the database", &|| Some(load())),
        ("rows, in memory, by GraphBuilder", &|| Some(rows.build())),
        ("log, in memory, by LogBuilder", &|| Some(replay(&log))),
        ("unpacked", &|| Some(taken(&parts).finish().expect("a legal graph"))),
        ("unpacked, by way of LogBuilder", &|| {
            let builder = taken(&parts).into_log_builder().expect("a legal graph");
            Some(builder.finish().expect("there is no cycle"))
        }),
        ("packing", &|| {
            assert_eq!(pack(), bytes);
            None
        }),
    ];
    let mut costs = vec![Vec::new(); ways.len()];
    for round in 0..ROUNDS {
        for ((_, way), costs) in ways.iter().zip(&mut costs) {
            let (made, cost) = cost_of(way);
            costs.push(cost);
            assert!(round > 0 || made.is_none_or(|graph| graph.digest() == digest));
        }
    }
    let (_, of_rows) = medians(&costs[0]);
    for ((name, _), costs) in ways.iter().zip(&costs) {
        let (time, processor) = medians(costs);
        println!(
            "{name}: {time:.3} s, {processor:.3} s of processor time, {:.2} of that of rows",
            processor / of_rows
        );
    }

    println!("a tail of so many changes; applied to the graph; added to a builder (medians)");
    for length in TAILS {
        let changes = tail(&graph, length);
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..TAIL_ROUNDS {
            let applied = cost_of(|| {
                let graph = taken(&parts).finish().expect("a legal graph");
                apply_all(&graph, &changes)
            });
            let added = cost_of(|| {
                let mut builder = taken(&parts).into_log_builder().expect("a legal graph");
                changes.iter().for_each(|change| builder.add(change).expect("it is legal"));
                builder.finish().expect("there is no cycle")
            });
            assert_eq!(applied.0.edge_count(), added.0.edge_count());
            costs[0].push(applied.1);
            costs[1].push(added.1);
        }
        let [applied, added] = costs.map(|costs| medians(&costs));
        let picks = if taken(&parts).is_long_tail(length as u64) { "builder" } else { "graph" };
        println!(
            "{length}: {:.3} s, {:.3} s of processor time; {:.3} s, {:.3} s; the {picks} is taken",
            applied.0, applied.1, added.0, added.1
        );
    }
}

fn open(database: &DatabaseUrl) -> Store {
    Store::new(Database::open(database, PoolLimits::default()).expect("opens")).expect("opens")
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let loaded =
        |store: &Store, graph: &Name| store.load(graph).expect("loads").expect("is there").1;
    let asked =
        ["FENCEPOST_BENCH_DATABASE", "FENCEPOST_BENCH_GRAPH"].map(|name| std::env::var(name).ok());
    if let [Some(url), Some(graph)] = asked {
        let store = open(&DatabaseUrl::parse(&url).expect("a URL"));
        let graph = Name::new(&graph).expect("a name");
        return measure(graph.as_str(), || loaded(&store, &graph));
    }
    let jobs = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(JOBS);
    let folder = tempfile::tempdir().expect("a folder");
    let database = DatabaseUrl::Sqlite(folder.path().join("bench.db"));
    let names: [(&str, Naming); 2] = [("rising names", rising), ("scattered names", scattered)];
    for (what, name) in names {
        let service = node::open(&NodeOptions::new(database.clone())).expect("a node");
        let graph = Name::new(what).expect("a name");
        service.create_graph_and_wait(&graph).expect("a graph");
        let numbers: Vec<usize> = (0..jobs).collect();
        for some in numbers.chunks(JOBS_PER_CHANGESET) {
            let puts = some.iter().map(|&number| Operation::PutJob(job(name, number)));
            let changeset: Changeset = puts.collect();
            service.write_and_wait(&graph, Command::Changeset(changeset).into()).expect("accepted");
        }
        drop(service);
        let store = open(&database);
        measure(what, || loaded(&store, &graph));
    }
}
