//! `crud-naive`: the plainest code that is correct, to measure the others against.
//!
//! **How it takes turns.** By the lock, one request in each turn. See
//! [`turns::locked`](super::turns::locked).
//!
//! **What it costs.** With n jobs, datasets and edges in the graph, O(n) for every request: each
//! loads the whole graph and keeps nothing of it, and each write sorts the whole graph to see that
//! it has no cycle. Two whole graphs are in memory at once at most; other turns wait for their
//! place.
//!
//! **When it loses.** As soon as the graph has more than some hundred jobs, or more than one
//! request waits. It is the sample of Robert Fink's article (2019) in its costs, without its
//! mistakes: the graph is directed, the write is conditional, and the lock has fencing tokens.
//!
//! **What would break it.** The same as [`crud`](super::crud).

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const CRUD_NAIVE: Design = Design {
    name: "crud-naive",
    summary: "Rows; each request alone takes the lock and loads the whole graph, each write sorts \
              it whole; nothing is kept",
    storage: StorageKind::Rows,
    refresh: Refresh::Always,
    turns: TurnKind::Lock { kept: false },
    batch: BatchSize::One,
    cycle_check: CycleCheck::WholeGraph,
};
