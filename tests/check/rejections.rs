//! What the service's graph says of random changesets, the checker says too.

use fencepost::graph::{Decision, Graph};
use proptest::prelude::*;
use serde_json::json;

use super::script::Script;
use super::truth;
use crate::support::closing::{Jobs, changesets, declarations};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cycle_shown_is_the_one_that_the_checker_expects(draws in changesets(1..12)) {
        let (mut graph, mut jobs, mut script) = (Graph::default(), Jobs::default(), Script::new());
        let mut changesets = vec![(declarations(), jobs.clone())];
        let mut draws = draws.iter();
        let mut ms = 0;
        while let Some((operations, after)) = changesets.pop() {
            let request = json!({"call": "applyChangeset", "operations": operations});
            let version = graph.version();
            let end = match truth::judge(&graph, &request) {
                Err(rejection) => truth::rejected(rejection, version),
                Ok(Decision { change, next, created, .. }) => {
                    (graph, jobs) = (next, after);
                    json!({
                        "event": "ok", "verdict": "accepted", "version": graph.version(),
                        "changed": !change.is_empty(), "created": created,
                    })
                }
            };
            script = script.call(0, [ms, ms + 1], request, end);
            ms += 2;
            changesets.extend(draws.next().map(|draws| jobs.changeset(draws)));
        }
        script.valid();
    }
}
