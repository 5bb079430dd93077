//! What many small graphs take in one process: 10,000 graphs of 100 jobs each, 100 datasets and
//! about 400 edges, names of 40 bytes.
//!
//! `cargo bench --bench graphs`. Prints the memory of the process when all were read, without a
//! bound and with one, how much of it the service counts, and what it takes to read a graph that is
//! in memory and one that is not. SQLite, in a file that is gone afterwards.

use std::time::{Duration, Instant};

use fencepost::bench::Random;
use fencepost::db::DatabaseUrl;
use fencepost::graph::{CanonicalJson, Changeset, Command, JobSpecification, Name, Operation};
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Service};

/// The same as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GRAPHS: usize = 10_000;
const JOBS: usize = 100;
const BOUND: usize = 128 << 20;

fn name(text: &str) -> Name {
    Name::new(&format!("{text:-<40}")).expect("a name of 40 bytes")
}

fn job(graph: usize, number: usize) -> Operation {
    let mut random = Random::of(&[graph as u64, number as u64]);
    let inputs = (0..3)
        .map(|_| random.below(number.max(1) as u64))
        .filter(|before| (*before as usize) < number);
    let mut inputs: Vec<Name> =
        inputs.map(|before| name(&format!("dataset/{graph}/{before}"))).collect();
    inputs.sort_unstable();
    inputs.dedup();
    let outputs = vec![name(&format!("dataset/{graph}/{number}"))];
    let name = name(&format!("job/{graph}/{number}"));
    Operation::PutJob(JobSpecification { name, inputs, outputs, spec: CanonicalJson::default() })
}

fn graph_name(graph: usize) -> Name {
    Name::new(&format!("graph-{graph}")).expect("a name")
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Reads every graph once; the mean time of a read.
fn read_all(service: &Service) -> Duration {
    let began = Instant::now();
    for graph in 0..GRAPHS {
        let image = service.read_and_wait(&graph_name(graph)).expect("an image");
        assert_eq!(image.graph.job_count(), JOBS);
    }
    began.elapsed() / GRAPHS as u32
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let database = DatabaseUrl::Sqlite(folder.path().join("bench.db"));
    let open = |bound| {
        let limits = Limits { graph_bytes: bound, ..Limits::default() };
        node::open(&NodeOptions { limits, ..NodeOptions::new(database.clone()) }).expect("a node")
    };
    let writer = open(0);
    for graph in 0..GRAPHS {
        writer.create_graph_and_wait(&graph_name(graph)).expect("a graph");
        let changeset: Changeset = (0..JOBS).map(|number| job(graph, number)).collect();
        writer
            .write_and_wait(&graph_name(graph), Command::Changeset(changeset).into())
            .expect("accepted");
    }
    drop(writer);
    for (what, bound) in [("a bound of 128 MiB", BOUND), ("no bound", usize::MAX)] {
        let before = resident_mb();
        let service = open(bound);
        let first = read_all(&service);
        let again = read_all(&service);
        let metrics = service.metrics();
        println!(
            "{what}: {:.0} MB resident, {:.0} more than before, of which {:.0} are counted for {} graphs; a read {:.0} µs at first, {:.0} µs when all were read \
             before; {} loads",
            resident_mb(),
            resident_mb() - before,
            metrics.graph_bytes.get() as f64 / f64::from(1 << 20),
            metrics.graphs_held.get(),
            first.as_secs_f64() * 1e6,
            again.as_secs_f64() * 1e6,
            metrics.image_loads.get(),
        );
    }
}
