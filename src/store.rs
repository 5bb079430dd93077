//! Where a graph's state is kept: loaded in one snapshot, changed by one conditional write.
//!
//! Knows `graph` and `db`; knows no lock (a token is a number here), no HTTP, and takes no turns.
//! [`rows`] keeps what is true now as rows, and the change log beside it in the same transaction.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::db::DbError;
use crate::graph::{Change, DamagedFact, DamagedRows, Graph, Name, Precondition, Touched, hex};

mod answers;
mod catch_up;
mod consumers;
mod delta;
mod feed;
mod freeze;
mod kept;
mod restore;
pub mod rows;

pub use answers::{ANSWER_KEPT, Purged};
pub(crate) use consumers::behind;
pub use consumers::{Acknowledgement, Consumer, ConsumerSink, ExportReport, Lifetime};
pub use feed::{Feed, Logged};
pub use kept::Kept;
pub use restore::{Restoration, Restored, Target};

/// SHA-256 of the previous chain and a change's canonical bytes: two graphs with one chain have one
/// history.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// Of a graph without changes.
    pub const START: Self = Self([0; 32]);

    /// The chain after one more change, given as [`Change::canonical_json`].
    #[must_use]
    pub fn next(self, canonical_change: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(canonical_change);
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Whether a graph takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphState {
    /// It does.
    Open,
    /// Its name answers that there is no such graph; its versions go on if it is created again.
    Deleted,
    /// It has moved elsewhere.
    Frozen,
}

/// The graph's row: all that must be known of a graph to know whether an image of it is current,
/// and to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The row's id; a name has one for ever.
    pub id: i64,
    /// The graph's name.
    pub name: Name,
    /// Whether it takes writes.
    pub state: GraphState,
    /// Where it went, if it is frozen.
    pub moved_to: Option<String>,
    /// How many changes there were.
    pub version: u64,
    /// The largest fencing token that a write has carried.
    pub fence: i64,
    /// The epoch of trusted tokens.
    pub epoch: u32,
    /// The run of the lock that was seeded with the epoch.
    pub lock_incarnation: String,
    /// The hash over all changes.
    pub chain: Chain,
    /// What the graph's history is called everywhere: events are named after it.
    pub uuid: Uuid,
    /// The oldest change that the log still has; where it has none, the next one.
    pub oldest: u64,
}

/// What an image is known by: the same key, the same graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageKey {
    /// The graph's row id.
    pub graph_id: i64,
    /// The version.
    pub version: u64,
    /// The chain at that version.
    pub chain: Chain,
}

/// How an image that is behind is to be brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// By the whole graph.
    Reload,
    /// By the changes since, as long as the log has them, they are of the image's history, and they
    /// are not too many.
    Changes,
}

/// What brings an image to the version of a [`Head`].
pub enum Refresh {
    /// Nothing: it is there.
    Current,
    /// These, one after another, with [`apply_all`](crate::graph::apply_all). At least one; they
    /// lead from the image's chain to the head's.
    Changes(Vec<Change>),
    /// This instead.
    Whole(Box<Graph>),
}

impl Head {
    /// The key of an image of this very state.
    #[must_use]
    pub fn key(&self) -> ImageKey {
        ImageKey { graph_id: self.id, version: self.version, chain: self.chain }
    }
}

/// Which lock guards a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRecord {
    /// Such as `file`.
    pub kind: String,
    /// Which of that kind.
    pub identity: String,
}

impl fmt::Display for LockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.identity)
    }
}

/// A change that is to be written.
#[derive(Clone, Copy)]
pub struct Entry<'e> {
    /// Not empty.
    pub change: &'e Change,
    /// The version that it makes.
    pub version: u64,
    /// What it touches.
    pub touched: &'e Touched,
    /// Who asked for it.
    pub actor: Option<&'e str>,
}

/// An answer to be given again to whoever sends the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The client's key.
    pub key: String,
    /// SHA-256 of what was asked.
    pub fingerprint: String,
    /// What was answered.
    pub answer: String,
}

/// A key, and what makes the answer to keep under it from the graph's row and whether the graph was
/// not there.
pub type Keep<'k> = (&'k str, &'k dyn Fn(&Head, bool) -> StoredAnswer);

/// What became of a wish that a graph be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is there.
    There {
        /// Its row.
        head: Head,
        /// Whether it was not there before.
        created: bool,
    },
    /// The precondition does not hold.
    NotAsExpected {
        /// What was asked for.
        expected: Precondition,
        /// The version that it has; `None`: it is not there.
        actual: Option<u64>,
        /// The version that its row has, which a deleted graph keeps; 0 if there never was one.
        version: u64,
    },
    /// The key has been used: this is what was answered, if for the same request.
    Answered(StoredAnswer),
}

/// One conditional write.
pub struct Commit<'c> {
    /// The row as it was read: the write holds only if its version still stands.
    pub read: &'c Head,
    /// The fencing token of the turn.
    pub token: i64,
    /// Names this attempt in the change log.
    pub attempt: &'c str,
    /// The graph as it was read.
    pub before: &'c Graph,
    /// The graph that all entries lead to.
    pub after: &'c Graph,
    /// In version order, without gaps, from the version read.
    pub entries: &'c [Entry<'c>],
    /// Answers to keep.
    pub answers: &'c [StoredAnswer],
    /// Whether the last entry deletes the graph.
    pub deletes_graph: bool,
}

/// Why state could not be read or prepared.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// See there.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The rows are no legal graph. Restore them from a backup.
    #[error("graph `{graph}` cannot be loaded: {reason}")]
    DamagedRows {
        /// The graph.
        graph: Name,
        /// What is wrong.
        reason: DamagedRows,
    },
    /// The change log cannot be read. Restore it from a backup.
    #[error(transparent)]
    DamagedLog(#[from] DamagedFact),
    /// A column holds what Fencepost never writes.
    #[error("the database holds a damaged value: {0}")]
    DamagedValue(String),
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Why a write did not happen, or may not have. Only [`CommitError::Unknown`] leaves that open.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The graph has moved. Write there.
    #[error("the graph is frozen")]
    Frozen {
        /// Where it went.
        moved_to: Option<String>,
    },
    /// The graph was deleted since it was read.
    #[error("the graph was deleted")]
    Deleted,
    /// Another holder has a larger token: this one lost its lock without noticing. Acquire it
    /// again.
    #[error("fenced: token {token} is older than {fence}")]
    Fenced {
        /// This write's token.
        token: i64,
        /// The largest that was seen.
        fence: i64,
    },
    /// Another write came first. Read again and decide anew.
    #[error("conflict: expected version {expected}, found {actual}")]
    Conflict {
        /// The version that was read.
        expected: u64,
        /// The version that is there.
        actual: u64,
    },
    /// Another request has used an idempotency key of this write since the keys were looked up.
    /// Nothing was written. Look the keys up again and decide anew.
    #[error("an idempotency key was used by another request at the same time")]
    KeyTaken,
    /// The database ended the transaction in favour of another. Nothing was written. Read again and
    /// decide anew.
    #[error(transparent)]
    Yielded(DbError),
    /// The database refused the rows: a bug of ours. The image that led to them must be thrown
    /// away.
    #[error("the database refused the rows: {0}")]
    Refused(DbError),
    /// Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
    /// COMMIT was sent, its answer was lost, and what became of it cannot be learnt.
    #[error("the outcome of {attempt} is unknown: {reason}")]
    Unknown {
        /// What was attempted, for people.
        attempt: String,
        /// Why it could not be learnt.
        reason: String,
    },
}

impl From<DbError> for CommitError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Refused(_) => Self::Refused(error),
            DbError::Yielded { .. } => Self::Yielded(error),
            other => Self::Unavailable(other.into()),
        }
    }
}

impl From<diesel::result::Error> for CommitError {
    fn from(error: diesel::result::Error) -> Self {
        DbError::from(error).into()
    }
}

/// Where state lives. Every call is one transaction.
pub trait GraphStore: Send + Sync {
    /// Tells this database from every other: locks are named by it.
    fn database_id(&self) -> &str;

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`] if not.
    fn ping(&self) -> Result<(), StoreError>;

    /// Which lock guards the database; `None` if none was ever named.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    fn lock_record(&self) -> Result<Option<LockRecord>, StoreError>;

    /// Names the lock that guards the database, if it still is `expected`; says which one does
    /// then.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be written.
    fn set_lock_record(
        &self,
        expected: Option<&LockRecord>,
        new: &LockRecord,
    ) -> Result<LockRecord, StoreError>;

    /// The heads of graphs that are not deleted, whose names begin with `prefix` and come after
    /// `after`, in byte order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn graphs(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, StoreError>;

    /// Creates the graph, or again if it was deleted, unless `precondition` forbids it. With
    /// `keep`, does nothing if the graph has an answer under that key already, and otherwise keeps
    /// what `keep` makes of the outcome.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    fn create_graph(
        &self,
        name: &Name,
        precondition: Option<Precondition>,
        keep: Option<Keep<'_>>,
    ) -> Result<Creation, CommitError>;

    /// The graph's row, deleted graphs included.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn head(&self, name: &Name) -> Result<Option<Head>, StoreError>;

    /// The graph's row and, unless its key is `known`, what makes of the graph that is known the
    /// graph at that version: both from one snapshot. [`CatchUp::Changes`] costs what was changed
    /// since, [`CatchUp::Reload`] the whole graph.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn refresh(
        &self,
        name: &Name,
        known: Option<ImageKey>,
        by: CatchUp,
    ) -> Result<Option<(Head, Refresh)>, StoreError>;

    /// The graph's row and the whole graph at its version, from one snapshot. O(size of the graph).
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn load(&self, name: &Name) -> Result<Option<(Head, Graph)>, StoreError> {
        let read = self.refresh(name, None, CatchUp::Reload)?;
        Ok(read.map(|(head, refresh)| match refresh {
            Refresh::Whole(graph) => (head, *graph),
            Refresh::Current | Refresh::Changes(_) => unreachable!("nothing was known"),
        }))
    }

    /// Raises the epoch to `epoch` and seals `fence`, if the row's epoch still is what was read.
    /// Returns the row as it is then.
    ///
    /// # Errors
    /// [`CommitError`]; [`CommitError::Conflict`] if another process was first.
    fn raise_epoch(
        &self,
        read: &Head,
        epoch: u32,
        fence: i64,
        incarnation: &str,
    ) -> Result<Head, CommitError>;

    /// Has the graph refuse every token below `token` from here on, if the row's epoch still is
    /// what was read.
    ///
    /// # Errors
    /// [`CommitError`]; [`CommitError::Fenced`] if a larger one was sealed or used, or the epoch
    /// raised.
    fn seal(&self, read: &Head, token: i64) -> Result<(), CommitError>;

    /// Writes, if the version that was read still stands and no larger token was seen. The whole or
    /// nothing. Returns the new chain.
    ///
    /// # Errors
    /// [`CommitError`]; all but [`CommitError::Unknown`] mean that nothing was written.
    fn commit(&self, commit: &Commit<'_>) -> Result<Chain, CommitError>;

    /// The answers kept under `keys` for no longer than [`ANSWER_KEPT`].
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn stored_answers(&self, graph_id: i64, keys: &[&str])
    -> Result<Vec<StoredAnswer>, StoreError>;

    /// Deletes at most `most` of the keys that are older than [`ANSWER_KEPT`], all of one graph:
    /// the first after the row id `after` that has any. `None` if no graph after it has.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done; it may be tried again.
    fn purge_answers(&self, after: i64, most: usize) -> Result<Option<Purged>, CommitError>;

    /// The graph's row, deleted graphs included, and the changes after `after` up to its version,
    /// as many as fit `most` and some megabytes, but at least one if there is one. Look at
    /// [`Head::oldest`] first: of what was pruned nothing is told.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read, or the log has a gap.
    fn feed(&self, name: &Name, after: u64, most: usize) -> Result<Option<Feed>, StoreError>;

    /// When a version was committed, in milliseconds since 1970; `None` if neither the log nor the
    /// kept snapshot has it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn committed_at(&self, graph_id: i64, version: u64) -> Result<Option<i64>, StoreError>;

    /// The graph's row and who reads its log, in byte order of names.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn consumers(&self, name: &Name) -> Result<Option<(Head, Vec<Consumer>)>, StoreError>;

    /// Notes that `consumer` needs no change up to `version`; registers it if it is new. What was
    /// acknowledged once stays so: a smaller version than before changes nothing.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be written.
    fn acknowledge(
        &self,
        name: &Name,
        consumer: &Name,
        version: u64,
    ) -> Result<Acknowledgement, CommitError>;

    /// Notes how far an export's sink is, as [`acknowledge`](Self::acknowledge) does, and where it
    /// is. The one way by which an acknowledgement becomes less.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be written.
    fn report_export(
        &self,
        name: &Name,
        report: &ExportReport<'_>,
    ) -> Result<Acknowledgement, CommitError>;

    /// Has the consumer `from` be called `to`, and forgets it if there is one of that name already;
    /// whether there was one called `from`.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be written.
    fn rename_consumer(&self, name: &Name, from: &Name, to: &Name) -> Result<bool, CommitError>;

    /// Takes the consumer off the list; whether it was on it. `None` if there is no such graph.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be written.
    fn forget_consumer(&self, name: &Name, consumer: &Name) -> Result<Option<bool>, CommitError>;

    /// Calls `each` with every change after `after`, in order, until it returns `false`: canonical
    /// text and chain.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn changes(
        &self,
        graph_id: i64,
        after: u64,
        each: &mut dyn FnMut(u64, &str, Chain) -> bool,
    ) -> Result<(), StoreError>;
}
