//! Problems: the one place where refusals become HTTP statuses. `application/problem+json` for
//! everything that is not an answer.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::graph::{InvalidName, Name, Precondition, QueryError, Rejection};
use crate::service::{LeaderAt, Refusal};
use crate::terminal;
use crate::wire::InvalidOperation;

/// Every problem that there is. The name is the last part of its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// JSON, types, fields, cursor, header or path.
    Malformed,
    /// The request names a host, or comes from a web page, that is not allowed.
    Forbidden,
    /// No such graph.
    GraphNotFound,
    /// No such job.
    JobNotFound,
    /// No such dataset.
    DatasetNotFound,
    /// No such edge.
    EdgeNotFound,
    /// Nobody reads the log under that name.
    ConsumerNotFound,
    /// No such path.
    RouteNotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The answer has other media types.
    NotAcceptable,
    /// The job to create, or the edge to add, is there.
    AlreadyExists,
    /// A job would depend on itself.
    Cycle,
    /// Two jobs would write one dataset.
    SecondProducer,
    /// A job mentions the dataset.
    DatasetInUse,
    /// The graph takes no writes any more.
    Frozen,
    /// This node serves no graphs of its storage.
    StorageMismatch,
    /// The log no longer has that change.
    Pruned,
    /// The graph is not what the client thinks.
    PreconditionFailed,
    /// The body or the answer is over a limit.
    TooLarge,
    /// The client does not say which version it means.
    PreconditionRequired,
    /// The body has another media type.
    UnsupportedMediaType,
    /// A text that is no name.
    InvalidName,
    /// The key was used for another request.
    IdempotencyKeyReused,
    /// A bug, or damaged data.
    Internal,
    /// Too many wait.
    Contended,
    /// The lock is away.
    LockUnavailable,
    /// The database is away.
    DatabaseUnavailable,
    /// The version asked for did not come in time.
    VersionNotReached,
    /// It cannot be learnt whether the write was applied.
    OutcomeUnknown,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::Malformed,
        Self::Forbidden,
        Self::GraphNotFound,
        Self::JobNotFound,
        Self::DatasetNotFound,
        Self::EdgeNotFound,
        Self::ConsumerNotFound,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::AlreadyExists,
        Self::Cycle,
        Self::SecondProducer,
        Self::DatasetInUse,
        Self::Frozen,
        Self::StorageMismatch,
        Self::Pruned,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::PreconditionRequired,
        Self::UnsupportedMediaType,
        Self::InvalidName,
        Self::IdempotencyKeyReused,
        Self::Internal,
        Self::Contended,
        Self::LockUnavailable,
        Self::DatabaseUnavailable,
        Self::VersionNotReached,
        Self::OutcomeUnknown,
    ];

    /// Status, name and title.
    #[must_use]
    pub fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Malformed => (400, "malformed", "The request is malformed"),
            Self::Forbidden => (403, "forbidden", "The request is not allowed"),
            Self::GraphNotFound => (404, "graph_not_found", "There is no such graph"),
            Self::JobNotFound => (404, "job_not_found", "There is no such job"),
            Self::DatasetNotFound => (404, "dataset_not_found", "There is no such dataset"),
            Self::EdgeNotFound => (404, "edge_not_found", "There is no such edge"),
            Self::ConsumerNotFound => (404, "consumer_not_found", "There is no such consumer"),
            Self::RouteNotFound => (404, "route_not_found", "There is nothing at this path"),
            Self::MethodNotAllowed => (405, "method_not_allowed", "The path has no such method"),
            Self::NotAcceptable => (406, "not_acceptable", "No acceptable media type can be given"),
            Self::AlreadyExists => (409, "already_exists", "It exists already"),
            Self::Cycle => (409, "cycle", "The jobs would form a cycle"),
            Self::SecondProducer => (409, "second_producer", "The dataset has a producer already"),
            Self::DatasetInUse => (409, "dataset_in_use", "The dataset is in use"),
            Self::Frozen => (409, "frozen", "The graph is frozen"),
            Self::StorageMismatch => {
                (409, "storage_mismatch", "The graph is kept in a storage that is not served")
            }
            Self::Pruned => (410, "pruned", "The log no longer has that change"),
            Self::PreconditionFailed => (412, "precondition_failed", "A precondition failed"),
            Self::TooLarge => (413, "too_large", "A limit is exceeded"),
            Self::PreconditionRequired => {
                (428, "precondition_required", "A precondition is required")
            }
            Self::UnsupportedMediaType => {
                (415, "unsupported_media_type", "The body's media type is not supported")
            }
            Self::InvalidName => (422, "invalid_name", "A name is invalid"),
            Self::IdempotencyKeyReused => {
                (422, "idempotency_key_reused", "The idempotency key was used before")
            }
            Self::Internal => (500, "internal", "An internal error"),
            Self::Contended => (503, "contended", "Too many requests are waiting"),
            Self::LockUnavailable => (503, "lock_unavailable", "The lock is unavailable"),
            Self::DatabaseUnavailable => {
                (503, "database_unavailable", "The database is unavailable")
            }
            Self::VersionNotReached => {
                (503, "version_not_reached", "The version was not reached in time")
            }
            Self::OutcomeUnknown => (503, "outcome_unknown", "The outcome is unknown"),
        }
    }
}

/// One problem, ready to be answered.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Which.
    pub kind: Kind,
    /// The graph and the version that it was decided at.
    pub decided: Option<(Name, u64)>,
    /// Methods for the `Allow` header.
    pub allow: Option<String>,
    /// Whether it was not decided, as another node leads the graph.
    pub led_elsewhere: bool,
    /// Whom to pass the request on to.
    pub leader: Option<Arc<LeaderAt>>,
    members: Map<String, Value>,
}

/// How long a client should wait before it tries again, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

impl Problem {
    /// A problem with a sentence that says what is wrong and what to do.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, name, title) = kind.parts();
        let mut members = Map::new();
        members.insert("type".to_owned(), json!(format!("urn:fencepost:problem:{name}")));
        members.insert("title".to_owned(), json!(title));
        members.insert("status".to_owned(), json!(status));
        members.insert("detail".to_owned(), json!(detail.into()));
        let problem =
            Self { kind, decided: None, allow: None, led_elsewhere: false, leader: None, members };
        match kind {
            Kind::OutcomeUnknown => problem.with("outcome", json!("unknown")),
            _ if status >= 500 => problem.with("outcome", json!("not_applied")),
            _ => problem,
        }
    }

    /// A malformed request; `at` is the place: a header, a parameter, a path into the body.
    pub fn malformed(at: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(Kind::Malformed, terminal::shortened(&detail)).with("at", json!(at.into()))
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// Adds the graph and the version that it was decided at.
    #[must_use]
    pub fn decided_at(self, graph: &Name, version: u64) -> Self {
        let decided = Some((graph.clone(), version));
        Self { decided, ..self.with("graph", json!(graph)).with("version", json!(version)) }
    }

    /// Names the node that leads the graph, if it says where it is reached.
    #[must_use]
    pub fn led_by(self, leader: Arc<LeaderAt>) -> Self {
        let problem = match &leader.address {
            Some(address) => self.with("leader", json!(address)),
            None => self,
        };
        Self { leader: Some(leader), ..problem }
    }

    /// Names the methods that the path has.
    #[must_use]
    pub fn allowing(self, methods: String) -> Self {
        Self { allow: Some(methods), ..self }
    }

    /// Whether it leaves open what became of a write.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.members.get("outcome").is_some_and(|outcome| outcome == "unknown")
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.kind.parts().0
    }

    /// The value of the `Retry-After` header, in seconds.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        (self.status() == 503).then_some(RETRY_AFTER_SECONDS)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&self.members).expect("a map of JSON is JSON")
    }

    /// There is no such graph.
    #[must_use]
    pub fn graph_not_found(graph: &Name) -> Self {
        Self::refused(graph, Refusal::GraphNotFound { graph: graph.clone() })
    }

    /// A refusal to serve a request on `graph`.
    pub fn refused(graph: &Name, refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Rejected { rejection, version } => {
                Self::rejected(rejection).decided_at(graph, version)
            }
            Refusal::GraphNotFound { graph } => {
                Self::new(Kind::GraphNotFound, detail).with("name", json!(graph))
            }
            Refusal::Frozen { moved_to, .. } => Self::new(Kind::Frozen, detail)
                .with("graph", json!(graph))
                .with("moved_to", json!(moved_to)),
            Refusal::StorageMismatch { graph, storage, served_by } => {
                let advice = "start it with a --design for that storage as well";
                Self::new(Kind::StorageMismatch, format!("{detail}: {advice}"))
                    .with("graph", json!(graph))
                    .with("storage", json!(storage.word()))
                    .with("design", json!(served_by))
            }
            Refusal::KeyReused => Self::new(Kind::IdempotencyKeyReused, detail),
            Refusal::Contended { .. } => Self::new(Kind::Contended, detail),
            Refusal::LedElsewhere { leader, .. } => {
                let problem = Self { led_elsewhere: true, ..Self::new(Kind::Contended, detail) };
                match leader {
                    Some(leader) => problem.led_by(leader),
                    None => problem,
                }
            }
            Refusal::LockUnavailable { .. } => Self::new(Kind::LockUnavailable, detail),
            Refusal::DatabaseUnavailable { .. } => Self::new(Kind::DatabaseUnavailable, detail),
            Refusal::OutcomeUnknown { .. } => Self::new(Kind::OutcomeUnknown, detail),
            Refusal::Internal { .. } => {
                log::error!("graph `{graph}`: {detail}");
                Self::new(Kind::Internal, detail)
            }
        }
    }

    /// A refusal to serve a request that is about no one graph.
    pub fn unserved(refusal: &Refusal) -> Self {
        let kind = match refusal {
            Refusal::Contended { .. } => Kind::Contended,
            Refusal::LockUnavailable { .. } => Kind::LockUnavailable,
            Refusal::DatabaseUnavailable { .. } => Kind::DatabaseUnavailable,
            _ => Kind::Internal,
        };
        if kind == Kind::Internal {
            log::error!("{refusal}");
        }
        Self::new(kind, refusal.to_string())
    }

    fn rejected(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let of = |kind: Kind| Self::new(kind, detail);
        match rejection {
            Rejection::PreconditionFailed { expected, actual, operation } => {
                let problem = match &expected {
                    Precondition::OneOf(versions) if versions.is_empty() => Self::new(
                        Kind::PreconditionFailed,
                        "if-match names no tag that this service gives; a weak one never matches",
                    ),
                    _ => of(Kind::PreconditionFailed),
                };
                let problem = problem.with("expected", expectation(&expected));
                let problem = problem.with("actual", json!(actual));
                operation.map_or(problem.clone(), |operation| {
                    problem.with("operation", json!(operation))
                })
            }
            Rejection::PreconditionRequired { actual } => Self::new(
                Kind::PreconditionRequired,
                format!(
                    "the graph is not empty: to delete it with all that it holds, send if-match: \
                     \"{actual}\", which is its ETag now, or if-match: *"
                ),
            )
            .with("actual", json!(actual)),
            Rejection::JobNotFound { name, operation } => {
                of(Kind::JobNotFound).with("name", json!(name)).with("operation", json!(operation))
            }
            Rejection::DatasetNotFound { name, operation } => of(Kind::DatasetNotFound)
                .with("name", json!(name))
                .with("operation", json!(operation)),
            Rejection::EdgeNotFound { job, dataset, operation } => of(Kind::EdgeNotFound)
                .with("name", json!(dataset))
                .with("job", json!(job))
                .with("operation", json!(operation)),
            Rejection::EdgeExists { job, dataset, operation } => of(Kind::AlreadyExists)
                .with("name", json!(dataset))
                .with("jobs", json!([job]))
                .with("operation", json!(operation)),
            Rejection::DatasetInUse { name, jobs, operation } => of(Kind::DatasetInUse)
                .with("name", json!(name))
                .with("jobs", json!(jobs))
                .with("operation", json!(operation)),
            Rejection::SecondProducer { dataset, producer, job, operation } => {
                of(Kind::SecondProducer)
                    .with("dataset", json!(dataset))
                    .with("producer", json!(producer))
                    .with("job", json!(job))
                    .with("operation", json!(operation))
            }
            Rejection::Cycle { cycle, operation } => {
                of(Kind::Cycle).with("cycle", json!(cycle)).with("operation", json!(operation))
            }
            Rejection::TooLarge { limit, .. } => of(Kind::TooLarge).with("limit", json!(limit)),
        }
    }

    /// A question that has no answer at `version` of `graph`.
    pub fn unanswered(graph: &Name, version: u64, error: QueryError) -> Self {
        let detail = error.to_string();
        let problem = match error {
            QueryError::JobNotFound { name } => {
                Self::new(Kind::JobNotFound, detail).with("name", json!(name))
            }
            QueryError::DatasetNotFound { name } => {
                Self::new(Kind::DatasetNotFound, detail).with("name", json!(name))
            }
            QueryError::TooLarge { limit, .. } => {
                Self::new(Kind::TooLarge, detail).with("limit", json!(limit))
            }
        };
        problem.decided_at(graph, version)
    }

    /// A text at `at` that is no name.
    pub fn invalid_name(at: &str, invalid: &InvalidName) -> Self {
        Self::new(Kind::InvalidName, format!("{at}: {invalid}")).with("at", json!(at))
    }
}

/// A precondition as a problem states it: a version as a number, several as a list of numbers,
/// absence as `null`, existence as `"*"`.
fn expectation(expected: &Precondition) -> Value {
    match expected {
        Precondition::Version(version) => json!(version),
        Precondition::OneOf(versions) => json!(versions),
        Precondition::Absent => Value::Null,
        Precondition::Exists => json!("*"),
    }
}

impl From<InvalidOperation> for Problem {
    fn from(invalid: InvalidOperation) -> Self {
        match invalid {
            InvalidOperation::Malformed { at, reason } => {
                let detail = format!("{at}: {reason}");
                Self::malformed(at, detail)
            }
            InvalidOperation::Name { at, reason } => Self::invalid_name(&at, &reason),
        }
    }
}
