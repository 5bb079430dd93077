//! The change log, in pages and in lines.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::conformance::case::{Case, case};
use crate::conformance::client::{Answer, encoded};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::{Met, Unmet};
use crate::object::objects_only;

pub const CASES: &[Case] = &[
    case!(
        All,
        the_change_log_has_every_version_once,
        "The log has one change for each version from 1 on; writes that changed nothing or were \
         rejected are not in it."
    ),
    case!(
        All,
        a_change_has_the_facts_of_what_was_done,
        "`data` of a change has its version and its facts: what was created, changed and deleted."
    ),
    case!(
        All,
        the_change_log_is_read_from_any_version_on,
        "?after=N gives the changes after N, ?limit= so many of them, and `next_after` is where \
         to go on."
    ),
    case!(
        All,
        the_lines_of_the_change_log_are_the_items_of_its_pages,
        "As application/x-ndjson the log is one change a line, each with the same bytes as in a \
         page."
    ),
    case!(
        All,
        the_chain_of_the_change_log_can_be_computed,
        "`chainhash` is the SHA-256 of the hash before, 32 bytes, zeros first, and the text of \
         `data`, which is canonical JSON."
    ),
    case!(
        All,
        whoever_has_read_what_is_not_there_is_told,
        "A reader beyond the head, or whose chain is not that of the log, is told by 412."
    ),
];

const LINES: &str = "application/x-ndjson";
/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// What `GET /changes` gives. A server may keep no log of a graph: then it says so by the problem
/// `pruned`, though nothing has been pruned.
fn read(s: &Session<'_>, query: &str, accept: &str) -> Result<Answer, Unmet> {
    let answer = s.get(&format!("/changes{query}")).accept(accept).send()?;
    offered(answer)
}

/// The answer, unless it says that there is no change log.
pub fn offered(answer: Answer) -> Result<Answer, Unmet> {
    if answer.status != 410 {
        return Ok(answer);
    }
    let answer = answer.problem(410, "pruned")?;
    let has_number = answer.object()?["oldest"].is_u64();
    answer.must(has_number, "a number `oldest`")?;
    Err(Unmet::NotOffered("the server keeps no change log (410 pruned)".to_owned()))
}

fn page(s: &Session<'_>, query: &str) -> Result<Answer, Unmet> {
    read(s, query, "application/json")?.is(200)
}

/// Three changes, with writes between that are none.
fn changed(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let metadata = json!({"metadata": {"k": 1}});
    s.put(&dataset("d")).json(&metadata).send()?.is(201)?;
    s.put_job("a", &["x"], &["y"]).send()?.is(200)?;
    s.put_job("b", &["y"], &["x"]).send()?.is(409)?;
    s.delete(&job("a")).send()?.is(200).map(drop)
}

fn versions(answer: &Answer) -> Result<Value, Unmet> {
    let told = answer.object()?;
    let items = told["items"].as_array().ok_or_else(|| answer.broken("a list `items`"))?;
    Ok(items.iter().map(|item| item["graphversion"].clone()).collect())
}

fn the_change_log_has_every_version_once(s: &Session<'_>) -> Met {
    changed(s)?;
    let answer = page(s, "")?.tells(json!({"graph": s.graph(), "version": 3, "next_after": 3}))?;
    let is_dense = versions(&answer)? == json!([1, 2, 3]);
    answer.must(is_dense, "items of the graphversions 1, 2 and 3").map(drop)
}

fn a_change_has_the_facts_of_what_was_done(s: &Session<'_>) -> Met {
    changed(s)?;
    let answer = page(s, "")?;
    let facts = [
        json!({
            "fact": "job_created", "name": "a", "inputs": ["x"], "outputs": ["y"], "spec": {}
        }),
        json!({"fact": "dataset_declared", "name": "d", "metadata": {"k": 1}}),
        json!({"fact": "job_deleted", "name": "a"}),
    ];
    let items = answer.object()?["items"].clone();
    for (at, fact) in facts.into_iter().enumerate() {
        let data = json!({"version": at + 1, "facts": [fact]});
        if items[at]["data"] != data {
            return Err(answer.broken(format_args!("the item {at} to have data {data}")));
        }
    }
    Ok(())
}

fn the_change_log_is_read_from_any_version_on(s: &Session<'_>) -> Met {
    changed(s)?;
    let next = page(s, "?after=1&limit=1")?.tells(json!({"next_after": 2}))?;
    let is_second = versions(&next)? == json!([2]);
    next.must(is_second, "one item, of graphversion 2")?;
    s.get("/changes?after=3").send()?.is(200)?.tells(json!({"items": [], "next_after": 3}))?;
    for limit in ["0", "1001"] {
        s.get(&format!("/changes?limit={limit}")).send()?.malformed("limit")?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Page {
    items: Vec<Box<RawValue>>,
}

fn the_lines_of_the_change_log_are_the_items_of_its_pages(s: &Session<'_>) -> Met {
    changed(s)?;
    let in_page = page(s, "")?;
    let Ok(Page { items }) = serde_json::from_slice(&in_page.body) else {
        return Err(in_page.broken("a list `items`"));
    };
    let lines = s.get("/changes").accept(LINES).send()?.is(200)?.has_media_type(LINES)?;
    let same = lines.text().lines().eq(items.iter().map(|item| item.get()));
    lines.must(same, "one line for each item of the page, byte for byte").map(drop)
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Change {
    chainhash: String,
    data: Box<RawValue>,
}

objects_only!(Page, Change);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn the_chain_of_the_change_log_can_be_computed(s: &Session<'_>) -> Met {
    changed(s)?;
    let answer = read(s, "", LINES)?.is(200)?;
    let mut chain = vec![0; HASH_BYTES];
    let mut hashes = Vec::new();
    for line in answer.text().lines() {
        let Ok(Change { chainhash, data }) = serde_json::from_str(line) else {
            return Err(answer.broken("a `chainhash` and `data` in every line"));
        };
        chain.extend_from_slice(data.get().as_bytes());
        chain = Sha256::digest(&chain).to_vec();
        if chainhash != hex(&chain) {
            let expected = format!("`chainhash` {} of {}", hex(&chain), data.get());
            return Err(answer.broken(expected));
        }
        hashes.push(chainhash);
    }
    // Those of canonical JSON.
    let canonical = [
        "cb798dbd5f1219cd5156f7cab06a66325f931c335e023f70c9ee5f20c5e8bd65",
        "acf0c0f6b19a0fcd8e48f23dc9dae0776d21aa0b2de1bf837599b0c247f46f0f",
        "7faf6ec097bb15ca3da1d3a92da6f2ea55a131fad44ac92fae0f0bd1b2bf307c",
    ];
    answer.must(hashes == canonical, format_args!("the hashes {canonical:?}")).map(drop)
}

fn whoever_has_read_what_is_not_there_is_told(s: &Session<'_>) -> Met {
    changed(s)?;
    let items = page(s, "")?.object()?["items"].clone();
    // What was just read is kept.
    let read = |query: &str| s.get(&format!("/changes{query}")).send();
    read("?after=4")?.precondition_failed(json!(4), json!(3))?;
    let chain_of = |at: usize| items[at]["chainhash"].as_str().unwrap_or_default().to_owned();
    let chain_of = |at: usize| encoded(&chain_of(at));
    read(&format!("?after=2&after_chain={}", chain_of(1)))?.is(200)?;
    let other = read(&format!("?after=2&after_chain={}", chain_of(2)))?;
    other.precondition_failed(json!(2), json!(3))?;
    s.get("/changes?after_chain=abc").send()?.malformed("after_chain")?;
    Ok(())
}
