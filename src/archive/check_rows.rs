//! Compares the rows of a graph with what its change log says, name by name.
//!
//! No key of the database refers from one row to another: a load refuses rows that are no legal
//! graph, and this finds every other difference, in the graph's own row too. The log is replayed
//! once, from the current snapshot or from the beginning. Rows are read some at a time, each time
//! from a short snapshot of the database, and the replayed graph follows to the version of that
//! snapshot: so others can write meanwhile, and no transaction stays open for long.

mod compared_row;
mod difference;
mod graph_row;

use std::collections::{HashMap, HashSet};

use super::past::{Past, PastError, follow, replayed_at};
use crate::graph::Name;
use crate::store::{Head, History, RowPage, RowSelection, Store, StoredDataset, StoredJob};
use compared_row::ComparedRow;
pub use difference::{Difference, GraphFault, RowDifference, RowFault, RowOf};

/// Rows that are read from one snapshot.
const PAGE_ROWS: usize = 500;
/// Names that are looked up again at once: each time all rows are read.
const NAMES_AT_ONCE: usize = 10_000;

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedRows {
    /// Rows of jobs.
    pub jobs: u64,
    /// Rows of datasets.
    pub datasets: u64,
    /// The graph's version when the last row was read.
    pub version: u64,
    /// How many differences were found.
    pub differences: u64,
    /// What can be done about the differences, if there are any.
    pub remedy: Remedy,
}

/// What can be done about differences. A backup helps in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The graph can be made again from its log.
    Log,
    /// The log was pruned: it does not lead to the graph without what was exported before.
    ExportedLog,
    /// The log is not whole, or is not the one that the graph's row tells of.
    Backup,
    /// The graph is as its log says. Rows of no graph can be deleted.
    Delete,
    /// So are its rows. Its snapshots can be dropped.
    DropSnapshots,
}

/// Compares all rows of the graph with its log, and calls `each` with every difference. Also looks
/// for rows that belong to no graph. Memory: the replayed graph and a page of rows.
///
/// # Errors
/// [`PastError`] if there is no such graph, it is not stored as rows, its log is damaged or was
/// pruned meanwhile, or the database cannot be read. `each` was called with what was found before.
pub fn check_rows(
    store: &Store,
    name: &Name,
    each: &mut dyn FnMut(&Difference),
) -> Result<CheckedRows, PastError> {
    let mut found = Found { count: 0, orphans: 0, snapshots: 0, contradicts_log: false, each };
    for orphans in store.orphaned_rows()? {
        found.tell(Difference::Orphans(orphans));
    }
    let ends = store.log_ends(name)?.ok_or_else(|| PastError::GraphNotFound(name.clone()))?;
    let history = store.history(ends.head.storage);
    for what in graph_row::faults_of_ends(&ends, history) {
        found.tell(Difference::Graph { name: name.clone(), what });
    }
    if history != History::Beside {
        return Err(PastError::NotRows { graph: name.clone(), storage: ends.head.storage });
    }
    let logged = ends.newest_logged.max(ends.snapshot).unwrap_or(0);
    let (is_pruned, version) = (ends.head.oldest > 1, ends.head.version.min(logged));
    let replayed = replayed_at(store, ends.head, version)?;
    for what in graph_row::faults_of_replayed(&replayed) {
        found.tell(Difference::Graph { name: name.clone(), what });
    }
    for version in wrong_snapshots(store, name, &replayed.head)? {
        found.tell(Difference::Graph { name: name.clone(), what: GraphFault::Snapshot(version) });
    }
    let mut check = Check { store, name, replayed, found };
    let datasets = check.compare_all::<StoredDataset>()?;
    let jobs = check.compare_all::<StoredJob>()?;
    let Check { replayed, found, .. } = check;
    let remedy = match found {
        Found { contradicts_log: true, .. } => Remedy::Backup,
        Found { count, orphans, .. } if count == orphans => Remedy::Delete,
        Found { count, orphans, snapshots, .. } if count == orphans + snapshots => {
            Remedy::DropSnapshots
        }
        _ if is_pruned => Remedy::ExportedLog,
        _ => Remedy::Log,
    };
    let (version, differences) = (replayed.graph.version(), found.count);
    Ok(CheckedRows { jobs, datasets, version, differences, remedy })
}

/// The versions of packed snapshots that a load would begin with, and that are not what the log
/// leads to: they were taken of a graph whose rows were damaged.
fn wrong_snapshots(store: &Store, name: &Name, head: &Head) -> Result<Vec<u64>, PastError> {
    let mut wrong = Vec::new();
    for snapshot in store.usable_snapshots(name)? {
        // One that came meanwhile is for the next check.
        if snapshot.version > head.version {
            continue;
        }
        match replayed_at(store, head.clone(), snapshot.version) {
            Ok(past) if past.graph.digest() == snapshot.digest => {}
            Ok(_) => wrong.push(snapshot.version),
            // Its version was pruned meanwhile.
            Err(PastError::Pruned { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(wrong)
}

/// Counts what is told.
struct Found<'c> {
    count: u64,
    /// How many of them are rows of no graph.
    orphans: u64,
    /// How many of them are packed snapshots.
    snapshots: u64,
    /// Whether the graph's row and its log contradict each other.
    contradicts_log: bool,
    each: &'c mut dyn FnMut(&Difference),
}

impl Found<'_> {
    fn tell(&mut self, difference: Difference) {
        self.count += 1;
        match &difference {
            Difference::Orphans(_) => self.orphans += 1,
            Difference::Graph { what: GraphFault::Snapshot(_), .. } => self.snapshots += 1,
            Difference::Graph { what, .. } => self.contradicts_log |= *what != GraphFault::Deleted,
            Difference::Row(_) => {}
        }
        (self.each)(&difference);
    }
}

struct Check<'c> {
    store: &'c Store,
    name: &'c Name,
    replayed: Past,
    found: Found<'c>,
}

/// Names of rows that were compared. A row that is deleted and made again meanwhile may get an id
/// that was passed already, or that is still to come: so a name that was not found, or twice, is
/// looked up again before it is told of.
#[derive(Default)]
struct Seen {
    once: HashSet<Name>,
    again: Vec<Name>,
    /// Of rows without an integer as their id, which more than one page may have.
    without_id: HashSet<String>,
}

impl Seen {
    fn note(&mut self, name: &Name) {
        if !self.once.insert(name.clone()) {
            self.again.push(name.clone());
        }
    }

    /// The names to be looked up again, if these are all that there should be.
    fn doubtful<'n>(self, all: impl Iterator<Item = &'n Name>) -> Vec<Name> {
        let Self { once, mut again, .. } = self;
        again.extend(all.filter(|name| !once.contains(*name)).cloned());
        again.sort_unstable();
        again.dedup();
        again
    }
}

impl Check<'_> {
    /// Compares all rows of one table; how many there were.
    fn compare_all<R: ComparedRow>(&mut self) -> Result<u64, PastError> {
        let (mut seen, mut next, mut count) = (Seen::default(), Some(i64::MIN), 0);
        while let Some(from) = next {
            let page = R::read(self.store, self.name, RowSelection::IdsFrom(from, PAGE_ROWS))?;
            let rows = self.reach(page)?;
            // SQLite sorts what is no number behind all integers.
            let last = rows.iter().rev().find(|row| row.damaged() != Some("id"));
            next = last.and_then(|last| last.id().checked_add(1));
            count += self.compare_page(&rows, &mut seen);
        }
        let graph = self.replayed.graph.clone();
        for some in seen.doubtful(R::logged_names(&graph)).chunks(NAMES_AT_ONCE) {
            self.compare_named::<R>(some)?;
        }
        Ok(count)
    }

    fn compare_page<R: ComparedRow>(&mut self, rows: &[R], seen: &mut Seen) -> u64 {
        let graph = self.replayed.graph.clone();
        let mut count = 0;
        for row in rows {
            if row.damaged() == Some("id") && !seen.without_id.insert(row.name().to_owned()) {
                continue;
            }
            count += 1;
            // A value that is no text is no name, even where it would be shown as one.
            if row.damaged() != Some("name") {
                match R::logged_name(&graph, row.name()) {
                    Some(name) => seen.note(name),
                    None => self.tell(R::OF, row.name(), RowFault::Unknown),
                }
            }
            self.compare(row);
        }
        count
    }

    /// Compares rows that were not found, or twice, now that each name is looked for.
    fn compare_named<R: ComparedRow>(&mut self, names: &[Name]) -> Result<(), PastError> {
        let page = R::read(self.store, self.name, RowSelection::Named(names))?;
        let rows = self.reach(page)?;
        let mut by_name: HashMap<&str, Vec<&R>> = HashMap::new();
        rows.iter().for_each(|row| by_name.entry(row.name()).or_default().push(row));
        let graph = self.replayed.graph.clone();
        for name in names.iter().filter(|name| R::logged_name(&graph, name.as_str()).is_some()) {
            match by_name.get(name.as_str()).map_or(&[][..], Vec::as_slice) {
                [] => self.tell(R::OF, name.as_str(), RowFault::Missing),
                [row] => self.compare(*row),
                _ => self.tell(R::OF, name.as_str(), RowFault::Twice),
            }
        }
        Ok(())
    }

    fn compare<R: ComparedRow>(&mut self, row: &R) {
        let mut faults = row.unloadable();
        if row.damaged().is_none() {
            faults.extend(row.faults(&self.replayed.graph));
        }
        faults.into_iter().for_each(|what| self.tell(R::OF, row.name(), what));
    }

    /// Brings the replayed graph to the version at which the page was read, or where the log ends.
    fn reach<T>(&mut self, page: Option<RowPage<T>>) -> Result<Vec<T>, PastError> {
        let not_found = || PastError::GraphNotFound(self.name.clone());
        let RowPage { head, newest_logged, rows } = page.ok_or_else(not_found)?;
        let reached = self.replayed.graph.version();
        if head.version < reached {
            return Err(PastError::Contended(self.name.clone()));
        }
        let version = head.version.min(newest_logged.unwrap_or(0).max(reached));
        let start = Past { head, ..self.replayed.clone() };
        let reached = follow(self.store, start, version)?;
        self.replayed = reached.ok_or_else(|| PastError::Contended(self.name.clone()))?;
        Ok(rows)
    }

    fn tell(&mut self, of: RowOf, name: &str, what: RowFault) {
        let version = self.replayed.graph.version();
        let name = name.to_owned();
        self.found.tell(Difference::Row(RowDifference { of, name, version, what }));
    }
}
