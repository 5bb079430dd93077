//! Text from elsewhere on a terminal: names in files, answers of servers, paths, arguments. Some
//! characters could move the cursor, colour what follows or forge a line of ours. They are written
//! as escapes such as `\u{1b}`: control characters (C0, DEL and C1), the two other line ends of
//! Unicode, and invisible characters (direction marks, joiners, tags).
//!
//! All that the program prints goes through here: messages and log lines by [`message`], results in
//! text by [`lines`] or [`piped_lines`], results in JSON by [`json`]. Events that are exported to
//! standard output keep their bytes, unless that is a terminal. Uses `address`; anything may use
//! it.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use crate::address;

/// The longest message, in bytes before escaping: text from elsewhere in it may be of any length.
pub const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// A message as one line, without logins of URLs, and no longer than [`MESSAGE_BYTES_MAX`].
#[must_use]
pub fn message(text: &str) -> String {
    one_line(&address::without_logins(&shortened(text))).into_owned()
}

/// A text of more than [`MESSAGE_BYTES_MAX`] bytes without its middle.
#[must_use]
pub fn shortened(text: &str) -> Cow<'_, str> {
    const END_BYTES: usize = MESSAGE_BYTES_MAX / 4;
    if text.len() <= MESSAGE_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let boundary = |at: usize| (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let begin = boundary(MESSAGE_BYTES_MAX - END_BYTES);
    let end = boundary(text.len() - END_BYTES);
    let (first, last) = (&text[..begin], &text[end..]);
    Cow::Owned(format!("{first} … ({} bytes left out) … {last}", end - begin))
}

/// A text as one line: line ends in it are escaped too.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false, |letter, out| out.extend(letter.escape_default()))
}

/// Lines of our own layout: line feeds and tabs stay. Text from elsewhere that may hold either must
/// have been made [`OneLine`].
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    let is_layout = |letter| matches!(letter, '\n' | '\t');
    escaped(text, is_layout, |letter, out| out.extend(letter.escape_default()))
}

/// The same for a reader that is no terminal, such as a script: only control characters are
/// escaped, so that names keep all characters that they may hold.
#[must_use]
pub fn piped_lines(text: &str) -> Cow<'_, str> {
    let stays = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\t');
    escaped(text, stays, |letter, out| out.extend(letter.escape_default()))
}

/// JSON, with the escapes of JSON: the same value. Line feeds between values stay.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let is_layout = |letter| matches!(letter, '\n' | '\t' | '\r');
    escaped(text, is_layout, |letter, out| {
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// Displays a value as one line, within lines of our own layout.
pub struct OneLine<T>(pub T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&one_line(&self.0.to_string()))
    }
}

fn is_harmful(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') || is_invisible(letter)
}

/// Unicode's format characters (general category Cf) but those of scripts that show a sign.
fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'
    )
}

fn escaped(
    text: &str,
    stays: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.chars().any(|letter| is_harmful(letter) && !stays(letter)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_harmful(letter) && !stays(letter) {
            escape(letter, &mut out);
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out)
}

/// As a shell takes it back: names may hold anything but control characters.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[31mX\r\n\t\u{0}\u{7f}\u{9b}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{feff}\u{e0041}ü 日";

    #[test]
    fn every_control_character_is_escaped_and_nothing_else() {
        let escaped = concat!(
            r"a\u{1b}[31mX\r\n\t\u{0}\u{7f}\u{9b}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}",
            r"\u{200f}\u{feff}\u{e0041}ü 日"
        );
        assert_eq!(one_line(HOSTILE), escaped);
        assert_eq!(OneLine(HOSTILE).to_string(), escaped);
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        assert!(!one_line(&all).chars().any(char::is_control));
        assert!(!lines(&all).chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    }

    #[test]
    fn a_script_gets_names_as_they_are_and_no_control_character() {
        let name = "a\u{200d}\u{202e}\u{2028}ü";
        assert_eq!(piped_lines(name), name);
        assert!(!piped_lines(HOSTILE).chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    }

    #[test]
    fn what_is_ours_stays() {
        for text in ["", "Küche/日本 \u{5d0}\u{5d1}", "a\nb\tc\n"] {
            assert!(matches!(lines(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(format!("{:<6}|", OneLine("a\n")), "a\\n   |");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE] });
        for text in [value.to_string(), format!("{value:#}")] {
            let escaped = json(&text);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
            assert!(!escaped.chars().any(|c| is_harmful(c) && c != '\n'), "{escaped:?}");
        }
    }

    #[test]
    fn a_message_is_one_line_without_a_login() {
        let text = "no such file: postgres://w:hemlock@h/d\nfencepost: all is well";
        assert_eq!(message(text), r"no such file: postgres://***@h/d\nfencepost: all is well");
    }

    #[test]
    fn a_long_message_keeps_both_ends() {
        let text = format!("unknown field `{}` at line 7", "é".repeat(10_000_000));
        let message = message(&text);
        assert!(message.len() < MESSAGE_BYTES_MAX + 100);
        assert!(message.starts_with("unknown field `éé") && message.ends_with("éé` at line 7"));
        let left_out = text.len() - message.len() + " … (19991827 bytes left out) … ".len();
        assert!(message.contains(&format!(" … ({left_out} bytes left out) … ")), "{left_out}");
        assert_eq!(shortened(&text[..MESSAGE_BYTES_MAX - 1]), text[..MESSAGE_BYTES_MAX - 1]);
    }
}
