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
//! for the next to come, whatever its key, up to [`SESSIONS_KEPT`]. Opening one takes four round
//! trips and the server a process.
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
//! - It ends a wait by the server's clock. A server that takes requests and does not answer makes
//!   everyone wait until it does; opening a session may take 5 s whatever the wait.
//! - A pooler that lends one server session to several clients breaks it. Whoever gives the lock
//!   back is told, in the log; do not use one.
//! - A token may come again if someone sets the sequence back by hand, or moves rows of the table
//!   between databases; the comparison of versions still holds.
//!
//! May use connections and SQL. Must never know a graph or HTTP.

mod session;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use self::session::Session;
use super::by_key::ByKey;
use super::gate::{Deadline, Gate, lock};
use super::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
};
use crate::failpoint;

/// What the database is told about its own lock: wherever it is moved or restored, the lock moves
/// along and is the same.
const IDENTITY: &str = "own-database";

/// Sessions that are kept open while nobody uses them.
pub const SESSIONS_KEPT: usize = 16;

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
    holds: Arc<Mutex<Vec<Weak<Hold>>>>,
    /// The thread that renews leases ends when this is dropped.
    _renewal: mpsc::Sender<Infallible>,
}

impl PostgresLock {
    /// Opens the lock of the database at `url`, `postgres://…`. Its schema must be up to date
    /// before the lock is taken. All processes should have the same lease.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] when it cannot be reached.
    pub fn open(url: &str, lease: Duration) -> Result<Self, LockError> {
        let sessions = Arc::new(Sessions { url: url.to_owned(), idle: Mutex::default() });
        let holds = Arc::<Mutex<Vec<Weak<Hold>>>>::default();
        let (_renewal, ends) = mpsc::channel();
        let renewed = Arc::clone(&holds);
        let renew = move || {
            while ends.recv_timeout(lease / 4) == Err(mpsc::RecvTimeoutError::Timeout) {
                renew(&renewed);
            }
        };
        let thread = thread::Builder::new().name("lock-renewal".to_owned()).spawn(renew);
        thread.map_err(|source| LockError::Unavailable {
            what: "cannot start a thread".to_owned(),
            source,
        })?;
        let lock = Self { sessions, queues: ByKey::default(), lease, holds, _renewal };
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
        let _place = queue.gate.enter(&deadline).ok_or_else(timeout)?;
        if mode == Mode::Shared
            && let Some(hold) = queue.join_readers()
        {
            return Ok(Guard::shared(Box::new(Grant { hold })));
        }
        let (session, taken) = self
            .sessions
            .with(|session| session.take(key, mode, deadline.remaining(), self.lease))?;
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
        let (session, inspection) = self.sessions.with(|session| session.inspect(key))?;
        self.sessions.keep(session);
        Ok(inspection)
    }

    fn ping(&self) -> Result<(), LockError> {
        let (session, ()) = self.sessions.with(Session::ping)?;
        self.sessions.keep(session);
        Ok(())
    }
}

/// Lets the server hear of every session that holds a lock.
fn renew(holds: &Mutex<Vec<Weak<Hold>>>) {
    let living: Vec<Arc<Hold>> = {
        let mut holds = lock(holds);
        holds.retain(|hold| hold.strong_count() > 0);
        holds.iter().filter_map(Weak::upgrade).collect()
    };
    for hold in living {
        if failpoint::is_off("lock.postgres.renewal") {
            continue;
        }
        // Who commits asks again, and is told.
        if let Err(error) = hold.on_session(Session::ping) {
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

impl Queue {
    /// Joins the readers' grant, if it may be joined.
    fn join_readers(&self) -> Option<Arc<Hold>> {
        let hold = lock(&self.readers).upgrade()?;
        let young = hold.since.elapsed() < JOINED_FOR
            && hold.joined.fetch_add(1, Ordering::Relaxed) < JOINED_BY;
        (young || failpoint::is_off("lock.postgres.joined-for")).then_some(hold)
    }
}

/// The sessions that nobody uses now.
struct Sessions {
    url: String,
    idle: Mutex<Vec<Session>>,
}

impl Sessions {
    /// Runs `body` on an idle session or a new one. Where an idle one turns out to have ended
    /// meanwhile, all are dropped, and a new one is used.
    fn with<T>(
        &self,
        mut body: impl FnMut(&mut Session) -> Result<T, LockError>,
    ) -> Result<(Session, T), LockError> {
        let idle = lock(&self.idle).pop();
        if let Some(mut session) = idle {
            match body(&mut session) {
                Ok(value) => return Ok((session, value)),
                Err(error) if failpoint::is_off("lock.postgres.new-session") => return Err(error),
                Err(error) => log::warn!("an idle session is replaced: {error}"),
            }
            let ended = std::mem::take(&mut *lock(&self.idle));
            drop((session, ended));
        }
        let mut session = Session::open(&self.url)?;
        let value = body(&mut session)?;
        Ok((session, value))
    }

    /// Takes back a session that holds nothing.
    fn keep(&self, session: Session) {
        let mut idle = lock(&self.idle);
        if idle.len() < SESSIONS_KEPT || failpoint::is_off("lock.postgres.sessions-kept") {
            idle.push(session);
            return;
        }
        // Closed, if at all, after the mutex is given back.
        drop(idle);
        drop(session);
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

impl Hold {
    fn on_session<T>(&self, body: impl FnOnce(&mut Session) -> T) -> T {
        body(lock(&self.session).as_mut().expect("a grant has its session until it is dropped"))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(mut session) = lock(&self.session).take() else {
            return;
        };
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
