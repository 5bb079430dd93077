//! Headers that are not UTF-8, or come twice.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::cluster::Kind;
use crate::support::ports::free_port;
use crate::support::server::{Request, Server, send_raw};
use crate::support::{limit, wait_until};

/// Every header that some route reads.
const READ: [&str; 11] = [
    "Host",
    "Origin",
    "Content-Type",
    "Content-Length",
    "Accept",
    "If-Match",
    "If-None-Match",
    "Idempotency-Key",
    "Fencepost-Actor",
    "Last-Event-ID",
    "Transfer-Encoding",
];

/// Bytes that a header may have and that are no UTF-8: Latin-1, half a character, a surrogate, an
/// overlong slash.
const NOT_UTF_8: [&[u8]; 5] = [b"\"\xdc\"", b"*\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\xaf"];

#[test]
fn a_header_that_is_not_utf_8_is_refused_and_nothing_is_done() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &[]);
    let before = server.state();
    let job = json!({"inputs": [], "outputs": []});
    let requests = [
        server.put("/v1/graphs/g/jobs/a").json(&job),
        server.put("/v1/graphs/g/jobs/b").json(&job),
        server.patch("/v1/graphs/g/jobs/a").json(&json!({"spec": {"k": 1}})),
        server.delete("/v1/graphs/g/jobs/a"),
        server.delete("/v1/graphs/g").header("If-None-Match", "*"),
        server.put("/v1/graphs/h"),
        server.get("/v1/graphs/g"),
        server.get("/v1/graphs/g/changes"),
        server.get("/metrics"),
    ];
    for name in READ {
        // What is not a number is refused before there is a request; likewise a coding.
        if ["Content-Length", "Transfer-Encoding"].contains(&name) {
            continue;
        }
        for value in NOT_UTF_8 {
            for request in &requests {
                let refused = request.clone().header_bytes(name, value).send();
                let problem = refused.problem(400, "malformed");
                assert_eq!(problem["at"], name.to_ascii_lowercase(), "{value:?}");
            }
        }
    }
    assert_eq!(server.state(), before);
    server.get("/v1/graphs/h").send().problem(404, "graph_not_found");
}

#[test]
fn a_header_of_which_one_line_is_not_utf_8_is_refused() {
    let server = Server::with_graph();
    server.put_job("a", &[], &[]);
    let delete = server.delete("/v1/graphs/g");
    for (first, second) in [(&b"\"1\""[..], &b"\"\xdc\""[..]), (b"\"\xdc\"", b"\"1\"")] {
        let delete =
            delete.clone().header_bytes("if-MATCH", first).header_bytes("IF-match", second);
        assert_eq!(delete.send().problem(400, "malformed")["at"], "if-match");
    }
    server.get("/v1/graphs/g").send().expect(200);
}

#[test]
fn a_header_that_nobody_reads_may_be_of_any_bytes() {
    let server = Server::with_graph();
    for (name, value) in
        [("X-Note", &b"caf\xe9"[..]), ("User-Agent", b"\xff"), ("Cookie", b"a=\xff")]
    {
        let put = server.put("/v1/graphs/g/datasets/d").header_bytes(name, value);
        assert!(put.send().status < 300, "{name}");
    }
    // Nor does it make the next request on the connection a bad one, which would need the header.
    let odd = b"GET /v1/graphs/g HTTP/1.1\r\nHost: localhost\r\nIf-Match: \xff\r\n\r\n";
    let last = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = send_raw(server.address, &[&odd[..], last].concat());
    assert_eq!(answers.status, 400);
    assert!(answers.text().contains("HTTP/1.1 200 OK"), "{}", answers.text());
}

#[test]
fn headers_are_told_apart_where_many_requests_are_under_way() {
    let server = Server::with_graph();
    std::thread::scope(|scope| {
        for client in 0..16 {
            let server = &server;
            scope.spawn(move || {
                for n in 0..40 {
                    let put = server.put(&format!("/v1/graphs/g/datasets/{client}-{n}"));
                    let is_bad = (client + n) % 2 == 0;
                    let put =
                        if is_bad { put.header_bytes("Fencepost-Actor", b"\xfc") } else { put };
                    let status = put.json(&json!({"metadata": {"n": n}})).send().status;
                    assert_eq!(status, if is_bad { 400 } else { 201 });
                }
            });
        }
    });
    assert_eq!(server.state()["version"], 16 * 40 / 2);
}

#[test]
fn headers_that_are_lost_are_noticed_however_little_is_logged() {
    for level in ["off", "error", "fencepost=info", "debug"] {
        let directory = tempfile::tempdir().unwrap();
        // It says nowhere where it listens.
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut server = Command::new(env!("CARGO_BIN_EXE_fencepost"))
            .args(["serve", "--address", &address.to_string()])
            .env("RUST_LOG", level)
            .env("FENCEPOST_DATABASE_URL", Kind::of_this_run().new_database(directory.path()))
            .current_dir(directory.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(limit(), "the server listens", || TcpStream::connect(address).is_ok());
        let put = Request::new(address, "PUT", "/v1/graphs/g");
        let refused = put.clone().header_bytes("If-None-Match", b"*\xff").send();
        let created = put.send();
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(refused.problem(400, "malformed")["at"], "if-none-match", "{level}");
        created.expect(201);
    }
}

#[test]
fn a_header_of_one_value_that_comes_twice_is_refused() {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &[]);
    let before = server.state();
    let requests = |name: &str, value: &str| -> [Request; 3] {
        [
            server.delete("/v1/graphs/g/jobs/a"),
            server
                .put("/v1/graphs/g/jobs/a")
                .body("application/json", r#"{"inputs":[],"outputs":[]}"#),
            server.get("/v1/graphs/g"),
        ]
        .map(|request| request.header(name, value).header(name, value))
    };
    for (name, value) in [
        ("Host", "localhost"),
        ("Origin", "http://localhost"),
        ("Idempotency-Key", "k"),
        ("Fencepost-Actor", "me"),
        ("Last-Event-ID", "1"),
        ("Content-Type", "application/json"),
    ] {
        for request in requests(name, value) {
            let problem = request.send().problem(400, "malformed");
            assert_eq!(problem["at"], name.to_ascii_lowercase());
        }
    }
    // Two equal lengths are one (RFC 9110, 8.6); of two others nobody knows where the body ends.
    let head = "PUT /v1/graphs/g/jobs/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: application/json\r\nContent-Length: 26\r\nContent-Length: 25\r\n";
    let request = format!("{head}\r\n{}", r#"{"inputs":[],"outputs":[]}"#);
    assert_eq!(send_raw(server.address, request.as_bytes()).status, 400);
    assert_eq!(server.state(), before);
    // Those with lists may.
    let read = server.get("/v1/graphs/g").header("Accept", "text/html;q=0.5");
    read.header("Accept", "application/json").send().expect(200);
    let read = server.get("/v1/graphs/g").header("If-None-Match", "\"0\"");
    read.header("If-None-Match", "W/\"1\"").send().expect(304);
}

#[test]
fn space_around_a_value_does_not_count_and_folded_values_are_refused() {
    let server = Server::with_graph();
    server.put_job("a", &[], &[]);
    let before = server.state();
    let send = |line: &str| {
        let head = "DELETE /v1/graphs/g/jobs/a HTTP/1.1\r\nHost: localhost\r\nConnection: close";
        send_raw(server.address, format!("{head}\r\n{line}\r\n\r\n").as_bytes()).status
    };
    for line in [
        "If-Match: \"7\",\r\n \"1\"",
        "If-Match:\r\n \"1\"",
        "If-Match : \"1\"",
        " If-Match: \"1\"",
        "If-Match: \"1\"\0",
        "If-Match: \u{1}",
        "If-Match \"1\"",
    ] {
        assert_eq!(send(line), 400, "{line:?}");
    }
    assert_eq!(send("If-Match: \t \"7\" \t"), 412);
    assert_eq!(server.state(), before);
    assert_eq!(send("iF-mATCH:\t \"1\" \t"), 200);
}
