//! Runs tests of this binary by themselves: with a guard switched off, where they must go red, or
//! because they change what the whole process shares.

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

/// For a test that needs the process to itself. Runs it again by itself, unless it is: then this is
/// `true`, and the test goes on.
#[track_caller]
pub fn is_alone(test: &str) -> bool {
    is_alone_with(test, "")
}

/// The same, with something switched off.
#[track_caller]
pub fn is_alone_without(test: &str, switched_off: &str) -> bool {
    is_alone_with(test, &format!("{switched_off}=off"))
}

#[track_caller]
fn is_alone_with(test: &str, failpoints: &str) -> bool {
    const ALONE: &str = "FENCEPOST_TEST_ALONE";
    if std::env::var(ALONE).is_ok_and(|alone| alone == test) {
        return true;
    }
    let binary = std::env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(binary);
    command.args(["--exact", test, "--nocapture"]).env(ALONE, test);
    let ended = command.env("FENCEPOST_FAILPOINTS", failpoints).output();
    let ended = ended.expect("the test binary can be run again");
    let said = [ended.stdout, ended.stderr].concat();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&said));
    false
}
