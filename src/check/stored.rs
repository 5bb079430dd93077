//! Fetches a graph's change log and rows from a database, and nothing more: what they are worth is
//! judged elsewhere.

use std::collections::BTreeSet;

use super::facts::read_change;
use super::final_log::{Log, LoggedChange, Rows, StoredChange};
use super::model::{Dataset, Job, State};
use super::recorded_request::{Text, Texts};
use crate::db::OpenMode;
use crate::graph::{Graph, Name};
use crate::node::{self, NodeError, NodeOptions};
use crate::store::{GraphState, History, StoreError};

/// Why a graph could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The database cannot be read.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The rows are no graph, or the log is no log.
    #[error("graph `{graph}`: {what}")]
    Damaged {
        /// The graph.
        graph: String,
        /// What is wrong.
        what: String,
    },
}

/// What a database holds of a graph.
pub struct Stored {
    /// The changes after a version.
    pub log: Log,
    /// Absent where the log breaks the rules and leads to no graph.
    pub rows: Option<Rows>,
    /// Whether the graph is frozen.
    pub frozen: bool,
}

/// The changes after version `after` and the rows of `graph`, both at the version that the rows
/// have; of a log that breaks the rules, which leads to no graph, that alone. O(size of both).
///
/// # Errors
/// [`FetchError`] if there is no such graph, or it cannot be read.
pub fn fetch(
    options: &NodeOptions,
    graph: &str,
    after: u64,
    texts: &mut Texts,
) -> Result<Stored, FetchError> {
    let damaged = |what: String| FetchError::Damaged { graph: graph.to_owned(), what };
    let store = node::open_store_for(OpenMode::Read, options)?;
    let name = Name::new(graph).map_err(|error| damaged(error.to_string()))?;
    let loaded = match store.load(&name) {
        Ok(loaded) => loaded.map(|(head, rows)| (head, Some(rows))),
        // Whoever judges the log finds where.
        Err(StoreError::IllegalHistory { .. }) => {
            store.head(&name).map_err(NodeError::from)?.map(|head| (head, None))
        }
        Err(StoreError::Database(error)) => return Err(NodeError::from(error).into()),
        Err(StoreError::DamagedRows { reason, .. }) => return Err(damaged(reason.to_string())),
        Err(other) => return Err(damaged(other.to_string())),
    };
    let (head, rows) =
        loaded.ok_or_else(|| damaged(format!("is not in the database {}", options.database)))?;
    if store.history(head.storage) == History::None {
        let what = format!("is kept as {}: it has no log; check without --stored", head.storage);
        return Err(damaged(what));
    }
    let mut log = Log { name: options.database.to_string(), changes: Vec::new() };
    let mut unreadable = None;
    let read = store.changes(head.id, after, &mut |version, text, chain| {
        // A change that came after the rows were read is left out.
        if version > head.version {
            return false;
        }
        let change = read_change(text, texts);
        match change {
            Ok((_, facts)) => {
                let stored = Some(StoredChange { text: text.into(), chain: chain.0 });
                log.changes.push(LoggedChange { version, facts, stored });
            }
            Err(error) => unreadable = Some(damaged(format!("change {version}: {error}"))),
        }
        unreadable.is_none()
    });
    read.map_err(NodeError::from)?;
    unreadable.map_or(Ok(()), Err)?;
    let rows = rows.map(|rows| {
        let state = state_of(&rows, head.version, texts);
        Rows { state, chain: head.chain.0 }
    });
    Ok(Stored { log, rows, frozen: head.state == GraphState::Frozen })
}

fn state_of(rows: &Graph, version: u64, texts: &mut Texts) -> State {
    let mut state = State { version, ..State::default() };
    let mut set = |names: Vec<&Name>| {
        names.iter().map(|name| texts.share(name.as_str())).collect::<BTreeSet<Text>>()
    };
    for job in rows.jobs_from(std::ops::Bound::Unbounded) {
        let (inputs, outputs) = (set(job.inputs()), set(job.outputs()));
        let job_there =
            Job { version: job.version(), spec: job.spec().as_str().into(), inputs, outputs };
        state.edges += job_there.inputs.len() + job_there.outputs.len();
        state.jobs.insert(job.name().as_str().into(), job_there);
    }
    for dataset in rows.datasets_from(std::ops::Bound::Unbounded) {
        let producers = set(dataset.producer().iter().map(|job| job.name()).collect());
        let consumers = set(dataset.consumers());
        let metadata = dataset.metadata().map(|metadata| metadata.as_str().into());
        state
            .datasets
            .insert(dataset.name().as_str().into(), Dataset { metadata, producers, consumers });
    }
    state
}
