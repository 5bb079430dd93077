//! `fencepost bench`

use std::time::Duration;

use clap::Subcommand;
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
}

pub fn run(node: &NodeArgs, command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Drive(args) => drive(node, args),
    }
}

fn drive(node: &NodeArgs, args: &DriveArgs) -> Result<(), Failure> {
    let graph =
        Name::new(&args.graph).map_err(|error| Failure::usage(format!("--graph: {error}")))?;
    let report = if args.url.is_empty() {
        let options = node.options()?;
        let designs = options.designs().map_err(NodeError::from)?;
        let reads = designs.reads(options.reads).map_err(NodeError::from)?;
        let description =
            format!("in process on {}, design {designs}, reads {}", options.database, reads.name());
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
