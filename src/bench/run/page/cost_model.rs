//! What a write takes on another network, disk, processor and graph: the time of one that nobody
//! else is in the way of is a sum of what it waits for.
//!
//! latency = a · round trip + b · fsync + c · processor + d · jobs
//!
//! Of each design, a is fitted on the latencies of `turns`, where one request at a time is under
//! way, with no delay and with the largest; b is how often the log was synced for a write; c is
//! what is left of the latency without delay, once b · fsync is taken out; and d is fitted on the
//! smallest and the largest graph from 10,000 jobs on of `growth`, or, for a design that loads
//! graphs anew after others have written, is what a second node adds for each job. The points
//! between are predicted and not fitted: how far off that is, is told.

use crate::bench::run::comparisons::Group;
use crate::bench::run::results::{CheckVerdict, Key, Measurement, Results};
use crate::bench::run::setting::Setting;
use crate::bench::run::statistics::median;
use crate::design::Design;
use crate::service::Refresh;

/// The smallest graph from which growth is fitted, in jobs: below, what does not grow is much of
/// it.
const FITTED_FROM: u64 = 10_000;

/// What a write of a design waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct CostModel {
    /// Whose.
    pub design: String,
    /// Round trips to database and lock, one after another.
    pub round_trips: f64,
    /// Syncs of the log.
    pub syncs: f64,
    /// Processors, loopback and all else, in microseconds, on the machine of the run, with a graph
    /// of [`jobs`](Self::jobs).
    pub processor_us: f64,
    /// For each job of the graph, in microseconds; none where nothing says so.
    pub job_us: Option<f64>,
    /// How many jobs the graph had by which the others were fitted.
    pub jobs: u64,
    /// What was predicted and measured, and of what.
    pub predicted: Vec<Prediction>,
}

/// A latency that was not fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Of what.
    pub what: String,
    /// By the model, in microseconds.
    pub predicted_us: f64,
    /// As it was measured.
    pub measured_us: f64,
}

impl Prediction {
    /// How far off it is, as a share of what was measured.
    #[must_use]
    pub fn error(&self) -> f64 {
        (self.predicted_us - self.measured_us) / self.measured_us
    }
}

/// The models of all designs that were measured with delays.
#[must_use]
pub fn cost_models(results: &Results, groups: &[Group<'_>]) -> Vec<CostModel> {
    let measured = Measured { groups, fsync_us: results.machine.fsync_p50_us };
    let sound = crate::design::sound();
    let mut models: Vec<CostModel> = sound.filter_map(|design| measured.model(design)).collect();
    models.sort_by(|one, other| one.design.cmp(&other.design));
    models
}

struct Measured<'g, 'r> {
    groups: &'g [Group<'r>],
    fsync_us: f64,
}

impl Measured<'_, '_> {
    /// The median of the blocks; nothing where a point is not valid.
    fn of(
        &self,
        is_it: impl Fn(&Key) -> bool,
        figure: impl Fn(&Measurement) -> Option<f64>,
    ) -> Option<f64> {
        let is_it = |group: &&Group<'_>| !group.key.again && is_it(group.key);
        let group = self.groups.iter().find(is_it)?;
        let is_valid = |verdict: &CheckVerdict| matches!(verdict, CheckVerdict::Valid { .. });
        if group.points.is_empty()
            || !group.points.iter().all(|(_, found)| is_valid(&found.verdict))
        {
            return None;
        }
        let figures = group.points.iter().filter_map(|(_, measured)| figure(measured));
        median(&figures.collect::<Vec<_>>())
    }

    fn model(&self, design: &Design) -> Option<CostModel> {
        let delayed = |delay_us: u64| Setting { delay_us: Some(delay_us), ..Setting::POSTGRES };
        let turns = |key: &Key, setting: Setting, nodes: u32| {
            key.workload == "turns"
                && key.design == design.name
                && key.setting == setting
                && key.nodes == nodes
                && key.rate.is_none()
        };
        let at = |delay_us: u64| self.of(|key| turns(key, delayed(delay_us), 2), p50_us);
        let is_delayed = |key: &&Key| {
            key.setting.delay_us.is_some_and(|delay_us| turns(key, delayed(delay_us), 2))
        };
        let keys = || self.groups.iter().map(|group| group.key).filter(is_delayed);
        let mut delays: Vec<u64> = keys().filter_map(|key| key.setting.delay_us).collect();
        delays.sort_unstable();
        delays.dedup();
        let [least, between @ .., most] = &delays[..] else { return None };
        let jobs = keys().next()?.size;
        let base_us = at(*least)?;
        let round_trips = (at(*most)? - base_us) / (most - least) as f64;
        let base_us = base_us - round_trips * *least as f64;
        let syncs = self.of(
            |key| turns(key, delayed(*least), 2),
            |measured| measured.figures.syncs_per_operation,
        )?;
        let predicted = between.iter().filter_map(|delay_us| {
            Some(Prediction {
                what: format!("{} ms a round trip", *delay_us as f64 / 1e3),
                predicted_us: base_us + round_trips * *delay_us as f64,
                measured_us: at(*delay_us)?,
            })
        });
        let mut predicted: Vec<Prediction> = predicted.collect();
        let job_us = match design.refresh {
            Refresh::WhenMoved => {
                let of = |nodes: u32| self.of(|key| turns(key, Setting::POSTGRES, nodes), p50_us);
                of(2).zip(of(1)).map(|(two, one)| (two - one) / jobs as f64)
            }
            Refresh::Always | Refresh::Delta => self.growth(design, &mut predicted),
        };
        Some(CostModel {
            design: design.name.to_owned(),
            round_trips,
            syncs,
            // A sync that is quicker than the probe's would leave less than nothing.
            processor_us: (base_us - syncs * self.fsync_us).max(0.0),
            job_us: job_us.map(|job_us| job_us.max(0.0)),
            jobs,
            predicted,
        })
    }

    /// What each job adds, and what that predicts of the sizes between.
    fn growth(&self, design: &Design, predicted: &mut Vec<Prediction>) -> Option<f64> {
        let is_any =
            |key: &Key| key.workload == "growth" && key.design == design.name && key.rate.is_none();
        let keys = || self.groups.iter().map(|group| group.key).filter(|key| is_any(key));
        let setting = keys().next()?.setting;
        let is_growth = |key: &Key| is_any(key) && key.setting == setting;
        let mut sizes: Vec<u64> =
            keys().filter(|key| key.setting == setting).map(|key| key.size).collect();
        sizes.retain(|size| *size >= FITTED_FROM);
        sizes.sort_unstable();
        sizes.dedup();
        let [first, between @ .., last] = &sizes[..] else { return None };
        let of = |size: u64| self.of(|key| is_growth(key) && key.size == size, p50_us);
        let first_us = of(*first)?;
        let job_us = (of(*last)? - first_us) / (last - first) as f64;
        predicted.extend(between.iter().filter_map(|size| {
            Some(Prediction {
                what: format!("{size} jobs"),
                predicted_us: first_us + job_us * (size - first) as f64,
                measured_us: of(*size)?,
            })
        }));
        Some(job_us)
    }
}

fn p50_us(measured: &Measurement) -> Option<f64> {
    measured.raw.latencies().ok()?.quantile_us(0.5)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use serde_json::json;

    use super::super::super::made_up;
    use super::*;
    use crate::bench::latencies::Latencies;
    use crate::bench::run::comparisons::groups;
    use crate::bench::run::figures::{Figures, Syncs};
    use crate::bench::run::results::Outcome;
    use crate::design;
    use crate::design::by_choice::{APPLIES_CHANGES, KEEPS_ONE_VERSION};

    #[test]
    fn a_model_is_what_the_points_were_made_of() {
        // 3 round trips, 1 sync of 300 µs, 400 µs, and 0.1 µs for each job that is loaded.
        let latency_us = |key: &Key| {
            let reloads = design::named(&key.design)
                .is_some_and(|design| design.refresh == Refresh::WhenMoved);
            let loads = reloads && key.workload == "turns" && key.nodes == 2;
            let job_us = if loads { 0.1 * key.size as f64 } else { 0.0 };
            3.0 * key.setting.delay_us.unwrap_or(0) as f64 + 300.0 + 400.0 + job_us
        };
        let mut results = made_up::rated("run --profile standard --blocks 1", |_, _| 1_000.0);
        results.machine.fsync_p50_us = 300.0;
        for point in &mut results.points {
            let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
            let mut latencies = Latencies::default();
            let each = Duration::from_secs_f64(latency_us(&point.key) / 1e6);
            latencies.record_many(each, 1_001);
            measured.raw.requests[0].latency = latencies.encoded();
            measured.raw.requests[0].service = latencies.encoded();
            measured.raw.syncs = Some(Syncs { count: 100, commits: 100 });
            measured.raw.phases = json!([{"of": "write", "phase": "commit", "count": 1_001}]);
            measured.figures = Figures::of(&measured.raw).unwrap();
        }
        let models = cost_models(&results, &groups(&results.points));
        let paired = crate::design::PAIRS.iter().flat_map(|pair| [pair.first, pair.second]);
        assert_eq!(models.len(), paired.collect::<BTreeSet<_>>().len());
        // Histograms have three digits.
        let is = |found: f64, expected: f64| (found - expected).abs() <= 0.03 * expected.max(1.0);
        for model in &models {
            assert!(is(model.round_trips, 3.0) && is(model.syncs, 1.0), "{model:?}");
            let reloads = design::named(&model.design).unwrap().refresh == Refresh::WhenMoved;
            let job_us = if reloads { 0.1 } else { 0.0 };
            assert!(model.job_us.is_none_or(|found| (found - job_us).abs() < 0.005), "{model:?}");
            let expected = 400.0 + job_us * model.jobs as f64;
            assert!(is(model.processor_us, expected), "{model:?}");
            let all = &model.predicted;
            assert!(
                !all.is_empty() && all.iter().all(|found| found.error().abs() < 0.02),
                "{all:?}"
            );
        }
        let of = |name: &str| models.iter().find(|model| model.design == name).unwrap();
        assert!(of(KEEPS_ONE_VERSION).job_us.is_some() && of(APPLIES_CHANGES).job_us.is_some());
    }

    #[test]
    fn without_delays_there_is_no_model() {
        let results = made_up::rated("run --blocks 1", |_, _| 1_000.0);
        assert!(cost_models(&results, &groups(&results.points)).is_empty());
    }
}
