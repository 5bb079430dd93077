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
//!
//! A process that the database does not answer leads nothing: it could write nothing, and another
//! may. So it gives up what it leads once the database has been silent for a lease, by its own
//! clock; and it asks the database who leads before it tries to take the lock, so that it does not
//! keep that from those who reach both.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread;
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
use crate::store::{CommitError, Head, Leader, Node, Store};

/// How long a write that waits for a leader to give up waits before it looks again whether it still
/// is about to.
const WAIT_SLICE: Duration = Duration::from_millis(100);
/// For how long no write waits for a leader again after writes have waited for it in vain.
const AWAITED_AGAIN_AFTER: Duration = Duration::from_secs(60);
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
    /// Graphs whose leader is about to give up, or is not noted yet, and since when writes wait for
    /// that.
    awaited: Mutex<HashMap<i64, Instant>>,
    /// Leaderships that have ended, or never began, and may still be noted: row id and token.
    outdated: Mutex<BTreeSet<(i64, i64)>>,
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
    /// Returns what it replaces, to be dropped when nobody is kept waiting.
    fn insert(&mut self, led: &Arc<Led>) -> Option<Arc<Led>> {
        self.by_name.insert(led.graph.clone(), led.graph_id);
        self.by_id.insert(led.graph_id, Arc::clone(led))
    }

    fn remove(&mut self, graph_id: i64) -> Option<Arc<Led>> {
        let gone = self.by_id.remove(&graph_id)?;
        if self.by_name.get(&gone.graph) == Some(&graph_id) {
            self.by_name.remove(&gone.graph);
        }
        Some(gone)
    }
}

/// A graph that this process leads. The lock is given back with the last reference, unless it is
/// [let go](Self::let_go) before. A turn that is under way has one. Nobody else keeps one while it
/// waits for anything.
pub(super) struct Led {
    pub(super) graph_id: i64,
    pub(super) graph: Name,
    /// That of its take-over.
    pub(super) token: i64,
    /// It answers by its own clock. `None` once it was let go.
    guard: Mutex<Option<Guard>>,
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
        let let_go = || LockError::Lost { what: "it was given back" };
        lock(&self.guard).as_mut().ok_or_else(let_go)?.check()
    }

    /// Gives the lock back, though a turn may be under way: what that still writes is refused once
    /// another node leads.
    fn let_go(&self) {
        let guard = lock(&self.guard).take();
        drop(guard);
    }

    /// Row id and token.
    fn key(&self) -> (i64, i64) {
        (self.graph_id, self.token)
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
            awaited: Mutex::default(),
            outdated: Mutex::default(),
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

    /// What this process leads: row ids and tokens. Whoever kept references would keep the locks.
    pub(super) fn all(&self) -> Vec<(i64, i64)> {
        lock(&self.led).by_id.values().map(|led| led.key()).collect()
    }

    /// The leadership of the turn's graph: this process's, or taken over if nobody has it.
    ///
    /// # Errors
    /// [`Refusal::LedElsewhere`] if another node has it.
    pub(super) fn lead(&self, turn: &Turn<'_>) -> Result<Arc<Led>, TurnError> {
        let (graph, graph_id) = (turn.graph(), turn.graph_id());
        if let Some(led) = self.led(graph_id) {
            if led.check().is_ok() {
                return Ok(led);
            }
            self.leave(graph_id, led.token, Ended::Lease);
        }
        match self.acquire(graph, graph_id)? {
            Acquired::Lock(guard, cause) => {
                self.take_over(graph, graph_id, guard, cause, || turn.look())
            }
            Acquired::Led(led) => Ok(led),
        }
    }

    /// The graph's lock, if nobody has it, or its leader is about to give it up.
    fn acquire(&self, graph: &Name, graph_id: i64) -> Result<Acquired, Refusal> {
        let mut wait = Duration::ZERO;
        loop {
            // First: whoever does not reach the database is not to have the lock.
            let leader = self.store.leader(graph_id)?;
            let may_take = !self.has_ended.load(Ordering::SeqCst)
                && !self.is_with_successor(graph_id, leader.as_ref());
            if may_take && let Some(guard) = self.try_to_acquire(graph_id, wait)? {
                lock(&self.awaited).remove(&graph_id);
                let cause = self.cause(&guard, leader.as_ref());
                return Ok(Acquired::Lock(guard, cause));
            }
            // The thread that succeeds others may have been quicker.
            if let Some(led) = self.led(graph_id) {
                return Ok(Acquired::Led(led));
            }
            if !may_take || !self.is_to_wait(graph_id, leader.as_ref()) {
                let leader = leader.map(|leader| self.where_to_go(&leader)).transpose()?.flatten();
                return Err(Refusal::LedElsewhere { graph: graph.clone(), leader });
            }
            wait = WAIT_SLICE;
        }
    }

    /// How the lock came free, by what was noted before.
    fn cause(&self, guard: &Guard, leader: Option<&Leader>) -> Cause {
        match leader {
            _ if guard.must_seal() => Cause::LeaseRanOut,
            Some(leader) if self.gives_up(leader) => Cause::HandedOver,
            Some(leader) if leader.node != self.node => Cause::LeaseRanOut,
            _ => Cause::Free,
        }
    }

    /// Whether it says that it gives the graph up for this process, or for any.
    fn gives_up(&self, leader: &Leader) -> bool {
        leader.is_leaving || leader.waiting_successor() == Some(&self.node)
    }

    /// Whether a write is to wait for the lock, which another has. Without a note of the leader, or
    /// with one of this process, it is being taken over, or was just given up. That lasts if who
    /// has it is stopped: so all writes of a graph together wait no longer than one may, and those
    /// that come later hold up no thread.
    fn is_to_wait(&self, graph_id: i64, leader: Option<&Leader>) -> bool {
        let moves = |leader: &Leader| self.gives_up(leader) || leader.node == self.node;
        let mut awaited = lock(&self.awaited);
        awaited.retain(|_, since| since.elapsed() < AWAITED_AGAIN_AFTER);
        if !leader.is_none_or(moves) {
            awaited.remove(&graph_id);
            return false;
        }
        awaited.entry(graph_id).or_insert_with(Instant::now).elapsed() < self.limits.wait
    }

    /// The leader; its successor, if this process was the leader and waits for that.
    fn where_to_go(&self, leader: &Leader) -> Result<Option<Arc<LeaderAt>>, Refusal> {
        if leader.node != self.node {
            return Ok(Some(Arc::new(leader_at(leader))));
        }
        let Some(successor) = leader.waiting_successor() else { return Ok(None) };
        let node = self.store.nodes()?.into_iter().find(|node| node.node == *successor);
        let (token, key) = (leader.token + 1, leader.key());
        let to_come = |node: Node| LeaderAt {
            address: node.address,
            node: node.node,
            token,
            is_to_come: true,
            key,
        };
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
        head: impl FnOnce() -> Result<Option<Head>, TurnError>,
    ) -> Result<Arc<Led>, TurnError> {
        let (began, held) = (Instant::now(), Reclaimable::new(guard));
        let given_back = || TurnError::LockLost("the database did not answer in time");
        // Meanwhile nobody else can lead.
        let _limit = watch::limited(self.store.answer().min(self.limits.lease));
        self.make_room(1)?;
        failpoint::pass("leader-acquired");
        let not_found = || Refusal::GraphNotFound { graph: graph.clone() };
        let head = head()?.ok_or_else(not_found)?;
        if head.id != graph_id {
            return Err(TurnError::GraphReplaced { expected: graph_id, actual: head.id });
        }
        failpoint::pass("leader-read");
        // It also claims a lock that was handed over.
        held.with(|guard| guard.check()).ok_or_else(given_back)??;
        let token = match failpoint::is_off("leader-token") {
            true => head.leader_token,
            false => {
                let taken = self.store.take_over(&head, &self.node, self.address().flatten());
                // It may have been written, and may be yet.
                taken.inspect_err(|error| {
                    if matches!(error, CommitError::Unavailable(_)) {
                        self.is_outdated(graph_id, head.leader_token + 1);
                    }
                })?
            }
        };
        failpoint::pass("leader-counted");
        let mut guard = held.take().ok_or_else(given_back)?;
        guard.sealed();
        let (guard, wrote) = (Mutex::new(Some(guard)), Mutex::new(Instant::now()));
        let (graph, load) = (graph.clone(), Mutex::default());
        let led = Arc::new(Led { graph_id, graph, token, guard, wrote, load });
        let graph = &led.graph;
        let replaced = lock(&self.led).insert(&led);
        if let Some(former) = replaced {
            // Its lock was lost, or this one could not be had.
            self.note_end(&former, Ended::Lease);
        }
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
        drop(self.remove(graph_id, token, why));
    }

    /// The same; returns what was led, to be dropped where it may take a while.
    fn remove(&self, graph_id: i64, token: i64, why: Ended) -> Option<Arc<Led>> {
        let mut all = lock(&self.led);
        if all.by_id.get(&graph_id).is_none_or(|led| led.token != token) {
            return None;
        }
        let led = all.remove(graph_id)?;
        drop(all);
        self.note_end(&led, why);
        Some(led)
    }

    fn note_end(&self, led: &Led, why: Ended) {
        if why.leaves_note() {
            self.is_outdated(led.graph_id, led.token);
        }
        self.metrics.ended(&led.graph, why);
        let (graph, token, word) = (&led.graph, led.token, why.word());
        if why.is_loss() {
            log::warn!("no longer leads graph `{graph}`, token {token}: {word}");
        } else {
            log::info!("no longer leads graph `{graph}`, token {token}: {word}");
        }
    }

    /// What may be noted of that take-over is not true, and is to be taken back at the next look.
    fn is_outdated(&self, graph_id: i64, token: i64) {
        lock(&self.outdated).insert((graph_id, token));
    }

    /// Gives the graph up for a successor that waits for it.
    pub(super) fn hand_over(&self, led: &Arc<Led>) {
        lock(&self.handed).insert(led.graph_id, (led.token, Instant::now() + HANDED_FOR));
        self.leave(led.graph_id, led.token, Ended::HandedOver);
    }

    /// Whether the graph was handed over, and its successor still waits and has not taken over yet.
    fn is_with_successor(&self, graph_id: i64, leader: Option<&Leader>) -> bool {
        let Some((token, until)) = lock(&self.handed).get(&graph_id).copied() else { return false };
        let waits = |leader: &Leader| leader.token == token && leader.waiting_successor().is_some();
        Instant::now() < until && leader.is_some_and(waits)
    }

    /// Makes sure that this process may lead so many more graphs; to be called for each.
    pub(super) fn make_room(&self, more: usize) -> Result<(), Refusal> {
        let longest = {
            let all = lock(&self.led);
            if all.by_id.len() + more <= self.limits.graphs {
                return Ok(());
            }
            all.by_id.values().map(|led| (led.unused_for(), led.key())).max()
        };
        let contended = || Refusal::Contended {
            what: format!("this node leads {} graphs already", self.limits.graphs),
        };
        let longest = longest.filter(|(unused_for, _)| *unused_for >= UNUSED_FOR);
        let (_, (graph_id, token)) = longest.ok_or_else(contended)?;
        // As an idle one. If that cannot be noted now, then at the next look.
        if self.store.end_leaderships(&self.node, &[(graph_id, token)]).is_err() {
            self.is_outdated(graph_id, token);
        }
        self.leave(graph_id, token, Ended::Limit);
        Ok(())
    }

    /// Leads no more what was lost; and nothing, if the database has been silent for a lease.
    /// Waits for nobody: locks are given back in a thread of their own.
    pub(super) fn tend(&self) {
        let is_silent = self.store.silent_for() >= self.limits.silence()
            && !failpoint::is_off("leader-silence");
        let why = |led: &Led| match led.check() {
            Err(_) => Some(Ended::Lease),
            Ok(()) => is_silent.then_some(Ended::Database),
        };
        let all = lock(&self.led);
        let over = all.by_id.values().filter_map(|led| Some((led.key(), why(led)?)));
        let over: Vec<((i64, i64), Ended)> = over.collect();
        drop(all);
        let remove = |((graph_id, token), why)| self.remove(graph_id, token, why);
        let gone: Vec<Arc<Led>> = over.into_iter().filter_map(remove).collect();
        if gone.is_empty() {
            return;
        }
        // A turn that is under way may have to wait for the database: it does not keep the lock.
        let let_go = move || watch::watched(|_| {}, || gone.iter().for_each(|led| led.let_go()));
        if let Err(error) = thread::Builder::new().name("give-back".to_owned()).spawn(let_go) {
            log::warn!("no thread can be started to give locks back: {error}");
        }
    }

    /// Gives up what nobody writes any more, and has others know what this process leads no more.
    pub(super) fn note_ends(&self) {
        // Of what was handed over to successors that have not come.
        let (mut handed, now) = (lock(&self.handed), Instant::now());
        let over = handed.extract_if(|_, (_, until)| *until <= now);
        lock(&self.outdated).extend(over.map(|(graph_id, (token, _))| (graph_id, token)));
        drop(handed);
        let outdated = lock(&self.outdated).clone();
        let all = lock(&self.led);
        let idle = all.by_id.values().filter(|led| led.unused_for() >= self.limits.idle);
        let idle: Vec<(i64, i64)> = idle.map(|led| led.key()).take(GIVEN_UP_AT_ONCE).collect();
        drop(all);
        let ended: Vec<_> = outdated.iter().chain(&idle).copied().collect();
        if ended.is_empty() {
            return;
        }
        match self.store.end_leaderships(&self.node, &ended) {
            Ok(()) => {
                lock(&self.outdated).retain(|ended| !outdated.contains(ended));
                // After that: whoever finds the lock free and the note there takes its holder for
                // dead.
                for (graph_id, token) in idle {
                    self.leave(graph_id, token, Ended::Idle);
                }
            }
            Err(error) => log::debug!("it could not be noted what is led no more: {error}"),
        }
    }

    /// Asks for a sign of life of the database, if nobody else has for a while.
    pub(super) fn ask_for_life(&self) {
        let is_due = self.store.silent_for() >= self.limits.silence() / 4;
        let leads = !lock(&self.led).by_id.is_empty();
        if is_due
            && leads
            && let Err(error) = self.store.ask_for_life()
        {
            log::debug!("the database gives no sign of life: {error}");
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
        for (graph_id, token) in self.all() {
            let led = self.remove(graph_id, token, Ended::Closing);
            if Instant::now() < until {
                drop(led);
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
    let (node, address) = (leader.node.clone(), leader.address.clone());
    LeaderAt { node, token: leader.token, is_to_come: false, address, key: leader.key() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::db::{Database, DatabaseUrl, PoolLimits};
    use crate::lock::file::FileLock;
    use crate::store::StorageKind;

    /// A process, and a graph in a database of its own.
    struct Fixture {
        leaderships: Leaderships,
        graph: Name,
        head: Head,
        directory: TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("db");
            let url = DatabaseUrl::parse(&format!("sqlite:{}", file.display())).unwrap();
            Database::migrate(&url).unwrap();
            let database = Database::open(&url, PoolLimits::default()).unwrap();
            let store = Arc::new(Store::new(database).unwrap());
            let graph = Name::new("g").unwrap();
            store.create_graph(&graph, &[StorageKind::Log], None, None).unwrap();
            let head = store.head(&graph).unwrap().unwrap();
            let (lock, limits) = (lock_below(directory.path()), SingleWriterLimits::default());
            let leaderships = Leaderships::new(lock, store, limits);
            Self { leaderships, graph, head, directory }
        }

        /// Takes over what is thought to be the graph in that row, by a lock that nobody else has.
        fn take_over(&self, graph_id: i64) -> Result<Arc<Led>, TurnError> {
            let store = &self.leaderships.store;
            let key = LockKey::new(store.database_id(), graph_id).unwrap().of_leadership();
            let lock = lock_below(self.directory.path());
            let guard = lock.acquire(&key, Mode::Exclusive, Duration::ZERO).unwrap();
            let head = || Ok(store.head(&self.graph)?);
            self.leaderships.take_over(&self.graph, graph_id, guard, Cause::Free, head)
        }

        /// What is noted.
        fn leader(&self) -> Option<Leader> {
            self.leaderships.store.leader(self.head.id).unwrap()
        }
    }

    /// One that nobody else has.
    fn lock_below(directory: &Path) -> Arc<dyn DistributedLock> {
        let own = directory.join(Uuid::new_v4().to_string());
        std::fs::create_dir(&own).unwrap();
        Arc::new(FileLock::open(&own, own.display().to_string()).unwrap())
    }

    /// As after a lock server that has forgotten the first.
    #[test]
    fn a_leadership_that_a_later_one_of_the_process_replaces_is_counted_as_ended() {
        let fixture = Fixture::new();
        let Fixture { leaderships, head, .. } = &fixture;
        for _ in 0..2 {
            fixture.take_over(head.id).unwrap();
        }
        assert_eq!(leaderships.all(), [(head.id, 2)]);
        let registry = prometheus::Registry::new();
        for collector in leaderships.metrics.collectors() {
            registry.register(collector).unwrap();
        }
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let counted =
            ["fencepost_leader_graphs 1", "fencepost_leader_ended_total{cause=\"lease\"} 1"];
        assert!(counted.iter().all(|line| text.lines().any(|told| told == *line)), "{text}");
    }

    #[test]
    fn another_graph_of_that_name_is_not_taken_over() {
        let fixture = Fixture::new();
        let taken = fixture.take_over(fixture.head.id + 1);
        assert!(matches!(taken, Err(TurnError::GraphReplaced { .. })));
        assert_eq!(fixture.leader(), None);
    }

    #[test]
    fn what_a_process_takes_over_as_it_ends_is_noted_or_given_up() {
        let fixture = Fixture::new();
        let Fixture { leaderships, head, .. } = &fixture;
        leaderships.announce_end();
        drop(fixture.take_over(head.id).unwrap());
        assert!(fixture.leader().unwrap().is_leaving);
        leaderships.end();
        drop(fixture.take_over(head.id).unwrap());
        assert_eq!(leaderships.all(), []);
    }

    #[test]
    fn what_was_handed_over_to_one_who_has_not_come_is_not_noted_for_ever() {
        let fixture = Fixture::new();
        let Fixture { leaderships, head, .. } = &fixture;
        let led = fixture.take_over(head.id).unwrap();
        leaderships.hand_over(&led);
        leaderships.note_ends();
        assert!(fixture.leader().is_some(), "its successor may come");
        lock(&leaderships.handed).values_mut().for_each(|(_, until)| *until = Instant::now());
        leaderships.note_ends();
        assert_eq!(fixture.leader(), None);
    }
}
