//! A topological order of the jobs, kept up to date while edges come and go.
//!
//! Every job has a label, a 64-bit number. Labels rise along every edge. They are sparse, so that a
//! job can be put between two others without touching the rest. Where they become dense, a window
//! of labels is spread out again (M. Bender et al., "Two Simplified Algorithms for Maintaining
//! Order in a List", 2002: amortised O(log n) a move). The order is persistent like the graph: a
//! clone costs O(1), and a change copies O(log n).

use std::iter;

use imbl::Vector;

use super::slots::Slot;

#[derive(Clone)]
pub(super) struct Order {
    /// By slot.
    places: Vector<Place>,
    /// [`NONE`] if there are no jobs, as is `last`.
    first: Slot,
    last: Slot,
}

/// Where a job is in the order.
#[derive(Clone, Copy)]
struct Place {
    label: u64,
    /// The job before it, or [`NONE`].
    before: Slot,
    /// The job after it, or [`NONE`].
    after: Slot,
}

/// No job: there are fewer than 2^32.
const NONE: Slot = Slot::MAX;
/// The place of a slot that no job has.
const FREE: Place = Place { label: LOWEST, before: NONE, after: NONE };

/// All labels are above `LOWEST` and below `HIGHEST`.
const LOWEST: u64 = 0;
const HIGHEST: u64 = u64::MAX;
/// The distance between two labels where there is room: 2^31 jobs can be appended on either side of
/// the first.
const STRIDE: u64 = 1 << 32;
/// How much less dense a window must be when it is twice as wide.
const SPARSER_PER_BIT: f64 = 1.4;

impl Default for Order {
    fn default() -> Self {
        Self { places: Vector::new(), first: NONE, last: NONE }
    }
}

impl Order {
    /// The jobs in the order in which they are given. All slots are below `slots`.
    pub(super) fn of(jobs: &[Slot], slots: usize) -> Self {
        let mut places = vec![FREE; slots];
        let first = HIGHEST / 2 - (jobs.len() as u64 / 2) * STRIDE;
        let mut before = NONE;
        for (i, &job) in jobs.iter().enumerate() {
            let after = jobs.get(i + 1).copied().unwrap_or(NONE);
            places[job as usize] = Place { label: first + i as u64 * STRIDE, before, after };
            before = job;
        }
        let first = jobs.first().copied().unwrap_or(NONE);
        Self { places: places.into_iter().collect(), first, last: before }
    }

    /// The first job of all.
    pub(super) fn first(&self) -> Option<Slot> {
        Some(self.first).filter(|&job| job != NONE)
    }

    /// The job that follows `job`, which is in the order.
    pub(super) fn after(&self, job: Slot) -> Option<Slot> {
        Some(self.places[job as usize].after).filter(|&after| after != NONE)
    }

    /// The label of a job that is in the order.
    #[inline]
    pub(super) fn label(&self, job: Slot) -> u64 {
        self.places[job as usize].label
    }

    /// Puts a new job after all others.
    pub(super) fn push_back(&mut self, job: Slot) {
        let last = if self.last == NONE { HIGHEST / 2 } else { self.label(self.last) };
        match last.checked_add(STRIDE) {
            Some(label) if label < HIGHEST => self.chain(self.last, &[(job, label)], NONE),
            _ => self.spread_all(&[], &[job]),
        }
    }

    /// Puts a new job before all others.
    pub(super) fn push_front(&mut self, job: Slot) {
        let first = if self.first == NONE { HIGHEST / 2 } else { self.label(self.first) };
        match first.checked_sub(STRIDE) {
            Some(label) if label > LOWEST => self.chain(NONE, &[(job, label)], self.first),
            _ => self.spread_all(&[job], &[]),
        }
    }

    /// Sorts `jobs` by their places in the order.
    pub(super) fn sort(&self, jobs: &mut [Slot]) {
        jobs.sort_unstable_by_key(|&job| self.label(job));
    }

    /// Moves the jobs of `group`, in the order given, to right after `pivot`.
    pub(super) fn move_after(&mut self, pivot: Slot, group: &[Slot]) {
        self.lift(group);
        let Place { label: low, after, .. } = self.places[pivot as usize];
        let high = if after == NONE { HIGHEST } else { self.label(after) };
        match step(low, high, group.len()) {
            0 => self.make_room(pivot, &[], group),
            // Near the pivot if the gap is wide, so that most of the gap stays in one piece.
            step => self.chain(pivot, &evenly(group, low, step), after),
        }
    }

    /// Moves the jobs of `group`, in the order given, to right before `pivot`.
    pub(super) fn move_before(&mut self, pivot: Slot, group: &[Slot]) {
        self.lift(group);
        let Place { label: high, before, .. } = self.places[pivot as usize];
        let low = if before == NONE { LOWEST } else { self.label(before) };
        match step(low, high, group.len()) {
            0 => self.make_room(pivot, group, &[]),
            step => {
                let low = high - step * (group.len() as u64 + 1);
                self.chain(before, &evenly(group, low, step), pivot);
            }
        }
    }

    pub(super) fn remove(&mut self, job: Slot) {
        let Place { before, after, .. } = self.places[job as usize];
        self.places.set(job as usize, FREE);
        self.set_after(before, after);
        self.set_before(after, before);
    }

    fn lift(&mut self, group: &[Slot]) {
        for &job in group {
            self.remove(job);
        }
    }

    /// The jobs from `job` on, in their order.
    fn from(&self, job: Slot) -> impl Iterator<Item = Slot> + '_ {
        let job = Some(job).filter(|&job| job != NONE);
        iter::successors(job, |&job| self.after(job))
    }

    /// The jobs before `job`, the nearest first.
    fn before(&self, job: Slot) -> impl Iterator<Item = Slot> + '_ {
        let nearest =
            |job: Slot| Some(self.places[job as usize].before).filter(|&before| before != NONE);
        iter::successors(nearest(job), move |&job| nearest(job))
    }

    /// Finds the smallest window around the pivot that stays sparse enough with the group in it,
    /// and spreads its labels. The group is put `before` and `after` the pivot; one of the two is
    /// empty.
    fn make_room(&mut self, pivot: Slot, before: &[Slot], after: &[Slot]) {
        let group = before.len() + after.len();
        let at = self.label(pivot);
        for bits in 1..64_u32 {
            let width = 1_u64 << bits;
            let low = at & !(width - 1);
            let high = low.saturating_add(width);
            let capacity = width as f64 / SPARSER_PER_BIT.powi(bits as i32);
            let most = capacity as usize + 1;
            let lower = self.before(pivot).take_while(|&job| self.label(job) >= low);
            let higher = self.from(pivot).take_while(|&job| self.label(job) < high);
            let members = lower.chain(higher).take(most).count();
            if ((members + group) as f64) <= capacity {
                return self.spread(low.saturating_sub(1), high, pivot, before, after);
            }
        }
        self.spread(LOWEST, HIGHEST, pivot, before, after);
    }

    /// Gives all jobs strictly between the labels `low` and `high` evenly spaced labels, with the
    /// group beside the pivot.
    fn spread(&mut self, low: u64, high: u64, pivot: Slot, before: &[Slot], after: &[Slot]) {
        let mut all: Vec<Slot> =
            self.before(pivot).take_while(|&job| self.label(job) > low).collect();
        all.reverse();
        all.extend_from_slice(before);
        all.push(pivot);
        all.extend_from_slice(after);
        all.extend(self.from(pivot).skip(1).take_while(|&job| self.label(job) < high));
        self.relabel(low, high, &all);
    }

    /// Gives all jobs evenly spaced labels, with new ones before and after them.
    fn spread_all(&mut self, before: &[Slot], after: &[Slot]) {
        let all: Vec<Slot> = before
            .iter()
            .copied()
            .chain(self.from(self.first))
            .chain(after.iter().copied())
            .collect();
        self.relabel(LOWEST, HIGHEST, &all);
    }

    /// Puts `jobs`, which are all those between the labels `low` and `high` and new ones, evenly
    /// between these labels.
    fn relabel(&mut self, low: u64, high: u64, jobs: &[Slot]) {
        let in_order = |job: &&Slot| {
            self.places.get(**job as usize).is_some_and(|place| place.label != LOWEST)
        };
        let (Some(&first), Some(&last)) = (jobs.iter().find(in_order), jobs.iter().rfind(in_order))
        else {
            unreachable!("labels run out only where jobs have them");
        };
        let (before, after) =
            (self.places[first as usize].before, self.places[last as usize].after);
        let gaps = jobs.len() as u128 + 1;
        let label = |i: usize| low + (u128::from(high - low) * (i as u128 + 1) / gaps) as u64;
        let labelled: Vec<(Slot, u64)> =
            jobs.iter().enumerate().map(|(i, &job)| (job, label(i))).collect();
        self.chain(before, &labelled, after);
    }

    /// Puts `jobs`, each with its label, between two neighbours. `before` or `after` is [`NONE`] at
    /// an end of the order.
    fn chain(&mut self, before: Slot, jobs: &[(Slot, u64)], after: Slot) {
        let mut former = before;
        for (i, &(job, label)) in jobs.iter().enumerate() {
            let next = jobs.get(i + 1).map_or(after, |&(next, _)| next);
            while self.places.len() <= job as usize {
                self.places.push_back(FREE);
            }
            self.places.set(job as usize, Place { label, before: former, after: next });
            former = job;
        }
        let (Some(&(first, low)), Some(&(last, high))) = (jobs.first(), jobs.last()) else {
            return;
        };
        debug_assert!(before == NONE || self.label(before) < low, "labels rise");
        debug_assert!(jobs.is_sorted_by(|(_, a), (_, b)| a < b), "labels rise");
        debug_assert!(after == NONE || high < self.label(after), "labels rise");
        self.set_after(before, first);
        self.set_before(after, last);
    }

    /// Says that `after` follows `job`, or is the first job if that is [`NONE`].
    fn set_after(&mut self, job: Slot, after: Slot) {
        match job {
            NONE => self.first = after,
            job => self.places[job as usize].after = after,
        }
    }

    /// Says that `before` precedes `job`, or is the last job if that is [`NONE`].
    fn set_before(&mut self, job: Slot, before: Slot) {
        match job {
            NONE => self.last = before,
            job => self.places[job as usize].before = before,
        }
    }
}

/// The distance between labels of `jobs` more jobs between two labels; 0 if there is no room.
fn step(low: u64, high: u64, jobs: usize) -> u64 {
    ((high - low) / (jobs as u64 + 1)).min(STRIDE)
}

/// The jobs with labels from `low + step` on.
fn evenly(jobs: &[Slot], low: u64, step: u64) -> Vec<(Slot, u64)> {
    jobs.iter().enumerate().map(|(i, &job)| (job, low + step * (i as u64 + 1))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_order(order: &Order) -> Vec<Slot> {
        if order.first == NONE {
            assert_eq!(order.last, NONE);
            return Vec::new();
        }
        let jobs: Vec<Slot> = order.from(order.first).collect();
        assert!(jobs.is_sorted_by(|&a, &b| order.label(a) < order.label(b)));
        let mut backwards: Vec<Slot> = order.before(order.last).collect();
        backwards.reverse();
        backwards.extend(jobs.last());
        assert_eq!(backwards, jobs);
        jobs
    }

    #[test]
    fn ends_are_extended() {
        let mut order = Order::default();
        order.push_back(0);
        order.push_back(1);
        order.push_front(2);
        assert_eq!(in_order(&order), [2, 0, 1]);
    }

    #[test]
    fn a_group_is_put_as_it_is_sorted() {
        let mut order = Order::of(&[0, 1, 2, 3, 4, 5], 6);
        order.move_after(4, &[3, 1]);
        assert_eq!(in_order(&order), [0, 2, 4, 3, 1, 5]);
        let mut group = [5, 4];
        order.sort(&mut group);
        assert_eq!(group, [4, 5]);
        order.move_before(0, &group);
        assert_eq!(in_order(&order), [4, 5, 0, 2, 3, 1]);
        order.remove(0);
        assert_eq!(in_order(&order), [4, 5, 2, 3, 1]);
        order.remove(4);
        order.remove(1);
        assert_eq!(in_order(&order), [5, 2, 3]);
    }

    #[test]
    fn the_same_gap_can_be_filled_without_end() {
        let mut order = Order::of(&[0, 1], 2);
        let mut expected = vec![0, 1];
        for job in 2..5000 {
            order.push_back(job);
            if job % 2 == 0 {
                order.move_after(0, &[job]);
                expected.insert(1, job);
            } else {
                order.move_before(1, &[job]);
                let at = expected.iter().position(|&other| other == 1).unwrap();
                expected.insert(at, job);
            }
        }
        assert_eq!(in_order(&order), expected);
    }

    proptest! {
        /// The list moves everything as the order is told to. Few pivots, so that labels run out.
        #[test]
        fn the_order_is_that_of_a_list(
            start in 0..4_u32,
            steps in prop::collection::vec((0..4_u8, 0..6_usize, 1..4_usize), 0..400),
        ) {
            let jobs: Vec<Slot> = (0..start).collect();
            let (mut order, mut list) = (Order::of(&jobs, jobs.len()), jobs);
            let mut next = start;
            for (step, at, length) in steps {
                let before = (order.clone(), list.clone());
                match step {
                    0 => {
                        order.push_back(next);
                        list.push(next);
                        next += 1;
                    }
                    1 => {
                        order.push_front(next);
                        list.insert(0, next);
                        next += 1;
                    }
                    2 if list.len() > 40 => order.remove(list.remove(at)),
                    _ if list.len() > at => {
                        let pivot = list[at];
                        let group: Vec<Slot> = list
                            .iter()
                            .rev()
                            .copied()
                            .filter(|&job| job != pivot)
                            .take(length)
                            .collect();
                        list.retain(|job| !group.contains(job));
                        let pivot_at = list.iter().position(|&job| job == pivot).unwrap();
                        if step == 2 {
                            order.move_after(pivot, &group);
                            list.splice(pivot_at + 1..pivot_at + 1, group);
                        } else {
                            order.move_before(pivot, &group);
                            list.splice(pivot_at..pivot_at, group);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(&in_order(&order), &list);
                prop_assert_eq!(in_order(&before.0), before.1, "a clone stays as it was");
            }
        }

        #[test]
        fn an_order_without_room_at_its_ends_is_spread(front in any::<bool>(), jobs in 1..20_u32) {
            let mut order = Order::default();
            order.chain(NONE, &[(0, LOWEST + 1), (1, HIGHEST - 1)], NONE);
            let mut list = vec![0, 1];
            for job in 2..2 + jobs {
                if front {
                    order.push_front(job);
                    list.insert(0, job);
                } else {
                    order.push_back(job);
                    list.push(job);
                }
                prop_assert_eq!(&in_order(&order), &list);
            }
        }
    }
}
