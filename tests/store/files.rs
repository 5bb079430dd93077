//! SQLite's file and the lock's directory, removed, replaced and overwritten while they are served.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fencepost::design;

use crate::support::cluster::{Answer, GRAPH, Kind, SERVE, Server, Site, finish, wait_until};
use crate::support::storm::audit;

/// A graph with some jobs, all of it in the file: nobody has it open.
fn at_rest() -> Site {
    let site = Site::with_graph_on(Kind::Sqlite);
    let server = site.serve();
    for n in 0..20 {
        server.put_job(&format!("old-{n}"), &["a"], &[]).unwrap();
    }
    drop(server);
    fold_log(&site);
    site
}

/// Copies the log into the file and removes it, as the last process that ends well does.
fn fold_log(site: &Site) {
    site.run_sql("PRAGMA wal_checkpoint(TRUNCATE)");
    assert!(!beside(site, "-wal").exists(), "nobody else has the database open");
}

fn beside(site: &Site, suffix: &str) -> PathBuf {
    site.path(&format!("fencepost.db{suffix}"))
}

#[track_caller]
fn refused(answer: &Answer, problem: &str, says: &str) {
    let body = &answer.body;
    assert_eq!(answer.status, 503, "{body}");
    assert_eq!(body["type"], format!("urn:fencepost:problem:{problem}"), "{body}");
    assert_eq!(body["outcome"], "not_applied", "{body}");
    assert!(body["detail"].as_str().unwrap().contains(says), "{body}");
}

/// Reads, writes, lists and readiness are refused, each with the reason.
#[track_caller]
fn all_refused(server: &Server, problem: &str, says: &str) {
    refused(&server.get("/readyz").unwrap(), problem, says);
    refused(&server.get(&format!("/v1/graphs/{GRAPH}")).unwrap(), problem, says);
    refused(&server.put_job("refused", &[], &["x"]).unwrap(), problem, says);
}

#[track_caller]
fn served(server: &Server) {
    assert_eq!(server.get("/readyz").unwrap().status, 200);
    assert_eq!(server.get(&format!("/v1/graphs/{GRAPH}")).unwrap().status, 200);
    assert!(server.put_job("served", &[], &["y"]).unwrap().status < 300);
    server.put_job("gone", &[], &[]).unwrap();
}

#[test]
fn a_file_that_is_moved_away_is_missed_until_it_is_back() {
    for part in ["", "-wal", "-shm"] {
        let site = at_rest();
        let server = site.serve();
        served(&server);
        fs::rename(beside(&site, part), site.path("away")).unwrap();
        all_refused(&server, "database_unavailable", "it is gone");
        assert!(!beside(&site, part).exists(), "nothing was made in its place");
        let listed = server.get("/v1/graphs").unwrap();
        refused(&listed, "database_unavailable", "it is gone");
        fs::rename(site.path("away"), beside(&site, part)).unwrap();
        served(&server);
        drop(server);
        audit(&site);
    }
}

#[test]
fn another_file_in_the_place_of_the_one_that_was_opened_is_refused() {
    for part in ["", "-wal", "-shm"] {
        let site = at_rest();
        let server = site.serve();
        served(&server);
        let (there, copy) = (beside(&site, part), site.path("copy"));
        fs::copy(&there, &copy).unwrap();
        fs::rename(&there, site.path("away")).unwrap();
        fs::rename(&copy, &there).unwrap();
        let before = fs::read(&there).unwrap();
        all_refused(&server, "database_unavailable", "another file is in its place");
        assert!(fs::read(&there).unwrap() == before, "nothing was written to {part}");
        fs::rename(site.path("away"), &there).unwrap();
        served(&server);
    }
}

/// What the guard is for: SQLite says that it is written, and it is gone with the process.
#[test]
fn without_a_look_at_the_path_a_lost_write_is_answered_as_done() {
    let site = at_rest();
    let server = site.serve_armed("sqlite-file=off", &[]);
    fs::rename(site.database(), site.path("away")).unwrap();
    fs::copy(site.path("away"), site.database()).unwrap();
    assert!(server.put_job("lost", &[], &["x"]).unwrap().status < 300);
    drop(server);
    for part in ["-wal", "-shm"] {
        fs::remove_file(beside(&site, part)).unwrap();
    }
    let path = format!("/v1/graphs/{GRAPH}/jobs/lost");
    assert_eq!(site.serve().get(&path).unwrap().status, 404);
}

/// A link that comes to lead elsewhere, and a directory that is moved, as when volumes are swapped.
#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    let site = at_rest();
    let (real, link) = (site.path("real"), site.path("link"));
    fs::create_dir(&real).unwrap();
    fs::rename(site.database(), real.join("fencepost.db")).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let mut command = site.fencepost(&SERVE);
    command.args(["--database-url", &format!("sqlite:{}/fencepost.db", link.display())]);
    command.args(["--lock-url", "file:"]);
    let server = Server::start(command);
    served(&server);
    fs::remove_file(&link).unwrap();
    all_refused(&server, "database_unavailable", "it is gone");
    fs::create_dir(site.path("other")).unwrap();
    fs::copy(real.join("fencepost.db"), site.path("other/fencepost.db")).unwrap();
    std::os::unix::fs::symlink(site.path("other"), &link).unwrap();
    all_refused(&server, "database_unavailable", "another file");
}

/// Before the commit is sent it is refused; from then on its outcome is unknown. It is never
/// answered as done.
#[test]
fn a_file_that_goes_while_a_write_is_under_way_is_never_answered_as_written() {
    for (point, problem, outcome) in [
        ("before-conditional-update", "database_unavailable", "not_applied"),
        ("before-commit", "outcome_unknown", "unknown"),
        ("after-commit", "outcome_unknown", "unknown"),
    ] {
        let site = at_rest();
        let reached = site.path("reached");
        let server = site.serve_armed(&format!("{point}=pause:{}@1", reached.display()), &[]);
        std::thread::scope(|scope| {
            let write = scope.spawn(|| server.put_job("new", &[], &["x"]));
            wait_until("the point is reached", || reached.exists());
            fs::rename(site.database(), site.path("away")).unwrap();
            fs::copy(site.path("away"), site.database()).unwrap();
            fs::remove_file(&reached).unwrap();
            let answer = write.join().unwrap().unwrap();
            assert_eq!(answer.status, 503, "{point}: {}", answer.body);
            assert_eq!(answer.body["type"], format!("urn:fencepost:problem:{problem}"), "{point}");
            assert_eq!(answer.body["outcome"], outcome, "{point}: {}", answer.body);
        });
    }
}

/// Nothing has the database open any more, and a copy of the file alone has every version.
#[track_caller]
fn all_in_the_file(site: &Site, version: u64) {
    for part in ["-wal", "-shm"] {
        assert!(!beside(site, part).exists(), "{part} is left");
    }
    let alone = site.path("alone.db");
    fs::copy(site.database(), &alone).unwrap();
    let alone = Site::at(format!("sqlite:{}", alone.display()));
    assert_eq!(alone.head().version, version);
}

/// Whoever closes the last connection copies the log into the file. So every connection must be
/// closed before the process ends.
#[test]
fn a_clean_end_of_the_last_process_leaves_everything_in_the_file() {
    for design in design::ALL.iter().copied() {
        for signal in ["TERM", "INT"] {
            let site = Site::with_graph_of(Kind::Sqlite, design);
            let mut command = site.fencepost(&SERVE);
            command.args(["--design", design.name]);
            let server = Server::start(command);
            for job in ["a", "b", "c"] {
                server.put_job(job, &[], &[&format!("{job}-made")]).unwrap();
            }
            assert_eq!(server.end(signal).code(), Some(0));
            all_in_the_file(&site, 4);
        }
        let site = Site::with_graph_of(Kind::Sqlite, design);
        let jobs = site.path("jobs.ndjson");
        fs::write(&jobs, r#"{"name":"a","inputs":[],"outputs":["d"]}"#).unwrap();
        let jobs = jobs.display().to_string();
        let import = ["--design", design.name, "import", "--graph", GRAPH, &jobs];
        let acknowledge = ["consumer", "ack", "--graph", GRAPH, "--name", "c", "--version", "2"];
        for arguments in [&import[..], &acknowledge] {
            let (code, said) = finish(site.fencepost(arguments));
            assert_eq!(code, Some(0), "{said}");
            all_in_the_file(&site, 2);
        }
    }
}

/// SQLite removes the log by its name when the last connection is closed: by then that name may be
/// the log of the file that was put in place.
#[test]
fn a_process_that_ends_leaves_the_log_of_the_file_in_its_place_alone() {
    let site = at_rest();
    let first = site.serve();
    served(&first);
    for part in ["", "-wal", "-shm"] {
        fs::rename(beside(&site, part), site.path(&format!("away{part}"))).unwrap();
    }
    fs::copy(site.path("away"), site.database()).unwrap();
    let second = site.serve();
    served(&second);
    all_refused(&first, "database_unavailable", "another file");
    first.signal("TERM");
    // Until it has ended.
    first.wait_for_log(|_| false);
    drop(first);
    served(&second);
    assert!(beside(&site, "-wal").exists(), "the log of the one that is served");
    drop(second);
    audit(&site);
}

#[test]
fn a_lock_directory_that_is_gone_or_another_is_refused() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let directory = site.path("locks of this test");
        let url = format!("file:{}", directory.display());
        let (code, said) = finish(site.fencepost(&["lock", "set", "--lock-url", &url]));
        assert_eq!(code, Some(0), "{said}");
        let server = site.serve();
        served(&server);
        let away = site.path("away");
        fs::rename(&directory, &away).unwrap();
        all_refused(&server, "lock_unavailable", "lock directory");
        assert!(!directory.exists(), "none was made in its place");
        fs::create_dir(&directory).unwrap();
        all_refused(&server, "lock_unavailable", "another directory is in its place");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "nothing was written there");
        fs::remove_dir(&directory).unwrap();
        fs::rename(&away, &directory).unwrap();
        served(&server);
    }
}

fn sqlite3(database: &Path, command: &str) {
    let mut shell = Command::new("sqlite3");
    let (code, said) = finish({
        shell.arg(database).arg(command);
        shell
    });
    assert_eq!(code, Some(0), "{command}: {said}");
}

/// The state at [`at_rest`], a copy of it, and then one in the log alone: the server was killed.
fn killed_with_a_log(back_up: impl Fn(&Site)) -> Site {
    let site = at_rest();
    back_up(&site);
    let mut server = site.serve();
    for n in 0..20 {
        server.put_job(&format!("before-{n}"), &["a"], &[&format!("out-{n}")]).unwrap();
    }
    server.kill();
    // What was written so far is in the file, what follows in the log.
    fold_log(&site);
    let mut server = site.serve();
    server.put_job("last", &["out-3"], &["b"]).unwrap();
    server.kill();
    assert!(beside(&site, "-wal").metadata().unwrap().len() > 0);
    site
}

fn vacuumed(site: &Site) {
    sqlite3(&site.database(), &format!("VACUUM INTO '{}'", site.path("copy").display()));
}

fn copied(site: &Site) {
    fs::copy(site.database(), site.path("copy")).unwrap();
}

#[test]
fn an_older_copy_beside_the_log_of_what_came_later_does_not_come_up() {
    for (back_up, looks_right) in [(vacuumed as fn(&Site), false), (copied, true)] {
        let site = killed_with_a_log(back_up);
        fs::copy(site.path("copy"), site.database()).unwrap();
        let parts = || ["", "-wal"].map(|part| fs::read(beside(&site, part)).unwrap());
        let before = parts();
        for _ in 0..2 {
            match Server::try_start(site.fencepost(&SERVE)) {
                Ok(_) => panic!("it came up"),
                Err((code, said)) => {
                    assert_eq!(code, Some(1), "{said}");
                    assert!(said.contains("do not belong together"), "{said}");
                }
            }
            assert!(parts() == before, "both are left as they are, to be told apart");
        }
        // What the guard is for, on a copy of both: SQLite takes the mixture for a database.
        let mixed = Site::on(Kind::Sqlite);
        for part in ["", "-wal"] {
            fs::copy(beside(&site, part), beside(&mixed, part)).unwrap();
        }
        if looks_right {
            mixed.serve_armed("sqlite-evidence=off,sqlite-file=off", &[]);
        }
        // As the page says: without the log it is the copy.
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(beside(&site, suffix)).unwrap();
        }
        let server = site.serve();
        assert_eq!(server.put_job("after", &[], &[]).unwrap().version(), 22);
        drop(server);
        audit(&site);
    }
}

/// What a process leaves that is killed while it copies the log into the file, page by page: the
/// file alone is of no state. With the log it is whole.
#[test]
fn a_copying_of_the_log_that_was_cut_short_does_no_harm() {
    let site = at_rest();
    let mut server = site.serve();
    for n in 0..400 {
        server.put_job(&format!("{n}-{}", "j".repeat(200)), &["a"], &[&format!("d{n}")]).unwrap();
    }
    server.kill();
    let parts = ["", "-wal"].map(|part| fs::read(beside(&site, part)).unwrap());
    let version = site.head().version;
    fold_log(&site);
    let whole = fs::read(site.database()).unwrap();
    let page = 4096;
    let pages = whole.len() / page;
    assert!(pages > 60 && parts[0].len() < whole.len() / 2, "there is much to copy");
    for copied in (1..pages).step_by(pages / 12) {
        let cut = Site::on(Kind::Sqlite);
        let mut file = parts[0].clone();
        file.resize(file.len().max(copied * page), 0);
        file[..copied * page].copy_from_slice(&whole[..copied * page]);
        fs::write(cut.database(), file).unwrap();
        fs::write(beside(&cut, "-wal"), &parts[1]).unwrap();
        let server = cut.serve();
        assert_eq!(server.put_job("after", &[], &[]).unwrap().version(), version + 1, "{copied}");
        drop(server);
        audit(&cut);
    }
}

/// `cp` opens the file that is there and writes into it: the same file, with another content.
#[test]
fn a_file_that_is_overwritten_while_it_is_served_is_refused() {
    let backups: [fn(&Site); 2] = [vacuumed, copied];
    for back_up in backups {
        let site = at_rest();
        back_up(&site);
        let server = site.serve();
        for n in 0..20 {
            server.put_job(&format!("later-{n}"), &["a"], &[&format!("out-{n}")]).unwrap();
        }
        // The log is copied into the file while it is served.
        site.run_sql("PRAGMA wal_checkpoint(TRUNCATE)");
        served(&server);
        fs::write(site.database(), fs::read(site.path("copy")).unwrap()).unwrap();
        all_refused(&server, "database_unavailable", "do not belong together");
        // Nor are the two mixed when it ends.
        let parts = || ["", "-wal"].map(|part| fs::read(beside(&site, part)).unwrap());
        let before = parts();
        server.signal("TERM");
        server.wait_for_log(|_| false);
        assert!(parts() == before, "both are left as they are");
    }
}

/// `VACUUM INTO` lays pages out anew, and raises the schema's version as a migration does: what it
/// holds is no older, and yet no connection may go on with the pages that it knows.
#[test]
fn a_vacuumed_copy_put_over_a_file_that_is_served_is_refused() {
    let served_then_gone: [fn(&Site); 2] = [
        |site| site.run_sql("DROP TABLE filler"),
        |site| site.run_sql("DROP TABLE filler; PRAGMA wal_checkpoint(PASSIVE)"),
    ];
    for before in served_then_gone {
        let site = at_rest();
        // So that pages move.
        site.run_sql("CREATE TABLE filler AS SELECT randomblob(100000) AS bytes");
        let server = site.serve();
        served(&server);
        before(&site);
        vacuumed(&site);
        fs::write(site.database(), fs::read(site.path("copy")).unwrap()).unwrap();
        all_refused(&server, "database_unavailable", "do not belong together");
    }
}

#[test]
fn a_file_that_is_emptied_or_filled_with_something_else_while_it_is_served_is_refused() {
    for content in [&b""[..], &[b'x'; 100_000]] {
        let site = at_rest();
        let server = site.serve();
        served(&server);
        fs::write(site.database(), content).unwrap();
        for answer in [server.get("/readyz"), server.put_job("refused", &[], &["x"])] {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 503, "{}", answer.body);
            assert_eq!(answer.body["outcome"], "not_applied", "{}", answer.body);
        }
    }
}

/// The commands that a section of docs/DATABASES.md names, each block as it stands there.
fn documented(section: &str) -> Vec<&'static str> {
    let page = include_str!("../../docs/DATABASES.md");
    let (_, section) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks: Vec<&str> = section.split("```\n").skip(1).step_by(2).collect();
    assert!(!blocks.is_empty());
    blocks
}

/// Runs documented commands, in the directory of the database.
fn run_documented(site: &Site, script: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-ec", script]).current_dir(site.path(""));
    let (code, said) = finish(shell);
    assert_eq!(code, Some(0), "{script}: {said}");
}

/// Every way that docs/DATABASES.md names leads back to the state of the backup: with the server's
/// processes ended, and the first way also beside one that runs.
#[test]
fn each_way_to_restore_that_is_documented_leads_to_the_backup() {
    let [backups] = documented("What to back up")[..] else { panic!("one block, a way a line") };
    let restores = documented("How to restore");
    let [online, by_hand] = restores[..] else { panic!("a block for each way") };
    assert!(online.contains(".restore") && by_hand.contains("-wal"));
    assert_eq!(backups.lines().count(), 2);
    for back_up in backups.lines() {
        for restore in [online, by_hand] {
            let site = killed_with_a_log(|site| run_documented(site, back_up));
            run_documented(&site, restore);
            if restore == by_hand {
                fs::remove_dir_all(site.lock_directory()).unwrap();
            }
            let server = site.serve();
            assert_eq!(server.put_job("after", &["a"], &["out-3"]).unwrap().version(), 22);
            drop(server);
            assert_eq!(audit(&site).version, 22);
        }
        // The backup is made, and the first way taken, beside a server that runs.
        let site = at_rest();
        let server = site.serve();
        served(&server);
        run_documented(&site, back_up);
        let version = site.head().version;
        server.put_job("lost", &["a"], &["lost"]).unwrap();
        run_documented(&site, online);
        assert_eq!(server.put_job("after", &["lost"], &["a"]).unwrap().version(), version + 1);
        assert_eq!(server.get("/readyz").unwrap().status, 200);
        drop(server);
        assert_eq!(audit(&site).version, version + 1);
    }
}

/// A log that is copied into the file by another process is no reason to refuse anything.
#[test]
fn a_log_that_others_copy_into_the_file_is_no_matter() {
    let site = at_rest();
    let server = site.serve();
    for n in 0..30 {
        let answer = server.put_job(&format!("job-{n}"), &["a"], &[&format!("out-{n}")]).unwrap();
        assert!(answer.status < 300, "{}", answer.body);
        sqlite3(&site.database(), "PRAGMA wal_checkpoint(PASSIVE)");
        assert_eq!(server.get(&format!("/v1/graphs/{GRAPH}")).unwrap().status, 200);
    }
    drop(server);
    audit(&site);
}

/// As after a backup of an older release was put back: `migrate --revert` leaves what that has.
#[test]
fn an_older_schema_under_a_service_is_told_until_it_is_migrated() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let server = site.serve();
        served(&server);
        let (code, said) = finish(site.fencepost(&["migrate", "--revert", "8"]));
        assert_eq!(code, Some(0), "{said}");
        let told = "has an older schema; `fencepost migrate` brings it up to date";
        let consumers = format!("/v1/graphs/{GRAPH}/consumers");
        refused(&server.get(&consumers).unwrap(), "database_unavailable", told);
        all_refused(&server, "database_unavailable", told);
        let (code, said) = finish(site.fencepost(&["migrate"]));
        assert_eq!(code, Some(0), "{said}");
        served(&server);
        assert_eq!(server.get(&consumers).unwrap().status, 200);
    }
}

/// Nothing but readiness is asked: what it finds, other requests are told.
#[test]
fn readiness_finds_an_older_schema() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let server = site.serve();
        served(&server);
        let (code, said) = finish(site.fencepost(&["migrate", "--revert", "1"]));
        assert_eq!(code, Some(0), "{said}");
        all_refused(&server, "database_unavailable", "`fencepost migrate`");
    }
}
