//! Idempotency keys, the answers stored under them, and their age. Only the database's clock tells
//! how old a key is: when it is written, looked up and deleted. So no node's clock matters.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::AnyConnection;
use super::clock::{postgres_now_ms, sqlite_now_ms};
use super::server_state::{ServerState, server_state_columns};
use super::statement::{PostgresValue, RawSql, Value};

/// An answer, and the key that it is stored under.
#[derive(QueryableByName)]
pub struct AnswerRow {
    /// The client's key.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// SHA-256 of what was asked.
    #[diesel(sql_type = Text)]
    pub fingerprint: String,
    /// What was answered.
    #[diesel(sql_type = Text)]
    pub answer: String,
}

#[derive(QueryableByName)]
struct GraphId {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Values: the graph's id, the keys as a JSON array, the longest age in milliseconds.
const SQLITE_READ: &str = concat!(
    "SELECT key, fingerprint, answer FROM idempotency_keys \
     WHERE graph_id = ? AND key IN (SELECT value FROM json_each(?)) AND created_at_ms >= ",
    sqlite_now_ms!(),
    " - ?"
);
/// As [`SQLITE_READ`], with the keys as an array, and beside each answer what the server tells of
/// itself; that alone where there is no answer.
const POSTGRES_READ: &str = concat!(
    "SELECT key, fingerprint, answer, ",
    server_state_columns!(),
    " FROM (VALUES (1)) AS one LEFT JOIN idempotency_keys \
     ON graph_id = ? AND key = ANY(?::text[]) AND created_at_ms >= ",
    postgres_now_ms!(),
    " - ?"
);

#[derive(QueryableByName)]
struct FoundAnswer {
    #[diesel(sql_type = Nullable<Text>)]
    key: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    fingerprint: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    answer: Option<String>,
    #[diesel(embed)]
    told: ServerState,
}

impl FoundAnswer {
    fn row(self) -> Option<AnswerRow> {
        let Self { key, fingerprint, answer, .. } = self;
        Some(AnswerRow { key: key?, fingerprint: fingerprint?, answer: answer? })
    }
}

/// Values: the graph's id, the attempt, `[key, fingerprint, answer]` of each as JSON, the longest
/// age in milliseconds. A key that is there already and is not too old stays as it is.
const SQLITE_KEEP: &str = concat!(
    "INSERT INTO idempotency_keys (graph_id, attempt, key, fingerprint, answer, created_at_ms) \
     SELECT ?, ?, value ->> 0, value ->> 1, value ->> 2, ",
    sqlite_now_ms!(),
    " FROM json_each(?) WHERE true \
     ON CONFLICT (graph_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, \
     answer = excluded.answer, created_at_ms = excluded.created_at_ms, \
     attempt = excluded.attempt \
     WHERE idempotency_keys.created_at_ms < ",
    sqlite_now_ms!(),
    " - ?"
);
const POSTGRES_KEEP: &str = concat!(
    "INSERT INTO idempotency_keys AS kept \
     (graph_id, attempt, key, fingerprint, answer, created_at_ms) \
     SELECT ?, ?, new.value ->> 0, new.value ->> 1, new.value ->> 2, ",
    postgres_now_ms!(),
    " FROM json_array_elements(?::json) AS new (value) \
     ON CONFLICT (graph_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, \
     answer = excluded.answer, created_at_ms = excluded.created_at_ms, \
     attempt = excluded.attempt \
     WHERE kept.created_at_ms < ",
    postgres_now_ms!(),
    " - ?"
);

/// Values: an id, the longest age in milliseconds. The first graph after that id whose oldest key
/// is too old. One look into the index for each graph.
const SQLITE_NEXT: &str = concat!(
    "SELECT id FROM graphs WHERE id > ? \
     AND (SELECT min(created_at_ms) FROM idempotency_keys WHERE graph_id = graphs.id) < ",
    sqlite_now_ms!(),
    " - ? ORDER BY id LIMIT 1"
);
const POSTGRES_NEXT: &str = concat!(
    "SELECT id FROM graphs WHERE id > ? \
     AND (SELECT min(created_at_ms) FROM idempotency_keys WHERE graph_id = graphs.id) < ",
    postgres_now_ms!(),
    " - ? ORDER BY id LIMIT 1"
);

/// Values: the graph's id twice, the longest age in milliseconds, how many.
const SQLITE_DELETE: &str = concat!(
    "DELETE FROM idempotency_keys WHERE graph_id = ? AND key IN (SELECT key FROM idempotency_keys \
     WHERE graph_id = ? AND created_at_ms < ",
    sqlite_now_ms!(),
    " - ? ORDER BY created_at_ms LIMIT ?)"
);
/// A key that somebody else is at, who deletes it too or uses it anew, is left to them: this waits
/// for nobody. `ARRAY` has the keys be chosen once.
const POSTGRES_DELETE: &str = concat!(
    "DELETE FROM idempotency_keys WHERE graph_id = ? AND key = ANY(ARRAY(\
     SELECT key FROM idempotency_keys WHERE graph_id = ? AND created_at_ms < ",
    postgres_now_ms!(),
    " - ? ORDER BY created_at_ms LIMIT ? FOR UPDATE SKIP LOCKED))"
);

impl AnyConnection {
    /// What is stored under `keys` and is no older than `age_max_ms`, and what a server tells of
    /// itself beside it. One round trip.
    ///
    /// # Errors
    /// What the database reports.
    pub fn stored_answers(
        &mut self,
        graph_id: i64,
        keys: &[&str],
        age_max_ms: i64,
    ) -> QueryResult<(Option<ServerState>, Vec<AnswerRow>)> {
        match self {
            Self::Sqlite(connection) => {
                let keys = serde_json::to_string(keys).expect("texts are JSON");
                let values =
                    [Value::Integer(graph_id), Value::Text(&keys), Value::Integer(age_max_ms)];
                Ok((None, RawSql { text: SQLITE_READ, values: &values }.load(connection)?))
            }
            Self::Postgres(connection) => {
                use PostgresValue as V;
                let values =
                    [V::Integer(graph_id), V::Texts(keys.to_vec()), V::Integer(age_max_ms)];
                let statement = RawSql { text: POSTGRES_READ, values: &values };
                let found: Vec<FoundAnswer> = statement.load(connection)?;
                let told = found.first().map(|found| found.told.clone());
                Ok((told, found.into_iter().filter_map(FoundAnswer::row).collect()))
            }
        }
    }

    /// Stores answers for `attempt`, each `[key, fingerprint, answer]` with a key of its own, and
    /// says how many were written. One whose key is in use, by an answer no older than
    /// `age_max_ms`, is not. One round trip.
    ///
    /// # Errors
    /// What the database reports.
    pub fn store_answers(
        &mut self,
        graph_id: i64,
        answers: &[[&str; 3]],
        attempt: Option<&str>,
        age_max_ms: i64,
    ) -> QueryResult<usize> {
        let rows = serde_json::to_string(answers).expect("texts are JSON");
        let values = [
            Value::Integer(graph_id),
            Value::OptionalText(attempt),
            Value::Text(&rows),
            Value::Integer(age_max_ms),
        ];
        self.run_either(SQLITE_KEEP, POSTGRES_KEEP, &values)
    }

    /// The first graph after `graph_id` that has a key older than `age_max_ms`. O(graphs that are
    /// passed over · log keys).
    ///
    /// # Errors
    /// What the database reports.
    pub fn next_graph_with_old_keys(
        &mut self,
        graph_id: i64,
        age_max_ms: i64,
    ) -> QueryResult<Option<i64>> {
        let values = &[Value::Integer(graph_id), Value::Integer(age_max_ms)];
        let found: Option<GraphId> = match self {
            Self::Sqlite(connection) => {
                RawSql { text: SQLITE_NEXT, values }.get_result(connection).optional()?
            }
            Self::Postgres(connection) => {
                RawSql { text: POSTGRES_NEXT, values }.get_result(connection).optional()?
            }
        };
        Ok(found.map(|found| found.id))
    }

    /// Deletes the graph's oldest keys, at most `most`, of those older than `age_max_ms`, and says
    /// how many went.
    ///
    /// # Errors
    /// What the database reports.
    pub fn delete_old_keys(
        &mut self,
        graph_id: i64,
        age_max_ms: i64,
        most: usize,
    ) -> QueryResult<usize> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let values = [graph_id, graph_id, age_max_ms, most].map(Value::Integer);
        self.run_either(SQLITE_DELETE, POSTGRES_DELETE, &values)
    }
}

#[cfg(test)]
mod tests {
    use super::super::query_plan::query_plan;
    use super::*;

    /// However many keys there are, none is looked at that is not asked for.
    #[test]
    fn keys_are_found_by_their_indexes() {
        for text in [SQLITE_READ, SQLITE_KEEP, SQLITE_NEXT, SQLITE_DELETE] {
            let steps = query_plan(&text.replace('?', "1"));
            let of_keys = steps.iter().filter(|step| step.contains("idempotency_keys"));
            let by_index = |step: &String| {
                step.starts_with("SEARCH")
                    && (step.contains("graph_id=? AND key=?")
                        || step.contains("by_graph_and_age (graph_id=?"))
            };
            assert!(of_keys.clone().all(by_index), "{text}: {steps:?}");
            assert!(text == SQLITE_KEEP || of_keys.count() > 0, "{text}: {steps:?}");
        }
    }
}
