//! When requests are due, when they are measured, and when there are no more.

use std::time::{Duration, Instant};

use super::DriveArgs;

/// How long to measure if nothing else is said, in seconds.
const SECONDS: f64 = 10.0;
/// What is due later than this, in seconds, is never due: longer than any run, and far from what a
/// clock can hold.
const NEVER: f64 = 4e9;

/// All times are from the start of the run.
pub struct Schedule {
    rate: Option<f64>,
    /// Requests with which the run ends.
    pub requests: u64,
    /// When the window begins.
    pub warmup: Duration,
    /// When the window ends; `None`: with the last answer.
    pub end: Option<Duration>,
    /// How long the parts are that are told of the window.
    pub part: Option<Duration>,
}

impl Schedule {
    /// `needed`: how many requests the workload consists of, if it has an end.
    pub fn new(args: &DriveArgs, needed: Option<u64>) -> Self {
        let requests = [args.requests, needed].into_iter().flatten().min();
        let seconds = args.seconds.or_else(|| requests.is_none().then_some(SECONDS));
        Self {
            rate: args.rate,
            requests: requests.unwrap_or(u64::MAX),
            warmup: Duration::from_secs_f64(args.warmup_seconds),
            end: seconds.map(|seconds| Duration::from_secs_f64(args.warmup_seconds + seconds)),
            part: args.timeline_seconds.map(Duration::from_secs_f64),
        }
    }

    #[cfg(test)]
    pub fn of(rate: Option<f64>, requests: u64, warmup: Duration, end: Option<Duration>) -> Self {
        Self { rate, requests, warmup, end, part: None }
    }

    /// When request `number` is due; `None` without a rate.
    pub fn due(&self, number: u64) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64((number as f64 / rate).min(NEVER)))
    }

    pub fn is_over(&self, since_start: Duration) -> bool {
        self.end.is_some_and(|end| since_start >= end)
    }

    /// When the last request must be sent for the rate to be kept: the end of the window, or when
    /// another request would be due after the last one. `None` without a rate.
    pub fn sent_by(&self) -> Option<Duration> {
        let after_last = self.due(self.requests)?;
        Some(self.end.map_or(after_last, |end| end.min(after_last)))
    }

    /// The numbers of the requests that are due in the window and before `end`, the first one and
    /// the one after the last. `None` without a rate.
    pub fn due_in_window(&self, end: Duration) -> Option<(u64, u64)> {
        let first = self.first_due_from(self.warmup)?;
        let after_last = self.first_due_from(end)?;
        Some((first, after_last.max(first)))
    }

    /// The first request that is due at `time` or later, or the number of all.
    fn first_due_from(&self, time: Duration) -> Option<u64> {
        let guess = (self.rate? * time.as_secs_f64()).ceil() as u64;
        // The product may be off by a rounding.
        let is_before = |number: u64| self.due(number).is_some_and(|due| due < time);
        let mut number = guess.saturating_sub(1).min(self.requests);
        while number > 0 && !is_before(number - 1) {
            number -= 1;
        }
        while number < self.requests && is_before(number) {
            number += 1;
        }
        Some(number)
    }
}

/// When what is measured begins and ends, on the clock.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// The end of the warm-up.
    pub from: Instant,
    /// The end, where it was known before; `None`: with the last answer.
    pub to: Option<Instant>,
    /// When a request must be sent at the latest for the rate to be kept; `None` without a rate.
    pub sent_by: Option<Instant>,
    /// How long the parts are that are told of the window.
    pub part: Option<Duration>,
}

impl Bounds {
    pub fn new(schedule: &Schedule, start: Instant) -> Self {
        Self {
            from: start + schedule.warmup,
            to: schedule.end.map(|end| start + end),
            sent_by: schedule.sent_by().map(|time| start + time),
            part: schedule.part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: f64, requests: u64, warmup: f64, end: Option<f64>) -> Schedule {
        let [warmup, end] = [Some(warmup), end].map(|time| time.map(Duration::from_secs_f64));
        Schedule::of(Some(rate), requests, warmup.unwrap(), end)
    }

    #[test]
    fn each_request_of_the_window_is_due_once_whatever_the_rate() {
        for rate in [1e-20, 0.001, 1.0 / 3.0, 1.0, 7.0, 999.999, 12_345.678, 1e6] {
            let schedule = schedule(rate, u64::MAX, 0.7, Some(3.1));
            let end = schedule.end.unwrap();
            let (first, after_last) = schedule.due_in_window(end).unwrap();
            let due = |number| schedule.due(number).unwrap();
            assert!(first == 0 || due(first - 1) < schedule.warmup, "{rate}");
            assert!(due(first) >= schedule.warmup && due(after_last) >= end, "{rate}");
            assert!(after_last == first || due(after_last - 1) < end, "{rate}");
        }
    }

    #[test]
    fn no_more_are_due_than_the_run_has() {
        let schedule = schedule(100.0, 50, 0.1, None);
        assert_eq!(schedule.due_in_window(Duration::from_secs(9)), Some((10, 50)));
        assert_eq!(schedule.sent_by(), Some(Duration::from_millis(500)));
        assert_eq!(schedule.due_in_window(Duration::from_millis(300)), Some((10, 30)));
    }
}
