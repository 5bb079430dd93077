//! A client of a live tail that may stop reading at any byte, and takes apart by itself what HTTP
//! and server-sent events put together.

use std::io::Read;
use std::net::TcpStream;

use serde_json::Value;

use super::server::Request;

/// Takes a chunked body apart as it comes.
#[derive(Default)]
pub struct Chunked {
    raw: Vec<u8>,
    /// Of the chunk that is being read, its line feed included.
    left: usize,
    /// Whether the last chunk has come: what is cut off has none.
    pub ended: bool,
}

impl Chunked {
    /// Adds to `body` what is known of it with `bytes`.
    pub fn feed(&mut self, bytes: &[u8], body: &mut Vec<u8>) {
        self.raw.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.raw.len() && !self.ended {
            if self.left > 2 {
                let taken = (self.left - 2).min(self.raw.len() - at);
                body.extend_from_slice(&self.raw[at..at + taken]);
                (at, self.left) = (at + taken, self.left - taken);
            } else if self.left > 0 {
                (at, self.left) = (at + 1, self.left - 1);
            } else {
                let Some(end) = self.raw[at..].windows(2).position(|two| two == b"\r\n") else {
                    break;
                };
                let size = std::str::from_utf8(&self.raw[at..at + end]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                (at, self.left, self.ended) = (at + end + 2, size + 2, size == 0);
            }
        }
        self.raw.drain(..at);
    }
}

/// One server-sent event; comments between its lines are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<u64>,
    pub event: Option<String>,
    pub data: Option<String>,
    pub retry: Option<u64>,
}

impl Frame {
    fn parse(text: &str) -> Self {
        let mut frame = Self::default();
        for line in text.split('\n').filter(|line| !line.starts_with(':')) {
            let (field, value) =
                line.split_once(": ").unwrap_or_else(|| panic!("no field: {line}"));
            match field {
                "id" => frame.id = Some(value.parse().unwrap()),
                "event" => frame.event = Some(value.to_owned()),
                "data" => {
                    assert!(frame.data.replace(value.to_owned()).is_none(), "data in two lines")
                }
                "retry" => frame.retry = Some(value.parse().unwrap()),
                other => panic!("an unknown field: {other}"),
            }
        }
        frame
    }

    /// The problem that a tail ends with.
    #[track_caller]
    pub fn problem(&self, name: &str) -> Value {
        assert_eq!((self.event.as_deref(), self.id), (Some("problem"), None), "{self:?}");
        let problem: Value = serde_json::from_str(self.data.as_ref().unwrap()).unwrap();
        assert_eq!(problem["type"], format!("urn:fencepost:problem:{name}"), "{problem}");
        problem
    }
}

/// An open connection.
pub struct Tail {
    stream: TcpStream,
    chunked: Chunked,
    body: Vec<u8>,
}

impl Tail {
    /// Of `/changes` with this query, after the event that was seen last, if one was.
    pub fn open(request: Request, last_event_id: Option<u64>) -> Self {
        let mut request = request.header("Accept", "text/event-stream");
        if let Some(last) = last_event_id {
            request = request.header("Last-Event-ID", &last.to_string());
        }
        let mut stream = request.open();
        let mut raw = Vec::new();
        let end = loop {
            if let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "no answer: {}", String::from_utf8_lossy(&raw));
            raw.extend_from_slice(&buffer[..read]);
        };
        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        assert!(head.to_lowercase().contains("\r\nx-accel-buffering: no\r\n"), "{head}");
        let mut tail = Self { stream, chunked: Chunked::default(), body: Vec::new() };
        tail.chunked.feed(&raw[end + 4..], &mut tail.body);
        tail
    }

    /// Reads at most so many bytes; whether there may be more.
    pub fn read(&mut self, most: usize) -> bool {
        let mut buffer = vec![0; most];
        let read = self
            .stream
            .read(&mut buffer)
            .unwrap_or_else(|error| panic!("the tail is silent: {error}"));
        self.chunked.feed(&buffer[..read], &mut self.body);
        assert!(read > 0 || self.chunked.ended, "the tail was cut off");
        read > 0 && !self.chunked.ended
    }

    /// The next frame of those that were read whole.
    pub fn take(&mut self) -> Option<Frame> {
        let end = self.body.windows(2).position(|two| two == b"\n\n")?;
        let frame: Vec<u8> = self.body.drain(..end + 2).collect();
        Some(Frame::parse(std::str::from_utf8(&frame[..end]).unwrap()))
    }

    /// The next frame, waited for; `None` when the tail has ended as it should.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if !self.read(1 << 16) && !self.body.windows(2).any(|two| two == b"\n\n") {
                assert!(self.body.is_empty(), "the tail ends within an event");
                return None;
            }
        }
    }

    /// Reads on until what was read and not taken is as `wanted` says.
    pub fn read_until(&mut self, wanted: impl Fn(&str) -> bool) {
        while !wanted(std::str::from_utf8(&self.body).unwrap()) {
            assert!(self.read(1), "the tail has ended");
        }
    }

    /// The next event: its version and data.
    #[track_caller]
    pub fn event(&mut self) -> (u64, String) {
        let frame = self.next().expect("the tail has ended");
        assert_eq!(frame.event.as_deref(), Some("dev.fencepost.changed.v1"), "{frame:?}");
        (frame.id.unwrap(), frame.data.unwrap())
    }

    /// The next `count` events.
    pub fn events(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event().1).collect()
    }
}
