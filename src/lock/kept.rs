//! A lock whose exclusive grants are kept from one turn to the next while nobody else wants them,
//! so that a process that writes alone asks the lock's server rarely.
//!
//! **How it takes turns.** Writers of this process pass a gate, one for each key. Whoever is in
//! front takes over the grant that the last turn has left, or else acquires one from the lock
//! behind this one. When its turn [ends](Guard::end_turn), the grant is left for the next, unless
//! another process waits for it or it has been kept for long enough. A guard that is dropped
//! without that is given back: the turn failed, and perhaps was cut short.
//!
//! **When others wait.** They tell the holder by a message, which a thread of this file listens
//! for. The thread gives back an idle grant at once. A grant in use is given back when its turn
//! ends. Messages may be lost, so a turn that ends also asks the lock, if the last answer is older
//! than [`KeepLimits::look_every`].
//!
//! **Readers of this process** share the grant while it is kept. Those that come in a turn of a
//! writer wait for its end, and go before the next. If the grant is given back then, they acquire
//! the lock like all others; so one writer of another process may come before them. If they asked
//! the lock at once, they would make their own process give it back.
//!
//! **What it costs.** A turn that takes over a grant: a mutex, and one round trip in each
//! `look_every`. A grant has one token; all turns under it have the same.
//!
//! **What it does not do.** It cannot make a grant last. A process that is stopped while it keeps a
//! grant delays the others by the lease, as one that is stopped in a turn does. A turn makes sure
//! of its grant before it writes, and the database decides in the end.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
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
        watched.values().for_each(|slot| keeper.close(slot));
    }
}

impl DistributedLock for KeptLock {
    fn identity(&self) -> LockIdentity {
        self.keeper.lock.identity()
    }

    fn acquire(&self, key: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError> {
        key.check()?;
        let deadline = Deadline::after(wait);
        let keeper = &self.keeper;
        let slot = keeper.slots.get(key, Slot::is_idle, || Slot::new(key.clone()));
        let acquired = match mode {
            Mode::Shared => keeper.acquire_shared(slot, &deadline),
            Mode::Exclusive => keeper.acquire_exclusive(slot, &deadline),
        };
        // Part of the time was spent here, and part at the lock.
        acquired.map_err(|error| match error {
            LockError::Timeout { .. } => LockError::Timeout { waited: deadline.waited() },
            error => error,
        })
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
    /// Writers, one at a time.
    gate: Gate,
    state: Mutex<State>,
    changed: Condvar,
    is_watched: AtomicBool,
}

/// Held for a few assignments, never across I/O.
#[derive(Default)]
struct State {
    /// The grant that is kept. Readers of this process may be using it.
    kept: Option<KeptGrant>,
    /// How many readers use it.
    readers: usize,
    /// Whether a turn of this process has a grant, or one that has ended is being looked at.
    is_in_turn: bool,
    /// Whether a writer waits for the readers to end.
    writer_waits: bool,
    /// How many turns have ended.
    ended: u64,
    /// How many readers wait for a turn to end.
    waiting: usize,
    /// How many of them waited for one that has ended, and go before the next.
    due: usize,
}

impl State {
    /// Whether a reader that comes now must wait for a turn.
    fn holds_back_readers(&self) -> bool {
        self.is_in_turn || (self.kept.is_some() && self.writer_waits)
    }
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
        let (gate, state) = (Gate::default(), Mutex::default());
        Self { key, gate, state, changed: Condvar::new(), is_watched: false.into() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn is_idle(&self) -> bool {
        let state = self.state();
        state.kept.is_none() && !state.is_in_turn
    }

    /// Takes out the grant that is kept, if nobody uses it and `reason` says why it ends.
    fn take_unused(
        &self,
        reason: impl FnOnce(&mut KeptGrant) -> Option<Reason>,
    ) -> Option<(KeptGrant, Reason)> {
        let mut state = self.state();
        if state.readers > 0 {
            return None;
        }
        let reason = reason(state.kept.as_mut()?)?;
        let grant = state.kept.take()?;
        self.changed.notify_all();
        Some((grant, reason))
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
    /// The turn under it failed, or was given up.
    Failed,
    Closing,
}

impl Keeper {
    /// For a writer: the grant that is kept, or a new one.
    fn acquire_exclusive(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        deadline: &Deadline,
    ) -> Result<Guard, LockError> {
        let timeout = || LockError::Timeout { waited: deadline.waited() };
        let place = slot.gate.enter(deadline).ok_or_else(timeout)?;
        let mut state = slot.state();
        state.writer_waits = true;
        let readers_are_out =
            |state: &mut State| (state.readers == 0 && state.due == 0).then_some(());
        let (state, turn) = deadline.wait_for(&slot.changed, state, readers_are_out);
        drop(state);
        if turn.is_some() {
            self.end_if(&slot, |grant| self.reason_to_end(grant, Duration::MAX));
        }
        let mut state = slot.state();
        state.writer_waits = false;
        let kept = turn.and_then(|()| state.kept.take());
        // While a new grant is waited for, readers go to the lock as well.
        state.is_in_turn = kept.is_some();
        slot.changed.notify_all();
        drop(state);
        turn.ok_or_else(timeout)?;
        let grant = match kept {
            Some(grant) => {
                self.metrics.used.inc();
                grant
            }
            None => {
                let guard = self.lock.acquire(&slot.key, Mode::Exclusive, deadline.remaining())?;
                slot.state().is_in_turn = true;
                let now = Instant::now();
                KeptGrant { guard, since: now, idle_since: now, turns: 0 }
            }
        };
        place.keep();
        Ok(InTurn { keeper: Arc::clone(self), slot, grant: Some(grant) }.into_guard())
    }

    /// For a reader: the grant that is kept, together with other readers of this process, or a
    /// shared one. Waits for a turn that is under way here, and for nothing else.
    fn acquire_shared(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        deadline: &Deadline,
    ) -> Result<Guard, LockError> {
        let mut state = slot.state();
        if state.holds_back_readers() {
            state.waiting += 1;
            let came = state.ended;
            let may_go_on = |state: &mut State| {
                let is_due = state.ended > came;
                (is_due || !state.holds_back_readers()).then_some(is_due)
            };
            let (locked, was_due) = deadline.wait_for(&slot.changed, state, may_go_on);
            state = locked;
            state.waiting -= 1;
            let timeout = || LockError::Timeout { waited: deadline.waited() };
            state.due -= usize::from(was_due.ok_or_else(timeout)?);
        }
        let reason = |grant: &mut KeptGrant| self.reason_to_end(grant, Duration::MAX);
        let shares = match &mut state.kept {
            Some(grant) => reason(grant).is_none(),
            None => false,
        };
        state.readers += usize::from(shares);
        slot.changed.notify_all();
        drop(state);
        if shares {
            let reader = Reader { keeper: Arc::clone(self), slot };
            return Ok(Guard::shared(Box::new(reader)));
        }
        self.end_if(&slot, reason);
        self.lock.acquire(&slot.key, Mode::Shared, deadline.remaining())
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
        if grant.guard.check().is_err() {
            return Some(Reason::Doubtful);
        }
        match grant.guard.is_wanted(known_within) {
            Ok(false) => None,
            Ok(true) => Some(Reason::Wanted),
            Err(_) => Some(Reason::Doubtful),
        }
    }

    /// Leaves the grant for the next turn, or gives it back, and lets readers in that waited. The
    /// slot is in a turn meanwhile.
    fn end_turn(&self, slot: &Arc<Slot>, mut grant: KeptGrant) {
        let looks = !failpoint::is_off("lock.kept.look");
        let known_within = if looks { self.limits.look_every } else { Duration::MAX };
        match self.reason_to_end(&mut grant, known_within) {
            Some(reason) => self.give_back(grant, reason),
            None => self.keep(slot, grant),
        }
    }

    fn keep(&self, slot: &Arc<Slot>, grant: KeptGrant) {
        slot.state().kept = Some(grant);
        if !slot.is_watched.swap(true, Ordering::SeqCst) {
            lock(&self.watch).insert(slot.key.clone(), Arc::clone(slot));
            self.to_watch.notify_all();
        }
        // It may have been closed meanwhile, and have missed this grant.
        if self.closing.load(Ordering::SeqCst) {
            self.close(slot);
        }
    }

    fn close(&self, slot: &Slot) {
        self.end_if(slot, |_| Some(Reason::Closing));
    }

    /// Gives back the grant that is kept, if nobody uses it and `reason` says why it ends. Returns
    /// whether it did.
    fn end_if(&self, slot: &Slot, reason: impl FnOnce(&mut KeptGrant) -> Option<Reason>) -> bool {
        let due = slot.take_unused(reason);
        due.map(|(grant, reason)| self.give_back(grant, reason)).is_some()
    }

    fn give_back(&self, grant: KeptGrant, reason: Reason) {
        self.metrics.ended(reason).inc();
        grant.guard.release();
    }

    /// The thread: gives back what was idle for long enough, or what others want, until the lock is
    /// closed.
    fn run(&self) {
        while !self.closing.load(Ordering::SeqCst) {
            // A panic is a bug of ours; without the thread, what is kept would stay so for minutes.
            let pass = catch_unwind(AssertUnwindSafe(|| self.pass()));
            if pass.is_err() {
                log::error!("the thread that gives back kept locks panicked, and goes on");
                thread::sleep(self.limits.idle);
            }
        }
    }

    fn pass(&self) {
        let watch = lock(&self.watch);
        let watched: Vec<Arc<Slot>> = watch.values().cloned().collect();
        if watched.is_empty() {
            let limit = Deadline::after(PARKED_FOR);
            let something = |watch: &mut HashMap<_, _>| {
                let closing = self.closing.load(Ordering::SeqCst);
                (!watch.is_empty() || closing).then_some(())
            };
            let _ = limit.wait_for(&self.to_watch, watch, something);
            return;
        }
        drop(watch);
        let next = watched.iter().map(|slot| self.look_at(slot)).min();
        self.lock.listen_for_others(next.unwrap_or(self.limits.idle).max(SHORTEST_WAIT));
    }

    /// Gives back what is kept there if that is due. Returns how long until it may be due.
    fn look_at(&self, slot: &Arc<Slot>) -> Duration {
        let idle_limit = self.limits.idle;
        let mut next = idle_limit;
        let has_ended = self.end_if(slot, |grant| {
            let idle = grant.idle_since.elapsed();
            next = idle_limit.saturating_sub(idle);
            // Asks nobody, so the mutex may be held.
            match grant.guard.is_wanted(Duration::MAX) {
                Ok(false) => self.is_idle(grant).then_some(Reason::Idle),
                Ok(true) => Some(Reason::Wanted),
                Err(_) => Some(Reason::Doubtful),
            }
        });
        if !has_ended && slot.is_idle() {
            self.forget(slot);
        }
        if has_ended { idle_limit } else { next }
    }

    fn is_idle(&self, grant: &KeptGrant) -> bool {
        let is_over = grant.idle_since.elapsed() >= self.limits.idle;
        is_over && !failpoint::is_off("lock.kept.idle")
    }

    /// Looks at the slot no more, until a grant is kept there.
    fn forget(&self, slot: &Arc<Slot>) {
        let mut watch = lock(&self.watch);
        slot.is_watched.store(false, Ordering::SeqCst);
        // Under the mutex: whoever keeps a grant now comes after.
        if slot.is_idle() {
            watch.remove(&slot.key);
        } else {
            slot.is_watched.store(true, Ordering::SeqCst);
        }
    }
}

/// How long the thread waits for something to look after before it looks by itself.
const PARKED_FOR: Duration = Duration::from_secs(1);
/// The shortest time for which it listens.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// A turn of a writer: its grant, and the place at the gate.
struct InTurn {
    keeper: Arc<Keeper>,
    slot: Arc<Slot>,
    /// `None` once it was left or given back.
    grant: Option<KeptGrant>,
}

impl InTurn {
    fn into_guard(self) -> Guard {
        let Some(KeptGrant { guard, turns, .. }) = &self.grant else {
            unreachable!("a turn begins with a grant")
        };
        let incarnation = guard.incarnation().unwrap_or_default().to_owned();
        let (token, must_seal, is_kept) = (guard.token(), guard.must_seal(), *turns > 0);
        let guard = Guard::exclusive(Box::new(self), incarnation, token);
        let guard = if must_seal { guard.after_expiry() } else { guard };
        if is_kept { guard.kept() } else { guard }
    }

    fn guard(&mut self) -> Result<&mut Guard, LockError> {
        let gone = LockError::Lost { what: "it was given back" };
        self.grant.as_mut().map(|grant| &mut grant.guard).ok_or(gone)
    }
}

impl Held for InTurn {
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
        if let Some(mut grant) = self.grant.take() {
            grant.turns += 1;
            grant.idle_since = Instant::now();
            self.keeper.end_turn(&self.slot, grant);
        }
    }
}

/// Gives back the grant, unless the turn has ended well, and then the place at the gate.
impl Drop for InTurn {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            self.keeper.give_back(grant, Reason::Failed);
        }
        let mut state = self.slot.state();
        state.is_in_turn = false;
        state.ended += 1;
        state.due = state.waiting;
        drop(state);
        self.slot.changed.notify_all();
        self.slot.gate.pass_on();
    }
}

/// A reader that uses the grant that is kept, and leaves it.
struct Reader {
    keeper: Arc<Keeper>,
    slot: Arc<Slot>,
}

impl Held for Reader {
    fn store(&mut self, _incarnation: &str, _first: FencingToken) -> Result<(), LockError> {
        Err(LockError::NotExclusive)
    }
}

/// The last reader gives the grant back if that has become due.
impl Drop for Reader {
    fn drop(&mut self) {
        let (keeper, slot) = (&self.keeper, &self.slot);
        slot.state().readers -= 1;
        slot.changed.notify_all();
        keeper.end_if(slot, |grant| {
            let is_idle = || keeper.is_idle(grant).then_some(Reason::Idle);
            is_idle().or_else(|| keeper.reason_to_end(grant, Duration::MAX))
        });
    }
}

struct Metrics {
    /// Turns that needed no grant of their own.
    used: IntCounter,
    ended: IntCounterVec,
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
            used: counter(
                "fencepost_lock_grants_kept_total",
                "Turns of writers that used the grant of an earlier turn",
            ),
            ended: IntCounterVec::new(options, &["reason"]).expect("the name is valid"),
        }
    }

    fn ended(&self, reason: Reason) -> IntCounter {
        self.ended.with_label_values(&[match reason {
            Reason::Wanted => "wanted",
            Reason::Idle => "idle",
            Reason::Limit => "limit",
            Reason::Doubtful => "doubtful",
            Reason::Failed => "failed",
            Reason::Closing => "closing",
        }])
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.used.clone()), Box::new(self.ended.clone())]
    }
}
