//! Processes that are told to stop where they are.

use std::time::Duration;

use super::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until every thread of a process that was told to stop has stopped, or ended: that is a
/// moment after the signal was sent.
#[track_caller]
pub fn wait_until_stopped(process: u32) {
    wait_until(LIMIT, "every thread has stopped", || {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { return true };
        let state = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            // After the name, which is in brackets and may hold anything.
            stat.rsplit_once(") ")?.1.chars().next()
        };
        tasks.flatten().filter_map(state).all(|state| matches!(state, 'T' | 'Z' | 'X'))
    });
}
