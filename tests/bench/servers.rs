//! `bench run` on servers: those that it starts itself, and given ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use fencepost::bench::run::Results;
use fencepost::bench::run::results::{CheckVerdict, Point, TimeLine};
use fencepost::bench::run::setting::{DatabaseKind, LockKind, Setting};
use fencepost::bench::{Latencies, Part};
use tempfile::TempDir;

use super::runs::{self, measured, results};
use crate::support::cluster::wait_until;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

/// Where a run can be into which the user may look that Postgres runs as.
fn place() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

/// A short run of the profile `standard` into `out`.
fn bench(out: &Path, more: &[&str]) -> Command {
    let small =
        [["--sizes", "100"], ["--seconds", "0.2"], ["--warmup-seconds", "0"], ["--blocks", "1"]];
    runs::bench(out, &small, &[&["--profile", "standard"], more].concat())
}

fn run(out: &Path, more: &[&str]) -> (Results, String) {
    runs::ended(out, bench(out, more))
}

fn of_designs(results: &Results) -> impl Iterator<Item = &Point> {
    results.points.iter().filter(|point| !point.key.is_floor())
}

/// Ends what is left of a run when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The ids of processes that have this word in their command line.
fn processes_of(word: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |id: &u32| {
        fs::read(format!("/proc/{id}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    };
    ids.filter(is_one).collect()
}

/// Servers of a run into `out`, by the directory that they run in.
fn servers_in(out: &Path) -> Vec<u32> {
    let within = fs::canonicalize(out).unwrap_or_else(|_| out.to_owned());
    let of = |name: &str| processes_of(name).into_iter();
    let all = of("postgres").chain(of("redis-server"));
    let is_here = |id: &u32| {
        fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|place| place.starts_with(&within))
    };
    all.filter(is_here).collect()
}

/// What happened is told, at its place in the window, and the window shows it there.
fn assert_shows(line: &TimeLine, workload: &str, at: &str) {
    let says = match workload {
        "node-killed" => ", which led, was killed",
        "redis-forgets" => "Redis has forgotten",
        "postgres-restarts" => "Postgres was ended",
        "node-joins" => "another node has started",
        "log-exported" => "the whole log was exported",
        other => panic!("{other}"),
    };
    assert!(line.event.contains(says), "{at}");
    assert!(line.at_seconds >= 2.0 && line.parts.len() == 40, "{at}");
    let of_event = (line.at_seconds / line.part_seconds) as usize;
    let is_whole = |part: &Part| part.refused + part.failed == 0;
    // The warm-up may have left something to the first.
    assert!(line.parts[1..of_event].iter().all(is_whole), "{at}");
    let costs = ["node-killed", "postgres-restarts"].contains(&workload);
    let fewest = line.parts[of_event..].iter().map(|part| part.answered).min().unwrap();
    let usual = line.parts[1..of_event].iter().map(|part| part.answered).min().unwrap();
    assert!(!costs || fewest < usual / 2, "{at}");
    assert_eq!(line.took_seconds > 0.0, workload != "node-killed", "{at}");
}

#[test]
fn the_whole_matrix_runs_on_servers_of_its_own_and_every_answer_is_judged() {
    let place = place();
    let out = place.path().join("out");
    let designs = ["crud", "es-single-writer", "es-unchecked"];
    let more = ["--designs", &designs.join(","), "--graphs", "100"];
    let (results, table) = run(&out, &more);
    assert!(results.complete && servers_in(&out).is_empty());
    let mut settings = BTreeSet::new();
    for point in of_designs(&results) {
        let (found, setting) = (measured(point), point.key.setting);
        let at = format!("{:?}: {found:?}", point.key);
        settings.insert((setting, point.key.nodes));
        if point.key.design != "es-unchecked" {
            assert!(matches!(found.verdict, CheckVerdict::Valid { .. }), "{at}");
        }
        assert!(found.disk.is_some(), "{at}");
        if let Some(line) = &found.timeline {
            assert_shows(line, &point.key.workload, &at);
            continue;
        }
        assert_eq!(found.figures.failed, 0, "{at}");
        let on_server = setting.database == DatabaseKind::Postgres;
        assert_eq!(point.durability.starts_with("postgres, fsync=on "), on_server, "{at}");
        assert_eq!(found.raw.wal_bytes.is_some(), on_server, "{at}");
        assert_eq!(found.raw.round_trips.is_some(), setting.delay_us.is_some(), "{at}");
        if setting.first_is_near {
            assert_eq!(found.raw.by_node.len(), 2, "{at}");
            let far = Latencies::decoded(&found.raw.by_node[1]).unwrap().percentiles();
            // By a lock, each write waits for servers; to a leader it is passed on.
            let waits = far.is_some_and(|far| far.p50_us >= 20_000.0);
            assert!(waits || point.key.design != "crud", "{at}");
        }
        let starts = point.key.workload.starts_with("start");
        // Each commit waits for one, and may share it; a node that starts or leads makes some more,
        // and a leader one for each graph that it begins to lead.
        assert_eq!(found.raw.syncs.is_some(), !starts && found.timeline.is_none(), "{at}");
        if let Some(syncs) = found.raw.syncs {
            let many = point.key.has_many_graphs();
            let allowed = if many { 40 + syncs.commits } else { 40 };
            let more = syncs.count.saturating_sub(syncs.commits);
            assert!(2 * syncs.count >= syncs.commits && more < allowed, "{at}: {syncs:?}");
        }
        let of = |name: &str| starts || found.raw.processor.iter().any(|used| used.process == name);
        if !starts {
            assert_eq!((of("postgres"), of("redis")), (on_server, setting.needs_redis()), "{at}");
            assert_eq!(of("proxy"), setting.delay_us.is_some(), "{at}");
        }
        let base = point.base.as_ref().unwrap();
        assert_eq!(base.ends_with("-on-postgres"), on_server, "{at}");
    }
    let bases = results.bases.iter().filter(|base| base.storage == "log");
    for base in bases {
        let takes = base.commands.iter().any(|command| command.contains(" snapshot take "));
        // Many graphs are empty.
        let has_jobs = base.jobs > 0;
        assert_eq!(takes, has_jobs && !base.name.ends_with("-without-snapshots"), "{base:?}");
    }
    let has = |is_one: &dyn Fn(&Setting, u32) -> bool| {
        settings.iter().any(|(setting, nodes)| is_one(setting, *nodes))
    };
    assert!(has(&|setting, _| *setting == Setting::SQLITE));
    assert!(has(&|setting, nodes| *setting == Setting::POSTGRES && nodes == 4));
    assert!(has(&|setting, _| setting.lock == LockKind::Postgres));
    assert!(has(&|setting, _| setting.delay_us == Some(5_000)));
    assert!(has(&|setting, nodes| setting.delay_us == Some(1_000) && nodes == 4));
    assert!(has(&|setting, nodes| setting.first_is_near && nodes == 2));
    assert!(has(&|setting, _| !setting.sharing) && has(&|setting, _| setting.after_checkpoint));
    let events = of_designs(&results).filter_map(|point| measured(point).timeline.as_ref());
    assert_eq!(events.count(), 5, "each happens once");
    // One graph, wherever it is kept, and one that it was turned into by many changes.
    // Many graphs are empty.
    let loaded = results.bases.iter().filter(|base| base.jobs > 0);
    let digests: BTreeSet<&String> = loaded.map(|base| &base.digest).collect();
    assert!(digests.len() <= 2, "{:?}", results.bases);
    let software = &results.machine.software;
    assert!(software["postgres settings"].contains("autovacuum=off"), "{software:?}");
    assert!(software["redis"].starts_with("Redis ") && software.contains_key("postgres"));
    // Whose lines are wrapped.
    let table = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(table.contains("bytes of WAL") && table.contains("round trips"), "{table}");
    assert!(table.contains("Postgres with the redis lock, 5 ms a round trip"), "{table}");
}

#[test]
fn a_delay_shows_as_often_as_somebody_waits() {
    let place = place();
    let out = place.path().join("out");
    let more = ["--designs", "crud", "--workloads", "turns", "--warmup-seconds", "0.5"];
    // By a path that is relative, as by default.
    let mut command = bench(Path::new("out"), &[&more[..], &["--seconds", "1.5"]].concat());
    let output = command.current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let results = results(&out);
    let of = |delay_us: u64| {
        let is_one =
            |point: &&Point| point.key.setting.delay_us == Some(delay_us) && point.key.nodes == 2;
        measured(results.points.iter().find(is_one).unwrap())
    };
    // What loads the graph anew after the other node has written: docs/DATABASES.md has seven, and
    // one to the lock that is waited for.
    for delay_us in [0, 1_000, 5_000] {
        let figures = &of(delay_us).figures;
        let database = figures.database_round_trips_per_operation.unwrap();
        let lock = figures.lock_round_trips_per_operation.unwrap();
        assert!((6.5..11.0).contains(&database) && lock >= 1.0, "{delay_us}: {figures:?}");
        let least_us = 7.0 * delay_us as f64;
        let p50_us = figures.latency.unwrap().p50_us;
        assert!(p50_us >= least_us, "{p50_us} µs with {database} + {lock} of {delay_us} µs");
    }
}

#[test]
fn a_killed_database_server_costs_its_point_and_is_started_again() {
    let place = place();
    let out = place.path().join("out");
    let more = ["--designs", "crud,es-locked", "--workloads", "reregister", "--blocks", "3"];
    let running = bench(&out, &[&more[..], &["--seconds", "1"]].concat()).spawn().unwrap();
    let mut running = Running(running);
    // Neither one of its children nor its keeper.
    let data = |id: &u32| {
        let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.contains("\0-D\0") && !line.starts_with("/bin/sh")
    };
    wait_until("the server of a later point is killed", || {
        let is_later = out.join("results.json").exists();
        let first = servers_in(&out).into_iter().find(data).filter(|_| is_later);
        first.is_some_and(|first| {
            let killed = Command::new("kill").args(["-KILL", "--", &first.to_string()]).status();
            killed.unwrap().success()
        })
    });
    let status = running.0.wait().unwrap();
    let results = results(&out);
    assert!(results.complete);
    let is_failed = |point: &&Point| point.failure().is_some();
    let failed: Vec<_> = results.points.iter().filter(is_failed).collect();
    // The one that was measured then; before, while it began, or after it had ended, none is.
    assert!(failed.len() <= 1, "{failed:?}");
    assert_eq!(status.code(), Some(if failed.is_empty() { 0 } else { 3 }), "a point is missing");
    assert!(measured(of_designs(&results).last().unwrap()).figures.served > 0);
    assert!(servers_in(&out).is_empty());
}

#[test]
fn a_killed_run_leaves_no_servers_and_can_be_gone_on_with() {
    let place = place();
    let out = place.path().join("out");
    let more = ["--designs", "crud", "--workloads", "reregister", "--only-pairs"];
    let mut running = Running(bench(&out, &more).spawn().unwrap());
    wait_until("its servers run, and a point is done", || {
        servers_in(&out).len() > 2 && out.join("results.json").exists()
    });
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    wait_until("they have ended", || servers_in(&out).is_empty());
    let (results, _) = run(&out, &[&more[..], &["--resume"]].concat());
    assert!(results.complete);
}

#[test]
fn what_is_missing_is_told_with_what_to_install() {
    let place = place();
    let out = place.path().join("out");
    let mut command = bench(&out, &["--designs", "crud", "--workloads", "reregister"]);
    let output = command.env("PATH", "/no/such/directory").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("apt install redis-server"), "{said}");
    assert!(said.contains("--redis-url"), "{said}");
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = diesel::sql_types::Text)]
    datname: String,
}

/// All databases of benchmarks on the server.
fn databases(postgres: &Postgres) -> BTreeSet<String> {
    let all = sql_query("SELECT datname::text FROM pg_database").load::<Name>(&mut postgres.sql());
    let names = all.unwrap().into_iter().map(|row| row.datname);
    names.filter(|name| name.starts_with("fencepost_bench_")).collect()
}

/// A run that ends hard cannot remove them itself; one that is told to end does.
#[test]
fn a_killed_run_leaves_no_databases_on_a_given_server_once_it_is_gone_on_with() {
    let place = place();
    let out = place.path().join("out");
    let postgres = Postgres::start(&[]);
    let database = postgres.url("postgres");
    let more = ["--designs", "crud", "--workloads", "reregister", "--only-pairs"];
    let more = [&more[..], &["--postgres-url", &database]].concat();
    let mut running = Running(bench(&out, &more).spawn().unwrap());
    wait_until("it has made databases", || !databases(&postgres).is_empty());
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let first = databases(&postgres);
    assert!(!first.is_empty() && out.join("databases-on-postgres").exists());
    // Whether or not a point was done before.
    let more = [&more[..], &["--resume"]].concat();
    let mut running = Running(bench(&out, &more).spawn().unwrap());
    wait_until("it has removed them and made others", || {
        let now = databases(&postgres);
        !now.is_empty() && now.is_disjoint(&first)
    });
    let hung_up = Command::new("kill").args(["-HUP", "--", &running.0.id().to_string()]).status();
    assert!(hung_up.unwrap().success());
    assert!(matches!(running.0.wait().unwrap().code(), Some(0 | 3)), "it ended by itself");
    assert!(databases(&postgres).is_empty() && !out.join("databases-on-postgres").exists());
}

#[test]
fn what_cannot_work_on_a_given_server_is_told_before_anything_is_measured() {
    let place = place();
    let out = place.path().join("out");
    let postgres = Postgres::start(&[]);
    let role = "CREATE ROLE benchmark_without_rights LOGIN";
    sql_query(role).execute(&mut postgres.sql()).unwrap();
    let (port, redis) = (postgres.port(), Redis::shared().new_database());
    let twice = format!("postgres://postgres@127.0.0.1:{port},127.0.0.1:{port}/postgres");
    let poor = format!("postgres://benchmark_without_rights@127.0.0.1:{port}/postgres");
    let elsewhere = format!("{}?dbname=postgres", postgres.url("postgres"));
    for (url, more, says) in [
        (&twice, &[][..], "names not just one host"),
        (&poor, &[], "make checkpoints"),
        (&poor, &["--only-pairs"], "create databases"),
        (&elsewhere, &[], "`dbname` after the `?`"),
    ] {
        let urls = ["--postgres-url", url, "--redis-url", &redis];
        let output = bench(&out, &[more, &urls].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(says), "{url}: {said}");
        assert!(!out.join("results.json").exists() && databases(&postgres).is_empty());
    }
}

#[test]
fn given_servers_are_used_and_no_database_is_left_there() {
    let place = place();
    let out = place.path().join("out");
    let (postgres, redis) = (Postgres::shared(), Redis::shared());
    let (database, locks) = (postgres.url("postgres"), redis.new_database());
    let more = ["--designs", "crud", "--workloads", "turns"];
    let urls = ["--postgres-url", &database, "--redis-url", &locks];
    let (results, _) = run(&out, &[&more[..], &urls].concat());
    let on_server = |point: &&Point| point.key.setting.database == DatabaseKind::Postgres;
    let point = of_designs(&results).find(on_server).unwrap();
    // As the tests have it.
    let crash = "postgres, fsync=off synchronous_commit=on full_page_writes=off: a crash of \
                 processes only";
    assert_eq!(point.durability, crash);
    assert!(databases(postgres).is_empty() && !out.join("databases-on-postgres").exists());
    // Another version of the server is another machine.
    let mut before = results.clone();
    before.machine.software.insert("postgres".to_owned(), "14.1".to_owned());
    before.write(&out.join("results.json")).unwrap();
    let output = bench(&out, &[&more[..], &urls, &["--resume"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("not `14.1`"), "{said}");
    // So is one at another place.
    before.machine.software = results.machine.software.clone();
    before.machine.software.insert("redis server".to_owned(), "given, at redis://h".to_owned());
    before.write(&out.join("results.json")).unwrap();
    let output = bench(&out, &[&more[..], &urls, &["--resume"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("not `given, at redis://h`"),
        "{said}"
    );
    let away = ["--postgres-url", "postgres://postgres:hush@127.0.0.1:1/x"];
    let output = bench(&place.path().join("away"), &[&more[..], &away].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && !said.contains("hush"), "{said}");
}
