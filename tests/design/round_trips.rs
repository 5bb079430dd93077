//! How many round trips a request costs, counted by a proxy: the table of docs/DATABASES.md is what
//! this finds.

use std::fmt::Write as _;
use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use fencepost::db::PoolLimits;
use fencepost::design::turns::locked::LockedLimits;
use fencepost::design::turns::single_writer::SingleWriterLimits;
use fencepost::design::{self, Design, TurnLimits};
use fencepost::lock::kept::KeepLimits;
use fencepost::node::{self, LockUrl, NodeOptions};
use fencepost::service::{Limits, Service, Write};
use redis::Value;

use crate::support::ask::{changeset, delete_dataset, keyed, put_dataset, put_job};
use crate::support::cluster::{GRAPH, Kind, Site, in_child, name, wait_until};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;

const DOCUMENT: &str = include_str!("../../docs/DATABASES.md");
const README: &str = include_str!("../../README.md");
const COMPARISON: &str = include_str!("../../docs/DESIGNS.md");

/// So long that nothing is renewed while requests are counted.
const LEASE: Duration = Duration::from_secs(600);

/// Which lock guards the database.
#[derive(Clone, Copy)]
enum Lock<'r> {
    None,
    File,
    Postgres,
    Redis(&'r Redis),
    /// The same, kept from one turn to the next.
    Kept(&'r Redis),
}

/// So long that a grant is kept for as long as requests are counted.
const KEEP: KeepLimits =
    KeepLimits { idle: LEASE, time: LEASE, turns: u32::MAX, look_every: LEASE };

/// What is counted, in the order of the table.
fn requests() -> [(&'static str, Vec<Write>); 6] {
    let job = |n: usize| put_job(&format!("j{n}"), &["first"], &[&format!("out{n}")]);
    [
        ("a write", vec![changeset([job(1)])]),
        ("200 jobs in one write", vec![changeset((2..202).map(job))]),
        ("a write that is rejected", vec![changeset([delete_dataset("missing")])]),
        ("a write that changes nothing", vec![changeset([put_dataset("first")])]),
        ("a write with a key", vec![keyed(changeset([job(300)]), "counted", "f")]),
        ("the same again", vec![keyed(changeset([job(300)]), "counted", "f")]),
    ]
}

fn ask(node: &Service, write: &Write) {
    drop(node.write_and_wait(&name(GRAPH), write.clone()));
}

/// Round trips to the database, and scripts that Redis has run.
fn counted(proxy: &Proxy, lock: Lock<'_>, site: &Site, body: impl FnOnce()) -> String {
    let scripts = || match lock {
        Lock::Redis(redis) | Lock::Kept(redis) => scripts_run(redis),
        _ => 0,
    };
    if !matches!(lock, Lock::None | Lock::Kept(_)) {
        wait_until_free(site);
    }
    let before = (proxy.requests(), scripts());
    body();
    // Whoever asked does not wait for the release of the lock: it is waited for here.
    match lock {
        Lock::Redis(_) => {
            wait_until("the lock is given back", || (scripts() - before.1) % 2 == 0);
        }
        Lock::Postgres => wait_until("the lock is given back", || advisory_locks(site) == 0),
        Lock::None | Lock::File | Lock::Kept(_) => {}
    }
    match (proxy.requests() - before.0, scripts() - before.1) {
        (database, 0) => database.to_string(),
        (database, lock) => format!("{database} + {lock}"),
    }
}

fn wait_until_free(site: &Site) {
    wait_until("nobody has the lock", || {
        let report = node::inspect_lock(&site.options(), &name(GRAPH)).unwrap();
        report.inspection.holders.is_empty()
    });
}

/// How many advisory locks are held in the site's database, asked beside the proxy.
fn advisory_locks(site: &Site) -> i64 {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    let query = "SELECT count(*) AS count FROM pg_locks WHERE locktype = 'advisory' \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    diesel::sql_query(query).get_result::<Count>(&mut site.sql()).unwrap().count
}

/// How often the server has run a script.
fn scripts_run(redis: &Redis) -> usize {
    let Value::BulkString(text) = redis.command(&["INFO", "commandstats"]) else {
        panic!("INFO answers with a text")
    };
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or("");
    let calls = line.split("calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// A line of the table.
fn line(server: &Postgres, design: &'static Design, lock: Lock<'_>) -> String {
    let mut site = Site::at(server.new_database());
    let (word, url) = match lock {
        Lock::None => ("", None),
        Lock::File => ("`file:`", Some(LockUrl::File(Some(site.path("locks"))))),
        Lock::Postgres => ("`postgres`", Some(LockUrl::Postgres)),
        Lock::Redis(redis) => ("`redis://`", Some(LockUrl::parse(&redis.new_database()).unwrap())),
        Lock::Kept(redis) => {
            ("`redis://`, kept", Some(LockUrl::parse(&redis.new_database()).unwrap()))
        }
    };
    site.lock_url = url;
    let proxy = Proxy::to(server.port());
    let through = site.database_url();
    let through = through.replace(&server.port().to_string(), &proxy.port().to_string());
    let mut through = Site::at(through);
    through.lock_url = site.lock_url.clone();
    let pool = PoolLimits { connections: 1, ..PoolLimits::default() };
    let of = |design, site: &Site, keep: Option<KeepLimits>| {
        let locked = LockedLimits { keep, ..LockedLimits::default() };
        let single_writer = SingleWriterLimits { idle: LEASE, ..SingleWriterLimits::default() };
        let turn_limits = TurnLimits { locked, single_writer, ..TurnLimits::default() };
        // Nothing asks beside the requests.
        let limits = Limits { snapshot_log_bytes: u64::MAX, ..Limits::default() };
        let options =
            NodeOptions { pool, design, lease: LEASE, limits, turn_limits, ..site.options() };
        node::open(&options).unwrap()
    };
    let keeps = matches!(lock, Lock::Kept(_));
    let node = of(design, &through, keeps.then_some(KEEP));
    // Beside a leader only nodes of other designs write.
    let other = match design.has_leader() {
        true => of(Design::following(design.storage).unwrap(), &site, None),
        false => of(design, &site, None),
    };
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    // Each statement is prepared when it is first used.
    ask(&node, &changeset([put_dataset("first")]));
    for (number, (_, writes)) in requests().into_iter().enumerate() {
        writes.iter().for_each(|write| ask(&node, write));
        ask(&node, &keyed(changeset([put_dataset("warm")]), &format!("warm{number}"), "f"));
    }
    ask(&other, &changeset([put_dataset("theirs")]));
    node.read_and_wait(&name(GRAPH)).unwrap();
    ask(&node, &changeset([put_dataset("warm again")]));
    ask(&other, &changeset([put_dataset("theirs, unseen")]));
    ask(&node, &changeset([put_dataset("after theirs")]));
    site.run_sql("DELETE FROM idempotency_keys");
    let lot = |from: usize| {
        let job = |n: usize| put_job(&format!("k{n}"), &["first"], &[&format!("kout{n}")]);
        changeset((from..from + 200).map(job))
    };
    ask(&node, &lot(0));

    let mut cells = Vec::new();
    for (what, writes) in requests() {
        let write = match what {
            "a write" => &changeset([put_job("counted", &["first"], &["new"])]),
            "200 jobs in one write" => &lot(1_000),
            "a write with a key" | "the same again" => {
                let job = put_job("keyed", &["first"], &["keyed out"]);
                &keyed(changeset([job]), "counted", "f")
            }
            _ => &writes[0],
        };
        cells.push(counted(&proxy, lock, &site, || ask(&node, write)));
    }
    ask(&other, &changeset([put_dataset("theirs again")]));
    if keeps {
        wait_until_free(&site);
    }
    let mine = changeset([put_dataset("mine")]);
    cells.push(counted(&proxy, lock, &site, || ask(&node, &mine)));
    cells.push(counted(&proxy, lock, &site, || drop(node.read_and_wait(&name(GRAPH)).unwrap())));
    let mut line = format!("| `{design}` | {word} |");
    cells.iter().for_each(|cell| write!(line, " {cell} |").unwrap());
    line
}

/// The rows of a document's table of designs, each with the name of its design.
fn rows_of_designs(document: &str) -> Vec<(&str, &str)> {
    let table = document.lines().skip_while(|line| !line.starts_with("| design |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| (row.split('`').nth(1).expect("the first cell names a design"), row)).collect()
}

/// The names of these rows, each once.
fn names_of<'d>(rows: &[(&'d str, &str)]) -> Vec<&'d str> {
    let mut names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
    names.dedup();
    names
}

/// The README's table names the designs that the project offers.
#[test]
fn a_design_in_the_readme_is_in_every_table_of_designs() {
    let offered = names_of(&rows_of_designs(README));
    assert!(offered.len() > 4, "the table of the README was not found");
    assert_eq!(offered[0], design::ALL[0].name, "the default comes first");
    for name in &offered {
        assert!(design::named(name).is_some(), "there is no design {name}");
    }
    assert_eq!(names_of(&rows_of_designs(COMPARISON)), offered, "docs/DESIGNS.md");
    assert_eq!(names_of(&rows_of_designs(DOCUMENT)), offered, "docs/DATABASES.md");
}

/// The rows of a design that is in no document yet are printed, to be put into it.
#[test]
fn the_table_of_round_trips_is_what_is_counted() {
    let (redis, server) = (Redis::start(&["--databases", "4096"]), Postgres::start(&[]));
    let offered = names_of(&rows_of_designs(README));
    let mut found = Vec::new();
    for design in design::ALL.iter().copied() {
        let locks = [Lock::File, Lock::Postgres, Lock::Redis(&redis), Lock::Kept(&redis)];
        let locks = match (design.takes_lock(), design.keeps_lock()) {
            (true, true) => &locks[..],
            (true, false) => &locks[..3],
            (false, _) => &[Lock::None],
        };
        let lines = locks.iter().map(|lock| line(&server, design, *lock));
        if offered.contains(&design.name) {
            found.extend(lines);
        } else {
            lines.for_each(|line| println!("{line}"));
        }
    }
    let documented = rows_of_designs(DOCUMENT).len();
    assert_eq!(documented, found.len(), "as many lines in the document as were counted");
    let missing: Vec<&String> = found.iter().filter(|line| !DOCUMENT.contains(*line)).collect();
    assert!(missing.is_empty(), "docs/DATABASES.md is to have:\n{}", found.join("\n"));
}

/// Counts statements and preparations of SQLite, in a process of its own.
#[derive(Default)]
struct Counter;

static STATEMENTS: std::sync::Mutex<(Vec<String>, usize)> = std::sync::Mutex::new((Vec::new(), 0));

impl Instrumentation for Counter {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        let mut counted = STATEMENTS.lock().unwrap();
        match event {
            InstrumentationEvent::StartQuery { query, .. } => counted.0.push(query.to_string()),
            InstrumentationEvent::CacheQuery { .. } => counted.1 += 1,
            _ => {}
        }
    }
}

/// SQLite is in this process: no round trips, but statements, each prepared once.
#[test]
fn a_write_on_sqlite_is_as_few_statements_as_it_changes_rows_and_none_is_prepared_twice() {
    in_child(
        concat!(
            module_path!(),
            "::a_write_on_sqlite_is_as_few_statements_as_it_changes_rows_and_none_is_prepared_twice"
        ),
        "",
        || {
            set_default_instrumentation(|| Some(Box::new(Counter))).unwrap();
            let site = Site::on(Kind::Sqlite);
            let pool = PoolLimits { connections: 1, ..PoolLimits::default() };
            let node = node::open(&NodeOptions { pool, ..site.options() }).unwrap();
            node.create_graph_and_wait(&name(GRAPH)).unwrap();
            let job = |n: usize| put_job(&format!("j{n}"), &["first"], &[&format!("out{n}")]);
            ask(&node, &changeset([put_dataset("first")]));
            for n in 0..3 {
                ask(&node, &changeset([job(n)]));
            }
            let statements = |write: Write| {
                *STATEMENTS.lock().unwrap() = (Vec::new(), 0);
                ask(&node, &write);
                let (texts, prepared) = std::mem::take(&mut *STATEMENTS.lock().unwrap());
                // The schema of a file is looked at once a second.
                let ours = texts.into_iter().filter(|text| !text.contains("__diesel_schema"));
                let ours = ours.filter(|text| !text.contains("sqlite_schema"));
                (ours.collect::<Vec<_>>(), prepared)
            };
            // BEGIN, the conditional update, a dataset, a job, the clock, the log, COMMIT.
            let (texts, prepared) = statements(changeset([job(4)]));
            assert_eq!((texts.len(), prepared), (7, 0), "{texts:#?}");
            let (texts, prepared) = statements(changeset((5..105).map(job)));
            assert_eq!((texts.len(), prepared), (7 + 2 * 99, 0), "{texts:#?}");
            // A look at the graph's row.
            let (texts, _) = statements(changeset([put_dataset("first")]));
            assert_eq!(texts.len(), 1, "{texts:#?}");
        },
    );
}
