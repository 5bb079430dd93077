//! Which graphs this process leads: how it takes over, and how it gives up.
//!
//! Two things make a leader: the lock, so that there is one at a time where the lock can tell, and
//! the token in the graph's row, by which the database refuses all others. The token is the
//! database's own count of take-overs; what the lock remembers of tokens is not needed, so a lock
//! server that forgets everything harms nothing.
//!
//! A take-over reads the row first, then makes sure that the lock is still held, and then counts
//! the token up from what was read. So a holder that stalled on the way, and was replaced
//! meanwhile, finds another token and takes over nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::causes::{Cause, Ended};
use super::limits::SingleWriterLimits;
use super::load::Load;
use super::metrics::Metrics;
use crate::db::watch::{self, Reclaimable};
use crate::failpoint;
use crate::graph::Name;
use crate::lock::gate::lock;
use crate::lock::{DistributedLock, Guard, LockError, LockKey, Mode};
use crate::service::{LeaderAt, Refusal, Turn, TurnError, observe};
use crate::store::{Leader, Node, Store};

/// How long a write that waits for a leader to give up waits before it looks again whether it still
/// is about to.
const WAIT_SLICE: Duration = Duration::from_millis(100);
/// For how long whoever has handed a graph over does not take it again.
const HANDED_FOR: Duration = Duration::from_secs(3);
/// How long a process that ends waits for the database to take note of it.
const NOTED_WITHIN: Duration = Duration::from_secs(1);
/// How many idle graphs are given up at each look.
const GIVEN_UP_AT_ONCE: usize = 32;
/// A graph may be given up for another if it was not written for so long.
const UNUSED_FOR: Duration = Duration::from_secs(1);

/// The graphs that this process leads. See the module.
pub(super) struct Leaderships {
    lock: Arc<dyn DistributedLock>,
    pub(super) store: Arc<Store>,
    /// Tells this process from all others.
    pub(super) node: String,
    /// Where clients reach it, if they can be told. Not set: it serves nobody but its own program.
    address: OnceLock<Option<String>>,
    pub(super) limits: SingleWriterLimits,
    pub(super) metrics: Metrics,
    /// Held for a few assignments, never across I/O.
    led: Mutex<AllLed>,
    /// Who else leads what, as it was last looked at.
    known: RwLock<HashMap<Name, Arc<LeaderAt>>>,
    /// What was handed to a successor, with the token until then, and until when it is not taken
    /// again if the successor does not come.
    handed: Mutex<HashMap<i64, (i64, Instant)>>,
    is_ending: AtomicBool,
    has_ended: AtomicBool,
}

/// What a write that needs a leader has found.
enum Acquired {
    /// The lock was free.
    Lock(Guard, Cause),
    /// This process leads by now.
    Led(Arc<Led>),
}

/// What this process leads.
#[derive(Default)]
struct AllLed {
    by_id: HashMap<i64, Arc<Led>>,
    /// The row ids.
    by_name: HashMap<Name, i64>,
}

impl AllLed {
    fn insert(&mut self, led: &Arc<Led>) {
        self.by_name.insert(led.graph.clone(), led.graph_id);
        self.by_id.insert(led.graph_id, Arc::clone(led));
    }

    fn remove(&mut self, graph_id: i64) -> Option<Arc<Led>> {
        let gone = self.by_id.remove(&graph_id)?;
        if self.by_name.get(&gone.graph) == Some(&graph_id) {
            self.by_name.remove(&gone.graph);
        }
        Some(gone)
    }
}

/// A graph that this process leads. The lock is given back with the last reference: a turn that is
/// under way has one.
pub(super) struct Led {
    pub(super) graph_id: i64,
    pub(super) graph: Name,
    /// That of its take-over.
    pub(super) token: i64,
    /// Asked by one turn at a time; it answers at once, by its own clock.
    guard: Mutex<Guard>,
    wrote: Mutex<Instant>,
    /// Through which nodes its writes come.
    pub(super) load: Mutex<Load>,
}

impl Led {
    /// Whether the lock surely is still held.
    ///
    /// # Errors
    /// [`LockError`] if it was lost, or may have been.
    pub(super) fn check(&self) -> Result<(), LockError> {
        lock(&self.guard).check()
    }

    pub(super) fn has_written(&self) {
        *lock(&self.wrote) = Instant::now();
    }

    /// Takes note through which nodes the writes of a batch came.
    pub(super) fn note_sources<'s>(&self, sources: impl Iterator<Item = Option<&'s str>>) {
        lock(&self.load).note(sources);
    }

    fn unused_for(&self) -> Duration {
        lock(&self.wrote).elapsed()
    }
}

impl Leaderships {
    pub(super) fn new(
        lock: Arc<dyn DistributedLock>,
        store: Arc<Store>,
        limits: SingleWriterLimits,
    ) -> Self {
        Self {
            lock,
            store,
            node: Uuid::new_v4().to_string(),
            address: OnceLock::new(),
            limits,
            metrics: Metrics::new(),
            led: Mutex::default(),
            known: RwLock::default(),
            handed: Mutex::default(),
            is_ending: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        }
    }

    pub(super) fn ready(&self) -> Result<(), Refusal> {
        Ok(self.lock.ping()?)
    }

    pub(super) fn serves_at(&self, address: Option<&str>) {
        // A second surface of one process changes nothing.
        let _ = self.address.set(address.map(str::to_owned));
        if let Err(error) = self.store.note_node(&self.node, address) {
            log::debug!("it could not be noted that this node lives: {error}");
        }
    }

    /// Where clients reach this process, if they can be told; `None` if it has none.
    pub(super) fn address(&self) -> Option<Option<&str>> {
        self.address.get().map(Option::as_deref)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst) || self.has_ended.load(Ordering::SeqCst)
    }

    /// The leadership of the graph, if this process has it.
    pub(super) fn led(&self, graph_id: i64) -> Option<Arc<Led>> {
        lock(&self.led).by_id.get(&graph_id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Led>> {
        lock(&self.led).by_id.values().cloned().collect()
    }

    /// The leadership of the turn's graph: this process's, or taken over if nobody has it.
    ///
    /// # Errors
    /// [`Refusal::LedElsewhere`] if another node has it.
    pub(super) fn lead(&self, turn: &Turn<'_>) -> Result<Arc<Led>, TurnError> {
        if let Some(led) = self.led(turn.graph_id()) {
            if led.check().is_ok() {
                return Ok(led);
            }
            self.leave(led.graph_id, led.token, Ended::Lease);
        }
        let (guard, cause) = match self.acquire(turn.graph(), turn.graph_id())? {
            Acquired::Lock(guard, cause) => (guard, cause),
            Acquired::Led(led) => return Ok(led),
        };
        self.take_over(turn.graph(), turn.graph_id(), guard, cause)
    }

    /// The graph's lock, if nobody has it, or its leader is about to give it up.
    fn acquire(&self, graph: &Name, graph_id: i64) -> Result<Acquired, Refusal> {
        let until = Instant::now() + self.limits.wait;
        let mut cause = Cause::Free;
        loop {
            let may_take =
                !self.has_ended.load(Ordering::SeqCst) && !self.is_with_successor(graph_id)?;
            if may_take {
                let wait = if cause == Cause::Free { Duration::ZERO } else { WAIT_SLICE };
                match self.try_to_acquire(graph_id, wait)? {
                    Some(guard) if guard.must_seal() => {
                        return Ok(Acquired::Lock(guard, Cause::LeaseRanOut));
                    }
                    Some(guard) => return Ok(Acquired::Lock(guard, cause)),
                    None => {}
                }
            }
            let leader = self.store.leader(graph_id)?;
            // The thread that succeeds others may have been quicker.
            if let Some(led) = self.led(graph_id) {
                return Ok(Acquired::Led(led));
            }
            // Without a note, or with one of this process: it is being taken over, or was just
            // given up.
            let gives_up = leader.as_ref().is_none_or(|leader| {
                leader.is_leaving
                    || leader.waiting_successor() == Some(&self.node)
                    || leader.node == self.node
            });
            if !may_take || !gives_up || Instant::now() >= until {
                let leader = leader.map(|leader| self.where_to_go(&leader)).transpose()?.flatten();
                return Err(Refusal::LedElsewhere { graph: graph.clone(), leader });
            }
            cause = Cause::HandedOver;
        }
    }

    /// The leader; its successor, if this process was the leader and waits for that.
    fn where_to_go(&self, leader: &Leader) -> Result<Option<Arc<LeaderAt>>, Refusal> {
        if leader.node != self.node {
            return Ok(Some(Arc::new(leader_at(leader))));
        }
        let Some(successor) = leader.waiting_successor() else { return Ok(None) };
        let node = self.store.nodes()?.into_iter().find(|node| node.node == *successor);
        let (token, version) = (leader.token + 1, leader.version);
        let to_come =
            |node: Node| LeaderAt { address: node.address, node: node.node, token, version };
        Ok(node.map(to_come).map(Arc::new))
    }

    /// The token under which this process leads the graph, if it does.
    pub(super) fn led_under(&self, graph: &Name) -> Option<i64> {
        let all = lock(&self.led);
        Some(all.by_id.get(all.by_name.get(graph)?)?.token)
    }

    /// Takes note of who else leads what; of those that give up soon, nothing is noted, so that
    /// writes wait for it.
    pub(super) fn know(&self, others: &[&Leader]) {
        let stay = others.iter().filter(|leader| !leader.is_leaving);
        let known =
            stay.map(|leader| (leader.graph.clone(), Arc::new(leader_at(leader)))).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Who else leads the graph, as it was last looked at.
    pub(super) fn known(&self, graph: &Name) -> Option<Arc<LeaderAt>> {
        // The look may be of before this process has taken over.
        if self.led_under(graph).is_some() {
            return None;
        }
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(graph).cloned()
    }

    /// That one, by that token, is not to be asked before the next look.
    pub(super) fn forget(&self, graph: &Name, token: i64) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.get(graph).is_some_and(|leader| leader.token <= token) {
            known.remove(graph);
        }
    }

    /// The graph's lock; `None` if others had it all that time.
    pub(super) fn try_to_acquire(
        &self,
        graph_id: i64,
        wait: Duration,
    ) -> Result<Option<Guard>, Refusal> {
        let key = LockKey::new(self.store.database_id(), graph_id)?.of_leadership();
        match self.lock.acquire(&key, Mode::Exclusive, wait) {
            Ok(guard) => Ok(Some(guard)),
            Err(LockError::Timeout { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Leads the graph from here on, by the lock that was acquired. If the database does not
    /// answer, the lock is given back.
    pub(super) fn take_over(
        &self,
        graph: &Name,
        graph_id: i64,
        guard: Guard,
        cause: Cause,
    ) -> Result<Arc<Led>, TurnError> {
        let (began, held) = (Instant::now(), Reclaimable::new(guard));
        let given_back = || TurnError::LockLost("the database did not answer in time");
        self.make_room(1)?;
        failpoint::pass("leader-acquired");
        let not_found = || Refusal::GraphNotFound { graph: graph.clone() };
        let head = self.store.head(graph)?.ok_or_else(not_found)?;
        if head.id != graph_id {
            return Err(TurnError::GraphReplaced { expected: graph_id, actual: head.id });
        }
        failpoint::pass("leader-read");
        // It also claims a lock that was handed over.
        held.with(|guard| guard.check()).ok_or_else(given_back)??;
        let token = match failpoint::is_off("leader-token") {
            true => head.leader_token,
            false => self.store.take_over(&head, &self.node, self.address().flatten())?,
        };
        failpoint::pass("leader-counted");
        let mut guard = held.take().ok_or_else(given_back)?;
        guard.sealed();
        let (guard, wrote) = (Mutex::new(guard), Mutex::new(Instant::now()));
        let (graph, load) = (graph.clone(), Mutex::default());
        let led = Arc::new(Led { graph_id, graph, token, guard, wrote, load });
        let graph = &led.graph;
        lock(&self.led).insert(&led);
        self.forget(graph, token);
        self.metrics.began(graph, cause);
        observe(&self.metrics.take_over, began.elapsed());
        log::info!("leads graph `{graph}`, token {token}: {}", cause.word());
        // What has ended, or has said that it will, has missed this one.
        if self.has_ended.load(Ordering::SeqCst) {
            self.leave(graph_id, token, Ended::Closing);
        } else if self.is_ending() {
            self.note_ending();
        }
        Ok(led)
    }

    /// Leads the graph no more, as it was taken from this process; what becomes of the turn.
    pub(super) fn lost(&self, graph_id: i64, token: i64, why: Ended) -> TurnError {
        self.leave(graph_id, token, why);
        TurnError::LockLost(match why {
            Ended::TakenOver => "another node has taken over the graph",
            _ => "the lease of the graph's leadership ran out",
        })
    }

    /// The database refused a write, as another node has taken over.
    pub(super) fn refused(&self, graph_id: i64, token: i64) {
        self.metrics.refused_writes.inc();
        self.leave(graph_id, token, Ended::TakenOver);
    }

    /// Leads the graph no more, if it still does by that take-over. The lock is given back, unless
    /// a turn is under way: then when that ends.
    pub(super) fn leave(&self, graph_id: i64, token: i64, why: Ended) {
        let mut all = lock(&self.led);
        if all.by_id.get(&graph_id).is_none_or(|led| led.token != token) {
            return;
        }
        let gone = all.remove(graph_id);
        drop(all);
        let Some(led) = gone else { return };
        self.metrics.ended(&led.graph, why);
        let (graph, word) = (&led.graph, why.word());
        if why.is_loss() {
            log::warn!("no longer leads graph `{graph}`, token {token}: {word}");
        } else {
            log::info!("no longer leads graph `{graph}`, token {token}: {word}");
        }
    }

    /// Gives the graph up of its own accord.
    fn give_up(&self, led: &Arc<Led>, why: Ended) {
        // First, or it might take away what the next leader has noted: that one counts up.
        if let Err(error) = self.store.end_leadership(led.graph_id, led.token) {
            log::debug!("graph `{}`: who leads it could not be noted: {error}", led.graph);
        }
        self.leave(led.graph_id, led.token, why);
    }

    /// Gives the graph up for a successor that waits for it.
    pub(super) fn hand_over(&self, led: &Arc<Led>) {
        lock(&self.handed).insert(led.graph_id, (led.token, Instant::now() + HANDED_FOR));
        self.leave(led.graph_id, led.token, Ended::HandedOver);
    }

    /// Whether the graph was handed over, and its successor still waits and has not taken over yet.
    fn is_with_successor(&self, graph_id: i64) -> Result<bool, Refusal> {
        let token = {
            let mut handed = lock(&self.handed);
            handed.retain(|_, (_, until)| Instant::now() < *until);
            handed.get(&graph_id).map(|(token, _)| *token)
        };
        let Some(token) = token else { return Ok(false) };
        let waits = |leader: Leader| leader.token == token && leader.waiting_successor().is_some();
        let is_coming = self.store.leader(graph_id)?.is_some_and(waits);
        if !is_coming {
            lock(&self.handed).remove(&graph_id);
        }
        Ok(is_coming)
    }

    /// Makes sure that this process may lead so many more graphs; to be called for each.
    pub(super) fn make_room(&self, more: usize) -> Result<(), Refusal> {
        let all = self.all();
        if all.len() + more <= self.limits.graphs {
            return Ok(());
        }
        let longest = all.iter().max_by_key(|led| led.unused_for());
        let longest = longest.filter(|led| led.unused_for() >= UNUSED_FOR);
        let contended = || Refusal::Contended {
            what: format!("this node leads {} graphs already", self.limits.graphs),
        };
        self.give_up(longest.ok_or_else(contended)?, Ended::Limit);
        Ok(())
    }

    /// Gives up what nobody writes any more, and forgets what was lost.
    pub(super) fn tend(&self) {
        let mut given_up = 0;
        for led in self.all() {
            if led.check().is_err() {
                self.leave(led.graph_id, led.token, Ended::Lease);
            } else if led.unused_for() >= self.limits.idle && given_up < GIVEN_UP_AT_ONCE {
                given_up += 1;
                self.give_up(&led, Ended::Idle);
            }
        }
    }

    /// Tells others that this process gives up soon, so that their writes wait for it.
    pub(super) fn announce_end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        self.note_ending();
    }

    fn note_ending(&self) {
        let _limit = watch::limited(NOTED_WITHIN);
        if let Err(error) = self.store.announce_leaving(&self.node) {
            log::debug!("it could not be noted that this node ends: {error}");
        }
    }

    /// Gives up all graphs, and leads none from here on.
    pub(super) fn end(&self) {
        if self.has_ended.swap(true, Ordering::SeqCst) {
            return;
        }
        let until = Instant::now() + NOTED_WITHIN;
        for led in self.all() {
            if Instant::now() < until {
                let (graph_id, token) = (led.graph_id, led.token);
                drop(led);
                self.leave(graph_id, token, Ended::Closing);
            } else {
                // The lock's server does not answer. The lease frees it.
                std::mem::forget(led);
            }
        }
        // After the locks: whoever waits for them need not wait for this.
        let _limit = watch::limited(NOTED_WITHIN);
        if let Err(error) = self.store.forget_node(&self.node) {
            log::debug!("it could not be noted that this node has ended: {error}");
        }
    }
}

fn leader_at(leader: &Leader) -> LeaderAt {
    let Leader { node, token, address, version, .. } = leader.clone();
    LeaderAt { node, token, address, version }
}
