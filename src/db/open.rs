//! Opens connections to a database, set up and checked. Before the first one is used, the database
//! is checked to be one of Fencepost.

use super::dialect::{
    AnyConnection, DatabaseUrl, OpenMode, Schema, configure_sqlite, connect_postgres,
    connect_sqlite, establish_sqlite, pragma, refuse_read_only, with_lacking_permission,
};
use super::error::DbError;
use super::sqlite_file::{check_first, is_malformed, mixed_if_malformed};

impl DatabaseUrl {
    /// Opens a connection, set up and checked.
    ///
    /// # Errors
    /// [`DbError`] if the connection cannot be opened or set up.
    pub(super) fn connect(&self, mode: OpenMode) -> Result<AnyConnection, DbError> {
        match self {
            Self::Sqlite(path) => connect_sqlite(path, mode).map(AnyConnection::Sqlite),
            Self::Postgres(url) => connect_postgres(url).map(AnyConnection::Postgres),
        }
    }

    /// Opens the first connection, and checks that the database is one of Fencepost, or may become
    /// one. Changes nothing in another application's database.
    ///
    /// # Errors
    /// [`DbError`] says what to do.
    pub(super) fn connect_first(&self, mode: OpenMode) -> Result<AnyConnection, DbError> {
        let explained = |error: DbError| match self {
            Self::Sqlite(path) => with_lacking_permission(path, error),
            Self::Postgres(_) => error,
        };
        let named = |error: DbError| match explained(error) {
            DbError::Unavailable { what } if !what.contains(&self.to_string()) => {
                DbError::Unavailable { what: format!("{self}: {what}") }
            }
            other => other,
        };
        let mut connection = match self {
            Self::Sqlite(path) => {
                AnyConnection::Sqlite(establish_sqlite(path, mode).map_err(explained)?)
            }
            Self::Postgres(url) => AnyConnection::Postgres(connect_postgres(url)?),
        };
        if let Err(error) = self.check_kind(&mut connection, mode) {
            // Closing the last connection copies the log into the file. As long as it stays open,
            // the two can be told apart.
            if is_malformed(&error) {
                std::mem::forget(connection);
            }
            return Err(named(match self {
                Self::Sqlite(path) => mixed_if_malformed(path, error),
                Self::Postgres(_) => error,
            }));
        }
        match (self, connection) {
            (Self::Sqlite(path), AnyConnection::Sqlite(connection)) => {
                let mut connection = check_first(path, connection)?;
                configure_sqlite(&mut connection, mode).map_err(named)?;
                if mode != OpenMode::Read {
                    refuse_read_only(&mut connection).map_err(named)?;
                }
                Ok(AnyConnection::Sqlite(connection))
            }
            (_, connection) => Ok(connection),
        }
    }

    /// Checks that the database has our encoding, and the tables that `mode` needs.
    fn check_kind(&self, connection: &mut AnyConnection, mode: OpenMode) -> Result<(), DbError> {
        let database = || self.to_string();
        if let AnyConnection::Sqlite(connection) = connection {
            let encoding = pragma(connection, "encoding")?;
            if encoding != "UTF-8" {
                return Err(DbError::Encoding { database: database(), encoding });
            }
        }
        match (mode, connection.schema()?) {
            (OpenMode::Change | OpenMode::Read, Schema::Missing) => {
                Err(DbError::NoTables { database: database() })
            }
            (OpenMode::Read, Schema::Older) => Err(DbError::OlderSchema { database: database() }),
            (OpenMode::Create, Schema::Missing) => match connection.foreign_table()? {
                // Another process of ours may have created the tables meanwhile.
                Some(table) if connection.schema()? == Schema::Missing => {
                    Err(DbError::OthersTables { database: database(), table })
                }
                Some(_) | None => Ok(()),
            },
            (OpenMode::CreateBesideOthers, Schema::Missing)
            | (_, Schema::Older | Schema::Current) => Ok(()),
        }
    }
}
