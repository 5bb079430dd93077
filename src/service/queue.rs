//! The requests that wait for turns on one graph: bounded, in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use super::image::Image;
use super::refusal::Refusal;
use super::write::{Verdict, Write};

/// Where an answer goes: the first one, whoever gives it. It is handed on by the thread that took
/// the turn, or by the watchdog when the database does not answer that thread.
pub(super) struct Reply<T>(Arc<Mutex<Option<Answer<T>>>>);

type Answer<T> = Box<dyn FnOnce(T) + Send>;

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Reply<T> {
    /// `answer` must only hand the answer on.
    pub(super) fn new(answer: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(answer)))))
    }

    /// Answers, if nobody has.
    pub(super) fn answer(&self, value: T) {
        let answer = lock(&self.0).take();
        if let Some(answer) = answer {
            answer(value);
        }
    }

    /// The same for another turn: copies that this turn has given to others answer nothing more.
    pub(super) fn for_another_turn(self) -> Self {
        Self(Arc::new(Mutex::new(lock(&self.0).take())))
    }
}

/// Asks, and waits for the answer.
pub(super) fn wait_for<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, Refusal>) + Send>),
) -> Result<T, Refusal> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| drop(sender.send(answer))));
    receiver.recv().unwrap_or_else(|_| {
        Err(Refusal::OutcomeUnknown {
            what: "the turn ended without an answer; see the log".to_owned(),
        })
    })
}

pub(super) struct PendingWrite {
    pub(super) write: Write,
    pub(super) reply: Reply<Verdict>,
    pub(super) since: Instant,
    /// In which place it came, among the writes of its graph; given by the queue.
    pub(super) number: u64,
}

pub(super) struct PendingRead {
    pub(super) reply: Reply<Result<Arc<Image>, Refusal>>,
    pub(super) since: Instant,
}

/// Waiting requests, and the number of running turns that will serve them.
pub(super) struct Queue<T> {
    pub(super) waiting: VecDeque<T>,
    turns: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), turns: 0 }
    }
}

/// The result of adding a request to the queue.
pub(super) enum Queued<T> {
    /// A turn must be started for it.
    First,
    /// A turn will serve it.
    Behind,
    /// The queue is full; here is the request again.
    Full(T),
}

impl<T> Queue<T> {
    /// Adds a request, unless `limit` wait already. At most `most_turns` turns are under way.
    pub(super) fn push(&mut self, item: T, limit: usize, most_turns: usize) -> Queued<T> {
        if self.waiting.len() >= limit {
            return Queued::Full(item);
        }
        self.waiting.push_back(item);
        if self.turns >= most_turns {
            return Queued::Behind;
        }
        self.turns += 1;
        Queued::First
    }

    /// Ends a turn; says whether another must be started.
    pub(super) fn end_turn(&mut self) -> bool {
        let goes_on = !self.waiting.is_empty();
        self.turns -= usize::from(!goes_on);
        goes_on
    }
}

/// Its data is whole even if a thread panicked: nothing that may panic runs under it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
