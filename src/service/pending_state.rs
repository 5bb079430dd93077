//! The state of a graph that a commit under way leads to, for as long as nobody knows whether the
//! commit succeeds.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::graph::Graph;
use crate::store::{ImageKey, StorageKind};

/// Names one state of a graph that a commit of this process leads to, if it succeeds. Two attempts
/// never lead to the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateId(u64);

impl StateId {
    /// One that no other state has.
    pub(super) fn new() -> Self {
        static GIVEN: AtomicU64 = AtomicU64::new(0);
        Self(GIVEN.fetch_add(1, Ordering::Relaxed))
    }
}

/// The state that the commit under way leads to, if it succeeds.
pub(super) struct PendingState {
    /// Its name.
    pub(super) id: StateId,
    /// The graph then.
    pub(super) graph: Graph,
    /// The token of the leadership under which it was decided.
    pub(super) led_under: Option<i64>,
}

/// A state that a commit has led to, as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommittedState {
    /// Its name.
    pub(super) id: StateId,
    /// Graph, version and chain.
    pub(super) key: ImageKey,
    /// How the graph is kept.
    pub(super) storage: StorageKind,
}
