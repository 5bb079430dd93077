//! A commit that is one statement: a call of the function that the schema has for it. Only Postgres
//! has functions; in SQLite, which is in this process, statements need no round trips.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text};

use super::AnyConnection;
use super::functions::FUNCTION;
use super::idempotency::AnswerRow;
use super::rows::{RowsWrite, list_of_ids};
use super::statement::{PostgresValue, TypedSql};
use crate::db::causes::ANOTHER_ANSWERED;
use crate::db::schema::{ChangeRow, GraphRow};

/// What one call commits. The migration that creates the function says what it does.
pub struct CommitCall<'c> {
    /// The graph's row id.
    pub graph_id: i64,
    /// The graph's UUID.
    pub read_uuid: &'c str,
    /// How the graph is kept.
    pub read_storage: &'c str,
    /// The version that the batch was decided on.
    pub read_version: i64,
    /// The chain at that version.
    pub read_chain: &'c [u8],
    /// The fencing token; `None` if no lock was taken.
    pub token: Option<i64>,
    /// The token of the graph's leader; `None` if somebody else writes.
    pub leader: Option<i64>,
    /// Names the attempt.
    pub attempt: &'c str,
    /// Rows of the change log, from `read_version + 1` on, all with this attempt and one token.
    pub log: &'c [ChangeRow<'c>],
    /// What is written beside the log.
    pub rows: &'c [RowsWrite<'c>],
    /// Idempotency keys of the batch: if anything is kept under one of them, nothing is written.
    pub keys: &'c [&'c str],
    /// Answers to keep, each `[key, fingerprint, answer]`, with a key that is in `keys`.
    pub answers: &'c [[&'c str; 3]],
    /// How old an answer may be to be given again, in milliseconds.
    pub key_age_max_ms: i64,
}

/// What came of a call.
pub enum CallOutcome {
    /// All was written, now or by an earlier call of the same attempt.
    Written,
    /// An earlier call of the same attempt may have been written: the log in which that would be
    /// found was pruned.
    Pruned,
    /// Nothing was: the graph is not as it was read.
    Refused(Box<CallRefused>),
    /// Nothing was: these are kept under keys of the batch.
    KeysTaken(Vec<AnswerRow>),
    /// Another function was called: it is not known what it did. For people, what to do.
    Strange(String),
}

/// Why a call was refused.
pub struct CallRefused {
    /// The graph's row as it is; `None` if it is not there.
    pub graph: Option<GraphRow>,
    /// Changes and chains, from the version after the one that was read. Not all if they are many.
    pub since: Vec<(String, Vec<u8>)>,
}

const CALL: &str = "SELECT outcome, head_id, head_name, head_state, head_moved_to, head_version, \
     head_fence, head_epoch, head_lock_incarnation, head_chain, head_uuid, head_oldest, \
     head_storage, head_leader_token, since_changes, since_chains, taken_keys, taken_fingerprints, \
     taken_answers FROM fencepost_commit_4(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
     ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

type Columns = (
    Text,
    Nullable<(
        BigInt,
        Text,
        Text,
        Nullable<Text>,
        BigInt,
        BigInt,
        BigInt,
        Text,
        Binary,
        Text,
        BigInt,
        Text,
        BigInt,
    )>,
    Nullable<Array<Text>>,
    Nullable<Array<Binary>>,
    Nullable<Array<Text>>,
    Nullable<Array<Text>>,
    Nullable<Array<Text>>,
);

type Row = (
    String,
    Option<GraphRow>,
    Option<Vec<String>>,
    Option<Vec<Vec<u8>>>,
    Option<Vec<String>>,
    Option<Vec<String>>,
    Option<Vec<String>>,
);

impl AnyConnection {
    /// Commits in one round trip, if it is `own_backend` that runs it. `sent_before` if the same
    /// call was sent already and its answer was lost.
    ///
    /// # Errors
    /// What the database reports. Nothing was written, unless the connection was lost.
    ///
    /// # Panics
    /// In SQLite.
    pub fn commit_in_one_call(
        &mut self,
        call: &CommitCall<'_>,
        own_backend: Option<i32>,
        sent_before: bool,
    ) -> QueryResult<CallOutcome> {
        let Self::Postgres(connection) = self else { panic!("SQLite has no functions to call") };
        let values = values_of(call, own_backend, sent_before);
        let row = TypedSql::<Columns, _>::new(CALL, &values).get_result::<Row>(connection)?;
        let (outcome, graph, changes, chains, keys, fingerprints, answers) = row;
        match (outcome.as_str(), graph) {
            ("written", _) => Ok(CallOutcome::Written),
            ("pruned", _) => Ok(CallOutcome::Pruned),
            ("refused", graph) => {
                let changes = changes.unwrap_or_default().into_iter();
                let since = changes.zip(chains.unwrap_or_default()).collect();
                Ok(CallOutcome::Refused(Box::new(CallRefused { graph, since })))
            }
            ("keys taken", _) => {
                let texts = |texts: Option<Vec<String>>| texts.unwrap_or_default().into_iter();
                let kept = texts(keys).zip(texts(fingerprints)).zip(texts(answers));
                let answer = |((key, fingerprint), answer)| AnswerRow { key, fingerprint, answer };
                Ok(CallOutcome::KeysTaken(kept.map(answer).collect()))
            }
            ("another session", _) => Err(Error::DatabaseError(
                DatabaseErrorKind::Unknown,
                Box::new(ANOTHER_ANSWERED.to_owned()),
            )),
            (outcome, _) => Ok(CallOutcome::Strange(format!(
                "the function {FUNCTION} of the database is not this program's: it answered \
                 `{outcome}`; `fencepost migrate` makes it again"
            ))),
        }
    }
}

/// In the order of the function's parameters.
fn values_of<'c>(
    call: &CommitCall<'c>,
    own_backend: Option<i32>,
    sent_before: bool,
) -> Vec<PostgresValue<'c>> {
    use PostgresValue as V;
    let rows = Columnwise::of(call.rows);
    let next = call.log.last();
    let log_token = next.map_or(0, |row| row.token);
    let of_answers = |column: usize| V::Texts(call.answers.iter().map(|row| row[column]).collect());
    vec![
        V::OptionalShort(own_backend),
        V::Integer(call.graph_id),
        V::Text(call.read_uuid),
        V::Text(call.read_storage),
        V::Integer(call.read_version),
        V::Bytes(call.read_chain),
        V::OptionalInteger(call.token),
        V::OptionalInteger(call.leader),
        V::Text(call.attempt),
        V::Bool(sent_before),
        V::Integer(next.map_or(call.read_version, |row| row.version)),
        V::Bytes(next.map_or(call.read_chain, |row| row.chain)),
        V::Integer(log_token),
        V::Texts(call.log.iter().map(|row| row.change).collect()),
        V::BytesEach(call.log.iter().map(|row| row.chain).collect()),
        V::OptionalTexts(call.log.iter().map(|row| row.actor).collect()),
        V::OptionalTexts(requests_of(call.log)),
        V::Integers(rows.gone_jobs),
        V::Integers(rows.gone_datasets),
        V::Integers(rows.changed_datasets.ids),
        V::OptionalTexts(rows.changed_datasets.metadata),
        V::OptionalIntegers(rows.changed_datasets.producers),
        V::Integers(rows.changed_jobs.ids),
        V::OptionalTexts(rows.changed_jobs.specs),
        V::Integers(rows.changed_jobs.versions),
        V::OptionalLists(rows.changed_jobs.inputs),
        V::Integers(rows.new_datasets.ids),
        V::Texts(rows.new_datasets.names),
        V::OptionalTexts(rows.new_datasets.metadata),
        V::OptionalIntegers(rows.new_datasets.producers),
        V::Integers(rows.new_jobs.ids),
        V::Texts(rows.new_jobs.names),
        V::OptionalTexts(rows.new_jobs.specs),
        V::Integers(rows.new_jobs.versions),
        V::OptionalLists(rows.new_jobs.inputs),
        V::Texts(call.keys.to_vec()),
        of_answers(0),
        of_answers(1),
        of_answers(2),
        V::Integer(call.key_age_max_ms),
    ]
}

/// Which request made each change; empty if that is noted of none.
fn requests_of<'c>(log: &[ChangeRow<'c>]) -> Vec<Option<&'c str>> {
    let requests = log.iter().map(|row| row.request);
    if requests.clone().all(|request| request.is_none()) { Vec::new() } else { requests.collect() }
}

/// Rows by columns, as the function takes them.
#[derive(Default)]
struct Columnwise<'c> {
    gone_jobs: Vec<i64>,
    gone_datasets: Vec<i64>,
    changed_datasets: DatasetColumns<'c>,
    changed_jobs: JobColumns<'c>,
    new_datasets: DatasetColumns<'c>,
    new_jobs: JobColumns<'c>,
}

#[derive(Default)]
struct DatasetColumns<'c> {
    ids: Vec<i64>,
    /// Of new ones.
    names: Vec<&'c str>,
    metadata: Vec<Option<&'c str>>,
    producers: Vec<Option<i64>>,
}

#[derive(Default)]
struct JobColumns<'c> {
    ids: Vec<i64>,
    /// Of new ones.
    names: Vec<&'c str>,
    specs: Vec<Option<&'c str>>,
    versions: Vec<i64>,
    inputs: Vec<Option<String>>,
}

impl<'c> DatasetColumns<'c> {
    fn push(&mut self, id: u32, metadata: Option<&'c str>, producer: Option<u32>) {
        self.ids.push(id.into());
        self.metadata.push(metadata);
        self.producers.push(producer.map(i64::from));
    }
}

impl<'c> JobColumns<'c> {
    fn push(&mut self, id: u32, spec: Option<&'c str>, version: u64, inputs: Option<&[u32]>) {
        self.ids.push(id.into());
        self.specs.push(spec);
        self.versions.push(version as i64);
        self.inputs.push(inputs.map(|ids| list_of_ids(ids, '{', '}')));
    }
}

impl<'c> Columnwise<'c> {
    fn of(writes: &[RowsWrite<'c>]) -> Self {
        let mut columns = Self::default();
        for write in writes {
            match write {
                RowsWrite::DeleteJobs(ids) => {
                    columns.gone_jobs.extend(ids.iter().copied().map(i64::from));
                }
                RowsWrite::DeleteDatasets(ids) => {
                    columns.gone_datasets.extend(ids.iter().copied().map(i64::from));
                }
                RowsWrite::UpdateDatasets(rows) => {
                    for row in rows {
                        columns.changed_datasets.push(row.id, row.metadata, row.producer);
                    }
                }
                RowsWrite::UpdateJobs(rows) => {
                    for row in rows {
                        let inputs = row.inputs.as_deref();
                        columns.changed_jobs.push(row.id, row.spec, row.version, inputs);
                    }
                }
                RowsWrite::InsertDatasets(rows) => {
                    for row in rows {
                        columns.new_datasets.names.push(row.name);
                        columns.new_datasets.push(row.id, row.metadata, row.producer);
                    }
                }
                RowsWrite::InsertJobs(rows) => {
                    for row in rows {
                        columns.new_jobs.names.push(row.name);
                        let (spec, inputs) = (Some(row.spec), Some(&*row.inputs));
                        columns.new_jobs.push(row.id, spec, row.version, inputs);
                    }
                }
            }
        }
        columns
    }
}
