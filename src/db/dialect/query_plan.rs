//! What SQLite would do for a statement, for tests that nothing is looked at in vain.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::AnyConnection;
use super::sqlite_connection::connect_sqlite;
use super::url::OpenMode;

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// The steps of `statement`, which has no `?`, on an empty database with our tables, as
/// `EXPLAIN QUERY PLAN` words them.
pub(super) fn query_plan(statement: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plans.db");
    let mut connection = AnyConnection::Sqlite(connect_sqlite(&file, OpenMode::Create).unwrap());
    connection.migrate().unwrap();
    let AnyConnection::Sqlite(connection) = &mut connection else {
        unreachable!("the URL was SQLite's")
    };
    let plan = diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}"));
    let steps: Vec<Step> = plan.load(connection).unwrap();
    steps.into_iter().map(|step| step.detail).collect()
}
