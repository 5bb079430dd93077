//! Logs in which something was dropped, doubled, swapped or mixed: each is refused, at the right
//! event, with the reason.

use fencepost::chain::{Chain, LoggedChange};
use fencepost::event::{Event, Stream};
use fencepost::graph::{Change, Fact, Graph};

use super::{History, lines, replayed};
use crate::support::cluster::name;

/// A log with an import at 10 and changes up to 20; the number of its first change, from 1.
fn log() -> (Vec<String>, usize) {
    let history = History::of("g", 11, 20);
    (history.log(10), lines(history.import(10)).len() + 1)
}

#[track_caller]
fn refused(log: &[String], event: usize, reason: &str) {
    match replayed(log) {
        Err((at, error)) => assert_eq!((at, error.to_string().as_str()), (event, reason)),
        Ok(came_to) => panic!("it was taken for version {}", came_to.graph.version()),
    }
}

#[test]
fn an_event_that_was_dropped() {
    let (log, first_change) = log();
    let without = |number: usize| {
        let mut log = log.clone();
        log.remove(number - 1);
        log
    };
    refused(
        &without(first_change + 2),
        first_change + 2,
        "version 14 follows version 12: 1 event is missing between them",
    );
    refused(
        &without(first_change),
        first_change,
        &format!(
            "version 12 follows version 10, ordinal {}: 1 event is missing between them",
            first_change - 2
        ),
    );
    refused(
        &without(3),
        3,
        "version 10, ordinal 3 follows version 10, ordinal 1: 1 event is missing between them",
    );
    refused(
        &without(1),
        1,
        "the log begins at version 10, ordinal 1: what the graph was before is not in it",
    );
    let ended = first_change - 1;
    let reason = format!(
        "`dev.fencepost.changed.v1` cannot follow version 10, ordinal {}",
        first_change - 3
    );
    refused(&without(ended), ended, &reason);
    refused(
        &log[first_change..],
        1,
        "the log begins at version 12: what the graph was before is not in it",
    );
    refused(&[], 1, "the log is empty");
}

#[test]
fn an_event_that_was_doubled() {
    let (log, first_change) = log();
    for number in 1..=log.len() {
        let mut doubled = log.clone();
        doubled.insert(number, log[number - 1].clone());
        let (event, error) = replayed(&doubled).err().unwrap();
        let expected = if number < first_change - 1 || number >= first_change {
            error.to_string().ends_with("events come twice or in another order")
        } else {
            error.to_string().starts_with("`dev.fencepost.import.ended.v1` cannot follow")
                || error.to_string().ends_with("events come twice or in another order")
        };
        assert!(expected && event == number + 1, "{number}: {event}, {error}");
    }
}

#[test]
fn events_that_were_swapped() {
    let (log, _) = log();
    for number in 1..log.len() {
        let mut swapped = log.clone();
        swapped.swap(number - 1, number);
        let (event, error) = replayed(&swapped).err().unwrap();
        assert_eq!(event, number, "{error}");
    }
}

#[test]
fn a_log_that_ends_within_an_import() {
    let (log, first_change) = log();
    for kept in 1..first_change - 1 {
        let reason = format!(
            "the log ends within an import, after {} of {} parts: export again, to the same place, to begin it anew",
            kept - 1,
            first_change - 3
        );
        refused(&log[..kept], kept + 1, &reason);
    }
    replayed(&log[..first_change - 1]).unwrap();
}

#[test]
fn logs_of_two_graphs_that_were_mixed() {
    let (mut log, first_change) = log();
    let other = History::of("h", 11, 20);
    log[first_change] = other.changes(11).remove(0);
    refused(
        &log,
        first_change + 1,
        "it is of graph `h`, not of `g`: it is another graph's log, or logs of several graphs are mixed",
    );
    // The same name, and another history.
    let other = History::of("g", 12, 20);
    log[first_change] = other.changes(11).remove(0);
    let (event, error) = replayed(&log).err().unwrap();
    let expected = "it is of graph `g (00000000-0000-0000-0000-00000000000d)`, not of `g (00000000-0000-0000-0000-00000000000c)`";
    assert!(event == first_change + 1 && error.to_string().starts_with(expected), "{error}");
}

/// Written by somebody who knows how the hashes are made.
fn forged(stream: &Stream, changes: &[(u64, Vec<Fact>)]) -> Vec<String> {
    let mut chain = Chain::START;
    let mut line = |(version, facts): &(u64, Vec<Fact>)| {
        let change = Change { facts: facts.clone() }.canonical_json(*version);
        chain = chain.next(&change);
        let logged =
            LoggedChange { version: *version, change, chain, committed_at_ms: 0, actor: None };
        String::from_utf8(stream.line(&Event::changed(&logged))).unwrap().trim_end().to_owned()
    };
    changes.iter().map(&mut line).collect()
}

#[test]
fn changes_that_break_a_rule() {
    let stream = Stream::new(name("g"), uuid::Uuid::from_u128(9));
    let job = |job: &str, input: &str, output: &str| Fact::JobCreated {
        inputs: vec![name(input)],
        name: name(job),
        outputs: vec![name(output)],
        spec: Default::default(),
    };
    let changed = |job: &str, added: &[&str], removed: &[&str]| Fact::JobChanged {
        inputs_added: added.iter().map(|text| name(text)).collect(),
        inputs_removed: removed.iter().map(|text| name(text)).collect(),
        name: name(job),
        outputs_added: vec![],
        outputs_removed: vec![],
        spec: None,
    };
    let declared =
        |dataset: &str| Fact::DatasetDeclared { metadata: Default::default(), name: name(dataset) };
    let begin = || vec![job("a", "x", "y")];
    let cases: [(Vec<Fact>, &str); 12] = [
        (vec![], "it changes nothing"),
        (vec![job("b", "y", "x")], "the jobs form a cycle: a -> y -> b -> x -> a"),
        (vec![job("b", "z", "z")], "the jobs form a cycle: b -> z -> b"),
        (vec![job("b", "z", "y")], "dataset `y` has a producer already"),
        (vec![job("a", "x", "z")], "job `a` is there already"),
        (vec![Fact::JobDeleted { name: name("b") }], "there is no job `b`"),
        (vec![changed("b", &["x"], &[])], "there is no job `b`"),
        (vec![changed("a", &["x"], &[])], "an edge to dataset `x` comes that is there already"),
        (vec![changed("a", &[], &["z"])], "an edge to dataset `z` goes that was not there"),
        (vec![Fact::DatasetUndeclared { name: name("x") }], "dataset `x` is not declared"),
        (
            vec![Fact::DatasetChanged { metadata: Default::default(), name: name("x") }],
            "dataset `x` is not declared",
        ),
        (vec![declared("n"), declared("n")], "dataset `n` is declared already"),
    ];
    for (facts, reason) in cases {
        refused(
            &forged(&stream, &[(1, begin()), (2, facts)]),
            2,
            &format!("it breaks a rule: {reason}"),
        );
    }
    let undeclared = [
        (1, vec![declared("x")]),
        (2, begin()),
        (3, vec![Fact::DatasetUndeclared { name: name("x") }]),
    ];
    refused(
        &forged(&stream, &undeclared),
        3,
        "it breaks a rule: dataset `x` is undeclared while a job mentions it",
    );
    // What is legal is taken.
    let legal = [(1, begin()), (2, vec![Fact::JobDeleted { name: name("a") }, job("b", "y", "x")])];
    assert_eq!(replayed(&forged(&stream, &legal)).unwrap().graph.version(), 2);
}

/// Lines of an import into which something was put that breaks a rule, all hashes made anew.
#[test]
fn imports_that_break_a_rule() {
    let stream = Stream::new(name("g"), uuid::Uuid::from_u128(9));
    let part = |text: &str| text.to_owned();
    let a = r#"{"facts":[{"fact":"job_created","inputs":["x"],"name":"a","outputs":["y"],"spec":{}}],"job_version":1,"version":1}"#;
    let before = r#"{"facts":[{"fact":"job_created","inputs":["w"],"name":"b","outputs":["x"],"spec":{}}],"job_version":1,"version":1}"#;
    let second = before.replace("\"x\"", "\"y\"");
    let again = a.replace("\"y\"", "\"z\"");
    let declared =
        r#"{"facts":[{"fact":"dataset_declared","metadata":{},"name":"n"}],"version":1}"#;
    let cases = [
        (
            vec![part(a), part(before)],
            3,
            "it breaks a rule: job `b` writes dataset `x`, which it or a job before it reads",
        ),
        (vec![part(a), second], 3, "it breaks a rule: dataset `y` has a producer already"),
        (vec![part(a), again], 3, "it breaks a rule: job `a` is there already"),
        (
            vec![part(declared), part(declared)],
            3,
            "it breaks a rule: dataset `n` is declared already",
        ),
        (
            vec![part(a), part(declared)],
            3,
            "it breaks a rule: it is no part of an import: a dataset's declaration, ahead of all jobs, or a job",
        ),
    ];
    for (parts, event, reason) in cases {
        refused(&forged_import(&stream, &parts), event, reason);
    }
}

fn forged_import(stream: &Stream, parts: &[String]) -> Vec<String> {
    use fencepost::event::{EventIndex, Kind};
    let index = |ordinal| EventIndex { version: 1, ordinal };
    let event = |kind, index, chain, data: &str| Event {
        kind,
        index,
        chain,
        committed_at_ms: None,
        actor: None,
        data: data.to_owned().into(),
    };
    let contents = format!(
        r#"{{"datasets":0,"digest":"{}","edges":0,"events":{},"jobs":0,"version":1}}"#,
        Graph::default().digest(),
        parts.len()
    );
    let mut chain = Chain([7; 32]);
    let mut events = vec![event(Kind::ImportBegun, index(0), chain, &contents)];
    for (ordinal, data) in (1..).zip(parts) {
        chain = chain.next(data);
        events.push(event(Kind::Imported, index(ordinal), chain, data));
    }
    events
        .iter()
        .map(|event| String::from_utf8(stream.line(event)).unwrap().trim_end().to_owned())
        .collect()
}

/// As [`forged`], with the data as it is given.
fn forged_texts(stream: &Stream, changes: &[&str]) -> Vec<String> {
    let mut chain = Chain::START;
    let line = |(version, change): (u64, &&str)| {
        chain = chain.next(change);
        let change = (*change).to_owned();
        let logged = LoggedChange { version, change, chain, committed_at_ms: 0, actor: None };
        String::from_utf8(stream.line(&Event::changed(&logged))).unwrap().trim_end().to_owned()
    };
    (1..).zip(changes).map(line).collect()
}

const FIRST: &str = r#"{"facts":[{"fact":"job_created","inputs":["x"],"name":"a","outputs":["y"],"spec":{}},{"fact":"dataset_declared","metadata":{},"name":"x"}],"version":1}"#;

/// All of them legal graphs, but no changeset leads there by one change.
#[test]
fn changes_that_no_changeset_makes() {
    let stream = Stream::new(name("g"), uuid::Uuid::from_u128(9));
    let deleted = r#"{"fact":"graph_deleted"}"#;
    let ghost = r#"{"fact":"job_created","inputs":[],"name":"ghost","outputs":[],"spec":{}}"#;
    let job_deleted = r#"{"fact":"job_deleted","name":"a"}"#;
    let changed = |lists: [&str; 4], more: &str| {
        let [added, removed, out_added, out_removed] = lists;
        format!(
            r#"{{"fact":"job_changed","inputs_added":[{added}],"inputs_removed":[{removed}],"name":"a","outputs_added":[{out_added}],"outputs_removed":[{out_removed}]{more}}}"#
        )
    };
    let among = "the graph is deleted among other facts";
    let order = |at: &str| {
        format!("its facts or names are not in the order in which changes are written: at `{at}`")
    };
    let same = "`a` is said to change and stays as it was";
    let created = |name: &str, inputs: &str| {
        format!(
            r#"{{"fact":"job_created","inputs":[{inputs}],"name":"{name}","outputs":[],"spec":{{}}}}"#
        )
    };
    let cases: Vec<(String, String)> = vec![
        (format!("{job_deleted},{deleted}"), among.to_owned()),
        (format!("{deleted},{ghost}"), among.to_owned()),
        (format!("{deleted},{deleted}"), among.to_owned()),
        (changed([""; 4], ""), same.to_owned()),
        (changed([""; 4], r#","spec":{}"#), same.to_owned()),
        (changed([r#""x""#, r#""x""#, "", ""], ""), order("x")),
        (changed([r#""z","w""#, "", "", ""], ""), order("w")),
        (format!("{},{}", created("c", ""), created("b", "")), order("b")),
        (created("b", r#""z","w""#), order("w")),
        (
            r#"{"fact":"dataset_changed","metadata":{},"name":"x"}"#.to_owned(),
            "`x` is said to change and stays as it was".to_owned(),
        ),
        (format!("{job_deleted},{}", created("a", "")), order("a")),
        (format!("{ghost},{job_deleted}"), order("a")),
        (
            r#"{"fact":"dataset_undeclared","name":"x"},{"fact":"dataset_declared","metadata":{},"name":"x"}"#
                .to_owned(),
            order("x"),
        ),
    ];
    for (facts, reason) in cases {
        let second = format!(r#"{{"facts":[{facts}],"version":2}}"#);
        let log = forged_texts(&stream, &[FIRST, &second]);
        refused(&log, 2, &format!("it breaks a rule: {reason}"));
    }
    let second = format!(r#"{{"facts":[{deleted}],"version":2}}"#);
    let came_to = replayed(&forged_texts(&stream, &[FIRST, &second])).unwrap();
    assert!(came_to.deleted && came_to.graph.job_count() == 0);
}

#[test]
fn changes_in_other_words() {
    let stream = Stream::new(name("g"), uuid::Uuid::from_u128(9));
    let others = [
        r#"{"version":2,"facts":[{"fact":"graph_deleted"}]}"#,
        "{\"facts\":[{\"fact\":\"graph_deleted\"}],\r\"version\":2}",
        r#"{"facts": [{"fact":"graph_deleted"}],"version":2}"#,
        r#"{"facts":[{"fact":"graph_deleted","name":"a"}],"version":2}"#,
        r#"{"facts":[{"fact":"job_deleted","name":"a","spec":{}}],"version":2}"#,
        r#"{"facts":[{"name":"a","fact":"job_deleted"}],"version":2}"#,
        r#"{"facts":[{"fact":"job_deleted","name":"\u0061"}],"version":2}"#,
        r#"{"facts":[{"fact":"job_created","inputs":[],"name":"b","outputs":[],"spec":{"b":1,"a":2}}],"version":2}"#,
        r#"{"facts":[{"fact":"job_deleted","name":"a"}],"job_version":null,"version":2}"#,
        r#"[[["job_deleted","a"]],null,2]"#,
    ];
    for other in others {
        let (event, error) = replayed(&forged_texts(&stream, &[FIRST, other])).err().unwrap();
        assert!(event == 2 && error.to_string().starts_with("its data cannot be read"), "{error}");
    }
}
