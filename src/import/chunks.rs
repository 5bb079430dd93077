//! Imports of many changesets: one thread reads the next chunk of jobs while another writes the one
//! before it.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::error::ImportError;
use super::importer::Importer;
use super::item::{Item, Stop, Tally};
use super::request::{ImportRequest, Imported};
use super::source::Source;
use crate::address::redacted_file;
use crate::graph::Operation;
use crate::service::Accepted;

/// The size of a chunk, in bytes of input; its last job may exceed it.
const CHUNK_BYTES: usize = 8 << 20;
/// A changeset that the rules refuse grows up to this many jobs before the refusal is final.
const JOBS_MAX: usize = 40_000;
/// Likewise, in bytes of input.
const BYTES_MAX: usize = 128 << 20;

impl Importer<'_> {
    /// Imports everything that `source` reads: another thread reads, and this one writes.
    pub(super) fn in_chunks(
        &mut self,
        request: &ImportRequest,
        source: Source,
    ) -> Result<Imported, ImportError> {
        let (sender, chunks) = sync_channel(0);
        thread::scope(|scope| {
            scope.spawn(move || read_chunks(source, request.chunk_jobs, &sender));
            // `chunks` is dropped here, also after an error: then the reader ends too.
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
                // The whole changeset with the second job is refused.
                End::Stopped(stop @ Stop::Duplicate { .. }) => return Err(self.stopped(stop)),
                End::Stopped(stop) => (false, Some(stop)),
            };
            // If nothing could be read, no graph is created.
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

    /// Puts the waiting jobs. If the rules refuse them and `more` jobs follow, they wait for those,
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
            // Later jobs may make it legal: a producer may have moved, or an edge gone.
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

    fn put(&self, items: &[Item]) -> Result<Accepted, ImportError> {
        self.write(items.iter().map(|item| Operation::PutJob(item.job.clone())).collect(), items)
    }
}

/// Jobs that were read and not put yet.
#[derive(Default)]
struct Waiting {
    items: Vec<Item>,
    bytes: usize,
    /// The number of jobs at which a refused changeset is tried again: twice as many as before. It
    /// is tried again sooner if it cannot grow any more.
    worth_a_try: usize,
}

/// Jobs that were read together.
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
    /// What follows is no job, or a duplicate.
    Stopped(Stop),
}

/// Reads chunks of at most `most` jobs until the end, or until their receiver is gone.
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
