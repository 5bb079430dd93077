//! `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]/STREAM`, or `rediss://…`: a Redis stream, one
//! entry an event, with the one field `event`.
//!
//! **Against zombies**, twice. A script compares the stream's last entry with the one that this
//! exporter saw last and appends only if it still is; nothing runs beside a script. And each
//! entry's id is told by its index, `VERSION-(ORDINAL + 1)`: Redis itself refuses an id that is
//! not above all that the stream ever had.
//!
//! **Identity.** Its key and a mark, a UUID under the key `STREAM:fencepost-sink`: a server has no
//! name that it keeps over a restart.
//!
//! **Durability.** Redis acknowledges what is in its memory. What a crash leaves depends on its
//! settings: with `appendonly yes` and `appendfsync always` all that was acknowledged, with
//! `everysec`, the default, all but about the last second. Without an append-only file, what came
//! after the last snapshot is lost. Nothing more can be asked of it, so `sync` has nothing to do;
//! opening warns. An exporter that comes back goes on from what is there.
//!
//! **Cost.** A round trip for [`SCRIPT_EVENTS_MAX`] events or [`SCRIPT_BYTES_MAX`] bytes. The
//! server does nothing else meanwhile: about a millisecond.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::time::Duration;

use ::redis::{
    Client, Connection, ErrorKind, FromRedisValue, ParsingError, RedisError, Script, Value, cmd,
};
use uuid::Uuid;

use crate::address::Address;
use crate::db::on_one_line;
use crate::event::EventIndex;
use crate::export::sink::{Batch, Gap, Purpose, Sink, SinkError};
use crate::failpoint;
use crate::terminal::shell_word;

/// How long a connection may take to come up, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest argument that a server takes unless its `proto-max-bulk-len` says otherwise.
const ARGUMENT_BYTES_MAX: u64 = 512 << 20;

/// More than what comes with an event in the memory of a server.
const ENTRY_BYTES: u64 = 4 << 10;

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

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(&append_script()));

/// Appends entries, given as id and event, if the last one's id is the one given first. Answers
/// with the last one's id if it is not.
const APPEND: &str = "
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local last = newest[1] and newest[1][1] or ''
if ARGV[1] ~= last then return {last} end
for at = 2, #ARGV, 2 do redis.call('XADD', KEYS[1], ARGV[at], 'event', ARGV[at + 1]) end
return {}
";

#[cfg(not(feature = "failpoints"))]
fn append_script() -> String {
    APPEND.to_owned()
}

/// In builds for tests the condition can be switched off, to show that its test then fails.
#[cfg(feature = "failpoints")]
fn append_script() -> String {
    let condition = "if ARGV[1] ~= last then return {last} end";
    assert!(APPEND.contains(condition), "the script has the condition");
    if failpoint::is_off("sink-guard") { APPEND.replace(condition, "") } else { APPEND.to_owned() }
}

/// Errors of a server that lets nobody in without another login.
const OF_LOGIN: [&str; 2] = ["NOAUTH", "WRONGPASS"];

/// The words of such a server, where the client library leaves out the code.
const NO_LOGIN: &str = "Authentication required";

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
    /// The stream's mark; `None` until it is read, and if the user may not read it.
    mark: Option<String>,
    purpose: Purpose,
    /// The largest event that the server takes, and the setting that says so.
    largest: (u64, &'static str),
}

/// The server's URL and the stream's key.
///
/// # Errors
/// What is wrong with the address.
pub(in crate::export) fn check(address: &Address) -> Result<(String, String), &'static str> {
    const NO_STREAM: &str = "it names no stream";
    check_parameters(&address.tail)?;
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

/// Refuses parameters that the client library would pass over: whoever gave a password there would
/// be let in without it, or not at all.
fn check_parameters(tail: &str) -> Result<(), &'static str> {
    let (parameters, fragment) = tail.split_at(tail.find('#').unwrap_or(tail.len()));
    if !fragment.is_empty() {
        return Err("it takes no fragment; a # in the stream's name is written %23");
    }
    let mut given = parameters.strip_prefix('?').unwrap_or(parameters).split('&');
    let is_known = |parameter: &str| {
        let version = parameter.strip_prefix("protocol=");
        parameter.is_empty()
            || version.is_some_and(|version| ["2", "3", "resp2", "resp3"].contains(&version))
    };
    if given.all(is_known) {
        return Ok(());
    }
    Err("it takes no parameters but protocol=2 or 3: user and password stand before the host, the \
         number of a database before the stream, and a ? in the stream's name is written %3F")
}

/// The command of a shell that reaches the stream's database on the server.
fn cli(address: &Address) -> String {
    match address.path().unwrap_or_default().as_slice() {
        [database, _] if database != "0" => format!("redis-cli -n {database}"),
        _ => "redis-cli".to_owned(),
    }
}

/// The command of a shell that deletes the stream.
pub(in crate::export) fn how_to_delete(address: &Address) -> String {
    let key = check(address).map(|(_, key)| key).unwrap_or_default();
    format!("{} DEL {}", cli(address), shell_word(&key))
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
            mark: None,
            purpose,
            largest: (ARGUMENT_BYTES_MAX, "proto-max-bulk-len"),
        };
        let key = sink.key.clone();
        let kind: String = sink.ask(|connection| cmd("TYPE").arg(&key).query(connection))?;
        match (kind.as_str(), purpose) {
            ("stream", _) | ("none", Purpose::Append) => {}
            ("none", Purpose::Read | Purpose::Ask) => {
                return Err(SinkError::NotThere { sink: sink.name, what: String::new() });
            }
            (kind, _) => return Err(sink.no_stream(&format!("the key holds a {kind}"))),
        }
        if purpose == Purpose::Append {
            sink.learn_largest();
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
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.client).map_err(|error| self.not_connected(&error))?,
        };
        match body(&mut connection) {
            Ok(value) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Err(error) if error.code() == Some("WRONGTYPE") => {
                Err(self.no_stream("the key holds no stream"))
            }
            Err(error) => {
                // An answer like any other: the connection is whole.
                if error.code() == Some("NOPERM") {
                    self.connection = Some(connection);
                }
                Err(self.failed(&error))
            }
        }
    }

    /// What the server or its client said, without the password.
    fn told(&self, error: &RedisError) -> String {
        self.address.without_password(on_one_line(error))
    }

    fn unavailable(&self, error: &RedisError) -> SinkError {
        let what = if error.is_timeout() {
            "it did not answer in time".to_owned()
        } else {
            self.told(error)
        };
        SinkError::Unavailable { sink: self.name.clone(), what }
    }

    /// Tells logins that are refused, and a database that there is not, from a server that is away.
    fn not_connected(&self, error: &RedisError) -> SinkError {
        let told = self.told(error);
        let is_login = error.kind() == ErrorKind::AuthenticationFailed
            || error.code().is_some_and(|code| OF_LOGIN.contains(&code))
            || told.contains(NO_LOGIN);
        if is_login {
            return self.denied(&told);
        }
        let refuses_database = told.contains("refused to switch database");
        if refuses_database && told.contains("out of range") {
            let what = format!("{told}. Name a database that the server has (`databases`)");
            return SinkError::Refused { sink: self.name.clone(), what };
        }
        if refuses_database && told.contains("no permissions") {
            return self.denied(&told);
        }
        self.unavailable(error)
    }

    fn denied(&self, told: &str) -> SinkError {
        let what = format!(
            "{told}. Give the right user and password in the URL, and the user the rights on the \
             server (ACL SETUSER)"
        );
        SinkError::Denied { sink: self.name.clone(), what }
    }

    /// Tells errors that pass by themselves, which a server gives about its own state, from those
    /// that it gives about a command.
    fn failed(&self, error: &RedisError) -> SinkError {
        const OF_ITSELF: [&str; 9] = [
            "LOADING",
            "BUSY",
            "MASTERDOWN",
            "READONLY",
            "TRYAGAIN",
            "CLUSTERDOWN",
            "NOREPLICAS",
            "MISCONF",
            "NOSCRIPT",
        ];
        let sink = self.name.clone();
        match error.code() {
            None => self.unavailable(error),
            Some(_) if error.to_string().contains("OOM") => {
                let what = format!(
                    "its memory is full: raise maxmemory, or free some ({})",
                    self.told(error)
                );
                SinkError::Unavailable { sink, what }
            }
            Some(code) if OF_ITSELF.contains(&code) => self.unavailable(error),
            Some(code) if OF_LOGIN.contains(&code) => self.denied(&self.told(error)),
            Some("NOPERM") => SinkError::Refused {
                sink,
                what: format!("{}. Give the user the right to", self.told(error)),
            },
            Some(_) => SinkError::Failed { sink, what: self.told(error) },
        }
    }

    /// One section of what the server says of itself; empty if it says nothing.
    fn info(&mut self, section: &str) -> String {
        self.ask(|connection| cmd("INFO").arg(section).query::<String>(connection))
            .unwrap_or_default()
    }

    /// Learns the largest event that the server takes. A server that does not tell its settings is
    /// taken to have the defaults.
    fn learn_largest(&mut self) {
        let setting = |sink: &mut Self, name: &str| -> Option<u64> {
            let told: HashMap<String, String> = sink
                .ask(|connection| cmd("CONFIG").arg("GET").arg(name).query(connection))
                .unwrap_or_default();
            told.get(name)?.parse().ok()
        };
        let limits = ["proto-max-bulk-len", "client-query-buffer-limit"];
        let mut largest = (ARGUMENT_BYTES_MAX, limits[0]);
        let told = limits.map(|name| setting(self, name).map(|bytes| (bytes, name)));
        if let Some(least) = told.into_iter().flatten().min() {
            largest = least;
        }
        let memory = field(&self.info("memory"), "maxmemory").and_then(|most| most.parse().ok());
        if let Some(most) = memory.filter(|most| (1..largest.0).contains(most)) {
            largest = (most, "maxmemory");
        }
        self.largest = largest;
    }

    /// Whether the server takes events of such a size. It would answer one that is too large by
    /// closing the connection, which looks like a failure that passes.
    fn check_sizes(&self, batch: &Batch) -> Result<(), SinkError> {
        let (most, setting) = self.largest;
        let too_large = batch.events().find(|(_, event)| event.len() as u64 + ENTRY_BYTES > most);
        let Some((index, event)) = too_large else { return Ok(()) };
        let what = format!(
            "the event at {index} has {} bytes, and the server takes {most} with what belongs \
             to it: raise {setting} (CONFIG SET {setting} BYTES) and export again; nothing of this \
             append was written",
            event.len()
        );
        Err(SinkError::Refused { sink: self.name.clone(), what })
    }

    /// Warnings about the settings, as far as the server tells them.
    fn warnings_of_settings(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (persistence, memory) = (self.info("persistence"), self.info("memory"));
        if field(&persistence, "aof_enabled") == Some("0") {
            warnings.push(
                "Redis keeps no append-only file, so what was exported since its last snapshot is \
                 lost when it ends. Set `appendonly yes` (CONFIG SET appendonly yes, and in its \
                 configuration)"
                    .to_owned(),
            );
        }
        let policy = field(&memory, "maxmemory_policy").unwrap_or_default();
        let limited = field(&memory, "maxmemory").is_some_and(|most| most != "0");
        if limited && policy.starts_with("allkeys") {
            warnings.push(format!(
                "Redis may drop the whole stream when it runs out of memory (maxmemory-policy \
                 {policy}). Use a server with noeviction or one of the volatile policies (CONFIG \
                 SET maxmemory-policy noeviction)"
            ));
        }
        warnings
    }

    /// What Redis knows of the stream, by name; nothing if there is none.
    fn stream_info(&mut self) -> Result<HashMap<String, AnswerPart>, SinkError> {
        let key = self.key.clone();
        let told = self.ask(|connection| {
            match cmd("XINFO")
                .arg("STREAM")
                .arg(&key)
                .query::<HashMap<String, AnswerPart>>(connection)
            {
                Err(error) if error.to_string().contains("no such key") => Ok(HashMap::new()),
                told => told,
            }
        });
        Ok(if_allowed(told)?.unwrap_or_default())
    }

    /// Whether entries were deleted from the stream: an error if nothing can be appended any more,
    /// a warning if it can.
    fn check_deleted(&mut self) -> Result<Option<String>, SinkError> {
        let told = self.stream_info()?;
        let number = |name: &str| match told.get(name) {
            Some(AnswerPart::Number(number)) => *number,
            _ => 0,
        };
        let text = |name: &str| match told.get(name) {
            Some(AnswerPart::Text(text)) => text.as_str(),
            _ => "",
        };
        let (generated, length) = (text("last-generated-id"), number("length"));
        let added = number("entries-added");
        let (cli, delete) = (cli(&self.address), how_to_delete(&self.address));
        let key = shell_word(&self.key);
        if length == 0 && !matches!(generated, "" | "0-0") {
            return Err(self.damaged(format!(
                "all its entries, up to {generated}, were deleted (XTRIM or XDEL), and Redis takes \
                 none up to that again. To begin anew with the whole graph: `{delete}`, then \
                 export again"
            )));
        }
        let last = self.last.clone();
        if !last.is_empty() && is_above(generated, &last) {
            return Err(self.damaged(format!(
                "its entries after {last}, up to {generated}, were deleted (XDEL), and Redis takes \
                 none up to that again. To have them written again: `{cli} XSETID {key} {last} \
                 ENTRIESADDED {length} MAXDELETEDID 0-0`, or to begin anew with the whole graph: \
                 `{delete}`; then export again"
            )));
        }
        Ok((added > length).then(|| {
            format!(
                "{} of its entries were deleted (XDEL or XTRIM): what is left cannot be verified \
                 or restored from. To begin anew with the whole graph: `{delete}`, then export \
                 again; or export to another key",
                added - length
            )
        }))
    }

    fn damaged(&self, what: String) -> SinkError {
        SinkError::Damaged { sink: self.name.clone(), what }
    }

    /// Reads the stream's mark, and makes it if this is to append and there is none. `None` if
    /// there is none, or the user may not.
    fn read_mark(&mut self) -> Result<Option<String>, SinkError> {
        let key = format!("{}:fencepost-sink", self.key);
        let get =
            |connection: &mut Connection| cmd("GET").arg(&key).query::<Option<String>>(connection);
        let found = if_allowed(self.ask(get))?.flatten();
        if found.is_some() || self.purpose != Purpose::Append {
            return Ok(found);
        }
        let mark = self.mark.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let made = self.ask(|connection| {
            cmd("SET").arg(&key).arg(&mark).arg("NX").query::<Option<String>>(connection)
        });
        if if_allowed(made)?.is_none() {
            return Ok(None);
        }
        Ok(if_allowed(self.ask(get))?.flatten())
    }

    fn text_of(&self, (id, fields): Entry) -> Result<String, SinkError> {
        match <[Vec<u8>; 2]>::try_from(fields) {
            Ok([name, event]) if name == b"event" => String::from_utf8(event)
                .map_err(|_| self.no_stream(&format!("its entry {id} is no UTF-8"))),
            _ => Err(self.no_stream(&format!("its entry {id} has other fields than `event`"))),
        }
    }

    fn append_part(&mut self, part: &[(EventIndex, &str)]) -> Result<(), SinkError> {
        let id = |index: EventIndex| format!("{}-{}", index.version, index.ordinal + 1);
        let mut call = SCRIPT.prepare_invoke();
        call.key(&self.key).arg(&self.last);
        for (index, event) in part {
            call.arg(id(*index)).arg(*event);
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
                self.last = part.last().map_or_else(String::new, |(index, _)| id(*index));
                failpoint::pass("sink-appended");
                return Ok(());
            }
            Some(TAKEN) => {
                self.check_deleted()?;
                "the stream has had these entries".to_owned()
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

/// A part of an answer, as far as it is wanted.
enum AnswerPart {
    Text(String),
    Number(i64),
    Else,
}

impl FromRedisValue for AnswerPart {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        Ok(match value {
            Value::Int(number) => Self::Number(number),
            Value::BulkString(bytes) => Self::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Value::SimpleString(text) => Self::Text(text),
            _ => Self::Else,
        })
    }
}

/// What was asked, or nothing if the user may not ask that.
fn if_allowed<T>(asked: Result<T, SinkError>) -> Result<Option<T>, SinkError> {
    match asked {
        Err(SinkError::Refused { .. }) => Ok(None),
        asked => asked.map(Some),
    }
}

/// Whether one id comes after another.
fn is_above(id: &str, other: &str) -> bool {
    let numbers = |id: &str| -> Option<(u64, u64)> {
        let (version, ordinal) = id.split_once('-')?;
        Some((version.parse().ok()?, ordinal.parse().ok()?))
    };
    numbers(id) > numbers(other)
}

impl Sink for RedisSink {
    fn identity(&mut self) -> Result<String, SinkError> {
        if self.mark.is_none() {
            self.mark = self.read_mark()?;
        }
        let key = &self.key;
        Ok(match &self.mark {
            Some(mark) => format!("Redis stream {key} ({mark})"),
            None => format!("Redis stream {key} at {}", self.address.place),
        })
    }

    fn check(&mut self) -> Result<Vec<String>, SinkError> {
        // Gone with all else if the server forgot it, and then it is made again.
        if let Some(known) = self.mark.clone()
            && let Some(found) = self.read_mark()?
            && found != known
        {
            return Err(self.damaged(
                "it is another stream than this export began with. Start the export again"
                    .to_owned(),
            ));
        }
        self.learn_largest();
        let key = self.key.clone();
        let ttl = self.ask(|connection| cmd("PTTL").arg(&key).query::<i64>(connection));
        if let Some(ttl) = if_allowed(ttl)?.filter(|ttl| *ttl >= 0) {
            return Err(self.damaged(format!(
                "Redis drops it in {} s, since the key has a time to live. To keep it: `{} PERSIST \
                 {}`, then export again",
                ttl / 1000,
                cli(&self.address),
                shell_word(&self.key)
            )));
        }
        let mut warnings = self.warnings_of_settings();
        warnings.extend(self.check_deleted()?);
        Ok(warnings)
    }

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

    fn first(&mut self) -> Result<Option<String>, SinkError> {
        let key = self.key.clone();
        let oldest: Vec<Entry> = self.ask(|connection| {
            cmd("XRANGE").arg(&key).arg("-").arg("+").arg("COUNT").arg(1).query(connection)
        })?;
        Ok(oldest.into_iter().next().and_then(|entry| self.text_of(entry).ok()))
    }

    fn gaps(&mut self) -> Result<Vec<Gap>, SinkError> {
        let told = self.stream_info()?;
        // Redis 7 and newer tell it.
        let deleted = match told.get("max-deleted-entry-id") {
            Some(AnswerPart::Text(id)) if id != "0-0" => id.clone(),
            _ => return Ok(Vec::new()),
        };
        let beside = |command: &str, end: &str| {
            let mut command = cmd(command);
            command.arg(&self.key).arg(format!("({deleted}")).arg(end).arg("COUNT").arg(1);
            command
        };
        let (before, after) = (beside("XREVRANGE", "-"), beside("XRANGE", "+"));
        let mut entry = |command: redis::Cmd| -> Result<Option<String>, SinkError> {
            let found: Vec<Entry> = self.ask(|connection| command.query(connection))?;
            found.into_iter().next().map(|entry| self.text_of(entry)).transpose()
        };
        let (before, after) = (entry(before)?, entry(after)?);
        Ok(after.map(|after| Gap { before, after }).into_iter().collect())
    }

    fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.check_sizes(batch)?;
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
