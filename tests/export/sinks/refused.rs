//! What is there and is no log, or would not stay one.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use fencepost::export::sink::{Purpose, SinkError};

use super::{Place, batch, events, fresh};
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

/// It cannot be opened to append, and the message has `what` in it.
#[track_caller]
fn assert_refused(place: &Place, what: &str) {
    let error = place.open(Purpose::Append).err().expect("it is refused");
    assert!(matches!(error, SinkError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(what), "`{error}` does not say `{what}`");
}

#[test]
fn a_redis_key_of_another_kind() {
    let redis = Redis::shared();
    let key = fresh();
    redis.command(&["SET", &key, "mine"]);
    let place = Place::at(format!("{}/{key}", redis.url()));
    assert_refused(&place, "the key holds a string, no log: name another key");
    assert!(matches!(place.open(Purpose::Read), Err(SinkError::Damaged { .. })));
}

#[test]
fn a_redis_key_that_becomes_another_kind() {
    let redis = Redis::shared();
    let key = fresh();
    let mut sink = Place::at(format!("{}/{key}", redis.url())).exporter();
    redis.command(&["SET", &key, "mine"]);
    let outcome = sink.append(&batch(&events(1, 0..1, "key")));
    assert!(matches!(outcome, Err(SinkError::Damaged { .. })), "{outcome:?}");
}

#[test]
fn a_redis_stream_of_other_entries() {
    let redis = Redis::shared();
    let key = fresh();
    redis.command(&["XADD", &key, "1-1", "temperature", "21"]);
    let place = Place::at(format!("{}/{key}", redis.url()));
    let last = place.open(Purpose::Append).unwrap().last();
    assert!(matches!(&last, Err(SinkError::Damaged { .. })), "{last:?}");
}

/// An older id is refused by Redis itself, whatever is compared, and nobody else is to blame.
#[test]
fn an_entry_that_a_redis_stream_has_had() {
    let redis = Redis::shared();
    let key = fresh();
    redis.command(&["XADD", &key, "8-1", "event", "deleted"]);
    redis.command(&["XDEL", &key, "8-1"]);
    let mut sink = Place::at(format!("{}/{key}", redis.url())).exporter();
    let outcome = sink.append(&batch(&events(7, 0..1, "old")));
    let Err(SinkError::Damaged { what, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(what.contains("up to 8-1, were deleted"), "{what}");
    sink.append(&batch(&events(9, 0..1, "new"))).unwrap();
}

#[test]
fn nats_streams_that_would_lose_events_or_hold_others() {
    let nats = Nats::shared();
    let cases = [
        (r#""subjects":["fencepost.NAME"],"storage":"memory""#, "in memory"),
        (r#""subjects":["fencepost.NAME"],"storage":"file","max_msgs":10"#, "the limit max_msgs"),
        (
            r#""subjects":["fencepost.NAME"],"storage":"file","max_bytes":1000"#,
            "the limit max_bytes",
        ),
        (
            r#""subjects":["fencepost.NAME"],"storage":"file","max_age":1000000000"#,
            "the limit max_age",
        ),
        (
            r#""subjects":["fencepost.NAME"],"storage":"file","max_msgs_per_subject":1"#,
            "the limit max_msgs_per_subject",
        ),
        (
            r#""subjects":["fencepost.NAME"],"storage":"file","max_msg_size":100"#,
            "the limit max_msg_size",
        ),
        (r#""subjects":["fencepost.NAME"],"storage":"file","retention":"workqueue""#, "retention"),
        (r#""subjects":["NAME.>"],"storage":"file""#, "its one subject is not fencepost.NAME"),
        (
            r#""subjects":["fencepost.NAME","NAME.too"],"storage":"file""#,
            "its one subject is not fencepost.NAME",
        ),
    ];
    for (settings, what) in cases {
        let name = fresh();
        let settings = settings.replace("NAME", &name);
        let answer = nats.request(
            &format!("$JS.API.STREAM.CREATE.{name}"),
            &format!(r#"{{"name":"{name}",{settings}}}"#),
        );
        assert!(!answer.contains("\"error\""), "{answer}");
        assert_refused(&Place::at(format!("{}/{name}", nats.url())), &what.replace("NAME", &name));
    }
}

#[test]
fn nats_streams_that_were_made_in_advance_are_taken_if_they_keep_all() {
    let nats = Nats::shared();
    let name = fresh();
    let settings =
        format!(r#"{{"name":"{name}","subjects":["fencepost.{name}"],"storage":"file"}}"#);
    let answer = nats.request(&format!("$JS.API.STREAM.CREATE.{name}"), &settings);
    assert!(!answer.contains("\"error\""), "{answer}");
    let place = Place::at(format!("{}/{name}", nats.url()));
    place.exporter().append(&batch(&events(1, 0..1, "given"))).unwrap();
    assert_eq!(place.events().len(), 1);
}

/// Nobody can take events out of the stream that an exporter has made.
#[test]
fn to_delete_from_a_nats_stream() {
    let nats = Nats::shared();
    let name = fresh();
    let place = Place::at(format!("{}/{name}", nats.url()));
    place.exporter().append(&batch(&events(1, 0..2, "kept"))).unwrap();
    for (what, payload) in [("PURGE", ""), ("MSG.DELETE", r#"{"seq":2}"#)] {
        let answer = nats.request(&format!("$JS.API.STREAM.{what}.{name}"), payload);
        assert!(answer.contains("\"error\""), "{what}: {answer}");
    }
    assert_eq!(place.events().len(), 2);
}

#[test]
fn a_nats_server_without_jetstream() {
    let nats = Nats::start("jetstream: disabled");
    assert_refused(
        &Place::at(format!("{}/{}", nats.url(), fresh())),
        "the server has no JetStream",
    );
}

#[test]
fn tables_that_would_lose_events_or_are_others() {
    let url = Postgres::shared().new_database();
    let columns = "graph text NOT NULL, version bigint NOT NULL, ordinal bigint NOT NULL, event text NOT NULL";
    let tables = format!(
        "CREATE TABLE graphs (id bigint PRIMARY KEY, name text);
         CREATE TABLE no_key ({columns});
         CREATE TABLE other_key ({columns}, PRIMARY KEY (version, ordinal));
         CREATE TABLE narrow (graph text, version int, ordinal int, event text, PRIMARY KEY (graph, version, ordinal));
         CREATE TABLE json (graph text, version bigint, ordinal bigint, event jsonb, PRIMARY KEY (graph, version, ordinal));
         CREATE UNLOGGED TABLE unlogged ({columns}, PRIMARY KEY (graph, version, ordinal));
         CREATE TABLE more ({columns}, noted_at timestamptz DEFAULT now(), PRIMARY KEY (graph, version, ordinal));"
    );
    PgConnection::establish(&url).unwrap().batch_execute(&tables).unwrap();
    for table in ["graphs", "no_key", "other_key", "narrow", "json"] {
        assert_refused(&Place::at(format!("{url}/{table}")), "is another table");
    }
    assert_refused(&Place::at(format!("{url}/unlogged")), "a crash would empty");
    let more = Place::at(format!("{url}/more"));
    more.exporter().append(&batch(&events(1, 0..1, "more"))).unwrap();
    assert_eq!(more.events().len(), 1);
}

#[test]
fn a_database_that_cannot_keep_every_text() {
    let name = fresh();
    let mut sql = Postgres::shared().sql();
    sql.batch_execute(&format!(
        "CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    ))
    .unwrap();
    assert_refused(
        &Place::at(format!("{}/journal", Postgres::shared().url(&name))),
        "of encoding LATIN1",
    );
}
