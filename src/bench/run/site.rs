//! Where the nodes of one point keep their graph: a copy of its base, the lock, and the way there.

use std::path::Path;

use super::base::{Base, Prepared};
use super::place::Urls;
use super::proxy::{Proxy, Upstream};
use super::results::Disk;
use super::servers::Servers;
use super::setting::{LockKind, Setting};
use crate::bench::BenchError;
use crate::db::{DiskUse, MeasuredPostgres, commits_in_log};

/// A copy of a base. One on a server is removed when it is dropped.
pub struct Site<'s> {
    copy: Prepared,
    servers: &'s Servers,
    /// As the nodes reach it.
    urls: Urls,
    /// As the first node does, if it is nearer.
    near: Option<Urls>,
    /// As whoever looks at it afterwards does.
    direct: Urls,
    proxy: Option<Proxy>,
}

impl<'s> Site<'s> {
    /// Copies the base, a file to the directory `to`, and starts the proxy if there is a delay.
    ///
    /// # Errors
    /// [`BenchError`] if there is no room, or a server is away.
    pub fn new(
        program: &Path,
        base: &Base,
        setting: &Setting,
        servers: &'s Servers,
        to: &Path,
    ) -> Result<Self, BenchError> {
        let copy = base.prepared.copy(to, servers)?;
        let mut site = Self {
            copy,
            servers,
            urls: Urls::default(),
            near: None,
            direct: Urls::default(),
            proxy: None,
        };
        match &site.copy {
            Prepared::File(file) => {
                site.urls = Urls::of_file(file);
                site.direct = site.urls.clone();
            }
            Prepared::Template(name) => {
                let postgres = servers.postgres()?;
                site.direct = Urls::of_server(postgres.url(name, None), None);
                if let Some(delay_us) = setting.delay_us {
                    let mut to = vec![(Upstream::Database, postgres.place()?)];
                    if setting.needs_redis() {
                        to.push((Upstream::Lock, servers.redis_place()?));
                    }
                    site.proxy = Some(Proxy::start(program, delay_us, &to)?);
                }
                let through = |upstream| site.proxy.as_ref()?.address(upstream);
                let lock = match setting.lock {
                    LockKind::Redis => servers.redis_url(through(Upstream::Lock))?,
                    LockKind::Postgres | LockKind::None | LockKind::File => "postgres".to_owned(),
                };
                let database = postgres.url(name, through(Upstream::Database));
                site.urls = Urls::of_server(database, Some(lock));
                if setting.first_is_near {
                    let lock = "postgres".to_owned();
                    site.near = Some(Urls::of_server(postgres.url(name, None), Some(lock)));
                }
            }
        }
        Ok(site)
    }

    /// The database and the lock, as that node reaches them; the first is 0.
    pub fn urls_of(&self, node: u32) -> &Urls {
        self.near.as_ref().filter(|_| node == 0).unwrap_or(&self.urls)
    }

    /// The database and the lock, as nodes reach them.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// The database, as whoever looks at it afterwards reaches it.
    pub fn direct(&self) -> &Urls {
        &self.direct
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.copy {
            Prepared::File(file) => Some(file),
            Prepared::Template(_) => None,
        }
    }

    /// The proxy between the nodes and database and lock, which stays as long as the site.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// A session on the server that the database is on, if it is on one.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`].
    pub fn session(&self) -> Result<Option<MeasuredPostgres>, BenchError> {
        match &self.copy {
            Prepared::File(_) => Ok(None),
            Prepared::Template(name) => self.servers.postgres()?.session(name).map(Some),
        }
    }

    /// The length of the write-ahead log that is beside a file; none of a server.
    pub fn wal_bytes(&self) -> Option<u64> {
        let wal = self.file()?.with_extension("db-wal");
        Some(std::fs::metadata(wal).map_or(0, |wal| wal.len()))
    }

    /// How often a file's write-ahead log was synced, while nodes have it open; none of a server.
    pub fn log_syncs(&self) -> Option<u64> {
        commits_in_log(self.file()?)
    }

    /// What it takes, when no node runs any more. `wal_bytes` is from while they did.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`].
    pub fn disk(&self, wal_bytes: Option<u64>) -> Result<Disk, BenchError> {
        let used = match &self.copy {
            Prepared::File(file) => DiskUse::of_sqlite(file),
            Prepared::Template(name) => self.servers.postgres()?.session(name)?.disk_use(),
        };
        let DiskUse { file, vacuumed, parts } = used.map_err(BenchError::Unavailable)?;
        Ok(Disk { file_bytes: file, wal_bytes, vacuumed_bytes: vacuumed, parts })
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let (Prepared::Template(name), Ok(postgres)) = (&self.copy, self.servers.postgres()) {
            postgres.remove(name);
        }
    }
}
