//! The script in `lock.lua`, as calls and answers with types. Knows the wire, no connection and no
//! thread.

use std::borrow::Cow;
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, Value};

#[cfg(feature = "failpoints")]
use super::guards::{GUARDS, Guard};
use super::terms::Terms;
#[cfg(feature = "failpoints")]
use crate::failpoint;
use crate::lock::{FencingToken, LockKey, Mode};

const TEXT: &str = include_str!("lock.lua");

/// The script's text.
#[cfg(not(feature = "failpoints"))]
pub(super) fn text() -> Cow<'static, str> {
    Cow::Borrowed(TEXT)
}

/// The script's text, without the guards that a test has switched off.
#[cfg(feature = "failpoints")]
pub(super) fn text() -> Cow<'static, str> {
    let is_off = |guard: &&Guard| failpoint::is_off(&format!("lock.redis.{}", guard.name));
    GUARDS
        .iter()
        .filter(is_off)
        .fold(Cow::Borrowed(TEXT), |text, guard| Cow::Owned(guard.taken_out_of(&text)))
}

/// The keys of one graph's lock, all in one slot.
#[derive(Clone, Debug)]
pub(super) struct Keys([String; 6]);

impl Keys {
    pub(super) fn of(key: &LockKey) -> Self {
        let named = |part| format!("{{fencepost:{key}}}:{part}");
        Self(["state", "readers", "queue", "patience", "crowd", "ended"].map(named))
    }
}

/// What the script is asked to do. The script says what each means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call<'c> {
    Acquire { request: &'c str, mode: Mode, waits: bool },
    Release { request: &'c str, sealed: bool, remember: bool },
    Renew { requests: &'c [&'c str] },
    Seed { request: &'c str, incarnation: &'c str, epoch: u32 },
    Inspect,
}

impl Call<'_> {
    /// The command that asks for it: by the script's hash, for the server with this run id.
    pub(super) fn command(&self, sha: &str, keys: &Keys, run: &str, terms: &Terms) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(sha).arg(keys.0.len()).arg(&keys.0);
        let mut with = |what: &str| {
            command.arg(what).arg(run).arg(ms(terms.lease)).arg(ms(terms.claim()));
        };
        match *self {
            Self::Acquire { request, mode, waits } => {
                with("acquire");
                let mode = if mode == Mode::Shared { "r" } else { "w" };
                let patience = if waits { ms(terms.waiter_lease()) } else { 0 };
                command.arg(request).arg(mode).arg(patience);
            }
            Self::Release { request, sealed, remember } => {
                with("release");
                let remembered = if remember { ms(terms.remembered()) } else { 0 };
                command.arg(request).arg(u8::from(sealed)).arg(remembered);
            }
            Self::Renew { requests } => {
                with("renew");
                command.arg(ms(terms.waiter_lease())).arg(requests);
            }
            Self::Seed { request, incarnation, epoch } => {
                with("seed");
                command.arg(request).arg(incarnation).arg(epoch);
            }
            Self::Inspect => with("inspect"),
        }
        command
    }
}

/// In milliseconds, at least 1.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 50)
}

/// What an exclusive grant comes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WriterGrant {
    pub(super) incarnation: String,
    /// `None`: the lock must be seeded.
    pub(super) token: Option<FencingToken>,
    /// A lease ran out since a token was last sealed in the database.
    pub(super) unsealed: bool,
}

/// What the script answers about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestStatus {
    /// It holds the lock; for a writer, with a grant.
    Held {
        grant: Option<WriterGrant>,
        /// Whether another request waits for the lock. Told to writers only.
        is_wanted: bool,
    },
    /// It waits. After that time the leases of those before it expire, unless they are renewed.
    Queued(Duration),
    /// It would have to wait, and asked not to.
    Busy,
    /// It has ended and gets nothing any more.
    Ended,
    /// The script does not know it.
    Unknown,
}

impl RequestStatus {
    pub(super) fn read(answer: &Value) -> Result<Self, RedisError> {
        let Value::Array(items) = answer else { return Err(unexpected(answer)) };
        let items: Vec<&str> = items.iter().map(text_of).collect::<Result<_, _>>()?;
        match items.as_slice() {
            ["held"] => Ok(Self::Held { grant: None, is_wanted: false }),
            ["held", epoch, counter, incarnation, unsealed, is_wanted] => {
                let grant = WriterGrant::read(epoch, counter, incarnation, unsealed);
                Ok(Self::Held { grant: Some(grant), is_wanted: *is_wanted == "1" })
            }
            ["queued", ms] => {
                Ok(Self::Queued(Duration::from_millis(ms.parse().unwrap_or_default())))
            }
            ["busy"] => Ok(Self::Busy),
            ["ended"] => Ok(Self::Ended),
            ["none"] => Ok(Self::Unknown),
            _ => Err(unexpected(answer)),
        }
    }

    /// The answer to [`Call::Renew`]: the server's time in microseconds, and one for each request.
    pub(super) fn read_all(answer: &Value) -> Result<(u64, Vec<Self>), RedisError> {
        let Value::Array(items) = answer else { return Err(unexpected(answer)) };
        let [now_us, each @ ..] = items.as_slice() else { return Err(unexpected(answer)) };
        let now_us = text_of(now_us)?.parse().map_err(|_| unexpected(answer))?;
        Ok((now_us, each.iter().map(Self::read).collect::<Result<_, _>>()?))
    }
}

impl WriterGrant {
    fn read(epoch: &str, counter: &str, incarnation: &str, unsealed: &str) -> Self {
        let token = epoch.parse().ok().zip(counter.parse().ok());
        let token = token.and_then(|(epoch, counter)| FencingToken::new(epoch, counter));
        Self { incarnation: incarnation.to_owned(), token, unsealed: unsealed == "1" }
    }
}

/// What the server tells a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    HandOff(HandOff),
    /// Another request has begun to wait for what the writer's request with this number holds.
    Wanted(u64),
}

/// A grant that was handed over, as the message to the waiter's process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HandOff {
    /// When, by the server's clock, in microseconds.
    pub(super) at_us: u64,
    /// The numbers of the requests: one writer, or some readers of one lock.
    pub(super) requests: Vec<u64>,
    pub(super) grant: Option<WriterGrant>,
}

impl Message {
    /// `None` if it is not a message of this release.
    pub(super) fn read(message: &str) -> Option<Self> {
        // Split at each space: a missing token leaves an empty field.
        let parts: Vec<&str> = message.split(' ').collect();
        match parts.as_slice() {
            ["w", at_us, number, epoch, counter, incarnation, unsealed] => {
                Some(Self::HandOff(HandOff {
                    at_us: at_us.parse().ok()?,
                    requests: vec![number.parse().ok()?],
                    grant: Some(WriterGrant::read(epoch, counter, incarnation, unsealed)),
                }))
            }
            ["r", at_us, numbers @ ..] => Some(Self::HandOff(HandOff {
                at_us: at_us.parse().ok()?,
                requests: numbers
                    .iter()
                    .map(|number| number.parse().ok())
                    .collect::<Option<_>>()?,
                grant: None,
            })),
            ["k", _at_us, number] => Some(Self::Wanted(number.parse().ok()?)),
            _ => None,
        }
    }
}

/// A text within an answer.
pub(super) fn text_of(value: &Value) -> Result<&str, RedisError> {
    let text = match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text.as_str()),
        _ => None,
    };
    text.ok_or_else(|| unexpected(value))
}

pub(super) fn unexpected(answer: &Value) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "the lock's script answered", format!("{answer:?}")).into()
}
