//! The image: the graph in memory at one version, published together with that version as one
//! value.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::permits::Permit;
use crate::db::watch::Reclaimable;
use crate::graph::{Change, Graph, Name, apply_all, apply_all_and_judge};
use crate::store::{Head, ImageKey, StorageKind, StoreError};

/// A graph and what it is known by. Never changes; whoever holds one sees one state for as long as
/// it likes.
pub struct Image {
    /// Graph, version and chain.
    pub key: ImageKey,
    /// How the graph is kept.
    pub storage: StorageKind,
    /// The graph at that version.
    pub graph: Graph,
    /// The first version that breaks a rule, if this one or one before it does.
    first_illegal: Option<Arc<IllegalVersion>>,
    /// Given back after the graph, or when the task that loaded it is given up.
    _permit: Option<Reclaimable<Permit>>,
}

impl Image {
    /// From the store.
    pub(super) fn loaded(head: &Head, graph: Graph, permit: Option<Reclaimable<Permit>>) -> Self {
        let (key, storage) = (head.key(), head.storage);
        Self { key, storage, graph, first_illegal: None, _permit: permit }
    }

    /// From the image before and changes; it shares all that they left as it was.
    pub(super) fn derived(head: &Head, graph: Graph, before: &Self) -> Self {
        let first_illegal = before.first_illegal.clone();
        Self { key: head.key(), storage: head.storage, graph, first_illegal, _permit: None }
    }

    /// As [`derived`](Self::derived), by changes that may break the rules.
    pub(super) fn judged(head: &Head, changes: &[Change], before: &Self) -> Self {
        if before.first_illegal.is_some() {
            return Self::derived(head, apply_all(&before.graph, changes), before);
        }
        let (graph, illegal) = apply_all_and_judge(&before.graph, changes);
        let first_illegal = illegal.map(|(version, illegal)| {
            Arc::new(IllegalVersion { version, what: illegal.to_string() })
        });
        Self { first_illegal, ..Self::derived(head, graph, before) }
    }

    /// Makes sure that the graph keeps the rules, so that something can be read of it.
    pub(super) fn check_legal(&self, graph: &Name) -> Result<(), StoreError> {
        let Some(illegal) = &self.first_illegal else { return Ok(()) };
        let IllegalVersion { version, what } = &**illegal;
        let (graph, version, what) = (graph.clone(), *version, what.clone());
        Err(StoreError::IllegalHistory { graph, storage: self.storage, version, what })
    }
}

/// A version whose change breaks a rule.
struct IllegalVersion {
    version: u64,
    /// Which, for people.
    what: String,
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
    /// How many turns of this process are between their conditional write and their image.
    committing: usize,
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
            state.committing > 0
                && state.newest.as_ref().is_some_and(|newest| newest.key.version < version)
        };
        let waited = self.changed.wait_timeout_while(self.lock(), patience, older);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.newest.clone()
    }

    /// Whether a commit is under way.
    pub(super) fn is_committing(&self) -> bool {
        self.lock().committing > 0
    }

    /// Says that a commit is under way until what is returned is dropped, which must be after its
    /// image was published.
    pub(super) fn committing(&self) -> Committing<'_> {
        self.lock().committing += 1;
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
        self.0.lock().committing -= 1;
        self.0.changed.notify_all();
    }
}
