//! What a client asks, and how it ended: the two things that a history records.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::verbatim::Verbatim;
use crate::graph::{Name, Operation, PlanRequest, Side, Step};
use crate::object::objects_only;
use crate::service::Accepted;
use crate::wire::OperationsJson;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Creates the graph unless it is there.
    CreateGraph,
    /// A changeset; one step has a route of its own.
    Write(Vec<Step>),
    /// A job, unless it is still at the version that the client has.
    Job {
        /// Its name.
        name: Name,
        /// The version that the client has.
        if_none_match: Option<u64>,
    },
    /// A dataset.
    Dataset(Name),
    /// A plan.
    Plan(PlanRequest),
    /// The graph's digest.
    Digest,
    /// The graph's version and counts.
    Graph,
    /// Any path of any server.
    Fetch(String),
}

impl Request {
    /// The id of the call in the OpenAPI document; `fetch` for what may not be there.
    #[must_use]
    pub fn call(&self) -> &'static str {
        match self {
            Self::CreateGraph => "createGraph",
            Self::Write(steps) => match steps.as_slice() {
                [step] if step.precondition.is_none() => one_step_call(&step.operation),
                _ => "applyChangeset",
            },
            Self::Job { .. } => "readJob",
            Self::Dataset(_) => "readDataset",
            Self::Plan(_) => "planMany",
            Self::Digest => "readDigest",
            Self::Graph => "readGraph",
            Self::Fetch(_) => "fetch",
        }
    }

    /// Whether it may change the graph.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self, Self::CreateGraph | Self::Write(_))
    }
}

fn one_step_call(operation: &Operation) -> &'static str {
    match operation {
        Operation::PutJob(_) => "putJob",
        Operation::PatchJob { .. } => "patchJob",
        Operation::DeleteJob { .. } => "deleteJob",
        Operation::AddEdge { side: Side::Input, .. } => "addInput",
        Operation::AddEdge { side: Side::Output, .. } => "addOutput",
        Operation::RemoveEdge { side: Side::Input, .. } => "removeInput",
        Operation::RemoveEdge { side: Side::Output, .. } => "removeOutput",
        Operation::PutDataset { .. } => "putDataset",
        Operation::DeleteDataset { .. } => "deleteDataset",
    }
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("call", self.call())?;
        match self {
            Self::CreateGraph | Self::Digest | Self::Graph => {}
            Self::Write(steps) => map.serialize_entry("operations", &OperationsJson(steps))?,
            Self::Job { name, if_none_match } => {
                map.serialize_entry("job", name)?;
                if let Some(version) = if_none_match {
                    map.serialize_entry("if_none_match", version)?;
                }
            }
            Self::Dataset(name) => map.serialize_entry("dataset", name)?,
            Self::Plan(PlanRequest { datasets, jobs, stop_at }) => {
                map.serialize_entry("datasets", datasets)?;
                map.serialize_entry("jobs", jobs)?;
                map.serialize_entry("stop_at", stop_at)?;
            }
            Self::Fetch(path) => map.serialize_entry("path", path)?,
        }
        map.end()
    }
}

/// How a request ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A write was accepted.
    Accepted(Accepted),
    /// A read was answered.
    Answered {
        /// The version that it was computed at; `None` where there is no graph.
        version: Option<u64>,
        /// What a checker compares with the state at that version.
        answer: Verbatim,
    },
    /// The client has the current state.
    NotModified {
        /// The version at which it was current.
        version: u64,
    },
    /// Decided against, on the graph.
    Rejected {
        /// The problem's name.
        name: String,
        /// The version that it was decided at, where it was decided on a graph.
        version: Option<u64>,
        /// The whole problem.
        problem: Verbatim,
    },
    /// Not served, and certainly not applied.
    Refused {
        /// The problem's name.
        name: String,
        /// The whole problem.
        problem: Verbatim,
    },
    /// There was no connection; nothing was sent.
    Unreachable(String),
    /// It may or may not have been applied.
    Unknown {
        /// What happened instead of an answer.
        reason: String,
        /// The problem, if that is what was answered.
        problem: Option<Verbatim>,
    },
    /// An answer that is not documented; what it did is unknown.
    Undocumented(String),
}

/// Problems that are verdicts on a graph.
const REJECTIONS: [&str; 12] = [
    "graph_not_found",
    "job_not_found",
    "dataset_not_found",
    "edge_not_found",
    "cycle",
    "second_producer",
    "already_exists",
    "dataset_in_use",
    "precondition_failed",
    "precondition_required",
    "frozen",
    "too_large",
];

/// Problems of a server that cannot serve now.
const REFUSALS: [&str; 4] =
    ["contended", "lock_unavailable", "database_unavailable", "version_not_reached"];

/// The members of a problem by which a client knows what became of its request.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Decisive {
    #[serde(rename = "type")]
    kind: String,
    version: Option<u64>,
    outcome: Option<String>,
}

objects_only!(Decisive);

impl Outcome {
    /// What a problem means to the client. Its well-formed requests are never to be called
    /// malformed, nor to find a bug.
    #[must_use]
    pub fn of_problem(status: u16, problem: Verbatim) -> Self {
        let undocumented = |problem: &Verbatim| Self::Undocumented(format!("{status} {problem}"));
        let Some(Decisive { kind, version, outcome }) = problem.read() else {
            return undocumented(&problem);
        };
        let name = kind.strip_prefix("urn:fencepost:problem:").unwrap_or_default().to_owned();
        let outcome = outcome.unwrap_or_default();
        let documented = crate::http::Kind::ALL.iter().any(|kind| {
            let (kind_status, kind_name, _) = kind.parts();
            (kind_status, kind_name) == (status, name.as_str())
        });
        if documented && REJECTIONS.contains(&name.as_str()) {
            return Self::Rejected { name, version, problem };
        }
        if documented && REFUSALS.contains(&name.as_str()) && outcome == "not_applied" {
            return Self::Refused { name, problem };
        }
        if documented && outcome == "unknown" {
            return Self::Unknown { reason: name, problem: Some(problem) };
        }
        undocumented(&problem)
    }

    /// One word or two, to count by.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Accepted(accepted) if accepted.changed => "accepted".to_owned(),
            Self::Accepted(_) => "accepted:unchanged".to_owned(),
            Self::Answered { .. } => "answered".to_owned(),
            Self::NotModified { .. } => "not_modified".to_owned(),
            Self::Rejected { name, .. } => format!("rejected:{name}"),
            Self::Refused { name, .. } => format!("refused:{name}"),
            Self::Unreachable(_) => "unreachable".to_owned(),
            Self::Unknown { .. } => "unknown".to_owned(),
            Self::Undocumented(_) => "undocumented".to_owned(),
        }
    }

    /// Jepsen's word: `ok` happened, `fail` certainly did not, `info` may have.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match self {
            Self::Accepted(_) | Self::Answered { .. } | Self::NotModified { .. } => "ok",
            Self::Rejected { .. } | Self::Refused { .. } | Self::Unreachable(_) => "fail",
            Self::Unknown { .. } | Self::Undocumented(_) => "info",
        }
    }
}
