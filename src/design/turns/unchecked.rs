//! No turns at all: the negative control. Everyone writes, and nothing is compared.
//!
//! **How it takes turns.** It does not. Each request is decided on a thread of its own, on the
//! image at hand, without a look at the store if there is one, and several requests of one graph at
//! once. What was accepted is appended after whatever version the graph has by then. Only what
//! writes nothing, as a rejection, looks at the version before it is answered.
//!
//! **What it costs.** The append: one call if nobody wrote meanwhile. Otherwise that call is
//! refused, and a transaction holds the graph's row to learn the version and append after it.
//! Nothing is decided again.
//!
//! **What it does not do.** It does not keep the rules. Two requests that were decided on one
//! version may both be legal there and not one after the other: together they close a cycle, or
//! give a dataset two producers. Nobody is told.

use super::expected_version::backoff;
use crate::graph::Name;
use crate::service::{Held, Refusal, Retry, Served, Turn, TurnError, Turns};
use crate::store::{CommitError, Fence};

/// Limits of writes that take no turns.
#[derive(Debug, Clone, Copy)]
pub struct UncheckedLimits {
    /// How many requests of one graph are decided and appended at once in this process.
    pub at_once: usize,
    /// How often a request is decided again: after a look has shown that its rejection was
    /// outdated, or because its key was used.
    pub retries: usize,
}

impl Default for UncheckedLimits {
    fn default() -> Self {
        Self { at_once: 8, retries: 32 }
    }
}

/// Writes without turns.
pub struct Unchecked {
    limits: UncheckedLimits,
}

impl Unchecked {
    /// Bounded by `limits`.
    #[must_use]
    pub fn new(limits: UncheckedLimits) -> Self {
        Self { limits }
    }
}

impl Turns for Unchecked {
    fn serve(&self, turn: &Turn<'_>) -> Result<Served, TurnError> {
        let read = turn.at_hand().map_or_else(|| turn.refresh(), Ok)?;
        let mut decisions = turn.decide(read)?;
        if decisions.change_the_graph() {
            turn.append(&mut decisions)?;
        } else if decisions.need_commit() {
            turn.commit(&decisions, Fence::Unfenced)?;
        } else {
            turn.confirm(&decisions)?;
        }
        Ok(decisions.served())
    }

    fn retry(&self, _: &Name, error: &TurnError, attempt: usize) -> Retry {
        match error {
            _ if attempt == self.limits.retries => Retry::GiveUp,
            TurnError::Commit(CommitError::KeyTaken { .. }) => Retry::Now,
            _ => Retry::After(backoff(attempt)),
        }
    }

    fn at_once(&self) -> usize {
        self.limits.at_once
    }

    fn read_guard(&self, _: i64) -> Result<Option<Held>, Refusal> {
        Ok(None)
    }

    fn ready(&self) -> Result<(), Refusal> {
        Ok(())
    }
}
