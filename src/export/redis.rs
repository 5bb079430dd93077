//! `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]/STREAM`, or `rediss://…`: a Redis stream, one
//! entry an event, with the one field `event`.
//!
//! **Against zombies**, twice. A script compares the stream's last entry with the one that this
//! exporter saw last and appends only if it still is; nothing runs beside a script. And each
//! entry's id is told by its position, `VERSION-(ORDINAL + 1)`: Redis itself refuses an id that is
//! not above all that the stream ever had.
//!
//! **Durability.** Redis acknowledges what is in its memory. What a crash leaves depends on its
//! settings: with `appendonly yes` and `appendfsync always` all that was acknowledged, with
//! `everysec`, the default, all but about the last second. Without an append-only file, what came
//! after the last snapshot is lost. Nothing more can be asked of it, so `sync` has nothing to do;
//! opening warns. An exporter that comes back goes on from what is there.
//!
//! **Cost.** A round trip for [`SCRIPT_EVENTS_MAX`] events or [`SCRIPT_BYTES_MAX`] bytes. The
//! server does nothing else meanwhile: about a millisecond.

use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::time::Duration;

use ::redis::{Client, Connection, RedisError, Script, cmd};

use super::sink::{Batch, Purpose, Sink, SinkError};
use crate::address::Address;
use crate::db::on_one_line;
use crate::event::Position;
use crate::failpoint;

/// How long a connection may take to come up, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Events that one script call appends at most.
const SCRIPT_EVENTS_MAX: usize = 500;

/// Bytes that one script call appends at most, unless one event alone has more.
const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// What a page that is read should have in bytes. The next one's number of entries is chosen by it.
const PAGE_BYTES: usize = 4 << 20;

/// Entries of a page at most.
const PAGE_ENTRIES_MAX: usize = 5_000;

/// Entries of the first page, of which the size is not known.
const FIRST_PAGE_ENTRIES: usize = 16;

/// Appends entries, given as id and event, if the last one's id is the one given first. Answers
/// with the last one's id if it is not.
static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local last = newest[1] and newest[1][1] or ''
if ARGV[1] ~= 'unguarded' and ARGV[1] ~= last then return {last} end
for at = 2, #ARGV, 2 do redis.call('XADD', KEYS[1], ARGV[at], 'event', ARGV[at + 1]) end
return {}
",
    )
});

/// In the place of the last entry's id: Redis refused an id.
const TAKEN: &str = "taken";

/// An entry: its id, and its fields and values by turns.
type Entry = (String, Vec<Vec<u8>>);

/// A log in a Redis stream.
pub struct RedisSink {
    name: String,
    address: Address,
    client: Client,
    key: String,
    connection: Option<Connection>,
    /// The id of the entry that this exporter saw last; empty for none.
    last: String,
}

/// The server's URL and the stream's key.
///
/// # Errors
/// What is wrong with the address.
pub(super) fn check(address: &Address) -> Result<(String, String), &'static str> {
    const NO_STREAM: &str = "it names no stream";
    let mut path = address.path()?;
    let key = path.pop().filter(|key| !key.is_empty()).ok_or(NO_STREAM)?;
    let is_number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    match path.as_slice() {
        // So that nobody who forgets the stream has one that is called 0.
        [] if is_number(&key) => Err("it names a database and no stream"),
        [] => Ok((address.server(0), key)),
        [database] if !database.is_empty() && is_number(database) => Ok((address.server(1), key)),
        [_] => Err("before the stream's name comes the number of a database"),
        _ => Err("its path has too many parts; a slash in the stream's name is written %2F"),
    }
}

impl RedisSink {
    /// Connects to the server.
    ///
    /// # Errors
    /// [`SinkError`] if it cannot be reached, or what is there is no stream.
    pub fn open(address: &Address, purpose: Purpose) -> Result<Self, SinkError> {
        let wrong =
            |reason: &str| SinkError::Url { given: address.to_string(), reason: reason.to_owned() };
        let (server, key) = check(address).map_err(wrong)?;
        // Whoever was first has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::open(server)
            .map_err(|_| wrong("its host, port or parameters are not what Redis takes"))?;
        let mut sink = Self {
            name: address.to_string(),
            address: address.clone(),
            client,
            key,
            connection: None,
            last: String::new(),
        };
        let key = sink.key.clone();
        let kind: String = sink.ask(|connection| cmd("TYPE").arg(&key).query(connection))?;
        match (kind.as_str(), purpose) {
            ("stream", _) | ("none", Purpose::Append) => {}
            ("none", Purpose::Read) => {
                return Err(SinkError::NotThere { sink: sink.name, what: String::new() });
            }
            (kind, _) => return Err(sink.no_stream(&format!("the key holds a {kind}"))),
        }
        if purpose == Purpose::Append {
            sink.warn_of_settings();
        }
        Ok(sink)
    }

    fn no_stream(&self, what: &str) -> SinkError {
        let what =
            format!("{what}, no log: name another key, or delete this one if nobody needs it");
        SinkError::Damaged { sink: self.name.clone(), what }
    }

    /// Runs commands on the connection, a new one if there is none. One that failed is thrown away.
    fn ask<T>(
        &mut self,
        body: impl FnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, SinkError> {
        let asked = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => connect(&self.client),
        };
        let answered = asked.and_then(|mut connection| {
            let value = body(&mut connection)?;
            Ok((connection, value))
        });
        match answered {
            Ok((connection, value)) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Err(error) if error.code() == Some("WRONGTYPE") => {
                Err(self.no_stream("the key holds no stream"))
            }
            Err(error) => {
                let timed_out = error.is_timeout();
                let what = if timed_out {
                    "it did not answer in time".to_owned()
                } else {
                    self.address.without_password(on_one_line(error))
                };
                Err(SinkError::Away { sink: self.name.clone(), what })
            }
        }
    }

    /// A server that says nothing of its settings is not warned of.
    fn warn_of_settings(&mut self) {
        let mut info = |section: &str| {
            self.ask(|connection| cmd("INFO").arg(section).query::<String>(connection))
                .unwrap_or_default()
        };
        let (persistence, memory) = (info("persistence"), info("memory"));
        if field(&persistence, "aof_enabled") == Some("0") {
            log::warn!(
                "{}: Redis keeps no append-only file, so what was exported since its last snapshot is lost when it ends. Set `appendonly yes`",
                self.name
            );
        }
        let policy = field(&memory, "maxmemory_policy").unwrap_or_default();
        let limited = field(&memory, "maxmemory").is_some_and(|most| most != "0");
        if limited && policy.starts_with("allkeys") {
            log::warn!(
                "{}: Redis may drop the whole stream when it runs out of memory (maxmemory-policy {policy}). Use a server with noeviction or one of the \
                 volatile policies",
                self.name
            );
        }
    }

    fn text_of(&self, (id, fields): Entry) -> Result<String, SinkError> {
        match <[Vec<u8>; 2]>::try_from(fields) {
            Ok([name, event]) if name == b"event" => String::from_utf8(event)
                .map_err(|_| self.no_stream(&format!("its entry {id} is no UTF-8"))),
            _ => Err(self.no_stream(&format!("its entry {id} has other fields than `event`"))),
        }
    }

    fn append_part(&mut self, part: &[(Position, &str)]) -> Result<(), SinkError> {
        let id = |position: Position| format!("{}-{}", position.version, position.ordinal + 1);
        let mut call = SCRIPT.prepare_invoke();
        call.key(&self.key).arg(if failpoint::is_off("sink-guard") {
            "unguarded"
        } else {
            &self.last
        });
        for (position, event) in part {
            call.arg(id(*position)).arg(*event);
        }
        let answer = self.ask(|connection| match call.invoke(connection) {
            // An answer like any other: the connection is whole.
            Err(error) if error.to_string().contains("equal or smaller") => {
                Ok(vec![TAKEN.to_owned()])
            }
            answer => answer,
        })?;
        let of =
            |id: &str| if id.is_empty() { "nothing".to_owned() } else { format!("the entry {id}") };
        let what = match answer.first().map(String::as_str) {
            None => {
                self.last = part.last().map_or_else(String::new, |(position, _)| id(*position));
                failpoint::pass("sink-appended");
                return Ok(());
            }
            Some(TAKEN) => {
                "the stream has had these entries, or later ones that were deleted".to_owned()
            }
            Some(found) => {
                format!(
                    "the stream ends with {}, not with {} as this one left it",
                    of(found),
                    of(&self.last)
                )
            }
        };
        let what = format!(
            "{what}. See to it that one exporter writes there; started again, it goes on from what is there"
        );
        Err(SinkError::Superseded { sink: self.name.clone(), what })
    }
}

impl Sink for RedisSink {
    fn last(&mut self) -> Result<Option<String>, SinkError> {
        let key = self.key.clone();
        let newest: Vec<Entry> = self.ask(|connection| {
            cmd("XREVRANGE").arg(&key).arg("+").arg("-").arg("COUNT").arg(1).query(connection)
        })?;
        let Some(entry) = newest.into_iter().next() else {
            self.last.clear();
            return Ok(None);
        };
        self.last.clone_from(&entry.0);
        self.text_of(entry).map(Some)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        batch
            .parts(SCRIPT_EVENTS_MAX, SCRIPT_BYTES_MAX)
            .iter()
            .try_for_each(|part| self.append_part(part))
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn read(&mut self, each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), SinkError> {
        let (key, mut after, mut count) = (self.key.clone(), "-".to_owned(), FIRST_PAGE_ENTRIES);
        loop {
            let page: Vec<Entry> = self.ask(|connection| {
                cmd("XRANGE")
                    .arg(&key)
                    .arg(&after)
                    .arg("+")
                    .arg("COUNT")
                    .arg(count)
                    .query(connection)
            })?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = format!("({last}");
            let (entries, mut bytes) = (page.len(), 0);
            for entry in page {
                let text = self.text_of(entry)?;
                bytes += text.len();
                if each(&text).is_break() {
                    return Ok(());
                }
            }
            let fitting = entries * PAGE_BYTES / bytes.max(1);
            count = fitting.min(2 * count).clamp(1, PAGE_ENTRIES_MAX);
        }
    }
}

fn connect(client: &Client) -> Result<Connection, RedisError> {
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// The value of a line of what INFO says.
fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
