//! Which schema a database has, and how it is brought up to date or reverted.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use diesel::backend::Backend;
use diesel::connection::{
    AnsiTransactionManager, InstrumentationEvent, SimpleConnection as _, TransactionManager as _,
};
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use super::AnyConnection;
use super::functions::FunctionState;
use super::statement::TextRow;
use crate::db::error::DbError;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The advisory lock that a migration holds on Postgres: any number that no other program uses.
const MIGRATION_LOCK: i64 = 0x66656e63_65706f73;

/// Queries that fail where a table or a column that this program uses is missing.
const COLUMNS: [&str; 14] = [
    "SELECT id, database_id, lock_kind, lock_identity FROM service LIMIT 0",
    "SELECT id, name, state, moved_to, version, fence, epoch, lock_incarnation, chain, uuid, \
     oldest, storage, known_version, leader_token FROM graphs LIMIT 0",
    "SELECT graph_id, id, name, spec, version, inputs FROM jobs LIMIT 0",
    "SELECT graph_id, id, name, metadata, producer FROM datasets LIMIT 0",
    "SELECT graph_id, version, change, chain, attempt, token, committed_at_ms, actor, request \
     FROM changes LIMIT 0",
    "SELECT graph_id, key, fingerprint, answer, created_at_ms, attempt \
     FROM idempotency_keys LIMIT 0",
    "SELECT graph_id, name, acknowledged, acknowledged_at_ms, seen_at_ms, lifetime_ms, sink, \
     sink_identity FROM consumers LIMIT 0",
    "SELECT graph_id, version, committed_at_ms FROM snapshots LIMIT 0",
    "SELECT graph_id, version, part, lines FROM snapshot_parts LIMIT 0",
    "SELECT graph_id, version, snapshot, chain, format, digest, parts, bytes, taken_at_ms \
     FROM packed_snapshots LIMIT 0",
    "SELECT graph_id, snapshot, part, checksum, content FROM packed_parts LIMIT 0",
    "SELECT graph_id, snapshot, expires_at_ms FROM packed_claims LIMIT 0",
    "SELECT node, address, seen_at_ms FROM leader_nodes LIMIT 0",
    "SELECT graph_id, node, token, since_ms, is_leaving, successor, successor_waits, follows_load \
     FROM leaders LIMIT 0",
];

/// What bringing a schema up to date has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The names of the migrations that were run.
    pub run: Vec<String>,
    /// The functions that were missing or were others, and were made again.
    pub repaired: Vec<&'static str>,
}

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
        let applied = self.applied()?;
        let known: Vec<String> = self.names()?.into_iter().map(|(version, _)| version).collect();
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
        let has_functions =
            self.function_state().is_ok_and(|state| state != FunctionState::Missing);
        has_functions && COLUMNS.iter().all(|query| diesel::sql_query(*query).execute(self).is_ok())
    }

    /// Brings the schema up to date, and returns the names of the migrations that it has run. When
    /// several processes start at once, one of them migrates and the others wait.
    pub(crate) fn migrate(&mut self) -> Result<Vec<String>, DbError> {
        // The first look takes no lock: a reader must not wait for a writer.
        if self.schema()? == Schema::Current {
            return Ok(Vec::new());
        }
        let detail = Detail::of(self);
        self.alone(|this| {
            this.schema()?;
            let names = this.names()?;
            let run = match this {
                Self::Sqlite(connection) => {
                    connection.run_pending_migrations(SQLITE_MIGRATIONS).map(versions_of)
                }
                Self::Postgres(connection) => {
                    connection.run_pending_migrations(POSTGRES_MIGRATIONS).map(versions_of)
                }
            };
            let run = run.map_err(|error| detail.failed(&error, "running"))?;
            Ok(run.iter().map(|version| name_of(&names, version)).collect())
        })
    }

    /// As [`migrate`](Self::migrate), and makes functions that are missing or others again.
    pub(crate) fn migrate_and_repair(&mut self) -> Result<Migrated, DbError> {
        let run = self.migrate()?;
        let repaired = match self {
            Self::Sqlite(_) => Vec::new(),
            Self::Postgres(_) => self.alone(|this| Ok(this.repair_functions()?))?,
        };
        Ok(Migrated { run, repaired })
    }

    /// Reverts the newest `count` migrations, and returns their names.
    pub(crate) fn revert(&mut self, count: usize) -> Result<Vec<String>, DbError> {
        self.schema()?;
        let detail = Detail::of(self);
        let reverted = self.alone(|this| {
            let (names, applied) = (this.names()?, this.applied()?.len());
            if count > applied {
                return Err(DbError::TooFewMigrations { asked: count, applied });
            }
            let mut reverted = Vec::with_capacity(count);
            for _ in 0..count {
                let one = match this {
                    Self::Sqlite(connection) => connection.revert_last_migration(SQLITE_MIGRATIONS),
                    Self::Postgres(connection) => {
                        connection.revert_last_migration(POSTGRES_MIGRATIONS)
                    }
                };
                let version = one.map_err(|error| detail.failed(&error, "taking back"))?;
                reverted.push(name_of(&names, &version.to_string()));
            }
            Ok(reverted)
        });
        // All is as it was before.
        reverted.map_err(|error| match (error, self.stored_damage()) {
            (DbError::Migration { reason }, Some(damage)) => {
                DbError::Migration { reason: format!("{reason}. {damage}") }
            }
            (error, _) => error,
        })
    }

    /// The names of all migrations that this program knows, each with its version.
    fn names(&self) -> Result<Vec<(String, String)>, DbError> {
        match self {
            Self::Sqlite(_) => names::<diesel::sqlite::Sqlite>(&SQLITE_MIGRATIONS),
            Self::Postgres(_) => names::<diesel::pg::Pg>(&POSTGRES_MIGRATIONS),
        }
    }

    /// The versions of all migrations that the database has.
    fn applied(&mut self) -> Result<Vec<String>, DbError> {
        let applied = diesel::sql_query("SELECT version AS value FROM __diesel_schema_migrations");
        Ok(applied.load::<TextRow>(self)?.into_iter().map(|row| row.value).collect())
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn versions_of<V: ToString>(versions: Vec<V>) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

/// What the database said of the last statement that it refused beside the error's own words: which
/// row it was. The errors of migrations do not have it.
#[derive(Clone, Default)]
struct Detail(Arc<Mutex<Option<String>>>);

impl Detail {
    /// Of statements of this connection.
    fn of(connection: &mut AnyConnection) -> Self {
        let detail = Self::default();
        let noted = detail.clone();
        connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::FinishQuery {
                error: Some(diesel::result::Error::DatabaseError(_, what)),
                ..
            } = event
            {
                let said = what.details().map(str::to_owned);
                *noted.0.lock().unwrap_or_else(PoisonError::into_inner) = said;
            }
        });
        detail
    }

    /// What is told of a migration that failed.
    fn failed(&self, error: &impl Display, doing: &str) -> DbError {
        let text = error.to_string();
        let parts = text.strip_prefix("Failed to run ").and_then(|text| text.split_once(" with: "));
        let mut reason =
            parts.map_or(text.clone(), |(name, cause)| format!("{doing} {name}: {cause}"));
        if let Some(said) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reason += &format!(" ({said})");
        }
        DbError::Migration { reason }
    }
}

fn names<DB: Backend>(migrations: &EmbeddedMigrations) -> Result<Vec<(String, String)>, DbError> {
    let migrations = MigrationSource::<DB>::migrations(migrations);
    let migrations =
        migrations.map_err(|error| DbError::Migration { reason: error.to_string() })?;
    let names = migrations.iter().map(|migration| {
        let name = migration.name();
        (name.version().to_string(), name.to_string())
    });
    Ok(names.collect())
}

/// The name of the migration with this version; the version, if there is none.
fn name_of(names: &[(String, String)], version: &str) -> String {
    let found = names.iter().find(|(of_name, _)| of_name == version);
    found.map_or(version, |(_, name)| name).to_owned()
}
