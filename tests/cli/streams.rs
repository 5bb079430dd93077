//! Paths that can be read only once, in every command that reads: pipes of `<(…)`, FIFOs,
//! `/dev/stdin` and `-`. And paths that cannot be read.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use super::{Ran, Shell, fixture};

/// How the text of a file is given to a command that takes a path, which `PATH` stands for.
const WAYS: [&str; 6] = [
    "PATH_IS_FILE",
    "COMMAND <(cat FILE)",
    "COMMAND /dev/stdin < FILE",
    "cat FILE | COMMAND /dev/stdin",
    "cat FILE | COMMAND -",
    "rm -f fifo; mkfifo fifo; cat FILE > fifo 2> /dev/null & COMMAND fifo",
];

/// Runs `command PATH` in every way; `prefix` stands before the path.
fn in_every_way(shell: &Shell, command: &str, prefix: &str, file: &str, check: impl Fn(&str, Ran)) {
    for way in WAYS {
        let script = match way {
            "PATH_IS_FILE" => format!("{command} {prefix}{file}"),
            // A scheme such as `file:` stands before a path, and not before `-`.
            way => way
                .replace("COMMAND -", &format!("{command} -"))
                .replace("COMMAND ", &format!("{command} {prefix}"))
                .replace(&format!("{command} {prefix}-"), &format!("{command} -"))
                .replace("FILE", file),
        };
        check(way, shell.bash(&script));
    }
}

fn lines(count: usize) -> String {
    let line = |n| format!("{{\"name\":\"job-{n}\",\"inputs\":[],\"outputs\":[\"out-{n}\"]}}\n");
    (0..count).map(line).collect()
}

#[test]
fn jobs_are_read_whole_from_whatever_can_be_read_once() {
    let shell = Shell::new();
    // More than a pipe holds, and than is read at once.
    let many = lines(40_000);
    let ndjson = shell.write("many.ndjson", &many);
    in_every_way(&shell, "fencepost import --graph many", "", &ndjson, |way, ran| {
        assert_eq!(ran.code, 0, "{way}: {}", ran.errors);
        assert!(ran.result.starts_with("imported 40000 jobs"), "{way}: {}", ran.result);
    });
    let sync = "fencepost import --graph many --sync ''";
    in_every_way(&shell, sync, "", &ndjson, |way, ran| {
        assert_eq!(ran.code, 0, "{way}: {}", ran.errors);
        assert!(ran.result.starts_with("imported 40000 jobs"), "{way}: {}", ran.result);
    });
    let document = std::fs::read_to_string(fixture("align.json")).unwrap();
    let one_line: serde_json::Value = serde_json::from_str(&document).unwrap();
    for (name, text) in [("align.json", document), ("line.json", one_line.to_string())] {
        let file = shell.write(name, &text);
        let command = format!("fencepost import --graph {name} --namespace none");
        in_every_way(&shell, &command, "", &file, |way, ran| {
            let expected = (0, "imported 5 jobs, now version 1\n");
            assert_eq!((ran.code, &*ran.result), expected, "{way}: {}", ran.errors);
        });
    }
    let files = [shell.write("a", &lines(3)), shell.write("b", &lines(5)[lines(3).len()..])];
    let script = format!("fencepost import --graph two <(cat {}) <(cat {})", files[0], files[1]);
    assert_eq!(shell.bash(&script).result, "imported 5 jobs, now version 1\n");
}

#[test]
fn names_of_a_document_from_a_pipe_are_said_to_begin_with_the_pipes() {
    let shell = Shell::new();
    let script = format!("cat {} | fencepost import --graph g -", fixture("align.json"));
    let ran = shell.bash(&script);
    assert_eq!(ran.result, "imported 5 jobs, now version 1\n", "{}", ran.errors);
    assert!(ran.errors.contains("begin with `-/`. With --namespace none"), "{}", ran.errors);
    assert_eq!(shell.run(&["plan", "--graph", "g", "--", "-/all.bam"]).code, 0);
}

#[test]
fn a_log_of_events_is_restored_and_verified_from_whatever_can_be_read_once() {
    let shell = Shell::new();
    let many = shell.write("many", &lines(2_000));
    assert_eq!(shell.run(&["import", "--graph", "g", "--chunk-jobs", "100", &many]).code, 0);
    let log = shell.path("log");
    assert_eq!(shell.run(&["export", "--graph", "g", "--to", &format!("file:{log}")]).code, 0);
    let verify = "fencepost verify --graph g --from";
    in_every_way(&shell, verify, "file:", &log, |way, ran| {
        assert_eq!(ran.code, 0, "{way}: {}", ran.errors);
        assert!(ran.result.starts_with("valid: 2002 events"), "{way}: {}", ran.result);
    });
    for format in ["auto", "events"] {
        let database = "sqlite:$(mktemp -u restored.XXXXXX)";
        let command =
            format!("fencepost --database-url {database} import --graph g --format {format}");
        in_every_way(&shell, &command, "", &log, |way, ran| {
            let expected = (0, "imported 2000 jobs, now version 20\n");
            assert_eq!((ran.code, &*ran.result), expected, "{way}: {}", ran.errors);
        });
    }
}

#[test]
fn an_export_that_resumes_and_a_freeze_want_a_file_that_can_be_read_again() {
    let shell = Shell::new();
    let file = shell.write("file", &lines(3));
    assert_eq!(shell.run(&["import", "--graph", "g", &file]).code, 0);
    for script in [
        "fencepost export --graph g --to file:>(cat)",
        "fencepost freeze --graph g --sink file:<(cat file)",
        "mkfifo fifo; fencepost export --graph g --to file:fifo",
    ] {
        let ran = shell.bash(script);
        assert!(ran.code == 1 && ran.errors.contains("it is a pipe or a device"), "{ran:?}");
    }
    let ran = shell.bash("fencepost export --graph g --to - | fencepost verify --graph g --from -");
    assert!(ran.code == 0 && ran.result.starts_with("valid: 5 events"), "{ran:?}");
    let ran = shell.bash("fencepost freeze --graph g --sink -");
    assert!(ran.code == 2 && ran.errors.contains("can be read only once"), "{ran:?}");
    let ran = shell.bash(
        "fencepost export --graph g --to - | head -c 1000 | fencepost verify --graph g --from -",
    );
    assert!(ran.code == 1 && ran.errors.contains("standard input: line"), "{ran:?}");
    assert_eq!(shell.run(&["import", "--graph", "g", &file]).code, 0, "nothing was frozen");
}

#[test]
fn histories_are_recorded_to_and_checked_from_whatever_can_be_read_once() {
    let shell = Shell::new();
    let drive = "fencepost bench drive --graph g --workload conflict --requests 300 --history";
    // The shell does not wait for what is in >(…); a FIFO is waited for.
    let ran =
        shell.bash(&format!("mkfifo pipe; cat pipe > history 2> /dev/null & {drive} pipe && wait"));
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let history = shell.path("history");
    in_every_way(&shell, "fencepost check", "", &history, |way, ran| {
        assert_eq!(ran.code, 0, "{way}: {ran:?}");
        assert!(ran.result.starts_with("valid: 301 operations"), "{way}: {}", ran.result);
    });
    let change = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{}\n", serde_json::json!({"version": line["version"], "facts": line["facts"]}))
    };
    let log = shell.run(&["log", "--graph", "g", "--format", "json"]).result;
    let changes = shell.write("changes", &log.lines().map(change).collect::<String>());
    let check = "fencepost check history --changes";
    in_every_way(&shell, check, "", &changes, |way, ran| {
        assert_eq!(ran.code, 0, "{way}: {ran:?}");
    });
}

#[test]
fn what_can_be_read_once_is_not_given_twice() {
    let shell = Shell::new();
    shell.write("file", &lines(3));
    for (script, says) in [
        ("fencepost import --graph g - - < file", "`-` is given twice"),
        ("cat file | fencepost import --graph g - -", "`-` is given twice"),
        (
            "cat file | fencepost import --graph g - /dev/stdin",
            "`-` and `/dev/stdin` lead to the same",
        ),
        ("fencepost import --graph g file - < file", "`file` and `-` lead to the same"),
        ("mkfifo fifo; fencepost import --graph g fifo file fifo", "`fifo` is given twice"),
        (
            "fencepost import --graph g --sync '' /dev/null file /dev/null",
            "`/dev/null` is given twice",
        ),
        // A history that is judged twice would be called wrong.
        ("fencepost check file ./file", "`file` and `./file` lead to the same"),
        ("fencepost check - --changes - < file", "`-` is given twice"),
    ] {
        let ran = shell.bash(script);
        assert!(ran.code == 2 && ran.errors.contains(says), "{script}: {ran:?}");
    }
    assert!(shell.run(&["plan", "--graph", "g", "d"]).errors.contains("there is no database"));
    // A file can be read again: its jobs are the same.
    let ran = shell.bash("fencepost import --graph g file ./file");
    assert_eq!(ran.result, "skipped 3 identical repeats\nimported 3 jobs, now version 1\n");
}

#[test]
fn a_path_that_cannot_be_read_is_found_before_anything_is_written() {
    let shell = Shell::new();
    let file = shell.write("file", &lines(3));
    let forbidden = shell.write("forbidden", &lines(3));
    let folder = shell.path("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&forbidden, std::os::unix::fs::PermissionsExt::from_mode(0o000))
        .unwrap();
    // Root may read everything unless it gives that up.
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let run = |arguments: &[&str]| -> Ran {
        let mut command = match root {
            true => {
                let mut command = shell.command("setpriv");
                command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
                command.args(["--inh-caps", "-dac_override,-dac_read_search", "fencepost"]);
                command
            }
            false => shell.command("fencepost"),
        };
        command.args(arguments).stdin(Stdio::null()).output().unwrap().into()
    };
    for (path, says) in [
        (&*forbidden, "Permission denied"),
        (&folder, "is a directory; name its files"),
        ("absent", "No such file"),
        ("file/below", "Not a directory"),
    ] {
        for arguments in
            [&["import", "--graph", "g", &file, path][..], &["import", "--graph", "g", path, &file]]
        {
            let ran = run(arguments);
            assert!(ran.code == 1 && ran.errors.contains(says), "{path}: {ran:?}");
            assert!(ran.errors.contains("nothing was imported"), "{path}: {ran:?}");
        }
        assert!(run(&["plan", "--graph", "g", "d"]).errors.contains("there is no database"));
        let ran = run(&["check", path]);
        assert!(ran.code == 1 && ran.errors.contains(says), "{path}: {ran:?}");
    }
    let ran = shell.bash("fencepost import --graph g - < folder");
    assert!(ran.code == 1 && ran.errors.contains("is a directory"), "{ran:?}");
}

#[test]
fn a_file_that_is_nearly_of_a_format_is_told_what_is_wrong_with_it() {
    let shell = Shell::new();
    let job = r#"{"name":"a","inputs":[],"outputs":["x"]}"#;
    let pretty = "{\n  \"name\": \"a\",\n  \"inputs\": [],\n  \"outputs\": []\n}\n";
    let document = std::fs::read_to_string(fixture("align.json")).unwrap();
    for (text, says) in [
        (pretty, ":1: EOF while parsing an object at column 1: one job a line is read; `jq -c .`"),
        (
            &format!("[\n{job}\n]\n"),
            ":1: expected one job as an object, found a list; `jq -c '.[]'`",
        ),
        (&format!("[{job}]"), ":1: expected one job as an object, found a list"),
        (
            &format!("{job},\n{job}\n"),
            ":1: trailing characters at column 41: no comma follows a job",
        ),
        (&format!("\u{feff}{job}\n"), ":1: the file begins with a byte order mark"),
        (&format!("\u{feff}{document}"), ":1: the file begins with a byte order mark"),
        (&format!("{job}\n\u{feff}{job}\n"), ":2: the line begins with a byte order mark"),
        (&format!("{document}\n{document}"), ":54: no WfFormat document: trailing characters"),
        (&document[..document.len() / 2], ":26: no WfFormat document: EOF while parsing"),
    ] {
        let file = shell.write("file", text);
        let ran = shell.run(&["import", "--graph", "g", &file]);
        assert!(ran.code == 1 && ran.errors.contains(&format!("{file}{says}")), "{says}: {ran:?}");
    }
    std::fs::write(shell.path("utf16"), [0xFF, 0xFE, b'{', 0]).unwrap();
    assert!(shell.run(&["import", "--graph", "g", "utf16"]).errors.contains("mark of UTF-16"));
    std::fs::write(shell.path("latin"), document.replace("split", "spl\u{fffd}t")).unwrap();
    let mut latin = document.into_bytes();
    let at = latin.iter().position(|byte| *byte == b'2').unwrap();
    latin[at] = 0xE9;
    std::fs::write(shell.path("latin"), latin).unwrap();
    let ran = shell.run(&["import", "--graph", "g", "latin"]);
    assert!(ran.errors.contains("no WfFormat document: it is not UTF-8"), "{ran:?}");
    let list = shell.write("list", "\n[]");
    let ran = shell.run(&["import", "--graph", "g", "--format", "wfformat", &list]);
    assert!(ran.errors.contains("list:2: no WfFormat document: expected an object"), "{ran:?}");
}
