//! The databases that a benchmark runs on.

/// Calls `measure` with each URL that `FENCEPOST_BENCH_DATABASES` names, with spaces between, or
/// with that of a new SQLite file. Does nothing if the program was not started by `cargo bench`.
pub fn on_each(measure: impl Fn(&str)) {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = format!("sqlite:{}", folder.path().join("bench.db").display());
    let urls = std::env::var("FENCEPOST_BENCH_DATABASES").unwrap_or(made);
    urls.split_whitespace().for_each(measure);
}
