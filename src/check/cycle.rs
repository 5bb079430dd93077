//! Whether jobs depend on themselves, and by which way: plain searches in the graph as a changeset
//! would leave it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::maps::Map;
use super::model::{Job, State};
use super::recorded_request::{Edge, Side, Text};

/// A graph as it would be: a state, with some jobs as a changeset leaves them.
pub struct View<'v> {
    state: &'v State,
    jobs: &'v BTreeMap<Text, Option<Job>>,
    /// Of the jobs that the changeset names only.
    readers: BTreeMap<&'v Text, Vec<&'v Text>>,
    writers: BTreeMap<&'v Text, Vec<&'v Text>>,
    /// The operations that edges belong to, and the last whose edges are there; `None`: all are.
    up_to: Option<(&'v BTreeMap<Edge, usize>, usize)>,
}

type Names<'v> = Box<dyn Iterator<Item = &'v Text> + 'v>;

impl<'v> View<'v> {
    /// `state` with `jobs` in place of its own, `None` for those that are gone.
    pub fn new(state: &'v State, jobs: &'v BTreeMap<Text, Option<Job>>) -> Self {
        let (mut readers, mut writers) =
            (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for (name, job) in jobs.iter().filter_map(|(name, job)| Some((name, job.as_ref()?))) {
            job.inputs.iter().for_each(|dataset| readers.entry(dataset).or_default().push(name));
            job.outputs.iter().for_each(|dataset| writers.entry(dataset).or_default().push(name));
        }
        Self { state, jobs, readers, writers, up_to: None }
    }

    /// Leaves out the edges that belong to operations after `last`.
    fn limit(&mut self, owners: &'v BTreeMap<Edge, usize>, last: usize) {
        self.up_to = Some((owners, last));
    }

    fn is_there(&self, job: &Text, side: Side, dataset: &Text) -> bool {
        let Some((owners, last)) = self.up_to else { return true };
        let edge = Edge { job: job.clone(), side, dataset: dataset.clone() };
        owners.get(&edge).is_none_or(|&operation| operation <= last)
    }

    /// Who writes a dataset.
    pub fn producers(&'v self, dataset: &'v Text) -> Names<'v> {
        let before =
            self.state.datasets.get(dataset).into_iter().flat_map(|dataset| &dataset.producers);
        let now = self.writers.get(dataset).into_iter().flatten().copied();
        let now = now.filter(move |job| self.is_there(job, Side::Output, dataset));
        Box::new(before.filter(|job| !self.jobs.contains_key(*job)).chain(now))
    }

    /// Who reads a dataset.
    pub fn consumers(&'v self, dataset: &'v Text) -> Names<'v> {
        let before =
            self.state.datasets.get(dataset).into_iter().flat_map(|dataset| &dataset.consumers);
        let now = self.readers.get(dataset).into_iter().flatten().copied();
        let now = now.filter(move |job| self.is_there(job, Side::Input, dataset));
        Box::new(before.filter(|job| !self.jobs.contains_key(*job)).chain(now))
    }

    /// What a job reads or writes.
    fn datasets(&'v self, job: &'v Text, side: Side) -> impl Iterator<Item = &'v Text> {
        let datasets = self.job(job).side(side).iter();
        datasets.filter(move |dataset| self.is_there(job, side, dataset))
    }

    fn job(&'v self, name: &Text) -> &'v Job {
        let job = self.jobs.get(name).map_or_else(|| self.state.jobs.get(name), Option::as_ref);
        job.expect("whoever mentions a dataset is there")
    }

    fn next(&'v self, job: &'v Text, direction: Direction) -> Names<'v> {
        match direction {
            Direction::Down => Box::new(
                self.datasets(job, Side::Output).flat_map(|dataset| self.consumers(dataset)),
            ),
            Direction::Up => Box::new(
                self.datasets(job, Side::Input).flat_map(|dataset| self.producers(dataset)),
            ),
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Down,
    Up,
}

/// Whether any of `jobs` depends on itself. Searches both ways in step and stops when either has
/// seen all: the cost is twice that of the smaller of what lies above and what lies below.
pub fn any_through(view: &View<'_>, jobs: &BTreeSet<&Text>) -> bool {
    let (mut down, mut up) =
        (Search::new(view, jobs, Direction::Down), Search::new(view, jobs, Direction::Up));
    loop {
        if let Some(found) = down.step().or_else(|| up.step()) {
            return found;
        }
    }
}

/// Whether any job of the whole graph depends on itself: jobs are left out one by one, each when
/// all is left out that writes what it reads, and those of a cycle never are. O(jobs + edges).
pub fn any(state: &State) -> bool {
    let mut waits_for: Map<&Text, usize> = Map::default();
    waits_for.reserve(state.jobs.len());
    let mut ready: Vec<&Text> = Vec::new();
    for (name, job) in &state.jobs {
        let read = job.inputs.iter().filter_map(|dataset| state.datasets.get(dataset));
        match read.map(|dataset| dataset.producers.len()).sum::<usize>() {
            0 => ready.push(name),
            producers => drop(waits_for.insert(name, producers)),
        }
    }
    while let Some(job) = ready.pop() {
        let written = state.jobs[job].outputs.iter();
        for consumer in written.flat_map(|dataset| &state.datasets[dataset].consumers) {
            if let Some(left) = waits_for.get_mut(consumer) {
                *left -= 1;
                if *left == 0 {
                    waits_for.remove(consumer);
                    ready.push(consumer);
                }
            }
        }
    }
    !waits_for.is_empty()
}

/// Depth first, with a stack of its own: a chain of a million jobs must not touch the thread's.
struct Search<'v> {
    view: &'v View<'v>,
    direction: Direction,
    waiting: Vec<&'v Text>,
    path: Vec<(&'v Text, Names<'v>)>,
    /// Whether all beyond the job was seen; if not, it is on the path.
    seen: Map<&'v Text, bool>,
}

impl<'v> Search<'v> {
    fn new(view: &'v View<'v>, from: &BTreeSet<&'v Text>, direction: Direction) -> Self {
        Self {
            view,
            direction,
            waiting: from.iter().copied().collect(),
            path: Vec::new(),
            seen: Map::default(),
        }
    }

    /// `Some` at the end: whether there is a cycle.
    fn step(&mut self) -> Option<bool> {
        let Some((job, rest)) = self.path.last_mut() else {
            let Some(start) = self.waiting.pop() else { return Some(false) };
            self.enter(start);
            return None;
        };
        match rest.next() {
            None => {
                self.seen.insert(job, true);
                self.path.pop();
            }
            Some(next) if self.seen.get(next) == Some(&false) => return Some(true),
            Some(next) => self.enter(next),
        }
        None
    }

    fn enter(&mut self, job: &'v Text) {
        if !self.seen.contains_key(job) {
            self.seen.insert(job, false);
            self.path.push((job, self.view.next(job, self.direction)));
        }
    }
}

/// The cycle that has to be shown, if there is one, and the operation that it is told of. `owners`
/// holds the edges that belong to operations: all others are old, and form no cycle.
///
/// The operation is the first that closes a cycle. It is found by bisection, with a search of the
/// graph for each step; all its edges are of one job. A changeset of one operation costs only the
/// search and what lies around that job.
pub fn first<'v>(
    mut view: View<'v>,
    owners: &'v BTreeMap<Edge, usize>,
) -> Option<(Vec<Text>, usize)> {
    let linked: BTreeSet<&Text> = owners.keys().map(|edge| &edge.job).collect();
    if !any_through(&view, &linked) {
        return None;
    }
    let operations: BTreeSet<usize> = owners.values().copied().collect();
    let operations: Vec<usize> = operations.into_iter().collect();
    let (last, others) = operations.split_last()?;
    let first = others.partition_point(|&operation| {
        view.limit(owners, operation);
        !any_through(&view, &linked)
    });
    let operation = *others.get(first).unwrap_or(last);
    if !others.is_empty() {
        view.limit(owners, operation);
    }
    let (edge, _) = owners.iter().find(|(_, owner)| **owner == operation)?;
    Some((smallest_through(&view, &edge.job), operation))
}

/// The shortest cycle, of these the byte-smallest: from its byte-smallest job, jobs and datasets in
/// turn, the first name again at the end. Every cycle of the graph goes through `job`, and there is
/// one.
fn smallest_through(view: &View<'_>, job: &Text) -> Vec<Text> {
    let (after, back) = distances(view, job, Direction::Down, usize::MAX);
    let length = back.expect("there is a cycle");
    let (before, _) = distances(view, job, Direction::Up, length);
    let on_cycle = |(name, distance): &(&&Text, &usize)| {
        before.get(*name).is_some_and(|rest| **distance + rest == length)
    };
    let others = after.iter().filter(on_cycle).map(|(name, _)| *name);
    let start = others.chain([job]).min().expect("the job itself");
    let (to_start, _) = distances(view, start, Direction::Up, length);
    let mut names = vec![start.clone()];
    let mut job = start;
    for left in (0..length).rev() {
        let in_time = |next: &&Text| {
            if left == 0 { *next == start } else { to_start.get(*next) == Some(&left) }
        };
        let steps = view.datasets(job, Side::Output).flat_map(|dataset| {
            view.consumers(dataset).filter(in_time).map(move |next| (dataset, next))
        });
        let (dataset, next) = steps.min().expect("the way back was found before");
        names.extend([dataset.clone(), next.clone()]);
        job = next;
    }
    names
}

/// The distances of other jobs from `start`, and the length of the shortest way back to it. Only
/// jobs that are nearer than `limit`, and nearer than that length, are looked at.
fn distances<'v>(
    view: &'v View<'v>,
    start: &'v Text,
    direction: Direction,
    limit: usize,
) -> (Map<&'v Text, usize>, Option<usize>) {
    let mut distances = Map::default();
    let mut waiting = VecDeque::from([(start, 0)]);
    let mut back = None;
    while let Some((job, distance)) = waiting.pop_front() {
        if distance == back.unwrap_or(limit) {
            break;
        }
        for next in view.next(job, direction) {
            if next == start {
                back = back.or(Some(distance + 1));
            } else if !distances.contains_key(next) {
                distances.insert(next, distance + 1);
                waiting.push_back((next, distance + 1));
            }
        }
    }
    (distances, back)
}
