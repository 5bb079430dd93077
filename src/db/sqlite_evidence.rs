//! Cheap evidence that a database file and the log beside it (`-wal`) belong together.
//!
//! SQLite does not check. A log is valid by its own checksums, and is applied to whatever file it
//! is found beside, an older copy included. The result is a mixture of two states, page by page.
//!
//! Three views are compared:
//!
//! - what the file alone holds: the state when the log was last copied into it. If that was cut
//!   short, or went on beside a reader, whose snapshot holds newer pages back, it is a mixture of
//!   two states itself. Then a graph may be missing from it whose row has moved to another page;
//! - the file with its log;
//! - what a connection that was open before believes. It keeps the pages that it read until the
//!   log's index says that something was written.
//!
//! Of one history, the first is a past of the second, and the second and third are the same. A
//! migration, and a restore through SQLite, raise the schema's version and may move everything:
//! where only the log has them, there is nothing to compare.
//!
//! O(graphs), at most [`GRAPHS_MAX`] of them, and O(pages in the log). Small files are checked
//! whole at first. Not found is a page of a large file to which nobody wrote since: `fencepost
//! verify` and `PRAGMA integrity_check` find it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use diesel::QueryResult;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};

use super::dialect::{OpenMode, connect_sqlite, connect_sqlite_without_log, log_of};
use super::error::DbError;

/// Graphs that are compared at most.
const GRAPHS_MAX: i64 = 10_000;

/// Files up to this size are checked whole, in some 100 ms.
const WHOLE_BYTES_MAX: i64 = 32 << 20;

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    schema_version: i64,
    database_id: String,
    /// By id.
    graphs: BTreeMap<i64, GraphView>,
}

#[derive(QueryableByName, Clone, Debug, PartialEq, Eq)]
struct GraphView {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Binary)]
    chain: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    fence: i64,
    #[diesel(sql_type = BigInt)]
    oldest: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    value: String,
}

fn number(connection: &mut SqliteConnection, query: &str) -> QueryResult<i64> {
    Ok(diesel::sql_query(query).get_result::<Number>(connection)?.value)
}

impl View {
    /// In one snapshot. `None` before the tables are there.
    fn of(connection: &mut SqliteConnection) -> QueryResult<Option<Self>> {
        connection.transaction(Self::in_transaction)
    }

    fn in_transaction(connection: &mut SqliteConnection) -> QueryResult<Option<Self>> {
        let tables = "SELECT count(*) AS value FROM sqlite_schema \
            WHERE type = 'table' AND name IN ('service', 'graphs', 'changes')";
        let columns =
            "SELECT count(*) AS value FROM pragma_table_info('graphs') WHERE name = 'oldest'";
        if number(connection, tables)? < 3 || number(connection, columns)? == 0 {
            return Ok(None);
        }
        let schema_version =
            number(connection, "SELECT schema_version AS value FROM pragma_schema_version")?;
        let database_id = diesel::sql_query("SELECT database_id AS value FROM service")
            .get_result::<Word>(connection)?
            .value;
        let graphs =
            "SELECT id, name, version, chain, fence, oldest FROM graphs ORDER BY id LIMIT ?";
        let graphs: Vec<GraphView> =
            diesel::sql_query(graphs).bind::<BigInt, _>(GRAPHS_MAX).load(connection)?;
        let graphs = graphs.into_iter().map(|graph| (graph.id, graph)).collect();
        Ok(Some(Self { schema_version, database_id, graphs }))
    }

    /// Of the file without its log. `None` if it has no tables, or if they are not of one state: if
    /// a process ended while it copied the log into the file, or is about it, some pages are of the
    /// former state and some of the next. With the log, all of them are.
    fn of_file_alone(path: &Path) -> Option<Self> {
        let mut alone = connect_sqlite_without_log(path).ok()?;
        let view = Self::of(&mut alone).ok()??;
        let is_one_state = last_changes(&mut alone).ok()?.is_none();
        is_one_state.then_some(view)
    }

    /// What tells that `self` is not a past of `later`. A graph that is missing from `later` tells
    /// it only if `later` is `whole`, and not a file without its log.
    fn is_not_before(&self, later: &Self, whole: bool) -> Option<String> {
        if later.schema_version > self.schema_version {
            return None;
        }
        if later.schema_version < self.schema_version {
            return Some("its schema is newer than the log's".to_owned());
        }
        if later.database_id != self.database_id {
            return Some("they are of two databases".to_owned());
        }
        self.graphs.values().find_map(|graph| match later.graphs.get(&graph.id) {
            Some(now) if now.name != graph.name => {
                Some(format!("graph {} has two names", graph.id))
            }
            Some(now) if now.version < graph.version => Some(format!(
                "graph `{}` went back from version {} to {}",
                graph.name, graph.version, now.version
            )),
            Some(now) if now.fence < graph.fence => Some(format!(
                "the fence of graph `{}` went back from {} to {}",
                graph.name, graph.fence, now.fence
            )),
            Some(now) if now.version == graph.version && now.chain != graph.chain => {
                Some(format!("graph `{}` has two histories", graph.name))
            }
            Some(_) => None,
            None => (whole && self.graphs.len() < GRAPHS_MAX as usize)
                .then(|| format!("graph `{}` is in the file alone", graph.name)),
        })
    }
}

/// What a file is compared with.
pub(super) struct Known<'k> {
    /// What it held without its log when it was last looked at.
    pub(super) before: Option<&'k View>,
    /// A connection that has looked at it before and stayed open. `None` the first time.
    pub(super) anchor: Option<&'k mut SqliteConnection>,
    /// Whether there is something in its log.
    pub(super) has_log: bool,
}

/// What the file at `path` holds without its log, or what tells that the two do not belong
/// together.
///
/// # Errors
/// [`DbError`] if they cannot be read.
pub(super) fn mixture(
    path: &Path,
    known: &mut Known<'_>,
) -> Result<Result<Option<View>, String>, DbError> {
    let overwritten = |what: &str| Ok(Err(format!("the file was overwritten: {what}")));
    let file = View::of_file_alone(path);
    let mut connection = connect_sqlite(path, OpenMode::Read)?;
    if let Some(anchor) = &mut known.anchor
        && is_believed_otherwise(anchor, &mut connection)?
    {
        return overwritten("open connections know another state");
    }
    if let Some(what) = known.before.zip(file.as_ref()).and_then(|(a, b)| a.is_not_before(b, false))
    {
        return overwritten(&what);
    }
    let in_log = if known.has_log { schema_in_log(&log_of(path)) } else { None };
    if let Some(file) = &file
        && in_log.is_some_and(|in_log| in_log < file.schema_version)
    {
        return overwritten("its schema is newer than the log's");
    }
    let found = connection.transaction::<_, diesel::result::Error, _>(|connection| {
        let now = View::in_transaction(connection)?;
        let earlier: Vec<&View> = known.before.into_iter().chain(&file).collect();
        let Some(now) = now else {
            return Ok((!earlier.is_empty()).then(|| "its tables are gone".to_owned()));
        };
        let mut found = earlier.iter().find_map(|view| view.is_not_before(&now, true));
        if !known.has_log {
            return Ok(found);
        }
        if let (None, Some(file)) = (&found, &file)
            && now.schema_version == file.schema_version
        {
            found = next_change_missing(connection, file, &now)?;
        }
        // Pages may have moved: a migration, or another layout under the same log.
        let moved = known.before.is_some_and(|view| view.schema_version < now.schema_version);
        if found.is_none() && (moved || known.anchor.is_none()) {
            found = damage(connection)?;
        }
        Ok(found)
    })?;
    Ok(found.map_or(Ok(file), Err))
}

/// The newest version of the schema that the log itself holds, read as it is stored: of a log that
/// was copied into the file whole, SQLite uses nothing any more. `None` if it holds none, or cannot
/// be read. O(pages in the log).
///
/// SQLite takes no lock on the log, so that closing it here takes none away.
fn schema_in_log(log: &Path) -> Option<i64> {
    const SCHEMA_VERSION_AT: u64 = 40;
    let file = File::open(log).ok()?;
    let mut newest = None;
    for frame in Frames::of(&file)?.filter(|frame| frame.page == 1) {
        let mut version = [0; 4];
        file.read_exact_at(&mut version, frame.data_at + SCHEMA_VERSION_AT).ok()?;
        newest = newest.max(Some(i64::from(u32::from_be_bytes(version))));
    }
    newest
}

/// How many transactions were committed to the write-ahead log (`-wal`) of the SQLite database in
/// `file` since the log was made. With `synchronous=FULL`, SQLite syncs the log once for each.
/// `None` if that is not known: there is no log, or it was begun anew meanwhile. Takes no lock.
/// O(pages in the log).
#[must_use]
pub fn commits_in_log(file: &Path) -> Option<u64> {
    let log = File::open(log_of(file)).ok()?;
    let frames = Frames::of(&log)?;
    let is_as_made = frames.checkpoints() == 0;
    is_as_made.then(|| frames.filter(|frame| frame.ends_transaction).count() as u64)
}

/// The pages in a log: <https://www.sqlite.org/walformat.html>.
struct Frames<'f> {
    log: &'f File,
    head: [u8; 32],
    /// Where the next begins.
    at: u64,
}

/// A page in a log.
struct Frame {
    /// Which; the first is 1.
    page: u32,
    /// Whether a transaction ends with it.
    ends_transaction: bool,
    /// Where it is in the log.
    data_at: u64,
}

impl<'f> Frames<'f> {
    /// `None` of what is no log.
    fn of(log: &'f File) -> Option<Self> {
        let mut head = [0; 32];
        log.read_exact_at(&mut head, 0).ok()?;
        Some(Self { log, head, at: head.len() as u64 })
    }

    /// How often the log was begun anew.
    fn checkpoints(&self) -> u32 {
        word(&self.head[12..])
    }
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    /// Those that follow the last are left from before the log was begun anew, and have its former
    /// salts.
    fn next(&mut self) -> Option<Frame> {
        let mut frame = [0; 24];
        self.log.read_exact_at(&mut frame, self.at).ok()?;
        if frame[8..16] != self.head[16..24] {
            return None;
        }
        let data_at = self.at + frame.len() as u64;
        self.at = data_at + u64::from(word(&self.head[8..]));
        let ends_transaction = word(&frame[4..]) > 0;
        Some(Frame { page: word(&frame), ends_transaction, data_at })
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Whether `anchor`, while nobody writes, sees another state than a new connection does.
fn is_believed_otherwise(
    anchor: &mut SqliteConnection,
    new: &mut SqliteConnection,
) -> QueryResult<bool> {
    let (before, now, after) = (View::of(anchor)?, View::of(new)?, View::of(anchor)?);
    Ok(before == after && now != after)
}

/// Whether the change log goes on after what the file holds, up to what the log beside it holds.
/// Only the next change is looked for: what the file was given between the copy and the log is
/// missing from there on, and a change that somebody deleted is no matter of these two.
fn next_change_missing(
    connection: &mut SqliteConnection,
    file: &View,
    now: &View,
) -> QueryResult<Option<String>> {
    for (id, now) in &now.graphs {
        let Some(then) = file.graphs.get(id).filter(|then| then.version < now.version) else {
            continue;
        };
        let next = then.version + 1;
        let logged = diesel::sql_query(
            "SELECT count(*) AS value FROM changes WHERE graph_id = ? AND version = ?",
        );
        let logged: Number =
            logged.bind::<BigInt, _>(*id).bind::<BigInt, _>(next).get_result(connection)?;
        if next >= now.oldest && logged.value == 0 {
            let (name, version) = (&now.name, now.version);
            return Ok(Some(format!(
                "graph `{name}` is at version {version}, and change {next} is nowhere"
            )));
        }
    }
    Ok(None)
}

/// Whether each graph's row is what its last change made it.
fn last_changes(connection: &mut SqliteConnection) -> QueryResult<Option<String>> {
    let wrong = diesel::sql_query(
        "SELECT name AS value FROM (SELECT * FROM graphs ORDER BY id LIMIT ?) AS graph \
         WHERE version >= oldest AND NOT EXISTS (SELECT 1 FROM changes \
             WHERE graph_id = graph.id AND version = graph.version AND chain = graph.chain) \
         OR EXISTS (SELECT 1 FROM changes WHERE graph_id = graph.id AND version > graph.version) \
         LIMIT 1",
    );
    let wrong: Option<Word> =
        wrong.bind::<BigInt, _>(GRAPHS_MAX).get_result(connection).optional()?;
    Ok(wrong.map(|Word { value }| {
        format!("graph `{value}` is not at the version that its last change made")
    }))
}

/// What SQLite itself finds in a small file.
fn damage(connection: &mut SqliteConnection) -> QueryResult<Option<String>> {
    let bytes = "SELECT page_count * page_size AS value FROM pragma_page_count, pragma_page_size";
    if number(connection, bytes)? > WHOLE_BYTES_MAX {
        return Ok(None);
    }
    let found = "SELECT integrity_check AS value FROM pragma_integrity_check LIMIT 1";
    let found = diesel::sql_query(found).get_result::<Word>(connection)?.value;
    Ok((found != "ok").then_some(found))
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::db::{AnyConnection, DatabaseUrl};

    fn database(path: &Path) -> SqliteConnection {
        let mut connection =
            DatabaseUrl::Sqlite(path.to_owned()).connect(OpenMode::Create).unwrap();
        connection.migrate().unwrap();
        let AnyConnection::Sqlite(connection) = connection else {
            unreachable!("the URL was SQLite's")
        };
        connection
    }

    fn graph_at(connection: &mut SqliteConnection, version: i64) {
        let statements = format!(
            "INSERT INTO graphs (id, name, state, version, fence, epoch, lock_incarnation, chain, \
                 uuid) VALUES (1, 'g', 'open', {version}, 0, 0, '', x'0{version}', 'u') \
                 ON CONFLICT DO UPDATE SET version = excluded.version, chain = excluded.chain"
        );
        connection.batch_execute(&statements).unwrap();
    }

    fn change(connection: &mut SqliteConnection, version: i64) {
        let statements = format!(
            "INSERT INTO changes (graph_id, version, change, chain, attempt, token, \
                 committed_at_ms) VALUES (1, {version}, '', x'0{version}', '', 0, 0)"
        );
        connection.batch_execute(&statements).unwrap();
    }

    #[test]
    fn commits_are_counted_in_a_log_that_was_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let mut connection = database(&path);
        let before = commits_in_log(&path).unwrap();
        graph_at(&mut connection, 1);
        change(&mut connection, 1);
        assert_eq!(commits_in_log(&path), Some(before + 2));
        connection.batch_execute("BEGIN; UPDATE graphs SET version = 9; ROLLBACK").unwrap();
        assert_eq!(commits_in_log(&path), Some(before + 2));
        // The next commit begins the log anew, and those before are not in it.
        connection.batch_execute("PRAGMA wal_checkpoint(RESTART)").unwrap();
        change(&mut connection, 2);
        assert_eq!(commits_in_log(&path), None);
        assert_eq!(commits_in_log(&directory.path().join("other.db")), None);
    }

    #[test]
    fn a_file_between_two_states_tells_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let mut connection = database(&path);
        graph_at(&mut connection, 1);
        let alone = |connection: &mut SqliteConnection| {
            connection.batch_execute("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
            View::of_file_alone(&path)
        };
        assert!(alone(&mut connection).is_none(), "its last change is not there yet");
        change(&mut connection, 1);
        assert_eq!(alone(&mut connection).unwrap().graphs[&1].version, 1);
    }

    /// A copy of the log into the file leaves out pages that a reader's snapshot holds back.
    #[test]
    fn a_graph_that_the_file_alone_lacks_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = database(&directory.path().join("x.db"));
        let without = View::of(&mut connection).unwrap().unwrap();
        graph_at(&mut connection, 1);
        let before = View::of(&mut connection).unwrap().unwrap();
        assert_eq!(before.is_not_before(&without, false), None);
        assert!(before.is_not_before(&without, true).unwrap().contains("in the file alone"));
    }

    #[test]
    fn the_change_after_the_files_version_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = database(&directory.path().join("x.db"));
        graph_at(&mut connection, 1);
        let file = View::of(&mut connection).unwrap().unwrap();
        graph_at(&mut connection, 4);
        for version in [1, 4] {
            change(&mut connection, version);
        }
        let now = View::of(&mut connection).unwrap().unwrap();
        let missing = next_change_missing(&mut connection, &file, &now).unwrap();
        assert!(missing.unwrap().contains("change 2 is nowhere"));
        change(&mut connection, 2);
        assert_eq!(next_change_missing(&mut connection, &file, &now).unwrap(), None);
    }
}
