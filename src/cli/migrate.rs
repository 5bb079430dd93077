//! `fencepost migrate`

use clap::Args;
use fencepost::db::Database;
use fencepost::node::NodeError;

use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Bring the database's schema up to date
#[derive(Args)]
pub struct MigrateArgs {
    /// Take the newest N migrations back instead; what they hold is lost
    #[arg(long, value_name = "N")]
    revert: Option<usize>,
}

pub fn run(node: &NodeArgs, args: &MigrateArgs) -> Result<(), Failure> {
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
