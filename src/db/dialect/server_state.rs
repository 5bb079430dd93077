//! What a server tells of itself beside an answer: whether it can write, and which of its sessions
//! has answered. In SQLite, which is in this process, all of it is constant.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Bool, Integer, Text};

use crate::failpoint;

diesel::define_sql_function! { fn pg_is_in_recovery() -> Bool; }
diesel::define_sql_function! { fn current_setting(name: Text) -> Text; }
diesel::define_sql_function! { fn pg_backend_pid() -> Integer; }

/// See [`server_state`].
pub type ServerStateColumns = (pg_is_in_recovery, current_setting<&'static str>, pg_backend_pid);

/// What [`ServerState`] is made of, to be selected beside whatever else a statement selects.
#[must_use]
pub fn server_state() -> ServerStateColumns {
    // In a transaction that was begun as READ ONLY, `transaction_read_only` tells of that.
    (pg_is_in_recovery(), current_setting("default_transaction_read_only"), pg_backend_pid())
}

/// The same as SQL text: columns with the names of [`ServerState`]'s fields.
macro_rules! server_state_columns {
    () => {
        "pg_is_in_recovery() AS in_recovery, \
         current_setting('default_transaction_read_only') AS read_only, \
         pg_backend_pid() AS backend"
    };
}
pub(super) use server_state_columns;

/// What a server says of itself beside an answer.
#[derive(Debug, Clone, Queryable, QueryableByName)]
pub struct ServerState {
    #[diesel(sql_type = Bool)]
    in_recovery: bool,
    #[diesel(sql_type = Text)]
    read_only: String,
    #[diesel(sql_type = Integer)]
    pub(crate) backend: i32,
}

impl ServerState {
    /// # Errors
    /// As the server would refuse a write: it is a standby, or set to be read-only. What it
    /// answered beside this may be older than what another server has answered already.
    pub fn check_writable(&self) -> QueryResult<()> {
        let reason = match (self.in_recovery, self.read_only.as_str()) {
            (false, "off") => return Ok(()),
            _ if failpoint::is_off("writable") => return Ok(()),
            (true, _) => "the server is a standby, and takes no writes",
            (false, _) => "the server is read-only: default_transaction_read_only is on",
        };
        let kind = DatabaseErrorKind::ReadOnlyTransaction;
        Err(Error::DatabaseError(kind, Box::new(reason.to_owned())))
    }
}

/// Gives SQLite functions of the same names.
pub(super) fn define_for_sqlite(connection: &mut SqliteConnection) -> QueryResult<()> {
    pg_is_in_recovery_utils::register_impl(connection, || false)?;
    current_setting_utils::register_impl(connection, |_: String| "off".to_owned())?;
    pg_backend_pid_utils::register_impl(connection, || 0)
}
