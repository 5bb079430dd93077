//! Jobs that come more than once in one `fencepost import`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Ran, Shell, fixture};

fn job(name: &str, output: &str) -> String {
    format!("{{\"name\":\"{name}\",\"inputs\":[],\"outputs\":[\"{output}\"]}}\n")
}

fn import(shell: &Shell, arguments: &[&str]) -> Ran {
    shell.run(&[&["import", "--graph", "g"], arguments].concat())
}

fn has(shell: &Shell, dataset: &str) -> bool {
    shell.run(&["plan", "--graph", "g", dataset]).code == 0
}

/// WfFormat of one task with that output.
fn document(output: &str) -> String {
    format!(
        "{{\"schemaVersion\":\"1.5\",\"workflow\":{{\"specification\":{{\"tasks\":[\n\
         {{\"id\":\"t\",\"inputFiles\":[],\"outputFiles\":[\"{output}\"],\"parents\":[]}}]}}}}}}"
    )
}

#[test]
fn a_name_that_comes_again_with_another_content_is_refused_with_both_places() {
    let shell = Shell::new();
    let one = shell.write("one", &(job("x", "x") + &job("a", "first") + &job("a", "second")));
    let ran = import(&shell, &[&one]);
    assert_eq!((ran.code, ran.result.as_str()), (1, ""), "{ran:?}");
    for says in [
        format!("{one}:3: job `a` differs from the job of that name at {one}:2"),
        "--on-duplicate last".to_owned(),
        "nothing was imported".to_owned(),
    ] {
        assert!(ran.errors.contains(&says), "{says}: {}", ran.errors);
    }
    assert!(shell.run(&["plan", "--graph", "g", "x"]).errors.contains("there is no graph"));

    let (left, right) = (shell.write("left", &job("a", "l")), shell.write("right", &job("a", "r")));
    for more in [&[][..], &["--sync", ""], &["--dry-run"]] {
        let ran = import(&shell, &[more, &[&left, &right]].concat());
        let says = format!("{right}:1: job `a` differs from the job of that name at {left}:1");
        assert!(ran.code == 1 && ran.errors.contains(&says), "{ran:?}");
    }
    // The changesets before the one that it is in are in.
    let ran = import(&shell, &["--chunk-jobs", "1", &one]);
    assert!(ran.errors.contains("the 2 jobs before it are in, now version 2"), "{}", ran.errors);
    assert!(has(&shell, "first") && !has(&shell, "second"));
}

#[test]
fn documents_of_one_name_in_two_folders_do_not_overwrite_each_other() {
    let shell = Shell::new();
    for folder in ["a", "b"] {
        std::fs::create_dir(shell.path(folder)).unwrap();
    }
    let (first, second) =
        (shell.write("a/flow.json", &document("u")), shell.write("b/flow.json", &document("v")));
    let ran = import(&shell, &[&first, &second]);
    let says = format!("{second}:2: job `flow/t` differs from the job of that name at {first}:2");
    assert!(ran.code == 1 && ran.errors.contains(&says), "{ran:?}");
    // Endings do not tell names apart.
    let other = shell.write("a/flow.txt", &document("v"));
    assert!(import(&shell, &[&first, &other]).errors.contains("`flow/t` differs"));
    let same = shell.write("b/flow.json", &document("u"));
    let ran = import(&shell, &[&first, &same]);
    assert_eq!(ran.result, "skipped 1 identical repeats\nimported 1 jobs, now version 1\n");
}

#[test]
fn jobs_that_come_again_as_they_were_are_counted_and_pass() {
    let shell = Shell::new();
    let file = fixture("bakery.ndjson");
    for chunk in ["1", "2", "10000"] {
        let ran = import(&shell, &["--chunk-jobs", chunk, &file, &file]);
        assert_eq!(ran.code, 0, "{}", ran.errors);
        assert!(ran.result.starts_with("skipped 3 identical repeats\nimported 3 jobs"), "{ran:?}");
    }
    // Spelled in another way, it is the same job.
    let text = "{\"name\":\"a\",\"inputs\":[\"x\",\"y\"],\"outputs\":[],\"spec\":{\"k\":1,\"l\":2}}\n\
        {\"spec\":{\"l\":2, \"k\":1},\"outputs\":[],\"inputs\":[\"y\",\"x\",\"y\"],\"name\":\"\\u0061\"}\n";
    let ran = import(&shell, &[&shell.write("spelled", text)]);
    assert!(ran.result.starts_with("skipped 1 identical repeats\nimported 1 jobs"), "{ran:?}");
    // What stands in one place is not what stands in the other.
    for (n, pair) in [
        [r#""inputs":["x"],"outputs":[]"#, r#""inputs":[],"outputs":["x"]"#],
        [r#""inputs":["x","y"],"outputs":[]"#, r#""inputs":["xy"],"outputs":[]"#],
        [
            r#""inputs":[],"outputs":[],"spec":{"k":1}"#,
            r#""inputs":[],"outputs":[],"spec":{"k":1.0}"#,
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let lines = pair.map(|rest| format!("{{\"name\":\"n{n}\",{rest}}}\n")).concat();
        let ran = import(&shell, &[&shell.write("different", &lines)]);
        assert!(
            ran.code == 1 && ran.errors.contains("differs from the job of that name"),
            "{ran:?}"
        );
    }
}

#[test]
fn the_last_of_a_name_counts_if_that_is_asked_for() {
    for chunk in ["1", "10000"] {
        let shell = Shell::new();
        let text =
            [job("a", "one"), job("b", "b"), job("a", "two"), job("a", "one"), job("a", "one")];
        let file = shell.write("file", &text.concat());
        let ran = import(&shell, &["--on-duplicate", "last", "--chunk-jobs", chunk, &file]);
        assert_eq!(ran.code, 0, "{}", ran.errors);
        let counts = "skipped 1 identical repeats\nreplaced 2 jobs by later ones of the same name\n\
            imported 2 jobs, now version ";
        assert!(ran.result.starts_with(counts), "{}", ran.result);
        assert!(has(&shell, "one") && has(&shell, "b") && !has(&shell, "two"));
    }
    let shell = Shell::new();
    let files = [shell.write("x", &job("a", "l")), shell.write("y", &job("a", "r"))];
    let ran = import(&shell, &["--on-duplicate", "last", "--sync", "", &files[0], &files[1]]);
    assert!(ran.result.ends_with("imported 1 jobs, now version 1\n"), "{ran:?}");
    assert!(has(&shell, "r") && !has(&shell, "l"));
}

#[test]
fn a_document_whose_name_is_not_utf_8_is_refused_unless_its_name_is_not_used() {
    let shell = Shell::new();
    let names = [&b"flow\xFF.json"[..], b"flow\xFE.json"].map(OsStr::from_bytes);
    for name in names {
        let path = std::path::Path::new(&shell.path("")).join(name);
        std::fs::write(path, document(if name == names[0] { "u" } else { "v" })).unwrap();
    }
    let run = |more: &[&str]| -> Ran {
        let mut command = shell.command("fencepost");
        command.args(["import", "--graph", "g"]).args(more).args(names);
        command.output().unwrap().into()
    };
    let ran = run(&[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for says in ["is not UTF-8", "--namespace none", "nothing was imported"] {
        assert!(ran.errors.contains(says), "{}", ran.errors);
    }
    let ran = run(&["--namespace", "none"]);
    assert!(ran.code == 1 && ran.errors.contains("job `t` differs"), "{ran:?}");
    assert_eq!(run(&["--namespace", "none", "--on-duplicate", "last"]).code, 0);
}
