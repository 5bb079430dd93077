//! How many graphs are in memory at once where each request loads its graph.
//!
//! A turn takes its permit after the lock, and waits for no lock while it holds a permit. So the
//! wait for a permit ends when another turn has answered.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;

/// A fixed number of permits.
pub(super) struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
    held: IntGauge,
    waiting: IntGauge,
}

impl Permits {
    /// `count` permits, at least one, and the gauges that tell how many are held and how many
    /// threads wait for one.
    pub(super) fn new(count: usize, held: IntGauge, waiting: IntGauge) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(count.max(1)), returned: Condvar::new(), held, waiting })
    }

    /// Waits for a permit; `None` if none was given back within `patience`.
    pub(super) fn take(self: &Arc<Self>, patience: Duration) -> Option<Permit> {
        let mut free = self.lock();
        if *free == 0 {
            self.waiting.inc();
            let waited = self.returned.wait_timeout_while(free, patience, |free| *free == 0);
            (free, _) = waited.unwrap_or_else(PoisonError::into_inner);
            self.waiting.dec();
        }
        *free = free.checked_sub(1)?;
        self.held.inc();
        Some(Permit(Arc::clone(self)))
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Given back when dropped.
pub(super) struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.lock() += 1;
        self.0.held.dec();
        self.0.returned.notify_one();
    }
}
