//! What a benchmark calls things: graphs, databases, the commands of its servers.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::bench::BenchError;
use crate::design::Design;

/// What the graph is called in every database of a benchmark.
pub const GRAPH: &str = "bench";

/// The argument that makes a process of this program end when this one does.
pub fn with_parent() -> [String; 2] {
    ["--with-parent".to_owned(), std::process::id().to_string()]
}

/// A command of this program that ends with this process, and not by the terminal's Ctrl-C.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(with_parent()).process_group(0);
    command
}

/// The arguments of a server for that database.
pub fn serve(design: &Design, database: &Path) -> Vec<String> {
    let url = database_url(database);
    let of_node = ["--database-url", &url, "--design", design.name];
    let serve = ["serve", "--address", "127.0.0.1:0"].map(str::to_owned);
    with_parent().into_iter().chain(of_node.map(str::to_owned)).chain(serve).collect()
}

/// The arguments of a floor.
pub fn floor(kind: &str) -> Vec<String> {
    with_parent().into_iter().chain(["bench", "floor", kind].map(str::to_owned)).collect()
}

/// As on the command line.
pub fn database_url(database: &Path) -> String {
    format!("sqlite:{}", database.display())
}

/// Of a file that cannot be used.
pub fn file_error(path: &Path, error: &std::io::Error) -> BenchError {
    BenchError::Unavailable(format!("{}: {error}", path.display()))
}
