//! `fencepost bench`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use fencepost::bench::run::{self as benchmark, Plan, Results, RunArgs};
use fencepost::bench::{self, DriveArgs, HttpTarget, InProcess};
use fencepost::graph::Name;
use fencepost::node::{self, NodeError};

use super::failure::Failure;
use super::node::NodeArgs;
use super::output::{print, print_json};

/// Measure
#[derive(Subcommand)]
pub enum BenchCommand {
    /// Drive load against a server, or the service in this process, and report answers and
    /// latencies
    Drive(DriveArgs),
    /// Measure designs on the same work, have every answer judged, and say which is quicker
    Run(RunArgs),
    /// Say whether a later run is worse than an earlier one of the same plan, by more than noise.
    /// Prints Markdown; exit 1 if it is, 2 if the two cannot be compared
    Compare(ComparedFiles),
    /// Print what a run has found, or draw it as a page
    Report(ReportArgs),
    /// Say whether a file of results is whole
    Validate(ResultsFile),
    /// Serve what no design can be quicker than
    #[command(hide = true)]
    Floor(FloorArgs),
    /// Make round trips to servers take longer, and count them
    #[command(hide = true)]
    Delay(DelayArgs),
}

#[derive(Args)]
pub struct ResultsFile {
    /// results.json of a run
    file: PathBuf,
}

#[derive(Args)]
pub struct ReportArgs {
    /// results.json of a run; /dev/stdin reads standard input
    file: PathBuf,
    /// Draw the report into this file instead: one page of HTML that needs nothing else. A file
    /// that is there is replaced
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Draw the picture of its first screen alone into this file, as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(Args)]
pub struct ComparedFiles {
    /// results.json of the earlier run
    old: PathBuf,
    /// results.json of the later run
    new: PathBuf,
}

#[derive(Args)]
pub struct DelayArgs {
    /// How much longer, in microseconds
    #[arg(long, value_name = "US")]
    delay_us: u64,
    /// A server, as NAME=HOST:PORT
    #[arg(long, value_parser = named_server, value_name = "SERVER")]
    to: Vec<(String, String)>,
}

fn named_server(text: &str) -> Result<(String, String), String> {
    let (name, place) = text.split_once('=').ok_or("must be NAME=HOST:PORT")?;
    Ok((name.to_owned(), place.to_owned()))
}

#[derive(Args)]
pub struct FloorArgs {
    /// Which
    #[arg(value_enum)]
    kind: FloorKind,
}

#[derive(Clone, Copy, ValueEnum)]
enum FloorKind {
    /// Answers what was made before
    Echo,
    /// Reads requests as the service does, judges and keeps nothing
    Null,
}

impl BenchCommand {
    /// What to do instead of giving options of [`NodeArgs`], to a command that uses none of them.
    pub fn instead_of_node_options(&self) -> Option<&'static str> {
        match self {
            Self::Drive(args) if args.url.is_empty() => None,
            Self::Drive(_) => Some("the servers at --url have options of their own; leave it out"),
            Self::Run(_) => Some(
                "`bench run` starts servers of its own on databases of its own, with the settings of \
                 its profile; choose designs with --designs and a graph with --graph FILE, and \
                 measure a server with other settings by `bench drive --url`",
            ),
            Self::Report(_) | Self::Validate(_) | Self::Compare(_) => {
                Some("this command reads files of results and nothing else; leave it out")
            }
            Self::Floor(_) => Some("a floor has no database; leave it out"),
            Self::Delay(_) => Some("a proxy has no database; leave it out"),
        }
    }
}

pub fn run(node: &NodeArgs, command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Drive(args) => drive(node, args),
        BenchCommand::Run(args) => run_benchmark(args),
        BenchCommand::Compare(files) => compare(files),
        BenchCommand::Report(args) => report(args),
        BenchCommand::Validate(ResultsFile { file }) => {
            let results =
                Results::read(file).map_err(|error| Failure::refused(error.to_string()))?;
            let (points, planned) = (results.points.len(), results.plan.points);
            let failed = results.points.iter().filter(|point| point.failure().is_some()).count();
            let without = match failed {
                0 => String::new(),
                failed => format!(", {failed} without figures or verdict"),
            };
            print(&format!("valid: {points} of {planned} points{without}\n"))
        }
        BenchCommand::Floor(args) => floor(args.kind),
        BenchCommand::Delay(args) => {
            let delay = Duration::from_micros(args.delay_us);
            let (asked, told) = (std::io::stdin().lock(), std::io::stdout().lock());
            benchmark::serve_delay(delay, &args.to, asked, told)
                .map_err(|error| Failure::unavailable(error.to_string()))
        }
    }
}

fn run_benchmark(args: &RunArgs) -> Result<(), Failure> {
    if args.dry_run {
        let plan = Plan::new(args)?;
        return print(&plan.to_string());
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable(format!("this program is not found: {error}")))?;
    let is_left = "ended at once: databases of this run are left on the server of --postgres-url; \
                   the same command with --out and --resume removes them";
    let is_left = args.postgres_url.is_some().then_some(is_left);
    let stopped = stopped_by_signal("ends after this point", is_left);
    let ran = benchmark::run(&program, args, &stopped)?;
    print(&benchmark::table(&ran.results))?;
    let file = ran.directory.join(benchmark::RESULTS);
    if !ran.results.complete {
        let (points, planned) = (ran.results.points.len(), ran.results.plan.points);
        let resume = ran.directory.display();
        log::warn!(
            "ended after {points} of {planned} points; the same command with --out {resume} \
             --resume goes on"
        );
    }
    let report = ran.directory.join(benchmark::REPORT);
    log::info!("all of it is in {}, and drawn in {}", file.display(), report.display());
    let failed = ran.results.points.iter().filter(|point| point.failure().is_some()).count();
    match (failed, ran.results.complete) {
        (0, true) => Ok(()),
        (0, false) => Err(Failure::unavailable("the run is not complete".to_owned())),
        (failed, _) => Err(Failure::unavailable(format!(
            "no figures, or no verdict on them, at {failed} of {} points",
            ran.results.points.len()
        ))),
    }
}

fn report(ReportArgs { file, html, picture }: &ReportArgs) -> Result<(), Failure> {
    let results = Results::read(file).map_err(|error| Failure::refused(error.to_string()))?;
    let read = [file.clone(), file.join(benchmark::RESULTS)];
    for drawn in [html, picture].into_iter().flatten() {
        if read.iter().any(|read| is_one_file(read, drawn)) {
            let what = "--html, --picture: this is the file of results: give another";
            return Err(Failure::usage(what));
        }
    }
    if let (Some(html), Some(picture)) = (html, picture)
        && (html == picture || is_one_file(html, picture))
    {
        return Err(Failure::usage("--html, --picture: give each a file of its own"));
    }
    if let Some(html) = html {
        benchmark::write_page(&results, html)?;
        log::info!("the report is in {}", html.display());
    }
    if let Some(picture) = picture {
        benchmark::write_picture(&results, picture)?;
        log::info!("the picture is in {}", picture.display());
    }
    match (html, picture) {
        (None, None) => print(&benchmark::table(&results)),
        _ => Ok(()),
    }
}

/// Whether two paths lead to one file, by whatever names; a directory is none.
fn is_one_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| {
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some((found.dev(), found.ino()))
    };
    id(one).is_some_and(|one| id(other) == Some(one))
}

fn compare(files: &ComparedFiles) -> Result<(), Failure> {
    let read =
        |file: &PathBuf| Results::read(file).map_err(|error| Failure::usage(error.to_string()));
    let found = benchmark::Comparison::of(&read(&files.old)?, &read(&files.new)?)?;
    print(&benchmark::markdown(&found))?;
    match (found.is_worse(), found.machine_has_changed()) {
        (true, _) => Err(Failure::refused("the later run is worse, by more than noise")),
        (false, true) => Err(Failure::usage(
            "the echo server itself has changed: measure both again, on one machine and built alike",
        )),
        (false, false) => Ok(()),
    }
}

/// Whether this process was started with SIGHUP ignored, as by `nohup`.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|it| it & 1 == 1)
}

/// Set at the first SIGINT, SIGTERM or SIGHUP, unless that was ignored; the second ends this
/// process. With what is said then.
fn stopped_by_signal(first: &'static str, second: Option<&'static str>) -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
            let [Ok(mut interrupt), Ok(mut terminate)] = kinds.map(signal) else { return };
            let mut hangup = match ignores_hangup() {
                true => None,
                false => signal(SignalKind::hangup()).ok(),
            };
            loop {
                let hung_up = async {
                    match &mut hangup {
                        Some(hangup) => hangup.recv().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hung_up => {}
                }
                if set.swap(true, Ordering::Relaxed) {
                    if let Some(second) = second {
                        log::warn!("{second}");
                    }
                    std::process::exit(130);
                }
                log::warn!("{first}; again to end at once");
            }
        });
    });
    stopped
}

fn floor(kind: FloorKind) -> Result<(), Failure> {
    let ready =
        |address: SocketAddr| log::info!("serving on http://{address}; answers are made up");
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    match kind {
        FloorKind::Echo => benchmark::serve_echo(address, ready)
            .map_err(|error| Failure::unavailable(error.to_string())),
        FloorKind::Null => fencepost::http::serve_floor(address, ready)
            .map_err(|error| Failure::unavailable(error.kind().to_string())),
    }
}

fn drive(node: &NodeArgs, args: &DriveArgs) -> Result<(), Failure> {
    let graph =
        Name::new(&args.graph).map_err(|error| Failure::usage(format!("--graph: {error}")))?;
    let stopped = stopped_by_signal("ends when what was sent is answered", None);
    let report = if args.url.is_empty() {
        let options = node.options()?;
        let designs = options.designs().map_err(NodeError::from)?;
        let reads = designs.reads(options.reads).map_err(NodeError::from)?;
        let description =
            format!("in process on {}, design {designs}, reads {}", options.database, reads.name());
        bench::drive_until(
            &InProcess::new(node::open(&options)?, graph, description),
            args,
            &stopped,
        )?
    } else {
        let timeout = Duration::from_secs_f64(args.timeout_seconds);
        bench::drive_until(&HttpTarget::new(&args.url, graph, timeout)?, args, &stopped)?
    };
    match args.format {
        bench::Format::Text => print(&format!("{}\n", report.render()))?,
        bench::Format::Json => print_json(&format!("{}\n", report.render()))?,
    }
    Ok(report.verdict()?)
}
