//! `fencepost snapshot`

use clap::Subcommand;
use fencepost::archive::{drop_snapshots, list_snapshots, take_snapshot};
use fencepost::event::rfc3339;
use fencepost::store::PackedSnapshot;

use super::arguments::{name, version_from};
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Snapshots from which a graph is loaded more quickly; the service takes them as the log grows
#[derive(Subcommand)]
pub enum SnapshotCommand {
    /// Print the snapshots of a graph, the newest first: version, bytes, parts, format, digest, and
    /// when it was taken, with tabs between
    List {
        /// The graph
        #[arg(long)]
        graph: String,
    },
    /// Take a snapshot of a graph now
    Take {
        /// The graph
        #[arg(long)]
        graph: String,
    },
    /// Drop snapshots of a graph: the next load reads all rows, or replays more of the log
    Drop {
        /// The graph
        #[arg(long)]
        graph: String,
        /// The version of the one to drop; without it, all are dropped
        #[arg(long, value_parser = version_from::<1>)]
        version: Option<u64>,
    },
}

pub fn run(node: &NodeArgs, command: &SnapshotCommand) -> Result<(), Failure> {
    match command {
        SnapshotCommand::List { graph } => list(node, graph),
        SnapshotCommand::Take { graph } => take(node, graph),
        SnapshotCommand::Drop { graph, version } => drop_some(node, graph, *version),
    }
}

fn list(node: &NodeArgs, graph: &str) -> Result<(), Failure> {
    let graph = name("--graph", graph)?;
    let snapshots = list_snapshots(&node.reading()?, &graph)?;
    let line = |snapshot: &PackedSnapshot| {
        let PackedSnapshot { version, bytes, parts, format, digest, taken_at_ms, .. } = snapshot;
        let taken_at = rfc3339(*taken_at_ms);
        format!("{version}\t{bytes}\t{parts}\t{format}\t{digest}\t{taken_at}\n")
    };
    print(&snapshots.iter().map(line).collect::<String>())
}

fn take(node: &NodeArgs, graph: &str) -> Result<(), Failure> {
    let graph = name("--graph", graph)?;
    let PackedSnapshot { version, bytes, .. } = take_snapshot(&node.changing()?, &graph)?;
    print(&format!("took a snapshot of graph {graph} at version {version}, of {bytes} bytes\n"))
}

fn drop_some(node: &NodeArgs, graph: &str, version: Option<u64>) -> Result<(), Failure> {
    let graph = name("--graph", graph)?;
    let count = drop_snapshots(&node.changing()?, &graph, version)?;
    let snapshots = if count == 1 { "snapshot" } else { "snapshots" };
    print(&format!("dropped {count} {snapshots} of graph {graph}\n"))
}
