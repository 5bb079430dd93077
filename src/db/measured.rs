//! What a benchmark asks of a Postgres server beside the service: databases that are copies of
//! another, what they take, and how much is logged. On sessions of its own.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{PgConnection, sql_query};

use super::dialect::connect_postgres;
use super::disk_use::DiskUse;
use super::error::on_one_line;

/// From this version on, a copy can go through the write-ahead log. Pages that do are in the log
/// already when they are first changed.
const COPIES_BY_LOG: i32 = 150_000;

/// From this version on, a session can be told to add what it counted to what the server has
/// counted, at once. Else it does so once in a second, and when it ends.
const COUNTS_AT_ONCE: i32 = 150_000;
/// From this version on, syncs of the log are counted with what else is read and written.
const COUNTS_WITH_IO: i32 = 180_000;
/// How long a session may take to end after its client has gone.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// The oldest version that the service runs on.
const OLDEST: i32 = 140_000;

/// Settings that a figure depends on, in the order in which they are told.
const SETTINGS: [&str; 13] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "max_connections",
    "jit",
    "data_checksums",
];

/// A session on a server, as whoever may create databases.
pub struct MeasuredPostgres {
    connection: PgConnection,
    version: i32,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Integer)]
    number: i32,
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct Part {
    #[diesel(sql_type = Text)]
    part: String,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// What is known of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresFacts {
    /// Its version, as in `15.8`.
    pub version: String,
    /// Settings of its sessions, by name.
    pub settings: BTreeMap<String, String>,
}

impl PostgresFacts {
    /// What an answered commit survives, with the settings that say so.
    #[must_use]
    pub fn durability(&self) -> String {
        let of = |name: &str| self.settings.get(name).map_or("", String::as_str);
        let names = ["fsync", "synchronous_commit", "full_page_writes"];
        let said = names.map(|name| format!("{name}={}", of(name))).join(" ");
        // `remote_write` and the like wait for the own disk too.
        let is_synchronous = !matches!(of("synchronous_commit"), "off");
        let survives = match (of("fsync"), is_synchronous) {
            ("on", true) => "a crash of the machine",
            ("on", false) => "nothing for some milliseconds",
            _ => "a crash of processes only",
        };
        format!("postgres, {said}: {survives}")
    }
}

impl std::fmt::Debug for MeasuredPostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeasuredPostgres").field("version", &self.version).finish_non_exhaustive()
    }
}

impl MeasuredPostgres {
    /// Connects to a database of the server.
    ///
    /// # Errors
    /// Says what went wrong, without a password; also of a server that is too old.
    pub fn connect(url: &str) -> Result<Self, String> {
        let mut connection = connect_postgres(url).map_err(|error| error.to_string())?;
        let version: Version = sql_query(
            "SELECT current_setting('server_version_num')::integer AS number, \
             current_setting('server_version') AS name",
        )
        .get_result(&mut connection)
        .map_err(told)?;
        if version.number < OLDEST {
            return Err(format!(
                "the server is Postgres {}; at least version 14 is needed",
                version.name
            ));
        }
        Ok(Self { connection, version: version.number })
    }

    /// The same, and refuses any other database than `name`: nothing may be written there.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_to(url: &str, name: &str) -> Result<Self, String> {
        let mut session = Self::connect(url)?;
        let there: Version = sql_query("SELECT 0 AS number, current_database()::text AS name")
            .get_result(&mut session.connection)
            .map_err(told)?;
        match there.name == name {
            true => Ok(session),
            false => Err(format!(
                "asked for the database `{name}`, the server gave another, `{}`: nothing was \
                 written there",
                there.name
            )),
        }
    }

    /// Whether no other session that asked so is there, whatever its database: for as long as this
    /// one lasts. Of two that ask at the same time, both may be told that they are not.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn is_the_only_one(&mut self) -> Result<bool, String> {
        #[derive(QueryableByName)]
        struct Locked {
            #[diesel(sql_type = diesel::sql_types::Bool)]
            locked: bool,
        }
        // Such locks are of one database, and all of a server are listed.
        let asked = sql_query(
            "SELECT pg_try_advisory_lock(1717989987, 1650812515) AND NOT EXISTS (SELECT FROM pg_locks \
             WHERE locktype = 'advisory' AND classid = 1717989987 AND objid = 1650812515 \
             AND granted AND pid <> pg_backend_pid()) AS locked",
        );
        let found: Locked = asked.get_result(&mut self.connection).map_err(told)?;
        Ok(found.locked)
    }

    /// What is known of the server.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn facts(&mut self) -> Result<PostgresFacts, String> {
        let version: Version =
            sql_query("SELECT 0 AS number, current_setting('server_version') AS name")
                .get_result(&mut self.connection)
                .map_err(told)?;
        let each = SETTINGS
            .map(|name| format!("SELECT '{name}' AS name, current_setting('{name}') AS value"));
        let settings: Vec<Setting> =
            sql_query(each.join(" UNION ALL ")).load(&mut self.connection).map_err(told)?;
        let settings = settings.into_iter().map(|setting| (setting.name, setting.value)).collect();
        // Distributions add their own.
        let version = version.name.split(' ').next().unwrap_or_default().to_owned();
        Ok(PostgresFacts { version, settings })
    }

    /// Makes an empty database. Names are of lower-case letters, digits and `_`.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn create(&mut self, name: &str) -> Result<(), String> {
        self.run(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"))
    }

    /// Makes a copy of a database that nobody is connected to.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn copy(&mut self, template: &str, name: &str) -> Result<(), String> {
        let by_log = if self.version >= COPIES_BY_LOG { " STRATEGY wal_log" } else { "" };
        self.run(&format!("CREATE DATABASE {name} TEMPLATE {template}{by_log}"))?;
        self.count()
    }

    /// Removes a database, whoever is connected to it.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        self.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    }

    /// The databases whose names begin so.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn databases(&mut self, prefix: &str) -> Result<Vec<String>, String> {
        let all: Vec<Version> = sql_query(
            "SELECT 0 AS number, datname::text AS name FROM pg_database \
             WHERE starts_with(datname::text, $1) ORDER BY datname",
        )
        .bind::<Text, _>(prefix)
        .load(&mut self.connection)
        .map_err(told)?;
        Ok(all.into_iter().map(|database| database.name).collect())
    }

    /// Writes all changed pages to disk. After that, the first change of each page is logged with
    /// the whole page.
    ///
    /// # Errors
    /// Says what went wrong: not every user may.
    pub fn checkpoint(&mut self) -> Result<(), String> {
        self.run("CHECKPOINT")
    }

    /// Collects the statistics of the database that this session is connected to.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn analyze(&mut self) -> Result<(), String> {
        self.run("ANALYZE")
    }

    /// Makes the database that this session is connected to one of its own, which no lock knows
    /// and which names no lock: it was a copy of another.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn become_another(&mut self) -> Result<(), String> {
        self.run(
            "UPDATE service SET database_id = replace(gen_random_uuid()::text, '-', ''), \
             lock_kind = NULL, lock_identity = NULL",
        )?;
        self.count()
    }

    /// How many bytes the server has put into its write-ahead log so far.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn logged_bytes(&mut self) -> Result<u64, String> {
        self.number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS number")
    }

    /// How often the server has synced its write-ahead log so far, by what all sessions have done
    /// that have ended. Waits until no other is on the database of this one. `None` before
    /// Postgres 15, whose counts come later.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn log_syncs(&mut self) -> Result<Option<u64>, String> {
        if self.version < COUNTS_AT_ONCE {
            return Ok(None);
        }
        let others = "SELECT count(*) AS number FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + ENDS_WITHIN;
        while self.number(others)? > 0 {
            if Instant::now() > deadline {
                return Err("a session did not end".to_owned());
            }
            thread::sleep(PAUSE);
        }
        let syncs = match self.version >= COUNTS_WITH_IO {
            true => "SELECT sum(fsyncs)::bigint AS number FROM pg_stat_io WHERE object = 'wal'",
            false => "SELECT wal_sync AS number FROM pg_stat_wal",
        };
        self.number(syncs).map(Some)
    }

    /// Adds what this session has counted to what the server has.
    fn count(&mut self) -> Result<(), String> {
        if self.version < COUNTS_AT_ONCE {
            return Ok(());
        }
        self.run("SELECT pg_stat_force_next_flush()")
    }

    /// What the database takes that this session is connected to, in bytes.
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn bytes(&mut self) -> Result<u64, String> {
        self.number("SELECT pg_database_size(current_database()) AS number")
    }

    /// The same, part by part. Rewrites its tables, so that nothing in them is free. O(its size).
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn disk_use(&mut self) -> Result<DiskUse, String> {
        let file = self.bytes()?;
        let parts: Vec<Part> = sql_query(PARTS).load(&mut self.connection).map_err(told)?;
        let mut parts: BTreeMap<String, u64> =
            parts.into_iter().map(|row| (row.part, row.bytes.max(0) as u64)).collect();
        let known: u64 = parts.values().sum();
        *parts.entry("other".to_owned()).or_default() += file.saturating_sub(known);
        self.run("VACUUM FULL")?;
        let vacuumed = self.bytes()?;
        Ok(DiskUse { file, vacuumed, parts })
    }

    fn number(&mut self, query: &str) -> Result<u64, String> {
        let row: Number = sql_query(query).get_result(&mut self.connection).map_err(told)?;
        Ok(row.number.max(0) as u64)
    }

    fn run(&mut self, statement: &str) -> Result<(), String> {
        self.connection.batch_execute(statement).map_err(told)
    }
}

fn told(error: diesel::result::Error) -> String {
    on_one_line(error.to_string())
}

const PARTS: &str = "
    SELECT part, sum(bytes)::bigint AS bytes FROM (
        SELECT CASE
            WHEN relname IN ('jobs', 'datasets') THEN 'rows'
            WHEN relname = 'changes' THEN 'log'
            WHEN relname LIKE 'packed%' OR relname LIKE 'snapshot%' THEN 'snapshots'
            WHEN relname = 'idempotency_keys' THEN 'keys'
            ELSE 'other' END AS part,
            pg_table_size(oid) AS bytes
        FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT 'indexes', pg_indexes_size(oid)
        FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    ) AS each GROUP BY part";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_commit_survives_follows_from_the_settings() {
        for (fsync, synchronous, survives) in [
            ("on", "on", "a crash of the machine"),
            ("on", "remote_apply", "a crash of the machine"),
            ("on", "off", "nothing for some milliseconds"),
            ("off", "on", "a crash of processes only"),
        ] {
            let settings =
                [("fsync", fsync), ("synchronous_commit", synchronous), ("full_page_writes", "on")];
            let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let facts = PostgresFacts { version: String::new(), settings: settings.into() };
            let said = facts.durability();
            assert!(said.ends_with(&format!(" full_page_writes=on: {survives}")), "{said}");
        }
    }
}
