//! Text in lines that fit a terminal.

/// How wide a line is, at most.
pub const COLUMNS: usize = 80;

/// How a message goes on with a command, which must stay whole to be copied.
const COMMAND: &str = ": fencepost ";

/// The text in lines of at most [`COLUMNS`]: `first` stands before the first, `next` before the
/// others. A longer word, as a path may be, stays whole, and a command has a line of its own.
pub fn wrapped(first: &str, next: &str, text: &str) -> String {
    let (words, command) = match text.split_once(COMMAND) {
        Some((words, command)) => (format!("{words}:"), Some(command)),
        None => (text.to_owned(), None),
    };
    let mut lines = first.to_owned();
    let (mut column, mut is_begun) = (first.chars().count(), false);
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if is_begun && column + 1 + length > COLUMNS {
            lines += "\n";
            lines += next;
            (column, is_begun) = (next.chars().count(), false);
        }
        if is_begun {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        (column, is_begun) = (column + length, true);
    }
    if let Some(command) = command {
        lines += &format!("\n{next}fencepost {command}");
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_fill_lines_and_are_never_cut() {
        let text = "µ".repeat(40) + " " + &"b".repeat(39) + " c " + &"/d".repeat(50) + " e";
        let lines = wrapped("", "  ", &text);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[0].chars().count(), 80);
        assert_eq!((lines[1], lines[3]), ("  c", "  e"));
        assert_eq!(lines[2].trim_start(), "/d".repeat(50));
        assert_eq!(wrapped("- ", "  ", ""), "- \n");
    }

    #[test]
    fn a_command_stays_whole() {
        let command = format!("fencepost check --base {}", "histories/point-1 ".repeat(9));
        let lines = wrapped("  ", "    ", &format!("it took too long; to judge again: {command}"));
        let expected = format!("  it took too long; to judge again:\n    {command}\n");
        assert_eq!(lines, expected);
    }
}
