//! Whether jobs depend on themselves, and by which way: plain searches in the graph as a changeset
//! would leave it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::model::{Job, State};
use super::request::Text;

/// A graph as it would be: a state, with some jobs as a changeset leaves them.
pub struct View<'v> {
    state: &'v State,
    jobs: &'v BTreeMap<Text, Option<Job>>,
    /// Of the jobs that the changeset names only.
    readers: BTreeMap<&'v Text, Vec<&'v Text>>,
    writers: BTreeMap<&'v Text, Vec<&'v Text>>,
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
        Self { state, jobs, readers, writers }
    }

    /// Who writes a dataset.
    pub fn producers(&'v self, dataset: &'v Text) -> Names<'v> {
        let before =
            self.state.datasets.get(dataset).into_iter().flat_map(|dataset| &dataset.producers);
        let now = self.writers.get(dataset).into_iter().flatten().copied();
        Box::new(before.filter(|job| !self.jobs.contains_key(*job)).chain(now))
    }

    /// Who reads a dataset.
    pub fn consumers(&'v self, dataset: &'v Text) -> Names<'v> {
        let before =
            self.state.datasets.get(dataset).into_iter().flat_map(|dataset| &dataset.consumers);
        let now = self.readers.get(dataset).into_iter().flatten().copied();
        Box::new(before.filter(|job| !self.jobs.contains_key(*job)).chain(now))
    }

    fn job(&'v self, name: &Text) -> &'v Job {
        let job = self.jobs.get(name).map_or_else(|| self.state.jobs.get(name), Option::as_ref);
        job.expect("whoever mentions a dataset is there")
    }

    fn next(&'v self, job: &Text, direction: Direction) -> Names<'v> {
        match direction {
            Direction::Down => {
                Box::new(self.job(job).outputs.iter().flat_map(|dataset| self.consumers(dataset)))
            }
            Direction::Up => {
                Box::new(self.job(job).inputs.iter().flat_map(|dataset| self.producers(dataset)))
            }
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

/// Depth first, with a stack of its own: a chain of a million jobs must not touch the thread's.
struct Search<'v> {
    view: &'v View<'v>,
    direction: Direction,
    waiting: Vec<&'v Text>,
    path: Vec<(&'v Text, Names<'v>)>,
    /// Whether all beyond the job was seen; if not, it is on the path.
    seen: HashMap<&'v Text, bool>,
}

impl<'v> Search<'v> {
    fn new(view: &'v View<'v>, from: &BTreeSet<&'v Text>, direction: Direction) -> Self {
        Self {
            view,
            direction,
            waiting: from.iter().copied().collect(),
            path: Vec::new(),
            seen: HashMap::new(),
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

/// The shortest cycle, of these the byte-smallest: from its byte-smallest job, jobs and datasets in
/// turn, the first name again at the end. Every cycle of the graph goes through one of `jobs`, and
/// there is one.
pub fn smallest_through(view: &View<'_>, jobs: &BTreeSet<&Text>) -> Vec<Text> {
    let mut best: Option<(usize, &Text)> = None;
    for &job in jobs {
        let (after, back) = distances(view, job, Direction::Down);
        let Some(length) = back.filter(|length| best.is_none_or(|(best, _)| *length <= best))
        else {
            continue;
        };
        let (before, _) = distances(view, job, Direction::Up);
        let on_cycle = |(name, distance): &(&&Text, &usize)| {
            before.get(*name).is_some_and(|rest| **distance + rest == length)
        };
        let smallest = after
            .iter()
            .filter(on_cycle)
            .map(|(name, _)| *name)
            .chain([job])
            .min()
            .expect("the job itself");
        let candidate = (length, smallest);
        best = Some(best.map_or(candidate, |best| best.min(candidate)));
    }
    let (length, start) = best.expect("there is a cycle");
    let (to_start, _) = distances(view, start, Direction::Up);
    let mut names = vec![start.clone()];
    let mut job = start;
    for left in (0..length).rev() {
        let in_time = |next: &&Text| {
            if left == 0 { *next == start } else { to_start.get(*next) == Some(&left) }
        };
        let outputs = view.job(job).outputs.iter();
        let steps = outputs.flat_map(|dataset| {
            view.consumers(dataset).filter(in_time).map(move |next| (dataset, next))
        });
        let (dataset, next) = steps.min().expect("the way back was found before");
        names.extend([dataset.clone(), next.clone()]);
        job = next;
    }
    names
}

/// How far all others are from `start`, and how long the shortest way back to it is.
fn distances<'v>(
    view: &'v View<'v>,
    start: &'v Text,
    direction: Direction,
) -> (HashMap<&'v Text, usize>, Option<usize>) {
    let mut distances = HashMap::new();
    let mut waiting = VecDeque::from([(start, 0)]);
    let mut back = None;
    while let Some((job, distance)) = waiting.pop_front() {
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
