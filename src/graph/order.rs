//! A topological order of the jobs, kept up to date while edges come and go.
//!
//! Every job has a label, a 64-bit number. Labels rise along every edge. They are sparse, so that a
//! job can be put between two others without touching the rest. Where they become dense, a window
//! of labels is spread out again (M. Bender et al., "Two Simplified Algorithms for Maintaining
//! Order in a List", 2002: amortised O(log n) a move). The order is persistent like the graph: a
//! clone costs O(1), and a change copies O(log n).

use imbl::{OrdMap, Vector};

use super::full_map::full_map;
use super::slots::Slot;

#[derive(Clone, Default)]
pub(super) struct Order {
    /// By slot; 0 where there is no job.
    labels: Vector<u64>,
    by_label: OrdMap<u64, Slot>,
}

/// All labels are above `LOWEST` and below `HIGHEST`.
const LOWEST: u64 = 0;
const HIGHEST: u64 = u64::MAX;
/// The distance between two labels where there is room: 2^31 jobs can be appended on either side of
/// the first.
const STRIDE: u64 = 1 << 32;
/// How much less dense a window must be when it is twice as wide.
const SPARSER_PER_BIT: f64 = 1.4;

impl Order {
    /// The jobs in the order in which they are given. All slots are below `slots`.
    pub(super) fn of(jobs: &[Slot], slots: usize) -> Self {
        let mut labels = vec![0; slots];
        let first = HIGHEST / 2 - (jobs.len() as u64 / 2) * STRIDE;
        for (i, &job) in jobs.iter().enumerate() {
            labels[job as usize] = first + i as u64 * STRIDE;
        }
        let by_label = full_map(jobs.iter().map(|&job| (labels[job as usize], job)));
        Self { labels: labels.into_iter().collect(), by_label }
    }

    /// The label of a job that is in the order.
    #[inline]
    pub(super) fn label(&self, job: Slot) -> u64 {
        self.labels[job as usize]
    }

    /// Puts a new job after all others.
    pub(super) fn push_back(&mut self, job: Slot) {
        let last = self.by_label.get_max().map_or(HIGHEST / 2, |(label, _)| *label);
        match last.checked_add(STRIDE) {
            Some(label) if label < HIGHEST => self.set(job, label),
            _ => self.spread(LOWEST, HIGHEST, None, &[], &[job]),
        }
    }

    /// Puts a new job before all others.
    pub(super) fn push_front(&mut self, job: Slot) {
        let first = self.by_label.get_min().map_or(HIGHEST / 2, |(label, _)| *label);
        match first.checked_sub(STRIDE) {
            Some(label) if label > LOWEST => self.set(job, label),
            _ => self.spread(LOWEST, HIGHEST, None, &[job], &[]),
        }
    }

    /// The job with that label.
    pub(super) fn job_at(&self, label: u64) -> Option<Slot> {
        self.by_label.get(&label).copied()
    }

    /// Sorts `jobs` by their places in the order.
    pub(super) fn sort(&self, jobs: &mut [Slot]) {
        jobs.sort_unstable_by_key(|&job| self.label(job));
    }

    /// Moves the jobs of `group`, in the order given, to right after `pivot`.
    pub(super) fn move_after(&mut self, pivot: Slot, group: &[Slot]) {
        self.lift(group);
        let low = self.label(pivot);
        let high = self
            .by_label
            .range((std::ops::Bound::Excluded(low), std::ops::Bound::Unbounded))
            .next();
        let high = high.map_or(HIGHEST, |(label, _)| *label);
        self.place(low, high, pivot, &[], group);
    }

    /// Moves the jobs of `group`, in the order given, to right before `pivot`.
    pub(super) fn move_before(&mut self, pivot: Slot, group: &[Slot]) {
        self.lift(group);
        let high = self.label(pivot);
        let low = self.by_label.range(..high).next_back().map_or(LOWEST, |(label, _)| *label);
        self.place(low, high, pivot, group, &[]);
    }

    pub(super) fn remove(&mut self, job: Slot) {
        self.by_label.remove(&self.label(job));
        self.labels.set(job as usize, 0);
    }

    fn lift(&mut self, group: &[Slot]) {
        for &job in group {
            self.remove(job);
        }
    }

    /// Puts `before` before `pivot` and `after` after it, between the labels `low` and `high`. One
    /// of the two is empty.
    fn place(&mut self, low: u64, high: u64, pivot: Slot, before: &[Slot], after: &[Slot]) {
        let group = if before.is_empty() { after } else { before };
        let step = ((high - low) / (group.len() as u64 + 1)).min(STRIDE);
        if step == 0 {
            return self.make_room(pivot, before, after);
        }
        // Near the pivot if the gap is wide, so that most of the gap stays in one piece.
        let start = if before.is_empty() { low } else { high - step * (group.len() as u64 + 1) };
        for (i, &job) in group.iter().enumerate() {
            self.set(job, start + step * (i as u64 + 1));
        }
    }

    /// Finds the smallest window around the pivot that stays sparse enough with the group in it,
    /// and spreads its labels.
    fn make_room(&mut self, pivot: Slot, before: &[Slot], after: &[Slot]) {
        let group = before.len() + after.len();
        let at = self.label(pivot);
        for bits in 1..64_u32 {
            let width = 1_u64 << bits;
            let low = at & !(width - 1);
            let high = low.saturating_add(width);
            let capacity = width as f64 / SPARSER_PER_BIT.powi(bits as i32);
            let members = self.by_label.range(low..high).take(capacity as usize + 1).count();
            if ((members + group) as f64) <= capacity {
                return self.spread(low.saturating_sub(1), high, Some(pivot), before, after);
            }
        }
        self.spread(LOWEST, HIGHEST, Some(pivot), before, after);
    }

    /// Gives all jobs strictly between the labels `low` and `high` evenly spaced labels, with the
    /// group beside the pivot or, without a pivot, at the ends.
    fn spread(
        &mut self,
        low: u64,
        high: u64,
        pivot: Option<Slot>,
        before: &[Slot],
        after: &[Slot],
    ) {
        use std::ops::Bound::Excluded;
        let members: Vec<Slot> =
            self.by_label.range((Excluded(low), Excluded(high))).map(|(_, job)| *job).collect();
        let mut all = Vec::with_capacity(members.len() + before.len() + after.len());
        match pivot {
            None => {
                all.extend_from_slice(before);
                all.extend_from_slice(&members);
                all.extend_from_slice(after);
            }
            Some(pivot) => {
                for &job in &members {
                    if job == pivot {
                        all.extend_from_slice(before);
                        all.push(job);
                        all.extend_from_slice(after);
                    } else {
                        all.push(job);
                    }
                }
            }
        }
        for job in members {
            self.remove(job);
        }
        let gaps = all.len() as u128 + 1;
        for (i, job) in all.into_iter().enumerate() {
            let offset = u128::from(high - low) * (i as u128 + 1) / gaps;
            self.set(job, low + offset as u64);
        }
    }

    fn set(&mut self, job: Slot, label: u64) {
        while self.labels.len() <= job as usize {
            self.labels.push_back(0);
        }
        self.labels.set(job as usize, label);
        let former = self.by_label.insert(label, job);
        debug_assert!(former.is_none(), "labels are unique");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_order(order: &Order) -> Vec<Slot> {
        for (label, job) in order.by_label.iter() {
            assert_eq!(order.label(*job), *label);
        }
        order.by_label.values().copied().collect()
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
        assert_eq!(order.job_at(order.label(2)), Some(2));
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
}
