//! What the Redis lock costs against bare round trips to the same server, in one run.
//!
//! `cargo bench --bench lock`. Starts a Redis of its own (`redis-server` must be installed), or
//! uses the one that `FENCEPOST_BENCH_REDIS` names, whose database is emptied. Times are
//! microseconds.
//!
//! - *bare*: `EVALSHA` of a script that returns 1, sent and answered, by one client.
//! - *uncontended*: the lock taken and given back again and again by one thread. The bare round
//!   trips are measured in turn with it.
//! - *hand-off*: two processes that do nothing but take and give back: from before the one's
//!   release to the other's being granted.
//! - *turns*: how many grants a second there are among so many contenders.
//! - *waiters*: how many commands the server ran for each hand-off while a crowd waited.
//! - *floods*: how many turns of a flood passed while one of the other kind waited.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fencepost::lock::redis::{RedisLock, RedisUrl, Terms};
use fencepost::lock::{DistributedLock, Guard, LockKey, Mode};

const ROUNDS: usize = 20_000;
const TURNS_FOR: Duration = Duration::from_secs(3);
const WAIT: Duration = Duration::from_secs(60);
/// Tells a child where the server is.
const CHILD: &str = "FENCEPOST_BENCH_LOCK_CHILD";

fn main() {
    if let Ok(url) = std::env::var(CHILD) {
        return contend(&url);
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let server = Server::start();
    let url = server.url.as_str();
    println!("uncontended");
    let bare = uncontended(url);
    println!("hand-off between two processes");
    hand_offs(url, bare);
    println!("turns a second, exclusive, contenders with a connection each in one process");
    for contenders in [2, 16] {
        println!("  {contenders:>4} contenders  {:>8.0}", turns(url, contenders));
    }
    println!("commands on the server for each hand-off");
    for waiters in [10, 100, 1_000] {
        println!("  {waiters:>4} waiters     {:>8.1}", commands(url, waiters));
    }
    println!("turns of a flood that passed while one of the other kind waited");
    for (name, mode) in
        [("8 readers, 1 writer", Mode::Shared), ("8 writers, 1 reader", Mode::Exclusive)]
    {
        let mut passed = flood(url, mode);
        passed.sort_unstable();
        let (p50, p99) = (passed[passed.len() / 2], passed[passed.len() * 99 / 100]);
        println!("  {name}  p50 {p50}, p99 {p99}, max {}", passed[passed.len() - 1]);
    }
}

struct Server {
    url: String,
    child: Option<Child>,
    _directory: Option<tempfile::TempDir>,
}

impl Server {
    fn start() -> Self {
        if let Ok(url) = std::env::var("FENCEPOST_BENCH_REDIS") {
            return Self { url, child: None, _directory: None };
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port")
            .port();
        let directory = tempfile::tempdir().expect("a directory");
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let url = format!("redis://127.0.0.1:{port}");
        let client = redis::Client::open(url.as_str()).expect("a URL");
        while client.get_connection().is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        Self { url, child: Some(child), _directory: Some(directory) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn connect(url: &str) -> redis::Connection {
    redis::Client::open(url).and_then(|client| client.get_connection()).expect("a connection")
}

fn open(url: &str) -> Arc<RedisLock> {
    Arc::new(
        RedisLock::open(&RedisUrl::parse(url).expect("a URL"), Terms::default()).expect("a lock"),
    )
}

fn key() -> LockKey {
    LockKey::new("be-c4", 1).expect("a key")
}

/// As a turn does, without a database: seeds the lock when it wants that.
fn take(lock: &RedisLock, mode: Mode) -> Guard {
    let mut guard = lock.acquire(&key(), mode, WAIT).expect("the lock");
    if mode == Mode::Exclusive && guard.token().is_none() {
        guard.seed(1).expect("a first epoch");
    }
    guard
}

fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The median of a bare round trip.
fn uncontended(url: &str) -> f64 {
    let mut connection = connect(url);
    let script = redis::Script::new("return 1");
    let _: i64 = script.invoke(&mut connection).expect("an answer");
    let lock = open(url);
    let (mut bare, mut exclusive, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + ROUNDS / 10 {
        let began = Instant::now();
        let _: i64 = script.invoke(&mut connection).expect("an answer");
        let _: i64 = script.invoke(&mut connection).expect("an answer");
        let two = us(began.elapsed());
        let pair = |mode| {
            let began = Instant::now();
            take(&lock, mode).release();
            us(began.elapsed())
        };
        let (one, other) = (pair(Mode::Exclusive), pair(Mode::Shared));
        if round >= ROUNDS / 10 {
            bare.push(two / 2.0);
            exclusive.push(one);
            shared.push(other);
        }
    }
    let bare = percentile(&mut bare, 50);
    println!("  bare round trip    {bare:>8.1}");
    for (name, times) in [("exclusive", &mut exclusive), ("shared", &mut shared)] {
        let pair = percentile(times, 50);
        println!(
            "  {name:<10} pair    {pair:>8.1}  = {:.2} x two bare round trips",
            pair / (2.0 * bare)
        );
    }
    bare
}

/// The child: says when it was granted and when it gave back, until its input ends.
fn contend(url: &str) {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    thread::spawn(move || {
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        told.store(true, Ordering::SeqCst);
    });
    let lock = open(url);
    for (token, granted, given_back) in contended(&lock, &over) {
        println!("turn {token} {granted} {given_back}");
    }
    for (path, count) in paths(&lock) {
        println!("path {path} {count}");
    }
}

/// Token, and times of the system's clock in nanoseconds: of the grant, and before the release.
fn contended(lock: &RedisLock, over: &AtomicBool) -> Vec<(i64, u64, u64)> {
    let now =
        || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let mut turns = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let guard = take(lock, Mode::Exclusive);
        let granted = now();
        let token = guard.token().expect("it is seeded").as_i64();
        turns.push((token, granted, now()));
        guard.release();
    }
    turns
}

fn hand_offs(url: &str, bare: f64) {
    let mut children: Vec<Child> = (0..2)
        .map(|_| {
            Command::new(std::env::current_exe().expect("a path"))
                .env(CHILD, url)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a child")
        })
        .collect();
    thread::sleep(TURNS_FOR);
    let mut turns: Vec<(u64, u64, u64, usize)> = Vec::new();
    let mut paths = BTreeMap::<String, u64>::new();
    for child in &mut children {
        writeln!(child.stdin.take().expect("piped"), "over").expect("it listens");
    }
    for (number, child) in children.iter_mut().enumerate() {
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            let line = line.expect("a line");
            let number_of = |field: &str| field.parse::<u64>().expect("a number");
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["turn", token, granted, given_back] => {
                    turns.push((
                        number_of(token),
                        number_of(granted),
                        number_of(given_back),
                        number,
                    ));
                }
                ["path", path, count] => {
                    *paths.entry(path.to_owned()).or_default() += number_of(count)
                }
                _ => panic!("{line}?"),
            }
        }
        child.wait().expect("it ends");
    }
    turns.sort_unstable();
    let pairs = turns.windows(2).filter(|pair| pair[0].3 != pair[1].3);
    let mut times: Vec<f64> =
        pairs.map(|pair| pair[1].1.saturating_sub(pair[0].2) as f64 / 1e3).collect();
    let (count, p50) = (times.len(), percentile(&mut times, 50));
    println!(
        "  {count} of {} turns; p50 {p50:.1} = {:.2} x a bare round trip; p99 {:.1}",
        turns.len(),
        p50 / bare,
        percentile(&mut times, 99)
    );
    println!("  grants by path: {paths:?}");
}

/// How the lock's grants came to be known: the path, and how many.
fn paths(lock: &RedisLock) -> Vec<(String, u64)> {
    let families = lock.collectors().into_iter().flat_map(|collector| collector.collect());
    let grants = families.filter(|family| family.name() == "fencepost_lock_grants_total");
    let metrics: Vec<_> = grants.flat_map(|family| family.get_metric().to_vec()).collect();
    let path = |metric: &prometheus::proto::Metric| {
        let label = metric.get_label().iter().find(|label| label.name() == "path").expect("a path");
        (label.value().to_owned(), metric.get_counter().get_value() as u64)
    };
    metrics.iter().map(path).collect()
}

fn turns(url: &str, contenders: usize) -> f64 {
    let count = AtomicU64::new(0);
    let locks: Vec<_> = (0..contenders).map(|_| open(url)).collect();
    let over = Instant::now() + TURNS_FOR;
    thread::scope(|scope| {
        for lock in &locks {
            let count = &count;
            scope.spawn(move || {
                while Instant::now() < over {
                    take(lock, Mode::Exclusive).release();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    count.load(Ordering::Relaxed) as f64 / TURNS_FOR.as_secs_f64()
}

/// How often the server ran any command so far, those within scripts included.
fn calls(url: &str) -> u64 {
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query(&mut connect(url)).expect("an answer");
    let calls = stats
        .lines()
        .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok());
    calls.sum()
}

fn commands(url: &str, waiters: usize) -> f64 {
    let lock = open(url);
    let (waiting, first) = (AtomicU64::new(0), take(&lock, Mode::Exclusive));
    thread::scope(|scope| {
        for _ in 0..waiters {
            let spawned = thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, || {
                waiting.fetch_add(1, Ordering::SeqCst);
                take(&lock, Mode::Exclusive).release();
            });
            spawned.expect("a thread");
        }
        let queued = || lock.inspect(&key()).expect("an answer").waiting.len() >= waiters.min(100);
        while waiting.load(Ordering::SeqCst) < waiters as u64 || !queued() {
            thread::sleep(Duration::from_millis(20));
        }
        let before = calls(url);
        first.release();
        Some(before)
    })
    .map_or(0.0, |before| (calls(url) - before) as f64 / waiters as f64)
}

fn flood(url: &str, mode: Mode) -> Vec<u64> {
    let (over, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    let locks: Vec<_> = (0..8).map(|_| open(url)).collect();
    let loner = open(url);
    let other = if mode == Mode::Shared { Mode::Exclusive } else { Mode::Shared };
    thread::scope(|scope| {
        for lock in &locks {
            let (over, turns) = (&over, &turns);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    let guard = take(lock, mode);
                    turns.fetch_add(1, Ordering::SeqCst);
                    guard.release();
                }
            });
        }
        let until = Instant::now() + TURNS_FOR;
        let mut passed = Vec::new();
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
            let before = turns.load(Ordering::SeqCst);
            let guard = take(&loner, other);
            passed.push(turns.load(Ordering::SeqCst) - before);
            guard.release();
        }
        over.store(true, Ordering::SeqCst);
        passed
    })
}
