//! The OpenAPI 3.1 document, made from the table of routes and the list of problems: what is
//! answered and what is described have one source. Schemas of bodies are in `schemas`, those of
//! problems in `problems`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::problem::Kind;
use super::routes::{Body, Class, ROUTES, Route};

mod problems;
mod schemas;

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        paths
            .entry(route.path)
            .or_default()
            .insert(route.method.to_ascii_lowercase(), operation(route));
    }
    let tag =
        |(name, description): &(&str, &str)| json!({"name": name, "description": description});
    let mut schemas = schemas::all();
    schemas.extend(Kind::ALL.map(|kind| (problems::schema_name(kind), problems::schema(kind))));
    let mut responses = Map::new();
    for kinds in ROUTES
        .iter()
        .flat_map(problems_by_status)
        .chain([vec![Kind::RouteNotFound], vec![Kind::MethodNotAllowed]])
    {
        responses.entry(response_name(&kinds)).or_insert_with(|| problem_response(&kinds));
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Fencepost",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A graph of jobs and the datasets they read and write.",
            "description": DESCRIPTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [],
        "tags": TAGS.iter().map(tag).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": parameters(),
            "headers": headers(),
            "responses": responses,
        },
    })
}

const DESCRIPTION: &str = "Names in paths are percent-encoded, a slash as `%2F`; an empty segment is refused. Whatever is not an answer is a \
    problem, `application/problem+json`: a path that is not here answers `RouteNotFound`, another method `MethodNotAllowed` with the header \
    `Allow`. HEAD is answered wherever GET is. Unknown query parameters and unknown fields are refused; so is \
    a header of this document that is not UTF-8, or that has one value and comes twice. A service \
    that listens on loopback answers only requests whose `Host` is an IP address, `localhost`, or \
    a name that it was started with, and whose `Origin`, if there is one, is its own or one that \
    it was started with.";

const TAGS: [(&str, &str); 7] = [
    (
        "Graphs",
        "Independent graphs, each with a version that grows by one with each accepted change.",
    ),
    ("Changesets", "Several operations at once, accepted whole or rejected whole."),
    ("Jobs", "Jobs, what they read and what they write."),
    ("Datasets", "Datasets, declared or only mentioned by jobs."),
    ("Plans", "In which order jobs must run, and what depends on what."),
    (
        "Change log",
        "How a graph came to be, for those who follow it: events in the form of CloudEvents 1.0.",
    ),
    ("Service", "The service itself."),
];

fn tag(route: &Route) -> &'static str {
    let last = route.path.rsplit('/').next().unwrap_or_default();
    match route.path {
        _ if matches!(last, "plan" | "plans" | "upstream" | "downstream") => "Plans",
        _ if last == "changesets" => "Changesets",
        path if last == "changes" || last == "snapshot" || path.contains("/consumers") => {
            "Change log"
        }
        path if path.contains("/jobs") => "Jobs",
        path if path.contains("/datasets") => "Datasets",
        path if path.starts_with("/v1/graphs") => "Graphs",
        _ => "Service",
    }
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

fn operation(route: &Route) -> Value {
    let in_path =
        route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let names = in_path.chain(route.query.iter().copied()).chain(header_parameters(route));
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "tags": [tag(route)],
        "parameters": names.map(|name| reference("parameters", name)).collect::<Vec<_>>(),
        "responses": responses(route),
    });
    let (schema, required) = match route.body {
        Body::None => return operation,
        Body::Json(schema) | Body::MergePatch(schema) => (schema, true),
        Body::OptionalJson(schema) => (schema, false),
    };
    let content: Map<String, Value> = route
        .body_types()
        .iter()
        .map(|media_type| {
            ((*media_type).to_owned(), json!({"schema": reference("schemas", schema)}))
        })
        .collect();
    operation["requestBody"] = json!({"required": required, "content": content});
    operation
}

/// The request headers that a route looks at.
fn header_parameters(route: &Route) -> Vec<&'static str> {
    let preconditions: &[&str] = match (route.class, route.id) {
        (Class::Service | Class::List | Class::Consumers, _) | (Class::Write, "createJob") => &[],
        (Class::Read, "readChanges") => &["If-None-Match-Read", "Last-Event-ID"],
        (Class::Read, _) => &["If-None-Match-Read"],
        (Class::Write, "deleteGraph" | "applyChangeset") => &["If-Match"],
        (Class::Write, _) => &["If-Match", "If-None-Match-Write"],
    };
    let writes: &[&str] =
        if route.class == Class::Write { &["Idempotency-Key", "Fencepost-Actor"] } else { &[] };
    [preconditions, writes].concat()
}

fn responses(route: &Route) -> Map<String, Value> {
    let mut responses = Map::new();
    let mut headers = Map::new();
    let mut header = |name: &str| headers.insert(name.to_owned(), reference("headers", name));
    match route.class {
        Class::Service | Class::List => {}
        Class::Read => drop((header("Fencepost-Version"), header("ETag"))),
        Class::Write | Class::Consumers => drop(header("Fencepost-Version")),
    }
    if route.class == Class::Write && matches!(route.method, "POST" | "PATCH") {
        header("ETag");
    }
    if route.class == Class::Read && route.media_types.len() > 1 {
        header("Vary");
    }
    if route.id == "createJob" {
        header("Location");
    }
    for &(status, schema) in route.answers {
        let content: Map<String, Value> =
            route.media_types.iter().map(|&media_type| answer(media_type, schema)).collect();
        let description = if status == 201 { "Something was created." } else { "Done." };
        let response = json!({"description": description, "headers": headers, "content": content});
        responses.insert(status.to_string(), response);
    }
    if route.class == Class::Read {
        let response =
            json!({"description": "The client has the answer already.", "headers": headers});
        responses.insert("304".to_owned(), response);
    }
    responses.extend(problems_by_status(route).into_iter().map(|kinds| {
        let status = kinds[0].parts().0;
        (status.to_string(), reference("responses", &response_name(&kinds)))
    }));
    responses
}

/// The problems of a route, those of one status together.
fn problems_by_status(route: &Route) -> Vec<Vec<Kind>> {
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in route.all_problems() {
        by_status.entry(kind.parts().0).or_default().push(kind);
    }
    by_status.into_values().collect()
}

fn response_name(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>().join("Or")
}

fn answer(media_type: &str, schema: &str) -> (String, Value) {
    let schema = match media_type {
        "application/json" => schema,
        "application/x-ndjson" => "EventLines",
        "text/event-stream" => "EventStream",
        _ => "Text",
    };
    (media_type.to_owned(), json!({"schema": reference("schemas", schema)}))
}

/// One status, whichever of `kinds` it may be.
fn problem_response(kinds: &[Kind]) -> Value {
    let references: Vec<Value> =
        kinds.iter().map(|&kind| reference("schemas", &problems::schema_name(kind))).collect();
    let schema = match &references[..] {
        [only] => only.clone(),
        _ => {
            let mapping = kinds
                .iter()
                .zip(&references)
                .map(|(kind, to)| (problems::urn(*kind), to["$ref"].clone()));
            let mapping: Map<String, Value> = mapping.collect();
            json!({"oneOf": references, "discriminator": {"propertyName": "type", "mapping": mapping}})
        }
    };
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.parts().2).collect();
    let mut headers = Map::new();
    let mut header = |name: &str| headers.insert(name.to_owned(), reference("headers", name));
    if kinds.iter().any(|kind| problems::decided_on_a_graph(*kind)) {
        header("Fencepost-Version");
    }
    if kinds[0].parts().0 == 503 {
        header("Retry-After");
    }
    if kinds.contains(&Kind::MethodNotAllowed) {
        header("Allow");
    }
    let content = json!({"application/problem+json": {"schema": schema}});
    json!({"description": format!("{}.", titles.join(", or: ")), "headers": headers, "content": content})
}

fn parameters() -> Value {
    let name = |name: &str, what: &str| json!({"name": name, "in": "path", "required": true, "description": what, "schema": reference("schemas", "Name")});
    let query = |name: &str, what: &str, schema: Value| json!({"name": name, "in": "query", "required": false, "description": what, "schema": schema});
    let header = |name: &str, what: &str, schema: Value| json!({"name": name, "in": "header", "required": false, "description": what, "schema": schema});
    let number = |minimum: u64| json!({"type": "integer", "minimum": minimum, "maximum": i64::MAX});
    let tags = |examples: Value| json!({"type": "string", "minLength": 1, "examples": examples});
    json!({
        "graph": name("graph", "The graph."),
        "job": name("job", "The job."),
        "dataset": name("dataset", "The dataset."),
        "consumer": name("consumer", "What the reader of the log calls itself."),
        "after": query("after", "Changes that made later versions than this one.", json!({"type": "integer", "minimum": 0, "maximum": i64::MAX, "default": 0})),
        "after_chain": query(
            "after_chain",
            "The `chainhash` of the change at `after`, 64 zeros for 0: 412 where the graph's history is another.",
            json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
        ),
        "prefix": query("prefix", "Only names that begin with this.", json!({"type": "string", "default": ""})),
        "cursor": query(
            "cursor",
            "Where the page before ended: its `next_cursor`. It belongs to that list of that graph with that prefix.",
            json!({"type": "string", "minLength": 1}),
        ),
        "limit": query("limit", "Items of a page. A stream of lines ends after so many if it is given; a live tail takes none.", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})),
        "at_least": query(
            "at_least",
            "Waits up to 5 seconds for this version of the graph; then `version_not_reached`.",
            number(0),
        ),
        "depth": query("depth", "So many jobs away at most; without it, everything.", number(0)),
        "dry_run": query(
            "dry_run",
            "Only judge it: answers 200 with what would come of it. Nothing is written, an idempotency key is not looked at.",
            json!({"type": "boolean", "default": false}),
        ),
        "If-Match": header(
            "If-Match",
            "Only if one of these, separated by commas, is the ETag that GET of the same resource \
             gives (for an edge: of the job); `*`: only if it is there. Weak ETags (`W/…`), and \
             such as this service does not give, match nothing.",
            tags(json!(["\"7\"", "\"7\", \"9\"", "*"])),
        ),
        "If-None-Match-Write": header(
            "If-None-Match",
            "Only if it is not there. A list of ETags is refused. Excludes `If-Match`.",
            json!({"type": "string", "const": "*"}),
        ),
        "If-None-Match-Read": header(
            "If-None-Match",
            "ETags, weak ones too, separated by commas: 304 without a body if one of them is \
             current. `*`: if it is there.",
            tags(json!(["\"7\"", "W/\"7\""])),
        ),
        "Last-Event-ID": header(
            "Last-Event-ID",
            "Of a live tail: the version that was seen last, as browsers send it when they connect again. It goes before `after`.",
            number(0),
        ),
        "Idempotency-Key": header(
            "Idempotency-Key",
            "Names this request, so that it can be sent again: an accepted write's answer is kept for a day and given again. \
             Rejections are not kept. A key belongs to a graph. Another method, path or body with the key is refused, \
             also if only the order of an object's members is another; \
             preconditions are not compared, so that a retry may send the ETag that it has read since.",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"}),
        ),
        "Fencepost-Actor": header(
            "Fencepost-Actor",
            "Who asks, for the change log. Taken as it is.",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"}),
        ),
    })
}

fn headers() -> Value {
    let header = |what: &str, schema: Value| json!({"description": what, "schema": schema});
    let number = || json!({"type": "integer", "minimum": 0});
    json!({
        "Fencepost-Version": header("The graph's version that this was computed at.", number()),
        "ETag": header("A job's version; of all else the graph's. A live tail has none.", json!({"type": "string", "examples": ["\"7\""]})),
        "Location": header("Where the job is.", json!({"type": "string", "format": "uri-reference"})),
        "Vary": header("The answer depends on `Accept`.", json!({"type": "string", "const": "Accept"})),
        "Retry-After": header("When to try again, in seconds.", number()),
        "Allow": header("The methods that the path has.", json!({"type": "string", "examples": ["GET, PUT, DELETE, HEAD"]})),
    })
}
