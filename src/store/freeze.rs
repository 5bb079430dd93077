//! Closing a graph, and opening it again. The first statement of every write compares the state in
//! the graph's row. So once a freeze is committed, every write is refused, whatever its node, lock
//! and way of taking turns, and the version that the freeze has read is the last.

use diesel::prelude::*;

use super::Store;
use super::commit_error::{CommitError, repeatable};
use super::head::{GraphState, Head, read_head};
use crate::db::schema::graphs;
use crate::graph::Name;

impl Store {
    /// Closes the graph, or, if it is closed, says anew where it went. Its row as it is then;
    /// `None` if there is no such graph. May be repeated.
    ///
    /// # Errors
    /// [`CommitError`] if it is not known to be closed.
    pub fn freeze(&self, name: &Name, moved_to: Option<&str>) -> Result<Option<Head>, CommitError> {
        self.set_state(name, GraphState::Frozen, moved_to)
    }

    /// Opens the graph again. Its row as it is then; `None` if there is no such graph. May be
    /// repeated.
    ///
    /// # Errors
    /// [`CommitError`] if it is not known to be open.
    pub fn thaw(&self, name: &Name) -> Result<Option<Head>, CommitError> {
        self.set_state(name, GraphState::Open, None)
    }

    fn set_state(
        &self,
        name: &Name,
        state: GraphState,
        moved_to: Option<&str>,
    ) -> Result<Option<Head>, CommitError> {
        let written = self.database.write(|connection| {
            // A write that has the row is waited for; one that comes later finds the new state.
            connection.hold_graph(name.as_str())?;
            let row = graphs::table.filter(graphs::name.eq(name.as_str()));
            let there = row.filter(graphs::state.ne(GraphState::Deleted.column()));
            let set = (graphs::state.eq(state.column()), graphs::moved_to.eq(moved_to));
            if diesel::update(there).set(set).execute(connection)? == 0 {
                return Ok(None);
            }
            Ok::<_, CommitError>(read_head(connection, name)?)
        });
        written.map_err(repeatable)
    }
}
