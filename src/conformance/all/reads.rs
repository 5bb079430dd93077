//! Reads on a condition, and reads that wait.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Ask, Session, dataset, job};
use crate::conformance::unmet::{Met, Unmet};

pub const CASES: &[Case] = &[
    case!(
        All,
        every_read_of_a_graph_has_its_version_and_a_tag,
        "Reads of lists, plans, reachable sets and digests have Fencepost-Version and ETag too."
    ),
    case!(
        All,
        a_read_of_what_the_client_has_answers_304,
        "A read whose If-None-Match names the tag, weakly, in a list or as *, is 304 without a \
         body and with the tag."
    ),
    case!(
        All,
        a_read_of_what_has_changed_is_answered_whole,
        "A read whose If-None-Match names another tag is 200."
    ),
    case!(
        All,
        a_read_waits_for_the_version_that_is_asked_for,
        "?at_least=N waits until the graph is at version N, and answers at that or a later one."
    ),
    case!(
        All,
        a_version_that_does_not_come_is_told_after_a_while,
        "A read that waits in vain answers 503 version_not_reached after some 5 s, with \
         Retry-After and outcome not_applied."
    ),
];

/// Two jobs at version 2, and reads of all kinds, each with its tag.
fn tagged<'c>(s: &Session<'c>) -> Result<[(Ask<'c>, &'static str); 7], Unmet> {
    s.create()?;
    s.given(&[("a", &["x"], &["y"]), ("b", &["y"], &[])])?;
    Ok([
        (s.get(&job("a")), "\"1\""),
        (s.get(&dataset("y")), "\"2\""),
        (s.get(""), "\"2\""),
        (s.get("/digest"), "\"2\""),
        (s.get("/jobs"), "\"2\""),
        (s.get(&format!("{}/plan", dataset("y"))), "\"2\""),
        (s.get(&format!("{}/downstream", dataset("x"))), "\"2\""),
    ])
}

fn every_read_of_a_graph_has_its_version_and_a_tag(s: &Session<'_>) -> Met {
    for (read, tag) in tagged(s)? {
        read.send()?.is(200)?.has("Fencepost-Version", Some("2"))?.has("ETag", Some(tag))?;
    }
    Ok(())
}

fn a_read_of_what_the_client_has_answers_304(s: &Session<'_>) -> Met {
    for (read, tag) in tagged(s)? {
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"99\", {tag}"), "*".to_owned()]
        {
            let answer = read.clone().if_none_match(&known).send()?.is(304)?;
            answer.has("ETag", Some(tag))?;
        }
        read.if_none_match(tag).has_no_body()?;
    }
    Ok(())
}

fn a_read_of_what_has_changed_is_answered_whole(s: &Session<'_>) -> Met {
    for (read, _) in tagged(s)? {
        for other in ["\"99\"", "\"x\""] {
            read.clone().if_none_match(other).send()?.is(200)?.object()?;
        }
    }
    Ok(())
}

fn a_read_waits_for_the_version_that_is_asked_for(s: &Session<'_>) -> Met {
    const WRITTEN_AFTER: Duration = Duration::from_millis(300);
    s.create()?;
    let read = s.get(&format!("{}?at_least=1", job("a")));
    let put = s.put_job("a", &[], &[]);
    let waited = thread::scope(|scope| {
        let waited = scope.spawn(|| read.send());
        thread::sleep(WRITTEN_AFTER);
        put.send()?.is(201)?;
        waited.join().expect("a read does not panic")
    });
    waited?.is(200)?.tells(json!({"name": "a", "version": 1}))?;
    s.get("?at_least=0").send()?.is(200)?;
    for version in ["-1", "x"] {
        s.get(&format!("?at_least={version}")).send()?.malformed("at_least")?;
    }
    Ok(())
}

fn a_version_that_does_not_come_is_told_after_a_while(s: &Session<'_>) -> Met {
    const WAIT_MIN: Duration = Duration::from_secs(4);
    s.create()?;
    let began = Instant::now();
    let answer = s.get("?at_least=9223372036854775807").send()?;
    let answer = answer.problem(503, "version_not_reached")?;
    let answer = answer.tells(json!({"outcome": "not_applied"}))?;
    let says_when = answer.header("Retry-After").is_some();
    let answer = answer.must(says_when, "a header Retry-After")?;
    let (waited, least) = (began.elapsed().as_secs_f64(), WAIT_MIN.as_secs());
    let has_waited = began.elapsed() >= WAIT_MIN;
    let expected = format!("an answer after {least} s at the earliest, not after {waited:.1} s");
    answer.must(has_waited, expected).map(drop)
}
