//! The sessions of the lock: those that nobody uses are kept for the next to come, within the
//! budget that they share with statements.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::session::Session;
use crate::db::session_budget::{Idle, Permit, Side};
use crate::db::watch;
use crate::db::{ANSWER, Database, IDLE_FOR, SessionBudget};
use crate::failpoint;
use crate::lock::LockError;
use crate::lock::gate::{Deadline, lock};

/// Sessions that are kept open while nobody uses them.
pub const SESSIONS_KEPT: usize = 16;

/// The longest wait for a session, where the lock itself may be waited for less.
pub(super) const SESSION_WAIT: Duration = Duration::from_secs(5);

/// The sessions on the server.
pub(super) struct Sessions {
    url: String,
    pub(super) budget: SessionBudget,
    /// How long the server may take to answer.
    pub(super) answer: Duration,
    /// Whose statements are counted in the same budget.
    database: Option<Database>,
    /// Those that nobody uses now, and since when; the newest is last.
    idle: Mutex<Vec<(Session, Instant)>>,
    /// How often a server had not answered when that was last looked at.
    silences: AtomicU64,
}

impl Sessions {
    /// None yet. With the `database` whose statements are counted in the same budget.
    pub(super) fn new(url: &str, budget: SessionBudget, database: Option<Database>) -> Self {
        Self {
            url: url.to_owned(),
            budget,
            answer: database.as_ref().map_or(ANSWER, Database::answer),
            database,
            idle: Mutex::default(),
            silences: AtomicU64::new(watch::silences()),
        }
    }

    /// Runs `body` on an idle session or a new one. Where an idle one turns out to have ended
    /// meanwhile, all are dropped, and a new one is used. Waits for a session for `wait`, and no
    /// less than [`SESSION_WAIT`].
    pub(super) fn with<T>(
        self: &Arc<Self>,
        wait: Duration,
        mut body: impl FnMut(&mut Session) -> Result<T, LockError>,
    ) -> Result<(Session, T), LockError> {
        let deadline = Deadline::after(watch::patience(wait.max(SESSION_WAIT)));
        loop {
            let mut session = self.take(&deadline)?;
            let error = match body(&mut session) {
                Ok(value) => {
                    session.was_used = true;
                    return Ok((session, value));
                }
                Err(error) => error,
            };
            if !session.was_used || failpoint::is_off("lock.postgres.new-session") {
                return Err(error);
            }
            log::warn!("an idle session is replaced: {error}");
            self.budget.found_closed();
            let ended = std::mem::take(&mut *lock(&self.idle));
            drop((session, ended));
        }
    }

    /// An idle session, or a new one.
    fn take(self: &Arc<Self>, deadline: &Deadline) -> Result<Session, LockError> {
        if let Some(what) = watch::refusal() {
            return Err(no_session(what));
        }
        // Idle ones are most likely on the same server.
        let silences = watch::silences();
        if self.silences.swap(silences, Ordering::SeqCst) != silences {
            let idle = std::mem::take(&mut *lock(&self.idle));
            drop(idle);
        }
        let budget = &self.budget;
        let mut waits = None;
        loop {
            if budget.needs_statements()
                && let Some(database) = &self.database
            {
                database.check_alive().map_err(no_session)?;
            }
            if let Some((session, _)) = lock(&self.idle).pop() {
                return Ok(session);
            }
            let is_over = deadline.remaining().is_zero();
            if is_over || waits.is_some() && budget.take_failure(Side::Locks) {
                return Err(no_session(budget.why_none(Side::Locks)));
            }
            waits.get_or_insert_with(|| budget.waiting(Side::Locks));
            match budget.take(Side::Locks) {
                Some(permit) => self.open(permit)?,
                None => budget.make_room(Side::Locks),
            }
            budget.wait(deadline.remaining());
        }
    }

    /// Opens a session, in a thread of its own: whoever waits may be given another one sooner, and
    /// has others closed if this takes long.
    fn open(self: &Arc<Self>, permit: Permit) -> Result<(), LockError> {
        let sessions = Arc::clone(self);
        let open = move || {
            let _limit = watch::call(watch::OPENING);
            match Session::open(&sessions.url, sessions.answer, &sessions.budget, permit) {
                Ok(session) if sessions.budget.statements_come_first() => drop(session),
                Ok(session) => {
                    lock(&sessions.idle).push((session, Instant::now()));
                    sessions.budget.notify();
                }
                Err(error) => sessions.budget.failed(Side::Locks, &error),
            }
        };
        let thread = thread::Builder::new().name("lock-session".to_owned());
        let thread = thread.spawn(|| watch::watched(|_| {}, open));
        thread.map(drop).map_err(no_session)
    }

    /// Takes back a session that holds nothing.
    pub(super) fn keep(&self, session: Session) {
        let is_to_close = self.budget.is_to_close(Side::Locks);
        let mut idle = lock(&self.idle);
        let has_room =
            idle.len() < SESSIONS_KEPT || failpoint::is_off("lock.postgres.sessions-kept");
        if has_room && !is_to_close {
            idle.push((session, Instant::now()));
            drop(idle);
            self.budget.notify();
            return;
        }
        // Closed, if at all, after the mutex is given back.
        drop(idle);
        drop(session);
    }

    /// Closes those that nobody has used for long.
    pub(super) fn close_old(&self) {
        let mut idle = lock(&self.idle);
        let young = idle.iter().position(|(_, since)| since.elapsed() < IDLE_FOR);
        let young = young.unwrap_or(idle.len());
        let old: Vec<_> = idle.drain(..young).collect();
        drop(idle);
        drop(old);
    }
}

impl Idle for Sessions {
    fn close_one(&self) -> bool {
        let mut idle = lock(&self.idle);
        let oldest = (!idle.is_empty()).then(|| idle.remove(0));
        // Closed after the mutex is given back.
        drop(idle);
        oldest.is_some()
    }
}

pub(super) fn no_session(error: impl ToString) -> LockError {
    let source = io::Error::other(error.to_string());
    LockError::Unavailable { what: "cannot open a session".to_owned(), source }
}
