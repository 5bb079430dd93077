//! How long a run still takes: by its plan, and by how right the plan has been so far.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// Weight of the plan's own estimate, as if it had been right for this long: the first points, for
/// which databases are made, say little of the others.
const TRUSTED: Duration = Duration::from_secs(10);

/// What was planned, and what it took.
#[derive(Debug)]
struct Pace {
    /// All that is to be measured, as planned.
    all: Duration,
    /// What was measured of it, as planned.
    done: Duration,
    /// What that took.
    took: Duration,
    /// Since when the next is measured.
    since: Instant,
}

impl Pace {
    fn new(all: Duration) -> Self {
        Self { all, done: Duration::ZERO, took: Duration::ZERO, since: Instant::now() }
    }

    fn add(&mut self, planned: Duration, took: Duration) {
        self.done += planned;
        self.took += took;
        self.since += took;
    }

    /// When the one that is measured now has taken so long.
    fn left_after(&self, running: Duration) -> Duration {
        let longer = (self.took + TRUSTED).as_secs_f64() / (self.done + TRUSTED).as_secs_f64();
        self.all.saturating_sub(self.done).mul_f64(longer).saturating_sub(running)
    }
}

/// A bar on standard error, with how long it still takes.
pub struct Progress {
    bar: ProgressBar,
    pace: Arc<Mutex<Pace>>,
}

impl Progress {
    /// Begins. All of it is planned to take so long.
    pub fn new(all: Duration) -> Self {
        let pace = Arc::new(Mutex::new(Pace::new(all)));
        let told = Arc::clone(&pace);
        let left = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let pace = told.lock().unwrap_or_else(PoisonError::into_inner);
            let left = pace.left_after(pace.since.elapsed());
            // A bar that cannot be written is no reason to end.
            let _ = write!(out, "{}", minutes(left));
        };
        let bar = ProgressBar::new(all.as_millis() as u64);
        let style = ProgressStyle::with_template("{bar:20} {percent:>3} %  {left} left  {msg}");
        bar.set_style(style.expect("the template is right").with_key("left", left));
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, pace }
    }

    /// Says what is measured now.
    pub fn says(&self, what: String) {
        self.bar.set_message(what);
    }

    /// One was measured that was planned to take so long.
    pub fn done(&self, planned: Duration) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let took = pace.since.elapsed();
        pace.add(planned, took);
        drop(pace);
        self.bar.inc(planned.as_millis() as u64);
    }

    /// Writes a line above the bar.
    pub fn beside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

/// The bar goes with it.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// As in `2 min 44 s`.
pub fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{} min {} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_what_was_measured() {
        let s = Duration::from_secs;
        let mut pace = Pace::new(s(100));
        assert_eq!(pace.left_after(s(0)), s(100));
        assert_eq!(pace.left_after(s(30)), s(70));
        // Twice as long as planned: at first believed in part.
        pace.add(s(10), s(20));
        assert_eq!(pace.left_after(s(0)), s(135));
        pace.add(s(40), s(80));
        let left = pace.left_after(s(0)).as_secs();
        assert!((90..100).contains(&left), "{left}");
        // One that takes longer than all that was left.
        assert_eq!(pace.left_after(s(1_000)), s(0));
        assert_eq!(minutes(s(164)), "2 min 44 s");
    }
}
