//! A service's parts together: what its requests share, and how writers take turns. Runs what needs
//! no turn on the same workers.

use std::sync::Arc;

use super::engine::Engine;
use super::queue::Reply;
use super::refusal::Refusal;
use super::turn_taking::Turns;
use crate::db::watch;
use crate::graph::Name;

pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) turns: Box<dyn Turns>,
}

impl Shared {
    /// Does `work`, which asks the store about the graph, on a worker, apart from the graph's
    /// turns.
    pub(super) fn run_apart<T: 'static>(
        self: &Arc<Self>,
        graph: &Name,
        reply: impl FnOnce(Result<T, Refusal>) + Send + 'static,
        work: impl FnOnce(&Engine, &Name) -> Result<T, Refusal> + Send + 'static,
    ) {
        let graph = graph.clone();
        self.run_watched(reply, move |shared| work(&shared.engine, &graph));
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
