//! Several nodes on one database.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Fixture;
use crate::support::ask::{accepted, put_dataset, put_job, write};
use crate::support::cluster::{GRAPH, name};
use crate::support::storm::{Choices, audit};

pub fn each_node_sees_at_once_what_the_other_has_answered(fixture: &impl Fixture) {
    let nodes = [fixture.node_with_graph(), fixture.node(), fixture.node()];
    for n in 0..30 {
        let job = format!("job-{n}");
        let version = accepted(&nodes[n % 3], [put_job(&job, &["x"], &[])]);
        for node in &nodes {
            let image = node.read_and_wait(&name(GRAPH)).unwrap();
            assert!(image.graph.job(&job).is_some() && image.key.version == version);
            assert_eq!(image.key.version, image.graph.version());
        }
    }
}

/// Each changeset moves two jobs together; a reader that saw one of them moved alone saw half of
/// it.
pub fn readers_never_see_a_version_go_back_or_half_a_changeset(fixture: &impl Fixture) {
    let nodes = [fixture.node_with_graph(), fixture.node()];
    let pair = |n: usize| {
        let dataset = format!("d{n}");
        [put_job("left", &[&dataset], &[]), put_job("right", &[&dataset], &[])]
    };
    accepted(&nodes[0], pair(0));
    let answered = AtomicU64::new(1);
    let looks = std::thread::scope(|scope| {
        let readers = nodes.each_ref().map(|node| {
            let answered = &answered;
            scope.spawn(move || {
                let (mut last, mut looks) = (0, 0);
                while last < 40 {
                    let before = answered.load(Ordering::SeqCst);
                    let image = node.read_and_wait(&name(GRAPH)).unwrap();
                    let version = image.key.version;
                    assert!(
                        version >= before,
                        "version {version} was read after {before} was answered"
                    );
                    assert!(version >= last, "version {version} was read after {last}");
                    let inputs = |job: &str| {
                        image
                            .graph
                            .job(job)
                            .unwrap()
                            .inputs()
                            .into_iter()
                            .cloned()
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(inputs("left"), inputs("right"));
                    assert_eq!(inputs("left"), [name(&format!("d{}", version - 1))]);
                    last = version;
                    looks += 1;
                }
                looks
            })
        });
        for n in 1..40 {
            let version = accepted(&nodes[n % 2], pair(n));
            answered.store(version, Ordering::SeqCst);
        }
        readers.map(|reader| reader.join().unwrap())
    });
    assert!(looks.into_iter().all(|looks| looks > 0));
    assert_eq!(audit(fixture.site()).version, 40);
}

pub fn versions_are_dense_and_unique_across_nodes(fixture: &impl Fixture) {
    let nodes = [fixture.node_with_graph(), fixture.node(), fixture.node()];
    let mut versions: Vec<u64> = std::thread::scope(|scope| {
        let writers = nodes.iter().enumerate().map(|(n, node)| {
            let put = move |k| accepted(node, [put_dataset(&format!("dataset-{n}-{k}"))]);
            scope.spawn(move || (0..20).map(put).collect::<Vec<_>>())
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    for node in nodes.iter().filter(|_| fixture.takes_lock()) {
        let lost = ["conflict", "fenced", "deleted"]
            .map(|reason| node.metrics().lost_writes.with_label_values(&[reason]).get());
        assert_eq!(lost, [0; 3], "writers took turns, so none of them was outrun");
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=60).collect::<Vec<u64>>());
    assert_eq!(audit(fixture.site()).version, 60);
}

pub fn writes_that_exclude_each_other_never_both_hold(fixture: &impl Fixture) {
    let nodes = [fixture.node_with_graph(), fixture.node(), fixture.node()];
    let (accepted, rejected) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (n, node) in nodes.iter().enumerate() {
            let (accepted, rejected) = (&accepted, &rejected);
            scope.spawn(move || {
                let mut choices = Choices(n as u64);
                for _ in 0..30 {
                    let [a, b] = [0; 2].map(|_| format!("d{}", choices.below(6)));
                    let job = format!("j{}", choices.below(6));
                    let count = if write(node, [put_job(&job, &[&a], &[&b])]).is_ok() {
                        accepted
                    } else {
                        rejected
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(
        accepted.into_inner() > 0 && rejected.into_inner() > 0,
        "the writes were to get in each other's way"
    );
    audit(fixture.site());
}
