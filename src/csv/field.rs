//! Ends of fields in a line, and their texts.

use std::ops::Range;

use crate::csv::number::{eight_bytes, repeated};

const QUOTE: u8 = b'"';

/// The highest bit of the first byte of a word that is 0; bits of later bytes may be set, too.
#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeated(0x01)) & !word & repeated(0x80)
}

/// The first separator, line end or quote from a position on, or the end of the text.
#[inline(always)]
fn next_sign(text: &[u8], mut at: usize, separator: u8) -> usize {
    while at < text.len() {
        let word = eight_bytes(text, at);
        let signs = zero_bytes(word ^ repeated(separator))
            | zero_bytes(word ^ repeated(b'\n'))
            | zero_bytes(word ^ repeated(QUOTE));
        if signs != 0 {
            return text.len().min(at + (signs.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    text.len()
}

/// The value that begins at a position, without quotes around it, and where its field ends.
///
/// None if quotes are within the value, or a line ends in it.
#[inline(always)]
pub fn value(text: &[u8], at: usize, separator: u8) -> Option<(Range<usize>, usize)> {
    if text.get(at) == Some(&QUOTE) {
        return quoted(text, at + 1);
    }
    let end = next_sign(text, at, separator);
    match text.get(end) {
        Some(&QUOTE) => None,
        Some(b'\n') if end > at && text[end - 1] == b'\r' => Some((at..end - 1, end - 1)),
        _ => Some((at..end, end)),
    }
}

fn quoted(text: &[u8], start: usize) -> Option<(Range<usize>, usize)> {
    let rest = text.get(start..)?;
    let length = rest.iter().position(|byte| matches!(*byte, QUOTE | b'\n' | b'\r'))?;
    let end = start + length;
    (rest[length] == QUOTE).then_some((start..end, end + 1))
}

/// Where the next line begins, if this one ends at a position.
#[inline(always)]
pub fn next_line(text: &[u8], at: usize) -> Option<usize> {
    match (text.get(at), text.get(at + 1)) {
        (None, _) => Some(at),
        (Some(b'\n'), _) => Some(at + 1),
        (Some(b'\r'), Some(b'\n')) => Some(at + 2),
        _ => None,
    }
}

/// Whether a value is text that everybody reads alike: ASCII without blanks around it, or nothing.
#[inline(always)]
pub fn is_plain(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| byte.is_some_and(|byte| *byte <= b' ');
    !is_blank(value.first()) && !is_blank(value.last()) && value.is_ascii() && !value.contains(&b'\r')
}
