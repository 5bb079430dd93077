//! `postgres`: many machines take turns with session advisory locks of the very database that is
//! guarded.
//!
//! **How it takes turns.** Whoever wants the lock
//!
//! 1. waits in this process's queue for the key ([`Gate`]);
//! 2. at the front of it, waits in the server's queue, on a session that nobody else uses
//!    meanwhile;
//! 3. once the lock is granted, gives its place to the next in the queue.
//!
//! The server serves in order of arrival, and lets nobody overtake a waiter that it would hold up:
//! a waiting writer holds back later readers, and its release lets in all readers up to the next
//! writer. Readers of one process share a grant, but only [so many](JOINED_BY) and only while it is
//! [young](JOINED_FOR): who joins overtakes the queue, and readers who keep joining would hold up
//! another process's writer for ever.
//!
//! **What it costs.** A round trip to take the lock, token included, and one to give it back; one
//! more for a [`check`](Held::check). A reader that joins costs none. Nothing is synced but the
//! sequence that counts tokens, once in 33 grants and after each checkpoint. A grant and a wait
//! each have a session of their own: for a graph in use, one for its writer, one for the grant that
//! readers share, or several when a read is long, and one for who waits next. Idle ones are kept
//! for the next to come, whatever its key, up to [`SESSIONS_KEPT`] and for a while. Opening one
//! takes five round trips and the server a process. They are counted in the database's
//! [budget](SessionBudget): whoever finds no room waits, and idle ones are closed when statements
//! need a session.
//!
//! **Holders that are gone.** One that dies is freed when the server sees its connection closed.
//! One that is stopped, or whose machine or network is gone, is freed after a
//! [lease](super::LEASE): the server ends a session that holds a lock once nothing was heard of it
//! for so long, and a thread of each process lets the server hear of all its sessions four times as
//! often.
//!
//! **Tokens.** A sequence counts the grants of all keys; a table remembers for each key the epoch,
//! where the sequence stood when the key was seeded, and the run of the server. A number is taken
//! after the lock is granted, and so a key's tokens rise. They cannot come again:
//! - A sequence is logged 32 numbers ahead. The log may be lost in a crash only if nothing that was
//!   written later was committed; a token that has reached the database therefore stays behind the
//!   sequence for ever.
//! - A token that was given and has not reached the database may be given again after a crash. The
//!   table is not logged, so that a crash, also one after which the server picks itself up, a
//!   standby that takes over and a restored backup empty it: the database raises the epoch.
//! - The run tells apart what is not a crash: a server that was shut down and copied, or put back,
//!   and a database that was dumped or cloned.
//!
//! **What it does not do.**
//! - It does not time out a holder that lives and works on, however long: a thread of the process
//!   keeps its sessions awake.
//! - A holder whose session has ended (the server restarted, an operator ended it) holds the lock
//!   no more and need not know. It [checks](Held::check) before it commits; in the moment between
//!   the two, the comparison of versions decides.
//! - It ends a wait by the server's clock. On a server that takes requests and does not answer,
//!   whoever waits is [given up](crate::db::watch) some seconds later. A session is waited for 5 s
//!   whatever the wait.
//! - A pooler that lends one server session to several clients would break it, and is refused: each
//!   grant comes with the number of the server's process, which must be the session's.
//! - A grant comes with the server's word that it can write. A former primary that does not know of
//!   its demotion grants locks that guard nothing on the new one; the comparison of versions, on
//!   whichever server the write goes to, decides.
//! - A token may come again if someone sets the sequence back by hand, or moves rows of the table
//!   between databases; the comparison of versions still holds.
//!
//! May use connections and SQL. Must never know a graph or HTTP.

mod session;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use self::session::Session;
use super::by_key::ByKey;
use super::gate::{Deadline, Gate, lock};
use super::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
};
use crate::db::session_budget::{Idle, Permit, Side};
use crate::db::watch::{self, Reclaimable};
use crate::db::{ANSWER, Database, IDLE_FOR, SessionBudget};
use crate::failpoint;

/// What the database is told about its own lock: wherever it is moved or restored, the lock moves
/// along and is the same.
const IDENTITY: &str = "own-database";

/// Sessions that are kept open while nobody uses them.
pub const SESSIONS_KEPT: usize = 16;

/// Sessions at most of a lock that shares no budget with statements.
const SESSIONS_ALONE: usize = 256;

/// The longest wait for a session, where the lock itself may be waited for less.
const SESSION_WAIT: Duration = Duration::from_secs(5);

/// How long after it was granted a shared grant may be joined by further readers of the process:
/// the longest that they can keep the lock from a writer elsewhere, beyond the time for which each
/// of them holds it.
pub const JOINED_FOR: Duration = Duration::from_millis(10);

/// How many readers join a grant at most, beside the one who took it. Joining is so quick that on a
/// busy machine thousands could, before a writer elsewhere has a processor to ask for the lock
/// with.
pub const JOINED_BY: u32 = 4;

/// The lock of a Postgres database. See the module.
pub struct PostgresLock {
    sessions: Arc<Sessions>,
    queues: ByKey<Queue>,
    lease: Duration,
    /// Every grant that was given since it was last looked through.
    holds: Arc<Holds>,
}

type Holds = Mutex<Vec<Weak<Hold>>>;

impl PostgresLock {
    /// Opens the lock of the database at `url`, `postgres://…`. Its schema must be up to date
    /// before the lock is taken. All processes should have the same lease.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] when it cannot be reached.
    pub fn open(url: &str, lease: Duration) -> Result<Self, LockError> {
        Self::start(url, lease, None)
    }

    /// As [`open`](Self::open), of a database whose statements need sessions on the same server.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] when it cannot be reached.
    pub fn beside(database: &Database, url: &str, lease: Duration) -> Result<Self, LockError> {
        Self::start(url, lease, Some(database.clone()))
    }

    fn start(url: &str, lease: Duration, database: Option<Database>) -> Result<Self, LockError> {
        let alone = || SessionBudget::new(SESSIONS_ALONE + 1, 1);
        let budget = database.as_ref().map_or_else(alone, Database::budget);
        let sessions = Arc::new(Sessions {
            url: url.to_owned(),
            budget,
            answer: database.as_ref().map_or(ANSWER, Database::answer),
            database,
            idle: Mutex::default(),
            silences: AtomicU64::new(watch::silences()),
        });
        let idle: Arc<dyn Idle> = Arc::<Sessions>::clone(&sessions);
        sessions.budget.join(Side::Locks, Arc::downgrade(&idle));
        let holds = Arc::<Holds>::default();
        start_renewal(Arc::downgrade(&holds), Arc::downgrade(&sessions), lease)
            .map_err(no_session)?;
        let lock = Self { sessions, queues: ByKey::default(), lease, holds };
        lock.ping()?;
        Ok(lock)
    }
}

impl DistributedLock for PostgresLock {
    fn identity(&self) -> LockIdentity {
        LockIdentity { kind: "postgres", identity: IDENTITY.to_owned() }
    }

    fn acquire(&self, key: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError> {
        key.check()?;
        let deadline = Deadline::after(wait);
        let timeout = || LockError::Timeout { waited: deadline.waited() };
        let queue = self.queues.get(key, |_| true, Queue::default);
        queue.gate.enter(&deadline).ok_or_else(timeout)?.keep();
        let _place = Reclaimable::new(OwnPlace(Arc::clone(&queue)));
        if mode == Mode::Shared
            && let Some(hold) = queue.join_readers()
        {
            return Ok(Guard::shared(Box::new(Grant { hold })));
        }
        let (session, taken) = self.sessions.with(deadline.remaining(), |session| {
            session.take(key, mode, deadline.remaining(), self.lease)
        })?;
        let Some(taken) = taken else {
            self.sessions.keep(session);
            return Err(timeout());
        };
        let incarnation = session.run().to_owned();
        let hold = Arc::new(Hold {
            key: key.clone(),
            mode,
            since: Instant::now(),
            joined: AtomicU32::new(0),
            session: Mutex::new(Some(session)),
            sessions: Arc::clone(&self.sessions),
        });
        lock(&self.holds).push(Arc::downgrade(&hold));
        match mode {
            Mode::Shared => {
                *lock(&queue.readers) = Arc::downgrade(&hold);
                Ok(Guard::shared(Box::new(Grant { hold })))
            }
            Mode::Exclusive => {
                Ok(Guard::exclusive(Box::new(Grant { hold }), incarnation, taken.token))
            }
        }
    }

    fn inspect(&self, key: &LockKey) -> Result<Inspection, LockError> {
        key.check()?;
        let (session, inspection) =
            self.sessions.with(SESSION_WAIT, |session| session.inspect(key))?;
        self.sessions.keep(session);
        Ok(inspection)
    }

    fn ping(&self) -> Result<(), LockError> {
        let (session, ()) = self.sessions.with(SESSION_WAIT, Session::ping)?;
        self.sessions.keep(session);
        Ok(())
    }
}

/// Starts the thread that renews leases and closes old sessions for as long as the lock is open. If
/// the server does not answer it, another one takes its place: sessions that it does answer are to
/// be kept.
fn start_renewal(holds: Weak<Holds>, sessions: Weak<Sessions>, lease: Duration) -> io::Result<()> {
    let renew_all = move || {
        let is_replaced = Arc::<AtomicBool>::default();
        loop {
            thread::sleep((lease / 4).min(IDLE_FOR / 4));
            let (Some(held), Some(kept)) = (holds.upgrade(), sessions.upgrade()) else { return };
            let (next_holds, next_sessions) = (Weak::clone(&holds), Weak::clone(&sessions));
            let replaced = Arc::clone(&is_replaced);
            let given_up = move |_: watch::GivenUp| {
                match start_renewal(next_holds, next_sessions, lease) {
                    Ok(()) => replaced.store(true, Ordering::SeqCst),
                    // This one goes on when the server answers.
                    Err(error) => log::error!("no thread can be started to renew leases: {error}"),
                }
            };
            watch::watched(given_up, || {
                // Others are to be heard of before their leases are over.
                let is_limited = !failpoint::is_off("lock.postgres.renewal-limit");
                let limited = is_limited.then(|| watch::limited(lease / 2));
                renew(&held);
                drop(limited);
                kept.close_old();
                watch::disarm()
            });
            if is_replaced.load(Ordering::SeqCst) {
                return;
            }
        }
    };
    thread::Builder::new().name("lock-renewal".to_owned()).spawn(renew_all).map(drop)
}

/// Lets the server hear of every session that holds a lock.
fn renew(holds: &Holds) {
    // Not held meanwhile: whoever lets go of a lock while another session is waited for gives it
    // back.
    let living: Vec<Weak<Hold>> = {
        let mut holds = lock(holds);
        holds.retain(|hold| hold.strong_count() > 0);
        holds.clone()
    };
    // The newest first: of two servers, the one that does not answer has the older ones.
    for hold in living.iter().rev().filter_map(Weak::upgrade) {
        if watch::is_given_up() {
            return;
        }
        if failpoint::is_off("lock.postgres.renewal") {
            continue;
        }
        // Who commits asks again, and is told.
        if let Err(error) = hold.renew() {
            log::warn!("lock {}: its lease could not be renewed: {error}", hold.key);
        }
    }
}

/// What this process shares of one key.
#[derive(Default)]
struct Queue {
    gate: Gate,
    /// The newest grant that readers share, if any still holds it.
    readers: Mutex<Weak<Hold>>,
}

/// The place at the front of a key's queue.
struct OwnPlace(Arc<Queue>);

impl Drop for OwnPlace {
    fn drop(&mut self) {
        self.0.gate.pass_on();
    }
}

impl Queue {
    /// Joins the readers' grant, if it may be joined.
    fn join_readers(&self) -> Option<Arc<Hold>> {
        let hold = lock(&self.readers).upgrade()?;
        let young = hold.since.elapsed() < JOINED_FOR
            && hold.joined.fetch_add(1, Ordering::Relaxed) < JOINED_BY;
        (young || failpoint::is_off("lock.postgres.joined-for")).then_some(hold)
    }
}

/// The sessions on the server.
struct Sessions {
    url: String,
    budget: SessionBudget,
    /// How long the server may take to answer.
    answer: Duration,
    /// Whose statements are counted in the same budget.
    database: Option<Database>,
    /// Those that nobody uses now, and since when; the newest is last.
    idle: Mutex<Vec<(Session, Instant)>>,
    /// How often a server had not answered when that was last looked at.
    silences: AtomicU64,
}

impl Sessions {
    /// Runs `body` on an idle session or a new one. Where an idle one turns out to have ended
    /// meanwhile, all are dropped, and a new one is used. Waits for a session for `wait`, and no
    /// less than [`SESSION_WAIT`].
    fn with<T>(
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
    fn keep(&self, session: Session) {
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
    fn close_old(&self) {
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

fn no_session(error: impl ToString) -> LockError {
    let source = io::Error::other(error.to_string());
    LockError::Unavailable { what: "cannot open a session".to_owned(), source }
}

/// The lock, held by a session, until dropped.
struct Hold {
    key: LockKey,
    mode: Mode,
    since: Instant,
    /// How many readers have joined, or tried to.
    joined: AtomicU32,
    /// `None` only while it is being dropped.
    session: Mutex<Option<Session>>,
    sessions: Arc<Sessions>,
}

impl Hold {
    /// Lets the server hear of the session. Of one that is in use it hears anyway.
    fn renew(&self) -> Result<(), LockError> {
        let session = match self.session.try_lock() {
            Ok(session) => Some(session),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let renewed = session.and_then(|mut session| session.as_mut().map(Session::ping));
        renewed.unwrap_or(Ok(()))
    }

    fn on_session<T>(&self, body: impl FnOnce(&mut Session) -> T) -> T {
        // Another thread may be waiting for the server on it.
        let _limit = watch::call(self.sessions.answer);
        body(lock(&self.session).as_mut().expect("a grant has its session until it is dropped"))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _limit = watch::call(self.sessions.answer);
        let Some(mut session) = lock(&self.session).take() else {
            return;
        };
        // The server is not to be waited for again. It frees what a closed session holds.
        if watch::is_given_up() {
            return;
        }
        match session.give_back(&self.key, self.mode) {
            Ok(()) => self.sessions.keep(session),
            Err(_) if failpoint::is_off("lock.postgres.closed") => self.sessions.keep(session),
            // The server frees what it holds, whatever that is.
            Err(error) => log::warn!("lock {}: its session is closed: {error}", self.key),
        }
    }
}

/// One grant; readers who joined have one each.
struct Grant {
    hold: Arc<Hold>,
}

impl Held for Grant {
    fn store(&mut self, _incarnation: &str, first: FencingToken) -> Result<(), LockError> {
        self.hold.on_session(|session| session.seed(&self.hold.key, first))
    }

    fn check(&mut self) -> Result<(), LockError> {
        self.hold.on_session(Session::ping)
    }
}
