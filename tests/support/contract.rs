//! Holds answers against the OpenAPI document: the status is documented for the route, the media
//! type and the headers too, and a JSON body fits its schema. Knows of JSON Schema only what the
//! document uses; a keyword beyond that is an error.

use std::sync::LazyLock;

use fencepost::http::ROUTES;
use percent_encoding::percent_decode;
use serde_json::Value;

use super::server::Answer;

pub static DOCUMENT: LazyLock<Value> = LazyLock::new(fencepost::http::openapi::document);

/// Panics if a route's answer is not as documented.
pub fn check(method: &str, raw_path: &[u8], answer: &Answer) {
    let path = raw_path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let segments: Vec<String> = path
        .strip_prefix(b"/")
        .unwrap_or(path)
        .split(|byte| *byte == b'/')
        .map(|segment| percent_decode(segment).decode_utf8_lossy().into_owned())
        .collect();
    let routed = if method == "HEAD" { "GET" } else { method };
    let Some(route) =
        ROUTES.iter().find(|route| route.method == routed && route.matches(&segments).is_some())
    else {
        // 415: a form that names another method, which Rocket takes for the request's own.
        assert!(
            [400, 403, 404, 405, 415].contains(&answer.status),
            "{method} {segments:?} is no route, and answered {answer:?}"
        );
        return;
    };
    let place = format!("{method} {} -> {}", route.path, answer.status);
    let operation = &DOCUMENT["paths"][route.path][route.method.to_ascii_lowercase()];
    let response = follow(&operation["responses"][answer.status.to_string()]);
    assert!(response.is_object(), "{place} is not documented: {answer:?}");
    let media_type =
        answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let documented = response["headers"].as_object().cloned().unwrap_or_default();
    for header in ["Fencepost-Version", "ETag", "Location", "Vary", "Retry-After", "Allow"] {
        let given = answer.header(header);
        // Of what does not end there is no version that a client could have.
        if header == "ETag" && media_type == "text/event-stream" {
            continue;
        }
        assert!(
            given.is_none() || documented.contains_key(header),
            "{place}: {header} is not documented"
        );
        // Only problems may leave one out: not each is decided on a graph.
        assert!(
            given.is_some() || !documented.contains_key(header) || answer.status >= 400,
            "{place}: {header} is missing"
        );
    }
    if method == "HEAD" || answer.status == 304 {
        assert!(answer.body.is_empty(), "{place} has a body");
        return;
    }
    let content = &response["content"][media_type];
    assert!(content.is_object(), "{place}: the media type `{media_type}` is not documented");
    let is_json = media_type == "application/json" || media_type.ends_with("+json");
    let value = if is_json { answer.json() } else { Value::String(answer.text()) };
    if let Err(error) = validate(&content["schema"], &value, "") {
        panic!("{place}: {error}: {value}");
    }
    if media_type == "application/x-ndjson" {
        check_lines(&place, &answer.text());
    }
}

/// Every line is an event, but for the last, which may be a problem.
fn check_lines(place: &str, text: &str) {
    assert!(text.is_empty() || text.ends_with('\n'), "{place}: the last line has no end");
    let schema = |name: &str| &DOCUMENT["components"]["schemas"][name];
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (i, line) in lines.iter().enumerate() {
        let is_problem =
            line["type"].as_str().is_some_and(|kind| kind.starts_with("urn:fencepost:problem:"));
        if !(is_problem && i + 1 == lines.len()) {
            validate(schema("CloudEvent"), line, "")
                .unwrap_or_else(|error| panic!("{place}: line {i}: {error}"));
        }
    }
}

/// What a `$ref` leads to.
pub fn follow(node: &'static Value) -> &'static Value {
    match node["$ref"].as_str() {
        None => node,
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("references stay inside the document");
            DOCUMENT.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
        }
    }
}

/// Whether `value` fits `schema`; if not, where and why.
pub fn validate(schema: &'static Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = follow(schema);
    let object = schema.as_object().ok_or_else(|| format!("{at}: no schema"))?;
    let fail = |what: String| Err(format!("{at}: {what}, not {value}"));
    for (keyword, rule) in object {
        let fits = match keyword.as_str() {
            "type" => {
                let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                types.iter().any(|one| is_a(one.as_str().unwrap(), value))
            }
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().unwrap()),
            "minLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
            "maxLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
            "minItems" => {
                value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap())
            }
            "maxItems" => {
                value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap())
            }
            "pattern" => match (rule.as_str().unwrap(), value.as_str()) {
                (_, None) => true,
                ("^[0-9a-f]{64}$", Some(text)) => {
                    text.len() == 64
                        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                }
                (_, Some(text)) => fencepost::graph::Name::new(text).is_ok(),
            },
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(rule, item, &format!("{at}[{i}]"))?;
                }
                true
            }
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        validate(schema, member, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(*rule, Value::Bool(false));
                let known = &schema["properties"];
                value
                    .as_object()
                    .is_none_or(|members| members.keys().all(|name| known.get(name).is_some()))
            }
            "oneOf" => {
                let fits = rule.as_array().unwrap().iter().map(|one| validate(one, value, at));
                let (good, bad): (Vec<_>, Vec<_>) = fits.partition(Result::is_ok);
                match good.len() {
                    1 => true,
                    0 => return fail(format!("fits none of {bad:?}")),
                    _ => false,
                }
            }
            "anyOf" => rule.as_array().unwrap().iter().any(|one| validate(one, value, at).is_ok()),
            "not" => validate(rule, value, at).is_err(),
            "description" | "examples" | "discriminator" | "readOnly" | "format" | "default" => {
                true
            }
            unknown => panic!("{at}: the validator does not know `{unknown}`"),
        };
        if !fits {
            return fail(format!("{keyword} {rule}"));
        }
    }
    Ok(())
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        unknown => panic!("the validator does not know the type `{unknown}`"),
    }
}
