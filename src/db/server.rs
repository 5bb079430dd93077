//! What a Postgres server tells of itself beside an answer: whether it can write, and which of its
//! sessions has answered. In SQLite, which is in this process, all of it is constant.
//!
//! A pooler by transaction lends one session of the server to several connections. It is found out
//! in three ways: two connections that are open at once have one session ([`OwnBackend`]), another
//! session answers than the connection's, or a statement that was prepared is not known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Bool, Integer, Text};

use super::{AnyConnection, DatabaseUrl, DbError, SessionBudget, connect_postgres, watch};
use crate::failpoint;

diesel::define_sql_function! { fn pg_is_in_recovery() -> Bool; }
diesel::define_sql_function! { fn current_setting(name: Text) -> Text; }
diesel::define_sql_function! { fn pg_backend_pid() -> Integer; }

/// See [`telling`].
pub type Telling = (pg_is_in_recovery, current_setting<&'static str>, pg_backend_pid);

/// What [`Told`] is made of, to be selected beside whatever else a statement selects.
#[must_use]
pub fn telling() -> Telling {
    // In a transaction that was begun as READ ONLY, `transaction_read_only` tells of that.
    (pg_is_in_recovery(), current_setting("default_transaction_read_only"), pg_backend_pid())
}

/// The same in our own words: columns of [`Told`]'s names.
macro_rules! telling_columns {
    () => {
        "pg_is_in_recovery() AS in_recovery, \
         current_setting('default_transaction_read_only') AS read_only, \
         pg_backend_pid() AS backend"
    };
}
pub(super) use telling_columns;

/// What the server told.
#[derive(Debug, Clone, Queryable, QueryableByName)]
pub struct Told {
    #[diesel(sql_type = Bool)]
    in_recovery: bool,
    #[diesel(sql_type = Text)]
    read_only: String,
    #[diesel(sql_type = Integer)]
    backend: i32,
}

impl Told {
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

/// Whether the server turned out to be one that cannot write.
pub(super) fn cannot_write(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _))
}

/// Whether a table or column is missing. Not known in another language than English: then only
/// readiness finds out that the schema is an older one.
fn lacks_schema(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(_, what) if what.message().ends_with("does not exist"))
}

impl AnyConnection {
    /// Its session on the server; `None` if it is embedded.
    pub(super) fn backend(
        &mut self,
        url: &DatabaseUrl,
        budget: &SessionBudget,
    ) -> Result<Option<OwnBackend>, DbError> {
        match (self, url) {
            (Self::Postgres(connection), DatabaseUrl::Postgres(url)) => {
                budget.own_backend(connection, url).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// See [`check_apart`].
    pub(super) fn check_apart(&mut self, url: &DatabaseUrl) -> Result<(), DbError> {
        match (self, url) {
            (Self::Postgres(connection), DatabaseUrl::Postgres(url)) => {
                check_apart(connection, url)
            }
            _ => Ok(()),
        }
    }

    /// Asks the server for nothing else. One round trip.
    ///
    /// # Errors
    /// What the database says.
    pub fn tell(&mut self) -> QueryResult<Told> {
        diesel::select(telling()).get_result(self)
    }
}

/// SQLite gets functions of these names.
pub(super) fn tell_of_sqlite(connection: &mut SqliteConnection) -> QueryResult<()> {
    pg_is_in_recovery_utils::register_impl(connection, || false)?;
    current_setting_utils::register_impl(connection, |_: String| "off".to_owned())?;
    pg_backend_pid_utils::register_impl(connection, || 0)
}

/// Said where another session of the server has answered than the connection's.
const ANOTHER_ANSWERED: &str = "another session of the server has answered";

/// Whether a pooler lends sessions by transaction. Diesel gives prepared statements such names, and
/// only a message about one as a whole has no position in its text.
pub(super) fn is_of_another_session(error: &Error) -> bool {
    let Error::DatabaseError(_, what) = error else { return false };
    if failpoint::is_off("backends") {
        return false;
    }
    what.message() == ANOTHER_ANSWERED
        || what.message().contains("__diesel_stmt_") && what.statement_position().is_none()
}

/// A session of the server, told from all that were before and will be after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, QueryableByName)]
struct Backend {
    #[diesel(sql_type = Integer)]
    pid: i32,
    #[diesel(sql_type = BigInt)]
    since_us: i64,
}

fn backend_of(connection: &mut PgConnection) -> QueryResult<Backend> {
    let query = "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS since_us \
                 FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    diesel::sql_query(query).get_result(connection)
}

/// The server's sessions that a process has, and how many connections believe to have each.
/// Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Backends(Arc<Known>);

#[derive(Default)]
struct Known {
    backends: Mutex<HashMap<Backend, usize>>,
    /// Whether connections were found to share a session, and were not found apart since.
    are_shared: AtomicBool,
}

impl Backends {
    /// Connections were found to share a session: each new one is looked at from here on.
    pub(super) fn found_shared(&self) {
        self.0.are_shared.store(true, Ordering::SeqCst);
    }

    pub(super) fn are_shared(&self) -> bool {
        self.0.are_shared.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Backend, usize>> {
        self.0.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's session of a connection, until dropped: before the connection is.
pub(crate) struct OwnBackend {
    backend: Backend,
    all: Backends,
}

impl OwnBackend {
    /// Asks the server. One round trip, unless another connection has the same.
    ///
    /// # Errors
    /// [`DbError::TransactionPooling`] if the two share it.
    fn of(connection: &mut PgConnection, url: &str, all: &Backends) -> Result<Self, DbError> {
        let backend = backend_of(connection)?;
        // The other connection may be closed and not know it: a pooler lends its session anew.
        if !failpoint::is_off("backends") && (all.are_shared() || all.lock().contains_key(&backend))
        {
            all.found_shared();
            check_apart(connection, url)?;
            all.0.are_shared.store(false, Ordering::SeqCst);
        }
        *all.lock().entry(backend).or_default() += 1;
        Ok(Self { backend, all: all.clone() })
    }

    /// # Errors
    /// That another session of the server has answered.
    pub(crate) fn check(&self, told: &Told) -> QueryResult<()> {
        if told.backend == self.backend.pid || failpoint::is_off("backends") {
            return Ok(());
        }
        self.all.found_shared();
        Err(Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(ANOTHER_ANSWERED.to_owned())))
    }
}

impl Drop for OwnBackend {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.backend) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.backend);
            }
        }
    }
}

/// Holds a second connection open beside this one, and asks both in turns which session is theirs.
///
/// # Errors
/// [`DbError::TransactionPooling`] if it is one session, or changes; [`DbError::Unavailable`] if
/// there is no second connection to be had.
pub(super) fn check_apart(first: &mut PgConnection, url: &str) -> Result<(), DbError> {
    let mut second = connect_postgres(url)?;
    let before = (backend_of(first)?, backend_of(&mut second)?);
    let after = (backend_of(first)?, backend_of(&mut second)?);
    if before == after && before.0 != before.1 { Ok(()) } else { Err(DbError::TransactionPooling) }
}

impl SessionBudget {
    /// See [`OwnBackend::of`].
    pub(crate) fn own_backend(
        &self,
        connection: &mut PgConnection,
        url: &str,
    ) -> Result<OwnBackend, DbError> {
        OwnBackend::of(connection, url, self.backends())
    }
}

/// Opens a session of its own on a Postgres server, which no pooler lends to others by transaction.
///
/// # Errors
/// [`DbError::TransactionPooling`] if one does; [`DbError::Unavailable`] if none can be opened.
pub(crate) fn connect_apart(url: &str) -> Result<PgConnection, DbError> {
    let mut connection = connect_postgres(url)?;
    match check_apart(&mut connection, url) {
        // Whoever has no room for a second session does not lend the first one twice.
        Ok(()) | Err(DbError::Unavailable { .. }) => Ok(connection),
        Err(error) => Err(error),
    }
}

/// Gives each statement of a session a deadline.
pub(crate) fn watch_session(connection: &mut PgConnection, answer: Duration) {
    connection.set_instrumentation(Signals::default().listener(answer));
}

/// What the statements of a session have come to, whoever ran them. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Signals(Arc<Noted>);

#[derive(Default)]
struct Noted {
    cannot_write: AtomicBool,
    is_shared: AtomicBool,
    lacks_schema: AtomicBool,
}

impl Signals {
    /// Whether a statement was refused because the server cannot write.
    pub(super) fn cannot_write(&self) -> bool {
        self.0.cannot_write.load(Ordering::Relaxed)
    }

    /// Whether another session of the server was asked.
    pub(super) fn is_shared(&self) -> bool {
        self.0.is_shared.load(Ordering::Relaxed)
    }

    /// Whether a statement missed a table or column.
    pub(super) fn lacks_schema(&self) -> bool {
        self.0.lacks_schema.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, error: &Error) {
        self.0.lacks_schema.fetch_or(lacks_schema(error), Ordering::Relaxed);
        self.0.cannot_write.fetch_or(cannot_write(error), Ordering::Relaxed);
        self.0.is_shared.fetch_or(is_of_another_session(error), Ordering::Relaxed);
    }

    /// Looks at each statement of a connection, and gives it a deadline.
    pub(super) fn listener(&self, answer: Duration) -> impl Instrumentation + use<> {
        let signals = self.clone();
        move |event: InstrumentationEvent<'_>| match event {
            InstrumentationEvent::StartQuery { .. } => watch::statement_begins(answer),
            InstrumentationEvent::FinishQuery { error, .. } => {
                if let Some(error) = error {
                    signals.note(error);
                }
                watch::statement_ends();
            }
            _ => {}
        }
    }
}
