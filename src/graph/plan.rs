//! Plans: which jobs must run to produce targets, and in which order.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::adjacency::Graph;
use super::digest::hex;
use super::name::Name;
use super::order::Slot;

/// What to plan for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanRequest {
    /// Datasets to produce.
    pub datasets: Vec<Name>,
    /// Jobs to run, with all that they need.
    pub jobs: Vec<Name>,
    /// Datasets that count as sources: nothing is planned to produce them.
    pub stop_at: Vec<Name>,
}

/// The jobs that must run, and their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What was planned for, sorted.
    pub targets: Vec<Name>,
    /// Stage k holds the jobs whose longest chain of producing jobs inside the plan has length k, in byte order.
    pub stages: Vec<Vec<Name>>,
    /// Every pair of plan jobs of which the second reads something that the first writes, sorted by name.
    pub dependencies: Vec<(Name, Name)>,
    /// The datasets that the plan reads and does not produce, sorted.
    pub sources: Vec<Name>,
    /// Lower-case hex SHA-256 of the plan's lines.
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
    /// The plan for `request`, of at most `limit` jobs. O(p log p) for p jobs, datasets and edges of the plan; the rest of the
    /// graph is not looked at.
    ///
    /// # Errors
    /// [`QueryError`] if a target does not exist or the plan is too large.
    pub fn plan(&self, request: &PlanRequest, limit: usize) -> Result<Plan, QueryError> {
        let stop_at = self.dataset_slots(&request.stop_at)?;
        let producer = |dataset: Slot| self.dataset_edges(dataset).producer.filter(|_| !stop_at.contains(&dataset));
        let wanted_datasets = self.dataset_slots(&request.datasets)?;
        let mut waiting: Vec<Slot> = wanted_datasets.into_iter().filter_map(producer).collect();
        for name in &request.jobs {
            let job = self.job(name.as_str()).ok_or_else(|| QueryError::JobNotFound { name: name.clone() })?;
            waiting.push(job.slot);
        }
        let mut needed = HashSet::new();
        let mut sources = HashSet::new();
        while let Some(job) = waiting.pop() {
            if !needed.insert(job) {
                continue;
            }
            if needed.len() > limit {
                return Err(QueryError::TooLarge { limit, what: "jobs" });
            }
            for dataset in self.jobs.get(job).inputs.iter() {
                match producer(dataset) {
                    Some(before) if needed.contains(&before) => {}
                    Some(before) => waiting.push(before),
                    None => {
                        sources.insert(dataset);
                    }
                }
            }
        }
        let mut targets: Vec<Name> = request.datasets.iter().chain(&request.jobs).cloned().collect();
        targets.sort_unstable();
        targets.dedup();
        let mut sources: Vec<Name> = sources.into_iter().map(|slot| self.datasets.get(slot).name.clone()).collect();
        sources.sort_unstable();
        Ok(self.arrange(needed, producer, targets, sources))
    }

    fn arrange(
        &self,
        needed: HashSet<Slot>,
        producer: impl Fn(Slot) -> Option<Slot>,
        targets: Vec<Name>,
        sources: Vec<Name>,
    ) -> Plan {
        // By name once, so that all later sorting is of numbers.
        let mut by_name: Vec<Slot> = needed.into_iter().collect();
        by_name.sort_unstable_by_key(|&job| &self.jobs.get(job).name);
        let rank: HashMap<Slot, u32> = by_name.iter().enumerate().map(|(rank, &job)| (job, rank as u32)).collect();

        let mut in_order: Vec<u32> = (0..by_name.len() as u32).collect();
        in_order.sort_unstable_by_key(|&rank| self.order.label(by_name[rank as usize]));
        let mut stage_of = vec![0_u32; by_name.len()];
        let mut pairs = Vec::new();
        for &job in &in_order {
            let mut stage = 0;
            for before in self.jobs.get(by_name[job as usize]).inputs.iter().filter_map(&producer) {
                let before = rank[&before];
                stage = stage.max(stage_of[before as usize] + 1);
                pairs.push((before, job));
            }
            stage_of[job as usize] = stage;
        }
        pairs.sort_unstable();
        pairs.dedup();

        let name = |rank: u32| self.jobs.get(by_name[rank as usize]).name.clone();
        let mut stages = vec![Vec::new(); stage_of.iter().max().map_or(0, |&last| last as usize + 1)];
        for job in 0..by_name.len() as u32 {
            stages[stage_of[job as usize] as usize].push(name(job));
        }
        let dependencies: Vec<_> = pairs.into_iter().map(|(before, after)| (name(before), name(after))).collect();
        let digest = digest(&stages, &dependencies);
        Plan { targets, stages, dependencies, sources, digest }
    }

    fn dataset_slots(&self, names: &[Name]) -> Result<HashSet<Slot>, QueryError> {
        let slot = |name: &Name| match self.dataset(name.as_str()) {
            Some(dataset) => Ok(dataset.slot),
            None => Err(QueryError::DatasetNotFound { name: name.clone() }),
        };
        names.iter().map(slot).collect()
    }
}

fn digest(stages: &[Vec<Name>], dependencies: &[(Name, Name)]) -> String {
    let mut hash = Sha256::new();
    for (number, jobs) in stages.iter().enumerate() {
        for job in jobs {
            hash.update(format!("job\t{number}\t{job}\n"));
        }
    }
    for (before, after) in dependencies {
        hash.update(format!("dep\t{before}\t{after}\n"));
    }
    hex(&hash.finalize())
}
