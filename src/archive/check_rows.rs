//! Compares the rows of a graph with what its change log says, name by name.
//!
//! No key of the database refers from one row to another: a load refuses rows that are no legal
//! graph, and this finds every other difference. The log is replayed once, from the kept snapshot
//! or from the beginning. Rows are read some at a time, each time from a short snapshot of the
//! database, and the replayed graph follows to the version of that snapshot: so others can write
//! meanwhile, and no transaction stays open for long.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Bound;

use super::past::{Past, PastError, follow, replayed_at};
use crate::graph::{CanonicalJson, Graph, Name};
use crate::store::{
    RowPage, RowSelection, StorageKind, Store, StoreError, StoredDataset, StoredJob,
    StoredReference,
};

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
}

/// A row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// Whose row.
    pub of: RowOf,
    /// The name of the job or dataset.
    pub name: String,
    /// The version of the graph that it was compared at.
    pub version: u64,
    /// What differs.
    pub what: RowFault,
}

/// What kind of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOf {
    /// A job's.
    Job,
    /// A dataset's.
    Dataset,
}

/// How a row differs from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFault {
    /// The log has it, and there is no row.
    Missing,
    /// There is a row, and the log does not have it.
    Unknown,
    /// Several rows have the name.
    Twice,
    /// A job's specification is another.
    Spec,
    /// A job's version is another.
    Version {
        /// The log's.
        expected: u64,
        /// The row's.
        actual: i64,
    },
    /// A job's list of inputs holds something other than rising ids.
    NoList,
    /// A job's inputs are others.
    Inputs {
        /// The first that the log has and the row has not.
        missing: Option<String>,
        /// The first that the row has and the log has not.
        unknown: Option<StoredReference>,
    },
    /// A dataset's metadata is another, or it is declared in one of the two only.
    Metadata,
    /// A dataset's producer is another.
    Producer {
        /// The log's.
        expected: Option<String>,
        /// The row's.
        actual: Option<StoredReference>,
    },
}

impl fmt::Display for RowDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.of {
            RowOf::Job => "job",
            RowOf::Dataset => "dataset",
        };
        write!(f, "{kind} `{}` at version {}: ", self.name, self.version)?;
        let shown = |reference: &Option<StoredReference>| match reference {
            None => "none".to_owned(),
            Some(StoredReference::Name(name)) => format!("`{name}`"),
            Some(StoredReference::Nothing(id)) => format!("id {id}, which no row has"),
        };
        match &self.what {
            RowFault::Missing => f.write_str("there is no row"),
            RowFault::Unknown => f.write_str("there is a row, but the log does not have it"),
            RowFault::Twice => f.write_str("there are several rows"),
            RowFault::Spec => f.write_str("the spec is not the log's"),
            RowFault::Version { expected, actual } => {
                write!(f, "its version is {actual}, not {expected}")
            }
            RowFault::NoList => f.write_str("its inputs are stored as no list of rising ids"),
            RowFault::Inputs { missing, unknown } => {
                f.write_str("its inputs are not the log's:")?;
                if let Some(missing) = missing {
                    write!(f, " it lacks `{missing}`")?;
                }
                match (missing, unknown) {
                    (Some(_), Some(_)) => write!(f, " and has {}", shown(unknown)),
                    (None, Some(_)) => write!(f, " it has {}", shown(unknown)),
                    (_, None) => Ok(()),
                }
            }
            RowFault::Metadata => f.write_str("the metadata is not the log's"),
            RowFault::Producer { expected, actual } => {
                let expected = expected.clone().map(StoredReference::Name);
                write!(f, "its producer is {}, not {}", shown(actual), shown(&expected))
            }
        }
    }
}

/// Compares all rows of the graph with its log, and calls `each` with every difference. Memory: the
/// replayed graph and a page of rows.
///
/// # Errors
/// [`PastError`] if there is no such graph, it is not kept as rows, its log is damaged or was pruned meanwhile, or the
/// database cannot be read.
pub fn check_rows(
    store: &Store,
    name: &Name,
    each: &mut dyn FnMut(&RowDifference),
) -> Result<CheckedRows, PastError> {
    let head = store.head(name)?.ok_or_else(|| PastError::GraphNotFound(name.clone()))?;
    if head.storage != StorageKind::Rows {
        return Err(PastError::NotRows { graph: name.clone(), storage: head.storage });
    }
    let replayed = replayed_at(store, head)?;
    let mut check = Check { store, name, replayed, differences: 0, each };
    let datasets = check.compare_all::<StoredDataset>()?;
    let jobs = check.compare_all::<StoredJob>()?;
    let (version, differences) = (check.replayed.graph.version(), check.differences);
    Ok(CheckedRows { jobs, datasets, version, differences })
}

struct Check<'c> {
    store: &'c Store,
    name: &'c Name,
    replayed: Past,
    differences: u64,
    each: &'c mut dyn FnMut(&RowDifference),
}

/// Names of rows that were compared. A row that is deleted and made again meanwhile may get an id
/// that was passed already, or that is still to come: so a name that was not found, or twice, is
/// looked up again before it is told of.
#[derive(Default)]
struct Seen {
    once: HashSet<Name>,
    again: Vec<Name>,
}

impl Seen {
    fn note(&mut self, name: &Name) {
        if !self.once.insert(name.clone()) {
            self.again.push(name.clone());
        }
    }

    /// The names to be looked up again, if these are all that there should be.
    fn doubtful<'n>(self, all: impl Iterator<Item = &'n Name>) -> Vec<Name> {
        let Self { once, mut again } = self;
        again.extend(all.filter(|name| !once.contains(*name)).cloned());
        again.sort_unstable();
        again.dedup();
        again
    }
}

impl Check<'_> {
    /// Compares all rows of one table; how many there were.
    fn compare_all<R: StoredRow>(&mut self) -> Result<u64, PastError> {
        let (mut seen, mut after, mut count) = (Seen::default(), i64::MIN, 0);
        loop {
            let page = R::read(self.store, self.name, RowSelection::IdsAfter(after, PAGE_ROWS))?;
            let rows = self.reach(page)?;
            let Some(last) = rows.last() else { break };
            after = last.id();
            count += rows.len() as u64;
            let graph = self.replayed.graph.clone();
            for row in &rows {
                match R::logged_name(&graph, row.name()) {
                    Some(name) => seen.note(name),
                    None => self.tell(R::OF, row.name(), RowFault::Unknown),
                }
                row.faults(&graph).into_iter().for_each(|what| self.tell(R::OF, row.name(), what));
            }
        }
        let graph = self.replayed.graph.clone();
        for some in seen.doubtful(R::logged_names(&graph)).chunks(NAMES_AT_ONCE) {
            let page = R::read(self.store, self.name, RowSelection::Named(some))?;
            let rows = self.reach(page)?;
            let mut by_name: HashMap<&str, Vec<&R>> = HashMap::new();
            rows.iter().for_each(|row| by_name.entry(row.name()).or_default().push(row));
            let graph = self.replayed.graph.clone();
            for name in some.iter().filter(|name| R::logged_name(&graph, name.as_str()).is_some()) {
                match by_name.get(name.as_str()).map_or(&[][..], Vec::as_slice) {
                    [] => self.tell(R::OF, name.as_str(), RowFault::Missing),
                    [row] => {
                        let faults = row.faults(&graph);
                        faults.into_iter().for_each(|what| self.tell(R::OF, name.as_str(), what));
                    }
                    _ => self.tell(R::OF, name.as_str(), RowFault::Twice),
                }
            }
        }
        Ok(count)
    }

    /// Brings the replayed graph to the version at which the page was read.
    fn reach<T>(&mut self, page: Option<RowPage<T>>) -> Result<Vec<T>, PastError> {
        let not_found = || PastError::GraphNotFound(self.name.clone());
        let RowPage { head, rows } = page.ok_or_else(not_found)?;
        let version = head.version;
        if version < self.replayed.graph.version() {
            return Err(PastError::Contended(self.name.clone()));
        }
        let start = Past { head, ..self.replayed.clone() };
        let reached = follow(self.store, start, version)?;
        self.replayed = reached.ok_or_else(|| PastError::Contended(self.name.clone()))?;
        Ok(rows)
    }

    fn tell(&mut self, of: RowOf, name: &str, what: RowFault) {
        self.differences += 1;
        let version = self.replayed.graph.version();
        (self.each)(&RowDifference { of, name: name.to_owned(), version, what });
    }
}

/// A row of one of the two tables, and what the log has for it.
trait StoredRow: Sized {
    const OF: RowOf;

    fn read(
        store: &Store,
        graph: &Name,
        selection: RowSelection<'_>,
    ) -> Result<Option<RowPage<Self>>, StoreError>;

    fn id(&self) -> i64;

    fn name(&self) -> &str;

    /// The name as the replayed graph has it; `None` if it has no such job or dataset.
    fn logged_name<'g>(graph: &'g Graph, name: &str) -> Option<&'g Name>;

    /// All names of the replayed graph.
    fn logged_names(graph: &Graph) -> impl Iterator<Item = &Name>;

    /// How the row differs from what the log has under its name; empty if that has none.
    fn faults(&self, graph: &Graph) -> Vec<RowFault>;
}

impl StoredRow for StoredDataset {
    const OF: RowOf = RowOf::Dataset;

    fn read(
        store: &Store,
        graph: &Name,
        selection: RowSelection<'_>,
    ) -> Result<Option<RowPage<Self>>, StoreError> {
        store.dataset_rows(graph, selection)
    }

    fn id(&self) -> i64 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn logged_name<'g>(graph: &'g Graph, name: &str) -> Option<&'g Name> {
        graph.dataset(name).map(|dataset| dataset.name())
    }

    fn logged_names(graph: &Graph) -> impl Iterator<Item = &Name> {
        graph.datasets_from(Bound::Unbounded).map(|dataset| dataset.name())
    }

    fn faults(&self, graph: &Graph) -> Vec<RowFault> {
        let Some(expected) = graph.dataset(&self.name) else { return Vec::new() };
        let mut faults = Vec::new();
        if expected.metadata().map(CanonicalJson::as_str) != self.metadata.as_deref() {
            faults.push(RowFault::Metadata);
        }
        let producer = expected.producer().map(|job| job.name().to_string());
        if producer.clone().map(StoredReference::Name) != self.producer {
            faults.push(RowFault::Producer { expected: producer, actual: self.producer.clone() });
        }
        faults
    }
}

impl StoredRow for StoredJob {
    const OF: RowOf = RowOf::Job;

    fn read(
        store: &Store,
        graph: &Name,
        selection: RowSelection<'_>,
    ) -> Result<Option<RowPage<Self>>, StoreError> {
        store.job_rows(graph, selection)
    }

    fn id(&self) -> i64 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn logged_name<'g>(graph: &'g Graph, name: &str) -> Option<&'g Name> {
        graph.job(name).map(|job| job.name())
    }

    fn logged_names(graph: &Graph) -> impl Iterator<Item = &Name> {
        graph.jobs_from(Bound::Unbounded).map(|job| job.name())
    }

    fn faults(&self, graph: &Graph) -> Vec<RowFault> {
        let Some(expected) = graph.job(&self.name) else { return Vec::new() };
        let mut faults = Vec::new();
        if expected.spec().as_str() != self.spec {
            faults.push(RowFault::Spec);
        }
        if i64::try_from(expected.version()) != Ok(self.version) {
            let (expected, actual) = (expected.version(), self.version);
            faults.push(RowFault::Version { expected, actual });
        }
        faults.extend(match &self.inputs {
            None => Some(RowFault::NoList),
            Some(inputs) => differing_inputs(&expected.inputs(), inputs),
        });
        faults
    }
}

/// The fault, if a row's inputs are not those of the log, which are sorted.
fn differing_inputs(expected: &[&Name], stored: &[StoredReference]) -> Option<RowFault> {
    let mut stored = stored.to_vec();
    stored.sort_unstable();
    let expected: Vec<StoredReference> =
        expected.iter().map(|dataset| StoredReference::Name(dataset.to_string())).collect();
    if stored == expected {
        return None;
    }
    let missing = expected.iter().find_map(|input| match input {
        StoredReference::Name(name) if stored.binary_search(input).is_err() => Some(name.clone()),
        _ => None,
    });
    let unknown = stored.iter().find(|input| expected.binary_search(input).is_err()).cloned();
    Some(RowFault::Inputs { missing, unknown })
}
