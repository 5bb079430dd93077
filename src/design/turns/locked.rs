//! Turns by the distributed lock: one writer at a time on each graph, whichever node it is on.
//!
//! **How it takes turns.** It acquires the graph's lock and with it a fencing token, seals that in
//! the database if the lock was gained because a lease ran out, brings the image to the store's
//! version, decides, makes sure that the lock is still held, and writes on the condition that
//! neither the version nor a larger token came in between. The lock is given back when all are
//! answered.
//!
//! **What it costs.** One round trip to the lock before the turn and one, which nobody waits for,
//! after it. Under contention a turn waits for the turns of other nodes, in the lock's order.
//!
//! **What it does not do.** The lock does not keep the rules: a holder can stall for longer than
//! its lease and be replaced. The conditional write stops it, since the version moved; the token
//! only makes it known as a stale holder, whose turn is taken again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Histogram;
use prometheus::core::Collector;

use super::{Reads, TurnLimits};
use crate::db::watch::{self, Reclaimable};
use crate::failpoint;
use crate::graph::Name;
use crate::lock::{DistributedLock, FencingToken, Guard, LockKey, Mode};
use crate::service::{
    Held, Metrics, Refreshed, Refusal, Retry, Served, Turn, TurnError, Turns, observe,
};
use crate::store::{Fence, Head, Store};

/// Turns under a lock.
pub struct Locked {
    lock: Arc<dyn DistributedLock>,
    database_id: String,
    reads: Reads,
    wait: Duration,
    retries: usize,
}

impl Locked {
    /// Turns under the lock that guards `store`.
    #[must_use]
    pub fn new(
        lock: Arc<dyn DistributedLock>,
        store: &Store,
        reads: Reads,
        limits: TurnLimits,
    ) -> Self {
        let (wait, retries) = (limits.lock_wait, limits.lock_retries);
        Self { lock, database_id: store.database_id().to_owned(), reads, wait, retries }
    }
}

impl Turns for Locked {
    fn serve(&self, turn: &Turn<'_>) -> Result<Served, TurnError> {
        let mut held = self.acquire(turn)?;
        let sealed = seal_after_expiry(turn, &mut held)?;
        failpoint::pass("after-seal");
        let mut read = turn.refresh()?;
        let token = token_of_turn(turn, &mut held, &mut read, sealed)?;
        let decisions = turn.decide(read)?;
        if decisions.need_commit() {
            held.check()?;
            turn.commit(&decisions, Fence::Token(token.as_i64()))?;
        }
        Ok(decisions.served_under(held))
    }

    /// A lost turn is taken again at once: the lock makes room for it.
    fn retry(&self, graph: &Name, error: &TurnError, attempt: usize) -> Retry {
        log::warn!("graph `{graph}`: a write did not hold: {error}");
        if attempt == self.retries { Retry::GiveUp } else { Retry::Now }
    }

    fn read_guard(&self, graph_id: i64, metrics: &Metrics) -> Result<Option<Held>, Refusal> {
        if self.reads == Reads::Snapshot {
            return Ok(None);
        }
        let (wait, hold) = (&metrics.lock_wait.shared, &metrics.lock_hold.shared);
        Ok(Some(Box::new(self.hold(graph_id, Mode::Shared, wait, hold)?)))
    }

    fn ready(&self) -> Result<(), Refusal> {
        Ok(self.lock.ping()?)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.lock.collectors()
    }
}

impl Locked {
    fn acquire(&self, turn: &Turn<'_>) -> Result<HeldLock, TurnError> {
        let (wait, hold) =
            (&turn.metrics().lock_wait.exclusive, &turn.metrics().lock_hold.exclusive);
        let held = self.hold(turn.graph_id(), Mode::Exclusive, wait, hold)?;
        failpoint::pass("after-acquire");
        Ok(held)
    }

    fn hold(
        &self,
        graph_id: i64,
        mode: Mode,
        wait: &Histogram,
        hold: &Histogram,
    ) -> Result<HeldLock, Refusal> {
        let began = Instant::now();
        let key = LockKey::new(&*self.database_id, graph_id)?;
        let guard = Reclaimable::new(self.lock.acquire(&key, mode, self.wait)?);
        observe(wait, began.elapsed());
        Ok(HeldLock { guard, since: Instant::now(), hold: hold.clone() })
    }
}

/// A turn that was gained because a holder was not heard of until its lease ran out begins with
/// this: whatever that one still sends is refused from here on. Returns the token that was sealed,
/// if that was needed.
fn seal_after_expiry(
    turn: &Turn<'_>,
    held: &mut HeldLock,
) -> Result<Option<FencingToken>, TurnError> {
    if !held.must_seal()? || failpoint::is_off("seal-on-expiry") {
        return Ok(None);
    }
    let Some(mut head) = turn.head()? else { return Ok(None) };
    let token = trusted_token(turn, held, &mut head)?;
    if held.must_seal()? {
        turn.store().seal(&head, token.as_i64())?;
        held.with(|guard| {
            guard.sealed();
            Ok(())
        })?;
    }
    turn.metrics().seals.inc();
    log::warn!(
        "graph `{}`: a lease ran out; its holder is fenced off by token {token}",
        turn.graph()
    );
    Ok(Some(token))
}

/// The token of this turn: the one that was sealed, if the fence still is that one.
fn token_of_turn(
    turn: &Turn<'_>,
    held: &mut HeldLock,
    read: &mut Refreshed,
    sealed: Option<FencingToken>,
) -> Result<FencingToken, TurnError> {
    match sealed {
        Some(token) if read.head.fence == token.as_i64() => Ok(token),
        _ => trusted_token(turn, held, &mut read.head),
    }
}

/// The token of the guard, after making sure that it is larger than every one given before: the
/// database is asked whether it knows the run of the lock that gave it, and if not, raises its
/// epoch and seals it before anything is written. `head` then has the new epoch and fence.
fn trusted_token(
    turn: &Turn<'_>,
    held: &mut HeldLock,
    head: &mut Head,
) -> Result<FencingToken, TurnError> {
    let (incarnation, token) =
        held.with(|guard| Ok((guard.incarnation().unwrap_or_default().to_owned(), guard.token())))?;
    if let Some(token) = token
        && token.epoch() == head.epoch
        && incarnation == head.lock_incarnation
        && token.as_i64() > head.fence
    {
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
    turn.metrics().epochs_raised.inc();
    log::info!(
        "graph `{}`: the lock's state was new or behind; its tokens are of epoch {epoch} from \
         here on",
        turn.graph()
    );
    let token = held.with(|guard| {
        guard.sealed();
        Ok(guard.seed(epoch)?)
    })?;
    // The image is of the version that was read: a write that came in between must be found by the
    // comparison.
    head.epoch = raised.epoch;
    head.fence = raised.fence;
    head.lock_incarnation = raised.lock_incarnation;
    Ok(token)
}

/// The lock of a turn, and how long it is held.
struct HeldLock {
    guard: Reclaimable<Guard>,
    since: Instant,
    hold: Histogram,
}

impl HeldLock {
    fn must_seal(&mut self) -> Result<bool, TurnError> {
        self.with(|guard| Ok(guard.must_seal()))
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
    }
}
