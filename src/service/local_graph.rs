//! What this process keeps of one graph: its image, the id of its row, and the requests that wait
//! for its turns.

use std::sync::{Mutex, MutexGuard};

use super::image::{ImageCell, Refreshed};
use super::queue::{PendingRead, PendingWrite, Queue, Queued, lock};
use super::write_queue::{BatchLimits, Pushed, WriteQueue};
use crate::graph::Name;
use crate::store::{Head, StorageKind};

/// One graph in this process.
pub(super) struct LocalGraph {
    pub(super) name: Name,
    /// The row as it was last seen, or as this process has left it. The id is a name's for ever,
    /// unless an older database is put back.
    head: Mutex<Option<Head>>,
    pub(super) image: ImageCell,
    writes: Mutex<WriteQueue>,
    reads: Mutex<Queue<PendingRead>>,
}

impl LocalGraph {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            head: Mutex::default(),
            image: ImageCell::default(),
            writes: Mutex::default(),
            reads: Mutex::default(),
        }
    }

    pub(super) fn graph_id(&self) -> Option<i64> {
        lock(&self.head).as_ref().map(|head| head.id)
    }

    /// How it is kept, as it was last seen; `None` if it was not seen yet.
    pub(super) fn storage(&self) -> Option<StorageKind> {
        lock(&self.head).as_ref().map(|head| head.storage)
    }

    /// `None` if there is no such graph.
    pub(super) fn set_head(&self, head: Option<Head>) {
        *lock(&self.head) = head;
    }

    /// The row as it was last seen, and the image at its version, if this process has it. Both may
    /// be outdated: see [`Turn::at_hand`](super::turn::Turn::at_hand).
    pub(super) fn at_hand(&self) -> Option<Refreshed> {
        let (head, image) = (lock(&self.head).clone()?, self.image.get()?);
        let is_of_head = (image.key, image.storage) == (head.key(), head.storage);
        is_of_head.then_some(Refreshed { head, image })
    }

    pub(super) fn push_write(
        &self,
        write: PendingWrite,
        limit: usize,
        batch: BatchLimits,
    ) -> Pushed {
        self.writes().push(write, limit, batch)
    }

    /// Reads take up to `turns` turns at once.
    pub(super) fn push_read(
        &self,
        read: PendingRead,
        limit: usize,
        turns: usize,
    ) -> Queued<PendingRead> {
        lock(&self.reads).push(read, limit, turns)
    }

    /// The writes that wait. Nothing is decided while they are locked.
    pub(super) fn writes(&self) -> MutexGuard<'_, WriteQueue> {
        lock(&self.writes)
    }

    /// The reads that have arrived by now, the first `most` of them.
    pub(super) fn take_reads(&self, most: usize) -> Vec<PendingRead> {
        let waiting = &mut lock(&self.reads).waiting;
        let most = most.min(waiting.len());
        waiting.drain(..most).collect()
    }

    pub(super) fn end_read_turn(&self) -> bool {
        lock(&self.reads).end_turn()
    }

    /// How many requests wait, writes and reads.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.writes().waiting(), lock(&self.reads).waiting.len())
    }
}
