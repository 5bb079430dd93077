//! A graph at one version as events: the beginning of an exported log, and what a snapshot is.

use std::borrow::Cow;
use std::thread;

use super::contents::Contents;
use super::{Event, EventIndex, Kind, Stream};
use crate::chain::Chain;
use crate::graph::{Graph, SortedGraph};

/// Writes a graph as an import, piece by piece: declared datasets in byte order, then jobs, each
/// after those that produce what it reads, and among those that could stand at one place in byte
/// order. So every prefix is a legal graph, and equal graphs give equal bytes.
pub struct Importing {
    stream: Stream,
    sorted: SortedGraph,
    /// Of the graph, and when its version was committed.
    chain: Chain,
    committed_at_ms: Option<i64>,
    contents: Contents,
    /// In the order in which they are told.
    jobs: Vec<u32>,
    /// How many events were told.
    told: u64,
    first_ordinal: u64,
    running: Chain,
}

impl Importing {
    /// The graph as it was at its version, whose chain and time these are. O(n log n) for n jobs,
    /// datasets and edges; takes a [`SortedGraph`] and lets go of the graph.
    #[must_use]
    pub fn new(stream: Stream, graph: Graph, chain: Chain, committed_at_ms: Option<i64>) -> Self {
        let sorted = SortedGraph::of(&graph);
        drop(graph);
        let (digest, jobs) = thread::scope(|scope| {
            let jobs = scope.spawn(|| sorted.jobs_by_generation());
            (sorted.digest(), jobs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let contents = Contents {
            abandons: None,
            datasets: sorted.dataset_count() as u64,
            digest,
            edges: sorted.edge_count() as u64,
            events: (sorted.declared_count() + jobs.len()) as u64,
            imported: None,
            jobs: jobs.len() as u64,
            version: sorted.version(),
        };
        let (told, first_ordinal, running) = (0, 0, chain);
        Self {
            stream,
            sorted,
            chain,
            committed_at_ms,
            contents,
            jobs,
            told,
            first_ordinal,
            running,
        }
    }

    /// The same after an import that was left unfinished at `last`, to be forgotten.
    #[must_use]
    pub fn abandoning(mut self, last: EventIndex) -> Self {
        // Where nothing was written since, the indexes of this version go on.
        if last.version == self.contents.version {
            self.first_ordinal = last.ordinal + 1;
        }
        self.contents.abandons = Some(last.version);
        self
    }

    /// The same of another stream; before anything is written.
    #[must_use]
    pub fn named(self, stream: Stream) -> Self {
        Self { stream, ..self }
    }

    /// What it tells of the whole graph.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Whose log it is.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// How many events there are, beginning and end included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.contents.events + 2
    }

    /// Never: there is always a beginning and an end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// When the version was committed, in milliseconds since 1970; version 0 never was.
    #[must_use]
    pub fn committed_at_ms(&self) -> Option<i64> {
        self.committed_at_ms
    }

    /// Whether only the end is left to be written.
    #[must_use]
    pub fn is_about_to_end(&self) -> bool {
        self.told == self.contents.events + 1
    }

    /// Writes further events, each as a line, until `out` is as long as `bytes` or all are written.
    /// Returns how many, and the index of the last; `None` if there are no more.
    pub fn write_some(&mut self, bytes: usize, out: &mut Vec<u8>) -> Option<(u64, EventIndex)> {
        let mut count = 0;
        let mut last = None;
        while out.len() < bytes || count == 0 {
            let Some(index) = self.write_next(out) else { break };
            out.push(b'\n');
            last = Some(index);
            count += 1;
        }
        last.map(|index| (count, index))
    }

    /// Writes the next event, without a line feed.
    pub fn write_next(&mut self, out: &mut Vec<u8>) -> Option<EventIndex> {
        let event = self.next_event()?;
        self.stream.write(&event, out);
        Some(event.index)
    }

    /// The next event; `None` after the last.
    pub fn next_event(&mut self) -> Option<Event<'static>> {
        let index =
            EventIndex { version: self.contents.version, ordinal: self.first_ordinal + self.told };
        let contents = |contents: &Contents| {
            serde_json::to_string(contents).expect("texts and numbers are JSON")
        };
        let (kind, chain, data) = match self.told {
            0 => (Kind::ImportBegun, self.chain, contents(&self.contents)),
            told if told <= self.contents.events => {
                let data = self.part(told as usize - 1);
                self.running = self.running.next(&data);
                (Kind::Imported, self.running, data)
            }
            told if told == self.contents.events + 1 => {
                let imported = Some(self.running.to_string());
                let ended = Contents { abandons: None, imported, ..self.contents.clone() };
                (Kind::ImportEnded, self.chain, contents(&ended))
            }
            _ => return None,
        };
        self.told += 1;
        let (committed_at_ms, data) = (self.committed_at_ms, Cow::Owned(data));
        Some(Event { kind, index, chain, committed_at_ms, actor: None, data })
    }

    fn part(&self, index: usize) -> String {
        let mut data = Vec::with_capacity(256);
        match index.checked_sub(self.sorted.declared_count()) {
            None => self.sorted.write_declaration(index, &mut data),
            Some(job) => self.sorted.write_job(self.jobs[job], &mut data),
        }
        String::from_utf8(data).expect("names and JSON are UTF-8")
    }
}
