//! Durations by how many there were of each: an HDR histogram that can be written down and added to
//! another.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::object::objects_both_ways;

/// Durations in nanoseconds, at least 1; three significant digits are kept.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

/// A histogram has room for durations of up to this, in nanoseconds: two minutes. Beyond, it grows,
/// which the clients of a run, each with its own, would do again and again.
const USUAL_NS: u64 = 120_000_000_000;

/// What an encoded histogram begins with.
const HEADER: &str = "ns3";

/// Percentiles of a histogram, in microseconds. Each is the upper end of the bucket it falls into.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Percentiles {
    /// Half of all are not above this.
    pub p50_us: f64,
    /// Nine of ten.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1,000.
    pub p999_us: f64,
    /// All.
    pub max_us: f64,
}

objects_both_ways!(Percentiles);

/// Text that is no encoded histogram.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no part of a histogram as `ns3 NANOSECONDS:COUNT …`")]
pub struct NotEncoded(String);

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
        self.record_many(latency, 1);
    }

    /// Counts `count` of the same length.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.record_n(ns.max(1), count).expect("the histogram grows as needed");
    }

    /// Counts all that the other counted. Percentiles of the sum are those of all together; they
    /// cannot be had from the percentiles of the parts.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the histogram grows as needed");
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// `None` if nothing was counted.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile: f64| us(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(self.0.max()),
        })
    }

    /// What so great a share of all is not above, in microseconds: the upper end of its bucket.
    /// `None` if nothing was counted.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// All that was counted, as text: `ns3`, then for each bucket in use its upper end in
    /// nanoseconds and its count, as in `ns3 1023:2 4099:1`. Nothing is lost:
    /// [`decoded`](Self::decoded) gives an equal histogram. O(buckets in use), at most some
    /// thousands.
    #[must_use]
    pub fn encoded(&self) -> String {
        let mut text = HEADER.to_owned();
        for bucket in self.0.iter_recorded() {
            let (value, count) = (bucket.value_iterated_to(), bucket.count_at_value());
            let _ = write!(text, " {value}:{count}");
        }
        text
    }

    /// The histogram that was [`encoded`](Self::encoded).
    ///
    /// # Errors
    /// [`NotEncoded`] names the first part that cannot be read.
    pub fn decoded(text: &str) -> Result<Self, NotEncoded> {
        let mut parts = text.split(' ');
        let header = parts.next().unwrap_or_default();
        if header != HEADER {
            return Err(NotEncoded(header.to_owned()));
        }
        let mut latencies = Self::default();
        for part in parts {
            let bucket = part.split_once(':').and_then(|(value, count)| {
                Some((value.parse::<u64>().ok()?, count.parse::<u64>().ok()?))
            });
            let (value, count) = bucket.ok_or_else(|| NotEncoded(part.to_owned()))?;
            latencies.record_many(Duration::from_nanos(value), count);
        }
        Ok(latencies)
    }

    /// Percentiles, count and the histogram itself; null if nothing was counted.
    pub(super) fn json(&self) -> Value {
        let Some(Percentiles { p50_us, p90_us, p99_us, p999_us, max_us }) = self.percentiles()
        else {
            return Value::Null;
        };
        json!({
            "count": self.count(),
            "p50_us": p50_us,
            "p90_us": p90_us,
            "p99_us": p99_us,
            "p999_us": p999_us,
            "max_us": max_us,
            "histogram": self.encoded(),
        })
    }
}

impl PartialEq for Latencies {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl std::fmt::Debug for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.encoded())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Random;

    #[test]
    fn what_is_encoded_comes_back_and_adds_up() {
        let (mut whole, mut parts) = (Latencies::default(), vec![Latencies::default(); 3]);
        let mut random = Random::of(&[1]);
        for number in 0..10_000 {
            // From nanoseconds to some minutes, for which a histogram grows.
            let digits = random.below(12) as u32;
            let ns = random.below(10_u64.pow(digits));
            whole.record(Duration::from_nanos(ns));
            parts[number % 3].record(Duration::from_nanos(ns));
        }
        let mut sum = Latencies::default();
        for part in &parts {
            let back = Latencies::decoded(&part.encoded()).unwrap();
            assert_eq!(back.percentiles(), part.percentiles());
            sum.add(&back);
        }
        assert_eq!((sum.count(), sum.encoded()), (10_000, whole.encoded()));
        assert_eq!(sum.percentiles(), whole.percentiles());
        let none = Latencies::decoded(&Latencies::default().encoded()).unwrap();
        assert_eq!((none.count(), none.percentiles(), none.json()), (0, None, Value::Null));
    }

    #[test]
    fn what_is_no_histogram_is_named() {
        for (text, part) in [("", ""), ("us3 1:2", "us3"), ("ns3 1:2 3", "3"), ("ns3 1:-1", "1:-1")]
        {
            assert_eq!(Latencies::decoded(text).unwrap_err(), NotEncoded(part.to_owned()));
        }
    }
}
