//! Where a Redis server is, and who asks it. Told without the password, and remembered without the
//! user.

use std::fmt;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};

use crate::address::{self, Address};

/// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://…` for TLS, or
/// `redis+unix:///PATH[?db=DATABASE&user=…&pass=…]`.
#[derive(Clone)]
pub struct RedisUrl {
    info: ConnectionInfo,
}

/// What is wrong with a URL, without the URL: there may be a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRedisUrl(String);

impl RedisUrl {
    /// The beginnings of URLs that name a Redis server.
    pub const SCHEMES: [&str; 3] = ["redis:", "rediss:", "redis+unix:"];

    /// Reads it.
    ///
    /// # Errors
    /// [`InvalidRedisUrl`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidRedisUrl> {
        let invalid = |error: RedisError| {
            // Without the client's name for the kind of error.
            let text = error.to_string();
            InvalidRedisUrl(text.split(" - ").next().unwrap_or_default().to_owned())
        };
        check(text).map_err(|reason| InvalidRedisUrl(reason.to_owned()))?;
        Ok(Self { info: text.into_connection_info().map_err(invalid)? })
    }

    pub(super) fn client(&self) -> Result<Client, RedisError> {
        // Whoever was first has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::open(self.info.clone())
    }

    /// An error of connecting, without the password, should the server repeat it: one that does not
    /// know the command that a client introduces itself with quotes that command whole.
    pub(super) fn without_password(&self, error: RedisError) -> RedisError {
        let text = error.to_string();
        let covered = address::without_secrets(text.clone(), self.password().into_iter());
        if covered == text {
            return error;
        }
        (error.kind(), "the server refused the connection", covered).into()
    }

    fn password(&self) -> Option<&str> {
        self.info.redis_settings().password()
    }
}

/// Refuses what the client would read otherwise than it was meant, or complain about without saying
/// which character is wrong.
fn check(text: &str) -> Result<(), &'static str> {
    let is_unix = text.get(..11).is_some_and(|scheme| scheme.eq_ignore_ascii_case("redis+unix:"));
    match text.split_once("://") {
        Some((_, path)) if is_unix => {
            let path = path.split(['?', '#']).next().unwrap_or_default();
            if path.contains("pass=") || path.contains("user=") {
                return Err("its parameters begin with a ?");
            }
            Ok(())
        }
        Some(_) => Address::parse(text).map(drop),
        None => Ok(()),
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        let of = |url: &Self| {
            (
                url.info.redis_settings().username().map(str::to_owned),
                url.password().map(str::to_owned),
            )
        };
        self.to_string() == other.to_string() && of(self) == of(other)
    }
}

impl Eq for RedisUrl {}

/// Without user and password: which server, and which of its databases.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.info.redis_settings().db();
        // An address of IPv6 needs its brackets.
        let bracketed =
            |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self.info.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => {
                write!(f, "rediss://{}:{port}/{database}", bracketed(host))
            }
            ConnectionAddr::Unix(path) => {
                write!(f, "redis+unix://{}?db={database}", path.display())
            }
            ConnectionAddr::Tcp(host, port) => {
                write!(f, "redis://{}:{port}/{database}", bracketed(host))
            }
            other => write!(f, "redis://{other}/{database}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
