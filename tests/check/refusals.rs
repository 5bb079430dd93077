//! Answers that say nothing of the graph, or little: frozen, too large, not served, not known, not
//! modified. Each is legal only where it can be true.

use fencepost::check::Kind;
use serde_json::{Value, json};

use super::script::*;

fn without_version(status: u16, name: &str, adds: Value) -> Value {
    let mut end = rejected(0, status, name, adds);
    end.as_object_mut().unwrap().remove("version");
    end
}

fn frozen() -> Value {
    without_version(409, "frozen", json!({"moved_to": null, "graph": "g"}))
}

fn too_large(limit: u64) -> Value {
    without_version(413, "too_large", json!({"limit": limit}))
}

fn refused(status: u16, name: &str, outcome: &str) -> Value {
    let mut end = without_version(status, name, json!({"outcome": outcome}));
    end["verdict"] = json!("refused");
    end
}

#[track_caller]
fn is(kind: Kind, id: u64, script: &Script) {
    let finding = script.found();
    let last = finding.operations.last().map(|call| call.id);
    assert_eq!((finding.kind, last), (kind, Some(id)), "{finding}");
}

fn put(name: &str) -> Value {
    put_job(name, &[], &[])
}

#[test]
fn a_graph_that_nobody_froze_is_not_frozen() {
    let script = || Script::new().call(0, [1, 2], put("a"), frozen());
    is(Kind::WrongRejection, 0, &script());
    script().frozen().valid();
    let cases = [
        json!({"moved_to": null, "graph": "h"}),
        json!({"moved_to": 7, "graph": "g"}),
        json!({"graph": "g"}),
    ];
    for adds in cases {
        let told = without_version(409, "frozen", adds);
        is(Kind::WrongRejection, 0, &Script::new().frozen().call(0, [1, 2], put("a"), told));
    }
    let told = without_version(410, "frozen", json!({"moved_to": null, "graph": "g"}));
    is(Kind::WrongRejection, 0, &Script::new().frozen().call(0, [1, 2], put("a"), told));
}

#[test]
fn a_frozen_graph_decides_no_write_and_goes_to_no_further_version() {
    let after = |request: Value, end: Value| {
        Script::new()
            .frozen()
            .call(0, [1, 4], put("a"), created(1))
            .call(1, [2, 3], put("b"), frozen())
            .call(2, [5, 6], request, end)
    };
    after(put("c"), frozen()).valid();
    after(read_graph(), counts(1, 1, 0, 0)).valid();
    after(put("c"), unreachable()).valid();
    is(Kind::WriteAfterFreeze, 2, &after(put("a"), unchanged(1)));
    let absent = rejected(1, 404, "job_not_found", json!({"name": "c", "operation": 0}));
    is(Kind::WriteAfterFreeze, 2, &after(delete_job("c"), absent));
    // Who creates a graph that is there decides nothing.
    after(json!({"call": "createGraph"}), unchanged(1)).valid();
    // What was applied before is told again afterwards.
    let keyed = || {
        let mut request = put("a");
        request["key"] = json!("k");
        request
    };
    Script::new()
        .frozen()
        .call(0, [1, 4], keyed(), unknown())
        .call(1, [2, 3], put("b"), frozen())
        .call(2, [5, 6], keyed(), created(1))
        .valid();
    // What was under way when the graph was frozen was written before, or not at all.
    let behind = Script::new()
        .frozen()
        .call(0, [1, 9], put("a"), created(1))
        .call(1, [2, 3], put("b"), frozen())
        .call(2, [5, 6], read_graph(), counts(0, 0, 0, 0));
    is(Kind::ReadBehindFreeze, 2, &behind);
}

#[test]
fn the_first_that_is_told_of_a_freeze_binds_all_that_is_sent_later() {
    let told = |one: [u64; 2], other: [u64; 2]| {
        Script::new()
            .frozen()
            .call(0, [1, 9], put("a"), created(1))
            .call(1, one, put("b"), frozen())
            .call(2, other, put("b"), frozen())
            .call(3, [5, 6], put("a"), unchanged(1))
    };
    is(Kind::WriteAfterFreeze, 3, &told([2, 3], [2, 8]));
    is(Kind::WriteAfterFreeze, 3, &told([2, 8], [2, 3]));
    told([2, 8], [2, 7]).valid();
}

#[test]
fn a_freeze_that_one_history_tells_of_binds_no_other() {
    let told = Script::new().call(0, [1, 2], put("b"), frozen());
    let wrote = Script::new().call(0, [5, 6], put("a"), created(1));
    valid(judge_frozen(&[&told.text(), &wrote.text()]));
}

#[test]
fn nothing_follows_from_a_read_that_is_told_of_a_freeze() {
    let read = Script::new()
        .frozen()
        .call(0, [1, 2], read_job("a"), frozen())
        .call(1, [3, 4], put("b"), unknown())
        .call(2, [5, 6], read_graph(), counts(1, 1, 0, 0));
    is(Kind::WrongRejection, 0, &read);
}

#[test]
fn a_write_of_unknown_outcome_cannot_have_been_applied_once_the_graph_was_frozen() {
    let unknown_at = |ms: [u64; 2]| {
        Script::new()
            .frozen()
            .call(0, [1, 4], put("a"), frozen())
            .call(1, ms, put("b"), unknown())
            .call(2, [9, 10], read_graph(), counts(1, 1, 0, 0))
    };
    unknown_at([3, 6]).valid();
    unknown_at([3, 6]).valid_with_log(&[logged_job(1, "b")]);
    assert_eq!(unknown_at([5, 6]).found().kind, Kind::VersionGap);
    let finding = unknown_at([5, 6]).found_with_log(&[logged_job(1, "b")]);
    assert_eq!(finding.kind, Kind::PhantomChange, "{finding}");
}

#[test]
fn what_is_too_large_is_larger_than_the_limit_that_is_told() {
    let ask = |request: Value, end: Value| Script::new().call(0, [1, 2], request, end);
    ask(put("a"), too_large(10)).valid();
    is(Kind::WrongRejection, 0, &ask(put("a"), too_large(1_000)));
    is(Kind::WrongRejection, 0, &ask(put("a"), without_version(413, "too_large", json!({}))));
    // Neither has a body.
    is(Kind::WrongRejection, 0, &ask(read_graph(), too_large(0)));
    is(Kind::WrongRejection, 0, &ask(delete_job("a"), too_large(0)));
    let plan = json!({"call": "planMany", "datasets": ["a"], "jobs": [], "stop_at": []});
    ask(plan.clone(), too_large(10)).valid();
    is(Kind::WrongRejection, 0, &ask(plan, too_large(1_000)));
    // A change may be too long as well, but that is decided.
    let decided = |limit: u64| rejected(0, 413, "too_large", json!({"limit": limit}));
    ask(put("a"), decided(10)).valid();
    is(Kind::WrongRejection, 0, &ask(put("a"), decided(1_000)));
    is(Kind::WrongRejection, 0, &ask(read_graph(), decided(0)));
}

#[test]
fn what_is_refused_was_not_looked_at() {
    let ask = |request: Value, end: Value| Script::new().call(0, [1, 2], request, end);
    ask(put("a"), refused(503, "contended", "not_applied")).valid();
    is(Kind::WrongRejection, 0, &ask(put("a"), refused(503, "contended", "unknown")));
    is(Kind::WrongRejection, 0, &ask(put("a"), refused(404, "job_not_found", "not_applied")));
    let waited = refused(503, "version_not_reached", "not_applied");
    is(Kind::WrongRejection, 0, &ask(read_job("a"), waited.clone()));
    let mut read = read_job("a");
    read["at_least"] = json!(1);
    ask(read, waited).valid();
}

#[test]
fn the_outcome_of_a_read_is_never_unknown() {
    let mut told = without_version(503, "outcome_unknown", json!({"outcome": "unknown"}));
    (told["event"], told["verdict"], told["reason"]) =
        (json!("info"), json!("unknown"), json!("outcome_unknown"));
    Script::new().call(0, [1, 2], put("a"), told.clone()).valid();
    is(Kind::WrongAnswer, 0, &Script::new().call(0, [1, 2], read_graph(), told));
    Script::new().call(0, [1, 2], read_graph(), unknown()).valid();
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let read = json!({"call": "readJob", "job": "a", "if_none_match": 1});
    let job = |version: u64| {
        let answer =
            json!({"name": "a", "inputs": ["x"], "outputs": [], "spec": {}, "version": version});
        answered(version, answer)
    };
    let script = || Script::new().call(0, [1, 2], put_job("a", &["x"], &[]), created(1));
    is(Kind::WrongAnswer, 1, &script().call(0, [3, 4], read.clone(), job(1)));
    let other = json!({"call": "readJob", "job": "a", "if_none_match": 0});
    script().call(0, [3, 4], other, job(1)).valid();
}

#[test]
fn an_answer_is_as_new_as_was_asked_for() {
    let read = |version: u64| json!({"call": "readGraph", "at_least": version});
    let script = |version: u64| Script::new().call(0, [1, 2], read(version), counts(0, 0, 0, 0));
    script(0).valid();
    is(Kind::StaleAnswer, 0, &script(1));
    let absent = rejected(0, 404, "job_not_found", json!({"name": "a"}));
    let job = json!({"call": "readJob", "job": "a", "at_least": 1});
    is(Kind::StaleAnswer, 0, &Script::new().call(0, [1, 2], job, absent));
}

#[test]
fn a_history_in_which_nothing_can_be_true_is_not_valid() {
    let history = || {
        Script::new()
            .call(0, [1, 2], put("a"), frozen())
            .call(1, [3, 4], put("b"), unknown())
            .call(2, [5, 6], put("b"), unchanged(1))
            .call(3, [7, 8], read_graph(), too_large(1))
    };
    history().found();
    history().frozen().found();
    history().found_with_log(&[logged_job(1, "b")]);
    history().frozen().found_with_log(&[logged_job(1, "b")]);
}
