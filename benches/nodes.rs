//! What a write costs where another node wrote before: two nodes in turn at 1,000 and at 1,000,000
//! jobs, and three at 100,000, each design against `crud`.
//!
//! `FENCEPOST_BENCH_DATABASE=postgres://… FENCEPOST_BENCH_REDIS=redis://… cargo bench --bench nodes
//! [-- SIZE…]`; without them a new SQLite file and a lock of files. Graphs that an earlier run has
//! left in the database are used again. The nodes are services in one process, with connections and
//! locks of their own. Prints medians, and means of the refresh.

use std::time::Instant;

use clap::Parser;
use fencepost::bench::{DriveArgs, Topology};
use fencepost::db::DatabaseUrl;
use fencepost::design::Design;
use fencepost::design::crud::CRUD;
use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::graph::{Changeset, Command, Name, Operation};
use fencepost::node::{self, LockUrl, NodeOptions};
use fencepost::service::Service;

/// The same as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const JOBS_PER_CHANGESET: u64 = 10_000;
/// New jobs begin at a multiple of this.
const BLOCK_JOBS: u64 = 4_096;
/// Where an image is loaded anew for each write, so many are enough.
const SLOW_ROUNDS: usize = 21;
const ROUNDS: usize = 300;
const WARM_UP: usize = 6;

/// What `fencepost bench drive` takes, to have its jobs.
#[derive(Parser)]
struct Drive {
    #[command(flatten)]
    args: DriveArgs,
}

struct Field {
    options: NodeOptions,
    args: DriveArgs,
    /// The number of the next new job.
    next: u64,
}

impl Field {
    fn node(&self, design: &'static Design) -> Service {
        node::open(&NodeOptions { design, ..self.options.clone() }).expect("a node")
    }

    /// The graph of `jobs` jobs, made if it is not there.
    fn graph(&mut self, jobs: u64) -> Name {
        let graph = Name::new(&format!("nodes-{jobs}")).expect("a name");
        let node = self.node(&CRUD);
        node.create_graph_and_wait(&graph).expect("a graph");
        let image = node.read_and_wait(&graph).expect("an image");
        if (image.graph.job_count() as u64) < jobs {
            let topology = Topology::sized(&self.args, jobs, jobs, jobs * 4).expect("a topology");
            for first in (0..jobs).step_by(JOBS_PER_CHANGESET as usize) {
                let numbers = first..(first + JOBS_PER_CHANGESET).min(jobs);
                let puts: Changeset =
                    numbers.map(|number| Operation::PutJob(topology.job(number))).collect();
                node.write_and_wait(&graph, Command::Changeset(puts).into()).expect("accepted");
            }
        }
        // Other jobs than any earlier run's, which has moved the version.
        self.next = jobs.next_multiple_of(BLOCK_JOBS) + (image.key.version + 1) * BLOCK_JOBS;
        graph
    }

    /// `nodes` of them write in turn, one new job each time: the median of a write, and the mean of
    /// bringing the image up to date in it; microseconds.
    fn in_turn(
        &mut self,
        graph: &Name,
        design: &'static Design,
        nodes: usize,
        rounds: usize,
    ) -> (f64, f64) {
        let topology = Topology::endless(&self.args).expect("a topology");
        let nodes: Vec<Service> = (0..nodes).map(|_| self.node(design)).collect();
        let refreshed =
            || nodes.iter().map(|node| node.metrics().refresh.write.get_sample_sum()).sum::<f64>();
        let (mut times, mut before) = (Vec::new(), 0.0);
        for round in 0..WARM_UP + rounds {
            if round == WARM_UP {
                before = refreshed();
            }
            let put: Changeset = [Operation::PutJob(topology.job(self.next))].into_iter().collect();
            self.next += 1;
            let began = Instant::now();
            nodes[round % nodes.len()]
                .write_and_wait(graph, Command::Changeset(put).into())
                .expect("accepted");
            times.push(began.elapsed());
        }
        let mut times = times.split_off(WARM_UP);
        times.sort_unstable();
        (times[times.len() / 2].as_secs_f64() * 1e6, (refreshed() - before) / rounds as f64 * 1e6)
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = format!("sqlite:{}", folder.path().join("bench.db").display());
    let url = std::env::var("FENCEPOST_BENCH_DATABASE").unwrap_or(made);
    let database = DatabaseUrl::parse(&url).expect("a URL");
    println!("{database}");
    let redis = std::env::var("FENCEPOST_BENCH_REDIS").ok();
    let lock_url = redis.map(|redis| LockUrl::parse(&redis).expect("a lock"));
    let Drive { args } = Drive::parse_from(["drive", "--workload", "register"]);
    let mut field =
        Field { options: NodeOptions { lock_url, ..NodeOptions::new(database) }, args, next: 0 };

    let wanted: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    for jobs in [1_000, 100_000, 1_000_000] {
        if !wanted.is_empty() && !wanted.contains(&jobs) {
            continue;
        }
        let graph = field.graph(jobs);
        for design in [&CRUD_DELTA, &CRUD_OPTIMISTIC, &CRUD] {
            let reloads = design == &CRUD;
            // Seconds for each write.
            if reloads && jobs > 100_000 {
                continue;
            }
            let rounds = if reloads && jobs > 1_000 { SLOW_ROUNDS } else { ROUNDS };
            let alone = field.in_turn(&graph, design, 1, ROUNDS);
            let two = field.in_turn(&graph, design, 2, rounds);
            let three = field.in_turn(&graph, design, 3, rounds);
            println!("{jobs:>9} jobs, {design}");
            for (who, (write, refresh)) in
                [("one node alone", alone), ("two in turn", two), ("three in turn", three)]
            {
                println!(
                    "    {who:<15} a write {write:>9.0} µs, of which the look at the version and the refresh {refresh:>9.0} µs"
                );
            }
        }
    }
}
