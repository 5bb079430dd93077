//! The worker that decides the next writes of a graph while a commit is under way, so that their
//! turn has little left to do than to commit them.

use std::sync::Arc;
use std::time::Instant;

use super::local_graph::LocalGraph;
use super::metrics::observe;
use super::shared::Shared;

/// Takes a turn of writes.
type TakeTurn = fn(&Arc<Shared>, &Arc<LocalGraph>);

/// Starts a worker that decides the waiting writes. If the running turn ends meanwhile, the worker
/// also takes the next turn.
pub(super) fn start(shared: &Arc<Shared>, graph: &Arc<LocalGraph>, take_turn: TakeTurn) {
    let (shared_of_worker, graph) = (Arc::clone(shared), Arc::clone(graph));
    shared.engine.workers.spawn(move || decide_waiting(&shared_of_worker, &graph, take_turn));
}

fn decide_waiting(shared: &Arc<Shared>, graph: &Arc<LocalGraph>, take_turn: TakeTurn) {
    let metrics = &shared.engine.metrics;
    loop {
        let limits = shared.batch_limits(graph);
        let Some(mut batch) = graph.writes().begin_deciding(limits) else { return };
        let if_it_panics = GiveUpBatch { graph, shared, take_turn };
        let (writes, decided) = batch.parts();
        let (began, before) = (Instant::now(), decided.count());
        decided.decide(&graph.name, writes, shared.engine.limits.batch_time);
        observe(&metrics.decide_ahead, began.elapsed());
        metrics.decided_ahead.inc_by((decided.count() - before) as u64);
        std::mem::forget(if_it_panics);
        let (turn_is_due, undone) = graph.writes().end_deciding(Some(batch));
        undone.count_in(&metrics.wasted_decisions);
        if turn_is_due {
            return take_turn(shared, graph);
        }
    }
}

/// Dropped when deciding a batch panics: the batch is lost, its requests are told so, and those
/// behind it still get their turn.
struct GiveUpBatch<'d> {
    shared: &'d Arc<Shared>,
    graph: &'d Arc<LocalGraph>,
    take_turn: TakeTurn,
}

impl Drop for GiveUpBatch<'_> {
    fn drop(&mut self) {
        let Self { shared, graph, take_turn } = *self;
        let (turn_is_due, _undone) = graph.writes().end_deciding(None);
        if turn_is_due {
            let (next, graph) = (Arc::clone(shared), Arc::clone(graph));
            shared.engine.workers.spawn(move || take_turn(&next, &graph));
        }
    }
}
