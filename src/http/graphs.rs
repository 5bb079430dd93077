//! Graphs as a whole.

use serde::Serialize;
use serde_json::json;

use super::ask::ask;
use super::call::Call;
use super::page::PageRequest;
use super::problem::Problem;
use super::reply::Reply;
use crate::graph::{Command, Name, Precondition};
use crate::object::objects_only;
use crate::service::{Refusal, Subject};
use crate::store::Head;
use crate::wire::ChangesetWire;

#[derive(Serialize)]
struct GraphBody<'g> {
    graph: &'g Name,
    version: u64,
    jobs: usize,
    datasets: usize,
    edges: usize,
    state: String,
    moved_to: Option<&'g str>,
    storage: &'static str,
}

/// `GET /v1/graphs`
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let page = PageRequest::new(&call, "graphs")?;
    let (prefix, after, limit) = (page.prefix.clone(), page.after.clone(), page.limit + 1);
    let heads: Result<Vec<Head>, Refusal> =
        ask(|reply| call.app.service.graphs(prefix, after, limit, reply)).await;
    let heads = heads.map_err(|refusal| Problem::unserved(&refusal))?;
    let show = |head: &Head| json!({"graph": head.name, "version": head.version});
    Ok(Reply::json(&page.page(heads.iter(), |head| &head.name, show)))
}

/// `GET /v1/graphs/{graph}`
pub async fn read(call: Call) -> Result<Reply, Problem> {
    let (graph, image) = call.image().await?;
    // Of later than the image: whether it is frozen is no part of a version.
    let head = ask(|reply| call.app.service.head(&graph, reply)).await;
    let head: Head = head.map_err(|refusal| Problem::refused(&graph, refusal))?;
    let version = image.key.version;
    let counts = &image.graph;
    Ok(call.read_answer(version, version, || {
        Reply::json(&GraphBody {
            graph: &graph,
            version,
            jobs: counts.job_count(),
            datasets: counts.dataset_count(),
            edges: counts.edge_count(),
            state: head.state.to_string(),
            moved_to: head.moved_to.as_deref(),
            storage: image.storage.word(),
        })
    }))
}

/// `PUT /v1/graphs/{graph}`
pub async fn create(call: Call) -> Result<Reply, Problem> {
    let graph = call.name("graph")?;
    if call.has_body() {
        call.json::<NoFields>()?;
    }
    let (precondition, idempotency) = (call.precondition()?, call.idempotency()?);
    let verdict =
        ask(|reply| call.app.service.create_graph(&graph, precondition, idempotency, reply)).await;
    let (graph, accepted) = call.verdict(graph, verdict)?;
    Ok(Reply::written(&graph, accepted, false))
}

/// An object that may not have fields.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct NoFields {}

objects_only!(NoFields);

/// `DELETE /v1/graphs/{graph}`
pub async fn delete(call: Call) -> Result<Reply, Problem> {
    let command = Command::DeleteGraph { precondition: of_graph(&call)? };
    let (graph, accepted) = call.write(command, Subject::Graph, false).await?;
    Ok(Reply::written(&graph, accepted, false))
}

/// `GET /v1/graphs/{graph}/digest`
pub async fn digest(call: Call) -> Result<Reply, Problem> {
    let (graph, image) = call.image().await?;
    let version = image.key.version;
    call.app
        .clone()
        .compute(move || {
            call.read_answer(version, version, || {
                Reply::json(
                    &json!({"graph": graph, "version": version, "digest": image.graph.digest()}),
                )
            })
        })
        .await
}

/// `POST /v1/graphs/{graph}/changesets`
pub async fn change(call: Call) -> Result<Reply, Problem> {
    let dry_run = call.flag("dry_run")?;
    let mut changeset = call.json::<ChangesetWire>()?.into_changeset()?;
    changeset.precondition = of_graph(&call)?;
    let command = Command::Changeset(changeset);
    let (graph, accepted) = call.write(command, Subject::Graph, dry_run).await?;
    Ok(Reply::written_and_tagged(&graph, accepted, dry_run))
}

/// `If-Match` where the graph itself is what is written.
fn of_graph(call: &Call) -> Result<Option<Precondition>, Problem> {
    match call.precondition()? {
        Some(Precondition::Absent) => {
            Err(Problem::malformed("if-none-match", "the graph must exist; use if-match"))
        }
        precondition => Ok(precondition),
    }
}
