//! `es-locked`: the change log is the only storage, and writers take turns by the lock. Storage
//! alone tells it from [`crud_delta`](super::crud_delta), so that the two show what rows cost.
//!
//! **How it takes turns.** By the lock, as `crud-delta`. See
//! [`turns::locked`](super::turns::locked), and [`store::log`](crate::store::log) for the append.
//!
//! **What it costs.** What `crud-delta` costs, less the rows: a write changes the graph's row and
//! adds its changes. A start begins with a snapshot and replays what came after it.
//!
//! **When it loses.** As `crud-delta`, by the round trip to the lock; and where rows are wanted,
//! which other programs can read.
//!
//! **What would break it.** What would break `crud-delta`: a holder that stalls and is replaced is
//! stopped by the version comparison, not by the lock.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const ES_LOCKED: Design = Design {
    name: "es-locked",
    summary: "The change log alone; what others wrote since is learnt from it; writers take turns \
              by the lock",
    storage: StorageKind::Log,
    refresh: Refresh::Delta,
    turns: TurnKind::Lock { kept: true },
    batch: BatchSize::AllWaiting,
    cycle_check: CycleCheck::Affected,
};
