//! A Redis server that locks are kept on: one of the run's own, or a given one.

use std::path::Path;
use std::time::Duration;

use super::kept::{Kept, OWN, Start};
use super::ports::free_port;
use super::programs::redis_program;
use super::secrets::{new_password, write_for};
use crate::address::redacted;
use crate::bench::BenchError;
use crate::bench::run::place::file_error;
use crate::lock::redis::{RedisUrl, server_version};

/// How long it may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// What its own server keeps over a restart: nothing, since a lock need not.
const SETTINGS: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// A server.
#[derive(Debug)]
pub struct Redis {
    /// With its password.
    url: String,
    /// As in `Redis 7.2.4`.
    version: String,
    /// Of the run's own: the server, and its password.
    own: Option<(Kept, String)>,
}

impl Redis {
    /// Starts one in a directory that is made.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] says what to install, or what went wrong.
    pub fn start(directory: &Path) -> Result<Self, BenchError> {
        let program = redis_program()?;
        std::fs::create_dir_all(directory).map_err(|error| file_error(directory, &error))?;
        let (file, password) = (directory.join("redis.conf"), new_password());
        write_for(None, &file, &format!("requirepass {password}\n"))
            .map_err(|error| file_error(&file, &error))?;
        let port = free_port()?.to_string();
        let listen = ["redis.conf", "--bind", "127.0.0.1", "--port", &port];
        let arguments: Vec<String> =
            listen.iter().chain(&SETTINGS).map(|word| (*word).to_owned()).collect();
        let start =
            Start { program: &program, arguments: &arguments, directory, owner: None, end: "TERM" };
        let failed = |why: String| {
            BenchError::Unavailable(format!("{} did not start: {why}", program.display()))
        };
        let mut kept = Kept::start(&start).map_err(|error| failed(error.to_string()))?;
        let url = format!("redis://:{password}@127.0.0.1:{port}");
        let mut version = String::new();
        let answers =
            || version_of(&url).map(|told| version = told).map_err(|error| error.to_string());
        kept.wait_until(STARTS_WITHIN, answers).map_err(failed)?;
        Ok(Self { url, version, own: Some((kept, password)) })
    }

    /// The one at `url`.
    ///
    /// # Errors
    /// [`BenchError`] if it is no URL, cannot be reached, or is too old.
    pub fn given(url: &str) -> Result<Self, BenchError> {
        let version = version_of(url)?;
        Ok(Self { url: url.to_owned(), version, own: None })
    }

    /// Where it is, with its password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As in `Redis 7.2.4`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it keeps, if that is known.
    #[must_use]
    pub fn settings(&self) -> &'static str {
        match self.own {
            Some(_) => "save='' appendonly=no",
            None => "of a given server",
        }
    }

    /// Whether it is the run's own, or where it is.
    #[must_use]
    pub fn whose(&self) -> String {
        match self.own {
            Some(_) => OWN.to_owned(),
            None => format!("given, at {}", redacted(&self.url)),
        }
    }

    /// The process of the run's own.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.own.as_ref().map(|(kept, _)| kept.process())
    }

    /// The password of the run's own.
    #[must_use]
    pub fn own_password(&self) -> Option<&str> {
        self.own.as_ref().map(|(_, password)| password.as_str())
    }

    /// Whether it answers, or will soon; a given one is taken to.
    ///
    /// # Errors
    /// Says what it said last.
    pub fn lives(&mut self) -> Result<(), String> {
        let Self { url, own, .. } = self;
        let answers = || version_of(url).map(drop).map_err(|error| error.to_string());
        own.as_mut().map_or(Ok(()), |(kept, _)| kept.wait_until(STARTS_WITHIN, answers))
    }
}

fn version_of(url: &str) -> Result<String, BenchError> {
    let parsed =
        RedisUrl::parse(url).map_err(|error| BenchError::Usage(format!("--redis-url: {error}")))?;
    server_version(&parsed).map_err(|error| BenchError::Unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_no_password_is_not_let_in() {
        let place = tempfile::tempdir().unwrap();
        let mut redis = Redis::start(place.path()).unwrap();
        assert_eq!(redis.lives(), Ok(()));
        let (_, address) = redis.url().split_once('@').unwrap();
        let refused = Redis::given(&format!("redis://{address}")).unwrap_err().to_string();
        assert!(refused.contains("NOAUTH"), "{refused}");
        let line = std::fs::read(format!("/proc/{}/cmdline", redis.process().unwrap())).unwrap();
        let line = String::from_utf8_lossy(&line);
        assert!(!line.contains(redis.own_password().unwrap()), "{line}");
        assert!(!redis.whose().contains(redis.own_password().unwrap()));
    }
}
