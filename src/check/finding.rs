//! What the checker says: that all is well, or the first thing that is not, as a person wants to
//! see it.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::history::{Call, End, Headers, Histories};
use crate::terminal::OneLine;

/// What a history is worth.
#[derive(Debug)]
pub enum Verdict {
    /// Everything that was answered is what one graph, changed step by step, would have answered.
    Valid(Summary),
    /// Something is not, or cannot be decided.
    Found(Box<Finding>),
}

/// What was judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many requests.
    pub operations: usize,
    /// The version that the first history begins at.
    pub first_version: u64,
    /// The version of the last change.
    pub last_version: u64,
    /// How many writes had an unknown outcome.
    pub unknown: usize,
    /// How many of them were applied.
    pub unknown_applied: usize,
}

impl Summary {
    /// Of this graph and another one.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            first_version: self.first_version.min(other.first_version),
            last_version: self.last_version.max(other.last_version),
            unknown: self.unknown + other.unknown,
            unknown_applied: self.unknown_applied + other.unknown_applied,
        }
    }
}

/// What can be wrong. The names are what is printed, in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Several runs of events would explain the history: give the change log.
    Undecided,
    /// The change log breaks off, repeats itself, or tells what cannot be.
    DamagedLog,
    /// Two writes say that they made one version.
    DuplicateVersion,
    /// An answer at a version that nothing made.
    PhantomVersion,
    /// A version that nothing made lies below one that was answered.
    VersionGap,
    /// A change in the log that nobody asked for.
    PhantomChange,
    /// A change in the log whose client was told that nothing was changed.
    RefusedButApplied,
    /// An accepted write is not in the log, or the log has another change in its place.
    LostWrite,
    /// Accepted against the rules.
    IllegalAccept,
    /// `changed` is wrong.
    WrongChanged,
    /// `created` is wrong.
    WrongCreated,
    /// Rejected although legal, or for another reason.
    WrongRejection,
    /// Two writes with one idempotency key were both applied.
    AppliedTwice,
    /// A write with an idempotency key was not answered as the one before it that was accepted.
    WrongReplay,
    /// A read is not the state at its version.
    WrongAnswer,
    /// An answer about a graph that had been deleted, and not created again.
    AnswerAfterDeletion,
    /// A header of an answer is not what its version gives.
    WrongHeader,
    /// An answer that no documentation allows.
    UndocumentedAnswer,
    /// An answer at a version below one that had been answered before it was asked for.
    StaleAnswer,
    /// A write made a version below one that had been answered before it was asked for.
    WriteOutOfOrder,
    /// An answer at a version whose write was asked for only later.
    AnswerBeforeItsWrite,
    /// A process saw an older version after a newer one.
    SessionWentBack,
    /// A write was sent after another had been told that the graph is frozen, and was decided.
    WriteAfterFreeze,
    /// A read was sent after a write had been told that the graph is frozen, and was not answered
    /// at the last version.
    ReadBehindFreeze,
    /// The version at the end is not that of the last change.
    FinalVersion,
    /// The digest at the end is not that of the replay.
    FinalDigest,
    /// A line of the stored log is not written as it must be.
    LogDiffers,
    /// A line of the stored log has another chain.
    ChainBroken,
    /// The stored rows are not what the changes lead to.
    RowsDiffer,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The first thing that is wrong.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The version at which it shows.
    pub version: Option<u64>,
    /// Who was involved; of two that are out of order the one that ended first.
    pub operations: Vec<Involved>,
    /// What was expected.
    pub expected: String,
    /// Why.
    pub why: String,
}

/// A request as it is shown.
#[derive(Debug, Serialize)]
pub struct Involved {
    /// File and line.
    pub at: String,
    /// Who asked.
    pub process: u64,
    /// Its name in the file.
    pub id: u64,
    /// When it was sent, in milliseconds since the start.
    pub from_ms: f64,
    /// When its answer was there.
    pub to_ms: f64,
    /// What was asked.
    pub request: Box<str>,
    /// What was answered.
    pub answer: String,
}

impl Finding {
    /// A finding about some requests.
    pub fn new(
        kind: Kind,
        version: impl Into<Option<u64>>,
        operations: Vec<Involved>,
        expected: impl Into<String>,
        why: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            kind,
            version: version.into(),
            operations,
            expected: expected.into(),
            why: why.into(),
        })
    }
}

impl Histories {
    /// The call as it is shown.
    pub fn involved(&self, call: &Call) -> Involved {
        let name = |file: usize| self.files.get(file).map_or("", |file| &file.name);
        Involved {
            at: format!("{}:{}", name(call.file), call.invoke_line),
            process: call.process,
            id: call.id,
            from_ms: call.invoke_ns as f64 / 1e6,
            to_ms: call.end_ns as f64 / 1e6,
            request: (&*call.asked.text).into(),
            answer: describe(&call.end) + &describe_extras(call),
        }
    }
}

/// What of the answer stands elsewhere than in its verdict.
fn describe_extras(call: &Call) -> String {
    let mut extras = String::new();
    if let End::Accepted { answer: Some(answer), .. } = &call.end {
        extras.push_str(&format!(": {answer}"));
    }
    if let Some(Headers { version, etag, location }) = &call.headers {
        let named = [("Fencepost-Version", version), ("ETag", etag), ("Location", location)];
        for (name, value) in named {
            extras.extend(value.iter().map(|value| format!("; {name}: {value}")));
        }
    }
    extras
}

fn describe(end: &End) -> String {
    let at = |version: &Option<u64>| {
        version.map_or_else(String::new, |version| format!(" at version {version}"))
    };
    match end {
        End::Accepted { version, changed: true, created, .. } => {
            format!("accepted as version {version}{}", if *created { ", created" } else { "" })
        }
        End::Accepted { version, created, .. } => {
            format!(
                "accepted at version {version}, changed nothing{}",
                if *created { ", created" } else { "" }
            )
        }
        End::Answered { version, answer } => format!("answered{}: {answer}", at(version)),
        End::NotModified { version } => format!("not modified at version {version}"),
        End::Rejected { version, problem } => format!("rejected{}: {problem}", at(version)),
        End::NotServed { verdict, why } => format!("{verdict}: {why}"),
        End::Unknown { why } => format!("unknown: {why}"),
        End::Undocumented { why } => format!("undocumented: {why}"),
    }
}

/// How many columns a line on a screen has.
const SCREEN_COLUMNS: usize = 160;
/// How many requests are shown on a screen, of three lines each.
const SCREEN_REQUESTS: usize = 5;

impl Finding {
    /// The finding as it fits a screen of 20 lines: long lines without their middle, and the first
    /// requests only. `None` if all of it fits.
    #[must_use]
    pub fn on_a_screen(&self) -> Option<String> {
        const REQUEST_LINES: usize = 3;
        let whole = self.to_string();
        let lines: Vec<&str> = whole.lines().collect();
        let requests = self.operations.len();
        let left_out = requests.saturating_sub(SCREEN_REQUESTS);
        let fits = |line: &str| line.chars().count() <= SCREEN_COLUMNS;
        if left_out == 0 && lines.iter().all(|line| fits(line)) {
            return None;
        }
        let (head, rest) = lines.split_at(1 + REQUEST_LINES * (requests - left_out));
        let tail = &rest[REQUEST_LINES * left_out..];
        let more = (left_out > 0).then(|| format!("  and {left_out} more requests"));
        let shown = head.iter().map(|line| shortened(line)).chain(more);
        let shown: Vec<String> = shown.chain(tail.iter().map(|line| shortened(line))).collect();
        Some(shown.join("\n"))
    }
}

/// A line of a screen, without its middle if it is longer.
fn shortened(line: &str) -> String {
    const END_COLUMNS: usize = SCREEN_COLUMNS / 3;
    const GAP: &str = " … ";
    let letters: Vec<char> = line.chars().collect();
    if letters.len() <= SCREEN_COLUMNS {
        return line.to_owned();
    }
    let first = SCREEN_COLUMNS - END_COLUMNS - GAP.chars().count();
    let (begin, end) = (&letters[..first], &letters[letters.len() - END_COLUMNS..]);
    begin.iter().chain(&GAP.chars().collect::<Vec<_>>()).chain(end).collect()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.kind == Kind::Undecided {
            "undecided".to_owned()
        } else {
            format!("anomaly: {}", self.kind)
        };
        let at = self.version.map_or_else(String::new, |version| format!(" at version {version}"));
        writeln!(f, "{what}{at}")?;
        for involved in &self.operations {
            let Involved { at, process, id, from_ms, to_ms, request, answer } = involved;
            let (at, request, answer) = (OneLine(at), OneLine(request), OneLine(answer));
            writeln!(f, "  {at}  process {process}, id {id}, {from_ms:.3} ms to {to_ms:.3} ms")?;
            writeln!(f, "    asked     {request}")?;
            writeln!(f, "    answered  {answer}")?;
        }
        writeln!(f, "  expected    {}", OneLine(&self.expected))?;
        write!(f, "  because     {}", OneLine(&self.why))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, first_version, last_version, unknown, unknown_applied } = self;
        write!(
            f,
            "valid: {} operations, versions {} to {}",
            grouped(*operations as u64),
            grouped(*first_version),
            grouped(*last_version)
        )?;
        match unknown {
            0 => Ok(()),
            _ => write!(
                f,
                ", {} unknown outcomes resolved ({} applied)",
                grouped(*unknown as u64),
                grouped(*unknown_applied as u64)
            ),
        }
    }
}

impl Verdict {
    /// One JSON object.
    pub fn json(&self) -> Value {
        match self {
            Self::Valid(summary) => json!({"verdict": "valid", "summary": summary}),
            Self::Found(finding) => {
                let verdict = if finding.kind == Kind::Undecided { "undecided" } else { "anomaly" };
                json!({"verdict": verdict, "finding": finding})
            }
        }
    }
}

/// A number with a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = [&digits[..first]]
        .into_iter()
        .map(str::to_owned)
        .chain((first..digits.len()).step_by(3).map(|at| digits[at..at + 3].to_owned()));
    groups.filter(|group| !group.is_empty()).collect::<Vec<_>>().join(",")
}
