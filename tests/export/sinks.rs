//! What every sink promises, one list for all engines, and what is each one's own.

mod addresses;
mod engines;
mod postgres;
mod refused;

use std::ops::ControlFlow;
use std::sync::Barrier;
use std::thread;

use fencepost::event::{EventIndex, Stream};
use fencepost::export::SinkUrl;
use fencepost::export::sink::{Batch, Purpose, Sink, SinkError};
use fencepost::graph::Name;
use uuid::Uuid;

use super::{Place, fresh};

impl Place {
    fn open(&self, purpose: Purpose) -> Result<Box<dyn Sink>, SinkError> {
        SinkUrl::parse(&self.url)?.open(&self.stream, purpose)
    }

    /// An exporter that has asked for the last event.
    #[track_caller]
    fn exporter(&self) -> Box<dyn Sink> {
        let mut sink = self.open(Purpose::Append).unwrap();
        sink.last().unwrap();
        sink
    }
}

fn stream(graph: &str) -> Stream {
    Stream::new(Name::new(graph).unwrap(), Uuid::from_u128(7))
}

/// Events at `version` with these ordinals. A sink does not care what they say, but for what
/// engines take for themselves: quotes, braces, backslashes.
fn events(version: u64, ordinals: std::ops::Range<u64>, writer: &str) -> Vec<(EventIndex, String)> {
    let event = |ordinal| {
        let text = format!(
            r#"{{"specversion":"1.0","id":"{version}/{ordinal}","by":"{writer}","odd":["NULL",'it''s',{{$1}},"\\\"\u0000 é 🦀	,"]}}"#
        );
        (EventIndex { version, ordinal }, text)
    };
    ordinals.map(event).collect()
}

fn batch(events: &[(EventIndex, String)]) -> Batch {
    let mut batch = Batch::default();
    for (position, event) in events {
        batch.text.extend_from_slice(event.as_bytes());
        batch.text.push(b'\n');
        batch.ends.push((*position, batch.text.len()));
    }
    batch
}

fn texts(events: &[(EventIndex, String)]) -> Vec<String> {
    events.iter().map(|(_, event)| event.clone()).collect()
}

macro_rules! every_sink {
    ($($behaviour:ident)*) => {
        every_sink!(file: $($behaviour)*);
        every_sink!(redis: $($behaviour)*);
        every_sink!(nats: $($behaviour)*);
        every_sink!(postgres_table: $($behaviour)*);
    };
    (postgres_table: $($behaviour:ident)*) => {
        mod a_postgres_table { $(#[test] fn $behaviour() { super::$behaviour(&super::Place::postgres()); })* }
    };
    (file: $($behaviour:ident)*) => {
        mod a_file { $(#[test] fn $behaviour() { super::$behaviour(&super::Place::file()); })* }
    };
    (redis: $($behaviour:ident)*) => {
        mod a_redis_stream { $(#[test] fn $behaviour() { super::$behaviour(&super::Place::redis()); })* }
    };
    (nats: $($behaviour:ident)*) => {
        mod a_nats_stream { $(#[test] fn $behaviour() { super::$behaviour(&super::Place::nats()); })* }
    };
}

every_sink! {
    an_empty_log_has_no_last_event
    what_was_appended_is_read_back_byte_for_byte_and_in_order
    who_opens_it_again_goes_on_after_its_last_event
    five_thousand_events_are_appended_at_once
    an_event_of_two_mebibytes_is_kept
    positions_are_told_apart_whatever_their_digits
    reading_ends_when_it_is_told_to
    to_read_what_is_not_there_is_told_and_makes_nothing
    an_exporter_that_was_overtaken_writes_nothing
    an_exporter_that_was_overtaken_while_it_was_going_on_writes_nothing
    of_two_that_begin_at_once_one_is_told
}

fn an_empty_log_has_no_last_event(place: &Place) {
    assert_eq!(place.open(Purpose::Append).unwrap().last().unwrap(), None);
}

fn what_was_appended_is_read_back_byte_for_byte_and_in_order(place: &Place) {
    let mut sink = place.exporter();
    let written =
        [events(0, 0..3, "first"), events(1, 0..1, "first"), events(2, 0..1, "first")].concat();
    sink.append(&batch(&written[..4])).unwrap();
    sink.append(&batch(&[])).unwrap();
    sink.append(&batch(&written[4..])).unwrap();
    sink.sync().unwrap();
    assert_eq!(sink.last().unwrap().as_ref(), texts(&written).last());
    drop(sink);
    assert_eq!(place.events(), texts(&written));
}

fn who_opens_it_again_goes_on_after_its_last_event(place: &Place) {
    let (before, after) = (events(3, 0..2, "before"), events(4, 0..1, "after"));
    place.exporter().append(&batch(&before)).unwrap();
    let mut sink = place.open(Purpose::Append).unwrap();
    assert_eq!(sink.last().unwrap().as_ref(), texts(&before).last());
    sink.append(&batch(&after)).unwrap();
    drop(sink);
    assert_eq!(place.events(), texts(&[before, after].concat()));
}

fn five_thousand_events_are_appended_at_once(place: &Place) {
    let written = events(7, 0..5_000, "many");
    let mut sink = place.exporter();
    sink.append(&batch(&written)).unwrap();
    sink.append(&batch(&events(8, 0..1, "many"))).unwrap();
    drop(sink);
    let read = place.events();
    assert_eq!(read.len(), 5_001);
    assert_eq!(read[..5_000], texts(&written));
}

fn an_event_of_two_mebibytes_is_kept(place: &Place) {
    let mut written = events(1, 0..4, "large");
    for (_, event) in &mut written[1..3] {
        *event = format!("{{\"large\":\"{}\"}}", "fence".repeat((2 << 20) / 5));
    }
    let mut sink = place.exporter();
    sink.append(&batch(&written[..3])).unwrap();
    assert_eq!(sink.last().unwrap().as_ref(), Some(&written[2].1));
    sink.append(&batch(&written[3..])).unwrap();
    drop(sink);
    assert!(place.events() == texts(&written));
}

fn positions_are_told_apart_whatever_their_digits(place: &Place) {
    let written = [
        events(9, 0..1, "few"),
        events(9, 9..11, "few"),
        events(10, 0..1, "few"),
        events(1 << 40, 0..1, "few"),
    ];
    let mut sink = place.exporter();
    written.iter().for_each(|written| sink.append(&batch(written)).unwrap());
    assert_eq!(sink.last().unwrap().as_ref(), Some(&written[3][0].1));
    drop(sink);
    assert_eq!(place.events(), texts(&written.concat()));
}

fn reading_ends_when_it_is_told_to(place: &Place) {
    place.exporter().append(&batch(&events(1, 0..100, "read"))).unwrap();
    let mut seen = 0;
    let mut until_the_third = |_: &str| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    place.open(Purpose::Read).unwrap().read(&mut until_the_third).unwrap();
    assert_eq!(seen, 3);
}

fn to_read_what_is_not_there_is_told_and_makes_nothing(place: &Place) {
    for _ in 0..2 {
        let error = place.open(Purpose::Read).err().expect("nothing is there");
        assert!(matches!(error, SinkError::NotThere { .. }), "{error}");
    }
}

/// A second exporter and what it appends. `None` if the sink lets nobody open it twice.
fn overtake(place: &Place, overtaking: &[(EventIndex, String)]) -> Option<()> {
    match place.open(Purpose::Append) {
        Ok(mut newer) => {
            newer.last().unwrap();
            newer.append(&batch(overtaking)).unwrap();
            Some(())
        }
        Err(SinkError::Superseded { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn assert_superseded(outcome: Result<(), SinkError>) {
    match outcome {
        Err(SinkError::Superseded { .. }) => {}
        Err(error) => panic!("not superseded, but: {error}"),
        Ok(()) => panic!("an overtaken exporter has written"),
    }
}

/// It saw the log empty, as did the newer one, which began at another version. The newer one's one
/// event must not make room for the second of the older's.
fn an_exporter_that_was_overtaken_writes_nothing(place: &Place) {
    let mut older = place.exporter();
    let newest = events(3, 0..1, "newer");
    let older_events = events(5, 0..3, "older");
    let expected = match overtake(place, &newest) {
        Some(()) => {
            assert_superseded(older.append(&batch(&older_events)));
            newest
        }
        None => {
            older.append(&batch(&older_events)).unwrap();
            older_events
        }
    };
    drop(older);
    assert_eq!(place.events(), texts(&expected));
}

fn an_exporter_that_was_overtaken_while_it_was_going_on_writes_nothing(place: &Place) {
    let begun = events(1, 0..4, "older");
    let mut older = place.exporter();
    older.append(&batch(&begun)).unwrap();
    let newest = [events(1, 4..5, "newer"), events(2, 0..1, "newer")].concat();
    let Some(()) = overtake(place, &newest) else { return };
    assert_superseded(older.append(&batch(&events(1, 4..9, "older"))));
    // It stays so, until it looks again.
    assert_superseded(older.append(&batch(&events(6, 0..1_000, "older"))));
    assert_eq!(older.last().unwrap().as_ref(), Some(&newest[1].1));
    let after = events(3, 0..2, "older");
    older.append(&batch(&after)).unwrap();
    drop(older);
    assert_eq!(place.events(), texts(&[begun, newest, after].concat()));
}

fn of_two_that_begin_at_once_one_is_told(place: &Place) {
    let mut end = Vec::new();
    for round in 0..20 {
        let both = Barrier::new(2);
        // Of different lengths and at different versions, as two imports are.
        let writes = [events(10 * round + 1, 0..300, "low"), events(10 * round + 5, 0..4, "high")];
        let outcomes = thread::scope(|scope| {
            let threads = writes.each_ref().map(|events| {
                let both = &both;
                scope.spawn(move || {
                    let opened =
                        place.open(Purpose::Append).and_then(|mut sink| sink.last().map(|_| sink));
                    both.wait();
                    opened?.append(&batch(events))
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        let wrote: Vec<usize> = (0..2).filter(|at| outcomes[*at].is_ok()).collect();
        assert_eq!(wrote.len(), 1, "{outcomes:?}");
        end.extend(texts(&writes[wrote[0]]));
    }
    assert_eq!(place.events().len(), end.len());
    assert!(place.events() == end, "the events of two are mixed");
}

/// The negative controls: with a guard switched off, the test that shows what it is for goes red.
mod guards {
    use crate::support::guards::passes;

    #[track_caller]
    fn assert_guarded(test: &str, guard: &str) {
        let test = format!("export::sinks::{test}");
        assert!(passes(&test, None), "{test} passes with its guard");
        assert!(!passes(&test, Some(guard)), "{test} passes without {guard}");
    }

    #[test]
    fn without_the_comparison_an_overtaken_exporter_writes() {
        for engine in ["a_file", "a_redis_stream", "a_nats_stream", "a_postgres_table"] {
            assert_guarded(
                &format!("{engine}::an_exporter_that_was_overtaken_writes_nothing"),
                "sink-guard",
            );
        }
    }

    #[test]
    fn without_names_a_message_that_was_sent_ahead_takes_the_place_of_another() {
        assert_guarded(
            "a_nats_stream::an_exporter_that_was_overtaken_writes_nothing",
            "sink-names",
        );
    }

    #[test]
    fn without_a_lock_transactions_beside_each_other_both_write() {
        assert_guarded(
            "postgres::two_that_begin_in_transactions_beside_each_other_do_not_mix",
            "sink-lock",
        );
    }
}
