//! Whether the sinks of exports still have what they acknowledged: asked before a log is pruned, so
//! that what a sink has lost can be written there again.

use std::fmt;

use super::consumer_name::NAME_BEGINS;
use super::gaps;
use super::last_event::{self, Judgement};
use super::sink::{Gap, Purpose, SinkError};
use super::sink_url::SinkUrl;
use super::sinks::file;
use crate::archive::PastError;
use crate::event::{Kind, Reader, Stream};
use crate::graph::Name;
use crate::store::{Consumer, Store, StoreError};
use crate::terminal::shell_word;

/// An export whose sink cannot be asked. Shown with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// Its name among the consumers.
    pub consumer: Name,
    /// What kept the sink from telling.
    pub reason: String,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "consumer `{}`: {}", self.consumer, self.reason)
    }
}

/// Why a log is not to be pruned.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sink does not have what would be pruned. The next export there writes it again.
    #[error(
        "consumer `{consumer}` of graph `{graph}` has acknowledged version {acknowledged}, and \
         {sink} {found}. Let `fencepost export` write the rest there again, then prune; or, if \
         the sink is not wanted any more: fencepost consumer remove --graph {} --name {}",
        shell_word(.graph), shell_word(.consumer)
    )]
    Lacks {
        /// The graph.
        graph: String,
        /// Who acknowledged it.
        consumer: String,
        /// What it acknowledged.
        acknowledged: u64,
        /// Where it wrote.
        sink: String,
        /// What is there, as `has version 12`.
        found: String,
    },
    /// What a sink has is not the log of the graph as the database has it: one of them was
    /// restored from a backup, or somebody else wrote to one of them.
    #[error(
        "{sink}, where consumer `{consumer}` of graph `{graph}` has acknowledged version \
         {acknowledged}, holds another history than the database: {what}. Nothing was pruned. \
         Export to another place; if the sink is not wanted any more: fencepost consumer remove \
         --graph {} --name {}",
        shell_word(.graph), shell_word(.consumer)
    )]
    OtherHistory {
        /// The graph.
        graph: String,
        /// Who acknowledged it.
        consumer: String,
        /// What it acknowledged.
        acknowledged: u64,
        /// Where it wrote.
        sink: String,
        /// What shows it.
        what: String,
    },
    /// A sink was given that no consumer writes to.
    #[error(
        "--sink {sink} belongs to no consumer of graph `{graph}`: `fencepost consumer list` names \
         them. Nothing was pruned"
    )]
    OfNobody {
        /// The graph.
        graph: String,
        /// As it was given, without a password.
        sink: String,
    },
    /// The database cannot tell what a sink should have.
    #[error(transparent)]
    Past(PastError),
}

impl From<PastError> for AskError {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Store(error) => Self::Store(error),
            other => Self::Past(other),
        }
    }
}

/// Consumers that no sink is known of and that are named, at most.
const UNASKED_TOLD_MAX: usize = 9;

/// Asks each sink that acknowledged what pruning before `before` would remove whether it still has
/// that, and returns the sinks that cannot be asked. A sink is found by its URL among `given`,
/// which have passwords, or else by the URL that is stored with its consumer. Logs who else is
/// taken at their word. O(exports), and O(size of the graph) for each sink that ends with an
/// import.
///
/// # Errors
/// [`AskError`] if one does not have what would be pruned.
pub fn ask_sinks(
    store: &Store,
    graph: &Name,
    before: u64,
    given: &[SinkUrl],
) -> Result<Vec<Unreachable>, AskError> {
    let Some((head, consumers)) = store.consumers(graph)? else { return Ok(Vec::new()) };
    let (stream, mut unreachable, mut unasked) =
        (Stream::new(head.name.clone(), head.uuid), Vec::new(), Vec::new());
    if before <= head.oldest {
        return Ok(unreachable);
    }
    check_given(given, &consumers, &stream)?;
    for consumer in consumers {
        // One that has acknowledged less is in the way for that reason.
        if consumer.acknowledged + 1 < before || !consumer.is_waited_for {
            continue;
        }
        let Some(url) = url_of(&consumer) else {
            unasked.push(consumer.name);
            continue;
        };
        match ask(&consumer, &url, given, &stream) {
            Ok((sink, told)) => check(store, &stream, &consumer, before, &sink, told)?,
            Err(reason) => unreachable.push(Unreachable { consumer: consumer.name, reason }),
        }
    }
    tell_unasked(&unasked);
    Ok(unreachable)
}

/// Whether each sink that was given is one that a consumer writes to. One that does not answer is
/// not known to be nobody's.
fn check_given(given: &[SinkUrl], consumers: &[Consumer], stream: &Stream) -> Result<(), AskError> {
    for sink in given {
        let shown = sink.to_string();
        let is_stored = consumers
            .iter()
            .filter_map(url_of)
            .filter_map(|url| SinkUrl::parse(&url).ok())
            .any(|stored| stored.to_string() == shown);
        if is_stored {
            continue;
        }
        let identity = match sink {
            SinkUrl::File(path) => file::identity_of(path).ok(),
            _ => match sink.open(stream, Purpose::Ask).and_then(|mut opened| opened.identity()) {
                Ok(identity) => Some(identity),
                Err(SinkError::NotThere { .. } | SinkError::Url { .. }) => None,
                Err(error) => {
                    log::warn!("whose sink {shown} is, cannot be asked: {error}");
                    continue;
                }
            },
        };
        let known = |one: &Consumer| one.sink.as_ref().map(|sink| sink.identity.clone());
        if identity.is_none() || consumers.iter().all(|one| known(one) != identity) {
            return Err(AskError::OfNobody { graph: stream.graph.to_string(), sink: shown });
        }
    }
    Ok(())
}

/// Whether a sink has what pruning before `before` would remove, as the database has it.
fn check(
    store: &Store,
    stream: &Stream,
    consumer: &Consumer,
    before: u64,
    sink: &str,
    told: SinkState,
) -> Result<(), AskError> {
    let (graph, name) = (stream.graph.to_string(), consumer.name.to_string());
    let acknowledged = consumer.acknowledged;
    let lacks = |found: String| {
        let (graph, consumer, sink) = (graph.clone(), name.clone(), sink.to_owned());
        Err(AskError::Lacks { graph, consumer, acknowledged, sink, found })
    };
    let Some(last) = told.last else { return lacks("has nothing of it".to_owned()) };
    let mut reader = Reader::default();
    let (found, event) = match reader.read(&last) {
        Ok(read) => read,
        Err(reason) => {
            return lacks(format!(
                "ends with what is no event ({reason}): `fencepost verify` says up to where its \
                 log is good. Cut it off there"
            ));
        }
    };
    if **found != *stream {
        return lacks(format!("holds the log of graph `{}` ({})", found.graph, found.uuid));
    }
    if matches!(event.kind, Kind::ImportBegun | Kind::Imported) {
        return lacks("has nothing whole of it".to_owned());
    }
    let version = event.index.version;
    if version + 1 < before {
        return lacks(format!("has version {version}"));
    }
    let what = match last_event::judge(store, stream, &event)? {
        Judgement::Good => {
            let mut holes = told.gaps.iter().filter_map(gaps::hole);
            if let Some(hole) = holes.find(|hole| hole.whole_at + 1 < before) {
                return lacks(hole.to_string());
            }
            if version < acknowledged {
                log::warn!(
                    "{sink} has version {version}, and consumer `{name}` has acknowledged \
                     {acknowledged}: let `fencepost export` write the rest there again"
                );
            }
            return Ok(());
        }
        Judgement::OtherHistory => {
            format!("at version {version} its chain of hashes is not that of the database")
        }
        Judgement::Altered(what) => {
            format!("the {what} of its last event, at version {version}, is not the database's")
        }
        Judgement::Ahead { version: actual } => format!(
            "it has version {version}, the database only {actual}: was an older backup restored?"
        ),
    };
    let (sink, consumer) = (sink.to_owned(), name);
    Err(AskError::OtherHistory { graph, consumer, acknowledged, sink, what })
}

/// Consumers that read over HTTP, and exports of which no sink was noted: which of them is which
/// the database does not know.
fn tell_unasked(consumers: &[Name]) {
    if consumers.is_empty() {
        return;
    }
    let named = consumers.iter().take(UNASKED_TOLD_MAX);
    let mut told: Vec<String> = named.map(|name| format!("`{name}`")).collect();
    if let Some(more) = consumers.len().checked_sub(UNASKED_TOLD_MAX).filter(|more| *more > 0) {
        told.push(format!("{more} more"));
    }
    log::info!(
        "taken at their word, since no sink of theirs is known: {}. Readers over HTTP have none; \
         the sink of an export that an earlier version has registered by a name of its own is \
         known once that export has run again",
        told.join(", ")
    );
}

/// Why a sink does not tell what its consumer wrote.
enum Silence {
    /// It is another place than the one that the consumer wrote to.
    IsAnotherPlace,
    Sink(SinkError),
}

impl From<SinkError> for Silence {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

/// Where a consumer writes; `None` if it is no export. Earlier builds stored the URL in its name.
fn url_of(consumer: &Consumer) -> Option<String> {
    match &consumer.sink {
        Some(sink) => Some(sink.url.clone()),
        None => {
            let url = consumer.name.as_str().strip_prefix(NAME_BEGINS)?;
            SinkUrl::parse(url).ok().map(|_| url.to_owned())
        }
    }
}

/// What a sink says of itself.
struct SinkState {
    last: Option<String>,
    gaps: Vec<Gap>,
}

/// Asks the consumer's sink for what it has, and says under which URL that was found. Or why it
/// cannot be asked.
fn ask(
    consumer: &Consumer,
    url: &str,
    given: &[SinkUrl],
    stream: &Stream,
) -> Result<(String, SinkState), String> {
    let stored = SinkUrl::parse(url).map_err(|error| error.to_string())?;
    // A given URL that is shown as the stored one is that with its password.
    let is_same = |other: &&SinkUrl| other.to_string() == stored.to_string();
    let (same, others): (Vec<_>, Vec<_>) = given.iter().partition(is_same);
    let known = consumer.sink.as_ref().map(|sink| sink.identity.as_str());
    let mut reason = None;
    for sink in if same.is_empty() { vec![&stored] } else { same } {
        match ask_one(sink, known, stream) {
            Ok(told) => return Ok((sink.to_string(), told)),
            // A file that is missing tells nothing if it was another machine's.
            Err(Silence::Sink(SinkError::NotThere { .. })) if is_the_place(sink, known) => {
                return Ok((sink.to_string(), SinkState { last: None, gaps: Vec::new() }));
            }
            Err(Silence::IsAnotherPlace) => {
                let what = format!("what is at {sink} is another place than the one it wrote to");
                reason.get_or_insert(what);
            }
            Err(Silence::Sink(error)) => {
                reason.get_or_insert(error.to_string());
            }
        }
    }
    // Any other given URL may lead to the same place. Only the identity tells.
    for sink in others.into_iter().filter(|_| known.is_some()) {
        if let Ok(told) = ask_one(sink, known, stream) {
            return Ok((sink.to_string(), told));
        }
    }
    Err(reason.unwrap_or_else(|| "its sink was not found".to_owned()))
}

fn ask_one(sink: &SinkUrl, known: Option<&str>, stream: &Stream) -> Result<SinkState, Silence> {
    let mut opened = sink.open(stream, Purpose::Ask)?;
    if let Some(known) = known
        && opened.identity()? != known
    {
        return Err(Silence::IsAnotherPlace);
    }
    Ok(SinkState { last: opened.last()?, gaps: opened.gaps()? })
}

/// Whether a sink where nothing is found is the place that the consumer wrote to.
fn is_the_place(sink: &SinkUrl, known: Option<&str>) -> bool {
    match sink {
        SinkUrl::File(path) => file::identity_of(path).is_ok_and(|here| Some(&*here) == known),
        _ => true,
    }
}
