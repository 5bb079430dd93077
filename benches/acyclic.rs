//! What it costs to keep a graph acyclic, operation by operation, and what other ways would cost.
//!
//! `cargo bench --bench acyclic` runs Criterion on single puts and then prints the tables of all
//! inserts along growing graphs; `-- tables` prints only these, `-- tables chain random` only some
//! shapes; `-- decide` and `-- decide chain random` the same without the other ways.

mod shapes;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use fencepost::graph::{Graph, JobSpecification, Name, Operation, decide};
use hdrhistogram::Histogram;
use petgraph::acyclic::Acyclic;
use petgraph::data::Build;
use petgraph::graph::{DiGraph, NodeIndex};

use shapes::{ORDERS, SHAPES, accepted, build, command, dataset, order, put, shape};

/// Beyond it a row is given up, with what was reached.
const ROW_TIME_LIMIT: Duration = Duration::from_secs(10);
const LARGE_JOBS: usize = 100_000;
/// Where a whole search for each operation can still be waited for.
const SMALL_JOBS: usize = 10_000;
const BUILT_JOBS: usize = 1_000_000;
const BUILT_CHANGESET_JOBS: usize = 2_000;

/// petgraph's searches are recursive: a long chain needs this much stack.
const STACK_BYTES: usize = 4 << 30;

fn main() {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap().join().unwrap();
}

fn run() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let only =
        arguments.first().map(String::as_str).filter(|first| ["tables", "decide"].contains(first));
    if only.is_none() {
        let mut criterion = Criterion::default().configure_from_args().sample_size(50);
        single_puts(&mut criterion);
        criterion.final_summary();
    }
    let chosen = |shape: &&str| {
        only.is_none() || arguments.len() < 2 || arguments.iter().any(|argument| argument == shape)
    };
    let shapes: Vec<&str> = SHAPES.into_iter().filter(chosen).collect();
    table("decide", LARGE_JOBS, &shapes, |jobs, order| inserts(jobs, order, Ours::default()));
    building(&shapes);
    if only == Some("decide") {
        return;
    }
    table("petgraph's Acyclic", LARGE_JOBS, &shapes, |jobs, order| {
        inserts(jobs, order, Petgraph::new(jobs.len()))
    });
    table("decide", SMALL_JOBS, &shapes, |jobs, order| inserts(jobs, order, Ours::default()));
    table("petgraph's Acyclic", SMALL_JOBS, &shapes, |jobs, order| {
        inserts(jobs, order, Petgraph::new(jobs.len()))
    });
    let plain = |check| {
        move |jobs: &[Vec<usize>], order: &[usize]| {
            inserts(jobs, order, Plain::new(jobs.len(), check))
        }
    };
    table("plain depth-first search", SMALL_JOBS, &shapes, plain(Check::Search));
    table("full toposort for each put", SMALL_JOBS, &shapes, plain(Check::Toposort));
}

/// A put of a job with three inputs and one output that already has consumers, into graphs of a
/// growing size.
fn single_puts(criterion: &mut Criterion) {
    for jobs in [10_000, 100_000, 500_000] {
        let mut group = criterion.benchmark_group(format!("put into {jobs} jobs"));
        let readers = (0..100).map(|i| {
            let inputs = [dataset(jobs - 1 - i), name("unwritten")];
            job(&format!("reader {i}"), &inputs, &[&format!("read {i}")])
        });
        let graph = accepted(&build(&shape("random", jobs), 2_000), &command(readers));
        let early = [10, jobs / 4, jobs / 2].map(dataset);
        let writer = command([job("writer", &early, &["unwritten"])]);
        let written = accepted(&graph, &writer);
        let own = accepted(&graph, &command([job("alone", &early, &[])]));
        let other =
            command([job("alone", &[dataset(10), dataset(jobs / 4), dataset(jobs / 2 + 1)], &[])]);
        let closing = command([job(
            "writer",
            &[dataset(10), dataset(jobs / 4), name("read 7")],
            &["unwritten"],
        )]);
        let measured = [
            ("a new job between producers and 100 consumers", &graph, &writer, true),
            ("one input replaced", &own, &other, true),
            ("nothing changed", &written, &writer, true),
            ("a cycle rejected", &graph, &closing, false),
        ];
        for (what, graph, command, legal) in measured {
            assert_eq!(decide(graph, command).is_ok(), legal, "{what}");
            group.bench_function(what, |b| {
                b.iter_batched(|| graph, |graph| decide(graph, command), BatchSize::SmallInput)
            });
        }
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn job(job: &str, inputs: &[Name], outputs: &[&str]) -> Operation {
    let mut inputs = inputs.to_vec();
    inputs.sort_unstable();
    let outputs = outputs.iter().map(|output| name(output)).collect();
    Operation::PutJob(JobSpecification {
        name: name(job),
        inputs,
        outputs,
        spec: Default::default(),
    })
}

/// One way to take a job in, with all edges to jobs that are there.
trait Inserts {
    /// Whatever must exist before the clock starts; then the time that the insert took.
    fn insert(&mut self, job: usize, inputs: &[usize], readers: &[usize]) -> Duration;
    /// How long one full topological sort takes now.
    fn toposort(&self) -> Duration;
}

struct Outcome {
    nanoseconds: Histogram<u64>,
    toposort: Duration,
    inserted: usize,
    total: Duration,
}

fn inserts(jobs: &[Vec<usize>], order: &[usize], mut into: impl Inserts) -> Outcome {
    let mut readers_of: Vec<Vec<usize>> = vec![Vec::new(); jobs.len()];
    jobs.iter()
        .enumerate()
        .for_each(|(i, inputs)| inputs.iter().for_each(|&input| readers_of[input].push(i)));
    let mut nanoseconds = Histogram::new(3).unwrap();
    let (began, mut inserted, mut total) = (Instant::now(), 0, Duration::ZERO);
    for &job in order {
        let took = into.insert(job, &jobs[job], &readers_of[job]);
        nanoseconds.record(took.as_nanos() as u64).unwrap();
        (inserted, total) = (inserted + 1, total + took);
        if began.elapsed() > ROW_TIME_LIMIT {
            break;
        }
    }
    Outcome { nanoseconds, toposort: into.toposort(), inserted, total }
}

fn table(
    how: &str,
    jobs: usize,
    shapes: &[&str],
    run: impl Fn(&[Vec<usize>], &[usize]) -> Outcome,
) {
    println!("\n{how}, {jobs} jobs, one put each; µs\n");
    println!("| shape | order | p50 | p99 | max | all, s | one toposort |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    for shape_name in shapes {
        let graph = shape(shape_name, jobs);
        for order_name in ORDERS {
            let outcome = run(&graph, &order(order_name, jobs));
            let micros = |nanoseconds: u64| format!("{:.1}", nanoseconds as f64 / 1e3);
            let at = |quantile| micros(outcome.nanoseconds.value_at_quantile(quantile));
            let (p50, p99, max) = (at(0.5), at(0.99), micros(outcome.nanoseconds.max()));
            let all = match outcome.inserted {
                all if all == jobs => format!("{:.2}", outcome.total.as_secs_f64()),
                some => format!("gave up at {some}"),
            };
            let toposort = micros(outcome.toposort.as_nanos() as u64);
            println!(
                "| {shape_name} | {order_name} | {p50} | {p99} | {max} | {all} | {toposort} |"
            );
        }
    }
}

#[derive(Default)]
struct Ours {
    graph: Graph,
}

impl Inserts for Ours {
    fn insert(&mut self, job: usize, inputs: &[usize], _readers: &[usize]) -> Duration {
        let put = command([put(job, inputs)]);
        let began = Instant::now();
        self.graph = accepted(&self.graph, &put);
        began.elapsed()
    }

    fn toposort(&self) -> Duration {
        let began = Instant::now();
        assert!(petgraph::algo::toposort(&self.graph, None).is_ok());
        began.elapsed()
    }
}

/// The jobs as nodes, an edge for each pair of a writer and a reader; by D. Pearce and P. Kelly's
/// algorithm (2006).
struct Petgraph {
    graph: Acyclic<DiGraph<(), ()>>,
    nodes: Vec<Option<NodeIndex>>,
}

impl Petgraph {
    fn new(jobs: usize) -> Self {
        Self { graph: Acyclic::new(), nodes: vec![None; jobs] }
    }
}

impl Inserts for Petgraph {
    fn insert(&mut self, job: usize, inputs: &[usize], readers: &[usize]) -> Duration {
        let began = Instant::now();
        let node = self.graph.add_node(());
        self.nodes[job] = Some(node);
        for before in inputs.iter().filter_map(|&input| self.nodes[input]) {
            self.graph.try_add_edge(before, node, ()).expect("legal");
        }
        for after in readers.iter().filter_map(|&reader| self.nodes[reader]) {
            self.graph.try_add_edge(node, after, ()).expect("legal");
        }
        began.elapsed()
    }

    fn toposort(&self) -> Duration {
        let began = Instant::now();
        assert!(petgraph::algo::toposort(self.graph.inner(), None).is_ok());
        began.elapsed()
    }
}

#[derive(Clone, Copy)]
enum Check {
    Search,
    Toposort,
}

/// No order is kept: each put is followed by a search for a way from the new job back to itself, or
/// by sorting everything.
struct Plain {
    graph: DiGraph<(), ()>,
    nodes: Vec<Option<NodeIndex>>,
    check: Check,
}

impl Plain {
    fn new(jobs: usize, check: Check) -> Self {
        Self { graph: DiGraph::new(), nodes: vec![None; jobs], check }
    }

    fn reaches_itself(&self, node: NodeIndex) -> bool {
        let mut waiting: Vec<NodeIndex> = self.graph.neighbors(node).collect();
        let mut seen: HashSet<NodeIndex> = waiting.iter().copied().collect();
        while let Some(next) = waiting.pop() {
            if next == node {
                return true;
            }
            waiting.extend(self.graph.neighbors(next).filter(|&after| seen.insert(after)));
        }
        false
    }
}

impl Inserts for Plain {
    fn insert(&mut self, job: usize, inputs: &[usize], readers: &[usize]) -> Duration {
        let began = Instant::now();
        let node = self.graph.add_node(());
        self.nodes[job] = Some(node);
        for before in inputs.iter().filter_map(|&input| self.nodes[input]) {
            self.graph.add_edge(before, node, ());
        }
        for after in readers.iter().filter_map(|&reader| self.nodes[reader]) {
            self.graph.add_edge(node, after, ());
        }
        let cyclic = match self.check {
            Check::Search => self.reaches_itself(node),
            Check::Toposort => petgraph::algo::toposort(&self.graph, None).is_err(),
        };
        assert!(!cyclic);
        began.elapsed()
    }

    fn toposort(&self) -> Duration {
        let began = Instant::now();
        assert!(petgraph::algo::toposort(&self.graph, None).is_ok());
        began.elapsed()
    }
}

fn building(shapes: &[&str]) {
    println!(
        "\n{BUILT_JOBS} jobs in changesets of {BUILT_CHANGESET_JOBS} puts, topological order; s\n"
    );
    println!("| shape | all | a put, µs |");
    println!("|---|---:|---:|");
    for shape_name in
        shapes.iter().filter(|shape| ["chain", "random", "scale-free"].contains(shape))
    {
        let jobs = shape(shape_name, BUILT_JOBS);
        let began = Instant::now();
        let graph = build(&jobs, BUILT_CHANGESET_JOBS);
        let took = began.elapsed();
        assert_eq!(graph.job_count(), BUILT_JOBS);
        println!(
            "| {shape_name} | {:.1} | {:.1} |",
            took.as_secs_f64(),
            took.as_secs_f64() * 1e6 / BUILT_JOBS as f64
        );
    }
}
