//! The routes: one table from which requests are dispatched and the OpenAPI document is made, so
//! that the two cannot differ.

use std::future::Future;
use std::pin::Pin;

use super::call::Call;
use super::problem::{Kind, Problem};
use super::reply::Reply;
use super::{about, changes, consumers, datasets, graphs, jobs, plans, snapshot};
use crate::graph::{Direction, Side};

/// What a handler is.
pub type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// One method of one path.
pub struct Route {
    /// In capitals.
    pub method: &'static str,
    /// `{name}` stands for any one segment.
    pub path: &'static str,
    /// Answers it.
    pub handler: Handler,
    /// Unique, for generated clients.
    pub id: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Query parameters.
    pub query: &'static [&'static str],
    /// What it may be sent.
    pub body: Body,
    /// What it answers: status and schema.
    pub answers: &'static [(u16, &'static str)],
    /// Media types of the answer, the default first.
    pub media_types: &'static [&'static str],
    /// What it has to do with graphs.
    pub class: Class,
    /// Problems beyond those of its class.
    pub problems: &'static [Kind],
}

/// What a route may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON of this schema.
    Json(&'static str),
    /// The same, or nothing.
    OptionalJson(&'static str),
    /// A JSON merge patch of this schema.
    MergePatch(&'static str),
}

/// Which problems and headers a route has in common with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// About the service: no graph, no turn.
    Service,
    /// Reads a list that is no graph's.
    List,
    /// Reads a graph.
    Read,
    /// Writes a graph.
    Write,
    /// About who reads a graph's change log: beside the graph, at no version of it, in no turn.
    Consumers,
}

const JSON: &[&str] = &["application/json"];
const PAGE: &[&str] = &["prefix", "cursor", "limit", "at_least"];
const READ: &[&str] = &["at_least"];
const REACH: &[&str] = &["depth", "at_least"];

/// A route whose parts that are mostly alike are filled in.
const fn route(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    class: Class,
    handler: Handler,
) -> Route {
    let query = if matches!(class, Class::Read) { READ } else { &[] };
    Route {
        method,
        path,
        handler,
        id,
        summary,
        query,
        body: Body::None,
        answers: &[(200, "Written")],
        media_types: JSON,
        class,
        problems: &[],
    }
}

/// All routes.
pub static ROUTES: &[Route] = &[
    Route {
        query: &["prefix", "cursor", "limit"],
        answers: &[(200, "GraphPage")],
        ..route(
            "GET",
            "/v1/graphs",
            "listGraphs",
            "A page of graphs, in byte order of names.",
            Class::List,
            |call| Box::pin(graphs::list(call)),
        )
    },
    Route {
        answers: &[(200, "Graph")],
        ..route(
            "GET",
            "/v1/graphs/{graph}",
            "readGraph",
            "A graph's version and counts.",
            Class::Read,
            |call| Box::pin(graphs::read(call)),
        )
    },
    Route {
        body: Body::OptionalJson("NoFields"),
        answers: &[(200, "Written"), (201, "Written")],
        ..route(
            "PUT",
            "/v1/graphs/{graph}",
            "createGraph",
            "Creates a graph unless it is there.",
            Class::Write,
            |call| Box::pin(graphs::create(call)),
        )
    },
    Route {
        problems: &[Kind::GraphNotFound, Kind::PreconditionRequired],
        ..route(
            "DELETE",
            "/v1/graphs/{graph}",
            "deleteGraph",
            "Deletes a graph with all that it holds; needs `If-Match` unless it has neither jobs \
             nor declared datasets. Created again, it continues its versions.",
            Class::Write,
            |call| Box::pin(graphs::delete(call)),
        )
    },
    Route {
        answers: &[(200, "Digest")],
        ..route(
            "GET",
            "/v1/graphs/{graph}/digest",
            "readDigest",
            "A hash that is equal for equal graphs.",
            Class::Read,
            |call| Box::pin(graphs::digest(call)),
        )
    },
    Route {
        query: &["after", "after_chain", "limit", "at_least"],
        answers: &[(200, "ChangePage")],
        media_types: &changes::MEDIA_TYPES,
        problems: &[Kind::Pruned, Kind::PreconditionFailed],
        ..route(
            "GET",
            "/v1/graphs/{graph}/changes",
            "readChanges",
            "What was changed after a version: a page as JSON, all of it as NDJSON, or live as server-sent events.",
            Class::Read,
            |call| Box::pin(changes::read(call)),
        )
    },
    Route {
        answers: &[(200, "EventLines")],
        media_types: &[changes::LINES],
        ..route(
            "GET",
            "/v1/graphs/{graph}/snapshot",
            "readSnapshot",
            "The whole graph at one version, as the events that build it.",
            Class::Read,
            |call| Box::pin(snapshot::read(call)),
        )
    },
    Route {
        answers: &[(200, "ConsumerList")],
        ..route(
            "GET",
            "/v1/graphs/{graph}/consumers",
            "listConsumers",
            "Who reads the change log, and how far they are, in byte order of names.",
            Class::Consumers,
            |call| Box::pin(consumers::list(call)),
        )
    },
    Route {
        body: Body::Json("ConsumerRequest"),
        answers: &[(200, "Acknowledged"), (201, "Acknowledged")],
        problems: &[Kind::PreconditionFailed, Kind::Pruned],
        ..route(
            "PUT",
            "/v1/graphs/{graph}/consumers/{consumer}",
            "acknowledge",
            "Notes up to which version a consumer has the changes, and registers it if it is new. Pruning leaves what it has not.",
            Class::Consumers,
            |call| Box::pin(consumers::acknowledge(call)),
        )
    },
    Route {
        answers: &[(200, "Forgotten")],
        problems: &[Kind::ConsumerNotFound],
        ..route(
            "DELETE",
            "/v1/graphs/{graph}/consumers/{consumer}",
            "forgetConsumer",
            "Takes a consumer off the list: pruning no longer waits for it.",
            Class::Consumers,
            |call| Box::pin(consumers::forget(call)),
        )
    },
    Route {
        query: PAGE,
        answers: &[(200, "JobPage")],
        ..route(
            "GET",
            "/v1/graphs/{graph}/jobs",
            "listJobs",
            "A page of jobs, in byte order of names.",
            Class::Read,
            |call| Box::pin(jobs::list(call)),
        )
    },
    Route {
        body: Body::Json("NewJob"),
        answers: &[(201, "Written")],
        problems: &[Kind::GraphNotFound, Kind::AlreadyExists, Kind::SecondProducer, Kind::Cycle],
        ..route(
            "POST",
            "/v1/graphs/{graph}/jobs",
            "createJob",
            "Creates a job that must not exist.",
            Class::Write,
            |call| Box::pin(jobs::create(call)),
        )
    },
    Route {
        answers: &[(200, "Job")],
        problems: &[Kind::JobNotFound],
        ..route("GET", "/v1/graphs/{graph}/jobs/{job}", "readJob", "A job.", Class::Read, |call| {
            Box::pin(jobs::read(call))
        })
    },
    Route {
        body: Body::Json("JobRequest"),
        answers: &[(200, "Written"), (201, "Written")],
        problems: &[Kind::GraphNotFound, Kind::SecondProducer, Kind::Cycle],
        ..route(
            "PUT",
            "/v1/graphs/{graph}/jobs/{job}",
            "putJob",
            "Creates a job or replaces it.",
            Class::Write,
            |call| Box::pin(jobs::put(call)),
        )
    },
    Route {
        body: Body::MergePatch("JobPatch"),
        problems: &[Kind::GraphNotFound, Kind::JobNotFound, Kind::SecondProducer, Kind::Cycle],
        ..route(
            "PATCH",
            "/v1/graphs/{graph}/jobs/{job}",
            "patchJob",
            "Changes a job by a JSON merge patch.",
            Class::Write,
            |call| Box::pin(jobs::patch(call)),
        )
    },
    Route {
        problems: &[Kind::GraphNotFound, Kind::JobNotFound],
        ..route(
            "DELETE",
            "/v1/graphs/{graph}/jobs/{job}",
            "deleteJob",
            "Deletes a job and its edges.",
            Class::Write,
            |call| Box::pin(jobs::delete(call)),
        )
    },
    Route {
        answers: &[(201, "Written")],
        problems: &[
            Kind::GraphNotFound,
            Kind::JobNotFound,
            Kind::DatasetNotFound,
            Kind::AlreadyExists,
            Kind::Cycle,
        ],
        ..route(
            "PUT",
            "/v1/graphs/{graph}/jobs/{job}/inputs/{dataset}",
            "addInput",
            "Adds an edge by which the job reads the dataset. Both must exist, the edge must not.",
            Class::Write,
            |call| Box::pin(jobs::add_edge(call, Side::Input)),
        )
    },
    Route {
        problems: &[
            Kind::GraphNotFound,
            Kind::JobNotFound,
            Kind::DatasetNotFound,
            Kind::EdgeNotFound,
        ],
        ..route(
            "DELETE",
            "/v1/graphs/{graph}/jobs/{job}/inputs/{dataset}",
            "removeInput",
            "Removes the edge by which the job reads the dataset.",
            Class::Write,
            |call| Box::pin(jobs::remove_edge(call, Side::Input)),
        )
    },
    Route {
        answers: &[(201, "Written")],
        problems: &[
            Kind::GraphNotFound,
            Kind::JobNotFound,
            Kind::DatasetNotFound,
            Kind::AlreadyExists,
            Kind::SecondProducer,
            Kind::Cycle,
        ],
        ..route(
            "PUT",
            "/v1/graphs/{graph}/jobs/{job}/outputs/{dataset}",
            "addOutput",
            "Adds an edge by which the job writes the dataset. Both must exist, the edge must not.",
            Class::Write,
            |call| Box::pin(jobs::add_edge(call, Side::Output)),
        )
    },
    Route {
        problems: &[
            Kind::GraphNotFound,
            Kind::JobNotFound,
            Kind::DatasetNotFound,
            Kind::EdgeNotFound,
        ],
        ..route(
            "DELETE",
            "/v1/graphs/{graph}/jobs/{job}/outputs/{dataset}",
            "removeOutput",
            "Removes the edge by which the job writes the dataset.",
            Class::Write,
            |call| Box::pin(jobs::remove_edge(call, Side::Output)),
        )
    },
    Route {
        query: PAGE,
        answers: &[(200, "DatasetPage")],
        ..route(
            "GET",
            "/v1/graphs/{graph}/datasets",
            "listDatasets",
            "A page of datasets, in byte order of names.",
            Class::Read,
            |call| Box::pin(datasets::list(call)),
        )
    },
    Route {
        answers: &[(200, "Dataset")],
        problems: &[Kind::DatasetNotFound],
        ..route(
            "GET",
            "/v1/graphs/{graph}/datasets/{dataset}",
            "readDataset",
            "A dataset, declared or implied.",
            Class::Read,
            |call| Box::pin(datasets::read(call)),
        )
    },
    Route {
        body: Body::OptionalJson("DatasetDeclaration"),
        answers: &[(200, "Written"), (201, "Written")],
        problems: &[Kind::GraphNotFound],
        ..route(
            "PUT",
            "/v1/graphs/{graph}/datasets/{dataset}",
            "putDataset",
            "Declares a dataset or replaces its metadata.",
            Class::Write,
            |call| Box::pin(datasets::put(call)),
        )
    },
    Route {
        problems: &[Kind::GraphNotFound, Kind::DatasetNotFound, Kind::DatasetInUse],
        ..route(
            "DELETE",
            "/v1/graphs/{graph}/datasets/{dataset}",
            "deleteDataset",
            "Takes back a dataset's declaration. No job may mention it.",
            Class::Write,
            |call| Box::pin(datasets::delete(call)),
        )
    },
    Route {
        answers: &[(200, "Plan")],
        media_types: &plans::MEDIA_TYPES,
        problems: &[Kind::DatasetNotFound, Kind::TooLarge],
        ..route(
            "GET",
            "/v1/graphs/{graph}/datasets/{dataset}/plan",
            "planDataset",
            "The jobs that must run to produce the dataset, and their order.",
            Class::Read,
            |call| Box::pin(plans::of_dataset(call)),
        )
    },
    Route {
        answers: &[(200, "Plan")],
        media_types: &plans::MEDIA_TYPES,
        problems: &[Kind::JobNotFound, Kind::TooLarge],
        ..route(
            "GET",
            "/v1/graphs/{graph}/jobs/{job}/plan",
            "planJob",
            "The job and all that must run before it, and their order.",
            Class::Read,
            |call| Box::pin(plans::of_job(call)),
        )
    },
    Route {
        body: Body::Json("PlanRequest"),
        answers: &[(200, "Plan")],
        media_types: &plans::MEDIA_TYPES,
        problems: &[Kind::JobNotFound, Kind::DatasetNotFound, Kind::TooLarge],
        ..route(
            "POST",
            "/v1/graphs/{graph}/plans",
            "planMany",
            "One plan for several targets.",
            Class::Read,
            |call| Box::pin(plans::of_many(call)),
        )
    },
    Route {
        query: REACH,
        answers: &[(200, "Reachable")],
        problems: &[Kind::DatasetNotFound, Kind::TooLarge],
        ..route(
            "GET",
            "/v1/graphs/{graph}/datasets/{dataset}/upstream",
            "datasetUpstream",
            "What the dataset is made from.",
            Class::Read,
            |call| Box::pin(plans::around_dataset(call, Direction::Upstream)),
        )
    },
    Route {
        query: REACH,
        answers: &[(200, "Reachable")],
        problems: &[Kind::DatasetNotFound, Kind::TooLarge],
        ..route(
            "GET",
            "/v1/graphs/{graph}/datasets/{dataset}/downstream",
            "datasetDownstream",
            "What is made from the dataset.",
            Class::Read,
            |call| Box::pin(plans::around_dataset(call, Direction::Downstream)),
        )
    },
    Route {
        query: REACH,
        answers: &[(200, "Reachable")],
        problems: &[Kind::JobNotFound, Kind::TooLarge],
        ..route(
            "GET",
            "/v1/graphs/{graph}/jobs/{job}/upstream",
            "jobUpstream",
            "What the job depends on.",
            Class::Read,
            |call| Box::pin(plans::around_job(call, Direction::Upstream)),
        )
    },
    Route {
        query: REACH,
        answers: &[(200, "Reachable")],
        problems: &[Kind::JobNotFound, Kind::TooLarge],
        ..route(
            "GET",
            "/v1/graphs/{graph}/jobs/{job}/downstream",
            "jobDownstream",
            "What depends on the job.",
            Class::Read,
            |call| Box::pin(plans::around_job(call, Direction::Downstream)),
        )
    },
    Route {
        query: &["dry_run"],
        body: Body::Json("Changeset"),
        answers: &[(200, "Written"), (201, "Written")],
        problems: &[
            Kind::GraphNotFound,
            Kind::JobNotFound,
            Kind::DatasetNotFound,
            Kind::EdgeNotFound,
            Kind::AlreadyExists,
            Kind::DatasetInUse,
            Kind::SecondProducer,
            Kind::Cycle,
        ],
        ..route(
            "POST",
            "/v1/graphs/{graph}/changesets",
            "applyChangeset",
            "Several operations, accepted whole or rejected whole.",
            Class::Write,
            |call| Box::pin(graphs::change(call)),
        )
    },
    Route {
        answers: &[(200, "Live")],
        ..route("GET", "/livez", "livez", "Whether the process answers.", Class::Service, |call| {
            Box::pin(about::live(call))
        })
    },
    Route {
        answers: &[(200, "Ready")],
        problems: &[Kind::LockUnavailable, Kind::DatabaseUnavailable],
        ..route(
            "GET",
            "/readyz",
            "readyz",
            "Whether database and lock answer.",
            Class::Service,
            |call| Box::pin(about::ready(call)),
        )
    },
    Route {
        answers: &[(200, "Text")],
        media_types: &["text/plain"],
        ..route(
            "GET",
            "/metrics",
            "metrics",
            "Metrics in Prometheus' text format.",
            Class::Service,
            |call| Box::pin(about::metrics(call)),
        )
    },
    Route {
        answers: &[(200, "OpenApi")],
        ..route("GET", "/openapi.json", "openapi", "This document.", Class::Service, |call| {
            Box::pin(about::openapi(call))
        })
    },
    Route {
        answers: &[(200, "Text")],
        media_types: &["text/html"],
        ..route("GET", "/docs", "docs", "This document for people.", Class::Service, |call| {
            Box::pin(about::docs(call))
        })
    },
];

/// The name of the parameter that a part of a path stands for; `None` if it stands for itself.
fn parameter_of(part: &'static str) -> Option<&'static str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

impl Route {
    /// Which segments of `path` the route's parameters are, if it is the route's.
    #[must_use]
    pub fn matches(&self, path: &[String]) -> Option<Vec<(&'static str, usize)>> {
        let template = || self.path.trim_start_matches('/').split('/');
        let mut expected = template();
        let fits = path.iter().all(|segment| {
            expected
                .next()
                .is_some_and(|expected| parameter_of(expected).is_some() || expected == segment)
        });
        // Nothing is allocated for the many routes that are not the one.
        (fits && expected.next().is_none()).then(|| {
            let numbered = template().enumerate();
            numbered.filter_map(|(index, part)| Some((parameter_of(part)?, index))).collect()
        })
    }

    /// Whether it takes a turn of writes, which a node that does not lead the graph cannot take.
    #[must_use]
    pub fn takes_turn(&self) -> bool {
        // To create a graph takes none: nobody leads it before.
        self.class == Class::Write && self.id != "createGraph"
    }

    /// The media types that the body may have.
    #[must_use]
    pub fn body_types(&self) -> &'static [&'static str] {
        match self.body {
            Body::None => &[],
            Body::Json(_) | Body::OptionalJson(_) => &["application/json"],
            Body::MergePatch(_) => &["application/merge-patch+json", "application/json"],
        }
    }

    /// Every problem that it may answer.
    #[must_use]
    pub fn all_problems(&self) -> Vec<Kind> {
        let mut kinds = vec![
            Kind::Malformed,
            Kind::Forbidden,
            Kind::NotAcceptable,
            Kind::UnsupportedMediaType,
            Kind::Internal,
        ];
        kinds.extend(self.problems);
        match self.class {
            Class::Service => {}
            Class::List => kinds.push(Kind::DatabaseUnavailable),
            Class::Read => kinds.extend([Kind::GraphNotFound, Kind::VersionNotReached]),
            Class::Write => {
                kinds.extend([Kind::PreconditionFailed, Kind::IdempotencyKeyReused, Kind::Frozen])
            }
            Class::Consumers => kinds.extend([
                Kind::GraphNotFound,
                Kind::InvalidName,
                Kind::Contended,
                Kind::DatabaseUnavailable,
                Kind::OutcomeUnknown,
            ]),
        }
        if matches!(self.class, Class::Read | Class::Write) {
            kinds.extend([
                Kind::StorageMismatch,
                Kind::InvalidName,
                Kind::Contended,
                Kind::LockUnavailable,
                Kind::DatabaseUnavailable,
                Kind::OutcomeUnknown,
            ]);
        }
        if self.body != Body::None {
            kinds.push(Kind::TooLarge);
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}
