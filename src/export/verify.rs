//! Whether a log is the graph's: replayed from its beginning, every prefix judged, and in the end held against the database.

use std::fmt;
use std::ops::ControlFlow;

use super::sink::{Purpose, SinkError, SinkUrl};
use crate::event::{Kind, Position, Replay, ReplayError, Stream};
use crate::graph::Name;
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
    #[error("the log has version {version}, the database only {actual}: was an older backup restored?")]
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

/// Replays the log of `graph` that `from` holds, up to version `at` or its end, and compares it with the database at that version. O(size of the log);
/// memory: the graph, once.
///
/// # Errors
/// [`VerifyError`] says what is wrong and where.
pub fn verify(store: &dyn GraphStore, graph: &Name, from: &SinkUrl, at: Option<u64>) -> Result<Verified, VerifyError> {
    let head = store.head(graph)?.ok_or_else(|| VerifyError::GraphNotFound(graph.clone()))?;
    let stream = Stream::of(&head);
    let mut sink = from.open(&stream, Purpose::Read)?;
    let mut replay = Replay::of(Some(stream));
    let mut wrong = None;
    sink.read(&mut |text| {
        match replay.take(text) {
            Err(reason) => {
                wrong = Some(reason);
                return ControlFlow::Break(());
            }
            Ok(event) if event.kind != Kind::Changed && event.kind != Kind::ImportEnded => {}
            Ok(event) if at.is_some_and(|at| event.position.version >= at) => return ControlFlow::Break(()),
            Ok(_) => {}
        }
        ControlFlow::Continue(())
    })?;
    let (events, position) = (replay.events(), replay.position());
    let log = |reason| VerifyError::Log { event: events + 1, position: position.map(After), reason };
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
    let differs = |what, log: String, database: String| VerifyError::Differs { version, what, log, database };
    let (found_chain, found_digest) = in_database(store, graph, version)?;
    if found_chain != chain {
        return Err(differs("chain", chain.to_string(), found_chain.to_string()));
    }
    if found_digest != digest {
        return Err(differs("digest", digest, found_digest));
    }
    Ok(Verified { graph: graph.clone(), events, versions: (first, version), chain, digest })
}

/// Chain and digest of the graph at that version, as the database has it.
fn in_database(store: &dyn GraphStore, graph: &Name, version: u64) -> Result<(Chain, String), VerifyError> {
    let loaded = store.load(graph)?;
    let (head, loaded) = loaded.ok_or_else(|| VerifyError::GraphNotFound(graph.clone()))?;
    if head.version < version {
        return Err(VerifyError::Ahead { version, actual: head.version });
    }
    Ok((head.chain, loaded.digest()))
}
