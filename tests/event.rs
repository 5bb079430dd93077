//! Events: how they are spelled, and what becomes of a log in which something is not as it was
//! written.

mod damage;
mod imports;
mod spelling;

use fencepost::chain::{Chain, LoggedChange};
use fencepost::event::{Event, Importing, Replay, ReplayError, Replayed, Stream};
use fencepost::graph::{Graph, decide};

use crate::support::cluster::name;
use crate::support::requests::Requests;

/// A graph's history, in memory.
pub struct History {
    pub stream: Stream,
    pub logged: Vec<LoggedChange>,
    /// After each version, the empty graph at 0 included.
    pub graphs: Vec<Graph>,
}

impl History {
    /// At random from a seed, of so many versions.
    pub fn of(graph: &str, seed: u64, versions: usize) -> Self {
        let mut requests = Requests::new(seed);
        let (mut logged, mut graphs, mut chain) =
            (Vec::new(), vec![Graph::default()], Chain::START);
        while logged.len() < versions {
            let write = requests.next();
            let Ok(decision) = decide(&graphs[logged.len()], &write.command) else { continue };
            if write.dry_run || decision.change.is_empty() {
                continue;
            }
            let version = decision.next.version();
            let change = decision.change.canonical_json(version);
            chain = chain.next(&change);
            let actor = (version % 3 == 0).then(|| format!("actor \"{version}\" é"));
            logged.push(LoggedChange {
                version,
                change,
                chain,
                committed_at_ms: 1_767_225_600_000 + version as i64,
                actor,
            });
            graphs.push(decision.next);
        }
        Self {
            stream: Stream::new(name(graph), uuid::Uuid::from_u128(u128::from(seed) + 1)),
            logged,
            graphs,
        }
    }

    /// The graph at `version` as an import.
    pub fn import(&self, version: usize) -> Importing {
        let before = version.checked_sub(1).map(|at| &self.logged[at]);
        let chain = before.map_or(Chain::START, |logged| logged.chain);
        let time = before.map(|logged| logged.committed_at_ms);
        Importing::new(self.stream.clone(), self.graphs[version].clone(), chain, time)
    }

    /// The graph at `version` and all changes after it, an event each.
    pub fn log(&self, version: usize) -> Vec<String> {
        let mut log = lines(self.import(version));
        log.extend(self.changes(version));
        log
    }

    pub fn changes(&self, after: usize) -> Vec<String> {
        let line = |logged: &LoggedChange| text(self.stream.line(&Event::changed(logged)));
        self.logged[after..].iter().map(line).collect()
    }
}

pub fn lines(mut importing: Importing) -> Vec<String> {
    let mut out = Vec::new();
    std::iter::from_fn(|| {
        out.clear();
        importing.write_next(&mut out)?;
        Some(String::from_utf8(out.clone()).unwrap())
    })
    .collect()
}

fn text(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap().trim_end_matches('\n').to_owned()
}

/// The number of the event that is wrong, from 1, or one more than there are if it is the end, and
/// what is wrong.
pub fn replayed(log: &[String]) -> Result<Replayed, (usize, ReplayError)> {
    let mut replay = Replay::default();
    for (number, line) in (1..).zip(log) {
        replay.take(line).map_err(|error| (number, error))?;
    }
    replay.finish().map_err(|error| (log.len() + 1, error))
}
