//! `crud-plain`: as [`crud`](super::crud), but without a history: the CRUD of Robert Fink's
//! article, whose tables held the current state and nothing else. Beside `crud` it shows what a
//! history costs.
//!
//! **How it takes turns.** By the lock, as `crud`. See [`turns::locked`](super::turns::locked), and
//! [`store::plain`](crate::store::plain) for what is kept.
//!
//! **What it costs.** What `crud` costs, less the changes: a write changes the graph's row and the
//! rows that differ, and notes its attempt. No change is written out, and none is hashed.
//!
//! **When it loses.** Wherever a history is asked for: the change feed answers 410, no earlier
//! version can be had, nobody can follow the graph, and an export has the graph and no changes.
//! What another node wrote costs a load of the whole graph.
//!
//! **What would break it.** What would break `crud`. In place of the chain of hashes, which tells
//! two histories of equal length apart, each commit leaves a number that no other has.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const CRUD_PLAIN: Design = Design {
    name: "crud-plain",
    summary: "As crud, without a history: the log holds attempts only, and cannot be read",
    storage: StorageKind::RowsPlain,
    refresh: Refresh::WhenMoved,
    turns: TurnKind::Lock { kept: true },
    batch: BatchSize::AllWaiting,
    cycle_check: CycleCheck::Affected,
};
