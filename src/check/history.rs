//! Reads histories (docs/HISTORY.md), and refuses those that are not whole: by a bad file nothing
//! can be judged.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;
use std::sync::Arc;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::json;
use super::recorded_request::{Asked, Request, Text, Texts};
use crate::object::objects_only;

/// The version of the format that is understood.
const FORMAT: u64 = 1;

/// Why nothing can be judged. Exit code 1, and no verdict.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A line is not what the format says.
    #[error("{file}:{line}: {what}")]
    Line {
        /// The file, as it was named.
        file: String,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be read, or files do not belong together.
    #[error("{file}: {what}")]
    File {
        /// The file, as it was named.
        file: String,
        /// What is wrong.
        what: String,
    },
}

/// Histories of one graph.
#[derive(Debug, Default)]
pub struct Histories {
    /// The graph.
    pub graph: String,
    /// One a file.
    pub files: Vec<FileEnds>,
    /// All requests that ended; those of a file stand together, those of a process in their order.
    pub calls: Vec<Call>,
}

/// What a history says of its beginning and its end.
#[derive(Debug)]
pub struct FileEnds {
    /// As it was named.
    pub name: String,
    /// The graph's version before the first request.
    pub initial_version: u64,
    /// The graph's version after the last answer, if it could be read.
    pub final_version: Option<u64>,
    /// Its digest then.
    pub final_digest: Option<String>,
    /// How many lines.
    pub lines: u64,
}

/// A request and its end.
#[derive(Debug)]
pub struct Call {
    /// Which file.
    pub file: usize,
    /// Who asked.
    pub process: u64,
    /// Its name in the file.
    pub id: u64,
    /// The line of the `invoke`.
    pub invoke_line: u64,
    /// When it was sent, on the file's clock.
    pub invoke_ns: u64,
    /// From when on it may have been applied: when it was sent, or the same request with the same
    /// key was that was not answered.
    pub begun_ns: u64,
    /// When its answer was there.
    pub end_ns: u64,
    /// What was asked.
    pub asked: Arc<Asked>,
    /// What became of it.
    pub end: End,
    /// The headers of the answer; `None` if they were not recorded.
    pub headers: Option<Headers>,
    /// Nothing was applied with its key up to this version: another call was rejected there.
    pub applied_after: u64,
    /// Which call stands for all that have its key, of which one is applied at most.
    pub slot: usize,
    /// Whether another call with its key was applied in its place, if one was: what this one was
    /// answered is that one's answer, and says nothing of the graph by itself.
    pub is_replay: bool,
}

/// Headers of an answer as they came; `None` of one that was not there.
#[derive(Debug, PartialEq, Eq)]
pub struct Headers {
    /// `Fencepost-Version`.
    pub version: Option<Text>,
    /// `ETag`.
    pub etag: Option<Text>,
    /// `Location`.
    pub location: Option<Text>,
}

/// How a request ended.
#[derive(Debug)]
pub enum End {
    /// A write that was accepted; `answer` is the body, if it was recorded.
    Accepted { version: u64, changed: bool, created: bool, answer: Option<Box<str>> },
    /// A read; without a version it was not about the graph.
    Answered { version: Option<u64>, answer: Text },
    /// The job is as the client has it.
    NotModified { version: u64 },
    /// Decided against.
    Rejected { version: Option<u64>, problem: Text },
    /// Certainly not applied: refused, or nothing was sent.
    NotServed { verdict: &'static str, why: Text },
    /// May have been applied, or may yet be.
    Unknown { why: Text },
    /// As unknown, and no documentation allows the answer.
    Undocumented { why: Text },
}

/// Whether `problem`, as it was answered, is the one of that name.
pub fn is_problem(problem: &str, name: &str) -> bool {
    let members = json::members(problem, |name| name == "type").unwrap_or_default();
    let kind = members.get("type").and_then(Value::as_str);
    kind.and_then(|kind| kind.strip_prefix("urn:fencepost:problem:")) == Some(name)
}

impl Call {
    /// The version that it was answered at, or that it made.
    pub fn version(&self) -> Option<u64> {
        match self.end {
            _ if self.is_replay => None,
            End::Accepted { version, .. } | End::NotModified { version } => Some(version),
            End::Answered { version, .. } | End::Rejected { version, .. } => version,
            End::NotServed { .. } | End::Unknown { .. } | End::Undocumented { .. } => None,
        }
    }

    /// Where it stands in the order of all calls: (v, false) made version v, or found that the
    /// graph was gone that v deleted; (v, true) is all else at v.
    pub fn place(&self) -> Option<(u64, bool)> {
        self.version().map(|version| (version, !self.made_its_version()))
    }

    /// Whether it was told that there is no such graph.
    pub fn found_it_gone(&self) -> bool {
        match &self.end {
            End::Rejected { version: None, problem } => is_problem(problem, "graph_not_found"),
            _ => false,
        }
    }

    /// Whether it says that it created the graph, which makes no version.
    pub fn created_the_graph(&self) -> bool {
        matches!(self.asked.request, Request::CreateGraph)
            && matches!(self.end, End::Accepted { created: true, .. })
    }

    /// Whether it says that it made its version.
    pub fn made_its_version(&self) -> bool {
        matches!(self.end, End::Accepted { changed: true, .. })
            && self.asked.request.is_decided()
            && !self.is_replay
    }

    /// Whether it is a write that may or may not have been applied.
    pub fn may_have_written(&self) -> bool {
        self.asked.request.is_decided()
            && matches!(self.end, End::Unknown { .. } | End::Undocumented { .. })
            && !self.is_replay
    }

    /// Whether it is a write whose client was told that nothing was changed by it.
    pub fn told_not_applied(&self) -> bool {
        let not_applied = matches!(
            self.end,
            End::Rejected { .. } | End::NotServed { .. } | End::Accepted { changed: false, .. }
        );
        self.asked.request.writes() && not_applied
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Start,
    Invoke,
    Ok,
    Fail,
    Info,
    End,
}

impl Event {
    const WORDS: [&str; 6] = ["start", "invoke", "ok", "fail", "info", "end"];
}

/// From its word. What serde derives would also accept `{"start": null}`.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Event;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the word for an event")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Event, E> {
                Ok(match word {
                    "start" => Event::Start,
                    "invoke" => Event::Invoke,
                    "ok" => Event::Ok,
                    "fail" => Event::Fail,
                    "info" => Event::Info,
                    "end" => Event::End,
                    _ => return Err(E::unknown_variant(word, &Event::WORDS)),
                })
            }
        }
        from.deserialize_str(Word)
    }
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Line<'l> {
    event: Event,
    process: Option<u64>,
    id: Option<u64>,
    time_ns: Option<u64>,
    #[serde(borrow)]
    request: Option<&'l RawValue>,
    verdict: Option<String>,
    version: Option<u64>,
    changed: Option<bool>,
    created: Option<bool>,
    #[serde(borrow)]
    answer: Option<&'l RawValue>,
    #[serde(borrow)]
    problem: Option<&'l RawValue>,
    #[serde(borrow)]
    reason: Option<&'l RawValue>,
    #[serde(borrow)]
    headers: Option<HeadersWire<'l>>,
    format: Option<u64>,
    graph: Option<String>,
    clock: Option<Clock>,
    initial_version: Option<u64>,
    final_version: Option<u64>,
    final_digest: Option<String>,
    invoke: Option<u64>,
    ok: Option<u64>,
    fail: Option<u64>,
    info: Option<u64>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Clock {
    unit: String,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct HeadersWire<'l> {
    #[serde(borrow)]
    version: Option<Cow<'l, str>>,
    #[serde(borrow)]
    etag: Option<Cow<'l, str>>,
    #[serde(borrow)]
    location: Option<Cow<'l, str>>,
}

objects_only!(Line<'l>, Clock, HeadersWire<'l>);

impl Histories {
    /// Whether there is any.
    #[must_use]
    pub fn are_there(&self) -> bool {
        !self.files.is_empty()
    }

    /// The version that the first of them begins at.
    #[must_use]
    pub fn first_version(&self) -> u64 {
        self.files.iter().map(|file| file.initial_version).min().unwrap_or_default()
    }

    /// Reads one more history. O(length); what is kept is a fraction of the file, since equal texts
    /// are kept once.
    ///
    /// # Errors
    /// [`InputError`] with the line that is wrong.
    pub fn read(
        &mut self,
        name: &str,
        file: impl BufRead,
        texts: &mut Texts,
    ) -> Result<(), InputError> {
        let mut reader = Reader {
            histories: self,
            texts,
            asked: HashMap::new(),
            open: HashMap::new(),
            processes: HashMap::new(),
            counts: [0; 4],
            latest_ns: 0,
        };
        let mut number = 0;
        let mut text = String::new();
        let mut file = file;
        let mut ends: Option<FileEnds> = None;
        let mut ended = false;
        let cut_off = || InputError::File {
            file: name.to_owned(),
            what: "has no last line: the run was cut off, and nothing can be judged by it"
                .to_owned(),
        };
        loop {
            text.clear();
            let read = file.read_line(&mut text);
            let at =
                |what: String| InputError::Line { file: name.to_owned(), line: number + 1, what };
            if read.map_err(|error| at(error.to_string()))? == 0 {
                break;
            }
            let line: Line<'_> = match serde_json::from_str(&text) {
                Ok(line) => line,
                Err(_) if ends.is_some() && !text.ends_with('\n') => return Err(cut_off()),
                Err(error) => return Err(at(format!("no line of a history: {error}"))),
            };
            match (&mut ends, line.event) {
                _ if ended => return Err(at("the history goes on after its end".to_owned())),
                (None, Event::Start) => ends = Some(reader.start(name, line).map_err(at)?),
                (None, _) => return Err(at("a history begins with `start`".to_owned())),
                (Some(_), Event::Start) => return Err(at("a history begins once".to_owned())),
                (Some(_), Event::Invoke) => reader.invoke(number + 1, &line).map_err(at)?,
                (Some(ends), Event::End) => {
                    reader.end(line, ends).map_err(at)?;
                    ended = true;
                }
                (Some(_), _) => reader.complete(&line).map_err(at)?,
            }
            number += 1;
        }
        let ends = ends.filter(|_| ended).ok_or_else(cut_off)?;
        self.files.push(FileEnds { lines: number, ..ends });
        Ok(())
    }
}

/// A history being read.
struct Reader<'r> {
    histories: &'r mut Histories,
    texts: &'r mut Texts,
    asked: HashMap<Text, Arc<Asked>>,
    /// Requests without an end as yet, by id; `None`: it has ended.
    open: HashMap<u64, Option<Begun>>,
    processes: HashMap<u64, Process>,
    /// Lines of `invoke`, `ok`, `fail`, `info`.
    counts: [u64; 4],
    latest_ns: u64,
}

struct Begun {
    process: u64,
    line: u64,
    time_ns: u64,
    asked: Arc<Asked>,
}

#[derive(Default)]
struct Process {
    busy: bool,
    gone: bool,
    last_ns: u64,
}

fn needed<T>(field: &str, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("{field} is missing"))
}

impl Reader<'_> {
    fn start(&mut self, name: &str, line: Line<'_>) -> Result<FileEnds, String> {
        let format = needed("format", line.format)?;
        if format != FORMAT {
            return Err(format!(
                "format {format} is not known; this program reads format {FORMAT}"
            ));
        }
        if line.clock.is_some_and(|clock| clock.unit != "ns") {
            return Err("the clock's unit is not ns".to_owned());
        }
        let graph = line.graph.ok_or("the history is about no graph: there is nothing to check")?;
        if self.histories.files.is_empty() {
            self.histories.graph = graph;
        } else if self.histories.graph != graph {
            return Err(format!(
                "is about graph `{graph}`, the files before about `{}`",
                self.histories.graph
            ));
        }
        let initial_version = needed("initial_version", line.initial_version)?;
        Ok(FileEnds {
            name: name.to_owned(),
            initial_version,
            final_version: None,
            final_digest: None,
            lines: 0,
        })
    }

    fn invoke(&mut self, number: u64, line: &Line<'_>) -> Result<(), String> {
        if let Some(graph) = line.graph.as_ref().filter(|graph| **graph != self.histories.graph) {
            return Err(format!(
                "is about graph `{graph}`, in a history of `{}`: one of many graphs says `graphs` in \
                 its first line",
                self.histories.graph
            ));
        }
        self.counts[0] += 1;
        let (id, process, time_ns) = (
            needed("id", line.id)?,
            needed("process", line.process)?,
            needed("time_ns", line.time_ns)?,
        );
        let text = needed("request", line.request)?.get();
        let asked = match self.asked.get(text) {
            Some(asked) => asked.clone(),
            None => {
                let asked = Arc::new(Asked::read(text, self.texts)?);
                self.asked.insert(asked.text.clone(), asked.clone());
                asked
            }
        };
        let state = self.processes.entry(process).or_default();
        if state.gone {
            return Err(format!("process {process} goes on after an `info`"));
        }
        if state.busy {
            return Err(format!("process {process} has two requests under way"));
        }
        if time_ns < state.last_ns {
            return Err(format!("process {process} goes back in time"));
        }
        (state.busy, state.last_ns) = (true, time_ns);
        match self.open.insert(id, Some(Begun { process, line: number, time_ns, asked })) {
            None => Ok(()),
            Some(_) => Err(format!("id {id} comes twice")),
        }
    }

    fn complete(&mut self, line: &Line<'_>) -> Result<(), String> {
        let (id, process, time_ns) = (
            needed("id", line.id)?,
            needed("process", line.process)?,
            needed("time_ns", line.time_ns)?,
        );
        let slot = self.open.get_mut(&id).ok_or_else(|| format!("id {id} ends and never began"))?;
        let begun = slot.take().ok_or_else(|| format!("id {id} ends twice"))?;
        if begun.process != process {
            return Err(format!("id {id} is of process {}", begun.process));
        }
        if time_ns < begun.time_ns {
            return Err(format!("id {id} ends before it begins"));
        }
        let end = self.ending(line, &begun.asked.request)?;
        let mut share =
            |text: &Option<Cow<'_, str>>| text.as_ref().map(|text| self.texts.share(text));
        let headers = line.headers.as_ref().map(|HeadersWire { version, etag, location }| {
            Headers { version: share(version), etag: share(etag), location: share(location) }
        });
        let state = self.processes.entry(process).or_default();
        *state = Process { busy: false, gone: line.event == Event::Info, last_ns: time_ns };
        let place = match line.event {
            Event::Ok => 1,
            Event::Fail => 2,
            _ => 3,
        };
        self.counts[place] += 1;
        self.latest_ns = self.latest_ns.max(time_ns);
        self.histories.calls.push(Call {
            file: self.histories.files.len(),
            process,
            id,
            invoke_line: begun.line,
            invoke_ns: begun.time_ns,
            begun_ns: begun.time_ns,
            end_ns: time_ns,
            asked: begun.asked,
            end,
            headers,
            applied_after: 0,
            slot: self.histories.calls.len(),
            is_replay: false,
        });
        Ok(())
    }

    fn ending(&mut self, line: &Line<'_>, request: &Request) -> Result<End, String> {
        let verdict = line.verdict.as_deref().ok_or("verdict is missing")?;
        let mut share = |field: &str, raw: Option<&RawValue>| {
            needed(field, raw).map(|raw| self.texts.share(raw.get()))
        };
        let why = line.problem.or(line.reason);
        Ok(match (line.event, verdict) {
            (Event::Ok, "accepted") if request.writes() => End::Accepted {
                version: needed("version", line.version)?,
                changed: needed("changed", line.changed)?,
                created: needed("created", line.created)?,
                answer: line.answer.map(|answer| answer.get().into()),
            },
            (Event::Ok, "answered") if !request.writes() => {
                let about_graph = !matches!(request, Request::Fetch);
                let version =
                    if about_graph { Some(needed("version", line.version)?) } else { None };
                End::Answered { version, answer: share("answer", line.answer)? }
            }
            (Event::Ok, "not_modified")
                if matches!(request, Request::Job { if_none_match: Some(_), .. }) =>
            {
                End::NotModified { version: needed("version", line.version)? }
            }
            (Event::Fail, "rejected") => {
                End::Rejected { version: line.version, problem: share("problem", line.problem)? }
            }
            (Event::Fail, "refused") => {
                End::NotServed { verdict: "refused", why: share("problem", why)? }
            }
            (Event::Fail, "unreachable") => {
                End::NotServed { verdict: "unreachable", why: share("reason", why)? }
            }
            (Event::Info, "unknown") => End::Unknown { why: share("reason", why)? },
            (Event::Info, "undocumented") => End::Undocumented { why: share("reason", why)? },
            (event, verdict) => {
                return Err(format!(
                    "`{verdict}` is no verdict of an event {event:?} that ends this call"
                ));
            }
        })
    }

    fn end(&mut self, line: Line<'_>, ends: &mut FileEnds) -> Result<(), String> {
        if let Some((id, _)) = self.open.iter().find(|(_, begun)| begun.is_some()) {
            return Err(format!("id {id} has no end"));
        }
        let told = [line.invoke, line.ok, line.fail, line.info];
        for ((event, told), counted) in
            ["invoke", "ok", "fail", "info"].into_iter().zip(told).zip(self.counts)
        {
            if needed(event, told)? != counted {
                return Err(format!(
                    "there are {counted} lines of {event}, and not {}",
                    told.unwrap_or_default()
                ));
            }
        }
        if needed("time_ns", line.time_ns)? < self.latest_ns {
            return Err("the end comes before the last answer".to_owned());
        }
        (ends.final_version, ends.final_digest) = (line.final_version, line.final_digest);
        Ok(())
    }
}
