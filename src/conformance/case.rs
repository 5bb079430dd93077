//! What a case is.

use clap::ValueEnum;

use super::session::Session;
use super::unmet::Met;

/// How much of the surface is asked for. Each level has the cases of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// Graphs, jobs and datasets one at a time, the rules of a graph, plans, problems
    Core,
    /// Also changesets, patches, single edges, preconditions, idempotency keys
    Writes,
    /// Also lists, conditional reads, the change log, digests, snapshots, deletion of graphs
    All,
}

impl Level {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Writes => "writes",
            Self::All => "all",
        }
    }
}

/// One rule of the surface, and how a server is asked whether it keeps it.
#[derive(Clone, Copy)]
pub struct Case {
    /// What a server does that keeps the rule, in snake case.
    pub name: &'static str,
    /// The first level that asks for it.
    pub level: Level,
    /// The rule, as one sentence.
    pub rule: &'static str,
    /// Asks.
    pub(super) run: fn(&Session<'_>) -> Met,
}

/// A case whose name is that of the function that runs it.
macro_rules! case {
    ($level:ident, $run:ident, $rule:expr $(,)?) => {
        $crate::conformance::case::Case {
            name: stringify!($run),
            level: $crate::conformance::case::Level::$level,
            rule: $rule,
            run: $run,
        }
    };
}

pub(super) use case;
