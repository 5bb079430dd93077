//! `fencepost serve`

use std::env::VarError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fencepost::design::TurnLimits;
use fencepost::http::{
    self, Access, AllowedHost, AllowedOrigin, ForwardSecret, HttpLimits, LostHeaders,
};
use fencepost::node::{self, NodeError};
use fencepost::service::{Limits, Service};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::arguments::at_least_one;
use super::failure::Failure;
use super::node::NodeArgs;

/// Serve HTTP until interrupted
#[derive(Args)]
pub struct ServeArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8000")]
    address: SocketAddr,
    /// Listen beyond this machine although anyone who reaches the address may then read and write
    #[arg(long)]
    allow_anonymous: bool,
    /// Where clients reach this process, as http://HOST:PORT: what other nodes tell clients who ask
    /// them for a graph that this one leads. Without it, the address where it listens, unless that
    /// is one of all addresses of the machine
    #[arg(long, value_parser = advertised, value_name = "URL")]
    advertise: Option<String>,
    /// A file with the secret by which nodes of several machines know each other, the same for all:
    /// a node that does not lead a graph passes writes on to the one that does. Without it, and
    /// without FENCEPOST_FORWARD_SECRET, which may hold the secret itself, they do so on one
    /// machine only
    #[arg(long, env = "FENCEPOST_FORWARD_SECRET_FILE", value_name = "PATH")]
    forward_secret_file: Option<PathBuf>,
    /// Also serve requests that name this host, besides IP addresses and localhost: HOST, or
    /// HOST:PORT for this port only. All others are refused, since a web page may have its own name
    /// resolve to this machine. May be given several times. On other addresses than loopback, hosts
    /// and origins are checked only if one of them is given
    #[arg(long, value_name = "HOST")]
    allowed_host: Vec<AllowedHost>,
    /// Also take requests of web pages of this origin, as https://HOST or https://HOST:PORT,
    /// besides the service's own: for a proxy that shows the service under another name. No CORS
    /// headers are sent. May be given several times
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<AllowedOrigin>,
    /// The largest request body, in bytes
    #[arg(long, default_value_t = HttpLimits::default().body_bytes, value_name = "BYTES")]
    body_limit_bytes: u64,
    /// The largest plan, in jobs
    #[arg(
        long,
        default_value_t = HttpLimits::default().plan_jobs,
        value_parser = at_least_one,
        value_name = "JOBS"
    )]
    plan_limit_jobs: usize,
    /// The largest answer of upstream and downstream, in names
    #[arg(
        long,
        default_value_t = HttpLimits::default().reachable_names,
        value_parser = at_least_one,
        value_name = "NAMES"
    )]
    reachable_limit_names: usize,
    /// Long computations (plans, digests, lists) at once
    #[arg(
        long,
        default_value_t = HttpLimits::default().computations,
        value_parser = at_least_one,
        value_name = "N"
    )]
    computations: usize,
    /// Writes that may wait for one graph
    #[arg(
        long,
        default_value_t = Limits::default().waiting_writes,
        value_parser = at_least_one,
        value_name = "N"
    )]
    waiting_writes: usize,
    /// Reads that may wait for one graph
    #[arg(
        long,
        default_value_t = Limits::default().waiting_reads,
        value_parser = at_least_one,
        value_name = "N"
    )]
    waiting_reads: usize,
    /// Writes that one turn serves
    #[arg(
        long,
        default_value_t = Limits::default().batch_writes,
        value_parser = at_least_one,
        value_name = "N"
    )]
    batch_writes: usize,
    /// Bytes of request bodies that one turn of writes serves, beyond its first request
    #[arg(
        long,
        default_value_t = Limits::default().batch_bytes,
        value_parser = at_least_one,
        value_name = "BYTES"
    )]
    batch_bytes: usize,
    /// How long a turn decides writes, in milliseconds, before the rest waits for the next turn
    #[arg(
        long,
        default_value_t = Limits::default().batch_time.as_millis() as u64,
        value_name = "MS"
    )]
    batch_time_ms: u64,
    /// How long a turn waits for the lock, in milliseconds
    #[arg(
        long,
        default_value_t = TurnLimits::default().locked.wait.as_millis() as u64,
        value_name = "MS"
    )]
    lock_wait_ms: u64,
    /// Streams that are open at once: live tails, change logs and snapshots
    #[arg(
        long,
        default_value_t = HttpLimits::default().streams,
        value_parser = at_least_one,
        value_name = "N"
    )]
    streams: usize,
    /// After how long a live tail without news sends a heartbeat, in milliseconds
    #[arg(
        long,
        default_value_t = HttpLimits::default().heartbeat.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "MS"
    )]
    heartbeat_ms: u64,
    /// How long a shutdown lets accepted requests finish, in seconds
    #[arg(long, default_value_t = HttpLimits::default().shutdown_grace.as_secs(), value_name = "S")]
    shutdown_grace_s: u64,
}

const SECRET_VARIABLE: &str = "FENCEPOST_FORWARD_SECRET";

impl ServeArgs {
    /// The secret of nodes that pass writes on, if there is one.
    fn forward_secret(&self) -> Result<Option<ForwardSecret>, Failure> {
        let unusable = |from: &str, what: &dyn std::fmt::Display| {
            Failure::usage(format!("the secret in {from} cannot be used: {what}"))
        };
        let given = match (&self.forward_secret_file, std::env::var(SECRET_VARIABLE)) {
            (Some(path), _) => {
                let from = format!("the file {}", path.display());
                let text =
                    std::fs::read_to_string(path).map_err(|error| unusable(&from, &error))?;
                Some((from, text))
            }
            (None, Ok(text)) if text.is_empty() => None,
            (None, Ok(text)) => Some((SECRET_VARIABLE.to_owned(), text)),
            (None, Err(VarError::NotPresent)) => None,
            (None, Err(error)) => return Err(unusable(SECRET_VARIABLE, &error)),
        };
        let read = |(from, text): (String, String)| {
            ForwardSecret::given(&text).map_err(|error| unusable(&from, &error))
        };
        given.map(read).transpose()
    }
}

/// An `http` or `https` URL without a path, a user or a password.
fn advertised(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_host = |rest: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || "-._~:[]%".contains(c);
        // In brackets there is none.
        let port = rest.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
        !rest.is_empty()
            && rest.chars().all(inside)
            && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(host) if is_host(host) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("give http://HOST:PORT or https://HOST:PORT".to_owned()),
    }
}

/// Lets the process open as many files as it may: each graph that it leads by a lock in files takes
/// one, and so does each connection. The usual limit, 1,024, is meant for programs that use
/// `select`.
fn raise_limit_of_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("no more files can be opened than {:?}: {error}", limit.current);
    }
}

pub fn run(node: &NodeArgs, args: &ServeArgs, lost_headers: LostHeaders) -> Result<(), Failure> {
    let on_loopback = args.address.ip().is_loopback();
    if !on_loopback && !args.allow_anonymous {
        let message = format!(
            "{} can be reached from other machines, and nobody is asked who they are: \
             listen on 127.0.0.1, or say --allow-anonymous",
            args.address
        );
        return Err(Failure::usage(message));
    }
    let secret = args.forward_secret()?;
    let mut options = node.options()?;
    let designs = options.designs().map_err(NodeError::from)?;
    options.limits.waiting_writes = args.waiting_writes;
    options.limits.waiting_reads = args.waiting_reads;
    options.limits.batch_writes = args.batch_writes;
    options.limits.batch_bytes = args.batch_bytes;
    options.limits.batch_time = Duration::from_millis(args.batch_time_ms);
    options.turn_limits.locked.wait = Duration::from_millis(args.lock_wait_ms);
    // Under a design that loads the graph for each request, a place in memory comes free when
    // another turn ends, as the lock does. So a turn waits for either equally long.
    options.limits.load_wait = options.turn_limits.locked.wait;
    let limits = HttpLimits {
        body_bytes: args.body_limit_bytes,
        plan_jobs: args.plan_limit_jobs,
        reachable_names: args.reachable_limit_names,
        computations: args.computations,
        streams: args.streams,
        heartbeat: Duration::from_millis(args.heartbeat_ms),
        shutdown_grace: Duration::from_secs(args.shutdown_grace_s),
        ..HttpLimits::default()
    };
    let cannot_serve = |reason: String| {
        Failure::unavailable(format!("cannot serve on {}: {reason}", args.address))
    };
    raise_limit_of_open_files();
    // Opening the database may migrate it, which must not happen if nothing is served then.
    http::check_address(args.address).map_err(|error| cannot_serve(error.to_string()))?;
    let service: Service = node::open(&options)?;
    let (database, design) = (options.database.clone(), designs);
    let (advertise, of_ready) = (args.advertise.clone(), service.clone());
    let has_secret = secret.is_some();
    let ready = move |address: SocketAddr| {
        let here = || (!address.ip().is_unspecified()).then(|| format!("http://{address}"));
        let told = advertise.or_else(here);
        if told.is_none() && design.have_leader() {
            log::warn!(
                "clients of other nodes are not told where this one leads graphs: say --advertise"
            );
        } else if !on_loopback && design.have_leader() && !has_secret {
            log::warn!(
                "nodes of other machines pass no writes on to this one: say --forward-secret-file"
            );
        }
        of_ready.serves_at(told.as_deref());
        log::info!(
            target: "fencepost",
            "serving {database} with {design} on http://{address}; see http://{address}/docs"
        )
    };
    let access = Access::new(on_loopback, args.allowed_host.clone(), args.allowed_origin.clone());
    let own_host = args.advertise.as_deref().and_then(|url| url.rsplit_once("//")?.1.parse().ok());
    let access = access.known_as(own_host);
    let served = http::serve(service, args.address, limits, access, lost_headers, secret, ready);
    served.map_err(|error| cannot_serve(error.kind().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_no_client_could_reach_is_not_advertised() {
        for url in ["http://a", "http://a:1/", "https://10.0.0.1:65535", "http://[::1]:80"] {
            assert_eq!(advertised(url).as_deref(), Ok(url.trim_end_matches('/')));
        }
        for wrong in [
            "a:1",
            "http://",
            "http://a:99999",
            "http://a:0",
            "http://a:",
            "http://a:b",
            "http://a/path",
            "http://user@a",
            "http://[::1]:0",
        ] {
            assert!(advertised(wrong).is_err(), "{wrong}");
        }
    }
}
