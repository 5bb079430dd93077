//! Logs that earlier builds left, in the form that each engine has them: they are verified, and an
//! export resumes after them.
//!
//! `fixtures/earlier_log.ndjson` was written by a build that named parts of imports like changes,
//! and consumers after URLs. The same commands wrote the same events to all four engines, so that
//! one file stands for them; what surrounds the events (ids of entries, columns, the stream's
//! settings) is made here as that build made it.

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};

use super::{Place, export, fresh, replayed};
use crate::support::ask::{accepted, put_dataset};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name};
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

const LOG: &str = include_str!("../fixtures/earlier_log.ndjson");
const VERSION: u64 = 8;
/// The first lines of it are within the import.
const WITHIN_IMPORT: usize = 4;

fn position(event: &str) -> (u64, u64) {
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    (event["graphversion"].as_u64().unwrap(), event["ordinal"].as_u64().unwrap())
}

/// A database that has the graph, and in which the earlier build had registered the export.
fn database(url: &str, acknowledged: u64) -> Site {
    let site = Site::on(Kind::Sqlite);
    let file = site.path("earlier.ndjson");
    std::fs::write(&file, LOG).unwrap();
    let run = |arguments: &[&str]| {
        let (code, said) = finish(site.fencepost(arguments));
        assert_eq!(code, Some(0), "{said}");
    };
    run(&["import", "--graph", GRAPH, "--format", "events", file.to_str().unwrap()]);
    run(&["migrate", "--revert", "9"]);
    let (scheme, rest) = url.split_once(':').unwrap();
    let shown = rest.rsplit_once('@').map_or(rest.to_owned(), |(_, rest)| format!("//{rest}"));
    site.run_sql(&format!(
        "INSERT INTO consumers (graph_id, name, acknowledged, acknowledged_at_ms) \
         SELECT id, 'export to {scheme}:{shown}', {acknowledged}, 1790000000000 FROM graphs"
    ));
    run(&["migrate"]);
    site
}

fn in_file(events: &[&str]) -> Place {
    let place = Place::file();
    let text: String = events.iter().map(|event| format!("{event}\n")).collect();
    std::fs::write(place.url.strip_prefix("file:").unwrap(), text).unwrap();
    place
}

fn in_redis(events: &[&str]) -> Place {
    let (redis, key) = (Redis::shared(), fresh());
    for event in events {
        let (version, ordinal) = position(event);
        redis.command(&["XADD", &key, &format!("{version}-{}", ordinal + 1), "event", event]);
    }
    Place::at(format!("{}/{key}", redis.url()))
}

fn in_nats(events: &[&str]) -> Place {
    let (nats, stream) = (Nats::shared(), fresh());
    let settings = format!(
        r#"{{"name":"{stream}","description":"the log of one graph, by Fencepost",
            "subjects":["fencepost.{stream}"],"retention":"limits","max_consumers":-1,
            "max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,
            "discard":"new","storage":"file","num_replicas":1,"duplicate_window":1000000000,
            "allow_direct":true,"deny_delete":true,"deny_purge":true}}"#
    );
    let made = nats.request(&format!("$JS.API.STREAM.CREATE.{stream}"), &settings);
    assert!(!made.contains("\"error\""), "{made}");
    for event in events {
        let stored = nats.request(&format!("fencepost.{stream}"), event);
        assert!(stored.contains("\"seq\""), "{stored}");
    }
    Place::at(format!("{}/{stream}", nats.url()))
}

fn in_postgres(events: &[&str]) -> Place {
    let (url, table) = (Postgres::shared().new_database(), fresh());
    let mut sql = PgConnection::establish(&url).unwrap();
    sql.batch_execute(&format!(
        "CREATE TABLE IF NOT EXISTS \"{table}\" (graph text COLLATE \"C\" NOT NULL, \
         version bigint NOT NULL, ordinal bigint NOT NULL, event text NOT NULL, \
         PRIMARY KEY (graph, version, ordinal))"
    ))
    .unwrap();
    for event in events {
        let (version, ordinal) = position(event);
        sql_query(format!("INSERT INTO \"{table}\" VALUES ($1, $2, $3, $4)"))
            .bind::<Text, _>(GRAPH)
            .bind::<BigInt, _>(version as i64)
            .bind::<BigInt, _>(ordinal as i64)
            .bind::<Text, _>(event)
            .execute(&mut sql)
            .unwrap();
    }
    Place::at(format!("{url}/{table}"))
}

/// Each puts events into a place of its own.
pub(super) const ENGINES: [fn(&[&str]) -> Place; 4] = [in_file, in_redis, in_nats, in_postgres];

#[test]
fn a_log_of_an_earlier_build_is_verified_and_an_export_resumes_after_it() {
    let events: Vec<&str> = LOG.lines().collect();
    for engine in ENGINES {
        let mut place = engine(&events);
        let site = database(&place.url, VERSION);
        let verify = site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]);
        let (code, said) = finish(verify);
        assert!(code == Some(0) && said.contains("versions 4 to 8, digest"), "{said}");
        assert!(said.contains("as in the database"), "{said}");
        // Its sink is asked where the consumer's name says that it is.
        let mut prune = site.fencepost(&["prune", "--graph", GRAPH, "--before", "6"]);
        prune.args(["--sink", &place.url]);
        let (code, said) = finish(prune);
        assert_eq!(code, Some(0), "{said}");
        let node = site.node();
        for dataset in ["late", "later"] {
            accepted(&node, [put_dataset(dataset)]);
        }
        let (code, said) = finish(export(&site, &place, &[]));
        assert!(code == Some(0) && said.contains("has version 8: going on after it"), "{said}");
        assert!(said.contains("exported 2 events"), "{said}");
        let told = replayed(&site, &mut place);
        assert_eq!((told.version, told.imports), (10, 1));
        assert_eq!(told.changes, [5, 6, 7, 8, 9, 10]);
        assert_eq!(place.events()[..events.len()], events, "what was there is as it was");
        let consumers = site.store_consumers();
        assert!(consumers.len() == 1 && consumers[0].1 == 10, "{consumers:?}");
        assert!(!consumers[0].0.as_str().contains("://"), "{consumers:?}");
    }
}

#[test]
fn an_import_that_an_earlier_build_left_unfinished_is_begun_anew() {
    let events: Vec<&str> = LOG.lines().take(WITHIN_IMPORT).collect();
    for engine in ENGINES {
        let mut place = engine(&events);
        let site = database(&place.url, 4);
        accepted(&site.node(), [put_dataset("late")]);
        let (code, said) = finish(export(&site, &place, &[]));
        assert!(code == Some(0) && said.contains("ends within an import"), "{said}");
        let told = replayed(&site, &mut place);
        assert_eq!((told.version, told.imports), (9, 2));
        assert_eq!(place.events()[..events.len()], events);
        assert_eq!(site.store_consumers().len(), 1);
    }
}

/// The last event is compared with the graph at that version.
#[test]
fn an_export_resumes_after_the_import_of_an_earlier_build() {
    let end = LOG.lines().position(|event| event.contains("import.ended")).unwrap();
    let events: Vec<&str> = LOG.lines().take(end + 1).collect();
    for engine in ENGINES {
        let mut place = engine(&events);
        let site = database(&place.url, 4);
        let (code, said) = finish(export(&site, &place, &[]));
        assert!(code == Some(0) && said.contains("has version 4: going on after it"), "{said}");
        assert_eq!(replayed(&site, &mut place).changes, [5, 6, 7, 8]);
        assert_eq!(place.events()[..events.len()], events);
    }
}

/// An earlier build of the database told when a consumer had acknowledged, and nothing else.
#[test]
fn a_consumer_of_an_earlier_build_was_last_seen_when_it_acknowledged() {
    let site = database("file:/log", 5);
    let (_, consumers) = site.store().consumers(&name(GRAPH)).unwrap().unwrap();
    let [consumer] = consumers.as_slice() else { panic!("{consumers:?}") };
    assert_eq!(consumer.acknowledged_at_ms, 1_790_000_000_000);
    assert_eq!(consumer.seen_at_ms, consumer.acknowledged_at_ms);
    assert!(consumer.is_waited_for && consumer.sink.is_none());
}
