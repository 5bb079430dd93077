//! `fencepost plan`.

use super::{Shell, fixture};

fn bakery() -> Shell {
    let shell = Shell::new();
    assert_eq!(shell.run(&["import", "--graph", "g", &fixture("bakery.ndjson")]).code, 0);
    shell
}

#[test]
fn a_plan_is_a_line_for_each_job_with_its_stage() {
    let ran = bakery().run(&["plan", "--graph", "g", "bread"]);
    assert_eq!(ran.result, "0\tmill\n1\tknead\n2\tbake\n");
    assert!(ran.errors.contains("3 jobs in 3 stages, at version 1"), "{}", ran.errors);
}

#[test]
fn a_plan_as_json_is_the_one_that_http_answers() {
    let plan = bakery().json(&["plan", "--graph", "g", "--format", "json", "dough"]);
    let expected = serde_json::json!({
        "graph": "g",
        "version": 1,
        "targets": ["dough"],
        "jobs": ["mill", "knead"],
        "stages": [["mill"], ["knead"]],
        "dependencies": [["mill", "knead"]],
        "sources": ["grain", "water", "yeast"],
        // printf 'job\t0\tmill\njob\t1\tknead\ndep\tmill\tknead\n' | sha256sum
        "digest": "c333441b0ba7e9b28c7d853d25aedf2eb7a6559549c018ffb65c8f612b899f1e",
    });
    assert_eq!(plan, expected);
}

#[test]
fn a_plan_can_be_drawn() {
    let shell = bakery();
    let dot = shell.run(&["plan", "--graph", "g", "--format", "dot", "dough"]).result;
    assert!(dot.starts_with("digraph plan {") && dot.contains("\"mill\" -> \"knead\";"), "{dot}");
    let mermaid = shell.run(&["plan", "--graph", "g", "--format", "mermaid", "dough"]).result;
    assert!(mermaid.starts_with("flowchart LR\n") && mermaid.contains("j0 --> j1"), "{mermaid}");
}

#[test]
fn what_is_not_there_is_named() {
    let shell = bakery();
    for (arguments, says) in [
        (["plan", "--graph", "nowhere", "bread"], "there is no graph `nowhere`"),
        (["plan", "--graph", "g", "cake"], "there is no dataset `cake`"),
    ] {
        let ran = shell.run(&arguments);
        assert_eq!((ran.code, ran.result.as_str()), (1, ""));
        assert!(ran.errors.contains(says), "{}", ran.errors);
    }
}
