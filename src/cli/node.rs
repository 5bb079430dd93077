//! The options of all commands that open a database: which it is, by which lock and design.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, ValueEnum};
use fencepost::db::{ANSWER, DatabaseUrl, OpenMode, SESSIONS};
use fencepost::design::{self, Design, Reads};
use fencepost::lock::LEASE;
use fencepost::node::{self, LockUrl, NodeError, NodeOptions};
use fencepost::service::Limits;
use fencepost::store::Store;

use super::failure::Failure;

#[derive(Args)]
pub struct NodeArgs {
    /// Where the graphs are: sqlite:PATH, or postgres://USER@HOST/DATABASE. Commands that only read
    /// make no database
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite:fencepost.db",
        value_name = "URL"
    )]
    pub database_url: String,
    /// The lock that guards them: file:DIR, postgres, or
    /// redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]. Without it, the one that the database names;
    /// at first `file:`, beside an SQLite database, and `postgres` on Postgres
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_LOCK_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    lock_url: Option<String>,
    /// Lock lease: a silent holder loses the lock after this many milliseconds, where the lock has
    /// leases. The same for all processes
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_LOCK_LEASE_MS",
        hide_env_values = true,
        default_value_t = LEASE.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(100..=3_600_000),
        value_name = "MS"
    )]
    lock_lease_ms: u64,
    /// Sessions on a Postgres server at most, those of the postgres lock included; 8 of them run
    /// statements
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_DATABASE_SESSIONS",
        hide_env_values = true,
        default_value_t = SESSIONS,
        value_parser = clap::value_parser!(u32).range(2..=10_000),
        value_name = "N"
    )]
    database_sessions: u32,
    /// How long a Postgres server may take to answer a statement, in milliseconds, before requests
    /// are refused and its session is given up. Statements over a whole graph have 120 s
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_DATABASE_ANSWER_MS",
        hide_env_values = true,
        default_value_t = ANSWER.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(500..=120_000),
        value_name = "MS"
    )]
    database_answer_ms: u64,
    /// How the service is built. Several, separated by commas, each for graphs that are kept in
    /// another way: new graphs are kept as the first has it, and graphs of no design are refused.
    /// Commands other than `serve` and `bench` follow each graph
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_DESIGN",
        hide_env_values = true,
        default_value = design::ALL[0].name,
        value_parser = DesignsParser
    )]
    design: Named,
    /// Whether reads share the lock, or read one snapshot of the database and never wait for a
    /// writer [default: lock, or snapshot where the design takes no lock]
    #[arg(long, global = true, env = "FENCEPOST_READS", hide_env_values = true, value_enum)]
    reads: Option<Reads>,
    /// Whether requests that wait for a graph share its next turn, if the design allows it; off to
    /// measure what sharing gains
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_SHARING",
        hide_env_values = true,
        default_value = "on",
        value_enum
    )]
    sharing: Sharing,
    /// Batches of waiting writes that are decided while the commit before them is under way; 0 to
    /// measure what that is worth. Only where the design keeps images
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_BATCHES_AHEAD",
        hide_env_values = true,
        default_value_t = Limits::default().ahead as u8,
        value_parser = clap::value_parser!(u8).range(..=8),
        value_name = "N"
    )]
    batches_ahead: u8,
    /// A snapshot of a graph is taken when its log has grown by this many MiB, and by as much as
    /// the last snapshot has; 0: none are taken. Graphs are loaded from snapshots
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_SNAPSHOT_LOG_MIB",
        hide_env_values = true,
        default_value_t = Limits::default().snapshot_log_bytes >> 20,
        value_name = "MIB"
    )]
    snapshot_log_mib: u64,
    /// Memory for cached graphs, in MiB. Above it the least recently used are evicted and loaded
    /// again when needed. A graph in use is never evicted
    #[arg(
        long,
        global = true,
        env = "FENCEPOST_GRAPH_MEMORY_MIB",
        hide_env_values = true,
        default_value_t = Limits::default().graph_bytes >> 20,
        value_name = "MIB"
    )]
    graph_memory_mib: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sharing {
    /// One turn serves all that wait, within its limits
    On,
    /// A turn for each request
    Off,
}

/// Designs by their names, in the order in which they were given.
#[derive(Clone)]
struct Named(Vec<&'static Design>);

/// Reads names of designs, separated by commas.
#[derive(Clone)]
struct DesignsParser;

impl DesignsParser {
    fn one() -> PossibleValuesParser {
        let value = |design: &'static Design| PossibleValue::new(design.name).help(design.summary);
        PossibleValuesParser::new(design::ALL.iter().copied().map(value))
    }
}

impl TypedValueParser for DesignsParser {
    type Value = Named;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Named, clap::Error> {
        let text = value.to_str().unwrap_or_default();
        let designs: Option<Vec<_>> = text.split(',').map(design::named).collect();
        match designs {
            Some(designs) => Ok(Named(designs)),
            // The whole value is told: whether a part of it may be shown, nobody knows.
            None => Err(match Self::one().parse_ref(command, argument, value) {
                Err(error) => error,
                Ok(_) => unreachable!("one name is a list of names"),
            }),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values: Vec<PossibleValue> = Self::one().possible_values()?.collect();
        Some(Box::new(values.into_iter()))
    }
}

impl NodeArgs {
    /// Those of these options that were given on the command line, as in `--design`. What the
    /// environment sets is not among them: it is set for many commands at once.
    pub fn given(matches: &ArgMatches) -> Vec<String> {
        let own = Self::augment_args(Command::new("node"));
        let is_given = |option: &&Arg| {
            matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        let given = own.get_arguments().filter(is_given);
        given.filter_map(|option| Some(format!("--{}", option.get_long()?))).collect()
    }

    pub fn options(&self) -> Result<NodeOptions, Failure> {
        let database = DatabaseUrl::parse(&self.database_url).map_err(NodeError::from)?;
        let lock_url = self.lock_url.as_deref().map(LockUrl::parse).transpose()?;
        let lease = Duration::from_millis(self.lock_lease_ms);
        let mut designs = self.design.0.iter().copied();
        let design = designs.next().unwrap_or_default();
        let (other_designs, reads) = (designs.collect(), self.reads);
        let mut options = NodeOptions {
            lock_url,
            lease,
            design,
            other_designs,
            reads,
            ..NodeOptions::new(database)
        };
        options.designs().map_err(NodeError::from)?.reads(reads).map_err(NodeError::from)?;
        options.pool.sessions = self.database_sessions;
        options.pool.answer = Duration::from_millis(self.database_answer_ms);
        options.limits.share_turns = self.sharing == Sharing::On;
        options.limits.ahead = usize::from(self.batches_ahead);
        options.limits.snapshot_log_bytes = match self.snapshot_log_mib {
            0 => u64::MAX,
            mib => mib.saturating_mul(1 << 20),
        };
        options.limits.graph_bytes = self.graph_memory_mib.saturating_mul(1 << 20);
        Ok(options)
    }

    /// The store of a database that is only read: nothing is created or changed.
    pub fn reading(&self) -> Result<Store, Failure> {
        Ok(node::open_store_for(OpenMode::Read, &self.options()?)?)
    }

    /// The store of a database that must exist.
    pub fn changing(&self) -> Result<Store, Failure> {
        Ok(node::open_store_for(OpenMode::Change, &self.options()?)?)
    }
}
