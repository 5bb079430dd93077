//! The process of a [`delay`](super::delay) proxy.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use super::place::command;
use crate::bench::BenchError;

/// What a proxy stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Upstream {
    /// The server of databases.
    Database,
    /// The server of locks.
    Lock,
}

impl Upstream {
    const ALL: [Self; 2] = [Self::Database, Self::Lock];

    fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Lock => "lock",
        }
    }
}

/// A proxy that runs. Killed when dropped; it also ends when its standard input is closed, which
/// the kernel does when this process ends.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    asked: Mutex<Asked>,
    addresses: BTreeMap<Upstream, String>,
}

/// Where it is asked, and answers.
#[derive(Debug)]
struct Asked {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Proxy {
    /// Starts one that has a round trip to each of these, `HOST:PORT`, take so much longer.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if it does not start.
    pub fn start(
        program: &Path,
        delay_us: u64,
        to: &[(Upstream, String)],
    ) -> Result<Self, BenchError> {
        let mut command = command(program);
        command.args(["bench", "delay", "--delay-us", &delay_us.to_string()]);
        for (upstream, place) in to {
            command.arg("--to").arg(format!("{}={place}", upstream.name()));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
        let questions = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let asked = Mutex::new(Asked { questions, answers });
        let mut proxy = Self { child, asked, addresses: BTreeMap::new() };
        let addresses = proxy.asked().told()?;
        proxy.addresses = addresses;
        match to.iter().all(|(upstream, _)| proxy.addresses.contains_key(upstream)) {
            true => Ok(proxy),
            false => Err(failed("it did not start to listen")),
        }
    }

    /// Where it listens for what is to go there.
    #[must_use]
    pub fn address(&self, to: Upstream) -> Option<&str> {
        self.addresses.get(&to).map(String::as_str)
    }

    /// The process's id.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// How many round trips there were so far to each.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if it does not say.
    pub fn trips(&self) -> Result<BTreeMap<Upstream, u64>, BenchError> {
        let mut asked = self.asked();
        writeln!(asked.questions, "?").map_err(|error| failed(&error.to_string()))?;
        let told = asked.told()?;
        let count = |(upstream, text): (Upstream, String)| {
            let count = text.parse().map_err(|_| failed("what it counted is no number"))?;
            Ok((upstream, count))
        };
        told.into_iter().map(count).collect()
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// The next line that it says, as `NAME=VALUE NAME=…`.
    fn told(&mut self) -> Result<BTreeMap<Upstream, String>, BenchError> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).map_err(|error| failed(&error.to_string()))?;
        if read == 0 {
            return Err(failed("it has ended"));
        }
        let named = |word: &str| {
            let (name, value) = word.split_once('=')?;
            let upstream = Upstream::ALL.into_iter().find(|upstream| upstream.name() == name)?;
            Some((upstream, value.to_owned()))
        };
        Ok(line.split_whitespace().filter_map(named).collect())
    }
}

fn failed(why: &str) -> BenchError {
    BenchError::Unavailable(format!("the proxy for the delay: {why}"))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
