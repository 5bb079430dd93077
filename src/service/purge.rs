//! Deletes idempotency keys that are too old to be answered again, in a thread of its own, so that
//! no request waits for it. Every [`Limits::purge_every`] the thread goes through the graphs. Each
//! transaction deletes at most [`Limits::purge_keys`] keys of one graph, and a pause follows: an
//! embedded database has one writer at a time, and requests write in the pauses.
//!
//! Several nodes may do so on one database: each skips the keys that another has locked. A failure
//! is logged, and the next pass tries again: until then the keys only take room.

use std::mem;
use std::sync::Arc;

use prometheus::IntCounter;

use super::background::Background;
use super::limits::Limits;
use crate::store::{Purged, Store};

/// Starts the thread. It ends after the transaction that is under way.
pub(super) fn start(store: Arc<Store>, limits: Limits, purged: &IntCounter) -> Background {
    let purged = purged.clone();
    Background::start("purge", "old idempotency keys are not deleted", move |pauses| {
        let mut round = Round::default();
        let mut wait = limits.purge_every;
        while pauses.wait(wait) {
            wait = if round.goes_on(&store, &limits, &purged) {
                limits.purge_pause
            } else {
                limits.purge_every
            };
        }
    })
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
