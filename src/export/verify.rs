//! Whether a log is the graph's: replayed from its beginning, every prefix judged, and in the end
//! held against the database.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::sink::{Purpose, Sink, SinkError, SinkUrl};
use crate::event::{Parsed, Parser, Position, Replay, ReplayError, Stream};
use crate::graph::Name;
use crate::keep::{HistoryError, graph_at};
use crate::store::rows::RowStore;
use crate::store::{Chain, GraphStore, StoreError};

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
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.versions;
        write!(
            f,
            "valid: {} events of graph `{}`, versions {first} to {last}, digest {} as in the database",
            self.events, self.graph, self.digest
        )
    }
}

/// What is wrong with a log, or kept from telling. One line.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log breaks.
    #[error("event {event}{}: {reason}", .position.map(|position| format!(" ({position})")).unwrap_or_default())]
    Log {
        /// Which event, from 1.
        event: u64,
        /// The last position before it, if there is one, said as `after version 12`.
        position: Option<After>,
        /// What is wrong.
        reason: ReplayError,
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
    /// The log is right in itself, and not this graph's.
    #[error("at version {version} the {what} of the log is {log}, of the database {database}")]
    Differs {
        /// Where both were looked at.
        version: u64,
        /// Chain or digest.
        what: &'static str,
        /// The log's.
        log: String,
        /// The database's.
        database: String,
    },
    /// See there.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database does not have the graph at that version any more, or its own log is damaged.
    #[error("{0}")]
    History(HistoryError),
    /// There is no such graph to compare with.
    #[error("there is no graph `{0}` in the database to compare the log with")]
    GraphNotFound(Name),
}

/// Said as `after version 12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After(Position);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {}", self.0)
    }
}

/// Replays the log of `graph` that `from` holds, up to version `at` or its end, and compares it
/// with the database at that version. O(size of the log); memory: the graph, once.
///
/// # Errors
/// [`VerifyError`] says what is wrong and where.
pub fn verify(
    store: &RowStore,
    graph: &Name,
    from: &SinkUrl,
    at: Option<u64>,
) -> Result<Verified, VerifyError> {
    let head = store.head(graph)?.ok_or_else(|| VerifyError::GraphNotFound(graph.clone()))?;
    let (replay, wrong) = replay_from(from, Stream::of(&head), at)?;
    let (events, position) = (replay.events(), replay.position());
    let log =
        |reason| VerifyError::Log { event: events + 1, position: position.map(After), reason };
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
    // Two graphs need not be in memory together.
    drop(replayed.graph);
    let differs =
        |what, log: String, database: String| VerifyError::Differs { version, what, log, database };
    let (found_chain, found_digest) = in_database(store, graph, version)?;
    if found_chain != chain {
        return Err(differs("chain", chain.to_string(), found_chain.to_string()));
    }
    if found_digest != digest {
        return Err(differs("digest", digest, found_digest));
    }
    Ok(Verified { graph: graph.clone(), events, versions: (first, version), chain, digest })
}

/// Bytes of events that are handed on together.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for the next thread.
const CHUNKS_AHEAD: usize = 4;

/// Replays what the sink has of that stream, up to the version `at`: one thread fetches, one reads,
/// one applies. With what is wrong with the event after the last that was replayed, if anything is.
///
/// # Errors
/// [`SinkError`] if it cannot be read.
pub fn replay_from(
    from: &SinkUrl,
    stream: Stream,
    at: Option<u64>,
) -> Result<(Replay, Option<ReplayError>), SinkError> {
    let mut sink = from.open(&stream, Purpose::Read)?;
    let mut replay = Replay::of(Some(stream));
    let (lines, fetched) = sync_channel::<String>(CHUNKS_AHEAD);
    let (parsed, read) = sync_channel::<Vec<Result<Parsed, ReplayError>>>(CHUNKS_AHEAD);
    thread::scope(|scope| {
        let fetching = scope.spawn(move || fetch(&mut *sink, &lines));
        scope.spawn(move || {
            let mut parser = Parser::default();
            for chunk in fetched {
                let events = chunk
                    .split_terminator('\n')
                    .map(|line| parser.parse(line).map(|(parsed, _)| parsed));
                if parsed.send(events.collect()).is_err() {
                    return;
                }
            }
        });
        let wrong = follow(&mut replay, read, at);
        fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((replay, wrong))
    })
}

/// Hands on what the sink has, until nobody wants more.
fn fetch(sink: &mut dyn Sink, lines: &SyncSender<String>) -> Result<(), SinkError> {
    let mut chunk = String::new();
    sink.read(&mut |text| {
        chunk.push_str(text);
        chunk.push('\n');
        if chunk.len() >= CHUNK_BYTES && lines.send(std::mem::take(&mut chunk)).is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    // Nobody may want it.
    drop(lines.send(chunk));
    Ok(())
}

fn follow(
    replay: &mut Replay,
    read: Receiver<Vec<Result<Parsed, ReplayError>>>,
    at: Option<u64>,
) -> Option<ReplayError> {
    for event in read.into_iter().flatten() {
        if let Err(wrong) = event.and_then(|event| replay.follow(event)) {
            return Some(wrong);
        }
        let version = replay.position().map(|position| position.version);
        if at.is_some() && replay.is_whole() && version >= at {
            return None;
        }
    }
    None
}

/// Chain and digest of the graph at that version, as the database has it.
fn in_database(
    store: &RowStore,
    graph: &Name,
    version: u64,
) -> Result<(Chain, String), VerifyError> {
    let past = graph_at(store, graph, version).map_err(|error| match error {
        HistoryError::Ahead { version: actual, .. } => VerifyError::Ahead { version, actual },
        HistoryError::GraphNotFound(graph) => VerifyError::GraphNotFound(graph),
        HistoryError::Store(error) => VerifyError::Store(error),
        other => VerifyError::History(other),
    })?;
    Ok((past.chain, past.graph.digest()))
}
