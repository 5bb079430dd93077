//! A batch of writes being decided: each sees the accepted ones before it.

use std::collections::HashMap;
use std::sync::Arc;

use super::image::{Image, Refreshed};
use super::refusal::Refusal;
use super::write::{Accepted, IdempotencyKey, Verdict, Write, answered_later};
use crate::graph::{Command, DecidedBatch, Effect, Graph, Name};
use crate::store::{Entry, GraphState, StoredAnswer};

/// The verdicts on a batch, and what must be committed before any of them is answered.
pub struct Decisions<'b> {
    graph: &'b Name,
    read: Refreshed,
    frozen: Option<Refusal>,
    decided: DecidedBatch,
    /// Who asked for each that was accepted.
    actors: Vec<Option<&'b str>>,
    deleted: bool,
    /// Answers that are known to be kept already, of earlier turns and of this one.
    kept: HashMap<String, StoredAnswer>,
    /// Keys that were decided without an answer to them being known.
    keys: Vec<&'b str>,
    /// Answers to keep.
    answers: Vec<StoredAnswer>,
    outcomes: Vec<Outcome>,
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

impl<'b> Decisions<'b> {
    /// None yet, for a batch of so many. `kept` are answers that are known to be kept
    /// under their keys.
    pub(super) fn new(
        graph: &'b Name,
        read: Refreshed,
        kept: HashMap<String, StoredAnswer>,
        batch: usize,
    ) -> Self {
        let head = &read.head;
        let frozen = (head.state == GraphState::Frozen)
            .then(|| Refusal::Frozen { graph: graph.clone(), moved_to: head.moved_to.clone() });
        let deleted = head.state == GraphState::Deleted;
        Self {
            graph,
            frozen,
            decided: DecidedBatch::on(&read.image.graph),
            actors: Vec::new(),
            deleted,
            kept,
            keys: Vec::new(),
            answers: Vec::new(),
            outcomes: Vec::with_capacity(batch),
            batch,
            read,
        }
    }

    /// The graph that they were decided on.
    pub(super) fn read(&self) -> &Refreshed {
        &self.read
    }

    /// The graph before the first accepted write.
    pub(super) fn base(&self) -> &Graph {
        self.decided.base()
    }

    /// The graph that all accepted writes lead to.
    pub(super) fn graph(&self) -> &Graph {
        self.decided.graph()
    }

    /// Whether anything must be committed before the verdicts are answered.
    #[must_use]
    pub fn need_commit(&self) -> bool {
        !self.actors.is_empty() || !self.answers.is_empty()
    }

    /// The changes, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.decided.accepted().iter().zip(&self.actors).map(|(accepted, actor)| Entry {
            change: &accepted.change,
            version: accepted.version,
            touched: &accepted.touched,
            actor: *actor,
        })
    }

    /// The keys of requests that were decided without an answer to them being known. If there is
    /// one, the decisions do not hold.
    pub(super) fn keys(&self) -> &[&'b str] {
        &self.keys
    }

    /// The answers to keep.
    pub(super) fn answers(&self) -> &[StoredAnswer] {
        &self.answers
    }

    /// Whether anything was accepted that changes the graph.
    #[must_use]
    pub fn change_the_graph(&self) -> bool {
        !self.actors.is_empty()
    }

    /// The answers to keep, if the first change comes so many versions later than it was decided.
    pub(super) fn answers_later(&self, later: u64) -> Vec<StoredAnswer> {
        let base = self.base().version();
        self.answers.iter().map(|answer| answered_later(answer, base, later)).collect()
    }

    /// Gives the verdicts other versions: the first change came so many versions later than it was
    /// decided.
    pub(super) fn come_later(&mut self, later: u64) {
        let base = self.base().version();
        for outcome in &mut self.outcomes {
            if let Outcome::Decided(Ok(accepted)) = outcome {
                *accepted = accepted.later(base, later);
            }
        }
    }

    /// Whether the last change deletes the graph.
    pub(super) fn deletes_graph(&self) -> bool {
        self.deleted && !self.actors.is_empty()
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
        let Self { mut outcomes, batch, decided, read, .. } = self;
        outcomes.resize_with(batch, || Outcome::LeftOver);
        Served { outcomes, held, spent: Spent { _batch: decided, _image: read.image } }
    }

    /// Decides the next write.
    pub(super) fn decide(&mut self, write: &'b Write) {
        let verdict = self.verdict_on(write);
        self.outcomes.push(Outcome::Decided(verdict));
    }

    fn verdict_on(&mut self, write: &'b Write) -> Verdict {
        let key = write.idempotency.as_ref().filter(|_| !write.dry_run);
        if let Some(key) = key {
            if let Some(stored) = self.kept.get(&key.key) {
                return key.verdict(stored);
            }
            self.keys.push(&key.key);
        }
        if self.deleted {
            return Err(Refusal::graph_not_found(self.graph));
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
            self.actors.push(write.actor.as_deref());
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
