//! A graph's log as people read it: who changed what, and when.

use serde::Serialize;

use crate::chain::LoggedChange;
use crate::event::rfc3339;
use crate::graph::{Change, DamagedFact, Fact, Name};
use crate::store::Store;
use crate::store::StoreError;
use crate::terminal;

/// Changes that are read at once.
const PAGE_CHANGES: usize = 1_000;
/// Facts that a line of text tells, before it says how many more there are.
const TOLD_FACTS: usize = 3;
/// Datasets that a line tells of what was added to a job, or removed, before it says how many more
/// there are.
const TOLD_NAMES: usize = 8;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ListingFormat {
    /// One line a change: version, time, who asked for it, and what it did, with tabs between.
    #[default]
    Text,
    /// One object a line: `{"version","time","actor","facts"}`.
    Json,
}

/// What of a log is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Of which graph.
    pub graph: Name,
    /// Only what is about this job, in detail.
    pub job: Option<Name>,
    /// Only changes after this version.
    pub after: u64,
    /// So many changes at most.
    pub limit: u64,
    /// How.
    pub format: ListingFormat,
}

/// Why a log could not be told.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// There is no such graph, and never was.
    #[error("there is no graph `{0}`")]
    GraphNotFound(Name),
    /// A change cannot be read. Restore the database from a backup.
    #[error("change {version} of graph `{graph}`: {reason}")]
    Damaged {
        /// The graph.
        graph: Name,
        /// The change.
        version: u64,
        /// What is wrong.
        reason: DamagedFact,
    },
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Calls `each` with some lines at a time, oldest first, until it returns `false` or the log is
/// told up to the version that the graph had at the beginning. Calls `pruned` with the oldest
/// change that there is, if what was asked for begins before it. A deleted graph has a log too.
/// O(what is read), some megabytes in memory.
///
/// # Errors
/// [`ListingError`] if the log cannot be read.
pub fn list(
    store: &Store,
    listing: &Listing,
    pruned: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(&str) -> bool,
) -> Result<(), ListingError> {
    let not_found = || ListingError::GraphNotFound(listing.graph.clone());
    let until = store.head(&listing.graph)?.ok_or_else(not_found)?;
    if listing.after.saturating_add(1) < until.oldest {
        pruned(until.oldest);
    }
    let (mut after, mut left) = (listing.after.max(until.oldest - 1), listing.limit);
    let mut lines = String::new();
    while after < until.version && left > 0 {
        let feed = store.feed(&listing.graph, after, PAGE_CHANGES)?.ok_or_else(not_found)?;
        if feed.changes.is_empty() {
            if after + 1 >= feed.head.oldest {
                break;
            }
            pruned(feed.head.oldest);
            after = feed.head.oldest - 1;
        }
        lines.clear();
        for logged in feed.changes.iter().filter(|logged| logged.version <= until.version) {
            if left > 0 && tell(listing, logged, &mut lines)? {
                left -= 1;
            }
            after = logged.version;
        }
        if !lines.is_empty() && !each(&lines) {
            break;
        }
    }
    Ok(())
}

/// Whether there was something to tell.
fn tell(listing: &Listing, logged: &LoggedChange, out: &mut String) -> Result<bool, ListingError> {
    let damaged = |reason| ListingError::Damaged {
        graph: listing.graph.clone(),
        version: logged.version,
        reason,
    };
    let (change, _) = Change::from_canonical_json(&logged.change).map_err(damaged)?;
    let is_told = |fact: &&Fact| listing.job.as_ref().is_none_or(|job| is_about(fact, job));
    let facts: Vec<&Fact> = change.facts.iter().filter(is_told).collect();
    if facts.is_empty() {
        return Ok(false);
    }
    let (time, actor) = (rfc3339(logged.committed_at_ms), logged.actor.as_deref());
    match listing.format {
        ListingFormat::Text => {
            let actor = terminal::one_line(actor.unwrap_or("-"));
            let told = if listing.job.is_some() { in_detail(&facts) } else { in_short(&facts) };
            out.push_str(&format!("{}\t{time}\t{actor}\t{told}\n", logged.version));
        }
        ListingFormat::Json => {
            let line = Line { version: logged.version, time: &time, actor, facts: &facts };
            out.push_str(&serde_json::to_string(&line).expect("facts are always JSON"));
            out.push('\n');
        }
    }
    Ok(true)
}

#[derive(Serialize)]
struct Line<'l> {
    version: u64,
    time: &'l str,
    actor: Option<&'l str>,
    facts: &'l [&'l Fact],
}

/// Deleting the graph is about every job: whether it was there then, is told before.
fn is_about(fact: &Fact, job: &Name) -> bool {
    match fact {
        Fact::GraphDeleted {} => true,
        Fact::JobDeleted { name }
        | Fact::JobChanged { name, .. }
        | Fact::JobCreated { name, .. } => name == job,
        Fact::DatasetUndeclared { .. }
        | Fact::DatasetChanged { .. }
        | Fact::DatasetDeclared { .. } => false,
    }
}

fn in_short(facts: &[&Fact]) -> String {
    let mut told: Vec<String> = facts.iter().take(TOLD_FACTS).map(|fact| short(fact)).collect();
    if facts.len() > TOLD_FACTS {
        told.push(format!("and {} more", facts.len() - TOLD_FACTS));
    }
    told.join("; ")
}

fn short(fact: &Fact) -> String {
    match fact {
        Fact::GraphDeleted {} => "graph deleted".to_owned(),
        Fact::JobDeleted { name } => format!("job {name} deleted"),
        Fact::JobChanged {
            name,
            inputs_added,
            inputs_removed,
            outputs_added,
            outputs_removed,
            spec,
        } => {
            let edges =
                |what: &str, added: &[Name], removed: &[Name]| match (added.len(), removed.len()) {
                    (0, 0) => None,
                    (added, 0) => Some(format!("{what} +{added}")),
                    (0, removed) => Some(format!("{what} -{removed}")),
                    (added, removed) => Some(format!("{what} +{added} -{removed}")),
                };
            let parts = [
                edges("inputs", inputs_added, inputs_removed),
                edges("outputs", outputs_added, outputs_removed),
                spec.as_ref().map(|_| "spec".to_owned()),
            ];
            format!(
                "job {name} changed ({})",
                parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
            )
        }
        Fact::JobCreated { name, inputs, outputs, .. } => {
            format!(
                "job {name} created ({}, {})",
                counted(inputs.len(), "input"),
                counted(outputs.len(), "output")
            )
        }
        Fact::DatasetUndeclared { name } => format!("dataset {name} undeclared"),
        Fact::DatasetChanged { name, .. } => format!("dataset {name} changed"),
        Fact::DatasetDeclared { name, .. } => format!("dataset {name} declared"),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn in_detail(facts: &[&Fact]) -> String {
    facts.iter().map(|fact| detailed(fact)).collect::<Vec<_>>().join("; ")
}

/// With the names of the datasets.
fn detailed(fact: &Fact) -> String {
    match fact {
        Fact::JobChanged {
            name,
            inputs_added,
            inputs_removed,
            outputs_added,
            outputs_removed,
            spec,
        } => {
            let spec = spec.as_ref().map(|_| "spec changed".to_owned());
            let parts = [
                edges("inputs", inputs_added, inputs_removed),
                edges("outputs", outputs_added, outputs_removed),
                spec,
            ];
            format!(
                "job {name} changed: {}",
                parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
            )
        }
        Fact::JobCreated { name, inputs, outputs, .. } => {
            let parts = [edges("inputs", inputs, &[]), edges("outputs", outputs, &[])];
            let told = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
            format!(
                "job {name} created: {}",
                if told.is_empty() { "no inputs, no outputs" } else { &told }
            )
        }
        other => short(other),
    }
}

fn edges(what: &str, added: &[Name], removed: &[Name]) -> Option<String> {
    let names = [signed('+', added), signed('-', removed)].concat();
    (!names.is_empty()).then(|| format!("{what} {}", names.join(" ")))
}

fn signed(sign: char, names: &[Name]) -> Vec<String> {
    let mut told: Vec<String> =
        names.iter().take(TOLD_NAMES).map(|name| format!("{sign}{name}")).collect();
    if names.len() > TOLD_NAMES {
        told.push(format!("{sign}{} more", names.len() - TOLD_NAMES));
    }
    told
}
