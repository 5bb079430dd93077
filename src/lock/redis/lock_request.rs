//! Requests of this process, from before they are sent until the server knows that they are over.
//! The threads of a lock share them. A request's mutex is held for a few assignments, never across
//! I/O.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::script::{Keys, WriterGrant};
use crate::lock::gate::{Deadline, lock};
use crate::lock::{LockKey, Mode};

/// How this process learned of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantPath {
    /// The lock was free when the request arrived.
    Free,
    /// It was handed over, and a message said so.
    Message,
    /// It was handed over, and the message was lost: the answer to a renewal said so.
    Asked,
}

/// Where a request stands, as far as this process knows.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// It is being sent, or must be sent again.
    Asking,
    /// It waits in line at the server.
    Queued {
        /// When its place was last renewed.
        renewed: Instant,
        /// When the leases of those before it will have expired.
        free_at: Instant,
    },
    /// It was granted.
    Held(Holding),
    /// It was granted, and the grant was lost, for the reason given. Final.
    Lost(&'static str),
    /// The server is being told that it is over.
    Ending {
        /// Since when.
        since: Instant,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) path: GrantPath,
    pub(super) grant: Option<WriterGrant>,
    pub(super) since: Instant,
    /// When it was last renewed.
    pub(super) renewed: Instant,
    /// Until when it is surely held; `None` if it was handed over and is not claimed yet.
    pub(super) valid_until: Option<Instant>,
}

pub(super) struct Request {
    /// `PROCESS#NUMBER`.
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) key: LockKey,
    pub(super) keys: Keys,
    pub(super) mode: Mode,
    state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    pub(super) stage: Stage,
    /// Its token was sealed in the database.
    pub(super) sealed: bool,
    /// An answer was lost: the server may still receive a copy of the request.
    pub(super) may_still_arrive: bool,
    /// Nobody listens, so the thread that waits for it must.
    pub(super) must_listen: bool,
    /// Another request waits, or has waited, for what this one holds.
    pub(super) is_wanted: bool,
    /// When the server was last asked and said that no other request waits.
    pub(super) unwanted_at: Option<Instant>,
}

impl Request {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Has the thread that waits for it listen for messages.
    pub(super) fn ask_to_listen(&self) {
        self.state().must_listen = true;
        self.changed.notify_all();
    }

    /// Moves it to the stage that `next` returns, if any, and wakes the thread that waits for it.
    pub(super) fn advance(&self, next: impl FnOnce(&State) -> Option<Stage>) -> bool {
        let mut state = self.state();
        let Some(stage) = next(&state) else { return false };
        state.stage = stage;
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Waits until `ready` returns a value; `None` when the time is up.
    pub(super) fn wait_for<T>(
        &self,
        deadline: &Deadline,
        ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let (_state, ready) = deadline.wait_for(&self.changed, self.state(), ready);
        ready
    }
}

/// All requests that are not over.
#[derive(Default)]
pub(super) struct Requests {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Request>>>,
}

impl Requests {
    pub(super) fn begin(&self, process: &str, key: &LockKey, mode: Mode) -> Arc<Request> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Arc::new(Request {
            id: format!("{process}#{number}"),
            number,
            key: key.clone(),
            keys: Keys::of(key),
            mode,
            state: Mutex::new(State {
                stage: Stage::Asking,
                sealed: false,
                may_still_arrive: false,
                must_listen: false,
                is_wanted: false,
                unwanted_at: None,
            }),
            changed: Condvar::new(),
        });
        lock(&self.open).insert(number, Arc::clone(&request));
        request
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Request>> {
        lock(&self.open).get(&number).cloned()
    }

    /// Removes a request of which the server knows that it is over.
    pub(super) fn end(&self, request: &Request) {
        lock(&self.open).remove(&request.number);
    }

    pub(super) fn all(&self) -> Vec<Arc<Request>> {
        lock(&self.open).values().cloned().collect()
    }

    pub(super) fn are_over(&self) -> bool {
        lock(&self.open).is_empty()
    }
}
