//! Imports: puts jobs from files into a graph, in atomic changesets, while the service runs. Uses
//! `service` as any client would.
//!
//! Each file is opened once and read forwards, so that pipes work. An import streams. It keeps in
//! memory the changeset that is being written, the next one, which is read meanwhile, a whole
//! WfFormat document, and one hash for each job's name (`duplicates.rs`). With `--sync` and in a
//! dry run there is one changeset, so all jobs are in memory. An import can be repeated: a job that
//! the graph already has as in the file changes nothing.
//!
//! `source.rs` reads, `importer.rs` writes; `chunks.rs` and `sync.rs` say what is written together.

use crate::service::Service;

mod chunks;
mod duplicates;
mod error;
pub mod events;
mod files;
mod format;
mod importer;
mod item;
mod ndjson;
mod open_file;
mod progress;
mod request;
mod source;
mod sync;
mod wfformat;

pub use error::{Already, ImportError};
pub use files::{Files, Opened, open};
pub use item::Place;
pub use request::{
    CHUNK_JOBS, Format, ImportRequest, Imported, Namespace, OnDuplicate, SyncOptions,
};
pub use sync::{Named, Preview, Would};

use importer::Importer;
use source::Source;

/// Imports the jobs in `files`. Shows a progress bar if standard error is a terminal.
///
/// # Errors
/// [`ImportError`] names the first bad line and says how much was imported before it.
pub fn import(
    service: &Service,
    request: &ImportRequest,
    files: Files,
) -> Result<Imported, ImportError> {
    let mut import = Importer::new(service, request, &files);
    let source = Source::new(files, request, import.bar.clone());
    let outcome = match &request.sync {
        None => import.in_chunks(request, source),
        Some(sync) => import.in_one(source, sync),
    };
    import.bar.finish_and_clear();
    outcome
}

/// A dry run: judges the jobs in `files` as one changeset on the current graph, and writes nothing.
/// (An import without `sync` writes several changesets, each of which must be legal.)
///
/// # Errors
/// [`ImportError`] if the files cannot be read, or the service does not answer. That the import
/// would be refused is no error: the [`Preview`] says so.
pub fn preview(
    service: &Service,
    request: &ImportRequest,
    files: Files,
) -> Result<Preview, ImportError> {
    let import = Importer::new(service, request, &files);
    let source = Source::new(files, request, import.bar.clone());
    let outcome = import.preview(source, request.sync.as_ref());
    import.bar.finish_and_clear();
    outcome
}
