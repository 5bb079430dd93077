//! Single cases that a reader would look up.

use std::ops::Bound;

use fencepost::graph::{
    CanonicalJson, Change, Changeset, Command, Fact, Graph, GraphBuilder, JobPatch, Name,
    Operation, PlanRequest, Precondition, QueryError, Rejection, Side, SpecPatch, Step, apply,
    decide,
};

use super::support::{accepted, changeset, graph_of, name, names, put, rebuilt, rejected};

fn delete_job(job: &str) -> Operation {
    Operation::DeleteJob { name: name(job) }
}

fn delete_dataset(dataset: &str) -> Operation {
    Operation::DeleteDataset { name: name(dataset) }
}

fn put_dataset(dataset: &str) -> Operation {
    Operation::PutDataset { name: name(dataset), metadata: CanonicalJson::default() }
}

fn add_input(job: &str, dataset: &str) -> Operation {
    Operation::AddEdge { side: Side::Input, job: name(job), dataset: name(dataset) }
}

fn remove_input(job: &str, dataset: &str) -> Operation {
    Operation::RemoveEdge { side: Side::Input, job: name(job), dataset: name(dataset) }
}

#[test]
fn two_jobs_swap_their_outputs_in_one_changeset() {
    let graph = graph_of([put("one", &["source"], &["x"]), put("two", &["source"], &["y"])]);
    let first_alone = rejected(&graph, &changeset([put("one", &["source"], &["y"])]));
    let (dataset, producer, job) = (name("y"), name("two"), name("one"));
    assert_eq!(first_alone, Rejection::SecondProducer { dataset, producer, job, operation: 0 });

    let swapped = accepted(
        &graph,
        &changeset([put("one", &["source"], &["y"]), put("two", &["source"], &["x"])]),
    );
    assert_eq!(swapped.dataset("x").unwrap().producer().unwrap().name().as_str(), "two");
    assert_eq!(swapped.dataset("y").unwrap().producer().unwrap().name().as_str(), "one");
}

#[test]
fn jobs_that_change_places_are_no_cycle() {
    let graph = graph_of([put("one", &["a"], &["b"]), put("two", &["b"], &["c"])]);
    let turned =
        accepted(&graph, &changeset([put("one", &["b"], &["c"]), put("two", &["a"], &["b"])]));
    assert!(matches!(
        rejected(&turned, &changeset([put("two", &["c"], &["b"])])),
        Rejection::Cycle { .. }
    ));
}

#[test]
fn an_implied_dataset_goes_with_its_last_mention() {
    let graph = graph_of([put("one", &["shared"], &[]), put("two", &["shared"], &[])]);
    let graph = accepted(&graph, &changeset([delete_job("one")]));
    assert!(graph.dataset("shared").is_some());
    let graph = accepted(&graph, &changeset([delete_job("two")]));
    assert_eq!((graph.dataset_count(), graph.job_count(), graph.edge_count()), (0, 0, 0));
    assert_eq!(graph.digest(), Graph::default().digest());
}

#[test]
fn a_declared_dataset_outlives_its_mentions() {
    let graph = graph_of([put_dataset("kept"), put("one", &["kept"], &[])]);
    let in_use =
        Rejection::DatasetInUse { name: name("kept"), jobs: names(&["one"]), operation: 0 };
    assert_eq!(rejected(&graph, &changeset([delete_dataset("kept")])), in_use);
    let without_job = accepted(&graph, &changeset([delete_job("one")]));
    assert!(without_job.dataset("kept").is_some());
    let neither = accepted(&graph, &changeset([delete_dataset("kept"), delete_job("one")]));
    assert!(neither.dataset("kept").is_none());
}

#[test]
fn a_dataset_in_use_by_many_names_the_first_ten() {
    let jobs: Vec<String> = (10..40).map(|i| format!("job {i}")).collect();
    let graph = graph_of(jobs.iter().map(|job| put(job, &["d"], &[])));
    let expected =
        Rejection::DatasetInUse { name: name("d"), jobs: names(&jobs[..10]), operation: 0 };
    assert_eq!(rejected(&graph, &changeset([delete_dataset("d")])), expected);
}

fn in_use(dataset: &str, jobs: &[&str], operation: usize) -> Rejection {
    Rejection::DatasetInUse { name: name(dataset), jobs: names(jobs), operation }
}

#[test]
fn of_datasets_in_use_that_of_the_smallest_operation_is_told() {
    let graph = graph_of([
        put_dataset("a"),
        put_dataset("z"),
        put("one", &["a"], &[]),
        put("two", &["z"], &["a"]),
    ]);
    let both = changeset([delete_dataset("z"), delete_dataset("a")]);
    assert_eq!(rejected(&graph, &both), in_use("z", &["two"], 0));
    let other_order = changeset([delete_dataset("a"), delete_dataset("z")]);
    assert_eq!(rejected(&graph, &other_order), in_use("a", &["one", "two"], 0));
}

/// The deletion that stands is told: the first since the dataset was last put.
#[test]
fn a_dataset_that_is_deleted_several_times_is_told_of_the_deletion_that_stands() {
    let graph = graph_of([put_dataset("a"), put("one", &["a"], &[])]);
    let twice = changeset([put("two", &[], &[]), delete_dataset("a"), delete_dataset("a")]);
    assert_eq!(rejected(&graph, &twice), in_use("a", &["one"], 1));
    let put_between = [delete_dataset("a"), put_dataset("a"), delete_dataset("a")];
    assert_eq!(rejected(&graph, &changeset(put_between)), in_use("a", &["one"], 2));
    let put_after = [delete_dataset("a"), put_dataset("a")];
    accepted(&graph, &changeset(put_after));
}

fn second_producer(dataset: &str, producer: &str, job: &str, operation: usize) -> Rejection {
    let (dataset, producer, job) = (name(dataset), name(producer), name(job));
    Rejection::SecondProducer { dataset, producer, job, operation }
}

#[test]
fn of_second_producers_that_of_the_smallest_operation_then_dataset_is_told() {
    let graph = graph_of([put("old", &[], &["a", "b", "z"])]);
    let command = changeset([
        put("unrelated", &[], &["u"]),
        put("y", &[], &["z"]),
        put("x", &[], &["b", "a"]),
    ]);
    assert_eq!(rejected(&graph, &command), second_producer("z", "old", "y", 1));
    let of_one_operation = changeset([put("x", &[], &["z", "b", "a"])]);
    assert_eq!(rejected(&graph, &of_one_operation), second_producer("a", "old", "x", 0));
}

#[test]
fn the_producer_told_is_who_had_the_dataset_and_keeps_it_else_who_got_it_first() {
    let graph = graph_of([put("old", &[], &["d"])]);
    // Also if it was away meanwhile.
    let away = changeset([delete_job("old"), put("new", &[], &["d"]), put("old", &[], &["d"])]);
    assert_eq!(rejected(&graph, &away), second_producer("d", "old", "new", 1));
    // It gives the dataset up: the others in the order in which they got it.
    let given_up = changeset([
        put("z", &[], &["d"]),
        put("old", &[], &[]),
        put("b", &[], &["d"]),
        put("a", &[], &["d"]),
    ]);
    assert_eq!(rejected(&graph, &given_up), second_producer("d", "z", "b", 2));
    // What counts is when a job got it last.
    let got_again = changeset([
        put("b", &[], &["d"]),
        put("c", &[], &["d"]),
        put("b", &[], &[]),
        put("b", &[], &["d"]),
        put("c", &["e"], &["d"]),
        delete_job("old"),
    ]);
    assert_eq!(rejected(&graph, &got_again), second_producer("d", "c", "b", 3));
}

/// Whatever the operations: preconditions, existence, datasets in use, second producers, cycles.
#[test]
fn kinds_of_rejections_have_an_order_of_their_own() {
    let graph = graph_of([put_dataset("a"), put("one", &["a"], &["b"])]);
    let (looped, second) = (put("loop", &["l"], &["l"]), put("two", &[], &["b"]));
    let absent =
        Step { operation: put("one", &["a"], &["b"]), precondition: Some(Precondition::Absent) };
    let mut steps: Vec<Step> = vec![
        looped.into(),
        second.into(),
        delete_dataset("a").into(),
        delete_job("nobody").into(),
        absent,
    ];
    let mut told = Vec::new();
    while !steps.is_empty() {
        let command = Command::Changeset(Changeset {
            precondition: None,
            unchanged: None,
            steps: steps.clone(),
        });
        told.push(rejected(&graph, &command));
        steps.pop();
    }
    let expected = [
        Rejection::PreconditionFailed {
            expected: Precondition::Absent,
            actual: Some(2),
            operation: Some(4),
        },
        Rejection::JobNotFound { name: name("nobody"), operation: 3 },
        in_use("a", &["one"], 2),
        second_producer("b", "one", "two", 1),
        Rejection::Cycle { cycle: names_in_turn(&["loop", "l", "loop"]), operation: 0 },
    ];
    assert_eq!(told, expected);
}

fn names_in_turn(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| name(text)).collect()
}

/// What patches of one changeset make of a specification is what they make one after another.
#[test]
fn patches_of_one_changeset_add_up() {
    let patch = |text: &str| Operation::PatchJob {
        name: name("one"),
        patch: JobPatch {
            spec: Some(SpecPatch::Merge(CanonicalJson::parse(text).unwrap())),
            ..JobPatch::default()
        },
    };
    let remove = Operation::PatchJob {
        name: name("one"),
        patch: JobPatch { spec: Some(SpecPatch::Remove), ..JobPatch::default() },
    };
    let patches = [
        patch(r#"{"a":{"x":1,"y":2},"b":1}"#),
        patch(r#"{"a":{"x":null,"z":3}}"#),
        remove,
        patch(r#"{"c":{"d":null}}"#),
        patch(r#"{"c":{"e":[1]},"f":0}"#),
    ];
    let graph = graph_of([put("one", &[], &[])]);
    let specs = (1..=patches.len()).map(|count| {
        let after = accepted(&graph, &changeset(patches[..count].to_vec()));
        after.job("one").unwrap().spec().as_str().to_owned()
    });
    let expected = [
        r#"{"a":{"x":1,"y":2},"b":1}"#,
        r#"{"a":{"y":2,"z":3},"b":1}"#,
        "{}",
        r#"{"c":{}}"#,
        r#"{"c":{"e":[1]},"f":0}"#,
    ];
    assert_eq!(specs.collect::<Vec<_>>(), expected);
}

#[test]
fn what_was_deleted_and_made_again_alike_has_not_changed() {
    let graph = graph_of([put_dataset("a"), put("one", &["a"], &["b"])]);
    let again =
        [delete_job("one"), delete_dataset("a"), put_dataset("a"), put("one", &["a"], &["b"])];
    let decision =
        decide(&graph, &changeset(again)).map_err(|rejection| rejection.to_string()).unwrap();
    assert!(decision.change.is_empty() && !decision.created);
    assert_eq!(decision.next.version(), graph.version());
}

#[test]
fn an_edge_added_and_removed_again_has_not_come_to_be() {
    let graph = graph_of([put_dataset("a"), put("one", &[], &["b"])]);
    let command =
        changeset([add_input("one", "a"), remove_input("one", "a"), put("one", &[], &["b", "c"])]);
    let decision = decide(&graph, &command).map_err(|rejection| rejection.to_string()).unwrap();
    assert!(!decision.change.is_empty() && !decision.created);
}

#[test]
fn a_job_and_a_dataset_may_have_one_name() {
    let graph = graph_of([put("same", &["other"], &["same"]), put("other", &["same"], &["more"])]);
    let self_loop = rejected(&graph, &changeset([add_input("same", "same")]));
    assert_eq!(self_loop, Rejection::Cycle { cycle: vec![name("same"); 3], operation: 0 });
}

#[test]
fn a_deleted_graph_keeps_its_version_and_nothing_else() {
    let graph = graph_of([put("one", &["a"], &["b"]), put_dataset("c")]);
    let deleted = apply(&graph, &Change { facts: vec![Fact::GraphDeleted {}] });
    assert_eq!(
        (deleted.version(), deleted.job_count(), deleted.dataset_count(), deleted.edge_count()),
        (3, 0, 0, 0)
    );
    assert_eq!(deleted.digest(), Graph::default().digest());
    let again = accepted(&deleted, &changeset([put("one", &["b"], &["a"])]));
    assert_eq!((again.version(), again.edge_count()), (4, 2));
}

/// `apply` holds no rules and must not fall over where one is broken.
#[test]
fn apply_takes_facts_that_break_the_rules() {
    let created = |job: &str, input: &str, output: &str| Fact::JobCreated {
        name: name(job),
        inputs: names(&[input]),
        outputs: names(&[output]),
        spec: CanonicalJson::default(),
    };
    let gone = |job: &str| Change { facts: vec![Fact::JobDeleted { name: name(job) }] };
    let illegal = [
        created("one", "a", "b"),
        created("two", "b", "a"),
        created("three", "c", "c"),
        created("four", "x", "a"),
    ];
    let at_once = apply(&Graph::default(), &Change { facts: illegal.to_vec() });
    let one_by_one = illegal
        .iter()
        .fold(Graph::default(), |graph, fact| apply(&graph, &Change { facts: vec![fact.clone()] }));
    for graph in [at_once, one_by_one] {
        // Of the two that write `a` the second does.
        assert_eq!((graph.job_count(), graph.edge_count()), (4, 7));
        let producer = graph.dataset("a").and_then(|dataset| dataset.producer());
        assert_eq!(producer.map(|job| job.name().as_str()), Some("four"));
        let graph = apply(&apply(&graph, &gone("three")), &gone("nobody"));
        for order in [["one", "two", "four"], ["four", "one", "two"], ["two", "four", "one"]] {
            let mut left = graph.clone();
            for job in order {
                left = apply(&left, &gone(job));
                left.jobs_from(Bound::Unbounded)
                    .for_each(|job| drop((job.inputs(), job.outputs())));
            }
            assert_eq!((left.job_count(), left.dataset_count(), left.edge_count()), (0, 0, 0));
        }
    }
}

#[test]
fn rows_that_are_no_legal_graph_are_refused() {
    let builder = || {
        let mut builder = GraphBuilder::default();
        builder.job(0, "one", "{}", 1).unwrap();
        builder.job(7, "two", "{}", 1).unwrap();
        builder.dataset(3, "a", None::<&str>).unwrap();
        builder.dataset(4, "b", Some("{}")).unwrap();
        builder
    };
    let mut cyclic = builder();
    cyclic.input(0, 3).unwrap();
    cyclic.output(0, 4).unwrap();
    cyclic.input(7, 4).unwrap();
    cyclic.output(7, 3).unwrap();
    assert!(cyclic.finish(1).is_err());
    let mut twice = builder();
    twice.job(8, "two", "{}", 1).unwrap();
    assert!(twice.finish(1).is_err());
    let mut wild = builder();
    wild.output(0, 3).unwrap();
    assert!(wild.output(7, 3).is_err(), "a second producer");
    assert!(wild.input(1, 3).is_err() && wild.input(0, 0).is_err(), "an edge that leads nowhere");
    assert!(wild.job(-1, "x", "{}", 1).is_err() && wild.job(i64::MAX, "x", "{}", 1).is_err());
    assert!(
        wild.job(7, "x", "{}", 1).is_err() && wild.dataset(3, "x", None::<&str>).is_err(),
        "an id that is taken"
    );
    assert!(wild.job(9, "..", "{}", 1).is_err());
    let mut repeated = builder();
    repeated.input(7, 3).unwrap();
    repeated.input(7, 3).unwrap();
    let graph = repeated.finish(5).unwrap();
    assert_eq!(
        (graph.version(), graph.edge_count(), graph.dataset("a").unwrap().mentions()),
        (5, 1, 1)
    );
}

#[test]
fn slots_that_are_free_are_used_again() {
    let graph = graph_of(
        (0..50).map(|i| put(&format!("job {i}"), &[&format!("in {i}")], &[&format!("out {i}")])),
    );
    let half =
        accepted(&graph, &changeset((0..50).step_by(2).map(|i| delete_job(&format!("job {i}")))));
    for graph in [rebuilt(&half), half] {
        let again =
            accepted(&graph, &changeset((50..75).map(|i| put(&format!("job {i}"), &["in"], &[]))));
        let highest = again.jobs_from(std::ops::Bound::Unbounded).map(|job| job.id()).max();
        assert_eq!((again.job_count(), highest), (50, Some(49)));
    }
}

/// What to plan for, as lists of names.
fn plan_request(datasets: &[&str], jobs: &[&str], stop_at: &[&str]) -> PlanRequest {
    let as_asked = |texts: &[&str]| texts.iter().map(|text| name(text)).collect();
    PlanRequest { datasets: as_asked(datasets), jobs: as_asked(jobs), stop_at: as_asked(stop_at) }
}

#[test]
fn jobs_of_a_plan_keep_their_order_also_through_datasets_that_the_search_stops_at() {
    let graph = graph_of([
        put("a", &["raw"], &["d1", "d2"]),
        put("b", &["d1"], &["d3"]),
        put("c", &["d3", "d2"], &["d4"]),
    ]);
    let plan = |datasets: &[&str], jobs: &[&str], stop_at: &[&str]| {
        let plan = graph.plan(&plan_request(datasets, jobs, stop_at), 10).unwrap();
        (plan.stages, plan.dependencies, plan.sources)
    };
    let pair = |before: &str, after: &str| (name(before), name(after));
    // a and b are both asked for: b still reads what a writes.
    let both = (vec![names(&["a"]), names(&["b"])], vec![pair("a", "b")], names(&["raw"]));
    assert_eq!(plan(&[], &["a", "b"], &["d1"]), both);
    assert_eq!(plan(&["d2"], &["b"], &["d1"]), both);
    // Alone, b needs d1 from somewhere.
    assert_eq!(plan(&[], &["b"], &["d1"]), (vec![names(&["b"])], vec![], names(&["d1"])));
    // The search from c meets a through d2, and b through d3: b still comes after a.
    let all = (
        vec![names(&["a"]), names(&["b"]), names(&["c"])],
        vec![pair("a", "b"), pair("a", "c"), pair("b", "c")],
        names(&["raw"]),
    );
    assert_eq!(plan(&["d4"], &[], &["d1"]), all);
    // The search ends at a target, too.
    assert_eq!(plan(&["d1"], &[], &["d1"]), (vec![], vec![], vec![]));
    // b is not in the plan: nothing orders a and c but d2.
    let without_b =
        (vec![names(&["a"]), names(&["c"])], vec![pair("a", "c")], names(&["d3", "raw"]));
    assert_eq!(plan(&["d4"], &[], &["d3"]), without_b);
    assert_eq!(plan(&["d4"], &["a"], &["d2", "d3"]), without_b);
}

#[test]
fn targets_name_each_dataset_and_each_job_once() {
    let graph = graph_of([put("x", &[], &["x", "y"])]);
    let targets = |datasets: &[&str], jobs: &[&str]| {
        graph.plan(&plan_request(datasets, jobs, &[]), 10).unwrap().targets
    };
    let (x, y) = (name("x"), name("y"));
    assert_eq!(targets(&["x"], &["x"]), [x.clone(), x.clone()]);
    assert_eq!(targets(&["y", "x", "y", "x"], &["x", "x"]), [x.clone(), x.clone(), y.clone()]);
    assert_eq!(targets(&["y", "x", "y"], &[]), [x, y]);
}

#[test]
fn an_answer_beyond_its_limit_is_refused() {
    let graph = graph_of(
        (0..10).map(|i| put(&format!("job {i}"), &[&format!("d{i}")], &[&format!("d{}", i + 1)])),
    );
    let request = PlanRequest { datasets: names(&["d10"]), ..PlanRequest::default() };
    assert_eq!(graph.plan(&request, 10).unwrap().stages.len(), 10);
    assert_eq!(graph.plan(&request, 9), Err(QueryError::TooLarge { limit: 9, what: "jobs" }));
    let nobody = PlanRequest { jobs: names(&["nobody"]), ..PlanRequest::default() };
    assert_eq!(graph.plan(&nobody, 10), Err(QueryError::JobNotFound { name: name("nobody") }));
}
