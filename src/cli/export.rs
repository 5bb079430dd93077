//! `fencepost export`

use clap::Args;
use fencepost::export::SinkUrl;
use fencepost::export::{self, ExportRequest, Registration};
use fencepost::terminal::OneLine;

use super::arguments::name;
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Write a graph's log, the graph itself first, to another engine, while it is served
#[derive(Args)]
pub struct ExportArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// Where to: file:PATH, - for standard output, redis://HOST/STREAM, nats://HOST/STREAM, or
    /// postgres://HOST/DATABASE/TABLE. Resumes after the last event already there
    #[arg(long, value_name = "SINK")]
    to: String,
    /// Into an empty sink, only the changes after version N, without the graph before them
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// Go on with what is written from now on, until interrupted
    #[arg(long)]
    follow: bool,
    /// The name by which the export is a consumer of the graph, which pruning does not overtake
    /// [default: `export to` and the identity of the sink]. Pruning waits for an export with a name
    /// until it is removed, and for one without a name and without --follow until 35 days after it
    /// last reported
    #[arg(long, value_name = "NAME", conflicts_with = "no_consumer")]
    consumer: Option<String>,
    /// Do not register as a consumer: the export cannot be resumed if changes that it needs are
    /// pruned
    #[arg(long)]
    no_consumer: bool,
}

pub fn run(node: &NodeArgs, args: &ExportArgs) -> Result<(), Failure> {
    let to = SinkUrl::parse(&args.to)?;
    let registration = match &args.consumer {
        Some(consumer) => Registration::As(name("--consumer", consumer)?),
        // Standard output cannot be asked what it has, so no export to it can be resumed.
        None if args.no_consumer || to == SinkUrl::StandardOutput => Registration::None,
        None => Registration::AfterSink,
    };
    let graph = name("--graph", &args.graph)?;
    let request = ExportRequest { graph, to, after: args.after, follow: args.follow, registration };
    // A consumer is registered, unless there is none.
    let store = match &request.registration {
        Registration::None => node.reading()?,
        Registration::As(_) | Registration::AfterSink => node.changing()?,
    };
    let exported = export::export(&store, &request)?;
    let done = format!(
        "exported {} events to {}, now version {}\n",
        exported.events,
        OneLine(&request.to),
        exported.version
    );
    if request.to == SinkUrl::StandardOutput {
        eprint!("{done}");
        return Ok(());
    }
    print(&done)
}
