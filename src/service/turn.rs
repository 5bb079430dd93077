//! The steps of a turn of writes. In which order they are taken is up to
//! [`Turns`](super::turn_taking::Turns).

use std::cell::Cell;
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use super::choices::{Choices, CycleCheck};
use super::decisions::{DecidedWrites, Decisions};
use super::engine::Engine;
use super::image::{Image, Refreshed};
use super::local_graph::LocalGraph;
use super::metrics::observe;
use super::pending_state::{CommittedState, PendingState, StateId};
use super::queue::PendingWrite;
use super::refusal::Refusal;
use super::turn_error::TurnError;
use super::write_queue::{BatchLimits, DecidedAhead};
use crate::db::watch;
use crate::failpoint;
use crate::graph::{Graph, Name, hex};
use crate::store::{
    Commit, CommitError, Entry, Fence, GraphState, Head, ImageKey, StorageKind, Store, StoredAnswer,
};

mod append;

/// One attempt at a batch of writes to a graph.
pub struct Turn<'t> {
    engine: &'t Engine,
    choices: Choices,
    graph: &'t LocalGraph,
    graph_id: i64,
    batch: &'t [PendingWrite],
    learnt: &'t Learnt,
    /// What was decided of the batch before its turn, until that is used.
    ahead: Cell<Option<DecidedAhead>>,
    overlap: Overlap<'t>,
    /// Whether the store was looked at.
    looked: Cell<bool>,
    /// How many writes of the batch were decided.
    decided: Cell<usize>,
}

/// How the next batch is decided while this one's commit is under way.
#[derive(Clone, Copy)]
pub(super) struct Overlap<'t> {
    /// How much of it.
    pub(super) limits: BatchLimits,
    /// Wakes the worker that does it.
    pub(super) call_worker: &'t dyn Fn(),
}

/// What lost attempts at a batch have taught.
#[derive(Default)]
pub(super) struct Learnt {
    /// Whether the image at hand is not to be decided on without a look at the store.
    pub(super) must_look: bool,
    /// Answers that are kept under keys of the batch.
    pub(super) kept: HashMap<String, StoredAnswer>,
}

impl<'t> Turn<'t> {
    pub(super) fn new(
        engine: &'t Engine,
        choices: Choices,
        graph: &'t LocalGraph,
        batch: &'t [PendingWrite],
        learnt: &'t Learnt,
        ahead: Option<DecidedAhead>,
        overlap: Overlap<'t>,
    ) -> Result<Self, TurnError> {
        let not_found = || Refusal::graph_not_found(&graph.name);
        let graph_id = engine.graph_id(graph)?.ok_or_else(not_found)?;
        let (looked, decided, ahead) = (Cell::default(), Cell::default(), Cell::new(ahead));
        Ok(Self {
            engine,
            choices,
            graph,
            graph_id,
            batch,
            learnt,
            ahead,
            overlap,
            looked,
            decided,
        })
    }

    /// For each write that was decided: the node that has passed it on, if one has.
    pub fn sources(&self) -> impl Iterator<Item = Option<&str>> {
        let from =
            |pending: &'t PendingWrite| Some(pending.write.forwarded.as_ref()?.from.as_str());
        self.batch.iter().take(self.decided.get()).map(from)
    }

    /// How many writes of the batch were decided, in this turn or ahead of it.
    pub(super) fn decided(&self) -> usize {
        let unused = self.ahead.take().map_or(0, |ahead| ahead.decided.count());
        self.decided.get() + unused
    }

    /// The graph.
    #[must_use]
    pub fn graph(&self) -> &Name {
        &self.graph.name
    }

    /// The graph's row id, as it was last seen.
    #[must_use]
    pub fn graph_id(&self) -> i64 {
        self.graph_id
    }

    /// Where the graph is kept.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.engine.store
    }

    /// The graph's row now; `None` if there is no such graph.
    ///
    /// # Errors
    /// [`TurnError::Refused`] if it cannot be read.
    pub fn head(&self) -> Result<Option<Head>, TurnError> {
        Ok(self.engine.store.head(&self.graph.name)?)
    }

    /// The same, and what was found is what this process knows of the graph from now on: for when
    /// something was acquired by the row id that it knew.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub fn look(&self) -> Result<Option<Head>, TurnError> {
        Ok(self.engine.look(self.graph)?)
    }

    /// The graph as this process knows it, without a look at the store; `None` if it does not know
    /// it, or an earlier attempt at the batch has shown that it knows it wrongly. What is decided
    /// on it holds only if [`commit`](Self::commit) or [`confirm`](Self::confirm) succeeds.
    #[must_use]
    pub fn at_hand(&self) -> Option<Refreshed> {
        let known = self.graph.at_hand().filter(|_| !self.learnt.must_look)?;
        let expected = (self.graph_id, self.choices.storage);
        ((known.head.id, known.head.storage) == expected).then_some(known)
    }

    /// Brings the image to the store's version.
    ///
    /// # Errors
    /// [`TurnError::Refused`] if that cannot be done; [`TurnError::GraphReplaced`] if what was
    /// acquired for this turn is another graph's; [`TurnError::StorageChanged`] if the graph is
    /// kept in another way since.
    pub fn refresh(&self) -> Result<Refreshed, TurnError> {
        let timed = &self.engine.metrics.refresh.write;
        let refreshed = self.engine.refreshed(self.graph, self.choices, timed)?;
        let not_found = || Refusal::graph_not_found(&self.graph.name);
        let refreshed = refreshed.ok_or_else(not_found)?;
        let (expected, actual) = (self.graph_id, refreshed.head.id);
        if expected != actual {
            return Err(TurnError::GraphReplaced { expected, actual });
        }
        self.looked.set(true);
        Ok(refreshed)
    }

    /// Decides each write of the batch, each seeing the accepted ones before it, as many as the
    /// time limit allows. A request with an idempotency key is decided as if its key was never
    /// used, unless an earlier attempt has found it used. What was decided ahead is taken over, if
    /// it was decided on the graph as it was read.
    ///
    /// # Errors
    /// [`TurnError::Refused`] if a design that checks the whole graph finds a cycle: a bug of ours.
    pub fn decide(&self, read: Refreshed) -> Result<Decisions, TurnError> {
        self.decide_led(read, None)
    }

    /// The same for whoever leads the graph under that token: writes that other nodes have passed
    /// on to it are accepted then.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub fn decide_led(
        &self,
        read: Refreshed,
        led_under: Option<i64>,
    ) -> Result<Decisions, TurnError> {
        let began = Instant::now();
        let name = &self.graph.name;
        let (mut leads_to, mut writes) = match self.decided_ahead(&read.head, led_under) {
            Some(ahead) => (ahead.leads_to, ahead.decided),
            None => {
                let kept = self.learnt.kept.clone();
                (StateId::new(), DecidedWrites::on_read(name, &read, led_under, kept))
            }
        };
        let before = writes.count();
        writes.decide(name, self.batch, self.engine.limits.batch_time);
        if writes.count() != before {
            leads_to = StateId::new();
        }
        self.decided.set(writes.count());
        let decisions = Decisions::new(read, leads_to, writes, self.batch.len());
        observe(&self.engine.metrics.decide, began.elapsed());
        if self.choices.cycle_check == CycleCheck::WholeGraph {
            self.check_whole(decisions.graph())?;
        }
        Ok(decisions)
    }

    /// Writes what was accepted, on the condition that the version which was read still stands and
    /// that no key of the batch was used, and publishes the image that it leads to.
    ///
    /// # Errors
    /// [`TurnError::Commit`] says whether anything was written.
    pub fn commit(&self, decisions: &Decisions, fence: Fence) -> Result<(), TurnError> {
        let (engine, metrics) = (self.engine, &self.engine.metrics);
        failpoint::pass("after-check");
        let began = Instant::now();
        let committing = self.graph.image.committing();
        let next = self.write_deciding_ahead(decisions, fence)?;
        observe(&metrics.commit, began.elapsed());
        let began = Instant::now();
        engine.publish(self.graph, next, self.choices.refresh.keeps_images());
        drop(committing);
        observe(&metrics.publish, began.elapsed());
        engine.listeners.notify(&self.graph.name);
        Ok(())
    }

    /// For decisions that need no commit: makes sure that they were made on the graph as it was
    /// when all their requests had arrived, and that no key of theirs was used.
    ///
    /// # Errors
    /// [`TurnError::Outdated`] or [`CommitError::KeyTaken`] if not.
    pub fn confirm(&self, decisions: &Decisions) -> Result<(), TurnError> {
        let (engine, read) = (self.engine, &decisions.read().head);
        if !self.looked.get() && !failpoint::is_off("confirmation") {
            let began = Instant::now();
            let now = self.head()?;
            let is_current = now.as_ref().is_some_and(|now| {
                (now.key(), now.state, &now.moved_to, now.storage)
                    == (read.key(), read.state, &read.moved_to, read.storage)
            });
            observe(&engine.metrics.refresh.write, began.elapsed());
            if !is_current {
                return Err(TurnError::Outdated);
            }
        }
        let keys = decisions.keys(self.batch);
        if !keys.is_empty() && !failpoint::is_off("kept-keys") {
            let kept = engine.store.stored_answers(read.id, &keys)?;
            if !kept.is_empty() {
                return Err(CommitError::KeyTaken { kept }.into());
            }
        }
        // They lead to what was read.
        self.committed(decisions.leads_to(), read.key(), read.storage);
        Ok(())
    }

    /// Records that this state is the store's.
    fn committed(&self, id: StateId, key: ImageKey, storage: StorageKind) {
        self.graph.writes().committed(CommittedState { id, key, storage });
    }

    /// Has the next batch decided meanwhile, on the state that this write leads to.
    fn write_deciding_ahead(
        &self,
        decisions: &Decisions,
        fence: Fence,
    ) -> Result<Image, TurnError> {
        let id = decisions.leads_to();
        let Overlap { limits, call_worker } = self.overlap;
        // Those that are left over come first in the next turn.
        let is_of_use = limits.ahead > 0 && decisions.are_complete() && !decisions.deletes_graph();
        // The thread of a given-up turn may get here while the next turn runs: it must not touch
        // the queue.
        if is_of_use && !watch::is_given_up() {
            let (graph, led_under) = (decisions.graph().clone(), decisions.led_under());
            let leads_to = PendingState { id, graph, led_under };
            let (calls, undone) = self.graph.writes().commit_begins(leads_to, limits);
            undone.count_in(&self.engine.metrics.wasted_decisions);
            if calls {
                call_worker();
            }
            failpoint::pass("commit-begun");
        }
        let written = self.write(decisions, fence);
        match &written {
            Ok(image) => self.committed(id, image.key, image.storage),
            Err(_) => drop(self.graph.writes().commit_failed(id)),
        }
        written
    }

    fn write(&self, decisions: &Decisions, fence: Fence) -> Result<Image, TurnError> {
        let attempt = new_attempt()?;
        let entries: Vec<Entry<'_>> = decisions.entries(self.batch).collect();
        let read = decisions.read();
        let chain = self.engine.store.commit(&Commit {
            read: &read.head,
            fence,
            attempt: &attempt,
            before: decisions.base(),
            after: decisions.graph(),
            entries: &entries,
            keys: &decisions.keys(self.batch),
            answers: decisions.answers(),
            deletes_graph: decisions.deletes_graph(),
        })?;
        let graph = decisions.graph().clone();
        let fence = fence.token().unwrap_or(read.head.fence);
        let state = if decisions.deletes_graph() { GraphState::Deleted } else { GraphState::Open };
        let head = Head { version: graph.version(), chain, fence, state, ..read.head.clone() };
        let image = Image::derived(&head, graph, &read.image);
        self.graph.set_head(Some(head));
        Ok(image)
    }

    /// What was decided ahead, if it holds on the graph as it was read.
    fn decided_ahead(&self, read: &Head, led_under: Option<i64>) -> Option<DecidedAhead> {
        let ahead = self.ahead.take()?;
        let is_led_so = ahead.decided.led_under() == led_under;
        if is_led_so && self.graph.writes().holds(&ahead, read) {
            return Some(ahead);
        }
        self.engine.metrics.wasted_decisions.inc_by(ahead.decided.count() as u64);
        None
    }

    fn check_whole(&self, graph: &Graph) -> Result<(), TurnError> {
        let began = Instant::now();
        let acyclic = black_box(graph).is_acyclic();
        observe(&self.engine.metrics.whole_check, began.elapsed());
        if acyclic {
            return Ok(());
        }
        let what = "a changeset was accepted that closes a cycle".to_owned();
        Err(Refusal::Internal { what }.into())
    }
}

/// 128 random bits in hex.
fn new_attempt() -> Result<String, Refusal> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| Refusal::Internal { what: error.to_string() })?;
    Ok(hex(&bits))
}
