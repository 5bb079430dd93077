//! Single edges between jobs and datasets.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Writes,
        an_edge_is_added_with_201_and_removed_with_200,
        "PUT and DELETE of an input or an output of a job change just that edge."
    ),
    case!(
        Writes,
        an_edge_that_is_there_is_not_added_again_and_one_that_is_not_is_not_removed,
        "PUT of an edge that is there is 409 already_exists, DELETE of one that is not 404 \
         edge_not_found."
    ),
    case!(
        Writes,
        an_edge_needs_both_its_ends,
        "An edge creates neither its job nor its dataset: 404 job_not_found or dataset_not_found."
    ),
    case!(
        Writes,
        an_added_edge_may_not_break_a_rule,
        "An edge that closes a cycle or makes a second producer is rejected as a job would be."
    ),
];

const SIDES: [&str; 2] = ["inputs", "outputs"];

fn edge(of: &str, side: &str, to: &str) -> String {
    format!("{}/{side}/{to}", job(of))
}

/// A job `a`, and a dataset `d` that it does not mention.
fn apart(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &[])])?;
    s.put(&dataset("d")).send()?.is(201).map(drop)
}

fn an_edge_is_added_with_201_and_removed_with_200(s: &Session<'_>) -> Met {
    apart(s)?;
    let mut version = 2;
    for side in SIDES {
        let added = s.put(&edge("a", side, "d")).send()?;
        added.accepted(201, version + 1, true)?;
        let read = s.get(&job("a")).send()?.is(200)?;
        let has_it = read.object()?[side].as_array().is_some_and(|list| list.contains(&json!("d")));
        read.must(has_it, format_args!("`d` among `{side}`"))?;
        s.delete(&edge("a", side, "d")).send()?.accepted(200, version + 2, true)?;
        version += 2;
    }
    s.get(&job("a")).send()?.tells(json!({"inputs": ["x"], "outputs": []}))?;
    Ok(())
}

fn an_edge_that_is_there_is_not_added_again_and_one_that_is_not_is_not_removed(
    s: &Session<'_>,
) -> Met {
    apart(s)?;
    for side in SIDES {
        let removed = s.delete(&edge("a", side, "d")).send()?.problem(404, "edge_not_found")?;
        removed.tells(json!({"name": "d", "job": "a"}))?;
        s.put(&edge("a", side, "d")).send()?.is(201)?;
        let again = s.put(&edge("a", side, "d")).send()?.problem(409, "already_exists")?;
        again.tells(json!({"name": "d", "jobs": ["a"]}))?;
        s.delete(&edge("a", side, "d")).send()?.is(200)?;
    }
    Ok(())
}

fn an_edge_needs_both_its_ends(s: &Session<'_>) -> Met {
    apart(s)?;
    let before = s.state()?;
    for side in SIDES {
        let of_none = s.put(&edge("none", side, "d")).send()?.problem(404, "job_not_found")?;
        of_none.tells(json!({"name": "none"}))?;
        let to_none = s.put(&edge("a", side, "none")).send()?.problem(404, "dataset_not_found")?;
        to_none.tells(json!({"name": "none"}))?;
    }
    s.is_still(&before, "an edge without one of its ends")
}

fn an_added_edge_may_not_break_a_rule(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"]), ("b", &["y"], &["z"])])?;
    let before = s.state()?;
    let cycle = s.put(&edge("a", "inputs", "z")).send()?.problem(409, "cycle")?;
    cycle.tells(json!({"cycle": ["a", "y", "b", "z", "a"]}))?;
    let second = s.put(&edge("b", "outputs", "y")).send()?.problem(409, "second_producer")?;
    second.tells(json!({"dataset": "y", "producer": "a", "job": "b"}))?;
    s.is_still(&before, "an edge that breaks a rule")
}
