//! A service over HTTP, of one node or several: one keep-alive connection a client, nothing sent
//! twice to a node that may have done it. Where one of the nodes leads the graph, a write that
//! another refuses is sent to that one, on a second connection.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{Method, Request as HttpRequest, Response, Uri};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::{Completion, Connection, Target};
use crate::address::{self, Address};
use crate::bench::BenchError;
use crate::bench::request::{Headers, Listed, Outcome, Request};
use crate::bench::verbatim::Verbatim;
use crate::graph::{CanonicalJson, JobSpecification, Name, Operation, Side, Step, hex};
use crate::object::{objects_both_ways, objects_only};
use crate::service::{Accepted, Service};
use crate::wire::{JobPatchJson, JobWire, OperationsJson};

/// The longest answer that is read, in bytes: a plan of a million jobs with long names.
const ANSWER_BYTES: u64 = 4 << 30;
const PAGE_JOBS: usize = 1_000;
/// For a history, of a plan up to this length, in bytes, all is read and not only counted: what a
/// client takes to do so is not measured, but its processor may be the server's.
const PLAN_BYTES_READ: usize = 64 << 10;

/// The nodes of a service and one of its graphs.
pub struct HttpTarget {
    urls: Vec<String>,
    graph: Name,
    timeout: Duration,
    /// How many connections there were.
    connected: AtomicUsize,
}

impl HttpTarget {
    /// `urls` as in `http://127.0.0.1:8000`, at least one. Nothing is sent yet.
    ///
    /// # Errors
    /// [`BenchError::Usage`] if one is no such URL.
    pub fn new(urls: &[String], graph: Name, timeout: Duration) -> Result<Self, BenchError> {
        let urls = urls.iter().map(|url| address::server_url(url).map_err(BenchError::Usage));
        let urls: Vec<String> = urls.collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(BenchError::Usage("a service has at least one node".to_owned()));
        }
        Ok(Self { urls, graph, timeout, connected: AtomicUsize::new(0) })
    }
}

impl Target for HttpTarget {
    fn describe(&self) -> String {
        self.urls.iter().map(|url| address::redacted(url)).collect::<Vec<_>>().join(", ")
    }

    fn connect(&self) -> Box<dyn Connection> {
        let node = self.connected.fetch_add(1, Ordering::Relaxed);
        Box::new(HttpConnection::new(self.urls.clone(), node, self.graph.clone(), self.timeout))
    }

    fn nodes(&self) -> usize {
        self.urls.len()
    }

    fn metrics(&self) -> Vec<Option<String>> {
        let ask = |url: &String| {
            let connection =
                HttpConnection::new(vec![url.clone()], 0, self.graph.clone(), self.timeout);
            let raw = connection.exchange(Message::get(format!("{url}/metrics"))).ok()?;
            String::from_utf8(raw.body).ok().filter(|_| raw.status == 200)
        };
        let named_first = |(at, url): &(usize, &String)| !self.urls[..*at].contains(url);
        self.urls.iter().enumerate().filter(named_first).map(|(_, url)| ask(url)).collect()
    }

    fn service(&self) -> Option<&Service> {
        None
    }
}

/// Looks a server's name up once; for an agent that asks one server only. ureq's own starts a
/// thread for every request, even on a connection that is open: on processors that driver and
/// server share, it took more of them than a server that reads.
#[derive(Debug, Default)]
struct OnceResolver {
    resolver: DefaultResolver,
    found: OnceLock<ResolvedSocketAddrs>,
}

impl Resolver for OnceResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        if let Some(found) = self.found.get() {
            return Ok(found.clone());
        }
        let found = self.resolver.resolve(uri, config, timeout)?;
        Ok(self.found.get_or_init(|| found).clone())
    }
}

struct HttpConnection {
    agent: Agent,
    /// Of the node that is asked.
    url: String,
    graph_url: String,
    /// All nodes, and how many were gone through so far.
    urls: Vec<String>,
    node: usize,
    graph: Name,
    timeout: Duration,
    /// To the node that leads the graph, once another has said so: for writes.
    leader: Option<Box<HttpConnection>>,
    /// Whether answers are to hold what only a history tells.
    evidence: bool,
}

/// What goes over the wire.
struct Message {
    method: Method,
    url: String,
    body: Option<Vec<u8>>,
    if_none_match: Option<u64>,
    /// `If-Match: *`
    if_exists: bool,
    idempotency_key: Option<String>,
}

impl Message {
    fn new(method: Method, url: String, body: Option<Vec<u8>>) -> Self {
        Self { method, url, body, if_none_match: None, if_exists: false, idempotency_key: None }
    }

    fn get(url: String) -> Self {
        Self::new(Method::GET, url, None)
    }

    fn with_body(method: Method, url: String, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("names and canonical JSON are always JSON");
        Self::new(method, url, Some(body))
    }

    fn delete(url: String) -> Self {
        Self::new(Method::DELETE, url, None)
    }

    /// A PUT whose path says all. Its empty body is announced as such: without one, ureq would
    /// begin a body of unknown length.
    fn bare_put(url: String) -> Self {
        Self::new(Method::PUT, url, Some(Vec::new()))
    }
}

// The bodies of requests. A specification is in them as its text: no number is read.

#[derive(Serialize)]
struct PlanBody<'r> {
    datasets: &'r [Name],
    jobs: &'r [Name],
    stop_at: &'r [Name],
}

#[derive(Serialize)]
struct ChangesetBody<'r> {
    operations: OperationsJson<'r>,
}

#[derive(Serialize)]
struct JobBody<'r> {
    inputs: &'r [Name],
    outputs: &'r [Name],
    spec: &'r CanonicalJson,
}

#[derive(Serialize)]
struct NewJobBody<'r> {
    name: &'r Name,
    inputs: &'r [Name],
    outputs: &'r [Name],
    spec: &'r CanonicalJson,
}

#[derive(Serialize)]
struct DatasetBody<'r> {
    metadata: &'r CanonicalJson,
}

/// An answer as it came.
struct Raw {
    at: Instant,
    status: u16,
    headers: Headers,
    body: Vec<u8>,
}

impl Raw {
    /// The version that it says it was computed at.
    fn version(&self) -> Option<u64> {
        self.headers.version.as_ref()?.parse().ok()
    }
}

impl Connection for HttpConnection {
    fn move_on(&mut self) {
        let urls = std::mem::take(&mut self.urls);
        let next = Self::new(urls, self.node + 1, self.graph.clone(), self.timeout);
        *self = Self { evidence: self.evidence, ..next };
    }

    /// The one that it asks itself, whichever leads.
    fn node(&self) -> usize {
        self.node % self.urls.len()
    }

    fn skip_evidence(&mut self) {
        self.evidence = false;
        if let Some(leader) = &mut self.leader {
            leader.skip_evidence();
        }
    }

    fn perform(&mut self, request: &Request) -> Completion {
        if !request.writes() {
            return self.ask(request);
        }
        let completion = match &self.leader {
            Some(leader) => leader.ask(request),
            None => self.ask(request),
        };
        match &completion.outcome {
            // Not applied: it is the same request still.
            Outcome::Refused { problem, .. } => {
                self.leader = self.leader_named_in(problem).map(Box::new);
                let Some(leader) = &self.leader else { return completion };
                let asked = leader.ask(request);
                match asked.outcome {
                    // Who has died is told as the leader until another takes over.
                    Outcome::Unreachable(_) => {
                        self.leader = None;
                        Completion { at: asked.at, ..completion }
                    }
                    _ => asked,
                }
            }
            Outcome::Unreachable(_) | Outcome::Unknown { .. } => {
                self.leader = None;
                completion
            }
            _ => completion,
        }
    }

    fn first_jobs(&mut self, limit: usize) -> Result<Vec<JobSpecification>, String> {
        #[derive(Deserialize)]
        #[serde(remote = "Self")]
        struct Page {
            items: Vec<JobWire>,
            next_cursor: Option<String>,
        }
        objects_only!(Page);
        let mut jobs = Vec::new();
        let mut cursor = String::new();
        while jobs.len() < limit {
            let count = PAGE_JOBS.min(limit - jobs.len());
            let url = format!("{}/jobs?limit={count}{cursor}", self.graph_url);
            let raw = self.exchange(Message::get(url)).map_err(|error| error.to_string())?;
            let page: Page = serde_json::from_slice(&raw.body).map_err(|_| {
                let body = String::from_utf8_lossy(&raw.body);
                format!("the list of jobs was answered {} {body}", raw.status)
            })?;
            if page.items.is_empty() && page.next_cursor.is_some() {
                return Err("the list of jobs has an empty page before its end".to_owned());
            }
            for job in page.items {
                jobs.push(job.into_job(None).map_err(|invalid| invalid.to_string())?);
            }
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={}", encoded(&next)),
                None => break,
            }
        }
        Ok(jobs)
    }
}

/// A problem that says who leads the graph.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Led {
    leader: Option<String>,
}

objects_only!(Led);

impl HttpConnection {
    fn ask(&self, request: &Request) -> Completion {
        let message = self.message(request);
        match self.exchange(message) {
            Ok(raw) => {
                let outcome = understand(request.asked(), &raw, self.evidence);
                let accepted = matches!(outcome, Outcome::Accepted(_));
                let is_kept = self.evidence && accepted;
                let written = is_kept.then(|| Verbatim::parse(&raw.body)).flatten();
                let about_graph = !matches!(request, Request::Fetch(_));
                let headers = (self.evidence && about_graph).then_some(raw.headers);
                Completion { at: raw.at, outcome, headers, written }
            }
            Err(error) => {
                Completion::without_http(Instant::now(), without_answer(&error, &self.url))
            }
        }
    }

    /// A connection to the leader that the problem names, if it is one of the nodes.
    fn leader_named_in(&self, problem: &Verbatim) -> Option<Self> {
        let leader = problem.read::<Led>()?.leader?;
        let node = self.urls.iter().position(|url| *url == leader)?;
        let leader = Self::new(self.urls.clone(), node, self.graph.clone(), self.timeout);
        Some(Self { evidence: self.evidence, ..leader })
    }

    /// To node `node`, counted on after the last from the first again.
    fn new(urls: Vec<String>, node: usize, graph: Name, timeout: Duration) -> Self {
        // Neither redirects nor proxies: what is measured is this server and nothing else.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .timeout_global(Some(timeout))
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::new(), OnceResolver::default());
        let url = urls[node % urls.len()].clone();
        let graph_url = format!("{url}/v1/graphs/{}", encoded(graph.as_str()));
        Self { agent, url, graph_url, urls, node, graph, timeout, leader: None, evidence: true }
    }

    fn exchange(&self, message: Message) -> Result<Raw, ureq::Error> {
        let mut request = HttpRequest::builder().method(message.method).uri(&message.url);
        if let Some(version) = message.if_none_match {
            request = request.header("If-None-Match", format!("\"{version}\""));
        }
        if message.if_exists {
            request = request.header("If-Match", "*");
        }
        if let Some(key) = &message.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let mut response = match message.body {
            Some(body) => {
                let request = if body.is_empty() {
                    request
                } else {
                    request.header("Content-Type", "application/json")
                };
                self.agent.run(request.body(body).map_err(ureq::Error::Http)?)?
            }
            None => self.agent.run(request.body(()).map_err(ureq::Error::Http)?)?,
        };
        let body = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec()?;
        let at = Instant::now();
        let headers = headers_of(&response, self.evidence);
        Ok(Raw { at, status: response.status().as_u16(), headers, body })
    }

    fn message(&self, request: &Request) -> Message {
        match request.graph() {
            None => self.message_to(&self.graph_url, request),
            Some(graph) => {
                let url = format!("{}/v1/graphs/{}", self.url, encoded(graph.as_str()));
                self.message_to(&url, request.asked())
            }
        }
    }

    /// About the graph that is at that URL.
    fn message_to(&self, graph: &str, request: &Request) -> Message {
        match request {
            // A graph is in no other.
            Request::OfGraph { request, .. } => self.message_to(graph, request),
            Request::CreateGraph => Message::bare_put(graph.to_owned()),
            Request::DeleteGraph => {
                Message { if_exists: true, ..Message::delete(graph.to_owned()) }
            }
            Request::Keyed { key, write } => {
                Message { idempotency_key: Some(key.clone()), ..self.message_to(graph, write) }
            }
            Request::Write(steps) => write_message(graph, request.call(), steps),
            Request::Create(job) => {
                let JobSpecification { name, inputs, outputs, spec } = job;
                let body = NewJobBody { name, inputs, outputs, spec };
                Message::with_body(Method::POST, format!("{graph}/jobs"), &body)
            }
            Request::Page { of, limit, after } => {
                let list = if *of == Listed::Jobs { "jobs" } else { "datasets" };
                let cursor = after.as_ref().map_or_else(String::new, |before| {
                    format!("&cursor={}", encoded(&before.cursor))
                });
                Message::get(format!("{graph}/{list}?limit={limit}{cursor}"))
            }
            Request::Job { name, if_none_match } => {
                let at_least = match request.at_least() {
                    Some(version) => format!("?at_least={version}"),
                    None => String::new(),
                };
                let url = format!("{graph}/jobs/{}{at_least}", encoded(name.as_str()));
                Message { if_none_match: *if_none_match, ..Message::get(url) }
            }
            Request::Dataset(name) => {
                Message::get(format!("{graph}/datasets/{}", encoded(name.as_str())))
            }
            Request::Plan(plan) => {
                let (datasets, jobs, stop_at) = (&plan.datasets, &plan.jobs, &plan.stop_at);
                let body = PlanBody { datasets, jobs, stop_at };
                Message::with_body(Method::POST, format!("{graph}/plans"), &body)
            }
            Request::Digest => Message::get(format!("{graph}/digest")),
            Request::Graph => Message::get(graph.to_owned()),
            Request::Fetch(path) => Message::get(format!("{}{path}", self.url)),
        }
    }
}

fn write_message(graph: &str, call: &str, steps: &[Step]) -> Message {
    let single = match steps {
        [step] if call != "applyChangeset" => Some(&step.operation),
        _ => None,
    };
    let job_url = |name: &Name| format!("{graph}/jobs/{}", encoded(name.as_str()));
    let dataset_url = |name: &Name| format!("{graph}/datasets/{}", encoded(name.as_str()));
    let edge_url = |side: Side, job: &Name, dataset: &Name| {
        let list = if side == Side::Input { "inputs" } else { "outputs" };
        format!("{}/{list}/{}", job_url(job), encoded(dataset.as_str()))
    };
    match single {
        None => Message::with_body(
            Method::POST,
            format!("{graph}/changesets"),
            &ChangesetBody { operations: OperationsJson(steps) },
        ),
        Some(Operation::PutJob(job)) => {
            let (inputs, outputs) = (&job.inputs, &job.outputs);
            let body = JobBody { inputs, outputs, spec: &job.spec };
            Message::with_body(Method::PUT, job_url(&job.name), &body)
        }
        Some(Operation::PatchJob { name, patch }) => {
            Message::with_body(Method::PATCH, job_url(name), &JobPatchJson(patch))
        }
        Some(Operation::DeleteJob { name }) => Message::delete(job_url(name)),
        Some(Operation::AddEdge { side, job, dataset }) => {
            Message::bare_put(edge_url(*side, job, dataset))
        }
        Some(Operation::RemoveEdge { side, job, dataset }) => {
            Message::delete(edge_url(*side, job, dataset))
        }
        Some(Operation::PutDataset { name, metadata }) => {
            Message::with_body(Method::PUT, dataset_url(name), &DatasetBody { metadata })
        }
        Some(Operation::DeleteDataset { name }) => Message::delete(dataset_url(name)),
    }
}

fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// The version alone, but for a history.
fn headers_of<B>(response: &Response<B>, evidence: bool) -> Headers {
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Headers {
        version: header("Fencepost-Version"),
        etag: evidence.then(|| header("ETag")).flatten(),
        location: evidence.then(|| header("Location")).flatten(),
    }
}

fn without_answer(error: &ureq::Error, url: &str) -> Outcome {
    let never_sent = match error {
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        ureq::Error::Timeout(timeout) => {
            matches!(timeout, ureq::Timeout::Resolve | ureq::Timeout::Connect)
        }
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        _ => false,
    };
    let reason = match Address::parse(url) {
        Ok(address) => address.without_password(error.to_string()),
        Err(_) => error.to_string(),
    };
    let reason = format!("{}: {reason}", address::redacted(url));
    if never_sent {
        Outcome::Unreachable(reason)
    } else {
        Outcome::Unknown { reason, problem: None }
    }
}

fn understand(request: &Request, raw: &Raw, evidence: bool) -> Outcome {
    let answer = match (raw.status, request) {
        (200..=299, Request::Fetch(_)) => {
            #[derive(Serialize)]
            struct Fetched {
                status: u16,
                bytes: usize,
            }
            let answer = Fetched { status: raw.status, bytes: raw.body.len() };
            return Outcome::Answered { version: None, answer: Verbatim::of(&answer) };
        }
        (_, Request::Fetch(_)) => None,
        (200 | 201, request) if request.writes() => accepted(raw),
        (304, Request::Job { if_none_match: Some(_), .. }) => {
            raw.version().map(|version| Outcome::NotModified { version })
        }
        (200, request) => answered(request, raw, evidence),
        (400.., _) => {
            Verbatim::parse(&raw.body).map(|problem| Outcome::of_problem(raw.status, problem))
        }
        _ => None,
    };
    answer.unwrap_or_else(|| {
        let text: String = String::from_utf8_lossy(&raw.body).chars().take(500).collect();
        let is_fetch = matches!(request, Request::Fetch(_));
        let lacks = match raw.version() {
            None if raw.status < 300 && !is_fetch => " without a header Fencepost-Version",
            _ => "",
        };
        Outcome::Undocumented(format!("{} to {}{lacks}: {text}", raw.status, request.call()))
    })
}

/// That its body says the same as its headers is for whoever judges the history.
fn accepted(raw: &Raw) -> Option<Outcome> {
    #[derive(Deserialize)]
    #[serde(remote = "Self")]
    struct Written {
        changed: bool,
        etag: Option<String>,
    }
    objects_only!(Written);
    let Written { changed, etag } = serde_json::from_slice(&raw.body).ok()?;
    let version = raw.version()?;
    let subject_version = match etag {
        Some(tag) => Some(tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()?),
        None => None,
    };
    let created = raw.status == 201;
    Some(Outcome::Accepted(Accepted { version, changed, created, subject_version }))
}

fn answered(request: &Request, raw: &Raw, evidence: bool) -> Option<Outcome> {
    let answer = match request {
        Request::Plan(_) => plan_answer(&raw.body, evidence)?,
        _ => Verbatim::parse(&raw.body)?,
    };
    Some(Outcome::Answered { version: Some(raw.version()?), answer })
}

/// What a history holds of a plan. The jobs of a large one are counted and not kept, and so are all
/// where nobody judges them.
fn plan_answer(body: &[u8], evidence: bool) -> Option<Verbatim> {
    #[derive(Deserialize, Serialize)]
    #[serde(remote = "Self")]
    struct Told<'b> {
        #[serde(borrow)]
        graph: &'b RawValue,
        #[serde(borrow)]
        version: &'b RawValue,
        digest: String,
    }
    #[derive(Deserialize)]
    #[serde(remote = "Self")]
    struct Jobs {
        jobs: Vec<IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(remote = "Self")]
    struct Parts {
        jobs: Vec<String>,
        stages: Vec<Vec<String>>,
        dependencies: Vec<(String, String)>,
    }
    #[derive(Serialize)]
    struct Kept<'b> {
        #[serde(flatten)]
        told: Told<'b>,
        jobs: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        digest_of_body: Option<String>,
    }
    objects_both_ways!(Told<'b>);
    objects_only!(Jobs, Parts);
    let told: Told<'_> = serde_json::from_slice(body).ok()?;
    if !evidence || body.len() > PLAN_BYTES_READ {
        let Jobs { jobs } = serde_json::from_slice(body).ok()?;
        return Some(Verbatim::of(&Kept { told, jobs: jobs.len(), digest_of_body: None }));
    }
    let Parts { jobs, stages, dependencies } = serde_json::from_slice(body).ok()?;
    let mut hash = Sha256::new();
    for (stage, names) in stages.iter().enumerate() {
        names.iter().for_each(|name| hash.update(format!("job\t{stage}\t{name}\n")));
    }
    for (before, after) in &dependencies {
        hash.update(format!("dep\t{before}\t{after}\n"));
    }
    // A list of jobs that is not that of the stages is no plan.
    let digest = hex(&hash.finalize());
    let same_jobs = stages.iter().flatten().eq(&jobs);
    let digest = if same_jobs { digest } else { "jobs are not those of the stages".to_owned() };
    Some(Verbatim::of(&Kept { told, jobs: jobs.len(), digest_of_body: Some(digest) }))
}
