//! Storage as the [log](super::log) of writers that compare no version: each has appended at
//! whatever version there was, what it had decided on an earlier one. So the log is dense and its
//! chain of hashes is right, and yet a change may break the rules after those before it.
//!
//! A load judges change by change, each against the graph that those before it lead to, and refuses
//! the log at the first that breaks a rule. It is slower than the load of a log that needs no
//! judging, and nobody minds: such graphs are there to be compared with others, and not to be kept.

use diesel::QueryResult;

use super::commit::Commit;
use super::error::StoreError;
use super::head::Head;
use super::log::Log;
use super::log_replay::{LogStart, Replayed, read_log};
use super::storage::{History, Loaded, LoadedFrom, Storage};
use crate::db::{AnyConnection, RowsWrite};
use crate::graph::{Change, Graph, IllegalChange, apply, apply_and_judge};

/// The change log alone, which may break the rules.
pub struct UncheckedLog;

impl Storage for UncheckedLog {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        let JudgedLog { graph, illegal } = read_log(connection, head, LogStart::default())?;
        let loaded = match illegal {
            None => Ok(graph),
            Some((version, illegal)) => Err(StoreError::IllegalHistory {
                graph: head.name.clone(),
                storage: head.storage,
                version,
                what: illegal.to_string(),
            }),
        };
        let from = LoadedFrom::Log { changes: head.version };
        Ok(Loaded { graph: Box::new(|| loaded), from })
    }

    fn writes<'c>(&self, commit: &Commit<'c>) -> Vec<RowsWrite<'c>> {
        Log.writes(commit)
    }

    fn clear(&self, connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()> {
        Log.clear(connection, graph_id)
    }

    fn fill(
        &self,
        connection: &mut AnyConnection,
        graph_id: i64,
        graph: &Graph,
    ) -> QueryResult<()> {
        Log.fill(connection, graph_id, graph)
    }

    fn history(&self) -> History {
        History::Whole
    }

    fn may_break_rules(&self) -> bool {
        true
    }
}

/// The graph that a log leads to, and the first version that breaks a rule.
#[derive(Default)]
struct JudgedLog {
    graph: Graph,
    illegal: Option<(u64, IllegalChange)>,
}

impl Replayed for JudgedLog {
    fn version(&self) -> u64 {
        self.graph.version()
    }

    /// What comes after the first illegal change is read to its end: that the log is whole is told
    /// first.
    fn add(&mut self, change: &Change) -> Result<(), String> {
        if self.illegal.is_some() {
            self.graph = apply(&self.graph, change);
            return Ok(());
        }
        let (next, judged) = apply_and_judge(std::mem::take(&mut self.graph), change);
        self.illegal = judged.err().map(|illegal| (next.version(), illegal));
        self.graph = next;
        Ok(())
    }
}
