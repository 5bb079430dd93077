//! What only this lock can tell, for `/metrics`. How long is waited and held is measured for all
//! locks alike, by whoever uses them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

use super::lock_request::GrantPath;
use crate::lock::Mode;

pub(super) struct Metrics {
    grants: IntCounterVec,
    hand_off: HistogramVec,
    pub(super) leases_lost: IntCounter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let grants = Opts::new(
            "fencepost_lock_grants_total",
            "Grants by mode and by path: free when asked for, handed over by a message, or handed \
             over and found out by asking",
        );
        let buckets = prometheus::exponential_buckets(0.000_01, 2.5, 16).expect("a fixed list");
        let hand_off = HistogramOpts::new(
            "fencepost_lock_hand_off_seconds",
            "From the release that handed the lock over until its new holder knew, as far as the \
             clocks of server and client agree",
        );
        let lost = "Leases that ran out under their holders, or may have";
        let grants = IntCounterVec::new(grants, &["mode", "path"]).expect("the names are valid");
        for mode in [Mode::Shared, Mode::Exclusive] {
            // There from the start, at zero.
            for path in ["free", "message", "asked"] {
                grants.with_label_values(&[mode.word(), path]);
            }
        }
        Self {
            grants,
            hand_off: HistogramVec::new(hand_off.buckets(buckets), &["mode"])
                .expect("the names are valid"),
            leases_lost: IntCounter::new("fencepost_lock_leases_lost_total", lost)
                .expect("the name is valid"),
        }
    }

    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.grants.clone()),
            Box::new(self.hand_off.clone()),
            Box::new(self.leases_lost.clone()),
        ]
    }

    pub(super) fn count_grant(&self, mode: Mode, path: GrantPath) {
        let path = match path {
            GrantPath::Free => "free",
            GrantPath::Message => "message",
            GrantPath::Asked => "asked",
        };
        self.grants.with_label_values(&[mode.word(), path]).inc();
    }

    /// Observes a hand-over, made at that time of the server's clock and known now.
    pub(super) fn observe_hand_off(&self, mode: Mode, at_us: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = now.saturating_sub(Duration::from_micros(at_us));
        self.hand_off.with_label_values(&[mode.word()]).observe(time.as_secs_f64());
    }
}
