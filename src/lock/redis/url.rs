//! Where a Redis server is, and who asks it. Told without the password, and remembered without the
//! user.

use std::fmt;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};

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
        Ok(Self { info: text.into_connection_info().map_err(invalid)? })
    }

    pub(super) fn client(&self) -> Result<Client, RedisError> {
        // Whoever was first has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::open(self.info.clone())
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        let of = |url: &Self| {
            (
                url.info.redis_settings().username().map(str::to_owned),
                url.info.redis_settings().password().map(str::to_owned),
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
