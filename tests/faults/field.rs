//! Where it happens: a database, a Redis server behind a wire, nodes, and clients whose every
//! request is recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fencepost::bench::history::{Ending, Event, FORMAT_VERSION, Invocation, Recorder, Writer};
use fencepost::bench::{BenchError, HttpTarget, Outcome, Request, Target, drive};
use fencepost::check::{CheckArgs, Finding, Kind as FindingKind, Summary, Verdict, check};
use fencepost::design::{Design, Reads};
use fencepost::graph::{CanonicalJson, JobSpecification, Operation, Step};
use fencepost::lock::redis::RedisUrl;
use fencepost::node::{self, LockUrl, NodeOptions};
use serde_json::json;

use crate::bench::place::arguments;
use crate::support::cluster::{GRAPH, Kind, LIMIT, SERVE, Server, Site, name, wait_until};
use crate::support::redis::Redis;
use crate::support::storm::audit;
use crate::support::wire::Wire;

/// Short, so that it runs out while a test looks on; long enough for a busy machine.
const LEASE: Duration = Duration::from_millis(1500);

pub struct Field {
    pub site: Site,
    pub redis: Redis,
    pub wire: Wire,
    design: &'static Design,
    reads: Option<Reads>,
    recording: Recording,
    loads: AtomicU64,
}

impl Field {
    /// An empty graph on Postgres, with a lock that is named and not seeded yet.
    pub fn new() -> Self {
        Self::of(<&Design>::default(), None)
    }

    /// The same for nodes of that design. One that takes no lock leaves the named one aside.
    pub fn of(design: &'static Design, reads: Option<Reads>) -> Self {
        Self::on(Site::on(Kind::Postgres), design, reads)
    }

    pub fn on(mut site: Site, design: &'static Design, reads: Option<Reads>) -> Self {
        let redis = Redis::start(&[]);
        let wire = Wire::to(redis.port());
        let url = RedisUrl::parse(&wire.url()).unwrap();
        site.lock_url = Some(LockUrl::Redis(Box::new(url)));
        let maker = node::open(&NodeOptions { design, ..site.options() }).unwrap();
        maker.create_graph_and_wait(&name(GRAPH)).unwrap();
        let recording = Recording::new(site.path("recorded.ndjson"));
        Self { site, redis, wire, design, reads, recording, loads: AtomicU64::new(0) }
    }

    /// A node; `failpoints` may be empty.
    pub fn node(&self, failpoints: &str) -> Server {
        self.node_with(failpoints, &[])
    }

    /// The same with more arguments.
    pub fn node_with(&self, failpoints: &str, arguments: &[&str]) -> Server {
        let mut command = self.site.fencepost(&SERVE);
        // Whoever waits longer than a second beyond a lease is refused.
        let wait = LEASE + Duration::from_secs(1);
        command.args([
            "--lock-url",
            &self.wire.url(),
            "--lock-lease-ms",
            &LEASE.as_millis().to_string(),
        ]);
        command
            .args(["--lock-wait-ms", &wait.as_millis().to_string()])
            .env("FENCEPOST_FAILPOINTS", failpoints);
        command.args(["--design", self.design.name]);
        match self.reads {
            Some(Reads::Lock) => command.args(["--reads", "lock"]),
            Some(Reads::Snapshot) => command.args(["--reads", "snapshot"]),
            None => &mut command,
        };
        command.args(arguments);
        Server::start(command)
    }

    /// A file that a failpoint makes, and the failpoint.
    pub fn pause_at(&self, point: &str) -> (PathBuf, String) {
        let file = self.site.path(point);
        // The first transaction raises the epoch.
        let passage = if point.ends_with("-commit") { 2 } else { 1 };
        (file.clone(), format!("{point}=pause:{}@{passage}", file.display()))
    }

    /// Waits until the node, which leads, has made the file of its failpoint. Where its lease ran
    /// out on a busy machine, it is given the graph back.
    #[track_caller]
    pub fn wait_until_reached(&self, file: &Path, leader: &Server) {
        let (store, graph_id) = (self.site.store(), self.site.head().id);
        let address = Some(leader.base.as_str());
        let give_back = || {
            let now = store.leader(graph_id).unwrap()?;
            let nodes = store.nodes().unwrap();
            let node = nodes.iter().find(|node| node.address.as_deref() == address)?;
            (now.node != node.node).then(|| {
                store.name_successor(graph_id, now.token, Some(&node.node)).unwrap();
            })
        };
        let mut looked = Instant::now();
        wait_until("the leader is at the point", || {
            if looked.elapsed() > LEASE {
                looked = Instant::now();
                give_back();
            }
            file.exists()
        });
    }

    /// Puts a job on a node; recorded.
    pub fn put(&self, node: &Server, job: &str, input: &str, output: &str) -> Outcome {
        let job = JobSpecification {
            name: name(job),
            inputs: [name(input)].into(),
            outputs: [name(output)].into(),
            spec: CanonicalJson::default(),
        };
        let step = Step { operation: Operation::PutJob(job), precondition: None };
        self.ask(node, Request::Write(vec![step]))
    }

    /// Asks a node; recorded.
    pub fn ask(&self, node: &Server, request: Request) -> Outcome {
        let target = HttpTarget::new(std::slice::from_ref(&node.base), name(GRAPH), LIMIT).unwrap();
        self.recording.ask(&target, request)
    }

    /// Puts load on the nodes until `fault` is over and has been followed by more writes; recorded.
    pub fn under_load<T>(&self, nodes: &[&Server], fault: impl FnOnce() -> T) -> T {
        self.under("--clients 6 --requests 500", nodes, fault)
    }

    /// The same under another load, for which these arguments of the driver stand.
    pub fn under<T>(&self, load: &str, nodes: &[&Server], fault: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    match self.load(load, nodes) {
                        Ok(()) => {}
                        // Nobody could serve when it was to begin, or at its end.
                        Err(BenchError::Unavailable(_) | BenchError::Refused(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            let ends_load = Ends(&over);
            self.wait_for_writes(20);
            let outcome = fault();
            self.wait_for_writes(20);
            drop(ends_load);
            load.join().unwrap();
            outcome
        })
    }

    /// One run of the driver against the nodes; recorded.
    pub fn load(&self, load: &str, nodes: &[&Server]) -> Result<(), BenchError> {
        let nodes: Vec<_> = nodes.iter().map(|node| node.base.clone()).collect();
        let target = HttpTarget::new(&nodes, name(GRAPH), LIMIT).unwrap();
        let seed = self.loads.load(Ordering::SeqCst);
        let mut args = arguments(&format!(
            "--graph {GRAPH} --workload conflict --patience-seconds 60 --seed {seed} {load}"
        ));
        let history = self.loaded(seed);
        // Of a run that did not begin.
        drop(std::fs::remove_file(&history));
        args.history = Some(history);
        let report = drive(&target, &args)?;
        // One that did not begin left no history.
        self.loads.fetch_add(1, Ordering::SeqCst);
        report.verdict()
    }

    fn loaded(&self, round: u64) -> PathBuf {
        self.site.path(&format!("load-{round}.ndjson"))
    }

    /// Waits until so many more writes have been applied.
    #[track_caller]
    pub fn wait_for_writes(&self, count: u64) {
        let before = self.site.head().version;
        wait_until("the load writes", || self.site.head().version >= before + count);
    }

    /// Ends the recording and has the checker judge all of it, with what is `stored`, or without.
    fn verdict(self, node: &Server, stored: bool) -> Verdict {
        let target = HttpTarget::new(std::slice::from_ref(&node.base), name(GRAPH), LIMIT).unwrap();
        let mut histories: Vec<PathBuf> =
            (0..self.loads.load(Ordering::SeqCst)).map(|round| self.loaded(round)).collect();
        histories.extend(self.recording.end(&target));
        let args = CheckArgs { stored, ..CheckArgs::of(histories) };
        check(&args, &self.site.options()).unwrap()
    }

    /// Ends the recording; all that was asked, the change log and the rows are valid.
    #[track_caller]
    pub fn expect_valid(self, node: &Server) -> Summary {
        match self.verdict(node, true) {
            Verdict::Valid(summary) => summary,
            Verdict::Found(finding) => panic!("{finding}"),
        }
    }

    /// The same of a graph without a log: by what was asked alone, and its rows by themselves.
    /// Where several writes of unknown outcome could each have made a version, only a log could
    /// tell which did.
    #[track_caller]
    pub fn expect_valid_without_log(self, node: &Server) {
        let rows = audit(&self.site);
        match self.verdict(node, false) {
            Verdict::Valid(summary) => assert_eq!(summary.last_version, rows.version),
            Verdict::Found(finding) => {
                assert_eq!(finding.kind, FindingKind::Undecided, "{finding}")
            }
        }
    }

    /// Ends the recording; what clients were told is not valid. The rows may be no graph any more.
    #[track_caller]
    pub fn expect_anomaly(self, node: &Server) -> Box<Finding> {
        match self.verdict(node, false) {
            Verdict::Valid(summary) => panic!("the checker found nothing: {summary:?}"),
            Verdict::Found(finding) => finding,
        }
    }
}

/// Ends the load when dropped, also by a test that fails.
pub struct Ends<'o>(pub &'o AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What single clients ask.
struct Recording {
    path: PathBuf,
    began: Instant,
    recorder: Recorder,
    writer: Writer,
    next: AtomicU64,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Recording {
    fn new(path: PathBuf) -> Self {
        let (writer, recorder) = Writer::create(&path).unwrap();
        let start = json!({
            "format": FORMAT_VERSION, "fencepost": "", "graph": GRAPH, "workload": "faults", "seed": 0, "clients": 1, "target": "",
            "clock": {"unit": "ns", "kind": "monotonic", "zero_unix_ms": 0}, "initial_version": 0, "arguments": {},
        });
        recorder.send(Event::Start(start)).unwrap();
        Self {
            path,
            began: Instant::now(),
            recorder,
            writer,
            next: AtomicU64::new(0),
            counts: Mutex::default(),
        }
    }

    /// Each request has a process of its own: it may end in nobody knows what.
    fn ask(&self, target: &dyn Target, request: Request) -> Outcome {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let since = |at: Instant| (at - self.began).as_nanos() as u64;
        let time_ns = since(Instant::now());
        let invocation = Invocation {
            process: id,
            id,
            time_ns,
            due_ns: None,
            request: request.clone(),
            graph: None,
        };
        self.recorder.send(Event::Invoke(invocation)).unwrap();
        let completion = target.connect().perform(&request);
        let outcome = completion.outcome.clone();
        *self.counts.lock().unwrap().entry(outcome.event()).or_default() += 1;
        let time_ns = since(completion.at);
        let (headers, written) = (completion.headers, completion.written);
        let ending = Ending { process: id, id, time_ns, outcome, headers, written };
        self.recorder.send(Event::Complete(ending)).unwrap();
        completion.outcome
    }

    /// The file, if anything is in it.
    fn end(self, target: &dyn Target) -> Option<PathBuf> {
        let last = target.connect().perform(&Request::Digest).outcome;
        let (version, digest) = match last {
            Outcome::Answered { version, answer } => (version, answer.member::<String>("digest")),
            _ => (None, None),
        };
        let counts = self.counts.lock().unwrap().clone();
        let count = |event| counts.get(event).copied().unwrap_or_default();
        let asked = self.next.load(Ordering::SeqCst);
        let end = json!({
            "time_ns": self.began.elapsed().as_nanos() as u64, "final_version": version, "final_digest": digest,
            "invoke": asked, "ok": count("ok"), "fail": count("fail"), "info": count("info"),
        });
        self.recorder.send(Event::End(end)).unwrap();
        drop(self.recorder);
        self.writer.finish().unwrap();
        (asked > 0).then_some(self.path)
    }
}
