//! What a start costs for a graph that is kept by its log, against one of rows with the same
//! history: `cargo bench --bench start`.
//!
//! Two histories: one change for each job that is created, with one output and three inputs; and
//! one change for each edge that comes or goes, on 50,000 jobs. Each at several lengths, to see
//! that a start is linear. Prints how long a load takes, reading included, how many changes a
//! second that is, the processor time, and the memory of the process. `FENCEPOST_BENCH_DATABASES`
//! may name URLs, with spaces between, of empty databases to use instead of a new file.
//!
//! Then the same from a snapshot, of the log and of rows, and from rows, in turn: right after it,
//! with 100,000 changes since, and where the history is much longer than the graph; and what taking
//! one costs.
//! `-- snapshots` leaves out the shorter histories.

#[path = "shared/databases.rs"]
mod databases;
#[path = "shared/inputs.rs"]
mod inputs;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use fencepost::db::{Database, DatabaseUrl, PoolLimits};
use fencepost::design::Design;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::es_optimistic::ES_OPTIMISTIC;
use fencepost::graph::{
    CanonicalJson, Changeset, Command, JobSpecification, Name, Operation, Side,
};
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Service};
use fencepost::store::{CatchUp, ImageUpdate, LoadedFrom, Store, TakeLimits, Taken};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CREATIONS: [usize; 3] = [100_000, 300_000, 1_000_000];
const EDGE_CHANGES: [usize; 3] = [100_000, 300_000, 1_000_000];
const EDGE_JOBS: usize = 50_000;
/// Writes that wait at once, and that one turn serves.
const IN_LINE: usize = 4_096;
const ROUNDS: usize = 3;
/// Changes after a snapshot.
const TAIL: usize = 90_000;

fn name(kind: &str, number: usize) -> Name {
    Name::new(&format!("{kind}-{number:08}")).expect("a name")
}

fn inputs_of(number: usize) -> Vec<Name> {
    let mut inputs = inputs::before(number);
    inputs.sort_unstable();
    inputs.into_iter().map(|before| name("dataset", before)).collect()
}

fn creation(number: usize) -> Operation {
    Operation::PutJob(JobSpecification {
        name: name("job", number),
        inputs: inputs_of(number),
        outputs: vec![name("dataset", number)],
        spec: CanonicalJson::default(),
    })
}

/// Every other one takes back what the one before did. An edge leads to an earlier job's output.
fn edge_change(number: usize) -> Operation {
    let pair = number / 2;
    let job = 1 + pair % (EDGE_JOBS - 1);
    let wanted = (pair / EDGE_JOBS + pair * 7) % job;
    // Not one that the job has.
    let has = inputs_of(job);
    let dataset = (0..4).map(|more| name("dataset", (wanted + more) % job));
    let free = dataset.into_iter().find(|dataset| !has.contains(dataset));
    let dataset = free.unwrap_or_else(|| name("outside", pair % 1_000));
    let (side, job) = (Side::Input, name("job", job));
    match number % 2 {
        0 => Operation::AddEdge { side, job, dataset },
        _ => Operation::RemoveEdge { side, job, dataset },
    }
}

fn write_all(node: &Service, graph: &Name, operations: impl Iterator<Item = Operation>) {
    let mut operations = operations.peekable();
    while operations.peek().is_some() {
        let (sender, receiver) = mpsc::channel();
        for operation in operations.by_ref().take(IN_LINE) {
            let (changeset, sender): (Changeset, _) =
                ([operation].into_iter().collect(), sender.clone());
            let command = Command::Changeset(changeset);
            node.write(graph, command.into(), move |verdict| drop(sender.send(verdict)));
        }
        drop(sender);
        receiver.into_iter().for_each(|verdict| {
            verdict.expect("it is legal");
        });
    }
}

fn resident_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Of this process, in all its threads, since it began; what is freed after a load is in it.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    // A tick is 10 ms on Linux.
    ticks / 100.0
}

/// A way to load a graph.
type Way = fn(&Store, &Name);

/// As it is stored: of rows all rows.
fn as_stored(store: &Store, graph: &Name) {
    store.load(graph).expect("loads").expect("is there");
}

/// As a node that starts does it, which must be from a snapshot.
fn from_snapshot(store: &Store, graph: &Name) {
    let storage = store.head(graph).expect("is read").expect("is there").storage;
    let loaded = store.refresh(graph, None, CatchUp::Reload, storage).expect("loads");
    let Some((_, ImageUpdate::Whole(_, LoadedFrom::Snapshot { .. }))) = loaded else {
        panic!("it is not loaded from a snapshot")
    };
}

/// Loads in each way in turn, and prints each one's median, processor time, and ratio to the last.
/// What was loaded is dropped within the time.
fn load_in_turn(store: &Store, ways: &[(&Name, Way, &str)]) {
    let mut all = vec![(Vec::new(), 0.0); ways.len()];
    for _ in 0..ROUNDS {
        for ((graph, load, _), (times, processor)) in ways.iter().zip(&mut all) {
            let (before, began) = (processor_seconds(), Instant::now());
            load(store, graph);
            times.push(began.elapsed().as_secs_f64());
            *processor += processor_seconds() - before;
        }
    }
    all.iter_mut().for_each(|(times, _)| times.sort_unstable_by(f64::total_cmp));
    let last = all.last().map_or(1.0, |(times, _)| times[ROUNDS / 2]);
    for ((_, _, what), (times, processor)) in ways.iter().zip(&all) {
        println!(
            "{what}: {:.2} s ({:.2} to {:.2}); {:.2} s of processor time; ratio {:.2}",
            times[ROUNDS / 2],
            times[0],
            times[ROUNDS - 1],
            processor / ROUNDS as f64,
            times[ROUNDS / 2] / last
        );
    }
}

/// Takes a snapshot, and prints what that costs.
fn take(store: &Store, graph: &Name) {
    let loaded = store.load(graph).expect("loads").expect("is there");
    let (over, before) = (AtomicBool::new(false), resident_mb("VmRSS"));
    thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = before;
            while !over.load(Ordering::SeqCst) {
                most = resident_mb("VmRSS").max(most);
                thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let (processor, began) = (processor_seconds(), Instant::now());
        let limits = TakeLimits::default();
        let taken = store
            .take_packed(graph, loaded.0.key(), &loaded.1, limits, &mut || true)
            .expect("is written");
        let elapsed = began.elapsed();
        over.store(true, Ordering::SeqCst);
        let Taken::Yes(taken) = taken else { panic!("it was not taken: {taken:?}") };
        let log = store.log_bytes(loaded.0.id, 0, loaded.0.version).expect("is read");
        println!(
            "snapshot of {graph} at version {}: {:.1} MB in {} parts, the log has {:.1} MB; taken \
             in {elapsed:.1?}, {:.2} s of processor time; {:.0} MB resident before, {:.0} at most",
            taken.version,
            taken.bytes as f64 / 1e6,
            taken.parts,
            log as f64 / 1e6,
            processor_seconds() - processor,
            before,
            most.join().expect("it only looks")
        );
    });
}

fn load(store: &Store, graph: &Name, what: &str, changes: usize) {
    let mut times = Vec::new();
    let mut resident = 0.0;
    let before = processor_seconds();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let loaded = store.load(graph).expect("loads").expect("is there");
        times.push(began.elapsed());
        resident = resident_mb("VmRSS");
        drop(loaded);
    }
    times.sort_unstable();
    let median = times[ROUNDS / 2].as_secs_f64();
    let processor = (processor_seconds() - before) / ROUNDS as f64;
    println!(
        "{what}: {median:.2} s, {:.0} changes/s; {processor:.2} s of processor time; \
         {resident:.0} MB resident with it",
        changes as f64 / median
    );
}

fn measure(url: &str) {
    let database = DatabaseUrl::parse(url).expect("a URL");
    println!("{database}");
    let limits = Limits {
        waiting_writes: IN_LINE,
        batch_writes: IN_LINE,
        batch_time: Duration::from_secs(1),
        snapshot_log_bytes: u64::MAX,
        ..Limits::default()
    };
    let of = |design: &'static Design| NodeOptions {
        design,
        limits,
        ..NodeOptions::new(database.clone())
    };
    let open = || {
        Store::new(Database::open(&database, PoolLimits::default()).expect("opens")).expect("opens")
    };
    let lengths = |all: [usize; 3]| match std::env::args().any(|argument| argument == "snapshots") {
        true => vec![all[2]],
        false => all.to_vec(),
    };
    let creations_of = |design| Name::new(&format!("creations, {design}")).expect("a name");
    let edges_of = |design| Name::new(&format!("edges, {design}")).expect("a name");
    for design in [&ES_OPTIMISTIC, &CRUD_OPTIMISTIC] {
        let node = node::open(&of(design)).expect("a node");
        let graph = creations_of(design);
        node.create_graph_and_wait(&graph).expect("a graph");
        let mut written = 0;
        for length in lengths(CREATIONS) {
            write_all(&node, &graph, (written..length).map(creation));
            written = length;
            load(&open(), &graph, &format!("{design}, {length} creations"), length);
        }
        drop(node);
        let node = node::open(&of(design)).expect("a node");
        let graph = edges_of(design);
        node.create_graph_and_wait(&graph).expect("a graph");
        let jobs: Changeset = (0..EDGE_JOBS).map(creation).chain((0..1_000).map(outside)).collect();
        node.write_and_wait(&graph, Command::Changeset(jobs).into()).expect("it is legal");
        let mut written = 0;
        for length in lengths(EDGE_CHANGES) {
            write_all(&node, &graph, (written..length).map(edge_change));
            written = length;
            load(&open(), &graph, &format!("{design}, {length} edge changes"), length);
        }
    }
    let [log, rows] = [&ES_OPTIMISTIC, &CRUD_OPTIMISTIC].map(creations_of);
    take(&open(), &log);
    take(&open(), &rows);
    let in_turn = || {
        load_in_turn(
            &open(),
            &[
                (&log, from_snapshot, "log, from a snapshot"),
                (&rows, from_snapshot, "rows, from a snapshot"),
                (&rows, as_stored, "from rows"),
            ],
        );
    };
    in_turn();
    for (design, graph) in [(&ES_OPTIMISTIC, &log), (&CRUD_OPTIMISTIC, &rows)] {
        let node = node::open(&of(design)).expect("a node");
        let outside: Changeset = (0..1_000).map(outside).collect();
        node.write_and_wait(graph, Command::Changeset(outside).into()).expect("it is legal");
        write_all(&node, graph, (0..TAIL).map(edge_change));
    }
    println!("with {TAIL} edge changes since the snapshot:");
    in_turn();
    let [log, rows] = [&ES_OPTIMISTIC, &CRUD_OPTIMISTIC].map(edges_of);
    take(&open(), &log);
    println!("with a history of many times the graph's size:");
    let ways: [(&Name, Way, &str); 2] =
        [(&log, from_snapshot, "log, from a snapshot"), (&rows, as_stored, "from rows")];
    load_in_turn(&open(), &ways);
}

/// A dataset that no job writes.
fn outside(number: usize) -> Operation {
    Operation::PutDataset { name: name("outside", number), metadata: CanonicalJson::default() }
}

fn main() {
    databases::on_each(measure);
}
