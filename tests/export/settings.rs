//! Settings of an engine under which events would be lost, made while an exporter follows, and
//! events that were taken out by hand.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};

use super::kills::is_whole;
use super::places::refused;
use super::{Follower, Place, export, fresh};
use crate::support::ask::{accepted, put_dataset, put_job_with};
use crate::support::cluster::{GRAPH, Site, finish, wait_until};
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

/// A follower that has written all that there is.
pub(super) fn following(site: &Site, place: &Place) -> Follower {
    let follower = Follower::start(site, place);
    let head = site.head().version;
    wait_until("all is exported", || place.version() == Some(head));
    follower
}

#[track_caller]
fn assert_ends(follower: Follower, what: &str) {
    let (code, said) = follower.end();
    assert!(code == Some(1) && said.contains(what), "`{what}` is not in: {said}");
}

#[test]
fn limits_that_are_set_on_a_nats_stream_end_a_follower_with_the_command_that_takes_them_off() {
    let (nats, name, site) = (Nats::shared(), fresh(), Site::with_graph());
    let place = Place::at(format!("{}/{name}", nats.url()));
    let follower = following(&site, &place);
    let settings = format!(
        r#"{{"name":"{name}","subjects":["fencepost.{name}"],"storage":"file","deny_delete":true,
            "deny_purge":true,"allow_direct":true,"discard":"old","max_msgs":1000,
            "max_age":3600000000000}}"#
    );
    let answer = nats.request(&format!("$JS.API.STREAM.UPDATE.{name}"), &settings);
    assert!(!answer.contains("\"error\""), "{answer}");
    assert_ends(
        follower,
        &format!(
            "the limit max_msgs and max_age. Take it off: `nats stream edit {name} --max-msgs=-1 \
             --max-age=-1`"
        ),
    );
}

#[test]
fn a_time_to_live_of_a_redis_stream_ends_a_follower_and_evictions_are_warned_of() {
    let (redis, key, site) = (Redis::start(&[]), fresh(), Site::with_graph());
    let place = Place::at(format!("{}/{key}", redis.url()));
    let follower = following(&site, &place);
    follower.wait_until_it_says("CONFIG SET appendonly yes");
    redis.command(&["CONFIG", "SET", "maxmemory", "100mb"]);
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    follower.wait_until_it_says("CONFIG SET maxmemory-policy noeviction");
    redis.command(&["EXPIRE", &key, "1000"]);
    assert_ends(follower, &format!("`redis-cli PERSIST {key}`"));
    redis.command(&["PERSIST", &key]);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
}

#[test]
fn a_table_that_a_crash_would_empty_ends_a_follower_and_partitions_are_warned_of() {
    let url = Postgres::shared().new_database();
    let mut sql = PgConnection::establish(&url).unwrap();
    let site = Site::with_graph();
    let mut place = Place::at(format!("{url}/journal"));
    place.stream = site.stream();
    let follower = following(&site, &place);
    sql.batch_execute("ALTER TABLE journal SET UNLOGGED").unwrap();
    assert_ends(follower, "ALTER TABLE \"journal\" SET LOGGED");

    sql.batch_execute(
        "CREATE TABLE parted (graph text COLLATE \"C\" NOT NULL, version bigint NOT NULL,
             ordinal bigint NOT NULL, event text NOT NULL, PRIMARY KEY (graph, version, ordinal))
             PARTITION BY RANGE (version);
         CREATE TABLE early PARTITION OF parted FOR VALUES FROM (0) TO (1000);",
    )
    .unwrap();
    let mut parted = Place::at(format!("{url}/parted"));
    let (code, said) = finish(export(&site, &parted, &[]));
    assert!(code == Some(0) && said.contains("\"parted\" has partitions: whoever drops"), "{said}");
    is_whole(&site, &mut parted);
    sql.batch_execute(
        "CREATE UNLOGGED TABLE late PARTITION OF parted FOR VALUES FROM (1000) TO (2000)",
    )
    .unwrap();
    refused(export(&site, &parted, &[]), 1, "a crash would empty its partitions late");
}

#[test]
fn entries_that_were_deleted_from_the_end_of_a_redis_stream_are_named_with_what_brings_them_back() {
    let (redis, key, site) = (Redis::shared(), fresh(), Site::with_graph());
    let mut place = Place::at(format!("{}/{key}", redis.url()));
    accepted(&site.node(), [put_dataset("second")]);
    accepted(&site.node(), [put_dataset("third")]);
    assert_eq!(finish(export(&site, &place, &["--after", "0"])).0, Some(0));
    redis.command(&["XDEL", &key, "3-1", "2-1"]);
    let mend = format!("XSETID {key} 1-1 ENTRIESADDED 1 MAXDELETEDID 0-0");
    refused(export(&site, &place, &[]), 1, "its entries after 1-1, up to 3-1, were deleted (XDEL)");
    refused(export(&site, &place, &[]), 1, &mend);
    assert_eq!(site.store_consumers()[0].1, 1, "what was acknowledged is taken back");
    redis.command(&mend.split(' ').collect::<Vec<_>>());
    let (code, said) = finish(export(&site, &place, &[]));
    assert!(code == Some(0) && !said.contains("were deleted"), "{said}");
    assert_eq!(is_whole(&site, &mut place).changes, [1, 2, 3]);
}

#[test]
fn a_redis_stream_that_was_emptied_is_begun_anew_as_it_is_said() {
    let (redis, key, site) = (Redis::shared(), fresh(), Site::with_graph());
    let mut place = Place::at(format!("{}/{key}", redis.url()));
    let follower = following(&site, &place);
    redis.command(&["XTRIM", &key, "MAXLEN", "0"]);
    assert_ends(follower, &format!("To begin anew with the whole graph: `redis-cli DEL {key}`"));
    redis.command(&["DEL", &key]);
    assert_eq!(is_whole(&site, &mut place).imports, 1);
    assert_eq!(site.store_consumers().len(), 1);
    // What is taken from its beginning leaves a log that can be gone on with, and not verified.
    redis.command(&["XTRIM", &key, "MAXLEN", "2"]);
    let (code, said) = finish(export(&site, &place, &[]));
    assert!(
        code == Some(0) && said.contains("1 of its entries were deleted (XDEL or XTRIM)"),
        "{said}"
    );
    let verify = site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]);
    assert_eq!(finish(verify).0, Some(1));
}

/// The command that a message gives, by which a log is begun anew.
fn command_in(said: &str) -> String {
    let (_, after) = said.split_once("begin anew with the whole graph: `").expect(said);
    after.split_once('`').unwrap().0.to_owned()
}

/// Its first event is deleted by hand, which leaves an import without its beginning.
fn a_log_without_its_beginning_is_named(
    place: &mut Place,
    delete_first: impl FnOnce(),
    run: impl FnOnce(&str),
) {
    let site = Site::with_graph();
    assert_eq!(finish(export(&site, place, &[])).0, Some(0));
    delete_first();
    accepted(&site.node(), [put_dataset("more")]);
    let (code, said) = finish(export(&site, place, &[]));
    let what = "its beginning is missing: it begins within an import";
    assert!(code == Some(0) && said.contains(what), "{said}");
    let (code, said) = finish(site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]));
    assert!(code == Some(1) && said.contains("what the graph was before is not in it"), "{said}");
    run(&command_in(&said));
    assert_eq!(is_whole(&site, place).imports, 1);
}

#[test]
fn a_file_without_its_beginning_is_named_and_begun_anew_as_it_is_said() {
    let mut place = Place::file();
    let path = place.url.strip_prefix("file:").unwrap().to_owned();
    let delete_first = || {
        let log = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, log.split_once('\n').unwrap().1).unwrap();
    };
    let run = |command: &str| {
        let ran = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(ran.success(), "{command}");
    };
    a_log_without_its_beginning_is_named(&mut place, delete_first, run);
}

#[test]
fn a_redis_stream_without_its_beginning_is_named_and_begun_anew_as_it_is_said() {
    let (redis, key) = (Redis::shared(), fresh());
    let mut place = Place::at(format!("{}/{key}", redis.url()));
    a_log_without_its_beginning_is_named(
        &mut place,
        || drop(redis.command(&["XDEL", &key, "1-1"])),
        |command| {
            let words: Vec<&str> = command.split(' ').collect();
            assert_eq!(words[0], "redis-cli");
            redis.command(&words[1..]);
        },
    );
}

#[test]
fn a_nats_stream_without_its_beginning_is_named_and_begun_anew_as_it_is_said() {
    let nats = Nats::shared();
    let (name, mut place) = purgeable(nats);
    let ask = |what: &str, settings: &str| {
        let answer = nats.request(&format!("$JS.API.STREAM.{what}.{name}"), settings);
        assert!(!answer.contains("\"error\""), "{answer}");
    };
    a_log_without_its_beginning_is_named(
        &mut place,
        || ask("PURGE", r#"{"seq":2}"#),
        |command| {
            assert_eq!(command, format!("nats stream rm {name}"));
            ask("DELETE", "");
        },
    );
}

#[test]
fn a_table_without_its_beginning_is_named_and_begun_anew_as_it_is_said() {
    let url = Postgres::shared().new_database();
    let mut place = Place::at(format!("{url}/journal"));
    let run = |statement: &str| {
        PgConnection::establish(&url).unwrap().batch_execute(statement).unwrap();
    };
    let delete_first = || run("DELETE FROM journal WHERE ordinal = 0 AND version = 1");
    a_log_without_its_beginning_is_named(&mut place, delete_first, run);
}

/// As when somebody drops the oldest partition.
#[test]
fn a_follower_warns_when_the_oldest_rows_of_its_table_are_deleted() {
    let (url, site) = (Postgres::shared().new_database(), Site::with_graph());
    let mut place = Place::at(format!("{url}/journal"));
    place.stream = site.stream();
    for dataset in ["second", "third"] {
        accepted(&site.node(), [put_dataset(dataset)]);
    }
    assert_eq!(finish(export(&site, &place, &["--after", "0"])).0, Some(0));
    let follower = following(&site, &place);
    // What it follows it has looked at from the beginning.
    accepted(&site.node(), [put_dataset("fourth")]);
    let head = site.head().version;
    wait_until("it follows", || place.version() == Some(head));
    PgConnection::establish(&url)
        .unwrap()
        .batch_execute("DELETE FROM journal WHERE version < 3")
        .unwrap();
    follower.wait_until_it_says("its beginning is missing: it began at version 1, and now at");
}

#[test]
fn a_table_that_was_dropped_ends_a_follower_and_the_next_export_makes_a_new_one() {
    let (url, site) = (Postgres::shared().new_database(), Site::with_graph());
    let mut place = Place::at(format!("{url}/journal"));
    place.stream = site.stream();
    let follower = following(&site, &place);
    PgConnection::establish(&url).unwrap().batch_execute("DROP TABLE journal").unwrap();
    assert_ends(follower, "the table was dropped. Start again to make a new one");
    assert_eq!(is_whole(&site, &mut place).imports, 1);
}

/// A stream that was made in advance, and may be purged.
pub(super) fn purgeable(nats: &Nats) -> (String, Place) {
    let name = fresh();
    let settings =
        format!(r#"{{"name":"{name}","subjects":["fencepost.{name}"],"storage":"file"}}"#);
    let answer = nats.request(&format!("$JS.API.STREAM.CREATE.{name}"), &settings);
    assert!(!answer.contains("\"error\""), "{answer}");
    let place = Place::at(format!("{}/{name}", nats.url()));
    (name, place)
}

#[test]
fn a_nats_stream_that_was_purged_gets_the_whole_graph_again() {
    let (nats, site) = (Nats::shared(), Site::with_graph());
    let (name, mut place) = purgeable(nats);
    accepted(&site.node(), [put_dataset("second")]);
    let follower = following(&site, &place);
    let answer = nats.request(&format!("$JS.API.STREAM.PURGE.{name}"), "");
    assert!(!answer.contains("\"error\""), "{answer}");
    follower.wait_until_it_says("its last event is none");
    wait_until("all is exported again", || place.version() == Some(2));
    drop(follower);
    assert_eq!(is_whole(&site, &mut place).imports, 1);
}

#[test]
fn a_message_that_was_deleted_from_the_end_of_a_nats_stream_is_written_again() {
    let (nats, site) = (Nats::shared(), Site::with_graph());
    let (name, mut place) = purgeable(nats);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    accepted(&site.node(), [put_dataset("second")]);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    let answer = nats.request(&format!("$JS.API.STREAM.MSG.DELETE.{name}"), r#"{"seq":4}"#);
    assert!(!answer.contains("\"error\""), "{answer}");
    let (code, said) = finish(export(&site, &place, &[]));
    assert!(code == Some(0) && said.contains("is taken back to 1"), "{said}");
    assert!(said.contains("1 of its messages were purged or deleted"), "{said}");
    assert_eq!(is_whole(&site, &mut place).changes, [2]);
}

/// The server answers in another form.
#[test]
fn the_third_protocol_of_redis_tells_the_same() {
    let (redis, key, site) = (Redis::start(&[]), fresh(), Site::with_graph());
    let mut place = Place::at(format!("{}/{key}?protocol=3", redis.url()));
    accepted(&site.node(), [put_dataset("second")]);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    is_whole(&site, &mut place);
    redis.command(&["CONFIG", "SET", "proto-max-bulk-len", "1mb"]);
    redis.command(&["XTRIM", &key, "MAXLEN", "2"]);
    let (code, said) = finish(export(&site, &place, &[]));
    assert!(code == Some(0) && said.contains("of its entries were deleted"), "{said}");
    let spec = format!("{{\"x\":\"{}\"}}", "y".repeat(1_500_000));
    accepted(&site.node(), [put_job_with("large", &[], &[], &spec)]);
    refused(export(&site, &place, &[]), 1, "raise proto-max-bulk-len");
}
