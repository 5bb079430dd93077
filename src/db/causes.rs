//! What an error of Diesel means: whether the values of a statement are at fault, or the database,
//! its server, its disk, its set-up, or the connection.
//!
//! Diesel has kinds for lost connections and for constraints. For other errors it does not give the
//! code (SQLSTATE). So faults of the database are recognised by their English words, and any other
//! error is a refusal of the values. A value that cannot be stored is therefore never mistaken for
//! an unavailable database, whatever language the server speaks (`lc_messages`). The reverse can
//! happen: a server that does not speak English may report a full disk, and it is taken for a
//! refusal.

use diesel::result::{DatabaseErrorKind, Error};

use crate::failpoint;

/// Words of SQLite, which always speaks English, and of Postgres: insufficient resources, operator
/// intervention, system errors, lock timeouts, rights, and missing tables.
const WORDS: [&str; 36] = [
    "canceling statement due to",
    "could not ",
    "out of memory",
    "out of shared memory",
    "No space left on device",
    "temp_file_limit",
    "too many clients",
    "too many connections",
    "connection slots are reserved",
    "terminating connection",
    "server closed the connection",
    "connection to server",
    "the database system is",
    "in recovery",
    "permission denied",
    "must be owner of",
    "does not exist",
    "current transaction is aborted",
    "invalid page in block",
    "unexpected data beyond EOF",
    "cache lookup failed",
    "database is locked",
    "table is locked",
    "database or disk is full",
    "disk I/O error",
    "readonly database",
    "unable to open database file",
    "database disk image is malformed",
    "file is not a database",
    "database schema is locked",
    "database schema has changed",
    "locking protocol",
    "access permission denied",
    "no such table",
    "no such column",
    "interrupted",
];

/// Whether a statement failed for a reason that is not in its values.
pub(super) fn is_the_databases(message: &str) -> bool {
    WORDS.iter().any(|words| message.contains(words))
}

/// Whether the server cannot write.
pub(super) fn cannot_write(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _))
}

/// Whether the connection is closed.
pub(super) fn is_lost(error: &Error) -> bool {
    use DatabaseErrorKind as Kind;
    matches!(error, Error::DatabaseError(Kind::ClosedConnection | Kind::UnableToSendCommand, _))
}

/// Words of errors by which Postgres itself takes a statement back. A pooler that has lost the
/// server has other words.
const TAKEN_BACK: [&str; 14] = [
    "canceling statement due to",
    "deadlock detected",
    "could not extend",
    "could not write",
    "out of memory",
    "out of shared memory",
    "No space left on device",
    "temp_file_limit",
    "permission denied",
    "must be owner of",
    "does not exist",
    "__diesel_stmt_",
    "bind message supplies",
    ANOTHER_ANSWERED,
];

/// Whether a statement that failed is known to have done nothing.
pub(super) fn is_taken_back(error: &Error) -> bool {
    use DatabaseErrorKind as Kind;
    match error {
        error if is_lost(error) => false,
        Error::DatabaseError(Kind::Unknown, what) => {
            TAKEN_BACK.iter().any(|words| what.message().contains(words))
        }
        // A kind is known by the code of the error, and each of them is of a statement.
        Error::DatabaseError(..) => true,
        Error::QueryBuilderError(_) | Error::SerializationError(_) => true,
        _ => false,
    }
}

/// The message when another session of the server has answered than the connection's own.
pub(super) const ANOTHER_ANSWERED: &str = "another session of the server has answered";

/// The beginning of the message when a write did not find the rows that it was decided on. The
/// functions that commit on Postgres have the same words.
const ROWS_DIFFER: &str = "the stored rows are not those that were read: ";

/// The error of a write that found so many of the rows that it was decided on.
pub(super) fn rows_differ(found: usize, expected: usize, what: &str) -> Error {
    let message = format!("{ROWS_DIFFER}{found} of {expected} {what}");
    Error::DatabaseError(DatabaseErrorKind::CheckViolation, Box::new(message))
}

/// Whether a write did not find the rows that it was decided on.
pub(super) fn is_of_differing_rows(error: &Error) -> bool {
    matches!(
        error,
        Error::DatabaseError(DatabaseErrorKind::CheckViolation, what)
            if what.message().starts_with(ROWS_DIFFER)
    )
}

/// Whether a pooler lends sessions by transaction: another session has answered, or does not know
/// a statement that was prepared. Diesel names prepared statements `__diesel_stmt_…`, and only an
/// error about a whole statement has no position in its text.
pub(super) fn is_of_another_session(error: &Error) -> bool {
    let Error::DatabaseError(_, what) = error else { return false };
    if failpoint::is_off("backends") {
        return false;
    }
    what.message() == ANOTHER_ANSWERED
        || what.message().contains("__diesel_stmt_") && what.statement_position().is_none()
}

/// What to grant where Postgres refuses a statement for want of a right. It does not say which role
/// it was, nor which right.
pub(super) fn missing_grant(message: &str) -> Option<String> {
    let (_, of) = message.split_once("permission denied for ")?;
    let (kind, name) = of.split_once(' ')?;
    let (rights, what) = match kind {
        "table" => ("SELECT, INSERT, UPDATE, DELETE", "TABLE"),
        "sequence" => ("USAGE", "SEQUENCE"),
        "function" => ("EXECUTE", "FUNCTION"),
        "schema" => ("USAGE", "SCHEMA"),
        _ => return None,
    };
    Some(format!(
        "let its owner run GRANT {rights} ON {what} {name} TO ROLE, where ROLE is the role of the \
         database URL"
    ))
}

/// Whether a table or column is missing. Not known in another language than English: then only
/// readiness finds out that the schema is an older one.
pub(super) fn lacks_schema(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(_, what) if what.message().ends_with("does not exist"))
}
