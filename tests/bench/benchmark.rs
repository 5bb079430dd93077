//! `bench run`: the real program, with servers of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fencepost::bench::run::results::{BaseRecord, CheckVerdict, Key, NotCompared, Outcome, Point};
use fencepost::bench::run::{Results, workloads};
use fencepost::bench::{InProcess, Outcome as Answer, Request, Target as _};
use fencepost::db::DatabaseUrl;
use fencepost::design::{self, Design};
use fencepost::node::{self, NodeOptions};
use tempfile::TempDir;

use super::place::{fencepost, graph};
use super::runs::{self, measured, results};
use crate::cli::Shell;
use crate::support::cluster::wait_until;

/// A run into `out`, short and small unless `more` says otherwise.
fn bench(out: &Path, more: &[&str]) -> Command {
    let small =
        [["--sizes", "200"], ["--seconds", "0.1"], ["--warmup-seconds", "0"], ["--blocks", "1"]];
    runs::bench(out, &small, more)
}

/// What it found, and what it printed.
fn run(out: &Path, more: &[&str]) -> (Results, String) {
    runs::ended(out, bench(out, more))
}

/// Where databases are, in the directory of a run.
const WORK: &str = "fencepost-bench-work";

fn names_of_all<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(",")
}

#[test]
fn every_workload_runs_on_every_design_and_every_answer_is_judged() {
    let directory = TempDir::new().unwrap();
    let designs = names_of_all(design::ALL.iter().map(|design| design.name));
    // Those in which something happens take long, and are measured on servers.
    let usual: Vec<_> = workloads::ALL.iter().filter(|workload| workload.event.is_none()).collect();
    let works = names_of_all(usual.iter().map(|workload| workload.name));
    let more = ["--designs", &designs, "--workloads", &works, "--graphs", "100"];
    let (results, _) = run(&directory.path().join("out"), &more);
    assert!(results.complete);
    let mut seen = BTreeSet::new();
    let (mut completed, mut rejected) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new());
    for point in &results.points {
        let measured = measured(point);
        if point.key.is_floor() {
            assert_eq!(measured.verdict, CheckVerdict::NotApplicable);
            let figures = &measured.figures;
            assert!(figures.served > 0 && figures.failed == 0, "{measured:?}");
            continue;
        }
        let (design, workload) = (point.key.design.as_str(), point.key.workload.as_str());
        let at = format!("{design} {workload}: {measured:?}");
        seen.insert((design, workload));
        assert!(!measured.start_seconds.is_empty() && measured.disk.is_some(), "{at}");
        if workload.starts_with("start") {
            assert_eq!(measured.verdict, CheckVerdict::NotApplicable, "{at}");
            continue;
        }
        // Of a slow machine some answers come after so short a window.
        let figures = &measured.figures;
        assert!(figures.failed == 0, "{at}");
        assert_eq!(figures.latency.is_none(), figures.saturated, "{at}");
        *completed.entry(workload).or_default() += figures.completed;
        if design::named(design).unwrap().is_sound() {
            assert!(matches!(measured.verdict, CheckVerdict::Valid { .. }), "{at}");
        }
        if workload.starts_with("rejections") {
            *rejected.entry(workload).or_default() += figures.rejected;
        }
    }
    assert_eq!(seen.len(), design::ALL.len() * usual.len());
    // All but starts.
    assert_eq!(completed.len(), usual.len() - 2);
    assert!(completed.values().all(|count| *count > 0), "{completed:?}");
    assert!(rejected.len() == 2 && rejected.values().all(|count| *count > 0), "{rejected:?}");
    assert!(!directory.path().join("out").join(WORK).exists(), "databases are gone");
}

/// What stands before the command that judges a point again.
const AGAIN: &str = "to judge again, in the directory of results.json:";

#[test]
fn a_broken_design_is_invalid_with_its_first_anomaly() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let more = ["--designs", "es-unchecked,crud", "--workloads", "pairs"];
    let longer = ["--seconds", "0.5"];
    let (results, said) = run(&out, &[&more[..], &longer].concat());
    let of = |design: &str| {
        let point = results.points.iter().find(|point| point.key.design == design).unwrap();
        (point, measured(point))
    };
    let (point, broken) = of("es-unchecked");
    let CheckVerdict::Invalid { kind, .. } = &broken.verdict else { panic!("{broken:?}") };
    assert!(said.contains(&format!("INVALID: {kind}")), "{said}");
    // What was kept of it is judged again, with its log, and found to be the same.
    assert!(out.join(format!("histories/point-{}.db", point.number)).exists());
    let (_, again) = said.split_once(AGAIN).unwrap_or_else(|| panic!("{said}"));
    let again = again.lines().nth(1).unwrap().trim();
    assert!(again.starts_with("fencepost ") && again.contains(" --stored "), "{again}");
    let again = fencepost().args(again.split(' ').skip(1)).current_dir(&out).output().unwrap();
    let found = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.code() == Some(1) && found.contains(kind), "{again:?}");
    assert!(matches!(of("crud").1.verdict, CheckVerdict::Valid { .. }));
}

#[test]
fn what_was_not_checked_is_shown_and_not_compared() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let more = ["--designs", "crud,crud-delta", "--workloads", "reregister", "--no-check"];
    let (results, said) = run(&out, &more);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!results.plan.checks && said.contains("nothing recorded or checked"), "{said}");
    for point in &results.points {
        assert_eq!(measured(point).verdict, CheckVerdict::NotApplicable, "{point:?}");
    }
    let [pair] = &results.comparisons.as_ref().unwrap()[..] else { panic!("{results:?}") };
    assert_eq!((pair.not_compared, pair.ratios.len()), (Some(NotCompared::NotChecked), 0));
    assert!(said.contains("not compared: crud was not checked"), "{said}");
    let checked = [&more[..4], &["--resume"]].concat();
    let output = bench(&out, &checked).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn each_design_is_measured_twice_and_compared_with_itself_if_asked_for() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let designs = ["--designs", "crud,crud-delta,es-unchecked"];
    let more = ["--a-a", "--workloads", "reregister", "--blocks", "2"];
    let (results, said) = run(&out, &[&designs[..], &more].concat());
    let mut found: Vec<(u32, String)> = {
        let points = results.points.iter();
        points.map(|point| (point.block, point.key.label())).collect()
    };
    found.sort_unstable();
    // Neither floors nor one that keeps no rules.
    let labels = ["crud", "crud 2", "crud-delta", "crud-delta 2", "echo", "es-unchecked", "null"];
    let expected = [0, 1].map(|block| labels.map(|label| (block, label.to_owned())));
    assert_eq!(found, expected.concat());
    let pairs: Vec<_> = results.comparisons.iter().flatten().collect();
    let labels: Vec<_> =
        pairs.iter().map(|pair| (pair.first.label(), pair.second.label())).collect();
    let expected = [("crud", "crud-delta"), ("crud", "crud 2"), ("crud-delta", "crud-delta 2")];
    assert_eq!(labels, expected.map(|(one, other)| (one.to_owned(), other.to_owned())));
    assert!(said.contains("A/A, each design measured twice"), "{said}");
    let dry = [&designs[..], &more, &["--dry-run"]].concat();
    let dry = bench(&directory.path().join("dry"), &dry).output().unwrap();
    let dry = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.contains("14 points in 2 blocks, each design twice in a block (A/A)"), "{dry}");
}

/// So that what they have used of the processor is known when their clients have gone.
#[test]
fn threads_of_the_echo_server_outlive_their_clients() {
    let mut command = fencepost();
    let mut echo = command.args(["bench", "floor", "echo"]).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(echo.stderr.take().unwrap());
    let echo = Running(echo);
    let mut addresses = said.lines().filter_map(|line| {
        let line = line.unwrap();
        Some(line.split(" on http://").nth(1)?.split(';').next()?.to_owned())
    });
    let address = addresses.next().expect("it says where it listens");
    let threads = || -> BTreeSet<_> {
        let threads = fs::read_dir(format!("/proc/{}/task", echo.0.id())).unwrap();
        threads.map(|thread| thread.unwrap().file_name()).collect()
    };
    let ask_at_once = || {
        let mut clients = [0; 3].map(|_| TcpStream::connect(&address).unwrap());
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut answer = [0; 8];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1");
        }
        threads()
    };
    let first = ask_at_once();
    assert_eq!(first.len(), 4, "one accepts");
    let second = ask_at_once();
    assert!(first.is_subset(&second), "{first:?} {second:?}");
}

/// Ends what is left of a run when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The servers that a process has started.
fn servers_of(process: u32) -> Vec<String> {
    children_of(process, "serve")
}

/// Those that a process has started with this command, by the kernel's list of its children.
fn children_of(process: u32, command: &str) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let is_one = |child: &&str| {
        fs::read(format!("/proc/{child}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == command.as_bytes()))
    };
    children.split_whitespace().filter(is_one).map(str::to_owned).collect()
}

fn signal(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, "--", process]).status().unwrap().success());
}

fn points_in(out: &Path) -> usize {
    match out.join("results.json").exists() {
        true => results(out).points.len(),
        false => 0,
    }
}

const LONGER: [&str; 8] =
    ["--designs", "crud,es-locked", "--workloads", "register", "--blocks", "2", "--seconds", "0.4"];

#[test]
fn a_run_that_was_killed_is_gone_on_with_and_leaves_no_server() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let mut running = Running(bench(&out, &LONGER).spawn().unwrap());
    let mut servers = Vec::new();
    wait_until("some points are measured and a server runs", || {
        servers = servers_of(running.0.id());
        points_in(&out) >= 2 && !servers.is_empty()
    });
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    wait_until("its servers have ended", || {
        servers.iter().all(|server| !Path::new(&format!("/proc/{server}")).exists())
    });
    let before = results(&out);
    assert!(!before.complete);
    // It is not written over, nor gone on with by other arguments.
    for (more, says) in [
        (&["--designs", "crud", "--workloads", "register"][..], "say --resume"),
        (&["--designs", "crud", "--workloads", "register", "--resume"], "with other arguments"),
    ] {
        let output = bench(&out, more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(says), "{said}");
    }
    let (after, _) = run(&out, &[&LONGER[..], &["--resume"]].concat());
    assert!(after.complete);
    // The load that was cut short is measured again as a whole, so that its figures are compared
    // with none that were taken before the break.
    for point in &before.points {
        let of_load = |results: &Results| {
            let is_like = |other: &&Point| load_of(other) == load_of(point);
            results.points.iter().filter(is_like).count()
        };
        let is_whole = of_load(&before) == of_load(&after);
        assert_eq!(after.points.contains(point), is_whole, "point {}", point.number);
    }
    let missing = after.points.iter().find(|point| !point.key.is_floor()).unwrap();
    let mut cut = after.clone();
    cut.retain(|point| point.number != missing.number);
    cut.write(&out.join("results.json")).unwrap();
    let (again, _) = run(&out, &[&LONGER[..], &["--resume"]].concat());
    for (one, other) in after.points.iter().zip(&again.points) {
        let number = one.number;
        assert_eq!(one != other, load_of(one) == load_of(missing), "point {number}");
    }
}

#[test]
fn a_run_goes_on_with_the_same_graph_or_not_at_all() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let more = ["--designs", "crud,es-locked", "--workloads", "reregister,reads"];
    let (mut before, _) = run(&out, &more);
    // As if another graph had been made then.
    before.bases.iter_mut().for_each(|base| base.digest = "0".repeat(64));
    before.retain(|point| point.key.workload != "reads");
    before.write(&out.join("results.json")).unwrap();
    let output = bench(&out, &[&more[..], &["--resume"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let after = results(&out);
    assert!(after.complete && after.bases == before.bases);
    for point in after.points.iter().filter(|point| point.key.workload == "reads") {
        let Outcome::Failed { why } = &point.outcome else { panic!("{point:?}") };
        assert!(why.contains("digests differ"), "{why}");
    }
    assert!(before.points.iter().all(|point| after.points.contains(point)));
}

#[test]
fn a_run_that_ends_with_an_error_leaves_no_databases() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let more = ["--designs", "crud", "--workloads", "register"];
    let (mut before, _) = run(&out, &more);
    before.machine.cores += 1;
    before.write(&out.join("results.json")).unwrap();
    let output = bench(&out, &[&more[..], &["--resume"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("on another machine"), "{said}");
    assert!(!out.join(WORK).exists(), "databases are gone");
}

fn load_of(point: &Point) -> (u32, Key) {
    (point.block, point.key.of(""))
}

#[test]
fn ctrl_c_keeps_what_is_done_and_ends_well() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let running = bench(&out, &LONGER).process_group(0).spawn().unwrap();
    wait_until("a point is measured", || points_in(&out) >= 1);
    // As a terminal does it: to all that belong together.
    signal("-INT", &format!("-{}", running.id()));
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("--resume goes on"), "{said}");
    let results = results(&out);
    assert!(!results.complete && !results.points.is_empty());
    assert!(results.points.iter().all(|point| point.failure().is_none()), "{results:?}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains(&format!("{} of ", results.points.len())), "{table}");
}

#[test]
fn a_server_that_dies_costs_its_point_and_no_other() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let more = [&LONGER[..6], &["--seconds", "2"]].concat();
    let running = bench(&out, &more).spawn().unwrap();
    let is_measured = |server: &String| {
        fs::read_to_string(format!("/proc/{server}/cmdline"))
            .is_ok_and(|line| line.contains("/point-"))
    };
    wait_until("a server of a later point is killed", || {
        let server = servers_of(running.id()).into_iter().find(is_measured);
        server.filter(|_| points_in(&out) >= 1).inspect(|server| signal("-KILL", server)).is_some()
    });
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3), "{said}");
    assert!(said.contains("no figures, or no verdict on them, at 1 of "), "{said}");
    let results = results(&out);
    assert!(results.complete);
    let failed: Vec<_> = results
        .points
        .iter()
        .filter(|point| matches!(point.outcome, Outcome::Failed { .. }))
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("Without figures"), "{table}");
    let log = format!("histories/point-{}-server-0.log", failed[0].number);
    assert!(out.join(log).exists(), "what it said is kept");
    // Whoever goes on measures it again.
    let (results, _) = run(&out, &[&more[..], &["--resume"]].concat());
    assert!(results.complete && results.points.iter().all(|point| point.failure().is_none()));
}

/// The points and the table of a run that waits for nothing of this.
fn without_time_for(guard: &str, out: &Path) -> (Vec<Point>, String) {
    let more = ["--designs", "crud,es-locked", "--workloads", "reregister"];
    let mut command = bench(out, &more);
    let output = command.env("FENCEPOST_FAILPOINTS", format!("{guard}=off")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3), "{said}");
    assert!(said.contains("no figures, or no verdict on them, at 2 of "), "{said}");
    let results = results(out);
    assert!(results.complete, "the run goes on");
    (results.points, String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_check_that_takes_too_long_is_ended_and_can_be_made_again() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let (points, table) = without_time_for("bench.check", &out);
    assert!(table.contains("not judged"), "{table}");
    let mut judged = 0;
    for point in points.iter().filter(|point| !point.key.is_floor()) {
        let CheckVerdict::Failed { why } = &measured(point).verdict else { panic!("{point:?}") };
        let (said, again) = why.split_once(AGAIN).expect(why);
        assert!(said.starts_with("the check took longer than "), "{why}");
        let again = again.trim_start().split(' ').skip(1);
        let output = fencepost().args(again).current_dir(&out).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        judged += 1;
    }
    assert_eq!(judged, 2);
}

#[test]
fn a_checker_that_is_killed_is_told_by_how_it_ended() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let more = ["--designs", "crud", "--workloads", "reregister", "--sizes", "5000"];
    let running = bench(&out, &[&more[..], &["--blocks", "3"]].concat()).spawn().unwrap();
    // Stopped first, so that it cannot end by itself meanwhile.
    let is_stopped = |checker: &String| {
        drop(Command::new("kill").args(["-STOP", "--", checker]).status());
        let stat = fs::read_to_string(format!("/proc/{checker}/stat"));
        stat.is_ok_and(|stat| stat.contains(") T "))
    };
    wait_until("a checker is killed", || {
        let checker = children_of(running.id(), "check").into_iter().find(is_stopped);
        checker.inspect(|checker| signal("-KILL", checker)).is_some()
    });
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let results = results(&out);
    let failures: Vec<_> = results.points.iter().filter_map(Point::failure).collect();
    let [why] = failures[..] else { panic!("{failures:?}") };
    assert!(why.starts_with("the check gave no verdict: signal: 9 (SIGKILL); "), "{why}");
}

#[test]
fn a_base_that_takes_too_long_to_make_costs_its_points() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let (points, _) = without_time_for("bench.base", &out);
    for point in points.iter().filter(|point| !point.key.is_floor()) {
        let Outcome::Failed { why } = &point.outcome else { panic!("{point:?}") };
        let is_told = why.starts_with("a base could not be made: ") && why.contains("took longer");
        assert!(is_told, "{why}");
    }
    assert!(!out.join(WORK).exists(), "databases are gone");
}

#[test]
fn two_runs_do_not_share_a_directory_and_nothing_there_is_lost() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let _running = Running(bench(&out, &LONGER).spawn().unwrap());
    wait_until("it has begun", || out.join("lock").exists());
    let said_by = |out: &Path| {
        let output = bench(out, &LONGER).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    wait_until("the other is refused", || {
        let (code, said) = said_by(&out);
        code == Some(2) && said.contains("another run is at work in")
    });
    let theirs = directory.path().join("theirs");
    fs::create_dir_all(theirs.join("histories")).unwrap();
    let (code, said) = said_by(&theirs);
    assert!(code == Some(2) && said.contains("histories is there"), "{said}");
}

#[test]
fn a_graph_from_a_file_is_measured_and_is_the_same_when_the_run_goes_on() {
    let directory = TempDir::new().unwrap();
    let (out, file) = (directory.path().join("out"), directory.path().join("mine.ndjson"));
    let job = |n: u32| {
        format!(
            "{{\"name\":\"j{n}\",\"inputs\":[\"d{n}\"],\"outputs\":[\"d{}\"],\"spec\":{{}}}}\n",
            n + 1
        )
    };
    fs::write(&file, (0..20).map(job).collect::<String>()).unwrap();
    // A relative path, of which the commands that are kept know nothing.
    let graph = ["--graph", "mine.ndjson"];
    let bench = |out: &Path, more: &[&str]| {
        let mut command = bench(out, more);
        command.current_dir(directory.path());
        command
    };
    let more = [&graph[..], &["--designs", "crud,es-locked", "--workloads", "reads"]].concat();
    let output = bench(&out, &more).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (results, said) = (results(&out), String::from_utf8(output.stdout).unwrap());
    for base in &results.bases {
        assert_made_again(base);
    }
    assert!(results.bases.iter().all(|base| base.jobs == 20), "{:?}", results.bases);
    assert!(said.contains("reads: mine, 8 clients"), "{said}");
    fs::write(&file, job(0)).unwrap();
    let output = bench(&out, &[&more[..], &["--resume"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("with other arguments"), "{said}");
    let output = bench(&out, &[&graph[..], &["--workloads", "import"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("makes its own graph"), "{said}");
}

#[test]
fn a_base_is_made_again_by_the_commands_that_are_kept_of_it() {
    let directory = TempDir::new().unwrap();
    let more = ["--designs", "crud", "--workloads", "churn", "--seed", "7"];
    let (results, _) = run(&directory.path().join("out"), &more);
    let [base] = &results.bases[..] else { panic!("{:?}", results.bases) };
    assert_eq!(base.commands.len(), 3, "a load, a past and a snapshot");
    assert_made_again(base);
}

/// Runs the commands of a base in a directory of their own.
fn assert_made_again(base: &BaseRecord) {
    let shell = Shell::new();
    for command in &base.commands {
        let ran = shell.bash(command);
        assert_eq!(ran.code, 0, "{command}: {}", ran.errors);
    }
    let database = DatabaseUrl::parse(&format!("sqlite:{}", shell.path("graphs.db"))).unwrap();
    let is_following = |design: &&&Design| design.storage.to_string() == base.storage;
    let design = *design::ALL.iter().find(is_following).unwrap();
    let service = node::open(&NodeOptions { design, ..NodeOptions::new(database) }).unwrap();
    let target = InProcess::new(service, graph(), String::new());
    let outcome = target.connect().perform(&Request::Digest).outcome;
    let Answer::Answered { version, answer } = outcome else { panic!("{outcome:?}") };
    assert_eq!(answer.member::<String>("digest").as_ref(), Some(&base.digest));
    assert_eq!(version, Some(base.version));
}

#[test]
fn results_are_read_as_they_were_written_and_what_is_none_is_refused() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let more = ["--designs", "crud,crud-delta", "--workloads", "register", "--rates", "50"];
    let (found, said) = run(&out, &more);
    let file = out.join("results.json");
    let again = directory.path().join("again.json");
    found.write(&again).unwrap();
    assert_eq!(Results::read(&again).unwrap(), found);
    let ask = |command: &str, file: &Path| {
        let output = fencepost().args(["bench", command]).arg(file).output().unwrap();
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    assert_eq!(ask("report", &file), (Some(0), said.clone()));
    assert_eq!(ask("report", &out), (Some(0), said), "the directory of a run stands for its file");
    let points = found.points.len();
    assert_eq!(ask("validate", &file), (Some(0), format!("valid: {points} of {points} points\n")));
    let packed = directory.path().join("results.json.xz");
    fs::write(&packed, b"\xfd7zXZ\0 and more").unwrap();
    let (code, said) = ask("validate", &packed);
    assert!(code == Some(1) && said.contains("unpack it with `xz -dc`"), "{said}");
    // Drawn over the results by another name of theirs, and one drawing over the other.
    let link = directory.path().join("link.json");
    fs::hard_link(&file, &link).unwrap();
    fs::write(directory.path().join("drawn"), "").unwrap();
    let drawn = ["drawn", "./drawn"].map(|name| directory.path().join(name));
    for (html, picture) in [(&link, &drawn[0]), (&drawn[0], &drawn[1])] {
        let mut command = fencepost();
        command.args(["bench", "report"]).arg(&file).arg("--html").arg(html);
        let output = command.arg("--picture").arg(picture).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    assert_eq!(Results::read(&file).unwrap(), found);
    let text = fs::read_to_string(&file).unwrap();
    for (from, to, says) in [
        ("{\"format\":4", "{\"format\":3", "reads format 4"),
        ("{\"format\":4,", "{", "no `format`"),
        ("\"points\":[", "\"more\":1,\"points\":[", "unknown field `more`"),
        ("\"complete\":true", "\"complete\":false,\"complete\":true", "duplicate field"),
        ("\"served\":", "\"served\":1", "`points[0].outcome.measured.figures.served` is 1"),
        ("\"number\":1,", "\"number\":0,", "same or a larger number"),
        ("ns3", "ns4", "ns4"),
        ("\"base\":\"", "\"base\":\"no/", "not among the bases"),
        ("\"per_second\":", "\"per_second\":1", "figures.per_second` is 1"),
        ("\"p99_us\":", "\"p99_us\":-", ".p99_us` is -"),
        ("]}\n", "", "EOF"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&again, text.replacen(from, to, 1)).unwrap();
        for command in ["report", "validate"] {
            let (code, said) = ask(command, &again);
            assert!(code == Some(1) && said.contains(says), "{from}: {said}");
        }
    }
}

#[test]
fn what_is_planned_is_told_and_what_there_is_not_is_named() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let ask = |more: &[&str]| {
        let output = bench(&out, more).output().unwrap();
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = ask(&["--dry-run", "--designs", "crud", "--workloads", "register,turns"]);
    assert_eq!(code, Some(0), "{said}");
    // In both loops, and in turn, each with two floors.
    assert!(said.contains("9 points in 1 blocks, about "), "{said}");
    assert!(!out.exists(), "nothing is written");
    for (more, says) in [
        (["--designs", "crude"], "there is no design `crude`, only crud, "),
        (["--workloads", "regster"], "there is no workload `regster`, only register, "),
        (["--sizes", "0"], "0 is not in 1..=10000000"),
        (["--seconds", "0"], "must be above 0"),
    ] {
        let (code, said) = ask(&more);
        assert!(code == Some(2) && said.contains(says), "{said}");
    }
    let survives = ["--target-survives", "mine=nothing", "--target-survives", "mine=machine"];
    let twice = [&["--target", "mine=http://127.0.0.1:1"][..], &survives].concat();
    let (code, said) = ask(&twice);
    assert!(code == Some(2) && said.contains("`mine` is there twice"), "{said}");
    let (code, said) = ask(&["--resume"]);
    assert!(code == Some(2) && said.contains("out does not exist"), "{said}");
    assert!(!out.exists(), "nothing is written");
    let broken = directory.path().join("broken.ndjson");
    fs::write(&broken, "{\"job\": 1}").unwrap();
    for (file, says) in
        [("/dev/null", "has no jobs to measure"), (broken.to_str().unwrap(), "broken.ndjson:1: ")]
    {
        let (code, said) = ask(&["--graph", file, "--designs", "crud"]);
        assert!(code == Some(2) && said.contains("--graph: ") && said.contains(says), "{said}");
        fs::remove_dir_all(&out).unwrap();
    }
}

/// By the program's own help, so that a new one is among them.
fn options_of_a_node() -> Vec<[String; 2]> {
    let help = fencepost().arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let with_value = |line: &str| {
        let (option, _) = line.trim_start().split_once(" <")?;
        option.starts_with("--").then(|| option.to_owned())
    };
    let value = |option: &str| match option {
        "--database-url" => "sqlite:other.db",
        "--lock-url" => "file:locks",
        "--design" => "es-locked",
        "--reads" => "snapshot",
        "--sharing" => "off",
        "--batches-ahead" => "1",
        _ => "1000",
    };
    let options = help.lines().filter_map(with_value);
    options.map(|option| [option.clone(), value(&option).to_owned()]).collect()
}

#[test]
fn options_that_would_have_no_effect_are_refused_and_their_variables_are_not() {
    let directory = TempDir::new().unwrap();
    let options = options_of_a_node();
    assert!(options.len() > 8 && options.iter().any(|[name, _]| name == "--sharing"));
    let file = directory.path().join("results.json").display().to_string();
    let drive = ["bench", "drive", "--workload", "register", "--url", "http://127.0.0.1:1"];
    let commands: [(&[&str], &str); 4] = [
        (&drive, "the servers at --url have options of their own"),
        (&["bench", "run", "--dry-run"], "--designs"),
        (&["bench", "report", &file], "nothing else"),
        (&["bench", "validate", &file], "nothing else"),
    ];
    for (command, instead) in commands {
        for option in &options {
            let given = option.each_ref().map(String::as_str);
            for arguments in [[command, &given].concat(), [&given[..], command].concat()] {
                let output = fencepost().args(&arguments).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let says = format!("{} would have no effect", given[0]);
                let is_told = said.contains(&says) && said.contains(instead);
                assert!(output.status.code() == Some(2) && is_told, "{arguments:?}: {said}");
            }
        }
    }
    // They are for the other commands of the same shell.
    let set = [("FENCEPOST_SHARING", "off"), ("FENCEPOST_DATABASE_URL", "sqlite:other.db")];
    let output = fencepost().envs(set).args(["bench", "run", "--dry-run"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
