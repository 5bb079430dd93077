//! Lists in pages.

use serde_json::{Value, json};

use crate::conformance::case::{Case, case};
use crate::conformance::client::encoded;
use crate::conformance::session::{Ask, Session, job};
use crate::conformance::unmet::{Met, Unmet};

pub const CASES: &[Case] = &[
    case!(
        All,
        pages_follow_each_other_in_byte_order_without_gap_or_repeat,
        "A list comes in pages, in byte order of names, each name once; `next_cursor` is null on \
         the last page."
    ),
    case!(
        All,
        the_items_of_a_list_are_what_a_read_of_each_gives,
        "An item of a list of jobs or datasets is the object that GET of it answers."
    ),
    case!(
        All,
        a_prefix_leaves_out_all_other_names,
        "?prefix= keeps the names that begin with it, byte by byte, on every page."
    ),
    case!(
        All,
        a_page_has_100_items_unless_asked_and_1000_at_most,
        "A page has 100 items, or `limit`, which is from 1 to 1000."
    ),
    case!(
        All,
        a_parameter_that_is_not_known_or_given_twice_is_refused,
        "A query parameter that the call does not have, or that comes twice, is 400 malformed."
    ),
    case!(
        All,
        a_cursor_holds_while_its_name_is_deleted,
        "A list goes on after the last name that was told, whether that is still there or not."
    ),
    case!(
        All,
        a_cursor_belongs_to_its_list,
        "A cursor of another list, graph or prefix is 400 malformed."
    ),
    case!(
        All,
        graphs_are_listed_and_deleted_ones_are_not,
        "GET of /v1/graphs lists the graphs that are there, in pages, with their versions."
    ),
];

/// More pages than any list here has.
const PAGES_MAX: usize = 50;

/// The names on all pages, and how many pages those were. `ask` gets the query.
fn walk<'c>(
    ask: impl Fn(&str) -> Ask<'c>,
    query: &str,
    name: &str,
) -> Result<(Vec<String>, usize), Unmet> {
    let (mut names, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = ask(&format!("?{query}{cursor}")).send()?.is(200)?;
        names.extend(page.names(name)?);
        pages += 1;
        match &page.object()?["next_cursor"] {
            Value::Null => return Ok((names, pages)),
            Value::String(next) if pages < PAGES_MAX => {
                cursor = format!("&cursor={}", encoded(next));
            }
            Value::String(_) => {
                return Err(page.broken(format_args!("a last page after fewer than {PAGES_MAX}")));
            }
            _ => return Err(page.broken("`next_cursor` to be a text or null")),
        }
    }
}

fn same(what: &str, expected: &[String], got: &[String]) -> Met {
    if expected == got {
        return Ok(());
    }
    Err(Unmet::Broken(format!("{what}: expected the names {expected:?}, got {got:?}")))
}

/// A graph with jobs of these names, each of which writes `d` and its name.
fn with_jobs(s: &Session<'_>, names: &[&str]) -> Result<Vec<String>, Unmet> {
    s.create()?;
    let put = |name: &&str| {
        let output = format!("d{name}");
        json!({"op": "put_job", "name": name, "inputs": [], "outputs": [output]})
    };
    let operations: Vec<Value> = names.iter().map(put).collect();
    s.change(&json!(operations)).send()?.is(201)?;
    let mut sorted: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    sorted.sort_unstable();
    Ok(sorted)
}

fn pages_follow_each_other_in_byte_order_without_gap_or_repeat(s: &Session<'_>) -> Met {
    let names = ["b", "a", "B", "aa", "a/b", "é", "日本", "a b", "~", "10", "9"];
    let sorted = with_jobs(s, &names)?;
    for limit in [1, 2, 3, names.len(), 1000] {
        let query = format!("limit={limit}");
        let jobs = |query: &str| s.get(&format!("/jobs{query}"));
        let (told, pages) = walk(jobs, &query, "name")?;
        same(&format!("jobs in pages of {limit}"), &sorted, &told)?;
        let expected = names.len().div_ceil(limit);
        if pages != expected {
            let name_count = names.len();
            return Err(Unmet::Broken(format!(
                "{name_count} jobs in pages of {limit}: expected {expected} pages, got {pages}"
            )));
        }
    }
    let datasets: Vec<String> = sorted.iter().map(|name| format!("d{name}")).collect();
    let (told, _) = walk(|query| s.get(&format!("/datasets{query}")), "limit=2", "name")?;
    same("datasets in pages of 2", &datasets, &told)
}

fn the_items_of_a_list_are_what_a_read_of_each_gives(s: &Session<'_>) -> Met {
    with_jobs(s, &["a", "b"])?;
    for path in ["/jobs", "/datasets"] {
        let page = s.get(path).send()?.is(200)?;
        let names = page.names("name")?;
        let items = page.object()?["items"].clone();
        for (at, name) in names.iter().enumerate() {
            let read = s.get(&format!("{path}/{}", encoded(name))).send()?.is(200)?;
            if read.object()? != items[at] {
                return Err(page.broken(format_args!("the item {}", read.text())));
            }
        }
    }
    Ok(())
}

fn a_prefix_leaves_out_all_other_names(s: &Session<'_>) -> Met {
    let sorted = with_jobs(s, &["a", "ab", "abc", "b", "A", "a/x", "日本", "日月"])?;
    for prefix in ["a", "ab", "日", "zz", ""] {
        let begins = |name: &&String| name.starts_with(prefix);
        let expected: Vec<String> = sorted.iter().filter(begins).cloned().collect();
        for limit in [1, 100] {
            let query = format!("prefix={}&limit={limit}", encoded(prefix));
            let (told, _) = walk(|query| s.get(&format!("/jobs{query}")), &query, "name")?;
            same(&format!("jobs with prefix `{prefix}`"), &expected, &told)?;
        }
    }
    Ok(())
}

fn a_page_has_100_items_unless_asked_and_1000_at_most(s: &Session<'_>) -> Met {
    let names: Vec<String> = (0..1100).map(|number| format!("{number:04}")).collect();
    with_jobs(s, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    for (query, count) in [("", 100), ("?limit=1000", 1000)] {
        let page = s.get(&format!("/jobs{query}")).send()?.is(200)?;
        let told = page.names("name")?.len();
        if told != count {
            return Err(Unmet::Broken(format!(
                "{}: expected {count} items, got {told}",
                page.call
            )));
        }
    }
    for limit in ["0", "1001", "-1", "x", ""] {
        s.get(&format!("/jobs?limit={limit}")).send()?.malformed("limit")?;
    }
    Ok(())
}

fn a_parameter_that_is_not_known_or_given_twice_is_refused(s: &Session<'_>) -> Met {
    s.create()?;
    s.get("/jobs?nonsense=1").send()?.malformed("nonsense")?;
    s.get("/jobs?limit=1&limit=1").send()?.malformed("limit")?;
    Ok(())
}

/// The cursor after the first `limit` jobs.
fn cursor_after(s: &Session<'_>, limit: usize) -> Result<String, Unmet> {
    let page = s.get(&format!("/jobs?limit={limit}")).send()?.is(200)?;
    let told = page.object()?;
    let cursor = told["next_cursor"].as_str().map(encoded);
    cursor.ok_or_else(|| page.broken("a text `next_cursor`"))
}

fn a_cursor_holds_while_its_name_is_deleted(s: &Session<'_>) -> Met {
    with_jobs(s, &["a", "b", "c"])?;
    let cursor = cursor_after(s, 2)?;
    s.delete(&job("b")).send()?.is(200)?;
    let next = s.get(&format!("/jobs?limit=2&cursor={cursor}")).send()?.is(200)?;
    same("the page after a name that was deleted", &["c".to_owned()], &next.names("name")?)
}

fn a_cursor_belongs_to_its_list(s: &Session<'_>) -> Met {
    let other = s.another("other");
    other.create()?;
    with_jobs(s, &["a", "ab", "b"])?;
    let cursor = cursor_after(s, 1)?;
    for request in [
        s.get(&format!("/datasets?cursor={cursor}")),
        other.get(&format!("/jobs?cursor={cursor}")),
        s.get(&format!("/jobs?prefix=a&cursor={cursor}")),
        s.get("/jobs?cursor=made%20up"),
    ] {
        request.send()?.malformed("cursor")?;
    }
    Ok(())
}

fn graphs_are_listed_and_deleted_ones_are_not(s: &Session<'_>) -> Met {
    let [first, second, gone] = [s.another("a"), s.another("b"), s.another("c")];
    for graph in [&gone, &second, &first] {
        graph.create()?;
    }
    first.given(&[("a", &[], &[])])?;
    gone.delete("").send()?.is(200)?;
    let list = |query: &str| s.get_at(&format!("/v1/graphs{query}"));
    let query = format!("prefix={}&limit=1", s.graph());
    let (told, _) = walk(list, &query, "graph")?;
    let expected = [first.graph().to_owned(), second.graph().to_owned()];
    same("graphs in pages of 1", &expected, &told)?;
    let page = list(&format!("?{query}")).send()?.is(200)?;
    let version = page.object()?["items"][0]["version"].clone();
    page.must(version == 1, "an item with version 1").map(drop)
}
