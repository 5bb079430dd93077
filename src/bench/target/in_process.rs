//! The service in this process: no network, no HTTP; JSON only of answers, as a server writes it.

use std::ops::Bound;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use super::{Completion, Connection, DigestAnswer, PlanAnswer, Target};
use crate::bench::request::{Listed, Outcome, Request, creation};
use crate::bench::verbatim::Verbatim;
use crate::graph::{
    Changeset, Command, Job, JobSpecification, Name, PlanRequest, QueryError, Step,
};
use crate::http::{DatasetBody, JobBody, Kind, Problem};
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
            Request::Create(job) => self.create(job),
            Request::Page { of, limit } => self.read(|image| page_answer(image, *of, *limit)),
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
    fn write(&self, steps: &[Step]) -> Completion {
        let command = Command::Changeset(Changeset {
            precondition: None,
            unchanged: None,
            steps: steps.to_vec(),
        });
        self.written(self.service.write_and_wait(&self.graph, Write::from(command)))
    }

    /// As a server does it: that the job is there is no failed precondition, since none was stated.
    fn create(&self, job: &JobSpecification) -> Completion {
        let completion = self.write(&[creation(job.clone())]);
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

/// The first page. There are no others in this process, so that its cursor leads nowhere.
fn page_answer(image: &Image, of: Listed, limit: usize) -> Result<Read, QueryError> {
    #[derive(Serialize)]
    struct Page<T> {
        items: Vec<T>,
        next_cursor: Option<&'static str>,
    }
    fn page<T: Serialize>(mut items: impl Iterator<Item = T>, limit: usize) -> Read {
        let page: Vec<T> = items.by_ref().take(limit).collect();
        Read::answer(&Page { items: page, next_cursor: items.next().map(|_| "none") })
    }
    let graph = &image.graph;
    Ok(match of {
        Listed::Jobs => page(graph.jobs_from(Bound::Unbounded).map(JobBody::from), limit),
        Listed::Datasets => {
            page(graph.datasets_from(Bound::Unbounded).map(DatasetBody::from), limit)
        }
    })
}

fn specification(job: Job<'_>) -> JobSpecification {
    JobSpecification {
        name: job.name().clone(),
        inputs: job.inputs().into_iter().cloned().collect(),
        outputs: job.outputs().into_iter().cloned().collect(),
        spec: job.spec().clone(),
    }
}
