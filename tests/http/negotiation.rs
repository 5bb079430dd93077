//! Methods and media types of every route.

use fencepost::http::ROUTES;
use serde_json::json;

use crate::support::server::{Request, Server};

fn path(route: &fencepost::http::Route) -> String {
    route
        .path
        .replace("{graph}", "g")
        .replace("{job}", "a")
        .replace("{dataset}", "y")
        .replace("{consumer}", "c")
}

fn server() -> Server {
    let server = Server::with_graph();
    server.put_job("a", &["x"], &["y"]);
    server
}

#[test]
fn a_method_that_the_path_has_not_answers_405_with_what_it_has() {
    let server = server();
    let before = server.state();
    for route in ROUTES {
        let mut has: Vec<&str> = ROUTES
            .iter()
            .filter(|other| other.path == route.path)
            .map(|other| other.method)
            .collect();
        if has.contains(&"GET") {
            has.push("HEAD");
        }
        for method in [
            "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND",
            "QUERY", "get",
        ] {
            if has.contains(&method) {
                continue;
            }
            let answer = server.call(method, &path(route)).json(&json!({})).send();
            let allow = answer.header("allow").map(str::to_owned);
            if method == "HEAD" {
                assert_eq!(answer.status, 405);
            } else {
                let problem = answer.problem(405, "method_not_allowed");
                assert_eq!(problem["allowed"], json!(has), "{method} {}", route.path);
            }
            assert_eq!(allow, Some(has.join(", ")), "{method} {}", route.path);
        }
    }
    assert_eq!(server.state(), before);
}

#[test]
fn an_answer_in_no_acceptable_media_type_is_406_and_nothing_is_done() {
    let server = server();
    let before = server.state();
    for route in ROUTES {
        let request = |accept: &str| {
            let request = server.call(route.method, &path(route)).header("Accept", accept);
            if route.body_types().is_empty() {
                request
            } else {
                request.json(&json!({"operations": []}))
            }
        };
        for accept in ["image/png", "application/jso", "*/*;q=0", "image/*, text/vnd.graphviz;q=0"]
        {
            let problem = request(accept).send().problem(406, "not_acceptable");
            assert_eq!(problem["available"], json!(route.media_types), "{}", route.id);
        }
        assert_eq!(request("nonsense").send().problem(400, "malformed")["at"], "accept");
    }
    assert_eq!(server.state(), before);
}

#[test]
fn a_body_of_another_media_type_or_of_none_is_415_and_nothing_is_done() {
    let server = server();
    let before = server.state();
    for route in ROUTES {
        let supported = json!(route.body_types());
        let request = || server.call(route.method, &path(route));
        let refused = |request: Request| {
            let problem = request.send().problem(415, "unsupported_media_type");
            assert_eq!(problem["supported"], supported, "{}", route.id);
        };
        for media_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
        ] {
            refused(request().body(media_type, "{}"));
        }
        let bare = request().header("Content-Length", "2");
        let mut stream = bare.open();
        std::io::Write::write_all(&mut stream, b"{}").unwrap();
        assert_eq!(
            bare.answer(stream).problem(415, "unsupported_media_type")["supported"],
            supported
        );
        if route.body_types().is_empty() {
            refused(request().json(&json!({})));
        }
    }
    assert_eq!(server.state(), before);
}

#[test]
fn a_form_that_says_another_method_is_not_taken_for_it() {
    let server = server();
    let before = server.state();
    for (path, method) in [
        ("/v1/graphs/g", "DELETE"),
        ("/v1/graphs/g/jobs/a", "delete"),
        ("/v1/graphs/h", "put"),
        ("/v1/graphs/g/jobs/a", "patch"),
    ] {
        let form = format!("_method={method}");
        let answer = server.post(path).body("application/x-www-form-urlencoded", form).send();
        // Which of the two does not matter.
        assert!([405, 415].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(server.state(), before);
    server.get("/v1/graphs/h").send().problem(404, "graph_not_found");
}
