//! The command line as a person or a script uses it: real processes, real files.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fencepost::design;
use serde_json::Value;
use tempfile::TempDir;

mod duplicates;
mod import;
mod lists;
mod lock;
mod messages;
mod plan;
mod reading;
mod streams;
mod sync;

/// A folder with a database in it, and the program run on it.
pub struct Shell {
    folder: TempDir,
}

impl Shell {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with_input(arguments, "")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(env!("CARGO_BIN_EXE_fencepost"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses its arguments does not read.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap().into()
    }

    /// Runs a script, in which the program is `fencepost`.
    pub fn bash(&self, script: &str) -> Ran {
        self.command("bash").args(["-c", script]).stdin(Stdio::null()).output().unwrap().into()
    }

    /// A command in the folder, with the program on its path.
    pub fn command(&self, program: &str) -> Command {
        let bin = Path::new(env!("CARGO_BIN_EXE_fencepost")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", bin.display()))
            .env_remove("FENCEPOST_DATABASE_URL")
            .env_remove("FENCEPOST_LOCK_URL");
        command
    }

    /// What the program prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{}", ran.errors);
        serde_json::from_str(&ran.result).unwrap()
    }
}

#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub result: String,
    pub errors: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("not killed"),
            result: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_right() {
    let shell = Shell::new();
    let designs: Vec<&str> = design::ALL.iter().map(|design| design.name).collect();
    assert_eq!(designs[0], "crud", "the default");
    let designs = format!("possible values: {}", designs.join(", "));
    for (arguments, says) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&["plan", "--graph", "g"][..], "<DATASET>"),
        (&["--database-url", "mysql://x", "plan", "--graph", "g", "d"][..], "give sqlite:PATH"),
        (
            &["--database-url", "sqlite::memory:", "plan", "--graph", "g", "d"][..],
            "another one on every connection",
        ),
        (&["--lock-url", "zookeeper:", "plan", "--graph", "g", "d"][..], "give file:DIR"),
        (&["plan", "--graph", "..", "d"][..], "`..` is not a name"),
        (&["--design", "none", "migrate"][..], &designs),
        (&["--design", "crud-optimistic", "--reads", "lock", "serve"][..], "omit --reads"),
        (&["--design", "crud-optimistic", "--reads", "lock", "migrate"][..], "takes no lock"),
        (&["lock", "set"][..], "--lock-url"),
        (&["serve", "--waiting-writes", "0"][..], "must be at least 1"),
        (&["serve", "--address", "0.0.0.0:0"][..], "--allow-anonymous"),
    ] {
        let ran = shell.run(arguments);
        assert_eq!((ran.code, ran.result.as_str()), (2, ""), "{arguments:?}: {}", ran.errors);
        assert!(ran.errors.contains(says), "{arguments:?}: {}", ran.errors);
    }
}

#[test]
fn reads_share_the_lock_of_whichever_design_takes_one() {
    let ran = Shell::new().run(&[
        "--design",
        "es-optimistic,crud",
        "--reads",
        "lock",
        "bench",
        "drive",
        "--workload",
        "register",
        "--clients",
        "1",
        "--requests",
        "2",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.errors);
}

#[test]
fn a_database_that_cannot_be_opened_exits_with_3_and_is_named() {
    let ran = Shell::new().run(&[
        "--database-url",
        "sqlite:no/such/folder/f.db",
        "plan",
        "--graph",
        "g",
        "d",
    ]);
    assert_eq!(ran.code, 3, "{}", ran.errors);
    assert!(ran.errors.contains("no/such/folder/f.db"), "{}", ran.errors);
}

#[test]
fn migrations_run_once_and_can_be_taken_back() {
    let shell = Shell::new();
    assert!(shell.run(&["migrate"]).result.starts_with("ran 2026"));
    assert_eq!(shell.run(&["migrate"]).result, "ran nothing: up to date\n");
    assert!(shell.run(&["migrate", "--revert", "2"]).result.starts_with("took back 2: 2026-"));
    assert!(shell.run(&["migrate"]).result.contains(", "), "both run again");
}

#[test]
fn the_openapi_document_is_printed_without_a_database() {
    let shell = Shell::new();
    assert_eq!(shell.json(&["openapi"])["openapi"], "3.1.0");
    assert!(!shell.folder.path().join("fencepost.db").exists());
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure_and_a_full_disk_is() {
    use std::fs::File;
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_fencepost"));
        program.arg("openapi").stderr(Stdio::piped());
        program
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = program().stdout(writer).output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    let ran =
        program().stdout(File::options().write(true).open("/dev/full").unwrap()).output().unwrap();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
}
