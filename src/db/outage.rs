//! Tells in the log that something fails again and again, without a line for each time.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about failures.
const EVERY: Duration = Duration::from_secs(10);

/// What fails, and what was told of it.
pub(super) struct Outage {
    /// For people: what cannot be done.
    what: &'static str,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// When a failure was last told.
    at: Option<Instant>,
    /// Failures since.
    untold: u64,
    /// Whether the end is still to be told.
    is_open: bool,
}

impl Outage {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, told: Mutex::default() }
    }

    /// It failed. The first time is told at once, and how often it failed every [`EVERY`].
    pub(super) fn failed(&self, error: &impl Display) {
        if let Some(line) = self.line_of_failure(Instant::now(), error) {
            log::warn!("{line}");
        }
    }

    /// It was done. Told if a failure was.
    pub(super) fn is_over(&self) {
        if let Some(line) = self.line_of_end() {
            log::info!("{line}");
        }
    }

    fn line_of_failure(&self, now: Instant, error: &impl Display) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.at.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            told.untold += 1;
            return None;
        }
        let before = match std::mem::take(&mut told.untold) {
            0 => String::new(),
            untold => format!(" ({untold} more times since this was last said)"),
        };
        (told.at, told.is_open) = (Some(now), true);
        Some(format!("{}{before}: {error}", self.what))
    }

    fn line_of_end(&self) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut told.is_open) {
            return None;
        }
        let untold = std::mem::take(&mut told.untold);
        Some(format!("no longer, after {untold} more times: {}", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_when_they_begin_then_every_ten_seconds_and_when_they_end() {
        let outage = Outage::new("it fails");
        let began = Instant::now();
        let fails = |s: u64| outage.line_of_failure(began + Duration::from_secs(s), &"why");
        assert_eq!(outage.line_of_end(), None, "nothing has failed yet");
        assert_eq!(fails(0).unwrap(), "it fails: why");
        for _ in 0..70 {
            assert_eq!(fails(9), None);
        }
        assert_eq!(fails(10).unwrap(), "it fails (70 more times since this was last said): why");
        assert_eq!(fails(19), None);
        assert_eq!(outage.line_of_end().unwrap(), "no longer, after 1 more times: it fails");
        assert_eq!(outage.line_of_end(), None, "the end is told once");
        assert_eq!(fails(19), None, "a failure that comes and goes is told no more often");
        assert_eq!(outage.line_of_end(), None);
        assert_eq!(fails(20).unwrap(), "it fails (1 more times since this was last said): why");
    }
}
