//! `fencepost verify`

use clap::Args;
use fencepost::export;
use fencepost::export::SinkUrl;

use super::arguments::name;
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Replay an exported log, and compare it with the database
#[derive(Args)]
pub struct VerifyArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// Where the log is: as `export --to` names it, file:PATH may be a pipe, and - is standard
    /// input
    #[arg(long, value_name = "SINK")]
    from: String,
    /// Only up to version V
    #[arg(long, value_name = "V")]
    at: Option<u64>,
    /// Exit with 1 if the log ends before the version that the graph has now
    #[arg(long, conflicts_with = "at")]
    complete: bool,
}

pub fn run(node: &NodeArgs, args: &VerifyArgs) -> Result<(), Failure> {
    let (graph, from) = (name("--graph", &args.graph)?, SinkUrl::parse(&args.from)?);
    let verified = export::verify(&node.reading()?, &graph, &from, args.at)?;
    print(&format!("{verified}\n"))?;
    if args.complete && verified.missing() > 0 {
        let version = verified.versions.1;
        return Err(Failure::refused(format!(
            "the log ends at version {version}, {} before the graph: export first",
            verified.missing()
        )));
    }
    Ok(())
}
