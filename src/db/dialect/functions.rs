//! The function that the schema has in Postgres: whether it is there and may be called, and how it
//! is made again. SQLite has none.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::AnyConnection;
use super::statement::TextRow;

/// Its name.
pub(crate) const FUNCTION: &str = "fencepost_commit_1";

/// The migration that makes it, and nothing after it.
const MIGRATION: &str =
    include_str!("../../../migrations/postgres/2026-11-27-000020_commit_in_one_call/up.sql");

/// Its parameters' types, by which it is called.
macro_rules! signature {
    () => {
        "'fencepost_commit_1(integer, bigint, text, bigint, bytea, bigint, text, boolean, bigint, \
         bytea, bigint, text[], bytea[], text[], bigint[], bigint[], bigint[], text[], bigint[], \
         bigint[], text[], bigint[], text[], bigint[], text[], text[], bigint[], bigint[], text[], \
         text[], bigint[], text[], text[], text[], text[], text[], bigint)'"
    };
}

/// Whether this session can call the function that this program calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FunctionState {
    /// It can.
    Usable,
    /// It is not there, or has other parameters.
    Missing,
    /// The role may not call it.
    Denied {
        /// The role, as SQL has it.
        role: String,
    },
}

impl AnyConnection {
    /// Whether this session can call the function. One round trip.
    pub(crate) fn function_state(&mut self) -> QueryResult<FunctionState> {
        let Self::Postgres(connection) = self else { return Ok(FunctionState::Usable) };
        let query = concat!(
            "SELECT CASE WHEN function IS NULL THEN 'missing' \
             WHEN has_function_privilege(function, 'EXECUTE') THEN 'usable' \
             ELSE 'denied ' || quote_ident(current_user) END AS value \
             FROM (SELECT to_regprocedure(",
            signature!(),
            ")::oid AS function) AS found"
        );
        let state = diesel::sql_query(query).get_result::<TextRow>(connection)?.value;
        Ok(match (state.as_str(), state.strip_prefix("denied ")) {
            (_, Some(role)) => FunctionState::Denied { role: role.to_owned() },
            ("missing", None) => FunctionState::Missing,
            _ => FunctionState::Usable,
        })
    }

    /// Makes the function again if it is missing or is not what the migration has made; whether it
    /// did. In a transaction.
    pub(super) fn repair_function(&mut self) -> QueryResult<bool> {
        let Self::Postgres(connection) = self else { return Ok(false) };
        let definition = definition();
        let body = definition.split("$$").nth(1).expect("the function has a body");
        let query = concat!(
            "SELECT proname::text AS value FROM pg_proc \
             JOIN pg_language ON pg_language.oid = prolang WHERE pg_proc.oid = to_regprocedure(",
            signature!(),
            ") AND prosrc = $1 AND lanname = 'plpgsql' AND NOT prosecdef AND proconfig IS NULL"
        );
        let intact = diesel::sql_query(query).bind::<Text, _>(body);
        if intact.get_result::<TextRow>(connection).optional()?.is_some() {
            return Ok(false);
        }
        // This keeps who may call it, but cannot make of it a function that returns something else.
        let replaced = definition.replacen("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1);
        connection.batch_execute("SAVEPOINT before_function")?;
        if connection.batch_execute(&replaced).is_err() {
            let drop = concat!(
                "SELECT 'DROP FUNCTION ' || to_regprocedure(",
                signature!(),
                ")::text AS value"
            );
            connection.batch_execute("ROLLBACK TO before_function")?;
            let drop = diesel::sql_query(drop).get_result::<TextRow>(connection)?.value;
            connection.batch_execute(&drop)?;
            connection.batch_execute(definition)?;
        }
        Ok(true)
    }
}

fn definition() -> &'static str {
    let begin = MIGRATION.find("CREATE FUNCTION").expect("the migration makes the function");
    &MIGRATION[begin..]
}
