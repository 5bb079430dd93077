//! What a client can ask of a graph. Changesets, HTTP routes and imports all become these
//! operations. Their JSON is in another module, `wire`.

use super::json::CanonicalJson;
use super::name::Name;

/// What a client asks for in one write. Accepted whole or rejected whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Steps on jobs and datasets.
    Changeset(Changeset),
    /// Deletes the graph itself.
    DeleteGraph {
        /// What must hold for the graph. Without a precondition, only an empty graph can be
        /// deleted.
        precondition: Option<Precondition>,
    },
}

/// A list of steps, judged as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changeset {
    /// What must hold for the graph as a whole.
    pub precondition: Option<Precondition>,
    /// Which jobs must not have changed.
    pub unchanged: Option<Unchanged>,
    /// In the order in which existence is checked.
    pub steps: Vec<Step>,
}

/// A precondition of a changeset that replaces all jobs under a prefix: since version `since`,
/// nobody has created or changed a job there that the changeset does not put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchanged {
    /// What the jobs' names begin with.
    pub prefix: String,
    /// The version of the graph that the changeset was made for.
    pub since: u64,
}

/// One operation with its precondition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub operation: Operation,
    /// What must hold in the graph before the changeset.
    pub precondition: Option<Precondition>,
}

/// A condition on the graph before the changeset, which is checked before everything else. The
/// precondition of a step is about the job or dataset that the step names (the version of a dataset
/// is the graph's); that of a whole changeset is about the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// It exists, at this version.
    Version(u64),
    /// It exists, at one of these versions. With an empty list, the condition never holds.
    OneOf(Vec<u64>),
    /// It does not exist.
    Absent,
    /// It exists, at any version.
    Exists,
}

impl Precondition {
    /// Whether it holds for something at version `actual`, or that does not exist (`None`).
    #[must_use]
    pub fn holds(&self, actual: Option<u64>) -> bool {
        match self {
            Self::Version(expected) => actual == Some(*expected),
            Self::OneOf(versions) => actual.is_some_and(|actual| versions.contains(&actual)),
            Self::Absent => actual.is_none(),
            Self::Exists => actual.is_some(),
        }
    }
}

/// A job as a client puts it. Inputs and outputs are sorted, each name once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpecification {
    /// The job's name.
    pub name: Name,
    /// The datasets that it reads.
    pub inputs: Vec<Name>,
    /// The datasets that it writes.
    pub outputs: Vec<Name>,
    /// Opaque to Fencepost.
    pub spec: CanonicalJson,
}

/// What a JSON merge patch changes of a job. A field that is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobPatch {
    /// All inputs, sorted.
    pub inputs: Option<Vec<Name>>,
    /// All outputs, sorted.
    pub outputs: Option<Vec<Name>>,
    /// How the specification changes.
    pub spec: Option<SpecPatch>,
}

/// How a patch changes a job's specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecPatch {
    /// `null`: back to `{}`.
    Remove,
    /// Merged as RFC 7396 says.
    Merge(CanonicalJson),
}

/// Which of a job's two lists an edge is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The job reads the dataset.
    Input,
    /// The job writes the dataset.
    Output,
}

/// One intended step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates the job or replaces it.
    PutJob(JobSpecification),
    /// Changes a job that exists.
    PatchJob {
        /// The job.
        name: Name,
        /// The change.
        patch: JobPatch,
    },
    /// Deletes a job that exists, and all its edges.
    DeleteJob {
        /// The job.
        name: Name,
    },
    /// Adds an edge between a job and a dataset that exist.
    AddEdge {
        /// Read or write.
        side: Side,
        /// The job.
        job: Name,
        /// The dataset.
        dataset: Name,
    },
    /// Removes an edge that exists.
    RemoveEdge {
        /// Read or write.
        side: Side,
        /// The job.
        job: Name,
        /// The dataset.
        dataset: Name,
    },
    /// Declares the dataset or replaces its metadata.
    PutDataset {
        /// The dataset.
        name: Name,
        /// Opaque to Fencepost.
        metadata: CanonicalJson,
    },
    /// Takes back the declaration of a dataset that exists.
    DeleteDataset {
        /// The dataset.
        name: Name,
    },
}

impl From<Operation> for Step {
    fn from(operation: Operation) -> Self {
        Self { operation, precondition: None }
    }
}

impl FromIterator<Operation> for Changeset {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        let steps = operations.into_iter().map(Step::from).collect();
        Self { steps, ..Self::default() }
    }
}
