//! The writes of one graph that wait for a turn, in the order in which they came. While a turn's
//! commit is under way, a worker decides the first of them ahead, on the state that the commit
//! leads to; their turn makes sure that the state came to be, or decides them again.

use std::collections::VecDeque;

use prometheus::IntCounter;

use super::decisions::DecidedWrites;
use super::pending_state::{CommittedState, PendingState, StateId};
use super::queue::PendingWrite;
use crate::failpoint;
use crate::store::{GraphState, Head};

/// How many turns there are, how much each serves, and how much is decided ahead of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Turns that are under way at once.
    pub(super) turns: usize,
    /// Writes of a batch.
    pub(super) writes: usize,
    /// Bytes of a batch, beyond its first write.
    pub(super) bytes: usize,
    /// Batches that are decided ahead.
    pub(super) ahead: usize,
    /// Starts a worker when at least this many writes wait.
    pub(super) worth_a_worker: usize,
}

/// Writes that are served together, in the order in which they came.
struct Batch {
    writes: Vec<PendingWrite>,
    bytes: usize,
}

/// The first writes of a batch, decided on a state that a commit of this process was to lead to.
pub(super) struct DecidedAhead {
    on: StateId,
    pub(super) leads_to: StateId,
    pub(super) decided: DecidedWrites,
}

/// A batch that is decided ahead, as far as its worker has come.
pub(super) struct AheadBatch {
    batch: Batch,
    ahead: DecidedAhead,
}

/// See the module.
#[derive(Default)]
pub(super) struct WriteQueue {
    waiting: VecDeque<PendingWrite>,
    /// How many writes have come so far.
    pushed: u64,
    /// Turns that are under way.
    turns: usize,
    /// What the commit under way leads to, if something can be decided on it.
    pending: Option<PendingState>,
    /// What the last commit that succeeded has led to.
    committed: Option<CommittedState>,
    /// Each but the first is decided on what the one before it leads to. They came before all that
    /// wait, unless they are to be undone.
    ahead: VecDeque<AheadBatch>,
    worker: Worker,
}

/// The worker that decides ahead; there is at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Worker {
    #[default]
    None,
    /// Its task is queued and has not started.
    Called,
    /// It has a batch of so many writes, and takes the next turn when it has put that back, if the
    /// turn is due.
    Deciding { writes: usize, turn_is_due: bool },
}

/// The result of adding a write to the queue.
pub(super) enum Pushed {
    /// A turn must be started for it.
    First,
    /// A turn will serve it.
    Behind,
    /// The same, and a worker must be started.
    CallWorker,
    /// The queue is full; here is the write again.
    Full(Box<PendingWrite>),
}

/// What was taken out of the queue and is of no use any more. To free it may take as long as to
/// free a whole graph, so it is dropped when the queue is not locked.
#[derive(Default)]
#[must_use]
pub(super) struct Undone {
    decided: Vec<DecidedWrites>,
    _former: Option<PendingState>,
}

/// The batch of a turn.
pub(super) struct Taken {
    pub(super) writes: Vec<PendingWrite>,
    /// What was decided of it.
    pub(super) ahead: Option<DecidedAhead>,
    pub(super) undone: Undone,
}

impl Undone {
    /// Counts its decisions as wasted, and frees it.
    pub(super) fn count_in(self, wasted: &IntCounter) {
        wasted.inc_by(self.decided.iter().map(|decided| decided.count() as u64).sum());
    }
}

impl Batch {
    /// Whether `next` fits, after those that are in it.
    fn takes(&self, next: &PendingWrite, limits: BatchLimits) -> bool {
        self.writes.is_empty()
            || self.writes.len() < limits.writes && self.bytes + next.write.bytes <= limits.bytes
    }

    /// Takes from those that wait, as many as fit.
    fn fill(&mut self, waiting: &mut VecDeque<PendingWrite>, limits: BatchLimits) {
        while waiting.front().is_some_and(|next| self.takes(next, limits)) {
            let Some(next) = waiting.pop_front() else { return };
            self.bytes += next.write.bytes;
            self.writes.push(next);
        }
    }
}

impl AheadBatch {
    /// Its writes, and what was decided of them, to decide the others.
    pub(super) fn parts(&mut self) -> (&[PendingWrite], &mut DecidedWrites) {
        (&self.batch.writes, &mut self.ahead.decided)
    }

    /// Whether it has writes that are not decided yet.
    fn is_incomplete(&self) -> bool {
        self.ahead.decided.count() < self.batch.writes.len()
    }
}

impl WriteQueue {
    /// Adds a write, unless `limit` wait already.
    pub(super) fn push(&mut self, write: PendingWrite, limit: usize, batch: BatchLimits) -> Pushed {
        if self.waiting() >= limit {
            return Pushed::Full(Box::new(write));
        }
        self.pushed += 1;
        self.waiting.push_back(PendingWrite { number: self.pushed, ..write });
        if self.turns < batch.turns {
            self.turns += 1;
            return Pushed::First;
        }
        if self.calls_worker(batch) { Pushed::CallWorker } else { Pushed::Behind }
    }

    /// How many wait, those included that are decided ahead.
    pub(super) fn waiting(&self) -> usize {
        let ahead: usize = self.ahead.iter().map(|one| one.batch.writes.len()).sum();
        let with_worker = match self.worker {
            Worker::Deciding { writes, .. } => writes,
            Worker::None | Worker::Called => 0,
        };
        self.waiting.len() + ahead + with_worker
    }

    /// The batch of the next turn: at least one write, and then as many as fit; none if another
    /// turn has taken them. What was decided ahead is of use only if the state on which it was
    /// decided is the last that was committed.
    pub(super) fn take(&mut self, limits: BatchLimits) -> Taken {
        let committed = self.committed.map(|committed| committed.id);
        let is_stale = self.ahead.front().is_some_and(|first| Some(first.ahead.on) != committed);
        let undone = if is_stale && !failpoint::is_off("ahead-comparison") {
            self.undo()
        } else {
            Undone::default()
        };
        let (mut batch, ahead) = match self.ahead.pop_front() {
            Some(AheadBatch { batch, ahead }) => (batch, Some(ahead)),
            None => (Batch { writes: Vec::new(), bytes: 0 }, None),
        };
        // Another batch may be decided on top of this one, so that nothing may be added.
        if self.ahead.is_empty() {
            batch.fill(&mut self.waiting, limits);
        }
        Taken { writes: batch.writes, ahead, undone }
    }

    /// Puts writes that were not decided back where they were.
    pub(super) fn put_back(&mut self, writes: Vec<PendingWrite>) {
        for write in writes.into_iter().rev() {
            let at = self.waiting.partition_point(|other| other.number < write.number);
            let reply = write.reply.for_another_turn();
            self.waiting.insert(at, PendingWrite { reply, ..write });
        }
    }

    /// A commit begins that leads to this state. Says whether a worker must be started.
    pub(super) fn commit_begins(
        &mut self,
        leads_to: PendingState,
        limits: BatchLimits,
    ) -> (bool, Undone) {
        let former = self.pending.replace(leads_to);
        let undone = Undone { _former: former, ..self.undo_if_stale() };
        (self.calls_worker(limits), undone)
    }

    /// The commit has failed: nothing more is decided on its state.
    pub(super) fn commit_failed(&mut self, id: StateId) -> Undone {
        let former = self.pending.take_if(|pending| pending.id == id);
        Undone { _former: former, ..Undone::default() }
    }

    /// The commit has succeeded, or there was nothing to commit.
    pub(super) fn committed(&mut self, state: CommittedState) {
        self.committed = Some(state);
    }

    /// Whether what was decided ahead holds on the graph as it was read: if that is the state on
    /// which it was decided, and nobody has frozen it since.
    pub(super) fn holds(&self, ahead: &DecidedAhead, read: &Head) -> bool {
        if failpoint::is_off("ahead-comparison") {
            return ahead.decided.base_version() == read.version;
        }
        let state = CommittedState { id: ahead.on, key: read.key(), storage: read.storage };
        self.committed == Some(state) && read.state == GraphState::Open
    }

    /// The worker has started: a batch for it, if there still is something to decide. Only those
    /// writes of it are to be decided that are not yet.
    pub(super) fn begin_deciding(&mut self, limits: BatchLimits) -> Option<AheadBatch> {
        if matches!(self.worker, Worker::Deciding { .. }) {
            return None;
        }
        self.worker = Worker::None;
        if !self.has_something_to_decide(limits) {
            return None;
        }
        let mut next = match self.ahead.pop_back() {
            Some(last) if last.is_incomplete() || self.fits(&last.batch, limits) => last,
            last => {
                self.ahead.extend(last);
                let (on, decided) = match (self.ahead.back(), &self.pending) {
                    (Some(AheadBatch { ahead, .. }), _) => {
                        let DecidedAhead { leads_to, decided, .. } = ahead;
                        (*leads_to, DecidedWrites::on(decided.graph(), decided.led_under()))
                    }
                    (None, pending) => {
                        let PendingState { id, graph, led_under } = pending.as_ref()?;
                        (*id, DecidedWrites::on(graph, *led_under))
                    }
                };
                let ahead = DecidedAhead { on, leads_to: StateId::new(), decided };
                AheadBatch { batch: Batch { writes: Vec::new(), bytes: 0 }, ahead }
            }
        };
        next.batch.fill(&mut self.waiting, limits);
        let writes = next.batch.writes.len();
        self.worker = Worker::Deciding { writes, turn_is_due: false };
        Some(next)
    }

    /// The worker gives its batch back; `None` if that is lost. Says whether the worker must take
    /// the next turn, as the one before has ended.
    pub(super) fn end_deciding(&mut self, decided: Option<AheadBatch>) -> (bool, Undone) {
        self.ahead.extend(decided);
        let worker = std::mem::take(&mut self.worker);
        let turn_is_due = matches!(worker, Worker::Deciding { turn_is_due: true, .. });
        let undone = self.undo_if_stale();
        (turn_is_due && self.goes_on(), undone)
    }

    /// Ends a turn; says whether another must be started.
    pub(super) fn end_turn(&mut self) -> (bool, Undone) {
        let undone = Undone { _former: self.pending.take(), ..Undone::default() };
        if let Worker::Deciding { turn_is_due, .. } = &mut self.worker {
            *turn_is_due = true;
            return (false, undone);
        }
        (self.goes_on(), undone)
    }

    /// Whether another turn follows; otherwise there is one less.
    fn goes_on(&mut self) -> bool {
        let goes_on = !self.ahead.is_empty() || !self.waiting.is_empty();
        self.turns -= usize::from(!goes_on);
        goes_on
    }

    /// If the commit under way leads to another state than the one on which the first batch was
    /// decided, puts them all back. Not while the worker has the last of them.
    fn undo_if_stale(&mut self) -> Undone {
        let is_stale = match (self.ahead.front(), &self.pending) {
            (Some(first), Some(pending)) => first.ahead.on != pending.id,
            _ => false,
        };
        if is_stale && !matches!(self.worker, Worker::Deciding { .. }) {
            self.undo()
        } else {
            Undone::default()
        }
    }

    fn undo(&mut self) -> Undone {
        let mut undone = Undone::default();
        for AheadBatch { batch, ahead } in std::mem::take(&mut self.ahead) {
            self.put_back(batch.writes);
            undone.decided.push(ahead.decided);
        }
        undone
    }

    fn calls_worker(&mut self, limits: BatchLimits) -> bool {
        let is_left_over = self.ahead.back().is_some_and(AheadBatch::is_incomplete);
        let calls = self.worker == Worker::None
            && (self.waiting.len() >= limits.worth_a_worker || is_left_over)
            && self.has_something_to_decide(limits);
        if calls {
            self.worker = Worker::Called;
        }
        calls
    }

    /// Whether a commit is under way on which more can be decided: what the last batch has left
    /// over, or what waits, if there is room for it.
    fn has_something_to_decide(&self, limits: BatchLimits) -> bool {
        let has_more = match self.ahead.back() {
            Some(last) if last.is_incomplete() => true,
            // Nothing is decided on top of a deleted graph.
            Some(last) if last.ahead.decided.graph_is_deleted() => false,
            Some(last) if self.fits(&last.batch, limits) => true,
            _ => !self.waiting.is_empty() && self.ahead.len() < limits.ahead,
        };
        self.pending.is_some() && has_more
    }

    /// Whether the first of those that wait fits into the batch.
    fn fits(&self, batch: &Batch, limits: BatchLimits) -> bool {
        self.waiting.front().is_some_and(|next| batch.takes(next, limits))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{AheadBatch, BatchLimits, DecidedAhead, PendingWrite, Pushed, WriteQueue};
    use crate::graph::{Command, Graph, Name, Operation};
    use crate::service::decisions::DecidedWrites;
    use crate::service::pending_state::{CommittedState, PendingState, StateId};
    use crate::service::queue::Reply;
    use crate::service::write::Write;
    use crate::store::{ImageKey, StorageKind};

    /// What may happen next, where it can.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push {
            bytes: usize,
        },
        WorkerBegins,
        WorkerEnds,
        WorkerPanics,
        CommitBegins,
        CommitFails,
        /// All but so many of its writes are decided.
        TurnEnds {
            left_over: usize,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (0..10_usize).prop_map(|bytes| Step::Push { bytes }),
            3 => Just(Step::WorkerBegins),
            3 => Just(Step::WorkerEnds),
            1 => Just(Step::WorkerPanics),
            3 => Just(Step::CommitBegins),
            1 => Just(Step::CommitFails),
            2 => (0..3_usize).prop_map(|left_over| Step::TurnEnds { left_over }),
        ];
        vec(step, 0..200)
    }

    fn limits() -> impl Strategy<Value = BatchLimits> {
        (1..5_usize, 1..20_usize, 0..4_usize, 1..4_usize).prop_map(
            |(writes, bytes, ahead, worth_a_worker)| BatchLimits {
                turns: 1,
                writes,
                bytes,
                ahead,
                worth_a_worker,
            },
        )
    }

    fn pending_write(bytes: usize) -> PendingWrite {
        let put = Operation::PutDataset {
            name: Name::new("d").unwrap(),
            metadata: crate::graph::CanonicalJson::default(),
        };
        let write = Write { bytes, ..Command::Changeset([put].into_iter().collect()).into() };
        PendingWrite { write, reply: Reply::new(|_| {}), since: Instant::now(), number: 0 }
    }

    fn numbers(writes: &[PendingWrite]) -> Vec<u64> {
        writes.iter().map(|write| write.number).collect()
    }

    /// One process and one graph, without a database: who has which writes.
    #[derive(Default)]
    struct Model {
        queue: WriteQueue,
        /// The batch of the turn that is under way.
        turn: Option<(Vec<PendingWrite>, Option<DecidedAhead>)>,
        /// What its commit leads to, once that has begun.
        commit: Option<StateId>,
        /// What the worker has, and how many of it were decided when it began.
        with_worker: Option<(AheadBatch, usize)>,
        is_called: bool,
        pushed: u64,
        served: BTreeSet<u64>,
    }

    impl Model {
        fn take_turn(&mut self, limits: BatchLimits) {
            assert!(self.turn.is_none(), "two turns at once");
            let taken = self.queue.take(limits);
            let taken_numbers = numbers(&taken.writes);
            assert!(taken_numbers.is_sorted(), "{taken_numbers:?}");
            // Whoever waits came later than all of the batch.
            let last = taken_numbers.last().copied().expect("a turn is taken for somebody");
            let waits = |write: &PendingWrite| write.number < last;
            assert!(!self.queue.waiting.iter().any(waits), "one was overtaken");
            self.turn = Some((taken.writes, taken.ahead));
        }

        fn happens(&mut self, step: Step, limits: BatchLimits) {
            match step {
                Step::Push { bytes } => {
                    let write = pending_write(bytes);
                    match self.queue.push(write, usize::MAX, limits) {
                        Pushed::First => self.take_turn(limits),
                        Pushed::CallWorker => self.call(),
                        Pushed::Behind => {}
                        Pushed::Full(_) => panic!("there is no limit"),
                    }
                    self.pushed += 1;
                }
                Step::WorkerBegins if self.is_called => {
                    self.is_called = false;
                    self.begin(limits);
                }
                Step::WorkerEnds => {
                    let Some((mut batch, before)) = self.with_worker.take() else { return };
                    let (writes, decided) = batch.parts();
                    decided.decide(&Name::new("g").unwrap(), writes, Duration::ZERO);
                    assert!(decided.count() > before, "the worker has done nothing");
                    let (turn_is_due, _) = self.queue.end_deciding(Some(batch));
                    if turn_is_due {
                        self.take_turn(limits);
                    } else {
                        self.begin(limits);
                    }
                }
                Step::WorkerPanics => {
                    let Some((mut batch, _)) = self.with_worker.take() else { return };
                    // Its requests are told so.
                    self.served.extend(numbers(batch.parts().0));
                    let (turn_is_due, _) = self.queue.end_deciding(None);
                    if turn_is_due {
                        self.take_turn(limits);
                    }
                }
                Step::CommitBegins => {
                    let Some((_, ahead)) = &self.turn else { return };
                    if limits.ahead == 0 {
                        return;
                    }
                    // A first attempt at what was decided ahead, or another.
                    let first = ahead.as_ref().filter(|_| self.commit.is_none());
                    let id = first.map_or_else(StateId::new, |ahead| ahead.leads_to);
                    self.commit = Some(id);
                    let leads_to = PendingState { id, graph: Graph::default(), led_under: None };
                    let (calls, _) = self.queue.commit_begins(leads_to, limits);
                    if calls {
                        self.call();
                    }
                }
                Step::CommitFails => {
                    let Some(id) = self.commit else { return };
                    drop(self.queue.commit_failed(id));
                }
                Step::TurnEnds { left_over } => {
                    let Some((mut writes, _)) = self.turn.take() else { return };
                    let decided = writes.len().saturating_sub(left_over).max(1);
                    let back = writes.split_off(decided);
                    let id = self.commit.take().filter(|_| back.is_empty());
                    self.served.extend(numbers(&writes));
                    let key = ImageKey::of_an_empty_graph();
                    let id = id.unwrap_or_else(StateId::new);
                    self.queue.committed(CommittedState { id, key, storage: StorageKind::Rows });
                    self.queue.put_back(back);
                    let (goes_on, _) = self.queue.end_turn();
                    if goes_on {
                        self.take_turn(limits);
                    }
                }
                Step::WorkerBegins => {}
            }
        }

        fn call(&mut self) {
            assert!(!self.is_called && self.with_worker.is_none(), "two workers at once");
            self.is_called = true;
        }

        fn begin(&mut self, limits: BatchLimits) {
            self.with_worker = self.queue.begin_deciding(limits).map(|mut batch| {
                let count = batch.parts().1.count();
                assert!(batch.parts().0.len() <= limits.writes, "a batch beyond its limit");
                (batch, count)
            });
            assert!(self.queue.ahead.len() <= limits.ahead, "more batches than asked for");
        }
    }

    proptest! {
        /// Whatever happens in whichever order: no write is lost or overtaken, no worker works for
        /// nothing, and nobody is left without a turn.
        #[test]
        fn every_write_has_its_turn_in_the_order_in_which_it_came(
            (limits, steps) in (limits(), steps())
        ) {
            let mut model = Model::default();
            for step in steps {
                model.happens(step, limits);
            }
            // Who waits is served in the end.
            for _ in 0..1_000 {
                model.happens(Step::WorkerEnds, limits);
                model.happens(Step::TurnEnds { left_over: 0 }, limits);
            }
            prop_assert_eq!(model.served.len() as u64, model.pushed);
            prop_assert!(model.turn.is_none() && model.with_worker.is_none());
            prop_assert_eq!((model.queue.turns, model.queue.waiting()), (0, 0));
        }
    }

    /// The next does not fit by its bytes: it begins another batch, or waits.
    #[test]
    fn a_worker_has_no_batch_to_which_nothing_can_be_added() {
        for ahead in [1, 2] {
            let limits = BatchLimits { turns: 1, writes: 8, bytes: 8, ahead, worth_a_worker: 1 };
            let mut model = Model::default();
            model.happens(Step::Push { bytes: 1 }, limits);
            model.happens(Step::CommitBegins, limits);
            for bytes in [6, 3] {
                model.happens(Step::Push { bytes }, limits);
            }
            model.happens(Step::WorkerBegins, limits);
            model.happens(Step::WorkerEnds, limits);
            let second = model.with_worker.as_mut().map(|(batch, _)| numbers(batch.parts().0));
            assert_eq!(second, (ahead == 2).then(|| vec![3]));
        }
    }

    #[test]
    fn nothing_is_decided_ahead_where_that_is_off() {
        let mut queue = WriteQueue::default();
        let limits = BatchLimits { turns: 0, writes: 8, bytes: 8, ahead: 0, worth_a_worker: 1 };
        let id = StateId::new();
        let leads_to = PendingState { id, graph: Graph::default(), led_under: None };
        let (calls, _) = queue.commit_begins(leads_to, limits);
        assert!(!calls && queue.begin_deciding(limits).is_none());
        let pushed = queue.push(pending_write(1), 8, limits);
        assert!(matches!(pushed, Pushed::Behind));
        let decided = DecidedWrites::on(&Graph::default(), None);
        assert_eq!(decided.count(), 0);
    }
}
