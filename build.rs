//! Has release builds know which commit they are of, so that what is measured says what was
//! measured: `FENCEPOST_COMMIT`, as the environment or else git has it. Debug builds do not: they
//! would be compiled anew after every commit.

use std::env;
use std::process::Command;

/// What a commit must have as it is built.
const SOURCES: [&str; 5] = ["src", "migrations", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FENCEPOST_COMMIT");
    if env::var_os("FENCEPOST_COMMIT").is_some() || env::var("PROFILE").as_deref() != Ok("release")
    {
        return;
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    // A commit, a checkout and a reset are each a line of this file.
    if let Some(watched) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={watched}");
    }
    SOURCES.iter().for_each(|source| println!("cargo::rerun-if-changed={source}"));
    let changed = git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat());
    let dirty = if changed.is_some_and(|changed| changed.is_empty()) { "" } else { "-dirty" };
    println!("cargo::rustc-env=FENCEPOST_COMMIT={commit}{dirty}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
