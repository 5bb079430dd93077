//! `crud`: rows, an image in memory that is loaded again when the version moved, and a lock.
//!
//! **How it takes turns.** A turn acquires the graph's lock, reads the version if another node had
//! the lock since, decides all writes that wait and commits them in one call. A lock on Redis is
//! kept for the next turn while no other node wants it. Reads share the lock while they learn the
//! version. See [`turns::locked`](super::turns::locked).
//!
//! **What it costs.** With n jobs, datasets and edges in the graph: a read costs a look at the
//! version; a write its own size, a round trip to the lock and one fsync, which all writes of the
//! turn share; and O(n) after another process has written, since then all rows are loaded again.
//!
//! **When it loses.** When two nodes write in alternation, every turn loads the whole graph;
//! [`crud_delta`](super::crud_delta) saves that cost. On a network the lock is one more round trip
//! for each turn, which [`crud_optimistic`](super::crud_optimistic) saves where writers are few.
//!
//! **What would break it.** Without the version comparison a holder that stalls between its check
//! and its write, and loses the lock meanwhile, closes a cycle together with its successor. The
//! fence alone does not stop that, since each of the two passes it.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const CRUD: Design = Design {
    name: "crud",
    summary: "Rows; the image is reloaded when the version moved; writers take turns by the lock",
    storage: StorageKind::Rows,
    refresh: Refresh::WhenMoved,
    turns: TurnKind::Lock { kept: true },
    batch: BatchSize::AllWaiting,
    cycle_check: CycleCheck::Affected,
};
