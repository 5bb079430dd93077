//! The report, as a browser shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fencepost::bench::run::results::CheckVerdict;
use serde_json::Value;
use tempfile::TempDir;

use super::place::{Place, fencepost};
use super::runs::{bench, ended, measured};

/// The run that the project has on record.
const RECORD: &str = "docs/results/2026-11-29";

/// The results on record, as a file of its own.
fn recorded(place: &Path) -> PathBuf {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORD).join("results.json.xz");
    let output = Command::new("xz").arg("-dc").arg(packed).output();
    let output = output.expect("this test needs `xz`: apt-get install xz-utils");
    assert!(output.status.success(), "{output:?}");
    let file = place.join("results.json");
    fs::write(&file, output.stdout).unwrap();
    file
}

fn drawn(results: &Path) -> PathBuf {
    let page = results.with_file_name("drawn.html");
    let mut command = fencepost();
    command.args(["bench", "report"]).arg(results).arg("--html").arg(&page);
    command.arg("--picture").arg(results.with_file_name("picture.svg"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    page
}

/// A browser without a window, that reaches nobody and ends by itself.
fn browser(place: &Path) -> Command {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let mut asked = Command::new(name);
        asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    });
    let name = found.expect("this test needs `chromium`: apt-get install chromium");
    let mut command = Command::new("timeout");
    command.args(["120", name, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    command.arg("--disable-dev-shm-usage").arg("--host-resolver-rules=MAP * ~NOTFOUND");
    command.arg(format!("--user-data-dir={}", place.join("browser").display()));
    command
}

/// What is found on the page when it is shown so many pixels wide.
fn shown(page: &Path, width: u32, options: &[&str]) -> Value {
    let place = TempDir::new().unwrap();
    let probe = include_str!("../fixtures/page_probe.js");
    // Before all else, so that no error is missed.
    let before = "<head><script>window.foundErrors = []; \
                  addEventListener(\"error\", (event) => foundErrors.push(event.message)); \
                  addEventListener(\"securitypolicyviolation\", (event) => \
                  foundErrors.push(event.blockedURI));</script>";
    let text = fs::read_to_string(page).unwrap();
    let text = text.replacen("<head>", before, 1);
    let text = text.replacen("</body>", &format!("<script>{probe}</script></body>"), 1);
    fs::write(place.path().join("page.html"), text).unwrap();
    let around = format!(
        "<!doctype html><body style=\"margin: 0\"><pre id=\"found\"></pre><script>\
         addEventListener(\"message\", (event) => \
         document.getElementById(\"found\").textContent = event.data);</script>\
         <iframe src=\"page.html\" style=\"border: 0; height: 900px; width: {width}px\"></iframe>"
    );
    let file = place.path().join("around.html");
    fs::write(&file, around).unwrap();
    let mut command = browser(place.path());
    command.args(options).args(["--window-size=1400,1000", "--virtual-time-budget=10000"]);
    let output = command.arg("--dump-dom").arg(format!("file://{}", file.display())).output();
    let output = output.unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let found = dom.split("<pre id=\"found\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let found = found.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">");
    let found = found.replace("&amp;", "&");
    serde_json::from_str(&found).unwrap_or_else(|error| {
        panic!("{error}: `{found}`: {}", String::from_utf8_lossy(&output.stderr))
    })
}

fn assert_well_drawn(found: &Value) {
    for member in ["errors", "overlaps", "outside", "empty", "requests"] {
        assert_eq!(found[member], Value::Array(Vec::new()), "{member}");
    }
    assert_eq!(found["sideways"], 0);
    let of = |member: &str| found[member].as_u64().unwrap();
    assert!(of("figures") > 0 && of("tables") > 0 && of("tables") == of("commands"), "{found}");
    assert!(of("followed") > 0 && of("left") == 0, "{found}");
}

#[test]
fn the_run_on_record_is_read_and_drawn_by_this_program_as_it_is_kept() {
    let place = TempDir::new().unwrap();
    let results = recorded(place.path());
    let output = fencepost().args(["bench", "validate"]).arg(&results).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let page = fs::read_to_string(drawn(&results)).unwrap();
    let read = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
    for (drawn, name) in [(page, "report.html"), (read("picture.svg"), "picture.svg")] {
        let record = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORD);
        assert!(
            drawn == fs::read_to_string(record.join(name)).unwrap(),
            "{name}: draw it again: xz -dc {RECORD}/results.json.xz | fencepost bench report \
             /dev/stdin --html {RECORD}/report.html --picture {RECORD}/picture.svg"
        );
    }
}

/// The report on record, which is as this program draws it.
fn on_record() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORD).join("report.html")
}

#[test]
fn on_a_desktop_and_a_phone_in_light_and_dark_nothing_covers_anything_else() {
    let page = on_record();
    let mut papers = Vec::new();
    for (width, theme) in [(1_280, 1), (390, 1), (1_280, 0), (390, 0)] {
        let theme = format!("--blink-settings=preferredColorScheme={theme}");
        let found = shown(&page, width, &[&theme]);
        assert_well_drawn(&found);
        assert_eq!(found["slides"], true, "{width}");
        papers.push(found["paper"].clone());
    }
    assert_eq!(papers[0], papers[1]);
    assert_ne!(papers[0], papers[2], "dark is another paper");
}

#[test]
fn the_report_can_be_printed() {
    let (place, page) = (TempDir::new().unwrap(), on_record());
    let pdf = place.path().join("page.pdf");
    let mut command = browser(place.path());
    command.arg("--no-pdf-header-footer").arg(format!("--print-to-pdf={}", pdf.display()));
    let output = command.arg(format!("file://{}", page.display())).output().unwrap();
    let printed = fs::read(&pdf).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(printed.starts_with(b"%PDF") && printed.len() > 50_000, "{} bytes", printed.len());
}

/// A run ends with its report, in which a given server stands beside the designs: one of ours,
/// which the run knows by its URL alone.
#[test]
fn a_run_ends_with_a_report_in_which_a_given_server_stands() {
    let place = Place::new();
    let server = place.serve();
    let out = place.path("out");
    let target = format!("mine={}", server.url);
    let more = [
        ["--target", &target],
        ["--target-survives", "mine=machine"],
        ["--designs", "crud,crud-delta"],
    ];
    let small = [["--sizes", "60"], ["--seconds", "0.2"], ["--warmup-seconds", "0"]];
    let run = bench(&out, &[&small[..], &[["--blocks", "2"]]].concat(), &more.concat());
    let (results, table) = ended(&out, run);
    let given: Vec<_> = results.points.iter().filter(|point| point.key.design == "mine").collect();
    let workloads: Vec<&str> = given.iter().map(|point| point.key.workload.as_str()).collect();
    for workload in ["register", "turns", "reads"] {
        assert!(workloads.contains(&workload), "{workloads:?}");
    }
    for point in &given {
        let found = measured(point);
        let is_valid = matches!(found.verdict, CheckVerdict::Valid { .. });
        assert!(is_valid && found.figures.completed > 0, "{found:?}");
        assert_eq!(point.durability, "given: a crash of the machine");
    }
    assert!(table.contains("mine") && table.contains("a given server"), "{table}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Your server beside the designs"));
    let found = shown(&out.join("report.html"), 390, &[]);
    assert_well_drawn(&found);
    // Its graphs are gone.
    let mut listed = ureq::get(format!("{}/v1/graphs", server.url)).call().unwrap();
    let listed = listed.body_mut().read_to_string().unwrap();
    assert!(!listed.contains("bench-"), "{listed}");
}
