//! What a run without faults records is what happened.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fencepost::bench::{Completion, Connection, Outcome, Request, Target, drive};
use fencepost::check::{CheckArgs, CheckError, Evidence, Kind, Verdict};
use fencepost::db::DatabaseUrl;
use fencepost::graph::{JobSpecification, PlanRequest};
use fencepost::node::NodeOptions;
use fencepost::service::Service;
use serde_json::{Value, json};

use super::place::{Place, arguments};
use super::replay::{calls, check, number};

/// Fills a graph and works on it, in one history that begins with the empty graph.
fn checked(target: &dyn Target, place: &Place, line: &str) -> Vec<Value> {
    let (report, history) = place.record(target, line);
    check(&history);
    let counted: u64 = report.summary().rows.iter().map(|row| row.count).sum();
    // What a workload begins with, and the graph that is created again at its end.
    let setup = usize::from(line.contains("conflict")) + usize::from(line.contains("--delete"));
    assert_eq!(counted as usize + setup, calls(&history).len(), "every request is counted");
    let from_the_rows = place.in_process().connect().perform(&Request::Digest).outcome;
    let Outcome::Answered { answer, .. } = from_the_rows else { panic!("{from_the_rows:?}") };
    assert_eq!(
        answer.member::<String>("digest").as_deref(),
        history.last().expect("a last line")["final_digest"].as_str(),
        "the rows hold what was answered"
    );
    history
}

const ON_A_NEW_GRAPH: [&str; 9] = [
    "--workload register --requests 200",
    "--workload register --requests 200 --order random --shape scale-free",
    "--workload register --requests 200 --order reverse --shape chain",
    "--workload mixed --requests 300 --write-percent 50 --revalidate-percent 50",
    "--workload conflict --requests 400",
    "--workload conflict --requests 600 --replay-percent 40",
    "--workload conflict --requests 600 --write-percent 40 --next-page-percent 50",
    "--workload conflict --requests 600 --delete-percent 5 --replay-percent 20",
    "--workload load --jobs 300 --datasets 320 --edges 1100 --batch 50",
];

#[test]
fn in_process_every_answer_is_the_state_at_its_version() {
    for line in ON_A_NEW_GRAPH {
        let place = Place::new();
        checked(&place.in_process(), &place, line);
    }
}

#[test]
fn over_http_every_answer_is_the_state_at_its_version() {
    for line in ON_A_NEW_GRAPH {
        let place = Place::new();
        checked(&place.serve().target(), &place, line);
    }
}

#[test]
fn conflicts_are_rejected_for_every_reason_that_they_are_made_for() {
    let place = Place::new();
    let history = checked(&place.in_process(), &place, "--workload conflict --requests 600");
    for reason in
        ["cycle", "second_producer", "already_exists", "edge_not_found", "precondition_failed"]
    {
        let reason = format!("urn:fencepost:problem:{reason}");
        assert!(history.iter().any(|line| line["problem"]["type"] == reason), "no {reason}");
    }
}

#[test]
fn workloads_on_a_graph_take_what_they_find_there() {
    let place = Place::new();
    let server = place.serve();
    place.record(&server.target(), "--workload load --jobs 500 --batch 100");

    let line = "--workload reregister --requests 100 --changed-percent 50";
    let (_, history) = place.record(&server.target(), line);
    let changed = calls(&history).iter().filter(|call| call.end["changed"] == true).count();
    assert!((1..100).contains(&changed), "{changed} of 100 changed something");
    assert_eq!(
        number(&history[0], "initial_version") + changed as u64,
        number(history.last().unwrap(), "final_version")
    );

    let (_, history) =
        place.record(&server.target(), "--workload plans --plan-jobs 100 --requests 40");
    for call in calls(&history) {
        let jobs = number(&call.end["answer"], "jobs");
        assert!((50..=200).contains(&jobs), "a plan of {jobs} jobs");
    }

    let (report, _) =
        place.record(&server.target(), "--workload fetch --path /livez --requests 50");
    assert_eq!(report.json()["requests"][0]["verdict"], "answered");
    assert_eq!(report.json()["counts"]["served"], 50);
}

#[test]
fn a_load_has_exactly_the_size_that_was_asked_for_and_once_is_enough() {
    for shape in ["chain", "layered", "fan-out", "fan-in", "random", "scale-free"] {
        for (jobs, datasets, edges) in [(1_000, 1_000, 4_000), (700, 900, 2_345), (500, 400, 1_400)]
        {
            let place = Place::new();
            let target = place.in_process();
            let line = format!(
                "--workload load --shape {shape} --jobs {jobs} --datasets {datasets} --edges {edges} --batch 128 --clients 3"
            );
            place.record(&target, &line);
            let image = target.service().unwrap().read_and_wait(&super::place::graph()).unwrap();
            let found =
                (image.graph.job_count(), image.graph.dataset_count(), image.graph.edge_count());
            assert_eq!(found, (jobs, datasets, edges), "{shape}");
            let (again, _) = place.record(&target, &line);
            assert_eq!(
                again.json()["final_version"],
                image.key.version,
                "a second load changes nothing"
            );
        }
    }
}

#[test]
fn runs_that_register_one_after_another_put_no_job_twice() {
    let place = Place::new();
    let target = place.in_process();
    for (order, requests) in
        [("topological", 20), ("reverse", 30), ("random", 20), ("topological", 20)]
    {
        let line = format!("--workload register --order {order} --requests {requests}");
        let (_, history) = place.record(&target, &line);
        assert!(calls(&history).iter().all(|call| call.end["created"] == true), "{order}");
    }
}

fn requests(history: &[Value]) -> Vec<(u64, Value)> {
    let mut requests: Vec<_> = calls(history)
        .iter()
        .map(|call| (number(call.invoke, "id"), call.invoke["request"].clone()))
        .collect();
    requests.sort_by_key(|(id, _)| *id);
    requests
}

#[test]
fn the_same_seed_gives_the_same_requests_and_another_seed_others() {
    let run = |line: &str| {
        let place = Place::new();
        requests(&place.record(&place.in_process(), line).1)
    };
    for workload in ["register --order random", "mixed", "conflict"] {
        let line = |seed: u64| format!("--workload {workload} --requests 100 --seed {seed}");
        assert_eq!(run(&line(7)), run(&line(7)));
        assert_ne!(run(&line(7)), run(&line(8)));
    }
}

/// Alters the first line that has what is asked for, and says how that is called.
#[track_caller]
fn called(history: &[Value], wanted: impl Fn(&Value) -> bool, alter: impl Fn(&mut Value)) -> Kind {
    let mut altered = history.to_vec();
    alter(altered.iter_mut().find(|line| wanted(line)).expect("there is such a line"));
    let lines: String = altered.iter().map(|line| format!("{line}\n")).collect();
    let mut evidence = Evidence::default();
    evidence.history("history", lines.as_bytes()).expect("a whole history");
    match evidence.judge() {
        Verdict::Found(finding) => finding.kind,
        Verdict::Valid(summary) => panic!("{summary}"),
    }
}

#[test]
fn what_a_server_says_beside_its_verdicts_is_recorded_and_judged() {
    let place = Place::new();
    let server = place.serve();
    let history = checked(&server.target(), &place, "--workload conflict --requests 800");
    for call in calls(&history) {
        let of_header = call.end["headers"]["version"].as_str().map(str::to_owned);
        assert_eq!(of_header, call.end["version"].as_u64().map(|version| version.to_string()));
    }
    let asked = |name: &'static str| {
        let calls = calls(&history).into_iter();
        let ids: Vec<u64> = calls
            .filter(|call| call.invoke["request"]["call"] == name && call.end["event"] == "ok")
            .map(|call| number(call.invoke, "id"))
            .collect();
        move |line: &Value| {
            line["event"] == "ok" && line["id"].as_u64().is_some_and(|id| ids.contains(&id))
        }
    };
    let other_version = |text: &str| json!(format!("{text}0"));
    for call in ["readJob", "readDataset", "readDigest", "readGraph", "listJobs", "listDatasets"] {
        let kind = called(&history, asked(call), |line| line["headers"]["etag"] = json!("\"9\""));
        assert_eq!(kind, Kind::WrongHeader, "{call}");
    }
    for call in ["readDigest", "readGraph", "planMany"] {
        for (member, value) in [("version", json!(1_000_000)), ("graph", json!("other"))] {
            let kind = called(&history, asked(call), |line| {
                assert!(!line["answer"][member].is_null(), "{call} has no {member}");
                line["answer"][member] = value.clone();
            });
            assert_eq!(kind, Kind::WrongAnswer, "{call}");
        }
    }
    let kind = called(&history, asked("planMany"), |line| {
        line["answer"]["digest_of_body"] = json!("another");
    });
    assert_eq!(kind, Kind::WrongAnswer);
    let kind = called(&history, asked("createJob"), |line| {
        let location = line["headers"]["location"].as_str().expect("it says where the job is");
        line["headers"]["location"] = other_version(location);
    });
    assert_eq!(kind, Kind::WrongHeader);
    for call in ["putJob", "deleteJob", "addInput", "applyChangeset"] {
        let kind = called(&history, asked(call), |line| {
            assert!(line["answer"].is_object(), "{call} has no body");
            line["answer"]["etag"] = json!("\"1000000\"");
        });
        assert_eq!(kind, Kind::WrongAnswer, "{call}");
    }
    let rejected = |line: &Value| line["verdict"] == "rejected";
    let kind = called(&history, rejected, |line| line["headers"]["version"] = json!("1000000"));
    assert_eq!(kind, Kind::WrongHeader);
}

/// A history of what clients come back to: lists, keys, a graph that is gone.
fn come_back() -> Vec<Value> {
    let place = Place::new();
    let server = place.serve();
    let line = "--workload conflict --requests 1500 --write-percent 60 --next-page-percent 60 \
                --replay-percent 30 --delete-percent 2 --jobs 5";
    checked(&server.target(), &place, line)
}

#[test]
fn what_clients_come_back_to_is_recorded_and_judged() {
    let history = come_back();
    let all = calls(&history);
    let is_answer = |line: &Value, id: u64| line["id"] == id && line["event"] != "invoke";
    // A list that goes on.
    let next = all.iter().find(|call| {
        let items = call.end["answer"]["items"].as_array();
        call.invoke["request"]["after"].is_string() && items.is_some_and(|items| !items.is_empty())
    });
    let next = number(next.expect("a page that follows another").invoke, "id");
    let kind = called(
        &history,
        |line| is_answer(line, next),
        |line| {
            line["answer"]["items"].as_array_mut().unwrap().remove(0);
        },
    );
    assert_eq!(kind, Kind::WrongAnswer);
    // A write that was accepted, again with its key.
    let (mut first, mut replayed) = (HashMap::new(), None);
    for call in all.iter().filter(|call| call.end["verdict"] == "accepted") {
        if let Some(key) = call.invoke["request"]["key"].as_str()
            && first.insert(key, call).is_some()
            && call.end["changed"] == true
        {
            replayed = Some(number(call.invoke, "id"));
        }
    }
    let replayed = replayed.expect("one was accepted again");
    let another = |line: &mut Value| {
        line["version"] = json!(number(line, "version") + 1);
    };
    assert_eq!(called(&history, |line| is_answer(line, replayed), another), Kind::AppliedTwice);
    let reused = "urn:fencepost:problem:idempotency_key_reused";
    assert!(all.iter().any(|call| call.end["problem"]["type"] == reused));
    // A graph that was gone.
    let gone = "urn:fencepost:problem:graph_not_found";
    assert!(all.iter().any(|call| call.end["problem"]["type"] == gone));
    let back = all.iter().filter(|call| call.invoke["request"]["call"] == "createGraph");
    assert!(back.clone().any(|call| call.end["created"] == true));
    assert!(all.iter().any(|call| call.invoke["request"]["call"] == "deleteGraph"));
}

#[test]
fn what_the_client_has_is_asked_for_at_the_version_that_it_has_seen() {
    let place = Place::new();
    let server = place.serve();
    let line = "--workload mixed --requests 1200 --write-percent 20 --revalidate-percent 100";
    let history = checked(&server.target(), &place, line);
    let revalidated = |line: &Value| line["request"]["if_none_match"].is_u64();
    let of_header =
        |line: &Value| line["verdict"] == "not_modified" && line["headers"]["etag"].is_string();
    assert!(history.iter().any(of_header), "something was not modified");
    for invoke in history.iter().filter(|line| revalidated(line)) {
        assert_eq!(invoke["request"]["at_least"], invoke["request"]["if_none_match"]);
    }
    let late = called(&history, revalidated, |line| line["request"]["at_least"] = json!(1_000_000));
    assert_eq!(late, Kind::StaleAnswer);
}

/// A service that counts the connections which were told that no history is recorded.
struct Counts<'t> {
    target: &'t dyn Target,
    told: Arc<AtomicUsize>,
}

impl Target for Counts<'_> {
    fn describe(&self) -> String {
        self.target.describe()
    }

    fn connect(&self) -> Box<dyn Connection> {
        Box::new(Counting { connection: self.target.connect(), told: Arc::clone(&self.told) })
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

struct Counting {
    connection: Box<dyn Connection>,
    told: Arc<AtomicUsize>,
}

impl Connection for Counting {
    fn perform(&mut self, request: &Request) -> Completion {
        self.connection.perform(request)
    }

    fn move_on(&mut self) {
        self.connection.move_on();
    }

    fn skip_evidence(&mut self) {
        self.told.fetch_add(1, Ordering::Relaxed);
        self.connection.skip_evidence();
    }

    fn first_jobs(&mut self, limit: usize) -> Result<Vec<JobSpecification>, String> {
        self.connection.first_jobs(limit)
    }
}

#[test]
fn what_only_a_history_tells_is_not_made_where_none_is_recorded() {
    let place = Place::new();
    let server = place.serve();
    let target = server.target();
    let line = "--workload register --clients 3 --requests 30";
    let counts = Counts { target: &target, told: Arc::default() };
    place.record(&counts, line);
    assert_eq!(counts.told.load(Ordering::Relaxed), 0);
    drive(&counts, &arguments(line)).unwrap().verdict().unwrap();
    assert_eq!(counts.told.load(Ordering::Relaxed), 3, "each client");

    let jobs = target.connect().first_jobs(2).unwrap();
    let datasets = vec![jobs[0].outputs[0].clone()];
    let plan = Request::Plan(PlanRequest { datasets, ..PlanRequest::default() });
    let mut connection = target.connect();
    let mut ask = |request: &Request| {
        let Completion { outcome, headers, written, .. } = connection.perform(request);
        let answer = match outcome {
            Outcome::Answered { version: Some(_), answer } => answer.to_string(),
            Outcome::Accepted(_) => String::new(),
            other => panic!("{other:?}"),
        };
        connection.skip_evidence();
        (answer, headers, written)
    };
    let (recorded, headers, _) = ask(&plan);
    assert!(recorded.contains("\"digest_of_body\":") && headers.is_some(), "{recorded}");
    let (counted, headers, _) = ask(&plan);
    assert!(counted.contains("\"jobs\":") && headers.is_none(), "{counted}");
    assert!(!counted.contains("digest_of_body"), "{counted}");
    assert!(ask(&Request::CreateGraph).2.is_none());
    // It stays so on the next connection.
    connection.move_on();
    assert!(connection.perform(&plan).headers.is_none());
}

/// The verdict on the history that was recorded last.
fn judged(place: &Place) -> Result<Verdict, CheckError> {
    let database = DatabaseUrl::parse(&place.database_url()).unwrap();
    fencepost::check::check(
        &CheckArgs::of(vec![place.path("history")]),
        &NodeOptions::new(database),
    )
}

#[test]
fn requests_that_are_spread_over_many_graphs_are_judged_graph_by_graph() {
    let place = Place::new();
    let server = place.serve();
    let line = "--workload register --graphs 7 --requests 200 --clients 4";
    let (_, history) = place.record(&server.target(), line);
    assert_eq!(history[0]["graphs"], 7);
    let graphs: BTreeSet<&str> =
        history.iter().filter_map(|line| line["graph"].as_str()).skip(1).collect();
    let expected: Vec<String> = (0..7).map(|number| format!("bench-{number}")).collect();
    assert!(graphs.iter().eq(&expected), "{graphs:?}");
    let Verdict::Valid(summary) = judged(&place).unwrap() else { panic!() };
    // Each is read in the end.
    assert_eq!(summary.operations, 200 + 7);
    assert!((20..60).contains(&summary.last_version), "of the graph with most: {summary:?}");
    // One that is told to be about another graph than it was.
    let moved: Vec<String> = history
        .iter()
        .map(|line| match line["event"] == "invoke" && line["id"] == 100 {
            true => {
                let mut line = line.clone();
                let other = if line["graph"] == "bench-0" { "bench-1" } else { "bench-0" };
                line["graph"] = json!(other);
                line.to_string()
            }
            false => line.to_string(),
        })
        .collect();
    std::fs::write(place.path("history"), moved.join("\n") + "\n").unwrap();
    assert!(matches!(judged(&place).unwrap(), Verdict::Found(_)));
    // A write that was told to be accepted, and lost.
    let read = history.iter().rposition(|line| line["answer"]["jobs"].is_u64()).unwrap();
    let mut lost = history.clone();
    let jobs = lost[read]["answer"]["jobs"].as_u64().unwrap();
    lost[read]["answer"]["jobs"] = json!(jobs - 1);
    let lost: Vec<String> = lost.iter().map(Value::to_string).collect();
    std::fs::write(place.path("history"), lost.join("\n") + "\n").unwrap();
    assert!(matches!(judged(&place).unwrap(), Verdict::Found(_)));
    // What is of one graph says nothing of many.
    let with_base = CheckArgs { frozen: true, ..CheckArgs::of(vec![place.path("history")]) };
    let database = DatabaseUrl::parse(&place.database_url()).unwrap();
    let said = fencepost::check::check(&with_base, &NodeOptions::new(database)).unwrap_err();
    assert!(said.to_string().contains("is about many graphs"), "{said}");
    // A history tells all that ever happened to each.
    let again = drive(&server.target(), &arguments(line));
    let said = again.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("is not new: give another --graph"), "{said}");
    // Created, and nothing put into them.
    let none = "--workload register --graphs 3 --requests 0 --graph other";
    let (report, _) = place.record(&server.target(), none);
    assert!(report.summary().rows.is_empty());
    let Verdict::Valid(summary) = judged(&place).unwrap() else { panic!() };
    assert_eq!(summary.operations, 0);
}
