//! The command line: one enum, one short function a command. Results on standard output, all else
//! on standard error. Exits with 0 done, 1 refused by the rules, bad data or a failed check, 2
//! wrong usage, 3 a server away.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use fencepost::address;
use fencepost::bench::{self, DriveArgs, HttpTarget, InProcess};
use fencepost::check::{self, CheckArgs, Verdict};
use fencepost::db::{Database, DatabaseUrl, OpenMode, STALL_MAX};
use fencepost::design::{Design, Reads, Service};
use fencepost::event;
use fencepost::export::sink::SinkUrl;
use fencepost::export::{self, ExportRequest, Registration};
use fencepost::graph::{Name, PlanRequest};
use fencepost::http::{self, Access, AllowedHost, AllowedOrigin, HttpLimits, LostHeaders};
use fencepost::import::events::{self, LogFile};
use fencepost::import::{
    self, Format, ImportRequest, Named, Namespace, OnDuplicate, Opened, Preview, SyncOptions,
};
use fencepost::keep::{self, Listing, ListingFormat};
use fencepost::node::{self, LockUrl, NodeError, NodeOptions};
use fencepost::store::rows::RowStore;
use fencepost::store::{Acknowledgement, Consumer, GraphState, GraphStore, Head};
use fencepost::terminal::{self, Shown};

mod failure;

use failure::Failure;

/// Graphs are millions of small shared parts, made by one thread and given back by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A job-orchestration graph on SQL with a distributed lock.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    node: NodeArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct NodeArgs {
    /// Where the graphs are: sqlite:PATH, or postgres://USER@HOST/DATABASE. Commands that only read
    /// make no database
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite:fencepost.db",
        value_name = "URL"
    )]
    database_url: String,
    /// The lock that guards them: file:DIR, postgres, or
    /// redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]. Without it, the one that the database names;
    /// at first `file:`, beside an SQLite database, and `postgres` on Postgres
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_LOCK_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    lock_url: Option<String>,
    /// Lock lease: a silent holder loses the lock after this many milliseconds, where the lock has
    /// leases. The same for all processes
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_LOCK_LEASE_MS",
        hide_env_values = true,
        default_value_t = fencepost::lock::LEASE.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(100..=3_600_000),
        value_name = "MS"
    )]
    lock_lease_ms: u64,
    /// Sessions on a Postgres server at most, those of the postgres lock included; 8 of them run
    /// statements
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_DATABASE_SESSIONS",
        hide_env_values = true,
        default_value_t = fencepost::db::SESSIONS,
        value_parser = clap::value_parser!(u32).range(2..=10_000),
        value_name = "N"
    )]
    database_sessions: u32,
    /// How long a Postgres server may take to answer a statement, in milliseconds, before requests
    /// are refused and its session is given up. Statements over a whole graph have 120 s
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_DATABASE_ANSWER_MS",
        hide_env_values = true,
        default_value_t = fencepost::db::ANSWER.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(500..=120_000),
        value_name = "MS"
    )]
    database_answer_ms: u64,
    /// How the service is built
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_DESIGN",
        hide_env_values = true,
        default_value = "crud",
        value_enum
    )]
    design: DesignArg,
    /// Whether reads share the lock, or read one snapshot of the database and never wait for a
    /// writer
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_READS",
        hide_env_values = true,
        default_value = "lock",
        value_enum
    )]
    reads: ReadsArg,
    /// Whether requests that wait for a graph share its next turn, as far as the design does that;
    /// off to measure what it is worth
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_SHARING",
        hide_env_values = true,
        default_value = "on",
        value_enum
    )]
    sharing: Sharing,
    /// Memory for graphs, in MiB: beyond, those that were used longest ago are let go, and loaded
    /// again when asked for. One in use stays, however large
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_GRAPH_MEMORY_MIB",
        hide_env_values = true,
        default_value_t = fencepost::design::Limits::default().graph_bytes >> 20,
        value_name = "MIB"
    )]
    graph_memory_mib: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sharing {
    /// One turn serves all that wait, within its limits
    On,
    /// A turn for each request
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum DesignArg {
    /// Rows; the image is reloaded when the version moved; writers take turns by the lock
    Crud,
    /// As crud, but what others wrote since is learnt from the change log
    CrudDelta,
    /// As crud-delta, but without a lock: whoever was outrun judges again. Reads are as with
    /// --reads snapshot
    CrudOptimistic,
    /// Rows; each request alone takes the lock and loads the whole graph, each write sorts it
    /// whole; nothing is kept
    CrudNaive,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReadsArg {
    /// Share the lock
    Lock,
    /// Take no lock
    Snapshot,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP until interrupted
    Serve(ServeArgs),
    /// Put jobs from files into a graph, in atomic changesets
    Import(ImportArgs),
    /// Print which jobs must run to produce datasets, and in which order
    Plan(PlanArgs),
    /// Write a graph's log, the graph itself first, to another engine, while it is served
    Export(ExportArgs),
    /// Replay an exported log, and compare it with the database
    Verify(VerifyArgs),
    /// Close a graph for good: no write of any node holds from then on. Waits until a sink has all
    /// that there is, and verifies it
    Freeze(FreezeArgs),
    /// Open a graph that was frozen
    Thaw {
        /// The graph
        #[arg(long)]
        graph: String,
    },
    /// Print who changed what in a graph, and when, oldest first
    Log(LogArgs),
    /// Have a graph's log begin at a later version: changes before it go, a snapshot at it is kept
    Prune(PruneArgs),
    /// Those who read a graph's log, whom pruning does not overtake
    #[command(subcommand)]
    Consumer(ConsumerCommand),
    /// Bring the database's schema up to date
    Migrate(MigrateArgs),
    /// Print the OpenAPI document
    Openapi,
    /// The lock that guards the database
    #[command(subcommand)]
    Lock(LockCommand),
    /// Measure
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check that recorded answers are those of one graph, changed one step after another
    Check(CheckArgs),
}

#[derive(Args)]
struct ServeArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8000")]
    address: SocketAddr,
    /// Listen beyond this machine although anyone who reaches the address may then read and write
    #[arg(long)]
    allow_anonymous: bool,
    /// Also serve requests that name this host, besides IP addresses and localhost: HOST, or
    /// HOST:PORT for this port only. All others are refused, since a web page may have its own name
    /// resolve to this machine. May be given several times. On other addresses than loopback, hosts
    /// and origins are checked only if one of them is given
    #[arg(long, value_name = "HOST")]
    allowed_host: Vec<AllowedHost>,
    /// Also take requests of web pages of this origin, as https://HOST or https://HOST:PORT,
    /// besides the service's own: for a proxy that shows the service under another name. No CORS
    /// headers are sent. May be given several times
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<AllowedOrigin>,
    /// The largest request body, in bytes
    #[arg(long, default_value_t = HttpLimits::default().body_bytes, value_name = "BYTES")]
    body_limit_bytes: u64,
    /// The largest plan, in jobs
    #[arg(long, default_value_t = HttpLimits::default().plan_jobs, value_parser = at_least_one, value_name = "JOBS")]
    plan_limit_jobs: usize,
    /// The largest answer of upstream and downstream, in names
    #[arg(long, default_value_t = HttpLimits::default().reachable_names, value_parser = at_least_one, value_name = "NAMES")]
    reachable_limit_names: usize,
    /// Long computations (plans, digests, lists) at once
    #[arg(long, default_value_t = HttpLimits::default().computations, value_parser = at_least_one, value_name = "N")]
    computations: usize,
    /// Writes that may wait for one graph
    #[arg(long, default_value_t = fencepost::design::Limits::default().waiting_writes, value_parser = at_least_one, value_name = "N")]
    waiting_writes: usize,
    /// Reads that may wait for one graph
    #[arg(long, default_value_t = fencepost::design::Limits::default().waiting_reads, value_parser = at_least_one, value_name = "N")]
    waiting_reads: usize,
    /// Writes that one turn serves
    #[arg(long, default_value_t = fencepost::design::Limits::default().batch_writes, value_parser = at_least_one, value_name = "N")]
    batch_writes: usize,
    /// Bytes of request bodies that one turn of writes serves, beyond its first request
    #[arg(long, default_value_t = fencepost::design::Limits::default().batch_bytes, value_parser = at_least_one, value_name = "BYTES")]
    batch_bytes: usize,
    /// How long a turn judges writes, in milliseconds, before it leaves the others to the next
    #[arg(long, default_value_t = fencepost::design::Limits::default().batch_time.as_millis() as u64, value_name = "MS")]
    batch_time_ms: u64,
    /// How long a turn waits for the lock, in milliseconds
    #[arg(long, default_value_t = fencepost::design::Limits::default().lock_wait.as_millis() as u64, value_name = "MS")]
    lock_wait_ms: u64,
    /// Streams that are open at once: live tails, change logs and snapshots
    #[arg(long, default_value_t = HttpLimits::default().streams, value_parser = at_least_one, value_name = "N")]
    streams: usize,
    /// After how long a live tail that has nothing to tell says that it is there, in milliseconds
    #[arg(
        long,
        default_value_t = HttpLimits::default().heartbeat.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "MS"
    )]
    heartbeat_ms: u64,
    /// How long a shutdown lets accepted requests finish, in seconds
    #[arg(long, default_value_t = HttpLimits::default().shutdown_grace.as_secs(), value_name = "S")]
    shutdown_grace_s: u64,
}

#[derive(Args)]
struct ImportArgs {
    /// The graph; created if it is not there
    #[arg(long)]
    graph: String,
    /// How the files are read
    #[arg(long, default_value = "auto", value_enum)]
    format: Format,
    /// What the names in WfFormat documents are prefixed with [default: file]
    #[arg(long, value_enum)]
    namespace: Option<Namespace>,
    /// Make the jobs whose names begin with PREFIX those of the files, in one changeset: those that
    /// the files do not hold are deleted. '' means every job
    #[arg(long, value_name = "PREFIX")]
    sync: Option<String>,
    /// Write nothing, and create no graph, database or lock directory: judge all files together as
    /// one changeset, and print how many jobs it would create, change and delete, with the first
    /// names of each. Exits with 1 if the import would be refused
    #[arg(long)]
    dry_run: bool,
    /// With --sync: accept files that hold no job. Without it, one such file refuses the import
    #[arg(long, requires = "sync")]
    allow_empty: bool,
    /// With --sync: accept jobs whose names do not begin with PREFIX. Without it, one such job
    /// refuses the import
    #[arg(long, requires = "sync")]
    allow_outside: bool,
    /// With --sync: delete at most N jobs; if more would go, the import is refused [default: half
    /// of the jobs that the graph has under PREFIX]
    #[arg(long, requires = "sync", value_name = "N")]
    max_delete: Option<usize>,
    /// What becomes of a job whose name came before with another content. A job that comes again as
    /// it was is skipped and counted [default: refuse]
    #[arg(long, value_enum)]
    on_duplicate: Option<OnDuplicate>,
    /// Jobs in one changeset. With fewer, other requests to the graph wait less for each; with
    /// more, the import takes less time. A changeset that the rules refuse grows by the jobs that
    /// follow until it is legal, up to 40,000 jobs or 128 MiB [default: 10000]
    #[arg(long, value_parser = at_least_one, conflicts_with = "sync", value_name = "N")]
    chunk_jobs: Option<usize>,
    /// Files, read once from beginning to end, so that pipes and <(COMMAND) will do; - is standard
    /// input. A log of events is one file
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Args)]
struct PlanArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// How the plan is written
    #[arg(long, default_value = "text", value_enum)]
    format: PlanFormat,
    /// The datasets to produce
    #[arg(required = true, value_name = "DATASET")]
    datasets: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlanFormat {
    /// One line a job: stage, tab, name
    Text,
    /// As over HTTP
    Json,
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
}

#[derive(Args)]
struct ExportArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// Where to: file:PATH, - for standard output, redis://HOST/STREAM, nats://HOST/STREAM, or
    /// postgres://HOST/DATABASE/TABLE. What is there already is gone on with
    #[arg(long, value_name = "SINK")]
    to: String,
    /// Into an empty sink, only the changes after version N, without the graph before them
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// Go on with what is written from now on, until interrupted
    #[arg(long)]
    follow: bool,
    /// The name by which the export is a consumer of the graph, which pruning does not overtake
    /// [default: `export to` and the identity of the sink]. Pruning waits for an export with a name
    /// until it is removed, and for one without a name and without --follow until 35 days after it
    /// last reported
    #[arg(long, value_name = "NAME", conflicts_with = "no_consumer")]
    consumer: Option<String>,
    /// Do not register as a consumer: if the log is pruned meanwhile, the export cannot be gone on
    /// with
    #[arg(long)]
    no_consumer: bool,
}

#[derive(Args)]
struct VerifyArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// Where the log is: as `export --to` names it, file:PATH may be a pipe, and - is standard
    /// input
    #[arg(long, value_name = "SINK")]
    from: String,
    /// Only up to version V
    #[arg(long, value_name = "V")]
    at: Option<u64>,
    /// Exit with 1 if the log ends before the version that the graph has now
    #[arg(long, conflicts_with = "at")]
    complete: bool,
}

#[derive(Args)]
struct FreezeArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// Where it went, in any words: told to whoever still writes
    #[arg(long, value_name = "PLACE")]
    moved_to: Option<String>,
    /// Wait until this sink has the last version, and verify its log
    #[arg(long, value_name = "SINK")]
    sink: Option<String>,
    /// How long to wait for that, in seconds
    #[arg(long, default_value_t = 60, value_name = "S")]
    wait_seconds: u64,
}

#[derive(Args)]
struct LogArgs {
    /// The graph; deleted ones have a log too
    #[arg(long)]
    graph: String,
    /// Only changes of this job, in detail
    #[arg(long)]
    job: Option<String>,
    /// Only changes after this version
    #[arg(long, default_value_t = 0, value_parser = version_from::<0>, value_name = "VERSION")]
    after: u64,
    /// So many changes at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// How the log is written
    #[arg(long, default_value = "text", value_enum)]
    format: ListingFormat,
}

#[derive(Args)]
struct PruneArgs {
    /// The graph; deleted ones have a log too
    #[arg(long)]
    graph: String,
    /// The version at which the log begins from then on
    #[arg(long, value_parser = version_from::<1>, value_name = "VERSION")]
    before: u64,
    /// The URL of an export's sink, with its password. Before changes are removed, each sink is
    /// asked whether it has what it acknowledged, and the database stores no passwords. May be
    /// given several times
    #[arg(long, value_name = "SINK")]
    sink: Vec<String>,
    /// Prune even if some sinks cannot be asked whether they have what they acknowledged
    #[arg(long)]
    unreachable_ok: bool,
}

#[derive(Subcommand)]
enum ConsumerCommand {
    /// Print the consumers of a graph: name, acknowledged version, versions behind, and when it
    /// last reported, with tabs between
    List {
        /// The graph
        #[arg(long)]
        graph: String,
    },
    /// Note that a consumer needs no change up to a version; registers it if it is new
    #[command(disable_version_flag = true)]
    Ack {
        /// The graph
        #[arg(long)]
        graph: String,
        /// What the consumer calls itself
        #[arg(long)]
        name: String,
        /// The version
        #[arg(long, value_parser = version_from::<0>)]
        version: u64,
    },
    /// Take a consumer off the list: pruning waits for it no longer
    Remove {
        /// The graph
        #[arg(long)]
        graph: String,
        /// What the consumer calls itself
        #[arg(long)]
        name: String,
    },
}

/// Versions fit 63 bits.
fn version_from<const LEAST: u64>(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(version) if (LEAST..i64::MAX as u64).contains(&version) => Ok(version),
        _ => Err(format!("is no version from {LEAST} on")),
    }
}

#[derive(Args)]
struct MigrateArgs {
    /// Take the newest N migrations back instead; what they hold is lost
    #[arg(long, value_name = "N")]
    revert: Option<usize>,
}

#[derive(Subcommand)]
enum LockCommand {
    /// Make --lock-url the lock that guards the database. No process may be running on the former
    /// one
    Set,
    /// Who holds a graph's lock, who waits for it, and what the database knows of it. Takes
    /// nothing, changes nothing
    Inspect {
        /// The graph
        #[arg(long)]
        graph: String,
    },
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Put load on a server, or on the service in this process, and say what came back and how soon
    Drive(DriveArgs),
}

/// A limit of 0 would refuse everything.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("is no whole number".to_owned()),
    }
}

fn main() -> ExitCode {
    let lost_headers = failure::start_log();
    // Usage lines would repeat the name that the program was called by, whatever is in that.
    let arguments = iter::once(OsString::from("fencepost")).chain(std::env::args_os().skip(1));
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return failure::report_arguments(error),
    };
    match run(&cli, lost_headers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&cli.node.database_url),
    }
}

fn run(cli: &Cli, lost_headers: LostHeaders) -> Result<(), Failure> {
    match &cli.command {
        Command::Serve(args) => serve(&cli.node, args, lost_headers),
        Command::Import(args) => import(&cli.node, args),
        Command::Plan(args) => plan(&cli.node, args),
        Command::Export(args) => export(&cli.node, args),
        Command::Verify(args) => verify(&cli.node, args),
        Command::Freeze(args) => freeze(&cli.node, args),
        Command::Thaw { graph } => thaw(&cli.node, graph),
        Command::Log(args) => log_of(&cli.node, args),
        Command::Prune(args) => prune(&cli.node, args),
        Command::Consumer(ConsumerCommand::List { graph }) => consumer_list(&cli.node, graph),
        Command::Consumer(ConsumerCommand::Ack { graph, name, version }) => {
            consumer_ack(&cli.node, graph, name, *version)
        }
        Command::Consumer(ConsumerCommand::Remove { graph, name }) => {
            consumer_remove(&cli.node, graph, name)
        }
        Command::Migrate(args) => migrate(&cli.node, args),
        Command::Openapi => openapi(),
        Command::Lock(LockCommand::Set) => lock_set(&cli.node),
        Command::Lock(LockCommand::Inspect { graph }) => lock_inspect(&cli.node, graph),
        Command::Bench(BenchCommand::Drive(args)) => bench_drive(&cli.node, args),
        Command::Check(args) => check(&cli.node, args),
    }
}

impl NodeArgs {
    fn options(&self) -> Result<NodeOptions, Failure> {
        let design = match self.design {
            DesignArg::Crud => Design::Crud,
            DesignArg::CrudDelta => Design::CrudDelta,
            DesignArg::CrudOptimistic => Design::CrudOptimistic,
            DesignArg::CrudNaive => Design::CrudNaive,
        };
        let database = DatabaseUrl::parse(&self.database_url).map_err(NodeError::from)?;
        let lock_url = self.lock_url.as_deref().map(LockUrl::parse).transpose()?;
        let reads = match self.reads {
            ReadsArg::Lock => Reads::Lock,
            ReadsArg::Snapshot => Reads::Snapshot,
        };
        let lease = Duration::from_millis(self.lock_lease_ms);
        let mut options =
            NodeOptions { lock_url, lease, design, reads, ..NodeOptions::new(database) };
        options.pool.sessions = self.database_sessions;
        options.pool.answer = Duration::from_millis(self.database_answer_ms);
        options.limits.share_turns = self.sharing == Sharing::On;
        options.limits.graph_bytes = self.graph_memory_mib.saturating_mul(1 << 20);
        Ok(options)
    }

    /// The rows, to be read: nothing is made or changed.
    fn reading(&self) -> Result<RowStore, Failure> {
        Ok(node::open_store_for(OpenMode::Read, &self.options()?)?)
    }

    /// The rows of a database that must be there.
    fn changing(&self) -> Result<RowStore, Failure> {
        Ok(node::open_store_for(OpenMode::Change, &self.options()?)?)
    }
}

fn serve(node: &NodeArgs, args: &ServeArgs, lost_headers: LostHeaders) -> Result<(), Failure> {
    let on_loopback = args.address.ip().is_loopback();
    if !on_loopback && !args.allow_anonymous {
        let message = format!(
            "{} can be reached from other machines, and nobody is asked who they are: listen on 127.0.0.1, or say --allow-anonymous",
            args.address
        );
        return Err(Failure::usage(message));
    }
    let mut options = node.options()?;
    options.limits.waiting_writes = args.waiting_writes;
    options.limits.waiting_reads = args.waiting_reads;
    options.limits.batch_writes = args.batch_writes;
    options.limits.batch_bytes = args.batch_bytes;
    options.limits.batch_time = Duration::from_millis(args.batch_time_ms);
    options.limits.lock_wait = Duration::from_millis(args.lock_wait_ms);
    let limits = HttpLimits {
        body_bytes: args.body_limit_bytes,
        plan_jobs: args.plan_limit_jobs,
        reachable_names: args.reachable_limit_names,
        computations: args.computations,
        streams: args.streams,
        heartbeat: Duration::from_millis(args.heartbeat_ms),
        shutdown_grace: Duration::from_secs(args.shutdown_grace_s),
        ..HttpLimits::default()
    };
    let cannot_serve =
        |reason: String| Failure::away(format!("cannot serve on {}: {reason}", args.address));
    // To open the database may migrate it, which the release before must not find done in vain.
    http::check_address(args.address).map_err(|error| cannot_serve(error.to_string()))?;
    let service: Service = node::open(&options)?;
    let (database, design) = (options.database.clone(), options.design);
    let ready = move |address| {
        log::info!(
            "serving {database} with {design} on http://{address}; see http://{address}/docs"
        )
    };
    let access = Access::new(on_loopback, args.allowed_host.clone(), args.allowed_origin.clone());
    let served = http::serve(service, args.address, limits, access, lost_headers, ready);
    served.map_err(|error| cannot_serve(error.kind().to_string()))
}

/// Writes a result for people. Whoever stops reading it has had enough of it; any other failure is
/// told. What is foreign in it and may hold line feeds or tabs was made [`Shown`].
fn print(text: &str) -> Result<(), Failure> {
    let shown = match io::stdout().is_terminal() {
        true => terminal::lines(text),
        false => terminal::piped_lines(text),
    };
    write_some(&shown).map(drop)
}

/// Writes a result in JSON.
fn print_json(text: &str) -> Result<(), Failure> {
    write_some(&terminal::json(text)).map(drop)
}

/// Writes a part of a result; whether anybody reads on.
fn write_some(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::refused(format!(
            "the result could not be written to standard output: {error}; what was asked for is \
             done"
        ))),
    }
}

fn name(argument: &str, text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|invalid| Failure::usage(format!("{argument} `{text}`: {invalid}")))
}

fn import(node: &NodeArgs, args: &ImportArgs) -> Result<(), Failure> {
    let graph = name("--graph", &args.graph)?;
    let files = match import::open(args.format, &args.paths)? {
        Opened::Log(log) => return restore(node, args, &graph, log),
        Opened::Jobs(files) => files,
    };
    let sync = args.sync.clone().map(|prefix| SyncOptions {
        prefix,
        allow_empty: args.allow_empty,
        allow_outside: args.allow_outside,
        max_delete: args.max_delete,
    });
    let request = ImportRequest {
        graph,
        namespace: args.namespace.unwrap_or_default(),
        on_duplicate: args.on_duplicate.unwrap_or_default(),
        sync,
        chunk_jobs: args.chunk_jobs.unwrap_or(import::CHUNK_JOBS),
    };
    let options = node.options()?;
    if args.dry_run {
        let service = node::open_to_judge(&options)?;
        return print_preview(&request.graph, import::preview(&service, &request, files)?);
    }
    let service = node::open(&options)?;
    let imported = import::import(&service, &request, files)?;
    let deleted = match imported.deleted {
        0 => String::new(),
        deleted => format!("deleted {deleted} jobs\n"),
    };
    let duplicates = duplicates(imported.repeated, imported.replaced);
    let (jobs, version) = (imported.jobs, imported.version);
    print(&format!("{deleted}{duplicates}imported {jobs} jobs, now version {version}\n"))
}

/// What is told of names that come more than once.
fn duplicates(repeated: usize, replaced: usize) -> String {
    let mut lines = String::new();
    if repeated > 0 {
        lines += &format!("skipped {repeated} identical repeats\n");
    }
    if replaced > 0 {
        lines += &format!("replaced {replaced} jobs by later ones of the same name\n");
    }
    lines
}

fn print_preview(graph: &Name, preview: Preview) -> Result<(), Failure> {
    let mut lines = duplicates(preview.repeated, preview.replaced);
    if let Some(would) = &preview.would {
        let told = |what: &str, jobs: &Named| {
            let names: Vec<String> = jobs.first.iter().map(|name| format!("`{name}`")).collect();
            let more = match jobs.count - names.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let colon = if names.is_empty() { "" } else { ": " };
            format!("would {what} {} jobs{colon}{}{more}\n", jobs.count, names.join(", "))
        };
        if preview.version.is_none() {
            lines += &format!("would create graph `{graph}`\n");
        }
        lines += &told("create", &would.create);
        lines += &told("change", &would.change);
        lines += &told("delete", &would.delete);
        let same = preview.jobs - would.create.count - would.change.count;
        lines += &format!("would leave {same} jobs as they are\n");
    }
    lines += &match preview.version {
        Some(version) => format!("judged at version {version}; nothing was written\n"),
        None => "nothing was written\n".to_owned(),
    };
    print(&lines)?;
    preview.refused.map_or(Ok(()), |refused| Err(refused.into()))
}

fn restore(node: &NodeArgs, args: &ImportArgs, graph: &Name, log: LogFile) -> Result<(), Failure> {
    let senseless = [
        ("--namespace", args.namespace.is_some()),
        ("--sync", args.sync.is_some()),
        ("--dry-run", args.dry_run),
        ("--on-duplicate", args.on_duplicate.is_some()),
        ("--chunk-jobs", args.chunk_jobs.is_some()),
    ];
    if let Some((argument, _)) = senseless.into_iter().find(|(_, given)| *given) {
        let why = "events are restored as they are, with their versions";
        return Err(Failure::usage(format!(
            "{argument} makes no sense with a log of events: {why}"
        )));
    }
    if args.paths.len() > 1 {
        return Err(Failure::usage(
            "a log of events is in one file: give one PATH, or - for standard input",
        ));
    }
    // No lock is held meanwhile: however short its lease, the transaction may stand still for as
    // long as any.
    let options = NodeOptions { lease: STALL_MAX, ..node.options()? };
    let restored = events::restore(&node::open_store(&options)?, graph, log)?;
    if !restored.same_uuid {
        log::info!(
            "another graph of this database is of the same history: `{graph}` has a UUID of its own, {}",
            restored.uuid
        );
    }
    if restored.deleted {
        log::info!(
            "the log ends with the deletion of the graph: `{graph}` is deleted, and its versions go on if it is created"
        );
    }
    print(&format!("imported {} jobs, now version {}\n", restored.jobs, restored.version))
}

fn log_of(node: &NodeArgs, args: &LogArgs) -> Result<(), Failure> {
    let listing = Listing {
        graph: name("--graph", &args.graph)?,
        job: args.job.as_deref().map(|job| name("--job", job)).transpose()?,
        after: args.after,
        limit: args.limit.unwrap_or(u64::MAX),
        format: args.format,
    };
    let mut printed = Ok(true);
    let pruned = &mut |oldest| {
        eprintln!(
            "the log begins at version {oldest}: what was before was pruned, or stayed where the graph was restored from"
        )
    };
    keep::list(&node.reading()?, &listing, pruned, &mut |lines| {
        printed = write_some(&match args.format {
            ListingFormat::Text => terminal::lines(lines),
            ListingFormat::Json => terminal::json(lines),
        });
        matches!(printed, Ok(true))
    })?;
    printed.map(drop)
}

fn prune(node: &NodeArgs, args: &PruneArgs) -> Result<(), Failure> {
    let (graph, before) = (name("--graph", &args.graph)?, args.before);
    let sinks = args.sink.iter().map(|sink| SinkUrl::parse(sink)).collect::<Result<Vec<_>, _>>()?;
    let store = node.changing()?;
    let unreachable = export::ask_sinks(&store, &graph, before, &sinks)?;
    if args.unreachable_ok {
        unreachable.iter().for_each(|one| log::warn!("not asked: {one}"));
    } else if !unreachable.is_empty() {
        let told: Vec<String> = unreachable.iter().map(ToString::to_string).collect();
        return Err(Failure::away(format!(
            "nothing was pruned, since these sinks cannot be asked whether they have what they \
             acknowledged: {}. Give the URL of a sink with its password (--sink), remove a \
             consumer whose sink is gone (fencepost consumer remove), or, if you know that they \
             have it, use --unreachable-ok",
            told.join("; ")
        )));
    }
    let pruned = keep::prune(&store, &graph, before)?;
    print(&if pruned.already {
        format!("graph {graph}: nothing to do, changes before {before} are gone\n")
    } else {
        let count = pruned.changes;
        format!(
            "pruned graph {graph}: changes before {before} are gone, {count} of them; a snapshot at {before} is kept\n"
        )
    })
}

fn consumer_list(node: &NodeArgs, graph: &str) -> Result<(), Failure> {
    let graph = name("--graph", graph)?;
    let found = node.reading()?.consumers(&graph)?;
    let (head, consumers) = found.ok_or(NodeError::GraphNotFound(graph))?;
    let line = |consumer: &Consumer| {
        let behind = head.version.saturating_sub(consumer.acknowledged);
        let time = event::rfc3339(consumer.seen_at_ms);
        format!("{}\t{}\t{behind}\t{time}\n", consumer.name, consumer.acknowledged)
    };
    print(&consumers.iter().map(line).collect::<String>())
}

fn consumer_ack(node: &NodeArgs, graph: &str, consumer: &str, version: u64) -> Result<(), Failure> {
    let (graph, consumer) = (name("--graph", graph)?, name("--name", consumer)?);
    let store = node.changing()?;
    match store.acknowledge(&graph, &consumer, version)? {
        Acknowledgement::Noted { acknowledged, registered, .. } => {
            let new = if registered { ", and is new" } else { "" };
            print(&format!(
                "consumer {consumer} of graph {graph} has acknowledged version {acknowledged}{new}\n"
            ))
        }
        Acknowledgement::GraphNotFound => Err(NodeError::GraphNotFound(graph).into()),
        Acknowledgement::Ahead { version: is_at } => Err(Failure::refused(format!(
            "graph `{graph}` is at version {is_at}: {version} cannot have been read"
        ))),
        Acknowledgement::Pruned { oldest } => Err(Failure::refused(format!(
            "graph `{graph}` was pruned: the oldest change is {oldest}. A new consumer begins with a snapshot, and acknowledges at least version {}",
            oldest - 1
        ))),
    }
}

fn consumer_remove(node: &NodeArgs, graph: &str, consumer: &str) -> Result<(), Failure> {
    let (graph, consumer) = (name("--graph", graph)?, name("--name", consumer)?);
    match node.changing()?.forget_consumer(&graph, &consumer)? {
        Some(true) => print(&format!("removed consumer {consumer} of graph {graph}\n")),
        Some(false) => {
            Err(Failure::refused(format!("graph `{graph}` has no consumer `{consumer}`")))
        }
        None => Err(NodeError::GraphNotFound(graph).into()),
    }
}

fn plan(node: &NodeArgs, args: &PlanArgs) -> Result<(), Failure> {
    let graph = name("--graph", &args.graph)?;
    let datasets =
        args.datasets.iter().map(|text| name("dataset", text)).collect::<Result<_, _>>()?;
    // One snapshot: that needs no lock, which would have to be there.
    let found = node.reading()?.load(&graph)?;
    let found = found.filter(|(head, _)| head.state != GraphState::Deleted);
    let (head, loaded) = found.ok_or_else(|| not_there(&graph))?;
    let request = PlanRequest { datasets, ..PlanRequest::default() };
    let plan = loaded.plan(&request, usize::MAX).map_err(Failure::refused)?;
    match args.format {
        PlanFormat::Text => {
            let jobs: usize = plan.stages.iter().map(Vec::len).sum();
            eprintln!("{jobs} jobs in {} stages, at version {}", plan.stages.len(), head.version);
            let stages = plan.stages.iter().enumerate();
            let lines = stages.flat_map(|(number, jobs)| {
                jobs.iter().map(move |job| format!("{number}\t{job}\n"))
            });
            print(&lines.collect::<String>())
        }
        PlanFormat::Json => {
            let body = http::PlanBody::new(&graph, head.version, &plan);
            print_json(&(serde_json::to_string(&body).map_err(Failure::refused)? + "\n"))
        }
        PlanFormat::Dot => print(&http::graphviz(&plan)),
        PlanFormat::Mermaid => print(&http::mermaid(&plan)),
    }
}

fn export(node: &NodeArgs, args: &ExportArgs) -> Result<(), Failure> {
    let to = SinkUrl::parse(&args.to)?;
    let registration = match &args.consumer {
        Some(consumer) => Registration::As(name("--consumer", consumer)?),
        // Nothing can be asked of standard output, and so nothing gone on with.
        None if args.no_consumer || to == SinkUrl::StandardOutput => Registration::None,
        None => Registration::AfterSink,
    };
    let graph = name("--graph", &args.graph)?;
    let request = ExportRequest { graph, to, after: args.after, follow: args.follow, registration };
    // A consumer is registered, unless there is none.
    let store = match &request.registration {
        Registration::None => node.reading()?,
        Registration::As(_) | Registration::AfterSink => node.changing()?,
    };
    let exported = export::export(&store, &request)?;
    let done = format!(
        "exported {} events to {}, now version {}\n",
        exported.events,
        Shown(&request.to),
        exported.version
    );
    if request.to == SinkUrl::StandardOutput {
        eprint!("{done}");
        return Ok(());
    }
    print(&done)
}

fn verify(node: &NodeArgs, args: &VerifyArgs) -> Result<(), Failure> {
    let (graph, from) = (name("--graph", &args.graph)?, SinkUrl::parse(&args.from)?);
    let verified = export::verify(&node.reading()?, &graph, &from, args.at)?;
    print(&format!("{verified}\n"))?;
    if args.complete && verified.missing() > 0 {
        let version = verified.versions.1;
        return Err(Failure::refused(format!(
            "the log ends at version {version}, {} before the graph: export first",
            verified.missing()
        )));
    }
    Ok(())
}

fn freeze(node: &NodeArgs, args: &FreezeArgs) -> Result<(), Failure> {
    let graph = name("--graph", &args.graph)?;
    if let Some(place) = &args.moved_to {
        address::check_told(place)
            .map_err(|reason| Failure::usage(format!("--moved-to: {reason}")))?;
    }
    let sink = args.sink.as_deref().map(SinkUrl::parse).transpose()?;
    let store = node.changing()?;
    let patience = Duration::from_secs(args.wait_seconds);
    // A sink that is mistyped, or not right, must not stop anybody.
    if let Some(sink) = &sink {
        export::check_sink(&store, &of_graph(&graph, store.head(&graph)?)?, sink, patience)?;
    }
    let frozen = of_graph(&graph, store.freeze(&graph, args.moved_to.as_deref())?)?;
    print(&format!("graph `{graph}` is frozen at version {}\n", frozen.version))?;
    match sink {
        Some(sink) => {
            print(&format!("{}\n", export::await_sink(&store, &frozen, &sink, patience)?))
        }
        None => {
            let loaded = store.load(&graph)?.ok_or_else(|| not_there(&graph))?;
            print(&format!("digest {}\n", loaded.1.digest()))
        }
    }
}

fn thaw(node: &NodeArgs, graph: &str) -> Result<(), Failure> {
    let graph = name("--graph", graph)?;
    let thawed = of_graph(&graph, node.changing()?.thaw(&graph)?)?;
    print(&format!("graph `{graph}` takes writes again, at version {}\n", thawed.version))
}

fn of_graph(graph: &Name, head: Option<Head>) -> Result<Head, Failure> {
    head.ok_or_else(|| not_there(graph))
}

fn not_there(graph: &Name) -> Failure {
    Failure::not_in_database(format!("there is no graph `{graph}`"))
}

fn migrate(node: &NodeArgs, args: &MigrateArgs) -> Result<(), Failure> {
    let url = node.options()?.database;
    match args.revert {
        Some(count) => {
            Database::revert(&url, count).map_err(NodeError::from)?;
            print(&format!("took back {count}\n"))
        }
        None => {
            let run = Database::migrate(&url).map_err(NodeError::from)?;
            print(&format!(
                "ran {}\n",
                if run.is_empty() { "nothing: up to date".to_owned() } else { run.join(", ") }
            ))
        }
    }
}

fn openapi() -> Result<(), Failure> {
    print_json(&format!("{:#}\n", http::openapi::document()))
}

fn lock_set(node: &NodeArgs) -> Result<(), Failure> {
    let options = node.options()?;
    let Some(url) = &options.lock_url else {
        return Err(Failure::usage("say which lock: fencepost lock set --lock-url URL"));
    };
    let record = node::set_lock(&options, url)?;
    print(&format!(
        "the database is guarded by {}
",
        Shown(record)
    ))
}

fn lock_inspect(node: &NodeArgs, graph: &str) -> Result<(), Failure> {
    print(&node::inspect_lock(&node.options()?, &name("--graph", graph)?)?.to_string())
}

fn bench_drive(node: &NodeArgs, args: &DriveArgs) -> Result<(), Failure> {
    let graph =
        Name::new(&args.graph).map_err(|error| Failure::usage(format!("--graph: {error}")))?;
    let report = if args.url.is_empty() {
        let options = node.options()?;
        let reads = format!("{:?}", options.reads).to_lowercase();
        let description =
            format!("in process on {}, design {}, reads {reads}", options.database, options.design);
        bench::drive(&InProcess::new(node::open(&options)?, graph, description), args)?
    } else {
        let timeout = Duration::from_secs_f64(args.timeout_seconds);
        bench::drive(&HttpTarget::new(&args.url, graph, timeout)?, args)?
    };
    match args.format {
        bench::Format::Text => print(&format!("{}\n", report.render()))?,
        bench::Format::Json => print_json(&format!("{}\n", report.render()))?,
    }
    Ok(report.verdict()?)
}

fn check(node: &NodeArgs, args: &CheckArgs) -> Result<(), Failure> {
    let began = Instant::now();
    let verdict = check::check(args, &node.options()?)?;
    match (args.format, &verdict) {
        (check::Format::Json, verdict) => print_json(&format!("{}\n", verdict.json()))?,
        (check::Format::Text, Verdict::Valid(summary)) => {
            print(&format!("{summary}, {:.1} s\n", began.elapsed().as_secs_f64()))?;
        }
        (check::Format::Text, Verdict::Found(finding)) => print(&format!("{finding}\n"))?,
    }
    match verdict {
        Verdict::Valid(_) => Ok(()),
        Verdict::Found(_) => Err(Failure::refused("the histories are not shown to be right")),
    }
}
