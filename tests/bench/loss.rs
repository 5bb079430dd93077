//! Servers that go away, answer nonsense, or are not there; and what the driver ends with.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use fencepost::bench::{Connection, Outcome, Request, Target};
use fencepost::check::{Evidence, Verdict};
use fencepost::db::DatabaseUrl;
use fencepost::node::NodeOptions;
use serde_json::Value;

use super::place::{Place, fencepost, graph};
use super::replay::{calls, number};
use crate::support::cluster::wait_until;
use crate::support::ports::free_port;

fn drive(url: &str, history: &Path, line: &str) -> Command {
    let mut command = fencepost();
    command
        .args(["bench", "drive", "--url", url, "--history"])
        .arg(history)
        .args(line.split_whitespace());
    command
}

fn code(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn version(connection: &mut dyn Connection) -> u64 {
    match connection.perform(&Request::Graph).outcome {
        Outcome::Answered { version, .. } => version.expect("a graph has a version"),
        _ => 0,
    }
}

/// The figures are those of the time until then, and the history is whole.
#[test]
fn ctrl_c_ends_a_run_with_its_figures_and_a_whole_history() {
    let place = Place::new();
    let server = place.serve();
    let line = "--workload register --warmup-seconds 0.1 --seconds 1000 --format json";
    let run = drive(&server.url, &place.path("history"), line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut connection = server.target().connect();
    wait_until("the run is under way", || version(connection.as_mut()) >= 50);
    let process = run.id().to_string();
    assert!(Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    let (code, said) = code(&output);
    assert!(code == Some(3) && said.contains("ended by a signal"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ended_early"], "the run was ended by a signal");
    let window = report["window_seconds"].as_f64().unwrap();
    assert!(window > 0.0 && window < 1_000.0, "{window}");
    let history = place.history();
    assert!(calls(&history).len() >= 50);
    assert_eq!(history.last().unwrap()["final_version"], version(connection.as_mut()));
}

/// Before its window.
#[test]
fn ctrl_c_ends_a_warm_up() {
    let place = Place::new();
    let server = place.serve();
    let line = "--workload register --clients 1 --warmup-seconds 1000";
    let mut command = drive(&server.url, &place.path("history"), line);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut connection = server.target().connect();
    wait_until("the run is under way", || version(connection.as_mut()) >= 5);
    let process = run.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    let (code, said) = code(&run.wait_with_output().unwrap());
    assert!(code == Some(3) && said.contains("ended by a signal"), "{said}");
}

#[test]
fn a_server_that_dies_leaves_unknown_outcomes_and_exit_code_3() {
    let place = Place::new();
    let mut server = place.serve();
    let line = "--workload register --seconds 1000 --patience-seconds 0.2";
    let run = drive(&server.url, &place.path("history"), line)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut run = run.expect("the driver starts");
    let mut connection = server.target().connect();
    while version(connection.as_mut()) < 20 {
        assert!(
            run.try_wait().expect("the driver can be asked").is_none(),
            "the driver ended early"
        );
    }
    server.kill();
    let (code, log) = code(&run.wait_with_output().expect("the driver ends"));
    assert_eq!(code, Some(3), "{log}");

    let history = place.history();
    let calls = calls(&history);
    let unknown = calls.iter().filter(|call| call.end["verdict"] == "unknown").count() as u64;
    assert!(unknown > 0, "requests were under way");
    assert!(history.last().expect("a last line")["final_version"].is_null());
    let process = |call: &super::replay::Call<'_>| number(call.invoke, "process");
    assert!(
        calls.iter().any(|call| process(call) >= 8),
        "after an unknown outcome a client is another process"
    );

    // What was accepted is there, and what is there beyond it was unknown.
    let accepted = calls.iter().filter(|call| call.end["changed"] == true);
    let accepted: Vec<u64> = accepted.map(|call| number(call.end, "version")).collect();
    let service = place.in_process();
    let image =
        service.service().expect("in process").read_and_wait(&graph()).expect("the graph is there");
    assert!(accepted.iter().all(|&version| version <= image.key.version));
    assert!((accepted.len() as u64..=accepted.len() as u64 + unknown).contains(&image.key.version));
}

#[test]
fn clients_of_a_node_that_dies_go_on_at_the_next_one() {
    let place = Place::new();
    let (mut first, second) = (place.serve(), place.serve());
    let line = format!("--url {} --workload conflict --requests 3000 --clients 8", second.url);
    let run = drive(&first.url, &place.path("history"), &line)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut run = run.expect("the driver starts");
    let mut connection = second.target().connect();
    while version(connection.as_mut()) < 20 {
        assert!(
            run.try_wait().expect("the driver can be asked").is_none(),
            "the driver ended early"
        );
    }
    first.kill();
    let (code, log) = code(&run.wait_with_output().expect("the driver ends"));
    assert_eq!(code, Some(0), "{log}");

    let history = place.history();
    assert_eq!(history[0]["target"], format!("{}, {}", first.url, second.url));
    assert!(
        history.last().expect("a last line")["final_version"].is_u64(),
        "the second node tells how it ended"
    );
    let calls = calls(&history);
    let lost = calls.iter().filter(|call| call.end["verdict"] == "unknown").count();
    assert!((1..=8).contains(&lost), "{lost} requests were lost: each client loses its node once");
    let mut evidence = Evidence::default();
    let lines: String = history.iter().map(|line| format!("{line}\n")).collect();
    evidence.history("history", lines.as_bytes()).expect("a whole history");
    let database = DatabaseUrl::parse(&place.database_url()).expect("the URL is right");
    evidence.stored(&NodeOptions::new(database)).expect("the database can be read");
    if let Verdict::Found(finding) = evidence.judge() {
        panic!("{finding}");
    }
}

#[test]
fn a_server_that_is_away_at_the_start_is_exit_code_3() {
    let place = Place::new();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let output = drive(&nobody, &place.path("history"), "--workload register").output();
    let (code, log) = code(&output.expect("the driver runs"));
    assert_eq!(code, Some(3), "{log}");
}

#[test]
fn a_history_that_cannot_be_written_fails_the_run() {
    let place = Place::new();
    let server = place.serve();
    for file in [place.path("no/such/directory"), "/dev/full".into()] {
        let output = drive(&server.url, &file, "--workload register --requests 50").output();
        let (code, log) = code(&output.expect("the driver runs"));
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("the history could not be written"), "{log}");
    }
}

/// Answers the very first request with 200 and all others with 500.
fn answer_nonsense(stream: TcpStream, first: &AtomicBool) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
        if line == "\r\n" {
            let status = if first.swap(false, Ordering::Relaxed) { "200 OK" } else { "500 Oh No" };
            drop(write!(stream.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}"));
        }
        line.clear();
    }
}

#[test]
fn an_answer_that_is_no_documented_verdict_is_exit_code_1() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        let first = AtomicBool::new(true);
        std::thread::scope(|scope| {
            for stream in listener.incoming() {
                scope.spawn(|| answer_nonsense(stream.expect("a connection"), &first));
            }
        });
    });
    let output =
        drive(&url, &place.path("history"), "--workload fetch --requests 3 --clients 1").output();
    let (code, log) = code(&output.expect("the driver runs"));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("3 answers were no documented verdicts"), "{log}");
    assert_eq!(
        calls(&place.history()).iter().filter(|call| call.end["verdict"] == "undocumented").count(),
        3
    );
}
