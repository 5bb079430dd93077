//! Requests that take no turn: which graphs there are, whether the service is ready, the change log
//! and its consumers.
//!
//! The log grows only by commits. So a page that is read while others write has only committed
//! changes, and every change that was answered before the page was read.

use std::sync::Arc;
use std::time::Duration;

use super::Service;
use super::listeners::Listening;
use super::refusal::Refusal;
use super::shared::Shared;
use crate::db::watch;
use crate::graph::Name;
use crate::store::{Acknowledgement, Consumer, Feed, GraphState, Head};

/// How long readiness waits for the answer to a statement.
pub const READY_ANSWER: Duration = Duration::from_secs(3);

impl Service {
    /// The graphs whose names begin with `prefix` and come after `after`, in byte order. `reply` is
    /// called once and must not block.
    pub fn graphs(
        &self,
        prefix: String,
        after: Option<String>,
        limit: usize,
        reply: impl FnOnce(Result<Vec<Head>, Refusal>) + Send + 'static,
    ) {
        self.shared.run_watched(reply, move |shared| {
            shared.engine.store.graphs(&prefix, after.as_deref(), limit).map_err(Refusal::from)
        });
    }

    /// The graph's row as it is now. `reply` is called once and must not block.
    pub fn head(&self, graph: &Name, reply: impl FnOnce(Result<Head, Refusal>) + Send + 'static) {
        self.shared.run_apart(graph, reply, |Shared { engine, .. }, graph| {
            let head = engine.store.head(graph)?.filter(|head| head.state != GraphState::Deleted);
            head.ok_or_else(|| Refusal::graph_not_found(graph))
        });
    }

    /// Whether database and lock answer. `reply` is called once and must not block.
    pub fn ready(&self, reply: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        self.shared.run_watched(reply, move |shared| {
            // Whoever asks is less patient than a client.
            let _limit = watch::limited(READY_ANSWER);
            shared.engine.store.ping()?;
            shared.handlings.turns().try_for_each(|turns| turns.ready())
        });
    }

    /// The graph's row as it is now, deleted graphs included, and a page of its changes after
    /// `after`, at most `most`; what `show` makes of them. `show` runs on the thread that read
    /// them, `reply` is called once; neither may block.
    pub fn feed<T: 'static>(
        &self,
        graph: &Name,
        after: u64,
        most: usize,
        show: impl FnOnce(Feed) -> T + Send + 'static,
        reply: impl FnOnce(Result<T, Refusal>) + Send + 'static,
    ) {
        self.shared.run_apart(graph, reply, move |Shared { engine, .. }, graph| {
            let feed = engine.store.feed(graph, after, most)?;
            feed.map(show).ok_or_else(|| Refusal::graph_not_found(graph))
        });
    }

    /// What a snapshot at `version` tells beside the graph: its row, deleted graphs included, and
    /// when the version was committed, in milliseconds since 1970, if that is known. `reply` is
    /// called once and must not block.
    pub fn origin(
        &self,
        graph: &Name,
        version: u64,
        reply: impl FnOnce(Result<(Head, Option<i64>), Refusal>) + Send + 'static,
    ) {
        self.shared.run_apart(graph, reply, move |Shared { engine, .. }, graph| {
            let head = engine.store.head(graph)?.ok_or_else(|| Refusal::graph_not_found(graph))?;
            let committed_at_ms = engine.store.committed_at(head.id, version)?;
            Ok((head, committed_at_ms))
        });
    }

    /// The graph's row, and who reads its log, in byte order of names. `reply` is called once and
    /// must not block.
    pub fn consumers(
        &self,
        graph: &Name,
        reply: impl FnOnce(Result<(Head, Vec<Consumer>), Refusal>) + Send + 'static,
    ) {
        self.shared.run_apart(graph, reply, |Shared { engine, .. }, graph| {
            let found = engine
                .store
                .consumers(graph)?
                .filter(|(head, _)| head.state != GraphState::Deleted);
            found.ok_or_else(|| Refusal::graph_not_found(graph))
        });
    }

    /// Notes that the consumer needs no change up to `version`, and registers it if it is new.
    /// `reply` is called once and must not block.
    pub fn acknowledge(
        &self,
        graph: &Name,
        consumer: &Name,
        version: u64,
        reply: impl FnOnce(Result<Acknowledgement, Refusal>) + Send + 'static,
    ) {
        let consumer = consumer.clone();
        self.shared.run_apart(graph, reply, move |Shared { engine, .. }, graph| {
            let noted = engine.store.acknowledge(graph, &consumer, version);
            noted.map_err(|error| Refusal::of_commit(graph, error))
        });
    }

    /// Takes the consumer off the list; the graph's row, and whether the consumer was on it.
    /// `reply` is called once and must not block.
    pub fn forget_consumer(
        &self,
        graph: &Name,
        consumer: &Name,
        reply: impl FnOnce(Result<(Head, bool), Refusal>) + Send + 'static,
    ) {
        let consumer = consumer.clone();
        self.shared.run_apart(graph, reply, move |Shared { engine, .. }, graph| {
            let head = engine.store.head(graph)?.filter(|head| head.state != GraphState::Deleted);
            let head = head.ok_or_else(|| Refusal::graph_not_found(graph))?;
            let forgotten = engine.store.forget_consumer(graph, &consumer);
            let was_there = forgotten.map_err(|error| Refusal::of_commit(graph, error))?;
            was_there
                .map(|was_there| (head, was_there))
                .ok_or_else(|| Refusal::graph_not_found(graph))
        });
    }

    /// Calls `callback` soon after each write of this process to the graph, on the thread that took
    /// the turn, until what is returned is dropped. It must not block. A hint: of what other
    /// processes write nothing is heard.
    pub fn listen(&self, graph: &Name, callback: impl Fn() + Send + Sync + 'static) -> Listening {
        self.shared.engine.listeners.add(graph, Arc::new(callback))
    }
}
