//! The service in this process: no network, no HTTP; JSON only of answers, as a server writes it.

use std::ops::Bound;
use std::time::Instant;

use serde::Serialize;

use super::{Completion, Connection, DigestAnswer, PlanAnswer, Target};
use crate::bench::request::{Outcome, Request};
use crate::bench::verbatim::Verbatim;
use crate::graph::{
    CanonicalJson, Changeset, Command, Job, JobSpecification, Name, PlanRequest, QueryError, Step,
};
use crate::http::Problem;
use crate::service::{Image, Service, Verdict, Write};

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
            Request::CreateGraph => self.written(self.service.create_graph_and_wait(&self.graph)),
            Request::Write(steps) => self.write(steps),
            Request::Job { name, if_none_match } => {
                self.read(|image| job_answer(image, name, *if_none_match))
            }
            Request::Dataset(name) => self.read(|image| dataset_answer(image, name)),
            Request::Plan(request) => self.plan(request),
            Request::Digest => {
                self.read(|image| Ok(Read::answer(&DigestAnswer { digest: image.graph.digest() })))
            }
            Request::Graph => self.read(|image| Ok(Read::answer(&Counts::of(image)))),
            Request::Fetch(_) => Completion {
                at: Instant::now(),
                outcome: Outcome::Undocumented(
                    "a path can be fetched over HTTP only; give --url".to_owned(),
                ),
            },
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
    fn write(&self, steps: &[Step]) -> Completion {
        let command = Command::Changeset(Changeset {
            precondition: None,
            unchanged: None,
            steps: steps.to_vec(),
        });
        self.written(self.service.write_and_wait(&self.graph, Write::from(command)))
    }

    fn written(&self, verdict: Verdict) -> Completion {
        let at = Instant::now();
        let outcome = match verdict {
            Ok(accepted) => Outcome::Accepted(accepted),
            Err(refusal) => outcome_of(&Problem::refused(&self.graph, refusal)),
        };
        Completion { at, outcome }
    }

    /// The time ends with what an answer over HTTP would be made of.
    fn read(&self, answer: impl FnOnce(&Image) -> Result<Read, QueryError>) -> Completion {
        let image = match self.service.read_and_wait(&self.graph) {
            Ok(image) => image,
            Err(refusal) => {
                let at = Instant::now();
                return Completion {
                    at,
                    outcome: outcome_of(&Problem::refused(&self.graph, refusal)),
                };
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
        Completion { at, outcome }
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
    #[derive(Serialize)]
    struct JobAnswer<'g> {
        name: &'g Name,
        inputs: Vec<&'g Name>,
        outputs: Vec<&'g Name>,
        spec: &'g CanonicalJson,
        version: u64,
    }
    let not_found = || QueryError::JobNotFound { name: name.clone() };
    let job = image.graph.job(name.as_str()).ok_or_else(not_found)?;
    if if_none_match == Some(job.version()) {
        return Ok(Read::NotModified);
    }
    Ok(Read::answer(&JobAnswer {
        name: job.name(),
        inputs: job.inputs(),
        outputs: job.outputs(),
        spec: job.spec(),
        version: job.version(),
    }))
}

fn dataset_answer(image: &Image, name: &Name) -> Result<Read, QueryError> {
    #[derive(Serialize)]
    struct DatasetAnswer<'g> {
        name: &'g Name,
        declared: bool,
        producer: Option<&'g Name>,
        consumers: Vec<&'g Name>,
        metadata: CanonicalJson,
    }
    let not_found = || QueryError::DatasetNotFound { name: name.clone() };
    let dataset = image.graph.dataset(name.as_str()).ok_or_else(not_found)?;
    Ok(Read::answer(&DatasetAnswer {
        name: dataset.name(),
        declared: dataset.metadata().is_some(),
        producer: dataset.producer().map(|job| job.name()),
        consumers: dataset.consumers(),
        metadata: dataset.metadata().cloned().unwrap_or_default(),
    }))
}

fn specification(job: Job<'_>) -> JobSpecification {
    JobSpecification {
        name: job.name().clone(),
        inputs: job.inputs().into_iter().cloned().collect(),
        outputs: job.outputs().into_iter().cloned().collect(),
        spec: job.spec().clone(),
    }
}
