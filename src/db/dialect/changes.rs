//! How rows of the change log are written, and how a long log is read.

use diesel::connection::DefaultLoadingMode;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;

use super::AnyConnection;
use super::clock::{postgres_now_ms, sqlite_clock_ms};
use super::statement::{PostgresValue, RawSql};
use crate::db::causes;
use crate::db::schema::{ChangeRow, changes};

/// A change as it is read: its version, its text and its chain.
pub type LoggedText = (i64, String, Vec<u8>);

/// Changes of which one statement reads: it is done long before a statement over a whole graph must
/// be.
const PAGE_CHANGES: i64 = 50_000;

impl AnyConnection {
    /// Calls `each` with the changes of a graph after version `after` and up to `last`, in order.
    /// Holds one of them in memory at a time, however long the log is.
    ///
    /// # Errors
    /// What the database reports, or `each` returns.
    pub fn each_change<E: From<diesel::result::Error>>(
        &mut self,
        graph_id: i64,
        after: i64,
        last: i64,
        each: &mut dyn FnMut(LoggedText) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut from = after;
        while from < last {
            let to = last.min(from.saturating_add(PAGE_CHANGES));
            let page = changes::table
                .filter(changes::graph_id.eq(graph_id))
                .filter(changes::version.gt(from))
                .filter(changes::version.le(to))
                .order(changes::version)
                .select((changes::version, changes::change, changes::chain));
            let mut take = |row: QueryResult<LoggedText>| each(row?);
            match self {
                Self::Sqlite(connection) => page
                    .load_iter::<LoggedText, DefaultLoadingMode>(connection)?
                    .try_for_each(&mut take)?,
                // The default would hold the whole page, of which each change may be large.
                Self::Postgres(connection) => page
                    .load_iter::<LoggedText, PgRowByRowLoadingMode>(connection)?
                    .try_for_each(&mut take)?,
            }
            from = to;
        }
        Ok(())
    }

    /// Writes rows of the change log, all with the same graph, attempt and token. A row without a
    /// time gets the database's.
    ///
    /// # Errors
    /// What the database reports, and [`RowsDiffer`](crate::db::DbError::RowsDiffer) as an error of
    /// Diesel if it did not write each row.
    pub fn insert_changes(&mut self, rows: &[ChangeRow<'_>]) -> QueryResult<()> {
        let inserted = match self {
            Self::Sqlite(connection) => {
                let now_ms = sqlite_clock_ms(connection)?;
                let mut inserted = 0;
                for row in rows {
                    let row = (
                        changes::graph_id.eq(row.graph_id),
                        changes::version.eq(row.version),
                        changes::change.eq(row.change),
                        changes::chain.eq(row.chain),
                        changes::attempt.eq(row.attempt),
                        changes::token.eq(row.token),
                        changes::committed_at_ms.eq(row.committed_at_ms.unwrap_or(now_ms)),
                        changes::actor.eq(row.actor),
                        changes::request.eq(row.request),
                    );
                    inserted +=
                        diesel::insert_into(changes::table).values(row).execute(connection)?;
                }
                inserted
            }
            Self::Postgres(connection) => insert_changes_at_once(connection, rows)?,
        };
        if inserted == rows.len() {
            return Ok(());
        }
        Err(causes::rows_differ(inserted, rows.len(), "changes to be added to the log"))
    }
}

/// One statement, prepared once however many rows there are.
fn insert_changes_at_once(
    connection: &mut PgConnection,
    rows: &[ChangeRow<'_>],
) -> QueryResult<usize> {
    use PostgresValue as V;
    let Some(of_all) = rows.first() else { return Ok(0) };
    let statement = RawSql {
        text: concat!(
            "INSERT INTO changes \
             (graph_id, version, change, chain, attempt, token, committed_at_ms, actor, request) \
             SELECT ?, new.version, new.change, new.chain, ?, ?, coalesce(new.committed_at_ms, ",
            postgres_now_ms!(),
            "), new.actor, new.request \
             FROM unnest(?::bigint[], ?::text[], ?::bytea[], ?::bigint[], ?::text[], ?::text[]) \
             AS new (version, change, chain, committed_at_ms, actor, request)"
        ),
        values: &[
            V::Integer(of_all.graph_id),
            V::Text(of_all.attempt),
            V::Integer(of_all.token),
            V::Integers(rows.iter().map(|row| row.version).collect()),
            V::Texts(rows.iter().map(|row| row.change).collect()),
            V::BytesEach(rows.iter().map(|row| row.chain).collect()),
            V::OptionalIntegers(rows.iter().map(|row| row.committed_at_ms).collect()),
            V::OptionalTexts(rows.iter().map(|row| row.actor).collect()),
            V::OptionalTexts(rows.iter().map(|row| row.request).collect()),
        ],
    };
    statement.execute(connection)
}
