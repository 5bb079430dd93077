//! `crud-single-writer`: rows, and one node at a time that leads a graph and writes it. Storage
//! alone tells it from [`es_single_writer`](super::es_single_writer), so that the two show what the
//! leader gains and what the log does.
//!
//! **How it takes turns.** By leadership, as `es-single-writer`. See
//! [`turns::single_writer`](super::turns::single_writer).
//!
//! **What it costs.** What `es-single-writer` costs, and the rows.
//!
//! **When it loses.** As `es-single-writer`, when leadership moves; and by what rows cost.
//!
//! **What would break it.** As there, a leader that believes its lease.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const CRUD_SINGLE_WRITER: Design = Design {
    name: "crud-single-writer",
    summary: "As crud-delta, but one node leads each graph and writes it without a look or a lock",
    storage: StorageKind::Rows,
    refresh: Refresh::Delta,
    turns: TurnKind::SingleWriter,
    batch: BatchSize::AllWaiting,
    cycle_check: CycleCheck::Affected,
};
