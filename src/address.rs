//! URLs of servers. They are parsed before a client library sees them, since its error message may
//! quote the password; and they are redacted before they are printed or stored.
//!
//! Every message, log line, `Debug` output and stored text shows a URL by [`redacted`] or by the
//! `Display` of an [`Address`]. Uses nothing of ours; anything may use it.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use percent_encoding::percent_decode_str;
use ureq::http::Uri;

/// Stands in place of what is redacted.
const HIDDEN: &str = "***";

/// Parameters whose values are not redacted.
const PUBLIC_PARAMETERS: [&str; 12] = [
    "application_name",
    "connect_timeout",
    "db",
    "dbname",
    "host",
    "hostaddr",
    "mode",
    "port",
    "protocol",
    "sslmode",
    "target_session_attrs",
    "user",
];

/// Parameters of libpq whose values may hold an `@`.
const PARAMETERS_WITH_AT: [&str; 7] =
    ["application_name", "dbname", "options", "passfile", "password", "sslpassword", "user"];

/// How our own messages write a login, when they say which URLs there are.
const PLACEHOLDERS: [&str; 2] = ["[USER:PASSWORD", "USER[:PASSWORD]"];

/// `SCHEME://[LOGIN@]PLACE/PATH[?…][#…]`. Shown without its login and what follows the path.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Before `://`.
    pub scheme: String,
    /// As it was given, with its `@`; empty if there is none.
    pub login: String,
    /// `HOST[:PORT]`; for Postgres, several with commas between them.
    pub place: String,
    /// What slashes part, as it was given.
    path: Vec<String>,
    /// From the first `?` or `#` on.
    pub tail: String,
}

impl Address {
    /// Reads it. A text that can be read in two ways, as one with a slash in its password can, is
    /// refused.
    ///
    /// # Errors
    /// What is wrong with it and which character is to be encoded, without quoting it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it is no URL")?;
        // Postgres' own client takes `?` and `#` in a password as they are.
        let ends: &[char] = if is_postgres(scheme) { &['/'] } else { &['/', '?', '#'] };
        let login_ends = rest[..rest.find(ends).unwrap_or(rest.len())].rfind('@');
        let (login, after) = rest.split_at(login_ends.map_or(0, |at| at + 1));
        let (place, after) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
        let (path, tail) = after.split_at(after.find(['?', '#']).unwrap_or(after.len()));
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.contains('@') {
            return Err("a slash in the user or password is written %2F, and an @ in the path %40");
        }
        if has_stray_at(tail) {
            return Err(
                "in a user or password, ? is written %3F and # %23; after the path, @ is written \
                 %40",
            );
        }
        if ![login, place, path].into_iter().all(is_escaped_well) {
            return Err("a percent sign is written %25");
        }
        if !place.split(',').all(has_good_port) {
            return Err(
                "its port is no number from 1 to 65535; in a user or password, : is written %3A, \
                 / %2F, ? %3F and # %23",
            );
        }
        if !place.split(',').all(has_good_host) {
            return Err(
                "its host has a character that no host has; in a user or password, @ is written \
                 %40 and / %2F",
            );
        }
        let path =
            if path.is_empty() { Vec::new() } else { path.split('/').map(str::to_owned).collect() };
        let [scheme, login, place, tail] = [scheme, login, place, tail].map(str::to_owned);
        Ok(Self { scheme, login, place, path, tail })
    }

    /// Refuses what libpq would complain about while it reads the URL: its complaints quote it.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn check_for_libpq(&self) -> Result<(), &'static str> {
        let Self { scheme: _, login, place, path, tail } = self;
        let login = login.strip_suffix('@').unwrap_or(login);
        if login.contains('@') {
            return Err("an @ in the user or password is written %40");
        }
        let parts = [login, place, tail].into_iter().chain(path.iter().map(String::as_str));
        if parts.clone().any(|part| part.contains(char::is_whitespace)) {
            return Err("a space is written %20");
        }
        if !is_escaped_well(tail) {
            return Err("a percent sign is written %25");
        }
        if parts.clone().any(|part| part.contains("%00")) {
            return Err("it holds %00, which no text of Postgres can");
        }
        let parameters = tail.strip_prefix('?').unwrap_or(tail);
        let is_parameter = |parameter: &str| {
            let mut parts = parameter.split('=');
            let (name, _) = (parts.next().unwrap_or_default(), parts.next());
            is_parameter_name(name) && parameter.contains('=') && parts.next().is_none()
        };
        if !given(parameters).all(is_parameter) {
            return Err(
                "its parameters are not NAME=VALUE with & between them; in a value, & is written \
                 %26 and = %3D; in a password, ? is written %3F",
            );
        }
        Ok(())
    }

    /// The first of these parameters that it names.
    #[must_use]
    pub fn names_one_of<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        let named = given(self.tail.strip_prefix('?').unwrap_or(&self.tail));
        let mut named = named.filter_map(|each| each.split_once('=')).map(|(name, _)| name);
        named.find_map(|given| names.iter().copied().find(|name| *name == given))
    }

    /// The URL for libpq, with those of `defaults` that it does not name itself, and without the
    /// `?` and `&` that stand before nothing.
    pub fn with_parameters(&self, defaults: &[(&str, &str)]) -> String {
        let Self { scheme, login, place, path, tail } = self;
        let named = given(tail.strip_prefix('?').unwrap_or(tail));
        let is_named = |name: &str| {
            named.clone().any(|each| each.split_once('=').is_some_and(|(given, _)| given == name))
        };
        let added = defaults.iter().filter(|(name, _)| !is_named(name));
        let added = added.map(|(name, value)| format!("{name}={value}"));
        let all: Vec<String> = named.clone().map(str::to_owned).chain(added).collect();
        format!("{scheme}://{login}{place}/{}?{}", path.join("/"), all.join("&"))
    }

    /// The path's segments, as they are meant.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn path(&self) -> Result<Vec<String>, &'static str> {
        self.path.iter().map(|segment| decoded(segment)).collect()
    }

    /// User and password, as they are meant.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn login(&self) -> Result<Option<(String, Option<String>)>, &'static str> {
        let Some(login) = self.login.strip_suffix('@') else { return Ok(None) };
        let (user, password) =
            login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        Ok(Some((decoded(user)?, password.map(decoded).transpose()?)))
    }

    /// `HOST:PORT` of one host, with this port if it names none.
    #[must_use]
    pub fn place_with_port(&self, port: &str) -> String {
        let Self { place, .. } = self;
        let has_port = place.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        if has_port { place.clone() } else { format!("{place}:{port}") }
    }

    /// The URL of the server, with only the first `segments` of the path.
    pub fn server(&self, segments: usize) -> String {
        let Self { scheme, login, place, path, tail } = self;
        format!("{scheme}://{login}{place}/{}{tail}", path[..segments].join("/"))
    }

    /// `text`, which came from the server or from its client, without the password, should it
    /// repeat that.
    pub fn without_password(&self, text: String) -> String {
        let as_meant = self.login().ok().flatten();
        // Of a login without a password, the only word may be one.
        let as_meant = as_meant.map(|(user, password)| password.unwrap_or(user));
        let as_given = self
            .login
            .strip_suffix('@')
            .map(|login| login.split_once(':').map_or(login, |(_, password)| password).to_owned());
        without_secrets(text, as_meant.iter().chain(&as_given).map(String::as_str))
    }

    /// The URL without what is or may be a password, to connect again where none is asked for, or
    /// where the client library has it from elsewhere. With the user's name if `with_user`.
    pub fn for_reconnecting(&self, with_user: bool) -> String {
        let login = self.login.strip_suffix('@').unwrap_or_default();
        let user = login.split_once(':').map_or(login, |(user, _)| user);
        let user = Some(user).filter(|user| with_user && !user.is_empty() && is_plain(user, "._-"));
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let parameters = self.tail.strip_prefix('?').unwrap_or_default().split('&');
        let kept: Vec<&str> = parameters
            .filter(|parameter| {
                let name = parameter.split_once('=').map(|(name, _)| name);
                name.is_some_and(|name| PUBLIC_PARAMETERS.contains(&name))
            })
            .collect();
        let tail = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        let Self { scheme, place, path, .. } = self;
        format!("{scheme}://{user}{place}/{}{tail}", path.join("/"))
    }

    fn redacted(&self) -> String {
        let Self { scheme, login, place, path, tail } = self;
        let user = login.split_once(':').map(|(user, _)| user).filter(|user| is_plain(user, "._-"));
        let login = match user {
            _ if login.is_empty() => String::new(),
            Some(user) => format!("{user}:{HIDDEN}@"),
            None => format!("{HIDDEN}@"),
        };
        let path: String = path.iter().flat_map(|segment| ["/", segment.as_str()]).collect();
        format!("{scheme}://{login}{place}{path}{}", redacted_tail(tail))
    }
}

/// Server and path: neither login nor parameters.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.place, self.path.join("/"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text without its secrets, where the text should be a URL and may be none. Of a whole URL, the
/// password and parameters that may hold one are redacted; of an incomplete one, all but the
/// scheme. A text without a scheme is redacted unless it looks like a word or a path.
#[must_use]
pub fn redacted(text: &str) -> String {
    if let Ok(address) = Address::parse(text).as_ref()
        && is_scheme(&address.scheme)
    {
        return address.redacted();
    }
    match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => match rest.strip_prefix("//") {
            Some(_) => format!("{scheme}://{HIDDEN}"),
            None if rest.is_empty() => text.to_owned(),
            None => format!("{scheme}:{HIDDEN}"),
        },
        None if is_plain(text, " ._-/\\~+,") => text.to_owned(),
        Some(_) | None => HIDDEN.to_owned(),
    }
}

/// A path without secrets: what follows a `?` is redacted as in a URL.
#[must_use]
pub fn redacted_path(path: &str) -> String {
    let (path, tail) = path.split_at(path.find('?').unwrap_or(path.len()));
    format!("{path}{}", redacted_tail(tail))
}

/// The path of a file that a command was given, without secrets: it may be a URL in the wrong
/// place.
#[must_use]
pub fn redacted_file(path: &Path) -> String {
    let path = path.display().to_string();
    if path.contains("://") { redacted(&path) } else { path }
}

/// The URL of a server that speaks HTTP, as in `http://127.0.0.1:8000`, without a slash at its end.
///
/// # Errors
/// What is wrong with it, without its secrets, and what one looks like.
pub fn server_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let parsed = url.parse::<Uri>().ok();
    let is_plain = parsed.is_some_and(|uri| {
        uri.scheme_str() == Some("http")
            && uri.path() == "/"
            && uri.query().is_none()
            && !url.contains('#')
            && Address::parse(url).is_ok()
    });
    if is_plain {
        return Ok(url.to_owned());
    }
    Err(format!(
        "`{}` is no server{}; give one as http://127.0.0.1:8000",
        redacted(url),
        Address::parse(url).err().map_or_else(String::new, |reason| format!(": {reason}"))
    ))
}

/// Refuses a text that clients will see, if it may hold a secret of a URL.
///
/// # Errors
/// What to write instead.
pub fn check_public_text(text: &str) -> Result<(), &'static str> {
    let has_url = text.contains("://");
    let is_clean = |word: &str| match word.contains("://") {
        // A slash at the end says nothing.
        true => redacted(word).trim_end_matches('/') == word.trim_end_matches('/'),
        // It may be the rest of a password with a space in it.
        false => !has_url || !word.contains(['@', '=']),
    };
    let is_clean = without_logins(text) == text && text.split_whitespace().all(is_clean);
    is_clean.then_some(()).ok_or("clients are told it as it is: leave login and password out")
}

/// Refuses a path that looks like a server with a login.
///
/// # Errors
/// What to write instead.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    let begins_as_url = path.starts_with("//");
    let path = path.trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if first.find(':').is_some_and(|at| path[at..].contains('@'))
        || (begins_as_url && first.contains('@'))
    {
        return Err(
            "it takes a path, and this looks like a server with a login; write ./ before a path \
             like that",
        );
    }
    Ok(())
}

/// What Redis says before it repeats the arguments of a command that it does not know, as far as
/// they fit 128 bytes.
const REDIS_REPEATS: &str = ", with args beginning with";

/// `text` without the secrets, should it repeat one. Words of one to three letters are left: they
/// are parts of other words.
#[must_use]
pub fn without_secrets<'s>(mut text: String, secrets: impl Iterator<Item = &'s str>) -> String {
    if let Some(at) = text.find(REDIS_REPEATS) {
        text.truncate(at);
    }
    secrets.filter(|secret| secret.len() > 3).fold(text, |text, secret| {
        if text.contains(secret) { text.replace(secret, HIDDEN) } else { text }
    })
}

/// `text` without what looks like a login in a URL or like a password among parameters: for
/// messages that quote what was meant for something else than a URL.
#[must_use]
pub fn without_logins(text: &str) -> Cow<'_, str> {
    let logins = text.match_indices("://").filter_map(|(at, separator)| {
        let begin = at + separator.len();
        let end = begin + text[begin..].find(is_after_url).unwrap_or(text.len() - begin);
        let login = &text[begin..begin + text[begin..end].rfind('@')?];
        let has_password = login.split_once(':').is_some_and(|(_, password)| password != HIDDEN);
        let is_ours = PLACEHOLDERS.iter().any(|form| login.starts_with(form));
        (has_password && !is_ours).then(|| begin..begin + login.len())
    });
    let passwords = text.match_indices("pass").filter_map(|(at, _)| {
        let name = text[at..].find(|letter: char| !letter.is_ascii_lowercase())?;
        let begin = at + name + text[at + name..].strip_prefix('=').map(|_| 1)?;
        let after = |letter: char| letter == '&' || is_after_url(letter);
        let value = &text[begin..begin + text[begin..].find(after).unwrap_or(text.len() - begin)];
        // What ends a clause of the message is not the password's.
        let value = value.trim_end_matches([':', ',', ';', '.']);
        Some(begin..begin + value.len()).filter(|value| !value.is_empty())
    });
    let mut hidden: Vec<_> = logins.chain(passwords).collect();
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    hidden.sort_by_key(|part| part.start);
    let (mut shown, mut from) = (String::with_capacity(text.len()), 0);
    for part in hidden {
        if part.start >= from {
            shown.extend([&text[from..part.start], HIDDEN]);
        }
        from = from.max(part.end);
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}

/// Parameters, without the empty ones that a trailing `&` makes.
fn given(parameters: &str) -> impl Iterator<Item = &str> + Clone {
    parameters.split('&').filter(|parameter| !parameter.is_empty())
}

fn is_after_url(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '`' | '\'' | '"' | '<' | '>')
}

fn is_postgres(scheme: &str) -> bool {
    matches!(scheme, "postgres" | "postgresql")
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() <= 16
        && is_plain(text, "+.-")
}

fn is_plain(text: &str, beside: &str) -> bool {
    text.chars().all(|letter| letter.is_alphanumeric() || beside.contains(letter))
}

/// `?name=value&…` without secrets, and without a fragment.
fn redacted_tail(tail: &str) -> String {
    let Some(parameters) = tail.strip_prefix('?') else { return String::new() };
    let redacted = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if PUBLIC_PARAMETERS.contains(&name) => parameter.to_owned(),
        Some((name, _)) if is_parameter_name(name) => format!("{name}={HIDDEN}"),
        Some(_) | None => HIDDEN.to_owned(),
    };
    format!("?{}", parameters.split('&').map(redacted).collect::<Vec<_>>().join("&"))
}

fn is_parameter_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Whether what follows the path may be the end of a password, and what is before it no path.
fn has_stray_at(tail: &str) -> bool {
    let parameters = tail.strip_prefix('?').unwrap_or(tail).split('&');
    parameters.filter(|parameter| parameter.contains('@')).any(|parameter| {
        let name = parameter.split_once('=').map_or("", |(name, _)| name);
        !tail.starts_with('?') || !PARAMETERS_WITH_AT.contains(&name)
    })
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "a part of it is no UTF-8")?;
    Ok(decoded.into_owned())
}

fn is_escaped_well(text: &str) -> bool {
    let is_hex = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    text.split('%').skip(1).all(|after| after.get(..2).is_some_and(is_hex))
}

/// Without a port too, and with an empty one, which is the default.
fn has_good_port(place: &str) -> bool {
    // The colons of an IPv6 address are within its brackets.
    let after_host = match place.starts_with('[') {
        true => &place[place.rfind(']').unwrap_or(place.len())..],
        false => place,
    };
    after_host
        .split_once(':')
        .is_none_or(|(_, port)| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn has_good_host(place: &str) -> bool {
    match place.strip_prefix('[') {
        Some(address) => address.split_once(']').is_some_and(|(address, after)| {
            let is_address =
                |letter: char| letter.is_ascii_alphanumeric() || ".:%-_".contains(letter);
            !address.is_empty()
                && address.chars().all(is_address)
                && (after.is_empty() || after.starts_with(':'))
        }),
        None => is_plain(place, "._-~%:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hemlock";

    #[test]
    fn a_whole_url_is_shown_but_for_its_secrets() {
        for (url, expected) in [
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://w:hemlock@h:1,[::1]:2/d", "postgres://w:***@h:1,[::1]:2/d"),
            ("postgres://hemlock@h/d", "postgres://***@h/d"),
            ("postgres://w%3Ahemlock:x@h/d", "postgres://***@h/d"),
            ("postgres://w:?hem#lock@h/d", "postgres://w:***@h/d"),
            ("postgres:///d?host=/run&passwd=hemlock", "postgres:///d?host=/run&passwd=***"),
            ("postgres://h/d?user=u&password=a@hemlock", "postgres://h/d?user=u&password=***"),
            (
                "postgres://h/d?p%61ssword=hemlock&sslmode=require",
                "postgres://h/d?***&sslmode=require",
            ),
            ("redis://:hemlock@h:6379/3?x#hemlock", "redis://:***@h:6379/3?***"),
            ("http://u:hemlock@h:80", "http://u:***@h:80"),
        ] {
            assert_eq!(redacted(url), expected);
            assert!(!format!("{:?}", Address::parse(url).unwrap()).contains(SECRET));
        }
    }

    #[test]
    fn what_is_no_url_is_shown_only_where_it_holds_no_secret() {
        for (text, expected) in [
            ("fencepost.db", "fencepost.db"),
            ("some where/fencepost.db", "some where/fencepost.db"),
            ("zookeeper:", "zookeeper:"),
            ("", ""),
            ("postgres:w:hemlock@h/d", "postgres:***"),
            ("w:hemlock@h/d", "w:***"),
            ("host=h password=hemlock", "***"),
            ("hemlock@h", "***"),
            ("postgres://w:hem/lock@h/d", "postgres://***"),
            ("postgres://w:1/hem@lock/hemlock", "postgres://***"),
            ("postgres://w:hemlock%zz@h/d", "postgres://***"),
            ("postgres://w:hemlock/d", "postgres://***"),
            ("redis://w:hem#lock@h", "redis://***"),
            ("redis://w:1?hem@lock", "redis://***"),
            ("redis://w:1#hem@lock", "redis://***"),
            ("://w:hemlock@h", "***"),
            ("hem lock://w:hemlock@h", "***"),
        ] {
            assert_eq!(redacted(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_told_by_the_character_to_encode() {
        for (url, character) in [
            ("postgres://w:hemlock%zz@h/d", "%25"),
            ("postgres://w:hem/lock@h/d", "%2F"),
            ("postgres://w:12/lock@h/d", "%2F"),
            ("postgres://w:hem@lock@h/d", "%40"),
            ("postgres://w:hem lock@h/d", "%20"),
            ("postgres://w:hemlock@h/d?password", "%3F"),
            ("postgres://w:hemlock@h/d?password=a=b", "%3D"),
            ("postgres://w:hemlock@h/d?Hemlock=1", "NAME=VALUE"),
            ("postgres://w:hemlock@h/d%00", "%00"),
            ("postgres://w:hemlock/d", "%3A"),
            ("postgres://w:hemlock@[::1/d", "host"),
            ("redis://w:hem?lock@h", "%3F"),
            ("redis://w:hem#lock@h", "%23"),
            ("redis://w:1#hem@lock", "%23"),
            ("redis://w:hem/lock@h", "%2F"),
            ("nats://w:hem:lock@h:port", "port"),
        ] {
            let checked = Address::parse(url).and_then(|address| {
                if is_postgres(&address.scheme) { address.check_for_libpq() } else { Ok(()) }
            });
            let reason = checked.expect_err(url);
            assert!(reason.contains(character) && !reason.contains("lock"), "{url}: {reason}");
        }
    }

    #[test]
    fn parameters_are_added_to_whatever_stands_there() {
        for (url, full) in [
            ("postgres://h/d", "postgres://h/d?connect_timeout=5"),
            ("postgres://h", "postgres://h/?connect_timeout=5"),
            ("postgres://h/d?", "postgres://h/d?connect_timeout=5"),
            ("postgres://h/d?&", "postgres://h/d?connect_timeout=5"),
            ("postgres://h/d?a=b", "postgres://h/d?a=b&connect_timeout=5"),
            ("postgres://h/d?a=b&", "postgres://h/d?a=b&connect_timeout=5"),
            ("postgres://h/d?connect_timeout=9", "postgres://h/d?connect_timeout=9"),
            (
                "postgres://u:connect_timeout=1@h/d?x_connect_timeout=9",
                "postgres://u:connect_timeout=1@h/d?x_connect_timeout=9&connect_timeout=5",
            ),
        ] {
            let address = Address::parse(url).unwrap();
            address.check_for_libpq().unwrap();
            assert_eq!(address.with_parameters(&[("connect_timeout", "5")]), full);
        }
    }

    #[test]
    fn a_path_that_looks_like_a_server_with_a_login_is_none() {
        for path in ["//w:hemlock@h/x", "//hemlock@h/x", "/w:hem/lock@h", "w:hemlock@h", "///w:@"] {
            assert!(check_path(path).is_err(), "{path}");
        }
        for path in ["", "x.db", "/data/2026:1/a@b.db", "./a:b@c", "a@b:c/x", "//data/x", "C:/x"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        assert_eq!(redacted_path("/a:b/x?mode=ro&key=hemlock"), "/a:b/x?mode=ro&key=***");
        for (path, expected) in [
            ("a@b?x=1", "a@b?x=1"),
            ("postgres://w:hem lock@h/d", "postgres://w:***@h/d"),
            ("postgres://w:hemlock", "postgres://***"),
            ("redis://h/d?PassWord=hemlock", "redis://h/d?***"),
        ] {
            assert_eq!(redacted_file(Path::new(path)), expected);
        }
    }

    #[test]
    fn what_clients_are_told_holds_no_secret() {
        for text in [
            "redis://:hemlock@h/st",
            "redis://hemlock@h/st",
            "now at redis://w:hemlock@h",
            "now at redis://w:hemlock",
            "redis://hem lock@h",
            "postgres://h/d?pass%77ord=hemlock",
            "host=h password=hemlock",
        ] {
            assert!(check_public_text(text).is_err(), "{text}");
        }
        for text in ["redis://h:1/st", "the log at https://h/x, soon", "ask team@h: why=x", ""] {
            assert!(check_public_text(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn logins_in_any_text_are_covered() {
        for (text, expected) in [
            ("cannot open `postgres://w:hemlock@h/d`", "cannot open `postgres://***@h/d`"),
            ("a://u:hemlock@h and b://u:hem/lock@h.", "a://***@h and b://***@h."),
            ("host=h sslpassword=hemlock user=w", "host=h sslpassword=*** user=w"),
            ("?passwd=hemlock&x=1", "?passwd=***&x=1"),
            ("x?password=hemlock: no such file", "x?password=***: no such file"),
            ("postgres://me:***@h/d", "postgres://me:***@h/d"),
            ("give redis://[USER:PASSWORD@]HOST", "give redis://[USER:PASSWORD@]HOST"),
            ("the password is wrong, as s3://b@v1/x", "the password is wrong, as s3://b@v1/x"),
        ] {
            assert_eq!(without_logins(text), expected);
        }
    }

    #[test]
    fn a_server_that_repeats_the_password_is_covered() {
        let address = Address::parse("redis://w:hem%2Flock@h/0").unwrap();
        let covered = |text: &str| address.without_password(text.to_owned());
        assert_eq!(covered("unknown 'AUTH' with 'hem/lock'"), "unknown 'AUTH' with '***'");
        let cut_off = "unknown command 'AUTH', with args beginning with: 'w' 'hem/lo";
        assert_eq!(covered(cut_off), "unknown command 'AUTH'");
        assert_eq!(covered("in hem%2Flock"), "in ***");
    }
}
