//! Idempotency keys.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::client::Answer;
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Writes,
        the_same_key_gives_the_same_answer_and_writes_once,
        "A write that was accepted under an Idempotency-Key is answered again as it was the first \
         time, and is not done again."
    ),
    case!(
        Writes,
        the_same_key_with_another_method_path_or_body_is_refused,
        "A key that was used for another request of the graph is 422 idempotency_key_reused."
    ),
    case!(Writes, a_key_belongs_to_one_graph, "The same key in another graph is a new one."),
    case!(
        Writes,
        a_rejection_is_not_kept_under_its_key,
        "A request that was rejected is decided anew when it comes again with its key."
    ),
    case!(
        Writes,
        a_key_has_from_1_to_255_characters_of_ascii,
        "An Idempotency-Key that is empty, longer, or not ASCII is 400 malformed."
    ),
];

/// That the second answer repeats the first.
fn repeats(first: &Answer, second: Answer) -> Met {
    let headers = ["Fencepost-Version", "ETag", "Location"];
    let same_headers = headers.iter().all(|name| first.header(name) == second.header(name));
    let same = first.status == second.status && first.body == second.body && same_headers;
    second.must(same, format_args!("the answer of the first time: {}", first.shown())).map(drop)
}

fn the_same_key_gives_the_same_answer_and_writes_once(s: &Session<'_>) -> Met {
    s.create()?;
    let put = s.put_job("a", &["x"], &[]).key("k");
    let first = put.send()?.accepted(201, 1, true)?;
    repeats(&first, put.send()?)?;
    s.delete(&job("a")).send()?.accepted(200, 2, true)?;
    repeats(&first, put.send()?)?;
    s.get(&job("a")).send()?.problem(404, "job_not_found")?;
    let post = s.post("/jobs", &json!({"name": "b", "inputs": [], "outputs": []})).key("l");
    let first = post.send()?.accepted(201, 3, true)?;
    repeats(&first, post.send()?)
}

fn the_same_key_with_another_method_path_or_body_is_refused(s: &Session<'_>) -> Met {
    s.create()?;
    s.put_job("a", &["x"], &[]).key("k").send()?.is(201)?;
    let before = s.state()?;
    let others = [
        s.put_job("a", &["y"], &[]),
        s.put_job("b", &["x"], &[]),
        s.delete(&job("a")),
        s.post("/jobs", &json!({"name": "c", "inputs": [], "outputs": []})),
    ];
    for other in others {
        other.key("k").send()?.problem(422, "idempotency_key_reused")?;
        s.is_still(&before, "another request with a key that was used")?;
    }
    Ok(())
}

fn a_key_belongs_to_one_graph(s: &Session<'_>) -> Met {
    let other = s.another("other");
    s.create()?;
    other.create()?;
    s.put_job("a", &["x"], &[]).key("k").send()?.accepted(201, 1, true)?;
    other.put_job("b", &["y"], &[]).key("k").send()?.accepted(201, 1, true)?;
    Ok(())
}

fn a_rejection_is_not_kept_under_its_key(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["x"])])?;
    let put = s.put_job("b", &[], &["x"]).key("k");
    put.send()?.problem(409, "second_producer")?;
    s.delete(&job("a")).send()?.is(200)?;
    put.send()?.accepted(201, 3, true)?;
    Ok(())
}

fn a_key_has_from_1_to_255_characters_of_ascii(s: &Session<'_>) -> Met {
    s.create()?;
    for key in ["", &"k".repeat(256), "ü"] {
        s.put(&dataset("d")).key(key).send()?.malformed("idempotency-key")?;
    }
    s.put(&dataset("d")).key(&"k".repeat(255)).send()?.is(201)?;
    Ok(())
}
