//! A turn of reads: one look at the version serves all that arrived before it, if turns are shared.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::choices::{Choices, Refresh};
use super::handling::Handling;
use super::image::{Image, Refreshed};
use super::local_graph::LocalGraph;
use super::metrics::observe;
use super::queue::PendingRead;
use super::refusal::Refusal;
use super::shared::Shared;
use super::turn_error::TurnError;
use crate::db::watch::{self, GivenUp};
use crate::store::GraphState;

/// Starts a turn of reads on a worker.
pub(super) fn start(shared: &Arc<Shared>, graph: Arc<LocalGraph>) {
    let shared_of_turn = Arc::clone(shared);
    shared.engine.workers.spawn(move || take(&shared_of_turn, &graph));
}

/// Takes a turn of reads on this thread.
pub(super) fn take(shared: &Arc<Shared>, graph: &Arc<LocalGraph>) {
    if shared.shares_turns(graph) {
        gather(graph);
    }
    let batch = graph.take_reads(shared.turn_size(graph, shared.engine.limits.batch_reads));
    let replies: Vec<_> = batch.iter().map(|read| read.reply.clone()).collect();
    let (shared_of_turn, graph_of_turn) = (Arc::clone(shared), Arc::clone(graph));
    let given_up = move |given_up: GivenUp| {
        replies.iter().for_each(|reply| reply.answer(Err(given_up.into())));
        end(&shared_of_turn, &graph_of_turn);
    };
    watch::watched(given_up, || ReadTurn { shared, graph }.serve(batch));
}

/// Yields while the queue grows, at most [`GATHERINGS`] times, so that one turn serves more readers
/// where more threads want to run than there are processors. Elsewhere it returns at once.
fn gather(graph: &LocalGraph) {
    let (_, mut waiting) = graph.waiting();
    for _ in 0..GATHERINGS {
        thread::yield_now();
        let before = std::mem::replace(&mut waiting, graph.waiting().1);
        if waiting <= before {
            return;
        }
    }
}

/// How often a read looks anew because the graph was created again in another storage meanwhile.
const STORAGE_CHANGES: usize = 3;
/// How often a read turn yields to let others join it.
const GATHERINGS: usize = 16;
/// How long a read waits for the image of a commit that this process has under way.
const IMAGE_WAIT: Duration = Duration::from_millis(100);

/// A turn that is under way. Starts the next when it ends, however it ends.
struct ReadTurn<'t> {
    shared: &'t Arc<Shared>,
    graph: &'t Arc<LocalGraph>,
}

impl ReadTurn<'_> {
    fn serve(&self, batch: Vec<PendingRead>) {
        // Of several turns at once another may have been quicker.
        if batch.is_empty() {
            return;
        }
        let metrics = &self.shared.engine.metrics;
        let began = Instant::now();
        metrics.read_batch.observe(batch.len() as f64);
        let image = self.current_image();
        let answering = Instant::now();
        for read in batch {
            observe(&metrics.queue_wait.read, began.saturating_duration_since(read.since));
            observe(&metrics.request.read, answering.saturating_duration_since(read.since));
            read.reply.answer(image.clone());
        }
        observe(&metrics.answer.read, answering.elapsed());
        observe(&metrics.turn.read, began.elapsed());
    }

    /// The image at the store's version now. The guard is held only while that version is learnt:
    /// an image never changes, so what is computed from it needs none.
    fn current_image(&self) -> Result<Arc<Image>, Refusal> {
        let mut tries = 0;
        loop {
            match self.image_as_kept(self.shared.handling(self.graph)?) {
                Err(TurnError::StorageChanged { .. }) if tries < STORAGE_CHANGES => tries += 1,
                outcome => return outcome.map_err(|error| error.into_refusal(&self.graph.name)),
            }
        }
    }

    /// The same, if the graph is kept as it was when it was last seen.
    fn image_as_kept(&self, handling: &Handling) -> Result<Arc<Image>, TurnError> {
        let Self { shared, graph } = self;
        let Handling { choices, turns, .. } = handling;
        let not_found = || Refusal::graph_not_found(&graph.name);
        let Some(graph_id) = shared.engine.graph_id(graph)? else { return Err(not_found().into()) };
        let guard = turns.read_guard(graph_id)?;
        let current = match guard {
            None => self.refreshed_beside_writers(*choices),
            Some(_) => {
                shared.engine.refreshed(graph, *choices, &shared.engine.metrics.refresh.read)
            }
        };
        drop(guard);
        let Refreshed { head, image } = current?.ok_or_else(not_found)?;
        if head.state == GraphState::Deleted {
            return Err(not_found().into());
        }
        image.check_legal(&graph.name)?;
        Ok(image)
    }

    /// As [`Engine::refreshed`], without a guard. If the version is newer than the image, this
    /// process may have just written it, and is about to publish its image. To wait for that costs
    /// less than to read the changes or the whole graph.
    fn refreshed_beside_writers(&self, choices: Choices) -> Result<Option<Refreshed>, TurnError> {
        let Self { shared, graph } = self;
        let timed = &shared.engine.metrics.refresh.read;
        let before = graph.image.get();
        // Where changes are read, the look at the row can bring them.
        let brings_changes = choices.refresh == Refresh::Delta;
        let look_first = graph.image.is_committing() || !brings_changes;
        if let Some(before) = before.filter(|_| look_first) {
            let began = Instant::now();
            let Some(head) = shared.engine.store.head(&graph.name)? else { return Ok(None) };
            let (expected, actual) = (choices.storage, head.storage);
            if expected != actual {
                graph.set_head(Some(head));
                return Err(TurnError::StorageChanged { expected, actual });
            }
            let image = graph.image.get_awaiting(head.version, IMAGE_WAIT);
            let at_head =
                image.filter(|image| (image.key, image.storage) == (head.key(), head.storage));
            let current = match at_head {
                Some(image) => Some(Refreshed { head, image }),
                // What was published since then is newer than the row that was read.
                None => graph.at_hand().filter(|now| {
                    (now.head.id, now.head.storage) == (head.id, head.storage)
                        && now.head.version > head.version
                        && !Arc::ptr_eq(&now.image, &before)
                }),
            };
            if current.is_some() {
                observe(timed, began.elapsed());
                return Ok(current);
            }
        }
        shared.engine.refreshed(graph, choices, timed)
    }
}

impl Drop for ReadTurn<'_> {
    fn drop(&mut self) {
        // Otherwise the watchdog has ended it.
        if watch::disarm() {
            end(self.shared, self.graph);
        }
    }
}

/// Starts the next turn, if anybody waits.
fn end(shared: &Arc<Shared>, graph: &Arc<LocalGraph>) {
    if graph.end_read_turn() {
        let (next, graph) = (Arc::clone(shared), Arc::clone(graph));
        shared.engine.workers.spawn_as_next(move || take(&next, &graph));
    }
}
