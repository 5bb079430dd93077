//! Turns by the distributed lock: one writer at a time on each graph, whichever node it is on.
//!
//! **How it takes turns.** It acquires the graph's lock and with it a fencing token, seals that in
//! the database if the lock was gained because a lease ran out, brings the image to the store's
//! version, decides, makes sure that the lock is still held, and writes on the condition that
//! neither the version nor a larger token came in between. The turn ends when all are answered.
//!
//! A token that directly follows this node's own last one tells that nobody else had the lock in
//! between. Then the turn decides on the image that it has, without a look at the store, and its
//! write confirms that; a batch that writes nothing looks before it answers. A lock that tells its
//! holders when others wait is [kept](crate::lock::kept) for the next turn of this node, with the
//! same token.
//!
//! **What it costs.** One round trip to the lock before the turn and one, which nobody waits for,
//! after it, unless the lock was kept; one to look at the store, if another node had the lock; and
//! the write. Under contention a turn waits for the turns of other nodes, in the lock's order.
//!
//! **What it does not do.** The lock does not keep the rules: a holder can stall for longer than
//! its lease and be replaced. The conditional write stops it, since the version moved; the token
//! only makes it known as a stale holder, whose turn is taken again.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lru::LruCache;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter};

use super::Reads;
use crate::db::watch::{self, Reclaimable};
use crate::failpoint;
use crate::graph::Name;
use crate::lock::gate::lock;
use crate::lock::kept::{KeepLimits, KeptLock};
use crate::lock::{DistributedLock, FencingToken, Guard, LockError, LockKey, Mode};
use crate::service::{
    Held, Refreshed, Refusal, Retry, Served, Turn, TurnError, Turns, duration_buckets, observe,
};
use crate::store::{CommitError, Fence, Head, Store};

/// Limits of turns under the lock.
#[derive(Debug, Clone, Copy)]
pub struct LockedLimits {
    /// How long a turn waits for the lock.
    pub wait: Duration,
    /// How often a turn is taken again after its write was refused: its token was old, or another
    /// write came first.
    pub retries: usize,
    /// For how long a grant is kept from one turn to the next, if the lock tells its holders that
    /// others wait. `None`: every turn acquires the lock.
    pub keep: Option<KeepLimits>,
}

impl Default for LockedLimits {
    fn default() -> Self {
        // The wait is a second more than the lease of a lock that has one.
        let keep = Some(KeepLimits::default());
        Self { wait: Duration::from_secs(6), retries: 3, keep }
    }
}

/// Turns under a lock.
pub struct Locked {
    lock: Arc<dyn DistributedLock>,
    database_id: String,
    reads: Reads,
    limits: LockedLimits,
    metrics: LockMetrics,
    /// The grant of this node's last turn on each graph, by the graph's row id.
    last_grants: Mutex<LruCache<i64, Grant>>,
}

/// Which grant of the lock it was.
#[derive(Clone, PartialEq, Eq)]
struct Grant {
    incarnation: String,
    token: FencingToken,
}

/// Graphs of which the last grant is remembered.
const GRAPHS_REMEMBERED: NonZeroUsize = NonZeroUsize::new(4_096).expect("it is not zero");

impl Locked {
    /// Turns under the lock that guards `store`.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] if the thread that looks after kept grants cannot be started.
    pub fn new(
        lock: Arc<dyn DistributedLock>,
        store: &Store,
        reads: Reads,
        limits: LockedLimits,
    ) -> Result<Self, LockError> {
        let lock = match limits.keep {
            Some(keep) if lock.tells_holders() => Arc::new(KeptLock::over(lock, keep)?),
            _ => lock,
        };
        let (database_id, metrics) = (store.database_id().to_owned(), LockMetrics::new());
        let last_grants = Mutex::new(LruCache::new(GRAPHS_REMEMBERED));
        Ok(Self { lock, database_id, reads, limits, metrics, last_grants })
    }
}

impl Turns for Locked {
    fn serve(&self, turn: &Turn<'_>) -> Result<Served, TurnError> {
        let mut held = self.hold(turn.graph_id(), Mode::Exclusive)?;
        failpoint::pass("after-acquire");
        let sealed = self.seal_after_expiry(turn, &mut held)?;
        failpoint::pass("after-seal");
        let at_hand = if sealed.is_none() { self.at_hand(turn, &mut held)? } else { None };
        let (read, token) = match at_hand {
            Some(at_hand) => at_hand,
            None => {
                let mut read = turn.refresh()?;
                let token = self.token_of_turn(turn, &mut held, &mut read, sealed)?;
                (read, token)
            }
        };
        self.remember(turn, &mut held, token)?;
        let decisions = turn.decide(read)?;
        if decisions.need_commit() {
            held.check()?;
            turn.commit(&decisions, Fence::Token(token.as_i64()))?;
        } else {
            turn.confirm(&decisions)?;
        }
        held.went_well = true;
        Ok(decisions.served_under(held))
    }

    /// A lost turn is taken again at once: the lock makes room for it.
    fn retry(&self, graph: &Name, error: &TurnError, attempt: usize) -> Retry {
        match error {
            TurnError::Commit(CommitError::KeyTaken { .. }) => {}
            // As usual where nodes that take no lock write beside this one: it is counted.
            TurnError::Outdated | TurnError::Commit(CommitError::Conflict { .. }) => {
                log::debug!("graph `{graph}`: a write did not hold: {error}");
            }
            _ => log::warn!("graph `{graph}`: a write did not hold: {error}"),
        }
        if attempt == self.limits.retries { Retry::GiveUp } else { Retry::Now }
    }

    fn read_guard(&self, graph_id: i64) -> Result<Option<Held>, Refusal> {
        if self.reads == Reads::Snapshot {
            return Ok(None);
        }
        Ok(Some(Box::new(self.hold(graph_id, Mode::Shared)?)))
    }

    fn ready(&self) -> Result<(), Refusal> {
        Ok(self.lock.ping()?)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        [self.metrics.collectors(), self.lock.collectors()].into_iter().flatten().collect()
    }
}

impl Locked {
    fn hold(&self, graph_id: i64, mode: Mode) -> Result<HeldLock, Refusal> {
        let times = self.metrics.times(mode);
        let began = Instant::now();
        let key = LockKey::new(&*self.database_id, graph_id)?;
        let guard = Reclaimable::new(self.lock.acquire(&key, mode, self.limits.wait)?);
        observe(&times.wait, began.elapsed());
        let hold = times.hold.clone();
        Ok(HeldLock { guard, since: Instant::now(), hold, went_well: false })
    }

    /// If the lock was granted because the former holder's lease expired, seals this turn's token
    /// first, so that the database refuses the former holder's writes. Returns the sealed token, if
    /// any.
    fn seal_after_expiry(
        &self,
        turn: &Turn<'_>,
        held: &mut HeldLock,
    ) -> Result<Option<FencingToken>, TurnError> {
        if !held.must_seal()? || failpoint::is_off("seal-on-expiry") {
            return Ok(None);
        }
        let Some(mut head) = turn.head()? else { return Ok(None) };
        let token = self.trusted_token(turn, held, &mut head)?;
        if held.must_seal()? {
            turn.store().seal(&head, token.as_i64())?;
            held.with(|guard| {
                guard.sealed();
                Ok(())
            })?;
        }
        self.metrics.seals.inc();
        log::warn!(
            "graph `{}`: a lease ran out; its holder is fenced off by token {token}",
            turn.graph()
        );
        Ok(Some(token))
    }

    /// The graph as this process has it and the token of this turn, if nobody else had the lock
    /// since this node's last turn, and the token is to be trusted. A kept grant has the token of
    /// that turn, a new one the token after it.
    fn at_hand(
        &self,
        turn: &Turn<'_>,
        held: &mut HeldLock,
    ) -> Result<Option<(Refreshed, FencingToken)>, TurnError> {
        let Some(Grant { incarnation, token }) = held.grant()? else { return Ok(None) };
        let last = lock(&self.last_grants).get(&turn.graph_id()).cloned();
        let Some(last) = last.filter(|last| last.incarnation == incarnation) else {
            return Ok(None);
        };
        let is_kept = held.is_kept()?;
        let follows = token.follows(last.token) || (is_kept && token == last.token);
        let trusted = |read: &Refreshed| is_trusted(token, &incarnation, is_kept, &read.head);
        let read = turn.at_hand().filter(|read| follows && trusted(read));
        Ok(read.map(|read| (read, token)))
    }

    /// Remembers the grant of this turn, for the next one.
    fn remember(
        &self,
        turn: &Turn<'_>,
        held: &mut HeldLock,
        token: FencingToken,
    ) -> Result<(), TurnError> {
        if let Some(grant) = held.grant()? {
            lock(&self.last_grants).put(turn.graph_id(), Grant { token, ..grant });
        }
        Ok(())
    }

    /// The token of this turn: the one that was sealed, if the fence still is that one.
    fn token_of_turn(
        &self,
        turn: &Turn<'_>,
        held: &mut HeldLock,
        read: &mut Refreshed,
        sealed: Option<FencingToken>,
    ) -> Result<FencingToken, TurnError> {
        match sealed {
            Some(token) if read.head.fence == token.as_i64() => Ok(token),
            _ => self.trusted_token(turn, held, &mut read.head),
        }
    }

    /// The token of the guard, after making sure that it is larger than every one given before: the
    /// database is asked whether it knows the run of the lock that gave it, and if not, raises its
    /// epoch and seals it before anything is written. `head` then has the new epoch and fence.
    fn trusted_token(
        &self,
        turn: &Turn<'_>,
        held: &mut HeldLock,
        head: &mut Head,
    ) -> Result<FencingToken, TurnError> {
        let (incarnation, token) = held.with(|guard| {
            Ok((guard.incarnation().unwrap_or_default().to_owned(), guard.token()))
        })?;
        let is_kept = held.is_kept()?;
        let trusted = |token: &FencingToken| is_trusted(*token, &incarnation, is_kept, head);
        if let Some(token) = token.filter(trusted) {
            return Ok(token);
        }
        // A token that is behind the fence may also be that of a holder who has lost the lock
        // meanwhile: such a one must not raise anything.
        held.check()?;
        let last = token.map_or(0, FencingToken::epoch).max(head.epoch);
        let exhausted = || Refusal::Internal { what: "the lock's epochs are used up".to_owned() };
        let epoch = last + 1;
        let fence = FencingToken::new(epoch, 0).ok_or_else(exhausted)?;
        let raised = turn.store().raise_epoch(head, epoch, fence.as_i64(), &incarnation)?;
        self.metrics.epochs_raised.inc();
        log::info!(
            "graph `{}`: the lock's state was new or behind; its tokens are of epoch {epoch} from \
             here on",
            turn.graph()
        );
        let token = held.with(|guard| {
            guard.sealed();
            Ok(guard.seed(epoch)?)
        })?;
        // The image is of the version that was read: a write that came in between must be found by
        // the comparison.
        head.epoch = raised.epoch;
        head.fence = raised.fence;
        head.lock_incarnation = raised.lock_incarnation;
        Ok(token)
    }
}

/// Whether the database knows the run of the lock that gave the token, and the token is larger than
/// every one that it has seen. The token of a kept grant may be the largest that it has seen.
fn is_trusted(token: FencingToken, incarnation: &str, is_kept: bool, head: &Head) -> bool {
    token.epoch() == head.epoch
        && incarnation == head.lock_incarnation
        && (token.as_i64() > head.fence || (is_kept && token.as_i64() == head.fence))
}

/// What only turns under the lock measure.
struct LockMetrics {
    wait: HistogramVec,
    hold: HistogramVec,
    /// Looked up once: every turn observes them.
    shared: LockTimes,
    exclusive: LockTimes,
    /// Epochs raised for a lock whose state was new or not to be trusted.
    epochs_raised: IntCounter,
    /// Turns that began with a token sealed in the database, as a lease had run out.
    seals: IntCounter,
}

/// How long the lock is waited for and held in one mode.
struct LockTimes {
    /// Waiting for the lock, until it was granted.
    wait: Histogram,
    /// From the grant of the lock until the turn ended.
    hold: Histogram,
}

impl LockMetrics {
    fn new() -> Self {
        let timed = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(duration_buckets());
            HistogramVec::new(options, &["mode"]).expect("the name is valid")
        };
        let wait = timed("fencepost_lock_wait_seconds", "Waiting for the graph's lock");
        let hold = timed("fencepost_lock_hold_seconds", "Holding the graph's lock");
        let times = |mode: Mode| {
            let of_mode = [mode.word()];
            let (wait, hold) = (wait.with_label_values(&of_mode), hold.with_label_values(&of_mode));
            LockTimes { wait, hold }
        };
        let counter =
            |name: &str, help: &str| IntCounter::new(name, help).expect("the name is valid");
        Self {
            shared: times(Mode::Shared),
            exclusive: times(Mode::Exclusive),
            wait,
            hold,
            epochs_raised: counter(
                "fencepost_epochs_raised_total",
                "Epochs raised for a lock with unknown state",
            ),
            seals: counter(
                "fencepost_tokens_sealed_total",
                "Tokens sealed because a holder's lease had run out",
            ),
        }
    }

    fn times(&self, mode: Mode) -> &LockTimes {
        match mode {
            Mode::Shared => &self.shared,
            Mode::Exclusive => &self.exclusive,
        }
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let Self { wait, hold, epochs_raised, seals, .. } = self;
        vec![
            Box::new(wait.clone()),
            Box::new(hold.clone()),
            Box::new(epochs_raised.clone()),
            Box::new(seals.clone()),
        ]
    }
}

/// The lock of a turn, and how long it is held.
struct HeldLock {
    guard: Reclaimable<Guard>,
    since: Instant,
    hold: Histogram,
    /// Whether the turn was served, so that the next may have the same grant.
    went_well: bool,
}

impl HeldLock {
    fn must_seal(&mut self) -> Result<bool, TurnError> {
        self.with(|guard| Ok(guard.must_seal()))
    }

    fn is_kept(&mut self) -> Result<bool, TurnError> {
        self.with(|guard| Ok(guard.is_kept()))
    }

    /// `None` if the lock gave no token.
    fn grant(&mut self) -> Result<Option<Grant>, TurnError> {
        self.with(|guard| {
            let incarnation = guard.incarnation().unwrap_or_default();
            Ok(guard.token().map(|token| Grant { incarnation: incarnation.to_owned(), token }))
        })
    }

    /// Makes sure that the lock has not been lost, as far as that can be told.
    fn check(&mut self) -> Result<(), TurnError> {
        if failpoint::is_off("lock-check") {
            return Ok(());
        }
        self.with(|guard| Ok(guard.check()?))
    }

    /// Runs `body` on the guard, unless it was given back because the database did not answer. It
    /// must ask the database nothing: meanwhile the guard cannot be given back.
    fn with<T>(
        &mut self,
        body: impl FnOnce(&mut Guard) -> Result<T, TurnError>,
    ) -> Result<T, TurnError> {
        let given_back = || Refusal::DatabaseUnavailable { what: watch::NO_ANSWER.to_owned() };
        self.guard.with(body).ok_or_else(given_back)?
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        observe(&self.hold, self.since.elapsed());
        // Unless the watchdog has given it back: then the turn is cut short.
        if let Some(guard) = self.guard.take().filter(|_| self.went_well) {
            guard.end_turn();
        }
    }
}
