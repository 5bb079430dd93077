//! What an SQLite database takes on disk, table by table. For measuring: it looks at a file that
//! nobody has open.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::{SqliteConnection, sql_query};

use super::dialect::SQLITE_SETTINGS;

/// The version of SQLite that this program has in it.
pub const SQLITE_VERSION: &str = {
    match libsqlite3_sys::SQLITE_VERSION.to_str() {
        Ok(version) => version,
        Err(_) => "unknown",
    }
};

/// The settings of each of its connections, as in `journal_mode=WAL synchronous=FULL`.
#[must_use]
pub fn sqlite_settings() -> String {
    let settings = SQLITE_SETTINGS.map(|(name, value, _)| format!("{name}={value}"));
    settings.join(" ")
}

/// What a database takes, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUse {
    /// The file, without a write-ahead log.
    pub file: u64,
    /// The file after `VACUUM`.
    pub vacuumed: u64,
    /// By part: `rows`, `log`, `snapshots`, `keys` are tables without their indexes, `indexes` those
    /// of all; `other` is the rest.
    pub parts: BTreeMap<String, u64>,
}

#[derive(QueryableByName)]
struct PartRow {
    #[diesel(sql_type = Text)]
    part: String,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

const PARTS: &str = "
    SELECT CASE
        WHEN s.type = 'index' THEN 'indexes'
        WHEN d.name IN ('jobs', 'datasets') THEN 'rows'
        WHEN d.name = 'changes' THEN 'log'
        WHEN d.name LIKE 'packed%' OR d.name LIKE 'snapshot%' THEN 'snapshots'
        WHEN d.name = 'idempotency_keys' THEN 'keys'
        ELSE 'other' END AS part,
        sum(d.pgsize) AS bytes
    FROM dbstat d LEFT JOIN sqlite_schema s ON s.name = d.name
    GROUP BY 1";

impl DiskUse {
    /// Of the database in that file. Writes a second one beside it for a moment. O(its size).
    ///
    /// # Errors
    /// Says what went wrong.
    pub fn of_sqlite(path: &Path) -> Result<Self, String> {
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let file = bytes(path);
        let text = path.to_str().ok_or("the path is not UTF-8")?;
        let mut connection =
            SqliteConnection::establish(text).map_err(|error| error.to_string())?;
        let rows: Vec<PartRow> =
            sql_query(PARTS).load(&mut connection).map_err(|error| error.to_string())?;
        let parts = rows.into_iter().map(|row| (row.part, row.bytes.max(0) as u64)).collect();
        let beside = path.with_extension("vacuumed");
        drop(fs::remove_file(&beside));
        sql_query("VACUUM INTO ?")
            .bind::<Text, _>(beside.to_string_lossy().into_owned())
            .execute(&mut connection)
            .map_err(|error| error.to_string())?;
        let vacuumed = bytes(&beside);
        fs::remove_file(&beside).map_err(|error| error.to_string())?;
        Ok(Self { file, vacuumed, parts })
    }
}
