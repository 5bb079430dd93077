//! Looks at the rows of graphs: one by its name, or many in the order of names.

use diesel::prelude::*;

use super::Store;
use super::error::StoreError;
use super::head::{Head, head_of, read_head_row, split_server_state};
use crate::db::schema::{GraphRow, graphs};
use crate::db::server_state;
use crate::graph::Name;

impl Store {
    /// The graph's row, deleted graphs included.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn head(&self, name: &Name) -> Result<Option<Head>, StoreError> {
        let row = self.database.learn(|connection| read_head_row(connection, name))?;
        row.map(head_of).transpose()
    }

    /// The heads of graphs that are not deleted, whose names begin with `prefix` and come after
    /// `after`, in byte order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn graphs(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, StoreError> {
        let rows: Vec<GraphRow> = self.database.learn(|connection| {
            let from = after.map_or(prefix, |after| after.max(prefix));
            let query = graphs::table
                // A literal, since only then does the planner use the index of open graphs.
                .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("graphs.state <> 'deleted'"))
                .filter(graphs::name.ge(from))
                .order(graphs::name)
                // The last name of the page before may come again.
                .limit(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
                .select((server_state(), GraphRow::as_select()));
            Ok(split_server_state(query.load(connection)?))
        })?;
        let heads = rows.into_iter().map(head_of);
        let wanted = heads
            .filter(|head| head.as_ref().map_or(true, |head| after != Some(head.name.as_str())));
        wanted
            .take(limit)
            .take_while(|head| {
                head.as_ref().map_or(true, |head| head.name.as_str().starts_with(prefix))
            })
            .collect()
    }
}
