//! A turn of reads: one look at the version serves all that have arrived before it, if the design
//! shares turns.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::image::Image;
use super::lane::{Lane, PendingRead};
use super::metrics::observe;
use super::{Inner, Reads, Refusal};
use crate::db::watch::{self, GivenUp, Kept};
use crate::lock::{LockKey, Mode};
use crate::store::{GraphState, Head};

impl Inner {
    pub(super) fn start_read_turn(self: &Arc<Self>, lane: Arc<Lane>) {
        let inner = Arc::clone(self);
        self.workers.spawn(move || inner.take_read_turn(&lane));
    }

    pub(super) fn take_read_turn(self: &Arc<Self>, lane: &Arc<Lane>) {
        if self.shares_turns() {
            gather(lane);
        }
        let batch = lane.take_reads(self.turn_size(self.limits.batch_reads));
        let replies: Vec<_> = batch.iter().map(|read| read.reply.clone()).collect();
        let (inner, of) = (Arc::clone(self), Arc::clone(lane));
        let given_up = move |given_up: GivenUp| {
            replies.iter().for_each(|reply| reply.answer(Err(given_up.into())));
            end_turn(&inner, &of);
        };
        watch::watched(given_up, || {
            let _turn = ReadTurn { inner: self, lane };
            self.serve_reads(lane, batch);
        });
    }

    fn serve_reads(&self, lane: &Lane, batch: Vec<PendingRead>) {
        // Of several turns at once another may have been quicker.
        if batch.is_empty() {
            return;
        }
        let began = Instant::now();
        self.metrics.read_batch.observe(batch.len() as f64);
        let image = self.current_image(lane);
        let answering = Instant::now();
        for read in batch {
            observe(&self.metrics.queue_wait.read, began.saturating_duration_since(read.since));
            observe(&self.metrics.request.read, answering.saturating_duration_since(read.since));
            read.reply.answer(image.clone());
        }
        observe(&self.metrics.answer.read, answering.elapsed());
        observe(&self.metrics.turn.read, began.elapsed());
    }

    /// The image at the store's version now. The lock is held only while that version is learnt: an
    /// image never changes, so what is computed from it needs no lock.
    fn current_image(&self, lane: &Lane) -> Result<Arc<Image>, Refusal> {
        let not_found = || Refusal::GraphNotFound { graph: lane.name.clone() };
        let Some(graph_id) = self.graph_id(lane)? else { return Err(not_found()) };
        let current = match (self.reads, &self.lock) {
            (Reads::Snapshot, _) | (_, None) => self.refreshed_beside_writers(lane)?,
            (Reads::Lock, Some(lock)) => {
                let began = Instant::now();
                let key = LockKey::new(self.store.database_id(), graph_id)?;
                let guard = lock.acquire(&key, Mode::Shared, self.limits.lock_wait)?;
                let guard = Kept::new(guard);
                observe(&self.metrics.lock_wait.shared, began.elapsed());
                let granted = Instant::now();
                let refreshed = self.refreshed(lane, &self.metrics.refresh.read);
                drop(guard);
                observe(&self.metrics.lock_hold.shared, granted.elapsed());
                refreshed?
            }
        };
        let (head, image) = current.ok_or_else(not_found)?;
        if head.state == GraphState::Deleted { Err(not_found()) } else { Ok(image) }
    }

    /// As [`refreshed`](Self::refreshed), without the lock. A version that is newer than the image
    /// may have been written here a moment ago, its image on the way: to load the whole graph for
    /// it would cost every waiting read seconds on a large graph.
    fn refreshed_beside_writers(&self, lane: &Lane) -> Result<Option<(Head, Arc<Image>)>, Refusal> {
        if lane.image.get().is_none() {
            return self.refreshed(lane, &self.metrics.refresh.read);
        }
        let began = Instant::now();
        for _ in 0..LOOKS {
            let Some(head) = self.store.head(&lane.name)? else { return Ok(None) };
            lane.set_graph_id(Some(head.id));
            match lane.image.get_awaiting(head.version, IMAGE_WAIT) {
                Some(image) if image.key == head.key() => {
                    observe(&self.metrics.refresh.read, began.elapsed());
                    return Ok(Some((head, image)));
                }
                // Published since the row was read: the row is newer now, too.
                Some(image) if image.key.version > head.version => {}
                Some(_) | None => break,
            }
        }
        self.refreshed(lane, &self.metrics.refresh.read)
    }
}

/// Where more threads want to run than there are processors, lets those run that are about to ask,
/// for as long as that brings others along: fewer turns, each for more. Elsewhere it is over at
/// once.
fn gather(lane: &Lane) {
    let (_, mut waiting) = lane.waiting();
    for _ in 0..GATHERINGS {
        thread::yield_now();
        let before = std::mem::replace(&mut waiting, lane.waiting().1);
        if waiting <= before {
            return;
        }
    }
}

/// How often a read turn lets others come along.
const GATHERINGS: usize = 16;
/// How often a read looks at the row again because the image was newer than what it had seen.
const LOOKS: usize = 8;
/// How long a read waits for the image of a commit that this process has under way.
const IMAGE_WAIT: Duration = Duration::from_millis(100);

/// Starts the next turn when this one ends, however it ends.
struct ReadTurn<'t> {
    inner: &'t Arc<Inner>,
    lane: &'t Arc<Lane>,
}

impl Drop for ReadTurn<'_> {
    fn drop(&mut self) {
        // Otherwise the watchdog has ended it.
        if watch::disarm() {
            end_turn(self.inner, self.lane);
        }
    }
}

/// Starts the next turn, if anybody waits.
fn end_turn(inner: &Arc<Inner>, lane: &Arc<Lane>) {
    if lane.end_read_turn() {
        let (next, lane) = (Arc::clone(inner), Arc::clone(lane));
        inner.workers.spawn_as_next(move || next.take_read_turn(&lane));
    }
}
