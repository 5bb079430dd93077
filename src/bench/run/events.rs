//! What happens in the middle of a window, and what the window shows of it: a node that is killed, a
//! lock that is forgotten, a database that is started again, somebody who joins late.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::child::{how_it_ended, output_within};
use super::nodes::Node;
use super::place::{GRAPH, command, serve};
use super::servers::Servers;
use super::setting::Setting;
use super::site::Site;
use super::statistics::median;
use crate::bench::BenchError;
use crate::bench::request::{Outcome as Answer, Request};
use crate::bench::target::{Connection, HttpTarget, Target};
use crate::bench::timeline::{MOST, Part};
use crate::design::Design;
use crate::graph::Name;
use crate::object::objects_both_ways;
use crate::service::Service;

/// When it happens, from the beginning of the window.
pub const AT: Duration = Duration::from_secs(2);
/// How long such a window is, in seconds: longer than a lease after that.
pub const WINDOW_SECONDS: f64 = 10.0;
/// How long the warm-up is, in seconds.
pub const WARMUP_SECONDS: f64 = 1.0;
/// How long each part of the time-line is, in seconds.
pub const PART_SECONDS: f64 = 0.25;
/// Requests a second in such a window: what every design can do.
pub const RATE: u64 = 100;
/// So many parts, one after another, that are as before: then it is over.
const CALM_PARTS: usize = 4;
/// Half of all requests take no longer than this many times what they took before.
const CALM_TIMES: f64 = 3.0;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The node that leads the graph, or holds its lock, is killed; where nobody does, the first.
    NodeKilled,
    /// Redis forgets all that it knows.
    LockForgotten,
    /// Postgres ends at once, as by `pg_ctl stop -m immediate`, and is started again.
    DatabaseRestarted,
    /// Another node starts, and is asked for the graph.
    NodeJoins,
    /// The whole log is exported.
    LogIsExported,
}

/// A window in which something happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct TimeLine {
    /// What happened.
    pub event: String,
    /// When that began, in seconds from the beginning of the window.
    pub at_seconds: f64,
    /// How long it took: of a killed node nothing, of a server that was started again until it
    /// answered, of who joined until it had the graph.
    pub took_seconds: f64,
    /// How long each part is.
    pub part_seconds: f64,
    /// The parts of the window.
    pub parts: Vec<Part>,
    /// From when it happened until all is as before; none if that was not seen.
    pub recovered_seconds: Option<f64>,
}

objects_both_ways!(TimeLine);

impl TimeLine {
    /// From the event on, the first part from which on some in a row are as those before the event
    /// were: all requests completed, half of them in about the time that they took before. Until that
    /// part begins, or nothing, if that is the one in which it happened. `None` if there is none, or
    /// nothing before.
    #[must_use]
    pub fn recovery(parts: &[Part], part_seconds: f64, at_seconds: f64) -> Option<f64> {
        let of_event = (at_seconds / part_seconds) as usize;
        let before: Vec<f64> = parts.iter().take(of_event).filter_map(|part| part.p50_us).collect();
        let usual = median(&before)?;
        let is_calm = |part: &Part| {
            part.refused == 0
                && part.failed == 0
                && part.p50_us.is_some_and(|p50| p50 <= CALM_TIMES * usual)
        };
        let after = parts.get(of_event..)?;
        let calm = after.windows(CALM_PARTS).position(|parts| parts.iter().all(is_calm))?;
        Some((after[calm].from_seconds - at_seconds).max(0.0))
    }

    /// Whether it fits together: the parts are those of a window, and what is said of them is so.
    ///
    /// # Errors
    /// Says what does not.
    pub fn validate(&self) -> Result<(), String> {
        let Self { at_seconds, took_seconds, part_seconds, parts, recovered_seconds, .. } = self;
        if !(*part_seconds > 0.0 && parts.len() <= MOST) {
            return Err(format!("`part_seconds` is {part_seconds}, of {} parts", parts.len()));
        }
        for (name, seconds) in [("at_seconds", at_seconds), ("took_seconds", took_seconds)] {
            if !(0.0..=1e9).contains(seconds) {
                return Err(format!("`{name}` is {seconds}"));
            }
        }
        let is_in_place = |(index, part): (usize, &Part)| {
            (part.from_seconds - index as f64 * part_seconds).abs() < 1e-6
        };
        if !parts.iter().enumerate().all(is_in_place) {
            return Err("`parts` do not follow each other".to_owned());
        }
        let made = Self::recovery(parts, *part_seconds, *at_seconds);
        let differ = match (recovered_seconds, made) {
            // But for the digits that are written.
            (Some(said), Some(made)) => (said - made).abs() > 1e-9,
            (said, made) => said.is_some() != made.is_some(),
        };
        if differ {
            return Err(format!("`recovered_seconds` is {recovered_seconds:?}, not {made:?}"));
        }
        Ok(())
    }
}

/// What was done.
pub struct Struck {
    /// In words.
    pub event: String,
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

/// How long a command may take, and a node to have the graph.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// How often a node is stopped to see whether it holds the lock.
const TRIES: usize = 40;

impl Event {
    /// Whether it is something of servers, which an SQLite database has not.
    #[must_use]
    pub fn needs_servers(self) -> bool {
        matches!(self, Self::LockForgotten | Self::DatabaseRestarted)
    }

    /// Makes it happen. Of `nodes`, one that was killed is taken out.
    ///
    /// # Errors
    /// [`BenchError`] if it cannot.
    pub fn strike(self, scene: &Scene<'_>, nodes: &mut Vec<Node>) -> Result<Struck, BenchError> {
        if self == Self::NodeKilled {
            let (victim, event) = scene.victim(nodes)?;
            let at = Instant::now();
            drop(nodes.remove(victim));
            return Ok(Struck { event, at, took: Duration::ZERO });
        }
        let at = Instant::now();
        let event = match self {
            Self::NodeKilled => unreachable!("see above"),
            Self::LockForgotten => {
                forget_all(&scene.servers.own_redis()?)?;
                "Redis has forgotten all that it knew".to_owned()
            }
            Self::DatabaseRestarted => {
                scene.servers.postgres()?.restart()?;
                "Postgres was ended and started again".to_owned()
            }
            Self::NodeJoins => {
                nodes.push(scene.join()?);
                "another node has started, and has the graph".to_owned()
            }
            Self::LogIsExported => {
                scene.export()?;
                "the whole log was exported".to_owned()
            }
        };
        Ok(Struck { event, at, took: at.elapsed() })
    }
}

impl Scene<'_> {
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
                if self.is_held_by(node.process())? {
                    let event = format!("node {}, which held the lock, was killed", index + 1);
                    return Ok((index, event));
                }
                node.go_on();
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
        let (arguments, log) = (serve(self.design, self.setting), self.place.join("late.log"));
        let node = Node::start(self.program, self.site.urls(), &arguments, &log)
            .map_err(|error| BenchError::Unavailable(error.to_string()))?;
        let graph = Name::new(GRAPH).expect("a name");
        let target = HttpTarget::new(&[node.url().to_owned()], graph, DONE_WITHIN)?;
        match target.connect().perform(&Request::Graph).outcome {
            Answer::Answered { .. } => Ok(node),
            other => Err(BenchError::Unavailable(format!(
                "the first answer of the node that joins was {}",
                other.label()
            ))),
        }
    }

    fn export(&self) -> Result<(), BenchError> {
        self.said_by(&["export", "--graph", GRAPH]).map(drop)
    }
}

/// Whether it says that it leads the graph.
fn leads(node: &Node) -> Result<bool, BenchError> {
    let graph = Name::new(GRAPH).expect("a name");
    let target = HttpTarget::new(&[node.url().to_owned()], graph, DONE_WITHIN)?;
    let metrics = target.metrics().into_iter().flatten().next().unwrap_or_default();
    let led = metrics.lines().find_map(|line| line.strip_prefix("fencepost_leader_graphs "));
    Ok(led.is_some_and(|led| led.trim() != "0"))
}

/// Has the Redis server at that place, `HOST:PORT`, forget all.
fn forget_all(place: &str) -> Result<(), BenchError> {
    let told = TcpStream::connect(place).and_then(|mut stream| {
        stream.set_read_timeout(Some(DONE_WITHIN))?;
        stream.write_all(b"*1\r\n$8\r\nFLUSHALL\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    });
    match told {
        Ok(answer) if &answer == b"+OK\r\n" => Ok(()),
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

    /// Nobody need wait any more.
    pub fn is_over(&self) {
        drop(self.began.lock().map(|mut began| began.take()));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each part with the time that half of its requests took, and how many were refused.
    fn parts(of: &[(f64, u64)]) -> Vec<Part> {
        let part = |(index, (p50_us, refused)): (usize, &(f64, u64))| Part {
            from_seconds: index as f64 * PART_SECONDS,
            completed: 10,
            refused: *refused,
            failed: 0,
            answered: 10,
            p50_us: (*p50_us > 0.0).then_some(*p50_us),
            max_us: None,
        };
        of.iter().enumerate().map(part).collect()
    }

    #[test]
    fn all_is_as_before_when_some_parts_in_a_row_are() {
        let recovery = |of: &[(f64, u64)]| TimeLine::recovery(&parts(of), PART_SECONDS, 0.625);
        let calm = [(100.0, 0); 4];
        let before = [(100.0, 0), (120.0, 0)];
        let with = |after: &[(f64, u64)]| recovery(&[&before[..], after, &calm].concat());
        assert_eq!(with(&[]), Some(0.0), "nothing was seen of it");
        assert_eq!(with(&[(100.0, 1)]), Some(0.125), "refused");
        assert_eq!(with(&[(400.0, 0), (100.0, 0), (0.0, 0)]), Some(0.625), "slow, then nobody");
        assert_eq!(recovery(&[&before[..], &calm[1..]].concat()), None, "too few to say");
        assert_eq!(recovery(&calm[..1]), None);
    }

    #[test]
    fn a_time_line_is_refused_that_does_not_fit_together() {
        let parts = parts(&[(100.0, 0); 8]);
        let line = TimeLine {
            event: "it rained".to_owned(),
            at_seconds: 0.6,
            took_seconds: 0.0,
            part_seconds: PART_SECONDS,
            recovered_seconds: Some(0.0),
            parts,
        };
        assert_eq!(line.validate(), Ok(()));
        let refused = |change: fn(&mut TimeLine), says: &str| {
            let mut other = line.clone();
            change(&mut other);
            let said = other.validate().unwrap_err();
            assert!(said.contains(says), "{said}");
        };
        refused(|line| line.part_seconds = 0.0, "`part_seconds`");
        refused(|line| line.at_seconds = -1.0, "`at_seconds`");
        refused(|line| line.took_seconds = f64::NAN, "`took_seconds`");
        refused(|line| line.recovered_seconds = Some(1.0), "`recovered_seconds`");
        refused(|line| line.parts.swap(2, 3), "do not follow");
    }

    #[test]
    fn a_time_line_is_there_where_something_happens_and_nowhere_else() {
        use super::super::results::{Key, Outcome};
        use super::super::{made_up, workloads};
        for workload in &workloads::ALL {
            let results = made_up::pair(&[1.0], |_| {});
            let key = Key { workload: workload.name.to_owned(), ..results.points[0].key.clone() };
            assert_eq!(key.has_event(), workload.event.is_some(), "{}", workload.name);
        }
        let mut results = made_up::pair(&[2_000.0], |_| {});
        results.points[1].key.workload = "node-killed".to_owned();
        let said = results.validate().unwrap_err();
        assert!(said.contains("timeline` is none"), "{said}");
        let mut results = made_up::pair(&[2_000.0], |outcome| {
            let Outcome::Measured(measured) = outcome else { panic!() };
            measured.timeline = Some(TimeLine {
                event: String::new(),
                at_seconds: 0.0,
                took_seconds: 0.0,
                part_seconds: 1.0,
                recovered_seconds: None,
                parts: Vec::new(),
            });
        });
        results.comparisons = None;
        let said = results.validate().unwrap_err();
        assert!(said.contains("in which nothing happens"), "{said}");
    }
}
