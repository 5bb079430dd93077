//! What a design is made of, and how a service is started from one.

use std::fmt;
use std::sync::Arc;

use super::turns::Reads;
use super::turns::expected_version::{ExpectedVersion, ExpectedVersionLimits};
use super::turns::locked::{Locked, LockedLimits};
use crate::lock::{DistributedLock, LockError};
use crate::service::{BatchSize, Choices, CycleCheck, Limits, Refresh, Service, Turns};
use crate::store::Store;
use crate::store::rows::Rows;
use crate::store::storage::Storage;

/// One way to build the service. Rules, answers and durability are the same for all; what a request
/// costs is not.
#[derive(Debug)]
pub struct Design {
    /// As on the command line.
    pub name: &'static str,
    /// One sentence without its full stop, for `--help`.
    pub summary: &'static str,
    /// Where graphs are.
    pub storage: StorageKind,
    /// How the image follows the store.
    pub refresh: Refresh,
    /// How writers take turns.
    pub turns: TurnKind,
    /// How many requests one turn serves.
    pub batch: BatchSize,
    /// What a write looks at to see that there is no cycle.
    pub cycle_check: CycleCheck,
}

/// Where graphs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageKind {
    /// Jobs, datasets and edges as rows, and the change log.
    Rows,
}

impl StorageKind {
    /// The storage itself.
    #[must_use]
    pub fn storage(self) -> Box<dyn Storage> {
        match self {
            Self::Rows => Box::new(Rows),
        }
    }
}

/// How writers take turns: which file of [`turns`](super::turns).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnKind {
    /// By the distributed lock.
    Lock {
        /// Whether the lock is kept from one turn to the next while no other node wants it.
        kept: bool,
    },
    /// By the version that they expect.
    ExpectedVersion,
}

/// Limits of turns, for each way of taking them.
#[derive(Debug, Clone, Copy, Default)]
pub struct TurnLimits {
    /// By the distributed lock.
    pub locked: LockedLimits,
    /// By the version that they expect.
    pub expected_version: ExpectedVersionLimits,
}

/// Reads were to share a lock that the design does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the design {design} takes no lock that reads could share: omit --reads, or say \
     --reads snapshot"
)]
pub struct NoLockToShare {
    /// The design's name.
    pub design: &'static str,
}

impl Design {
    /// Whether turns are taken by the lock.
    #[must_use]
    pub fn takes_lock(&self) -> bool {
        match self.turns {
            TurnKind::Lock { .. } => true,
            TurnKind::ExpectedVersion => false,
        }
    }

    /// Whether the lock is kept from one turn to the next while no other node wants it.
    #[must_use]
    pub fn keeps_lock(&self) -> bool {
        self.turns == TurnKind::Lock { kept: true }
    }

    /// How reads are done. Without `asked`, they share the lock if the design takes one.
    ///
    /// # Errors
    /// [`NoLockToShare`] if `asked` needs a lock that there is not.
    pub fn reads(&self, asked: Option<Reads>) -> Result<Reads, NoLockToShare> {
        match (self.turns, asked) {
            (TurnKind::Lock { .. }, asked) => Ok(asked.unwrap_or(Reads::Lock)),
            (TurnKind::ExpectedVersion, Some(Reads::Lock)) => {
                Err(NoLockToShare { design: self.name })
            }
            (TurnKind::ExpectedVersion, None | Some(Reads::Snapshot)) => Ok(Reads::Snapshot),
        }
    }

    /// Starts the service on `store`. `lock` opens the lock that guards it, and is called only if
    /// the design takes one.
    ///
    /// # Errors
    /// What `lock` gives; [`NoLockToShare`] as [`reads`](Self::reads); [`LockError`] if the lock
    /// cannot be used.
    pub fn start<E: From<NoLockToShare> + From<LockError>>(
        &self,
        store: Arc<Store>,
        reads: Option<Reads>,
        limits: Limits,
        turn_limits: TurnLimits,
        lock: impl FnOnce(&Store) -> Result<Arc<dyn DistributedLock>, E>,
    ) -> Result<Service, E> {
        let reads = self.reads(reads)?;
        let turns: Box<dyn Turns> = match self.turns {
            TurnKind::Lock { .. } => {
                let locked = turn_limits.locked;
                let keep = locked.keep.filter(|_| self.keeps_lock());
                let limits = LockedLimits { keep, ..locked };
                Box::new(Locked::new(lock(&store)?, &store, reads, limits)?)
            }
            TurnKind::ExpectedVersion => {
                Box::new(ExpectedVersion::new(turn_limits.expected_version))
            }
        };
        Ok(Service::new(store, turns, self.choices(), limits))
    }

    /// As [`start`](Self::start), without the lock: for dry runs where the database's lock does not
    /// exist yet, so no process writes.
    #[must_use]
    pub fn start_without_lock(&self, store: Arc<Store>, limits: Limits) -> Service {
        let turns = ExpectedVersion::new(ExpectedVersionLimits::default());
        Service::new(store, Box::new(turns), self.choices(), limits)
    }

    fn choices(&self) -> Choices {
        let Self { refresh, batch, cycle_check, .. } = *self;
        Choices { refresh, batch, cycle_check }
    }
}

impl PartialEq for Design {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Design {}

impl fmt::Display for Design {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
