//! The writes of one graph that wait for a turn, in the order in which they came. While a turn's
//! commit is under way, a worker decides the first of them ahead, on the state that the commit
//! leads to; their turn makes sure that the state came to be, or decides them again.

use std::collections::VecDeque;

use super::decisions::DecidedWrites;
use super::pending_state::{CommittedState, PendingState, StateId};
use super::queue::{PendingWrite, Queue, Queued};
use crate::failpoint;
use crate::graph::Graph;
use crate::store::{GraphState, Head};

/// How much one turn serves, and how much is decided ahead of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Writes of a batch.
    pub(super) writes: usize,
    /// Bytes of a batch, beyond its first write.
    pub(super) bytes: usize,
    /// Batches that are decided ahead.
    pub(super) ahead: usize,
    /// For so many waiting writes a worker is called to decide them ahead.
    pub(super) worth_a_worker: usize,
}

/// A batch that was taken from the queue.
pub(super) struct Batch {
    pub(super) writes: Vec<PendingWrite>,
    bytes: usize,
}

/// The first writes of a batch, decided on a state that a commit of this process was to lead to.
pub(super) struct DecidedAhead {
    on: StateId,
    pub(super) leads_to: StateId,
    pub(super) decided: DecidedWrites,
}

/// A batch that is decided ahead.
pub(super) struct AheadBatch {
    pub(super) batch: Batch,
    pub(super) ahead: DecidedAhead,
}

#[derive(Default)]
pub(super) struct WriteQueue {
    queue: Queue<PendingWrite>,
    /// What the commit under way leads to, if something can be decided on it.
    pending: Option<PendingState>,
    /// What the last commit that succeeded has led to.
    committed: Option<CommittedState>,
    /// Each but the first is decided on what the one before it leads to. They come before all that
    /// wait.
    ahead: VecDeque<AheadBatch>,
    worker: Worker,
}

/// The worker that decides ahead; there is at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Worker {
    #[default]
    None,
    /// It will come.
    Called,
    /// It has a batch, and takes the next turn when it has put that back, if the turn is due.
    Deciding { turn_is_due: bool },
}

/// What follows when a commit begins.
pub(super) struct CommitBegun {
    /// A worker must be called.
    pub(super) calls_worker: bool,
    /// Decisions that were made ahead in vain.
    pub(super) wasted: usize,
}

/// What follows when the worker gives its batch back.
pub(super) struct DecidingEnded {
    /// The turn before has ended, and the worker takes the next.
    pub(super) turn_is_due: bool,
    /// Decisions that were made ahead in vain.
    pub(super) wasted: usize,
}

impl Batch {
    fn new() -> Self {
        Self { writes: Vec::new(), bytes: 0 }
    }

    fn takes_more(&self, limits: BatchLimits) -> bool {
        self.writes.is_empty() || self.writes.len() < limits.writes && self.bytes < limits.bytes
    }

    /// Takes from those that wait, as many as fit: at least one if it was empty.
    fn fill(&mut self, waiting: &mut VecDeque<PendingWrite>, limits: BatchLimits) {
        while let Some(next) = waiting.front() {
            let bytes = self.bytes + next.write.bytes;
            let fits = self.writes.len() < limits.writes && bytes <= limits.bytes;
            if !self.writes.is_empty() && !fits {
                break;
            }
            self.bytes = bytes;
            self.writes.extend(waiting.pop_front());
        }
    }
}

impl AheadBatch {
    /// Whether it has writes that are not decided yet.
    fn is_incomplete(&self) -> bool {
        self.ahead.decided.count() < self.batch.writes.len()
    }

    /// Whether more of it can be decided, if more wait.
    fn is_open(&self, limits: BatchLimits) -> bool {
        self.is_incomplete() || self.batch.takes_more(limits)
    }
}

impl WriteQueue {
    /// Adds a write, unless `limit` wait already. Writes take one turn after another.
    pub(super) fn push(
        &mut self,
        write: PendingWrite,
        limit: usize,
        batch: BatchLimits,
    ) -> Queued<PendingWrite> {
        match self.queue.push(write, limit, 1) {
            Queued::Behind if self.calls_worker(batch) => Queued::Ahead,
            queued => queued,
        }
    }

    /// How many wait, those included that are decided ahead.
    pub(super) fn waiting(&self) -> usize {
        let ahead: usize = self.ahead.iter().map(|one| one.batch.writes.len()).sum();
        self.queue.waiting.len() + ahead
    }

    /// The batch of the next turn, with what was decided of it ahead.
    pub(super) fn take(
        &mut self,
        limits: BatchLimits,
    ) -> (Vec<PendingWrite>, Option<DecidedAhead>) {
        let (mut batch, ahead) = match self.ahead.pop_front() {
            Some(AheadBatch { batch, ahead }) => (batch, Some(ahead)),
            None => (Batch::new(), None),
        };
        // Others are decided on what this batch leads to as it is.
        if self.ahead.is_empty() {
            batch.fill(&mut self.queue.waiting, limits);
        }
        (batch.writes, ahead)
    }

    /// Puts writes that were not decided back at the front of those that wait.
    pub(super) fn put_back(&mut self, writes: Vec<PendingWrite>) {
        for write in writes.into_iter().rev() {
            let reply = write.reply.for_another_turn();
            self.queue.waiting.push_front(PendingWrite { reply, ..write });
        }
    }

    /// A commit begins that leads to this state.
    pub(super) fn commit_begins(
        &mut self,
        id: StateId,
        graph: &Graph,
        limits: BatchLimits,
    ) -> CommitBegun {
        let mut wasted = 0;
        if self.ahead.front().is_some_and(|first| first.ahead.on != id) {
            // They were decided on a state that will not come to be.
            for batch in std::mem::take(&mut self.ahead).into_iter().rev() {
                wasted += self.undo(batch);
            }
        }
        self.pending = Some(PendingState { id, graph: graph.clone() });
        CommitBegun { calls_worker: self.calls_worker(limits), wasted }
    }

    /// Puts back a batch that was decided ahead, to be decided again; how many decisions of it were
    /// in vain.
    fn undo(&mut self, batch: AheadBatch) -> usize {
        self.put_back(batch.batch.writes);
        batch.ahead.decided.count()
    }

    /// The commit has failed: nothing more is decided on what it was to lead to.
    pub(super) fn commit_failed(&mut self, id: StateId) {
        self.pending.take_if(|pending| pending.id == id);
    }

    /// The commit has succeeded.
    pub(super) fn committed(&mut self, state: CommittedState) {
        self.committed = Some(state);
    }

    /// Whether what was decided ahead holds on the graph as it was read: if that is the state on
    /// which it was decided.
    pub(super) fn holds(&self, ahead: &DecidedAhead, read: &Head) -> bool {
        if failpoint::is_off("ahead-comparison") {
            return ahead.decided.base_version() == read.version;
        }
        let state = CommittedState { id: ahead.on, key: read.key(), storage: read.storage };
        self.committed == Some(state) && read.state == GraphState::Open
    }

    /// The called worker has come: a batch for it, if there still is something to decide. Only
    /// those writes of it are to be decided that are not yet.
    pub(super) fn begin_deciding(&mut self, limits: BatchLimits) -> Option<AheadBatch> {
        if matches!(self.worker, Worker::Deciding { .. }) {
            return None;
        }
        self.worker = Worker::None;
        if !self.has_something_to_decide(limits) {
            return None;
        }
        let is_open = self.ahead.back().is_some_and(|last| last.is_open(limits));
        let open = if is_open { self.ahead.pop_back() } else { None };
        let mut next = match open {
            Some(last) => last,
            None => {
                let (on, graph) = match (self.ahead.back(), &self.pending) {
                    (Some(last), _) => (last.ahead.leads_to, last.ahead.decided.graph()),
                    (None, Some(pending)) => (pending.id, &pending.graph),
                    (None, None) => return None,
                };
                let decided = DecidedWrites::on(graph);
                let ahead = DecidedAhead { on, leads_to: StateId::new(), decided };
                AheadBatch { batch: Batch::new(), ahead }
            }
        };
        next.batch.fill(&mut self.queue.waiting, limits);
        self.worker = Worker::Deciding { turn_is_due: false };
        Some(next)
    }

    /// The worker gives its batch back; `None` if that is lost.
    pub(super) fn end_deciding(&mut self, decided: Option<AheadBatch>) -> DecidingEnded {
        let mut wasted = 0;
        if let Some(batch) = decided {
            let expected = match (self.ahead.back(), &self.pending) {
                (Some(last), _) => Some(last.ahead.leads_to),
                (None, pending) => pending.as_ref().map(|pending| pending.id),
            };
            match expected {
                // Another attempt at the turn has begun a commit meanwhile.
                Some(id) if id != batch.ahead.on => wasted = self.undo(batch),
                _ => self.ahead.push_back(batch),
            }
        }
        let turn_is_due =
            std::mem::take(&mut self.worker) == Worker::Deciding { turn_is_due: true };
        DecidingEnded { turn_is_due, wasted }
    }

    /// Ends a turn; says whether another must be started.
    pub(super) fn end_turn(&mut self) -> bool {
        self.pending = None;
        if let Worker::Deciding { turn_is_due } = &mut self.worker {
            *turn_is_due = true;
            return false;
        }
        self.queue.end_turn(!self.ahead.is_empty())
    }

    fn calls_worker(&mut self, limits: BatchLimits) -> bool {
        let calls = self.worker == Worker::None
            && self.queue.waiting.len() >= limits.worth_a_worker
            && self.has_something_to_decide(limits);
        if calls {
            self.worker = Worker::Called;
        }
        calls
    }

    /// Whether a commit is under way on which more can be decided: what the last batch has left
    /// over, or what waits, if there is room for it.
    fn has_something_to_decide(&self, limits: BatchLimits) -> bool {
        let (last, some_wait) = (self.ahead.back(), !self.queue.waiting.is_empty());
        let has_more = match last {
            Some(last) if last.is_incomplete() => true,
            // Of a graph that is deleted nothing more can be said.
            Some(last) if last.ahead.decided.leave_it_deleted() => false,
            Some(last) if last.batch.takes_more(limits) => some_wait,
            _ => some_wait && self.ahead.len() < limits.ahead,
        };
        self.pending.is_some() && has_more
    }
}
