//! Prepared databases: one for each graph and each way to keep it, made once and copied for each
//! point. A file is copied as a file, and a database on a server by the server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use super::args::RunArgs;
use super::child::{how_it_ended, limit, output_within};
use super::nodes::Node;
use super::place::{GRAPH, Urls, command, file_error, serve, snapshot_options};
use super::plan::Planned;
use super::results::BaseRecord;
use super::servers::Servers;
use super::setting::{DatabaseKind, Setting};
use super::workloads::{Measures, Past};
use crate::bench::BenchError;
use crate::bench::request::{Outcome, Request};
use crate::bench::target::Target as _;
use crate::design::Design;
use crate::store::StorageKind;
use crate::terminal::shell_word;

/// How the name of a base ends in which no snapshots were taken.
pub const WITHOUT_SNAPSHOTS: &str = "-without-snapshots";

/// How many jobs are put with one changeset.
const BATCH: u64 = 10_000;
/// How many of them where they are put again and again, so that the history has many changes.
const CHURN_BATCH: u64 = 50;
/// How long one command that makes a base may take. A million jobs take about a minute.
const MADE_WITHIN: Duration = Duration::from_secs(2 * 60 * 60);
/// How long a question to a base may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(600);

/// Which base: of a graph, in a storage, on a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BaseKey {
    /// The graph's name among bases: shape, size, past.
    family: String,
    storage: String,
    database: DatabaseKind,
    /// Whether snapshots were taken when it was made.
    snapshots: bool,
}

impl BaseKey {
    /// What it is called.
    fn name(&self) -> String {
        let Self { family, storage, database, snapshots } = self;
        let on = match database {
            DatabaseKind::Postgres => "-on-postgres",
            DatabaseKind::None | DatabaseKind::Given | DatabaseKind::Sqlite => "",
        };
        let without = if *snapshots { "" } else { WITHOUT_SNAPSHOTS };
        format!("{family}/{storage}{on}{without}")
    }

    /// The database that commands of its record make, as a shell takes it.
    fn shown_url(&self) -> &'static str {
        match self.database {
            DatabaseKind::Postgres => "\"$DATABASE_URL\"",
            DatabaseKind::None | DatabaseKind::Given | DatabaseKind::Sqlite => "sqlite:graphs.db",
        }
    }
}

/// A database that was made, before anybody has looked at it.
struct UninspectedBase<'k> {
    key: &'k BaseKey,
    jobs: u64,
    commands: Vec<String>,
    prepared: Prepared,
    urls: Urls,
    /// Where its files are.
    directory: PathBuf,
}

/// Where a base is.
#[derive(Debug, Clone)]
pub enum Prepared {
    /// In this file.
    File(PathBuf),
    /// On the server, under this name.
    Template(String),
}

/// A database that is ready to be copied.
#[derive(Debug, Clone)]
pub struct Base {
    /// What it is.
    pub record: BaseRecord,
    /// Where it is.
    pub prepared: Prepared,
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
    pub fn get(
        &mut self,
        point: &Planned,
        design: &'static Design,
        servers: &Servers,
    ) -> Result<Base, BenchError> {
        let empty = point.workload.measures == Measures::Import;
        let jobs = if empty { 0 } else { point.key.size };
        let past = match point.workload.past {
            Past::Loaded => String::new(),
            Past::Churned { times } => format!("-churned-{times}"),
            Past::ManyGraphs => format!("-many-{}", self.args.graphs),
        };
        let family = format!("{}-{jobs}{past}", point.key.shape);
        let (storage, database) = (design.storage.to_string(), point.key.setting.database);
        let snapshots = point.key.setting.snapshots;
        let wanted = BaseKey { family, storage, database, snapshots };
        if let Some(base) = self.made.get(&wanted) {
            return base.clone().map_err(BenchError::Refused);
        }
        let made = self.make(&wanted, design.storage, jobs, point.workload.past, servers);
        let base = made.and_then(|base| self.is_the_same_graph(&base.record).map(|()| base));
        // When a server that was away is back, it can be made.
        if !matches!(base, Err(BenchError::Unavailable(_) | BenchError::Usage(_))) {
            let kept = base.as_ref().map(Base::clone).map_err(ToString::to_string);
            self.made.insert(wanted, kept);
        }
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
        servers: &Servers,
    ) -> Result<Base, BenchError> {
        let design = Design::following(storage).expect("a design of this program has it");
        let directory = self.directory.join(wanted.name().replace('/', "-"));
        // What an earlier run left here may be half of one.
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory).map_err(|error| file_error(&directory, &error))?;
        let (prepared, urls) = match wanted.database {
            DatabaseKind::Postgres => {
                let postgres = servers.postgres()?;
                let name = postgres.create()?;
                let urls = Urls::of_server(postgres.url(&name, None), None);
                (Prepared::Template(name), urls)
            }
            DatabaseKind::None | DatabaseKind::Given | DatabaseKind::Sqlite => {
                let file = directory.join("graphs.db");
                let urls = Urls::of_file(&file);
                (Prepared::File(file), urls)
            }
        };
        let mut commands = self.commands(jobs, past)?;
        // Whether one was taken by itself of a long log, and of which version, is chance.
        let has_snapshot = match storage {
            StorageKind::Log => past != Past::ManyGraphs,
            StorageKind::Rows => matches!(past, Past::Churned { .. }),
            _ => false,
        };
        if has_snapshot && wanted.snapshots && !commands.is_empty() {
            commands.push(["snapshot", "take", "--graph", GRAPH].map(str::to_owned).to_vec());
        }
        let options = [&["--design", design.name], snapshot_options(wanted.snapshots)].concat();
        for arguments in &commands {
            let own = options.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            self.run(&urls, &[own, arguments.clone()].concat())?;
        }
        let own = [&["fencepost", "--database-url", wanted.shown_url()][..], &options].concat();
        let shown = |arguments: &Vec<String>| {
            let words = arguments.iter().map(|word| shell_word(word));
            let own = own.iter().map(|word| (*word).to_owned());
            own.chain(words).collect::<Vec<_>>().join(" ")
        };
        let commands = commands.iter().map(shown).collect();
        let made = UninspectedBase { key: wanted, jobs, commands, prepared, urls, directory };
        self.look(made, design, servers)
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
        if past == Past::ManyGraphs {
            let graphs = self.args.graphs.to_string();
            let create = ["--workload", "register", "--requests", "0", "--graphs", &graphs];
            commands.push(drive(&create));
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
        made: UninspectedBase<'_>,
        design: &Design,
        servers: &Servers,
    ) -> Result<Base, BenchError> {
        let UninspectedBase { key, jobs, commands, prepared, urls, directory } = made;
        let name = key.name();
        let log = directory.join("server.log");
        let setting = Setting { snapshots: key.snapshots, ..Setting::SQLITE };
        let arguments = serve(design, &setting);
        let node = Node::start(self.program, &urls, &arguments, &log)
            .map_err(|error| BenchError::Unavailable(error.to_string()))?;
        let mut connection = node.target(ANSWERS_WITHIN)?.connect();
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
        if let Some(file) = self.args.graph.as_ref().filter(|_| there == 0) {
            let file = file.display();
            return Err(BenchError::Usage(format!("--graph: {file} has no jobs to measure with")));
        }
        if self.args.graph.is_none() && there != jobs {
            return Err(BenchError::Refused(format!(
                "the base `{name}` has {there} jobs, not {jobs}"
            )));
        }
        drop(connection);
        let graph = directory.join("graph.ndjson");
        keep_snapshot(node.url(), &graph)?;
        let has_ended = node.end();
        let (is_whole, bytes) = match &prepared {
            Prepared::File(file) => {
                let bytes = fs::metadata(file).map_or(0, |metadata| metadata.len());
                (!file.with_extension("db-wal").exists(), bytes)
            }
            Prepared::Template(name) => {
                let mut session = servers.postgres()?.session(name)?;
                let bytes = session.analyze().and_then(|()| session.bytes());
                (true, bytes.map_err(BenchError::Unavailable)?)
            }
        };
        let whole = has_ended && is_whole;
        let digest: Option<String> = answer.and_then(|answer| answer.member("digest"));
        let (true, Some(digest)) = (whole, digest) else {
            let why = "its server did not end as it was told, or said no digest";
            return Err(BenchError::Refused(format!("the base `{name}`: {why}")));
        };
        let record = BaseRecord {
            name,
            database: key.database,
            storage: key.storage.clone(),
            jobs: there,
            version: version.unwrap_or_default(),
            digest,
            bytes,
            commands,
        };
        Ok(Base { record, prepared, graph })
    }

    fn run(&self, urls: &Urls, arguments: &[String]) -> Result<(), BenchError> {
        let mut command = command(self.program);
        urls.give_to(&mut command);
        command.args(arguments).env("RUST_LOG", "warn");
        let limit = limit("bench.base", MADE_WITHIN);
        let output = output_within(&mut command, limit)
            .map_err(|error| BenchError::Unavailable(error.to_string()))?;
        let why = match output {
            Some(output) if output.status.success() => return Ok(()),
            // A server is away.
            Some(output) if output.status.code() == Some(3) => {
                return Err(BenchError::Unavailable(how_it_ended(&output)));
            }
            // The file is bad, whatever is measured on it.
            Some(output) if arguments.iter().any(|word| word == "import") => {
                return Err(BenchError::Usage(format!("--graph: {}", how_it_ended(&output))));
            }
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

impl Prepared {
    /// Copies the database: a file to that directory.
    ///
    /// # Errors
    /// [`BenchError`] if there is no room, or the server is away.
    pub fn copy(&self, to: &Path, servers: &Servers) -> Result<Self, BenchError> {
        let copied = match self {
            Self::File(file) => {
                let copied = to.join("graphs.db");
                fs::copy(file, &copied)
                    .and_then(|_| fs::File::open(&copied)?.sync_all())
                    .map_err(|error| file_error(&copied, &error))?;
                Self::File(copied)
            }
            Self::Template(name) => Self::Template(servers.postgres()?.copy(name)?),
        };
        // Whatever earlier points left to be written is not written during this one.
        let synced = fs::File::open(to).and_then(|place| Ok(rustix::fs::syncfs(&place)?));
        synced.map_err(|error| file_error(to, &error))?;
        Ok(copied)
    }
}
