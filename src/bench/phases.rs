//! Where the time of requests and turns goes, as the service itself has measured it: its histograms in Prometheus' text format, before and after.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// Histograms by name and labels, as in `name{kind="read"}`.
#[derive(Default)]
pub struct Phases(BTreeMap<String, Observed>);

/// One histogram.
#[derive(Default)]
struct Observed {
    count: f64,
    /// In seconds, or in requests.
    sum: f64,
    /// Upper bounds, rising, each with how many were not above it.
    buckets: Vec<(f64, f64)>,
}

/// What is told: whose it is, what it is called, and which histogram it is, its labels in byte order.
const TOLD: [(&str, &str, &str); 18] = [
    ("http", "request", "fencepost_http_request_seconds"),
    ("write", "request", "fencepost_request_seconds{kind=\"write\"}"),
    ("write", "queue", "fencepost_queue_wait_seconds{kind=\"write\"}"),
    ("write", TURN, "fencepost_turn_seconds{kind=\"write\"}"),
    ("write", "lock", "fencepost_lock_wait_seconds{mode=\"exclusive\"}"),
    ("write", "refresh", "fencepost_refresh_seconds{kind=\"write\"}"),
    ("write", "decide", "fencepost_decide_seconds"),
    ("write", "whole check", "fencepost_whole_check_seconds"),
    ("write", "commit", "fencepost_commit_seconds"),
    ("write", "publish", "fencepost_publish_seconds"),
    ("write", "answer", "fencepost_answer_seconds{kind=\"write\"}"),
    ("write", BATCH, "fencepost_write_batch_requests"),
    ("read", "request", "fencepost_request_seconds{kind=\"read\"}"),
    ("read", "queue", "fencepost_queue_wait_seconds{kind=\"read\"}"),
    ("read", TURN, "fencepost_turn_seconds{kind=\"read\"}"),
    ("read", "lock", "fencepost_lock_wait_seconds{mode=\"shared\"}"),
    ("read", "refresh", "fencepost_refresh_seconds{kind=\"read\"}"),
    ("read", BATCH, "fencepost_read_batch_requests"),
];
const TURN: &str = "turn";
/// Not a time.
const BATCH: &str = "batch";

impl Phases {
    /// Adds what one node's `/metrics` say. Routes are added up.
    pub fn add(&mut self, text: &str) {
        for line in text.lines().filter(|line| line.starts_with("fencepost_")) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            let (mut bound, mut kept) = (None, Vec::new());
            for (label, value) in labels {
                match label {
                    "le" => bound = Some(value.trim_matches('"')),
                    "route" => {}
                    _ => kept.push(format!("{label}={value}")),
                }
            }
            let Some((histogram, part)) = name.rsplit_once('_') else { continue };
            let labels = if kept.is_empty() { String::new() } else { format!("{{{}}}", kept.join(",")) };
            let Ok(value) = value.parse::<f64>() else { continue };
            let observed = self.0.entry(histogram.to_owned() + &labels).or_default();
            match (part, bound) {
                ("count", _) => observed.count += value,
                ("sum", _) => observed.sum += value,
                ("bucket", Some(bound)) => observed.add_bucket(bound.parse().unwrap_or(f64::INFINITY), value),
                _ => {}
            }
        }
    }

    /// What was observed since `earlier`, of what is told; whose it is, what it is, and the figures.
    fn since<'p>(&'p self, earlier: &'p Self) -> Vec<(&'static str, &'static str, Observed)> {
        let found = TOLD.iter().filter_map(|&(whose, what, histogram)| {
            let now = self.0.get(histogram)?;
            let observed = now.since(earlier.0.get(histogram));
            (observed.count > 0.0).then_some((whose, what, observed))
        });
        found.collect()
    }

    /// As a table, with what part of its turns each phase takes; empty if nothing was observed.
    pub fn table(&self, earlier: &Self) -> String {
        let rows = self.since(earlier);
        let mut text = String::new();
        if rows.is_empty() {
            return text;
        }
        let _ = writeln!(
            text,
            "{:<21} {:>9} {:>11} {:>10} {:>10} {:>8}",
            "where the time goes", "count", "mean µs", "p50 µs", "p99 µs", "of turns"
        );
        for (whose, what, observed) in &rows {
            if *what == BATCH {
                let _ = writeln!(text, "{whose}s a turn{:>22.1}", observed.mean());
                continue;
            }
            let turns = rows.iter().find(|row| row.0 == *whose && row.1 == TURN).map(|row| row.2.sum);
            let of_turn = !matches!(*what, "request" | "queue" | TURN);
            let share = turns.filter(|_| of_turn).map(|turns| format!("{:.1} %", 100.0 * observed.sum / turns));
            let _ = writeln!(
                text,
                "{:<21} {:>9} {:>11.1} {:>10.1} {:>10.1} {:>8}",
                format!("{whose} {what}"),
                observed.count,
                observed.mean() * 1e6,
                observed.quantile(0.5) * 1e6,
                observed.quantile(0.99) * 1e6,
                share.unwrap_or_default()
            );
        }
        text
    }

    /// The same as JSON: microseconds, but the batches in requests.
    pub fn json(&self, earlier: &Self) -> Value {
        let row = |(whose, what, observed): (&str, &str, Observed)| {
            let scale = if what == BATCH { 1.0 } else { 1e6 };
            let [mean, p50, p99] = [observed.mean(), observed.quantile(0.5), observed.quantile(0.99)];
            json!({"of": whose, "phase": what, "count": observed.count, "mean": mean * scale, "p50": p50 * scale, "p99": p99 * scale})
        };
        self.since(earlier).into_iter().map(row).collect()
    }
}

impl Observed {
    fn add_bucket(&mut self, bound: f64, count: f64) {
        match self.buckets.iter_mut().find(|bucket| bucket.0 == bound) {
            Some(bucket) => bucket.1 += count,
            None => self.buckets.push((bound, count)),
        }
    }

    fn since(&self, earlier: Option<&Self>) -> Self {
        let nothing = Self::default();
        let earlier = earlier.unwrap_or(&nothing);
        let before =
            |bound: f64| earlier.buckets.iter().find(|bucket| bucket.0 == bound).map_or(0.0, |bucket| bucket.1);
        let buckets = self.buckets.iter().map(|&(bound, count)| (bound, count - before(bound))).collect();
        Self { count: self.count - earlier.count, sum: self.sum - earlier.sum, buckets }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// Within the bucket that it falls into, as if all of the bucket were spread evenly; of the last, which has no end, its beginning.
    fn quantile(&self, quantile: f64) -> f64 {
        let rank = quantile * self.count;
        let (mut low, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if count >= rank && bound.is_finite() {
                let inside = count - below;
                return if inside > 0.0 { low + (bound - low) * (rank - below) / inside } else { low };
            }
            if bound.is_finite() {
                (low, below) = (bound, count);
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# HELP fencepost_decide_seconds Judging a batch
fencepost_decide_seconds_bucket{le=\"0.001\"} 2
fencepost_decide_seconds_bucket{le=\"0.002\"} 2
fencepost_decide_seconds_bucket{le=\"+Inf\"} 2
fencepost_decide_seconds_sum 0.001
fencepost_decide_seconds_count 2
";
    const AFTER: &str = "\
fencepost_decide_seconds_bucket{le=\"0.001\"} 2
fencepost_decide_seconds_bucket{le=\"0.002\"} 6
fencepost_decide_seconds_bucket{le=\"+Inf\"} 6
fencepost_decide_seconds_sum 0.007
fencepost_decide_seconds_count 6
fencepost_turn_seconds_bucket{kind=\"write\",le=\"+Inf\"} 4
fencepost_turn_seconds_sum{kind=\"write\"} 0.012
fencepost_turn_seconds_count{kind=\"write\"} 4
fencepost_http_request_seconds_count{route=\"getJob\"} 3
fencepost_http_request_seconds_count{route=\"putJob\"} 4
fencepost_graphs_held 1
";

    fn of(texts: &[&str]) -> Phases {
        let mut phases = Phases::default();
        texts.iter().for_each(|text| phases.add(text));
        phases
    }

    #[test]
    fn what_was_observed_in_between_is_told() {
        let (before, after) = (of(&[BEFORE]), of(&[AFTER]));
        let found = after.since(&before);
        let figures: Vec<_> = found.iter().map(|(whose, what, observed)| (*whose, *what, observed.count)).collect();
        assert_eq!(figures, [("http", "request", 7.0), ("write", TURN, 4.0), ("write", "decide", 4.0)]);
        let decide = &found[2].2;
        assert!((decide.mean() - 0.0015).abs() < 1e-9);
        // All four lie between 1 and 2 ms.
        assert!((decide.quantile(0.5) - 0.0015).abs() < 1e-9 && (decide.quantile(0.25) - 0.00125).abs() < 1e-9);
        assert!(
            after.table(&before).contains("write decide                  4      1500.0     1500.0     1990.0   50.0 %")
        );
    }

    #[test]
    fn nodes_are_added_up() {
        let both = of(&[AFTER, AFTER]);
        let found = both.since(&of(&[BEFORE, BEFORE]));
        assert_eq!(found[0].2.count, 14.0);
        assert!((found[2].2.quantile(0.5) - 0.0015).abs() < 1e-9);
    }
}
