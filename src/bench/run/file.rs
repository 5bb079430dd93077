//! The file of results: read, validated and written.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::base::WITHOUT_SNAPSHOTS;
use super::comparisons::{compared, groups};
use super::events::TimeLine;
use super::figures::{DRIVER, Figures, Processor, Raw, Requests};
use super::hypotheses::hypotheses;
use super::results::{
    BaseRecord, CheckVerdict, FORMAT, HypothesisRecord, Key, Measurement, Outcome, Point, Results,
};
use super::setting::{DatabaseKind, Setting};
use crate::bench::class::Class;
use crate::bench::latencies::Latencies;
use crate::bench::timeline::Part;
use crate::design;
use crate::object::objects_only;

/// The file of results in the directory of a run.
pub const RESULTS: &str = "results.json";

/// By how much two figures may differ that are the same but for the digits that are written, as a
/// share of the larger.
const ROUNDING: f64 = 1e-9;

/// Why a file of results cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what it must be.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// What a file begins with that `xz` has packed.
const XZ: &[u8] = b"\xfd7zXZ\0";

impl Results {
    /// Reads a file, or that of the directory of a run, and validates it.
    ///
    /// # Errors
    /// [`ResultsError`] says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let path = &if path.is_dir() { path.join(RESULTS) } else { path.to_owned() };
        #[derive(Deserialize)]
        #[serde(remote = "Self")]
        struct Versioned {
            format: Option<u32>,
        }
        objects_only!(Versioned);
        let invalid = |what: String| ResultsError::Invalid { path: path.to_owned(), what };
        let text =
            fs::read(path).map_err(|error| ResultsError::File { path: path.to_owned(), error })?;
        if text.starts_with(XZ) {
            let what = "is packed: unpack it with `xz -dc`, or give that to /dev/stdin".to_owned();
            return Err(invalid(what));
        }
        let versioned: Versioned =
            serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        match versioned.format {
            Some(FORMAT) => {}
            Some(format) => {
                return Err(invalid(format!(
                    "is of format {format}; this program reads format {FORMAT}"
                )));
            }
            None => return Err(invalid("has no `format`: these are no results".to_owned())),
        }
        let results: Self =
            serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        results.validate().map_err(invalid)?;
        Ok(results)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`ResultsError::File`].
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let written = || -> std::io::Result<()> {
            let beside = path.with_extension("json.new");
            let mut file = BufWriter::new(File::create(&beside)?);
            serde_json::to_writer(&mut file, self)?;
            file.write_all(b"\n")?;
            file.into_inner()?.sync_all()?;
            fs::rename(beside, path)
        };
        written().map_err(|error| ResultsError::File { path: path.to_owned(), error })
    }

    /// Whether what it says fits together, and what is said of the points is what they say.
    ///
    /// # Errors
    /// Says what does not.
    pub fn validate(&self) -> Result<(), String> {
        let mut last = None;
        for (index, point) in self.points.iter().enumerate() {
            let at = |what: &str| format!("point {}: {what}", point.number);
            if last.is_some_and(|last| point.number <= last) {
                return Err(at("comes after one with the same or a larger number"));
            }
            last = Some(point.number);
            let twice = |other: &Point| {
                other.number < point.number
                    && (other.block, &other.key) == (point.block, &point.key)
            };
            if self.points.iter().any(twice) {
                return Err(at("is there twice in its block"));
            }
            if point.number >= self.plan.points || point.block >= self.plan.blocks {
                return Err(at("is not one of those that were planned"));
            }
            if point.key.again && point.key.is_floor() {
                return Err(at("is a second measurement of a floor: there is none"));
            }
            if let Some(base) = &point.base
                && !self.bases.iter().any(|known| known.name == *base)
            {
                return Err(at(&format!("began from `{base}`, which is not among the bases")));
            }
            if !point.key.setting.is_possible()
                || point.key.is_floor() != (point.key.setting == Setting::FLOOR)
            {
                return Err(at("is in a setting that there is not"));
            }
            let database = point.key.setting.database;
            let is_of = |base: &BaseRecord| point.base.as_ref() == Some(&base.name);
            let is_without =
                point.base.as_ref().is_some_and(|base| base.ends_with(WITHOUT_SNAPSHOTS));
            if is_without == point.key.setting.snapshots && point.base.is_some() {
                return Err(at("began from a base whose snapshots are not those of its setting"));
            }
            if self.bases.iter().any(|base| is_of(base) && base.database != database) {
                return Err(at("began from a base in another database than its setting's"));
            }
            let Outcome::Measured(measured) = &point.outcome else { continue };
            let is_given = point.key.setting.database == DatabaseKind::Given;
            let is_own = design::named(&point.key.design).is_some();
            if is_given && (is_own || point.key.again || point.key.setting != Setting::GIVEN) {
                return Err(at("is of a given server, and of a design or a setting that is none"));
            }
            let has_base = !point.key.is_floor() && !is_given;
            if point.base.is_some() != has_base {
                return Err(at(match &point.base {
                    Some(_) => {
                        "began from a base, and is of a floor or a given server, which have none"
                    }
                    None => "began from no base, and is of a design",
                }));
            }
            let is_checked = self.plan.checks && point.key.has_answers();
            if is_checked == (measured.verdict == CheckVerdict::NotApplicable) {
                return Err(at(match is_checked {
                    true => "has no verdict",
                    false => "has a verdict, where nothing was checked",
                }));
            }
            let path = format!("points[{index}].outcome.measured");
            fits_its_setting(&path, &point.key, measured)?;
            validate(&path, measured)?;
            if let CheckVerdict::Valid { summary } = &measured.verdict {
                covers(&path, summary, measured)?;
            }
        }
        if self.complete != (self.points.len() == self.plan.points) {
            return Err(format!(
                "is said to be {}, with {} of {} points",
                if self.complete { "complete" } else { "incomplete" },
                self.points.len(),
                self.plan.points
            ));
        }
        let digests = self.bases.iter().map(|base| (base.jobs, &base.digest));
        for (base, (jobs, digest)) in self.bases.iter().zip(digests) {
            let differs = self.bases.iter().any(|other| {
                other.family() == base.family() && (other.jobs, &other.digest) != (jobs, digest)
            });
            if differs {
                return Err(format!("the bases like `{}` are not of one graph", base.name));
            }
        }
        self.validate_comparisons()?;
        self.validate_hypotheses()
    }

    /// What is said of each hypothesis is what the points say of it.
    pub(super) fn validate_hypotheses(&self) -> Result<(), String> {
        let Some(all) = &self.hypotheses else { return Ok(()) };
        let made = hypotheses(&self.points, self.plan.blocks);
        if all.len() != made.len() {
            return Err(format!("`hypotheses` has {}, not {}", all.len(), made.len()));
        }
        // Sentences may be others' words.
        let wordless = |one: &HypothesisRecord| {
            let mut one = one.clone();
            for quantity in &mut one.quantities {
                quantity.what.clear();
                quantity.missing = quantity.missing.as_ref().map(|_| String::new());
            }
            one
        };
        let mut both = all.iter().map(wordless).zip(made.iter().map(wordless)).enumerate();
        both.try_for_each(|(at, (said, made))| are_same(&format!("hypotheses[{at}]"), &said, &made))
    }

    /// What is said of each pair is what the points say of it. Whether all pairs are here that this
    /// program knows is not asked: another one may know more, or fewer.
    fn validate_comparisons(&self) -> Result<(), String> {
        let groups = groups(&self.points);
        let of = |key: &Key| groups.iter().find(|group| group.key == key);
        let mut pairs = BTreeSet::new();
        for (at, said) in self.comparisons.iter().flatten().enumerate() {
            let path = format!("comparisons[{at}]");
            let (Some(first), Some(second)) = (of(&said.first), of(&said.second)) else {
                return Err(format!("`{path}` is of what was not measured"));
            };
            if said.first == said.second || said.first.of("") != said.second.of("") {
                return Err(format!("`{path}` is not of two that were asked the same"));
            }
            if !pairs.insert((&said.first, &said.second)) {
                return Err(format!("`{path}` is of a pair that is there before"));
            }
            are_same(&path, said, &compared(first, second, self.plan.blocks))?;
        }
        Ok(())
    }
}

/// No window is longer: eleven days.
const LONGEST_WINDOW_SECONDS: f64 = 1e6;

/// The figures of a point: what was counted fits together, and they are what is made of it.
fn validate(path: &str, measured: &Measurement) -> Result<(), String> {
    let Measurement { raw, figures, .. } = measured;
    if !(raw.window_seconds > 0.0 && raw.window_seconds <= LONGEST_WINDOW_SECONDS) {
        return Err(format!("`{path}.raw.window_seconds` is {}", raw.window_seconds));
    }
    raw.counts_fit().map_err(|what| format!("`{path}.raw`: {what}"))?;
    let made = Figures::of(raw).map_err(|bad| format!("`{path}.raw`: {bad}"))?;
    are_same(&format!("{path}.figures"), figures, &made)
}

/// The checker has judged at least what is counted of the window.
fn covers(path: &str, summary: &Value, measured: &Measurement) -> Result<(), String> {
    let counted: u64 = measured.raw.requests.iter().map(|row| row.count).sum();
    match summary.get("operations").and_then(Value::as_u64) {
        Some(judged) if judged >= counted => Ok(()),
        judged => {
            let judged = judged.map_or("none".to_owned(), |judged| judged.to_string());
            Err(format!(
                "`{path}.verdict.valid.summary.operations` is {judged}, where {counted} requests were \
                 counted"
            ))
        }
    }
}

/// What was counted of servers is of those that the setting has.
fn fits_its_setting(path: &str, key: &Key, measured: &Measurement) -> Result<(), String> {
    let Measurement { raw, start_seconds, peak_memory_bytes, steal_seconds, .. } = measured;
    // Of a start nothing is counted.
    let is_counted = !raw.processor.is_empty();
    let setting = &key.setting;
    for (member, is_there, has) in [
        ("wal_bytes", raw.wal_bytes.is_some(), setting.needs_postgres()),
        ("round_trips", raw.round_trips.is_some(), setting.delay_us.is_some()),
    ] {
        if is_there != (has && is_counted) {
            let is = if is_there { "given" } else { "none" };
            return Err(format!("`{path}.raw.{member}` is {is}, which its setting is not"));
        }
    }
    for (member, count) in
        [("start_seconds", start_seconds.len()), ("peak_memory_bytes", peak_memory_bytes.len())]
    {
        // Where something happens, a node may end or join.
        let nodes = if *setting == Setting::GIVEN { 0 } else { key.nodes as usize };
        if count != nodes && !(member == "peak_memory_bytes" && key.has_event()) {
            return Err(format!("`{path}.{member}` is of {count} nodes, not of {nodes}"));
        }
    }
    let is_given = *setting == Setting::GIVEN;
    let is_driver = |used: &Processor| used.process == DRIVER;
    if is_given && (measured.disk.is_some() || !raw.processor.iter().all(is_driver)) {
        return Err(format!("`{path}` tells what only servers of the run tell"));
    }
    if raw.syncs.is_some() && (!is_counted || key.is_floor() || is_given) {
        return Err(format!("`{path}.raw.syncs` is given, where no log was looked at"));
    }
    // A node that nobody asks has none: with fewer clients than nodes.
    if raw.by_node.len() > key.nodes as usize {
        return Err(format!("`{path}.raw.by_node` is of {} nodes", raw.by_node.len()));
    }
    if measured.timeline.is_some() != key.has_event() {
        let is = if key.has_event() { "none" } else { "of a window in which nothing happens" };
        return Err(format!("`{path}.timeline` is {is}"));
    }
    if let Some(line) = &measured.timeline {
        let fits = line.validate().and_then(|()| fits_window(line, raw));
        fits.map_err(|what| format!("`{path}.timeline`: {what}"))?;
    }
    let is_less = |seconds: f64| seconds.is_nan() || seconds < 0.0;
    if is_less(*steal_seconds) {
        return Err(format!("`{path}.steal_seconds` is {steal_seconds}"));
    }
    match raw.processor.iter().position(|used| is_less(used.seconds)) {
        Some(at) => Err(format!("`{path}.raw.processor[{at}].seconds` is less than nothing")),
        None => Ok(()),
    }
}

/// The parts are all of the window, and their requests those that were counted.
fn fits_window(line: &TimeLine, raw: &Raw) -> Result<(), String> {
    let parts = (raw.window_seconds / line.part_seconds - 1e-6).ceil();
    if line.parts.len() as f64 != parts {
        return Err(format!("has {} parts, where the window has {parts}", line.parts.len()));
    }
    let sum = |of: fn(&Part) -> u64| line.parts.iter().map(of).fold(0, u64::saturating_add);
    let timed = |row: &Requests| Latencies::decoded(&row.latency).map_or(0, |found| found.count());
    let rows = |is_of: fn(Class) -> bool, of: &dyn Fn(&Requests) -> u64| {
        let rows = raw.requests.iter().filter(|row| is_of(row.class));
        rows.map(of).fold(0, u64::saturating_add)
    };
    let is_refused = |class| class == Class::Refused;
    let is_failed = |class| class == Class::Failed;
    for (name, said, counted) in [
        ("completed", sum(|part| part.completed), rows(Class::is_completed, &timed)),
        ("refused", sum(|part| part.refused), rows(is_refused, &timed)),
        ("failed", sum(|part| part.failed), rows(is_failed, &timed)),
        ("answered", sum(|part| part.answered), rows(Class::is_completed, &|row| row.count)),
    ] {
        if said != counted {
            return Err(format!("`{name}` is {said} in all parts, and {counted} were counted"));
        }
    }
    Ok(())
}

/// Compares what is said with what was made again from what was measured.
fn are_same<T: Serialize>(path: &str, said: &T, made: &T) -> Result<(), String> {
    let json = |it: &T| serde_json::to_value(it).map_err(|error| format!("`{path}`: {error}"));
    difference(path, &json(said)?, &json(made)?).map_or(Ok(()), Err)
}

/// Where the two differ by more than rounding, and how.
fn difference(path: &str, said: &Value, made: &Value) -> Option<String> {
    let none = Value::Null;
    match (said, made) {
        (Value::Object(said), Value::Object(made)) => made.iter().find_map(|(name, made)| {
            difference(&format!("{path}.{name}"), said.get(name).unwrap_or(&none), made)
        }),
        (Value::Array(said), Value::Array(made)) if said.len() == made.len() => {
            let mut items = said.iter().zip(made).enumerate();
            items.find_map(|(at, (said, made))| difference(&format!("{path}[{at}]"), said, made))
        }
        (Value::Array(said), Value::Array(made)) => Some(format!(
            "`{path}` has {} items, where what was measured makes {}",
            said.len(),
            made.len()
        )),
        (Value::Number(said), Value::Number(made)) if are_near(said, made) => None,
        _ if said == made => None,
        _ => Some(format!("`{path}` is {said}, where what was measured makes {made}")),
    }
}

/// Whole numbers must be the same.
fn are_near(one: &Number, other: &Number) -> bool {
    if let Some((one, other)) = one.as_u64().zip(other.as_u64()) {
        return one == other;
    }
    let Some((one, other)) = one.as_f64().zip(other.as_f64()) else { return false };
    (one - other).abs() <= ROUNDING * one.abs().max(other.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::comparisons::comparisons;
    use super::super::figures::{RoundTrips, Syncs};
    use super::super::made_up;
    use super::super::results::Compared;
    use super::*;

    /// Whether they are still valid when the value at each of these places is another, and that the
    /// place is named where they are not.
    fn assert_refused(results: &Results, changes: &[(&str, Value)]) {
        assert_eq!(results.validate(), Ok(()));
        for (place, value) in changes {
            let mut json = serde_json::to_value(results).unwrap();
            let changed = json.pointer_mut(place).unwrap_or_else(|| panic!("there is no {place}"));
            assert_ne!(changed, value, "{place}");
            *changed = value.clone();
            let said = serde_json::from_value::<Results>(json).unwrap().validate().unwrap_err();
            assert!(said.contains(&format!("`{}`", path(place))), "{place}: {said}");
        }
    }

    /// `/points/0/key` as `points[0].key`.
    fn path(place: &str) -> String {
        let mut path = String::new();
        for part in place.split('/').skip(1) {
            match part.parse::<usize>() {
                Ok(at) => path += &format!("[{at}]"),
                Err(_) if path.is_empty() => path += part,
                Err(_) => path += &format!(".{part}"),
            }
        }
        path
    }

    #[test]
    fn what_is_said_of_pairs_is_made_again_from_the_points() {
        let rates = [1_900.0, 2_100.0, 1_950.0, 2_050.0, 2_000.0, 1_990.0];
        let mut results = made_up::pair(&rates, |_| {});
        results.comparisons = Some(comparisons(&results.points, results.plan.blocks));
        let ratio = |member: &str| format!("/comparisons/0/ratios/0/{member}");
        let changes = [
            (ratio("median"), json!(2.1)),
            (ratio("low"), json!(1.5)),
            (ratio("high"), json!(2.5)),
            (ratio("blocks"), json!(7)),
            (ratio("order"), json!("less")),
            (ratio("figure"), json!("p50_us")),
            ("/comparisons/0/not_compared".to_owned(), json!("saturated")),
            ("/comparisons/0/ratios".to_owned(), json!([])),
        ];
        let changes = changes.each_ref().map(|(place, value)| (place.as_str(), value.clone()));
        assert_refused(&results, &changes);
    }

    #[test]
    fn whatever_pairs_are_told_of_each_is_held_to_its_points() {
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        let points = results.points.clone();
        let groups = groups(&points);
        let [one, other] = &groups[..] else { panic!("two groups") };
        let [pair, turned] = [compared(one, other, 6), compared(other, one, 6)];
        // What another program takes for pairs.
        for pairs in [vec![], vec![turned.clone()], vec![pair.clone(), turned.clone()]] {
            results.comparisons = Some(pairs);
            assert_eq!(results.validate(), Ok(()));
        }
        let of_another = |key: Key| Key { design: "another".to_owned(), ..key };
        let of_one = Compared { second: pair.first.clone(), ..pair.clone() };
        let of_none = Compared { first: of_another(pair.first.clone()), ..pair.clone() };
        let wrong = Compared { ratios: turned.ratios.clone(), ..pair.clone() };
        for (second, says) in [
            (of_one, "is not of two that were asked the same"),
            (of_none, "is of what was not measured"),
            (turned.clone(), "is of a pair that is there before"),
            (wrong, "`comparisons[1].ratios[0]."),
        ] {
            results.comparisons = Some(vec![turned.clone(), second]);
            let said = results.validate().unwrap_err();
            assert!(said.contains(says) && said.contains("`comparisons[1]"), "{said}");
        }
    }

    #[test]
    fn a_design_begins_from_a_base_and_a_floor_from_none() {
        let mut results = made_up::pair(&[2_000.0], |_| {});
        let base = results.points[0].base.take();
        let said = results.validate().unwrap_err();
        assert_eq!(said, "point 0: began from no base, and is of a design");
        let of_floor = |outcome: &mut Outcome| {
            let Outcome::Measured(measured) = outcome else { panic!() };
            measured.verdict = CheckVerdict::NotApplicable;
        };
        let mut results = made_up::pair(&[2_000.0], of_floor);
        results.points[0].key.design = "echo".to_owned();
        results.points[0].key.setting = Setting::FLOOR;
        let base = results.points[0].base.take().or(base);
        results.bases.push(BaseRecord {
            name: "none".to_owned(),
            database: DatabaseKind::None,
            ..results.bases[0].clone()
        });
        results.points[0].base = Some("none".to_owned());
        let said = results.validate().unwrap_err();
        assert!(said.starts_with("point 0: began from a base, and is of a floor"), "{said}");
        results.points[0].base = None;
        assert!(base.is_some() && results.validate() == Ok(()));
        let Outcome::Measured(measured) = &mut results.points[0].outcome else { panic!() };
        measured.raw.syncs = Some(Syncs { count: 1, commits: 1 });
        let said = results.validate().unwrap_err();
        assert!(said.contains("syncs` is given, where no log was looked at"), "{said}");
    }

    #[test]
    fn what_was_checked_has_a_verdict_and_nothing_else_has() {
        let set = |results: &mut Results, verdict: CheckVerdict| {
            let Outcome::Measured(measured) = &mut results.points[1].outcome else { panic!() };
            measured.verdict = verdict;
        };
        let valid = || CheckVerdict::Valid { summary: json!({"operations": 1 << 20}) };
        for (workload, checks, verdict, says) in [
            ("register", true, valid(), None),
            ("register", true, CheckVerdict::NotApplicable, Some("point 1: has no verdict")),
            ("register", false, valid(), Some("where nothing was checked")),
            ("start", true, valid(), Some("where nothing was checked")),
            ("start", true, CheckVerdict::NotApplicable, None),
        ] {
            let mut results = made_up::pair(&[2_000.0], |outcome| {
                // Of the first point nothing is said here.
                *outcome = Outcome::Failed { why: "it died".to_owned() };
            });
            results.plan.checks = checks;
            results.points[1].key.workload = workload.to_owned();
            set(&mut results, verdict);
            let said = results.validate().err();
            let is_told = said.as_deref().unwrap_or_default().contains(says.unwrap_or_default());
            assert!(is_told && said.is_some() == says.is_some(), "{workload} {checks}: {said:?}");
        }
    }

    #[test]
    fn a_verdict_is_about_all_that_was_counted() {
        let results = made_up::pair(&[2_000.0], |_| {});
        for summary in [json!({}), json!({"operations": 1_999}), Value::Null] {
            let mut results = results.clone();
            let Outcome::Measured(measured) = &mut results.points[0].outcome else { panic!() };
            measured.verdict = CheckVerdict::Valid { summary };
            let said = results.validate().unwrap_err();
            assert!(said.contains("summary.operations` is "), "{said}");
        }
    }

    #[test]
    fn whether_all_is_there_is_said_rightly() {
        let whole = made_up::pair(&[2_000.0], |_| {});
        let incomplete = Results { complete: false, ..whole.clone() };
        assert!(incomplete.validate().unwrap_err().contains("incomplete, with 2 of 2"));
        let mut cut = whole;
        cut.points.pop();
        assert!(cut.validate().unwrap_err().contains("complete, with 1 of 2"));
        cut.complete = false;
        assert_eq!(cut.validate(), Ok(()));
    }

    /// The places of all that is said at `place`, and something else to say there.
    fn others(place: &str, said: &Value, found: &mut Vec<(String, Value)>) {
        match said {
            Value::Object(members) => {
                for (name, said) in members {
                    others(&format!("{place}/{name}"), said, found);
                }
            }
            Value::Number(number) if number.is_u64() => {
                found.push((place.to_owned(), json!(number.as_u64().unwrap() + 1)));
            }
            Value::Number(number) => {
                found.push((place.to_owned(), json!(number.as_f64().unwrap() * 1.001)));
            }
            Value::Bool(said) => found.push((place.to_owned(), json!(!said))),
            other => panic!("{place} is {other}"),
        }
    }

    #[test]
    fn every_figure_of_a_point_is_made_again_from_what_was_counted() {
        let mut results = made_up::pair(&[2_000.0], |_| {});
        results.bases[0].database = DatabaseKind::Postgres;
        for point in &mut results.points {
            let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
            // As on servers.
            point.key.setting = Setting { delay_us: Some(0), ..Setting::POSTGRES };
            measured.raw.wal_bytes = Some(300);
            measured.raw.round_trips = Some(RoundTrips { database: 5, lock: 10 });
            measured.raw.syncs = Some(Syncs { count: 70, commits: 100 });
            measured.figures = Figures::of(&measured.raw).unwrap();
        }
        let place = "/points/1/outcome/measured/figures";
        let json = serde_json::to_value(&results).unwrap();
        let mut changes = Vec::new();
        others(place, json.pointer(place).unwrap(), &mut changes);
        // Three times five percentiles, and the others.
        assert_eq!(changes.len(), 3 * 5 + 15, "{changes:?}");
        let changes: Vec<_> =
            changes.iter().map(|(place, value)| (place.as_str(), value.clone())).collect();
        assert_refused(&results, &changes);
    }

    #[test]
    fn what_was_counted_must_fit_together() {
        let results = made_up::pair(&[2_000.0], |_| {});
        for (member, value, says) in [
            ("window_seconds", json!(1e15), "`points[0].outcome.measured.raw.window_seconds` is 1"),
            ("window_seconds", json!(0.0), "`points[0].outcome.measured.raw.window_seconds` is 0"),
            ("requests/0/latency", json!("ns3 5"), "`requests[0].latency`: `5` is no part"),
            ("requests/0/service", json!("ns3 5:1"), "`requests[0].service` has not as many"),
            ("requests/0/count", json!(7), "only "),
            ("lateness", json!("ns3 5:1"), "`lateness` is not of the "),
            ("backlog", json!("5:1"), "`backlog`: `5:1` is no part"),
            ("by_node", json!(["ns3 5:1"]), "`by_node` is not of the 2001 requests"),
            ("in_flight_at_end", json!(0), "0 under way at its end"),
            ("kept_up", json!(2_001), "`kept_up` is 2001, more than were due"),
            ("due", json!(null), "`kept_up` is 2000, more than were due"),
            ("requests/0/count", json!(u64::MAX), "`requests` counts 18446744073709551615, more"),
            ("in_flight_at_end", json!(u64::MAX), "`in_flight_at_end` counts "),
            ("written_bytes", json!(u64::MAX), "`written_bytes` counts "),
            ("operations", json!((1_u64 << 48) + 1), "`operations` counts "),
            ("due", json!(u64::MAX), "`due` counts "),
            ("backlog", json!(LARGE), "`backlog` counts "),
            ("lateness", json!(LARGE), "`lateness` counts "),
            ("syncs", json!({"count": u64::MAX, "commits": 1}), "`syncs` counts "),
        ] {
            let mut json = serde_json::to_value(&results).unwrap();
            let place = format!("/points/0/outcome/measured/raw/{member}");
            *json.pointer_mut(&place).unwrap() = value;
            let said = serde_json::from_value::<Results>(json).unwrap().validate().unwrap_err();
            assert!(said.contains(says), "{member}: {said}");
        }
    }

    #[test]
    fn what_was_counted_must_fit_its_setting() {
        let results = made_up::pair(&[2_000.0], |_| {});
        let of = |member: &str| format!("outcome/measured/{member}");
        let Outcome::Measured(measured) = &results.points[0].outcome else { panic!() };
        let latencies = measured.raw.requests[0].latency.clone();
        for (member, value, says) in [
            (of("raw/wal_bytes"), json!(5), "raw.wal_bytes` is given"),
            (of("raw/round_trips"), json!({"database": 1, "lock": 0}), "round_trips` is given"),
            (of("start_seconds"), json!([]), "start_seconds` is of 0 nodes, not of 1"),
            (of("peak_memory_bytes"), json!([1, 2]), "peak_memory_bytes` is of 2 nodes"),
            (of("steal_seconds"), json!(-0.1), "steal_seconds` is -0.1"),
            (of("raw/processor/1/seconds"), json!(-0.1), "raw.processor[1].seconds` is less"),
            ("key/setting/lock".to_owned(), json!("redis"), "setting that there is not"),
            ("key/setting/database".to_owned(), json!("postgres"), "setting that there is not"),
            ("key/setting/delay_us".to_owned(), json!(0), "setting that there is not"),
            ("key/setting/after_checkpoint".to_owned(), json!(true), "setting that there is not"),
            ("key/setting/first_is_near".to_owned(), json!(true), "setting that there is not"),
            (of("raw/by_node"), json!([latencies, "ns3"]), "raw.by_node` is of 2 nodes"),
        ] {
            let mut json = serde_json::to_value(&results).unwrap();
            *json.pointer_mut(&format!("/points/0/{member}")).unwrap() = value;
            let said = serde_json::from_value::<Results>(json).unwrap().validate().unwrap_err();
            assert!(said.contains(says), "{member}: {said}");
        }
        // As if it had been measured on servers.
        let moved = |results: &Results| {
            let mut moved = results.clone();
            moved.points[0].key.setting = Setting::POSTGRES;
            moved
        };
        let said = moved(&results).validate().unwrap_err();
        assert!(said.contains("base in another database than its setting's"), "{said}");
        let mut elsewhere = results.clone();
        elsewhere.bases[0].database = DatabaseKind::Postgres;
        elsewhere.points.truncate(1);
        let said = moved(&elsewhere).validate().unwrap_err();
        assert!(said.contains("raw.wal_bytes` is none"), "{said}");
        let mut floor = results.clone();
        floor.points[0].key.design = "echo".to_owned();
        assert!(floor.validate().unwrap_err().contains("setting that there is not"));
    }

    /// As many as can be counted, in two buckets.
    const LARGE: &str = "ns3 5:18446744073709551615 6:18446744073709551615";

    #[test]
    fn counts_that_no_window_has_are_refused_before_they_are_added() {
        let results = made_up::pair(&[2_000.0], |_| {});
        let mut json = serde_json::to_value(&results).unwrap();
        let rows = json.pointer_mut("/points/0/outcome/measured/raw/requests").unwrap();
        let mut row = rows[0].clone();
        row["count"] = json!(u64::MAX);
        (row["latency"], row["service"]) = (json!(LARGE), json!(LARGE));
        *rows = json!([row.clone(), row]);
        let said = serde_json::from_value::<Results>(json).unwrap().validate().unwrap_err();
        assert!(said.contains("`requests` counts 18446744073709551615"), "{said}");
    }

    #[test]
    fn each_point_that_was_planned_is_there_once() {
        let results = made_up::pair(&[2_000.0; 2], |_| {});
        type Change = fn(&mut Vec<Point>);
        let changes: [(Change, &str); 5] = [
            (|points| points[1].number = 0, "point 0: comes after one with the same"),
            (|points| points.swap(1, 2), "point 1: comes after one with the same or a larger"),
            (|points| points[2].block = 0, "point 2: is there twice in its block"),
            (|points| points[3].number = 4, "point 4: is not one of those that were planned"),
            (|points| points[3].block = 2, "point 3: is not one of those that were planned"),
        ];
        for (change, says) in changes {
            let mut changed = results.clone();
            change(&mut changed.points);
            let said = changed.validate().unwrap_err();
            assert!(said.starts_with(says), "{said}");
        }
    }

    #[test]
    fn bases_of_one_family_are_of_one_graph() {
        let results = made_up::pair(&[2_000.0], |_| {});
        for (name, jobs, digest, is_one) in [
            ("chain-10/log", 10, "d", true),
            ("chain-10/log", 11, "d", false),
            ("chain-10/log", 10, "e", false),
            ("chain-10-churned-10/log", 11, "e", true),
        ] {
            let mut results = results.clone();
            let (name, digest) = (name.to_owned(), digest.to_owned());
            results.bases.push(BaseRecord { name, jobs, digest, ..results.bases[0].clone() });
            let said = results.validate().err();
            let says = said.as_ref().is_some_and(|said| said.contains("are not of one graph"));
            assert_eq!((says, said.is_none()), (!is_one, is_one), "{said:?}");
        }
    }

    #[test]
    fn a_floor_is_measured_once_in_a_block() {
        let mut results = made_up::twice(&[2_000.0]);
        assert_eq!(results.validate(), Ok(()));
        results.points[1].key.design = "echo".to_owned();
        assert!(results.validate().unwrap_err().contains("a second measurement of a floor"));
    }

    #[test]
    fn figures_may_differ_by_the_digits_that_were_written() {
        let differs = |said: Value, made: Value| difference("", &said, &made).is_some();
        assert!(!differs(json!(0.1 + 0.2), json!(0.3)) && !differs(json!(3.0), json!(3)));
        assert!(differs(json!(1.000_001), json!(1.0)) && differs(json!(0.0), json!(1e-12)));
        assert!(differs(json!(1_u64 << 60), json!((1_u64 << 60) + 1)));
        assert!(differs(json!(null), json!(0)) && differs(json!([1]), json!([1, 2])));
    }
}
