//! A thin HTTP client: one request, one answer, each on a connection of its own. Neither redirects
//! nor proxies; no path is tidied, and only ureq's own headers are added.

use std::io::{self, Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use crate::address::{self, Address};

/// How long a server may take for an answer. Longer than the 5 s that a read may wait for a
/// version.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How much of an answer is read where nothing may come.
const BEHIND_BYTES_MAX: u64 = 64 << 10;

/// Asks one server.
pub struct Client {
    agent: Agent,
    url: String,
}

/// A request, before it is sent.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    /// From the slash after the host on, already percent-encoded.
    pub path: String,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Method and path of the request, for messages.
    pub call: String,
    pub status: u16,
    pub body: Vec<u8>,
    headers: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody takes connections: nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The connection was lost, the answer took too long, or it is no HTTP.
    #[error("{0}")]
    Lost(String),
}

impl Client {
    /// Of the server at `url`, which is checked already. Nothing is sent yet.
    pub fn new(url: String) -> Self {
        // A connection for each request: how long a server keeps one open is not the subject.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build();
        Self { agent: config.new_agent(), url }
    }

    /// Whether anybody answers, whatever it is.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub fn greet(&self) -> Result<(), NoAnswer> {
        self.send(&Call::new(Method::GET, "/v1/graphs?limit=1".to_owned())).map(drop)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`NoAnswer`]; an answer of whatever status is none.
    pub fn send(&self, call: &Call) -> Result<Answer, NoAnswer> {
        let described = call.described();
        let response = self.start(call)?;
        let (parts, mut body) = response.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.no_answer(&error))?;
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        Ok(Answer { call: described, status, body, headers })
    }

    /// Sends a request whose answer does not end: its head as an answer without a body, and the
    /// body as it comes, for at most [`ANSWER_TIMEOUT`].
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub fn open(&self, call: &Call) -> Result<(Answer, Box<dyn Read>), NoAnswer> {
        let described = call.described();
        let (parts, body) = self.start(call)?.into_parts();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        let head = Answer { call: described, status, body: Vec::new(), headers };
        Ok((head, Box::new(body.into_reader().take(ANSWER_BYTES_MAX))))
    }

    /// What the server sends after the head of its answer, whether or not it may. At most
    /// [`BEHIND_BYTES_MAX`] are read. For requests without a body.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub fn behind_the_head(&self, call: &Call) -> Result<Vec<u8>, NoAnswer> {
        let address = Address::parse(&self.url).map_err(|why| NoAnswer::Lost(why.to_owned()))?;
        let place = &address.place;
        let lost = |error: io::Error| NoAnswer::Lost(error.to_string());
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {place}\r\n", call.method, call.path);
        for (name, value) in &call.headers {
            head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value));
        }
        head += "Connection: close\r\n\r\n";
        let mut stream = TcpStream::connect(address.place_with_port("80")).map_err(lost)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(lost)?;
        stream.write_all(head.as_bytes()).map_err(lost)?;
        let mut all = Vec::new();
        stream.take(BEHIND_BYTES_MAX).read_to_end(&mut all).map_err(lost)?;
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| NoAnswer::Lost("it is no HTTP".to_owned()))?;
        Ok(all.split_off(end + 4))
    }

    fn start(&self, call: &Call) -> Result<Response<ureq::Body>, NoAnswer> {
        let url = format!("{}{}", self.url, call.path);
        let mut request = Request::builder().method(call.method.clone()).uri(url);
        for (name, value) in &call.headers {
            let value = HeaderValue::from_bytes(value).map_err(not_sent)?;
            request = request.header(*name, value);
        }
        let sent = match &call.body {
            Some(body) => self.agent.run(request.body(body.clone()).map_err(not_sent)?),
            None => self.agent.run(request.body(()).map_err(not_sent)?),
        };
        sent.map_err(|error| self.no_answer(&error))
    }

    fn no_answer(&self, error: &ureq::Error) -> NoAnswer {
        let never_sent = match error {
            ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(timeout) => {
                matches!(timeout, ureq::Timeout::Resolve | ureq::Timeout::Connect)
            }
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            _ => false,
        };
        let reason = match Address::parse(&self.url) {
            Ok(address) => address.without_password(error.to_string()),
            Err(_) => error.to_string(),
        };
        let reason = format!("{}: {reason}", address::redacted(&self.url));
        if never_sent { NoAnswer::Unreachable(reason) } else { NoAnswer::Lost(reason) }
    }
}

/// What a case asks was made of an answer that the server gave before.
fn not_sent(error: impl std::fmt::Display) -> NoAnswer {
    NoAnswer::Lost(format!("it could not be asked with what it had answered: {error}"))
}

impl Call {
    /// Without headers and body.
    pub fn new(method: Method, path: String) -> Self {
        Self { method, path, headers: Vec::new(), body: None }
    }

    fn described(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Answer {
    /// `None` if it is not there; what is not UTF-8 in it is replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// `None` if the body is no JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether it says that the server was too busy to decide.
    pub fn says_busy(&self) -> bool {
        self.status == 503
            && self.json().is_some_and(|told| {
                told["outcome"] == "not_applied"
                    && told["type"] != "urn:fencepost:problem:version_not_reached"
            })
    }

    /// The body as text; what is not UTF-8 in it is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and body as messages show them.
    pub fn shown(&self) -> String {
        /// The longest body in a message, in characters.
        const BODY_CHARACTERS_MAX: usize = 400;
        let text = self.text();
        let mut shown: String = text.chars().take(BODY_CHARACTERS_MAX).collect();
        if shown.len() < text.len() {
            shown += "…";
        }
        let reason = StatusCode::from_u16(self.status).ok();
        let reason = reason.and_then(|status| status.canonical_reason()).unwrap_or_default();
        match shown.trim() {
            "" => format!("{} {reason} without a body", self.status),
            body => format!("{} {body}", self.status),
        }
    }
}

/// A name as a segment of a path, or a text as a value in a query: every byte that is no ASCII
/// letter or digit is escaped.
pub fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}
