//! The lock on Redis: conformance, and what is its own.

mod exploration;
mod faults;
mod scripts;
mod specification;
mod urls;

use std::path::Path;
use std::sync::Arc;

use fencepost::lock::DistributedLock;
use fencepost::lock::redis::{RedisLock, RedisUrl, Terms};

use super::conformance::LockFixture;
use crate::support::redis::Redis;
use crate::support::wire::Wire;

/// A database of its own on the server that tests share.
pub struct Fixture {
    url: String,
    scratch: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        Self {
            url: Redis::shared().new_database(),
            scratch: tempfile::tempdir().expect("a directory"),
        }
    }

    /// The same database, through a wire.
    pub fn through(&self, wire: &Wire) -> String {
        let (_, database) = self.url.rsplit_once('/').expect("a URL with a database");
        format!("{}/{database}", wire.url())
    }
}

impl LockFixture for Fixture {
    fn node(&self) -> Arc<dyn DistributedLock> {
        Arc::new(open(&self.url, Terms::default()))
    }

    fn address(&self) -> String {
        self.url.clone()
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

pub fn open(url: &str, terms: Terms) -> RedisLock {
    RedisLock::open(&RedisUrl::parse(url).expect("a URL"), terms).expect("a server")
}

lock_conformance!(Fixture::new());
