//! `crud-delta`: as [`crud`](super::crud), but an image that is behind is brought up to date by the
//! change log.
//!
//! **How it takes turns.** By the lock, as `crud`. See [`turns::locked`](super::turns::locked).
//!
//! **What it costs.** What `crud` costs, except after another process has written. Then a turn
//! reads the changes since the image's version, in the statement that reads the version, and
//! applies them: O(what was changed), whatever the size of the graph.
//!
//! **When it loses.** Where one node writes alone it gains nothing over `crud`, and its look at the
//! version is a join. When the log is pruned beyond the image's version, or too much has changed,
//! it loads the whole graph as `crud` does.
//!
//! **What would break it.** An image that applies the changes must end with the same rows as the
//! writer, ids included. So a new id is always the smallest free one, and each change is checked to
//! be the next one of the image's own history: after a gap in the versions, or a chain that does
//! not match, the whole graph is loaded instead.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const CRUD_DELTA: Design = Design {
    name: "crud-delta",
    summary: "As crud, but what others wrote since is learnt from the change log",
    storage: StorageKind::Rows,
    refresh: Refresh::Delta,
    turns: TurnKind::Lock { kept: true },
    batch: BatchSize::AllWaiting,
    cycle_check: CycleCheck::Affected,
};
