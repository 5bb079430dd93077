//! Writes changesets into the graph of an import, and says what went wrong.

use indicatif::ProgressBar;

use super::error::{Already, ImportError};
use super::files::Files;
use super::item::{Item, Stop};
use super::progress::bar_over;
use super::request::ImportRequest;
use crate::graph::{Changeset, Command, Name};
use crate::service::{Accepted, Refusal, Service};

/// How often a changeset is tried again after another writer was faster; also how often `--sync`
/// judges again because others wrote under its prefix.
pub(super) const RETRIES: usize = 8;

/// An import under way: into which graph, and how far it has come.
pub(super) struct Importer<'i> {
    pub(super) service: &'i Service,
    pub(super) graph: &'i Name,
    pub(super) bar: ProgressBar,
    pub(super) already: Already,
    /// Whether the graph is known to exist.
    pub(super) created: bool,
}

impl<'i> Importer<'i> {
    pub(super) fn new(service: &'i Service, request: &'i ImportRequest, files: &Files) -> Self {
        Self {
            service,
            graph: &request.graph,
            bar: bar_over(files.bytes),
            already: Already::default(),
            created: false,
        }
    }

    /// Creates the graph unless it is known to exist. Called when the first jobs have been read, so
    /// that a file that cannot be read leaves no empty graph behind.
    pub(super) fn create_graph(&mut self) -> Result<(), ImportError> {
        if !self.created {
            self.service
                .create_graph_and_wait(self.graph)
                .map_err(|refusal| self.refused(refusal))?;
            self.created = true;
        }
        Ok(())
    }

    /// Writes a changeset whose first operations put `items`.
    pub(super) fn write(
        &self,
        changeset: Changeset,
        items: &[Item],
    ) -> Result<Accepted, ImportError> {
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

    pub(super) fn stopped(&self, stop: Stop) -> ImportError {
        match stop {
            Stop::Bad(bad) => ImportError::bad(bad, self.already),
            Stop::Duplicate { name, first, second } => {
                ImportError::Duplicate { name, first, second, already: self.already }
            }
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) -> ImportError {
        ImportError::Refused { refusal, already: self.already }
    }
}
