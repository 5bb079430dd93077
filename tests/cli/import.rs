//! `fencepost import`.

use super::{Shell, fixture};

/// What a graph holds, as `plan --format json` of one dataset tells it.
fn jobs_for(shell: &Shell, dataset: &str) -> Vec<String> {
    let plan = shell.json(&["plan", "--graph", "g", "--format", "json", dataset]);
    plan["jobs"].as_array().unwrap().iter().map(|job| job.as_str().unwrap().to_owned()).collect()
}

#[test]
fn ndjson_is_imported_and_can_be_imported_again() {
    let shell = Shell::new();
    let file = fixture("bakery.ndjson");
    let ran = shell.run(&["import", "--graph", "g", &file]);
    assert_eq!(
        (ran.code, ran.result.as_str()),
        (0, "imported 3 jobs, now version 1\n"),
        "{}",
        ran.errors
    );
    assert_eq!(jobs_for(&shell, "bread"), ["mill", "knead", "bake"]);
    assert_eq!(
        shell.run(&["import", "--graph", "g", &file]).result,
        "imported 3 jobs, now version 1\n"
    );
}

#[test]
fn standard_input_is_a_file_like_any_other() {
    let shell = Shell::new();
    let line = r#"{"name":"a","inputs":[],"outputs":["d"]}"#;
    let ran = shell.run_with_input(&["import", "--graph", "g", "-"], line);
    assert_eq!(ran.result, "imported 1 jobs, now version 1\n", "{}", ran.errors);
}

#[test]
fn wfformat_names_are_prefixed_and_parents_without_a_file_get_a_control_dataset() {
    let shell = Shell::new();
    let ran = shell.run(&["import", "--graph", "g", &fixture("align.json")]);
    assert_eq!(ran.result, "imported 5 jobs, now version 1\n", "{}", ran.errors);
    let plan = shell.json(&[
        "plan",
        "--graph",
        "g",
        "--format",
        "json",
        "align/all.bam",
        "align/merge->notify",
    ]);
    assert_eq!(
        plan["jobs"],
        serde_json::json!(["align/split_1", "align/map_a", "align/map_b", "align/merge"])
    );
    assert_eq!(plan["sources"], serde_json::json!(["align/genome.fa", "align/reads.fq"]));

    let bare = Shell::new();
    bare.run(&["import", "--graph", "g", "--namespace", "none", &fixture("align.json")]);
    assert_eq!(jobs_for(&bare, "all.bam"), ["split_1", "map_a", "map_b", "merge"]);
}

#[test]
fn the_format_is_told_by_the_file_whatever_it_is_called() {
    let shell = Shell::new();
    let document = std::fs::read_to_string(fixture("align.json")).unwrap();
    let one_line: serde_json::Value = serde_json::from_str(&document).unwrap();
    for (name, text) in [("odd.txt", document), ("line.ndjson", one_line.to_string())] {
        let file = shell.write(name, &text);
        assert!(
            shell.run(&["import", "--graph", name, &file]).result.starts_with("imported 5 jobs"),
            "{name}"
        );
    }
    let jobs = shell.write("jobs.json", r#"{"name":"a","inputs":[],"outputs":["d"]}"#);
    assert!(shell.run(&["import", "--graph", "g", &jobs]).result.starts_with("imported 1 jobs"));
}

#[test]
fn the_first_bad_line_is_named_with_what_is_already_in() {
    let shell = Shell::new();
    for (line, reason) in [
        (r#"{"name":"b","inputs":[],"outputs":["#, "EOF while parsing"),
        (r#"{"name":"b","inputs":[]}"#, "outputs: is missing"),
        (r#"{"name":"b","inputs":[],"outputs":[],"extra":1}"#, "unknown field `extra`"),
        (r#"{"name":"b","name":"b","inputs":[],"outputs":[]}"#, "duplicate field `name`"),
        (r#"{"name":"..","inputs":[],"outputs":[]}"#, "`..` is not a name"),
        (r#"{"name":"b","inputs":["d"],"outputs":["d"]}"#, "cycle: b -> d -> b"),
        (r#"{"name":"b","inputs":[],"outputs":["x"]}"#, "has a producer already, `a`"),
        (r#"{"name":"b","inputs":[],"outputs":[],"spec":{"a":1,"a":2}}"#, "duplicate key `a`"),
    ] {
        let text = format!("{}\n\n{line}\n", r#"{"name":"a","inputs":[],"outputs":["x"]}"#);
        let file = shell.write("bad.ndjson", &text);
        let ran = shell.run(&["import", "--graph", "g", &file]);
        assert_eq!((ran.code, ran.result.as_str()), (1, ""), "{line}");
        assert!(ran.errors.contains(&format!("{file}:3: ")), "{line}: {}", ran.errors);
        assert!(ran.errors.contains(reason), "{line}: {}", ran.errors);
    }
    let good_then_bad =
        format!("{}\nnonsense\n", r#"{"name":"first","inputs":[],"outputs":["first.out"]}"#);
    let ran =
        shell.run(&["import", "--graph", "fresh", &shell.write("half.ndjson", &good_then_bad)]);
    assert!(ran.errors.contains("the 1 jobs before it are in, now version 1"), "{}", ran.errors);
    let ran = shell.run(&["plan", "--graph", "fresh", "first.out"]);
    assert_eq!(ran.result, "0\tfirst\n", "what was said to be in is in");
}

#[test]
fn a_bad_document_is_named_with_its_line_and_nothing_of_it_is_in() {
    let shell = Shell::new();
    let document = std::fs::read_to_string(fixture("align.json")).unwrap();
    for (from, to, says) in [
        ("\"1.5\"", "\"1.4\"", ":1: schemaVersion is 1.4, not 1.5 or 1.6"),
        (
            "[\"map_a\", \"map_b\"],\n                    \"children\": [\"notify\"]",
            "[\"nobody\"]",
            ":32: the parent `nobody`",
        ),
        ("\"id\": \"map_b\"", "\"id\": \"map_a\"", ":24: the task id `map_a` is given twice"),
        ("\"id\": \"map_b\",", "", ":24: no task: missing field `id`"),
    ] {
        assert!(document.contains(from), "the fixture still holds {from}");
        let file = shell.write("bad.json", &document.replacen(from, to, 1));
        let ran = shell.run(&["import", "--graph", "g", "--format", "wfformat", &file]);
        assert_eq!(ran.code, 1, "{says}");
        assert!(ran.errors.contains(says), "{says}: {}", ran.errors);
        assert!(ran.errors.contains("nothing was imported"), "{}", ran.errors);
    }
}

#[test]
fn a_file_that_is_not_there_is_found_before_anything_is_written() {
    let shell = Shell::new();
    let ran = shell.run(&["import", "--graph", "g", &fixture("bakery.ndjson"), "absent.ndjson"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.errors.contains("absent.ndjson") && ran.errors.contains("nothing was imported"),
        "{}",
        ran.errors
    );
    assert!(!std::path::Path::new(&shell.path("fencepost.db")).exists());
}

#[test]
fn a_changeset_refused_at_its_border_is_tried_again_with_the_lines_that_follow() {
    let shell = Shell::new();
    // The last line of the first 10,000 takes an output from a job that gives it up only after the
    // border.
    let first = r#"{"name":"old","inputs":[],"outputs":["shared"]}"#;
    assert_eq!(shell.run_with_input(&["import", "--graph", "g", "-"], first).code, 0);
    let mut lines: Vec<String> = (0..9_999)
        .map(|i| format!(r#"{{"name":"job{i}","inputs":[],"outputs":["out{i}"]}}"#))
        .collect();
    lines.push(r#"{"name":"new","inputs":[],"outputs":["shared"]}"#.to_owned());
    lines.push(r#"{"name":"old","inputs":[],"outputs":["other"]}"#.to_owned());
    let ran = shell.run_with_input(&["import", "--graph", "g", "-"], &lines.join("\n"));
    assert_eq!(ran.result, "imported 10001 jobs, now version 2\n", "{}", ran.errors);
}

#[test]
fn a_changeset_that_stays_illegal_grows_to_its_limit_and_the_error_says_so() {
    let shell = Shell::new();
    let old = r#"{"name":"old","inputs":[],"outputs":["shared"]}"#;
    assert_eq!(shell.run_with_input(&["import", "--graph", "g", "-"], old).code, 0);
    let taking = r#"{"name":"new","inputs":[],"outputs":["shared"]}"#.to_owned();
    let others =
        (0..45_000).map(|n| format!(r#"{{"name":"job-{n}","inputs":[],"outputs":["out-{n}"]}}"#));
    let lines: Vec<String> = std::iter::once(taking).chain(others).collect();
    let ran = shell.run_with_input(&["import", "--graph", "g", "-"], &lines.join("\n"));
    assert_eq!((ran.code, ran.result.as_str()), (1, ""), "{}", ran.errors);
    for says in ["-:1: dataset `shared` has a producer", "grew to 40000 jobs, its limit"] {
        assert!(ran.errors.contains(says), "{says}: {}", ran.errors);
    }
    assert!(ran.errors.contains("nothing was imported"), "{}", ran.errors);
}

#[test]
fn sync_deletes_under_its_prefix_what_the_files_no_longer_hold_and_nothing_else() {
    let shell = Shell::new();
    let job =
        |name: &str| format!(r#"{{"name":"{name}","inputs":[],"outputs":["{name}.out"]}}"#) + "\n";
    let all = ["team/a", "team/b", "team/c", "other/a", "team"].map(job).concat();
    shell.run_with_input(&["import", "--graph", "g", "-"], &all);
    let kept = ["team/a", "team/d"].map(job).concat();
    let ran = shell.run_with_input(
        &["import", "--graph", "g", "--sync", "team/", "--max-delete", "2", "-"],
        &kept,
    );
    assert_eq!(ran.result, "deleted 2 jobs\nimported 2 jobs, now version 2\n", "{}", ran.errors);
    for (dataset, there) in
        [("team/a.out", true), ("team/b.out", false), ("other/a.out", true), ("team.out", true)]
    {
        assert_eq!(shell.run(&["plan", "--graph", "g", dataset]).code == 0, there, "{dataset}");
    }
    let ran = shell.run_with_input(
        &["import", "--graph", "g", "--sync", "team/", "--max-delete", "2", "-"],
        &kept,
    );
    assert_eq!(ran.result, "imported 2 jobs, now version 2\n");
}

#[test]
fn sync_of_a_bad_file_changes_nothing() {
    let shell = Shell::new();
    shell.run(&["import", "--graph", "g", &fixture("bakery.ndjson")]);
    let input = "{\"name\":\"x\",\"inputs\":[],\"outputs\":[]}\nnonsense\n";
    let ran = shell.run_with_input(&["import", "--graph", "g", "--sync", "", "-"], input);
    assert!(
        ran.code == 1
            && ran.errors.contains("-:2: ")
            && ran.errors.contains("nothing was imported"),
        "{ran:?}"
    );
    assert_eq!(jobs_for(&shell, "bread"), ["mill", "knead", "bake"]);
}

#[test]
fn a_file_without_a_single_job_leaves_no_graph_behind() {
    let shell = Shell::new();
    for (name, text, says) in
        [("bad", "nonsense", "expected"), ("bom", "\u{feff}{}", "byte order mark")]
    {
        let ran =
            shell.run(&["import", "--graph", name, "--format", "ndjson", &shell.write(name, text)]);
        assert!(ran.code == 1 && ran.errors.contains(says), "{ran:?}");
        assert!(
            shell.run(&["plan", "--graph", name, "d"]).errors.contains("there is no graph"),
            "{name}"
        );
    }
}

#[test]
fn the_column_of_a_torn_line_is_where_it_ends() {
    let shell = Shell::new();
    let ran = shell.run_with_input(
        &["import", "--graph", "g", "--format", "ndjson", "-"],
        "{\"name\":\"a\",\r\n",
    );
    assert!(
        ran.errors.contains("-:1: EOF while parsing") && ran.errors.contains("at column 12"),
        "{}",
        ran.errors
    );
}
