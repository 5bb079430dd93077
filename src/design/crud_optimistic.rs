//! `crud-optimistic`: as [`crud_delta`](super::crud_delta), but without a lock.
//!
//! **How it takes turns.** No writer waits for another. A turn decides on its image and writes on
//! the condition that the version is still the one it read. If another write came first, the
//! refusal brings the changes since; the turn applies them, waits for a random time that grows, and
//! decides again, a bounded number of times. Reads take one snapshot of the database. See
//! [`turns::expected_version`](super::turns::expected_version).
//!
//! **What it costs.** What `crud-delta` costs, less the round trips to the lock. Each conflict
//! costs one write that does not hold, and the decisions of the whole batch.
//!
//! **When it loses.** With many nodes that write to one graph. A writer that lost gets no priority:
//! the work that is thrown away grows with the writers, and a request can lose so often that it is
//! refused as contended while the lock would have served it in its turn.
//!
//! **What would break it.** The version comparison is all that it has. Without it two writers that
//! read the same version both commit, and together close a cycle.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const CRUD_OPTIMISTIC: Design = Design {
    name: "crud-optimistic",
    summary: "As crud-delta, but without a lock: a write that comes second is decided again. \
              Reads are as with --reads snapshot",
    storage: StorageKind::Rows,
    refresh: Refresh::Delta,
    turns: TurnKind::ExpectedVersion,
    batch: BatchSize::AllWaiting,
    cycle_check: CycleCheck::Affected,
};
