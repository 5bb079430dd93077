//! Taking turns: a lock for each graph, shared or exclusive, with a time limit and a fencing token.
//!
//! This file holds what every lock promises; each implementation is a file beside it and says how
//! it takes turns and what that costs. All of them pass one conformance suite.
//!
//! - **Exclusive excludes; shared shares.** Locks of different keys never meet.
//! - **Neither side starves.** A waiting writer holds back the readers that come after it. A
//!   writer's release lets readers in that waited. (Under a [kept] lock, readers of the
//!   writer's own process may have to let one other writer go first.)
//! - **A wait ends.** The caller says how long it will wait, and is told when that is over.
//! - **A guard is released on drop**, and when its process dies.
//! - **Tokens only rise.** The database is the authority, not the lock: see [`Guard::token`].
//!
//! No lock is proof against a holder that stalls, loses its lock unawares, and wakes again. The
//! database compares versions and tokens in each write and so decides in the end.
//!
//! May use: the file system and the clients of lock servers, each in the one implementation that
//! needs it. Must never know: a graph (it sees a row id), HTTP, or what its holders do under it.
//! Everything here blocks the calling thread; nothing here is async.

mod by_key;
pub mod file;
pub mod gate;
pub mod kept;
pub mod postgres;
pub mod redis;
pub mod token;

use std::fmt;
use std::io;
use std::time::Duration;

use prometheus::core::Collector;
pub use token::FencingToken;

/// How long the grants of a lock that has leases last, unless configured otherwise: so long is a
/// holder missed of which nothing is heard.
pub const LEASE: Duration = Duration::from_secs(5);

/// Whether the holder lets others of its kind in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// For readers: any number at once.
    Shared,
    /// For a writer: alone.
    Exclusive,
}

impl Mode {
    /// For labels and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        }
    }
}

/// What is locked of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A turn: held for a moment, by readers and writers.
    Turns,
    /// The leadership: held by one process, exclusively, for as long as it lives and writes. A lock
    /// that has a maximum hold has none for it.
    Leadership,
}

/// One lock: which database, which graph in it, and for what.
///
/// The database's own identity is part of the key, so that two databases that share a lock server
/// do not share locks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockKey {
    /// The identity that the database gave itself: 1 to 64 of `0-9a-f-`.
    pub database: String,
    /// The row id of the graph; not negative.
    pub graph: i64,
    /// For what.
    pub purpose: Purpose,
}

impl LockKey {
    /// The longest identity of a database, in bytes.
    pub const MAX_DATABASE_LEN: usize = 64;

    /// A checked key, for turns.
    ///
    /// # Errors
    /// [`LockError::InvalidKey`] for what [`LockKey::check`] refuses.
    pub fn new(database: impl Into<String>, graph: i64) -> Result<Self, LockError> {
        let key = Self { database: database.into(), graph, purpose: Purpose::Turns };
        key.check()?;
        Ok(key)
    }

    /// The same for the leadership.
    #[must_use]
    pub fn of_leadership(self) -> Self {
        Self { purpose: Purpose::Leadership, ..self }
    }

    /// Refuses a key that is not safe in a file name or a server's key. The fields are open, so
    /// every implementation asks before it uses one.
    ///
    /// # Errors
    /// [`LockError::InvalidKey`].
    pub fn check(&self) -> Result<(), LockError> {
        let in_alphabet = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let well_formed = (1..=Self::MAX_DATABASE_LEN).contains(&self.database.len())
            && self.database.bytes().all(in_alphabet)
            && self.graph >= 0;
        if well_formed { Ok(()) } else { Err(LockError::InvalidKey { key: self.clone() }) }
    }
}

impl fmt::Display for LockKey {
    /// `DATABASE-GRAPH`, or `DATABASE-GRAPH.leader`. One-to-one on checked keys: the graph is what
    /// follows the last hyphen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.purpose {
            Purpose::Turns => "",
            Purpose::Leadership => ".leader",
        };
        write!(f, "{}-{}{suffix}", self.database, self.graph)
    }
}

/// Which lock this is, as the database remembers it: two processes with different identities do not
/// exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockIdentity {
    /// The implementation: `file`, `postgres`, `redis`.
    pub kind: &'static str,
    /// Which one of that kind.
    pub identity: String,
}

impl fmt::Display for LockIdentity {
    /// `KIND:IDENTITY`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.identity)
    }
}

/// A read-write lock for each key, shared by all processes that open the same one.
pub trait DistributedLock: Send + Sync {
    /// Which lock this is.
    fn identity(&self) -> LockIdentity;

    /// Takes the lock `key` in `mode`, waiting at most `wait`; with a `wait` of zero, takes it only
    /// if it is free.
    ///
    /// # Errors
    /// [`LockError::Timeout`] when others held it all that time; [`LockError::Unavailable`] when
    /// the lock cannot be reached or cannot be trusted. After either, the caller holds nothing and
    /// is in nobody's way.
    fn acquire(&self, key: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError>;

    /// Whether the lock could be taken now, as far as can be told cheaply. For readiness probes.
    ///
    /// # Errors
    /// [`LockError::Unavailable`].
    fn ping(&self) -> Result<(), LockError>;

    /// Who holds the lock `key` and who waits for it, as far as can be told without taking it. For
    /// people.
    ///
    /// # Errors
    /// [`LockError::Unavailable`].
    fn inspect(&self, key: &LockKey) -> Result<Inspection, LockError>;

    /// What only this lock can measure.
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        Vec::new()
    }

    /// Whether a writer that holds the lock learns that others wait for it, so that its grant may
    /// be [kept] from one turn to the next.
    fn tells_holders(&self) -> bool {
        false
    }

    /// For locks that [tell holders](Self::tells_holders): waits for messages that others want what
    /// this process holds. Returns when one has come, or after `wait`.
    fn listen_for_others(&self, wait: Duration) {
        std::thread::sleep(wait);
    }
}

/// One lock as a person wants to see it. The moment it is read it may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Who holds it.
    pub holders: Vec<Participant>,
    /// Who waits, as far as that can be seen: writers in the order in which they are served.
    pub waiting: Vec<Participant>,
    /// The last token that was given.
    pub token: Option<FencingToken>,
    /// Which run of the lock's memory this is.
    pub incarnation: Option<String>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// Someone who holds a lock or waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// How.
    pub mode: Mode,
    /// Which process, as far as that can be told.
    pub who: String,
    /// When its lease ends if nothing is heard of it, where there is one.
    pub ends_in: Option<Duration>,
}

/// What an implementation keeps for one grant. Dropping it gives the grant back.
pub trait Held: Send {
    /// Makes the lock remember `incarnation` and that `first` was given, so that the next exclusive
    /// grant, in whatever process, carries the token after it. Called for exclusive grants only.
    ///
    /// # Errors
    /// [`LockError::Unavailable`]. It is then open whether the lock remembers; either is safe, for
    /// `first` was not used.
    fn store(&mut self, incarnation: &str, first: FencingToken) -> Result<(), LockError>;

    /// See [`Guard::check`]. For locks that cannot be lost, nothing.
    ///
    /// # Errors
    /// [`LockError::Lost`], [`LockError::Unavailable`].
    fn check(&mut self) -> Result<(), LockError> {
        Ok(())
    }

    /// See [`Guard::sealed`]. For locks whose grants do not expire, nothing.
    fn sealed(&mut self) {}

    /// See [`Guard::is_wanted`]. For locks that do not [tell
    /// holders](DistributedLock::tells_holders), always.
    ///
    /// # Errors
    /// [`LockError::Unavailable`].
    fn is_wanted(&mut self, _known_within: Duration) -> Result<bool, LockError> {
        Ok(true)
    }

    /// See [`Guard::end_turn`]. Usually the same as dropping it.
    fn end_turn(self: Box<Self>) {}
}

/// A grant of the lock, given back on drop.
///
/// The holder of an exclusive grant compares it with the graph's row before it writes. The token is
/// good when there is one, its epoch is the row's, and the [incarnation](Guard::incarnation) is the
/// one that the row remembers. If not, the holder commits a transaction that raises the row's epoch
/// above both, seals it as the fence and remembers the incarnation, and then calls [`Guard::seed`].
#[must_use = "the lock is given back as soon as its guard is dropped"]
pub struct Guard {
    mode: Mode,
    incarnation: Option<String>,
    token: Option<FencingToken>,
    after_expiry: bool,
    is_kept: bool,
    held: Box<dyn Held>,
}

impl Guard {
    /// A shared grant. For implementations.
    pub fn shared(held: Box<dyn Held>) -> Self {
        Self {
            mode: Mode::Shared,
            incarnation: None,
            token: None,
            after_expiry: false,
            is_kept: false,
            held,
        }
    }

    /// An exclusive grant; without a token, it wants seeding. For implementations.
    pub fn exclusive(
        held: Box<dyn Held>,
        incarnation: String,
        token: Option<FencingToken>,
    ) -> Self {
        Self {
            mode: Mode::Exclusive,
            incarnation: Some(incarnation),
            token,
            after_expiry: false,
            is_kept: false,
            held,
        }
    }

    /// The same, kept since an earlier turn of this process. For implementations.
    pub fn kept(self) -> Self {
        Self { is_kept: true, ..self }
    }

    /// The same, gained because the lease of an earlier holder ran out. For implementations.
    pub fn after_expiry(self) -> Self {
        Self { after_expiry: true, ..self }
    }

    /// How the lock is held.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Which run of the lock's own memory gave this grant; `None` for a shared one. The database
    /// remembers the run that it has seeded: another one may have forgotten tokens.
    #[must_use]
    pub fn incarnation(&self) -> Option<&str> {
        self.incarnation.as_deref()
    }

    /// The token of an exclusive grant. `None` when the lock's memory is new, damaged or used up,
    /// and must be seeded from the database first; always `None` for a shared grant.
    #[must_use]
    pub fn token(&self) -> Option<FencingToken> {
        self.token
    }

    /// Whether an earlier turn of this process had the same grant, and so the same token.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Opens `epoch` in the lock and returns its first token. Call it after the database has raised
    /// its own epoch to `epoch` in a committed transaction, never before: the lock would give
    /// tokens that the database may forget.
    ///
    /// # Errors
    /// [`LockError::NotExclusive`], [`LockError::EpochOutOfRange`], [`LockError::Lost`], or
    /// [`LockError::Unavailable`]; after the last the guard has no token, and the same epoch may be
    /// tried again.
    pub fn seed(&mut self, epoch: u32) -> Result<FencingToken, LockError> {
        let Some(incarnation) = self.incarnation.as_deref() else {
            return Err(LockError::NotExclusive);
        };
        let least = self.token.map_or(0, |token| token.epoch() + 1);
        let first = FencingToken::new(epoch, 1)
            .filter(|_| epoch >= least)
            .ok_or(LockError::EpochOutOfRange { epoch, least, most: FencingToken::MAX_EPOCH })?;
        // The database has moved on: whatever the lock answers, the former token is not to be used
        // any more.
        self.token = None;
        self.held.store(incarnation, first)?;
        self.token = Some(first);
        Ok(first)
    }

    /// Whether an earlier holder was not heard of until its lease ran out, and nobody has sealed a
    /// token in the database since. That holder may wake up and write. So the database must be told
    /// first, in a committed transaction, that nothing below this guard's token is to be taken any
    /// more; then call [`sealed`](Self::sealed). Raising the epoch does as well.
    #[must_use]
    pub fn must_seal(&self) -> bool {
        self.after_expiry
    }

    /// Says that the database has committed this guard's token, or an epoch, as the least that it
    /// takes.
    pub fn sealed(&mut self) {
        self.after_expiry = false;
        self.held.sealed();
    }

    /// Makes sure that the lock has not been lost since it was granted, as far as that can be told:
    /// whoever is about to commit asks first. At most one round trip.
    ///
    /// # Errors
    /// [`LockError::Lost`] or [`LockError::Unavailable`] when it was, or may have been, for good:
    /// write nothing more under this guard.
    pub fn check(&mut self) -> Result<(), LockError> {
        self.held.check()
    }

    /// Whether another request waits for what this guard holds, as far as the lock has said. Asks
    /// it, in one round trip, only if it has said nothing for longer than `known_within`. Once
    /// wanted, a grant stays wanted.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] if the lock does not answer.
    pub fn is_wanted(&mut self, known_within: Duration) -> Result<bool, LockError> {
        self.held.is_wanted(known_within)
    }

    /// Ends a turn that went well. A [kept] lock may keep the grant for the next turn of this
    /// process; every other lock is given back, as it is when the guard is dropped.
    pub fn end_turn(self) {
        self.held.end_turn();
    }

    /// Gives the lock back. The same as dropping the guard, for where that should be seen. A reader
    /// that shared a [kept] grant leaves that.
    pub fn release(self) {}
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("mode", &self.mode)
            .field("incarnation", &self.incarnation)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Why a lock was not granted, or could not be seeded.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Others held the lock for the whole time that the caller was ready to wait. Nothing was done:
    /// tell the client to come back later.
    #[error("the lock was not free within {} ms", waited.as_millis())]
    Timeout {
        /// How long the caller waited; not less than it had asked for.
        waited: Duration,
    },
    /// The lock cannot be reached or used: a directory that is gone or full, a server away. Nothing
    /// was done: fail closed, and try again later. An operator may have to act on `what` and
    /// `source`.
    #[error("the lock is not available: {what}: {source}")]
    Unavailable {
        /// What was being done, and to what.
        what: String,
        /// What came of it. Errors of other kinds come wrapped.
        source: io::Error,
    },
    /// The lock was granted, and is held no more: its lease ran out, or may have. Nothing was done
    /// under it; take it again.
    #[error("the lock was lost: {what}")]
    Lost {
        /// How that is known.
        what: &'static str,
    },
    /// The key is not one: see [`LockKey`]. A mistake of the caller.
    #[error("`{key}` names no lock: a database is 1 to 64 of 0-9a-f-, a graph is not negative")]
    InvalidKey {
        /// The key as it came.
        key: LockKey,
    },
    /// A shared grant was to be seeded. A mistake of the caller: only writers have tokens.
    #[error("only an exclusive grant can be seeded")]
    NotExclusive,
    /// The epoch is not above the one that the lock is in, or beyond the last. The caller raises
    /// the database's epoch above both its own and the token's first. At the last one a graph can
    /// be exported and created anew.
    #[error("epoch {epoch} is not between {least} and {most}")]
    EpochOutOfRange {
        /// The epoch asked for.
        epoch: u32,
        /// The least that would have risen.
        least: u32,
        /// The last there is.
        most: u32,
    },
}
