//! A list is no object in a file either: it is refused with its place, and nothing is imported.

use super::Shell;

#[test]
fn a_list_is_no_job_in_an_import() {
    let shell = Shell::new();
    let fine = r#"{"name":"a","inputs":[],"outputs":["d"]}"#;
    for line in [
        r#"["p",["in"],["out"],{}]"#,
        r#"["p",["in"],["out"],{},null]"#,
        r#"["p",[],[]]"#,
        "[]",
        r#"[{"name":"b","inputs":[],"outputs":[]}]"#,
    ] {
        let file = shell.write("jobs.ndjson", &format!("{fine}\n{line}\n"));
        for format in ["ndjson", "auto"] {
            let ran = shell.run(&["import", "--graph", "g", "--format", format, &file]);
            assert_eq!(ran.code, 1, "{line}");
            assert!(ran.errors.contains("jobs.ndjson:2: "), "{}", ran.errors);
        }
    }
}

#[test]
fn a_list_is_no_part_of_a_workflow_document() {
    let shell = Shell::new();
    let task = r#"{"id":"a","inputFiles":[],"outputFiles":["d"],"parents":[]}"#;
    let document = |workflow: &str| format!(r#"{{"schemaVersion":"1.5","workflow":{workflow}}}"#);
    let fine = document(&format!(r#"{{"specification":{{"tasks":[{task}]}}}}"#));
    for text in [
        format!(r#"["1.5",{{"specification":{{"tasks":[{task}]}}}}]"#),
        document(&format!(r#"[{{"tasks":[{task}]}}]"#)),
        document(&format!(r#"{{"specification":[[{task}]]}}"#)),
        document(r#"{"specification":{"tasks":[["a",[],["d"],[]]]}}"#),
        r#"["1.5",[[[]]]]"#.to_owned(),
    ] {
        let file = shell.write("w.json", &text);
        let ran = shell.run(&["import", "--graph", "g", "--format", "wfformat", &file]);
        assert_eq!(ran.code, 1, "{text}: {}", ran.result);
        assert!(ran.errors.contains("w.json:1: "), "{}", ran.errors);
    }
    let file = shell.write("w.json", &fine);
    let ran = shell.run(&["import", "--graph", "g", "--format", "wfformat", &file]);
    assert_eq!(ran.result, "imported 1 jobs, now version 1\n", "{}", ran.errors);
}
