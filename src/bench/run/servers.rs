//! The servers of databases and locks that a run measures designs on: its own, on free ports of
//! 127.0.0.1, in its directory, and ended with it; or given by URL. Each is started only if a point
//! needs it.
//!
//! Durability is as the servers are shipped. What differs is in `postgres.rs` and `redis.rs`, and
//! in the results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::RunArgs;
use super::place::file_error;
use super::setting::Setting;
use crate::address::Address;
use crate::bench::BenchError;

mod kept;
mod ports;
mod postgres;
mod programs;
mod redis;
mod secrets;

pub use postgres::Postgres;
use postgres::place_of;
use redis::Redis;

/// What a commit on SQLite survives that was answered.
const SQLITE_DURABILITY: &str = "sqlite, WAL, synchronous=FULL: a crash of the machine";

/// The servers of databases and locks of a run.
#[derive(Debug)]
pub struct Servers {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    /// Of Redis, to start it again; none of a given one.
    redis_directory: Option<PathBuf>,
}

impl Servers {
    /// Starts what these settings need, in `directory`. What a run made in `run`, and has left on
    /// given servers, is removed.
    ///
    /// # Errors
    /// [`BenchError`] says what to install, or what went wrong.
    pub fn start<'s>(
        settings: impl Iterator<Item = &'s Setting> + Clone,
        args: &RunArgs,
        directory: &Path,
        run: &Path,
    ) -> Result<Self, BenchError> {
        // They run in it.
        let directory =
            &std::path::absolute(directory).map_err(|error| file_error(directory, &error))?;
        let mut started = Self { postgres: None, redis: None, redis_directory: None };
        // What is missing is told before anything is started.
        let needs_postgres = settings.clone().any(Setting::needs_postgres);
        let needs_redis = settings.clone().any(Setting::needs_redis);
        let has_delay = settings.clone().any(|setting| setting.delay_us.is_some());
        let has_checkpoint = { settings }.any(|setting| setting.after_checkpoint);
        if needs_postgres && args.postgres_url.is_none() {
            programs::postgres_programs()?;
        }
        if needs_redis {
            started.redis = Some(match &args.redis_url {
                Some(url) => Redis::given(url)?,
                None => {
                    let directory = directory.join("redis");
                    started.redis_directory = Some(directory.clone());
                    Redis::start(&directory)?
                }
            });
        }
        if needs_postgres {
            started.postgres = Some(match &args.postgres_url {
                Some(url) => Postgres::given(url, run)?,
                None => Postgres::start(&directory.join("postgres"))?,
            });
        }
        // Whatever would fail at each of many points is told before the first.
        if let Some(postgres) = started.postgres.as_ref().filter(|_| args.postgres_url.is_some()) {
            if has_delay {
                postgres.place()?;
            }
            postgres.check_rights(has_checkpoint)?;
        }
        if needs_redis && has_delay {
            started.redis_place()?;
        }
        Ok(started)
    }

    /// Starts again what this setting needs and does not answer.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if that cannot be.
    pub fn revive(&mut self, setting: &Setting) -> Result<(), BenchError> {
        if setting.needs_postgres()
            && let Some(postgres) = &mut self.postgres
        {
            postgres.revive()?;
        }
        if setting.needs_redis()
            && let Some(redis) = &mut self.redis
            && let Err(why) = redis.lives()
            && let Some(directory) = &self.redis_directory
        {
            log::warn!("Redis is started again: {why}");
            *redis = Redis::start(directory)?;
        }
        Ok(())
    }

    /// Versions and settings, by name.
    #[must_use]
    pub fn software(&self) -> BTreeMap<String, String> {
        let mut software = BTreeMap::new();
        if let Some(postgres) = &self.postgres {
            let facts = postgres.facts();
            let settings = facts.settings.iter().map(|(name, value)| format!("{name}={value}"));
            let settings = settings.collect::<Vec<_>>().join(" ");
            software.insert("postgres".to_owned(), facts.version.clone());
            software.insert("postgres settings".to_owned(), settings);
            software.insert("postgres server".to_owned(), postgres.whose());
        }
        if let Some(redis) = &self.redis {
            software.insert("redis".to_owned(), redis.version().to_owned());
            software.insert("redis settings".to_owned(), redis.settings().to_owned());
            software.insert("redis server".to_owned(), redis.whose());
        }
        software
    }

    /// What an answered commit survives in this setting.
    #[must_use]
    pub fn durability(&self, setting: &Setting) -> String {
        match &self.postgres {
            Some(postgres) if setting.needs_postgres() => postgres.facts().durability(),
            _ => SQLITE_DURABILITY.to_owned(),
        }
    }

    /// The server of databases.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if there is none.
    pub fn postgres(&self) -> Result<&Postgres, BenchError> {
        let none = || BenchError::Unavailable("there is no Postgres".to_owned());
        self.postgres.as_ref().ok_or_else(none)
    }

    /// The URL of the Redis server, with its password; through `proxy`, if there is one.
    ///
    /// # Errors
    /// [`BenchError`] if there is none, or it is no URL.
    pub fn redis_url(&self, proxy: Option<&str>) -> Result<String, BenchError> {
        let redis = self.redis()?;
        let Some(proxy) = proxy else { return Ok(redis.url().to_owned()) };
        let address = redis_address(redis.url())?;
        let path = address.path().unwrap_or_default().join("/");
        let Address { scheme, login, tail, .. } = address;
        Ok(format!("{scheme}://{login}{proxy}/{path}{tail}"))
    }

    /// `HOST:PORT` of the Redis server, as a proxy reaches it.
    ///
    /// # Errors
    /// [`BenchError`] if there is none, or its URL names no host.
    pub fn redis_place(&self) -> Result<String, BenchError> {
        place_of(&redis_address(self.redis()?.url())?, "6379")
    }

    /// `HOST:PORT` of the run's own Redis server, and its password.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if there is none.
    pub fn own_redis(&self) -> Result<(String, String), BenchError> {
        let given = || BenchError::Unavailable("a given Redis is left alone".to_owned());
        let password = self.redis()?.own_password().ok_or_else(given)?;
        Ok((self.redis_place()?, password.to_owned()))
    }

    fn redis(&self) -> Result<&Redis, BenchError> {
        let none = || BenchError::Unavailable("there is no Redis".to_owned());
        self.redis.as_ref().ok_or_else(none)
    }

    /// The first process of each server of the run's own that this setting needs, by name.
    #[must_use]
    pub fn processes(&self, setting: &Setting) -> Vec<(&'static str, u32)> {
        let postgres = self.postgres.as_ref().filter(|_| setting.needs_postgres());
        let redis = self.redis.as_ref().filter(|_| setting.needs_redis());
        let postgres = postgres.and_then(Postgres::process).map(|process| ("postgres", process));
        let redis = redis.and_then(Redis::process).map(|process| ("redis", process));
        postgres.into_iter().chain(redis).collect()
    }
}

fn redis_address(url: &str) -> Result<Address, BenchError> {
    Address::parse(url).map_err(|why| BenchError::Usage(format!("--redis-url: {why}")))
}
