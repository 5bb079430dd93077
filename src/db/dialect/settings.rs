//! The settings of a connection: read, and on a server limited in time.

use std::time::Duration;

use diesel::connection::SimpleConnection as _;

use super::AnyConnection;
use super::postgres_connection::{postgres_settings, statement_timeout};
use super::sqlite_connection::{SQLITE_SETTINGS, pragma};
use crate::db::error::DbError;

impl AnyConnection {
    /// Has the server end a transaction whose client stalls for longer than `stall`, a wait for a
    /// row after one second more, and a statement shortly before `answer` has passed. Does nothing
    /// in an embedded database.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if the limits cannot be set.
    pub(crate) fn limit(&mut self, stall: Duration, answer: Duration) -> Result<(), DbError> {
        let Self::Postgres(connection) = self else { return Ok(()) };
        let (stall_ms, wait_ms) = (stall.as_millis(), (stall + Duration::from_secs(1)).as_millis());
        let statement_ms = statement_timeout(answer).as_millis();
        connection.batch_execute(&format!(
            "SET idle_in_transaction_session_timeout = '{stall_ms}ms'; \
             SET lock_timeout = '{wait_ms}ms'; SET statement_timeout = '{statement_ms}ms'"
        ))?;
        Ok(())
    }

    /// The connection's settings, by name, as the database reports them now.
    ///
    /// # Errors
    /// [`DbError`] if it does not answer.
    pub fn settings(&mut self) -> Result<Vec<(&'static str, String)>, DbError> {
        match self {
            Self::Sqlite(connection) => {
                let names = SQLITE_SETTINGS.iter().map(|(name, ..)| *name);
                names.map(|name| Ok((name, pragma(connection, name)?))).collect()
            }
            Self::Postgres(connection) => Ok(postgres_settings(connection)?),
        }
    }
}
