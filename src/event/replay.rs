//! A log replayed through the pure core: is it whole, unaltered, and every prefix of it a legal graph?

use super::{Contents, DamagedEvent, Event, Kind, Position, Reader, Stream};
use crate::graph::{Change, Graph, Illegal, replay, replay_imported};
use crate::store::Chain;

/// Versions are kept in 63 bits; no graph has come as far as an import beyond this would claim.
const LAST_IMPORTED: u64 = 1 << 62;

/// What is wrong with a log, at one event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// See there.
    #[error(transparent)]
    Damaged(#[from] DamagedEvent),
    /// It is of another graph than the events before it, or than was asked for.
    #[error("it is of graph `{found}`, not of `{expected}`: logs of several graphs are mixed")]
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
        found: Position,
        /// How many events would stand between the two.
        missing: u64,
    },
    /// It does not come after the event before it: it was doubled, or events were swapped.
    #[error("{found} follows {last}: events come twice or in another order")]
    Order {
        /// The event before.
        last: String,
        /// This event.
        found: Position,
    },
    /// The log does not begin with a graph.
    #[error("the log begins at {found}: what the graph was before is not in it")]
    NoBeginning {
        /// The first event.
        found: Position,
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
    Illegal(#[from] Illegal),
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
}

enum Phase {
    Nothing,
    Importing { contents: Contents, events: u64, running: Chain },
    Following,
}

/// Replays a log, event by event. O(size of the log), keeps the graph.
pub struct Replay {
    reader: Reader,
    stream: Option<Stream>,
    phase: Phase,
    graph: Graph,
    chain: Chain,
    last: Option<Position>,
    first_version: u64,
    events: u64,
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
            reader: Reader::default(),
            stream,
            phase: Phase::Nothing,
            graph: Graph::default(),
            chain: Chain::START,
            last: None,
            first_version: 0,
            events: 0,
        }
    }

    /// How many events were replayed.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Where the log has come to; `None` before its first event.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.last
    }

    /// Whether the graph is whole: not within an import.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.phase, Phase::Following)
    }

    /// The graph as it is now.
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
        let (stream, event) = self.reader.read(text)?;
        match &self.stream {
            Some(expected) if expected != stream => {
                let named = |stream: &Stream| match expected.graph == stream.graph {
                    true => format!("{} ({})", stream.graph, stream.uuid),
                    false => stream.graph.to_string(),
                };
                return Err(ReplayError::OtherGraph { found: named(stream), expected: named(expected) });
            }
            Some(_) => {}
            None => self.stream = Some(stream.clone()),
        }
        self.follow(&event)?;
        self.last = Some(event.position);
        self.events += 1;
        Ok(event)
    }

    fn last(&self) -> String {
        self.last.map_or_else(|| "nothing".to_owned(), |last| last.to_string())
    }

    fn follow(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        match event.kind {
            Kind::ImportBegun => self.begin(event),
            Kind::Imported => self.import(event),
            Kind::ImportEnded => self.end(event),
            Kind::Changed => self.change(event),
        }
    }

    fn begin(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        if matches!(self.phase, Phase::Following) {
            return Err(self.unexpected(event));
        }
        if self.last.is_some_and(|last| event.position <= last) {
            return Err(ReplayError::Order { last: self.last(), found: event.position });
        }
        let contents = contents_of(event)?;
        let abandons = self.last.map(|last| last.version);
        if contents.abandons != abandons {
            return Err(self.unexpected(event));
        }
        // What was abandoned at another version took none of this one's ordinals.
        let first = self.last.filter(|last| last.version == event.position.version).map_or(0, |last| last.ordinal + 1);
        if event.position.ordinal != first
            || contents.version != event.position.version
            || contents.version > LAST_IMPORTED
        {
            return Err(ReplayError::Data("its version or ordinal is not that of a beginning".to_owned()));
        }
        self.graph = Graph::empty_at(contents.version);
        (self.chain, self.first_version) = (event.chain, contents.version);
        self.phase = Phase::Importing { contents, events: 0, running: event.chain };
        Ok(())
    }

    /// The event must be the next one of the import.
    fn next_part(&self, event: &Event<'_>) -> Result<(), ReplayError> {
        let Some(last) = self.last else { return Err(ReplayError::NoBeginning { found: event.position }) };
        let expected = Position { ordinal: last.ordinal + 1, ..last };
        if event.position == expected {
            return Ok(());
        }
        let found = event.position;
        if found.version == last.version && found > expected {
            let missing = found.ordinal - expected.ordinal;
            return Err(ReplayError::Gap { last: last.to_string(), found, missing });
        }
        Err(ReplayError::Order { last: last.to_string(), found })
    }

    fn import(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        let Phase::Importing { contents, events, running } = &mut self.phase else {
            return Err(match self.last {
                None => ReplayError::NoBeginning { found: event.position },
                Some(_) => self.unexpected(event),
            });
        };
        let (version, next) = (contents.version, running.next(&event.data));
        *running = next;
        *events += 1;
        self.next_part(event)?;
        if next != event.chain {
            return Err(ReplayError::Chain);
        }
        let read = Change::from_event_json(&event.data).map_err(|error| ReplayError::Data(error.to_string()))?;
        let (change, at, job_version) = read;
        if at != version {
            return Err(ReplayError::Data(format!("it is of version {at}")));
        }
        if let Some(job_version) = job_version
            && !(1..=version).contains(&job_version)
        {
            return Err(ReplayError::Data(format!("it tells of a job of version {job_version}")));
        }
        self.graph = replay_imported(std::mem::take(&mut self.graph), &change, job_version, version)?;
        Ok(())
    }

    fn end(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        self.next_part(event)?;
        let Phase::Importing { contents, events, running } = &self.phase else { return Err(self.unexpected(event)) };
        let told = contents_of(event)?;
        let found = [
            ("events", *events, told.events, contents.events),
            ("jobs", self.graph.job_count() as u64, told.jobs, contents.jobs),
            ("datasets", self.graph.dataset_count() as u64, told.datasets, contents.datasets),
            ("edges", self.graph.edge_count() as u64, told.edges, contents.edges),
            ("version", contents.version, told.version, contents.version),
        ];
        for (what, found, at_end, at_beginning) in found {
            let told = if found == at_end { at_beginning } else { at_end };
            if found != told {
                return Err(ReplayError::Contents { what, found: found.to_string(), told: told.to_string() });
            }
        }
        let digest = self.graph.digest();
        for told in [&told.digest, &contents.digest] {
            if *told != digest {
                return Err(ReplayError::Contents { what: "digest", found: digest, told: told.clone() });
            }
        }
        if told.imported != Some(running.to_string()) || event.chain != self.chain {
            return Err(ReplayError::Chain);
        }
        self.phase = Phase::Following;
        Ok(())
    }

    fn change(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        let found = event.position;
        match self.phase {
            Phase::Nothing if found.version == 1 => self.phase = Phase::Following,
            Phase::Nothing => return Err(ReplayError::NoBeginning { found }),
            Phase::Importing { .. } => return Err(self.unexpected(event)),
            Phase::Following => {}
        }
        let next = self.graph.version() + 1;
        if found.version > next {
            let missing = found.version - next;
            return Err(ReplayError::Gap { last: self.last(), found, missing });
        }
        if found.version < next || found.ordinal != 0 {
            return Err(ReplayError::Order { last: self.last(), found });
        }
        let chain = self.chain.next(&event.data);
        if chain != event.chain {
            return Err(ReplayError::Chain);
        }
        let read = Change::from_canonical_json(&event.data).map_err(|error| ReplayError::Data(error.to_string()))?;
        let (change, version) = read;
        if version != found.version {
            return Err(ReplayError::Data(format!("it is of version {version}")));
        }
        self.graph = replay(std::mem::take(&mut self.graph), &change)?;
        self.chain = chain;
        Ok(())
    }

    fn unexpected(&self, event: &Event<'_>) -> ReplayError {
        ReplayError::Unexpected { kind: event.kind.word(), last: self.last() }
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
                stream,
                graph: self.graph,
                chain: self.chain,
                first_version: self.first_version,
                events: self.events,
            }),
            _ => Err(ReplayError::Empty),
        }
    }
}

fn contents_of(event: &Event<'_>) -> Result<Contents, ReplayError> {
    let contents: Contents = serde_json::from_str(&event.data).map_err(|error| ReplayError::Data(error.to_string()))?;
    let canonical = serde_json::to_string(&contents).expect("texts and numbers are JSON");
    if canonical != event.data { Err(ReplayError::Data("it is not canonical".to_owned())) } else { Ok(contents) }
}
