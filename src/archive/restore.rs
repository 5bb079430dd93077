//! A graph from a log or a snapshot: the same versions, chain and times as where it comes from.
//!
//! The whole log is replayed before anything is written. Its changes wait in a file without a name;
//! then one transaction writes all, and nothing in it waits for whoever sends the log.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

use uuid::Uuid;

use super::PART_BYTES;
use crate::chain::{Chain, LoggedChange};
use crate::db::DbError;
use crate::event::{Event, Importing, Kind, Reader, Replay, ReplayError, Replayed, Stream};
use crate::graph::{Graph, Name};
use crate::store::{
    CommitError, Consumer, GraphState, Head, History, Restoration, Restored, StorageKind, Store,
    StoreError, Target,
};
use crate::terminal::shell_word;

/// Changes, and bytes of them, that are written at once.
const CHUNK_CHANGES: usize = 1_000;
const CHUNK_BYTES: usize = 4 << 20;

/// Why a graph was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The log is damaged. Nothing was written.
    #[error(transparent)]
    Log(#[from] ReplayError),
    /// There is a graph of that name that was written.
    #[error(
        "graph `{graph}` {}: a log is restored into a graph that is not there, or was never \
         written; give another --graph",
        in_the_way(.head)
    )]
    InTheWay {
        /// The graph.
        graph: Name,
        /// Its row.
        head: Box<Head>,
    },
    /// Somebody registered to read the empty graph from its first change on.
    #[error(
        "consumer `{}` of graph `{graph}` waits for changes that the log does not have: it begins \
         at {oldest}. Let the consumer begin with a snapshot, and remove it here: fencepost \
         consumer remove --graph {} --name {}",
        .consumer.name, shell_word(.graph.as_str()), shell_word(.consumer.name.as_str())
    )]
    NeededBy {
        /// The graph.
        graph: Name,
        /// Who is furthest behind.
        consumer: Box<Consumer>,
        /// The oldest change that there would be.
        oldest: u64,
    },
    /// The log begins with a snapshot, and a graph that is stored as its log needs all of it.
    #[error(
        "the log begins with a snapshot, and its first change is version {oldest}: graph `{graph}` \
         would be kept as {storage}, by all of its changes; export the log with --after 0"
    )]
    BeginsLate {
        /// The graph.
        graph: Name,
        /// How it would be stored.
        storage: StorageKind,
        /// The oldest change that there is.
        oldest: u64,
    },
    /// The file in which changes wait could not be written or read. Nothing was restored. Make
    /// room, or set TMPDIR.
    #[error(
        "a temporary file in {} cannot be written or read: {error}; make room there, or set TMPDIR",
        std::env::temp_dir().display()
    )]
    Waiting {
        /// What came of it.
        error: io::Error,
    },
    /// The database did not do it. Only [`CommitError::Unknown`] leaves open whether the graph is
    /// there.
    #[error(transparent)]
    Write(#[from] CommitError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DbError> for RestoreError {
    fn from(error: DbError) -> Self {
        Self::Write(error.into())
    }
}

fn in_the_way(head: &Head) -> String {
    match head.state {
        GraphState::Open => format!("is at version {}", head.version),
        GraphState::Deleted => {
            format!("was deleted at version {}, and its versions would go on", head.version)
        }
        GraphState::Frozen => "is frozen".to_owned(),
    }
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredGraph {
    /// Jobs that it has.
    pub jobs: usize,
    /// Its version.
    pub version: u64,
    /// What its history is called here.
    pub uuid: Uuid,
    /// Whether that is what it is called in the log.
    pub same_uuid: bool,
    /// Whether the log ends with its deletion: it is restored as deleted.
    pub deleted: bool,
}

/// Takes a log, event by event, and makes a graph of it at the end.
pub struct Restorer {
    replay: Replay,
    imported: Option<Imported>,
    waiting: BufWriter<File>,
    storage: StorageKind,
}

/// The graph that the log begins with.
struct Imported {
    graph: Graph,
    chain: Chain,
    committed_at_ms: Option<i64>,
}

impl Restorer {
    /// For the graph `name`, which must be free. If it is not there, it will be stored in
    /// `storage`.
    ///
    /// # Errors
    /// [`RestoreError::InTheWay`] if it is not; [`RestoreError::Waiting`] if there is no place for
    /// a temporary file.
    pub fn new(store: &Store, name: &Name, storage: StorageKind) -> Result<Self, RestoreError> {
        if let Some(head) = store.head_unless_free(name)? {
            return Err(RestoreError::InTheWay { graph: name.clone(), head: Box::new(head) });
        }
        // One that was created and never written stays as it was created.
        let storage = store.head(name)?.map_or(storage, |head| head.storage);
        store.check_may_move(name, storage)?;
        let file = tempfile::tempfile().map_err(|error| RestoreError::Waiting { error })?;
        let waiting = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { replay: Replay::default(), imported: None, waiting, storage })
    }

    /// Takes the next event, without its line feed.
    ///
    /// # Errors
    /// [`RestoreError::Log`] if the log is damaged there.
    pub fn take(&mut self, text: &str) -> Result<(), RestoreError> {
        let event = self.replay.take(text)?;
        match event.kind {
            Kind::ImportBegun | Kind::Imported => Ok(()),
            Kind::ImportEnded => {
                let (graph, chain) = (self.replay.graph().clone(), self.replay.chain());
                self.imported =
                    Some(Imported { graph, chain, committed_at_ms: event.committed_at_ms });
                Ok(())
            }
            Kind::Changed => {
                let written = self
                    .waiting
                    .write_all(text.as_bytes())
                    .and_then(|()| self.waiting.write_all(b"\n"));
                written.map_err(|error| RestoreError::Waiting { error })
            }
        }
    }

    /// Writes the graph that the log comes to, as `name`.
    ///
    /// # Errors
    /// [`RestoreError`]; all but [`CommitError::Unknown`] mean that nothing was written.
    pub fn finish(self, store: &Store, name: &Name) -> Result<RestoredGraph, RestoreError> {
        let Self { replay, imported, waiting, storage } = self;
        let replayed = replay.finish()?;
        let uuid = replayed.stream.uuid;
        // Put in order before the transaction: a server ends one that stands still.
        let importing = imported.map(|Imported { graph, chain, committed_at_ms }| {
            Importing::new(Stream::new(name.clone(), uuid), graph, chain, committed_at_ms)
        });
        let (version, chain) = (replayed.graph.version(), replayed.chain);
        let oldest = importing.as_ref().map_or(1, |importing| importing.contents().version + 1);
        let oldest = match store.history(storage) {
            History::Whole if oldest > 1 => {
                return Err(RestoreError::BeginsLate { graph: name.clone(), storage, oldest });
            }
            History::Whole | History::Beside => oldest,
            History::None => version + 1,
        };
        let deleted = replayed.deleted;
        let target = Target { name, uuid, version, chain, oldest, deleted, storage };
        let changes = rewound(waiting).map_err(|error| RestoreError::Waiting { error })?;
        match store.restore(&target, |into| fill(into, name, importing, changes, &replayed))? {
            Restored::InTheWay(head) => Err(RestoreError::InTheWay { graph: name.clone(), head }),
            Restored::NeededBy(consumer) => {
                Err(RestoreError::NeededBy { graph: name.clone(), consumer, oldest })
            }
            Restored::As(given) => {
                let jobs = replayed.graph.job_count();
                Ok(RestoredGraph { jobs, version, uuid: given, same_uuid: given == uuid, deleted })
            }
        }
    }
}

fn rewound(waiting: BufWriter<File>) -> io::Result<BufReader<File>> {
    let mut file = waiting.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

fn fill(
    into: &mut Restoration<'_>,
    name: &Name,
    importing: Option<Importing>,
    changes: BufReader<File>,
    replayed: &Replayed,
) -> Result<(), RestoreError> {
    into.graph(&replayed.graph)?;
    if let Some(importing) = importing {
        let stream = Stream::new(name.clone(), into.uuid());
        write_snapshot(into, importing.named(stream))?;
    }
    write_changes(into, changes)
}

fn write_snapshot(
    into: &mut Restoration<'_>,
    mut importing: Importing,
) -> Result<(), RestoreError> {
    let (version, committed_at_ms) = (importing.contents().version, importing.committed_at_ms());
    let (mut number, mut part) = (0, Vec::with_capacity(PART_BYTES));
    while importing.write_some(PART_BYTES, &mut part).is_some() {
        let lines = std::str::from_utf8(&part).expect("events are written as UTF-8");
        into.snapshot_part(version, number, lines)?;
        number += 1;
        part.clear();
    }
    Ok(into.install_snapshot(version, committed_at_ms)?)
}

/// They were judged when they were taken.
fn write_changes(
    into: &mut Restoration<'_>,
    mut waiting: BufReader<File>,
) -> Result<(), RestoreError> {
    let mut reader = Reader::default();
    let (mut chunk, mut bytes, mut line) = (Vec::new(), 0, String::new());
    loop {
        line.clear();
        let read = waiting.read_line(&mut line).map_err(|error| RestoreError::Waiting { error })?;
        if let Some(text) = line.strip_suffix('\n') {
            let (_, event) = reader.read(text).map_err(ReplayError::from)?;
            chunk.push(logged(event)?);
            bytes += read;
        }
        if read == 0 || chunk.len() == CHUNK_CHANGES || bytes >= CHUNK_BYTES {
            into.changes(&chunk)?;
            chunk.clear();
            bytes = 0;
        }
        if read == 0 {
            return Ok(());
        }
    }
}

fn logged(event: Event<'_>) -> Result<LoggedChange, ReplayError> {
    let no_time = || ReplayError::Data("it has no time".to_owned());
    Ok(LoggedChange {
        version: event.index.version,
        change: event.data.into_owned(),
        chain: event.chain,
        committed_at_ms: event.committed_at_ms.ok_or_else(no_time)?,
        actor: event.actor.map(Cow::into_owned),
    })
}
