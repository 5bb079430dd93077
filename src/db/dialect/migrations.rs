//! Which schema a database has, and how it is brought up to date or reverted.

use diesel::backend::Backend;
use diesel::connection::{AnsiTransactionManager, SimpleConnection as _, TransactionManager as _};
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use super::AnyConnection;
use super::statement::TextRow;
use crate::db::error::DbError;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The advisory lock that a migration holds on Postgres: any number that no other program uses.
const MIGRATION_LOCK: i64 = 0x66656e63_65706f73;

/// Queries that fail where a table or a column that this program uses is missing.
const COLUMNS: [&str; 9] = [
    "SELECT id, database_id, lock_kind, lock_identity FROM service LIMIT 0",
    "SELECT id, name, state, moved_to, version, fence, epoch, lock_incarnation, chain, uuid, \
     oldest, storage, known_version FROM graphs LIMIT 0",
    "SELECT graph_id, id, name, spec, version, inputs FROM jobs LIMIT 0",
    "SELECT graph_id, id, name, metadata, producer FROM datasets LIMIT 0",
    "SELECT graph_id, version, change, chain, attempt, token, committed_at_ms, actor \
     FROM changes LIMIT 0",
    "SELECT graph_id, key, fingerprint, answer, created_at_ms, attempt \
     FROM idempotency_keys LIMIT 0",
    "SELECT graph_id, name, acknowledged, acknowledged_at_ms, seen_at_ms, lifetime_ms, sink, \
     sink_identity FROM consumers LIMIT 0",
    "SELECT graph_id, version, committed_at_ms FROM snapshots LIMIT 0",
    "SELECT graph_id, version, part, lines FROM snapshot_parts LIMIT 0",
];

/// A query that fails where a function that this program calls is missing, in Postgres.
const FUNCTIONS: &str = "SELECT 'fencepost_commit_2'::regproc";

/// Which of our tables a database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    /// None.
    Missing,
    /// Those of an older program.
    Older,
    /// Those of this program.
    Current,
}

impl AnyConnection {
    /// Runs `body` in a transaction, while no other process migrates the database.
    fn alone<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        match self {
            Self::Sqlite(connection) => {
                AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")?;
            }
            Self::Postgres(connection) => {
                AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN")?;
                connection
                    .batch_execute(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))?;
            }
        }
        let outcome = body(self);
        match (&outcome, self) {
            (Ok(_), Self::Sqlite(connection)) => {
                AnsiTransactionManager::commit_transaction(connection)?
            }
            (Ok(_), Self::Postgres(connection)) => {
                AnsiTransactionManager::commit_transaction(connection)?
            }
            (Err(_), Self::Sqlite(connection)) => {
                AnsiTransactionManager::rollback_transaction(connection)?
            }
            (Err(_), Self::Postgres(connection)) => {
                AnsiTransactionManager::rollback_transaction(connection)?
            }
        }
        outcome
    }

    /// Whether the table of migrations that a query finds is the one that migrations would use. On
    /// Postgres it may be another application's, in another schema of the search path.
    fn migrates_here(&mut self) -> Result<bool, DbError> {
        let Self::Postgres(connection) = self else { return Ok(true) };
        let here = diesel::sql_query(
            "SELECT count(*) AS count FROM pg_class \
             WHERE oid = to_regclass('__diesel_schema_migrations') \
             AND relnamespace = current_schema()::regnamespace",
        );
        Ok(here.get_result::<Count>(connection)?.count > 0)
    }

    /// The first table of another application, in a database without our tables.
    pub(crate) fn foreign_table(&mut self) -> Result<Option<String>, DbError> {
        // Tables of an extension, such as PostGIS, do not count.
        let query = match self {
            Self::Sqlite(_) => {
                "SELECT name AS value FROM sqlite_schema WHERE type IN ('table', 'view') \
                 AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name <> '__diesel_schema_migrations' \
                 ORDER BY name LIMIT 1"
            }
            Self::Postgres(_) => {
                "SELECT relname::text AS value FROM pg_class \
                 WHERE relnamespace = current_schema()::regnamespace \
                 AND relkind IN ('r', 'p', 'v', 'm', 'f') \
                 AND relname <> '__diesel_schema_migrations' AND NOT EXISTS \
                 (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass \
                  AND objid = pg_class.oid AND deptype = 'e') \
                 ORDER BY relname LIMIT 1"
            }
        };
        Ok(diesel::sql_query(query).get_result::<TextRow>(self).optional()?.map(|row| row.value))
    }

    /// Which of our tables the database has.
    ///
    /// # Errors
    /// [`DbError::NewerSchema`] if a newer program of ours has migrated it, [`DbError::Foreign`] if
    /// all its migrations are another application's.
    pub(crate) fn schema(&mut self) -> Result<Schema, DbError> {
        let table = match self {
            Self::Sqlite(_) => {
                "SELECT count(*) AS count FROM sqlite_schema \
                 WHERE name = '__diesel_schema_migrations'"
            }
            Self::Postgres(_) => "SELECT count(to_regclass('__diesel_schema_migrations')) AS count",
        };
        if diesel::sql_query(table).get_result::<Count>(self)?.count == 0 {
            return Ok(Schema::Missing);
        }
        let applied = diesel::sql_query("SELECT version AS value FROM __diesel_schema_migrations");
        let applied: Vec<String> =
            applied.load::<TextRow>(self)?.into_iter().map(|row| row.value).collect();
        let known = match self {
            Self::Sqlite(_) => versions::<diesel::sqlite::Sqlite>(&SQLITE_MIGRATIONS),
            Self::Postgres(_) => versions::<diesel::pg::Pg>(&POSTGRES_MIGRATIONS),
        }?;
        let unknown = applied.iter().find(|version| !known.contains(version));
        // Every program of ours has run the first migration.
        let is_ours = known.iter().min().is_some_and(|first| applied.contains(first));
        match unknown {
            Some(version) if !is_ours => match self.migrates_here()? {
                true => Err(DbError::Foreign { version: version.clone() }),
                false => Ok(Schema::Missing),
            },
            Some(version) => Err(DbError::NewerSchema { version: version.clone() }),
            None if applied.is_empty() => Ok(Schema::Missing),
            None if known.iter().all(|version| applied.contains(version)) => Ok(Schema::Current),
            None => Ok(Schema::Older),
        }
    }

    /// Whether there are all columns and functions that this program uses: a newer schema may lack
    /// some.
    pub(crate) fn has_columns(&mut self) -> bool {
        let has_functions = match self {
            Self::Sqlite(_) => true,
            Self::Postgres(connection) => diesel::sql_query(FUNCTIONS).execute(connection).is_ok(),
        };
        has_functions && COLUMNS.iter().all(|query| diesel::sql_query(*query).execute(self).is_ok())
    }

    /// Brings the schema up to date. When several processes start at once, one of them migrates and
    /// the others wait.
    pub(crate) fn migrate(&mut self) -> Result<Vec<String>, DbError> {
        // The first look takes no lock: a reader must not wait for a writer.
        if self.schema()? == Schema::Current {
            return Ok(Vec::new());
        }
        self.alone(|this| {
            this.schema()?;
            let run = match this {
                Self::Sqlite(connection) => {
                    connection.run_pending_migrations(SQLITE_MIGRATIONS).map(names_of)
                }
                Self::Postgres(connection) => {
                    connection.run_pending_migrations(POSTGRES_MIGRATIONS).map(names_of)
                }
            };
            run.map_err(|error| DbError::Migration { reason: error.to_string() })
        })
    }

    /// Reverts the newest `count` migrations.
    pub(crate) fn revert(&mut self, count: usize) -> Result<(), DbError> {
        self.alone(|this| {
            for _ in 0..count {
                let reverted = match this {
                    Self::Sqlite(connection) => {
                        connection.revert_last_migration(SQLITE_MIGRATIONS).map(drop)
                    }
                    Self::Postgres(connection) => {
                        connection.revert_last_migration(POSTGRES_MIGRATIONS).map(drop)
                    }
                };
                reverted.map_err(|error| DbError::Migration { reason: error.to_string() })?;
            }
            Ok(())
        })
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn names_of<V: ToString>(versions: Vec<V>) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

fn versions<DB: Backend>(migrations: &EmbeddedMigrations) -> Result<Vec<String>, DbError> {
    let migrations = MigrationSource::<DB>::migrations(migrations);
    let migrations =
        migrations.map_err(|error| DbError::Migration { reason: error.to_string() })?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}
