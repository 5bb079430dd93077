//! The command line: one enum, one file a command, each with its arguments and what it does.
//! Results on standard output, all else on standard error. Exits with 0 done, 1 refused by the
//! rules, bad data or a failed check, 2 wrong usage, 3 a server away.

use std::ffi::OsString;
use std::iter;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use fencepost::check::CheckArgs;
use fencepost::http::LostHeaders;

mod arguments;
mod bench;
mod check;
mod check_rows;
mod conformance;
mod consumer;
mod export;
mod failure;
mod freeze;
mod import;
mod lock;
mod log;
mod migrate;
mod node;
mod openapi;
mod output;
mod plan;
mod prune;
mod serve;
mod snapshot;
mod thaw;
mod verify;

use failure::Failure;

/// A job-orchestration graph on SQL with a distributed lock.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    node: node::NodeArgs,
    /// End when the process with this id ends, which has started this one
    #[arg(long, global = true, hide = true, value_name = "PID")]
    with_parent: Option<i32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Import(import::ImportArgs),
    Plan(plan::PlanArgs),
    Export(export::ExportArgs),
    Verify(verify::VerifyArgs),
    Freeze(freeze::FreezeArgs),
    Thaw(thaw::ThawArgs),
    Log(log::LogArgs),
    Prune(prune::PruneArgs),
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    CheckRows(check_rows::CheckRowsArgs),
    #[command(subcommand)]
    Consumer(consumer::ConsumerCommand),
    Migrate(migrate::MigrateArgs),
    /// Print the OpenAPI document
    Openapi,
    #[command(subcommand)]
    Lock(lock::LockCommand),
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Check that recorded answers are those of one graph, changed one step after another
    Check(CheckArgs),
    Conformance(conformance::ConformanceArgs),
}

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    let lost_headers = failure::start_log();
    // Usage lines would repeat the name that the program was called by, whatever is in that.
    let arguments = iter::once(OsString::from("fencepost")).chain(std::env::args_os().skip(1));
    let (cli, given) = match parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return failure::report_arguments(error),
    };
    let ran = refuse_unused(&cli.command, &given).and_then(|()| run(&cli, lost_headers));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&cli.node.database_url),
    }
}

/// The arguments, and which options of a node are among them.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<(Cli, Vec<String>), clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    Ok((cli, node::NodeArgs::given(&matches)))
}

/// An option that does nothing would let a reader believe that it did.
fn refuse_unused(command: &Command, given: &[String]) -> Result<(), Failure> {
    let Some(instead) = command.instead_of_node_options() else { return Ok(()) };
    if given.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!("{} would have no effect: {instead}", given.join(", "))))
}

impl Command {
    /// What to do instead of giving options of [`node::NodeArgs`], to a command that uses none of
    /// them; `None` where they are used.
    fn instead_of_node_options(&self) -> Option<&'static str> {
        match self {
            Self::Bench(command) => command.instead_of_node_options(),
            Self::Conformance(_) => {
                Some("the server at --target has options of its own; leave it out")
            }
            _ => None,
        }
    }
}

fn run(cli: &Cli, lost_headers: LostHeaders) -> Result<(), Failure> {
    let node = &cli.node;
    cli.with_parent.map_or(Ok(()), end_with)?;
    match &cli.command {
        Command::Serve(args) => serve::run(node, args, lost_headers),
        Command::Import(args) => import::run(node, args),
        Command::Plan(args) => plan::run(node, args),
        Command::Export(args) => export::run(node, args),
        Command::Verify(args) => verify::run(node, args),
        Command::Freeze(args) => freeze::run(node, args),
        Command::Thaw(args) => thaw::run(node, args),
        Command::Log(args) => log::run(node, args),
        Command::Prune(args) => prune::run(node, args),
        Command::Snapshot(command) => snapshot::run(node, command),
        Command::CheckRows(args) => check_rows::run(node, args),
        Command::Consumer(command) => consumer::run(node, command),
        Command::Migrate(args) => migrate::run(node, args),
        Command::Openapi => openapi::run(),
        Command::Lock(command) => lock::run(node, command),
        Command::Bench(command) => bench::run(node, command),
        Command::Check(args) => check::run(node, args),
        Command::Conformance(args) => conformance::run(args),
    }
}

/// Has this process told to end when its parent has ended, in whatever way.
fn end_with(parent: i32) -> Result<(), Failure> {
    let told =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    told.map_err(|error| Failure::unavailable(format!("--with-parent: {error}")))?;
    let is_there = rustix::process::getppid().is_some_and(|id| id.as_raw_pid() == parent);
    if is_there {
        Ok(())
    } else {
        Err(Failure::unavailable("--with-parent: it has ended".to_owned()))
    }
}
