//! What the turns cost and how they end, for `/metrics`.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Counters and histograms of one service, in a registry of its own.
pub struct Metrics {
    /// Where they are registered.
    pub registry: Registry,
    /// Requests served together, by turn.
    pub write_batch: Histogram,
    /// Reads served together, by turn.
    pub read_batch: Histogram,
    /// From a request's arrival until its answer was handed on, computing a read's answer not
    /// included.
    pub request: ByKind,
    /// Of that, until its turn began.
    pub queue_wait: ByKind,
    /// From the start of a turn until all that it served were answered.
    pub turn: ByKind,
    /// Looking at the version, and bringing the image up to date.
    pub refresh: ByKind,
    /// Deciding a batch.
    pub decide: Histogram,
    /// Deciding ahead, while the commit before is under way: a batch, or what came to it.
    pub decide_ahead: Histogram,
    /// Decisions made ahead. Those that did not hold are among the wasted ones.
    pub decided_ahead: IntCounter,
    /// Sorting the whole graph, where that is done: see [`CycleCheck`](super::CycleCheck).
    pub whole_check: Histogram,
    /// From the conditional update to the acknowledged commit.
    pub commit: Histogram,
    /// Making the image the newest, and dropping the former.
    pub publish: Histogram,
    /// Handing on the answers of a turn.
    pub answer: ByKind,
    /// Images loaded whole.
    pub image_loads: IntCounter,
    /// The same, by what they were loaded from.
    pub image_loads_from: IntCounterVec,
    /// Packed snapshots, by what became of taking them.
    pub snapshots: IntCounterVec,
    /// Taking one.
    pub snapshot_seconds: Histogram,
    /// The size of the last one that this process took, in bytes.
    pub snapshot_bytes: IntGauge,
    /// When that was, in seconds since 1970, by the database's clock.
    pub snapshot_taken_at: Gauge,
    /// Images brought up to date by the changes since.
    pub image_catch_ups: IntCounter,
    /// Changes that were applied for that.
    pub changes_applied: IntCounter,
    /// Changes that were replayed to load graphs.
    pub changes_replayed: IntCounter,
    /// Graphs evicted from the cache, each with its image, to stay within its limit.
    pub graphs_evicted: IntCounter,
    /// What is kept of all graphs, in bytes.
    pub graph_bytes: IntGauge,
    /// Graphs in memory that were loaded for one request each.
    pub loads_held: IntGauge,
    /// Turns that wait until one of those is given back.
    pub loads_waiting: IntGauge,
    /// Images thrown away because the store's version was below theirs.
    pub images_ahead_of_store: IntCounter,
    /// Conditional writes that did not hold, by reason.
    pub lost_writes: IntCounterVec,
    /// Decisions on single requests that were thrown away with them.
    pub wasted_decisions: IntCounter,
    /// Requests turned away because too many were waiting.
    pub overflows: IntCounter,
    /// Graphs in the cache, those without an image included.
    pub graphs_held: IntGauge,
    /// Old idempotency keys that were deleted.
    pub purged_keys: IntCounter,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let timed =
            |name: &str, help: &str| HistogramOpts::new(name, help).buckets(duration_buckets());
        let seconds =
            |name: &str, help: &str| register(&registry, Histogram::with_opts(timed(name, help)));
        let by_kind = |name: &str, help: &str| {
            ByKind::new(&register(&registry, HistogramVec::new(timed(name, help), &["kind"])))
        };
        let sizes = |name: &str, help: &str| {
            let buckets = prometheus::exponential_buckets(1.0, 2.0, 11).expect("a fixed list");
            register(
                &registry,
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)),
            )
        };
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        Self {
            write_batch: sizes("fencepost_write_batch_requests", "Writes served by one turn"),
            read_batch: sizes("fencepost_read_batch_requests", "Reads served by one turn"),
            request: by_kind(
                "fencepost_request_seconds",
                "From a request's arrival in its queue to its answer",
            ),
            queue_wait: by_kind(
                "fencepost_queue_wait_seconds",
                "From a request's arrival to its turn",
            ),
            turn: by_kind("fencepost_turn_seconds", "A turn, all of it"),
            refresh: by_kind(
                "fencepost_refresh_seconds",
                "Bringing the image to the store's version",
            ),
            decide: seconds("fencepost_decide_seconds", "Deciding a batch"),
            decide_ahead: seconds(
                "fencepost_decide_ahead_seconds",
                "Deciding writes while the commit before them is under way",
            ),
            decided_ahead: counter(
                "fencepost_decided_ahead_total",
                "Decisions made ahead of their turn",
            ),
            whole_check: seconds(
                "fencepost_whole_check_seconds",
                "Sorting the whole graph to see that it has no cycle",
            ),
            commit: seconds("fencepost_commit_seconds", "Writing a batch, commit included"),
            publish: seconds("fencepost_publish_seconds", "Making an image the newest"),
            answer: by_kind("fencepost_answer_seconds", "Handing on the answers of a turn"),
            image_catch_ups: counter(
                "fencepost_image_catch_ups_total",
                "Images brought up to date by changes",
            ),
            changes_applied: counter(
                "fencepost_changes_applied_total",
                "Changes applied to images that were behind",
            ),
            changes_replayed: counter(
                "fencepost_changes_replayed_total",
                "Changes that were replayed to load graphs",
            ),
            graphs_evicted: counter(
                "fencepost_graphs_evicted_total",
                "Graphs let go to stay within the memory budget",
            ),
            graph_bytes: gauge("fencepost_graph_bytes", "Memory that all kept graphs take, about"),
            image_loads: counter(
                "fencepost_image_loads_total",
                "Images loaded whole from the store",
            ),
            image_loads_from: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "fencepost_image_loads_from_total",
                        "Images loaded whole, by what they were loaded from",
                    ),
                    &["from"],
                ),
            ),
            snapshots: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "fencepost_snapshots_total",
                        "Snapshots of graphs, by what became of taking them",
                    ),
                    &["outcome"],
                ),
            ),
            snapshot_seconds: seconds("fencepost_snapshot_seconds", "Taking a snapshot of a graph"),
            snapshot_bytes: gauge(
                "fencepost_snapshot_bytes",
                "Size of the last snapshot that this process took",
            ),
            snapshot_taken_at: register(
                &registry,
                Gauge::new(
                    "fencepost_snapshot_taken_timestamp_seconds",
                    "When this process took its last snapshot, in seconds since 1970",
                ),
            ),
            loads_held: gauge(
                "fencepost_loads_held",
                "Graphs in memory that were loaded for one request each",
            ),
            loads_waiting: gauge(
                "fencepost_loads_waiting",
                "Turns that wait until a loaded graph is given back",
            ),
            images_ahead_of_store: counter(
                "fencepost_images_ahead_of_store_total",
                "Images thrown away because the store went back",
            ),
            lost_writes: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "fencepost_lost_writes_total",
                        "Conditional writes that did not hold",
                    ),
                    &["reason"],
                ),
            ),
            wasted_decisions: counter(
                "fencepost_wasted_decisions_total",
                "Decisions thrown away: their write did not hold, or the state they were made on \
                 did not come to be",
            ),
            overflows: counter(
                "fencepost_queue_overflows_total",
                "Requests turned away because too many waited",
            ),
            graphs_held: gauge("fencepost_graphs_held", "Graphs kept in memory"),
            purged_keys: counter(
                "fencepost_purged_keys_total",
                "Idempotency keys deleted because they were old",
            ),
            registry,
        }
    }

    /// Takes in what others measure.
    ///
    /// # Panics
    /// If there is one of that name already.
    pub fn register(&self, collectors: Vec<Box<dyn Collector>>) {
        for collector in collectors {
            self.registry.register(collector).expect("the name is new");
        }
    }

    /// Says of the service what stays as it is: a gauge `fencepost_node_info` of 1 with these
    /// labels, and the program's version and commit. Once.
    pub fn describe(&self, labels: &[(&str, &str)]) {
        let commit = crate::COMMIT.unwrap_or("unknown");
        let program = [("version", env!("CARGO_PKG_VERSION")), ("commit", commit)];
        let (names, values): (Vec<_>, Vec<_>) = labels.iter().copied().chain(program).unzip();
        let help = "What this node is: always 1";
        let opts = Opts::new("fencepost_node_info", help);
        let gauge = register(&self.registry, IntGaugeVec::new(opts, &names));
        gauge.with_label_values(&values).set(1);
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

/// One histogram for reads, one for writes.
pub struct ByKind {
    /// Of reads.
    pub read: Histogram,
    /// Of writes.
    pub write: Histogram,
}

impl ByKind {
    fn new(vector: &HistogramVec) -> Self {
        Self {
            read: vector.with_label_values(&["read"]),
            write: vector.with_label_values(&["write"]),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> C {
    let collector = collector.expect("the name is valid");
    registry.register(Box::new(collector.clone())).expect("the name is new");
    collector
}

/// The bounds of all histograms of durations, in seconds: from a microsecond to half a minute.
pub(crate) fn duration_buckets() -> Vec<f64> {
    prometheus::exponential_buckets(0.000_001, 2.0, 26).expect("a fixed list")
}

pub(crate) fn observe(histogram: &Histogram, duration: Duration) {
    histogram.observe(duration.as_secs_f64());
}
