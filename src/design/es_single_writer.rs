//! `es-single-writer`: the change log is the only storage, and one node at a time leads a graph and
//! writes it: the design that the article expects to win.
//!
//! **How it takes turns.** By leadership. See
//! [`turns::single_writer`](super::turns::single_writer), and [`store::log`](crate::store::log) for
//! the append.
//!
//! **What it costs.** At the leader, the append: one round trip with its commit, and neither a lock
//! nor a look before it. Elsewhere a write is passed on to the leader: one exchange between nodes
//! more.
//!
//! **When it loses.** When leadership moves: a leader that died is missed for a lease. Where
//! clients ask other nodes, each write is two nodes' work. All writes of a graph are one node's
//! work.
//!
//! **What would break it.** A leader that believes its lease: it may have been replaced and not
//! know it yet. So the database compares the token of the take-over in each write, and what writes
//! nothing looks at the graph's row.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const ES_SINGLE_WRITER: Design = Design {
    name: "es-single-writer",
    summary: "The change log alone; one node leads each graph and writes it without a look or a \
              lock",
    storage: StorageKind::Log,
    refresh: Refresh::Delta,
    turns: TurnKind::SingleWriter,
    batch: BatchSize::AllWaiting,
    cycle_check: CycleCheck::Affected,
};
