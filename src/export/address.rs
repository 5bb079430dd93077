//! The URL of an engine, taken apart before any client library sees it: their complaints about a
//! URL may quote the password in it.

use std::fmt;

use percent_encoding::percent_decode_str;

/// `SCHEME://[LOGIN@]PLACE/PATH[?…][#…]`. Shown without its login and what follows the path.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Before `://`.
    pub(super) scheme: String,
    /// As it was given, with its `@`; empty if there is none.
    pub(super) login: String,
    /// `HOST[:PORT]`; for Postgres, several with commas between them.
    pub(super) place: String,
    /// What slashes part, as it was given.
    path: Vec<String>,
    /// From the first `?` or `#` on.
    pub(super) tail: String,
}

impl Address {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it is no URL")?;
        let (before, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let (authority, path) = before.split_once('/').unwrap_or((before, ""));
        let (login, place) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        if login.is_empty() && path.contains('@') {
            return Err("a slash in the user or password is written %2F, and an @ in the path %40");
        }
        if !is_escaped_well(login) || !is_escaped_well(path) {
            return Err("a percent sign is written %25");
        }
        if !place.split(',').all(has_good_port) {
            return Err(
                "its port is no number from 1 to 65535; in a user or password, : is written %3A, / %2F, ? %3F and # %23",
            );
        }
        let path =
            if path.is_empty() { Vec::new() } else { path.split('/').map(str::to_owned).collect() };
        let [scheme, login, place, tail] = [scheme, login, place, tail].map(str::to_owned);
        Ok(Self { scheme, login, place, path, tail })
    }

    /// The path's segments, as they are meant.
    ///
    /// # Errors
    /// What is wrong with one.
    pub(super) fn path(&self) -> Result<Vec<String>, &'static str> {
        self.path.iter().map(|segment| decoded(segment)).collect()
    }

    /// User and password, as they are meant.
    ///
    /// # Errors
    /// What is wrong with one.
    pub(super) fn login(&self) -> Result<Option<(String, Option<String>)>, &'static str> {
        let Some(login) = self.login.strip_suffix('@') else { return Ok(None) };
        let (user, password) =
            login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        Ok(Some((decoded(user)?, password.map(decoded).transpose()?)))
    }

    /// The URL of the server, with only the first `segments` of the path.
    pub(super) fn server(&self, segments: usize) -> String {
        let Self { scheme, login, place, path, tail } = self;
        format!("{scheme}://{login}{place}/{}{tail}", path[..segments].join("/"))
    }
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "a part of it is no UTF-8")?;
    Ok(decoded.into_owned())
}

fn is_escaped_well(text: &str) -> bool {
    let is_hex = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    text.split('%').skip(1).all(|after| after.get(..2).is_some_and(is_hex))
}

fn has_good_port(place: &str) -> bool {
    // The colons of an IPv6 address are within its brackets.
    let after_host = place.rfind(']').map_or(place, |end| &place[end..]);
    after_host
        .split_once(':')
        .is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.place, self.path.join("/"))
    }
}

/// What can be shown of a text that was meant for a URL and may be none.
pub(super) fn without_login(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let before = rest.split(['?', '#']).next().unwrap_or_default();
    let separator = if scheme.is_empty() { "" } else { "://" };
    // Whatever it is, a password may come before an @, and a parameter may be one.
    match (before.rsplit_once('@'), rest.contains('@')) {
        (Some((_, place)), _) => format!("{scheme}{separator}{place}"),
        (None, true) => format!("{scheme}{separator}***"),
        (None, false) => format!("{scheme}{separator}{before}"),
    }
}
