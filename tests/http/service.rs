//! About the service itself.

use serde_json::json;

use crate::support::server::Server;

#[test]
fn it_says_that_it_lives_and_is_ready() {
    let server = Server::start();
    assert_eq!(server.get("/livez").send().expect(200).json(), json!({"status": "live"}));
    assert_eq!(server.get("/readyz").send().expect(200).json(), json!({"status": "ready"}));
}

#[test]
fn metrics_count_requests_by_route_and_status() {
    let server = Server::with_graph();
    server.get("/v1/graphs/none").send().expect(404);
    let answer = server.get("/metrics").send().expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    let text = answer.text();
    for line in [
        "fencepost_http_requests_total{route=\"createGraph\",status=\"201\"} 1",
        "fencepost_http_requests_total{route=\"readGraph\",status=\"404\"} 1",
        "fencepost_waiting_requests{mode=\"write\"} 0",
        "fencepost_queue_overflows_total 0",
    ] {
        assert!(text.lines().any(|given| given == line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn the_page_for_people_asks_for_nothing_from_elsewhere() {
    let server = Server::start();
    let answer = server
        .get("/docs")
        .header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
        .send()
        .expect(200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    let page = answer.text();
    for outside in ["http:", "//cdn", "src=", "@import", "url(", "<link", "<iframe", " onclick"] {
        assert!(!page.contains(outside), "the page has {outside}");
    }
    // URLs occur only as texts of the document.
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"document\">").unwrap();
    let (document, script) = rest.split_once("</script>").unwrap();
    assert!(!script.contains("https:"));
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    assert_eq!(document, server.get("/openapi.json").send().expect(200).json());
}

#[test]
fn every_answer_forbids_guessing_its_type() {
    let server = Server::start();
    for path in ["/livez", "/nothing", "/docs"] {
        assert_eq!(server.get(path).send().header("x-content-type-options"), Some("nosniff"));
    }
}
