//! What is below routes: HEAD, unknown paths and methods, requests that are none, large bodies.

use std::io::Write;

use serde_json::json;

use crate::support::server::{Server, send_raw};

#[test]
fn head_answers_as_get_without_the_body() {
    let server = Server::with_graph();
    for (path, status) in
        [("/v1/graphs/g", 200), ("/livez", 200), ("/docs", 200), ("/v1/graphs/none", 404)]
    {
        let (head, get) =
            (server.call("HEAD", path).send().expect(status), server.get(path).send());
        for header in ["content-type", "etag", "fencepost-version", "content-length"] {
            assert_eq!(head.header(header), get.header(header), "{path} {header}");
        }
        assert!(head.body.is_empty());
    }
}

#[test]
fn unknown_paths_answer_a_problem() {
    let server = Server::start();
    for path in [
        "/",
        "/v2/graphs",
        "/v1",
        "/v1/graphs/g/nothing",
        "/favicon.ico",
        "/v1/graphs/g/jobs/a/b",
        "*",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "PATCH"] {
            let problem = server.call(method, path).send().problem(404, "route_not_found");
            assert_eq!(problem["name"], path);
        }
    }
    server.call("NONSENSE", "/nothing").send().problem(404, "route_not_found");
}

#[test]
fn requests_that_are_none_never_give_a_foreign_page() {
    let server = Server::start();
    let close = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for request in [format!("CONNECT a:1 {close}"), format!("FOO / {close}")] {
        let problem = send_raw(server.address, request.as_bytes()).problem(400, "malformed");
        assert_eq!(problem["at"], "request");
    }
    let long = format!("GET /{} {close}", "a".repeat(100_000));
    let heads = format!(
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
        "a".repeat(2_000_000)
    );
    for request in [
        "GARBAGE\r\n\r\n",
        "GET livez HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET\r\n\r\n",
        "GET /livez HTTP/9.9\r\n\r\n",
        &long,
        &heads,
    ] {
        // These do not get as far as a path.
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") && !answer.contains("<html"),
            "{answer}"
        );
    }
    let raw = [b"GET /v1/graphs/\xff ".as_slice(), close.as_bytes()].concat();
    assert_eq!(send_raw(server.address, &raw).status, 400);
    server.get("/livez").send().expect(200);
}

#[test]
fn a_body_that_is_too_large_is_refused_and_the_client_gets_to_read_it() {
    let server = Server::with_graph();
    let before = server.state();
    let body = vec![b' '; 100_000_000];
    let request = server.put("/v1/graphs/g/jobs/a").body("application/json", body);
    // Not every client reads an answer that comes while it still writes: all of it can be written.
    let mut stream = server
        .put("/v1/graphs/g/jobs/a")
        .header("Content-Type", "application/json")
        .header("Content-Length", "100000000")
        .open();
    stream.write_all(&vec![b' '; 100_000_000]).unwrap();
    for answer in [request.answer(stream), request.clone().send(), request.clone().send_chunked()] {
        assert_eq!(answer.problem(413, "too_large")["limit"], 16 << 20);
    }
    // Another reason to refuse is told as well.
    request.clone().header("If-Match", "x").send().problem(413, "too_large");
    server
        .delete("/v1/graphs/g/jobs/a")
        .body("application/json", vec![b' '; 20_000_000])
        .send()
        .problem(415, "unsupported_media_type");
    server
        .post("/nothing")
        .body("text/plain", vec![b' '; 20_000_000])
        .send()
        .problem(404, "route_not_found");
    assert_eq!(server.state(), before);
}

#[test]
fn a_chunked_body_is_as_good_as_any() {
    let server = Server::with_graph();
    let job = json!({"inputs": ["x"], "outputs": []});
    server.put("/v1/graphs/g/jobs/a").json(&job).send_chunked().expect(201);
    assert_eq!(server.get("/v1/graphs/g/jobs/a").send().json()["inputs"], json!(["x"]));
}

#[test]
fn an_empty_chunked_body_creates_a_graph_as_none_does() {
    let server = Server::with_graph();
    server.put("/v1/graphs/h").body("application/json", "").send_chunked().expect(201);
}

#[test]
fn a_body_that_was_cut_off_is_not_taken_for_a_shorter_one() {
    let server = Server::with_graph();
    server.put("/v1/graphs/g/datasets/d").json(&json!({"metadata": {"k": 1}})).send().expect(201);
    let before = server.state();
    let put = server.put("/v1/graphs/g/datasets/d");
    for (length, sent) in [("20", ""), ("20", "{}"), ("3", "{}")] {
        let request =
            put.clone().header("Content-Type", "application/json").header("Content-Length", length);
        let mut stream = request.open();
        stream.write_all(sent.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // The server may answer or hang up; it must not write.
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
        assert_eq!(server.state(), before, "{length} {sent}");
    }
    let request =
        put.header("Content-Type", "application/json").header("Transfer-Encoding", "chunked");
    let mut stream = request.open();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(std::io::copy(&mut stream, &mut std::io::sink()));
    assert_eq!(server.state(), before);
}

#[test]
fn one_connection_carries_many_requests() {
    let server = Server::with_graph();
    let request = "GET /v1/graphs/g HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let refused = "DELETE /v1/graphs/g HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\n{}";
    let last = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = send_raw(server.address, [request, refused, request, last].concat().as_bytes());
    let text = format!("HTTP/1.1 {} {}", answers.status, answers.text());
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
    assert_eq!(statuses, ["200", "415", "200", "200"], "{text}");
}
