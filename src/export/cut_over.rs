//! The last step of leaving: a graph that takes no more writes, and a log that has all of them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::sink::{Purpose, SinkError};
use super::sink_url::SinkUrl;
use super::verify::{Verified, VerifyError, verify};
use crate::event::{Kind, Reader, Stream};
use crate::store::Head;
use crate::store::Store;

/// How often a sink is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a frozen graph's log is not known to be whole. The graph stays frozen.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// Nobody has written the last version there.
    #[error(
        "graph `{graph}` is frozen at version {sealed}, and after {waited:.0?} {sink} {}: is an exporter following? Let \
         `fencepost export` write the rest, then freeze again; or `fencepost thaw`",
        .version.map_or("has nothing whole".to_owned(), |version| format!("has version {version}"))
    )]
    Behind {
        /// The graph.
        graph: String,
        /// The last version that there will be.
        sealed: u64,
        /// Where it was looked for.
        sink: String,
        /// What is there.
        version: Option<u64>,
        /// For how long it was looked for.
        waited: Duration,
    },
    /// It is all there, and not right.
    #[error("the graph is frozen, and its log is not right: {0}")]
    NotVerified(#[from] VerifyError),
    /// Passed on unchanged.
    #[error("the graph is frozen; {0}")]
    Sink(#[from] SinkError),
}

/// Waits until the sink has the frozen graph's last version, and verifies the whole log.
///
/// # Errors
/// [`FreezeError`] if it does not come, or is not right.
pub fn await_sink(
    store: &Store,
    frozen: &Head,
    sink: &SinkUrl,
    patience: Duration,
) -> Result<Verified, FreezeError> {
    let began = Instant::now();
    loop {
        let version = match version_in(sink, &Stream::new(frozen.name.clone(), frozen.uuid)) {
            Ok(version) => version,
            Err(error @ SinkError::Url { .. }) => return Err(error.into()),
            Err(error) if began.elapsed() >= patience => return Err(error.into()),
            Err(_) => None,
        };
        if version.is_some_and(|version| version >= frozen.version) {
            return Ok(verify(store, &frozen.name, sink, Some(frozen.version))?);
        }
        if began.elapsed() >= patience {
            let (graph, sealed, sink) = (frozen.name.to_string(), frozen.version, sink.to_string());
            return Err(FreezeError::Behind { graph, sealed, sink, version, waited: patience });
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Makes sure, before a graph is frozen for it, that the sink holds the graph's log, right as far
/// as it goes; waits so long for the end of an import that is being written. O(size of the log).
///
/// # Errors
/// [`VerifyError`] says what to do.
pub fn check_sink(
    store: &Store,
    head: &Head,
    sink: &SinkUrl,
    patience: Duration,
) -> Result<(), VerifyError> {
    let (began, expected) = (Instant::now(), Stream::new(head.name.clone(), head.uuid));
    let within_import = |last: &Option<(_, Kind, _)>| {
        matches!(last, Some((_, Kind::ImportBegun | Kind::Imported, _)))
    };
    let mut last = last_event(sink, &expected)?;
    while within_import(&last) && began.elapsed() < patience {
        thread::sleep(LOOK_EVERY);
        last = last_event(sink, &expected)?;
    }
    match last {
        None => Err(damaged(sink, "it is empty: export first".to_owned()).into()),
        Some((found, ..)) if *found != expected => {
            let what = format!(
                "it holds the log of graph `{}` ({}), not of this one",
                found.graph, found.uuid
            );
            Err(damaged(sink, what).into())
        }
        Some((_, Kind::ImportBegun | Kind::Imported, _)) => {
            let what = "it ends within an import: let the export write all of it first".to_owned();
            Err(damaged(sink, what).into())
        }
        // An exporter may be writing what comes after it.
        Some((_, Kind::ImportEnded | Kind::Changed, version)) => {
            verify(store, &head.name, sink, Some(version)).map(drop)
        }
    }
}

/// The version that the sink is whole at; `None` if at none.
fn version_in(sink: &SinkUrl, stream: &Stream) -> Result<Option<u64>, SinkError> {
    let Some((found, kind, version)) = last_event(sink, stream)? else { return Ok(None) };
    let whole = matches!(kind, Kind::Changed | Kind::ImportEnded) && *found == *stream;
    Ok(whole.then_some(version))
}

/// Of the sink's last event, whose log it is, what it tells, and its version.
fn last_event(
    sink: &SinkUrl,
    stream: &Stream,
) -> Result<Option<(Arc<Stream>, Kind, u64)>, SinkError> {
    let Some(last) = sink.open(stream, Purpose::Ask)?.last()? else { return Ok(None) };
    let mut reader = Reader::default();
    let read =
        reader.read(&last).map_err(|error| damaged(sink, format!("its last event: {error}")));
    read.map(|(found, event)| Some((Arc::clone(found), event.kind, event.index.version)))
}

fn damaged(sink: &SinkUrl, what: String) -> SinkError {
    SinkError::Damaged { sink: sink.to_string(), what }
}
