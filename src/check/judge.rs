//! The replay: every change in the order of versions, through the naive model, and at each version
//! all that was answered at it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::answer;
use super::base::Base;
use super::changeset::{self, Accepted, Rejection, decide};
use super::cycle;
use super::existence::{self, Existence};
use super::facts::{Fact, canonical_change, hex, next_chain};
use super::final_log::{Log, LoggedChange, Rows};
use super::finding::{Finding, Kind, Summary, Verdict};
use super::freeze::{self, Freezes};
use super::headers::{self, Wrong};
use super::history::{Call, End, Histories, is_problem};
use super::json;
use super::model::State;
use super::real_time::{Floors, check_sessions};
use super::recorded_request::{Request, Route, Text};
use super::replays::Replays;
use super::unknown::{Unknowns, settle};

type Found = Box<Finding>;

/// What is known of the graph beside the histories.
#[derive(Default)]
pub struct Known {
    /// The graph that the histories begin with. It is taken by the replay.
    pub base: Option<Base>,
    /// The change log that the graph was left with.
    pub log: Option<Log>,
    /// The rows that it was left with.
    pub rows: Option<Rows>,
    /// Whether somebody froze the graph while the histories were recorded.
    pub frozen: bool,
}

/// Judges histories of one graph.
///
/// O(n log n) in the number of requests, but for what plans and digests cost by their size.
#[must_use]
pub fn judge(histories: &Histories, replays: &Replays, known: Known) -> Verdict {
    let Known { base, log, rows, frozen } = known;
    match Replay::new(histories, log.as_ref(), frozen).run(base, replays, rows.as_ref()) {
        Ok(summary) => Verdict::Valid(summary),
        Err(finding) => Verdict::Found(finding),
    }
}

struct Replay<'h> {
    histories: &'h Histories,
    log: Option<&'h Log>,
    frozen: bool,
    /// The version of the base; 0 without one.
    base_version: u64,
    floors: Floors,
    existence: Existence<'h>,
    unknowns: Unknowns<'h>,
    state: State,
    chain: [u8; 32],
    /// The state's digest, once it was asked for.
    digest: Option<String>,
    /// Versions of the log that no accepted write explains, each with the unknown writes that
    /// could.
    orphans: Vec<(u64, Vec<usize>)>,
    /// What is told only if nothing worse is found.
    late: Option<Found>,
}

impl<'h> Replay<'h> {
    fn new(histories: &'h Histories, log: Option<&'h Log>, frozen: bool) -> Self {
        let existence = Existence::of(histories);
        Self {
            histories,
            log,
            frozen,
            base_version: 0,
            floors: Floors::of(histories, &existence),
            existence,
            unknowns: Unknowns::of(histories),
            state: State::default(),
            chain: [0; 32],
            digest: None,
            orphans: Vec::new(),
            late: None,
        }
    }

    fn run(
        mut self,
        base: Option<Base>,
        replays: &Replays,
        rows: Option<&Rows>,
    ) -> Result<Summary, Found> {
        let first_version = self.histories.first_version();
        if let Some(Base { state, chain }) = base {
            (self.base_version, self.state, self.chain) = (state.version, state, chain);
        }
        replays.check(self.histories)?;
        self.check_log()?;
        self.reach(first_version)?;
        let writers = self.writers(first_version)?;
        let last_version = self.last_version();
        self.check_reached(last_version)?;
        let mut rest = self.others().into_iter().peekable();
        loop {
            let version = self.state.version;
            while let Some(call) = rest.next_if(|&at| self.call(at).version() <= Some(version)) {
                // What is answered below the first version is stale, and is told as that.
                if self.call(call).version() == Some(version) {
                    self.check_other(self.call(call))?;
                }
            }
            self.check_ends_at(version);
            if version == last_version {
                break;
            }
            self.step(writers.get(&(version + 1)).copied())?;
        }
        let applied = self.unknowns_applied()?;
        self.check_unversioned()?;
        self.floors.check(self.histories)?;
        check_sessions(self.histories)?;
        Freezes::of(self.histories).check(self.histories, last_version)?;
        self.check_last_looks(last_version)?;
        if let Some(finding) = self.late.take() {
            return Err(finding);
        }
        self.check_rows(rows)?;
        Ok(Summary {
            operations: self.histories.calls.len(),
            first_version,
            last_version,
            unknown: self.unknowns.count(),
            unknown_applied: applied,
        })
    }

    fn call(&self, at: usize) -> &'h Call {
        &self.histories.calls[at]
    }

    fn found(
        &self,
        kind: Kind,
        version: u64,
        calls: &[usize],
        expected: impl Into<String>,
        why: impl Into<String>,
    ) -> Found {
        let involved = calls.iter().map(|&at| self.histories.involved(self.call(at)));
        Finding::new(kind, version, involved.collect(), expected, why)
    }

    /// The changes after the base, and none of a log that was not given.
    fn changes(&self) -> &'h [LoggedChange] {
        let changes = self.log.map_or(&[][..], |log| &log.changes);
        let first = changes.partition_point(|change| change.version <= self.base_version);
        &changes[first..]
    }

    /// Versions of the log follow one another from the first after the base on.
    fn check_log(&self) -> Result<(), Found> {
        let Some(log) = self.log else { return Ok(()) };
        let due = self.base_version + 1..;
        match self.changes().iter().zip(due).find(|(change, version)| change.version != *version) {
            None => Ok(()),
            Some((change, version)) => {
                let why = format!("{} has version {} in its place", log.name, change.version);
                Err(self.found(
                    Kind::DamagedLog,
                    version,
                    &[],
                    format!("a change of version {version}"),
                    why,
                ))
            }
        }
    }

    /// Brings the graph to where the histories begin.
    fn reach(&mut self, first_version: u64) -> Result<(), Found> {
        if first_version == self.base_version {
            return self.check_beginning();
        }
        let Some(log) = self.log else {
            let why = format!(
                "the history begins at version {first_version}, and does not tell what was before"
            );
            return Err(self.found(
                Kind::Undecided,
                first_version,
                &[],
                "the change log: --stored or --changes FILE; or the graph: --base FILE",
                why,
            ));
        };
        let steps = first_version.checked_sub(self.base_version);
        let Some(before) = steps.and_then(|steps| self.changes().get(..steps as usize)) else {
            let why = format!(
                "the history begins at version {first_version}, and {} ends at {}",
                log.name,
                self.log_ends_at()
            );
            return Err(self.found(
                Kind::DamagedLog,
                first_version,
                &[],
                "a change log that reaches further",
                why,
            ));
        };
        for change in before {
            self.apply(&change.facts)?;
            self.check_stored(change);
        }
        self.check_beginning()
    }

    /// The version that the log, if there is one, ends at.
    fn log_ends_at(&self) -> u64 {
        self.base_version + self.changes().len() as u64
    }

    /// The graph that the histories begin with keeps the rules.
    fn check_beginning(&self) -> Result<(), Found> {
        let first_version = self.state.version;
        let datasets = self.state.datasets.iter();
        let contested =
            datasets.filter(|(_, dataset)| dataset.producers.len() > 1).map(|(name, _)| name).min();
        let why = match contested {
            Some(name) => format!("`{name}` has two producers before the history begins"),
            None if cycle::any(&self.state) => {
                "jobs form a cycle before the history begins".to_owned()
            }
            None => return Ok(()),
        };
        Err(self.found(
            Kind::DamagedLog,
            first_version,
            &[],
            "a change log that keeps the rules",
            why,
        ))
    }

    /// Who made which version, as they were told.
    fn writers(&self, first_version: u64) -> Result<BTreeMap<u64, usize>, Found> {
        let mut writers: Vec<usize> = (0..self.histories.calls.len())
            .filter(|&at| self.call(at).made_its_version())
            .collect();
        writers.sort_by_key(|&at| (self.call(at).version(), self.call(at).end_ns));
        let mut by_version: BTreeMap<u64, usize> = BTreeMap::new();
        for at in writers {
            let version = self.call(at).version().unwrap_or_default();
            if version <= first_version {
                let why = format!(
                    "the history begins at version {first_version}: its writes make later ones"
                );
                return Err(self.found(
                    Kind::PhantomVersion,
                    version,
                    &[at],
                    "a version of its own",
                    why,
                ));
            }
            if let Some(other) = by_version.insert(version, at) {
                let why = "each accepted change has a version of its own";
                return Err(self.found(
                    Kind::DuplicateVersion,
                    version,
                    &[other, at],
                    "two versions",
                    why,
                ));
            }
        }
        Ok(by_version)
    }

    /// The last version that there was; without a log the last that anyone saw.
    fn last_version(&self) -> u64 {
        let seen = || {
            let answered = self.histories.calls.iter().filter_map(Call::version);
            answered.chain(self.histories.files.iter().filter_map(|file| file.final_version)).max()
        };
        self.log
            .map_or_else(|| seen().unwrap_or_default(), |_| self.log_ends_at())
            .max(self.state.version)
    }

    /// With a log, nobody saw more than what is in it.
    fn check_reached(&self, last_version: u64) -> Result<(), Found> {
        let beyond = |at: &usize| self.call(*at).version() > Some(last_version);
        let all = 0..self.histories.calls.len();
        let Some(first) =
            all.filter(beyond).min_by_key(|&at| (self.call(at).version(), self.call(at).end_ns))
        else {
            return Ok(());
        };
        let version = self.call(first).version().unwrap_or_default();
        let why = format!("the change log ends at version {last_version}");
        Err(if self.call(first).made_its_version() {
            self.found(Kind::LostWrite, version, &[first], "the accepted change in the log", why)
        } else {
            self.found(
                Kind::PhantomVersion,
                version,
                &[first],
                "an answer at a version that there was",
                why,
            )
        })
    }

    /// All that was answered at a version and did not make it, in the order of versions.
    fn others(&self) -> Vec<usize> {
        let others =
            |at: &usize| self.call(*at).version().is_some() && !self.call(*at).made_its_version();
        let mut others: Vec<usize> = (0..self.histories.calls.len()).filter(others).collect();
        others.sort_unstable_by_key(|&at| (self.call(at).version(), self.call(at).end_ns));
        others
    }

    fn apply(&mut self, facts: &[Fact]) -> Result<(), Found> {
        self.digest = None;
        let applied = self.state.apply(facts);
        applied.map_err(|why| {
            self.found(Kind::DamagedLog, self.state.version, &[], "a change that can follow", why)
        })
    }

    /// Goes one version on.
    fn step(&mut self, writer: Option<usize>) -> Result<(), Found> {
        let logged =
            self.log.map(|_| &self.changes()[(self.state.version - self.base_version) as usize]);
        let facts = match (writer, logged) {
            (Some(writer), logged) => self.accepted(writer, logged)?,
            (None, Some(logged)) => self.orphan(logged)?,
            (None, None) => self.unlogged()?,
        };
        self.apply(&facts)?;
        if let Some(logged) = logged {
            self.check_stored(logged);
        }
        writer.map_or(Ok(()), |writer| self.check_headers(self.call(writer)))
    }

    /// What the call was answered beside its verdict, at the version that the state has.
    fn check_headers(&self, call: &Call) -> Result<(), Found> {
        let checked = headers::check(&self.state, &self.histories.graph, call);
        checked.map_err(|Wrong { kind, expected }| {
            self.wrong(call, kind, expected, "that is what belongs to an answer like this at")
        })
    }

    /// What an accepted write did, if it could.
    fn accepted(&self, writer: usize, logged: Option<&LoggedChange>) -> Result<Vec<Fact>, Found> {
        self.check_exists(self.call(writer))?;
        let version = self.state.version + 1;
        let decided = self.decide(self.call(writer));
        let Accepted { facts, created } = decided.map_err(|rejection| {
            let why = format!("that is what the rules say at version {}", self.state.version);
            self.found(
                Kind::IllegalAccept,
                version,
                &[writer],
                format!("rejected: {}", told(&rejection)),
                why,
            )
        })?;
        if facts.is_empty() {
            let why = format!("it changes nothing in the graph of version {}", self.state.version);
            return Err(self.found(Kind::WrongChanged, version, &[writer], "changed: false", why));
        }
        if let Some(logged) = logged.filter(|logged| logged.facts != facts) {
            let why = format!(
                "the change log has {} in its place",
                canonical_change(&logged.facts, version)
            );
            let expected = canonical_change(&facts, version);
            return Err(self.found(Kind::LostWrite, version, &[writer], expected, why));
        }
        self.check_created(writer, created)?;
        Ok(facts)
    }

    fn check_created(&self, at: usize, expected: bool) -> Result<(), Found> {
        match self.call(at).end {
            End::Accepted { version, created, .. } if created != expected => {
                let why = if expected {
                    "what it names was not there"
                } else {
                    "what it names was there"
                };
                Err(self.found(
                    Kind::WrongCreated,
                    version,
                    &[at],
                    format!("created: {expected}"),
                    why,
                ))
            }
            _ => Ok(()),
        }
    }

    /// A change of the log that no accepted write made: an unknown one may have.
    fn orphan(&mut self, logged: &LoggedChange) -> Result<Vec<Fact>, Found> {
        let version = logged.version;
        let could = |at: &usize| {
            let decided = || self.decide(self.call(*at)).map(|accepted| accepted.facts);
            self.floors.allow_write(*at, version)
                && self.check_exists(self.call(*at)).is_ok()
                && decided().is_ok_and(|facts| facts == logged.facts)
        };
        let candidates = self.unknowns.about(&logged.facts).filter(could);
        // Of those that have one key one is applied at most.
        let slots: BTreeSet<usize> = candidates.map(|at| self.call(at).slot).collect();
        let candidates: Vec<usize> = slots.into_iter().collect();
        if !candidates.is_empty() {
            self.orphans.push((version, candidates));
            return Ok(logged.facts.clone());
        }
        let change = canonical_change(&logged.facts, version);
        let told = self.unknowns.told_otherwise(self.histories, &logged.facts).find(could);
        Err(match told {
            Some(at) => {
                let why = format!("the change log has {change}");
                self.found(
                    Kind::RefusedButApplied,
                    version,
                    &[at],
                    "nothing of it in the change log",
                    why,
                )
            }
            None => {
                let why = "no accepted write made this version, and no write of unknown outcome could have";
                self.found(
                    Kind::PhantomChange,
                    version,
                    &[],
                    format!("no such change: {change}"),
                    why,
                )
            }
        })
    }

    /// Without a log: a version that no accepted write made is an unknown one's, if only one fits.
    fn unlogged(&mut self) -> Result<Vec<Fact>, Found> {
        let version = self.state.version + 1;
        let mut fitting: Vec<(usize, Vec<Fact>)> = Vec::new();
        let calls = &self.histories.calls;
        for at in self.unknowns.free(calls).filter(|&at| self.floors.allow_write(at, version)) {
            if self.check_exists(self.call(at)).is_err() {
                continue;
            }
            match self.decide(self.call(at)) {
                Ok(accepted) if !accepted.facts.is_empty() => fitting.push((at, accepted.facts)),
                _ => {}
            }
        }
        let Some((first, facts)) = fitting.first() else {
            let why = "no accepted write made this version, no write of unknown outcome could have, and there are later ones";
            return Err(self.found(
                Kind::VersionGap,
                version,
                &[],
                format!("a write that made version {version}"),
                why,
            ));
        };
        let asked = |at: usize| &self.call(at).asked.text;
        // Which of two that ask for the same was applied makes no difference: whatever the one fits
        // later, the other does.
        if let Some((other, _)) = fitting.iter().find(|(at, _)| asked(*at) != asked(*first)) {
            let why =
                "several writes of unknown outcome could have made this version, two of them these";
            let expected = "the change log: --stored or --changes FILE";
            return Err(self.found(Kind::Undecided, version, &[*first, *other], expected, why));
        }
        self.unknowns.take(&self.histories.calls[*first]);
        Ok(facts.clone())
    }

    /// How many unknown writes were applied.
    fn unknowns_applied(&self) -> Result<usize, Found> {
        if self.log.is_none() {
            return Ok(self.unknowns.taken());
        }
        match settle(&self.orphans) {
            Ok(()) => Ok(self.orphans.len()),
            Err(version) => {
                let candidates = self.orphans.iter().find(|(orphan, _)| *orphan == version);
                let candidates = candidates.map_or(&[][..], |(_, candidates)| candidates);
                let why = "each write is applied once, and there are fewer writes of unknown outcome than changes of this kind";
                Err(self.found(
                    Kind::PhantomChange,
                    version,
                    candidates,
                    "a write for each change",
                    why,
                ))
            }
        }
    }

    /// A read, a rejection, or a write that changed nothing, at the version that the state has.
    fn check_other(&mut self, call: &Call) -> Result<(), Found> {
        if let Some(least) = call.asked.at_least.filter(|least| *least > self.state.version) {
            let expected = format!("an answer at version {least} or later, as was asked for");
            return Err(self.wrong(call, Kind::StaleAnswer, expected, "it was answered at"));
        }
        match (&call.asked.request, &call.end) {
            (Request::CreateGraph, End::Accepted { created: true, .. }) => {
                self.check_creation(call)?;
            }
            _ => self.check_exists(call).and_then(|()| self.check_verdict(call))?,
        }
        self.check_headers(call)
    }

    /// What is answered at the version of a deletion was asked when the graph was there again.
    fn check_exists(&self, call: &Call) -> Result<(), Found> {
        if !self.state.is_deleted || self.existence.may_be_back(self.state.version, call) {
            return Ok(());
        }
        let why = "nobody created the graph again that was deleted with";
        Err(self.wrong(call, Kind::AnswerAfterDeletion, "graph_not_found", why))
    }

    /// Who is told to have created the graph found it deleted, or the history begins with that.
    fn check_creation(&self, call: &Call) -> Result<(), Found> {
        let version = self.state.version;
        let is_new = self.state.is_deleted || version == self.histories.first_version();
        let changes = matches!(call.end, End::Accepted { changed: true, .. });
        if !is_new || self.existence.is_created_twice(version, call) {
            return Err(self.wrong(call, Kind::WrongCreated, "created: false", "it was there at"));
        }
        if !changes {
            return Err(self.wrong(call, Kind::WrongChanged, "changed: true", "it was new at"));
        }
        Ok(())
    }

    /// What the rules say of a write on the state.
    fn decide(&self, call: &Call) -> Result<Accepted, Box<Rejection>> {
        match &call.asked.request {
            Request::Write { route: Route::Create, steps } => changeset::create(&self.state, steps),
            Request::Write { steps, .. } => decide(&self.state, steps),
            Request::DeleteGraph => {
                Ok(Accepted { facts: vec![Fact::GraphDeleted], created: false })
            }
            // It is there.
            _ => Ok(Accepted { facts: Vec::new(), created: false }),
        }
    }

    fn check_verdict(&mut self, call: &Call) -> Result<(), Found> {
        match (&call.asked.request, &call.end) {
            (_, End::Accepted { changed: true, .. }) => {
                Err(self.wrong(call, Kind::WrongChanged, "changed: false", "it was there at"))
            }
            (_, End::Accepted { created, .. }) => self.check_unchanged(call, *created),
            (request, End::Rejected { problem, .. }) if request.writes() => match self.decide(call)
            {
                Ok(accepted) if self.is_too_long(&accepted, problem) => Ok(()),
                Ok(_) => {
                    Err(self.wrong(call, Kind::WrongRejection, "accepted", "the rules allow it at"))
                }
                Err(rejection) => self.check_problem(call, problem, &rejection),
            },
            (request, End::Rejected { problem, .. }) => {
                self.check_unanswered(call, request, problem)
            }
            (request, End::Answered { answer, .. }) => self.check_answer(call, request, answer),
            (Request::Job { name, if_none_match }, End::NotModified { .. }) => {
                let expected = match self.state.jobs.get(name).map(|job| job.version) {
                    version if version == *if_none_match => return Ok(()),
                    Some(version) => format!("the job, which is of version {version}"),
                    None => "job_not_found".to_owned(),
                };
                Err(self.wrong(call, Kind::WrongAnswer, expected, "that is the graph at"))
            }
            _ => Ok(()),
        }
    }

    /// `why` goes before the version.
    fn wrong(&self, call: &Call, kind: Kind, expected: impl Into<String>, why: &str) -> Found {
        let version = self.state.version;
        let involved = vec![self.histories.involved(call)];
        Finding::new(kind, version, involved, expected, format!("{why} version {version}"))
    }

    fn check_unchanged(&self, call: &Call, created: bool) -> Result<(), Found> {
        match self.decide(call) {
            Err(rejection) => {
                let expected = format!("rejected: {}", told(&rejection));
                Err(self.wrong(
                    call,
                    Kind::IllegalAccept,
                    expected,
                    "that is what the rules say at",
                ))
            }
            Ok(accepted) if !accepted.facts.is_empty() => {
                let expected = format!("changed: true, and version {}", self.state.version + 1);
                Err(self.wrong(
                    call,
                    Kind::WrongChanged,
                    expected,
                    "it changes something in the graph of",
                ))
            }
            Ok(_) if created => {
                Err(self.wrong(call, Kind::WrongCreated, "created: false", "nothing came to be at"))
            }
            Ok(_) => Ok(()),
        }
    }

    fn check_unanswered(
        &self,
        call: &Call,
        request: &Request,
        problem: &Text,
    ) -> Result<(), Found> {
        if self.is_too_large(request, problem) {
            return Ok(());
        }
        match answer::expected(&self.state, "", request) {
            Ok(answer) => Err(self.wrong(
                call,
                Kind::WrongRejection,
                format!("answered: {answer}"),
                "there is an answer at",
            )),
            Err(rejection) => self.check_problem(call, problem, &rejection),
        }
    }

    fn check_answer(&mut self, call: &Call, request: &Request, answer: &Text) -> Result<(), Found> {
        if let Request::Job { name, if_none_match: Some(version) } = request
            && self.state.jobs.get(name).map(|job| job.version) == Some(*version)
        {
            return Err(self.wrong(
                call,
                Kind::WrongAnswer,
                "not modified",
                "the job has the version that the client has at",
            ));
        }
        let digest = if matches!(request, Request::Digest) {
            self.digest().to_owned()
        } else {
            String::new()
        };
        if answer::is_right(&self.state, &self.histories.graph, &digest, request, answer) {
            return Ok(());
        }
        let expected = match answer::expected(&self.state, &digest, request) {
            Ok(answer) => answer,
            Err(rejection) => format!("rejected: {}", told(&rejection)),
        };
        Err(self.wrong(call, Kind::WrongAnswer, expected, "that is the graph at"))
    }

    /// The whole problem, but for its prose.
    fn check_problem(
        &self,
        call: &Call,
        problem: &Text,
        expected: &Rejection,
    ) -> Result<(), Found> {
        let version = self.state.version;
        let decisive =
            |name: &str| expected.members.contains_key(name) || matches!(name, "graph" | "version");
        let given = Value::from(json::members(problem, decisive).unwrap_or_default());
        let decided =
            |field: &str, value: Value| given.get(field).is_none_or(|given| *given == value);
        let same_place = decided("graph", self.histories.graph.as_str().into())
            && decided("version", version.into());
        if same_place && expected.is_told_by(&given) {
            return Ok(());
        }
        let why = format!(
            "that is what the rules say at version {version} of graph `{}`",
            self.histories.graph
        );
        let involved = vec![self.histories.involved(call)];
        Err(Finding::new(
            Kind::WrongRejection,
            version,
            involved,
            format!("rejected: {}", told(expected)),
            why,
        ))
    }

    /// A plan may be refused for its size, if it has that size.
    fn is_too_large(&self, request: &Request, problem: &Text) -> bool {
        let Request::Plan { datasets, jobs, stop_at } = request else { return false };
        let Some(limit) = limit_in(problem) else { return false };
        answer::plan(&self.state, datasets, jobs, stop_at)
            .is_ok_and(|plan| plan.jobs as u64 > limit)
    }

    /// A change may be refused for its length, if it has that length.
    fn is_too_long(&self, accepted: &Accepted, problem: &str) -> bool {
        limit_in(problem).is_some_and(|limit| {
            canonical_change(&accepted.facts, self.state.version + 1).len() as u64 > limit
        })
    }

    fn digest(&mut self) -> &str {
        self.digest.get_or_insert_with(|| self.state.digest())
    }

    /// What was answered without a version.
    fn check_unversioned(&self) -> Result<(), Found> {
        for (at, call) in self.histories.calls.iter().enumerate() {
            let checked = self.check_unversioned_verdict(at, call);
            checked.map_err(|(kind, expected, why)| {
                let involved = vec![self.histories.involved(call)];
                Finding::new(kind, None, involved, expected, why)
            })?;
            if call.version().is_none() && matches!(call.end, End::Rejected { .. }) {
                headers::check(&self.state, &self.histories.graph, call).map_err(
                    |Wrong { kind, expected }| {
                        let involved = vec![self.histories.involved(call)];
                        let why = "no version stands in the answer";
                        Finding::new(kind, None, involved, expected, why)
                    },
                )?;
            }
        }
        Ok(())
    }

    /// That a body is too large says nothing about the graph, and that it is frozen is held against
    /// the other calls (see [`Freezes`]); all else is decided at a version.
    fn check_unversioned_verdict(
        &self,
        at: usize,
        call: &Call,
    ) -> Result<(), (Kind, &'static str, &'static str)> {
        let writes = call.asked.request.writes();
        match &call.end {
            End::Undocumented { .. } => Err((
                Kind::UndocumentedAnswer,
                "an answer that is documented",
                "the driver knew of none such",
            )),
            End::Rejected { version: None, problem } if is_problem(problem, "too_large") => {
                // What is recorded of a request holds its whole body.
                let longest = if call.asked.request.has_body() { call.asked.text.len() } else { 0 };
                match limit_in(problem) {
                    Some(limit) if (longest as u64) > limit => Ok(()),
                    Some(_) => Err((
                        Kind::WrongRejection,
                        "a body of that size to be taken",
                        "the body is not larger than the limit that the problem names",
                    )),
                    None => Err((
                        Kind::WrongRejection,
                        "a problem that names the limit",
                        "without a limit nothing can be too large",
                    )),
                }
            }
            End::Rejected { version: None, problem } if writes && is_problem(problem, "frozen") => {
                if !self.frozen {
                    return Err((
                        Kind::WrongRejection,
                        "a verdict at a version",
                        "nobody is known to have frozen the graph; if somebody did, say --frozen, \
                         or show with --stored that it still is",
                    ));
                }
                if freeze::is_right(problem, &self.histories.graph) {
                    return Ok(());
                }
                Err((
                    Kind::WrongRejection,
                    "a problem with status 409, the graph, and where it moved to",
                    "that is what belongs to a graph that is frozen",
                ))
            }
            // Held against the other calls with its key, see [`Replays`].
            End::Rejected { version: None, problem }
                if is_problem(problem, "idempotency_key_reused") && call.asked.key.is_some() =>
            {
                Ok(())
            }
            End::Rejected { version: None, problem }
                if is_problem(problem, "graph_not_found")
                    && !matches!(call.asked.request, Request::CreateGraph) =>
            {
                if !self.existence.may_be_gone(call, self.floors.place(at)) {
                    return Err((
                        Kind::WrongRejection,
                        "a verdict at a version",
                        "nobody had deleted the graph",
                    ));
                }
                if existence::is_right(problem, &self.histories.graph) {
                    return Ok(());
                }
                Err((
                    Kind::WrongRejection,
                    "a problem with status 404 and the graph's name",
                    "that is what belongs to a graph that is not there",
                ))
            }
            End::Rejected { version: None, .. } => Err((
                Kind::WrongRejection,
                "a verdict at a version",
                "all else that is decided is decided on the graph",
            )),
            End::NotServed { why, .. } if !is_refusal(call, why) => Err((
                Kind::WrongRejection,
                "a problem of a service that cannot serve now",
                "what is refused was not looked at: its problem has status 503, outcome \
                 not_applied, and waits for no version that was not asked for",
            )),
            End::Unknown { why } if !writes && is_problem(why, "outcome_unknown") => Err((
                Kind::WrongAnswer,
                "an answer, or a refusal",
                "a read changes nothing: its outcome is never unknown",
            )),
            _ => Ok(()),
        }
    }

    /// Remembers a digest at the end of a file that is not the state's.
    fn check_ends_at(&mut self, version: u64) {
        let histories = self.histories;
        let ends = |file: &&super::history::FileEnds| file.final_version == Some(version);
        for file in histories.files.iter().filter(ends) {
            let digest = self.digest().to_owned();
            if file.final_digest.as_ref() != Some(&digest) {
                let told = file.final_digest.as_deref().unwrap_or("nothing");
                let why = format!(
                    "that is the digest of the replay; {}:{} says {told}",
                    file.name, file.lines
                );
                self.keep(Finding::new(Kind::FinalDigest, version, Vec::new(), digest, why));
            }
        }
    }

    fn keep(&mut self, finding: Found) {
        self.late.get_or_insert(finding);
    }

    /// The version at the end of a file is not below what was answered before, and one that there
    /// was.
    fn check_last_looks(&self, last_version: u64) -> Result<(), Found> {
        for (number, file) in self.histories.files.iter().enumerate() {
            let Some(version) = file.final_version else { continue };
            let of_file =
                (0..self.histories.calls.len()).filter(|&at| self.call(at).file == number);
            let newest = of_file.max_by_key(|&at| self.call(at).version());
            let newest = newest.filter(|&at| self.call(at).version() > Some(version));
            if newest.is_some() || version > last_version || version < file.initial_version {
                let calls: Vec<usize> = newest.into_iter().collect();
                let least =
                    newest.and_then(|at| self.call(at).version()).unwrap_or(file.initial_version);
                let why = format!(
                    "{}:{} says that the graph ended at version {version}",
                    file.name, file.lines
                );
                let expected = format!("a version from {least} to {last_version}");
                return Err(self.found(Kind::FinalVersion, version, &calls, expected, why));
            }
        }
        Ok(())
    }

    /// Remembers a row of the stored log that is not what the change, which has just been applied,
    /// must be stored as.
    fn check_stored(&mut self, logged: &LoggedChange) {
        let Some(stored) = &logged.stored else { return };
        let version = logged.version;
        let text = canonical_change(&logged.facts, version);
        self.chain = next_chain(self.chain, &text);
        if *stored.text != *text {
            let why = format!("the stored text is {}", stored.text);
            self.keep(Finding::new(Kind::LogDiffers, version, Vec::new(), text, why));
        } else if stored.chain != self.chain {
            let why = format!("the stored chain is {}", hex(&stored.chain));
            self.keep(Finding::new(Kind::ChainBroken, version, Vec::new(), hex(&self.chain), why));
        }
    }

    /// The stored rows are the state that the replay ended with.
    fn check_rows(&self, rows: Option<&Rows>) -> Result<(), Found> {
        let Some(rows) = rows else { return Ok(()) };
        let (state, stored) = (&self.state, &rows.state);
        let differs = |expected: String, why: String| {
            Err(self.found(Kind::RowsDiffer, state.version, &[], expected, why))
        };
        if stored.version != state.version || rows.chain != self.chain {
            let why = format!(
                "the graph's row has version {} and chain {}",
                stored.version,
                hex(&rows.chain)
            );
            return differs(
                format!("version {} and chain {}", state.version, hex(&self.chain)),
                why,
            );
        }
        let jobs = state.jobs.keys().chain(stored.jobs.keys());
        if let Some(name) =
            jobs.filter(|name| state.jobs.get(*name) != stored.jobs.get(*name)).min()
        {
            let why = format!("the rows have {:?}", stored.jobs.get(name));
            return differs(format!("job `{name}`: {:?}", state.jobs.get(name)), why);
        }
        let datasets = state.datasets.keys().chain(stored.datasets.keys());
        if let Some(name) =
            datasets.filter(|name| state.datasets.get(*name) != stored.datasets.get(*name)).min()
        {
            let why = format!("the rows have {:?}", stored.datasets.get(name));
            return differs(format!("dataset `{name}`: {:?}", state.datasets.get(name)), why);
        }
        Ok(())
    }
}

fn told(rejection: &Rejection) -> String {
    Value::Object(rejection.members.clone()).to_string()
}

/// The limit of a problem that says that something is too large.
fn limit_in(problem: &str) -> Option<u64> {
    let limit = || json::members(problem, |name| name == "limit")?.get("limit")?.as_u64();
    limit().filter(|_| is_problem(problem, "too_large"))
}

/// Whether `why` can be said of a call that was not served. It is prose, or a problem.
fn is_refusal(call: &Call, why: &str) -> bool {
    let decisive = |name: &str| matches!(name, "type" | "status" | "outcome");
    let Some(problem) = json::members(why, decisive) else { return true };
    let says = |member: &str, value: Value| problem.get(member).is_none_or(|it| *it == value);
    says("status", 503.into())
        && says("outcome", "not_applied".into())
        && (call.asked.at_least.is_some() || !is_problem(why, "version_not_reached"))
}
