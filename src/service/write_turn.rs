//! A turn of writes: takes a batch from the queue, has it served, answers, and starts the next. How
//! the turn itself is taken is in `design/turns/`.

use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::ahead;
use super::decisions::{Outcome, Served, Spent};
use super::handling::Handling;
use super::local_graph::LocalGraph;
use super::metrics::observe;
use super::queue::PendingWrite;
use super::refusal::Refusal;
use super::shared::Shared;
use super::turn::{Learnt, Overlap, Turn};
use super::turn_error::TurnError;
use super::turn_taking::Retry;
use super::write::Verdict;
use super::write_queue::{BatchLimits, DecidedAhead, Taken};
use crate::db::watch::{self, GivenUp};
use crate::failpoint;
use crate::store::CommitError;

/// Starts a turn of writes on a worker.
pub(super) fn start(shared: &Arc<Shared>, graph: Arc<LocalGraph>) {
    let shared_of_turn = Arc::clone(shared);
    shared.engine.workers.spawn(move || take(&shared_of_turn, &graph));
}

/// Takes a turn of writes on this thread.
pub(super) fn take(shared: &Arc<Shared>, graph: &Arc<LocalGraph>) {
    let limits = shared.batch_limits(graph);
    let Taken { writes: batch, ahead, undone } = graph.writes().take(limits);
    undone.count_in(&shared.engine.metrics.wasted_decisions);
    let replies: Vec<_> = batch.iter().map(|write| write.reply.clone()).collect();
    let (shared_of_turn, graph_of_turn) = (Arc::clone(shared), Arc::clone(graph));
    let given_up = move |given_up: GivenUp| {
        replies.iter().for_each(|reply| reply.answer(Err(given_up.into())));
        end(&shared_of_turn, &graph_of_turn, false);
    };
    watch::watched(given_up, || {
        let began = Instant::now();
        let mut turn = WriteTurn { shared, graph, began, limits, ends_here: false };
        let light = batch.len() <= LIGHT;
        let spent = turn.serve(batch, ahead);
        observe(&shared.engine.metrics.turn.write, began.elapsed());
        if light {
            drop(spent);
            turn.ends_here = true;
            drop(turn);
        } else {
            drop(turn);
            // When the next turn is under way.
            drop(spent);
        }
    });
}

/// Freeing the data of at most this many writes takes less time than waking another thread.
const LIGHT: usize = 4;

/// A turn that is under way. Starts the next when it ends, however it ends.
struct WriteTurn<'t> {
    shared: &'t Arc<Shared>,
    graph: &'t Arc<LocalGraph>,
    began: Instant,
    limits: BatchLimits,
    /// Whether this thread has nothing else to do.
    ends_here: bool,
}

impl WriteTurn<'_> {
    /// Until every write of the batch is answered, or, if its time is up, put back to be the first
    /// of the next turn.
    fn serve(&self, batch: Vec<PendingWrite>, ahead: Option<DecidedAhead>) -> Option<Spent> {
        // Of several turns at once another may have been quicker.
        if batch.is_empty() {
            return None;
        }
        let outcome = self.attempts(&batch, ahead, self.limits);
        failpoint::slow_down("write-turn", self.began);
        let decided = |outcome: &&Outcome| matches!(outcome, Outcome::Decided(_));
        let served = match &outcome {
            Ok(served) => served.outcomes.iter().filter(decided).count(),
            Err(_) => batch.len(),
        };
        self.shared.engine.metrics.write_batch.observe(served as f64);
        match outcome {
            // One write may be at fault: serve each alone, so that the others succeed.
            Err(TurnError::Commit(CommitError::Refused(error)))
                if batch.len() > 1 || error.is_unexplained() =>
            {
                log::error!(
                    "graph `{}`: a batch was refused and is taken one by one: {error}",
                    self.graph.name
                );
                self.serve_one_by_one(batch);
                None
            }
            outcome => self.conclude(batch, outcome),
        }
    }

    /// Each write in a turn of its own, as long as the database answers.
    fn serve_one_by_one(&self, batch: Vec<PendingWrite>) {
        let mut waiting = batch.into_iter();
        while let Some(write) = waiting.next() {
            let alone = BatchLimits { ahead: 0, ..self.limits };
            let outcome = self.attempts(slice::from_ref(&write), None, alone);
            let mut served = vec![write];
            if let Err(
                TurnError::Commit(CommitError::Unavailable(_))
                | TurnError::Refused(
                    Refusal::DatabaseUnavailable { .. } | Refusal::LockUnavailable { .. },
                ),
            ) = outcome
            {
                served.extend(waiting.by_ref());
            }
            self.conclude(served, outcome);
        }
    }

    /// Tries to serve the batch until an attempt succeeds or a retry cannot help. What was decided
    /// `ahead` is of use to the first.
    fn attempts(
        &self,
        batch: &[PendingWrite],
        mut ahead: Option<DecidedAhead>,
        limits: BatchLimits,
    ) -> Result<Served, TurnError> {
        let (shared, graph) = (self.shared, self.graph);
        let engine = &shared.engine;
        let (mut attempt, mut learnt) = (0, Learnt::default());
        let call_worker = || ahead::start(shared, graph, take);
        let overlap = Overlap { limits, call_worker: &call_worker };
        loop {
            let Handling { choices, turns, .. } = shared.handling(graph)?;
            let turn = Turn::new(engine, *choices, graph, batch, &learnt, ahead.take(), overlap)?;
            let error = match turns.serve(&turn) {
                Ok(served) => return Ok(served),
                // All of the batch were answered, and other turns may be under way.
                Err(error) if watch::is_given_up() && !failpoint::is_off("given-up-attempts") => {
                    return Err(error);
                }
                Err(error) => error,
            };
            if let (Some(image), TurnError::Commit(CommitError::Refused(_))) =
                (graph.image.get(), &error)
            {
                graph.image.discard(image.key);
            }
            let Some(reason) = error.lost_because() else { return Err(error) };
            engine.metrics.lost_writes.with_label_values(&[reason]).inc();
            engine.metrics.wasted_decisions.inc_by(turn.decided() as u64);
            match turns.retry(&graph.name, &error, attempt) {
                Retry::GiveUp => return Err(error),
                Retry::Now => {}
                Retry::After(wait) => thread::sleep(wait),
            }
            attempt += 1;
            learnt.must_look = match error {
                TurnError::Commit(CommitError::Conflict { since: Some(since), .. }) => {
                    !engine.follow(graph, *choices, &since)
                }
                TurnError::Commit(CommitError::KeyTaken { kept }) if !kept.is_empty() => {
                    learnt.kept.extend(kept.into_iter().map(|answer| (answer.key.clone(), answer)));
                    learnt.must_look
                }
                _ => true,
            };
        }
    }

    /// Answers the batch, and puts back what is left over.
    fn conclude(
        &self,
        batch: Vec<PendingWrite>,
        outcome: Result<Served, TurnError>,
    ) -> Option<Spent> {
        let Served { outcomes, held, spent } = match outcome {
            Ok(served) => served,
            Err(error) => {
                let refusal = error.into_refusal(&self.graph.name);
                self.answer(batch.into_iter().map(|write| (write, Err(refusal.clone()))).collect());
                return None;
            }
        };
        let (mut decided, mut left_over) = (Vec::with_capacity(batch.len()), Vec::new());
        for (write, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Decided(verdict) => decided.push((write, verdict)),
                Outcome::LeftOver => left_over.push(write),
            }
        }
        // Otherwise the watchdog has answered all of the batch.
        if !watch::is_given_up() {
            self.graph.writes().put_back(left_over);
        }
        self.answer(decided);
        drop(held);
        Some(spent)
    }

    fn answer(&self, decided: Vec<(PendingWrite, Verdict)>) {
        let metrics = &self.shared.engine.metrics;
        let (began, answering) = (self.began, Instant::now());
        for (write, verdict) in decided {
            observe(&metrics.queue_wait.write, began.saturating_duration_since(write.since));
            observe(&metrics.request.write, answering.saturating_duration_since(write.since));
            write.reply.answer(verdict);
        }
        observe(&metrics.answer.write, answering.elapsed());
    }
}

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        // Otherwise the watchdog has ended it.
        if watch::disarm() {
            end(self.shared, self.graph, self.ends_here);
        }
    }
}

/// Starts the next turn, if anybody waits: on this thread, if it `ends_here`.
fn end(shared: &Arc<Shared>, graph: &Arc<LocalGraph>, ends_here: bool) {
    let (goes_on, undone) = graph.writes().end_turn();
    drop(undone);
    if !goes_on {
        return;
    }
    let (next, graph) = (Arc::clone(shared), Arc::clone(graph));
    let turn = move || take(&next, &graph);
    if ends_here {
        shared.engine.workers.spawn_as_next(turn)
    } else {
        shared.engine.workers.spawn(turn)
    }
}
