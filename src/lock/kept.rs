//! A lock whose exclusive grants are kept from one turn to the next while nobody else wants them,
//! so that a process that writes alone asks the lock's server rarely.
//!
//! **How it takes turns.** Threads of this process pass a gate, one for each key. Whoever is in
//! front takes over the grant that the last turn has left, or else acquires one from the lock
//! behind this one. When its turn [ends](Guard::end_turn), the grant is left for the next, unless
//! another process waits for it or it has been kept for long enough. A guard that is dropped
//! without that is given back: the turn failed, and perhaps was cut short.
//!
//! **When others wait.** They tell the holder by a message, which a thread of this file listens
//! for; an idle grant is then given back at once, and one in use when its turn ends. Messages may
//! be lost, so a turn that ends also asks the lock, if that has not been asked for a while. Nobody
//! waits for longer than [`KeepLimits::look_every`] and one turn.
//!
//! **Readers of this process** that come for the shared lock while a grant is kept use that one
//! after another, between the turns of writers. Otherwise they would make their own process give it
//! back.
//!
//! **What it costs.** Nothing but a mutex for a turn that takes over a grant. A grant holds a
//! token; all turns under it have the same.
//!
//! **What it does not do.** It cannot make a grant last: a process that is stopped while it keeps
//! one is missed for as long as one that is stopped in a turn, and its lease ends in the same way.
//! A turn makes sure of the grant before it writes, and the database decides in the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Opts};

use super::by_key::ByKey;
use super::gate::{Deadline, Gate, lock};
use super::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
};
use crate::failpoint;

/// For how long grants are kept.
#[derive(Debug, Clone, Copy)]
pub struct KeepLimits {
    /// After its last turn; at least a millisecond.
    pub idle: Duration,
    /// In all, from when it was acquired: then it is given back when its turn ends, whether or not
    /// another process is known to wait.
    pub time: Duration,
    /// How many turns may use one grant.
    pub turns: u32,
    /// A turn that ends asks the lock whether another process waits, if the lock has said nothing
    /// for so long.
    pub look_every: Duration,
}

impl Default for KeepLimits {
    fn default() -> Self {
        Self {
            idle: Duration::from_millis(20),
            time: Duration::from_secs(1),
            turns: 256,
            look_every: Duration::from_millis(10),
        }
    }
}

/// The lock. See the module.
pub struct KeptLock {
    keeper: Arc<Keeper>,
}

impl KeptLock {
    /// Keeps the grants of `lock`, which must [tell holders](DistributedLock::tells_holders) that
    /// others wait.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] if the thread that gives grants back cannot be started.
    pub fn over(lock: Arc<dyn DistributedLock>, limits: KeepLimits) -> Result<Self, LockError> {
        let keeper = Arc::new(Keeper {
            lock,
            limits,
            slots: ByKey::default(),
            watch: Mutex::default(),
            to_watch: Condvar::new(),
            closing: AtomicBool::new(false),
            metrics: Metrics::new(),
        });
        let of_thread = Arc::clone(&keeper);
        let thread = thread::Builder::new().name("lock-keeper".to_owned());
        thread.spawn(move || of_thread.run()).map_err(|source| LockError::Unavailable {
            what: "cannot start a thread".to_owned(),
            source,
        })?;
        Ok(Self { keeper })
    }
}

/// Gives back what is kept.
impl Drop for KeptLock {
    fn drop(&mut self) {
        let keeper = &self.keeper;
        keeper.closing.store(true, Ordering::SeqCst);
        let watched = std::mem::take(&mut *lock(&keeper.watch));
        keeper.to_watch.notify_all();
        for slot in watched.into_values() {
            keeper.give_back(slot.take(), Reason::Closing);
        }
    }
}

impl DistributedLock for KeptLock {
    fn identity(&self) -> LockIdentity {
        self.keeper.lock.identity()
    }

    fn acquire(&self, key: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError> {
        let keeper = &self.keeper;
        key.check()?;
        let deadline = Deadline::after(wait);
        let slot = keeper.slots.get(key, |slot| !slot.keeps(), || Slot::new(key.clone()));
        if mode == Mode::Shared && !slot.is_in_use.load(Ordering::SeqCst) && !slot.keeps() {
            return keeper.lock.acquire(key, mode, deadline.remaining());
        }
        let Some(place) = slot.gate.enter(&deadline) else {
            return Err(LockError::Timeout { waited: deadline.waited() });
        };
        let kept = keeper.take_over(&slot);
        if kept.is_none() && mode == Mode::Shared {
            drop(place);
            return keeper.lock.acquire(key, mode, deadline.remaining());
        }
        let grant = match kept {
            Some(grant) => grant,
            None => {
                let guard = keeper.lock.acquire(key, mode, deadline.remaining())?;
                let now = Instant::now();
                KeptGrant { guard, since: now, idle_since: now, turns: 0 }
            }
        };
        place.keep();
        let in_use = InUse { keeper: Arc::clone(keeper), slot, grant: Some(grant), mode };
        in_use.slot.is_in_use.store(true, Ordering::SeqCst);
        Ok(in_use.into_guard())
    }

    fn ping(&self) -> Result<(), LockError> {
        self.keeper.lock.ping()
    }

    fn inspect(&self, key: &LockKey) -> Result<Inspection, LockError> {
        self.keeper.lock.inspect(key)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut collectors = self.keeper.lock.collectors();
        collectors.extend(self.keeper.metrics.collectors());
        collectors
    }
}

/// What the threads of a process share.
struct Keeper {
    lock: Arc<dyn DistributedLock>,
    limits: KeepLimits,
    slots: ByKey<Slot>,
    /// Where a grant is kept, or was a moment ago.
    watch: Mutex<HashMap<LockKey, Arc<Slot>>>,
    to_watch: Condvar,
    closing: AtomicBool,
    metrics: Metrics,
}

/// What a process has of one key.
struct Slot {
    key: LockKey,
    gate: Gate,
    kept: Mutex<Option<KeptGrant>>,
    /// Whether a turn of this process uses a grant.
    is_in_use: AtomicBool,
    is_watched: AtomicBool,
}

/// An exclusive grant that turns of this process use one after another.
struct KeptGrant {
    guard: Guard,
    since: Instant,
    /// When the last turn under it ended.
    idle_since: Instant,
    turns: u32,
}

impl Slot {
    fn new(key: LockKey) -> Self {
        let (gate, kept) = (Gate::default(), Mutex::default());
        Self { key, gate, kept, is_in_use: false.into(), is_watched: false.into() }
    }

    fn keeps(&self) -> bool {
        lock(&self.kept).is_some()
    }

    fn take(&self) -> Option<KeptGrant> {
        lock(&self.kept).take()
    }
}

/// Why a grant was given back.
#[derive(Clone, Copy)]
enum Reason {
    Wanted,
    Idle,
    /// It was kept for as long, or for as many turns, as may be.
    Limit,
    /// It was lost, or the lock did not say that it was not.
    Doubtful,
    Closing,
}

impl Keeper {
    /// The grant that is kept, if a turn may begin under it. Whoever calls has the place in front.
    fn take_over(&self, slot: &Slot) -> Option<KeptGrant> {
        let mut grant = slot.take()?;
        if let Some(reason) = self.reason_to_end(&mut grant, Duration::MAX) {
            self.give_back(Some(grant), reason);
            return None;
        }
        self.metrics.taken_over.inc();
        Some(grant)
    }

    /// Why no further turn may begin under the grant; `None` if one may.
    fn reason_to_end(&self, grant: &mut KeptGrant, known_within: Duration) -> Option<Reason> {
        let Self { limits, .. } = self;
        if self.closing.load(Ordering::SeqCst) {
            return Some(Reason::Closing);
        }
        if grant.turns >= limits.turns || grant.since.elapsed() >= limits.time {
            return Some(Reason::Limit);
        }
        match grant.guard.is_wanted(known_within) {
            Ok(false) => grant.guard.check().err().map(|_| Reason::Doubtful),
            Ok(true) => Some(Reason::Wanted),
            Err(_) => Some(Reason::Doubtful),
        }
    }

    /// Leaves the grant for the next turn, or gives it back.
    fn keep(&self, slot: &Arc<Slot>, mut grant: KeptGrant) {
        let looks = !failpoint::is_off("lock.kept.look");
        let known_within = if looks { self.limits.look_every } else { Duration::MAX };
        if let Some(reason) = self.reason_to_end(&mut grant, known_within) {
            return self.give_back(Some(grant), reason);
        }
        *lock(&slot.kept) = Some(grant);
        if !slot.is_watched.swap(true, Ordering::SeqCst) {
            lock(&self.watch).insert(slot.key.clone(), Arc::clone(slot));
            self.to_watch.notify_all();
        }
        // It may have been closed meanwhile, and have missed this grant.
        if self.closing.load(Ordering::SeqCst) {
            self.give_back(slot.take(), Reason::Closing);
        }
    }

    fn give_back(&self, grant: Option<KeptGrant>, reason: Reason) {
        if let Some(grant) = grant {
            self.metrics.given_back(reason).inc();
            grant.guard.release();
        }
    }

    /// The thread: gives back what was idle for long enough, or what others want, until the lock is
    /// closed.
    fn run(&self) {
        while !self.closing.load(Ordering::SeqCst) {
            let watch = lock(&self.watch);
            let watched: Vec<Arc<Slot>> = watch.values().cloned().collect();
            if watched.is_empty() {
                let limit = Deadline::after(PARKED_FOR);
                let something = |watch: &mut HashMap<_, _>| {
                    let closing = self.closing.load(Ordering::SeqCst);
                    (!watch.is_empty() || closing).then_some(())
                };
                let _ = limit.wait_for(&self.to_watch, watch, something);
                continue;
            }
            drop(watch);
            let next = watched.iter().map(|slot| self.look_at(slot)).min();
            self.lock.listen_for_others(next.unwrap_or(self.limits.idle).max(SHORTEST_WAIT));
        }
    }

    /// Gives back what is kept there if that is due. Returns how long until it may be due.
    fn look_at(&self, slot: &Arc<Slot>) -> Duration {
        let Self { limits, .. } = self;
        let (due, reason) = {
            let mut kept = lock(&slot.kept);
            match &mut *kept {
                None => {
                    drop(kept);
                    if !slot.is_in_use.load(Ordering::SeqCst) {
                        self.forget(slot);
                    }
                    return limits.idle;
                }
                Some(grant) => {
                    let idle = grant.idle_since.elapsed();
                    // Asks nobody, so the mutex may be held.
                    let is_wanted = grant.guard.is_wanted(Duration::MAX).unwrap_or(true);
                    let is_idle = idle >= limits.idle && !failpoint::is_off("lock.kept.idle");
                    if !is_wanted && !is_idle {
                        return limits.idle.saturating_sub(idle);
                    }
                    (kept.take(), if is_wanted { Reason::Wanted } else { Reason::Idle })
                }
            }
        };
        self.give_back(due, reason);
        limits.idle
    }

    /// Looks at the slot no more, until a grant is kept there.
    fn forget(&self, slot: &Arc<Slot>) {
        let mut watch = lock(&self.watch);
        slot.is_watched.store(false, Ordering::SeqCst);
        // Under the mutex: whoever keeps a grant now comes after.
        if slot.keeps() {
            slot.is_watched.store(true, Ordering::SeqCst);
        } else {
            watch.remove(&slot.key);
        }
    }
}

/// How long the thread waits for something to look after before it looks by itself.
const PARKED_FOR: Duration = Duration::from_secs(1);
/// The shortest time for which it listens.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// A grant in use by one turn, which has the place in front.
struct InUse {
    keeper: Arc<Keeper>,
    slot: Arc<Slot>,
    /// `None` once it was left or given back.
    grant: Option<KeptGrant>,
    mode: Mode,
}

impl InUse {
    fn into_guard(self) -> Guard {
        let guard = self.grant.as_ref().map(|grant| &grant.guard);
        let (incarnation, token) = guard
            .map(|guard| (guard.incarnation().unwrap_or_default().to_owned(), guard.token()))
            .unwrap_or_default();
        let must_seal = guard.is_some_and(Guard::must_seal);
        match self.mode {
            Mode::Shared => Guard::shared(Box::new(self)),
            Mode::Exclusive => {
                let guard = Guard::exclusive(Box::new(self), incarnation, token);
                if must_seal { guard.after_expiry() } else { guard }
            }
        }
    }

    fn guard(&mut self) -> Result<&mut Guard, LockError> {
        let gone = LockError::Lost { what: "it was given back" };
        self.grant.as_mut().map(|grant| &mut grant.guard).ok_or(gone)
    }
}

impl Held for InUse {
    fn store(&mut self, _incarnation: &str, first: FencingToken) -> Result<(), LockError> {
        self.guard()?.seed(first.epoch()).map(drop)
    }

    fn check(&mut self) -> Result<(), LockError> {
        self.guard()?.check()
    }

    fn sealed(&mut self) {
        if let Ok(guard) = self.guard() {
            guard.sealed();
        }
    }

    fn is_wanted(&mut self, known_within: Duration) -> Result<bool, LockError> {
        self.guard()?.is_wanted(known_within)
    }

    fn end_turn(mut self: Box<Self>) {
        let Some(mut grant) = self.grant.take() else { return };
        if self.mode == Mode::Exclusive {
            grant.turns += 1;
            grant.idle_since = Instant::now();
        }
        self.keeper.keep(&self.slot, grant);
    }
}

/// Gives back the grant, unless the turn has left it, and then the place in front.
impl Drop for InUse {
    fn drop(&mut self) {
        if self.mode == Mode::Shared {
            // Its reader wrote nothing that could have been cut short.
            if let Some(grant) = self.grant.take() {
                self.keeper.keep(&self.slot, grant);
            }
        }
        drop(self.grant.take());
        self.slot.is_in_use.store(false, Ordering::SeqCst);
        self.slot.gate.pass_on();
    }
}

struct Metrics {
    /// Turns that needed no grant of their own.
    taken_over: IntCounter,
    given_back: IntCounterVec,
}

impl Metrics {
    fn new() -> Self {
        let counter =
            |name: &str, help: &str| IntCounter::new(name, help).expect("the name is valid");
        let options = Opts::new(
            "fencepost_lock_grants_ended_total",
            "Grants of the lock that were not kept for another turn, by reason",
        );
        Self {
            taken_over: counter(
                "fencepost_lock_grants_kept_total",
                "Turns that used the grant of an earlier turn of this node",
            ),
            given_back: IntCounterVec::new(options, &["reason"]).expect("the name is valid"),
        }
    }

    fn given_back(&self, reason: Reason) -> IntCounter {
        self.given_back.with_label_values(&[match reason {
            Reason::Wanted => "wanted",
            Reason::Idle => "idle",
            Reason::Limit => "limit",
            Reason::Doubtful => "doubtful",
            Reason::Closing => "closing",
        }])
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.taken_over.clone()), Box::new(self.given_back.clone())]
    }
}
