//! Plans: which jobs must run to produce targets, and in which order.
//!
//! `stop_at` only limits the search for producers. A job of the plan may still write a dataset of
//! `stop_at`, if the plan needs the job for another reason; then the readers of the dataset depend
//! on it.

use sha2::{Digest, Sha256};

use super::adjacency_lists::AdjacencyLists;
use super::by_name::positions_by_name;
use super::graph::Graph;
use super::hex::hex;
use super::name::Name;
use super::slot_map::{SlotMap, SlotSet};
use super::slots::Slot;

/// What to plan for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanRequest {
    /// Datasets to produce.
    pub datasets: Vec<Name>,
    /// Jobs to run, with all that they need.
    pub jobs: Vec<Name>,
    /// Datasets whose producers the search does not follow, also if they are targets. A producer
    /// that the plan needs for another reason stays, and its readers depend on it.
    pub stop_at: Vec<Name>,
}

/// The jobs that must run, and their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The names of the targets, sorted: each dataset once and each job once. A name that a dataset
    /// and a job share is there twice.
    pub targets: Vec<Name>,
    /// Stage k holds the jobs whose longest chain of producing jobs inside the plan has length k,
    /// in byte order.
    pub stages: Vec<Vec<Name>>,
    /// Every pair of jobs in the plan where the second reads something that the first writes,
    /// sorted.
    pub dependencies: Vec<(Name, Name)>,
    /// The datasets that jobs of the plan read and no job of the plan writes, sorted.
    pub sources: Vec<Name>,
    /// Lower-case hex SHA-256 over the stages and dependencies, a line for each.
    pub digest: String,
}

/// Why a question about a graph has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A job that was asked for does not exist.
    #[error("there is no job `{name}`")]
    JobNotFound {
        /// The job.
        name: Name,
    },
    /// A dataset that was asked for does not exist.
    #[error("there is no dataset `{name}`")]
    DatasetNotFound {
        /// The dataset.
        name: Name,
    },
    /// The answer is larger than the limit. It is refused, not cut.
    #[error("the answer has more than {limit} {what}")]
    TooLarge {
        /// The limit, in `what`.
        limit: usize,
        /// What was counted.
        what: &'static str,
    },
}

impl Graph {
    /// The plan for `request`, of at most `limit` jobs. O(p log p) for p jobs, datasets and edges
    /// of the plan; the rest of the graph is not looked at.
    ///
    /// # Errors
    /// [`QueryError`] if a target does not exist or the plan is too large.
    pub fn plan(&self, request: &PlanRequest, limit: usize) -> Result<Plan, QueryError> {
        let stop_at = self.dataset_slots(&request.stop_at)?;
        let mut found = Found::default();
        for dataset in self.dataset_slots(&request.datasets)? {
            if let Some(job) = self.dataset_edges(dataset).producer
                && !stop_at.contains(&dataset)
            {
                found.number(job);
            }
        }
        for name in &request.jobs {
            let job = self
                .job(name.as_str())
                .ok_or_else(|| QueryError::JobNotFound { name: name.clone() })?;
            found.number(job.slot);
        }
        let mut sources = SlotSet::default();
        // Edges through `stop_at`: only after the search is it known whether the plan has the
        // producer.
        let mut undecided = Vec::new();
        let mut next = 0;
        while let Some(&job) = found.jobs.get(next as usize) {
            if found.jobs.len() > limit {
                return Err(QueryError::TooLarge { limit, what: "jobs" });
            }
            for dataset in self.jobs.get(job).inputs.iter() {
                match self.dataset_edges(dataset).producer {
                    None => {
                        sources.insert(dataset);
                    }
                    Some(before) if stop_at.contains(&dataset) => {
                        undecided.push((dataset, before, next));
                    }
                    Some(before) => {
                        let before = found.number(before);
                        found.pairs.push((before, next));
                    }
                }
            }
            next += 1;
        }
        for (dataset, before, after) in undecided {
            match found.numbers.get(&before) {
                Some(&before) => found.pairs.push((before, after)),
                None => {
                    sources.insert(dataset);
                }
            }
        }
        let targets = target_names(request);
        Ok(self.arrange(&found, targets, self.names_of_datasets(&sources)))
    }

    fn arrange(&self, found: &Found, targets: Vec<Name>, sources: Vec<Name>) -> Plan {
        // Sorted by name once, so that later only numbers are sorted.
        let names: Vec<&Name> = found.jobs.iter().map(|&job| &self.jobs.get(job).name).collect();
        let by_name = positions_by_name(names.iter().copied());
        let mut rank = vec![0_u32; names.len()];
        for (place, &number) in by_name.iter().enumerate() {
            rank[number as usize] = place as u32;
        }
        let names: Vec<&Name> = by_name.into_iter().map(|number| names[number as usize]).collect();
        let ranked = |&(before, after): &(u32, u32)| (rank[before as usize], rank[after as usize]);
        let followers = AdjacencyLists::new(found.pairs.iter().map(ranked), names.len());

        let stage_of = stages(&followers, names.len());
        let mut stages =
            vec![Vec::new(); stage_of.iter().max().map_or(0, |&last| last as usize + 1)];
        for (name, &stage) in names.iter().zip(&stage_of) {
            stages[stage as usize].push((*name).clone());
        }
        let mut dependencies = Vec::with_capacity(followers.len());
        for (before, &name) in names.iter().enumerate() {
            let after = followers.get(before as u32).iter().map(|&after| names[after as usize]);
            dependencies.extend(after.map(|after| (name.clone(), after.clone())));
        }
        let digest = digest(&stages, &dependencies);
        Plan { targets, stages, dependencies, sources, digest }
    }

    /// In byte order.
    pub(super) fn names_of_datasets(&self, slots: &SlotSet) -> Vec<Name> {
        in_byte_order(slots.iter().map(|&slot| &self.datasets.get(slot).name).collect())
    }

    /// In byte order.
    pub(super) fn names_of_jobs(&self, slots: &SlotSet) -> Vec<Name> {
        in_byte_order(slots.iter().map(|&slot| &self.jobs.get(slot).name).collect())
    }

    fn dataset_slots(&self, names: &[Name]) -> Result<SlotSet, QueryError> {
        let slot = |name: &Name| match self.dataset(name.as_str()) {
            Some(dataset) => Ok(dataset.slot),
            None => Err(QueryError::DatasetNotFound { name: name.clone() }),
        };
        names.iter().map(slot).collect()
    }
}

fn target_names(request: &PlanRequest) -> Vec<Name> {
    let once = |names: &[Name]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        names
    };
    let mut targets = [once(&request.datasets), once(&request.jobs)].concat();
    targets.sort_unstable();
    targets
}

fn in_byte_order(names: Vec<&Name>) -> Vec<Name> {
    positions_by_name(names.iter().copied())
        .into_iter()
        .map(|at| names[at as usize].clone())
        .collect()
}

/// The jobs of a plan, numbered in the order in which they were found, so that arrays can be used.
#[derive(Default)]
struct Found {
    jobs: Vec<Slot>,
    numbers: SlotMap<u32>,
    /// Pairs of numbers of jobs where the second reads something that the first writes. A pair may
    /// come more than once.
    pairs: Vec<(u32, u32)>,
}

impl Found {
    fn number(&mut self, job: Slot) -> u32 {
        *self.numbers.entry(job).or_insert_with(|| {
            self.jobs.push(job);
            self.jobs.len() as u32 - 1
        })
    }
}

/// For each job, the length of the longest chain of jobs that leads to it.
fn stages(followers: &AdjacencyLists, jobs: usize) -> Vec<u32> {
    let mut waiting_for = vec![0_u32; jobs];
    for job in 0..jobs as u32 {
        for &after in followers.get(job) {
            waiting_for[after as usize] += 1;
        }
    }
    let mut ready: Vec<u32> =
        (0..jobs as u32).filter(|&job| waiting_for[job as usize] == 0).collect();
    let mut stage_of = vec![0; jobs];
    while let Some(job) = ready.pop() {
        for &after in followers.get(job) {
            stage_of[after as usize] = stage_of[after as usize].max(stage_of[job as usize] + 1);
            waiting_for[after as usize] -= 1;
            if waiting_for[after as usize] == 0 {
                ready.push(after);
            }
        }
    }
    stage_of
}

fn digest(stages: &[Vec<Name>], dependencies: &[(Name, Name)]) -> String {
    let mut hash = Sha256::new();
    let mut line = Vec::new();
    let mut add = |kind: &str, first: &str, second: &str| {
        line.clear();
        for part in [kind, "\t", first, "\t", second, "\n"] {
            line.extend_from_slice(part.as_bytes());
        }
        hash.update(&line);
    };
    for (number, jobs) in stages.iter().enumerate() {
        let number = number.to_string();
        jobs.iter().for_each(|job| add("job", &number, job.as_str()));
    }
    dependencies.iter().for_each(|(before, after)| add("dep", before.as_str(), after.as_str()));
    hex(&hash.finalize())
}
