//! `fencepost log`

use clap::Args;
use fencepost::archive::{self, Listing, ListingFormat};
use fencepost::terminal;

use super::arguments::{name, version_from};
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::write_some;

/// Print who changed what in a graph, and when, oldest first
#[derive(Args)]
pub struct LogArgs {
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

pub fn run(node: &NodeArgs, args: &LogArgs) -> Result<(), Failure> {
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
            "the log begins at version {oldest}: what was before was pruned, or stayed \
             where the graph was restored from"
        )
    };
    archive::list(&node.reading()?, &listing, pruned, &mut |lines| {
        printed = write_some(&match args.format {
            ListingFormat::Text => terminal::lines(lines),
            ListingFormat::Json => terminal::json(lines),
        });
        matches!(printed, Ok(true))
    })?;
    printed.map(drop)
}
