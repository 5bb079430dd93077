//! Bytes as text: lower-case hexadecimal digits.

/// `bytes` as lower-case hexadecimal digits, two for each.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// `bytes` as [`hex`] writes them, without an allocation: into `digits`, which has two for each.
///
/// # Panics
/// If `digits` has other than ASCII in what is left over.
pub fn hex_into<'d>(bytes: &[u8], digits: &'d mut [u8]) -> &'d str {
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
        pair[1] = HEX_DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(digits).expect("digits are ASCII")
}

/// The digits, by their values.
pub const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
