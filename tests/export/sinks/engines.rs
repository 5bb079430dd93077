//! Engines that end and come back.

use fencepost::export::sink::{Purpose, SinkError};

use super::{Place, assert_superseded, batch, events, fresh, texts};
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

/// Whatever is told while the engine is away, nothing is lost or doubled when the exporter asks and
/// goes on.
fn an_exporter_outlives_its_engine<E>(
    place: &Place,
    mut engine: E,
    kill: fn(&mut E),
    start: fn(&mut E),
) {
    let written = events(1, 0..3, "killed");
    let mut sink = place.exporter();
    sink.append(&batch(&written[..1])).unwrap();
    sink.sync().unwrap();
    kill(&mut engine);
    let away = |outcome: Result<(), SinkError>| match outcome {
        Err(SinkError::Unavailable { .. }) => {}
        other => panic!("the engine is away: {other:?}"),
    };
    away(sink.append(&batch(&written[1..2])));
    away(sink.last().map(drop));
    away(place.open(Purpose::Append).map(drop));
    start(&mut engine);
    assert_eq!(sink.last().unwrap().as_ref(), Some(&written[0].1));
    sink.append(&batch(&written[1..2])).unwrap();
    // And when it came back before anybody noticed.
    kill(&mut engine);
    start(&mut engine);
    let mut next = 2;
    if let Err(error) = sink.append(&batch(&written[2..])) {
        assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
        let last = sink.last().unwrap();
        next = written
            .iter()
            .position(|(_, event)| Some(event) == last.as_ref())
            .expect("it is one of them")
            + 1;
    } else {
        next += 1;
    }
    sink.append(&batch(&written[next..])).unwrap();
    assert_eq!(place.events(), texts(&written));
}

#[test]
fn an_exporter_to_redis_outlives_its_server() {
    let redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let place = Place::at(format!("{}/{}", redis.url(), fresh()));
    an_exporter_outlives_its_engine(&place, redis, Redis::kill, Redis::start_again);
}

#[test]
fn an_exporter_to_nats_outlives_its_server() {
    let nats = Nats::start("");
    let place = Place::at(format!("{}/{}", nats.url(), fresh()));
    an_exporter_outlives_its_engine(&place, nats, Nats::kill, Nats::start_again);
}

#[test]
fn an_exporter_to_postgres_outlives_its_server() {
    let postgres = Postgres::start(&[]);
    let place = Place::at(format!("{}/{}", postgres.url("postgres"), fresh()));
    an_exporter_outlives_its_engine(&place, postgres, Postgres::crash, Postgres::start_again);
}

/// A Redis that keeps nothing has an empty log when it comes back. An exporter that does not look
/// writes nothing there; one that does begins anew.
#[test]
fn an_exporter_notices_that_redis_forgot_all() {
    let mut redis = Redis::start(&[]);
    let place = Place::at(format!("{}/{}", redis.url(), fresh()));
    let mut sink = place.exporter();
    sink.append(&batch(&events(1, 0..5, "lost"))).unwrap();
    redis.kill();
    redis.start_again();
    let outcome = sink.append(&batch(&events(2, 0..1, "next")));
    assert!(
        matches!(outcome, Err(SinkError::Unavailable { .. })),
        "the connection was lost: {outcome:?}"
    );
    assert_superseded(sink.append(&batch(&events(2, 0..1, "next"))));
    assert_eq!(sink.last().unwrap(), None);
}

#[test]
fn an_event_that_nats_does_not_take_is_told_before_anything_is_written() {
    let nats = Nats::start("");
    let place = Place::at(format!("{}/{}", nats.url(), fresh()));
    let mut written = events(1, 0..3, "large");
    written[2].1 = format!("{{\"large\":\"{}\"}}", "fence".repeat((2 << 20) / 5));
    let mut sink = place.exporter();
    let error = sink.append(&batch(&written)).unwrap_err().to_string();
    assert!(
        error.contains("version 1, ordinal 2") && error.contains("raise max_payload"),
        "{error}"
    );
    assert_eq!(place.events(), Vec::<String>::new());
    // And the smaller ones still go.
    sink.append(&batch(&written[..2])).unwrap();
    assert_eq!(place.events(), texts(&written[..2]));
}
