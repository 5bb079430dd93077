//! The cache of graphs: the most recently used ones, as many as fit into the memory for images.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use prometheus::{IntCounter, IntGauge};

use super::image::Image;
use super::local_graph::LocalGraph;
use crate::graph::Name;

/// What a local graph takes beside its image and its name, in bytes.
const LOCAL_GRAPH_BYTES: usize = 512;

pub(super) struct GraphCache {
    /// What all graphs together may take, in bytes, as their graphs estimate it.
    budget: usize,
    state: Mutex<State>,
    held: IntGauge,
    bytes: IntGauge,
    evicted: IntCounter,
}

struct State {
    graphs: LruCache<Name, Counted>,
    /// Of all graphs.
    bytes: usize,
}

struct Counted {
    local: Arc<LocalGraph>,
    bytes: usize,
    /// Whether a request or a turn has asked for it.
    is_used: bool,
}

impl GraphCache {
    /// An empty cache. `held` and `bytes` show how many graphs are in it and how many bytes they
    /// take; `evicted` counts the graphs that left it to stay within `budget` bytes.
    pub(super) fn new(budget: usize, held: IntGauge, bytes: IntGauge, evicted: IntCounter) -> Self {
        let state = Mutex::new(State { graphs: LruCache::unbounded(), bytes: 0 });
        Self { budget, state, held, bytes, evicted }
    }

    /// The local graph, made by `new` if there is none; from now on the one that was used last.
    pub(super) fn get(&self, graph: &Name, new: impl FnOnce() -> LocalGraph) -> Arc<LocalGraph> {
        let mut state = self.lock();
        if let Some(counted) = state.graphs.get_mut(graph) {
            counted.is_used = true;
            return Arc::clone(&counted.local);
        }
        self.insert(&mut state, graph, new(), true)
    }

    /// The same, and no use of it: one that is made leaves before all that are used, and none of
    /// them leaves for its sake.
    pub(super) fn get_unused(
        &self,
        graph: &Name,
        new: impl FnOnce() -> LocalGraph,
    ) -> Arc<LocalGraph> {
        let mut state = self.lock();
        if let Some(counted) = state.graphs.peek(graph) {
            return Arc::clone(&counted.local);
        }
        let local = self.insert(&mut state, graph, new(), false);
        state.graphs.demote(graph);
        local
    }

    fn insert(
        &self,
        state: &mut State,
        graph: &Name,
        local: LocalGraph,
        is_used: bool,
    ) -> Arc<LocalGraph> {
        let local = Arc::new(local);
        let bytes = LOCAL_GRAPH_BYTES + graph.as_str().len();
        let counted = Counted { local: Arc::clone(&local), bytes, is_used };
        state.graphs.push(graph.clone(), counted);
        state.bytes += bytes;
        self.tell(state);
        local
    }

    /// Removes the graph from the cache. Turns that already hold it go on using it.
    pub(super) fn forget(&self, graph: &Name) {
        let mut state = self.lock();
        let gone = state.graphs.pop(graph);
        state.bytes -= gone.as_ref().map_or(0, |gone| gone.bytes);
        self.tell(&state);
        drop(state);
        // A whole graph may go with it, which takes its time.
        drop(gone);
    }

    /// Counts the image that `local` has now, and evicts the least recently used graphs until all
    /// fit. A graph that a turn or a request uses is never evicted, however large: it would be
    /// loaded again at once. One that nobody has asked for yet goes before any other.
    pub(super) fn settle(&self, local: &LocalGraph) {
        let mut gone = Vec::new();
        let mut state = self.lock();
        let counted = state.graphs.peek_mut(&local.name);
        // After it was forgotten there may be another of that name.
        let Some(counted) =
            counted.filter(|counted| std::ptr::eq(Arc::as_ptr(&counted.local), local))
        else {
            return;
        };
        let bytes = LOCAL_GRAPH_BYTES + local.name.as_str().len() + local.image.bytes();
        let (before, is_used) = (std::mem::replace(&mut counted.bytes, bytes), counted.is_used);
        state.bytes = state.bytes - before + bytes;
        if state.bytes > self.budget && !is_used {
            gone.extend(state.graphs.pop(&local.name));
            state.bytes -= bytes;
        }
        while state.bytes > self.budget {
            // While this mutex is held, nobody can take a graph that only the cache owns.
            let idle = state
                .graphs
                .iter()
                .rev()
                .find(|(_, counted)| Arc::strong_count(&counted.local) == 1);
            let Some(name) = idle.map(|(name, _)| name.clone()) else { break };
            let Some(counted) = state.graphs.pop(&name) else { break };
            state.bytes -= counted.bytes;
            gone.push(counted);
        }
        self.evicted.inc_by(gone.len() as u64);
        self.tell(&state);
        drop(state);
        drop(gone);
    }

    /// The graphs that are in it, by name.
    pub(super) fn names(&self) -> Vec<Name> {
        self.lock().graphs.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The newest image of the graph, if it is in memory. That is no use of it.
    pub(super) fn image(&self, graph: &Name) -> Option<Arc<Image>> {
        self.lock().graphs.peek(graph).and_then(|counted| counted.local.image.get())
    }

    /// Whether less than half of the budget is used.
    pub(super) fn has_room(&self) -> bool {
        self.lock().bytes < self.budget / 2
    }

    /// How many writes and reads wait for all graphs together.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        let each = state.graphs.iter().map(|(_, counted)| counted.local.waiting());
        each.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    fn tell(&self, state: &State) {
        self.held.set(state.graphs.len() as i64);
        self.bytes.set(state.bytes as i64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
