//! The way out: a graph's log written to other engines while it is served, held against the
//! database, and the cut-over.
//!
//! Uses `event`, `keep` and `store`, and takes no lock: it reads snapshots, and what writers have
//! committed. Writers never wait for it.

use std::sync::mpsc::{channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::event::{DamagedEvent, Event, Importing, Kind, Position, Reader, Stream, Writer};
use crate::failpoint;
use crate::graph::Name;
use crate::store::{
    Acknowledgement, Chain, CommitError, Feed, GraphState, GraphStore, Head, StoreError,
};

mod cut_over;
mod file;
mod nats;
mod postgres;
mod redis;
pub mod sink;
mod stdout;
mod verify;

pub use cut_over::{FreezeError, await_sink, check_sink};
pub use verify::{Verified, VerifyError, replay_from, verify};

use sink::{Batch, Purpose, Sink, SinkError, SinkUrl};

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The graph.
    pub graph: Name,
    /// Where its log goes.
    pub to: SinkUrl,
    /// If given, a sink that is empty gets the changes after this version, and not the graph before
    /// them.
    pub after: Option<u64>,
    /// Whether to go on with what is written from now on, until the process is ended.
    pub follow: bool,
    /// The name under which the export is registered as a consumer, so that pruning does not
    /// overtake it; `None`: not at all.
    pub consumer: Option<Name>,
}

impl ExportRequest {
    /// What an export to that sink is called among the consumers of a graph. A file by its whole
    /// path: in another directory the same name is another file.
    #[must_use]
    pub fn consumer_of(sink: &SinkUrl) -> Option<Name> {
        let whole = match sink {
            SinkUrl::File(path) => format!("file:{}", std::path::absolute(path).ok()?.display()),
            other => other.to_string(),
        };
        Name::new(&format!("export to {whole}")).ok()
    }
}

/// What an export did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Events that were appended.
    pub events: u64,
    /// The version that the sink has now.
    pub version: u64,
}

/// Why an export ended early. What is in the sink stays, and the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See there.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The graph is not there.
    #[error("there is no graph `{0}`")]
    GraphNotFound(Name),
    /// The last event of the sink cannot be read.
    #[error(
        "the last event of {sink} is damaged: {reason}. `fencepost verify` says up to where the log is good: cut it off there, or export to a new place"
    )]
    Damaged {
        /// The sink.
        sink: String,
        /// What is wrong.
        reason: DamagedEvent,
    },
    /// The sink has another graph's log.
    #[error("{sink} holds the log of graph {found}, not of {expected}; export to another place")]
    OtherGraph {
        /// The sink.
        sink: String,
        /// Name and UUID.
        found: String,
        /// Name and UUID.
        expected: String,
    },
    /// The sink's log and the database's are not one history: a backup was restored, or somebody
    /// else wrote to one of them.
    #[error(
        "{sink} is of another history: at version {version} its chain of hashes is not that of the database; export to another place"
    )]
    OtherHistory {
        /// The sink.
        sink: String,
        /// The last version that the sink has.
        version: u64,
    },
    /// The sink is further than the database.
    #[error(
        "{sink} has version {sink_version}, the database only {version}: was an older backup restored?"
    )]
    Ahead {
        /// The sink.
        sink: String,
        /// The sink's version.
        sink_version: u64,
        /// The database's.
        version: u64,
    },
    /// The changes that come next are gone.
    #[error(
        "the changes after version {after} were pruned, the oldest is {oldest}; export to another place, without --after: it begins with the whole graph"
    )]
    Pruned {
        /// The last version that the sink has.
        after: u64,
        /// The oldest change that is there.
        oldest: u64,
    },
    /// The sink would have a gap.
    #[error(
        "{sink} has version {version}; with --after {after} changes between them would be missing. Leave --after away"
    )]
    Gap {
        /// The sink.
        sink: String,
        /// The last version that the sink has.
        version: u64,
        /// The one that was asked for.
        after: u64,
    },
    /// The version to begin after has not been reached.
    #[error("--after {after} is beyond the graph, which is at version {version}")]
    Beyond {
        /// What was asked for.
        after: u64,
        /// What there is.
        version: u64,
    },
    /// The consumer that keeps the log from being pruned could not be registered.
    #[error("the consumer `{consumer}` could not be registered: {reason}")]
    Unregistered {
        /// Its name.
        consumer: Name,
        /// Why not.
        reason: CommitError,
    },
}

impl ExportError {
    /// Whether it may be otherwise in a moment: a server is away.
    fn may_pass(&self) -> bool {
        match self {
            Self::Sink(SinkError::Away { .. }) | Self::Store(StoreError::Database(_)) => true,
            Self::Unregistered { reason, .. } => {
                matches!(
                    reason,
                    CommitError::Unavailable(StoreError::Database(_)) | CommitError::Yielded(_)
                )
            }
            _ => false,
        }
    }
}

/// Changes read at once.
const PAGE_CHANGES: usize = 1000;
/// Bytes of an import that are appended at once, about.
const IMPORT_BATCH_BYTES: usize = 1 << 20;
/// What an event has beside its data, about.
const ENVELOPE_BYTES: usize = 560;
/// Batches of an import that are ready to be appended.
const IMPORT_BATCHES_AHEAD: usize = 2;
/// How often whoever follows looks whether something was written: a fifth of the lag that is
/// allowed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a follower tells how far it is.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(1);
/// How long a follower waits before it tries again what failed, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// Writes the graph's log to the sink, from where the sink is: the whole graph first, if it is
/// empty. Memory: the graph while it is written first, and some megabytes. Following, it returns
/// only to tell an error that does not pass.
///
/// # Errors
/// [`ExportError`] says what to do.
pub fn export(store: &dyn GraphStore, request: &ExportRequest) -> Result<Exported, ExportError> {
    let mut retry = RETRY_FIRST;
    loop {
        let began = Instant::now();
        match export_once(store, request) {
            Err(error) if request.follow && error.may_pass() => {
                if began.elapsed() > RETRY_LONGEST {
                    retry = RETRY_FIRST;
                }
                log::warn!("trying again in {retry:.1?}: {error}");
                thread::sleep(retry);
                retry = (retry * 2).min(RETRY_LONGEST);
            }
            outcome => return outcome,
        }
    }
}

fn export_once(store: &dyn GraphStore, request: &ExportRequest) -> Result<Exported, ExportError> {
    let not_found = || ExportError::GraphNotFound(request.graph.clone());
    let head = store.head(&request.graph)?.ok_or_else(not_found)?;
    if let Some(after) = request.after.filter(|after| *after > head.version) {
        return Err(ExportError::Beyond { after, version: head.version });
    }
    let stream = Stream::of(&head);
    let sink = request.to.open(&stream, Purpose::Append)?;
    let mut export = Export { store, request, stream, sink, events: 0, acknowledged: None };
    let (at, chain) = match export.place()? {
        Place::Import { abandoned } => export.import(abandoned)?,
        Place::After { version, chain } => (version, chain),
    };
    let version = export.tail(at, chain)?;
    Ok(Exported { events: export.events, version })
}

/// Where a sink's log is to be gone on with.
enum Place {
    /// At the beginning, after an import that was left unfinished there.
    Import { abandoned: Option<Position> },
    /// With the change after `version`; the chain there, if the sink has it.
    After { version: u64, chain: Option<Chain> },
}

struct Export<'x> {
    store: &'x dyn GraphStore,
    request: &'x ExportRequest,
    stream: Stream,
    sink: Box<dyn Sink>,
    events: u64,
    /// What was acknowledged last, and when.
    acknowledged: Option<(u64, Instant)>,
}

impl Export<'_> {
    /// Asks the sink: it alone knows what it has.
    fn place(&mut self) -> Result<Place, ExportError> {
        let to = || self.request.to.to_string();
        let last = self.sink.last()?;
        let Some(last) = last else {
            return Ok(match self.request.after {
                None => Place::Import { abandoned: None },
                Some(version) => Place::After { version, chain: None },
            });
        };
        let mut reader = Reader::default();
        let read = reader.read(&last).map_err(|reason| ExportError::Damaged { sink: to(), reason });
        let (stream, event) = read?;
        if **stream != self.stream {
            let named = |stream: &Stream| format!("`{}` ({})", stream.graph, stream.uuid);
            let (found, expected) = (named(stream), named(&self.stream));
            return Err(ExportError::OtherGraph { sink: to(), found, expected });
        }
        let version = event.position.version;
        if let Some(after) = self.request.after.filter(|after| *after > version) {
            return Err(ExportError::Gap { sink: to(), version, after });
        }
        match event.kind {
            Kind::ImportBegun | Kind::Imported => {
                log::warn!(
                    "{} ends within an import, at {}: it is begun anew after it",
                    to(),
                    event.position
                );
                Ok(Place::Import { abandoned: Some(event.position) })
            }
            Kind::ImportEnded | Kind::Changed => {
                log::info!("{} has version {version}: going on after it", to());
                Ok(Place::After { version, chain: Some(event.chain) })
            }
        }
    }

    /// Writes the graph as one snapshot of the database has it; its version and chain.
    fn import(&mut self, abandoned: Option<Position>) -> Result<(u64, Option<Chain>), ExportError> {
        let not_found = || ExportError::GraphNotFound(self.request.graph.clone());
        // What comes after the snapshot must still be there when the snapshot is written.
        let head = self.store.head(&self.request.graph)?.ok_or_else(not_found)?;
        self.acknowledge(head.version, true)?;
        let (head, graph) = self.store.load(&self.request.graph)?.ok_or_else(not_found)?;
        if head.state == GraphState::Deleted {
            return Err(not_found());
        }
        let committed_at_ms = self.store.committed_at(head.id, head.version)?;
        log::info!(
            "writing graph `{}` at version {} to {}",
            head.name,
            head.version,
            self.request.to
        );
        let (stream, chain) = (self.stream.clone(), head.chain);
        let importing = move || {
            let importing = Importing::new(stream, graph, chain, committed_at_ms);
            match abandoned {
                Some(last) => importing.abandoning(last),
                None => importing,
            }
        };
        self.write_import(importing)?;
        Ok((head.version, Some(head.chain)))
    }

    /// One thread makes the events, one puts them into words, and this one appends them.
    fn write_import(
        &mut self,
        importing: impl FnOnce() -> Importing + Send,
    ) -> Result<(), ExportError> {
        let bar = ProgressBar::no_length();
        let template = "{elapsed} [{bar:40}] {pos}/{len} events ({per_sec}, {eta} left)";
        bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
        let (made, to_write) = sync_channel::<Vec<Event<'static>>>(IMPORT_BATCHES_AHEAD);
        let (written, batches) = sync_channel::<Batch>(IMPORT_BATCHES_AHEAD);
        // Batches go round: what one thread takes from the system and another gives back comes home
        // late.
        let (give_back, used) = channel::<Batch>();
        let (length, stream) = (bar.clone(), self.stream.clone());
        let outcome = thread::scope(|scope| {
            scope.spawn(move || {
                let mut importing = importing();
                length.set_length(importing.len());
                loop {
                    let events = make_batch(&mut importing);
                    if events.is_empty() || made.send(events).is_err() {
                        return;
                    }
                }
            });
            scope.spawn(move || {
                let mut writer = Writer::new(&stream);
                for events in to_write {
                    let mut batch = used.try_recv().unwrap_or_default();
                    batch.clear();
                    events.iter().for_each(|event| batch.push(&mut writer, event));
                    if written.send(batch).is_err() {
                        return;
                    }
                }
            });
            // Each is looked at one behind: the last one is the end, and whatever comes before it
            // must be durable when it is there.
            let mut batches = batches.into_iter().peekable();
            while let Some(batch) = batches.next() {
                if batches.peek().is_none() {
                    self.sink.sync()?;
                    failpoint::pass("export-before-end");
                }
                self.sink.append(&batch)?;
                self.events += batch.ends.len() as u64;
                bar.inc(batch.ends.len() as u64);
                failpoint::pass("export-import-appended");
                // Nobody takes it any more once all is written.
                drop(give_back.send(batch));
            }
            self.sink.sync()
        });
        bar.finish_and_clear();
        Ok(outcome?)
    }

    /// Writes the changes after `at`, all that there are, or for ever.
    fn tail(&mut self, mut at: u64, mut chain: Option<Chain>) -> Result<u64, ExportError> {
        let graph = &self.request.graph;
        let mut batch = Batch::default();
        loop {
            let feed = self.store.feed(graph, at, PAGE_CHANGES)?;
            let Feed { head, changes } =
                feed.ok_or_else(|| ExportError::GraphNotFound(graph.clone()))?;
            self.check_place(&head, at, chain)?;
            if changes.is_empty() {
                if !self.request.follow {
                    self.acknowledge(at, true)?;
                    return Ok(at);
                }
                self.acknowledge(at, false)?;
                thread::sleep(LOOK_EVERY);
                continue;
            }
            batch.clear();
            let mut writer = Writer::new(&self.stream);
            for change in &changes {
                if let Some(before) = chain
                    && before.next(&change.change) != change.chain
                {
                    return Err(ExportError::OtherHistory {
                        sink: self.request.to.to_string(),
                        version: change.version - 1,
                    });
                }
                chain = Some(change.chain);
                batch.push(&mut writer, &Event::changed(change));
            }
            failpoint::pass("export-before-append");
            self.sink.append(&batch)?;
            self.sink.sync()?;
            failpoint::pass("export-appended");
            self.events += changes.len() as u64;
            at = changes.last().map_or(at, |last| last.version);
            self.acknowledge(at, false)?;
        }
    }

    /// Whether the log that the sink has up to `at` can be the beginning of the database's.
    fn check_place(&self, head: &Head, at: u64, chain: Option<Chain>) -> Result<(), ExportError> {
        let sink = || self.request.to.to_string();
        if head.uuid != self.stream.uuid
            || (head.version == at && chain.is_some_and(|chain| chain != head.chain))
        {
            return Err(ExportError::OtherHistory { sink: sink(), version: at });
        }
        if head.version < at {
            return Err(ExportError::Ahead {
                sink: sink(),
                sink_version: at,
                version: head.version,
            });
        }
        if at + 1 < head.oldest {
            return Err(ExportError::Pruned { after: at, oldest: head.oldest });
        }
        Ok(())
    }

    /// Tells the database how far the sink is, now or when it is time again.
    fn acknowledge(&mut self, version: u64, now: bool) -> Result<(), ExportError> {
        let Some(consumer) = &self.request.consumer else { return Ok(()) };
        let due = match self.acknowledged {
            None => true,
            Some((last, _)) if last == version => false,
            Some((_, when)) => now || when.elapsed() >= ACKNOWLEDGE_EVERY,
        };
        if !due {
            return Ok(());
        }
        let noted = self.store.acknowledge(&self.request.graph, consumer, version);
        match noted
            .map_err(|reason| ExportError::Unregistered { consumer: consumer.clone(), reason })?
        {
            Acknowledgement::Noted { .. } | Acknowledgement::GraphNotFound => {}
            Acknowledgement::Ahead { version: actual } => {
                let sink = self.request.to.to_string();
                return Err(ExportError::Ahead { sink, sink_version: version, version: actual });
            }
            Acknowledgement::Pruned { oldest } => {
                return Err(ExportError::Pruned { after: version, oldest });
            }
        }
        self.acknowledged = Some((version, Instant::now()));
        Ok(())
    }
}

/// The next events of an import that are appended together, none if there are no more. The end
/// comes alone.
fn make_batch(importing: &mut Importing) -> Vec<Event<'static>> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    while bytes < IMPORT_BATCH_BYTES {
        if importing.is_about_to_end() && !events.is_empty() {
            break;
        }
        let Some(event) = importing.next_event() else { break };
        bytes += ENVELOPE_BYTES + event.data.len();
        events.push(event);
    }
    events
}
