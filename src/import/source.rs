//! Reads the jobs of all files in order. Each name may occur once, unless the last one of a name
//! replaces the others.

use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;

use super::duplicates::{Novelty, Seen, Spot};
use super::files::Files;
use super::format::FileFormat;
use super::item::{Bad, Item, Place, Stop, Tally};
use super::open_file::OpenFile;
use super::request::{ImportRequest, Namespace, OnDuplicate};
use super::{ndjson, wfformat};
use crate::address::redacted_file;

type Items = Box<dyn Iterator<Item = Result<Item, Bad>> + Send>;

/// Reads the files one after another, and stops at the first error.
pub(super) struct Source {
    files: Files,
    namespace: Namespace,
    on_duplicate: OnDuplicate,
    bar: ProgressBar,
    /// The file that is being read, and whether it has held a job so far.
    current: Option<(Items, bool)>,
    /// The number of files that were opened.
    opened: Vec<Arc<Path>>,
    seen: Seen,
    tally: Tally,
}

impl Source {
    pub(super) fn new(files: Files, request: &ImportRequest, bar: ProgressBar) -> Self {
        Self {
            files,
            namespace: request.namespace,
            on_duplicate: request.on_duplicate,
            bar,
            current: None,
            opened: Vec::new(),
            seen: Seen::new(),
            tally: Tally::default(),
        }
    }

    /// Counts of repeated and replaced jobs. Complete after the last job was read.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn items(&mut self, file: OpenFile) -> Result<Items, Bad> {
        let path = Arc::clone(file.path());
        self.opened.push(Arc::clone(&path));
        let whole =
            |reason: String| Bad { place: Place { path: Arc::clone(&path), line: 0 }, reason };
        match file.format() {
            FileFormat::Ndjson => {
                Ok(Box::new(ndjson::Lines::new(path, file.into_reader(&self.bar))))
            }
            FileFormat::Wfformat => {
                let prefix = match self.namespace {
                    Namespace::None => String::new(),
                    Namespace::File => stem_prefix(&file).map_err(whole)?,
                };
                let read = wfformat::read(&path, file.into_reader(&self.bar), &prefix);
                Ok(Box::new(read.map_err(|error| whole(error.to_string()))?))
            }
            FileFormat::Events => Err(whole(
                "is a log of events: it is imported alone, without other files".to_owned(),
            )),
        }
    }

    /// The job to import; `None` if an equal one was read before.
    fn judge(&mut self, item: Item) -> Option<Result<Item, Stop>> {
        let at = Spot {
            file: u32::try_from(self.opened.len() - 1).unwrap_or(u32::MAX),
            line: u32::try_from(item.place.line).unwrap_or(u32::MAX),
        };
        match (self.seen.note(&item.job, at), self.on_duplicate) {
            (Novelty::New, _) => Some(Ok(item)),
            (Novelty::Same, _) => {
                self.tally.repeated += 1;
                None
            }
            (Novelty::Other(_), OnDuplicate::Last) => {
                self.tally.replaced += 1;
                Some(Ok(Item { replaces: true, ..item }))
            }
            (Novelty::Other(first), OnDuplicate::Refuse) => {
                let path = &self.opened[first.file as usize];
                let first = Place { path: Arc::clone(path), line: first.line as usize };
                Some(Err(Stop::Duplicate { name: item.job.name, first, second: item.place }))
            }
        }
    }
}

/// The jobs to put.
impl Iterator for Source {
    type Item = Result<Item, Stop>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((items, held)) = &mut self.current else {
                let file = match self.files.open_next()? {
                    Ok(file) => file,
                    Err(bad) => return Some(Err(Stop::Bad(bad))),
                };
                match self.items(file) {
                    Ok(items) => self.current = Some((items, false)),
                    Err(bad) => return Some(Err(Stop::Bad(bad))),
                }
                continue;
            };
            match items.next() {
                Some(Ok(item)) => {
                    *held = true;
                    if let Some(judged) = self.judge(item) {
                        return Some(judged);
                    }
                }
                Some(Err(bad)) => return Some(Err(Stop::Bad(bad))),
                None => {
                    if !*held {
                        self.tally.empty.extend(self.opened.last().cloned());
                    }
                    self.current = None;
                }
            }
        }
    }
}

/// The prefix of the names in a document.
fn stem_prefix(file: &OpenFile) -> Result<String, String> {
    let stem = file.path().file_stem().unwrap_or_default();
    let Some(stem) = stem.to_str() else {
        let reason = "the file's name is not UTF-8, and job names would begin with it: rename the \
                      file, or choose --namespace none";
        return Err(reason.to_owned());
    };
    if !file.is_regular() {
        log::warn!(
            "{}: this is a stream without a file name; job names begin with `{stem}/`. With \
             --namespace none they do not",
            redacted_file(file.path())
        );
    }
    Ok(format!("{stem}/"))
}
