//! Connections: the pool, the schema, the settings that durability rests on, and transactions whose
//! outcome is known.
//!
//! Knows Diesel and r2d2, and in `dialect` the differences between databases. Knows no graph:
//! rows are `store`'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection;

use crate::failpoint;

mod backends;
mod causes;
mod dialect;
mod disk_use;
mod error;
mod limits;
mod measured;
mod open;
mod outage;
mod pool;
pub mod schema;
mod server;
pub(crate) mod session_budget;
mod sqlite_evidence;
mod sqlite_file;
pub mod watch;

pub(crate) use dialect::connect_postgres;
pub use dialect::{
    AnswerRow, AnyConnection, CallOutcome, CallRefused, CommitCall, DatabaseUrl, DatasetRow,
    DatasetUpdate, JobRow, JobUpdate, LoggedText, Migrated, NewDataset, NewJob, OpenMode,
    OrphanedRows, RowRange, RowTable, RowsWrite, ServerState, Value, server_state,
};
pub use disk_use::{DiskUse, SQLITE_VERSION, sqlite_settings};
pub(crate) use error::on_one_line;
pub use error::{CallError, DbError, WriteError};
pub use limits::{ANSWER, IDLE_FOR, LOADING_STALL, PoolLimits, SESSIONS, STALL_MAX, Size};
pub use measured::{MeasuredPostgres, PostgresFacts};
use pool::{Lent, Session, Sessions};
pub(crate) use server::{OwnBackend, connect_apart, watch_session};
pub use session_budget::SessionBudget;
pub use sqlite_evidence::commits_in_log;
use sqlite_file::SqliteFile;

/// Connections to one database, all set up alike.
#[derive(Clone)]
pub struct Database {
    sessions: Arc<Sessions>,
    /// Of an embedded database.
    file: Option<Arc<SqliteFile>>,
}

impl Database {
    /// Opens the database and brings its schema up to date. Creates an embedded one that is not
    /// there.
    ///
    /// # Errors
    /// [`DbError`] says what to do.
    pub fn open(url: &DatabaseUrl, limits: PoolLimits) -> Result<Self, DbError> {
        Self::open_for(OpenMode::Create, url, limits)
    }

    /// Opens the database for no more than `mode` says.
    ///
    /// # Errors
    /// [`DbError`] says what to do.
    pub fn open_for(
        mode: OpenMode,
        url: &DatabaseUrl,
        limits: PoolLimits,
    ) -> Result<Self, DbError> {
        let mut first = url.connect_first(mode)?;
        let file = match url {
            DatabaseUrl::Sqlite(path) => Some(Arc::new(SqliteFile::open(path)?)),
            DatabaseUrl::Postgres(_) => None,
        };
        // Before anything is changed.
        match first.check_apart(url) {
            // Whoever has no room for a second session does not lend the first one twice.
            Ok(()) | Err(DbError::Unavailable { .. }) => {}
            Err(error) => return Err(error),
        }
        if mode != OpenMode::Read {
            first.migrate()?;
        }
        drop(first);
        // From here on it is there, or it is missed.
        let mode = if mode == OpenMode::Read { mode } else { OpenMode::Change };
        let sessions = Sessions::new(url.clone(), mode, file.clone(), limits);
        Ok(Self { sessions, file })
    }

    /// Brings the schema up to date, and says what was done. Tables of another application may
    /// stand beside ours.
    ///
    /// # Errors
    /// [`DbError`] says what to do.
    pub fn migrate(url: &DatabaseUrl) -> Result<Migrated, DbError> {
        url.connect_first(OpenMode::CreateBesideOthers)?.migrate_and_repair()
    }

    /// Takes the newest `count` migrations back, and names them. What they held is lost.
    ///
    /// # Errors
    /// [`DbError`] says what to do.
    pub fn revert(url: &DatabaseUrl, count: usize) -> Result<Vec<String>, DbError> {
        url.connect_first(OpenMode::Change)?.revert(count)
    }

    /// Which database this is.
    #[must_use]
    pub fn url(&self) -> &DatabaseUrl {
        &self.sessions.opener.url
    }

    /// What its sessions are counted by, for a lock that has sessions of its own on the server.
    #[must_use]
    pub fn budget(&self) -> SessionBudget {
        self.sessions.opener.budget.clone()
    }

    /// How long its server may take to answer a statement.
    #[must_use]
    pub fn answer(&self) -> Duration {
        self.sessions.opener.limits.answer
    }

    /// For how long no statement was answered, on whatever session.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.sessions.opener.budget.silent_for()
    }

    /// Makes sure that there is a living connection. One round trip.
    ///
    /// # Errors
    /// That there is none, or that no host can write.
    pub(crate) fn check_alive(&self) -> Result<(), DbError> {
        self.learn(|_| Ok((None, ())))
    }

    /// Runs `body`, which reads with one statement, without a transaction around it: one round
    /// trip. Run again if the connection turns out to have been lost while nobody used it. Only for
    /// what need not be the newest: see [`learn`](Self::learn).
    ///
    /// # Errors
    /// What `body` gives, or that there is no connection.
    pub fn ask<T>(
        &self,
        body: impl Fn(&mut AnyConnection) -> QueryResult<T>,
    ) -> Result<T, DbError> {
        self.on_living_connection(|session| body(&mut session.connection)).map(|(_, answer)| answer)
    }

    /// As [`learn`](Self::learn), for readiness: the tables must be those of this program too.
    ///
    /// # Errors
    /// As [`learn`](Self::learn), and [`DbError::OlderSchema`] or [`DbError::NoTables`] if a backup
    /// of an older program was put back meanwhile; [`DbError::FunctionMissing`] or
    /// [`DbError::FunctionDenied`] if no commit can be made.
    pub fn ready(
        &self,
        body: impl Fn(&mut AnyConnection) -> QueryResult<(Option<ServerState>, ())>,
    ) -> Result<(), DbError> {
        let (mut session, ()) = self.on_living_connection(|session| session.learn(&body))?;
        self.sessions.look_at_schema(&mut session)?;
        session.look_at_function()
    }

    /// As [`ask`](Self::ask), of a statement that also reads the [server's state](server_state); if
    /// it found no row that has it, the server is asked once more. One that cannot write is not
    /// believed: all sessions are closed, and another host of the URL is asked.
    ///
    /// # Errors
    /// What `body` gives, that there is no connection, or that no host can write.
    pub fn learn<T>(
        &self,
        body: impl Fn(&mut AnyConnection) -> QueryResult<(Option<ServerState>, T)>,
    ) -> Result<T, DbError> {
        let (_, answer) = self.on_living_connection(|session| session.learn(&body))?;
        Ok(answer)
    }

    /// Runs `first`, as [`learn`](Self::learn) does, and then `body`, in a transaction that reads
    /// one snapshot.
    ///
    /// # Errors
    /// What `first` and `body` give, that there is no connection, or that no host can write.
    pub fn learn_and_read<F, T, E: From<DbError>>(
        &self,
        first: impl Fn(&mut AnyConnection) -> QueryResult<(Option<ServerState>, F)>,
        body: impl FnOnce(&mut AnyConnection, F) -> Result<T, E>,
    ) -> Result<T, E> {
        let (mut session, learnt) = self.on_living_connection(|session| {
            session.in_transaction = true;
            session.connection.begin_read()?;
            session.learn(&first)
        })?;
        let limited = Size::Large.limited();
        let outcome = body(&mut session.connection, learnt);
        drop(limited);
        session.roll_back();
        outcome.map_err(|error| self.explained(&mut session, error))
    }

    /// Runs `body` in a transaction that reads one snapshot, of a server that can write.
    ///
    /// # Errors
    /// What `body` gives, that there is no connection, or that no host can write.
    pub fn read<T, E: From<DbError>>(
        &self,
        body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let nothing = |_: &mut AnyConnection| Ok((None, ()));
        self.learn_and_read(nothing, |connection, ()| body(connection))
    }

    /// Runs `body` once nobody else is writing the row of the graph, in a transaction that keeps
    /// them from it and writes nothing.
    ///
    /// # Errors
    /// What `body` gives, that there is no connection, or that it took too long.
    pub fn read_held<T, E: From<DbError>>(
        &self,
        graph: &str,
        body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut session = self.begun(|connection| connection.begin_write(Size::Usual))?;
        let held =
            session.connection.hold_graph(graph).map_err(|error| E::from(DbError::from(error)));
        let outcome = held.and_then(|()| body(&mut session.connection));
        session.roll_back();
        self.leave_if_unfit(&session);
        outcome.map_err(|error| self.explained(&mut session, error))
    }

    /// Runs `body` in a transaction that writes, and commits it if `body` succeeds.
    ///
    /// # Errors
    /// [`WriteError`] says whether the outcome is known.
    pub fn write<T, E: From<DbError>>(
        &self,
        body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
    ) -> Result<T, WriteError<E>> {
        self.write_sized(Size::Usual, body)
    }

    /// As [`write`](Self::write), with statements of that size.
    ///
    /// # Errors
    /// [`WriteError`] says whether the outcome is known.
    pub fn write_sized<T, E: From<DbError>>(
        &self,
        size: Size,
        body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
    ) -> Result<T, WriteError<E>> {
        let rolled_back = |error: DbError| WriteError::RolledBack(E::from(error));
        let mut session =
            self.begun(|connection| connection.begin_write(size)).map_err(rolled_back)?;
        let limited = size.limited();
        let outcome = body(&mut session.connection);
        drop(limited);
        match outcome {
            Ok(value) => {
                if let Err(error) = self.check_file() {
                    session.roll_back();
                    return Err(rolled_back(error));
                }
                failpoint::pass("before-commit");
                if let Err(error) = check_not_given_up() {
                    session.roll_back();
                    return Err(rolled_back(error));
                }
                session
                    .connection
                    .batch_execute("COMMIT")
                    .map_err(|error| WriteError::CommitUnknown(error.into()))?;
                failpoint::pass("after-commit");
                // As if the connection had broken before COMMIT was answered; only in builds for
                // tests.
                if failpoint::is_off("commit-answer") {
                    let what = "no answer to COMMIT".to_owned();
                    return Err(WriteError::CommitUnknown(DbError::Unavailable { what }));
                }
                watch::commit_was_answered();
                // Only now is it certain that the file which has it is the one at the path.
                self.check_file().map_err(WriteError::CommitUnknown)?;
                session.in_transaction = false;
                Ok(value)
            }
            Err(error) => {
                session.roll_back();
                self.leave_if_unfit(&session);
                Err(WriteError::RolledBack(self.explained(&mut session, error)))
            }
        }
    }

    /// Runs `body`, which is one statement that commits what it writes: one round trip. It is given
    /// the session that must answer, where sessions can be mistaken for one another. On a
    /// connection that is known to be closed nothing is sent. `sent_before` if the same call was
    /// sent already, and what became of it is not known.
    ///
    /// # Errors
    /// [`CallError`] says whether the outcome of this call is known.
    pub fn call<T>(
        &self,
        sent_before: bool,
        body: impl Fn(&mut AnyConnection, Option<i32>) -> QueryResult<T>,
    ) -> Result<T, CallError> {
        let rolled_back = CallError::RolledBack;
        let (budget, began) = (&self.sessions.opener.budget, Instant::now());
        loop {
            let mut session = self.sessions.check_out().map_err(rolled_back)?;
            if self.sessions.is_look_due() {
                self.sessions.look_at_schema(&mut session).map_err(rolled_back)?;
            }
            failpoint::pass("before-commit");
            if session.connection.is_closed() {
                budget.found_closed();
                session.is_lost = true;
                continue;
            }
            check_not_given_up().map_err(rolled_back)?;
            // Until it is answered.
            session.in_transaction = true;
            let own = session.backend.as_ref().and_then(OwnBackend::required);
            let error = match body(&mut session.connection, own) {
                Ok(value) => {
                    failpoint::pass("after-commit");
                    // As if the connection had broken before the first answer; only in builds for
                    // tests.
                    if !sent_before && failpoint::is_off("commit-answer") {
                        let what = "no answer to a commit".to_owned();
                        return Err(CallError::Lost(DbError::Unavailable { what }));
                    }
                    watch::commit_was_answered();
                    session.in_transaction = false;
                    budget.found_alive();
                    return Ok(value);
                }
                Err(error) => error,
            };
            session.signals.note(&error);
            if causes::is_lost(&error) || session.connection.is_closed() {
                budget.found_closed();
                session.is_lost = true;
                // Others in the pool may be as old: the next one is a new one.
                if sent_before {
                    self.sessions.leave_server(session.generation);
                }
                return Err(CallError::Lost(error.into()));
            }
            session.in_transaction = false;
            self.leave_if_unfit(&session);
            if !causes::is_taken_back(&error) {
                return Err(CallError::Doubtful(error.into()));
            }
            // An earlier one may still be under way.
            if !sent_before {
                watch::commit_was_answered();
            }
            // A server that was written to before may be a standby now, and another host the one
            // that can write.
            if session.opened >= began || !session.signals.cannot_write() {
                return Err(rolled_back(self.explained(&mut session, error.into())));
            }
        }
    }

    /// Whether commits are calls, each one round trip: the database is a server.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self.url(), DatabaseUrl::Postgres(_))
    }

    /// Whether the path still leads to the file that was opened.
    fn check_file(&self) -> Result<(), DbError> {
        self.file.as_ref().map_or(Ok(()), |file| file.check())
    }

    fn begun(
        &self,
        begin: impl Fn(&mut AnyConnection) -> QueryResult<()>,
    ) -> Result<Lent, DbError> {
        let (session, ()) = self.on_living_connection(|session| {
            session.in_transaction = true;
            begin(&mut session.connection)
        })?;
        Ok(session)
    }

    /// Runs the first statements on a connection of the pool. One that was lost while it lay there,
    /// as all are when a server was started anew, is thrown away, and the next one tried: so nobody
    /// asks at check-out whether a connection lives, and nobody suffers for one that does not. One
    /// whose server cannot write takes all others along, and a new one is tried.
    fn on_living_connection<T>(
        &self,
        first: impl Fn(&mut Session) -> QueryResult<T>,
    ) -> Result<(Lent, T), DbError> {
        let (budget, began) = (&self.sessions.opener.budget, Instant::now());
        loop {
            self.check_file()?;
            let mut session = self.sessions.check_out()?;
            if self.sessions.is_look_due() {
                self.sessions.look_at_schema(&mut session)?;
            }
            match first(&mut session) {
                Ok(value) => {
                    budget.found_alive();
                    return Ok((session, value));
                }
                Err(error) => {
                    session.signals.note(&error);
                    let lost = causes::is_lost(&error);
                    if lost {
                        budget.found_closed();
                        session.is_lost = true;
                    } else if session.in_transaction {
                        session.roll_back();
                    }
                    self.leave_if_unfit(&session);
                    // What a new one says is so, and where one is shared, all are.
                    let another_may_do = lost || session.signals.cannot_write();
                    if session.opened >= began || !another_may_do {
                        return Err(self.explained(&mut session, error.into()));
                    }
                }
            }
        }
    }

    /// What is to be told instead of `error`, which came of statements on this session, if it has
    /// another cause: tables of an older program, or a function that is missing.
    fn explained<E: From<DbError>>(&self, session: &mut Lent, error: E) -> E {
        let may_be = session.is_embedded() || session.signals.lacks_schema();
        if !may_be || session.in_transaction || session.is_lost {
            return error;
        }
        let looked =
            self.sessions.look_at_schema(session).and_then(|()| session.look_at_function());
        looked.err().map_or(error, E::from)
    }

    /// A statement may find out in the middle of a transaction.
    fn leave_if_unfit(&self, session: &Session) {
        if session.signals.is_shared() {
            self.sessions.opener.budget.backends().found_shared();
        }
        if session.signals.cannot_write() || session.signals.is_shared() {
            self.sessions.leave_server(session.generation);
        }
    }
}

/// Asked just before a commit is sent: whoever asked for it may have been told that nothing is
/// written.
fn check_not_given_up() -> Result<(), DbError> {
    if watch::may_commit() || failpoint::is_off("given-up") {
        return Ok(());
    }
    Err(DbError::Unavailable { what: watch::NO_ANSWER.to_owned() })
}
