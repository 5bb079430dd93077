//! Every design on every database under every lock passes one suite: a fixture is a line here, a
//! case is a function there.

mod conformance;
mod crud;
mod crud_delta;
mod crud_naive;
mod crud_optimistic;
mod keys;
mod lanes;
mod listeners;
mod turns;

use std::sync::{Arc, Mutex, mpsc};

use conformance::Fixture;
use fencepost::design::{Design, Limits, Reads, Service};
use fencepost::node::{self, LockUrl, NodeOptions};

use crate::support::cluster::{Kind, LIMIT, Site};
use crate::support::redis::Redis;
use crate::support::stages::{self, Interrupted};

/// A design on a database under a lock.
struct Combination {
    site: Site,
    design: Design,
    reads: Reads,
    /// Of the nodes of a design without a lock.
    stores: Mutex<Vec<Arc<Interrupted>>>,
}

/// Which lock guards it.
enum Lock {
    /// The one that is the database's default.
    Default,
    /// One in a directory, whatever the database.
    Files,
    /// A database of its own on a Redis server.
    Redis,
}

impl Combination {
    fn new(design: Design, kind: Kind, lock: Lock, reads: Reads) -> Self {
        let mut site = Site::on(kind);
        site.lock_url = match lock {
            Lock::Default => None,
            Lock::Files => Some(LockUrl::File(Some(site.path("locks")))),
            Lock::Redis => Some(LockUrl::parse(&Redis::shared().new_database()).unwrap()),
        };
        Self { site, design, reads, stores: Mutex::default() }
    }
}

impl Fixture for Combination {
    fn node_with(&self, limits: Limits) -> Service {
        let options =
            NodeOptions { design: self.design, reads: self.reads, limits, ..self.site.options() };
        if self.design.takes_lock() {
            return node::open(&options).unwrap();
        }
        // Without a lock to hold, a test holds the node up where it commits.
        let store = Arc::new(Interrupted::new(self.site.store()));
        self.stores.lock().unwrap().push(Arc::clone(&store));
        Service::new(store, None, self.design, self.reads, limits)
    }

    fn takes_lock(&self) -> bool {
        self.design.takes_lock()
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
        self.reads == Reads::Lock && self.design.takes_lock()
    }

    fn shares_turns(&self) -> bool {
        self.design.shares_turns()
    }

    fn site(&self) -> &Site {
        &self.site
    }
}

macro_rules! combinations {
    ($($name:ident: $design:ident, $kind:ident, $lock:ident, $reads:ident;)*) => {
        $(conformance::instantiate!(
            $name,
            crate::design::Combination::new(
                fencepost::design::Design::$design,
                crate::support::cluster::Kind::$kind,
                crate::design::Lock::$lock,
                fencepost::design::Reads::$reads
            )
        );)*
    };
}

combinations! {
    crud_sqlite_file_reads_lock: Crud, Sqlite, Default, Lock;
    crud_sqlite_file_reads_snapshot: Crud, Sqlite, Default, Snapshot;
    crud_sqlite_redis_reads_lock: Crud, Sqlite, Redis, Lock;
    crud_postgres_file_reads_lock: Crud, Postgres, Files, Lock;
    crud_postgres_file_reads_snapshot: Crud, Postgres, Files, Snapshot;
    crud_postgres_reads_lock: Crud, Postgres, Default, Lock;
    crud_postgres_reads_snapshot: Crud, Postgres, Default, Snapshot;
    crud_postgres_redis_reads_lock: Crud, Postgres, Redis, Lock;
    crud_postgres_redis_reads_snapshot: Crud, Postgres, Redis, Snapshot;
    crud_delta_sqlite_file_reads_lock: CrudDelta, Sqlite, Default, Lock;
    crud_delta_sqlite_file_reads_snapshot: CrudDelta, Sqlite, Default, Snapshot;
    crud_delta_sqlite_redis_reads_lock: CrudDelta, Sqlite, Redis, Lock;
    crud_delta_postgres_file_reads_lock: CrudDelta, Postgres, Files, Lock;
    crud_delta_postgres_reads_lock: CrudDelta, Postgres, Default, Lock;
    crud_delta_postgres_reads_snapshot: CrudDelta, Postgres, Default, Snapshot;
    crud_delta_postgres_redis_reads_lock: CrudDelta, Postgres, Redis, Lock;
    crud_delta_postgres_redis_reads_snapshot: CrudDelta, Postgres, Redis, Snapshot;
    crud_optimistic_sqlite_reads_lock: CrudOptimistic, Sqlite, Default, Lock;
    crud_optimistic_sqlite_reads_snapshot: CrudOptimistic, Sqlite, Default, Snapshot;
    crud_optimistic_postgres_reads_lock: CrudOptimistic, Postgres, Default, Lock;
    crud_optimistic_postgres_reads_snapshot: CrudOptimistic, Postgres, Default, Snapshot;
    crud_naive_sqlite_file_reads_lock: CrudNaive, Sqlite, Default, Lock;
    crud_naive_sqlite_file_reads_snapshot: CrudNaive, Sqlite, Default, Snapshot;
    crud_naive_postgres_file_reads_lock: CrudNaive, Postgres, Files, Lock;
    crud_naive_postgres_file_reads_snapshot: CrudNaive, Postgres, Files, Snapshot;
    crud_naive_postgres_reads_lock: CrudNaive, Postgres, Default, Lock;
    crud_naive_postgres_reads_snapshot: CrudNaive, Postgres, Default, Snapshot;
    crud_naive_postgres_redis_reads_lock: CrudNaive, Postgres, Redis, Lock;
}
