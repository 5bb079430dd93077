//! What tests of all parts share.

use std::time::{Duration, Instant};

pub mod ask;
pub mod bursts;
pub mod closing;
pub mod cluster;
pub mod contract;
pub mod event_log;
pub mod faulty;
pub mod guards;
pub mod nats;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod redis;
pub mod requests;
pub mod server;
pub mod stages;
pub mod stopped;
pub mod storm;
pub mod tail;
pub mod wire;

/// How long a test waits for what must happen before it calls that a hang.
/// `FENCEPOST_TEST_LIMIT_MS` makes it shorter, for runs that are meant to go red.
pub fn limit() -> Duration {
    let set = std::env::var("FENCEPOST_TEST_LIMIT_MS").ok().and_then(|ms| ms.parse().ok());
    set.map_or(Duration::from_secs(60), Duration::from_millis)
}

/// Waits until `condition` holds. Panics, naming `what`, when it does not within `limit`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
