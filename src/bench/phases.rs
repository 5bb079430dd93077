//! Where the time of requests and turns goes, as the service itself has measured it: its histograms
//! in Prometheus' text format, before and after.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// What the nodes have observed between two looks.
#[derive(Default)]
pub struct Phases {
    of_all: Histograms,
    /// Nodes that were there, with what they had counted, at both looks.
    told: usize,
    nodes: usize,
    /// Of those that told something.
    commits_since_start: u64,
}

/// By name and labels, as in `name{kind="read"}`.
#[derive(Default)]
struct Histograms(BTreeMap<String, Observed>);

/// One histogram.
#[derive(Default)]
struct Observed {
    count: f64,
    /// In seconds, or in requests.
    sum: f64,
    /// Upper bounds, rising, each with how many were not above it.
    buckets: Vec<(f64, f64)>,
}

/// What is told: whose it is, what it is called, and which histogram it is, its labels in byte
/// order.
const TOLD: [(&str, &str, &str); 19] = [
    ("http", "request", "fencepost_http_request_seconds"),
    ("write", "request", "fencepost_request_seconds{kind=\"write\"}"),
    ("write", "queue", "fencepost_queue_wait_seconds{kind=\"write\"}"),
    ("write", TURN, "fencepost_turn_seconds{kind=\"write\"}"),
    ("write", "lock", "fencepost_lock_wait_seconds{mode=\"exclusive\"}"),
    ("write", "refresh", "fencepost_refresh_seconds{kind=\"write\"}"),
    ("write", AHEAD, "fencepost_decide_ahead_seconds"),
    ("write", "decide", "fencepost_decide_seconds"),
    ("write", "whole check", "fencepost_whole_check_seconds"),
    ("write", "commit", COMMIT),
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
/// While the turn before commits, so part of no turn.
const AHEAD: &str = "decide ahead";
const COMMIT: &str = "fencepost_commit_seconds";
/// Not a time.
const BATCH: &str = "batch";

/// Counters that are told where they have counted anything, whatever their labels: writes that were
/// decided while the commit before them was under way; writes that did not hold, such as appends
/// that came second; decisions thrown away with them; changes by which images were brought up to
/// date; and changes from which graphs were loaded.
const COUNTED: [(&str, &str); 5] = [
    ("decided ahead", "fencepost_decided_ahead"),
    ("lost writes", "fencepost_lost_writes"),
    ("wasted decisions", "fencepost_wasted_decisions"),
    ("changes applied", "fencepost_changes_applied"),
    ("changes replayed", "fencepost_changes_replayed"),
];

impl Histograms {
    /// What a node's `/metrics` say. Routes are added up.
    fn read(text: &str) -> Self {
        let mut histograms = Self::default();
        for line in text.lines().filter(|line| line.starts_with("fencepost_")) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels =
                labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            let (mut bound, mut kept) = (None, Vec::new());
            for (label, value) in labels {
                match label {
                    "le" => bound = Some(value.trim_matches('"')),
                    "route" => {}
                    _ => kept.push(format!("{label}={value}")),
                }
            }
            let Some((histogram, part)) = name.rsplit_once('_') else { continue };
            let labels =
                if kept.is_empty() { String::new() } else { format!("{{{}}}", kept.join(",")) };
            let Ok(value) = value.parse::<f64>() else { continue };
            let observed = histograms.0.entry(histogram.to_owned() + &labels).or_default();
            match (part, bound) {
                ("count" | "total", _) => observed.count += value,
                ("sum", _) => observed.sum += value,
                ("bucket", Some(bound)) => {
                    observed.add_bucket(bound.parse().unwrap_or(f64::INFINITY), value)
                }
                _ => {}
            }
        }
        histograms
    }

    /// What was observed since `earlier`; `None` if there is less than there was: the process was
    /// started anew in between.
    fn since(&self, earlier: &Self) -> Option<Self> {
        let nothing = Observed::default();
        let since = |(name, now): (&String, &Observed)| {
            let before = earlier.0.get(name).unwrap_or(&nothing);
            (now.count >= before.count).then(|| (name.clone(), now.since(before)))
        };
        self.0.iter().map(since).collect::<Option<_>>().map(Self)
    }

    fn add(&mut self, other: Self) {
        for (name, other) in other.0 {
            let observed = self.0.entry(name).or_default();
            observed.count += other.count;
            observed.sum += other.sum;
            other.buckets.into_iter().for_each(|(bound, count)| observed.add_bucket(bound, count));
        }
    }
}

impl Phases {
    /// From what each node said of itself at two times. A node that was away at either, or was
    /// started anew, tells nothing.
    pub fn between(before: &[Option<String>], after: &[Option<String>]) -> Self {
        let mut phases = Self { nodes: after.len(), ..Self::default() };
        for (before, after) in before.iter().zip(after) {
            let Some((before, after)) = before.as_deref().zip(after.as_deref()) else { continue };
            let after = Histograms::read(after);
            if let Some(observed) = after.since(&Histograms::read(before)) {
                phases.of_all.add(observed);
                phases.told += 1;
                phases.commits_since_start +=
                    after.0.get(COMMIT).map_or(0, |commits| commits.count as u64);
            }
        }
        phases
    }

    /// How often the nodes had committed by the second look, since they began; `None` if one of
    /// them tells nothing.
    pub fn commits_since_start(&self) -> Option<u64> {
        self.are_of_all().then_some(self.commits_since_start)
    }

    /// Whether every node told something at both looks.
    pub fn are_of_all(&self) -> bool {
        self.told == self.nodes && self.are_told()
    }

    /// Whether any node told anything.
    pub fn are_told(&self) -> bool {
        !self.of_all.0.is_empty()
    }

    /// Of what is told, what was observed at all: whose it is, what it is, and the figures.
    fn rows(&self) -> Vec<(&'static str, &'static str, &Observed)> {
        let found = TOLD.iter().filter_map(|&(whose, what, histogram)| {
            Some((whose, what, self.of_all.0.get(histogram)?))
        });
        found.filter(|(.., observed)| observed.count > 0.0).collect()
    }

    /// What was counted at all: what it is, and how often.
    fn counted(&self) -> Vec<(&'static str, f64)> {
        let sum = |counter: &str| {
            let of_it = self.of_all.0.iter().filter(|(name, _)| {
                name.strip_prefix(counter)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
            });
            of_it.map(|(_, observed)| observed.count).sum::<f64>()
        };
        let all = COUNTED.iter().map(|&(what, counter)| (what, sum(counter)));
        all.filter(|(_, count)| *count > 0.0).collect()
    }

    /// As a table, with what part of its turns each phase takes; empty if nothing was observed.
    pub fn table(&self) -> String {
        let rows = self.rows();
        let mut text = String::new();
        if rows.is_empty() {
            return text;
        }
        if self.told < self.nodes {
            let _ = writeln!(
                text,
                "of {} of {} nodes only: the others were away, or began anew",
                self.told, self.nodes
            );
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
            let turns =
                rows.iter().find(|row| row.0 == *whose && row.1 == TURN).map(|row| row.2.sum);
            let of_turn = !matches!(*what, "request" | "queue" | TURN | AHEAD);
            let share = turns
                .filter(|_| of_turn)
                .map(|turns| format!("{:.1} %", 100.0 * observed.sum / turns));
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
        for (what, count) in self.counted() {
            let _ = writeln!(text, "{what:<21} {count:>9}");
        }
        text
    }

    /// The same as JSON: microseconds, but the batches in requests; and what was counted.
    pub fn json(&self) -> Value {
        let row = |(whose, what, observed): (&str, &str, &Observed)| {
            let scale = if what == BATCH { 1.0 } else { 1e6 };
            let [mean, p50, p99] =
                [observed.mean(), observed.quantile(0.5), observed.quantile(0.99)];
            json!({
                "of": whose,
                "phase": what,
                "unit": if what == BATCH { "requests" } else { "us" },
                "count": observed.count,
                "mean": mean * scale,
                "p50": p50 * scale,
                "p99": p99 * scale,
            })
        };
        let counted = |(what, count): (&str, f64)| json!({"counted": what, "count": count});
        self.rows().into_iter().map(row).chain(self.counted().into_iter().map(counted)).collect()
    }
}

impl Observed {
    fn add_bucket(&mut self, bound: f64, count: f64) {
        match self.buckets.iter_mut().find(|bucket| bucket.0 == bound) {
            Some(bucket) => bucket.1 += count,
            None => self.buckets.push((bound, count)),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            earlier.buckets.iter().find(|bucket| bucket.0 == bound).map_or(0.0, |bucket| bucket.1)
        };
        let buckets =
            self.buckets.iter().map(|&(bound, count)| (bound, count - before(bound))).collect();
        Self { count: self.count - earlier.count, sum: self.sum - earlier.sum, buckets }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// Within the bucket that it falls into, as if all of the bucket were spread evenly; of the
    /// last, which has no end, its beginning.
    fn quantile(&self, quantile: f64) -> f64 {
        let rank = quantile * self.count;
        let (mut low, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if count >= rank && bound.is_finite() {
                let inside = count - below;
                return if inside > 0.0 {
                    low + (bound - low) * (rank - below) / inside
                } else {
                    low
                };
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
# HELP fencepost_decide_seconds Deciding a batch
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
fencepost_lost_writes_total{reason=\"conflict\"} 3
fencepost_lost_writes_total{reason=\"key\"} 1
fencepost_changes_replayed_total 0
";

    fn between(nodes: &[(Option<&str>, Option<&str>)]) -> Phases {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (before, after): (Vec<_>, Vec<_>) =
            nodes.iter().map(|(before, after)| (owned(*before), owned(*after))).unzip();
        Phases::between(&before, &after)
    }

    #[test]
    fn what_was_observed_in_between_is_told() {
        let phases = between(&[(Some(BEFORE), Some(AFTER))]);
        let found = phases.rows();
        let figures: Vec<_> =
            found.iter().map(|(whose, what, observed)| (*whose, *what, observed.count)).collect();
        assert_eq!(
            figures,
            [("http", "request", 7.0), ("write", TURN, 4.0), ("write", "decide", 4.0)]
        );
        let decide = found[2].2;
        assert!((decide.mean() - 0.0015).abs() < 1e-9);
        // All four lie between 1 and 2 ms.
        assert!(
            (decide.quantile(0.5) - 0.0015).abs() < 1e-9
                && (decide.quantile(0.25) - 0.00125).abs() < 1e-9
        );
        let row = "write decide                  4      1500.0     1500.0     1990.0   50.0 %";
        assert!(phases.table().contains(row) && !phases.table().contains("nodes only"));
        assert_eq!(phases.counted(), [("lost writes", 4.0)]);
        assert!(
            phases.table().ends_with("lost writes                   4\n"),
            "{}",
            phases.table()
        );
    }

    #[test]
    fn commits_are_counted_from_the_start_of_all_nodes() {
        let (before, after) =
            ("fencepost_commit_seconds_count 2\n", "fencepost_commit_seconds_count 6\n");
        let node = (Some(before), Some(after));
        assert_eq!(between(&[node]).commits_since_start(), Some(6));
        assert_eq!(between(&[node, node]).commits_since_start(), Some(12));
        assert_eq!(between(&[node, (Some(before), None)]).commits_since_start(), None);
        assert_eq!(between(&[(Some(BEFORE), Some(AFTER))]).commits_since_start(), Some(0));
    }

    #[test]
    fn nodes_are_added_up_but_for_those_that_were_away_or_began_anew() {
        let node = (Some(BEFORE), Some(AFTER));
        let both = between(&[node, node]);
        assert_eq!(both.rows()[0].2.count, 14.0);
        assert!((both.rows()[2].2.quantile(0.5) - 0.0015).abs() < 1e-9);
        let one_left = between(&[
            node,
            (Some(BEFORE), None),
            (None, Some(AFTER)),
            (Some(AFTER), Some(BEFORE)),
        ]);
        assert_eq!(one_left.rows()[0].2.count, 7.0);
        assert!(one_left.table().starts_with("of 1 of 4 nodes only"));
        assert_eq!(between(&[(None, None)]).table(), "");
    }
}
