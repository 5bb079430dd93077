//! Paths that commands read. A command opens each path once and reads it forwards, so that a pipe,
//! a FIFO, `/dev/stdin` and `-` (standard input) lose nothing. What must be known before reading is
//! asked of the path, without opening it. Uses `address`; any other module may use it.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::address::redacted_file;

/// Why paths cannot be read. Nothing has been read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// There is nothing at the path that this process may read. Give another path.
    #[error("{}: {reason}", redacted_file(.path))]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// Two paths lead to the same thing, which must be read once. Leave one of them out.
    #[error("{}", twice(.first, .second))]
    Twice {
        /// The path that came first.
        first: PathBuf,
        /// The path that came second. It may be the same text.
        second: PathBuf,
    },
}

fn twice(first: &Path, second: &Path) -> String {
    match first == second {
        true => format!("`{}` is given twice, and can be read only once", redacted_file(first)),
        false => format!(
            "`{}` and `{}` lead to the same file or stream, which can be read only once",
            redacted_file(first),
            redacted_file(second)
        ),
    }
}

/// Whether a command may read a regular file more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// A regular file that is given twice is read twice.
    Allowed,
    /// A regular file that is given twice is refused, as a stream always is.
    Refused,
}

/// Whether the path stands for standard input.
#[must_use]
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Opens the path for reading; `-` is standard input. Blocks if the path is a FIFO that nobody has
/// opened for writing.
///
/// # Errors
/// What the operating system says.
pub fn open(path: &Path) -> io::Result<File> {
    if is_stdin(path) {
        // Not through the buffer of `io::Stdin`: what that has taken nobody else can read.
        return Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    }
    File::open(path)
}

/// Finds out, without opening them, that all paths are there, may be read, are no directories, and
/// that no stream is given twice. Returns their total size in bytes; `None` if one has no size that
/// is known before it is read.
///
/// # Errors
/// [`InputError`] names the first path that will not do.
pub fn inspect<'p>(
    paths: impl IntoIterator<Item = &'p Path>,
    repeats: Repeats,
) -> Result<Option<u64>, InputError> {
    let mut total_bytes = Some(0);
    let mut seen: HashMap<(u64, u64), &Path> = HashMap::new();
    for path in paths {
        let unreadable = |reason: String| InputError::Unreadable { path: path.to_owned(), reason };
        let (metadata, bytes) = look_at(path).map_err(|error| unreadable(error.to_string()))?;
        if metadata.is_dir() {
            return Err(unreadable("is a directory; name its files".to_owned()));
        }
        let once = !metadata.is_file() || is_stdin(path) || repeats == Repeats::Refused;
        let before = seen.insert((metadata.dev(), metadata.ino()), path);
        if let Some(first) = before.filter(|first| once || is_stdin(first)) {
            return Err(InputError::Twice { first: first.to_owned(), second: path.to_owned() });
        }
        total_bytes = total_bytes.zip(bytes).map(|(total, bytes)| total + bytes);
    }
    Ok(total_bytes)
}

/// What is at the path, and how many bytes can be read from it if it is a regular file.
fn look_at(path: &Path) -> io::Result<(Metadata, Option<u64>)> {
    if is_stdin(path) {
        let mut stdin = open(path)?;
        let metadata = stdin.metadata()?;
        let regular = metadata.is_file();
        let left = regular.then(|| stdin.stream_position()).transpose()?;
        let bytes = left.map(|position| metadata.len().saturating_sub(position));
        return Ok((metadata, bytes));
    }
    let metadata = std::fs::metadata(path)?;
    access(path, Access::READ_OK)?;
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((metadata, bytes))
}
