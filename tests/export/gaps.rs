//! Sinks that events were deleted from, where what is left does not follow one another: an export
//! does not acknowledge what is missing, and a prune does not remove it.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};

use super::kills::is_whole;
use super::places::refused;
use super::settings::{following, purgeable};
use super::{Follower, Place, export, fresh};
use crate::support::ask::{accepted, put_dataset};
use crate::support::cluster::{GRAPH, Site, finish, wait_until};
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

fn write(site: &Site, names: &[&str]) {
    let node = site.node();
    for name in names {
        accepted(&node, [put_dataset(name)]);
    }
}

fn acknowledged(site: &Site) -> u64 {
    site.store_consumers()[0].1
}

fn wait_for(site: &Site, version: u64) {
    wait_until(&format!("version {version} is acknowledged"), || {
        site.store_consumers().first().is_some_and(|(_, acknowledged)| *acknowledged == version)
    });
}

fn prune(site: &Site, before: &str) -> std::process::Command {
    site.fencepost(&["prune", "--graph", GRAPH, "--before", before])
}

fn ask(nats: &Nats, stream: &str, what: &str, settings: &str) {
    let answer = nats.request(&format!("$JS.API.STREAM.{what}.{stream}"), settings);
    assert!(!answer.contains("\"error\""), "{answer}");
}

fn last_sequence(nats: &Nats, stream: &str) -> u64 {
    let told = nats.request(&format!("$JS.API.STREAM.INFO.{stream}"), "");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    told["state"]["last_seq"].as_u64().unwrap()
}

/// Takes events out and writes at once, before the follower looks; its looks may fall between the
/// two all the same, and then it writes again what is missing, so that it is done once more.
/// Returns the version that was written last, and how the follower ended.
fn deleted_and_written(site: &Site, follower: Follower, delete: impl Fn()) -> (u64, String) {
    for n in 0.. {
        let version = site.head().version;
        wait_for(site, version);
        let said = follower.said().len();
        delete();
        write(site, &[&format!("next {n}")]);
        wait_until("the follower looks", || {
            let text = follower.said();
            text[said..].contains("put back to an older state") || text[said..].contains(" lacks ")
        });
        if follower.said()[said..].contains(" lacks ") {
            let (code, said) = follower.end();
            assert_eq!(code, Some(1), "{said}");
            return (version + 1, said);
        }
    }
    unreachable!("it ends above")
}

#[test]
fn a_follower_does_not_go_on_after_messages_that_were_deleted_before_its_last_write() {
    let (nats, site) = (Nats::shared(), Site::with_graph());
    let (name, mut place) = purgeable(nats);
    write(&site, &["two", "three"]);
    let follower = following(&site, &place);
    // Changes after the import: what is deleted is not its end.
    wait_for(&site, 3);
    write(&site, &["four", "five"]);
    let delete = || {
        let last = last_sequence(nats, &name);
        ask(nats, &name, "MSG.DELETE", &format!(r#"{{"seq":{last}}}"#));
    };
    let (version, said) = deleted_and_written(&site, follower, delete);
    let hole = format!("lacks events between version {} and version {version}", version - 2);
    assert!(said.contains(&hole), "{said}");
    assert!(said.contains(&format!("is taken back to {}", version - 2)), "{said}");
    // Nor does the next one, and nothing that is missing is pruned.
    refused(export(&site, &place, &[]), 1, &hole);
    assert_eq!(acknowledged(&site), version - 2);
    assert_eq!(finish(prune(&site, &version.to_string())).0, Some(1));
    assert!(said.contains(&format!("`nats stream rm {name}`, then export again")), "{said}");
    ask(nats, &name, "DELETE", "");
    assert_eq!(finish(export(&site, &place, &["--consumer", "another"])).0, Some(0));
    assert_eq!(is_whole(&site, &mut place).imports, 1);
}

#[test]
fn a_follower_does_not_go_on_in_a_stream_that_was_purged_before_its_last_write() {
    let (nats, site) = (Nats::shared(), Site::with_graph());
    let (name, place) = purgeable(nats);
    write(&site, &["two", "three"]);
    let follower = following(&site, &place);
    let (version, said) = deleted_and_written(&site, follower, || ask(nats, &name, "PURGE", ""));
    let hole = format!("lacks the events before version {version}");
    assert!(said.contains(&hole) && said.contains("is taken back to 0"), "{said}");
    assert_eq!(finish(prune(&site, &version.to_string())).0, Some(1));
}

/// Nobody exports: pruning itself asks.
fn pruning_finds_the_hole(place: &Place, delete: impl FnOnce()) {
    let site = Site::with_graph();
    write(&site, &["two", "three", "four", "five"]);
    assert_eq!(finish(export(&site, place, &[])).0, Some(0));
    write(&site, &["six", "seven", "eight", "nine"]);
    assert_eq!(finish(export(&site, place, &[])).0, Some(0));
    delete();
    refused(prune(&site, "9"), 1, "lacks events between version 6 and version 8. ");
    assert_eq!(site.head().oldest, 1, "nothing was pruned");
    // It has all that is before the hole.
    assert_eq!(finish(prune(&site, "7")).0, Some(0));
}

#[test]
fn a_hole_in_a_nats_stream_keeps_the_log_from_being_pruned() {
    let nats = Nats::shared();
    let (name, place) = purgeable(nats);
    let delete = || {
        // The last is version 9.
        let sequence = last_sequence(nats, &name) - 2;
        ask(nats, &name, "MSG.DELETE", &format!(r#"{{"seq":{sequence}}}"#));
    };
    pruning_finds_the_hole(&place, delete);
}

#[test]
fn a_hole_in_a_redis_stream_keeps_the_log_from_being_pruned() {
    let (redis, key) = (Redis::shared(), fresh());
    let place = Place::at(format!("{}/{key}", redis.url()));
    pruning_finds_the_hole(&place, || drop(redis.command(&["XDEL", &key, "7-1"])));
}

#[test]
fn a_hole_in_a_table_keeps_the_log_from_being_pruned() {
    let url = Postgres::shared().new_database();
    let place = Place::at(format!("{url}/journal"));
    pruning_finds_the_hole(&place, || {
        let mut sql = PgConnection::establish(&url).unwrap();
        sql.batch_execute("DELETE FROM journal WHERE version = 7").unwrap();
    });
}

#[test]
fn what_was_deleted_from_the_end_and_written_again_is_no_hole() {
    let (nats, site) = (Nats::shared(), Site::with_graph());
    let (name, mut place) = purgeable(nats);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    write(&site, &["two", "three"]);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    for sequence in [4, 5] {
        ask(nats, &name, "MSG.DELETE", &format!(r#"{{"seq":{sequence}}}"#));
    }
    let (code, said) = finish(export(&site, &place, &[]));
    assert!(code == Some(0) && said.contains("is taken back to 1"), "{said}");
    write(&site, &["four"]);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    assert_eq!(is_whole(&site, &mut place).changes, [2, 3, 4]);
    assert_eq!(finish(prune(&site, "4")).0, Some(0));
}

#[test]
fn a_pipe_in_the_place_of_a_sink_is_told_at_once() {
    let (site, place) = (Site::with_graph(), Place::file());
    write(&site, &["two", "three"]);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    let path = place.url.strip_prefix("file:").unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let what = "it is a pipe or a device, and its last event cannot be asked for";
    let freeze = ["freeze", "--graph", GRAPH, "--sink", &place.url, "--wait-seconds", "600"];
    refused(site.fencepost(&freeze), 1, what);
    write(&site, &["not frozen"]);
    refused(prune(&site, "3"), 3, what);
    let given = ["prune", "--graph", GRAPH, "--before", "3", "--sink", &place.url];
    refused(site.fencepost(&given), 3, what);
}

#[test]
fn what_a_sink_ends_with_that_is_no_event_is_told() {
    let (site, place) = (Site::with_graph(), Place::file());
    write(&site, &["two", "three"]);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    let path = place.url.strip_prefix("file:").unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, log + "garbage\n").unwrap();
    refused(prune(&site, "3"), 1, "ends with what is no event (");
}

#[test]
fn a_sink_that_belongs_to_no_consumer_is_not_given_to_a_prune_in_vain() {
    for other in [Place::file(), Place::redis(), Place::nats(), Place::postgres()] {
        let (site, place) = (Site::with_graph(), Place::file());
        write(&site, &["two", "three"]);
        assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
        let given = ["prune", "--graph", GRAPH, "--before", "3", "--sink", &other.url];
        let reason = format!("belongs to no consumer of graph `{GRAPH}`");
        refused(site.fencepost(&given), 1, &reason);
        assert_eq!(finish(export(&site, &other, &["--no-consumer"])).0, Some(0));
        refused(site.fencepost(&given), 1, &reason);
        assert_eq!(site.head().oldest, 1, "nothing was pruned");
        let given = ["prune", "--graph", GRAPH, "--before", "3", "--sink", &place.url];
        assert_eq!(finish(site.fencepost(&given)).0, Some(0));
    }
}

#[test]
fn a_file_that_could_not_be_begun_is_not_made() {
    let (site, place) = (Site::with_graph(), Place::file());
    write(&site, &["two", "three", "four"]);
    assert_eq!(finish(prune(&site, "4")).0, Some(0));
    refused(export(&site, &place, &["--after", "2"]), 1, "the changes after version 2 were pruned");
    let path = place.url.strip_prefix("file:").unwrap();
    assert!(!std::path::Path::new(path).exists());
    assert_eq!(finish(export(&site, &place, &["--after", "3"])).0, Some(0));
}
