//! `fencepost prune`

use clap::Args;
use fencepost::archive;
use fencepost::export;
use fencepost::export::SinkUrl;

use super::arguments::{name, version_from};
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Prune a graph's log: delete the changes before a version and keep a snapshot at it
#[derive(Args)]
pub struct PruneArgs {
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

pub fn run(node: &NodeArgs, args: &PruneArgs) -> Result<(), Failure> {
    let (graph, before) = (name("--graph", &args.graph)?, args.before);
    let sinks = args.sink.iter().map(|sink| SinkUrl::parse(sink)).collect::<Result<Vec<_>, _>>()?;
    let store = node.changing()?;
    let unreachable = export::ask_sinks(&store, &graph, before, &sinks)?;
    if args.unreachable_ok {
        unreachable.iter().for_each(|one| log::warn!(target: "fencepost", "not asked: {one}"));
    } else if !unreachable.is_empty() {
        let told: Vec<String> = unreachable.iter().map(ToString::to_string).collect();
        return Err(Failure::unavailable(format!(
            "nothing was pruned, since these sinks cannot be asked whether they have what they \
             acknowledged: {}. Give the URL of a sink with its password (--sink), remove a \
             consumer whose sink is gone (fencepost consumer remove), or, if you know that they \
             have it, use --unreachable-ok",
            told.join("; ")
        )));
    }
    let pruned = archive::prune(&store, &graph, before)?;
    print(&if pruned.already {
        format!("graph {graph}: nothing to do, changes before {before} are gone\n")
    } else {
        let count = pruned.changes;
        format!(
            "pruned graph {graph}: changes before {before} are gone, {count} of them; a \
             snapshot at {before} is kept\n"
        )
    })
}
