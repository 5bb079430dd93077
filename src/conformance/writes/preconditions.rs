//! Writes on a condition: `If-Match`, `If-None-Match`, and the preconditions of operations.

use serde_json::{Value, json};

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Writes,
        a_write_of_a_job_with_a_stale_if_match_is_refused,
        "If-Match of a job is compared with the job's own version: 412 with `expected` and \
         `actual`, and nothing is changed."
    ),
    case!(
        Writes,
        a_write_of_anything_else_with_a_stale_if_match_is_refused,
        "If-Match of datasets, changesets and graphs is compared with the version of the graph."
    ),
    case!(
        Writes,
        a_write_with_a_current_if_match_is_done,
        "A write whose If-Match names the tag that GET gives, or is *, is done."
    ),
    case!(
        Writes,
        if_match_of_what_is_not_there_fails,
        "If-Match: * demands that there is something to match: 412, `actual` null."
    ),
    case!(
        Writes,
        if_none_match_lets_a_write_only_create,
        "If-None-Match: * lets a write create and never replace: 412 with `expected` null."
    ),
    case!(
        Writes,
        an_if_match_holds_if_one_of_its_list_does_and_never_by_a_weak_tag,
        "If-Match takes a list of tags; a weak tag matches nothing, and what is no tag is 400."
    ),
    case!(
        Writes,
        operations_carry_preconditions,
        "An operation with `if_version` or `if_absent` that does not hold refuses the changeset: \
         412 with `operation`."
    ),
    case!(
        Writes,
        preconditions_are_judged_before_existence_and_rules,
        "Of several reasons to refuse, a precondition is told first, then what is not there, then \
         a broken rule."
    ),
];

/// A job `a` at version 1, and a dataset `d`, in a graph at version 2.
fn at_two(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    s.put(&dataset("d")).send()?.is(201).map(drop)
}

fn a_write_of_a_job_with_a_stale_if_match_is_refused(s: &Session<'_>) -> Met {
    at_two(s)?;
    let before = s.state()?;
    let writes = [
        s.put_job("a", &[], &[]),
        s.patch(&job("a"), &json!({"spec": {"k": 1}})),
        s.delete(&job("a")),
        s.put(&format!("{}/inputs/d", job("a"))),
        s.delete(&format!("{}/inputs/x", job("a"))),
    ];
    for write in writes {
        write.if_match("\"2\"").send()?.precondition_failed(json!(2), json!(1))?;
        s.is_still(&before, "a write with a stale If-Match")?;
    }
    Ok(())
}

fn a_write_of_anything_else_with_a_stale_if_match_is_refused(s: &Session<'_>) -> Met {
    at_two(s)?;
    let before = s.state()?;
    let writes = [
        s.put(&dataset("d")).json(&json!({"metadata": {"k": 1}})),
        s.delete(&dataset("d")),
        s.change(&json!([{"op": "delete_job", "name": "a"}])),
        s.delete(""),
    ];
    for write in writes {
        write.if_match("\"1\"").send()?.precondition_failed(json!(1), json!(2))?;
        s.is_still(&before, "a write with a stale If-Match")?;
    }
    Ok(())
}

fn a_write_with_a_current_if_match_is_done(s: &Session<'_>) -> Met {
    at_two(s)?;
    let patch = s.patch(&job("a"), &json!({"spec": {"k": 1}}));
    patch.if_match("\"1\"").send()?.accepted(200, 3, true)?;
    s.put_job("a", &[], &[]).if_match("*").send()?.accepted(200, 4, true)?;
    s.delete(&dataset("d")).if_match("\"4\"").send()?.accepted(200, 5, true)?;
    Ok(())
}

fn if_match_of_what_is_not_there_fails(s: &Session<'_>) -> Met {
    s.create()?;
    let before = s.state()?;
    for write in [s.put_job("none", &[], &[]), s.put(&dataset("none"))] {
        write.if_match("*").send()?.precondition_failed(json!("*"), Value::Null)?;
    }
    s.is_still(&before, "If-Match of what is not there")
}

fn if_none_match_lets_a_write_only_create(s: &Session<'_>) -> Met {
    s.create()?;
    let writes = [
        s.put_job("a", &["x"], &[]),
        s.put(&dataset("d")),
        s.put(&format!("{}/outputs/d", job("a"))),
    ];
    for write in writes {
        let write = write.if_none_match("*");
        write.send()?.is(201)?;
        let before = s.state()?;
        let answer = write.send()?.problem(412, "precondition_failed")?;
        let answer = answer.tells(json!({"expected": null}))?;
        let has_number = answer.object()?["actual"].is_u64();
        answer.must(has_number, "a number `actual`")?;
        s.is_still(&before, "a second write with If-None-Match: *")?;
    }
    Ok(())
}

fn an_if_match_holds_if_one_of_its_list_does_and_never_by_a_weak_tag(s: &Session<'_>) -> Met {
    s.create()?;
    s.put(&dataset("d")).send()?.is(201)?;
    s.given(&[("a", &["x"], &[]), ("b", &["x"], &[])])?;
    let patch = |tags: &str| s.patch(&job("a"), &json!({"spec": {"k": 1}})).if_match(tags).send();
    patch("W/\"2\"")?.precondition_failed(json!([]), json!(2))?;
    patch("\"1\", \"3\"")?.precondition_failed(json!([1, 3]), json!(2))?;
    patch("1")?.malformed("if-match")?;
    patch("\"a,b\", W/\"1\", \"2\"")?.accepted(200, 4, true)?;
    Ok(())
}

fn operations_carry_preconditions(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["x"]), ("b", &[], &["y"])])?;
    let before = s.state()?;
    let put_a = |name: &str, value: Value| {
        let mut put = json!({"op": "put_job", "name": "a", "inputs": [], "outputs": ["z"]});
        put[name] = value;
        s.change(&json!([{"op": "put_dataset", "name": "d"}, put])).send()
    };
    let in_second = json!({"operation": 1});
    let stale = put_a("if_version", json!(2))?.precondition_failed(json!(2), json!(1))?;
    stale.tells(in_second.clone())?;
    let there = put_a("if_absent", json!(true))?.precondition_failed(Value::Null, json!(1))?;
    there.tells(in_second)?;
    s.is_still(&before, "a changeset whose precondition does not hold")?;
    put_a("if_version", json!(1))?.accepted(201, 3, true)?;
    Ok(())
}

fn preconditions_are_judged_before_existence_and_rules(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["x"])])?;
    let second = json!({"op": "put_job", "name": "two", "inputs": [], "outputs": ["x"]});
    let missing = json!({"op": "delete_job", "name": "nobody"});
    let stale =
        json!({"op": "put_job", "name": "a", "inputs": [], "outputs": ["x"], "if_absent": true});
    let all = s.change(&json!([second, missing, stale])).send()?;
    all.precondition_failed(Value::Null, json!(1))?.tells(json!({"operation": 2}))?;
    let two = s.change(&json!([second, missing])).send()?.problem(404, "job_not_found")?;
    two.tells(json!({"name": "nobody", "operation": 1}))?;
    s.change(&json!([second])).send()?.problem(409, "second_producer")?;
    Ok(())
}
