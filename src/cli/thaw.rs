//! `fencepost thaw`

use clap::Args;

use super::arguments::name;
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Open a graph that was frozen
#[derive(Args)]
pub struct ThawArgs {
    /// The graph
    #[arg(long)]
    graph: String,
}

pub fn run(node: &NodeArgs, args: &ThawArgs) -> Result<(), Failure> {
    let graph = name("--graph", &args.graph)?;
    let thawed = node.changing()?.thaw(&graph)?;
    let thawed = thawed.ok_or_else(|| Failure::graph_not_found(&graph))?;
    print(&format!("graph `{graph}` takes writes again, at version {}\n", thawed.version))
}
