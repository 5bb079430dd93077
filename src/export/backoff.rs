//! How long whoever follows a graph waits before it tries again what failed.

use std::thread;
use std::time::Duration;

use super::error::ExportError;
use super::sink::SinkError;

/// How long a follower waits before it tries again what failed, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// How often in a row a write is tried that the engine refuses for a reason that may or may not
/// pass.
const FAILED_TRIES_MAX: u32 = 8;

/// Waits between tries, longer each time, until something was written.
pub struct Backoff {
    follow: bool,
    next: Duration,
    failed: u32,
}

impl Backoff {
    pub fn new(follow: bool) -> Self {
        Self { follow, next: RETRY_FIRST, failed: 0 }
    }

    /// Returns when it is time to try again.
    ///
    /// # Errors
    /// The error, if nothing is to be tried again.
    pub fn wait(&mut self, error: impl Into<ExportError>) -> Result<(), ExportError> {
        let error = error.into();
        if !self.follow || !error.may_pass() {
            return Err(error);
        }
        if matches!(error, ExportError::Sink(SinkError::Failed { .. })) {
            self.failed += 1;
            if self.failed == FAILED_TRIES_MAX {
                log::error!("tried {FAILED_TRIES_MAX} times in vain");
            }
            if self.failed >= FAILED_TRIES_MAX {
                return Err(error);
            }
        }
        log::warn!("trying again in {:.1?}: {error}", self.next);
        thread::sleep(self.next);
        self.next = (self.next * 2).min(RETRY_LONGEST);
        Ok(())
    }

    pub fn progressed(&mut self) {
        *self = Self::new(self.follow);
    }
}
