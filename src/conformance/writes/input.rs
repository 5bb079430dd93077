//! Names that are none, and JSON that is refused.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Writes,
        a_text_in_a_body_that_is_no_name_is_refused,
        "A name has 1 to 512 bytes without control characters, and is neither . nor ..: 422 \
         invalid_name, `at` the place."
    ),
    case!(
        Writes,
        a_segment_of_a_path_that_is_no_name_is_refused,
        "A name in a path is held to the same rule: 422 invalid_name; a segment that is empty or \
         not UTF-8 is 400 malformed at path."
    ),
    case!(
        Writes,
        a_path_is_not_tidied,
        "A segment .. is no way up: DELETE of the job .. does not delete its graph."
    ),
    case!(
        Writes,
        json_with_a_key_twice_is_refused,
        "A key that stands twice in one JSON object is 400 malformed; none of the two is guessed."
    ),
    case!(
        Writes,
        json_is_taken_to_a_depth_of_64_and_no_deeper,
        "A specification may be nested 64 deep; a deeper one is 400 malformed."
    ),
];

fn a_text_in_a_body_that_is_no_name_is_refused(s: &Session<'_>) -> Met {
    s.create()?;
    let before = s.state()?;
    let (long, longest) = ("n".repeat(513), "n".repeat(512));
    for text in ["", ".", "..", "a\nb", "\0", "\u{7f}", "\u{85}", &long] {
        let answer = s.put_job("b", &["fine", text], &[]).send()?;
        answer.problem(422, "invalid_name")?.tells(json!({"at": "inputs[1]"}))?;
    }
    s.is_still(&before, "a job with a text that is no name")?;
    s.put_job("b", &["fine", &longest], &[]).send()?.is(201)?;
    Ok(())
}

fn a_segment_of_a_path_that_is_no_name_is_refused(s: &Session<'_>) -> Met {
    s.create()?;
    let before = s.state()?;
    let long = "x".repeat(513);
    for segment in ["%00", "a%0Ab", "%C2%85", &long] {
        let put = s.put(&format!("/datasets/{segment}")).send()?.problem(422, "invalid_name")?;
        put.tells(json!({"at": "dataset"}))?;
        let delete = s.delete(&format!("/jobs/{segment}")).send()?.problem(422, "invalid_name")?;
        delete.tells(json!({"at": "job"}))?;
    }
    for path in ["/jobs/", "/jobs//a", "/jobs/%FF"] {
        s.get(path).send()?.malformed("path")?;
    }
    s.is_still(&before, "a path with a segment that is no name")
}

fn a_path_is_not_tidied(s: &Session<'_>) -> Met {
    s.create()?;
    let before = s.state()?;
    for segment in ["..", "%2e%2E", ".", "%2e"] {
        s.delete(&format!("/jobs/{segment}")).send()?.problem(422, "invalid_name")?;
    }
    s.put(&dataset("..")).send()?.problem(422, "invalid_name")?;
    s.is_still(&before, "a path with a segment of dots")
}

fn json_with_a_key_twice_is_refused(s: &Session<'_>) -> Met {
    s.create()?;
    let before = s.state()?;
    let put = s.put(&job("b"));
    let twice = r#"{"inputs":[],"inputs":["z"],"outputs":[]}"#;
    put.clone().text(twice).send()?.malformed("body")?;
    let twice = r#"{"inputs":[],"outputs":[],"spec":{"k":1,"k":1}}"#;
    put.text(twice).send()?.malformed("spec")?;
    s.is_still(&before, "JSON with a key twice")
}

fn json_is_taken_to_a_depth_of_64_and_no_deeper(s: &Session<'_>) -> Met {
    s.create()?;
    let nested = |depth: usize| {
        let lists = depth - 1;
        let spec = format!(r#"{{"k":{}{}}}"#, "[".repeat(lists), "]".repeat(lists));
        s.put(&job("b")).text(&format!(r#"{{"inputs":[],"outputs":[],"spec":{spec}}}"#)).send()
    };
    nested(65)?.malformed("spec")?;
    nested(64)?.is(201)?;
    Ok(())
}
