//! `es-unchecked`: broken on purpose. The attempt at event sourcing with which Robert Fink's
//! article (2019) begins: a service that checks a request against its memory image and then appends
//! an event. It is here to be caught: a checker that lets it pass, or a workload on which it is
//! never wrong, proves nothing about the others.
//!
//! **How it takes turns.** It takes none. Each request is decided on its own thread, on the image
//! at hand, and what was accepted is appended after whatever version the graph has by then. See
//! [`turns::unchecked`](super::turns::unchecked), and
//! [`store::append`](crate::store::Store::append) for the append.
//!
//! **What it costs.** What [`es_optimistic`](super::es_optimistic) costs where nobody contends:
//! that the version is compared is all that tells the two apart. Where many contend nobody decides
//! twice, and that is what it gets wrong. Reads are those of `es-optimistic`. Each request has a
//! turn of its own. A start judges the history change by change.
//!
//! **When it loses.** As soon as two requests are under way at once, on one node or on several. One
//! client alone on one node is answered as by every design. From the first version on that breaks a
//! rule, reads answer 500 and name that version; a process that has the graph in memory goes on
//! taking writes, and one that must load it refuses them too.
//!
//! **What would break it.** It is broken. The graphs that it writes are kept apart: nothing of
//! theirs can be exported, and no other design serves them.

use super::definition::{Design, TurnKind};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

/// See the [module](self).
pub const ES_UNCHECKED: Design = Design {
    name: "es-unchecked",
    summary: "Broken on purpose, to show that the checker finds it: the change log alone, and \
              whoever writes compares nothing",
    storage: StorageKind::LogUnchecked,
    refresh: Refresh::Delta,
    turns: TurnKind::Unchecked,
    batch: BatchSize::One,
    cycle_check: CycleCheck::Affected,
};
