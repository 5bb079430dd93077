//! The schema of each problem: what it says beside its type, title, status and detail.

use serde_json::{Map, Value, json};

use crate::http::problem::Kind;

/// A member of a problem, its schema, and whether it is always there.
type Member = (&'static str, Value, bool);

/// Such as `SecondProducerProblem`.
pub fn schema_name(kind: Kind) -> String {
    format!("{kind:?}Problem")
}

/// Its `type`.
pub fn urn(kind: Kind) -> String {
    format!("urn:fencepost:problem:{}", kind.parts().1)
}

/// Whether it may tell the graph and the version that it was decided at.
pub fn decided_on_a_graph(kind: Kind) -> bool {
    members(kind).iter().any(|(name, ..)| *name == "version")
}

/// Its schema.
pub fn schema(kind: Kind) -> Value {
    let (status, _, title) = kind.parts();
    let mut properties = Map::new();
    let mut required = vec!["type", "title", "status", "detail"];
    properties.insert("type".to_owned(), json!({"type": "string", "const": urn(kind)}));
    properties.insert("title".to_owned(), json!({"type": "string", "const": title}));
    properties.insert("status".to_owned(), json!({"type": "integer", "const": status}));
    let detail = json!({"type": "string", "description": "What is wrong here, and what to do."});
    properties.insert("detail".to_owned(), detail);
    let outcome = (status >= 500).then(|| ("outcome", outcome(kind), true));
    for (name, schema, always) in members(kind).into_iter().chain(outcome) {
        properties.insert(name.to_owned(), schema);
        if always {
            required.push(name);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn outcome(kind: Kind) -> Value {
    let outcomes = match kind {
        Kind::OutcomeUnknown => json!(["unknown"]),
        Kind::Internal => json!(["not_applied", "unknown"]),
        _ => json!(["not_applied"]),
    };
    json!({
        "type": "string",
        "enum": outcomes,
        "description": "Whether a write may have been applied.",
    })
}

fn members(kind: Kind) -> Vec<Member> {
    let name = || json!({"$ref": "#/components/schemas/Name"});
    let names = || json!({"type": "array", "items": {"$ref": "#/components/schemas/Name"}});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let number = || json!({"type": "integer", "minimum": 0});
    let or_null = || json!({"type": ["integer", "null"], "minimum": 0});
    let at = || {
        json!({
            "type": "string",
            "description": "Where: a header, a parameter, a path into the body.",
        })
    };
    let storage = || json!({"type": "string", "description": "How the graph is kept."});
    let operation = || {
        json!({
            "type": "integer",
            "minimum": 0,
            "description": "The operation's index in the changeset.",
        })
    };
    let operation_that = |what: &str| {
        let what = format!("The index in the changeset of {what}");
        json!({"type": "integer", "minimum": 0, "description": what})
    };
    let name_of = |what: &str| json!({"$ref": "#/components/schemas/Name", "description": what});
    let decided = |always| [("graph", name(), always), ("version", number(), always)];
    let decided_in = |mut members: Vec<Member>| {
        members.extend(decided(true));
        members
    };
    let decided_or_not = |mut members: Vec<Member>| {
        members.extend(decided(false));
        members
    };
    match kind {
        Kind::Malformed => {
            let place = |what: &str| json!({"type": "integer", "minimum": 0, "description": what});
            vec![
                ("at", at(), true),
                ("line", place("In the body, from 1."), false),
                ("column", place("In the line, in bytes."), false),
            ]
        }
        Kind::GraphNotFound => decided_or_not(vec![("name", name(), true)]),
        Kind::JobNotFound | Kind::DatasetNotFound => {
            decided_in(vec![("name", name(), true), ("operation", operation(), false)])
        }
        Kind::EdgeNotFound => decided_in(vec![
            ("name", name(), true),
            ("job", name(), true),
            ("operation", operation(), true),
        ]),
        Kind::ConsumerNotFound => decided_in(vec![("name", name(), true)]),
        Kind::RouteNotFound => vec![("name", json!({"type": "string"}), true)],
        Kind::MethodNotAllowed => vec![("allowed", texts(), true)],
        Kind::NotAcceptable => vec![("available", texts(), true)],
        Kind::UnsupportedMediaType => vec![("supported", texts(), true)],
        Kind::AlreadyExists => decided_in(vec![
            ("name", name(), true),
            ("jobs", names(), false),
            ("operation", operation(), false),
        ]),
        Kind::Contended => {
            let leader = json!({
                "type": "string",
                "description": "Where another node is reached that leads the graph, if this one cannot pass the write on: ask there.",
            });
            vec![("leader", leader, false)]
        }
        Kind::Cycle => {
            let what = "Of the cycles that `operation` closes the one with the fewest jobs; of \
                        several the smallest, compared name by name. Jobs and datasets in turn, \
                        from the byte-smallest job; the first name again at the end.";
            let cycle =
                json!({"type": "array", "items": name(), "minItems": 3, "description": what});
            let closing = "the first operation whose edges form a cycle with those of operations \
                           before it and those that no operation added. An edge belongs to the \
                           last operation before which it was absent and after which it was \
                           present.";
            decided_in(vec![("cycle", cycle, true), ("operation", operation_that(closing), true)])
        }
        Kind::SecondProducer => {
            let producer = "The job that wrote the dataset before the changeset and writes it \
                            after; without one, the first job that got it.";
            let job = "The next job that got it.";
            let adding = "the operation by which `job` got the dataset. Of several datasets with \
                          two producers, the one of the smallest operation is told, then the \
                          byte-smallest.";
            decided_in(vec![
                ("dataset", name(), true),
                ("producer", name_of(producer), true),
                ("job", name_of(job), true),
                ("operation", operation_that(adding), true),
            ])
        }
        Kind::DatasetInUse => {
            let deleting = "the first operation that deleted the dataset since it was last put. Of \
                            several datasets in use, the one of the smallest operation is told, \
                            then the byte-smallest.";
            decided_in(vec![
                ("name", name(), true),
                ("jobs", names(), true),
                ("operation", operation_that(deleting), true),
            ])
        }
        Kind::Frozen => {
            vec![("graph", name(), true), ("moved_to", json!({"type": ["string", "null"]}), true)]
        }
        Kind::StorageMismatch => {
            let what = "The designs of this node, separated by commas.";
            vec![
                ("graph", name(), true),
                ("storage", storage(), true),
                ("design", json!({"type": "string", "description": what}), true),
            ]
        }
        Kind::Pruned => {
            let what = "The oldest change that the log still has; where it has none, the next one.";
            let oldest = json!({"type": "integer", "minimum": 1, "description": what});
            decided_or_not(vec![("oldest", oldest, true)])
        }
        Kind::PreconditionFailed => decided_in(vec![
            (
                "expected",
                json!({
                    "anyOf": [
                        {"type": "integer", "minimum": 0},
                        {"type": "array", "items": {"type": "integer", "minimum": 0}},
                        {"type": "null"},
                        {"const": "*"},
                    ],
                    "description": "The version asked for; a list: one of these, where tags that \
                        stand for no version are left out; null: that it be absent; `*`: that it \
                        be there.",
                }),
                true,
            ),
            ("actual", or_null(), true),
            ("operation", operation(), false),
        ]),
        Kind::PreconditionRequired => decided_in(vec![(
            "actual",
            json!({
                "type": "integer", "minimum": 0,
                "description": "The graph's version: in quotes, its ETag.",
            }),
            true,
        )]),
        Kind::TooLarge => decided_or_not(vec![("limit", number(), true)]),
        Kind::InvalidName => vec![("at", at(), true)],
        Kind::VersionNotReached => decided_in(vec![]),
        Kind::Forbidden
        | Kind::IdempotencyKeyReused
        | Kind::Internal
        | Kind::LockUnavailable
        | Kind::DatabaseUnavailable
        | Kind::OutcomeUnknown => vec![],
    }
}
