//! Where a run happens: a directory of its own, with a service in process or a server on it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use fencepost::bench::{DriveArgs, HttpTarget, InProcess, Report, Target, drive};
use fencepost::db::DatabaseUrl;
use fencepost::graph::Name;
use fencepost::node::{self, NodeOptions};
use serde_json::Value;
use tempfile::TempDir;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: DriveArgs,
}

pub fn arguments(line: &str) -> DriveArgs {
    Line::try_parse_from(std::iter::once("drive").chain(line.split_whitespace()))
        .expect("the arguments are right")
        .args
}

pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory can be made") }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn database_url(&self) -> String {
        format!("sqlite:{}", self.path("graphs.db").display())
    }

    pub fn in_process(&self) -> InProcess {
        let database = DatabaseUrl::parse(&self.database_url()).expect("the URL is right");
        let service = node::open(&NodeOptions::new(database)).expect("the service starts");
        InProcess::new(service, graph(), "in process".to_owned())
    }

    pub fn serve(&self) -> Server {
        Server::start(&self.database_url())
    }

    /// Where the next run is to record its history; that of the run before is gone.
    pub fn new_history(&self) -> PathBuf {
        let history = self.path("history");
        drop(std::fs::remove_file(&history));
        history
    }

    /// Runs the driver and reads its history.
    pub fn record(&self, target: &dyn Target, line: &str) -> (Report, Vec<Value>) {
        let mut args = arguments(line);
        args.history = Some(self.new_history());
        let report = drive(target, &args).expect("the run begins");
        report.verdict().expect("the run ends well");
        (report, self.history())
    }

    pub fn history(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("history")).expect("there is a history");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

pub fn graph() -> Name {
    Name::new("bench").expect("a name")
}

/// The real binary, listening on a port of its own.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    fn start(database_url: &str) -> Self {
        let mut child = fencepost()
            .args(["serve", "--address", "127.0.0.1:0", "--database-url", database_url])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut log = BufReader::new(child.stderr.take().expect("the log is piped")).lines();
        let url = log
            .find_map(|line| {
                let line = line.expect("the log is text");
                let address = line.split(" on http://").nth(1)?;
                Some(format!("http://{}", address.split(';').next()?))
            })
            .expect("the server says where it listens");
        // Read on, so that the server never waits for its log.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, url }
    }

    pub fn target(&self) -> HttpTarget {
        HttpTarget::new(std::slice::from_ref(&self.url), graph(), Duration::from_secs(60))
            .expect("the URL is right")
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn fencepost() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fencepost"))
}
