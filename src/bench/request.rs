//! What a client asks, and how it ended: the two things that a history records.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::verbatim::Verbatim;
use crate::graph::{JobSpecification, Name, Operation, PlanRequest, Precondition, Side, Step};
use crate::object::objects_only;
use crate::service::Accepted;
use crate::wire::OperationsJson;

/// What a page lists, in byte order of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Jobs.
    Jobs,
    /// Datasets, declared or mentioned by a job.
    Datasets,
}

/// Where a page ended that has a next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageBefore {
    /// The name of its last item.
    pub last: Name,
    /// What it said is to be asked for next.
    pub cursor: String,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Creates the graph unless it is there.
    CreateGraph,
    /// Deletes the graph, whatever is in it.
    DeleteGraph,
    /// A changeset; one step has a route of its own.
    Write(Vec<Step>),
    /// One job that must not be there, as something new of a collection.
    Create(JobSpecification),
    /// A write with an idempotency key: sent again with the same key, it is applied once.
    Keyed {
        /// The key.
        key: String,
        /// The write.
        write: Box<Request>,
    },
    /// Of another graph than the run's: one of the many that the workload is spread over.
    OfGraph {
        /// The graph.
        graph: Name,
        /// What is asked of it.
        request: Box<Request>,
    },
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
    /// A page of a list.
    Page {
        /// What it lists.
        of: Listed,
        /// How many items it has at most.
        limit: usize,
        /// The page before; none: it is the first.
        after: Option<PageBefore>,
    },
    /// Any path of any server.
    Fetch(String),
}

impl Request {
    /// A write of these steps. If it puts one job that must not be there, `creates` sends it as the
    /// creation of that job.
    #[must_use]
    pub fn of_steps(steps: Vec<Step>, creates: bool) -> Self {
        match &steps[..] {
            [
                Step {
                    operation: Operation::PutJob(job),
                    precondition: Some(Precondition::Absent),
                },
            ] if creates => Self::Create(job.clone()),
            _ => Self::Write(steps),
        }
    }

    /// A read of the graph as a whole, of the four that there are; a list with `limit` items.
    #[must_use]
    pub fn of_whole_graph(which: u64, limit: usize) -> Self {
        match which {
            0 => Self::Digest,
            1 => Self::Graph,
            2 => Self::Page { of: Listed::Jobs, limit, after: None },
            _ => Self::Page { of: Listed::Datasets, limit, after: None },
        }
    }

    /// What is asked, of whichever graph.
    #[must_use]
    pub fn asked(&self) -> &Self {
        match self {
            Self::OfGraph { request, .. } => request,
            request => request,
        }
    }

    /// The graph, if it is another than the run's.
    #[must_use]
    pub fn graph(&self) -> Option<&Name> {
        match self {
            Self::OfGraph { graph, .. } => Some(graph),
            _ => None,
        }
    }

    /// The version that the answer to a read must have at least: what the client has already seen.
    #[must_use]
    pub fn at_least(&self) -> Option<u64> {
        match self.asked() {
            Self::Job { if_none_match, .. } => *if_none_match,
            _ => None,
        }
    }

    /// The id of the call in the OpenAPI document; `fetch` for what may not be there.
    #[must_use]
    pub fn call(&self) -> &'static str {
        match self.asked() {
            Self::CreateGraph => "createGraph",
            Self::DeleteGraph => "deleteGraph",
            Self::Keyed { write: request, .. } | Self::OfGraph { request, .. } => request.call(),
            Self::Write(steps) => match steps.as_slice() {
                [step] if step.precondition.is_none() => one_step_call(&step.operation),
                _ => "applyChangeset",
            },
            Self::Create(_) => "createJob",
            Self::Job { .. } => "readJob",
            Self::Dataset(_) => "readDataset",
            Self::Plan(_) => "planMany",
            Self::Digest => "readDigest",
            Self::Graph => "readGraph",
            Self::Page { of: Listed::Jobs, .. } => "listJobs",
            Self::Page { of: Listed::Datasets, .. } => "listDatasets",
            Self::Fetch(_) => "fetch",
        }
    }

    /// How many operations its changeset has; 0 of what is none.
    #[must_use]
    pub fn operations(&self) -> usize {
        match self {
            Self::Write(steps) => steps.len(),
            Self::Keyed { write: request, .. } | Self::OfGraph { request, .. } => {
                request.operations()
            }
            _ => 0,
        }
    }

    /// Whether it may change the graph.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::CreateGraph | Self::DeleteGraph | Self::Write(_) | Self::Create(_) => true,
            Self::Keyed { write: request, .. } | Self::OfGraph { request, .. } => request.writes(),
            _ => false,
        }
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
        let asked: &Self = match self.asked() {
            Self::Keyed { key, write } => {
                map.serialize_entry("key", key)?;
                write
            }
            other => other,
        };
        match asked {
            Self::CreateGraph | Self::DeleteGraph | Self::Digest | Self::Graph => {}
            // A key is of a write, and not of another key; a line of a history tells the graph.
            Self::Keyed { .. } | Self::OfGraph { .. } => {}
            Self::Write(steps) => map.serialize_entry("operations", &OperationsJson(steps))?,
            Self::Create(job) => {
                map.serialize_entry("operations", &OperationsJson(&[creation(job.clone())]))?;
            }
            Self::Page { limit, after, .. } => {
                map.serialize_entry("limit", limit)?;
                if let Some(PageBefore { last, .. }) = after {
                    map.serialize_entry("after", last)?;
                }
            }
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
        if let Some(version) = self.at_least() {
            map.serialize_entry("at_least", &version)?;
        }
        map.end()
    }
}

/// The step that puts a job which must not be there.
#[must_use]
pub fn creation(job: JobSpecification) -> Step {
    Step { operation: Operation::PutJob(job), precondition: Some(Precondition::Absent) }
}

/// The headers of an answer over HTTP that tell its version or its place, as they came; `None` of
/// one that was not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Headers {
    /// `Fencepost-Version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `ETag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
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
const REJECTIONS: [&str; 13] = [
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
    "idempotency_key_reused",
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
