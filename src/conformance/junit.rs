//! A report as JUnit XML, which CI systems read.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::report::{Report, Verdict};

/// One suite, with a test case for each case. A case that the server does not offer is skipped.
#[must_use]
pub fn junit(report: &Report) -> String {
    let (all, level) = (report.ended.len(), report.level.name());
    let (broken, skipped) = (report.broken().len(), report.not_offered().len());
    let seconds: f64 = report.ended.iter().map(|ended| ended.took.as_secs_f64()).sum();
    let suite = format!(
        "name=\"fencepost conformance, level {level}\" tests=\"{all}\" failures=\"{broken}\" \
         errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\""
    );
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite {suite}>\n"
    );
    for ended in &report.ended {
        let (case, seconds) = (&ended.case, ended.took.as_secs_f64());
        let class = format!("conformance.{}", case.level.name());
        let (class, name) = (escaped(&class), escaped(case.name));
        let head = format!("<testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.3}\"");
        let rule = escaped(case.rule);
        let line = match &ended.verdict {
            Verdict::Holds => format!("{head}/>"),
            Verdict::Broken(how) => {
                let how = escaped(how);
                format!("{head}><failure message=\"{how}\">{rule}</failure></testcase>")
            }
            Verdict::NotOffered(why) => {
                format!("{head}><skipped message=\"{}\"/></testcase>", escaped(why))
            }
        };
        let _ = writeln!(xml, "    {line}");
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// As text or a quoted value in XML. What XML 1.0 cannot hold, control characters above all, is
/// replaced.
fn escaped(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c != '<' && c != '>' && c != '&' && c != '"' && c != '\'';
    if text.chars().all(|c| is_plain(c) && is_allowed(c) && !c.is_control()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            // As they are, a parser would make spaces of them in a quoted value.
            '\n' => out += "&#10;",
            '\r' => out += "&#13;",
            '\t' => out += "&#9;",
            c if c.is_control() || !is_allowed(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Whether XML 1.0 allows it in a document.
fn is_allowed(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}'
            | '\u{10000}'..='\u{10ffff}'
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conformance::case::Level;
    use crate::conformance::report::Ended;
    use crate::conformance::run::cases;

    const HOSTILE: &str = "got <b a=\"1\">&amp;'</b>]]>\u{1b}[31m\0\u{85}\u{fffe}\r\n\t日";

    /// As if the first were broken, the second not offered, and all others held.
    fn made_up() -> Report {
        let verdicts =
            [Verdict::Broken(HOSTILE.to_owned()), Verdict::NotOffered(HOSTILE.to_owned())];
        let verdicts = verdicts.into_iter().chain(std::iter::repeat(Verdict::Holds));
        let took = Duration::from_millis(1500);
        let ended = cases(Level::Core).into_iter().zip(verdicts);
        let ended = ended.map(|(case, verdict)| Ended { case, verdict, took }).collect();
        Report { level: Level::Core, ended }
    }

    /// The elements in order, each with its attributes, and that every one that begins ends.
    fn elements(xml: &str) -> Vec<(String, Vec<(String, String)>)> {
        let (mut found, mut open) = (Vec::new(), Vec::new());
        let mut rest = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").unwrap();
        while let Some((text, tag_on)) = rest.split_once('<') {
            assert!(!text.contains('>'), "a stray > in {text:?}");
            let (tag, after) = tag_on.split_once('>').expect("a tag ends");
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "what ends is what began last");
                continue;
            }
            let (tag, is_empty) = (tag.trim_end_matches('/'), tag.ends_with('/'));
            let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let mut given = Vec::new();
            while let Some((key, after)) = attributes.trim().split_once("=\"") {
                let (value, after) = after.split_once('"').expect("a value ends");
                given.push((key.to_owned(), value.to_owned()));
                attributes = after;
            }
            assert_eq!(attributes.trim(), "", "in {tag}");
            if !is_empty {
                open.push(name.to_owned());
            }
            found.push((name.to_owned(), given));
        }
        assert!(open.is_empty(), "{open:?} do not end");
        found
    }

    #[test]
    fn every_case_is_a_test_case_and_every_break_a_failure() {
        let report = made_up();
        let xml = junit(&report);
        assert!(!xml.chars().any(|c| c.is_control() && c != '\n'), "{xml:?}");
        let elements = elements(&xml);
        let count = |name: &str| elements.iter().filter(|(found, _)| found == name).count();
        assert_eq!(count("testcase"), report.ended.len());
        assert_eq!((count("failure"), count("skipped")), (1, 1));
        let suite = &elements.iter().find(|(name, _)| name == "testsuite").unwrap().1;
        let of_suite = |key: &str| suite.iter().find(|(found, _)| found == key).unwrap().1.clone();
        assert_eq!(of_suite("tests"), report.ended.len().to_string());
        assert_eq!((of_suite("failures"), of_suite("skipped")), ("1".into(), "1".into()));
    }

    #[test]
    fn what_a_server_says_is_escaped() {
        let xml = junit(&made_up());
        let expected = "message=\"got &lt;b a=&quot;1&quot;&gt;&amp;amp;&apos;&lt;/b&gt;]]&gt;\
                        \u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}&#13;&#10;&#9;日\"";
        assert!(xml.contains(expected), "{xml}");
    }

    #[test]
    fn the_report_in_text_has_a_line_for_each_case_too() {
        let report = made_up();
        let lines: Vec<String> = report.ended.iter().map(ToString::to_string).collect();
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{lines:?}");
        assert!(lines[0].starts_with("BROKEN  ") && lines[0].contains(": got <b a="));
        assert!(lines[1].starts_with("skipped ") && lines[2].starts_with("ok      "));
        let (all, last) = (report.ended.len(), report.to_string());
        let begin = format!("{} of {all} cases of level core hold; broken: ", all - 2);
        assert!(last.starts_with(&begin) && last.contains("; skipped: "), "{last}");
    }
}
