//! The database's clock, by which all nodes tell the time.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::AnyConnection;
use super::statement::{RawSql, Value};

/// SQL for milliseconds since 1970, by the clock of the machine: all processes on a file share it.
macro_rules! sqlite_now_ms {
    () => {
        "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)"
    };
}
/// SQL for milliseconds since 1970, when the statement began.
macro_rules! postgres_now_ms {
    () => {
        "(extract(epoch FROM statement_timestamp()) * 1000)::bigint"
    };
}
pub(super) use {postgres_now_ms, sqlite_now_ms};

impl AnyConnection {
    /// The database's clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// What the database reports.
    pub fn now_ms(&mut self) -> QueryResult<i64> {
        match self {
            Self::Sqlite(connection) => sqlite_clock_ms(connection),
            Self::Postgres(connection) => {
                let text = concat!("SELECT ", postgres_now_ms!(), " AS now_ms");
                let now: Now = RawSql::<Value<'_>> { text, values: &[] }.get_result(connection)?;
                Ok(now.now_ms)
            }
        }
    }
}

/// The clock of an SQLite connection, in milliseconds since 1970.
pub(super) fn sqlite_clock_ms(connection: &mut SqliteConnection) -> QueryResult<i64> {
    let text = concat!("SELECT ", sqlite_now_ms!(), " AS now_ms");
    let now: Now = RawSql::<Value<'_>> { text, values: &[] }.get_result(connection)?;
    Ok(now.now_ms)
}

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = BigInt)]
    now_ms: i64,
}
