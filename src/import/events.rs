//! Imports a log of changes or a snapshot, one event a line, which restores a graph with all its
//! versions. It uses no changesets and takes no turn: `archive` writes it.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;

use super::error::{Already, ImportError};
use super::item::Place;
use super::open_file::OpenFile;
use super::progress::bar_over;
use super::request::Format;
use crate::archive::{RestoreError, RestoredGraph, Restorer};
use crate::event::LINE_BYTES_MAX;
use crate::graph::Name;
use crate::input::{self, Repeats};
use crate::store::{StorageKind, Store};

/// Why a graph was not restored from a file.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// The log is damaged at this line, or could not be read further.
    #[error("{at}: {reason}; nothing was restored")]
    BadLine {
        /// The file and line.
        at: Place,
        /// The damage.
        reason: String,
    },
    /// Passed on unchanged.
    #[error(transparent)]
    Restore(RestoreError),
}

/// An open log of events.
pub struct LogFile {
    file: OpenFile,
    /// Its size in bytes; `None` of a pipe.
    bytes: Option<u64>,
}

impl LogFile {
    pub(super) fn new(file: OpenFile, bytes: Option<u64>) -> Self {
        Self { file, bytes }
    }

    /// Opens the path; `-` is standard input. Reads no event yet.
    ///
    /// # Errors
    /// [`ImportError`] if it cannot be read.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let bytes = input::inspect([path], Repeats::Allowed)?;
        let file = OpenFile::open(path.into(), Format::Events)
            .map_err(|bad| ImportError::bad(bad, Already::default()))?;
        Ok(Self::new(file, bytes))
    }
}

/// Restores a log as `graph`, to be kept in `storage` if it is not there. Shows a progress bar if
/// standard error is a terminal.
///
/// # Errors
/// [`LogFileError`] names the first bad line; nothing is written then.
pub fn restore(
    store: &Store,
    graph: &Name,
    storage: StorageKind,
    log: LogFile,
) -> Result<RestoredGraph, LogFileError> {
    let bar = bar_over(log.bytes);
    let restored = restore_showing(store, graph, storage, log.file, &bar);
    bar.finish_and_clear();
    restored
}

fn restore_showing(
    store: &Store,
    graph: &Name,
    storage: StorageKind,
    file: OpenFile,
    bar: &ProgressBar,
) -> Result<RestoredGraph, LogFileError> {
    let mut restorer = Restorer::new(store, graph, storage).map_err(LogFileError::Restore)?;
    let mut place = Place { path: Arc::clone(file.path()), line: 0 };
    let bad = |at: &Place, reason: String| LogFileError::BadLine { at: at.clone(), reason };
    let told = |at: &Place, error: RestoreError| match error {
        RestoreError::Log(error) => bad(at, error.to_string()),
        error => LogFileError::Restore(error),
    };
    let mut input = file.into_reader(bar);
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

/// The event without its line feed; `None` if the line feed is missing.
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
