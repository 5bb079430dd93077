//! `fencepost migrate`

use clap::Args;
use fencepost::db::{Database, Migrated};
use fencepost::node::NodeError;

use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Bring the database's schema up to date
#[derive(Args)]
pub struct MigrateArgs {
    /// Take the newest N migrations back instead; what they hold is lost
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    revert: Option<u32>,
}

pub fn run(node: &NodeArgs, args: &MigrateArgs) -> Result<(), Failure> {
    let url = node.options()?.database;
    match args.revert {
        Some(count) => {
            let reverted = Database::revert(&url, count as usize).map_err(NodeError::from)?;
            print(&format!("took back {count}: {}\n", reverted.join(", ")))
        }
        None => {
            let Migrated { run, repaired } = Database::migrate(&url).map_err(NodeError::from)?;
            let repaired: String = repaired
                .iter()
                .map(|function| {
                    format!("made the function {function} again: it was missing or another\n")
                })
                .collect();
            let ran = match (run.is_empty(), repaired.is_empty()) {
                (true, true) => "ran nothing: up to date\n".to_owned(),
                (true, false) => String::new(),
                (false, _) => format!("ran {}\n", run.join(", ")),
            };
            print(&(ran + &repaired))
        }
    }
}
