//! `fencepost log`, `consumer`, `prune` and `import --format events`.

use serde_json::Value;

use super::{snapshot, tail};
use crate::cli::Shell;
use crate::support::ask::{changeset, delete_graph, patch_inputs, put_dataset, put_job};
use crate::support::cluster::{GRAPH, Site, name};

/// A graph of five changes in a shell's folder.
fn shell_with_log() -> (Shell, Site) {
    let shell = Shell::new();
    let site = Site::at(format!("sqlite:{}", shell.path("fencepost.db")));
    let node = site.node();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    let by = |actor: Option<&str>, operations: Vec<_>| {
        let mut write = changeset(operations);
        write.actor = actor.map(str::to_owned);
        node.write_and_wait(&name(GRAPH), write).unwrap();
    };
    by(Some("ada"), vec![put_job("mill", &["grain"], &["flour"]), put_dataset("salt")]);
    by(None, vec![put_job("knead", &["flour", "salt"], &["dough"])]);
    by(Some("eve\n9\t2026\u{1b}[31m"), vec![patch_inputs("knead", &["flour", "water"])]);
    by(Some("ada"), (0..5).map(|n| put_dataset(&format!("d{n}"))).collect());
    node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
    (shell, site)
}

/// Not 3, as of a database that is away: to try again is of no use.
#[test]
fn a_prune_that_the_database_refuses_exits_with_1() {
    let (shell, site) = shell_with_log();
    site.run_sql(
        "CREATE TRIGGER refuse BEFORE INSERT ON snapshot_parts
         BEGIN INSERT INTO service (id, database_id) VALUES (1, 'second'); END",
    );
    let prune = || shell.run(&["prune", "--graph", "g", "--before", "3"]);
    let ran = prune();
    assert_eq!(ran.code, 1, "{}", ran.errors);
    assert!(ran.errors.contains("prune again"), "{}", ran.errors);
    site.run_sql("DROP TRIGGER refuse");
    let ran = prune();
    assert_eq!(ran.code, 0, "{}", ran.errors);
}

#[test]
fn the_log_says_who_changed_what_and_when_one_line_a_change() {
    let (shell, _site) = shell_with_log();
    let ran = shell.run(&["log", "--graph", "g"]);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let lines: Vec<Vec<&str>> = ran.result.lines().map(|line| line.split('\t').collect()).collect();
    let told: Vec<[&str; 3]> =
        lines.iter().map(|fields| [fields[0], fields[2], fields[3]]).collect();
    assert_eq!(
        told,
        [
            ["1", "ada", "job mill created (1 input, 1 output); dataset salt declared"],
            ["2", "-", "job knead created (2 inputs, 1 output)"],
            ["3", "eve\\n9\\t2026\\u{1b}[31m", "job knead changed (inputs +1 -1)"],
            [
                "4",
                "ada",
                "dataset d0 declared; dataset d1 declared; dataset d2 declared; and 2 more"
            ],
            ["5", "-", "graph deleted"],
        ]
    );
    for fields in &lines {
        assert!(
            fields.len() == 4 && fields[1].len() == 24 && fields[1].ends_with('Z'),
            "{fields:?}"
        );
    }
    let of_job = shell.run(&["log", "--graph", "g", "--job", "knead"]).result;
    let told: Vec<&str> = of_job.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    let created = "job knead created: inputs +flour +salt, outputs +dough";
    assert_eq!(told, [created, "job knead changed: inputs +water -salt", "graph deleted"]);
    let some = shell.run(&["log", "--graph", "g", "--after", "1", "--limit", "2"]).result;
    assert_eq!(some.lines().map(|line| &line[..1]).collect::<String>(), "23");
    let json: Vec<Value> = shell
        .run(&["log", "--graph", "g", "--format", "json"])
        .result
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (json.len(), json[2]["version"].as_u64(), json[1]["actor"].is_null()),
        (5, Some(3), true)
    );
    assert_eq!(json[2]["actor"], "eve\n9\t2026\u{1b}[31m");
    assert_eq!(
        (&json[2]["facts"][0]["inputs_added"][0], json[0]["time"].as_str().unwrap().len()),
        (&"water".into(), 24)
    );
    let ran = shell.run(&["log", "--graph", "absent"]);
    assert!(ran.code == 1 && ran.errors.contains("there is no graph `absent`"), "{}", ran.errors);
}

#[test]
fn a_pruned_log_says_where_it_begins() {
    let (shell, _site) = shell_with_log();
    let ran = shell.run(&["prune", "--graph", "g", "--before", "4"]);
    let expected =
        "pruned graph g: changes before 4 are gone, 3 of them; a snapshot at 4 is kept\n";
    assert_eq!((ran.code, ran.result.as_str()), (0, expected), "{}", ran.errors);
    let ran = shell.run(&["prune", "--graph", "g", "--before", "3"]);
    assert_eq!(
        (ran.code, ran.result.as_str()),
        (0, "graph g: nothing to do, changes before 3 are gone\n")
    );
    let ran = shell.run(&["log", "--graph", "g"]);
    assert_eq!(ran.result.lines().map(|line| &line[..1]).collect::<String>(), "45");
    assert!(ran.errors.contains("the log begins at version 4: "), "{}", ran.errors);
    assert_eq!(shell.run(&["log", "--graph", "g", "--after", "3"]).errors, "");
    for (before, code, says) in
        [("6", 1, "is at version 5"), ("0", 2, "no version from 1 on"), ("x", 2, "no version")]
    {
        let ran = shell.run(&["prune", "--graph", "g", "--before", before]);
        assert!(ran.code == code && ran.errors.contains(says), "{before}: {ran:?}");
    }
    let ran = shell.run(&["prune", "--graph", "absent", "--before", "1"]);
    assert!(ran.code == 1 && ran.errors.contains("there is no graph `absent`"), "{ran:?}");
}

#[test]
fn consumers_are_listed_acknowledge_and_are_removed() {
    let shell = Shell::new();
    let file = shell.write(
        "jobs",
        "{\"name\":\"a\",\"inputs\":[],\"outputs\":[]}\n{\"name\":\"b\",\"inputs\":[],\"outputs\":[]}\n",
    );
    assert_eq!(shell.run(&["import", "--graph", "g", "--chunk-jobs", "1", &file]).code, 0);
    let ack = |version: &str| {
        shell.run(&["consumer", "ack", "--graph", "g", "--name", "a b", "--version", version])
    };
    assert_eq!(ack("1").result, "consumer a b of graph g has acknowledged version 1, and is new\n");
    assert_eq!(ack("0").result, "consumer a b of graph g has acknowledged version 1\n");
    let ran = ack("3");
    assert!(
        ran.code == 1 && ran.errors.contains("is at version 2: 3 cannot have been read"),
        "{ran:?}"
    );
    let listed = shell.run(&["consumer", "list", "--graph", "g"]).result;
    let fields: Vec<&str> = listed.trim_end().split('\t').collect();
    assert!(
        fields.len() == 4 && fields[..3] == ["a b", "1", "1"] && fields[3].ends_with('Z'),
        "{listed}"
    );
    let remove =
        |consumer: &str| shell.run(&["consumer", "remove", "--graph", "g", "--name", consumer]);
    assert_eq!(remove("a b").result, "removed consumer a b of graph g\n");
    let ran = remove("a b");
    assert!(ran.code == 1 && ran.errors.contains("graph `g` has no consumer `a b`"), "{ran:?}");
    assert_eq!(shell.run(&["consumer", "list", "--graph", "g"]).result, "");
    assert_eq!(shell.run(&["prune", "--graph", "g", "--before", "2"]).code, 0);
    let ran = ack("0");
    assert!(ran.code == 1 && ran.errors.contains("the oldest change is 2"), "{ran:?}");
    for command in
        [&["list"][..], &["ack", "--name", "c", "--version", "1"], &["remove", "--name", "c"]]
    {
        let ran = shell.run(&[&["consumer"], command, &["--graph", "absent"]].concat());
        assert!(ran.code == 1 && ran.errors.contains("there is no graph `absent`"), "{ran:?}");
    }
}

#[test]
fn events_are_imported_by_their_first_line_from_a_file_or_standard_input() {
    let (from, site) = shell_with_log();
    drop(from.run(&["migrate"]));
    let log = tail(&site.store(), 0)[..4].concat();
    let shell = Shell::new();
    let file = shell.write("log", &log);
    let ran = shell.run(&["import", "--graph", "g", &file]);
    assert_eq!(
        (ran.code, ran.result.as_str()),
        (0, "imported 2 jobs, now version 4\n"),
        "{}",
        ran.errors
    );
    let ran = shell.run_with_input(&["import", "--graph", "h", "--format", "events", "-"], &log);
    assert_eq!(
        (ran.code, ran.result.as_str()),
        (0, "imported 2 jobs, now version 4\n"),
        "{}",
        ran.errors
    );
    assert!(ran.errors.contains("`h` has a UUID of its own"), "{}", ran.errors);
    let ran = shell
        .run_with_input(&["import", "--graph", "i", "-"], &snapshot(&site.store(), 4).concat());
    assert_eq!(
        (ran.code, ran.result.as_str()),
        (0, "imported 2 jobs, now version 4\n"),
        "{}",
        ran.errors
    );
    let ran = shell.run(&["import", "--graph", "g", &file]);
    assert!(ran.code == 1 && ran.errors.contains("graph `g` is at version 4"), "{ran:?}");
    for more in [
        &["--sync", "x"][..],
        &["--namespace", "none"],
        &["--chunk-jobs", "3"],
        &["--format", "events", "another"],
    ] {
        let ran = shell.run(&[&["import", "--graph", "j", &file], more].concat());
        assert!(ran.code == 2, "{more:?}: {ran:?}");
    }
    let jobs = shell.write("jobs", "{\"name\":\"a\",\"inputs\":[],\"outputs\":[]}\n");
    let ran = shell.run(&["import", "--graph", "j", &jobs, &file]);
    assert!(ran.code == 1 && ran.errors.contains("it is imported alone"), "{ran:?}");
    let ran = shell.run(&["import", "--graph", "k", "--format", "events", &jobs]);
    assert!(
        ran.code == 1 && ran.errors.contains("jobs:1: it is no event of Fencepost's"),
        "{ran:?}"
    );
    let ran = shell.run(&["import", "--graph", "k", "--format", "events", "absent"]);
    assert!(ran.code == 1 && ran.errors.contains("absent: "), "{ran:?}");
}
