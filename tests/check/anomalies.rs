//! Each kind of anomaly, in the smallest history that shows it.

use fencepost::check::{Finding, Kind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::script::*;

/// Whether the finding is `kind` at `version` about the calls with these ids, and says so.
#[track_caller]
fn says(finding: &Finding, kind: Kind, version: u64, ids: &[u64], expected: &str, because: &str) {
    let involved: Vec<u64> = finding.operations.iter().map(|operation| operation.id).collect();
    assert_eq!(
        (finding.kind, finding.version, &involved[..]),
        (kind, Some(version), ids),
        "{finding}"
    );
    let text = finding.to_string();
    let told = format!("  expected    {expected}\n  because     {because}");
    assert!(text.ends_with(&told), "{text}\n\nand not\n\n{told}");
}

fn job(name: &str, version: u64) -> Value {
    json!({"name": name, "inputs": [], "outputs": [], "spec": {}, "version": version})
}

#[test]
fn a_finding_shows_who_asked_what_and_when() {
    let finding = Script::new()
        .call(0, [1, 2], put_job("a", &["x"], &["y"]), created(1))
        .call(3, [3, 4], read_job("a"), answered(1, job("a", 1)))
        .found();
    let expected = r#"anomaly: wrong-answer at version 1
  1.ndjson:4  process 3, id 1, 3.000 ms to 4.000 ms
    asked     {"call":"readJob","job":"a"}
    answered  answered at version 1: {"inputs":[],"name":"a","outputs":[],"spec":{},"version":1}
  expected    {"inputs":["x"],"name":"a","outputs":["y"],"spec":{},"version":1}
  because     that is the graph at version 1"#;
    assert_eq!(finding.to_string(), expected);
    let json = serde_json::to_value(&finding).unwrap();
    assert_eq!(
        (&json["kind"], &json["operations"][0]["from_ms"]),
        (&json!("wrong-answer"), &json!(3.0))
    );
}

#[test]
fn a_version_that_two_writes_made() {
    let finding = Script::new()
        .call(0, [1, 4], put_job("a", &[], &[]), created(1))
        .call(1, [2, 5], put_job("b", &[], &[]), created(1))
        .found();
    says(
        &finding,
        Kind::DuplicateVersion,
        1,
        &[0, 1],
        "two versions",
        "each accepted change has a version of its own",
    );
}

#[test]
fn a_version_that_no_write_made() {
    let finding = Script::new()
        .call(0, [1, 2], put_job("a", &[], &[]), created(1))
        .call(0, [3, 4], put_job("b", &[], &[]), created(3))
        .found();
    let because = "no accepted write made this version, no write of unknown outcome could have, and there are later ones";
    says(&finding, Kind::VersionGap, 2, &[], "a write that made version 2", because);
}

#[test]
fn a_write_and_an_answer_at_versions_that_cannot_be() {
    let log = [logged_job(1, "a")];
    let finding = Script::new()
        .beginning_at(1)
        .call(0, [1, 2], put_job("b", &[], &[]), created(1))
        .found_with_log(&log);
    let because = "the history begins at version 1: its writes make later ones";
    says(&finding, Kind::PhantomVersion, 1, &[0], "a version of its own", because);
    let finding = Script::new()
        .call(0, [1, 2], put_job("a", &[], &[]), created(1))
        .call(1, [3, 4], read_graph(), counts(2, 1, 0, 0))
        .found_with_log(&log);
    let expected = "an answer at a version that there was";
    says(&finding, Kind::PhantomVersion, 2, &[1], expected, "the change log ends at version 1");
}

#[test]
fn a_change_that_nobody_asked_for() {
    let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let finding = script.found_with_log(&[logged_job(1, "a"), logged_job(2, "b")]);
    let fact = r#"{"fact":"job_created","inputs":[],"name":"b","outputs":[],"spec":{}}"#;
    let expected = format!(r#"no such change: {{"facts":[{fact}],"version":2}}"#);
    let because = "no accepted write made this version, and no write of unknown outcome could have";
    says(&finding, Kind::PhantomChange, 2, &[], &expected, because);
}

#[test]
fn a_change_whose_client_was_told_that_nothing_was_sent() {
    let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1)).call(
        1,
        [1, 2],
        put_job("b", &[], &[]),
        unreachable(),
    );
    let finding = script.found_with_log(&[logged_job(1, "a"), logged_job(2, "b")]);
    let fact = r#"{"fact":"job_created","inputs":[],"name":"b","outputs":[],"spec":{}}"#;
    let because = format!(r#"the change log has {{"facts":[{fact}],"version":2}}"#);
    says(&finding, Kind::RefusedButApplied, 2, &[1], "nothing of it in the change log", &because);
}

#[test]
fn an_accepted_write_that_the_log_does_not_have() {
    let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1)).call(
        0,
        [3, 4],
        put_job("b", &[], &[]),
        created(2),
    );
    let finding = script.found_with_log(&[logged_job(1, "a")]);
    says(
        &finding,
        Kind::LostWrite,
        2,
        &[1],
        "the accepted change in the log",
        "the change log ends at version 1",
    );

    let finding = script.found_with_log(&[logged_job(1, "a"), logged_job(2, "c")]);
    let change = |name| {
        format!(
            r#"{{"facts":[{{"fact":"job_created","inputs":[],"name":"{name}","outputs":[],"spec":{{}}}}],"version":2}}"#
        )
    };
    let because = format!("the change log has {} in its place", change("c"));
    says(&finding, Kind::LostWrite, 2, &[1], &change("b"), &because);
}

#[test]
fn a_log_that_breaks_off_repeats_itself_or_tells_what_cannot_be() {
    let script = Script::new().beginning_at(1).call(0, [1, 2], put_job("b", &[], &[]), created(2));
    let finding = script.found_with_log(&[logged_job(1, "a"), logged_job(3, "b")]);
    says(
        &finding,
        Kind::DamagedLog,
        2,
        &[],
        "a change of version 2",
        "log.ndjson has version 3 in its place",
    );
    let finding = script.found_with_log(&[]);
    let because = "the history begins at version 1, and log.ndjson ends at 0";
    says(&finding, Kind::DamagedLog, 1, &[], "a change log that reaches further", because);

    let gone = json!({"version": 1, "facts": [{"fact": "job_deleted", "name": "a"}]});
    let finding = script.found_with_log(&[gone, logged_job(2, "b")]);
    let because = r#"JobDeleted("a") cannot follow what was there"#;
    says(&finding, Kind::DamagedLog, 1, &[], "a change that can follow", because);

    let both = |inputs: [&str; 1]| {
        let fact = |name: &str, inputs: &[&str]| json!({"fact": "job_created", "name": name, "inputs": inputs, "outputs": ["x"], "spec": {}});
        json!({"version": 1, "facts": [fact("a", &inputs), fact("b", &[])]})
    };
    let finding = script.found_with_log(&[both(["y"]), logged_job(2, "b")]);
    let because = "`x` has two producers before the history begins";
    says(&finding, Kind::DamagedLog, 1, &[], "a change log that keeps the rules", because);
    let mut circle = both(["x"]);
    circle["facts"].as_array_mut().unwrap().truncate(1);
    let finding = script.found_with_log(&[circle, logged_job(2, "b")]);
    let because = "jobs form a cycle before the history begins";
    says(&finding, Kind::DamagedLog, 1, &[], "a change log that keeps the rules", because);
}

#[test]
fn a_write_that_was_accepted_against_the_rules() {
    let finding = Script::new()
        .call(0, [1, 2], put_job("a", &["x"], &["y"]), created(1))
        .call(0, [3, 4], put_job("b", &["y"], &["x"]), created(2))
        .found();
    let expected = r#"rejected: {"cycle":["a","y","b","x","a"],"operation":0,"status":409,"type":"urn:fencepost:problem:cycle"}"#;
    says(
        &finding,
        Kind::IllegalAccept,
        2,
        &[1],
        expected,
        "that is what the rules say at version 1",
    );

    let finding = Script::new().call(0, [1, 2], delete_job("a"), unchanged(0)).found();
    let expected = r#"rejected: {"name":"a","operation":0,"status":404,"type":"urn:fencepost:problem:job_not_found"}"#;
    says(
        &finding,
        Kind::IllegalAccept,
        0,
        &[0],
        expected,
        "that is what the rules say at version 0",
    );
}

#[test]
fn a_write_that_says_wrongly_whether_it_changed_something() {
    let twice = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let finding = twice.call(0, [3, 4], put_job("a", &[], &[]), changed(2)).found();
    let because = "it changes nothing in the graph of version 1";
    says(&finding, Kind::WrongChanged, 2, &[1], "changed: false", because);

    let finding = Script::new().call(0, [1, 2], put_job("a", &[], &[]), unchanged(0)).found();
    let because = "it changes something in the graph of version 0";
    says(&finding, Kind::WrongChanged, 0, &[0], "changed: true, and version 1", because);
}

#[test]
fn a_write_that_says_wrongly_whether_it_created_something() {
    let finding = Script::new().call(0, [1, 2], put_job("a", &[], &[]), changed(1)).found();
    says(&finding, Kind::WrongCreated, 1, &[0], "created: true", "what it names was not there");
    let finding = Script::new()
        .call(0, [1, 2], put_job("a", &[], &[]), created(1))
        .call(0, [3, 4], put_job("a", &["x"], &[]), created(2))
        .found();
    says(&finding, Kind::WrongCreated, 2, &[1], "created: false", "what it names was there");
    let mut end = unchanged(1);
    end["created"] = json!(true);
    let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let finding = script.call(0, [3, 4], put_job("a", &[], &[]), end).found();
    says(
        &finding,
        Kind::WrongCreated,
        1,
        &[1],
        "created: false",
        "nothing came to be at version 1",
    );
}

#[test]
fn a_rejection_of_what_is_legal_or_for_another_reason() {
    let absent =
        |name: &str| rejected(0, 404, "job_not_found", json!({"name": name, "operation": 0}));
    let finding = Script::new().call(0, [1, 2], put_job("a", &[], &[]), absent("a")).found();
    says(&finding, Kind::WrongRejection, 0, &[0], "accepted", "the rules allow it at version 0");

    let expected = r#"rejected: {"name":"a","operation":0,"status":404,"type":"urn:fencepost:problem:job_not_found"}"#;
    let because = "that is what the rules say at version 0 of graph `g`";
    let other_reasons = [
        absent("b"),
        rejected(0, 404, "dataset_not_found", json!({"name": "a", "operation": 0})),
        rejected(0, 404, "job_not_found", json!({"name": "a", "operation": 1})),
        rejected(0, 409, "job_not_found", json!({"name": "a", "operation": 0})),
        rejected(0, 404, "job_not_found", json!({"name": "a", "operation": 0, "version": 1})),
        rejected(0, 404, "job_not_found", json!({"name": "a", "operation": 0, "graph": "h"})),
    ];
    for other in other_reasons {
        let finding = Script::new().call(0, [1, 2], delete_job("a"), other).found();
        says(&finding, Kind::WrongRejection, 0, &[0], expected, because);
    }
    Script::new().call(0, [1, 2], delete_job("a"), absent("a")).valid();

    let absent = rejected(1, 404, "job_not_found", json!({"name": "a"}));
    let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let finding = script.call(0, [3, 4], read_job("a"), absent).found();
    let expected = r#"answered: {"inputs":[],"name":"a","outputs":[],"spec":{},"version":1}"#;
    says(&finding, Kind::WrongRejection, 1, &[1], expected, "there is an answer at version 1");
}

#[test]
fn a_rejection_that_was_not_decided_on_the_graph() {
    let mut nowhere = rejected(0, 404, "graph_not_found", json!({"name": "g"}));
    nowhere.as_object_mut().unwrap().remove("version");
    let finding = Script::new().call(0, [1, 2], read_job("a"), nowhere.clone()).found();
    assert_eq!(finding.kind, Kind::WrongRejection, "{finding}");
    // But a body may be too large whatever the graph is.
    nowhere["problem"]["type"] = json!("urn:fencepost:problem:too_large");
    nowhere["problem"]["limit"] = json!(9);
    Script::new().call(0, [1, 2], put_job("a", &[], &[]), nowhere).valid();
}

#[test]
fn a_write_that_was_accepted_after_the_graph_was_said_to_be_frozen() {
    let mut frozen = rejected(0, 409, "frozen", json!({"moved_to": null}));
    frozen.as_object_mut().unwrap().remove("version");
    let told = |write: [u64; 2]| {
        Script::new()
            .frozen()
            .call(0, [1, 2], put_job("a", &[], &[]), created(1))
            .call(1, [3, 6], put_job("b", &[], &[]), frozen.clone())
            .call(2, write, put_job("c", &[], &[]), created(2))
    };
    let finding = told([7, 8]).found();
    let because = "the first had been told that before the second was sent; a history in which a graph is thawed cannot be judged";
    says(&finding, Kind::WriteAfterFreeze, 2, &[1, 2], "frozen", because);
    // One that was under way meanwhile may have come first.
    told([5, 8]).valid();
    // Nobody is told that of a read.
    let finding = Script::new().call(0, [1, 2], read_job("a"), frozen).found();
    assert_eq!(finding.kind, Kind::WrongRejection, "{finding}");
}

#[test]
fn a_plan_that_is_too_large_must_be() {
    let plan = json!({"call": "planMany", "datasets": ["y"], "jobs": [], "stop_at": []});
    let refused = |limit: u64| rejected(1, 413, "too_large", json!({"limit": limit}));
    let script = || Script::new().call(0, [1, 2], put_job("a", &[], &["y"]), created(1));
    script().call(0, [3, 4], plan.clone(), refused(0)).valid();
    assert_eq!(script().call(0, [3, 4], plan, refused(1)).found().kind, Kind::WrongRejection);
}

#[test]
fn a_plan_that_forgets_the_order_of_its_jobs_where_the_search_stops() {
    let plan = json!({"call": "planMany", "datasets": [], "jobs": ["a", "b"], "stop_at": ["d"]});
    let told = |lines: &str| {
        let digest: String =
            Sha256::digest(lines).iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = json!({"digest": digest, "jobs": 2});
        Script::new()
            .call(0, [1, 2], put_job("a", &[], &["d"]), created(1))
            .call(0, [3, 4], put_job("b", &["d"], &[]), created(2))
            .call(0, [5, 6], plan.clone(), answered(2, answer))
    };
    told("job\t0\ta\njob\t1\tb\ndep\ta\tb\n").valid();
    let finding = told("job\t0\ta\njob\t0\tb\n").found();
    assert_eq!((finding.kind, finding.operations[0].id), (Kind::WrongAnswer, 2), "{finding}");
}

/// A history of one job with this specification, read as with that one.
fn put_and_read(put: &str, read: &str) -> String {
    let script = Script::new()
        .call(0, [1, 2], json!({"call": "putJob", "operations": ["PUT"]}), created(1))
        .call(0, [3, 4], read_job("a"), answered(1, json!("READ")));
    let job = format!(r#"{{"op":"put_job","name":"a","inputs":[],"outputs":[],"spec":{put}}}"#);
    let answer = format!(r#"{{"version":1,"spec":{read},"outputs":[],"inputs":[],"name":"a"}}"#);
    script.text().replace("\"PUT\"", &job).replace("\"READ\"", &answer)
}

#[test]
fn a_number_that_is_answered_with_other_digits() {
    let spellings = [
        ("1.10", "1.1"),
        ("1e2", "100.0"),
        ("1E5", "1e5"),
        ("-0", "0"),
        ("0.1e1", "1.0"),
        ("12345678901234567890123", "1.2345678901234568e22"),
        ("1e400", "1e401"),
    ];
    let object = |digits: &str| format!(r#"{{"n":[{digits}]}}"#);
    for (put, read) in spellings {
        valid(judge(&[&put_and_read(&object(put), &object(put))], None).unwrap());
        let finding = found(judge(&[&put_and_read(&object(put), &object(read))], None).unwrap());
        let expected = format!(
            r#"{{"inputs":[],"name":"a","outputs":[],"spec":{},"version":1}}"#,
            object(put)
        );
        says(&finding, Kind::WrongAnswer, 1, &[1], &expected, "that is the graph at version 1");
    }
}

#[test]
fn json_is_compared_beyond_its_spaces_its_escapes_and_the_order_of_its_members() {
    let put = r#"{"a":"A\n","b":[1.0,{"c":null}]}"#;
    let same = r#"{ "b" : [ 1.0 , {"\u0063":null} ],  "a":"\u0041\u000a" }"#;
    valid(judge(&[&put_and_read(put, same)], None).unwrap());
    for other in [
        r#"{"a":"A\n","a":"A\n","b":[1.0,{"c":null}]}"#,
        r#"{"a":"A\n","b":[{"c":null},1.0]}"#,
        r#"{"a":"A\n","b":[1.0,{"c":null}],"d":1e400}"#,
        r#"{"a":"A\n","b":[1.0,{}]}"#,
        r#"[{"a":"A\n","b":[1.0,{"c":null}]}]"#,
    ] {
        let finding = found(judge(&[&put_and_read(put, other)], None).unwrap());
        assert_eq!(finding.kind, Kind::WrongAnswer, "{other}: {finding}");
    }
}

#[test]
fn an_answer_of_another_form() {
    let ask = |request: Value, answer: &str| {
        let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
        let script = script.call(0, [3, 4], request, answered(1, json!("ANSWER")));
        judge(&[&script.text().replace("\"ANSWER\"", answer)], None).unwrap()
    };
    let job = r#"{"name":"a","inputs":[],"outputs":[],"spec":{},"version":1}"#;
    valid(ask(read_job("a"), job));
    for answer in [
        // A list of a job's members, in the order of their names; one that comes twice.
        r#"[[],"a",[],{},1]"#,
        r#"{"name":"b","name":"a","inputs":[],"outputs":[],"spec":{},"version":1}"#,
        r#"{"name":"a","inputs":[],"outputs":[],"spec":{},"version":1.0}"#,
    ] {
        let finding = found(ask(read_job("a"), answer));
        assert_eq!(finding.kind, Kind::WrongAnswer, "{answer}: {finding}");
    }
    valid(ask(read_graph(), r#"{"jobs":1,"datasets":0,"edges":0,"more":1e400}"#));
    for answer in [
        r#"[0,0,1]"#,
        r#"{"jobs":1.0,"datasets":0,"edges":0}"#,
        r#"{"jobs":1,"datasets":-0,"edges":0}"#,
        r#"{"jobs":1,"datasets":0}"#,
        r#"{"jobs":1,"jobs":1,"datasets":0,"edges":0}"#,
    ] {
        let finding = found(ask(read_graph(), answer));
        assert_eq!(finding.kind, Kind::WrongAnswer, "{answer}: {finding}");
    }
}

#[test]
fn a_problem_is_what_it_says_and_not_how_it_is_written() {
    let told = |problem: &str| {
        let end =
            json!({"event": "fail", "verdict": "rejected", "version": 0, "problem": "PROBLEM"});
        let script = Script::new().call(0, [1, 2], read_job("a"), end);
        judge(&[&script.text().replace("\"PROBLEM\"", problem)], None).unwrap()
    };
    let kind = "urn:fencepost:problem:job_not_found";
    valid(told(&format!(r#"{{"type":"{kind}","status":404,"name":"a","prose":1e400}}"#)));
    valid(told(&format!(r#"{{"name":"\u0061","status":404,"type":"{kind}"}}"#)));
    for other in [
        format!(r#"{{"type":"{kind}","status":404.0,"name":"a"}}"#),
        format!(r#"{{"type":"{kind}","status":404,"name":"b","name":"a"}}"#),
        format!(r#"["{kind}",404,"a"]"#),
    ] {
        assert_eq!(found(told(&other)).kind, Kind::WrongRejection, "{other}");
    }
    // Only the type says that a graph is frozen.
    let frozen = |members: &str| {
        let end = json!({"event": "fail", "verdict": "rejected", "problem": "PROBLEM"});
        let script = Script::new().frozen().call(0, [1, 2], put_job("a", &[], &[]), end);
        script.judge_with("\"PROBLEM\"", members)
    };
    let told = r#"{"type":"urn:fencepost\u003aproblem:frozen","status":409,"moved_to":null}"#;
    valid(frozen(told));
    let finding = found(frozen(r#"{"type":"about:blank","x":"urn:fencepost:problem:frozen"}"#));
    assert_eq!(finding.kind, Kind::WrongRejection, "{finding}");
}

#[test]
fn a_job_that_was_said_to_be_unmodified() {
    let ask = |version: u64| json!({"call": "readJob", "job": "a", "if_none_match": version});
    let unmodified = json!({"event": "ok", "verdict": "not_modified", "version": 2});
    let script = || {
        let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
        script.call(0, [3, 4], put_job("a", &["x"], &[]), changed(2))
    };
    script().call(0, [5, 6], ask(2), unmodified.clone()).valid();
    let finding = script().call(0, [5, 6], ask(1), unmodified).found();
    let because = "that is the graph at version 2";
    says(&finding, Kind::WrongAnswer, 2, &[2], "the job, which is of version 2", because);
}

#[test]
fn an_answer_that_nobody_documented() {
    let undocumented = json!({"event": "info", "verdict": "undocumented", "reason": "200 []"});
    let finding = Script::new().call(0, [1, 2], read_job("a"), undocumented).found();
    assert_eq!(finding.kind, Kind::UndocumentedAnswer, "{finding}");
}

#[test]
fn an_answer_that_is_older_than_one_before_it() {
    let script = || Script::new().call(0, [1, 3], put_job("a", &[], &[]), created(1));
    let finding = script().call(1, [4, 5], read_graph(), counts(0, 0, 0, 0)).found();
    let because = "version 1 had been answered before the second was sent; the two did not overlap";
    says(&finding, Kind::StaleAnswer, 0, &[0, 1], "an answer at version 1 or later", because);
    // They overlap, if only by an instant.
    script().call(1, [3, 5], read_graph(), counts(0, 0, 0, 0)).valid();
    script().call(1, [2, 5], read_graph(), counts(1, 1, 0, 0)).valid();

    let log = [logged_job(1, "a")];
    let finding = Script::new()
        .beginning_at(1)
        .call(0, [1, 2], read_graph(), counts(0, 0, 0, 0))
        .found_with_log(&log);
    let because = "the history begins at version 1";
    says(&finding, Kind::StaleAnswer, 0, &[0], "an answer at version 1 or later", because);
}

#[test]
fn a_rejection_too_must_not_be_older_than_an_answer_before_it() {
    let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let absent = rejected(0, 404, "job_not_found", json!({"name": "a", "operation": 0}));
    let finding = script.call(1, [3, 4], delete_job("a"), absent).found();
    assert_eq!((finding.kind, finding.operations.len()), (Kind::StaleAnswer, 2), "{finding}");
}

#[test]
fn a_write_that_came_before_one_that_had_ended() {
    let finding = Script::new()
        .call(0, [1, 2], put_job("a", &[], &[]), created(2))
        .call(1, [3, 4], put_job("b", &[], &[]), created(1))
        .found();
    let because = "version 2 had been answered before the second was sent; the two did not overlap";
    says(&finding, Kind::WriteOutOfOrder, 1, &[0, 1], "a version above 2", because);
}

#[test]
fn an_answer_at_a_version_whose_write_was_not_yet_sent() {
    let finding = Script::new()
        .call(0, [1, 2], read_graph(), counts(1, 1, 0, 0))
        .call(1, [3, 4], put_job("a", &[], &[]), created(1))
        .found();
    let because = "version 1 had been answered before the second was sent; the two did not overlap";
    let expected = "version 1 not to be seen before its write was sent";
    says(&finding, Kind::AnswerBeforeItsWrite, 1, &[0, 1], expected, because);
}

#[test]
fn a_process_that_sees_an_older_version_in_the_same_instant() {
    let script = || Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let finding = script().call(0, [2, 3], read_graph(), counts(0, 0, 0, 0)).found();
    let because = "the same process had seen that before";
    says(&finding, Kind::SessionWentBack, 0, &[0, 1], "a version not below 1", because);
    let script = Script::new().call(0, [1, 2], read_graph(), counts(1, 1, 0, 0));
    let finding = script.call(0, [2, 3], put_job("a", &[], &[]), created(1)).found();
    says(&finding, Kind::SessionWentBack, 1, &[0, 1], "a version above 1", because);
}

#[test]
fn an_end_that_is_not_where_the_changes_lead() {
    let script = || Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let finding = script().ending_with(1, "abc").found();
    let because = "that is the digest of the replay; 1.ndjson:4 says abc";
    let digest = finding.expected.clone();
    says(&finding, Kind::FinalDigest, 1, &[], &digest, because);
    script().ending_with(1, &digest).valid();

    let finding =
        script().ending_with(0, &Script::new().ending_with(0, "").found().expected).found();
    let because = "1.ndjson:4 says that the graph ended at version 0";
    says(&finding, Kind::FinalVersion, 0, &[0], "a version from 1 to 1", because);
    let finding = script().ending_with(2, "abc").found_with_log(&[logged_job(1, "a")]);
    assert_eq!(finding.kind, Kind::FinalVersion, "{finding}");
    // Without a log, somebody must have made the version at the end.
    assert_eq!(script().ending_with(2, "abc").found().kind, Kind::VersionGap);
}

#[test]
fn the_first_anomaly_is_told_by_version_then_by_time() {
    let finding = Script::new()
        .call(0, [1, 2], put_job("a", &[], &[]), created(1))
        .call(1, [3, 9], read_graph(), counts(1, 8, 0, 0))
        .call(2, [3, 5], read_graph(), counts(1, 9, 0, 0))
        .call(0, [3, 4], put_job("a", &[], &[]), changed(2))
        .found();
    assert_eq!((finding.version, finding.operations[0].id), (Some(1), 2), "{finding}");
}

#[test]
fn an_unknown_write_may_or_may_not_have_been_applied() {
    let script = || Script::new().call(0, [1, 2], put_job("a", &[], &[]), unknown());
    let summary = script().call(1, [3, 4], read_graph(), counts(0, 0, 0, 0)).valid();
    assert_eq!((summary.unknown, summary.unknown_applied), (1, 0));
    let summary = script().call(1, [3, 4], read_graph(), counts(1, 1, 0, 0)).valid();
    assert_eq!((summary.unknown, summary.unknown_applied, summary.last_version), (1, 1, 1));
    // It may be applied long after the last answer.
    let summary = script()
        .call(1, [3, 4], read_graph(), counts(0, 0, 0, 0))
        .valid_with_log(&[logged_job(1, "a")]);
    assert_eq!((summary.unknown_applied, summary.last_version), (1, 1));
    assert_eq!(
        summary.to_string(),
        "valid: 2 operations, versions 0 to 1, 1 unknown outcomes resolved (1 applied)"
    );
}

#[test]
fn an_unknown_write_cannot_have_made_a_version_that_was_answered_before_it_was_sent() {
    let script = Script::new().call(0, [1, 2], read_graph(), counts(1, 1, 0, 0)).call(
        1,
        [3, 4],
        put_job("a", &[], &[]),
        unknown(),
    );
    assert_eq!(script.found().kind, Kind::VersionGap);
    assert_eq!(script.found_with_log(&[logged_job(1, "a")]).kind, Kind::PhantomChange);
}

#[test]
fn an_unknown_write_is_applied_once() {
    let script = || Script::new().call(0, [1, 2], put_dataset("x", json!({})), unknown());
    let declared = |version: u64| json!({"version": version, "facts": [{"fact": "dataset_declared", "name": "x", "metadata": {}}]});
    let gone = |version: u64| json!({"version": version, "facts": [{"fact": "dataset_undeclared", "name": "x"}]});
    let delete =
        json!({"call": "deleteDataset", "operations": [{"op": "delete_dataset", "name": "x"}]});
    let once = script().call(1, [3, 4], delete.clone(), changed(2));
    once.valid_with_log(&[declared(1), gone(2)]);
    let finding = once.found_with_log(&[declared(1), gone(2), declared(3)]);
    let because = "each write is applied once, and there are fewer writes of unknown outcome than changes of this kind";
    says(&finding, Kind::PhantomChange, 3, &[0], "a write for each change", because);
    once.call(2, [1, 9], put_dataset("x", json!({})), unknown()).valid_with_log(&[
        declared(1),
        gone(2),
        declared(3),
    ]);
}

#[test]
fn what_only_one_write_can_have_done_is_left_to_it() {
    let put = |name: &str| json!({"op": "put_dataset", "name": name, "metadata": {}});
    let write = |operations: &[Value]| json!({"call": "applyChangeset", "operations": operations});
    let delete = |name: &str| write(&[json!({"op": "delete_dataset", "name": name})]);
    let declared = |version: u64, name: &str| json!({"version": version, "facts": [{"fact": "dataset_declared", "name": name, "metadata": {}}]});
    let gone = |version: u64, name: &str| json!({"version": version, "facts": [{"fact": "dataset_undeclared", "name": name}]});
    // Both unknown writes can have made version 2, and only the first version 5: there `y` would
    // come with `x`.
    let summary = Script::new()
        .call(9, [1, 2], write(&[put("y")]), created(1))
        .call(0, [3, 4], write(&[put("x")]), unknown())
        .call(1, [3, 4], write(&[put("x"), put("y")]), unknown())
        .call(9, [5, 6], delete("y"), changed(3))
        .call(9, [7, 8], delete("x"), changed(4))
        .valid_with_log(&[
            declared(1, "y"),
            declared(2, "x"),
            gone(3, "y"),
            gone(4, "x"),
            declared(5, "x"),
        ]);
    assert_eq!((summary.unknown, summary.unknown_applied), (2, 2));
}

#[test]
fn several_unknown_writes_that_fit_leave_it_undecided_without_a_log() {
    let script = |second: &str| {
        Script::new()
            .call(0, [1, 2], put_job("a", &[], &[]), unknown())
            .call(1, [1, 2], put_job(second, &[], &[]), unknown())
            .call(2, [3, 4], read_graph(), counts(1, 1, 0, 0))
    };
    let finding = script("b").found();
    let because =
        "several writes of unknown outcome could have made this version, two of them these";
    let expected = "the change log: --stored or --changes FILE";
    says(&finding, Kind::Undecided, 1, &[0, 1], expected, because);
    assert!(finding.to_string().starts_with("undecided at version 1\n"));
    script("b").valid_with_log(&[logged_job(1, "b")]);
    // Which of two that ask for the same makes no difference.
    script("a").valid();
}

#[test]
fn a_history_that_begins_in_the_middle_needs_the_log() {
    let script = Script::new().beginning_at(1).call(0, [1, 2], read_graph(), counts(1, 1, 0, 0));
    let finding = script.found();
    let because = "the history begins at version 1, and does not tell what was before";
    let expected = "the change log: --stored or --changes FILE; or the graph: --base FILE";
    says(&finding, Kind::Undecided, 1, &[], expected, because);
    script.valid_with_log(&[logged_job(1, "a")]);
}

#[test]
fn files_of_one_graph_are_judged_together_each_by_its_own_clock() {
    let first = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1)).text();
    let beside = Script::new()
        .call(0, [1, 2], read_graph(), counts(0, 0, 0, 0))
        .call(0, [5, 6], put_job("b", &[], &[]), created(2))
        .text();
    let summary = valid(judge(&[&first, &beside], None).unwrap());
    assert_eq!((summary.operations, summary.last_version), (3, 2));
    assert_eq!(found(judge(&[&beside], None).unwrap()).kind, Kind::VersionGap);
    // What began at version 1 cannot see version 0.
    let after =
        Script::new().beginning_at(1).call(0, [1, 2], read_graph(), counts(0, 0, 0, 0)).text();
    let finding = found(judge(&[&first, &after], None).unwrap());
    assert_eq!(
        (finding.kind, &*finding.operations[0].at),
        (Kind::StaleAnswer, "2.ndjson:2"),
        "{finding}"
    );
    let again = Script::new().call(0, [1, 2], put_job("c", &[], &[]), created(1)).text();
    assert_eq!(found(judge(&[&first, &again], None).unwrap()).kind, Kind::DuplicateVersion);
}

#[test]
fn json_counts_as_canonical_text_and_numbers_by_their_digits() {
    let put = json!({"call": "putJob", "operations": [
        {"op": "put_job", "name": "a", "inputs": [], "outputs": [], "spec": {"z": 2.5, "b": {"k": [1, null]}, "a": "\u{e9}\n"}},
    ]});
    let patch = json!({"call": "patchJob", "operations": [
        {"op": "patch_job", "name": "a", "patch": {"spec": {"a": null, "b": {"l": {}, "k": null}}}},
    ]});
    let read = |version: u64, spec: Value| {
        answered(
            version,
            json!({"name": "a", "inputs": [], "outputs": [], "spec": spec, "version": version}),
        )
    };
    let text = Script::new()
        .call(0, [1, 2], put, created(1))
        .call(
            0,
            [3, 4],
            read_job("a"),
            read(1, json!({"a": "\u{e9}\n", "b": {"k": [1, null]}, "z": 2.5})),
        )
        .call(0, [5, 6], patch, changed(2))
        .call(0, [7, 8], read_job("a"), read(2, json!({"b": {"l": {}}, "z": 2.5})))
        .text();
    valid(judge(&[&text], None).unwrap());
    valid(judge(&[&text.replace("2.5", "2.50")], None).unwrap());
    valid(judge(&[&text.replacen("\u{e9}\\n", "\\u00e9\\u000a", 1)], None).unwrap());
    let finding = found(judge(&[&text.replacen("2.5", "2.50", 1)], None).unwrap());
    assert_eq!((finding.kind, finding.version), (Kind::WrongAnswer, Some(1)), "{finding}");
    let twice = text.replacen("\"z\":2.5", "\"z\":2.5,\"z\":2.5", 1);
    let error = judge(&[&twice], None).expect_err("a duplicate key").to_string();
    assert_eq!(error, "1.ndjson:2: request: operations[0]: spec: duplicate key `z`");
}
