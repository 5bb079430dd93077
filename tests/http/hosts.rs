//! `Host` and `Origin`: which names the service answers to, and which web pages it serves.

use std::process::Command;

use serde_json::json;

use crate::support::server::{Server, send_raw};

#[test]
fn a_request_names_an_ip_address_or_localhost() {
    let server = Server::with_graph();
    let read = |host: &str| server.get("/v1/graphs/g").header("Host", host).send();
    for host in [
        "localhost",
        "localhost:8000",
        "LocalHost:1",
        "localhost.",
        "localhost.:8000",
        "localhost:",
        "127.0.0.1",
        "127.0.0.1:8000",
        "10.1.2.3:80",
        "[::1]",
        "[::1]:8000",
        "[2001:DB8::1]:65535",
        "[::ffff:127.0.0.1]",
    ] {
        read(host).expect(200);
    }
    for host in [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil.localhost",
        "127.0.0.1.evil.example",
        "127.0.0.1.",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "::1",
        "[::1",
        "[::1]x",
        "[::1]:x",
        "[localhost]",
        "localhost:x",
        "localhost:+1",
        "localhost:65536",
        "localhost:80:80",
        "localhost..",
        "localhost/",
        "localhost localhost",
        "localhost,localhost",
        "evil.example@localhost",
        "localhost@evil.example",
        "локалхост",
        ".",
        ":8000",
        "",
    ] {
        let problem = read(host).problem(403, "forbidden");
        assert!(problem["detail"].as_str().unwrap().contains("--allowed-host"), "{host:?}");
    }
}

#[test]
fn every_path_is_refused_to_another_host_and_to_another_origin() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    let before = server.state();
    let routed = fencepost::http::ROUTES.iter().map(|route| {
        let path = route.path.replace("{graph}", "g").replace("{job}", "a");
        (route.method, path.replace("{dataset}", "y").replace("{consumer}", "c"))
    });
    let unknown = [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("POST", "/v1/graphs/g"),
        ("HEAD", "/v1/graphs/g"),
        ("OPTIONS", "/v1/graphs/g"),
        ("PROPFIND", "/v1/graphs/g"),
        ("GET", "/v1//graphs"),
        ("PUT", "/v1/graphs/h"),
    ];
    let unknown = unknown.map(|(method, path)| (method, path.to_owned()));
    for (method, path) in routed.chain(unknown) {
        let request = server.call(method, &path);
        for refused in [
            request.clone().header("Host", "evil.example"),
            request.clone().header("Origin", "http://evil.example"),
            request.json(&json!({})).header("Host", "evil.example"),
        ] {
            let answer = refused.send();
            if method == "HEAD" {
                assert_eq!(answer.status, 403, "{path}");
            } else {
                answer.problem(403, "forbidden");
            }
        }
    }
    assert_eq!(server.state(), before);
    server.get("/v1/graphs/h").send().problem(404, "graph_not_found");
}

#[test]
fn a_request_without_a_host_is_refused() {
    let server = Server::with_graph();
    let close = "Connection: close\r\n\r\n";
    for (head, status) in [
        ("GET /v1/graphs/g HTTP/1.1\r\n", 403),
        ("GET /v1/graphs/g HTTP/1.0\r\n", 403),
        ("GET /livez HTTP/1.0\r\n", 403),
        ("GET /livez HTTP/1.0\r\nHost: localhost\r\n", 200),
        // What stands in the target does not count: no browser sends it to a server.
        ("GET http://localhost/livez HTTP/1.1\r\nHost: evil.example\r\n", 403),
        ("GET http://localhost/livez HTTP/1.1\r\n", 403),
        ("GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n", 200),
    ] {
        let head = format!("{head}{close}");
        assert_eq!(send_raw(server.address, head.as_bytes()).status, status, "{head}");
    }
}

#[test]
fn a_page_of_another_origin_is_not_served() {
    let server = Server::with_graph();
    let put = |host: &str, origin: &str| {
        let put = server.put("/v1/graphs/g/datasets/d").json(&json!({}));
        put.header("Host", host).header("Origin", origin).send()
    };
    for (host, origin) in [
        ("localhost:8000", "http://localhost:8000"),
        ("LOCALHOST:8000", "http://localhost:8000"),
        ("localhost", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("localhost:80", "HTTP://LocalHost"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("[0:0::1]:8000", "http://[::1]:8000"),
    ] {
        assert!(put(host, origin).status < 300, "{host} {origin}");
    }
    let before = server.state();
    for (host, origin) in [
        ("localhost:8000", "http://evil.example"),
        ("localhost:8000", "null"),
        ("localhost:8000", ""),
        ("localhost:8000", "localhost:8000"),
        ("localhost:8000", "https://localhost:8000"),
        ("localhost:8000", "http://localhost:8001"),
        ("localhost:8000", "http://localhost"),
        ("localhost:8000", "http://127.0.0.1:8000"),
        ("127.0.0.1:8000", "http://localhost:8000"),
        ("localhost:8000", "http://localhost:8000/"),
        ("localhost:8000", "http://localhost:8000/x"),
        ("localhost:8000", "http://localhost:8000 http://evil.example"),
        ("localhost:8000", "http://evil@localhost:8000"),
        ("localhost:8000", "file://"),
        ("localhost:8000", "://localhost:8000"),
        ("evil.example", "http://evil.example"),
    ] {
        put(host, origin).problem(403, "forbidden");
    }
    assert_eq!(server.state(), before);
}

#[test]
fn hosts_and_origins_that_are_given_are_let_in() {
    let options = [
        "--allowed-host",
        "fencepost.example",
        "--allowed-host",
        "Other.Example.:8443",
        "--allowed-host",
        "plain.example:80",
        "--allowed-origin",
        "https://ci.example",
        "--allowed-origin",
        "http://localhost:3000",
    ];
    let server = Server::start_with(&options, &[]);
    let read = |host: &str| server.get("/livez").header("Host", host).send().status;
    for host in [
        "fencepost.example",
        "FENCEPOST.example.:9",
        "other.example:8443",
        "plain.example",
        "plain.example:80",
        "localhost",
        "127.0.0.1:9",
    ] {
        assert_eq!(read(host), 200, "{host}");
    }
    for host in
        ["other.example", "other.example:8444", "plain.example:81", "a.fencepost.example", "x"]
    {
        assert_eq!(read(host), 403, "{host}");
    }
    let from = |origin: &str| server.get("/livez").header("Origin", origin).send().status;
    for origin in ["https://ci.example", "https://CI.example:443", "http://localhost:3000"] {
        assert_eq!(from(origin), 200, "{origin}");
    }
    for origin in ["http://ci.example", "https://ci.example:8443", "https://x.ci.example", "null"] {
        assert_eq!(from(origin), 403, "{origin}");
    }
    // A host that is let in has pages of its own.
    let own = |origin: &str| {
        let read = server.get("/livez").header("Host", "fencepost.example:8000");
        read.header("Origin", origin).send().status
    };
    assert_eq!(
        (own("http://fencepost.example:8000"), own("http://other.example:8443")),
        (200, 403)
    );
}

#[test]
fn beyond_loopback_hosts_are_checked_if_one_is_given() {
    let open = Server::start_with(&["--address", "0.0.0.0:0", "--allow-anonymous"], &[]);
    for (header, value) in [("Host", "anything.example"), ("Origin", "http://evil.example")] {
        open.get("/livez").header(header, value).send().expect(200);
    }
    for option in [["--allowed-host", "a.example"], ["--allowed-origin", "https://a.example"]] {
        let beyond = ["--address", "0.0.0.0:0", "--allow-anonymous"];
        let server = Server::start_with(&[&beyond[..], &option].concat(), &[]);
        server.get("/livez").header("Host", "x.example").send().problem(403, "forbidden");
        server.get("/livez").header("Origin", "http://x.example").send().problem(403, "forbidden");
        let [allowed, value] = option;
        let header = allowed.trim_start_matches("--allowed-");
        server.get("/livez").header(header, value).send().expect(200);
    }
}

#[test]
fn what_is_no_host_or_no_origin_is_wrong_usage() {
    let serve = |option: &str, value: &str| {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_fencepost"));
        let output = serve.args(["serve", option, value]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option} {value:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for host in
        ["", "http://a.example", "a.example/", "a b", "*", "a.example:x", "::1", "ä.example"]
    {
        assert!(serve("--allowed-host", host).contains("HOST:PORT"), "{host}");
    }
    for origin in ["", "null", "a.example", "https://a.example/", "https://", "https://*", "//a"] {
        assert!(serve("--allowed-origin", origin).contains("https://HOST"), "{origin}");
    }
}
