//! Why a write is refused. Every design gives the same rejection, the first in a fixed order:
//! preconditions, existence, datasets in use, second producers, changes that are too large, cycles.
//! Of several of one kind, it is that of the smallest operation, then that of the byte-smallest
//! dataset.

use super::name::Name;
use super::operation::Precondition;

/// Why a changeset was rejected. Nothing of it was applied. `operation` counts from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A precondition does not hold. Read again, and send a changeset that fits.
    #[error(
        "precondition failed: expected {}, found {}",
        expectation(.expected), version(*.actual)
    )]
    PreconditionFailed {
        /// What was asked for.
        expected: Precondition,
        /// The version found; `None`: absent.
        actual: Option<u64>,
        /// The step; `None`: the whole changeset.
        operation: Option<usize>,
    },
    /// A graph with jobs or declared datasets was to be deleted without a precondition. State the
    /// version to delete, or that it may be any.
    #[error("the graph is not empty: to delete version {actual} takes a precondition")]
    PreconditionRequired {
        /// The graph's version.
        actual: u64,
    },
    /// A job that must exist does not.
    #[error("there is no job `{name}`")]
    JobNotFound {
        /// The job.
        name: Name,
        /// The step.
        operation: usize,
    },
    /// A dataset that must exist does not.
    #[error("there is no dataset `{name}`")]
    DatasetNotFound {
        /// The dataset.
        name: Name,
        /// The step.
        operation: usize,
    },
    /// An edge that must exist does not.
    #[error("job `{job}` has no such edge to dataset `{dataset}`")]
    EdgeNotFound {
        /// The job.
        job: Name,
        /// The dataset.
        dataset: Name,
        /// The step.
        operation: usize,
    },
    /// An edge that must not exist does.
    #[error("job `{job}` has that edge to dataset `{dataset}` already")]
    EdgeExists {
        /// The job.
        job: Name,
        /// The dataset.
        dataset: Name,
        /// The step.
        operation: usize,
    },
    /// A dataset's declaration cannot be taken back while a job mentions it.
    #[error("dataset `{name}` is in use by {}", list(.jobs))]
    DatasetInUse {
        /// The dataset.
        name: Name,
        /// The first jobs that mention it, at most [`Rejection::JOBS_NAMED`], in byte order.
        jobs: Vec<Name>,
        /// The first step that deleted it since it was last put.
        operation: usize,
    },
    /// Two jobs would write one dataset.
    #[error(
        "dataset `{dataset}` has a producer already, `{producer}`; `{job}` cannot write it too"
    )]
    SecondProducer {
        /// The dataset.
        dataset: Name,
        /// The job that wrote it before and writes it in the end, even if not in between; without
        /// such a job, the first that got it.
        producer: Name,
        /// The next job that got it.
        job: Name,
        /// The last step that gave it to `job`.
        operation: usize,
    },
    /// A job would depend on itself.
    #[error("the jobs would form a cycle: {}", path(.cycle))]
    Cycle {
        /// The shortest of the cycles that the step closes, and of those the byte-smallest. Written
        /// from its byte-smallest job: jobs and datasets in turn, the first name again at the end.
        cycle: Vec<Name>,
        /// The first step that closes a cycle: its edges form one together with those of earlier
        /// steps and those that no step added. An edge belongs to the last step before which it was
        /// absent and after which it was present.
        operation: usize,
    },
    /// The change would be longer than readers of a log accept. Split the changeset.
    #[error(
        "the change would have {bytes} bytes, more than the {limit} that one change may have: send \
         several changesets; an import with --sync, import without it first, which writes in \
         pieces, or sync one longer prefix after another"
    )]
    TooLarge {
        /// The size of the change, in bytes of canonical JSON.
        bytes: usize,
        /// The limit, in the same bytes.
        limit: usize,
    },
}

impl Rejection {
    /// The step at fault, counted from 0. `None` if it is the changeset as a whole, or if there is
    /// no graph.
    #[must_use]
    pub fn operation(&self) -> Option<usize> {
        match self {
            Self::PreconditionFailed { operation, .. } => *operation,
            Self::PreconditionRequired { .. } | Self::TooLarge { .. } => None,
            Self::JobNotFound { operation, .. }
            | Self::DatasetNotFound { operation, .. }
            | Self::EdgeNotFound { operation, .. }
            | Self::EdgeExists { operation, .. }
            | Self::DatasetInUse { operation, .. }
            | Self::SecondProducer { operation, .. }
            | Self::Cycle { operation, .. } => Some(*operation),
        }
    }

    /// How many jobs [`Rejection::DatasetInUse`] names.
    pub const JOBS_NAMED: usize = 10;
    /// How many names of a cycle a message shows. The field always has the whole cycle.
    const CYCLE_NAMES_SPELLED: usize = 21;
}

fn expectation(expected: &Precondition) -> String {
    match expected {
        Precondition::Version(expected) => version(Some(*expected)),
        Precondition::OneOf(versions) if versions.is_empty() => "no version".to_owned(),
        Precondition::OneOf(versions) => {
            let versions: Vec<String> = versions.iter().map(u64::to_string).collect();
            format!("one of the versions {}", versions.join(", "))
        }
        Precondition::Absent => version(None),
        Precondition::Exists => "any version".to_owned(),
    }
}

fn version(version: Option<u64>) -> String {
    version.map_or_else(|| "absent".to_owned(), |version| format!("version {version}"))
}

fn list(names: &[Name]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn path(cycle: &[Name]) -> String {
    let spelled: Vec<_> =
        cycle.iter().take(Rejection::CYCLE_NAMES_SPELLED).map(Name::as_str).collect();
    let rest = cycle.len() - spelled.len();
    if rest == 0 {
        spelled.join(" -> ")
    } else {
        format!("{} -> … ({rest} more)", spelled.join(" -> "))
    }
}
