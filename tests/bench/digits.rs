//! JSON keeps its digits on the way from a server through the driver and back, and into the
//! history; and a server that respells them is found.

use std::process::Command;

use fencepost::bench::{Completion, Connection, Outcome, Request, Target, Verbatim, drive};
use fencepost::check::{CheckArgs, Finding, Kind, Verdict, check};
use fencepost::db::DatabaseUrl;
use fencepost::graph::{
    CanonicalJson, JobPatch, JobSpecification, Name, Operation, SpecPatch, Step,
};
use fencepost::node::NodeOptions;
use fencepost::service::Service;
use serde_json::Value;

use super::place::{Place, arguments, fencepost, graph};

/// Canonical; nothing of it stays as it is where it becomes a binary number.
const HOSTILE: &str =
    r#"{"a":1.10,"b":1e400,"c":-0,"d":0.1e1,"e":12345678901234567890123,"f":[1E5,{"g":-1.0}]}"#;

/// Those that binary numbers can hold, in another spelling.
const RESPELLED: [&str; 6] = ["1.10", "1e2", "-0", "0.1e1", "12345678901234567890123", "1E5"];

fn json(text: &str) -> CanonicalJson {
    CanonicalJson::parse(text).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn put_job(job: &str, spec: &str) -> Operation {
    let (inputs, outputs) = (vec![name("x")], vec![name(&format!("of {job}"))]);
    Operation::PutJob(JobSpecification { name: name(job), inputs, outputs, spec: json(spec) })
}

#[track_caller]
fn write(target: &dyn Target, steps: impl IntoIterator<Item = Operation>) {
    let steps: Vec<Step> = steps.into_iter().map(Step::from).collect();
    let outcome = target.connect().perform(&Request::Write(steps)).outcome;
    assert!(matches!(&outcome, Outcome::Accepted(accepted) if accepted.changed), "{outcome:?}");
}

/// A place with a graph of jobs that have this specification.
fn place_with(spec: &str) -> Place {
    let place = Place::new();
    let target = place.in_process();
    target.service().unwrap().create_graph_and_wait(&graph()).unwrap();
    write(&target, ["one", "two", "three"].map(|job| put_job(job, spec)));
    place
}

/// Runs the driver; the text of its history.
fn record(place: &Place, target: &dyn Target, line: &str) -> String {
    let mut args = arguments(line);
    args.history = Some(place.new_history());
    drive(target, &args).unwrap().verdict().unwrap();
    std::fs::read_to_string(place.path("history")).unwrap()
}

/// What the checker says of the history, with all that is stored.
fn verdict(place: &Place) -> Verdict {
    let histories = vec![place.path("history")];
    let args = CheckArgs { stored: true, ..CheckArgs::of(histories) };
    check(&args, &NodeOptions::new(DatabaseUrl::parse(&place.database_url()).unwrap())).unwrap()
}

#[track_caller]
fn found(place: &Place) -> Finding {
    match verdict(place) {
        Verdict::Found(finding) => *finding,
        Verdict::Valid(summary) => panic!("{summary}"),
    }
}

#[track_caller]
fn expect_valid(place: &Place) {
    if let Verdict::Found(finding) = verdict(place) {
        panic!("{finding}");
    }
}

#[test]
fn what_was_read_is_put_back_to_the_byte_and_recorded_so() {
    let spec = format!("\"spec\":{HOSTILE}");
    for over_http in [false, true] {
        let place = place_with(HOSTILE);
        let server = over_http.then(|| place.serve());
        let target: Box<dyn Target> = match &server {
            Some(server) => Box::new(server.target()),
            None => Box::new(place.in_process()),
        };
        let line = "--workload reregister --changed-percent 0 --requests 20";
        let history = record(&place, target.as_ref(), line);
        let lines = |event: &str, with: &str| {
            let event = format!("{{\"event\":\"{event}\"");
            history.lines().filter(|line| line.starts_with(&event) && line.contains(with)).count()
        };
        assert_eq!((lines("invoke", &spec), lines("ok", "\"changed\":false")), (20, 20));
        expect_valid(&place);

        let history =
            record(&place, target.as_ref(), "--workload mixed --requests 80 --write-percent 5");
        let read = history.lines().filter(|line| line.contains("\"answer\":{\"name\":"));
        let kept = read.filter(|line| line.contains(&spec)).count();
        assert!(kept > 10, "{kept} answers hold what was put");
        expect_valid(&place);
    }
}

#[test]
fn every_write_reaches_the_service_to_the_digit() {
    for over_http in [false, true] {
        let place = place_with("{}");
        let server = over_http.then(|| place.serve());
        let target: Box<dyn Target> = match &server {
            Some(server) => Box::new(server.target()),
            None => Box::new(place.in_process()),
        };
        let target = target.as_ref();
        let answer = |request: Request| match target.connect().perform(&request).outcome {
            Outcome::Answered { answer, .. } => answer.to_string(),
            other => panic!("{other:?}"),
        };
        let job = || answer(Request::Job { name: name("one"), if_none_match: None });
        let dataset = || answer(Request::Dataset(name("x")));

        write(target, [put_job("one", HOSTILE)]);
        assert!(job().contains(&format!("\"spec\":{HOSTILE}")), "{}", job());
        let spec = SpecPatch::Merge(json(r#"{"a":1.100,"f":{"h":-0.0,"i":null},"b":null}"#));
        let patch = JobPatch { spec: Some(spec), ..JobPatch::default() };
        write(target, [Operation::PatchJob { name: name("one"), patch: patch.clone() }]);
        let patched =
            r#""spec":{"a":1.100,"c":-0,"d":0.1e1,"e":12345678901234567890123,"f":{"h":-0.0}}"#;
        assert!(job().contains(patched), "{}", job());

        let declared = Operation::PutDataset { name: name("x"), metadata: json(HOSTILE) };
        write(target, [declared.clone()]);
        assert!(dataset().contains(&format!("\"metadata\":{HOSTILE}")), "{}", dataset());
        let spelled_otherwise = json(&HOSTILE.replace("1.10", "1.1"));
        let other = Operation::PutDataset { name: name("x"), metadata: spelled_otherwise };
        write(target, [other, put_job("two", HOSTILE)]);
        assert!(dataset().contains("\"metadata\":{\"a\":1.1,"), "{}", dataset());
        write(target, [declared, Operation::PatchJob { name: name("two"), patch }]);
        assert!(dataset().contains(&format!("\"metadata\":{HOSTILE}")), "{}", dataset());
    }
}

/// The same value, its numbers gone through binary ones.
fn respelled(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap().to_string()
}

/// A service that respells numbers.
struct Respells<'t> {
    target: &'t dyn Target,
    of: Which,
}

/// Where.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Which {
    /// In what it answers.
    Answers,
    /// In what it is asked to keep.
    Requests,
}

impl Target for Respells<'_> {
    fn describe(&self) -> String {
        self.target.describe()
    }

    fn connect(&self) -> Box<dyn Connection> {
        Box::new(Respelling { connection: self.target.connect(), of: self.of })
    }

    fn nodes(&self) -> usize {
        self.target.nodes()
    }

    fn metrics(&self) -> Vec<Option<String>> {
        self.target.metrics()
    }

    fn service(&self) -> Option<&Service> {
        self.target.service()
    }
}

struct Respelling {
    connection: Box<dyn Connection>,
    of: Which,
}

impl Connection for Respelling {
    fn perform(&mut self, request: &Request) -> Completion {
        let mut request = request.clone();
        if let (Which::Requests, Request::Write(steps)) = (self.of, &mut request) {
            for step in steps {
                if let Operation::PutJob(job) = &mut step.operation {
                    job.spec = json(&respelled(job.spec.as_str()));
                }
            }
        }
        let mut completion = self.connection.perform(&request);
        if let (Which::Answers, Outcome::Answered { answer, .. }) =
            (self.of, &mut completion.outcome)
        {
            *answer = Verbatim::parse(respelled(answer.as_str()).as_bytes()).unwrap();
        }
        completion
    }

    fn move_on(&mut self) {
        self.connection.move_on();
    }

    fn first_jobs(&mut self, limit: usize) -> Result<Vec<JobSpecification>, String> {
        self.connection.first_jobs(limit)
    }
}

#[test]
fn a_service_that_respells_numbers_is_found() {
    for digits in RESPELLED {
        let spec = format!("{{\"n\":[{digits}]}}");
        assert_ne!(respelled(&spec), spec);
        let reads = "--workload mixed --write-percent 0 --requests 60";
        let unchanged = "--workload reregister --changed-percent 0 --requests 20";
        for (of, line, kind) in [
            (Which::Answers, reads, Kind::WrongAnswer),
            // It changes what should stay as it is.
            (Which::Requests, unchanged, Kind::WrongChanged),
        ] {
            let place = place_with(&spec);
            let target = place.in_process();
            record(&place, &target, line);
            expect_valid(&place);
            record(&place, &Respells { target: &target, of }, line);
            let finding = found(&place);
            assert_eq!(finding.kind, kind, "{digits}, {of:?}: {finding}");
        }
    }
}

#[test]
fn the_commands_keep_numbers_that_no_binary_number_holds() {
    let place = Place::new();
    let line = format!(r#"{{"name":"bake","inputs":["x"],"outputs":["y"],"spec":{HOSTILE}}}"#);
    std::fs::write(place.path("jobs.ndjson"), line + "\n").unwrap();
    let url = place.database_url();
    let run = |command: &mut Command| {
        let ran = command.env("FENCEPOST_DATABASE_URL", &url).output().unwrap();
        let text = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{text}{}", String::from_utf8_lossy(&ran.stderr));
        text
    };
    let path = |file: &str| place.path(file).display().to_string();
    run(fencepost().args(["import", "--graph", "bench", &path("jobs.ndjson")]));
    let server = place.serve();
    let drive = ["bench", "drive", "--url", &server.url, "--requests", "10"];
    let reregister = ["--workload", "reregister", "--changed-percent", "0", "--history"];
    run(fencepost().args(drive).args(reregister).arg(path("history")));
    let history = std::fs::read_to_string(place.path("history")).unwrap();
    assert!(history.contains("\"initial_version\":1") && history.contains("\"final_version\":1"));
    let told = run(fencepost().args(["check", "--stored", &path("history")]));
    assert!(told.starts_with("valid: 10 operations, versions 1 to 1"), "{told}");
    // The same with the log as a file.
    let log = run(fencepost().args(["log", "--graph", "bench", "--format", "json"]));
    assert!(log.contains(HOSTILE), "{log}");
    std::fs::write(place.path("log"), log).unwrap();
    let told = run(fencepost().args(["check", "--changes", &path("log"), &path("history")]));
    assert!(told.starts_with("valid: 10 operations, versions 1 to 1"), "{told}");
}
