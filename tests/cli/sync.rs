//! `fencepost import --sync` and `--dry-run`: what is refused before anything is written, and what
//! is told.

use std::path::Path;
use std::process::{Child, Stdio};

use super::{Ran, Shell};
use crate::support::cluster::wait_until;

fn jobs(names: &[&str]) -> String {
    let line = |name: &&str| {
        format!("{{\"name\":\"{name}\",\"inputs\":[],\"outputs\":[\"{name}.out\"]}}\n")
    };
    names.iter().map(line).collect()
}

const TEAM: [&str; 5] = ["other/x", "team/a", "team/b", "team/c", "team/d"];

/// A graph `g` at version 1 with the jobs of [`TEAM`].
fn shell() -> Shell {
    let shell = Shell::new();
    assert_eq!(shell.run_with_input(&["import", "--graph", "g", "-"], &jobs(&TEAM)).code, 0);
    shell
}

/// Which of these jobs are in the graph.
fn there<'n>(shell: &Shell, names: &[&'n str]) -> Vec<&'n str> {
    let is_there =
        |name: &&&str| shell.run(&["plan", "--graph", "g", &format!("{name}.out")]).code == 0;
    names.iter().filter(is_there).copied().collect()
}

fn version(shell: &Shell) -> usize {
    shell.run(&["log", "--graph", "g"]).result.lines().count()
}

#[track_caller]
fn refused(shell: &Shell, ran: &Ran, says: &[&str]) {
    assert_eq!((ran.code, ran.result.as_str()), (1, ""), "{ran:?}");
    for part in says.iter().chain(&["nothing was imported"]) {
        assert!(ran.errors.contains(part), "{part}: {}", ran.errors);
    }
    assert_eq!((there(shell, &TEAM), version(shell)), (TEAM.to_vec(), 1));
}

fn sync(shell: &Shell, arguments: &[&str], input: &str) -> Ran {
    shell.run_with_input(&[&["import", "--graph", "g", "--sync"], arguments].concat(), input)
}

#[test]
fn any_file_without_a_job_refuses_a_sync_unless_it_is_allowed() {
    let shell = shell();
    let (empty, blank) = (shell.write("empty", ""), shell.write("blank", "\n \r\n\n"));
    let no_tasks = shell
        .write("none.json", r#"{"schemaVersion":"1.5","workflow":{"specification":{"tasks":[]}}}"#);
    let whole = shell.write("whole", &jobs(&TEAM[1..]));
    for nothing in [&empty, &blank, &no_tasks, "/dev/null"] {
        let says = [nothing, "holds no job", "--allow-empty"];
        for paths in [&[nothing][..], &[&whole, nothing], &[nothing, &whole]] {
            refused(&shell, &sync(&shell, &[&["team/"], paths].concat(), ""), &says);
        }
        // Without it, there is nothing to lose.
        assert_eq!(shell.run(&["import", "--graph", "g", nothing]).code, 0);
    }
    refused(&shell, &sync(&shell, &["", "-"], ""), &["-: holds no job"]);
    refused(&shell, &shell.bash("fencepost import --graph g --sync '' <(cat absent)"), &["no job"]);
    let ran = sync(&shell, &["team/", "--allow-empty", &whole, &empty], "");
    assert_eq!(ran.result, "imported 4 jobs, now version 1\n", "{}", ran.errors);
    // How many may go is another question.
    let ran = sync(&shell, &["team/", "--allow-empty", &empty], "");
    refused(&shell, &ran, &["would delete 4 of the 4 jobs"]);
    let ran = sync(&shell, &["team/", "--allow-empty", "--max-delete", "4", &empty], "");
    assert_eq!(ran.result, "deleted 4 jobs\nimported 0 jobs, now version 2\n", "{}", ran.errors);
    assert_eq!(there(&shell, &TEAM), ["other/x"]);
}

#[test]
fn a_job_outside_the_prefix_refuses_a_sync_unless_it_is_allowed() {
    let shell = shell();
    let input = jobs(&["team/a", "team/b", "taem/c", "taem/d"]);
    let says =
        ["-:3: ", "`taem/c` does not begin with `team/`", "such names: 2)", "--allow-outside"];
    refused(&shell, &sync(&shell, &["team/", "-"], &input), &says);
    let ran = sync(&shell, &["team/", "--allow-outside", "-"], &input);
    assert_eq!(ran.result, "deleted 2 jobs\nimported 4 jobs, now version 2\n", "{}", ran.errors);
    assert_eq!(
        there(&shell, &["other/x", "team/a", "team/c", "taem/c", "taem/d"]),
        ["other/x", "team/a", "taem/c", "taem/d"]
    );
}

#[test]
fn a_sync_deletes_half_of_what_is_under_its_prefix_at_most_unless_told_otherwise() {
    let shell = shell();
    let one = jobs(&["team/a"]);
    let says = [
        "--sync `team/` would delete 3 of the 4 jobs under it (`team/b`, `team/c`, `team/d`)",
        "at most 2 may be deleted",
        "--max-delete 3",
    ];
    refused(&shell, &sync(&shell, &["team/", "-"], &one), &says);
    for (most, says) in [("0", "at most 0 may be deleted"), ("2", "at most 2 may be deleted")] {
        refused(&shell, &sync(&shell, &["team/", "--max-delete", most, "-"], &one), &[says]);
    }
    let ran = sync(&shell, &["team/", "--max-delete", "3", "-"], &one);
    assert_eq!(ran.result, "deleted 3 jobs\nimported 1 jobs, now version 2\n", "{}", ran.errors);
    // One is more than half of one.
    let ran = sync(&shell, &["team/", "-"], &jobs(&["team/z"]));
    assert!(ran.code == 1 && ran.errors.contains("would delete 1 of the 1 jobs"), "{ran:?}");
    let ran = sync(&shell, &["team/", "--max-delete", "1", "-"], &jobs(&["team/z"]));
    assert_eq!(ran.result, "deleted 1 jobs\nimported 1 jobs, now version 3\n", "{}", ran.errors);
    // Of three, one may go.
    let ran = sync(&shell, &["team/", "-"], &jobs(&["team/x", "team/y", "team/z"]));
    assert_eq!(ran.result, "imported 3 jobs, now version 4\n", "{}", ran.errors);
    let ran = sync(&shell, &["team/", "-"], &jobs(&["team/z"]));
    assert!(ran.code == 1 && ran.errors.contains("would delete 2 of the 3 jobs"), "{ran:?}");
    let ran = sync(&shell, &["team/", "-"], &jobs(&["team/y", "team/z"]));
    assert_eq!(ran.result, "deleted 1 jobs\nimported 2 jobs, now version 5\n", "{}", ran.errors);
}

#[test]
fn a_sync_of_torn_input_changes_nothing() {
    let shell = shell();
    let whole = jobs(&TEAM[1..]);
    let torn = &whole[..whole.len() - 10];
    let says = ["-:4: EOF while parsing", "the input ends within this line"];
    refused(&shell, &sync(&shell, &["team/", "-"], torn), &says);
    // Only its line feed is missing: the last line is whole.
    let ran = sync(&shell, &["team/", "-"], whole.trim_end());
    assert_eq!(ran.result, "imported 4 jobs, now version 1\n", "{}", ran.errors);
}

/// A sync of `team/` that has found 2 of 4 jobs to be few enough to go, and waits until the first
/// path is gone. It stops at the second if it judges again.
fn judged(shell: &Shell) -> (Child, String, String) {
    let file = shell.write("file", &jobs(&["team/a", "team/b"]));
    let (held, again) = (shell.path("held"), shell.path("again"));
    let child = shell
        .command("fencepost")
        .args(["import", "--graph", "g", "--sync", "team/", &file])
        .env(
            "FENCEPOST_FAILPOINTS",
            format!("sync-judged=pause:{held},sync-judged-again=pause:{again}"),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("2 of 4 were found to be few enough", || Path::new(&held).exists());
    (child, held, again)
}

#[test]
fn what_may_go_is_counted_again_when_others_write_under_the_prefix_meanwhile() {
    let shell = shell();
    let (child, held, _) = judged(&shell);
    let more = jobs(&["team/e", "team/f", "team/g"]);
    assert_eq!(shell.run_with_input(&["import", "--graph", "g", "-"], &more).code, 0);
    std::fs::remove_file(&held).unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!((ran.code, ran.result.as_str()), (1, ""), "{ran:?}");
    assert!(ran.errors.contains("would delete 5 of the 7 jobs"), "{}", ran.errors);
    assert_eq!((there(&shell, &TEAM), version(&shell)), (TEAM.to_vec(), 2));
}

#[test]
fn a_job_that_others_changed_or_deleted_meanwhile_is_judged_again_and_nothing_is_lost() {
    let change = "{\"name\":\"team/d\",\"inputs\":[],\"outputs\":[],\"spec\":{\"x\":1}}\n";
    let others = [
        (&["-"][..], change, "deleted 2 jobs\nimported 2 jobs, now version 3\n"),
        (&["--sync", "team/d", "--allow-empty", "--max-delete", "1", "-"], "", {
            "deleted 1 jobs\nimported 2 jobs, now version 3\n"
        }),
    ];
    for (arguments, input, expected) in others {
        let shell = shell();
        let (child, held, again) = judged(&shell);
        let other = [&["import", "--graph", "g"], arguments].concat();
        assert_eq!(shell.run_with_input(&other, input).code, 0);
        std::fs::remove_file(&held).unwrap();
        wait_until("it is judged again", || Path::new(&again).exists());
        std::fs::remove_file(&again).unwrap();
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!((ran.code, ran.result.as_str()), (0, expected), "{ran:?}");
    }
}

#[test]
fn writes_that_do_not_concern_a_sync_do_not_hold_it_up() {
    let shell = shell();
    let (mut child, held, again) = judged(&shell);
    // Beside the prefix, and a job that the files hold: that is put anyway.
    let theirs = "{\"name\":\"team/a\",\"inputs\":[\"x\"],\"outputs\":[]}\n";
    let more = jobs(&["other/y", "tea", "team0"]) + theirs;
    assert_eq!(shell.run_with_input(&["import", "--graph", "g", "-"], &more).code, 0);
    std::fs::remove_file(&held).unwrap();
    wait_until("it ends, or is judged again", || {
        child.try_wait().unwrap().is_some() || Path::new(&again).exists()
    });
    assert!(!Path::new(&again).exists(), "it was judged again");
    let ran: Ran = child.wait_with_output().unwrap().into();
    let expected = "deleted 2 jobs\nimported 2 jobs, now version 3\n";
    assert_eq!((ran.code, ran.result.as_str()), (0, expected), "{ran:?}");
    let all = ["other/x", "other/y", "tea", "team/a", "team/b", "team/c", "team/d", "team0"];
    let left = ["other/x", "other/y", "tea", "team/a", "team/b", "team0"];
    assert_eq!(there(&shell, &all), left);
}

#[test]
fn a_sync_into_a_new_graph_that_is_refused_leaves_no_graph_behind() {
    let shell = Shell::new();
    let cycle = "{\"name\":\"a\",\"inputs\":[\"x\"],\"outputs\":[\"x\"]}\n";
    for (arguments, input, says) in [
        (&[""][..], "", "holds no job"),
        (&["team/"], &*jobs(&["other"]), "does not begin with"),
        (&[""], cycle, "-:1: the jobs would form a cycle"),
    ] {
        let ran = sync(&shell, &[arguments, &["-"]].concat(), input);
        assert!(ran.code == 1 && ran.errors.contains(says), "{ran:?}");
        let ran = shell.run(&["plan", "--graph", "g", "d"]);
        assert!(ran.errors.contains("there is no graph `g`"), "{says}: {}", ran.errors);
    }
    let ran = sync(&shell, &["team/", "-"], &jobs(&["team/a"]));
    assert_eq!(ran.result, "imported 1 jobs, now version 1\n", "{}", ran.errors);
}

#[test]
fn what_only_a_sync_needs_is_wrong_usage_without_it() {
    let shell = Shell::new();
    for option in [&["--allow-empty"][..], &["--allow-outside"], &["--max-delete", "1"]] {
        let ran = shell.run(&[&["import", "--graph", "g"], option, &["-"]].concat());
        assert!(ran.code == 2 && ran.errors.contains("--sync"), "{ran:?}");
    }
}

#[test]
fn a_dry_run_tells_what_a_sync_would_do_and_writes_nothing() {
    let shell = shell();
    let changed =
        "{\"name\":\"team/b\",\"inputs\":[\"team/a.out\"],\"outputs\":[\"team/b.out\"]}\n";
    let new: Vec<String> = (0..12).map(|n| format!("team/new{n:02}")).collect();
    let new: Vec<&str> = new.iter().map(String::as_str).collect();
    let input = jobs(&["team/a", "team/d"]) + changed + &jobs(&new) + changed;
    let ran = sync(&shell, &["team/", "--dry-run", "-"], &input);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    assert_eq!(
        ran.result,
        "skipped 1 identical repeats\n\
         would create 12 jobs: `team/new00`, `team/new01`, `team/new02`, `team/new03`, `team/new04`, \
         `team/new05`, `team/new06`, `team/new07`, `team/new08`, `team/new09`, and 2 more\n\
         would change 1 jobs: `team/b`\n\
         would delete 1 jobs: `team/c`\n\
         would leave 2 jobs as they are\n\
         judged at version 1; nothing was written\n"
    );
    assert_eq!((there(&shell, &TEAM), version(&shell)), (TEAM.to_vec(), 1));
    let ran = sync(&shell, &["team/", "-"], &input);
    assert!(ran.result.ends_with(
        "deleted 1 jobs\nskipped 1 identical repeats\nimported 15 jobs, now version 2\n"
    ));
}

#[test]
fn a_dry_run_that_would_be_refused_says_so_and_what_it_would_do() {
    let shell = shell();
    let one = jobs(&["team/a"]);
    let two = jobs(&["team/a", "other/y"]);
    for (arguments, input, told, says) in [
        (
            &["team/"][..],
            &*one,
            "would delete 3 jobs: `team/b`, `team/c`, `team/d`",
            "--max-delete 3",
        ),
        (
            &["team/", "--max-delete", "3"],
            &two,
            "would create 1 jobs: `other/y`",
            "does not begin with",
        ),
        (&["team/", "--max-delete", "4"], "", "would delete 4 jobs", "holds no job"),
    ] {
        let ran = sync(&shell, &[arguments, &["--dry-run", "-"]].concat(), input);
        assert!(ran.code == 1 && ran.result.contains(told), "{ran:?}");
        assert!(ran.errors.contains(says), "{}", ran.errors);
    }
    let second = "{\"name\":\"new\",\"inputs\":[],\"outputs\":[\"team/a.out\"]}\n";
    let ran = shell.run_with_input(&["import", "--graph", "g", "--dry-run", "-"], second);
    assert_eq!((ran.code, &*ran.result), (1, "judged at version 1; nothing was written\n"));
    assert!(ran.errors.contains("-:1: dataset `team/a.out` has a producer already"), "{ran:?}");
    let ran = shell.run_with_input(&["import", "--graph", "g", "--dry-run", "-"], "nonsense\n");
    assert!(ran.code == 1 && ran.errors.contains("-:1: expected"), "{ran:?}");
    assert_eq!(shell.run(&["freeze", "--graph", "g"]).code, 0);
    let ran = shell.run_with_input(&["import", "--graph", "g", "--dry-run", "-"], &one);
    assert!(ran.code == 1 && ran.errors.contains("is frozen"), "{ran:?}");
    assert_eq!((there(&shell, &TEAM), version(&shell)), (TEAM.to_vec(), 1));
}

#[test]
fn a_dry_run_judges_all_files_as_one_changeset_and_creates_no_graph() {
    let shell = Shell::new();
    // The second file makes the first legal: together they are, in pieces they are not.
    let first = shell.write("first", "{\"name\":\"old\",\"inputs\":[],\"outputs\":[\"d\"]}\n");
    assert_eq!(shell.run(&["import", "--graph", "h", &first]).code, 0);
    let takes = shell.write("takes", "{\"name\":\"new\",\"inputs\":[],\"outputs\":[\"d\"]}\n");
    let gives = shell.write("gives", "{\"name\":\"old\",\"inputs\":[],\"outputs\":[]}\n");
    let ran = shell.run(&["import", "--graph", "h", "--dry-run", &takes, &gives]);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    assert_eq!(
        ran.result,
        "would create 1 jobs: `new`\nwould change 1 jobs: `old`\nwould delete 0 jobs\n\
         would leave 0 jobs as they are\njudged at version 1; nothing was written\n"
    );
    let ran = shell.run(&["import", "--graph", "g", "--dry-run", &first]);
    assert_eq!(
        (ran.code, ran.result.as_str()),
        (
            0,
            "would create graph `g`\nwould create 1 jobs: `old`\nwould change 0 jobs\n\
             would delete 0 jobs\nwould leave 0 jobs as they are\nnothing was written\n"
        )
    );
    assert!(shell.run(&["plan", "--graph", "g", "d"]).errors.contains("there is no graph `g`"));
}
