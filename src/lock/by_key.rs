//! What a process keeps for each key of a lock while somebody is there, and for some keys longer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::LockKey;
use super::gate::lock;

/// Keys that are kept while nobody uses them. With more, those not in use are dropped.
const KEYS_KEPT: usize = 64;

#[derive(Debug)]
pub(super) struct ByKey<Q>(Mutex<Queues<Q>>);

#[derive(Debug)]
struct Queues<Q> {
    queues: HashMap<LockKey, Arc<Q>>,
    /// The number of keys at which to look for idle ones. Doubles when all are in use, so that
    /// looking stays rare.
    tidy_at: usize,
}

impl<Q> Default for ByKey<Q> {
    fn default() -> Self {
        Self(Mutex::new(Queues { queues: HashMap::new(), tidy_at: KEYS_KEPT }))
    }
}

impl<Q> ByKey<Q> {
    /// What is kept for `key`, made by `new` if nothing is. Whoever uses it has a reference of its
    /// own; with none, it may be dropped if `is_idle` agrees.
    pub(super) fn get(
        &self,
        key: &LockKey,
        is_idle: impl Fn(&Q) -> bool,
        new: impl FnOnce() -> Q,
    ) -> Arc<Q> {
        // Dropped, with whatever they have open, after the mutex is given back.
        let _idle: Vec<(LockKey, Arc<Q>)>;
        let mut kept = lock(&self.0);
        if let Some(queue) = kept.queues.get(key) {
            return Arc::clone(queue);
        }
        if kept.queues.len() >= kept.tidy_at {
            // Nobody can come in between: references are given under the mutex.
            _idle = kept
                .queues
                .extract_if(|_, queue| Arc::strong_count(queue) == 1 && is_idle(queue))
                .collect();
            kept.tidy_at = KEYS_KEPT.max(2 * kept.queues.len());
        }
        let queue = Arc::new(new());
        kept.queues.insert(key.clone(), Arc::clone(&queue));
        queue
    }
}
