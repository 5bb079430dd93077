//! From figures to places in a drawing.

/// An axis: which figures it has, and where they are.
#[derive(Debug, Clone)]
pub struct Scale {
    from: f64,
    to: f64,
    /// Where `from` is, and where `to` is.
    places: [f64; 2],
    logarithmic: bool,
    ticks: Vec<f64>,
}

/// How many ticks an axis has, at most.
const MOST_TICKS: usize = 8;

impl Scale {
    /// From nothing to the largest of these, in even steps.
    #[must_use]
    pub fn from_zero(values: &[f64], places: [f64; 2]) -> Self {
        let largest = values.iter().copied().filter(|value| *value < 1e15).fold(0.0, f64::max);
        let largest = if largest > 1e-12 { largest } else { 1.0 };
        let step = step(largest / 4.0);
        let count = (largest / step).ceil();
        let ticks = (0..=count as usize).map(|number| number as f64 * step).collect();
        Self { from: 0.0, to: count * step, places, logarithmic: false, ticks }
    }

    /// From below the least of these to above the largest, each step as many times the one before.
    /// Figures that are not above nothing have no place on it.
    #[must_use]
    pub fn logarithmic(values: &[f64], places: [f64; 2]) -> Self {
        // No figure of a benchmark is beyond these.
        let is_shown = |value: &&f64| (1e-12..1e15).contains(*value);
        let least = values.iter().filter(is_shown).copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().filter(is_shown).copied().fold(0.0, f64::max);
        let (least, largest) =
            if largest > 0.0 { (least * 0.9, largest * 1.1) } else { (0.5, 2.0) };
        let steps: &[f64] = if largest / least < 100.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = least.log10().floor() as i32..=largest.log10().ceil() as i32;
        let all =
            decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        let all: Vec<f64> = all.collect();
        let first = all.iter().rposition(|tick| *tick <= least).unwrap_or(0);
        let last = all.iter().position(|tick| *tick >= largest).unwrap_or(all.len() - 1);
        let all = &all[first..=last];
        let every = (all.len() - 1).div_ceil(MOST_TICKS - 1).max(1);
        let ticks = all.iter().copied().step_by(every).collect();
        Self { from: all[0], to: all[all.len() - 1], places, logarithmic: true, ticks }
    }

    /// Ticks at these figures alone; logarithmic if they are far apart.
    #[must_use]
    pub fn at_values(values: &[f64], places: [f64; 2]) -> Self {
        let mut ticks = values.to_vec();
        ticks.sort_unstable_by(f64::total_cmp);
        ticks.dedup();
        let (from, to) = match ticks[..] {
            [] => (0.0, 1.0),
            [only] => (only / 2.0, only * 2.0),
            [first, .., last] => (first, last),
        };
        let logarithmic = from > 0.0 && to / from >= 4.0;
        Self { from, to, places, logarithmic, ticks }
    }

    /// Where that figure is; at an end if it is beyond it.
    #[must_use]
    pub fn at(&self, value: f64) -> f64 {
        let along = |value: f64| if self.logarithmic { value.max(1e-12).ln() } else { value };
        let (from, to) = (along(self.from), along(self.to));
        let part = if to > from { (along(value) - from) / (to - from) } else { 0.5 };
        let [start, end] = self.places;
        start + part.clamp(0.0, 1.0) * (end - start)
    }

    /// Figures that are written at the axis.
    #[must_use]
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// Whether a figure has a place.
    #[must_use]
    pub fn has(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0)
    }
}

/// The next of 1, 2, 5, 10, …
fn step(at_least: f64) -> f64 {
    let decade = 10f64.powf(at_least.log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * decade >= at_least * 0.999);
    found.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few_and_hold_all_figures() {
        let scale = Scale::from_zero(&[3.0, 870.0], [0.0, 100.0]);
        assert_eq!(scale.ticks(), [0.0, 500.0, 1_000.0]);
        assert_eq!((scale.at(500.0), scale.at(5_000.0)), (50.0, 100.0));
        for largest in [3.0, 50.0, 4_000.0, 3e6] {
            let scale = Scale::logarithmic(&[2.0, largest], [0.0, 100.0]);
            let ticks = scale.ticks();
            assert!(ticks.len() <= MOST_TICKS && ticks.len() >= 2, "{ticks:?}");
            assert!(ticks[0] <= 2.0 && scale.to >= largest, "{scale:?}");
            assert!(0.0 < scale.at(2.0) && scale.at(largest) < 100.0, "{scale:?}");
        }
        assert!(!Scale::logarithmic(&[0.0, 5.0], [0.0, 1.0]).has(0.0));
    }

    #[test]
    fn what_was_chosen_is_where_ticks_are() {
        let scale = Scale::at_values(&[8.0, 1.0, 4.0, 16.0, 4.0], [0.0, 100.0]);
        assert_eq!(scale.ticks(), [1.0, 4.0, 8.0, 16.0]);
        assert!((scale.at(4.0) - 50.0).abs() < 1e-9, "logarithmic");
        let scale = Scale::at_values(&[0.0, 1.0, 5.0], [0.0, 100.0]);
        assert_eq!(scale.at(1.0), 20.0);
        assert!((Scale::at_values(&[7.0], [0.0, 100.0]).at(7.0) - 50.0).abs() < 1e-9);
    }
}
