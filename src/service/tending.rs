//! The threads that look after what turns rest on, beside them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::background::Background;
use super::refusal::Refusal;
use super::shared::Shared;
use super::turn_taking::{Images, Turns};
use crate::graph::Name;

/// Starts the threads, if these turns have something [tended](Turns::tend): one that waits for
/// store and lock only, and one that loads graphs.
pub(super) fn start(shared: &Arc<Shared>, turns: &Arc<dyn Turns>) -> Vec<Background> {
    if turns.tended_every().is_none() {
        return Vec::new();
    }
    let (tended, prepared) = (Arc::clone(turns), Arc::clone(turns));
    let shared = Arc::clone(shared);
    vec![
        repeat("turns", turns, move || tended.tend()),
        repeat("images", turns, move || prepared.prepare(&*shared)),
    ]
}

/// Does the work again and again. A panic is a bug of ours, and the next time may be better.
fn repeat(
    name: &'static str,
    turns: &Arc<dyn Turns>,
    work: impl Fn() + Send + 'static,
) -> Background {
    let every = turns.tended_every().unwrap_or_default();
    Background::start(name, "nobody tends what turns rest on", move |pauses| {
        while pauses.wait(every) {
            if catch_unwind(AssertUnwindSafe(&work)).is_err() {
                log::error!("the thread `{name}` panicked, and goes on");
            }
        }
    })
}

impl Images for Shared {
    fn version(&self, graph: &Name) -> Option<u64> {
        Some(self.engine.graphs.image(graph)?.key.version)
    }

    fn have_room(&self) -> bool {
        self.engine.graphs.has_room()
    }

    fn bring_up(&self, graph: &Name) -> Result<(), Refusal> {
        let local = self.local_graph(graph);
        let choices = self.handling(&local)?.choices;
        let refreshed = self.engine.refreshed(&local, choices, &self.engine.metrics.refresh.read);
        match refreshed.map_err(|error| error.into_refusal(graph))? {
            Some(_) => Ok(()),
            None => Err(Refusal::graph_not_found(graph)),
        }
    }
}
