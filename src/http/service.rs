//! About the service itself.

use serde_json::json;

use super::call::{Call, ask};
use super::problem::Problem;
use super::reply::Reply;
use super::{docs, openapi};

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
pub async fn openapi(_: Call) -> Result<Reply, Problem> {
    Ok(Reply::json(&openapi::document()))
}

/// `GET /docs`
pub async fn docs(_: Call) -> Result<Reply, Problem> {
    let page = Reply::text("text/html; charset=utf-8", docs::page().into_bytes());
    Ok(page.with("Content-Security-Policy", docs::policy()))
}
