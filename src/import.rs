//! Imports: jobs from files, in atomic changesets, while the service runs. Uses `design` as any
//! client would.
//!
//! Streams: what is in memory is the changeset that is being written and the next one, which is
//! read meanwhile, and of a WfFormat document the document. Safe to repeat: a job that is there as
//! the file has it changes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

use crate::design::{Accepted, Refusal, Service};
use crate::graph::{
    Changeset, Command, JobSpecification, Name, Operation, Precondition, Rejection,
};

pub mod events;
mod ndjson;
mod wfformat;

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// By the first line of each file: a job, an event, or the beginning of a WfFormat document.
    #[default]
    Auto,
    /// One job a line: `{"name","inputs","outputs","spec"}`.
    Ndjson,
    /// WfCommons' workflow JSON, schema 1.5 or 1.6.
    Wfformat,
    /// A log of changes or a snapshot, one event a line: restored with all its versions, into a
    /// graph that was never written.
    Events,
}

/// What WfFormat names are prefixed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Namespace {
    /// The file's name without its ending, and a slash.
    #[default]
    File,
    /// Nothing.
    None,
}

/// What to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// Into which graph; created if it is not there.
    pub graph: Name,
    /// How files are read.
    pub format: Format,
    /// How names of WfFormat documents are made.
    pub namespace: Namespace,
    /// If given: one changeset, which also deletes the jobs whose names begin so and that the files
    /// do not hold.
    pub sync: Option<String>,
    /// Jobs that go into one changeset, unless it is refused at its border; at least 1.
    pub chunk_jobs: usize,
    /// Files; `-` is standard input.
    pub paths: Vec<PathBuf>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Jobs read and put.
    pub jobs: usize,
    /// Jobs deleted by `sync`.
    pub deleted: usize,
    /// The graph's version at the end.
    pub version: u64,
}

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be opened or read.
    #[error("{}: {reason}{already}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
        /// What is in.
        already: Already,
    },
    /// A line, or a part of a document, is no job.
    #[error("{at}: {reason}{already}")]
    BadLine {
        /// Where.
        at: Place,
        /// Why not.
        reason: String,
        /// What is in.
        already: Already,
    },
    /// The rules forbid a job.
    #[error("{at}: {rejection}{already}")]
    Rejected {
        /// Where the job is.
        at: Place,
        /// Why.
        rejection: Rejection,
        /// What is in.
        already: Already,
    },
    /// The service did not do it.
    #[error("{refusal}{already}")]
    Refused {
        /// Why not.
        refusal: Refusal,
        /// What is in.
        already: Already,
    },
}

/// What an import that ended early leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Already {
    jobs: usize,
    version: Option<u64>,
}

impl std::fmt::Display for Already {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version {
            None | Some(_) if self.jobs == 0 => f.write_str("; nothing was imported"),
            None => write!(f, "; {} jobs before it are in", self.jobs),
            Some(version) => write!(
                f,
                "; the {} jobs before it are in, now version {version}. Mend it and import again: what is in stays as it is",
                self.jobs
            ),
        }
    }
}

/// Where a job was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: Arc<Path>,
    /// The line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// A job, where it was read, and how long it was there.
struct Item {
    place: Place,
    job: JobSpecification,
    bytes: usize,
}

/// What a source found in place of a job.
struct Bad {
    place: Place,
    reason: String,
}

/// How many jobs one changeset holds unless something else is asked for: the quickest.
pub const CHUNK_JOBS: usize = 10_000;
/// Bytes that go into one changeset.
const CHUNK_BYTES: usize = 8 << 20;
/// How many jobs one changeset grows to before a refusal is final.
const MOST_JOBS: usize = 40_000;
/// How often a changeset is tried again that came too late, or before `--sync` found the graph
/// unchanged.
const RETRIES: usize = 8;

/// Imports what `request` names. Shows a bar on standard error if that is a terminal.
///
/// # Errors
/// [`ImportError`] names the first bad line and says what is already in.
pub fn import(service: &Service, request: &ImportRequest) -> Result<Imported, ImportError> {
    let mut import = Import::begin(service, request)?;
    let outcome = match &request.sync {
        None => import.in_chunks(request),
        Some(prefix) => import.in_one(request, prefix),
    };
    import.bar.finish_and_clear();
    outcome
}

struct Import<'i> {
    service: &'i Service,
    graph: &'i Name,
    bar: ProgressBar,
    already: Already,
    /// Whether the graph is known to be there.
    created: bool,
}

impl<'i> Import<'i> {
    fn begin(service: &'i Service, request: &'i ImportRequest) -> Result<Self, ImportError> {
        let mut total = Some(0);
        for path in &request.paths {
            // A path that is not there is found before anything is written.
            total = match (total, size(path)?) {
                (Some(total), Some(bytes)) => Some(total + bytes),
                _ => None,
            };
        }
        Ok(Self {
            service,
            graph: &request.graph,
            bar: bar_over(total),
            already: Already::default(),
            created: false,
        })
    }

    /// One thread reads and this one writes.
    fn in_chunks(&mut self, request: &ImportRequest) -> Result<Imported, ImportError> {
        let source = Source::new(request, self.bar.clone());
        let (sender, chunks) = sync_channel(0);
        thread::scope(|scope| {
            scope.spawn(move || read_chunks(source, request.chunk_jobs, &sender));
            // Dropped on the way out, whatever came of it: the reader then ends too.
            self.write_chunks(chunks.into_iter())
        })
    }

    fn write_chunks(
        &mut self,
        chunks: impl Iterator<Item = Chunk>,
    ) -> Result<Imported, ImportError> {
        let mut waiting: Vec<Item> = Vec::new();
        // A changeset that was refused is tried again when it is twice as long, or can become no
        // longer.
        let mut worth_a_try = 0;
        for Chunk { items, end } in chunks {
            waiting.extend(items);
            let end = match end {
                End::Bad(bad) if waiting.is_empty() => return Err(self.bad(bad)),
                end => end,
            };
            let may_grow = matches!(end, End::More) && waiting.len() < MOST_JOBS;
            if may_grow && waiting.len() < worth_a_try {
                continue;
            }
            self.create_graph()?;
            match self.put(&waiting) {
                Ok(accepted) => {
                    self.already.jobs += waiting.len();
                    self.already.version = Some(accepted.version);
                    self.bar.set_message(format!("{} jobs", self.already.jobs));
                    waiting.clear();
                    worth_a_try = 0;
                }
                // What follows may make it legal: a producer that moved, an edge that went.
                Err(ImportError::Rejected { .. }) if may_grow => worth_a_try = 2 * waiting.len(),
                Err(error) => return Err(error),
            }
            if let End::Bad(bad) = end {
                return Err(self.bad(bad));
            }
        }
        Ok(Imported {
            jobs: self.already.jobs,
            deleted: 0,
            version: self.already.version.unwrap_or_default(),
        })
    }

    /// Not before there is something to put into it: a file that cannot be read leaves no graph
    /// behind.
    fn create_graph(&mut self) -> Result<(), ImportError> {
        if !self.created {
            self.service
                .create_graph_and_wait(self.graph)
                .map_err(|refusal| self.refused(refusal))?;
            self.created = true;
        }
        Ok(())
    }

    fn in_one(&mut self, request: &ImportRequest, prefix: &str) -> Result<Imported, ImportError> {
        let items = Source::new(request, self.bar.clone()).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(|bad| self.bad(bad))?;
        self.create_graph()?;
        let kept: BTreeSet<&Name> = items.iter().map(|item| &item.job.name).collect();
        let mut retries = 0;
        loop {
            let image =
                self.service.read_and_wait(self.graph).map_err(|refusal| self.refused(refusal))?;
            let under = image.graph.jobs_from(Bound::Included(prefix)).map(|job| job.name());
            let gone: Vec<Name> = under
                .take_while(|name| name.as_str().starts_with(prefix))
                .filter(|name| !kept.contains(name))
                .cloned()
                .collect();
            let deleted = gone.len();
            let puts = items.iter().map(|item| Operation::PutJob(item.job.clone()));
            let deletes = gone.into_iter().map(|name| Operation::DeleteJob { name });
            let mut changeset: Changeset = puts.chain(deletes).collect();
            changeset.precondition = Some(Precondition::Version(image.key.version));
            match self.write(changeset, &items) {
                Ok(accepted) => {
                    return Ok(Imported { jobs: items.len(), deleted, version: accepted.version });
                }
                // Somebody else wrote since: find anew what is gone.
                Err(ImportError::Rejected {
                    rejection: Rejection::PreconditionFailed { .. },
                    ..
                }) if retries < RETRIES => {
                    retries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn put(&self, items: &[Item]) -> Result<Accepted, ImportError> {
        self.write(items.iter().map(|item| Operation::PutJob(item.job.clone())).collect(), items)
    }

    fn write(&self, changeset: Changeset, items: &[Item]) -> Result<Accepted, ImportError> {
        let command = Command::Changeset(changeset);
        let mut retries = 0;
        loop {
            match self.service.write_and_wait(self.graph, command.clone().into()) {
                Err(Refusal::Contended { what }) if retries < RETRIES => {
                    retries += 1;
                    log::warn!("trying again: {what}");
                }
                Err(Refusal::Rejected { rejection, .. }) => {
                    let item = rejection
                        .operation()
                        .and_then(|operation| items.get(operation))
                        .or(items.last());
                    let at = item.map_or_else(
                        || Place { path: Path::new("-").into(), line: 0 },
                        |item| item.place.clone(),
                    );
                    return Err(ImportError::Rejected { at, rejection, already: self.already });
                }
                outcome => return outcome.map_err(|refusal| self.refused(refusal)),
            }
        }
    }

    fn bad(&self, bad: Bad) -> ImportError {
        ImportError::BadLine { at: bad.place, reason: bad.reason, already: self.already }
    }

    fn refused(&self, refusal: Refusal) -> ImportError {
        ImportError::Refused { refusal, already: self.already }
    }
}

fn bar_over(bytes: Option<u64>) -> ProgressBar {
    let bar = bytes.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = "{elapsed} [{bar:40}] {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left) {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
    bar
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn size(path: &Path) -> Result<Option<u64>, ImportError> {
    if is_stdin(path) {
        return Ok(None);
    }
    let unreadable = |reason: String| ImportError::Unreadable {
        path: path.to_owned(),
        reason,
        already: Already::default(),
    };
    let metadata = File::open(path)
        .and_then(|file| file.metadata())
        .map_err(|error| unreadable(error.to_string()))?;
    if metadata.is_dir() {
        return Err(unreadable("is a directory; name its files".to_owned()));
    }
    Ok(metadata.is_file().then_some(metadata.len()))
}

/// Jobs that are put together.
struct Chunk {
    items: Vec<Item>,
    end: End,
}

/// Why a chunk ends where it does.
enum End {
    /// It is full.
    More,
    /// There is nothing more.
    Done,
    /// What follows is no job.
    Bad(Bad),
}

/// Reads until the end, or until nobody wants the chunks any more.
fn read_chunks(mut source: Source<'_>, most: usize, chunks: &SyncSender<Chunk>) {
    loop {
        let (mut items, mut bytes, mut end) = (Vec::new(), 0, End::More);
        while items.len() < most && bytes < CHUNK_BYTES {
            match source.next() {
                Some(Ok(item)) => {
                    bytes += item.bytes;
                    items.push(item);
                }
                Some(Err(bad)) => {
                    end = End::Bad(bad);
                    break;
                }
                None => {
                    end = End::Done;
                    break;
                }
            }
        }
        let last = !matches!(end, End::More);
        if chunks.send(Chunk { items, end }).is_err() || last {
            return;
        }
    }
}

/// All jobs of all files, in order.
struct Source<'r> {
    request: &'r ImportRequest,
    waiting: std::slice::Iter<'r, PathBuf>,
    current: Box<dyn Iterator<Item = Result<Item, Bad>> + Send + 'r>,
    bar: ProgressBar,
}

impl<'r> Source<'r> {
    fn new(request: &'r ImportRequest, bar: ProgressBar) -> Self {
        Self { request, waiting: request.paths.iter(), current: Box::new(std::iter::empty()), bar }
    }

    fn open(
        &self,
        path: &'r Path,
    ) -> io::Result<Box<dyn Iterator<Item = Result<Item, Bad>> + Send + 'r>> {
        let input: Box<dyn Read + Send> =
            if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let mut input = BufReader::with_capacity(1 << 20, self.bar.wrap_read(input));
        let format = match self.request.format {
            Format::Auto => detect(&mut input)?,
            given => given,
        };
        Ok(match format {
            Format::Wfformat => {
                Box::new(wfformat::read(path, Box::new(input), self.request.namespace)?)
            }
            Format::Ndjson | Format::Auto => Box::new(ndjson::Lines::new(path, input)),
            Format::Events => {
                return Err(io::Error::other(
                    "is a log of events: it is imported alone, without other files",
                ));
            }
        })
    }
}

impl Iterator for Source<'_> {
    type Item = Result<Item, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.current.next() {
                return Some(item);
            }
            let path = self.waiting.next()?;
            match self.open(path) {
                Ok(items) => self.current = items,
                Err(error) => {
                    let place = Place { path: path.as_path().into(), line: 0 };
                    return Some(Err(Bad { place, reason: error.to_string() }));
                }
            }
        }
    }
}

/// An event names its specification. A document in WfFormat has no whole object on its first line,
/// or one with a workflow in it. Looks only at what is buffered.
fn detect(input: &mut impl io::BufRead) -> io::Result<Format> {
    #[derive(serde::Deserialize)]
    #[serde(remote = "Self")]
    struct FirstLine {
        workflow: Option<serde::de::IgnoredAny>,
        specversion: Option<serde::de::IgnoredAny>,
    }
    crate::object::objects_only!(FirstLine);
    let buffered = input.fill_buf()?;
    let line = buffered
        .split(|byte| *byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty())
        .unwrap_or_default();
    let whole = serde_json::from_slice::<FirstLine>(line);
    let is_event = |first: &FirstLine| first.specversion.is_some() && first.workflow.is_none();
    if line.starts_with(br#"{"specversion":"#) || whole.as_ref().is_ok_and(is_event) {
        return Ok(Format::Events);
    }
    let is_job = match whole {
        Ok(first) => first.workflow.is_none(),
        // A line longer than the buffer, or a bad one: a document's first line is a lone bracket,
        // or a field after it.
        Err(_) => {
            line.len() > 1
                && !line.trim_ascii().ends_with(b",")
                && !line.trim_ascii().ends_with(b"{")
        }
    };
    Ok(if is_job || line.is_empty() { Format::Ndjson } else { Format::Wfformat })
}
