//! `fencepost consumer`

use clap::Subcommand;
use fencepost::event;
use fencepost::node::NodeError;
use fencepost::store::{Acknowledgement, Consumer};

use super::arguments::{name, version_from};
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// The consumers of a graph's log: pruning waits for them
#[derive(Subcommand)]
pub enum ConsumerCommand {
    /// Print the consumers of a graph: name, acknowledged version, versions behind, and when it
    /// last reported, with tabs between
    List {
        /// The graph
        #[arg(long)]
        graph: String,
    },
    /// Note that a consumer needs no change up to a version; registers it if it is new
    Ack {
        /// The graph
        #[arg(long)]
        graph: String,
        /// What the consumer calls itself
        #[arg(long)]
        name: String,
        /// The version
        #[arg(long, value_parser = version_from::<0>)]
        version: u64,
    },
    /// Take a consumer off the list: pruning waits for it no longer
    Remove {
        /// The graph
        #[arg(long)]
        graph: String,
        /// What the consumer calls itself
        #[arg(long)]
        name: String,
    },
}

pub fn run(node: &NodeArgs, command: &ConsumerCommand) -> Result<(), Failure> {
    match command {
        ConsumerCommand::List { graph } => list(node, graph),
        ConsumerCommand::Ack { graph, name, version } => ack(node, graph, name, *version),
        ConsumerCommand::Remove { graph, name } => remove(node, graph, name),
    }
}

fn list(node: &NodeArgs, graph: &str) -> Result<(), Failure> {
    let graph = name("--graph", graph)?;
    let found = node.reading()?.consumers(&graph)?;
    let (head, consumers) = found.ok_or(NodeError::GraphNotFound(graph))?;
    let line = |consumer: &Consumer| {
        let behind = head.version.saturating_sub(consumer.acknowledged);
        let time = event::rfc3339(consumer.seen_at_ms);
        format!("{}\t{}\t{behind}\t{time}\n", consumer.name, consumer.acknowledged)
    };
    print(&consumers.iter().map(line).collect::<String>())
}

fn ack(node: &NodeArgs, graph: &str, consumer: &str, version: u64) -> Result<(), Failure> {
    let (graph, consumer) = (name("--graph", graph)?, name("--name", consumer)?);
    let store = node.changing()?;
    match store.acknowledge(&graph, &consumer, version)? {
        Acknowledgement::Noted { acknowledged, registered, .. } => {
            let new = if registered { ", and is new" } else { "" };
            print(&format!(
                "consumer {consumer} of graph {graph} has acknowledged version \
                 {acknowledged}{new}\n"
            ))
        }
        Acknowledgement::GraphNotFound => Err(NodeError::GraphNotFound(graph).into()),
        Acknowledgement::Ahead { version: is_at } => Err(Failure::refused(format!(
            "graph `{graph}` is at version {is_at}: {version} cannot have been read"
        ))),
        Acknowledgement::Pruned { oldest } => Err(Failure::refused(format!(
            "graph `{graph}` was pruned: the oldest change is {oldest}. A new consumer \
             begins with a snapshot, and acknowledges at least version {}",
            oldest - 1
        ))),
    }
}

fn remove(node: &NodeArgs, graph: &str, consumer: &str) -> Result<(), Failure> {
    let (graph, consumer) = (name("--graph", graph)?, name("--name", consumer)?);
    match node.changing()?.forget_consumer(&graph, &consumer)? {
        Some(true) => print(&format!("removed consumer {consumer} of graph {graph}\n")),
        Some(false) => {
            Err(Failure::refused(format!("graph `{graph}` has no consumer `{consumer}`")))
        }
        None => Err(NodeError::GraphNotFound(graph).into()),
    }
}
