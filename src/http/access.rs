//! Refuses requests of web pages that a browser on this machine has open.
//!
//! A service on loopback asks nobody who they are: only this machine reaches it. A browser on this
//! machine does too, on behalf of any page. Two headers, which a page cannot forge, tell its
//! requests apart:
//!
//! - `Host` is the name in the URL of the request. A page whose own name resolves to 127.0.0.1 (DNS
//!   rebinding) may read our answers, but its requests carry that name. An IP address is never such
//!   a name, nor is `localhost`.
//! - `Origin` is where the page comes from. A browser sends it with every request that may write,
//!   and with every one to another origin whose answer the page may read. A page of ours (`/docs`)
//!   has the scheme, host and port that its requests go to.
//!
//! A server that clients know by other names, such as one behind a proxy on the same machine, is
//! started with those.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::headers::Headers;
use super::problem::{Kind, Problem};

/// Of URLs that name none.
const HTTP_PORT: u16 = 80;

/// What a URL may name as a host.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HostName {
    Address(IpAddr),
    /// In lower case, without the dot at the end that says that it is absolute.
    Name(String),
}

/// A host, and a port if it has one: what `Host` holds, and `--allowed-host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    host: HostName,
    port: Option<u16>,
}

/// What `Origin` holds, and `--allowed-origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin {
    /// In lower case.
    scheme: String,
    host: HostName,
    /// That of the scheme, if none is said and it has one.
    port: Option<u16>,
}

/// Why a text is no host or no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Of `--allowed-host`.
    #[error(
        "is no host; give a name or an IP address, as HOST, or as HOST:PORT for that port only"
    )]
    Host,
    /// Of `--allowed-origin`.
    #[error("is no origin; give https://HOST or https://HOST:PORT, without a path")]
    Origin,
}

impl HostName {
    fn read(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[') {
            return address
                .strip_suffix(']')?
                .parse()
                .ok()
                .map(|address: Ipv6Addr| Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !name.is_empty() && name.bytes().all(ordinary);
        is_name.then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for AllowedHost {
    type Err = InvalidAddress;

    /// `HOST` or `HOST:PORT`; an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let bracket = text.rfind(']').unwrap_or_default();
        let (host, port) = match text.rfind(':') {
            Some(colon) if colon >= bracket => (&text[..colon], &text[colon + 1..]),
            _ => (text, ""),
        };
        let host = HostName::read(host).ok_or(InvalidAddress::Host)?;
        // A colon with nothing after it is allowed by RFC 3986.
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = if port.is_empty() {
            None
        } else {
            Some(port.parse().ok().filter(|_| digits).ok_or(InvalidAddress::Host)?)
        };
        Ok(Self { host, port })
    }
}

impl FromStr for AllowedOrigin {
    type Err = InvalidAddress;

    /// `SCHEME://HOST` or `SCHEME://HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (scheme, authority) = text.split_once("://").ok_or(InvalidAddress::Origin)?;
        let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(ordinary) {
            return Err(InvalidAddress::Origin);
        }
        let AllowedHost { host, port } = authority.parse().map_err(|_| InvalidAddress::Origin)?;
        Ok(Self::new(scheme, host, port))
    }
}

impl AllowedOrigin {
    fn new(scheme: &str, host: HostName, port: Option<u16>) -> Self {
        let scheme = scheme.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => Some(HTTP_PORT),
            "https" => Some(443),
            _ => None,
        };
        Self { scheme, host, port: port.or(usual) }
    }
}

/// Which hosts requests may name, and from which origins they may come.
#[derive(Debug, Clone)]
pub struct Access {
    /// Whether any is refused.
    checked: bool,
    hosts: Vec<AllowedHost>,
    origins: Vec<AllowedOrigin>,
}

impl Access {
    /// Of a service that listens on loopback only, or not. On loopback, a request must name an IP
    /// address, `localhost` or one of `hosts`, and come from no page but the service's own and
    /// those of `origins`. Elsewhere the same holds if there is any of `hosts` or `origins`; if
    /// not, the names that clients know the service by are not known here, and none is refused.
    #[must_use]
    pub fn new(on_loopback: bool, hosts: Vec<AllowedHost>, origins: Vec<AllowedOrigin>) -> Self {
        let checked = on_loopback || !hosts.is_empty() || !origins.is_empty();
        Self { checked, hosts, origins }
    }

    /// Where hosts are checked, `host` is allowed too: it is what clients and other nodes are told.
    #[must_use]
    pub fn known_as(mut self, host: Option<AllowedHost>) -> Self {
        self.hosts.extend(host);
        self
    }

    /// Looks at the headers of a request.
    ///
    /// # Errors
    /// [`Problem`] if it is refused.
    pub fn check(&self, headers: &Headers) -> Result<(), Problem> {
        if !self.checked {
            return Ok(());
        }
        let forbidden = |detail: String| Problem::new(Kind::Forbidden, detail);
        let named = headers.get("host").ok_or_else(|| {
            forbidden("the request has no host header: send one with the server's address".into())
        })?;
        let host: Option<AllowedHost> = named.parse().ok();
        let host = host.filter(|host| self.is_ours(host)).ok_or_else(|| {
            forbidden(format!(
                "`{named}` is no name of this service: use its IP address or localhost, or start \
                 it with --allowed-host"
            ))
        })?;
        let Some(page) = headers.get("origin") else { return Ok(()) };
        let origin: Option<AllowedOrigin> = page.parse().ok();
        let ours = AllowedOrigin::new("http", host.host, host.port);
        match origin {
            Some(origin) if origin == ours || self.origins.contains(&origin) => Ok(()),
            _ => Err(forbidden(format!(
                "web pages of the origin `{page}` may not use this service: to allow them, start \
                 it with --allowed-origin"
            ))),
        }
    }

    fn is_ours(&self, asked: &AllowedHost) -> bool {
        match &asked.host {
            HostName::Address(_) => return true,
            HostName::Name(name) if name == "localhost" => return true,
            HostName::Name(_) => {}
        }
        let port = asked.port.unwrap_or(HTTP_PORT);
        let allows = |allowed: &AllowedHost| {
            allowed.host == asked.host && allowed.port.is_none_or(|allowed| allowed == port)
        };
        self.hosts.iter().any(allows)
    }
}
