//! Whether the sinks of exports still have what they acknowledged: asked before a log is pruned, so
//! that what a sink has lost can be written there again.

use std::fmt;

use super::sink::{Purpose, SinkError, SinkUrl};
use super::{NAME_BEGINS, file};
use crate::event::{Kind, Reader, Stream};
use crate::graph::Name;
use crate::keep::shell_word;
use crate::store::rows::RowStore;
use crate::store::{Consumer, GraphStore, StoreError};

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
}

/// Asks the sinks of exports of the graph, whom pruning before `before` waits for, whether they
/// have what they acknowledged; says which cannot be asked. A sink is looked for under `given`, the
/// URLs with whatever is needed to connect, and where its consumer says that it is. O(exports).
///
/// # Errors
/// [`AskError`] if one does not have what would be pruned.
pub fn ask_sinks(
    store: &RowStore,
    graph: &Name,
    before: u64,
    given: &[SinkUrl],
) -> Result<Vec<Unreachable>, AskError> {
    let Some((head, consumers)) = store.consumers(graph)? else { return Ok(Vec::new()) };
    let stream = Stream::of(&head);
    let mut unreachable = Vec::new();
    for consumer in consumers {
        // Whoever has acknowledged less is in the way by that.
        if consumer.acknowledged + 1 < before || !consumer.is_waited_for {
            continue;
        }
        let Some(url) = url_of(&consumer) else { continue };
        match ask(&consumer, &url, given, &stream) {
            Ok((_, Some(version))) if version + 1 >= before => {
                if version < consumer.acknowledged {
                    log::warn!(
                        "{url} has version {version}, and consumer `{}` has acknowledged {}: let \
                         `fencepost export` write the rest there again",
                        consumer.name,
                        consumer.acknowledged
                    );
                }
            }
            Ok((sink, version)) => {
                let found = version.map_or_else(
                    || "has nothing whole of it".to_owned(),
                    |version| format!("has version {version}"),
                );
                return Err(AskError::Lacks {
                    graph: graph.to_string(),
                    consumer: consumer.name.to_string(),
                    acknowledged: consumer.acknowledged,
                    sink,
                    found,
                });
            }
            Err(reason) => unreachable.push(Unreachable { consumer: consumer.name, reason }),
        }
    }
    Ok(unreachable)
}

/// Where a consumer writes; `None` if it is no export. Builds before this one said it in its name.
fn url_of(consumer: &Consumer) -> Option<String> {
    match &consumer.sink {
        Some(sink) => Some(sink.url.clone()),
        None => {
            let url = consumer.name.as_str().strip_prefix(NAME_BEGINS)?;
            SinkUrl::parse(url).ok().map(|_| url.to_owned())
        }
    }
}

/// Where the consumer's sink was found, and the version that it has; `None` if it has nothing
/// whole. Or why it could not be asked.
fn ask(
    consumer: &Consumer,
    url: &str,
    given: &[SinkUrl],
    stream: &Stream,
) -> Result<(String, Option<u64>), String> {
    let noted = SinkUrl::parse(url).map_err(|error| error.to_string())?;
    // One that is given under the same name is the noted one with its password.
    let same = |other: &&SinkUrl| other.to_string() == noted.to_string();
    let (alike, others): (Vec<_>, Vec<_>) = given.iter().partition(same);
    let known = consumer.sink.as_ref().map(|sink| sink.identity.as_str());
    let noted = if alike.is_empty() { vec![&noted] } else { alike };
    let mut reason = None;
    for sink in noted {
        match ask_one(sink, known, stream) {
            Ok(Some(version)) => return Ok((sink.to_string(), version)),
            Ok(None) => {
                let what = format!("what is at {sink} is another place than the one it wrote to");
                reason.get_or_insert(what);
            }
            // A file that is not there says nothing if the directory is another machine's.
            Err(SinkError::NotThere { .. }) if is_the_place(sink, known) => {
                return Ok((sink.to_string(), None));
            }
            Err(error) => {
                reason.get_or_insert(error.to_string());
            }
        }
    }
    // One that is given under another name is its only if it is known to be the same place.
    for sink in others.into_iter().filter(|_| known.is_some()) {
        if let Ok(Some(version)) = ask_one(sink, known, stream) {
            return Ok((sink.to_string(), version));
        }
    }
    Err(reason.unwrap_or_else(|| "its sink was not found".to_owned()))
}

/// The version that a sink has, `None` if it has nothing whole. No answer if it is another sink
/// than the one that is known.
fn ask_one(
    sink: &SinkUrl,
    known: Option<&str>,
    stream: &Stream,
) -> Result<Option<Option<u64>>, SinkError> {
    let mut opened = sink.open(stream, Purpose::Read)?;
    if let Some(known) = known
        && opened.identity()? != known
    {
        return Ok(None);
    }
    let Some(last) = opened.last()? else { return Ok(Some(None)) };
    let mut reader = Reader::default();
    let Ok((found, event)) = reader.read(&last) else { return Ok(Some(None)) };
    let whole = matches!(event.kind, Kind::Changed | Kind::ImportEnded) && **found == *stream;
    Ok(Some(whole.then_some(event.position.version)))
}

/// Whether a sink at which there is nothing is the place that is known.
fn is_the_place(sink: &SinkUrl, known: Option<&str>) -> bool {
    match sink {
        SinkUrl::File(path) => file::identity_of(path).is_ok_and(|here| Some(&*here) == known),
        _ => true,
    }
}
