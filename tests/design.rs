//! Every design on every database under every lock passes one suite: a design is an entry in the
//! list of designs, a database under a lock is a line here, a case is a function there.

mod ahead;
mod at_hand;
mod conformance;
mod crud;
mod crud_delta;
mod crud_naive;
mod crud_optimistic;
mod crud_plain;
mod es_unchecked;
mod event_sourced;
mod graph_cache;
mod keys;
mod leadership;
mod listeners;
mod round_trips;
mod single_writer;
mod snapshots;
mod turn_taking;

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use conformance::Fixture;
use fencepost::design::{self, Design, Reads, TurnLimits};
use fencepost::node::{self, LockUrl, NodeOptions};
use fencepost::service::{BatchSize, Limits, Service};
use fencepost::store::{History, StorageKind, Store};

use crate::support::cluster::{Kind, LIMIT, Site, start_without_lock, waiting_for_lock};
use crate::support::redis::Redis;
use crate::support::stages::{self, Interrupted};

/// A design on a database under a lock.
struct Combination {
    /// The only node of a design without turns, or with a leader. Dropped before its database is.
    only_node: Mutex<Option<Service>>,
    /// Of the nodes of a design without a lock.
    stores: Mutex<Vec<Interrupted>>,
    site: Site,
    design: &'static Design,
    reads: Reads,
}

/// Which lock guards it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// The one that is the database's default.
    Default,
    /// One in a directory, whatever the database.
    Files,
    /// A database of its own on a Redis server.
    Redis,
}

impl Combination {
    /// Every design that makes a difference there, each on a database of its own. To one without a
    /// lock all locks are the same. To turns under a lock it is the same how a graph is kept, which
    /// the locks and the ways to read are crossed with for graphs that are kept as rows, and to who
    /// leads for those that are kept by their log: so a design of another storage comes once for
    /// each database and way to read. Of a design with a leader one node writes: all that a case
    /// takes for nodes is one. The design that is
    /// broken on purpose does right by one client on one node: all that a case takes for nodes is
    /// one, and cases of several clients at once are left out.
    fn of_all_designs(kind: Kind, lock: Lock, reads: Reads) -> impl Iterator<Item = Self> {
        let differs = move |design: &&Design| {
            let by_lock = match design.storage {
                StorageKind::Rows => design.takes_lock(),
                StorageKind::Log => design.has_leader(),
                _ => false,
            };
            design.reads(Some(reads)).is_ok() && (by_lock || lock == Lock::Default)
        };
        design::ALL
            .iter()
            .copied()
            .filter(differs)
            .map(move |design| Self::new(design, kind, lock, reads))
    }

    fn new(design: &'static Design, kind: Kind, lock: Lock, reads: Reads) -> Self {
        let mut site = Site::migrated_on(kind);
        site.lock_url = match lock {
            Lock::Default => None,
            Lock::Files => Some(LockUrl::File(Some(site.path("locks")))),
            Lock::Redis => Some(LockUrl::parse(&Redis::shared().new_database()).unwrap()),
        };
        Self { site, design, reads, stores: Mutex::default(), only_node: Mutex::default() }
    }
}

/// A node of a design on `store`, by the site's lock if it takes one.
fn node_on(
    design: &'static Design,
    site: &Site,
    store: Arc<Store>,
    limits: Limits,
    turn_limits: TurnLimits,
) -> Service {
    let options = site.options();
    let default = || LockUrl::default_for(&options.database);
    let url = options.lock_url.clone().unwrap_or_else(default);
    let lock = |_: &Store| node::open_lock(&url, &options.database, options.lease);
    design.start(store, None, limits, turn_limits, lock).unwrap()
}

/// A node of a design, held up where a test wants it.
fn node_held_up(design: &'static Design, site: &Site) -> (Interrupted, Service) {
    node_held_up_with(design, site, Limits::default())
}

/// The same, with these limits.
fn node_held_up_with(
    design: &'static Design,
    site: &Site,
    limits: Limits,
) -> (Interrupted, Service) {
    let store = Interrupted::new(site.open_database());
    let node = node_on(design, site, Arc::clone(&store.store), limits, TurnLimits::default());
    (store, node)
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "design {}", self.design)
    }
}

impl Fixture for Combination {
    fn node_waiting(&self, limits: Limits, lock_wait: Duration) -> Service {
        let turn_limits = waiting_for_lock(lock_wait);
        let (design, reads) = (self.design, Some(self.reads));
        if design.takes_lock() {
            let options = NodeOptions { design, reads, limits, turn_limits, ..self.site.options() };
            return node::open(&options).unwrap();
        }
        // Where nobody takes turns the rules hold on one node; where one leads, it writes.
        if let Some(node) = &*self.only_node.lock().unwrap() {
            return node.clone();
        }
        // Without a lock to hold, a test holds the node up where it commits.
        let store = Interrupted::new(self.site.open_database());
        let node = if design.has_leader() {
            node_on(design, &self.site, Arc::clone(&store.store), limits, turn_limits)
        } else {
            start_without_lock(design, Arc::clone(&store.store), limits, turn_limits)
        };
        self.stores.lock().unwrap().push(store);
        if !design.is_sound() || design.has_leader() {
            *self.only_node.lock().unwrap() = Some(node.clone());
        }
        node
    }

    fn has_history(&self) -> bool {
        self.site.store().history(self.design.storage) != History::None
    }

    fn takes_lock(&self) -> bool {
        self.design.takes_lock()
    }

    fn takes_turns(&self) -> bool {
        self.design.is_sound()
    }

    fn hold_up_a_commit(&self, cause: impl FnOnce()) -> mpsc::Sender<()> {
        let (go_on, may_go_on) = mpsc::channel();
        let (reached, is_reached) = mpsc::channel();
        let stores = self.stores.lock().unwrap();
        let [store] = &stores[..] else { panic!("one node is held up, not one of several") };
        stages::set(&store.before_commit, move || {
            reached.send(()).unwrap();
            may_go_on.recv_timeout(LIMIT).unwrap();
        });
        cause();
        is_reached.recv_timeout(LIMIT).unwrap();
        go_on
    }

    fn reads_wait(&self) -> bool {
        self.reads == Reads::Lock
    }

    fn shares_turns(&self) -> bool {
        self.design.batch == BatchSize::AllWaiting
    }

    fn site(&self) -> &Site {
        &self.site
    }
}

macro_rules! combinations {
    ($($name:ident: $kind:ident, $lock:ident, $reads:ident;)*) => {
        $(conformance::instantiate!(
            $name,
            crate::design::Combination::of_all_designs(
                crate::support::cluster::Kind::$kind,
                crate::design::Lock::$lock,
                fencepost::design::Reads::$reads
            )
        );)*
    };
}

combinations! {
    sqlite_file_reads_lock: Sqlite, Default, Lock;
    sqlite_file_reads_snapshot: Sqlite, Default, Snapshot;
    sqlite_redis_reads_lock: Sqlite, Redis, Lock;
    postgres_file_reads_lock: Postgres, Files, Lock;
    postgres_file_reads_snapshot: Postgres, Files, Snapshot;
    postgres_reads_lock: Postgres, Default, Lock;
    postgres_reads_snapshot: Postgres, Default, Snapshot;
    postgres_redis_reads_lock: Postgres, Redis, Lock;
    postgres_redis_reads_snapshot: Postgres, Redis, Snapshot;
}
