//! Methods, and what the service says of itself.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        All,
        a_method_that_a_path_does_not_have_is_refused_with_those_it_has,
        "A method that a path does not have is 405 method_not_allowed, with `allowed` and the \
         header Allow."
    ),
    case!(All, head_is_get_without_a_body, "HEAD answers status and headers of GET, and no body."),
    case!(
        All,
        the_service_says_that_it_lives_and_is_ready,
        "GET of /livez and /readyz answers 200 with `status`."
    ),
    case!(
        All,
        the_service_has_an_openapi_document_of_its_paths,
        "GET of /openapi.json gives an OpenAPI 3.1 document with the paths of graphs, jobs, \
         datasets, plans, changesets and changes."
    ),
];

fn a_method_that_a_path_does_not_have_is_refused_with_those_it_has(s: &Session<'_>) -> Met {
    s.create()?;
    for request in [s.post("", &json!({})), s.patch(&dataset("d"), &json!({}))] {
        let answer = request.send()?.problem(405, "method_not_allowed")?;
        let allow = answer.header("Allow").unwrap_or_default();
        let allowed: Vec<&str> = allow.split(',').map(str::trim).collect();
        let has_all = ["GET", "PUT", "DELETE"].iter().all(|method| allowed.contains(method));
        answer.must(has_all, format_args!("header Allow with GET, PUT, DELETE, not `{allow}`"))?;
    }
    Ok(())
}

fn head_is_get_without_a_body(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &[])])?;
    let head = s.head("").send()?.is(200)?;
    let head = head.has("Fencepost-Version", Some("1"))?.has("ETag", Some("\"1\""))?;
    let is_empty = head.body.is_empty();
    head.must(is_empty, "no body")?;
    s.head("/jobs/none").send()?.is(404)?;
    Ok(())
}

fn the_service_says_that_it_lives_and_is_ready(s: &Session<'_>) -> Met {
    s.get_at("/livez").send()?.is(200)?.tells(json!({"status": "live"}))?;
    s.get_at("/readyz").send()?.is(200)?.tells(json!({"status": "ready"}))?;
    Ok(())
}

fn the_service_has_an_openapi_document_of_its_paths(s: &Session<'_>) -> Met {
    const ENDS: [&str; 8] = [
        "",
        "/digest",
        "/jobs",
        "/jobs/{job}",
        "/datasets/{dataset}",
        "/plans",
        "/changesets",
        "/changes",
    ];
    let answer = s.get_at("/openapi.json").send()?.is(200)?;
    let document = answer.object()?;
    let version = document["openapi"].as_str().unwrap_or_default();
    let expected = "`openapi` 3.1 and the paths of graphs";
    if !version.starts_with("3.1") {
        return Err(answer.broken(expected));
    }
    let missing = ENDS.iter().find(|end| {
        let path = format!("/v1/graphs/{{graph}}{end}");
        !document["paths"][path.as_str()].is_object()
    });
    match missing {
        None => Ok(()),
        Some(end) => Err(answer.broken(format_args!("the path /v1/graphs/{{graph}}{end}"))),
    }
}
