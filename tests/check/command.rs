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
