//! `fencepost import`

use std::path::PathBuf;

use clap::Args;
use fencepost::db::STALL_MAX;
use fencepost::graph::Name;
use fencepost::import::events::{self, LogFile};
use fencepost::import::{
    self, Format, ImportRequest, Named, Namespace, OnDuplicate, Opened, Preview, SyncOptions,
};
use fencepost::node::{self, NodeOptions};

use super::arguments::{at_least_one, name};
use super::failure::Failure;
use super::node::NodeArgs;
use super::output::print;

/// Put jobs from files into a graph, in atomic changesets
#[derive(Args)]
pub struct ImportArgs {
    /// The graph; created if it is not there
    #[arg(long)]
    graph: String,
    /// How the files are read
    #[arg(long, default_value = "auto", value_enum)]
    format: Format,
    /// What the names in WfFormat documents are prefixed with [default: file]
    #[arg(long, value_enum)]
    namespace: Option<Namespace>,
    /// Make the jobs whose names begin with PREFIX those of the files, in one changeset: those that
    /// the files do not hold are deleted. '' means every job
    #[arg(long, value_name = "PREFIX")]
    sync: Option<String>,
    /// Write nothing, and create no graph, database or lock directory: judge all files together as
    /// one changeset, and print how many jobs it would create, change and delete, with the first
    /// names of each. Exits with 1 if the import would be refused
    #[arg(long)]
    dry_run: bool,
    /// With --sync: accept files that hold no job. Without it, one such file refuses the import
    #[arg(long, requires = "sync")]
    allow_empty: bool,
    /// With --sync: accept jobs whose names do not begin with PREFIX. Without it, one such job
    /// refuses the import
    #[arg(long, requires = "sync")]
    allow_outside: bool,
    /// With --sync: delete at most N jobs; if more would be deleted, the import is refused
    /// [default: half of the jobs that the graph has under PREFIX]
    #[arg(long, requires = "sync", value_name = "N")]
    max_delete: Option<usize>,
    /// What becomes of a job whose name was read before with other content. An identical repeat is
    /// skipped and counted [default: refuse]
    #[arg(long, value_enum)]
    on_duplicate: Option<OnDuplicate>,
    /// Jobs in one changeset. With fewer, other requests to the graph wait less for each; with
    /// more, the import takes less time. A changeset that the rules refuse grows by the jobs that
    /// follow until it is legal, up to 40,000 jobs or 128 MiB [default: 10000]
    #[arg(long, value_parser = at_least_one, conflicts_with = "sync", value_name = "N")]
    chunk_jobs: Option<usize>,
    /// Files, read once from beginning to end, so that pipes and <(COMMAND) will do; - is standard
    /// input. A log of events is one file
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub fn run(node: &NodeArgs, args: &ImportArgs) -> Result<(), Failure> {
    let graph = name("--graph", &args.graph)?;
    let files = match import::open(args.format, &args.paths)? {
        Opened::Log(log) => return restore(node, args, &graph, log),
        Opened::Jobs(files) => files,
    };
    let sync = args.sync.clone().map(|prefix| SyncOptions {
        prefix,
        allow_empty: args.allow_empty,
        allow_outside: args.allow_outside,
        max_delete: args.max_delete,
    });
    let request = ImportRequest {
        graph,
        namespace: args.namespace.unwrap_or_default(),
        on_duplicate: args.on_duplicate.unwrap_or_default(),
        sync,
        chunk_jobs: args.chunk_jobs.unwrap_or(import::CHUNK_JOBS),
    };
    let options = node.options()?;
    if args.dry_run {
        let service = node::open_to_judge(&options, &request.graph)?;
        return print_preview(&request.graph, import::preview(&service, &request, files)?);
    }
    let service = node::open_following(&options, &request.graph)?;
    let imported = import::import(&service, &request, files)?;
    let deleted = match imported.deleted {
        0 => String::new(),
        deleted => format!("deleted {deleted} jobs\n"),
    };
    let duplicates = duplicates(imported.repeated, imported.replaced);
    let (jobs, version) = (imported.jobs, imported.version);
    print(&format!("{deleted}{duplicates}imported {jobs} jobs, now version {version}\n"))
}

/// Lines about names that came more than once; empty if none did.
fn duplicates(repeated: usize, replaced: usize) -> String {
    let mut lines = String::new();
    if repeated > 0 {
        lines += &format!("skipped {repeated} identical repeats\n");
    }
    if replaced > 0 {
        lines += &format!("replaced {replaced} jobs by later ones of the same name\n");
    }
    lines
}

fn print_preview(graph: &Name, preview: Preview) -> Result<(), Failure> {
    let mut lines = duplicates(preview.repeated, preview.replaced);
    if let Some(would) = &preview.would {
        let told = |what: &str, jobs: &Named| {
            let names: Vec<String> = jobs.first.iter().map(|name| format!("`{name}`")).collect();
            let more = match jobs.count - names.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let colon = if names.is_empty() { "" } else { ": " };
            format!("would {what} {} jobs{colon}{}{more}\n", jobs.count, names.join(", "))
        };
        if preview.version.is_none() {
            lines += &format!("would create graph `{graph}`\n");
        }
        lines += &told("create", &would.create);
        lines += &told("change", &would.change);
        lines += &told("delete", &would.delete);
        let same = preview.jobs - would.create.count - would.change.count;
        lines += &format!("would leave {same} jobs as they are\n");
    }
    lines += &match preview.version {
        Some(version) => format!("judged at version {version}; nothing was written\n"),
        None => "nothing was written\n".to_owned(),
    };
    print(&lines)?;
    preview.refused.map_or(Ok(()), |refused| Err(refused.into()))
}

fn restore(node: &NodeArgs, args: &ImportArgs, graph: &Name, log: LogFile) -> Result<(), Failure> {
    let senseless = [
        ("--namespace", args.namespace.is_some()),
        ("--sync", args.sync.is_some()),
        ("--dry-run", args.dry_run),
        ("--on-duplicate", args.on_duplicate.is_some()),
        ("--chunk-jobs", args.chunk_jobs.is_some()),
    ];
    if let Some((argument, _)) = senseless.into_iter().find(|(_, given)| *given) {
        let why = "events are restored as they are, with their versions";
        return Err(Failure::usage(format!(
            "{argument} makes no sense with a log of events: {why}"
        )));
    }
    if args.paths.len() > 1 {
        return Err(Failure::usage(
            "a log of events is in one file: give one PATH, or - for standard input",
        ));
    }
    // No lock is held meanwhile, so the lease need not limit how long the transaction may stand
    // still.
    let options = NodeOptions { lease: STALL_MAX, ..node.options()? };
    let restored =
        events::restore(&node::open_store(&options)?, graph, options.design.storage, log)?;
    if !restored.same_uuid {
        log::info!(
            target: "fencepost",
            "another graph of this database is of the same history: `{graph}` has \
             a UUID of its own, {}",
            restored.uuid
        );
    }
    if restored.deleted {
        log::info!(
            target: "fencepost",
            "the log ends with the deletion of the graph: `{graph}` is deleted, and its \
             versions go on if it is created"
        );
    }
    print(&format!("imported {} jobs, now version {}\n", restored.jobs, restored.version))
}
