//! Whether the sinks of exports still have what they acknowledged: asked before a log is pruned, so
//! that what a sink has lost can be written there again.

use std::fmt;

use super::sink::{Purpose, SinkError, SinkUrl};
use super::{NAME_BEGINS, file};
use crate::event::{Kind, Reader, Stream};
use crate::graph::Name;
use crate::keep::shell_word;
use crate::store::Store;
use crate::store::{Consumer, StoreError};

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

/// Asks each sink that acknowledged what pruning before `before` would remove whether it still has
/// that, and returns the sinks that cannot be asked. A sink is found by its URL among `given`, which
/// have passwords, or else by the URL that is stored with its consumer. O(exports).
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
    let (stream, mut unreachable) = (Stream::new(head.name.clone(), head.uuid), Vec::new());
    if before <= head.oldest {
        return Ok(unreachable);
    }
    for consumer in consumers {
        // One that has acknowledged less is in the way for that reason.
        if consumer.acknowledged + 1 < before || !consumer.is_waited_for {
            continue;
        }
        let Some(url) = url_of(&consumer) else { continue };
        let found = match ask(&consumer, &url, given, &stream) {
            Ok((sink, Answer::Has(version))) if version + 1 >= before => {
                if version < consumer.acknowledged {
                    log::warn!(
                        "{sink} has version {version}, and consumer `{}` has acknowledged {}: let \
                         `fencepost export` write the rest there again",
                        consumer.name,
                        consumer.acknowledged
                    );
                }
                continue;
            }
            Ok((sink, Answer::Has(version))) => (sink, format!("has version {version}")),
            Ok((sink, _)) => (sink, "has nothing whole of it".to_owned()),
            Err(reason) => {
                unreachable.push(Unreachable { consumer: consumer.name, reason });
                continue;
            }
        };
        let ((sink, found), graph) = (found, graph.to_string());
        let (consumer, acknowledged) = (consumer.name.to_string(), consumer.acknowledged);
        return Err(AskError::Lacks { graph, consumer, acknowledged, sink, found });
    }
    Ok(unreachable)
}

/// What a sink says.
enum Answer {
    /// It is whole at this version.
    Has(u64),
    /// It has nothing whole of the graph's log.
    HasNothing,
    /// It is another place than the one that the consumer wrote to.
    IsAnotherPlace,
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

/// Asks the consumer's sink, and says under which URL that was found. Or why it cannot be asked.
fn ask(
    consumer: &Consumer,
    url: &str,
    given: &[SinkUrl],
    stream: &Stream,
) -> Result<(String, Answer), String> {
    let stored = SinkUrl::parse(url).map_err(|error| error.to_string())?;
    // A given URL that is shown as the stored one is that with its password.
    let is_same = |other: &&SinkUrl| other.to_string() == stored.to_string();
    let (same, others): (Vec<_>, Vec<_>) = given.iter().partition(is_same);
    let known = consumer.sink.as_ref().map(|sink| sink.identity.as_str());
    let mut reason = None;
    for sink in if same.is_empty() { vec![&stored] } else { same } {
        match ask_one(sink, known, stream) {
            Ok(Answer::IsAnotherPlace) => {
                let what = format!("what is at {sink} is another place than the one it wrote to");
                reason.get_or_insert(what);
            }
            Ok(answer) => return Ok((sink.to_string(), answer)),
            // A file that is missing tells nothing if it was another machine's.
            Err(SinkError::NotThere { .. }) if is_the_place(sink, known) => {
                return Ok((sink.to_string(), Answer::HasNothing));
            }
            Err(error) => {
                reason.get_or_insert(error.to_string());
            }
        }
    }
    // Any other given URL may lead to the same place. Only the identity tells.
    for sink in others.into_iter().filter(|_| known.is_some()) {
        match ask_one(sink, known, stream) {
            Ok(Answer::IsAnotherPlace) | Err(_) => {}
            Ok(answer) => return Ok((sink.to_string(), answer)),
        }
    }
    Err(reason.unwrap_or_else(|| "its sink was not found".to_owned()))
}

fn ask_one(sink: &SinkUrl, known: Option<&str>, stream: &Stream) -> Result<Answer, SinkError> {
    let mut opened = sink.open(stream, Purpose::Read)?;
    if let Some(known) = known
        && opened.identity()? != known
    {
        return Ok(Answer::IsAnotherPlace);
    }
    let Some(last) = opened.last()? else { return Ok(Answer::HasNothing) };
    let mut reader = Reader::default();
    Ok(match reader.read(&last) {
        Ok((found, event)) if **found == *stream => match event.kind {
            Kind::Changed | Kind::ImportEnded => Answer::Has(event.position.version),
            Kind::ImportBegun | Kind::Imported => Answer::HasNothing,
        },
        Ok(_) | Err(_) => Answer::HasNothing,
    })
}

/// Whether a sink where nothing is found is the place that the consumer wrote to.
fn is_the_place(sink: &SinkUrl, known: Option<&str>) -> bool {
    match sink {
        SinkUrl::File(path) => file::identity_of(path).is_ok_and(|here| Some(&*here) == known),
        _ => true,
    }
}
