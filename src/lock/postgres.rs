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

mod leading;
mod renewal;
mod session;
mod sessions;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::{Duration, Instant};

use self::leading::LeadershipLock;
use self::renewal::{Holds, Renewable, start_renewal};
use self::session::Session;
pub use self::sessions::SESSIONS_KEPT;
use self::sessions::{SESSION_WAIT, Sessions, no_session};
use super::by_key::ByKey;
use super::gate::{Deadline, Gate, lock};
use super::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
    Purpose,
};
use crate::db::session_budget::{Idle, Side};
use crate::db::watch::{self, Reclaimable};
use crate::db::{Database, SessionBudget};
use crate::failpoint;

/// What the database is told about its own lock: wherever it is moved or restored, the lock moves
/// along and is the same.
const IDENTITY: &str = "own-database";

/// Sessions at most of a lock that shares no budget with statements.
const SESSIONS_ALONE: usize = 256;

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
    leaderships: LeadershipLock,
}

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
        let sessions = Arc::new(Sessions::new(url, budget, database));
        let idle: Arc<dyn Idle> = Arc::<Sessions>::clone(&sessions);
        sessions.budget.join(Side::Locks, Arc::downgrade(&idle));
        let holds = Arc::<Holds>::default();
        start_renewal(Arc::downgrade(&holds), Arc::downgrade(&sessions), lease)
            .map_err(no_session)?;
        let leaderships = LeadershipLock::new(&sessions, &holds, lease);
        let lock = Self { sessions, queues: ByKey::default(), lease, holds, leaderships };
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
        if key.purpose == Purpose::Leadership {
            return self.leaderships.acquire(key, &deadline);
        }
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
        let renewable: Weak<dyn Renewable> = Arc::<Hold>::downgrade(&hold);
        lock(&self.holds).push(renewable);
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

impl Renewable for Hold {
    /// Of a session that is in use the server hears anyway.
    fn renew(&self) -> Result<(), LockError> {
        let session = match self.session.try_lock() {
            Ok(session) => Some(session),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let renewed = session.and_then(|mut session| session.as_mut().map(Session::ping));
        renewed.unwrap_or(Ok(()))
    }

    fn name(&self) -> String {
        self.key.to_string()
    }
}

impl Hold {
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
