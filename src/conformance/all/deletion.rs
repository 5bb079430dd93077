//! Deletion of a whole graph.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        All,
        a_graph_that_holds_something_is_deleted_only_with_if_match,
        "DELETE of a graph with jobs needs If-Match: 428 precondition_required without it, 412 \
         with another tag."
    ),
    case!(
        All,
        an_empty_graph_is_deleted_without_if_match,
        "DELETE of a graph that holds nothing needs no precondition."
    ),
    case!(
        All,
        a_deleted_graph_is_gone,
        "Deletion is a change: it makes a version, and from then on the name answers 404."
    ),
    case!(
        All,
        a_graph_created_again_is_empty_and_continues_its_versions,
        "A graph that is created again begins at the version that its deletion made."
    ),
];

fn a_graph_that_holds_something_is_deleted_only_with_if_match(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["x"])])?;
    let before = s.state()?;
    let without = s.delete("").send()?.problem(428, "precondition_required")?;
    without.tells(json!({"actual": 1}))?;
    s.delete("").if_match("\"0\"").send()?.precondition_failed(json!(0), json!(1))?;
    s.is_still(&before, "DELETE of a graph without its tag")?;
    s.delete("").if_match("\"1\"").send()?.is(200)?;
    Ok(())
}

fn an_empty_graph_is_deleted_without_if_match(s: &Session<'_>) -> Met {
    s.create()?;
    s.delete("").send()?.is(200)?;
    s.get("").send()?.problem(404, "graph_not_found")?;
    Ok(())
}

fn a_deleted_graph_is_gone(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["x"])])?;
    s.delete("").if_match("*").send()?.accepted(200, 2, true)?;
    for request in [s.get(""), s.get(&job("a")), s.put_job("a", &[], &[]), s.delete("")] {
        request.send()?.problem(404, "graph_not_found")?;
    }
    Ok(())
}

fn a_graph_created_again_is_empty_and_continues_its_versions(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["x"])])?;
    s.delete("").if_match("*").send()?.is(200)?;
    s.put("").send()?.accepted(201, 2, true)?;
    s.get("").send()?.tells(json!({"version": 2, "jobs": 0, "datasets": 0, "edges": 0}))?;
    s.put_job("a", &[], &["x"]).send()?.accepted(201, 3, true)?;
    Ok(())
}
