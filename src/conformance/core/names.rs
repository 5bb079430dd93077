//! Names and numbers, which come back as they were sent.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;
use crate::object::objects_only;

pub const CASES: &[Case] = &[
    case!(
        Core,
        any_name_comes_back_byte_for_byte,
        "A name in a path is split at slashes first and decoded then; slashes, spaces, quotes, \
         percent signs and letters of any script are ordinary."
    ),
    case!(
        Core,
        names_are_compared_byte_by_byte,
        "Names that look alike and differ in bytes are different names; job names and dataset \
         names are apart."
    ),
    case!(
        Core,
        numbers_in_a_specification_keep_their_digits,
        "Numbers in a specification come back with the digits they came with, and differ if \
         their digits do."
    ),
];

fn any_name_comes_back_byte_for_byte(s: &Session<'_>) -> Met {
    s.create()?;
    let long = "ß".repeat(256);
    let names = [
        "a/b",
        "a%2Fb",
        "日本",
        "jobs",
        "s3://b/k?x=1#y",
        " ",
        "\"",
        "plan",
        "a+b",
        "...",
        "\\",
        "{job}",
        "a.b/../c",
        &long,
    ];
    for name in names {
        s.put_job(name, &[name], &["out"]).send()?.is(201)?;
        s.get(&job(name)).send()?.is(200)?.tells(json!({"name": name, "inputs": [name]}))?;
        let read = s.get(&dataset(name)).send()?.is(200)?;
        read.tells(json!({"name": name, "consumers": [name]}))?;
        s.delete(&job(name)).send()?.is(200)?;
    }
    Ok(())
}

fn names_are_compared_byte_by_byte(s: &Session<'_>) -> Met {
    s.create()?;
    for name in ["é", "e\u{301}", "E", "e"] {
        s.put_job(name, &[], &[]).send()?.is(201)?;
    }
    s.put_job("out", &[], &["e"]).send()?.is(201)?;
    s.get("").send()?.tells(json!({"jobs": 5, "datasets": 1}))?;
    Ok(())
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Job {
    spec: Box<RawValue>,
}

objects_only!(Job);

fn numbers_in_a_specification_keep_their_digits(s: &Session<'_>) -> Met {
    s.create()?;
    let sent = r#"{"a":1.0,"b":1E5,"c":12345678901234567890123,"d":-0,"e":0.1e-7}"#;
    let put = |spec: &str| {
        s.put(&job("a")).text(&format!(r#"{{"inputs":[],"outputs":[],"spec":{spec}}}"#)).send()
    };
    put(sent)?.accepted(201, 1, true)?;
    let read = s.get(&job("a")).send()?.is(200)?;
    let told: Option<Job> = serde_json::from_slice(&read.body).ok();
    let told = told.map(|job| job.spec.get().replace([' ', '\n', '\t', '\r'], ""));
    read.must(told.as_deref() == Some(sent), format_args!("`spec` to be {sent}"))?;
    put(&sent.replace("1.0,", "1.00,"))?.accepted(200, 2, true)?;
    Ok(())
}
