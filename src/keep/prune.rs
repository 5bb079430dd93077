//! Pruning: changes before a version leave the log, and a snapshot at that version is kept in their
//! place.
//!
//! In three steps, so that a kill at any point loses nothing and holds nobody up. The snapshot is
//! written, part by part, where nobody reads it yet. One short transaction, which holds the graph's
//! row, makes it the log's beginning, unless a consumer still needs what is before. Then what it
//! stands in for is deleted, some rows at a time. What a killed one leaves, the next one tidies up.

use super::PART_BYTES;
use super::history::{HistoryError, graph_at};
use crate::failpoint;
use crate::graph::Name;
use crate::store::rows::RowStore;
use crate::store::{CommitError, GraphStore, Kept, StoreError};

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
    History(#[from] HistoryError),
    /// Somebody still has to read a change that would go.
    #[error(
        "consumer `{consumer}` of graph `{graph}` has acknowledged version {acknowledged} and needs the changes after it: let it read on, or \
         remove it: fencepost consumer remove --graph {} --name {}", shell_word(.graph), shell_word(.consumer)
    )]
    NeededBy {
        /// The graph.
        graph: String,
        /// Who.
        consumer: String,
        /// What it has acknowledged.
        acknowledged: u64,
    },
    /// Another process prunes the same graph. Nothing is lost.
    #[error("graph `{0}` is being pruned by another process; when that has ended, prune again")]
    Outrun(Name),
    /// The database did not do it. What was done stays so; nothing is lost.
    #[error("{0}; prune again to go on")]
    Write(#[from] CommitError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Has the log begin at `before`: changes before it go, and a snapshot at it is kept. O(size of the
/// graph at that version, and of what goes).
///
/// # Errors
/// [`PruneError`] says what to do. Nothing that a consumer needs is gone.
pub fn prune(store: &RowStore, name: &Name, before: u64) -> Result<Pruned, PruneError> {
    let not_found = || HistoryError::GraphNotFound(name.clone());
    let (head, consumers) = store.consumers(name)?.ok_or_else(not_found)?;
    if before > head.version {
        return Err(HistoryError::Ahead {
            graph: name.clone(),
            version: head.version,
            asked: before,
        }
        .into());
    }
    let already = before <= head.oldest && store.snapshot_version(head.id)?.is_some();
    if !already {
        // Looked at before the work, and again when it counts.
        if let Some(behind) =
            consumers.into_iter().find(|consumer| consumer.acknowledged + 1 < before)
            && !failpoint::is_off("prune-looks-first")
        {
            return Err(needed_by(name, behind.name.to_string(), behind.acknowledged));
        }
        keep_snapshot(store, name, before)?;
        failpoint::pass("prune-flipped");
    }
    let changes = store.delete_pruned(name)?;
    Ok(Pruned { changes, already: already && changes == 0 })
}

fn keep_snapshot(store: &RowStore, name: &Name, version: u64) -> Result<(), PruneError> {
    let past = graph_at(store, name, version)?;
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
    match store.keep_snapshot(name, version, committed_at_ms, &sizes)? {
        Kept::Yes | Kept::Already => Ok(()),
        Kept::NeededBy { consumer, acknowledged } => Err(needed_by(name, consumer, acknowledged)),
        Kept::Outrun => Err(PruneError::Outrun(name.clone())),
        Kept::NotThere => Err(HistoryError::GraphNotFound(name.clone()).into()),
    }
}

fn needed_by(name: &Name, consumer: String, acknowledged: u64) -> PruneError {
    PruneError::NeededBy { graph: name.to_string(), consumer, acknowledged }
}

/// As a shell takes it back: names may hold anything but control characters.
fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
