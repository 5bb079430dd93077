//! The service in this process: no network, no HTTP; JSON only of answers, as a server writes it.

use std::ops::Bound;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Completion, Connection, DigestAnswer, PlanAnswer, Target};
use crate::bench::request::{Listed, Outcome, PageBefore, Request, creation};
use crate::bench::verbatim::Verbatim;
use crate::graph::{
    Changeset, Command, Job, JobSpecification, Name, PlanRequest, Precondition, QueryError, Step,
    hex,
};
use crate::http::{DatasetBody, JobBody, Kind, Problem};
use crate::service::{IdempotencyKey, Image, Service, Verdict, Write};

/// The largest plan, in jobs: the server's default.
const PLAN_JOBS: usize = 1_000_000;

/// A service and one of its graphs.
pub struct InProcess {
    service: Service,
    graph: Name,
    description: String,
}

impl InProcess {
    /// `description` says which database and settings it runs on.
    #[must_use]
    pub fn new(service: Service, graph: Name, description: String) -> Self {
        Self { service, graph, description }
    }
}

impl Target for InProcess {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn connect(&self) -> Box<dyn Connection> {
        Box::new(ServiceConnection { service: self.service.clone(), graph: self.graph.clone() })
    }

    fn nodes(&self) -> usize {
        1
    }

    fn metrics(&self) -> Vec<Option<String>> {
        vec![Some(self.service.metrics().text())]
    }

    fn service(&self) -> Option<&Service> {
        Some(&self.service)
    }
}

struct ServiceConnection {
    service: Service,
    graph: Name,
}

impl Connection for ServiceConnection {
    fn move_on(&mut self) {}

    fn perform(&mut self, request: &Request) -> Completion {
        match request {
            Request::CreateGraph
            | Request::DeleteGraph
            | Request::Write(_)
            | Request::Create(_)
            | Request::Keyed { .. } => self.write(request, None),
            Request::OfGraph { graph, request } => {
                Self { service: self.service.clone(), graph: graph.clone() }.perform(request)
            }
            Request::Page { of, limit, after } => {
                self.read(|image| Ok(page_answer(image, *of, *limit, after.as_ref())))
            }
            Request::Job { name, if_none_match } => {
                self.read(|image| job_answer(image, name, *if_none_match))
            }
            Request::Dataset(name) => self.read(|image| dataset_answer(image, name)),
            Request::Plan(request) => self.plan(request),
            Request::Digest => {
                self.read(|image| Ok(Read::answer(&DigestAnswer { digest: image.graph.digest() })))
            }
            Request::Graph => self.read(|image| Ok(Read::answer(&Counts::of(image)))),
            Request::Fetch(_) => Completion::without_http(
                Instant::now(),
                Outcome::Undocumented(
                    "a path can be fetched over HTTP only; give --url".to_owned(),
                ),
            ),
        }
    }

    fn first_jobs(&mut self, limit: usize) -> Result<Vec<JobSpecification>, String> {
        let image =
            self.service.read_and_wait(&self.graph).map_err(|refusal| refusal.to_string())?;
        Ok(image.graph.jobs_from(Bound::Unbounded).take(limit).map(specification).collect())
    }
}

/// What a read found.
enum Read {
    Answer(Verbatim),
    NotModified,
}

impl Read {
    fn answer(answer: &impl Serialize) -> Self {
        Self::Answer(Verbatim::of(answer))
    }
}

#[derive(Serialize)]
struct Counts {
    jobs: usize,
    datasets: usize,
    edges: usize,
}

impl Counts {
    fn of(image: &Image) -> Self {
        let graph = &image.graph;
        let (jobs, datasets) = (graph.job_count(), graph.dataset_count());
        Self { jobs, datasets, edges: graph.edge_count() }
    }
}

impl ServiceConnection {
    fn write(&self, request: &Request, idempotency: Option<IdempotencyKey>) -> Completion {
        let changeset = |steps: &[Step]| {
            Command::Changeset(Changeset {
                precondition: None,
                unchanged: None,
                steps: steps.to_vec(),
            })
        };
        let decided = |command: Command| {
            let write = Write { idempotency: idempotency.clone(), ..Write::from(command) };
            self.written(self.service.write_and_wait(&self.graph, write))
        };
        match request {
            Request::Write(steps) => decided(changeset(steps)),
            Request::Create(job) => self.created(job, decided(changeset(&[creation(job.clone())]))),
            Request::DeleteGraph => {
                decided(Command::DeleteGraph { precondition: Some(Precondition::Exists) })
            }
            Request::Keyed { key, write } => {
                let asked = serde_json::to_vec(write).expect("a request is always JSON");
                let fingerprint = hex(&Sha256::digest(asked));
                self.write(write, Some(IdempotencyKey { key: key.clone(), fingerprint }))
            }
            // Has no key: nobody sends one.
            _ => self.written(self.service.create_graph_and_wait(&self.graph)),
        }
    }

    /// As a server does it: that the job is there is no failed precondition, since none was stated.
    fn created(&self, job: &JobSpecification, completion: Completion) -> Completion {
        match completion.outcome {
            Outcome::Rejected { name, version: Some(version), .. }
                if name == "precondition_failed" =>
            {
                let there = Problem::new(Kind::AlreadyExists, format!("job `{}` exists", job.name));
                let there = there.with("name", json!(job.name)).decided_at(&self.graph, version);
                Completion { outcome: outcome_of(&there), ..completion }
            }
            _ => completion,
        }
    }

    fn written(&self, verdict: Verdict) -> Completion {
        let at = Instant::now();
        let outcome = match verdict {
            Ok(accepted) => Outcome::Accepted(accepted),
            Err(refusal) => outcome_of(&Problem::refused(&self.graph, refusal)),
        };
        Completion::without_http(at, outcome)
    }

    /// The time ends with what an answer over HTTP would be made of.
    fn read(&self, answer: impl FnOnce(&Image) -> Result<Read, QueryError>) -> Completion {
        let image = match self.service.read_and_wait(&self.graph) {
            Ok(image) => image,
            Err(refusal) => {
                let at = Instant::now();
                let outcome = outcome_of(&Problem::refused(&self.graph, refusal));
                return Completion::without_http(at, outcome);
            }
        };
        let version = image.key.version;
        let answer = answer(&image);
        let at = Instant::now();
        let outcome = match answer {
            Ok(Read::Answer(answer)) => Outcome::Answered { version: Some(version), answer },
            Ok(Read::NotModified) => Outcome::NotModified { version },
            Err(error) => outcome_of(&Problem::unanswered(&self.graph, version, error)),
        };
        Completion::without_http(at, outcome)
    }

    fn plan(&self, request: &PlanRequest) -> Completion {
        self.read(|image| {
            let plan = image.graph.plan(request, PLAN_JOBS)?;
            let jobs = plan.stages.iter().map(Vec::len).sum();
            Ok(Read::answer(&PlanAnswer { digest: plan.digest, jobs }))
        })
    }
}

fn outcome_of(problem: &Problem) -> Outcome {
    let body = Verbatim::parse(&problem.body()).expect("a problem is JSON");
    Outcome::of_problem(problem.status(), body)
}

fn job_answer(image: &Image, name: &Name, if_none_match: Option<u64>) -> Result<Read, QueryError> {
    let not_found = || QueryError::JobNotFound { name: name.clone() };
    let job = image.graph.job(name.as_str()).ok_or_else(not_found)?;
    if if_none_match == Some(job.version()) {
        return Ok(Read::NotModified);
    }
    Ok(Read::answer(&JobBody::from(job)))
}

fn dataset_answer(image: &Image, name: &Name) -> Result<Read, QueryError> {
    let not_found = || QueryError::DatasetNotFound { name: name.clone() };
    let dataset = image.graph.dataset(name.as_str()).ok_or_else(not_found)?;
    Ok(Read::answer(&DatasetBody::from(dataset)))
}

/// A page. That another follows is all that its cursor says: the next begins after the last name.
fn page_answer(image: &Image, of: Listed, limit: usize, after: Option<&PageBefore>) -> Read {
    #[derive(Serialize)]
    struct Page<T> {
        items: Vec<T>,
        next_cursor: Option<&'static str>,
    }
    fn page<T: Serialize>(mut items: impl Iterator<Item = T>, limit: usize) -> Read {
        let page: Vec<T> = items.by_ref().take(limit).collect();
        Read::answer(&Page { items: page, next_cursor: items.next().map(|_| "after its last") })
    }
    let graph = &image.graph;
    let from = after.map_or(Bound::Unbounded, |before| Bound::Excluded(before.last.as_str()));
    match of {
        Listed::Jobs => page(graph.jobs_from(from).map(JobBody::from), limit),
        Listed::Datasets => page(graph.datasets_from(from).map(DatasetBody::from), limit),
    }
}

fn specification(job: Job<'_>) -> JobSpecification {
    JobSpecification {
        name: job.name().clone(),
        inputs: job.inputs().into_iter().cloned().collect(),
        outputs: job.outputs().into_iter().cloned().collect(),
        spec: job.spec().clone(),
    }
}
