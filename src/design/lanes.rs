//! All graphs that this process keeps something of: those that were used last, as many as fit into
//! the memory that images may take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use prometheus::{IntCounter, IntGauge};

use super::lane::Lane;
use crate::graph::Name;

/// What a lane takes beside its image and its name, in bytes.
const LANE_BYTES: usize = 512;

pub(super) struct Lanes {
    /// What all lanes together may take, in bytes, as their graphs estimate it.
    budget: usize,
    state: Mutex<State>,
    held: IntGauge,
    bytes: IntGauge,
    evicted: IntCounter,
}

struct State {
    lanes: LruCache<Name, Counted>,
    /// Of all lanes.
    bytes: usize,
}

struct Counted {
    lane: Arc<Lane>,
    bytes: usize,
}

impl Lanes {
    /// None yet. The gauges tell how many there are and how many bytes they take, the counter how
    /// many were let go to stay within `budget` bytes.
    pub(super) fn new(budget: usize, held: IntGauge, bytes: IntGauge, evicted: IntCounter) -> Self {
        let state = Mutex::new(State { lanes: LruCache::unbounded(), bytes: 0 });
        Self { budget, state, held, bytes, evicted }
    }

    /// The graph's lane, made by `new` if there is none; from now on the one that was used last.
    pub(super) fn get(&self, graph: &Name, new: impl FnOnce() -> Lane) -> Arc<Lane> {
        let mut state = self.lock();
        if let Some(Counted { lane, .. }) = state.lanes.get(graph) {
            return Arc::clone(lane);
        }
        let lane = Arc::new(new());
        let bytes = LANE_BYTES + graph.as_str().len();
        state.lanes.push(graph.clone(), Counted { lane: Arc::clone(&lane), bytes });
        state.bytes += bytes;
        self.tell(&state);
        lane
    }

    /// Whoever has the lane already is still served by it.
    pub(super) fn forget(&self, graph: &Name) {
        let mut state = self.lock();
        let gone = state.lanes.pop(graph);
        state.bytes -= gone.as_ref().map_or(0, |gone| gone.bytes);
        self.tell(&state);
        drop(state);
        // A whole graph may go with it, which takes its time.
        drop(gone);
    }

    /// Counts the image that `lane` has now, and lets go of the lanes that were used longest ago
    /// until all fit. One that a turn or a request has is never among them, whatever it takes: it
    /// would come back at once.
    pub(super) fn settle(&self, lane: &Lane) {
        let mut gone = Vec::new();
        let mut state = self.lock();
        let counted = state.lanes.peek_mut(&lane.name);
        // After it was forgotten there may be another of that name.
        let Some(counted) =
            counted.filter(|counted| std::ptr::eq(Arc::as_ptr(&counted.lane), lane))
        else {
            return;
        };
        let bytes = LANE_BYTES + lane.name.as_str().len() + lane.image.bytes();
        let before = std::mem::replace(&mut counted.bytes, bytes);
        state.bytes = state.bytes - before + bytes;
        while state.bytes > self.budget {
            // Under this mutex nobody else can come to have a lane that only the cache has.
            let idle =
                state.lanes.iter().rev().find(|(_, counted)| Arc::strong_count(&counted.lane) == 1);
            let Some(name) = idle.map(|(name, _)| name.clone()) else { break };
            let Some(counted) = state.lanes.pop(&name) else { break };
            state.bytes -= counted.bytes;
            gone.push(counted);
        }
        self.evicted.inc_by(gone.len() as u64);
        self.tell(&state);
        drop(state);
        drop(gone);
    }

    /// How many writes and reads wait in all lanes together.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        let each = state.lanes.iter().map(|(_, counted)| counted.lane.waiting());
        each.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    fn tell(&self, state: &State) {
        self.held.set(state.lanes.len() as i64);
        self.bytes.set(state.bytes as i64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
