//! A chain as long as a graph may get, in little stack.

use fencepost::graph::{
    CHANGE_BYTES_MAX, CanonicalJson, Graph, JobSpecification, Operation, PlanRequest, Rejection,
    Side, decide,
};

use super::cycles::Dice;
use super::support::{NO_LIMIT, accepted, changeset, name, names, put, reachable, rejected};

const STACK_BYTES: usize = 256 * 1024;

fn in_little_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(test).unwrap().join().unwrap();
}

fn link(i: usize) -> Operation {
    put(&format!("job {i:07}"), &[&format!("d {i:07}")], &[&format!("d {:07}", i + 1)])
}

fn chain(order: &[usize], changeset_jobs: usize) -> Graph {
    order.chunks(changeset_jobs).fold(Graph::default(), |graph, chunk| {
        accepted(&graph, &changeset(chunk.iter().map(|&i| link(i))))
    })
}

fn use_chain(graph: Graph, length: usize) {
    let end = format!("d {length:07}");
    let plan = graph
        .plan(&PlanRequest { datasets: names(&[&end]), ..PlanRequest::default() }, NO_LIMIT)
        .unwrap();
    assert_eq!((plan.stages.len(), plan.dependencies.len()), (length, length - 1));
    assert!(
        plan.stages.iter().enumerate().all(|(i, jobs)| jobs[..] == [name(&format!("job {i:07}"))])
    );
    drop(plan);
    let reached = reachable(&graph, "d 0000000", false, false, None);
    assert_eq!(reached["jobs"].as_array().unwrap().len(), length);
    let back =
        Operation::AddEdge { side: Side::Input, job: name("job 0000000"), dataset: name(&end) };
    let Rejection::Cycle { cycle, .. } = rejected(&graph, &changeset([back])) else {
        panic!("a cycle")
    };
    assert_eq!(cycle.len(), 2 * length + 1);
    let gone = Operation::DeleteJob { name: name(&format!("job {:07}", length / 2)) };
    assert_eq!(accepted(&graph, &changeset([gone])).job_count(), length - 1);
}

#[test]
fn a_chain_of_200_000_jobs_fits_the_stack() {
    const LENGTH: usize = 200_000;
    in_little_stack(|| {
        let graph = chain(&(0..LENGTH).collect::<Vec<_>>(), 10_000);
        assert_eq!((graph.job_count(), graph.edge_count()), (LENGTH, 2 * LENGTH));
        assert_eq!(graph.digest().len(), 64);
        use_chain(graph, LENGTH);
    });
}

#[test]
fn a_chain_grows_in_any_order() {
    in_little_stack(|| {
        const LENGTH: usize = 30_000;
        let forward: Vec<usize> = (0..LENGTH).collect();
        let reverse: Vec<usize> = (0..LENGTH).rev().collect();
        let mut digests = Vec::new();
        for order in [forward, reverse, Dice(3).shuffled(LENGTH)] {
            let graph = chain(&order, 10_000);
            digests.push(graph.digest());
            use_chain(graph, LENGTH);
        }
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    });
}

#[test]
fn a_chain_grows_job_by_job_in_any_order() {
    in_little_stack(|| {
        const LENGTH: usize = 10_000;
        for order in [(0..LENGTH).collect(), (0..LENGTH).rev().collect(), Dice(5).shuffled(LENGTH)]
        {
            use_chain(chain(&order, 1), LENGTH);
        }
    });
}

/// Whoever reads keeps what it was given, and what was refused leaves no trace.
#[test]
fn a_kept_graph_does_not_move() {
    let kept = chain(&(0..2_000).collect::<Vec<_>>(), 500);
    let (digest, end) = (kept.digest(), names(&["d 0002000"]));
    let plan = |graph: &Graph| {
        graph.plan(&PlanRequest { datasets: end.clone(), ..PlanRequest::default() }, NO_LIMIT)
    };
    let before = plan(&kept).unwrap();
    let mut graph = kept.clone();
    for i in (0..2_000).rev() {
        let refused = put(
            &format!("job {i:07}"),
            &[&format!("d {:07}", i + 1)],
            &[&format!("d {:07}", i + 1)],
        );
        assert!(decide(&graph, &changeset([refused])).is_err());
        graph = accepted(
            &graph,
            &changeset([Operation::DeleteJob { name: name(&format!("job {i:07}")) }]),
        );
    }
    assert_eq!((graph.job_count(), graph.dataset_count()), (0, 0));
    assert_eq!((kept.digest(), kept.edge_count()), (digest, 4_000));
    assert_eq!(plan(&kept).unwrap(), before);
    let closing = put("job 0000000", &["d 0002000"], &["d 0000001"]);
    assert!(decide(&kept, &changeset([closing])).is_err());
}

/// A change leaves the service as one line of a log, and is read as one.
#[test]
fn a_change_that_no_reader_of_a_log_would_take_is_refused() {
    let put = |spec_bytes: usize| {
        let text = format!("{{\"x\":\"{}\"}}", "a".repeat(spec_bytes - r#"{"x":""}"#.len()));
        let spec = CanonicalJson::parse(&text).unwrap();
        let (inputs, outputs) = (vec![], vec![]);
        let job = JobSpecification { name: name("large"), inputs, outputs, spec };
        changeset([Operation::PutJob(job)])
    };
    let refused = rejected(&Graph::default(), &put(CHANGE_BYTES_MAX));
    let Rejection::TooLarge { bytes, limit } = refused else { panic!("{refused}") };
    assert_eq!(limit, CHANGE_BYTES_MAX);
    assert!(bytes > limit && bytes < limit + 200, "{bytes}");
    assert!(refused.to_string().contains("send several changesets"), "{refused}");
    let graph = accepted(&Graph::default(), &put(CHANGE_BYTES_MAX - 200));
    assert_eq!(graph.job_count(), 1);
}
