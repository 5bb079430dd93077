//! Errors of an import, each with its place in the files.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::item::{Bad, Item, Place};
use crate::address::redacted_file;
use crate::graph::{Name, Rejection};
use crate::input::InputError;
use crate::service::Refusal;

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A path cannot be read. Nothing was imported.
    #[error("{0}; nothing was imported")]
    Input(#[from] InputError),
    /// A line, a part of a document, or a whole file cannot be read as a job.
    #[error("{at}: {reason}{already}")]
    BadLine {
        /// Where.
        at: Place,
        /// Why not.
        reason: String,
        /// What is in.
        already: Already,
    },
    /// Two jobs share a name and differ in their contents. The changeset that would hold the second
    /// was not written.
    #[error(
        "{second}: job `{name}` differs from the job of that name at {first}. Rename one of them \
         (in WfFormat, names begin with the file's name), or add --on-duplicate last{already}"
    )]
    Duplicate {
        /// Their name.
        name: Name,
        /// Where the first is.
        first: Place,
        /// Where the second is.
        second: Place,
        /// What is in.
        already: Already,
    },
    /// The rules forbid a job.
    #[error("{at}: {rejection}{}{already}", grown(*.grown_to))]
    Rejected {
        /// Where the job is.
        at: Place,
        /// Why.
        rejection: Box<Rejection>,
        /// Jobs in the changeset, if it had reached its size limit.
        grown_to: Option<usize>,
        /// What is in.
        already: Already,
    },
    /// A file holds no job: it may be the output of a command that failed. Nothing was written.
    #[error(
        "{}: holds no job, and --sync would delete the jobs that it should hold. If the file is \
         meant to be empty, add --allow-empty; nothing was imported",
        redacted_file(.path)
    )]
    Empty {
        /// The file.
        path: Arc<Path>,
    },
    /// The names of some jobs do not begin with the prefix of `sync`. Nothing was written.
    #[error(
        "{at}: the name of job `{name}` does not begin with `{prefix}`, the --sync prefix (jobs \
         with such names: {count}). If that is meant, add --allow-outside; nothing was imported"
    )]
    Outside {
        /// Where the first is.
        at: Place,
        /// The first.
        name: Name,
        /// How many there are.
        count: usize,
        /// The prefix.
        prefix: String,
    },
    /// `sync` would delete more jobs than its limit allows. Nothing was written.
    #[error(
        "--sync `{prefix}` would delete {deletes} of the {under} jobs under it ({}); at most \
         {most} may be deleted. If that is meant, add --max-delete {deletes}; nothing was imported",
        first_of(.first, *.deletes)
    )]
    TooManyDeletes {
        /// The prefix.
        prefix: String,
        /// The number of jobs that would be deleted.
        deletes: usize,
        /// The first of them, in byte order.
        first: Vec<Name>,
        /// The number of jobs under the prefix.
        under: usize,
        /// The limit.
        most: usize,
    },
    /// The service refused the changeset or did not answer.
    #[error("{refusal}{already}")]
    Refused {
        /// Why not.
        refusal: Refusal,
        /// What is in.
        already: Already,
    },
}

impl ImportError {
    pub(super) fn bad(bad: Bad, already: Already) -> Self {
        Self::BadLine { at: bad.place, reason: bad.reason, already }
    }

    /// The error of a rejected changeset that begins by putting `items`.
    pub(super) fn rejected(rejection: Rejection, items: &[Item], already: Already) -> Self {
        let item =
            rejection.operation().and_then(|operation| items.get(operation)).or(items.last());
        let at = item.map_or_else(
            || Place { path: Path::new("-").into(), line: 0 },
            |item| item.place.clone(),
        );
        Self::Rejected { at, rejection: Box::new(rejection), grown_to: None, already }
    }
}

/// Says that the lines that follow were judged too, up to the size limit of a changeset.
fn grown(to: Option<usize>) -> String {
    to.map_or_else(String::new, |jobs| {
        format!(" (also together with what follows: one changeset grew to {jobs} jobs, its limit)")
    })
}

/// The first names, and how many of `count` are left out.
fn first_of(names: &[Name], count: usize) -> String {
    let mut told: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if count > names.len() {
        told.push(format!("and {} more", count - names.len()));
    }
    told.join(", ")
}

/// What an import has written before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Already {
    pub(super) jobs: usize,
    pub(super) version: Option<u64>,
}

impl fmt::Display for Already {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            None | Some(_) if self.jobs == 0 => f.write_str("; nothing was imported"),
            None => write!(f, "; {} jobs before it are in", self.jobs),
            Some(version) => write!(
                f,
                "; the {} jobs before it are in, now version {version}. Mend it and import again: \
                 what is in stays as it is",
                self.jobs
            ),
        }
    }
}
