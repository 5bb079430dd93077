//! Why an export ended, and whether trying again can help.

use super::sink::SinkError;
use crate::archive::PastError;
use crate::event::{DamagedEvent, EventIndex};
use crate::graph::Name;
use crate::store::{CommitError, StoreError};

/// How often in a row the same events are written again to a sink that loses them.
pub const RESENDS_MAX: u32 = 3;

/// Why an export ended early. What is in the sink stays, and the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Passed on unchanged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Passed on unchanged.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The graph is not there.
    #[error("there is no graph `{0}`")]
    GraphNotFound(Name),
    /// The last event of the sink cannot be read.
    #[error(
        "the last event of {sink} is damaged: {reason}. `fencepost verify` says up to where the log \
         is good: cut it off there, or export to a new place"
    )]
    Damaged {
        /// The sink.
        sink: String,
        /// What is wrong.
        reason: DamagedEvent,
    },
    /// The last event of the sink is not the one that was written there.
    #[error(
        "the last event of {sink}, at {index}, was altered: its {what} is not the database's. \
         `fencepost verify` says up to where the log is good: cut it off there, or export to a new \
         place"
    )]
    Altered {
        /// The sink.
        sink: String,
        /// Where the event stands.
        index: EventIndex,
        /// Which part of it, as `data`.
        what: &'static str,
    },
    /// The database cannot tell what the last event of the sink should be.
    #[error("the last event of {sink} cannot be compared with the database: {reason}")]
    NotCompared {
        /// The sink.
        sink: String,
        /// Why not.
        reason: PastError,
    },
    /// The sink has another graph's log.
    #[error("{sink} holds the log of graph {found}, not of {expected}; export to another place")]
    OtherGraph {
        /// The sink.
        sink: String,
        /// Name and UUID.
        found: String,
        /// Name and UUID.
        expected: String,
    },
    /// The sink's log and the database's are not one history: a backup was restored, or somebody
    /// else wrote to one of them.
    #[error(
        "{sink} is of another history: at version {version} its chain of hashes is not that of the \
         database; export to another place"
    )]
    OtherHistory {
        /// The sink.
        sink: String,
        /// The last version that the sink has.
        version: u64,
    },
    /// The sink is further than the database.
    #[error(
        "{sink} has version {sink_version}, the database only {version}: was an older backup \
         restored?"
    )]
    Ahead {
        /// The sink.
        sink: String,
        /// The sink's version.
        sink_version: u64,
        /// The database's.
        version: u64,
    },
    /// The changes that come next are gone.
    #[error(
        "the changes after version {after} were pruned, the oldest is {oldest}: {sink} lacks those \
         between. To begin anew with the whole graph: {anew}, without --after; or export to \
         another place"
    )]
    Pruned {
        /// The sink.
        sink: String,
        /// The last version that the sink has.
        after: u64,
        /// The oldest change that is there.
        oldest: u64,
        /// What a person does to begin anew there.
        anew: String,
    },
    /// The sink would have a gap.
    #[error(
        "{sink} has version {version}; with --after {after} changes between them would be missing. \
         Omit --after"
    )]
    Gap {
        /// The sink.
        sink: String,
        /// The last version that the sink has.
        version: u64,
        /// The one that was asked for.
        after: u64,
    },
    /// The version to begin after has not been reached.
    #[error("--after {after} is beyond the graph, which is at version {version}")]
    Beyond {
        /// What was asked for.
        after: u64,
        /// What there is.
        version: u64,
    },
    /// The consumer that keeps the log from being pruned could not be registered.
    #[error("the consumer `{consumer}` could not be registered: {reason}")]
    Unregistered {
        /// Its name.
        consumer: Name,
        /// Why not.
        reason: CommitError,
    },
    /// The sink's identity cannot be the name of a consumer.
    #[error(
        "the identity of {sink}, {identity}, cannot be the name of a consumer: give one with \
         --consumer NAME"
    )]
    Unnamed {
        /// The sink.
        sink: String,
        /// Its identity.
        identity: String,
    },
    /// Events were deleted from the midst of the log. What the sink takes next comes after them.
    #[error(
        "{sink} {hole}: they were deleted from it, and cannot be put in their place again. What is \
         there cannot be verified or restored from. To begin anew with the whole graph: {anew}; or \
         export to another place"
    )]
    Holed {
        /// The sink.
        sink: String,
        /// Where, as `lacks events between …`.
        hole: String,
        /// What a person does to begin anew there.
        anew: String,
    },
    /// What is written does not stay.
    #[error(
        "the events after {found} were written to {sink} {} times, and each time they were taken \
         out again: something deletes from it. Find out what, and export again",
        RESENDS_MAX
    )]
    DoesNotStay {
        /// The sink.
        sink: String,
        /// What it has again and again.
        found: String,
    },
}

impl ExportError {
    /// Whether it may be otherwise in a moment: a server is away.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Sink(SinkError::Unavailable { .. } | SinkError::Failed { .. })
            | Self::Store(StoreError::Database(_))
            | Self::NotCompared { reason: PastError::Contended(_), .. } => true,
            Self::Unregistered { reason, .. } => {
                matches!(
                    reason,
                    CommitError::Unavailable(StoreError::Database(_))
                        | CommitError::Yielded(_)
                        | CommitError::Unknown { .. }
                )
            }
            _ => false,
        }
    }
}
