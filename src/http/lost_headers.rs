//! Headers that a client sent and that Rocket does not show us.
//!
//! A header value may be any bytes. Rocket keeps those that are UTF-8, drops the others without a
//! trace in the request, and says so in a log line, `Header 'if-match' contains invalid UTF-8`. A
//! service that did not see an `If-Match` would do what the client wanted prevented. Rocket offers
//! no other place to learn of such a header: its listener and its conversion from hyper are
//! private. So the program's logger passes through here: that line is noted for the task that
//! serves the request, which logged it, and the handler, which runs in the same task, takes the
//! note.
//!
//! What could break this, and what would tell: another wording (Cargo.toml names Rocket's version
//! exactly, and `tests/http/headers.rs` sends such headers to the real program), another task
//! (likewise), and a logger that is not installed: serving takes a [`LostHeaders`], which only
//! [`LostHeaders::log_through`] gives.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use rocket::tokio::task::{self, Id};

/// Where Rocket reads requests.
const TARGET: &str = "rocket::request::request";
/// Before and after the header's name.
const WORDING: [&str; 2] = ["Header '", "' contains invalid UTF-8"];

/// What was noted and not yet taken. Each task that is in it serves a request at this moment.
static NOTED: LazyLock<Mutex<HashMap<Id, Vec<String>>>> = LazyLock::new(Mutex::default);
/// How many tasks are in [`NOTED`]: almost always none, and then nobody takes its lock.
static TASKS: AtomicUsize = AtomicUsize::new(0);

/// Shows that lost headers are noted.
#[derive(Debug, Clone, Copy)]
pub struct LostHeaders(());

impl LostHeaders {
    /// Makes `logger` the program's, for records up to the level `most`. What it is given passes
    /// through here first, warnings always.
    ///
    /// # Errors
    /// [`SetLoggerError`] if the program has a logger already.
    pub fn log_through(
        logger: impl Log + 'static,
        most: LevelFilter,
    ) -> Result<Self, SetLoggerError> {
        log::set_boxed_logger(Box::new(NotingLogger(logger)))?;
        log::set_max_level(most.max(LevelFilter::Warn));
        Ok(Self(()))
    }

    /// The names, in lower case, of the headers that were lost of the request that the current task
    /// serves. Forgets them: a task serves one request.
    pub fn take(self) -> Vec<String> {
        if TASKS.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let taken = task::try_id().and_then(|task| {
            let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
            let names = noted.remove(&task);
            TASKS.store(noted.len(), Ordering::Release);
            names
        });
        taken.unwrap_or_default()
    }
}

fn note(name: String) {
    if let Some(task) = task::try_id() {
        let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
        noted.entry(task).or_default().push(name);
        TASKS.store(noted.len(), Ordering::Release);
    }
}

/// Notes lost headers, and gives all records to the logger inside.
struct NotingLogger<L>(L);

impl<L: Log> Log for NotingLogger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET || self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.target() == TARGET && record.level() == Level::Warn {
            let text = record.args().to_string();
            let name = text.strip_prefix(WORDING[0]).and_then(|rest| rest.strip_suffix(WORDING[1]));
            if let Some(name) = name {
                note(name.to_ascii_lowercase());
            }
        }
        self.0.log(record);
    }

    fn flush(&self) {
        self.0.flush();
    }
}
