//! Servers that are wrong on purpose, each in one thing, and the case that finds it.

use std::thread;

use fencepost::conformance::{Level, cases, run_cases};
use fencepost::design::Design;
use serde_json::{Value, json};

use super::serve;
use crate::support::cluster::{Kind, Site};
use crate::support::faulty::{self, ANYWAY, Asked, Fault, Sound, Told};

/// What is wrong with a server, and the case that must find it.
struct Wrong {
    what: &'static str,
    found_by: &'static str,
    fault: Fault,
}

const fn wrong(what: &'static str, found_by: &'static str, fault: Fault) -> Wrong {
    Wrong { what, found_by, fault }
}

/// So many servers are asked at once.
const AT_ONCE: usize = 6;

/// Each fault breaks the case that is there for it, and without a fault none is broken. Only cases
/// of `level` are run, not those of the levels before.
fn each_is_found(level: Level, table: &[Wrong]) {
    let site = Site::on(Kind::Sqlite);
    let server = serve(&site, <&Design>::default());
    let of_level =
        || -> Vec<_> { cases(level).into_iter().filter(|case| case.level == level).collect() };
    let broken = |fault: Fault| {
        let url = faulty::start(&server.base, fault);
        run_cases(&url, level, of_level(), |_| {}).unwrap().broken()
    };
    assert_eq!(broken(|sound, asked| sound.pass(&asked)), Vec::<&str>::new(), "without a fault");
    for some in table.chunks(AT_ONCE) {
        thread::scope(|scope| {
            for wrong in some {
                scope.spawn(move || {
                    let Wrong { what, found_by, fault } = wrong;
                    let broken = broken(*fault);
                    eprintln!("a server that {what} breaks {} cases: {broken:?}", broken.len());
                    assert!(broken.contains(found_by), "a server that {what} breaks {broken:?}");
                });
            }
        });
    }
}

#[test]
fn each_fault_of_a_core_server_is_found() {
    each_is_found(Level::Core, CORE);
}

#[test]
fn each_fault_of_a_server_that_writes_is_found() {
    each_is_found(Level::Writes, WRITES);
}

#[test]
fn each_fault_of_a_whole_server_is_found() {
    each_is_found(Level::All, ALL);
}

fn is_plan(asked: &Asked) -> bool {
    asked.parts().last().is_some_and(|last| *last == "plan" || *last == "plans")
}

fn is_of_a_job(asked: &Asked, method: &str) -> bool {
    asked.is(method) && asked.parts().first() == Some(&"jobs") && asked.parts().len() == 2
}

/// What is answered, changed if it is about a plan.
fn edit_plans(sound: &Sound, asked: &Asked, edit: fn(&mut Value)) -> Told {
    let told = sound.pass(asked);
    if is_plan(asked) && told.status == 200 { told.edited(edit) } else { told }
}

fn reverse(list: &mut Value) {
    if let Some(items) = list.as_array_mut() {
        items.reverse();
    }
}

/// A refusal as if it had been accepted.
fn accepted(told: Told, problem: &str) -> Told {
    if !told.is_problem(problem) {
        return told;
    }
    let version = told.header("fencepost-version").unwrap_or("0").to_owned();
    let number: u64 = version.parse().unwrap();
    let body = json!({"version": number, "changed": true, "etag": format!("\"{number}\"")});
    Told::made_up(200, Some(&version), &body)
}

const CORE: &[Wrong] = &[
    wrong(
        "tells no version as a header",
        "every_answer_about_a_graph_has_its_version_as_a_header",
        |sound, asked| sound.pass(&asked).without("fencepost-version"),
    ),
    wrong(
        "creates a graph by a write",
        "a_graph_that_is_not_there_answers_404_and_is_not_made_by_a_write",
        |sound, asked| {
            let told = sound.pass(&asked);
            if !(asked.is("PUT") && told.is_problem("graph_not_found")) {
                return told;
            }
            let graph: Vec<&str> = asked.path.split('/').take(4).collect();
            let create = Asked { path: graph.join("/"), body: Vec::new(), ..asked.clone() };
            sound.pass(&create.without("content-type"));
            sound.pass(&asked)
        },
    ),
    wrong(
        "answers 201 to every put of a job",
        "a_put_creates_a_job_with_201_and_replaces_it_with_200",
        |sound, asked| {
            let told = sound.pass(&asked);
            let is = is_of_a_job(&asked, "PUT") && told.status == 200;
            if is { told.with_status(201) } else { told }
        },
    ),
    wrong(
        "keeps the specification that a put leaves out",
        "a_put_creates_a_job_with_201_and_replaces_it_with_200",
        |sound, asked| {
            let read = Asked { method: "GET".to_owned(), body: Vec::new(), ..asked.clone() };
            if !is_of_a_job(&asked, "PUT") {
                return sound.pass(&asked);
            }
            let before = sound.pass(&read.without("content-type")).json().unwrap_or_default();
            sound.pass(&asked.edited(|job| {
                if job["spec"].is_null() && before["spec"].is_object() {
                    job["spec"] = before["spec"].clone();
                }
            }))
        },
    ),
    wrong(
        "lets a cycle through",
        "a_put_that_closes_a_cycle_is_rejected_and_changes_nothing",
        |sound, asked| accepted(sound.pass(&asked), "cycle"),
    ),
    wrong(
        "answers 500 where a rule is broken",
        "a_put_that_closes_a_cycle_is_rejected_and_changes_nothing",
        |sound, asked| {
            let told = sound.pass(&asked);
            if told.is_problem("cycle") { told.with_status(500) } else { told }
        },
    ),
    wrong(
        "tells a cycle from any of its jobs",
        "a_cycle_is_told_from_its_smallest_job_round_to_it_again",
        |sound, asked| {
            sound.pass(&asked).edited(|told| {
                if let Some(cycle) = told["cycle"].as_array_mut() {
                    cycle.pop();
                    cycle.rotate_left(2);
                    cycle.push(cycle[0].clone());
                }
            })
        },
    ),
    wrong(
        "calls a second producer a cycle",
        "a_second_producer_is_rejected_and_changes_nothing",
        |sound, asked| {
            let told = sound.pass(&asked);
            if !told.is_problem("second_producer") {
                return told;
            }
            told.edited(|told| told["type"] = json!("urn:fencepost:problem:cycle"))
        },
    ),
    wrong(
        "says that it changed what was as it is put",
        "a_put_of_what_is_there_changes_nothing_and_keeps_the_version",
        |sound, asked| {
            let told = sound.pass(&asked);
            if !is_of_a_job(&asked, "PUT") || told.status != 200 {
                return told;
            }
            told.edited(|told| told["changed"] = json!(true))
        },
    ),
    wrong(
        "tells the stages of a plan backwards",
        "the_stage_of_a_job_is_its_longest_chain",
        |sound, asked| edit_plans(sound, &asked, |plan| reverse(&mut plan["stages"])),
    ),
    wrong(
        "leaves a job out of a plan",
        "the_plan_of_a_dataset_has_the_jobs_it_needs_and_no_others",
        |sound, asked| {
            edit_plans(sound, &asked, |plan| drop(plan["jobs"].as_array_mut().unwrap().pop()))
        },
    ),
    wrong(
        "takes the outputs of a plan for sources",
        "a_plan_has_stages_dependencies_and_sources_in_byte_order",
        |sound, asked| {
            edit_plans(sound, &asked, |plan| {
                let targets = plan["targets"].as_array().unwrap().clone();
                plan["sources"].as_array_mut().unwrap().extend(targets);
            })
        },
    ),
    wrong(
        "hashes something else for a plan",
        "the_digest_of_a_plan_is_the_hash_of_its_lines",
        |sound, asked| edit_plans(sound, &asked, |plan| plan["digest"] = json!("00")),
    ),
    wrong(
        "plans nothing for what is not there",
        "the_plan_of_a_source_is_empty_and_of_nothing_is_a_404",
        |sound, asked| {
            let told = sound.pass(&asked);
            if !is_plan(&asked) || told.status != 404 {
                return told;
            }
            let empty = json!({"jobs": [], "stages": [], "dependencies": [], "sources": []});
            Told::made_up(200, None, &empty)
        },
    ),
    wrong(
        "gives a job the tag of its graph",
        "a_jobs_version_is_that_of_its_own_last_change",
        |sound, asked| {
            let told = sound.pass(&asked);
            if !is_of_a_job(&asked, "GET") || told.status != 200 {
                return told;
            }
            let tag = format!("\"{}\"", told.header("fencepost-version").unwrap());
            told.with("etag", &tag)
        },
    ),
    wrong(
        "tells the inputs of a job in another order",
        "the_lists_of_a_job_are_in_byte_order_and_hold_each_name_once",
        |sound, asked| {
            let told = sound.pass(&asked);
            let is = is_of_a_job(&asked, "GET");
            if is { told.edited(|job| reverse(&mut job["inputs"])) } else { told }
        },
    ),
    wrong("refuses a version in a body", "a_job_that_was_read_can_be_put_back", |sound, asked| {
        let has_version = asked.json().is_some_and(|body| body.get("version").is_some());
        if is_of_a_job(&asked, "PUT") && has_version {
            let told = json!({"type": "urn:fencepost:problem:malformed", "at": "version"});
            return Told::made_up(400, None, &told);
        }
        sound.pass(&asked)
    }),
    wrong(
        "decodes a path before it is split",
        "any_name_comes_back_byte_for_byte",
        |sound, asked| {
            let path = asked.path.replace("%2F", "/");
            sound.pass(&Asked { path, ..asked })
        },
    ),
    wrong("takes letters apart", "names_are_compared_byte_by_byte", |sound, asked| {
        let path = asked.path.replace("%C3%A9", "e%CC%81");
        sound.pass(&Asked { path, ..asked })
    }),
    wrong(
        "reads numbers as floats",
        "numbers_in_a_specification_keep_their_digits",
        |sound, asked| sound.pass(&asked.edited(|_| {})),
    ),
    wrong(
        "forgets what was declared of a dataset",
        "a_declared_dataset_stays_and_keeps_its_metadata",
        |sound, asked| {
            let is = asked.is("PUT") && asked.parts().first() == Some(&"datasets");
            let asked = if is { asked.edited(|body| body["metadata"] = json!({})) } else { asked };
            sound.pass(&asked)
        },
    ),
    wrong(
        "answers problems as HTML",
        "a_problem_has_a_media_type_a_title_a_status_and_a_detail",
        |sound, asked| {
            let told = sound.pass(&asked);
            if told.status < 400 { told } else { told.with("content-type", "text/html") }
        },
    ),
    wrong(
        "rejects without saying at which version",
        "a_rejection_tells_the_graph_and_the_version_that_it_was_decided_at",
        |sound, asked| {
            let told = sound.pass(&asked);
            if told.status < 400 {
                return told;
            }
            told.edited(|told| drop(told.as_object_mut().unwrap().remove("version")))
        },
    ),
    wrong(
        "takes a body of any media type",
        "a_body_of_another_media_type_is_refused",
        |sound, asked| {
            let has_body = !asked.body.is_empty();
            let asked =
                if has_body { asked.with("content-type", "application/json") } else { asked };
            sound.pass(&asked)
        },
    ),
    wrong(
        "passes over fields that it does not know",
        "a_body_that_is_no_request_is_refused_with_the_place_and_changes_nothing",
        |sound, asked| {
            sound.pass(&asked.edited(|body| {
                if let Some(fields) = body.as_object_mut() {
                    fields.remove("input");
                }
            }))
        },
    ),
];

const WRITES: &[Wrong] = &[
    wrong(
        "does the operations of a changeset one by one",
        "one_refused_operation_refuses_the_whole",
        |sound, asked| {
            let operations = asked.json().unwrap_or_default()["operations"].clone();
            let Some(operations) = operations.as_array().filter(|all| all.len() > 1) else {
                return sound.pass(&asked);
            };
            let mut last = None;
            for operation in operations {
                let one = asked.clone().edited(|body| body["operations"] = json!([operation]));
                let told = sound.pass(&one);
                let is_refused = told.status >= 400;
                last = Some(told);
                if is_refused {
                    break;
                }
            }
            last.unwrap()
        },
    ),
    wrong(
        "passes over If-Match",
        "a_write_of_a_job_with_a_stale_if_match_is_refused",
        |sound, asked| sound.pass(&asked.without("if-match")),
    ),
    wrong(
        "passes over If-Match where many write at once",
        "of_writes_at_once_with_one_if_match_one_is_done",
        |sound, asked| {
            let has_writer = asked.json().is_some_and(|job| !job["spec"]["writer"].is_null());
            sound.pass(&if has_writer { asked.without("if-match") } else { asked })
        },
    ),
    wrong("passes over If-None-Match", "if_none_match_lets_a_write_only_create", |sound, asked| {
        sound.pass(&asked.without("if-none-match"))
    }),
    wrong(
        "reads the first tag of a list only",
        "an_if_match_holds_if_one_of_its_list_does_and_never_by_a_weak_tag",
        |sound, asked| {
            let first = asked.header("if-match").and_then(|tags| tags.split(", ").next());
            let first = first.map(str::to_owned);
            sound.pass(&match first {
                Some(first) => asked.with("if-match", &first),
                None => asked,
            })
        },
    ),
    wrong(
        "passes over Idempotency-Key",
        "the_same_key_gives_the_same_answer_and_writes_once",
        |sound, asked| sound.pass(&asked.without("idempotency-key")),
    ),
    wrong(
        "passes over a key that was used for something else",
        "the_same_key_with_another_method_path_or_body_is_refused",
        |sound, asked| {
            let told = sound.pass(&asked);
            if !told.is_problem("idempotency_key_reused") {
                return told;
            }
            sound.pass(&asked.without("idempotency-key"))
        },
    ),
    wrong(
        "writes what was only to be tried",
        "a_dry_run_says_what_would_be_and_writes_nothing",
        |sound, asked| sound.pass(&asked.without_parameter("dry_run")),
    ),
    wrong("replaces a job by POST", "post_of_a_job_that_is_there_is_refused", |sound, asked| {
        accepted(sound.pass(&asked), "already_exists")
    }),
    wrong(
        "does not say where a new job is",
        "post_creates_a_job_and_says_where_it_is",
        |sound, asked| sound.pass(&asked).without("location"),
    ),
    wrong(
        "adds an edge again",
        "an_edge_that_is_there_is_not_added_again_and_one_that_is_not_is_not_removed",
        |sound, asked| {
            let is_edge = asked.parts().len() == 4;
            let told = sound.pass(&asked);
            if is_edge { accepted(told, "already_exists") } else { told }
        },
    ),
    wrong(
        "removes nothing by a patch",
        "a_merge_patch_changes_what_it_names_and_nothing_else",
        |sound, asked| {
            if !asked.is("PATCH") {
                return sound.pass(&asked);
            }
            sound.pass(&asked.edited(|patch| {
                if let Some(spec) = patch["spec"].as_object_mut() {
                    spec.retain(|_, value| !value.is_null());
                }
                if patch["spec"].is_null() {
                    patch.as_object_mut().unwrap().remove("spec");
                }
            }))
        },
    ),
    wrong("tidies paths", "a_path_is_not_tidied", |sound, asked| {
        let path = asked.path.replace("/jobs/..", "");
        sound.pass(&Asked { path, ..asked })
    }),
    wrong(
        "passes over the preconditions of operations",
        "operations_carry_preconditions",
        |sound, asked| {
            sound.pass(&asked.edited(|body| {
                for operation in body["operations"].as_array_mut().into_iter().flatten() {
                    let operation = operation.as_object_mut().unwrap();
                    operation.retain(|name, _| !name.starts_with("if_"));
                }
                if body["operations"].is_null() {
                    body.as_object_mut().map(|body| body.remove("operations"));
                }
            }))
        },
    ),
    wrong(
        "takes the last of two equal keys",
        "json_with_a_key_twice_is_refused",
        |sound, asked| sound.pass(&asked.edited(|_| {})),
    ),
    wrong(
        "counts operations from 1",
        "a_cycle_that_only_the_whole_changeset_closes_is_rejected_with_its_operation",
        |sound, asked| {
            sound.pass(&asked).edited(|told| {
                if let Some(operation) = told["operation"].as_u64() {
                    told["operation"] = json!(operation + 1);
                } else if let Some(told) = told.as_object_mut() {
                    told.remove("operation");
                }
            })
        },
    ),
    wrong(
        "gives two writes one version",
        "writes_at_once_get_versions_without_gap_or_repeat",
        |sound, asked| {
            sound.pass(&asked).edited(|told| {
                if told["version"].as_u64() == Some(40) {
                    told["version"] = json!(41);
                }
            })
        },
    ),
];

const ALL: &[Wrong] = &[
    wrong(
        "answers 200 in place of 304",
        "a_read_of_what_the_client_has_answers_304",
        |sound, asked| sound.pass(&asked.without("if-none-match")),
    ),
    wrong(
        "cuts pages short",
        "pages_follow_each_other_in_byte_order_without_gap_or_repeat",
        |sound, asked| {
            sound.pass(&asked).edited(|page| {
                if page["next_cursor"].is_string() {
                    page["items"].as_array_mut().map(Vec::pop);
                }
            })
        },
    ),
    wrong(
        "repeats a name on the next page",
        "pages_follow_each_other_in_byte_order_without_gap_or_repeat",
        |sound, asked| {
            let told = sound.pass(&asked);
            if !asked.path.contains("cursor=") {
                return told;
            }
            told.edited(|page| {
                if let Some(items) = page["items"].as_array_mut() {
                    items.insert(0, items[0].clone());
                }
            })
        },
    ),
    wrong("passes over a prefix", "a_prefix_leaves_out_all_other_names", |sound, asked| {
        sound.pass(&asked.without_parameter("prefix"))
    }),
    wrong(
        "gives 1,000 items to who asks for more",
        "a_page_has_100_items_unless_asked_and_1000_at_most",
        |sound, asked| {
            let path = asked.path.replace("limit=1001", "limit=1000");
            sound.pass(&Asked { path, ..asked })
        },
    ),
    wrong(
        "passes over parameters that it does not know",
        "a_parameter_that_is_not_known_or_given_twice_is_refused",
        |sound, asked| sound.pass(&asked.without_parameter("nonsense")),
    ),
    wrong(
        "hashes something else for a graph",
        "the_digest_is_the_hash_of_the_graph",
        |sound, asked| {
            let told = sound.pass(&asked);
            if asked.parts() != ["digest"] {
                return told;
            }
            told.edited(|told| {
                let digest = told["digest"].as_str().unwrap_or_default().chars().rev();
                told["digest"] = json!(digest.collect::<String>());
            })
        },
    ),
    wrong(
        "hashes the version too",
        "the_digest_is_equal_for_equal_graphs_whatever_their_history",
        |sound, asked| {
            let told = sound.pass(&asked);
            if asked.parts() != ["digest"] {
                return told;
            }
            told.edited(|told| {
                let (digest, version) = (told["digest"].clone(), told["version"].clone());
                told["digest"] = json!(format!("{digest}{version}"));
            })
        },
    ),
    wrong("passes over a depth", "depth_counts_jobs", |sound, asked| {
        sound.pass(&asked.without_parameter("depth"))
    }),
    wrong(
        "passes over where a plan is to stop",
        "a_plan_stops_at_the_datasets_that_it_is_told",
        |sound, asked| {
            sound.pass(&asked.edited(|body| {
                if let Some(body) = body.as_object_mut() {
                    body.remove("stop_at");
                }
            }))
        },
    ),
    wrong(
        "loses the order of jobs beyond where a plan stops",
        "jobs_of_a_plan_keep_their_order_through_stop_at",
        |sound, asked| {
            edit_plans(sound, &asked, |plan| {
                let jobs = plan["jobs"].clone();
                plan["stages"] = json!([jobs]);
                plan["dependencies"] = json!([]);
            })
        },
    ),
    wrong("draws nothing", "a_plan_is_drawn_as_accept_asks", |sound, asked| {
        sound.pass(&if is_plan(&asked) { asked.without("accept") } else { asked })
    }),
    wrong(
        "does not wait for a version",
        "a_read_waits_for_the_version_that_is_asked_for",
        |sound, asked| sound.pass(&asked.without_parameter("at_least")),
    ),
    wrong(
        "answers at an earlier version than was asked for",
        "a_version_that_does_not_come_is_told_after_a_while",
        |sound, asked| sound.pass(&asked.without_parameter("at_least")),
    ),
    wrong(
        "leaves a change out of the log",
        "the_change_log_has_every_version_once",
        |sound, asked| {
            let told = sound.pass(&asked);
            let is = asked.parts() == ["changes"];
            if is {
                told.edited(|page| drop(page["items"].as_array_mut().map(Vec::pop)))
            } else {
                told
            }
        },
    ),
    wrong(
        "begins the log at the beginning for everybody",
        "the_change_log_is_read_from_any_version_on",
        |sound, asked| sound.pass(&asked.without_parameter("after")),
    ),
    wrong(
        "hashes something else for a change",
        "the_chain_of_the_change_log_can_be_computed",
        |sound, asked| {
            let told = sound.pass(&asked);
            let text = String::from_utf8_lossy(&told.body);
            let body = text.replace("\"chainhash\":\"", "\"chainhash\":\"0").into_bytes();
            Told { body, ..told }
        },
    ),
    wrong(
        "does not compare the reader's chain",
        "whoever_has_read_what_is_not_there_is_told",
        |sound, asked| sound.pass(&asked.without_parameter("after_chain")),
    ),
    wrong(
        "gives a snapshot that is not of one version",
        "a_snapshot_is_the_graph_at_one_version",
        |sound, asked| {
            let told = sound.pass(&asked);
            if asked.parts() != ["snapshot"] {
                return told;
            }
            let text = String::from_utf8_lossy(&told.body);
            let body = text.replacen("\"graphversion\":3", "\"graphversion\":2", 1).into_bytes();
            Told { body, ..told }
        },
    ),
    wrong(
        "deletes graphs unasked",
        "a_graph_that_holds_something_is_deleted_only_with_if_match",
        |sound, asked| {
            let is_graph = asked.is("DELETE") && asked.parts().is_empty();
            sound.pass(&if is_graph { asked.with("if-match", "*") } else { asked })
        },
    ),
    wrong(
        "begins at version 0 when a graph is created again",
        "a_graph_created_again_is_empty_and_continues_its_versions",
        |sound, asked| {
            let told = sound.pass(&asked);
            let is_graph = asked.is("PUT") && asked.parts().is_empty();
            if is_graph { told.edited(|told| told["version"] = json!(0)) } else { told }
        },
    ),
    wrong("does not know HEAD", "head_is_get_without_a_body", |sound, asked| {
        let told = sound.pass(&asked);
        if asked.is("HEAD") { told.with_status(405) } else { told }
    }),
    wrong(
        "does not say which methods a path has",
        "a_method_that_a_path_does_not_have_is_refused_with_those_it_has",
        |sound, asked| sound.pass(&asked).without("allow"),
    ),
    wrong(
        "tells other methods in the problem than in the header",
        "a_method_that_a_path_does_not_have_is_refused_with_those_it_has",
        |sound, asked| {
            sound.pass(&asked).edited(|told| {
                if told["allowed"].is_array() {
                    told["allowed"] = json!(["GET"]);
                }
            })
        },
    ),
    wrong("answers HEAD with a body", "head_is_get_without_a_body", |sound, asked| {
        let told = sound.pass(&asked);
        let is_head = asked.is("HEAD");
        if is_head { Told { body: b"{}".into(), ..told.with(ANYWAY, "1") } } else { told }
    }),
    wrong("sends a body after 304", "a_read_of_what_the_client_has_answers_304", |sound, asked| {
        let told = sound.pass(&asked);
        let is_known = told.status == 304;
        if is_known { Told { body: b"{}".into(), ..told.with(ANYWAY, "1") } } else { told }
    }),
    wrong(
        "tells chains that are no part of a URL",
        "whoever_has_read_what_is_not_there_is_told",
        |sound, asked| {
            sound.pass(&asked).edited(|told| {
                for item in told["items"].as_array_mut().into_iter().flatten() {
                    item["chainhash"] = json!("sha256 abc");
                }
            })
        },
    ),
];
