//! Histories that begin with a graph from a file.

use fencepost::chain::Chain;
use fencepost::check::Kind;
use fencepost::event::{Event, EventIndex, Importing, Kind as EventKind, Stream};
use fencepost::graph::{Graph, Name};
use serde_json::{Value, json};
use uuid::Uuid;

use super::script::*;
use super::truth;

const LAST: &str = "dev.fencepost.import.ended.v1";

/// Job `a` with an input and an output, changed once, and a declared dataset: version 3.
fn graph() -> Graph {
    let requests = [
        put_job("a", &["x"], &[]),
        put_dataset("d", json!({"n": 1.50})),
        put_job("a", &["x"], &["y"]),
    ];
    requests.iter().fold(Graph::default(), |graph, request| {
        truth::judge(&graph, request).expect("it is legal").next
    })
}

fn stream() -> Stream {
    Stream::new(Name::new("g").unwrap(), Uuid::from_u128(7))
}

/// The graph at version 3, as the events that build it.
fn snapshot() -> String {
    snapshot_of(graph())
}

fn snapshot_of(graph: Graph) -> String {
    let mut events = Importing::new(stream(), graph, Chain([7; 32]), Some(0));
    let mut lines = Vec::new();
    while events.write_some(1 << 20, &mut lines).is_some() {}
    String::from_utf8(lines).unwrap()
}

/// A change that declares a dataset.
fn declared(version: u64) -> String {
    let fact = format!(r#"{{"fact":"dataset_declared","metadata":{{}},"name":"e{version}"}}"#);
    let data = format!(r#"{{"facts":[{fact}],"version":{version}}}"#);
    let event = Event {
        kind: EventKind::Changed,
        index: EventIndex { version, ordinal: 0 },
        chain: Chain([version as u8; 32]),
        committed_at_ms: Some(0),
        actor: None,
        data: data.into(),
    };
    String::from_utf8(stream().line(&event)).unwrap()
}

/// A history from version 3 on that looks at all of the graph.
fn history() -> Script {
    let dataset = |name: &str, declared: bool, metadata: Value| {
        let producer = (name == "y").then_some("a");
        let consumers: &[&str] = if name == "x" { &["a"] } else { &[] };
        answered(
            3,
            json!({
                "name": name, "declared": declared, "producer": producer, "consumers": consumers,
                "metadata": metadata,
            }),
        )
    };
    let read = |name: &str| json!({"call": "readDataset", "dataset": name});
    let job = json!({"name": "a", "inputs": ["x"], "outputs": ["y"], "spec": {}, "version": 3});
    Script::new()
        .beginning_at(3)
        .call(0, [1, 2], read_job("a"), answered(3, job))
        .call(0, [3, 4], read_graph(), counts(3, 1, 3, 2))
        .call(0, [5, 6], read("d"), dataset("d", true, json!({"n": 1.5})))
        .call(0, [7, 8], read("x"), dataset("x", false, json!({})))
        .call(0, [9, 10], read("y"), dataset("y", false, json!({})))
        .call(0, [11, 12], put_job("b", &["y"], &["z"]), created(4))
}

#[test]
fn a_history_is_judged_from_the_graph_that_it_begins_with() {
    let text = history().text();
    let summary = valid(judge_from(&snapshot(), &[&text]).unwrap());
    assert_eq!((summary.first_version, summary.last_version), (3, 4));
    let wrong = text.replace(r#""n":1.5"#, r#""n":1.6"#);
    let finding = found(judge_from(&snapshot(), &[&wrong]).unwrap());
    assert_eq!((finding.kind, finding.version), (Kind::WrongAnswer, Some(3)), "{finding}");
    let cycle = history().call(0, [13, 14], put_job("c", &["z"], &["x"]), created(5)).text();
    let finding = found(judge_from(&snapshot(), &[&cycle]).unwrap());
    assert_eq!((finding.kind, finding.version), (Kind::IllegalAccept, Some(5)), "{finding}");
    // A history before that version does not begin there.
    let earlier = Script::new().beginning_at(2).text();
    let error = judge_from(&snapshot(), &[&text, &earlier]).expect_err("too late").to_string();
    let says = "base.ndjson: holds the graph at version 3, and the histories begin at version 2";
    assert_eq!(error, says);
}

#[test]
fn changes_after_the_graph_lead_to_where_a_history_begins_and_what_follows_is_not_read() {
    let begins_at = |version: u64, datasets: usize| {
        let read = counts(version, 1, datasets, 2);
        Script::new().beginning_at(version).call(0, [1, 2], read_graph(), read).text()
    };
    let log = snapshot() + &declared(4) + &declared(5);
    for (version, datasets) in [(3, 3), (4, 4), (5, 5)] {
        valid(judge_from(&log, &[&begins_at(version, datasets)]).unwrap());
    }
    let error = judge_from(&log, &[&begins_at(6, 6)]).expect_err("too early").to_string();
    assert_eq!(error, "base.ndjson: ends at version 5, and the histories begin at version 6");
    let gap = snapshot() + &declared(5);
    let error = judge_from(&gap, &[&begins_at(5, 5)]).expect_err("a gap").to_string();
    assert!(error.ends_with("of version 5 cannot follow version 3"), "{error}");
    // Changes alone lead there from the empty graph.
    let summary = valid(
        judge_from(
            &declared(1),
            &[&Script::new()
                .beginning_at(1)
                .call(0, [1, 2], read_graph(), counts(1, 0, 1, 0))
                .text()],
        )
        .unwrap(),
    );
    assert_eq!(summary.first_version, 1);
}

#[test]
fn jobs_of_the_graph_may_depend_on_each_other() {
    let requests = [
        put_job("a", &["x"], &["y"]),
        put_job("b", &["y"], &["z"]),
        put_job("c", &["x", "y", "z"], &[]),
    ];
    let graph = requests.iter().fold(Graph::default(), |graph, request| {
        truth::judge(&graph, request).expect("it is legal").next
    });
    let snapshot = snapshot_of(graph);
    let text = Script::new().beginning_at(3).call(0, [1, 2], read_graph(), counts(3, 3, 3, 7));
    valid(judge_from(&snapshot, &[&text.text()]).unwrap());
}

#[test]
fn a_file_that_is_not_the_graph_that_it_says_is_refused() {
    let lines: Vec<String> = snapshot().lines().map(|line| format!("{line}\n")).collect();
    let refusal = |lines: &[String]| {
        judge_from(&lines.concat(), &[&history().text()]).expect_err("a bad file").to_string()
    };
    // The graph's events: begun, dataset, job, ended.
    assert_eq!(lines.len(), 4);
    for absent in [1, 2] {
        let mut fewer = lines.clone();
        fewer.remove(absent);
        assert!(refusal(&fewer).contains("the graph has digest"), "{}", refusal(&fewer));
    }
    let mut other = lines.clone();
    other[1] = other[1].replace(r#""n":1.5"#, r#""n":1.50"#);
    assert!(refusal(&other).contains("and not "), "{}", refusal(&other));
    assert_eq!(
        refusal(&lines[..3]),
        "base.ndjson: ends at version 3, within an import, and the histories begin at version 3"
    );
    // Each event has its place, and the version of the others.
    let again = |at: usize| {
        let later = Script::new().beginning_at(4).text();
        let lines = [&lines[..], &lines[at..=at]].concat().concat();
        judge_from(&lines, &[&later]).expect_err("a bad file").to_string()
    };
    for (at, kind) in [(1, "imported"), (3, "import.ended")] {
        let says = format!("`dev.fencepost.{kind}.v1` of version 3 cannot follow version 3");
        assert!(again(at).ends_with(&says), "{}", again(at));
        let mut later = lines.clone();
        later[at] = later[at].replace("\"graphversion\":3", "\"graphversion\":4");
        assert!(refusal(&later).ends_with("cannot follow version 3"), "{}", refusal(&later));
    }
    let within = [&lines[..3], &[declared(4)], &lines[3..]].concat();
    let says = "base.ndjson:4: `dev.fencepost.changed.v1` of version 4 cannot follow version 3";
    assert_eq!(refusal(&within), says);
    let mut no_start = lines.clone();
    no_start.remove(0);
    assert!(refusal(&no_start).contains("cannot follow version 0"), "{}", refusal(&no_start));
    let mut no_chain = lines.clone();
    no_chain[3] = no_chain[3].replace("0707", "070");
    assert!(refusal(&no_chain).ends_with("is no chain"), "{}", refusal(&no_chain));
    no_chain[3] = lines[3].replacen("0707", "070707", 1);
    assert!(refusal(&no_chain).ends_with("is no chain"), "{}", refusal(&no_chain));
    let mut no_version = lines;
    no_version[2] = no_version[2].replace("job_version", "version_of_job");
    assert_eq!(refusal(&no_version), "base.ndjson:3: a job without its version");
    assert!(snapshot().lines().last().is_some_and(|line| line.contains(LAST)));
}

#[test]
fn a_log_goes_on_after_the_graph() {
    let fact = |name: &str| json!({"fact": "dataset_declared", "name": name, "metadata": {}});
    let change = |version: u64, name: &str| json!({"version": version, "facts": [fact(name)]});
    let script = Script::new()
        .beginning_at(3)
        .call(0, [1, 2], put_dataset("e", json!({})), unknown())
        .call(1, [3, 4], put_dataset("f", json!({})), created(5))
        .text();
    let judge = |log: &[Value]| judge_from_with_log(&snapshot(), &script, &lines(log));
    let after = [change(4, "e"), change(5, "f")];
    valid(judge(&after));
    // What is before the graph is passed over.
    let all: Vec<Value> = (1..=3).map(|version| change(version, "not looked at")).collect();
    valid(judge(&[&all[..], &after].concat()));
    assert_eq!(found(judge(&[change(4, "g"), change(5, "f")])).kind, Kind::PhantomChange);
    assert_eq!(found(judge(&[change(5, "f")])).kind, Kind::DamagedLog);
    assert_eq!(found(judge(&[change(4, "e")])).kind, Kind::LostWrite);
}
