//! What all answers have in common: the version as a header, tags, problems.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Ask, Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Core,
        every_answer_about_a_graph_has_its_version_as_a_header,
        "Fencepost-Version is the version that an answer was computed at, on writes, reads and \
         rejections alike."
    ),
    case!(
        Core,
        a_rejection_tells_the_graph_and_the_version_that_it_was_decided_at,
        "A problem that was decided on a graph has `graph` and `version`."
    ),
    case!(
        Core,
        a_read_has_a_tag_and_a_write_tells_the_next_one,
        "ETag of a graph is its version; the body of a write has `graph` and `etag`, which is \
         null after a deletion."
    ),
    case!(
        Core,
        a_problem_has_a_media_type_a_title_a_status_and_a_detail,
        "Every refusal is application/problem+json with `type`, `title`, `status` and `detail`, \
         on paths that do not exist too."
    ),
    case!(
        Core,
        a_job_or_dataset_that_is_not_there_answers_404_with_its_name,
        "What is not there answers 404 job_not_found or dataset_not_found, with its name."
    ),
    case!(
        Core,
        a_body_that_is_no_request_is_refused_with_the_place_and_changes_nothing,
        "A body that is no JSON object with just the fields of the call is 400 malformed, `at` \
         the place; nothing is guessed."
    ),
    case!(
        Core,
        a_body_of_another_media_type_is_refused,
        "A body that is not declared as JSON is 415 unsupported_media_type."
    ),
];

fn every_answer_about_a_graph_has_its_version_as_a_header(s: &Session<'_>) -> Met {
    s.put("").send()?.has("Fencepost-Version", Some("0"))?;
    s.put_job("a", &["x"], &["y"]).send()?.has("Fencepost-Version", Some("1"))?;
    s.put_job("b", &["y"], &[]).send()?.has("Fencepost-Version", Some("2"))?;
    let at_2 = [
        s.put_job("b", &["y"], &[]),
        s.put_job("b", &["y"], &["y"]),
        s.put_job("b", &[], &["y"]),
        s.delete(&job("none")),
        s.get(""),
        s.get(&job("a")),
        s.get(&job("none")),
        s.get(&dataset("x")),
        s.get(&dataset("none")),
        s.get(&format!("{}/plan", dataset("y"))),
    ];
    for request in at_2 {
        request.send()?.has("Fencepost-Version", Some("2"))?;
    }
    Ok(())
}

fn a_rejection_tells_the_graph_and_the_version_that_it_was_decided_at(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let rejected = [
        s.put_job("b", &["y"], &["y"]),
        s.put_job("b", &["y"], &["x"]),
        s.get(&job("none")),
        s.get(&dataset("none")),
        s.delete(&job("none")),
    ];
    for request in rejected {
        let answer = request.send()?.one_of(&[404, 409])?;
        answer.tells(json!({"graph": s.graph(), "version": 1}))?;
    }
    Ok(())
}

fn a_read_has_a_tag_and_a_write_tells_the_next_one(s: &Session<'_>) -> Met {
    let next = |tag: &str| json!({"graph": s.graph(), "etag": tag});
    s.put("").send()?.tells(next("\"0\""))?;
    s.put_job("a", &[], &[]).send()?.tells(next("\"1\""))?;
    s.put(&dataset("d")).send()?.tells(next("\"2\""))?;
    s.put_job("a", &[], &[]).send()?.tells(next("\"1\""))?;
    s.get("").send()?.has("ETag", Some("\"2\""))?;
    s.get(&dataset("d")).send()?.has("ETag", Some("\"2\""))?;
    s.delete(&job("a")).send()?.tells(json!({"graph": s.graph(), "etag": null}))?;
    Ok(())
}

fn a_problem_has_a_media_type_a_title_a_status_and_a_detail(s: &Session<'_>) -> Met {
    s.create()?;
    let requests: [(Ask<'_>, u16); 4] = [
        (s.put_job("b", &["y"], &["y"]), 409),
        (s.get(&job("none")), 404),
        (s.put(&job("a")).text("nonsense"), 400),
        (s.get_at("/v1/nothing"), 404),
    ];
    for (request, status) in requests {
        let answer = request.send()?.is(status)?.has_media_type("application/problem+json")?;
        let told = answer.object()?;
        let is_text = |name: &str| told[name].as_str().is_some_and(|text| !text.is_empty());
        let is_whole = ["type", "title", "detail"].into_iter().all(is_text);
        let answer = answer.must(is_whole, "texts `type`, `title` and `detail`")?;
        answer.tells(json!({"status": status}))?;
    }
    s.get_at("/v1/nothing").send()?.problem(404, "route_not_found")?;
    Ok(())
}

fn a_job_or_dataset_that_is_not_there_answers_404_with_its_name(s: &Session<'_>) -> Met {
    s.create()?;
    let named = json!({"name": "none"});
    s.get(&job("none")).send()?.problem(404, "job_not_found")?.tells(named.clone())?;
    s.get(&dataset("none")).send()?.problem(404, "dataset_not_found")?.tells(named.clone())?;
    s.delete(&job("none")).send()?.problem(404, "job_not_found")?.tells(named)?;
    Ok(())
}

fn a_body_that_is_no_request_is_refused_with_the_place_and_changes_nothing(s: &Session<'_>) -> Met {
    s.create()?;
    let before = s.state()?;
    for (body, at) in [
        ("nonsense", "body"),
        ("[]", "body"),
        (r#"{"outputs":[]}"#, "inputs"),
        (r#"{"inputs":[],"outputs":[],"input":[]}"#, "body"),
        (r#"{"name":"c","inputs":[],"outputs":[]}"#, "name"),
        (r#"{"inputs":[],"outputs":[],"spec":[]}"#, "spec"),
    ] {
        s.put(&job("b")).text(body).send()?.malformed(at)?;
        s.is_still(&before, "a body that is no request")?;
    }
    Ok(())
}

fn a_body_of_another_media_type_is_refused(s: &Session<'_>) -> Met {
    s.create()?;
    let before = s.state()?;
    let request = s.put(&job("b")).body("text/plain", r#"{"inputs":[],"outputs":[]}"#);
    request.send()?.problem(415, "unsupported_media_type")?;
    s.is_still(&before, "a body of another media type")
}
