//! `fencepost lock`, and what commands leave of a lock.

use super::{Shell, fixture};
use crate::support::redis::Redis;

#[test]
fn a_command_that_ends_leaves_no_lock_behind() {
    let (shell, url) = (Shell::new(), Redis::shared().new_database());
    for round in 0..12 {
        let line = format!(r#"{{"name":"job {round}","inputs":[],"outputs":["d{round}"]}}"#);
        let ran = shell.run_with_input(&["import", "--lock-url", &url, "--graph", "g", "-"], &line);
        assert_eq!(ran.code, 0, "{}", ran.errors);
        let seen = shell.run(&["lock", "inspect", "--graph", "g"]);
        assert!(
            seen.result.contains("held      by nobody"),
            "after import {round}: {}",
            seen.result
        );
    }
}

#[test]
fn inspecting_tells_lock_and_row_of_every_kind_of_lock() {
    let redis = Redis::shared().new_database();
    for (lock, kind) in [(redis.as_str(), "redis:redis://"), ("file:", "file:beside-database")] {
        let shell = Shell::new();
        assert_eq!(
            shell
                .run(&["import", "--lock-url", lock, "--graph", "g", &fixture("bakery.ndjson")])
                .code,
            0
        );
        let seen = shell.run(&["lock", "inspect", "--graph", "g"]);
        assert_eq!(seen.code, 0, "{}", seen.errors);
        for part in [
            kind,
            "held      by nobody",
            "last token 1.1",
            "graph `g` at version 1, Open; fence 1.1, epoch 1",
        ] {
            assert!(seen.result.contains(part), "no {part} in {}", seen.result);
        }
    }
}

#[test]
fn inspecting_makes_no_lock_the_databases_own() {
    let (shell, urls) =
        (Shell::new(), [Redis::shared().new_database(), Redis::shared().new_database()]);
    assert_eq!(shell.run(&["migrate"]).code, 0);
    let absent = shell.run(&["lock", "inspect", "--lock-url", &urls[0], "--graph", "g"]);
    assert_eq!(absent.code, 1, "{}", absent.errors);
    let ran =
        shell.run(&["import", "--lock-url", &urls[1], "--graph", "g", &fixture("bakery.ndjson")]);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let other = shell.run(&["lock", "inspect", "--lock-url", &urls[0], "--graph", "g"]);
    assert!(other.code == 1 && other.errors.contains("lock set"), "{}", other.errors);
}

#[test]
fn a_mistaken_url_is_told_without_its_password() {
    let shell = Shell::new();
    for url in ["Redys://user:secret@host", "http://user:secret@host", "redis://user:secret@host/x"]
    {
        let ran = shell.run(&["lock", "inspect", "--lock-url", url, "--graph", "g"]);
        assert!(ran.code == 2 && !ran.errors.contains("secret"), "{}", ran.errors);
    }
}
