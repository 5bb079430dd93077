//! A turn of reads: one look at the version serves all that have arrived before it.

use std::sync::Arc;
use std::time::Instant;

use super::image::Image;
use super::lane::Lane;
use super::metrics::observe;
use super::{Inner, Reads, Refusal};
use crate::lock::{LockKey, Mode};
use crate::store::GraphState;

impl Inner {
    pub(super) fn start_read_turn(self: &Arc<Self>, lane: Arc<Lane>) {
        let inner = Arc::clone(self);
        self.workers.spawn(move || {
            let turn = ReadTurn { inner: &inner, lane: &lane };
            inner.take_read_turn(&lane);
            drop(turn);
        });
    }

    fn take_read_turn(&self, lane: &Lane) {
        let batch = lane.take_reads();
        let began = Instant::now();
        self.metrics.read_batch.observe(batch.len() as f64);
        for read in &batch {
            observe(&self.metrics.queue_wait, began.saturating_duration_since(read.since));
        }
        let image = self.current_image(lane);
        for read in batch {
            (read.reply)(image.clone());
        }
    }

    /// The image at the store's version now. The lock is held only while that version is learnt: an image never changes, so
    /// what is computed from it needs no lock.
    fn current_image(&self, lane: &Lane) -> Result<Arc<Image>, Refusal> {
        let not_found = || Refusal::GraphNotFound { graph: lane.name.clone() };
        let Some(graph_id) = self.graph_id(lane)? else { return Err(not_found()) };
        let guard = match self.reads {
            Reads::Snapshot => None,
            Reads::Lock => {
                let began = Instant::now();
                let key = LockKey::new(self.store.database_id(), graph_id)?;
                let guard = self.lock.acquire(&key, Mode::Shared, self.limits.lock_wait)?;
                observe(&self.metrics.lock_wait, began.elapsed());
                Some(guard)
            }
        };
        let (head, image) = self.refreshed(lane)?.ok_or_else(not_found)?;
        drop(guard);
        if head.state == GraphState::Deleted { Err(not_found()) } else { Ok(image) }
    }
}

/// Starts the next turn when this one ends, however it ends.
struct ReadTurn<'t> {
    inner: &'t Arc<Inner>,
    lane: &'t Arc<Lane>,
}

impl Drop for ReadTurn<'_> {
    fn drop(&mut self) {
        if self.lane.end_read_turn() {
            self.inner.start_read_turn(Arc::clone(self.lane));
        }
    }
}
