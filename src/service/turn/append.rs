//! The step in place of a commit for writers that compare no version.

use std::time::Instant;

use super::{Turn, new_attempt};
use crate::failpoint;
use crate::service::decisions::Decisions;
use crate::service::image::Image;
use crate::service::metrics::observe;
use crate::service::turn_error::TurnError;
use crate::store::{Commit, Entry, Fence, GraphState, Head};

impl Turn<'_> {
    /// Writes what was accepted after whatever version the graph has by then, and gives the
    /// verdicts the versions that it came to. Then the image is brought to the store's version.
    ///
    /// # Errors
    /// [`TurnError::Commit`] says whether anything was written.
    ///
    /// # Panics
    /// If the graph is kept in a storage whose log must keep the rules.
    pub fn append(&self, decisions: &mut Decisions) -> Result<(), TurnError> {
        let (engine, metrics) = (self.engine, &self.engine.metrics);
        failpoint::pass("after-check");
        let began = Instant::now();
        let _committing = self.graph.image.committing();
        let attempt = new_attempt()?;
        let read = decisions.read().head.clone();
        let entries: Vec<Entry<'_>> = decisions.entries(self.batch).collect();
        let keys = decisions.keys(self.batch);
        let commit = Commit {
            read: &read,
            fence: Fence::Unfenced,
            attempt: &attempt,
            before: decisions.base(),
            after: decisions.graph(),
            entries: &entries,
            keys: &keys,
            answers: decisions.answers(),
            deletes_graph: decisions.deletes_graph(),
        };
        let appended = engine.store.append(&commit, &|later| decisions.answers_later(later))?;
        observe(&metrics.commit, began.elapsed());
        let began = Instant::now();
        if appended.onto.key() == read.key() {
            let graph = decisions.graph().clone();
            let state = match decisions.deletes_graph() {
                true => GraphState::Deleted,
                false => GraphState::Open,
            };
            let (version, chain) = (graph.version(), appended.chain);
            let head = Head { version, chain, state, ..appended.onto };
            let next = Image::derived(&head, graph, &decisions.read().image);
            engine.publish(self.graph, next, self.choices.refresh.keeps_images());
            // Another turn may have gone further meanwhile.
            if self.graph.image.get().is_none_or(|newest| newest.key.version <= version) {
                self.graph.set_head(Some(head));
            }
        } else {
            decisions.come_later(appended.onto.version - read.version);
            let refreshed = engine.refreshed(self.graph, self.choices, &metrics.refresh.write);
            if let Err(error) = refreshed {
                // What was written stands; the next request looks again.
                log::debug!("graph `{}`: the image is left behind: {error}", self.graph.name);
            }
        }
        observe(&metrics.publish, began.elapsed());
        engine.listeners.notify(&self.graph.name);
        Ok(())
    }
}
