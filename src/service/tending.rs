//! The threads that look after what turns rest on, beside them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::background::Background;
use super::local_graph::LocalGraph;
use super::refusal::Refusal;
use super::shared::Shared;
use super::turn_taking::{Images, Turns};
use crate::db::watch;
use crate::graph::Name;

/// What is missing if there are no such threads.
const WITHOUT: &str = "nobody tends what turns rest on";

/// Starts the threads, if these turns have something [tended](Turns::tend): one that waits for
/// nothing, one that waits for store and lock, and one that loads graphs.
pub(super) fn start(shared: &Arc<Shared>, turns: &Arc<dyn Turns>) -> Vec<Background> {
    let Some(every) = turns.tended_every() else { return Vec::new() };
    let [tended, looked, prepared] = [0; 3].map(|_| Arc::clone(turns));
    let shared = Arc::clone(shared);
    vec![
        repeat("turns", every, move || tended.tend()),
        in_rounds("looks", every, move || looked.look()),
        in_rounds("images", every, move || prepared.prepare(&*shared)),
    ]
}

/// Does the work again and again.
fn repeat(name: &'static str, every: Duration, work: impl Fn() + Send + 'static) -> Background {
    Background::start(name, WITHOUT, move |pauses| {
        while pauses.wait(every) {
            once(name, &work);
        }
    })
}

/// The same with work that waits for the database, each time in a thread of its own: one that the
/// database does not answer cannot be called back. It is given up then, and the next one begins.
fn in_rounds(
    name: &'static str,
    every: Duration,
    work: impl Fn() + Send + Sync + 'static,
) -> Background {
    let work = Arc::new(work);
    Background::start(name, WITHOUT, move |pauses| {
        while pauses.wait(every) {
            // A round that ends sends nothing: it is over when it has dropped its senders.
            let (ends, ended) = channel::<()>();
            let (work, given_up) = (Arc::clone(&work), ends.clone());
            let round = move || {
                // Dropped last.
                let (_ends, work) = (ends, work);
                let gives_up = move |_| {
                    let _ = given_up.send(());
                };
                watch::watched(gives_up, || once(name, &*work));
            };
            if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(round) {
                log::warn!("{WITHOUT} for now: no thread can be started: {error}");
            }
            let _ = ended.recv();
        }
    })
}

/// A panic is a bug of ours, and the next time may be better.
fn once(name: &str, work: impl Fn()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        log::error!("the thread `{name}` panicked, and goes on");
    }
}

impl Shared {
    fn bring_up_local(&self, local: &LocalGraph) -> Result<(), Refusal> {
        let choices = self.handling(local)?.choices;
        let refreshed = self.engine.refreshed(local, choices, &self.engine.metrics.refresh.read);
        match refreshed.map_err(|error| error.into_refusal(&local.name))? {
            Some(_) => Ok(()),
            None => Err(Refusal::graph_not_found(&local.name)),
        }
    }
}

impl Images for Shared {
    fn version(&self, graph: &Name) -> Option<u64> {
        Some(self.engine.graphs.image(graph)?.key.version)
    }

    fn have_room(&self) -> bool {
        self.engine.graphs.has_room()
    }

    fn bring_up(&self, graph: &Name) -> Result<(), Refusal> {
        self.bring_up_local(&self.local_graph(graph))
    }

    fn warm(&self, graph: &Name) -> Result<bool, Refusal> {
        let local = self.engine.graphs.get_unused(graph, || LocalGraph::new(graph.clone()));
        self.bring_up_local(&local)?;
        Ok(self.engine.graphs.image(graph).is_some())
    }
}
