//! The session that holds all leaderships of a process: as many as there are graphs that it leads,
//! where turns have a session each. It only tries to take one, since whoever waits on it would keep
//! it from all others; who wants to wait tries again.
//!
//! The server ends the session once nothing was heard of it for a lease. A holder counts from when
//! it was last asked, so that it asks nothing before a write.
//!
//! What the session holds is known under the mutex under which it is asked, so that nothing is
//! taken twice, or given back while another is taken. Nobody waits for the mutex without a limit:
//! whoever has it may be waiting for a server that does not answer.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::renewal::{Holds, Renewable};
use super::session::Session;
use super::sessions::{SESSION_WAIT, Sessions};
use crate::db::watch;
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
    /// Something could not be given back: the session is to end by its lease, with all that it
    /// holds.
    is_abandoned: AtomicBool,
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
            is_abandoned: AtomicBool::new(false),
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

    /// Tries to take one more.
    fn take(self: Arc<Self>, key: &LockKey) -> Result<Tried, LockError> {
        if self.is_abandoned.load(Ordering::SeqCst) {
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
                Err(error)
            }
        }
    }

    /// Gives one back, and the session when that was the last.
    fn give_back(&self, key: &LockKey) -> Result<(), LockError> {
        let mut held = self.held(self.sessions.answer)?;
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
        if self.is_abandoned.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        match self.ask_held(&mut held, |holding| holding.session.ping()) {
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

    /// Asks the server only if nothing was heard of it for nearly a lease, and nobody else asks.
    fn check(&mut self) -> Result<(), LockError> {
        let is_valid = Instant::now() < *lock(&self.leading.valid_until);
        match self.leading.held.try_lock() {
            Ok(held) if held.is_none() => Err(has_ended()),
            Ok(_) if is_valid => Ok(()),
            Ok(mut held) => self.leading.ask_held(&mut held, |holding| holding.session.ping()),
            Err(_) if is_valid => Ok(()),
            Err(_) => Err(LockError::Lost { what: "its session was not heard of for a lease" }),
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        // The server is not to be waited for again: it frees all when the session has ended.
        let given = match watch::is_given_up() {
            true => Err(has_ended()),
            false => self.leading.give_back(&self.key),
        };
        if let Err(error) = given {
            log::warn!("lock {}: left to the end of its session: {error}", self.key);
            self.leading.is_abandoned.store(true, Ordering::SeqCst);
        }
    }
}
