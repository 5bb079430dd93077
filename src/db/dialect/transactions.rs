//! How transactions begin, and how one locks what it is about to write.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::AnyConnection;
use super::postgres_connection::large_statements;
use crate::db::limits::{LOADING_STALL, Size};
use crate::db::schema::graphs;
use crate::failpoint;

impl AnyConnection {
    /// Begins a transaction that sees one snapshot and writes nothing. It locks no row, so it may
    /// stand still for [`LOADING_STALL`]: a graph is built from rows inside it.
    pub(crate) fn begin_read(&mut self) -> QueryResult<()> {
        match self {
            Self::Sqlite(connection) => connection.batch_execute("BEGIN DEFERRED"),
            Self::Postgres(connection) => {
                const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                if failpoint::is_off("loading-stall") {
                    return connection.batch_execute(BEGIN);
                }
                let stall_ms = LOADING_STALL.as_millis();
                connection.batch_execute(&format!(
                    "{BEGIN}; SET LOCAL idle_in_transaction_session_timeout = '{stall_ms}ms'; {}",
                    large_statements()
                ))
            }
        }
    }

    /// Begins a transaction that writes. On SQLite it takes the file's write lock at once: a
    /// transaction that begins as a reader may fail to become a writer. On Postgres each statement
    /// sees what was committed before the statement began. So the conditional update, which may
    /// have waited for the row, compares with the row's current value.
    pub(crate) fn begin_write(&mut self, size: Size) -> QueryResult<()> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
        match (self, size) {
            (Self::Sqlite(connection), _) => connection.batch_execute("BEGIN IMMEDIATE"),
            (Self::Postgres(connection), Size::Usual) => connection.batch_execute(BEGIN),
            (Self::Postgres(connection), Size::Large) => {
                connection.batch_execute(&format!("{BEGIN}; {}", large_statements()))
            }
        }
    }

    /// Locks the graph's row until the transaction ends, after waiting for others that write it.
    /// Does nothing on SQLite, where a transaction that writes is alone.
    ///
    /// # Errors
    /// What the database reports, such as that the wait took too long.
    pub fn hold_graph(&mut self, name: &str) -> QueryResult<()> {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(connection) => {
                let row =
                    graphs::table.filter(graphs::name.eq(name)).select(graphs::id).for_update();
                row.first::<i64>(connection).optional()?;
            }
        }
        Ok(())
    }

    /// Locks a text until the transaction ends, after waiting for others that hold the same text.
    /// Does nothing on SQLite, where a transaction that writes is alone.
    ///
    /// # Errors
    /// What the database reports, such as that the wait took too long.
    pub fn hold_text(&mut self, text: &str) -> QueryResult<()> {
        if let Self::Postgres(connection) = self {
            let hold = diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))");
            hold.bind::<Text, _>(text).execute(connection)?;
        }
        Ok(())
    }
}
