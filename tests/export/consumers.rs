//! Under which name an export is a consumer, and for how long pruning waits for it.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use fencepost::store::Consumer;

use super::kills::pause;
use super::{Follower, Place, export, fresh};
use crate::support::ask::{accepted, put_dataset};
use crate::support::cluster::{GRAPH, Site, finish, name, wait_until};
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

fn consumers(site: &Site) -> Vec<Consumer> {
    site.store().consumers(&name(GRAPH)).unwrap().unwrap().1
}

#[track_caller]
fn exported(site: &Site, url: &str) {
    let (code, said) = finish(export(site, &Place::at(url.to_owned()), &[]));
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn one_table_name_in_two_schemas_is_two_consumers_and_the_slower_one_keeps_its_tail() {
    let site = Site::with_graph();
    let server = Postgres::shared();
    let url = server.new_database();
    let database = url.rsplit_once('/').unwrap().1;
    let (one, two) = (fresh(), fresh());
    let mut sql = PgConnection::establish(&url).unwrap();
    for role in [&one, &two] {
        sql.batch_execute(&format!(
            "CREATE ROLE {role} LOGIN; CREATE SCHEMA {role} AUTHORIZATION {role};"
        ))
        .unwrap();
    }
    let url =
        |role: &str| format!("postgres://{role}@127.0.0.1:{}/{database}/journal", server.port());
    exported(&site, &url(&one));
    exported(&site, &url(&two));
    let found = consumers(&site);
    assert_eq!(found.len(), 2, "{found:?}");
    for role in [&one, &two] {
        let table = format!("export to Postgres table {database}.{role}.journal of system ");
        assert!(found.iter().any(|one| one.name.as_str().starts_with(&table)), "{found:?}");
    }
    for n in 0..5 {
        accepted(&site.node(), [put_dataset(&format!("d{n}"))]);
    }
    exported(&site, &url(&one));
    let (code, said) = finish(site.fencepost(&["prune", "--graph", GRAPH, "--before", "5"]));
    assert!(code == Some(1) && said.contains(&format!(".{two}.journal")), "{said}");
    exported(&site, &url(&two));
}

#[test]
fn one_sink_is_one_consumer_whichever_way_leads_there() {
    let site = Site::with_graph();
    let place = Place::file();
    let path = std::path::PathBuf::from(place.url.strip_prefix("file:").unwrap());
    let directory = path.parent().unwrap();
    let link = site.path("link");
    std::os::unix::fs::symlink(directory, &link).unwrap();
    exported(&site, &place.url);
    exported(&site, &format!("file:{}/log.ndjson", link.display()));
    exported(
        &site,
        &format!(
            "file:{}/../{}/log.ndjson",
            directory.display(),
            directory.file_name().unwrap().to_str().unwrap()
        ),
    );
    let mut relative = site.fencepost(&["export", "--graph", GRAPH, "--to", "file:log.ndjson"]);
    relative.current_dir(directory);
    if site.database_url().starts_with("sqlite:/") || !site.database_url().starts_with("sqlite:") {
        assert_eq!(finish(relative).0, Some(0));
    }
    std::os::unix::fs::symlink(&path, directory.join("symlink")).unwrap();
    exported(&site, &format!("file:{}/symlink", directory.display()));
    assert_eq!(consumers(&site).len(), 1, "{:?}", consumers(&site));

    for place in [Place::redis(), Place::nats(), Place::postgres()] {
        let site = Site::with_graph();
        exported(&site, &place.url);
        exported(&site, &place.url.replace("127.0.0.1", "localhost"));
        assert_eq!(consumers(&site).len(), 1, "{:?}", consumers(&site));
    }
}

/// Whoever may only write and read the stream exports as before.
#[test]
fn an_export_by_a_redis_user_of_few_rights_is_named_after_the_server() {
    let (redis, key, site) = (Redis::start(&[]), fresh(), Site::with_graph());
    let keys = format!("~{key}");
    let rights =
        ["-@all", "+type", "+xadd", "+xrange", "+xrevrange", "+eval", "+evalsha", "+script"];
    redis.command(&[&["ACL", "SETUSER", "cook", "on", ">hemlock", &keys][..], &rights].concat());
    let url = format!("redis://cook:hemlock@127.0.0.1:{}/{key}", redis.port());
    exported(&site, &url);
    accepted(&site.node(), [put_dataset("more")]);
    exported(&site, &url);
    let found = consumers(&site);
    let named = format!("export to Redis stream {key} at 127.0.0.1:{}", redis.port());
    assert!(found.len() == 1 && found[0].name.as_str() == named, "{found:?}");
    assert!(!format!("{found:?}").contains("hemlock"), "{found:?}");
}

#[test]
fn an_export_is_the_same_consumer_after_its_engine_was_started_again() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut nats = Nats::start("");
    let mut postgres = Postgres::start(&[]);
    let site = Site::with_graph();
    let urls = [
        format!("{}/{}", redis.url(), fresh()),
        format!("{}/{}", nats.url(), fresh()),
        format!("{}/{}", postgres.url("postgres"), fresh()),
    ];
    urls.iter().for_each(|url| exported(&site, url));
    let before: Vec<_> = site.store_consumers();
    assert_eq!(before.len(), 3, "{before:?}");
    redis.kill();
    redis.start_again();
    nats.kill();
    nats.start_again();
    postgres.crash();
    postgres.start_again();
    urls.iter().for_each(|url| exported(&site, url));
    assert_eq!(site.store_consumers(), before);
}

/// As builds called it that named exports after their URLs.
#[test]
fn an_export_finds_its_consumer_under_its_former_name() {
    for place in [Place::file(), Place::redis(), Place::nats(), Place::postgres()] {
        let site = Site::with_graph();
        exported(&site, &place.url);
        let new = site.store_consumers()[0].0.clone();
        let (scheme, rest) = place.url.split_once(':').unwrap();
        let shown = rest.rsplit_once('@').map_or(rest.to_owned(), |(_, rest)| format!("//{rest}"));
        let former = format!("export to {scheme}:{shown}");
        site.run_sql(&format!(
            "UPDATE consumers SET name = '{former}', sink = NULL, sink_identity = NULL"
        ));
        accepted(&site.node(), [put_dataset("more")]);
        // Pruning asks it by that name, as it always was.
        let prune = site.fencepost(&["prune", "--graph", GRAPH, "--before", "2"]);
        let (code, said) = finish(prune);
        if place.url.contains("postgres@") {
            assert!(code == Some(0) || code == Some(3), "{said}");
        } else {
            assert_eq!(code, Some(0), "{said}");
        }
        let (code, said) = finish(export(&site, &place, &[]));
        assert!(
            code == Some(0) && said.contains(&format!("`{former}` is called `{new}`")),
            "{said}"
        );
        assert_eq!(site.store_consumers(), [(new, 2)]);
    }
}

/// Earlier builds noted no sinks, and a name that was given does not tell one either.
#[test]
fn pruning_names_the_consumers_that_no_sink_is_known_of_until_their_exports_have_run_again() {
    let (site, place) = (Site::with_graph(), Place::file());
    let run = |to: &Place| finish(export(&site, to, &["--consumer", "mine"]));
    assert_eq!(run(&place).0, Some(0));
    site.run_sql("UPDATE consumers SET sink = NULL, sink_identity = NULL");
    accepted(&site.node(), [put_dataset("two")]);
    accepted(&site.node(), [put_dataset("three")]);
    let prune =
        |before: &str| finish(site.fencepost(&["prune", "--graph", GRAPH, "--before", before]));
    let (code, said) = prune("2");
    let told = "taken at their word, since no sink of theirs is known: `mine`.";
    assert!(code == Some(0) && said.contains(told), "{said}");
    assert_eq!(run(&place).0, Some(0));
    std::fs::remove_file(place.url.strip_prefix("file:").unwrap()).unwrap();
    let (code, said) = prune("3");
    assert!(code == Some(1) && said.contains("consumer `mine`"), "{said}");
    assert!(said.contains("has nothing of it") && !said.contains("at their word"), "{said}");
}

/// One file may have had several.
#[test]
fn a_file_finds_all_its_consumers_under_their_former_names() {
    let (site, place) = (Site::with_graph(), Place::file());
    exported(&site, &place.url);
    let new = site.store_consumers()[0].0.clone();
    let path = place.url.strip_prefix("file:").unwrap();
    let link = site.path("link");
    std::os::unix::fs::symlink(path, &link).unwrap();
    let store = site.store();
    store.forget_consumer(&name(GRAPH), &new).unwrap();
    for former in [format!("export to file:{path}"), format!("export to file:{}", link.display())] {
        store.acknowledge(&name(GRAPH), &name(&former), 1).unwrap();
    }
    store.acknowledge(&name(GRAPH), &name("export to file:/elsewhere"), 1).unwrap();
    accepted(&site.node(), [put_dataset("more")]);
    exported(&site, &place.url);
    let elsewhere = (name("export to file:/elsewhere"), 1);
    let mut expected = [elsewhere, (new, 2)];
    expected.sort();
    assert_eq!(site.store_consumers(), expected);
}

#[test]
fn pruning_waits_for_ever_for_a_follower_and_for_a_time_for_an_export_that_ended() {
    let (site, dated, place, named) =
        (Site::with_graph(), Place::file(), Place::file(), Place::file());
    let follower = Follower::start(&site, &place);
    let store = site.store();
    let consumers = || store.consumers(&name(GRAPH)).unwrap().unwrap().1;
    wait_until("it follows", || consumers().iter().any(|one| one.lifetime_ms.is_none()));
    let of = |url: &str| {
        let found = consumers();
        found.into_iter().find(|one| one.sink.as_ref().is_some_and(|sink| sink.url == url)).unwrap()
    };
    exported(&site, &dated.url);
    assert_eq!(of(&dated.url).lifetime_ms, Some(35 * 24 * 3600 * 1000));
    assert_eq!(finish(export(&site, &named, &["--consumer", "mine"])).0, Some(0));
    assert_eq!(of(&named.url).lifetime_ms, None);
    // It says that it is there although there is nothing to tell.
    let seen = of(&place.url).seen_at_ms;
    wait_until("the follower was seen again", || of(&place.url).seen_at_ms > seen);
    assert_eq!(of(&place.url).acknowledged, 1);
    drop(follower);
    exported(&site, &place.url);
    assert_eq!(of(&place.url).lifetime_ms, None, "a follower's stays as it was");
}

#[test]
fn an_export_that_is_killed_within_its_first_part_is_not_waited_for_for_ever() {
    let (site, place) = (Site::with_graph(), Place::file());
    let (reached, armed) = pause(&site, "export-import-appended", 1);
    let follower = Follower::start_armed(&site, &place, &armed);
    wait_until("it is in the middle", || reached.exists());
    drop(follower);
    let found = consumers(&site);
    assert!(found.len() == 1 && found[0].lifetime_ms.is_some(), "{found:?}");
}
