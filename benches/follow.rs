//! Following a graph's log while it is written: how late a follower is, and what four of them cost
//! the writers.
//!
//! `cargo bench --bench follow`. Runs the program itself: a server on a new SQLite file
//! (`FENCEPOST_BENCH_DATABASE` names another database, on which it makes graphs), `fencepost export
//! --follow`, and `fencepost bench drive`. Lateness is from the time that the event tells, which is
//! taken before its commit, to when an observer finds it in the file or the stream
//! (`FENCEPOST_BENCH_REDIS` names a Redis server for the latter). Four live tails are server-sent
//! events, each read by a thread of this process. With and without them the driver writes in pairs
//! of runs, in turns.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

const RATE: u64 = 1_000;
const FOLLOW_SECONDS: u64 = 20;
const PAIRS: usize = 12;
const PAIR_SECONDS: u64 = 4;
const TAILS: usize = 4;
const CLIENTS: &str = "32";
const PROGRAM: &str = env!("CARGO_BIN_EXE_fencepost");

#[derive(Deserialize)]
struct Time {
    time: String,
    graphversion: u64,
}

/// Milliseconds from the time that the event tells until now, and its version.
fn lateness(event: &str) -> (f64, u64) {
    let Time { time, graphversion } = serde_json::from_str(event).expect("an event");
    let told = humantime::parse_rfc3339(&time)
        .expect("a time")
        .duration_since(UNIX_EPOCH)
        .expect("since 1970");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("since 1970");
    ((now.as_secs_f64() - told.as_secs_f64()) * 1e3, graphversion)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Place {
    url: String,
    base: String,
    _server: Running,
}

fn fencepost(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .env("FENCEPOST_DATABASE_URL", url)
        .env("RUST_LOG", "warn,fencepost=info");
    command
}

impl Place {
    fn new(url: String) -> Self {
        let mut command = fencepost(&url, &["serve", "--address", "127.0.0.1:0"]);
        let mut server =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(server.stderr.take().expect("is piped")).lines();
        let base = lines.by_ref().map_while(Result::ok).find_map(|line| {
            Some(format!("http://{}", line.split("http://").nth(1)?.split(';').next()?))
        });
        thread::spawn(move || lines.for_each(drop));
        Self { url, base: base.expect("the server says where it is"), _server: Running(server) }
    }

    /// Runs the driver; writes a second.
    fn drive(&self, graph: &str, seed: u64, seconds: u64, more: &[&str]) -> f64 {
        let (seed, seconds) = (seed.to_string(), seconds.to_string());
        let arguments = [
            "bench",
            "drive",
            "--url",
            &self.base,
            "--graph",
            graph,
            "--workload",
            "register",
            "--seed",
            &seed,
        ];
        let mut command = fencepost(&self.url, &arguments);
        command.args(["--seconds", &seconds, "--format", "json", "--clients", CLIENTS]).args(more);
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report["completed_per_second"].as_f64().unwrap_or_else(|| panic!("no rate in {report}"))
    }

    fn export(&self, graph: &str, to: &str) -> Running {
        let mut command =
            fencepost(&self.url, &["export", "--graph", graph, "--follow", "--to", to]);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts"))
    }
}

fn percentile(sorted: &[f64], of: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * of).round() as usize]
}

fn report(what: &str, mut late: Vec<f64>) {
    late.sort_unstable_by(f64::total_cmp);
    let at = |of| percentile(&late, of);
    println!(
        "{what}: {} events, late by p50 {:.1} ms, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
        late.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Looks at a file every millisecond until `over`, and then until nothing more comes.
fn watch_file(path: &Path, over: &AtomicBool) -> Vec<f64> {
    let (mut late, mut text) = (Vec::new(), String::new());
    let mut quiet_since = Instant::now();
    let mut file = None;
    while !over.load(Ordering::Relaxed) || quiet_since.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(1));
        if file.is_none() {
            file = std::fs::File::open(path).ok();
        }
        let Some(file) = &mut file else { continue };
        if file.read_to_string(&mut text).expect("is read") == 0 {
            continue;
        }
        quiet_since = Instant::now();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.split_off(whole);
        let changed = text.lines().filter(|line| line.contains("dev.fencepost.changed.v1"));
        late.extend(changed.map(|line| lateness(line).0));
        text = rest;
    }
    late
}

fn watch_redis(url: &str, stream: &str, over: &AtomicBool) -> Vec<f64> {
    let mut connection =
        redis::Client::open(url).expect("a URL").get_connection().expect("Redis answers");
    let (mut late, mut last) = (Vec::new(), "0".to_owned());
    loop {
        // Of each stream its name and entries, of each entry its id, fields and values.
        type Entries = Vec<(String, Vec<String>)>;
        let read: Option<Vec<(String, Entries)>> = redis::cmd("XREAD")
            .arg(&["COUNT", "1000", "BLOCK", "1000", "STREAMS", stream, &last])
            .query(&mut connection)
            .expect("is read");
        let mut found = false;
        for (id, fields) in read.into_iter().flatten().flat_map(|(_, entries)| entries) {
            found = true;
            if fields[1].contains("dev.fencepost.changed.v1") {
                late.push(lateness(&fields[1]).0);
            }
            last = id;
        }
        if !found && over.load(Ordering::Relaxed) {
            return late;
        }
    }
}

fn create(place: &Place, graph: &str) {
    let answer =
        ureq::put(&format!("{}/v1/graphs/{graph}", place.base)).send_empty().expect("is created");
    assert!(answer.status().is_success());
}

/// A live tail, read until the server ends it; how many events came is counted.
fn tail(base: &str, graph: &str, count: Arc<AtomicU64>, over: Arc<AtomicBool>) {
    let mut stream =
        TcpStream::connect(base.strip_prefix("http://").expect("http")).expect("connects");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("is set");
    write!(stream, "GET /v1/graphs/{graph}/changes HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        .expect("is sent");
    let mut buffer = vec![0; 256 << 10];
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("the tail ended"),
            Ok(read) => {
                let ids = buffer[..read].windows(5).filter(|five| five == b"\nid: ").count();
                count.fetch_add(ids as u64, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }
}

/// Two runs one after the other, with four tails and without, in either order.
fn pair(place: &Place, number: usize) -> f64 {
    let mut rates = [0.0; 2];
    for turn in 0..2 {
        let with_tails = (turn + number).is_multiple_of(2);
        let graph = format!("pair-{number}-{turn}");
        create(place, &graph);
        let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tails: Vec<_> = (0..if with_tails { TAILS } else { 0 })
            .map(|_| {
                let (base, graph, count, over) =
                    (place.base.clone(), graph.clone(), count.clone(), over.clone());
                thread::spawn(move || tail(&base, &graph, count, over))
            })
            .collect();
        rates[usize::from(with_tails)] = place.drive(&graph, number as u64, PAIR_SECONDS, &[]);
        over.store(true, Ordering::Relaxed);
        tails.into_iter().for_each(|tail| tail.join().expect("ends"));
        if with_tails {
            let read = count.load(Ordering::Relaxed);
            let written = rates[1] * PAIR_SECONDS as f64;
            assert!(read as f64 > written * 3.0, "{read} events were read of {written} four times");
        }
    }
    println!(
        "pair {number}: {:.0} writes a second without tails, {:.0} with four, ratio {:.3}",
        rates[0],
        rates[1],
        rates[1] / rates[0]
    );
    rates[1] / rates[0]
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = std::env::var("FENCEPOST_BENCH_DATABASE");
    let place = Place::new(
        database
            .unwrap_or_else(|_| format!("sqlite:{}", directory.path().join("bench.db").display())),
    );
    let rate = RATE.to_string();

    let over = AtomicBool::new(false);
    let file = directory.path().join("log.ndjson");
    create(&place, "to-file");
    let late = thread::scope(|scope| {
        let _export = place.export("to-file", &format!("file:{}", file.display()));
        let watching = scope.spawn(|| watch_file(&file, &over));
        place.drive("to-file", 1, FOLLOW_SECONDS, &["--rate", &rate]);
        over.store(true, Ordering::Relaxed);
        watching.join().expect("ends")
    });
    report(&format!("{RATE} writes a second to a file"), late);

    if let Ok(redis) = std::env::var("FENCEPOST_BENCH_REDIS") {
        over.store(false, Ordering::Relaxed);
        create(&place, "to-redis");
        let late = thread::scope(|scope| {
            let _export = place.export("to-redis", &format!("{redis}/bench-follow"));
            let watching = scope.spawn(|| watch_redis(&redis, "bench-follow", &over));
            place.drive("to-redis", 2, FOLLOW_SECONDS, &["--rate", &rate]);
            over.store(true, Ordering::Relaxed);
            watching.join().expect("ends")
        });
        report(&format!("{RATE} writes a second to a Redis stream"), late);
    }

    let ratios: Vec<f64> = (0..PAIRS).map(|number| pair(&place, number)).collect();
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    let variance =
        logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (logs.len() - 1) as f64;
    // Student's t for eleven degrees of freedom.
    let half = 2.201 * (variance / logs.len() as f64).sqrt();
    println!(
        "with four live tails: ratio {:.3}, 95 % interval {:.3} to {:.3}",
        mean.exp(),
        (mean - half).exp(),
        (mean + half).exp()
    );
}
