//! What differs between the storages of a graph: what a load reads, and what a write changes beside
//! the graph's row, the change log and the stored answers. [`rows`](super::rows) is one;
//! [`log`](super::log) is another, whose writes are empty, since the change log has them all, and
//! whose load replays it.

use diesel::QueryResult;

use super::commit::Commit;
use super::error::StoreError;
use super::head::Head;
pub use super::history::History;
use crate::db::{AnyConnection, RowsWrite};
use crate::graph::Graph;

/// What was read.
pub struct Loaded {
    /// Makes it a graph, when its transaction is over: others may need the connection.
    pub graph: Box<dyn FnOnce() -> Result<Graph, StoreError>>,
    /// What it was read from.
    pub from: LoadedFrom,
}

/// What a whole graph was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedFrom {
    /// Its rows.
    Rows,
    /// So many changes of its log, from the first on.
    Log {
        /// How many.
        changes: u64,
    },
    /// A packed snapshot, and the changes after it.
    Snapshot {
        /// The snapshot's version.
        version: u64,
        /// How many changes came after it.
        changes: u64,
    },
}

impl LoadedFrom {
    /// How many changes were replayed.
    #[must_use]
    pub fn changes(self) -> u64 {
        match self {
            Self::Rows => 0,
            Self::Log { changes } | Self::Snapshot { changes, .. } => changes,
        }
    }
}

/// What packed snapshots are to the loads of graphs that are stored in one way, from little to
/// much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnapshotUse {
    /// Nothing: none is taken.
    None,
    /// A quicker way to the same graph, where few changes came after one.
    Quicker,
    /// What a load begins with. The log before one may be gone.
    Beginning,
}

/// A way to store graphs in a database. Everything else about a graph is the same for all:
/// [`Store`](super::Store) has it.
pub trait Storage: Send + Sync {
    /// Reads the graph at the version of `head`, which was read in the same transaction, of one
    /// snapshot of the database. From what is up to the storage; from no packed snapshot.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, also when what was read is no legal graph.
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError>;

    /// What `commit` writes, in the order in which it must be written; after
    /// [`clear`](Self::clear), if it deletes the graph. Made before the transaction begins, which
    /// holds the graph's row.
    fn writes<'c>(&self, commit: &Commit<'c>) -> Vec<RowsWrite<'c>>;

    /// Deletes what this storage has of a graph that is deleted.
    ///
    /// # Errors
    /// What the database says.
    fn clear(&self, connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()>;

    /// Writes the whole of `graph` for a graph that this storage has nothing of.
    ///
    /// # Errors
    /// What the database says.
    fn fill(&self, connection: &mut AnyConnection, graph_id: i64, graph: &Graph)
    -> QueryResult<()>;

    /// What the change log is to a graph that is stored so.
    fn history(&self) -> History {
        History::Beside
    }

    /// What packed snapshots are to loads, which begin with one or else with [`load`](Self::load).
    fn snapshots(&self) -> SnapshotUse {
        SnapshotUse::None
    }

    /// Whether changes may come into the log that break the rules of the graph, since whoever
    /// decided them did not know of all before them.
    fn may_break_rules(&self) -> bool {
        false
    }
}
