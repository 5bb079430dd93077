//! The rules of a graph: no cycle, no second producer.

use serde_json::{Value, json};

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Core,
        a_job_that_reads_what_it_writes_is_rejected,
        "A job that reads what it writes is a cycle: 409, and nothing is changed."
    ),
    case!(
        Core,
        a_put_that_closes_a_cycle_is_rejected_and_changes_nothing,
        "A job must not depend on itself through any number of others: 409, and nothing is changed."
    ),
    case!(
        Core,
        a_cycle_is_told_from_its_smallest_job_round_to_it_again,
        "`cycle` has jobs and datasets in turn, begins and ends with its byte-smallest job, and \
         `operation` says which operation closes it."
    ),
    case!(
        Core,
        a_diamond_is_no_cycle,
        "The graph is directed: two ways from one dataset to another are no cycle."
    ),
    case!(
        Core,
        of_several_cycles_the_shortest_and_then_the_smallest_is_told,
        "Of several cycles the one of the fewest jobs is told; of equally short ones the smallest, \
         compared name by name."
    ),
    case!(
        Core,
        a_second_producer_is_rejected_and_changes_nothing,
        "A dataset has one producer at most: 409 with `producer`, the job that has it, and `job`, \
         the one that wants it; nothing is changed."
    ),
    case!(
        Core,
        a_second_producer_is_told_before_a_cycle,
        "A write that breaks both rules is told about the second producer."
    ),
];

fn a_job_that_reads_what_it_writes_is_rejected(s: &Session<'_>) -> Met {
    s.create()?;
    let before = s.state()?;
    s.put_job("b", &["s"], &["s"]).send()?.problem(409, "cycle")?;
    s.is_still(&before, "a job that reads what it writes")?;
    s.get(&job("b")).send()?.problem(404, "job_not_found")?;
    Ok(())
}

fn a_put_that_closes_a_cycle_is_rejected_and_changes_nothing(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("b", &["1"], &["2"]), ("c", &["2"], &["3"])])?;
    let before = s.state()?;
    s.put_job("a", &["3"], &["1"]).send()?.problem(409, "cycle")?;
    s.is_still(&before, "a put that closes a cycle")?;
    s.get(&job("a")).send()?.problem(404, "job_not_found")?;
    s.get(&dataset("3")).send()?.tells(json!({"consumers": []}))?;
    Ok(())
}

fn a_cycle_is_told_from_its_smallest_job_round_to_it_again(s: &Session<'_>) -> Met {
    s.create()?;
    let told = |cycle: Value| json!({"cycle": cycle, "operation": 0});
    let alone = s.put_job("b", &["s"], &["s"]).send()?.problem(409, "cycle")?;
    alone.tells(told(json!(["b", "s", "b"])))?;
    s.given(&[("b", &["1"], &["2"]), ("a", &["2"], &["3"])])?;
    let three = s.put_job("c", &["3"], &["1"]).send()?.problem(409, "cycle")?;
    three.tells(told(json!(["a", "3", "c", "1", "b", "2", "a"])))?;
    Ok(())
}

fn a_diamond_is_no_cycle(s: &Session<'_>) -> Met {
    s.create()?;
    s.put_job("top", &[], &["l", "r"]).send()?.accepted(201, 1, true)?;
    s.put_job("left", &["l"], &["l2"]).send()?.accepted(201, 2, true)?;
    s.put_job("right", &["r"], &["r2"]).send()?.accepted(201, 3, true)?;
    s.put_job("bottom", &["l2", "r2"], &["end"]).send()?.accepted(201, 4, true)?;
    Ok(())
}

fn of_several_cycles_the_shortest_and_then_the_smallest_is_told(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[
        ("b", &["to b"], &["from b"]),
        ("c", &["to c"], &["from c", "also from c"]),
        ("d", &["from c"], &["from d"]),
    ])?;
    let outputs = ["to b", "to c"];
    let closes = |inputs: &[&str], cycle: Value| -> Met {
        let told = s.put_job("x", inputs, &outputs).send()?.problem(409, "cycle")?;
        told.tells(json!({"cycle": cycle})).map(drop)
    };
    let smallest = json!(["b", "from b", "x", "to b", "b"]);
    closes(&["from b", "from c", "also from c", "from d"], smallest)?;
    let by_dataset = json!(["c", "also from c", "x", "to c", "c"]);
    closes(&["from c", "also from c", "from d"], by_dataset)?;
    closes(&["from d"], json!(["c", "from c", "d", "from d", "x", "to c", "c"]))
}

fn a_second_producer_is_rejected_and_changes_nothing(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let before = s.state()?;
    let told = s.put_job("b", &[], &["y", "z"]).send()?.problem(409, "second_producer")?;
    told.tells(json!({"dataset": "y", "producer": "a", "job": "b", "operation": 0}))?;
    s.is_still(&before, "a second producer")?;
    s.get(&dataset("z")).send()?.problem(404, "dataset_not_found")?;
    Ok(())
}

fn a_second_producer_is_told_before_a_cycle(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &["x"])])?;
    s.put_job("b", &["x"], &["x"]).send()?.problem(409, "second_producer")?;
    Ok(())
}
