//! A run: clients that send what is due, one after another, and count what comes back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::history::{Ending, Event, FORMAT_VERSION, Invocation, Recorder, Writer};
use super::phases::Phases;
use super::report::{Report, Tally};
use super::request::{Outcome, Request};
use super::target::{Connection, Target};
use super::verbatim::Verbatim;
use super::workload::{Seen, Workload};
use super::{BenchError, DriveArgs, WorkloadName};

/// How long to measure if nothing else is said.
const SECONDS: f64 = 10.0;
/// How long a request of a pair waits for the client that is to send the other.
const PAIR_PATIENCE: Duration = Duration::from_millis(100);
/// How often it looks.
const PAIR_PAUSE: Duration = Duration::from_micros(20);
/// How long a client that found no server waits before it asks again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Runs the workload against the target.
///
/// # Errors
/// [`BenchError`] if the run could not begin, or its history not be written. How it ended is the
/// report's verdict.
pub fn drive(target: &dyn Target, args: &DriveArgs) -> Result<Report, BenchError> {
    let about_graph = args.workload != WorkloadName::Fetch;
    if !about_graph && target.service().is_some() {
        return Err(BenchError::Usage("--workload fetch asks a server: give --url".to_owned()));
    }
    let mut connection = target.connect();
    let nodes = target.nodes();
    let contact = first_contact(connection.as_mut(), nodes, args, about_graph)?;
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
        schedule: Schedule::new(args, &workload),
        bar: workload.requests().map_or_else(ProgressBar::hidden, ProgressBar::new),
        began,
        recorder,
        next: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        history_lost: AtomicBool::new(false),
        last_contact_ns: AtomicU64::new(0),
    };
    let mut tally = run.set_up(connection.as_mut())?;
    let start = Instant::now();
    let (counted, phases) = run.clients(start);
    let measured = start.elapsed().saturating_sub(run.schedule.warmup);
    run.bar.finish_and_clear();
    tally.add(counted);

    let last = if about_graph {
        last_look(connection.as_mut(), nodes, args.history.is_some())
    } else {
        Ok(json!({}))
    };
    let away = last.as_ref().err().cloned().or_else(|| run.gave_up());
    let last = last.unwrap_or_else(|_| json!({}));
    let footer = record(run.recorder.as_ref(), || run.footer(&tally, &last));
    drop(run.recorder);
    // What the writer says is the reason, where there is one.
    writer.map_or(Ok(()), Writer::finish)?;
    footer?;
    let loaded = (args.workload == WorkloadName::Load).then(|| operations(&workload));
    let final_version = last["final_version"].as_u64();
    let first_read = contact.first_read;
    Ok(Report {
        args: args.clone(),
        tally,
        measured,
        first_read,
        phases,
        loaded,
        final_version,
        away,
    })
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn operations(workload: &Workload) -> u64 {
    let requests = workload.requests().unwrap_or_default();
    let size =
        |request: Request| if let Request::Write(steps) = request { steps.len() as u64 } else { 1 };
    let seen = Seen::new();
    requests.checked_sub(1).map_or(0, |last| {
        last * size(workload.request(0, &seen)) + size(workload.request(last, &seen))
    })
}

/// What the first answers told.
struct Contact {
    /// The graph's version and job count; `None` and 0 where there is no graph.
    version: Option<u64>,
    jobs: u64,
    /// What the first read took: of a service that was just started, the time to load the graph.
    first_read: Duration,
}

/// Finds out that the server is there, creates the graph, and has it loaded.
fn first_contact(
    connection: &mut dyn Connection,
    nodes: usize,
    args: &DriveArgs,
    about_graph: bool,
) -> Result<Contact, BenchError> {
    let read = if about_graph { Request::Graph } else { Request::Fetch(args.path.clone()) };
    if about_graph {
        first_answer(connection, nodes, &Request::CreateGraph)?;
    }
    let began = Instant::now();
    let (version, answer) = first_answer(connection, nodes, &read)?;
    Ok(Contact {
        version,
        jobs: answer.and_then(|answer| answer.member("jobs")).unwrap_or_default(),
        first_read: began.elapsed(),
    })
}

/// The answer of the first node that gives one. For what may be asked twice.
fn ask(connection: &mut dyn Connection, nodes: usize, request: &Request) -> Outcome {
    let mut outcome = connection.perform(request).outcome;
    for _ in 1..nodes {
        if !matches!(
            outcome,
            Outcome::Unreachable(_) | Outcome::Unknown { .. } | Outcome::Refused { .. }
        ) {
            break;
        }
        connection.move_on();
        outcome = connection.perform(request).outcome;
    }
    outcome
}

fn first_answer(
    connection: &mut dyn Connection,
    nodes: usize,
    request: &Request,
) -> Result<(Option<u64>, Option<Verbatim>), BenchError> {
    match ask(connection, nodes, request) {
        Outcome::Accepted(accepted) => Ok((Some(accepted.version), None)),
        Outcome::Answered { version, answer } => Ok((version, Some(answer))),
        Outcome::Unreachable(reason) | Outcome::Unknown { reason, .. } => {
            Err(BenchError::Unavailable(reason))
        }
        Outcome::Refused { name, .. } => {
            Err(BenchError::Unavailable(format!("the server cannot serve: {name}")))
        }
        other => Err(BenchError::Refused(format!(
            "the first request was answered: {}",
            describe(&other)
        ))),
    }
}

/// The graph's version in the end, and for a history its digest.
fn last_look(connection: &mut dyn Connection, nodes: usize, digest: bool) -> Result<Value, String> {
    let request = if digest { Request::Digest } else { Request::Graph };
    match ask(connection, nodes, &request) {
        Outcome::Answered { version, answer } => {
            let digest: Option<String> = answer.member("digest");
            Ok(json!({"final_version": version, "final_digest": digest}))
        }
        other => Err(format!("the graph could not be read at the end: {}", describe(&other))),
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Unreachable(reason)
        | Outcome::Unknown { reason, .. }
        | Outcome::Undocumented(reason) => reason.clone(),
        other => other.label(),
    }
}

fn record(recorder: Option<&Recorder>, event: impl FnOnce() -> Event) -> Result<(), BenchError> {
    let Some(recorder) = recorder else { return Ok(()) };
    // The writer has gone only if it failed; what failed is told when it is waited for.
    recorder
        .send(event())
        .map_err(|_| BenchError::History(std::io::Error::other("the writer stopped")))
}

/// When requests are due, and when there are no more.
struct Schedule {
    rate: Option<f64>,
    warmup: Duration,
    end: Option<Duration>,
    requests: u64,
}

impl Schedule {
    fn new(args: &DriveArgs, workload: &Workload) -> Self {
        let requests = [args.requests, workload.requests()].into_iter().flatten().min();
        let seconds = args.seconds.or_else(|| requests.is_none().then_some(SECONDS));
        Self {
            rate: args.rate,
            warmup: Duration::from_secs_f64(args.warmup_seconds),
            end: seconds.map(|seconds| Duration::from_secs_f64(args.warmup_seconds + seconds)),
            requests: requests.unwrap_or(u64::MAX),
        }
    }

    /// When request `number` is due, after the start.
    fn due(&self, number: u64) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(number as f64 / rate))
    }

    fn is_over(&self, since_start: Duration) -> bool {
        self.end.is_some_and(|end| since_start >= end)
    }

    /// With a rate and an end in time, how many requests are due.
    fn due_before_end(&self) -> u64 {
        let due = self.rate.zip(self.end).map_or(0.0, |(rate, end)| rate * end.as_secs_f64());
        (due.ceil() as u64).min(self.requests)
    }
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
    ended: AtomicBool,
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
            tally.count(request.call(), &outcome, None);
            if !matches!(outcome, Outcome::Accepted(_)) {
                return Err(BenchError::Refused(format!(
                    "the workload cannot begin: {}",
                    describe(&outcome)
                )));
            }
        }
        Ok(tally)
    }

    /// All clients, and what the service says of its turns at the beginning and the end of what is
    /// measured.
    fn clients(&self, start: Instant) -> (Tally, Phases) {
        self.touch();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.args.clients)
                .map(|client| scope.spawn(move || Client::new(self, client, start).run()))
                .collect();
            std::thread::sleep(self.schedule.warmup.saturating_sub(start.elapsed()));
            let before = self.target.metrics();
            let mut tally = Tally::default();
            for client in clients {
                tally.add(client.join().expect("a client does not panic"));
            }
            tally.unsent = self.schedule.due_before_end().saturating_sub(tally.sent);
            (tally, Phases::between(&before, &self.target.metrics()))
        })
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
            let outcome = completion.outcome.clone();
            self.keep(
                recorder.send(Event::Complete(Ending { process, id, time_ns, outcome })).is_ok(),
            );
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
    /// client is about to, so that both are under way at once.
    fn wait_for_pair(&self, number: u64) {
        if self.args.workload != WorkloadName::Pairs || self.args.clients < 2 {
            return;
        }
        let (began, last_of_pair) = (Instant::now(), number | 1);
        while self.next.load(Ordering::Relaxed) <= last_of_pair
            && !self.ended.load(Ordering::Relaxed)
            && began.elapsed() < PAIR_PATIENCE
        {
            std::thread::sleep(PAIR_PAUSE);
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

    fn gave_up(&self) -> Option<String> {
        let gave_up =
            self.ended.load(Ordering::Relaxed) && !self.history_lost.load(Ordering::Relaxed);
        gave_up.then(|| {
            format!(
                "the server was away for {} s; the run was given up",
                self.args.patience_seconds
            )
        })
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
    process: u64,
    connection: Box<dyn Connection>,
    seen: Seen,
    tally: Tally,
}

impl<'r> Client<'r> {
    fn new(run: &'r Run<'r>, number: u32, start: Instant) -> Self {
        let (connection, process) = (run.target.connect(), u64::from(number));
        Self { run, start, process, connection, seen: Seen::new(), tally: Tally::default() }
    }

    fn run(mut self) -> Tally {
        while !self.run.ended.load(Ordering::Relaxed)
            && !self.run.schedule.is_over(self.start.elapsed())
        {
            let number = self.run.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.run.schedule.requests {
                break;
            }
            let request = self.run.workload.request(number, &self.seen);
            self.run.wait_for_pair(number);
            let due = self.run.schedule.due(number);
            if due.is_some_and(|due| self.run.schedule.is_over(due)) {
                break;
            }
            if let Some(due) = due {
                std::thread::sleep(due.saturating_sub(self.start.elapsed()));
            }
            self.send(number, &request, due.map(|due| self.start + due));
        }
        self.tally
    }

    fn send(&mut self, number: u64, request: &Request, due: Option<Instant>) {
        let commits = self.commits();
        let id = self.run.setup.len() as u64 + number;
        let (outcome, sent, answered) =
            self.run.exchange(self.connection.as_mut(), self.process, id, due, request);
        self.run.bar.inc(1);
        // With a rate, a late start counts as latency: the client that was due would have waited.
        let intended = due.unwrap_or(sent);
        let latency = answered.saturating_duration_since(intended);
        let measured = intended.saturating_duration_since(self.start) >= self.run.schedule.warmup;
        self.tally.count(request.call(), &outcome, measured.then_some(latency));
        if measured && request.writes() {
            self.count_beyond_commit(commits, answered.saturating_duration_since(sent));
        }
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
        if let (Request::Job { name, .. }, Outcome::Answered { answer, .. }) = (request, &outcome)
            && self.run.args.revalidate_percent > 0
            && let Some(version) = answer.member("version")
        {
            self.seen.insert(name.clone(), version);
        }
    }
}
