//! The service behind every surface: requests wait in a queue for a turn, a turn brings the image
//! to the store's version, decides, writes and answers.
//!
//! Uses `graph` and `store`; synchronous; knows no HTTP, no lock and no design. How writers take
//! turns is behind [`Turns`]; what else may differ is in [`Choices`]. A service has a [`Handling`]
//! of both for each storage of graphs that it serves.

use std::sync::Arc;
use std::time::Instant;

use crate::graph::Name;
use crate::store::{ImageKey, RequestId, RequestLook, Store};

mod ahead;
mod background;
mod choices;
mod creation;
mod decisions;
mod engine;
mod graph_cache;
mod handling;
mod image;
mod limits;
mod listeners;
mod local_graph;
mod metrics;
mod pending_state;
mod permits;
mod purge;
mod queue;
mod read_turn;
mod refusal;
mod shared;
mod snapshots;
mod store_requests;
mod tending;
mod turn;
mod turn_error;
mod turn_taking;
mod workers;
mod write;
mod write_queue;
mod write_turn;

pub use choices::{BatchSize, Choices, CycleCheck, Refresh};
pub use decisions::{Decisions, Held, Served};
pub use handling::Handling;
pub use image::Image;
pub use image::Refreshed;
pub use limits::Limits;
pub use listeners::Listening;
pub use metrics::Metrics;
pub(crate) use metrics::{duration_buckets, observe};
pub use refusal::{LeaderAt, Refusal};
pub use store_requests::READY_ANSWER;
pub use turn::Turn;
pub use turn_error::TurnError;
pub use turn_taking::{Images, Retry, Turns};
pub use write::{Accepted, Forwarded, IdempotencyKey, Subject, Verdict, Write};

use background::Background;
use engine::Engine;
use handling::Handlings;
use limits::CLOSING_PATIENCE;
use local_graph::LocalGraph;
use queue::{PendingRead, PendingWrite, Queued, Reply, wait_for};
use shared::Shared;
use write_queue::Pushed;

/// Serves graphs from one store. Cloning shares it. A turn answers before it gives the lock back:
/// when the last clone is dropped, turns that are under way get a moment to end, so that a process
/// that exits leaves no lock behind.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
    _closing: Arc<Closing>,
}

struct Closing {
    shared: Arc<Shared>,
    /// Dropped after the turns have ended.
    _background: Vec<Background>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.shared.engine.workers.wait_until_idle(CLOSING_PATIENCE);
        self.shared.handlings.turns().for_each(|turns| turns.end());
    }
}

impl Service {
    /// Takes turns on the graphs of `store`. There is at most one handling for each storage; new
    /// graphs are of the first one's.
    ///
    /// # Panics
    /// If there are none, or two for one storage.
    #[must_use]
    pub fn new(store: Arc<Store>, handlings: Vec<Handling>, limits: Limits) -> Self {
        let (engine, handlings) = (Engine::new(store, limits), Handlings::new(handlings));
        for turns in handlings.turns() {
            engine.metrics.register(turns.collectors());
        }
        let purge = purge::start(Arc::clone(&engine.store), limits, &engine.metrics.purged_keys);
        let shared = Arc::new(Shared { engine, handlings });
        let mut background = vec![purge, snapshots::start(&shared)];
        let turns = shared.handlings.turns();
        background.extend(turns.flat_map(|turns| tending::start(&shared, turns)));
        let closing = Closing { shared: Arc::clone(&shared), _background: background };
        Self { _closing: Arc::new(closing), shared }
    }

    /// Decides and applies one write in a turn with others. `reply` is called once, from another
    /// thread or at once, and must not block.
    pub fn write(&self, graph: &Name, write: Write, reply: impl FnOnce(Verdict) + Send + 'static) {
        if let Some(graph) = self.enqueue_write(graph, write, Reply::new(reply)) {
            write_turn::start(&self.shared, graph);
        }
    }

    /// The image at a version that was read after this call. `reply` is called once and must not
    /// block.
    pub fn read(
        &self,
        graph: &Name,
        reply: impl FnOnce(Result<Arc<Image>, Refusal>) + Send + 'static,
    ) {
        if let Some(graph) = self.enqueue_read(graph, Reply::new(reply)) {
            read_turn::start(&self.shared, graph);
        }
    }

    /// The graph, if a turn must be started for it.
    fn enqueue_write(
        &self,
        graph: &Name,
        write: Write,
        reply: Reply<Verdict>,
    ) -> Option<Arc<LocalGraph>> {
        let local = self.shared.local_graph(graph);
        let limit = self.shared.engine.limits.waiting_writes;
        let write = PendingWrite { write, reply, since: Instant::now(), number: 0 };
        match local.push_write(write, limit, self.shared.batch_limits(&local)) {
            Pushed::Behind => None,
            Pushed::CallWorker => {
                ahead::start(&self.shared, &local, write_turn::take);
                None
            }
            Pushed::First => Some(local),
            Pushed::Full(pending) => {
                pending.reply.answer(Err(self.shared.engine.overflow("writes", limit)));
                None
            }
        }
    }

    /// The same for a read.
    fn enqueue_read(
        &self,
        graph: &Name,
        reply: Reply<Result<Arc<Image>, Refusal>>,
    ) -> Option<Arc<LocalGraph>> {
        let local = self.shared.local_graph(graph);
        let limit = self.shared.engine.limits.waiting_reads;
        let turns = self.shared.read_turns(&local);
        match local.push_read(PendingRead { reply, since: Instant::now() }, limit, turns) {
            Queued::Behind => None,
            Queued::First => Some(local),
            Queued::Full(pending) => {
                pending.reply.answer(Err(self.shared.engine.overflow("reads", limit)));
                None
            }
        }
    }

    /// As [`write`](Self::write), waiting for the verdict. A turn that must be started is taken on
    /// this thread: to wake another costs more than much of the turn does.
    ///
    /// # Errors
    /// [`Refusal`] says whether anything was written.
    pub fn write_and_wait(&self, graph: &Name, write: Write) -> Verdict {
        wait_for(|reply| {
            if let Some(local) = self.enqueue_write(graph, write, Reply::new(reply)) {
                workers::run(|| write_turn::take(&self.shared, &local));
            }
        })
    }

    /// As [`read`](Self::read), waiting for the image, and as
    /// [`write_and_wait`](Self::write_and_wait).
    ///
    /// # Errors
    /// [`Refusal`] says why there is none.
    pub fn read_and_wait(&self, graph: &Name) -> Result<Arc<Image>, Refusal> {
        wait_for(|reply| {
            if let Some(local) = self.enqueue_read(graph, Reply::new(reply)) {
                workers::run(|| read_turn::take(&self.shared, &local));
            }
        })
    }

    /// Says that clients reach this process from now on, at `address` if they can be told.
    pub fn serves_at(&self, address: Option<&str>) {
        self.shared.handlings.turns().for_each(|turns| turns.serves_at(address));
    }

    /// Says that this process is about to end, so that others can prepare for it. What was accepted
    /// and what still comes is served as before. Whether others wait for it to
    /// [end its turns](Self::end_turns). Blocks while the store is asked.
    #[must_use]
    pub fn announce_end(&self) -> bool {
        let mut others_wait = false;
        // Each of them is told.
        self.shared.handlings.turns().for_each(|turns| others_wait |= turns.announce_end());
        others_wait
    }

    /// Gives up what turns of writes rest on, so that others can take over: to be called when no
    /// request is left and none will come. A write that comes all the same may be refused. Blocks
    /// while store and lock are asked.
    pub fn end_turns(&self) {
        self.shared.handlings.turns().for_each(|turns| turns.end());
    }

    /// Tells the database from all others.
    #[must_use]
    pub fn database_id(&self) -> &str {
        self.shared.engine.store.database_id()
    }

    /// The name of this process, if it may lead graphs, so that writes are passed on to it and by it.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.shared.handlings.turns().find_map(|turns| turns.node())
    }

    /// The token under which this process leads the graph, if it does.
    #[must_use]
    pub fn led_under(&self, graph: &Name) -> Option<i64> {
        self.shared.handlings.turns().find_map(|turns| turns.led_under(graph))
    }

    /// Who else leads the graph, as far as that is known without asking.
    #[must_use]
    pub fn leader(&self, graph: &Name) -> Option<Arc<LeaderAt>> {
        self.shared.handlings.turns().find_map(|turns| turns.leader(graph))
    }

    /// The process that was told as the leader by that token cannot be asked.
    pub fn forget_leader(&self, graph: &Name, token: i64) {
        self.shared.handlings.turns().for_each(|turns| turns.forget_leader(graph, token));
    }

    /// What the database knows of a write that was passed on when the graph was at `since` or
    /// later; `None` if there is no such graph. `reply` is called once and must not block.
    pub fn request_look(
        &self,
        graph: &Name,
        request: RequestId,
        since: ImageKey,
        reply: impl FnOnce(Result<Option<RequestLook>, Refusal>) + Send + 'static,
    ) {
        self.shared.run_apart(graph, reply, move |shared, graph| {
            Ok(shared.engine.store.request_look(graph, &request, &since)?)
        });
    }

    /// What the turns cost.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.engine.metrics
    }

    /// How many writes and reads wait for all graphs together.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        self.shared.engine.graphs.waiting()
    }
}
