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
use crate::graph::{CanonicalJson, Dataset, Job, Name};
use crate::store::{RowPage, RowSelection, Store, StoredDataset, StoredJob, StoredReference};

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
/// [`PastError`] if there is no such graph, its log is damaged or was pruned meanwhile, or the
/// database cannot be read.
pub fn check_rows(
    store: &Store,
    name: &Name,
    each: &mut dyn FnMut(&RowDifference),
) -> Result<CheckedRows, PastError> {
    let head = store.head(name)?.ok_or_else(|| PastError::GraphNotFound(name.clone()))?;
    let replayed = replayed_at(store, head)?;
    let checked =
        CheckedRows { jobs: 0, datasets: 0, version: replayed.graph.version(), differences: 0 };
    let mut check = Check { store, name, replayed, checked, each };
    check.datasets()?;
    check.jobs()?;
    check.checked.version = check.replayed.graph.version();
    Ok(check.checked)
}

struct Check<'c> {
    store: &'c Store,
    name: &'c Name,
    replayed: Past,
    checked: CheckedRows,
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
    fn datasets(&mut self) -> Result<(), PastError> {
        let (mut seen, mut after) = (Seen::default(), i64::MIN);
        loop {
            let selection = RowSelection::IdsAfter(after, PAGE_ROWS);
            let page = self.store.dataset_rows(self.name, selection)?;
            let rows = self.reach(page)?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            self.checked.datasets += rows.len() as u64;
            let graph = self.replayed.graph.clone();
            for row in rows {
                match graph.dataset(&row.name) {
                    Some(expected) => {
                        seen.note(expected.name());
                        self.compare_dataset(expected, row);
                    }
                    None => self.tell(RowOf::Dataset, &row.name, RowFault::Unknown),
                }
            }
        }
        let graph = self.replayed.graph.clone();
        let doubtful =
            seen.doubtful(graph.datasets_from(Bound::Unbounded).map(|dataset| dataset.name()));
        for some in doubtful.chunks(NAMES_AT_ONCE) {
            let page = self.store.dataset_rows(self.name, RowSelection::Named(some))?;
            let mut rows = by_name(self.reach(page)?, |row| row.name.clone());
            let graph = self.replayed.graph.clone();
            for name in some {
                let Some(expected) = graph.dataset(name.as_str()) else { continue };
                match rows.remove(name.as_str()).unwrap_or_default() {
                    rows if rows.is_empty() => {
                        self.tell(RowOf::Dataset, name.as_str(), RowFault::Missing);
                    }
                    rows if rows.len() > 1 => {
                        self.tell(RowOf::Dataset, name.as_str(), RowFault::Twice);
                    }
                    rows => rows.into_iter().for_each(|row| self.compare_dataset(expected, row)),
                }
            }
        }
        Ok(())
    }

    fn jobs(&mut self) -> Result<(), PastError> {
        let (mut seen, mut after) = (Seen::default(), i64::MIN);
        loop {
            let selection = RowSelection::IdsAfter(after, PAGE_ROWS);
            let page = self.store.job_rows(self.name, selection)?;
            let rows = self.reach(page)?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            self.checked.jobs += rows.len() as u64;
            let graph = self.replayed.graph.clone();
            for row in rows {
                match graph.job(&row.name) {
                    Some(expected) => {
                        seen.note(expected.name());
                        self.compare_job(expected, row);
                    }
                    None => self.tell(RowOf::Job, &row.name, RowFault::Unknown),
                }
            }
        }
        let graph = self.replayed.graph.clone();
        let doubtful = seen.doubtful(graph.jobs_from(Bound::Unbounded).map(|job| job.name()));
        for some in doubtful.chunks(NAMES_AT_ONCE) {
            let page = self.store.job_rows(self.name, RowSelection::Named(some))?;
            let mut rows = by_name(self.reach(page)?, |row| row.name.clone());
            let graph = self.replayed.graph.clone();
            for name in some {
                let Some(expected) = graph.job(name.as_str()) else { continue };
                match rows.remove(name.as_str()).unwrap_or_default() {
                    rows if rows.is_empty() => {
                        self.tell(RowOf::Job, name.as_str(), RowFault::Missing);
                    }
                    rows if rows.len() > 1 => {
                        self.tell(RowOf::Job, name.as_str(), RowFault::Twice);
                    }
                    rows => rows.into_iter().for_each(|row| self.compare_job(expected, row)),
                }
            }
        }
        Ok(())
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

    fn compare_dataset(&mut self, expected: Dataset<'_>, row: StoredDataset) {
        let metadata = expected.metadata().map(CanonicalJson::as_str);
        if metadata != row.metadata.as_deref() {
            self.tell(RowOf::Dataset, &row.name, RowFault::Metadata);
        }
        let producer = expected.producer().map(|job| job.name().to_string());
        if producer.clone().map(StoredReference::Name) != row.producer {
            let fault = RowFault::Producer { expected: producer, actual: row.producer };
            self.tell(RowOf::Dataset, &row.name, fault);
        }
    }

    fn compare_job(&mut self, expected: Job<'_>, row: StoredJob) {
        if expected.spec().as_str() != row.spec {
            self.tell(RowOf::Job, &row.name, RowFault::Spec);
        }
        if i64::try_from(expected.version()) != Ok(row.version) {
            let fault = RowFault::Version { expected: expected.version(), actual: row.version };
            self.tell(RowOf::Job, &row.name, fault);
        }
        let Some(mut inputs) = row.inputs else {
            return self.tell(RowOf::Job, &row.name, RowFault::NoList);
        };
        inputs.sort_unstable();
        let expected: Vec<StoredReference> = expected
            .inputs()
            .into_iter()
            .map(|dataset| StoredReference::Name(dataset.to_string()))
            .collect();
        if inputs != expected {
            let missing = expected.iter().find(|input| inputs.binary_search(input).is_err());
            let missing = missing.and_then(|input| match input {
                StoredReference::Name(name) => Some(name.clone()),
                StoredReference::Nothing(_) => None,
            });
            let unknown = inputs.iter().find(|input| expected.binary_search(input).is_err());
            let fault = RowFault::Inputs { missing, unknown: unknown.cloned() };
            self.tell(RowOf::Job, &row.name, fault);
        }
    }

    fn tell(&mut self, of: RowOf, name: &str, what: RowFault) {
        self.checked.differences += 1;
        let version = self.replayed.graph.version();
        (self.each)(&RowDifference { of, name: name.to_owned(), version, what });
    }
}

fn by_name<T>(rows: Vec<T>, name: impl Fn(&T) -> String) -> HashMap<String, Vec<T>> {
    let mut by_name: HashMap<String, Vec<T>> = HashMap::new();
    for row in rows {
        by_name.entry(name(&row)).or_default().push(row);
    }
    by_name
}
