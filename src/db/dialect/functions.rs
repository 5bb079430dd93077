//! The functions that the schema has in Postgres: whether that of this program is there and may be
//! called, and how they are made again. SQLite has none.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::AnyConnection;
use super::statement::TextRow;

/// The name of the one that this program calls.
pub(crate) const FUNCTION: &str = "fencepost_commit_4";

/// A function, which the migration makes last.
struct Function {
    name: &'static str,
    /// Its name and its parameters' types, by which it is called.
    signature: &'static str,
    migration: &'static str,
}

/// A signature: how it begins, and the types of the log's columns; all else is the same in each.
macro_rules! signature {
    ($begins:literal, $log:literal) => {
        concat!(
            $begins,
            ", text, boolean, bigint, bytea, bigint, ",
            $log,
            ", bigint[], bigint[], bigint[], text[], bigint[], bigint[], text[], bigint[], text[], \
             bigint[], text[], text[], bigint[], bigint[], text[], text[], bigint[], text[], \
             text[], text[], text[], text[], bigint)"
        )
    };
}

const CALLED: Function = Function {
    name: FUNCTION,
    signature: signature!(
        "fencepost_commit_4(integer, bigint, text, text, bigint, bytea, bigint, bigint",
        "text[], bytea[], text[], text[]"
    ),
    migration: include_str!(
        "../../../migrations/postgres/2026-11-28-000020_forwarded_writes/up.sql"
    ),
};

/// What earlier programs call: some may still run.
const FORMER: [Function; 3] = [
    Function {
        name: "fencepost_commit_1",
        signature: signature!(
            "fencepost_commit_1(integer, bigint, text, bigint, bytea, bigint",
            "text[], bytea[], text[]"
        ),
        migration: include_str!(
            "../../../migrations/postgres/2026-11-27-000020_commit_in_one_call/up.sql"
        ),
    },
    Function {
        name: "fencepost_commit_2",
        signature: signature!(
            "fencepost_commit_2(integer, bigint, text, text, bigint, bytea, bigint",
            "text[], bytea[], text[]"
        ),
        migration: include_str!(
            "../../../migrations/postgres/2026-11-27-000030_storage_of_a_graph/up.sql"
        ),
    },
    Function {
        name: "fencepost_commit_3",
        signature: signature!(
            "fencepost_commit_3(integer, bigint, text, text, bigint, bytea, bigint, bigint",
            "text[], bytea[], text[]"
        ),
        migration: include_str!("../../../migrations/postgres/2026-11-28-000010_leaders/up.sql"),
    },
];

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
        let query = "SELECT CASE WHEN function IS NULL THEN 'missing' \
             WHEN has_function_privilege(function, 'EXECUTE') THEN 'usable' \
             ELSE 'denied ' || quote_ident(current_user) END AS value \
             FROM (SELECT to_regprocedure($1)::oid AS function) AS found";
        let query = diesel::sql_query(query).bind::<Text, _>(CALLED.signature);
        let state = query.get_result::<TextRow>(connection)?.value;
        Ok(match (state.as_str(), state.strip_prefix("denied ")) {
            (_, Some(role)) => FunctionState::Denied { role: role.to_owned() },
            ("missing", None) => FunctionState::Missing,
            _ => FunctionState::Usable,
        })
    }

    /// Makes each function again that is missing or is not what its migration has made; the names
    /// of those. In a transaction, when all migrations have run.
    pub(super) fn repair_functions(&mut self) -> QueryResult<Vec<&'static str>> {
        let Self::Postgres(connection) = self else { return Ok(Vec::new()) };
        let mut repaired = Vec::new();
        for function in FORMER.iter().chain([&CALLED]) {
            if function.repair(connection)? {
                repaired.push(function.name);
            }
        }
        Ok(repaired)
    }
}

impl Function {
    fn definition(&self) -> &'static str {
        let begin = self.migration.find("CREATE FUNCTION").expect("it makes the function");
        &self.migration[begin..]
    }

    /// Makes it again if need be; whether it did.
    fn repair(&self, connection: &mut PgConnection) -> QueryResult<bool> {
        let definition = self.definition();
        let body = definition.split("$$").nth(1).expect("the function has a body");
        let query = "SELECT proname::text AS value FROM pg_proc \
             JOIN pg_language ON pg_language.oid = prolang \
             WHERE pg_proc.oid = to_regprocedure($1) AND prosrc = $2 \
             AND lanname = 'plpgsql' AND NOT prosecdef AND proconfig IS NULL";
        let intact = diesel::sql_query(query).bind::<Text, _>(self.signature).bind::<Text, _>(body);
        if intact.get_result::<TextRow>(connection).optional()?.is_some() {
            return Ok(false);
        }
        // This keeps who may call it, but cannot make of it a function that returns something else.
        let replaced = definition.replacen("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1);
        connection.batch_execute("SAVEPOINT before_function")?;
        if connection.batch_execute(&replaced).is_err() {
            let drop = "SELECT 'DROP FUNCTION ' || to_regprocedure($1)::text AS value";
            connection.batch_execute("ROLLBACK TO before_function")?;
            let drop = diesel::sql_query(drop).bind::<Text, _>(self.signature);
            let drop = drop.get_result::<TextRow>(connection)?.value;
            connection.batch_execute(&drop)?;
            connection.batch_execute(definition)?;
        }
        Ok(true)
    }
}
