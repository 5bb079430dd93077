//! Medians, intervals, and when one design may be said to be quicker than another.

use crate::bench::random::Random;

/// How many times the figures are drawn again.
const RESAMPLES: usize = 2_000;
/// Confidence level of intervals.
const CONFIDENCE: f64 = 0.95;
/// From so many blocks on, pairs may be told apart: with fewer, equal designs would too often be
/// on one side of each other in all of them (2 · 0.5⁵ is above 1 in 20, 2 · 0.5⁶ is not).
pub const FEWEST_BLOCKS: usize = 6;

/// A figure that was measured several times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Where the median's bootstrap interval of 95 % begins; the median where there is one figure.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// The standard deviation over the mean; `None` where there is one figure.
    pub variation: Option<f64>,
    /// How many figures there are.
    pub count: usize,
}

/// What a pair of designs shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The ratios of the blocks; the interval holds both the bootstrap's and the exact one.
    pub ratio: Estimate,
    /// What may be said.
    pub order: Order,
}

/// Which of two is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first, in every block, and by the interval.
    First,
    /// The second.
    Second,
    /// Neither may be said.
    Tie,
    /// There are fewer than [`FEWEST_BLOCKS`] blocks.
    TooFew,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::First, Self::Second, Self::Tie, Self::TooFew];

    /// The word for it: what the first has, beside the second.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "more",
            Self::Second => "less",
            Self::Tie => "tie",
            Self::TooFew => "too_few_blocks",
        }
    }
}

/// The median; of an even number the mean of the two in the middle. `None` of nothing.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

impl Estimate {
    /// Of these figures; `None` of nothing. The interval is that of the percentile bootstrap (Efron
    /// and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13), from a seed of its
    /// own: the same figures have the same interval.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Self> {
        let median = median(figures)?;
        let count = figures.len();
        let mut random = Random::of(&[count as u64]);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let drawn = |_| figures[random.below(count as u64) as usize];
                self::median(&(0..count).map(drawn).collect::<Vec<_>>())
            })
            .collect();
        medians.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| medians[((RESAMPLES - 1) as f64 * part).round() as usize];
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let mean = figures.iter().sum::<f64>() / count as f64;
        let variation = (count > 1 && mean != 0.0).then(|| {
            let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
            (squares / (count - 1) as f64).sqrt() / mean.abs()
        });
        Some(Self { median, low: at(tail), high: at(1.0 - tail), variation, count })
    }
}

impl Estimate {
    /// Of figures of blocks, with an interval that holds both the bootstrap's and the exact one.
    /// `None` of fewer than [`FEWEST_BLOCKS`].
    #[must_use]
    pub fn of_blocks(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = exact_interval(&sorted)?;
        let of_all = Self::of(&sorted)?;
        Some(Self { low: of_all.low.min(low), high: of_all.high.max(high), ..of_all })
    }
}

impl Comparison {
    /// Of pairs of figures, each of one block; `None` of nothing. Two are told apart when the
    /// bootstrap interval of the median ratio leaves out 1 *and* the exact one does, which reaches
    /// from the k-th smallest ratio to the k-th largest, where by the binomial distribution at most
    /// 1 in 20 such intervals misses the median. The bootstrap alone is too narrow with few blocks.
    #[must_use]
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let ratios: Vec<f64> = pairs
            .iter()
            .filter(|(first, second)| *first > 0.0 && *second > 0.0)
            .map(|(first, second)| first / second)
            .collect();
        let Some(ratio) = Estimate::of_blocks(&ratios) else {
            return Some(Self { ratio: Estimate::of(&ratios)?, order: Order::TooFew });
        };
        let order = match ratio {
            Estimate { low, .. } if low > 1.0 => Order::First,
            Estimate { high, .. } if high < 1.0 => Order::Second,
            _ => Order::Tie,
        };
        Some(Self { ratio, order })
    }
}

/// What a figure of a later run is in times of that of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The estimate of Hodges and Lehmann: the median of all ratios of a later figure and an
    /// earlier one.
    pub ratio: f64,
    /// Where its interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

/// How often, of equal runs, the interval of a [`Shift`] may lie beside 1 on one side.
const SHIFTED_BY_CHANCE: f64 = 0.0025;

impl Shift {
    /// Of figures that were measured in blocks of two runs: nothing pairs them. The interval is the
    /// one that belongs to the test of Mann and Whitney, so nothing is assumed of how the figures
    /// are spread (Lehmann, "Nonparametrics", 1975, chapter 2). `None` of too few.
    #[must_use]
    pub fn of(earlier: &[f64], later: &[f64]) -> Option<Self> {
        let is_figure = |figure: &&f64| figure.is_finite() && **figure > 0.0;
        let earlier: Vec<f64> = earlier.iter().filter(is_figure).copied().collect();
        let later: Vec<f64> = later.iter().filter(is_figure).copied().collect();
        let outside = outside_of_shift(earlier.len(), later.len())?;
        let ratios = later.iter().flat_map(|new| earlier.iter().map(move |old| new / old));
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ratio = median(&ratios)?;
        Some(Self { ratio, low: ratios[outside], high: ratios[ratios.len() - 1 - outside] })
    }
}

/// How many of all ratios lie below the interval: the largest number of inversions of two equal
/// samples that is rarer than [`SHIFTED_BY_CHANCE`]. `None` if even none is not.
fn outside_of_shift(one: usize, other: usize) -> Option<usize> {
    /// Up to here the counts are exact as floating-point numbers.
    const EXACT: usize = 50;
    if one + other > EXACT {
        // The normal distribution's, with mean and variance of the number of inversions.
        let (one, other) = (one as f64, other as f64);
        let deviation = (one * other * (one + other + 1.0) / 12.0).sqrt();
        return Some((one * other / 2.0 - 2.81 * deviation).max(0.0) as usize);
    }
    // The coefficients of the Gaussian binomial: in how many orders there are so many inversions.
    let mut ways = vec![0.0; one * other + 1];
    ways[0] = 1.0;
    for i in 1..=one {
        for at in (other + i..ways.len()).rev() {
            ways[at] -= ways[at - other - i];
        }
        for at in i..ways.len() {
            ways[at] += ways[at - i];
        }
    }
    let all: f64 = ways.iter().sum();
    let (mut below, mut outside) = (0.0, None);
    for (inversions, ways) in ways.iter().enumerate() {
        below += ways;
        if below / all > SHIFTED_BY_CHANCE {
            break;
        }
        outside = Some(inversions);
    }
    outside
}

/// The interval of the median of sorted figures by their order; `None` of too few.
fn exact_interval(sorted: &[f64]) -> Option<(f64, f64)> {
    let count = sorted.len();
    // The chance that at most `k` of the figures lie below the median.
    let (mut term, mut below, mut outside) = (0.5_f64.powi(count as i32), 0.0, 0);
    for k in 0..count / 2 {
        below += term;
        if 2.0 * below > 1.0 - CONFIDENCE {
            break;
        }
        outside = k + 1;
        term *= (count - k) as f64 / (k + 1) as f64;
    }
    let k = outside.checked_sub(1)?;
    Some((sorted[k], sorted[count - 1 - k]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn an_estimate_has_an_interval_around_its_median() {
        let estimate = Estimate::of(&[10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 30.0]).unwrap();
        assert_eq!((estimate.median, estimate.count), (13.0, 7));
        assert!(10.0 <= estimate.low && estimate.low < 13.0, "{estimate:?}");
        assert!(13.0 < estimate.high && estimate.high <= 30.0, "{estimate:?}");
        let one = Estimate::of(&[2.0]).unwrap();
        assert_eq!((one.low, one.high, one.variation), (2.0, 2.0, None));
        let variation = Estimate::of(&[1.0, 3.0]).unwrap().variation.unwrap();
        assert!((variation - 2.0_f64.sqrt() / 2.0).abs() < 1e-12);
    }

    /// By the tables of the sign test.
    #[test]
    fn the_exact_interval_is_that_of_the_sign_test() {
        let figures: Vec<f64> = (1..=20).map(f64::from).collect();
        for (count, interval) in [
            (0, None),
            (FEWEST_BLOCKS - 1, None),
            (FEWEST_BLOCKS, Some((1.0, 6.0))),
            (8, Some((1.0, 8.0))),
            (9, Some((2.0, 8.0))),
            (12, Some((3.0, 10.0))),
            (20, Some((6.0, 15.0))),
        ] {
            assert_eq!(exact_interval(&figures[..count]), interval, "{count}");
        }
    }

    /// By the tables of Mann and Whitney's test.
    #[test]
    fn the_interval_of_a_shift_is_that_of_the_rank_sum_test() {
        // With six and six there are 924 orders, of which one has no inversion, one has one, two
        // have two.
        for (blocks, outside) in [(5, None), (6, Some(1)), (7, Some(3)), (10, Some(13))] {
            assert_eq!(outside_of_shift(blocks, blocks), outside, "{blocks}");
        }
        let exact = outside_of_shift(25, 25).unwrap() as f64;
        let near = outside_of_shift(26, 25).unwrap() as f64;
        assert!((exact / near - 1.0).abs() < 0.1, "{exact} {near}");
        let old = [100.0, 101.0, 99.0, 100.5, 99.5, 100.0];
        let new = old.map(|figure| figure * 1.1);
        let shift = Shift::of(&old, &new).unwrap();
        assert!((shift.ratio - 1.1).abs() < 0.01 && shift.low > 1.08 && shift.high < 1.12);
        assert_eq!(Shift::of(&old[..5], &new[..5]), None);
        assert_eq!(Shift::of(&[0.0; 6], &new), None);
    }

    #[test]
    fn equal_runs_have_shifts_beside_one_as_seldom_as_is_said() {
        let mut random = Random::of(&[8]);
        for blocks in [6, 8, 12] {
            let mut beside = 0;
            for _ in 0..4_000 {
                let mut run = || -> Vec<f64> {
                    let mut noise = |_| (0..4).map(|_| random.unit() - 0.5).sum::<f64>();
                    (0..blocks).map(|block| (noise(block) * 0.3).exp()).collect()
                };
                let shift = Shift::of(&run(), &run()).unwrap();
                beside += u32::from(shift.low > 1.0 || shift.high < 1.0);
            }
            assert!(beside <= 35, "{beside} of 4,000, {blocks} blocks");
        }
    }

    fn order_of(ratios: &[f64]) -> Order {
        let pairs: Vec<_> = ratios.iter().map(|ratio| (*ratio, 1.0)).collect();
        Comparison::of(&pairs).unwrap().order
    }

    #[test]
    fn an_order_needs_blocks_that_agree() {
        assert_eq!(order_of(&[2.0; 5]), Order::TooFew);
        assert_eq!(order_of(&[1.1, 1.2, 1.1, 1.3, 1.1, 1.2]), Order::First);
        assert_eq!(order_of(&[0.9, 0.8, 0.9, 0.7, 0.9, 0.8]), Order::Second);
        assert_eq!(order_of(&[1.1, 1.2, 1.1, 0.99, 1.1, 1.2]), Order::Tie);
        assert_eq!(Comparison::of(&[(1.0, 0.0)]), None);
        assert_eq!(Comparison::of(&[(0.0, 1.0)]), None);
    }

    #[test]
    fn the_interval_of_a_pair_holds_that_of_the_bootstrap_and_the_exact_one() {
        // Of few figures the exact one is wider, of many now and then the other.
        for (count, is_exact_wider) in [(20, true), (299, false)] {
            let ratios: Vec<f64> = (1..=count).map(f64::from).collect();
            let pairs: Vec<_> = ratios.iter().map(|ratio| (*ratio, 1.0)).collect();
            let ratio = Comparison::of(&pairs).unwrap().ratio;
            let bootstrap = Estimate::of(&ratios).unwrap();
            let (low, high) = exact_interval(&ratios).unwrap();
            assert_eq!(low < bootstrap.low, is_exact_wider, "{low} {bootstrap:?}");
            let both = (bootstrap.low.min(low), bootstrap.high.max(high));
            assert_eq!((ratio.low, ratio.high), both, "{count}");
        }
    }

    #[test]
    fn equal_designs_are_told_apart_in_at_most_one_of_twenty_comparisons() {
        let mut random = Random::of(&[7]);
        for blocks in [6, 7, 10, 15] {
            let mut told = 0;
            for _ in 0..2_000 {
                let mut ratios: Vec<f64> = (0..blocks)
                    .map(|_| {
                        // Skewed, as times are; its median is 1.
                        let noise: f64 = (0..4).map(|_| random.unit() - 0.5).sum();
                        (noise * 0.3).exp()
                    })
                    .collect();
                ratios.sort_unstable_by(f64::total_cmp);
                // The bootstrap can only make a tie of it.
                let (low, high) = exact_interval(&ratios).unwrap();
                told += u32::from(low > 1.0 || high < 1.0);
            }
            assert!(told <= 100, "{told} of 2,000, {blocks} blocks");
        }
    }
}
