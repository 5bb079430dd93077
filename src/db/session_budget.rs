//! The budget of sessions that a process has on a Postgres server: shared by the pool that runs
//! statements and by the `postgres` lock, whose sessions are its own.
//!
//! A turn holds a session of the lock while it asks for one for statements. What keeps the two
//! sides from waiting for each other for ever:
//!
//! 1. Each session, from before it is opened until it is closed, holds a [`Permit`]. There are at
//!    most as many as the budget, or as the server was found to grant: if it refuses a session, or
//!    a pooler keeps one waiting, what is open then is the limit for [`LEARNT_FOR`].
//! 2. The lock never takes the last permit, and opens or uses a session only when one for
//!    statements is known to live.
//! 3. Whoever has a session for statements asks for no other, so that it comes back.
//! 4. Whoever waits has an idle session of the other side closed, and a session that is given back
//!    while the other side waits is closed instead of kept. The last one for statements is not.
//!
//! So whoever waits for a session for statements gets one, whoever has a session of the lock ends
//! its turn, and whoever waits for a session of the lock is next. A refused session is asked for
//! again, after a pause that grows. A session whose server does not answer, and whose task was
//! given up, counts no more, although it is open: its place is another's.
//!
//! Knows no statement and no pool: a side says how an idle session of it is closed ([`Idle`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::backends::Backends;
use super::error::DbError;
use super::outage::Outage;
use super::watch;
use crate::failpoint;

/// For how long a process keeps to what a server was found to grant.
pub const LEARNT_FOR: Duration = Duration::from_secs(10);

/// A session that takes longer to open, while others are open, is kept waiting by a pooler.
const SLOW: Duration = Duration::from_secs(1);

/// The first and the longest pause after a session was refused.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How often whoever waits looks whether there is something to close.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Statements.
    Statements = 0,
    /// The `postgres` lock.
    Locks = 1,
}

impl Side {
    fn other(self) -> Self {
        if self == Self::Statements { Self::Locks } else { Self::Statements }
    }
}

/// A side that can be asked for a session.
pub(crate) trait Idle: Send + Sync {
    /// Closes a session that nobody uses; whether there was one.
    fn close_one(&self) -> bool;
}

/// See the module. Cloning shares it.
#[derive(Clone)]
pub struct SessionBudget(Arc<Budget>);

struct Budget {
    /// Sessions at most.
    most: usize,
    /// Of those, for statements at most.
    most_statements: usize,
    state: Mutex<State>,
    changed: Condvar,
    backends: Backends,
    outage: Outage,
}

#[derive(Default)]
struct State {
    sides: [Count; 2],
    /// What the server grants, and until when that is believed.
    learnt: Option<(usize, Instant)>,
    /// No session is asked for before, and the pause that led to that.
    not_before: Option<Instant>,
    pause: Duration,
    /// Whether that was told by the time that a session takes to open.
    is_guess: bool,
    /// Whether a session was found closed since one for statements was known to live.
    is_unsure: bool,
    /// When a session for statements was last known to live.
    alive_at: Option<Instant>,
}

#[derive(Default)]
struct Count {
    idle: Option<Weak<dyn Idle>>,
    open: usize,
    /// When each of those that are being opened was begun.
    opening: Vec<Instant>,
    waiting: usize,
    /// Why none could be opened, as the last attempt had it.
    failure: Option<String>,
    /// Attempts that have failed for good and that nobody who waits was told of. No more than wait.
    failures: usize,
}

impl Count {
    /// Of those that are being opened, only those that may still come.
    fn total(&self) -> usize {
        self.open + self.opening_now()
    }

    /// How many are being opened and may still come.
    fn opening_now(&self) -> usize {
        self.opening.iter().filter(|begun| begun.elapsed() < watch::OPENING).count()
    }

    /// One that was begun then is not being opened any more; whether it was.
    fn end_opening(&mut self, since: Option<Instant>) -> bool {
        let at = self.opening.iter().position(|begun| Some(*begun) == since);
        at.map(|at| self.opening.swap_remove(at)).is_some()
    }
}

impl SessionBudget {
    /// `most` sessions in all, at least two; of those, `most_statements` for statements.
    #[must_use]
    pub fn new(most: usize, most_statements: usize) -> Self {
        let most = most.max(2);
        Self(Arc::new(Budget {
            most,
            most_statements: most_statements.clamp(1, most - 1),
            state: Mutex::default(),
            changed: Condvar::new(),
            backends: Backends::default(),
            outage: Outage::new("a session on the database cannot be opened"),
        }))
    }

    /// The server's sessions that this process has.
    pub(super) fn backends(&self) -> &Backends {
        &self.0.backends
    }

    /// Has the sessions of a side counted from now on. Until it is dropped.
    pub(crate) fn join(&self, side: Side, idle: Weak<dyn Idle>) {
        self.0.lock().sides[side as usize].idle = Some(idle);
    }

    /// Leave to open a session now, for somebody who [waits](Self::waiting) for it.
    pub(crate) fn take(&self, side: Side) -> Option<Permit> {
        let mut state = self.0.lock();
        let now = Instant::now();
        state.learn_from_slowness(now);
        let most = state.most(self.0.most, now);
        let is_shared = state.is_used(side.other());
        let share = match side {
            _ if !is_shared => most,
            Side::Statements => (most / 2).clamp(1, self.0.most_statements),
            Side::Locks => most - 1,
        };
        let count = &state.sides[side as usize];
        let may = state.total() < most
            && count.total() < share
            && count.opening_now() < count.waiting
            && state.not_before.is_none_or(|not_before| not_before <= now);
        if !may && !failpoint::is_off("session-budget") {
            return None;
        }
        state.sides[side as usize].opening.push(now);
        let is_abandoned = Arc::default();
        Some(Permit { budget: self.clone(), side, opening_since: Some(now), is_abandoned })
    }

    /// Counts somebody who waits for a session of that side, until dropped.
    pub(crate) fn waiting(&self, side: Side) -> Waiting {
        self.0.lock().sides[side as usize].waiting += 1;
        Waiting { budget: self.clone(), side }
    }

    /// If there is no more room, has the other side close an idle session. For whoever waits.
    pub(crate) fn make_room(&self, side: Side) {
        let idle = {
            let mut state = self.0.lock();
            let now = Instant::now();
            state.learn_from_slowness(now);
            let gives = state.gives_way(side.other(), self.0.most, now);
            let other = &state.sides[side.other() as usize];
            other.idle.as_ref().filter(|_| gives).and_then(Weak::upgrade)
        };
        if let Some(idle) = idle {
            idle.close_one();
        }
    }

    /// Closes every session that nobody uses now.
    pub(super) fn close_idle(&self) {
        let sides = {
            let state = self.0.lock();
            state.sides.each_ref().map(|count| (count.idle.clone(), count.open))
        };
        for (idle, open) in sides {
            let Some(idle) = idle.as_ref().and_then(Weak::upgrade) else { continue };
            // No more than were open: others may be given back meanwhile.
            for _ in 0..open {
                if !idle.close_one() {
                    break;
                }
            }
        }
    }

    /// Whether a session of that side that nobody uses now is to be closed, for the other's sake.
    pub(crate) fn is_to_close(&self, side: Side) -> bool {
        let mut state = self.0.lock();
        state.sides[side.other() as usize].waiting > 0
            && state.gives_way(side, self.0.most, Instant::now())
    }

    /// Whether one for statements must be seen to live before one of the lock is opened.
    pub(crate) fn needs_statements(&self) -> bool {
        let state = self.0.lock();
        let statements = &state.sides[Side::Statements as usize];
        let must_ask = statements.open == 0 || state.is_unsure;
        must_ask && state.is_used(Side::Statements) && !failpoint::is_off("session-budget")
    }

    /// Whether a session of the lock that was just opened is to be closed again: by the time that
    /// it came, none for statements was known to live any more, and somebody waits for one.
    pub(crate) fn statements_come_first(&self) -> bool {
        self.needs_statements() && self.0.lock().sides[Side::Statements as usize].waiting > 0
    }

    /// A session was found closed: others may be.
    pub(crate) fn found_closed(&self) {
        self.0.lock().is_unsure = true;
    }

    /// A session for statements lives.
    pub(crate) fn found_alive(&self) {
        let mut state = self.0.lock();
        state.is_unsure = false;
        state.alive_at = Some(Instant::now());
    }

    /// For how long none for statements has answered; nothing if none ever did.
    pub(super) fn silent_for(&self) -> Duration {
        self.0.lock().alive_at.map_or(Duration::ZERO, |alive_at| alive_at.elapsed())
    }

    /// A session could not be opened.
    pub(crate) fn failed(&self, side: Side, error: &DbError) {
        let text = error.reason();
        self.0.outage.failed(&text);
        let full = SERVER_IS_FULL.iter().any(|words| text.contains(words));
        let mut state = self.0.lock();
        let now = Instant::now();
        if full {
            state.learn(now);
            state.pause = (state.pause * 2).clamp(PAUSE.0, PAUSE.1);
            state.not_before = Some(now + state.pause);
        }
        let count = &mut state.sides[side as usize];
        count.failures = (count.failures + usize::from(!full)).min(count.waiting);
        count.failure = Some(text);
    }

    /// Whether an attempt has failed, other than for lack of room: tells one of those who wait for
    /// each attempt that failed. The others may be luckier.
    pub(crate) fn take_failure(&self, side: Side) -> bool {
        let mut state = self.0.lock();
        let failures = &mut state.sides[side as usize].failures;
        let failed = *failures > 0;
        *failures -= usize::from(failed);
        failed
    }

    /// Why there is none.
    pub(crate) fn why_none(&self, side: Side) -> String {
        let state = self.0.lock();
        let count = &state.sides[side as usize];
        match &count.failure {
            Some(text) => text.clone(),
            None if count.opening.is_empty() => {
                format!("{} sessions are in use, and no more are granted", state.total())
            }
            None => "the server has not answered a new session yet".to_owned(),
        }
    }

    /// Waits until something has changed, and not for long.
    pub(crate) fn wait(&self, longest: Duration) {
        drop(self.0.changed.wait_timeout(self.0.lock(), longest.min(LOOK)));
    }

    /// Wakes whoever waits: a session is idle.
    pub(crate) fn notify(&self) {
        self.0.changed.notify_all();
    }
}

impl Budget {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn total(&self) -> usize {
        self.sides.iter().map(Count::total).sum()
    }

    fn open(&self) -> usize {
        self.sides.iter().map(|side| side.open).sum()
    }

    fn is_used(&self, side: Side) -> bool {
        let idle = self.sides[side as usize].idle.as_ref();
        idle.is_some_and(|idle| idle.strong_count() > 0)
    }

    /// How many there may be.
    fn most(&mut self, budget: usize, now: Instant) -> usize {
        self.learnt = self.learnt.filter(|(_, until)| now < *until);
        self.learnt.map_or(budget, |(most, _)| most.min(budget))
    }

    /// Whether the other side could open a session if one of this side were closed.
    fn gives_way(&mut self, side: Side, budget: usize, now: Instant) -> bool {
        let is_last = side == Side::Statements && self.sides[side as usize].open <= 1;
        let is_full = self.total() >= self.most(budget, now);
        is_full && !is_last && !failpoint::is_off("session-budget")
    }

    /// The server grants as many as are open now; a turn needs two.
    fn learn(&mut self, now: Instant) {
        self.learnt = Some((self.open().max(2), now + LEARNT_FOR));
        self.is_guess = false;
    }

    fn learn_from_slowness(&mut self, now: Instant) {
        if failpoint::is_off("slow-opening") {
            return;
        }
        let is_slow = |since: &Instant| {
            let age = now.duration_since(*since);
            // One that takes longer hangs, whatever the reason.
            age > SLOW && age < watch::OPENING
        };
        if self.open() > 0 && self.sides.iter().flat_map(|side| &side.opening).any(is_slow) {
            self.learn(now);
            self.is_guess = true;
        }
    }
}

/// The server, or a pooler before it, has no room for another session now, or has not come up yet.
/// libpq gives no code for it; of a server with messages in another language nothing is learnt.
const SERVER_IS_FULL: [&str; 7] = [
    "too many c",
    "remaining connection slots",
    "no more connections allowed",
    "the database system is starting up",
    "the database system is not yet accepting connections",
    "timeout expired",
    "query_wait_timeout",
];

/// One session's place in the budget, until dropped.
pub(crate) struct Permit {
    budget: SessionBudget,
    side: Side,
    opening_since: Option<Instant>,
    /// Set when a task that uses the session is given up: it counts no more from then on.
    is_abandoned: Arc<AtomicBool>,
}

impl Permit {
    /// The session is open.
    pub(crate) fn opened(&mut self) {
        self.budget.0.outage.is_over();
        let mut state = self.budget.0.lock();
        let count = &mut state.sides[self.side as usize];
        count.end_opening(self.opening_since.take());
        count.open += 1;
        count.failure = None;
        (state.pause, state.not_before) = (Duration::ZERO, None);
        if std::mem::take(&mut state.is_guess) {
            // It was slow, and no pooler held it back.
            state.learnt = None;
        }
    }

    /// To be held by the task that uses the session, for as long as it does.
    pub(super) fn lending(&self) -> Lending {
        let is_abandoned = Arc::clone(&self.is_abandoned);
        Lending {
            budget: self.budget.clone(),
            side: self.side,
            is_abandoned,
            by: thread::current().id(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.0.lock();
        let count = &mut state.sides[self.side as usize];
        if !count.end_opening(self.opening_since.take())
            && !self.is_abandoned.load(Ordering::SeqCst)
        {
            count.open -= 1;
        }
        drop(state);
        self.budget.notify();
    }
}

/// That a thread uses an open session. What a task [holds](watch::Reclaimable) is dropped by
/// another thread if the task is given up: then the session's place is free for another, which
/// [`watch::GIVEN_UP_MAX`] bounds.
pub(super) struct Lending {
    budget: SessionBudget,
    side: Side,
    is_abandoned: Arc<AtomicBool>,
    by: ThreadId,
}

impl Drop for Lending {
    fn drop(&mut self) {
        if thread::current().id() == self.by || failpoint::is_off("abandoned") {
            return;
        }
        let mut state = self.budget.0.lock();
        if !self.is_abandoned.swap(true, Ordering::SeqCst) {
            state.sides[self.side as usize].open -= 1;
        }
        drop(state);
        self.budget.notify();
    }
}

/// See [`SessionBudget::waiting`].
pub(crate) struct Waiting {
    budget: SessionBudget,
    side: Side,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.budget.0.lock();
        let count = &mut state.sides[self.side as usize];
        count.waiting -= 1;
        count.failures = count.failures.min(count.waiting);
    }
}
