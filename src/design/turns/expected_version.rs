//! Turns by the expected version: no writer waits for another; one whose conditional write
//! conflicts decides again.
//!
//! **How it takes turns.** It decides on the image that it has, without a look at the store, and
//! writes if the version still stands. If it does not, the refused write has brought what was
//! written since, and the batch is decided again. A batch that writes nothing looks at the version
//! before it answers. The write carries no fencing token: nobody was granted anything, and the
//! version comparison alone keeps the rules.
//!
//! **What it costs.** The conditional write. A conflict costs another, and the decisions of the
//! batch once more.
//!
//! **What it does not do.** It is not fair: a batch that is slow to decide can lose to quicker ones
//! until its attempts are used up. Beside a node that writes without a pause an attempt succeeds
//! only if it comes between two commits: one in ten or twenty does. So there are many attempts, and
//! the random waits between them grow to some tens of milliseconds: two seconds in all, after which
//! a request is refused. To try again at once wins no more often and costs more:
//! `benches/README.md` has the figures.

use std::time::Duration;

use crate::graph::Name;
use crate::service::{Held, Refusal, Retry, Served, Turn, TurnError, Turns};
use crate::store::{CommitError, Fence};

/// Limits of turns by the expected version.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedVersionLimits {
    /// How often a turn is taken again after another write came first.
    pub retries: usize,
}

impl Default for ExpectedVersionLimits {
    fn default() -> Self {
        Self { retries: 64 }
    }
}

/// Turns without a lock.
pub struct ExpectedVersion {
    limits: ExpectedVersionLimits,
}

impl ExpectedVersion {
    /// Bounded by `limits`.
    #[must_use]
    pub fn new(limits: ExpectedVersionLimits) -> Self {
        Self { limits }
    }
}

impl Turns for ExpectedVersion {
    fn serve(&self, turn: &Turn<'_>) -> Result<Served, TurnError> {
        let read = turn.at_hand().map_or_else(|| turn.refresh(), Ok)?;
        let decisions = turn.decide(read)?;
        if decisions.need_commit() {
            turn.commit(&decisions, Fence::Unfenced)?;
        } else {
            turn.confirm(&decisions)?;
        }
        Ok(decisions.served())
    }

    fn retry(&self, _: &Name, error: &TurnError, attempt: usize) -> Retry {
        match error {
            _ if attempt == self.limits.retries => Retry::GiveUp,
            // Nobody else was quicker: what was at hand was old, or a request came twice.
            TurnError::Outdated | TurnError::Commit(CommitError::KeyTaken { .. }) => Retry::Now,
            _ => Retry::After(backoff(attempt)),
        }
    }

    fn read_guard(&self, _: i64) -> Result<Option<Held>, Refusal> {
        Ok(None)
    }

    fn ready(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// How long to wait after a number of lost attempts: anything up to a bound that doubles each time,
/// so that competing writers spread out.
pub(super) fn backoff(attempt: usize) -> Duration {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(64);
    let mut random = [u8::MAX; 4];
    if let Err(error) = getrandom::fill(&mut random) {
        log::warn!("no random numbers, so the longest wait is taken: {error}");
    }
    let part = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    LONGEST.min(FIRST * (1 << attempt.min(10))).mul_f64(part)
}
