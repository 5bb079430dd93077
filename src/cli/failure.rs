//! How the program ends when a command fails: every error becomes an exit code and a sentence here.
//! 1 refused by the rules, bad data or a failed check, 2 wrong usage, 3 a server away.
//!
//! Messages, log lines, panics and errors in arguments are printed here, and nowhere else.
//! Each goes through `terminal`: text from elsewhere is escaped, and logins of URLs are hidden.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::thread;

use clap::error::{ContextKind, ContextValue};
use fencepost::address;
use fencepost::archive::{ListingError, PastError, PruneError, RestoreError, SnapshotError};
use fencepost::bench::BenchError;
use fencepost::check::{CheckError, FetchError};
use fencepost::db::{DatabaseUrl, DbError};
use fencepost::export::sink::SinkError;
use fencepost::export::{AskError, ExportError, FreezeError, VerifyError};
use fencepost::graph::Name;
use fencepost::http::LostHeaders;
use fencepost::import::ImportError;
use fencepost::import::events::LogFileError;
use fencepost::input::InputError;
use fencepost::node::LockBindingError;
use fencepost::node::NodeError;
use fencepost::service::Refusal;
use fencepost::store::{CommitError, StoreError};
use fencepost::terminal;

/// What the process ends with.
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// The message on standard error.
    pub message: String,
    /// Whether something was not found in the database. If so, the message names the database.
    pub not_in_database: bool,
}

impl Failure {
    /// Refused by the rules, bad data or a failed check.
    pub fn refused(message: impl ToString) -> Self {
        Self { code: 1, message: message.to_string(), not_in_database: false }
    }

    /// There is no such graph in the database.
    pub fn graph_not_found(graph: &Name) -> Self {
        Self::not_in_database(format!("there is no graph `{graph}`"))
    }

    /// Something was looked for in the database, and not found.
    pub fn not_in_database(message: impl ToString) -> Self {
        Self { not_in_database: true, ..Self::refused(message) }
    }

    /// Wrong usage.
    pub fn usage(message: impl ToString) -> Self {
        Self { code: 2, message: message.to_string(), not_in_database: false }
    }

    /// A server away.
    pub fn unavailable(message: impl ToString) -> Self {
        Self { code: 3, message: message.to_string(), not_in_database: false }
    }

    /// Prints the message, on one line.
    pub fn report(&self, database_url: &str) -> ExitCode {
        let message = match (self.not_in_database, DatabaseUrl::parse(database_url)) {
            (true, Ok(database)) => format!("{} in {database}", self.message),
            _ => self.message.clone(),
        };
        eprintln!("fencepost: {}", terminal::message(&message));
        ExitCode::from(self.code)
    }
}

/// Writes log lines and panics to standard error. Must be called once.
pub fn start_log() -> LostHeaders {
    // The logger quotes a filter that it cannot parse.
    let filters = std::env::var("RUST_LOG").unwrap_or_else(|_| "info,rocket=off,_=off".to_owned());
    let logger = env_logger::Builder::new()
        .parse_filters(&terminal::message(&filters))
        .format(|out, record| {
            let (level, target) = (record.level(), record.target());
            writeln!(out, "[{level:<5} {target}] {}", terminal::message(&record.args().to_string()))
        })
        .build();
    panic::set_hook(Box::new(report_panic));
    let most = logger.filter();
    LostHeaders::log_through(logger, most).expect("nothing else sets the program's logger")
}

fn report_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map_or_else(String::new, |location| format!(" at {location}"));
    eprintln!(
        "thread '{}' panicked{place}: {}",
        thread::current().name().unwrap_or("unnamed"),
        terminal::message(text.unwrap_or("no message"))
    );
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        eprintln!("{backtrace}");
    }
}

/// Prints the help that was asked for, or what is wrong with the arguments.
pub fn report_arguments(mut error: clap::Error) -> ExitCode {
    let foreign: Vec<(ContextKind, ContextValue)> =
        error.context().filter_map(|(kind, value)| Some((kind, shown(value)?))).collect();
    if !foreign.is_empty() {
        // Tips repeat the argument.
        error.remove(ContextKind::Suggested);
    }
    for (kind, value) in foreign {
        error.insert(kind, value);
    }
    // There is nobody left to tell that it cannot be printed.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What to show in place of an argument that cannot be shown as it is; `None` if it can.
fn shown(value: &ContextValue) -> Option<ContextValue> {
    match value {
        ContextValue::String(text) => {
            let shown = shown_argument(text);
            (shown != *text).then_some(ContextValue::String(shown))
        }
        ContextValue::Strings(texts) => {
            let shown: Vec<String> = texts.iter().map(|text| shown_argument(text)).collect();
            (shown != *texts).then_some(ContextValue::Strings(shown))
        }
        _ => None,
    }
}

/// An argument in the wrong place may be a URL with a password.
fn shown_argument(text: &str) -> String {
    if text.contains("://") {
        return terminal::message(&address::redacted(text));
    }
    terminal::message(text)
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::LockUrl(_)
            | NodeError::RedisUrl(_)
            | NodeError::LockCannotGuard { .. }
            | NodeError::NoLockToShare(_)
            | NodeError::OneStorageTwice(_)
            | NodeError::Database(DbError::Url { .. }) => Self::usage(error),
            NodeError::GraphNotFound(_) => Self::not_in_database(error),
            NodeError::Database(
                DbError::NewerSchema { .. }
                | DbError::OlderSchema { .. }
                | DbError::NoTables { .. }
                | DbError::Foreign { .. }
                | DbError::OthersTables { .. }
                | DbError::Encoding { .. }
                | DbError::Mixed { .. }
                | DbError::Migration { .. }
                | DbError::TooFewMigrations { .. }
                | DbError::FunctionMissing { .. }
                | DbError::FunctionDenied { .. }
                | DbError::TransactionPooling
                | DbError::RowsDiffer { .. }
                | DbError::Refused(_),
            )
            | NodeError::NobodyLeads(_)
            | NodeError::NoSuccessor(_)
            | NodeError::NotHandedOver { .. }
            | NodeError::LockSetMeanwhile { .. } => Self::refused(error),
            NodeError::Note(_) => Self::unavailable(error),
            NodeError::Store(error) | NodeError::Binding(LockBindingError::Store(error)) => {
                error.into()
            }
            NodeError::Binding(LockBindingError::Another { .. }) => Self::refused(error),
            NodeError::Database(
                DbError::NotThere { .. }
                | DbError::Unavailable { .. }
                | DbError::Yielded { .. }
                | DbError::ReadOnly { .. },
            )
            | NodeError::Lock(_) => Self::unavailable(error),
        }
    }
}

/// What helps at the command line, to be told after the refusal.
fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::StorageMismatch { .. } => {
            "; give --design one for that storage as well, separated by a comma"
        }
        _ => "",
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::GraphNotFound { .. } => Self::not_in_database(refusal),
            Refusal::StorageMismatch { .. } => {
                Self::refused(format!("{refusal}{}", advice(&refusal)))
            }
            Refusal::Rejected { .. }
            | Refusal::Frozen { .. }
            | Refusal::KeyReused
            | Refusal::Internal { .. } => Self::refused(refusal),
            Refusal::Contended { .. }
            | Refusal::LedElsewhere { .. }
            | Refusal::LockUnavailable { .. }
            | Refusal::DatabaseUnavailable { .. }
            | Refusal::OutcomeUnknown { .. } => Self::unavailable(refusal),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => NodeError::from(error).into(),
            StoreError::DamagedRows { .. }
            | StoreError::DamagedLog(_)
            | StoreError::DamagedHistory { .. }
            | StoreError::UnknownStorage(_)
            | StoreError::DamagedValue(_)
            | StoreError::IllegalHistory { .. }
            | StoreError::KeptApart { .. }
            | StoreError::RowDisappeared(_) => Self::refused(error),
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unavailable(error) => error.into(),
            CommitError::Yielded(_) | CommitError::Unknown { .. } => Self::unavailable(error),
            CommitError::Frozen { .. }
            | CommitError::Deleted
            | CommitError::Thawed
            | CommitError::Fenced { .. }
            | CommitError::Conflict { .. }
            | CommitError::EpochMoved { .. }
            | CommitError::KeyTaken { .. }
            | CommitError::StorageChanged { .. }
            | CommitError::Gone { .. }
            | CommitError::Refused(_) => Self::refused(error),
        }
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Url { .. } => Self::usage(error),
            SinkError::Unavailable { .. } => Self::unavailable(error),
            SinkError::Superseded { .. }
            | SinkError::NotThere { .. }
            | SinkError::Refused { .. }
            | SinkError::Denied { .. }
            | SinkError::Failed { .. }
            | SinkError::Damaged { .. } => Self::refused(error),
        }
    }
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        let message = error.to_string();
        match error {
            PruneError::Store(error) => error.into(),
            PruneError::Past(error) => error.into(),
            PruneError::Write(error) => Self { message, ..error.into() },
            PruneError::NeededBy { .. }
            | PruneError::NoSnapshot { .. }
            | PruneError::ConcurrentPrune(_)
            | PruneError::NotPrunable { .. } => Self::refused(error),
        }
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let message = error.to_string();
        match error {
            SnapshotError::Store(error) => error.into(),
            SnapshotError::Past(error) => error.into(),
            SnapshotError::Write(error) => Self { message, ..error.into() },
            SnapshotError::NotUsed { .. }
            | SnapshotError::Empty(_)
            | SnapshotError::ClaimedElsewhere(_)
            | SnapshotError::OtherHistory(_)
            | SnapshotError::NotProven { .. }
            | SnapshotError::NotThere { .. }
            | SnapshotError::Needed { .. } => Self::refused(message),
        }
    }
}

impl From<PastError> for Failure {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Store(error) => error.into(),
            PastError::GraphNotFound(_) => Self::not_in_database(error),
            PastError::Ahead { .. }
            | PastError::Pruned { .. }
            | PastError::Damaged { .. }
            | PastError::NotRows { .. }
            | PastError::Contended(_) => Self::refused(error),
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Store(error) => error.into(),
            AskError::Lacks { .. }
            | AskError::OtherHistory { .. }
            | AskError::OfNobody { .. }
            | AskError::Past(_) => Self::refused(error),
        }
    }
}

impl From<ListingError> for Failure {
    fn from(error: ListingError) -> Self {
        match error {
            ListingError::Store(error) => error.into(),
            ListingError::GraphNotFound(_) => Self::not_in_database(error),
            ListingError::Damaged { .. } => Self::refused(error),
        }
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Unreadable { .. } => Self::refused(error),
            InputError::Twice { .. } => Self::usage(error),
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let message = error.to_string();
        match error {
            ImportError::Input(error) => Self { message, ..error.into() },
            ImportError::Refused { refusal, .. } => {
                Self { message: format!("{message}{}", advice(&refusal)), ..refusal.into() }
            }
            ImportError::BadLine { .. }
            | ImportError::Duplicate { .. }
            | ImportError::Rejected { .. }
            | ImportError::Empty { .. }
            | ImportError::Outside { .. }
            | ImportError::TooManyDeletes { .. } => Self::refused(message),
        }
    }
}

impl From<LogFileError> for Failure {
    fn from(error: LogFileError) -> Self {
        match error {
            LogFileError::Restore(RestoreError::Store(error)) => error.into(),
            LogFileError::Restore(RestoreError::Write(error)) => error.into(),
            LogFileError::Restore(RestoreError::BeginsLate { .. }) => {
                Self::refused(format!("{error}, or give --design one that keeps rows"))
            }
            LogFileError::BadLine { .. } | LogFileError::Restore(_) => Self::refused(error),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::Sink(error) => error.into(),
            ExportError::Unregistered { consumer, reason } => {
                let message =
                    format!("the consumer `{consumer}` could not be registered: {reason}");
                Self { message, ..reason.into() }
            }
            ExportError::GraphNotFound(_) => Self::not_in_database(error),
            other => Self::refused(other),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) => error.into(),
            VerifyError::Sink(error) => error.into(),
            VerifyError::GraphNotFound(_) => Self::not_in_database(error),
            other => Self::refused(other),
        }
    }
}

impl From<FreezeError> for Failure {
    fn from(error: FreezeError) -> Self {
        let message = error.to_string();
        match error {
            FreezeError::NotVerified(error) => Self { message, ..error.into() },
            FreezeError::Sink(error) => Self { message, ..error.into() },
            FreezeError::Behind { .. } => Self::refused(message),
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Usage(_) => Self::usage(error),
            BenchError::Unavailable(_) => Self::unavailable(error),
            BenchError::Refused(_) | BenchError::History(_) | BenchError::Undocumented { .. } => {
                Self::refused(error)
            }
        }
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Fetch(FetchError::Node(error)) => error.into(),
            CheckError::Path(error) => error.into(),
            CheckError::Fetch(FetchError::Damaged { .. }) | CheckError::Input(_) => {
                Self::refused(error)
            }
        }
    }
}
