//! Deletes idempotency keys that are too old to be answered again, in a thread of its own, so that
//! no request waits for it. Every [`Limits::purge_every`] the thread goes through the graphs. Each
//! transaction deletes at most [`Limits::purge_keys`] keys of one graph, and a pause follows: an
//! embedded database has one writer at a time, and requests write in the pauses.
//!
//! Several nodes may do so on one database: each skips the keys that another has locked. A failure
//! is logged, and the next pass tries again: until then the keys only take room.

use std::convert::Infallible;
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use prometheus::IntCounter;

use super::limits::{CLOSING_PATIENCE, Limits};
use crate::store::{Purged, Store};

/// The thread. It ends when this is dropped, after the transaction that is under way.
pub(super) struct Purge {
    /// `None` only while this is being dropped.
    open: Option<Sender<Infallible>>,
    /// In a mutex only to be shared between threads; nobody waits for that.
    ended: Mutex<Receiver<Infallible>>,
}

impl Purge {
    pub(super) fn start(store: Arc<Store>, limits: Limits, purged: &IntCounter) -> Self {
        let (open, closed) = channel();
        let (running, ended) = channel();
        let purged = purged.clone();
        let purge = move || {
            // Dropped last: whoever waits for this thread may end the process, and the last owner
            // of the store closes its connections.
            let _running = running;
            let store = store;
            let mut round = Round::default();
            let mut wait = limits.purge_every;
            while closed.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = if round.goes_on(&store, &limits, &purged) {
                    limits.purge_pause
                } else {
                    limits.purge_every
                };
            }
        };
        let thread = thread::Builder::new().name("purge".to_owned()).spawn(purge);
        if let Err(error) = thread {
            log::warn!("old idempotency keys are not deleted: no thread can be started: {error}");
        }
        Self { open: Some(open), ended: Mutex::new(ended) }
    }
}

impl Drop for Purge {
    fn drop(&mut self) {
        self.open = None;
        // Nothing is ever sent: it is over when the thread has dropped its end.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(CLOSING_PATIENCE);
    }
}

/// One way through all graphs, in the order of their row ids.
#[derive(Default)]
struct Round {
    /// The graph that was last.
    after: i64,
    /// Whether anything was deleted.
    deleted: bool,
}

impl Round {
    /// Deletes some keys of the next graph; whether there may be more to delete soon.
    fn goes_on(&mut self, store: &Store, limits: &Limits, purged: &IntCounter) -> bool {
        match store.purge_answers(self.after, limits.purge_keys) {
            Ok(Some(Purged { graph_id, keys })) => {
                (self.after, self.deleted) = (graph_id, self.deleted || keys > 0);
                purged.inc_by(keys as u64);
                true
            }
            // Graphs with many had only some deleted.
            Ok(None) => mem::take(self).deleted,
            Err(error) => {
                *self = Self::default();
                log::warn!(
                    "old idempotency keys could not be deleted, tried again in {:.0?}: {error}",
                    limits.purge_every
                );
                false
            }
        }
    }
}
