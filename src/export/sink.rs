//! Where a log can be kept: one trait, one file for each engine. A sink knows lines and indexes,
//! and nothing of what is in them.
//!
//! Each keeps its log from two dangers with whatever its engine has for it. *Duplicates*: an append
//! that was not acknowledged may have happened; whoever is not sure asks [`Sink::last`] and goes on
//! from there. *Zombies*: an older exporter that is still running, or wakes, must not write between
//! or after what a newer one has written: an append holds only if the sink's last event still is
//! the one that this exporter saw last.

use std::ops::ControlFlow;

use crate::event::{Event, EventIndex, Writer};

/// Events that are appended together: whole lines, and where each stands.
#[derive(Default)]
pub struct Batch {
    /// The lines, each ended by LF.
    pub text: Vec<u8>,
    /// Of each line, its index and where in `text` it ends, its LF included.
    pub ends: Vec<(EventIndex, usize)>,
}

impl Batch {
    /// Adds an event.
    pub fn push(&mut self, writer: &mut Writer<'_>, event: &Event<'_>) {
        writer.write(event, &mut self.text);
        self.text.push(b'\n');
        self.ends.push((event.index, self.text.len()));
    }

    /// The events without their line feeds.
    pub fn events(&self) -> impl Iterator<Item = (EventIndex, &str)> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        begins.zip(&self.ends).map(|(begin, (index, end))| {
            let line = &self.text[begin..*end - 1];
            (*index, std::str::from_utf8(line).expect("events are written as UTF-8"))
        })
    }

    /// The events in parts of so many events and bytes at most. One that is larger is a part by
    /// itself.
    pub(super) fn parts(
        &self,
        events_max: usize,
        bytes_max: usize,
    ) -> Vec<Vec<(EventIndex, &str)>> {
        let (mut parts, mut bytes) = (vec![Vec::new()], 0);
        for (index, event) in self.events() {
            let part = parts.last_mut().expect("there is one from the start");
            if part.len() == events_max || (bytes + event.len() > bytes_max && !part.is_empty()) {
                parts.push(vec![(index, event)]);
                bytes = event.len();
            } else {
                part.push((index, event));
                bytes += event.len();
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    /// The events after the one at `at`.
    pub(super) fn after(&self, at: usize) -> Self {
        let begin = self.ends[at].1;
        let ends = self.ends[at + 1..].iter().map(|(index, end)| (*index, end - begin));
        Self { text: self.text[begin..].to_vec(), ends: ends.collect() }
    }

    /// Its last event without its line feed, and where that stands.
    #[must_use]
    pub fn last_event(&self) -> Option<(EventIndex, &str)> {
        let (before, (index, end)) = match self.ends.as_slice() {
            [] => return None,
            [only] => (0, only),
            [.., (_, before), last] => (*before, last),
        };
        let line = &self.text[before..*end - 1];
        Some((*index, std::str::from_utf8(line).expect("events are written as UTF-8")))
    }

    /// Takes all events out.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

/// Why a sink did not do it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The URL names no sink.
    #[error(
        "`{given}` names no sink: {reason}; give file:PATH, - for standard output or, to verify, standard input, redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]/STREAM, \
         nats://[USER:PASSWORD@]HOST[:PORT]/STREAM, or postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE/TABLE"
    )]
    Url {
        /// As it was given, without a password.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be reached, or did not answer. What was appended last may or may not be there: ask
    /// it.
    #[error("{sink} is unavailable: {what}")]
    Unavailable {
        /// Which.
        sink: String,
        /// What was tried, and what came of it.
        what: String,
    },
    /// Somebody else has written to it since this exporter looked, or holds it. Nothing of this
    /// append is there, unless it is as it would have been.
    #[error("{sink} has another exporter: {what}")]
    Superseded {
        /// Which.
        sink: String,
        /// What shows it.
        what: String,
    },
    /// The engine refused it, and would refuse it again.
    #[error("{sink} refuses what is to be written: {what}")]
    Refused {
        /// Which.
        sink: String,
        /// What it refuses, why, and what to do.
        what: String,
    },
    /// The credentials or the rights do not suffice, and somebody has to change that.
    #[error("{sink} denies access: {what}")]
    Denied {
        /// Which.
        sink: String,
        /// What it said, and what to do.
        what: String,
    },
    /// The engine answered with an error that may or may not pass. Ask [`Sink::last`] whether the
    /// last round trip arrived.
    #[error("{sink} failed: {what}")]
    Failed {
        /// Which.
        sink: String,
        /// What it said.
        what: String,
    },
    /// There is nothing of that name.
    #[error("{sink} is not there{}", if .what.is_empty() { String::new() } else { format!(": {what}") })]
    NotThere {
        /// Which.
        sink: String,
        /// What is there instead.
        what: String,
    },
    /// What it holds is no log.
    #[error("{sink}: {what}")]
    Damaged {
        /// Which.
        sink: String,
        /// What is wrong, where, and what to do.
        what: String,
    },
}

/// What a sink is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To append; it is made if it is not there.
    Append,
    /// To read; nothing is made or mended.
    Read,
    /// To be asked what it ends with and what was deleted from it; nothing is made or mended, and
    /// a pipe is not waited for.
    Ask,
}

/// A place in a sink where events were deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The event that stands before it; `None` if the sink begins after it.
    pub before: Option<String>,
    /// The event that stands after it.
    pub after: String,
}

/// One graph's log in some engine.
pub trait Sink: Send {
    /// Identifies the place that is written to, in words for people: the same whichever URL leads
    /// there and after every restart of the engine, and different for two places. To append, this
    /// marks the place if the engine has no name for it.
    ///
    /// # Errors
    /// [`SinkError`] if it cannot be learnt.
    fn identity(&mut self) -> Result<String, SinkError>;

    /// Checks the settings of the engine, and whether events were deleted. Returns warnings of what
    /// may remove events, each with the command that repairs it. Call it now and then, after
    /// [`last`](Self::last).
    ///
    /// # Errors
    /// [`SinkError::Damaged`] with the command that repairs it, if events will be lost or nothing
    /// can be appended any more.
    fn check(&mut self) -> Result<Vec<String>, SinkError>;

    /// The last event that it has, as it was appended; `None` if it has none. Throws away what a
    /// crash left half written, if the engine leaves that. From here on, appends hold only after
    /// this event.
    ///
    /// # Errors
    /// [`SinkError`] if it cannot be learnt.
    fn last(&mut self) -> Result<Option<String>, SinkError>;

    /// The first event that it has, as it was appended; `None` if it has none, or cannot be read.
    ///
    /// # Errors
    /// [`SinkError`] if it cannot be learnt.
    fn first(&mut self) -> Result<Option<String>, SinkError>;

    /// Where events were deleted before the last one, as far as the engine can tell without the
    /// whole log being read. A file cannot; Postgres is searched only if it was opened to ask,
    /// O(events), and Redis tells the newest. Events that were written again after a deletion may
    /// have closed the gap.
    ///
    /// # Errors
    /// [`SinkError`] if it cannot be learnt.
    fn gaps(&mut self) -> Result<Vec<Gap>, SinkError> {
        Ok(Vec::new())
    }

    /// Appends events after the last one, all or the first few. They outlive this process when this
    /// returns, and the engine's machine after [`sync`](Self::sync).
    ///
    /// # Errors
    /// [`SinkError`]; after any but [`SinkError::Refused`] ask [`last`](Self::last) how far it got.
    fn append(&mut self, batch: &Batch) -> Result<(), SinkError>;

    /// Returns when all that was appended is as durable as the engine makes it.
    ///
    /// # Errors
    /// [`SinkError`] if that is not known.
    fn sync(&mut self) -> Result<(), SinkError>;

    /// Calls `each` with every event, in order, until it breaks. Must be called before anything
    /// else on a sink that was opened to read, and only on such.
    ///
    /// # Errors
    /// [`SinkError`] if they cannot be read, or the last one is torn.
    fn read(&mut self, each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), SinkError>;
}
