//! The way out: a graph's log in other engines.

mod consumers;
mod cut_over;
mod earlier;
mod gaps;
mod kills;
mod last_event;
mod permanent;
mod places;
mod put_back;
mod settings;
mod sinks;
mod verification;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use fencepost::event::Stream;
use fencepost::export::SinkUrl;
use fencepost::export::sink::Purpose;
use uuid::Uuid;

use crate::support::cluster::{GRAPH, Site, finish, name, wait_until};
use crate::support::event_log;
use crate::support::limit;
use crate::support::nats::Nats;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

fn export(site: &Site, place: &Place, more: &[&str]) -> Command {
    let mut command = site.fencepost(&["export", "--graph", GRAPH, "--to", &place.url]);
    command.args(more);
    command
}

/// What a sink has, which must be a log of the graph as the database has it, by the product's own
/// proof and by another. The log may begin after version 1, and the database be pruned.
#[track_caller]
fn replayed(site: &Site, place: &mut Place) -> event_log::Told {
    let (code, said) = finish(export(site, place, &[]));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = finish(site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]));
    place.stream = site.stream();
    let events = place.events();
    let told = event_log::replay(GRAPH, events.iter().map(String::as_str));
    let digest = format!("digest {} as in the database", told.digest);
    assert!(code == Some(0) && said.contains(&digest), "{said}");
    told
}

/// An exporter that follows. Killed when dropped.
struct Follower {
    child: Child,
    log: PathBuf,
}

impl Follower {
    fn start(site: &Site, place: &Place) -> Self {
        Self::start_armed(site, place, "")
    }

    fn start_armed(site: &Site, place: &Place, failpoints: &str) -> Self {
        let log = site.path(&format!("{}.said", fresh()));
        let said = std::fs::File::create(&log).unwrap();
        let off = std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default();
        let mut command = export(site, place, &["--follow"]);
        command
            .env("FENCEPOST_FAILPOINTS", format!("{off},{failpoints}"))
            .stdout(Stdio::null())
            .stderr(said);
        Self { child: command.spawn().unwrap(), log }
    }

    /// What it has said until now.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    #[track_caller]
    fn wait_until_it_says(&self, what: &str) {
        let started = std::time::Instant::now();
        while !self.said().contains(what) {
            assert!(started.elapsed() < limit(), "it does not say `{what}`, but: {}", self.said());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Its exit code, and what it said, once it has ended by itself.
    fn end(mut self) -> (Option<i32>, String) {
        let mut ended = None;
        wait_until("the follower ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        (ended.unwrap().code(), self.said())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where a test keeps a log: nobody else knows of it.
pub struct Place {
    pub url: String,
    pub stream: Stream,
    _directory: Option<tempfile::TempDir>,
}

/// A log's name that no other test has.
fn fresh() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("log_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

impl Place {
    pub fn at(url: String) -> Self {
        Self { url, stream: Stream::new(name("kitchen"), Uuid::from_u128(7)), _directory: None }
    }

    pub fn file() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file:{}", directory.path().join("log.ndjson").display());
        Self { _directory: Some(directory), ..Self::at(url) }
    }

    pub fn redis() -> Self {
        Self::at(format!("{}/{}", Redis::shared().new_database(), fresh()))
    }

    pub fn nats() -> Self {
        Self::at(format!("{}/{}", Nats::shared().url(), fresh()))
    }

    pub fn postgres() -> Self {
        Self::at(format!("{}/{}", Postgres::shared().url("postgres"), fresh()))
    }

    /// A place of the same kind.
    pub fn another(&self) -> Self {
        match self.url.split(':').next().unwrap() {
            "file" => Self::file(),
            "redis" => Self::redis(),
            "nats" => Self::nats(),
            _ => Self::postgres(),
        }
    }

    /// The version that it is whole at; `None` within an import, too.
    pub fn version(&self) -> Option<u64> {
        let mut sink = SinkUrl::parse(&self.url).unwrap().open(&self.stream, Purpose::Read).ok()?;
        let last: serde_json::Value = serde_json::from_str(&sink.last().ok()??).ok()?;
        let is_whole = ["dev.fencepost.changed.v1", "dev.fencepost.import.ended.v1"]
            .contains(&last["type"].as_str()?);
        last["graphversion"].as_u64().filter(|_| is_whole)
    }

    #[track_caller]
    pub fn events(&self) -> Vec<String> {
        let mut events = Vec::new();
        let mut each = |event: &str| {
            events.push(event.to_owned());
            ControlFlow::Continue(())
        };
        SinkUrl::parse(&self.url)
            .unwrap()
            .open(&self.stream, Purpose::Read)
            .unwrap()
            .read(&mut each)
            .unwrap();
        events
    }
}
