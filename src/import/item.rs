//! What reading the files of an import yields: jobs, each with its place, or what is wrong.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::address::redacted_file;
use crate::graph::{JobSpecification, Name};

/// A job, the place where it was read, and its length there in bytes.
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) job: JobSpecification,
    pub(super) bytes: usize,
    /// Whether it replaces a job of the same name that was read before it.
    pub(super) replaces: bool,
}

/// Something in a file that is no job, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) place: Place,
    pub(super) reason: String,
}

/// Why reading ended before the last file did.
pub(super) enum Stop {
    Bad(Bad),
    /// Two jobs have one name and different contents.
    Duplicate {
        name: Name,
        first: Place,
        second: Place,
    },
}

/// What was found besides the jobs that are put.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) repeated: usize,
    pub(super) replaced: usize,
    /// Files that hold no job.
    pub(super) empty: Vec<Arc<Path>>,
}

/// Where a job was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: Arc<Path>,
    /// The line, from 1; 0 is the file as a whole.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&redacted_file(&self.path)),
            line => write!(f, "{}:{line}", redacted_file(&self.path)),
        }
    }
}
