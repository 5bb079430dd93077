//! What a benchmark leaves behind: `results.json`, from which all can be drawn or judged again.
//!
//! docs/RESULTS-FORMAT.md describes it. A file of another format is refused.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use super::events::TimeLine;
use super::figures::{Figures, Raw};
use super::machine::Machine;
use super::setting::{DatabaseKind, Setting};
use super::statistics::Order;
use super::workloads::{self, Measures, Past};
use crate::object::objects_both_ways;

/// The format that this program writes and reads. To be raised where the same file would mean
/// something else, or would not be valid any more: with another member, and with another rule by
/// which a figure, a ratio or a reason is made. A word that only newer files hold is none: an older
/// program refuses them, and names the word. Another pair, workload or sentence of a table is no
/// reason: files hold keys and words, and are judged by the pairs that they hold.
pub const FORMAT: u32 = 4;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// The program that wrote it.
    pub fencepost: String,
    /// What was asked for.
    pub plan: PlanRecord,
    /// When it began, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// Whether all that was planned is here.
    pub complete: bool,
    /// Where it ran.
    pub machine: Machine,
    /// The databases that points began from.
    pub bases: Vec<BaseRecord>,
    /// What was measured, in that order.
    pub points: Vec<Point>,
    /// What the points say of pairs; none until the run has ended, and in one that was killed.
    pub comparisons: Option<Vec<Compared>>,
    /// What they say of hypotheses; none as long as there are no comparisons.
    pub hypotheses: Option<Vec<HypothesisRecord>>,
}

/// What the points say of a hypothesis of docs/METHOD.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct HypothesisRecord {
    /// As there, as in `H1`.
    pub name: String,
    /// What may be said.
    pub verdict: Verdict,
    /// What decides it.
    pub quantities: Vec<QuantityRecord>,
}

/// A figure that decides a hypothesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct QuantityRecord {
    /// Which, of what.
    pub what: String,
    /// Of how many blocks.
    pub blocks: usize,
    /// The median of the blocks; none where something is missing.
    pub median: Option<f64>,
    /// Where its interval begins.
    pub low: Option<f64>,
    /// Where it ends.
    pub high: Option<f64>,
    /// What is missing: a point that was not measured, or may not be believed.
    pub missing: Option<String>,
}

/// What may be said of a hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Whole intervals lie where it says.
    Confirmed,
    /// Whole intervals lie where it must not be.
    Refuted,
    /// Neither, or something is missing.
    Open,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Confirmed, Self::Refuted, Self::Open];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Open => "open",
        }
    }
}

/// A pair that was measured under the same load: two designs, or one that was measured twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Compared {
    /// One of the pair.
    pub first: Key,
    /// The other.
    pub second: Key,
    /// Why the two are not compared; then there are no ratios.
    pub not_compared: Option<NotCompared>,
    /// For each figure that both have: what the first has, in times of the second.
    pub ratios: Vec<Ratio>,
}

/// Why two are not compared: what one of them is, or in what they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCompared {
    /// Not measured in every block.
    Incomplete,
    /// At a point, the checker found an answer that is not right.
    Invalid,
    /// At a point, the checker came to no verdict.
    NotJudged,
    /// At a point, nothing was checked: with `--no-check`.
    NotChecked,
    /// At a point, too little of the rate was achieved.
    Saturated,
    /// At a point, too many requests were refused or failed.
    RefusedOrFailed,
    /// At a point, too few requests were completed for a rate.
    FewRequests,
    /// What was answered does not survive the same failures.
    Durability,
    /// They began from bases of different graphs.
    Base,
}

impl NotCompared {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Incomplete,
        Self::Invalid,
        Self::NotJudged,
        Self::NotChecked,
        Self::Saturated,
        Self::RefusedOrFailed,
        Self::FewRequests,
        Self::Durability,
        Self::Base,
    ];

    /// The word for it in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Invalid => "invalid",
            Self::NotJudged => "not_judged",
            Self::NotChecked => "not_checked",
            Self::Saturated => "saturated",
            Self::RefusedOrFailed => "refused_or_failed",
            Self::FewRequests => "few_requests",
            Self::Durability => "durability",
            Self::Base => "base",
        }
    }
}

/// The ratios of one figure, one of each block in which both were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Ratio {
    /// The figure: `per_second`, `server_us_per_operation`, `p50_us` or `first_answer_seconds`.
    pub figure: String,
    /// How many ratios there are.
    pub blocks: usize,
    /// Their median.
    pub median: f64,
    /// Where the interval of the median begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// What may be said.
    pub order: Order,
}

/// What was asked for. `--resume` goes on with the same only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct PlanRecord {
    /// The profile's name.
    pub profile: String,
    /// Of the order of points, and of the requests.
    pub seed: u64,
    /// How often each point is measured.
    pub blocks: u32,
    /// How long each window is, in seconds.
    pub window_seconds: f64,
    /// How long each warm-up is, in seconds.
    pub warmup_seconds: f64,
    /// Whether answers are recorded and checked.
    pub checks: bool,
    /// How many points there are, those of all blocks together.
    pub points: usize,
    /// The SHA-256 of the list of points, in hexadecimal digits.
    pub digest: String,
}

impl PlanRecord {
    /// In what it differs from another: what it is here, and there.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let facts = |plan: &Self| {
            let Self {
                profile, seed, blocks, window_seconds, warmup_seconds, checks, points, ..
            } = plan.clone();
            [
                ("profile", profile),
                ("seed", seed.to_string()),
                ("blocks", blocks.to_string()),
                ("seconds", window_seconds.to_string()),
                ("seconds of warm-up", warmup_seconds.to_string()),
                ("checks", checks.to_string()),
                ("points", points.to_string()),
            ]
        };
        let both = facts(self).into_iter().zip(facts(other));
        let mut differences: Vec<String> = both
            .filter(|(here, there)| here != there)
            .map(|((name, here), (_, there))| format!("{name} {here}, not {there}"))
            .collect();
        if differences.is_empty() && self.digest != other.digest {
            let what = "other designs, workloads, sizes, rates, writers, or another graph";
            differences.push(what.to_owned());
        }
        differences
    }
}

/// A prepared database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct BaseRecord {
    /// What it is called in points.
    pub name: String,
    /// Where it is.
    pub database: DatabaseKind,
    /// How the graph is kept.
    pub storage: String,
    /// Jobs.
    pub jobs: u64,
    /// The graph's version.
    pub version: u64,
    /// The graph's digest: the same for all storages.
    pub digest: String,
    /// The size of the file, or of the database, in bytes.
    pub bytes: u64,
    /// The commands that make it again: as `graphs.db` where they are run, on a server as the empty
    /// database whose URL is in `DATABASE_URL`. None of an empty graph: a load creates it.
    pub commands: Vec<String>,
}

impl BaseRecord {
    /// Its graph: see [`family_of`].
    #[must_use]
    pub fn family(&self) -> &str {
        family_of(&self.name)
    }
}

/// The graph of the base of that name, by shape, size and past. All bases of a family have one
/// digest, in whatever storage.
#[must_use]
pub fn family_of(base: &str) -> &str {
    base.rsplit_once('/').map_or(base, |(family, _)| family)
}

/// One measurement of one design.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Point {
    /// Its place in the list of points.
    pub number: usize,
    /// In which repetition.
    pub block: u32,
    /// What is measured.
    pub key: Key,
    /// The base it began from; none for a floor.
    pub base: Option<String>,
    /// What a commit that was answered survives: points of different classes are never compared.
    pub durability: String,
    /// The command that drives the same load, but for the address.
    pub command: String,
    /// When it began, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// What was found.
    pub outcome: Outcome,
}

/// Which points are repetitions of each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Key {
    /// The workload's name.
    pub workload: String,
    /// The shape of the graph, or the file that it is from.
    pub shape: String,
    /// Jobs in the graph at the beginning.
    pub size: u64,
    /// Requests a second; none where each client sends its next when the last was answered.
    pub rate: Option<u64>,
    /// Clients, each with one connection.
    pub writers: u32,
    /// Server processes.
    pub nodes: u32,
    /// Database and lock, and how they are used.
    pub setting: Setting,
    /// The design; `echo` and `null` are floors.
    pub design: String,
    /// Whether it is the second measurement of its design in each block: those are compared with
    /// the first ones, to see what the method says of equal designs.
    pub again: bool,
}

impl Point {
    /// Why there are no figures, or no verdict on them.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Failed { why } => Some(why),
            Outcome::Measured(found) => match &found.verdict {
                CheckVerdict::Failed { why } => Some(why),
                _ => None,
            },
        }
    }
}

impl Key {
    /// Whether it is no design, but what no design can be quicker than.
    #[must_use]
    pub fn is_floor(&self) -> bool {
        matches!(self.design.as_str(), "echo" | "null")
    }

    /// Whether the time to a server's first answer is measured, and nothing is asked after it.
    #[must_use]
    pub fn is_start(&self) -> bool {
        workloads::named(&self.workload).is_some_and(|known| known.measures == Measures::Start)
    }

    /// How many requests are sent, if so many are, however long they take: then there is no rate.
    #[must_use]
    pub fn requests(&self) -> Option<u64> {
        workloads::named(&self.workload)?.requests
    }

    /// Whether it is about many graphs, which were empty.
    #[must_use]
    pub fn has_many_graphs(&self) -> bool {
        workloads::named(&self.workload).is_some_and(|known| known.past == Past::ManyGraphs)
    }

    /// Whether something happened in the middle of the window, of which there is a time-line.
    #[must_use]
    pub fn has_event(&self) -> bool {
        workloads::named(&self.workload).is_some_and(|known| known.event.is_some())
            && !self.is_floor()
    }

    /// Whether there is something to check: the answers of a design that was driven.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.is_floor() && !self.is_start()
    }

    /// What is asked, and of how large a graph, in a line.
    #[must_use]
    pub fn title(&self) -> String {
        let Self { workload, shape, writers, nodes, .. } = self;
        let rate = self.rate.map_or_else(String::new, |rate| format!(", {rate} requests a second"));
        let (jobs, setting) = (self.jobs(), self.setting.title());
        let several = |count: &u32| if *count == 1 { "" } else { "s" };
        format!(
            "{workload}: {shape}{jobs}, {writers} client{}, {nodes} node{}{rate}{setting}",
            several(writers),
            several(nodes)
        )
    }

    /// The size of the graph as the end of a title; nothing where it is not known.
    #[must_use]
    pub fn jobs(&self) -> String {
        if self.size > 0 { format!(", {} jobs", self.size) } else { String::new() }
    }

    /// The same load for another design.
    #[must_use]
    pub fn of(&self, design: &str) -> Self {
        Self { design: design.to_owned(), again: false, ..self.clone() }
    }

    /// The design's name, and for its second measurement a number.
    #[must_use]
    pub fn label(&self) -> String {
        if self.again { format!("{} 2", self.design) } else { self.design.clone() }
    }
}

/// What was found at a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Figures, and what the checker says of the answers.
    Measured(Box<Measurement>),
    /// There are none: a server died, or could not be started.
    Failed {
        /// Why.
        why: String,
    },
}

/// The figures of a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Measurement {
    /// What the checker says.
    pub verdict: CheckVerdict,
    /// What was counted and timed.
    pub raw: Raw,
    /// What is made of it.
    pub figures: Figures,
    /// The largest memory of each server process, in bytes.
    pub peak_memory_bytes: Vec<u64>,
    /// What the host took from this machine while this was measured, in seconds of all processors.
    pub steal_seconds: f64,
    /// From starting the process to the first answered read, in seconds, of each node.
    pub start_seconds: Vec<f64>,
    /// The database afterwards; once a key.
    pub disk: Option<Disk>,
    /// Of a window in which something happened.
    pub timeline: Option<TimeLine>,
}

/// What the database takes, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Disk {
    /// The file, its write-ahead log apart; on a server, the database.
    pub file_bytes: u64,
    /// The write-ahead log; none on a server, whose log is of all its databases.
    pub wal_bytes: Option<u64>,
    /// The same after `VACUUM`, on a server `VACUUM FULL`.
    pub vacuumed_bytes: u64,
    /// By part: `rows`, `indexes`, `log`, `snapshots`, `keys`, `other`.
    pub parts: BTreeMap<String, u64>,
}

/// What the checker says of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckVerdict {
    /// All answers are right.
    Valid {
        /// What was checked, as the checker counts it.
        summary: serde_json::Value,
    },
    /// They are not, or not shown to be.
    Invalid {
        /// The kind of the first anomaly.
        kind: String,
        /// The anomaly, as for a person.
        finding: String,
    },
    /// There is nothing to check: of floors and starts, and in a run that checks nothing.
    NotApplicable,
    /// The checker could not judge.
    Failed {
        /// Why.
        why: String,
    },
}

/// An outcome as it is written: one member of these.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct OutcomeMembers {
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Box<Measurement>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Why>,
}

/// A verdict as it is written: one member of these.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct VerdictMembers {
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<Valid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalid: Option<Invalid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_applicable: Option<Nothing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Why>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct Why {
    why: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct Valid {
    summary: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct Invalid {
    kind: String,
    finding: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct Nothing {}

objects_both_ways!(OutcomeMembers, VerdictMembers, Why, Valid, Invalid, Nothing);

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let members = match self.clone() {
            Self::Measured(measured) => OutcomeMembers { measured: Some(measured), failed: None },
            Self::Failed { why } => OutcomeMembers { measured: None, failed: Some(Why { why }) },
        };
        Serialize::serialize(&members, to)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match <OutcomeMembers as Deserialize>::deserialize(from)? {
            OutcomeMembers { measured: Some(measured), failed: None } => {
                Ok(Self::Measured(measured))
            }
            OutcomeMembers { measured: None, failed: Some(Why { why }) } => {
                Ok(Self::Failed { why })
            }
            _ => Err(D::Error::custom("an outcome is either `measured` or `failed`")),
        }
    }
}

impl Serialize for CheckVerdict {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let none = VerdictMembers::default();
        let members = match self.clone() {
            Self::Valid { summary } => VerdictMembers { valid: Some(Valid { summary }), ..none },
            Self::Invalid { kind, finding } => {
                VerdictMembers { invalid: Some(Invalid { kind, finding }), ..none }
            }
            Self::NotApplicable => VerdictMembers { not_applicable: Some(Nothing {}), ..none },
            Self::Failed { why } => VerdictMembers { failed: Some(Why { why }), ..none },
        };
        Serialize::serialize(&members, to)
    }
}

impl<'de> Deserialize<'de> for CheckVerdict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let VerdictMembers { valid, invalid, not_applicable, failed } =
            <VerdictMembers as Deserialize>::deserialize(from)?;
        match (valid, invalid, not_applicable, failed) {
            (Some(Valid { summary }), None, None, None) => Ok(Self::Valid { summary }),
            (None, Some(Invalid { kind, finding }), None, None) => {
                Ok(Self::Invalid { kind, finding })
            }
            (None, None, Some(Nothing {}), None) => Ok(Self::NotApplicable),
            (None, None, None, Some(Why { why })) => Ok(Self::Failed { why }),
            _ => Err(D::Error::custom(
                "a verdict is one of `valid`, `invalid`, `not_applicable` and `failed`",
            )),
        }
    }
}

objects_both_ways!(
    Results,
    HypothesisRecord,
    QuantityRecord,
    Compared,
    Ratio,
    PlanRecord,
    BaseRecord,
    Point,
    Key,
    Measurement,
    Disk,
);

impl Results {
    /// Takes out all other points, to be measured again.
    pub fn retain(&mut self, is_kept: impl Fn(&Point) -> bool) {
        (self.comparisons, self.hypotheses) = (None, None);
        self.points.retain(is_kept);
        self.complete = self.points.len() == self.plan.points;
    }

    /// Adds a point, and the base that it began from.
    pub fn add(&mut self, point: Point, base: Option<BaseRecord>) {
        if let Some(base) = base
            && !self.bases.contains(&base)
        {
            // One that was made anew takes the place of the former.
            self.bases.retain(|known| known.name != base.name);
            self.bases.push(base);
        }
        (self.comparisons, self.hypotheses) = (None, None);
        self.points.push(point);
        self.points.sort_by_key(|point| point.number);
        self.complete = self.points.len() == self.plan.points;
    }
}

impl Measurement {
    /// What the slowest server took for its first answer, in seconds.
    #[must_use]
    pub fn first_answer_seconds(&self) -> Option<f64> {
        self.start_seconds.iter().copied().reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::made_up;
    use super::{CheckVerdict, Outcome, PlanRecord};

    #[test]
    fn an_outcome_and_a_verdict_are_one_of_those_that_there_are() {
        let found = || serde_json::to_value(Outcome::Measured(made_up::measurement(1.0).into()));
        let measured = found().unwrap()["measured"].clone();
        let failed = json!({"why": "it died"});
        let is_outcome = |value: Value| serde_json::from_value::<Outcome>(value).is_ok();
        assert!(is_outcome(json!({"measured": measured})) && is_outcome(json!({"failed": failed})));
        assert!(!is_outcome(json!({"measured": measured, "failed": failed})));
        assert!(!is_outcome(json!({})));
        let verdicts = [
            ("valid", json!({"summary": {}})),
            ("invalid", json!({"kind": "stale-answer", "finding": ""})),
            ("not_applicable", json!({})),
            ("failed", failed),
        ];
        let is_verdict = |value: Value| serde_json::from_value::<CheckVerdict>(value).is_ok();
        assert!(!is_verdict(json!({})));
        for (name, value) in &verdicts {
            assert!(is_verdict(json!({*name: value})), "{name}");
            for (other, more) in verdicts.iter().filter(|(other, _)| other != name) {
                assert!(!is_verdict(json!({*name: value, *other: more})), "{name} {other}");
            }
        }
    }

    #[test]
    fn each_difference_of_two_plans_is_told() {
        let plan = made_up::twice(&[1.0]).plan;
        assert_eq!(plan.differences(&plan), [""; 0]);
        let other = PlanRecord { seed: 2, blocks: 3, ..plan.clone() };
        assert_eq!(other.differences(&plan), ["seed 2, not 1", "blocks 3, not 1"]);
        let other = PlanRecord { digest: "another".to_owned(), ..plan.clone() };
        assert!(other.differences(&plan)[0].contains("designs"));
    }
}
