//! The session that holds all leaderships of a process: as many as there are graphs that it leads,
//! where turns have a session each. It only tries to take one, since whoever waits on it would keep
//! it from all others; who wants to wait tries again.
//!
//! The server ends the session once nothing was heard of it for a lease. The thread that renews
//! lets it hear of it four times as often. A holder counts from the last answer and asks nothing,
//! so that it never waits to learn whether it still leads. A session that was not heard of for a
//! lease is left: whoever takes a leadership then opens a new one.
//!
//! What the session holds is known under the mutex under which it is asked, so that nothing is
//! taken twice, or given back while another is taken. Nobody waits for the mutex without a limit:
//! whoever has it may be waiting for a server that does not answer. What a thread must not wait to
//! give back, the thread that renews gives back when it asks next. So one graph whose turn was
//! given up costs the others of the session nothing, and is free soon.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::renewal::{Holds, Renewable};
use super::session::Session;
use super::sessions::{SESSION_WAIT, Sessions};
use crate::db::watch;
use crate::failpoint;
use crate::lock::gate::{Deadline, lock};
use crate::lock::{FencingToken, Guard, Held, LockError, LockKey, Mode};

/// How long whoever waits for a leadership pauses between two tries.
const TRIED_EVERY: Duration = Duration::from_millis(5);
/// How long whoever waits for another thread to be done with the session pauses between two looks.
const LOOKED_EVERY: Duration = Duration::from_millis(1);

/// The leaderships of a process.
pub(super) struct LeadershipLock {
    sessions: Arc<Sessions>,
    holds: Arc<Holds>,
    lease: Duration,
    /// What holds them, if there are any.
    leading: Mutex<Weak<Leading>>,
}

/// A session, and what it holds.
struct Leading {
    held: Mutex<Option<Holding>>,
    /// Until when the server surely keeps the session, whatever this process does.
    valid_until: Mutex<Instant>,
    /// What is to be given back when the session is renewed.
    left: Mutex<Vec<LockKey>>,
    sessions: Arc<Sessions>,
    lease: Duration,
}

/// `None` once it has ended, or was given back because it held nothing.
struct Holding {
    session: Session,
    keys: HashSet<LockKey>,
}

/// One leadership. Dropping it gives it back.
struct Leadership {
    leading: Arc<Leading>,
    key: LockKey,
}

/// What came of a try.
enum Tried {
    Taken(Guard),
    /// Others hold it, or another thread of this process.
    Busy,
    /// The session has ended.
    Ended,
}

impl LeadershipLock {
    pub(super) fn new(sessions: &Arc<Sessions>, holds: &Arc<Holds>, lease: Duration) -> Self {
        let (sessions, holds) = (Arc::clone(sessions), Arc::clone(holds));
        Self { sessions, holds, lease, leading: Mutex::new(Weak::new()) }
    }

    /// Takes a leadership, trying again until `deadline`.
    pub(super) fn acquire(&self, key: &LockKey, deadline: &Deadline) -> Result<Guard, LockError> {
        loop {
            if let Some(guard) = self.try_to_acquire(key)? {
                return Ok(guard);
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Err(LockError::Timeout { waited: deadline.waited() });
            }
            thread::sleep(TRIED_EVERY.min(remaining));
        }
    }

    fn try_to_acquire(&self, key: &LockKey) -> Result<Option<Guard>, LockError> {
        let there = lock(&self.leading).upgrade();
        if let Some(leading) = there {
            match leading.take(key)? {
                Tried::Taken(guard) => return Ok(Some(guard)),
                Tried::Busy => return Ok(None),
                Tried::Ended => {}
            }
        }
        let sent = Instant::now();
        let (session, taken) = self.sessions.with(SESSION_WAIT, |session| {
            session.take(key, Mode::Exclusive, Duration::ZERO, self.lease)
        })?;
        let Some(taken) = taken else {
            self.sessions.keep(session);
            return Ok(None);
        };
        let incarnation = session.run().to_owned();
        let leading = Arc::new(Leading {
            held: Mutex::new(Some(Holding { session, keys: [key.clone()].into() })),
            valid_until: Mutex::new(sent + lasts(self.lease)),
            left: Mutex::default(),
            sessions: Arc::clone(&self.sessions),
            lease: self.lease,
        });
        let renewable: Weak<dyn Renewable> = Arc::<Leading>::downgrade(&leading);
        lock(&self.holds).push(renewable);
        *lock(&self.leading) = Arc::downgrade(&leading);
        Ok(Some(leading.guard(key, incarnation, taken.token)))
    }
}

/// For how long after it was asked the server surely keeps a session.
fn lasts(lease: Duration) -> Duration {
    lease - lease / 20
}

fn has_ended() -> LockError {
    LockError::Lost { what: "its session has ended" }
}

fn was_not_heard_of() -> LockError {
    LockError::Lost { what: "its session has ended, or was not heard of for a lease" }
}

impl Leading {
    fn guard(
        self: Arc<Self>,
        key: &LockKey,
        incarnation: String,
        token: Option<FencingToken>,
    ) -> Guard {
        let held = Leadership { leading: self, key: key.clone() };
        Guard::exclusive(Box::new(held), incarnation, token)
    }

    /// For how long the session surely is kept; zero if it may have ended.
    fn valid_for(&self) -> Duration {
        lock(&self.valid_until).saturating_duration_since(Instant::now())
    }

    /// Tries to take one more.
    fn take(self: Arc<Self>, key: &LockKey) -> Result<Tried, LockError> {
        // A thread may wait on it for a server that never answers.
        if self.valid_for().is_zero() {
            return Ok(Tried::Ended);
        }
        let taken = self.ask(SESSION_WAIT, |Holding { session, keys }| {
            // The server would let the session that holds it take it twice.
            if keys.contains(key) {
                return Ok(None);
            }
            let taken = session.take(key, Mode::Exclusive, Duration::ZERO, self.lease)?;
            if taken.is_some() {
                keys.insert(key.clone());
            }
            Ok(taken.map(|taken| (session.run().to_owned(), taken.token)))
        });
        match taken {
            Ok(Some((incarnation, token))) => Ok(Tried::Taken(self.guard(key, incarnation, token))),
            Ok(None) => Ok(Tried::Busy),
            Err(LockError::Lost { .. }) => Ok(Tried::Ended),
            Err(error) => Err(error),
        }
    }

    /// The session, when no other thread has it.
    fn held(&self, wait: Duration) -> Result<MutexGuard<'_, Option<Holding>>, LockError> {
        let deadline = Deadline::after(watch::patience(wait));
        loop {
            match self.held.try_lock() {
                Ok(held) => return Ok(held),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if deadline.remaining().is_zero() => {
                    return Err(LockError::Unavailable {
                        what: "the session of this process's leaderships is not free".to_owned(),
                        source: io::ErrorKind::TimedOut.into(),
                    });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOOKED_EVERY),
            }
        }
    }

    /// Runs `body` on the session, waiting for it no longer than `wait`. After an error it is
    /// closed, and all that it held is free.
    ///
    /// # Errors
    /// [`LockError::Lost`] if it has ended.
    fn ask<T>(
        &self,
        wait: Duration,
        body: impl FnOnce(&mut Holding) -> Result<T, LockError>,
    ) -> Result<T, LockError> {
        let mut held = self.held(wait)?;
        self.ask_held(&mut held, body)
    }

    fn ask_held<T>(
        &self,
        held: &mut Option<Holding>,
        body: impl FnOnce(&mut Holding) -> Result<T, LockError>,
    ) -> Result<T, LockError> {
        let _limit = watch::call(self.sessions.answer);
        let holding = held.as_mut().ok_or_else(has_ended)?;
        let sent = Instant::now();
        match body(holding) {
            Ok(value) => {
                *lock(&self.valid_until) = sent + lasts(self.lease);
                Ok(value)
            }
            Err(error) => {
                *held = None;
                *lock(&self.valid_until) = sent;
                Err(error)
            }
        }
    }

    /// Gives one back, and the session when that was the last. A session that may have ended is not
    /// waited for.
    fn give_back(&self, key: &LockKey) -> Result<(), LockError> {
        let valid_for = self.valid_for();
        if valid_for.is_zero() {
            return Err(was_not_heard_of());
        }
        let mut held = self.held(self.sessions.answer.min(valid_for))?;
        let asked = self.ask_held(&mut held, |Holding { session, keys }| {
            keys.remove(key);
            match keys.is_empty() {
                true => session.give_back(key, Mode::Exclusive),
                false => session.give_up(key),
            }
        });
        match asked {
            // It went with the session.
            Err(LockError::Lost { .. }) => return Ok(()),
            asked => asked?,
        }
        if held.as_ref().is_some_and(|holding| holding.keys.is_empty())
            && let Some(Holding { session, .. }) = held.take()
        {
            self.sessions.keep(session);
        }
        Ok(())
    }
}

impl Renewable for Leading {
    /// Of a session that is in use the server hears anyway.
    fn renew(&self) -> Result<(), LockError> {
        let mut held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        let left = match failpoint::is_off("lock.postgres.left") {
            true => Vec::new(),
            false => std::mem::take(&mut *lock(&self.left)),
        };
        let asked = self.ask_held(&mut held, |Holding { session, keys }| {
            for key in &left {
                keys.remove(key);
                session.give_up(key)?;
            }
            session.ping()
        });
        match asked {
            Err(LockError::Lost { .. }) => Ok(()),
            asked => asked,
        }
    }

    fn name(&self) -> String {
        "of the graphs that this process leads".to_owned()
    }
}

impl Held for Leadership {
    fn store(&mut self, _incarnation: &str, first: FencingToken) -> Result<(), LockError> {
        self.leading.ask(SESSION_WAIT, |holding| holding.session.seed(&self.key, first))
    }

    /// By the clock alone.
    fn check(&mut self) -> Result<(), LockError> {
        if self.leading.valid_for().is_zero() { Err(was_not_heard_of()) } else { Ok(()) }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        // The server is not to be waited for again.
        let given = match watch::is_given_up() {
            true => Err(has_ended()),
            false => self.leading.give_back(&self.key),
        };
        if let Err(error) = given {
            log::debug!("lock {}: given back later, or with its session: {error}", self.key);
            lock(&self.leading.left).push(self.key.clone());
        }
    }
}
