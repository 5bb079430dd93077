//! What only a table shows: two transactions beside each other, an answer that is lost, and several
//! graphs.

use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use fencepost::export::sink::SinkError;

use super::{Place, assert_superseded, batch, events, fresh, stream, texts};
use crate::support::postgres::Postgres;
use crate::support::proxy::{Cut, Proxy};
use crate::support::{limit, wait_until};

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Both have seen the log empty. The one that is later to begin holds the earlier version, and
/// would write before a beginning that does not know of it. The table holds each up after it has
/// compared, until the test lets go.
#[test]
fn two_that_begin_in_transactions_beside_each_other_do_not_mix() {
    let url = Postgres::shared().new_database();
    let mut sql = PgConnection::establish(&url).unwrap();
    let place = Place::at(format!("{url}/journal"));
    let (mut low, mut high) = (place.exporter(), place.exporter());
    sql.batch_execute(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END';
         CREATE TRIGGER hold BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION hold();
         SELECT pg_advisory_lock(42);",
    )
    .unwrap();
    let wait_for = |sql: &mut PgConnection, waiting: i64, what: &str| {
        let count = "SELECT count(*) AS count FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        wait_until(limit(), what, || {
            diesel::sql_query(count).get_result::<Count>(sql).unwrap().count == waiting
        });
    };
    let written = events(9, 0..3, "high");
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| high.append(&batch(&written)));
        wait_for(&mut sql, 1, "the first has compared");
        let second = scope.spawn(|| low.append(&batch(&events(4, 0..3, "low"))));
        wait_for(&mut sql, 2, "the second waits");
        sql.batch_execute("SELECT pg_advisory_unlock(42)").unwrap();
        (first.join().unwrap(), second.join().unwrap())
    });
    first.unwrap();
    assert_superseded(second);
    assert_eq!(place.events(), texts(&written));
}

#[test]
fn what_was_committed_without_an_answer_is_found_when_it_is_asked_for() {
    let proxy = Proxy::to(Postgres::shared().port());
    let place =
        Place::at(format!("postgres://postgres@127.0.0.1:{}/postgres/{}", proxy.port(), fresh()));
    let written = events(1, 0..3, "unanswered");
    let mut sink = place.exporter();
    sink.append(&batch(&written[..1])).unwrap();
    for (cut, last) in [(Cut::Commit, 0), (Cut::Answer, 1)] {
        proxy.cut(cut);
        let outcome = sink.append(&batch(&written[1..2]));
        assert!(matches!(outcome, Err(SinkError::Unavailable { .. })), "{outcome:?}");
        assert_eq!(sink.last().unwrap().as_ref(), Some(&written[last].1), "{cut:?}");
    }
    sink.append(&batch(&written[2..])).unwrap();
    assert_eq!(place.events(), texts(&written));
}

#[test]
fn graphs_share_a_table_and_do_not_see_each_other() {
    let kitchen = Place::postgres();
    let garden = Place { stream: stream("garden"), ..Place::at(kitchen.url.clone()) };
    let (mut to_kitchen, mut to_garden) = (kitchen.exporter(), garden.exporter());
    let (cooked, grown) = (events(1, 0..3, "kitchen"), events(1, 0..2, "garden"));
    to_kitchen.append(&batch(&cooked)).unwrap();
    assert_eq!(to_garden.last().unwrap(), None);
    to_garden.append(&batch(&grown)).unwrap();
    assert_eq!(kitchen.events(), texts(&cooked));
    assert_eq!(garden.events(), texts(&grown));
}

#[test]
fn a_table_in_a_schema_is_made_and_found() {
    let url = Postgres::shared().new_database();
    PgConnection::establish(&url).unwrap().batch_execute("CREATE SCHEMA way_out").unwrap();
    let place = Place::at(format!("{url}/way_out.order?application_name=elsewhere"));
    let written = events(1, 0..3, "schema");
    place.exporter().append(&batch(&written)).unwrap();
    assert_eq!(place.events(), texts(&written));
}
