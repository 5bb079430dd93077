//! A part of a graph's change log, read from the store and written out.

use serde_json::json;

use super::ask::ask;
use super::problem::{Kind, Problem};
use crate::chain::{Chain, LoggedChange};
use crate::event::{self, Event, Stream};
use crate::graph::Name;
use crate::service::Service;
use crate::store::{Feed, Head};

/// Changes that a stream reads at once.
pub const PAGE_CHANGES: usize = 500;

/// A part of the log, written out.
pub struct Page {
    /// The graph's row.
    pub head: Head,
    /// Changes one after another, from the version after the one that was asked for.
    pub events: Vec<Vec<u8>>,
    /// Whether the chain that the reader saw is not that of this log at that version.
    pub of_another_history: bool,
}

/// Up to where a reader knows the log.
#[derive(Clone, Copy)]
pub struct Seen {
    /// The last version that it has.
    pub after: u64,
    /// The chain there, if it says.
    pub chain: Option<Chain>,
}

impl Seen {
    /// Whether the log that goes on with `feed` cannot be the one that the reader saw.
    fn is_of_another_history(self, feed: &Feed) -> bool {
        let Some(chain) = self.chain else { return false };
        match feed.changes.first() {
            Some(next) => chain.next(&next.change) != next.chain,
            None => feed.head.version == self.after && feed.head.chain != chain,
        }
    }
}

/// How one change is written.
pub type Write = fn(&Stream, &LoggedChange) -> Vec<u8>;

/// As a server-sent event, whose id is the version.
pub fn event(stream: &Stream, logged: &LoggedChange) -> Vec<u8> {
    let head = format!("id: {}\nevent: {}\ndata: ", logged.version, event::Kind::Changed.word());
    let mut event = Vec::with_capacity(head.len() + 640 + logged.change.len());
    event.extend_from_slice(head.as_bytes());
    stream.write(&Event::changed(logged), &mut event);
    event.extend_from_slice(b"\n\n");
    event
}

/// What the log has after what was seen, at most `most` changes, of deleted graphs too.
///
/// # Errors
/// [`Problem`] if there never was such a graph, the next change was pruned, or the database
/// does not answer.
pub async fn log_page(
    service: &Service,
    graph: &Name,
    seen: Seen,
    most: usize,
    write: Write,
) -> Result<Page, Problem> {
    let after = seen.after;
    let show = move |feed: Feed| {
        let of_another_history = seen.is_of_another_history(&feed);
        let stream = Stream::new(feed.head.name.clone(), feed.head.uuid);
        let events = feed.changes.iter().map(|logged| write(&stream, logged)).collect();
        Page { head: feed.head, events, of_another_history }
    };
    let page: Result<Page, _> = ask(|reply| service.feed(graph, after, most, show, reply)).await;
    let page = page.map_err(|refusal| Problem::refused(graph, refusal))?;
    if after.saturating_add(1) < page.head.oldest { Err(pruned(&page.head)) } else { Ok(page) }
}

/// The change after the version asked for is gone.
fn pruned(head: &Head) -> Problem {
    let (oldest, version) = (head.oldest, head.version);
    let detail = match oldest > version {
        true => format!(
            "the log has no change up to version {version}: they were pruned, or the graph is one \
             whose changes are never kept. Read the snapshot and, if they are kept, resume after \
             its version"
        ),
        false => format!(
            "this change was pruned; the oldest in the log is {oldest}. Read the snapshot and \
             resume after its version"
        ),
    };
    Problem::new(Kind::Pruned, detail).with("oldest", json!(oldest)).decided_at(&head.name, version)
}

/// A change that was told once is not there any more.
pub fn went_back(graph: &Name, from: u64, to: u64) -> Problem {
    let detail = format!(
        "graph `{graph}` went back from version {from} to {to}: was a backup restored? Read its \
         snapshot and resume after its version"
    );
    Problem::new(Kind::Internal, detail)
}
