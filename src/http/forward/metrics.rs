//! What is counted of writes that are passed on.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

use crate::service::duration_buckets;

/// See the module.
pub(super) struct Metrics {
    sent: IntCounterVec,
    seconds: Histogram,
    received: IntCounterVec,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            IntCounterVec::new(Opts::new(name, help), &["outcome"]).expect("the name is valid")
        };
        let seconds = HistogramOpts::new(
            "fencepost_forward_seconds",
            "From sending a write to the leader to its answer",
        );
        let metrics = Self {
            sent: counter(
                "fencepost_forwarded_writes_total",
                "Writes sent to the node that leads their graph, by what came of it",
            ),
            seconds: Histogram::with_opts(seconds.buckets(duration_buckets()))
                .expect("the name is valid"),
            received: counter(
                "fencepost_received_writes_total",
                "Writes that other nodes have passed on to this one, by what came of it",
            ),
        };
        // Registering fails only for a second server on one service; its writes are then not
        // counted.
        drop(registry.register(Box::new(metrics.sent.clone())));
        drop(registry.register(Box::new(metrics.seconds.clone())));
        drop(registry.register(Box::new(metrics.received.clone())));
        metrics
    }

    pub(super) fn count(&self, outcome: &str) {
        self.sent.with_label_values(&[outcome]).inc();
    }

    pub(super) fn took(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn received(&self, outcome: &str) {
        self.received.with_label_values(&[outcome]).inc();
    }
}
