//! Which server is meant, and how it is reached.

use std::process::Command;

use fencepost::lock::redis::{RedisLock, RedisUrl, Terms};
use fencepost::lock::{DistributedLock, LockError, Mode};

use super::open;
use crate::lock::conformance::{key, take};
use crate::support::ports::free_port;
use crate::support::redis::Redis;

fn is_refused(url: &str) -> String {
    match RedisLock::open(&RedisUrl::parse(url).expect("a URL"), Terms::default()) {
        Ok(_) => panic!("{url} was opened"),
        Err(error @ LockError::Unavailable { .. }) => error.to_string(),
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_lock_is_told_without_user_and_password() {
    for (url, told) in [
        ("redis://host", "redis://host:6379/0"),
        ("redis://user:secret@host:7000/3", "redis://host:7000/3"),
        ("redis://:secret@[::1]/3", "redis://[::1]:6379/3"),
        ("rediss://user:secret@host/1", "rediss://host:6379/1"),
        ("redis+unix:///run/redis.sock?db=2&pass=secret", "redis+unix:///run/redis.sock?db=2"),
    ] {
        let parsed = RedisUrl::parse(url).expect("a URL");
        assert_eq!((parsed.to_string(), format!("{parsed:?}")), (told.to_owned(), told.to_owned()));
        assert_eq!(RedisUrl::parse(told).expect("what is told is a URL").to_string(), told);
    }
    for url in ["redis:", "redis://host/x", "redis://host:port", "redis://user:secret@host/x"] {
        let error = RedisUrl::parse(url).expect_err("no URL").to_string();
        assert!(!error.contains("secret") && !error.is_empty(), "{error}");
    }
}

#[test]
fn databases_of_one_server_are_different_locks() {
    let urls = [Redis::shared().new_database(), Redis::shared().new_database()];
    let locks = urls.map(|url| open(&url, Terms::default()));
    let guards = locks.each_ref().map(|lock| take(lock, Mode::Exclusive));
    assert_ne!(locks[0].identity(), locks[1].identity());
    drop(guards);
}

#[test]
fn a_password_and_a_user_are_given_in_the_url() {
    let server = Redis::start(&["--requirepass", "s3cret"]);
    let port = server.port();
    let with_password = format!("redis://:s3cret@127.0.0.1:{port}");
    take(&open(&with_password, Terms::default()), Mode::Exclusive).release();
    let mut admin = redis::Client::open(with_password)
        .and_then(|client| client.get_connection())
        .expect("a connection");
    // As docs/LOCK.md has it.
    let document = include_str!("../../../docs/LOCK.md");
    let line = document.lines().find(|line| line.contains("ACL SETUSER")).expect("a line to copy");
    let words = line.trim().replace("PASSWORD", "other");
    let words: Vec<&str> = words.split(' ').collect();
    let () = redis::cmd(words[0]).arg(&words[1..]).query(&mut admin).expect("a user");
    take(
        &open(&format!("redis://fencepost:other@127.0.0.1:{port}"), Terms::default()),
        Mode::Exclusive,
    )
    .release();
    let () = redis::cmd("ACL")
        .arg(&["SETUSER", "fencepost", "-zadd"])
        .query(&mut admin)
        .expect("a user");
    assert!(is_refused(&format!("redis://fencepost:other@127.0.0.1:{port}")).contains("can't run"));
    for wrong in ["", ":wrong@", "nobody:other@"] {
        let told = is_refused(&format!("redis://{wrong}127.0.0.1:{port}"));
        assert!(!told.contains("wrong") && !told.contains("other"), "{told}");
    }
}

#[test]
fn a_unix_socket_is_given_by_its_path() {
    let server = Redis::start(&[]);
    let url = format!("redis+unix://{}", server.directory().join("redis.socket").display());
    let (near, far) = (open(&url, Terms::default()), open(&server.url(), Terms::default()));
    let guard = take(&near, Mode::Exclusive);
    assert!(matches!(
        far.acquire(&key(), Mode::Shared, std::time::Duration::ZERO),
        Err(LockError::Timeout { .. })
    ));
    guard.release();
}

#[test]
fn a_replica_is_no_lock() {
    let (primary, replica) = (Redis::start(&[]), Redis::start(&[]));
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    assert!(is_refused(&replica.url()).contains("replica"));
}

#[test]
fn nobody_there_is_told() {
    assert!(is_refused("redis://127.0.0.1:1").contains("refused"));
    assert!(is_refused("redis+unix:///nowhere/redis.socket").contains("No such file"));
}

/// The certificates that the system trusts are read once in a process.
#[test]
fn a_server_is_reached_over_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (certificate, secret) = (file("certificate.pem"), file("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args(["-keyout", &secret, "-out", &certificate])
        .output()
        .expect("openssl is installed: scripts/test does that");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = free_port();
    let tls_port = port.to_string();
    let tls = ["--tls-port", &tls_port, "--tls-cert-file", &certificate, "--tls-key-file", &secret];
    let server = Redis::start(
        &[&tls[..], &["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"]].concat(),
    );
    let url = format!("rediss://localhost:{port}");
    // Nobody vouches for it.
    assert!(is_refused(&url).contains("certificate"), "{}", is_refused(&url));
    let status = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "lock::redis::urls::over_tls", "--nocapture"])
        .env("SSL_CERT_FILE", &certificate)
        .env(TLS_URL, &url)
        .env(PLAIN_URL, server.url())
        .output()
        .expect("the test binary can be run again");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

const TLS_URL: &str = "FENCEPOST_TEST_TLS_URL";
const PLAIN_URL: &str = "FENCEPOST_TEST_PLAIN_URL";

/// The child of the test above; by itself, nothing.
#[test]
fn over_tls() {
    let (Ok(tls), Ok(plain)) = (std::env::var(TLS_URL), std::env::var(PLAIN_URL)) else { return };
    let (near, far) = (open(&tls, Terms::default()), open(&plain, Terms::default()));
    let guard = take(&near, Mode::Exclusive);
    assert_eq!(far.inspect(&key()).expect("an answer").holders.len(), 1);
    guard.release();
}
