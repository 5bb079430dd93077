//! Prepared databases: one for each graph and each way to keep it, made once and copied for each
//! point.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use super::args::RunArgs;
use super::child::{how_it_ended, limit, output_within};
use super::nodes::Node;
use super::place::{GRAPH, command, file_error, serve};
use super::plan::Planned;
use super::results::BaseRecord;
use super::workloads::{Measures, Past};
use crate::bench::BenchError;
use crate::bench::request::{Outcome, Request};
use crate::bench::target::{HttpTarget, Target as _};
use crate::design::Design;
use crate::graph::Name;
use crate::store::StorageKind;
use crate::terminal::shell_word;

/// How many jobs are put with one changeset.
const BATCH: u64 = 10_000;
/// How many of them where they are put again and again, so that the history has many changes.
const CHURN_BATCH: u64 = 50;
/// How long one command that makes a base may take. A million jobs take about a minute.
const MADE_WITHIN: Duration = Duration::from_secs(2 * 60 * 60);
/// How long a question to a base may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(600);

/// Which base: of a graph, in a storage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BaseKey {
    /// The graph's name among bases: shape, size, past.
    family: String,
    storage: String,
}

/// The database that commands of a record make, where they are run.
const DATABASE_URL: &str = "sqlite:graphs.db";

/// A database that was made, before anybody has looked at it.
struct UninspectedBase {
    name: String,
    storage: String,
    jobs: u64,
    commands: Vec<String>,
}

/// A database that is ready to be copied.
#[derive(Debug, Clone)]
pub struct Base {
    /// What it is.
    pub record: BaseRecord,
    /// Where it is.
    pub database: PathBuf,
    /// The graph as the service tells it: where the checker begins.
    pub graph: PathBuf,
}

/// All that were made.
pub struct Bases<'r> {
    program: &'r Path,
    args: &'r RunArgs,
    directory: PathBuf,
    /// Those that points of an earlier run began from.
    known: Vec<BaseRecord>,
    /// Why it could not be made, of one that could not: nobody tries again.
    made: BTreeMap<BaseKey, Result<Base, String>>,
}

impl<'r> Bases<'r> {
    /// None yet; they are to be in `directory`, and of the same graphs as those that are `known` of
    /// an earlier run.
    pub fn new(
        program: &'r Path,
        args: &'r RunArgs,
        directory: PathBuf,
        known: Vec<BaseRecord>,
    ) -> Self {
        Self { program, args, directory, known, made: BTreeMap::new() }
    }

    /// The base of a point, made if need be. The same graph in other storages has the same digest.
    ///
    /// # Errors
    /// [`BenchError`] if it cannot be made, or is another graph.
    pub fn get(&mut self, point: &Planned, design: &'static Design) -> Result<Base, BenchError> {
        let empty = point.workload.measures == Measures::Import;
        let jobs = if empty { 0 } else { point.key.size };
        let past = match point.workload.past {
            Past::Loaded => String::new(),
            Past::Churned { times } => format!("-churned-{times}"),
        };
        let family = format!("{}-{jobs}{past}", point.key.shape);
        let wanted = BaseKey { family, storage: design.storage.to_string() };
        if let Some(base) = self.made.get(&wanted) {
            return base.clone().map_err(BenchError::Refused);
        }
        let made = self.make(&wanted, design.storage, jobs, point.workload.past);
        let base = made.and_then(|base| self.is_the_same_graph(&base.record).map(|()| base));
        let kept = base.as_ref().map(Base::clone).map_err(ToString::to_string);
        self.made.insert(wanted, kept);
        base
    }

    /// As all bases of its family, of this run and of an earlier one.
    fn is_the_same_graph(&self, base: &BaseRecord) -> Result<(), BenchError> {
        let made = self.made.values().filter_map(|made| Some(&made.as_ref().ok()?.record));
        let is_another =
            |other: &&BaseRecord| other.family() == base.family() && other.digest != base.digest;
        let Some(other) = self.known.iter().chain(made).find(is_another) else { return Ok(()) };
        Err(BenchError::Refused(format!(
            "the base `{}` is not the same graph as `{}` was: their digests differ",
            base.name, other.name
        )))
    }

    fn make(
        &self,
        wanted: &BaseKey,
        storage: StorageKind,
        jobs: u64,
        past: Past,
    ) -> Result<Base, BenchError> {
        let design = Design::following(storage).expect("a design of this program has it");
        let name = format!("{}/{}", wanted.family, wanted.storage);
        let directory = self.directory.join(name.replace('/', "-"));
        // What an earlier run left here may be half of one.
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory).map_err(|error| file_error(&directory, &error))?;
        let database = directory.join("graphs.db");
        let url = format!("sqlite:{}", database.display());
        let commands = self.commands(jobs, past)?;
        for arguments in &commands {
            let own = ["--database-url", &url, "--design", design.name].map(str::to_owned);
            self.run(&[&own[..], arguments].concat())?;
        }
        let own = ["fencepost", "--database-url", DATABASE_URL, "--design", design.name];
        let shown = |arguments: &Vec<String>| {
            let words = arguments.iter().map(|word| shell_word(word));
            own.map(str::to_owned).into_iter().chain(words).collect::<Vec<_>>().join(" ")
        };
        let commands = commands.iter().map(shown).collect();
        let made = UninspectedBase { name, storage: wanted.storage.clone(), jobs, commands };
        self.look(made, design, database)
    }

    /// The arguments of the commands that make the graph, one after another. An empty one is made
    /// by asking for it.
    fn commands(&self, jobs: u64, past: Past) -> Result<Vec<Vec<String>>, BenchError> {
        let (seed, size, batch) = (self.args.seed.to_string(), jobs.to_string(), BATCH.to_string());
        let drive = |more: &[&str]| {
            let first = ["bench", "drive", "--graph", GRAPH, "--clients", "1"];
            let last = ["--timeout-seconds", "600", "--seed", &seed];
            let words = [&first[..], more, &last].concat();
            words.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut commands = Vec::new();
        match (&self.args.graph, jobs) {
            (Some(file), _) => {
                // The commands are to work in any directory.
                let file = fs::canonicalize(file).map_err(|error| file_error(file, &error))?;
                let import = ["import", "--graph", GRAPH, &file.to_string_lossy()];
                commands.push(import.map(str::to_owned).to_vec());
            }
            (_, 0) => {}
            _ => {
                let shape = self.args.shape_name();
                let load = ["--workload", "load", "--shape", &shape, "--jobs", &size];
                commands.push(drive(&[&load[..], &["--batch", &batch]].concat()));
            }
        }
        if let Past::Churned { times } = past {
            let requests = (times * jobs.div_ceil(CHURN_BATCH)).to_string();
            let steps = CHURN_BATCH.to_string();
            let churn = ["--workload", "churn", "--requests", &requests, "--sample", &size];
            commands.push(drive(&[&churn[..], &["--churn-steps", &steps]].concat()));
        }
        Ok(commands)
    }

    /// Asks a server what is in it.
    fn look(
        &self,
        made: UninspectedBase,
        design: &Design,
        database: PathBuf,
    ) -> Result<Base, BenchError> {
        let UninspectedBase { name, storage, jobs, commands } = made;
        let log = database.with_file_name("server.log");
        let node = Node::start(self.program, &serve(design, &database), &log)
            .map_err(|error| BenchError::Unavailable(error.to_string()))?;
        let graph = Name::new(GRAPH).expect("a name");
        let target = HttpTarget::new(&[node.url().to_owned()], graph, ANSWERS_WITHIN)?;
        let mut connection = target.connect();
        let mut ask = |request: &Request| match connection.perform(request).outcome {
            Outcome::Accepted(_) => Ok((None, None)),
            Outcome::Answered { version, answer } => Ok((version, Some(answer))),
            other => Err(BenchError::Refused(format!("the base `{name}`: {}", other.label()))),
        };
        if jobs == 0 {
            ask(&Request::CreateGraph)?;
        }
        let (version, counts) = ask(&Request::Graph)?;
        let (_, answer) = ask(&Request::Digest)?;
        let there = counts.and_then(|counts| counts.member("jobs")).unwrap_or(0);
        if self.args.graph.is_none() && there != jobs {
            return Err(BenchError::Refused(format!(
                "the base `{name}` has {there} jobs, not {jobs}"
            )));
        }
        drop(connection);
        let graph = database.with_file_name("graph.ndjson");
        keep_snapshot(node.url(), &graph)?;
        let whole = node.end() && !database.with_extension("db-wal").exists();
        let digest: Option<String> = answer.and_then(|answer| answer.member("digest"));
        let (true, Some(digest)) = (whole, digest) else {
            let why = "its server did not end as it was told, or said no digest";
            return Err(BenchError::Refused(format!("the base `{name}`: {why}")));
        };
        let bytes = fs::metadata(&database).map_or(0, |metadata| metadata.len());
        let record = BaseRecord {
            name,
            storage,
            jobs: there,
            version: version.unwrap_or_default(),
            digest,
            bytes,
            commands,
        };
        Ok(Base { record, database, graph })
    }

    fn run(&self, arguments: &[String]) -> Result<(), BenchError> {
        let mut command = command(self.program);
        command.args(arguments).env("RUST_LOG", "warn");
        let limit = limit("bench.base", MADE_WITHIN);
        let output = output_within(&mut command, limit)
            .map_err(|error| BenchError::Unavailable(error.to_string()))?;
        let why = match output {
            Some(output) if output.status.success() => return Ok(()),
            Some(output) => how_it_ended(&output),
            None => {
                let limit = humantime::format_duration(limit);
                format!("it took longer than {limit} and was ended")
            }
        };
        let line = arguments.join(" ");
        Err(BenchError::Refused(format!("a base could not be made: `{line}`: {why}")))
    }
}

/// Writes to a file what a server tells of the whole graph.
fn keep_snapshot(url: &str, to: &Path) -> Result<(), BenchError> {
    let request = ureq::get(format!("{url}/v1/graphs/{GRAPH}/snapshot"));
    let asked = request.config().timeout_global(Some(ANSWERS_WITHIN)).build().call();
    let mut answer = asked.map_err(|error| BenchError::Unavailable(error.to_string()))?;
    let mut file = fs::File::create(to).map_err(|error| file_error(to, &error))?;
    io::copy(&mut answer.body_mut().as_reader(), &mut file)
        .map(drop)
        .map_err(|error| file_error(to, &error))
}

impl Base {
    /// Copies the database to a directory of its own.
    ///
    /// # Errors
    /// [`BenchError`] if there is no room.
    pub fn copy(&self, to: &Path) -> Result<PathBuf, BenchError> {
        let copied = to.join("graphs.db");
        let copy = || -> io::Result<()> {
            fs::copy(&self.database, &copied)?;
            let file = fs::File::open(&copied)?;
            file.sync_all()?;
            // Whatever earlier points left to be written is not written during this one.
            Ok(rustix::fs::syncfs(&file)?)
        };
        copy().map_err(|error| file_error(&copied, &error))?;
        Ok(copied)
    }
}
