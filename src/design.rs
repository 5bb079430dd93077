//! The service behind every surface: requests wait in line for a turn, a turn brings the image to
//! the store's version, decides, writes and answers.
//!
//! ```text
//! take a turn                      acquire the lock, get a token
//! bring the image to the store's version
//! decide each waiting changeset    one after another, each seeing the accepted ones before it
//! write: compare version and token, version + k, rows and changes, all in one transaction
//! publish the image; answer every request of the batch; give the turn back
//! ```
//!
//! Uses `graph`, `store` and `lock`; synchronous; knows no HTTP. What differs between designs is
//! where state lives (the store), how the image is refreshed and how writers take turns: see
//! [`Design`].

use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use prometheus::Histogram;
use serde::{Deserialize, Deserializer};

use crate::db::watch::{self, GivenUp, Kept};
use crate::graph::{Command, Graph, Name, Precondition, Rejection, apply_all};
use crate::lock::{DistributedLock, LockError, LockIdentity};
use crate::object::objects_only;
use crate::store::{
    CatchUp, CommitError, Creation, GraphStore, Head, Keep, LockRecord, Refresh, StoreError,
    StoredAnswer,
};

mod feed;
mod image;
mod lane;
mod lanes;
mod listeners;
mod metrics;
mod permits;
mod purge;
mod read_turn;
mod workers;
mod write_turn;

pub use image::Image;
pub use listeners::Listening;
pub use metrics::Metrics;

use lane::{Lane, PendingRead, PendingWrite, Queued, Reply};
use lanes::Lanes;
use listeners::Listeners;
use metrics::observe;
use permits::{Permit, Permits};
use purge::Purge;
use workers::Workers;

/// How the service is built. Rules, answers and durability are the same for all; what a request
/// costs is not. With n jobs, datasets and edges in the graph:
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Design {
    /// Rows; the image is kept and reloaded when the version moved; writers take turns by the lock,
    /// and those that wait share one. A read costs a look at the version, a write its own size;
    /// O(n) only after another process has written.
    #[default]
    Crud,
    /// As `crud`, but what another process has written since is learnt from the change log: O(what
    /// changed), whatever the size of the graph.
    CrudDelta,
    /// As `crud-delta`, but without a lock: who finds at the conditional write that another was
    /// faster reads what that one did and judges again, a bounded number of times. Reads take one
    /// snapshot of the database, whichever [`Reads`] are asked for.
    CrudOptimistic,
    /// Rows; every request takes a turn of its own by the lock, loads the whole graph, and keeps
    /// nothing; every write sorts the whole graph to see that it has no cycle. Always O(n): what
    /// the plainest code that is correct costs, to measure the others against.
    CrudNaive,
}

impl Design {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Crud, Self::CrudDelta, Self::CrudOptimistic, Self::CrudNaive];

    /// Whether an image outlives the turn that loaded or made it.
    #[must_use]
    pub fn keeps_images(self) -> bool {
        self != Self::CrudNaive
    }

    /// Whether one turn serves all that wait, within the limits of a batch.
    #[must_use]
    pub fn shares_turns(self) -> bool {
        self != Self::CrudNaive
    }

    /// Whether each turn of writes sorts the whole graph that it leads to.
    #[must_use]
    pub fn checks_whole_graph(self) -> bool {
        self == Self::CrudNaive
    }

    /// Whether turns are taken by the lock.
    #[must_use]
    pub fn takes_lock(self) -> bool {
        self != Self::CrudOptimistic
    }

    /// How an image learns what others wrote.
    #[must_use]
    pub fn catches_up_by(self) -> CatchUp {
        match self {
            Self::Crud | Self::CrudNaive => CatchUp::Reload,
            Self::CrudDelta | Self::CrudOptimistic => CatchUp::Changes,
        }
    }
}

/// As on the command line.
impl fmt::Display for Design {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crud => "crud",
            Self::CrudDelta => "crud-delta",
            Self::CrudOptimistic => "crud-optimistic",
            Self::CrudNaive => "crud-naive",
        })
    }
}

/// How reads are kept from seeing less than was answered before they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    /// They share the lock while they learn the version.
    #[default]
    Lock,
    /// They take no lock: version and rows come from one snapshot of the database, and a writer is
    /// never waited for.
    Snapshot,
}

/// Everything that is bounded. What happens at each bound is an error that a person understands.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Whether those who wait share a turn, where the design has it so. Only for measuring what it
    /// is worth.
    pub share_turns: bool,
    /// Turns at once, in a thread each, those included that wait for a lock held by another
    /// process. A graph has at most one of writes and one of reads.
    pub turn_threads: usize,
    /// Writes that may wait for one graph; one more is refused as contended.
    pub waiting_writes: usize,
    /// Reads that may wait for one graph; one more is refused as contended.
    pub waiting_reads: usize,
    /// Writes that one turn serves.
    pub batch_writes: usize,
    /// Bytes of request bodies that one turn serves, beyond its first request.
    pub batch_bytes: usize,
    /// How long a turn judges writes, beyond its first; the others are the first of the next turn.
    pub batch_time: Duration,
    /// Reads that one turn serves.
    pub batch_reads: usize,
    /// Turns of reads of one graph at once where turns are not shared.
    pub unshared_reads: usize,
    /// What is kept of all graphs, in bytes, as
    /// [`Graph::memory_bytes`](crate::graph::Graph::memory_bytes) counts it: beyond, graphs that
    /// nobody uses leave memory, the one that was used longest ago first, and are loaded again when
    /// they are asked for.
    pub graph_bytes: usize,
    /// Whole graphs that are in memory at once under a design that keeps no image; one more is
    /// waited for as long as for the lock, and then refused as contended. An image counts until
    /// nobody holds it.
    pub loaded_images: usize,
    /// How long a turn waits for the lock.
    pub lock_wait: Duration,
    /// How often a turn that was fenced or outrun is taken again.
    pub turn_retries: usize,
    /// The same without a lock, where to be outrun is nothing unusual.
    pub optimistic_retries: usize,
    /// How often old idempotency keys are looked for.
    pub purge_every: Duration,
    /// Old keys that one transaction deletes, all of one graph.
    pub purge_keys: usize,
    /// The pause between two such transactions, in which others write.
    pub purge_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            share_turns: true,
            turn_threads: 256,
            waiting_writes: 1024,
            waiting_reads: 8192,
            batch_writes: 128,
            batch_bytes: 8 << 20,
            batch_time: Duration::from_millis(20),
            batch_reads: 8192,
            unshared_reads: 8,
            graph_bytes: 2 << 30,
            loaded_images: 2,
            // A second more than the lease of a lock that has one.
            lock_wait: Duration::from_secs(6),
            turn_retries: 3,
            optimistic_retries: 32,
            purge_every: Duration::from_secs(5 * 60),
            purge_keys: 500,
            purge_pause: Duration::from_millis(50),
        }
    }
}

/// One write that a client asks for.
#[derive(Debug, Clone)]
pub struct Write {
    /// What to do.
    pub command: Command,
    /// Only judge it.
    pub dry_run: bool,
    /// Who asks, for the change log.
    pub actor: Option<String>,
    /// Answer the same to the same key.
    pub idempotency: Option<IdempotencyKey>,
    /// What the request is about.
    pub subject: Subject,
    /// How large the request was, in bytes.
    pub bytes: usize,
}

impl From<Command> for Write {
    fn from(command: Command) -> Self {
        let subject = Subject::default();
        Self { command, dry_run: false, actor: None, idempotency: None, subject, bytes: 0 }
    }
}

/// What a request is about: that of which its answer tells the version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Subject {
    /// The graph as a whole.
    #[default]
    Graph,
    /// A job, or an edge of it.
    Job(Name),
    /// A dataset, whose version is the graph's.
    Dataset(Name),
}

impl Subject {
    /// Its version in `graph`; `None` if it is not there.
    fn version_in(&self, graph: &Graph) -> Option<u64> {
        match self {
            Self::Graph => Some(graph.version()),
            Self::Job(name) => graph.job(name.as_str()).map(|job| job.version()),
            Self::Dataset(name) => graph.dataset(name.as_str()).map(|_| graph.version()),
        }
    }
}

/// A client's name for a request that it may send again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// As the client sent it.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub fingerprint: String,
}

/// An accepted write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Accepted {
    /// The graph's version with it; for a dry run and a write that changes nothing, the version
    /// that it was judged at.
    pub version: u64,
    /// Whether it changes anything.
    pub changed: bool,
    /// Whether something that was asked for by name came to be.
    pub created: bool,
    /// The version that a precondition on the same subject needs from now on; `None` where there is
    /// nothing left that could have one.
    pub subject_version: Option<u64>,
}

/// An [`Accepted`] as it is kept for an idempotency key.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct KeptAnswer {
    version: u64,
    changed: bool,
    created: bool,
    /// Not known of answers that were kept before there was such a member.
    #[serde(default, deserialize_with = "present")]
    subject_version: Option<Option<u64>>,
}

objects_only!(KeptAnswer);

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

impl From<KeptAnswer> for Accepted {
    fn from(kept: KeptAnswer) -> Self {
        let KeptAnswer { version, changed, created, subject_version } = kept;
        // A write that changed its subject gave it this version. Of one that changed nothing, the
        // subject's version is this one or an earlier one, and never becomes this one again: a
        // precondition by it can fail, and cannot hold by mistake.
        Self {
            version,
            changed,
            created,
            subject_version: subject_version.unwrap_or(Some(version)),
        }
    }
}

/// How a write ended.
pub type Verdict = Result<Accepted, Refusal>;

/// Why a request was not served. Only [`Refusal::OutcomeUnknown`] and [`Refusal::Internal`] leave
/// open whether it was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rules forbid it.
    #[error("{rejection}")]
    Rejected {
        /// Why.
        rejection: Rejection,
        /// The version that it was decided at.
        version: u64,
    },
    /// There is no such graph.
    #[error("there is no graph `{graph}`")]
    GraphNotFound {
        /// Its name.
        graph: Name,
    },
    /// The graph takes no writes any more.
    #[error("graph `{graph}` is frozen{}", .moved_to.as_ref().map(|to| format!("; it moved to {to}")).unwrap_or_default())]
    Frozen {
        /// Its name.
        graph: Name,
        /// Where it went.
        moved_to: Option<String>,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Too many are waiting, or the turn did not come in time. Try again later.
    #[error("{what}")]
    Contended {
        /// What was waited for.
        what: String,
    },
    /// The lock cannot be reached. Try again when it is back.
    #[error("the lock is unavailable: {what}")]
    LockUnavailable {
        /// As it told it.
        what: String,
    },
    /// The database cannot be reached. Nothing was written. Try again when it is back.
    #[error("{what}")]
    DatabaseUnavailable {
        /// As it told it.
        what: String,
    },
    /// The write may or may not have been applied, and that cannot be learnt now.
    #[error("{what}")]
    OutcomeUnknown {
        /// Why not.
        what: String,
    },
    /// A bug, or damaged data.
    #[error("{what}")]
    Internal {
        /// What was found.
        what: String,
    },
}

impl From<GivenUp> for Refusal {
    fn from(GivenUp { in_doubt }: GivenUp) -> Self {
        if in_doubt {
            let what = format!("{}; it may commit the write later", watch::NO_ANSWER);
            return Self::OutcomeUnknown { what };
        }
        Self::DatabaseUnavailable { what: watch::NO_ANSWER.to_owned() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        use crate::db::DbError;
        let what = error.to_string();
        match error {
            StoreError::Database(DbError::Refused(_))
            | StoreError::DamagedRows { .. }
            | StoreError::DamagedLog(_)
            | StoreError::DamagedValue(_) => Self::Internal { what },
            StoreError::Database(_) => Self::DatabaseUnavailable { what },
        }
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Timeout { waited } => Self::Contended {
                what: format!("the graph's lock did not come free within {waited:.1?}"),
            },
            LockError::Unavailable { what, source } => {
                Self::LockUnavailable { what: format!("{what}: {source}") }
            }
            other => Self::LockUnavailable { what: other.to_string() },
        }
    }
}

/// The database is guarded by another lock than the one that was given.
#[derive(Debug, thiserror::Error)]
pub enum LockBindingError {
    /// Two locks guard nothing.
    #[error(
        "the database is guarded by the lock {stored}, not by {given}: two locks guard nothing. Use the stored one (leave \
         --lock-url away), or stop every process that uses it and run `fencepost lock set --lock-url URL`"
    )]
    Another {
        /// The stored one.
        stored: String,
        /// The one that was given.
        given: String,
    },
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes `lock` the one that guards the database, if none does yet.
///
/// # Errors
/// [`LockBindingError::Another`] if another one does.
pub fn bind_lock(store: &dyn GraphStore, lock: &LockIdentity) -> Result<(), LockBindingError> {
    let given = LockRecord::from(lock);
    let stored = match store.lock_record()? {
        Some(stored) => stored,
        // What another process has written meanwhile, if one was faster.
        None => store.set_lock_record(None, &given)?,
    };
    expect_lock(&stored, &given)
}

/// Makes sure that `lock` is the one that guards the database, if any does; changes nothing.
///
/// # Errors
/// [`LockBindingError::Another`] if another one does.
pub fn check_lock(store: &dyn GraphStore, lock: &LockIdentity) -> Result<(), LockBindingError> {
    store.lock_record()?.map_or(Ok(()), |stored| expect_lock(&stored, &LockRecord::from(lock)))
}

fn expect_lock(stored: &LockRecord, given: &LockRecord) -> Result<(), LockBindingError> {
    if stored == given {
        return Ok(());
    }
    Err(LockBindingError::Another { stored: stored.to_string(), given: given.to_string() })
}

impl From<&LockIdentity> for LockRecord {
    fn from(lock: &LockIdentity) -> Self {
        Self { kind: lock.kind.to_owned(), identity: lock.identity.clone() }
    }
}

/// Serves graphs from one store under one lock. Cloning shares it. A turn answers before it gives
/// the lock back: when the last clone is dropped, turns that are under way get a moment to end, so
/// that a process that exits leaves no lock behind.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
    _closing: Arc<Closing>,
}

struct Closing {
    inner: Arc<Inner>,
    /// Dropped after the turns have ended.
    _purge: Purge,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.inner.workers.wait_until_idle(CLOSING_PATIENCE);
    }
}

/// How long readiness waits for the answer to a statement.
pub const READY_ANSWER: Duration = Duration::from_secs(3);

/// How long turns that are under way are waited for in the end, and then the deletion of old keys.
const CLOSING_PATIENCE: Duration = Duration::from_secs(1);

struct Inner {
    store: Arc<dyn GraphStore>,
    /// If the design takes one.
    lock: Option<Arc<dyn DistributedLock>>,
    design: Design,
    reads: Reads,
    limits: Limits,
    metrics: Metrics,
    /// If images are not kept.
    loads: Option<Arc<Permits>>,
    lanes: Lanes,
    listeners: Arc<Listeners>,
    workers: Workers,
}

impl Service {
    /// The lock must be the database's (see [`bind_lock`]), and there if the design takes one; of
    /// one that does not it is left aside.
    ///
    /// # Panics
    /// If the design takes a lock and there is none.
    #[must_use]
    pub fn new(
        store: Arc<dyn GraphStore>,
        lock: Option<Arc<dyn DistributedLock>>,
        design: Design,
        reads: Reads,
        limits: Limits,
    ) -> Self {
        let lock = lock.filter(|_| design.takes_lock());
        assert!(lock.is_some() || !design.takes_lock(), "{design} takes a lock");
        let workers = Workers::new(limits.turn_threads);
        let metrics = Metrics::new();
        let (held, bytes) = (metrics.graphs_held.clone(), metrics.graph_bytes.clone());
        let lanes = Lanes::new(limits.graph_bytes, held, bytes, metrics.graphs_evicted.clone());
        metrics.register(lock.as_ref().map_or_else(Vec::new, |lock| lock.collectors()));
        let permits = || {
            Permits::new(
                limits.loaded_images,
                metrics.loads_held.clone(),
                metrics.loads_waiting.clone(),
            )
        };
        let loads = (!design.keeps_images()).then(permits);
        let listeners = Arc::default();
        let inner = Arc::new(Inner {
            store,
            lock,
            design,
            reads,
            limits,
            metrics,
            loads,
            lanes,
            listeners,
            workers,
        });
        let purge = Purge::start(Arc::clone(&inner.store), limits, &inner.metrics.purged_keys);
        Self { _closing: Arc::new(Closing { inner: Arc::clone(&inner), _purge: purge }), inner }
    }

    /// Judges and applies one write in a turn with others. `reply` is called once, from another
    /// thread or at once, and must not block.
    pub fn write(&self, graph: &Name, write: Write, reply: impl FnOnce(Verdict) + Send + 'static) {
        if let Some(lane) = self.put_write_in_line(graph, write, Reply::new(reply)) {
            self.inner.start_write_turn(lane);
        }
    }

    /// The image at a version that was read after this call. `reply` is called once and must not
    /// block.
    pub fn read(
        &self,
        graph: &Name,
        reply: impl FnOnce(Result<Arc<Image>, Refusal>) + Send + 'static,
    ) {
        if let Some(lane) = self.put_read_in_line(graph, Reply::new(reply)) {
            self.inner.start_read_turn(lane);
        }
    }

    /// The lane, if a turn must be started for it.
    fn put_write_in_line(
        &self,
        graph: &Name,
        write: Write,
        reply: Reply<Verdict>,
    ) -> Option<Arc<Lane>> {
        let lane = self.inner.lane(graph);
        let limit = self.inner.limits.waiting_writes;
        match lane.push_write(PendingWrite { write, reply, since: Instant::now() }, limit) {
            Queued::Behind => None,
            Queued::First => Some(lane),
            Queued::Full(pending) => {
                pending.reply.answer(Err(self.inner.overflow("writes", limit)));
                None
            }
        }
    }

    /// The same for a read.
    fn put_read_in_line(
        &self,
        graph: &Name,
        reply: Reply<Result<Arc<Image>, Refusal>>,
    ) -> Option<Arc<Lane>> {
        let lane = self.inner.lane(graph);
        let limit = self.inner.limits.waiting_reads;
        match lane.push_read(PendingRead { reply, since: Instant::now() }, limit) {
            Queued::Behind => None,
            Queued::First => Some(lane),
            Queued::Full(pending) => {
                pending.reply.answer(Err(self.inner.overflow("reads", limit)));
                None
            }
        }
    }

    /// Creates the graph unless it is there. `reply` is called once and must not block.
    pub fn create_graph(
        &self,
        graph: &Name,
        precondition: Option<Precondition>,
        idempotency: Option<IdempotencyKey>,
        reply: impl FnOnce(Verdict) + Send + 'static,
    ) {
        self.aside(graph, reply, move |inner, graph| {
            inner.create_graph(graph, precondition, idempotency.as_ref())
        });
    }

    /// The graphs whose names begin with `prefix` and come after `after`, in byte order. `reply` is
    /// called once and must not block.
    pub fn graphs(
        &self,
        prefix: String,
        after: Option<String>,
        limit: usize,
        reply: impl FnOnce(Result<Vec<Head>, Refusal>) + Send + 'static,
    ) {
        self.watched(reply, move |inner| {
            inner.store.graphs(&prefix, after.as_deref(), limit).map_err(Refusal::from)
        });
    }

    /// Whether database and lock answer. `reply` is called once and must not block.
    pub fn ready(&self, reply: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        self.watched(reply, move |inner| {
            // Whoever asks is less patient than a client.
            let _limit = watch::limited(READY_ANSWER);
            inner.store.ping()?;
            Ok(inner.lock.as_ref().map_or(Ok(()), |lock| lock.ping())?)
        });
    }

    /// As [`write`](Self::write), waiting for the verdict. A turn that must be started is taken on
    /// this thread: to wake another costs more than much of the turn does.
    ///
    /// # Errors
    /// [`Refusal`] says whether anything was written.
    pub fn write_and_wait(&self, graph: &Name, write: Write) -> Verdict {
        wait_for(|reply| {
            if let Some(lane) = self.put_write_in_line(graph, write, Reply::new(reply)) {
                workers::run(|| self.inner.take_write_turn(&lane));
            }
        })
    }

    /// As [`read`](Self::read), waiting for the image, and as
    /// [`write_and_wait`](Self::write_and_wait).
    ///
    /// # Errors
    /// [`Refusal`] says why there is none.
    pub fn read_and_wait(&self, graph: &Name) -> Result<Arc<Image>, Refusal> {
        wait_for(|reply| {
            if let Some(lane) = self.put_read_in_line(graph, Reply::new(reply)) {
                workers::run(|| self.inner.take_read_turn(&lane));
            }
        })
    }

    /// As [`create_graph`](Self::create_graph), waiting for the verdict.
    ///
    /// # Errors
    /// [`Refusal`] says why it could not be created.
    pub fn create_graph_and_wait(&self, graph: &Name) -> Verdict {
        wait_for(|reply| self.create_graph(graph, None, None, reply))
    }

    /// What the turns cost.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// How many writes and reads wait in all lines together.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        self.inner.lanes.waiting()
    }
}

fn wait_for<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, Refusal>) + Send>),
) -> Result<T, Refusal> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| drop(sender.send(answer))));
    receiver.recv().unwrap_or_else(|_| {
        Err(Refusal::OutcomeUnknown {
            what: "the turn ended without an answer; see the log".to_owned(),
        })
    })
}

impl Inner {
    fn lane(&self, graph: &Name) -> Arc<Lane> {
        let read_turns = if self.shares_turns() { 1 } else { self.limits.unshared_reads.max(1) };
        self.lanes.get(graph, || Lane::new(graph.clone(), self.design.keeps_images(), read_turns))
    }

    fn shares_turns(&self) -> bool {
        self.design.shares_turns() && self.limits.share_turns
    }

    /// At most how many that wait one turn serves, where `limit` is the most that any may.
    fn turn_size(&self, limit: usize) -> usize {
        if self.shares_turns() { limit } else { 1 }
    }

    fn overflow(&self, what: &str, limit: usize) -> Refusal {
        self.metrics.overflows.inc();
        Refusal::Contended { what: format!("{limit} {what} of this graph are waiting already") }
    }

    /// The row's id; `None` if there never was such a graph. Keeps nothing of a name that is not
    /// known to be a graph's.
    fn graph_id(&self, lane: &Lane) -> Result<Option<i64>, StoreError> {
        if let Some(id) = lane.graph_id() {
            return Ok(Some(id));
        }
        let head = self.store.head(&lane.name);
        if let Ok(Some(head)) = &head {
            lane.set_graph_id(Some(head.id));
        } else {
            self.lanes.forget(&lane.name);
        }
        Ok(head?.map(|head| head.id))
    }

    /// The row and the image at its version, which were read in one snapshot. `None` if there is no
    /// such graph.
    fn refreshed(
        &self,
        lane: &Lane,
        timed: &Histogram,
    ) -> Result<Option<(Head, Arc<Image>)>, Refusal> {
        let permit = self.load_permit()?;
        let began = Instant::now();
        let known = lane.image.get();
        let by = self.design.catches_up_by();
        let refreshed =
            self.store.refresh(&lane.name, known.as_ref().map(|image| image.key), by)?;
        lane.set_graph_id(refreshed.as_ref().map(|(head, _)| head.id));
        let Some((head, refresh)) = refreshed else { return Ok(None) };
        let image = match (refresh, known) {
            (Refresh::Current, Some(image)) => image,
            (Refresh::Changes(changes), Some(image)) => {
                self.metrics.image_catch_ups.inc();
                self.metrics.changes_applied.inc_by(changes.len() as u64);
                let image = Arc::new(Image::derived(head.key(), apply_all(&image.graph, &changes)));
                lane.image.publish(&image);
                self.lanes.settle(lane);
                image
            }
            (Refresh::Current | Refresh::Changes(_), None) => {
                unreachable!("the store was told of no image")
            }
            (Refresh::Whole(graph), known) => {
                if let Some(image) = known.filter(|image| image.key.version >= head.version) {
                    log::warn!(
                        "graph `{}`: the store is at version {}, behind the image at {} or on another history; was a backup restored? Loading anew",
                        lane.name,
                        head.version,
                        image.key.version
                    );
                    self.metrics.images_ahead_of_store.inc();
                    lane.image.discard(image.key);
                }
                self.metrics.image_loads.inc();
                let image = Arc::new(Image::loaded(head.key(), *graph, permit));
                lane.image.publish(&image);
                self.lanes.settle(lane);
                image
            }
        };
        observe(timed, began.elapsed());
        Ok(Some((head, image)))
    }

    /// Leave to have one more graph in memory, if that is counted.
    fn load_permit(&self) -> Result<Option<Kept<Permit>>, Refusal> {
        let Some(loads) = &self.loads else { return Ok(None) };
        let permit = loads.take(self.limits.lock_wait);
        let contended = || Refusal::Contended {
            what: format!("the limit of {} loaded graphs is reached", self.limits.loaded_images),
        };
        permit.map(|permit| Some(Kept::new(permit))).ok_or_else(contended)
    }

    fn create_graph(
        &self,
        graph: &Name,
        precondition: Option<Precondition>,
        idempotency: Option<&IdempotencyKey>,
    ) -> Verdict {
        let accepted = |head: &Head, created| Accepted {
            version: head.version,
            changed: created,
            created,
            subject_version: Some(head.version),
        };
        let answer = idempotency
            .map(|key| move |head: &Head, created: bool| key.answer(&accepted(head, created)));
        let keep = idempotency.zip(answer.as_ref());
        let keep = keep.map(|(idempotency, answer)| {
            (idempotency.key.as_str(), answer as &dyn Fn(&Head, bool) -> _)
        });
        match (self.create_in_store(graph, precondition, keep), idempotency) {
            (Ok(Creation::There { head, created }), _) => Ok(accepted(&head, created)),
            (Ok(Creation::NotAsExpected { expected, actual, version }), _) => {
                let rejection = Rejection::PreconditionFailed { expected, actual, operation: None };
                Err(Refusal::Rejected { rejection, version })
            }
            (Ok(Creation::Answered(stored)), Some(key)) => key.verdict(&stored),
            (Ok(Creation::Answered(_)), None) => unreachable!("only a key has an answer"),
            (Err(error), _) => Err(self.refusal_of(graph, error)),
        }
    }

    /// Tries again, up to the limit, where the database favoured another transaction.
    fn create_in_store(
        &self,
        graph: &Name,
        precondition: Option<Precondition>,
        keep: Option<Keep<'_>>,
    ) -> Result<Creation, CommitError> {
        let mut retries = 0;
        loop {
            match self.store.create_graph(graph, precondition.clone(), keep) {
                Err(CommitError::KeyTaken | CommitError::Yielded(_))
                    if retries < self.limits.turn_retries =>
                {
                    retries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn refusal_of(&self, graph: &Name, error: CommitError) -> Refusal {
        let what = error.to_string();
        match error {
            CommitError::Frozen { moved_to } => Refusal::Frozen { graph: graph.clone(), moved_to },
            CommitError::Deleted => Refusal::GraphNotFound { graph: graph.clone() },
            CommitError::Fenced { .. } => {
                Refusal::Contended { what: format!("the turn was lost: {what}") }
            }
            CommitError::Conflict { .. } | CommitError::KeyTaken | CommitError::Yielded(_) => {
                Refusal::Contended { what: format!("other writers were faster: {what}") }
            }
            CommitError::Refused(_) => Refusal::Internal { what },
            CommitError::Unavailable(error) => error.into(),
            CommitError::Unknown { .. } => Refusal::OutcomeUnknown { what },
        }
    }
}

impl IdempotencyKey {
    fn answer(&self, accepted: &Accepted) -> StoredAnswer {
        StoredAnswer {
            key: self.key.clone(),
            fingerprint: self.fingerprint.clone(),
            answer: serde_json::to_string(accepted).expect("numbers and booleans are JSON"),
        }
    }

    /// What to answer, given what was answered to this key before.
    fn verdict(&self, stored: &StoredAnswer) -> Verdict {
        if stored.fingerprint != self.fingerprint {
            return Err(Refusal::KeyReused);
        }
        let kept: Result<KeptAnswer, _> = serde_json::from_str(&stored.answer);
        kept.map(Accepted::from).map_err(|error| Refusal::Internal {
            what: format!("a stored answer is damaged: {error}"),
        })
    }
}
