//! Whether a log lacks events where some were deleted from its sink. A gap in an engine's numbers
//! alone does not tell: what was deleted from the end is written again after it.

use std::fmt;

use super::sink::Gap;
use crate::chain::Chain;
use crate::event::{Event, EventIndex, Kind, Reader};

/// A place where a log lacks events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    /// The event before it; `None` if the log begins after it.
    pub before: Option<EventIndex>,
    /// The event after it; `None` if that is no event.
    pub after: Option<EventIndex>,
    /// The version up to which the log is whole, as far as this place tells.
    pub whole_at: u64,
}

/// Shown as what a sink does, as `lacks events …`.
impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.before, self.after) {
            (Some(before), Some(after)) => {
                write!(f, "lacks events between {before} and {after}")
            }
            (Some(before), None) => write!(f, "lacks events after {before}"),
            (None, Some(after)) => write!(f, "lacks the events before {after}"),
            (None, None) => f.write_str("lacks its first events"),
        }
    }
}

/// What the log lacks there; `None` if the events beside the gap follow one another.
pub(super) fn hole(gap: &Gap) -> Option<Hole> {
    let before = gap.before.as_deref().and_then(read);
    let after = read(&gap.after);
    let is_whole = match (&gap.before, before, after) {
        (None, _, Some(after)) => {
            after.kind == Kind::ImportBegun
                || (after.kind == Kind::Changed && after.index.version == 1)
        }
        (Some(_), Some(before), Some(after)) => follows(before, after, &gap.after),
        _ => false,
    };
    if is_whole {
        return None;
    }
    let whole_at = before
        .filter(|before| matches!(before.kind, Kind::ImportEnded | Kind::Changed))
        .map_or(0, |before| before.index.version);
    let index = |event: EventHeader| event.index;
    Some(Hole { before: before.map(index), after: after.map(index), whole_at })
}

/// What an event has beside its data.
#[derive(Clone, Copy)]
struct EventHeader {
    kind: Kind,
    index: EventIndex,
    chain: Chain,
}

fn read(text: &str) -> Option<EventHeader> {
    let mut reader = Reader::default();
    let (_, event) = reader.read(text).ok()?;
    Some(EventHeader { kind: event.kind, index: event.index, chain: event.chain })
}

fn follows(before: EventHeader, after: EventHeader, text: &str) -> bool {
    let is_within = matches!(before.kind, Kind::ImportBegun | Kind::Imported);
    let next = EventIndex { ordinal: before.index.ordinal + 1, ..before.index };
    match after.kind {
        Kind::ImportBegun => {
            let is_later = after.index.version > before.index.version;
            is_within && (after.index == next || (is_later && after.index.ordinal == 0))
        }
        Kind::Imported | Kind::ImportEnded => is_within && after.index == next,
        Kind::Changed => {
            let version = before.index.version + 1;
            let chain = |event: &Event<'_>| before.chain.next(&event.data);
            !is_within
                && after.index == EventIndex { version, ordinal: 0 }
                && Reader::default().read(text).is_ok_and(|(_, event)| chain(&event) == after.chain)
        }
    }
}
