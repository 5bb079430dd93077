//! Storage as rows without a history: [`rows`], and a log that has no changes. Of each
//! version it holds the attempt that made it, so that a lost answer to a commit can be looked up;
//! in the place of the chain of hashes stands a number that no other attempt has.

use diesel::QueryResult;

use super::commit::Commit;
use super::error::StoreError;
use super::head::Head;
use super::rows::{self, Rows};
use super::storage::{History, Loaded, Storage};
use crate::db::{AnyConnection, RowsWrite};
use crate::graph::Graph;

/// Rows alone. A load reads all rows, a write changes those that differ.
pub struct Plain;

impl Storage for Plain {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        rows::load(connection, head, self.history())
    }

    fn writes<'c>(&self, commit: &Commit<'c>) -> Vec<RowsWrite<'c>> {
        Rows.writes(commit)
    }

    fn clear(&self, connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()> {
        Rows.clear(connection, graph_id)
    }

    fn fill(
        &self,
        connection: &mut AnyConnection,
        graph_id: i64,
        graph: &Graph,
    ) -> QueryResult<()> {
        Rows.fill(connection, graph_id, graph)
    }

    fn history(&self) -> History {
        History::None
    }
}
