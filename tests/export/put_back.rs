//! Sinks that are put back to what they were before: a backup was restored, a file cut off, rows
//! were deleted.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};

use super::kills::is_whole;
use super::places::refused;
use super::{Follower, Place, export, fresh, replayed};
use crate::support::ask::{accepted, put_dataset};
use crate::support::cluster::{GRAPH, Site, finish, wait_until};
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

/// A sink that can be put back.
struct Sink<'s> {
    place: Place,
    /// Keeps what it has.
    keep: Box<dyn FnMut() + 's>,
    /// Puts back what was kept.
    put_back: Box<dyn FnMut() + 's>,
}

fn path_of(place: &Place) -> String {
    place.url.strip_prefix("file:").unwrap().to_owned()
}

fn with_file(test: impl FnOnce(Sink<'_>)) {
    let place = Place::file();
    let (from, to) = (path_of(&place), path_of(&place));
    test(Sink {
        place,
        keep: Box::new(move || {
            std::fs::copy(&from, format!("{from}.kept")).unwrap();
        }),
        put_back: Box::new(move || {
            std::fs::write(&to, std::fs::read(format!("{to}.kept")).unwrap()).unwrap();
        }),
    });
}

/// The restored file is another one under the same name.
fn with_replaced_file(test: impl FnOnce(Sink<'_>)) {
    let place = Place::file();
    let (from, to) = (path_of(&place), path_of(&place));
    test(Sink {
        place,
        keep: Box::new(move || {
            std::fs::copy(&from, format!("{from}.kept")).unwrap();
        }),
        put_back: Box::new(move || std::fs::rename(format!("{to}.kept"), &to).unwrap()),
    });
}

fn with_redis(test: impl FnOnce(Sink<'_>)) {
    let (redis, key) = (Redis::shared(), fresh());
    let kept = format!("{key}:kept");
    test(Sink {
        place: Place::at(format!("{}/{key}", redis.url())),
        keep: Box::new(|| drop(redis.command(&["COPY", &key, &kept]))),
        put_back: Box::new(|| drop(redis.command(&["RENAME", &kept, &key]))),
    });
}

fn with_nats(test: impl FnOnce(Sink<'_>)) {
    let nats = std::cell::RefCell::new(Nats::start(""));
    let copy = std::cell::RefCell::new(None);
    let place = Place::at(format!("{}/{}", nats.borrow().url(), fresh()));
    test(Sink {
        place,
        keep: Box::new(|| {
            nats.borrow_mut().kill();
            *copy.borrow_mut() = Some(nats.borrow().copy());
            nats.borrow_mut().start_again();
        }),
        put_back: Box::new(|| {
            nats.borrow_mut().kill();
            nats.borrow().replace(copy.borrow().as_deref().unwrap());
            nats.borrow_mut().start_again();
        }),
    });
}

fn with_postgres(test: impl FnOnce(Sink<'_>)) {
    let url = Postgres::shared().new_database();
    let sql = || PgConnection::establish(&url).unwrap();
    test(Sink {
        place: Place::at(format!("{url}/journal")),
        keep: Box::new(|| {
            sql().batch_execute("CREATE TABLE kept AS SELECT * FROM journal").unwrap();
        }),
        put_back: Box::new(|| {
            let put_back =
                "BEGIN; TRUNCATE journal; INSERT INTO journal SELECT * FROM kept; COMMIT";
            sql().batch_execute(put_back).unwrap();
        }),
    });
}

fn write_five(site: &Site) {
    let node = site.node();
    for n in 0..5 {
        accepted(&node, [put_dataset(&format!("lost and found {n}"))]);
    }
}

fn wait_for(site: &Site, place: &Place, version: u64) {
    wait_until(&format!("version {version} is exported"), || place.version() == Some(version));
    wait_until(&format!("version {version} is acknowledged"), || {
        site.store_consumers().first().is_some_and(|(_, acknowledged)| *acknowledged == version)
    });
}

/// A follower of six versions, whose sink was put back to the first.
fn followed_and_put_back(sink: &mut Sink<'_>) -> (Site, Follower) {
    let site = Site::with_graph();
    sink.place.stream = site.stream();
    let follower = Follower::start(&site, &sink.place);
    wait_for(&site, &sink.place, 1);
    (sink.keep)();
    write_five(&site);
    wait_for(&site, &sink.place, 6);
    (sink.put_back)();
    (site, follower)
}

/// The follower has nothing to write, and notices all the same.
fn it_is_noticed_while_nothing_is_written(mut sink: Sink<'_>) {
    let (site, follower) = followed_and_put_back(&mut sink);
    follower.wait_until_it_says("is taken back to 1");
    wait_for(&site, &sink.place, 6);
    drop(follower);
    assert_eq!(is_whole(&site, &mut sink.place).changes, [2, 3, 4, 5, 6]);
}

/// The next write finds another end than the follower left, and no other exporter is to blame.
fn the_next_write_goes_on_from_there(mut sink: Sink<'_>) {
    let (site, follower) = followed_and_put_back(&mut sink);
    accepted(&site.node(), [put_dataset("next")]);
    wait_for(&site, &sink.place, 7);
    follower.wait_until_it_says("is taken back to 1");
    assert!(!follower.said().contains("has another exporter"), "{}", follower.said());
    drop(follower);
    assert_eq!(is_whole(&site, &mut sink.place).changes, [2, 3, 4, 5, 6, 7]);
}

/// Nobody follows: pruning itself asks.
fn pruning_does_not_remove_what_it_lacks(mut sink: Sink<'_>) {
    let site = Site::with_graph();
    let prune = || site.fencepost(&["prune", "--graph", GRAPH, "--before", "5"]);
    assert_eq!(finish(export(&site, &sink.place, &[])).0, Some(0));
    (sink.keep)();
    write_five(&site);
    assert_eq!(finish(export(&site, &sink.place, &[])).0, Some(0));
    (sink.put_back)();
    refused(prune(), 1, "has acknowledged version 6, and ");
    refused(prune(), 1, " has version 1. Let `fencepost export` write the rest there again");
    let (code, said) = finish(export(&site, &sink.place, &[]));
    assert!(code == Some(0) && said.contains("is taken back to 1"), "{said}");
    assert_eq!(finish(prune()).0, Some(0));
    accepted(&site.node(), [put_dataset("afterwards")]);
    assert_eq!(replayed(&site, &mut sink.place).changes, [2, 3, 4, 5, 6, 7]);
}

macro_rules! every_sink {
    ($($engine:ident $with:ident)*) => {
        $(mod $engine {
            #[test]
            fn that_is_put_back_while_its_follower_is_idle_gets_what_is_missing() {
                super::$with(super::it_is_noticed_while_nothing_is_written);
            }
            #[test]
            fn that_is_put_back_before_the_next_write_gets_what_is_missing() {
                super::$with(super::the_next_write_goes_on_from_there);
            }
            #[test]
            fn that_was_put_back_keeps_the_log_from_being_pruned() {
                super::$with(super::pruning_does_not_remove_what_it_lacks);
            }
        })*
    };
}

every_sink! {
    a_file with_file
    a_replaced_file with_replaced_file
    a_redis_stream with_redis
    a_nats_stream with_nats
    a_postgres_table with_postgres
}

#[test]
fn a_sink_that_forgot_all_gets_the_whole_graph_again_and_keeps_its_consumer() {
    let mut redis = Redis::start(&[]);
    let (site, mut place) = (Site::with_graph(), Place::at(format!("{}/{}", redis.url(), fresh())));
    write_five(&site);
    let follower = Follower::start(&site, &place);
    wait_for(&site, &place, 6);
    let name = site.store_consumers()[0].0.clone();
    redis.kill();
    redis.start_again();
    follower.wait_until_it_says("is taken back to 0");
    wait_for(&site, &place, 6);
    drop(follower);
    assert_eq!(is_whole(&site, &mut place).imports, 1);
    let consumers = site.store_consumers();
    assert!(consumers.len() == 1 && consumers[0].0 == name, "{consumers:?}");
}

#[test]
fn what_was_pruned_cannot_be_written_again_and_the_export_says_so() {
    let (site, place) = (Site::with_graph(), Place::file());
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    let path = path_of(&place);
    let older = std::fs::read(&path).unwrap();
    write_five(&site);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    assert_eq!(finish(site.fencepost(&["prune", "--graph", GRAPH, "--before", "5"])).0, Some(0));
    std::fs::write(&path, older).unwrap();
    let (code, said) = finish(export(&site, &place, &[]));
    assert!(code == Some(1) && said.contains("the changes after version 1 were pruned"), "{said}");
    assert_eq!(site.store_consumers()[0].1, 4, "no less than what was pruned");
}

#[test]
fn a_sink_that_cannot_be_asked_is_named_and_the_prune_goes_on_only_if_told_to() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--requirepass", "hemlock"]);
    let key = fresh();
    let place = Place::at(format!("redis://:hemlock@127.0.0.1:{}/0/{key}", redis.port()));
    let site = Site::with_graph();
    write_five(&site);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    let prune = |before: &str, more: &[&str]| {
        site.fencepost(&[&["prune", "--graph", GRAPH, "--before", before][..], more].concat())
    };
    let (code, said) = finish(prune("3", &[]));
    assert!(code == Some(3) && said.contains("acknowledged: consumer `export to"), "{said}");
    assert!(said.contains("--unreachable-ok") && !said.contains("hemlock"), "{said}");
    // With its password, also by another name of the same server.
    let by_name = place.url.replace("127.0.0.1", "localhost");
    let (code, said) = finish(prune("3", &["--sink", &by_name]));
    assert!(code == Some(0) && said.contains("changes before 3 are gone"), "{said}");
    redis.kill();
    let (code, said) = finish(prune("4", &["--sink", &place.url, "--unreachable-ok"]));
    assert!(code == Some(0) && said.contains("not asked: consumer `export to"), "{said}");
    redis.start_again();
    // Another sink does not speak for it.
    let other = Redis::shared();
    let other = format!("{}/{key}", other.url());
    refused(prune("5", &["--sink", &other]), 1, "belongs to no consumer of graph");
    refused(prune("5", &[]), 3, "acknowledged: consumer `export to");
    // And who needs nothing of what would go is not asked.
    assert_eq!(finish(prune("4", &[])).0, Some(0));
}

/// The same path on another machine is another file.
#[test]
fn a_file_of_another_machine_is_not_asked() {
    let (site, place) = (Site::with_graph(), Place::file());
    write_five(&site);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    site.run_sql("UPDATE consumers SET sink_identity = sink_identity || ' elsewhere'");
    let prune = |more: &[&str]| {
        site.fencepost(&[&["prune", "--graph", GRAPH, "--before", "3"][..], more].concat())
    };
    refused(prune(&[]), 3, "is another place than the one it wrote to");
    assert_eq!(finish(prune(&["--unreachable-ok"])).0, Some(0));
}
