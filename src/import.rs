//! Imports: jobs from files, in atomic changesets, while the service runs. Uses `design` as any
//! client would.
//!
//! Each file is opened once and read forwards, so that pipes lose nothing. An import streams: in
//! memory are the changeset that is being written, the next one, which is read meanwhile, of a
//! WfFormat document the document, and one hash for each job's name (`duplicates.rs`). With
//! `--sync` and in a dry run there is one changeset, and so all jobs are in memory. An import can
//! be repeated: a job that is there as the file has it changes nothing.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

use crate::address::redacted_file;
use crate::design::{Accepted, Refusal, Service};
use crate::graph::{Changeset, Command, JobSpecification, Name, Operation};
use crate::input::{self, Repeats};

mod duplicates;
mod error;
pub mod events;
mod file;
mod format;
mod ndjson;
mod source;
mod sync;
mod wfformat;

pub use error::{Already, ImportError, Place};
pub use sync::{Named, Preview, SyncOptions, Would, preview};

use events::LogFile;
use file::OpenFile;
use format::FileFormat;
use source::Source;

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// By the first bytes of each file: a job, an event, or the beginning of a WfFormat document
    #[default]
    Auto,
    /// One job a line: `{"name","inputs","outputs","spec"}`
    Ndjson,
    /// WfCommons' workflow JSON, schema 1.5 or 1.6
    Wfformat,
    /// A log of changes or a snapshot, one event a line: restored with all its versions, into a
    /// graph that was never written
    Events,
}

impl Format {
    /// The format, unless each file is to tell its own.
    fn given(self) -> Option<FileFormat> {
        match self {
            Self::Auto => None,
            Self::Ndjson => Some(FileFormat::Ndjson),
            Self::Wfformat => Some(FileFormat::Wfformat),
            Self::Events => Some(FileFormat::Events),
        }
    }
}

/// What WfFormat names are prefixed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Namespace {
    /// The file's name without its ending, and a slash
    #[default]
    File,
    /// Nothing
    None,
}

/// What becomes of a job whose name comes again with another content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnDuplicate {
    /// The changeset that holds it is refused, with both places
    #[default]
    Refuse,
    /// It replaces the one before it
    Last,
}

/// How to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// Into which graph; created if it is not there.
    pub graph: Name,
    /// How names of WfFormat documents are made.
    pub namespace: Namespace,
    /// What becomes of a job whose name comes again with another content.
    pub on_duplicate: OnDuplicate,
    /// If given: one changeset, which also deletes jobs that the files do not hold.
    pub sync: Option<SyncOptions>,
    /// Jobs that go into one changeset, unless it is refused at its border; at least 1.
    pub chunk_jobs: usize,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Jobs put, each name counted once.
    pub jobs: usize,
    /// Jobs that came again as they were.
    pub repeated: usize,
    /// Jobs that were replaced by a later one of the same name.
    pub replaced: usize,
    /// Jobs deleted by `sync`.
    pub deleted: usize,
    /// The graph's version at the end.
    pub version: u64,
}

/// What the paths of an import hold.
pub enum Opened {
    /// Jobs.
    Jobs(Files),
    /// A log of events, which is restored by [`events::restore`].
    Log(LogFile),
}

/// Files that hold jobs: the first is open, the others are opened one after another.
pub struct Files {
    format: Format,
    first: Option<OpenFile>,
    rest: VecDeque<PathBuf>,
    /// Of all files together, if it is known.
    bytes: Option<u64>,
}

/// Makes sure that all paths can be read, opens the first and finds out what it holds. Of a log of
/// events, only the first path is looked at.
///
/// # Errors
/// [`ImportError`] if a path cannot be read, or it cannot be told what the first holds.
///
/// # Panics
/// If there are no paths.
pub fn open(format: Format, paths: &[PathBuf]) -> Result<Opened, ImportError> {
    let (first, rest) = paths.split_first().expect("an import has a path");
    if format == Format::Events {
        return LogFile::open(first).map(Opened::Log);
    }
    let bytes = input::inspect(paths.iter().map(PathBuf::as_path), Repeats::Allowed)?;
    let first = OpenFile::open(first.as_path().into(), format)
        .map_err(|bad| ImportError::bad(bad, Already::default()))?;
    if first.format() == FileFormat::Events {
        return Ok(Opened::Log(LogFile::new(first, bytes)));
    }
    Ok(Opened::Jobs(Files {
        format,
        first: Some(first),
        rest: rest.iter().cloned().collect(),
        bytes,
    }))
}

impl Files {
    /// Opens the next file.
    fn open_next(&mut self) -> Option<Result<OpenFile, Bad>> {
        match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => Some(OpenFile::open(self.rest.pop_front()?.into(), self.format)),
        }
    }
}

/// A job, where it was read, and how long it was there.
struct Item {
    place: Place,
    job: JobSpecification,
    bytes: usize,
    /// Whether it replaces one of the same name that was read before it.
    replaces: bool,
}

/// What a file holds in place of a job.
#[derive(Debug, PartialEq, Eq)]
struct Bad {
    place: Place,
    reason: String,
}

/// Why reading ended before the last file did.
enum Stop {
    Bad(Bad),
    /// A job's name comes again with another content.
    Duplicate {
        name: Name,
        first: Place,
        second: Place,
    },
}

/// What was found beside the jobs.
#[derive(Default)]
struct Tally {
    repeated: usize,
    replaced: usize,
    /// Files that hold no job.
    empty: Vec<Arc<Path>>,
}

/// How many jobs one changeset holds unless something else is asked for: the quickest.
pub const CHUNK_JOBS: usize = 10_000;
/// Bytes that go into one changeset.
const CHUNK_BYTES: usize = 8 << 20;
/// How many jobs one changeset grows to before a refusal is final.
const JOBS_MAX: usize = 40_000;
/// How many bytes one changeset grows to before a refusal is final.
const BYTES_MAX: usize = 128 << 20;
/// How often a changeset is tried again that came too late, or before `--sync` found the graph
/// unchanged.
const RETRIES: usize = 8;

/// Imports what `files` hold. Shows a bar on standard error if that is a terminal.
///
/// # Errors
/// [`ImportError`] names the first bad line and says what is already in.
pub fn import(
    service: &Service,
    request: &ImportRequest,
    files: Files,
) -> Result<Imported, ImportError> {
    let mut import = Import::new(service, request, &files);
    let source = Source::new(files, request, import.bar.clone());
    let outcome = match &request.sync {
        None => import.in_chunks(request, source),
        Some(sync) => import.in_one(source, sync),
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
    fn new(service: &'i Service, request: &'i ImportRequest, files: &Files) -> Self {
        Self {
            service,
            graph: &request.graph,
            bar: bar_over(files.bytes),
            already: Already::default(),
            created: false,
        }
    }

    /// One thread reads and this one writes.
    fn in_chunks(
        &mut self,
        request: &ImportRequest,
        source: Source,
    ) -> Result<Imported, ImportError> {
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
        let (mut waiting, mut tally) = (Waiting::default(), Tally::default());
        for Chunk { items, bytes, end } in chunks {
            waiting.items.extend(items);
            waiting.bytes += bytes;
            let (more, stop) = match end {
                End::More => (true, None),
                End::Done(read) => {
                    tally = read;
                    (false, None)
                }
                // The changeset that it is in is refused whole.
                End::Stopped(stop @ Stop::Duplicate { .. }) => return Err(self.stopped(stop)),
                End::Stopped(stop) => (false, Some(stop)),
            };
            // Where nothing can be read, no graph is left behind.
            if stop.is_none() || !waiting.items.is_empty() {
                self.put_waiting(&mut waiting, more)?;
            }
            if let Some(stop) = stop {
                return Err(self.stopped(stop));
            }
        }
        for path in &tally.empty {
            log::warn!("{} holds no job", redacted_file(path));
        }
        Ok(Imported {
            jobs: self.already.jobs,
            repeated: tally.repeated,
            replaced: tally.replaced,
            deleted: 0,
            version: self.already.version.unwrap_or_default(),
        })
    }

    /// Puts the jobs that wait. If the rules refuse them and more are to come, they wait for more,
    /// up to the limit.
    fn put_waiting(&mut self, waiting: &mut Waiting, more: bool) -> Result<(), ImportError> {
        let may_grow = more && waiting.items.len() < JOBS_MAX && waiting.bytes < BYTES_MAX;
        if may_grow && waiting.items.len() < waiting.worth_a_try {
            return Ok(());
        }
        self.create_graph()?;
        match self.put(&waiting.items) {
            Ok(accepted) => {
                self.already.jobs += waiting.items.iter().filter(|item| !item.replaces).count();
                self.already.version = Some(accepted.version);
                self.bar.set_message(format!("{} jobs", self.already.jobs));
                *waiting = Waiting::default();
                Ok(())
            }
            // What follows may make it legal: a producer that moved, an edge that went.
            Err(ImportError::Rejected { .. }) if may_grow => {
                waiting.worth_a_try = 2 * waiting.items.len();
                Ok(())
            }
            Err(ImportError::Rejected { at, rejection, already, .. }) if more => {
                let grown_to = Some(waiting.items.len());
                Err(ImportError::Rejected { at, rejection, grown_to, already })
            }
            Err(error) => Err(error),
        }
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

    fn put(&self, items: &[Item]) -> Result<Accepted, ImportError> {
        self.write(items.iter().map(|item| Operation::PutJob(item.job.clone())).collect(), items)
    }

    /// Writes a changeset whose first operations put `items`.
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
                    return Err(ImportError::rejected(rejection, items, self.already));
                }
                outcome => return outcome.map_err(|refusal| self.refused(refusal)),
            }
        }
    }

    fn stopped(&self, stop: Stop) -> ImportError {
        match stop {
            Stop::Bad(bad) => ImportError::bad(bad, self.already),
            Stop::Duplicate { name, first, second } => {
                ImportError::Duplicate { name, first, second, already: self.already }
            }
        }
    }

    fn refused(&self, refusal: Refusal) -> ImportError {
        ImportError::Refused { refusal, already: self.already }
    }
}

/// A bar over so many bytes; if they are not known, only what was read is shown.
fn bar_over(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{elapsed} [{bar:40}] {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left) {msg}",
        ),
        None => (ProgressBar::no_length(), "{elapsed} {bytes} ({bytes_per_sec}) {msg}"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
    bar
}

/// Jobs that have been read and not put.
#[derive(Default)]
struct Waiting {
    items: Vec<Item>,
    bytes: usize,
    /// A changeset that was refused is tried again when it has so many jobs, twice as many as
    /// before, or when it can become no longer.
    worth_a_try: usize,
}

/// Jobs that are put together.
struct Chunk {
    items: Vec<Item>,
    bytes: usize,
    end: End,
}

/// Why a chunk ends where it does.
enum End {
    /// It is full.
    More,
    /// There is nothing more.
    Done(Tally),
    /// What follows is no job that is put.
    Stopped(Stop),
}

/// Reads until the end, or until nobody wants the chunks any more.
fn read_chunks(mut source: Source, most: usize, chunks: &SyncSender<Chunk>) {
    loop {
        let (mut items, mut bytes, mut end) = (Vec::new(), 0, End::More);
        while items.len() < most && bytes < CHUNK_BYTES {
            match source.next() {
                Some(Ok(item)) => {
                    bytes += item.bytes;
                    items.push(item);
                }
                Some(Err(stop)) => {
                    end = End::Stopped(stop);
                    break;
                }
                None => {
                    end = End::Done(source.take_tally());
                    break;
                }
            }
        }
        let last = !matches!(end, End::More);
        if chunks.send(Chunk { items, bytes, end }).is_err() || last {
            return;
        }
    }
}
