//! What one conditional write is made of.

use super::head::Head;
use crate::graph::{Change, Graph, Touched};

/// One conditional write.
pub struct Commit<'c> {
    /// The row as it was read: the write holds only if its version still stands.
    pub read: &'c Head,
    /// The token under which it is made.
    pub fence: Fence,
    /// Names this attempt in the change log.
    pub attempt: &'c str,
    /// The graph as it was read.
    pub before: &'c Graph,
    /// The graph that all entries lead to.
    pub after: &'c Graph,
    /// In version order, without gaps, from the version read.
    pub entries: &'c [Entry<'c>],
    /// Idempotency keys of the requests that were decided as if their keys were new. If an answer
    /// is stored under one of them, the write does not hold.
    pub keys: &'c [&'c str],
    /// Answers to keep, each under one of the keys.
    pub answers: &'c [StoredAnswer],
    /// Whether the last entry deletes the graph.
    pub deletes_graph: bool,
}

/// By what right a write is made, beside that of the version that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// That of the lock, with this token: refused if a larger one was seen, and the largest seen
    /// from then on.
    Token(i64),
    /// That of the graph's leader, with the token of its take-over: refused if that is not the last
    /// one. The fence of the lock stays.
    Leader(i64),
    /// Without a token: no lock was taken, and the version alone decides. The fence stays.
    Unfenced,
}

impl Fence {
    /// The token of the lock, if it is by that.
    #[must_use]
    pub fn token(self) -> Option<i64> {
        match self {
            Self::Token(token) => Some(token),
            Self::Leader(_) | Self::Unfenced => None,
        }
    }

    /// The token of the leader, if it is by that.
    #[must_use]
    pub fn leader(self) -> Option<i64> {
        match self {
            Self::Leader(token) => Some(token),
            Self::Token(_) | Self::Unfenced => None,
        }
    }
}

/// A change that is to be written.
#[derive(Clone, Copy)]
pub struct Entry<'e> {
    /// Not empty.
    pub change: &'e Change,
    /// The version that it makes.
    pub version: u64,
    /// What it touches.
    pub touched: &'e Touched,
    /// Who asked for it.
    pub actor: Option<&'e str>,
    /// Of a write that another node has passed on: the name of that request, and whether the change
    /// has created something that it names.
    pub request: Option<&'e str>,
}

/// An answer to be given again to whoever sends the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The client's key.
    pub key: String,
    /// SHA-256 of what was asked.
    pub fingerprint: String,
    /// What was answered.
    pub answer: String,
}
