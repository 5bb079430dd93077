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
        let answer = answer
            .must(has_all, format_args!("header Allow with GET, PUT, DELETE, not `{allow}`"))?;
        let told = answer.object()?["allowed"].clone();
        let told: Vec<&str> =
            told.as_array().into_iter().flatten().filter_map(|method| method.as_str()).collect();
        let is_same = told.len() == allowed.len() && told.iter().all(|one| allowed.contains(one));
        answer.must(is_same, format_args!("`allowed` with the methods of the header, {allow}"))?;
    }
    Ok(())
}

fn head_is_get_without_a_body(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &[])])?;
    let head = s.head("").send()?.is(200)?;
    let head = head.has("Fencepost-Version", Some("1"))?.has("ETag", Some("\"1\""))?;
    drop(head);
    s.head("").has_no_body()?;
    s.head("/jobs/none").send()?.is(404)?;
    s.head("/jobs/none").has_no_body()?;
    Ok(())
}

fn the_service_says_that_it_lives_and_is_ready(s: &Session<'_>) -> Met {
    s.get_at("/livez").send()?.is(200)?.tells(json!({"status": "live"}))?;
    s.get_at("/readyz").send()?.is(200)?.tells(json!({"status": "ready"}))?;
    Ok(())
}

fn the_service_has_an_openapi_document_of_its_paths(s: &Session<'_>) -> Met {
    const ENDS: [&str; 8] =
        ["", "/digest", "/jobs", "/jobs/{}", "/datasets/{}", "/plans", "/changesets", "/changes"];
    let answer = s.get_at("/openapi.json").send()?.is(200)?;
    let document = answer.object()?;
    let version = document["openapi"].as_str().unwrap_or_default();
    let expected = "`openapi` 3.1 and the paths of graphs";
    if !version.starts_with("3.1") {
        return Err(answer.broken(expected));
    }
    let paths: Vec<String> = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, path)| path.is_object())
        .map(|(name, _)| without_names(name))
        .collect();
    let missing = ENDS.iter().map(|end| format!("/v1/graphs/{{}}{end}"));
    match { missing }.find(|path| !paths.contains(path)) {
        None => Ok(()),
        Some(path) => Err(answer.broken(format_args!("the path {path}, with any names"))),
    }
}

/// A path without what its parameters are called.
fn without_names(path: &str) -> String {
    let segment = |text: &str| match text.starts_with('{') && text.ends_with('}') {
        true => "{}".to_owned(),
        false => text.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}
