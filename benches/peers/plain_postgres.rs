//! A plain Postgres client, to compare writes with: it takes an advisory lock, inserts a job's
//! rows, and looks for a cycle by recursive SQL.
//!
//! ```text
//! cargo run --release --example plain_postgres -- postgres://postgres@127.0.0.1/peer --jobs 100000 --clients 64 --seconds 10
//! ```
//!
//! The jobs are those of `fencepost bench drive --workload load --jobs 100000`, and then those that
//! `--workload register` puts. Its tables are in the schema `plain` of that database; what an
//! earlier run left there is dropped.
//!
//! A write is BEGIN, the lock, one statement that inserts all rows, one that looks for a cycle, and
//! COMMIT, each prepared, each a round trip as client libraries have it. With `--one-message` all
//! five go to the server at once, so that nobody waits for a client that has the lock: as quick as
//! it can be made by hand, where no answer is needed to know what to send next. The lock is held
//! until the commit is on disk, as it must be: whoever looks for a cycle must see every edge
//! before. So commits are never flushed together, however many clients there are.
//!
//! What it leaves out, and the service does: HTTP and JSON, replacing, changing and deleting,
//! versions and preconditions, a log of changes, fencing, idempotency keys, several changes in one,
//! plans, and any answer but yes or no.

use std::fmt::Write;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use diesel::connection::SimpleConnection;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{Connection, PgConnection};
use fencepost::bench::{DriveArgs, Topology};
use fencepost::graph::JobSpecification;

/// Tables without constraints, to be filled. Names are compared as bytes. They are keys themselves:
/// a write then needs no lookup of ids.
const TABLES: &str = r#"
DROP SCHEMA IF EXISTS plain CASCADE;
CREATE SCHEMA plain;
CREATE TABLE plain.jobs (graph BIGINT NOT NULL, name TEXT COLLATE "C" NOT NULL, spec TEXT NOT NULL);
CREATE TABLE plain.datasets (graph BIGINT NOT NULL, name TEXT COLLATE "C" NOT NULL);
CREATE TABLE plain.inputs (graph BIGINT NOT NULL, job TEXT COLLATE "C" NOT NULL, dataset TEXT COLLATE "C" NOT NULL);
CREATE TABLE plain.outputs (graph BIGINT NOT NULL, dataset TEXT COLLATE "C" NOT NULL, job TEXT COLLATE "C" NOT NULL);
CREATE FUNCTION plain.reject_cycle(is_cycle BOOLEAN) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF is_cycle THEN
        RAISE check_violation USING MESSAGE = 'a cycle';
    END IF;
END $$;
"#;

/// The primary key of outputs is the rule that a dataset has one producer. An index alone answers
/// which jobs read a dataset, or which datasets a job writes.
const CONSTRAINTS: &str = "
INSERT INTO plain.datasets SELECT graph, dataset FROM plain.outputs UNION SELECT graph, dataset FROM plain.inputs;
ALTER TABLE plain.jobs ADD PRIMARY KEY (graph, name);
ALTER TABLE plain.datasets ADD PRIMARY KEY (graph, name);
ALTER TABLE plain.inputs ADD PRIMARY KEY (graph, job, dataset),
    ADD FOREIGN KEY (graph, job) REFERENCES plain.jobs, ADD FOREIGN KEY (graph, dataset) REFERENCES plain.datasets;
ALTER TABLE plain.outputs ADD PRIMARY KEY (graph, dataset),
    ADD FOREIGN KEY (graph, job) REFERENCES plain.jobs, ADD FOREIGN KEY (graph, dataset) REFERENCES plain.datasets;
CREATE INDEX ON plain.inputs (graph, dataset, job);
CREATE INDEX ON plain.outputs (graph, job, dataset);
";

/// Outside a transaction, and before anything is measured.
const TIDY: &str = "VACUUM ANALYZE plain.jobs, plain.datasets, plain.inputs, plain.outputs";

/// `$1` is the graph, `$2` the job. The search visits each job once, and ends as soon as it is
/// back.
const PREPARED: &str = "
SET synchronous_commit = on;
SET plan_cache_mode = force_generic_plan;
PREPARE put_job (BIGINT, TEXT, TEXT[], TEXT[], TEXT) AS
    WITH job AS (INSERT INTO plain.jobs VALUES ($1, $2, $5)),
         named AS (INSERT INTO plain.datasets SELECT $1, unnest($3 || $4) ON CONFLICT DO NOTHING),
         reads AS (INSERT INTO plain.inputs SELECT $1, $2, unnest($3))
    INSERT INTO plain.outputs SELECT $1, unnest($4), $2;
PREPARE reject_cycle (BIGINT, TEXT) AS
    WITH RECURSIVE downstream (job) AS (
        SELECT inputs.job FROM plain.outputs JOIN plain.inputs USING (graph, dataset) WHERE graph = $1 AND outputs.job = $2
        UNION
        SELECT inputs.job FROM downstream
            JOIN plain.outputs ON outputs.graph = $1 AND outputs.job = downstream.job
            JOIN plain.inputs ON inputs.graph = $1 AND inputs.dataset = outputs.dataset
    )
    SELECT plain.reject_cycle(EXISTS (SELECT FROM downstream WHERE job = $2));
";

const GRAPH: u64 = 1;
/// Of the graph on which the client shows that it refuses what it must.
const TRIAL_GRAPH: u64 = 0;
const LOADED_AT_ONCE_JOBS: u64 = 10_000;
/// `--workload register` begins at a multiple of this.
const BLOCK_JOBS: u64 = 4_096;

/// Measures how many jobs a second a plain client can write to Postgres
#[derive(Parser)]
struct Cli {
    /// The database, as postgres://USER@HOST/DATABASE
    url: String,
    /// How many jobs there are before
    #[arg(long, default_value_t = 100_000)]
    jobs: u64,
    /// Connections, each with a thread
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Send each write as one message
    #[arg(long)]
    one_message: bool,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// What `fencepost bench drive` takes, to have its jobs.
#[derive(Parser)]
struct Drive {
    #[command(flatten)]
    args: DriveArgs,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    let Drive { args } = Drive::parse_from(["drive", "--workload", "register"]);
    load(&cli, &Topology::sized(&args, cli.jobs, cli.jobs, cli.jobs * 4)?)?;
    try_rules(&cli.url)?;
    let topology = Topology::endless(&args)?;
    let next = AtomicU64::new(cli.jobs.next_multiple_of(BLOCK_JOBS));
    let ready = Barrier::new(cli.clients + 1);
    let (runs, measured) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..cli.clients)
            .map(|_| scope.spawn(|| client(&cli, &topology, &next, &ready)))
            .collect();
        ready.wait();
        let began = Instant::now();
        let runs: Result<Vec<Run>, Failure> = clients
            .into_iter()
            .map(|client| client.join().expect("a client does not panic"))
            .collect();
        runs.map(|runs| (runs, began.elapsed()))
    })?;
    print_line(&cli, runs, measured);
    Ok(())
}

/// Fills the tables, then builds the indexes.
fn load(cli: &Cli, topology: &Topology) -> Result<(), Failure> {
    let mut connection = PgConnection::establish(&cli.url)?;
    connection.batch_execute(TABLES)?;
    let mut from = 0;
    while from < cli.jobs {
        let to = (from + LOADED_AT_ONCE_JOBS).min(cli.jobs);
        let jobs: Vec<JobSpecification> = (from..to).map(|number| topology.job(number)).collect();
        let names = array(jobs.iter().map(|job| &job.name));
        let input_jobs = array(jobs.iter().flat_map(|job| job.inputs.iter().map(|_| &job.name)));
        let inputs = array(jobs.iter().flat_map(|job| &job.inputs));
        let output_jobs = array(jobs.iter().flat_map(|job| job.outputs.iter().map(|_| &job.name)));
        let outputs = array(jobs.iter().flat_map(|job| &job.outputs));
        connection.batch_execute(&format!(
            "INSERT INTO plain.jobs SELECT {GRAPH}, unnest({names}), '{{}}';
             INSERT INTO plain.inputs SELECT {GRAPH}, unnest({input_jobs}), unnest({inputs});
             INSERT INTO plain.outputs SELECT {GRAPH}, unnest({outputs}), unnest({output_jobs});"
        ))?;
        from = to;
    }
    connection.batch_execute(CONSTRAINTS)?;
    connection.batch_execute(TIDY)?;
    Ok(())
}

/// What must be refused is refused; otherwise the figures would say nothing.
fn try_rules(url: &str) -> Result<(), Failure> {
    let mut connection = connected(url)?;
    let mut put = |name: &str, input: &str, output: &str| {
        write(&mut connection, &statements(TRIAL_GRAPH, name, &[input], &[output], "{}"))
    };
    let chain = [put("1", "a", "b")?, put("2", "b", "c")?];
    let second_producer = put("3", "a", "c")?;
    let cycle = put("3", "c", "a")?;
    let itself = put("3", "d", "d")?;
    let rest = put("3", "c", "d")?;
    assert_eq!(
        (chain, rest),
        ([Verdict::Accepted; 2], Verdict::Accepted),
        "jobs that break no rule"
    );
    assert_eq!(
        [second_producer, cycle, itself],
        [Verdict::Rejected; 3],
        "a second producer, and two cycles"
    );
    Ok(())
}

fn connected(url: &str) -> Result<PgConnection, Failure> {
    let mut connection = PgConnection::establish(url)?;
    connection.batch_execute(PREPARED)?;
    Ok(connection)
}

/// What one client did.
struct Run {
    accepted: Vec<Duration>,
    rejected: usize,
}

fn client(
    cli: &Cli,
    topology: &Topology,
    next: &AtomicU64,
    ready: &Barrier,
) -> Result<Run, Failure> {
    let connection = connected(&cli.url);
    // Before any error is returned: the others wait for all.
    ready.wait();
    let mut connection = connection?;
    let end = Instant::now() + Duration::from_secs_f64(cli.seconds);
    let mut run = Run { accepted: Vec::new(), rejected: 0 };
    while Instant::now() < end {
        let job = topology.job(next.fetch_add(1, Ordering::Relaxed));
        let statements = statements(GRAPH, &job.name, &job.inputs, &job.outputs, "{}");
        let one_message = [statements.join(";")];
        let sent = Instant::now();
        match write(&mut connection, if cli.one_message { &one_message } else { &statements })? {
            Verdict::Accepted => run.accepted.push(sent.elapsed()),
            Verdict::Rejected => run.rejected += 1,
        }
    }
    Ok(run)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Rejected,
}

/// A whole transaction. Each statement sees what was committed before it began, so those after the
/// lock see all that its last holder wrote.
fn statements(
    graph: u64,
    job: impl AsRef<str>,
    inputs: &[impl AsRef<str>],
    outputs: &[impl AsRef<str>],
    spec: &str,
) -> [String; 5] {
    let (job, spec) = (literal(job.as_ref()), literal(spec));
    let (inputs, outputs) = (array(inputs), array(outputs));
    [
        "BEGIN".to_owned(),
        format!("SELECT pg_advisory_xact_lock({graph})"),
        format!("EXECUTE put_job({graph}, {job}, {inputs}, {outputs}, {spec})"),
        format!("EXECUTE reject_cycle({graph}, {job})"),
        "COMMIT".to_owned(),
    ]
}

fn write(connection: &mut PgConnection, messages: &[String]) -> Result<Verdict, Error> {
    match messages.iter().try_for_each(|message| connection.batch_execute(message)) {
        Ok(()) => Ok(Verdict::Accepted),
        Err(Error::DatabaseError(
            DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::CheckViolation,
            _,
        )) => {
            connection.batch_execute("ROLLBACK")?;
            Ok(Verdict::Rejected)
        }
        Err(error) => Err(error),
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn array(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut array = "ARRAY[".to_owned();
    for text in texts {
        let comma = if array.ends_with('[') { "" } else { "," };
        write!(array, "{comma}{}", literal(text.as_ref())).expect("a string takes everything");
    }
    array + "]::text[]"
}

fn print_line(cli: &Cli, runs: Vec<Run>, measured: Duration) {
    let rejected: usize = runs.iter().map(|run| run.rejected).sum();
    let mut accepted: Vec<Duration> = runs.into_iter().flat_map(|run| run.accepted).collect();
    accepted.sort_unstable();
    let percentile = |percent: usize| {
        accepted
            .get(accepted.len() * percent / 100)
            .map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    };
    println!(
        "{} jobs before, {} clients: {:.0} writes/s, p50 {:.0} µs, p99 {:.0} µs, {rejected} rejected",
        cli.jobs,
        cli.clients,
        accepted.len() as f64 / measured.as_secs_f64(),
        percentile(50),
        percentile(99),
    );
}
