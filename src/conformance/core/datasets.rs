//! Datasets, implied and declared.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Core,
        a_dataset_is_implied_by_jobs_and_goes_with_its_last_mention,
        "A dataset that jobs mention is there, with its producer and its consumers in byte \
         order, until no job mentions it."
    ),
    case!(
        Core,
        a_declared_dataset_stays_and_keeps_its_metadata,
        "A dataset that was put stays when no job mentions it any more, with its metadata."
    ),
    case!(
        Core,
        declaring_a_dataset_creates_it_with_201_or_finds_it_with_200,
        "PUT of a dataset answers 201 if there was none, and 200 if there was one, implied or \
         declared; declaring it as it is changes nothing."
    ),
];

fn a_dataset_is_implied_by_jobs_and_goes_with_its_last_mention(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["d"]), ("c", &["d"], &[]), ("b", &["d"], &[])])?;
    s.get(&dataset("d")).send()?.is(200)?.tells(json!({
        "name": "d", "declared": false, "producer": "a", "consumers": ["b", "c"], "metadata": {}
    }))?;
    for name in ["a", "b", "c"] {
        s.delete(&job(name)).send()?.is(200)?;
    }
    let gone = s.get(&dataset("d")).send()?.problem(404, "dataset_not_found")?;
    gone.tells(json!({"name": "d"}))?;
    Ok(())
}

fn a_declared_dataset_stays_and_keeps_its_metadata(s: &Session<'_>) -> Met {
    s.create()?;
    let metadata = json!({"owner": "finance"});
    s.put(&dataset("d")).json(&json!({"metadata": metadata})).send()?.is(201)?;
    s.given(&[("j", &["d"], &["e"])])?;
    s.delete(&job("j")).send()?.is(200)?;
    s.get(&dataset("d")).send()?.is(200)?.tells(json!({
        "name": "d", "declared": true, "producer": null, "consumers": [], "metadata": metadata
    }))?;
    Ok(())
}

fn declaring_a_dataset_creates_it_with_201_or_finds_it_with_200(s: &Session<'_>) -> Met {
    s.create()?;
    let put = s.put(&dataset("d"));
    let owned = put.clone().json(&json!({"metadata": {"owner": "finance"}}));
    owned.send()?.accepted(201, 1, true)?;
    owned.send()?.accepted(200, 1, false)?;
    put.json(&json!({"metadata": {}})).send()?.accepted(200, 2, true)?;
    s.given(&[("k", &[], &["i"])])?;
    s.put(&dataset("i")).send()?.accepted(200, 4, true)?;
    Ok(())
}
