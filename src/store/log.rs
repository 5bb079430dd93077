//! Storage as a log: the changes of a graph are all that there is of it. A commit writes the graph's
//! row and the changes, as in every storage, and nothing else; a load replays them.
//!
//! **An append** is the conditional write of every design: it moves the graph's row from the version
//! and the chain that were read, and only then adds the changes, whose numbers follow from that
//! version. So the log is dense, whoever writes: no number is given away by a sequence, whose gaps
//! and order of visibility a follower would have to guess at. docs/DESIGNS.md has what the update
//! of the row costs.
//!
//! **A load** holds the chain of hashes against each change, and refuses a log with a gap, a change
//! that cannot be read or contradicts those before it, and one of another history. Beside the graph
//! it has a bounded number of changes in memory.
//!
//! A graph whose log does not begin at version 1 cannot be loaded.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use diesel::QueryResult;

use super::commit::Commit;
use super::error::StoreError;
use super::head::{Head, column};
use super::storage::{Loaded, Storage};
use crate::chain::Chain;
use crate::db::{AnyConnection, LoggedText, RowsWrite};
use crate::failpoint;
use crate::graph::{Change, Graph, LogBuilder};

/// The change log alone. A load costs the whole history, a write what it changes.
pub struct Log;

impl Storage for Log {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        if head.oldest > 1 {
            let missing = format!("the log begins at version {}", head.oldest);
            return Err(damaged(head, 1, missing));
        }
        let replay = read_log(connection, head)?;
        let head = head.clone();
        Ok(Box::new(move || replay.finish(&head)))
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

    fn needs_whole_log(&self) -> bool {
        true
    }
}

fn damaged(head: &Head, version: u64, what: String) -> StoreError {
    StoreError::DamagedHistory { graph: head.name.clone(), version, what }
}

/// Why a log was not replayed.
struct Damage {
    version: u64,
    what: String,
}

/// The changes that were read, the graph that they lead to, and the chain at that version.
struct Replay {
    builder: LogBuilder,
    chain: Chain,
}

impl Default for Replay {
    fn default() -> Self {
        Self { builder: LogBuilder::default(), chain: Chain::START }
    }
}

impl Replay {
    fn add_all(&mut self, batch: &[LoggedText]) -> Result<(), Damage> {
        batch.iter().try_for_each(|logged| self.add(logged))
    }

    fn add(&mut self, (version, text, chain): &LoggedText) -> Result<(), Damage> {
        let next = self.builder.version() + 1;
        let is = |what: String| Damage { version: next, what };
        if u64::try_from(*version) != Ok(next) {
            return Err(is(format!("it is missing; the log goes on at version {version}")));
        }
        self.chain = self.chain.next(text);
        if self.chain.0[..] != chain[..] && !failpoint::is_off("chain-of-log") {
            return Err(is("the chain of hashes breaks: it is of another history".to_owned()));
        }
        let (change, told) =
            Change::from_canonical_json(text).map_err(|error| is(error.to_string()))?;
        if told != next {
            return Err(is(format!("it tells of version {told}")));
        }
        self.builder.add(&change).map_err(|error| is(error.to_string()))
    }

    /// The graph, if it is the one that `head` tells of.
    fn finish(self, head: &Head) -> Result<Graph, StoreError> {
        let version = self.builder.version();
        if version != head.version {
            let what =
                format!("the log ends at version {version}, the graph is at {}", head.version);
            return Err(damaged(head, version + 1, what));
        }
        if self.chain != head.chain && !failpoint::is_off("chain-of-log") {
            let what = "the chain of hashes is not that of the graph".to_owned();
            return Err(damaged(head, version, what));
        }
        self.builder.finish().map_err(|error| damaged(head, version, error.to_string()))
    }
}

/// Changes, and bytes of them, that a thread gets at once, and how many times as many may wait for
/// it.
const BATCH_CHANGES: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;
const BATCHES_WAITING: usize = 4;

/// Replays the log up to the version of `head`.
fn read_log(connection: &mut AnyConnection, head: &Head) -> Result<Replay, StoreError> {
    thread::scope(|scope| {
        let mut reader = LogReader::new(scope);
        let read = connection
            .each_change(head.id, 0, column(head.version), &mut |logged| reader.take(logged));
        match read {
            Err(Stopped::ByDatabase(error)) => Err(error.into()),
            Ok(()) | Err(Stopped::ByDamage) => {
                reader.finish().map_err(|Damage { version, what }| damaged(head, version, what))
            }
        }
    })
}

/// Takes changes as they are read. A thread replays a long log while more of it is read.
struct LogReader<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    batch: Vec<LoggedText>,
    bytes: usize,
    thread: Option<ReplayThread<'scope>>,
}

struct ReplayThread<'scope> {
    batches: SyncSender<Vec<LoggedText>>,
    /// Ends when no more batches come, or with the first damage.
    replay: ScopedJoinHandle<'scope, Result<Replay, Damage>>,
}

/// Why not the whole log was read.
enum Stopped {
    ByDatabase(diesel::result::Error),
    /// [`LogReader::finish`] says by which.
    ByDamage,
}

impl From<diesel::result::Error> for Stopped {
    fn from(error: diesel::result::Error) -> Self {
        Self::ByDatabase(error)
    }
}

impl<'scope, 'env> LogReader<'scope, 'env> {
    fn new(scope: &'scope Scope<'scope, 'env>) -> Self {
        Self { scope, batch: Vec::new(), bytes: 0, thread: None }
    }

    fn take(&mut self, logged: LoggedText) -> Result<(), Stopped> {
        self.bytes += logged.1.len();
        self.batch.push(logged);
        if self.batch.len() < BATCH_CHANGES && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_CHANGES));
        let thread = self.thread.get_or_insert_with(|| {
            let (batches, received) = sync_channel::<Vec<LoggedText>>(BATCHES_WAITING);
            let replay_all = move || {
                let mut replay = Replay::default();
                received.into_iter().try_for_each(|batch| replay.add_all(&batch))?;
                Ok(replay)
            };
            ReplayThread { batches, replay: self.scope.spawn(replay_all) }
        });
        thread.batches.send(batch).map_err(|_| Stopped::ByDamage)
    }

    fn finish(self) -> Result<Replay, Damage> {
        let Some(ReplayThread { batches, replay }) = self.thread else {
            let mut replay = Replay::default();
            replay.add_all(&self.batch)?;
            return Ok(replay);
        };
        // Nobody takes it if there was damage before, which is then the answer.
        let _ = batches.send(self.batch);
        drop(batches);
        replay.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
