//! Commands that only read: they make nothing, change nothing, and say where they looked.

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::{Shell, fixture};

const READING: [&[&str]; 8] = [
    &["plan", "--graph", "g", "bread"],
    &["log", "--graph", "g"],
    &["export", "--graph", "g", "--to", "-"],
    &["verify", "--graph", "g", "--from", "file:log"],
    &["consumer", "list", "--graph", "g"],
    &["lock", "inspect", "--graph", "g"],
    &["check", "--stored", "history"],
    &["import", "--graph", "g", "--dry-run", "jobs"],
];

/// Of no request, on the graph `g`.
const HISTORY: &str = concat!(
    r#"{"event":"start","format":1,"fencepost":"0.1.0","graph":"g","workload":"conflict","#,
    r#""seed":1,"clients":1,"target":"in process","clock":{"kind":"monotonic","unit":"ns","#,
    r#""zero_unix_ms":1767225600000},"initial_version":0,"arguments":{}}"#,
    "\n",
    r#"{"event":"end","time_ns":1,"final_version":0,"#,
    r#""final_digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","#,
    r#""invoke":0,"ok":0,"fail":0,"info":0}"#,
    "\n",
);

/// A folder with what the commands read besides the database.
fn shell() -> Shell {
    let shell = Shell::new();
    shell.write("jobs", r#"{"name":"j","inputs":[],"outputs":[],"spec":{}}"#);
    shell.write("history", HISTORY);
    shell
}

/// They change something of a graph, which must be there.
const OF_A_GRAPH: [&[&str]; 7] = [
    &["export", "--graph", "g", "--to", "file:log"],
    &["prune", "--graph", "g", "--before", "1"],
    &["consumer", "ack", "--graph", "g", "--name", "c", "--version", "0"],
    &["consumer", "remove", "--graph", "g", "--name", "c"],
    &["freeze", "--graph", "g"],
    &["thaw", "--graph", "g"],
    &["migrate", "--revert", "1"],
];

/// But for SQLite's own beside the database, which a process may leave behind.
fn files(shell: &Shell) -> Vec<String> {
    let files = std::fs::read_dir(shell.path("")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let others = |name: &String| {
        !name.ends_with("-wal") && !name.ends_with("-shm") && name != "history" && name != "jobs"
    };
    let mut names: Vec<String> = names.filter(others).collect();
    names.sort();
    names
}

#[test]
fn a_database_that_is_not_there_is_named_and_not_made() {
    let shell = shell();
    for arguments in READING.iter().chain(&OF_A_GRAPH) {
        let ran = shell.run(arguments);
        assert_eq!(ran.code, 3, "{arguments:?}: {}", ran.errors);
        let says = "there is no database sqlite:fencepost.db";
        assert!(ran.errors.contains(says), "{arguments:?}: {}", ran.errors);
        assert_eq!(files(&shell), [""; 0], "{arguments:?}");
    }
}

#[test]
fn a_file_without_tables_is_named_and_left_as_it_is() {
    let shell = shell();
    SqliteConnection::establish(&shell.path("fencepost.db"))
        .unwrap()
        .batch_execute("CREATE TABLE invoices (id INTEGER PRIMARY KEY)")
        .unwrap();
    let before = std::fs::read(shell.path("fencepost.db")).unwrap();
    for arguments in READING.iter().chain(&OF_A_GRAPH[..6]) {
        let ran = shell.run(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}: {}", ran.errors);
        let says = "sqlite:fencepost.db has no tables of Fencepost";
        assert!(ran.errors.contains(says), "{arguments:?}: {}", ran.errors);
        assert_eq!(files(&shell), ["fencepost.db"], "{arguments:?}");
        assert!(std::fs::read(shell.path("fencepost.db")).unwrap() == before, "{arguments:?}");
    }
}

#[test]
fn a_graph_that_is_not_there_is_told_with_the_database_that_was_looked_at() {
    let shell = shell();
    assert_eq!(shell.run(&["migrate"]).code, 0);
    let before = files(&shell);
    let [looks @ .., dry_run] = READING;
    let ran = shell.run(dry_run);
    assert!(ran.code == 0 && ran.result.contains("would create graph `g`"), "{}", ran.errors);
    for arguments in looks.iter().chain(&OF_A_GRAPH[..6]) {
        let ran = shell.run(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}: {}", ran.errors);
        assert!(ran.errors.contains("`g`"), "{arguments:?}: {}", ran.errors);
        assert!(ran.errors.contains("sqlite:fencepost.db"), "{arguments:?}: {}", ran.errors);
        assert_eq!(files(&shell), before, "{arguments:?} made something");
    }
}

/// The schema of the program before, which only commands that may change something bring up to
/// date.
#[test]
fn an_older_schema_is_not_migrated_by_whoever_only_reads() {
    let shell = shell();
    assert_eq!(shell.run(&["import", "--graph", "g", &fixture("bakery.ndjson")]).code, 0);
    assert_eq!(shell.run(&["migrate", "--revert", "1"]).code, 0);
    for arguments in &READING {
        let ran = shell.run(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}: {}", ran.errors);
        assert!(ran.errors.contains("`fencepost migrate`"), "{arguments:?}: {}", ran.errors);
    }
    assert!(!shell.run(&["migrate"]).result.contains("nothing"), "it was still to be done");
    assert_eq!(shell.run(&["plan", "--graph", "g", "bread"]).code, 0);
}

#[test]
fn reading_needs_no_lock_and_makes_none() {
    let shell = shell();
    assert_eq!(shell.run(&["import", "--graph", "g", &fixture("bakery.ndjson")]).code, 0);
    std::fs::remove_dir_all(shell.path("fencepost.db.locks")).unwrap();
    for arguments in READING {
        let ran = shell.run(arguments);
        // There is no such log, and the history is another's.
        let code = i32::from(matches!(arguments[0], "verify" | "check"));
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.errors);
    }
    assert!(!std::path::Path::new(&shell.path("fencepost.db.locks")).exists());
}
