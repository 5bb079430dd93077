//! Whether the last event of a sink is the one that the database would write there. A sink alone
//! cannot tell: an event's hash covers its data together with the hash of the event before it.

use super::verify::same_time;
use crate::archive::{PastError, graph_at};
use crate::chain::LoggedChange;
use crate::event::{Contents, Event, Importing, Kind, Stream};
use crate::store::Store;

/// What the database says of a sink's last event.
pub(super) enum Judgement {
    /// It is the database's event, or the database no longer has what it tells of.
    Good,
    /// The sink's log and the database's are not one history.
    OtherHistory,
    /// Somebody changed this part of it.
    Altered(&'static str),
    /// Its version is newer than the database's.
    Ahead {
        /// The database's version.
        version: u64,
    },
}

/// Compares the last event of a sink with the database. Of a change: O(its length). Of a part of an
/// import: O(size of the graph at that version, and of the log that leads there), since the
/// database keeps no parts of imports.
///
/// # Errors
/// [`PastError`] if the database cannot be read.
pub(super) fn judge(
    store: &Store,
    stream: &Stream,
    event: &Event<'_>,
) -> Result<Judgement, PastError> {
    let version = event.index.version;
    // The graph's row is read after the event: whoever exports may have got further meanwhile.
    let Some(head) = store.head(&stream.graph)? else { return Ok(Judgement::Good) };
    if head.uuid != stream.uuid {
        return Ok(Judgement::OtherHistory);
    }
    if version > head.version {
        return Ok(Judgement::Ahead { version: head.version });
    }
    let has_graphs_chain = matches!(event.kind, Kind::Changed | Kind::ImportEnded);
    if version == head.version && has_graphs_chain && event.chain != head.chain {
        return Ok(Judgement::OtherHistory);
    }
    match (event.kind, version.checked_sub(1)) {
        (Kind::Changed, Some(before)) => {
            let page = store.feed(&stream.graph, before, 1)?;
            let logged = page.and_then(|feed| feed.changes.into_iter().next());
            Ok(logged.map_or(Judgement::Good, |logged| judge_change(event, &logged)))
        }
        // No change makes version 0.
        (Kind::Changed, None) => Ok(Judgement::OtherHistory),
        (Kind::ImportBegun | Kind::Imported | Kind::ImportEnded, _) => {
            match graph_at(store, &stream.graph, version) {
                Ok(past) => Ok(judge_part(event, past.importing())),
                Err(PastError::Pruned { .. } | PastError::GraphNotFound(_)) => Ok(Judgement::Good),
                Err(error) => Err(error),
            }
        }
    }
}

fn judge_change(event: &Event<'_>, logged: &LoggedChange) -> Judgement {
    if event.chain != logged.chain {
        Judgement::OtherHistory
    } else if event.data != logged.change {
        Judgement::Altered("data")
    } else if !same_time(event.committed_at_ms, Some(logged.committed_at_ms)) {
        Judgement::Altered("time")
    } else if event.actor.as_deref() != logged.actor.as_deref() {
        Judgement::Altered("actor")
    } else {
        Judgement::Good
    }
}

/// Of an import of the graph at the event's version. Where the event stands among the parts is
/// told by its hash: its ordinal depends on what was abandoned before.
fn judge_part(event: &Event<'_>, mut importing: Importing) -> Judgement {
    if event.actor.is_some() {
        return Judgement::Altered("actor");
    }
    loop {
        let Some(part) = importing.next_event() else {
            return match event.kind {
                Kind::Imported => Judgement::Altered("hash"),
                _ => Judgement::OtherHistory,
            };
        };
        if part.kind != event.kind || part.chain != event.chain {
            continue;
        }
        let same_data = match event.kind {
            Kind::ImportBegun => serde_json::from_str(&event.data).is_ok_and(|told: Contents| {
                Contents { abandons: None, ..told } == *importing.contents()
            }),
            _ => part.data == event.data,
        };
        // At version 0 there is no time; of an old snapshot it may not be known.
        let knows_time = part.committed_at_ms.is_some() || event.index.version == 0;
        return if !same_data {
            Judgement::Altered("data")
        } else if knows_time && !same_time(event.committed_at_ms, part.committed_at_ms) {
            Judgement::Altered("time")
        } else {
            Judgement::Good
        };
    }
}
