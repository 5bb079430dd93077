//! How a session on a Postgres server is opened, and what it is set to.

use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use super::statement::TextRow;
use crate::address::{self, Address};
use crate::db::error::{DbError, on_one_line};
use crate::db::watch;

/// Parameters by which libpq detects a dead or read-only server, unless the URL has others.
const POSTGRES_PARAMETERS: [(&str, &str); 7] = [
    ("application_name", "fencepost"),
    ("connect_timeout", "5"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
    ("target_session_attrs", "read-write"),
];

/// Where the URL names several hosts: the next one is tried sooner, as it is for every new session
/// while an earlier one is silent. libpq knows no shorter time.
const CONNECT_TIMEOUT_OF_SEVERAL: (&str, &str) = ("connect_timeout", "2");

/// The settings of every Postgres session: name, value to set, value to find afterwards; an empty
/// one is not set or not checked. The server ends a transaction whose client stalls, so that it
/// holds the graph's row no longer than the default lease. Another session waits for the row one
/// second longer than that.
const POSTGRES_SETTINGS: [(&str, &str, &str); 8] = [
    // A statement that commits by itself sees what was committed before each of its parts began.
    ("default_transaction_isolation", "read committed", "read committed"),
    ("synchronous_commit", "on", "on"),
    ("idle_in_transaction_session_timeout", "5s", "5s"),
    ("lock_timeout", "6s", "6s"),
    ("tcp_keepalives_idle", "5", ""),
    ("tcp_keepalives_interval", "2", ""),
    ("tcp_keepalives_count", "3", ""),
    // A property of the database: another encoding cannot store every name.
    ("server_encoding", "", "UTF8"),
];

/// Opens a session on a Postgres server, set up and checked.
///
/// # Errors
/// [`DbError::Unavailable`] if there is no server or a setting cannot be set, [`DbError::Url`] if
/// libpq refuses the URL, [`DbError::Encoding`] if the database is not UTF-8.
pub(crate) fn connect_postgres(url: &str) -> Result<PgConnection, DbError> {
    let failed = |reason: String| DbError::Unavailable {
        what: format!("connecting to {}: {}", address::redacted(url), on_one_line(reason)),
    };
    let wrong = |reason: String| DbError::Url { url: address::redacted(url), reason };
    let address = Address::parse(url).map_err(|reason| wrong(reason.to_owned()))?;
    let mut parameters = POSTGRES_PARAMETERS;
    if address.place.contains(',') {
        let of_several = |(name, _): &&mut (&str, &str)| *name == CONNECT_TIMEOUT_OF_SEVERAL.0;
        parameters.iter_mut().filter(of_several).for_each(|set| *set = CONNECT_TIMEOUT_OF_SEVERAL);
    }
    let full = address.with_parameters(&parameters);
    let mut connection = PgConnection::establish(&full).map_err(|error| match error {
        ConnectionError::BadConnection(reason) => match refused_by_libpq(&reason) {
            Some(reason) => wrong(reason),
            None => failed(reason),
        },
        error => failed(error.to_string()),
    })?;
    let set = POSTGRES_SETTINGS.iter().filter(|(_, value, _)| !value.is_empty());
    let set: Vec<String> = set.map(|(name, value, _)| format!("SET {name} = '{value}';")).collect();
    connection.batch_execute(&set.concat()).map_err(|error| failed(error.to_string()))?;
    let found = postgres_settings(&mut connection).map_err(|error| failed(error.to_string()))?;
    for ((name, found), (_, _, expected)) in found.into_iter().zip(POSTGRES_SETTINGS) {
        if name == "server_encoding" && found != expected {
            return Err(DbError::Encoding { database: address::redacted(url), encoding: found });
        }
        if !expected.is_empty() && found != expected {
            return Err(failed(format!("{name} is {found} and cannot be set to {expected}")));
        }
    }
    Ok(connection)
}

/// The values of [`POSTGRES_SETTINGS`], by name, as the server reports them now.
pub(super) fn postgres_settings(
    connection: &mut PgConnection,
) -> QueryResult<Vec<(&'static str, String)>> {
    let each =
        POSTGRES_SETTINGS.map(|(name, ..)| format!("SELECT current_setting('{name}') AS value"));
    let values = diesel::sql_query(each.join(" UNION ALL ")).load::<TextRow>(connection)?;
    Ok(POSTGRES_SETTINGS
        .iter()
        .map(|(name, ..)| *name)
        .zip(values.into_iter().map(|row| row.value))
        .collect())
}

/// How long a statement may run, where the watchdog waits `answer` for it: the server gives the
/// statement up before the watchdog gives the server up.
pub(super) fn statement_timeout(answer: Duration) -> Duration {
    answer * 4 / 5
}

/// The SQL by which a transaction allows statements over a whole graph.
pub(super) fn large_statements() -> String {
    let timeout_ms = statement_timeout(watch::LARGE_ANSWER).as_millis();
    format!("SET LOCAL statement_timeout = '{timeout_ms}ms'")
}

/// Why libpq refused the URL itself, before it connected; `None` if it did not. libpq may quote a
/// part of a password, so quoted text is left out, except for parameters.
fn refused_by_libpq(message: &str) -> Option<String> {
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
    // libpq checks some values only after it has resolved the host.
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
