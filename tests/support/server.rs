//! The real binary, serving a fresh database on a port of its own, and a client that sends just the
//! bytes it is told to: no path is tidied, no header added unasked. Every answer is held against
//! the OpenAPI document.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::Kind;
use super::contract;
use super::tail::Chunked;

const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Where a server's directory says which database it has.
const URL_FILE: &str = "database-url";

/// Killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub directory: TempDir,
    log: Arc<Mutex<String>>,
    /// Of a server that passes writes on: the one that it passes them on to.
    _leader: Option<Leader>,
}

/// Says, in the environment, that each server is to have another one beside it, which leads all
/// graphs that are made through requests of these tests.
pub const THROUGH_A_FOLLOWER: &str = "FENCEPOST_TEST_THROUGH_A_FOLLOWER";
const LED: &str = "crud-single-writer";

/// Killed when dropped.
struct Leader(Child);

impl Drop for Leader {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where the leader is that belongs to a server.
static LEADERS: Mutex<BTreeMap<SocketAddr, SocketAddr>> = Mutex::new(BTreeMap::new());

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// With more arguments of `serve` and environment variables.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = Kind::of_this_run().new_database(directory.path());
        std::fs::write(directory.path().join(URL_FILE), url).unwrap();
        Self::start_in(directory, arguments, environment)
    }

    /// With the database that `directory` was begun with.
    pub fn start_in(directory: TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let url = std::fs::read_to_string(directory.path().join(URL_FILE)).unwrap();
        let leader = std::env::var_os(THROUGH_A_FOLLOWER).is_some().then(|| {
            let arguments = ["--address", "127.0.0.1:0"];
            start_child(&directory, &url, &arguments, &[("FENCEPOST_DESIGN", LED)])
        });
        let mut environment = environment.to_vec();
        if leader.is_some() {
            environment.push(("FENCEPOST_DESIGN", LED));
        }
        let mut all: Vec<&str> = arguments.to_vec();
        if !arguments.contains(&"--address") {
            all.extend(["--address", "127.0.0.1:0"]);
        }
        let (child, address, log) = start_child(&directory, &url, &all, &environment);
        let leader = leader.map(|(child, leads_at, _)| {
            LEADERS.lock().unwrap().insert(address, leads_at);
            Leader(child)
        });
        let server = Self { child, address, directory, log, _leader: leader };
        server.get("/readyz").send().expect(200);
        server
    }

    /// With a graph `g`.
    pub fn with_graph() -> Self {
        let server = Self::start();
        server.put("/v1/graphs/g").send().expect(201);
        server
    }

    pub fn call(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    pub fn get(&self, path: &str) -> Request {
        self.call("GET", path)
    }

    pub fn put(&self, path: &str) -> Request {
        self.call("PUT", path)
    }

    pub fn post(&self, path: &str) -> Request {
        self.call("POST", path)
    }

    pub fn patch(&self, path: &str) -> Request {
        self.call("PATCH", path)
    }

    pub fn delete(&self, path: &str) -> Request {
        self.call("DELETE", path)
    }

    /// Puts a job into `g`; its version.
    pub fn put_job(&self, name: &str, inputs: &[&str], outputs: &[&str]) -> u64 {
        let job = json!({"inputs": inputs, "outputs": outputs});
        let answer = self.put(&format!("/v1/graphs/g/jobs/{}", encoded(name))).json(&job).send();
        assert!(answer.status < 300, "{answer:?}");
        answer.json()["version"].as_u64().unwrap()
    }

    /// Applies operations to `g`.
    pub fn change(&self, operations: &Value) -> Answer {
        self.post("/v1/graphs/g/changesets").json(&json!({"operations": operations})).send()
    }

    /// Version and digest of `g`.
    pub fn state(&self) -> Value {
        self.get("/v1/graphs/g/digest").send().expect(200).json()
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill")
            .args([format!("-{signal}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// The status it ends with, and its directory.
    pub fn wait(mut self, limit: Duration) -> (ExitStatus, TempDir) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let directory =
                    std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
                return (status, directory);
            }
            assert!(began.elapsed() < limit, "the server did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log.lock().unwrap());
        }
    }
}

/// The process, where it listens, and what it says.
fn start_child(
    directory: &TempDir,
    url: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Child, SocketAddr, Arc<Mutex<String>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fencepost"))
        .arg("serve")
        .args(arguments)
        .env("FENCEPOST_DATABASE_URL", url)
        .envs(environment.iter().copied())
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let (stderr, copy) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            copy.lock().unwrap().push_str(&(line + "\n"));
        }
    });
    let began = Instant::now();
    loop {
        let text = log.lock().unwrap().clone();
        let announced =
            text.split("http://").nth(1).and_then(|rest| rest.split(';').next()?.parse().ok());
        if let Some(address) = announced {
            return (child, address, log);
        }
        assert!(child.try_wait().unwrap().is_none(), "the server ended: {text}");
        assert!(began.elapsed() < START_LIMIT, "the server did not start: {text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A name as a path segment.
pub fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A request that is being put together.
#[derive(Clone)]
pub struct Request {
    address: SocketAddr,
    method: String,
    path: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let (method, path) = (method.to_owned(), path.as_bytes().to_vec());
        Self { address, method, path, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        self.header_bytes(name, value.as_bytes())
    }

    /// A value that need not be text.
    pub fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", media_type)
    }

    pub fn send(self) -> Answer {
        let mut stream = self.open();
        // A server that has already refused may close before it has read everything; its answer is
        // what counts.
        let _ = stream.write_all(&self.body);
        let answer = self.answer(stream);
        self.have_it_led(&answer);
        answer
    }

    /// If it has created a graph: has the leader that belongs to the server lead it.
    fn have_it_led(&self, answer: &Answer) {
        let path = String::from_utf8_lossy(&self.path);
        let is_graph = path.strip_prefix("/v1/graphs/").is_some_and(|graph| !graph.contains('/'));
        if self.method != "PUT" || !is_graph || answer.status >= 300 {
            return;
        }
        let Some(leader) = LEADERS.lock().unwrap().get(&self.address).copied() else { return };
        let nothing = Self::new(leader, "POST", &format!("{path}/changesets?dry_run=true"));
        let told = nothing.json(&json!({"operations": []})).send();
        // A key that was used answers though the graph was deleted since.
        assert!([200, 404].contains(&told.status), "{told:?}");
    }

    /// The body in chunks, its length never told.
    pub fn send_chunked(self) -> Answer {
        let request = Self {
            headers: [self.headers.clone(), vec![("Transfer-Encoding".into(), "chunked".into())]]
                .concat(),
            ..self
        };
        let mut stream = request.open();
        for chunk in request.body.chunks(1 << 20) {
            let head = format!("{:x}\r\n", chunk.len());
            let sent = [head.as_bytes(), chunk, b"\r\n"].concat();
            if stream.write_all(&sent).is_err() {
                break;
            }
        }
        let _ = stream.write_all(b"0\r\n\r\n");
        request.answer(stream)
    }

    /// The head is sent; whoever calls sends the body.
    pub fn open(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        let mut head = self.method.clone().into_bytes();
        head.push(b' ');
        head.extend(&self.path);
        head.extend(b" HTTP/1.1\r\nConnection: close\r\n");
        let told =
            |name: &str| self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !told("host") {
            head.extend(b"Host: localhost\r\n");
        }
        if !self.body.is_empty() && !told("transfer-encoding") && !told("content-length") {
            head.extend(format!("Content-Length: {}\r\n", self.body.len()).bytes());
        }
        for (name, value) in &self.headers {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        stream.write_all(&head).unwrap();
        stream
    }

    /// Reads the answer, and holds it against the document.
    pub fn answer(&self, stream: TcpStream) -> Answer {
        let answer = Answer::read(stream);
        contract::check(&self.method, &self.path, &answer);
        answer
    }
}

/// Sends bytes that may be no HTTP at all; what came back.
pub fn send_raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    stream.write_all(bytes).unwrap();
    Answer::read(stream)
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end
            .unwrap_or_else(|| panic!("no answer: {read:?} {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let mut answer =
            Self { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() };
        if answer.header("transfer-encoding") == Some("chunked") {
            let mut chunked = Chunked::default();
            let raw = std::mem::take(&mut answer.body);
            chunked.feed(&raw, &mut answer.body);
            assert!(chunked.ended, "the answer was cut off");
        }
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is given twice");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The problem `name`, which has this status.
    #[track_caller]
    pub fn problem(self, status: u16, name: &str) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:fencepost:problem:{name}"), "{problem}");
        problem
    }
}
