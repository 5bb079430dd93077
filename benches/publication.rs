//! Why the graph is persistent: what a write costs, and whom it holds up, under four ways to let
//! readers see it.
//!
//! `cargo bench --bench publication` prints one table. A reader plans nearly all jobs of the graph,
//! over and over, while a writer puts one job a write; the writer's stall is what it waits for that
//! reader.

#[expect(dead_code, reason = "this benchmark needs one shape and one order")]
mod shapes;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use fencepost::graph::{Graph, Name, PlanRequest, decide};
use hdrhistogram::Histogram;
use petgraph::Direction;
use petgraph::algo::toposort;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};

use shapes::{build, command, put, shape};

const JOBS: usize = 100_000;
const WRITES: usize = 2_000;
/// A copy of everything for each write is slow; fewer tell enough.
const COPYING_WRITES: usize = 200;
/// A breath between two plans, so that a writer can get in at all.
const READER_PAUSE: Duration = Duration::from_millis(1);
/// How long writer and reader meet each other, and how often one writes.
const BESIDE: Duration = Duration::from_secs(4);
const WRITER_PAUSE: Duration = Duration::from_millis(1);

/// One way to publish.
trait Publishes: Sync {
    /// Puts a job that reads the outputs of three others.
    fn write(&self, job: usize, inputs: [usize; 3]);
    /// Plans for all jobs; their number.
    fn plan(&self) -> usize;
}

fn main() {
    let jobs = shape("scale-free", JOBS);
    println!("{JOBS} jobs, one put a write, one reader that plans them all\n");
    println!(
        "| how | memory, MiB | p50, µs | p99, µs | p99 beside a reader, µs | longest stall, µs | a plan, ms |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    measure("persistent: clone, apply, swap", WRITES, || {
        Persistent(Mutex::new(build(&jobs, 2_000)))
    });
    measure("two copies, each write applied to both", WRITES, || TwoCopies {
        copies: [RwLock::new(Arena::new(&jobs)), RwLock::new(Arena::new(&jobs))],
        read_second: AtomicBool::new(false),
    });
    measure("a full copy for each write", COPYING_WRITES, || {
        FullCopy(Mutex::new(Arc::new(Arena::new(&jobs))))
    });
    measure("one copy under a read-write lock", WRITES, || Locked(RwLock::new(Arena::new(&jobs))));
}

fn measure<P: Publishes>(how: &str, writes: usize, build: impl Fn() -> P) {
    let before = resident_mib();
    let published = build();
    let inputs = |i: usize| [i * 7 % JOBS, i * 31 % JOBS, i * 101 % JOBS];
    let put = |i: usize, nanoseconds: &mut Histogram<u64>| {
        let began = Instant::now();
        published.write(JOBS + i, inputs(i));
        nanoseconds.record(began.elapsed().as_nanos() as u64).unwrap();
    };
    let (mut alone, mut beside) = (Histogram::new(3).unwrap(), Histogram::new(3).unwrap());
    (0..writes).for_each(|i| put(i, &mut alone));
    let memory = resident_mib() - before;
    let done = AtomicBool::new(false);
    let plan = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut nanoseconds = Histogram::<u64>::new(3).unwrap();
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert!(published.plan() >= JOBS);
                nanoseconds.record(began.elapsed().as_nanos() as u64).unwrap();
                std::thread::sleep(READER_PAUSE);
            }
            nanoseconds.value_at_quantile(0.5)
        });
        let began = Instant::now();
        for i in writes.. {
            put(i, &mut beside);
            std::thread::sleep(WRITER_PAUSE);
            if began.elapsed() > BESIDE {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    let micros = |nanoseconds: u64| format!("{:.1}", nanoseconds as f64 / 1e3);
    let at = |quantile: f64| micros(alone.value_at_quantile(quantile));
    let (p50, p99, plan) = (at(0.5), at(0.99), plan as f64 / 1e6);
    let (beside_p99, stall) = (micros(beside.value_at_quantile(0.99)), micros(beside.max()));
    println!("| {how} | {memory:.0} | {p50} | {p99} | {beside_p99} | {stall} | {plan:.0} |");
}

/// What the process holds, by the kernel's count.
fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / 1_048_576.0
}

/// Fencepost's: all of the rules, names and metadata, which the others do without.
struct Persistent(Mutex<Graph>);

impl Publishes for Persistent {
    fn write(&self, job: usize, inputs: [usize; 3]) {
        let graph = self.0.lock().unwrap().clone();
        let decision = decide(&graph, &command([put(job, &sorted(inputs))]))
            .map_err(|r| r.to_string())
            .unwrap();
        let former = std::mem::replace(&mut *self.0.lock().unwrap(), decision.next);
        drop(former);
    }

    fn plan(&self) -> usize {
        let graph = self.0.lock().unwrap().clone();
        let jobs: Vec<Name> =
            graph.jobs_from(std::ops::Bound::Unbounded).map(|job| job.name().clone()).collect();
        let plan = graph.plan(&PlanRequest { jobs, ..PlanRequest::default() }, usize::MAX).unwrap();
        plan.stages.iter().map(Vec::len).sum()
    }
}

fn sorted(inputs: [usize; 3]) -> Vec<usize> {
    let mut inputs = inputs.to_vec();
    inputs.sort_unstable();
    inputs.dedup();
    inputs
}

/// A graph that is changed in place: job names as node weights, an edge for each pair of a writer
/// and a reader.
#[derive(Clone)]
struct Arena(StableDiGraph<String, ()>);

impl Arena {
    fn new(jobs: &[Vec<usize>]) -> Self {
        let mut graph = StableDiGraph::new();
        for i in 0..jobs.len() {
            graph.add_node(format!("team/job {i:07}"));
        }
        for (i, inputs) in jobs.iter().enumerate() {
            graph.extend_with_edges(
                inputs.iter().map(|&input| (NodeIndex::new(input), NodeIndex::new(i))),
            );
        }
        Self(graph)
    }

    fn put(&mut self, job: usize, inputs: [usize; 3]) {
        let node = self.0.add_node(format!("team/job {job:07}"));
        self.0.extend_with_edges(
            sorted(inputs).into_iter().map(|input| (NodeIndex::new(input), node)),
        );
    }

    /// As bare as a plan can be: order, stages, sorted names.
    fn plan(&self) -> usize {
        let order = toposort(&self.0, None).unwrap();
        let mut stage_of = vec![0_usize; self.0.node_count()];
        for &job in &order {
            let before = self
                .0
                .neighbors_directed(job, Direction::Incoming)
                .map(|before| stage_of[before.index()] + 1);
            stage_of[job.index()] = before.max().unwrap_or(0);
        }
        let mut jobs: Vec<(usize, &String)> =
            order.iter().map(|&job| (stage_of[job.index()], &self.0[job])).collect();
        jobs.sort_unstable();
        jobs.iter().map(|(_, name)| *name).collect::<HashSet<_>>().len()
    }
}

/// As `left-right` and `evmap` do it: readers hold one copy while the writer works on the other,
/// which must wait for them.
struct TwoCopies {
    copies: [RwLock<Arena>; 2],
    read_second: AtomicBool,
}

impl Publishes for TwoCopies {
    fn write(&self, job: usize, inputs: [usize; 3]) {
        let second = self.read_second.load(Ordering::SeqCst);
        self.copies[usize::from(!second)].write().unwrap().put(job, inputs);
        self.read_second.store(!second, Ordering::SeqCst);
        self.copies[usize::from(second)].write().unwrap().put(job, inputs);
    }

    fn plan(&self) -> usize {
        let second = self.read_second.load(Ordering::SeqCst);
        self.copies[usize::from(second)].read().unwrap().plan()
    }
}

struct FullCopy(Mutex<Arc<Arena>>);

impl Publishes for FullCopy {
    fn write(&self, job: usize, inputs: [usize; 3]) {
        let current = self.0.lock().unwrap().clone();
        let mut next = Arena::clone(&current);
        next.put(job, inputs);
        *self.0.lock().unwrap() = Arc::new(next);
    }

    fn plan(&self) -> usize {
        let current = self.0.lock().unwrap().clone();
        current.plan()
    }
}

struct Locked(RwLock<Arena>);

impl Publishes for Locked {
    fn write(&self, job: usize, inputs: [usize; 3]) {
        self.0.write().unwrap().put(job, inputs);
    }

    fn plan(&self) -> usize {
        self.0.read().unwrap().plan()
    }
}
