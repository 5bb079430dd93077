//! A thread that works beside the requests, at intervals, until the service closes.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::limits::CLOSING_PATIENCE;

/// The thread. It ends when this is dropped, at its next pause.
pub(super) struct Background {
    /// `None` only while this is being dropped.
    open: Option<Sender<Infallible>>,
    /// In a mutex only to be shared between threads; nobody waits for that.
    ended: Mutex<Receiver<Infallible>>,
}

/// How the thread pauses.
pub(super) struct Pauses(Receiver<Infallible>);

impl Pauses {
    /// Waits so long; whether the service is still open.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        self.0.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
    }
}

impl Background {
    /// Starts a thread of that name. If there can be none, logs `without`: what is not done then.
    pub(super) fn start(
        name: &str,
        without: &str,
        work: impl FnOnce(&Pauses) + Send + 'static,
    ) -> Self {
        let (open, closed) = channel();
        let (running, ended) = channel();
        let body = move || {
            // Dropped last: whoever waits for this thread may end the process, and the last owner
            // of the store closes its connections.
            let _running: Sender<Infallible> = running;
            let work = work;
            work(&Pauses(closed));
        };
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(body) {
            log::warn!("{without}: no thread can be started: {error}");
        }
        Self { open: Some(open), ended: Mutex::new(ended) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.open = None;
        // Nothing is ever sent: it is over when the thread has dropped its end.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(CLOSING_PATIENCE);
    }
}
