//! `fencepost lock`

use clap::Subcommand;
use fencepost::node;
use fencepost::terminal::OneLine;

use super::arguments::name;
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// The lock that guards the database
#[derive(Subcommand)]
pub enum LockCommand {
    /// Make --lock-url the lock that guards the database. No process may be running on the former
    /// one
    Set,
    /// Who holds a graph's lock, who waits for it, and what the database knows of it. Does
    /// not take the lock, and changes nothing
    Inspect {
        /// The graph
        #[arg(long)]
        graph: String,
    },
    /// Have the node that leads a graph hand it over to another, and wait until that one leads.
    /// Only where a design with a leader is served
    HandOver {
        /// The graph
        #[arg(long)]
        graph: String,
        /// The node that is to lead: its address, or its name as `lock inspect` shows it. Without
        /// it, any other
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
}

pub fn run(node: &NodeArgs, command: &LockCommand) -> Result<(), Failure> {
    match command {
        LockCommand::Set => set(node),
        LockCommand::Inspect { graph } => inspect(node, graph),
        LockCommand::HandOver { graph, to } => hand_over(node, graph, to.as_deref()),
    }
}

fn set(node: &NodeArgs) -> Result<(), Failure> {
    let options = node.options()?;
    let Some(url) = &options.lock_url else {
        return Err(Failure::usage("say which lock: fencepost lock set --lock-url URL"));
    };
    let record = node::set_lock(&options, url)?;
    print(&format!("the database is guarded by {}\n", OneLine(record)))
}

fn inspect(node: &NodeArgs, graph: &str) -> Result<(), Failure> {
    print(&node::inspect_lock(&node.options()?, &name("--graph", graph)?)?.to_string())
}

fn hand_over(node: &NodeArgs, graph: &str, to: Option<&str>) -> Result<(), Failure> {
    let leader = node::hand_over(&node.options()?, &name("--graph", graph)?, to)?;
    let at = leader.address.map_or_else(String::new, |address| format!(" at {address}"));
    let line = format!("graph {graph} is led by node {}{at} now", leader.node);
    print(&format!("{}\n", OneLine(line)))
}
