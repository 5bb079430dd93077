//! What no design can be quicker than: a server of this stack that answers writes at once. It reads
//! a request as the service does, judges nothing, keeps nothing, and answers in the same words. For
//! measuring; what it answers is not true.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rocket::config::LogLevel;
use rocket::data::{Data, ToByteUnit};
use rocket::http::{Method, Status};
use rocket::route::{Handler, Outcome};
use rocket::{Request, Response};
use serde_json::json;

use super::launch::{ends_within, launch};
use super::problem::{Kind, Problem};
use super::reply::Reply;
use super::{call, into_response};
use crate::graph::Name;
use crate::service::Accepted;
use crate::wire::JobWire;

/// The largest body, in bytes.
const BODY_BYTES: u64 = 16 << 20;
/// What a server that is told to end gives to requests, and then to connections.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Floor {
    version: Arc<AtomicU64>,
}

impl Floor {
    /// The answer to a request with this path and body.
    fn answer(&self, method: Method, raw_path: &str, body: &[u8]) -> Result<Reply, Problem> {
        let segments = call::segments(raw_path)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let malformed = |what: &dyn std::fmt::Display| Problem::malformed("body", what.to_string());
        let name = |text: &str| Name::new(text).map_err(|error| malformed(&error));
        let ["v1", "graphs", graph, rest @ ..] = segments.as_slice() else {
            return Err(Problem::new(Kind::RouteNotFound, "there is nothing here"));
        };
        let graph = name(graph)?;
        let version = self.version.load(Ordering::Relaxed);
        match (method, rest) {
            (Method::Put, []) => Ok(Reply::written(&graph, accepted(version, false), false)),
            (Method::Put, ["jobs", job]) => {
                let job = name(job)?;
                let read: JobWire =
                    serde_json::from_slice(body).map_err(|error| malformed(&error))?;
                read.into_job(Some(&job))?;
                let version = 1 + self.version.fetch_add(1, Ordering::Relaxed);
                Ok(Reply::written(&graph, accepted(version, true), false))
            }
            (Method::Get, []) => {
                let counts = json!({"name": graph, "version": version, "jobs": 0, "datasets": 0, "edges": 0});
                Ok(Reply::json(&counts).at_version(version))
            }
            (Method::Get, ["digest"]) => {
                let digest = json!({"graph": graph, "version": version, "digest": "0"});
                Ok(Reply::json(&digest).at_version(version))
            }
            (Method::Get, ["jobs", job]) => {
                let problem = Problem::new(Kind::JobNotFound, format!("there is no job `{job}`"));
                Err(problem.decided_at(&graph, version))
            }
            _ => Err(Problem::new(Kind::RouteNotFound, "there is nothing here")),
        }
    }
}

fn accepted(version: u64, created: bool) -> Accepted {
    Accepted { version, changed: created, created, subject_version: created.then_some(version) }
}

#[rocket::async_trait]
impl Handler for Floor {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let body = match data.open(BODY_BYTES.bytes()).into_bytes().await {
            Ok(body) => body.into_inner(),
            Err(_) => return Outcome::Error(Status::BadRequest),
        };
        let path = request.uri().path().raw().as_str();
        let answer = self.answer(request.method(), path, &body);
        let response: Response<'static> = into_response(answer.unwrap_or_else(Reply::from));
        Outcome::Success(response)
    }
}

/// Serves until SIGINT or SIGTERM. `ready` is called with the address.
///
/// # Errors
/// Rocket's, such as that the address is in use.
pub fn serve_floor(
    address: SocketAddr,
    ready: impl FnOnce(SocketAddr) + Send + Sync + 'static,
) -> Result<(), Box<rocket::Error>> {
    let config = rocket::Config {
        address: address.ip(),
        port: address.port(),
        log_level: LogLevel::Off,
        cli_colors: false,
        shutdown: ends_within(ENDS_WITHIN, ENDS_WITHIN),
        ..rocket::Config::release_default()
    };
    let floor = Floor::default();
    let routes: Vec<rocket::Route> = [Method::Get, Method::Put]
        .into_iter()
        .map(|method| rocket::Route::new(method, "/<path..>", floor.clone()))
        .collect();
    let announce = rocket::fairing::AdHoc::on_liftoff("announce", move |rocket| {
        ready(SocketAddr::new(rocket.config().address, rocket.config().port));
        Box::pin(async {})
    });
    let server = rocket::custom(config).mount("/", routes).attach(announce);
    launch(server)
}
