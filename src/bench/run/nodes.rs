//! Server processes.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::place::{GRAPH, Urls, command};
use crate::bench::BenchError;
use crate::bench::request::{Outcome, Request};
use crate::bench::target::{HttpTarget, Target as _};
use crate::graph::Name;

/// How long a server may take until it listens.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(1);
/// How much of what a server has said is told when it ends.
const TOLD_CHARS: usize = 300;

/// A server of this program that listens on a port of its own. Killed when dropped.
pub struct Node {
    child: Child,
    url: String,
    started: Instant,
    log: PathBuf,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The program cannot be run.
    #[error("{} could not be started: {error}", program.display())]
    NotStarted {
        /// Which.
        program: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It ended before it listened, or took too long.
    #[error("a server did not start to listen: {0}")]
    NotListening(String),
}

impl Node {
    /// Starts the program with these arguments, which make it say on standard error that it serves
    /// `on http://ADDRESS`. What it says goes to the file `log`.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start(
        program: &Path,
        urls: &Urls,
        arguments: &[String],
        log: &Path,
    ) -> Result<Self, NodeError> {
        let not_started = |error| NodeError::NotStarted { program: program.to_owned(), error };
        let mut command = command(program);
        urls.give_to(&mut command);
        command.args(arguments).env("RUST_LOG", "info");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut file = std::fs::File::create(log).map_err(not_started)?;
        let started = Instant::now();
        let mut child = command.spawn().map_err(not_started)?;
        let said = child.stderr.take().expect("it is piped");
        let (found, listens) = mpsc::channel();
        std::thread::spawn(move || {
            let mut said = BufReader::new(said);
            let mut line = String::new();
            while said.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                drop(std::io::Write::write_all(&mut file, line.as_bytes()));
                if let Some(address) = line.split(" on http://").nth(1)
                    && let Some(address) = address.split([';', ' ', '\n']).next()
                {
                    drop(found.send(format!("http://{address}")));
                }
                line.clear();
            }
        });
        let mut node = Self { child, url: String::new(), started, log: log.to_owned() };
        match listens.recv_timeout(STARTS_WITHIN) {
            Ok(url) => {
                node.url = url;
                Ok(node)
            }
            Err(_) => Err(NodeError::NotListening(node.last_words())),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// It alone, as a driver asks it, with how long an answer may take.
    ///
    /// # Errors
    /// [`BenchError`] if it listens nowhere.
    pub fn target(&self, within: Duration) -> Result<HttpTarget, BenchError> {
        let graph = Name::new(GRAPH).expect("a name");
        HttpTarget::new(std::slice::from_ref(&self.url), graph, within)
    }

    /// Asks it for the graph, and waits until it has it.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if it answers something else.
    pub fn load(&self, within: Duration) -> Result<(), BenchError> {
        match self.target(within)?.connect().perform(&Request::Graph).outcome {
            Outcome::Answered { .. } => Ok(()),
            other => Err(BenchError::Unavailable(format!(
                "a server's first answer was {}: {}",
                other.label(),
                self.last_words()
            ))),
        }
    }

    /// When its process was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The process's id.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last of what it has said that is a warning or an error, else its last line.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let is_bad = |line: &&str| line.contains("WARN") || line.contains("ERROR");
        let last = said.lines().rfind(is_bad).or_else(|| said.lines().last());
        last.unwrap_or_default().chars().take(TOLD_CHARS).collect()
    }

    /// Stops it until it is to go on, or is killed.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// After a [`pause`](Self::pause).
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended.
            let _ = kill_process(process, signal);
        }
    }

    /// Tells it to end, and waits until it has; kills it if that takes too long. Whether it ended
    /// as it was told.
    pub fn end(mut self) -> bool {
        self.signal(Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < ENDS_WITHIN {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(PAUSE),
                Ok(Some(status)) => {
                    return status.success() || status.signal() == Some(Signal::TERM.as_raw());
                }
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
