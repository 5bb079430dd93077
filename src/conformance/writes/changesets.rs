//! Changesets: several operations, accepted whole or rejected whole.

use serde_json::{Value, json};

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Writes,
        a_changeset_of_every_operation_makes_one_version,
        "A changeset does all its operations in one version, each on what those before have made."
    ),
    case!(
        Writes,
        one_refused_operation_refuses_the_whole,
        "If one operation is refused, none is done, and `operation` says which one it was."
    ),
    case!(
        Writes,
        two_jobs_swap_their_outputs_in_one_changeset,
        "The rules are judged on what a changeset leads to, not on the way there."
    ),
    case!(
        Writes,
        a_cycle_that_only_the_whole_changeset_closes_is_rejected_with_its_operation,
        "A cycle through several operations is rejected, and `operation` is the one that closes \
         it."
    ),
    case!(
        Writes,
        existence_is_judged_operation_by_operation,
        "An operation finds what those before have left: put and then delete is fine, delete and \
         then put of what was not there is not."
    ),
    case!(
        Writes,
        an_empty_changeset_changes_nothing,
        "A changeset of no operations is accepted, with changed: false."
    ),
    case!(
        Writes,
        a_dry_run_says_what_would_be_and_writes_nothing,
        "?dry_run=true answers 200 with `dry_run`, the version now and whether anything would \
         change, or the rejection, and writes nothing."
    ),
    case!(
        Writes,
        a_dataset_in_use_is_not_deleted,
        "A declared dataset is deleted only if no job mentions it when the changeset is done; 409 \
         dataset_in_use names the first ten jobs."
    ),
    case!(
        Writes,
        the_answer_to_a_changeset_has_its_tag_as_a_header,
        "Answers to POST and PATCH have the header ETag, the same as `etag` in the body."
    ),
];

fn put(name: &str, inputs: &[&str], outputs: &[&str]) -> Value {
    json!({"op": "put_job", "name": name, "inputs": inputs, "outputs": outputs})
}

fn a_changeset_of_every_operation_makes_one_version(s: &Session<'_>) -> Met {
    s.create()?;
    let operations = json!([
        {"op": "put_job", "name": "a", "inputs": ["x"], "outputs": ["y"], "spec": {"k": 1}},
        put("b", &[], &[]),
        put("c", &[], &[]),
        {"op": "patch_job", "name": "a", "patch": {"spec": {"l": 2}}},
        {"op": "put_dataset", "name": "d", "metadata": {"m": 3}},
        {"op": "put_dataset", "name": "e"},
        {"op": "add_input", "job": "b", "dataset": "y"},
        {"op": "add_output", "job": "b", "dataset": "d"},
        {"op": "remove_input", "job": "a", "dataset": "x"},
        {"op": "remove_output", "job": "a", "dataset": "y"},
        {"op": "delete_job", "name": "c"},
        {"op": "delete_dataset", "name": "e"}
    ]);
    s.change(&operations).send()?.accepted(201, 1, true)?;
    s.get(&job("a")).send()?.is(200)?.tells(json!({
        "inputs": [], "outputs": [], "spec": {"k": 1, "l": 2}, "version": 1
    }))?;
    s.get(&job("b")).send()?.is(200)?.tells(json!({
        "inputs": ["y"], "outputs": ["d"], "spec": {}, "version": 1
    }))?;
    s.get(&dataset("d")).send()?.is(200)?.tells(json!({"metadata": {"m": 3}}))?;
    s.get("").send()?.tells(json!({"version": 1, "jobs": 2, "datasets": 2, "edges": 2}))?;
    Ok(())
}

fn one_refused_operation_refuses_the_whole(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let before = s.state()?;
    let operations = json!([put("b", &["y"], &[]), {"op": "delete_job", "name": "none"}]);
    let answer = s.change(&operations).send()?.problem(404, "job_not_found")?;
    answer.tells(json!({"name": "none", "operation": 1}))?;
    s.is_still(&before, "a changeset with a refused operation")?;
    s.get(&job("b")).send()?.problem(404, "job_not_found")?;
    Ok(())
}

fn two_jobs_swap_their_outputs_in_one_changeset(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["in"], &["x"]), ("b", &["in"], &["y"])])?;
    let swap = json!([put("a", &["in"], &["y"]), put("b", &["in"], &["x"])]);
    s.change(&swap).send()?.accepted(200, 3, true)?;
    s.get(&dataset("x")).send()?.tells(json!({"producer": "b"}))?;
    s.get(&dataset("y")).send()?.tells(json!({"producer": "a"}))?;
    Ok(())
}

fn a_cycle_that_only_the_whole_changeset_closes_is_rejected_with_its_operation(
    s: &Session<'_>,
) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let before = s.state()?;
    let operations = json!([
        put("b", &["y"], &["z"]),
        {"op": "put_dataset", "name": "w"},
        put("c", &["z"], &["x"]),
        {"op": "put_dataset", "name": "v"}
    ]);
    let answer = s.change(&operations).send()?.problem(409, "cycle")?;
    let cycle = json!(["a", "y", "b", "z", "c", "x", "a"]);
    answer.tells(json!({"cycle": cycle, "operation": 2}))?;
    s.is_still(&before, "a changeset that closes a cycle")
}

fn existence_is_judged_operation_by_operation(s: &Session<'_>) -> Met {
    s.create()?;
    let delete = json!({"op": "delete_job", "name": "j"});
    let there_and_gone = json!([put("j", &["x"], &[]), delete]);
    s.change(&there_and_gone).send()?.accepted(200, 0, false)?;
    let gone_first = json!([delete, put("j", &[], &[])]);
    let answer = s.change(&gone_first).send()?.problem(404, "job_not_found")?;
    answer.tells(json!({"name": "j", "operation": 0}))?;
    Ok(())
}

fn an_empty_changeset_changes_nothing(s: &Session<'_>) -> Met {
    s.create()?;
    s.change(&json!([])).send()?.accepted(200, 0, false)?;
    Ok(())
}

fn a_dry_run_says_what_would_be_and_writes_nothing(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let before = s.state()?;
    let dry = |operation: Value| {
        s.post("/changesets?dry_run=true", &json!({"operations": [operation]})).send()
    };
    let would = |changed: bool| json!({"version": 1, "changed": changed, "dry_run": true});
    dry(put("b", &["y"], &[]))?.is(200)?.tells(would(true))?;
    dry(put("a", &["x"], &["y"]))?.is(200)?.tells(would(false))?;
    dry(put("b", &["y"], &["x"]))?.problem(409, "cycle")?;
    let unclear = s.post("/changesets?dry_run=maybe", &json!({"operations": []}));
    unclear.send()?.malformed("dry_run")?;
    s.is_still(&before, "a dry run")
}

fn a_dataset_in_use_is_not_deleted(s: &Session<'_>) -> Met {
    s.create()?;
    s.put(&dataset("d")).send()?.is(201)?;
    let jobs: Vec<String> = (0..12).map(|number| format!("job-{number:02}")).collect();
    let puts: Vec<Value> = jobs.iter().map(|name| put(name, &["d"], &[])).collect();
    s.change(&json!(puts)).send()?.accepted(201, 2, true)?;
    let in_use = s.delete(&dataset("d")).send()?.problem(409, "dataset_in_use")?;
    in_use.tells(json!({"name": "d", "jobs": jobs[..10]}))?;
    let deletes = jobs.iter().map(|name| json!({"op": "delete_job", "name": name}));
    let first = json!({"op": "delete_dataset", "name": "d"});
    let all: Vec<Value> = [first].into_iter().chain(deletes).collect();
    s.change(&json!(all)).send()?.accepted(200, 3, true)?;
    s.delete(&dataset("d")).send()?.problem(404, "dataset_not_found")?;
    Ok(())
}

fn the_answer_to_a_changeset_has_its_tag_as_a_header(s: &Session<'_>) -> Met {
    s.create()?;
    let answer = s.change(&json!([put("a", &[], &[])])).send()?.is(201)?;
    answer.tells(json!({"etag": "\"1\""}))?.has("ETag", Some("\"1\""))?;
    let answer = s.patch(&job("a"), &json!({"spec": {"k": 1}})).send()?.is(200)?;
    answer.tells(json!({"etag": "\"2\""}))?.has("ETag", Some("\"2\""))?;
    Ok(())
}
