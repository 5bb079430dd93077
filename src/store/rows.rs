//! State as rows: jobs, datasets and adjacency lists as they are now, and the change log, all
//! changed in one transaction whose first statement is the conditional update of the graph's row.

use diesel::prelude::*;
use uuid::Uuid;

use super::answers::{find_answers, keep_answers, read_answers};
use super::catch_up::{CaughtUp, catch_up};
use super::delta::{Edge, RowDelta};
use super::{
    Acknowledgement, CatchUp, Chain, Commit, CommitError, Consumer, Creation, Entry, ExportReport,
    Feed, GraphState, GraphStore, Head, ImageKey, Keep, LockRecord, Purged, Refresh, StoreError,
    StoredAnswer,
};
use crate::db::schema::{
    ChangeRow, changes, datasets, graphs, job_inputs, job_outputs, jobs, service,
};
use crate::db::{
    AnyConnection, Database, DbError, RowsStatement, RowsWrite, Size, Told, Value, WriteError,
    telling,
};
use crate::failpoint;
use crate::graph::{
    CanonicalJson, DamagedRows, Dataset, GraphBuilder, Name, Precondition, Touched,
};

/// The rows of one database.
pub struct RowStore {
    pub(super) database: Database,
    database_id: String,
}

impl RowStore {
    /// Takes a database whose schema is up to date.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn new(database: Database) -> Result<Self, StoreError> {
        let database_id = database
            .ask(|connection| service::table.select(service::database_id).first(connection))?;
        Ok(Self { database, database_id })
    }

    /// Where the rows are.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }
}

/// As [`Head`], in the database's types.
#[derive(Queryable, Selectable)]
#[diesel(table_name = graphs)]
pub(super) struct HeadRow {
    id: i64,
    name: String,
    state: String,
    moved_to: Option<String>,
    version: i64,
    fence: i64,
    epoch: i64,
    lock_incarnation: String,
    chain: Vec<u8>,
    uuid: String,
    oldest: i64,
}

impl HeadRow {
    pub(super) fn into_head(self) -> Result<Head, StoreError> {
        let damaged = |what: &str| StoreError::DamagedValue(format!("{what} of graph {}", self.id));
        Ok(Head {
            id: self.id,
            name: Name::new(&self.name)
                .map_err(|error| StoreError::DamagedValue(error.to_string()))?,
            state: GraphState::from_column(&self.state).ok_or_else(|| damaged("state"))?,
            version: u64::try_from(self.version).map_err(|_| damaged("version"))?,
            epoch: u32::try_from(self.epoch).map_err(|_| damaged("epoch"))?,
            chain: Chain(self.chain.as_slice().try_into().map_err(|_| damaged("chain"))?),
            uuid: Uuid::parse_str(&self.uuid).map_err(|_| damaged("uuid"))?,
            oldest: u64::try_from(self.oldest).map_err(|_| damaged("oldest"))?,
            moved_to: self.moved_to,
            fence: self.fence,
            lock_incarnation: self.lock_incarnation,
        })
    }
}

impl GraphState {
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Deleted => "deleted",
            Self::Frozen => "frozen",
        }
    }

    fn from_column(text: &str) -> Option<Self> {
        [Self::Open, Self::Deleted, Self::Frozen].into_iter().find(|state| state.column() == text)
    }
}

pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).expect("versions fit 63 bits")
}

/// The graph's row, if there is one, and beside it what the server tells of itself.
pub(super) fn read_head_row(
    connection: &mut AnyConnection,
    name: &Name,
) -> QueryResult<(Option<Told>, Option<HeadRow>)> {
    let found: Option<(Told, HeadRow)> = graphs::table
        .filter(graphs::name.eq(name.as_str()))
        .select((telling(), HeadRow::as_select()))
        .first(connection)
        .optional()?;
    Ok(found.unzip())
}

/// Rows that each come with what the server told, which is the same in all of one statement.
pub(super) fn told_once<T>(rows: Vec<(Told, T)>) -> (Option<Told>, Vec<T>) {
    let told = rows.first().map(|(told, _)| told.clone());
    (told, rows.into_iter().map(|(_, row)| row).collect())
}

/// The graph's row, in a transaction that is to write.
pub(super) fn read_head(
    connection: &mut AnyConnection,
    name: &Name,
) -> Result<Option<Head>, StoreError> {
    let (told, row) = read_head_row(connection, name)?;
    told.map_or_else(|| connection.tell(), Ok)?.check_writable()?;
    row.map(HeadRow::into_head).transpose()
}

/// Makes the graph's row, open and empty, unless there is one of that name; whether it did. On
/// Postgres another process may be doing the same: then this waits for what becomes of that.
pub(super) fn insert_graph(connection: &mut AnyConnection, name: &Name) -> QueryResult<bool> {
    let inserted = connection.run(
        "INSERT INTO graphs (name, state, version, fence, epoch, lock_incarnation, chain, uuid) \
         VALUES (?, ?, 0, 0, 0, '', ?, ?) ON CONFLICT (name) DO NOTHING",
        &[
            Value::Text(name.as_str()),
            Value::Text(GraphState::Open.column()),
            Value::Bytes(&Chain::START.0),
            Value::Text(&Uuid::new_v4().to_string()),
        ],
    )?;
    Ok(inserted == 1)
}

fn read_head_by_id(connection: &mut AnyConnection, id: i64) -> Result<Head, StoreError> {
    graphs::table.find(id).select(HeadRow::as_select()).first(connection)?.into_head()
}

impl GraphStore for RowStore {
    fn database_id(&self) -> &str {
        &self.database_id
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.database.ready(|connection| {
            let row = service::table.select((telling(), service::id));
            let (told, _) = row.first::<(Told, i64)>(connection)?;
            Ok((Some(told), ()))
        })?;
        Ok(())
    }

    fn lock_record(&self) -> Result<Option<LockRecord>, StoreError> {
        Ok(self.database.ask(read_lock_record)?)
    }

    fn set_lock_record(
        &self,
        expected: Option<&LockRecord>,
        new: &LockRecord,
    ) -> Result<LockRecord, StoreError> {
        let written = self.database.write(|connection| {
            if replace_lock_record(connection, expected, new)? {
                return Ok(new.clone());
            }
            // Another process wrote it since it was read.
            read_lock_record(connection)?
                .ok_or_else(|| StoreError::DamagedValue("the record of the lock".to_owned()))
        });
        written.map_err(known)
    }

    fn graphs(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, StoreError> {
        let rows: Vec<HeadRow> = self.database.learn(|connection| {
            let from = after.map_or(prefix, |after| after.max(prefix));
            let query = graphs::table
                // A literal: only then is it seen that the index of open graphs will do.
                .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("graphs.state <> 'deleted'"))
                .filter(graphs::name.ge(from))
                .order(graphs::name)
                // The last name of the page before may come again.
                .limit(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
                .select((telling(), HeadRow::as_select()));
            Ok(told_once(query.load(connection)?))
        })?;
        let heads = rows.into_iter().map(HeadRow::into_head);
        let wanted = heads
            .filter(|head| head.as_ref().map_or(true, |head| after != Some(head.name.as_str())));
        wanted
            .take(limit)
            .take_while(|head| {
                head.as_ref().map_or(true, |head| head.name.as_str().starts_with(prefix))
            })
            .collect()
    }

    fn create_graph(
        &self,
        name: &Name,
        precondition: Option<Precondition>,
        keep: Option<Keep<'_>>,
    ) -> Result<Creation, CommitError> {
        let written = self.database.write(|connection| {
            // Again if another process makes the same graph at the same time.
            loop {
                connection.hold_graph(name.as_str())?;
                let found = read_head(connection, name)?;
                if let (Some(head), Some((key, _))) = (&found, keep)
                    && let Some(stored) = read_answers(connection, head.id, &[key])?.pop()
                {
                    return Ok(Creation::Answered(stored));
                }
                let there = found.as_ref().filter(|head| head.state != GraphState::Deleted);
                let actual = there.map(|head| head.version);
                if let Some(expected) = &precondition
                    && !expected.holds(actual)
                {
                    let version = found.as_ref().map_or(0, |head| head.version);
                    let expected = expected.clone();
                    return Ok(Creation::NotAsExpected { expected, actual, version });
                }
                let created = match &found {
                    Some(head) if head.state != GraphState::Deleted => false,
                    Some(head) => {
                        diesel::update(graphs::table.find(head.id))
                            .set(graphs::state.eq(GraphState::Open.column()))
                            .execute(connection)?;
                        true
                    }
                    None if insert_graph(connection, name)? => true,
                    None => continue,
                };
                let head = read_head(connection, name)?.ok_or_else(|| {
                    StoreError::DamagedValue(format!("graph `{name}` vanished as it was created"))
                })?;
                let answer = keep.map(|(_, answer)| answer(&head, created));
                keep_answers(connection, head.id, answer.as_slice())?;
                return Ok::<_, CommitError>(Creation::There { head, created });
            }
        });
        written.map_err(|error| match error {
            WriteError::RolledBack(error) => error,
            WriteError::CommitUnknown(error) => CommitError::Unknown {
                attempt: "of creating the graph".to_owned(),
                reason: error.to_string(),
            },
        })
    }

    fn head(&self, name: &Name) -> Result<Option<Head>, StoreError> {
        let row = self.database.learn(|connection| read_head_row(connection, name))?;
        row.map(HeadRow::into_head).transpose()
    }

    fn refresh(
        &self,
        name: &Name,
        known: Option<ImageKey>,
        by: CatchUp,
    ) -> Result<Option<(Head, Refresh)>, StoreError> {
        match (known, by) {
            (None, _) => {}
            (Some(known), CatchUp::Reload) => {
                let Some(head) = self.head(name)? else { return Ok(None) };
                if known == head.key() {
                    return Ok(Some((head, Refresh::Current)));
                }
            }
            (Some(known), CatchUp::Changes) => match catch_up(&self.database, name, known)? {
                None => return Ok(None),
                Some((head, CaughtUp::Changes(changes))) if changes.is_empty() => {
                    return Ok(Some((head, Refresh::Current)));
                }
                Some((head, CaughtUp::Changes(changes))) => {
                    return Ok(Some((head, Refresh::Changes(changes))));
                }
                Some((_, CaughtUp::Whole(why))) => log::info!("graph `{name}` is read anew: {why}"),
            },
        }
        let head = |connection: &mut AnyConnection| read_head_row(connection, name);
        let read = self.database.learn_and_read(head, |connection, row| {
            let Some(row) = row else { return Ok::<_, StoreError>(None) };
            let head = row.into_head()?;
            let rows = read_rows(connection, &head)?;
            Ok(Some((head, rows)))
        })?;
        // When the transaction is over: others may need the connection.
        let Some((head, rows)) = read else { return Ok(None) };
        let graph = rows.finish(head.version).map_err(|reason| damaged(&head, reason))?;
        Ok(Some((head, Refresh::Whole(Box::new(graph)))))
    }

    fn raise_epoch(
        &self,
        read: &Head,
        epoch: u32,
        fence: i64,
        incarnation: &str,
    ) -> Result<Head, CommitError> {
        let written = self.database.write(|connection| {
            let changed = diesel::update(
                graphs::table.find(read.id).filter(graphs::epoch.eq(i64::from(read.epoch))),
            )
            .set((
                graphs::epoch.eq(i64::from(epoch)),
                graphs::fence.eq(fence),
                graphs::lock_incarnation.eq(incarnation),
            ))
            .execute(connection)?;
            let now = read_head_by_id(connection, read.id)?;
            if changed == 1 {
                return Ok(now);
            }
            Err(CommitError::Conflict {
                expected: u64::from(read.epoch),
                actual: u64::from(now.epoch),
            })
        });
        written.map_err(|error| match error {
            WriteError::RolledBack(error) => error,
            // Whether or not it was written: the epoch is used for nothing, and the next turn
            // raises it again.
            WriteError::CommitUnknown(error) => CommitError::from(error),
        })
    }

    fn seal(&self, read: &Head, token: i64) -> Result<(), CommitError> {
        let sealed = self.database.write(|connection| {
            let row = graphs::table.find(read.id).filter(graphs::epoch.eq(i64::from(read.epoch)));
            let changed =
                diesel::update(row.filter(graphs::fence.le(token))).set(graphs::fence.eq(token));
            if changed.execute(connection)? == 1 {
                return Ok(());
            }
            Err(CommitError::Fenced { token, fence: read_head_by_id(connection, read.id)?.fence })
        });
        sealed.map_err(|error| match error {
            WriteError::RolledBack(error) => error,
            // Whether or not it was written: it is no more than the next turn's seal will be.
            WriteError::CommitUnknown(error) => CommitError::from(error),
        })
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<Chain, CommitError> {
        // All is written out before the transaction begins, to hold the row no longer than need be.
        let log = log_rows(commit);
        let rows = row_writes(commit);
        let large = commit.deletes_graph
            || rows.iter().any(|write| write.size() == Size::Large)
            || log.iter().map(|row| row.change.len()).sum::<usize>() > LARGE_CHANGES;
        let size = if large { Size::Large } else { Size::Usual };
        let write = |connection: &mut AnyConnection| write(connection, commit, &log, &rows);
        match self.database.write_sized(size, write) {
            Ok(()) => {}
            Err(WriteError::RolledBack(error)) => return Err(error),
            Err(WriteError::CommitUnknown(error)) => self.resolve(commit, error)?,
        }
        Ok(log.last().map_or(commit.read.chain, |row| row.chain))
    }

    fn stored_answers(
        &self,
        graph_id: i64,
        keys: &[&str],
    ) -> Result<Vec<StoredAnswer>, StoreError> {
        Ok(self.database.learn(|connection| find_answers(connection, graph_id, keys))?)
    }

    fn purge_answers(&self, after: i64, most: usize) -> Result<Option<Purged>, CommitError> {
        self.delete_old_answers(after, most)
    }

    fn feed(&self, name: &Name, after: u64, most: usize) -> Result<Option<Feed>, StoreError> {
        self.read_feed(name, after, most)
    }

    fn committed_at(&self, graph_id: i64, version: u64) -> Result<Option<i64>, StoreError> {
        self.read_committed_at(graph_id, version)
    }

    fn consumers(&self, name: &Name) -> Result<Option<(Head, Vec<Consumer>)>, StoreError> {
        self.read_consumers(name)
    }

    fn acknowledge(
        &self,
        name: &Name,
        consumer: &Name,
        version: u64,
    ) -> Result<Acknowledgement, CommitError> {
        self.write_acknowledgement(name, consumer, version)
    }

    fn report_export(
        &self,
        name: &Name,
        report: &ExportReport<'_>,
    ) -> Result<Acknowledgement, CommitError> {
        self.write_export_report(name, report)
    }

    fn rename_consumer(&self, name: &Name, from: &Name, to: &Name) -> Result<bool, CommitError> {
        self.move_consumer(name, from, to)
    }

    fn forget_consumer(&self, name: &Name, consumer: &Name) -> Result<Option<bool>, CommitError> {
        self.delete_consumer(name, consumer)
    }

    fn changes(
        &self,
        graph_id: i64,
        after: u64,
        each: &mut dyn FnMut(u64, &str, Chain) -> bool,
    ) -> Result<(), StoreError> {
        self.database.read(|connection| {
            let rows = changes::table
                .filter(changes::graph_id.eq(graph_id))
                .filter(changes::version.gt(column(after)))
                .order(changes::version)
                .select((changes::version, changes::change, changes::chain))
                .load_iter::<(i64, String, Vec<u8>), _>(connection)?;
            for row in rows {
                let (version, change, chain) = row?;
                let chain = chain.as_slice().try_into();
                let chain = chain
                    .map_err(|_| StoreError::DamagedValue(format!("chain of version {version}")))?;
                if !each(version as u64, &change, Chain(chain)) {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl RowStore {
    /// Looks for the attempt's row, since the answer to its COMMIT was lost.
    fn resolve(&self, commit: &Commit<'_>, lost: DbError) -> Result<(), CommitError> {
        let unknown =
            |reason: String| CommitError::Unknown { attempt: commit.attempt.to_owned(), reason };
        if commit.entries.is_empty() {
            return match self.finds_answers_of(commit) {
                Ok(true) => Ok(()),
                Ok(false) => Err(CommitError::Unavailable(lost.into())),
                Err(error) => Err(unknown(format!("{lost}; then {error}"))),
            };
        }
        // The server may still be at it: whoever has the row then is waited for.
        let found = self.database.read_held(commit.read.name.as_str(), |connection| {
            let attempts = changes::table
                .filter(changes::graph_id.eq(commit.read.id))
                .filter(changes::version.gt(column(commit.read.version)))
                .filter(changes::attempt.eq(commit.attempt));
            let found: Option<i64> =
                attempts.select(changes::version).first(connection).optional()?;
            Ok::<_, StoreError>((found, read_head_by_id(connection, commit.read.id)?.oldest))
        });
        match found {
            Ok((Some(_), _)) => Ok(()),
            // Where it would be found, there is nothing any more.
            Ok((None, oldest))
                if oldest > commit.read.version + 1 && !failpoint::is_off("pruned-attempt") =>
            {
                Err(unknown(format!(
                    "{lost}; the change log was pruned since, up to version {oldest}"
                )))
            }
            Ok((None, _)) => Err(CommitError::Unavailable(lost.into())),
            Err(error) => Err(unknown(format!("{lost}; then {error}"))),
        }
    }

    /// Whether the answers of a write that changed nothing else are kept. One transaction kept all
    /// of them or none. Where another node kept the same answer to the same request, that is what
    /// is answered to it, whichever of the two was first.
    fn finds_answers_of(&self, commit: &Commit<'_>) -> Result<bool, StoreError> {
        let keys: Vec<&str> = commit.answers.iter().map(|answer| answer.key.as_str()).collect();
        // The server may still be at it: whoever has the row then is waited for.
        let kept = self.database.read_held(commit.read.name.as_str(), |connection| {
            Ok::<_, StoreError>(read_answers(connection, commit.read.id, &keys)?)
        })?;
        Ok(commit.answers.iter().all(|answer| kept.contains(answer)))
    }
}

/// Bytes of changes beyond which a commit is as much as a whole graph.
const LARGE_CHANGES: usize = 4 << 20;

/// For writes that may safely be taken to have failed.
fn known(error: WriteError<StoreError>) -> StoreError {
    match error {
        WriteError::RolledBack(error) => error,
        WriteError::CommitUnknown(error) => error.into(),
    }
}

fn read_lock_record(connection: &mut AnyConnection) -> QueryResult<Option<LockRecord>> {
    let (kind, identity): (Option<String>, Option<String>) =
        service::table.select((service::lock_kind, service::lock_identity)).first(connection)?;
    Ok(kind.zip(identity).map(|(kind, identity)| LockRecord { kind, identity }))
}

/// Writes the record of the lock if it still is `expected`; whether it did. One statement compares
/// and sets: on Postgres, of two processes that name a lock at the same time the second waits for
/// the first here, and then finds what that one wrote.
fn replace_lock_record(
    connection: &mut AnyConnection,
    expected: Option<&LockRecord>,
    new: &LockRecord,
) -> QueryResult<bool> {
    let (kind, identity) = (Value::Text(&new.kind), Value::Text(&new.identity));
    let replaced = match expected {
        None => connection.run(
            "UPDATE service SET lock_kind = ?, lock_identity = ? \
             WHERE lock_kind IS NULL OR lock_identity IS NULL",
            &[kind, identity],
        ),
        Some(expected) => connection.run(
            "UPDATE service SET lock_kind = ?, lock_identity = ? \
             WHERE lock_kind = ? AND lock_identity = ?",
            &[kind, identity, Value::Text(&expected.kind), Value::Text(&expected.identity)],
        ),
    }?;
    Ok(replaced == 1)
}

fn damaged(head: &Head, reason: DamagedRows) -> StoreError {
    StoreError::DamagedRows { graph: head.name.clone(), reason }
}

/// All rows of a graph, in the order of their primary keys; of a deleted one there are none.
fn read_rows(connection: &mut AnyConnection, head: &Head) -> Result<GraphBuilder, StoreError> {
    let damaged = |reason| damaged(head, reason);
    let mut builder = GraphBuilder::default();
    let rows = datasets::table
        .filter(datasets::graph_id.eq(head.id))
        .order(datasets::id)
        .select((datasets::id, datasets::name, datasets::metadata))
        .load_iter::<(i64, String, Option<String>), _>(connection)?;
    for row in rows {
        let (id, name, metadata) = row?;
        builder.dataset(id, &name, metadata.as_deref()).map_err(damaged)?;
    }
    builder.no_more_datasets();
    failpoint::pass("while-loading");
    let rows = jobs::table
        .filter(jobs::graph_id.eq(head.id))
        .order(jobs::id)
        .select((jobs::id, jobs::name, jobs::spec, jobs::version))
        .load_iter::<(i64, String, String, i64), _>(connection)?;
    for row in rows {
        let (id, name, spec, version) = row?;
        builder.job(id, &name, &spec, version as u64).map_err(damaged)?;
    }
    builder.no_more_jobs();
    let rows = job_inputs::table
        .filter(job_inputs::graph_id.eq(head.id))
        .order((job_inputs::job_id, job_inputs::dataset_id))
        .select((job_inputs::job_id, job_inputs::dataset_id))
        .load_iter::<(i64, i64), _>(connection)?;
    for row in rows {
        let (job, dataset) = row?;
        builder.input(job, dataset).map_err(damaged)?;
    }
    let rows = job_outputs::table
        .filter(job_outputs::graph_id.eq(head.id))
        .order(job_outputs::dataset_id)
        .select((job_outputs::job_id, job_outputs::dataset_id))
        .load_iter::<(i64, i64), _>(connection)?;
    for row in rows {
        let (job, dataset) = row?;
        builder.output(job, dataset).map_err(damaged)?;
    }
    Ok(builder)
}

/// A change as the log tells it.
struct LogRow {
    change: String,
    chain: Chain,
}

fn log_rows(commit: &Commit<'_>) -> Vec<LogRow> {
    let mut chain = commit.read.chain;
    let row = |entry: &Entry<'_>| {
        let change = entry.change.canonical_json(entry.version);
        chain = chain.next(&change);
        LogRow { change, chain }
    };
    commit.entries.iter().map(row).collect()
}

fn write(
    connection: &mut AnyConnection,
    commit: &Commit<'_>,
    log: &[LogRow],
    rows: &[RowsWrite],
) -> Result<(), CommitError> {
    let graph_id = commit.read.id;
    failpoint::pass("before-conditional-update");
    conditional_update(connection, commit, log.last().map_or(commit.read.chain, |row| row.chain))?;
    failpoint::pass("after-conditional-update");

    if commit.deletes_graph {
        delete_all(connection, graph_id)?;
    }
    for write in rows {
        connection.write_rows(graph_id, write)?;
    }
    let rows = commit.entries.iter().zip(log).map(|(entry, row)| ChangeRow {
        graph_id,
        version: column(entry.version),
        change: &row.change,
        chain: &row.chain.0,
        attempt: commit.attempt,
        token: commit.token,
        committed_at_ms: None,
        actor: entry.actor,
    });
    connection.insert_changes(&rows.collect::<Vec<_>>())?;
    keep_answers(connection, graph_id, commit.answers)
}

/// The first statement of the transaction: it holds the row, or the write does not happen. The
/// version comparison keeps the rules; the fence makes a stale holder known as such.
fn conditional_update(
    connection: &mut AnyConnection,
    commit: &Commit<'_>,
    chain: Chain,
) -> Result<(), CommitError> {
    let read = commit.read;
    let version = read.version + commit.entries.len() as u64;
    let state = if commit.deletes_graph { GraphState::Deleted } else { GraphState::Open };
    // Each comparison can be switched off, only in builds for tests, to show that its test then
    // fails.
    let off = |comparison| Value::Integer(i64::from(failpoint::is_off(comparison)));
    let changed = connection.run(
        "UPDATE graphs SET version = ?, fence = ?, chain = ?, state = ? \
         WHERE id = ? AND state = 'open' AND (version = ? OR ? = 1) AND (fence <= ? OR ? = 1)",
        &[
            Value::Integer(column(version)),
            Value::Integer(commit.token),
            Value::Bytes(&chain.0),
            Value::Text(state.column()),
            Value::Integer(read.id),
            Value::Integer(column(read.version)),
            off("version-comparison"),
            Value::Integer(commit.token),
            off("fence-comparison"),
        ],
    )?;
    if changed == 1 {
        return Ok(());
    }
    let now = read_head_by_id(connection, read.id)?;
    Err(match now.state {
        GraphState::Frozen => CommitError::Frozen { moved_to: now.moved_to },
        GraphState::Deleted => CommitError::Deleted,
        GraphState::Open if now.fence > commit.token => {
            CommitError::Fenced { token: commit.token, fence: now.fence }
        }
        GraphState::Open => CommitError::Conflict { expected: read.version, actual: now.version },
    })
}

/// The rows of all entries together. What goes, goes first: ids, names and the place of a producer
/// are used again within one turn.
fn row_writes(commit: &Commit<'_>) -> Vec<RowsWrite> {
    if commit.deletes_graph {
        return Vec::new();
    }
    let touched: Vec<&Touched> = commit.entries.iter().map(|entry| entry.touched).collect();
    let delta = RowDelta::between(commit.before, commit.after, &touched);
    let edges = |statement: RowsStatement, mut edges: Vec<Edge>| {
        // In the order of datasets, which are all over the table; the jobs of one turn are close to
        // each other.
        edges.sort_unstable_by_key(|&(job, dataset)| (dataset, job));
        statement
            .over(edges.into_iter().map(|(job, dataset)| u64::from(job) << 32 | u64::from(dataset)))
    };
    fn metadata<'g>(dataset: &Dataset<'g>) -> Option<&'g str> {
        dataset.metadata().map(CanonicalJson::as_str)
    }
    let datasets_changed =
        delta.datasets_changed.iter().map(|dataset| (dataset.id(), metadata(dataset)));
    let jobs_changed = delta
        .jobs_changed
        .iter()
        .map(|(job, spec)| (job.id(), spec.map(CanonicalJson::as_str), job.version()));
    let datasets_new = delta
        .datasets_new
        .iter()
        .map(|dataset| (dataset.id(), dataset.name().as_str(), metadata(dataset)));
    let jobs_new = delta
        .jobs_new
        .iter()
        .map(|job| (job.id(), job.name().as_str(), job.spec().as_str(), job.version()));
    let writes = [
        edges(RowsStatement::DELETE_INPUTS, delta.inputs_gone),
        edges(RowsStatement::DELETE_OUTPUTS, delta.outputs_gone),
        RowsStatement::DELETE_JOBS.over(delta.jobs_gone.into_iter()),
        RowsStatement::DELETE_DATASETS.over(delta.datasets_gone.into_iter()),
        RowsStatement::UPDATE_DATASETS.over(datasets_changed),
        RowsStatement::UPDATE_JOBS.over(jobs_changed),
        RowsStatement::INSERT_DATASETS.over(datasets_new),
        RowsStatement::INSERT_JOBS.over(jobs_new),
        edges(RowsStatement::INSERT_INPUTS, delta.inputs_new),
        edges(RowsStatement::INSERT_OUTPUTS, delta.outputs_new),
    ];
    writes.into_iter().flatten().collect()
}

fn delete_all(connection: &mut AnyConnection, graph_id: i64) -> Result<(), CommitError> {
    diesel::delete(job_inputs::table.filter(job_inputs::graph_id.eq(graph_id)))
        .execute(connection)?;
    diesel::delete(job_outputs::table.filter(job_outputs::graph_id.eq(graph_id)))
        .execute(connection)?;
    diesel::delete(jobs::table.filter(jobs::graph_id.eq(graph_id))).execute(connection)?;
    diesel::delete(datasets::table.filter(datasets::graph_id.eq(graph_id))).execute(connection)?;
    Ok(())
}
