//! A graph at an earlier version: from the current snapshot, or the empty graph, and the
//! changes after it.

use crate::chain::{Chain, LoggedChange};
use crate::event::{Importing, Replay, ReplayError, Stream};
use crate::graph::{Change, Graph, Name, replay};
use crate::store::{Head, History, StorageKind, Store, StoreError};

/// Changes that are read at once.
const PAGE_CHANGES: usize = 1_000;
/// How often it is begun anew when somebody writes or prunes meanwhile.
const TRIES: usize = 8;

/// A graph as it was.
#[derive(Clone)]
pub struct Past {
    /// The graph's row; its version may be a later one.
    pub head: Head,
    /// The graph.
    pub graph: Graph,
    /// The chain at that version.
    pub chain: Chain,
    /// When the version was committed, in milliseconds since 1970; `None` of version 0.
    pub committed_at_ms: Option<i64>,
}

impl Past {
    /// The same as events: a snapshot.
    #[must_use]
    pub fn importing(self) -> Importing {
        Importing::new(
            Stream::new(self.head.name.clone(), self.head.uuid),
            self.graph,
            self.chain,
            self.committed_at_ms,
        )
    }
}

/// Why a graph cannot be had as it was.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// There is no such graph, and never was.
    #[error("there is no graph `{0}`")]
    GraphNotFound(Name),
    /// It has not come to that version.
    #[error("graph `{graph}` is at version {version}: it has not come to version {asked}")]
    Ahead {
        /// The graph.
        graph: Name,
        /// The version that it has.
        version: u64,
        /// What was asked for.
        asked: u64,
    },
    /// That is no longer known.
    #[error(
        "graph `{graph}` was pruned: the oldest version that can be had is {oldest}, not {asked}"
    )]
    Pruned {
        /// The graph.
        graph: Name,
        /// The version of the current snapshot.
        oldest: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The graph does not have both rows and a log.
    #[error(
        "graph `{graph}` is kept as {storage}: only one that is kept as rows, beside its log, can \
         be compared with it"
    )]
    NotRows {
        /// The graph.
        graph: Name,
        /// How it is stored.
        storage: StorageKind,
    },
    /// The log or the snapshot is not what was written. Restore the database from a backup.
    #[error("the past of graph `{graph}` is damaged: {what}")]
    Damaged {
        /// The graph.
        graph: Name,
        /// What is wrong.
        what: String,
    },
    /// The graph was written or pruned each time that it was read. Try again.
    #[error("graph `{0}` was written or pruned each time that it was read; try again")]
    Contended(Name),
    /// Passed on unchanged.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The graph as it was at `version`, its chain held against the log's. O(size of the graph) for the
/// version that it has; for an earlier one, O(size of the current snapshot and of all changes
/// between).
///
/// # Errors
/// [`PastError`] says why there is none.
pub fn graph_at(store: &Store, name: &Name, version: u64) -> Result<Past, PastError> {
    for _ in 0..TRIES {
        let head = store.head(name)?.ok_or_else(|| PastError::GraphNotFound(name.clone()))?;
        if version > head.version {
            return Err(PastError::Ahead {
                graph: name.clone(),
                version: head.version,
                asked: version,
            });
        }
        let found = if version == head.version {
            present(store, &head)?
        } else {
            past(store, head, version)?
        };
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(PastError::Contended(name.clone()))
}

/// The graph of `head` at `version` from the current snapshot and the log alone, whatever its rows
/// say. O(size of the snapshot and of all changes after it).
///
/// # Errors
/// [`PastError`] says why there is none.
pub(super) fn replayed_at(store: &Store, head: Head, version: u64) -> Result<Past, PastError> {
    let name = head.name.clone();
    for _ in 0..TRIES {
        if let Some(found) = past(store, head.clone(), version)? {
            return Ok(found);
        }
    }
    Err(PastError::Contended(name))
}

/// From the rows; `None` if they are of a later version meanwhile.
fn present(store: &Store, read: &Head) -> Result<Option<Past>, PastError> {
    let Some((head, graph)) =
        store.load(&read.name)?.filter(|(head, _)| head.version == read.version)
    else {
        return Ok(None);
    };
    let chain = head.chain;
    let last = change_of(store, &head, head.version)?;
    if last.as_ref().is_some_and(|last| last.chain != chain) {
        return Err(damaged(&head, "the chain of its last change is not that of its row"));
    }
    let committed_at_ms = store.committed_at(head.id, head.version)?;
    Ok(Some(Past { head, graph, chain, committed_at_ms }))
}

/// From the snapshot and the log; `None` if they were pruned meanwhile.
fn past(store: &Store, head: Head, version: u64) -> Result<Option<Past>, PastError> {
    let start = match store.snapshot_version(head.id)? {
        Some(current) if current <= version => snapshot(store, head, current)?,
        Some(oldest) => {
            return Err(PastError::Pruned { graph: head.name, oldest, asked: version });
        }
        None if store.history(head.storage) == History::None => {
            let oldest = head.version;
            return Err(PastError::Pruned { graph: head.name, oldest, asked: version });
        }
        None if head.oldest > 1 => {
            return Err(damaged(&head, "it was pruned, and no snapshot is kept"));
        }
        None => {
            Some(Past { head, graph: Graph::default(), chain: Chain::START, committed_at_ms: None })
        }
    };
    start.map_or(Ok(None), |start| follow(store, start, version))
}

/// The current snapshot; `None` if another one took its place meanwhile.
fn snapshot(store: &Store, head: Head, current: u64) -> Result<Option<Past>, PastError> {
    let mut replay = Replay::of(Some(Stream::new(head.name.clone(), head.uuid)));
    let taken = take_parts(store, &head, current, &mut replay)?;
    let replayed = taken.and_then(|committed_at_ms| Ok((committed_at_ms, replay.finish()?)));
    if store.snapshot_version(head.id)? != Some(current) {
        return Ok(None);
    }
    let wrong = |what: &dyn std::fmt::Display| {
        damaged(&head, &format!("the snapshot at version {current}: {what}"))
    };
    let (committed_at_ms, replayed) = replayed.map_err(|error| wrong(&error))?;
    if replayed.graph.version() != current {
        return Err(wrong(&format!("it is of version {}", replayed.graph.version())));
    }
    if change_of(store, &head, current)?.is_some_and(|change| change.chain != replayed.chain) {
        return Err(wrong(&"its chain is not the log's"));
    }
    Ok(Some(Past { head, graph: replayed.graph, chain: replayed.chain, committed_at_ms }))
}

/// Replays the parts of a snapshot; says when its version was committed.
fn take_parts(
    store: &Store,
    head: &Head,
    current: u64,
    replay: &mut Replay,
) -> Result<Result<Option<i64>, ReplayError>, PastError> {
    let (mut from, mut committed_at_ms) = (0, None);
    loop {
        let parts = store.snapshot_parts(head.id, current, from)?;
        if parts.is_empty() {
            return Ok(Ok(committed_at_ms));
        }
        from += parts.len() as u64;
        for line in parts.iter().flat_map(|part| part.split_terminator('\n')) {
            match replay.take(line) {
                Ok(event) => committed_at_ms = event.committed_at_ms,
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

/// Brings the graph to `version`; `None` if the log was pruned meanwhile.
pub(super) fn follow(store: &Store, start: Past, version: u64) -> Result<Option<Past>, PastError> {
    let Past { head, mut graph, mut chain, mut committed_at_ms } = start;
    while graph.version() < version {
        let most =
            usize::try_from(version - graph.version()).unwrap_or(PAGE_CHANGES).min(PAGE_CHANGES);
        let page = store
            .feed(&head.name, graph.version(), most)?
            .map(|feed| feed.changes)
            .unwrap_or_default();
        if page.is_empty() {
            return Ok(None);
        }
        for logged in page {
            let at = |what: String| damaged(&head, &format!("change {}: {what}", logged.version));
            chain = chain.next(&logged.change);
            if chain != logged.chain {
                return Err(at("the chain of hashes breaks".to_owned()));
            }
            let (change, told) = Change::from_canonical_json(&logged.change)
                .map_err(|error| at(error.to_string()))?;
            graph = replay(graph, &change).map_err(|error| at(error.to_string()))?;
            if told != logged.version || graph.version() != told {
                return Err(at(format!("it tells of version {told}")));
            }
            committed_at_ms = Some(logged.committed_at_ms);
        }
    }
    Ok(Some(Past { head, graph, chain, committed_at_ms }))
}

/// The change that made the version, if the log has it.
fn change_of(store: &Store, head: &Head, version: u64) -> Result<Option<LoggedChange>, PastError> {
    let Some(before) = version.checked_sub(1) else { return Ok(None) };
    let page = store.feed(&head.name, before, 1)?;
    Ok(page.and_then(|feed| feed.changes.into_iter().next()))
}

fn damaged(head: &Head, what: &str) -> PastError {
    PastError::Damaged { graph: head.name.clone(), what: what.to_owned() }
}
