//! The files of an import. The first is opened at once, to find out what it holds, the others one
//! after another.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::error::{Already, ImportError};
use super::events::LogFile;
use super::format::FileFormat;
use super::item::Bad;
use super::open_file::OpenFile;
use super::request::Format;
use crate::input::{self, Repeats};

/// What the paths of an import hold.
pub enum Opened {
    /// Jobs.
    Jobs(Files),
    /// A log of events, which is restored by [`events::restore`](super::events::restore).
    Log(LogFile),
}

/// Files that hold jobs: the first is open, the others are opened one after another.
pub struct Files {
    pub(super) format: Format,
    pub(super) first: Option<OpenFile>,
    pub(super) rest: VecDeque<PathBuf>,
    /// The size of all files together; `None` if one is a pipe.
    pub(super) bytes: Option<u64>,
}

/// Makes sure that all paths can be read, opens the first file and finds out what it holds. With
/// [`Format::Events`], only the first path is looked at.
///
/// # Errors
/// [`ImportError`] if a path cannot be read, or if the format of the first file is not clear.
///
/// # Panics
/// If there are no paths.
pub fn open(format: Format, paths: &[PathBuf]) -> Result<Opened, ImportError> {
    let (first, rest) = paths.split_first().expect("an import has a path");
    if format == Format::Events {
        return LogFile::open(first).map(Opened::Log);
    }
    let bytes = input::inspect(paths.iter().map(PathBuf::as_path), Repeats::Allowed)?;
    let first = OpenFile::open(first.as_path().into(), format)
        .map_err(|bad| ImportError::bad(bad, Already::default()))?;
    if first.format() == FileFormat::Events {
        return Ok(Opened::Log(LogFile::new(first, bytes)));
    }
    Ok(Opened::Jobs(Files {
        format,
        first: Some(first),
        rest: rest.iter().cloned().collect(),
        bytes,
    }))
}

impl Files {
    /// Opens the next file.
    pub(super) fn open_next(&mut self) -> Option<Result<OpenFile, Bad>> {
        match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => Some(OpenFile::open(self.rest.pop_front()?.into(), self.format)),
        }
    }
}
