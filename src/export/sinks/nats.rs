//! `nats://[USER:PASSWORD@ or TOKEN@]HOST[:PORT]/STREAM`, or `tls://…`: a JetStream stream for each
//! graph, with the one subject `fencepost.STREAM`.
//!
//! **Identity.** Its name and the time when it was made: a restarted server and a restored backup
//! still have that.
//!
//! **Against zombies.** The first message of an append says which number the stream's last message
//! must have. Those after it are sent before it is acknowledged, and numbers alone would not do for
//! them: had somebody else put one message there, the first would be refused, and the second, which
//! expects one message more, would be taken. So each message has a name that is never used again,
//! and those after the first say too which name the last message must have: if one is refused, all
//! after it are.
//!
//! **Durability.** The server writes to files and acknowledges before it syncs them, which it does
//! every `sync_interval`: two minutes unless configured otherwise. When the server is killed
//! nothing is lost; when its machine loses power, what was acknowledged within that time may be,
//! unless the server (2.10 or newer) has `sync_interval: always`, or the stream replicas elsewhere.
//! Nothing more can be asked of it, so `sync` has nothing to do. An exporter that comes back goes
//! on from what is there.
//!
//! **Cost.** A round trip for [`PIPELINED_EVENTS_MAX`] events or [`PIPELINED_BYTES_MAX`] bytes.
//! Reading is one stream of messages from the server.
//!
//! The one file that knows that the client is async: it has a thread of its own, which also answers
//! the server while nothing is exported.

use std::error::Error as _;
use std::fmt::Display;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::context::{
    ContextBuilder, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, PublishAckFuture,
    PublishError, PublishErrorKind,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, LastRawMessageErrorKind, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerError, connection};
use futures_util::StreamExt;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::address::Address;
use crate::db::on_one_line;
use crate::export::sink::{Batch, Gap, Purpose, Sink, SinkError};
use crate::failpoint;

/// How long a connection may take to come up, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Events that are sent before their acknowledgements are awaited, at most.
const PIPELINED_EVENTS_MAX: usize = 256;

/// Bytes of such events at most, unless one event alone has more.
const PIPELINED_BYTES_MAX: usize = 4 << 20;

/// More than the headers of a message take. They count as payload.
const HEADERS_BYTES_MAX: usize = 512;

/// How long the server looks out for names that come twice. They never do: they are there for the
/// next message.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// How many messages may have been deleted from a stream's end; each costs a round trip.
const DELETED_AT_END_MAX: u64 = 1_000;

/// Messages that were deleted from the midst of a stream and are listed, at most.
const DELETED_LISTED_MAX: u64 = 100_000;

/// Places where messages were deleted and that are looked at, at most; each costs two round trips.
const GAPS_MAX: usize = 100;

/// Of a stream that was there.
const DELETED: &str = "it was deleted. Start again to make a new one";

/// A log in a JetStream stream.
pub struct NatsSink {
    link: Link,
    connected: Option<Connected>,
    last_sequence: u64,
    /// The stream's identity when it was first asked for.
    identity: Option<String>,
    /// Names this exporter in its messages.
    exporter: Uuid,
    /// Messages that were sent.
    sent: u64,
    /// Dropped last: what it drives must be gone.
    runtime: Runtime,
}

/// Which stream, and how to get there.
struct Link {
    name: String,
    address: Address,
    /// Without the login.
    server: String,
    login: Option<(String, Option<String>)>,
    stream: String,
}

#[derive(Clone)]
struct Connected {
    client: Client,
    context: Context,
    violation: Violation,
}

/// What the server said last of a right that the user does not have. It says so beside the request,
/// which then goes unanswered.
#[derive(Clone, Default)]
struct Violation(Arc<Mutex<Option<String>>>);

impl Violation {
    fn note(&self, told: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn noted(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The stream's name.
///
/// # Errors
/// What is wrong with the address.
pub(in crate::export) fn check(address: &Address) -> Result<String, &'static str> {
    let path = address.path()?;
    let [stream] = path.as_slice() else {
        return Err(if path.is_empty() {
            "it names no stream"
        } else {
            "its path is not one stream's name"
        });
    };
    if stream.is_empty() {
        return Err("it names no stream");
    }
    if !stream.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Err("its stream's name is not of letters, digits, _ and -");
    }
    if !address.tail.is_empty() {
        return Err("it takes no parameters");
    }
    address.login()?;
    Ok(stream.clone())
}

/// The command of a shell that deletes the stream.
pub(in crate::export) fn how_to_delete(address: &Address) -> String {
    format!("nats stream rm {}", check(address).unwrap_or_default())
}

impl NatsSink {
    /// Connects to the server, and makes the stream if it is to append and there is none.
    ///
    /// # Errors
    /// [`SinkError`] if it cannot be reached, or the stream is another.
    pub fn open(address: &Address, purpose: Purpose) -> Result<Self, SinkError> {
        let wrong =
            |reason: &str| SinkError::Url { given: address.to_string(), reason: reason.to_owned() };
        let stream = check(address).map_err(wrong)?;
        let login = address.login().map_err(wrong)?;
        let server = format!("{}://{}", address.scheme, address.place);
        let (name, address) = (address.to_string(), address.clone());
        let link = Link { name, address, server, login, stream };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| link.unavailable(error))?;
        let connected = runtime.block_on(link.connect())?;
        let prepared = runtime.block_on(link.prepare(&connected, purpose));
        link.judged(&connected, prepared)?;
        let (connected, exporter) = (Some(connected), Uuid::new_v4());
        Ok(Self { link, connected, last_sequence: 0, identity: None, exporter, sent: 0, runtime })
    }

    /// The connection, a new one if that there was failed.
    fn connected(&mut self) -> Result<Connected, SinkError> {
        let lives = |connected: &Connected| {
            connected.client.connection_state() == connection::State::Connected
        };
        if let Some(connected) = self.connected.take().filter(lives) {
            connected.violation.note(None);
            return Ok(self.connected.insert(connected).clone());
        }
        let connected = self.runtime.block_on(self.link.connect())?;
        Ok(self.connected.insert(connected).clone())
    }

    /// Sends events and waits until all are stored, for so long in all. All acknowledgements are
    /// awaited, whatever the first says: what is still on its way when the last message is asked
    /// for would pass for another exporter's.
    fn append_part(&mut self, context: &Context, events: &[&str]) -> Result<(), SinkError> {
        let subject = self.link.subject();
        let (link, exporter, unguarded) =
            (&self.link, self.exporter.simple(), failpoint::is_off("sink-guard"));
        let (first, expected) = (self.sent, self.last_sequence);
        self.sent += events.len() as u64;
        let messages = events.iter().zip(0_u64..).map(|(event, at)| {
            let message = PublishMessage::build().payload(event.as_bytes().to_vec().into());
            let message = message.message_id(format!("{exporter}.{}", first + at));
            if unguarded {
                return message;
            }
            let message = message.expected_last_sequence(expected + at);
            if at == 0 || failpoint::is_off("sink-names") {
                message
            } else {
                message.expected_last_message_id(format!("{exporter}.{}", first + at - 1))
            }
        });
        let all = async {
            let mut sent: Vec<Result<PublishAckFuture, PublishError>> =
                Vec::with_capacity(events.len());
            for message in messages {
                sent.push(context.send_publish(subject.clone(), message).await);
            }
            let mut outcome = Ok(None);
            for sent in sent {
                let acknowledged = match sent {
                    Ok(acknowledgement) => acknowledgement.await,
                    Err(error) => Err(error),
                };
                outcome = outcome
                    .and_then(|_| acknowledged.map(|acknowledged| Some(acknowledged.sequence)));
            }
            outcome
        };
        let outcome = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await });
        let outcome = outcome.map_err(|_| link.unavailable("it did not answer in time"))?;
        let last = outcome.map_err(|error| link.not_published(error))?;
        failpoint::pass("sink-appended");
        self.last_sequence = last.unwrap_or(expected);
        Ok(())
    }
}

impl NatsSink {
    /// The reason why messages were refused. If it is a setting of the stream, that says more than
    /// the server's answer.
    fn reason(&self, connected: &Connected, error: SinkError) -> SinkError {
        if !matches!(error, SinkError::Unavailable { .. } | SinkError::Failed { .. }) {
            return error;
        }
        match self.runtime.block_on(self.link.info(connected)) {
            Ok(Some(info)) => self.link.check(&info.config).err().unwrap_or(error),
            _ => error,
        }
    }
}

impl Link {
    fn subject(&self) -> String {
        format!("fencepost.{}", self.stream)
    }

    /// What the server or its client said, without the password.
    fn told(&self, error: impl Display) -> String {
        self.address.without_password(on_one_line(error))
    }

    fn unavailable(&self, error: impl Display) -> SinkError {
        SinkError::Unavailable { sink: self.name.clone(), what: self.told(error) }
    }

    fn damaged(&self, what: impl Into<String>) -> SinkError {
        SinkError::Damaged { sink: self.name.clone(), what: what.into() }
    }

    fn denied(&self, told: &str) -> SinkError {
        let what = format!(
            "{told}. Give the right user and password in the URL, and the user the rights to \
             publish to {} and $JS.API.> and to subscribe to _INBOX.>",
            self.subject()
        );
        SinkError::Denied { sink: self.name.clone(), what }
    }

    /// Tells requests that went unanswered for lack of a right from a server that is away.
    fn judged<T>(
        &self,
        connected: &Connected,
        asked: Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        match (asked, connected.violation.noted()) {
            (Err(SinkError::Unavailable { .. }), Some(told)) => Err(self.denied(&told)),
            (asked, _) => asked,
        }
    }

    /// What JetStream answered: of its own state, which passes, of an account that has none, or of
    /// the request, of which it is not known.
    fn failed(&self, code: ErrorCode, told: String) -> SinkError {
        let sink = self.name.clone();
        match code {
            // Room is made again, or the limits are raised.
            ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::STREAM_STORE_FAILED => self.unavailable(format!(
                "it has no room: raise the limits of its JetStream or its disk ({told})"
            )),
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => SinkError::Denied {
                sink,
                what: format!("{told}. Enable JetStream for the account (`jetstream: enabled`)"),
            },
            ErrorCode::CLUSTER_NOT_AVAILABLE
            | ErrorCode::CLUSTER_NOT_LEADER
            | ErrorCode::CLUSTER_NOT_ACTIVE
            | ErrorCode::STREAM_OFFLINE => self.unavailable(told),
            _ => SinkError::Failed { sink, what: told },
        }
    }

    fn not_published(&self, error: PublishError) -> SinkError {
        let sink = self.name.clone();
        let told = || self.told(&error);
        let code = error
            .source()
            .and_then(|source| source.downcast_ref::<jetstream::Error>())
            .map(jetstream::Error::error_code);
        match (error.kind(), code) {
            (PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId, _) => {
                let what = format!(
                    "its last message is not the one that this exporter left there ({}). See to it that one exporter writes there; started again, it goes on \
                     from what is there",
                    told()
                );
                SinkError::Superseded { sink, what }
            }
            (PublishErrorKind::MaxPayloadExceeded, _) => SinkError::Refused {
                sink,
                what: format!("{}: raise max_payload in its configuration", told()),
            },
            (_, Some(code)) => self.failed(code, told()),
            (_, None) => self.unavailable(error),
        }
    }

    async fn connect(&self) -> Result<Connected, SinkError> {
        let violation = Violation::default();
        let noted = violation.clone();
        let mut options = ConnectOptions::new()
            .name("fencepost")
            .event_callback(move |event| {
                if let Event::ServerError(ServerError::Other(told)) = event
                    && told.to_lowercase().contains("permissions violation")
                {
                    noted.note(Some(told));
                }
                std::future::ready(())
            })
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            // A connection that is lost is told, and a new one made when the sink is asked again.
            .max_reconnects(1);
        options = match self.login.clone() {
            None => options,
            Some((token, None)) => options.token(token),
            Some((user, Some(password))) => options.user_and_password(user, password),
        };
        let connected = options.connect(&self.server).await;
        let client = connected.map_err(|error| {
            let told = self.told(&error);
            let is_login = matches!(
                error.kind(),
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication
            );
            let ended = ["authentication expired", "authentication revoked"];
            if is_login || ended.iter().any(|words| told.to_lowercase().contains(words)) {
                self.denied(&told)
            } else {
                self.unavailable(error)
            }
        })?;
        let context = ContextBuilder::new().timeout(PATIENCE).build(client.clone());
        Ok(Connected { client, context, violation })
    }

    /// What the server says of the stream.
    async fn info(&self, connected: &Connected) -> Result<Option<Info>, SinkError> {
        match connected.context.get_stream(&self.stream).await {
            Ok(stream) => Ok(Some(stream.cached_info().clone())),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) if !connected.client.server_info().jetstream => Err(self.damaged(format!(
                "the server has no JetStream: start it with `jetstream {{ store_dir: … }}` in its \
                 configuration, or with --jetstream ({})",
                self.told(error)
            ))),
            Err(error) => Err(match error.kind() {
                GetStreamErrorKind::JetStream(told) => {
                    self.failed(told.error_code(), self.told(&error))
                }
                _ => self.unavailable(error),
            }),
        }
    }

    async fn prepare(&self, connected: &Connected, purpose: Purpose) -> Result<(), SinkError> {
        match (self.info(connected).await?, purpose) {
            (Some(_), Purpose::Read | Purpose::Ask) => Ok(()),
            (None, Purpose::Read | Purpose::Ask) => Err(self.not_there("")),
            (Some(info), Purpose::Append) => self.check(&info.config),
            (None, Purpose::Append) => {
                let made = connected.context.create_stream(self.config()).await;
                let made = made.map_err(|error| match error.kind() {
                    CreateStreamErrorKind::JetStream(told) => {
                        self.failed(told.error_code(), self.told(&error))
                    }
                    _ => self.unavailable(error),
                })?;
                self.check(&made.cached_info().config)
            }
        }
    }

    fn not_there(&self, what: &str) -> SinkError {
        SinkError::NotThere { sink: self.name.clone(), what: what.to_owned() }
    }

    /// Of a stream that keeps all it is given.
    fn config(&self) -> Config {
        Config {
            name: self.stream.clone(),
            subjects: vec![self.subject()],
            description: Some("the log of one graph, by Fencepost".to_owned()),
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            max_bytes: -1,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            max_consumers: -1,
            num_replicas: 1,
            duplicate_window: DUPLICATE_WINDOW,
            deny_delete: true,
            deny_purge: true,
            allow_direct: true,
            ..Config::default()
        }
    }

    /// Refuses a stream that might lose events, or hold others' messages.
    fn check(&self, config: &Config) -> Result<(), SinkError> {
        let subject = self.subject();
        let limits = [
            ("max_bytes", "--max-bytes=-1", config.max_bytes > 0),
            ("max_msgs", "--max-msgs=-1", config.max_messages > 0),
            (
                "max_msgs_per_subject",
                "--max-msgs-per-subject=-1",
                config.max_messages_per_subject > 0,
            ),
            ("max_msg_size", "--max-msg-size=-1", config.max_message_size > 0),
            ("max_age", "--max-age=-1", !config.max_age.is_zero()),
        ];
        let reason = if config.subjects != [subject.as_str()]
            || config.mirror.is_some()
            || config.sources.is_some()
        {
            format!("it is another stream: its one subject is not {subject}")
        } else if config.storage != StorageType::File {
            "it is in memory, and gone when the server ends".to_owned()
        } else if config.retention != RetentionPolicy::Limits {
            "it drops messages that were consumed: its retention is not `limits`".to_owned()
        } else if limits.iter().any(|(_, _, limited)| *limited) {
            let set: Vec<_> = limits.into_iter().filter(|(_, _, limited)| *limited).collect();
            let names: Vec<_> = set.iter().map(|(name, ..)| *name).collect();
            let options: Vec<_> = set.iter().map(|(_, option, _)| *option).collect();
            return Err(self.damaged(format!(
                "it cannot keep all events: it has the limit {}. Take it off: `nats stream edit {} \
                 {}`; or name a stream that is not there yet, and it is made as it must be",
                names.join(" and "),
                self.stream,
                options.join(" ")
            )));
        } else if config.sealed || config.no_ack {
            "it is sealed, or acknowledges nothing".to_owned()
        } else {
            return Ok(());
        };
        Err(self.damaged(format!(
            "{reason}. Name a stream that is not there yet, and it is made as it must be"
        )))
    }

    /// Whether the server takes messages of such a size.
    fn check_sizes(&self, connected: &Connected, batch: &Batch) -> Result<(), SinkError> {
        let most = connected.client.server_info().max_payload;
        let too_large = batch.events().find(|(_, event)| event.len() + HEADERS_BYTES_MAX > most);
        let Some((index, event)) = too_large else { return Ok(()) };
        let what = format!(
            "the event at {index} has {} bytes, and the server takes messages of {most}, \
             headers included: raise max_payload in its configuration (at most 64 MB) and export again; \
             nothing of this append was written",
            event.len()
        );
        Err(SinkError::Refused { sink: self.name.clone(), what })
    }

    /// Warnings of messages that were deleted, or may be.
    fn warnings(&self, info: &Info) -> Vec<String> {
        let (state, stream) = (&info.state, &self.stream);
        let mut warnings = Vec::new();
        let gone = state.last_sequence.saturating_sub(state.messages);
        if state.messages > 0 && gone > 0 {
            warnings.push(format!(
                "{gone} of its messages were purged or deleted: \
                 `fencepost verify` says whether the log is whole. If not, begin anew with the \
                 whole graph: `nats stream rm {stream}`, then export again; or export to another \
                 stream"
            ));
        }
        if info.config.allow_rollup {
            warnings.push(format!(
                "a message with the header Nats-Rollup takes all before it out of the stream. \
                 Forbid it: `nats stream edit {stream} --no-allow-rollup`"
            ));
        }
        warnings
    }

    async fn last(&self, connected: &Connected) -> Result<(u64, Option<String>), SinkError> {
        let Some(info) = self.info(connected).await? else {
            return Err(self.not_there(DELETED));
        };
        let last = info.state.last_sequence;
        // Its numbers go on after a purge.
        if info.state.messages == 0 {
            return Ok((last, None));
        }
        let stream = connected
            .context
            .get_stream_no_info(&self.stream)
            .await
            .map_err(|error| self.unavailable(error))?;
        // The last that is left, if some after it were deleted.
        let oldest = info.state.first_sequence.max(last.saturating_sub(DELETED_AT_END_MAX));
        for sequence in (oldest..=last).rev() {
            match stream.get_raw_message(sequence).await {
                Ok(message) => return Ok((last, Some(self.text(sequence, &message.payload)?))),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(self.unavailable(error)),
            }
        }
        Err(self.damaged(format!(
            "more than {DELETED_AT_END_MAX} messages were deleted from its end, so that it is not \
             known where its log ends. To begin anew with the whole graph: `nats stream rm {}`, \
             then export again; or export to another stream",
            self.stream
        )))
    }

    async fn first(&self, connected: &Connected) -> Result<Option<String>, SinkError> {
        let info = self.info(connected).await?;
        let Some(info) = info.filter(|info| info.state.messages > 0) else { return Ok(None) };
        let stream = connected.context.get_stream_no_info(&self.stream).await;
        let stream = stream.map_err(|error| self.unavailable(error))?;
        match stream.get_raw_message(info.state.first_sequence).await {
            Ok(message) => Ok(std::str::from_utf8(&message.payload).ok().map(str::to_owned)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.unavailable(error)),
        }
    }

    /// Its numbers tell where messages are missing. Those at the end are not of interest: what
    /// comes next is written after the last message that is left.
    async fn gaps(&self, connected: &Connected) -> Result<Vec<Gap>, SinkError> {
        let Some(info) = self.info(connected).await? else {
            return Err(self.not_there(DELETED));
        };
        let state = &info.state;
        if state.messages == 0 || state.last_sequence == state.messages {
            return Ok(Vec::new());
        }
        let stream = connected.context.get_stream_no_info(&self.stream).await;
        let stream = stream.map_err(|error| self.unavailable(error))?;
        let missing = (state.last_sequence + 1).saturating_sub(state.first_sequence);
        let missing = missing.saturating_sub(state.messages);
        if missing > DELETED_LISTED_MAX {
            return Err(self.too_many_gaps());
        }
        let mut deleted = Vec::new();
        if missing > 0 {
            let told = stream.info_builder().with_deleted(true).fetch().await;
            let told = told.map_err(|error| self.unavailable(error))?;
            deleted = told.info.state.deleted.clone().unwrap_or_default();
            deleted.sort_unstable();
        }
        // The number before each gap, and the one after it.
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        if state.first_sequence > 1 {
            gaps.push((0, state.first_sequence));
        }
        for sequence in deleted {
            match gaps.last_mut() {
                Some((_, after)) if *after == sequence => *after += 1,
                _ => gaps.push((sequence - 1, sequence + 1)),
            }
        }
        gaps.retain(|(_, after)| *after <= state.last_sequence);
        if gaps.len() > GAPS_MAX {
            return Err(self.too_many_gaps());
        }
        let mut found = Vec::with_capacity(gaps.len());
        for (before, after) in gaps {
            let text = async |sequence: u64| {
                let message = stream.get_raw_message(sequence).await;
                let message = message.map_err(|error| self.unavailable(error))?;
                self.text(sequence, &message.payload)
            };
            let before = if before == 0 { None } else { Some(text(before).await?) };
            found.push(Gap { before, after: text(after).await? });
        }
        Ok(found)
    }

    fn too_many_gaps(&self) -> SinkError {
        self.damaged(format!(
            "messages were deleted from its midst, more than {DELETED_LISTED_MAX} or at more than \
             {GAPS_MAX} places. To begin anew with the whole graph: `nats stream rm {}`, then \
             export again; or export to another stream",
            self.stream
        ))
    }

    fn text(&self, sequence: u64, payload: &[u8]) -> Result<String, SinkError> {
        let text = std::str::from_utf8(payload);
        text.map(str::to_owned)
            .map_err(|_| self.damaged(format!("its message {sequence} is no UTF-8: it is no log")))
    }

    async fn read(
        &self,
        connected: &Connected,
        each: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SinkError> {
        let Some(info) = self.info(connected).await? else {
            return Err(self.not_there("it was deleted"));
        };
        if info.state.messages == 0 {
            return Ok(());
        }
        let mut messages = self.messages(connected).await?;
        loop {
            let next = tokio::time::timeout(PATIENCE, messages.next()).await;
            let message = match next.map_err(|_| self.unavailable("it sent nothing for a while"))? {
                Some(message) => message.map_err(|error| self.unavailable(error))?,
                None => return Err(self.unavailable("it ended the stream of messages")),
            };
            let (sequence, pending) = message
                .info()
                .map(|info| (info.stream_sequence, info.pending))
                .map_err(|error| self.unavailable(error))?;
            let text = self.text(sequence, &message.payload)?;
            // What came since this began is not waited for.
            if each(&text).is_break() || pending == 0 || sequence >= info.state.last_sequence {
                return Ok(());
            }
        }
    }

    async fn messages(&self, connected: &Connected) -> Result<Ordered, SinkError> {
        let stream = connected
            .context
            .get_stream_no_info(&self.stream)
            .await
            .map_err(|error| self.unavailable(error))?;
        let consumer = stream
            .create_consumer(OrderedConfig::default())
            .await
            .map_err(|error| self.unavailable(error))?;
        consumer.messages().await.map_err(|error| self.unavailable(error))
    }
}

fn is_not_found(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// The same over restarts, in words.
fn identity_of(info: &Info) -> String {
    let made = humantime::format_rfc3339_nanos(SystemTime::from(info.created));
    format!("JetStream stream {} made {made}", info.config.name)
}

impl Sink for NatsSink {
    fn identity(&mut self) -> Result<String, SinkError> {
        let connected = self.connected()?;
        let info = self.runtime.block_on(self.link.info(&connected));
        let info = self.link.judged(&connected, info)?;
        let identity = info.as_ref().map(identity_of);
        let identity = identity.ok_or_else(|| self.link.not_there("it was deleted"))?;
        self.identity.get_or_insert_with(|| identity.clone());
        Ok(identity)
    }

    fn check(&mut self) -> Result<Vec<String>, SinkError> {
        let connected = self.connected()?;
        let info = self.runtime.block_on(self.link.info(&connected));
        let info = self.link.judged(&connected, info)?;
        let info = info.ok_or_else(|| self.link.not_there(DELETED))?;
        let found = identity_of(&info);
        if self.identity.as_ref().is_some_and(|known| *known != found) {
            return Err(self.link.damaged(
                "it is another stream than this export began with. Start the export again",
            ));
        }
        self.link.check(&info.config)?;
        Ok(self.link.warnings(&info))
    }

    fn last(&mut self) -> Result<Option<String>, SinkError> {
        let connected = self.connected()?;
        let asked = self.runtime.block_on(self.link.last(&connected));
        let asked = self.link.judged(&connected, asked);
        let (sequence, text) = asked.inspect_err(|_| self.connected = None)?;
        self.last_sequence = sequence;
        Ok(text)
    }

    fn first(&mut self) -> Result<Option<String>, SinkError> {
        let connected = self.connected()?;
        let asked = self.runtime.block_on(self.link.first(&connected));
        self.link.judged(&connected, asked).inspect_err(|_| self.connected = None)
    }

    fn gaps(&mut self) -> Result<Vec<Gap>, SinkError> {
        let connected = self.connected()?;
        let asked = self.runtime.block_on(self.link.gaps(&connected));
        self.link.judged(&connected, asked).inspect_err(|_| self.connected = None)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let connected = self.connected()?;
        self.link.check_sizes(&connected, batch)?;
        for part in batch.parts(PIPELINED_EVENTS_MAX, PIPELINED_BYTES_MAX) {
            let events: Vec<&str> = part.into_iter().map(|(_, event)| event).collect();
            let appended = self.append_part(&connected.context, &events);
            if let Err(error) = self.link.judged(&connected, appended) {
                self.connected = None;
                return Err(self.reason(&connected, error));
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn read(&mut self, each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), SinkError> {
        let connected = self.connected()?;
        let read = self.runtime.block_on(self.link.read(&connected, each));
        self.link.judged(&connected, read)
    }
}
