//! The history of a run: every request and every answer as one line of JSON, written beside the
//! measurement (docs/HISTORY.md).

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::BenchError;
use super::request::{Headers, Outcome, Request};
use super::verbatim::Verbatim;
use crate::graph::Name;
use crate::input;

/// What a reader of histories must know of.
pub const FORMAT_VERSION: u32 = 1;

/// Events that may wait to be written. A client that finds the line full waits, between its
/// requests.
const WAITING_EVENTS: usize = 65_536;
/// How long the writer lets them gather. To be woken for each would take more of the processors,
/// and so of what is measured, than to write it.
const GATHERED_FOR: Duration = Duration::from_millis(5);

/// One line.
pub enum Event {
    /// The first.
    Start(Value),
    /// A request is about to be sent.
    Invoke(Invocation),
    /// Its end.
    Complete(Ending),
    /// The last.
    End(Value),
}

/// A request that is about to be sent.
#[derive(Serialize)]
pub struct Invocation {
    /// Who sends it.
    pub process: u64,
    /// Which of the run's requests it is.
    pub id: u64,
    /// When, in nanoseconds since the start.
    pub time_ns: u64,
    /// With a rate: when it was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_ns: Option<u64>,
    /// Of a run on many graphs: the one that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<Name>,
    /// What is sent.
    pub request: Request,
}

/// How a request ended.
pub struct Ending {
    /// Who sent it.
    pub process: u64,
    /// Which of the run's requests it is.
    pub id: u64,
    /// When the answer was there, in nanoseconds since the start.
    pub time_ns: u64,
    /// What it was.
    pub outcome: Outcome,
    /// The headers of the answer, over HTTP.
    pub headers: Option<Headers>,
    /// The body of the answer to a write that was accepted, over HTTP.
    pub written: Option<Verbatim>,
}

/// Where clients put their events.
pub type Recorder = SyncSender<Event>;

/// The thread that writes.
pub struct Writer {
    thread: JoinHandle<std::io::Result<()>>,
}

impl Writer {
    /// Creates the file.
    ///
    /// # Errors
    /// [`BenchError::History`] if it cannot be; [`BenchError::Usage`] if it is `-`.
    pub fn create(path: &Path) -> Result<(Self, Recorder), BenchError> {
        if input::is_stdin(path) {
            let reason = "--history takes a file; standard output is /dev/stdout".to_owned();
            return Err(BenchError::Usage(reason));
        }
        let file = File::create(path).map_err(BenchError::History)?;
        let (recorder, events) = sync_channel(WAITING_EVENTS);
        let thread = thread::spawn(move || write_all(file, events));
        Ok((Self { thread }, recorder))
    }

    /// Waits until all is written. Every recorder must be gone.
    ///
    /// # Errors
    /// [`BenchError::History`] if it is not.
    pub fn finish(self) -> Result<(), BenchError> {
        self.thread.join().expect("the writer does not panic").map_err(BenchError::History)
    }
}

fn write_all(file: File, events: Receiver<Event>) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, file);
    while let Ok(first) = events.recv() {
        for event in std::iter::once(first).chain(events.try_iter()) {
            serde_json::to_writer(&mut file, &event)?;
            file.write_all(b"\n")?;
        }
        thread::sleep(GATHERED_FOR);
    }
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    // A pipe, as of >(COMMAND), cannot be synced.
    if file.metadata()?.is_file() { file.sync_all() } else { Ok(()) }
}

impl Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'e, T: Serialize> {
            event: &'static str,
            #[serde(flatten)]
            rest: &'e T,
        }
        match self {
            Self::Start(rest) => Line { event: "start", rest }.serialize(serializer),
            Self::Invoke(rest) => Line { event: "invoke", rest }.serialize(serializer),
            Self::Complete(rest) => {
                Line { event: rest.outcome.event(), rest: &Completed::from(rest) }
                    .serialize(serializer)
            }
            Self::End(rest) => Line { event: "end", rest }.serialize(serializer),
        }
    }
}

/// As it is written: only the fields that the verdict has.
#[derive(Serialize)]
struct Completed<'e> {
    process: u64,
    id: u64,
    time_ns: u64,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'e Verbatim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'e Verbatim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<&'e Headers>,
}

impl<'e> From<&'e Ending> for Completed<'e> {
    fn from(ending: &'e Ending) -> Self {
        let Ending { process, id, time_ns, ref outcome, ref headers, ref written } = *ending;
        let of = |verdict: &'static str| Self {
            process,
            id,
            time_ns,
            verdict,
            version: None,
            changed: None,
            created: None,
            answer: None,
            problem: None,
            reason: None,
            headers: headers.as_ref(),
        };
        match outcome {
            Outcome::Accepted(accepted) => Self {
                version: Some(accepted.version),
                changed: Some(accepted.changed),
                created: Some(accepted.created),
                answer: written.as_ref(),
                ..of("accepted")
            },
            Outcome::Answered { version, answer } => {
                Self { version: *version, answer: Some(answer), ..of("answered") }
            }
            Outcome::NotModified { version } => {
                Self { version: Some(*version), ..of("not_modified") }
            }
            Outcome::Rejected { version, problem, .. } => {
                Self { version: *version, problem: Some(problem), ..of("rejected") }
            }
            Outcome::Refused { problem, .. } => Self { problem: Some(problem), ..of("refused") },
            Outcome::Unreachable(reason) => Self { reason: Some(reason), ..of("unreachable") },
            Outcome::Unknown { reason, problem } => {
                Self { reason: Some(reason), problem: problem.as_ref(), ..of("unknown") }
            }
            Outcome::Undocumented(reason) => Self { reason: Some(reason), ..of("undocumented") },
        }
    }
}
