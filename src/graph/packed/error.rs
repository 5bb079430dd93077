//! Why parts are not read as a packed graph.

use super::format::FORMAT;
use crate::graph::name::{InvalidName, Name};

/// The parts are no legal graph that this version of Fencepost can read. The graph must come from
/// its rows or from its log instead.
///
/// [`OtherFormat`](Self::OtherFormat) says nothing against the parts; every other one means that
/// they are damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// Another version of Fencepost has packed the graph. That one may read it.
    #[error(
        "the packed graph has format {format}, and this version of Fencepost reads format {FORMAT}"
    )]
    OtherFormat {
        /// The format of the parts.
        format: u64,
    },
    /// The first part does not begin as a packed graph does.
    #[error("these bytes are no packed graph")]
    NotPacked,
    /// A part ends within a record, or parts are missing.
    #[error("the packed graph is not complete")]
    Truncated,
    /// It is not the graph that it was compared with.
    #[error("the packed {what} with id {id} is not that of the graph")]
    Different {
        /// What differs.
        what: &'static str,
        /// Its id; of the graph itself 0.
        id: u32,
    },
    /// There is more after the last record.
    #[error("the packed graph has bytes after its end")]
    Surplus,
    /// A number is not in its shortest form, or is larger than any that can be there.
    #[error("a number in the packed graph is damaged")]
    Number,
    /// A name or a JSON text is not UTF-8.
    #[error("a text in the packed graph is not UTF-8")]
    NotText,
    /// A name breaks the rules for names.
    #[error("the packed name of the {what} with id {id} is damaged: {reason}")]
    Name {
        /// Job or dataset.
        what: &'static str,
        /// Its id.
        id: u32,
        /// Which rule.
        reason: InvalidName,
    },
    /// Two jobs or two datasets have the same name.
    #[error("the {what} `{name}` is packed twice")]
    Twice {
        /// Job or dataset.
        what: &'static str,
        /// Its name.
        name: Name,
    },
    /// A spec or metadata is not an object in canonical form.
    #[error("the packed JSON of the {what} with id {id} is not in canonical form")]
    Json {
        /// Job or dataset.
        what: &'static str,
        /// Its id.
        id: u32,
    },
    /// A job was last changed at no version that the graph has had.
    #[error("the job `{name}` is packed with version {version}, and its graph with {of_graph}")]
    Version {
        /// The job's name.
        name: Name,
        /// Its version.
        version: u64,
        /// The graph's version.
        of_graph: u64,
    },
    /// An edge leads to no dataset.
    #[error("a packed edge between job {job} and dataset {dataset} leads nowhere")]
    DanglingEdge {
        /// The job's id.
        job: u32,
        /// The dataset's id.
        dataset: u64,
    },
    /// Two jobs write one dataset.
    #[error("job {job} is packed as a second producer of dataset {dataset}")]
    SecondProducer {
        /// The id of the second job.
        job: u32,
        /// The dataset's id.
        dataset: u32,
    },
    /// A dataset is not declared, and no job mentions it.
    #[error("nothing declares or mentions the packed dataset `{dataset}`")]
    Orphan {
        /// Its name.
        dataset: Name,
    },
    /// The topological order has a job twice, or one that is not there.
    #[error("the packed order of the jobs has job {job} twice, or there is no such job")]
    Order {
        /// The job's id.
        job: u64,
    },
    /// A job does not come after the one that writes what it reads: the order is wrong, or the jobs
    /// form a cycle.
    #[error(
        "the packed order has job {job}, which reads dataset {dataset}, before job {producer}, \
         which writes it"
    )]
    AgainstOrder {
        /// The id of the job that writes the dataset.
        producer: u32,
        /// The dataset's id.
        dataset: u32,
        /// The id of the job that reads it.
        job: u32,
    },
}
