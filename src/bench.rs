//! The load driver: workloads from a seed, against a server or in process, with latencies and, if
//! wanted, a history that a checker can judge.
//!
//! Asks a server over HTTP as any client does, or a `service` in this process. Takes from `http`
//! only the names and bodies of problems, so that both targets answer in the same words. It must
//! not see a turn from inside: what it measures is what a client sees.
//!
//! Request number n is a function of the seed and n: a run is the same requests in the same order
//! of sending, whichever client sends which. But for what a client comes back to (`seen.rs`), where
//! an option asks for that.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use serde::{Serialize, Serializer};

use crate::address;
use crate::graph::Name;

mod class;
mod contact;
mod drive;
pub mod history;
mod latencies;
mod machine;
mod phases;
mod random;
mod report;
mod request;
pub mod run;
mod schedule;
mod seen;
mod server;
mod summary;
mod tally;
mod target;
mod timeline;
mod topology;
mod unused;
mod verbatim;
mod workload;

pub use class::Class;
pub use drive::{drive, drive_until};
pub use history::FORMAT_VERSION;
pub use latencies::{Latencies, NotEncoded, Percentiles};
pub use random::Random;
pub use report::Report;
pub use request::{Outcome, Request};
pub use summary::{Row, Summary};
pub use target::{Completion, Connection, HttpTarget, InProcess, Target};
pub use timeline::Part;
pub use topology::{Topology, TopologyError};
pub use verbatim::Verbatim;

/// What to send, how, and for how long.
#[derive(Clone, Args, Serialize)]
pub struct DriveArgs {
    /// The server, as http://127.0.0.1:8000; without it, the service runs in this process on
    /// --database-url. Given several times, these are the nodes of one service: clients are spread
    /// over them, and one whose request is not answered goes on to the next node
    #[arg(long)]
    #[serde(serialize_with = "shown_urls")]
    pub url: Vec<String>,
    /// The graph; it is created if need be
    #[arg(long, default_value = "bench")]
    pub graph: String,
    /// What the requests are
    #[arg(long, value_enum)]
    pub workload: WorkloadName,
    /// register: spread over so many graphs, GRAPH-0, GRAPH-1 and so on, which are created if the
    /// last of them is not there, and must be new: each job goes into one of them, at random
    #[arg(
        long,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000),
        value_name = "N",
        conflicts_with_all = ["reject_percent", "in_turn"]
    )]
    pub graphs: Option<u64>,
    /// register, mixed, load: what reads what
    #[arg(long, value_enum, default_value_t = Shape::Random)]
    pub shape: Shape,
    /// register, mixed: in which order jobs come, in blocks of 4,096; unless topological, some
    /// outputs have consumers already
    #[arg(long, value_enum, default_value_t = Order::Topological)]
    pub order: Order,
    /// register, mixed, load: length of the names, in bytes
    #[arg(long, default_value_t = 40, value_name = "BYTES")]
    pub name_bytes: usize,
    /// load: so many jobs in the end [default: 500000]; conflict: jobs and datasets to fight over
    /// [default: 8]
    #[arg(long, value_name = "N")]
    pub jobs: Option<u64>,
    /// load: so many datasets in the end [default: as many as jobs]
    #[arg(long, value_name = "N")]
    pub datasets: Option<u64>,
    /// load: so many edges in the end [default: four for each job]
    #[arg(long, value_name = "N")]
    pub edges: Option<u64>,
    /// load: operations in a changeset
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub batch: u64,
    /// register, mixed: the number of the first new job [default: the graph's job count, up to the
    /// next block]
    #[arg(long, value_name = "N")]
    pub first_job: Option<u64>,
    /// reregister: how many of a hundred jobs are put with another spec each time
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(..=100), value_name = "PERCENT")]
    pub changed_percent: u8,
    /// mixed, conflict: how many of a hundred requests are writes [default: 20 and 70]
    #[arg(long, value_parser = clap::value_parser!(u8).range(..=100), value_name = "PERCENT")]
    pub write_percent: Option<u8>,
    /// conflict: how many of a hundred writes are the client's last one again, with the same
    /// idempotency key; unless 0, all writes but creations of the graph have a key
    #[arg(
        long,
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(..=100),
        value_name = "PERCENT"
    )]
    pub replay_percent: u8,
    /// conflict: how many of a hundred reads go on with the list that the client has begun
    #[arg(
        long,
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(..=100),
        value_name = "PERCENT"
    )]
    pub next_page_percent: u8,
    /// conflict: how many of a hundred writes delete the graph. Who finds it gone creates it again
    #[arg(
        long,
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(..=100),
        value_name = "PERCENT"
    )]
    pub delete_percent: u8,
    /// mixed: how many of a hundred reads of a job say which version the client has seen
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100), value_name = "PERCENT")]
    pub revalidate_percent: u8,
    /// mixed: how many of a hundred reads are plans; of the others one in nine reads a dataset, the
    /// rest jobs
    #[arg(
        long,
        default_value_t = 10,
        value_parser = clap::value_parser!(u8).range(..=100),
        value_name = "PERCENT"
    )]
    pub plan_percent: u8,
    /// register: how many of a hundred requests break a rule: each closes a cycle, or is a second
    /// producer
    #[arg(
        long,
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(..=100),
        value_name = "PERCENT"
    )]
    pub reject_percent: u8,
    /// register, mixed: length of the spec of a job, in bytes; at least 10, or 0 for an empty one
    #[arg(long, default_value_t = 0, value_parser = spec_bytes, value_name = "BYTES")]
    pub spec_bytes: usize,
    /// reregister, mixed: how unevenly jobs are chosen: the k-th with a weight of 1/k^S (Zipf); 0:
    /// evenly
    #[arg(long, default_value_t = 0.0, value_parser = skew, value_name = "S")]
    pub skew: f64,
    /// plans: about so many jobs in a plan, where the graph allows; without it, plans of single
    /// datasets as they come
    #[arg(long, value_name = "N")]
    pub plan_jobs: Option<usize>,
    /// reregister, plans, mixed, churn, and the broken rules of register: work on the first so many
    /// jobs of the graph, in byte order of their names
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub sample: usize,
    /// fetch: the path to get [default: / or, if that is not there, /livez]
    #[arg(long, value_parser = path, value_name = "PATH")]
    pub path: Option<String>,
    /// Another seed, other requests
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Requests in flight at once; each client is a thread with one connection
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub clients: u32,
    /// Requests a second, sent whether or not earlier ones were answered in time (open loop);
    /// latency counts from when a request was due. Without it, each client sends its next request
    /// when the last was answered (closed loop). A client has one request under way at a time: give
    /// enough --clients
    #[arg(long, value_parser = positive, value_name = "R")]
    pub rate: Option<f64>,
    /// How long to measure, in seconds: rates are per these, whatever is answered later [default:
    /// 10, unless --requests is given]
    #[arg(long, value_parser = positive, value_name = "S")]
    pub seconds: Option<f64>,
    /// Clients send one after another, the next when the last was answered, so that each write
    /// follows one of another node
    #[arg(long, conflicts_with = "rate")]
    pub in_turn: bool,
    /// churn: how many jobs a changeset puts
    #[arg(
        long,
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=10_000),
        value_name = "N"
    )]
    pub churn_steps: u64,
    /// End after so many requests, those of the warm-up included; 0: only what must be there is
    /// made
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// What is sent in the first so many seconds, or due in them, is not measured
    #[arg(long, default_value_t = 0.0, value_parser = not_negative, value_name = "S")]
    pub warmup_seconds: f64,
    /// Also tell what became of the requests of each so long part of the window, in seconds; 36,000
    /// parts at most
    #[arg(long, value_parser = positive, value_name = "S")]
    pub timeline_seconds: Option<f64>,
    /// When an answer over HTTP is given up, its outcome unknown
    #[arg(long, default_value_t = 30.0, value_parser = positive, value_name = "S")]
    pub timeout_seconds: f64,
    /// How long the server may be away before the run is given up
    #[arg(long, default_value_t = 10.0, value_parser = not_negative, value_name = "S")]
    pub patience_seconds: f64,
    /// Record every request and every answer in this file (docs/HISTORY.md), which must be empty,
    /// or a pipe, or not be there
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub history: Option<PathBuf>,
    /// How the figures are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    #[serde(skip)]
    pub format: Format,
}

impl DriveArgs {
    /// As on a command line, of which the first word is the program's.
    ///
    /// # Errors
    /// Says which word cannot be.
    pub fn of_words<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<Self, clap::Error> {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: DriveArgs,
        }
        Line::try_parse_from(words).map(|line| line.args)
    }

    /// The name of one of many graphs.
    ///
    /// # Errors
    /// [`BenchError::Usage`] if the graph's own name leaves no room for a number.
    pub fn graph_of_many(&self, number: u64) -> Result<Name, BenchError> {
        let name = format!("{}-{number}", self.graph);
        Name::new(&name).map_err(|error| BenchError::Usage(format!("--graph: {error}")))
    }
}

/// What the requests are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadName {
    /// Puts of new jobs
    Register,
    /// Puts of jobs that exist, some changed and some not
    Reregister,
    /// Jobs that exist lose an input and get it back, so that each write changes edges
    Churn,
    /// Plans
    Plans,
    /// Reads, with new and changed jobs between
    Mixed,
    /// Edges between few jobs, so that cycles and second producers are common
    Conflict,
    /// Pairs of new jobs that together close a cycle, or that both write one dataset: the rules
    /// allow one of each pair. Where there are several clients, the two of a pair are sent at once
    Pairs,
    /// Brings the graph to a size
    Load,
    /// GET of one path, of any server
    Fetch,
}

/// What reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Each job reads what the one before wrote
    Chain,
    /// Each job reads from the layer before, 1,024 jobs a layer
    Layered,
    /// Ten thousand jobs read one dataset
    FanOut,
    /// One job of a hundred reads what the others wrote
    FanIn,
    /// Each job reads what any earlier ones wrote
    Random,
    /// As random, but the earlier a job, the more read it
    ScaleFree,
}

/// In which order new jobs come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Producers first
    Topological,
    /// Consumers first
    Reverse,
    /// Mixed up
    Random,
}

/// How the figures are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    Text,
    /// One JSON object
    Json,
}

/// Why a run did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The arguments contradict each other, or what they ask for cannot be.
    #[error("{0}")]
    Usage(String),
    /// The server cannot be reached, or stayed away.
    #[error("{0}")]
    Unavailable(String),
    /// The server refused what the workload needs to begin.
    #[error("{0}")]
    Refused(String),
    /// The history is not whole; the run was ended.
    #[error("the history could not be written: {0}")]
    History(std::io::Error),
    /// Something was answered that no documentation allows.
    #[error("{count} answers were no documented verdicts, the first: {first}")]
    Undocumented {
        /// How many.
        count: u64,
        /// One of them.
        first: String,
    },
}

/// There may be a password in one.
fn shown_urls<S: Serializer>(urls: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(urls.iter().map(|url| address::redacted(url)))
}

fn spec_bytes(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(bytes) if bytes == 0 || (10..=1 << 20).contains(&bytes) => Ok(bytes),
        _ => Err("must be 0, or from 10 to 1,048,576".to_owned()),
    }
}

fn skew(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|number| {
        if number <= 10.0 { Ok(number) } else { Err("must be from 0 to 10".to_owned()) }
    })
}

fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("must begin with a slash".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|number| {
        if number > 0.0 { Ok(number) } else { Err("must be above 0".to_owned()) }
    })
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("must be a number from 0 to 1,000,000,000".to_owned()),
    }
}
