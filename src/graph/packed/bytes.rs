//! Numbers as bytes: unsigned LEB128, with the sign of a difference in the lowest bit.

use super::error::UnpackError;

/// Seven bits of a number in each byte, the lowest first.
const BITS: u32 = 7;
const MORE: u8 = 1 << BITS;
/// Where the last byte of a number of 64 bits is, and the most that it can be.
const LAST_BYTE: usize = 9;
const LAST_BYTE_MAX: u8 = 1;

/// Appends a number.
pub(super) fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(MORE) {
        bytes.push(number as u8 | MORE);
        number >>= BITS;
    }
    bytes.push(number as u8);
}

/// Appends `to - from`, which wraps around.
pub(super) fn push_difference(bytes: &mut Vec<u8>, from: u64, to: u64) {
    let difference = to.wrapping_sub(from) as i64;
    push_number(bytes, (difference << 1 ^ difference >> 63) as u64);
}

/// What is left of a part.
pub(super) struct Bytes<'p> {
    rest: &'p [u8],
}

impl<'p> Bytes<'p> {
    pub(super) fn of(part: &'p [u8]) -> Self {
        Self { rest: part }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads a number.
    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, UnpackError> {
        let mut number = 0;
        for (at, &byte) in self.rest.iter().enumerate() {
            if at == LAST_BYTE && byte > LAST_BYTE_MAX || at > 0 && byte == 0 {
                return Err(UnpackError::Number);
            }
            number |= u64::from(byte & !MORE) << (BITS * at as u32);
            if byte < MORE {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(UnpackError::Truncated)
    }

    /// Reads a difference; the number that is so far away from `from`.
    #[inline]
    pub(super) fn difference(&mut self, from: u64) -> Result<u64, UnpackError> {
        let number = self.number()?;
        let difference = (number >> 1) as i64 ^ -((number & 1) as i64);
        Ok(from.wrapping_add(difference as u64))
    }

    /// Reads how many things follow, each of which takes a byte at least.
    #[inline]
    pub(super) fn count(&mut self) -> Result<usize, UnpackError> {
        let count = usize::try_from(self.number()?).map_err(|_| UnpackError::Truncated)?;
        if count > self.rest.len() {
            return Err(UnpackError::Truncated);
        }
        Ok(count)
    }

    /// Reads so many bytes.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'p [u8], UnpackError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(UnpackError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(number: u64, bits in 0..64_u32, from: u64) {
            let number = number >> bits;
            let mut written = Vec::new();
            push_number(&mut written, number);
            prop_assert_eq!(written.len(), (64 - number.leading_zeros()).div_ceil(7).max(1) as usize);
            push_difference(&mut written, from, number);
            push_difference(&mut written, number.wrapping_add(3), number);
            prop_assert_eq!(written.last(), Some(&5), "-3 is short");
            let mut bytes = Bytes::of(&written);
            prop_assert_eq!(bytes.number(), Ok(number));
            prop_assert_eq!(bytes.difference(from), Ok(number));
            prop_assert_eq!(bytes.difference(number.wrapping_add(3)), Ok(number));
            prop_assert!(bytes.is_empty());
        }
    }

    #[test]
    fn a_number_has_one_form_and_an_end() {
        let number = |bytes: &[u8]| Bytes::of(bytes).number();
        let largest = [&[0xff; 9][..], &[1]].concat();
        assert_eq!(number(&largest), Ok(u64::MAX));
        assert_eq!(number(&[&[0xff; 9][..], &[2]].concat()), Err(UnpackError::Number));
        assert_eq!(number(&[&[0xff; 9][..], &[0x81, 0]].concat()), Err(UnpackError::Number));
        assert_eq!(number(&[0x80, 0]), Err(UnpackError::Number));
        assert_eq!(number(&[0]), Ok(0));
        assert_eq!(number(&[0x80]), Err(UnpackError::Truncated));
        assert_eq!(number(&[]), Err(UnpackError::Truncated));
    }

    #[test]
    fn no_more_is_counted_or_taken_than_is_there() {
        assert_eq!(Bytes::of(&[2, 7, 7]).count(), Ok(2));
        assert_eq!(Bytes::of(&[3, 7, 7]).count(), Err(UnpackError::Truncated));
        let mut bytes = Bytes::of(&[7, 8]);
        assert_eq!(bytes.take(3), Err(UnpackError::Truncated));
        assert_eq!(bytes.take(2), Ok(&[7, 8][..]));
    }
}
