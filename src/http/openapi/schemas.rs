//! The schemas of bodies, in requests and answers.

use serde_json::{Map, Value, json};

use crate::event::Kind;
use crate::store::StorageKind;

/// All of them by name.
pub fn all() -> Map<String, Value> {
    let mut schemas = Map::new();
    for part in [values(), jobs(), operations(), answers(), events(), consumers(), service()] {
        let Value::Object(part) = part else { unreachable!("each part is an object") };
        schemas.extend(part);
    }
    schemas
}

fn to(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(of: &str) -> Value {
    json!({"type": "array", "items": to(of)})
}

/// How a graph may be kept.
fn storages() -> String {
    let phrases: Vec<&str> = StorageKind::ALL.into_iter().map(StorageKind::phrase).collect();
    format!("How the graph is kept: {}.", phrases.join("; "))
}

/// An object with these properties and no others.
fn object(what: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object", "description": what, "required": required, "properties": properties,
        "additionalProperties": false,
    })
}

fn with_example(mut schema: Value, example: Value) -> Value {
    schema["examples"] = json!([example]);
    schema
}

fn values() -> Value {
    json!({
        "Name": {
            "type": "string", "minLength": 1, "maxLength": 512,
            "pattern": "^(?!\\.{1,2}$)[^\\u0000-\\u001f\\u007f-\\u009f]+$",
            "description": "1 to 512 bytes of UTF-8 without control characters, not `.` or `..`. \
                            Compared byte by byte.",
            "examples": ["daily/report"],
        },
        "JsonObject": {
            "type": "object",
            "description": "Any JSON object, at most 64 levels deep, no key twice. Numbers keep \
                            their digits.",
            "examples": [{"command": "make report", "retries": 3}],
        },
        "Version": {
            "type": "integer",
            "minimum": 0,
            "description": "A graph's version: grows by one with each accepted change.",
        },
        "Sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "Text": {"type": "string"},
        "NoFields": object("An empty object.", &[], json!({})),
    })
}

fn jobs() -> Value {
    let ignored = |what: &str| json!({"readOnly": true, "description": what});
    json!({
        "Job": with_example(
            object("A job. In requests `name` may be left out where the path gives it.", &[
                "name", "inputs", "outputs", "spec", "version",
            ], json!({
                "name": to("Name"), "inputs": list("Name"), "outputs": list("Name"),
                "spec": to("JsonObject"),
                "version": to("Version"),
            })),
            json!({
                "name": "report",
                "inputs": ["sales"],
                "outputs": ["report"],
                "spec": {"command": "make report"},
                "version": 7,
            }),
        ),
        "JobRequest": with_example(
            object("A job as it is to be. `name` must be that of the path and may be left out \
                    there; `spec` is `{}` when absent.", &["inputs", "outputs"], json!({
                "name": to("Name"), "inputs": list("Name"), "outputs": list("Name"),
                "spec": to("JsonObject"),
                "version": ignored("Ignored, so that what was read can be put."),
            })),
            json!({"inputs": ["sales"], "outputs": ["report"], "spec": {"command": "make report"}}),
        ),
        "NewJob": with_example(
            object("A job that is to be created.", &["name", "inputs", "outputs"], json!({
                "name": to("Name"), "inputs": list("Name"), "outputs": list("Name"),
                "spec": to("JsonObject"),
                "version": ignored("Ignored, so that what was read can be sent."),
            })),
            json!({"name": "report", "inputs": ["sales"], "outputs": ["report"]}),
        ),
        "JobPatch": with_example(
            object("A JSON merge patch (RFC 7396) of a job: lists replace, members of `spec` \
                    merge, `null` removes.", &[], json!({
                "name": to("Name"), "inputs": list("Name"), "outputs": list("Name"),
                "spec": {
                    "type": ["object", "null"],
                    "description": "Merged into what is there; `null`: back to `{}`.",
                },
                "version": ignored("Ignored."),
            })),
            json!({"spec": {"retries": 5, "owner": null}}),
        ),
        "Dataset": with_example(
            object("A dataset, declared by a client or implied by the jobs that mention it.", &[
                "name", "declared", "producer", "consumers", "metadata",
            ], json!({
                "name": to("Name"), "declared": {"type": "boolean"},
                "producer": {
                    "oneOf": [to("Name"), {"type": "null"}],
                    "description": "The one job that writes it.",
                },
                "consumers": {
                    "type": "array",
                    "items": to("Name"),
                    "description": "The jobs that read it.",
                },
                "metadata": to("JsonObject"),
            })),
            json!({
                "name": "sales",
                "declared": true,
                "producer": "load-sales",
                "consumers": ["report"],
                "metadata": {"owner": "finance"},
            }),
        ),
        "DatasetDeclaration": with_example(
            object("What is to be known of a dataset. `metadata` is `{}` when absent.", &[], json!({
                "name": to("Name"), "metadata": to("JsonObject"), "declared": ignored("Ignored."),
                "producer": ignored("Ignored."), "consumers": ignored("Ignored."),
            })),
            json!({"metadata": {"owner": "finance"}}),
        ),
    })
}

/// One schema an operation, told apart by `op`.
fn operations() -> Value {
    let edge = || json!({"job": to("Name"), "dataset": to("Name")});
    let job = || json!({"name": to("Name")});
    let put_job = json!({
        "name": to("Name"), "inputs": list("Name"), "outputs": list("Name"),
        "spec": to("JsonObject"),
        "version": {"readOnly": true, "description": "Ignored."},
    });
    let (of_name, of_edge): (&[&str], &[&str]) = (&["name"], &["job", "dataset"]);
    let kinds: [(&str, &str, &str, &[&str], Value); 9] = [
        (
            "PutJob",
            "put_job",
            "Creates the job or replaces it.",
            &["name", "inputs", "outputs"],
            put_job,
        ),
        (
            "PatchJob",
            "patch_job",
            "Changes a job that exists.",
            &["name", "patch"],
            json!({"name": to("Name"), "patch": to("JobPatch")}),
        ),
        ("DeleteJob", "delete_job", "Deletes a job that exists, and its edges.", of_name, job()),
        (
            "AddInput",
            "add_input",
            "The job reads the dataset from now on. Both exist, the edge does not.",
            of_edge,
            edge(),
        ),
        ("RemoveInput", "remove_input", "The job no longer reads the dataset.", of_edge, edge()),
        (
            "AddOutput",
            "add_output",
            "The job writes the dataset from now on. Both exist, the edge does not.",
            of_edge,
            edge(),
        ),
        ("RemoveOutput", "remove_output", "The job no longer writes the dataset.", of_edge, edge()),
        (
            "PutDataset",
            "put_dataset",
            "Declares the dataset or replaces its metadata.",
            of_name,
            json!({"name": to("Name"), "metadata": to("JsonObject")}),
        ),
        (
            "DeleteDataset",
            "delete_dataset",
            "Takes back a declaration. No job may mention the dataset.",
            of_name,
            job(),
        ),
    ];
    let mut schemas = Map::new();
    let (mut choices, mut mapping) = (Vec::new(), Map::new());
    for (name, op, what, required, mut properties) in kinds {
        properties["op"] = json!({"type": "string", "const": op});
        properties["if_version"] = json!({
            "type": "integer", "minimum": 0,
            "description": "Only if the job has this version; for a dataset: the graph. Excludes \
                            `if_absent`.",
        });
        properties["if_absent"] =
            json!({"type": "boolean", "description": "`true`: only if it is not there."});
        let required = [&["op"], required].concat();
        let mut schema = object(what, &required, properties);
        schema["not"] = json!({
            "required": ["if_version", "if_absent"],
            "properties": {"if_absent": {"const": true}},
        });
        mapping.insert(op.to_owned(), to(name)["$ref"].clone());
        choices.push(to(name));
        schemas.insert(name.to_owned(), schema);
    }
    let discriminator = json!({"propertyName": "op", "mapping": mapping});
    schemas
        .insert("Operation".to_owned(), json!({"oneOf": choices, "discriminator": discriminator}));
    let what = "Existence is judged operation by operation, the rules of the graph on what \
                results. Of several reasons to reject it the first is told: preconditions, \
                existence, `dataset_in_use`, `second_producer`, `cycle`; of one kind that of the \
                smallest operation, then of the byte-smallest dataset.";
    let changeset = object(what, &["operations"], json!({"operations": list("Operation")}));
    let example = json!({"operations": [
        {"op": "put_job", "name": "load-sales", "inputs": [], "outputs": ["sales"]},
        {
            "op": "put_job",
            "name": "report",
            "inputs": ["sales"],
            "outputs": ["report"],
            "spec": {"command": "make report"},
        },
        {"op": "put_dataset", "name": "sales", "metadata": {"owner": "finance"}, "if_absent": true},
    ]});
    schemas.insert("Changeset".to_owned(), with_example(changeset, example));
    Value::Object(schemas)
}

fn answers() -> Value {
    let count = || json!({"type": "integer", "minimum": 0});
    let page = |of: &str| {
        object(
            "A page, in byte order of names.",
            &["items", "next_cursor"],
            json!({
                "items": list(of),
                "next_cursor": {
                    "type": ["string", "null"],
                    "description": "For the next page; null at the end.",
                },
            }),
        )
    };
    json!({
        "Graph": with_example(
            object(
                "A graph's version, counts, state and storage.",
                &[
                    "graph", "version", "jobs", "datasets", "edges", "state", "moved_to", "storage",
                ],
                json!({
                    "graph": to("Name"),
                    "version": to("Version"),
                    "jobs": count(),
                    "datasets": count(),
                    "edges": count(),
                    "state": {
                        "type": "string",
                        "enum": ["open", "frozen"],
                        "description": "Whether the graph takes writes, as it is now: no part of a \
                                        version, and not told of by the ETag.",
                    },
                    "moved_to": {
                        "type": ["string", "null"],
                        "description": "Where a frozen graph went, if that was said.",
                    },
                    "storage": {"type": "string", "description": storages()},
                }),
            ),
            json!({
                "graph": "main", "version": 7, "jobs": 2, "datasets": 2, "edges": 3,
                "state": "open", "moved_to": null, "storage": "rows",
            }),
        ),
        "GraphHead": object(
            "A graph and its version.",
            &["graph", "version"],
            json!({"graph": to("Name"), "version": to("Version")}),
        ),
        "GraphPage": page("GraphHead"),
        "JobPage": page("Job"),
        "DatasetPage": page("Dataset"),
        "Digest": object(
            "A hash over jobs, datasets and edges: equal for equal graphs, whatever their history.",
            &["graph", "version", "digest"],
            json!({"graph": to("Name"), "version": to("Version"), "digest": to("Sha256")}),
        ),
        "Written": with_example(
            object("What came of a write.", &["graph", "version", "changed", "etag"], json!({
                "graph": to("Name"), "version": to("Version"),
                "changed": {
                    "type": "boolean",
                    "description": "Whether it changed anything; if not, there is no new version.",
                },
                "etag": {
                    "type": ["string", "null"],
                    "description": "The ETag, quotes included, that `If-Match` needs in a next \
                        write of the same: of the job, where a job or an edge of it was written; \
                        else of the graph. null: it is gone.",
                },
                "dry_run": {
                    "type": "boolean",
                    "const": true,
                    "description": "Only judged: what it would change.",
                },
            })),
            json!({"graph": "main", "version": 7, "changed": true, "etag": "\"7\""}),
        ),
        "PlanRequest": with_example(
            at_least_one_target(object("What to plan for: at least one dataset or job.", &[],
                json!({
                "datasets": list("Name"), "jobs": list("Name"),
                "stop_at": {
                    "type": "array",
                    "items": to("Name"),
                    "description": "The search for producers ends at these datasets, also where \
                                    one is a target. They bound which jobs the plan holds, not \
                                    their order: a job that the plan needs for another reason and \
                                    that writes one of them still comes before its readers.",
                },
            }))),
            json!({"datasets": ["report"], "stop_at": ["sales"]}),
        ),
        "Plan": plan(),
        "Reachable": with_example(
            object("What is reached, the origin left out, in byte order.", &[
                "jobs", "datasets",
            ], json!({
                "jobs": list("Name"), "datasets": list("Name"),
            })),
            json!({"jobs": ["load-sales"], "datasets": ["sales"]}),
        ),
    })
}

fn at_least_one_target(mut request: Value) -> Value {
    let some = |field: &str| json!({"required": [field], "properties": {field: {"minItems": 1}}});
    request["anyOf"] = json!([some("datasets"), some("jobs")]);
    request
}

fn plan() -> Value {
    let described =
        |what: &str, items: Value| json!({"type": "array", "description": what, "items": items});
    let pair = json!({"type": "array", "items": to("Name"), "minItems": 2, "maxItems": 2});
    let required =
        ["graph", "version", "targets", "jobs", "stages", "dependencies", "sources", "digest"];
    let properties = json!({
        "graph": to("Name"), "version": to("Version"),
        "targets": described(
            "The names of what was planned for, sorted: each dataset once and each job once. A \
             name that both a dataset and a job have is there twice.",
            to("Name"),
        ),
        "jobs": described("The stages laid end to end.", to("Name")),
        "stages": described(
            "Stage k: the jobs whose longest chain of producing jobs inside the plan has length k.",
            list("Name"),
        ),
        "dependencies": described(
            "Every pair [before, after] of plan jobs where the second reads something that the \
             first writes, sorted.",
            pair,
        ),
        "sources": described(
            "Datasets that jobs of the plan read and no job of the plan writes, sorted.",
            to("Name"),
        ),
        "digest": to("Sha256"),
    });
    let example = json!({
        "graph": "main", "version": 7, "targets": ["report"], "jobs": ["load-sales", "report"],
        "stages": [
            ["load-sales"],
            ["report"],
        ], "dependencies": [["load-sales", "report"]], "sources": [],
        "digest": "0f2b43a1c5ee7ac3e1d0a9b8c7d6e5f40312233445566778899aabbccddeeff0",
    });
    with_example(object("The jobs that must run, and their order.", &required, properties), example)
}

fn events() -> Value {
    let text = |what: &str| json!({"type": "string", "description": what});
    let constant = |value: &str| json!({"type": "string", "const": value});
    let required = [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "datacontenttype",
        "sequence",
        "partitionkey",
        "graphversion",
        "ordinal",
        "chainhash",
        "checksum",
        "data",
    ];
    let properties = json!({
        "specversion": constant("1.0"),
        "id": {
            "type": "string",
            "format": "uuid",
            "description": "The same wherever and whenever the event is told.",
        },
        "source": text("The graph's history: `urn:fencepost:graph:` and a UUID."),
        "type": {
            "type": "string",
            "enum": Kind::ALL.map(Kind::word),
            "description": "A change; or, of a snapshot: its beginning, a part of it, its end.",
        },
        "subject": to("Name"),
        "time": {
            "type": "string",
            "format": "date-time",
            "description": "When the version was committed, if that is known.",
        },
        "datacontenttype": constant("application/json"),
        "sequence": text("The version with leading zeros, so that it sorts as text."),
        "partitionkey": to("Name"),
        "graphversion": to("Version"),
        "ordinal": {
            "type": "integer",
            "minimum": 0,
            "description": "Among the events of that version.",
        },
        "chainhash": to("Sha256"),
        "actor": text("Who asked for the change, if they said so."),
        "checksum": text("Over id, time, chainhash and actor: the beginning of their SHA-256."),
        "data": {
            "type": "object",
            "description": "Of a change, canonical JSON: its facts and its version. `chainhash` is \
                            SHA-256 of the one before and these bytes.",
        },
    });
    let example = json!({
        "specversion": "1.0", "id": "0e5f9f0a-9a2c-5a53-b0b4-7f3d2c1a9e88",
        "source": "urn:fencepost:graph:6a1f3b52-8c5e-4d0e-9f57-3d2b1c0a9e77",
            "type": "dev.fencepost.changed.v1", "subject": "main",
        "time": "2026-11-22T09:30:00.000Z", "datacontenttype": "application/json",
            "sequence": "00000000000000000007", "partitionkey": "main",
        "graphversion": 7, "ordinal": 0,
            "chainhash": "0f2b43a1c5ee7ac3e1d0a9b8c7d6e5f40312233445566778899aabbccddeeff0",
        "checksum": "1f0e2d3c4b5a6978", "data": {
            "facts": [{"fact": "job_deleted", "name": "report"}],
            "version": 7,
        },
    });
    json!({
        "CloudEvent": with_example(
            object(
                "An event in the form of CloudEvents 1.0. Its fields stand in this order, and it \
                 has one spelling.",
                &required,
                properties,
            ),
            example,
        ),
        "ChangePage": object(
            "Changes one after another. Large ones make a page shorter than was asked for: there \
             are more as long as `next_after` is below `version`.",
            &["graph", "version", "items", "next_after"],
            json!({
                "graph": to("Name"), "version": to("Version"), "items": list("CloudEvent"),
                "next_after": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "To ask for what comes after this page.",
                },
            }),
        ),
        "EventLines": text("A `CloudEvent` a line. Where the stream cannot be continued, its last \
                            line is a problem instead."),
        "EventStream": text(
            "Server-sent events: `id` is the version, `event` the type, `data` a `CloudEvent`. \
             Comments tell that the connection lives. Where the tail cannot be continued, the last \
             event is `problem`, its data a problem. It ends with the deletion of the graph and \
             with the server."
        ),
    })
}

fn consumers() -> Value {
    let acknowledged = || {
        json!({
            "type": "integer",
            "minimum": 0,
            "description": "The consumer has all changes up to this version.",
        })
    };
    let consumer = object(
        "Who reads the change log.",
        &["name", "acknowledged", "acknowledged_at", "last_seen_at", "expires_at"],
        json!({
            "name": to("Name"), "acknowledged": acknowledged(),
            "acknowledged_at": {
                "type": "string", "format": "date-time",
                "description": "When the consumer reached that version.",
            },
            "last_seen_at": {
                "type": "string", "format": "date-time",
                "description": "When the consumer last reported.",
            },
            "expires_at": {
                "type": ["string", "null"], "format": "date-time",
                "description": "Until when pruning waits for the consumer; null: always.",
            },
        }),
    );
    let example = json!({
        "name": "search-index", "acknowledged": 7,
        "acknowledged_at": "2026-11-22T09:30:00.000Z",
        "last_seen_at": "2026-11-22T09:31:00.000Z", "expires_at": null,
    });
    let noted = json!({
        "graph": to("Name"),
        "version": to("Version"),
        "consumer": to("Name"),
        "acknowledged": acknowledged(),
    });
    let forgotten = json!({"graph": to("Name"), "version": to("Version"), "consumer": to("Name")});
    json!({
        "Consumer": with_example(consumer, example),
        "ConsumerList": object("In byte order of names.", &["graph", "version", "items"], json!({
            "graph": to("Name"), "version": to("Version"), "items": list("Consumer"),
        })),
        "ConsumerRequest": with_example(
            object(
                "How far the consumer is.",
                &["acknowledged"],
                json!({"acknowledged": acknowledged()}),
            ),
            json!({"acknowledged": 7}),
        ),
        "Acknowledged": object(
            "What is noted now: never less than before.",
            &["graph", "version", "consumer", "acknowledged"],
            noted,
        ),
        "Forgotten": object(
            "The consumer is off the list.",
            &["graph", "version", "consumer"],
            forgotten,
        ),
    })
}

fn service() -> Value {
    let status = |text: &str| {
        object("All is well.", &["status"], json!({"status": {"type": "string", "const": text}}))
    };
    json!({
        "Live": status("live"),
        "Ready": status("ready"),
        "OpenApi": {
            "type": "object",
            "description": "An OpenAPI document.",
            "required": ["openapi", "info", "paths"],
        },
    })
}
