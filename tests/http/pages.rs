//! Lists in pages.

use serde_json::{Value, json};

use crate::support::server::{Server, encoded};

/// Names of all pages, and how many pages there were.
fn walk(server: &Server, path: &str, query: &str, name: &str) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = server.get(&format!("{path}?{query}{cursor}")).send().expect(200).json();
        names.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item[name].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match page["next_cursor"].as_str() {
            None => return (names, pages),
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
        }
    }
}

fn put_jobs(server: &Server, names: &[&str]) {
    let operation = |name: &&str| json!({"op": "put_job", "name": name, "inputs": [], "outputs": [format!("d{name}")]});
    server.change(&names.iter().map(operation).collect::<Value>()).expect(201);
}

#[test]
fn pages_follow_each_other_in_byte_order_without_gap_or_repeat() {
    let server = Server::with_graph();
    let mut names = ["b", "a", "B", "aa", "a/b", "é", "日本", "a b", "~", "10", "9"];
    put_jobs(&server, &names);
    names.sort_unstable();
    for limit in [1, 2, 3, names.len(), 1000] {
        let (walked, pages) = walk(&server, "/v1/graphs/g/jobs", &format!("limit={limit}"), "name");
        assert_eq!(walked, names, "limit {limit}");
        assert_eq!(pages, names.len().div_ceil(limit), "limit {limit}");
    }
    let (walked, _) = walk(&server, "/v1/graphs/g/datasets", "limit=2", "name");
    let datasets: Vec<String> = names.iter().map(|name| format!("d{name}")).collect();
    assert_eq!(walked, datasets);
}

#[test]
fn a_prefix_leaves_out_all_other_names() {
    let server = Server::with_graph();
    put_jobs(&server, &["a", "ab", "abc", "b", "A", "a/x", "日本", "日月"]);
    for (prefix, expected) in [
        ("a", &["a", "a/x", "ab", "abc"][..]),
        ("ab", &["ab", "abc"]),
        ("日", &["日月", "日本"]),
        ("zz", &[]),
        ("", &["A", "a", "a/x", "ab", "abc", "b", "日月", "日本"]),
    ] {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        for limit in [1, 2, 100] {
            let query = format!("prefix={}&limit={limit}", encoded(prefix));
            assert_eq!(walk(&server, "/v1/graphs/g/jobs", &query, "name").0, expected, "{query}");
        }
    }
}

#[test]
fn graphs_are_listed_in_pages_too_and_deleted_ones_are_not() {
    let server = Server::start();
    for graph in ["b", "a", "c", "ba", "日本"] {
        server.put(&format!("/v1/graphs/{}", encoded(graph))).send().expect(201);
    }
    server.delete("/v1/graphs/c").send().expect(200);
    for limit in [1, 2, 10] {
        let (walked, _) = walk(&server, "/v1/graphs", &format!("limit={limit}"), "graph");
        assert_eq!(walked, ["a", "b", "ba", "日本"]);
        let (walked, _) = walk(&server, "/v1/graphs", &format!("limit={limit}&prefix=b"), "graph");
        assert_eq!(walked, ["b", "ba"]);
    }
}

#[test]
fn a_page_has_100_items_unless_asked_and_1000_at_most() {
    let server = Server::with_graph();
    let names: Vec<String> = (0..1100).map(|i| format!("{i:04}")).collect();
    put_jobs(&server, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let count = |query: &str| {
        let page = server.get(&format!("/v1/graphs/g/jobs{query}")).send().expect(200).json();
        page["items"].as_array().unwrap().len()
    };
    assert_eq!((count(""), count("?limit=1000")), (100, 1000));
    for limit in ["0", "1001", "-1", "x", "", "1e2", "18446744073709551616"] {
        let problem = server
            .get(&format!("/v1/graphs/g/jobs?limit={limit}"))
            .send()
            .problem(400, "malformed");
        assert_eq!(problem["at"], "limit");
    }
}

#[test]
fn a_cursor_holds_while_its_name_is_deleted() {
    let server = Server::with_graph();
    put_jobs(&server, &["a", "b", "c"]);
    let page = server.get("/v1/graphs/g/jobs?limit=2").send().expect(200).json();
    server.delete("/v1/graphs/g/jobs/b").send().expect(200);
    let next =
        format!("/v1/graphs/g/jobs?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(server.get(&next).send().expect(200).json()["items"][0]["name"], "c");
}

#[test]
fn a_cursor_of_another_list_or_made_up_is_refused() {
    let server = Server::with_graph();
    server.put("/v1/graphs/h").send().expect(201);
    put_jobs(&server, &["a", "ab", "b"]);
    let cursor = server.get("/v1/graphs/g/jobs?limit=1").send().json()["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    server.get(&format!("/v1/graphs/g/jobs?cursor={cursor}")).send().expect(200);
    let made_up = format!("{}0", &cursor[..cursor.len() - 1]);
    for path in [
        format!("/v1/graphs/h/jobs?cursor={cursor}"),
        format!("/v1/graphs/g/datasets?cursor={cursor}"),
        format!("/v1/graphs?cursor={cursor}"),
        format!("/v1/graphs/g/jobs?prefix=a&cursor={cursor}"),
        format!("/v1/graphs/g/jobs?cursor={made_up}"),
        "/v1/graphs/g/jobs?cursor=".to_owned(),
        "/v1/graphs/g/jobs?cursor=b".to_owned(),
        "/v1/graphs/g/jobs?cursor=%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5%E6%97%A5"
            .to_owned(),
    ] {
        assert_eq!(server.get(&path).send().problem(400, "malformed")["at"], "cursor", "{path}");
    }
}
