//! Every design on every database under every lock passes one suite: a fixture is a line here, a case is a function there.

mod conformance;
mod crud;

use conformance::Fixture;
use fencepost::design::{Limits, Reads, Service};
use fencepost::node::{self, NodeOptions};

use crate::support::cluster::Site;

/// `crud` on SQLite under `file:`.
struct CrudSqliteFile {
    site: Site,
    reads: Reads,
}

impl CrudSqliteFile {
    fn new(reads: Reads) -> Self {
        Self { site: Site::new(), reads }
    }
}

impl Fixture for CrudSqliteFile {
    fn node_with(&self, limits: Limits) -> Service {
        node::open(&NodeOptions { reads: self.reads, limits, ..self.site.options() }).unwrap()
    }

    fn reads_wait(&self) -> bool {
        self.reads == Reads::Lock
    }

    fn site(&self) -> &Site {
        &self.site
    }
}

conformance::instantiate!(
    crud_sqlite_file_reads_lock,
    crate::design::CrudSqliteFile::new(fencepost::design::Reads::Lock)
);
conformance::instantiate!(
    crud_sqlite_file_reads_snapshot,
    crate::design::CrudSqliteFile::new(fencepost::design::Reads::Snapshot)
);
