//! What a run is asked for.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum};

use super::given::{Given, Survives};
use crate::bench::Shape;

/// Clients, unless another number is given.
pub const WRITERS: u32 = 8;

/// What to measure.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Which points are measured, unless other options choose
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    pub profile: Profile,
    /// Where results and databases go; a directory without results, unless --resume is given
    /// [default: fencepost-bench-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only these designs, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub designs: Vec<String>,
    /// Only these workloads, separated by commas (docs/WORKLOADS.md)
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub workloads: Vec<String>,
    /// Graphs of so many jobs, separated by commas [default: 2500;
    /// standard: 10000]
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..=10_000_000),
        value_name = "JOBS"
    )]
    pub sizes: Vec<u64>,
    /// How many graphs `many-graphs` has
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000),
        value_name = "N"
    )]
    pub graphs: u64,
    /// Also in open loop, at so many requests a second, separated by commas; by default `register`
    /// alone, at 500; standard: `register` on Postgres alone, at 200, 800 and 3200
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..=1_000_000),
        value_name = "R"
    )]
    pub rates: Vec<u64>,
    /// What reads what in the graphs that are made
    #[arg(long, value_enum, default_value_t = Shape::ScaleFree)]
    pub shape: Shape,
    /// Measure on the graph of this file, as `import` reads it, instead of graphs that are made
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sizes", "shape"])]
    pub graph: Option<PathBuf>,
    /// Clients at once, each with one connection, but where a workload says otherwise
    #[arg(
        long,
        default_value_t = WRITERS,
        value_parser = clap::value_parser!(u32).range(1..=1_000),
        value_name = "N"
    )]
    pub writers: u32,
    /// How often each point is measured, each time among all others in another order. With fewer
    /// than six no pair is told apart
    #[arg(
        long,
        default_value_t = 6,
        value_parser = clap::value_parser!(u32).range(1..=1_000),
        value_name = "N"
    )]
    pub blocks: u32,
    /// How long each point is measured, in seconds [default: 0.35; standard: 0.6]
    #[arg(long, value_parser = crate::bench::positive, value_name = "S")]
    pub seconds: Option<f64>,
    /// Warm-up before each window, in seconds [default: 0.1; standard: 0.3]
    #[arg(long, value_parser = crate::bench::not_negative, value_name = "S")]
    pub warmup_seconds: Option<f64>,
    /// Measure on this Postgres, in databases that are made and removed there, instead of one that
    /// is started; as postgres://USER@HOST/DATABASE. The user must be allowed to create databases
    /// (CREATEDB) and to make checkpoints (pg_checkpoint)
    #[arg(long, env = "FENCEPOST_BENCH_POSTGRES_URL", hide_env_values = true, value_name = "URL")]
    pub postgres_url: Option<String>,
    /// Keep locks on this Redis, where a few short keys of each point stay, instead of one that is
    /// started; as redis://HOST
    #[arg(long, env = "FENCEPOST_BENCH_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,
    /// Measure this server too, which somebody has started: what it is to be called, and its nodes.
    /// It must speak the API (docs/YOUR-VARIANT.md). A new graph is made there for each point
    #[arg(long, value_parser = Given::parse, value_name = "NAME=URL[,URL…]", conflicts_with = "graph")]
    pub target: Vec<Given>,
    /// What an answered write of that server survives: nothing, a crash of its processes, or of the
    /// machine. Figures of different durability are never drawn on one axis
    #[arg(long, value_parser = Survives::parse, value_name = "NAME=nothing|process|machine")]
    pub target_survives: Vec<Survives>,
    /// A/A: measure each design twice in each block, and compare the two, to see how often a
    /// difference is found where there is none. Takes twice as long
    #[arg(long)]
    pub a_a: bool,
    /// Only designs of declared pairs, in closed loops and in the profile's usual settings: a quick
    /// check of a change, before and after it
    #[arg(long, conflicts_with = "rates")]
    pub only_pairs: bool,
    /// Another seed, other requests in another order
    #[arg(
        long,
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(..=u64::MAX >> 1)
    )]
    pub seed: u64,
    /// Go on where a run with the same arguments was ended. In a block in which a point of a load
    /// is missing, all points of that load are measured again
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Print what would be measured, and how long it would take
    #[arg(long)]
    pub dry_run: bool,
    /// Neither record nor check answers: to compare with a run that does, and see what that costs.
    /// Pairs are not compared
    #[arg(long)]
    pub no_check: bool,
}

/// Which points are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// All pairs of designs on SQLite and a graph of 2,500 jobs: three minutes, nothing to install
    Quick,
    /// Designs of pairs on Postgres too, with Redis and with its own lock, on one to four nodes,
    /// near and far, and all designs in `register` there: less than an hour. Starts servers of its
    /// own, unless they are given
    Standard,
}

impl Profile {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
        }
    }
}

impl RunArgs {
    /// What the graphs are called by: their shape, or the file.
    pub fn shape_name(&self) -> String {
        match &self.graph {
            Some(file) => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            None => shape_name(self.shape),
        }
    }

    /// How long each window is.
    pub fn window_seconds(&self) -> f64 {
        let usual = match self.profile {
            Profile::Quick => 0.35,
            Profile::Standard => 0.6,
        };
        self.seconds.unwrap_or(usual)
    }

    /// How long each warm-up is.
    pub fn warmup_seconds(&self) -> f64 {
        let usual = match self.profile {
            Profile::Quick => 0.1,
            Profile::Standard => 0.3,
        };
        self.warmup_seconds.unwrap_or(usual)
    }

    /// The directory of the run.
    pub fn directory(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            PathBuf::from(format!("fencepost-bench-{}", now.replace(':', "")))
        })
    }
}

#[cfg(test)]
impl RunArgs {
    /// As on a command line, of which the first word is the program's.
    pub fn of_line(line: &str) -> Result<Self, clap::Error> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RunArgs,
        }
        clap::Parser::try_parse_from(line.split(' ')).map(|line: Line| line.args)
    }
}

/// The shape's name, as on the command line.
#[must_use]
pub fn shape_name(shape: Shape) -> String {
    shape.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
