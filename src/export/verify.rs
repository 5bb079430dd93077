//! Whether a log is the graph's: replayed from its beginning, every prefix judged, and all that the
//! database has too compared with it: of each change its chain, time and actor, of the graph in the
//! end its digest and the version of each job.

use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::{fmt, iter, mem};

use super::sink::{Purpose, SinkError};
use super::sink_url::SinkUrl;
use crate::archive::{PastError, graph_at};
use crate::chain::{Chain, LoggedChange};
use crate::event::{
    Envelope, EventIndex, Kind, Parsed, Parser, Replay, ReplayError, Stream, rfc3339,
};
use crate::graph::{Graph, Name};
use crate::store::{Head, Store, StoreError};

/// A log that was found to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The graph.
    pub graph: Name,
    /// Events that were replayed.
    pub events: u64,
    /// The first and the last version that they tell.
    pub versions: (u64, u64),
    /// Of the database, too.
    pub chain: Chain,
    /// Of the database, too.
    pub digest: String,
    /// The version that the graph had when the verification began, unless only a part of the log
    /// was asked for.
    pub graph_version: Option<u64>,
}

impl Verified {
    /// How many changes of the graph the log does not have yet.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.graph_version.map_or(0, |version| version.saturating_sub(self.versions.1))
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.versions;
        write!(
            f,
            "valid: {} events of graph `{}`, versions {first} to {last}, digest {} as in the database",
            self.events, self.graph, self.digest
        )?;
        let (missing, version) = (self.missing(), self.graph_version.unwrap_or(last));
        match missing {
            0 => Ok(()),
            1 => write!(f, "; the graph is at version {version}: 1 change is not in the log yet"),
            _ => write!(
                f,
                "; the graph is at version {version}: {missing} changes are not in the log yet"
            ),
        }
    }
}

/// What is wrong with a log, or kept from telling. One line.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log breaks.
    #[error(
        "event {event}{}: {reason}{}",
        .index.map(|index| format!(" ({index})")).unwrap_or_default(),
        .anew.as_deref().map(|anew| format!(
            ". To begin anew with the whole graph: {anew}; or export to another place"
        )).unwrap_or_default()
    )]
    Log {
        /// Which event, from 1.
        event: u64,
        /// The last index before it, if there is one, said as `after version 12`.
        index: Option<After>,
        /// What is wrong.
        reason: ReplayError,
        /// If events are missing: what a person does to begin the log anew.
        anew: Option<String>,
    },
    /// The log is right and ends before the version that was asked for.
    #[error("the log ends at version {version}, before version {asked}: export first")]
    Short {
        /// Where it ends.
        version: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The log begins after the version that was asked for.
    #[error("the log begins at version {version}, after version {asked}")]
    Late {
        /// Where it begins.
        version: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The log goes on beyond the database.
    #[error(
        "the log has version {version}, the database only {actual}: was an older backup restored?"
    )]
    Ahead {
        /// The log's.
        version: u64,
        /// The database's.
        actual: u64,
    },
    /// The log is right in itself, and not what the database has.
    #[error("at version {version} the {what} of the log is {log}, of the database {database}")]
    Differs {
        /// Where both were looked at.
        version: u64,
        /// Such as `chain`, `digest`, `time`, `actor`.
        what: String,
        /// The log's.
        log: String,
        /// The database's.
        database: String,
    },
    /// Passed on unchanged.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Passed on unchanged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database does not have the graph at that version any more, or its own log is damaged.
    #[error("{0}")]
    Past(PastError),
    /// There is no such graph to compare with.
    #[error("to compare the log with, there is no graph `{0}`")]
    GraphNotFound(Name),
}

/// Said as `after version 12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After(EventIndex);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {}", self.0)
    }
}

/// Replays the log of `graph` that `from` holds, up to version `at` or its end, and compares it
/// with the database. O(size of the log and of the database's log from there on, and of the graph);
/// memory: the graph, once, and the version of each job.
///
/// # Errors
/// [`VerifyError`] says what is wrong and where.
pub fn verify(
    store: &Store,
    graph: &Name,
    from: &SinkUrl,
    at: Option<u64>,
) -> Result<Verified, VerifyError> {
    let head = store.head(graph)?.ok_or_else(|| VerifyError::GraphNotFound(graph.clone()))?;
    let mut comparison = Comparison::with(store, &head);
    let followed = follow_sink(
        from,
        Stream::new(head.name.clone(), head.uuid),
        at,
        &mut |envelope, replay| comparison.take(envelope, replay),
    )?;
    let (replay, wrong) = followed;
    let (events, index) = (replay.events(), replay.last_index());
    let log = |reason| VerifyError::Log {
        event: events + 1,
        index: index.map(After),
        anew: how_to_begin_anew(graph, from, &reason),
        reason,
    };
    if let Some(reason) = wrong {
        return Err(log(reason));
    }
    let replayed = replay.finish().map_err(log)?;
    let version = replayed.graph.version();
    match at {
        Some(asked) if version < asked => return Err(VerifyError::Short { version, asked }),
        Some(asked) if version > asked => return Err(VerifyError::Late { version, asked }),
        _ => {}
    }
    let (chain, digest) = (replayed.chain, replayed.graph.digest());
    let (events, first) = (replayed.events, replayed.first_version);
    let job_versions = job_versions(&replayed.graph);
    // Two graphs need not be in memory together.
    drop(replayed.graph);
    let past = graph_at(store, graph, version)?;
    if past.chain != chain {
        return Err(differs(version, "chain", chain.to_string(), past.chain.to_string()));
    }
    let found = past.graph.digest();
    if found != digest {
        return Err(differs(version, "digest", digest, found));
    }
    compare_job_versions(version, &job_versions, &past.graph)?;
    drop(past);
    comparison.finish(version)?;
    let graph_version = at.is_none().then_some(head.version);
    let (graph, versions) = (graph.clone(), (first, version));
    Ok(Verified { graph, events, versions, chain, digest, graph_version })
}

/// What a person does about events that are missing, if the log is in a sink.
fn how_to_begin_anew(graph: &Name, from: &SinkUrl, wrong: &ReplayError) -> Option<String> {
    let is_sink = match from {
        SinkUrl::File(path) => path.is_file(),
        SinkUrl::StandardOutput => false,
        SinkUrl::Redis(_) | SinkUrl::Nats(_) | SinkUrl::Postgres(_) => true,
    };
    let is_missing = matches!(wrong, ReplayError::Gap { .. } | ReplayError::NoBeginning { .. });
    (is_sink && is_missing).then(|| from.how_to_begin_anew(graph))
}

fn differs(version: u64, what: &str, log: String, database: String) -> VerifyError {
    VerifyError::Differs { version, what: what.to_owned(), log, database }
}

/// Of each job the version of its last change, in byte order of names.
fn job_versions(graph: &Graph) -> Vec<(Name, u64)> {
    let jobs = graph.jobs_from(Bound::Unbounded);
    jobs.map(|job| (job.name().clone(), job.version())).collect()
}

/// For a graph of the same digest, and so of the same jobs.
fn compare_job_versions(
    version: u64,
    log: &[(Name, u64)],
    database: &Graph,
) -> Result<(), VerifyError> {
    for ((name, in_log), job) in log.iter().zip(database.jobs_from(Bound::Unbounded)) {
        if *in_log != job.version() {
            let what = format!("version of job `{name}`");
            return Err(differs(version, &what, in_log.to_string(), job.version().to_string()));
        }
    }
    Ok(())
}

/// Changes of the database that are read at once.
const PAGE_CHANGES: usize = 1_000;

/// What the database says of the events, one after another.
struct Comparison<'d> {
    store: &'d Store,
    head: &'d Head,
    /// Changes of the database that come next, the next one first.
    page: VecDeque<LoggedChange>,
    /// Whether it has none to compare with from here on.
    ends: bool,
    /// The version of the import that the log begins with, and of its jobs.
    imported: Option<(u64, Vec<(Name, u64)>)>,
}

impl<'d> Comparison<'d> {
    fn with(store: &'d Store, head: &'d Head) -> Self {
        Self { store, head, page: VecDeque::new(), ends: false, imported: None }
    }

    /// Compares an event that was replayed just now. What the database no longer has is passed
    /// over.
    fn take(&mut self, envelope: &Envelope, replay: &Replay) -> Result<(), VerifyError> {
        let version = envelope.index.version;
        match envelope.kind {
            Kind::ImportBegun => {
                let committed_at_ms = self.store.committed_at(self.head.id, version)?;
                // At version 0 there is no time, and of what was pruned none is known.
                if version > 0 && committed_at_ms.is_none() {
                    return Ok(());
                }
                compare_times(version, envelope.committed_at_ms, committed_at_ms)
            }
            Kind::Imported => Ok(()),
            Kind::ImportEnded => {
                self.imported = Some((version, job_versions(replay.graph())));
                Ok(())
            }
            Kind::Changed => match self.change(version)? {
                Some(logged) => compare_change(envelope, &logged),
                None => Ok(()),
            },
        }
    }

    /// The change that made the version, if the database has it.
    fn change(&mut self, version: u64) -> Result<Option<LoggedChange>, VerifyError> {
        if version < self.head.oldest || self.ends {
            return Ok(None);
        }
        if self.page.front().is_none_or(|next| next.version != version) {
            let feed = self.store.feed(&self.head.name, version - 1, PAGE_CHANGES)?;
            // The log goes on beyond the database, or the database was pruned meanwhile.
            self.page = feed.map(|feed| feed.changes.into()).unwrap_or_default();
            self.ends = self.page.is_empty();
        }
        Ok(self.page.pop_front())
    }

    /// Compares the jobs of the import, if the graph has come further since: their versions are in
    /// the graph's end only as far as no change replaced them.
    fn finish(self, last: u64) -> Result<(), VerifyError> {
        let Some((version, log)) = self.imported.filter(|(version, _)| *version < last) else {
            return Ok(());
        };
        match graph_at(self.store, &self.head.name, version) {
            Ok(past) => compare_job_versions(version, &log, &past.graph),
            Err(PastError::Pruned { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn compare_change(envelope: &Envelope, logged: &LoggedChange) -> Result<(), VerifyError> {
    let version = logged.version;
    if envelope.chain != logged.chain {
        let (log, database) = (envelope.chain.to_string(), logged.chain.to_string());
        return Err(differs(version, "chain", log, database));
    }
    compare_times(version, envelope.committed_at_ms, Some(logged.committed_at_ms))?;
    if envelope.actor.as_deref() != logged.actor.as_deref() {
        let told = |actor: Option<&str>| match actor {
            Some(actor) => format!("{actor:?}"),
            None => "nobody".to_owned(),
        };
        let (log, database) = (told(envelope.actor.as_deref()), told(logged.actor.as_deref()));
        return Err(differs(version, "actor", log, database));
    }
    Ok(())
}

fn compare_times(version: u64, log: Option<i64>, database: Option<i64>) -> Result<(), VerifyError> {
    if same_time(log, database) {
        return Ok(());
    }
    let told = |ms: Option<i64>| ms.map_or("none".to_owned(), rfc3339);
    Err(differs(version, "time", told(log), told(database)))
}

/// Whether events tell two times alike: to the millisecond, and none before 1970.
pub(super) fn same_time(log: Option<i64>, database: Option<i64>) -> bool {
    log == database || log.map(rfc3339) == database.map(rfc3339)
}

/// Bytes of events that wait to be read, at most, beyond one event.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// Pieces that wait for the thread that applies them.
const PIECES_AHEAD: usize = 4;

/// Replays what the sink has of that stream, up to the version `at`. With what is wrong with the
/// event after the last that was replayed, if anything is.
///
/// # Errors
/// [`SinkError`] if it cannot be read.
pub fn replay_from(
    from: &SinkUrl,
    stream: Stream,
    at: Option<u64>,
) -> Result<(Replay, Option<ReplayError>), SinkError> {
    follow_sink(from, stream, at, &mut |_, _| Ok(()))
}

/// As [`replay_from`], and calls `each` with each event that was replayed: one thread fetches, one
/// reads, one applies. Nobody waits for the thread that fetches once the outcome is known: it may
/// be waiting for a pipe whose writer has nothing to say.
fn follow_sink<E: From<SinkError>>(
    from: &SinkUrl,
    stream: Stream,
    at: Option<u64>,
    each: &mut dyn FnMut(&Envelope, &Replay) -> Result<(), E>,
) -> Result<(Replay, Option<ReplayError>), E> {
    let mut sink = from.open(&stream, Purpose::Read)?;
    let mut replay = Replay::of(Some(stream));
    let lines = Arc::new(Lines::default());
    // Whatever happens, both threads end as soon as they would hand something on.
    let _unwanted = OnDrop(|| lines.end());
    let fetching = thread::spawn({
        let lines = Arc::clone(&lines);
        move || {
            let _ended = OnDrop(|| lines.end());
            sink.read(&mut |text| lines.push(text))
        }
    });
    let (parsed, read) = sync_channel::<Vec<Result<Parsed, ReplayError>>>(PIECES_AHEAD);
    let reading = thread::spawn({
        let lines = Arc::clone(&lines);
        move || {
            let mut parser = Parser::default();
            while let Some((text, ends)) = lines.take() {
                let begins = iter::once(0).chain(ends.iter().copied());
                let lines = begins.zip(&ends).map(|(begin, end)| &text[begin..*end]);
                let events = lines.map(|line| parser.parse(line).map(|(parsed, _)| parsed));
                if parsed.send(events.collect()).is_err() {
                    return;
                }
            }
        }
    });
    match follow(&mut replay, read, at, each)? {
        // What comes after the version that was asked for may be being written just now.
        Followed::AsAsked => Ok((replay, None)),
        Followed::To(wrong) => Ok((replay, Some(wrong))),
        Followed::ToTheEnd => {
            reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let fetched = fetching.join();
            fetched.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((replay, None))
        }
    }
}

/// Lines on their way from the thread that fetches to the one that reads. The latter gets all that
/// is there when it asks, so that none waits for more to come.
#[derive(Default)]
struct Lines {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// One after another, with nothing between them.
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
    /// Whether one of the two threads has ended.
    ended: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a line on; waits while too much is waiting. Breaks if nobody wants more.
    fn push(&self, line: &str) -> ControlFlow<()> {
        let is_full =
            |waiting: &mut Waiting| waiting.text.len() >= WAITING_BYTES_MAX && !waiting.ended;
        let waiting = self.changed.wait_while(self.lock(), is_full);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        if waiting.ended {
            return ControlFlow::Break(());
        }
        let was_empty = waiting.ends.is_empty();
        waiting.text.push_str(line);
        let end = waiting.text.len();
        waiting.ends.push(end);
        drop(waiting);
        if was_empty {
            self.changed.notify_all();
        }
        ControlFlow::Continue(())
    }

    /// All lines that are waiting, at least one, and where each ends; `None` after the last.
    fn take(&self) -> Option<(String, Vec<usize>)> {
        let is_empty = |waiting: &mut Waiting| waiting.ends.is_empty() && !waiting.ended;
        let waiting = self.changed.wait_while(self.lock(), is_empty);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let (text, ends) = (mem::take(&mut waiting.text), mem::take(&mut waiting.ends));
        drop(waiting);
        self.changed.notify_all();
        (!ends.is_empty()).then_some((text, ends))
    }

    /// No line is pushed any more; those that are waiting can still be taken.
    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

/// Does something when it is dropped, on a panic too.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// How far a log could be followed.
enum Followed {
    /// To the version that was asked for.
    AsAsked,
    /// As far as it could be fetched.
    ToTheEnd,
    /// To the event before one that is wrong.
    To(ReplayError),
}

fn follow<E>(
    replay: &mut Replay,
    read: Receiver<Vec<Result<Parsed, ReplayError>>>,
    at: Option<u64>,
    each: &mut dyn FnMut(&Envelope, &Replay) -> Result<(), E>,
) -> Result<Followed, E> {
    for event in read.into_iter().flatten() {
        match event.and_then(|event| replay.follow(event)) {
            Ok(envelope) => each(&envelope, replay)?,
            Err(wrong) => return Ok(Followed::To(wrong)),
        }
        let version = replay.last_index().map(|index| index.version);
        if at.is_some() && replay.is_whole() && version >= at {
            return Ok(Followed::AsAsked);
        }
    }
    Ok(Followed::ToTheEnd)
}

impl From<PastError> for VerifyError {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Ahead { version: actual, asked: version, .. } => {
                Self::Ahead { version, actual }
            }
            PastError::GraphNotFound(graph) => Self::GraphNotFound(graph),
            PastError::Store(error) => Self::Store(error),
            other => Self::Past(other),
        }
    }
}
