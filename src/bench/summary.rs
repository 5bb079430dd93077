//! What a run found, in figures that another program can go on with.

use std::time::Duration;

use super::class::Class;
use super::latencies::Latencies;
use super::schedule::Schedule;
use super::tally::Tally;

/// Where less than this share of a rate was achieved, latencies say nothing: they grow for as long
/// as the run goes on.
const ENOUGH: f64 = 0.99;
/// Steps at most in which the waiting times of requests that were not sent are counted.
const BACKLOG_STEPS: u64 = 100_000;

/// A run in figures. The *window* is what is measured: it begins with the end of the warm-up.
pub struct Summary {
    /// How long the window is: with `--seconds`, exactly that; with `--requests`, until the last
    /// answer.
    pub window: Duration,
    /// By class, call and verdict.
    pub rows: Vec<Row>,
    /// Requests served or rejected within the window, by its seconds.
    pub completed_per_second: f64,
    /// With a rate: how many requests were due in the window.
    pub due: Option<u64>,
    /// How many of those were sent in time and answered, whatever the verdict.
    pub kept_up: u64,
    /// With a rate: the share of those that were sent by the end of the window, or of the schedule
    /// where the run ends with its last request, and answered, whatever the verdict. `None` where
    /// none were due.
    pub achieved: Option<f64>,
    /// Whether less than 99 % of the rate were achieved. Latencies then are no finding: they are
    /// those of a queue that grew for as long as it was looked at.
    pub saturated: bool,
    /// Of requests that were due in the window and not sent by its end: how long they had been due.
    /// Their latencies would have been longer: these are lower bounds.
    pub backlog: Latencies,
    /// Requests that were under way at the end of the window. Their answers are in the latencies
    /// and not in the rates.
    pub in_flight_at_end: u64,
    /// Of what was served or rejected, by the node that the client asks, from the intended start.
    pub by_node: Vec<Latencies>,
    /// How late the driver itself sent: from when a request was due and a client was free to when
    /// it was sent. It is part of the latencies, and not the service's.
    pub lateness: Latencies,
}

/// The requests of one call that ended in one way.
pub struct Row {
    /// The id of the call in the OpenAPI document; `fetch` for any other path.
    pub call: &'static str,
    /// As in `accepted` or `rejected:cycle`.
    pub verdict: String,
    /// What that means.
    pub class: Class,
    /// Answered within the window, whenever sent.
    pub count: u64,
    /// Of those whose intended start lies in the window, whenever answered: from when they were
    /// due; without a rate, from sending.
    pub latency: Latencies,
    /// The same from sending.
    pub service: Latencies,
    /// Of refusals and failures, what the first said.
    pub first_error: Option<String>,
}

impl Summary {
    /// How many of a class were answered within the window.
    #[must_use]
    pub fn count(&self, class: Class) -> u64 {
        self.rows.iter().filter(|row| row.class == class).map(|row| row.count).sum()
    }

    /// Latencies of all that were served or rejected, from the intended start, with the lower
    /// bounds of those that were not sent: as many as were due, so percentiles are lower bounds
    /// where there is a backlog.
    #[must_use]
    pub fn latency(&self) -> Latencies {
        let mut latency = self.completed(|row| &row.latency);
        latency.add(&self.backlog);
        latency
    }

    /// Of all that were served or rejected, the time from sending to the answer.
    #[must_use]
    pub fn service(&self) -> Latencies {
        self.completed(|row| &row.service)
    }

    fn completed(&self, of: impl Fn(&Row) -> &Latencies) -> Latencies {
        let mut all = Latencies::default();
        let rows = self.rows.iter().filter(|row| row.class.is_completed());
        rows.for_each(|row| all.add(of(row)));
        all
    }

    pub(super) fn new(tally: &Tally, extent: &Extent) -> Self {
        let mut rows: Vec<Row> = tally
            .rows
            .iter()
            .map(|((call, verdict), counted)| Row {
                call,
                verdict: verdict.clone(),
                class: counted.class,
                count: counted.count,
                latency: counted.latency.clone(),
                service: counted.service.as_ref().unwrap_or(&counted.latency).clone(),
                first_error: counted.first_error.as_ref().map(|(_, error)| error.clone()),
            })
            .collect();
        rows.sort_by_key(|row| row.class);
        let completed: u64 =
            rows.iter().filter(|row| row.class.is_completed()).map(|row| row.count).sum();
        let achieved = achieved(tally.kept_up, extent.due);
        Self {
            window: extent.window,
            rows,
            completed_per_second: per_second(completed, extent.window.as_secs_f64()),
            due: extent.due,
            kept_up: tally.kept_up,
            achieved,
            saturated: is_saturated(achieved),
            backlog: extent.backlog.clone(),
            in_flight_at_end: tally.in_flight_at_end,
            by_node: tally.by_node.clone(),
            lateness: tally.lateness.clone(),
        }
    }
}

/// By the length of the window in seconds; 0 for one without length.
pub fn per_second(count: u64, window_seconds: f64) -> f64 {
    if window_seconds > 0.0 { count as f64 / window_seconds } else { 0.0 }
}

/// The share of a rate that was achieved; `None` where nothing was due.
pub fn achieved(kept_up: u64, due: Option<u64>) -> Option<f64> {
    due.filter(|due| *due > 0).map(|due| kept_up as f64 / due as f64)
}

/// Whether that share is too small for latencies to say anything.
pub fn is_saturated(achieved: Option<f64>) -> bool {
    achieved.is_some_and(|achieved| achieved < ENOUGH)
}

/// How far the window went, and what was not sent in it.
pub struct Extent {
    pub window: Duration,
    pub due: Option<u64>,
    pub backlog: Latencies,
}

impl Extent {
    /// Of a run whose clients are done. `next`: the number of the first request that no client took
    /// on; `abandoned`: those that were taken on and not sent. `over`: when the run ended before
    /// its time, because all was answered or it was given up.
    pub fn new(schedule: &Schedule, abandoned: &[u64], next: u64, over: Option<Duration>) -> Self {
        let end = [schedule.end, over].into_iter().flatten().min().unwrap_or_default();
        let due = schedule.due_in_window(end);
        let mut backlog = Latencies::default();
        if let Some((first, after_last)) = due {
            let waited = |number| end.saturating_sub(schedule.due(number).unwrap_or(end));
            for &number in abandoned {
                if (first..after_last).contains(&number) {
                    backlog.record(waited(number));
                }
            }
            let from = next.max(first);
            // Of several that are counted as one, the one that was due last: a lower bound of all.
            let step = after_last.saturating_sub(from).div_ceil(BACKLOG_STEPS).max(1);
            let mut number = from;
            while number < after_last {
                let count = step.min(after_last - number);
                number += count;
                backlog.record_many(waited(number - 1), count);
            }
        }
        let window = end.saturating_sub(schedule.warmup);
        Self { window, due: due.map(|(first, after_last)| after_last - first), backlog }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::schedule::Schedule;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule(requests: u64, end: Option<Duration>, rate: Option<f64>) -> Schedule {
        Schedule::of(rate, requests, SECOND / 2, end)
    }

    #[test]
    fn a_window_ends_with_its_time_or_with_the_last_of_all_requests() {
        let window = |schedule: &Schedule, over| Extent::new(schedule, &[], 10, over).window;
        let by_time = schedule(u64::MAX, Some(3 * SECOND), None);
        assert_eq!(window(&by_time, None), 3 * SECOND - SECOND / 2);
        let by_requests = schedule(10, None, None);
        assert_eq!(window(&by_requests, Some(2 * SECOND)), 2 * SECOND - SECOND / 2);
        assert_eq!(window(&by_requests, Some(SECOND / 4)), Duration::ZERO, "all in the warm-up");
        let by_both = schedule(10, Some(3 * SECOND), None);
        assert_eq!(window(&by_both, Some(2 * SECOND)), 2 * SECOND - SECOND / 2);
        assert_eq!(window(&by_both, Some(7 * SECOND)), 3 * SECOND - SECOND / 2);
    }

    #[test]
    fn what_was_not_sent_waited_from_when_it_was_due() {
        let schedule = schedule(u64::MAX, Some(SECOND), Some(100.0));
        // Due from 500 ms to 990 ms are numbers 50 to 99; 49 was of the warm-up, 100 is not due.
        let extent = Extent::new(&schedule, &[49, 96, 100], 98, None);
        let mut expected = Latencies::default();
        [40, 20, 10].into_iter().for_each(|ms| expected.record(Duration::from_millis(ms)));
        assert_eq!((extent.due, extent.backlog), (Some(50), expected));

        let mut tally = Tally { kept_up: 50, ..Tally::default() };
        let achieved = |tally: &Tally, extent: &Extent| {
            let summary = Summary::new(tally, extent);
            (summary.achieved, summary.saturated)
        };
        let whole = Extent::new(&schedule, &[], 100, None);
        assert_eq!(achieved(&tally, &whole), (Some(1.0), false));
        tally.kept_up = 49;
        assert_eq!(achieved(&tally, &whole), (Some(0.98), true));
    }

    #[test]
    fn a_backlog_of_billions_is_counted_whole_and_never_too_long() {
        let schedule = schedule(u64::MAX, Some(10 * SECOND), Some(1e9));
        let extent = Extent::new(&schedule, &[], 0, None);
        assert_eq!(extent.backlog.count(), extent.due.unwrap());
        assert_eq!(extent.backlog.count(), 9_500_000_000);
        let waited = extent.backlog.percentiles().unwrap();
        assert!(waited.max_us <= 9_500_000.0 * 1.001, "{waited:?}");
        assert!((waited.p50_us / 4_750_000.0 - 1.0).abs() < 0.01, "{waited:?}");
    }
}
