//! `fencepost check` as a person runs it, on what `fencepost bench drive` recorded.

use diesel::prelude::*;
use fencepost::db::schema::{changes, jobs};
use serde_json::{Value, json};

use super::script::*;
use crate::cli::Shell;

const DATABASE: [&str; 2] = ["--database-url", "sqlite:graphs.db"];

fn drive(shell: &Shell, history: &str, workload: &str) {
    let bench = ["bench", "drive", "--graph", "g", "--history", history, "--workload"];
    let ran =
        shell.run(&[&DATABASE[..], &bench, &workload.split(' ').collect::<Vec<_>>()].concat());
    assert_eq!(ran.code, 0, "{}", ran.errors);
}

fn check(shell: &Shell, arguments: &[&str]) -> crate::cli::Ran {
    shell.run(&[&DATABASE[..], &["check"], arguments].concat())
}

#[test]
fn what_was_recorded_is_valid_and_is_what_is_stored() {
    let shell = Shell::new();
    drive(&shell, "first", "conflict --requests 300");
    let ran = check(&shell, &["first"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.result.starts_with("valid: 301 operations, versions 0 to "), "{}", ran.result);
    drive(&shell, "second", "mixed --requests 100 --write-percent 50 --revalidate-percent 50");
    // It begins in the middle, so it takes the log, or what was before.
    let ran = check(&shell, &["second"]);
    assert_eq!((ran.code, ran.result.starts_with("undecided at version")), (1, true), "{ran:?}");
    assert_eq!(check(&shell, &["first", "second"]).code, 0);
    assert_eq!(check(&shell, &["--stored", "first", "second"]).code, 0);
    // And the first alone does not explain all that is stored.
    let ran = check(&shell, &["--stored", "first"]);
    assert_eq!((ran.code, ran.result.starts_with("anomaly: phantom-change")), (1, true), "{ran:?}");
    let verdict = shell
        .run(&[&DATABASE[..], &["check", "--format", "json", "--stored", "first"]].concat())
        .result;
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!(
        (&verdict["verdict"], &verdict["finding"]["kind"]),
        (&json!("anomaly"), &json!("phantom-change"))
    );
}

#[test]
fn what_is_stored_must_be_what_was_answered_to_the_byte() {
    let shell = Shell::new();
    drive(&shell, "history", "register --requests 20");
    let mut connection = SqliteConnection::establish(&shell.path("graphs.db")).unwrap();
    let kind = |shell: &Shell| check(shell, &["--stored", "history"]).result;
    assert!(kind(&shell).starts_with("valid: 20 operations"));

    let spec =
        jobs::table.select((jobs::id, jobs::spec)).first::<(i64, String)>(&mut connection).unwrap();
    let update = diesel::update(jobs::table.filter(jobs::id.eq(spec.0)));
    update.set(jobs::spec.eq("{\"other\":1}")).execute(&mut connection).unwrap();
    assert!(kind(&shell).starts_with("anomaly: rows-differ at version 20"), "{}", kind(&shell));
    diesel::update(jobs::table.filter(jobs::id.eq(spec.0)))
        .set(jobs::spec.eq(spec.1))
        .execute(&mut connection)
        .unwrap();

    let row = changes::table.filter(changes::version.eq(7));
    let (text, chain): (String, Vec<u8>) =
        row.select((changes::change, changes::chain)).first(&mut connection).unwrap();
    let set_text = |connection: &mut SqliteConnection, text: &str| {
        diesel::update(changes::table.filter(changes::version.eq(7)))
            .set(changes::change.eq(text))
            .execute(connection)
            .unwrap()
    };
    set_text(&mut connection, &text.replace("{\"facts\"", "{ \"facts\""));
    assert!(kind(&shell).starts_with("anomaly: log-differs at version 7"), "{}", kind(&shell));
    set_text(&mut connection, &text);
    let mut other = chain;
    other[0] ^= 1;
    diesel::update(row).set(changes::chain.eq(other)).execute(&mut connection).unwrap();
    assert!(kind(&shell).starts_with("anomaly: chain-broken at version 7"), "{}", kind(&shell));
    diesel::delete(changes::table.filter(changes::version.eq(20)))
        .execute(&mut connection)
        .unwrap();
    assert!(kind(&shell).starts_with("anomaly: lost-write at version 20"), "{}", kind(&shell));
}

#[test]
fn bad_files_wrong_usage_and_absent_graphs_have_their_exit_codes() {
    let shell = Shell::new();
    let valid = Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1)).text();
    let file = shell.write("history", &valid);
    let log = shell.write("log", &lines(&[logged_job(1, "a")]));
    let codes = |arguments: &[&str]| {
        let ran = check(&shell, arguments);
        (ran.code, ran.errors)
    };
    assert_eq!(codes(&["--changes", &log, &file]).0, 0);
    assert_eq!(codes(&[]).0, 2);
    assert_eq!(codes(&["--stored", "--changes", &log, &file]).0, 2);
    let (code, errors) = codes(&["absent"]);
    assert!(code == 1 && errors.contains("absent: No such file"), "{errors}");
    let (code, errors) = codes(&["--stored", &file]);
    assert!(code == 3 && errors.contains("there is no database sqlite:graphs.db"), "{errors}");
    assert_eq!(shell.run(&[&DATABASE[..], &["migrate"]].concat()).code, 0);
    let (code, errors) = codes(&["--stored", &file]);
    assert!(code == 1 && errors.contains("graph `g`: is not in the database"), "{errors}");
    let cut_off = shell.write("cut-off", valid.lines().next().unwrap());
    let (code, errors) = codes(&[&cut_off]);
    assert!(code == 1 && errors.contains("the run was cut off"), "{errors}");
}

#[test]
fn a_history_on_a_prepared_graph_is_judged_from_an_export_of_it() {
    let shell = Shell::new();
    drive(&shell, "before", "conflict --requests 300");
    let export = || {
        shell.run(
            &[&DATABASE[..], &["export", "--graph", "g", "--to", "file:base", "--no-consumer"]]
                .concat(),
        )
    };
    assert_eq!(export().code, 0, "{}", export().errors);
    drive(&shell, "history", "conflict --requests 300 --seed 2");
    for further in [&[][..], &["--stored"]] {
        let ran = check(&shell, &[further, &["--base", "base", "history"]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.result.starts_with("valid: 301 operations, versions "), "{}", ran.result);
    }
    // Exported again it goes on with the changes since, which are not looked at.
    assert_eq!(export().code, 0);
    assert_eq!(check(&shell, &["--base", "base", "history"]).code, 0);
    // But they lead to where a later history begins.
    drive(&shell, "later", "conflict --requests 50 --seed 3");
    let ran = check(&shell, &["--stored", "--base", "base", "later"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = check(&shell, &["--base", "history", "history"]);
    assert!(ran.code == 2 && ran.errors.contains("given twice"), "{}", ran.errors);
    let ran = check(&shell, &["--base", "before", "history"]);
    assert!(ran.code == 1 && ran.errors.contains("before:1: no event"), "{}", ran.errors);
    // Another graph of that version is not the one that the history began with.
    let text = std::fs::read_to_string(shell.path("history")).unwrap();
    let begin = text.split("\"initial_version\":").nth(1).unwrap();
    let begin: u64 = begin.split([',', '}']).next().unwrap().parse().unwrap();
    let fact = |version: u64| {
        format!(
            r#"{{"type":"dev.fencepost.changed.v1","graphversion":{version},"chainhash":"{}","data":{{"version":{version},"facts":[{{"fact":"dataset_declared","name":"n{version}","metadata":{{}}}}]}}}}"#,
            "0".repeat(64)
        )
    };
    let other: String = (1..=begin).map(|version| fact(version) + "\n").collect();
    shell.write("other", &other);
    let ran = check(&shell, &["--base", "other", "history"]);
    assert!(ran.code == 1 && ran.result.starts_with("anomaly: "), "{ran:?}");
}

#[test]
fn a_finding_fits_a_screen_and_the_rest_of_it_is_in_a_file() {
    let shell = Shell::new();
    let names: Vec<String> = (0..100).map(|n| format!("dataset/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = Script::new()
        .call(0, [1, 2], put_job("a", &names, &[]), created(1))
        .call(0, [3, 4], put_job("b", &names, &[]), changed(2))
        .text();
    let file = shell.write("history", &text);
    let ran = check(&shell, &[&file]);
    let lines: Vec<&str> = ran.result.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 160), "{}", ran.result);
    assert_eq!((lines.len(), lines[0]), (7, "anomaly: wrong-created at version 2"));
    let whole = format!("{file}.finding.txt");
    assert_eq!(lines[6], format!("  whole       {whole}"));
    assert!(lines[2].starts_with("    asked     {") && lines[2].ends_with("\"outputs\":[]}]}"));
    let whole = std::fs::read_to_string(whole).unwrap();
    assert!(names.iter().all(|name| whole.contains(&format!("\"{name}\""))), "{whole}");
    // A pipe has no place beside it, and a short finding needs none.
    let piped = shell.run_with_input(&[&DATABASE[..], &["check", "-"]].concat(), &text);
    assert_eq!(piped.result, whole.replace(&file, "-"));
    let short = Script::new().call(0, [1, 2], put_job("a", &[], &[]), changed(1)).text();
    let short = shell.write("short", &short);
    assert_eq!(check(&shell, &[&short]).code, 1);
    assert!(!std::path::Path::new(&format!("{short}.finding.txt")).exists());
}

#[test]
fn of_many_requests_the_first_are_shown() {
    let shell = Shell::new();
    let put = || put_dataset("x", json!({}));
    let script = (0..9)
        .fold(Script::new(), |script, process| script.call(process, [1, 2], put(), unknown()));
    let fact = json!({"fact": "dataset_declared", "name": "x", "metadata": {}});
    let gone = json!({"fact": "dataset_undeclared", "name": "x"});
    let delete =
        json!({"call": "deleteDataset", "operations": [{"op": "delete_dataset", "name": "x"}]});
    let script = (1..=10).fold(script, |script, n| {
        script.call(100, [10 * n, 10 * n + 1], delete.clone(), changed(2 * n))
    });
    let change = |version: u64| {
        let fact = if version % 2 == 1 { &fact } else { &gone };
        json!({"version": version, "facts": [fact]})
    };
    let log: Vec<Value> = (1..=20).map(change).collect();
    let (file, log) = (shell.write("history", &script.text()), shell.write("log", &lines(&log)));
    let ran = check(&shell, &["--changes", &log, &file]);
    let shown: Vec<&str> = ran.result.lines().collect();
    assert_eq!((shown.len(), shown[16]), (20, "  and 4 more requests"), "{}", ran.result);
    assert!(shown[0].starts_with("anomaly: phantom-change at version 19"), "{}", shown[0]);
}

#[test]
fn what_is_stored_says_whether_the_graph_is_frozen() {
    let shell = Shell::new();
    drive(&shell, "first", "register --requests 5");
    let frozen = json!({
        "event": "fail", "verdict": "rejected",
        "problem": {
            "type": "urn:fencepost:problem:frozen", "status": 409, "graph": "g", "moved_to": null,
        },
    });
    let second = Script::new().beginning_at(5).call(0, [1, 2], put_job("a", &[], &[]), frozen);
    let second = shell.write("second", &second.text());
    let kind = |arguments: &[&str]| {
        let ran = check(&shell, &[arguments, &["first", &second]].concat());
        (ran.code, ran.result.lines().next().unwrap_or_default().to_owned())
    };
    let wrong = (1, "anomaly: wrong-rejection".to_owned());
    assert_eq!((kind(&[]), kind(&["--stored"])), (wrong.clone(), wrong));
    assert_eq!(kind(&["--frozen"]).0, 0);
    let freeze = shell.run(&[&DATABASE[..], &["freeze", "--graph", "g"]].concat());
    assert_eq!(freeze.code, 0, "{}", freeze.errors);
    assert_eq!(kind(&["--stored"]).0, 0, "{:?}", kind(&["--stored"]));
}
