//! How a database's URL is read, beyond what `address` checks of every URL: which paths are
//! understood, and what libpq says of a URL that it does not take.

/// The path in what follows `sqlite:`. It is taken literally: no parameters, no percent-encoding.
///
/// # Errors
/// Why it names no database file.
pub(super) fn sqlite_path(text: &str) -> Result<&str, &'static str> {
    // `sqlite:PATH`, `sqlite://PATH`; with an absolute path `sqlite:///PATH`.
    let path = text.strip_prefix("//").unwrap_or(text);
    let encoded = path.split('%').skip(1).any(|after| {
        after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
    });
    match path {
        "" => Err("it names no file"),
        _ if path.contains(":memory:") => {
            Err("a database in memory would be another one on every connection")
        }
        _ if path.starts_with("file:") => {
            Err("after `sqlite:` comes a path, not a URI of SQLite's own: leave `file:` away")
        }
        _ if path.contains('?') => {
            Err("an SQLite database takes no parameters: leave `?` and what follows away")
        }
        _ if encoded => Err("the path is taken as it stands: write the character itself for %XX"),
        _ if path.ends_with('/') => Err("it names a directory, not a file"),
        _ => Ok(path),
    }
}

/// Why libpq refused the URL itself, before it asked any server; `None` if it did not. What libpq
/// quotes of it may be a part of a password, and is left out unless it is a parameter.
pub(super) fn refused_by_libpq(message: &str) -> Option<String> {
    const BEGINNINGS: [&str; 9] = [
        "invalid ",
        "missing key/value separator",
        "extra key/value separator",
        "forbidden value",
        "end of string reached",
        "IPv6 host address",
        "unexpected character",
        "could not match",
        "sslmode value",
    ];
    // Of some values, it complains only after it has looked for the server.
    let message = match message.trim().split_once(" failed: ") {
        Some((before, after)) if before.starts_with("connection to server") => after,
        _ => message.trim(),
    };
    if !BEGINNINGS.iter().any(|beginning| message.starts_with(beginning)) {
        return None;
    }
    let about_parameter = message.starts_with("invalid URI query parameter")
        || message.split_once(" value: ").is_some_and(|(before, _)| !before.contains('"'));
    if about_parameter {
        return Some(message.to_owned());
    }
    let unquoted =
        message.split('"').enumerate().map(|(at, part)| if at % 2 == 0 { part } else { "…" });
    Some(unquoted.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_refuses_is_told_without_what_may_be_a_password() {
        for (message, told) in [
            (
                r#"invalid percent-encoded token: "secr%zz""#,
                Some("invalid percent-encoded token: …"),
            ),
            (
                r#"invalid integer value "secret" for connection option "port""#,
                Some("invalid integer value … for connection option …"),
            ),
            (
                r#"invalid URI query parameter: "nonsense""#,
                Some(r#"invalid URI query parameter: "nonsense""#),
            ),
            (r#"invalid sslmode value: "perhaps""#, Some(r#"invalid sslmode value: "perhaps""#)),
            (
                "connection to server at \"h\", port 1 failed: \
                 invalid integer value \"secret\" for connection option \"port\"",
                Some("invalid integer value … for connection option …"),
            ),
            (r#"connection to server at "h", port 1 failed: Connection refused"#, None),
            (r#"connection to server at "h", port 1 failed: FATAL:  invalid "x""#, None),
            (r#"could not translate host name "nowhere" to address"#, None),
        ] {
            assert_eq!(refused_by_libpq(message).as_deref(), told);
        }
    }
}
