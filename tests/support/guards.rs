//! Runs tests of this binary by themselves, with a guard switched off: then they must go red.

use std::process::{Command, Stdio};

/// Runs one test by itself and says whether it passed.
pub fn passes(test: &str, switched_off: Option<&str>) -> bool {
    let failpoints = switched_off.map_or(String::new(), |guard| format!("{guard}=off"));
    let binary = std::env::current_exe().expect("the test binary has a path");
    let status = Command::new(binary)
        .args(["--exact", test])
        .env("FENCEPOST_FAILPOINTS", failpoints)
        .env("FENCEPOST_TEST_LIMIT_MS", if switched_off.is_some() { "3000" } else { "60000" })
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the test binary can be run again");
    status.success()
}
