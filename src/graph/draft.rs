//! A changeset at work: what its operations so far make of each job and dataset that they name, as
//! differences from the graph.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::adjacency::{Dataset, Graph, Job};
use super::change::{Change, Fact};
use super::json::CanonicalJson;
use super::name::Name;
use super::operation::{JobPatch, JobSpecification, Operation, Side, SpecPatch};
use super::order::Slot;
use super::rejection::Rejection;

pub(super) struct Draft<'g> {
    base: &'g Graph,
    jobs: HashMap<Name, DraftJob<'g>>,
    datasets: HashMap<Name, DraftDataset<'g>>,
    /// Edges that were asked for one by one.
    asked: BTreeSet<(Name, Side, Name)>,
}

struct DraftJob<'g> {
    base: Option<Job<'g>>,
    exists: bool,
    spec: CanonicalJson,
    inputs: EdgeDelta,
    outputs: EdgeDelta,
}

/// The edges of one job on one side, against those that the graph has.
#[derive(Default)]
struct EdgeDelta {
    /// Not in the graph; with the operation that added it.
    added: BTreeMap<Name, usize>,
    /// In the graph, now gone.
    removed: BTreeSet<Name>,
    /// In the graph, removed and added again by this operation.
    restored: BTreeMap<Name, usize>,
}

struct DraftDataset<'g> {
    base: Option<Dataset<'g>>,
    metadata: Option<CanonicalJson>,
    mentions: usize,
    /// The operation that deleted it last.
    deleted_by: Option<usize>,
}

impl DraftJob<'_> {
    fn side(&self, side: Side) -> &EdgeDelta {
        match side {
            Side::Input => &self.inputs,
            Side::Output => &self.outputs,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut EdgeDelta {
        match side {
            Side::Input => &mut self.inputs,
            Side::Output => &mut self.outputs,
        }
    }
}

impl<'g> Draft<'g> {
    pub(super) fn new(base: &'g Graph) -> Self {
        Self { base, jobs: HashMap::new(), datasets: HashMap::new(), asked: BTreeSet::new() }
    }

    /// Does one operation, judging existence only.
    pub(super) fn take_step(
        &mut self,
        operation: &Operation,
        number: usize,
    ) -> Result<(), Rejection> {
        match operation {
            Operation::PutJob(job) => self.put_job(job, number),
            Operation::PatchJob { name, patch } => self.patch_job(name, patch, number)?,
            Operation::DeleteJob { name } => {
                self.existing_job(name, number)?;
                for side in [Side::Input, Side::Output] {
                    self.set_edges(name, side, &[], number);
                }
                self.job(name).exists = false;
            }
            Operation::AddEdge { side, job, dataset } => {
                self.existing_ends(job, dataset, number)?;
                if !self.add_edge(job, *side, dataset, number) {
                    let (job, dataset) = (job.clone(), dataset.clone());
                    return Err(Rejection::EdgeExists { job, dataset, operation: number });
                }
                self.asked.insert((job.clone(), *side, dataset.clone()));
            }
            Operation::RemoveEdge { side, job, dataset } => {
                self.existing_ends(job, dataset, number)?;
                if !self.remove_edge(job, *side, dataset) {
                    let (job, dataset) = (job.clone(), dataset.clone());
                    return Err(Rejection::EdgeNotFound { job, dataset, operation: number });
                }
            }
            Operation::PutDataset { name, metadata } => {
                self.dataset(name).metadata = Some(metadata.clone())
            }
            Operation::DeleteDataset { name } => {
                let dataset = self.dataset(name);
                if !dataset.exists() {
                    return Err(Rejection::DatasetNotFound {
                        name: name.clone(),
                        operation: number,
                    });
                }
                dataset.metadata = None;
                dataset.deleted_by = Some(number);
            }
        }
        Ok(())
    }

    /// No dataset that was deleted is declared no more and still mentioned.
    pub(super) fn check_deleted_datasets(&self) -> Result<(), Rejection> {
        let in_use = self
            .datasets
            .iter()
            .filter(|(_, dataset)| dataset.metadata.is_none() && dataset.mentions > 0)
            .filter_map(|(name, dataset)| dataset.deleted_by.map(|operation| (operation, name)))
            .min();
        match in_use {
            None => Ok(()),
            Some((operation, name)) => Err(Rejection::DatasetInUse {
                name: name.clone(),
                jobs: self.users_of(name),
                operation,
            }),
        }
    }

    /// The first jobs that mention `dataset`, in byte order.
    fn users_of(&self, dataset: &Name) -> Vec<Name> {
        let mut users: Vec<Name> = Vec::new();
        if let Some(in_base) = self.base.dataset(dataset.as_str()) {
            let jobs =
                in_base.consumers().into_iter().chain(in_base.producer().map(|job| job.name()));
            users.extend(jobs.filter(|job| !self.jobs.contains_key(*job)).cloned());
        }
        let drafted = self.jobs.keys().filter(|job| {
            [Side::Input, Side::Output].into_iter().any(|side| self.has_edge(job, side, dataset))
        });
        users.extend(drafted.cloned());
        users.sort_unstable();
        users.dedup();
        users.truncate(Rejection::JOBS_NAMED);
        users
    }

    /// Every dataset has at most one producer. Of several violations the one that came to be first,
    /// then the byte-smallest dataset, is told.
    pub(super) fn check_producers(&self) -> Result<(), Rejection> {
        let mut producers: HashMap<&Name, Vec<(usize, &Name)>> = HashMap::new();
        for (job, draft) in &self.jobs {
            for (dataset, &operation) in &draft.outputs.added {
                producers.entry(dataset).or_default().push((operation, job));
            }
        }
        let mut first: Option<(usize, &Name, &Name, &Name)> = None;
        for (dataset, mut adders) in producers {
            adders.sort_unstable();
            let in_base = self.datasets.get(dataset).and_then(|dataset| dataset.base);
            let kept = in_base.and_then(|dataset| dataset.producer()).map(|job| job.name());
            let kept = kept.filter(|job| self.has_edge(job, Side::Output, dataset));
            let violation = match (kept, &adders[..]) {
                (Some(producer), [(operation, job), ..]) => {
                    Some((*operation, dataset, producer, *job))
                }
                (None, [(_, producer), (operation, job), ..]) => {
                    Some((*operation, dataset, *producer, *job))
                }
                (None, _) | (Some(_), []) => None,
            };
            first = [first, violation].into_iter().flatten().min();
        }
        match first {
            None => Ok(()),
            Some((operation, dataset, producer, job)) => Err(Rejection::SecondProducer {
                dataset: dataset.clone(),
                producer: producer.clone(),
                job: job.clone(),
                operation,
            }),
        }
    }

    /// Whether something that an operation named came to be: a job, a dataset by declaration, an
    /// edge by itself.
    pub(super) fn created(&self) -> bool {
        let is_new = |(job, side, dataset): &(Name, Side, Name)| {
            self.jobs.get(job).is_some_and(|job| job.side(*side).added.contains_key(dataset))
        };
        self.asked.iter().any(is_new)
            || self.jobs.values().any(|job| job.exists && job.base.is_none())
            || self
                .datasets
                .values()
                .any(|dataset| dataset.metadata.is_some() && dataset.base.is_none())
    }

    /// The difference as facts.
    pub(super) fn change(&self) -> Change {
        let (mut deleted, mut changed, mut created) = (Vec::new(), Vec::new(), Vec::new());
        for (name, job) in in_byte_order(&self.jobs) {
            let name = name.clone();
            let added = |delta: &EdgeDelta| delta.added.keys().cloned().collect::<Vec<_>>();
            let removed = |delta: &EdgeDelta| delta.removed.iter().cloned().collect::<Vec<_>>();
            match (job.base, job.exists) {
                (None, false) => {}
                (None, true) => created.push(Fact::JobCreated {
                    inputs: added(&job.inputs),
                    name,
                    outputs: added(&job.outputs),
                    spec: job.spec.clone(),
                }),
                (Some(_), false) => deleted.push(Fact::JobDeleted { name }),
                (Some(base), true) => {
                    let spec = (*base.spec() != job.spec).then(|| job.spec.clone());
                    if spec.is_some() || !job.inputs.is_empty() || !job.outputs.is_empty() {
                        changed.push(Fact::JobChanged {
                            inputs_added: added(&job.inputs),
                            inputs_removed: removed(&job.inputs),
                            name,
                            outputs_added: added(&job.outputs),
                            outputs_removed: removed(&job.outputs),
                            spec,
                        });
                    }
                }
            }
        }
        let (mut undeclared, mut other_metadata, mut declared) =
            (Vec::new(), Vec::new(), Vec::new());
        for (name, dataset) in in_byte_order(&self.datasets) {
            let name = name.clone();
            match (dataset.base.and_then(|base| base.metadata()), &dataset.metadata) {
                (Some(_), None) => undeclared.push(Fact::DatasetUndeclared { name }),
                (Some(before), Some(metadata)) if before != metadata => {
                    other_metadata.push(Fact::DatasetChanged { metadata: metadata.clone(), name });
                }
                (None, Some(metadata)) => {
                    declared.push(Fact::DatasetDeclared { metadata: metadata.clone(), name });
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        Change { facts: [deleted, changed, created, undeclared, other_metadata, declared].concat() }
    }

    /// Where the graph has a dataset that was drafted; `None` if it was not or is new.
    pub(super) fn slot_of(&self, dataset: &Name) -> Option<Slot> {
        self.datasets.get(dataset)?.base.map(|base| base.id())
    }

    /// The same of all drafted datasets, without the graph.
    pub(super) fn into_slots(self) -> HashMap<Name, Slot> {
        let slots = self
            .datasets
            .into_iter()
            .filter_map(|(name, dataset)| Some((name, dataset.base?.id())));
        slots.collect()
    }

    /// The operation that added the edge last, if one of this changeset did.
    pub(super) fn added_by(&self, job: &Name, side: Side, dataset: &Name) -> Option<usize> {
        let delta = self.jobs.get(job)?.side(side);
        delta.added.get(dataset).or_else(|| delta.restored.get(dataset)).copied()
    }

    fn put_job(&mut self, job: &JobSpecification, number: usize) {
        let draft = self.job(&job.name);
        draft.exists = true;
        draft.spec = job.spec.clone();
        self.set_edges(&job.name, Side::Input, &job.inputs, number);
        self.set_edges(&job.name, Side::Output, &job.outputs, number);
    }

    fn patch_job(&mut self, name: &Name, patch: &JobPatch, number: usize) -> Result<(), Rejection> {
        self.existing_job(name, number)?;
        let draft = self.job(name);
        match &patch.spec {
            None => {}
            Some(SpecPatch::Remove) => draft.spec = CanonicalJson::default(),
            Some(SpecPatch::Merge(object)) => draft.spec = draft.spec.merge_patch(object),
        }
        for (side, names) in [(Side::Input, &patch.inputs), (Side::Output, &patch.outputs)] {
            if let Some(names) = names {
                self.set_edges(name, side, names, number);
            }
        }
        Ok(())
    }

    fn existing_job(&mut self, name: &Name, operation: usize) -> Result<(), Rejection> {
        if self.job(name).exists {
            Ok(())
        } else {
            Err(Rejection::JobNotFound { name: name.clone(), operation })
        }
    }

    fn existing_ends(
        &mut self,
        job: &Name,
        dataset: &Name,
        operation: usize,
    ) -> Result<(), Rejection> {
        self.existing_job(job, operation)?;
        if self.dataset(dataset).exists() {
            Ok(())
        } else {
            Err(Rejection::DatasetNotFound { name: dataset.clone(), operation })
        }
    }

    /// Makes `names`, sorted, all the edges that the job has on that side.
    fn set_edges(&mut self, job: &Name, side: Side, names: &[Name], number: usize) {
        for gone in
            self.edges(job, side).into_iter().filter(|name| names.binary_search(name).is_err())
        {
            self.remove_edge(job, side, &gone);
        }
        for name in names {
            self.add_edge(job, side, name, number);
        }
    }

    fn edges(&mut self, job: &Name, side: Side) -> Vec<Name> {
        let draft = self.job(job);
        let base = draft.base;
        let delta = draft.side_mut(side);
        let in_base = base.map_or_else(Vec::new, |job| match side {
            Side::Input => job.inputs(),
            Side::Output => job.outputs(),
        });
        let kept = in_base.into_iter().filter(|name| !delta.removed.contains(*name));
        kept.chain(delta.added.keys()).cloned().collect()
    }

    fn has_edge(&self, job: &Name, side: Side, dataset: &Name) -> bool {
        let Some(draft) = self.jobs.get(job) else { return self.base.has_edge(job, side, dataset) };
        let delta = draft.side(side);
        if delta.added.contains_key(dataset) {
            return true;
        }
        // Seldom more is needed: a job that is new has no edges, and a dataset that is drafted was
        // looked up before.
        let Some(base) = draft.base else { return false };
        let in_base = match self.datasets.get(dataset) {
            Some(dataset) => dataset.base,
            None => self.base.dataset(dataset.as_str()),
        };
        in_base.is_some_and(|in_base| base.has_edge(side, in_base.id()))
            && !delta.removed.contains(dataset)
    }

    /// `false` if it is there already.
    fn add_edge(&mut self, job: &Name, side: Side, dataset: &Name, number: usize) -> bool {
        if self.has_edge(job, side, dataset) {
            return false;
        }
        let delta = self.job(job).side_mut(side);
        if delta.removed.remove(dataset) {
            delta.restored.insert(dataset.clone(), number);
        } else {
            delta.added.insert(dataset.clone(), number);
        }
        self.dataset(dataset).mentions += 1;
        true
    }

    /// `false` if it is not there.
    fn remove_edge(&mut self, job: &Name, side: Side, dataset: &Name) -> bool {
        if !self.has_edge(job, side, dataset) {
            return false;
        }
        let delta = self.job(job).side_mut(side);
        delta.restored.remove(dataset);
        if delta.added.remove(dataset).is_none() {
            delta.removed.insert(dataset.clone());
        }
        self.dataset(dataset).mentions -= 1;
        true
    }

    fn job(&mut self, name: &Name) -> &mut DraftJob<'g> {
        match self.jobs.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let base = self.base.job(name.as_str());
                entry.insert(DraftJob {
                    base,
                    exists: base.is_some(),
                    spec: base.map_or_else(CanonicalJson::default, |job| job.spec().clone()),
                    inputs: EdgeDelta::default(),
                    outputs: EdgeDelta::default(),
                })
            }
        }
    }

    fn dataset(&mut self, name: &Name) -> &mut DraftDataset<'g> {
        match self.datasets.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let base = self.base.dataset(name.as_str());
                entry.insert(DraftDataset {
                    base,
                    metadata: base.and_then(|dataset| dataset.metadata()).cloned(),
                    mentions: base.map_or(0, |dataset| dataset.mentions()),
                    deleted_by: None,
                })
            }
        }
    }
}

fn in_byte_order<T>(drafted: &HashMap<Name, T>) -> Vec<(&Name, &T)> {
    let mut drafted: Vec<_> = drafted.iter().collect();
    drafted.sort_unstable_by_key(|&(name, _)| name);
    drafted
}

impl DraftDataset<'_> {
    fn exists(&self) -> bool {
        self.metadata.is_some() || self.mentions > 0
    }
}

impl EdgeDelta {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}
