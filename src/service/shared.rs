//! A service's parts together: what its requests share, and how graphs of each storage are handled.
//! Runs what needs no turn on the same workers.

use std::sync::Arc;

use super::engine::Engine;
use super::handling::{Handling, Handlings};
use super::limits::Limits;
use super::local_graph::LocalGraph;
use super::queue::Reply;
use super::refusal::Refusal;
use super::write_queue::BatchLimits;
use crate::db::watch;
use crate::failpoint;
use crate::graph::Name;
use crate::store::{GraphState, StorageKind};

pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) handlings: Handlings,
}

impl Shared {
    /// How the graph is handled, by its storage as it was last seen: another node may have created
    /// it again in another.
    ///
    /// # Errors
    /// [`Refusal::StorageMismatch`] if graphs of its storage are not served.
    pub(super) fn handling(&self, graph: &LocalGraph) -> Result<&Handling, Refusal> {
        if failpoint::is_off("storage-of-graph") {
            return Ok(self.handlings.first());
        }
        let not_found = || Refusal::graph_not_found(&graph.name);
        self.engine.graph_id(graph)?.ok_or_else(not_found)?;
        if let Some(handling) = graph.storage().and_then(|storage| self.handlings.of(storage)) {
            return Ok(handling);
        }
        let head = self.engine.look(graph)?.ok_or_else(not_found)?;
        match self.handlings.of(head.storage) {
            Some(handling) => Ok(handling),
            None if head.state == GraphState::Deleted => Err(not_found()),
            None => Err(self.mismatch(&graph.name, head.storage)),
        }
    }

    /// That a graph of that storage is not served.
    pub(super) fn mismatch(&self, graph: &Name, storage: StorageKind) -> Refusal {
        let served_by = self.handlings.names();
        Refusal::StorageMismatch { graph: graph.clone(), storage, served_by }
    }

    /// The local graph, made if there is none.
    pub(super) fn local_graph(&self, graph: &Name) -> Arc<LocalGraph> {
        self.engine.graphs.get(graph, || LocalGraph::new(graph.clone()))
    }

    /// Turns of reads that the graph has at once.
    pub(super) fn read_turns(&self, graph: &LocalGraph) -> usize {
        if self.shares_turns(graph) { 1 } else { self.engine.limits.unshared_reads.max(1) }
    }

    pub(super) fn shares_turns(&self, graph: &LocalGraph) -> bool {
        self.engine.limits.share_turns && self.handlings.share_turns(graph.storage())
    }

    /// Requests that one turn serves: `limit`, or 1 if turns are not shared.
    pub(super) fn turn_size(&self, graph: &LocalGraph, limit: usize) -> usize {
        if self.shares_turns(graph) { limit } else { 1 }
    }

    /// How many turns of writes there are at once, how much each serves, and how much is decided
    /// ahead of it: nothing where images
    /// are not kept, and where turns do not wait for each other.
    pub(super) fn batch_limits(&self, graph: &LocalGraph) -> BatchLimits {
        let Limits { batch_writes, batch_bytes, ahead, worth_a_worker, .. } = self.engine.limits;
        let storage = graph.storage();
        let turns = self.handlings.turns_at_once(storage).max(1);
        let decides_ahead = turns == 1 && self.handlings.keep_images(storage);
        BatchLimits {
            turns,
            writes: self.turn_size(graph, batch_writes),
            bytes: batch_bytes,
            ahead: if decides_ahead { ahead } else { 0 },
            worth_a_worker,
        }
    }

    /// Does `work`, which asks the store about the graph, on a worker, apart from the graph's
    /// turns.
    pub(super) fn run_apart<T: 'static>(
        self: &Arc<Self>,
        graph: &Name,
        reply: impl FnOnce(Result<T, Refusal>) + Send + 'static,
        work: impl FnOnce(&Self, &Name) -> Result<T, Refusal> + Send + 'static,
    ) {
        let graph = graph.clone();
        self.run_watched(reply, move |shared| work(shared, &graph));
    }

    /// Does `work`, which asks store or lock, on a worker. If the database does not answer it, the
    /// watchdog does.
    pub(super) fn run_watched<T: 'static>(
        self: &Arc<Self>,
        reply: impl FnOnce(Result<T, Refusal>) + Send + 'static,
        work: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        self.engine.workers.spawn(move || {
            let reply = Reply::new(reply);
            let on_give_up = reply.clone();
            watch::watched(
                move |given_up| on_give_up.answer(Err(given_up.into())),
                || reply.answer(work(&shared)),
            );
        });
    }
}
