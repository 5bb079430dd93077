//! What an accepted changeset did, as facts: a row of the change log, and what a follower applies.

use serde::Serialize;

use super::json::CanonicalJson;
use super::name::Name;

/// The facts of one accepted changeset. Without facts nothing changed, and the graph keeps its
/// version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Sorted by kind, then by name.
    pub facts: Vec<Fact>,
}

/// One thing that changed. A fact is a delta: one new edge of a job with a thousand inputs costs
/// one name. Fields stand in the byte order of their names, so that what serde writes is canonical
/// JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The graph was deleted with all that it held.
    GraphDeleted {},
    /// A job was deleted, and its edges with it.
    JobDeleted {
        /// The job.
        name: Name,
    },
    /// A job was replaced or patched, or gained or lost an edge.
    JobChanged {
        /// Sorted.
        inputs_added: Vec<Name>,
        /// Sorted.
        inputs_removed: Vec<Name>,
        /// The job.
        name: Name,
        /// Sorted.
        outputs_added: Vec<Name>,
        /// Sorted.
        outputs_removed: Vec<Name>,
        /// The whole new specification, if it differs.
        #[serde(skip_serializing_if = "Option::is_none")]
        spec: Option<CanonicalJson>,
    },
    /// A job was created.
    JobCreated {
        /// Sorted.
        inputs: Vec<Name>,
        /// The job.
        name: Name,
        /// Sorted.
        outputs: Vec<Name>,
        /// Its specification.
        spec: CanonicalJson,
    },
    /// A declaration was taken back. The dataset goes too, unless a job mentions it.
    DatasetUndeclared {
        /// The dataset.
        name: Name,
    },
    /// The metadata of a declared dataset was replaced.
    DatasetChanged {
        /// The whole metadata.
        metadata: CanonicalJson,
        /// The dataset.
        name: Name,
    },
    /// A dataset was declared.
    DatasetDeclared {
        /// The whole metadata.
        metadata: CanonicalJson,
        /// The dataset.
        name: Name,
    },
}

impl Change {
    /// Whether the graph stays as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }
}
