//! One point: a copy of its base, servers, load, and what the checker says of the answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::args::shape_name;
use super::base::Base;
use super::events::{AT, Event, PART_SECONDS, TimeLine, WARMUP_SECONDS, WINDOW_SECONDS};
use super::figures::{Figures, PROXY, Raw, Requests, Syncs};
use super::judging::{output_of, verdict};
use super::looks::{Process, Watched};
use super::machine::Used;
use super::nodes::Node;
use super::place::{
    GRAPH, Kept, Urls, check_again, command as command_of, file_error, floor, serve,
};
use super::plan::{Plan, Planned};
use super::results::{CheckVerdict, Key, Measurement, Outcome};
use super::servers::Servers;
use super::site::Site;
use super::strike::{Begins, LATE_LOG, Over, Scene, Struck};
use super::workloads::{Measures, Past};
use crate::bench::latencies::Latencies;
use crate::bench::phases::Phases;
use crate::bench::report::Report;
use crate::bench::summary::{Row, Summary};
use crate::bench::target::HttpTarget;
use crate::bench::{BenchError, DriveArgs, drive};
use crate::db::MeasuredPostgres;
use crate::design::Design;
use crate::graph::Name;

/// How long a request may take.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// How long a server may take to load a graph for its first answer.
const LOADS_WITHIN: Duration = Duration::from_secs(600);

/// What all points share.
pub struct Bench<'r> {
    /// This program.
    pub program: &'r Path,
    /// What is to be measured.
    pub plan: &'r Plan,
    /// Where databases are copied to.
    pub directory: &'r Path,
    /// Where histories are kept that are not valid.
    pub kept: &'r Path,
    /// Whether histories are recorded and checked.
    pub checks: bool,
}

/// The command by which a point's load can be made again.
#[must_use]
pub fn command(plan: &Plan, point: &Planned) -> String {
    let record = &plan.record;
    let Key { rate, writers, size, .. } = &point.key;
    let shape = match point.workload.makes_jobs() {
        true => format!(" --shape {}", shape_name(plan.shape)),
        false => String::new(),
    };
    let graphs = match point.workload.past {
        Past::ManyGraphs => format!(" --graphs {}", plan.graphs),
        _ => String::new(),
    };
    let time = match point.workload.measures {
        Measures::Start => return "fencepost serve".to_owned(),
        Measures::Import => format!("--jobs {size} --batch 1000"),
        Measures::Requests if point.workload.event.is_some() => format!(
            "--seconds {WINDOW_SECONDS} --warmup-seconds {WARMUP_SECONDS} --timeline-seconds \
             {PART_SECONDS} --patience-seconds 60 --timeout-seconds {}",
            ANSWERS_WITHIN.as_secs()
        ),
        Measures::Requests => match point.workload.requests {
            Some(requests) => {
                format!("--requests {requests} --timeout-seconds {}", ANSWERS_WITHIN.as_secs())
            }
            None => format!(
                "--seconds {} --warmup-seconds {}",
                record.window_seconds, record.warmup_seconds
            ),
        },
    };
    let rate = rate.map_or_else(String::new, |rate| format!(" --rate {rate}"));
    format!(
        "fencepost bench drive --graph {GRAPH} {}{graphs}{shape} --clients {writers} --seed {} \
         {time}{rate}",
        point.workload.drive, record.seed
    )
}

impl Bench<'_> {
    /// Measures the point. What goes wrong with a server is its outcome.
    ///
    /// # Errors
    /// [`BenchError`] if this machine is the reason: no room, or no right to write.
    pub fn measure(
        &self,
        point: &Planned,
        base: Option<&Base>,
        servers: &Servers,
    ) -> Result<Outcome, BenchError> {
        let place = self.directory.join(format!("point-{}", point.number));
        drop(fs::remove_dir_all(&place));
        fs::create_dir_all(&place).map_err(|error| file_error(&place, &error))?;
        if let Some(given) = &point.given {
            let found = self.measure_given(point, given, &place);
            drop(fs::remove_dir_all(&place));
            return Ok(found.unwrap_or_else(|why| Outcome::Failed { why: why.to_string() }));
        }
        let setting = &point.key.setting;
        let site = base.map(|base| Site::new(self.program, base, setting, servers, &place));
        let site = match site.transpose() {
            Ok(site) => site,
            Err(error) if setting.needs_postgres() => {
                return Ok(Outcome::Failed { why: error.to_string() });
            }
            Err(error) => return Err(error),
        };
        let graph = base.map(|base| base.graph.as_path());
        let found = self.in_place(point, &place, site.as_ref(), graph, servers);
        drop(site);
        let outcome = found.unwrap_or_else(|why| Outcome::Failed { why: why.to_string() });
        if matches!(outcome, Outcome::Failed { .. }) {
            let logs = (0..point.key.nodes).map(|number| format!("server-{number}.log"));
            for name in logs.chain([LATE_LOG.to_owned()]) {
                let log = place.join(&name);
                if log.exists() {
                    self.keep(&log, &format!("point-{}-{name}", point.number))?;
                }
            }
        }
        drop(fs::remove_dir_all(&place));
        Ok(outcome)
    }

    /// Copies a file to what is kept.
    ///
    /// # Errors
    /// [`BenchError`] if there is no room.
    pub fn keep(&self, file: &Path, name: &str) -> Result<PathBuf, BenchError> {
        let kept = self.kept.join(name);
        fs::create_dir_all(self.kept)
            .and_then(|()| fs::copy(file, &kept))
            .map_err(|error| file_error(&kept, &error))?;
        Ok(kept)
    }

    fn in_place(
        &self,
        point: &Planned,
        place: &Path,
        site: Option<&Site<'_>>,
        graph_before: Option<&Path>,
        servers: &Servers,
    ) -> Result<Outcome, BenchError> {
        let setting = &point.key.setting;
        let mut server = site.map_or(Ok(None), Site::session)?;
        let synced_before = server.as_mut().map(MeasuredPostgres::log_syncs).transpose();
        let synced_before = synced_before.map_err(BenchError::Unavailable)?.flatten();
        let mut nodes = Vec::new();
        for number in 0..point.key.nodes {
            let (urls, arguments) = match (point.design, site) {
                (Some(design), Some(site)) => (site.urls_of(number), serve(design, setting)),
                _ => (&Urls::default(), floor(&point.key.design)),
            };
            let log = place.join(format!("server-{number}.log"));
            let node = Node::start(self.program, urls, &arguments, &log)
                .map_err(|error| BenchError::Unavailable(error.to_string()))?;
            nodes.push(node);
        }
        let urls: Vec<String> = nodes.iter().map(|node| node.url().to_owned()).collect();
        let graph = Name::new(GRAPH).expect("a name");
        // Each has the graph's image before anything is measured.
        let mut start_seconds = Vec::new();
        for node in &nodes {
            node.load(LOADS_WITHIN)?;
            start_seconds.push(node.started().elapsed().as_secs_f64());
        }
        let proxy = site.and_then(Site::proxy);
        let ids = nodes.iter().enumerate();
        let ids = ids.map(|(number, node)| (format!("node {}", number + 1), node.process(), false));
        let of_servers = servers.processes(setting);
        let of_servers = of_servers.into_iter().map(|(name, id)| (name.to_owned(), id, true));
        let of_proxy = proxy.map(|proxy| (PROXY.to_owned(), proxy.process(), false));
        let processes = ids.chain(of_servers).chain(of_proxy);
        let watched = Watched {
            inner: HttpTarget::new(&urls, graph.clone(), ANSWERS_WITHIN)?,
            processes: processes
                .map(|(name, id, has_family)| Process { name, id, has_family })
                .collect(),
            server: server.map(Mutex::new),
            makes_checkpoint: setting.after_checkpoint,
            proxy,
            looks: Mutex::default(),
        };
        let history = place.join("history.ndjson");
        let mut timeline = None;
        let report = match point.workload.measures {
            Measures::Start => None,
            Measures::Requests | Measures::Import => {
                let line = command(self.plan, point);
                let words = line.split_whitespace().skip(2);
                let mut args = DriveArgs::of_words(words)
                    .map_err(|error| BenchError::Usage(error.to_string()))?;
                // Of floors too, so that what a history costs is in them as in all else.
                args.history = self.checks.then(|| history.clone());
                match (point.workload.event, point.design.zip(site)) {
                    (Some(event), Some((design, site))) => {
                        let program = self.program;
                        let scene = Scene { program, design, setting, site, servers, place };
                        let target = HttpTarget::new(&urls, graph, ANSWERS_WITHIN)?;
                        let (report, line) = with_event(event, &scene, &mut nodes, target, &args)?;
                        timeline = Some(line);
                        Some(Ok(report))
                    }
                    _ => Some(drive(&watched, &args)),
                }
            }
        };
        let died = nodes.iter_mut().find_map(|node| {
            node.ended().map(|status| format!("a server ended, {status}: {}", node.last_words()))
        });
        if let Some(died) = died {
            return Err(BenchError::Unavailable(died));
        }
        let report = report.transpose()?;
        let peak_memory_bytes =
            nodes.iter().map(|node| Used::by(node.process()).peak_memory_bytes).collect();
        let wal_bytes = site.and_then(Site::wal_bytes);
        // A file's log goes with the last node; a server's count is whole when all have ended.
        let syncs_of_file = site.and_then(Site::log_syncs);
        for node in nodes {
            if !node.end() {
                return Err(BenchError::Unavailable("a server did not end by itself".to_owned()));
            }
        }
        let log_syncs = match synced_before {
            // What happens may end the server, and its count with it.
            _ if timeline.is_some() => None,
            Some(before) => watched.log_syncs()?.map(|after| after.saturating_sub(before)),
            None => syncs_of_file,
        };
        let verdict = match (&report, point.design, site.zip(graph_before)) {
            (Some(_), Some(design), Some(left)) if self.checks => {
                self.check(point, design, left, &history)?
            }
            _ => CheckVerdict::NotApplicable,
        };
        // A graph that breaks the rules cannot be read in the end: then that is what was found.
        if let Some(report) = &report
            && !matches!(verdict, CheckVerdict::Invalid { .. })
        {
            report.verdict()?;
        }
        let around =
            MeasuredAround { start_seconds, peak_memory_bytes, log_syncs, verdict, timeline };
        let mut measured = measurement(report.as_ref(), watched, around)?;
        // After the session is closed by which the server was looked at.
        if let Some(site) = site.filter(|_| point.block == 0) {
            measured.disk = Some(site.disk(wal_bytes)?);
        }
        Ok(Outcome::Measured(Box::new(measured)))
    }

    /// Has the answers judged by a process of its own, from the graph that there was before.
    fn check(
        &self,
        point: &Planned,
        design: &Design,
        (site, graph_before): (&Site<'_>, &Path),
        history: &Path,
    ) -> Result<CheckVerdict, BenchError> {
        let ask = |format: &str, history: &Path| {
            let mut command = command_of(self.program);
            site.direct().give_to(&mut command);
            command.args(["--design", design.name, "check", "--format", format]);
            // Of many graphs, which were empty, the history tells all.
            if !point.key.has_many_graphs() {
                command.args(design.storage.has_log().then_some("--stored"));
                command.arg("--base").arg(graph_before);
            }
            output_of(command.arg(history).env("RUST_LOG", "error"))
        };
        let names = Kept::of(point.number);
        let keep = || {
            self.keep(history, &names.history)?;
            let again = check_again(point.number, &point.key);
            if point.key.has_many_graphs() {
                return Ok(again);
            }
            self.keep(graph_before, &names.base)?;
            if let Some(database) = site.file().filter(|_| design.storage.has_log()) {
                self.keep(database, &names.database)?;
                let wal = database.with_extension("db-wal");
                if wal.exists() {
                    self.keep(&wal, &format!("{}-wal", names.database))?;
                }
            }
            Ok(again)
        };
        let kept = self.kept.join(&names.history);
        verdict(|| ask("json", history), keep, || ask("text", &kept))
    }
}

/// Drives the load while something happens to `nodes`: what was found, and when it was as before.
fn with_event(
    event: Event,
    scene: &Scene<'_>,
    nodes: &mut Vec<Node>,
    target: HttpTarget,
    args: &DriveArgs,
) -> Result<(Report, TimeLine), BenchError> {
    let (target, begins) = Begins::new(target);
    let (report, struck) = thread::scope(|scope| {
        let driven = scope.spawn(|| {
            let _over = Over(&target);
            drive(&target, args)
        });
        let struck = begins.recv().map(|began| {
            thread::sleep(AT.saturating_sub(began.elapsed()));
            (began, scene.strike(event, nodes))
        });
        (driven.join().expect("the driver does not panic"), struck)
    });
    let report = report?;
    let early = |_| BenchError::Unavailable("the load ended before its window began".to_owned());
    let (began, struck) = struck.map_err(early)?;
    let Struck { event, prepared, at, took } = struck?;
    let times = [prepared, at].map(|at| at.saturating_duration_since(began).as_secs_f64());
    let parts = report.timeline();
    let line = TimeLine {
        event,
        prepared_seconds: times[0],
        at_seconds: times[1],
        took_seconds: took.as_secs_f64(),
        part_seconds: PART_SECONDS,
        recovered_seconds: TimeLine::recovery(&parts, PART_SECONDS, times),
        parts,
    };
    Ok((report, line))
}

/// What was measured around what the driver found.
struct MeasuredAround {
    start_seconds: Vec<f64>,
    peak_memory_bytes: Vec<u64>,
    log_syncs: Option<u64>,
    verdict: CheckVerdict,
    timeline: Option<TimeLine>,
}

fn measurement(
    report: Option<&Report>,
    watched: Watched<'_>,
    around: MeasuredAround,
) -> Result<Measurement, BenchError> {
    let MeasuredAround { start_seconds, peak_memory_bytes, log_syncs, verdict, timeline } = around;
    let slowest_start = start_seconds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut raw = raw_of(report, slowest_start);
    let commits = report.and_then(|report| report.phases.commits_since_start());
    raw.syncs = log_syncs.zip(commits).map(|(count, commits)| Syncs { count, commits });
    let steal_seconds = watched.note_in(&mut raw)?;
    if timeline.is_some() {
        // Nobody has looked.
        raw.written_bytes = None;
    }
    let figures = Figures::of(&raw).map_err(|error| BenchError::Refused(error.to_string()))?;
    let measured = Measurement {
        verdict,
        raw,
        figures,
        peak_memory_bytes,
        steal_seconds,
        start_seconds,
        disk: None,
        timeline,
    };
    Ok(measured)
}

/// Of one node nothing.
fn by_node(summary: Option<&Summary>) -> Vec<String> {
    let by_node = summary.map_or(&[][..], |summary| &summary.by_node);
    if by_node.len() < 2 { Vec::new() } else { by_node.iter().map(Latencies::encoded).collect() }
}

/// What the driver counted, and the servers of themselves; of a start, which it did not drive, the
/// time that the start took.
#[must_use]
pub fn raw_of(report: Option<&Report>, start_seconds: f64) -> Raw {
    let summary = &report.map(Report::summary);
    let summary = summary.as_ref();
    // Of some of the nodes alone they would be taken for those of all.
    let phases = report.map(|report| &report.phases).filter(|phases| phases.are_of_all());
    let row = |row: &Row| Requests {
        call: row.call.to_owned(),
        verdict: row.verdict.clone(),
        class: row.class,
        count: row.count,
        latency: row.latency.encoded(),
        service: row.service.encoded(),
    };
    let encoded = |of: fn(&Summary) -> &Latencies| {
        summary.map_or_else(|| Latencies::default().encoded(), |summary| of(summary).encoded())
    };
    let window = |summary: &Summary| summary.window.as_secs_f64().max(f64::MIN_POSITIVE);
    Raw {
        window_seconds: summary.map_or(start_seconds, window),
        requests: summary.iter().flat_map(|summary| &summary.rows).map(row).collect(),
        due: summary.and_then(|summary| summary.due),
        kept_up: summary.map_or(0, |summary| summary.kept_up),
        backlog: encoded(|summary| &summary.backlog),
        lateness: encoded(|summary| &summary.lateness),
        by_node: by_node(summary),
        in_flight_at_end: summary.map_or(0, |summary| summary.in_flight_at_end),
        operations: report.and_then(Report::loaded),
        processor: Vec::new(),
        written_bytes: Some(0),
        wal_bytes: None,
        round_trips: None,
        syncs: None,
        phases: phases.map_or(Value::Null, Phases::json),
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::RunArgs;
    use super::*;
    use crate::design::PAIRS;

    fn plan_of(line: &str) -> Plan {
        Plan::new(&RunArgs::of_line(line).unwrap()).unwrap()
    }

    #[test]
    fn the_command_of_a_point_makes_its_load() {
        let plan = plan_of(&format!(
            "run --workloads register,reads,churn,import,start,turns --designs {} --sizes 300 \
             --rates 50 --writers 3 --seed 7 --seconds 0.2 --warmup-seconds 0.1 --shape chain \
             --blocks 1",
            PAIRS[0].first
        ));
        let of = |workload: &str, rate: Option<u64>| {
            let is_it = |point: &&Planned| point.key.workload == workload && point.key.rate == rate;
            command(&plan, plan.points.iter().find(is_it).unwrap())
        };
        let drive = "fencepost bench drive --graph bench --workload";
        let window = "--seed 7 --seconds 0.2 --warmup-seconds 0.1";
        let driven = |args: &str| format!("{drive} {args} {window}");
        let mixed = "mixed --write-percent 5 --plan-percent 50 --shape chain --clients 3";
        let floor = "register --first-job 0 --shape chain --clients 3";
        let import = "load --shape chain --clients 1 --seed 7 --jobs 300 --batch 1000";
        for (workload, rate, expected) in [
            ("register", None, driven("register --shape chain --clients 3")),
            ("register", Some(50), driven("register --shape chain --clients 3") + " --rate 50"),
            ("reads", None, driven(mixed)),
            ("churn", None, driven("churn --clients 3")),
            ("turns", None, driven("register --in-turn --shape chain --clients 2")),
            ("floor", Some(50), driven(floor) + " --rate 50"),
            ("import", None, format!("{drive} {import}")),
            ("start", None, "fencepost serve".to_owned()),
        ] {
            let command = of(workload, rate);
            assert_eq!(command, expected, "{workload}");
            if workload != "start" {
                let words = command.split_whitespace().skip(2);
                assert!(DriveArgs::of_words(words).is_ok(), "{command}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_there_when_the_place_of_the_point_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("out").join("histories");
        let bench = Bench {
            program: Path::new("fencepost"),
            plan: &plan_of("run --workloads register"),
            directory: directory.path(),
            kept: &kept,
            checks: true,
        };
        let place = directory.path().join("point-3");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("history.ndjson"), "evidence").unwrap();
        let file = bench.keep(&place.join("history.ndjson"), "point-3.ndjson").unwrap();
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(file, kept.join("point-3.ndjson"));
        assert_eq!(fs::read_to_string(file).unwrap(), "evidence");
        let error = bench.keep(&place.join("history.ndjson"), "point-4.ndjson").unwrap_err();
        assert!(error.to_string().contains("point-4.ndjson"), "{error}");
    }
}
