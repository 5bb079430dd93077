//! What lies upstream and downstream of a job or a dataset.

use super::graph::Graph;
use super::name::Name;
use super::plan::QueryError;
use super::slot_map::SlotSet;
use super::slots::Slot;

/// Where a search begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// At a job.
    Job(Name),
    /// At a dataset.
    Dataset(Name),
}

/// Which way a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards what it is made from.
    Upstream,
    /// Towards what is made from it.
    Downstream,
}

/// Everything that was reached, without the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// In byte order.
    pub jobs: Vec<Name>,
    /// In byte order.
    pub datasets: Vec<Name>,
}

impl Graph {
    /// The jobs and datasets that are reached through at most `depth` jobs, not counting the
    /// origin; all of them if `None`. At most `limit` names. O(r log r) for r jobs, datasets and
    /// edges that are reached.
    ///
    /// # Errors
    /// [`QueryError`] if the origin does not exist or the answer is too large.
    pub fn reachable(
        &self,
        origin: &Origin,
        direction: Direction,
        depth: Option<usize>,
        limit: usize,
    ) -> Result<Reachable, QueryError> {
        let mut search = Search {
            graph: self,
            direction,
            jobs: SlotSet::default(),
            datasets: SlotSet::default(),
            limit,
        };
        let first = match origin {
            Origin::Job(name) => {
                let job = self
                    .job(name.as_str())
                    .ok_or_else(|| QueryError::JobNotFound { name: name.clone() })?;
                search.datasets_of(job.slot)?
            }
            Origin::Dataset(name) => {
                let dataset = self.dataset(name.as_str());
                vec![
                    dataset.ok_or_else(|| QueryError::DatasetNotFound { name: name.clone() })?.slot,
                ]
            }
        };
        search.run(first, depth.unwrap_or(usize::MAX))?;
        Ok(search.names())
    }
}

struct Search<'g> {
    graph: &'g Graph,
    direction: Direction,
    jobs: SlotSet,
    datasets: SlotSet,
    limit: usize,
}

impl Search<'_> {
    /// Breadth first, one round for each job on the way.
    fn run(&mut self, mut datasets: Vec<Slot>, depth: usize) -> Result<(), QueryError> {
        for _ in 0..depth {
            let mut next = Vec::new();
            for dataset in datasets {
                for job in self.jobs_of(dataset) {
                    if self.jobs.insert(job) {
                        next.extend(self.datasets_of(job)?);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            datasets = next;
        }
        Ok(())
    }

    /// The jobs beyond a dataset.
    fn jobs_of(&self, dataset: Slot) -> Vec<Slot> {
        let node = self.graph.dataset_edges(dataset);
        match self.direction {
            Direction::Upstream => node.producer.into_iter().collect(),
            Direction::Downstream => node.consumers.iter().collect(),
        }
    }

    /// The datasets beyond a job, if they were not reached before.
    fn datasets_of(&mut self, job: Slot) -> Result<Vec<Slot>, QueryError> {
        let node = self.graph.jobs.get(job);
        let beyond = match self.direction {
            Direction::Upstream => &node.inputs,
            Direction::Downstream => &node.outputs,
        };
        let new: Vec<Slot> =
            beyond.iter().filter(|&dataset| self.datasets.insert(dataset)).collect();
        if self.jobs.len() + self.datasets.len() > self.limit {
            return Err(QueryError::TooLarge { limit: self.limit, what: "names" });
        }
        Ok(new)
    }

    fn names(self) -> Reachable {
        Reachable {
            jobs: self.graph.names_of_jobs(&self.jobs),
            datasets: self.graph.names_of_datasets(&self.datasets),
        }
    }
}
