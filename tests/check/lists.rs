//! Lists in pages.

use fencepost::check::Kind;
use serde_json::{Value, json};

use super::script::*;

fn job(name: &str, version: u64) -> Value {
    json!({"name": name, "inputs": [], "outputs": [], "spec": {}, "version": version})
}

/// Jobs `a`, `b1` and `b2`, then a page of them.
fn page(request: Value, items: Value, cursor: Value) -> Script {
    let mut request = request;
    request["call"] = json!("listJobs");
    Script::new()
        .call(0, [1, 2], put_job("b2", &[], &[]), created(1))
        .call(0, [3, 4], put_job("a", &[], &[]), created(2))
        .call(0, [5, 6], put_job("b1", &[], &[]), created(3))
        .call(0, [7, 8], request, answered(3, json!({"items": items, "next_cursor": cursor})))
}

#[track_caller]
fn is_wrong(script: &Script) {
    let finding = script.found();
    assert_eq!(finding.kind, Kind::WrongAnswer, "{finding}");
}

#[test]
fn a_page_has_what_comes_next_and_says_whether_there_is_more() {
    let (a, b1, b2) = (job("a", 2), job("b1", 3), job("b2", 1));
    page(json!({"limit": 9}), json!([a, b1, b2]), Value::Null).valid();
    page(json!({"limit": 3}), json!([a, b1, b2]), Value::Null).valid();
    page(json!({"limit": 2}), json!([a, b1]), json!("x")).valid();
    page(json!({"limit": 2, "after": "a"}), json!([b1, b2]), Value::Null).valid();
    page(json!({"limit": 1, "prefix": "b"}), json!([b1]), json!("x")).valid();
    page(json!({"limit": 1, "prefix": "b", "after": "b1"}), json!([b2]), Value::Null).valid();
    page(json!({"limit": 1, "prefix": "c"}), json!([]), Value::Null).valid();

    is_wrong(&page(json!({"limit": 9}), json!([a, b2]), Value::Null));
    is_wrong(&page(json!({"limit": 9}), json!([a, b2, b1]), Value::Null));
    is_wrong(&page(json!({"limit": 9}), json!([a, b1, b2, b2]), Value::Null));
    is_wrong(&page(json!({"limit": 9}), json!([a, b1, job("b2", 3)]), Value::Null));
    is_wrong(&page(json!({"limit": 2}), json!([a, b1]), Value::Null));
    is_wrong(&page(json!({"limit": 2}), json!([a]), json!("x")));
    is_wrong(&page(json!({"limit": 3}), json!([a, b1, b2]), json!("x")));
    is_wrong(&page(json!({"limit": 9, "after": "a"}), json!([a, b1, b2]), Value::Null));
    is_wrong(&page(json!({"limit": 9, "prefix": "b"}), json!([a, b1, b2]), Value::Null));
}

#[test]
fn datasets_are_listed_whether_declared_or_mentioned() {
    let list = |items: Value| {
        let answer = json!({"items": items, "next_cursor": null});
        Script::new()
            .call(0, [1, 2], put_job("a", &["x"], &[]), created(1))
            .call(0, [3, 4], put_dataset("y", json!({"n": 1})), created(2))
            .call(0, [5, 6], json!({"call": "listDatasets", "limit": 9}), answered(2, answer))
    };
    let dataset = |name: &str, declared: bool, consumers: Value, metadata: Value| {
        json!({
            "name": name, "declared": declared, "producer": null, "consumers": consumers,
            "metadata": metadata,
        })
    };
    let x = dataset("x", false, json!(["a"]), json!({}));
    let y = dataset("y", true, json!([]), json!({"n": 1}));
    list(json!([x, y])).valid();
    is_wrong(&list(json!([y])));
    is_wrong(&list(json!([x, dataset("y", true, json!([]), json!({"n": 2}))])));
    let finding = list(json!([])).found();
    assert!(finding.expected.starts_with(r#"{"items":[{"consumers":["a"],"#), "{finding}");
}
