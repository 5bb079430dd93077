//! Imports of one changeset: `--sync`, which also deletes what the files no longer hold, and dry
//! runs. What `--sync` would do is judged before anything is written.
//!
//! Others may write meanwhile, and most of such writes do not matter. So the changeset does not
//! depend on the graph's version: it asks that nobody has changed or created a job under the prefix
//! that the files do not hold. If somebody has, it is judged again.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use super::error::ImportError;
use super::importer::{Importer, RETRIES};
use super::item::{Item, Tally};
use super::request::{Imported, SyncOptions};
use super::source::Source;
use crate::failpoint;
use crate::graph::{
    Changeset, Command, Fact, Graph, Name, Operation, Precondition, Rejection, Step, Unchanged,
    decide,
};
use crate::service::{Image, Refusal, Write};

/// Names of each kind that a report lists at most.
const FIRST_NAMES: usize = 10;

/// What a dry run found.
#[derive(Debug)]
pub struct Preview {
    /// Jobs that would be put, each name counted once.
    pub jobs: usize,
    /// Jobs that the files repeat with the same contents.
    pub repeated: usize,
    /// Jobs that a later one of the same name replaces.
    pub replaced: usize,
    /// The graph's version at the time of the dry run; `None` if the graph does not exist yet.
    pub version: Option<u64>,
    /// The effect on the graph's jobs; `None` if the rules of a graph forbid the import.
    pub would: Option<Would>,
    /// Why the import would be refused; `None` if it would be accepted.
    pub refused: Option<ImportError>,
}

/// What a changeset would do to the jobs of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Would {
    /// Jobs that the graph does not have.
    pub create: Named,
    /// Jobs that the graph has with other contents.
    pub change: Named,
    /// Jobs that would be deleted.
    pub delete: Named,
}

/// A count and the first names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// How many.
    pub count: usize,
    /// The first of them, in byte order.
    pub first: Vec<Name>,
}

impl Named {
    fn add(&mut self, name: &Name) {
        self.count += 1;
        if self.first.len() < FIRST_NAMES {
            self.first.push(name.clone());
        }
    }
}

/// All jobs of the files.
struct Everything {
    items: Vec<Item>,
    tally: Tally,
}

impl Everything {
    /// The number of different job names.
    fn jobs(&self) -> usize {
        self.items.iter().filter(|item| !item.replaces).count()
    }

    fn puts(&self) -> impl Iterator<Item = Operation> {
        self.items.iter().map(|item| Operation::PutJob(item.job.clone()))
    }
}

/// The jobs that a sync would delete, and how many there are under its prefix.
#[derive(Default)]
struct Gone {
    /// Each with the version of its last change.
    jobs: Vec<(Name, u64)>,
    under: usize,
}

impl SyncOptions {
    /// Refuses files that are empty, or hold jobs outside the prefix.
    fn check_files(&self, everything: &Everything) -> Result<(), ImportError> {
        if let Some(path) = everything.tally.empty.first()
            && !self.allow_empty
        {
            return Err(ImportError::Empty { path: Arc::clone(path) });
        }
        if self.allow_outside {
            return Ok(());
        }
        let is_outside =
            |item: &&Item| !item.replaces && !item.job.name.as_str().starts_with(&self.prefix);
        let mut outside = everything.items.iter().filter(is_outside);
        match outside.next() {
            None => Ok(()),
            Some(first) => Err(ImportError::Outside {
                at: first.place.clone(),
                name: first.job.name.clone(),
                count: 1 + outside.count(),
                prefix: self.prefix.clone(),
            }),
        }
    }

    /// The jobs of `graph` under the prefix that are not among `items`. O(jobs under the prefix).
    fn gone(&self, graph: &Graph, items: &[Item]) -> Gone {
        let kept: HashSet<&str> = items.iter().map(|item| item.job.name.as_str()).collect();
        let under = graph
            .jobs_from(Bound::Included(self.prefix.as_str()))
            .take_while(|job| job.name().as_str().starts_with(&self.prefix));
        let mut gone = Gone::default();
        for job in under {
            gone.under += 1;
            if !kept.contains(job.name().as_str()) {
                gone.jobs.push((job.name().clone(), job.version()));
            }
        }
        gone
    }

    /// Refuses to delete more jobs than the limit allows.
    fn check_gone(&self, gone: &Gone) -> Result<(), ImportError> {
        let (deletes, under) = (gone.jobs.len(), gone.under);
        let most = self.max_delete.unwrap_or(under / 2);
        if deletes <= most {
            return Ok(());
        }
        Err(ImportError::TooManyDeletes {
            prefix: self.prefix.clone(),
            deletes,
            first: gone.jobs.iter().take(FIRST_NAMES).map(|(name, _)| name.clone()).collect(),
            under,
            most,
        })
    }
}

impl Importer<'_> {
    pub(super) fn in_one(
        &mut self,
        source: Source,
        sync: &SyncOptions,
    ) -> Result<Imported, ImportError> {
        let everything = self.read_all(source)?;
        sync.check_files(&everything)?;
        let mut retries = 0;
        loop {
            let Some(image) = self.image()? else {
                // A new graph has nothing to delete. It is not created if the rules forbid the
                // import.
                self.judge(&Graph::default(), everything.puts().collect(), &everything.items)?;
                retries = self.next_retry(retries)?;
                self.created = false;
                self.create_graph()?;
                continue;
            };
            let gone = sync.gone(&image.graph, &everything.items);
            sync.check_gone(&gone)?;
            failpoint::pass(if retries == 0 { "sync-judged" } else { "sync-judged-again" });
            let deleted = gone.jobs.len();
            let mut changeset = with_deletes(&everything, gone);
            let (prefix, since) = (sync.prefix.clone(), image.key.version);
            changeset.unchanged = Some(Unchanged { prefix, since });
            match self.write(changeset, &everything.items) {
                Ok(accepted) => {
                    return Ok(Imported {
                        jobs: everything.jobs(),
                        repeated: everything.tally.repeated,
                        replaced: everything.tally.replaced,
                        deleted,
                        version: accepted.version,
                    });
                }
                // Somebody else wrote under the prefix: find again which jobs to delete.
                Err(ImportError::Rejected { ref rejection, .. })
                    if matches!(**rejection, Rejection::PreconditionFailed { .. }) =>
                {
                    retries = self.next_retry(retries)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts the attempts that met a changed graph, up to the limit.
    fn next_retry(&self, retries: usize) -> Result<usize, ImportError> {
        if retries < RETRIES {
            return Ok(retries + 1);
        }
        let what = format!(
            "others wrote under the --sync prefix in graph `{}`, {retries} times; try again",
            self.graph
        );
        Err(self.refused(Refusal::Contended { what }))
    }

    fn read_all(&self, mut source: Source) -> Result<Everything, ImportError> {
        let mut items = Vec::new();
        for item in source.by_ref() {
            items.push(item.map_err(|stop| self.stopped(stop))?);
        }
        Ok(Everything { items, tally: source.take_tally() })
    }

    /// The graph at its current version; `None` if it does not exist.
    fn image(&self) -> Result<Option<Arc<Image>>, ImportError> {
        match self.service.read_and_wait(self.graph) {
            Ok(image) => Ok(Some(image)),
            Err(Refusal::GraphNotFound { .. }) => Ok(None),
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    /// The effect on `graph` of a changeset that begins by putting `items`.
    fn judge(
        &self,
        graph: &Graph,
        changeset: Changeset,
        items: &[Item],
    ) -> Result<Would, ImportError> {
        let decision = decide(graph, &Command::Changeset(changeset))
            .map_err(|rejection| ImportError::rejected(rejection, items, self.already))?;
        let mut would = Would::default();
        for fact in &decision.change.facts {
            match fact {
                Fact::JobCreated { name, .. } => would.create.add(name),
                Fact::JobChanged { name, .. } => would.change.add(name),
                Fact::JobDeleted { name } => would.delete.add(name),
                Fact::GraphDeleted {}
                | Fact::DatasetDeclared { .. }
                | Fact::DatasetChanged { .. }
                | Fact::DatasetUndeclared { .. } => {}
            }
        }
        Ok(would)
    }

    pub(super) fn preview(
        &self,
        source: Source,
        sync: Option<&SyncOptions>,
    ) -> Result<Preview, ImportError> {
        let everything = self.read_all(source)?;
        let image = self.image()?;
        if image.is_some() {
            self.ask_for_writes()?;
        }
        let (graph, version) = match &image {
            Some(image) => (image.graph.clone(), Some(image.key.version)),
            None => (Graph::default(), None),
        };
        let gone = sync.map_or_else(Gone::default, |sync| sync.gone(&graph, &everything.items));
        let checked = sync.map_or(Ok(()), |sync| {
            sync.check_files(&everything).and_then(|()| sync.check_gone(&gone))
        });
        let judged = self.judge(&graph, with_deletes(&everything, gone), &everything.items);
        let (would, refused) = match judged {
            Ok(would) => (Some(would), checked.err()),
            Err(rejected) => (None, Some(checked.err().unwrap_or(rejected))),
        };
        Ok(Preview {
            jobs: everything.jobs(),
            repeated: everything.tally.repeated,
            replaced: everything.tally.replaced,
            version,
            would,
            refused,
        })
    }

    /// Checks that the graph takes writes: it may be frozen, or its lock unavailable.
    fn ask_for_writes(&self) -> Result<(), ImportError> {
        match self.service.write_and_wait(self.graph, Write::nothing()) {
            // Deleted since it was read: an import would create it again.
            Ok(_) | Err(Refusal::GraphNotFound { .. }) => Ok(()),
            Err(refusal) => Err(self.refused(refusal)),
        }
    }
}

fn with_deletes(everything: &Everything, gone: Gone) -> Changeset {
    let delete = |(name, version)| Step {
        precondition: Some(Precondition::Version(version)),
        operation: Operation::DeleteJob { name },
    };
    let deletes = gone.jobs.into_iter().map(delete);
    let steps = everything.puts().map(Step::from).chain(deletes).collect();
    Changeset { steps, ..Changeset::default() }
}
