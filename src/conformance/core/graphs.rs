//! Graphs as a whole, and their versions.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Core,
        a_new_graph_is_at_version_0_with_201_and_is_there_with_200,
        "PUT creates a graph at version 0 and answers 201; a second PUT changes nothing and \
         answers 200."
    ),
    case!(
        Core,
        a_graph_tells_its_version_and_counts,
        "GET of a graph counts its jobs, its datasets, implied ones too, and its edges."
    ),
    case!(
        Core,
        a_graph_that_is_not_there_answers_404_and_is_not_made_by_a_write,
        "Only PUT of a graph creates it; every other call on a graph that is not there answers \
         404 graph_not_found."
    ),
    case!(
        Core,
        a_graph_that_is_not_there_has_no_version,
        "404 graph_not_found tells no version, neither as a header nor in its body."
    ),
    case!(
        Core,
        graphs_are_independent,
        "Versions and rules belong to one graph: a job of another graph is no producer and closes \
         no cycle."
    ),
    case!(
        Core,
        versions_rise_by_one_with_each_accepted_change_and_with_nothing_else,
        "A version is used up by each accepted write that changes something, and by no other."
    ),
];

fn a_new_graph_is_at_version_0_with_201_and_is_there_with_200(s: &Session<'_>) -> Met {
    s.put("").send()?.accepted(201, 0, true)?;
    s.put("").text("{}").send()?.accepted(200, 0, false)?;
    Ok(())
}

fn a_graph_tells_its_version_and_counts(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x", "y"], &["z"])])?;
    let counts = json!({"version": 1, "jobs": 1, "datasets": 3, "edges": 3});
    s.get("").send()?.is(200)?.tells(counts)?.tells(json!({"graph": s.graph()}))?;
    s.get("").send()?.tells(json!({"state": "open", "moved_to": null}))?;
    Ok(())
}

fn a_graph_that_is_not_there_answers_404_and_is_not_made_by_a_write(s: &Session<'_>) -> Met {
    for request in [s.get(""), s.get(&job("a")), s.put_job("a", &[], &[]), s.delete("")] {
        let answer = request.send()?.problem(404, "graph_not_found")?;
        answer.tells(json!({"name": s.graph()}))?;
    }
    s.get("").send()?.problem(404, "graph_not_found")?;
    Ok(())
}

fn a_graph_that_is_not_there_has_no_version(s: &Session<'_>) -> Met {
    for request in [s.get(""), s.get(&job("a")), s.put_job("a", &[], &[])] {
        let answer = request.send()?.is(404)?.has("Fencepost-Version", None)?;
        let told = answer.object()?;
        answer.must(told.get("version").is_none(), "no `version`")?;
    }
    Ok(())
}

fn graphs_are_independent(s: &Session<'_>) -> Met {
    let other = s.another("other");
    s.create()?;
    other.create()?;
    s.put_job("a", &["x"], &["y"]).send()?.accepted(201, 1, true)?;
    other.put_job("b", &["y"], &["x"]).send()?.accepted(201, 1, true)?;
    other.put_job("a", &[], &["y"]).send()?.accepted(201, 2, true)?;
    s.get("").send()?.tells(json!({"version": 1, "jobs": 1}))?;
    Ok(())
}

fn versions_rise_by_one_with_each_accepted_change_and_with_nothing_else(s: &Session<'_>) -> Met {
    s.create()?;
    s.put_job("a", &[], &["x"]).send()?.accepted(201, 1, true)?;
    s.put_job("a", &[], &["x"]).send()?.accepted(200, 1, false)?;
    s.put_job("l", &["s"], &["s"]).send()?;
    s.put_job("b", &[], &["x"]).send()?;
    s.put_job("c", &[], &[]).send()?.accepted(201, 2, true)?;
    s.delete(&job("c")).send()?.accepted(200, 3, true)?;
    s.delete(&job("c")).send()?.problem(404, "job_not_found")?;
    s.get("").send()?.tells(json!({"version": 3}))?;
    Ok(())
}
