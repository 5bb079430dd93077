//! Files by which nothing can be judged are refused, with the line that is wrong.

use serde_json::{Value, json};

use super::script::*;

fn two_calls() -> Script {
    let script = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    script.call(0, [3, 4], read_graph(), counts(1, 1, 0, 0))
}

/// What is said of the history after `change` to its lines.
#[track_caller]
fn refusal(change: impl FnOnce(&mut Vec<Value>)) -> String {
    let mut changed: Vec<Value> =
        two_calls().text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    change(&mut changed);
    judge(&[&lines(&changed)], None).expect_err("a bad file").to_string()
}

#[test]
fn a_history_that_is_not_whole_is_refused() {
    two_calls().valid();
    let cut_off =
        "1.ndjson: has no last line: the run was cut off, and nothing can be judged by it";
    assert_eq!(refusal(|lines| drop(lines.pop())), cut_off);
    assert_eq!(refusal(Vec::clear), cut_off);
    // Within a line, as by a driver that was killed.
    let text = two_calls().text();
    for end in [text.len() - 2, text.len() / 2] {
        assert_eq!(judge(&[&text[..end]], None).expect_err("a bad file").to_string(), cut_off);
    }
    assert_eq!(refusal(|lines| drop(lines.remove(0))), "1.ndjson:1: a history begins with `start`");
    assert_eq!(
        refusal(|lines| drop(lines.remove(2))),
        "1.ndjson:3: process 0 has two requests under way"
    );
    assert_eq!(refusal(|lines| drop(lines.remove(1))), "1.ndjson:2: id 0 ends and never began");
    assert_eq!(refusal(|lines| drop(lines.remove(4))), "1.ndjson:5: id 1 has no end");
    assert_eq!(refusal(|lines| lines.insert(3, lines[2].clone())), "1.ndjson:4: id 0 ends twice");
    assert_eq!(
        refusal(|lines| lines.push(lines[1].clone())),
        "1.ndjson:7: the history goes on after its end"
    );
    assert_eq!(
        refusal(|lines| lines.insert(1, lines[0].clone())),
        "1.ndjson:2: a history begins once"
    );
    assert_eq!(
        refusal(|lines| lines[5]["ok"] = json!(3)),
        "1.ndjson:6: there are 2 lines of ok, and not 3"
    );
    assert_eq!(
        refusal(|lines| lines[5]["time_ns"] = json!(1)),
        "1.ndjson:6: the end comes before the last answer"
    );
}

#[test]
fn lines_that_contradict_each_other_are_refused() {
    assert_eq!(refusal(|lines| lines[3]["id"] = json!(0)), "1.ndjson:4: id 0 comes twice");
    assert_eq!(refusal(|lines| lines[2]["process"] = json!(7)), "1.ndjson:3: id 0 is of process 0");
    assert_eq!(
        refusal(|lines| lines[2]["time_ns"] = json!(7)),
        "1.ndjson:3: id 0 ends before it begins"
    );
    assert_eq!(
        refusal(|lines| lines[3]["time_ns"] = json!(7)),
        "1.ndjson:4: process 0 goes back in time"
    );
    let gone = json!({"event": "info", "process": 0, "id": 0, "time_ns": 2_000_000, "verdict": "unknown", "reason": ""});
    assert_eq!(refusal(|lines| lines[2] = gone), "1.ndjson:4: process 0 goes on after an `info`");
    let other = Script::new().text().replace("\"g\"", "\"h\"");
    let error = judge(&[&two_calls().text(), &other], None).expect_err("another graph").to_string();
    assert_eq!(error, "2.ndjson:1: is about graph `h`, the files before about `g`");
}

#[test]
fn lines_that_are_not_understood_are_refused() {
    let mixed = "`accepted` is no verdict of an event Ok that ends this call";
    assert_eq!(
        refusal(|lines| lines[4]["verdict"] = json!("accepted")),
        format!("1.ndjson:5: {mixed}")
    );
    assert_eq!(
        refusal(|lines| lines[2]["created"] = Value::Null),
        "1.ndjson:3: created is missing"
    );
    assert_eq!(
        refusal(|lines| lines[4]["version"] = Value::Null),
        "1.ndjson:5: version is missing"
    );
    let format = "1.ndjson:1: format 2 is not known; this program reads format 1";
    assert_eq!(refusal(|lines| lines[0]["format"] = json!(2)), format);
    assert_eq!(
        refusal(|lines| lines[0]["clock"] = json!({"unit": "us"})),
        "1.ndjson:1: the clock's unit is not ns"
    );
    let no_graph = "1.ndjson:1: the history is about no graph: there is nothing to check";
    assert_eq!(refusal(|lines| lines[0]["graph"] = Value::Null), no_graph);
    assert!(
        refusal(|lines| lines[2]["event"] = json!("done"))
            .starts_with("1.ndjson:3: no line of a history: unknown variant")
    );
    let request = |change: fn(&mut Value)| refusal(|lines| change(&mut lines[1]["request"]));
    let unknown = "1.ndjson:2: request: no rules are known for the call `mergeJob`";
    assert_eq!(request(|request| request["call"] = json!("mergeJob")), unknown);
    let unknown =
        "1.ndjson:2: request: operations[0]: no rules are known for the operation `merge_job`";
    assert_eq!(request(|request| request["operations"][0]["op"] = json!("merge_job")), unknown);
    let read = json!({"call": "readJob", "job": "a", "key": "k"});
    let keyed = "1.ndjson:2: request: only a write has a key";
    assert_eq!(refusal(|lines| lines[1]["request"] = read), keyed);
    let missing = "1.ndjson:2: request: operations[0]: inputs is missing";
    assert_eq!(request(|request| request["operations"][0]["inputs"] = Value::Null), missing);
    let list = "1.ndjson:2: request: operations[0]: spec: expected a JSON object";
    assert_eq!(request(|request| request["operations"][0]["spec"] = json!([1])), list);
}

#[test]
fn a_list_is_no_object_in_a_history() {
    let no_object = |refusal: String, at: &str| {
        assert!(refusal.starts_with(at), "{refusal}");
        assert!(refusal.contains("sequence, expected an object"), "{refusal}");
    };
    let members =
        |value: &Value| Value::Array(value.as_object().unwrap().values().cloned().collect());
    no_object(refusal(|lines| lines[1] = members(&lines[1])), "1.ndjson:2: no line");
    no_object(refusal(|lines| lines[1] = json!([])), "1.ndjson:2: no line");
    no_object(refusal(|lines| lines[0]["clock"] = json!(["ns"])), "1.ndjson:1: no line");
    let request = |change: fn(&mut Value)| refusal(|lines| change(&mut lines[1]["request"]));
    no_object(request(|request| *request = json!(["readGraph"])), "1.ndjson:2: request");
    let operation = json!(["put_job", "a", null, null, [], [], {}, {}, null, null, null]);
    let listed = refusal(|lines| lines[1]["request"]["operations"][0] = operation);
    no_object(listed, "1.ndjson:2: request");
    let patch = json!({"op": "patch_job", "name": "a", "patch": [[], [], {}]});
    no_object(refusal(|lines| lines[1]["request"]["operations"][0] = patch), "1.ndjson:2: request");
    // Nor is an object a word.
    let event = refusal(|lines| lines[2]["event"] = json!({"ok": null}));
    assert!(event.contains("map, expected the word for an event"), "{event}");
}

#[test]
fn a_list_is_no_object_in_a_change_log() {
    let refusal =
        |log: &str| judge(&[&two_calls().text()], Some(log)).expect_err("a bad log").to_string();
    for log in [
        r#"[1,[{"fact":"job_deleted","name":"a"}]]"#,
        r#"{"version":1,"facts":[["job_deleted","a",[],[],[],[],[],[],null,null]]}"#,
        "[]",
    ] {
        let refusal = refusal(log);
        assert!(refusal.starts_with("log.ndjson:1: invalid type: sequence"), "{refusal}");
    }
}

#[test]
fn a_change_log_that_is_not_understood_is_refused() {
    let refusal =
        |log: &str| judge(&[&two_calls().text()], Some(log)).expect_err("a bad log").to_string();
    let unknown = r#"{"version":1,"facts":[{"fact":"job_moved","name":"a"}]}"#;
    assert_eq!(refusal(unknown), "log.ndjson:1: nothing is known of the fact `job_moved`");
    assert!(refusal("{}").starts_with("log.ndjson:1: missing field `version`"));
}
