//! The image: the graph in memory at one version, published together with that version as one
//! value.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::permits::Permit;
use crate::db::watch::Reclaimable;
use crate::graph::Graph;
use crate::store::{Head, ImageKey, StorageKind};

/// A graph and what it is known by. Never changes; whoever holds one sees one state for as long as
/// it likes.
pub struct Image {
    /// Graph, version and chain.
    pub key: ImageKey,
    /// How the graph is kept.
    pub storage: StorageKind,
    /// The graph at that version.
    pub graph: Graph,
    /// Given back after the graph, or when the task that loaded it is given up.
    _permit: Option<Reclaimable<Permit>>,
}

impl Image {
    /// From the store.
    pub(super) fn loaded(head: &Head, graph: Graph, permit: Option<Reclaimable<Permit>>) -> Self {
        Self { key: head.key(), storage: head.storage, graph, _permit: permit }
    }

    /// From the image before and a change; it shares all that the change left as it was.
    pub(super) fn derived(head: &Head, graph: Graph) -> Self {
        Self { key: head.key(), storage: head.storage, graph, _permit: None }
    }
}

/// A graph as a turn takes it: the row, and the image at its version.
pub struct Refreshed {
    /// The row.
    pub head: Head,
    /// The graph at its version.
    pub image: Arc<Image>,
}

/// The newest image of one graph. The mutex is held to copy a
/// pointer, never across anything that waits for something else than it.
#[derive(Default)]
pub(super) struct ImageCell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    newest: Option<Arc<Image>>,
    /// Whether a turn of this process is between its conditional write and its image.
    committing: bool,
}

impl ImageCell {
    pub(super) fn get(&self) -> Option<Arc<Image>> {
        self.lock().newest.clone()
    }

    /// The newest image. If it is older than `version` and a commit is under way here, it is most
    /// likely that commit which made the version: its image is waited for, up to `patience`, as it
    /// comes much sooner than a load would.
    pub(super) fn get_awaiting(&self, version: u64, patience: Duration) -> Option<Arc<Image>> {
        let older = |state: &mut State| {
            state.committing
                && state.newest.as_ref().is_some_and(|newest| newest.key.version < version)
        };
        let waited = self.changed.wait_timeout_while(self.lock(), patience, older);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.newest.clone()
    }

    /// Whether a commit is under way.
    pub(super) fn is_committing(&self) -> bool {
        self.lock().committing
    }

    /// Says that a commit is under way until what is returned is dropped, which must be after its
    /// image was published.
    pub(super) fn committing(&self) -> Committing<'_> {
        self.lock().committing = true;
        Committing(self)
    }

    /// Makes `image` the newest, unless a newer one of that graph was published meanwhile. One of
    /// the same version takes the place of one that was kept in another storage.
    pub(super) fn publish(&self, image: &Arc<Image>) {
        let mut state = self.lock();
        let older = state.newest.as_ref().is_none_or(|newest| {
            newest.key.version < image.key.version
                || newest.key == image.key && newest.storage != image.storage
        });
        if older {
            // The former image is dropped after the mutex is free: it may be the last owner of a
            // whole graph.
            let former = state.newest.replace(Arc::clone(image));
            drop(state);
            self.changed.notify_all();
            drop(former);
        }
    }

    /// What the newest image takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.lock().newest.as_ref().map_or(0, |newest| newest.graph.memory_bytes())
    }

    /// Forgets `image`, if it still is the newest.
    pub(super) fn discard(&self, image: ImageKey) {
        let former = self.lock().newest.take_if(|newest| newest.key == image);
        drop(former);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit that is under way.
pub(super) struct Committing<'c>(&'c ImageCell);

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.0.lock().committing = false;
        self.0.changed.notify_all();
    }
}
