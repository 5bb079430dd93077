//! A log of changes or a snapshot, one event a line: a graph comes back with all its versions. No
//! changesets, and no turn: see `keep`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::{Format, ImportError, Place, bar_over, detect, is_stdin, size};
use crate::event::LINE_BYTES_MAX;
use crate::graph::Name;
use crate::keep::{RestoreError, RestoredGraph, Restorer};
use crate::store::rows::RowStore;

/// Why a graph was not restored from a file.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// The file could not be opened.
    #[error(transparent)]
    Unreadable(#[from] ImportError),
    /// The log is damaged there, or it could not be read on.
    #[error("{at}: {reason}; nothing was restored")]
    BadLine {
        /// Where.
        at: Place,
        /// What is wrong.
        reason: String,
    },
    /// See there.
    #[error(transparent)]
    Restore(RestoreError),
}

/// Whether what is to be imported is a log of events. Takes nothing off standard input.
///
/// # Errors
/// [`ImportError::Unreadable`] if the first file is.
pub fn is_log(format: Format, paths: &[PathBuf]) -> Result<bool, ImportError> {
    let (Format::Auto, Some(path)) = (format, paths.first()) else {
        return Ok(format == Format::Events);
    };
    size(path)?;
    let detected = match is_stdin(path) {
        true => detect(&mut io::stdin().lock()),
        false => {
            File::open(path).and_then(|file| detect(&mut BufReader::with_capacity(1 << 20, file)))
        }
    };
    // What cannot be read is told where it is read.
    Ok(detected.is_ok_and(|format| format == Format::Events))
}

/// Restores the log in the file, or on standard input, as `graph`. Shows a bar on standard error if
/// that is a terminal.
///
/// # Errors
/// [`LogFileError`] names the first bad line; nothing is written then.
pub fn restore(store: &RowStore, graph: &Name, path: &Path) -> Result<RestoredGraph, LogFileError> {
    let bar = bar_over(size(path)?);
    let restored = restore_showing(store, graph, path, &bar);
    bar.finish_and_clear();
    restored
}

fn restore_showing(
    store: &RowStore,
    graph: &Name,
    path: &Path,
    bar: &ProgressBar,
) -> Result<RestoredGraph, LogFileError> {
    let mut restorer = Restorer::new(store, graph).map_err(LogFileError::Restore)?;
    let mut place = Place { path: path.into(), line: 0 };
    let bad = |at: &Place, reason: String| LogFileError::BadLine { at: at.clone(), reason };
    let told = |at: &Place, error: RestoreError| match error {
        RestoreError::Log(error) => bad(at, error.to_string()),
        error => LogFileError::Restore(error),
    };
    let opened: io::Result<Box<dyn Read>> = if is_stdin(path) {
        Ok(Box::new(io::stdin()))
    } else {
        File::open(path).map(|file| Box::new(file) as _)
    };
    let mut input = BufReader::with_capacity(
        1 << 20,
        bar.wrap_read(opened.map_err(|error| bad(&place, error.to_string()))?),
    );
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|error| bad(&place, error.to_string()))? == 0 {
            break;
        }
        place.line += 1;
        let text = whole_line(&line).map_err(|reason| bad(&place, reason))?;
        restorer.take(text).map_err(|error| told(&place, error))?;
    }
    bar.set_message("writing");
    restorer.finish(store, graph).map_err(|error| told(&place, error))
}

/// The event, if the line has an end.
fn whole_line(line: &[u8]) -> Result<&str, String> {
    let Some(text) = line.strip_suffix(b"\n") else {
        return Err(if line.len() as u64 == LINE_BYTES_MAX {
            format!("the line is longer than {LINE_BYTES_MAX} bytes")
        } else {
            format!(
                "the line is torn after {} bytes: its writer is at it, or was killed",
                line.len()
            )
        });
    };
    std::str::from_utf8(text).map_err(|_| "the line is no UTF-8: it was altered".to_owned())
}
