//! What a benchmark calls things: graphs, databases, the commands of its servers.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::bench::BenchError;
use crate::design::Design;

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

/// The command that judges a point again from what is kept of it, in the directory of the run.
pub fn check_again(number: usize) -> String {
    let [base, history] = kept(number);
    format!("fencepost check --base {KEPT}/{base} {KEPT}/{history}")
}

/// The names of what is kept of a point that is not valid: the graph that it began with, and its
/// history.
pub fn kept(number: usize) -> [String; 2] {
    [format!("point-{number}-base.ndjson"), format!("point-{number}.ndjson")]
}

/// As on the command line.
pub fn database_url(database: &Path) -> String {
    format!("sqlite:{}", database.display())
}

/// Of a file that cannot be used.
pub fn file_error(path: &Path, error: &std::io::Error) -> BenchError {
    BenchError::Unavailable(format!("{}: {error}", path.display()))
}
