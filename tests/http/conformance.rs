//! `fencepost conformance`: sound servers keep every rule, and for each fault of a server there is
//! a case that finds it.

mod faults;

use std::net::TcpListener;
use std::process::Command;
use std::thread;

use fencepost::conformance::{self, Level};
use fencepost::design::{self, Design};
use fencepost::store::StorageKind;
use serde_json::json;

use crate::support::cluster::{Kind, SERVE, Server, Site, finish};
use crate::support::faulty::{self, Told};

fn serve(site: &Site, design: &Design) -> Server {
    let mut command = site.fencepost(&SERVE);
    command.args(["--design", design.name]);
    Server::start(command)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fencepost"));
    for variable in ["DATABASE_URL", "LOCK_URL", "DESIGN", "READS", "FAILPOINTS"] {
        command.env_remove(format!("FENCEPOST_{variable}"));
    }
    command.env_remove("RUST_LOG").arg("conformance").args(arguments);
    command
}

#[test]
fn every_sound_design_keeps_every_rule() {
    thread::scope(|scope| {
        for design in design::sound() {
            scope.spawn(move || {
                let site = Site::on(Kind::Sqlite);
                let server = serve(&site, design);
                let report = conformance::run(&server.base, Level::All, |_| {}).unwrap();
                let broken: Vec<String> = report
                    .ended
                    .iter()
                    .filter(|ended| report.broken().contains(&ended.case.name))
                    .map(ToString::to_string)
                    .collect();
                assert_eq!(broken, Vec::<String>::new(), "{}", design.name);
                let keeps_log = design.storage != StorageKind::RowsPlain;
                let not_offered = report.not_offered();
                assert_eq!(not_offered.is_empty(), keeps_log, "{}: {not_offered:?}", design.name);
                assert!(report.ended.len() >= 50, "{}", report.ended.len());
            });
        }
    });
}

#[test]
fn levels_nest_and_no_two_cases_have_one_name() {
    let names = |level| -> Vec<&str> {
        conformance::cases(level).into_iter().map(|case| case.name).collect()
    };
    let [core, writes, mut all] = [Level::Core, Level::Writes, Level::All].map(names);
    assert!(core.len() >= 20 && writes.len() >= core.len() + 15, "{} {}", core.len(), writes.len());
    assert!(all.len() >= writes.len() + 15, "{}", all.len());
    assert!(writes.starts_with(&core) && all.starts_with(&writes));
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn a_sound_server_gets_a_line_for_each_case_and_leaves_no_graph_behind() {
    let site = Site::on(Kind::Sqlite);
    let server = serve(&site, <&Design>::default());
    let junit = site.path("junit.xml");
    let junit = junit.to_str().unwrap();
    let (code, text) = finish(command(&["--target", &server.base, "--junit", junit]));
    assert_eq!(code, Some(0), "{text}");
    let count = conformance::cases(Level::Core).len();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("ok      ")).count(), count, "{text}");
    assert_eq!(lines[count], format!("{count} of {count} cases of level core hold"));
    assert_eq!(lines.len(), count + 1, "{text}");
    let xml = std::fs::read_to_string(junit).unwrap();
    assert_eq!(xml.matches("<testcase ").count(), count);
    let graphs = server.get("/v1/graphs").unwrap().body;
    assert_eq!(graphs["items"], json!([]));
}

#[test]
fn a_server_that_is_away_exits_with_3_and_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let place = tempfile::TempDir::new().unwrap();
    let junit = place.path().join("junit.xml");
    let (code, text) = finish(command(&["--target", &url, "--junit", junit.to_str().unwrap()]));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.starts_with("fencepost: ") && text.contains(&url), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!junit.exists());
}

#[test]
fn a_server_that_goes_in_the_middle_breaks_no_rule() {
    let (code, text) = going_after(40);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("does not answer: it has gone in the case "), "{text}");
    assert!(!text.contains("BROKEN"), "{text}");
}

/// A server that takes no connections any more after so many of them.
fn going_after(connections: usize) -> (Option<i32>, String) {
    let site = Site::on(Kind::Sqlite);
    let server = serve(&site, <&Design>::default());
    let url = faulty::start_for(&server.base, |sound, asked| sound.pass(&asked), connections);
    finish(command(&["--target", &url]))
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let site = Site::on(Kind::Sqlite);
    let server = serve(&site, <&Design>::default());
    let url = faulty::start(&server.base, |sound, asked| {
        let is_busy = ASKED.fetch_add(1, Ordering::SeqCst) % 3 == 1;
        let told = json!({"outcome": "not_applied", "status": 503});
        if is_busy { Told::made_up(503, None, &told) } else { sound.pass(&asked) }
    });
    let report = conformance::run(&url, Level::Writes, |_| {}).unwrap();
    assert_eq!(report.broken(), Vec::<&str>::new());
}

#[test]
fn wrong_usage_exits_with_2() {
    for (arguments, says) in [
        (&[][..], "--target"),
        (&["--target", "https://127.0.0.1:1"], "give one as http://127.0.0.1:8000"),
        (&["--target", "http://127.0.0.1:1/v1"], "give one as http://127.0.0.1:8000"),
        (&["--target", "http://127.0.0.1:1", "--level", "most"], "possible values"),
        (&["--target", "http://127.0.0.1:1", "--junit", "/no/such/junit.xml"], "--junit /no/such"),
        (
            &["--target", "http://127.0.0.1:1", "--database-url", "sqlite:x.db"],
            "--database-url would have no effect",
        ),
    ] {
        let (code, text) = finish(command(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

#[test]
fn a_server_of_something_else_breaks_every_case_and_is_quoted() {
    let url = faulty::start("http://127.0.0.1:1", |_, _| Told {
        status: 404,
        headers: vec![("content-type".to_owned(), "text/html".to_owned())],
        body: "<html><body>\u{1b}[31mnothing here</body></html>".into(),
    });
    let (code, text) = finish(command(&["--target", &url, "--level", "all"]));
    let count = conformance::cases(Level::All).len();
    assert_eq!(code, Some(1), "{text}");
    let broken: Vec<&str> = text.lines().filter(|line| line.starts_with("BROKEN  ")).collect();
    assert_eq!(broken.len(), count, "{text}");
    assert!(text.contains(&format!("\n0 of {count} cases of level all hold; broken: ")), "{text}");
    assert!(text.contains(&format!("fencepost: the server breaks {count} cases")), "{text}");
    let first = broken[0];
    assert!(first.contains(": PUT /v1/graphs/conformance"), "{first}");
    let got = ": expected 201 with version 0 and changed true, got 404 <html><body>\\u{1b}[31m";
    assert!(first.contains(got), "{first}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}
