//! What commands print of text from elsewhere: no password of any URL, however malformed, and
//! nothing that a terminal would obey.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::Shell;
use crate::support::cluster::{GRAPH, Kind, Site};
use crate::support::nats::Nats;
use crate::support::redis::Redis;

fn program(shell: &Shell) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fencepost"));
    command
        .current_dir(shell.folder.path())
        .env_remove("FENCEPOST_DATABASE_URL")
        .env_remove("FENCEPOST_LOCK_URL")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn run(shell: &Shell, arguments: &[&str]) -> Output {
    program(shell).args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("what is printed is UTF-8");
    text(&output.stdout) + &text(&output.stderr)
}

/// Both halves of the password, between which the character stands that makes the URL malformed.
const HALVES: [&str; 2] = ["SeCrEt", "HeMlOcK"];

#[track_caller]
fn assert_hidden(output: &Output, what: &str) {
    let printed = printed(output);
    for half in HALVES {
        assert!(!printed.contains(half), "{what}: {printed}");
    }
}

/// Every line is ours, and nothing in it is for the terminal.
#[track_caller]
fn assert_plain(output: &Output, what: &str) {
    let printed = printed(output);
    let controls = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    let invisible =
        |letter| matches!(letter, '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}' | '\u{feff}');
    assert!(!printed.contains(controls), "{what}: {printed:?}");
    // Names in results stay as they are: it is no terminal that reads them.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains(invisible), "{what}: {said:?}");
    assert!(!printed.lines().any(|line| line.starts_with(FORGED)), "{what}: {printed}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains('\t'), "{what}: {printed:?}");
}

/// The line that hostile text tries to print.
const FORGED: &str = "fencepost: all is well";
const HOSTILE: &str = "\u{1b}[31mX\u{1b}]0;t\u{7}\r\nfencepost: all is well\n\t\
                       \u{7f}\u{9b}2J\u{85}\u{2028}\u{202e}\u{2066}\u{200f}\u{feff}";

/// URLs with a password that is malformed, or stands where none is expected.
fn mistaken_urls(scheme: &str) -> Vec<String> {
    let [first, second] = HALVES;
    let between = [
        "", "/", "?", "#", "@", ":", "%zz", "%", "%00", " ", "[", "]", ",", "&", "=", "\\", "\"",
        "'", "`", "\u{9b}", "1/", "/1", "@1/", "ü",
    ];
    let mut urls = Vec::new();
    for between in between {
        let password = format!("{first}{between}{second}");
        urls.extend([
            format!("{scheme}://w:{password}@127.0.0.1:1/d"),
            format!("{scheme}://w:{password}@127.0.0.1:1"),
            format!("{scheme}://w:1{between}{second}@127.0.0.1:1/d/e"),
            format!("{scheme}:w:{password}@127.0.0.1:1/d"),
            format!("{scheme}:/w:{password}@127.0.0.1:1/d"),
            format!("w:{password}@127.0.0.1:1/d"),
            format!("{scheme}://127.0.0.1:1/d?user=w&password={password}"),
            format!("{scheme}://127.0.0.1:1/d?user=w&passwd={password}"),
            format!("{scheme}://127.0.0.1:1/d?sslpassword={password}"),
            format!("{scheme}://127.0.0.1:1/d?pass={password}&x"),
            format!("{scheme}://127.0.0.1:1/d?p%61ssword={password}"),
            format!("{scheme}://127.0.0.1:1/d?{password}"),
            format!("host=127.0.0.1 port=1 user=w password={password}"),
        ]);
        // With a colon, the first half is a user; with an @, the second is a host.
        if between != ":" {
            urls.push(format!("{scheme}://{password}@127.0.0.1:1/d"));
        }
        if !between.contains('@') && !matches!(scheme, "sqlite" | "file") {
            urls.push(format!("{scheme}://w:{password}"));
            urls.push(format!("{scheme}://w:{password}/d"));
        }
    }
    urls
}

#[test]
fn no_password_of_a_database_url_is_printed_however_malformed() {
    let shell = Shell::new();
    for scheme in ["postgres", "postgresql", "sqlite", "mysql"] {
        // Of those that are refused for their scheme, a few are enough.
        let every = if scheme.starts_with("postgres") { 1 } else { 5 };
        for url in mistaken_urls(scheme).into_iter().step_by(every) {
            let ran = run(&shell, &["--database-url", &url, "migrate"]);
            assert!(!ran.status.success(), "{url}");
            assert_hidden(&ran, &url);
            assert_plain(&ran, &url);
        }
    }
    let url = &mistaken_urls("postgres")[1];
    let ran = program(&shell).arg("migrate").env("FENCEPOST_DATABASE_URL", url).output().unwrap();
    assert_hidden(&ran, url);
}

/// What is to be encoded, and how.
#[test]
fn a_malformed_url_is_told_with_the_character_to_encode() {
    let shell = Shell::new();
    for (url, character) in [
        ("postgres://w:SeCrEt%zzX@h/d", "%25"),
        ("postgres://w:SeCr/Et@h/d", "%2F"),
        ("postgres://w:12/Et@h/d", "%2F"),
        ("postgres://w:SeCr@Et@h/d", "%40"),
        ("postgres://w:SeCr Et@h/d", "%20"),
        ("postgres://w:SeCrEt", "%3A"),
    ] {
        let ran = run(&shell, &["--database-url", url, "migrate"]);
        let printed = printed(&ran);
        assert_eq!(ran.status.code(), Some(2), "{printed}");
        assert!(printed.contains(character), "{url}: {printed}");
    }
    for (url, character) in [
        ("redis://w:SeCr/Et@h", "%2F"),
        ("redis://w:SeCr?Et@h", "%3F"),
        ("redis://w:SeCr#Et@h", "%23"),
        ("redis://w:SeCr%zzEt@h", "%25"),
    ] {
        for arguments in [
            &["--lock-url", url, "lock", "inspect", "--graph", "g"][..],
            &["export", "--graph", "g", "--to", url],
            &["verify", "--graph", "g", "--from", url],
        ] {
            let ran = run(&shell, arguments);
            let printed = printed(&ran);
            assert_eq!(ran.status.code(), Some(2), "{printed}");
            assert!(printed.contains(character), "{url}: {printed}");
        }
    }
    // What Postgres' own client takes is taken still.
    let ran = run(&shell, &["--database-url", "postgres://w:SeCr?E#t:@127.0.0.1:1/d", "migrate"]);
    assert_eq!(ran.status.code(), Some(3), "{}", printed(&ran));
    assert!(printed(&ran).contains("postgres://w:***@127.0.0.1:1/d"), "{}", printed(&ran));
}

#[test]
fn no_password_of_a_lock_or_a_sink_or_a_server_is_printed_however_malformed() {
    let shell = Shell::new();
    assert!(run(&shell, &["migrate"]).status.success());
    for scheme in ["redis", "rediss", "redis+unix", "nats", "tls", "postgres", "http", "file"] {
        for url in mistaken_urls(scheme).iter().step_by(3) {
            let lock = || ["--lock-url", url, "lock", "inspect", "--graph", "g"];
            for arguments in [
                &lock()[..],
                &["export", "--graph", "g", "--to", url],
                &["verify", "--graph", "g", "--from", url],
                &[
                    "bench",
                    "drive",
                    "--workload",
                    "register",
                    "--requests",
                    "1",
                    "--patience-seconds",
                    "0",
                    "--url",
                    url,
                ],
            ] {
                let ran = run(&shell, arguments);
                assert!(!ran.status.success(), "{arguments:?}");
                assert_hidden(&ran, &format!("{arguments:?}"));
                assert_plain(&ran, &format!("{arguments:?}"));
            }
        }
    }
}

/// Where no URL belongs, and in what the program says of itself.
#[test]
fn no_password_is_printed_of_a_url_in_the_wrong_place() {
    let shell = Shell::new();
    for url in mistaken_urls("postgres").iter().step_by(2).filter(|url| url.contains("://")) {
        for arguments in [
            &["serve", url][..],
            &[url],
            &["--lock-lease-ms", url, "migrate"],
            &["--design", url, "migrate"],
            &["serve", "--address", url],
            &["bench", "drive", "--workload", url],
            &["freeze", "--graph", "g", "--moved-to", url],
            &["serve", "--allowed-origin", url],
        ] {
            let ran = run(&shell, arguments);
            assert_eq!(ran.status.code(), Some(2), "{}", printed(&ran));
            assert_hidden(&ran, &format!("{arguments:?}"));
            assert_plain(&ran, &format!("{arguments:?}"));
        }
    }
    let url = "postgres://w:SeCrEtHeMlOcK@h/d";
    for url in mistaken_urls("nats").iter().filter(|url| url.contains("://")) {
        for arguments in [&["import", "--graph", "g", url][..], &["check", url]] {
            let ran = run(&shell, arguments);
            assert_eq!(ran.status.code(), Some(1), "{}", printed(&ran));
            assert_hidden(&ran, url);
            assert_plain(&ran, url);
        }
    }
    for arguments in [&["--help"][..], &["help", "serve"], &["serve", "--help"], &["migrate", "-h"]]
    {
        let help = program(&shell)
            .args(arguments)
            .envs(
                ["DATABASE_URL", "LOCK_URL", "DESIGN"]
                    .map(|name| (format!("FENCEPOST_{name}"), url)),
            )
            .output()
            .unwrap();
        assert_eq!(help.status.code(), Some(0));
        assert!(printed(&help).contains("[env: FENCEPOST_DATABASE_URL]"), "{}", printed(&help));
        assert_hidden(&help, "help");
    }
}

#[test]
fn what_is_stored_and_reported_holds_no_password() {
    let redis = Redis::start(&["--requirepass", "SeCrEt/HeMlOcK"]);
    let nats = Nats::start("authorization { user: cook, password: \"SeCrEt/HeMlOcK\" }");
    let shell = Shell::new();
    let lock = format!("redis://:SeCrEt%2FHeMlOcK@127.0.0.1:{}/3", redis.port());
    let import = ["import", "--lock-url", &lock, "--graph", "g", "-"];
    let ran = shell.run_with_input(&import, r#"{"name":"a","inputs":[],"outputs":["x"]}"#);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    for sink in [
        format!("redis://:SeCrEt%2FHeMlOcK@127.0.0.1:{}/0/log", redis.port()),
        format!("nats://cook:SeCrEt%2FHeMlOcK@127.0.0.1:{}/log", nats.port()),
    ] {
        let ran = run(&shell, &["export", "--graph", "g", "--to", &sink]);
        assert!(ran.status.success(), "{}", printed(&ran));
        assert_hidden(&ran, &sink);
    }
    // The password is that of another lock: neither is told.
    let seen = run(&shell, &["--lock-url", &lock, "lock", "inspect", "--graph", "g"]);
    assert!(seen.status.success(), "{}", printed(&seen));
    assert_hidden(&seen, "inspect");
    let other =
        run(&shell, &["--lock-url", &lock.replace("/3", "/4"), "lock", "inspect", "--graph", "g"]);
    assert_eq!(other.status.code(), Some(1), "{}", printed(&other));
    assert_hidden(&other, "another");
    assert_hidden(&run(&shell, &["consumer", "list", "--graph", "g"]), "consumers");
    let file = std::fs::read(shell.path("fencepost.db")).unwrap();
    let wal = std::fs::read(shell.path("fencepost.db-wal")).unwrap_or_default();
    for half in HALVES {
        let found = [&file, &wal]
            .iter()
            .any(|bytes| bytes.windows(half.len()).any(|at| at == half.as_bytes()));
        assert!(!found, "the database holds a password");
    }
}

/// A Redis that does not know the command by which a client introduces itself repeats it, a long
/// one in part.
#[test]
fn a_password_that_the_server_repeats_is_not_printed() {
    let redis = Redis::start(&["--rename-command", "AUTH", "", "--rename-command", "HELLO", ""]);
    let shell = Shell::new();
    let job = r#"{"name":"a","inputs":[],"outputs":[]}"#;
    let ran = shell.run_with_input(&["import", "--graph", "g", "-"], job);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    for password in ["SeCrEt%2FHeMlOcK".to_owned(), "SeCrEt".repeat(50)] {
        let server = format!("redis://w:{password}@127.0.0.1:{}", redis.port());
        for version in ["", "?protocol=resp2", "?protocol=resp3"] {
            let lock = format!("{server}/0{version}");
            let ran = run(&shell, &["--lock-url", &lock, "lock", "inspect", "--graph", "g"]);
            assert_eq!(ran.status.code(), Some(3), "{}", printed(&ran));
            assert_hidden(&ran, &lock);
            let sink = format!("{server}/0/log{version}");
            let ran = run(&shell, &["export", "--graph", "g", "--to", &sink]);
            // A login that is denied is denied again; a command that is not known may be one day.
            let code = if version == "?protocol=resp3" { 3 } else { 1 };
            assert_eq!(ran.status.code(), Some(code), "{}", printed(&ran));
            assert_hidden(&ran, &sink);
        }
    }
}

/// Runs the driver against a server of ours; the report and the history.
#[test]
fn the_drivers_report_and_history_hold_no_password() {
    let site = Site::with_graph();
    let server = site.serve();
    let url = server.base.replace("http://", "http://w:SeCrEtHeMlOcK@");
    let shell = Shell::new();
    for format in ["text", "json"] {
        let ran = run(
            &shell,
            &[
                "bench",
                "drive",
                "--url",
                &url,
                "--workload",
                "register",
                "--requests",
                "5",
                "--history",
                &format!("history-{format}"),
                "--format",
                format,
            ],
        );
        assert!(ran.status.success(), "{}", printed(&ran));
        assert_hidden(&ran, format);
    }
    let history = std::fs::read_to_string(shell.path("history-json")).unwrap();
    assert!(!history.contains("SeCrEt") && history.contains("w:***@127.0.0.1"), "{history}");
}

#[test]
fn the_name_that_the_program_is_called_by_does_not_reach_the_terminal() {
    use std::os::unix::process::CommandExt as _;
    let shell = Shell::new();
    for arguments in [&["plan"][..], &["serve", "--nonsense"], &["--help"]] {
        let ran = program(&shell).arg0(HOSTILE.replace('\0', "")).args(arguments).output().unwrap();
        assert!(printed(&ran).contains("Usage: fencepost"), "{}", printed(&ran));
        assert_plain(&ran, "usage");
    }
}

#[test]
fn a_message_of_foreign_text_has_a_bounded_length() {
    let shell = Shell::new();
    let line = format!("{{\"{}\":1}}\n", "x".repeat(3 << 20));
    let ran = shell.run_with_input(&["import", "--graph", "g", "-"], &line);
    assert_eq!(ran.code, 1);
    let said = &ran.errors;
    assert!(said.contains("-:1: unknown field `xxx") && said.contains("left out"), "{said}");
    assert!(said.len() < 10_000 && said.contains("expected one of"), "{}", said.len());
}

/// Whatever a file says in the place of a job.
#[test]
fn nothing_in_a_file_reaches_the_terminal_as_it_is() {
    let shell = Shell::new();
    assert!(run(&shell, &["migrate"]).status.success());
    let text = Value::from(HOSTILE).to_string();
    let key = |key: &str| key.replace("HOSTILE", &text);
    let lines = [
        key(r#"{"name":"a","inputs":[],"outputs":[],HOSTILE:1}"#),
        key(r#"{"name":"a","inputs":[],"outputs":[],"spec":{HOSTILE:1,HOSTILE:2}}"#),
        key(r#"{"name":HOSTILE,"inputs":[],"outputs":[]}"#),
        key(r#"{"name":"a","inputs":[HOSTILE],"outputs":[]}"#),
        key(r#"{"name":"a","inputs":HOSTILE,"outputs":[]}"#),
        key(r#"{"name":"a","inputs":[],"outputs":[],"spec":HOSTILE}"#),
        key(r#"HOSTILE"#),
        HOSTILE.to_owned(),
        format!("{{\"name\":\"{HOSTILE}\"}}"),
        key(r#"{"schemaVersion":HOSTILE,"workflow":{}}"#),
        key(r#"{"schemaVersion":"1.5","workflow":{"specification":
            {"tasks":[{"id":HOSTILE,"parents":[HOSTILE]}]}}}"#),
        key(r#"{"schemaVersion":"1.5","workflow":{"specification":
            {"tasks":[{"id":"a","inputFiles":[HOSTILE]}]}}}"#),
        key(r#"{"schemaVersion":"1.5",HOSTILE:1,HOSTILE:2}"#),
        key(r#"{"specversion":"1.0","id":HOSTILE,"source":HOSTILE,"type":HOSTILE}"#),
        key(r#"{"specversion":HOSTILE}"#),
        key(r#"{"event":"start",HOSTILE:1,"graph":HOSTILE}"#),
        key(r#"{"event":HOSTILE}"#),
        key(r#"{"version":1,"facts":[{"fact":HOSTILE}]}"#),
    ];
    let bytes = HOSTILE.as_bytes();
    let named = shell.folder.path().join(OsStr::from_bytes(&[b"file ", bytes, b"\xff"].concat()));
    for line in lines {
        std::fs::write(&named, format!("{line}\n")).unwrap();
        for format in ["auto", "ndjson", "wfformat", "events"] {
            let mut import = program(&shell);
            import.args(["import", "--graph", "g", "--namespace", "none", "--format", format]);
            if format != "wfformat" {
                import = program(&shell);
                import.args(["import", "--graph", "g", "--format", format]);
            }
            let ran = import.arg(&named).output().unwrap();
            assert_plain(&ran, &format!("import --format {format}: {line}"));
        }
        for arguments in [&["check"][..], &["check", "--format", "json"]] {
            let ran = program(&shell).args(arguments).arg(&named).output().unwrap();
            assert!(!ran.status.success());
            assert_plain(&ran, &format!("check: {line}"));
        }
        let mut from = std::ffi::OsString::from("file:");
        from.push(&named);
        // Not UTF-8, it is no argument; with another name, it is.
        let ran =
            program(&shell).args(["verify", "--graph", "g", "--from"]).arg(&from).output().unwrap();
        assert_plain(&ran, &format!("verify: {line}"));
        let utf8 = shell.path(&format!("log {HOSTILE}"));
        std::fs::write(&utf8, format!("{line}\n")).unwrap();
        let utf8 = format!("file:{utf8}");
        for arguments in
            [["verify", "--graph", "g", "--from", &utf8], ["export", "--graph", "g", "--to", &utf8]]
        {
            let ran = run(&shell, &arguments);
            assert!(!ran.status.success());
            assert_plain(&ran, &format!("{arguments:?}: {line}"));
        }
    }
}

/// Where an argument or a variable of the environment is quoted.
#[test]
fn no_argument_reaches_the_terminal_as_it_is() {
    let shell = Shell::new();
    assert!(run(&shell, &["migrate"]).status.success());
    let path = format!("no/{HOSTILE}");
    let (file, option) = (format!("file:{path}"), format!("--{HOSTILE}"));
    let graph = ["--graph", HOSTILE];
    let cases: Vec<Vec<&str>> = vec![
        vec![HOSTILE],
        vec![&option],
        vec!["serve", HOSTILE],
        vec!["serve", &option],
        vec!["serve", "--address", HOSTILE],
        vec!["serve", "--batch-writes", HOSTILE],
        vec!["--database-url", HOSTILE, "migrate"],
        vec!["--database-url", &path, "migrate"],
        vec!["--lock-url", HOSTILE, "lock", "set"],
        vec!["--lock-url", &file, "lock", "inspect", "--graph", "g"],
        vec!["--lock-lease-ms", HOSTILE, "migrate"],
        vec!["--design", HOSTILE, "migrate"],
        vec!["migrate", "--revert", HOSTILE],
        vec!["log", "--graph", "g", "--job", HOSTILE],
        vec!["log", "--graph", "g", "--after", HOSTILE],
        vec!["plan", "--graph", "g", HOSTILE],
        vec!["import", "--graph", "g", &path],
        vec!["import", "--graph", "g", "--format", HOSTILE, "-"],
        vec!["export", "--graph", "g", "--to", HOSTILE],
        vec!["export", "--graph", "g", "--to", &file],
        vec!["export", "--graph", "g", "--to", "-", "--consumer", HOSTILE],
        vec!["verify", "--graph", "g", "--from", &file],
        vec!["consumer", "ack", "--graph", "g", "--name", HOSTILE, "--version", "0"],
        vec!["check", &path],
        vec!["check", "--changes", &path, &path],
        vec!["bench", "drive", "--workload", "register", "--url", HOSTILE],
        vec!["bench", "drive", "--workload", "register", "--requests", "1", "--history", &path],
    ];
    let of_graph = ["plan", "log", "prune", "freeze", "thaw", "export", "verify", "import"];
    let of_graph = of_graph.iter().map(|command| [&[*command], &graph[..]].concat());
    for arguments in cases.into_iter().chain(of_graph) {
        let ran = run(&shell, &arguments);
        assert!(!ran.status.success(), "{arguments:?}");
        assert_plain(&ran, &format!("{arguments:?}"));
    }
    for variable in
        ["DATABASE_URL", "LOCK_URL", "LOCK_LEASE_MS", "DESIGN", "READS", "GRAPH_MEMORY_MIB"]
    {
        let mut command = program(&shell);
        command.env(format!("FENCEPOST_{variable}"), HOSTILE);
        let ran = command.args(["lock", "inspect", "--graph", "g"]).output().unwrap();
        assert!(!ran.status.success(), "{variable}");
        assert_plain(&ran, variable);
    }
    let ran = program(&shell).env("RUST_LOG", HOSTILE).arg("migrate").output().unwrap();
    assert_plain(&ran, "RUST_LOG");
    // A panic that quotes it.
    let failpoints = format!("{HOSTILE}=what");
    let ran = program(&shell)
        .env("FENCEPOST_FAILPOINTS", failpoints)
        .args(["plan", "--graph", "g", "d"])
        .output()
        .unwrap();
    assert!(printed(&ran).contains("panicked"), "{}", printed(&ran));
    assert_plain(&ran, "a panic");
}

/// Names without control characters, but for the directions of writing; actors, places and locks,
/// which others have stored.
#[test]
fn nothing_that_is_stored_reaches_the_terminal_as_it_is() {
    let shell = Shell::new();
    let spec = json!({"k \u{9b}": HOSTILE});
    let job = json!({"name": "Küche \u{202e}日", "inputs": ["in \u{2028}"], "outputs": ["out"],
        "spec": spec});
    let ran = shell.run_with_input(&["import", "--graph", "g \u{2066}", "-"], &job.to_string());
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let site = Site::at(format!("sqlite:{}", shell.path("fencepost.db")));
    site.run_sql(&format!(
        "UPDATE changes SET actor = '{HOSTILE}'; UPDATE graphs SET lock_incarnation = '{HOSTILE}'"
    ));
    let graph = ["--graph", "g \u{2066}"];
    for arguments in [
        &["log"][..],
        &["log", "--job", "Küche \u{202e}日"],
        &["log", "--format", "json"],
        &["plan", "out"],
        &["plan", "--format", "json", "out"],
        &["plan", "--format", "dot", "out"],
        &["plan", "--format", "mermaid", "out"],
        &["lock", "inspect"],
        &["consumer", "list"],
        &["prune", "--before", "1"],
    ] {
        let ran = run(&shell, &[arguments, &graph].concat());
        assert!(ran.status.success(), "{}", printed(&ran));
        assert_plain(&ran, &format!("{arguments:?}"));
        if arguments[0] == "plan" && arguments.len() == 2 {
            assert_eq!(String::from_utf8_lossy(&ran.stdout), "0\tKüche \u{202e}日\n");
        }
    }
    // Of JSON, the values are what they were.
    let log = run(&shell, &[&["log", "--format", "json"][..], &graph].concat());
    let log: Value = serde_json::from_slice(&log.stdout).unwrap();
    assert_eq!(log["actor"], HOSTILE);
    assert_eq!(log["facts"][0]["spec"], job["spec"]);
    // An exported log keeps its bytes, where it is no terminal that reads it.
    let log = run(&shell, &[&["export", "--to", "-"][..], &graph].concat());
    assert!(String::from_utf8(log.stdout.clone()).unwrap().contains('\u{9b}'));
    for (command, escape) in [("export --to -", "\\u009b"), ("plan out", "Küche \\u{202e}日")] {
        let on_terminal = Command::new("script")
            .args(["--quiet", "--return", "--log-out", "/dev/null", "--command"])
            .arg(format!(
                "{} {command} --graph 'g \u{2066}' 2>/dev/null",
                env!("CARGO_BIN_EXE_fencepost")
            ))
            .current_dir(shell.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let shown = String::from_utf8(on_terminal.stdout).unwrap().replace('\r', "");
        let harmful = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
        assert!(shown.contains(escape) && !shown.contains(harmful), "{shown:?}");
    }

    site.run_sql(&format!("UPDATE graphs SET state = 'frozen', moved_to = '{HOSTILE}'"));
    let ran = shell.run_with_input(
        &[&["import", "-"][..], &graph].concat(),
        &json!({"name": "b", "inputs": [], "outputs": []}).to_string(),
    );
    assert_eq!(ran.code, 1);
    assert!(!ran.errors.lines().any(|line| line.starts_with(FORGED)), "{}", ran.errors);
    assert!(ran.errors.contains("moved to \\u{1b}"), "{}", ran.errors);
    for (kind, identity) in [
        ("file", format!("/no/{HOSTILE}")),
        ("redis", HOSTILE.to_owned()),
        (HOSTILE, HOSTILE.to_owned()),
    ] {
        site.run_sql(&format!(
            "UPDATE service SET lock_kind = '{kind}', lock_identity = '{identity}'"
        ));
        for arguments in [&["lock", "inspect", "--lock-url", "file:"][..], &["lock", "inspect"]] {
            let ran = run(&shell, &[arguments, &graph].concat());
            assert_plain(&ran, &format!("{arguments:?} {kind}"));
        }
    }
}

/// Answers one connection after another, as `answer` says.
fn serve(answer: impl Fn(&mut TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            answer(&mut stream);
        }
    });
    port
}

/// Reads a request's head.
fn read_head(stream: &mut TcpStream) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while lines.next().is_some_and(|line| !line.is_empty()) {}
}

#[test]
fn no_answer_of_a_server_reaches_the_terminal_as_it_is() {
    let shell = Shell::new();
    assert!(run(&shell, &["migrate"]).status.success());
    // HTTP: a problem, and what is none.
    let problem = json!({"type": format!("urn:fencepost:problem:{HOSTILE}"), "title": HOSTILE,
        "detail": HOSTILE, "status": 409});
    for body in [problem.to_string(), HOSTILE.to_owned()] {
        for status in ["409 Conflict", "200 OK", "503 Away"] {
            let (head, body) = (status.to_owned(), body.clone());
            let port = serve(move |stream| {
                read_head(stream);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {head}\r\nContent-Type: application/problem+json\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                drop(stream.write_all(answer.as_bytes()));
            });
            let url = format!("http://127.0.0.1:{port}");
            for format in ["text", "json"] {
                let drive = ["bench", "drive", "--url", &url, "--workload", "register"];
                let more = ["--requests", "2", "--format", format];
                let ran = run(&shell, &[&drive[..], &more].concat());
                assert!(!ran.status.success());
                assert_plain(&ran, &format!("{status}, {format}"));
            }
        }
    }
    // Redis: an error in the place of every answer. One line each, in its protocol.
    let line = HOSTILE.replace(['\r', '\n'], " ");
    let port = serve(move |stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
            if stream.write_all(format!("-ERR {line}\r\n").as_bytes()).is_err() {
                break;
            }
        }
    });
    let server = format!("redis://127.0.0.1:{port}");
    let ran = run(&shell, &["--lock-url", &server, "lock", "inspect", "--graph", "g"]);
    assert!(!ran.status.success());
    assert_plain(&ran, "a lock's server");
    // Postgres: an error in the place of a greeting.
    let port = serve(|stream| {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer);
        let fields = format!("SFATAL\0VFATAL\0C28000\0M{HOSTILE}\0D{HOSTILE}\0\0");
        let length = (fields.len() as u32 + 4).to_be_bytes();
        let _ = stream.write_all(&[b"E", &length[..], fields.as_bytes()].concat());
    });
    let url = format!("postgres://w@127.0.0.1:{port}/d");
    let ran = run(&shell, &["--database-url", &url, "migrate"]);
    assert_eq!(ran.status.code(), Some(3), "{}", printed(&ran));
    assert_plain(&ran, "a database's server");
}

/// Requests and refusals end up in the log of a server.
#[test]
fn no_log_line_is_more_than_a_line() {
    let site = Site::on(Kind::Sqlite);
    let node = site.node();
    node.create_graph_and_wait(&crate::support::cluster::name(GRAPH)).unwrap();
    drop(node);
    site.run_sql(&format!("UPDATE graphs SET state = '{HOSTILE}'").replace("state =", "uuid ="));
    let server = site.serve();
    let answer = server.get(&format!("/v1/graphs/{GRAPH}")).unwrap();
    assert_eq!(answer.status, 500, "{answer:?}");
    // A path that is told in a log line.
    let shell = Shell::new();
    let ran = shell.run_with_input(
        &["import", "--graph", "g", "-"],
        r#"{"name":"a","inputs":[],"outputs":[]}"#,
    );
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let to = format!("file:{}", shell.path(&format!("log {HOSTILE}")));
    for _ in 0..2 {
        let ran = run(&shell, &["export", "--graph", "g", "--no-consumer", "--to", &to]);
        assert!(ran.status.success(), "{}", printed(&ran));
        assert_plain(&ran, "export");
    }
    let log = server.wait_for_log(|log| log.contains("ERROR"));
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
}
