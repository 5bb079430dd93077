//! How a database is opened: settings, migrations, and what is refused with a word on what to do.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Barrier;

use fencepost::db::{Database, DbError, PoolLimits};
use uuid::Uuid;

use crate::support::ask::{accepted, put_dataset};
use crate::support::cluster::{GRAPH, Kind, SERVE, Server, Site, finish, name};
use crate::support::storm::audit;

/// Code and message of a `serve` that must not come up.
fn refused(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = site.fencepost(arguments);
    command.args(SERVE);
    did_not_come_up(command)
}

fn did_not_come_up(command: Command) -> (Option<i32>, String) {
    match Server::try_start(command) {
        Err(refused) => refused,
        Ok(server) => panic!("it came up, on {}", server.base),
    }
}

#[test]
fn every_pooled_connection_is_set_up_for_durability() {
    const CONNECTIONS: usize = 16;
    let site = Site::new();
    let limits = PoolLimits { connections: CONNECTIONS as u32, ..PoolLimits::default() };
    let database = Database::open(&site.options().database, limits).unwrap();
    let all_open = Barrier::new(CONNECTIONS);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let settings = database.read(|connection| {
                    all_open.wait();
                    connection.settings()
                });
                let expected = [
                    ("journal_mode", "wal"),
                    ("synchronous", "2"),
                    ("foreign_keys", "1"),
                    ("temp_store", "2"),
                ];
                assert_eq!(
                    settings.unwrap(),
                    expected.map(|(name, value)| (name, value.to_owned()))
                );
            });
        }
    });
}

/// An `IMMEDIATE` transaction has the file's write lock before its first statement: one that began
/// as a reader could fail to get it.
#[test]
fn two_transactions_that_read_before_they_write_wait_for_each_other() {
    let site = Site::with_graph();
    let before = site.head().fence;
    let database = Database::open(&site.options().database, PoolLimits::default()).unwrap();
    let threads = 4;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..25 {
                    use diesel::prelude::*;
                    use fencepost::db::schema::graphs;
                    let written = database.write(|connection| {
                        let read: i64 = graphs::table.select(graphs::fence).first(connection)?;
                        diesel::update(graphs::table)
                            .set(graphs::fence.eq(read + 1))
                            .execute(connection)?;
                        Ok::<_, DbError>(())
                    });
                    assert!(written.is_ok(), "{written:?}");
                }
            });
        }
    });
    assert_eq!(site.head().fence, before + 25 * threads);
}

/// A mistake of ours in the midst of a transaction: the connection must not go back to the pool
/// with the file's write lock in hand.
#[test]
fn a_transaction_whose_body_panics_is_rolled_back() {
    use diesel::prelude::*;
    use fencepost::db::schema::graphs;
    let site = Site::with_graph();
    let limits = PoolLimits { connections: 1, ..PoolLimits::default() };
    let database = Database::open(&site.options().database, limits).unwrap();
    let in_a_write = std::thread::scope(|scope| {
        let body = || {
            database.write(|connection| {
                diesel::update(graphs::table).set(graphs::version.eq(77)).execute(connection)?;
                if site.database().exists() { panic!("a mistake") } else { Ok::<_, DbError>(()) }
            })
        };
        scope.spawn(body).join().is_err()
    });
    let in_a_read = std::thread::scope(|scope| {
        scope
            .spawn(|| database.read(|_| -> Result<(), DbError> { panic!("another") }))
            .join()
            .is_err()
    });
    assert!(in_a_write && in_a_read);
    let read = database.read(|connection| {
        Ok::<i64, DbError>(graphs::table.select(graphs::version).first(connection)?)
    });
    assert_eq!(read.unwrap(), 1);
    accepted(&site.node(), [put_dataset("d")]);
    let written = database.write(|_| Ok::<_, DbError>(()));
    assert!(written.is_ok(), "{written:?}");
    audit(&site);
}

#[test]
fn eight_processes_that_start_at_once_on_a_new_file_all_come_up() {
    let site = Site::new();
    let servers: Vec<Server> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8).map(|_| scope.spawn(|| site.serve())).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    for server in &servers {
        let answer = server.get("/readyz").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    site.node().create_graph_and_wait(&name(GRAPH)).unwrap();
    for (n, server) in servers.iter().enumerate() {
        assert_eq!(server.put_job(&format!("j{n}"), &[], &[]).unwrap().version(), n as u64 + 1);
    }
    assert_eq!(audit(&site).version, 8);
}

/// Changing the journal mode of a new file does not wait for others who do the same, unless it is
/// tried again.
#[test]
fn many_that_open_a_new_file_at_the_same_moment_all_succeed() {
    for _ in 0..200 {
        let site = Site::new();
        let url = site.options().database;
        let together = Barrier::new(12);
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    together.wait();
                    if let Err(error) = Database::open(&url, PoolLimits::default()) {
                        panic!("{error}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_url_that_names_no_database_is_wrong_usage_and_says_which_forms_there_are() {
    let site = Site::new();
    for url in ["mysql://user:secret@host/db", "fencepost.db", "sqlite:", "sqlite::memory:", ""] {
        let (code, said) = refused(&site, &["--database-url", url]);
        assert!(
            code == Some(2) && said.contains("sqlite:PATH") && said.contains("postgres://"),
            "{url}: {code:?} {said}"
        );
        assert!(!said.contains("secret"), "{said}");
    }
    for url in ["somewhere", "", "redis", "http://host"] {
        let (code, said) = refused(&site, &["--lock-url", url]);
        let forms = ["file:DIR", "postgres", "redis://"].map(|form| said.contains(form));
        assert!(code == Some(2) && forms == [true; 3], "{url}: {code:?} {said}");
    }
    for url in ["redis:/x", "redis://user:secret@host/x", "rediss://"] {
        let (code, said) = refused(&site, &["--lock-url", url]);
        assert!(
            code == Some(2) && said.contains("redis://[USER:PASSWORD@]HOST"),
            "{url}: {code:?} {said}"
        );
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn a_lock_that_cannot_guard_the_database_is_refused_with_the_reason() {
    for (kind, lock, reason) in [
        (Kind::Sqlite, "postgres", "a lock of a Postgres database's own; give file:DIR or file:"),
        (Kind::Postgres, "file:", "no directory beside a server's database; give file:DIR"),
    ] {
        let site = Site::on(kind);
        let (code, said) = refused(&site, &["--lock-url", lock]);
        assert!(code == Some(2) && said.contains(reason), "{code:?} {said}");
    }
    // The default is remembered: another is refused from then on.
    let site = Site::on(Kind::Postgres);
    drop(site.serve());
    let (code, said) =
        refused(&site, &["--lock-url", &format!("file:{}", site.path("locks").display())]);
    assert!(code == Some(1) && said.contains("fencepost lock set --lock-url"), "{code:?} {said}");
}

#[test]
fn a_database_that_cannot_be_opened_names_its_path() {
    let site = Site::new();
    let missing = site.path("missing/fencepost.db");
    let (code, said) =
        refused(&site, &["--database-url", &format!("sqlite:{}", missing.display())]);
    assert!(code == Some(3) && said.contains(missing.to_str().unwrap()), "{code:?} {said}");
    std::fs::write(
        site.database(),
        "this is a text and no database, and it is long enough to be looked at".repeat(20),
    )
    .unwrap();
    let (code, said) = refused(&site, &[]);
    assert!(code == Some(3) && said.contains("not a database"), "{code:?} {said}");
}

/// As root, without the right to pass over permissions.
pub(super) fn bound_by_permissions(command: Command) -> Command {
    let (_, id) = finish({
        let mut id = Command::new("id");
        id.arg("-u");
        id
    });
    if id.trim() != "0" {
        return command;
    }
    let mut bound = Command::new("setpriv");
    bound.args([
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
    ]);
    bound.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            bound.env(name, value);
        }
    }
    bound
}

#[test]
fn a_file_that_may_not_be_written_is_told() {
    let site = Site::with_graph();
    let permissions = |directory, file| {
        let set = |path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
        };
        set(site.database(), file);
        set(site.path(""), directory);
    };
    permissions(0o555, 0o444);
    let (code, said) = did_not_come_up(bound_by_permissions(site.fencepost(&SERVE)));
    permissions(0o755, 0o644);
    assert!(code == Some(3) && said.contains("fencepost.db"), "{code:?} {said}");
    assert!(
        said.contains("readonly") || said.contains("unable to open"),
        "it says what is wrong: {said}"
    );
    accepted(&site.node(), [put_dataset("d")]);
    audit(&site);
}

/// SQLite makes its log and the log's index even to read.
#[test]
fn whoever_may_not_read_a_file_or_write_to_its_folder_is_told_so() {
    let site = Site::with_graph_on(Kind::Sqlite);
    let read = |directory, file| {
        let set = |path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
        };
        set(site.database(), file);
        set(site.path(""), directory);
        let log = site.fencepost(&["log", "--graph", GRAPH]);
        let (code, said) = finish(bound_by_permissions(log));
        set(site.path(""), 0o755);
        set(site.database(), 0o644);
        (code, said)
    };
    for (directory, file, says) in [
        (0o555, 0o644, "may not write to its folder"),
        (0o555, 0o444, "may not write to its folder"),
        (0o755, 0o000, "permission denied"),
        (0o000, 0o644, "permission denied"),
    ] {
        let (code, said) = read(directory, file);
        assert_eq!(code, Some(3), "{directory:o} {file:o}: {said}");
        assert!(said.contains(says), "{directory:o} {file:o}: {said}");
    }
    let (code, said) = read(0o755, 0o444);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_database_of_a_newer_program_is_refused() {
    let site = Site::with_graph();
    site.run_sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231000000')");
    let (code, said) = refused(&site, &[]);
    assert!(
        code == Some(1) && said.contains("29991231000000") && said.contains("newer fencepost"),
        "{code:?} {said}"
    );
    site.run_sql("DELETE FROM __diesel_schema_migrations WHERE version = '29991231000000'");
    site.serve();
}

#[test]
fn migrations_go_down_and_up_again() {
    let site = Site::new();
    let run = |arguments: &[&str]| finish(site.fencepost(arguments));
    let (code, said) = run(&["migrate"]);
    assert!(
        code == Some(0) && said.contains("000001") && said.contains("000002"),
        "{code:?} {said}"
    );
    let schema = || {
        use diesel::prelude::*;
        #[derive(diesel::QueryableByName, PartialEq, Debug)]
        struct Item {
            #[diesel(sql_type = diesel::sql_types::Text)]
            name: String,
            #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
            sql: Option<String>,
        }
        let query = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE '\\_\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite%' ORDER BY name";
        diesel::sql_query(query).load::<Item>(&mut site.sql()).unwrap()
    };
    let before = schema();
    assert!(run(&["migrate"]).1.contains("up to date"));
    for count in 1..=13 {
        let (code, said) = run(&["migrate", "--revert", &count.to_string()]);
        assert_eq!(code, Some(0), "{said}");
        if count == 13 {
            assert_eq!(schema(), []);
        }
        let (code, said) = run(&["migrate"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(schema(), before);
    }
    let (code, said) = run(&["migrate", "--revert", "14"]);
    assert_eq!(code, Some(1), "there are only thirteen: {said}");
    assert_eq!(schema(), before, "all or nothing");
    let node = site.node();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("d")]);
}

/// Events are named by it, so that no two histories may share one.
#[test]
fn graphs_that_were_there_before_get_uuids_of_their_own() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        let node = site.node();
        for n in 0..40 {
            node.create_graph_and_wait(&name(&format!("graph-{n}"))).unwrap();
        }
        drop(node);
        for arguments in [&["migrate", "--revert", "8"][..], &["migrate"]] {
            let (code, said) = finish(site.fencepost(arguments));
            assert_eq!(code, Some(0), "{said}");
        }
        let heads = site.store().graphs("", None, 100).unwrap();
        let uuids: BTreeSet<Uuid> = heads.iter().map(|head| head.uuid).collect();
        assert_eq!((heads.len(), uuids.len()), (40, 40), "on {kind:?}");
        assert!(uuids.iter().all(|uuid| uuid.get_version_num() == 4), "on {kind:?}: {uuids:?}");
        assert!(heads.iter().all(|head| head.oldest == 1 && head.version == 0));
    }
}

#[test]
fn a_database_guarded_by_another_lock_is_refused_with_the_command_that_changes_it() {
    let site = Site::with_graph();
    let elsewhere = site.path("elsewhere");
    let url = format!("file:{}", elsewhere.display());
    let (code, said) = refused(&site, &["--lock-url", &url]);
    assert!(code == Some(1) && said.contains("fencepost lock set --lock-url"), "{code:?} {said}");
    assert!(
        said.contains("beside-database") && said.contains(elsewhere.to_str().unwrap()),
        "{said}"
    );

    let (code, said) = finish(site.fencepost(&["lock", "set", "--lock-url", &url]));
    assert_eq!(code, Some(0), "{said}");
    let epoch = site.head().epoch;
    // Without --lock-url the stored one is used: that is where the tokens are counted from now on.
    let server = site.serve();
    assert_eq!(server.put_job("j", &[], &[]).unwrap().version(), 2);
    let key = site.lock_key(GRAPH);
    assert!(elsewhere.join(format!("{key}.lock")).metadata().unwrap().len() > 0);
    assert_eq!(site.head().epoch, epoch + 1, "another lock counts in another epoch");
    let (code, said) = refused(&site, &["--lock-url", "file:"]);
    assert!(code == Some(1) && said.contains("lock set"), "{code:?} {said}");
    // By another way to the same directory it is the same lock.
    let link = site.path("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let mut by_link = site.fencepost(&SERVE);
    by_link.args(["--lock-url", &format!("file:{}", link.display())]);
    assert_eq!(Server::start(by_link).put_job("k", &[], &[]).unwrap().version(), 3);

    let (code, said) = finish(site.fencepost(&["lock", "set"]));
    assert!(code == Some(2) && said.contains("--lock-url"), "{code:?} {said}");
    drop(server);
    let (code, said) = finish(site.fencepost(&["lock", "set", "--lock-url", "file:"]));
    assert_eq!(code, Some(0), "{said}");
    accepted(&site.node(), [put_dataset("d")]);
    audit(&site);
}

/// The first to come names the lock; the others, with another, are refused.
#[test]
fn of_processes_with_different_locks_on_a_new_file_only_one_kind_comes_up() {
    let site = Site::new();
    let outcomes: Vec<Result<Server, (Option<i32>, String)>> = std::thread::scope(|scope| {
        let start = |n: usize| {
            let mut command = site.fencepost(&SERVE);
            command.args([
                "--lock-url",
                &format!("file:{}", site.path(&format!("lock-{}", n % 2)).display()),
            ]);
            scope.spawn(|| Server::try_start(command))
        };
        let starting: Vec<_> = (0..6).map(start).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    let up = |kind: usize| {
        outcomes.iter().skip(kind).step_by(2).filter(|outcome| outcome.is_ok()).count()
    };
    assert!(matches!((up(0), up(1)), (3, 0) | (0, 3)), "{} and {} came up", up(0), up(1));
    for (code, said) in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(*code == Some(1) && said.contains("two locks guard nothing"), "{code:?} {said}");
    }
}

#[test]
fn a_database_is_opened_and_read_while_another_process_writes() {
    let site = Site::with_graph();
    let options = site.options();
    let writer = Database::open(&options.database, PoolLimits::default()).unwrap();
    let opened = writer.write(|_| {
        // The file's write lock is held here: opening must not ask for it.
        let node = fencepost::node::open(&options)
            .map_err(|error| DbError::Unavailable { what: error.to_string() })?;
        assert!(node.read_and_wait(&name(GRAPH)).is_ok());
        Ok::<_, DbError>(())
    });
    assert!(opened.is_ok(), "{opened:?}");
}

/// It may be another release's, which goes on serving there.
#[test]
fn a_serve_that_cannot_listen_leaves_the_database_as_it_is() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cannot_listen = |site: &Site| {
        let (code, said) = did_not_come_up(site.fencepost(&["serve", "--address", &address]));
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains(&format!("cannot serve on {address}: ")), "{said}");
    };
    let site = Site::on(Kind::Sqlite);
    cannot_listen(&site);
    assert!(!site.database().exists() && !site.lock_directory().exists());
    let (code, said) = finish(site.fencepost(&["migrate"]));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = finish(site.fencepost(&["migrate", "--revert", "1"]));
    assert_eq!(code, Some(0), "{said}");
    cannot_listen(&site);
    let (code, said) = finish(site.fencepost(&["migrate"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("nothing"), "the migration was still to run: {said}");
}
