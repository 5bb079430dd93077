//! The example of another server, in Python: what it claims of itself, and what
//! docs/YOUR-VARIANT.md says of it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use fencepost::bench::run::results::CheckVerdict;

use super::place::{Place, fencepost};
use super::runs::{bench, ended, measured};
use crate::support::cluster::finish;

/// The example, which listens. Killed when dropped.
struct Example {
    child: Child,
    url: String,
}

impl Example {
    fn start() -> Self {
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python/event_sourced.py"));
        command.args(["--port", "0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.spawn().expect("this test needs `python3`: apt-get install python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect(&line).to_owned();
        Self { child, url }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn it_keeps_the_rules_of_the_level_that_it_claims() {
    let example = Example::start();
    let mut command = fencepost();
    command.args(["conformance", "--target", &example.url, "--level", "core"]);
    let (code, text) = finish(command);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn what_it_answers_is_right() {
    let (example, place) = (Example::start(), Place::new());
    let loads = [
        ("register", "one", &["--workload", "register"][..]),
        ("rejections", "one", &["--workload", "register", "--reject-percent", "20"]),
        ("mixed", "one", &["--workload", "mixed", "--write-percent", "20", "--plan-percent", "50"]),
        ("pairs", "two", &["--workload", "pairs"]),
        ("load", "three", &["--workload", "load", "--jobs", "500", "--batch", "100"]),
        ("churn", "three", &["--workload", "churn"]),
    ];
    let mut before: Option<(&str, Vec<String>)> = None;
    for (name, graph, load) in loads {
        let history = place.path(name).display().to_string();
        let mut command = fencepost();
        command.args(["bench", "drive", "--url", &example.url, "--graph", graph]).args(load);
        if !load.contains(&"load") {
            command.args(["--requests", "200"]);
        }
        let (code, text) = finish({
            command.args(["--history", &history]);
            command
        });
        assert_eq!(code, Some(0), "{name}: {text}");
        // One that goes on where another ended is judged after it.
        let mut histories =
            before.filter(|(of, _)| *of == graph).map_or(Vec::new(), |(_, all)| all);
        histories.push(history);
        let mut command = fencepost();
        command.arg("check").args(&histories);
        let (code, text) = finish(command);
        assert_eq!(code, Some(0), "{name}: {text}");
        before = Some((graph, histories));
    }
}

/// A run ends with its report, in which the example stands beside the designs.
#[test]
fn it_stands_in_the_report_beside_the_designs() {
    let (example, place) = (Example::start(), Place::new());
    let out = place.path("out");
    let target = format!("python={}", example.url);
    let more = [["--target", &target], ["--designs", "crud"]];
    let small = [["--sizes", "60"], ["--seconds", "0.2"], ["--warmup-seconds", "0"]];
    let run = bench(&out, &[&small[..], &[["--blocks", "1"]]].concat(), &more.concat());
    let (results, table) = ended(&out, run);
    let given: Vec<_> =
        results.points.iter().filter(|point| point.key.design == "python").collect();
    assert!(!given.is_empty());
    for point in given {
        let found = measured(point);
        let is_valid = matches!(found.verdict, CheckVerdict::Valid { .. });
        assert!(is_valid && found.figures.completed > 0, "{:?}: {found:?}", point.key);
    }
    assert!(table.contains("python"), "{table}");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Your server beside the designs") && page.contains("python"));
}
