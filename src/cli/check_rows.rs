//! `fencepost check-rows`

use clap::Args;
use fencepost::archive::{self, Remedy};
use fencepost::terminal;

use super::arguments::name;
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Compare a graph's rows with its change log, while others write
#[derive(Args)]
pub struct CheckRowsArgs {
    /// The graph
    #[arg(long)]
    graph: String,
    /// Print at most this many differences; all are counted
    #[arg(long, default_value_t = 100, value_name = "N")]
    show: u64,
}

pub fn run(node: &NodeArgs, args: &CheckRowsArgs) -> Result<(), Failure> {
    let graph = name("--graph", &args.graph)?;
    let (mut lines, mut found) = (String::new(), 0);
    let checked = archive::check_rows(&node.reading()?, &graph, &mut |difference| {
        found += 1;
        if found <= args.show {
            lines += &format!("{difference}\n");
        }
    });
    if found > args.show {
        lines += &format!("and {} more\n", found - args.show);
    }
    // What was found before the log turned out to be damaged is told too.
    print(&terminal::lines(&lines))?;
    let archive::CheckedRows { jobs, datasets, version, differences, remedy } = checked?;
    let compared = format!(
        "graph {graph} up to version {version}: {jobs} rows of jobs and {datasets} rows of datasets"
    );
    if differences == 0 {
        return print(&format!("{compared} are what the log says\n"));
    }
    let counted =
        if differences == 1 { "1 difference" } else { &format!("{differences} differences") };
    let advice = match remedy {
        Remedy::Log => format!(
            "The log replays to a legal graph. To make a graph of it: fencepost export --graph {} \
             --after 0 --to file:LOG, then fencepost import --graph NAME --format events LOG; or \
             restore a backup",
            terminal::shell_word(graph.as_str())
        ),
        Remedy::ExportedLog => {
            "The log was pruned, and cannot make the graph again by itself: restore a backup, or \
             import a log that was exported before: fencepost import --graph NAME --format events \
             LOG"
            .to_owned()
        }
        Remedy::Backup => {
            "The graph's own row and its log contradict each other: restore a backup".to_owned()
        }
        Remedy::Delete => "The graph itself is what its log says".to_owned(),
        Remedy::DropSnapshots => format!(
            "The rows are what the log says. So that no node is loaded from anything else: \
             fencepost snapshot drop --graph {}, and then start again all nodes that may have been",
            terminal::shell_word(graph.as_str())
        ),
    };
    Err(Failure::refused(format!("{compared} compared, {counted}. {advice}")))
}
