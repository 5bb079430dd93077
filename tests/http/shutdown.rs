//! Ending while writes are under way.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, thread};

use tempfile::TempDir;

use crate::support::server::{Request, Server};
use crate::support::wait_until;

#[test]
fn writes_in_flight_are_answered_and_durable_when_the_server_is_told_to_end() {
    let held = Held::start();
    let requests: Vec<_> = (0..5).map(|n| held.put_dataset(n)).collect();
    let address = held.server.address;
    let (status, directory) = thread::scope(|scope| {
        let mut requests = requests.into_iter();
        let mut writers: Vec<_> =
            requests.next().map(|request| scope.spawn(|| request.send())).into_iter().collect();
        wait_until(LIMIT, "the first write holds its turn", || held.file.exists());
        writers.extend(requests.map(|request| scope.spawn(|| request.send())));
        let waiting = "fencepost_waiting_requests{mode=\"write\"} 4";
        let metrics = || held.server.get("/metrics").send().text();
        wait_until(LIMIT, "the others wait for it", || metrics().contains(waiting));
        held.server.signal("TERM");
        // It has stopped listening before the writes are let go on.
        wait_until(LIMIT, "it listens no more", || !listens(address));
        fs::remove_file(&held.file).unwrap();
        for writer in writers {
            writer.join().unwrap().expect(201);
        }
        held.server.wait(LIMIT)
    });
    assert_eq!(status.code(), Some(0));
    let server = Server::start_in(directory, &[], &[]);
    assert_eq!(server.get("/v1/graphs/g").send().expect(200).json()["datasets"], 5);
}

/// It may find in one look that there is one connection more, and that there are to be no more.
#[test]
fn a_write_in_flight_is_answered_however_many_connections_come_as_the_server_is_told_to_end() {
    for round in 0..30 {
        let held = Held::start();
        let (request, address) = (held.put_dataset(round), held.server.address);
        thread::scope(|scope| {
            let writer = scope.spawn(|| request.send());
            wait_until(LIMIT, "the write holds its turn", || held.file.exists());
            let ended = scope.spawn(move || while listens(address) {});
            held.server.signal("TERM");
            ended.join().unwrap();
            fs::remove_file(&held.file).unwrap();
            writer.join().unwrap().expect(201);
        });
    }
}

const LIMIT: Duration = Duration::from_secs(30);

/// A server whose first write waits in its turn until the file is removed that it makes.
struct Held {
    server: Server,
    file: PathBuf,
    _directory: TempDir,
}

impl Held {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("held");
        let failpoint = format!("after-acquire=pause:{}", file.display());
        let server = Server::start_with(&[], &[("FENCEPOST_FAILPOINTS", &failpoint)]);
        server.put("/v1/graphs/g").send().expect(201);
        Self { server, file, _directory: directory }
    }

    fn put_dataset(&self, n: usize) -> Request {
        self.server.put(&format!("/v1/graphs/g/datasets/d{n}"))
    }
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Rocket looks once whether connections are left, and if the last one is just about to go, waits
/// for the whole grace.
#[test]
fn an_idle_server_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let server = Server::start_with(&["--shutdown-grace-s", "1"], &[]);
        server.signal(signal);
        assert_eq!(server.wait(Duration::from_secs(30)).0.code(), Some(0));
    }
}
