//! What only turns by leadership measure.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use super::causes::{Cause, Ended};
use crate::graph::Name;
use crate::service::duration_buckets;

pub(super) struct Metrics {
    led: IntGauge,
    /// By graph: as many as are led.
    since: GaugeVec,
    take_overs: IntCounterVec,
    /// From the grant of the lock until writes can be decided.
    pub(super) take_over: Histogram,
    ended: IntCounterVec,
    pub(super) refused_writes: IntCounter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let options = |name: &str, help: &str| Opts::new(name, help);
        let by = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(options(name, help), &[label]).expect("the name is valid")
        };
        let since = options("fencepost_leader_since_seconds", "Since when a graph is led here");
        let take_over = HistogramOpts::new(
            "fencepost_leader_take_over_seconds",
            "From the grant of the lock until the graph is led",
        );
        Self {
            led: IntGauge::new("fencepost_leader_graphs", "Graphs that this process leads")
                .expect("the name is valid"),
            since: GaugeVec::new(since, &["graph"]).expect("the name is valid"),
            take_overs: by("fencepost_leader_take_overs_total", "Take-overs, by cause", "cause"),
            take_over: Histogram::with_opts(take_over.buckets(duration_buckets()))
                .expect("the name is valid"),
            ended: by("fencepost_leader_ended_total", "Graphs given up or lost, by cause", "cause"),
            refused_writes: IntCounter::new(
                "fencepost_leader_refused_writes_total",
                "Commits that the database refused as another node had taken over",
            )
            .expect("the name is valid"),
        }
    }

    pub(super) fn began(&self, graph: &Name, cause: Cause) {
        self.led.inc();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.since.with_label_values(&[graph.as_str()]).set(since.as_secs_f64());
        self.take_overs.with_label_values(&[cause.word()]).inc();
    }

    pub(super) fn ended(&self, graph: &Name, why: Ended) {
        self.led.dec();
        // Whoever led it before has removed it too.
        drop(self.since.remove_label_values(&[graph.as_str()]));
        self.ended.with_label_values(&[why.word()]).inc();
    }

    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let Self { led, since, take_overs, take_over, ended, refused_writes } = self;
        vec![
            Box::new(led.clone()),
            Box::new(since.clone()),
            Box::new(take_overs.clone()),
            Box::new(take_over.clone()),
            Box::new(ended.clone()),
            Box::new(refused_writes.clone()),
        ]
    }
}
