//! Reads a log from some version on and replays it. Holds the chain of hashes against each change,
//! and refuses a log with a gap, a change that cannot be read or contradicts those before it, and
//! one of another history. Of a long log some changes are in memory at a time, and a thread replays
//! them while more are read.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use super::error::StoreError;
use super::head::{Head, column};
use super::storage::{Loaded, LoadedFrom};
use crate::chain::Chain;
use crate::db::{AnyConnection, LoggedText};
use crate::failpoint;
use crate::graph::{Change, LogBuilder, LogIsCyclic};

/// The graph of `builder`.
pub(super) fn finished(builder: LogBuilder, head: &Head, from: LoadedFrom) -> Loaded {
    let head = head.clone();
    let graph = move || builder.finish().map_err(|error| cyclic(&head, &error));
    Loaded { graph: Box::new(graph), from }
}

pub(super) fn cyclic(head: &Head, error: &LogIsCyclic) -> StoreError {
    damaged(head, error.version, error.to_string())
}

fn damaged(head: &Head, version: u64, what: String) -> StoreError {
    StoreError::DamagedHistory { graph: head.name.clone(), version, what }
}

/// What a log is replayed into.
pub(super) trait Replayed: Default + Send {
    /// The version that it is at.
    fn version(&self) -> u64;

    /// Goes on by the change that makes the next version.
    ///
    /// # Errors
    /// Why that change cannot follow, for people.
    fn add(&mut self, change: &Change) -> Result<(), String>;
}

impl Replayed for LogBuilder {
    fn version(&self) -> u64 {
        self.version()
    }

    fn add(&mut self, change: &Change) -> Result<(), String> {
        self.add(change).map_err(|error| error.to_string())
    }
}

/// Why a log was not replayed.
struct Damage {
    version: u64,
    what: String,
}

/// How far a log was read: every version so far was there, with its chain.
pub(super) struct Place {
    pub(super) version: u64,
    pub(super) chain: Chain,
}

/// Where the reading of a log begins, and what it is replayed into.
pub(super) struct LogStart<R> {
    pub(super) place: Place,
    pub(super) replayed: R,
}

impl<R: Default> Default for LogStart<R> {
    /// Before the first change.
    fn default() -> Self {
        Self { place: Place { version: 0, chain: Chain::START }, replayed: R::default() }
    }
}

impl Place {
    /// Goes on to the next change.
    fn pass(&mut self, (version, text, chain): &LoggedText) -> Result<(), Damage> {
        let next = self.version + 1;
        let is = |what: String| Damage { version: next, what };
        if u64::try_from(*version) != Ok(next) && !failpoint::is_off("gaps-of-log") {
            return Err(is(format!("it is missing; the log goes on at version {version}")));
        }
        let chain_here = self.chain.next(text);
        if chain_here.0[..] != chain[..] && !failpoint::is_off("chain-of-log") {
            return Err(is("the chain of hashes breaks: it is of another history".to_owned()));
        }
        *self = Self { version: next, chain: chain_here };
        Ok(())
    }

    /// Makes sure that this is the version and history that `head` tells of.
    fn expect(&self, head: &Head) -> Result<(), StoreError> {
        let Self { version, chain } = *self;
        if version != head.version && !failpoint::is_off("gaps-of-log") {
            let what =
                format!("the log ends at version {version}, the graph is at {}", head.version);
            return Err(damaged(head, version + 1, what));
        }
        if chain != head.chain && !failpoint::is_off("chain-of-log") {
            let what = "the chain of hashes is not that of the graph".to_owned();
            return Err(damaged(head, version, what));
        }
        Ok(())
    }
}

/// Changes whose versions are dense and whose chain is right.
type Batch = Vec<String>;

fn replay(replayed: &mut impl Replayed, batch: &Batch) -> Result<(), Damage> {
    batch.iter().try_for_each(|text| {
        let next = replayed.version() + 1;
        let is = |what: String| Damage { version: next, what };
        let (change, told) =
            Change::from_canonical_json(text).map_err(|error| is(error.to_string()))?;
        if told != next && !failpoint::is_off("versions-of-log") {
            return Err(is(format!("it tells of version {told}")));
        }
        match replayed.add(&change) {
            Err(_) if failpoint::is_off("facts-of-log") => Ok(()),
            added => added.map_err(is),
        }
    })
}

/// Changes, and bytes of them, that a thread gets at once, and how many times as many may wait for
/// it.
const BATCH_CHANGES: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;
const BATCHES_WAITING: usize = 4;

/// Replays the log from `start` up to the version of `head`.
///
/// # Errors
/// [`StoreError`] if it cannot be read, or is not the whole log of `head`.
pub(super) fn read_log<R: Replayed>(
    connection: &mut AnyConnection,
    head: &Head,
    start: LogStart<R>,
) -> Result<R, StoreError> {
    let after = start.place.version;
    if head.oldest > after + 1 {
        let missing = format!(
            "the log begins at version {}, and there is no snapshot that can be used: fencepost \
             snapshot take makes one of what a prune has kept",
            head.oldest
        );
        return Err(damaged(head, after + 1, missing));
    }
    thread::scope(|scope| {
        let mut reader = LogReader::new(scope, start);
        let (after, last) = (column(after), column(head.version));
        let read = connection.each_change(head.id, after, last, &mut |logged| reader.take(logged));
        match read {
            Err(Stopped::ByDatabase(error)) => return Err(error.into()),
            Err(Stopped::ByDamage(damage)) => reader.damage = damage,
            Ok(()) => {}
        }
        reader.finish(head)
    })
}

/// Takes changes as they are read, and holds the chain against them. A thread replays a long log
/// while more of it is read.
struct LogReader<'scope, 'env, R> {
    scope: &'scope Scope<'scope, 'env>,
    place: Place,
    /// Where it was not what was written, beyond the changes that were taken.
    damage: Option<Damage>,
    batch: Batch,
    bytes: usize,
    /// What a short log is replayed into, or what the thread begins with.
    replayed: R,
    thread: Option<ReplayThread<'scope, R>>,
}

struct ReplayThread<'scope, R> {
    batches: SyncSender<Batch>,
    /// Ends when no more batches come, or with the first damage.
    replay: ScopedJoinHandle<'scope, Result<R, Damage>>,
}

/// Why not the whole log was read.
enum Stopped {
    ByDatabase(diesel::result::Error),
    /// Without one, the thread that replays has found it.
    ByDamage(Option<Damage>),
}

impl From<diesel::result::Error> for Stopped {
    fn from(error: diesel::result::Error) -> Self {
        Self::ByDatabase(error)
    }
}

impl<'scope, 'env, R: Replayed + 'scope> LogReader<'scope, 'env, R> {
    fn new(scope: &'scope Scope<'scope, 'env>, start: LogStart<R>) -> Self {
        let LogStart { place, replayed } = start;
        Self { scope, place, damage: None, batch: Vec::new(), bytes: 0, replayed, thread: None }
    }

    fn take(&mut self, logged: LoggedText) -> Result<(), Stopped> {
        self.place.pass(&logged).map_err(|damage| Stopped::ByDamage(Some(damage)))?;
        let (_, text, _) = logged;
        self.bytes += text.len();
        self.batch.push(text);
        if self.batch.len() < BATCH_CHANGES && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_CHANGES));
        let thread = self.thread.get_or_insert_with(|| {
            let (batches, received) = sync_channel::<Batch>(BATCHES_WAITING);
            let mut replayed = std::mem::take(&mut self.replayed);
            let replay_all = move || {
                received.into_iter().try_for_each(|batch| replay(&mut replayed, &batch))?;
                Ok(replayed)
            };
            ReplayThread { batches, replay: self.scope.spawn(replay_all) }
        });
        thread.batches.send(batch).map_err(|_| Stopped::ByDamage(None))
    }

    /// What was replayed, if the log is whole and that of `head`. Of several damages, the first is
    /// told.
    fn finish(self, head: &Head) -> Result<R, StoreError> {
        let Self { place, damage, batch, mut replayed, thread, .. } = self;
        let replayed = match thread {
            None => replay(&mut replayed, &batch).map(|()| replayed),
            Some(ReplayThread { batches, replay }) => {
                // Nobody takes it if there was damage before, which is then the answer.
                let _ = batches.send(batch);
                drop(batches);
                replay.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        let is_damaged = |Damage { version, what }| damaged(head, version, what);
        let replayed = replayed.map_err(is_damaged)?;
        damage.map_or(Ok(()), |damage| Err(is_damaged(damage)))?;
        place.expect(head)?;
        Ok(replayed)
    }
}
