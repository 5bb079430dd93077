//! What a sink ends with is compared with the database: by an export before it goes on after it, by
//! one that follows while nothing is written, and by a prune.

use fencepost::event::{Event, Reader};

use super::earlier::ENGINES;
use super::places::refused;
use super::verification::exported;
use super::{Follower, Place, export};
use crate::support::ask::{accepted, put_dataset};
use crate::support::cluster::{GRAPH, Kind, Site, back_up, finish, restore, wait_until};

/// The events with the last one altered, and spelled as an exporter would.
fn with_last(events: &[String], alter: impl Fn(&mut Event<'_>)) -> Vec<String> {
    let mut events = events.to_vec();
    let last = events.pop().unwrap();
    let mut reader = Reader::default();
    let (stream, event) = reader.read(&last).unwrap();
    let mut altered = event.clone();
    alter(&mut altered);
    assert_ne!(altered, event, "nothing was altered");
    let mut line = stream.line(&altered);
    line.pop();
    events.push(String::from_utf8(line).unwrap());
    events
}

fn in_place_of(data: &mut Event<'_>, from: &str, to: &str) {
    data.data = data.data.replace(from, to).into();
}

fn put_in(engine: fn(&[&str]) -> Place, site: &Site, events: &[String]) -> Place {
    let mut place = engine(&events.iter().map(String::as_str).collect::<Vec<_>>());
    place.stream = site.stream();
    place
}

#[test]
fn an_export_does_not_go_on_after_a_change_that_was_altered() {
    let (site, place, _) = exported();
    let events = place.events();
    let data = with_last(&events, |event| in_place_of(event, "late", "lake"));
    let time = with_last(&events, |event| {
        event.committed_at_ms = event.committed_at_ms.map(|ms| ms + 1);
    });
    let actor = with_last(&events, |event| event.actor = Some("eve".into()));
    accepted(&site.node(), [put_dataset("more")]);
    for engine in ENGINES {
        for (altered, what) in [(&data, "data"), (&time, "time"), (&actor, "actor")] {
            let place = put_in(engine, &site, altered);
            let reason = format!("at version 4, was altered: its {what} is not the database's");
            refused(export(&site, &place, &["--no-consumer"]), 1, &reason);
            assert_eq!(place.events(), *altered, "nothing was written after it");
        }
        let place = put_in(engine, &site, &events);
        assert_eq!(finish(export(&site, &place, &["--no-consumer"])).0, Some(0));
    }
}

#[test]
fn an_export_does_not_go_on_after_a_part_of_an_import_that_was_altered() {
    let (site, place, _) = exported();
    let events = place.events();
    let up_to = |kind: &str| {
        let at = events.iter().rposition(|event| event.contains(kind)).unwrap();
        events[..=at].to_vec()
    };
    let (begun, part, ended) = (up_to("import.begun"), up_to("imported.v1"), up_to("import.ended"));
    // At the version of the import, and beyond it: the database tells both.
    let altered = [
        with_last(&begun, |event| in_place_of(event, "\"jobs\":2", "\"jobs\":3")),
        with_last(&part, |event| in_place_of(event, "\"job_version\":2", "\"job_version\":1")),
        with_last(&ended, |event| in_place_of(event, "\"digest\":\"", "\"digest\":\"0")),
        with_last(&ended, |event| {
            event.committed_at_ms = event.committed_at_ms.map(|ms| ms + 1);
        }),
    ];
    for events in &altered {
        let place = put_in(ENGINES[0], &site, events);
        let reason = "was altered: its ";
        refused(export(&site, &place, &["--no-consumer"]), 1, reason);
        assert_eq!(place.events(), *events);
    }
    for events in [&begun, &part, &ended] {
        let place = put_in(ENGINES[0], &site, events);
        assert_eq!(finish(export(&site, &place, &["--no-consumer"])).0, Some(0));
    }
    // What was pruned is not known any more, and no reason to stop.
    assert_eq!(finish(site.fencepost(&["prune", "--graph", GRAPH, "--before", "3"])).0, Some(0));
    let place = put_in(ENGINES[0], &site, &ended);
    assert_eq!(finish(export(&site, &place, &["--no-consumer"])).0, Some(0));
}

#[test]
fn a_follower_notices_that_the_last_event_was_altered_while_nothing_is_written() {
    let (site, mut place) = (Site::with_graph(), Place::file());
    place.stream = site.stream();
    accepted(&site.node(), [put_dataset("late")]);
    let follower = Follower::start(&site, &place);
    wait_until("the graph is exported", || place.version() == Some(2));
    accepted(&site.node(), [put_dataset("later")]);
    wait_until("all is exported", || place.version() == Some(3));
    let altered = with_last(&place.events(), |event| in_place_of(event, "later", "laker"));
    let text: String = altered.iter().map(|event| format!("{event}\n")).collect();
    std::fs::write(place.url.strip_prefix("file:").unwrap(), text).unwrap();
    let (code, said) = follower.end();
    assert!(code == Some(1) && said.contains("at version 3, was altered: its data"), "{said}");
}

/// The database was restored from a backup, and written on otherwise.
#[test]
fn pruning_does_not_take_a_sink_of_another_history_for_one_that_has_everything() {
    for place in [Place::file(), Place::redis(), Place::nats(), Place::postgres()] {
        let site = Site::with_graph_on(Kind::Sqlite);
        let write = |names: [&str; 3]| {
            for name in names {
                accepted(&site.node(), [put_dataset(name)]);
            }
        };
        let prune = || site.fencepost(&["prune", "--graph", GRAPH, "--before", "3"]);
        write(["two", "three", "four"]);
        assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
        let copy = site.path("copy.db");
        back_up(&site, &copy);
        write(["five", "six", "seven"]);
        assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
        restore(&site, &copy);
        refused(prune(), 1, "it has version 7, the database only 4: was an older backup restored?");
        write(["another five", "another six", "another seven"]);
        let reason = "holds another history than the database: at version 7 its chain of hashes";
        refused(prune(), 1, reason);
        assert_eq!(site.head().oldest, 1, "nothing was pruned");
    }
}

/// What is refused was not acknowledged either.
#[test]
fn an_export_that_is_refused_leaves_its_acknowledgement_as_it_was() {
    for place in [Place::file(), Place::redis(), Place::nats(), Place::postgres()] {
        let site = Site::with_graph_on(Kind::Sqlite);
        let write = |names: &[&str]| {
            for name in names {
                accepted(&site.node(), [put_dataset(name)]);
            }
        };
        write(&["two"]);
        assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
        let copy = site.path("copy.db");
        back_up(&site, &copy);
        write(&["three", "four"]);
        assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
        restore(&site, &copy);
        for more in [&["another three"][..], &["another four"], &["another five"]] {
            write(more);
            let ended = finish(export(&site, &place, &[]));
            assert_eq!(ended.0, Some(1), "{}", ended.1);
            assert_eq!(site.store_consumers()[0].1, 2, "{}", ended.1);
        }
        let prune = site.fencepost(&["prune", "--graph", GRAPH, "--before", "5"]);
        refused(prune, 1, "has acknowledged version 2");
        assert_eq!(site.head().oldest, 1, "nothing was pruned");
    }
}
