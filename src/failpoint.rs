//! Named points in the code at which a test can hold a process still, to kill or stop it there, and
//! switches that take one guard out, to show that its test then goes red. Compiled to nothing
//! without the cargo feature `failpoints`. Knows nothing of the rest; anything may call it.
//!
//! `FENCEPOST_FAILPOINTS=NAME=pause:FILE[@N],NAME=off,…`: the N-th passage (from 1, default 1) of
//! `NAME` creates `FILE` and then waits until `FILE` is gone again; `off` is asked for by
//! [`is_off`].

/// Holds the caller still if a test has armed the point `name`. Costs one atomic load when nothing
/// is armed.
#[inline]
pub fn pass(name: &str) {
    #[cfg(feature = "failpoints")]
    armed::pass(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
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

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    enum Action {
        Pause { file: PathBuf, at: u64, passed: AtomicU64 },
        Off,
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
        let action = match action.split_once(':') {
            None if action == "off" => Action::Off,
            Some(("pause", rest)) => {
                let (file, at) = rest.rsplit_once('@').unwrap_or((rest, "1"));
                let at = at.parse().expect("FENCEPOST_FAILPOINTS: @N wants a number");
                Action::Pause { file: file.into(), at, passed: AtomicU64::new(0) }
            }
            _ => panic!("FENCEPOST_FAILPOINTS: unknown action `{action}`"),
        };
        (name.to_owned(), action)
    }

    pub(super) fn pass(name: &str) {
        let actions = actions();
        if actions.is_empty() {
            return;
        }
        if let Some(Action::Pause { file, at, passed }) = actions.get(name)
            && passed.fetch_add(1, Ordering::SeqCst) + 1 == *at
        {
            std::fs::write(file, name).expect("a failpoint's file can be written");
            while file.exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    pub(super) fn is_armed(name: &str) -> bool {
        matches!(actions().get(name), Some(Action::Pause { .. }))
    }

    pub(super) fn is_off(name: &str) -> bool {
        matches!(actions().get(name), Some(Action::Off))
    }
}
