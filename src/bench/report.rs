//! What a run found: counts, rates and latencies, as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::phases::Phases;
use super::{BenchError, DriveArgs, Format, Outcome};
use crate::terminal::OneLine;

/// Latencies in nanoseconds; three digits are kept.
pub struct Latencies(Histogram<u64>);

/// A histogram has room for latencies of up to this, in nanoseconds: two minutes. Beyond, it grows,
/// which the clients of a run, each with its own, would do again and again.
const USUAL_NS: u64 = 120_000_000_000;

impl Default for Latencies {
    fn default() -> Self {
        let mut latencies =
            Histogram::new_with_bounds(1, USUAL_NS, 3).expect("three digits are allowed");
        latencies.auto(true);
        Self(latencies)
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.record(ns.max(1)).expect("the histogram grows as needed");
    }

    fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the histogram grows as needed");
    }

    /// p50, p90, p99, p99.9 and max, in microseconds.
    fn quantiles_us(&self) -> [f64; 5] {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile: f64| us(self.0.value_at_quantile(quantile));
        [at(0.5), at(0.9), at(0.99), at(0.999), us(self.0.max())]
    }

    fn json(&self) -> Value {
        let [p50, p90, p99, p999, max] = self.quantiles_us();
        json!({"p50_us": p50, "p90_us": p90, "p99_us": p99, "p999_us": p999, "max_us": max})
    }
}

/// What one client counted, or all of them.
#[derive(Default)]
pub struct Tally {
    /// By call and verdict, of requests that were due after the warm-up.
    pub latencies: BTreeMap<(&'static str, String), Latencies>,
    /// Of writes, latency less the commit's time.
    pub beyond_commit: Latencies,
    /// By history event, of all requests.
    pub events: BTreeMap<&'static str, u64>,
    /// Requests sent.
    pub sent: u64,
    /// Requests that were due before the end and not sent by then.
    pub unsent: u64,
    /// Answers that no documentation allows, and the first of them.
    pub undocumented: Option<(u64, String)>,
}

impl Tally {
    /// Counts one request, and its latency if it is measured.
    pub fn count(&mut self, call: &'static str, outcome: &Outcome, latency: Option<Duration>) {
        self.sent += 1;
        *self.events.entry(outcome.event()).or_default() += 1;
        if let Outcome::Undocumented(what) = outcome {
            self.undocumented.get_or_insert_with(|| (0, what.clone())).0 += 1;
        }
        if let Some(latency) = latency {
            self.latencies.entry((call, outcome.label())).or_default().record(latency);
        }
    }

    /// Adds what another client counted.
    pub fn add(&mut self, other: Self) {
        for (key, latencies) in other.latencies {
            self.latencies.entry(key).or_default().add(&latencies);
        }
        self.beyond_commit.add(&other.beyond_commit);
        for (event, count) in other.events {
            *self.events.entry(event).or_default() += count;
        }
        self.sent += other.sent;
        self.unsent += other.unsent;
        if let Some((count, first)) = other.undocumented {
            self.undocumented.get_or_insert((0, first)).0 += count;
        }
    }
}

/// A whole run.
pub struct Report {
    pub(super) args: DriveArgs,
    pub(super) tally: Tally,
    /// How long was measured.
    pub(super) measured: Duration,
    /// What the first read took, before anything was measured.
    pub(super) first_read: Duration,
    /// What the service says of its turns while this was measured.
    pub(super) phases: Phases,
    /// Operations in a request of the load workload, all together.
    pub(super) loaded: Option<u64>,
    /// The graph's version in the end.
    pub(super) final_version: Option<u64>,
    /// Why the run ended before its end.
    pub(super) away: Option<String>,
}

impl Report {
    /// The figures in the form that was asked for.
    #[must_use]
    pub fn render(&self) -> String {
        match self.args.format {
            Format::Text => self.text(),
            Format::Json => format!("{:#}", self.json()),
        }
    }

    /// Whether the run came to a good end.
    ///
    /// # Errors
    /// [`BenchError`] says why not.
    pub fn verdict(&self) -> Result<(), BenchError> {
        if let Some((count, first)) = &self.tally.undocumented {
            return Err(BenchError::Undocumented { count: *count, first: first.clone() });
        }
        match &self.away {
            Some(why) => Err(BenchError::Unavailable(why.clone())),
            None => Ok(()),
        }
    }

    fn count(&self) -> u64 {
        self.tally.latencies.values().map(|latencies| latencies.0.len()).sum()
    }

    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.measured.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn beyond_commit(&self) -> Option<&Latencies> {
        (!self.tally.beyond_commit.0.is_empty()).then_some(&self.tally.beyond_commit)
    }

    /// All of one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let requests: Vec<Value> = self
            .tally
            .latencies
            .iter()
            .map(|((call, verdict), latencies)| {
                let count = latencies.0.len();
                let rate = self.rate(count);
                let latency = latencies.json();
                json!({"call": call, "verdict": verdict, "count": count, "per_second": rate, "latency": latency})
            })
            .collect();
        json!({
            "arguments": self.args,
            "measured_seconds": self.measured.as_secs_f64(),
            "first_read_seconds": self.first_read.as_secs_f64(),
            "count": self.count(),
            "per_second": self.rate(self.count()),
            "sent": self.tally.sent,
            "unsent": self.tally.unsent,
            "undocumented": self.tally.undocumented.as_ref().map_or(0, |(count, _)| *count),
            "requests": requests,
            "phases": self.phases.json(),
            "beyond_commit": self.beyond_commit().map(Latencies::json),
            "operations_per_second": self.loaded.map(|operations| self.rate(operations)),
            "final_version": self.final_version,
            "ended_early": self.away,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let row = |text: &mut String,
                   name: &str,
                   verdict: &str,
                   count: u64,
                   latencies: &Latencies| {
            let [p50, p90, p99, p999, max] = latencies.quantiles_us();
            // The server's word.
            let verdict = OneLine(verdict);
            let rate = self.rate(count);
            let _ = writeln!(
                text,
                "{name:<15} {verdict:<29} {count:>9} {rate:>10.1} {p50:>10.1} {p90:>10.1} {p99:>10.1} {p999:>10.1} {max:>11.1}"
            );
        };
        let _ = writeln!(
            text,
            "{:<15} {:<29} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>11}",
            "call",
            "verdict",
            "count",
            "per second",
            "p50 µs",
            "p90 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs"
        );
        let mut all = Latencies::default();
        for ((call, verdict), latencies) in &self.tally.latencies {
            row(&mut text, call, verdict, latencies.0.len(), latencies);
            all.add(latencies);
        }
        row(&mut text, "all", "", self.count(), &all);
        if let Some(beyond) = self.beyond_commit() {
            row(&mut text, "beyond commit", "writes less their commit", beyond.0.len(), beyond);
        }
        text += &self.phases.table();
        if let Some(operations) = self.loaded {
            let (seconds, rate) = (self.measured.as_secs_f64(), self.rate(operations));
            let _ = writeln!(
                text,
                "loaded: {operations} operations in {seconds:.1} s, {rate:.0} a second"
            );
        }
        if self.tally.unsent > 0 {
            let _ = writeln!(
                text,
                "not sent: {} requests were due before the end; the rate was too high",
                self.tally.unsent
            );
        }
        let version = self
            .final_version
            .map_or_else(String::new, |version| format!("; the graph is at version {version}"));
        let (measured, first_read) = (self.measured.as_secs_f64(), self.first_read.as_secs_f64());
        let _ = write!(
            text,
            "measured {measured:.1} s, after a first read of {first_read:.3} s{version}"
        );
        text
    }
}
