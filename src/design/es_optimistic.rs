//! `es-optimistic`: the change log is the only storage, and writers take no lock.
//!
//! **How it takes turns.** As [`crud_optimistic`](super::crud_optimistic): a turn decides on its
//! image and appends on the condition that the version still stands. Whoever finds that another was
//! faster learns from the refusal what that one did and decides again, after a random wait that
//! grows, a bounded number of times; then its requests are refused as contended. See
//! [`turns::expected_version`](super::turns::expected_version), and
//! [`store::log`](crate::store::log) for the append.
//!
//! **What it costs.** A write: one call with the changes and the update of the graph's row, and no
//! rows beside them. A read: a look at the version, which brings the changes since, if there are
//! any. A start: the newest snapshot, and the changes after it are replayed.
//!
//! **When it loses.** With many nodes that write to one graph, as every optimistic design: the work
//! that is thrown away grows with the writers, and none of them gets priority. And where rows are
//! wanted, which other programs can read.
//!
//! **What would break it.** Without the comparison of version and chain two writers that read one
//! version both append, and together close a cycle. If the numbers of versions came from a
//! sequence, a follower that has seen version 8 could not tell whether 7 is still to come.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const ES_OPTIMISTIC: Design = Design {
    name: "es-optimistic",
    summary: "The change log alone, without a lock: a write that comes second is decided again. \
              Reads are as with --reads snapshot",
    storage: StorageKind::Log,
    refresh: Refresh::Delta,
    turns: TurnKind::ExpectedVersion,
    batch: BatchSize::AllWaiting,
    cycle_check: CycleCheck::Affected,
};
