//! The image: the graph in memory at one version, published together with that version as one value.

use std::sync::{Arc, Mutex, PoisonError};

use crate::graph::Graph;
use crate::store::ImageKey;

/// A graph and what it is known by. Never changes; whoever holds one sees one state for as long as it likes.
pub struct Image {
    /// Graph, version and chain.
    pub key: ImageKey,
    /// The graph at that version.
    pub graph: Graph,
}

/// The newest image of one graph. The mutex is held to copy a pointer, never across anything that waits.
#[derive(Default)]
pub(super) struct ImageCell(Mutex<Option<Arc<Image>>>);

impl ImageCell {
    pub(super) fn get(&self) -> Option<Arc<Image>> {
        self.lock().clone()
    }

    /// Makes `image` the newest, unless a newer one of that graph was published meanwhile.
    pub(super) fn publish(&self, image: &Arc<Image>) {
        let mut newest = self.lock();
        let older = newest.as_ref().is_none_or(|newest| newest.key.version < image.key.version);
        if older {
            // The former image is dropped after the mutex is free: it may be the last owner of a whole graph.
            let former = newest.replace(Arc::clone(image));
            drop(newest);
            drop(former);
        }
    }

    /// Forgets `image`, if it still is the newest.
    pub(super) fn discard(&self, image: ImageKey) {
        let former = self.lock().take_if(|newest| newest.key == image);
        drop(former);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Image>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
