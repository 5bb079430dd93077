//! Jobs and their edges.

use serde::Serialize;

use super::call::Call;
use super::page::PageRequest;
use super::problem::{Kind, Problem};
use super::reply::Reply;
use crate::graph::{
    CanonicalJson, Changeset, Command, Job, Name, Operation, Precondition, Side, Step,
};
use crate::service::{Accepted, Subject};
use crate::wire::{JobPatchWire, JobWire};

/// A job as it is answered.
#[derive(Serialize)]
pub struct JobBody<'g> {
    name: &'g Name,
    inputs: Vec<&'g Name>,
    outputs: Vec<&'g Name>,
    spec: &'g CanonicalJson,
    version: u64,
}

impl<'g> From<Job<'g>> for JobBody<'g> {
    fn from(job: Job<'g>) -> Self {
        Self {
            name: job.name(),
            inputs: job.inputs(),
            outputs: job.outputs(),
            spec: job.spec(),
            version: job.version(),
        }
    }
}

/// `GET …/jobs`
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let (graph, image) = call.image().await?;
    let page = PageRequest::new(&call, &format!("jobs\0{graph}"))?;
    let version = image.key.version;
    call.app
        .clone()
        .compute(move || {
            call.read_answer(version, version, || {
                let jobs = image.graph.jobs_from(page.from());
                Reply::json(&page.page(jobs, |job| job.name(), JobBody::from))
            })
        })
        .await
}

/// `GET …/jobs/{job}`
pub async fn read(call: Call) -> Result<Reply, Problem> {
    let name = call.name("job")?;
    let (graph, image) = call.image().await?;
    let version = image.key.version;
    let Some(job) = image.graph.job(name.as_str()) else {
        let problem = Problem::new(Kind::JobNotFound, format!("there is no job `{name}`"));
        return Err(problem.with("name", serde_json::json!(name)).decided_at(&graph, version));
    };
    Ok(call.read_answer(version, job.version(), || Reply::json(&JobBody::from(job))))
}

/// `POST …/jobs`
pub async fn create(call: Call) -> Result<Reply, Problem> {
    let job = call.json::<JobWire>()?.into_job(None)?;
    let name = job.name.clone();
    call.refuse_preconditions("POST only ever creates; use PUT for a conditional write")?;
    let subject = Subject::Job(name.clone());
    let outcome =
        one_step(&call, Operation::PutJob(job), subject, Some(Precondition::Absent)).await;
    let (graph, accepted) =
        outcome.map_err(|problem| match (problem.kind, problem.decided.clone()) {
            (Kind::PreconditionFailed, Some((graph, version))) => {
                let exists = Problem::new(
                    Kind::AlreadyExists,
                    format!("job `{name}` exists; replace it with PUT"),
                );
                exists.with("name", serde_json::json!(name)).decided_at(&graph, version)
            }
            _ => problem,
        })?;
    let encoded = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let location =
        format!("/v1/graphs/{}/jobs/{}", encoded(graph.as_str()), encoded(name.as_str()));
    Ok(Reply::written_and_tagged(&graph, accepted, false).with("Location", location))
}

/// `PUT …/jobs/{job}`
pub async fn put(call: Call) -> Result<Reply, Problem> {
    let name = call.name("job")?;
    let job = call.json::<JobWire>()?.into_job(Some(&name))?;
    written(&call, Operation::PutJob(job), Subject::Job(name)).await
}

/// `PATCH …/jobs/{job}`
pub async fn patch(call: Call) -> Result<Reply, Problem> {
    let name = call.name("job")?;
    let patch = call.json::<JobPatchWire>()?.into_patch(&name)?;
    let (precondition, subject) = (call.precondition()?, Subject::Job(name.clone()));
    let operation = Operation::PatchJob { name, patch };
    let (graph, accepted) = one_step(&call, operation, subject, precondition).await?;
    Ok(Reply::written_and_tagged(&graph, accepted, false))
}

/// `DELETE …/jobs/{job}`
pub async fn delete(call: Call) -> Result<Reply, Problem> {
    let name = call.name("job")?;
    written(&call, Operation::DeleteJob { name: name.clone() }, Subject::Job(name)).await
}

/// `PUT …/jobs/{job}/inputs/{dataset}` and `…/outputs/{dataset}`
pub async fn add_edge(call: Call, side: Side) -> Result<Reply, Problem> {
    let (job, dataset) = (call.name("job")?, call.name("dataset")?);
    let subject = Subject::Job(job.clone());
    written(&call, Operation::AddEdge { side, job, dataset }, subject).await
}

/// `DELETE …/jobs/{job}/inputs/{dataset}` and `…/outputs/{dataset}`
pub async fn remove_edge(call: Call, side: Side) -> Result<Reply, Problem> {
    let (job, dataset) = (call.name("job")?, call.name("dataset")?);
    let subject = Subject::Job(job.clone());
    written(&call, Operation::RemoveEdge { side, job, dataset }, subject).await
}

/// Answers a changeset of one step, which has the precondition that the headers state.
pub(super) async fn written(
    call: &Call,
    operation: Operation,
    subject: Subject,
) -> Result<Reply, Problem> {
    let precondition = call.precondition()?;
    let (graph, accepted) = one_step(call, operation, subject, precondition).await?;
    Ok(Reply::written(&graph, accepted, false))
}

/// A changeset of one step.
async fn one_step(
    call: &Call,
    operation: Operation,
    subject: Subject,
    precondition: Option<Precondition>,
) -> Result<(Name, Accepted), Problem> {
    let changeset = Changeset {
        precondition: None,
        unchanged: None,
        steps: vec![Step { operation, precondition }],
    };
    call.write(Command::Changeset(changeset), subject, false).await
}
