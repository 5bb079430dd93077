//! A batch of writes being decided: each sees the accepted ones before it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::image::{Image, Refreshed};
use super::pending_state::StateId;
use super::queue::PendingWrite;
use super::refusal::Refusal;
use super::write::{Accepted, Forwarded, IdempotencyKey, Verdict, Write, answered_later};
use crate::failpoint;
use crate::graph::{Command, DecidedBatch, Effect, Graph, Name};
use crate::store::{Entry, GraphState, StoredAnswer};

/// A write that changed something.
struct AcceptedWrite {
    number: usize,
    /// Whether it creates something that it names.
    created: bool,
}

/// Writes decided one after another on a graph, which may not be in the store yet. They are named
/// by their numbers in the batch.
pub(super) struct DecidedWrites {
    decided: DecidedBatch,
    /// Which of them changed something.
    accepted: Vec<AcceptedWrite>,
    /// The token of the leadership under which they are decided.
    led_under: Option<i64>,
    frozen: Option<Refusal>,
    deleted: bool,
    /// Answers that are known to be kept already, of earlier turns and of this one.
    kept: HashMap<String, StoredAnswer>,
    /// Those whose keys were not known to be used.
    keys: Vec<usize>,
    /// Answers to keep.
    answers: Vec<StoredAnswer>,
    verdicts: Vec<Verdict>,
}

/// The verdicts on a batch, and what must be committed before any of them is answered.
pub struct Decisions {
    read: Refreshed,
    /// The state that a commit of them leads to.
    leads_to: StateId,
    writes: DecidedWrites,
    batch: usize,
}

/// What a turn did with one write of its batch.
pub enum Outcome {
    /// It was decided, and its verdict can be answered.
    Decided(Verdict),
    /// The turn had no time for it: it is the first of the next.
    LeftOver,
}

/// Something that is given back when it is dropped, such as a lock.
pub type Held = Box<dyn Send>;

/// A batch whose verdicts can be answered.
pub struct Served {
    /// One for each write of the batch.
    pub(super) outcomes: Vec<Outcome>,
    /// Given back when all are answered.
    pub(super) held: Option<Held>,
    /// Data of the finished turn. Freeing it takes time, so it is dropped after the answers are
    /// sent.
    pub(super) spent: Spent,
}

pub(super) struct Spent {
    _batch: DecidedBatch,
    _image: Arc<Image>,
}

impl DecidedWrites {
    /// None yet, on an open graph, under the leadership with that token.
    pub(super) fn on(graph: &Graph, led_under: Option<i64>) -> Self {
        Self {
            decided: DecidedBatch::on(graph),
            accepted: Vec::new(),
            led_under,
            frozen: None,
            deleted: false,
            kept: HashMap::new(),
            keys: Vec::new(),
            answers: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// None yet, on the graph as it was read. `kept` are answers that are known to be kept under
    /// their keys.
    pub(super) fn on_read(
        name: &Name,
        read: &Refreshed,
        led_under: Option<i64>,
        kept: HashMap<String, StoredAnswer>,
    ) -> Self {
        let Refreshed { head, image } = read;
        let frozen = (head.state == GraphState::Frozen)
            .then(|| Refusal::Frozen { graph: name.clone(), moved_to: head.moved_to.clone() });
        let deleted = head.state == GraphState::Deleted;
        Self { frozen, deleted, kept, ..Self::on(&image.graph, led_under) }
    }

    /// How many are decided.
    pub(super) fn count(&self) -> usize {
        self.verdicts.len()
    }

    /// The graph that all accepted ones lead to.
    pub(super) fn graph(&self) -> &Graph {
        self.decided.graph()
    }

    /// The version of the graph that they are decided on.
    pub(super) fn base_version(&self) -> u64 {
        self.decided.base().version()
    }

    /// The token of the leadership under which they are decided.
    pub(super) fn led_under(&self) -> Option<i64> {
        self.led_under
    }

    /// Whether one of them has deleted the graph, or it was deleted before.
    pub(super) fn graph_is_deleted(&self) -> bool {
        self.deleted
    }

    /// Decides those of `batch` that are not decided yet: the first of them, and then as many as
    /// `time` allows.
    pub(super) fn decide(&mut self, name: &Name, batch: &[PendingWrite], time: Duration) {
        let (began, first) = (Instant::now(), self.count());
        while let Some(pending) = batch.get(self.count()) {
            if self.count() > first && began.elapsed() > time {
                break;
            }
            let verdict = self.verdict_on(name, &pending.write);
            self.verdicts.push(verdict);
        }
    }

    fn verdict_on(&mut self, name: &Name, write: &Write) -> Verdict {
        let number = self.count();
        // Whoever passed it on takes it for lost once another has taken over.
        let is_of_another = |forwarded: &Forwarded| Some(forwarded.token) != self.led_under;
        if write.forwarded.as_ref().is_some_and(is_of_another)
            && !failpoint::is_off("forwarded-token")
        {
            return Err(Refusal::LedElsewhere { graph: name.clone(), leader: None });
        }
        let key = write.idempotency.as_ref().filter(|_| !write.dry_run);
        if let Some(key) = key {
            if let Some(stored) = self.kept.get(&key.key) {
                return key.verdict(stored);
            }
            self.keys.push(number);
        }
        if self.deleted {
            return Err(Refusal::graph_not_found(name));
        }
        if let Some(frozen) = &self.frozen {
            return Err(frozen.clone());
        }
        let version = self.decided.graph().version();
        let rejected = |rejection| Refusal::Rejected { rejection, version };
        let accepted = |effect: Effect, graph: &Graph, deleted: bool| Accepted {
            version: graph.version(),
            changed: effect.changed,
            created: effect.created,
            subject_version: write.subject.version_in(graph).filter(|_| !deleted),
        };
        if write.dry_run {
            let effect = self.decided.try_out(&write.command).map_err(rejected)?;
            return Ok(accepted(effect, self.decided.graph(), false));
        }
        let effect = self.decided.decide(&write.command).map_err(rejected)?;
        if effect.changed {
            self.accepted.push(AcceptedWrite { number, created: effect.created });
            self.deleted = matches!(write.command, Command::DeleteGraph { .. });
        }
        let accepted = accepted(effect, self.decided.graph(), self.deleted);
        if let Some(key) = key {
            self.keep(key, &accepted);
        }
        Ok(accepted)
    }

    fn keep(&mut self, key: &IdempotencyKey, accepted: &Accepted) {
        let answer = key.answer(accepted);
        self.kept.insert(key.key.clone(), answer.clone());
        self.answers.push(answer);
    }
}

impl Decisions {
    /// `writes` of a batch of so many, decided on the graph as it was read.
    pub(super) fn new(
        read: Refreshed,
        leads_to: StateId,
        writes: DecidedWrites,
        batch: usize,
    ) -> Self {
        Self { read, leads_to, writes, batch }
    }

    /// The token of the leadership under which they were decided.
    pub(super) fn led_under(&self) -> Option<i64> {
        self.writes.led_under
    }

    /// The graph that they were decided on.
    pub(super) fn read(&self) -> &Refreshed {
        &self.read
    }

    /// The state that a commit of them leads to.
    pub(super) fn leads_to(&self) -> StateId {
        self.leads_to
    }

    /// The graph before the first accepted write.
    pub(super) fn base(&self) -> &Graph {
        self.writes.decided.base()
    }

    /// The graph that all accepted writes lead to.
    pub(super) fn graph(&self) -> &Graph {
        self.writes.graph()
    }

    /// Whether all of the batch are decided.
    pub(super) fn are_complete(&self) -> bool {
        self.writes.count() == self.batch
    }

    /// Whether anything must be committed before the verdicts are answered.
    #[must_use]
    pub fn need_commit(&self) -> bool {
        !self.writes.accepted.is_empty() || !self.writes.answers.is_empty()
    }

    /// The changes, in order, of this batch.
    pub(super) fn entries<'e>(
        &'e self,
        batch: &'e [PendingWrite],
    ) -> impl Iterator<Item = Entry<'e>> {
        let DecidedWrites { decided, accepted, .. } = &self.writes;
        decided.accepted().iter().zip(accepted).map(
            |(change, AcceptedWrite { number, created })| {
                let Write { actor, forwarded, .. } = &batch[*number].write;
                Entry {
                    change: &change.change,
                    version: change.version,
                    touched: &change.touched,
                    actor: actor.as_deref(),
                    request: forwarded.as_ref().map(|forwarded| forwarded.request.noted(*created)),
                }
            },
        )
    }

    /// The keys of requests of this batch that were decided without an answer to them being known.
    /// If there is one, the decisions do not hold.
    pub(super) fn keys<'e>(&self, batch: &'e [PendingWrite]) -> Vec<&'e str> {
        let key_of = |number: &usize| Some(batch[*number].write.idempotency.as_ref()?.key.as_str());
        self.writes.keys.iter().filter_map(key_of).collect()
    }

    /// The answers to keep.
    pub(super) fn answers(&self) -> &[StoredAnswer] {
        &self.writes.answers
    }

    /// Whether anything was accepted that changes the graph.
    #[must_use]
    pub fn change_the_graph(&self) -> bool {
        !self.writes.accepted.is_empty()
    }

    /// The answers to keep, if the first change comes so many versions later than it was decided.
    pub(super) fn answers_later(&self, later: u64) -> Vec<StoredAnswer> {
        let base = self.base().version();
        self.answers().iter().map(|answer| answered_later(answer, base, later)).collect()
    }

    /// Gives the verdicts other versions: the first change came so many versions later than it was
    /// decided.
    pub(super) fn come_later(&mut self, later: u64) {
        let base = self.base().version();
        for accepted in self.writes.verdicts.iter_mut().flatten() {
            *accepted = accepted.later(base, later);
        }
    }

    /// Whether the last change deletes the graph.
    pub(super) fn deletes_graph(&self) -> bool {
        self.writes.deleted && !self.writes.accepted.is_empty()
    }

    /// The batch, to be answered.
    #[must_use]
    pub fn served(self) -> Served {
        self.served_holding(None)
    }

    /// As [`served`](Self::served), giving back what is `held` when all are answered.
    #[must_use]
    pub fn served_under(self, held: impl Send + 'static) -> Served {
        self.served_holding(Some(Box::new(held)))
    }

    fn served_holding(self, held: Option<Held>) -> Served {
        let Self { read, writes, batch, .. } = self;
        let DecidedWrites { decided, verdicts, .. } = writes;
        let mut outcomes: Vec<Outcome> = verdicts.into_iter().map(Outcome::Decided).collect();
        outcomes.resize_with(batch, || Outcome::LeftOver);
        Served { outcomes, held, spent: Spent { _batch: decided, _image: read.image } }
    }
}
