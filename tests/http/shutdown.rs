//! Ending while writes are under way.

use std::time::Duration;

use crate::support::server::Server;

#[test]
fn writes_in_flight_are_answered_and_durable_when_the_server_is_told_to_end() {
    let pause = tempfile::tempdir().unwrap();
    let file = pause.path().join("held");
    let failpoint = format!("after-acquire=pause:{}", file.display());
    let server = Server::start_with(&[], &[("FENCEPOST_FAILPOINTS", &failpoint)]);
    server.put("/v1/graphs/g").send().expect(201);
    let requests: Vec<_> =
        (0..5).map(|i| server.put(&format!("/v1/graphs/g/datasets/d{i}"))).collect();
    let (status, directory) = std::thread::scope(|scope| {
        let began = std::time::Instant::now();
        let until = |what: &str, condition: &dyn Fn() -> bool| {
            while !condition() {
                assert!(
                    began.elapsed() < Duration::from_secs(30),
                    "it never came true that {what}"
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let waiting = || {
            server
                .get("/metrics")
                .send()
                .text()
                .contains("fencepost_waiting_requests{mode=\"write\"} 4")
        };
        let mut requests = requests.into_iter();
        let mut writers: Vec<_> =
            requests.next().map(|request| scope.spawn(|| request.send())).into_iter().collect();
        until("the first write holds its turn", &|| file.exists());
        writers.extend(requests.map(|request| scope.spawn(|| request.send())));
        until("the others wait for it", &waiting);
        server.signal("TERM");
        // It has stopped listening before the writes are let go on.
        until("it listens no more", &|| std::net::TcpStream::connect(server.address).is_err());
        std::fs::remove_file(&file).unwrap();
        for writer in writers {
            writer.join().unwrap().expect(201);
        }
        server.wait(Duration::from_secs(30))
    });
    assert_eq!(status.code(), Some(0));
    let server = Server::start_in(directory, &[], &[]);
    assert_eq!(server.get("/v1/graphs/g").send().expect(200).json()["datasets"], 5);
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
