//! One export: finds where its sink is, writes what the sink lacks, and follows if it is asked to.

use std::sync::mpsc::{channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::backoff::Backoff;
use super::consumer_name::{NAME_BEGINS, is_former_name};
use super::error::{ExportError, RESENDS_MAX};
use super::gaps;
use super::last_event::{self, Judgement};
use super::sink::{Batch, Purpose, Sink, SinkError};
use super::sink_url::SinkUrl;
use crate::archive::PastError;
use crate::chain::{Chain, LoggedChange};
use crate::event::{Event, EventIndex, Importing, Kind, Reader, Stream, Writer};
use crate::failpoint;
use crate::graph::Name;
use crate::store::{
    Acknowledgement, Consumer, ConsumerSink, ExportReport, Feed, GraphState, Head, Lifetime, Store,
    StoreError,
};
use crate::terminal::shell_word;

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
    /// How the export is registered as a consumer, so that pruning does not overtake it.
    pub registration: Registration,
}

/// How an export is registered among the consumers of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Not at all: pruning does not wait for it.
    None,
    /// Named after what is written to, as its engine knows it.
    AfterSink,
    /// Under this name.
    As(Name),
}

/// What an export did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Events that were appended.
    pub events: u64,
    /// The version that the sink has now.
    pub version: u64,
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
/// How often a follower asks the sink whether it still has what was written there and whether its
/// settings keep that, and reports to the database.
const ASK_SINK_EVERY: Duration = Duration::from_secs(5);
/// For how long pruning waits for an export that has ended: longer than a month, so that a monthly
/// export finds what it needs.
const ENDED_LIFETIME_MS: i64 = 35 * 24 * 3600 * 1000;

/// Writes the graph's log to the sink, from where the sink is: the whole graph first, if it is
/// empty. Memory: the graph while it is written first, and some megabytes. Following, it returns
/// only to tell an error that does not pass.
///
/// # Errors
/// [`ExportError`] says what to do.
pub fn export(store: &Store, request: &ExportRequest) -> Result<Exported, ExportError> {
    let mut backoff = Backoff::new(request.follow);
    let mut export = loop {
        match Export::begin(store, request) {
            Ok(export) => break export,
            Err(error) => backoff.wait(error)?,
        }
    };
    export.backoff = backoff;
    loop {
        match export.run() {
            Ok(exported) => return Ok(exported),
            Err(error) => {
                if let Err(error) = export.backoff.wait(error) {
                    export.leave(&error);
                    return Err(error);
                }
            }
        }
    }
}

/// Where to resume in a sink.
enum ResumePoint {
    /// At the beginning, after an import that was left unfinished there.
    Import { abandoned: Option<EventIndex> },
    /// With the change after `version`; the chain there, if the sink has it.
    After { version: u64, chain: Option<Chain> },
}

struct Export<'x> {
    store: &'x Store,
    request: &'x ExportRequest,
    stream: Stream,
    sink: Box<dyn Sink>,
    events: u64,
    /// Where the sink's last event stands, as far as this export knows; `None` if it has none.
    last: Option<EventIndex>,
    /// The hash of the sink's last event, if this export wrote it or compared it with the database.
    known: Option<EventHash>,
    /// When the sink was asked last what it has.
    asked: Instant,
    /// Warnings about the sink when it was asked last.
    warnings: Vec<String>,
    /// Where the sink's first event stood when it was asked last.
    first: Option<EventIndex>,
    /// From where on events were written again, and how often in a row.
    resent: Option<(Option<EventIndex>, u32)>,
    consumer: Option<Registered>,
    backoff: Backoff,
}

/// SHA-256 of an event's text.
type EventHash = [u8; 32];

fn hash_of(event: &str) -> EventHash {
    Sha256::digest(event).into()
}

/// An export among the consumers.
struct Registered {
    name: Name,
    sink: ConsumerSink,
    /// Whether the name was given, so that it is the user's to take it off the list.
    named: bool,
    /// What the database has of it: the version, and when it was told.
    acknowledged: Option<(u64, Instant)>,
    /// Whether this process has registered it and the sink has nothing whole yet.
    provisional: bool,
}

/// Why an export stopped between two answers of its sink.
enum Halt {
    /// Something failed.
    Failed(ExportError),
    /// The sink does not end with what this export wrote last.
    Moved(Option<SinkError>),
}

impl From<ExportError> for Halt {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Sink(
                error @ (SinkError::Superseded { .. } | SinkError::NotThere { .. }),
            ) => Self::Moved(Some(error)),
            error => Self::Failed(error),
        }
    }
}

impl From<SinkError> for Halt {
    fn from(error: SinkError) -> Self {
        ExportError::from(error).into()
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        ExportError::from(error).into()
    }
}

impl<'x> Export<'x> {
    fn begin(store: &'x Store, request: &'x ExportRequest) -> Result<Self, ExportError> {
        let not_found = || ExportError::GraphNotFound(request.graph.clone());
        let head = store.head(&request.graph)?.ok_or_else(not_found)?;
        store.check_may_move(&request.graph, head.storage)?;
        if let Some(after) = request.after.filter(|after| *after > head.version) {
            return Err(ExportError::Beyond { after, version: head.version });
        }
        let stream = Stream::new(head.name.clone(), head.uuid);
        check_not_pruned(request, &head, &stream)?;
        let sink = request.to.open(&stream, Purpose::Append)?;
        let mut export = Self {
            store,
            request,
            stream,
            sink,
            events: 0,
            last: None,
            known: None,
            asked: Instant::now(),
            warnings: Vec::new(),
            first: None,
            resent: None,
            consumer: None,
            backoff: Backoff::new(request.follow),
        };
        export.consumer = export.find_consumer()?;
        Ok(export)
    }

    /// Under which name the export is a consumer. One that is registered as builds before this one
    /// named it is renamed.
    fn find_consumer(&mut self) -> Result<Option<Registered>, ExportError> {
        let (graph, to) = (&self.request.graph, &self.request.to);
        if self.request.registration == Registration::None {
            return Ok(None);
        }
        let identity = self.sink.identity()?;
        let (name, named) = match &self.request.registration {
            Registration::As(name) => (name.clone(), true),
            _ => {
                let name = Name::new(&format!("{NAME_BEGINS}{identity}"));
                let unnamed =
                    ExportError::Unnamed { sink: to.to_string(), identity: identity.clone() };
                (name.map_err(|_| unnamed)?, false)
            }
        };
        let consumers = |store: &Store| -> Result<Vec<Consumer>, StoreError> {
            Ok(store.consumers(graph)?.map_or_else(Vec::new, |(_, consumers)| consumers))
        };
        let mut found = consumers(self.store)?;
        let formers: Vec<Name> = found
            .iter()
            .filter(|one| !named && one.sink.is_none() && one.name != name)
            .filter(|one| is_former_name(&one.name, to))
            .map(|one| one.name.clone())
            .collect();
        for former in &formers {
            let renamed = self.store.rename_consumer(graph, former, &name);
            renamed
                .map_err(|reason| ExportError::Unregistered { consumer: name.clone(), reason })?;
            log::info!("the consumer `{former}` is called `{name}` from now on");
        }
        if !formers.is_empty() {
            found = consumers(self.store)?;
        }
        let sink = ConsumerSink { url: to.for_reconnecting(), identity };
        for other in found.iter().filter(|other| other.name != name) {
            if other
                .sink
                .as_ref()
                .is_some_and(|there| there.url == sink.url && there.identity != sink.identity)
            {
                log::warn!(
                    "the consumer `{}` wrote to what was at {} before; if that is gone, let \
                     pruning no longer wait for it: fencepost consumer remove --graph {} --name {}",
                    other.name,
                    sink.url,
                    shell_word(graph.as_str()),
                    shell_word(other.name.as_str())
                );
            }
        }
        let there = found.into_iter().find(|there| there.name == name);
        let provisional = there.is_none();
        let acknowledged = there.map(|there| (there.acknowledged, Instant::now()));
        Ok(Some(Registered { name, sink, named, acknowledged, provisional }))
    }

    /// Goes on from where the sink is, until it has all that there is, or, following, for ever.
    fn run(&mut self) -> Result<Exported, ExportError> {
        let mut place = self.place()?;
        loop {
            let outcome = match place {
                ResumePoint::Import { abandoned } => self.import(abandoned),
                ResumePoint::After { version, chain } => Ok((version, chain)),
            };
            let outcome = outcome.and_then(|(at, chain)| self.tail(at, chain));
            place = match outcome {
                Ok(version) => return Ok(Exported { events: self.events, version }),
                Err(Halt::Failed(error)) => return Err(error),
                Err(Halt::Moved(reason)) => self.place_again(reason)?,
            };
        }
    }

    /// Asks the sink where it is, when an export begins or was interrupted.
    fn place(&mut self) -> Result<ResumePoint, ExportError> {
        let (last, place) = self.ask_place()?;
        match &place {
            ResumePoint::Import { abandoned: None } => {}
            ResumePoint::Import { abandoned: Some(last) } => {
                log::warn!(
                    "{} ends within an import, at {last}: it is begun anew after it",
                    self.request.to
                );
            }
            ResumePoint::After { version, chain: Some(_) } => {
                log::info!("{} has version {version}: going on after it", self.request.to);
            }
            ResumePoint::After { chain: None, .. } => {}
        }
        self.say_if_put_back(last);
        self.last = last;
        self.settle(&place)?;
        Ok(place)
    }

    /// Asks the sink where it is, when it is not as this export left it: whether somebody else has
    /// written to it, or it was put back to what it was before.
    fn place_again(&mut self, reason: Option<SinkError>) -> Result<ResumePoint, ExportError> {
        let (found, place) = self.ask_place()?;
        if found > self.last {
            let what = format!(
                "its last event is {}, after {} as this export left it. See to it that one \
                 exporter writes there; started again, it goes on from what is there",
                place_in_words(found),
                place_in_words(self.last)
            );
            let superseded = || SinkError::Superseded { sink: self.request.to.to_string(), what };
            return Err(reason.unwrap_or_else(superseded).into());
        }
        let times = match self.resent {
            Some((from, times)) if from == found => times + 1,
            _ => 1,
        };
        if times > 1
            && found == self.last
            && let Some(reason) = reason
        {
            return Err(reason.into());
        }
        if times > RESENDS_MAX {
            let sink = self.request.to.to_string();
            return Err(ExportError::DoesNotStay { sink, found: place_in_words(found) });
        }
        self.resent = Some((found, times));
        self.say_if_put_back(found);
        self.last = found;
        self.settle(&place)?;
        Ok(place)
    }

    fn say_if_put_back(&self, found: Option<EventIndex>) {
        if found < self.last {
            log::warn!(
                "{} was put back to an older state: its last event is {}, and this export had \
                 written {}. What is missing is written again",
                self.request.to,
                place_in_words(found),
                place_in_words(self.last)
            );
        }
    }

    /// Takes back what was acknowledged and is not there, and looks at the sink's settings.
    fn settle(&mut self, place: &ResumePoint) -> Result<(), ExportError> {
        let version = match place {
            // It has nothing whole.
            ResumePoint::Import { .. } => 0,
            ResumePoint::After { version, .. } => *version,
        };
        // What an exporter that was killed has appended may not be durable yet.
        self.sink.sync()?;
        let acknowledged = self.consumer.as_ref().and_then(|consumer| consumer.acknowledged);
        if acknowledged.is_some_and(|(acknowledged, _)| version < acknowledged) {
            self.report(version, true)?;
        }
        self.check_sink()
    }

    /// Whether the sink's settings, as they are now, keep what is written there.
    fn check_sink(&mut self) -> Result<(), ExportError> {
        let mut warnings = self.sink.check()?;
        self.check_gaps()?;
        warnings.extend(self.check_beginning()?);
        for warning in &warnings {
            if !self.warnings.contains(warning) {
                log::warn!("{}: {warning}", self.request.to);
            }
        }
        self.warnings = warnings;
        self.asked = Instant::now();
        Ok(())
    }

    /// Whether the log lacks events where some were deleted. What was acknowledged beyond that is
    /// taken back. A beginning that was missing before this export came is only warned of.
    fn check_gaps(&mut self) -> Result<(), ExportError> {
        let began = self.first;
        let gaps = self.sink.gaps()?;
        let mut holes = gaps.iter().filter_map(gaps::hole);
        let hole = holes.find(|hole| match hole.before {
            Some(_) => true,
            None => began.is_some_and(|began| hole.after.is_none_or(|after| began < after)),
        });
        let Some(hole) = hole else { return Ok(()) };
        let acknowledged = self.consumer.as_ref().and_then(|consumer| consumer.acknowledged);
        if acknowledged.is_some_and(|(acknowledged, _)| hole.whole_at < acknowledged) {
            self.report(hole.whole_at, true)?;
        }
        let ExportRequest { graph, to, .. } = self.request;
        let (sink, anew) = (to.to_string(), to.how_to_begin_anew(graph));
        Err(ExportError::Holed { sink, hole: hole.to_string(), anew })
    }

    /// Whether the sink has the beginning of its log. Somebody may have deleted it: a partition was
    /// dropped, a file rotated. A warning if it is missing.
    fn check_beginning(&mut self) -> Result<Option<String>, ExportError> {
        let Some(text) = self.sink.first()? else {
            self.first = None;
            return Ok(None);
        };
        let mut reader = Reader::default();
        let missing = match reader.read(&text) {
            Err(reason) => format!("its first event is damaged ({reason})"),
            Ok((_, event)) => {
                let (at, before) = (event.index, self.first);
                match (event.kind, before) {
                    (Kind::Imported | Kind::ImportEnded, _) => {
                        format!("its beginning is missing: it begins within an import, at {at}")
                    }
                    (Kind::Changed, Some(before)) if before < at => {
                        format!("its beginning is missing: it began at {before}, and now at {at}")
                    }
                    (Kind::Changed, None) if at.version > 1 && self.request.after.is_none() => {
                        format!(
                            "it begins at {at}, and not with the whole graph: unless it was begun \
                             with --after {}, its beginning is missing",
                            at.version - 1
                        )
                    }
                    (Kind::ImportBegun | Kind::Changed, _) => {
                        self.first = Some(at);
                        return Ok(None);
                    }
                }
            }
        };
        let ExportRequest { graph, to, .. } = self.request;
        Ok(Some(format!(
            "{missing}. What is left cannot be verified or restored from by itself. To begin anew \
             with the whole graph: {}; or export to another place",
            to.how_to_begin_anew(graph)
        )))
    }

    /// Whether the sink still ends with the event that was written last, and still keeps it.
    fn ask_sink(&mut self, chain: Option<Chain>) -> Result<(), Halt> {
        let (found, place) = self.ask_place()?;
        let same = match place {
            ResumePoint::Import { .. } => false,
            ResumePoint::After { chain: found, .. } => found == chain,
        };
        if found != self.last || !same {
            return Err(Halt::Moved(None));
        }
        self.check_sink()?;
        // All is there, so that whatever was written again has stayed.
        self.resent = None;
        self.backoff.progressed();
        Ok(())
    }

    /// What the sink says of itself: it alone knows what it has.
    fn ask_place(&mut self) -> Result<(Option<EventIndex>, ResumePoint), ExportError> {
        let to = || self.request.to.to_string();
        let last = self.sink.last()?;
        let Some(last) = last else {
            self.known = None;
            let place = match self.request.after {
                None => ResumePoint::Import { abandoned: None },
                Some(version) => ResumePoint::After { version, chain: None },
            };
            return Ok((None, place));
        };
        let mut reader = Reader::default();
        let read = reader.read(&last).map_err(|reason| ExportError::Damaged { sink: to(), reason });
        let (stream, event) = read?;
        if **stream != self.stream {
            let named = |stream: &Stream| format!("`{}` ({})", stream.graph, stream.uuid);
            let (found, expected) = (named(stream), named(&self.stream));
            return Err(ExportError::OtherGraph { sink: to(), found, expected });
        }
        let version = event.index.version;
        if let Some(after) = self.request.after.filter(|after| *after > version) {
            return Err(ExportError::Gap { sink: to(), version, after });
        }
        if self.known != Some(hash_of(&last)) {
            self.compare_last(&event)?;
            self.known = Some(hash_of(&last));
        }
        let place = match event.kind {
            Kind::ImportBegun | Kind::Imported => {
                ResumePoint::Import { abandoned: Some(event.index) }
            }
            Kind::ImportEnded | Kind::Changed => {
                ResumePoint::After { version, chain: Some(event.chain) }
            }
        };
        Ok((Some(event.index), place))
    }

    /// Whether the sink's last event is the one that the database would write there.
    fn compare_last(&self, event: &Event<'_>) -> Result<(), ExportError> {
        let (sink, index) = (self.request.to.to_string(), event.index);
        match last_event::judge(self.store, &self.stream, event) {
            Ok(Judgement::Good) => Ok(()),
            Ok(Judgement::OtherHistory) => {
                Err(ExportError::OtherHistory { sink, version: index.version })
            }
            Ok(Judgement::Altered(what)) => Err(ExportError::Altered { sink, index, what }),
            Ok(Judgement::Ahead { version }) => {
                Err(ExportError::Ahead { sink, sink_version: index.version, version })
            }
            Err(PastError::Store(error)) => Err(error.into()),
            Err(reason) => Err(ExportError::NotCompared { sink, reason }),
        }
    }

    /// Notes where the sink's log begins, if it had no event before `appended`.
    fn note_first(&mut self, appended: &Batch) {
        if self.last.is_none() {
            self.first = appended.ends.first().map(|(index, _)| *index);
        }
    }

    /// Appends events after the last. Following, it goes on after what cuts it short, from where
    /// the sink then is, so that nothing is written twice.
    fn append(&mut self, batch: &Batch) -> Result<(), Halt> {
        let mut left: Option<Batch> = None;
        // Whether a try before may still be on its way.
        let mut uncertain = false;
        loop {
            let now = left.as_ref().unwrap_or(batch);
            match self.sink.append(now) {
                Ok(()) => {
                    self.note_first(now);
                    if let Some((index, event)) = now.last_event() {
                        (self.last, self.known) = (Some(index), Some(hash_of(event)));
                    }
                    self.backoff.progressed();
                    return Ok(());
                }
                // It has arrived meanwhile.
                Err(SinkError::Superseded { .. }) if std::mem::take(&mut uncertain) => {}
                Err(error @ (SinkError::Superseded { .. } | SinkError::NotThere { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    self.backoff.wait(error)?;
                    uncertain = true;
                }
            }
            let last = loop {
                match self.sink.last() {
                    Ok(last) => break last,
                    Err(error) => self.backoff.wait(error)?,
                }
            };
            let arrived = now.events().position(|(_, event)| Some(event) == last.as_deref());
            if let Some(arrived) = arrived {
                let rest = now.after(arrived);
                self.note_first(now);
                (self.last, self.known) = (Some(now.ends[arrived].0), last.as_deref().map(hash_of));
                self.backoff.progressed();
                if rest.ends.is_empty() {
                    return Ok(());
                }
                left = Some(rest);
                continue;
            }
            if last.as_deref().map(hash_of) != self.known {
                return Err(Halt::Moved(None));
            }
        }
    }

    /// Has all that was appended be durable. Following, tries again.
    fn sync(&mut self) -> Result<(), Halt> {
        loop {
            match self.sink.sync() {
                Ok(()) => return Ok(()),
                Err(error @ (SinkError::Superseded { .. } | SinkError::NotThere { .. })) => {
                    return Err(error.into());
                }
                Err(error) => self.backoff.wait(error)?,
            }
        }
    }

    /// Writes the graph as one snapshot of the database has it; its version and chain.
    fn import(&mut self, abandoned: Option<EventIndex>) -> Result<(u64, Option<Chain>), Halt> {
        let request = self.request;
        let not_found = || ExportError::GraphNotFound(request.graph.clone());
        // What comes after the snapshot must still be there when the snapshot is written. One that
        // is registered already has acknowledged less.
        let head = self.store.head(&request.graph)?.ok_or_else(not_found)?;
        if self.consumer.as_ref().is_some_and(|consumer| consumer.acknowledged.is_none()) {
            self.report(head.version, false)?;
        }
        let (head, graph) = self.store.load(&request.graph)?.ok_or_else(not_found)?;
        if head.state == GraphState::Deleted {
            return Err(not_found().into());
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
    fn write_import(&mut self, importing: impl FnOnce() -> Importing + Send) -> Result<(), Halt> {
        let bar = ProgressBar::no_length();
        let template = "{elapsed} [{bar:40}] {pos}/{len} events ({per_sec}, {eta} left)";
        bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
        let (made, to_write) = sync_channel::<Vec<Event<'static>>>(IMPORT_BATCHES_AHEAD);
        let (written, batches) = sync_channel::<Batch>(IMPORT_BATCHES_AHEAD);
        // Batches are reused: memory allocated on one thread and freed on another returns late.
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
                    self.sync()?;
                    failpoint::pass("export-before-end");
                }
                self.append(&batch)?;
                self.events += batch.ends.len() as u64;
                bar.inc(batch.ends.len() as u64);
                failpoint::pass("export-import-appended");
                // Nobody takes it any more once all is written.
                drop(give_back.send(batch));
            }
            self.is_resumable();
            self.sync()
        });
        bar.finish_and_clear();
        outcome
    }

    /// Writes the changes after `at`, all that there are, or for ever.
    fn tail(&mut self, mut at: u64, mut chain: Option<Chain>) -> Result<u64, Halt> {
        let graph = &self.request.graph;
        let (mut batch, mut first) = (Batch::default(), true);
        loop {
            if self.asked.elapsed() >= ASK_SINK_EVERY {
                self.ask_sink(chain)?;
            }
            let feed = self.store.feed(graph, at, PAGE_CHANGES)?;
            let Feed { head, changes } =
                feed.ok_or_else(|| ExportError::GraphNotFound(graph.clone()))?;
            self.check_place(&head, at, chain)?;
            // Nothing is acknowledged of a sink before its chain was compared.
            chain = self.chain_after(chain, &changes)?;
            if first {
                // From here on there is something to resume from.
                self.is_resumable();
                self.report(at, false)?;
                first = false;
            }
            if changes.is_empty() {
                if !self.request.follow {
                    // Whatever takes events out again has had its turn.
                    if self.events > 0 {
                        self.ask_sink(chain)?;
                    }
                    self.acknowledge(at, true)?;
                    return Ok(at);
                }
                self.acknowledge(at, false)?;
                thread::sleep(LOOK_EVERY);
                continue;
            }
            batch.clear();
            let mut writer = Writer::new(&self.stream);
            changes.iter().for_each(|change| batch.push(&mut writer, &Event::changed(change)));
            failpoint::pass("export-before-append");
            self.append(&batch)?;
            self.sync()?;
            failpoint::pass("export-appended");
            self.events += changes.len() as u64;
            at = changes.last().map_or(at, |last| last.version);
            if self.asked.elapsed() >= ASK_SINK_EVERY {
                self.ask_sink(chain)?;
            }
            self.acknowledge(at, false)?;
        }
    }

    /// The chain after changes that come after the sink's last event.
    fn chain_after(
        &self,
        mut chain: Option<Chain>,
        changes: &[LoggedChange],
    ) -> Result<Option<Chain>, ExportError> {
        for change in changes {
            if chain.is_some_and(|before| before.next(&change.change) != change.chain) {
                let (sink, version) = (self.request.to.to_string(), change.version - 1);
                return Err(ExportError::OtherHistory { sink, version });
            }
            chain = Some(change.chain);
        }
        Ok(chain)
    }

    /// Notes that the sink has something whole: an export that fails from here on can be resumed.
    fn is_resumable(&mut self) {
        if let Some(consumer) = &mut self.consumer {
            consumer.provisional = false;
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
            return Err(pruned(self.request, at, head.oldest));
        }
        Ok(())
    }

    /// Tells the database how far the sink is, now or when it is time again.
    fn acknowledge(&mut self, version: u64, now: bool) -> Result<(), ExportError> {
        let Some(consumer) = &self.consumer else { return Ok(()) };
        let due = match consumer.acknowledged {
            None => true,
            Some((last, when)) if last == version => now || when.elapsed() >= ASK_SINK_EVERY,
            Some((_, when)) => now || when.elapsed() >= ACKNOWLEDGE_EVERY,
        };
        if due { self.report(version, false) } else { Ok(()) }
    }

    /// Tells the database how far the sink is; whether what was acknowledged beyond is taken back.
    fn report(&mut self, version: u64, take_back: bool) -> Result<(), ExportError> {
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        // Until the sink has something to resume from, the registration expires, so that a killed
        // process does not block pruning for ever. The same for an export that does not follow.
        let lasting = consumer.named || (self.request.follow && !consumer.provisional);
        let lifetime =
            if lasting { Lifetime::Unlimited } else { Lifetime::LimitedIfNew(ENDED_LIFETIME_MS) };
        let (name, sink) = (&consumer.name, &consumer.sink);
        let report = ExportReport { consumer: name, sink, version, lifetime, take_back };
        let noted = self.store.report_export(&self.request.graph, &report);
        let noted =
            noted.map_err(|reason| ExportError::Unregistered { consumer: name.clone(), reason })?;
        match noted {
            Acknowledgement::Noted { acknowledged, registered, .. } => {
                if registered {
                    log::info!("registered as the consumer `{name}`");
                }
                if let Some((before, _)) = consumer.acknowledged.filter(|_| take_back)
                    && acknowledged < before
                {
                    log::warn!(
                        "the acknowledgement of version {before} by the consumer `{name}` is taken \
                         back to {acknowledged}: {} does not have it",
                        self.request.to
                    );
                }
                consumer.acknowledged = Some((acknowledged, Instant::now()));
                Ok(())
            }
            // It was deleted, and nobody prunes what there was for this export's sake.
            Acknowledgement::GraphNotFound => {
                consumer.acknowledged = Some((version, Instant::now()));
                Ok(())
            }
            Acknowledgement::Ahead { version: actual } => {
                let sink = self.request.to.to_string();
                Err(ExportError::Ahead { sink, sink_version: version, version: actual })
            }
            Acknowledgement::Pruned { oldest } => Err(pruned(self.request, version, oldest)),
        }
    }

    /// Sees to it, as far as that can be done, that pruning does not wait for ever for an export
    /// that has failed.
    fn leave(&self, error: &ExportError) {
        let Some(consumer) = &self.consumer else { return };
        let (graph, name, sink) = (&self.request.graph, &consumer.name, &consumer.sink);
        let left = match consumer.acknowledged {
            Some(_) if consumer.provisional => self.store.forget_consumer(graph, name).map(drop),
            Some((version, _)) if !consumer.named && (self.request.follow || !error.may_pass()) => {
                let lifetime = Lifetime::Limited(ENDED_LIFETIME_MS);
                let report =
                    ExportReport { consumer: name, sink, version, lifetime, take_back: false };
                self.store.report_export(graph, &report).map(drop)
            }
            _ => Ok(()),
        };
        if let Err(reason) = left {
            log::warn!("the consumer `{name}` stays as it is: {reason}");
        }
    }
}

fn pruned(request: &ExportRequest, after: u64, oldest: u64) -> ExportError {
    let ExportRequest { graph, to, .. } = request;
    let (sink, anew) = (to.to_string(), to.how_to_begin_anew(graph));
    ExportError::Pruned { sink, after, oldest, anew }
}

/// Refuses to begin with changes that were pruned before a sink is made for them.
fn check_not_pruned(
    request: &ExportRequest,
    head: &Head,
    stream: &Stream,
) -> Result<(), ExportError> {
    let Some(after) = request.after.filter(|after| after + 1 < head.oldest) else { return Ok(()) };
    if request.to == SinkUrl::StandardOutput {
        return Ok(());
    }
    match request.to.open(stream, Purpose::Ask) {
        Err(SinkError::NotThere { .. }) => Err(pruned(request, after, head.oldest)),
        // It is opened again to append, which tells what is wrong.
        _ => Ok(()),
    }
}

/// Where an event stands, or that there is none.
fn place_in_words(index: Option<EventIndex>) -> String {
    index.map_or_else(|| "none".to_owned(), |index| index.to_string())
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
