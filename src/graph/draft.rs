//! A changeset under way: for each job and dataset that its operations name, how they differ so far
//! from the graph.
//!
//! An operation costs O(log n) for each name in it and for each edge that it adds or removes. What
//! it does not change costs nothing, with one exception: the first operation that replaces all
//! edges of a job on one side lists the edges that the job has there in the graph. Those are at
//! most the names in the operation and the edges that it and earlier operations remove.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::apply::DatasetSlots;
use super::by_name::{in_byte_order, positions_by_name};
use super::change::{Change, Fact};
use super::cycle::{JobOwners, Owners};
use super::graph::Graph;
use super::json::{CanonicalJson, PatchedJson};
use super::name::Name;
use super::neighbours::Neighbours;
use super::nodes::{DatasetNode, JobNode};
use super::operation::{JobPatch, JobSpecification, Operation, Side, SpecPatch};
use super::rejection::Rejection;
use super::slot_map::SlotSet;
use super::slots::Slot;

pub(super) struct Draft<'g> {
    base: &'g Graph,
    drafted: Drafted,
}

/// The draft without the graph that it differs from.
#[derive(Default)]
pub(super) struct Drafted {
    jobs: HashMap<Name, DraftJob>,
    datasets: HashMap<Name, DraftDataset>,
    /// Edges that operations added one by one.
    asked: HashSet<(Name, Side, Name)>,
}

struct DraftJob {
    /// Where the graph has it.
    base: Option<Slot>,
    exists: bool,
    spec: PatchedJson,
    inputs: EdgeDelta,
    outputs: EdgeDelta,
}

/// How the edges of one job on one side differ from those in the graph.
#[derive(Default)]
struct EdgeDelta {
    /// Not in the graph; each with the operation that added it.
    added: BTreeMap<Name, usize>,
    /// In the graph, and removed.
    removed: BTreeSet<Name>,
    /// In the graph, removed, and added again; each with the operation that added it again.
    restored: BTreeMap<Name, usize>,
    /// In the graph and not removed. `None` until they are listed for the first time.
    kept: Option<BTreeSet<Name>>,
}

struct DraftDataset {
    /// Its slot in the graph; `None` if it is new. Once the change is applied, its slot in the
    /// graph after it.
    slot: Option<Slot>,
    metadata: Option<CanonicalJson>,
    /// How many jobs read it, and how many write it.
    readers: usize,
    writers: usize,
    /// The first operation that deleted it since it was last declared.
    deleted_by: Option<usize>,
}

impl Drafted {
    /// Whether something that an operation names is created: a job, a declared dataset, or an edge
    /// by an operation of its own. Must be called before the change is applied.
    pub(super) fn created(&self) -> bool {
        let is_new = |(job, side, dataset): &(Name, Side, Name)| {
            self.jobs.get(job).is_some_and(|job| job.side(*side).added.contains_key(dataset))
        };
        self.asked.iter().any(is_new)
            || self.jobs.values().any(|job| job.exists && job.base.is_none())
            || self
                .datasets
                .values()
                .any(|dataset| dataset.metadata.is_some() && dataset.slot.is_none())
    }
}

impl DatasetSlots for Drafted {
    fn slot(&mut self, dataset: &Name) -> Option<&mut Option<Slot>> {
        self.datasets.get_mut(dataset).map(|dataset| &mut dataset.slot)
    }
}

impl Owners for Drafted {
    fn of_job(&self, job: &Name) -> Option<&dyn JobOwners> {
        self.jobs.get(job).map(|job| job as &dyn JobOwners)
    }
}

impl JobOwners for DraftJob {
    /// The last operation before which the edge was absent and after which it was present.
    fn owner(&self, side: Side, dataset: &Name) -> Option<usize> {
        let delta = self.side(side);
        delta.added.get(dataset).or_else(|| delta.restored.get(dataset)).copied()
    }
}

impl<'g> Draft<'g> {
    pub(super) fn new(base: &'g Graph) -> Self {
        Self { base, drafted: Drafted::default() }
    }

    pub(super) fn into_drafted(self) -> Drafted {
        self.drafted
    }

    /// Drafts one operation, and checks existence only. Cost: see the module.
    pub(super) fn take_step(
        &mut self,
        operation: &Operation,
        number: usize,
    ) -> Result<(), Rejection> {
        match operation {
            Operation::PutJob(job) => self.put_job(job, number),
            Operation::PatchJob { name, patch } => self.patch_job(name, patch, number)?,
            Operation::DeleteJob { name } => self.delete_job(name, number)?,
            Operation::AddEdge { side, job, dataset } => {
                self.existing_ends(job, dataset, number)?;
                if !self.add_edge(job, *side, dataset, number) {
                    let (job, dataset) = (job.clone(), dataset.clone());
                    return Err(Rejection::EdgeExists { job, dataset, operation: number });
                }
                self.drafted.asked.insert((job.clone(), *side, dataset.clone()));
            }
            Operation::RemoveEdge { side, job, dataset } => {
                self.existing_ends(job, dataset, number)?;
                if !self.remove_edge(job, *side, dataset) {
                    let (job, dataset) = (job.clone(), dataset.clone());
                    return Err(Rejection::EdgeNotFound { job, dataset, operation: number });
                }
            }
            Operation::PutDataset { name, metadata } => {
                let dataset = self.dataset(name);
                dataset.metadata = Some(metadata.clone());
                dataset.deleted_by = None;
            }
            Operation::DeleteDataset { name } => self.delete_dataset(name, number)?,
        }
        Ok(())
    }

    /// Checks that no dataset whose declaration is deleted is still mentioned by a job. Of several
    /// violations, reports the one of the smallest operation, then of the byte-smallest dataset.
    /// O(d) for d drafted datasets; a rejection also looks at all jobs that mention the dataset.
    pub(super) fn check_deleted_datasets(&self) -> Result<(), Rejection> {
        let in_use = self
            .drafted
            .datasets
            .iter()
            .filter(|(_, dataset)| dataset.metadata.is_none() && dataset.is_mentioned())
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

    /// The first jobs that mention `dataset`, in byte order. O(j + m) for j drafted jobs and m jobs
    /// of the graph that mention it.
    fn users_of(&self, dataset: &Name) -> Vec<Name> {
        let jobs = &self.drafted.jobs;
        let drafted: SlotSet = jobs.values().filter_map(|job| job.base).collect();
        let mut users: Vec<&Name> = Vec::new();
        if let Some(in_base) = self.base.dataset(dataset.as_str()) {
            let edges = self.base.dataset_edges(in_base.id());
            let slots = edges.consumers.iter().chain(edges.producer);
            users.extend(
                slots
                    .filter(|slot| !drafted.contains(slot))
                    .map(|slot| &self.base.jobs.get(slot).name),
            );
        }
        users.extend(jobs.keys().filter(|job| {
            [Side::Input, Side::Output].into_iter().any(|side| self.has_edge(job, side, dataset))
        }));
        // A job that both reads and writes it comes twice.
        if users.len() > 2 * Rejection::JOBS_NAMED {
            users.select_nth_unstable(2 * Rejection::JOBS_NAMED);
            users.truncate(2 * Rejection::JOBS_NAMED);
        }
        users.sort_unstable();
        users.dedup();
        users.into_iter().take(Rejection::JOBS_NAMED).cloned().collect()
    }

    /// Checks that every dataset has at most one producer. Of several violations, reports the one
    /// of the smallest operation, then of the byte-smallest dataset. Its producer is the job that
    /// writes the dataset both in the graph and in the end, even if the edge was removed in
    /// between; without such a job, the first that added it. O(d) for d drafted datasets; a
    /// rejection also looks at all edges that were added.
    pub(super) fn check_producers(&self) -> Result<(), Rejection> {
        let datasets = &self.drafted.datasets;
        if datasets.values().all(|dataset| dataset.writers <= 1) {
            return Ok(());
        }
        let mut adders: HashMap<&Name, Vec<(usize, &Name)>> = HashMap::new();
        for (job, draft) in &self.drafted.jobs {
            let added = draft.outputs.added.iter();
            for (dataset, &operation) in added.filter(|(name, _)| datasets[*name].writers > 1) {
                adders.entry(dataset).or_default().push((operation, job));
            }
        }
        let violation = |(dataset, mut adders): (_, Vec<(usize, _)>)| {
            adders.sort_unstable();
            let before =
                datasets[dataset].slot.and_then(|slot| self.base.dataset_edges(slot).producer);
            let before = before.map(|slot| &self.base.jobs.get(slot).name);
            let kept = before.filter(|job| self.has_edge(job, Side::Output, dataset));
            let mut others = adders.into_iter();
            let producer = kept.or_else(|| others.next().map(|(_, job)| job))?;
            let (operation, job) = others.next()?;
            Some((operation, dataset, producer, job))
        };
        match adders.into_iter().filter_map(violation).min() {
            None => Ok(()),
            Some((operation, dataset, producer, job)) => Err(Rejection::SecondProducer {
                dataset: dataset.clone(),
                producer: producer.clone(),
                job: job.clone(),
                operation,
            }),
        }
    }

    /// The differences as facts. O(n log n) for n drafted jobs, datasets and changed edges, and the
    /// length of the specifications.
    pub(super) fn change(&self) -> Change {
        let (mut deleted, mut changed, mut created) = (Vec::new(), Vec::new(), Vec::new());
        for (name, job) in sorted_by_name(self.drafted.jobs.iter()) {
            let name = name.clone();
            let added = |delta: &EdgeDelta| delta.added.keys().cloned().collect::<Vec<_>>();
            let removed = |delta: &EdgeDelta| delta.removed.iter().cloned().collect::<Vec<_>>();
            match (self.base_job(job), job.exists) {
                (None, false) => {}
                (None, true) => created.push(Fact::JobCreated {
                    inputs: added(&job.inputs),
                    name,
                    outputs: added(&job.outputs),
                    spec: job.spec.canonical(),
                }),
                (Some(_), false) => deleted.push(Fact::JobDeleted { name }),
                (Some(base), true) => {
                    let spec = Some(job.spec.canonical()).filter(|spec| base.spec != *spec);
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
        let metadata = |dataset: &DraftDataset| {
            self.base_dataset(dataset).and_then(|base| base.metadata.as_ref())
        };
        // All other datasets are implied before and after.
        let may_differ = |(_, dataset): &(_, &DraftDataset)| {
            dataset.metadata.is_some() || metadata(dataset).is_some()
        };
        for (name, dataset) in sorted_by_name(self.drafted.datasets.iter().filter(may_differ)) {
            let name = name.clone();
            match (metadata(dataset), &dataset.metadata) {
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

    /// O(log n) for each name in the operation and each edge that is removed. The specification
    /// costs O(1).
    fn put_job(&mut self, job: &JobSpecification, number: usize) {
        let (draft, mut datasets) = self.job_and_datasets(&job.name);
        draft.exists = true;
        draft.spec = PatchedJson::Canonical(job.spec.clone());
        draft.set_edges(Side::Input, &job.inputs, number, &mut datasets);
        draft.set_edges(Side::Output, &job.outputs, number, &mut datasets);
    }

    /// As [`put_job`](Self::put_job). A patch of the specification costs its length; the first one
    /// of a job also costs the length of the specification.
    fn patch_job(&mut self, name: &Name, patch: &JobPatch, number: usize) -> Result<(), Rejection> {
        self.existing_job(name, number)?;
        let (draft, mut datasets) = self.job_and_datasets(name);
        match &patch.spec {
            None => {}
            Some(SpecPatch::Remove) => {
                draft.spec = PatchedJson::Canonical(CanonicalJson::default());
            }
            Some(SpecPatch::Merge(object)) => draft.spec.merge(object),
        }
        for (side, names) in [(Side::Input, &patch.inputs), (Side::Output, &patch.outputs)] {
            if let Some(names) = names {
                draft.set_edges(side, names, number, &mut datasets);
            }
        }
        Ok(())
    }

    /// O(log n) for each edge that the job has.
    fn delete_job(&mut self, name: &Name, number: usize) -> Result<(), Rejection> {
        self.existing_job(name, number)?;
        let (draft, mut datasets) = self.job_and_datasets(name);
        draft.exists = false;
        for side in [Side::Input, Side::Output] {
            draft.set_edges(side, &[], number, &mut datasets);
        }
        Ok(())
    }

    /// O(log n). If it was deleted before, the earlier operation keeps the blame.
    fn delete_dataset(&mut self, name: &Name, number: usize) -> Result<(), Rejection> {
        let dataset = self.dataset(name);
        if !dataset.exists() {
            return Err(Rejection::DatasetNotFound { name: name.clone(), operation: number });
        }
        dataset.metadata = None;
        dataset.deleted_by.get_or_insert(number);
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

    fn has_edge(&self, job: &Name, side: Side, dataset: &Name) -> bool {
        let Some(draft) = self.drafted.jobs.get(job) else {
            return self.base.has_edge(job, side, dataset);
        };
        let delta = draft.side(side);
        if delta.added.contains_key(dataset) {
            return true;
        }
        // Seldom more is needed: a job that is new has no edges, and a dataset that is drafted was
        // looked up before.
        let Some(base) = self.base_job(draft) else { return false };
        let in_base = match self.drafted.datasets.get(dataset) {
            Some(dataset) => dataset.slot,
            None => self.base.dataset_slot(dataset.as_str()),
        };
        in_base.is_some_and(|in_base| base.side(side).contains(in_base))
            && !delta.removed.contains(dataset)
    }

    /// Adds the edge. `false` if it exists already. O(log n).
    fn add_edge(&mut self, job: &Name, side: Side, dataset: &Name, number: usize) -> bool {
        if self.has_edge(job, side, dataset) {
            return false;
        }
        self.job(job).side_mut(side).add(dataset, number);
        *self.dataset(dataset).users(side) += 1;
        true
    }

    /// Removes the edge. `false` if it does not exist. O(log n).
    fn remove_edge(&mut self, job: &Name, side: Side, dataset: &Name) -> bool {
        if !self.has_edge(job, side, dataset) {
            return false;
        }
        self.job(job).side_mut(side).remove(dataset);
        *self.dataset(dataset).users(side) -= 1;
        true
    }

    fn base_job(&self, job: &DraftJob) -> Option<&'g JobNode> {
        job.base.map(|slot| self.base.jobs.get(slot))
    }

    fn base_dataset(&self, dataset: &DraftDataset) -> Option<&'g DatasetNode> {
        dataset.slot.map(|slot| self.base.datasets.get(slot))
    }

    fn job(&mut self, name: &Name) -> &mut DraftJob {
        self.job_and_datasets(name).0
    }

    fn dataset(&mut self, name: &Name) -> &mut DraftDataset {
        Datasets { base: self.base, drafted: &mut self.drafted.datasets }.into_dataset(name)
    }

    fn job_and_datasets(&mut self, name: &Name) -> (&mut DraftJob, Datasets<'_>) {
        let Drafted { jobs, datasets, .. } = &mut self.drafted;
        let datasets = Datasets { base: self.base, drafted: datasets };
        let job = match jobs.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let base = self.base.job(name.as_str());
                let spec = base.map_or_else(CanonicalJson::default, |job| job.spec().clone());
                entry.insert(DraftJob {
                    base: base.map(|job| job.id()),
                    exists: base.is_some(),
                    spec: PatchedJson::Canonical(spec),
                    inputs: EdgeDelta::default(),
                    outputs: EdgeDelta::default(),
                })
            }
        };
        (job, datasets)
    }
}

/// The drafted datasets, apart from the jobs.
struct Datasets<'d> {
    base: &'d Graph,
    drafted: &'d mut HashMap<Name, DraftDataset>,
}

impl<'d> Datasets<'d> {
    fn dataset(&mut self, name: &Name) -> &mut DraftDataset {
        Datasets { base: self.base, drafted: self.drafted }.into_dataset(name)
    }

    fn into_dataset(self, name: &Name) -> &'d mut DraftDataset {
        match self.drafted.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let base = self.base.dataset(name.as_str());
                let edges = base.map(|base| self.base.dataset_edges(base.id()));
                entry.insert(DraftDataset {
                    slot: base.map(|dataset| dataset.id()),
                    metadata: base.and_then(|dataset| dataset.metadata()).cloned(),
                    readers: edges.map_or(0, |edges| edges.consumers.len()),
                    writers: edges.map_or(0, |edges| usize::from(edges.producer.is_some())),
                    deleted_by: None,
                })
            }
        }
    }
}

impl DraftJob {
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

    /// Replaces the job's edges on that side by `names`, which are sorted. O(log n) for each of
    /// `names` and each edge that is removed; the first time for a side, also the cost of listing
    /// the edges that the graph has there.
    fn set_edges(
        &mut self,
        side: Side,
        names: &[Name],
        number: usize,
        datasets: &mut Datasets<'_>,
    ) {
        let base = self.base.map(|slot| datasets.base.jobs.get(slot).side(side));
        let delta = self.side_mut(side);
        delta.list(base, datasets.base);
        let (gone, new) = delta.compare(names);
        for name in &gone {
            delta.remove(name);
            *datasets.dataset(name).users(side) -= 1;
        }
        for &name in &new {
            *datasets.dataset(name).users(side) += 1;
        }
        delta.add_all(&new, number);
    }
}

impl EdgeDelta {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Fills `kept` from `base`, the edges in the graph, unless it is filled.
    fn list(&mut self, base: Option<&Neighbours>, graph: &Graph) {
        if self.kept.is_none() {
            let in_base = base.into_iter().flat_map(Neighbours::iter);
            let names = in_base.map(|slot| &graph.datasets.get(slot).name);
            let kept = names.filter(|name| !self.removed.contains(*name)).collect();
            self.kept = Some(in_byte_order(kept).cloned().collect());
        }
    }

    /// Compares the edges with `names`, which are sorted. Returns the edges that are not in
    /// `names`, and the `names` that are no edges yet.
    fn compare<'n>(&self, names: &'n [Name]) -> (Vec<Name>, Vec<&'n Name>) {
        let kept = || self.kept.iter().flatten();
        let gone = without(kept(), names.iter()).chain(without(self.added.keys(), names.iter()));
        let new = without(without(names.iter(), kept()), self.added.keys());
        (gone.cloned().collect(), new.collect())
    }

    /// Adds an edge that does not exist.
    fn add(&mut self, dataset: &Name, number: usize) {
        if !self.removed.remove(dataset) {
            self.added.insert(dataset.clone(), number);
            return;
        }
        self.restored.insert(dataset.clone(), number);
        if let Some(kept) = &mut self.kept {
            kept.insert(dataset.clone());
        }
    }

    /// Adds edges, sorted, that do not exist.
    fn add_all(&mut self, datasets: &[&Name], number: usize) {
        if self.removed.is_empty() && self.added.is_empty() {
            // Building the map at once is cheaper than inserting one by one.
            self.added = datasets.iter().map(|&dataset| (dataset.clone(), number)).collect();
        } else {
            datasets.iter().for_each(|dataset| self.add(dataset, number));
        }
    }

    /// Removes an edge that exists.
    fn remove(&mut self, dataset: &Name) {
        if self.added.remove(dataset).is_some() {
            return;
        }
        self.removed.insert(dataset.clone());
        self.restored.remove(dataset);
        if let Some(kept) = &mut self.kept {
            kept.remove(dataset);
        }
    }
}

impl DraftDataset {
    fn exists(&self) -> bool {
        self.metadata.is_some() || self.is_mentioned()
    }

    fn is_mentioned(&self) -> bool {
        self.readers + self.writers > 0
    }

    /// How many jobs have an edge to it on that side.
    fn users(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Input => &mut self.readers,
            Side::Output => &mut self.writers,
        }
    }
}

/// Those of `sorted` that are not among `others`, which are sorted too. O(n) for both together.
fn without<'n, 'o>(
    sorted: impl Iterator<Item = &'n Name>,
    others: impl Iterator<Item = &'o Name>,
) -> impl Iterator<Item = &'n Name> {
    let mut others = others.peekable();
    sorted.filter(move |&name| {
        while others.next_if(|&other| other < name).is_some() {}
        others.next_if(|&other| other == name).is_none()
    })
}

fn sorted_by_name<'d, T>(
    drafted: impl Iterator<Item = (&'d Name, &'d T)>,
) -> Vec<(&'d Name, &'d T)> {
    let drafted: Vec<_> = drafted.collect();
    let positions = positions_by_name(drafted.iter().map(|&(name, _)| name));
    positions.into_iter().map(|at| drafted[at as usize]).collect()
}
