//! A run: clients that send what is due, one after another, and count what comes back.
//!
//! A window of time is measured, and it is fixed before: it begins at the end of the warm-up and
//! ends `--seconds` later, whatever is still under way then. At its end clients stop sending, and
//! wait for what they sent. `tally.rs` says which requests count for what.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::contact::{describe, first_contact, last_look};
use super::history::{Ending, Event, FORMAT_VERSION, Invocation, Recorder, Writer};
use super::phases::Phases;
use super::report::Report;
use super::request::{Outcome, Request};
use super::schedule::{Bounds, Schedule};
use super::seen::Seen;
use super::server::Server;
use super::summary::Extent;
use super::tally::{Exchange, Tally};
use super::target::{Completion, Connection, Target};
use super::workload::Workload;
use super::{BenchError, DriveArgs, WorkloadName};
use crate::address::redacted_file;
use crate::graph::Name;

/// Of a run on many graphs, those of so many last requests are read in the end.
const LAST_READ: u64 = 200;
/// How long a request of a pair waits for the client that is to send the other.
const PAIR_PATIENCE: Duration = Duration::from_millis(100);
/// How often it looks.
const PAIR_PAUSE: Duration = Duration::from_micros(20);
/// How often a client that is to send in turn looks whether the run is over.
const TURN_PAUSE: Duration = Duration::from_millis(10);
/// How often a client whose next request is not due yet looks whether the run has ended.
const DUE_PAUSE: Duration = Duration::from_millis(100);
/// How long a client that found no server waits before it asks again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Runs the workload against the target.
///
/// # Errors
/// [`BenchError`] if the run could not begin, or its history not be written. How it ended is the
/// report's verdict.
pub fn drive(target: &dyn Target, args: &DriveArgs) -> Result<Report, BenchError> {
    drive_until(target, args, &AtomicBool::new(false))
}

/// The same, to its end or until `stopped` is set: then what was sent is waited for, and the
/// history is whole.
///
/// # Errors
/// As [`drive`].
pub fn drive_until(
    target: &dyn Target,
    args: &DriveArgs,
    stopped: &AtomicBool,
) -> Result<Report, BenchError> {
    super::unused::refuse_unused(args)?;
    let about_graph = args.workload != WorkloadName::Fetch;
    if !about_graph && target.service().is_some() {
        return Err(BenchError::Usage("--workload fetch asks a server: give --url".to_owned()));
    }
    args.history.as_deref().map_or(Ok(()), refuse_to_overwrite)?;
    let mut connection = target.connect();
    let nodes = target.nodes();
    let contact = first_contact(target, connection.as_mut(), args)?;
    // As if the path that was found had been given.
    let args = &DriveArgs { path: contact.path.clone(), ..args.clone() };
    let workload = Workload::prepare(args, contact.jobs, connection.as_mut())?;
    let (writer, recorder) = match &args.history {
        Some(path) => {
            Writer::create(path).map(|(writer, recorder)| (Some(writer), Some(recorder)))?
        }
        None => (None, None),
    };
    let began = Instant::now();
    let clock = json!({"unit": "ns", "kind": "monotonic", "zero_unix_ms": unix_ms()});
    record(recorder.as_ref(), || {
        Event::Start(json!({
            "format": FORMAT_VERSION,
            "fencepost": env!("CARGO_PKG_VERSION"),
            "graph": about_graph.then_some(&args.graph),
            "graphs": args.graphs,
            "workload": args.workload,
            "seed": args.seed,
            "target": target.describe(),
            "clients": args.clients,
            "clock": clock,
            "initial_version": contact.version,
            "arguments": args,
        }))
    })?;
    let run = Run {
        args,
        target,
        workload: &workload,
        setup: workload.setup(),
        schedule: Schedule::new(args, workload.requests()),
        bar: workload.requests().map_or_else(ProgressBar::hidden, ProgressBar::new),
        began,
        recorder,
        next: AtomicU64::new(0),
        done: Mutex::new(0),
        is_done: Condvar::new(),
        ended: AtomicBool::new(false),
        cut_at: OnceLock::new(),
        stopped,
        history_lost: AtomicBool::new(false),
        last_contact_ns: AtomicU64::new(0),
    };
    let mut tally = run.set_up(connection.as_mut())?;
    let (counted, start, metrics) = run.clients();
    run.bar.finish_and_clear();
    let extent = run.extent(&counted, start);
    tally.add(counted);

    if args.delete_percent > 0 {
        tally.add(run.create_again(connection.as_mut(), &tally));
    }
    if args.graphs.is_some() {
        tally.add(run.read_written(connection.as_mut(), &tally));
    }
    let last = if about_graph && args.graphs.is_none() {
        last_look(connection.as_mut(), nodes, args.history.is_some())
    } else {
        Ok(json!({}))
    };
    let cut_short = last.as_ref().err().cloned().or_else(|| run.why_cut_short());
    let last = last.unwrap_or_else(|_| json!({}));
    let footer = record(run.recorder.as_ref(), || run.footer(&tally, &last));
    drop(run.recorder);
    // What the writer says is the reason, where there is one.
    writer.map_or(Ok(()), Writer::finish)?;
    footer?;
    let [before, after] = metrics;
    Ok(Report {
        args: args.clone(),
        target: target.describe(),
        server: Server::of(&before),
        phases: Phases::between(&before, &after),
        tally,
        extent,
        first_read: contact.first_read,
        initial_version: contact.version,
        final_version: last["final_version"].as_u64(),
        cut_short,
    })
}

/// A history is evidence: one that is there is not written over. An empty file holds nothing, and a
/// pipe or a terminal keeps nothing. Into one file with the figures it cannot go: each would be
/// written from the beginning.
fn refuse_to_overwrite(history: &Path) -> Result<(), BenchError> {
    let Ok(file) = std::fs::metadata(history) else { return Ok(()) };
    if !file.is_file() {
        return Ok(());
    }
    let is_stdout = rustix::fs::fstat(std::io::stdout())
        .is_ok_and(|out| (out.st_dev, out.st_ino) == (file.dev(), file.ino()));
    let reason = if is_stdout {
        "standard output goes into the same file, where the figures are to stand; give another \
         file, or pipe standard output"
    } else if file.len() > 0 {
        "the file is there already, and is not written over; give another name, or remove it"
    } else {
        return Ok(());
    };
    Err(BenchError::Usage(format!("--history {}: {reason}", redacted_file(history))))
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn record(recorder: Option<&Recorder>, event: impl FnOnce() -> Event) -> Result<(), BenchError> {
    let Some(recorder) = recorder else { return Ok(()) };
    // The writer has gone only if it failed; what failed is told when it is waited for.
    recorder
        .send(event())
        .map_err(|_| BenchError::History(std::io::Error::other("the writer stopped")))
}

/// What the clients of a run share.
struct Run<'r> {
    args: &'r DriveArgs,
    target: &'r dyn Target,
    workload: &'r Workload,
    /// What the workload needs; these requests have the first ids.
    setup: Vec<Request>,
    schedule: Schedule,
    bar: ProgressBar,
    /// Zero of the history's clock.
    began: Instant,
    recorder: Option<Recorder>,
    /// The number of the next request.
    next: AtomicU64,
    /// Where clients send in turn: how many requests were answered, or not sent.
    done: Mutex<u64>,
    is_done: Condvar,
    /// By the run itself.
    ended: AtomicBool,
    /// When a client first found that the run had ended before its time.
    cut_at: OnceLock<Instant>,
    /// By whoever has begun it.
    stopped: &'r AtomicBool,
    history_lost: AtomicBool,
    /// When something was last answered.
    last_contact_ns: AtomicU64,
}

impl Run<'_> {
    /// Sends what the workload needs, as requests of the history.
    fn set_up(&self, connection: &mut dyn Connection) -> Result<Tally, BenchError> {
        let mut tally = Tally::default();
        for (id, request) in self.setup.iter().enumerate() {
            let (outcome, _, _) = self.exchange(connection, 0, id as u64, None, request);
            tally.count(&outcome);
            if !matches!(outcome, Outcome::Accepted(_)) {
                return Err(BenchError::Refused(format!(
                    "the workload cannot begin: {}",
                    describe(&outcome)
                )));
            }
        }
        Ok(tally)
    }

    /// The number of a process that no client was: each has another after an answer that is
    /// unknown.
    fn process_of_no_client(&self, tally: &Tally) -> u64 {
        let infos = tally.events.get("info").copied().unwrap_or_default();
        u64::from(self.args.clients) * (1 + infos)
    }

    /// Creates the graph that the run may have deleted, since it is to be read: by a process that
    /// no client is.
    fn create_again(&self, connection: &mut dyn Connection, tally: &Tally) -> Tally {
        let process = self.process_of_no_client(tally);
        let id = self.setup.len() as u64 + self.next.load(Ordering::Relaxed);
        let (outcome, _, _) = self.exchange(connection, process, id, None, &Request::CreateGraph);
        let mut last = Tally::default();
        last.count(&outcome);
        last
    }

    /// Of a run on many graphs, reads those that were written to last, so that a write that was
    /// lost does not pass: by a process that no client is.
    fn read_written(&self, connection: &mut dyn Connection, tally: &Tally) -> Tally {
        let process = self.process_of_no_client(tally);
        let next = self.next.load(Ordering::Relaxed);
        // Each client has taken one more, and found that it is none.
        let sent = self.args.requests.map_or(next, |requests| next.min(requests));
        let numbers = sent.saturating_sub(LAST_READ)..sent;
        let graphs: BTreeSet<Name> =
            numbers.filter_map(|number| self.workload.graph_of(number)).collect();
        let mut last = Tally::default();
        for (id, graph) in (self.setup.len() as u64 + next..).zip(graphs) {
            let request = Request::OfGraph { graph, request: Box::new(Request::Graph) };
            let (outcome, _, _) = self.exchange(connection, process, id, None, &request);
            last.count(&outcome);
        }
        last
    }

    /// All clients: what they counted, when they began, and what the nodes said of themselves at
    /// the end of the warm-up and when all was answered. Asking for that takes no part in the
    /// window: clients go on meanwhile, or are done.
    fn clients(&self) -> (Tally, Instant, [Vec<Option<String>>; 2]) {
        self.touch();
        // Held until all clients are there, so that they begin at once; given up if one cannot be
        // started.
        let gate: RwLock<Option<Instant>> = RwLock::new(None);
        std::thread::scope(|scope| {
            let mut opened = gate.write().expect("nobody else has it yet");
            let clients: Vec<_> = (0..self.args.clients)
                .map(|number| {
                    let gate = &gate;
                    scope.spawn(move || {
                        let mut connection = self.target.connect();
                        if self.recorder.is_none() {
                            connection.skip_evidence();
                        }
                        let start = gate.read().map_or(None, |start| *start);
                        start.map_or_else(Tally::default, |start| {
                            Client::new(self, connection, number, start).run()
                        })
                    })
                })
                .collect();
            let start = Instant::now();
            *opened = Some(start);
            drop(opened);
            self.wait_until(start, self.schedule.warmup);
            let before = self.target.metrics();
            let mut tally = Tally::default();
            for client in clients {
                tally.add(client.join().expect("a client does not panic"));
            }
            (tally, start, [before, self.target.metrics()])
        })
    }

    /// How far the window of these clients went.
    fn extent(&self, tally: &Tally, start: Instant) -> Extent {
        let next = self.next.load(Ordering::Relaxed);
        let is_whole = tally.abandoned.is_empty() && next >= self.schedule.requests;
        let over = match (self.cut_at.get(), tally.last_answer) {
            (Some(cut), _) => Some(cut.saturating_duration_since(start)),
            (None, Some(last)) if is_whole => Some(last.saturating_duration_since(start)),
            (None, _) => None,
        };
        Extent::new(&self.schedule, &tally.abandoned, next, over)
    }

    /// Sends one request; how it ended, when it was sent, and when the answer was there.
    fn exchange(
        &self,
        connection: &mut dyn Connection,
        process: u64,
        id: u64,
        due: Option<Instant>,
        request: &Request,
    ) -> (Outcome, Instant, Instant) {
        let invoked = |time_ns| Invocation {
            process,
            id,
            time_ns,
            due_ns: due.map(|due| self.ns(due)),
            graph: request.graph().cloned(),
            request: request.clone(),
        };
        if let Some(recorder) = &self.recorder {
            let time_ns = self.ns(Instant::now());
            self.keep(recorder.send(Event::Invoke(invoked(time_ns))).is_ok());
        }
        // After the line was handed over: waiting for the writer is not the server's time.
        let sent = Instant::now();
        let completion = connection.perform(request);
        if let Some(recorder) = &self.recorder {
            let time_ns = self.ns(completion.at);
            let Completion { outcome, headers, written, .. } = completion.clone();
            let ending = Ending { process, id, time_ns, outcome, headers, written };
            self.keep(recorder.send(Event::Complete(ending)).is_ok());
        }
        (completion.outcome, sent, completion.at)
    }

    fn keep(&self, recorded: bool) {
        if !recorded {
            self.history_lost.store(true, Ordering::Relaxed);
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    fn ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_nanos() as u64
    }

    fn touch(&self) {
        self.last_contact_ns.fetch_max(self.ns(Instant::now()), Ordering::Relaxed);
    }

    /// Where requests come in pairs and there is somebody else to send the other one: waits until a
    /// client is about to, so that both are under way at once. When it had waited, if it did.
    fn wait_for_pair(&self, number: u64) -> Option<Instant> {
        if self.args.workload != WorkloadName::Pairs || self.args.clients < 2 {
            return None;
        }
        let (began, last_of_pair) = (Instant::now(), number | 1);
        while self.next.load(Ordering::Relaxed) <= last_of_pair
            && !self.has_ended()
            && began.elapsed() < PAIR_PATIENCE
        {
            std::thread::sleep(PAIR_PAUSE);
        }
        Some(Instant::now())
    }

    /// Where clients send in turn: waits until all requests before this one are done.
    fn wait_for_turn(&self, number: u64, is_over: impl Fn() -> bool) -> Option<Instant> {
        if !self.args.in_turn {
            return None;
        }
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        while *done < number && !is_over() {
            let waited = self.is_done.wait_timeout(done, TURN_PAUSE);
            done = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(Instant::now())
    }

    fn end_turn(&self) {
        if self.args.in_turn {
            *self.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.is_done.notify_all();
        }
    }

    /// Ends the run when the server has been away for longer than anyone would wait.
    fn lose_patience(&self) {
        let silent =
            self.ns(Instant::now()).saturating_sub(self.last_contact_ns.load(Ordering::Relaxed));
        if Duration::from_nanos(silent) >= Duration::from_secs_f64(self.args.patience_seconds) {
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it has ended before its time. Asked where there is more to do.
    fn has_ended(&self) -> bool {
        let flags = [&self.ended, self.stopped];
        let has_ended = flags.iter().any(|flag| flag.load(Ordering::Relaxed));
        if has_ended {
            self.cut_at.get_or_init(Instant::now);
        }
        has_ended
    }

    /// Waits until so long after the start, or until the run has ended.
    fn wait_until(&self, start: Instant, due: Duration) {
        while !self.has_ended() {
            let left = due.saturating_sub(start.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(DUE_PAUSE));
        }
    }

    /// Why the run ended before its end, if that was told to nobody yet.
    fn why_cut_short(&self) -> Option<String> {
        let [ended, lost] =
            [&self.ended, &self.history_lost].map(|flag| flag.load(Ordering::Relaxed));
        match (ended, lost) {
            (_, true) => None,
            (true, false) => Some(format!(
                "the server was away for {} s; the run was given up",
                self.args.patience_seconds
            )),
            (false, false) => self.cut_at.get().map(|_| "the run was ended by a signal".to_owned()),
        }
    }

    fn footer(&self, tally: &Tally, last: &Value) -> Event {
        let count = |event| tally.events.get(event).copied().unwrap_or_default();
        Event::End(json!({
            "time_ns": self.ns(Instant::now()),
            "final_version": last.get("final_version"),
            "final_digest": last.get("final_digest"),
            "invoke": tally.sent,
            "ok": count("ok"),
            "fail": count("fail"),
            "info": count("info"),
        }))
    }
}

/// One client: a thread, a connection, and what it has seen.
struct Client<'r> {
    run: &'r Run<'r>,
    start: Instant,
    bounds: Bounds,
    process: u64,
    connection: Box<dyn Connection>,
    seen: Seen,
    tally: Tally,
    /// Since when it has nothing to wait for.
    free: Instant,
}

impl<'r> Client<'r> {
    fn new(run: &'r Run<'r>, connection: Box<dyn Connection>, number: u32, start: Instant) -> Self {
        let bounds = Bounds::new(&run.schedule, start);
        let (process, seen, tally) = (u64::from(number), Seen::default(), Tally::default());
        Self { run, start, bounds, process, connection, seen, tally, free: start }
    }

    fn run(mut self) -> Tally {
        while !self.is_over() {
            let number = self.run.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.run.schedule.requests {
                break;
            }
            let request = self.run.workload.request(number, &self.seen);
            let in_turn = self.run.wait_for_turn(number, || self.is_over());
            if let Some(waited) = self.run.wait_for_pair(number).or(in_turn) {
                self.free = waited;
            }
            let due = self.run.schedule.due(number);
            if let Some(due) = due
                && !self.run.schedule.is_over(due)
            {
                self.run.wait_until(self.start, due);
            }
            // The end may have come meanwhile, or come before it is due.
            if self.is_over() || due.is_some_and(|due| self.run.schedule.is_over(due)) {
                self.tally.abandoned.push(number);
                break;
            }
            self.send(number, &request, due.map(|due| self.start + due));
            self.run.end_turn();
        }
        self.tally
    }

    fn is_over(&self) -> bool {
        self.run.has_ended() || self.run.schedule.is_over(self.start.elapsed())
    }

    fn send(&mut self, number: u64, request: &Request, due: Option<Instant>) {
        let commits = self.commits();
        let id = self.run.setup.len() as u64 + number;
        let (outcome, sent, answered) =
            self.run.exchange(self.connection.as_mut(), self.process, id, due, request);
        self.run.bar.inc(1);
        let (call, operations, free) = (request.call(), request.operations(), self.free);
        let node = (self.run.target.nodes() > 1).then(|| self.connection.node());
        let exchange =
            Exchange { call, operations, node, outcome: &outcome, free, due, sent, answered };
        self.tally.measure(&exchange, &self.bounds);
        if due.unwrap_or(sent) >= self.bounds.from && request.writes() {
            self.count_beyond_commit(commits, answered.saturating_duration_since(sent));
        }
        self.free = answered;
        self.learn(request, outcome);
    }

    /// The time spent in commits so far, where it can be told whose they were: one client in this
    /// process.
    fn commits(&self) -> Option<f64> {
        let service = self.run.target.service().filter(|_| self.run.args.clients == 1)?;
        Some(service.metrics().commit.get_sample_sum())
    }

    fn count_beyond_commit(&mut self, before: Option<f64>, latency: Duration) {
        if let Some((before, after)) = before.zip(self.commits()) {
            let commit = Duration::from_secs_f64((after - before).max(0.0));
            self.tally.beyond_commit.record(latency.saturating_sub(commit));
        }
    }

    fn learn(&mut self, request: &Request, outcome: Outcome) {
        match &outcome {
            Outcome::Unreachable(_) => {
                self.run.lose_patience();
                self.connection.move_on();
                std::thread::sleep(RECONNECT_PAUSE);
                self.free = Instant::now();
            }
            Outcome::Unknown { problem: None, .. } => self.run.lose_patience(),
            _ => self.run.touch(),
        }
        if outcome.event() == "info" {
            // Jepsen's convention: the operation may still be under way, so whoever goes on is
            // somebody else.
            self.process += u64::from(self.run.args.clients);
            self.connection.move_on();
        }
        self.seen.learn(request, &outcome);
        if self.run.args.revalidate_percent > 0 {
            self.seen.learn_version(request, &outcome);
        }
    }
}
