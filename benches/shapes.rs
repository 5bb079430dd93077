//! Job graphs of known shapes, for the benchmarks: each job is the list of jobs that it reads from,
//! numbered along one topological order; job i writes dataset i.

use fencepost::graph::{
    CanonicalJson, Changeset, Command, Graph, JobSpecification, Name, Operation, decide,
};

pub const SHAPES: [&str; 6] = ["chain", "layered", "fan-out", "fan-in", "random", "scale-free"];
pub const ORDERS: [&str; 3] = ["topological", "reverse", "random"];
/// How many jobs stand side by side in a layer of the layered graph; each reads all of the layer
/// before.
const LAYER_JOBS: usize = 30;
/// How many others a job of the random and of the scale-free graph reads from.
const INPUTS: usize = 3;

/// xorshift64*, so that every run measures the same graphs.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// For each job the jobs whose output it reads, all with smaller numbers.
pub fn shape(shape: &str, jobs: usize) -> Vec<Vec<usize>> {
    let mut dice = Dice(0x9E37_79B9);
    let mut mentioned = vec![0];
    let mut inputs = |i: usize| match shape {
        "chain" => vec![i.wrapping_sub(1)],
        "layered" => {
            let layer = i / LAYER_JOBS * LAYER_JOBS;
            (layer.saturating_sub(LAYER_JOBS)..layer).collect()
        }
        "fan-out" => vec![0],
        "fan-in" if i + 1 == jobs => (0..i).collect(),
        "fan-in" => vec![],
        "random" => (0..INPUTS).map(|_| dice.below(i.max(1))).collect(),
        "scale-free" => {
            // Preferential attachment: a job is read from as often as it was mentioned before
            // (Barabási, Albert 1999).
            let picked: Vec<usize> =
                (0..INPUTS).map(|_| mentioned[dice.below(mentioned.len())]).collect();
            mentioned.extend(&picked);
            mentioned.push(i);
            picked
        }
        unknown => panic!("no shape `{unknown}`"),
    };
    let mut graph: Vec<Vec<usize>> = (0..jobs).map(&mut inputs).collect();
    for (i, inputs) in graph.iter_mut().enumerate() {
        inputs.retain(|&input| input < i);
        inputs.sort_unstable();
        inputs.dedup();
    }
    graph
}

pub fn order(order: &str, jobs: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..jobs).collect();
    match order {
        "topological" => {}
        "reverse" => numbers.reverse(),
        "random" => {
            let mut dice = Dice(0xDEAD_BEEF);
            (1..jobs).rev().for_each(|i| numbers.swap(i, dice.below(i + 1)));
        }
        unknown => panic!("no order `{unknown}`"),
    }
    numbers
}

pub fn dataset(i: usize) -> Name {
    Name::new(&format!("warehouse/dataset {i:07}")).unwrap()
}

pub fn put(i: usize, inputs: &[usize]) -> Operation {
    let name = Name::new(&format!("team/job {i:07}")).unwrap();
    let inputs = inputs.iter().map(|&input| dataset(input)).collect();
    Operation::PutJob(JobSpecification {
        name,
        inputs,
        outputs: vec![dataset(i)],
        spec: CanonicalJson::default(),
    })
}

pub fn command(operations: impl IntoIterator<Item = Operation>) -> Command {
    Command::Changeset(operations.into_iter().collect::<Changeset>())
}

pub fn accepted(graph: &Graph, command: &Command) -> Graph {
    decide(graph, command)
        .map_err(|rejection| rejection.to_string())
        .expect("the shapes are legal")
        .next
}

/// The graph, built in changesets.
pub fn build(jobs: &[Vec<usize>], changeset_jobs: usize) -> Graph {
    let numbered: Vec<_> = jobs.iter().enumerate().collect();
    numbered.chunks(changeset_jobs).fold(Graph::default(), |graph, chunk| {
        accepted(&graph, &command(chunk.iter().map(|(i, inputs)| put(*i, inputs))))
    })
}
