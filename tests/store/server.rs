//! What a database server does to its clients: it ends, comes back, is older than it was, has no
//! room, prefers another, and loses the answer to COMMIT. On Postgres, whatever database this run
//! of the tests is for.

use std::sync::{Barrier, mpsc};
use std::time::Duration;

use diesel::connection::{Connection as _, SimpleConnection};
use diesel::pg::PgConnection;
use fencepost::db::{Database, DbError, MeasuredPostgres, PoolLimits, WriteError};
use fencepost::node::{self, LockUrl, NodeOptions};
use fencepost::service::{Accepted, Refusal, Service};
use serde_json::json;

use crate::support::ask::{accepted, changeset, keyed, put_dataset, put_job};
use crate::support::cluster::{Client, GRAPH, Kind, SERVE, Site, Sql, in_child, name, wait_until};
use crate::support::postgres::Postgres;
use crate::support::proxy::{Cut, Proxy};
use crate::support::storm::audit;

/// A site on that server under a lock in files, so that nothing but the database is in the way of a
/// write.
fn site_on(server: &Postgres) -> Site {
    let mut site = Site::at(server.new_database());
    site.lock_url = Some(LockUrl::File(Some(site.path("locks"))));
    let node = site.node();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("first")]);
    site
}

/// The same database and lock, reached through a proxy.
fn proxied(server: &Postgres, site: &Site) -> (Proxy, Site) {
    let proxy = Proxy::to(server.port());
    let url = site.database_url().replace(&server.port().to_string(), &proxy.port().to_string());
    let mut through = Site::at(url);
    through.lock_url = site.lock_url.clone();
    (proxy, through)
}

/// A server, a site on it, and the same site reached through a proxy.
pub fn behind_a_proxy() -> (Postgres, Site, Proxy, Site) {
    let server = Postgres::start(&[]);
    let site = site_on(&server);
    let (proxy, through) = proxied(&server, &site);
    (server, site, proxy, through)
}

/// Has each COMMIT of a transaction that inserts into `table` take a second.
fn commit_slowly(site: &Site, table: &str) {
    site.run_sql(&format!(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION dawdle()"
    ));
}

/// Few connections, and no long wait for one.
pub(super) fn impatient(site: &Site) -> NodeOptions {
    let pool = PoolLimits {
        connections: 2,
        checkout_timeout: Duration::from_millis(500),
        ..PoolLimits::default()
    };
    NodeOptions { pool, ..site.options() }
}

pub(super) fn put(node: &Service, dataset: &str) -> Result<u64, Refusal> {
    node.write_and_wait(&name(GRAPH), changeset([put_dataset(dataset)]))
        .map(|accepted| accepted.version)
}

/// Postgres adds what a session has counted when it ends, and until then once in a second at most.
#[test]
fn syncs_of_the_log_are_those_of_sessions_that_have_ended() {
    const COMMITS: u64 = 20;
    let server = Postgres::start(&["autovacuum=off"]);
    let [base, copy] = ["base", "copy"];
    let mut admin = MeasuredPostgres::connect(&server.url("postgres")).unwrap();
    admin.create(base).unwrap();
    admin.copy(base, copy).unwrap();
    let mut session = MeasuredPostgres::connect_to(&server.url(copy), copy).unwrap();
    // What the copy took was counted at once, and not when its session ends.
    let before = session.log_syncs().unwrap().unwrap();
    drop(admin);
    let mut client = PgConnection::establish(&server.url(copy)).unwrap();
    client.batch_execute("CREATE TABLE counted (n integer)").unwrap();
    for n in 1..COMMITS {
        client.batch_execute(&format!("INSERT INTO counted VALUES ({n})")).unwrap();
    }
    // A client does not wait until its session has ended: this one ends later.
    let frozen = Postgres::freeze_session(&mut client);
    drop(client);
    let (counted, count) = mpsc::channel();
    let counting = std::thread::spawn(move || counted.send(session.log_syncs()));
    assert!(count.recv_timeout(Duration::from_millis(300)).is_err(), "it was not waited for");
    drop(frozen);
    let made = count.recv().unwrap().unwrap().unwrap() - before;
    assert!((COMMITS..COMMITS + 3).contains(&made), "{made} syncs for {COMMITS} commits");
    counting.join().unwrap().unwrap();
}

#[test]
fn every_pooled_session_is_set_up_for_durability() {
    const CONNECTIONS: usize = 12;
    let site = Site::on(Kind::Postgres);
    let limits = PoolLimits { connections: CONNECTIONS as u32, ..PoolLimits::default() };
    let database = Database::open(&site.options().database, limits).unwrap();
    let all_open = Barrier::new(CONNECTIONS);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                // In a transaction that may write: one that only reads may stand still for longer.
                let settings = database.write(|connection| {
                    all_open.wait();
                    connection.settings()
                });
                let settings = settings.unwrap();
                let expected = [
                    ("synchronous_commit", "on"),
                    ("idle_in_transaction_session_timeout", "5s"),
                    ("lock_timeout", "6s"),
                ];
                for (name, value) in expected {
                    assert!(settings.contains(&(name, value.to_owned())), "{settings:?}");
                }
            });
        }
    });
}

#[test]
fn a_server_that_is_away_fills_no_log_and_is_told_without_repeating() {
    let mut server = Postgres::start(&[]);
    let site = site_on(&server);
    let node = site.serve();
    node.put_job("before", &[], &[]).unwrap();
    server.crash();
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let node = &node;
            scope.spawn(move || {
                let answer = node.put_job(&format!("away-{n}"), &[], &[]).unwrap();
                assert_eq!(answer.status, 503, "{}", answer.body);
                let detail = answer.body["detail"].as_str().unwrap();
                assert_eq!(detail.matches("database is unavailable").count(), 1, "{detail}");
            });
        }
    });
    server.start_again();
    wait_until("it is ready", || node.get("/readyz").unwrap().status == 200);
    let log = node.wait_for_log(|text| text.contains("no longer, after "));
    let told = log.matches("WARN ").count() as u64;
    assert!(told <= 1 + began.elapsed().as_secs() / 10, "{log}");
}

/// Who was in the middle of nothing notices nothing: connections that were lost while they lay in
/// the pool are replaced.
#[test]
fn a_server_that_crashes_loses_nothing_and_is_taken_up_again() {
    let mut server = Postgres::start(&[]);
    let site = site_on(&server);
    let node = node::open(&impatient(&site)).unwrap();
    assert_eq!(put(&node, "before").unwrap(), 2);
    server.crash();
    let refused = put(&node, "meanwhile").unwrap_err();
    assert!(matches!(refused, Refusal::DatabaseUnavailable { .. }), "{refused:?}");
    assert!(node.read_and_wait(&name(GRAPH)).is_err(), "a read was answered without the database");
    server.start_again();
    assert_eq!(put(&node, "after").unwrap(), 3, "the first request after the server is back");
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    let audit = audit(&site);
    assert_eq!((image.key.version, image.graph.digest()), (audit.version, audit.digest));
    assert!(image.graph.dataset("meanwhile").is_none());
}

/// Before the commit is sent, and after it was answered. A call that was not sent is sent to the
/// server that has come back; a transaction is lost with the server that it was begun on.
#[test]
fn a_server_that_crashes_around_a_commit_keeps_what_was_acknowledged() {
    for (point, statements, outlives) in [
        ("before-commit", "", true),
        ("before-commit", ",one-call=off", false),
        ("after-commit", "", true),
    ] {
        let mut server = Postgres::start(&[]);
        let site = site_on(&server);
        let reached = site.path("reached");
        let lock = site.path("locks");
        let lock = format!("file:{}", lock.display());
        let armed = format!("{point}=pause:{}{statements}", reached.display());
        let process = site.serve_armed(&armed, &["--lock-url", &lock]);
        let answer = std::thread::scope(|scope| {
            let under_way = scope.spawn(|| process.put_job("j", &["x"], &["y"]));
            wait_until("the point is reached", || reached.exists());
            server.crash();
            server.start_again();
            std::fs::remove_file(&reached).unwrap();
            under_way.join().unwrap().unwrap()
        });
        if outlives {
            assert_eq!((answer.status, answer.version()), (201, 2), "{answer:?}");
        } else {
            assert_eq!(
                (answer.status, answer.body["outcome"].as_str()),
                (503, Some("not_applied")),
                "{answer:?}"
            );
        }
        assert_eq!(audit(&site).version, if outlives { 2 } else { 1 });
        assert_eq!(process.put_job("k", &[], &[]).unwrap().version(), if outlives { 3 } else { 2 });
    }
}

/// Of a commit that tests have be one of several statements, as one is that is as much as a graph:
/// however many rows it writes.
#[test]
fn round_trips_of_a_transaction_are_as_few_as_its_statements() {
    in_child(
        concat!(module_path!(), "::round_trips_of_a_transaction_are_as_few_as_its_statements"),
        "one-call=off",
        round_trips_of_a_transaction,
    );
}

fn round_trips_of_a_transaction() {
    let server = Postgres::shared();
    let site = site_on(server);
    let (proxy, through) = proxied(server, &site);
    let one = PoolLimits { connections: 1, ..PoolLimits::default() };
    let options = NodeOptions { pool: one, ..through.options() };
    let node = node::open(&options).unwrap();
    let job = |n: usize| put_job(&format!("j{n}"), &["first"], &[&format!("out{n}")]);
    // Diesel prepares a statement when it is first used.
    for n in 0..3 {
        accepted(&node, [job(n)]);
    }
    let counted = |jobs: std::ops::Range<usize>| {
        let before = proxy.requests();
        node.write_and_wait(&name(GRAPH), changeset(jobs.map(job))).unwrap();
        proxy.requests() - before
    };
    // BEGIN, the update, two tables, the change log, COMMIT.
    assert_eq!(counted(3..4), 6);
    assert_eq!(counted(4..200), 6, "however many jobs");
    // With a key, one to look it up and one to keep the answer.
    let keyed_twice = ["a", "b"].map(|key| {
        let before = proxy.requests();
        let jobs = changeset([job(if key == "a" { 200 } else { 201 })]);
        node.write_and_wait(&name(GRAPH), keyed(jobs, key, "f")).unwrap();
        proxy.requests() - before
    });
    assert_eq!(keyed_twice[1], 8, "{keyed_twice:?}");
}

/// The change log tells which it was.
#[test]
fn a_commit_whose_connection_breaks_is_told_as_what_became_of_it() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let node = node::open(&impatient(&through)).unwrap();
    assert_eq!(put(&node, "a").unwrap(), 2);

    proxy.cut(Cut::Answer);
    assert_eq!(put(&node, "committed").unwrap(), 3, "the server has committed it");
    assert_eq!((proxy.commits_cut(), audit(&site).version), (1, 3));

    proxy.cut(Cut::Commit);
    assert_eq!(put(&node, "never arrived").unwrap(), 4, "it is sent again");
    assert_eq!((proxy.commits_cut(), audit(&site).version), (2, 4));

    proxy.cut(Cut::AnswerAndServer);
    let unknown = put(&node, "who knows").unwrap_err();
    assert!(matches!(unknown, Refusal::OutcomeUnknown { .. }), "{unknown:?}");
    wait_until("the server has committed it", || audit(&site).version == 5);
}

/// Its row tells which it was.
#[test]
fn a_creation_whose_connection_breaks_is_told_as_what_became_of_it() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let node = node::open(&impatient(&through)).unwrap();
    let create = |graph: &str| node.create_graph_and_wait(&name(graph));
    let is_there = |graph: &str| site.store().head(&name(graph)).unwrap().is_some();
    assert!(create("a").unwrap().created);

    proxy.cut(Cut::Answer);
    assert!(create("committed").unwrap().created, "the server has committed it");
    assert!(proxy.commits_cut() == 1 && is_there("committed"));

    proxy.cut(Cut::Commit);
    let refused = create("never sent").unwrap_err();
    assert!(matches!(refused, Refusal::DatabaseUnavailable { .. }), "{refused:?}");
    assert!(proxy.commits_cut() == 2 && !is_there("never sent"));
    assert!(create("never sent").unwrap().created);

    commit_slowly(&site, "graphs");
    proxy.cut(Cut::Answer);
    assert!(create("slowly").unwrap().created, "it was waited for");
    assert!(proxy.commits_cut() == 3 && is_there("slowly"));

    proxy.cut(Cut::AnswerAndServer);
    let unknown = create("who knows").unwrap_err();
    assert!(matches!(unknown, Refusal::OutcomeUnknown { .. }), "{unknown:?}");
    wait_until("the server has committed it", || is_there("who knows"));
}

/// The kept answer tells which it was.
#[test]
fn a_lost_commit_that_only_kept_an_answer_is_told_as_what_became_of_it() {
    let (_server, _site, proxy, through) = behind_a_proxy();
    let node = node::open(&impatient(&through)).unwrap();
    let ask = |key: &str| {
        node.write_and_wait(&name(GRAPH), keyed(changeset([put_dataset("first")]), key, "f"))
    };
    let unchanged =
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) });
    assert_eq!(ask("a"), unchanged);

    proxy.cut(Cut::Answer);
    assert_eq!(ask("committed"), unchanged, "the server has committed it");
    assert_eq!(proxy.commits_cut(), 1);

    proxy.cut(Cut::Commit);
    assert_eq!(ask("never arrived"), unchanged, "it is sent again");
    assert_eq!(proxy.commits_cut(), 2);
    assert_eq!(put(&node, "b").unwrap(), 2);
    for key in ["committed", "never arrived"] {
        assert_eq!(ask(key), unchanged, "it is kept");
    }

    proxy.cut(Cut::AnswerAndServer);
    let unknown = ask("who knows").unwrap_err();
    assert!(matches!(unknown, Refusal::OutcomeUnknown { .. }), "{unknown:?}");
}

/// The server is still busy with a COMMIT whose connection has broken: what is not in the change
/// log yet may be there in a moment.
#[test]
fn a_commit_that_is_still_under_way_is_waited_for() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let node = node::open(&impatient(&through)).unwrap();
    assert_eq!(put(&node, "a").unwrap(), 2);
    commit_slowly(&site, "changes");
    proxy.cut(Cut::Answer);
    assert_eq!(put(&node, "slowly").unwrap(), 3);
    assert_eq!((proxy.commits_cut(), audit(&site).version), (1, 3));
}

/// The row is held by somebody who neither goes on nor ends: the server ends that transaction after
/// a lease, and who waits for the row gets it.
#[test]
fn a_writer_stopped_inside_its_transaction_is_put_out() {
    let site = Site::on(Kind::Postgres);
    let node = site.node();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("first")]);
    let database = Database::open(&site.options().database, PoolLimits::default()).unwrap();
    let (holds, is_held) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let database = &database;
        let stopped = scope.spawn(move || {
            database.write(|connection| {
                connection.hold_graph(GRAPH)?;
                holds.send(()).unwrap();
                goes_on.recv().unwrap();
                connection.hold_graph(GRAPH)?;
                Ok::<_, DbError>(())
            })
        });
        // Dropped if anything here fails: the other then ends too.
        let go_on = go_on;
        is_held.recv().unwrap();
        assert_eq!(put(&node, "second").unwrap(), 2, "the first to wait for it gets the row");
        go_on.send(()).unwrap();
        let outcome = stopped.join().unwrap();
        assert!(
            matches!(outcome, Err(WriteError::RolledBack(DbError::Unavailable { .. }))),
            "{outcome:?}"
        );
    });
}

/// Chosen by the server to give way, in favour of a transaction that it could not serve beside this
/// one: taken again, and nobody is told.
#[test]
fn a_deadlock_and_a_failed_serialization_are_taken_again() {
    let site = Site::on(Kind::Postgres);
    let node = site.node();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("first")]);
    for (n, error) in ["deadlock_detected", "serialization_failure"].into_iter().enumerate() {
        // Once only: a sequence counts on although its transaction is rolled back.
        site.run_sql(&format!(
            "CREATE SEQUENCE provoked_{n};
             CREATE FUNCTION provoke_{n}() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('provoked_{n}') = 1 THEN RAISE EXCEPTION USING ERRCODE = '{error}', MESSAGE = '{text}'; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER provoke_{n} BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION provoke_{n}()",
            text = if n == 0 { "deadlock detected" } else { "could not serialize access" },
        ));
        let lost = || node.metrics().lost_writes.with_label_values(&["yielded"]).get();
        let before = lost();
        let version = accepted(&node, [put_job(&format!("j{n}"), &["first"], &[])]);
        assert_eq!((version, lost() - before), (2 + n as u64, 1), "{error}");
        site.run_sql(&format!("DROP TRIGGER provoke_{n} ON jobs"));
    }
    audit(&site);
}

/// Of two transactions that wait for each other's rows the server ends one, in its own words.
#[test]
fn a_real_deadlock_is_known_as_one() {
    let site = Site::on(Kind::Postgres);
    let node = site.node();
    for graph in ["a", "b"] {
        node.create_graph_and_wait(&name(graph)).unwrap();
    }
    let database = Database::open(&site.options().database, PoolLimits::default()).unwrap();
    let both_hold_one = Barrier::new(2);
    let outcomes = std::thread::scope(|scope| {
        let writers = [["a", "b"], ["b", "a"]].map(|[first, second]| {
            let (database, both_hold_one) = (&database, &both_hold_one);
            scope.spawn(move || {
                database.write(|connection| {
                    connection.hold_graph(first)?;
                    both_hold_one.wait();
                    connection.hold_graph(second)?;
                    Ok::<_, DbError>(())
                })
            })
        });
        writers.map(|writer| writer.join().unwrap())
    });
    let yielded = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(WriteError::RolledBack(DbError::Yielded { .. }))));
    assert_eq!(yielded.count(), 1, "{outcomes:?}");
}

#[test]
fn a_server_without_room_for_another_session_is_told() {
    let server = Postgres::start(&["max_connections = 12", "superuser_reserved_connections = 3"]);
    let site = site_on(&server);
    server.sql().batch_execute("CREATE ROLE plain LOGIN; ALTER ROLE plain SUPERUSER").unwrap();
    let node = node::open(&impatient(&site)).unwrap();
    assert_eq!(put(&node, "a").unwrap(), 2);
    let mut taken = Vec::new();
    while let Ok(session) = server.try_sql() {
        taken.push(session);
        assert!(taken.len() < 50);
    }
    // What has a connection goes on.
    assert_eq!(put(&node, "b").unwrap(), 3);
    let refused = node::open(&impatient(&site)).err().expect("no session is left for it");
    assert!(refused.to_string().contains("unavailable"), "{refused}");
    drop(taken);
    assert_eq!(put(&node, "c").unwrap(), 4);
}

/// A standby that was promoted without the last commits: its rows are older than the image that a
/// node holds.
#[test]
fn a_failover_to_an_older_state_is_served_anew() {
    let mut server = Postgres::start(&[]);
    let site = site_on(&server);
    let node = node::open(&impatient(&site)).unwrap();
    assert_eq!(put(&node, "kept").unwrap(), 2);
    server.crash();
    let older = server.copy();
    server.start_again();
    assert_eq!(put(&node, "lost").unwrap(), 3);
    assert_eq!(put(&node, "lost too").unwrap(), 4);
    assert_eq!(node.metrics().images_ahead_of_store.get(), 0);

    server.crash();
    server.replace(&older);
    server.start_again();
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(image.key.version, 2, "what the database says is so");
    assert!(image.graph.dataset("lost").is_none() && image.graph.dataset("kept").is_some());
    assert_eq!(node.metrics().images_ahead_of_store.get(), 1);
    assert_eq!(put(&node, "new").unwrap(), 3);
    assert_eq!(audit(&site).digest, node.read_and_wait(&name(GRAPH)).unwrap().graph.digest());
}

/// The address with its password is shown to nobody.
#[test]
fn a_password_is_not_told() {
    let site = Site::on(Kind::Postgres);
    let url = site.database_url().replace("postgres@", "postgres:very-secret@");
    let mut command = site.fencepost(&["serve", "--address", "127.0.0.1:0"]);
    command.env("FENCEPOST_DATABASE_URL", &url);
    let server = crate::support::cluster::Server::start(command);
    let log = server.wait_for_log(|log| log.contains("serving"));
    assert!(log.contains("postgres:***@") && !log.contains("very-secret"), "{log}");
    let body = json!({});
    assert!(
        Client::new().send(&server.base, "PUT", "/v1/graphs/x", None, Some(&body)).unwrap().status
            < 300
    );
    let nobody = site.fencepost(&[
        "serve",
        "--database-url",
        "postgres://me:very-secret@127.0.0.1:1/x?password=very-secret",
    ]);
    let (code, said) = crate::support::cluster::finish(nobody);
    assert!(
        code == Some(3) && said.contains("me:***@") && !said.contains("very-secret"),
        "{code:?} {said}"
    );
    assert!(matches!(site.sql(), Sql::Postgres(_)));
}

/// Nor to a client, who is told why the database is not there.
#[test]
fn a_password_is_not_told_to_clients() {
    let mut server = Postgres::start(&[]);
    let site = site_on(&server);
    let url = site.database_url().replace("postgres@", "postgres:very-secret@");
    let mut command = site.fencepost(&SERVE);
    command.args(["--lock-url", &format!("file:{}", site.path("locks").display())]);
    command.env("FENCEPOST_DATABASE_URL", url);
    let process = crate::support::cluster::Server::start(command);
    server.crash();
    for path in ["/readyz", "/v1/graphs", "/v1/graphs/g"] {
        let answer = process.get(path).unwrap();
        let body = answer.body.to_string();
        assert_eq!(answer.status, 503, "{body}");
        assert!(!body.contains("very-secret"), "{body}");
    }
    server.start_again();
}
