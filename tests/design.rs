//! Every design on every database under every lock passes one suite: a fixture is a line here, a case is a function there.

mod conformance;
mod crud;
mod crud_naive;

use conformance::Fixture;
use fencepost::design::{Design, Limits, Reads, Service};
use fencepost::node::{self, LockUrl, NodeOptions};

use crate::support::cluster::{Kind, Site};

/// A design on a database under a lock.
struct Combination {
    site: Site,
    design: Design,
    reads: Reads,
}

impl Combination {
    /// Under the lock that is the database's default.
    fn new(kind: Kind, reads: Reads) -> Self {
        Self { site: Site::on(kind), design: Design::Crud, reads }
    }

    /// Under a lock in a directory, whatever the database.
    fn under_files(kind: Kind, reads: Reads) -> Self {
        let mut site = Site::on(kind);
        site.lock_url = Some(LockUrl::File(Some(site.path("locks"))));
        Self { site, design: Design::Crud, reads }
    }

    /// The same of another design than `crud`.
    fn of(self, design: Design) -> Self {
        Self { design, ..self }
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

conformance::instantiate!(
    crud_sqlite_file_reads_lock,
    crate::design::Combination::new(crate::support::cluster::Kind::Sqlite, fencepost::design::Reads::Lock)
);
conformance::instantiate!(
    crud_sqlite_file_reads_snapshot,
    crate::design::Combination::new(crate::support::cluster::Kind::Sqlite, fencepost::design::Reads::Snapshot)
);
conformance::instantiate!(
    crud_postgres_file_reads_lock,
    crate::design::Combination::under_files(crate::support::cluster::Kind::Postgres, fencepost::design::Reads::Lock)
);
conformance::instantiate!(
    crud_postgres_reads_lock,
    crate::design::Combination::new(crate::support::cluster::Kind::Postgres, fencepost::design::Reads::Lock)
);
conformance::instantiate!(
    crud_postgres_reads_snapshot,
    crate::design::Combination::new(crate::support::cluster::Kind::Postgres, fencepost::design::Reads::Snapshot)
);
conformance::instantiate!(
    crud_naive_sqlite_file_reads_lock,
    crate::design::Combination::new(crate::support::cluster::Kind::Sqlite, fencepost::design::Reads::Lock)
        .of(fencepost::design::Design::CrudNaive)
);
conformance::instantiate!(
    crud_naive_sqlite_file_reads_snapshot,
    crate::design::Combination::new(crate::support::cluster::Kind::Sqlite, fencepost::design::Reads::Snapshot)
        .of(fencepost::design::Design::CrudNaive)
);
conformance::instantiate!(
    crud_naive_postgres_file_reads_lock,
    crate::design::Combination::under_files(crate::support::cluster::Kind::Postgres, fencepost::design::Reads::Lock)
        .of(fencepost::design::Design::CrudNaive)
);
conformance::instantiate!(
    crud_postgres_file_reads_snapshot,
    crate::design::Combination::under_files(
        crate::support::cluster::Kind::Postgres,
        fencepost::design::Reads::Snapshot
    )
);
conformance::instantiate!(
    crud_naive_postgres_file_reads_snapshot,
    crate::design::Combination::under_files(
        crate::support::cluster::Kind::Postgres,
        fencepost::design::Reads::Snapshot
    )
    .of(fencepost::design::Design::CrudNaive)
);
conformance::instantiate!(
    crud_naive_postgres_reads_lock,
    crate::design::Combination::new(crate::support::cluster::Kind::Postgres, fencepost::design::Reads::Lock)
        .of(fencepost::design::Design::CrudNaive)
);
conformance::instantiate!(
    crud_naive_postgres_reads_snapshot,
    crate::design::Combination::new(crate::support::cluster::Kind::Postgres, fencepost::design::Reads::Snapshot)
        .of(fencepost::design::Design::CrudNaive)
);
