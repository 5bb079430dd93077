//! A window in parts of one length: what became of the requests that were intended for each, so
//! that one sees when something happened.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::class::Class;
use crate::object::objects_both_ways;

/// Parts at most: an hour in tenths of a second.
pub const MOST: usize = 36_000;

/// A part of a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Part {
    /// When it begins, in seconds from the beginning of the window.
    pub from_seconds: f64,
    /// Requests whose intended start lies in it, and that were sent: served or rejected.
    pub completed: u64,
    /// The others of those: refused.
    pub refused: u64,
    /// Failed, or of unknown outcome.
    pub failed: u64,
    /// Requests that were completed in it, whenever they were due.
    pub answered: u64,
    /// Of those that were completed, from the intended start: half took no longer.
    pub p50_us: Option<f64>,
    /// None took longer.
    pub max_us: Option<f64>,
}

objects_both_ways!(Part);

/// What clients count of one part.
#[derive(Debug, Clone, Default)]
struct Counts {
    refused: u64,
    failed: u64,
    answered: u64,
    /// Of the completed ones, in microseconds.
    latencies_us: Vec<u32>,
}

/// What one client counted of each part, or all of them.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Vec<Counts>);

impl Timeline {
    /// Counts one request, by its intended start and when it was answered, both from the beginning
    /// of the window; `None`: before it.
    pub fn count(
        &mut self,
        part: Duration,
        class: Class,
        [intended, answered]: [Option<Duration>; 2],
    ) {
        if let Some((intended, answered)) = intended.zip(answered)
            && let Some(counts) = self.at(part, intended)
        {
            match class {
                Class::Served | Class::Rejected => {
                    let us = answered.saturating_sub(intended).as_micros();
                    counts.latencies_us.push(u32::try_from(us).unwrap_or(u32::MAX));
                }
                Class::Refused => counts.refused += 1,
                Class::Failed => counts.failed += 1,
            }
        }
        if class.is_completed()
            && let Some(counts) = answered.and_then(|answered| self.at(part, answered))
        {
            counts.answered += 1;
        }
    }

    fn at(&mut self, part: Duration, time: Duration) -> Option<&mut Counts> {
        let index = (time.as_nanos() / part.as_nanos().max(1)).try_into().unwrap_or(usize::MAX);
        if index >= MOST {
            return None;
        }
        if self.0.len() <= index {
            self.0.resize_with(index + 1, Counts::default);
        }
        self.0.get_mut(index)
    }

    /// Adds what another client counted.
    pub fn add(&mut self, other: Self) {
        if self.0.len() < other.0.len() {
            self.0.resize_with(other.0.len(), Counts::default);
        }
        for (counts, more) in self.0.iter_mut().zip(other.0) {
            counts.refused += more.refused;
            counts.failed += more.failed;
            counts.answered += more.answered;
            counts.latencies_us.extend(more.latencies_us);
        }
    }

    /// The parts that begin in a window of that length.
    #[must_use]
    pub fn parts(&self, part: Duration, window: Duration) -> Vec<Part> {
        let length = part.as_secs_f64();
        let whole = |index: usize| {
            let counts = self.0.get(index).cloned().unwrap_or_default();
            let Counts { refused, failed, answered, mut latencies_us } = counts;
            latencies_us.sort_unstable();
            let last = latencies_us.len().checked_sub(1);
            let at = |index: usize| f64::from(latencies_us[index]);
            Part {
                from_seconds: index as f64 * length,
                completed: latencies_us.len() as u64,
                refused,
                failed,
                answered,
                p50_us: last.map(|last| at(last / 2)),
                max_us: last.map(at),
            }
        };
        let count = (window.as_secs_f64() / length - 1e-6).ceil().clamp(0.0, MOST as f64);
        (0..count as usize).map(whole).collect()
    }
}

/// From when something began, to a time; `None` if that is before.
pub fn since(from: Instant, time: Instant) -> Option<Duration> {
    time.checked_duration_since(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Duration = Duration::from_millis(100);

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn requests_are_told_where_they_were_due_and_answers_where_they_came() {
        let (mut one, mut other) = (Timeline::default(), Timeline::default());
        one.count(PART, Class::Served, [ms(10), ms(30)]);
        one.count(PART, Class::Rejected, [ms(20), ms(260)]);
        one.count(PART, Class::Refused, [ms(110), ms(120)]);
        other.count(PART, Class::Failed, [ms(150), ms(160)]);
        // Of the warm-up, and answered in the window.
        other.count(PART, Class::Served, [None, ms(5)]);
        one.add(other);
        let parts = one.parts(PART, Duration::from_millis(250));
        let counts = |part: &Part| (part.completed, part.refused, part.failed, part.answered);
        assert_eq!(
            parts.iter().map(counts).collect::<Vec<_>>(),
            [(2, 0, 0, 2), (0, 1, 1, 0), (0, 0, 0, 1)]
        );
        assert_eq!((parts[0].p50_us, parts[0].max_us), (Some(20_000.0), Some(240_000.0)));
        assert_eq!((parts[1].from_seconds, parts[1].p50_us), (0.1, None));
    }

    #[test]
    fn a_window_has_as_many_parts_as_begin_in_it_and_no_more_than_there_may_be() {
        let mut timeline = Timeline::default();
        timeline.count(PART, Class::Served, [ms(950), ms(1_500)]);
        let of = |window| timeline.parts(PART, Duration::from_millis(window)).len();
        assert_eq!((of(1_000), of(1_001), of(999)), (10, 11, 10));
        let (short, day) = (Duration::from_millis(1), Duration::from_secs(86_400));
        timeline.count(short, Class::Served, [Some(day); 2]);
        assert!(timeline.parts(short, day).len() == MOST);
    }
}
