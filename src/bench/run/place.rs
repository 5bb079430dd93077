//! What a benchmark calls things: graphs, databases, the commands of its servers.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::results::Key;
use super::setting::{DatabaseKind, Setting};
use crate::bench::BenchError;
use crate::design::{self, Design, Reads};

/// What the graph is called in every database of a benchmark.
pub const GRAPH: &str = "bench";

/// In the directory of a run: histories of points that are not valid, and what the checker needs
/// with them.
pub const KEPT: &str = "histories";

/// A command of this program that ends with this process, and not by the terminal's Ctrl-C. What
/// the environment sets for this process is not set for it, but for what tests do.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--with-parent", &std::process::id().to_string()]).process_group(0);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("FENCEPOST_") && name != "FENCEPOST_FAILPOINTS" {
            command.env_remove(&*name);
        }
    }
    command
}

/// Which database and which lock processes of this program are to use. A file is named in their
/// arguments; URLs of servers in their environment, where others do not see them: there may be
/// passwords in them.
#[derive(Debug, Clone, Default)]
pub struct Urls {
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Urls {
    /// Of an SQLite database, with the lock beside it.
    pub fn of_file(database: &Path) -> Self {
        let arguments = vec!["--database-url".to_owned(), database_url(database)];
        Self { arguments, ..Self::default() }
    }

    /// Of a database on a server, with the lock of that URL, or the one that it names.
    pub fn of_server(database: String, lock: Option<String>) -> Self {
        let lock = lock.map(|lock| ("FENCEPOST_LOCK_URL", lock));
        let environment = [("FENCEPOST_DATABASE_URL", database)].into_iter().chain(lock).collect();
        Self { environment, ..Self::default() }
    }

    /// Has the command use them, before its other arguments.
    pub fn give_to(&self, command: &mut Command) {
        command.args(&self.arguments).envs(self.environment.iter().cloned());
    }
}

/// The arguments of a server, with the choices of that setting.
pub fn serve(design: &Design, setting: &Setting) -> Vec<String> {
    let mut arguments = vec!["--design", design.name];
    if !setting.sharing {
        arguments.extend(["--sharing", "off"]);
    }
    if setting.reads != Reads::Lock {
        arguments.extend(["--reads", setting.reads.name()]);
    }
    arguments.extend(snapshot_options(setting.snapshots));
    arguments.extend(["serve", "--address", "127.0.0.1:0"]);
    arguments.into_iter().map(str::to_owned).collect()
}

/// The options with which snapshots are taken as usual, or not at all.
pub fn snapshot_options(are_taken: bool) -> &'static [&'static str] {
    if are_taken { &[] } else { &["--snapshot-log-mib", "0"] }
}

/// The arguments of a floor.
pub fn floor(kind: &str) -> Vec<String> {
    ["bench", "floor", kind].map(str::to_owned).into()
}

/// How a point is judged again from what is kept of it: where, and the command. Of a database on a
/// server nothing is kept.
pub fn check_again(number: usize, key: &Key) -> String {
    let Kept { base, load, history, database } = Kept::of(number);
    let node = |stored: bool| match stored {
        true => format!("--database-url sqlite:{KEPT}/{database} --design {} ", key.design),
        false => String::new(),
    };
    let has_log = design::named(&key.design).is_some_and(|known| known.storage.has_log());
    let stored = has_log && key.setting.database == DatabaseKind::Sqlite;
    let command = match key.setting.database {
        DatabaseKind::Given => format!("check {KEPT}/{load} {KEPT}/{history}"),
        // It tells all that happened to them.
        _ if key.has_many_graphs() => format!("check {KEPT}/{history}"),
        _ => {
            let (node, stored) = (node(stored), if stored { "--stored " } else { "" });
            format!("{node}check {stored}--base {KEPT}/{base} {KEPT}/{history}")
        }
    };
    format!("to judge again, in the directory of results.json: fencepost {command}")
}

/// The names of what is kept of a point without a verdict, or with one that it is not valid.
pub struct Kept {
    /// The graph that it began with.
    pub base: String,
    /// How a given server was loaded before.
    pub load: String,
    /// What was asked and answered.
    pub history: String,
    /// The database that it left, if that is a file and has a log to judge by.
    pub database: String,
}

impl Kept {
    /// Of the point with this number.
    pub fn of(number: usize) -> Self {
        Self {
            base: format!("point-{number}-base.ndjson"),
            load: format!("point-{number}-load.ndjson"),
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
