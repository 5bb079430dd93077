//! What a design is made of, and how a service is started from one.

use std::fmt;
use std::sync::Arc;

use super::turns::Reads;
use super::turns::expected_version::{ExpectedVersion, ExpectedVersionLimits};
use super::turns::locked::{Locked, LockedLimits};
use super::turns::single_writer::{SingleWriter, SingleWriterLimits};
use super::turns::unchecked::{Unchecked, UncheckedLimits};
use crate::lock::{DistributedLock, LockError};
use crate::service::{BatchSize, Choices, CycleCheck, Handling, Limits, Refresh, Service, Turns};
use crate::store::{StorageKind, Store};

/// One way to build the service. Rules, answers and durability are the same for all; what a request
/// costs is not.
#[derive(Debug)]
pub struct Design {
    /// As on the command line.
    pub name: &'static str,
    /// One sentence without its full stop, for `--help`.
    pub summary: &'static str,
    /// How the graphs are kept that it serves.
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
    /// By leadership: one node writes.
    SingleWriter,
    /// Not at all: nothing is compared, and the rules are not kept.
    Unchecked,
}

/// Limits of turns, for each way of taking them.
#[derive(Debug, Clone, Copy, Default)]
pub struct TurnLimits {
    /// By the distributed lock.
    pub locked: LockedLimits,
    /// By the version that they expect.
    pub expected_version: ExpectedVersionLimits,
    /// By leadership.
    pub single_writer: SingleWriterLimits,
    /// Not at all.
    pub unchecked: UncheckedLimits,
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
            TurnKind::ExpectedVersion | TurnKind::SingleWriter | TurnKind::Unchecked => false,
        }
    }

    /// Whether one node at a time leads a graph and writes it.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.turns == TurnKind::SingleWriter
    }

    /// Whether it keeps the rules. One that does not is there to be caught.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.turns != TurnKind::Unchecked
    }

    /// Whether the lock is kept from one turn to the next while no other node wants it.
    #[must_use]
    pub fn keeps_lock(&self) -> bool {
        self.turns == TurnKind::Lock { kept: true }
    }

    /// How reads are done: see [`Designs::reads`].
    ///
    /// # Errors
    /// As there.
    pub fn reads(&self, asked: Option<Reads>) -> Result<Reads, NoLockToShare> {
        reads(self.takes_lock(), self.name, asked)
    }

    /// Starts a service of this design alone: see [`Designs::start`].
    ///
    /// # Errors
    /// As there.
    pub fn start<E: From<NoLockToShare> + From<LockError>>(
        &'static self,
        store: Arc<Store>,
        reads: Option<Reads>,
        limits: Limits,
        turn_limits: TurnLimits,
        lock: impl FnOnce(&Store) -> Result<Arc<dyn DistributedLock>, E>,
    ) -> Result<Service, E> {
        Designs::from(self).start(store, reads, limits, turn_limits, lock)
    }

    fn handling(&self, turns: &Arc<dyn Turns>) -> Handling {
        let Self { name, storage, refresh, batch, cycle_check, .. } = *self;
        let choices = Choices { storage, refresh, batch, cycle_check };
        Handling { name, choices, turns: Arc::clone(turns) }
    }
}

fn reads(
    takes_lock: bool,
    design: &'static str,
    asked: Option<Reads>,
) -> Result<Reads, NoLockToShare> {
    match (takes_lock, asked) {
        (true, asked) => Ok(asked.unwrap_or(Reads::Lock)),
        (false, Some(Reads::Lock)) => Err(NoLockToShare { design }),
        (false, None | Some(Reads::Snapshot)) => Ok(Reads::Snapshot),
    }
}

/// Designs of different storages that serve one store together. New graphs are kept as the first
/// has it; each graph that is there is served by the design of its storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Designs(Vec<&'static Design>);

/// Two designs of one storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{first} and {second} both serve graphs that are kept as {storage}: name one design for each \
     storage"
)]
pub struct OneStorageTwice {
    /// The one that was named first.
    pub first: &'static str,
    /// The other.
    pub second: &'static str,
    /// Their storage.
    pub storage: StorageKind,
}

impl Designs {
    /// `first`, and `others` for graphs of other storages.
    ///
    /// # Errors
    /// [`OneStorageTwice`] if a storage has two.
    pub fn new(
        first: &'static Design,
        others: impl IntoIterator<Item = &'static Design>,
    ) -> Result<Self, OneStorageTwice> {
        let mut designs = Self::from(first);
        for design in others {
            if let Some(other) = designs.of(design.storage) {
                let (first, second) = (other.name, design.name);
                return Err(OneStorageTwice { first, second, storage: design.storage });
            }
            designs.0.push(design);
        }
        Ok(designs)
    }

    /// That of new graphs.
    #[must_use]
    pub fn first(&self) -> &'static Design {
        self.0[0]
    }

    /// These, but for each that has one node lead a graph the one that a command uses.
    #[must_use]
    pub fn without_leaders(self) -> Self {
        let led = |design: &&'static Design| design.has_leader();
        let instead = |design| match Some(design).filter(led) {
            Some(design) => Design::following(design.storage).unwrap_or(design),
            None => design,
        };
        Self(self.0.into_iter().map(instead).collect())
    }

    /// These and `default`, if they have none of its storage.
    #[must_use]
    pub fn with_default(mut self, default: Option<&'static Design>) -> Self {
        self.0.extend(default.filter(|design| self.of(design.storage).is_none()));
        self
    }

    /// That of graphs of a storage.
    #[must_use]
    pub fn of(&self, storage: StorageKind) -> Option<&'static Design> {
        self.0.iter().copied().find(|design| design.storage == storage)
    }

    /// Whether any of them takes turns by the lock.
    #[must_use]
    pub fn take_lock(&self) -> bool {
        self.0.iter().any(|design| design.takes_lock())
    }

    /// Whether the lock is kept from one turn to the next while no other node wants it: if each
    /// design that takes it has it so, as all of them take turns by one.
    #[must_use]
    pub fn keep_lock(&self) -> bool {
        self.0.iter().all(|design| design.keeps_lock() || !design.takes_lock())
    }

    /// How reads are done. Without `asked`, they share the lock if one of the designs takes one.
    ///
    /// # Errors
    /// [`NoLockToShare`] if `asked` needs a lock, and none of them takes one.
    pub fn reads(&self, asked: Option<Reads>) -> Result<Reads, NoLockToShare> {
        reads(self.take_lock(), self.first().name, asked)
    }

    /// Whether any of them has one node lead each graph.
    #[must_use]
    pub fn have_leader(&self) -> bool {
        self.0.iter().any(|design| design.has_leader())
    }

    /// Starts the service on `store`. `lock` opens the lock that guards it, and is called only if
    /// one of the designs takes one, or is led by it.
    ///
    /// # Errors
    /// What `lock` gives; [`NoLockToShare`] as [`reads`](Self::reads); [`LockError`] if
    /// the lock cannot be used.
    pub fn start<E: From<NoLockToShare> + From<LockError>>(
        &self,
        store: Arc<Store>,
        reads: Option<Reads>,
        limits: Limits,
        turn_limits: TurnLimits,
        lock: impl FnOnce(&Store) -> Result<Arc<dyn DistributedLock>, E>,
    ) -> Result<Service, E> {
        let reads = self.reads(reads)?;
        let by_version: Arc<dyn Turns> =
            Arc::new(ExpectedVersion::new(turn_limits.expected_version));
        let unchecked: Arc<dyn Turns> = Arc::new(Unchecked::new(turn_limits.unchecked));
        for design in self.0.iter().filter(|design| !design.is_sound()) {
            log::warn!(
                "the design {design} is broken on purpose: it lets requests break the rules of \
                 the graph, and is there to show that `fencepost check` finds that"
            );
        }
        let lock = match self.take_lock() || self.have_leader() {
            true => Some(lock(&store)?),
            false => None,
        };
        // Nobody's, unless they are made below.
        let (mut by_lock, mut by_leader) = (Arc::clone(&by_version), Arc::clone(&by_version));
        if let Some(lock) = lock {
            let led = self.0.iter().filter(|design| design.has_leader());
            let led: Vec<StorageKind> = led.map(|design| design.storage).collect();
            if !led.is_empty() {
                let (lock, store) = (Arc::clone(&lock), Arc::clone(&store));
                let limits = turn_limits.single_writer;
                by_leader = Arc::new(SingleWriter::new(lock, store, led, limits));
            }
            // Two designs that take turns by the lock take them by one.
            if self.take_lock() {
                let locked = turn_limits.locked;
                let keep = locked.keep.filter(|_| self.keep_lock());
                let limits = LockedLimits { keep, ..locked };
                by_lock = Arc::new(Locked::new(lock, &store, reads, limits)?);
            }
        }
        let handlings = self.handlings(|turns| match turns {
            TurnKind::Lock { .. } => &by_lock,
            TurnKind::SingleWriter => &by_leader,
            TurnKind::ExpectedVersion => &by_version,
            TurnKind::Unchecked => &unchecked,
        });
        let service = Service::new(store, handlings, limits);
        service.metrics().describe(&[
            ("design", &self.to_string()),
            ("reads", reads.name()),
            ("sharing", if limits.share_turns { "on" } else { "off" }),
        ]);
        Ok(service)
    }

    /// As [`start`](Self::start), without the lock: for dry runs where the database's lock does not
    /// exist yet, so no process writes.
    #[must_use]
    pub fn start_without_lock(&self, store: Arc<Store>, limits: Limits) -> Service {
        let turns: Arc<dyn Turns> =
            Arc::new(ExpectedVersion::new(ExpectedVersionLimits::default()));
        Service::new(store, self.handlings(|_| &turns), limits)
    }

    fn handlings<'t>(&self, turns: impl Fn(TurnKind) -> &'t Arc<dyn Turns>) -> Vec<Handling> {
        self.0.iter().map(|design| design.handling(turns(design.turns))).collect()
    }
}

impl From<&'static Design> for Designs {
    fn from(design: &'static Design) -> Self {
        Self(vec![design])
    }
}

impl fmt::Display for Designs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|design| design.name).collect();
        f.write_str(&names.join(","))
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
