//! The history checker: says whether what clients were answered is what one graph, changed one step
//! after another, would have answered.
//!
//! Everything that judges is pure and on its own: a second, naive implementation of the rules, of
//! canonical JSON, digests and plans. It must never use `graph`, `design` or `store`, or it would
//! find right whatever they do wrong. `stored.rs` fetches a log and rows through `store` and judges
//! nothing. docs/CHECKER.md says what is checked, and why that is enough.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

mod answer;
mod base;
mod changeset;
mod cycle;
mod existence;
mod facts;
mod final_log;
mod finding;
mod freeze;
mod headers;
mod history;
mod json;
mod judge;
mod maps;
mod model;
mod parts;
mod real_time;
mod recorded_request;
mod replays;
mod stored;
mod unknown;

pub use finding::{Finding, Involved, Kind, Summary, Verdict};
pub use history::InputError;
pub use stored::FetchError;

use parts::{Parts, parts};

use crate::address::redacted_file;
use crate::input::{self, Repeats};
use crate::node::NodeOptions;

/// What to check, and against what.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Read the graph's change log and rows from --database-url, and check them too
    #[arg(long, conflicts_with = "changes")]
    pub stored: bool,
    /// The graph's change log from its first change on, a line each: {"version":N,"facts":[…]}; -
    /// is standard input
    #[arg(long, value_name = "FILE")]
    pub changes: Option<PathBuf>,
    /// The graph at the version that the histories begin at, instead of its log up to there: what
    /// `export --to file:FILE` wrote of it, or `GET …/snapshot` answered; - is standard input
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
    /// Somebody froze the graph while the histories were recorded: writes may be told that it is
    /// frozen. With --stored, a graph that is still frozen says so itself
    #[arg(long)]
    pub frozen: bool,
    /// How the verdict is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Histories of one graph, or of many (docs/HISTORY.md); several are judged together, whether
    /// one was written after the other or beside it. Each is read once, so that pipes and
    /// <(COMMAND) will do; - is standard input
    #[arg(required = true, value_name = "HISTORY")]
    pub histories: Vec<PathBuf>,
}

impl CheckArgs {
    /// Those histories, and nothing beside them.
    #[must_use]
    pub fn of(histories: Vec<PathBuf>) -> Self {
        let format = Format::Text;
        Self { stored: false, changes: None, base: None, frozen: false, format, histories }
    }
}

/// How the verdict is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for a person
    Text,
    /// One JSON object
    Json,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file is not what it must be.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A path cannot be read, or is given twice: a history that is judged twice would be called
    /// wrong.
    #[error(transparent)]
    Path(#[from] input::InputError),
    /// The database could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Checks the histories in files, with a log from a file or a database.
///
/// # Errors
/// [`CheckError`] if they cannot be read: then nothing is judged.
pub fn check(args: &CheckArgs, options: &NodeOptions) -> Result<Verdict, CheckError> {
    let files = args.histories.iter().chain(&args.changes).chain(&args.base);
    let paths = files.map(PathBuf::as_path);
    input::inspect(paths, Repeats::Refused)?;
    let mut evidence = Evidence::default();
    let mut of_many: Option<BTreeMap<String, Evidence>> = None;
    for path in &args.histories {
        let name = redacted_file(path);
        match parts(&name, open(path)?)? {
            Parts::One(lines) => evidence.history(&name, lines)?,
            Parts::Many(graphs) => {
                let of_many = of_many.get_or_insert_default();
                for (graph, lines) in graphs {
                    let name = format!("{name}, what is about graph `{graph}`");
                    of_many.entry(graph).or_default().history(&name, &lines[..])?;
                }
            }
        }
    }
    if let Some(of_many) = of_many {
        return judge_many(args, &evidence, of_many);
    }
    if let Some(path) = &args.base {
        evidence.base(&redacted_file(path), open(path)?)?;
    }
    if args.frozen {
        evidence.frozen();
    }
    if let Some(path) = &args.changes {
        evidence.changes(&redacted_file(path), open(path)?)?;
    }
    if args.stored {
        evidence.stored(options)?;
    }
    Ok(evidence.judge())
}

/// Judges each of many graphs: all are valid, or the first that is not.
fn judge_many(
    args: &CheckArgs,
    of_one: &Evidence,
    of_many: BTreeMap<String, Evidence>,
) -> Result<Verdict, CheckError> {
    let refused = |what: &str| {
        let file = args.histories.first().map_or_else(String::new, |path| redacted_file(path));
        Err(InputError::File { file, what: what.to_owned() }.into())
    };
    if of_one.has_histories() {
        return refused("is about many graphs, and another history about one: judge them apart");
    }
    if args.stored || args.changes.is_some() || args.base.is_some() || args.frozen {
        return refused(
            "is about many graphs, and tells all that happened to them: leave out what is of one",
        );
    }
    let mut all = Summary::default();
    for evidence in of_many.into_values() {
        match evidence.judge() {
            Verdict::Valid(summary) => all = all.with(&summary),
            found @ Verdict::Found(_) => return Ok(found),
        }
    }
    Ok(Verdict::Valid(all))
}

fn open(path: &Path) -> Result<BufReader<File>, InputError> {
    let failed = |error: std::io::Error| InputError::File {
        file: redacted_file(path),
        what: error.to_string(),
    };
    Ok(BufReader::with_capacity(1 << 20, input::open(path).map_err(failed)?))
}

/// All that is known of one graph: histories, and what it was left with.
#[derive(Default)]
pub struct Evidence {
    texts: recorded_request::Texts,
    histories: history::Histories,
    known: judge::Known,
}

impl Evidence {
    /// Adds a history; `name` is how findings name it.
    ///
    /// # Errors
    /// [`InputError`] with the line that is wrong.
    pub fn history(&mut self, name: &str, lines: impl BufRead) -> Result<(), InputError> {
        self.histories.read(name, lines, &mut self.texts)
    }

    /// Whether any was added.
    fn has_histories(&self) -> bool {
        self.histories.are_there()
    }

    /// Adds the graph that the histories begin with. They must have been added before.
    ///
    /// # Errors
    /// [`InputError`] with the line that is wrong, or if the file does not hold the graph at that
    /// version.
    pub fn base(&mut self, name: &str, lines: impl BufRead) -> Result<(), InputError> {
        let version = self.histories.first_version();
        self.known.base = Some(base::Base::read(name, lines, version, &mut self.texts)?);
        Ok(())
    }

    /// Adds that somebody froze the graph while the histories were recorded.
    pub fn frozen(&mut self) {
        self.known.frozen = true;
    }

    /// Adds the change log.
    ///
    /// # Errors
    /// [`InputError`] with the line that is wrong.
    pub fn changes(&mut self, name: &str, lines: impl BufRead) -> Result<(), InputError> {
        self.known.log = Some(final_log::Log::read(name, lines, &mut self.texts)?);
        Ok(())
    }

    /// Adds the change log, from the base on if there is one, and the rows of the histories' graph,
    /// from its database.
    ///
    /// # Errors
    /// [`FetchError`] if they cannot be read.
    pub fn stored(&mut self, options: &NodeOptions) -> Result<(), FetchError> {
        let after = self.known.base.as_ref().map_or(0, |base| base.state.version);
        let stored::Stored { log, rows, frozen } =
            stored::fetch(options, &self.histories.graph, after, &mut self.texts)?;
        self.known.frozen |= frozen;
        (self.known.log, self.known.rows) = (Some(log), rows);
        Ok(())
    }

    /// Says what all of it is worth.
    #[must_use]
    pub fn judge(mut self) -> Verdict {
        let replays = replays::Replays::mark(&mut self.histories);
        judge::judge(&self.histories, &replays, self.known)
    }
}
