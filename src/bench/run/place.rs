//! What a benchmark calls things: graphs, databases, the commands of its servers.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::bench::BenchError;
use crate::design::{self, Design};

/// What the graph is called in every database of a benchmark.
pub const GRAPH: &str = "bench";

/// In the directory of a run: histories of points that are not valid, and what the checker needs
/// with them.
pub const KEPT: &str = "histories";

/// A command of this program that ends with this process, and not by the terminal's Ctrl-C. What
/// the environment sets for this process is not set for it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--with-parent", &std::process::id().to_string()]).process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FENCEPOST_") {
            command.env_remove(name);
        }
    }
    command
}

/// The arguments of a server for that database.
pub fn serve(design: &Design, database: &Path) -> Vec<String> {
    let url = database_url(database);
    ["--database-url", &url, "--design", design.name, "serve", "--address", "127.0.0.1:0"]
        .map(str::to_owned)
        .into()
}

/// The arguments of a floor.
pub fn floor(kind: &str) -> Vec<String> {
    ["bench", "floor", kind].map(str::to_owned).into()
}

/// How a point of this design is judged again from what is kept of it: where, and the command.
pub fn check_again(number: usize, design: &str) -> String {
    let Kept { base, history, database } = Kept::of(number);
    let (node, stored) = match design::named(design).is_some_and(|known| known.storage.has_log()) {
        true => {
            let database = format!("--database-url sqlite:{KEPT}/{database}");
            (format!("{database} --design {design} "), "--stored ")
        }
        false => (String::new(), ""),
    };
    format!(
        "to judge again, in the directory of results.json: fencepost {node}check {stored}--base \
         {KEPT}/{base} {KEPT}/{history}"
    )
}

/// The names of what is kept of a point without a verdict, or with one that it is not valid.
pub struct Kept {
    /// The graph that it began with.
    pub base: String,
    /// What was asked and answered.
    pub history: String,
    /// The database that it left, if that has a log to judge by.
    pub database: String,
}

impl Kept {
    /// Of the point with this number.
    pub fn of(number: usize) -> Self {
        Self {
            base: format!("point-{number}-base.ndjson"),
            history: format!("point-{number}.ndjson"),
            database: format!("point-{number}.db"),
        }
    }
}

/// As on the command line.
pub fn database_url(database: &Path) -> String {
    format!("sqlite:{}", database.display())
}

/// Of a file that cannot be used.
pub fn file_error(path: &Path, error: &std::io::Error) -> BenchError {
    BenchError::Unavailable(format!("{}: {error}", path.display()))
}
