//! Cycles, and what only looks like one.

use std::collections::BTreeMap;

use fencepost::graph::{Graph, Name, Operation, Rejection, Side};
use serde_json::json;

use super::model::{Model, Verdict};
use super::support::{
    accepted, assert_same, changeset, command, decided, graph_of, name, names, put, rejected,
    verdict,
};

fn cycle(names: &[&str], operation: usize) -> Rejection {
    Rejection::Cycle { cycle: names.iter().map(|text| name(text)).collect(), operation }
}

#[test]
fn a_job_that_reads_what_it_writes_is_a_cycle() {
    let command = changeset([put("job", &["a", "b"], &["b", "c"])]);
    let expected = cycle(&["job", "b", "job"], 0);
    assert_eq!(rejected(&Graph::default(), &command), expected);
    let elsewhere = graph_of([put("other", &["x"], &["a"])]);
    assert_eq!(rejected(&elsewhere, &command), expected);
    let without_edges = graph_of([put("job", &[], &[])]);
    assert_eq!(rejected(&without_edges, &command), expected);
}

#[test]
fn a_cycle_may_enter_through_one_output_and_leave_through_another() {
    let graph =
        graph_of([put("middle", &["in"], &["left", "right"]), put("after", &["left"], &["end"])]);
    let closing = changeset([put("middle", &["end"], &["left", "right"])]);
    assert_eq!(rejected(&graph, &closing), cycle(&["after", "end", "middle", "left", "after"], 0));
    let through_the_other = changeset([put("before", &["right"], &["in"])]);
    assert_eq!(
        rejected(&graph, &through_the_other),
        cycle(&["before", "in", "middle", "right", "before"], 0)
    );
}

/// The order is searched from both ends, an edge a step; here one end must walk by a hundred others
/// first.
#[test]
fn a_cycle_is_found_by_whichever_side_is_shorter() {
    let others: Vec<String> = (0..100).map(|i| format!("other {i}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let before = others.iter().map(|other| put(other, &[], &[other]));
    let late = put("late", &[&others[..], &["link"]].concat(), &["back"]);
    let many_inputs = graph_of(before.chain([put("early", &[], &["link"]), late]));
    let closing = rejected(&many_inputs, &changeset([put("early", &["back"], &["link"])]));
    assert_eq!(closing, cycle(&["early", "link", "late", "back", "early"], 0));

    let early = put("early", &[], &[&others[..], &["link"]].concat());
    let after = others.iter().map(|other| put(&format!("reads {other}"), &[other], &[]));
    let many_outputs =
        graph_of([early].into_iter().chain(after).chain([put("late", &["link"], &["back"])]));
    let closing = rejected(
        &many_outputs,
        &changeset([put("early", &["back"], &[&others[..], &["link"]].concat())]),
    );
    assert_eq!(closing, cycle(&["early", "link", "late", "back", "early"], 0));
}

#[test]
fn diamonds_are_legal() {
    let graph = graph_of([
        put("top", &["source"], &["a", "b"]),
        put("left", &["a"], &["l"]),
        put("right", &["b"], &["r"]),
        put("bottom", &["l", "r", "a", "source"], &["end"]),
    ]);
    assert_eq!(graph.job_count(), 4);
    // The same from the end to the start, and a second path between jobs that have one.
    let graph = graph_of([
        put("bottom", &["l", "r"], &["end"]),
        put("right", &["b"], &["r"]),
        put("left", &["a"], &["l"]),
        put("top", &["source"], &["a", "b"]),
    ]);
    accepted(&graph, &changeset([put("bottom", &["l", "r", "a", "b"], &["end"])]));
}

#[test]
fn of_several_cycles_the_shortest_and_then_the_smallest_is_told() {
    let graph = graph_of([
        put("b", &["to b"], &["from b"]),
        put("c", &["to c"], &["from c", "also from c"]),
        put("d", &["from c"], &["from d"]),
    ]);
    // b -> x -> b, c -> x -> c by either dataset, c -> d -> x -> c.
    let x = put("x", &["from b", "from c", "also from c", "from d"], &["to b", "to c"]);
    assert_eq!(rejected(&graph, &changeset([x])), cycle(&["b", "from b", "x", "to b", "b"], 0));
    let x = put("x", &["from c", "also from c", "from d"], &["to b", "to c"]);
    assert_eq!(
        rejected(&graph, &changeset([x])),
        cycle(&["c", "also from c", "x", "to c", "c"], 0)
    );
    let x = put("x", &["from d"], &["to b", "to c"]);
    assert_eq!(
        rejected(&graph, &changeset([x])),
        cycle(&["c", "from c", "d", "from d", "x", "to c", "c"], 0)
    );
}

fn edge(op: &str, job: &str, dataset: &str) -> Operation {
    let (side, job, dataset) = (Side::Input, name(job), name(dataset));
    match op {
        "add" => Operation::AddEdge { side, job, dataset },
        _ => Operation::RemoveEdge { side, job, dataset },
    }
}

fn delete(job: &str) -> Operation {
    Operation::DeleteJob { name: name(job) }
}

#[test]
fn the_operation_told_is_the_first_that_closes_a_cycle() {
    let graph = graph_of([put("a", &["1"], &["2"]), put("z", &["3"], &["4"])]);
    let command = changeset([
        put("unrelated", &["u"], &["v"]),
        put("z", &["2", "3"], &["4"]),
        put("a", &["1", "4"], &["2"]),
        put("last", &["4"], &["w"]),
    ]);
    assert_eq!(rejected(&graph, &command), cycle(&["a", "2", "z", "4", "a"], 2));
}

#[test]
fn a_shorter_cycle_that_a_later_operation_closes_is_not_told() {
    let graph = graph_of([put("a", &["1"], &["2"]), put("b", &["2"], &["3"])]);
    let command = changeset([
        put("c", &["3"], &["1"]),
        put("self", &["x"], &["x"]),
        put("b", &["2"], &["3", "1 too"]),
        put("a", &["1", "1 too"], &["2"]),
    ]);
    let expected = cycle(&["a", "2", "b", "3", "c", "1", "a"], 0);
    assert_eq!(rejected(&graph, &command), expected);
}

#[test]
fn of_the_cycles_that_one_operation_closes_the_shortest_is_told() {
    let graph = graph_of([put("a", &["1"], &["2"]), put("b", &["2"], &["3"])]);
    let command = changeset([
        put("z", &["y"], &["z"]),
        put("c", &["3", "2", "z"], &["1", "y"]),
        put("b", &["2"], &["3", "b"]),
    ]);
    assert_eq!(rejected(&graph, &command), cycle(&["a", "2", "c", "1", "a"], 1));
}

/// What is deleted and put within one changeset is the put's, also if the graph had it before.
#[test]
fn an_edge_that_was_away_belongs_to_the_operation_that_brought_it_back() {
    let graph = graph_of([put("a", &["1"], &["2"]), put("b", &["2"], &["3"])]);
    let told = cycle(&["a", "2", "b", "1", "a"], 2);
    let edge_by_edge = [
        edge("remove", "b", "2"),
        put("b", &[], &["1", "3"]),
        edge("add", "b", "2"),
        put("c", &["3"], &[]),
    ];
    assert_eq!(rejected(&graph, &changeset(edge_by_edge)), told);
    let whole = [delete("a"), put("b", &["2"], &["1", "3"]), put("a", &["1"], &["2"])];
    assert_eq!(rejected(&graph, &changeset(whole)), told);
    // Several times: the last counts.
    let often = [
        delete("a"),
        put("a", &["1"], &["2"]),
        put("b", &["2"], &["1", "3"]),
        put("a", &["1"], &[]),
        put("a", &["1"], &["2"]),
    ];
    assert_eq!(rejected(&graph, &changeset(often)), cycle(&["a", "2", "b", "1", "a"], 4));
}

#[test]
fn an_edge_that_is_put_again_keeps_its_operation() {
    let graph = graph_of([put("a", &["1"], &["2"]), put("b", &["2"], &["3"])]);
    let old_edges = [put("b", &["2"], &["3", "1"]), put("a", &["1"], &["2"])];
    assert_eq!(rejected(&graph, &changeset(old_edges)), cycle(&["a", "2", "b", "1", "a"], 0));
    let new_edges = [
        put("c", &["3"], &["4"]),
        put("a", &["1", "4"], &["2"]),
        put("c", &["3"], &["4", "5"]),
        put("a", &["4"], &["2"]),
    ];
    let told = cycle(&["a", "2", "b", "3", "c", "4", "a"], 1);
    assert_eq!(rejected(&graph, &changeset(new_edges)), told);
}

/// Operations on one job are told apart, and what one of them adds and another takes away is not
/// part of any cycle.
#[test]
fn several_operations_on_one_job_are_told_apart() {
    let graph = graph_of([put("a", &["1"], &["2"]), put("b", &["2"], &["3"])]);
    let command = changeset([
        put("b", &["2"], &["2 too", "3", "1"]),
        put("b", &["2"], &["3"]),
        put("b", &["2", "x"], &["3"]),
        put("b", &["2", "x"], &["3", "x", "1"]),
    ]);
    assert_eq!(rejected(&graph, &command), cycle(&["b", "x", "b"], 3));
    let mended = changeset([put("b", &["2"], &["1"]), put("b", &["2"], &["3", "4"])]);
    accepted(&graph, &mended);
}

fn link(i: usize, length: usize) -> Operation {
    put(&format!("job {i:06}"), &[&format!("d {i:06}")], &[&format!("d {:06}", (i + 1) % length)])
}

fn round(length: usize) -> Vec<Name> {
    let job_and_dataset =
        |i: usize| [name(&format!("job {i:06}")), name(&format!("d {:06}", (i + 1) % length))];
    (0..length).flat_map(job_and_dataset).chain([name("job 000000")]).collect()
}

#[test]
fn one_put_closes_a_cycle_of_five_thousand_jobs() {
    let graph = accepted(&Graph::default(), &changeset((0..4_999).map(|i| link(i, 5_000))));
    let closing = rejected(&graph, &changeset([link(4_999, 5_000)]));
    assert_eq!(closing, Rejection::Cycle { cycle: round(5_000), operation: 0 });
    assert!(closing.to_string().len() < 1_000, "a message is for people");
}

#[test]
fn five_thousand_puts_close_a_cycle_only_together() {
    let whole = changeset((0..5_000).map(|i| link(i, 5_000)));
    let expected = Rejection::Cycle { cycle: round(5_000), operation: 4_999 };
    assert_eq!(rejected(&Graph::default(), &whole), expected);
    let elsewhere = graph_of([put("unrelated", &["u"], &["v"])]);
    assert_eq!(rejected(&elsewhere, &whole), expected);
    // The jobs are there, their edges are what the changeset brings.
    let bare = accepted(
        &Graph::default(),
        &changeset((0..5_000).map(|i| put(&format!("job {i:06}"), &[], &[]))),
    );
    assert_eq!(rejected(&bare, &whole), expected);
}

/// A small generator of its own, so that a case is found again by its number.
pub struct Dice(pub u64);

impl Dice {
    /// xorshift64*, G. Marsaglia 2003, S. Vigna 2016.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    pub fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        (1..count).rev().for_each(|i| order.swap(i, self.below(i + 1)));
        order
    }
}

/// Mostly along a hidden order, so that long paths grow, in an order of insertion that knows
/// nothing of it; now and then against it.
#[test]
fn the_order_is_kept_through_random_edges() {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 1..=12 {
        let mut dice = Dice(seed * 7919);
        let count = 16 + 4 * seed as usize;
        let hidden = dice.shuffled(count);
        let (mut graph, mut model) = (Graph::default(), Model::default());
        for _ in 0..160 {
            let operations: Vec<_> = (0..1 + dice.below(3) * dice.below(8))
                .map(|_| {
                    let at = dice.below(count);
                    let inputs: Vec<String> = (0..dice.below(5))
                        .map(|_| if dice.below(25) == 0 { dice.below(count) } else { dice.below(at + 1).max(1) - 1 })
                        .map(|before| format!("of {}", hidden[before]))
                        .collect();
                    let job = format!("job {}", hidden[at]);
                    let output = format!("of {}", hidden[at]);
                    let inputs: Vec<_> = inputs.into_iter().filter(|input| *input != output).collect();
                    json!({"op": "put_job", "name": job, "inputs": inputs, "outputs": [output], "spec": {}})
                })
                .collect();
            let json = json!({"operations": operations});
            let command = command(&json);
            let expected = model.decide(&json);
            assert_eq!(verdict(&graph, &command), expected, "seed {seed}");
            match &expected {
                Verdict::Accepted { .. } => *met.entry("accepted").or_default() += 1,
                Verdict::Rejected(reason) => {
                    let jobs = reason["cycle"].as_array().unwrap().len() / 2;
                    *met.entry(if jobs > 3 { "long cycle" } else { "short cycle" }).or_default() +=
                        1;
                }
            }
            graph = decided(&graph, &command);
        }
        assert_same(&graph, &model);
    }
    println!("{met:?}");
    assert!(met.values().all(|&times| times > 20) && met.len() == 3, "{met:?}");
}

/// The searches of one changeset together may cost more than sorting all that they come to; then
/// that is sorted.
#[test]
fn a_changeset_that_turns_the_whole_order_round_is_sorted_anew() {
    const COUNT: usize = 2_500;
    let mut dice = Dice(42);
    let hidden = dice.shuffled(COUNT);
    let job = |i: usize| format!("job {:05}", hidden[i]);
    let of = |i: usize| format!("of {:05}", hidden[i]);
    let graph =
        accepted(&Graph::default(), &changeset((0..COUNT).map(|i| put(&job(i), &[], &[&of(i)]))));
    let chain = |i: usize| Operation::AddEdge {
        side: Side::Input,
        job: name(&job(i + 1)),
        dataset: name(&of(i)),
    };
    let chained = accepted(&graph, &changeset((0..COUNT - 1).map(chain)));
    let back = |i: usize| Operation::AddEdge {
        side: Side::Input,
        job: name(&job(i)),
        dataset: name(&of(COUNT - 1)),
    };
    for i in (0..COUNT - 1).step_by(97) {
        let Rejection::Cycle { cycle, .. } = rejected(&chained, &changeset([back(i)])) else {
            panic!("a cycle")
        };
        assert_eq!(cycle.len(), 2 * (COUNT - i) + 1);
    }
    let closing = changeset((0..COUNT - 1).map(chain).chain([back(0)]));
    let Rejection::Cycle { cycle, operation } = rejected(&graph, &closing) else {
        panic!("a cycle")
    };
    assert_eq!((cycle.len(), operation), (2 * COUNT + 1, COUNT - 1));
    assert_eq!(names(&cycle.iter().map(Name::as_str).collect::<Vec<_>>()).len(), 2 * COUNT);
}
