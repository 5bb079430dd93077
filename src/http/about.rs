//! About the service itself.

use serde_json::json;

use super::ask::ask;
use super::call::Call;
use super::problem::Problem;
use super::reply::Reply;

/// `GET /livez`
pub async fn live(_: Call) -> Result<Reply, Problem> {
    Ok(Reply::json(&json!({"status": "live"})))
}

/// `GET /readyz`
pub async fn ready(call: Call) -> Result<Reply, Problem> {
    let answer = ask(|reply| call.app.service.ready(reply)).await;
    answer.map_err(|refusal| Problem::unserved(&refusal))?;
    Ok(Reply::json(&json!({"status": "ready"})))
}

/// `GET /metrics`
pub async fn metrics(call: Call) -> Result<Reply, Problem> {
    Ok(Reply::text("text/plain; version=0.0.4", call.app.metrics_text().into_bytes()))
}

/// `GET /openapi.json`
pub async fn openapi(call: Call) -> Result<Reply, Problem> {
    Ok(Reply::json(&call.app.documents.openapi))
}

/// `GET /docs`
pub async fn docs(call: Call) -> Result<Reply, Problem> {
    let documents = &call.app.documents;
    let page = Reply::text("text/html; charset=utf-8", documents.page.clone().into_bytes());
    Ok(page.with("Content-Security-Policy", documents.policy.clone()))
}
