//! All that depends on which database it is, one subject in each file. What is the same in both is
//! beside this module.

mod changes;
mod clock;
mod commit_call;
mod functions;
mod idempotency;
mod migrations;
mod postgres_connection;
#[cfg(test)]
mod query_plan;
mod rows;
mod server_state;
mod settings;
mod sqlite_connection;
mod statement;
mod stored_damage;
mod transactions;
mod unguarded;
mod url;

pub use changes::LoggedText;
pub use commit_call::{CallOutcome, CallRefused, CommitCall};
pub(super) use functions::{FUNCTION, FunctionState};
pub use idempotency::AnswerRow;
pub use migrations::Migrated;
pub(super) use migrations::Schema;
pub(crate) use postgres_connection::connect_postgres;
pub use rows::{
    DatasetRow, DatasetUpdate, JobRow, JobUpdate, NewDataset, NewJob, RowRange, RowTable, RowsWrite,
};
pub use server_state::{ServerState, server_state};
pub(super) use sqlite_connection::{
    SQLITE_SETTINGS, beside, configure_sqlite, connect_sqlite, connect_sqlite_without_log,
    establish_sqlite, log_of, pragma, refuse_read_only, with_lacking_permission,
};
pub use statement::Value;
pub use unguarded::OrphanedRows;
pub use url::{DatabaseUrl, OpenMode};

/// A connection to whichever database the URL named.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// A file, through the library that is compiled in.
    Sqlite(diesel::SqliteConnection),
    /// A server, through the libpq that is compiled in.
    Postgres(diesel::PgConnection),
}
