//! Jobs, one at a time.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Core,
        a_put_creates_a_job_with_201_and_replaces_it_with_200,
        "PUT of a job replaces all of it: a specification that is left out is {} from then on."
    ),
    case!(
        Core,
        the_lists_of_a_job_are_in_byte_order_and_hold_each_name_once,
        "Inputs and outputs of a job are sets, and are told in byte order."
    ),
    case!(
        Core,
        a_put_of_what_is_there_changes_nothing_and_keeps_the_version,
        "PUT of a job as it is, in whatever order and spacing, answers changed: false and makes \
         no version."
    ),
    case!(
        Core,
        a_job_that_was_read_can_be_put_back,
        "PUT takes the body that GET of the job has answered, `name` and `version` included."
    ),
    case!(
        Core,
        a_jobs_version_is_that_of_its_own_last_change,
        "`version` and ETag of a job are the version of its last change, not that of the graph."
    ),
    case!(
        Core,
        replacing_a_job_drops_its_old_edges_first,
        "A job may swap its input and its output: its old edges are gone when the rules are \
         judged."
    ),
    case!(
        Core,
        a_deleted_job_is_gone_with_its_edges,
        "DELETE of a job answers 200; no edge of it is left behind, and it is not there any more."
    ),
];

fn a_put_creates_a_job_with_201_and_replaces_it_with_200(s: &Session<'_>) -> Met {
    s.create()?;
    let whole = json!({"inputs": ["x"], "outputs": ["z"], "spec": {"b": 1, "a": [true]}});
    s.put(&job("a")).json(&whole).send()?.accepted(201, 1, true)?;
    s.get(&job("a")).send()?.is(200)?.tells(json!({
        "name": "a", "inputs": ["x"], "outputs": ["z"], "spec": {"a": [true], "b": 1}, "version": 1
    }))?;
    s.put_job("a", &[], &["z"]).send()?.accepted(200, 2, true)?;
    s.get(&job("a")).send()?.is(200)?.tells(json!({
        "name": "a", "inputs": [], "outputs": ["z"], "spec": {}, "version": 2
    }))?;
    Ok(())
}

fn the_lists_of_a_job_are_in_byte_order_and_hold_each_name_once(s: &Session<'_>) -> Met {
    s.create()?;
    let (inputs, outputs) = (["b", "a/b", "é", "B", "a", "a"], ["z", "Y", "z", "y"]);
    s.put_job("j", &inputs, &outputs).send()?.is(201)?;
    let sorted = json!({"inputs": ["B", "a", "a/b", "b", "é"], "outputs": ["Y", "y", "z"]});
    s.get(&job("j")).send()?.is(200)?.tells(sorted)?;
    Ok(())
}

fn a_put_of_what_is_there_changes_nothing_and_keeps_the_version(s: &Session<'_>) -> Met {
    s.create()?;
    let put = s.put(&job("j"));
    let first = r#"{"inputs":["x","w"],"outputs":["y"],"spec":{"a":1,"b":2}}"#;
    put.clone().text(first).send()?.accepted(201, 1, true)?;
    let same = r#"{ "outputs": ["y"], "spec": { "b": 2, "a": 1 }, "inputs": ["w", "x"] }"#;
    put.text(same).send()?.accepted(200, 1, false)?;
    s.get("").send()?.tells(json!({"version": 1}))?;
    Ok(())
}

fn a_job_that_was_read_can_be_put_back(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let read = s.get(&job("a")).send()?.is(200)?;
    let back = s.put(&job("a")).text(&read.text()).send()?;
    back.accepted(200, 1, false)?;
    Ok(())
}

fn a_jobs_version_is_that_of_its_own_last_change(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["x"]), ("b", &["x"], &[])])?;
    let read = s.get(&job("a")).send()?.is(200)?.tells(json!({"version": 1}))?;
    read.has("ETag", Some("\"1\""))?;
    Ok(())
}

fn replacing_a_job_drops_its_old_edges_first(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("j", &["x"], &["y"])])?;
    s.put_job("j", &["y"], &["x"]).send()?.accepted(200, 2, true)?;
    s.get(&dataset("x")).send()?.is(200)?.tells(json!({"producer": "j", "consumers": []}))?;
    Ok(())
}

fn a_deleted_job_is_gone_with_its_edges(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"]), ("b", &["y"], &[])])?;
    s.delete(&job("a")).send()?.accepted(200, 3, true)?;
    s.get(&job("a")).send()?.problem(404, "job_not_found")?;
    s.get("").send()?.tells(json!({"jobs": 1, "datasets": 1, "edges": 1}))?;
    s.get(&dataset("y")).send()?.tells(json!({"producer": null, "consumers": ["b"]}))?;
    Ok(())
}
