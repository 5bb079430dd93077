//! The steps of a turn of writes. In which order they are taken is up to
//! [`Turns`](super::turn_taking::Turns).

use std::cell::Cell;
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use super::choices::CycleCheck;
use super::decisions::Decisions;
use super::engine::{Engine, Refreshed};
use super::image::Image;
use super::local_graph::LocalGraph;
use super::metrics::observe;
use super::queue::PendingWrite;
use super::refusal::Refusal;
use super::turn_error::TurnError;
use crate::failpoint;
use crate::graph::{Graph, Name, hex};
use crate::store::{Commit, Entry, Fence, Head, ImageKey, Store, StoredAnswer};

/// One attempt at a batch of writes to a graph.
pub struct Turn<'t> {
    engine: &'t Engine,
    graph: &'t LocalGraph,
    graph_id: i64,
    batch: &'t [PendingWrite],
    /// How many writes of the batch were decided.
    decided: Cell<usize>,
}

impl<'t> Turn<'t> {
    pub(super) fn new(
        engine: &'t Engine,
        graph: &'t LocalGraph,
        batch: &'t [PendingWrite],
    ) -> Result<Self, TurnError> {
        let not_found = || Refusal::graph_not_found(&graph.name);
        let graph_id = engine.graph_id(graph)?.ok_or_else(not_found)?;
        Ok(Self { engine, graph, graph_id, batch, decided: Cell::new(0) })
    }

    /// How many writes of the batch were decided.
    pub(super) fn decided(&self) -> usize {
        self.decided.get()
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

    /// Brings the image to the store's version.
    ///
    /// # Errors
    /// [`TurnError::Refused`] if that cannot be done; [`TurnError::GraphReplaced`] if what was
    /// acquired for this turn is another graph's.
    pub fn refresh(&self) -> Result<Refreshed, TurnError> {
        let refreshed = self.engine.refreshed(self.graph, &self.engine.metrics.refresh.write)?;
        let not_found = || Refusal::graph_not_found(&self.graph.name);
        let refreshed = refreshed.ok_or_else(not_found)?;
        let (expected, actual) = (self.graph_id, refreshed.head.id);
        if expected != actual {
            return Err(TurnError::GraphReplaced { expected, actual });
        }
        Ok(refreshed)
    }

    /// Decides each write of the batch, each seeing the accepted ones before it, as many as the
    /// time limit allows.
    ///
    /// # Errors
    /// [`TurnError::Refused`] if the answers kept under idempotency keys cannot be read.
    pub fn decide(&self, read: Refreshed) -> Result<Decisions<'t>, TurnError> {
        let began = Instant::now();
        let kept = self.kept_answers(&read.head)?;
        let mut decisions = Decisions::new(&self.graph.name, read, kept, self.batch.len());
        let batch_time = self.engine.limits.batch_time;
        for (number, pending) in self.batch.iter().enumerate() {
            if number > 0 && began.elapsed() > batch_time {
                break;
            }
            decisions.decide(&pending.write);
            self.decided.set(number + 1);
        }
        observe(&self.engine.metrics.decide, began.elapsed());
        if self.engine.choices.cycle_check == CycleCheck::WholeGraph {
            self.check_whole(decisions.graph())?;
        }
        Ok(decisions)
    }

    /// Writes what was accepted, on the condition that the version which was read still stands, and
    /// publishes the image that it leads to.
    ///
    /// # Errors
    /// [`TurnError::Commit`] says whether anything was written.
    pub fn commit(&self, decisions: &Decisions<'_>, fence: Fence) -> Result<(), TurnError> {
        let (engine, metrics) = (self.engine, &self.engine.metrics);
        failpoint::pass("after-check");
        let began = Instant::now();
        let committing = self.graph.image.committing();
        let next = self.write(decisions, fence)?;
        observe(&metrics.commit, began.elapsed());
        let began = Instant::now();
        engine.publish(self.graph, next);
        drop(committing);
        observe(&metrics.publish, began.elapsed());
        engine.listeners.notify(&self.graph.name);
        Ok(())
    }

    fn write(&self, decisions: &Decisions<'_>, fence: Fence) -> Result<Image, TurnError> {
        let attempt = new_attempt()?;
        let entries: Vec<Entry<'_>> = decisions.entries().collect();
        let read = decisions.read();
        let chain = self.engine.store.commit(&Commit {
            read: &read.head,
            fence,
            attempt: &attempt,
            before: decisions.base(),
            after: decisions.graph(),
            entries: &entries,
            answers: decisions.answers(),
            deletes_graph: decisions.deletes_graph(),
        })?;
        let graph = decisions.graph().clone();
        let key = ImageKey { graph_id: read.head.id, version: graph.version(), chain };
        Ok(Image::derived(key, graph))
    }

    fn kept_answers(&self, head: &Head) -> Result<HashMap<String, StoredAnswer>, TurnError> {
        let keys = self.batch.iter().filter_map(|pending| pending.write.idempotency.as_ref());
        let keys: Vec<&str> = keys.map(|idempotency| idempotency.key.as_str()).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let stored = self.engine.store.stored_answers(head.id, &keys)?;
        Ok(stored.into_iter().map(|answer| (answer.key.clone(), answer)).collect())
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
