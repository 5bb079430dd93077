//! The progress bar of an import, on standard error if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `bytes`. If their number is not known, it shows only how many were read.
pub(super) fn bar_over(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{elapsed} [{bar:40}] {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left) {msg}",
        ),
        None => (ProgressBar::no_length(), "{elapsed} {bytes} ({bytes_per_sec}) {msg}"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
    bar
}
