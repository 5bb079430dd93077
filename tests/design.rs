//! Every design on every database under every lock passes one suite: a fixture is a line here, a case is a function there.

mod conformance;
mod crud;
mod crud_naive;

use conformance::Fixture;
use fencepost::design::{Design, Limits, Reads, Service};
use fencepost::node::{self, LockUrl, NodeOptions};

use crate::support::cluster::{Kind, Site};
use crate::support::redis::Redis;

/// A design on a database under a lock.
struct Combination {
    site: Site,
    design: Design,
    reads: Reads,
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
        Self { site, design, reads }
    }
}

impl Fixture for Combination {
    fn node_with(&self, limits: Limits) -> Service {
        node::open(&NodeOptions { design: self.design, reads: self.reads, limits, ..self.site.options() }).unwrap()
    }

    fn reads_wait(&self) -> bool {
        self.reads == Reads::Lock
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
    crud_naive_sqlite_file_reads_lock: CrudNaive, Sqlite, Default, Lock;
    crud_naive_sqlite_file_reads_snapshot: CrudNaive, Sqlite, Default, Snapshot;
    crud_naive_postgres_file_reads_lock: CrudNaive, Postgres, Files, Lock;
    crud_naive_postgres_file_reads_snapshot: CrudNaive, Postgres, Files, Snapshot;
    crud_naive_postgres_reads_lock: CrudNaive, Postgres, Default, Lock;
    crud_naive_postgres_reads_snapshot: CrudNaive, Postgres, Default, Snapshot;
    crud_naive_postgres_redis_reads_lock: CrudNaive, Postgres, Redis, Lock;
}
