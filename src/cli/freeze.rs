//! `fencepost freeze`

use std::time::Duration;

use clap::Args;
use fencepost::address;
use fencepost::export;
use fencepost::export::SinkUrl;
use fencepost::graph::Graph;
use fencepost::store::Head;

use super::arguments::name;
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Close a graph for good: every write is refused from then on. With --sink, waits until
/// the sink has the whole log, and verifies it
#[derive(Args)]
pub struct FreezeArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// Where it went, in any words: told to whoever still writes
    #[arg(long, value_name = "PLACE")]
    moved_to: Option<String>,
    /// Wait until this sink has the last version, and verify its log
    #[arg(long, value_name = "SINK")]
    sink: Option<String>,
    /// How long to wait for that, in seconds
    #[arg(long, default_value_t = 60, value_name = "S")]
    wait_seconds: u64,
}

pub fn run(node: &NodeArgs, args: &FreezeArgs) -> Result<(), Failure> {
    let graph = name("--graph", &args.graph)?;
    if let Some(place) = &args.moved_to {
        address::check_public_text(place)
            .map_err(|reason| Failure::usage(format!("--moved-to: {reason}")))?;
    }
    let sink = args.sink.as_deref().map(SinkUrl::parse).transpose()?;
    let store = node.changing()?;
    let patience = Duration::from_secs(args.wait_seconds);
    let head = store.head(&graph)?.ok_or_else(|| Failure::graph_not_found(&graph))?;
    store.check_may_move(&graph, head.storage)?;
    // A sink that is mistyped, or not right, must not stop anybody.
    if let Some(sink) = &sink {
        export::check_sink(&store, &head, sink, patience)?;
    }
    // Nor may a graph that cannot be read at all.
    let readable =
        |loaded: Option<(Head, Graph)>| loaded.ok_or_else(|| Failure::graph_not_found(&graph));
    if sink.is_none() {
        readable(store.load(&graph)?)?;
    }
    let frozen = store.freeze(&graph, args.moved_to.as_deref())?;
    let frozen = frozen.ok_or_else(|| Failure::graph_not_found(&graph))?;
    print(&format!("graph `{graph}` is frozen at version {}\n", frozen.version))?;
    match sink {
        Some(sink) => {
            print(&format!("{}\n", export::await_sink(&store, &frozen, &sink, patience)?))
        }
        None => print(&format!("digest {}\n", readable(store.load(&graph)?)?.1.digest())),
    }
}
