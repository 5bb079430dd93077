//! Why a request was not served. One enum for reads and writes; `http` gives each a status.

use std::sync::Arc;

use crate::db::DbError;
use crate::db::watch::{self, GivenUp};
use crate::graph::{Name, Rejection};
use crate::store::{CommitError, ImageKey, StorageKind, StoreError};

/// The node that leads a graph, as it has said itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderAt {
    /// Tells it from all others.
    pub node: String,
    /// The token of its take-over.
    pub token: i64,
    /// Whether that is still to come.
    pub is_to_come: bool,
    /// Where its clients and other nodes reach it, if it says so.
    pub address: Option<String>,
    /// The graph as it was when that was looked at.
    pub key: ImageKey,
}

impl LeaderAt {
    /// Whether it has taken the graph over after `other`; or in its place: a successor that is
    /// about to take over is told with the token to come, and may never have it.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        self.token > other.token || (self.token == other.token && self.node != other.node)
    }
}

/// Why a request was not served. Only [`Refusal::OutcomeUnknown`] and [`Refusal::Internal`] leave
/// open whether it was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rules forbid it.
    #[error("{rejection}")]
    Rejected {
        /// Why.
        rejection: Rejection,
        /// The version that it was decided at.
        version: u64,
    },
    /// There is no such graph.
    #[error("there is no graph `{graph}`")]
    GraphNotFound {
        /// Its name.
        graph: Name,
    },
    /// The graph takes no writes any more.
    #[error(
        "graph `{graph}` is frozen{}",
        .moved_to.as_ref().map(|to| format!("; it moved to {to}")).unwrap_or_default()
    )]
    Frozen {
        /// Its name.
        graph: Name,
        /// Where it went.
        moved_to: Option<String>,
    },
    /// This process serves no graphs of that storage. Ask another, or have this one serve that
    /// storage as well.
    #[error("graph `{graph}` is kept as {storage}, which {served_by} does not serve")]
    StorageMismatch {
        /// Its name.
        graph: Name,
        /// How it is kept.
        storage: StorageKind,
        /// The names of the [handlings](super::Handling), for people.
        served_by: String,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Too many are waiting, or the turn did not come in time. Try again later.
    #[error("{what}")]
    Contended {
        /// What was waited for.
        what: String,
    },
    /// Another node leads the graph. Ask that one.
    #[error(
        "another node leads graph `{graph}`{}",
        .leader.as_ref().and_then(|leader| leader.address.as_ref())
            .map(|address| format!(": write to {address}")).unwrap_or_default()
    )]
    LedElsewhere {
        /// Its name.
        graph: Name,
        /// The leader, if it is known.
        leader: Option<Arc<LeaderAt>>,
    },
    /// The lock cannot be reached. Try again when it is back.
    #[error("the lock is unavailable: {what}")]
    LockUnavailable {
        /// As it told it.
        what: String,
    },
    /// The database cannot be reached. Nothing was written. Try again when it is back.
    #[error("{what}")]
    DatabaseUnavailable {
        /// As it told it.
        what: String,
    },
    /// The write may or may not have been applied, and that cannot be learnt now.
    #[error("{what}")]
    OutcomeUnknown {
        /// Why not.
        what: String,
    },
    /// A bug, or damaged data.
    #[error("{what}")]
    Internal {
        /// What was found.
        what: String,
    },
}

impl From<GivenUp> for Refusal {
    fn from(GivenUp { in_doubt }: GivenUp) -> Self {
        if in_doubt {
            let what = format!("{}; it may commit the write later", watch::NO_ANSWER);
            return Self::OutcomeUnknown { what };
        }
        Self::DatabaseUnavailable { what: watch::NO_ANSWER.to_owned() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let what = error.to_string();
        match error {
            StoreError::Database(DbError::Refused(_) | DbError::RowsDiffer { .. })
            | StoreError::DamagedRows { .. }
            | StoreError::DamagedLog(_)
            | StoreError::DamagedHistory { .. }
            | StoreError::IllegalHistory { .. }
            | StoreError::KeptApart { .. }
            | StoreError::UnknownStorage(_)
            | StoreError::DamagedValue(_)
            | StoreError::RowDisappeared(_) => Self::Internal { what },
            StoreError::Database(_) => Self::DatabaseUnavailable { what },
        }
    }
}

impl Refusal {
    /// There is no graph of that name.
    pub(super) fn graph_not_found(graph: &Name) -> Self {
        Self::GraphNotFound { graph: graph.clone() }
    }

    /// What `error` means to those who asked for a write to `graph`.
    pub(super) fn of_commit(graph: &Name, error: CommitError) -> Self {
        let what = error.to_string();
        match error {
            CommitError::Frozen { moved_to } => Refusal::Frozen { graph: graph.clone(), moved_to },
            CommitError::Deleted => Self::graph_not_found(graph),
            CommitError::Fenced { .. }
            | CommitError::EpochMoved { .. }
            | CommitError::Gone { .. } => {
                Refusal::Contended { what: format!("the turn was lost: {what}") }
            }
            CommitError::Thawed => Self::Contended { what },
            CommitError::Conflict { .. }
            | CommitError::StorageChanged { .. }
            | CommitError::KeyTaken { .. }
            | CommitError::Yielded(_) => {
                Refusal::Contended { what: format!("other writers were faster: {what}") }
            }
            CommitError::Refused(_) => Refusal::Internal { what },
            CommitError::Unavailable(error) => error.into(),
            CommitError::Unknown { .. } => Refusal::OutcomeUnknown { what },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_replaced_by_a_later_one_or_by_who_has_the_token_that_it_was_to_have() {
        let leader = |node: &str, token| LeaderAt {
            node: node.to_owned(),
            token,
            is_to_come: false,
            address: None,
            key: ImageKey::of_an_empty_graph(),
        };
        assert!(leader("a", 3).replaces(&leader("a", 2)));
        assert!(leader("b", 2).replaces(&leader("a", 2)));
        assert!(!leader("a", 2).replaces(&leader("a", 2)));
        assert!(!leader("b", 1).replaces(&leader("a", 2)));
    }
}
