//! What leaving costs: an export to a file against serde writing the same bytes to a file, and the
//! replay of what was exported.
//!
//! `cargo bench --bench export`. Without more it exports a graph of 100,000 jobs of its own from a
//! new SQLite file; `FENCEPOST_BENCH_DATABASE` names a database to use instead, and
//! `FENCEPOST_BENCH_GRAPH` a graph on it. Prints, for each of three rounds, seconds and rates, and
//! the parts of both. With `-- small` at the end of the command, only the replay of small events.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use fencepost::bench::Random;
use fencepost::chain::{Chain, LoggedChange};
use fencepost::db::DatabaseUrl;
use fencepost::event::{Event, Importing, Replay, Stream};
use fencepost::export::SinkUrl;
use fencepost::export::{ExportRequest, Registration, export, replay_from, verify};
use fencepost::graph::{
    CanonicalJson, Change, Changeset, Command, Fact, Graph, JobSpecification, Name, Operation,
    Side, SortedGraph, decide,
};
use fencepost::node::{self, NodeOptions};
use fencepost::store::Store;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The same as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 3;
const JOBS: usize = 100_000;
/// Events that the baseline holds ready at once: it must not be slowed by the memory of all.
const CHUNK: usize = 10_000;

/// An event as any program would write it.
#[derive(Serialize, Deserialize)]
struct CloudEvent {
    specversion: String,
    id: String,
    source: String,
    r#type: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: String,
    sequence: String,
    partitionkey: String,
    graphversion: u64,
    ordinal: u64,
    chainhash: String,
    checksum: String,
    #[serde(deserialize_with = "data")]
    data: Data,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Import(serde_json::Value),
    Facts {
        facts: Vec<Fact>,
        #[serde(skip_serializing_if = "Option::is_none")]
        job_version: Option<u64>,
        version: u64,
    },
}

fn data<'de, D: Deserializer<'de>>(from: D) -> Result<Data, D::Error> {
    let raw = Box::<RawValue>::deserialize(from)?;
    match Change::from_event_json(raw.get()) {
        Ok((change, version, job_version)) => {
            Ok(Data::Facts { facts: change.facts, job_version, version })
        }
        Err(_) => {
            serde_json::from_str(raw.get()).map(Data::Import).map_err(serde::de::Error::custom)
        }
    }
}

fn name(text: String) -> Name {
    Name::new(&text).expect("a name")
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let outcome = what();
    (outcome, began.elapsed())
}

/// A graph of jobs that each read four datasets and write one.
fn fill(options: &NodeOptions, graph: &Name) {
    let node = node::open(options).expect("the database opens");
    node.create_graph_and_wait(graph).expect("is created");
    let job = |number: usize| {
        let mut random = Random::of(&[number as u64]);
        let inputs = (0..4)
            .map(|_| random.below(number.max(1) as u64))
            .filter(|before| (*before as usize) < number);
        let mut inputs: Vec<Name> =
            inputs.map(|before| name(format!("dataset/of/some/length/{before:08}"))).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let outputs = vec![name(format!("dataset/of/some/length/{number:08}"))];
        let name = name(format!("job/of/some/length/{number:08}"));
        Operation::PutJob(JobSpecification {
            name,
            inputs,
            outputs,
            spec: CanonicalJson::default(),
        })
    };
    for first in (0..JOBS).step_by(CHUNK) {
        let changeset: Changeset = (first..first + CHUNK).map(job).collect();
        node.write_and_wait(graph, Command::Changeset(changeset).into()).expect("is accepted");
    }
}

/// Seconds that serde takes to write what `log` holds to another file, and to sync it.
fn written_by_serde(log: &Path, to: &Path) -> Duration {
    let mut lines = BufReader::with_capacity(1 << 20, File::open(log).expect("opens")).lines();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(to).expect("is created"));
    let mut spent = Duration::ZERO;
    loop {
        let chunk: Vec<CloudEvent> = lines
            .by_ref()
            .take(CHUNK)
            .map(|line| serde_json::from_str(&line.expect("is read")).expect("an event"))
            .collect();
        if chunk.is_empty() {
            break;
        }
        let ((), took) = timed(|| {
            for event in &chunk {
                serde_json::to_writer(&mut out, event).expect("is written");
                out.write_all(b"\n").expect("is written");
            }
        });
        spent += took;
    }
    let ((), took) =
        timed(|| out.into_inner().expect("is written").sync_data().expect("is synced"));
    assert_eq!(
        File::open(log).unwrap().metadata().unwrap().len(),
        File::open(to).unwrap().metadata().unwrap().len()
    );
    spent + took
}

fn small_stream() -> Stream {
    Stream::new(name("small".to_owned()), Default::default())
}

/// A log of small changes on a graph of 10,000 jobs: edges that come and go, specifications that
/// change, jobs that are put and deleted.
fn small_events(to: &Path) -> u64 {
    const GRAPH_JOBS: u64 = 10_000;
    const CHANGES: u64 = 600_000;
    let stream = small_stream();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(to).expect("is created"));
    let (mut graph, mut chain) = (Graph::default(), Chain::START);
    let mut random = Random::of(&[7]);
    let dataset = |number: u64| name(format!("dataset/{number:08}"));
    let job = |number: u64| name(format!("job/{number:08}"));
    let mut events = 0;
    while events < CHANGES {
        let operation = if events < GRAPH_JOBS {
            let spec = CanonicalJson::default();
            let inputs = if events == 0 { vec![] } else { vec![dataset(random.below(events))] };
            Operation::PutJob(JobSpecification {
                name: job(events),
                inputs,
                outputs: vec![dataset(events)],
                spec,
            })
        } else {
            let number = 1 + random.below(GRAPH_JOBS - 1);
            let (job, dataset) = (job(number), dataset(random.below(number)));
            if graph.has_edge(&job, Side::Input, &dataset) {
                Operation::RemoveEdge { side: Side::Input, job, dataset }
            } else {
                Operation::AddEdge { side: Side::Input, job, dataset }
            }
        };
        let command = Command::Changeset([operation].into_iter().collect());
        let decision = decide(&graph, &command).expect("is legal");
        if decision.change.is_empty() {
            continue;
        }
        graph = decision.next;
        let change = decision.change.canonical_json(graph.version());
        chain = chain.next(&change);
        let committed_at_ms = 1_750_000_000_000 + events as i64;
        let logged =
            LoggedChange { version: graph.version(), change, chain, committed_at_ms, actor: None };
        out.write_all(&stream.line(&Event::changed(&logged))).expect("is written");
        events += 1;
    }
    out.flush().expect("is written");
    events
}

fn replay_small_events(log: &Path, events: u64) {
    let (outcome, took) =
        timed(|| replay_from(&SinkUrl::File(log.to_owned()), small_stream(), None));
    let (replay, wrong) = outcome.expect("is read");
    assert!(wrong.is_none() && replay.events() == events);
    println!(
        "         {events} small events in {:.2} s ({:.0} a second)",
        took.as_secs_f64(),
        events as f64 / took.as_secs_f64()
    );
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let small = directory.path().join("small.ndjson");
    let small_count = small_events(&small);
    if std::env::args().any(|argument| argument == "small") {
        return (0..ROUNDS).for_each(|_| replay_small_events(&small, small_count));
    }
    let given = std::env::var("FENCEPOST_BENCH_DATABASE").ok();
    let url = given
        .clone()
        .unwrap_or_else(|| format!("sqlite:{}", directory.path().join("bench.db").display()));
    let graph = name(std::env::var("FENCEPOST_BENCH_GRAPH").unwrap_or_else(|_| "bench".to_owned()));
    let options = NodeOptions::new(DatabaseUrl::parse(&url).expect("a URL"));
    if given.is_none() {
        fill(&options, &graph);
    }
    let store: Store = node::open_store(&options).expect("the database opens");
    let (log, copy) = (directory.path().join("log.ndjson"), directory.path().join("copy.ndjson"));
    let seconds = |took: Duration| took.as_secs_f64();
    for round in 1..=ROUNDS {
        let ((head, loaded), load) =
            timed(|| store.load(&graph).expect("is loaded").expect("is there"));
        let (sorted_graph, sort) = timed(|| SortedGraph::of(&loaded));
        let (_, order) = timed(|| black_box(sorted_graph.jobs_by_generation()));
        let (_, digest) = timed(|| black_box(sorted_graph.digest()));
        drop(sorted_graph);
        let mut importing =
            Importing::new(Stream::new(head.name.clone(), head.uuid), loaded, head.chain, None);
        let ((events, bytes), words) = timed(|| {
            let (mut line, mut events, mut bytes) = (Vec::new(), 0_u64, 0);
            while importing.write_next(&mut line).is_some() {
                bytes += line.len();
                events += 1;
                line.clear();
            }
            (events, bytes)
        });
        drop(importing);
        drop(std::fs::remove_file(&log));
        let to = SinkUrl::File(log.clone());
        let request = ExportRequest {
            graph: graph.clone(),
            to: to.clone(),
            after: None,
            follow: false,
            registration: Registration::None,
        };
        let (exported, export) = timed(|| export(&store, &request).expect("is exported"));
        assert_eq!(exported.events, events);
        let serde = written_by_serde(&log, &copy);
        let per_second = |took: Duration| events as f64 / seconds(took);
        println!(
            "round {round}: {events} events, {:.0} MB; load {:.2} s, sort {:.2}, order {:.2}, digest {:.2}, words {:.2}; export {:.2} s, of it after the load {:.2}; \
             serde {:.2} s; rate of export to serde's {:.2}, without the load {:.2}",
            bytes as f64 / 1e6,
            seconds(load),
            seconds(sort),
            seconds(order),
            seconds(digest),
            seconds(words),
            seconds(export),
            seconds(export.saturating_sub(load)),
            seconds(serde),
            seconds(serde) / seconds(export),
            seconds(serde) / seconds(export.saturating_sub(load)),
        );
        let (_, alone) = timed(|| {
            let mut replay = Replay::default();
            for line in BufReader::with_capacity(1 << 20, File::open(&log).expect("opens")).lines()
            {
                replay.take(&line.expect("is read")).expect("is legal");
            }
            black_box(replay.finish().map(|replayed| replayed.chain)).expect("is whole")
        });
        let (_, verified) = timed(|| verify(&store, &graph, &to, None).expect("is valid"));
        println!(
            "         replay in one thread {:.2} s ({:.0} a second); verify with the database's load and digest {:.2} s, without {:.2} s ({:.0} a second)",
            seconds(alone),
            per_second(alone),
            seconds(verified),
            seconds(verified.saturating_sub(load + digest)),
            per_second(verified.saturating_sub(load + digest)),
        );
        replay_small_events(&small, small_count);
    }
}
