//! Pruning: changes before a version leave the log, and a snapshot at that version is stored in
//! their place.
//!
//! In three steps, so that a kill at any point loses nothing and holds nobody up. The snapshot is
//! written, part by part, where nobody reads it yet. One short transaction, which holds the graph's
//! row, makes it the log's beginning, unless a consumer still needs what is before. Then what it
//! stands in for is deleted, some rows at a time. What a killed one leaves, the next one tidies up.
//!
//! A graph that is kept by its log is loaded from a packed snapshot from then on. So there must be
//! one of that version or a later one, and it is read back first, all of it: what comes back must
//! have the digest that the graph had.

use super::PART_BYTES;
use super::past::{PastError, replayed_at};
use crate::event::rfc3339;
use crate::failpoint;
use crate::graph::Name;
use crate::store::{
    CommitError, Consumer, Head, History, PackedSnapshot, SnapshotOutcome, SnapshotUse,
    StorageKind, Store, StoreError, behind,
};
use crate::terminal::shell_word;

/// Consumers in the way that are named beside the first, at most.
const OTHERS_TOLD_MAX: usize = 9;

/// What was pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many changes went.
    pub changes: u64,
    /// Whether the log began there, or later, before: then nothing was to be done.
    pub already: bool,
}

/// Why a log was not pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// There is no such version, or it cannot be had.
    #[error(transparent)]
    Past(#[from] PastError),
    /// The log may break the rules, or holds attempts only, which are short and needed to look up
    /// lost answers.
    #[error("graph `{graph}` is kept as {storage}: nothing of its log can be pruned")]
    NotPrunable {
        /// The graph.
        graph: Name,
        /// How it is stored.
        storage: StorageKind,
    },
    /// The graph is loaded from packed snapshots, and none that reads back is as late as that.
    #[error(
        "graph `{graph}` is loaded from snapshots, and none at version {before} or later {}: take \
         one first: fencepost snapshot take --graph {}",
        if *.damaged { "can be read back" } else { "is there" },
        shell_word(.graph.as_str())
    )]
    NoSnapshot {
        /// The graph.
        graph: Name,
        /// The version at which the log was to begin.
        before: u64,
        /// Whether there was one that cannot be read back.
        damaged: bool,
    },
    /// Somebody still has to read a change that would go.
    #[error(
        "{}: let it read on, or remove it: fencepost consumer remove --graph {} --name {}{}",
        told_of(.graph, .consumer), shell_word(.graph), shell_word(.consumer.name.as_str()),
        also_told(.others)
    )]
    NeededBy {
        /// The graph.
        graph: String,
        /// Who is furthest behind.
        consumer: Box<Consumer>,
        /// Who else is in the way, the furthest behind first.
        others: Vec<Consumer>,
    },
    /// Another process prunes the same graph. Nothing is lost.
    #[error("graph `{0}` is being pruned by another process; when that has ended, prune again")]
    ConcurrentPrune(Name),
    /// The database did not do it. What was done stays so; nothing is lost.
    #[error("{0}; prune again to go on")]
    Write(#[from] CommitError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Has the log begin at `before`: changes before it go, and a snapshot at it is stored. O(size of
/// the graph at that version, and of what goes).
///
/// # Errors
/// [`PruneError`] says what to do. Nothing that a consumer needs is gone.
pub fn prune(store: &Store, name: &Name, before: u64) -> Result<Pruned, PruneError> {
    let not_found = || PastError::GraphNotFound(name.clone());
    let (head, consumers) = store.consumers(name)?.ok_or_else(not_found)?;
    let from_snapshots = store.snapshot_use(head.storage) == SnapshotUse::Beginning;
    let prunable = from_snapshots || store.history(head.storage) == History::Beside;
    if !prunable && !failpoint::is_off("prune-looks-first") {
        return Err(PruneError::NotPrunable { graph: name.clone(), storage: head.storage });
    }
    if before > head.version {
        return Err(
            PastError::Ahead { graph: name.clone(), version: head.version, asked: before }.into()
        );
    }
    let already = before <= head.oldest && store.snapshot_version(head.id)?.is_some();
    if !already {
        // Looked at before the work, and again when it counts.
        let (waiting, expired) = behind(consumers, before);
        if !waiting.is_empty() && !failpoint::is_off("prune-looks-first") {
            return Err(needed_by(name, waiting));
        }
        for consumer in expired {
            log::warn!(
                "consumer `{}` of graph `{name}` is forgotten: it was last seen {} and was waited \
                 for until {}",
                consumer.name,
                rfc3339(consumer.seen_at_ms),
                rfc3339(consumer.expires_at_ms().unwrap_or_default())
            );
        }
        let packed =
            if from_snapshots { Some(proven_snapshot(store, &head, before)?) } else { None };
        write_snapshot(store, name, before, packed.as_ref())?;
        failpoint::pass("prune-flipped");
    }
    let changes = store.delete_pruned(name)?;
    Ok(Pruned { changes, already: already && changes == 0 })
}

/// A packed snapshot from which the graph can be loaded once the changes before `version` are gone:
/// the newest that reads back to its digest.
fn proven_snapshot(store: &Store, head: &Head, version: u64) -> Result<PackedSnapshot, PruneError> {
    let mut why = None;
    for snapshot in store.packed_snapshots(head.id)? {
        if snapshot.version < version || snapshot.version > head.version {
            continue;
        }
        match store.unpack_snapshot(head, &snapshot)? {
            Ok(_) if failpoint::is_off("prune-proof") => return Ok(snapshot),
            Ok(graph) if graph.digest() == snapshot.digest => {
                // The log can still tell, and is about to go.
                let replayed = replayed_at(store, head.clone(), snapshot.version)?;
                if replayed.graph.digest() == snapshot.digest {
                    return Ok(snapshot);
                }
                why = Some("it is not the graph that the log leads to".to_owned());
            }
            Ok(_) => why = Some("its digest differs".to_owned()),
            Err(unusable) => why = Some(unusable.to_string()),
        }
        log::warn!(
            "the snapshot of graph `{}` at version {} does not read back: {}",
            head.name,
            snapshot.version,
            why.as_deref().unwrap_or_default()
        );
    }
    Err(PruneError::NoSnapshot {
        graph: head.name.clone(),
        before: version,
        damaged: why.is_some(),
    })
}

fn write_snapshot(
    store: &Store,
    name: &Name,
    version: u64,
    packed: Option<&PackedSnapshot>,
) -> Result<(), PruneError> {
    // From the log, not from the rows: if they differ, the log is right, and it is about to go.
    let head = store.head(name)?.ok_or_else(|| PastError::GraphNotFound(name.clone()))?;
    let past = replayed_at(store, head, version)?;
    let (graph_id, committed_at_ms) = (past.head.id, past.committed_at_ms);
    let mut importing = past.importing();
    let (mut sizes, mut part) = (Vec::new(), Vec::with_capacity(PART_BYTES));
    while importing.write_some(PART_BYTES, &mut part).is_some() {
        let lines = std::str::from_utf8(&part).expect("events are written as UTF-8");
        store.write_snapshot_part(graph_id, version, sizes.len() as u64, lines)?;
        sizes.push(lines.len());
        part.clear();
    }
    failpoint::pass("prune-snapshot-written");
    match store.install_snapshot(name, version, committed_at_ms, &sizes, packed)? {
        SnapshotOutcome::Installed | SnapshotOutcome::AlreadyLater => Ok(()),
        SnapshotOutcome::NotPrunable(storage) => {
            Err(PruneError::NotPrunable { graph: name.clone(), storage })
        }
        SnapshotOutcome::NotProven => {
            Err(PruneError::NoSnapshot { graph: name.clone(), before: version, damaged: false })
        }
        SnapshotOutcome::NeededBy(consumers) => Err(needed_by(name, consumers)),
        SnapshotOutcome::ConcurrentPrune => Err(PruneError::ConcurrentPrune(name.clone())),
        SnapshotOutcome::NotThere => Err(PastError::GraphNotFound(name.clone()).into()),
    }
}

/// At least one consumer is given.
fn needed_by(name: &Name, consumers: Vec<Consumer>) -> PruneError {
    let mut consumers = consumers.into_iter();
    let consumer = Box::new(consumers.next().expect("somebody is in the way"));
    PruneError::NeededBy { graph: name.to_string(), consumer, others: consumers.collect() }
}

fn told_of(graph: &str, consumer: &Consumer) -> String {
    format!(
        "consumer `{}` of graph `{graph}` has acknowledged version {} (since {}, last seen {}) and \
         needs the changes after it",
        consumer.name,
        consumer.acknowledged,
        rfc3339(consumer.acknowledged_at_ms),
        rfc3339(consumer.seen_at_ms)
    )
}

fn also_told(others: &[Consumer]) -> String {
    if others.is_empty() {
        return String::new();
    }
    let mut told: Vec<String> = others
        .iter()
        .take(OTHERS_TOLD_MAX)
        .map(|other| {
            let seen = rfc3339(other.seen_at_ms);
            format!("`{}` (version {}, last seen {seen})", other.name, other.acknowledged)
        })
        .collect();
    if let Some(more) = others.len().checked_sub(OTHERS_TOLD_MAX).filter(|more| *more > 0) {
        told.push(format!("{more} more"));
    }
    format!(". Also in the way: {}", told.join(", "))
}
