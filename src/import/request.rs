//! What an import is asked to do, and what it answers.

use super::format::FileFormat;
use crate::graph::Name;

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
    /// The format; `None` if each file tells its own.
    pub(super) fn given(self) -> Option<FileFormat> {
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

/// What to import, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// The graph; it is created if it does not exist.
    pub graph: Name,
    /// How names of WfFormat documents are made.
    pub namespace: Namespace,
    /// What to do with two jobs that have one name and different contents.
    pub on_duplicate: OnDuplicate,
    /// If given, the import is one changeset, which also deletes jobs that the files do not hold.
    pub sync: Option<SyncOptions>,
    /// How many jobs go into one changeset, at least 1. A changeset that the rules refuse may grow.
    pub chunk_jobs: usize,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Jobs put, each name counted once.
    pub jobs: usize,
    /// Jobs that were read again with the same content.
    pub repeated: usize,
    /// Jobs that were replaced by a later one of the same name.
    pub replaced: usize,
    /// Jobs deleted by `sync`.
    pub deleted: usize,
    /// The graph's version at the end.
    pub version: u64,
}

/// What `--sync` may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncOptions {
    /// Jobs under this prefix that the files do not hold are deleted.
    pub prefix: String,
    /// Whether a file may hold no job.
    pub allow_empty: bool,
    /// Whether the files may hold jobs whose names do not begin with the prefix.
    pub allow_outside: bool,
    /// How many jobs may be deleted; `None`: half of those under the prefix.
    pub max_delete: Option<usize>,
}

/// The default of [`ImportRequest::chunk_jobs`]: the size that was measured to be fastest.
pub const CHUNK_JOBS: usize = 10_000;
