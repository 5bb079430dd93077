//! What two runs show, as Markdown for whoever reviews the change between them.

use std::fmt::Write as _;

use super::compare::{Change, Comparison, Noise, Row};
use super::results::Key;
use crate::terminal::OneLine;

/// How many figures that did not change are shown.
const SHOWN_UNCHANGED: usize = 5;

/// The verdict first, then what it rests on.
#[must_use]
pub fn markdown(found: &Comparison) -> String {
    let mut text = String::new();
    let [old, new] = found.commits.each_ref().map(|commit| OneLine(short(commit)).to_string());
    let _ = writeln!(text, "**{}** (`{old}` → `{new}`)\n", verdict(found));
    for key in &found.invalid_now {
        let _ = writeln!(text, "- **INVALID now**: {}", named(Some(key)));
    }
    for (key, why) in &found.unsound_now {
        let _ = writeln!(text, "- **not measured well now**: {}: {}", named(Some(key)), why.name());
    }
    let changed: Vec<&Row> = found.rows.iter().filter(|row| row.change != Change::Same).collect();
    let unchanged: Vec<&Row> = found.rows.iter().filter(|row| row.change == Change::Same).collect();
    table(&mut text, &changed);
    if !unchanged.is_empty() {
        let count = unchanged.len();
        let shown = SHOWN_UNCHANGED.min(count);
        let _ = writeln!(
            text,
            "\n<details><summary>Within noise: {count} figures; the {shown} that differ most\
             </summary>\n"
        );
        table(&mut text, &unchanged[..shown]);
        let _ = writeln!(text, "\n</details>");
    }
    noise(&mut text, found);
    for (key, why) in &found.left_out {
        let _ = writeln!(text, "- not compared: {}: {}", named(Some(key)), OneLine(why));
    }
    text
}

fn verdict(found: &Comparison) -> String {
    let count = |change| found.rows.iter().filter(|row| row.change == change).count();
    let (worse, better) = (count(Change::Worse), count(Change::Better));
    let told = match (found.is_worse(), better) {
        _ if found.machine_has_changed() && !found.is_broken() => {
            "Cannot be told: the machine, or how the program is built, has changed".to_owned()
        }
        (true, _) => format!("Worse: {worse} figures, {better} better"),
        (false, 0) => "No difference beyond noise".to_owned(),
        (false, better) => format!("Better: {better} figures, none worse"),
    };
    let broken = [
        (found.invalid_now.len(), "INVALID"),
        (found.unsound_now.len(), "not measured well any more"),
    ];
    let broken = broken.into_iter().filter(|(count, _)| *count > 0);
    broken.fold(told, |told, (count, what)| format!("{told}; {count} {what}"))
}

fn table(text: &mut String, rows: &[&Row]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "| what | figure | new / old | 99.5 % interval | |");
    let _ = writeln!(text, "|---|---|---:|---|---|");
    for row in rows {
        let Row { key, figure, shift, change } = row;
        let change = match change {
            Change::Worse => "**worse**",
            Change::Better => "better",
            Change::Same => "",
        };
        let _ = writeln!(
            text,
            "| {} | `{}` | {:.3} | {:.3} to {:.3} | {change} |",
            named(key.as_ref()),
            figure.name,
            shift.ratio,
            shift.low,
            shift.high
        );
    }
}

fn noise(text: &mut String, found: &Comparison) {
    let told = found.noise.iter().map(|(name, Noise { share, is_measured })| {
        let assumed = if *is_measured { "" } else { " (assumed)" };
        let of_mean = found.noise_of_mean.get(name).map_or(*share, |noise| noise.share);
        let of_mean = match of_mean < *share {
            true => format!(", of all {:.1} %", 100.0 * of_mean),
            false => String::new(),
        };
        format!("`{name}` {:.1} %{of_mean}{assumed}", 100.0 * share)
    });
    let from = match found.noise.values().any(|noise| noise.is_measured) {
        true => "by equal designs in both runs (A/A)",
        false => "not measured by both runs: give both --a-a",
    };
    let told: Vec<String> = told.collect();
    let _ = writeln!(text, "\n- noise, {from}: {}", told.join(", "));
    match found.machine {
        Some(shift) => {
            let ratio = shift.ratio;
            let _ = writeln!(
                text,
                "- the machine: the echo server, which no change of the service touches, took \
                 {ratio:.3} times the processor time"
            );
        }
        None => {
            let _ =
                writeln!(text, "- whether the machine has changed is not known: no echo server");
        }
    }
}

/// What is in a cell of a table: names of files may hold anything.
fn named(key: Option<&Key>) -> String {
    let Some(key) = key else { return "all".to_owned() };
    let text = format!("{}, {}", key.design, key.title());
    OneLine(text.replace('|', "\\|")).to_string()
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::super::comparisons::comparisons;
    use super::super::figures::Figures;
    use super::super::made_up;
    use super::super::results::{CheckVerdict, Outcome, Results};
    use super::*;
    use crate::bench::BenchError;

    const STEADY: [f64; 6] = [1_000.0, 1_010.0, 990.0, 1_005.0, 995.0, 1_000.0];

    /// A run of two designs, of which the first has so many times the usual rate.
    fn run(times: f64) -> Results {
        made_up::pair(&STEADY.map(|rate| rate * times), |_| {})
    }

    fn compared(old: &Results, new: &Results) -> Comparison {
        Comparison::of(old, new).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_is_worse_is_told_first_and_what_is_better_or_equal_is_no_failure() {
        let (old, equal) = (run(1.0), run(1.005));
        for (new, is_worse, says) in [
            (&run(0.9), true, "**Worse: "),
            (&run(1.2), false, "**Better: "),
            (&equal, false, "**No difference beyond noise**"),
            (&old, false, "**No difference beyond noise**"),
        ] {
            let found = compared(&old, new);
            let text = markdown(&found);
            assert!(found.is_worse() == is_worse && text.starts_with(says), "{text}");
            assert!(text.contains("noise, not measured by both runs"), "{text}");
        }
        let text = markdown(&compared(&old, &run(0.9)));
        let row = text.lines().find(|line| line.ends_with("| **worse** |")).unwrap();
        assert!(row.contains("`per_second` | 0.9"), "{text}");
    }

    #[test]
    fn what_is_not_right_any_more_is_worse_whatever_its_figures() {
        let (old, mut new) = (run(1.0), run(2.0));
        let Outcome::Measured(found) = &mut new.points[0].outcome else { panic!() };
        let (kind, finding) = ("stale-answer".to_owned(), String::new());
        found.verdict = CheckVerdict::Invalid { kind, finding };
        let found = compared(&old, &new);
        let text = markdown(&found);
        assert!(found.is_worse() && text.contains("**INVALID now**"), "{text}");
        // It was so before: nobody's fault.
        assert!(!compared(&new, &new).is_worse());
    }

    #[test]
    fn noise_is_what_equal_designs_differ_by() {
        let twice = |times: f64| made_up::twice(&STEADY.map(|rate| rate * times));
        // The first measurement has 0.9 of the second in both: whatever is below that is noise.
        let (old, new) = (twice(0.9), twice(0.9));
        let found = compared(&old, &new);
        let Noise { share, is_measured } = found.noise["per_second"];
        assert!(is_measured && share > 0.1, "{found:?}");
        // Of what no design was measured twice by, nothing is known.
        let text = markdown(&found);
        assert!(text.contains("`p50_us` 5.0 % (assumed)"), "{text}");
        assert!(text.contains("`wal_bytes_per_operation` 5.0 % (assumed)"), "{text}");
        assert!(
            !text.contains(&format!("`per_second` {:.1} % (assumed)", 100.0 * share)),
            "{text}"
        );
        // Whatever the file says of pairs: that of a killed run says nothing.
        for comparisons in [Some(comparisons(&new.points, 6)), Some(Vec::new())] {
            let new = Results { comparisons, ..new.clone() };
            assert_eq!(compared(&new, &new).noise, found.noise);
        }
        let (old, new) = (twice(1.0), twice(0.9));
        let found = compared(&old, &new);
        assert!(!found.is_worse(), "{found:?}");
        let (old, new) = (twice(1.0), twice(1.0));
        assert!(compared(&old, &new).noise["per_second"].share < 0.031);
    }

    #[test]
    fn runs_that_differ_in_more_than_the_build_are_refused() {
        let old = run(1.0);
        type Alter = fn(&mut Results);
        let alterations: [(Alter, &str); 7] = [
            (|run| run.machine.cores += 1, "another machine"),
            (|run| run.machine.memory_bytes += 4 << 30, "another machine"),
            (
                |run| {
                    let software = &mut run.machine.software;
                    software.insert("postgres".to_owned(), "14.1".to_owned());
                },
                "postgres: `14.1`, not `none`",
            ),
            (
                |run| run.points.iter_mut().for_each(|point| point.durability = "none".to_owned()),
                "another durability, `a crash` and `none`",
            ),
            (|run| run.bases[0].digest = "another".to_owned(), "is another graph"),
            (|run| run.plan.window_seconds = 2.0, "another seed, window"),
            (|run| run.plan.blocks = 5, "with 5 blocks"),
        ];
        for (alter, says) in alterations {
            let mut new = run(1.0);
            alter(&mut new);
            let refused = Comparison::of(&old, &new).unwrap_err();
            assert!(matches!(refused, BenchError::Usage(_)), "{refused}");
            assert!(refused.to_string().contains(says), "{refused}");
        }
        let mut new = run(1.0);
        for name in ["commit", "executable sha256", "fencepost", "sqlite"] {
            new.machine.software.insert(name.to_owned(), "another".to_owned());
        }
        assert!(!compared(&old, &new).is_worse());
    }

    #[test]
    fn what_only_one_run_has_is_left_out_and_told() {
        let (old, mut new) = (run(1.0), run(1.0));
        let design = new.points[0].key.design.clone();
        for point in new.points.iter_mut().filter(|point| point.key.design == design) {
            point.key.size += 1;
        }
        let found = compared(&old, &new);
        let text = markdown(&found);
        assert!(!found.is_worse(), "{text}");
        assert!(text.contains("it is not in the later run"), "{text}");
        assert!(text.contains("it is not in the earlier run"), "{text}");
    }

    fn each_of_the_first(run: &mut Results, change: impl Fn(&mut Outcome)) {
        let design = run.points[0].key.design.clone();
        let points = run.points.iter_mut().filter(|point| point.key.design == design);
        points.for_each(|point| change(&mut point.outcome));
    }

    fn figures(outcome: &mut Outcome) -> &mut Figures {
        let Outcome::Measured(found) = outcome else { panic!("it has figures") };
        &mut found.figures
    }

    #[test]
    fn what_cannot_be_measured_any_more_is_worse() {
        type Break = fn(&mut Outcome);
        let breaks: [(Break, &str); 4] = [
            (|outcome| *outcome = Outcome::Failed { why: "it died".to_owned() }, "incomplete"),
            (|outcome| figures(outcome).saturated = true, "saturated"),
            (|outcome| figures(outcome).refused = figures(outcome).completed, "refused_or_failed"),
            (|outcome| figures(outcome).completed = 1, "few_requests"),
        ];
        for (change, why) in breaks {
            let (old, mut new) = (run(1.0), run(1.0));
            each_of_the_first(&mut new, change);
            let found = compared(&old, &new);
            let text = markdown(&found);
            assert!(found.is_worse() && text.starts_with("**Worse: "), "{why}: {text}");
            assert!(text.contains("**not measured well now**") && text.contains(why), "{text}");
            // It was so before; the other design can still be compared.
            assert!(!compared(&new, &new).is_worse());
            // It is right or wrong whether or not it was quick enough before.
            let mut invalid = run(1.0);
            each_of_the_first(&mut invalid, |outcome| {
                let Outcome::Measured(found) = outcome else { panic!("it has a verdict") };
                let (kind, finding) = ("stale-answer".to_owned(), String::new());
                found.verdict = CheckVerdict::Invalid { kind, finding };
            });
            assert!(compared(&new, &invalid).invalid_now.len() == 1);
        }
    }

    #[test]
    fn where_nothing_can_be_compared_nothing_is_said_to_be_equal() {
        let refused = |old: &Results, new: &Results| {
            let refused = Comparison::of(old, new).unwrap_err();
            assert!(matches!(refused, BenchError::Usage(_)), "{refused}");
            refused.to_string()
        };
        let (old, mut new) = (run(1.0), run(1.0));
        new.points.iter_mut().for_each(|point| point.key.size += 1);
        let said = refused(&old, &new);
        assert!(said.contains("nothing was measured well in both"), "{said}");
        let unchecked = || {
            let mut run = run(1.0);
            run.plan.checks = false;
            for point in &mut run.points {
                let Outcome::Measured(found) = &mut point.outcome else { panic!() };
                found.verdict = CheckVerdict::NotApplicable;
            }
            run
        };
        let said = refused(&unchecked(), &unchecked());
        assert!(said.contains("nothing was measured well in both"), "{said}");
        // As after Ctrl-C.
        let mut ended = run(1.0);
        (ended.complete, ended.points) = (false, ended.points[..1].to_vec());
        let said = refused(&old, &ended);
        assert!(said.contains("the later one is not complete"), "{said}");
    }

    /// The run with the echo server asked by these workloads, which takes so many microseconds.
    fn with_echo(mut run: Results, echo: &[(&str, f64)]) -> Results {
        let design = run.points[0].key.design.clone();
        let of_design = run.points.iter().filter(|point| point.key.design == design);
        let of_design: Vec<_> = of_design.cloned().collect();
        for (workload, us) in echo {
            for mut point in of_design.clone() {
                (point.key.design, point.base) = ("echo".to_owned(), None);
                point.key.workload = (*workload).to_owned();
                figures(&mut point.outcome).server_us_per_operation = *us;
                run.points.push(point);
            }
        }
        run
    }

    #[test]
    fn another_machine_is_no_noise_and_no_verdict() {
        // All is slower, the echo server too: nobody's noise, and nobody's fault that is known.
        let old = with_echo(run(1.0), &[("register", 100.0)]);
        let slower = run(0.8);
        let found = compared(&old, &with_echo(slower.clone(), &[("register", 120.0)]));
        let text = markdown(&found);
        assert!(found.machine_has_changed() && !found.is_worse(), "{text}");
        assert!(text.starts_with("**Cannot be told: "), "{text}");
        assert!(found.noise.values().all(|noise| noise.share <= 0.05), "{text}");
        // What is broken is so on any machine.
        let mut broken = with_echo(slower.clone(), &[("register", 120.0)]);
        each_of_the_first(&mut broken, |outcome| figures(outcome).saturated = true);
        assert!(compared(&old, &broken).is_worse());
        // What only one run asked the echo server says nothing of the machine.
        let old = with_echo(run(1.0), &[("register", 100.0), ("turns", 300.0)]);
        let found = compared(&old, &with_echo(slower, &[("register", 100.0)]));
        assert!(!found.machine_has_changed() && found.is_worse(), "{found:?}");
    }

    #[test]
    fn a_small_change_of_everything_shows_in_the_mean() {
        // Ten designs that are measured twice: one more and the next less the second time, by 6 %.
        let many = |times: f64| {
            let mut all = made_up::twice(&STEADY);
            let points = all.points.clone();
            all.points.clear();
            for writers in 0..10 {
                for mut point in points.clone() {
                    point.key.writers = writers;
                    let sign = if writers % 2 == 0 { 1.0 } else { -1.0 };
                    let noise: f64 = if point.key.again { 1.06_f64.powf(sign) } else { 1.0 };
                    figures(&mut point.outcome).per_second = 1_000.0 * times * noise;
                    all.points.push(point);
                }
            }
            all
        };
        let found = compared(&many(1.0), &many(0.96));
        let worse: Vec<&Row> =
            found.rows.iter().filter(|row| row.change == Change::Worse).collect();
        let [row] = &worse[..] else { panic!("{found:?}") };
        assert!(row.key.is_none() && row.figure.name == "per_second", "{row:?}");
        let text = markdown(&found);
        assert!(text.contains("`per_second` 6.0 %, of all 3.0 %"), "{text}");
    }
}
