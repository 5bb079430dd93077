//! Changesets that are made to be expensive: what deciding them costs against their size.
//!
//! `cargo bench --bench adversarial` prints the tables, `-- layers hub` those shapes only. Each
//! shape comes twice, once legal and once with a rule broken by its last operation, in sizes from 1
//! to 16 MB of JSON. A time is processor time, so that a busy machine does not show, and the
//! shortest of several runs. The first row is a floor: what the names of a changeset cost in the
//! standard library's maps, where nothing is judged.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use fencepost::graph::{Command, Graph, Name, Operation, Rejection, decide};
use fencepost::wire::ChangesetWire;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of JSON.
const SIZES: [usize; 5] = [1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20];
/// Each figure is the shortest of so many.
const RUNS: usize = 3;

/// How many jobs stand side by side in a layer.
const LAYER_JOBS: usize = 20;
/// What the hub reads in the graph, and the length of its specification.
const HUB_INPUTS: usize = 20_000;
const HUB_SPEC_KEYS: usize = 20_000;

/// A changeset and the graph that it is for.
struct Case {
    graph: Graph,
    body: String,
}

/// `count` is about proportional to the size of the body.
struct Shape {
    name: &'static str,
    what: &'static str,
    /// The graph before, and the operations; `true`: with the last one against the rules.
    make: fn(count: usize, refused: bool) -> (Graph, Operations),
}

const SHAPES: [Shape; 9] = [
    Shape {
        name: "layers",
        what: "layers of 20 jobs, each reads all of the layer before; the first reads the last",
        make: layers,
    },
    Shape { name: "ring", what: "a chain of jobs; the last closes it", make: ring },
    Shape {
        name: "jobs",
        what: "every job reads from all before it; the first reads the last",
        make: clique_of_jobs,
    },
    Shape {
        name: "datasets",
        what: "one job reads all that another writes; and the other way",
        make: clique_of_datasets,
    },
    Shape {
        name: "hub",
        what: "a job of 20,000 inputs and a specification of 0.4 MB is patched over and over: \
               no inputs, one key; the last makes it read what it writes",
        make: hub,
    },
    Shape {
        name: "again",
        what: "the same job is deleted and put, over and over; the last reads what it writes",
        make: delete_and_put,
    },
    Shape {
        name: "edges",
        what: "the same job gets an input by each operation; the last is what it writes",
        make: edges,
    },
    Shape {
        name: "turned",
        what: "each operation adds an edge against the order, all over one region; \
               the last closes a cycle",
        make: turned_order,
    },
    Shape {
        name: "producers",
        what: "each operation puts a job with an output of its own; \
               the last writes that of the first",
        make: producers,
    },
];

#[derive(Default)]
struct Operations {
    text: String,
}

impl Operations {
    fn push(&mut self, operation: &str) {
        let separator = if self.text.is_empty() { "" } else { "," };
        write!(self.text, "{separator}{operation}").unwrap();
    }

    fn put(
        &mut self,
        job: &str,
        inputs: impl Iterator<Item = String>,
        outputs: impl Iterator<Item = String>,
    ) {
        let list = |names: &mut dyn Iterator<Item = String>| {
            names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",")
        };
        let (mut inputs, mut outputs) = (inputs, outputs);
        let (inputs, outputs) = (list(&mut inputs), list(&mut outputs));
        self.push(&format!(
            r#"{{"op":"put_job","name":"{job}","inputs":[{inputs}],"outputs":[{outputs}]}}"#
        ));
    }

    fn body(self) -> String {
        format!(r#"{{"operations":[{}]}}"#, self.text)
    }
}

fn d(number: usize) -> String {
    format!("d{number:07}")
}

fn j(number: usize) -> String {
    format!("j{number:07}")
}

fn one(name: String) -> impl Iterator<Item = String> {
    std::iter::once(name)
}

fn layers(count: usize, refused: bool) -> (Graph, Operations) {
    let mut operations = Operations::default();
    let layers = (count / LAYER_JOBS / LAYER_JOBS).max(2);
    let last = (layers - 1) * LAYER_JOBS;
    // The first layer at the end, so that the last operation closes the cycles.
    for layer in (1..layers).chain([0]) {
        for job in layer * LAYER_JOBS..(layer + 1) * LAYER_JOBS {
            let before = match layer {
                0 if refused => last..last + LAYER_JOBS,
                0 => 0..0,
                _ => (layer - 1) * LAYER_JOBS..layer * LAYER_JOBS,
            };
            operations.put(&j(job), before.map(d), one(d(job)));
        }
    }
    (Graph::default(), operations)
}

fn ring(count: usize, refused: bool) -> (Graph, Operations) {
    let mut operations = Operations::default();
    for job in 0..count {
        let next = if refused && job + 1 == count { 0 } else { job + 1 };
        operations.put(&j(job), one(d(job)), one(d(next)));
    }
    (Graph::default(), operations)
}

fn clique_of_jobs(count: usize, refused: bool) -> (Graph, Operations) {
    let mut operations = Operations::default();
    let jobs = ((2 * count) as f64).sqrt() as usize;
    for job in 1..jobs {
        operations.put(&j(job), (0..job).map(d), one(d(job)));
    }
    let first = if refused { jobs - 1..jobs } else { 0..0 };
    operations.put(&j(0), first.map(d), one(d(0)));
    (Graph::default(), operations)
}

fn clique_of_datasets(count: usize, refused: bool) -> (Graph, Operations) {
    let mut operations = Operations::default();
    operations.put(&j(0), std::iter::empty(), (0..count / 4).map(d));
    operations.put(&j(1), (0..count / 4).map(d), (count / 2..3 * count / 4).map(d));
    let back = if refused { count / 2..3 * count / 4 } else { 0..0 };
    operations.put(&j(0), back.map(d), (0..count / 4).map(d));
    (Graph::default(), operations)
}

/// A job that reads much, writes `out`, and has a long specification.
fn with_hub() -> Graph {
    let inputs: Vec<String> = (0..HUB_INPUTS).map(|number| format!("\"{}\"", d(number))).collect();
    let keys: Vec<String> =
        (0..HUB_SPEC_KEYS).map(|number| format!("\"key{number:06}\":1234567")).collect();
    let (inputs, keys) = (inputs.join(","), keys.join(","));
    accepted(
        &Graph::default(),
        &format!(
            r#"{{"operations":[{{"op":"put_job","name":"hub","inputs":[{inputs}],{}{keys}}}}}]}}"#,
            r#""outputs":["out"],"spec":{"#
        ),
    )
}

fn hub(count: usize, refused: bool) -> (Graph, Operations) {
    let mut operations = Operations::default();
    for number in 0..count {
        let inputs = if refused && number + 1 == count { r#""out""# } else { "" };
        operations.push(&format!(
            r#"{{"op":"patch_job","name":"hub","patch":{{"inputs":[{inputs}],{}{number}":1}}}}}}"#,
            r#""spec":{"k"#
        ));
    }
    (with_hub(), operations)
}

fn delete_and_put(count: usize, refused: bool) -> (Graph, Operations) {
    let mut operations = Operations::default();
    for number in 0..count {
        operations.push(r#"{"op":"delete_job","name":"hub"}"#);
        let input = if refused && number + 1 == count { "out".to_owned() } else { d(number) };
        operations.put("hub", one(input), one("out".to_owned()));
    }
    (with_hub(), operations)
}

fn edges(count: usize, refused: bool) -> (Graph, Operations) {
    let mut base = Operations::default();
    base.put("writer", std::iter::empty(), (0..count).map(|number| d(HUB_INPUTS + number)));
    let graph = accepted(&with_hub(), &base.body());
    let mut operations = Operations::default();
    for number in 0..count {
        let name =
            if refused && number + 1 == count { "out".to_owned() } else { d(HUB_INPUTS + number) };
        operations.push(&format!(r#"{{"op":"add_input","job":"hub","dataset":"{name}"}}"#));
    }
    (graph, operations)
}

/// Two long chains, one before the other in the order; many jobs lead to the first, many come from
/// the second, and one after another of these leads to one of those.
fn turned_order(count: usize, refused: bool) -> (Graph, Operations) {
    let link = |chain: &str, number: usize| format!("{chain}{number:07}");
    let (mut early, mut late) = (Operations::default(), Operations::default());
    for number in 0..count {
        early.put(&link("early", number), std::iter::empty(), one(link("e", number)));
    }
    let of_all = (0..count).map(|number| link("e", number));
    early.put("early", of_all, one(link("f", 0)));
    for number in 0..count {
        early.put(&link("f", number), one(link("f", number)), one(link("f", number + 1)));
        late.put(&link("l", number), one(link("l", number)), one(link("l", number + 1)));
    }
    for number in 0..count {
        late.put(&link("late", number), one(link("l", count)), one(link("o", number)));
    }
    let graph = accepted(&accepted(&Graph::default(), &early.body()), &late.body());
    let mut operations = Operations::default();
    let mut add = |job: String, dataset: String| {
        operations.push(&format!(r#"{{"op":"add_input","job":"{job}","dataset":"{dataset}"}}"#));
    };
    for number in 0..count {
        add(link("early", number), link("o", number));
    }
    if refused {
        add(link("l", 0), link("f", count));
    }
    (graph, operations)
}

fn producers(count: usize, refused: bool) -> (Graph, Operations) {
    let mut operations = Operations::default();
    for number in 0..count {
        let output = if refused && number + 1 == count { d(0) } else { d(number) };
        operations.put(&j(number), std::iter::empty(), one(output));
    }
    (Graph::default(), operations)
}

fn command(body: &str) -> Command {
    let wire: ChangesetWire = serde_json::from_str(body).unwrap();
    Command::Changeset(wire.into_changeset().unwrap())
}

fn accepted(graph: &Graph, body: &str) -> Graph {
    let decision = decide(graph, &command(body));
    decision.map_err(|rejection| rejection.to_string()).expect("the graph is legal").next
}

impl Shape {
    /// About `bytes` of JSON.
    fn case(&self, bytes: usize, refused: bool) -> Case {
        const TRIAL: usize = 10_000;
        let (_, trial) = (self.make)(TRIAL, refused);
        let count = TRIAL * bytes / trial.text.len();
        let (graph, operations) = (self.make)(count, refused);
        Case { graph, body: operations.body() }
    }
}

/// What this thread has used of the processor.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("nanoseconds"))
}

/// Reading the body, then deciding.
fn times(case: &Case, refused: bool) -> [Duration; 2] {
    let mut shortest = [Duration::MAX; 2];
    for _ in 0..RUNS {
        let began = used();
        let command = command(&case.body);
        let read = used() - began;
        let began = used();
        let decided = decide(&case.graph, &command);
        let took = used() - began;
        match decided {
            Ok(_) => assert!(!refused, "accepted"),
            Err(Rejection::Cycle { .. } | Rejection::SecondProducer { .. }) => {
                assert!(refused, "refused");
            }
            Err(rejection) => panic!("{rejection}"),
        }
        shortest = [shortest[0].min(read), shortest[1].min(took)];
    }
    shortest
}

/// Each operation's names in a hash map, then in an ordered map.
fn floor(case: &Case) -> Duration {
    let Command::Changeset(changeset) = command(&case.body) else {
        unreachable!("a changeset was read")
    };
    let mut names: Vec<Name> = Vec::new();
    for step in &changeset.steps {
        if let Operation::PutJob(job) = &step.operation {
            names.push(job.name.clone());
            names.extend(job.inputs.iter().chain(&job.outputs).cloned());
        }
    }
    let mut shortest = Duration::MAX;
    for _ in 0..RUNS {
        let began = used();
        let numbers: HashMap<Name, usize> = names.iter().cloned().zip(0..).collect();
        let mut in_order = BTreeMap::new();
        for (name, number) in &numbers {
            in_order.insert(name.clone(), *number);
        }
        black_box((&numbers, &in_order));
        shortest = shortest.min(used() - began);
    }
    shortest
}

/// The exponent b of time = a · size^b, by least squares of the logarithms.
fn exponent(points: &[(usize, Duration)]) -> f64 {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .map(|(bytes, time)| ((*bytes as f64).ln(), time.as_secs_f64().ln()))
        .collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / logs.len() as f64;
    let (x, y) =
        (mean(&mut logs.iter().map(|point| point.0)), mean(&mut logs.iter().map(|point| point.1)));
    let above: f64 = logs.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    above / logs.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let chosen =
        |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    small_requests();
    println!("\nms to decide; at 16 MB also to read the JSON\n");
    println!(
        "| shape | | 1 MB | 2 MB | 4 MB | 8 MB | 16 MB | exponent | read, exponent | legal × |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let ms = |time: &Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let cells = |points: &[(usize, Duration)]| -> String {
        points.iter().map(|(_, time)| ms(time)).collect::<Vec<_>>().join(" | ")
    };
    let producers = SHAPES.iter().find(|shape| shape.name == "producers").expect("a shape");
    let floors = SIZES.map(|bytes| {
        let case = producers.case(bytes, false);
        (case.body.len(), floor(&case))
    });
    println!("| floor | of `producers` | {} | {:.2} | | |", cells(&floors), exponent(&floors));
    for shape in SHAPES.iter().filter(|shape| chosen(shape.name)) {
        let mut legal = Duration::ZERO;
        for refused in [false, true] {
            let mut points = [const { Vec::new() }; 2];
            for bytes in SIZES {
                let case = shape.case(bytes, refused);
                let [read, decided] = times(&case, refused);
                points[0].push((case.body.len(), read));
                points[1].push((case.body.len(), decided));
            }
            let [read, decided] = points;
            let largest = decided[SIZES.len() - 1].1;
            let ratio = match refused {
                false => String::new(),
                true => format!("{:.2}", largest.as_secs_f64() / legal.as_secs_f64()),
            };
            legal = largest;
            println!(
                "| {} | {} | {} | {:.2} | {}, {:.2} | {ratio} |",
                shape.name,
                if refused { "refused" } else { "legal" },
                cells(&decided),
                exponent(&decided),
                ms(&read[SIZES.len() - 1].1),
                exponent(&read),
            );
        }
    }
    println!();
    for shape in &SHAPES {
        println!("- `{}`: {}", shape.name, shape.what);
    }
}

/// Two requests that once held a graph for seconds.
fn small_requests() {
    let (_, layers) = layers(100 * LAYER_JOBS * LAYER_JOBS, true);
    let layers = Case { graph: Graph::default(), body: layers.body() };
    let mut emptied = Operations::default();
    for _ in 0..2_000 {
        emptied.push(r#"{"op":"patch_job","name":"hub","patch":{"inputs":[]}}"#);
    }
    let emptied = Case { graph: with_hub(), body: emptied.body() };
    println!("\n| request | kB | decided in, ms |");
    println!("|---|---:|---:|");
    for (what, case, refused) in [
        ("100 layers of 20 jobs, the first reads the last", &layers, true),
        ("2,000 times no inputs for a job of 20,000", &emptied, false),
    ] {
        let [_, decided] = times(case, refused);
        println!("| {what} | {} | {:.1} |", case.body.len() / 1_000, decided.as_secs_f64() * 1e3);
    }
}
