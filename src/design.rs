//! The designs: what each is made of, and the list of all.
//!
//! A design is a constant that names its choices, in a file of its own that says how it takes
//! turns, what a request costs, when it loses and what would break it. Adding one takes that file,
//! a `mod` line here and an entry in [`ALL`]. Uses `service` and `lock`; `service` knows none of
//! this.

pub mod crud;
pub mod crud_delta;
pub mod crud_naive;
pub mod crud_optimistic;
pub mod crud_plain;
pub mod crud_single_writer;
mod definition;
pub mod es_locked;
pub mod es_optimistic;
pub mod es_single_writer;
pub mod es_unchecked;
pub mod turns;

pub use definition::{Design, Designs, NoLockToShare, OneStorageTwice, TurnLimits};
pub use turns::Reads;

use crate::store::StorageKind;

/// All designs. The first is the default; the last is broken on purpose.
pub static ALL: &[&Design] = &[
    &crud::CRUD,
    &crud_delta::CRUD_DELTA,
    &crud_optimistic::CRUD_OPTIMISTIC,
    &crud_naive::CRUD_NAIVE,
    &crud_plain::CRUD_PLAIN,
    &crud_single_writer::CRUD_SINGLE_WRITER,
    &es_optimistic::ES_OPTIMISTIC,
    &es_locked::ES_LOCKED,
    &es_single_writer::ES_SINGLE_WRITER,
    &es_unchecked::ES_UNCHECKED,
];

/// What designs on rows are called, whichever they are.
pub const ON_ROWS: &str = "CRUD";
/// What designs on a log alone are called.
pub const ON_A_LOG: &str = "event sourcing";

/// Two designs that differ in one choice, which explains the difference in what they cost.
#[derive(Debug, PartialEq, Eq)]
pub struct Pair {
    /// One of them.
    pub first: &'static str,
    /// The other.
    pub second: &'static str,
    /// The choice, as a question.
    pub question: &'static str,
}

/// All such pairs.
pub const PAIRS: [Pair; 5] = [
    Pair { first: "crud", second: "crud-delta", question: "reload, or apply what came since?" },
    Pair { first: "crud-plain", second: "crud", question: "rows without history, or with it?" },
    Pair {
        first: "crud-delta",
        second: "es-locked",
        question: "rows and log, or the log alone, with a lock?",
    },
    Pair {
        first: "crud-optimistic",
        second: "es-optimistic",
        question: "rows and log, or the log alone, without a lock?",
    },
    Pair {
        first: "crud-single-writer",
        second: "es-single-writer",
        question: "rows and log, or the log alone, with one writer?",
    },
];

/// The designs that decide hypotheses about what the choices do (docs/METHOD.md), by their choice.
pub mod by_choice {
    /// Loads the whole graph for each request.
    pub const LOADS_EACH_TIME: &str = "crud-naive";
    /// Keeps an image that is valid for one version only; rows with a history.
    pub const KEEPS_ONE_VERSION: &str = "crud";
    /// The same, without history.
    pub const WITHOUT_HISTORY: &str = "crud-plain";
    /// Applies to its image what came since; rows and log, with a lock.
    pub const APPLIES_CHANGES: &str = "crud-delta";
    /// The same, with the log alone.
    pub const LOG_ALONE: &str = "es-locked";
    /// Nodes write without a lock, and decide again when another was first: with the log alone, and
    /// with rows.
    pub const OPTIMISTIC: [&str; 2] = ["es-optimistic", "crud-optimistic"];
    /// One node writes for all.
    pub const ONE_WRITER: &str = "es-single-writer";
    /// The same, on rows.
    pub const ONE_WRITER_ON_ROWS: &str = "crud-single-writer";
}

/// All designs that keep the rules.
pub fn sound() -> impl Iterator<Item = &'static Design> {
    ALL.iter().copied().filter(|design| design.is_sound())
}

/// The design of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Design> {
    ALL.iter().copied().find(|design| design.name == name)
}

impl Design {
    /// The design that a command uses for a graph of that storage, unless it was given one. Designs
    /// of one storage work side by side, so servers may use another. `None` if this program has no
    /// design for that storage.
    #[must_use]
    pub fn following(storage: StorageKind) -> Option<&'static Self> {
        match storage {
            StorageKind::Rows => Some(&crud::CRUD),
            StorageKind::RowsPlain => Some(&crud_plain::CRUD_PLAIN),
            StorageKind::Log => Some(&es_optimistic::ES_OPTIMISTIC),
            StorageKind::LogUnchecked => Some(&es_unchecked::ES_UNCHECKED),
            StorageKind::Unknown => None,
        }
    }
}

impl Default for &Design {
    fn default() -> Self {
        ALL[0]
    }
}
