//! Storage as a log: the changes of a graph are all that there is of it. A commit writes the
//! graph's row and the changes, as in every storage, and nothing else; a load replays them.
//!
//! **An append** is the conditional write of every design: it moves the graph's row from the
//! version and the chain that were read, and only then adds the changes, whose numbers follow from
//! that version. So the log is dense, whoever writes: no number is given away by a sequence, whose
//! gaps and order of visibility a follower would have to guess at. docs/DESIGNS.md has what the
//! update of the row costs.
//!
//! **A load** holds the chain of hashes against each change, and refuses a log with a gap, a change
//! that cannot be read or contradicts those before it, and one of another history. Beside the graph
//! it has a bounded number of changes in memory.
//!
//! A graph whose log does not begin at version 1 cannot be loaded.
//!
//! [`log_unchecked`](super::log_unchecked) has the log of writers that compare nothing. It is read
//! in the same way, and judged change by change.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use diesel::QueryResult;

use super::commit::Commit;
use super::error::StoreError;
use super::head::{Head, column};
use super::storage::{History, Loaded, Storage};
use crate::chain::Chain;
use crate::db::{AnyConnection, LoggedText, RowsWrite};
use crate::failpoint;
use crate::graph::{Change, Graph, LogBuilder, LogIsCyclic};

/// The change log alone. A load costs the whole history, a write what it changes.
pub struct Log;

impl Storage for Log {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        let builder: LogBuilder = read_log(connection, head)?;
        let head = head.clone();
        let cyclic = move |error: LogIsCyclic| damaged(&head, error.version, error.to_string());
        Ok(Box::new(move || builder.finish().map_err(cyclic)))
    }

    fn writes<'c>(&self, _: &Commit<'c>) -> Vec<RowsWrite<'c>> {
        Vec::new()
    }

    /// The change that deletes the graph is one more change: its history stays.
    fn clear(&self, _: &mut AnyConnection, _: i64) -> QueryResult<()> {
        Ok(())
    }

    /// Whoever fills a graph writes its log as well.
    fn fill(&self, _: &mut AnyConnection, _: i64, _: &Graph) -> QueryResult<()> {
        Ok(())
    }

    fn history(&self) -> History {
        History::Whole
    }
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
struct Place {
    version: u64,
    chain: Chain,
}

impl Place {
    const START: Self = Self { version: 0, chain: Chain::START };

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

/// Replays the log up to the version of `head`.
///
/// # Errors
/// [`StoreError`] if it cannot be read, or is not the whole log of `head`.
pub(super) fn read_log<R: Replayed>(
    connection: &mut AnyConnection,
    head: &Head,
) -> Result<R, StoreError> {
    if head.oldest > 1 {
        let missing = format!("the log begins at version {}", head.oldest);
        return Err(damaged(head, 1, missing));
    }
    thread::scope(|scope| {
        let mut reader = LogReader::new(scope);
        let read = connection
            .each_change(head.id, 0, column(head.version), &mut |logged| reader.take(logged));
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
    fn new(scope: &'scope Scope<'scope, 'env>) -> Self {
        let (place, damage, batch) = (Place::START, None, Vec::new());
        Self { scope, place, damage, batch, bytes: 0, thread: None }
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
            let replay_all = move || {
                let mut replayed = R::default();
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
        let Self { place, damage, batch, thread, .. } = self;
        let replayed = match thread {
            None => {
                let mut replayed = R::default();
                replay(&mut replayed, &batch).map(|()| replayed)
            }
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
