//! How long grants and places in line last.

use std::time::Duration;

use crate::lock::LEASE;

/// The times of the lock. All processes on a lock should have the same.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long a grant lasts without renewal; at least 100 ms.
    pub lease: Duration,
    /// How long a grant may last, however often it is renewed.
    pub max_hold: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { lease: LEASE, max_hold: Duration::from_secs(120) }
    }
}

impl Terms {
    /// How long a grant that was handed over may stay unclaimed.
    #[must_use]
    pub fn claim(&self) -> Duration {
        self.lease / 5
    }

    /// How long a place in line lasts without renewal.
    #[must_use]
    pub fn waiter_lease(&self) -> Duration {
        self.lease * 3 / 5
    }

    /// The longest time between two rounds of the housekeeper.
    pub(super) fn tick(&self) -> Duration {
        self.lease / 20
    }

    /// By how much a holder shortens its lease, since clocks run at different speeds.
    pub(super) fn margin(&self) -> Duration {
        self.lease / 20
    }

    /// How long the server remembers that a request has ended, where a copy may still arrive.
    pub(super) fn remembered(&self) -> Duration {
        self.lease * 12
    }
}
