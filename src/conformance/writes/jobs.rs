//! Patches of jobs, and POST, which only creates.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Writes,
        a_merge_patch_changes_what_it_names_and_nothing_else,
        "PATCH is a JSON merge patch: lists are replaced, members of the specification are \
         merged, null removes one."
    ),
    case!(
        Writes,
        a_patch_of_nothing_or_of_no_job_changes_nothing,
        "An empty patch answers changed: false, a patch of a job that is not there 404."
    ),
    case!(
        Writes,
        a_patch_cannot_rename_a_job_or_remove_its_lists,
        "`name` in a patch must be that of the path, and a list cannot be null: 400 malformed."
    ),
    case!(
        Writes,
        post_creates_a_job_and_says_where_it_is,
        "POST answers 201 with a header Location, which is the path of the job with its name \
         escaped."
    ),
    case!(
        Writes,
        post_of_a_job_that_is_there_is_refused,
        "POST never replaces: 409 already_exists."
    ),
];

fn a_merge_patch_changes_what_it_names_and_nothing_else(s: &Session<'_>) -> Met {
    s.create()?;
    let spec = json!({"keep": 1, "drop": 2, "deep": {"a": 1, "b": 2}});
    let whole = json!({"inputs": ["x"], "outputs": ["y"], "spec": spec});
    s.put(&job("a")).json(&whole).send()?.is(201)?;
    let spec = json!({"drop": null, "deep": {"b": 3}, "new": []});
    let patch = json!({"inputs": ["w"], "spec": spec}).to_string();
    let request = s.patch(&job("a"), &json!({})).body("application/merge-patch+json", &patch);
    request.send()?.accepted(200, 2, true)?;
    s.get(&job("a")).send()?.is(200)?.tells(json!({
        "inputs": ["w"], "outputs": ["y"], "version": 2,
        "spec": {"keep": 1, "deep": {"a": 1, "b": 3}, "new": []}
    }))?;
    s.get(&dataset("x")).send()?.problem(404, "dataset_not_found")?;
    Ok(())
}

fn a_patch_of_nothing_or_of_no_job_changes_nothing(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    s.patch(&job("a"), &json!({})).send()?.accepted(200, 1, false)?;
    s.patch(&job("none"), &json!({})).send()?.problem(404, "job_not_found")?;
    Ok(())
}

fn a_patch_cannot_rename_a_job_or_remove_its_lists(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let before = s.state()?;
    s.patch(&job("a"), &json!({"name": "b"})).send()?.malformed("name")?;
    s.patch(&job("a"), &json!({"inputs": null})).send()?.malformed("inputs")?;
    s.is_still(&before, "a patch that is refused")
}

fn post_creates_a_job_and_says_where_it_is(s: &Session<'_>) -> Met {
    s.create()?;
    let whole = json!({"name": "a/b", "inputs": [], "outputs": []});
    let answer = s.post("/jobs", &whole).send()?.accepted(201, 1, true)?;
    let location = answer.header("Location").unwrap_or_default();
    // An absolute URL would do as well.
    let path = format!("/v1/graphs/{}{}", s.graph(), job("a/b"));
    let is_there = location.to_ascii_uppercase().ends_with(&path.to_ascii_uppercase());
    answer.must(is_there, format_args!("header Location: {path}, not `{location}`"))?;
    s.post("/jobs", &json!({"inputs": [], "outputs": []})).send()?.malformed("name")?;
    Ok(())
}

fn post_of_a_job_that_is_there_is_refused(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let before = s.state()?;
    let again = json!({"name": "a", "inputs": [], "outputs": []});
    let answer = s.post("/jobs", &again).send()?.problem(409, "already_exists")?;
    answer.tells(json!({"name": "a"}))?;
    s.is_still(&before, "POST of a job that is there")
}
