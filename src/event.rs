//! The change log as events, in the form of CloudEvents 1.0: what leaves the service, over HTTP and
//! into other logs.
//!
//! An event has one spelling. The reader writes each event again and compares the bytes, which
//! finds alterations that no hash covers. A log of a graph is either its changes from the first on,
//! or an *import* (the graph at one version, part by part) and the changes after it; a snapshot is
//! an import and nothing after it.
//!
//! Uses `graph` and `chain`. Knows no database, no HTTP and no sink.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::chain::{Chain, LoggedChange};
use crate::graph::{Name, Scanner, hex_into};
use crate::object::objects_only;

mod contents;
mod import_events;
mod replay;

pub use contents::Contents;
pub use import_events::Importing;
pub use replay::{Envelope, Parsed, Parser, Replay, ReplayError, Replayed};

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An import of the graph at one version begins.
    ImportBegun,
    /// One job or declared dataset of the import.
    Imported,
    /// The import is complete.
    ImportEnded,
    /// One change, which made the next version.
    Changed,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ImportBegun, Self::Imported, Self::ImportEnded, Self::Changed];

    /// The event's `type`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ImportBegun => "dev.fencepost.import.begun.v1",
            Self::Imported => "dev.fencepost.imported.v1",
            Self::ImportEnded => "dev.fencepost.import.ended.v1",
            Self::Changed => "dev.fencepost.changed.v1",
        }
    }
}

/// Where an event stands in its graph's log: changes at ordinal 0 of the version that they made,
/// parts of an import one after another at the version of the import. Indexes rise along a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventIndex {
    /// The graph's version.
    pub version: u64,
    /// Among the events of that version.
    pub ordinal: u64,
}

impl fmt::Display for EventIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.version)?;
        if self.ordinal > 0 { write!(f, ", ordinal {}", self.ordinal) } else { Ok(()) }
    }
}

/// One event, without the fields that all events of a graph share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'e> {
    /// Its kind.
    pub kind: Kind,
    /// Its place in the log.
    pub index: EventIndex,
    /// For a change, and for the beginning and the end of an import, the graph's chain at that
    /// version. For a part of an import, the hash over the chain at its beginning and the data of
    /// all parts up to this one.
    pub chain: Chain,
    /// When the version was committed, in milliseconds since 1970; `None` for a graph that was
    /// never changed.
    pub committed_at_ms: Option<i64>,
    /// Who asked for the change.
    pub actor: Option<Cow<'e, str>>,
    /// Canonical JSON.
    pub data: Cow<'e, str>,
}

impl<'e> Event<'e> {
    /// The event of a change.
    #[must_use]
    pub fn changed(logged: &'e LoggedChange) -> Self {
        Self {
            kind: Kind::Changed,
            index: EventIndex { version: logged.version, ordinal: 0 },
            chain: logged.chain,
            committed_at_ms: Some(logged.committed_at_ms),
            actor: logged.actor.as_deref().map(Cow::Borrowed),
            data: Cow::Borrowed(&logged.change),
        }
    }
}

/// The log of one graph: the fields that all its events share.
#[derive(Clone, PartialEq, Eq)]
pub struct Stream {
    /// The graph's name.
    pub graph: Name,
    /// The UUID of the graph's history, the same in every copy.
    pub uuid: Uuid,
    /// Written once and used by every event: the name as JSON, and the text between an event's id
    /// and its type.
    name_json: String,
    source_json: String,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.uuid, self.graph)
    }
}

/// A longer line is refused. No database can store a longer change, since SQLite's texts end at
/// 10^9 bytes and Postgres' at 2^30; beside its data an event has names, an actor and hashes.
pub const LINE_BYTES_MAX: u64 = (1 << 30) + (64 << 10);

/// The end of the year 9999, in milliseconds since 1970: years have four digits.
const LATEST_MS: u64 = 253_402_300_799_999;

impl Stream {
    /// Of a graph of that name and history.
    #[must_use]
    pub fn new(graph: Name, uuid: Uuid) -> Self {
        let name_json = serde_json::to_string(&graph).expect("a name is a JSON string");
        let source_json = format!(r#"","source":"urn:fencepost:graph:{uuid}","type":""#);
        Self { graph, uuid, name_json, source_json }
    }

    /// UUIDv5 in the graph's own name space: of a change `VERSION/ORDINAL`, of a part of an import
    /// `import/VERSION/ORDINAL`, since a change and an import may have one index, and of the
    /// beginning of an import that abandons another `import/VERSION/ORDINAL/LAST`, the last version
    /// that was abandoned.
    #[must_use]
    pub fn id(&self, event: &Event<'_>) -> Uuid {
        let EventIndex { version, ordinal } = event.index;
        match event.kind {
            Kind::Changed => self.id_by_index(event.index),
            Kind::ImportBegun => {
                let abandons = Contents::abandons_in(&event.data);
                let last = abandons.map(|last| format!("/{last}")).unwrap_or_default();
                Uuid::new_v5(&self.uuid, format!("import/{version}/{ordinal}{last}").as_bytes())
            }
            Kind::Imported | Kind::ImportEnded => {
                const PREFIX: &[u8] = b"import/";
                let mut name = [0; PREFIX.len() + POSITION_DIGITS];
                name[..PREFIX.len()].copy_from_slice(PREFIX);
                let length = write_index(event.index, &mut name[PREFIX.len()..]);
                Uuid::new_v5(&self.uuid, &name[..PREFIX.len() + length])
            }
        }
    }

    /// The former ids of parts of an import. Logs that hold them are read, and none is written.
    fn id_by_index(&self, index: EventIndex) -> Uuid {
        let mut name = [0; POSITION_DIGITS];
        let length = write_index(index, &mut name);
        Uuid::new_v5(&self.uuid, &name[..length])
    }

    /// Writes the event as JSON, without a line feed. O(its length).
    pub fn write(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        Writer::new(self).write(event, out);
    }

    /// The same with this id; `time` is formatted already, and empty if there is none.
    fn write_as(&self, id: Uuid, event: &Event<'_>, time: &str, out: &mut Vec<u8>) {
        let Event { kind, index, chain, actor, data, .. } = event;
        let mut digits = [0; uuid::fmt::Hyphenated::LENGTH];
        let id: &str = id.hyphenated().encode_lower(&mut digits);
        let (mut version, mut ordinal) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (version, ordinal) = (version.format(index.version), ordinal.format(index.ordinal));
        let mut digits = [0; 64];
        let chain = hex_into(&chain.0, &mut digits);
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        put(r#"{"specversion":"1.0","id":""#);
        put(id);
        put(&self.source_json);
        put(kind.word());
        put(r#"","subject":"#);
        put(&self.name_json);
        if !time.is_empty() {
            put(r#","time":""#);
            put(time);
            put("\"");
        }
        put(r#","datacontenttype":"application/json","sequence":""#);
        put(&ZEROS[version.len()..]);
        put(version);
        put(r#"","partitionkey":"#);
        put(&self.name_json);
        put(r#","graphversion":"#);
        put(version);
        put(r#","ordinal":"#);
        put(ordinal);
        put(r#","chainhash":""#);
        put(chain);
        put("\"");
        if let Some(actor) = actor {
            put(r#","actor":"#);
            put(&serde_json::to_string(actor).expect("a string is JSON"));
        }
        put(r#","checksum":""#);
        let mut digits = [0; CHECKSUM_DIGITS];
        put(checksum(id, time, chain, actor.as_deref(), &mut digits));
        put(r#"","data":"#);
        put(data);
        put("}");
    }

    /// The event as one line.
    #[must_use]
    pub fn line(&self, event: &Event<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(640 + event.data.len());
        self.write(event, &mut line);
        line.push(b'\n');
        line
    }
}

/// Versions are written with as many digits in an event's sequence.
const ZEROS: &str = "00000000000000000000";

/// Bytes of the longest `VERSION/ORDINAL`.
const POSITION_DIGITS: usize = 41;

/// Writes `VERSION/ORDINAL` and returns its length.
fn write_index(index: EventIndex, out: &mut [u8]) -> usize {
    let (mut version, mut ordinal) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (version, ordinal) = (version.format(index.version), ordinal.format(index.ordinal));
    let length = version.len() + 1 + ordinal.len();
    out[..version.len()].copy_from_slice(version.as_bytes());
    out[version.len()] = b'/';
    out[version.len() + 1..length].copy_from_slice(ordinal.as_bytes());
    length
}

/// A time in the form of RFC 3339. Times before 1970 or after 9999 become the nearest time within.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let ms = u64::try_from(ms).unwrap_or_default().min(LATEST_MS);
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

const CHECKSUM_DIGITS: usize = 16;

/// A hash over the fields that no other hash covers, time and actor: the beginning of SHA-256 in
/// hex.
fn checksum<'d>(
    id: &str,
    time: &str,
    chain: &str,
    actor: Option<&str>,
    digits: &'d mut [u8; CHECKSUM_DIGITS],
) -> &'d str {
    let mut hash = Sha256::new();
    for part in [id, "\n", time, "\n", chain, "\n", actor.unwrap_or_default()] {
        hash.update(part);
    }
    hex_into(&hash.finalize()[..CHECKSUM_DIGITS / 2], digits)
}

/// Writes events of one stream one after another, and formats a time once for all events that share
/// it.
pub struct Writer<'s> {
    stream: &'s Stream,
    time: (Option<i64>, String),
}

impl<'s> Writer<'s> {
    /// A writer of this stream's events.
    #[must_use]
    pub fn new(stream: &'s Stream) -> Self {
        Self { stream, time: (None, String::new()) }
    }

    /// As [`Stream::write`].
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.time.0 != event.committed_at_ms {
            self.time =
                (event.committed_at_ms, event.committed_at_ms.map(rfc3339).unwrap_or_default());
        }
        self.stream.write_as(self.stream.id(event), event, &self.time.1, out);
    }
}

/// Why a text is not an event: the log is damaged there, or another program wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DamagedEvent {
    /// It is not JSON, or lacks the form of an event.
    #[error("it is no event of Fencepost's: {0}")]
    NoEvent(String),
    /// Reading and writing it gives another text.
    #[error("it was altered: read and written anew it differs from byte {at} on")]
    Altered {
        /// The first byte that differs, from 0.
        at: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct Wire<'l> {
    #[serde(borrow, rename = "specversion")]
    _specversion: Cow<'l, str>,
    #[serde(borrow)]
    id: Cow<'l, str>,
    #[serde(borrow)]
    source: Cow<'l, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'l, str>,
    #[serde(borrow)]
    subject: Cow<'l, str>,
    #[serde(borrow)]
    time: Option<Cow<'l, str>>,
    #[serde(borrow, rename = "datacontenttype")]
    _datacontenttype: Cow<'l, str>,
    #[serde(borrow, rename = "sequence")]
    _sequence: Cow<'l, str>,
    #[serde(borrow, rename = "partitionkey")]
    _partitionkey: Cow<'l, str>,
    graphversion: u64,
    ordinal: u64,
    #[serde(borrow)]
    chainhash: Cow<'l, str>,
    #[serde(borrow)]
    actor: Option<Cow<'l, str>>,
    #[serde(borrow, rename = "checksum")]
    _checksum: Cow<'l, str>,
    #[serde(borrow)]
    data: &'l RawValue,
}

objects_only!(Wire<'l>);

/// Reads events strictly. It keeps the shared fields of the last event, so that a log of one graph
/// costs little more than its bytes.
#[derive(Default)]
pub struct Reader {
    last: Option<Arc<Stream>>,
    /// The last time, formatted and in milliseconds.
    time: (String, i64),
    written: Vec<u8>,
}

impl Reader {
    /// Reads `text` piece by piece, as [`Stream::write`] writes it, if it is of the same stream as
    /// the last event. `None` also where something is escaped in the actor. The data is not
    /// checked: with correct data the result is that of [`read`](Self::read), in less than half the
    /// time.
    fn scan<'l>(&mut self, text: &'l str) -> Option<(Arc<Stream>, Event<'l>)> {
        let stream = Arc::clone(self.last.as_ref()?);
        let mut scanner = Scanner::new(text);
        scanner.literal(r#"{"specversion":"1.0","id":""#)?;
        let id = scanner.bytes(uuid::fmt::Hyphenated::LENGTH)?;
        scanner.literal(&stream.source_json)?;
        let kind = Kind::ALL.into_iter().find(|kind| scanner.is_next(kind.word()))?;
        scanner.literal(r#"","subject":"#)?;
        scanner.literal(&stream.name_json)?;
        let (mut time, mut committed_at_ms) = ("", None);
        if scanner.is_next(r#","time":"#) {
            time = scanner.plain_string()?;
            committed_at_ms = Some(self.time_ms(time).filter(|_| self.time.0 == time)?);
        }
        scanner.literal(r#","datacontenttype":"application/json","sequence":"#)?;
        let sequence = scanner.plain_string()?;
        scanner.literal(r#","partitionkey":"#)?;
        scanner.literal(&stream.name_json)?;
        scanner.literal(r#","graphversion":"#)?;
        let (version, digits) = scanner.number()?;
        let zeros = sequence.strip_suffix(digits)?;
        if zeros != &ZEROS[digits.len()..] {
            return None;
        }
        scanner.literal(r#","ordinal":"#)?;
        let (ordinal, _) = scanner.number()?;
        scanner.literal(r#","chainhash":"#)?;
        let chain_digits = scanner.plain_string()?;
        let chain = Chain::from_hex(chain_digits)?;
        let actor =
            if scanner.is_next(r#","actor":"#) { Some(scanner.plain_string()?) } else { None };
        scanner.literal(r#","checksum":"#)?;
        let mut digits = [0; CHECKSUM_DIGITS];
        if scanner.plain_string()? != checksum(id, time, chain_digits, actor, &mut digits) {
            return None;
        }
        scanner.literal(r#","data":"#)?;
        let data = Cow::Borrowed(scanner.rest().strip_suffix('}')?);
        let index = EventIndex { version, ordinal };
        let actor = actor.map(Cow::Borrowed);
        let event = Event { kind, index, chain, committed_at_ms, actor, data };
        let is_called = |uuid: Uuid| {
            let mut digits = [0; uuid::fmt::Hyphenated::LENGTH];
            uuid.hyphenated().encode_lower(&mut digits) == id
        };
        // A change has one id only.
        let is_named = is_called(stream.id_by_index(index))
            || (kind != Kind::Changed && is_called(stream.id(&event)));
        is_named.then_some((stream, event))
    }

    /// Reads the event in `text`, which has no line feed, and its stream. O(length).
    ///
    /// # Errors [`DamagedEvent`] if it is not an event, or not spelled as [`Stream::write`] spells
    /// it.
    pub fn read<'l>(&mut self, text: &'l str) -> Result<(&Arc<Stream>, Event<'l>), DamagedEvent> {
        let no_event = |what: &str| DamagedEvent::NoEvent(what.to_owned());
        let wire: Wire<'l> = serde_json::from_str(text).map_err(|error| {
            DamagedEvent::NoEvent(error.to_string().replace(" at line 1 column", " at column"))
        })?;
        let uuid = wire
            .source
            .strip_prefix("urn:fencepost:graph:")
            .and_then(|uuid| Uuid::parse_str(uuid).ok());
        let uuid = uuid.ok_or_else(|| no_event("its source names no graph"))?;
        let known = self
            .last
            .as_ref()
            .is_some_and(|last| last.uuid == uuid && last.graph.as_str() == wire.subject);
        if !known {
            let graph = Name::new(&wire.subject)
                .map_err(|error| DamagedEvent::NoEvent(error.to_string()))?;
            self.last = Some(Arc::new(Stream::new(graph, uuid)));
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == wire.kind);
        let committed_at_ms = match &wire.time {
            Some(text) => Some(self.time_ms(text).ok_or_else(|| no_event("its time is none"))?),
            None => None,
        };
        let event = Event {
            kind: kind
                .ok_or_else(|| DamagedEvent::NoEvent(format!("its type is `{}`", wire.kind)))?,
            index: EventIndex { version: wire.graphversion, ordinal: wire.ordinal },
            chain: Chain::from_hex(&wire.chainhash)
                .ok_or_else(|| no_event("its chainhash is none"))?,
            committed_at_ms,
            actor: wire.actor,
            data: Cow::Borrowed(wire.data.get()),
        };
        let stream = self.last.as_ref().expect("set above");
        let by_index = stream.id_by_index(event.index);
        let mut digits = [0; uuid::fmt::Hyphenated::LENGTH];
        let spelled: &str = by_index.hyphenated().encode_lower(&mut digits);
        let id = if spelled == wire.id { by_index } else { stream.id(&event) };
        let time = if committed_at_ms.is_some() { &self.time.0 } else { "" };
        self.written.clear();
        stream.write_as(id, &event, time, &mut self.written);
        if self.written != text.as_bytes() {
            let at = self
                .written
                .iter()
                .zip(text.as_bytes())
                .take_while(|(ours, theirs)| ours == theirs)
                .count();
            return Err(DamagedEvent::Altered { at });
        }
        Ok((stream, event))
    }

    /// Milliseconds since 1970 of a time that has our spelling. Many events share one time.
    fn time_ms(&mut self, text: &str) -> Option<i64> {
        // Before the first event none is known, and an empty text is no time.
        if self.time.0 != text || text.is_empty() {
            let since =
                humantime::parse_rfc3339(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            let ms = i64::try_from(since.as_millis()).ok()?;
            self.time = (rfc3339(ms), ms);
        }
        Some(self.time.1)
    }
}
