//! What a report says beside its figures, and what the driver says if it cannot begin.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use fencepost::bench::{BenchError, HttpTarget, Outcome, Request, Target, drive};
use serde_json::Value;

use super::place::{Place, arguments, fencepost, graph};

/// The names of all fields that hold a number.
fn numbers(json: &Value, named: &str, found: &mut BTreeSet<String>) {
    match json {
        Value::Number(_) => drop(found.insert(named.to_owned())),
        Value::Array(items) => items.iter().for_each(|item| numbers(item, named, found)),
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| numbers(value, name, found));
        }
        _ => {}
    }
}

#[test]
fn every_number_of_a_report_has_a_unit() {
    let place = Place::new();
    let server = place.serve();
    for line in [
        "--workload load --jobs 50 --batch 10",
        "--workload register --requests 20 --rate 100000",
        "--workload conflict --seconds 0.2 --rate 100 --warmup-seconds 0.05",
    ] {
        let mut json = place.record(&server.target(), line).0.json();
        json["arguments"] = Value::Null;
        let units = json["units"].take();
        let mut found = BTreeSet::new();
        numbers(&json, "", &mut found);
        for name in &found {
            assert!(units[name].is_string(), "`{name}` has no unit");
        }
        assert!(found.len() > 12, "{found:?}");
    }
}

#[test]
fn a_report_says_on_what_and_with_what_it_was_measured() {
    let place = Place::new();
    let server = place.serve();
    let line = "--workload register --requests 5";
    for report in
        [place.record(&server.target(), line).0, place.record(&place.in_process(), line).0]
    {
        let json = report.json();
        let default = fencepost::design::ALL[0].name;
        assert_eq!((&json["design"], &json["sharing"]), (&default.into(), &"on".into()));
        assert_eq!((&json["reads"], &json["loop"]), (&"lock".into(), &"closed".into()));
        assert_eq!(json["server_version"], env!("CARGO_PKG_VERSION"));
        assert!(json["machine"]["processors"].as_u64().unwrap() > 0);
        assert!(json["machine"]["memory_bytes"].as_u64().unwrap() > 1 << 20);
        assert!(json["machine"]["system"].as_str().unwrap().starts_with("linux "));
        assert_eq!(json["commit"].as_str(), fencepost::COMMIT);
        assert_eq!(json["arguments"]["seed"], 1);
        assert!(report.render().contains(&format!("design {default}; sharing on; reads lock")));
    }
}

#[test]
fn a_history_that_begins_in_the_middle_is_told_to_be_checked_with_the_log() {
    let place = Place::new();
    let target = place.in_process();
    let text = || place.record(&target, "--workload conflict --requests 20").0.render();
    assert!(!text().contains("check --stored"));
    assert!(text().contains("fencepost check --stored"));
}

#[test]
fn a_table_fits_120_columns() {
    let place = Place::new();
    let line = "--workload conflict --requests 500 --rate 500";
    let (report, _) = place.record(&place.in_process(), line);
    let text = report.render();
    let table = text.lines().take_while(|line| !line.starts_with("where the time goes"));
    for line in table {
        assert!(line.chars().count() <= 120, "{line}");
    }
}

#[test]
fn a_fetch_without_a_path_finds_one() {
    let place = Place::new();
    let (report, _) = place.record(&place.serve().target(), "--workload fetch --requests 5");
    let json = report.json();
    assert_eq!(
        (&json["arguments"]["path"], &json["counts"]["served"]),
        (&"/livez".into(), &5.into())
    );
    let (target, url) = answers("200 OK");
    let report = drive(&target, &arguments("--workload fetch --requests 5")).unwrap();
    let json = report.json();
    assert_eq!((&json["arguments"]["path"], &json["counts"]["served"]), (&"/".into(), &5.into()));
    assert_eq!((&json["design"], &json["target"]), (&Value::Null, &url.into()));
    assert!(json["notes"][0].as_str().unwrap().contains("no /metrics"), "{json}");
}

/// A server that answers everything in one way, with `{}`.
fn answers(status: &'static str) -> (HttpTarget, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line == "\r\n" {
                        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                        drop(stream.get_mut().write_all(head.as_bytes()));
                    }
                    line.clear();
                }
            });
        }
    });
    let target =
        HttpTarget::new(std::slice::from_ref(&url), graph(), Duration::from_secs(30)).unwrap();
    (target, url)
}

#[test]
fn what_a_target_lacks_is_named() {
    let says = |status, line: &str| match drive(&answers(status).0, &arguments(line)) {
        Err(BenchError::Refused(why)) => why,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("{status}, {line}"),
    };
    let why = says("200 OK", "--workload register");
    assert!(why.contains("200 to createGraph without a header Fencepost-Version: {}"), "{why}");
    assert!(why.contains("--workload fetch"), "{why}");
    let why = says("404 Not Found", "--workload register");
    assert!(why.contains("404"), "{why}");
    let why = says("404 Not Found", "--workload fetch");
    assert!(why.contains("nothing at / or /livez: give a --path"), "{why}");
    let why = says("404 Not Found", "--workload fetch --path /there");
    assert!(why.contains("nothing at /there") && !why.contains("livez"), "{why}");
}

#[test]
fn a_history_that_is_there_is_not_written_over() {
    let place = Place::new();
    let server = place.serve();
    let drive = |history: &str| {
        let run = ["bench", "drive", "--url", &server.url, "--workload", "register"];
        let mut command = fencepost();
        let output = command.args(run).args(["--requests", "3", "--history", history]).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let file = place.path("h.ndjson");
    let path = file.to_str().unwrap();
    assert_eq!(drive(path).0, Some(0));
    let first = std::fs::read(&file).unwrap();
    let (code, says) = drive(path);
    assert!(code == Some(2) && says.contains("is there already"), "{says}");
    assert_eq!(std::fs::read(&file).unwrap(), first);
    let version = || match server.target().connect().perform(&Request::Graph).outcome {
        Outcome::Answered { version, .. } => version,
        other => panic!("{other:?}"),
    };
    assert_eq!(version(), Some(3), "nothing was sent");
    // What holds nothing may be written to: an empty file, as of mktemp, and what keeps nothing.
    std::fs::write(&file, "").unwrap();
    assert_eq!((drive(path).0, drive("/dev/null").0, version()), (Some(0), Some(0), Some(9)));
}

#[test]
fn a_history_and_the_figures_do_not_write_over_each_other() {
    let place = Place::new();
    let file = place.path("both");
    let run = |stdout: Stdio| {
        let mut command = fencepost();
        let line = "bench drive --workload register --requests 3 --history /dev/stdout";
        let line = line.split(' ').chain(["--database-url"]);
        command.args(line).arg(place.database_url()).stdout(stdout).output().unwrap()
    };
    let output = run(File::create(&file).unwrap().into());
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && says.contains("standard output"), "{says}");
    let output = run(Stdio::piped());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("{\"event\":\"start\"") && text.contains("served and rejected"));
}
