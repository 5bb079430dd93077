//! Which errors say that the database is at fault, its server, its disk or its set-up, rather than
//! what was to be written.
//!
//! Diesel has kinds for lost connections and for constraints, and does not tell the code (SQLSTATE)
//! of all else. So the causes below are known by their English words. What is not known by them was
//! refused for what it is: that holds in any language that the server speaks (`lc_messages`), so
//! that a value which cannot be stored is never taken for the database being away. In another
//! language than English, the reverse may happen: a full disk is then told as a refusal.

/// Of SQLite, which speaks English always, and of Postgres: insufficient resources, operator
/// intervention, system errors, locks that did not come free, rights, and missing tables.
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

/// Whether a statement failed for a cause that is not in its values.
pub(super) fn is_the_databases(message: &str) -> bool {
    WORDS.iter().any(|words| message.contains(words))
}
