//! A log replayed through the pure core: is it whole, unaltered, and every prefix of it a legal
//! graph?

use std::fmt;
use std::sync::Arc;

use super::{Contents, DamagedEvent, Event, EventIndex, Kind, Reader, Stream};
use crate::chain::Chain;
use crate::graph::{Change, Fact, Graph, IllegalChange, ImportBuilder, replay};

/// Versions are kept in 63 bits; no graph has come as far as an import beyond this would claim.
const LAST_IMPORTED: u64 = 1 << 62;

/// What is wrong with a log, at one event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Passed on unchanged.
    #[error(transparent)]
    Damaged(#[from] DamagedEvent),
    /// It is of another graph than the events before it, or than was asked for.
    #[error(
        "it is of graph `{found}`, not of `{expected}`: it is another graph's log, or logs of several graphs are mixed"
    )]
    OtherGraph {
        /// What it is of.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Events are missing before it.
    #[error("{found} follows {last}: {missing} {} missing between them", if *.missing == 1 { "event is" } else { "events are" })]
    Gap {
        /// The event before.
        last: String,
        /// This event.
        found: EventIndex,
        /// How many events would stand between the two.
        missing: u64,
    },
    /// It does not come after the event before it: it was doubled, or events were swapped.
    #[error("{found} follows {last}: events come twice or in another order")]
    Order {
        /// The event before.
        last: String,
        /// This event.
        found: EventIndex,
    },
    /// The log does not begin with a graph.
    #[error("the log begins at {found}: what the graph was before is not in it")]
    NoBeginning {
        /// The first event.
        found: EventIndex,
    },
    /// An event of that kind cannot stand there.
    #[error("`{kind}` cannot follow {last}")]
    Unexpected {
        /// The event's type.
        kind: &'static str,
        /// The event before.
        last: String,
    },
    /// Its hash is not that of its data and the hash before it.
    #[error("the chain of hashes breaks: this event or one before it was altered")]
    Chain,
    /// The data is not a change.
    #[error("its data cannot be read: {0}")]
    Data(String),
    /// It breaks a rule of the graph.
    #[error("it breaks a rule: {0}")]
    Illegal(#[from] IllegalChange),
    /// The graph that was imported is not the one that was announced.
    #[error("the import has {what} {found}, not {told} as it says")]
    Contents {
        /// What differs.
        what: &'static str,
        /// What was replayed.
        found: String,
        /// What was told.
        told: String,
    },
    /// The log ends within an import.
    #[error(
        "the log ends within an import, after {events} of {of} parts: export again, to the same place, to begin it anew"
    )]
    Unfinished {
        /// Parts that are there.
        events: u64,
        /// Parts that were announced.
        of: u64,
    },
    /// There is nothing.
    #[error("the log is empty")]
    Empty,
}

/// A log that was replayed to its end.
#[derive(Clone)]
pub struct Replayed {
    /// Whose log it is.
    pub stream: Stream,
    /// The graph at the log's end.
    pub graph: Graph,
    /// Its chain.
    pub chain: Chain,
    /// The first version that the log tells.
    pub first_version: u64,
    /// How many events it holds.
    pub events: u64,
    /// Whether its last change deletes the graph.
    pub deleted: bool,
}

/// An event that was read, without its text: all that [`Replay::follow`] needs.
pub struct Parsed {
    stream: Arc<Stream>,
    envelope: Envelope,
    /// Whether its hash is that of its data and the hash of the event before it.
    chain_holds: bool,
    content: Content,
}

/// What an event has beside its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What it tells.
    pub kind: Kind,
    /// Where it stands.
    pub index: EventIndex,
    /// As [`Event::chain`].
    pub chain: Chain,
    /// As [`Event::committed_at_ms`].
    pub committed_at_ms: Option<i64>,
    /// Who asked for the change.
    pub actor: Option<Box<str>>,
}

impl fmt::Debug for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at version {}", self.stream, self.graph.version())
    }
}

enum Content {
    Whole(Contents),
    Change { change: Change, version: u64, job_version: Option<u64> },
}

/// The part of a replay that looks at each event by itself, and so can run ahead of the part that
/// needs the graph.
#[derive(Default)]
pub struct Parser {
    reader: Reader,
    last: Option<Chain>,
}

impl Parser {
    /// Reads the next event, without its line feed.
    ///
    /// # Errors
    /// [`ReplayError`] if it is no event, or its data is none.
    pub fn parse<'l>(&mut self, text: &'l str) -> Result<(Parsed, Event<'l>), ReplayError> {
        let scanned = self.reader.scan(text).and_then(|(stream, event)| {
            let content = content_of(&event).ok()?;
            Some((stream, event, content))
        });
        let (stream, event, content) = match scanned {
            Some(scanned) => scanned,
            // It is of another stream, something in it is escaped, or it is damaged.
            None => {
                let (stream, event) = self.reader.read(text)?;
                let content = content_of(&event)?;
                (Arc::clone(stream), event, content)
            }
        };
        let before = self.last.unwrap_or(Chain::START);
        let chain_holds = match content {
            Content::Whole(_) => true,
            Content::Change { .. } => before.next(&event.data) == event.chain,
        };
        self.last = Some(event.chain);
        let envelope = Envelope {
            kind: event.kind,
            index: event.index,
            chain: event.chain,
            committed_at_ms: event.committed_at_ms,
            actor: event.actor.as_deref().map(Box::from),
        };
        Ok((Parsed { stream, envelope, chain_holds, content }, event))
    }
}

enum Phase {
    Nothing,
    Importing {
        contents: Contents,
        committed_at_ms: Option<i64>,
        events: u64,
        builder: Box<ImportBuilder>,
    },
    Following,
}

/// Replays a log, event by event. O(size of the log), keeps the graph.
pub struct Replay {
    parser: Parser,
    stream: Option<Arc<Stream>>,
    phase: Phase,
    graph: Graph,
    /// Of the graph.
    chain: Chain,
    last: Option<(EventIndex, Chain)>,
    first_version: u64,
    events: u64,
    deleted: bool,
}

impl Default for Replay {
    fn default() -> Self {
        Self::of(None)
    }
}

impl Replay {
    /// Of a log of that graph, or of whichever its first event is.
    #[must_use]
    pub fn of(stream: Option<Stream>) -> Self {
        Self {
            parser: Parser::default(),
            stream: stream.map(Arc::new),
            phase: Phase::Nothing,
            graph: Graph::default(),
            chain: Chain::START,
            last: None,
            first_version: 0,
            events: 0,
            deleted: false,
        }
    }

    /// How many events were replayed.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Where the log has come to; `None` before its first event.
    #[must_use]
    pub fn last_index(&self) -> Option<EventIndex> {
        self.last.map(|(index, _)| index)
    }

    /// Whether the graph is whole: not within an import.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.phase, Phase::Following)
    }

    /// The graph as it is now; within an import, not yet.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The chain at that version.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// Takes the next event, without its line feed.
    ///
    /// # Errors
    /// [`ReplayError`] says what is wrong with it; the log is of no use from there on.
    pub fn take<'l>(&mut self, text: &'l str) -> Result<Event<'l>, ReplayError> {
        let (parsed, event) = self.parser.parse(text)?;
        self.follow(parsed)?;
        Ok(event)
    }

    /// The same for an event that a [`Parser`] has read, which must have read all before it. What
    /// it has beside its data.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn follow(&mut self, parsed: Parsed) -> Result<Envelope, ReplayError> {
        match &self.stream {
            Some(expected) if Arc::ptr_eq(expected, &parsed.stream) => {}
            Some(expected) if *expected != parsed.stream => {
                let named = |stream: &Stream| match expected.graph == parsed.stream.graph {
                    true => format!("{} ({})", stream.graph, stream.uuid),
                    false => stream.graph.to_string(),
                };
                return Err(ReplayError::OtherGraph {
                    found: named(&parsed.stream),
                    expected: named(expected),
                });
            }
            // From here on one look is enough to know it again.
            _ => self.stream = Some(Arc::clone(&parsed.stream)),
        }
        let envelope = parsed.envelope;
        let Envelope { kind, index, chain, committed_at_ms: time, .. } = envelope;
        if let Phase::Importing { committed_at_ms, .. } = &self.phase
            && matches!(kind, Kind::Imported | Kind::ImportEnded)
            && *committed_at_ms != time
        {
            let what = "its time is not that of the import's beginning";
            return Err(ReplayError::Data(what.to_owned()));
        }
        match (kind, parsed.content) {
            (Kind::ImportBegun, Content::Whole(contents)) => {
                self.begin(index, chain, &contents)?;
                self.phase = Phase::Importing {
                    contents,
                    committed_at_ms: time,
                    events: 0,
                    builder: Box::default(),
                };
            }
            (Kind::ImportEnded, Content::Whole(told)) => self.end(index, chain, &told)?,
            (kind, Content::Change { change, version, job_version }) => {
                self.check_place(kind, index)?;
                if !parsed.chain_holds {
                    return Err(ReplayError::Chain);
                }
                if version != index.version {
                    return Err(ReplayError::Data(format!("it is of version {version}")));
                }
                if let Some(job_version) =
                    job_version.filter(|of_job| !(1..=version).contains(of_job))
                {
                    return Err(ReplayError::Data(format!(
                        "it tells of a job of version {job_version}"
                    )));
                }
                match (&mut self.phase, &change.facts[..], job_version) {
                    (Phase::Importing { events, builder, .. }, [fact], job_version) => {
                        builder.add(fact, job_version)?;
                        *events += 1;
                    }
                    (Phase::Importing { .. }, ..) => return Err(IllegalChange::NoPart.into()),
                    (_, _, Some(_)) => {
                        return Err(ReplayError::Data("it is a part of an import".to_owned()));
                    }
                    (_, facts, None) => {
                        self.deleted = matches!(facts, [Fact::GraphDeleted {}]);
                        self.graph = replay(std::mem::take(&mut self.graph), &change)?;
                        self.chain = chain;
                    }
                }
            }
            (kind, Content::Whole(_)) => return Err(self.unexpected(kind)),
        }
        self.last = Some((index, chain));
        self.events += 1;
        Ok(envelope)
    }

    fn last(&self) -> String {
        self.last.map_or_else(|| "nothing".to_owned(), |(last, _)| last.to_string())
    }

    fn begin(
        &mut self,
        found: EventIndex,
        chain: Chain,
        contents: &Contents,
    ) -> Result<(), ReplayError> {
        if matches!(self.phase, Phase::Following) {
            return Err(self.unexpected(Kind::ImportBegun));
        }
        let last = self.last_index();
        if last.is_some_and(|last| found <= last) {
            return Err(ReplayError::Order { last: self.last(), found });
        }
        if contents.abandons != last.map(|last| last.version) {
            return Err(self.unexpected(Kind::ImportBegun));
        }
        // What was abandoned at another version took none of this one's ordinals.
        let first =
            last.filter(|last| last.version == found.version).map_or(0, |last| last.ordinal + 1);
        if found.ordinal != first
            || contents.version != found.version
            || found.version > LAST_IMPORTED
        {
            return Err(ReplayError::Data(
                "its version or ordinal is not that of a beginning".to_owned(),
            ));
        }
        (self.chain, self.first_version) = (chain, contents.version);
        Ok(())
    }

    /// The event must be the next one.
    fn check_place(&mut self, kind: Kind, found: EventIndex) -> Result<(), ReplayError> {
        let expected = match (kind, &self.phase, self.last_index()) {
            (Kind::Changed, Phase::Nothing, _) if found.version == 1 && found.ordinal == 0 => {
                self.phase = Phase::Following;
                self.first_version = 1;
                return Ok(());
            }
            (_, Phase::Nothing, _) | (_, _, None) => {
                return Err(ReplayError::NoBeginning { found });
            }
            (Kind::Changed, Phase::Following, Some(last)) => {
                EventIndex { version: last.version + 1, ordinal: 0 }
            }
            (Kind::Imported | Kind::ImportEnded, Phase::Importing { .. }, Some(last)) => {
                EventIndex { ordinal: last.ordinal + 1, ..last }
            }
            (_, _, Some(last)) if found <= last => {
                return Err(ReplayError::Order { last: last.to_string(), found });
            }
            _ => return Err(self.unexpected(kind)),
        };
        if found == expected {
            return Ok(());
        }
        let last = self.last();
        if found < expected || (kind != Kind::Changed && found.version > expected.version) {
            return Err(ReplayError::Order { last, found });
        }
        let missing = match kind {
            Kind::Changed => found.version - expected.version,
            _ => found.ordinal - expected.ordinal,
        };
        if missing == 0 {
            Err(ReplayError::Order { last, found })
        } else {
            Err(ReplayError::Gap { last, found, missing })
        }
    }

    fn end(&mut self, found: EventIndex, chain: Chain, told: &Contents) -> Result<(), ReplayError> {
        self.check_place(Kind::ImportEnded, found)?;
        let Phase::Importing { contents, events, builder, .. } =
            std::mem::replace(&mut self.phase, Phase::Nothing)
        else {
            return Err(self.unexpected(Kind::ImportEnded));
        };
        self.graph = builder.finish(contents.version)?;
        let found = [
            ("events", events, told.events, contents.events),
            ("jobs", self.graph.job_count() as u64, told.jobs, contents.jobs),
            ("datasets", self.graph.dataset_count() as u64, told.datasets, contents.datasets),
            ("edges", self.graph.edge_count() as u64, told.edges, contents.edges),
            ("version", contents.version, told.version, contents.version),
        ];
        for (what, found, at_end, at_beginning) in found {
            let told = if found == at_end { at_beginning } else { at_end };
            if found != told {
                return Err(ReplayError::Contents {
                    what,
                    found: found.to_string(),
                    told: told.to_string(),
                });
            }
        }
        let digest = self.graph.digest();
        for told in [&told.digest, &contents.digest] {
            if *told != digest {
                return Err(ReplayError::Contents {
                    what: "digest",
                    found: digest,
                    told: told.clone(),
                });
            }
        }
        let running = self.last.map(|(_, chain)| chain.to_string());
        if told.imported != running || chain != self.chain {
            return Err(ReplayError::Chain);
        }
        self.phase = Phase::Following;
        Ok(())
    }

    fn unexpected(&self, kind: Kind) -> ReplayError {
        ReplayError::Unexpected { kind: kind.word(), last: self.last() }
    }

    /// What the whole log comes to.
    ///
    /// # Errors
    /// [`ReplayError::Empty`], or [`ReplayError::Unfinished`] if it ends within an import.
    pub fn finish(self) -> Result<Replayed, ReplayError> {
        match (self.phase, self.stream) {
            (Phase::Importing { contents, events, .. }, _) => {
                Err(ReplayError::Unfinished { events, of: contents.events })
            }
            (Phase::Following, Some(stream)) => Ok(Replayed {
                stream: Stream::clone(&stream),
                graph: self.graph,
                chain: self.chain,
                first_version: self.first_version,
                events: self.events,
                deleted: self.deleted,
            }),
            _ => Err(ReplayError::Empty),
        }
    }
}

/// What the event's data tells; nothing but the canonical text of that is accepted.
fn content_of(event: &Event<'_>) -> Result<Content, ReplayError> {
    let data = |error: &dyn fmt::Display| ReplayError::Data(error.to_string());
    match event.kind {
        Kind::Changed if event.committed_at_ms.is_none() => {
            return Err(data(&"it has no time"));
        }
        Kind::ImportBegun | Kind::Imported | Kind::ImportEnded if event.actor.is_some() => {
            return Err(data(&"it is part of an import and has an actor"));
        }
        _ => {}
    }
    match event.kind {
        Kind::ImportBegun | Kind::ImportEnded => Ok(Content::Whole(contents_of(event)?)),
        Kind::Imported | Kind::Changed => {
            let (change, version, job_version) =
                Change::from_event_json(&event.data).map_err(|error| data(&error))?;
            Ok(Content::Change { change, version, job_version })
        }
    }
}

fn contents_of(event: &Event<'_>) -> Result<Contents, ReplayError> {
    let contents: Contents =
        serde_json::from_str(&event.data).map_err(|error| ReplayError::Data(error.to_string()))?;
    let canonical = serde_json::to_string(&contents).expect("texts and numbers are JSON");
    if canonical != event.data {
        Err(ReplayError::Data("it is not canonical".to_owned()))
    } else {
        Ok(contents)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use uuid::Uuid;

    use super::*;
    use crate::graph::Name;

    fn event() -> impl Strategy<Value = Event<'static>> {
        let facts = [
            r#"{"fact":"job_deleted","name":"a"}"#,
            r#"{"fact":"dataset_declared","metadata":{"x":"\\"},"name":"b"}"#,
        ];
        let changed =
            (select(facts.to_vec()), 0..3_u64, select(vec![None, Some("ada"), Some("a\"b")]))
                .prop_map(|(fact, version, actor)| {
                    let data = format!(r#"{{"facts":[{fact}],"version":{version}}}"#);
                    let index = EventIndex { version, ordinal: 0 };
                    (Kind::Changed, index, actor, data)
                });
        let imported = (select(facts.to_vec()), 0..12_u64).prop_map(|(fact, ordinal)| {
            let data = format!(r#"{{"facts":[{fact}],"job_version":1,"version":7}}"#);
            (Kind::Imported, EventIndex { version: 7, ordinal }, None, data)
        });
        let whole = (prop::option::of(0..9_u64), any::<bool>()).prop_map(|(abandons, ended)| {
            let imported = Some("f".repeat(64)).filter(|_| ended);
            let (abandons, digest) = (abandons.filter(|_| !ended), String::new());
            let (datasets, edges, events, jobs, version) = (1, 2, 3, 4, 7);
            let contents =
                Contents { abandons, datasets, digest, edges, events, imported, jobs, version };
            let data = serde_json::to_string(&contents).unwrap();
            let kind = if ended { Kind::ImportEnded } else { Kind::ImportBegun };
            (kind, EventIndex { version, ordinal: 9 }, None, data)
        });
        let time = select(vec![None, Some(0), Some(1_750_000_000_123)]);
        let chain = select(vec![Chain::START, Chain([0x9a; 32])]);
        (prop_oneof![changed, imported, whole], time, chain).prop_map(
            |((kind, index, actor, data), committed_at_ms, chain)| {
                let (actor, data) = (actor.map(Cow::Borrowed), Cow::Owned(data));
                Event { kind, index, chain, committed_at_ms, actor, data }
            },
        )
    }

    fn stream() -> Stream {
        Stream::new(Name::new("k\"üche").unwrap(), Uuid::from_u128(7))
    }

    fn text_of(event: &Event<'_>) -> String {
        let mut text = Vec::new();
        stream().write(event, &mut text);
        String::from_utf8(text).unwrap()
    }

    /// A reader that has read an event of the stream.
    fn reader() -> Reader {
        Reader { last: Some(Arc::new(stream())), ..Reader::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_scanned_unless_something_in_the_actor_is_escaped(event in event()) {
            let text = text_of(&event);
            let mut reader = reader();
            match reader.scan(&text) {
                Some((_, scanned)) => prop_assert_eq!(scanned, event),
                None => prop_assert_eq!(event.actor.as_deref(), Some("a\"b")),
            }
        }

        /// Also by a reader that has seen no time yet.
        #[test]
        fn an_event_whose_time_is_an_empty_text_is_refused(event in event()) {
            let without = text_of(&Event { committed_at_ms: None, ..event.clone() });
            let with = text_of(&Event { committed_at_ms: Some(0), ..event });
            let (before, _) = with.split_once(",\"time\":").unwrap();
            let text = [before, ",\"time\":\"\"", &without[before.len()..]].concat();
            prop_assert!(reader().scan(&text).is_none());
            prop_assert!(reader().read(&text).is_err());
        }

        #[test]
        fn what_is_scanned_is_what_is_read(
            event in event(),
            at in any::<Index>(),
            to in any::<Index>(),
            what in select(vec![
                "", " ", "0", "1", "\"", ",", "}", "{}", ",\"time\":\"\"", "\\u0061",
            ]),
        ) {
            let text = text_of(&event);
            let places: Vec<usize> =
                (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
            let at = at.index(places.len());
            // A little is taken out, and something may be put in.
            let to = (at + to.index(4)).min(places.len() - 1);
            let text = [&text[..places[at]], what, &text[places[to]..]].concat();
            let mut scanning = reader();
            let scanned = scanning.scan(&text);
            if let Some((_, scanned)) = scanned.filter(|(_, event)| content_of(event).is_ok()) {
                let mut reading = reader();
                prop_assert_eq!(Some(scanned), reading.read(&text).ok().map(|(_, event)| event));
            }
        }
    }
}
