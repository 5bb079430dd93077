//! The HTTP surface: Rocket carries the requests, one table of routes says what there is, one place
//! turns refusals into problems.
//!
//! Rocket's types and async stay inside this module. A request that waits for its turn holds no
//! thread; whatever computes runs on the blocking pool, never on Rocket's threads. Rocket's own
//! routing would repair paths (drop empty segments, replace what is not UTF-8), so one handler
//! takes every request and reads the raw path itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rocket::config::{Ident, LogLevel};
use rocket::data::{Data, ToByteUnit};
use rocket::http::{Header, Method, Status};
use rocket::route::{Handler, Outcome};
use rocket::tokio::io::AsyncReadExt;
use rocket::{Request, Response};

use crate::service::Service;

mod about;
mod access;
mod app;
mod ask;
mod asked;
mod call;
mod changes;
mod consumers;
mod datasets;
pub mod docs;
mod floor;
mod forward;
mod graphs;
mod headers;
mod jobs;
mod launch;
mod log_page;
mod lost_headers;
pub mod openapi;
mod page;
mod plans;
mod problem;
mod reply;
mod routes;
mod snapshot;
mod stream;
mod tail;

pub use access::{Access, AllowedHost, AllowedOrigin, InvalidAddress};
pub use app::HttpLimits;
pub use datasets::DatasetBody;
pub use floor::serve_floor;
pub use forward::{ForwardLimits, ForwardSecret, TooShort};
pub use jobs::JobBody;
pub use lost_headers::LostHeaders;
pub use plans::{PlanBody, graphviz, mermaid};
pub use problem::{Kind, Problem};
pub use routes::{Body, Class, ROUTES, Route};

use app::App;
use asked::Asked;
use call::Call;
use forward::Signed;
use headers::{FORWARDED, Headers};
use reply::{Content, Reply};

/// What every request is held to before its path is looked at.
#[derive(Clone)]
struct Entrance {
    access: Arc<Access>,
    lost_headers: LostHeaders,
}

impl Entrance {
    /// The request's headers. To be called once for each, from the task that serves it.
    ///
    /// # Errors
    /// [`Problem`] if they cannot be read, or name a host or an origin that is refused.
    fn admit(&self, request: &Request<'_>) -> Result<Headers, Problem> {
        let headers = Headers::read(request.headers(), &self.lost_headers.take())?;
        self.access.check(&headers)?;
        Ok(headers)
    }
}

/// Answers every request.
#[derive(Clone)]
struct Dispatcher {
    app: Arc<App>,
    entrance: Entrance,
}

#[rocket::async_trait]
impl Handler for Dispatcher {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let began = std::time::Instant::now();
        let is_write = !matches!(request.method(), Method::Get | Method::Head);
        let _in_flight = is_write.then(|| self.app.enter());
        let (route, outcome) = self.answer(request, data).await;
        let reply = outcome.unwrap_or_else(Reply::from);
        self.app.count(route, reply.status, began.elapsed());
        let mut response = into_response(reply);
        if self.app.is_ending() {
            response.set_header(Header::new("Connection", "close"));
        }
        Outcome::Success(response)
    }
}

impl Dispatcher {
    /// The route's id and the answer.
    async fn answer(
        &self,
        request: &Request<'_>,
        data: Data<'_>,
    ) -> (&'static str, Result<Reply, Problem>) {
        let raw_path = request.uri().path().raw().as_str();
        let admitted = self.entrance.admit(request);
        if let Ok(headers) = &admitted
            && raw_path == forward::PATH
            && headers.get(FORWARDED).is_some()
        {
            return ("forwarding", self.answer_node(request, headers, data).await);
        }
        let found = admitted.and_then(|headers| {
            find(raw_path, request.method().as_str()).map(|found| (headers, found))
        });
        let (headers, (route, parameters, path)) = match found {
            Ok(found) => found,
            Err(problem) => {
                discard(data, self.app.limits.body_bytes).await;
                return ("none", Err(problem));
            }
        };
        let outcome = async {
            let accepted = call::negotiate(&headers, route.media_types);
            let body = in_time(self.body(&headers, route, data)).await?;
            let query = call::read_query(request.uri(), route.query)?;
            let asked = Asked {
                method: route.method,
                target: request.uri().to_string(),
                path,
                parameters,
                query,
                headers,
                accepted: accepted?,
                body: body.into(),
                shutdown: request.rocket().shutdown(),
            };
            self.serve(route, Arc::new(asked), is_from_loopback(request)).await
        };
        (route.id, outcome.await)
    }

    /// Serves the request here, or passes it on.
    async fn serve(
        &self,
        route: &Route,
        asked: Arc<Asked>,
        is_from_loopback: bool,
    ) -> Result<Reply, Problem> {
        let (app, handler) = (&self.app, route.handler);
        let (service, forwarding) = (&app.service, &app.forwarding);
        let call = || Call::new(Arc::clone(app), Arc::clone(&asked));
        if asked.headers.get(FORWARDED).is_some() {
            if !route.takes_turn() {
                return Err(Problem::new(Kind::Forbidden, "no such request is passed on"));
            }
            let here = |forwarded| {
                let (call, in_flight) = (call().forwarded(forwarded), app.enter());
                async move {
                    let reply = handler(call).await;
                    drop(in_flight);
                    reply
                }
            };
            return forwarding.receive(service, &asked, is_from_loopback, here).await;
        }
        if route.takes_turn() && service.node().is_some() {
            let here = |applied| match applied {
                Some(applied) => handler(call().applied(applied)),
                None => handler(call()),
            };
            return forwarding.serve(service, &asked, here).await;
        }
        handler(call()).await
    }

    /// Answers what another node asks, which is of no route.
    async fn answer_node(
        &self,
        request: &Request<'_>,
        headers: &Headers,
        data: Data<'_>,
    ) -> Result<Reply, Problem> {
        discard(data, self.app.limits.body_bytes).await;
        let target = request.uri().to_string();
        let signed =
            Signed { method: request.method().as_str(), target: &target, headers, body: b"" };
        self.app.forwarding.answer(&self.app.service, &signed, is_from_loopback(request)).await
    }

    /// The body of a request that may have one, read to its end or refused.
    async fn body(
        &self,
        headers: &Headers,
        route: &Route,
        mut data: Data<'_>,
    ) -> Result<Vec<u8>, Problem> {
        let limit = self.app.limits.body_bytes;
        let empty = data.peek(1).await.is_empty();
        if let Err(problem) = check_media_type(headers, route, empty) {
            discard(data, limit).await;
            return Err(problem);
        }
        let mut stream = data.open(drained(limit).bytes());
        let mut body = Vec::new();
        let read = (&mut stream).take(limit.saturating_add(1)).read_to_end(&mut body).await;
        read.map_err(|error| {
            Problem::malformed("body", format!("the body could not be read: {error}"))
        })?;
        if body.len() as u64 <= limit {
            check_whole(headers, route, &body)?;
            return Ok(body);
        }
        drop(rocket::tokio::io::copy(&mut stream, &mut rocket::tokio::io::sink()).await);
        Err(Problem::new(Kind::TooLarge, format!("the body is larger than {limit} bytes"))
            .with("limit", limit.into()))
    }
}

/// Whether this machine has sent the request itself.
fn is_from_loopback(request: &Request<'_>) -> bool {
    request.remote().is_some_and(|remote| remote.ip().to_canonical().is_loopback())
}

/// What is known of a path: its route, the route's parameters as indices of segments, the segments.
type Found = (&'static Route, Vec<(&'static str, usize)>, Vec<String>);

fn find(raw_path: &str, method: &str) -> Result<Found, Problem> {
    let not_found = || {
        Problem::new(Kind::RouteNotFound, "there is nothing here; see /docs")
            .with("name", raw_path.into())
    };
    if raw_path == "/" {
        return Err(not_found());
    }
    let path = call::segments(raw_path)?;
    for route in ROUTES.iter().filter(|route| route.method == method) {
        if let Some(parameters) = route.matches(&path) {
            return Ok((route, parameters, path));
        }
    }
    let of_path = ROUTES.iter().filter(|route| route.matches(&path).is_some());
    let mut allowed: Vec<_> = of_path.map(|route| route.method).collect();
    if allowed.is_empty() {
        return Err(not_found());
    }
    // Rocket answers HEAD as GET, without the body.
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    let allow = allowed.join(", ");
    let problem = Problem::new(Kind::MethodNotAllowed, format!("this path has {allow}"));
    Err(problem.with("allowed", allowed.into()).allowing(allow))
}

/// A body must say that it is of a type that the route takes; a route that takes none must get
/// none. This also closes two doors that browsers leave open to any web page: a POST without a
/// media type, and a form whose field `_method` makes Rocket take it for a DELETE.
fn check_media_type(headers: &Headers, route: &Route, empty: bool) -> Result<(), Problem> {
    let given = headers.get("content-type").unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let supported = route.body_types();
    let takes = if supported.is_empty() { "no body".to_owned() } else { supported.join(" or ") };
    let detail = match media_type.as_str() {
        _ if empty && (supported.is_empty() || media_type.is_empty()) => return Ok(()),
        media_type if supported.contains(&media_type) => return Ok(()),
        "" => format!("the body has no content-type; this call takes {takes}"),
        media_type => format!("the body is `{media_type}`; this call takes {takes}"),
    };
    Err(Problem::new(Kind::UnsupportedMediaType, detail).with("supported", supported.into()))
}

/// A client that dies between head and body must not seem to have sent a shorter body: Rocket looks
/// at a body's beginning for reasons of its own, and drops the error if it fails there.
fn check_whole(headers: &Headers, route: &Route, body: &[u8]) -> Result<(), Problem> {
    let announced = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    let chunked = headers.get("transfer-encoding").is_some();
    let cut_off = match announced {
        Some(length) => length != body.len(),
        // Where a body can say nothing, none is as good.
        None => {
            chunked
                && body.is_empty()
                && !matches!(route.body, Body::None | Body::OptionalJson("NoFields"))
        }
    };
    if cut_off {
        let ended = format!("the body ended after {} bytes; was it cut off?", body.len());
        return Err(Problem::malformed("body", ended + " To send none, say Content-Length: 0"));
    }
    Ok(())
}

/// How much of a body is read and thrown away, so that the client comes to read the answer. Beyond,
/// the connection is closed.
fn drained(limit: u64) -> u64 {
    limit.saturating_mul(16)
}

async fn discard(data: Data<'_>, limit: u64) {
    let mut stream = data.open(drained(limit).bytes());
    let mut nowhere = rocket::tokio::io::sink();
    drop(
        rocket::tokio::time::timeout(BODY_WAIT, rocket::tokio::io::copy(&mut stream, &mut nowhere))
            .await,
    );
}

/// How long a body may take to arrive, from its first bytes on: a client that stalls then holds its
/// connection, and a shutdown, no longer than that. Rocket 0.5 waits for the first bytes itself,
/// before it asks us, and without a limit; only a proxy in front can bound that.
const BODY_WAIT: Duration = Duration::from_secs(30);

async fn in_time<T>(body: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let late = || {
        Problem::malformed(
            "body",
            format!("the body did not arrive within {} s", BODY_WAIT.as_secs()),
        )
    };
    rocket::tokio::time::timeout(BODY_WAIT, body).await.unwrap_or_else(|_| Err(late()))
}

/// What a stream's connection holds, however little is sent.
const STREAM_CHUNK_BYTES: usize = 16 << 10;

fn into_response(reply: Reply) -> Response<'static> {
    let mut response = Response::build();
    response.status(Status::new(reply.status));
    if !reply.media_type.is_empty() {
        response.raw_header("Content-Type", reply.media_type);
    }
    for (name, value) in reply.headers {
        response.header(Header::new(name, value));
    }
    match reply.body {
        Content::Whole(body) => {
            // Rocket sends 4 KiB at a time otherwise, and wakes two tasks for each.
            response.max_chunk_size(body.len().clamp(4 << 10, 64 << 10));
            response.sized_body(body.len(), std::io::Cursor::new(body));
        }
        Content::Streamed(body) => {
            response.max_chunk_size(STREAM_CHUNK_BYTES);
            response.streamed_body(body);
        }
    }
    response.finalize()
}

const UNKNOWN_METHOD: &str = "";

/// What Rocket itself refuses, before a route is looked for, and panics.
#[derive(Clone)]
struct LastResort {
    entrance: Entrance,
}

#[rocket::async_trait]
impl rocket::catcher::Handler for LastResort {
    async fn handle<'r>(
        &self,
        status: Status,
        request: &'r Request<'_>,
    ) -> rocket::catcher::Result<'r> {
        let raw_path = request.uri().path().raw().as_str();
        let refused = self.entrance.admit(request).err();
        let problem = match (status.code, refused) {
            (400..=499, Some(refused)) => refused,
            // A method that Rocket does not know; of a target that is no path it leaves the root.
            (400, _) if raw_path != "/" => match find(raw_path, UNKNOWN_METHOD) {
                Ok(_) => unreachable!("no route has it"),
                Err(problem) => problem,
            },
            (400..=499, _) => Problem::malformed(
                "request",
                "this is no HTTP request that can be understood: look at the method and the path",
            ),
            _ => Problem::new(Kind::Internal, "the request could not be answered; see the log")
                .with("outcome", "unknown".into()),
        };
        Ok(into_response(problem.into()))
    }
}

/// Whether `address` can be listened on now. [`serve`] binds it again: Rocket takes no socket.
///
/// # Errors
/// Such as that the address is in use.
pub fn check_address(address: SocketAddr) -> std::io::Result<()> {
    std::net::TcpListener::bind(address).map(drop)
}

/// Serves until SIGINT or SIGTERM; then finishes what was accepted. `access` says which hosts and
/// origins requests may name; with the `secret`, writes are passed on between machines. `ready` is
/// called with the address once requests are taken.
///
/// # Errors
/// Rocket's, such as that the address is in use.
pub fn serve(
    service: Service,
    address: SocketAddr,
    limits: HttpLimits,
    access: Access,
    lost_headers: LostHeaders,
    secret: Option<ForwardSecret>,
    ready: impl FnOnce(SocketAddr) + Send + Sync + 'static,
) -> Result<(), Box<rocket::Error>> {
    let config = rocket::Config {
        address: address.ip(),
        port: address.port(),
        ident: Ident::try_new("Fencepost").expect("a valid header"),
        log_level: LogLevel::Off,
        cli_colors: false,
        shutdown: launch::ends_within(limits.shutdown_grace, limits.shutdown_mercy),
        ..rocket::Config::release_default()
    };
    let app = Arc::new(App::new(service, limits, docs::documents(), secret));
    let entrance = Entrance { access: Arc::new(access), lost_headers };
    let dispatcher = Dispatcher { app: Arc::clone(&app), entrance: entrance.clone() };
    let methods = [
        Method::Get,
        Method::Put,
        Method::Post,
        Method::Delete,
        Method::Options,
        Method::Trace,
        Method::Connect,
        Method::Patch,
    ];
    let routes: Vec<rocket::Route> = methods
        .iter()
        .map(|&method| rocket::Route::new(method, "/<path..>", dispatcher.clone()))
        .collect();
    let announce = rocket::fairing::AdHoc::on_liftoff("announce", move |rocket| {
        let bound = SocketAddr::new(rocket.config().address, rocket.config().port);
        // It may ask the store.
        Box::pin(async move {
            drop(rocket::tokio::task::spawn_blocking(move || ready(bound)).await);
        })
    });
    let leave = rocket::fairing::AdHoc::on_shutdown("end turns and live tails", move |_| {
        Box::pin(async move {
            app.end_turns().await;
            app.see_tails_off().await;
        })
    });
    let shield = rocket::shield::Shield::new().enable(rocket::shield::NoSniff::Enable);
    let catcher = rocket::Catcher::new(None, LastResort { entrance });
    let server = rocket::custom(config)
        .mount("/", routes)
        .register("/", vec![catcher])
        .attach(announce)
        .attach(leave)
        .attach(shield);
    launch::launch(server)
}
