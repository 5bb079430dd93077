//! Through which nodes the writes of a graph come: a node through which most of them come for a
//! while is to lead it.

use std::collections::HashMap;
use std::time::Instant;

use super::limits::SingleWriterLimits;

/// Which part of all writes is most, in thirds.
const MOST_THIRDS: u64 = 2;

/// The writes of one graph since the count began, and which node was first in the counts before.
pub(super) struct Load {
    began: Instant,
    all: u64,
    /// Without the leader's own.
    by_node: HashMap<String, u64>,
    /// The node through which most writes came in each of the last so many counts.
    first: Option<(String, u32)>,
}

impl Default for Load {
    fn default() -> Self {
        Self { began: Instant::now(), all: 0, by_node: HashMap::new(), first: None }
    }
}

impl Load {
    /// Counts writes; `None` of those that came to the leader itself.
    pub(super) fn note<'s>(&mut self, sources: impl Iterator<Item = Option<&'s str>>) {
        for source in sources {
            self.all += 1;
            let Some(node) = source else { continue };
            match self.by_node.get_mut(node) {
                Some(count) => *count += 1,
                None => drop(self.by_node.insert(node.to_owned(), 1)),
            }
        }
    }

    /// If a count is over: the node that is to lead by it and by those before. Otherwise, and if
    /// there is none, `None`.
    pub(super) fn judge(&mut self, now: Instant, limits: &SingleWriterLimits) -> Option<String> {
        if now.saturating_duration_since(self.began) < limits.counted_for {
            return None;
        }
        let Self { all, by_node, first, .. } = std::mem::take(self);
        self.began = now;
        let (node, writes) = by_node.into_iter().max_by_key(|(_, writes)| *writes)?;
        if writes < limits.most_writes.max(1) || writes * 3 < all * MOST_THIRDS {
            return None;
        }
        let before = first.filter(|(first, _)| *first == node).map_or(0, |(_, times)| times);
        self.first = Some((node.clone(), before + 1));
        (before + 1 >= limits.most_times).then_some(node)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: SingleWriterLimits = SingleWriterLimits {
        graphs: 1,
        idle: Duration::ZERO,
        wait: Duration::ZERO,
        lease: Duration::ZERO,
        promised_for: Duration::ZERO,
        look_every: Duration::ZERO,
        counted_for: Duration::from_secs(5),
        most_writes: 10,
        most_times: 2,
        led_for: Duration::ZERO,
        retries: 0,
    };

    /// What is judged after each count, of writes through the leader, `a` and `b`.
    fn judged(counts: &[(usize, usize, usize)]) -> Vec<Option<String>> {
        let (mut load, mut now) = (Load::default(), Instant::now());
        let judge = |(own, a, b): &(usize, usize, usize)| {
            let sources = [(None, own), (Some("a"), a), (Some("b"), b)];
            load.note(sources.into_iter().flat_map(|(node, times)| vec![node; *times].into_iter()));
            now += LIMITS.counted_for;
            load.judge(now, &LIMITS)
        };
        counts.iter().map(judge).collect()
    }

    #[test]
    fn the_node_through_which_most_writes_come_for_a_while_is_to_lead() {
        let a = Some("a".to_owned());
        assert_eq!(judged(&[(3, 20, 3), (0, 30, 0)]), [None, a.clone()]);
        // Not most, too few, another one between, a count without any between.
        assert_eq!(judged(&[(11, 20, 0); 3]), [None, None, None]);
        assert_eq!(judged(&[(0, 9, 0); 3]), [None, None, None]);
        assert_eq!(judged(&[(0, 20, 0), (0, 0, 20), (0, 20, 0)]), [None, None, None]);
        assert_eq!(judged(&[(0, 20, 0), (0, 0, 0), (0, 20, 0), (0, 20, 0)]), [None, None, None, a]);
    }

    #[test]
    fn nothing_is_judged_before_the_count_is_over() {
        let mut load = Load::default();
        load.note([Some("a"); 100].into_iter());
        assert_eq!(load.judge(Instant::now(), &LIMITS), None);
        assert_eq!(load.all, 100, "the count goes on");
    }
}
