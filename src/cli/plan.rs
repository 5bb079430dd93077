//! `fencepost plan`

use clap::{Args, ValueEnum};
use fencepost::graph::PlanRequest;
use fencepost::http;
use fencepost::store::GraphState;

use super::arguments::name;
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::{print, print_json};

/// Print which jobs must run to produce datasets, and in which order
#[derive(Args)]
pub struct PlanArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// How the plan is written
    #[arg(long, default_value = "text", value_enum)]
    format: PlanFormat,
    /// The datasets to produce
    #[arg(required = true, value_name = "DATASET")]
    datasets: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlanFormat {
    /// One line a job: stage, tab, name
    Text,
    /// As over HTTP
    Json,
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
}

pub fn run(node: &NodeArgs, args: &PlanArgs) -> Result<(), Failure> {
    let graph = name("--graph", &args.graph)?;
    let datasets =
        args.datasets.iter().map(|text| name("dataset", text)).collect::<Result<_, _>>()?;
    // One snapshot: that needs no lock, which would have to be there.
    let found = node.reading()?.load(&graph)?;
    let found = found.filter(|(head, _)| head.state != GraphState::Deleted);
    let (head, loaded) = found.ok_or_else(|| Failure::graph_not_found(&graph))?;
    let request = PlanRequest { datasets, ..PlanRequest::default() };
    let plan = loaded.plan(&request, usize::MAX).map_err(Failure::refused)?;
    match args.format {
        PlanFormat::Text => {
            let jobs: usize = plan.stages.iter().map(Vec::len).sum();
            eprintln!("{jobs} jobs in {} stages, at version {}", plan.stages.len(), head.version);
            let stages = plan.stages.iter().enumerate();
            let lines = stages.flat_map(|(number, jobs)| {
                jobs.iter().map(move |job| format!("{number}\t{job}\n"))
            });
            print(&lines.collect::<String>())
        }
        PlanFormat::Json => {
            let body = http::PlanBody::new(&graph, head.version, &plan);
            print_json(&(serde_json::to_string(&body).map_err(Failure::refused)? + "\n"))
        }
        PlanFormat::Dot => print(&http::graphviz(&plan)),
        PlanFormat::Mermaid => print(&http::mermaid(&plan)),
    }
}
