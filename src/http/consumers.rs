//! Who reads a graph's log from outside, and how far they are: pruning does not overtake them.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::ask;
use super::call::Call;
use super::problem::{Kind, Problem};
use super::reply::Reply;
use crate::event::rfc3339;
use crate::graph::Name;
use crate::object::objects_only;
use crate::store::{Acknowledgement, Consumer};

#[derive(Serialize)]
struct ConsumerBody<'c> {
    name: &'c Name,
    acknowledged: u64,
    acknowledged_at: String,
    last_seen_at: String,
    expires_at: Option<String>,
}

impl<'c> ConsumerBody<'c> {
    fn new(consumer: &'c Consumer) -> Self {
        Self {
            name: &consumer.name,
            acknowledged: consumer.acknowledged,
            acknowledged_at: rfc3339(consumer.acknowledged_at_ms),
            last_seen_at: rfc3339(consumer.seen_at_ms),
            expires_at: consumer.expires_at_ms().map(rfc3339),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct ConsumerWire {
    acknowledged: u64,
}

objects_only!(ConsumerWire);

const NO_VERSION: &str = "a consumer has no version; leave the header out";

/// `GET /v1/graphs/{graph}/consumers`
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let graph = call.name("graph")?;
    let found = ask(|reply| call.app.service.consumers(&graph, reply)).await;
    let (head, consumers) = found.map_err(|refusal| Problem::refused(&graph, refusal))?;
    let items: Vec<_> = consumers.iter().map(ConsumerBody::new).collect();
    let body = json!({"graph": graph, "version": head.version, "items": items});
    Ok(Reply::json(&body).at_version(head.version))
}

/// `PUT /v1/graphs/{graph}/consumers/{consumer}`
pub async fn acknowledge(call: Call) -> Result<Reply, Problem> {
    call.refuse_preconditions(NO_VERSION)?;
    let (graph, consumer) = (call.name("graph")?, call.name("consumer")?);
    let asked = call.json::<ConsumerWire>()?.acknowledged;
    let noted = ask(|reply| call.app.service.acknowledge(&graph, &consumer, asked, reply)).await;
    match noted.map_err(|refusal| Problem::refused(&graph, refusal))? {
        Acknowledgement::Noted { head, acknowledged, registered } => {
            let body = json!({"graph": graph, "version": head.version, "consumer": consumer, "acknowledged": acknowledged});
            let status = if registered { 201 } else { 200 };
            Ok(Reply { status, ..Reply::json(&body) }.at_version(head.version))
        }
        Acknowledgement::GraphNotFound => Err(Problem::graph_not_found(&graph)),
        Acknowledgement::Ahead { version } => {
            let detail =
                format!("the graph is at version {version}: version {asked} cannot have been read");
            let problem = Problem::new(Kind::PreconditionFailed, detail);
            Err(problem
                .with("expected", json!(asked))
                .with("actual", json!(version))
                .decided_at(&graph, version))
        }
        Acknowledgement::Pruned { oldest } => {
            let detail = format!(
                "the log no longer has all changes after version {asked}; the oldest that it has is {oldest}. Read the snapshot, and register at its version"
            );
            Err(Problem::new(Kind::Pruned, detail).with("oldest", json!(oldest)))
        }
    }
}

/// `DELETE /v1/graphs/{graph}/consumers/{consumer}`
pub async fn forget(call: Call) -> Result<Reply, Problem> {
    call.refuse_preconditions(NO_VERSION)?;
    let (graph, consumer) = (call.name("graph")?, call.name("consumer")?);
    let forgotten = ask(|reply| call.app.service.forget_consumer(&graph, &consumer, reply)).await;
    let (head, was_there) = forgotten.map_err(|refusal| Problem::refused(&graph, refusal))?;
    if !was_there {
        let problem =
            Problem::new(Kind::ConsumerNotFound, format!("nobody reads the log as `{consumer}`"));
        return Err(problem.with("name", json!(consumer)).decided_at(&graph, head.version));
    }
    let body = json!({"graph": graph, "version": head.version, "consumer": consumer});
    Ok(Reply::json(&body).at_version(head.version))
}
