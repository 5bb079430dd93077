//! Random changesets that tend to close cycles, several at once: few jobs that read from each
//! other, each with datasets of its own, so that nothing but a cycle is ever wrong.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

const JOBS: [&str; 6] = ["a", "b/1", "Z", "é", "m", "m2"];
/// How many datasets each job may write.
const OWN: usize = 2;

/// The jobs and the edges that are there.
#[derive(Debug, Clone, Default)]
pub struct Jobs(BTreeMap<&'static str, [BTreeSet<String>; 2]>);

/// What chance gives for one step of a changeset.
#[derive(Debug, Clone)]
pub struct Draw {
    kind: u8,
    job: usize,
    reads: [u16; 3],
    writes: u16,
    dataset: usize,
}

prop_compose! {
    fn draw()(
        kind in 0..16_u8,
        job in 0..JOBS.len(),
        reads: [u16; 3],
        writes: u16,
        dataset in 0..JOBS.len() * OWN,
    ) -> Draw {
        Draw { kind, job, reads, writes, dataset }
    }
}

/// Changesets one after another.
pub fn changesets(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<Draw>>> {
    prop::collection::vec(prop::collection::vec(draw(), 1..14), count)
}

/// What must come first: all datasets are declared, so that single edges can be added.
pub fn declarations() -> Vec<Value> {
    let name = |number| json!({"op": "put_dataset", "name": dataset(number)});
    (0..JOBS.len() * OWN).map(name).collect()
}

/// Some have the name of a job, some come before the names of all jobs and some after.
fn dataset(number: usize) -> String {
    match number % OWN {
        0 => JOBS[number / OWN].to_owned(),
        _ => format!("{}{}", ["0", "~"][number / OWN % 2], JOBS[number / OWN]),
    }
}

impl Jobs {
    /// The operations that the draws mean here, and what they would leave.
    pub fn changeset(&self, draws: &[Draw]) -> (Vec<Value>, Self) {
        let (mut jobs, mut operations) = (self.clone(), Vec::new());
        draws.iter().for_each(|draw| jobs.take(draw, &mut operations));
        (operations, jobs)
    }

    fn take(&mut self, draw: &Draw, operations: &mut Vec<Value>) {
        let name = JOBS[draw.job];
        // Some eighth of all datasets, and seldom the job's own: the shortest cycles would hide the
        // longer ones.
        let may_read = |number: usize| number / OWN != draw.job || draw.writes & 0x700 == 0;
        let reads = |number: &usize| {
            may_read(*number) && draw.reads.iter().all(|mask| mask >> number & 1 == 1)
        };
        let inputs: BTreeSet<String> = (0..JOBS.len() * OWN).filter(reads).map(dataset).collect();
        let own = draw.job * OWN..(draw.job + 1) * OWN;
        let outputs: BTreeSet<String> =
            own.filter(|number| draw.writes >> number & 3 != 0).map(dataset).collect();
        let Some(before) = self.0.get(name).cloned() else {
            return self.put(name, [inputs, outputs], operations);
        };
        let [read, written] = before.clone();
        match draw.kind {
            0..4 => self.put(name, [inputs, outputs], operations),
            4..6 => {
                operations
                    .push(json!({"op": "patch_job", "name": name, "patch": {"inputs": inputs}}));
                self.0.insert(name, [inputs, written]);
            }
            6 => {
                operations.push(json!({"op": "delete_job", "name": name}));
                self.0.remove(name);
            }
            // Deleted and put again: as it was, or otherwise.
            7..9 => {
                operations.push(json!({"op": "delete_job", "name": name}));
                self.put(name, before, operations);
            }
            9 => {
                operations.push(json!({"op": "delete_job", "name": name}));
                self.put(name, [inputs, written], operations);
            }
            // Put again as it is: nothing changes hands.
            10 => self.put(name, before, operations),
            11..13 => match read.iter().nth(draw.dataset % (read.len() + 1)) {
                // An edge goes and comes back.
                Some(dataset) => {
                    for op in ["remove_input", "add_input"] {
                        operations.push(json!({"op": op, "job": name, "dataset": dataset}));
                    }
                }
                None => self.put(name, [read, outputs], operations),
            },
            _ if !may_read(draw.dataset) => self.put(name, before, operations),
            _ => {
                let dataset = dataset(draw.dataset);
                let [inputs, _] = self.0.get_mut(name).expect("it is there");
                let op = if inputs.remove(&dataset) { "remove_input" } else { "add_input" };
                operations.push(json!({"op": op, "job": name, "dataset": dataset}));
                if op == "add_input" {
                    inputs.insert(dataset);
                }
            }
        }
    }

    fn put(
        &mut self,
        name: &'static str,
        edges: [BTreeSet<String>; 2],
        operations: &mut Vec<Value>,
    ) {
        let [inputs, outputs] = &edges;
        operations.push(json!({"op": "put_job", "name": name, "inputs": inputs, "outputs": outputs, "spec": {}}));
        self.0.insert(name, edges);
    }
}
