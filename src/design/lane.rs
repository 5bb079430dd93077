//! The requests that wait for a graph's turns: bounded, in the order in which they came, reads and
//! writes apart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::image::{Image, ImageCell};
use super::{Refusal, Verdict, Write};
use crate::graph::Name;

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
    fn for_another_turn(self) -> Self {
        Self(Arc::new(Mutex::new(lock(&self.0).take())))
    }
}

pub(super) struct PendingWrite {
    pub(super) write: Write,
    pub(super) reply: Reply<Verdict>,
    pub(super) since: Instant,
}

pub(super) struct PendingRead {
    pub(super) reply: Reply<Result<Arc<Image>, Refusal>>,
    pub(super) since: Instant,
}

/// All that this process keeps of one graph.
pub(super) struct Lane {
    pub(super) name: Name,
    /// The row's id as it was last seen. A name has one for ever, unless an older database is put
    /// back.
    graph_id: Mutex<Option<i64>>,
    pub(super) image: ImageCell,
    writes: Mutex<Line<PendingWrite>>,
    reads: Mutex<Line<PendingRead>>,
}

/// Those who wait, and how many turns that will serve them are under way.
struct Line<T> {
    waiting: VecDeque<T>,
    turns: usize,
    /// Turns at once.
    most_turns: usize,
}

/// What became of a request that was put in line.
pub(super) enum Queued<T> {
    /// A turn must be started for it.
    First,
    /// A turn will serve it.
    Behind,
    /// The line is full; here it is again.
    Full(T),
}

impl<T> Line<T> {
    fn new(most_turns: usize) -> Self {
        Self { waiting: VecDeque::new(), turns: 0, most_turns }
    }

    fn push(&mut self, item: T, limit: usize) -> Queued<T> {
        if self.waiting.len() >= limit {
            return Queued::Full(item);
        }
        self.waiting.push_back(item);
        if self.turns == self.most_turns {
            return Queued::Behind;
        }
        self.turns += 1;
        Queued::First
    }

    /// Ends a turn; says whether another must be started.
    fn end_turn(&mut self) -> bool {
        let goes_on = !self.waiting.is_empty();
        self.turns -= usize::from(!goes_on);
        goes_on
    }
}

impl Lane {
    /// Writes take one turn after another, reads up to `read_turns` at once.
    pub(super) fn new(name: Name, keeps_images: bool, read_turns: usize) -> Self {
        Self {
            name,
            graph_id: Mutex::default(),
            image: ImageCell::new(keeps_images),
            writes: Mutex::new(Line::new(1)),
            reads: Mutex::new(Line::new(read_turns)),
        }
    }

    pub(super) fn graph_id(&self) -> Option<i64> {
        *lock(&self.graph_id)
    }

    pub(super) fn set_graph_id(&self, id: Option<i64>) {
        *lock(&self.graph_id) = id;
    }

    pub(super) fn push_write(&self, write: PendingWrite, limit: usize) -> Queued<PendingWrite> {
        lock(&self.writes).push(write, limit)
    }

    pub(super) fn push_read(&self, read: PendingRead, limit: usize) -> Queued<PendingRead> {
        lock(&self.reads).push(read, limit)
    }

    /// The next batch of writes: at least one, and then as many as fit both limits.
    pub(super) fn take_writes(&self, most: usize, most_bytes: usize) -> Vec<PendingWrite> {
        let mut line = lock(&self.writes);
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = line.waiting.front() {
            bytes += next.write.bytes;
            if !batch.is_empty() && (batch.len() >= most || bytes > most_bytes) {
                break;
            }
            batch.extend(line.waiting.pop_front());
        }
        batch
    }

    /// Puts writes that a turn took and did not come to before all others.
    pub(super) fn put_back(&self, writes: Vec<PendingWrite>) {
        let mut line = lock(&self.writes);
        for write in writes.into_iter().rev() {
            let reply = write.reply.for_another_turn();
            line.waiting.push_front(PendingWrite { reply, ..write });
        }
    }

    /// The reads that have arrived by now, the first `most` of them.
    pub(super) fn take_reads(&self, most: usize) -> Vec<PendingRead> {
        let waiting = &mut lock(&self.reads).waiting;
        let most = most.min(waiting.len());
        waiting.drain(..most).collect()
    }

    pub(super) fn end_write_turn(&self) -> bool {
        lock(&self.writes).end_turn()
    }

    pub(super) fn end_read_turn(&self) -> bool {
        lock(&self.reads).end_turn()
    }

    /// How many requests wait, writes and reads.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (lock(&self.writes).waiting.len(), lock(&self.reads).waiting.len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
