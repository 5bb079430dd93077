//! Checks what a Postgres server reports beside an answer: whether it can write, and which of its
//! sessions has answered.
//!
//! A pooler in transaction mode lends one session of the server to several connections. Three signs
//! give it away: two connections that are open at once have one session ([`OwnBackend`]), another
//! session answers than the connection's own, or a prepared statement is not known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};

use super::backends::{Backend, Backends, backend_of};
use super::causes::{ANOTHER_ANSWERED, cannot_write, is_of_another_session, lacks_schema};
use super::dialect::{AnyConnection, DatabaseUrl, ServerState, connect_postgres, server_state};
use super::error::DbError;
use super::session_budget::SessionBudget;
use super::watch;
use crate::failpoint;

impl AnyConnection {
    /// The connection's session on the server; `None` if the database is embedded.
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

    /// Notes the errors of the connection's statements, and gives each statement a deadline. Does
    /// nothing in an embedded database, which can always write and is in this process.
    pub(super) fn listen(&mut self, answer: Duration, signals: &Signals) {
        if let Self::Postgres(connection) = self {
            connection.set_instrumentation(signals.listener(answer));
        }
    }

    /// Whether the server is known to have closed the connection. No round trip: it only looks at
    /// what has arrived.
    pub(super) fn is_closed(&mut self) -> bool {
        let Self::Postgres(connection) = self else { return false };
        // The first look may find why it was closed, the second that it was.
        (0..2).any(|_| connection.notifications_iter().any(|arrived| arrived.is_err()))
    }

    /// Asks the server what it is, and nothing else. One round trip.
    ///
    /// # Errors
    /// What the database says.
    pub fn tell(&mut self) -> QueryResult<ServerState> {
        diesel::select(server_state()).get_result(self)
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
    /// [`DbError::TransactionPooling`] if the two share it; [`DbError::Unavailable`] if others were
    /// found to share theirs, and of this one it cannot be told.
    fn of(
        connection: &mut PgConnection,
        url: &str,
        budget: &SessionBudget,
    ) -> Result<Self, DbError> {
        let all = budget.backends();
        let backend = backend_of(connection)?;
        let is_claimed = || !failpoint::is_off("backends") && all.lock().contains_key(&backend);
        if is_claimed() {
            // By a connection that may be closed and not know it, while a pooler has lent its
            // session anew: most likely one that nobody has used for a while.
            budget.close_idle();
        }
        let are_shared = all.are_shared() && !failpoint::is_off("backends");
        if are_shared || is_claimed() {
            match connect_postgres(url) {
                Ok(mut second) => {
                    let apart = are_apart(connection, &mut second);
                    let are_shared = matches!(apart, Err(DbError::TransactionPooling));
                    all.0.are_shared.store(are_shared, Ordering::SeqCst);
                    apart?;
                }
                // That there is no room for one more proves nothing.
                Err(DbError::Unavailable { .. }) if !are_shared => {}
                Err(error) => return Err(error),
            }
        }
        *all.lock().entry(backend).or_default() += 1;
        Ok(Self { backend, all: all.clone() })
    }

    /// Which session must run what commits by itself; `None` if any may.
    pub(super) fn required(&self) -> Option<i32> {
        (!failpoint::is_off("backends")).then_some(self.backend.pid)
    }

    /// # Errors
    /// That another session of the server has answered.
    pub(crate) fn check(&self, told: &ServerState) -> QueryResult<()> {
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
    are_apart(first, &mut connect_postgres(url)?)
}

fn are_apart(first: &mut PgConnection, second: &mut PgConnection) -> Result<(), DbError> {
    let before = (backend_of(first)?, backend_of(second)?);
    let after = (backend_of(first)?, backend_of(second)?);
    if before == after && before.0 != before.1 { Ok(()) } else { Err(DbError::TransactionPooling) }
}

impl SessionBudget {
    /// See [`OwnBackend::of`].
    pub(crate) fn own_backend(
        &self,
        connection: &mut PgConnection,
        url: &str,
    ) -> Result<OwnBackend, DbError> {
        OwnBackend::of(connection, url, self)
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
