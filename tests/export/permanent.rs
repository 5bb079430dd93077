//! What an engine refuses, and would again; and what passes, after which nothing is written twice.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::kills::{fill, is_whole, pause};
use super::places::refused;
use super::{Follower, Place, export, fresh};
use crate::support::ask::{accepted, put_dataset, put_job_with};
use crate::support::cluster::{GRAPH, Site, finish, name, wait_until};
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn count(sql: &mut PgConnection, of: &str) -> i64 {
    let count = format!("SELECT count(*) AS count FROM {of}");
    diesel::sql_query(count).get_result::<Count>(sql).unwrap().count
}

/// A graph with some small jobs and a large one among those that come last.
fn with_large_job(bytes: usize) -> Site {
    let site = Site::with_graph();
    let node = site.node();
    fill(&node, 60);
    let spec = format!("{{\"x\":\"{}\"}}", "y".repeat(bytes));
    accepted(&node, [put_job_with("large", &["of 59"], &["of large"], &spec)]);
    site
}

const COLUMNS: &str = "graph text COLLATE \"C\" NOT NULL, version bigint NOT NULL, \
     ordinal bigint NOT NULL, event text NOT NULL, PRIMARY KEY (graph, version, ordinal)";

#[test]
fn a_constraint_of_the_table_ends_a_follower_with_the_statement_that_drops_it() {
    let site = with_large_job(100_000);
    let url = Postgres::shared().new_database();
    let mut sql = PgConnection::establish(&url).unwrap();
    sql.batch_execute(&format!(
        "CREATE TABLE journal ({COLUMNS}, CONSTRAINT small CHECK (octet_length(event) < 90000))"
    ))
    .unwrap();
    let mut place = Place::at(format!("{url}/journal"));
    let (code, said) = Follower::start(&site, &place).end();
    assert!(
        code == Some(1) && said.contains("ALTER TABLE \"journal\" DROP CONSTRAINT \"small\""),
        "{said}"
    );
    let events = count(&mut sql, "journal");
    assert!(events < 63, "{events} events, of an import of 63 of which one was refused");
    assert!(site.store_consumers().is_empty(), "nothing is there to go on with");
    sql.batch_execute("ALTER TABLE journal DROP CONSTRAINT small").unwrap();
    assert_eq!(is_whole(&site, &mut place).imports, 2);
    // And once there is something to go on with, pruning waits for the failed one for a time.
    sql.batch_execute("ALTER TABLE journal ADD CONSTRAINT none CHECK (event = '') NOT VALID")
        .unwrap();
    accepted(&site.node(), [put_dataset("refused")]);
    let (code, said) = Follower::start(&site, &place).end();
    assert!(code == Some(1) && said.contains("DROP CONSTRAINT \"none\""), "{said}");
    let (_, consumers) = site.store().consumers(&name(GRAPH)).unwrap().unwrap();
    assert!(consumers.len() == 1 && consumers[0].lifetime_ms.is_some(), "{consumers:?}");
}

/// Of an answer of which nobody knows whether it passes, so many are enough.
#[test]
fn a_trigger_that_raises_an_error_ends_a_follower_after_some_tries_and_nothing_comes_twice() {
    let site = with_large_job(100_000);
    let url = Postgres::shared().new_database();
    let mut sql = PgConnection::establish(&url).unwrap();
    sql.batch_execute(&format!(
        "CREATE TABLE journal ({COLUMNS});
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN
                 IF octet_length(NEW.event) > 90000 THEN RAISE EXCEPTION 'too long for us'; END IF;
                 RETURN NEW;
             END$$;
         CREATE TRIGGER refuse BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION refuse();"
    ))
    .unwrap();
    let place = Place::at(format!("{url}/journal"));
    let (code, said) = Follower::start(&site, &place).end();
    assert!(code == Some(1) && said.contains("too long for us"), "{said}");
    assert!(
        said.contains("tried 8 times in vain") && said.contains("has triggers (refuse)"),
        "{said}"
    );
    assert_eq!(count(&mut sql, "journal WHERE event LIKE '%import.begun%'"), 1);
    assert!(count(&mut sql, "journal") < 63);
}

#[test]
fn an_event_that_redis_does_not_take_ends_a_follower_before_redis_hangs_up() {
    let redis = Redis::start(&["--proto-max-bulk-len", "1mb"]);
    let site = with_large_job(1_500_000);
    let key = fresh();
    let mut place = Place::at(format!("{}/{key}", redis.url()));
    let (code, said) = Follower::start(&site, &place).end();
    assert!(code == Some(1) && said.contains("raise proto-max-bulk-len"), "{said}");
    let entries: i64 = redis::from_redis_value(redis.command(&["XLEN", &key])).unwrap();
    assert!(entries < 63, "{entries} entries");
    redis.command(&["CONFIG", "SET", "proto-max-bulk-len", "512mb"]);
    assert_eq!(is_whole(&site, &mut place).imports, 2);
}

#[test]
fn an_event_that_nats_does_not_take_ends_a_follower() {
    let nats = Nats::start("max_payload: 90000");
    let site = with_large_job(100_000);
    let place = Place::at(format!("{}/{}", nats.url(), fresh()));
    let (code, said) = Follower::start(&site, &place).end();
    assert!(code == Some(1) && said.contains("raise max_payload in its configuration"), "{said}");
    assert!(place.events().len() < 63);
}

/// Nobody is let in with that, however often it is tried.
#[track_caller]
fn assert_denied(site: &Site, url: &str, what: &str) {
    let (code, said) = Follower::start(site, &Place::at(url.to_owned())).end();
    assert!(code == Some(1) && said.contains("denies access") && said.contains(what), "{said}");
    assert!(!said.contains("hemlock") && !said.contains("trying again"), "{said}");
}

#[test]
fn a_login_that_redis_refuses_ends_a_follower_also_one_that_is_withdrawn() {
    let (redis, site) = (Redis::start(&[]), Site::with_graph());
    let at = |login: &str, path: &str| format!("redis://{login}127.0.0.1:{}/{path}", redis.port());
    redis.command(&["ACL", "SETUSER", "cook", "on", ">hemlock", "~*", "+@all"]);
    let place = Place::at(at("cook:hemlock@", &fresh()));
    let follower = Follower::start(&site, &place);
    wait_until("all is exported", || place.version() == Some(1));
    redis.command(&["ACL", "SETUSER", "cook", "off"]);
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    let (code, said) = follower.end();
    assert!(code == Some(1) && said.contains("denies access"), "{said}");
    redis.command(&["ACL", "SETUSER", "default", ">hemlock", "resetpass", ">poison"]);
    let advice = "Give the right user and password in the URL";
    for login in ["", ":hemlock@", "cook:hemlock@", "nobody:hemlock@"] {
        for path in ["log", "1/log", "log?protocol=3"] {
            assert_denied(&site, &at(login, path), advice);
        }
    }
    let (code, said) = Follower::start(&site, &Place::at(at(":poison@", "4096/log"))).end();
    assert!(code == Some(1) && said.contains("Name a database that the server has"), "{said}");
}

#[test]
fn a_login_or_a_right_that_nats_refuses_ends_a_follower() {
    let nats = Nats::start(
        "authorization { users: [
            { user: cook, password: hemlock }
            { user: reads, password: hemlock, permissions: { publish: \"$JS.API.>\" } }
            { user: looks, password: hemlock, permissions: { publish: \"none\" } }
         ] }",
    );
    let (site, stream) = (Site::with_graph(), fresh());
    let at = |login: &str| format!("nats://{login}127.0.0.1:{}/{stream}", nats.port());
    for login in ["", "cook:poison@", "nobody:hemlock@", "hemlock@"] {
        assert_denied(&site, &at(login), "Give the right user and password");
    }
    assert_eq!(finish(export(&site, &Place::at(at("cook:hemlock@")), &[])).0, Some(0));
    accepted(&site.node(), [put_dataset("more")]);
    let advice = format!("to publish to fencepost.{stream} and $JS.API.>");
    for login in ["reads:hemlock@", "looks:hemlock@"] {
        assert_denied(&site, &at(login), &advice);
    }
}

#[test]
fn a_nats_account_without_jetstream_ends_a_follower() {
    let nats = Nats::start("accounts { A: { users: [{ user: cook, password: hemlock }] } }");
    let url = format!("nats://cook:hemlock@127.0.0.1:{}/{}", nats.port(), fresh());
    assert_denied(&Site::with_graph(), &url, "Enable JetStream for the account");
}

#[test]
fn a_login_or_a_right_that_postgres_refuses_ends_a_follower_also_one_that_is_withdrawn() {
    let (server, site, role) = (Postgres::shared(), Site::with_graph(), fresh());
    let url = server.new_database();
    let database = url.rsplit_once('/').unwrap().1;
    let mut sql = PgConnection::establish(&url).unwrap();
    sql.batch_execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'hemlock'; CREATE TABLE given ({COLUMNS});
         GRANT SELECT ON given TO {role}; CREATE SCHEMA {role} AUTHORIZATION {role}"
    ))
    .unwrap();
    let at = |login: &str, table: &str| {
        format!("postgres://{login}:hemlock@127.0.0.1:{}/{database}/{table}", server.port())
    };
    assert_denied(&site, &at(&role, "given"), "GRANT SELECT, INSERT ON \"given\" TO USER");
    assert_denied(&site, &at(&role, "public.new"), "permission denied for schema public");
    assert_denied(&site, &at("nobody_at_all", "given"), "Give the right user and password");
    let mut place = Place::at(at(&role, "journal"));
    place.stream = site.stream();
    let follower = Follower::start(&site, &place);
    wait_until("all is exported", || place.version() == Some(1));
    sql.batch_execute(&format!(
        "ALTER ROLE {role} NOLOGIN;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    ))
    .unwrap();
    let (code, said) = follower.end();
    assert!(code == Some(1) && said.contains("is not permitted to log in"), "{said}");
    let nowhere = Place::at(format!("{url}_that_is_not_there/journal"));
    refused(export(&site, &nowhere, &["--follow"]), 1, "Make it, or name another");
}

#[test]
fn a_password_that_postgres_refuses_ends_a_follower() {
    let (server, site) = (Postgres::start(&[]), Site::with_graph());
    let mut sql = server.sql();
    sql.batch_execute("CREATE ROLE cook LOGIN PASSWORD 'hemlock'; CREATE ROLE guest LOGIN")
        .unwrap();
    let rules = "host all cook 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n";
    std::fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").unwrap();
    let at = |login: &str| format!("postgres://{login}@127.0.0.1:{}/postgres/log", server.port());
    let url = format!("postgres://guest@127.0.0.1:{}/postgres", server.port());
    wait_until("the rules are in force", || PgConnection::establish(&url).is_err());
    assert_denied(&site, &at("cook:poison"), "password authentication failed");
    assert_denied(&site, &at("cook"), "no password supplied");
    assert_denied(&site, &at("guest"), "no pg_hba.conf entry");
    let place = Place::at(at("postgres"));
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
}

#[test]
fn a_path_that_leads_nowhere_ends_a_follower() {
    let (site, place) = (Site::with_graph(), Place::file());
    std::fs::write(place.url.strip_prefix("file:").unwrap(), "").unwrap();
    let below = Place::at(format!("{}/log", place.url));
    refused(export(&site, &below, &["--follow"]), 1, "Not a directory");
}

/// A memory that is full is emptied again: then the import goes on in its middle.
#[test]
fn a_redis_without_room_is_waited_for_and_nothing_comes_twice() {
    let redis = Redis::start(&["--maxmemory-policy", "noeviction"]);
    let site = Site::with_graph();
    fill(&site.node(), 150);
    let mut place = Place::at(format!("{}/{}", redis.url(), fresh()));
    redis.command(&["CONFIG", "SET", "maxmemory", "5mb"]);
    let follower = Follower::start(&site, &place);
    follower.wait_until_it_says("its memory is full: raise maxmemory");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let head = site.head().version;
    wait_until("all is exported", || place.version() == Some(head));
    wait_until("that is acknowledged", || site.store_consumers()[0].1 == head);
    let said = follower.said();
    drop(follower);
    assert_eq!(is_whole(&site, &mut place).imports, 1, "{said}");
}

/// The engine ends in the middle of the first part, after some of it was appended.
fn an_engine_that_ends_within_the_first_part<E>(
    mut place: Place,
    mut engine: E,
    kill: fn(&mut E),
    start: fn(&mut E),
) {
    let site = Site::with_graph();
    place.stream = site.stream();
    fill(&site.node(), 80);
    let (reached, armed) = pause(&site, "export-import-appended", 2);
    let follower = Follower::start_armed(&site, &place, &armed);
    wait_until("it is in the middle", || reached.exists());
    kill(&mut engine);
    std::fs::remove_file(&reached).unwrap();
    follower.wait_until_it_says("trying again");
    start(&mut engine);
    let head = site.head().version;
    wait_until("all is exported", || place.version() == Some(head));
    wait_until("that is acknowledged", || site.store_consumers()[0].1 == head);
    let said = follower.said();
    drop(follower);
    assert_eq!(is_whole(&site, &mut place).imports, 1, "{said}");
}

#[test]
fn an_import_goes_on_in_its_middle_when_redis_is_back() {
    let redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let place = Place::at(format!("{}/{}", redis.url(), fresh()));
    an_engine_that_ends_within_the_first_part(place, redis, Redis::kill, Redis::start_again);
}

#[test]
fn an_import_goes_on_in_its_middle_when_nats_is_back() {
    let nats = Nats::start("");
    let place = Place::at(format!("{}/{}", nats.url(), fresh()));
    an_engine_that_ends_within_the_first_part(place, nats, Nats::kill, Nats::start_again);
}

#[test]
fn an_import_goes_on_in_its_middle_when_postgres_is_back() {
    let postgres = Postgres::start(&[]);
    let place = Place::at(format!("{}/{}", postgres.url("postgres"), fresh()));
    an_engine_that_ends_within_the_first_part(
        place,
        postgres,
        Postgres::crash,
        Postgres::start_again,
    );
}

/// `RETURN NULL` in a trigger stores nothing and says nothing.
#[test]
fn a_trigger_that_drops_rows_is_noticed() {
    for condition in ["true", "NEW.event LIKE '%imported.v1%'"] {
        let site = Site::with_graph();
        let url = Postgres::shared().new_database();
        let mut sql = PgConnection::establish(&url).unwrap();
        sql.batch_execute(&format!(
            "CREATE TABLE journal ({COLUMNS});
             CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN IF {condition} THEN RETURN NULL; END IF; RETURN NEW; END$$;
             CREATE TRIGGER drops BEFORE INSERT ON journal
                 FOR EACH ROW EXECUTE FUNCTION drop_row();"
        ))
        .unwrap();
        let mut place = Place::at(format!("{url}/journal"));
        refused(
            export(&site, &place, &["--follow"]),
            1,
            "a trigger or rule of \"journal\" drops them",
        );
        sql.batch_execute("ALTER TABLE journal DISABLE TRIGGER drops").unwrap();
        is_whole(&site, &mut place);
    }
}

/// The rows are stored, and some of them deleted again before the transaction is committed.
#[test]
fn a_trigger_that_deletes_some_of_the_rows_again_is_noticed() {
    let site = Site::with_graph();
    let url = Postgres::shared().new_database();
    let mut sql = PgConnection::establish(&url).unwrap();
    sql.batch_execute(&format!(
        "CREATE TABLE journal ({COLUMNS});
         CREATE FUNCTION take_out() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN DELETE FROM journal WHERE event LIKE '%imported.v1%'; RETURN NULL; END$$;
         CREATE TRIGGER takes AFTER INSERT ON journal
             FOR EACH STATEMENT EXECUTE FUNCTION take_out();"
    ))
    .unwrap();
    let mut place = Place::at(format!("{url}/journal"));
    refused(export(&site, &place, &["--follow"]), 1, "a trigger or rule of \"journal\" drops them");
    sql.batch_execute("ALTER TABLE journal DISABLE TRIGGER takes").unwrap();
    is_whole(&site, &mut place);
}

/// The rows are stored, and deleted again when the transaction is committed.
#[test]
fn what_is_deleted_as_soon_as_it_was_written_ends_the_export() {
    let site = Site::with_graph();
    let url = Postgres::shared().new_database();
    let place = Place::at(format!("{url}/journal"));
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    PgConnection::establish(&url)
        .unwrap()
        .batch_execute(
            "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN DELETE FROM journal WHERE version = NEW.version; RETURN NULL; END$$;
             CREATE CONSTRAINT TRIGGER undo AFTER INSERT ON journal DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION undo();",
        )
        .unwrap();
    accepted(&site.node(), [put_dataset("does not stay")]);
    refused(export(&site, &place, &[]), 1, "each time they were taken out again");
    assert_eq!(site.store_consumers()[0].1, 1);
}
