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
//! Where a packed snapshot can be used, it replays what came after (`from_snapshot.rs`). Without one
//! it replays all, and a log that does not begin at version 1 is refused.
//!
//! [`log_unchecked`](super::log_unchecked) has the log of writers that compare nothing. It is read
//! in the same way, and judged change by change.

use diesel::QueryResult;

use super::commit::Commit;
use super::error::StoreError;
use super::head::Head;
use super::log_replay::{LogStart, finished, read_log};
use super::storage::{History, Loaded, LoadedFrom, SnapshotUse, Storage};
use crate::db::{AnyConnection, RowsWrite};
use crate::graph::{Graph, LogBuilder};

/// The change log alone. A load costs the whole history, a write what it changes.
pub struct Log;

impl Storage for Log {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        let builder: LogBuilder = read_log(connection, head, LogStart::default())?;
        Ok(finished(builder, head, LoadedFrom::Log { changes: head.version }))
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

    fn snapshots(&self) -> SnapshotUse {
        SnapshotUse::Beginning
    }
}
