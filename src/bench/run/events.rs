//! Windows in the middle of which something happens: what that may be, and the time-line that shows
//! it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::statistics::median;
use crate::bench::timeline::{MOST, Part};
use crate::object::objects_both_ways;

/// When it happens, from the beginning of the window.
pub const AT: Duration = Duration::from_secs(2);
/// How long such a window is, in seconds: longer than a lease after that.
pub const WINDOW_SECONDS: f64 = 10.0;
/// How long the warm-up is, in seconds.
pub const WARMUP_SECONDS: f64 = 1.0;
/// How long each part of the time-line is, in seconds.
pub const PART_SECONDS: f64 = 0.25;
/// Requests a second in such a window: what every design can do.
pub const RATE: u64 = 100;
/// So many parts, one after another, that are as before: then it is over.
const CALM_PARTS: usize = 4;
/// Half of all requests take no longer than this many times what they took before.
const CALM_TIMES: f64 = 3.0;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The node that leads the graph, or holds its lock, is killed; where nobody does, the first.
    NodeKilled,
    /// Redis forgets all that it knows.
    LockForgotten,
    /// Postgres ends at once, as by `pg_ctl stop -m immediate`, and is started again.
    DatabaseRestarted,
    /// Another node starts, and is asked for the graph.
    NodeJoins,
    /// The whole log is exported.
    LogIsExported,
}

impl Event {
    /// Whether it is something of servers, which an SQLite database has not.
    #[must_use]
    pub fn needs_servers(self) -> bool {
        matches!(self, Self::LockForgotten | Self::DatabaseRestarted)
    }
}

/// A window in which something happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct TimeLine {
    /// What happened.
    pub event: String,
    /// From when on it was prepared, in seconds from the beginning of the window: nodes may have
    /// been held up by that.
    pub prepared_seconds: f64,
    /// When it happened.
    pub at_seconds: f64,
    /// How long it took: of a killed node nothing, of a server that was started again until it
    /// answered, of who joined until it had the graph.
    pub took_seconds: f64,
    /// How long each part is.
    pub part_seconds: f64,
    /// The parts of the window.
    pub parts: Vec<Part>,
    /// From when it happened until all is as before; none if that was not seen.
    pub recovered_seconds: Option<f64>,
}

objects_both_ways!(TimeLine);

impl TimeLine {
    /// From the event on, the first part from which on some in a row are as those were before it
    /// was prepared: all requests completed, half of them in about the time that they took before.
    /// Until that part begins, or nothing, if that is the one in which it happened. `None` if there
    /// is none, or nothing before.
    #[must_use]
    pub fn recovery(
        parts: &[Part],
        part_seconds: f64,
        [prepared_seconds, at_seconds]: [f64; 2],
    ) -> Option<f64> {
        let index = |seconds: f64| (seconds / part_seconds) as usize;
        let of_event = index(at_seconds);
        let before = parts.iter().take(index(prepared_seconds));
        let before: Vec<f64> = before.filter_map(|part| part.p50_us).collect();
        let usual = median(&before)?;
        let is_calm = |part: &Part| {
            part.refused == 0
                && part.failed == 0
                && part.p50_us.is_some_and(|p50| p50 <= CALM_TIMES * usual)
        };
        let after = parts.get(of_event..)?;
        let calm = after.windows(CALM_PARTS).position(|parts| parts.iter().all(is_calm))?;
        Some((after[calm].from_seconds - at_seconds).max(0.0))
    }

    /// Whether it fits together: the parts are those of a window, and what is said of them is so.
    ///
    /// # Errors
    /// Says what does not.
    pub fn validate(&self) -> Result<(), String> {
        let Self { prepared_seconds, at_seconds, took_seconds, part_seconds, .. } = self;
        let Self { parts, recovered_seconds, .. } = self;
        if !(*part_seconds > 0.0 && parts.len() <= MOST) {
            return Err(format!("`part_seconds` is {part_seconds}, of {} parts", parts.len()));
        }
        for (name, seconds) in [
            ("prepared_seconds", prepared_seconds),
            ("at_seconds", at_seconds),
            ("took_seconds", took_seconds),
        ] {
            if !(0.0..=1e9).contains(seconds) {
                return Err(format!("`{name}` is {seconds}"));
            }
        }
        let is_in_place = |(index, part): (usize, &Part)| {
            (part.from_seconds - index as f64 * part_seconds).abs() < 1e-6
        };
        if !parts.iter().enumerate().all(is_in_place) {
            return Err("`parts` do not follow each other".to_owned());
        }
        let made = Self::recovery(parts, *part_seconds, [*prepared_seconds, *at_seconds]);
        let differ = match (recovered_seconds, made) {
            // But for the digits that are written.
            (Some(said), Some(made)) => (said - made).abs() > 1e-9,
            (said, made) => said.is_some() != made.is_some(),
        };
        if differ {
            return Err(format!("`recovered_seconds` is {recovered_seconds:?}, not {made:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each part with the time that half of its requests took, and how many were refused.
    fn parts(of: &[(f64, u64)]) -> Vec<Part> {
        let part = |(index, (p50_us, refused)): (usize, &(f64, u64))| Part {
            from_seconds: index as f64 * PART_SECONDS,
            completed: 10,
            refused: *refused,
            failed: 0,
            answered: 10,
            p50_us: (*p50_us > 0.0).then_some(*p50_us),
            max_us: None,
        };
        of.iter().enumerate().map(part).collect()
    }

    #[test]
    fn all_is_as_before_when_some_parts_in_a_row_are() {
        let recovery =
            |of: &[(f64, u64)]| TimeLine::recovery(&parts(of), PART_SECONDS, [0.5, 0.625]);
        let calm = [(100.0, 0); 4];
        let before = [(100.0, 0), (120.0, 0)];
        let with = |after: &[(f64, u64)]| recovery(&[&before[..], after, &calm].concat());
        assert_eq!(with(&[]), Some(0.0), "nothing was seen of it");
        assert_eq!(with(&[(100.0, 1)]), Some(0.125), "refused");
        assert_eq!(with(&[(400.0, 0), (100.0, 0), (0.0, 0)]), Some(0.625), "slow, then nobody");
        assert_eq!(recovery(&[&before[..], &calm[1..]].concat()), None, "too few to say");
        assert_eq!(recovery(&calm[..1]), None);
    }

    #[test]
    fn a_time_line_is_refused_that_does_not_fit_together() {
        let parts = parts(&[(100.0, 0); 8]);
        let line = TimeLine {
            event: "it rained".to_owned(),
            prepared_seconds: 0.5,
            at_seconds: 0.6,
            took_seconds: 0.0,
            part_seconds: PART_SECONDS,
            recovered_seconds: Some(0.0),
            parts,
        };
        assert_eq!(line.validate(), Ok(()));
        let refused = |change: fn(&mut TimeLine), says: &str| {
            let mut other = line.clone();
            change(&mut other);
            let said = other.validate().unwrap_err();
            assert!(said.contains(says), "{said}");
        };
        refused(|line| line.part_seconds = 0.0, "`part_seconds`");
        refused(|line| line.at_seconds = -1.0, "`at_seconds`");
        refused(|line| line.took_seconds = f64::NAN, "`took_seconds`");
        refused(|line| line.recovered_seconds = Some(1.0), "`recovered_seconds`");
        refused(|line| line.parts.swap(2, 3), "do not follow");
    }

    #[test]
    fn a_time_line_is_there_where_something_happens_and_nowhere_else() {
        use super::super::results::{Key, Outcome};
        use super::super::{made_up, workloads};
        for workload in &workloads::ALL {
            let results = made_up::pair(&[1.0], |_| {});
            let key = Key { workload: workload.name.to_owned(), ..results.points[0].key.clone() };
            assert_eq!(key.has_event(), workload.event.is_some(), "{}", workload.name);
        }
        let mut results = made_up::pair(&[2_000.0], |_| {});
        results.points[1].key.workload = "node-killed".to_owned();
        let said = results.validate().unwrap_err();
        assert!(said.contains("timeline` is none"), "{said}");
        let mut results = made_up::pair(&[2_000.0], |outcome| {
            let Outcome::Measured(measured) = outcome else { panic!() };
            measured.timeline = Some(TimeLine {
                event: String::new(),
                prepared_seconds: 0.0,
                at_seconds: 0.0,
                took_seconds: 0.0,
                part_seconds: 1.0,
                recovered_seconds: None,
                parts: Vec::new(),
            });
        });
        results.comparisons = None;
        let said = results.validate().unwrap_err();
        assert!(said.contains("in which nothing happens"), "{said}");
    }
}
