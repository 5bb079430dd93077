//! Creating a graph. It takes no turn: one conditional transaction of the store does it.

use super::Service;
use super::queue::wait_for;
use super::refusal::Refusal;
use super::shared::Shared;
use super::write::{Accepted, IdempotencyKey, Verdict};
use crate::graph::{Name, Precondition, Rejection};
use crate::store::{AnswerToStore, CommitError, Creation, Head};

impl Service {
    /// Creates the graph unless it is there. `reply` is called once and must not block.
    pub fn create_graph(
        &self,
        graph: &Name,
        precondition: Option<Precondition>,
        idempotency: Option<IdempotencyKey>,
        reply: impl FnOnce(Verdict) + Send + 'static,
    ) {
        self.shared.run_apart(graph, reply, move |shared, graph| {
            create_graph(shared, graph, precondition, idempotency.as_ref())
        });
    }

    /// As [`create_graph`](Self::create_graph), waiting for the verdict.
    ///
    /// # Errors
    /// [`Refusal`] says why it could not be created.
    pub fn create_graph_and_wait(&self, graph: &Name) -> Verdict {
        wait_for(|reply| self.create_graph(graph, None, None, reply))
    }
}

fn create_graph(
    shared: &Shared,
    graph: &Name,
    precondition: Option<Precondition>,
    idempotency: Option<&IdempotencyKey>,
) -> Verdict {
    let accepted = |head: &Head, created| Accepted {
        version: head.version,
        changed: created,
        created,
        subject_version: Some(head.version),
    };
    let answer = idempotency
        .map(|key| move |head: &Head, created: bool| key.answer(&accepted(head, created)));
    let keep = idempotency.zip(answer.as_ref());
    let keep = keep.map(|(idempotency, answer)| {
        (idempotency.key.as_str(), answer as &dyn Fn(&Head, bool) -> _)
    });
    match (create_in_store(shared, graph, precondition, keep), idempotency) {
        (Ok(Creation::There { head, created }), _) => Ok(accepted(&head, created)),
        (Ok(Creation::NotAsExpected { expected, actual, version }), _) => {
            let rejection = Rejection::PreconditionFailed { expected, actual, operation: None };
            Err(Refusal::Rejected { rejection, version })
        }
        (Ok(Creation::OtherStorage { head }), _) => Err(shared.mismatch(graph, head.storage)),
        (Ok(Creation::Answered(stored)), Some(key)) => key.verdict(&stored),
        (Ok(Creation::Answered(_)), None) => unreachable!("only a key has an answer"),
        (Err(error), _) => Err(Refusal::of_commit(graph, error)),
    }
}

/// Tries again, up to the limit, where the database favoured another transaction.
fn create_in_store(
    shared: &Shared,
    graph: &Name,
    precondition: Option<Precondition>,
    keep: Option<AnswerToStore<'_>>,
) -> Result<Creation, CommitError> {
    let Shared { engine, handlings } = shared;
    let (storages, mut retries) = (handlings.storages(), 0);
    loop {
        match engine.store.create_graph(graph, &storages, precondition.clone(), keep) {
            Err(CommitError::KeyTaken { .. } | CommitError::Yielded(_))
                if retries < engine.limits.creation_retries =>
            {
                retries += 1;
            }
            outcome => return outcome,
        }
    }
}
