//! Which sink: the one place that knows every engine.

use std::fmt;
use std::path::PathBuf;

use super::sink::{Purpose, Sink, SinkError};
use super::sinks::file::{self, FileSink};
use super::sinks::nats::{self, NatsSink};
use super::sinks::postgres::{self, PostgresSink};
use super::sinks::redis::{self, RedisSink};
use super::sinks::stdout::StandardOutput;
use crate::address::{self, Address};
use crate::event::Stream;
use crate::graph::Name;
use crate::terminal::shell_word;

/// Which sink. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum SinkUrl {
    /// `file:PATH`: one event a line.
    File(PathBuf),
    /// `-`: one event a line; cannot be resumed. To read, it is standard input.
    StandardOutput,
    /// `redis://…/STREAM`
    Redis(Address),
    /// `nats://…/STREAM`
    Nats(Address),
    /// `postgres://…/TABLE`
    Postgres(Address),
}

impl SinkUrl {
    /// Reads a sink's name.
    ///
    /// # Errors
    /// [`SinkError::Url`] says which forms there are.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        let wrong = |reason: &str| SinkError::Url {
            given: address::redacted(text),
            reason: reason.to_owned(),
        };
        if text == "-" {
            return Ok(Self::StandardOutput);
        }
        if let Some(path) = text.strip_prefix("file:") {
            address::check_path(path).map_err(wrong)?;
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(wrong("it names no file"))
            } else {
                Ok(Self::File(path.into()))
            };
        }
        let address = Address::parse(text).map_err(wrong)?;
        match address.scheme.as_str() {
            "redis" | "rediss" => redis::check(&address).map(|_| Self::Redis(address.clone())),
            "nats" | "tls" => nats::check(&address).map(|_| Self::Nats(address.clone())),
            "postgres" | "postgresql" => {
                postgres::check(&address).map(|_| Self::Postgres(address.clone()))
            }
            _ => Err("the scheme is of no engine that Fencepost writes to"),
        }
        .map_err(wrong)
    }

    /// The URL as it is stored: without what is or may be a password. Enough to connect again where
    /// no password is needed, or where the engine's client has it from elsewhere.
    #[must_use]
    pub fn for_reconnecting(&self) -> String {
        match self {
            Self::File(path) => {
                format!("file:{}", file::absolute(path).unwrap_or_else(|_| path.clone()).display())
            }
            Self::StandardOutput => self.to_string(),
            // A user's name alone opens nothing there, and would be read as a token or password.
            Self::Nats(address) | Self::Redis(address) => address.for_reconnecting(false),
            Self::Postgres(address) => address.for_reconnecting(true),
        }
    }

    /// What a person does to have an export begin there anew with the whole graph.
    #[must_use]
    pub fn how_to_begin_anew(&self, graph: &Name) -> String {
        let command = match self {
            Self::File(path) => {
                let path = path.display().to_string();
                format!("mv {} {}", shell_word(&path), shell_word(&format!("{path}.old")))
            }
            Self::StandardOutput => return "export again".to_owned(),
            Self::Redis(address) => redis::how_to_delete(address),
            Self::Nats(address) => nats::how_to_delete(address),
            Self::Postgres(address) => postgres::how_to_delete(address, graph),
        };
        format!("`{command}`, then export again")
    }

    /// Opens it for the log of `stream`.
    ///
    /// # Errors
    /// [`SinkError`] says what to do.
    pub fn open(&self, stream: &Stream, purpose: Purpose) -> Result<Box<dyn Sink>, SinkError> {
        Ok(match self {
            Self::File(path) => Box::new(FileSink::open(path, purpose)?),
            Self::StandardOutput if purpose != Purpose::Append => Box::new(FileSink::stdin()?),
            Self::StandardOutput => Box::new(StandardOutput::open(purpose)?),
            Self::Redis(address) => Box::new(RedisSink::open(address, purpose)?),
            Self::Nats(address) => Box::new(NatsSink::open(address, purpose)?),
            Self::Postgres(address) => Box::new(PostgresSink::open(address, stream, purpose)?),
        })
    }
}

impl fmt::Display for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::StandardOutput => f.write_str("standard output"),
            Self::Redis(address) | Self::Nats(address) | Self::Postgres(address) => {
                write!(f, "{address}")
            }
        }
    }
}

impl fmt::Debug for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
