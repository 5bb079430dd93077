//! The report: one page of HTML that needs nothing else, and asks for nothing.
//!
//! Sentences and drawings are made from the intervals of the results: `answer.rs` says what they
//! show, `sections.rs` which figures of them are drawn, `charts.rs` and `timelines.rs` how, and
//! `cost_model.rs` what to expect of another network and disk. Knows results, and of designs their
//! choices; nothing here measures.

use std::fmt::Write as _;

use serde_json::json;

use super::comparisons::{Group, comparisons, groups, loads, per_second, server_us};
use super::floors::{starved, times_floor};
use super::hypotheses::hypotheses;
use super::results::{
    CheckVerdict, HypothesisRecord, Measurement, Outcome, QuantityRecord, Results,
};
use super::statistics::Estimate;
use crate::design::{self, Design, ON_A_LOG, ON_ROWS};
use crate::service::{BatchSize, CycleCheck, Refresh};
use crate::store::StorageKind;

mod answer;
mod charts;
mod cost_model;
mod markup;
mod scale;
mod sections;
mod timelines;

use answer::Answer;
use cost_model::{CostModel, cost_models};
use markup::{Table, capital, escaped, figure, whole, with_interval};
use sections::{Figure, Shown};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// Hatching, for what the checker found wrong.
const HATCHING: &str = "<defs><pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect width=\"5\" height=\"5\" class=\"hatch-back\"/>\
    <rect width=\"2\" height=\"5\" class=\"hatch-line\"/></pattern></defs>";

/// The whole page. O(points), and some thousand drawings of the ratios of each pair.
#[must_use]
pub fn page(results: &Results) -> String {
    let groups_of_points = groups(&results.points);
    let models = cost_models(results, &groups_of_points);
    let compared = comparisons(&results.points, results.plan.blocks);
    let answer = Answer::of(results, &groups_of_points, &compared);
    let shown = Shown::new(results, groups_of_points);
    let mut html = String::new();
    html += "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>Fencepost: designs side by side</title>";
    let _ = write!(
        html,
        "<style>{STYLE}</style></head><body><svg class=\"hidden\" width=\"0\" height=\"0\" \
         aria-hidden=\"true\">{HATCHING}</svg>"
    );
    first_screen(&mut html, &shown, &answer);
    html += "<main>";
    for figure in sections::all(&shown, &compared) {
        section(&mut html, &figure.title, std::slice::from_ref(&figure));
        if figure.title == "Which choice explains the difference" {
            design_space(&mut html, &shown);
        }
    }
    events(&mut html, &shown);
    model(&mut html, results, &shown, &models);
    judged(&mut html, &hypotheses(&results.points, results.plan.blocks));
    every_point(&mut html, &shown);
    limits(&mut html, results);
    again(&mut html, results);
    let _ = writeln!(html, "</main><script>{SCRIPT}</script></body></html>");
    html
}

/// The picture of the first screen as a file of its own, in SVG; none if nothing like it was
/// measured.
#[must_use]
pub fn picture(results: &Results) -> Option<String> {
    let shown = Shown::new(results, groups(&results.points));
    let Figure { title, drawings, .. } = sections::first(&shown)?;
    let (tag, rest) = drawings.first()?.split_once('>')?;
    let tag = tag.replacen("<svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"", 1);
    let title = escaped(&title);
    Some(format!("{tag}><title>{title}</title><style>{STYLE}</style>{HATCHING}{rest}\n"))
}

fn first_screen(html: &mut String, shown: &Shown<'_>, answer: &Answer) {
    let results = shown.results;
    let machine = &results.machine;
    let _ = write!(
        html,
        "<header><p class=\"kicker\">Fencepost benchmark · profile {} · {} points in {} blocks · {} \
         cores{}</p><h1>{ON_ROWS} and {ON_A_LOG}, measured side by side</h1>",
        escaped(&results.plan.profile),
        whole(results.points.len()),
        results.plan.blocks,
        machine.cores,
        if machine.hypervisor { " of a virtual machine" } else { "" }
    );
    for warning in &answer.warnings {
        let _ = write!(html, "<p class=\"warning\">{}</p>", escaped(warning));
    }
    html.push_str("<div class=\"first\"><div class=\"answer\">");
    // What it says in a sentence stands out.
    let (said, rest) = answer.storage.split_once(". ").unwrap_or((&answer.storage, ""));
    let end = if rest.is_empty() { "" } else { "." };
    let _ = write!(html, "<p><b>{}{end}</b> {}</p>", escaped(said), escaped(rest));
    for sentence in [&answer.turns, &answer.trust] {
        let _ = write!(html, "<p>{}</p>", escaped(sentence));
    }
    html.push_str("</div>");
    if let Some(first) = sections::first(shown) {
        html.push_str(&figure_html(&first));
    }
    html.push_str("</div><nav class=\"designs\" aria-label=\"Designs\">");
    for (number, name) in shown.designs() {
        let _ = write!(
            html,
            "<button type=\"button\" class=\"d{number}\" data-design=\"d{number}\">{}</button>",
            escaped(name)
        );
    }
    html.push_str(
        "</nav><p class=\"small\">A colour is one design everywhere; choose one to follow it. \
         <span class=\"key\">hatched: INVALID, a wrong answer was found · open, at the edge: \
         saturated · dashed ring: driver-limited · pale and dashed: a node starved</span></p></header>",
    );
}

fn figure_html(figure: &Figure) -> String {
    let mut html = "<figure>".to_owned();
    for drawing in &figure.drawings {
        html += drawing;
    }
    let _ = write!(html, "<figcaption>{}", figure.caption);
    let _ = write!(
        html,
        "<details><summary>Data, and how to measure it again</summary><p><code>{}</code></p>{}\
         </details></figcaption></figure>",
        figure.command,
        figure.table.html()
    );
    html
}

fn section(html: &mut String, title: &str, figures: &[Figure]) {
    let _ = write!(html, "<section><h2>{}</h2><div class=\"figures\">", escaped(title));
    for figure in figures {
        *html += &figure_html(figure);
    }
    html.push_str("</div></section>");
}

/// What each design has chosen.
fn choices_of(design: &Design) -> [&'static str; 5] {
    let [storage, history] = match design.storage {
        StorageKind::Rows => ["rows and log", "kept"],
        StorageKind::RowsPlain => ["rows", "none"],
        StorageKind::Log => ["log alone", "is the log"],
        StorageKind::LogUnchecked => ["log alone, unchecked", "is the log"],
        StorageKind::Unknown => ["", ""],
    };
    let refresh = match design.refresh {
        Refresh::Always => "reloaded each time",
        Refresh::WhenMoved => "reloaded if another node wrote",
        Refresh::Delta => "brought up to date by what came since",
    };
    let turns = match (design.takes_lock(), design.has_leader(), design.is_sound()) {
        (true, ..) if design.keeps_lock() => "lock, kept while nobody else wants it",
        (true, ..) => "lock",
        (_, true, _) => "one node writes for all",
        (.., true) => "expected version, without a lock",
        (.., false) => "none",
    };
    let sharing = match (design.batch, design.cycle_check) {
        (BatchSize::One, CycleCheck::WholeGraph) => "one request, whole graph sorted",
        (BatchSize::One, CycleCheck::Affected) => "one request",
        (BatchSize::AllWaiting, _) => "all that wait",
    };
    [storage, history, refresh, turns, sharing]
}

fn design_space(html: &mut String, shown: &Shown<'_>) {
    let head =
        ["design", "storage", "history", "copy in memory", "whose turn it is", "a turn serves"];
    let mut table = Table::of(&head);
    for (_, name) in shown.designs() {
        let Some(design) = design::named(name) else { continue };
        let choices = choices_of(design).map(str::to_owned);
        table.rows.push([vec![name.to_owned()], choices.to_vec()].concat());
    }
    let _ =
        write!(html, "<section><h2>What the designs have chosen</h2>{}</section>", table.html());
}

fn events(html: &mut String, shown: &Shown<'_>) {
    let all = sections::timelines(shown);
    if all.is_empty() {
        return;
    }
    html.push_str(
        "<section><h2>When something happens</h2><p>100 new jobs a second on three nodes, for ten \
         seconds; two seconds in, something happens. <span class=\"swatch refused\"></span> refused, \
         <span class=\"swatch failed\"></span> without an answer; the line above runs from when it \
         happened until all was as before. Measured once, and compared with nothing.</p>",
    );
    for (workload, figures) in all {
        let question = super::workloads::named(&workload).map_or("", |known| known.question);
        let title = capital(question.strip_prefix("and ").unwrap_or(question));
        let _ = write!(html, "<h3>{}</h3><div class=\"figures\">", escaped(&title));
        for figure in &figures {
            let _ = write!(
                html,
                "<div class=\"event-of\"><h4>{}</h4>{}</div>",
                escaped(&figure.title),
                figure_html(figure)
            );
        }
        html.push_str("</div>");
    }
    html.push_str("</section>");
}

fn model(html: &mut String, results: &Results, shown: &Shown<'_>, models: &[CostModel]) {
    if models.is_empty() {
        return;
    }
    html.push_str(
        "<section id=\"model\"><h2>On your network and disk</h2><p>What one write takes that nobody \
         else is in the way of, when another node made the one before: latency = a · round trip + b · \
         fsync + c · processor + d · jobs. Fitted on some points of <code>turns</code> and \
         <code>growth</code>, and held against others: the last column says how far off it was. It \
         says nothing of throughput, of queues, or of a network that loses packets. One disk was \
         measured, and graphs of several sizes by few designs: far from what was measured, it is a \
         guess.</p>",
    );
    let fsync_ms = results.machine.fsync_p50_us / 1e3;
    let jobs = models.first().map_or(0, |model| model.jobs);
    let slider = |name: &str, label: &str, from: f64, to: f64, value: f64| {
        format!(
            "<label>{label} <output></output><input type=\"range\" name=\"{name}\" min=\"{from}\" \
             max=\"{to}\" step=\"any\" value=\"{value}\"></label>"
        )
    };
    // Their places are logarithms.
    html.push_str("<form class=\"sliders\">");
    *html += &slider("rtt", "round trip", -2.0, 2.0, 0.0);
    *html += &slider("fsync", "fsync", -2.0, 2.0, fsync_ms.max(0.01).log10());
    *html += &slider("speed", "processor, times as fast", -0.7, 0.7, 0.0);
    *html += &slider("jobs", "jobs", 3.0, 6.0, (jobs.max(1_000) as f64).log10());
    html.push_str("</form><div class=\"predictions\"></div>");
    let mut table = Table::of(&[
        "design",
        "a, round trips",
        "b, fsyncs",
        "c, ms",
        "d, ms for 1,000 jobs",
        "held against",
        "off by",
    ]);
    for model in models {
        let errors = model.predicted.iter().map(|found| format!("{:+.0} %", 100.0 * found.error()));
        let what = model.predicted.iter().map(|found| found.what.as_str());
        table.rows.push(vec![
            model.design.clone(),
            figure(model.round_trips),
            figure(model.syncs),
            figure(model.processor_us / 1e3),
            model.job_us.map_or_else(|| "not measured".to_owned(), figure),
            what.collect::<Vec<_>>().join("; "),
            errors.collect::<Vec<_>>().join("; "),
        ]);
    }
    *html += &table.html();
    let data: Vec<_> = models
        .iter()
        .map(|model| {
            json!({
                "design": model.design,
                "colour": shown.colour(&model.design),
                "roundTrips": model.round_trips,
                "syncs": model.syncs,
                "processorMs": model.processor_us / 1e3,
                "jobMs": model.job_us.map(|us| us / 1e3),
                "jobs": model.jobs,
            })
        })
        .collect();
    // Names of designs are in it: nothing of them may end the element.
    let data = json!(data).to_string().replace('<', "\\u003c");
    let _ =
        write!(html, "<script type=\"application/json\" id=\"models\">{data}</script></section>");
}

/// What each hypothesis says, in a few words; docs/METHOD.md has the quantities.
const SAID: [(&str, &str); 7] = [
    (
        "H1",
        "Loading the whole graph for each write grows with it, and ends interactive use at \
            hundreds of thousands of datasets",
    ),
    ("H2", "An image that is valid for one version only helps while one node writes"),
    (
        "H3",
        "It is the image and its refresh that matter, not what is stored: where changes are \
            applied, rows cost what a log costs",
    ),
    ("H4", "Of N nodes that write without a lock, N−1 of N decisions are wasted"),
    ("H5", "One node that writes for all has more throughput than nodes that take turns"),
    ("H6", "With snapshots, how long a start takes depends on the graph and not on its history"),
    ("H7", "A history costs storage"),
];

fn judged(html: &mut String, all: &[HypothesisRecord]) {
    html.push_str(
        "<section><h2>Hypotheses</h2><p>Written down, with thresholds, before they were measured \
         (docs/METHOD.md).</p><div class=\"hypotheses\">",
    );
    for HypothesisRecord { name, verdict, quantities } in all {
        let said = SAID.iter().find(|(known, _)| known == name).map_or("", |(_, said)| said);
        let _ = write!(
            html,
            "<details class=\"{}\"><summary><b>{}</b> <span class=\"verdict\">{}</span> {}</summary>",
            verdict.name(),
            escaped(name),
            verdict.name(),
            escaped(said)
        );
        let mut table = Table::of(&["quantity", "found"]);
        for QuantityRecord { what, median, low, high, missing, .. } in quantities {
            let found = match (median, low, high) {
                (Some(median), Some(low), Some(high)) => with_interval(*median, *low, *high),
                _ => missing.clone().unwrap_or_default(),
            };
            table.rows.push(vec![what.clone(), found]);
        }
        let _ = write!(html, "{}</details>", table.html());
    }
    html.push_str("</div></section>");
}

/// All that was measured, load by load.
fn every_point(html: &mut String, shown: &Shown<'_>) {
    html.push_str(
        "<section><h2>Every point</h2><details><summary>Medians of the blocks, with their \
         intervals, load by load</summary>",
    );
    let head = [
        "design",
        "a second",
        "CV",
        "x floor",
        "server µs",
        "p50 ms",
        "p99 ms",
        "syncs",
        "refused",
        "failed",
        "checked",
    ];
    for load in loads(&shown.groups) {
        let mut table = Table::of(&head);
        for group in shown.groups.iter().filter(|group| group.key.of("") == load) {
            let mut row = vec![group.key.label()];
            if let ([why, ..], true) = (&group.failed[..], group.points.is_empty()) {
                row.push(format!("no figures: {why}"));
                row.resize(head.len(), String::new());
                table.rows.push(row);
                continue;
            }
            let told = |found: Option<Estimate>| {
                found.map_or_else(String::new, |found| {
                    with_interval(found.median, found.low, found.high)
                })
            };
            let rate = group.estimate(per_second);
            let ms = |quantile: f64| {
                group.estimate(|measured| {
                    let figures = &measured.figures;
                    let latencies = measured.raw.latencies().ok().filter(|_| !figures.saturated)?;
                    Some(latencies.quantile_us(quantile)? / 1e3)
                })
            };
            let sum = |of: fn(&Measurement) -> u64| {
                let sum: u64 = group.points.iter().map(|(_, measured)| of(measured)).sum();
                if sum == 0 { String::new() } else { sum.to_string() }
            };
            let variation = rate.and_then(|rate| rate.variation);
            row.push(told(rate.filter(|_| !load.is_start())));
            row.push(variation.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share)));
            row.push(times_floor(group, &shown.groups).map_or_else(String::new, figure));
            row.push(told(group.estimate(server_us)));
            row.push(told(ms(0.5)));
            row.push(told(ms(0.99)));
            row.push(told(group.estimate(|measured| measured.figures.syncs_per_operation)));
            row.push(sum(|measured| measured.figures.refused));
            row.push(sum(|measured| measured.figures.failed));
            let mut without = match group.failed.len() {
                0 => String::new(),
                failed => format!("; {failed} without figures"),
            };
            if let starved @ 1.. = starved(group) {
                without += &format!("; a node starved in {starved}");
            }
            row.push(checked(group) + &without);
            table.rows.push(row);
        }
        let _ = write!(
            html,
            "<details><summary>{}</summary>{}</details>",
            escaped(&load.title()),
            table.html()
        );
    }
    html.push_str("</details></section>");
}

fn checked(group: &Group<'_>) -> String {
    let verdicts = || group.points.iter().map(|(_, measured)| &measured.verdict);
    let invalid = verdicts().find_map(|verdict| match verdict {
        CheckVerdict::Invalid { kind, .. } => Some(format!("INVALID: {kind}")),
        _ => None,
    });
    if let Some(invalid) = invalid {
        return invalid;
    }
    if verdicts().any(|verdict| matches!(verdict, CheckVerdict::Failed { .. })) {
        return "not judged".to_owned();
    }
    match verdicts().filter(|verdict| matches!(verdict, CheckVerdict::Valid { .. })).count() {
        0 => String::new(),
        valid => format!("{valid} valid"),
    }
}

fn limits(html: &mut String, results: &Results) {
    let machine = &results.machine;
    let durability = results.points.iter().map(|point| point.durability.as_str());
    let mut durability: Vec<&str> = durability.collect();
    durability.sort_unstable();
    durability.dedup();
    let stolen: f64 = results
        .points
        .iter()
        .filter_map(|point| match &point.outcome {
            Outcome::Measured(measured) => Some(measured.steal_seconds),
            Outcome::Failed { .. } => None,
        })
        .sum();
    let _ = write!(
        html,
        "<section><h2>What this does not show</h2><ul>\
         <li>What a machine can do. Driver, nodes and databases share {} cores, so requests a second \
         are those of all together. Processor time of a request depends on the load too: more requests \
         share a commit when more of them wait. Ratios under one load say most.</li>\
         <li>What more machines gain. Several nodes are several processes here: they show what it \
         costs that another node writes.</li>\
         <li>Other disks. A sync of 4 KiB takes {} µs here (p99 {} µs) on {}. Answered writes survive: \
         {}.</li>\
         <li>Other networks, but for the delays that a proxy makes, which loses and reorders \
         nothing.</li>\
         <li>Small differences. Windows are {} s, in {} blocks; where no difference was detected there \
         may be one, as large as the interval is wide. Intervals are of 95 % each (bootstrap of the \
         blocks): by chance, one comparison in twenty shows a difference that is none.</li>\
         <li>Other graphs and workloads: those here are made, and the same for all.</li>\
         <li>Other implementations of these designs. All of them share rules, HTTP and storage code; \
         an event store, or another language, would differ in more than the choice.</li>\
         <li>A quiet machine: its host gave {} s of its processor time to others while it was measured \
         (steal).</li></ul></section>",
        machine.cores,
        figure(machine.fsync_p50_us),
        figure(machine.fsync_p99_us),
        escaped(&machine.file_system),
        escaped(&durability.join("; ")),
        results.plan.window_seconds,
        results.plan.blocks,
        figure(stolen)
    );
}

fn again(html: &mut String, results: &Results) {
    let machine = &results.machine;
    let plan = &results.plan;
    let commit = machine.software.get("commit").map_or("", String::as_str);
    let mut table = Table::of(&["", ""]);
    let mut row = |name: &str, value: String| table.rows.push(vec![name.to_owned(), value]);
    row("processor", machine.processor.clone());
    row("cores", machine.cores.to_string());
    row("memory", format!("{} GiB", figure(machine.memory_bytes as f64 / f64::from(1 << 30))));
    row("system", machine.system.clone());
    row("file system", machine.file_system.clone());
    for (name, value) in &machine.software {
        row(name, value.clone());
    }
    let blocks =
        if plan.blocks == 6 { String::new() } else { format!(" --blocks {}", plan.blocks) };
    let _ = write!(
        html,
        "<section><h2>Measure it again</h2><p>At commit <code>{}</code>: <code>cargo run --release -- \
         bench run --profile {} --seed {}{blocks}</code>, with the other arguments of the run, if it \
         had any. <code>fencepost bench report results.json --html report.html</code> draws this page \
         again. How it is measured, and why so: docs/METHOD.md.\
         </p>{}</section>",
        escaped(commit),
        escaped(&plan.profile),
        plan.seed,
        table.html()
    );
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_page_asks_for_nothing_and_holds_text_from_elsewhere_as_text() {
        let mut results = made_up::rated("run --blocks 1", |_, _| 1_000.0);
        let evil = "<script>alert(1)</script>";
        results.machine.processor = evil.to_owned();
        results.plan.profile = evil.to_owned();
        for point in &mut results.points {
            point.key.shape = evil.to_owned();
            point.durability = evil.to_owned();
        }
        results.points[0].outcome = Outcome::Failed { why: evil.to_owned() };
        let page = page(&results);
        assert!(!page.contains(evil) && page.contains("&lt;script&gt;alert(1)"));
        for asks in ["http://", "https://", " src=", "url(h", "@import", "<link"] {
            assert!(!page.contains(asks), "{asks}");
        }
    }

    #[test]
    fn every_design_has_a_colour_in_both_themes() {
        for number in 0..sections::COLOURS {
            let rule = format!("--d{number}:");
            assert_eq!(STYLE.matches(&rule).count(), 2, "{rule}");
            assert!(STYLE.contains(&format!(".d{number} {{ --c: var(--d{number}); }}")), "{rule}");
        }
    }

    #[test]
    fn of_all_that_standard_measures_every_figure_is_drawn() {
        let results = made_up::rated("run --profile standard --blocks 1", |_, _| 1_000.0);
        let page = page(&results);
        for title in [
            "Which choice explains the difference",
            "What the designs have chosen",
            "Throughput against writers",
            "Latency against load",
            "Cost against graph size",
            "<h2>Nodes</h2>",
            "Network delay",
            "Wasted decisions",
            "Cold start",
            "Hypotheses",
            "Every point",
            "What this does not show",
        ] {
            assert!(page.contains(title), "{title}");
        }
    }
}
