//! Text and figures as HTML.

use std::fmt::Write as _;

/// Text from elsewhere, so that nothing in it is markup. Control characters become spaces.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A figure with three digits; of thousands with commas, of millions as `1.23M`.
#[must_use]
pub fn figure(value: f64) -> String {
    let size = value.abs();
    if size >= 999_999.5 {
        return format!("{:.2}M", value / 1e6);
    }
    if size >= 999.5 {
        let whole = format!("{size:.0}");
        let (thousands, rest) = whole.split_at(whole.len() - 3);
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{thousands},{rest}");
    }
    let digits = match size {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.0995 => 2,
        0.0 => 0,
        _ => 3,
    };
    format!("{value:.digits$}").replace('-', "−")
}

/// A count, with commas.
#[must_use]
pub fn whole(count: usize) -> String {
    let digits = count.to_string();
    let mut told = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

/// The text with a capital letter.
#[must_use]
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// A figure of a tick: no zeros after the point.
#[must_use]
pub fn tick(value: f64) -> String {
    if value.abs() >= 1e6 {
        return format!("{}M", trimmed(value / 1e6));
    }
    if value.abs() >= 1e4 {
        return format!("{}k", trimmed(value / 1e3));
    }
    trimmed(value)
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() { "0".to_owned() } else { text.to_owned() }
}

/// A median with its interval; nothing else where there is one figure.
#[must_use]
pub fn with_interval(median: f64, low: f64, high: f64) -> String {
    match low < high {
        true => format!("{} ({}–{})", figure(median), figure(low), figure(high)),
        false => figure(median),
    }
}

/// The data of a figure.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What stands in the columns.
    pub head: Vec<String>,
    /// As many cells in each as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Empty.
    #[must_use]
    pub fn of(head: &[&str]) -> Self {
        Self { head: head.iter().map(|word| (*word).to_owned()).collect(), rows: Vec::new() }
    }

    /// As HTML. Wide tables scroll by themselves.
    #[must_use]
    pub fn html(&self) -> String {
        let mut html = "<div class=\"scroll\"><table><thead><tr>".to_owned();
        for cell in &self.head {
            let _ = write!(html, "<th>{}</th>", escaped(cell));
        }
        html += "</tr></thead><tbody>";
        for row in &self.rows {
            html += "<tr>";
            for cell in row {
                let _ = write!(html, "<td>{}</td>", escaped(cell));
            }
            html += "</tr>";
        }
        html + "</tbody></table></div>"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_is_no_markup() {
        let text = escaped("<script>alert('x & \"y\"')</script>\u{7}");
        assert_eq!(text, "&lt;script&gt;alert(&#39;x &amp; &quot;y&quot;&#39;)&lt;/script&gt; ");
    }

    #[test]
    fn figures_have_three_digits() {
        let all = [0.0, 0.0123, 0.123, 1.234, 12.34, 123.4, 1_234.0, 123_456.0, 1_234_567.0];
        let told = all.map(figure).join(" ");
        assert_eq!(told, "0 0.012 0.12 1.23 12.3 123 1,234 123,456 1.23M");
        assert_eq!([0.5, 2.0, 20_000.0, 5e6].map(tick).join(" "), "0.5 2 20k 5M");
        assert_eq!(with_interval(2.0, 1.5, 2.5), "2.00 (1.50–2.50)");
        assert_eq!(with_interval(2.0, 2.0, 2.0), "2.00");
    }
}
