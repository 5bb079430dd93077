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
}

pub fn run(node: &NodeArgs, command: &LockCommand) -> Result<(), Failure> {
    match command {
        LockCommand::Set => set(node),
        LockCommand::Inspect { graph } => inspect(node, graph),
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
