//! Writes of several clients at once.

use std::thread;

use serde_json::{Value, json};

use crate::conformance::case::{Case, case};
use crate::conformance::client::Answer;
use crate::conformance::session::{Ask, Session, job};
use crate::conformance::unmet::{Met, Unmet};

pub const CASES: &[Case] = &[
    case!(
        Writes,
        writes_at_once_get_versions_without_gap_or_repeat,
        "Every accepted write has a version of its own, and together they have all of them."
    ),
    case!(
        Writes,
        of_writes_at_once_with_one_if_match_one_is_done,
        "Of several writes at once that name the same version, one is done and the others are \
         refused."
    ),
];

const CLIENTS: usize = 8;
const PUTS_OF_A_CLIENT: usize = 10;
/// Each of them at once; their answers.
fn all_at_once(requests: Vec<Vec<Ask<'_>>>) -> Result<Vec<Answer>, Unmet> {
    let send =
        |requests: Vec<Ask<'_>>| requests.iter().map(Ask::send).collect::<Result<Vec<_>, _>>();
    let answers: Result<Vec<Vec<Answer>>, Unmet> = thread::scope(|scope| {
        let clients: Vec<_> =
            requests.into_iter().map(|requests| scope.spawn(move || send(requests))).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    Ok(answers?.concat())
}

fn writes_at_once_get_versions_without_gap_or_repeat(s: &Session<'_>) -> Met {
    s.create()?;
    let put = |client, number| s.put_job(&format!("{client}-{number}"), &[], &[]);
    let puts_of = |client| (0..PUTS_OF_A_CLIENT).map(move |number| put(client, number)).collect();
    let answers = all_at_once((0..CLIENTS).map(puts_of).collect())?;
    let mut versions = Vec::new();
    for answer in answers {
        let told = answer.is(201)?.object()?;
        versions.push(told["version"].as_u64().unwrap_or_default());
    }
    versions.sort_unstable();
    let all: Vec<u64> = (1..).take(CLIENTS * PUTS_OF_A_CLIENT).collect();
    if versions == all {
        return Ok(());
    }
    let count = all.len();
    Err(Unmet::Broken(format!(
        "{count} puts of different jobs at once: expected each version from 1 to {count} once, got \
         {versions:?}"
    )))
}

fn of_writes_at_once_with_one_if_match_one_is_done(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("j", &[], &[])])?;
    let put = |writer: usize| {
        let body = json!({"inputs": [], "outputs": [], "spec": {"writer": writer}});
        vec![s.put(&job("j")).json(&body).if_match("\"1\"")]
    };
    let mut done = 0;
    for answer in all_at_once((0..CLIENTS).map(put).collect())? {
        if answer.status == 200 {
            done += 1;
            answer.accepted(200, 2, true)?;
        } else {
            answer.precondition_failed(json!(1), json!(2))?;
        }
    }
    let read = s.get(&job("j")).send()?.tells(json!({"version": 2}))?;
    let is_whole = read.object()?["spec"]["writer"] != Value::Null;
    let one = done == 1 && is_whole;
    read.must(one, format_args!("one of {CLIENTS} writes to be done, not {done}")).map(drop)
}
