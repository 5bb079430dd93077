//! Databases that are not ours, not of our encoding or not there: understood, or refused with the
//! reason and left as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use fencepost::db::{Database, DbError, PoolLimits, WriteError};
use fencepost::lock::Mode;
use fencepost::service::Refusal;

use super::opening::bound_by_permissions;
use crate::support::ask::{
    accepted, changeset, in_line, put_dataset, put_job, put_job_with, verdicts,
};
use crate::support::cluster::{GRAPH, Kind, SERVE, Server, Site, Sql, finish, name, wait_until};
use crate::support::postgres::Postgres;
use crate::support::storm::audit;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

fn tables(site: &Site) -> i64 {
    let mut sql = site.sql();
    let query = match sql {
        Sql::Sqlite(_) => "SELECT count(*) AS value FROM sqlite_schema",
        Sql::Postgres(_) => {
            "SELECT count(*) AS value FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        }
    };
    diesel::sql_query(query).get_result::<Number>(&mut sql).unwrap().value
}

/// How a command ended that must end by itself.
#[track_caller]
fn ended(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    if arguments != SERVE {
        return finish(site.fencepost(arguments));
    }
    match Server::try_start(site.fencepost(arguments)) {
        Err(refused) => refused,
        Ok(server) => panic!("it came up, on {}", server.base),
    }
}

/// Every command that opens a database is refused, and makes nothing in it.
#[track_caller]
fn all_refused(site: &Site, code: i32, says: &str) {
    let before = tables(site);
    for arguments in [&SERVE[..], &["migrate"], &["plan", "--graph", "g", "d"]] {
        let (found, said) = ended(site, arguments);
        assert!(found == Some(code) && said.contains(says), "{arguments:?}: {found:?} {said}");
    }
    assert_eq!(tables(site), before, "nothing was made in it");
}

#[test]
fn a_database_of_another_encoding_is_refused_at_start() {
    for encoding in ["LATIN1", "WIN1252", "SQL_ASCII"] {
        let database = format!("test_{}_{}", std::process::id(), encoding.to_lowercase());
        let create = format!(
            "CREATE DATABASE {database} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        );
        Postgres::shared().sql().batch_execute(&create).unwrap();
        let site = Site::at(Postgres::shared().url(&database));
        all_refused(
            &site,
            1,
            &format!("of encoding {encoding}; give Fencepost a database of encoding UTF8"),
        );
    }
    let site = Site::on(Kind::Sqlite);
    site.run_sql("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (x)");
    all_refused(&site, 1, "of encoding UTF-16le");
}

/// A path or a URL that was mistyped must not give somebody else nine tables more.
#[test]
fn tables_are_put_beside_those_of_another_application_only_on_purpose() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        site.run_sql("CREATE TABLE invoices (id INTEGER PRIMARY KEY)");
        let before = tables(&site);
        let refused = |arguments: &[&str], says: &str| {
            let (code, said) = ended(&site, arguments);
            assert!(code == Some(1) && said.contains(says), "{arguments:?}: {code:?} {said}");
            assert_eq!(tables(&site), before, "nothing was made in it");
        };
        refused(&SERVE, "has a table `invoices` of another application");
        refused(&["thaw", "--graph", "g"], "has no tables of Fencepost");
        refused(&["plan", "--graph", "g", "d"], "has no tables of Fencepost");
        let (code, said) = finish(site.fencepost(&["migrate"]));
        assert_eq!(code, Some(0), "{said}");
        drop(site.serve());
        // A table of a name that Fencepost needs.
        let site = Site::on(kind);
        site.run_sql("CREATE TABLE jobs (id INTEGER PRIMARY KEY)");
        for arguments in [&SERVE[..], &["migrate"]] {
            let (code, said) = ended(&site, arguments);
            assert!(code == Some(1) && said.contains("jobs"), "{arguments:?}: {code:?} {said}");
            assert_eq!(tables(&site), if kind == Kind::Sqlite { 1 } else { 2 }, "{said}");
        }
    }
}

#[test]
fn what_extensions_and_other_schemas_hold_is_no_other_application() {
    let site = Site::on(Kind::Postgres);
    let url = site.database_url();
    let database = url.rsplit('/').next().unwrap();
    site.run_sql(&format!(
        "CREATE EXTENSION pg_stat_statements;
         CREATE SCHEMA other;
         CREATE TABLE other.__diesel_schema_migrations
             (version VARCHAR(50) PRIMARY KEY, run_on TIMESTAMP NOT NULL DEFAULT now());
         INSERT INTO other.__diesel_schema_migrations (version) VALUES ('20190101000000');
         CREATE TABLE other.jobs (id INTEGER PRIMARY KEY);
         ALTER DATABASE {database} SET search_path = public, other"
    ));
    for _ in 0..2 {
        drop(site.serve());
    }
    let others = "SELECT count(*) AS value FROM other.__diesel_schema_migrations";
    assert_eq!(diesel::sql_query(others).get_result::<Number>(&mut site.sql()).unwrap().value, 1);
}

/// What a session is set to by its environment or its role is not what the database is.
#[test]
fn a_session_of_another_encoding_by_default_stores_every_name() {
    let site = Site::with_graph_on(Kind::Postgres);
    let url = site.database_url();
    let database = url.rsplit('/').next().unwrap();
    site.run_sql(&format!(
        "ALTER ROLE postgres IN DATABASE {database} SET client_encoding = 'LATIN1'"
    ));
    let mut command = site.fencepost(&SERVE);
    command.env("PGCLIENTENCODING", "WIN1252");
    let server = Server::start(command);
    let job = "%E6%97%A5%E6%9C%AC%20%C3%BC%20%E2%82%AC";
    server.put_job(job, &[], &["ünïcode"]).unwrap();
    let read = server.get(&format!("/v1/graphs/{GRAPH}/jobs/{job}")).unwrap();
    assert_eq!(read.body["name"], "日本 ü €");
    assert_eq!(read.body["outputs"][0], "ünïcode");
    drop(server);
    site.run_sql(&format!("ALTER ROLE postgres IN DATABASE {database} RESET client_encoding"));
    audit(&site);
    let image = site.node().read_and_wait(&name(GRAPH)).unwrap();
    assert!(image.graph.job("日本 ü €").is_some());
}

/// A column that is narrower than ours on Postgres, a text beyond SQLite's limit in the other.
fn refuse_long_specs(site: &Site) {
    site.run_sql(match site.sql() {
        Sql::Sqlite(_) => {
            "CREATE TRIGGER narrow BEFORE INSERT ON jobs WHEN length(NEW.spec) > 1000 \
             BEGIN SELECT zeroblob(2000000000); END"
        }
        Sql::Postgres(_) => "ALTER TABLE jobs ALTER COLUMN spec TYPE varchar(1000)",
    });
}

#[test]
fn a_value_that_cannot_be_stored_is_refused_alone_and_not_as_the_database_being_away() {
    for (kind, german) in [(Kind::Sqlite, false), (Kind::Postgres, false), (Kind::Postgres, true)] {
        let site = Site::with_graph_on(kind);
        refuse_long_specs(&site);
        if german {
            Postgres::speak_german(&site.database_url());
        }
        let node = site.node();
        accepted(&node, [put_dataset("d")]);
        let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(2_000));
        let held = site.hold_lock(GRAPH, Mode::Exclusive);
        let ahead = in_line(&node, GRAPH, [changeset([put_dataset("ahead")])]);
        wait_until("it has its turn", || node.waiting().0 == 0);
        let writes = [put_job("a", &["d"], &[]), put_job_with("b", &["d"], &[], &long)]
            .into_iter()
            .chain([put_job("c", &["d"], &[])])
            .map(|job| changeset([job]));
        let waiting = in_line(&node, GRAPH, writes);
        held.release();
        assert!(verdicts(ahead)[0].is_ok());
        let verdicts = verdicts(waiting);
        let versions: Vec<_> = verdicts
            .iter()
            .map(|verdict| verdict.as_ref().ok().map(|accepted| accepted.version))
            .collect();
        assert_eq!(versions, [Some(4), None, Some(5)], "on {kind:?}: {verdicts:?}");
        let Err(Refusal::Internal { what }) = &verdicts[1] else { panic!("{:?}", verdicts[1]) };
        assert_eq!(what.contains("Wert zu lang"), german, "{what}");
        audit(&site);
    }
}

/// Diesel has no kind for it, and its words are not known.
#[test]
fn a_transaction_that_is_ended_in_favour_of_another_is_taken_again_in_any_language() {
    let site = Site::with_graph_on(Kind::Postgres);
    Postgres::speak_german(&site.database_url());
    let node = site.node();
    // Once only: a sequence counts on although its transaction is rolled back.
    site.run_sql(
        "CREATE SEQUENCE provoked;
         CREATE FUNCTION provoke() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('provoked') = 1 THEN
                 RAISE EXCEPTION USING ERRCODE = '40P01', MESSAGE = 'Verklemmung entdeckt';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER provoke BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION provoke()",
    );
    assert_eq!(accepted(&node, [put_job("j", &["first"], &[])]), 2);
    audit(&site);
}

/// Escapes in JSON are kept as they are written, and a text with U+0000 is never made of them.
#[test]
fn a_zero_character_in_a_specification_is_stored_as_its_escape() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let spec = r#"{"\u0000":"a\u0000b","pair":"\ud83d\ude00"}"#;
        accepted(&site.node(), [put_job_with("zero", &[], &[], spec)]);
        let image = site.node().read_and_wait(&name(GRAPH)).unwrap();
        let stored = image.graph.job("zero").unwrap().spec().as_str().to_owned();
        assert!(stored.contains(r"a\u0000b"), "on {kind:?}: {stored}");
        audit(&site);
    }
}

#[test]
fn what_the_database_says_of_a_value_is_told_from_its_being_away() {
    for german in [false, true] {
        tells_values_from_being_away(german);
    }
}

fn tells_values_from_being_away(german: bool) {
    let site = Site::on(Kind::Postgres);
    if german {
        Postgres::speak_german(&site.database_url());
    }
    let database = Database::open(&site.options().database, PoolLimits::default()).unwrap();
    let says = |before: &'static str, statement: &'static str| {
        let ran = database.write(|connection| {
            diesel::sql_query(before).execute(connection)?;
            diesel::sql_query(statement).execute(connection)?;
            Ok::<_, DbError>(())
        });
        let Err(WriteError::RolledBack(error)) = ran else { panic!("{statement}: {ran:?}") };
        error
    };
    const NOTHING: &str = "SELECT 1";
    for (before, statement) in [
        (NOTHING, r#"SELECT '{"a":"\u0000"}'::json ->> 'a'"#),
        (NOTHING, "SELECT repeat('x', 2000000000)"),
        (NOTHING, "SELECT 9223372036854775807 + 1"),
        (NOTHING, "SELECT 'x'::bigint"),
        (NOTHING, "SELECT 'four'::varchar(3)::text WHERE convert_from('\\xff', 'UTF8') = ''"),
        (
            "CREATE TEMP TABLE long (name text PRIMARY KEY)",
            "INSERT INTO long \
             SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) AS n",
        ),
    ] {
        let error = says(before, statement);
        assert!(matches!(error, DbError::Refused(_)), "{statement}: {error:?}");
    }
    for statement in [
        "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', \
         MESSAGE = 'could not extend file: No space left on device'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57014', \
         MESSAGE = 'canceling statement due to statement timeout'; END $$",
    ] {
        let error = says(NOTHING, statement);
        assert!(matches!(error, DbError::Unavailable { .. }), "{statement}: {error:?}");
    }
}

#[test]
fn another_applications_migrations_are_told_from_a_newer_program() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        site.run_sql(
            "CREATE TABLE __diesel_schema_migrations \
             (version VARCHAR(50) PRIMARY KEY NOT NULL, \
              run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP); \
             INSERT INTO __diesel_schema_migrations (version) VALUES ('20190101000000'); \
             CREATE TABLE invoices (id INTEGER PRIMARY KEY)",
        );
        let bytes = || fs::read(site.database()).unwrap_or_default();
        let before = bytes();
        all_refused(&site, 1, "belongs to another application");
        assert!(bytes() == before, "not even its journal mode was changed");
        // A table of migrations that whoever made it has not used says nothing.
        site.run_sql("DELETE FROM __diesel_schema_migrations; DROP TABLE invoices");
        drop(site.serve());
    }
}

#[test]
fn a_postgres_url_with_odd_parameters_is_understood_or_wrong_usage() {
    let site = Site::on(Kind::Postgres);
    let url = site.database_url();
    for suffix in
        ["?", "?&", "?connect_timeout=3&", "?application_name=a%20b", "?target_session_attrs=any"]
    {
        let mut command = site.fencepost(&SERVE);
        command.args(["--database-url", &format!("{url}{suffix}")]);
        drop(Server::start(command));
    }
    let shouted = url.replacen("postgres://", "POSTGRES://", 1);
    let (code, said) = finish(site.fencepost(&["--database-url", &shouted, "migrate"]));
    assert_eq!(code, Some(0), "{said}");
    for (suffix, says) in [
        ("?connect_timeout", "NAME=VALUE"),
        ("?=5", "NAME=VALUE"),
        ("?a=b=c", "NAME=VALUE"),
        ("?nonsense=1", "nonsense"),
        ("?sslmode=perhaps", "sslmode"),
        ("?connect_timeout=soon", "connect_timeout"),
        ("?application_name=%zz", "%25"),
        (" ", "a space"),
    ] {
        let (code, said) =
            finish(site.fencepost(&["--database-url", &format!("{url}{suffix}"), "migrate"]));
        assert!(code == Some(2) && said.contains(says), "{suffix}: {code:?} {said}");
    }
}

#[test]
fn an_sqlite_url_names_a_path_and_nothing_else() {
    let site = Site::on(Kind::Sqlite);
    let run = |url: &str| {
        let mut command = site.fencepost(&["--database-url", url, "migrate"]);
        command.current_dir(site.path(""));
        finish(command)
    };
    let absolute = format!("sqlite://{}", site.path("absolute.db").display());
    for (url, file) in [
        ("sqlite:relative.db", "relative.db"),
        ("sqlite://slashes.db", "slashes.db"),
        ("SQLite:shouted.db", "shouted.db"),
        ("sqlite:./a b#c&d=e.db", "a b#c&d=e.db"),
        ("sqlite:100% ü.db", "100% ü.db"),
        (absolute.as_str(), "absolute.db"),
    ] {
        let (code, said) = run(url);
        assert_eq!(code, Some(0), "{url}: {said}");
        assert!(site.path(file).is_file(), "{url} is {file}");
    }
    let there = || fs::read_dir(site.path("")).unwrap().count();
    let before = there();
    fs::create_dir(site.path("folder")).unwrap();
    for (url, says) in [
        ("sqlite:file:x.db?mode=ro", "a path, not a URI"),
        ("sqlite:file:x.db", "a path, not a URI"),
        ("sqlite:x.db?mode=ro", "takes no parameters"),
        ("sqlite://x.db?", "takes no parameters"),
        ("sqlite:my%20file.db", "write the character itself"),
        ("sqlite:folder/", "names a directory"),
        ("sqlite:folder", "is a directory"),
        ("sqlite:x.db ", "a space"),
        (" sqlite:x.db", "a space"),
        ("sqlite:x\n.db", "control character"),
        ("sqlite://", "names no file"),
    ] {
        let (code, said) = run(url);
        assert!(code == Some(2) && said.contains(says), "{url}: {code:?} {said}");
    }
    assert_eq!(there(), before + 1, "nothing was made");
}

#[test]
fn a_file_that_cannot_be_written_to_is_told_at_start() {
    let site = Site::with_graph_on(Kind::Sqlite);
    let set = |mode| {
        fs::set_permissions(site.database(), fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o444);
    let command = bound_by_permissions(site.fencepost(&SERVE));
    let ended = Server::try_start(command).map(|server| server.base.clone());
    set(0o644);
    let Err((code, said)) = ended else { panic!("it came up, and would have refused every write") };
    assert!(code == Some(3) && said.contains("readonly"), "{code:?} {said}");
    assert!(said.contains(&*Path::new(&site.database()).to_string_lossy()), "{said}");
}
