//! Makes happen what is to happen in the middle of a window.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::child::{how_it_ended, output_within};
use super::events::Event;
use super::nodes::Node;
use super::place::{GRAPH, command, serve};
use super::servers::Servers;
use super::setting::Setting;
use super::site::Site;
use crate::bench::BenchError;
use crate::bench::target::{Connection, HttpTarget, Target};
use crate::design::Design;
use crate::service::Service;

/// What was done.
pub struct Struck {
    /// In words.
    pub event: String,
    /// When it was prepared: from then on nodes may have been held up.
    pub prepared: Instant,
    /// When that began.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

/// Where it happens.
pub struct Scene<'s> {
    /// This program.
    pub program: &'s Path,
    /// The design of the nodes.
    pub design: &'static Design,
    /// What they are measured on.
    pub setting: &'s Setting,
    /// Their databases.
    pub site: &'s Site<'s>,
    /// Servers of databases and locks.
    pub servers: &'s Servers,
    /// A directory for files.
    pub place: &'s Path,
}

/// What a node says that joins.
pub const LATE_LOG: &str = "server-late.log";

/// How long a command may take, and a node to have the graph.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// How often a node is stopped to see whether it holds the lock.
const TRIES: usize = 40;

impl Scene<'_> {
    /// Makes it happen. Of `nodes`, one that was killed is taken out, and one that joins added.
    ///
    /// # Errors
    /// [`BenchError`] if it cannot.
    pub fn strike(&self, event: Event, nodes: &mut Vec<Node>) -> Result<Struck, BenchError> {
        let began = Instant::now();
        let event = match event {
            Event::NodeKilled => {
                let (victim, event) = self.victim(nodes)?;
                let at = Instant::now();
                drop(nodes.remove(victim));
                return Ok(Struck { event, prepared: began, at, took: Duration::ZERO });
            }
            Event::LockForgotten => {
                let (place, password) = self.servers.own_redis()?;
                forget_all(&place, &password)?;
                "Redis has forgotten all that it knew"
            }
            Event::DatabaseRestarted => {
                self.servers.postgres()?.restart()?;
                "Postgres was ended and started again"
            }
            Event::NodeJoins => {
                nodes.push(self.join()?);
                "another node has started, and has the graph"
            }
            Event::LogIsExported => {
                self.export()?;
                "the whole log was exported"
            }
        };
        Ok(Struck { event: event.to_owned(), prepared: began, at: began, took: began.elapsed() })
    }

    /// Which node is to be killed, and why that one. It is stopped then, or as good as.
    fn victim(&self, nodes: &[Node]) -> Result<(usize, String), BenchError> {
        if self.design.has_leader() {
            for (index, node) in nodes.iter().enumerate() {
                if leads(node)? {
                    return Ok((index, format!("node {}, which led, was killed", index + 1)));
                }
            }
        }
        if self.design.takes_lock() {
            for index in (0..nodes.len()).cycle().take(TRIES) {
                let node = &nodes[index];
                // Whoever is stopped holds what it held, until its lease is over.
                node.pause();
                let held = self.is_held_by(node.process());
                if !matches!(held, Ok(true)) {
                    node.go_on();
                }
                if held? {
                    let event = format!("node {}, which held the lock, was killed", index + 1);
                    return Ok((index, event));
                }
            }
        }
        Ok((0, "node 1 was killed".to_owned()))
    }

    /// Whether that process holds the graph's lock for itself. Redis knows it as `HOST:PROCESS:…`.
    fn is_held_by(&self, process: u32) -> Result<bool, BenchError> {
        let said = self.said_by(&["lock", "inspect", "--graph", GRAPH])?;
        let names = [format!(":{process}:"), format!("process {process} ")];
        let is_its = |line: &str| {
            line.starts_with("held ")
                && line.contains(" exclusive by ")
                && names.iter().any(|name| line.contains(name))
        };
        Ok(said.lines().any(is_its))
    }

    /// What a command of this program says.
    fn said_by(&self, arguments: &[&str]) -> Result<String, BenchError> {
        let mut command = command(self.program);
        self.site.urls().give_to(&mut command);
        command.args(arguments).env("RUST_LOG", "warn");
        let unavailable = |what: String| BenchError::Unavailable(what);
        let output = output_within(&mut command, DONE_WITHIN)
            .map_err(|error| unavailable(error.to_string()))?
            .ok_or_else(|| unavailable(format!("`{}` took too long", arguments.join(" "))))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(unavailable(how_it_ended(&output))),
        }
    }

    fn join(&self) -> Result<Node, BenchError> {
        let (arguments, log) = (serve(self.design, self.setting), self.place.join(LATE_LOG));
        let node = Node::start(self.program, self.site.urls(), &arguments, &log)
            .map_err(|error| BenchError::Unavailable(error.to_string()))?;
        node.load(DONE_WITHIN)?;
        Ok(node)
    }

    fn export(&self) -> Result<(), BenchError> {
        self.said_by(&["export", "--graph", GRAPH, "--to", "-"]).map(drop)
    }
}

/// Whether it says that it leads the graph.
fn leads(node: &Node) -> Result<bool, BenchError> {
    let metrics =
        node.target(DONE_WITHIN)?.metrics().into_iter().flatten().next().unwrap_or_default();
    let led = metrics.lines().find_map(|line| line.strip_prefix("fencepost_leader_graphs "));
    Ok(led.is_some_and(|led| led.trim() != "0"))
}

/// Has the Redis server at that place, `HOST:PORT`, forget all.
fn forget_all(place: &str, password: &str) -> Result<(), BenchError> {
    let told = TcpStream::connect(place).and_then(|mut stream| {
        stream.set_read_timeout(Some(DONE_WITHIN))?;
        let length = password.len();
        let asked =
            format!("*2\r\n$4\r\nAUTH\r\n${length}\r\n{password}\r\n*1\r\n$8\r\nFLUSHALL\r\n");
        stream.write_all(asked.as_bytes())?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    });
    match told {
        Ok(answer) if &answer == b"+OK\r\n+OK\r\n" => Ok(()),
        Ok(answer) => {
            let said = String::from_utf8_lossy(&answer);
            Err(BenchError::Unavailable(format!("Redis does not forget: {said}")))
        }
        Err(error) => Err(BenchError::Unavailable(format!("Redis: {error}"))),
    }
}

/// Nodes as the driver asks them, and a word to whoever waits for the beginning of the window.
pub struct Begins {
    inner: HttpTarget,
    began: Mutex<Option<Sender<Instant>>>,
}

impl Begins {
    /// With where it is said when the window begins.
    #[must_use]
    pub fn new(inner: HttpTarget) -> (Self, Receiver<Instant>) {
        let (began, begins) = channel();
        (Self { inner, began: Mutex::new(Some(began)) }, begins)
    }
}

/// Nobody need wait for the beginning any more when this is dropped, however the load has ended.
pub struct Over<'b>(pub &'b Begins);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        drop(self.0.began.lock().map(|mut began| began.take()));
    }
}

impl Target for Begins {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn connect(&self) -> Box<dyn Connection> {
        self.inner.connect()
    }

    fn nodes(&self) -> usize {
        self.inner.nodes()
    }

    fn metrics(&self) -> Vec<Option<String>> {
        if let Ok(mut began) = self.began.lock()
            && let Some(began) = began.take()
        {
            // Whoever waits has gone if the run is over.
            let _ = began.send(Instant::now());
        }
        self.inner.metrics()
    }

    fn service(&self) -> Option<&Service> {
        None
    }
}
