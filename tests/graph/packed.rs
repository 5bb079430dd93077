//! The packed form: a graph comes back as it was packed, and damaged parts are refused.

use std::ops::Bound;

use fencepost::graph::{
    CanonicalJson, Change, Graph, GraphPacker, GraphUnpacker, InvalidName, JobSpecification, Name,
    Operation, UnpackError, apply_all, decide,
};
use proptest::prelude::*;

use super::model::Model;
use super::random::{CommandDraw, Universe, commands};
use super::support::{
    accepted, ask_everything, changeset, command, everything, graph_of, name, packed, put, rebuilt,
    unpacked, unpacker,
};

const ONE_PART: usize = usize::MAX;

/// A graph, the changes that come next, and the graph that they lead to.
struct History {
    before: Graph,
    changes: Vec<Change>,
    after: Graph,
}

fn history(universe: &Universe, draws: &[CommandDraw], more: &[CommandDraw]) -> History {
    let (mut graph, mut model) = (Graph::default(), Model::default());
    let mut carry_out = |draws: &[CommandDraw]| {
        let mut changes = Vec::new();
        for draw in draws {
            let json = draw.on(universe, &model);
            model.decide(&json);
            if let Ok(decision) = decide(&graph, &command(&json)) {
                graph = decision.next;
                changes.extend(Some(decision.change).filter(|change| !change.is_empty()));
            }
        }
        (graph.clone(), changes)
    };
    let (before, _) = carry_out(draws);
    let (after, changes) = carry_out(more);
    History { before, changes, after }
}

/// Unpacks the graph in both ways, and has both go on by the changes.
fn assert_comes_back(history: &History, part_bytes: usize) {
    let History { before, changes, after } = history;
    let parts = packed(before, part_bytes);
    let (last, others) = parts.split_last().expect("there is a header at least");
    assert!(others.iter().all(|part| part.len() >= part_bytes) && !last.is_empty());
    let graph = unpacked(&parts).unwrap();
    assert_eq!(everything(&graph), everything(before));
    assert_eq!(packed(&graph, part_bytes), parts, "the same order, and the same free slots");
    assert_eq!(everything(&apply_all(&graph, changes)), everything(after));

    let mut builder = unpacker(&parts).unwrap().into_log_builder().unwrap();
    assert_eq!(builder.version(), before.version());
    for change in changes {
        builder.add(change).unwrap();
    }
    assert_eq!(everything(&builder.finish().unwrap()), everything(after));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_graph_comes_back_and_goes_on_as_the_one_that_was_packed(
        draws in commands(0..40),
        more in commands(0..20),
        part_bytes in 0..400_usize,
    ) {
        assert_comes_back(&history(&Universe::small(), &draws, &more), part_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_larger_graph_comes_back(
        draws in commands(100..140),
        more in commands(20..40),
        part_bytes in 0..4_000_usize,
    ) {
        assert_comes_back(&history(&Universe::of(40), &draws, &more), part_bytes);
    }
}

/// Enough jobs for names that are hashed, and for two threads.
#[test]
fn a_graph_of_many_jobs_comes_back() {
    const JOBS: usize = 12_000;
    let job = |number: usize| {
        let dataset = |number: usize| format!("dataset {number}");
        let inputs = [number / 2, number / 3, number.saturating_sub(7)].map(dataset);
        put(
            &format!("job {:08x}", number.wrapping_mul(0x9E37_79B9) as u32),
            &inputs.each_ref().map(String::as_str),
            &[&dataset(number + 1)],
        )
    };
    let before = accepted(&Graph::default(), &changeset((0..JOBS).map(job)));
    let gone = (0..JOBS).step_by(5).map(job).map(|operation| match operation {
        Operation::PutJob(job) => Operation::DeleteJob { name: job.name },
        _ => unreachable!("they are put"),
    });
    let before = accepted(&before, &changeset(gone));
    let next = changeset((JOBS..JOBS + 50).map(job));
    let decision = decide(&before, &next).map_err(|_| ()).unwrap();
    let history = History { before, changes: vec![decision.change], after: decision.next };
    assert_comes_back(&history, 64 << 10);
    assert_eq!(packed(&history.before, ONE_PART).len(), 1);
}

#[test]
fn what_is_changed_meanwhile_is_not_packed() {
    let before = graph_of([put("first", &["a"], &["b"]), put("second", &["b"], &["c"])]);
    let expected = packed(&before, 4);
    let mut packer = GraphPacker::new(&before, 4);
    let mut parts = vec![packer.next().unwrap()];
    let gone = Operation::DeleteJob { name: name("second") };
    let after = accepted(&before, &changeset([gone, put("third", &["a"], &["d"])]));
    drop(before);
    parts.extend(packer);
    assert!(expected.len() > 3 && parts == expected);
    assert_ne!(packed(&after, 4), expected);
}

#[test]
fn the_longer_the_tail_and_the_smaller_the_graph_the_sooner_a_builder_pays() {
    let jobs = |count: usize| {
        let puts = (0..count).map(|number| put(&format!("job {number}"), &[], &[]));
        let graph = accepted(&Graph::default(), &changeset(puts));
        unpacker(&packed(&graph, ONE_PART)).unwrap()
    };
    let (small, large) = (jobs(10), jobs(1_000));
    assert!(!small.is_long_tail(0) && small.is_long_tail(1_000));
    let shortest = |unpacker: &GraphUnpacker| {
        (0..=1_000).find(|&changes| unpacker.is_long_tail(changes)).unwrap()
    };
    assert!(shortest(&small) < shortest(&large));
}

// By hand. A number below 128 is a byte; a difference of 0, -1, 1, -2 is 0, 1, 2, 3.

const MAGIC: &[u8] = b"FPGRAPH\x01";
const FREE: &[u8] = &[0];

/// Parts with that version, those datasets and those jobs, each in its slot, in one.
fn by_hand(version: u8, datasets: &[&[u8]], jobs: &[&[u8]], places: &[u8]) -> Vec<u8> {
    let counts = [version, datasets.len() as u8, jobs.len() as u8];
    [MAGIC, &counts, &datasets.concat(), &jobs.concat(), places].concat()
}

/// A name or a text that shares nothing with the one before.
fn text(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8][..], text.as_bytes()].concat()
}

fn implied(name: &str) -> Vec<u8> {
    [&[1][..], &text(name)].concat()
}

fn declared(metadata: &str, name: &str) -> Vec<u8> {
    [&[3][..], &text(metadata), &text(name)].concat()
}

/// A job whose spec is empty.
fn job(name: &str, version: u8, outputs: &[u8], inputs: &[u8]) -> Vec<u8> {
    [&[1][..], &text(name), &[version], outputs, inputs].concat()
}

/// What is unpacked of one part.
fn of_bytes(bytes: &[u8]) -> Result<Graph, UnpackError> {
    let graph = unpacked(&[bytes]);
    let built = unpacker(&[bytes]).and_then(|unpacker| unpacker.into_log_builder());
    let built = built.map(|builder| builder.finish().unwrap());
    assert_eq!(
        built.as_ref().map(Graph::digest),
        graph.as_ref().map(Graph::digest),
        "both ways to end refuse the same"
    );
    graph
}

/// A declared dataset, one that was deleted, two of jobs; a job, one that was deleted, a second job
/// with the spec of the first, and another one that was deleted, the last of all.
fn example() -> (Graph, Vec<u8>) {
    let spec = || CanonicalJson::parse(r#"{"a":1}"#).unwrap();
    let with_spec = |operation| match operation {
        Operation::PutJob(job) => Operation::PutJob(JobSpecification { spec: spec(), ..job }),
        other => other,
    };
    let declare = |dataset: &str, metadata: CanonicalJson| Operation::PutDataset {
        name: name(dataset),
        metadata,
    };
    let graph = graph_of([
        declare("a", CanonicalJson::parse(r#"{"a":2}"#).unwrap()),
        declare("gone", CanonicalJson::default()),
        put("gone", &[], &[]),
        with_spec(put("job 1", &["a"], &["b", "c"])),
        put("gone too", &[], &[]),
        with_spec(put("job 2", &["a", "b", "c"], &[])),
        put("last", &[], &[]),
        declare("d", CanonicalJson::default()),
        Operation::DeleteDataset { name: name("gone") },
        Operation::DeleteJob { name: name("gone") },
        Operation::DeleteJob { name: name("gone too") },
        Operation::DeleteJob { name: name("last") },
        put("new", &["d"], &[]),
    ]);
    let bytes = by_hand(
        13,
        &[
            &[&[3, 0, 7][..], br#"{"a":2}"#, &text("a")].concat(),
            FREE,
            &implied("b"),
            &implied("c"),
            &[&[2][..], &text("d")].concat(),
        ],
        &[
            // Version 13; reads d, which is 4 slots after 0.
            &[&[1][..], &text("new"), &[26, 0, 1, 8]].concat(),
            // `{"a":` and 1, and not 2; version 4; writes 2 and 3; reads 0, which is 3 before 3.
            &[&[2, 5, 2][..], b"1}", &text("job 1"), &[17, 2, 4, 0, 1, 5]].concat(),
            FREE,
            // The same spec, `job ` and 2; version 6; reads 0, 2 and 3, one slot of which is free.
            &[3, 4, 1, b'2', 4, 0, 3, 5, 1, 0],
            FREE,
        ],
        // The slots 1, 3 and 0.
        &[2, 2, 7],
    );
    (graph, bytes)
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let (graph, bytes) = example();
    assert_eq!(packed(&graph, ONE_PART), std::slice::from_ref(&bytes));
    assert_eq!(everything(&of_bytes(&bytes).unwrap()), everything(&graph));
    let records = packed(&graph, 0);
    assert_eq!(records.len(), 1 + 5 + 5 + 3, "a header, slots and places");
    assert_eq!(records.concat(), bytes);
    assert_eq!(everything(&unpacked(&records).unwrap()), everything(&graph));
}

fn assert_legal(graph: &Graph) {
    ask_everything(graph);
    assert!(graph.is_acyclic());
    assert_eq!(everything(&rebuilt(graph)), everything(graph));
    let is_canonical =
        |json: &CanonicalJson| CanonicalJson::parse(json.as_str()).is_ok_and(|read| read == *json);
    for job in graph.jobs_from(Bound::Unbounded) {
        assert!((1..=graph.version()).contains(&job.version()) && is_canonical(job.spec()));
    }
    for dataset in graph.datasets_from(Bound::Unbounded) {
        assert!(dataset.metadata().is_none_or(is_canonical));
    }
}

/// Whether the bytes are refused; if they are not, the graph must be legal.
fn is_refused(bytes: &[u8]) -> bool {
    of_bytes(bytes).map(|graph| assert_legal(&graph)).is_err()
}

#[test]
fn another_byte_anywhere_is_refused_or_makes_another_legal_graph() {
    let (_, bytes) = example();
    let mut refused = 0;
    for at in 0..bytes.len() {
        for other in (0..=u8::MAX).filter(|other| *other != bytes[at]) {
            let mut damaged = bytes.clone();
            damaged[at] = other;
            refused += usize::from(is_refused(&damaged));
        }
    }
    let all = bytes.len() * 255;
    assert!(refused > all / 2 && refused < all, "{refused} of {all}");
}

#[test]
fn a_graph_that_ends_anywhere_too_early_is_refused() {
    let (graph, bytes) = example();
    for length in 0..bytes.len() {
        assert!(of_bytes(&bytes[..length]).is_err(), "{length}");
    }
    let records = packed(&graph, 0);
    for missing in 0..records.len() {
        let mut some = records.clone();
        some.remove(missing);
        assert!(unpacked(&some).is_err(), "{missing}");
    }
    assert_eq!(unpacked(&records[..records.len() - 1]).err(), Some(UnpackError::Truncated));
    assert_eq!(unpacker(&records[..0]).unwrap().finish().err(), Some(UnpackError::Truncated));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_damages_are_refused_or_make_another_legal_graph(
        draws in commands(1..12),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let History { before, .. } = history(&Universe::small(), &draws, &[]);
        let mut bytes = packed(&before, ONE_PART).concat();
        for (at, byte, how) in damages {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] = bytes[at].wrapping_add(1),
                2 => bytes.insert(at, byte % 8),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        is_refused(&bytes);
    }
}

/// Two jobs, of which the second reads what the first writes.
fn chain(places: &[u8]) -> Vec<u8> {
    let jobs = [job("j", 2, &[1, 0], &[0]), job("k", 0, &[1, 2], &[1, 1])];
    by_hand(1, &[&implied("a"), &implied("b")], &jobs.each_ref().map(Vec::as_slice), places)
}

#[test]
fn bytes_by_hand_are_read() {
    let graph = of_bytes(&chain(&[0, 0])).unwrap();
    let expected =
        accepted(&Graph::default(), &changeset([put("j", &[], &["a"]), put("k", &["a"], &["b"])]));
    assert_eq!(everything(&graph), everything(&expected));
}

fn assert_refused(bytes: &[u8], expected: UnpackError) {
    assert_eq!(
        of_bytes(bytes).map(|graph| everything(&graph)),
        Err(expected.clone()),
        "{expected}"
    );
}

#[test]
fn what_is_no_packed_graph_of_this_format_is_told() {
    let other = |format| [b"FPGRAPH", &[format][..], &[0; 3]].concat();
    assert_refused(&other(0), UnpackError::OtherFormat { format: 0 });
    assert_refused(&other(2), UnpackError::OtherFormat { format: 2 });
    assert_refused(b"FPGRAPI\x01\0\0\0", UnpackError::NotPacked);
    assert_refused(b"{}", UnpackError::NotPacked);
    assert_refused(b"", UnpackError::NotPacked);
}

#[test]
fn bytes_after_the_end_are_refused() {
    let whole = chain(&[0, 0]);
    assert_refused(&[&whole[..], &[0]].concat(), UnpackError::Surplus);
    assert_eq!(unpacked(&[&whole[..], &[0]]).err(), Some(UnpackError::Surplus));
    assert_eq!(unpacked(&[&whole[..], &whole]).err(), Some(UnpackError::Surplus));
    assert!(unpacked(&[&whole[..], &[]]).is_ok(), "nothing is no surplus");
}

#[test]
fn a_number_that_cannot_be_there_is_refused() {
    let header = |numbers: &[u8]| [MAGIC, numbers].concat();
    assert_refused(&header(&[0x80, 0, 0, 0]), UnpackError::Number);
    assert_refused(&header(&[&[0xff; 10][..], &[0, 0, 0]].concat()), UnpackError::Number);
    // One slot more than there can be, of datasets and of jobs; so many there could be.
    let (most, more) = ([0x80, 0x80, 0x80, 0x80, 1], [0x81, 0x80, 0x80, 0x80, 1]);
    assert_refused(&header(&[&[0][..], &more, &[0]].concat()), UnpackError::Number);
    assert_refused(&header(&[&[0, 0][..], &more].concat()), UnpackError::Number);
    assert_refused(&header(&[&[0][..], &most, &most].concat()), UnpackError::Truncated);
    // More bytes, or datasets, than follow.
    assert_refused(&by_hand(1, &[&[1, 0, 9, b'a']], &[], &[]), UnpackError::Truncated);
    let outputs = [0xff, 0xff, 0xff, 0xff, 0x7f, 0];
    assert_refused(&by_hand(1, &[], &[&job("j", 2, &outputs, &[0])], &[]), UnpackError::Truncated);
    // A text that is not there.
    assert_refused(&by_hand(1, &[&[4, 0, 1, b'a']], &[], &[]), UnpackError::Number);
    assert_refused(&by_hand(1, &[&[1, 1, 1, b'a']], &[], &[]), UnpackError::Number);
}

#[test]
fn texts_that_nobody_could_have_sent_are_refused() {
    let reason = InvalidName::Empty;
    let expected = |what, reason| UnpackError::Name { what, id: 0, reason };
    assert_refused(&by_hand(1, &[&implied("")], &[], &[]), expected("dataset", reason.clone()));
    assert_refused(&by_hand(1, &[], &[&job("", 2, &[0], &[0])], &[0]), expected("job", reason));
    let reason = InvalidName::ControlCharacter { character: '\n', at_byte: 1 };
    assert_refused(&by_hand(1, &[&implied("a\n")], &[], &[]), expected("dataset", reason));
    let not_text = [1, 0, 1, 0xff];
    assert_refused(&by_hand(1, &[&not_text], &[], &[]), UnpackError::NotText);
    for json in ["[]", "{", r#"{"b":1,"a":1}"#, ""] {
        let expected = |what| UnpackError::Json { what, id: 0 };
        assert_refused(&by_hand(1, &[&declared(json, "a")], &[], &[]), expected("dataset"));
        let job = [&[2][..], &text(json), &text("j"), &[2, 0, 0]].concat();
        assert_refused(&by_hand(1, &[], &[&job], &[0]), expected("job"));
    }
}

#[test]
fn a_name_is_refused_the_second_time() {
    let twice = |what, text: &str| UnpackError::Twice { what, name: name(text) };
    let datasets = [declared("{}", "a"), declared("{}", "a")];
    let datasets = datasets.each_ref().map(Vec::as_slice);
    assert_refused(&by_hand(1, &datasets, &[], &[]), twice("dataset", "a"));
    let jobs = [job("j", 2, &[0], &[0]), job("j", 0, &[0], &[0])];
    let jobs = jobs.each_ref().map(Vec::as_slice);
    assert_refused(&by_hand(1, &[], &jobs, &[0, 0]), twice("job", "j"));
    let (datasets, jobs) = ([declared("{}", "a")], [job("a", 2, &[0], &[0])]);
    assert!(of_bytes(&by_hand(1, &[&datasets[0]], &[&jobs[0]], &[0])).is_ok(), "of one kind only");
}

#[test]
fn a_job_of_no_version_that_the_graph_has_had_is_refused() {
    for (difference, version) in [(0, 0), (10, 5), (1, u64::MAX)] {
        let expected = UnpackError::Version { name: name("j"), version, of_graph: 4 };
        assert_refused(&by_hand(4, &[], &[&job("j", difference, &[0], &[0])], &[0]), expected);
    }
    assert!(of_bytes(&by_hand(4, &[], &[&job("j", 8, &[0], &[0])], &[0])).is_ok());
}

#[test]
fn edges_that_no_graph_has_are_refused() {
    let of = |dataset| UnpackError::DanglingEdge { job: 0, dataset };
    let with_job = |outputs: &[u8], inputs: &[u8]| {
        by_hand(1, &[&declared("{}", "a"), FREE], &[&job("j", 2, outputs, inputs)], &[0])
    };
    assert!(of_bytes(&with_job(&[1, 0], &[0])).is_ok());
    assert_refused(&with_job(&[1, 2], &[0]), of(1));
    assert_refused(&with_job(&[0], &[1, 2]), of(1));
    assert_refused(&with_job(&[1, 4], &[0]), of(2));
    assert_refused(&with_job(&[0], &[2, 0, 1]), of(2));
    assert_refused(&with_job(&[0], &[1, 1]), of(u64::MAX));
    let far = [&[2, 0][..], &[0xff; 9], &[1]].concat();
    assert_refused(&with_job(&far, &[0]), of(u64::MAX));

    let jobs = [job("j", 2, &[1, 0], &[0]), job("k", 0, &[1, 0], &[0])];
    let jobs = jobs.each_ref().map(Vec::as_slice);
    let expected = UnpackError::SecondProducer { job: 1, dataset: 0 };
    assert_refused(&by_hand(1, &[&implied("a")], &jobs, &[0, 0]), expected);

    let expected = UnpackError::Orphan { dataset: name("a") };
    assert_refused(&by_hand(1, &[&implied("a")], &[], &[]), expected);
}

#[test]
fn an_order_that_is_none_of_these_jobs_is_refused() {
    let against = |producer, dataset, job| UnpackError::AgainstOrder { producer, dataset, job };
    // The second job before the first.
    assert_refused(&chain(&[2, 3]), against(0, 0, 1));
    // The first job twice, the third of two, and one before the first.
    assert_refused(&chain(&[0, 1]), UnpackError::Order { job: 0 });
    assert_refused(&chain(&[0, 2]), UnpackError::Order { job: 2 });
    assert_refused(&chain(&[1, 0]), UnpackError::Order { job: u64::MAX });
    let behind_free = by_hand(1, &[], &[FREE, &job("j", 2, &[0], &[0])], &[0]);
    assert_refused(&behind_free, UnpackError::Order { job: 0 });
    // A job that reads what it writes, and two that read what the other writes.
    let own = by_hand(1, &[&implied("a")], &[&job("j", 2, &[1, 0], &[1, 0])], &[0]);
    assert_refused(&own, against(0, 0, 0));
    let jobs = [job("j", 2, &[1, 0], &[1, 2]), job("k", 0, &[1, 2], &[1, 1])];
    let jobs = jobs.each_ref().map(Vec::as_slice);
    let both = |places| by_hand(1, &[&implied("a"), &implied("b")], &jobs, places);
    assert_refused(&both(&[0, 0]), against(1, 1, 0));
    assert_refused(&both(&[2, 3]), against(0, 0, 1));
}

/// Whoever reads the parts tells the one from the other.
#[test]
fn errors_say_in_a_sentence_what_is_wrong() {
    let format = UnpackError::OtherFormat { format: 2 };
    assert_eq!(
        format.to_string(),
        "the packed graph has format 2, and this version of Fencepost reads format 1"
    );
    let twice = UnpackError::Twice { what: "job", name: Name::new("j").unwrap() };
    assert_eq!(twice.to_string(), "the job `j` is packed twice");
}
