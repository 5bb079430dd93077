//! How the program ends if not well: every error becomes an exit code and a sentence in one place.
//! 1 refused by the rules, bad data or a failed check, 2 wrong usage, 3 a server away.

use fencepost::bench::BenchError;
use fencepost::check::{CheckError, FetchError};
use fencepost::db::DbError;
use fencepost::design::Refusal;
use fencepost::export::sink::SinkError;
use fencepost::export::{ExportError, FreezeError, VerifyError};
use fencepost::import::events::LogFileError;
use fencepost::keep::{HistoryError, ListingError, PruneError, RestoreError};
use fencepost::node::NodeError;
use fencepost::store::{CommitError, StoreError};

/// What the process ends with.
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What is said on standard error.
    pub message: String,
}

impl Failure {
    /// Refused by the rules, bad data or a failed check.
    pub fn refused(message: impl ToString) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// Wrong usage.
    pub fn usage(message: impl ToString) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// A server away.
    pub fn away(message: impl ToString) -> Self {
        Self { code: 3, message: message.to_string() }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::LockUrl(_)
            | NodeError::RedisUrl(_)
            | NodeError::Senseless { .. }
            | NodeError::Database(DbError::Url { .. }) => Self::usage(error),
            NodeError::Database(DbError::NewerSchema { .. } | DbError::Migration { .. })
            | NodeError::GraphNotFound(_)
            | NodeError::Binding(_) => Self::refused(error),
            NodeError::Database(_) | NodeError::Store(_) | NodeError::Lock(_) => Self::away(error),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected { .. }
            | Refusal::GraphNotFound { .. }
            | Refusal::Frozen { .. }
            | Refusal::KeyReused
            | Refusal::Internal { .. } => Self::refused(refusal),
            Refusal::Contended { .. }
            | Refusal::LockUnavailable { .. }
            | Refusal::DatabaseUnavailable { .. }
            | Refusal::OutcomeUnknown { .. } => Self::away(refusal),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => NodeError::from(error).into(),
            StoreError::DamagedRows { .. }
            | StoreError::DamagedLog(_)
            | StoreError::DamagedValue(_) => Self::refused(error),
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unavailable(error) => error.into(),
            CommitError::Yielded(_) | CommitError::Unknown { .. } => Self::away(error),
            CommitError::Frozen { .. }
            | CommitError::Deleted
            | CommitError::Fenced { .. }
            | CommitError::Conflict { .. }
            | CommitError::Refused(_) => Self::refused(error),
        }
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Url { .. } => Self::usage(error),
            SinkError::Away { .. } => Self::away(error),
            SinkError::Superseded { .. }
            | SinkError::NotThere { .. }
            | SinkError::Damaged { .. } => Self::refused(error),
        }
    }
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Store(error) | PruneError::History(HistoryError::Store(error)) => {
                error.into()
            }
            PruneError::Write(_) => Self { message: error.to_string(), ..Self::away("") },
            PruneError::History(_) | PruneError::NeededBy { .. } | PruneError::Outrun(_) => {
                Self::refused(error)
            }
        }
    }
}

impl From<ListingError> for Failure {
    fn from(error: ListingError) -> Self {
        match error {
            ListingError::Store(error) => error.into(),
            ListingError::GraphNotFound(_) | ListingError::Damaged { .. } => Self::refused(error),
        }
    }
}

impl From<LogFileError> for Failure {
    fn from(error: LogFileError) -> Self {
        match error {
            LogFileError::Restore(RestoreError::Store(error)) => error.into(),
            LogFileError::Restore(RestoreError::Write(error)) => error.into(),
            LogFileError::Unreadable(_)
            | LogFileError::BadLine { .. }
            | LogFileError::Restore(_) => Self::refused(error),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::Sink(error) => error.into(),
            ExportError::Unregistered { consumer, reason } => {
                let message =
                    format!("the consumer `{consumer}` could not be registered: {reason}");
                Self { message, ..reason.into() }
            }
            other => Self::refused(other),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) => error.into(),
            VerifyError::Sink(error) => error.into(),
            other => Self::refused(other),
        }
    }
}

impl From<FreezeError> for Failure {
    fn from(error: FreezeError) -> Self {
        let message = error.to_string();
        match error {
            FreezeError::Wrong(error) => Self { message, ..error.into() },
            FreezeError::Sink(error) => Self { message, ..error.into() },
            FreezeError::Behind { .. } => Self::refused(message),
        }
    }
            | CommitError::KeyTaken
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Usage(_) => Self::usage(error),
            BenchError::Away(_) => Self::away(error),
            BenchError::Refused(_) | BenchError::History(_) | BenchError::Undocumented { .. } => {
                Self::refused(error)
            }
        }
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Fetch(FetchError::Node(error)) => error.into(),
            CheckError::Fetch(FetchError::Damaged { .. }) | CheckError::Input(_) => {
                Self::refused(error)
            }
        }
    }
}
