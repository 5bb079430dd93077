//! What a database allows with each layout of a graph's rows, without a service: writes, loading,
//! import, size, an edge of a huge job, a job of many outputs, and what a person asks in SQL.
//!
//! `cargo bench --bench layouts [-- --databases sqlite --stages small --only a,c --rounds 5]`.
//! Starts a Postgres of its own, or makes its databases on the one that `--postgres-url` names as
//! `postgres://USER@HOST:PORT`. That Postgres and the SQLite files are in the folder for temporary
//! files (`TMPDIR`): in memory, say, where a disk's flushes would hide the rest. All are dropped in
//! the end. The layouts and their SQL are in `layouts/`.
//!
//! Each layout has a database of its own. A write first updates the graph's row on the usual
//! conditions, and appends a change for each job, in all layouts. On Postgres it is one call of a
//! function; in SQLite a transaction of prepared statements. Layouts take turns in every round.
//! Values are made before the clock starts. Prints Markdown: medians, in brackets over layout a's.
//! `CPU` is the processor time of Postgres' backend or of SQLite's thread: other programs on the
//! machine disturb it less.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};
use rustix::time::{ClockId, clock_gettime};

use self::figures::{Table, number};
use self::statement::{Session, Statement, Value};
use self::tables::{CHANGED_CHUNK, CHUNK, Key, Kind, LAYOUTS, Layout, Load, QUESTIONS, Rows, Sent};

#[path = "layouts/figures.rs"]
mod figures;
#[path = "../tests/support/ports.rs"]
mod ports;
#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod postgres;
#[path = "layouts/statement.rs"]
mod statement;
#[path = "../tests/support/stopped.rs"]
mod stopped;
#[path = "layouts/tables.rs"]
mod tables;

/// The same as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SMALL_JOBS: usize = 100_000;
const IMPORTED_AT_ONCE: usize = 10_000;
const BATCH_JOBS: usize = 33;
/// Of each kind in a round.
const WRITES: usize = 200;
const BATCHES: usize = 60;
const HUGE_INPUTS: usize = 100_000;
const MANY_OUTPUTS: i64 = 10_000;
/// A job reads what those of the layer before write, as `fencepost bench drive` has it.
const LAYER: u64 = 1_024;
const ATTEMPT: &str = "0123456789abcdef0123456789abcdef";
const UPDATE_GRAPH: &str = "UPDATE graphs SET version = ?, chain = ?, state = 'open', fence = 1 \
    WHERE id = 1 AND state = 'open' AND version = ? AND fence <= 1";
const INSERT_CHANGE: &str = "INSERT INTO changes (graph_id, version, change, chain, attempt, \
    token, committed_at_ms) VALUES (?, ?, ?, ?, ?, 1, 1764201600000)";
/// Everything but the rows. The types and the statements of these are put in.
const FUNCTION: &str = "CREATE FUNCTION write_jobs (p_graph bigint, p_read bigint, p_chain bytea, \
    p_attempt text, p_changes text[], p_chains bytea[]{parameters}) \
    RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
    UPDATE graphs SET version = p_read + cardinality(p_changes), chain = p_chain, state = 'open', \
    fence = 1 WHERE id = p_graph AND state = 'open' AND version = p_read AND fence <= 1; \
    IF NOT FOUND THEN RAISE EXCEPTION 'conflict'; END IF; {inserts} \
    INSERT INTO changes (graph_id, version, change, chain, attempt, token, committed_at_ms) \
    SELECT p_graph, p_read + number, change, chain, p_attempt, 1, 1764201600000 \
    FROM unnest(p_changes, p_chains) WITH ORDINALITY AS new (change, chain, number); END $$";

struct Job {
    id: i64,
    inputs: Vec<i32>,
    /// Datasets that are new.
    outputs: Vec<i64>,
}

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 16
}

/// Thirty bytes. Neighbours by id are none by name.
fn name(kind: char, id: i64) -> String {
    format!("{:.<30}", format!("{kind}/{:08x}/{id}", mix(id as u64) as u32))
}

impl Job {
    /// Three inputs and one output.
    fn usual(id: i64) -> Self {
        let before = (id as u64 / LAYER).saturating_sub(1) * LAYER;
        let mut inputs: Vec<i32> = Vec::new();
        let mut draw = id as u64 * 64;
        while inputs.len() < 3.min(id as usize - 1) {
            draw += 1;
            let input = (1 + (before + mix(draw) % LAYER) % (id as u64 - 1)) as i32;
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        inputs.sort_unstable();
        Self { id, inputs, outputs: vec![id] }
    }

    fn spec(&self) -> String {
        format!(r#"{{"command":"refresh --partition 2026-11-27 --job {:010}"}}"#, self.id)
    }

    fn change(&self) -> String {
        let names = |ids: &mut dyn Iterator<Item = i64>| {
            ids.map(|id| format!("\"{}\"", name('d', id))).collect::<Vec<_>>().join(",")
        };
        let inputs = names(&mut self.inputs.iter().map(|id| i64::from(*id)));
        let outputs = names(&mut self.outputs.iter().copied());
        format!(
            concat!(
                r#"{{"facts":[{{"fact":"job_created","inputs":[{}],"name":"{}","#,
                r#""outputs":[{}],"spec":{}}}],"version":{}}}"#
            ),
            inputs,
            name('j', self.id),
            outputs,
            self.spec(),
            self.id
        )
    }
}

impl Rows {
    /// What the columns take: `i`nteger, `t`ext or `l`ist.
    fn columns(self) -> &'static str {
        match self {
            Rows::Jobs => "itti",
            Rows::JobLists { .. } => "ittil",
            Rows::Datasets => "it",
            Rows::Produced => "iti",
            Rows::Inputs | Rows::Outputs => "ii",
            Rows::Chunks => "iil",
        }
    }

    fn of(self, kind: Kind, job: &Job) -> Vec<Vec<Value>> {
        use Value::{Integer, Text};
        let row = |list: Option<&[i32]>| {
            let mut row = vec![Integer(job.id), Text(name('j', job.id)), Text(job.spec())];
            row.push(Integer(job.id));
            row.extend(list.map(|list| kind.encode(list)));
            vec![row]
        };
        let outputs = job.outputs.iter().map(|id| (*id, Text(name('d', *id))));
        let edge = |dataset: i64| vec![Integer(job.id), Integer(dataset)];
        let chunks = job.inputs.chunks(CHUNK).enumerate().skip(1);
        match self {
            Rows::Jobs => row(None),
            Rows::JobLists { most } => row(Some(&job.inputs[..most.min(job.inputs.len())])),
            Rows::Datasets => outputs.map(|(id, name)| vec![Integer(id), name]).collect(),
            Rows::Produced => {
                outputs.map(|(id, name)| vec![Integer(id), name, Integer(job.id)]).collect()
            }
            Rows::Inputs => job.inputs.iter().map(|id| edge(i64::from(*id))).collect(),
            Rows::Outputs => job.outputs.iter().map(|id| edge(*id)).collect(),
            Rows::Chunks => chunks
                .map(|(at, list)| vec![Integer(job.id), Integer(at as i64), kind.encode(list)])
                .collect(),
        }
    }
}

/// How the rows of a write are sent.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// A prepared statement for each row.
    Each,
    /// An array for each column: Postgres only.
    Arrays,
}

type Call = (String, Vec<Value>);

fn column(rows: &[Vec<Value>], at: usize, kind: char) -> Value {
    let cells = rows.iter().map(|row| row[at].clone());
    let (mut integers, mut texts) = (Vec::new(), Vec::new());
    for cell in cells {
        match cell {
            Value::Integer(value) => integers.push(value),
            Value::Text(value) => texts.push(value),
            _ => unreachable!("Postgres' lists are texts"),
        }
    }
    if kind == 'i' { Value::Integers(integers) } else { Value::Texts(texts) }
}

impl Layout {
    /// A statement that inserts rows, with a `?` for the graph's id and for each value.
    fn insert(&self, kind: Kind, mode: Mode, rows: Rows, into: &str) -> String {
        let columns = rows.columns();
        let value = |(at, column): (usize, char)| match (kind, mode, column) {
            (Kind::Postgres, Mode::Each, 'l') => "?::integer[]".to_owned(),
            (_, Mode::Each, _) => "?".to_owned(),
            (_, Mode::Arrays, 'l') => format!("c{at}::integer[]"),
            (_, Mode::Arrays, _) => format!("c{at}"),
        };
        let values: Vec<String> = columns.chars().enumerate().map(value).collect();
        let values = values.join(", ");
        if mode == Mode::Each {
            return format!("INSERT INTO {into} VALUES (?, {values})");
        }
        let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
        let (marks, names) = (vec!["?"; columns.len()].join(", "), names.join(", "));
        format!("INSERT INTO {into} SELECT ?, {values} FROM unnest({marks}) AS new ({names})")
    }

    /// The values of such statements, besides the graph's id: of [`Mode::Arrays`] there is one.
    fn values(&self, kind: Kind, mode: Mode, rows: Rows, jobs: &[Job]) -> Vec<Vec<Value>> {
        let all: Vec<_> = jobs.iter().flat_map(|job| rows.of(kind, job)).collect();
        match mode {
            Mode::Each => all,
            Mode::Arrays => {
                let columns = rows.columns().chars().enumerate();
                vec![columns.map(|(at, kind)| column(&all, at, kind)).collect()]
            }
        }
    }

    fn inserts(&self, kind: Kind, mode: Mode, jobs: &[Job]) -> Vec<Call> {
        let mut calls = Vec::new();
        for (rows, into) in self.inserts {
            if jobs.iter().all(|job| rows.of(kind, job).is_empty()) {
                continue;
            }
            let text = self.insert(kind, mode, *rows, into);
            for values in self.values(kind, mode, *rows, jobs) {
                calls.push((text.clone(), [&[Value::Integer(1)], &values[..]].concat()));
            }
        }
        calls
    }

    /// A Postgres function that does a whole write.
    fn function(&self) -> String {
        let (mut parameters, mut inserts) = (String::new(), String::new());
        let mut number = 0;
        for (rows, into) in self.inserts {
            let text =
                self.insert(Kind::Postgres, Mode::Arrays, *rows, into).replacen('?', "p_graph", 1);
            let mut columns = rows.columns().chars();
            let mut parts = text.split('?');
            inserts += parts.next().unwrap_or_default();
            for part in parts {
                let integers = columns.next() == Some('i');
                let parameter = if integers { "bigint[]" } else { "text[]" };
                write!(parameters, ", p_{number} {parameter}").expect("a string");
                write!(inserts, "p_{number}{part}").expect("a string");
                number += 1;
            }
            inserts += "; ";
        }
        FUNCTION.replace("{parameters}", &parameters).replace("{inserts}", &inserts)
    }

    /// What a statement takes to find a job or a dataset.
    fn found_by(&self, kind: char, id: i64) -> Value {
        if self.key == Key::Name { Value::Text(name(kind, id)) } else { Value::Integer(id) }
    }
}

/// The database of one layout.
struct Field {
    layout: &'static Layout,
    kind: Kind,
    session: Session,
    /// SQLite's.
    file: PathBuf,
    /// Where the kernel counts the time of Postgres' backend.
    clock: String,
    version: i64,
    next_job: i64,
}

enum Place {
    /// A URL without a database.
    Postgres(String),
    Folder(PathBuf),
}

impl Place {
    fn kind(&self) -> Kind {
        if matches!(self, Self::Postgres(_)) { Kind::Postgres } else { Kind::Sqlite }
    }

    fn run(&self, sql: &str) {
        if let Self::Postgres(server) = self {
            let mut root =
                PgConnection::establish(&format!("{server}/postgres")).expect("a server");
            root.batch_execute(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
        }
    }
}

/// As a function for each kind of connection and list would be. Rows go into vectors, and lists
/// into numbers.
macro_rules! load {
    ($layout:expr, $connection:expr, $list:ty => $rust:ty,
     |$one:ident, $edges:ident| $decode:expr) => {{
        macro_rules! rows {
            ($sql:ty => $row:ty, $text:expr) => {{
                let rows: Vec<$row> =
                    Statement::<$sql>::new($text, &[]).load($connection).expect("loads");
                rows
            }};
        }
        let of = match $layout.key {
            Key::Id => "graph_id = 1 ORDER BY id",
            Key::Name => "graph_id = 1",
        };
        if $layout.load == Load::Rows {
            let jobs = rows!((BigInt, Text, Text, BigInt) => (i64, String, String, i64),
                &format!("SELECT id, name, spec, version FROM jobs WHERE {of}"));
            let datasets = rows!((BigInt, Text, Nullable<Text>) => (i64, String, Option<String>),
                &format!("SELECT id, name, metadata FROM datasets WHERE {of}"));
            let inputs = rows!((BigInt, BigInt) => (i64, i64), "SELECT job_id, dataset_id \
                FROM job_inputs WHERE graph_id = 1 ORDER BY job_id, dataset_id");
            let outputs = rows!((BigInt, BigInt) => (i64, i64), "SELECT job_id, dataset_id \
                FROM job_outputs WHERE graph_id = 1 ORDER BY dataset_id");
            (jobs.len() + datasets.len(), inputs.len() + outputs.len())
        } else {
            let jobs = rows!(
                (BigInt, Text, Text, BigInt, $list) => (i64, String, String, i64, $rust),
                &format!("SELECT id, name, spec, version, inputs FROM jobs WHERE {of}"));
            let datasets = rows!(
                (BigInt, Text, Nullable<Text>, Nullable<Integer>)
                    => (i64, String, Option<String>, Option<i32>),
                &format!("SELECT id, name, metadata, producer FROM datasets WHERE {of}"));
            let chunks = match $layout.load {
                Load::Chunks => rows!((BigInt, $list) => (i64, $rust), "SELECT job_id, inputs \
                    FROM job_inputs_chunks WHERE graph_id = 1 ORDER BY job_id, chunk"),
                _ => Vec::new(),
            };
            let mut $edges: Vec<i32> = Vec::new();
            let lists = jobs.iter().map(|job| &job.4).chain(chunks.iter().map(|chunk| &chunk.1));
            for $one in lists {
                $decode;
            }
            let produced = datasets.iter().filter(|dataset| dataset.3.is_some()).count();
            (jobs.len() + datasets.len(), $edges.len() + produced)
        }
    }};
}

impl Field {
    fn new(layout: &'static Layout, place: &Place, number: usize) -> Self {
        let kind = place.kind();
        place.run(&format!("DROP DATABASE IF EXISTS layout_{number} WITH (FORCE)"));
        place.run(&format!("CREATE DATABASE layout_{number} TEMPLATE template0 ENCODING 'UTF8'"));
        let (mut session, file) = match place {
            Place::Postgres(server) => {
                let session = PgConnection::establish(&format!("{server}/layout_{number}"));
                (Session::Postgres(session.expect("a database")), PathBuf::new())
            }
            Place::Folder(folder) => {
                let file = folder.join(format!("layout_{number}.db"));
                let session = SqliteConnection::establish(file.to_str().expect("UTF-8"));
                (Session::Sqlite(session.expect("a file")), file)
            }
        };
        let clock = match kind {
            Kind::Postgres => {
                let answer = session.named_numbers("SELECT '', pg_backend_pid()::bigint");
                format!("/proc/{}/schedstat", answer[0].1)
            }
            Kind::Sqlite => {
                session.batch(
                    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                     PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; \
                     PRAGMA wal_autocheckpoint = 65536",
                );
                String::new()
            }
        };
        let mut field = Self { layout, kind, session, file, clock, version: 0, next_job: 1 };
        field.set_cache(32);
        for sql in layout.tables {
            field.session.batch(&layout.fill(kind, sql));
        }
        if kind == Kind::Postgres {
            field.session.batch(&layout.function());
        }
        field.session.run(
            "INSERT INTO graphs (id, name, state, version, fence, epoch, lock_incarnation, chain) \
             VALUES (1, 'g', 'open', 0, 0, 0, '', ?)",
            &[Value::Bytes(vec![0; 32])],
        );
        field
    }

    /// As the service does: more for an import.
    fn set_cache(&mut self, mib: u32) {
        if self.kind == Kind::Sqlite {
            self.session.batch(&format!("PRAGMA cache_size = -{}", mib << 10));
        }
    }

    /// Seconds of processor time so far; none if the server is elsewhere.
    fn cpu(&self) -> f64 {
        if self.kind == Kind::Sqlite {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            return time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        }
        let counted = std::fs::read_to_string(&self.clock).unwrap_or_default();
        counted.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
    }

    fn next_jobs(&mut self, count: usize) -> Vec<Job> {
        self.next_job += count as i64;
        (self.next_job - count as i64..self.next_job).map(Job::usual).collect()
    }

    /// A write of jobs, with these changes.
    fn write(&mut self, jobs: &[Job], changes: Vec<String>) -> Vec<Call> {
        if self.kind == Kind::Sqlite {
            return self.transaction(self.layout.inserts(self.kind, Mode::Each, jobs), changes);
        }
        let mut values = vec![
            Value::Integer(1),
            Value::Integer(self.version),
            Value::Bytes(vec![7; 32]),
            Value::Text(ATTEMPT.to_owned()),
        ];
        self.version += changes.len() as i64;
        let chains = Value::BytesEach(vec![vec![7; 32]; changes.len()]);
        values.extend([Value::Texts(changes), chains]);
        for (rows, _) in self.layout.inserts {
            let columns = self.layout.values(self.kind, Mode::Arrays, *rows, jobs);
            values.extend(columns.into_iter().flatten());
        }
        let marks = vec!["?"; values.len()].join(", ");
        vec![(format!("SELECT write_jobs({marks})"), values)]
    }

    /// These statements, after the graph's update and before the changes.
    fn transaction(&mut self, statements: Vec<Call>, changes: Vec<String>) -> Vec<Call> {
        use Value::{Bytes, Integer, Text};
        let read = self.version;
        self.version += changes.len() as i64;
        let update = vec![Integer(self.version), Bytes(vec![7; 32]), Integer(read)];
        let mut calls = vec![(UPDATE_GRAPH.to_owned(), update)];
        calls.extend(statements);
        for (version, change) in (read + 1..).zip(changes) {
            let (chain, attempt) = (Bytes(vec![7; 32]), Text(ATTEMPT.to_owned()));
            let values = vec![Integer(1), Integer(version), Text(change), chain, attempt];
            calls.push((INSERT_CHANGE.to_owned(), values));
        }
        calls
    }

    fn execute(&mut self, calls: &[Call]) -> Duration {
        let began = Instant::now();
        // One call is a transaction of its own.
        let begin = if self.kind == Kind::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
        if calls.len() > 1 {
            self.session.batch(begin);
        }
        for (text, values) in calls {
            assert!(self.session.run(text, values) > 0, "nothing changed: {text}");
        }
        if calls.len() > 1 {
            self.session.batch("COMMIT");
        }
        began.elapsed()
    }

    /// Milliseconds, and kilobytes of log.
    fn logged_execute(&mut self, calls: &[Call]) -> (f64, f64) {
        if self.kind == Kind::Sqlite {
            self.tidy();
        }
        let before = self.logged();
        let time = self.execute(calls);
        (time.as_secs_f64() * 1e3, (self.logged() - before) as f64 / 1e3)
    }

    /// Bytes that were ever written to Postgres' log, or to SQLite's since it was emptied.
    fn logged(&mut self) -> i64 {
        if self.kind == Kind::Sqlite {
            let log = format!("{}-wal", self.file.display());
            return std::fs::metadata(log).map_or(0, |log| log.len() as i64);
        }
        let position = "SELECT '', (pg_current_wal_insert_lsn() - '0/0')::bigint";
        self.session.named_numbers(position)[0].1
    }

    /// Returns how many jobs and datasets there are, and how many edges.
    fn load(&mut self) -> (usize, usize) {
        let layout = self.layout;
        match &mut self.session {
            Session::Postgres(connection) => {
                load!(layout, connection, Array<Integer> => Vec<i32>, |list, edges| {
                    edges.extend_from_slice(list)
                })
            }
            Session::Sqlite(connection) => {
                load!(layout, connection, Text => String, |list, edges| {
                    edges.extend(serde_json::from_str::<Vec<i32>>(list).expect("a list"))
                })
            }
        }
    }

    fn tidy(&mut self) {
        let steps: &[&str] = match self.kind {
            Kind::Postgres => &["VACUUM ANALYZE", "CHECKPOINT"],
            Kind::Sqlite => &["PRAGMA wal_checkpoint(TRUNCATE)"],
        };
        steps.iter().for_each(|step| self.session.batch(step));
    }

    /// Megabytes of each table and index, the largest first.
    fn sizes(&mut self) -> Vec<(String, f64)> {
        let sizes = self.session.named_numbers(match self.kind {
            Kind::Postgres => {
                "SELECT relname::text, CASE relkind WHEN 'r' THEN pg_table_size(oid) \
                 ELSE pg_relation_size(oid) END AS bytes FROM pg_class WHERE relkind IN ('r', 'i') \
                 AND relnamespace = 'public'::regnamespace ORDER BY bytes DESC"
            }
            Kind::Sqlite => {
                "SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE ORDER BY pgsize DESC"
            }
        });
        sizes.into_iter().map(|(name, bytes)| (name, bytes as f64 / 1e6)).collect()
    }
}

/// Measures what layouts of a graph's rows cost
#[derive(Parser)]
struct Cli {
    /// Which databases, with commas between
    #[arg(long, value_delimiter = ',', default_value = "postgres,sqlite")]
    databases: Vec<String>,
    /// A Postgres server to use, as postgres://USER@HOST:PORT
    #[arg(long)]
    postgres_url: Option<String>,
    /// small: writes and loading at 100,000 jobs; large: all else, at --jobs
    #[arg(long, value_delimiter = ',', default_value = "small,large")]
    stages: Vec<String>,
    /// How many jobs a large graph has, 200000 at least
    #[arg(long, default_value_t = 1_000_000)]
    jobs: usize,
    /// How often each thing is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only layouts whose names begin so, with commas between
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What Cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the module `postgres` waits with.
fn wait_until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn main() {
    let cli = Cli::parse();
    if !cli.bench {
        return;
    }
    for database in &cli.databases {
        println!("\n## {database}");
        let (folder, mut server) = (tempfile::tempdir().expect("a folder"), None);
        let place = match (database.as_str(), &cli.postgres_url) {
            ("postgres", Some(url)) => Place::Postgres(url.clone()),
            ("postgres", None) => {
                let settings = ["shared_buffers = '1GB'", "max_wal_size = '2GB'"];
                let started =
                    postgres::Postgres::start(&[&settings[..], &["autovacuum = off"]].concat());
                Place::Postgres(server.insert(started).url("").trim_end_matches('/').to_owned())
            }
            _ => Place::Folder(folder.path().to_owned()),
        };
        for stage in &cli.stages {
            let wanted = |layout: &&Layout| {
                let is_named = |begin: &String| layout.name.starts_with(begin);
                layout.databases.contains(&place.kind())
                    && (cli.only.is_empty() || cli.only.iter().any(is_named))
            };
            let layouts = LAYOUTS.iter().filter(wanted).enumerate();
            let mut fields: Vec<Field> =
                layouts.map(|(number, layout)| Field::new(layout, &place, number)).collect();
            match stage.as_str() {
                "small" => small(&cli, &mut fields),
                _ => large(&cli, &mut fields),
            }
            for (number, field) in fields.into_iter().enumerate() {
                let file = field.file.clone();
                drop(field);
                place.run(&format!("DROP DATABASE layout_{number}"));
                if place.kind() == Kind::Sqlite {
                    std::fs::remove_file(file).expect("it was closed");
                }
            }
        }
    }
}

/// Fields take turns; each round begins with another. Counts the rounds.
fn in_turn(fields: &mut [Field], rounds: usize, mut run: impl FnMut(usize, usize, &mut Field)) {
    for round in 0..rounds {
        for at in 0..fields.len() {
            let at = (at + round) % fields.len();
            run(round, at, &mut fields[at]);
        }
    }
}

fn names(fields: &[Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.layout.name).collect()
}

/// One change for all jobs that are sent at once.
fn import(fields: &mut [Field], jobs: usize) {
    let mut table = Table::new(format!("Import of {jobs} jobs"), names(fields));
    let mut sums = vec![(0.0, 0.0); fields.len()];
    fields.iter_mut().for_each(|field| field.set_cache(256));
    in_turn(fields, jobs / IMPORTED_AT_ONCE, |_, at, field| {
        let jobs = field.next_jobs(IMPORTED_AT_ONCE);
        let changes: Vec<String> = jobs.iter().map(Job::change).collect();
        let calls = field.write(&jobs, vec![changes.join(",")]);
        let before = field.cpu();
        sums[at].0 += field.execute(&calls).as_secs_f64();
        sums[at].1 += field.cpu() - before;
    });
    for (at, (seconds, cpu)) in sums.into_iter().enumerate() {
        fields[at].set_cache(32);
        fields[at].tidy();
        table.add(at, "seconds", seconds);
        table.add(at, "CPU: seconds", cpu);
    }
    table.print();
}

fn load(cli: &Cli, fields: &mut [Field], jobs: usize) {
    let mut table = Table::new(format!("Load of {jobs} jobs"), names(fields));
    in_turn(fields, cli.rounds, |_, at, field| {
        if field.layout.load == Load::Nothing {
            return;
        }
        let (began, before) = (Instant::now(), field.cpu());
        let loaded = field.load();
        table.add(at, "seconds", began.elapsed().as_secs_f64());
        table.add(at, "CPU: seconds", field.cpu() - before);
        // The first three jobs find too few datasets.
        assert_eq!(loaded, (2 * jobs, 4 * jobs - 6), "all names and edges");
    });
    table.print();
}

fn small(cli: &Cli, fields: &mut [Field]) {
    import(fields, SMALL_JOBS);
    load(cli, fields, SMALL_JOBS);
    let mut table = Table::new(format!("Writes a second at {SMALL_JOBS} jobs"), names(fields));
    let mut cpu = Table::new("CPU of a write: µs".to_owned(), names(fields));
    let kinds = [(1, WRITES, "one at a time"), (BATCH_JOBS, BATCHES, "batches of 33")];
    // The first round warms up.
    in_turn(fields, cli.rounds + 1, |round, at, field| {
        for (jobs, times, what) in kinds {
            let mut prepare = || {
                let jobs = field.next_jobs(jobs);
                field.write(&jobs, jobs.iter().map(Job::change).collect())
            };
            let writes: Vec<Vec<Call>> = (0..times).map(|_| prepare()).collect();
            let before = field.cpu();
            let time: Duration = writes.iter().map(|calls| field.execute(calls)).sum();
            let used = field.cpu() - before;
            if round > 0 {
                let count = (jobs * times) as f64;
                table.add(at, what, count / time.as_secs_f64());
                cpu.add(at, what, used / count * 1e6);
            }
        }
    });
    table.print();
    cpu.print();
}

fn large(cli: &Cli, fields: &mut [Field]) {
    import(fields, cli.jobs);
    sizes(cli, fields, "");
    load(cli, fields, cli.jobs);
    edges(cli, fields);
    outputs(cli, fields);
    questions(cli, fields);
    for field in &mut *fields {
        field.session.batch(if field.kind == Kind::Postgres { "VACUUM FULL" } else { "VACUUM" });
    }
    sizes(cli, fields, ", after VACUUM (FULL)");
}

fn sizes(cli: &Cli, fields: &mut [Field], when: &str) {
    let title = format!("MB on disk at {} jobs{when}", cli.jobs);
    let mut table = Table::new(title, names(fields));
    let mut parts = Vec::new();
    let sum = |sizes: &[(String, f64)]| sizes.iter().map(|(_, mb)| mb).sum();
    for (at, field) in fields.iter_mut().enumerate() {
        let mut sizes = field.sizes();
        table.add(at, "all", sum(&sizes));
        sizes.retain(|(name, _)| !name.contains("changes") && !name.contains("graphs"));
        table.add(at, "without graphs and changes", sum(&sizes));
        let each = sizes.iter().filter(|(_, mb)| *mb >= 0.1);
        let each: Vec<String> = each.map(|(name, mb)| format!("{name} {}", number(*mb))).collect();
        parts.push(format!("- {}: {}", field.layout.name, each.join(", ")));
    }
    table.print();
    println!("\n{}", parts.join("\n"));
}

fn edges(cli: &Cli, fields: &mut [Field]) {
    let title = format!("An edge of a job of {HUGE_INPUTS} inputs: ms, and KB of log");
    let mut table = Table::new(title, names(fields));
    // There are others between them.
    let step = (cli.jobs / HUGE_INPUTS).max(2);
    let list: Vec<i32> = (1..=HUGE_INPUTS).map(|number| (number * step) as i32).collect();
    for (at, field) in fields.iter_mut().enumerate() {
        let huge = Job { id: field.next_job, inputs: list.clone(), outputs: Vec::new() };
        let calls = field.write(&[huge], vec!["{}".to_owned()]);
        let (ms, kb) = field.logged_execute(&calls);
        table.add(at, "created", ms);
        table.add(at, "KB", kb);
    }
    // The first warms up: Postgres logs whole pages after a checkpoint.
    in_turn(fields, cli.rounds + 1, |round, at, field| {
        for change in field.layout.edges {
            let place = CHANGED_CHUNK * CHUNK + round;
            let dataset = list[place] + 1;
            let range = match change.sent {
                Sent::Chunk => CHANGED_CHUNK * CHUNK..(CHANGED_CHUNK + 1) * CHUNK,
                Sent::List | Sent::Row => 0..HUGE_INPUTS,
            };
            let before = &list[range.clone()];
            let (left, right) = before.split_at(place + 1 - range.start);
            let after = [left, &[dataset], right].concat();
            let both = [("added", change.add, &after[..]), ("removed", change.remove, before)];
            for (what, text, list) in both {
                let sent = match change.sent {
                    Sent::Row => Value::Integer(dataset.into()),
                    Sent::List | Sent::Chunk => field.kind.encode(list),
                };
                let found = field.layout.found_by('j', field.next_job);
                let text = field.layout.fill(field.kind, text);
                let call = (text, vec![sent, Value::Integer(1), found]);
                let calls = field.transaction(vec![call], vec!["{}".to_owned()]);
                let (ms, kb) = field.logged_execute(&calls);
                if round > 0 {
                    table.add(at, what, ms);
                    table.add(at, &format!("{what}: KB"), kb);
                }
            }
        }
    });
    table.print();
    fields.iter_mut().for_each(|field| field.next_job += 1);
}

fn outputs(cli: &Cli, fields: &mut [Field]) {
    let title = format!("A job of {MANY_OUTPUTS} outputs: ms of the whole write");
    let mut table = Table::new(title, names(fields));
    let change = || vec!["{}".to_owned()];
    in_turn(fields, cli.rounds, |_, at, field| {
        let (layout, kind, id) = (field.layout, field.kind, field.next_job);
        if layout.load == Load::Nothing {
            return;
        }
        field.next_job += 2 * MANY_OUTPUTS;
        let (many, rest) = (id..id + MANY_OUTPUTS, id + MANY_OUTPUTS..field.next_job);
        let job = |outputs: Vec<i64>| Job { id, inputs: Vec::new(), outputs };
        let calls = field.write(&[job(many.collect())], change());
        table.add(at, "created", field.execute(&calls).as_secs_f64() * 1e3);
        let of_job = |(text, _): &Call| !text.starts_with("INSERT INTO jobs");
        for output in rest.clone().take(20) {
            let rows = layout.inserts(kind, Mode::Each, &[job(vec![output])]);
            let calls = field.transaction(rows.into_iter().filter(of_job).collect(), change());
            table.add(at, "a new dataset added", field.execute(&calls).as_secs_f64() * 1e3);
        }
        for free in rest.skip(20).take(20) {
            let named = name('d', free);
            let sql =
                format!("INSERT INTO datasets (graph_id, id, name) VALUES (1, {free}, '{named}')");
            field.session.batch(&sql);
            let dataset = layout.found_by('d', free);
            let values = vec![Value::Integer(id), Value::Integer(1), dataset];
            let calls = field.transaction(vec![(layout.produce.to_owned(), values)], change());
            let ms = field.execute(&calls).as_secs_f64() * 1e3;
            table.add(at, "a dataset that was there added", ms);
        }
    });
    table.print();
}

fn questions(cli: &Cli, fields: &mut [Field]) {
    let mut table = Table::new("Asked in SQL, through the views: ms".to_owned(), names(fields));
    in_turn(fields, cli.rounds, |_, at, field| {
        for (what, sql) in QUESTIONS.iter().filter(|_| field.layout.has_views()) {
            let sql = sql.replace("{dataset}", &name('d', 50_000));
            let began = Instant::now();
            let found = field.session.named_numbers(&sql.replace("{job}", &name('j', 50_000)));
            table.add(at, what, began.elapsed().as_secs_f64() * 1e3);
            assert!(found[0].1 > 0, "{what}: nothing");
        }
    });
    table.print();
}
