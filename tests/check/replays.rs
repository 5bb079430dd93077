//! Writes that are sent again with an idempotency key.

use fencepost::check::Kind;
use serde_json::{Value, json};

use super::script::*;

fn keyed(request: Value, key: &str) -> Value {
    let mut request = request;
    request["key"] = json!(key);
    request
}

fn put_a() -> Value {
    keyed(put_job("a", &[], &[]), "k")
}

fn reused() -> Value {
    let problem = json!({"type": "urn:fencepost:problem:idempotency_key_reused", "status": 422});
    json!({"event": "fail", "verdict": "rejected", "problem": problem})
}

#[track_caller]
fn is(kind: Kind, script: &Script) {
    let finding = script.found();
    assert_eq!(finding.kind, kind, "{finding}");
}

/// Job `a` with key `k`, job `b`, then `a` with its key again.
fn again(end: Value) -> Script {
    Script::new()
        .call(0, [1, 2], put_a(), created(1))
        .call(0, [3, 4], put_job("b", &[], &[]), created(2))
        .call(0, [5, 6], put_a(), end)
}

#[test]
fn what_was_accepted_is_answered_again_and_is_applied_once() {
    again(created(1)).call(0, [7, 8], read_graph(), counts(2, 2, 0, 0)).valid();
    is(Kind::AppliedTwice, &again(created(3)));
    is(Kind::AppliedTwice, &again(changed(3)));
    is(Kind::WrongReplay, &again(changed(1)));
    is(Kind::WrongReplay, &again(unchanged(2)));
    let problem = rejected(2, 409, "already_exists", json!({"name": "a"}));
    is(Kind::WrongReplay, &again(problem));
    // Without the key the same answers are another matter.
    let plain = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1)).call(
        0,
        [3, 4],
        put_job("a", &[], &[]),
        created(1),
    );
    is(Kind::DuplicateVersion, &plain);
}

#[test]
fn a_replay_repeats_body_and_headers() {
    let told = |etag: &str| {
        let mut end = created(1);
        end["headers"] = json!({"version": "1"});
        end["answer"] = json!({"graph": "g", "version": 1, "changed": true, "etag": etag});
        end
    };
    let twice = |end: Value| {
        Script::new().call(0, [1, 2], put_a(), told("\"1\"")).call(0, [3, 4], put_a(), end)
    };
    twice(told("\"1\"")).valid();
    is(Kind::WrongReplay, &twice(told("\"2\"")));
    let mut other_version = told("\"1\"");
    other_version["headers"]["version"] = json!("2");
    is(Kind::WrongReplay, &twice(other_version));
}

#[test]
fn a_write_of_unknown_outcome_is_applied_once_however_often_it_is_sent() {
    // The first may have been applied, though it is the second that is told so, after a third.
    let early = Script::new()
        .call(0, [1, 10], put_a(), unknown())
        .call(1, [11, 12], put_job("b", &[], &[]), created(2))
        .call(1, [13, 14], read_graph(), counts(2, 2, 0, 0))
        .call(1, [15, 16], put_a(), created(1))
        .call(1, [17, 18], read_graph(), counts(2, 2, 0, 0));
    early.valid();
    // Not before any of them was sent.
    let too_early = Script::new()
        .call(1, [1, 2], put_job("b", &[], &[]), created(2))
        .call(0, [3, 10], put_a(), unknown())
        .call(1, [13, 14], put_a(), created(1));
    is(Kind::WriteOutOfOrder, &too_early);
    let gone = json!({"call": "deleteJob", "operations": [{"op": "delete_job", "name": "a"}]});
    // Two sends, and two versions that only they can have made.
    let sent_twice = Script::new()
        .call(0, [1, 2], put_a(), unknown())
        .call(1, [3, 4], put_a(), unknown())
        .call(2, [5, 6], gone, changed(2))
        .call(2, [7, 8], read_graph(), counts(3, 1, 0, 0));
    let log = |version: u64| logged_job(version, "a");
    let deleted = json!({"version": 2, "facts": [{"fact": "job_deleted", "name": "a"}]});
    assert_eq!(sent_twice.found().kind, Kind::VersionGap);
    let finding = sent_twice.found_with_log(&[log(1), deleted, log(3)]);
    assert_eq!(finding.kind, Kind::PhantomChange, "{finding}");
}

#[test]
fn what_was_not_accepted_may_be_tried_again_with_its_key() {
    Script::new()
        .call(0, [1, 2], put_a(), unreachable())
        .call(0, [3, 4], put_a(), created(1))
        .call(0, [5, 6], put_a(), unreachable())
        .call(0, [7, 8], put_a(), unknown())
        .valid();
    let needs_b = keyed(
        json!({"call": "addInput", "operations": [{"op": "add_input", "job": "b", "dataset": "x"}]}),
        "k",
    );
    let absent = rejected(0, 404, "job_not_found", json!({"name": "b", "operation": 0}));
    let cycle = rejected(1, 409, "cycle", json!({"operation": 0, "cycle": ["b", "x", "b"]}));
    Script::new()
        .call(0, [1, 2], needs_b.clone(), absent)
        .call(0, [3, 4], put_job("b", &["y"], &["x"]), created(1))
        .call(0, [5, 6], needs_b, cycle)
        .valid();
}

#[test]
fn what_is_rejected_under_a_key_was_not_applied_under_it_before() {
    let create = || {
        let step = json!({"op": "put_job", "name": "a", "inputs": [], "outputs": [],
            "if_absent": true});
        keyed(json!({"call": "createJob", "operations": [step]}), "k")
    };
    let there = |version: u64| rejected(version, 409, "already_exists", json!({"name": "a"}));
    // It was the first that created the job: its answer should have been given again.
    let lost = Script::new()
        .call(0, [1, 2], create(), unknown())
        .call(1, [3, 4], create(), there(1))
        .call(1, [5, 6], read_graph(), counts(1, 1, 0, 0));
    is(Kind::VersionGap, &lost);
    let log = lost.found_with_log(&[logged_job(1, "a")]);
    assert_eq!(log.kind, Kind::RefusedButApplied, "{log}");
    // Somebody else has created it.
    Script::new()
        .call(0, [1, 2], create(), unknown())
        .call(1, [3, 4], put_job("a", &[], &[]), created(1))
        .call(1, [5, 6], create(), there(1))
        .valid();
    // Decided at the version that it made, or at a later one.
    let at_it =
        Script::new().call(0, [1, 20], create(), created(1)).call(1, [2, 3], create(), there(1));
    is(Kind::WrongReplay, &at_it);
    let beside = Script::new()
        .call(0, [1, 20], create(), created(1))
        .call(1, [2, 3], put_job("b", &[], &[]), created(2))
        .call(1, [4, 5], create(), there(2));
    is(Kind::WrongReplay, &beside);
}

#[test]
fn of_two_that_are_under_way_at_once_either_may_be_applied() {
    Script::new()
        .call(0, [1, 20], put_a(), created(1))
        .call(1, [2, 4], put_job("b", &[], &[]), created(2))
        .call(2, [5, 10], put_a(), created(1))
        .call(1, [11, 12], read_graph(), counts(2, 2, 0, 0))
        .valid();
}

#[test]
fn two_requests_of_one_key_explain_one_version() {
    let both = Script::new()
        .call(0, [1, 2], put_a(), unknown())
        .call(1, [3, 4], keyed(put_job("b", &[], &[]), "k"), unknown())
        .call(2, [5, 6], read_graph(), counts(2, 2, 0, 0));
    let finding = both.found_with_log(&[logged_job(1, "a"), logged_job(2, "b")]);
    assert_eq!(finding.kind, Kind::PhantomChange, "{finding}");
    let finding = both.found();
    assert!(matches!(finding.kind, Kind::Undecided | Kind::VersionGap), "{finding}");
}

#[test]
fn a_key_is_of_one_request() {
    let other = || keyed(put_job("b", &[], &[]), "k");
    let first = || Script::new().call(0, [1, 2], put_a(), created(1));
    first().call(0, [3, 4], other(), reused()).valid();
    is(Kind::WrongReplay, &first().call(0, [3, 4], other(), created(2)));
    is(Kind::WrongReplay, &first().call(0, [3, 4], other(), rejected(1, 409, "cycle", json!({}))));
    // Nobody has used it, or nobody can have been accepted with it.
    let unused = Script::new().call(0, [1, 2], other(), reused());
    is(Kind::WrongRejection, &unused);
    is(Kind::WrongRejection, &first().call(0, [3, 4], put_a(), reused()));
    let refused =
        Script::new().call(0, [1, 2], put_a(), unreachable()).call(0, [3, 4], other(), reused());
    is(Kind::WrongRejection, &refused);
    let taken_by_another = Script::new()
        .call(0, [1, 2], other(), unknown())
        .call(1, [3, 4], put_a(), created(1))
        .call(1, [5, 6], put_a(), reused());
    is(Kind::WrongRejection, &taken_by_another);
    let mut ill = reused();
    ill["problem"]["status"] = json!(409);
    is(Kind::WrongRejection, &first().call(0, [3, 4], other(), ill));
    let without = Script::new().call(0, [1, 2], put_job("b", &[], &[]), reused());
    is(Kind::WrongRejection, &without);
    // What used it was sent only later, or asked for the same.
    let early = || Script::new().call(0, [1, 2], other(), reused());
    is(Kind::WrongRejection, &early().call(0, [3, 4], put_a(), created(1)));
    is(Kind::WrongRejection, &early().call(0, [3, 4], put_a(), unknown()));
    let same = Script::new().call(0, [1, 2], put_a(), unknown()).call(1, [3, 4], put_a(), reused());
    is(Kind::WrongRejection, &same);
    // It may have been.
    Script::new()
        .call(0, [1, 2], put_a(), unknown())
        .call(1, [3, 4], other(), reused())
        .call(1, [5, 6], read_graph(), counts(1, 1, 0, 0))
        .valid();
}

#[test]
fn what_has_the_key_of_an_accepted_write_and_asks_for_something_else_is_not_applied() {
    let script = Script::new().call(0, [1, 2], put_a(), created(1)).call(
        1,
        [3, 4],
        keyed(put_job("b", &[], &[]), "k"),
        unknown(),
    );
    script.valid_with_log(&[logged_job(1, "a")]);
    let finding = script.found_with_log(&[logged_job(1, "a"), logged_job(2, "b")]);
    assert_eq!(finding.kind, Kind::PhantomChange, "{finding}");
}

#[test]
fn keys_of_two_histories_have_nothing_to_do_with_each_other() {
    let one = Script::new().call(0, [1, 2], put_a(), created(1));
    let other = keyed(put_job("b", &[], &[]), "k");
    let other = Script::new().beginning_at(1).call(0, [1, 2], other, created(2));
    valid(judge(&[&one.text(), &other.text()], None).unwrap());
}

#[test]
fn what_was_accepted_is_answered_again_when_the_graph_is_gone_unless_it_is_too_large() {
    let gone = || {
        let problem =
            json!({"type": "urn:fencepost:problem:graph_not_found", "status": 404, "name": "g"});
        json!({"event": "fail", "verdict": "rejected", "problem": problem})
    };
    let deleted = || {
        Script::new()
            .call(0, [1, 2], put_a(), created(1))
            .call(0, [3, 4], json!({"call": "deleteGraph"}), changed(2))
            .call(0, [5, 6], read_graph(), gone())
    };
    deleted().call(0, [7, 8], put_a(), created(1)).valid();
    // Whatever its key is, a body that is too large is not read.
    let problem = json!({"type": "urn:fencepost:problem:too_large", "status": 413, "limit": 1});
    let too_large = json!({"event": "fail", "verdict": "rejected", "problem": problem});
    deleted().call(0, [7, 8], put_a(), too_large).valid();
    is(Kind::WrongReplay, &deleted().call(0, [7, 8], put_a(), gone()));
}

#[test]
fn a_write_may_be_rejected_where_another_of_its_key_changed_nothing_after_it() {
    let create = json!({"op": "put_job", "name": "a", "inputs": [], "outputs": [],
        "if_absent": true});
    let create = keyed(json!({"call": "createJob", "operations": [create]}), "k");
    Script::new()
        .call(0, [1, 2], put_job("a", &[], &[]), created(1))
        .call(0, [3, 20], put_a(), unchanged(1))
        .call(1, [4, 5], create, rejected(1, 409, "already_exists", json!({"name": "a"})))
        .valid();
}
