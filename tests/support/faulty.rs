//! A server that is wrong on purpose: it passes requests on to a real one, and a function stands
//! between that may change what is asked, what is answered, or both. A live tail passes as it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::Value;

use super::tail::Chunked;

/// What stands between: from a request to its answer.
pub type Fault = fn(&Sound, Asked) -> Told;

/// Names in small letters, and values.
type Headers = Vec<(String, String)>;

/// An answer with this header has its body sent even where there must be none.
pub const ANYWAY: &str = "x-body-anyway";

/// A request.
#[derive(Clone)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Clone)]
pub struct Told {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// The real server.
#[derive(Clone)]
pub struct Sound {
    /// `127.0.0.1:PORT`
    place: String,
}

/// Starts one before the server at `base`, such as `http://127.0.0.1:8000`; its URL.
pub fn start(base: &str, fault: Fault) -> String {
    start_for(base, fault, usize::MAX)
}

/// One that takes no connections any more after so many of them.
pub fn start_for(base: &str, fault: Fault, connections: usize) -> String {
    let sound = Sound { place: base.strip_prefix("http://").unwrap().to_owned() };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok).take(connections) {
            let sound = sound.clone();
            // A client may go in the middle.
            thread::spawn(move || drop(sound.serve(client, fault)));
        }
    });
    url
}

impl Sound {
    fn serve(&self, mut client: TcpStream, fault: Fault) -> std::io::Result<()> {
        let Some(asked) = Asked::read(&mut client)? else { return Ok(()) };
        if asked.header("accept").is_some_and(|accept| accept == "text/event-stream") {
            std::io::copy(&mut self.send(&asked)?, &mut client)?;
            return Ok(());
        }
        let is_head = asked.method == "HEAD";
        let told = fault(self, asked);
        client.write_all(&told.written(is_head))
    }

    fn send(&self, asked: &Asked) -> std::io::Result<TcpStream> {
        let mut server = TcpStream::connect(&self.place)?;
        server.write_all(&asked.written())?;
        Ok(server)
    }

    /// What the real server answers.
    pub fn pass(&self, asked: &Asked) -> Told {
        let mut bytes = Vec::new();
        self.send(asked).and_then(|mut server| server.read_to_end(&mut bytes)).unwrap();
        Told::parse(&bytes)
    }
}

fn split_head(bytes: &[u8]) -> Option<(String, Headers, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let first = lines.next()?.to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some((first, lines.filter_map(header).collect(), end + 4))
}

fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

/// Headers that say how a message is sent and not what is in it.
fn is_of_the_connection(name: &str) -> bool {
    matches!(name, "connection" | "content-length" | "transfer-encoding" | "keep-alive")
}

/// What requests and answers have in common.
macro_rules! message {
    ($message:ident) => {
        impl $message {
            pub fn header(&self, name: &str) -> Option<&str> {
                find(&self.headers, name)
            }

            pub fn without(mut self, header: &str) -> Self {
                self.headers.retain(|(name, _)| name != header);
                self
            }

            pub fn with(self, header: &str, value: &str) -> Self {
                let mut message = self.without(header);
                message.headers.push((header.to_owned(), value.to_owned()));
                message
            }

            pub fn json(&self) -> Option<Value> {
                serde_json::from_slice(&self.body).ok()
            }

            /// With the body changed, if it is JSON.
            pub fn edited(mut self, edit: impl FnOnce(&mut Value)) -> Self {
                if let Some(mut json) = self.json() {
                    edit(&mut json);
                    self.body = json.to_string().into_bytes();
                }
                self
            }
        }
    };
}

message!(Asked);
message!(Told);

impl Asked {
    fn read(client: &mut TcpStream) -> std::io::Result<Option<Self>> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 1 << 16]);
        loop {
            if let Some((first, headers, begin)) = split_head(&bytes) {
                let length = find(&headers, "content-length").and_then(|text| text.parse().ok());
                let end = begin + length.unwrap_or(0);
                if bytes.len() >= end {
                    let mut words = first.split(' ');
                    let mut word = || words.next().unwrap_or_default().to_owned();
                    let (method, path) = (word(), word());
                    let body = bytes[begin..end].to_vec();
                    return Ok(Some(Self { method, path, headers, body }));
                }
            }
            match client.read(&mut buffer)? {
                0 => return Ok(None),
                read => bytes.extend_from_slice(&buffer[..read]),
            }
        }
    }

    fn written(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.path).into_bytes();
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_of_the_connection(name)) {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        if !matches!(self.method.as_str(), "GET" | "HEAD" | "DELETE") {
            bytes.extend(format!("Content-Length: {}\r\n", self.body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }

    /// Without this parameter of the query.
    pub fn without_parameter(mut self, name: &str) -> Self {
        if let Some((path, query)) = self.path.split_once('?') {
            let is_other = |given: &&str| given.split('=').next() != Some(name);
            let others: Vec<&str> = query.split('&').filter(is_other).collect();
            self.path = format!("{path}?{}", others.join("&")).trim_end_matches('?').to_owned();
        }
        self
    }

    pub fn is(&self, method: &str) -> bool {
        self.method == method
    }

    /// The parts of the path after the graph's name, without the query.
    pub fn parts(&self) -> Vec<&str> {
        let path = self.path.split('?').next().unwrap_or_default();
        path.split('/').skip(4).collect()
    }
}

impl Told {
    fn parse(bytes: &[u8]) -> Self {
        let (first, headers, begin) = split_head(bytes).expect("the server answers in HTTP");
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = bytes[begin..].to_vec();
        if find(&headers, "transfer-encoding") == Some("chunked") {
            let mut whole = Vec::new();
            Chunked::default().feed(&body, &mut whole);
            body = whole;
        }
        Self { status, headers, body }
    }

    fn written(&self, to_head: bool) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status).into_bytes();
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_of_the_connection(name)) {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        let is_silent = (to_head || self.status == 304) && self.header(ANYWAY).is_none();
        if !is_silent {
            bytes.extend(format!("Content-Length: {}\r\n", self.body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }

    /// JSON that the server never gave.
    pub fn made_up(status: u16, version: Option<&str>, body: &Value) -> Self {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let version = version.map(|version| ("fencepost-version".to_owned(), version.to_owned()));
        headers.extend(version);
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    /// With another status.
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub fn is_problem(&self, name: &str) -> bool {
        self.json().is_some_and(|told| told["type"] == format!("urn:fencepost:problem:{name}"))
    }
}
