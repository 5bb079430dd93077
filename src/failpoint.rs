//! Named points in the code at which a test can hold a process still, to kill or stop it there, and
//! switches that take one guard out, to show that its test then goes red. Compiled to nothing
//! without the cargo feature `failpoints`. Knows nothing of the rest; anything may call it.
//!
//! `FENCEPOST_FAILPOINTS=NAME=pause:FILE[@N],NAME=panic[@N],NAME=number:FILE,NAME=off,…`: the N-th
//! passage (from 1, default 1) of `NAME` creates `FILE` and then waits until `FILE` is gone again, or
//! panics; `off` is asked for by [`is_off`], and the number that is in `FILE` by [`number`].
//! `NAME=slow:PERCENT` is for [`slow_down`].

use std::time::Instant;

/// Holds the caller still if a test has armed the point `name`. Costs one atomic load when nothing
/// is armed.
#[inline]
pub fn pass(name: &str) {
    #[cfg(feature = "failpoints")]
    armed::pass(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Has what was done since `began` take as many percent longer as a test has said for `name`, and
/// uses a processor for that.
#[inline]
pub fn slow_down(name: &str, began: Instant) {
    #[cfg(feature = "failpoints")]
    armed::slow_down(name, began);
    #[cfg(not(feature = "failpoints"))]
    let _ = (name, began);
}

/// Whether a test has switched the guard `name` off.
#[inline]
#[must_use]
pub fn is_off(name: &str) -> bool {
    #[cfg(feature = "failpoints")]
    return armed::is_off(name);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        false
    }
}

/// Whether a test holds callers still at the point `name`.
#[inline]
#[must_use]
pub fn is_armed(name: &str) -> bool {
    #[cfg(feature = "failpoints")]
    return armed::is_armed(name);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        false
    }
}

/// The number that a test has written for `name`, as it is now; 0 if none is armed.
#[inline]
#[must_use]
pub fn number(name: &str) -> i64 {
    #[cfg(feature = "failpoints")]
    return armed::number(name);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        0
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    enum Action {
        Pause { file: PathBuf, passages: Passages },
        Panic { passages: Passages },
        Number { file: PathBuf },
        Slow { percent: u32 },
        Off,
    }

    /// Which passage of a point is meant.
    struct Passages {
        at: u64,
        passed: AtomicU64,
    }

    impl Passages {
        /// `ACTION[@N]`: the action, and which passage.
        fn parse(text: &str) -> (&str, Self) {
            let (action, at) = text.rsplit_once('@').unwrap_or((text, "1"));
            let at = at.parse().expect("FENCEPOST_FAILPOINTS: @N wants a number");
            (action, Self { at, passed: AtomicU64::new(0) })
        }

        /// Counts one; whether it is the one.
        fn pass(&self) -> bool {
            self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.at
        }
    }

    fn actions() -> &'static HashMap<String, Action> {
        static ACTIONS: OnceLock<HashMap<String, Action>> = OnceLock::new();
        ACTIONS.get_or_init(|| {
            let armed = std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default();
            armed.split(',').filter(|item| !item.is_empty()).map(parse).collect()
        })
    }

    fn parse(item: &str) -> (String, Action) {
        let Some((name, action)) = item.split_once('=') else {
            panic!("FENCEPOST_FAILPOINTS: `{item}` is not NAME=ACTION");
        };
        if action == "off" {
            return (name.to_owned(), Action::Off);
        }
        if let Some(file) = action.strip_prefix("number:") {
            return (name.to_owned(), Action::Number { file: file.into() });
        }
        if let Some(percent) = action.strip_prefix("slow:") {
            let percent = percent.parse().expect("FENCEPOST_FAILPOINTS: slow: wants a number");
            return (name.to_owned(), Action::Slow { percent });
        }
        let (what, passages) = Passages::parse(action);
        let action = match what.split_once(':') {
            Some(("pause", file)) => Action::Pause { file: file.into(), passages },
            None if what == "panic" => Action::Panic { passages },
            _ => panic!("FENCEPOST_FAILPOINTS: unknown action `{action}`"),
        };
        (name.to_owned(), action)
    }

    pub(super) fn pass(name: &str) {
        let actions = actions();
        if actions.is_empty() {
            return;
        }
        match actions.get(name) {
            Some(Action::Pause { file, passages }) if passages.pass() => {
                std::fs::write(file, name).expect("a failpoint's file can be written");
                while file.exists() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Some(Action::Panic { passages }) if passages.pass() => panic!("at `{name}`"),
            _ => {}
        }
    }

    pub(super) fn is_armed(name: &str) -> bool {
        matches!(actions().get(name), Some(Action::Pause { .. }))
    }

    pub(super) fn number(name: &str) -> i64 {
        let Some(Action::Number { file }) = actions().get(name) else { return 0 };
        let text = std::fs::read_to_string(file).expect("a failpoint's file can be read");
        text.trim().parse().expect("a failpoint's file has a number")
    }

    pub(super) fn slow_down(name: &str, began: Instant) {
        let Some(Action::Slow { percent }) = actions().get(name) else { return };
        let until = began + began.elapsed() * (100 + percent) / 100;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }

    pub(super) fn is_off(name: &str) -> bool {
        matches!(actions().get(name), Some(Action::Off))
    }
}
